"""Who uses a VM that several people share: rules, and what a broker remembers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.hub.presence import LEFT_SECONDS, Present, attached, left_by_all, stays_on, used_at, using
from jupyter_dsvm.hub.state import State

NOW = 1_000_000.0
HALF_AN_HOUR = 1800.0


@pytest.mark.parametrize(
    ("present", "is_attached", "uses", "used"),
    [
        (Present("ada", NOW + 900, NOW + 900), True, True, NOW),
        (Present("ada", NOW + 900, NOW - 60), True, True, NOW - 60),
        (Present("ada", NOW + 900, NOW - HALF_AN_HOUR), True, False, NOW - HALF_AN_HOUR),
        (Present("ada", NOW - 1, NOW - 1), False, False, NOW - 1),
        # She has left it to the others, and nothing has gone on since, but for her own asking.
        (Present("ada", NOW + 900, NOW - 60, left=NOW - 50), True, False, None),
        (Present("ada", NOW + 900, NOW - 60, left=NOW - 60 - LEFT_SECONDS), True, False, None),
        (Present("ada", 0.0, 0.0, left=NOW - 50), False, False, None),
        # Something goes on again.
        (Present("ada", NOW + 900, NOW + 900, left=NOW - 50), True, True, NOW),
    ],
)
def test_one_person(present: Present, is_attached: bool, uses: bool, used: float | None):
    assert attached([present], NOW) == ({"ada"} if is_attached else set())
    assert using([present], NOW, 30) == ({"ada"} if uses else set())
    assert used_at([present], NOW) == used


MOMENTS = st.floats(-2 * HALF_AN_HOUR, 900.0).map(lambda seconds: NOW + seconds)
ROWS = st.lists(
    st.builds(Present, st.sampled_from("abc"), MOMENTS, MOMENTS, st.one_of(st.just(0.0), MOMENTS)),
    max_size=3,
    unique_by=lambda row: row.person,
)


@given(ROWS, st.one_of(st.none(), st.floats(1, 120)))
def test_whoever_uses_it_is_attached_and_keeps_it_on(rows: list[Present], minutes: float | None):
    users = using(rows, NOW, minutes)
    assert users <= attached(rows, NOW)
    assert not users & {row.person for row in rows if row.left and row.used <= row.left}
    assert not (users and left_by_all(rows))
    last = used_at(rows, NOW)
    assert last is None or last <= NOW
    if users and minutes is not None:
        assert last is not None
        assert NOW - last < minutes * 60
    if minutes is not None and last is not None and NOW - last >= minutes * 60:
        assert not users, "a VM is not stopped by the idle rule under somebody who uses it"


@given(ROWS)
def test_when_all_have_left_nobody_has_used_it(rows: list[Present]):
    left = [Present(row.person, row.until, min(row.used, NOW), left=NOW) for row in rows]
    assert used_at(left, NOW) is None
    assert left_by_all(left) == bool(left)
    assert using(left, NOW, 30) == set()


def test_what_is_remembered(tmp_path: Path):
    state = State(tmp_path / "state" / "state.sqlite")
    try:
        state.here("vm", "ada", NOW + 900)
        assert state.present("vm") == [Present("ada", NOW + 900, NOW + 900)]
        state.here(
            "vm", "ada", NOW + 600, NOW - 60, at_least=True
        )  # a certificate: she connects, and still runs something
        assert state.present("vm") == [Present("ada", NOW + 900, NOW + 900)]
        state.here("vm", "ada", NOW + 901, NOW - 60)
        assert state.present("vm") == [Present("ada", NOW + 901, NOW - 60)]
        state.leave("vm", "ada", NOW)
        state.leave("vm", "bob", NOW)
        assert state.present("vm") == [Present("ada", NOW + 901, 0.0, NOW), Present("bob", 0.0, 0.0, NOW)]
        state.here("vm", "ada", NOW + 2000, NOW + 2000)
        assert using(state.present("vm"), NOW + 1500, 30) == {"ada"}
        state.stopped("vm")
        assert state.present("vm") == []
    finally:
        state.close()


def test_a_broker_of_before_has_left_who_is_attached(tmp_path: Path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with sqlite3.connect(folder / "state.sqlite") as db:
        db.execute(
            "create table presence (vm text not null, person text not null, until real not null, primary key (vm, person))"
        )
        db.execute("insert into presence values ('vm', 'ada', ?)", (NOW,))
        db.execute("pragma user_version = 1")
    db.close()
    for _ in range(2):  # and again, as of now
        state = State(folder / "state.sqlite")
        try:
            assert state.present("vm") == [Present("ada", NOW, NOW)]
        finally:
            state.close()


def test_words():
    assert (
        stays_on("class-vm", 1) == "class-vm stays on: 1 other person uses it. It is stopped when they do not any more."
    )
    assert stays_on("class-vm", 4).startswith("class-vm stays on: 4 other people use it.")
