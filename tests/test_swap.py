"""A notebook keeps its kernel while what is behind it changes: real kernels, in front of a real client.

Another kernel on this machine stands for one on a VM: to the proxy there is no difference but the way to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from jupyter_dsvm.errors import Cancelled, DSVMError, KernelStartError, LanguageMismatch
from jupyter_dsvm.kernels.local import LocalBackend
from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.kernels.registry import Call, registry
from jupyter_dsvm.models import LinkPhase
from support.kernels import TIMEOUT, Notebook, until

FAKE = Path(__file__).parent / "support" / "fake_kernel.py"
SLEEP = "print('asleep', flush=True)\nimport time; time.sleep(30)"
WHERE = "import os; print(os.getpid())"


def pid(notebook: Notebook) -> int:
    return int(notebook.run(WHERE).text)


OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """What other tests of this run share may have children here: a hub, for one."""
    OTHERS.clear()
    OTHERS.update(c.pid for c in psutil.Process().children())


def children() -> list[int]:
    """Processes that the test has started and not yet ended."""
    return [c.pid for c in psutil.Process().children() if c.pid not in OTHERS]


def ends(process: int) -> bool:
    until(lambda: not psutil.pid_exists(process), 10)
    return True


class Attacher:
    """Answers ``%dsvm`` as the service does: an attach prepares a kernel while the cell runs, then asks for the swap."""

    def __init__(self) -> None:
        self.refuse: DSVMError | None = None
        self.calls: list[Call] = []
        self.moves: list[Any] = []

    def handle_call(self, call: Call) -> None:
        self.calls.append(call)
        if self.refuse is not None:
            raise self.refuse
        call.progress({"text": "Starting the kernel"})
        backend = call.proxy.make_local()
        call.proxy.prepare(backend).result(TIMEOUT)
        self.moves.append(call.proxy.swap(backend))
        call.finish({"text": "The following cells run there."})

    def remote_backend(self, proxy: Proxy, compute: str, kernelspec: str | None) -> Any:
        raise AssertionError("no kernel starts elsewhere here")

    def close(self) -> None:
        pass


@pytest.fixture
def attacher() -> Iterator[Attacher]:
    registry.service = attacher = cast(Any, Attacher())
    yield attacher
    registry.service = None


def stranger(proxy: Proxy, habit: str, **more: Any) -> LocalBackend:
    """A kernel with the given habit (``support/fake_kernel.py``), to be prepared beside the present one."""
    values = {
        "key": proxy.key,
        "session": proxy.session,
        "signature_scheme": proxy.signature_scheme,
        "kernelspec": "fake",
        "language": "",
        "interrupt_mode": "signal",
    }
    argv = [sys.executable, str(FAKE), "{connection_file}", habit]
    return LocalBackend(proxy.io, proxy.folder, 1000 + len(os.listdir(proxy.folder)), argv, {}, **{**values, **more})


# Run All


ATTACHES = (
    "%dsvm attach x",
    "def go():\n    %dsvm attach x\ngo()",
    "# a comment\n\n%dsvm attach x  # and another",
    "get_ipython().run_line_magic('dsvm', 'attach x')",
)


@pytest.mark.parametrize("stop_on_error", [True, False])
def test_run_all_goes_on_there_however_the_attach_is_written(
    notebook: Notebook, attacher: Attacher, stop_on_error: bool
) -> None:
    front = (notebook.km.kernel_id, notebook.proxy.ports, notebook.km.session.key)
    for line in ATTACHES:
        first = notebook.run("import os; before = os.getpid()\nprint(before)")
        cells = [
            "print(before)",
            f"{line}\nprint(before)",
            "print('before' in dir())",
            WHERE,
            "1/0",
            "print('after the error')",
        ]
        ids = [notebook.send(code, stop_on_error=stop_on_error) for code in cells]
        here, attaching, there, where, failing, last = notebook.wait(*ids)
        assert here.text == first.text
        assert first.text in attaching.text, "the cell that attaches goes on here"
        assert "Starting the kernel" in attaching.text
        assert there.text == "False\n", "the variables stayed behind"
        assert where.text != first.text
        assert [e.count for e in (here, attaching)] == [cast(int, first.count) + 1, cast(int, first.count) + 2]
        assert [e.count for e in (there, where, failing)] == [1, 2, 3]
        assert failing.status == "error"
        assert last.status == ("aborted" if stop_on_error else "ok")
        assert last.text == ("" if stop_on_error else "after the error\n")
        order = [m["parent_header"]["msg_id"] for m in notebook.messages if m["msg_type"] == "execute_input"]
        assert [i for i in order if i in ids] == ids[: 5 if stop_on_error else 6]
        assert ends(int(first.text))
        assert psutil.pid_exists(int(where.text))
    assert front == (notebook.km.kernel_id, notebook.proxy.ports, notebook.km.session.key)
    assert len({m["header"]["session"] for m in notebook.messages}) == 1
    assert {c.trusted and c.running for c in attacher.calls} == {True}


def test_an_attach_that_fails_raises_in_its_cell_and_the_rest_is_aborted_here(
    notebook: Notebook, attacher: Attacher
) -> None:
    attacher.refuse = KernelStartError("There is no room.", advice="Try another one.")
    notebook.run("x = 41")
    failing, later = notebook.wait(notebook.send("%dsvm attach x"), notebook.send("x"))
    assert (failing.status, later.status) == ("error", "aborted")
    assert "There is no room. Try another one." in failing.content["evalue"]
    assert notebook.run("print(x + 1)").text == "42\n"


def test_of_two_attaches_in_one_cell_the_last_counts(notebook: Notebook, attacher: Attacher) -> None:
    old = pid(notebook)
    attaching, there = notebook.wait(
        notebook.send("%dsvm attach x\n%dsvm attach y\nprint('done')"), notebook.send(WHERE)
    )
    assert attaching.text.endswith("done\n")
    first, second = attacher.moves
    assert isinstance(first.exception(TIMEOUT), Cancelled)
    assert second.result(TIMEOUT) is None
    assert int(there.text) != old
    assert ends(old)
    until(lambda: children() == [int(there.text)], 10)


def test_an_attach_in_a_cell_that_kills_its_kernel_still_counts(notebook: Notebook, attacher: Attacher) -> None:
    dying, there = notebook.wait(
        notebook.send("%dsvm attach x\nimport os; os._exit(1)", stop_on_error=False), notebook.send("print('there')")
    )
    assert dying.content["ename"] == "KernelDied"
    assert there.text == "there\n"
    assert notebook.km.is_alive()


def test_interrupting_the_cell_that_attaches_cancels_the_call(notebook: Notebook, attacher: Attacher) -> None:
    attacher.handle_call = lambda call: attacher.calls.append(call)  # type: ignore[method-assign]
    cell = notebook.send("%dsvm attach x")
    until(lambda: attacher.calls)
    notebook.km.interrupt_kernel()
    (execution,) = notebook.wait(cell)
    # The magic's own KeyboardInterrupt: one line in the cell where that has a traceback, and what is queued is aborted as ever.
    assert (execution.status, execution.content["ename"]) == ("error", "Interrupted")
    assert execution.content["traceback"] == ["Interrupted: %dsvm attach x was not waited for."]
    assert attacher.calls[0].cancelled.wait(5)


# What a swap waits for, and what it keeps


def test_all_output_of_the_old_kernel_comes_before_the_swap(notebook: Notebook) -> None:
    there = notebook.there()
    notebook.run("h = display('start', display_id='d')")
    cell = notebook.send("for n in range(2000): h.update(n)")
    later = notebook.send("print('there')")
    notebook.until(lambda: notebook.of(cell).states)
    swapped = notebook.proxy.swap(there)
    updates, after = notebook.wait(cell, later)
    shown = [m["content"]["data"]["text/plain"] for m in updates.outputs("update_display_data")]
    assert shown == [str(n) for n in range(2000)]
    assert after.text == "there\n"
    assert swapped.result(TIMEOUT) is None


def test_a_swap_waits_for_a_cell_that_runs_and_kernel_info_and_heartbeat_are_answered_meanwhile(
    notebook: Notebook,
) -> None:
    there = notebook.there()
    running = notebook.send("import time; time.sleep(1.2); print('mine')")
    notebook.until(lambda: "busy" in notebook.of(running).states)
    swapped = notebook.proxy.swap(there)
    until(lambda: notebook.proxy.status.swap_to == "free")
    info = notebook.ask("kernel_info_request", {})
    (answer,) = notebook.wait(info, timeout=0.8)
    assert answer.content["language_info"]["name"] == "python"
    assert not swapped.done()
    assert not notebook.of(running).over
    assert notebook.kc.hb_channel.is_beating()
    (execution,) = notebook.wait(running)
    assert execution.text == "mine\n"
    assert swapped.result(TIMEOUT) is None
    assert notebook.proxy.status.swap_to is None


def test_a_swap_waits_for_an_answer_to_input_and_a_late_one_is_dropped(notebook: Notebook) -> None:
    there = notebook.there()
    cell = notebook.send("print(input('name? '))", allow_stdin=True)
    notebook.until(lambda: notebook.requests_for_input)
    swapped = notebook.proxy.swap(there)
    assert not swapped.done()
    notebook.kc.input("Ada")
    (execution,) = notebook.wait(cell)
    assert execution.text == "Ada\n"
    swapped.result(TIMEOUT)
    notebook.kc.input("late")
    cell = notebook.send("print(input('again? '))", allow_stdin=True)
    notebook.until(lambda: len(notebook.requests_for_input) == 2)
    time.sleep(0.1)
    notebook.kc.input("Grace")
    assert notebook.wait(cell)[0].text == "Grace\n"


def test_what_a_thread_of_the_old_kernel_prints_arrives_without_a_gap_until_that_ends(notebook: Notebook) -> None:
    there = notebook.there()
    old = pid(notebook)
    code = (
        "import itertools, threading, time\n"
        "def chatter():\n"
        "    for n in itertools.count():\n"
        "        print(n, flush=True)\n"
        "        time.sleep(0.001)\n"
        "threading.Thread(target=chatter, daemon=True).start()"
    )
    cell = notebook.send(code)
    notebook.until(lambda: notebook.of(cell).over and notebook.of(cell).text)
    notebook.proxy.swap(there).result(TIMEOUT)
    moved = time.time()
    assert ends(old)
    notebook.run("print('there')")
    execution = notebook.of(cell)
    numbers = [int(n) for n in execution.text.split()]
    assert numbers == list(range(len(numbers)))
    assert execution.published[-1]["header"]["date"].timestamp() > moved


def test_open_comms_are_closed_and_completion_and_inspection_go_on_there(notebook: Notebook) -> None:
    notebook.run("from comm import create_comm; c = create_comm('target')\nlocal_name = 1")
    opened = [m for m in notebook.messages if m["msg_type"] == "comm_open"]
    notebook.move()
    notebook.until(lambda: [m for m in notebook.messages if m["msg_type"] == "comm_close"])
    (closed,) = [m for m in notebook.messages if m["msg_type"] == "comm_close"]
    assert closed["content"]["comm_id"] == opened[0]["content"]["comm_id"]
    completion = notebook.kc.complete("impor")
    inspection = notebook.kc.inspect("print", 3)
    completed, inspected = notebook.wait(completion, inspection)
    assert "import" in completed.content["matches"]
    assert inspected.content["found"]
    assert notebook.run("print('local_name' in dir())").text == "False\n"


def subshell(notebook: Notebook) -> str:
    (made,) = notebook.wait(notebook.ask("create_subshell_request", {}, "control"))
    assert made.status == "ok"
    return str(made.content["subshell_id"])


CELL = {"code": "print('beside')", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}


def test_a_subshell_answers_while_a_cell_runs_before_and_after_a_move(notebook: Notebook) -> None:
    (info,) = notebook.wait(notebook.ask("kernel_info_request", {}))
    assert "kernel subshells" in info.content["supported_features"]
    known = subshell(notebook)
    for _ in range(2):
        running = notebook.send("import time; time.sleep(30)")
        notebook.until(lambda running=running: "busy" in notebook.of(running).states)
        (beside,) = notebook.wait(notebook.ask("execute_request", CELL, subshell_id=known))
        assert beside.text == "beside\n"
        assert not notebook.of(running).over
        notebook.km.interrupt_kernel()
        notebook.wait(running)
        notebook.move()


def test_every_client_keeps_its_connection(notebook: Notebook) -> None:
    with notebook.another_client() as other:
        assert other.run("print('here')").text == "here\n"
        notebook.move()
        assert other.run("print('there')").text == "there\n"
        assert notebook.run("print('too')").count == 2
        assert notebook.executions.keys() & other.executions.keys()


def test_a_late_subscriber_is_welcomed(notebook: Notebook) -> None:
    for _ in range(2):
        with notebook.another_client() as late:
            late.until(lambda: [m for m in late.messages if m["msg_type"] == "iopub_welcome"])


def test_the_magic_leaves_no_trace_in_the_users_namespace_or_history(notebook: Notebook) -> None:
    notebook.move()
    assert notebook.run("print([n for n in dir() if 'dsvm' in n.lower()], In)").text == (
        "[] ['', \"print([n for n in dir() if 'dsvm' in n.lower()], In)\"]\n"
    )


# The user changes their mind


def interrupt(notebook: Notebook) -> None:
    notebook.km.interrupt_kernel()


def restart(notebook: Notebook) -> None:
    notebook.km.restart_kernel()


@pytest.mark.parametrize("mind", [interrupt, restart])
def test_interrupt_and_restart_cancel_a_swap_that_waits(notebook: Notebook, mind: Callable[[Notebook], None]) -> None:
    notebook.run("x = 41")
    old = pid(notebook)
    there = notebook.there()
    running, later = notebook.send(SLEEP), notebook.send("x")
    notebook.until(lambda: notebook.of(running).text)
    swapped = notebook.proxy.swap(there)
    reasons: list[str] = []
    notebook.proxy.on_user_cancel.append(reasons.append)
    mind(notebook)
    assert isinstance(swapped.exception(TIMEOUT), Cancelled)
    assert reasons
    notebook.wait(running, later)
    assert notebook.of(running).status in ("error", "aborted")
    assert notebook.of(later).status == "aborted"
    if mind is interrupt:
        assert notebook.run("print(x + 1)").text == "42\n"
        assert pid(notebook) == old
    else:
        assert notebook.run("print('x' in dir())").text == "False\n"
        assert ends(old)
    until(lambda: len(children()) == 1, 10)


def test_a_shutdown_while_a_swap_waits_ends_both_kernels(notebook: Notebook) -> None:
    there = notebook.there()
    running = notebook.send("import time; time.sleep(30)")
    notebook.until(lambda: "busy" in notebook.of(running).states)
    swapped = notebook.proxy.swap(there)
    notebook.km.shutdown_kernel()
    assert isinstance(swapped.exception(TIMEOUT), DSVMError)
    assert children() == []
    assert registry.all() == []


def test_a_shutdown_right_after_a_swap_ends_the_old_kernel_as_well(notebook: Notebook) -> None:
    notebook.move()
    notebook.km.shutdown_kernel(now=True)
    assert children() == []


# An attach that fails loses nothing


def test_after_each_failed_attach_the_variables_are_there(notebook: Notebook) -> None:
    notebook.run("x = 41")
    proxy = notebook.proxy
    dies = proxy.prepare(stranger(proxy, "dies"))
    error = dies.exception(TIMEOUT)
    assert isinstance(error, KernelStartError)
    assert "exit code 7" in str(error)
    assert "keeps the kernel it had" in str(error)

    other = proxy.prepare(stranger(proxy, "R")).exception(TIMEOUT)
    assert isinstance(other, LanguageMismatch)
    assert "speaks R, the notebook python" in str(other)

    missing = stranger(proxy, "colon")
    missing._argv = ["/no/such/program"]
    assert "/no/such/program" in str(proxy.prepare(missing).exception(TIMEOUT))

    silent = proxy.prepare(stranger(proxy, "mute"))
    time.sleep(0.5)
    assert not silent.done()
    proxy.cancel_swap("It took too long.").result(TIMEOUT)
    assert "It took too long." in str(silent.exception(TIMEOUT))

    assert notebook.run("print(x + 1)").text == "42\n"
    until(lambda: len(children()) == 1, 10)
    until(lambda: len(proxy._sides.backends) == 1)


def test_a_new_kernel_that_dies_before_the_swap_leaves_the_old_one(notebook: Notebook) -> None:
    notebook.run("x = 41")
    there = notebook.there()
    running = notebook.send("import time; time.sleep(1)")
    notebook.until(lambda: "busy" in notebook.of(running).states)
    swapped = notebook.proxy.swap(there)
    process = cast(LocalBackend, there).pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    assert "exit code -9" in str(swapped.exception(TIMEOUT))
    notebook.wait(running)
    assert notebook.run("print(x + 1)").text == "42\n"
    gone = notebook.proxy.swap(there).exception(TIMEOUT)
    assert isinstance(gone, KernelStartError)


# Where it is now


def test_the_status_says_where_the_notebook_runs(notebook: Notebook) -> None:
    heard: list[str] = []
    unsubscribe = registry.subscribe(heard.append)
    try:
        status = notebook.proxy.status
        assert (status.compute, status.kernelspec, status.language) == ("free", "python3", "python")
        assert status.link.state is LinkPhase.LOCAL
        running = notebook.send("import time; time.sleep(0.3)")
        until(lambda: notebook.proxy.status.running == running)
        until(lambda: notebook.proxy.status.execution_state == "busy")
        notebook.wait(running)
        until(lambda: notebook.proxy.status.execution_state == "idle")
        notebook.move()
        assert heard
        assert set(heard) == {notebook.km.kernel_id}
    finally:
        unsubscribe()


def test_a_kernel_that_dies_is_restarted_here_and_its_cell_says_why(notebook: Notebook) -> None:
    ids = [notebook.send(code) for code in ("import os; os.kill(os.getpid(), 9)", "print('waits')")]
    died, aborted = notebook.wait(*ids)
    assert (died.content["ename"], aborted.status) == ("KernelDied", "aborted")
    assert "exit code -9" in died.outputs("error")[0]["content"]["evalue"]
    assert not notebook.km.is_alive()
    later = notebook.send("print('after the restart')")
    notebook.km.restart_kernel(now=True)
    assert notebook.wait(later)[0].text == "after the restart\n"


def test_after_the_end_a_proxy_refuses_instead_of_hanging(notebook: Notebook) -> None:
    proxy, backend = notebook.proxy, notebook.proxy.make_local()
    notebook.km.shutdown_kernel(now=True)
    for future in (proxy.prepare(backend), proxy.swap(backend), proxy.launch(backend), proxy.relaunch()):
        assert isinstance(future.exception(1), KernelStartError)
    over = threading.Event()
    proxy.cancel_swap("It has ended.").add_done_callback(lambda _f: over.set())
    assert over.wait(5)
