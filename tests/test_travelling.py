"""When files travel by themselves: the rules of waiting, and the one thread that looks at the clock."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.travelling import AT_MOST_SECONDS, GAP_SECONDS, GAP_SHARE, SETTLE_SECONDS, Agenda, Due
from support.kernels import until


def test_nothing_is_due_before_somebody_asks():
    due = Due()
    assert (due.at, due.take()) == (None, None)


def test_a_wish_waits_for_the_next_one_but_not_for_ever():
    due = Due()
    due.ask("pull", 10.0)
    assert due.at == 10.0 + SETTLE_SECONDS
    now = 10.0
    while now < 30.0:  # cells that follow each other faster than files settle
        due.ask("pull", now)
        now += SETTLE_SECONDS / 4
    assert due.at == 10.0 + AT_MOST_SECONDS


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        (["pull"], "pull"),
        (["push", "push"], "push"),
        (["pull", "push"], "both"),
        (["both"], "both"),
        (["pull", "both"], "both"),
    ],
)
def test_wishes_become_one_sync(wanted: list[str], goes: str):
    due = Due()
    for each in wanted:
        due.ask(each, 1.0)
    assert due.take() == goes
    assert (due.at, due.take()) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "did", "left"),
    [
        (["pull"], "both", None),
        (["pull"], "pull", None),
        (["pull"], "push", "pull"),
        (["pull", "push"], "pull", "push"),
        (["both"], "push", "pull"),
        (["both"], "both", None),
    ],
)
def test_a_sync_by_hand_does_what_was_wanted_before_it(wanted: list[str], did: str, left: str | None):
    due = Due()
    for each in wanted:
        due.ask(each, 1.0)
    due.done(did, begun=0.5)  # what has changed since then it has not seen
    assert due.at is not None
    due.done(did, begun=1.5)
    assert due.take() == left


def test_only_what_is_fetched_can_be_missed():
    due = Due()
    assert not due.pulls
    due.ask("push", 1.0)
    assert not due.pulls
    due.ask("both", 1.0)
    assert due.pulls


def test_a_slow_sync_makes_the_next_one_wait_longer():
    due = Due()
    due.ended(100.0, took=0.1)
    due.ask("pull", 100.0)
    assert due.at == 100.0 + GAP_SECONDS
    due.ended(100.0, took=10.0)
    assert due.at == 100.0 + GAP_SHARE * 10.0


@given(st.lists(st.tuples(st.sampled_from(["push", "pull", "both"]), st.floats(0, 3)), min_size=1, max_size=40))
def test_no_wish_is_forgotten_and_none_waits_too_long(wishes: list[tuple[str, float]]):
    due, now, open_since, begun = Due(), 0.0, None, 0
    for direction, later in wishes:
        now += later
        if due.at is not None and due.at <= now:
            assert open_since is not None
            assert due.at <= max(open_since + AT_MOST_SECONDS, GAP_SECONDS + now)
            assert due.take() is not None
            begun, open_since = begun + 1, None
            due.ended(now, 0.0)
        due.ask(direction, now)
        open_since = now if open_since is None else open_since
        assert due.at is not None
    assert due.take() is not None


def test_the_agenda_calls_in_time_and_the_last_of_a_key_counts():
    agenda, called = Agenda(), []
    try:
        now = time.monotonic()
        agenda.at("b", now + 0.1, lambda: called.append("b"))
        agenda.at("a", now + 60, lambda: called.append("too early"))
        agenda.at("a", now + 0.02, lambda: called.append("a"))
        agenda.at("never", now + 0.05, lambda: called.append("never"))
        agenda.drop("never")
        until(lambda: called == ["a", "b"])
    finally:
        agenda.close()
    agenda.at("late", 0.0, lambda: called.append("late"))
    time.sleep(0.05)
    assert called == ["a", "b"]


def test_what_fails_does_not_keep_others_from_being_called(caplog: pytest.LogCaptureFixture):
    agenda, called = Agenda(), threading.Event()

    def fails() -> None:
        raise RuntimeError("of no use")

    try:
        agenda.at("fails", 0.0, fails)
        agenda.at("next", time.monotonic() + 0.02, called.set)
        assert called.wait(5)
    finally:
        agenda.close()
    assert "what was due failed" in caplog.text
