"""A kernel's variables that go along with a move, or wait on a VM's disk until they are wanted."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .shape import Shape


class CarryState(str, enum.Enum):
    """Whether a kernel's variables can be looked at now."""

    READY = "ready"
    BUSY = "busy"
    """A cell runs, or the kernel has not answered in time."""
    UNSUPPORTED = "unsupported"
    """Not a Python kernel, or one whose Python is another major version than the other one's."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Variable(Shape):
    """One name of the notebook."""

    name: str
    type: str
    """As Python names it, such as ``pandas.DataFrame``."""
    bytes: int | None
    """What would be sent, uncompressed; None where that is not known."""
    moves: bool
    reason: str = ""
    """A sentence: why it cannot move; empty where it can."""


@dataclass(frozen=True)
class Variables(Shape):
    """The dry run: what of a kernel could go along to a compute. Nothing has been sent."""

    kernel: str
    compute: str
    """Where to."""
    state: CarryState
    reason: str
    """A sentence: why nothing is known; empty when ready."""
    variables: tuple[Variable, ...] = ()
    """Those of the notebook, by name. What moves without counting (modules, what an import defines) is not among them."""
    more: int = 0
    """So many more are not listed."""
    bytes: int = 0
    """Of those that move."""
    seconds: float | None = None
    """About how long that takes; None where the link has not been measured."""
    needs_yes: bool = False
    """They come back from a VM from which nobody has allowed that yet: loading them runs what that VM sends, beside the server's
    token."""


@dataclass(frozen=True)
class SavedVariables(Shape):
    """Variables of a notebook that were saved on a VM's disk before it was stopped for being idle."""

    compute: str
    saved: str
    names: tuple[str, ...]
    """The first hundred."""
    count: int
    bytes: int
    left: tuple[str, ...] = ()
    """Names that could not be saved; the first hundred."""
