"""What a VM says of itself, as a reading for ``idlepolicy``; and what is decided, as the page shows it. Pure.

The VM is not trusted: lengths and numbers are bounded, and what makes no sense counts as no answer, which keeps it on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from .errors import printable
from .idlepolicy import LONGEST_KEEP, Decision, Reading, Settings, State
from .models import IdleState, IdleStop, SafetyStopRecord, utc_at

MOST = 50
"""Reasons and leases that are read of one answer."""

LONGEST_TEXT = 200
CLAIM = "stopping"
"""Why of a lease that is another server's claim to stop the VM (``relay.leases``): nobody wants it kept on."""

SAME = 5.0
"""Seconds by which the end of a countdown may move before that is worth telling: clocks tick, requests take time."""

FIGURES = re.compile(r"\d[\d.,]*")

UNREACHABLE = "It cannot be asked what it does, so it stays on"


def reading_of(said: Any, at: float, holder: str, ignored: Collection[str] = (), more: Sequence[str] = ()) -> Reading:
    """``said`` by ``relay.activity``. ``holder``: this server's name in leases. ``ignored``: kinds that do not count. ``more``: why
    it is busy, as this server knows without asking."""
    try:
        busy = [
            printable(str(one["text"]), LONGEST_TEXT) or "something that it has no words for"
            for one in said["busy"][:MOST]
            if one["kind"] not in ignored
        ]
        kept = [
            (min(_number(one["left"]), LONGEST_KEEP), printable(str(one["why"]), LONGEST_TEXT))
            for one in said["leases"][:MOST]
            if one["holder"] != holder and one["why"] != CLAIM
        ]
        up, boot = _number(said["up"]), str(said["boot"])[:100]
    except (KeyError, TypeError, ValueError):
        return Reading(at, reachable=False, busy=tuple(more))
    return Reading(at, up=up, boot=boot, busy=(*more, *(text for text in busy if text not in more)), kept=tuple(kept))


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is no number of seconds")
    return number


def record(
    decision: Decision,
    settings: Settings,
    kept_until: float | None,
    ahead: float,
    *,
    trouble: str = "",
    lost: tuple[str, ...] = (),
    safety: SafetyStopRecord | None = None,
) -> IdleStop:
    """For the page. ``ahead``: what is to be added to a moment of the policy's clock for one of the wall clock. ``kept_until`` is
    by the wall clock, and None where that is over. ``trouble``: why it could not be asked, or stopped."""
    text = decision.plain or decision.text
    if trouble and decision.state is State.STOP:
        text = f"{text} {trouble}"
    elif trouble and text.startswith(UNREACHABLE):
        text = f"{UNREACHABLE}. {trouble}{text[len(UNREACHABLE) + 1 :]}"
    counted = decision.state in (State.IDLE, State.STOPS_SOON, State.STOP) or decision.hard
    return IdleStop(
        state=IdleState(decision.state.value),
        text=text,
        stops_at=utc_at(decision.stops_at + ahead) if counted and decision.stops_at is not None else None,
        kept_until=utc_at(kept_until) if kept_until is not None else None,
        idle_minutes=settings.idle_minutes,
        hard_limit_hours=settings.hard_limit_hours,
        hard=decision.hard,
        lost=lost,
        safety=safety,
    )


def steadied(new: IdleStop, before: IdleStop | None, seconds: float) -> IdleStop:
    """With the earlier moment of the end, where it has moved by ``seconds``, which is less than ``SAME``."""
    if before is None or new.stops_at is None or before.stops_at is None or abs(seconds) > SAME:
        return new
    return replace(new, stops_at=before.stops_at)


def is_news(new: IdleStop | None, before: IdleStop | None) -> bool:
    """Whether a page must be told: of other words for what keeps it busy too, which it shows, but not of other figures in them,
    which change from minute to minute."""
    if new is None or before is None:
        return new is not before
    return replace(new, text=FIGURES.sub("", new.text)) != replace(before, text=FIGURES.sub("", before.text))
