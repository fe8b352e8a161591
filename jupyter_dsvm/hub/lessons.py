"""A timetable: which VMs are started before which lesson. Pure::

c.HubPolicy.lessons = [
    {"hours": "Mon 09:00-11:00", "vms": ["class-vm"]},
    {"hours": "Thu 14:00-16:00", "pool": "gpu", "count": 12, "before_minutes": 20},
]
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..models import Compute, PowerState
from .hours import Hours

FIELDS = {"hours": str, "vms": list, "pool": str, "count": int, "before_minutes": int}
BEFORE = 15
"""Minutes: a start takes some, and a class comes in together."""


@dataclass(frozen=True)
class Lesson:
    hours: Hours
    text: str
    vms: tuple[str, ...] = ()
    """Names, or patterns of them."""
    pool: str = ""
    count: int = 0
    """Of the pool; 0: all."""
    before_minutes: int = BEFORE

    @classmethod
    def parse(cls, data: Any) -> Lesson:
        """Raises ``ValueError`` that says what is wrong."""
        if not isinstance(data, Mapping) or any(
            name not in FIELDS or not isinstance(value, FIELDS[name]) for name, value in data.items()
        ):
            raise ValueError(f"{data!r} is none; it has {', '.join(FIELDS)}")
        vms = data.get("vms", [])
        if "hours" not in data or bool(vms) == bool(data.get("pool")) or not all(isinstance(v, str) for v in vms):
            raise ValueError(f"{data!r} has to have hours, and either vms or a pool")
        count, before = data.get("count", 0), data.get("before_minutes", BEFORE)
        if count < 0 or not 1 <= before <= 180:
            raise ValueError(f"{data!r} has a count below 0, or before_minutes that are not 1 to 180")
        return cls(Hours.parse([data["hours"]]), data["hours"], tuple(vms), data.get("pool", ""), count, before)

    def occurrence(self, local: datetime) -> str:
        """Which one it is time to prepare for: the moment when it begins, as a text; empty where it is time for none.

        ``local``: now, in the timetable's zone. It is time until the lesson begins; what is missed then is missed, so that a broker
        which is started in the afternoon starts no VMs for the morning."""
        begin = self.hours.next_begin(local)
        if begin is None or begin - local > timedelta(minutes=self.before_minutes):
            return ""
        return f"{begin:%Y-%m-%d %H:%M}"

    def machines(self, rows: Sequence[Compute], pool_of: Callable[[Compute], str]) -> list[Compute]:
        """Those that are to be on, the ones that are on already first."""
        if self.pool:
            found = [row for row in rows if pool_of(row) == self.pool]
            found.sort(key=lambda row: (row.power_state is not PowerState.RUNNING, row.name))
            return found[: self.count] if self.count else found
        return [row for row in rows if any(fnmatch.fnmatchcase(row.name, pattern) for pattern in self.vms)]
