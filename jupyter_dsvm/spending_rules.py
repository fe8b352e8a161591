"""What machines have cost, from what was seen of them now and then: when one was billed, and what each day comes to. Pure.

``observed`` turns what was seen into intervals in which a machine was billed; ``spendledger`` keeps them, ``spending`` feeds it.
``BILLED`` says which states Azure bills (https://learn.microsoft.com/azure/virtual-machines/states-billing).

Between two looks nobody knows. What is made of that follows from this table, where *Azure's word* is the time of its last
operation on the VM (``Compute.unchanged_since``), after which it was neither started nor stopped::

    before     now    the gap                      is taken as
    on         on     short, or Azure's word no    on
                      later than a short gap
                      Azure's word later           on since then; before that, not known and not counted
                      no word, up to a day         on, as a guess
                      no word, longer              not known and not counted
    on         off    Azure's word in the gap      on until then
                      short, no word               on
                      no word                      not known and not counted
    starting   on     half an hour at most         on: it took so long to start
    starting   off    half an hour at most         not billed: the start failed, or was taken back
    off        on     Azure's word                 on since then
                      no word                      on since it was seen

Moments are seconds since 1970 by this computer's clock. What is seen before something that is known already changes nothing, and
what lies in the future (the clock was set back) is cut off, so that no hour counts twice and none is negative.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .models import PowerState

BILLED: Mapping[PowerState, bool | None] = {
    PowerState.STARTING: True,
    PowerState.RUNNING: True,
    PowerState.STOPPING: True,
    PowerState.STOPPED: True,
    PowerState.DEALLOCATING: False,
    PowerState.DEALLOCATED: False,
    PowerState.UNKNOWN: None,
}

HOUR, DAY = 3600.0, 86400.0

WATCHED_SECONDS = 1200.0
"""A gap between two looks that counts as none: twice the time between two of our own (``spending``)."""

MOMENT_SECONDS = 5.0
"""A gap that is too short to ask Azure about."""

START_SECONDS = 1800.0
"""How long a machine may be starting."""

GUESS_SECONDS = DAY
"""The longest gap in which a machine that was on before and after it is taken to have been on, without Azure's word."""

UNSEEN_SECONDS = 3 * HOUR
"""How long a machine that was on counts on while nobody can see it. Azure's own schedule stops a VM that is used from here, and not
seen any more, after as long (docs/idle.md)."""

SKEW_SECONDS = 120.0
"""How far in the future what was seen may lie before the clock counts as set back: clocks of two computers differ."""

KEPT_SECONDS = 400 * DAY
"""How long an interval is kept after its end."""


@dataclass(frozen=True)
class Terms:
    """What decides the price. What is not known is None."""

    size: str | None = None
    amount: float | None = None
    """Per hour."""
    currency: str | None = None

    def or_else(self, other: Terms) -> Terms | None:
        """What both say, each filling in what the other does not know; None where they contradict each other."""
        if None not in (self.size, other.size) and self.size != other.size:
            return None
        mine, theirs = (self.amount, self.currency), (other.amount, other.currency)
        if self.amount is not None and other.amount is not None and mine != theirs:
            return None
        amount, currency = mine if self.amount is not None else theirs
        return Terms(self.size or other.size, amount, currency)


@dataclass(frozen=True)
class Observation:
    """A machine, as somebody has seen it just now."""

    compute: str
    name: str
    state: PowerState
    at: float
    terms: Terms = Terms()
    unchanged_since: float | None = None
    """Azure's word."""
    asked: bool = False
    """Azure was asked for its word, and there is none."""


@dataclass(frozen=True)
class Interval:
    """In which a machine was billed, on the same terms throughout."""

    compute: str
    name: str
    terms: Terms
    since: float
    seen: float
    """When it was last seen so: its end, once it is closed."""
    open: bool = True
    starting: bool = False
    """Nobody has seen it run yet."""
    exact: bool = False
    """``since`` is when it began, not only when it was first seen."""
    unseen: bool = False
    """Nobody knows of some time in it, or next to it, whether it was on."""

    def until(self, now: float) -> float:
        """Where it ends for who counts now."""
        return max(self.since, min(now, self.seen + UNSEEN_SECONDS if self.open else self.seen))

    def runs(self, now: float) -> bool:
        """Whether it is counted on."""
        return self.open and self.since <= now < self.seen + UNSEEN_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What there is after an observation, of the machine's open interval."""

    open: Interval | None = None
    closed: Interval | None = None
    """One that has ended, to be kept."""
    ask: bool = False
    """Azure's word would say more: look at the machine itself."""

    def is_news(self, before: Interval | None) -> bool:
        """Whether somebody who shows what is spent should know, as more than time has passed."""
        if self.closed is not None or before is None or self.open is None:
            return self.closed is not None or before is not self.open
        return (before.since, before.terms, before.unseen) != (self.open.since, self.open.terms, self.open.unseen)


def observed(before: Interval | None, ended: float, seen: Observation) -> Outcome:
    """``before``: the machine's open interval; ``ended``: where its last closed one ends (minus infinity: there is none)."""
    billed = BILLED[seen.state]
    if billed is None or seen.at < ended or (before is not None and seen.at < before.seen):
        return Outcome(before)
    word = seen.unchanged_since
    if word is not None and not word >= seen.at - KEPT_SECONDS:
        word = None  # a cloud that writes the year 1 where it does not know, or what is no number
    if before is None:
        if not billed:
            return Outcome()
        return Outcome(_begun(seen, word, ended), ask=_is_vague(seen, word))
    return _still_on(before, ended, seen, word) if billed else _off(before, seen, word)


def _begun(seen: Observation, word: float | None, floor: float, unseen: bool = False) -> Interval:
    starting = seen.state is PowerState.STARTING
    since = seen.at if word is None or starting else min(seen.at, max(word, floor))
    exact = starting or word is not None
    return Interval(seen.compute, seen.name, seen.terms, since, seen.at, True, starting, exact, unseen)


def _is_vague(seen: Observation, word: float | None) -> bool:
    return word is None and seen.state is not PowerState.STARTING and not seen.asked


def _still_on(before: Interval, ended: float, seen: Observation, word: float | None) -> Outcome:
    gap = seen.at - before.seen
    watched = gap <= (START_SECONDS if before.starting else WATCHED_SECONDS)
    # An operation soon after it was last seen is hardly ever a stop and a start: setting up SSH is one, too.
    sure = watched or (word is not None and word <= before.seen + WATCHED_SECONDS)
    if not sure and word is None and not seen.asked:
        return Outcome(before, ask=True)
    if not sure and (word is not None or gap > GUESS_SECONDS):
        return Outcome(_begun(seen, word, before.seen, unseen=True), _closed(before, before.seen, unseen=True))
    terms = before.terms.or_else(seen.terms)
    if terms is None:  # another size, or another price for the same
        resized = before.terms.size != seen.terms.size and word is not None
        # A resize turns it off in between: Azure's word is when it was on again.
        turn = max(before.seen, min(word or seen.at, seen.at)) if resized else seen.at
        new = replace(_begun(seen, turn, turn), starting=False, unseen=not sure)
        return Outcome(new, _closed(before, before.seen if resized else seen.at))
    since, exact = before.since, before.exact
    if not exact and word is not None:
        since, exact = min(since, max(word, ended)), True
    return Outcome(
        replace(
            before,
            name=seen.name,
            terms=terms,
            since=since,
            seen=seen.at,
            starting=before.starting and seen.state is PowerState.STARTING,
            exact=exact,
            unseen=before.unseen or not sure,
        ),
        ask=not exact and _is_vague(seen, word),
    )


def _off(before: Interval, seen: Observation, word: float | None) -> Outcome:
    gap = seen.at - before.seen
    if before.starting and gap <= START_SECONDS:
        return Outcome()
    if word is not None:
        return Outcome(closed=_closed(before, min(max(word, before.seen), seen.at)))
    # Where it is being released now, by us for one, it was on until now; where that is over, Azure knows when it was.
    short = WATCHED_SECONDS if seen.asked or seen.state is PowerState.DEALLOCATING else MOMENT_SECONDS
    if gap <= short:
        return Outcome(closed=_closed(before, seen.at))
    if not seen.asked:
        return Outcome(before, ask=True)
    return Outcome(closed=_closed(before, before.seen, unseen=True))


def _closed(interval: Interval, end: float, unseen: bool = False) -> Interval:
    return replace(interval, seen=end, open=False, starting=False, unseen=interval.unseen or unseen)


def gone(before: Interval, at: float) -> Interval:
    """It is confirmed that there is no such machine any more."""
    end = at if before.seen <= at <= before.seen + WATCHED_SECONDS else before.seen
    return _closed(before, end, unseen=end < at)


def cut(interval: Interval, now: float, ended: float) -> Interval | None:
    """The same without what lies in the future: the clock was set back. None where nothing is left. ``ended`` as in ``observed``,
    once the closed ones are cut."""
    if interval.seen <= now + SKEW_SECONDS:
        return interval
    if interval.since < now:
        return replace(interval, seen=now)
    begin = max(now, ended)
    return replace(interval, since=begin, seen=begin) if interval.open else None


# What it comes to


class Calendar:
    """Days of a time zone; of this computer's where it is None. With summer time a day has 23 or 25 hours."""

    def __init__(self, zone: datetime.tzinfo | None = None) -> None:
        self._zone = zone

    def day(self, at: float) -> datetime.date:
        return datetime.datetime.fromtimestamp(at, self._zone).date()

    def begin(self, day: datetime.date) -> float:
        """Its first moment."""
        return datetime.datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()

    def split(self, since: float, until: float) -> Iterator[tuple[datetime.date, float]]:
        """The seconds of each day in between."""
        while since < until:
            day = self.day(since)
            end = self.begin(day + datetime.timedelta(1))
            if end <= since:  # a day that a time zone has left out
                end = self.begin(day + datetime.timedelta(2))
            yield day, min(end, until) - since
            since = end

    def period(self, kind: str, now: float) -> float:
        """When the present ``day`` or ``month`` has begun."""
        today = self.day(now)
        return self.begin(today if kind == "day" else today.replace(day=1))

    def next_period(self, kind: str, now: float) -> datetime.date:
        """The day on which the next one begins."""
        today = self.day(now)
        if kind == "day":
            return today + datetime.timedelta(1)
        return (today.replace(day=1) + datetime.timedelta(32)).replace(day=1)


def cost(interval: Interval, now: float, begin: float = 0.0) -> float:
    """What of it fell into the time since ``begin``; 0 where its price is not known."""
    if interval.terms.amount is None:
        return 0.0
    return max(0.0, interval.until(now) - max(begin, interval.since)) / HOUR * interval.terms.amount


@dataclass(frozen=True)
class DaySpend:
    """A machine's part of a day."""

    day: datetime.date
    compute: str
    name: str
    hours: float
    amount: float | None
    """None: the price was not known for all of it."""
    currency: str | None


def daily(intervals: Iterable[Interval], calendar: Calendar, now: float, begin: float = 0.0) -> list[DaySpend]:
    """By day, machine and currency; the latest day first, and of a day the most expensive machine."""
    sums: dict[tuple[datetime.date, str, str | None], DaySpend] = {}
    for interval in intervals:
        terms = interval.terms
        currency = terms.currency if terms.amount is not None else None
        for day, seconds in calendar.split(max(begin, interval.since), interval.until(now)):
            hours = seconds / HOUR
            amount = None if terms.amount is None else hours * terms.amount
            key = (day, interval.compute, currency)
            one = sums.get(key)
            if one is not None:
                hours += one.hours
                amount = None if amount is None or one.amount is None else amount + one.amount
            sums[key] = DaySpend(day, interval.compute, interval.name, hours, amount, currency)
    return sorted(sums.values(), key=lambda d: (-d.day.toordinal(), -(d.amount or 0.0), d.name, d.currency or ""))


def currency_of(intervals: Iterable[Interval]) -> str | None:
    """In which amounts are added up: the one that was met last. Others are never added to it."""
    priced = [i for i in intervals if i.terms.amount is not None]
    return max(priced, key=lambda i: (i.open, i.seen, i.since)).terms.currency if priced else None
