"""The VM is deallocated under a running notebook: it says so at once, answers everything, starts nothing, and comes back here."""

from __future__ import annotations

import time

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import DSVMError, Unreachable
from jupyter_dsvm.models import LinkPhase, OperationState, PowerState
from support.emulated import (
    HERE,
    PATIENCE,
    WHERE,
    assert_moved,
    attached,
    configured,
    emulator,
    moved,
    ours,
    service,
    where,
    writes,
)
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]

AT_ONCE = 10.0
"""Seconds from the machine's end to the error in the cell: a lost connection, one more try, one question to Azure."""


def test_deallocated_while_a_cell_runs(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        running = notebook.send("print('begun', flush=True); import time; time.sleep(300)")
        waiting = [notebook.send("raise SystemError"), notebook.send(WHERE, stop_on_error=False)]
        asked = notebook.kc.kernel_info()
        notebook.until(lambda: notebook.of(running).text)
        notebook.until(lambda: notebook.of(asked).over)  # from what the kernel said earlier: it is busy
        before = len(configured.traffic)

        configured.power("gpu-vm", "deallocate")  # in the portal, by somebody else
        since = time.monotonic()
        (lost,) = notebook.wait(running, timeout=PATIENCE)
        assert time.monotonic() - since < AT_ONCE
        assert lost.status == "error"
        said = lost.outputs("error")[0]["content"]["evalue"]
        assert said == lost.content["evalue"]
        assert "gpu-vm is deallocated: what ran there has ended." in said
        assert "In the Compute panel, start it and attach again, or return to the free tier." in said
        assert [d.status for d in notebook.wait(*waiting)] == ["aborted", "aborted"]

        # Nothing that is asked now stays without an answer.
        done = notebook.run(WHERE)
        assert (done.status, done.content["evalue"]) == ("error", said)
        assert notebook.wait(notebook.kc.kernel_info())[0].status == "ok"
        assert notebook.wait(notebook.kc.complete("pri"))[0].status == "error"
        assert "gpu-vm is deallocated" in notebook.run("%dsvm detach").content["evalue"]
        row = service().kernels()[0][0]
        assert (row.link.state, row.link.reason) == (LinkPhase.GONE, "gpu-vm is deallocated: what ran there has ended.")
        (gpu,) = [c for c in service().computes().computes if c.name == "gpu-vm"]
        assert (gpu.power_state, gpu.attached) == (PowerState.DEALLOCATED, ())
        assert notebook.km.is_alive()  # to Jupyter: nothing is restarted behind the user's back

        # A restart says why it cannot be, and starts nothing that is billed.
        with pytest.raises(DSVMError, match="gpu-vm is deallocated"):
            notebook.km.restart_kernel(now=True)
        assert notebook.run(WHERE).content["evalue"] == said
        assert all("/deallocate?" in w for w in writes(configured, before))
        assert configured.vm("gpu-vm")["power_state"] == "deallocated"

        assert_moved(notebook, "free")
        assert where(notebook) == HERE
        assert notebook.run("1 + 1").count == 2
        assert all("/deallocate?" in w for w in writes(configured, before))
        attached(notebook, "gpu-vm")  # and there again, now that somebody asks for it
    until(lambda: not ours(configured, "gpu-vm"))


def test_stopped_by_us_while_nothing_runs(configured: Emulator):
    """``%dsvm stop`` in another notebook, which says whose kernel went with the machine. That notebook is here again by itself."""
    with Notebook() as notebook, Notebook() as other:
        attached(notebook, "gpu-vm")
        before = len(configured.traffic)
        said = other.run("%dsvm stop gpu-vm", timeout=PATIENCE).text
        assert "gpu-vm is off." in said
        name = f"notebook {notebook.proxy.kernel_id[:8]}"
        assert f"{name} is back on the free tier with a new kernel; its variables are lost." in said
        assert (notebook.proxy.status.compute, notebook.proxy.status.link.state) == ("free", LinkPhase.LOCAL)
        shown = [m["content"] for m in notebook.run(WHERE).outputs("stream")]
        assert [(content["name"], content["text"]) for content in shown] == [
            (
                "stderr",
                "gpu-vm was released, and this notebook is back on the free tier with a new kernel. "
                "Its variables are lost; run the cells that make them.\n",
            ),
            ("stdout", f"{HERE}\n"),
        ]
        assert len(notebook.run(WHERE).outputs("stream")) == 1  # it is said once
        assert where(other) == HERE
        assert all("/deallocate?" in w for w in writes(configured, before))
        # Coming back to the same machine is an attach like any other, and starts it.
        operation = moved(notebook, "gpu-vm")
        assert operation.state is OperationState.DONE, operation.error
        assert operation.steps[0].name == "start"
        assert where(notebook) == "gpu-vm"


def test_stopped_by_us_while_a_cell_runs(configured: Emulator):
    """As the page does it. The cell and what is queued behind it are answered, and the next one runs here."""
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        running = notebook.send("print('begun', flush=True); import time; time.sleep(300)")
        queued = notebook.send(WHERE)
        notebook.until(lambda: notebook.of(running).text)
        operation = service().stop("gpu-vm")
        lost, aborted = notebook.wait(running, queued, timeout=PATIENCE)
        assert (lost.status, aborted.status) == ("error", "aborted")
        said = lost.content["evalue"]
        assert "gpu-vm is deallocated: what ran there has ended. The notebook goes back to the free tier" in said
        ended = service().operations_store.get(operation.id).finished.result(PATIENCE)
        assert ended.state is OperationState.DONE
        assert "is back on the free tier with a new kernel" in ended.notice
        assert where(notebook) == HERE
        row = service().kernels()[0][0]
        assert (row.compute, row.link.state) == ("free", LinkPhase.LOCAL)


def test_a_machine_that_restarts_has_lost_the_kernel(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        running = notebook.send("import time; time.sleep(300)")
        notebook.until(lambda: "busy" in notebook.of(running).states)
        before = len(configured.traffic)
        configured.power("cpu-vm", "restart")
        (lost,) = notebook.wait(running, timeout=PATIENCE)
        assert lost.status == "error"
        assert "The kernel on cpu-vm is no more" in lost.content["evalue"]
        assert "Attach again to start a new one, or return to the free tier." in lost.content["evalue"]
        assert all("/restart?" in w for w in writes(configured, before))
        assert_moved(notebook, "cpu-vm")
        assert where(notebook) == "cpu-vm"
    until(lambda: not ours(configured, "cpu-vm"))


@pytest.mark.parametrize("now", [True, False])
def test_a_restart_out_of_reach_fails_and_ends_nothing(configured: Emulator, now: bool):
    """What runs there goes on, and nothing of the restart comes later, when nobody expects it any more."""
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        notebook.run("kept = 3")
        configured.kill_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.RECONNECTING)
        with pytest.raises(Unreachable, match="cpu-vm is out of reach, so the kernel there was not restarted"):
            notebook.km.restart_kernel(now=now)
        assert notebook.km.is_alive()
        assert notebook.wait(notebook.ask("shutdown_request", {"restart": False}, "control"))[0].status == "error"
        configured.start_ssh("cpu-vm")
        assert notebook.run("print(kept)", timeout=PATIENCE).text == "3\n"
        notebook.km.restart_kernel(now=now)
        assert where(notebook) == "cpu-vm"
        assert notebook.run("kept").content["ename"] == "NameError"
    until(lambda: not ours(configured, "cpu-vm"))


def test_the_free_tier_while_out_of_reach(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        running = notebook.send("import time; time.sleep(300)")
        notebook.until(lambda: "busy" in notebook.of(running).states)
        configured.kill_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.RECONNECTING)
        queued = notebook.send(WHERE)
        operation = service().attach(notebook.proxy.kernel_id, "free")
        until(lambda: service().operation(operation.id).steps[-1].state.value == "running")
        configured.start_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.CONNECTED)
        assert not notebook.of(running).replies  # a move waits for what runs
        notebook.km.interrupt_kernel()
        assert notebook.wait(running, timeout=PATIENCE)[0].content["ename"] == "KeyboardInterrupt"
        assert notebook.wait(queued)[0].status == "aborted"
    until(lambda: not ours(configured, "cpu-vm"))


def test_out_of_reach_is_not_gone(configured: Emulator):
    """sshd alone has died: Azure says that the machine runs, so the cell goes on waiting, and its output comes later."""
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        running = notebook.send("import time\nfor i in range(20): print(i); time.sleep(0.1)")
        notebook.until(lambda: notebook.of(running).text)
        configured.kill_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.RECONNECTING)
        assert notebook.wait(notebook.kc.kernel_info())[0].status == "ok"
        queued = notebook.send("print('later')")
        time.sleep(2)
        assert notebook.proxy.status.link.state is LinkPhase.RECONNECTING
        assert not notebook.of(queued).replies
        configured.start_ssh("cpu-vm")
        done = notebook.wait(running, queued, timeout=PATIENCE)
        assert done[0].text == "".join(f"{i}\n" for i in range(20))
        assert done[1].text == "later\n"
    until(lambda: not ours(configured, "cpu-vm"))
