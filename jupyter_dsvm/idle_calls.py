"""``%dsvm keep`` and ``%dsvm autostop``, and the same for the command line: what a person chooses for one
VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BadRequest
from .idlepolicy import duration
from .idlewords import stop_words
from .models import IdleStop

if TYPE_CHECKING:
    from .service import DSVMService

KEEP_HOURS = 1.0
"""Where nobody says how long."""


def keep(service: DSVMService, name: str, hours: str = "") -> str:
    """What holds then, in a sentence. ``hours`` as a person has typed it: 0 or "off" ends it."""
    seconds = (
        0.0 if hours == "off" else 3600.0 * _number(hours or f"{KEEP_HOURS}", "HOURS", "a number, such as 1 or 0.5")
    )
    row = service.known.find(name)
    stop = service.idle_stops.keep(row.id, seconds)
    if not seconds:
        return f"{row.name} is not kept on any more. {stop_words(stop)}".strip()
    return f"{row.name} is kept on for {duration(seconds)}.{_safety(stop)}"


def autostop(service: DSVMService, name: str, minutes: str = "", hard: str | None = None) -> str:
    """``minutes`` and ``hard`` as a person has typed them: numbers, or "off"."""
    wanted: dict[str, float | None] = {}
    if minutes:
        wanted["idle_minutes"] = None if minutes == "off" else _number(minutes, "MINUTES", "a number, or off")
    if hard is not None:
        wanted["hard_limit_hours"] = None if hard == "off" else _number(hard, "--hard", "a number of hours, or off")
    if not wanted:
        raise BadRequest(
            "Neither MINUTES nor --hard was given.", advice="Say after how many idle minutes it is stopped, or off."
        )
    row = service.known.find(name)
    stop = service.idle_stops.configure(row.id, **wanted)
    if stop.idle_minutes is None:
        said = f"{row.name} is not stopped for being idle."
    else:
        said = f"{row.name} is stopped after {_plural(stop.idle_minutes, 'idle minute')}."
    if stop.hard_limit_hours is not None:
        said += f" {_plural(stop.hard_limit_hours, 'hour')} after its start it is stopped whatever runs there."
    return said + _safety(stop)


def _plural(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _safety(stop: IdleStop) -> str:
    if stop.safety is None or (stop.safety.kind == "ours" and stop.safety.averted):
        return ""
    return f" {stop.safety.text}"


def _number(text: str, name: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest(f"{name} is {text!r}.", advice=f"It is {what}.") from None
