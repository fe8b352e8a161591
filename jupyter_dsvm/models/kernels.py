"""The kernels whose fronts a server holds, and what is asked about them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .computes import Price, Problem
from .shape import Shape, utc_now
from .variables import SavedVariables


class LinkPhase(str, enum.Enum):
    """Whether a kernel can be reached. ``lost`` is *unknown*, never dead; ``gone`` is confirmed."""

    LOCAL = "local"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    GONE = "gone"


@dataclass(frozen=True)
class LinkState(Shape):
    state: LinkPhase
    since: str
    attempt: int = 0
    """Which try to reconnect this is; 0 when connected."""
    reason: str = ""
    """A sentence: why it is not connected."""


@dataclass(frozen=True)
class KernelRecord(Shape):
    """A row of ``GET kernels``: a kernel whose front this server holds."""

    id: str
    path: str | None
    """The notebook's path, from the session manager."""
    compute: str
    kernelspec: str
    link: LinkState
    execution_state: str
    last_activity: str
    moving_to: str | None = None
    """The compute of an attach that is under way."""
    last_compute: str | None = None
    """Where the notebook last ran, if that is elsewhere and it was not brought back from there."""
    problem: Problem | None = None
    """Why its process ended without anybody's asking (``OutOfMemory``), until it has been moved or restarted by a person."""
    saved: SavedVariables | None = None
    """Variables of its notebook that wait on a VM's disk."""

    @property
    def notebook(self) -> str:
        """What to call it: its path, or a short form of the kernel's id where there is none (nbclient, a console)."""
        return self.path or f"notebook {self.id[:8]}"


@dataclass(frozen=True)
class Module(Shape):
    """A module that a notebook imports, as seen from a kernel on a VM."""

    name: str
    package: str
    """What to install for it; empty where that is not known, or it is not missing."""
    state: str
    """present, missing, local (beside the notebook) or unknown."""


@dataclass(frozen=True)
class Question(Shape):
    """What code of a notebook wants to do and a person has to allow, in the page: to start something that is billed, or to load
    what a VM sends."""

    id: str
    kind: str
    """start, resize or carry."""
    kernel: str
    path: str | None
    compute: str
    text: str
    """The question, in sentences."""
    price: Price | None = None
    asked: str = field(default_factory=utc_now)
