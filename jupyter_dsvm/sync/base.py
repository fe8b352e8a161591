"""What both sides had after the last sync. Pure.

Clocks disagree by hours, so times of the two sides are never compared with each other: a row has one stamp per side, and
each is compared with what that side says later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .entries import Entry, Kind, Side

if TYPE_CHECKING:
    from .plan import Outcome, Plan


@dataclass(frozen=True)
class Stamp:
    """By what one side's file is known to be unchanged without reading it."""

    size: int
    mtime_ns: int
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One path that was in step."""

    path: str
    kind: Kind
    digest: str = ""
    """As ``Entry.digest``; always known."""
    executable: bool = False
    here: Stamp | None = None
    """None: that side has not got it and that is in order (a folder that could not be removed on the other side)."""
    there: Stamp | None = None


Base = Mapping[str, Row]


def known(base: Base, side: Side) -> dict[str, Entry]:
    """What ``side`` said of its files last, for its next scan: it takes the digest from here where size, time and mark agree."""
    raise NotImplementedError


def advance(base: Base, plan: Plan, outcomes: Iterable[Outcome]) -> Base:
    """``base`` after the plan, as far as it was carried out: only what really happened is recorded. ``outcomes`` may be any
    part of the plan's actions; what is missing did not happen, or is found again by the next sync."""
    raise NotImplementedError


def to_json(base: Base) -> list[Any]:
    raise NotImplementedError


def from_json(data: Any) -> Base:
    """Raises ``ValueError`` if it is no base; the caller then begins with an empty one, which loses nothing."""
    raise NotImplementedError
