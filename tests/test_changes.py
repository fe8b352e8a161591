"""Changes of machines as operations: their steps, what takes a start back, and what the next server makes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.provider import Cancel, Memo, Report, reach
from jupyter_dsvm.errors import Cancelled, NotFound, OperationRefused, SignInRequired
from jupyter_dsvm.keptchanges import KeptChange, KeptChanges
from jupyter_dsvm.models import Compute, Operation, OperationState, PowerState, Step, StepState, utc_now
from jupyter_dsvm.service import DSVMService
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm
from support.kernels import until

CPU, GPU = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED)


class Cloud(FakeCompute):
    """Notes what a provider notes, and goes on from it."""

    def _change(
        self, kind: str, compute_id: str, power: PowerState, report: Report, cancel: Cancel, memo: Memo | None = None
    ) -> Compute:
        assert memo is not None
        if f"{kind}_operation" not in memo.facts:
            reach(report, "ask", f"Asking for a {kind}")
            memo.note(**{f"{kind}_asked": utc_now()})
            self.asked.append(f"POST {kind} {compute_id}")
            memo.note(**{f"{kind}_operation": "https://azure/1"})
        reach(report, kind, f"The {kind} goes on")
        return super()._change(kind, compute_id, power, report, cancel)

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("start", compute_id, PowerState.RUNNING, report, cancel, memo)

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("stop", compute_id, PowerState.DEALLOCATED, report, cancel, memo)

    @property
    def posts(self) -> list[str]:
        return [a.removeprefix("POST ") for a in self.asked if a.startswith("POST ")]


class Stage:
    def __init__(self, *proxies: FakeProxy) -> None:
        self.cloud = Cloud(CPU, GPU)
        self.service = DSVMService(
            lambda: [FakeFree(), self.cloud], registry=FakeRegistry(*proxies), connections=FakeConnections()
        )

    def ended(self, operation: Operation) -> Operation:
        return self.service.operations_store.get(operation.id).finished.result(10)

    def under_way(self, operation: Operation, step: str) -> None:
        until(lambda: running_step(self.service.operation(operation.id)) == step)


def running_step(operation: Operation) -> str:
    return next((s.name for s in operation.steps if s.state is StepState.RUNNING), "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return tmp_path / "jupyter-dsvm" / "changes"


@contextlib.contextmanager
def stage(*proxies: FakeProxy) -> Iterator[Stage]:
    made = Stage(*proxies)
    try:
        yield made
    finally:
        made.cloud.gate.set()
        made.service.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*")) if folder.exists() else []


# Steps


def test_steps_are_reached_as_the_provider_says(folder: Path):
    with stage() as s:
        s.cloud.gate.clear()
        operation = s.service.start("gpu-vm")
        assert [step.name for step in operation.steps] == ["ask", "start", "boot"]
        s.under_way(operation, "start")
        joined = s.service.start("gpu-vm")
        s.cloud.gate.set()
        for each in (operation, joined):
            assert [step.state for step in s.ended(each).steps] == [StepState.DONE] * 3
        assert [step.name for step in s.ended(s.service.stop("gpu-vm")).steps] == ["ask", "stop"]
        assert [step.name for step in s.service.restart("cpu-vm").steps] == ["ask", "restart", "boot"]


def test_a_remark_on_the_boot_is_in_the_notice(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeConnections, "wait_for_boot", lambda self, compute, cancel: "Its SSH port is closed.")
    with stage() as s:
        assert s.ended(s.service.start("gpu-vm")).notice == "gpu-vm runs. Its SSH port is closed."


def test_the_end_of_a_boot_that_was_no_boot(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def boot(self: FakeConnections, compute: Compute, cancel: Cancel) -> str:
        raise OperationRefused("gpu-vm was started, but another operation has changed it since.")

    monkeypatch.setattr(FakeConnections, "wait_for_boot", boot)
    with stage() as s:
        ended = s.ended(s.service.start("gpu-vm"))
        assert (ended.state, ended.steps[-1].state) == (OperationState.FAILED, StepState.FAILED)


# Taking a start back


def test_release_stops_waiting_and_deallocates(folder: Path):
    with stage() as s:
        s.cloud.gate.clear()
        first = s.service.start("gpu-vm")
        s.under_way(first, "start")
        second = s.service.start("gpu-vm")  # who waits for the same start would ask for it again
        stop = s.service.release(first.id)
        assert (stop.kind, stop.compute, stop.state) == ("stop", GPU.id, OperationState.RUNNING)
        for each in (first, second):
            assert s.ended(each).state is OperationState.CANCELLED
        s.cloud.gate.set()
        assert s.ended(stop).state is OperationState.DONE
        assert s.cloud.posts == [f"start {GPU.id}", f"stop {GPU.id}"]
        assert s.service.known.known(GPU.id).power_state is PowerState.DEALLOCATED


def test_an_attach_that_starts_the_machine_can_be_released(folder: Path):
    proxy = FakeProxy()
    with stage(proxy) as s:
        s.cloud.gate.clear()
        attach = s.service.attach("k1", "gpu-vm")
        s.under_way(attach, "start")
        stop = s.service.release(attach.id)
        assert s.ended(attach).state is OperationState.CANCELLED
        s.cloud.gate.set()
        assert s.ended(stop).state is OperationState.DONE
        assert proxy.status.compute == "free"


def test_a_release_that_crosses_the_end_of_its_start_turns_the_machine_off(folder: Path):
    with stage() as s:
        start = s.service.start("gpu-vm")
        assert s.ended(start).state is OperationState.DONE
        assert s.ended(s.service.release(start.id)).state is OperationState.DONE
        assert s.cloud.posts == [f"start {GPU.id}", f"stop {GPU.id}"]
        assert s.service.known.known(GPU.id).power_state is PowerState.DEALLOCATED


def test_a_release_that_crosses_an_arrival_turns_nothing_off(folder: Path):
    with stage(FakeProxy()) as s:
        attach = s.service.attach("k1", "gpu-vm")
        assert s.ended(attach).state is OperationState.DONE
        with pytest.raises(OperationRefused, match="gpu-vm has come on meanwhile, and runs notebook k1") as caught:
            s.service.release(attach.id)
        assert "billed" in caught.value.advice
        assert s.cloud.posts == [f"start {GPU.id}"]


def test_a_release_long_after_its_start_turns_nothing_off(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jupyter_dsvm.changes.CROSSED_SECONDS", -1.0)
    with stage() as s:
        start = s.service.start("gpu-vm")
        s.ended(start)
        with pytest.raises(OperationRefused, match="ended already"):
            s.service.release(start.id)
        assert s.cloud.posts == [f"start {GPU.id}"]


def test_what_cannot_be_released(folder: Path):
    proxy = FakeProxy(busy=True)
    with stage(proxy) as s:
        attach = s.service.attach("k1", "cpu-vm")  # it runs already, perhaps for somebody else
        s.under_way(attach, "wait")
        with pytest.raises(OperationRefused, match="starts no machine") as caught:
            s.service.release(attach.id)
        assert caught.value.code == "NothingToRelease"
        assert s.service.operation(attach.id).state is OperationState.RUNNING
        s.cloud.gate.clear()
        stop = s.service.stop("cpu-vm")
        with pytest.raises(OperationRefused, match="starts no machine"):
            s.service.release(stop.id)
        s.cloud.gate.set()
        s.ended(stop)
        with pytest.raises(OperationRefused, match="ended already"):
            s.service.release(stop.id)
        with pytest.raises(NotFound):
            s.service.release("none")
        assert s.cloud.posts == [f"stop {CPU.id}"]
        s.service.cancel(attach.id)


def test_a_move_that_fails_after_its_start_says_that_the_machine_is_billed(folder: Path):
    proxy = FakeProxy()
    with stage(proxy) as s:
        connections: Any = s.service.connections
        connections.error = OperationRefused("The port is closed.", advice="Open it.")
        ended = s.ended(s.service.attach("k1", "gpu-vm"))
        assert ended.state is OperationState.FAILED
        assert "Open it. gpu-vm was started for this and is billed: stop it unless you need it." in ended.error.advice
        connections.error = OperationRefused("The port is closed.", advice="Open it.")
        ended = s.ended(s.service.attach("k1", "cpu-vm"))
        assert "billed" not in ended.error.advice


# Kept for the next server


def test_a_change_is_kept_while_it_runs(folder: Path):
    with stage() as s:
        s.cloud.gate.clear()
        operation = s.service.start("gpu-vm")
        s.under_way(operation, "start")
        assert [f.name for f in files(folder)] == [f"{operation.id}.json"]
        s.cloud.gate.set()
        s.ended(operation)
        assert files(folder) == []
        s.cloud.refuse = OperationRefused("No room.")
        s.ended(s.service.start("gpu-vm"))
        assert files(folder) == []
        s.cloud.gate.clear()
        cancelled = s.service.start("gpu-vm")
        until(lambda: files(folder) != [])
        s.service.cancel(cancelled.id)
        s.ended(cancelled)
        assert files(folder) == []


def test_the_next_server_goes_on_under_the_same_id(folder: Path):
    with stage() as first:
        first.cloud.gate.clear()
        begun = first.service.start("gpu-vm")
        first.under_way(begun, "start")
        joined = first.service.start("gpu-vm")
        until(lambda: len(files(folder)) == 2)
        with stage() as beside:  # another server of the same user
            beside.service.claim_changes()
            assert beside.service.operations()[0] == []
        first.service.close()
    assert len(files(folder)) == 2
    with stage() as second:
        second.service.claim_changes()
        shown = second.service.operation(begun.id)
        assert (shown.state, shown.started, running_step(shown)) == (OperationState.RUNNING, begun.started, "ask")
        second.service.resume_changes()
        for each in (begun, joined):
            ended = second.ended(each)
            assert (ended.state, ended.error) == (OperationState.DONE, None)
        assert second.cloud.posts == []
        assert files(folder) == []


def keep(
    folder: Path,
    kind: str,
    compute: str | None = GPU.id,
    started: str | None = None,
    arguments: dict[str, str] | None = None,
    **facts: object,
) -> str:
    """What a server has left that was killed."""
    operation = Operation(
        id=f"{abs(hash((kind, compute, started))):032x}"[-32:],
        kind=kind,
        compute=compute,
        kernel=None,
        state=OperationState.RUNNING,
        steps=(Step("ask", "Ask"), Step(kind, "Do"), Step("boot", "Boot")),
        started=started or utc_now(),
    )
    file = KeptChanges(folder).open(operation.id)
    file.write(KeptChange(operation, "gpu-vm", arguments or {"size": "Standard_D2s_v3"}, facts))
    file.close(ended=False)
    return operation.id


def resumed(s: Stage, operation_id: str) -> Operation:
    s.service.claim_changes()
    s.service.resume_changes()
    return s.service.operations_store.get(operation_id).finished.result(10)


def test_an_idle_stop_that_was_not_accepted_is_not_asked_for_again(folder: Path):
    """Somebody may use the VM by now."""
    operation_id = keep(folder, "stop", compute=GPU.id, arguments={"reason": "was stopped after 30 idle minutes"})
    with stage() as s:
        ended = resumed(s, operation_id)
        assert (ended.state, ended.error is not None) == (OperationState.FAILED, True)
        assert ended.error is not None
        assert ended.error.message.endswith("The VM is watched again from now on.")
        assert s.cloud.posts == []
    operation_id = keep(folder, "stop", compute=CPU.id)
    with stage() as s:
        assert resumed(s, operation_id).state is OperationState.DONE  # somebody has asked for it


def test_a_start_that_was_not_asked_for_is_not_asked_for_again(folder: Path):
    operation_id = keep(folder, "start")
    with stage() as s:
        ended = resumed(s, operation_id)
        assert (ended.state, ended.error.code) == (OperationState.FAILED, "Interrupted")
        assert "gpu-vm is deallocated now" in ended.error.message
        assert s.cloud.posts == []
    assert files(folder) == []


def test_a_restart_that_was_not_asked_for_is_not_asked_for_again(folder: Path):
    operation_id = keep(folder, "restart", CPU.id)
    with stage() as s:
        assert resumed(s, operation_id).error.code == "Interrupted"


def test_a_stop_is_sent_again_unless_it_is_old(folder: Path):
    operation_id = keep(folder, "stop", CPU.id)
    with stage() as s:
        assert resumed(s, operation_id).state is OperationState.DONE
        assert s.cloud.posts == [f"stop {CPU.id}"]
    old = (datetime.now(timezone.utc) - timedelta(hours=2)).isoformat().replace("+00:00", "Z")
    operation_id = keep(folder, "stop", CPU.id, old)
    with stage() as s:
        assert resumed(s, operation_id).error.code == "Interrupted"
        assert s.cloud.posts == []
    operation_id = keep(folder, "stop", CPU.id, old, stop_operation="https://azure/1")
    with stage() as s:
        assert resumed(s, operation_id).state is OperationState.DONE  # Azure was asked then
        assert s.cloud.posts == []


def test_a_kind_that_nobody_knows_is_said_to_be_interrupted(folder: Path):
    operation_id = keep(folder, "polish", None)
    with stage() as s:
        ended = resumed(s, operation_id)
        assert ended.error.code == "Interrupted"
        assert "(polish)" in ended.error.message
    assert files(folder) == []


def test_other_kinds_say_how_they_are_gone_on_with(folder: Path):
    operation_id = keep(folder, "resize", stage="deallocated")
    with stage() as s:
        seen: list[object] = []

        def resume(running: Any) -> None:
            def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
                seen.extend([running.arguments, dict(memo.facts)])
                memo.note(stage="resized")
                seen.append(files(folder)[0].read_text())
                return GPU

            s.service.changes.run(running, act, lambda row: f"{row.name} has another size.")

        s.service.changes.resumers["resize"] = resume
        ended = resumed(s, operation_id)
        assert (ended.state, ended.notice) == (OperationState.DONE, "gpu-vm has another size.")
        assert seen[:2] == [{"size": "Standard_D2s_v3"}, {"stage": "deallocated"}]
        assert '"stage": "resized"' in str(seen[2])
    assert files(folder) == []


def test_arguments_given_at_the_beginning_are_kept(folder: Path):
    with stage() as s:
        running = s.service.operations_store.begin("resize", compute=GPU.id, arguments={"size": "Standard_D8s_v3"})
        release = threading.Event()

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            release.wait(10)
            return GPU

        s.service.spawn(running, lambda: s.service.changes.run(running, act, lambda row: ""))
        until(lambda: [f.suffix for f in files(folder)] == [".json"])  # and not while it is being written
        assert '"size": "Standard_D8s_v3"' in files(folder)[0].read_text()
        release.set()
        s.ended(running.value)


def test_it_waits_until_somebody_signs_in(folder: Path, monkeypatch: pytest.MonkeyPatch):
    operation_id = keep(folder, "stop", CPU.id)
    signed_in = threading.Event()
    get = Cloud.get

    def refuse(self: Cloud, compute_id: str) -> Compute:
        if not signed_in.is_set():
            raise SignInRequired("Nobody is signed in.")
        return get(self, compute_id)

    monkeypatch.setattr(Cloud, "get", refuse)
    with stage() as s:
        s.service.claim_changes()
        s.service.resume_changes()
        until(lambda: "signs in" in s.service.operation(operation_id).steps[0].text or running_text(s, operation_id))
        assert s.cloud.posts == []
        signed_in.set()
        s.service.resuming.account_changed()
        assert s.service.operations_store.get(operation_id).finished.result(10).state is OperationState.DONE


def running_text(s: Stage, operation_id: str) -> bool:
    return any("signs in" in step.text for step in s.service.operation(operation_id).steps)


@pytest.mark.parametrize("by", ["user", "server"])
def test_it_can_be_cancelled_or_left_while_it_waits(folder: Path, monkeypatch: pytest.MonkeyPatch, by: str):
    operation_id = keep(folder, "stop", CPU.id)

    def refuse(self: Cloud, compute_id: str) -> Compute:
        raise SignInRequired("Nobody is signed in.")

    monkeypatch.setattr(Cloud, "get", refuse)
    with stage() as s:
        s.service.claim_changes()
        s.service.resume_changes()
        until(lambda: running_text(s, operation_id))
        if by == "user":
            s.service.cancel(operation_id)
            ended = s.service.operations_store.get(operation_id).finished.result(10)
            assert ended.state is OperationState.CANCELLED
            assert files(folder) == []
    assert len(files(folder)) == (by == "server")


def test_a_cancelled_act_is_not_kept_and_an_own_error_is_said(folder: Path):
    with stage() as s:
        running = s.service.operations_store.begin("access", compute=CPU.id)
        running.cancel.set()

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            raise Cancelled("It was stopped.")

        with pytest.raises(Cancelled):
            s.service.changes.run(running, act, lambda row: "")
        assert running.value.state is OperationState.CANCELLED
        broken = s.service.operations_store.begin("access", compute=CPU.id)

        def bad(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            raise ZeroDivisionError("odd")

        with pytest.raises(ZeroDivisionError):
            s.service.changes.run(broken, bad, lambda row: "")
        assert broken.value.error.code == "Internal"
    assert files(folder) == []


def test_a_report_without_steps_gets_the_sentence():
    said: list[str] = []
    reach(lambda text, fraction: said.append(text), "boot", "It boots")
    assert said == ["It boots"]


def test_a_step_that_was_not_announced_or_is_over_is_only_a_sentence(folder: Path):
    with stage() as s:
        running = s.service.operations_store.begin(
            "resize", compute=CPU.id, steps=[("stop", "Stop"), ("start", "Start")]
        )
        running.step("start")
        for name in ("ask", "stop"):
            running.reach(name, f"about {name}")
            assert running_step(running.value) == "start"
        assert [step.name for step in running.value.steps] == ["stop", "start"]
        running.done()
        assert dataclasses.asdict(running.value)["progress"] == 1.0
