"""What waits for pages on the server's disk, where that disk fails: what a page gets is in order, and it is told of the rest."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.kernels import clients
from jupyter_dsvm.relay import journal
from support.kernels import Execution, Notebook, until
from support.pages import Page
from support.sshd import fill, small_disk

SIZE = 50_000
FLOOD = f"for n in range({{n}}): display({{{{'text/plain': f'{{{{n:{SIZE}}}}}'}}}}, raw=True)"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory, so that a few megabytes go to disk; a disk that failed is tried again at once."""
    monkeypatch.setattr(clients, "MEMORY", 200_000)
    monkeypatch.setattr(clients, "SPOOL_MEMORY", 200_000)
    monkeypatch.setattr(clients, "SPOOL_MEMORY_ALONE", 2_000_000)
    monkeypatch.setattr(journal, "BLOCK", 200_000)
    monkeypatch.setattr(journal, "RETRY", 0.0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The kernels' folders are on a disk of 20 MB."""
    folder = Path(tempfile.mkdtemp())
    with small_disk(folder, 20_000):
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
        yield folder
    folder.rmdir()


def shown(execution: Execution) -> list[int]:
    return [int(m["content"]["data"]["text/plain"]) for m in execution.outputs("display_data")]


def told(execution: Execution) -> str:
    """What the cell says of what was left out."""
    streams = [m["content"] for m in execution.outputs("stream")]
    return "".join(s["text"] for s in streams if s["name"] == "stderr")


def flooded(notebook: Notebook, page: Page, n: int) -> str:
    """A cell that has ended and said so much, of which the page has taken nothing."""
    cell = page.cell(FLOOD.format(n=n))
    notebook.until(lambda: "idle" in notebook.of(cell).states)
    return cell


def test_a_full_disk(disk: Path, dsvm_provisioner: None) -> None:
    """What comes first is kept, in memory; the cell says how much of the rest was left out, and it has its reply."""
    with Notebook() as notebook:
        page = Page(notebook.proxy)
        assert disk in notebook.proxy.folder.parents
        fill(disk / "full")
        cell = flooded(notebook, page, 200)
        (done,) = page.wait(cell)
        there = shown(done)
        assert there == list(range(len(there)))
        assert 20 < len(there) < 100
        assert f"[{200 - len(there)} outputs (" in told(done)
        assert done.status == "ok"
        assert done.states == ["busy", "idle"]
        # Room again, and as before.
        (disk / "full").unlink()
        (again,) = page.wait(flooded(notebook, page, 200))
        assert (shown(again), told(again)) == (list(range(200)), "")


def test_the_folder_is_removed(notebook: Notebook) -> None:
    """What is on disk stays readable; what comes then stays in memory, as far as there is room, and beyond it is told."""
    page = Page(notebook.proxy)
    before = flooded(notebook, page, 100)
    assert notebook.proxy.clients._spool.on_disk > 4_000_000
    for left_by_the_disk in notebook.proxy.folder.glob("journal-*"):
        pytest.fail(f"{left_by_the_disk} has a name")
    shutil.rmtree(notebook.proxy.folder)
    after = flooded(notebook, page, 400)
    first, second = page.wait(before, after)
    assert (shown(first), told(first)) == (list(range(100)), "")
    assert [e.status for e in (first, second)] == ["ok", "ok"]
    there = shown(second)
    assert there == list(range(len(there)))
    assert len(there) == 400 or f"[{400 - len(there)} outputs (" in told(second)


def test_a_disk_that_does_not_give_back_what_it_took(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page gets what comes before; then its websocket ends, and when it is back it is told how much is missing, and why."""
    page = Page(notebook.proxy)
    cell = flooded(notebook, page, 100)
    assert notebook.proxy.clients._spool.on_disk
    with monkeypatch.context() as broken:

        def pread(fd: int, length: int, offset: int) -> bytes:
            raise OSError(5, os.strerror(5))

        broken.setattr(os, "pread", pread)
        page.read()
        assert page.connection.over, "so that the page connects anew"
    got = len(page.messages)
    there = shown(page.of(cell))
    assert there == list(range(len(there)))
    page.connect()
    page.until(lambda: [m for _c, m in page.messages[got:] if m["msg_type"] == "stream"])
    (said,) = [m["content"]["text"] for _c, m in page.messages[got:] if m["msg_type"] == "stream"]
    missed = re.search(r"\[(\d+) messages were left out: the disk of the notebook's server did not", said)
    assert missed, said
    everything = [m for m in notebook.messages if m["parent_header"].get("msg_id") == cell]
    assert int(missed[1]) == len(everything) + 1 - got, "with the reply"
    assert page.run("print('on')").text == "on\n"
    until(lambda: notebook.proxy.clients._outbox.spooled == 0)
