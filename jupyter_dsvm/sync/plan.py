"""What a sync is to do, and what became of it: the shapes that ``reconcile`` returns and that both sides carry out. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .base import Row
from .entries import Entry, Side, Skipped
from .ignore import never_pulled
from .names import POSIX, Names


class Direction(str, enum.Enum):
    PUSH = "push"
    """Only what changed here: on attach, on save. What changed there is left for the next pull."""
    PULL = "pull"
    """Only what changed there: after an execution."""
    BOTH = "both"


class Do(str, enum.Enum):
    MOVE = "move"
    """Rename ``path`` to ``keep_as`` on ``side``; only in a forced plan, where a file is in a folder's way."""
    FOLDER = "folder"
    """Make a folder."""
    COPY = "copy"
    """Bring a file or link from the other side: stage, then rename into place."""
    DELETE = "delete"
    """Move a file or link to the side's trash."""
    REMOVE_FOLDER = "remove_folder"
    """Remove a folder if it is empty; if it is not (what does not travel is in it), it stays, and that is no error."""


class Why(str, enum.Enum):
    NEW = "new"
    CHANGED = "changed"
    DELETED = "deleted"
    REVIVED = "revived"
    """Deleted on ``side``, but changed on the other: the changed one comes back."""
    CONFLICT = "conflict"
    """Changed on both sides."""
    TYPE = "type"
    """A file where the other side has a folder; only in a forced plan."""


@dataclass(frozen=True)
class Action:
    """One step. A side does it only if what it has at ``path`` is still what the plan was made for; otherwise the outcome is
    not done, with a problem, and the next sync looks again."""

    do: Do
    side: Side
    """The side that changes."""
    path: str
    why: Why
    entry: Entry | None = None
    """COPY: as the other side has it (a source that has changed since may be copied as it is now, if it is read whole).
    DELETE, MOVE: what ``side`` has; anything else there is not touched."""
    replaces: Entry | None = None
    """COPY: what ``side`` has at ``path`` and may be replaced. None: nothing may be there."""
    keep_as: str = ""
    """COPY: what is replaced gets this name first (a hard link, or a copy), so that it is never gone. It must be free."""
    trash: bool = False
    """COPY: what is replaced goes to the trash of ``side``."""


@dataclass(frozen=True)
class Outcome:
    """What became of one action, told by who carried it out."""

    action: Action
    done: bool
    here: Entry | None = None
    """What this side has at ``action.path`` afterwards, with its digest; for a COPY the source as it was read. None: nothing."""
    there: Entry | None = None
    problem: str = ""
    """Why it was not done: a sentence."""
    secret: bool = False
    """It was not done since it must never be: the file holds a key. Nothing is wrong, and nothing is to be tried again."""


@dataclass(frozen=True)
class Conflict:
    """Both sides changed ``path`` differently (or it is open here and changed there). Here's version has the name afterwards."""

    path: str
    kept_as: str
    """Where there's version is, on both sides once the plan is carried out."""
    here: Entry
    there: Entry


class HaltReason(str, enum.Enum):
    VANISHED = "vanished"
    """A side's folder is not there, and was."""
    EMPTY = "empty"
    """A side has not one file, and had some."""
    TYPE = "type"
    """A file became a folder, or a folder a file."""
    MANY_DELETIONS = "many_deletions"
    """More than half of a side's files would be deleted."""


@dataclass(frozen=True)
class Halt:
    """Why nothing was done. ``Options.forced`` = ``id`` carries this plan out, and no other."""

    reasons: tuple[HaltReason, ...]
    message: str
    """Whole sentences: what was found."""
    advice: str
    """What ``%dsvm sync --force`` would do, and what else could be done."""
    id: str


@dataclass(frozen=True)
class Options:
    now: datetime
    """In the user's time zone; becomes part of a conflict copy's name."""
    there_name: str
    """The VM's, for names of copies and for sentences."""
    here_names: Names = POSIX
    there_names: Names = POSIX
    owned_here: frozenset[str] = frozenset()
    """Notebooks that are open in the page: pushed, never overwritten or deleted here."""
    never_pull: Callable[[str], str] = never_pulled
    """The reason why this path is never written here, or ""."""
    unknown_here: Mapping[str, str] = field(default_factory=dict)
    """``Scan.unknown`` of each side."""
    unknown_there: Mapping[str, str] = field(default_factory=dict)
    pull_bytes: int | None = None
    """How many bytes may still be written here (80 % of the data limit, less what is used). None: no limit."""
    fetch: frozenset[str] = frozenset()
    """Paths that the user asked for by name, whatever ``pull_bytes`` says."""
    ask_above: int | None = None
    """A push of more bytes asks first."""
    agreed_bytes: int = 0
    """What the user has said yes to."""
    forced: str = ""
    """``Halt.id`` of the plan that the user wants all the same."""
    modes_here: bool = True
    """Whether this side's file system has an executable bit (Windows has none)."""
    trash_below: int = 16 * 2**20
    """Files up to this size go to the trash when they are replaced; larger ones are only replaced. Deleted ones always go there."""


@dataclass(frozen=True)
class Plan:
    phases: tuple[tuple[Action, ...], ...] = ()
    """Each phase waits for the one before: what is in the way, folders, pushes, pulls, deletions, folders. The copies of one phase
    may be done side by side, the rest in their order. An action that was not done stops no other."""
    conflicts: tuple[Conflict, ...] = ()
    left_there: tuple[Entry, ...] = ()
    """What did not fit here, largest first."""
    skipped: tuple[Skipped, ...] = ()
    halt: Halt | None = None
    """With a halt there are no actions."""
    needs_yes: int = 0
    """Bytes of the push, if the user must be asked before any action is done; otherwise 0."""
    digests_here: tuple[str, ...] = ()
    """Files whose digest would spare a copy or a conflict. Whoever asked for the plan has them read (``Entry.digest``)
    and asks again; without them a file whose stamp changed counts as changed, which is safe and moves more."""
    digests_there: tuple[str, ...] = ()
    noted: tuple[Row, ...] = ()
    """What both sides turned out to have alike; for ``advance``."""
    forgotten: tuple[str, ...] = ()
    """Rows of the base that neither side has any more; for ``advance``."""

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(a for phase in self.phases for a in phase)

    @property
    def pushed_bytes(self) -> int:
        return sum(a.entry.size for a in self.copies(Side.THERE) if a.entry)

    @property
    def pulled_bytes(self) -> int:
        return sum(a.entry.size for a in self.copies(Side.HERE) if a.entry)

    def copies(self, to: Side) -> tuple[Action, ...]:
        return tuple(a for a in self.actions if a.do is Do.COPY and a.side is to)
