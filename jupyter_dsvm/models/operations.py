"""Long changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .computes import Problem
from .shape import Shape, utc_now


class OperationState(str, enum.Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(str, enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Step(Shape):
    name: str
    """The machine's word: start, connect, kernel, wait, swap, …"""
    text: str
    """The sentence a person reads."""
    state: StepState = StepState.PENDING


@dataclass(frozen=True)
class Operation(Shape):
    """A long change: start, stop, restart, resize, create, access, forget, attach, detach, install, sync, load; or update, which is
    one that somebody else makes and of which no more can be told."""

    id: str
    kind: str
    compute: str | None
    kernel: str | None
    state: OperationState
    steps: tuple[Step, ...] = ()
    progress: float | None = None
    error: Problem | None = None
    started: str = field(default_factory=utc_now)
    ended: str | None = None
    notice: str = ""
    """A sentence for the user when it is done: what was left behind, what moves."""
    elsewhere: bool = False
    """Begun by somebody else (in the portal, by another server), and only watched here."""
