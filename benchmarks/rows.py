"""A row of the table: what is measured, in which unit, and what ours must reach beside the other two of the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from .contenders import LOCAL, OURS, PEER


@dataclass(frozen=True)
class Target:
    text: str
    limit: Callable[[dict[str, float]], float | None]
    """From the medians by contender; None where what it is held against was not measured."""
    more: bool = False
    """Whether more is better."""

    def reached(self, medians: dict[str, float]) -> bool | None:
        limit = self.limit(medians)
        if limit is None or OURS not in medians:
            return None
        return medians[OURS] >= limit if self.more else medians[OURS] <= limit


def at_most(limit: float, text: str) -> Target:
    return Target(text, lambda _: limit)


def at_least(limit: float, text: str) -> Target:
    return Target(text, lambda _: limit, more=True)


def times(whom: str, factor: float, plus: float = 0.0, *, text: str, more: bool = False) -> Target:
    """Against another contender of the same run."""
    return Target(text, lambda medians: medians[whom] * factor + plus if whom in medians else None, more)


def times_local(factor: float, plus: float = 0.0, *, text: str, more: bool = False) -> Target:
    return times(LOCAL, factor, plus, text=text, more=more)


def times_peer(factor: float, plus: float = 0.0, *, text: str, more: bool = False) -> Target:
    return times(PEER, factor, plus, text=text, more=more)


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    target: Target | None = None
    digits: int = 2
    columns: tuple[str, ...] = (LOCAL, PEER, OURS)
    """Who is measured; rows with the same columns are one table."""


@dataclass
class Samples:
    """One contender in one row."""

    values: list[float] = field(default_factory=list)
    missing: str = ""
    """Why there is no (further) value."""
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)

    def declare(self, rows: tuple[Row, ...]) -> None:
        self.rows += rows
        self.samples.update({row.key: {} for row in rows})

    def of(self, key: str, contender: str) -> Samples:
        return self.samples[key].setdefault(contender, Samples())

    def add(self, key: str, contender: str, value: float) -> None:
        self.of(key, contender).values.append(value)

    def note(self, key: str, contender: str, text: str) -> None:
        notes = self.of(key, contender).notes
        if text not in notes:
            notes.append(text)

    def fail(self, key: str, contender: str, reason: str) -> None:
        self.of(key, contender).missing = reason

    def medians(self, key: str) -> dict[str, float]:
        return {name: m for name, s in self.samples[key].items() if (m := s.median) is not None}
