"""The browser's path, end to end: everything arrives, once and in order, whatever the browser and its connection do meanwhile.

A real Jupyter server as a process of its own, kernels on it and on a machine behind a real SSH server, and websockets as
browsers open them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kernels import until
from support.lab_pc import NAME, lab_pc
from support.served import JupyterServer
from support.tab import Tab

PATIENCE = 120.0
"""Seconds for what takes ten or fewer on an idle computer."""

MB = 1024 * 1024

HERE, THERE = "here", "on the VM"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One for all tests of the module, with one machine to run on, which a kernel has been on: what the server keeps of that for as
    long as it runs is there before the first test."""
    folder = tmp_path_factory.mktemp("browser")
    with (
        pytest.MonkeyPatch.context() as patch,
        lab_pc(folder, patch),
        JupyterServer(folder / "notebooks", folder / "config") as running,
    ):
        with kernel(running, THERE):
            pass
        yield running


@contextlib.contextmanager
def kernel(server: JupyterServer, where: str) -> Iterator[str]:
    """A notebook's kernel, ended afterwards; its id."""
    session = server.open("flood.ipynb")
    kernel_id = session["kernel"]["id"]
    try:
        if where == THERE:
            begun = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": f"host:{NAME}"}, 202)
            operation, _ = server.operation(begun["id"])
            assert operation["state"] == "done", operation
        yield kernel_id
    finally:
        server.rest("DELETE", f"api/sessions/{session['id']}", status=204)


@pytest.fixture(params=[HERE, THERE])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kernel_id(server: JupyterServer, where: str) -> Iterator[str]:
    with kernel(server, where) as opened:
        yield opened


@pytest.fixture
def there(server: JupyterServer) -> Iterator[str]:
    with kernel(server, THERE) as opened:
        yield opened


def counting(n: int, size: int = 0, pause: float = 0.0) -> str:
    """A cell that displays 0 to n-1, each with so many characters behind it."""
    return "\n".join(
        (
            "import time",
            f"for i in range({n}):",
            f"    display(Text(i, {size}))",
            f"    time.sleep({pause})" if pause else "",
        )
    )


PREPARE = """
class Text:
    def __init__(self, number, size):
        self.text = f"{number} " + "x" * size if size else str(number)
    def __repr__(self):
        return self.text
"""


def numbers(tab: Tab, msg_id: str) -> list[int]:
    return [int(text.split(" ")[0]) for text in tab.displayed(msg_id)]


def resident(pid: int) -> int:
    """Bytes of memory that the process holds."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_twenty_thousand_small_outputs(server: JupyterServer, kernel_id: str):
    with Tab(server, kernel_id) as tab:
        tab.run(PREPARE)
        cell = tab.send(counting(20_000))
        (done,) = tab.wait(cell, timeout=PATIENCE)
        assert (done.status, done.states) == ("ok", ["busy", "idle"])
        assert numbers(tab, cell) == list(range(20_000))
        assert tab.repeated == 0


def test_large_outputs(server: JupyterServer, kernel_id: str):
    with Tab(server, kernel_id) as tab:
        tab.run(PREPARE)
        (one,) = tab.wait(tab.send(counting(1, 100 * MB)), timeout=PATIENCE)
        assert [m["content"]["length"] for m in one.outputs("display_data")] == [100 * MB + 2]
        cell = tab.send(counting(100, MB))
        (many,) = tab.wait(cell, timeout=PATIENCE)
        assert numbers(tab, cell) == list(range(100))
        assert sum(m["content"]["length"] for m in many.outputs("display_data")) == 100 * MB + 190 + 100
        assert many.status == "ok"


FLOOD = """
import time
try:
    for i in range(10_000_000):
        display(i)
except KeyboardInterrupt:
    open({path!r}, "w").write(str(time.time()))
    raise
"""


@pytest.mark.parametrize("how", ["the REST API", "an interrupt_request"])
def test_interrupt_acts_in_a_flood(server: JupyterServer, kernel_id: str, how: str, tmp_path: Path):
    file = tmp_path / "interrupted"
    with Tab(server, kernel_id) as tab:
        cell = tab.send(FLOOD.format(path=str(file)))
        tab.until(lambda: len(tab.of(cell).published) > 2000)
        asked = time.time()
        if how == "the REST API":
            server.rest("POST", f"api/kernels/{kernel_id}/interrupt", {}, 204)
        else:
            tab.ask("interrupt_request", {}, "control")
        until(lambda: file.exists() and file.read_text())
        assert float(file.read_text()) - asked < 5
        (done,) = tab.wait(cell, timeout=PATIENCE)
        assert done.content["ename"] == "KeyboardInterrupt"
        got = numbers(tab, cell)
        assert got == list(range(len(got)))  # all that it said until then


def test_a_browser_that_stops_reading(server: JupyterServer, there: str):
    """What a machine says meanwhile waits on disk and there, not in the server's memory, and all of it comes."""
    with Tab(server, there, receive_buffer=64 * 1024) as tab:
        tab.run(PREPARE)
        tab.wait(tab.send(counting(20, MB)), timeout=PATIENCE)  # what a first use takes
        before = most = resident(server.pid)
        tab.pause()
        cell = tab.send(counting(320, MB))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            most = max(most, resident(server.pid))
            time.sleep(0.05)
        assert numbers(tab, cell) == []
        tab.resume()
        (done,) = tab.wait(cell, timeout=PATIENCE)
        assert numbers(tab, cell) == list(range(320))
        assert (done.status, tab.repeated) == ("ok", 0)
    assert most - before < 64 * MB


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_connection_that_breaks_in_a_flood(server: JupyterServer, kernel_id: str, size: int):
    """And comes back with the same session, as JupyterLab's do."""
    with Tab(server, kernel_id) as tab:
        tab.run(PREPARE)
        count = 600 if size else 6000
        cell = tab.send(counting(count, size, 0.0005))
        for part in (1, 2, 3, 4):
            tab.until(lambda enough=part * count // 5: len(tab.displayed(cell)) >= enough, PATIENCE)
            tab.cut()
            time.sleep(0.2)
            tab.connect()
        (done,) = tab.wait(cell, timeout=PATIENCE)
        assert numbers(tab, cell) == list(range(count))
        assert (done.status, done.states) == ("ok", ["busy", "idle"])
        assert tab.run("print('on')").text == "on\n"


def test_a_connection_that_nobody_saw_break(server: JupyterServer, kernel_id: str):
    """A page that went through a sleep opens a new websocket while the server still holds the old one."""
    with Tab(server, kernel_id, receive_buffer=64 * 1024) as tab:
        tab.run(PREPARE)
        cell = tab.send(counting(400, 100_000, 0.001))
        tab.until(lambda: len(tab.displayed(cell)) > 20)
        with tab.another():
            (done,) = tab.wait(cell, timeout=PATIENCE)
            assert numbers(tab, cell) == list(range(400))
            assert done.status == "ok"


def test_two_tabs_and_one_that_comes_later(server: JupyterServer, kernel_id: str):
    with Tab(server, kernel_id) as first, Tab(server, kernel_id) as second:
        first.run(PREPARE)
        cell = first.send(counting(1500, 0, 0.001))
        first.until(lambda: len(first.displayed(cell)) > 100)
        with Tab(server, kernel_id) as third:
            first.wait(cell, timeout=PATIENCE)
            for other in (second, third):
                other.until(lambda tab=other: "idle" in tab.of(cell).states)
            assert numbers(first, cell) == numbers(second, cell) == list(range(1500))
            late = numbers(third, cell)
            assert 0 < len(late) < 1500
            assert late == list(range(1500))[-len(late) :]
            assert not second.of(cell).replies
            assert not third.of(cell).replies
        # Who asks gets the answer, and all get what is published.
        own = second.send("print('second')")
        assert second.wait(own)[0].text == "second\n"
        first.until(lambda: "idle" in first.of(own).states)
        assert (first.of(own).text, first.of(own).replies) == ("second\n", [])


def test_replies_for_a_tab_that_is_away(server: JupyterServer, kernel_id: str):
    with Tab(server, kernel_id) as tab:
        cells = [tab.send(f"import time; time.sleep(0.3); print({i})") for i in range(3)]
        tab.until(lambda: tab.of(cells[0]).states)
        tab.cut()
        with Tab(server, kernel_id) as other:
            other.wait(other.send("1"), timeout=PATIENCE)
        tab.connect()
        for i, done in enumerate(tab.wait(*cells)):
            assert (done.text, done.status) == (f"{i}\n", "ok")
