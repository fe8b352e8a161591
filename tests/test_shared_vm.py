"""A VM that the servers of several people watch: what each asks of whoever has it, and what each shows, against a set clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.schedules import SafetyStop, Use
from jupyter_dsvm.compute.brokershapes import rule_of
from jupyter_dsvm.compute.provider import IdleRule
from jupyter_dsvm.errors import DSVMError, OperationRefused, StaysOn
from jupyter_dsvm.idlepolicy import Reading, Settings, State, Watched
from jupyter_dsvm.idlewatch import IdleWatch
from jupyter_dsvm.models import IdleState, OperationState, PowerState
from support.fakes import dsvm
from support.kernels import until
from test_idlestops import GPU, Schedule, Stage, stage

SAID = "gpu-vm stays on: 1 other person uses it. It is stopped when they do not any more."


class Told(Schedule):
    """What the broker is told: seconds for which nothing has gone on, each time."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: list[float] = []

    def keep(
        self, use: Use, until: datetime | None = None, least: timedelta | None = None, idle: float = 0.0
    ) -> SafetyStop:
        if use is Use.USED:
            self.idle.append(idle)
        return super().keep(use, until, least)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Stage]:
    """Somebody else has started the VM."""
    with stage(tmp_path, dsvm("gpu-vm", PowerState.RUNNING)) as made:
        made.cloud.idle_rule = IdleRule(30.0)  # type: ignore[attr-defined]
        made.cloud.schedule = Told()
        yield made


def attached(s: Stage) -> IdleWatch:
    watch = s.watch(GPU.id)  # before it would get a thread
    begun = s.service.attach("k1", "gpu-vm")
    until(lambda: s.proxy.status.compute == GPU.id, 5)
    until(s.service.operations_store.get(begun.id).finished.done, 5)
    return watch


def told(s: Stage) -> list[float]:
    schedule = s.cloud.schedule
    assert isinstance(schedule, Told)
    return schedule.idle


def test_who_is_idle_leaves_it_to_the_others_and_that_is_no_failure(shared: Stage) -> None:
    s = shared
    watch = attached(s)
    s.cloud.refuse = StaysOn(SAID)
    s.pass_time(watch, 29)
    assert (s.shown().state, s.shown().idle_minutes) == (IdleState.STOPS_SOON, 30.0)
    assert told(s)[-2:] == [600.0, 1200.0]
    assert set(told(s)[:-2]) == {0.0}
    s.pass_time(watch, 31)
    assert (s.shown().state, s.shown().text, s.shown().stops_at) == (IdleState.KEPT, SAID, None)
    stops = [o for o in s.service.operations()[0] if o.kind == "stop"]
    assert [(o.state, o.notice) for o in stops] == [(OperationState.DONE, SAID)], "asked once, and done"
    assert [step.state.value for step in stops[0].steps] == ["done"] * len(stops[0].steps)
    assert s.proxy.status.compute == GPU.id, "the notebook stays"
    assert s.vm.held() == [], "the claim is taken back"
    assert told(s)[-1] == pytest.approx(3600.0, abs=600), "and the broker goes on hearing that nothing goes on"
    # She runs something: they are told at once, and it begins anew.
    count = len(told(s))
    s.stops.used(GPU.id)
    s.vm.busy = [{"kind": "kernel", "text": "a cell runs"}]
    watch.turn()
    assert told(s)[count:] == [0.0]
    assert (s.shown().state, s.shown().text) == (IdleState.BUSY, "In use: a cell runs.")
    s.vm.busy = []
    s.pass_time(watch, 31)
    assert len([o for o in s.service.operations()[0] if o.kind == "stop"]) == 2


def test_after_the_others_it_is_stopped_and_the_notebook_comes_back(shared: Stage) -> None:
    s = shared
    watch = attached(s)
    s.cloud.refuse = StaysOn(SAID)
    s.pass_time(watch, 31)
    # The last of the others has asked, too. Azure releases it; it does not answer any more, and is not off yet.
    s.vm.connected, s.vm.error = False, DSVMError("It is out of reach.")
    s.pass_time(watch, 1)
    assert s.shown().state is IdleState.BUSY
    s.cloud.rows[GPU.id] = dataclasses.replace(s.cloud.rows[GPU.id], power_state=PowerState.DEALLOCATED)
    s.vm.connected, s.vm.error = False, DSVMError("It is out of reach.")
    s.cloud.look = s.cloud.get  # type: ignore[attr-defined]
    assert watch.turn() is None
    until(lambda: s.proxy.status.compute == "free", 5)
    assert any(
        line.startswith(
            "say gpu-vm was stopped, since none of those who share it used it any more, and this notebook is back"
        )
        for line in s.proxy.log
    )


def test_the_last_one_s_stop_is_a_stop(shared: Stage) -> None:
    s = shared
    watch = attached(s)
    assert s.pass_time(watch, 31) is None
    assert s.state is PowerState.DEALLOCATED
    until(lambda: s.proxy.status.compute == "free", 5)


def test_without_notebooks_there_it_is_not_ours_to_watch(shared: Stage) -> None:
    """A whole class does not connect to it in order to stop it."""
    s = shared
    s.cloud.rows[GPU.id] = GPU
    s.service.known.snapshot(refresh=True)
    watch = s.started()
    s.vm.connected = False
    s.pass_time(watch, 120)
    assert s.shown().state is IdleState.NEVER
    assert s.shown().text == "The hub stops it when nobody uses it."
    assert (s.vm.opened, s.vm.said, told(s), s.state) == ([], [], [], PowerState.RUNNING)


def test_unknown_counts_as_use(shared: Stage) -> None:
    s = shared
    watch = attached(s)
    s.pass_time(watch, 10)
    s.vm.connected, s.vm.error = False, DSVMError("It is out of reach.")
    s.pass_time(watch, 40)
    assert told(s)[-3:] == [0.0, 0.0, 0.0]


def test_keep_on_counts_as_use_and_longer_minutes_are_refused(shared: Stage) -> None:
    s = shared
    watch = attached(s)
    s.stops.keep("gpu-vm", 3600.0)
    s.pass_time(watch, 50)
    assert set(told(s)) == {0.0}
    assert s.state is PowerState.RUNNING
    for minutes in (31.0, None):
        with pytest.raises(OperationRefused, match="stops after 30 idle minutes at the latest"):
            s.stops.configure("gpu-vm", idle_minutes=minutes)
    assert s.stops.configure("gpu-vm", idle_minutes=10.0).idle_minutes == 10.0
    s.cloud.idle_rule = IdleRule(5.0)  # type: ignore[attr-defined]
    assert watch.settings_now().idle_minutes == 5.0, "a rule that came later"


def test_a_person_s_own_stop_ends_well_and_leaves_the_notebook(shared: Stage) -> None:
    s = shared
    attached(s)
    s.cloud.refuse = StaysOn(SAID)
    running = s.service.changes.begin_power("stop", "gpu-vm")
    row = s.service.changes.run_power(running, "stop")
    assert (row.power_state, running.value.state, running.value.notice) == (
        PowerState.RUNNING,
        OperationState.DONE,
        SAID,
    )
    assert s.proxy.status.compute == GPU.id


QUIET, BUSY, AWAY = Reading(0.0, boot="b"), Reading(0.0, boot="b", busy=("a cell runs",)), Reading(0.0, reachable=False)


@given(st.lists(st.sampled_from([QUIET, BUSY, AWAY, "left"]), max_size=80))
def test_what_was_left_to_others_is_asked_for_again_after_it_was_used_only(steps: list[Reading | str]):
    """A reading a minute. ``left``: the stop is asked for, and others use it."""
    settings, watched, quiet, was_left = Settings(opted_in=True, shared=True), Watched(), 0, False
    for minute, step in enumerate(steps * 3):
        now = 60.0 * minute
        if isinstance(step, str):
            if watched.decide(settings, now).state is State.STOP:
                watched, was_left = watched.left_to_others(SAID), True
            step = QUIET
        watched = watched.seen(dataclasses.replace(step, at=now, up=now))
        quiet = quiet + 1 if step is QUIET else 0
        was_left = was_left and step is QUIET
        decision = watched.decide(settings, now)
        assert (decision.state is State.KEPT) == was_left
        assert (decision.state is State.STOP) == (quiet > 30 and not was_left)


@pytest.mark.parametrize(
    ("said", "minutes"),
    [(30, 30.0), (0.5, 0.5), (None, None), (0, None), (-1, None), (True, None), ("30", None), (float("inf"), None)],
)
def test_the_rule_of_a_broker(said: object, minutes: float | None) -> None:
    assert rule_of(said) == IdleRule(minutes)
