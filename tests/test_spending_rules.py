"""What machines have cost, from what was seen of them: every hour once, whatever was seen in whatever order."""

from __future__ import annotations

import datetime
import itertools
import math
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.models import PowerState
from jupyter_dsvm.spending_rules import (
    BILLED,
    DAY,
    HOUR,
    KEPT_SECONDS,
    SKEW_SECONDS,
    START_SECONDS,
    UNSEEN_SECONDS,
    WATCHED_SECONDS,
    Calendar,
    Interval,
    Observation,
    Terms,
    cost,
    currency_of,
    cut,
    daily,
    gone,
    observed,
)

RUNNING, OFF, STARTING = PowerState.RUNNING, PowerState.DEALLOCATED, PowerState.STARTING
T4 = Terms("NC4as_T4_v3", 0.5, "USD")
NOON = 1_790_000_000.0
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Asia/Beirut",
    "Pacific/Apia",
    "Australia/Lord_Howe",
]


def seen(at: float, state: PowerState = RUNNING, word: float | None = None, **more: object) -> Observation:
    return replace(Observation("azure:vm", "vm", state, at, T4, word), **more)


class Book:
    """What a ledger does, in memory, for one machine."""

    def __init__(self) -> None:
        self.open: Interval | None = None
        self.closed: list[Interval] = []
        self.ask = False

    def see(self, o: Observation, now: float | None = None) -> Book:
        now = o.at if now is None else now
        self.closed = [c for i in self.closed if (c := cut(i, now, -math.inf)) is not None]
        ended = max((i.seen for i in self.closed), default=-math.inf)
        self.open = cut(self.open, now, ended) if self.open is not None else None
        outcome = observed(self.open, ended, o)
        self.open, self.ask = outcome.open, outcome.ask
        if outcome.closed is not None:
            self.closed.append(outcome.closed)
        return self

    @property
    def all(self) -> list[Interval]:
        return self.closed + ([self.open] if self.open is not None else [])

    def hours(self, now: float) -> float:
        return sum(i.until(now) - i.since for i in self.all) / HOUR


def seen_so(*observations: Observation) -> Book:
    book = Book()
    for o in observations:
        book.see(o)
    return book


# What Azure bills


def test_every_state_is_billed_or_not_or_unknown():
    assert set(BILLED) == set(PowerState)
    assert {s for s, billed in BILLED.items() if billed} == {STARTING, RUNNING, PowerState.STOPPING, PowerState.STOPPED}
    assert [s for s, billed in BILLED.items() if billed is None] == [PowerState.UNKNOWN]


@pytest.mark.parametrize("state", [s for s, billed in BILLED.items() if billed])
def test_what_is_billed_counts_from_when_it_is_seen(state: PowerState):
    book = seen_so(seen(NOON, state), seen(NOON + 600, state))
    assert book.open is not None
    assert (book.open.since, book.open.seen, book.closed) == (NOON, NOON + 600, [])
    assert book.ask == (state is not STARTING)


@pytest.mark.parametrize("state", [s for s, billed in BILLED.items() if billed is False])
def test_what_is_not_ends_it(state: PowerState):
    book = seen_so(seen(NOON), seen(NOON + 600, state, asked=True))
    assert book.open is None
    assert [(i.since, i.seen, i.open, i.unseen) for i in book.closed] == [(NOON, NOON + 600, False, False)]
    assert seen_so(seen(NOON, state)).all == []


def test_an_unknown_state_says_nothing():
    book = seen_so(seen(NOON), seen(NOON + 600, PowerState.UNKNOWN))
    assert book.open is not None
    assert book.open.seen == NOON
    assert seen_so(seen(NOON, PowerState.UNKNOWN)).all == []


# Gaps


def test_azures_word_says_since_when_it_is_on():
    book = seen_so(seen(NOON), seen(NOON + 1, word=NOON - 7200))
    assert book.open is not None
    assert (book.open.since, book.open.exact, book.ask) == (NOON - 7200, True, False)
    book.see(seen(NOON + 2, word=NOON - 90_000))  # it is not moved again
    assert book.open.since == NOON - 7200


def test_but_not_before_it_was_seen_off():
    book = seen_so(seen(NOON), seen(NOON + 60, OFF, word=NOON + 60), seen(NOON + 3600, word=NOON))
    assert book.open is not None
    assert book.open.since == NOON + 60


def test_a_word_that_is_none_is_not_heard():
    for word in (-62_135_596_800.0, math.nan, -math.inf):
        book = seen_so(seen(NOON, word=word))
        assert book.open is not None
        assert (book.open.since, book.ask) == (NOON, True)
    assert seen_so(seen(NOON, word=NOON + 9999)).all[0].since == NOON


def test_over_a_gap_it_was_on_if_azure_says_that_nothing_happened():
    book = seen_so(seen(NOON), seen(NOON + 9 * HOUR))
    assert book.ask
    assert book.open is not None
    assert book.open.seen == NOON  # until that is known
    book.see(seen(NOON + 9 * HOUR + 1, word=NOON - 60))
    assert (book.closed, book.open.seen, book.open.unseen) == ([], NOON + 9 * HOUR + 1, False)


def test_what_was_done_to_it_soon_after_is_no_stop():
    book = seen_so(seen(NOON), seen(NOON + 9 * HOUR, word=NOON + 300))
    assert [(i.since, i.seen, i.unseen) for i in book.all] == [(NOON, NOON + 9 * HOUR, False)]


def test_over_a_gap_in_which_something_happened_nobody_knows():
    book = seen_so(seen(NOON), seen(NOON + 9 * HOUR, word=NOON + 8 * HOUR))
    assert [(i.since, i.seen, i.unseen) for i in book.all] == [
        (NOON, NOON, True),
        (NOON + 8 * HOUR, NOON + 9 * HOUR, True),
    ]


@pytest.mark.parametrize(("gap", "hours", "parts"), [(9 * HOUR, 9.0, 1), (2 * DAY, 0.0, 2)])
def test_without_azures_word_it_is_a_guess_or_not_counted(gap: float, hours: float, parts: int):
    book = seen_so(seen(NOON), seen(NOON + gap), seen(NOON + gap, asked=True))
    assert book.hours(NOON + gap) == hours
    assert len(book.all) == parts
    assert all(i.unseen for i in book.all)


def test_off_after_a_gap_it_was_on_until_azure_says():
    """The dead man's switch: the server died, Azure stopped the VM three hours later, and the next server comes on Monday."""
    book = seen_so(seen(NOON), seen(NOON + 60 * HOUR, OFF))
    assert book.ask
    assert book.open is not None
    book.see(seen(NOON + 60 * HOUR + 1, OFF, word=NOON + 3 * HOUR))
    assert [(i.since, i.seen, i.unseen) for i in book.all] == [(NOON, NOON + 3 * HOUR, False)]


def test_off_after_a_gap_without_a_word_it_ended_where_it_was_last_seen():
    book = seen_so(seen(NOON), seen(NOON + 600), seen(NOON + 60 * HOUR, OFF, asked=True))
    assert [(i.since, i.seen, i.unseen) for i in book.all] == [(NOON, NOON + 600, True)]


def test_off_is_asked_about_unless_it_is_so_just_now():
    for gap, state, ask in (
        (5, OFF, False),
        (6, OFF, True),
        (WATCHED_SECONDS, PowerState.DEALLOCATING, False),
        (WATCHED_SECONDS + 1, PowerState.DEALLOCATING, True),
    ):
        book = seen_so(seen(NOON), seen(NOON + gap, state))
        assert (book.ask, book.open is None) == (ask, not ask)
        if not ask:
            assert [(i.since, i.seen) for i in book.closed] == [(NOON, NOON + gap)]


def test_a_start_that_failed_costs_nothing():
    assert seen_so(seen(NOON, STARTING), seen(NOON + 300, OFF)).all == []
    assert seen_so(seen(NOON, STARTING), seen(NOON + 300), seen(NOON + 360, OFF, word=NOON + 360)).hours(
        NOON + HOUR
    ) == pytest.approx(0.1)
    late = seen_so(seen(NOON, STARTING), seen(NOON + START_SECONDS + 1, OFF, asked=True))
    assert [i.unseen for i in late.all] == [True]


def test_a_start_that_was_under_way_as_the_server_died_goes_on():
    book = seen_so(seen(NOON, STARTING), seen(NOON + 1700, word=NOON + 100))
    assert [(i.since, i.seen, i.starting) for i in book.all] == [(NOON, NOON + 1700, False)]


def test_a_machine_that_is_gone():
    interval = seen_so(seen(NOON)).all[0]
    assert gone(interval, NOON + 600).seen == NOON + 600
    assert (gone(interval, NOON + DAY).seen, gone(interval, NOON + DAY).unseen) == (NOON, True)


def test_while_nobody_can_see_it_it_counts_on_for_some_hours():
    (interval,) = seen_so(seen(NOON)).all
    assert interval.until(NOON + 600) == NOON + 600
    assert interval.until(NOON + DAY) == NOON + UNSEEN_SECONDS
    assert (interval.runs(NOON + 600), interval.runs(NOON + DAY)) == (True, False)
    assert replace(interval, open=False).until(NOON + DAY) == NOON


# Prices


def test_a_price_that_becomes_known_counts_for_all_of_it():
    book = seen_so(seen(NOON, terms=Terms("NC4as_T4_v3")), seen(NOON + 600), seen(NOON + 1200, terms=Terms()))
    assert [(i.since, i.seen, i.terms) for i in book.all] == [(NOON, NOON + 1200, T4)]


def test_another_price_begins_another_interval():
    dearer = replace(T4, amount=0.6)
    book = seen_so(seen(NOON), seen(NOON + 600, terms=dearer), seen(NOON + 1200, terms=dearer))
    assert [(i.since, i.seen, i.terms.amount) for i in book.all] == [
        (NOON, NOON + 600, 0.5),
        (NOON + 600, NOON + 1200, 0.6),
    ]


def test_a_resize_begins_another_interval_when_it_is_on_again():
    big = Terms("NC8as_T4_v3", None, None)
    book = seen_so(seen(NOON), seen(NOON + 100), seen(NOON + 400, terms=big, word=NOON + 380))
    assert [(i.since, i.seen, i.terms.size, i.unseen) for i in book.all] == [
        (NOON, NOON + 100, "NC4as_T4_v3", False),
        (NOON + 380, NOON + 400, "NC8as_T4_v3", False),
    ]
    unsaid = seen_so(seen(NOON), seen(NOON + 100), seen(NOON + 400, terms=big))
    assert [(i.since, i.seen) for i in unsaid.all] == [(NOON, NOON + 400), (NOON + 400, NOON + 400)]


def test_currencies_are_never_added():
    dollars = Interval("a", "a", T4, NOON, NOON + HOUR, open=False)
    euros = replace(dollars, terms=replace(T4, currency="EUR"), since=NOON + HOUR, seen=NOON + 2 * HOUR)
    assert currency_of([dollars, euros]) == "EUR"
    assert currency_of([dollars, replace(euros, terms=Terms())]) == "USD"
    assert currency_of([]) is None
    assert [(d.amount, d.currency) for d in daily([dollars, euros], Calendar(ZoneInfo("UTC")), NOON + DAY)] == [
        (0.5, "EUR"),
        (0.5, "USD"),
    ]


# Whatever is seen, in whatever order

states = st.sampled_from(list(PowerState))
terms = st.builds(
    Terms, st.sampled_from([None, "A", "B"]), st.sampled_from([None, 0.5, 3.0]), st.sampled_from([None, "USD", "EUR"])
)
moments = st.floats(0, 40 * DAY) | st.sampled_from([0.0, 1.0, WATCHED_SECONDS, START_SECONDS, DAY, UNSEEN_SECONDS])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    at = NOON + draw(moments)
    word = draw(st.none() | st.floats(-2 * KEPT_SECONDS, 2 * DAY).map(lambda d: at + d))
    return Observation("azure:vm", "vm", draw(states), at, draw(terms), word, draw(st.booleans()))


def check(book: Book, now: float) -> None:
    intervals = sorted(book.all, key=lambda i: (i.since, i.seen))
    for i in intervals:
        assert i.since <= i.seen <= now + SKEW_SECONDS
        assert cost(i, now) >= 0
        assert i.until(now) >= i.since
    for a, b in itertools.pairwise(intervals):
        assert a.seen <= b.since, "an hour counts twice"


@given(st.lists(observations(), max_size=12))
def test_no_hour_counts_twice_and_none_is_negative(some: list[Observation]):
    """Each is seen at its own time, however the clock jumps in between."""
    book = Book()
    for o in some:
        book.see(o)
        check(book, o.at)


@given(st.lists(observations(), max_size=12))
def test_nor_where_what_was_seen_comes_late(some: list[Observation]):
    """Two servers, each with its own delay: all of it is written after the last was seen."""
    book, now = Book(), max((o.at for o in some), default=NOON)
    for o in some:
        book.see(o, now)
        check(book, now)


@given(
    st.lists(st.integers(60, 3 * 86400), min_size=1, max_size=8),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3),
    st.booleans(),
)
def test_with_azures_word_and_one_look_in_between_it_is_what_was_billed(
    lengths: list[int], looks: list[float], begins_on: bool
):
    """A machine that is turned on and off; between two changes somebody looks at least once, and Azure says since when it is so."""
    book, at, is_on, billed, last = Book(), NOON, begins_on, 0.0, NOON
    for length in lengths:
        for part in sorted(looks):
            last = at + part * length
            book.see(seen(last, RUNNING if is_on else OFF, word=at))
        billed += length if is_on else 0.0
        at += length
        is_on = not is_on
    billed -= at - last if not is_on else 0.0  # the last part is not over
    assert sum(i.seen - i.since for i in book.all) == pytest.approx(billed, abs=1e-3)
    assert not any(i.unseen for i in book.all)


@given(st.lists(st.floats(0, 40 * DAY), min_size=2, max_size=12), st.data())
def test_two_servers_that_look_at_one_machine_count_it_once(times: list[float], data: st.DataObject):
    """Every look of the second lies somewhere among those of the first; what is spent is what one of them alone would say at least,
    and never more than the time there was."""
    alone, both = Book(), Book()
    for t in sorted(times):
        o = seen(NOON + t, word=NOON - 60)
        alone.see(o)
        both.see(o)
        if data.draw(st.booleans()):
            both.see(replace(o, at=o.at - data.draw(st.floats(0, DAY))), now=o.at)  # late
    now = NOON + max(times)
    assert both.hours(now) == pytest.approx(alone.hours(now))


# Days


@given(
    st.lists(st.tuples(st.floats(0, 800 * DAY), st.floats(0, 90 * DAY)), max_size=6),
    st.sampled_from(ZONES),
    st.floats(0, 900 * DAY),
)
def test_days_come_to_what_intervals_come_to(spans: list[tuple[float, float]], zone: str, now: float):
    """Over both changes of the clock in each zone, of which one (Apia) has left out a whole day."""
    start = datetime.datetime(2011, 3, 1, tzinfo=datetime.timezone.utc).timestamp()
    now += start
    some = [Interval("a", "a", T4, start + s, start + s + length, open=False) for s, length in spans]
    calendar = Calendar(ZoneInfo(zone))
    days = daily(some, calendar, now)
    assert sum(d.amount or 0.0 for d in days) == pytest.approx(sum(cost(i, now) for i in some))
    per_day = sum(d.hours for d in days if d.day == days[0].day) if days else 0.0
    assert per_day <= 25 * len(some)
    since = calendar.period("month", now)
    month = calendar.day(now).replace(day=1)
    assert sum(d.amount or 0.0 for d in days if d.day >= month) == pytest.approx(
        sum(cost(i, now, since) for i in some), abs=1e-9
    )


@given(st.dates(datetime.date(2005, 1, 2), datetime.date(2030, 12, 30)), st.sampled_from(ZONES))
def test_a_day_begins_where_it_begins(day: datetime.date, zone: str):
    calendar = Calendar(ZoneInfo(zone))
    begin = calendar.begin(day)
    if (zone, day) != ("Pacific/Apia", datetime.date(2011, 12, 30)):  # there was none
        assert calendar.day(begin) == day
    assert calendar.day(begin - 1) < day


@pytest.mark.parametrize(("day", "hours"), [(datetime.date(2026, 3, 29), 23.0), (datetime.date(2026, 10, 25), 25.0)])
def test_a_day_with_summer_time(day: datetime.date, hours: float):
    calendar = Calendar(ZoneInfo("Europe/Berlin"))
    begin, end = calendar.begin(day), calendar.begin(day + datetime.timedelta(1))
    on = Interval("a", "a", T4, begin - DAY, end + DAY, open=False)
    assert [d.hours for d in daily([on], calendar, end + 2 * DAY) if d.day == day] == [hours]


def test_this_computers_own_time_zone():
    calendar = Calendar()
    today = calendar.day(NOON)
    assert calendar.begin(today) <= NOON < calendar.begin(today + datetime.timedelta(1))
    assert calendar.period("month", NOON) == calendar.begin(today.replace(day=1))
    assert calendar.period("day", NOON) == calendar.begin(today)
    assert calendar.next_period("month", NOON).day == 1
    assert calendar.next_period("day", NOON) == today + datetime.timedelta(1)
