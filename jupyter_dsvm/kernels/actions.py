"""The gate's vocabulary: the sides behind it, the requests that are with a kernel, and what it asks to be done."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..errors import DSVMError
from ..relay.wire import Channel
from .messages import Message


class Phase(enum.Enum):
    STARTING = "starting"
    ASKING = "asking"
    INSTALLING = "installing"
    READY = "ready"
    ENDED = "ended"
    GONE = "gone"


@dataclass
class Side:
    number: int
    compute_name: str
    language: str = ""
    interrupt_mode: str = "signal"
    trusted: bool = True
    phase: Phase = Phase.STARTING
    own: dict[str, str] = field(default_factory=dict)
    """Ids of the gate's own requests, with their type."""
    info: dict[str, Any] | None = None
    iopub_seen: bool = False
    reachable: bool = True
    """False while the link to its machine is down."""
    replaced: bool = False
    """It was the current side once; what it still puts out is let through until it ends."""
    inputs: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    """Ids of ``input_request``s that wait for a reply."""
    unanswered: set[str] = field(default_factory=set)
    """The gate's own requests whose reply or idle is still to come, as ``reply:ID`` and ``idle:ID``."""


@dataclass
class Request:
    """A client's request that is with the kernel."""

    message: Message
    channel: Channel
    replied: bool = False
    idle: bool = False
    stop_on_error: bool = False

    @property
    def answered(self) -> bool:
        return self.replied and self.idle

    @property
    def awaited(self) -> bool:
        """More will be said about it. On control that is certain of the reply only."""
        return not self.replied or (self.channel is Channel.SHELL and not self.idle)


# Actions


@dataclass(frozen=True)
class ToClient:
    channel: Channel
    parts: list[bytes]


@dataclass(frozen=True)
class ToBackend:
    side: int
    channel: Channel
    parts: list[bytes]


@dataclass(frozen=True)
class Signal:
    side: int
    signum: int


@dataclass(frozen=True)
class Ready:
    """The side answers, and the magic is in. For a side being prepared: it may be swapped in now."""

    side: int


@dataclass(frozen=True)
class Failed:
    """A side that was being prepared, or waited to be swapped in, will not be; the current one is untouched."""

    side: int
    error: DSVMError


@dataclass(frozen=True)
class Swapped:
    old: int
    new: int


@dataclass(frozen=True)
class UserCancelled:
    """The user interrupted, restarted or shut down: an attach that is under way must not go on."""

    reason: str


Action = ToClient | ToBackend | Signal | Ready | Failed | Swapped | UserCancelled
