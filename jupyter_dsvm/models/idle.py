"""When a VM that nobody uses is stopped: by this server, and by Azure where this server is no more."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .shape import Shape


class IdleState(str, enum.Enum):
    """The states of ``idlepolicy``."""

    NEVER = "never"
    BUSY = "busy"
    KEPT = "kept"
    IDLE = "idle"
    STOPS_SOON = "stops_soon"
    STOP = "stop"


@dataclass(frozen=True)
class SafetyStopRecord(Shape):
    """The VM's own auto-shutdown schedule in Azure, the dead man's switch."""

    kind: str
    """ours, theirs, or none: Azure will not stop it by itself, and ``text`` says why."""
    text: str
    """A sentence."""
    at: str | None = None
    """When Azure stops the VM next, unless it is moved on."""
    averted: bool = True
    """False: it comes at that time, and nothing can be done about it any more."""


@dataclass(frozen=True)
class IdleStop(Shape):
    """Of a VM that is on and watched: whether and when it is stopped by itself."""

    state: IdleState
    text: str
    """A sentence, without the time that is left: that is counted from ``stops_at``."""
    stops_at: str | None = None
    """None where nothing is counted down."""
    kept_until: str | None = None
    idle_minutes: float | None = None
    """After how many it is stopped; None: never for being idle."""
    hard_limit_hours: float | None = None
    """Since its start; it is stopped then whatever runs."""
    hard: bool = False
    """``stops_at`` is the hard limit's: what runs then is stopped too."""
    lost: tuple[str, ...] = ()
    """Files of this account on the VM's temporary disk, which a stop loses; the first of them, and how many more."""
    safety: SafetyStopRecord | None = None
    """None where it has not been asked for yet, or the machine has no such schedule (a host)."""


@dataclass(frozen=True)
class StopLoss(Shape):
    """What a stop of a VM loses: files of this account on its temporary disk."""

    known: bool
    """False: it is off, not connected to, or does not answer, so nobody knows."""
    text: str = ""
    """A sentence; empty where nothing is lost, or nobody knows."""
    files: tuple[str, ...] = ()
    """Those changed last, with their paths there."""
    more: int = 0
    """Besides them."""
    bytes: int = 0
    """Of all."""
