"""Hours of the week, as an administrator writes them: ``Mon-Fri 08:00-20:00``, ``Sat,Sun 22:00-02:00``, ``daily 09:00-17:30``.

Pure.

Wall-clock time of one time zone, so that a lesson at nine stays at nine over the change of the clocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY

_LINE = re.compile(r"(?P<days>[A-Za-z, -]+?)\s+(?P<from>\d{1,2}:\d{2})\s*-\s*(?P<to>\d{1,2}:\d{2})")


@dataclass(frozen=True)
class Hours:
    """Spans of the week in minutes since Monday, 00:00; each begins in the week and may end in the next one."""

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Hours:
        """Raises ``ValueError`` that names the line."""
        spans: set[tuple[int, int]] = set()
        for line in lines:
            found = _LINE.fullmatch(line.strip())
            if not found:
                raise ValueError(f"{line!r} is none; write it like 'Mon-Fri 08:00-20:00'")
            begin, end = _minutes(found["from"], line), _minutes(found["to"], line)
            if begin == end:
                raise ValueError(f"{line!r} has no length; a whole day is 00:00-24:00")
            for day in _days(found["days"], line):
                spans.add((day * DAY + begin, day * DAY + (end if end > begin else end + DAY)))
        return cls(tuple(sorted(spans)))

    def __bool__(self) -> bool:
        return bool(self.spans)

    def contain(self, local: datetime) -> bool:
        """``local``: in the time zone that is meant."""
        minute = _minute(local)
        return any(begin <= at < end for begin, end in self.spans for at in (minute, minute + WEEK))

    def next_begin(self, local: datetime) -> datetime | None:
        """When the next span begins, at or after ``local``; None where there is none."""
        whole = local.replace(second=0, microsecond=0)
        if whole < local:
            whole += timedelta(minutes=1)
        minute = _minute(whole)
        waits = [(begin - minute) % WEEK for begin, _ in self.spans]
        # Wall-clock arithmetic: aware datetimes of one zone add days and hours as a calendar does.
        return whole + timedelta(minutes=min(waits)) if waits else None


def _minute(local: datetime) -> int:
    return local.weekday() * DAY + local.hour * 60 + local.minute


def _minutes(text: str, line: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ValueError(f"{line!r}: {text} is no time of day")
    return hours * 60 + minutes


def _days(text: str, line: str) -> list[int]:
    if text.strip().lower() == "daily":
        return list(range(7))
    found: list[int] = []
    for part in text.replace(" ", "").lower().split(","):
        first, _, last = part.partition("-")
        try:
            begin, end = DAYS.index(first), DAYS.index(last or first)
        except ValueError:
            raise ValueError(f"{line!r}: {part!r} is no day; they are {', '.join(d.title() for d in DAYS)}") from None
        found.extend((begin + i) % 7 for i in range((end - begin) % 7 + 1))
    return found
