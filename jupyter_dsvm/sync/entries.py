"""What a folder holds, as both sides of a workspace describe it to each other. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Kind(str, enum.Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """A symbolic link whose target stays inside the workspace."""


@dataclass(frozen=True)
class Entry:
    """One thing in a workspace."""

    path: str
    """Relative to the workspace, with ``/`` between its parts, without ``.`` or ``..``; as the side that has it spells it."""
    kind: Kind
    size: int = 0
    """Bytes; of a file."""
    mtime_ns: int = 0
    """By that side's clock: only ever compared with what the same side said before."""
    digest: str = ""
    """SHA-256 of a file's bytes in hexadecimal, or a link's target; "" where it was not needed."""
    executable: bool = False


Tree = Mapping[str, Entry]
"""A side, by path."""
