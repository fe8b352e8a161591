"""What both sides had after the last sync. Pure.

Clocks disagree by hours, so times of the two sides are never compared with each other: a row has one stamp per side, and
each is compared with what that side says later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .entries import UNSETTLED, Entry, Kind, Side


@dataclass(frozen=True)
class Stamp:
    """By what one side's file is known to be unchanged without reading it."""

    size: int = 0
    mtime_ns: int = 0
    mark: str = ""

    @classmethod
    def of(cls, entry: Entry) -> Stamp:
        return cls(entry.size, entry.mtime_ns, entry.mark) if entry.kind is Kind.FILE else cls()

    def still(self, entry: Entry) -> bool:
        """Whether the side that gave this stamp now says the same of its file; then its content is the same."""
        return self == Stamp.of(entry) and self.mark != UNSETTLED


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

    def stamp(self, side: Side) -> Stamp | None:
        return self.here if side is Side.HERE else self.there


Base = Mapping[str, Row]


def row_of(here: Entry, there: Entry) -> Row:
    """The row of what both sides have alike. At least one of them must know the digest. A side without executable bits
    leaves them to the other."""
    return Row(there.path, there.kind, here.digest or there.digest, there.executable, Stamp.of(here), Stamp.of(there))


def known(base: Base, side: Side) -> dict[str, Entry]:
    """What ``side`` said of its files last, for its next scan: it takes the digest from here where size, time and mark agree."""
    found = {}
    for path, row in base.items():
        stamp = row.stamp(side)
        if stamp is not None:
            found[path] = Entry(path, row.kind, stamp.size, stamp.mtime_ns, row.digest, row.executable, stamp.mark)
    return found


def to_json(base: Base) -> list[Any]:
    """One short list per row: a folder of 100,000 files has as many of them."""
    rows = []
    for row in base.values():
        stamps = [s and [s.size, s.mtime_ns, s.mark] for s in (row.here, row.there)]
        rows.append([row.path, row.kind.value, row.digest, row.executable, *stamps])
    return rows


def from_json(data: Any) -> dict[str, Row]:
    """Raises ``ValueError`` if it is no base; the caller then begins with an empty one, which loses nothing."""
    base = {}
    try:
        for path, kind, digest, executable, *stamps in data:
            here, there = (None if s is None else Stamp(int(s[0]), int(s[1]), str(s[2])) for s in stamps)
            base[str(path)] = Row(str(path), Kind(kind), str(digest), bool(executable), here, there)
    except (TypeError, IndexError, KeyError) as e:
        raise ValueError(f"no base: {e}") from e
    return base
