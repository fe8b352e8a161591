"""When a VM is stopped for being idle: the table, the clocks, and a machine of states that is led through everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jupyter_dsvm.idlepolicy import (
    LONGEST_GAP,
    LONGEST_WAIT,
    SOON,
    Decision,
    Reading,
    Settings,
    State,
    Watched,
    again_after,
    duration,
)

OURS = Settings(started_by_us=True)
MINUTE = 60.0


def watched(*readings: Reading) -> Watched:
    one = Watched().started(0.0)
    for reading in readings:
        one = one.seen(reading)
    return one


def quiet(upto: float, since: float = 0.0, **more: Any) -> list[Reading]:
    """One a minute."""
    return [Reading(since + MINUTE * n, **more) for n in range(int((upto - since) // MINUTE) + 1)]


def test_idle_for_half_an_hour() -> None:
    one = watched(*quiet(5 * MINUTE))
    assert one.decide(OURS, 5 * MINUTE) == Decision(State.IDLE, "Stops in 25 min.", 1800.0, 1500.0, 0.0, push=True)
    one = watched(*quiet(25 * MINUTE))
    assert one.decide(OURS, 25 * MINUTE).state is State.STOPS_SOON
    assert one.decide(OURS, 25 * MINUTE).text == "Stops in 5 min."
    assert one.decide(OURS, 1770.0).text == "Stops in 30 s."
    one = watched(*quiet(30 * MINUTE))
    stop = one.decide(OURS, 1800.0)
    assert (stop.state, stop.text, stop.ask_now, stop.push) == (State.STOP, "Idle for 30 min.", True, False)


@pytest.mark.parametrize(
    ("chosen", "state", "text", "push"),
    [
        (Settings(), State.NEVER, "It is not stopped by itself: it was not started from here.", False),
        (Settings(opted_in=True), State.STOP, "Idle for 30 min.", False),
        (Settings(started_by_us=True, idle_minutes=None), State.NEVER, "It is not stopped when it is idle.", True),
        (Settings(started_by_us=True, idle_minutes=40), State.IDLE, "Stops in 10 min.", True),
        (Settings(started_by_us=True, keep_until=2400.0), State.KEPT, "Kept on for 10 min.", True),
        # It has ended just now: everybody has some minutes left.
        (Settings(started_by_us=True, keep_until=1790.0), State.STOPS_SOON, "Stops in 5 min.", True),
        (Settings(started_by_us=True, keep_until=1e9), State.STOP, "Idle for 30 min.", False),
        (Settings(started_by_us=True, hard_limit_hours=0.5), State.STOP, "Its time limit is over.", False),
    ],
)
def test_settings(chosen: Settings, state: State, text: str, push: bool) -> None:
    found = watched(*quiet(30 * MINUTE)).decide(chosen, 1800.0)
    assert (found.state, found.text, found.push) == (state, text, push)


def test_a_busy_cell_is_never_stopped_without_a_hard_limit() -> None:
    one = watched(*quiet(48 * 3600.0, busy=("a cell runs",)))
    now = 48 * 3600.0
    assert one.decide(OURS, now) == Decision(State.BUSY, "In use: a cell runs.", push=True)
    limited = replace(OURS, hard_limit_hours=50)
    assert one.decide(limited, now).text == "In use: a cell runs. Its time limit ends in 2 h."
    soon = watched(*quiet(50 * 3600.0 - 60, busy=("a cell runs",))).decide(limited, 50 * 3600.0 - 60)
    assert (soon.state, soon.stops_in, soon.hard) == (State.STOPS_SOON, 60.0, True)
    over = watched(*quiet(50 * 3600.0, busy=("a cell runs",))).decide(limited, 50 * 3600.0)
    assert (over.state, over.hard, over.ask_now) == (State.STOP, True, True)


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (
            Reading(1740.0, busy=("another user's SSH connection (anna)",)),
            "In use: another user's SSH connection (anna).",
        ),
        (
            Reading(1740.0, busy=("a GPU is at 61%", "the CPU is busy (1.0 cores)")),
            "In use: a GPU is at 61%, and 1 more.",
        ),
        (Reading(1740.0, reachable=False), "It cannot be asked what it does, so it stays on."),
    ],
)
def test_what_is_busy_or_unknown_begins_it_anew(odd: Reading, text: str) -> None:
    one = watched(*quiet(28 * MINUTE), odd)
    found = one.decide(OURS, 1740.0)
    assert (found.state, found.text, found.push) == (State.BUSY, text, odd.reachable)
    one = one.seen(Reading(1800.0))
    assert one.decide(OURS, 1800.0).stops_at == 1800.0 + 1800.0


def test_nothing_heard_for_a_while_is_unknown() -> None:
    one = watched(*quiet(29 * MINUTE))
    assert one.decide(OURS, 29 * MINUTE + LONGEST_GAP + 1).state is State.BUSY
    one = one.seen(Reading(29 * MINUTE + LONGEST_GAP + 1))
    assert one.idle_since == 29 * MINUTE + LONGEST_GAP + 1
    assert Watched().decide(OURS, 0.0).state is State.BUSY


def test_a_laptop_that_slept_has_a_clock_that_stood() -> None:
    one = watched(*(Reading(n * MINUTE, up=n * MINUTE, boot="b") for n in range(29)))
    assert one.idle_since == 0.0
    one = one.seen(Reading(29 * MINUTE, up=9 * 3600.0, boot="b"))
    assert one.idle_since == 29 * MINUTE
    # Also with a reading in between that failed.
    one = watched(*(Reading(n * MINUTE, up=n * MINUTE, boot="b") for n in range(29)))
    one = one.seen(Reading(29 * MINUTE, reachable=False)).seen(Reading(30 * MINUTE, up=9 * 3600.0, boot="b"))
    assert one.idle_since == 30 * MINUTE


def test_a_vm_that_was_started_again_begins_anew() -> None:
    one = watched(*(Reading(n * MINUTE, up=5000 + n * MINUTE, boot="b") for n in range(29))).failed(1700.0)
    one = one.seen(Reading(29 * MINUTE, up=20.0, boot="c"))
    assert (one.idle_since, one.since, one.failures) == (29 * MINUTE, 29 * MINUTE - 20.0, 0)
    found = Watched().seen(Reading(100.0, up=3600.0, boot="b"))
    assert found.since == 100.0 - 3600.0  # of one that ran before this server did: for the hard limit


def test_leases_of_other_servers() -> None:
    one = watched(*quiet(30 * MINUTE)).seen(Reading(1800.0, kept=((600.0, "Keep on 1 h"), (30.0, "moving a notebook"))))
    assert one.decide(OURS, 1860.0).text == "Kept on for 9 min: Keep on 1 h."
    # It ends by itself, and everybody is told in time.
    for n in range(1, 11):
        one = one.seen(Reading(1800.0 + n * MINUTE, kept=((600.0 - n * MINUTE, "Keep on 1 h"),)))
    found = one.decide(OURS, 2400.0)
    assert (found.state, found.stops_at) == (State.STOPS_SOON, 2400.0 + SOON)
    # It was taken back.
    one = watched(*quiet(30 * MINUTE)).seen(Reading(1800.0, kept=((3600.0, "Keep on 1 h"),))).seen(Reading(1860.0))
    assert one.decide(OURS, 1860.0).stops_at == 1860.0 + SOON
    one = one.seen(Reading(1920.0))
    assert one.decide(OURS, 1920.0).stops_at == 1860.0 + SOON


def test_a_deallocation_that_fails_is_tried_again() -> None:
    one = watched(*quiet(30 * MINUTE)).failed(1810.0)
    found = one.decide(OURS, 1811.0)
    assert (found.state, found.ask_now, found.stops_in) == (State.STOP, False, 59.0)
    assert found.text == "Idle for 31 min. It could not be stopped and is still billed; next try in 59 s."
    assert one.decide(OURS, 1870.0).ask_now
    waits = [again_after(n) for n in range(1, 12)]
    assert waits[:4] == [60.0, 120.0, 240.0, 480.0]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
    # Somebody uses it meanwhile: then it is not stopped.
    assert one.seen(Reading(1840.0, busy=("a cell runs",))).decide(OURS, 1870.0).state is State.BUSY


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.2, "1 s"), (59.5, "60 s"), (60, "1 min"), (1441, "25 min"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Life(RuleBasedStateMachine):
    """One VM, with a model that knows everything that has really happened on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.up = 0.0
        self.boot = 1
        self.last_use = 0.0
        """When anything was busy, unknown, kept or out of sight for the last time."""
        self.watched = Watched().started(0.0)
        self.chosen = OURS
        self.heard = -1e9
        self.busy = False

    @rule(seconds=st.integers(1, 90), times=st.integers(1, 40), busy=st.booleans())
    def minutes_go_by(self, seconds: int, times: int, busy: bool) -> None:
        for _ in range(times):
            self.pass_time(seconds)
            self.read(busy)

    @rule(seconds=st.integers(1, 4000))
    def nobody_looks(self, seconds: int) -> None:
        self.pass_time(seconds)

    @rule(seconds=st.integers(int(LONGEST_GAP) + 1, 40_000))
    def this_server_sleeps(self, seconds: int) -> None:
        """Its own clock stands meanwhile, and the VM may have been used."""
        self.up += seconds
        self.last_use = self.now

    @rule()
    def it_does_not_answer(self) -> None:
        self.watched = self.watched.seen(Reading(self.now, reachable=False))
        self.heard, self.busy, self.last_use = self.now, True, self.now

    @rule(left=st.integers(1, 3600))
    def another_keeps_it_on(self, left: int) -> None:
        self.watched = self.watched.seen(Reading(self.now, up=self.up, boot=str(self.boot), kept=((float(left), "x"),)))
        self.after_reading(False)

    @rule(seconds=st.none() | st.integers(1, 7200))
    def keep_on(self, seconds: int | None) -> None:
        self.chosen = replace(self.chosen, keep_until=None if seconds is None else self.now + seconds)

    @rule(minutes=st.sampled_from([None, 1, 5, 30, 120]), hours=st.sampled_from([None, 1, 8]))
    def settings_change(self, minutes: float | None, hours: float | None) -> None:
        self.chosen = replace(self.chosen, idle_minutes=minutes, hard_limit_hours=hours)

    @rule()
    def somebody_starts_it_again(self) -> None:
        self.boot, self.up, self.last_use = self.boot + 1, 0.0, self.now
        self.read(False)

    @rule()
    def it_could_not_be_stopped(self) -> None:
        self.watched = self.watched.failed(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.up += seconds

    def read(self, busy: bool) -> None:
        self.watched = self.watched.seen(
            Reading(self.now, up=self.up, boot=str(self.boot), busy=("a cell runs",) if busy else ())
        )
        self.after_reading(busy)

    def after_reading(self, busy: bool) -> None:
        if busy or self.now - self.heard > LONGEST_GAP:
            self.last_use = self.now
        self.heard, self.busy = self.now, busy

    @invariant()
    def it_is_stopped_only_when_it_may_be(self) -> None:
        found = self.watched.decide(self.chosen, self.now)
        assert found.text.endswith(".")
        if found.state is State.STOP:
            # As whoever is told so does: one more reading, before Azure is asked.
            last = Reading(self.now, up=self.up, boot=str(self.boot))
            found = self.watched.seen(last).decide(self.chosen, self.now)
        if found.state is State.STOP and not found.hard:
            assert self.chosen.idle_minutes is not None
            assert self.now - self.last_use >= self.chosen.idle_minutes * 60
            assert self.chosen.keep_until is None or self.chosen.keep_until <= self.now
        if found.hard and found.state is State.STOP:
            assert self.chosen.hard_limit_hours is not None
        if found.stops_at is not None:
            assert found.stops_at >= self.now
            assert found.stops_in == pytest.approx(found.stops_at - self.now)
        assert found.ask_now == (found.state is State.STOP and not found.stops_in)

    @invariant()
    def a_countdown_comes_true(self) -> None:
        """If nothing happens but quiet readings, it is stopped when it was said to be."""
        found = self.watched.decide(self.chosen, self.now)
        if found.state not in (State.IDLE, State.STOPS_SOON) or found.hard or found.stops_at is None:
            return
        one, now, up = self.watched, self.now, self.up
        fresh = now - self.heard <= 0 and one.reading is not None and one.reading.up == up
        while fresh and now < found.stops_at:
            step = min(60.0, found.stops_at - now)
            now, up = now + step, up + step
            one = one.seen(Reading(now, up=up, boot=str(self.boot)))
            after = one.decide(self.chosen, now)
            assert after.state in (State.IDLE, State.STOPS_SOON, State.STOP)
            assert after.stops_at is not None
            if after.state is not State.STOP:
                assert after.stops_at == pytest.approx(found.stops_at)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30)
