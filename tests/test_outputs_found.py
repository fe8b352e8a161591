"""What a kernel put out while nobody looked is there for the page that comes back: real servers, kernels here and on a machine."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kernels import until
from support.restarted import Place, attach, where
from support.served import JupyterServer
from support.tab import Tab
from support.watcher import Watcher, outputs, rows

__all__ = ["where"]

pytestmark = pytest.mark.timeout(300)

PATIENCE = 60.0

PROGRESS = """
import sys, time
for i in range(40):
    sys.stderr.write(f"\\r{i * 100 // 39:3d}%|{'#' * (i // 4):<10}| {i}/39")
    sys.stderr.flush(); time.sleep(0.02)
sys.stderr.write("\\n")
print("x\\by\\r\\nüñ😀\\rZ")
"""

SHOWN = """
from IPython.display import display, update_display, clear_output, HTML
for i in range(5):
    clear_output(wait=True); print("try", i); display(HTML(f"<b>{i}</b>"))
"""

EVERYTHING = f"{PROGRESS}\n{SHOWN}\ndisplay({{'text/plain': 'first'}}, raw=True, display_id='p')\n{{'a': 1}}"


@pytest.fixture
def server(where: Place, request: pytest.FixtureRequest) -> Iterator[JupyterServer]:
    with where.lasting(request.node.name) as made:
        yield made
    assert not where.machine.wait_until_idle(20)
    assert not list((where.data / "jupyter-dsvm" / "outputs").glob("*"))


def test_a_kernel_here_in_all_that_cells_can_put_out(server: JupyterServer) -> None:
    kernel_id = server.open("all.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as tab:
        runs = [
            tab.run_cell("a", EVERYTHING),
            tab.run_cell("b", "update_display({'text/plain': 'second'}, raw=True, display_id='p')"),
            tab.run_cell("c", "display({'text/plain': 'third'}, raw=True, display_id='p'); print('c')"),
            tab.run_cell("d", "len?"),
        ]
        tab.wait(*runs, timeout=PATIENCE)
        asks = tab.run_cell("e", "input('name: ')", allow_stdin=True)
        tab.type("somebody")
        tab.wait(asks)
        late = "import threading; threading.Timer(0.5, print, ['late']).start(); print('now')"
        runs = [tab.run_cell("a", "print('again')"), tab.run_cell("f", late)]
        runs += [tab.run_cell("g", "print('wrong', flush=True); 1/0"), tab.run_cell("h", "print('never')")]
        tab.wait(*runs, timeout=PATIENCE)
        tab.until(lambda: any("late" in m["content"].get("text", "") for m in tab.messages))
        found = rows(server, kernel_id)
        assert {cell: r["outputs"] for cell, r in found.items()} == tab.notebook
        assert found["a"]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "again\n"}]
        assert found["c"]["outputs"][0]["data"] == {"text/plain": "third"}
        assert found["d"]["outputs"][0]["data"]["text/plain"]
        assert found["e"]["outputs"][0] == {"output_type": "stream", "name": "stdin", "text": "name:  somebody\n"}
        assert {cell: (r["state"], r["status"]) for cell, r in found.items()} == {
            **dict.fromkeys("abcdef", ("done", "ok")),
            "g": ("done", "error"),
            "h": ("aborted", "aborted"),
        }
        assert {cell: r["execution_count"] for cell, r in found.items()} == {
            cell: area.count for cell, area in tab.page.cells.items()
        }
        assert found["g"]["source"] == "print('wrong', flush=True); 1/0"
        assert found["g"]["session"] == tab.session
        started = [r["started"] for r in found.values()]
        assert all(s.endswith("Z") and s <= r["ended"] for s, r in zip(started, found.values(), strict=True))


WIDGET = """
from ipywidgets import Output
o = Output(); display(o)
with o: print("captured")
print("not captured")
"""


def test_what_an_output_widget_captures_is_not_the_cells(server: JupyterServer) -> None:
    pytest.importorskip("ipywidgets")
    kernel_id = server.open("widget.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as tab:
        tab.wait(tab.run_cell("a", WIDGET), timeout=PATIENCE)
        found = rows(server, kernel_id)
        shown, printed = found["a"]["outputs"]
        assert printed["text"] == "not captured\n"
        assert found[""]["widget"] == shown["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        assert [o["text"] for o in found[""]["outputs"]] == ["captured\n"]


def test_a_page_that_leaves_in_the_middle_is_told_the_rest(server: JupyterServer) -> None:
    kernel_id = server.open("leaves.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as stays:
        with Tab(server, kernel_id) as leaves:
            assert leaves.run("1").status == "ok"
        run = stays.run_cell("a", EVERYTHING)
        stays.until(lambda: len(stays.of(run).published) > 5)
        first = rows(server, kernel_id)["a"]
        assert first["state"] == "running"
        since = first["version"]
        stays.wait(run, timeout=PATIENCE)
        last = rows(server, kernel_id, since)["a"]
        assert [*first["outputs"][: last["kept"]], *last["outputs"]] == stays.notebook["a"]
        assert rows(server, kernel_id, last["version"]) == {}


def test_what_is_not_wanted_any_more_stays_away(server: JupyterServer) -> None:
    kernel_id = server.open("forgotten.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as tab:
        runs = [tab.run_cell(cell, "print(1)") for cell in "ab"]
        tab.wait(*runs, timeout=PATIENCE)
        server.rest("DELETE", f"jupyter-dsvm/kernels/{kernel_id}/outputs?msg_id={runs[0]}")
        server.rest("DELETE", f"jupyter-dsvm/kernels/{kernel_id}/outputs?msg_id=unknown")
        found = rows(server, kernel_id)
        assert list(found) == ["b"]
        tab.wait(tab.run_cell("a", "print(2)"))
        assert outputs(server, kernel_id)["a"] == tab.notebook["a"]
        assert server.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/outputs")["sessions"] == [tab.session]
    until(lambda: not server.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/outputs")["sessions"])


def test_whoever_is_there_may_answer_what_input_asks(server: JupyterServer) -> None:
    kernel_id = server.open("asks.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as tab:
        before = "import time; time.sleep(1); print(input('name: '))"
        run = tab.run_cell("a", before, allow_stdin=True)
        tab.until(lambda: rows(server, kernel_id)["a"]["state"] == "running")
    with Watcher(server, kernel_id) as later:
        later.until(lambda: later.requests_for_input, timeout=PATIENCE)
        (asked,) = rows(server, kernel_id)["a"]["prompts"]
        assert asked == {"id": later.requests_for_input[0]["header"]["msg_id"], "prompt": "name: ", "password": False}
        later.type("somebody")
        until(lambda: rows(server, kernel_id)["a"]["state"] == "done")
        found = rows(server, kernel_id)["a"]
        assert found["msg_id"] == run
        assert not found["prompts"]
        assert [o["text"] for o in found["outputs"]] == ["name:  somebody\n", "somebody\n"]


def test_a_restart_of_the_kernel_leaves_what_cells_have_and_forgets_displays(server: JupyterServer) -> None:
    kernel_id = server.open("restart.ipynb")["kernel"]["id"]
    shows = "display({'text/plain': '%s'}, raw=True, display_id='p')"
    with Watcher(server, kernel_id) as tab:
        tab.wait(tab.run_cell("a", shows % "before"))
        tab.run_cell("s", "import time\nprint('sleeps', flush=True)\ntime.sleep(600)")
        tab.until(lambda: any("sleeps" in m["content"].get("text", "") for m in tab.messages))
        tab.page.happens({"do": "restart"})  # before it is asked for, as JupyterLab does
        server.rest("POST", f"api/kernels/{kernel_id}/restart")
        tab.wait(tab.run_cell("b", shows % "after"), timeout=PATIENCE)
        found = rows(server, kernel_id)
        assert {cell: r["outputs"] for cell, r in found.items()} == tab.notebook
        assert found["a"]["outputs"][0]["data"] == {"text/plain": "before"}
        assert found["s"]["state"] == "aborted"


def test_killed_while_no_page_is_there(where: Place, server: JupyterServer, tmp_path: Path) -> None:
    """The kernel goes on on its machine, and what it puts out before and after is there once, before any page has come back."""
    kernel_id = server.open("killed.ipynb")["kernel"]["id"]
    with Watcher(server, kernel_id) as tab:
        tab.wait(tab.run_cell("here", "print('on the free tier')"))
        attach(server, kernel_id)
        done = tmp_path / "done"
        code = f"import time\nfor i in range(60): print(i, flush=True); time.sleep(0.1)\n{EVERYTHING}\nopen({str(done)!r}, 'w')"
        run = tab.run_cell("there", code)
        last = tab.run_cell("error", "1/0")
        tab.until(lambda: len(tab.of(run).published) > 8)
        server.kill()
        tab.cut()
        server.start()
        until(done.exists, PATIENCE)
        until(lambda: rows(server, kernel_id)["error"]["state"] == "done", PATIENCE)
        found = outputs(server, kernel_id)
        tab.connect()
        tab.wait(run, last, timeout=PATIENCE)
        assert found == tab.notebook
        assert found["here"] == [{"output_type": "stream", "name": "stdout", "text": "on the free tier\n"}]


FLOOD = """
import sys, time
from IPython.display import display, clear_output
h = display({'text/plain': '0'}, raw=True, display_id='bar')
for i in range(1, 4001):
    print(i, end='\\r' if i % 7 else '\\n', flush=True)
    if i % 100 == 0: h.update({'text/plain': str(i)}, raw=True)
    if i % 250 == 0: print('warned', file=sys.stderr, flush=True); display({'text/plain': 'x' * 2000}, raw=True)
    if i == 2000: clear_output(wait=True)
    if i % 50 == 0: time.sleep(0.02)
"""


def test_killed_again_and_again(server: JupyterServer) -> None:
    """At moments drawn with a seed, with a page that comes back each time."""
    chance = random.Random(9)
    kernel_id = server.open("again.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    with Watcher(server, kernel_id) as tab:
        cells = {"a": FLOOD, "b": "print('b')", "a2": FLOOD, "c": "1/0", "d": "print('never')"}
        runs = [tab.run_cell(cell, code) for cell, code in cells.items()]
        tab.until(lambda: len(tab.messages) > 100)
        for _ in range(4):
            enough = len(tab.messages) + chance.randrange(1, 1_500)
            deadline = time.monotonic() + chance.uniform(0.1, 2.0)
            tab.until(lambda e=enough, d=deadline: len(tab.messages) > e or time.monotonic() > d)
            server.kill()
            until(lambda: not tab.connected)  # what was on its way to the page has arrived
            tab.cut()
            server.start()
            time.sleep(chance.uniform(0, 1))
            tab.connect()
        tab.wait(*runs, timeout=2 * PATIENCE)
        found = rows(server, kernel_id)
        same(outputs(server, kernel_id), tab.notebook)
        assert [found[cell]["state"] for cell in cells] == ["done"] * 4 + ["aborted"]


def test_killed_again_and_again_while_no_page_is_there(server: JupyterServer) -> None:
    """What is found is what a page gets to see that watches the same cell all along."""
    chance = random.Random(10)
    kernel_id = server.open("alone.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    with Watcher(server, kernel_id) as leaves:
        run = leaves.run_cell("a", FLOOD)
        leaves.run_cell("b", "print('b')")
        leaves.until(lambda: len(leaves.of(run).published) > 20)
    for _ in range(4):
        server.kill()
        server.start()
        time.sleep(chance.uniform(0, 0.5))
    until(lambda: rows(server, kernel_id)["b"]["state"] == "done", PATIENCE)
    found = outputs(server, kernel_id)
    with Watcher(server, kernel_id) as stays:
        stays.wait(stays.run_cell("a", FLOOD), stays.run_cell("b", "print('b')"), timeout=PATIENCE)
        same(found, stays.notebook)


def same(found: dict[str, list[Any]], watched: dict[str, list[Any]]) -> None:
    """With little to read where they are not."""
    for cell in watched:
        pairs = zip(found[cell], watched[cell], strict=False)
        first = next(((n, str(f)[-300:], str(w)[-300:]) for n, (f, w) in enumerate(pairs) if f != w), None)
        assert first is None, (cell, first)
    assert found == watched
