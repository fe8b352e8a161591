"""How much is put on the way to the other end of a pipe: a simulated way, as slow and as long as the test wants it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.relay.inflight import FIRST, IDLE, LEAST, MOST, TARGET, InFlight

KB, MB = 1000, 1_000_000


@dataclass
class Way:
    """A sender that always has something, a way that passes ``rate`` bytes per second, an end that answers at once."""

    rate: float
    round_trip: float
    frame: int = 64 * 1024
    flight: InFlight = field(default_factory=InFlight)
    now: float = 0.0
    free_at: float = 0.0
    sent: int = 0
    answers: deque[tuple[float, int]] = field(default_factory=deque)

    def run(self, seconds: float) -> float:
        """Bytes per second that were sent in the second half."""
        begun, half = self.now, None
        while self.now < begun + seconds:
            if half is None and self.now > begun + seconds / 2:
                half = self.sent, self.now
            self._ask()
            while self.flight.room > 0:
                self.flight.sent(self.frame, self.now)
                self.free_at = max(self.free_at, self.now) + self.frame / self.rate
                self.sent += self.frame
                self._ask()
            self.answer()
        assert half is not None
        return (self.sent - half[0]) / (self.now - half[1])

    def _ask(self) -> None:
        number = self.flight.question(self.now)
        if number is not None:
            self.answers.append((max(self.free_at, self.now) + self.round_trip, number))

    def answer(self) -> None:
        assert self.answers, "a sender that is held back waits for an answer that will come"
        at, number = self.answers.popleft()
        self.now = max(at, self.now)
        self.flight.answered(number, self.now)

    @property
    def wait(self) -> float:
        """Seconds that what is sent now takes to arrive, beyond the length of the way."""
        return max(0.0, self.free_at - self.now)


@pytest.mark.parametrize("round_trip", [0.0002, 0.005, 0.04, 0.1, 0.25, 0.6])
def test_a_fast_way_is_used(round_trip: float) -> None:
    way = Way(300 * MB, round_trip)
    assert way.run(20) > 0.9 * min(300 * MB, MOST / round_trip)


@pytest.mark.parametrize("rate", [16 * KB, 64 * KB, 1 * MB, 12 * MB])
@pytest.mark.parametrize("round_trip", [0.001, 0.04, 0.2])
def test_a_slow_way_is_kept_busy_and_holds_nobody_up_for_long(rate: float, round_trip: float) -> None:
    way = Way(rate, round_trip)
    assert way.run(60) > 0.6 * rate
    assert way.wait < max(2 * TARGET, 4 * round_trip, 1.5 * (LEAST + way.frame) / rate)


def test_a_way_that_becomes_slow() -> None:
    way = Way(20 * MB, 0.01)
    way.run(5)
    assert way.flight.limit > 4 * MB
    way.rate = 1 * MB
    way.run(60)
    assert way.wait < 1


def test_after_a_pause_nothing_is_taken_for_granted() -> None:
    way = Way(300 * MB, 0.01)
    way.run(5)
    while way.answers:
        way.answer()
        way._ask()
    assert way.flight.under_way == 0
    assert way.flight.limit > FIRST
    way.flight.sent(100, way.now + IDLE + 1)
    assert way.flight.limit == FIRST


def test_one_late_answer_is_no_reason_to_creep() -> None:
    way = Way(300 * MB, 0.01)
    way.run(5)
    while way.answers:
        way.answer()
        way._ask()
    before = way.flight.limit
    way.flight.sent(before, way.now)
    way._ask()
    way.now += 10
    way.answer()
    assert way.flight.limit == before // 2


@given(st.lists(st.tuples(st.sampled_from(["send", "answer", "nonsense"]), st.integers(0, 300_000), st.floats(0, 10))))
def test_whoever_is_held_back_has_a_question_under_way(steps: list[tuple[str, int, float]]) -> None:
    flight, now, asked = InFlight(), 0.0, []
    for what, number, seconds in steps:
        now += seconds
        if what == "send" and flight.room > 0:
            flight.sent(number, now)
        elif what == "answer" and asked:
            flight.answered(asked.pop(number % len(asked)), now)
        elif what == "nonsense":
            flight.answered(number * 1_000_003 + 1_000_000_007, now)
        question = flight.question(now)
        if question is not None:
            asked.append(question)
        assert flight.under_way >= 0
        assert LEAST <= flight.limit <= MOST
        if flight.room <= 0:
            assert flight._questions, "nothing would wake it"
            assert flight._questions[-1][0] == flight._sent
