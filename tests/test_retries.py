"""When a lost connection is tried again, and when it is taken for dead. No clock: the test says what time it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.errors import AuthenticationError, DSVMError, HostKeyError, ProtocolError, Throttled, Unreachable
from jupyter_dsvm.kernels.pipetimes import PipeTimes
from jupyter_dsvm.kernels.pulse import STEP, Pulse
from jupyter_dsvm.kernels.retries import REFUSALS, SHORT, Retries

TIMES = PipeTimes()
LOST = Unreachable("lost")


def retries(jitter: float = 1.0) -> Retries:
    return Retries(TIMES, lambda: jitter)


def test_the_first_try_comes_at_once_and_then_later_and_later() -> None:
    r, now, waits = retries(), 100.0, []
    again = r.failed(LOST, 60.0, now)
    while again is not None and len(waits) < 60:
        waits.append(again.wait)
        now += again.wait + 0.01
        again = r.failed(LOST, 0.0, now)
    assert waits[:2] == [0.0, TIMES.first_wait]
    assert waits == sorted(waits)
    assert waits[-1] == TIMES.longest_wait


@given(st.floats(0, 100_000), st.floats(0, 1))
def test_an_outage_is_prolonged_by_a_quarter_at_most(lost_for: float, jitter: float) -> None:
    r = retries(jitter)
    r.failed(LOST, 60.0, 0.0)
    again = r.failed(LOST, 0.0, lost_for)
    assert again is not None
    assert TIMES.first_wait / 2 <= again.wait <= max(TIMES.first_wait, min(lost_for / 4, TIMES.longest_wait))
    assert again.hurried <= min(again.wait, TIMES.hurried_wait)


def test_a_connection_that_never_stands_for_long_is_not_tried_in_a_frenzy() -> None:
    r, now = retries(), 0.0
    r.failed(LOST, 60.0, now)
    for n in range(1, 20):
        now += SHORT / 2
        again = r.failed(LOST, SHORT / 2, now)
        assert again is not None
        assert again.attempt == n
    assert again.wait > 5
    again = r.failed(LOST, SHORT * 2, now + 20)
    assert again is not None
    assert (again.attempt, again.wait) == (0, 0.0)


def test_a_first_connect_that_fails_is_a_failed_try() -> None:
    again = retries().failed(LOST, 0.0, 0.0)
    assert again is not None
    assert again.attempt == 1
    assert again.wait > 0


@pytest.mark.parametrize("error", [HostKeyError("another key"), ProtocolError("nonsense")])
def test_what_does_not_heal(error: DSVMError) -> None:
    assert retries().failed(error, 60.0, 0.0) is None


def test_a_refused_key_is_final_only_after_some_tries() -> None:
    r, refused = retries(), AuthenticationError("no")
    assert r.failed(LOST, 60.0, 0.0)
    for n in range(REFUSALS - 1):
        again = r.failed(refused, 0.0, 10.0 * n)
        assert again is not None
        assert again.wait >= again.hurried >= TIMES.refused_wait
    assert r.failed(LOST, 0.0, 100.0) is not None, "it counts from the beginning again"
    for _ in range(REFUSALS - 1):
        assert r.failed(refused, 0.0, 200.0) is not None
    assert r.failed(refused, 0.0, 300.0) is None


def test_nobody_hurries_a_service_that_has_asked_for_time() -> None:
    again = retries().failed(Throttled("busy", retry_after=30), 0.0, 0.0)
    assert again is not None
    assert again.wait == again.hurried == 30


def test_sleep_makes_a_loss_a_fresh_one() -> None:
    r = retries()
    r.failed(LOST, 60.0, 0.0)
    r.woken(3600.0)
    again = r.failed(LOST, 0.0, 3600.1)
    assert again is not None
    assert again.wait == TIMES.first_wait


def looks(pulse: Pulse, start: float, seconds: float, every: float = 0.25) -> tuple[list[float], float | None]:
    """When PINGs were due, and when it was dead, if nothing is heard for so long."""
    pings, now = [], start
    while now < start + seconds:
        now += every
        if pulse.look(now, heard=False):
            pings.append(now)
        if pulse.dead:
            return pings, now
    return pings, None


def test_silence_is_asked_about_once_and_then_taken_for_death_in_under_five_seconds() -> None:
    pings, dead = looks(Pulse(TIMES.ping, TIMES.deadline, 0.0), 0.0, 60)
    assert len(pings) == 1
    assert pings[0] <= TIMES.ping + 0.25
    assert dead is not None
    assert TIMES.deadline < dead < 5


def test_whatever_comes_is_a_sign_of_life() -> None:
    pulse = Pulse(TIMES.ping, TIMES.deadline, 0.0)
    for n in range(100):
        _, dead = looks(pulse, n * 4.0, 3.75)
        assert dead is None
        assert not pulse.look(n * 4.0 + 4.0, heard=True)


def test_the_first_word_may_take_longer() -> None:
    pulse = Pulse(TIMES.ping, TIMES.deadline, 0.0, first=20.0)
    pings, dead = looks(pulse, 0.0, 15)
    assert (len(pings), dead) == (1, None)
    pulse.look(15.25, heard=True)
    _, dead = looks(pulse, 15.25, 15)
    assert dead is not None
    assert dead < 15.25 + 5
    _, dead = looks(Pulse(TIMES.ping, TIMES.deadline, 0.0, first=20.0), 0.0, 60)
    assert dead is not None
    assert 20 <= dead < 21


@given(st.floats(0, 1e6))
def test_time_in_which_we_did_not_run_says_nothing(stopped: float) -> None:
    pulse = Pulse(TIMES.ping, TIMES.deadline, 0.0)
    looks(pulse, 0.0, 1.0)
    pulse.look(1.0 + stopped, heard=False)
    assert pulse.silent <= 1.0 + STEP
    assert not pulse.dead
    _, dead = looks(pulse, 1.0 + stopped, 60)
    assert dead is not None, "but then it counts again"
