"""One execution of a cell: what is known of it beside its outputs. Pure.

A run's life::

    QUEUED --busy or execute_input--> RUNNING      any --reply and idle--> DONE, or ABORTED where the reply says so
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .cellouts import OVERHEAD, CellOutputs

WIDGET = "\x01"
"""Before a comm's id in the place of a cell's: what the widget has captured."""
GONE = "\x02"
"""Before the request's id in the place of a cell's: nobody wants that run's outputs any more."""


class State(str, enum.Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(eq=False)
class Run:
    """One execution of a cell."""

    cell: str
    msg_id: str
    session: str
    """The client's."""
    source: str | None
    """None where it is too long."""
    sha256: str
    outputs: CellOutputs
    version: int
    state: State = State.QUEUED
    status: str | None = None
    """As its reply says: ``ok``, ``error``, ``aborted``."""
    count: int | None = None
    started: str | None = None
    """As the kernel says when."""
    ended: str | None = None
    idle: bool = False
    replied: bool = False
    let_go: bool = False
    """The kernel was restarted since: front ends take no more outputs of it."""
    number: int = 0
    """Where it is written; 0: not yet."""
    prompts: list[tuple[str, str, bool]] = field(default_factory=list)
    """What ``input()`` asks for now: the request's id, its prompt, and whether that is a password."""

    @property
    def over(self) -> bool:
        return self.state in (State.DONE, State.ABORTED)

    @property
    def is_forgotten(self) -> bool:
        """It is kept only so that nobody announces it again; for nobody else to see."""
        return self.cell.startswith(GONE)

    @property
    def size(self) -> int:
        return self.outputs.size + len(self.source or "") + OVERHEAD
