"""Variables go along with a move: real kernels on this machine, one of which stands for one on a VM.

``test_variables_travel.py`` does it with VMs; what kernels can send and load is in ``test_variables_*``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_core.paths import jupyter_runtime_dir

from jupyter_dsvm.carryends import LocalEnd
from jupyter_dsvm.carryjob import CarryJob
from jupyter_dsvm.errors import Cancelled, DSVMError, OperationRefused
from jupyter_dsvm.kernels.backends import Backend
from jupyter_dsvm.kernels.leftovers import remove_leftovers
from jupyter_dsvm.kernelvariables import VariablesIn
from jupyter_dsvm.operations import OperationStore, Running
from support.kernels import TIMEOUT, Notebook, until

WHERE = "import os; print(os.getpid())"
SLOW = """
class Slow:
    def __reduce__(self):
        import time
        print("never seen")
        open({mark!r}, "w").close()
        time.sleep(60)
        return (int, ())
slow = Slow()
"""


class Move:
    """One with variables, of a notebook to another kernel on this machine."""

    def __init__(self, notebook: Notebook, names: Sequence[str] | None = None, **options: Any) -> None:
        self.notebook = notebook
        self.running: Running = OperationStore().begin("attach", steps=[("wait", "Wait"), ("variables", "Carry")])
        self.steps: list[str] = []
        self.running.listeners.append(self.steps.append)
        self.ends: list[LocalEnd] = []
        self.opened = threading.Event()
        self.job = CarryJob(notebook.proxy, self.running, names, "the free tier", self.open, **options)
        self.backend: Backend = notebook.there()
        self.swapped: Future[None] = notebook.proxy.swap(self.backend, False, self.job.begin)
        self.job.watch(self.swapped)

    def open(self, size: int | None) -> tuple[LocalEnd, LocalEnd]:
        self.ends = [LocalEnd("the free tier"), LocalEnd("gpu-vm")]
        self.opened.set()
        return self.ends[0], self.ends[1]

    def done(self) -> str:
        self.swapped.result(TIMEOUT)
        return self.job.notice()

    def error(self) -> DSVMError:
        error = self.swapped.exception(TIMEOUT)
        assert isinstance(error, DSVMError)
        return error


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    """No thread that pumps, and no folder with a socket."""
    yield
    until(lambda: not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-carry"], 10)
    assert not list(Path(jupyter_runtime_dir()).glob("dsvm-carry-*"))


def test_they_are_there_and_a_cell_that_waited_finds_them(notebook: Notebook) -> None:
    notebook.run(
        "import math\nclass Point:\n    x = 1\np = Point()\nalso = p\ndef f(n): return math.floor(n) + offset\noffset = 1"
    )
    notebook.run("big = bytes(range(256)) * 40_000")
    before = notebook.run(WHERE).text
    slow = notebook.send("import time; time.sleep(1); late = 'made in the last cell'")
    move = Move(notebook)
    waiting = [notebook.send(f"print(f(2.5), also is p, type(p) is Point, len(big), late, {n})") for n in range(3)]
    told = move.done()
    notebook.wait(slow, *waiting)
    assert [notebook.of(w).text for w in waiting] == [
        f"3 True True 10240000 made in the last cell {n}\n" for n in range(3)
    ]
    assert [notebook.of(w).count for w in waiting] == [1, 2, 3], "nothing of ours counts as an execution there"
    assert notebook.run(WHERE).text != before
    assert "came along (9.8 MB)" in told or "came along (10 MB)" in told, told
    left_over = notebook.run("print([n for n in dir() if 'dsvm' in n or 'variables' in n], len(In), Out)")
    assert left_over.text == "[] 6 {}\n"


def test_names_that_cannot_go_stay_behind_and_are_named(notebook: Notebook) -> None:
    notebook.run("import threading\nlock = threading.Lock()\nfh = open('/dev/null')\nx, y = 1, 2")
    told = Move(notebook).done()
    assert told.startswith("2 variables came along")
    assert "2 stayed behind: " in told
    assert "lock (" in told
    assert "fh (" in told
    done = notebook.run("print(x + y, 'lock' in dir())")
    assert done.text == "3 False\n"


def test_only_the_names_that_are_asked_for(notebook: Notebook) -> None:
    notebook.run("x, y = 1, 2")
    told = Move(notebook, ["x", "nothing"]).done()
    assert told.startswith("1 variable came along")
    assert "1 stayed behind: nothing (" in told
    assert notebook.run("print('x' in dir(), 'y' in dir())").text == "True False\n"


def test_a_notebook_without_variables_moves_as_well(notebook: Notebook) -> None:
    assert Move(notebook).done() == "There was no variable to carry."
    assert notebook.run("print(1)").text == "1\n"


def busy_sending(notebook: Notebook, tmp_path: Path) -> Move:
    """A move that has come to a variable whose pickling takes a minute."""
    mark = tmp_path / "begun"
    notebook.run("x = 1\n" + SLOW.format(mark=str(mark)))
    move = Move(notebook)
    until(mark.exists)
    return move


def test_an_interrupt_ends_it_and_everything_is_where_it_was(notebook: Notebook, tmp_path: Path) -> None:
    before = notebook.run(WHERE).text
    move = busy_sending(notebook, tmp_path)
    waiting = [notebook.send(f"print({n}, x)") for n in range(3)]
    began = time.monotonic()
    notebook.km.interrupt_kernel()
    assert isinstance(move.error(), Cancelled)
    notebook.wait(*waiting)
    assert time.monotonic() - began < 10
    assert [notebook.of(w).text for w in waiting] == ["0 1\n", "1 1\n", "2 1\n"], "they ran here, in their order"
    assert notebook.run(WHERE).text == before
    assert not [m for m in notebook.messages if m["msg_type"] == "stream" and "never seen" in m["content"]["text"]]


def test_cancelled_what_waited_runs_where_it_was(notebook: Notebook, tmp_path: Path) -> None:
    before = notebook.run(WHERE).text
    move = busy_sending(notebook, tmp_path)
    waiting = [notebook.send(f"print({n}, x)") for n in range(3)]
    notebook.proxy.cancel_swap("It was cancelled in the page.").result(TIMEOUT)
    assert move.error().message == "It was cancelled in the page."
    notebook.wait(*waiting)
    assert [notebook.of(w).text for w in waiting] == ["0 1\n", "1 1\n", "2 1\n"]
    assert notebook.run(WHERE).text == before


def test_a_new_kernel_that_dies_leaves_the_old_one(notebook: Notebook, tmp_path: Path) -> None:
    before = notebook.run(WHERE).text
    others = {c.pid for c in psutil.Process().children()}
    notebook.run("x = 1\n" + SLOW.format(mark=str(tmp_path / "begun")))
    move = Move(notebook)
    until((tmp_path / "begun").exists)
    (new,) = {c.pid for c in psutil.Process().children()} - others
    waiting = notebook.send("print(x)")
    os.kill(new, signal.SIGKILL)
    assert "ended" in move.error().message
    assert notebook.wait(waiting)[0].text == "1\n"
    assert notebook.run(WHERE).text == before


def test_an_old_kernel_that_dies_leaves_the_new_one(notebook: Notebook, tmp_path: Path) -> None:
    before = int(notebook.run(WHERE).text)
    move = busy_sending(notebook, tmp_path)
    waiting = notebook.send(WHERE)
    os.kill(before, signal.SIGKILL)
    assert move.done() == (
        "Variables stayed on the free tier: the kernel there ended while they were carried. Run the cells that make them."
    )
    assert int(notebook.wait(waiting)[0].text) != before


def test_a_way_that_breaks_in_the_middle_loses_nothing(notebook: Notebook) -> None:
    notebook.run("big = [bytes(1_000_000) for _ in range(2_000)]; x = 1")
    before = notebook.run(WHERE).text
    move = Move(notebook)
    assert move.opened.wait(TIMEOUT)
    time.sleep(0.3)
    move.ends[1].close()
    error = move.error()
    assert (error.code, "stays where it was" in error.advice) == ("CarryFailed", True), error
    assert notebook.run("print(len(big), x)").text == "2000 1\n"
    assert notebook.run(WHERE).text == before


def test_what_there_is_no_room_for_is_not_begun(notebook: Notebook) -> None:
    notebook.run("big = bytes(5_000_000)")
    move = Move(notebook, room=lambda: 4 << 20)
    error = move.error()
    assert (error.code, error.message) == (
        "TooLarge",
        "The variables take 5 MB, and the free tier has 4 MB of memory left.",
    )
    assert not move.opened.is_set()
    assert notebook.run("print(len(big))").text == "5000000\n"


def test_how_far_it_is_and_how_fast_it_was(notebook: Notebook) -> None:
    notebook.run("import os\nbig = [os.urandom(1_000_000) for _ in range(12)]")
    measured: list[tuple[int, float]] = []
    move = Move(notebook, measured=lambda size, seconds: measured.append((size, seconds)))
    move.done()
    assert any(step.startswith("Carrying variables (") and step.endswith(" of 11 MB)") for step in move.steps), (
        move.steps
    )
    ((size, seconds),) = measured
    assert 0 < seconds < 60
    assert 12_000_000 < size < 13_000_000


def test_what_a_killed_server_leaves_is_removed_by_the_next_one(jupyter_folders: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    base = Path(jupyter_runtime_dir())
    base.mkdir(parents=True, exist_ok=True)
    dead, alive = base / f"dsvm-carry-{ended.pid}-abc", base / f"dsvm-carry-{os.getpid()}-abc"
    for folder in (dead, alive):
        folder.mkdir(0o700)
        os.utime(folder, (0, 0))
    assert remove_leftovers() == 1
    assert (dead.exists(), alive.exists()) == (False, True)
    alive.rmdir()


def test_told_in_the_notebook_where_nobody_else_looks(notebook: Notebook) -> None:
    notebook.run("x = 1")
    move = Move(notebook, tell=True)
    move.swapped.add_done_callback(lambda f: move.job.ended(f.exception()))
    told = move.done()
    said = notebook.run("print(x)").outputs("stream")
    assert [(m["content"]["name"], m["content"]["text"]) for m in said] == [("stderr", f"{told}\n"), ("stdout", "1\n")]


def test_a_kernel_is_asked_for_its_variables_only_while_it_is_idle(notebook: Notebook) -> None:
    notebook.run("import threading\nx = [1] * 1000\nlock = threading.Lock()")
    planned = VariablesIn(notebook.proxy).plan(None, None)
    assert {v.name: v.moves for v in planned.variables} == {"x": True, "lock": False}
    assert all(v.reason for v in planned.variables if not v.moves)
    running = notebook.send("import time; time.sleep(2)")
    notebook.until(lambda: "busy" in notebook.of(running).states)
    with pytest.raises(OperationRefused) as refused:
        VariablesIn(notebook.proxy).plan(None, None)
    assert refused.value.code == "KernelBusy"
    notebook.wait(running)
