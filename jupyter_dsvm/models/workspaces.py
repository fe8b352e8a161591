"""Folders whose files are on a VM too."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .computes import Problem
from .shape import Shape


class WorkspaceState(str, enum.Enum):
    OFF = "off"
    """These files do not travel; ``text`` says why."""
    WAITING = "waiting"
    """Something has changed, or may have, and is looked at in a moment; or the VM is out of reach."""
    COPYING = "copying"
    IN_STEP = "in_step"
    CONFLICTS = "conflicts"
    """In step, but for what both sides had changed: both versions are there."""
    HALTED = "halted"
    """Nothing was done, because it looked wrong; ``problem`` says what, and a forced sync does it."""
    FAILED = "failed"


@dataclass(frozen=True)
class WorkspaceConflict(Shape):
    """A file that both sides had changed. This server's version has the name, the other is kept beside it."""

    path: str
    """Relative to the workspace."""
    kept_as: str
    """Where the VM's version is."""


@dataclass(frozen=True)
class WorkspaceFile(Shape):
    """A file that stayed where it was."""

    path: str
    size: int | None = None
    """Bytes."""
    reason: str = ""


@dataclass(frozen=True)
class WorkspaceRecord(Shape):
    """A row of ``GET workspaces``: a folder here whose files are on a VM too."""

    id: str
    compute: str
    folder: str
    """Relative to the server's root; "" is the root itself."""
    kernels: tuple[str, ...]
    state: WorkspaceState
    text: str
    """What the panel says: "84 MB, in step"."""
    files: int = 0
    bytes: int = 0
    progress: float | None = None
    conflicts: tuple[WorkspaceConflict, ...] = ()
    left_there: tuple[WorkspaceFile, ...] = ()
    """On the VM only, since this server has no room for them."""
    skipped: tuple[WorkspaceFile, ...] = ()
    problem: Problem | None = None
    as_of: str | None = None
    """When both sides were last in step."""


@dataclass(frozen=True)
class WorkspaceEstimate(Shape):
    """What would travel with a notebook to a compute."""

    folder: str
    compute: str
    allowed: bool
    reason: str = ""
    """Why its files cannot travel; empty where they can."""
    files: int = 0
    bytes: int = 0
    """Of what would be copied; less where some of it is there already."""
    needs_yes: bool = False
    """More than ``DSVMService.sync_ask_above_mib``."""
