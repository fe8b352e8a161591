"""The service with a machine park in memory and kernels without I/O: every order of events that matters."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import (
    AmbiguousCompute,
    Cancelled,
    ComputeError,
    ComputeNotRunning,
    Forbidden,
    KernelsRunning,
    KernelStartError,
    LanguageMismatch,
    NotAllowed,
    NotFound,
    OperationRefused,
    UnknownCompute,
    Unreachable,
)
from jupyter_dsvm.models import FREE, LinkPhase, LinkState, Operation, OperationState, PowerState, utc_now
from jupyter_dsvm.returns import Return
from jupyter_dsvm.service import DSVMService
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm, windows

CPU, GPU, WIN = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED), windows("win-vm")


class Stage:
    """A service and what it works with."""

    def __init__(self, *proxies: FakeProxy, **traits: object) -> None:
        twin = dataclasses.replace(dsvm("twin"), id="azure:twin2-id", resource_group="lab2")
        self.cloud = FakeCompute(CPU, GPU, WIN, dsvm("twin"), twin)
        self.registry = FakeRegistry(*proxies)
        self.service = DSVMService(
            lambda: [FakeFree(), self.cloud], registry=self.registry, connections=FakeConnections(), **traits
        )
        self.connections: FakeConnections = self.service.connections  # type: ignore[assignment]

    def ended(self, operation: Operation) -> Operation:
        return self.service.operations_store.get(operation.id).finished.result(5)


@contextlib.contextmanager
def stage(*proxies: FakeProxy, **traits: object) -> Iterator[Stage]:
    made = Stage(*proxies, **traits)
    try:
        yield made
    finally:
        made.service.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


# Lists


def test_the_list_has_the_free_tier_and_who_is_attached():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.set_paths({"k1": "analysis.ipynb"})
        listing = s.service.computes()
        assert [c.name for c in listing.computes][:2] == ["Free tier", "cpu-vm"]
        assert listing.computes[0].attached == ("analysis.ipynb",)
        assert listing.as_of is not None
        s.service.computes()
        assert s.cloud.asked == ["list"]  # known already
        s.service.computes(refresh=True)
        assert s.cloud.asked == ["list", "list"]


def test_a_cloud_that_does_not_answer_takes_nothing_else_away():
    with stage() as s:
        s.service.computes()
        s.cloud.list_error = ComputeError("Azure did not answer.", advice="Try again.")
        listing = s.service.computes(refresh=True)
        assert "cpu-vm" in [c.name for c in listing.computes]  # what was known
        assert [p.message for p in listing.problems] == ["Azure did not answer."]
        s.cloud.list_error = None
        assert not s.service.computes(refresh=True).problems


def test_names():
    with stage() as s:
        assert s.service.known.find("GPU-vm").id == GPU.id
        assert s.service.known.find(GPU.id).id == GPU.id
        assert s.service.known.find("lab2/twin").id == "azure:twin2-id"
        with pytest.raises(AmbiguousCompute):
            s.service.known.find("twin")
        with pytest.raises(UnknownCompute) as e:
            s.service.known.find("gpuvm")
        assert "gpu-vm" in e.value.advice


def test_a_machine_made_after_the_list_is_found_by_looking_once_more():
    with stage() as s:
        s.service.computes()
        new = dsvm("new-vm")
        s.cloud.rows[new.id] = new
        assert s.service.known.find("new-vm").id == new.id


def test_revisions_and_events_say_what_changed():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.computes()
        events: list[tuple[str, str | None, int]] = []
        s.service.listen(lambda *e: events.append(e))
        s.registry.changed("k1")
        assert [e[:2] for e in events if e[0] == "kernels"] == [("kernels", "k1")]
        events.clear()
        proxy.status = dataclasses.replace(proxy.status, execution_state="busy")
        s.registry.changed("k1")
        assert events == []  # a page hears busy and idle from the kernel itself
        s.ended(s.service.attach("k1", "cpu-vm"))
        # Whether what was spent is news depends on the tests before this one, whose machines are in the same file.
        until(lambda: {e[0] for e in events} - {"workspaces", "spend"} == {"operations", "kernels", "computes"})
        assert s.service.kernels()[1] == max(e[2] for e in events if e[0] == "kernels")
        del s.registry.proxies["k1"]
        s.registry.changed("k1")
        assert s.service.kernels()[0] == []


# Power


def test_start_and_stop_are_operations_with_steps():
    with stage() as s:
        s.cloud.gate.clear()
        operation = s.service.start("gpu-vm")
        until(lambda: s.service.operation(operation.id).steps[0].text == "start: asking")
        steps = s.service.operation(operation.id).steps
        assert [step.name for step in steps] == ["ask", "start", "boot"]
        assert s.service.operation(operation.id).progress == pytest.approx(0.5 / 3)
        row = next(c for c in s.service.computes().computes if c.id == GPU.id)
        assert row.power_state is PowerState.STARTING  # whatever the cloud's list still says
        s.cloud.gate.set()
        ended = s.ended(operation)
        assert ended.state is OperationState.DONE
        assert ended.notice == "gpu-vm runs."
        assert s.service.known.known(GPU.id).power_state is PowerState.RUNNING
        assert s.ended(s.service.stop("gpu-vm")).notice == "gpu-vm is off."


def test_a_refused_start_says_what_azure_said():
    with stage() as s:
        s.cloud.refuse = OperationRefused(
            "Azure has no such size left.", advice="Try another.", code="AllocationFailed"
        )
        ended = s.ended(s.service.start("gpu-vm"))
        assert ended.state is OperationState.FAILED
        assert ended.error.code == "AllocationFailed"
        assert s.service.known.known(GPU.id).power_state is PowerState.DEALLOCATED


def test_the_same_change_is_joined_and_another_is_refused():
    with stage() as s:
        s.cloud.gate.clear()
        first = s.service.start("gpu-vm")
        until(lambda: f"start {GPU.id}" in s.cloud.asked)
        second = s.service.start("gpu-vm")
        until(lambda: len(s.service.known._changes[GPU.id].reports) == 2)  # it has joined
        other = s.ended(s.service.stop("gpu-vm"))
        assert other.state is OperationState.FAILED
        assert "being started" in other.error.message
        s.cloud.gate.set()
        assert s.ended(first).state is s.ended(second).state is OperationState.DONE
        assert s.cloud.asked.count(f"start {GPU.id}") == 1


def test_who_joined_leads_when_the_first_gives_up():
    with stage() as s:
        s.cloud.gate.clear()
        first = s.service.start("gpu-vm")
        until(lambda: f"start {GPU.id}" in s.cloud.asked)
        second = s.service.start("gpu-vm")
        until(lambda: len(s.service.known._changes[GPU.id].reports) == 2)  # it has joined
        s.service.cancel(first.id)
        assert s.ended(first).state is OperationState.CANCELLED
        s.cloud.gate.set()
        assert s.ended(second).state is OperationState.DONE


def test_stopping_a_machine_names_the_notebooks_that_ran_there():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.set_paths({"k1": "a.ipynb"})
        s.ended(s.service.attach("k1", "cpu-vm"))
        ended = s.ended(s.service.stop("cpu-vm"))
        assert (
            ended.notice == "cpu-vm is off. a.ipynb is back on the free tier with a new kernel; its variables are lost."
        )
        assert ended.steps[-1].text == "One notebook goes back to the free tier"
        assert proxy.status.compute == FREE
        assert any(said.startswith("say cpu-vm was released, and this notebook is back") for said in proxy.log)
        # Nobody has to follow that move: it is no operation of its own, and the notebook's place is not forgotten.
        assert [o.kind for o in s.service.operations()[0]] == ["stop", "attach"]


def test_a_notebook_that_cannot_come_back_stays_and_is_named():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.set_paths({"k1": "a.ipynb"})
        s.ended(s.service.attach("k1", "cpu-vm"))
        proxy.prepare_error = KernelStartError("No room.")
        ended = s.ended(s.service.stop("cpu-vm"))
        assert ended.state is OperationState.DONE
        assert "The kernel of a.ipynb ended with it; attach again, or return to the free tier." in ended.notice
        assert (proxy.status.compute, proxy.log[-1]) == (CPU.id, "say")  # what it was to say is taken back


def test_a_stop_leaves_a_notebook_alone_that_somebody_moves():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        s.service.set_paths({"k1": "a.ipynb"})
        s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting)
        proxy.cell_ended()
        until(lambda: proxy.moving is None)
        s.service.attach("k1", "gpu-vm")
        until(lambda: proxy.waiting)
        assert "The kernel of a.ipynb ended with it" in s.ended(s.service.stop("cpu-vm")).notice
        assert [line for line in proxy.log if line.startswith("swap")] == ["swap " + CPU.id, "swap " + GPU.id]


def test_a_restart_brings_nothing_back():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.set_paths({"k1": "a.ipynb"})
        s.ended(s.service.attach("k1", "cpu-vm"))
        ended = s.ended(s.service.restart("cpu-vm"))
        assert "The kernel of a.ipynb ended with it" in ended.notice
        assert proxy.status.compute == CPU.id


# Size


def test_a_resize_is_an_operation_with_three_steps_and_the_notebooks_are_told():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.set_paths({"k1": "a.ipynb"})
        told: list[str] = []
        stopped = s.service.resizes._stopped

        def note(compute_id: str) -> Return:
            told.append(compute_id)
            return stopped(compute_id)

        s.service.resizes._stopped = note
        s.ended(s.service.attach("k1", "cpu-vm"))
        with pytest.raises(KernelsRunning, match=r"a\.ipynb runs on cpu-vm"):
            s.service.resize("cpu-vm", "NC4as_T4_v3")
        s.cloud.gate.clear()
        operation = s.service.resize("cpu-vm", "nc4as_t4_v3", end_kernels=True)
        assert [step.name for step in operation.steps] == ["release", "change", "start"]
        until(lambda: s.service.operation(operation.id).steps[2].text == "resize: asking")
        assert [step.state.value for step in s.service.operation(operation.id).steps] == ["done", "done", "running"]
        assert told == [CPU.id], "once it is released"
        joined = s.service.resize("cpu-vm", "Standard_NC4as_T4_v3", end_kernels=True)
        other = s.ended(s.service.resize("cpu-vm", "D4ds_v5", end_kernels=True))
        assert "being resized" in other.error.message
        until(lambda: len(s.service.known._changes[CPU.id].reports) == 2)  # it has joined
        s.cloud.gate.set()
        ended = s.ended(operation)
        assert ended.state is s.ended(joined).state is OperationState.DONE
        assert "Standard_NC4as_T4_v3" in ended.notice
        assert "a.ipynb is back on the free tier with a new kernel; its variables are lost." in ended.notice
        assert s.service.known.known(CPU.id).size.name == "Standard_NC4as_T4_v3"
        assert len([a for a in s.cloud.asked if a.startswith("resize")]) == 1


def test_a_machine_that_is_off_has_one_step():
    with stage() as s:
        ended = s.ended(s.service.resize("gpu-vm", "D4ds_v5"))
        assert ended.state is OperationState.DONE
        assert [step.name for step in ended.steps] == ["release", "change"]  # the stand-in releases whatever its state
        assert ended.notice == "gpu-vm has the size Standard_D4ds_v5 (4 CPU · 16 GB) and is off."


def test_free_tier_and_hosts_have_no_sizes(tmp_path: Path):
    from jupyter_dsvm.compute.free_tier import FreeTier
    from jupyter_dsvm.compute.hosts import SSHHosts

    (tmp_path / "config").write_text("Host lab\n")
    hosts = SSHHosts(config_file=str(tmp_path / "config"))
    for provider, compute, says in (
        (FreeTier(), FREE, "The free tier cannot be resized"),
        (hosts, "host:lab", "resized only by hand"),
    ):
        for ask in (
            lambda p, c: p.sizes(c),
            lambda p, c: p.resize(c, "standard_d4ds_v5", lambda text, done: None, Cancel()),
        ):
            with pytest.raises(OperationRefused, match=says):
                ask(provider, compute)


# Attach


def test_attach_and_return():
    proxy = FakeProxy()
    with stage(proxy, kernel_env=["LANG"]) as s:
        operation = s.service.attach("k1", "cpu-vm")
        assert [step.name for step in operation.steps] == ["connect", "kernel", "wait"]
        ended = s.ended(operation)
        assert ended.state is OperationState.DONE
        assert ended.kind == "attach"
        assert "Variables stayed on the free tier" in ended.notice
        assert proxy.status.compute == CPU.id
        assert proxy.moving is None
        start = s.connections.starts[0]
        assert (start["kernel_id"], start["key"], start["session"]) == ("k1", "secret-key", "s1")
        assert set(start["env"]) <= {"LANG"}
        back = s.ended(s.service.attach("k1", FREE))
        assert back.kind == "detach"
        assert [step.name for step in back.steps] == ["kernel", "wait"]
        assert "Variables stayed on cpu-vm" in back.notice
        assert proxy.status.compute == FREE


def test_the_page_may_start_a_machine_that_is_off():
    proxy = FakeProxy()
    with stage(proxy) as s:
        operation = s.service.attach("k1", "gpu-vm")
        assert [step.name for step in operation.steps] == ["start", "boot", "connect", "kernel", "wait"]
        assert s.ended(operation).state is OperationState.DONE
        assert f"start {GPU.id}" in s.cloud.asked


def test_a_machine_somebody_else_started_meanwhile_is_not_started_again():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.service.computes()
        s.cloud.rows[GPU.id] = dataclasses.replace(GPU, power_state=PowerState.RUNNING)
        ended = s.ended(s.service.attach("k1", "gpu-vm"))
        assert [step.name for step in ended.steps] == ["connect", "kernel", "wait"]
        assert f"start {GPU.id}" not in s.cloud.asked


@pytest.mark.parametrize("where", ["start", "connect", "kernel"])
def test_whatever_fails_the_notebook_keeps_its_kernel(where: str):
    proxy = FakeProxy()
    with stage(proxy) as s:
        if where == "start":
            s.cloud.refuse = OperationRefused("Azure refused.")
        elif where == "connect":
            s.connections.error = Unreachable("No answer at 10.0.0.4 port 22.", advice="Check the address.")
        else:
            proxy.prepare_error = KernelStartError("The kernel ended at once.")
        ended = s.ended(s.service.attach("k1", "gpu-vm"))
        assert ended.state is OperationState.FAILED
        assert ended.error.message
        assert [step.name for step in ended.steps if step.state.value == "failed"] == [where]
        assert proxy.status.compute == FREE
        assert proxy.moving is None
        until(lambda: proxy.on_user_cancel == [])  # a moment after the operation's end
        assert not [entry for entry in proxy.log if entry.startswith("swap")]


def test_a_busy_notebook_moves_when_its_cell_has_ended():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        operation = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        until(lambda: s.service.operation(operation.id).steps[-1].state.value == "running")
        assert proxy.moving == CPU.id
        assert s.service.kernels()[0][0].moving_to == CPU.id
        assert proxy.status.compute == FREE
        proxy.cell_ended()
        assert s.ended(operation).state is OperationState.DONE
        assert proxy.moving is None


def test_a_busy_notebook_can_be_interrupted_once_the_new_kernel_has_answered():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        operation = s.service.attach("k1", "cpu-vm", interrupt=True)
        until(lambda: proxy.waiting is not None)
        assert proxy.log == [f"prepare {CPU.id}", f"swap {CPU.id}, interrupting"]
        proxy.cell_ended()
        assert s.ended(operation).state is OperationState.DONE


def test_a_cancelled_wait_keeps_the_old_kernel():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        operation = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        until(lambda: s.service.operation(operation.id).steps[-1].state.value == "running")
        s.service.cancel(operation.id)
        assert s.ended(operation).state is OperationState.CANCELLED
        assert proxy.status.compute == FREE


def test_an_interrupt_while_it_is_prepared_cancels():
    proxy = FakeProxy()
    proxy.answers.clear()
    with stage(proxy) as s:
        operation = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.preparing is not None)
        proxy.user_interrupts()
        ended = s.ended(operation)
        assert ended.state is OperationState.CANCELLED
        assert "interrupted" in ended.error.message
        assert proxy.status.compute == FREE


def test_a_kernel_that_never_answers_is_given_up():
    proxy = FakeProxy()
    proxy.answers.clear()
    with stage(proxy, start_timeout=0.2) as s:
        ended = s.ended(s.service.attach("k1", "cpu-vm"))
        assert ended.state is OperationState.FAILED
        assert ended.error.code == "KernelTimeout"
        assert any(entry.startswith("cancel") for entry in proxy.log)


def test_of_two_attaches_the_last_counts():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        first = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        second = s.service.attach("k1", "lab2/twin")
        assert s.ended(first).state is OperationState.CANCELLED
        until(lambda: s.service.operation(second.id).steps[-1].state.value == "running")
        assert proxy.moving == "azure:twin2-id"
        proxy.cell_ended()
        assert s.ended(second).state is OperationState.DONE
        assert proxy.status.compute == "azure:twin2-id"


def test_a_later_attach_that_fails_leaves_the_earlier_one_waiting():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        first = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        s.connections.error = Unreachable("No answer.")
        assert s.ended(s.service.attach("k1", "lab2/twin")).state is OperationState.FAILED
        proxy.cell_ended()
        assert s.ended(first).state is OperationState.DONE
        assert proxy.status.compute == CPU.id


def test_a_later_attach_takes_over_from_one_that_is_still_prepared():
    proxy = FakeProxy()
    proxy.answers.clear()
    with stage(proxy) as s:
        first = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.preparing is not None)
        proxy.answers.set()
        second = s.service.attach("k1", "lab2/twin")
        ended = s.ended(first)
        assert ended.state is OperationState.CANCELLED
        assert "later attach" in ended.error.message
        assert s.ended(second).state in (OperationState.DONE, OperationState.CANCELLED)


def test_returning_where_it_runs_calls_off_a_waiting_move():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        first = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        stays = s.service.attach("k1", FREE)
        assert stays.state is OperationState.DONE
        assert s.ended(first).state is OperationState.CANCELLED
        proxy.cell_ended()
        assert proxy.status.compute == FREE


def test_a_kernel_that_is_gone_can_be_attached_to_the_same_machine_again():
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.ended(s.service.attach("k1", "cpu-vm"))
        proxy.status = dataclasses.replace(proxy.status, link=LinkState(LinkPhase.GONE, utc_now()))
        assert s.service.computes().computes[1].attached == ()
        proxy.log.clear()
        s.ended(s.service.attach("k1", "cpu-vm"))
        assert f"swap {CPU.id}" in proxy.log


def test_what_cannot_be_attached_is_refused_at_once():
    with stage(FakeProxy()) as s:
        with pytest.raises(NotFound) as e:
            s.service.attach("nobody", "cpu-vm")
        assert e.value.code == "UnknownKernel"
        with pytest.raises(OperationRefused, match="Windows"):
            s.service.attach("k1", "win-vm")
        with pytest.raises(UnknownCompute):
            s.service.attach("k1", "nothing")
        assert s.service.operations()[0] == []


def test_another_language_is_refused():
    proxy = FakeProxy()
    with stage(proxy) as s:
        ended = s.ended(s.service.attach("k1", "cpu-vm", "ir"))
        assert ended.error.code == LanguageMismatch.code
        assert s.service.kernelspecs("cpu-vm")[0]["name"] == "python3"


# From code, and the end


def test_a_kernelspec_of_a_machine_starts_nothing_that_is_billed():
    with stage() as s:
        said: list[str] = []
        backend = s.service.remote_backend(FakeProxy(), "cpu-vm", "python3", lambda text, _: said.append(text))
        assert backend.compute == CPU.id
        assert said[0] == "Connect to cpu-vm"
        with pytest.raises(NotAllowed, match="deallocated"):
            s.service.remote_backend(FakeProxy(), "gpu-vm", "python3")


def test_close_ends_what_is_under_way_and_can_be_called_again():
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        moving = s.service.attach("k1", "cpu-vm")
        until(lambda: proxy.waiting is not None)
        s.cloud.gate.clear()
        starting = s.service.start("gpu-vm")
        until(lambda: f"start {GPU.id}" in s.cloud.asked)
        s.service.close()
        s.service.close()
        assert s.ended(moving).state is OperationState.CANCELLED
        assert s.ended(starting).state is OperationState.CANCELLED
        assert s.cloud.closed
        assert s.connections.closed
        assert s.registry.listeners == []
    assert not [t for t in threading.enumerate() if t.name.startswith("jupyter-dsvm")]


def test_errors_are_raised_to_who_runs_a_change_themselves():
    with stage() as s:
        running = s.service.changes.begin_power("start", "gpu-vm")
        running.cancel.set()
        s.cloud.gate.clear()
        with pytest.raises(Cancelled):
            s.service.changes.run_power(running, "start")
        assert running.value.state is OperationState.CANCELLED


# Reconnecting


@pytest.mark.parametrize(
    ("phase", "hurried"),
    [
        (LinkPhase.LOCAL, []),
        (LinkPhase.CONNECTING, ["azure:cpu-vm-id"]),
        (LinkPhase.CONNECTED, ["azure:cpu-vm-id"]),
        (LinkPhase.RECONNECTING, ["azure:cpu-vm-id"]),
    ],
)
def test_a_lost_connection_is_hurried_for_who_asks(phase: LinkPhase, hurried: list[str]):
    proxy = FakeProxy()
    compute = FREE if phase is LinkPhase.LOCAL else CPU.id
    proxy.status = dataclasses.replace(proxy.status, compute=compute, link=LinkState(phase, utc_now()))
    with stage(proxy) as s:
        s.service.reconnect("k1")
        assert s.connections.hurried == hurried


def test_there_is_no_way_back_to_a_kernel_that_has_ended():
    proxy = FakeProxy()
    proxy.status = dataclasses.replace(
        proxy.status, compute=CPU.id, link=LinkState(LinkPhase.GONE, utc_now(), reason="It is off.")
    )
    with stage(proxy) as s:
        s.service.computes()
        with pytest.raises(ComputeNotRunning) as e:
            s.service.reconnect("k1")
        assert "cpu-vm has ended" in e.value.message
        assert s.connections.hurried == []
        with pytest.raises(NotFound):
            s.service.reconnect("nobody")


def test_another_account_begins_with_a_clean_slate():
    with stage() as s:
        s.cloud.refuse = Forbidden("Not with this role.", code="AuthorizationFailed")
        s.ended(s.service.start("gpu-vm"))
        assert [c.not_allowed for c in s.service.computes().computes if c.name == "gpu-vm"] == [("start",)]
        s.service._account_changed()
        assert [c.not_allowed for c in s.service.computes().computes if c.name == "gpu-vm"] == [()]
