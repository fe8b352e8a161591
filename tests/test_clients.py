"""Pages of one kernel that live in this process: what each gets, however long it was away, and what that costs the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_dsvm.kernels import clients
from jupyter_dsvm.kernels.messages import Signer
from jupyter_dsvm.relay.wire import Channel
from support.kernels import Notebook, until
from support.pages import Page, reading

COUNT = "import time\nfor n in range({n}): print(n, flush=True)\n"


@pytest.fixture
def page(notebook: Notebook) -> Page:
    return Page(notebook.proxy)


def numbers(n: int) -> str:
    return "".join(f"{i}\n" for i in range(n))


def streams(page: Page, msg_id: str, name: str = "stdout") -> str:
    contents = [m["content"] for m in page.of(msg_id).published if m["msg_type"] == "stream"]
    return "".join(c["text"] for c in contents if c["name"] == name)


# Who gets what


def test_pages_and_zeromq_clients_side_by_side(notebook: Notebook, page: Page) -> None:
    other = Page(notebook.proxy)
    mine, theirs = page.cell("print('from a page')"), other.cell("print('from the other')")
    zmq = notebook.send("print('over zmq')")
    for each in (page, other):
        each.until(lambda each=each: all("idle" in each.of(i).states for i in (mine, theirs, zmq)))
        assert [each.of(i).text for i in (mine, theirs, zmq)] == ["from a page\n", "from the other\n", "over zmq\n"]
        assert len(each.ids) == len(set(each.ids))
        assert "iopub_welcome" not in {m["msg_type"] for _c, m in each.messages}
    notebook.wait(zmq)
    notebook.until(lambda: all("idle" in notebook.of(i).states for i in (mine, theirs)))
    page.wait(mine)
    other.wait(theirs)
    # Replies go to whom they are for.
    assert [len(p.of(i).replies) for p in (page, other, notebook) for i in (mine, theirs, zmq)] == [
        1,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
    ]
    assert len({m["header"]["session"] for _c, m in page.messages}) == 1


def test_a_pages_requests_on_every_channel(notebook: Notebook, page: Page) -> None:
    info = page.send("kernel_info_request", {}, "control")
    assert page.wait(info)[0].content["language_info"]["name"] == "python"
    completion = page.send("complete_request", {"code": "impor", "cursor_pos": 5})
    assert "import" in page.wait(completion)[0].content["matches"]
    cell = page.cell("print(input('name? '))", allow_stdin=True)
    page.until(lambda: page.requests_for_input)
    assert page.requests_for_input[0]["content"]["prompt"] == "name? "
    page.send("input_reply", {"value": "Ada"}, "stdin")
    assert page.wait(cell)[0].text == "Ada\n"


def test_it_is_woken_once_for_all_it_has_not_taken(notebook: Notebook, page: Page) -> None:
    woken: list[str] = []
    page.connection.wake = lambda: woken.append(threading.current_thread().name)
    page.read()
    notebook.run("for n in range(50): display(n)")
    assert woken == ["jupyter-dsvm-io"]
    assert page.read() > 50
    notebook.run("1")
    assert len(woken) == 2


# Away and back


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_page_that_comes_back_gets_exactly_the_rest(notebook: Notebook, page: Page, confirmed: bool) -> None:
    with notebook.another_client() as watcher:
        cell = page.cell(COUNT.format(n=3000))
        page.until(lambda: page.of(cell).text)
        page.read(confirm=confirmed)
        before = len(page.ids)
        page.connection.disconnect()
        assert page.read() == 0
        watcher.until(lambda: "idle" in watcher.of(cell).states)
        page.connect()
        page.until(lambda: page.of(cell).over)
        watcher.receive(0)
        twice = len(page.ids) - len(set(page.ids))
        assert (twice == 0) if confirmed else (twice <= before)
        once = list(dict.fromkeys(page.ids))
        everything = [m["header"]["msg_id"] for m in watcher.messages if m["parent_header"].get("msg_id") == cell]
        assert [i for i in once if i in set(everything)] == everything
    if confirmed:
        assert page.of(cell).text == numbers(3000)


def test_coming_back_ends_an_older_connection(notebook: Notebook, page: Page) -> None:
    older = page.connection
    page.connect()
    assert older.over
    assert older.take(1000) == []
    older.disconnect()
    older.close()
    assert page.run("print('here')").text == "here\n"


def test_a_reply_waits_for_a_page_that_is_away(notebook: Notebook, page: Page) -> None:
    cell = page.cell("1 + 1")
    page.connection.disconnect()
    notebook.until(lambda: "idle" in notebook.of(cell).states)
    failing, never = page.cell("1/0"), page.cell("2")
    assert page.connection.over
    page.connect()
    assert page.wait(cell)[0].status == "ok"
    assert page.of(failing).published == [], "what a closed connection sends goes nowhere"
    assert page.run("print('again')").text == "again\n"
    assert not page.of(never).replies


def test_input_waits_for_a_page_that_is_away(notebook: Notebook, page: Page) -> None:
    cell = page.cell("import time; time.sleep(0.3); print(input('name? '))", allow_stdin=True)
    notebook.until(lambda: "busy" in notebook.of(cell).states)
    page.connection.disconnect()
    time.sleep(0.6)
    page.connect()
    page.until(lambda: page.requests_for_input)
    page.send("input_reply", {"value": "Ada"}, "stdin", parent=page.requests_for_input[0])
    assert page.wait(cell)[0].text == "Ada\n"


def test_a_page_away_during_a_restart_and_a_move(notebook: Notebook, page: Page) -> None:
    here = page.cell("print('here')")
    page.wait(here)
    sleeping = page.cell("print('asleep', flush=True); import time; time.sleep(30)")
    page.until(lambda: page.of(sleeping).text)
    page.connection.disconnect()
    notebook.km.restart_kernel()
    notebook.move()
    there = notebook.run("print('there')")
    page.connect()
    page.wait(sleeping)
    assert page.of(sleeping).status in ("aborted", "error")
    contents = [m["content"] for _c, m in page.messages if m["msg_type"] == "stream"]
    assert [c["text"] for c in contents if c["name"] == "stdout"] == ["here\n", "asleep\n", there.text]
    assert len(page.ids) == len(set(page.ids))
    assert page.run("print(1)").count == 2
    assert len({m["header"]["session"] for _c, m in page.messages}) == 1


def test_pages_that_do_not_come_back_are_forgotten(
    notebook: Notebook, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    notebook.proxy.clients.on_forgotten = forgotten.append
    pages = [page, *(Page(notebook.proxy) for _ in range(clients.MAX_PARKED))]
    for each in pages:
        each.connection.disconnect()
    until(lambda: forgotten)
    assert forgotten == [page.name]
    assert set(notebook.proxy.clients.sessions()) == {each.name for each in pages[1:]}
    pages[1].connect()
    monkeypatch.setattr(clients, "PARKED_FOR", -1.0)
    last = Page(notebook.proxy)
    last.connection.disconnect()
    until(lambda: len(forgotten) == clients.MAX_PARKED + 1)
    assert set(notebook.proxy.clients.sessions()) == {pages[1].name}
    pages[1].connection.close()
    until(lambda: not notebook.proxy.clients.sessions())
    until(lambda: forgotten[-1] == pages[1].name)


def test_the_end_of_the_kernel_is_the_end_of_the_connection(notebook: Notebook, page: Page) -> None:
    page.run("1")
    page.woken.clear()
    notebook.km.shutdown_kernel(now=True)
    assert page.woken.is_set()
    assert page.connection.over
    page.cell("1")
    page.connection.disconnect()
    page.connect()
    assert page.connection.over


# Who does not read


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MEMORY", 200_000)
    monkeypatch.setattr(clients, "SPOOL_LIMIT", 3_000_000)
    monkeypatch.setattr(clients, "SPOOL_LIMIT_ALONE", 3_000_000)


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None):
    """A kernel whose clients have little room."""
    small(monkeypatch)
    with Notebook() as opened:
        yield opened


FLOOD = "import time\nfor n in range({n}): display({{'text/plain': f'{{n:50000}}'}}, raw=True); time.sleep({pause})"


def shown(page: Page, msg_id: str) -> list[int]:
    return [int(m["content"]["data"]["text/plain"]) for m in page.of(msg_id).outputs("display_data")]


def test_a_page_that_does_not_read_does_not_hold_up_another(tight: Notebook) -> None:
    reader, stalled = Page(tight.proxy), Page(tight.proxy)
    with reading(reader):
        cell = reader.cell(FLOOD.format(n=200, pause=0.01))
        until(lambda: reader.of(cell).over)
    assert shown(reader, cell) == list(range(200))
    until(lambda: stalled.connection.over)
    assert stalled.read() == 0
    # It is told so in the cell that runs when it comes back.
    running = reader.cell("print('on', flush=True); input()", allow_stdin=True)
    reader.until(lambda: reader.of(running).text)
    stalled.connect()
    stalled.until(lambda: streams(stalled, running, "stderr"))
    assert "messages were left out" in streams(stalled, running, "stderr")
    assert "left out" not in streams(reader, running, "stderr")
    reader.until(lambda: reader.requests_for_input)
    reader.send("input_reply", {"value": ""}, "stdin")
    reader.wait(running)
    assert stalled.run("print('again')").text == "again\n"


@pytest.mark.parametrize("away", [True, False])
def test_where_nobody_reads_a_local_kernel_goes_on_and_the_cell_says_what_it_left_out(
    tight: Notebook, away: bool
) -> None:
    page = Page(tight.proxy)
    cell = page.cell(FLOOD.format(n=400, pause=0))
    if away:
        page.connection.disconnect()
    tight.until(lambda: "idle" in tight.of(cell).states)
    outbox = tight.proxy.clients._outbox
    assert outbox.memory <= 200_000
    assert outbox.spooled <= 3_000_000 + 60_000
    if away:
        page.connect()
    (execution,) = page.wait(cell)
    assert execution.status == "ok"
    there = shown(page, cell)
    assert there == list(range(len(there)))
    assert 20 < len(there) < 400
    assert f"[{400 - len(there)} outputs (" in streams(page, cell, "stderr")
    assert execution.published[-1]["content"] == {"execution_state": "idle"}
    assert page.run("print('again')").text == "again\n"


def test_what_is_confirmed_takes_no_room(tight: Notebook) -> None:
    page = Page(tight.proxy)
    with reading(page):
        cell = page.cell(FLOOD.format(n=100, pause=0.01))
        until(lambda: page.of(cell).over)
    outbox = tight.proxy.clients._outbox
    assert (outbox.memory, outbox.spooled) == (0, 0)
    assert "left out" not in streams(page, cell, "stderr")


def test_what_comes_once_a_page_is_back_is_not_counted_as_missed(tmp_path: Path) -> None:
    """The I/O thread, which tells it, may be late."""
    due: list[Callable[[], None]] = []
    io: Any = SimpleNamespace(call_soon=lambda f, *args: due.append(partial(f, *args)))
    events: Any = SimpleNamespace(running=lambda: None, handed_on=lambda source, number: None)
    signer = Signer(b"key", "front", "hmac-sha256", "kernel")
    those = clients.Clients(io, signer, events, tmp_path)

    def say(text: str) -> None:
        those.deliver([(Channel.IOPUB, signer.published("stream", {"name": "stdout", "text": text}, None))])

    those.connect("page", lambda: None)
    say("before")
    those._give_up(["page"])
    say("meanwhile")
    back = those.connect("page", lambda: None)
    say("after")
    while due:
        due.pop(0)()
    after, told = (outgoing.parts[5] for outgoing in back.take(1_000_000))
    assert b"after" in after
    assert b"[2 messages were left out" in told
    those.close()
