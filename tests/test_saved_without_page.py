"""What cells put out while no page is there gets into their notebook's file: real servers, kernels here and on a machine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from jupyter_dsvm.outputsaver import GRACE_SECONDS, LOOK_SECONDS, OPENING_SECONDS
from support.kernels import until
from support.restarted import COMPUTE, Place, attach, where
from support.served import JupyterServer
from support.watcher import Watcher, rows

__all__ = ["where"]

pytestmark = pytest.mark.timeout(300)

PATIENCE = GRACE_SECONDS + OPENING_SECONDS + 30.0
SETTLED = GRACE_SECONDS + 3 * LOOK_SECONDS
"""Seconds after which what is going to be written is."""
COLLABORATION = Path(__file__).parents[1] / ".stamps" / "collaboration"

SHOWS = """
import sys, time
from IPython.display import display, HTML
for i in range(20):
    sys.stderr.write(f"\\r{i}/19"); sys.stderr.flush(); time.sleep(0.02)
print("üñ😀\\n" * 3, end="")
display(HTML("<b>bold</b>"), {"image/png": "iVBORw0KGgo="}, raw=False)
{"a": 1}
"""
CELLS = {
    "shows": SHOWS,
    "slow": "import time; time.sleep(2); print('slept')",
    "fails": "1 / 0",
    "never": "print('never')",
}


@pytest.fixture
def server(where: Place, request: pytest.FixtureRequest) -> Iterator[JupyterServer]:
    with where.lasting(request.node.name) as made:
        yield made


def notebook(cells: dict[str, str]) -> dict[str, Any]:
    made: list[dict[str, Any]] = [{"cell_type": "markdown", "id": "head", "metadata": {}, "source": "# Ünï\n\ntext"}]
    made += [
        {"cell_type": "code", "id": i, "source": s, "metadata": {"tags": [i]}, "outputs": [], "execution_count": None}
        for i, s in cells.items()
    ]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}


def save(server: JupyterServer, path: str, content: dict[str, Any]) -> None:
    """As a page does it."""
    server.rest("PUT", f"api/contents/{path}", {"type": "notebook", "format": "json", "content": content})


def opened(server: JupyterServer, path: str, cells: dict[str, str]) -> str:
    """The kernel of a notebook that a page has just made."""
    save(server, path, notebook(cells))
    kernel_id: str = server.open(path)["kernel"]["id"]
    return kernel_id


def on_disk(server: JupyterServer, path: str) -> dict[str, Any]:
    """Its code cells, by id."""
    read = json.loads((server.root / path).read_text())
    return {c["id"]: c for c in read["cells"] if c["cell_type"] == "code"}


def text(server: JupyterServer, path: str, cell: str) -> str:
    return "".join(line for o in on_disk(server, path)[cell]["outputs"] for line in o.get("text", []))


def has(server: JupyterServer, path: str, cell: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return bool(on_disk(server, path)[cell]["outputs"])
        except ValueError:  # the contents manager writes it just now
            return False

    return look


def trusted(where: Place, file: Path) -> bool:
    """As the server of that place sees it."""
    with NotebookNotary(data_dir=str(where.data)) as notary:
        return bool(notary.check_signature(nbformat.read(file, 4)))


def leave(server: JupyterServer, kernel_id: str, cells: dict[str, str]) -> None:
    """A page that runs cells and is closed before they have ended."""
    with Watcher(server, kernel_id) as tab:
        assert tab.run("1").status == "ok"
        runs = [tab.run_cell(cell, source) for cell, source in cells.items()]
        tab.until(lambda: tab.of(runs[0]).published)


def test_the_file_is_as_a_page_would_have_saved_it(where: Place, server: JupyterServer) -> None:
    """Byte for byte; and nothing of it is trusted, though what was there before was."""
    alone = opened(server, "alone.ipynb", CELLS)
    assert trusted(where, server.root / "alone.ipynb")
    leave(server, alone, CELLS)
    watched = opened(server, "watched.ipynb", CELLS)
    with Watcher(server, watched) as tab:
        assert tab.run("1").status == "ok"
        runs = [tab.run_cell(cell, source) for cell, source in CELLS.items()]
        tab.wait(*runs, timeout=PATIENCE)
        until(has(server, "alone.ipynb", "fails"), PATIENCE)
        assert not any(c["outputs"] for c in on_disk(server, "watched.ipynb").values())
        content = notebook(CELLS)
        for cell in content["cells"][1:]:
            cell["outputs"] = tab.notebook[cell["id"]]
            cell["execution_count"] = tab.page.cells[cell["id"]].count
        save(server, "watched.ipynb", content)
    mine, theirs = ((server.root / f"{name}.ipynb").read_bytes() for name in ("alone", "watched"))
    assert stable(mine) == stable(theirs)
    assert on_disk(server, "alone.ipynb")["fails"]["execution_count"] == 4
    assert not trusted(where, server.root / "alone.ipynb")
    again = server.rest("GET", "api/contents/alone.ipynb")["content"]["cells"]
    assert [c["metadata"]["trusted"] for c in again[1:]] == [False] * 4


def stable(written: bytes) -> list[bytes]:
    """Tracebacks name the request's number in a file name of ipykernel's."""
    return [line for line in written.splitlines() if b"ipykernel" not in line]


def test_text_alone_is_not_trusted_either(where: Place, server: JupyterServer) -> None:
    """Jupyter signs such a notebook whoever saves it; this one was not looked at by anybody."""
    cells = {"a": "import time; time.sleep(1); print('text')"}
    leave(server, opened(server, "text.ipynb", cells), cells)
    until(has(server, "text.ipynb", "a"), PATIENCE)
    time.sleep(0.5)
    assert not trusted(where, server.root / "text.ipynb")


def test_what_is_newer_in_the_file_stays(server: JupyterServer) -> None:
    cells = {"a": "print('a')", "b": "print('b')", "c": "print('c')"}
    cleared = opened(server, "cleared.ipynb", cells)
    with Watcher(server, cleared) as tab:
        tab.wait(*(tab.run_cell(cell, source) for cell, source in cells.items()), timeout=PATIENCE)
        until(lambda: rows(server, cleared)["c"]["state"] == "done")
        save(server, "cleared.ipynb", notebook({**cells, "c": "print('edited')"}))  # with no outputs
    edited = opened(server, "edited.ipynb", cells)
    leave(server, edited, {"a": "import time; time.sleep(1); print('a')", "b": cells["b"]})
    # It moves while the cells run, and somebody reads it: the page that opens it may be on its way.
    renamed = opened(server, "old.ipynb", {"a": "import time; time.sleep(3); print('a')"})
    leave(server, renamed, {"a": "import time; time.sleep(3); print('a')"})
    server.rest("PATCH", "api/contents/old.ipynb", {"path": "new.ipynb"})
    session = next(s for s in server.rest("GET", "api/sessions") if s["kernel"]["id"] == renamed)
    body = {"path": "new.ipynb", "name": "new.ipynb", "type": "notebook"}
    server.rest("PATCH", f"api/sessions/{session['id']}", body)
    # A file browser without the notebook open does not tell the session.
    server.rest("PUT", "api/contents/folder", {"type": "directory"})
    moved = opened(server, "folder/moved.ipynb", cells)
    leave(server, moved, cells)
    server.rest("PATCH", "api/contents/folder/moved.ipynb", {"path": "folder/there.ipynb"})
    server.rest("PATCH", "api/contents/folder", {"path": "elsewhere"})
    read = opened(server, "read.ipynb", cells)
    leave(server, read, cells)
    time.sleep(SETTLED - 1)
    server.rest("GET", "api/contents/cleared.ipynb?content=0")
    until(has(server, "edited.ipynb", "b"), PATIENCE)
    until(has(server, "new.ipynb", "a"), PATIENCE)
    until(has(server, "elsewhere/there.ipynb", "a"), PATIENCE)
    assert not (server.root / "old.ipynb").exists()
    assert on_disk(server, "edited.ipynb")["a"]["outputs"] == []
    assert all(c["outputs"] == [] for c in on_disk(server, "cleared.ipynb").values())
    # Once more, and it is newer again.
    leave(server, cleared, {"a": cells["a"]})
    until(has(server, "cleared.ipynb", "a"), PATIENCE)
    assert on_disk(server, "cleared.ipynb")["b"]["outputs"] == []


def test_not_while_a_page_may_have_it_open(server: JupyterServer) -> None:
    cells = {"a": "import time; time.sleep(1); print('a')"}
    stays, read = (opened(server, f"{name}.ipynb", cells) for name in ("stays", "read"))
    leave(server, read, cells)
    until(lambda: rows(server, read)["a"]["state"] == "done", PATIENCE)
    server.rest("GET", "api/contents/read.ipynb")
    began = time.monotonic()
    with Watcher(server, stays) as tab:
        leave(server, stays, cells)
        time.sleep(SETTLED)
        assert rows(server, stays)["a"]["state"] == "done"
        assert not has(server, "stays.ipynb", "a")()
        assert not has(server, "read.ipynb", "a")()
        assert tab.connected
    until(has(server, "stays.ipynb", "a"), PATIENCE)
    until(has(server, "read.ipynb", "a"), PATIENCE)
    assert time.monotonic() - began >= OPENING_SECONDS - 1


def test_what_cannot_be_written_is_left_alone(server: JupyterServer) -> None:
    cells = {"a": "import time; time.sleep(1); print('a')"}
    names = ("readonly", "deleted", "invalid", "broken", "fine")
    for name in names:
        leave(server, opened(server, f"{name}.ipynb", cells), cells)
    read_only, invalid, broken = (server.root / f"{name}.ipynb" for name in ("readonly", "invalid", "broken"))
    (server.root / "deleted.ipynb").unlink()
    wrong = notebook(cells)
    wrong["cells"][1]["outputs"] = [{"output_type": "nonsense"}]
    invalid.write_text(json.dumps(wrong))
    broken.write_text("{")
    if os.getuid():
        read_only.chmod(0o444)
    left = {path: path.read_bytes() for path in (read_only, invalid, broken)}
    until(has(server, "fine.ipynb", "a"), PATIENCE)
    time.sleep(2 * LOOK_SECONDS)
    said = [line for line in server.log.read_text().splitlines() if "while no page was open is not saved" in line]
    for name, why in {"deleted": "No such file", "invalid": "no valid notebook", "broken": "Unreadable"}.items():
        (line,) = [line for line in said if f"{name}.ipynb" in line]
        assert why in line
    assert (invalid.read_bytes(), broken.read_bytes()) == (left[invalid], left[broken])
    if os.getuid():
        assert read_only.read_bytes() == left[read_only]
    assert "Traceback" not in "\n".join(said)


def test_a_disk_that_is_full_costs_nothing_of_what_is_on_it(server: JupyterServer) -> None:
    cells = {"a": "import time; time.sleep(1); print('a' * 200_000)", "b": "print('b')"}
    small = server.root / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "small", small], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs: {mounted.stderr}")
    try:
        full, fine = (opened(server, path, cells) for path in ("small/full.ipynb", "fine.ipynb"))
        before = (small / "full.ipynb").read_bytes()
        for kernel_id in (full, fine):
            leave(server, kernel_id, cells)
        until(has(server, "fine.ipynb", "b"), PATIENCE)
        until(lambda: "is not saved" in server.log.read_text(), PATIENCE)
        (line,) = (
            line for line in server.log.read_text().splitlines() if "while no page was open is not saved" in line
        )
        assert "small/full.ipynb" in line
        assert "No space left on device" in line
        assert {file.name: file.read_bytes() for file in small.iterdir() if file.is_file()} == {"full.ipynb": before}
        assert rows(server, full)["b"]["outputs"], "whoever opens it has them all the same"
        server.end_kernels()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)  # the kernel that works there is still ending


def test_files_that_are_no_files(where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contents manager of somebody else's: an object store, a database."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    config = where.config / "jupyter_server_config.json"
    cells = {"a": "import time; time.sleep(1); print('a')", "b": "1 / 0"}
    with where.server("elsewhere") as server:
        server.stop()
        kept = config.read_text()
        values = json.loads(kept)
        values["ServerApp"]["contents_manager_class"] = "support.memorycontents.MemoryContents"
        config.write_text(json.dumps(values))
        try:
            server.start()

            def outputs() -> list[list[Any]]:
                read = server.rest("GET", "api/contents/store.ipynb")["content"]["cells"]
                return [cell["outputs"] for cell in read[1:]]

            kernel_id = opened(server, "store.ipynb", cells)
            leave(server, kernel_id, cells)
            until(lambda: all(outputs()), PATIENCE)
            (printed,), (failed,) = outputs()
            assert (printed["text"], failed["ename"]) == ("a\n", "ZeroDivisionError")
            assert not any(server.root.iterdir())
            with Watcher(server, kernel_id) as tab:  # somebody is back, clears all outputs, saves, and goes
                save(server, "store.ipynb", notebook(cells))
                assert tab.run("1").status == "ok"
            time.sleep(SETTLED)
            assert outputs() == [[], []]
            server.end_kernels()
            server.stop()
        finally:
            config.write_text(kept)


def test_a_server_that_stops_writes_what_its_kernels_take_with_them(where: Place, server: JupyterServer) -> None:
    slow = "import time\nprint('begun', flush=True); time.sleep(600)"
    here = opened(server, "here.ipynb", {"a": "print('a')", "b": slow, "c": "print('c')"})
    there = opened(server, "there.ipynb", {"a": "print('a')", "b": slow})
    attach(server, there, COMPUTE)
    for kernel_id, name in ((here, "here"), (there, "there")):
        leave(server, kernel_id, {"a": "print('a')", "b": slow, **({"c": "print('c')"} if name == "here" else {})})
    for kernel_id in (here, there):
        until(lambda k=kernel_id: rows(server, k)["b"]["outputs"], PATIENCE)
    server.stop()
    assert [text(server, "here.ipynb", cell) for cell in "abc"] == ["a\n", "begun\n", ""]
    assert [text(server, "there.ipynb", cell) for cell in "ab"] == ["a\n", ""]


def test_killed_while_the_cell_runs_on_its_machine(where: Place, server: JupyterServer, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)\nprint('went')"
    kernel_id = opened(server, "killed.ipynb", {"a": "print('a')", "b": waits})
    attach(server, kernel_id)
    leave(server, kernel_id, {"a": "print('a')", "b": waits})
    server.kill()
    server.start()
    until(has(server, "killed.ipynb", "a"), PATIENCE)
    assert on_disk(server, "killed.ipynb")["b"]["outputs"] == []

    def states() -> list[Any]:
        files = server.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/saved")["files"]
        return next((f["states"] for f in files if f["path"] == "killed.ipynb"), [])

    until(lambda: len(states()) == 2)
    server.kill()
    go.touch()
    server.start()
    until(has(server, "killed.ipynb", "b"), PATIENCE)
    assert text(server, "killed.ipynb", "b") == "went\n"
    until(lambda: len(states()) == 3)
    now = server.rest("GET", "api/contents/killed.ipynb?content=0&hash=1")
    assert states()[-1] == {"last_modified": now["last_modified"], "hash": now["hash"]}


def test_turned_off(where: Place) -> None:
    settings = {"compute_providers": ["free", "hosts"], "save_outputs_without_page": False}
    where.configure(DSVMService=settings)
    try:
        with where.server("off") as server:
            leave(server, opened(server, "off.ipynb", {"a": "print('a')"}), {"a": "print('a')"})
            time.sleep(SETTLED)
            assert not has(server, "off.ipynb", "a")()
            server.stop()
            assert not has(server, "off.ipynb", "a")()
    finally:
        where.configure()


@pytest.mark.skipif(not (COLLABORATION / "done").exists(), reason="jupyter-collaboration is not installed")
def test_a_live_room_keeps_it_away(where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(COLLABORATION))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(COLLABORATION / "etc" / "jupyter"))
    config = where.config / "jupyter_server_config.json"
    cells = {"a": "import time; time.sleep(1); print('a')"}
    with where.server("rooms") as server:
        server.stop()
        values = json.loads(config.read_text())
        values["YDocExtension"] = {"document_cleanup_delay": 2}
        config.write_text(json.dumps(values))
        server.start()
        kernel_id = opened(server, "shared.ipynb", cells)
        body = {"format": "json", "type": "notebook"}
        answer = server.rest("PUT", "api/collaboration/session/shared.ipynb", body)
        room = f"json:notebook:{answer['fileId']}"
        document = server.websocket(f"api/collaboration/room/{room}?sessionId={answer['sessionId']}")
        try:
            leave(server, kernel_id, cells)
            until(lambda: rows(server, kernel_id)["a"]["state"] == "done", PATIENCE)
            time.sleep(SETTLED)
            assert not has(server, "shared.ipynb", "a")()
        finally:
            document.close()
        until(has(server, "shared.ipynb", "a"), PATIENCE)
