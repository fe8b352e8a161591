"""Time zones of auto-shutdown schedules, which Azure names as Windows does. Called by ``schedules`` for those of the user's own.

Unicode keeps the list of what those names mean; Babel, which JupyterLab brings, has it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo


def zone_of(name: str) -> ZoneInfo | None:
    """None for a name that is not known, and where this computer has no list of time zones."""
    from babel.core import get_global  # late: for few

    place = get_global("windows_zone_mapping").get(name)
    try:
        return ZoneInfo(str(place)) if place else None
    except (OSError, ValueError, LookupError):
        return None


def next_moment(hour: int, minute: int, zone: ZoneInfo, now: datetime) -> datetime:
    """The next moment after ``now`` at which clocks in ``zone`` show that time, in UTC.

    Where clocks go forward over it, it is as late as if they had not; where they go back over it, the first of the two counts.
    """
    day = now.astimezone(zone).date()
    for days in range(3):
        there = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) + timedelta(days=days)
        moment = there.astimezone(timezone.utc)
        if moment > now:
            return moment
    raise AssertionError("a day has at most 25 hours")
