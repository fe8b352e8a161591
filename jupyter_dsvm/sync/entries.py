"""What a folder holds, as both sides of a workspace describe it to each other. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STAGING = ".dsvm-sync"
"""In a workspace, on either side: where what arrives is written before it is renamed into place."""
TRASH = ".dsvm-trash"
"""In a workspace, on either side: what a sync deleted or replaced, in one folder per day."""
IGNORE_FILE = ".dsvmignore"

UNSETTLED = "?"
"""As a mark: the file was written so shortly before it was looked at that a later write may not show in its time."""
UNSETTLED_NS = 2_000_000_000


class Kind(str, enum.Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """A symbolic link whose target stays inside the workspace."""


class Side(str, enum.Enum):
    HERE = "here"
    """This Jupyter server."""
    THERE = "there"
    """The VM."""

    @property
    def other(self) -> Side:
        return Side.THERE if self is Side.HERE else Side.HERE


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
    mark: str = ""
    """Of a file: what else changes on that side with its content, ``INODE:CTIME_NS``, so that a file that was put in another's
    place with the same size and time is seen. ``UNSETTLED`` where ``mtime_ns`` is less than ``UNSETTLED_NS`` from that
    side's own clock; "" from a side that has nothing to say, whose size and time then decide."""

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "kind": self.kind.value,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "digest": self.digest,
            "executable": self.executable,
            "mark": self.mark,
        }

    @classmethod
    def from_json(cls, data: Any) -> Entry:
        """What the VM sent, which may be anything: raises ``ValueError`` where it is no entry. Whether its path and target are
        harmless is looked at later (``told``, ``local``)."""
        if not isinstance(data, dict) or data.keys() != _TYPES.keys():
            raise ValueError("no entry: other fields")
        for name, kind in _TYPES.items():
            if type(data[name]) is not kind:
                raise ValueError(f"no entry: {name}")
        whole = data["size"] >= 0 and abs(data["mtime_ns"]) < 2**63 and data["size"] < 2**63
        if not whole or len(data["mark"]) > 100 or len(data["digest"]) > 4096 or len(data["path"]) > 8192:
            raise ValueError("no entry: a number or text that nobody needs")
        return cls(**{**data, "kind": Kind(data["kind"])})


_TYPES = {
    "path": str,
    "kind": str,
    "size": int,
    "mtime_ns": int,
    "digest": str,
    "executable": bool,
    "mark": str,
}

Tree = Mapping[str, Entry]
"""A side, by path."""


@dataclass(frozen=True)
class Skipped:
    """Something that does not travel and is not what the user asked to leave out."""

    path: str
    """Printable: bytes that are no UTF-8 are shown as ``\\xNN``."""
    side: Side
    reason: str
    """The end of the sentence "PATH on SIDE does not travel: …"."""


@dataclass(frozen=True)
class Scan:
    """What one look at a side found."""

    tree: Tree | None
    """Without what the rules leave out. None: the workspace's folder is not there at all."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Paths about which this look cannot say what they are or hold, with the reason: a folder or file that cannot be read, a
    link that leads out, a device, something that changed on the way. They are not in ``tree``, which must not be taken for
    deleted: reconcile leaves them, and everything under them, alone."""
    unnamed: tuple[str, ...] = ()
    """Names that are no UTF-8, printable; nobody can ask for them, they are only listed."""
