"""How long a VM stays on, in words: for tables, sentences and the command line. Pure."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from .idlepolicy import duration
from .models import IdleState, IdleStop


def seconds_left(moment: str | None, now: float | None = None) -> float | None:
    """Seconds from now until a moment of a shape."""
    if moment is None:
        return None
    try:
        at = datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    return at - (time.time() if now is None else now)


def strike_words(name: str, at: str | None) -> str:
    """What a cell is told some minutes before Azure's schedule strikes: whoever reads that has no server that moves it on."""
    try:
        moment = datetime.fromisoformat((at or "").replace("Z", "+00:00")).astimezone(timezone.utc)
    except ValueError:
        return f"Azure's auto-shutdown stops {name} then, whatever runs there."
    return f"Azure's auto-shutdown stops {name} at {moment:%H:%M} UTC, whatever runs there."


def stop_words(stop: IdleStop | None, now: float | None = None) -> str:
    """``Stops in 25 min.``, ``Kept on for 55 min.``; empty where there is nothing to count. For tables and sentences."""
    if stop is None:
        return ""
    ends, kept = seconds_left(stop.stops_at, now), seconds_left(stop.kept_until, now)
    if stop.state is IdleState.STOP:
        return "It is being stopped." if ends is None or ends <= 0 else f"Its stop is tried again in {duration(ends)}."
    if ends is not None:
        return f"Stops in {duration(ends)}."
    if stop.state is IdleState.KEPT and kept is not None and kept > 0:
        return f"Kept on for {duration(kept)}."
    return ""
