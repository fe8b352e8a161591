"""VMs that are watched and stopped, against a clock that is set: the VM is a double that answers as its relay does."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.azure.schedules import Kind, SafetyStop, Use
from jupyter_dsvm.compute.provider import Cancel, Report
from jupyter_dsvm.errors import BadRequest, ComputeError, DSVMError, OperationRefused, RelayError
from jupyter_dsvm.idlesettings import KeptIdle, KeptIdles
from jupyter_dsvm.idlestops import tag_value
from jupyter_dsvm.idlewatch import IdleWatch
from jupyter_dsvm.idlewords import stop_words
from jupyter_dsvm.models import Compute, IdleState, IdleStop, OperationState, PowerState, utc_at
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.tables import computes_text
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakePipe, FakeProxy, FakeRegistry, dsvm, windows
from support.kernels import until

MINUTE = 60.0
START = datetime(2026, 11, 28, 8, 0, tzinfo=timezone.utc)
TAGGED = dsvm("tagged", tags={"JUPYTER-dsvm-idle-stop": "10"})
GPU = dsvm("gpu-vm", PowerState.DEALLOCATED)


class Time:
    """Both clocks, which only ``stage`` moves."""

    def __init__(self) -> None:
        self.mono, self.wall = 1000.0, START.timestamp()

    def on(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


class Machine(FakeConnections):
    """The connections to one VM, and the VM: ``busy``, and whether it can be reached."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self.time = time
        self.busy: list[dict[str, str]] = []
        self.leases: dict[str, tuple[float, str]] = {}
        self.files: list[str] = []
        self.boot, self.booted = "boot-1", time.mono
        self.connected = True
        self.opened: list[str] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.unknown: set[str] = set()
        self.at_claim: list[dict[str, str]] | None = None
        """What begins once the VM is claimed."""

    def stands(self, compute_id: str) -> bool:
        return self.connected

    def open(self, compute: Compute, cancel: Cancel, set_up: Report | None = None) -> FakePipe:
        self.opened.append(compute.id)
        pipe = super().open(compute, cancel, set_up)
        self.connected = True
        return pipe

    def ask(self, compute_id: str, operation: str, **arguments: Any) -> Future[Any] | None:
        if not self.connected:
            return None
        self.said.append((operation, arguments))
        future: Future[Any] = Future()
        if operation in self.unknown:
            future.set_exception(RelayError(f"there is no {operation}"))
        else:
            future.set_result(self.answer(operation, arguments))
        return future

    def held(self, besides: str = "") -> list[dict[str, Any]]:
        now = self.time.mono
        return [
            {"holder": h, "left": until - now, "why": why}
            for h, (until, why) in self.leases.items()
            if until > now and h != besides
        ]

    def answer(self, operation: str, arguments: dict[str, Any]) -> Any:
        holder = arguments.get("holder", "")
        if operation == "activity":
            up = self.time.mono - self.booted
            return {"busy": self.busy, "leases": self.held(), "up": up, "boot": self.boot, "wall": self.time.wall}
        if operation == "keep":
            self.leases[holder] = self.time.mono + arguments["seconds"], arguments["why"]
            return self.held()
        if operation == "claim":
            others = [one for one in self.held(holder) if one["why"] != "stopping"]
            if not others:
                self.leases[holder] = self.time.mono + arguments["seconds"], "stopping"
                if self.at_claim is not None:
                    self.busy = self.at_claim
            return others
        if operation == "temporary":
            return {"files": self.files, "more": 3 if self.files else 0, "bytes": 1}
        return None

    def asked_for(self, operation: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.said if name == operation]


class Schedule:
    """The one of a VM: what was asked of it, and what holds then."""

    def __init__(self) -> None:
        self.uses: list[tuple[Use, float | None]] = []
        self.result = SafetyStop(
            Kind.OURS, "Azure stops it at 11:00 UTC unless it is used then.", START + timedelta(hours=3)
        )
        self.refused: DSVMError | None = None

    def check(self) -> None:
        if self.refused is not None:
            raise self.refused

    def keep(self, use: Use, until: datetime | None = None, least: timedelta | None = None) -> SafetyStop:
        self.uses.append((use, least.total_seconds() if least is not None else None))
        return dataclasses.replace(self.result, left=timedelta(hours=3))


class Cloud(FakeCompute):
    def __init__(self, *rows: Compute) -> None:
        super().__init__(*rows)
        self.schedule = Schedule()

    def safety(self, compute_id: str) -> Schedule:
        return self.schedule


class Stage:
    def __init__(self, folder: Path, *rows: Compute, **traits: Any) -> None:
        self.time = Time()
        self.cloud = Cloud(*rows)
        self.vm = Machine(self.time)
        self.proxy = FakeProxy()
        registry = FakeRegistry(self.proxy)
        self.service = DSVMService(lambda: [FakeFree(), self.cloud], registry=registry, connections=self.vm, **traits)
        self.events: list[str | None] = []
        self.service.listen(lambda what, thing, _: self.events.append(thing) if what == "computes" else None)
        stops = self.stops = self.service.idle_stops
        stops.safety._clock = lambda: self.time.mono
        stops.house = dataclasses.replace(
            stops.house,
            clock=lambda: self.time.mono,
            wall=lambda: self.time.wall,
            kept=KeptIdles(folder),
            holder=lambda: "us",
        )
        stops._kept = stops.house.kept
        self.service.known.snapshot()

    def started(self, name: str = "gpu-vm") -> IdleWatch:
        """By ``%dsvm start`` or the like; watched without a thread."""
        self.service.changes.run_power(self.service.changes.begin_power("start", name), "start")
        return self.watch(f"azure:{name}-id")

    def watch(self, compute_id: str) -> IdleWatch:
        watch = IdleWatch(self.stops.house, compute_id)
        thread = threading.Thread(target=int)
        thread.start()
        self.stops._watches[compute_id] = watch, thread
        return watch

    def pass_time(self, watch: IdleWatch, minutes: float) -> float | None:
        """A turn a minute, the first now."""
        seconds = watch.turn()
        left = minutes * MINUTE
        while left > 0 and seconds is not None:
            step = min(left, seconds)
            self.time.on(step)
            left -= step
            seconds = watch.turn()
        return seconds

    @property
    def state(self) -> PowerState:
        return self.cloud.rows[GPU.id].power_state

    def shown(self, compute_id: str = GPU.id) -> IdleStop:
        shown = self.stops.of(compute_id)
        assert shown is not None
        return shown


@contextlib.contextmanager
def stage(folder: Path, *rows: Compute, **traits: Any) -> Iterator[Stage]:
    made = Stage(folder, *(rows or (GPU,)), **traits)
    try:
        yield made
    finally:
        made.stops._watches.clear()
        made.service.close()


def moment(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_of_one_that_is_off_the_list_says_what_will_hold(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        (row,) = [c for c in s.service.computes().computes if c.id == GPU.id]
        assert row.idle is not None
        assert (row.idle.state, row.idle.text, row.idle.idle_minutes) == (IdleState.NEVER, "It is off.", 30.0)
        assert s.stops.configure("gpu-vm", idle_minutes=None, hard_limit_hours=8.0).idle_minutes is None
        (row,) = [c for c in s.service.computes().computes if c.id == GPU.id]
        assert row.idle is not None
        assert (row.idle.idle_minutes, row.idle.hard_limit_hours, row.idle.stops_at) == (None, 8.0, None)


def test_idle_for_half_an_hour_and_it_is_off(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        assert watch.turn() == MINUTE
        assert (s.shown().state, s.shown().stops_at) == (IdleState.IDLE, moment(1800))
        assert s.service.computes().computes[-1].idle == s.shown()
        s.vm.files = ["/mnt/scratch/model.bin"]
        s.pass_time(watch, 24)
        assert s.shown().lost == ()
        s.pass_time(watch, 1)
        assert s.shown().state is IdleState.STOPS_SOON
        assert s.shown().lost == ("/mnt/scratch/model.bin", "and 3 more")
        assert s.state is PowerState.RUNNING
        assert s.pass_time(watch, 6) is None
        assert s.state is PowerState.DEALLOCATED
        assert s.time.mono == pytest.approx(1000.0 + 1800.0, abs=1)
        assert s.stops.of(GPU.id) is None
        stop = s.service.operations()[0][0]
        assert (stop.kind, stop.state) == ("stop", OperationState.DONE)
        assert stop.notice.startswith("gpu-vm was stopped after 30 idle minutes.")
        assert s.vm.asked_for("claim") == [{"holder": "us", "seconds": 900.0}]
        until(lambda: s.cloud.schedule.uses[-1][0] is Use.OFF, 5)


def test_events_come_with_news_and_not_each_minute(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        watch.turn()
        before = len(s.events)
        s.pass_time(watch, 9)
        assert len(s.events) == before
        s.vm.busy = [{"kind": "cpu", "text": "the CPU is busy (1.0 cores)"}]
        s.pass_time(watch, 1)
        assert s.shown().text == "In use: the CPU is busy (1.0 cores)."
        assert len(s.events) == before + 1
        s.vm.busy = [{"kind": "cpu", "text": "the CPU is busy (1.1 cores)"}]
        s.pass_time(watch, 1)
        assert s.shown().text == "In use: the CPU is busy (1.1 cores)."
        assert len(s.events) == before + 1
        s.vm.busy = [{"kind": "kernel", "text": "a cell runs"}]  # what a page shows would be wrong from here on
        s.pass_time(watch, 1)
        assert len(s.events) == before + 2


def test_the_notebook_comes_back_with_a_sentence(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        begun = s.service.attach("k1", "gpu-vm")
        until(lambda: s.proxy.status.compute == GPU.id, 5)
        until(s.service.operations_store.get(begun.id).finished.done, 5)  # else it moves still, which keeps the VM on
        assert s.pass_time(watch, 31) is None
        until(lambda: s.proxy.status.compute == "free", 5)
        assert (
            "say gpu-vm was stopped after 30 idle minutes, and this notebook is back on the free tier with a new kernel. Its "
            "variables are lost; run the cells that make them." in s.proxy.log
        )
        assert "back on the free tier" in s.service.operations()[0][0].notice


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("kernel", "a cell runs"),
        ("gpu", "a GPU is at 61%"),
        ("connection", "another user's SSH connection (anna)"),
        ("unknown", "the GPUs do not say how busy they are"),
    ],
)
def test_what_keeps_it_on(tmp_path: Path, kind: str, text: str) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.busy = [{"kind": kind, "text": text}]
        s.pass_time(watch, 300)
        assert (s.shown().state, s.shown().text, s.shown().stops_at) == (IdleState.BUSY, f"In use: {text}.", None)
        assert s.state is PowerState.RUNNING
        s.vm.busy = []
        s.pass_time(watch, 29)
        assert s.state is PowerState.RUNNING
        assert s.pass_time(watch, 2) is None


def test_a_cell_that_this_server_has_sent_keeps_it_on(tmp_path: Path) -> None:
    """Whatever the VM says."""
    with stage(tmp_path) as s:
        watch = s.started()
        s.proxy.status = dataclasses.replace(s.proxy.status, compute=GPU.id, execution_state="busy")
        s.pass_time(watch, 60)
        assert s.shown().text == "In use: a cell runs."


def test_what_is_ignored_does_not_keep_it_on(tmp_path: Path) -> None:
    with stage(tmp_path, idle_ignore=["cpu"]) as s:
        watch = s.started()
        s.vm.busy = [{"kind": "cpu", "text": "the CPU is busy (1.0 cores)"}]
        assert s.pass_time(watch, 31) is None


@pytest.mark.parametrize("answer", [None, [], {"busy": 1}, {"busy": [], "leases": [], "up": "x", "boot": ""}])
def test_nonsense_counts_as_no_answer(tmp_path: Path, answer: Any) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.answer = lambda operation, arguments: answer  # type: ignore[method-assign]
        s.pass_time(watch, 60)
        assert s.shown().state is IdleState.BUSY
        assert s.shown().text.startswith("It cannot be asked what it does, so it stays on")


def test_one_that_was_forgotten_gets_a_connection(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.connected = False
        watch.turn()
        assert s.vm.opened == [GPU.id]
        assert s.stops.connected() == {GPU.id}
        assert s.shown().state is IdleState.IDLE
        # It cannot be connected to: it is tried less and less often, and Azure's schedule is left to come.
        s.vm.connected, s.vm.error = False, DSVMError("It refuses the key.")
        pushed = len(s.cloud.schedule.uses)
        s.pass_time(watch, 60)
        assert 4 < len(s.vm.opened) < 12
        assert s.shown().text == "It cannot be asked what it does, so it stays on. It refuses the key."
        assert len(s.cloud.schedule.uses) == pushed
        assert s.state is PowerState.RUNNING


def test_unknown_for_a_while_begins_it_anew(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 20)
        s.vm.connected, s.vm.error = False, DSVMError("It is out of reach.")
        s.pass_time(watch, 1)
        s.vm.connected = True
        s.pass_time(watch, 1)
        assert s.shown().stops_at == moment(23 * MINUTE + 1740 - MINUTE)


def test_a_deallocation_that_fails_is_tried_again_and_said_once(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.cloud.refuse = OperationRefused("There is a lock on it.", advice="Take it away.")
        s.pass_time(watch, 30)
        stops = [a for a in s.cloud.asked if a.startswith("stop")]
        assert len(stops) == 1
        assert s.shown().state is IdleState.STOP
        assert s.shown().text == (
            "Nobody uses it. It could not be stopped and is still billed; it is tried again. There is a lock on it."
        )
        assert s.shown().stops_at == moment(1860)
        failed = s.service.operations()[0][0]
        assert failed.error is not None
        assert failed.state is OperationState.FAILED
        assert "us" not in {one["holder"] for one in s.vm.held()}  # the claim is given back
        s.pass_time(watch, 7)
        assert len([a for a in s.cloud.asked if a.startswith("stop")]) == 4  # after 1, 2 and 4 minutes
        assert [o.id for o in s.service.operations()[0] if o.kind == "stop"] == [failed.id]
        s.cloud.refuse = None
        assert s.pass_time(watch, 8) is None
        assert s.state is PowerState.DEALLOCATED


def test_somebody_uses_it_before_the_next_try(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.cloud.refuse = ComputeError("Azure does not answer.")
        s.pass_time(watch, 30)
        s.cloud.refuse, s.vm.busy = None, [{"kind": "kernel", "text": "a cell runs"}]
        s.pass_time(watch, 60)
        assert (s.state, s.shown().state) == (PowerState.RUNNING, IdleState.BUSY)


def test_a_cell_that_begins_while_it_is_being_stopped(tmp_path: Path) -> None:
    """After the claim, while its files come back: Azure is not asked."""
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.at_claim = [{"kind": "kernel", "text": "a cell runs"}]
        s.pass_time(watch, 30)
        assert s.state is PowerState.RUNNING
        stop = s.service.operations()[0][0]
        assert (stop.state, stop.error and stop.error.message) == (
            OperationState.CANCELLED,
            "gpu-vm stays on: a cell runs.",
        )
        assert s.shown().state is IdleState.BUSY
        assert s.vm.held() == []
        assert not [a for a in s.cloud.asked if a.startswith("stop")]


def test_another_server_keeps_it_on(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.leases["other"] = s.time.mono + 3600, "Keep on 1 h"
        s.pass_time(watch, 40)
        assert (s.shown().state, s.shown().text) == (IdleState.KEPT, "Kept on: Keep on 1 h.")
        assert s.shown().kept_until == moment(3600)
        assert s.vm.asked_for("claim") == []
        s.pass_time(watch, 21)
        assert (s.shown().state, s.shown().stops_at) == (IdleState.STOPS_SOON, moment(3900))
        assert s.pass_time(watch, 5) is None


def test_a_lease_that_is_taken_at_the_last_moment(tmp_path: Path) -> None:
    """Between the last reading and the claim."""
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 29)
        answer = s.vm.answer

        def late(operation: str, arguments: dict[str, Any]) -> Any:
            if operation == "claim":
                s.vm.leases["other"] = s.time.mono + 3600, "Keep on 1 h"
            return answer(operation, arguments)

        s.vm.answer = late  # type: ignore[method-assign]
        s.pass_time(watch, 2)
        assert (s.state, s.shown().state) == (PowerState.RUNNING, IdleState.KEPT)


def test_keep_on_and_its_end(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 26)
        kept = s.stops.keep("gpu-vm", 3600)
        assert (kept.state, kept.kept_until) == (IdleState.KEPT, moment(26 * MINUTE + 3600))
        watch.turn()
        assert s.vm.held() == [{"holder": "us", "left": 3600.0, "why": "Keep on 1 h"}]
        s.pass_time(watch, 50)
        assert s.shown().state is IdleState.KEPT
        # A longer one needs a schedule that lies farther ahead.
        s.stops.keep("gpu-vm", 6 * 3600)
        watch.turn()
        assert s.cloud.schedule.uses[-1] == (Use.USED, 6 * 3600)
        ended = s.stops.keep("gpu-vm", 0)
        assert (ended.state, ended.kept_until) == (IdleState.STOPS_SOON, None)  # nobody is surprised
        watch.turn()
        assert s.vm.held() == []
        assert s.state is PowerState.RUNNING
        assert s.pass_time(watch, 6) is None


def test_a_hard_limit_comes_whatever_runs(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.busy = [{"kind": "kernel", "text": "a cell runs"}]
        s.stops.configure("gpu-vm", hard_limit_hours=2.0)
        s.pass_time(watch, 114)
        assert (s.shown().state, s.shown().hard, s.shown().stops_at) == (IdleState.BUSY, True, moment(7200))
        assert s.shown().text == "In use: a cell runs. It is stopped at its time limit, whatever runs."
        s.pass_time(watch, 2)
        assert s.shown().state is IdleState.STOPS_SOON
        assert s.pass_time(watch, 5) is None
        assert s.service.operations()[0][0].notice.startswith("gpu-vm was stopped at its time limit of 2 h.")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10", 10.0), ("true", True), ("", True), ("Off", False), ("0", False), ("0.2", None), ("often", None), ("1e9", None),
    ],
)  # fmt: skip
def test_the_tag(value: str, expected: float | bool | None) -> None:
    assert tag_value({"Jupyter-DSVM-idle-stop": value}, "jupyter-dsvm-idle-stop") == expected
    assert tag_value({"other": value}, "jupyter-dsvm-idle-stop") is None
    assert tag_value({"": value}, "") is None


def test_whose_vm_may_be_stopped(tmp_path: Path) -> None:
    """One that somebody else has started is not, but for its tag or a person's word."""
    theirs = dsvm("theirs")
    with stage(tmp_path, theirs, TAGGED) as s:
        watch = s.watch(theirs.id)
        s.pass_time(watch, 60)
        assert (s.shown(theirs.id).state, s.cloud.rows[theirs.id].power_state) == (IdleState.NEVER, PowerState.RUNNING)
        assert s.vm.opened == []
        assert {use for use, _ in s.cloud.schedule.uses} == {Use.IDLE}  # only looked at
        s.cloud.schedule.result = SafetyStop(Kind.NONE, "No safety stop: none is set.")
        s.pass_time(watch, 11)
        assert s.shown(theirs.id).safety is None  # nor was one promised
        tagged = s.watch(TAGGED.id)
        assert s.pass_time(tagged, 11) is None
        assert s.cloud.rows[TAGGED.id].power_state is PowerState.DEALLOCATED
        s.stops.configure("theirs", idle_minutes=20)
        assert s.pass_time(watch, 21) is None
        assert s.cloud.rows[theirs.id].power_state is PowerState.DEALLOCATED


def test_never_for_this_one(tmp_path: Path) -> None:
    with stage(tmp_path, TAGGED, GPU) as s:
        watch = s.started()
        assert s.stops.configure("gpu-vm", idle_minutes=None).idle_minutes is None
        s.pass_time(watch, 120)
        assert (s.shown().state, s.shown().text) == (IdleState.NEVER, "It is not stopped when it is idle.")
        # The dead man's switch stays: it is for servers that died.
        assert s.cloud.schedule.uses[-1][0] is Use.USED


def test_the_schedule_is_moved_on_while_it_is_used_and_the_vm_is_told(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.vm.busy = [{"kind": "kernel", "text": "a cell runs"}]
        s.pass_time(watch, 60)
        assert [use for use, _ in s.cloud.schedule.uses] == [Use.USED] * 7  # at once, and every ten minutes
        told = s.vm.asked_for("strikes")
        assert len(told) == 7
        assert told[0] == {
            "in": 3 * 3600.0,
            "text": "Azure's auto-shutdown stops gpu-vm at 11:00 UTC, whatever runs there.",
        }
        assert s.shown().safety is not None
        assert (s.shown().safety.kind, s.shown().safety.at) == ("ours", moment(3 * 3600))
        # A relay of an earlier version.
        s.vm.unknown = {"strikes", "temporary"}
        s.pass_time(watch, 30)
        assert s.shown().text == "In use: a cell runs."


def test_no_safety_stop_is_said_and_fails_nothing(tmp_path: Path) -> None:
    refused = OperationRefused(
        "gpu-vm can have no safety stop.", advice="Register it.", code="MissingSubscriptionRegistration"
    )
    with stage(tmp_path) as s:
        s.cloud.schedule.refused = refused
        s.cloud.schedule.result = SafetyStop(Kind.NONE, f"No safety stop: {refused.message}", error=refused)
        watch = s.started()
        start = s.service.operations()[0][0]
        assert start.state is OperationState.DONE
        assert "No safety stop: gpu-vm can have no safety stop. Register it." in start.notice
        watch.turn()
        assert s.shown().safety is not None
        assert s.shown().safety.text == "No safety stop: gpu-vm can have no safety stop. Register it."
        assert s.pass_time(watch, 31) is None


def test_a_stop_by_hand_disables_ours(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        watch.turn()
        s.service.changes.run_power(s.service.changes.begin_power("stop", "gpu-vm"), "stop")
        until(lambda: s.cloud.schedule.uses[-1][0] is Use.OFF, 5)
        assert watch.turn() is None
        assert s.stops.house.kept.read(GPU.id).started is None


def test_off_by_somebody_else(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        watch.turn()
        s.cloud.rows[GPU.id] = GPU
        s.vm.connected, s.vm.error = False, DSVMError("It is out of reach.")
        s.cloud.look = s.cloud.get  # type: ignore[attr-defined]
        assert watch.turn() is None
        assert s.stops.of(GPU.id) is None
        # Whoever starts it next has nothing to do with us.
        assert s.stops.house.kept.read(GPU.id) == KeptIdle(GPU.id)


def test_stopped_and_still_billed(tmp_path: Path) -> None:
    """Somebody has shut it down on the VM itself: nothing runs there, and Azure bills it."""
    with stage(tmp_path) as s:
        watch = s.started()
        watch.turn()
        s.service.known.learn(dataclasses.replace(s.cloud.rows[GPU.id], power_state=PowerState.STOPPED))
        s.cloud.rows[GPU.id] = dataclasses.replace(s.cloud.rows[GPU.id], power_state=PowerState.STOPPED)
        s.vm.connected = False
        assert s.pass_time(watch, 31) is None
        assert s.state is PowerState.DEALLOCATED
        assert "was released, since it was stopped and still billed" in s.service.operations()[0][0].notice


def test_clocks_jump(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 20)
        s.time.wall += 7200  # somebody sets this server's clock
        s.pass_time(watch, 1)
        assert s.shown().stops_at == moment(7200 + 1800)
        s.time.wall -= 86400
        s.pass_time(watch, 1)
        assert s.state is PowerState.RUNNING
        assert s.shown().stops_at == moment(7200 + 1800 - 86400)
        s.vm.booted -= 8 * 3600  # this computer slept, and its clock with it
        s.pass_time(watch, 1)
        assert s.shown().stops_at == moment(7200 - 86400 + 22 * MINUTE + 1800)


def test_after_a_restart_the_countdown_begins_anew(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.stops.keep("gpu-vm", 3600)
        s.pass_time(watch, 20)
        booted = s.vm.booted
    running = dataclasses.replace(GPU, power_state=PowerState.RUNNING)
    with stage(tmp_path, running) as s:
        s.vm.booted = booted
        s.time.on(1200)
        assert [kept.name for kept in s.stops.house.kept.all()] == ["gpu-vm"]
        again = s.watch(GPU.id)
        again.turn()
        assert s.shown().state is IdleState.KEPT
        assert s.shown().kept_until == moment(3600)
        s.stops.keep("gpu-vm", 0)
        assert s.pass_time(again, 29) is not None
        assert s.pass_time(again, 2) is None
    # It was started again meanwhile, by nobody knows whom.
    with stage(tmp_path) as s:
        s.started().turn()
    with stage(tmp_path, running) as s:
        s.vm.boot = "boot-2"
        again = s.watch(GPU.id)
        s.pass_time(again, 60)
        assert s.shown().state is IdleState.NEVER
        until(lambda: Use.OFF in [use for use, _ in s.cloud.schedule.uses], 5)
        assert s.state is PowerState.RUNNING or s.cloud.rows[GPU.id].power_state is PowerState.RUNNING


def test_a_restart_while_it_is_watched_changes_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 10)
        s.vm.boot, s.vm.booted = "boot-2", s.time.mono
        s.pass_time(watch, 1)
        assert s.shown().stops_at == moment(10 * MINUTE + 1800)
        assert s.pass_time(watch, 31) is None


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with stage(tmp_path, GPU, windows("win")) as s:
        for name, wanted, kind, text in (
            ("free", {"keep_seconds": 60}, OperationRefused, "The free tier is no VM"),
            ("win", {"idle_minutes": 30}, OperationRefused, "runs Windows"),
            ("gpu-vm", {"keep_seconds": 60}, ComputeError, "gpu-vm is off"),
            ("gpu-vm", {"keep_seconds": -1}, BadRequest, "keep_seconds is -1"),
            ("gpu-vm", {"keep_seconds": 1e9}, BadRequest, "It is 0 to 86400"),
            ("gpu-vm", {"hard_limit_hours": 0}, BadRequest, "hard_limit_hours is 0"),
        ):
            with pytest.raises(kind) as e:
                s.stops.configure(name, **wanted)
            assert text in str(e.value)
            assert isinstance(e.value, DSVMError)
            assert e.value.advice
        chosen = s.stops.configure("gpu-vm", idle_minutes=45)
        assert (chosen.state, chosen.text, chosen.idle_minutes) == (IdleState.NEVER, "It is off.", 45)
        assert s.started().turn() is not None
        assert s.shown().idle_minutes == 45


def test_the_threads_of_a_server(tmp_path: Path) -> None:
    """One for each VM that is watched, which ends with the server or the VM; none before the server runs."""
    with stage(tmp_path, GPU, TAGGED, idle_check_seconds=0.1) as s:
        s.service.computes(refresh=True)
        assert s.stops.of(TAGGED.id) is None
        s.stops.begin()
        until(lambda: s.stops.of(TAGGED.id) is not None, 5)
        assert s.stops.of(GPU.id) is None
        s.service.start("gpu-vm")
        until(lambda: s.stops.of(GPU.id) is not None, 5)
        s.service.stop("gpu-vm")
        until(lambda: s.stops.of(GPU.id) is None, 5)
        s.service.close()
        assert not [t.name for t in threading.enumerate() if t.name.startswith("jupyter-dsvm-idle")]


def test_files(tmp_path: Path) -> None:
    kept = KeptIdles(tmp_path / "idle")
    assert kept.read("azure:a") == KeptIdle("azure:a")
    kept.change("azure:a", lambda one: dataclasses.replace(one, started=5.0, choices={"idle_minutes": None}))
    assert KeptIdles(tmp_path / "idle").read("azure:a") == KeptIdle(
        "azure:a", started=5.0, choices={"idle_minutes": None}
    )
    (file,) = (tmp_path / "idle").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept.change("azure:a", KeptIdle.off).choices == {"idle_minutes": None}
    for text in ("", "[]", '{"version": 2}', '{"version": 1, "compute": "azure:a", "started": NaN}'):
        file.write_text(text)
        assert kept.read("azure:a") == KeptIdle("azure:a")
        assert kept.all() == []
    kept.change("azure:a", lambda one: KeptIdle(one.compute))
    assert not file.exists()
    # Where nothing can be kept, what was chosen holds for the answer.
    (tmp_path / "file").write_text("")
    nowhere = KeptIdles(tmp_path / "file")
    assert nowhere.change("azure:a", lambda one: dataclasses.replace(one, started=5.0)).started == 5.0


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (None, ""),
        (IdleStop(IdleState.BUSY, "In use: a cell runs."), ""),
        (IdleStop(IdleState.IDLE, "Nobody uses it.", moment(1500)), "Stops in 25 min."),
        (IdleStop(IdleState.STOPS_SOON, "Nobody uses it.", moment(50)), "Stops in 50 s."),
        (IdleStop(IdleState.BUSY, "In use: a cell runs.", moment(7200), hard=True), "Stops in 2 h."),
        (IdleStop(IdleState.KEPT, "Kept on.", None, moment(3300)), "Kept on for 55 min."),
        (IdleStop(IdleState.STOP, "Nobody uses it.", moment(0)), "It is being stopped."),
        (IdleStop(IdleState.STOP, "It could not be stopped.", moment(90)), "Its stop is tried again in 2 min."),
        (IdleStop(IdleState.IDLE, "Nobody uses it.", "soon"), ""),
    ],
)
def test_words(stop: IdleStop | None, words: str) -> None:
    assert stop_words(stop, START.timestamp()) == words


def test_tables_have_the_countdown() -> None:
    running = dataclasses.replace(GPU, power_state=PowerState.RUNNING)
    kept = IdleStop(IdleState.KEPT, "Kept on.", None, utc_at(time.time() + 3300))
    assert "running, kept on for 55 min" in computes_text([dataclasses.replace(running, idle=kept)], ())
    assert "running, stops" not in computes_text([running], ())


def test_the_last_word_is_for_the_command_line(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 5)
        row = s.cloud.rows[GPU.id]
        last = s.stops.last_of(row)
        assert last is not None
        assert (last.state, last.stops_at) == (IdleState.IDLE, moment(1800))
        assert s.stops.last_of(GPU) is None


def test_the_server_ends_while_it_stops_one(tmp_path: Path) -> None:
    with stage(tmp_path) as s:
        watch = s.started()
        s.pass_time(watch, 29)
        s.cloud.gate.clear()
        turning = threading.Thread(target=s.pass_time, args=(watch, 1.1))
        turning.start()
        until(lambda: any(o.kind == "stop" for o in s.service.operations()[0]), 5)
        until(lambda: any(a.startswith("stop") for a in s.cloud.asked), 5)
        s.service.close()
        turning.join(10)
        assert not turning.is_alive()
        # Begun, and not given up: the next server goes on with it, or finds the VM off.
        assert s.stops.house.kept.read(GPU.id).started is not None
