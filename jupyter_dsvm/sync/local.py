"""This side's workspace on disk. Blocking; for worker threads. What comes from the VM is hostile: every step of a path is
opened relative to the one before and without following links, so that nothing is ever written outside the workspace."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from .base import Base
from .entries import Entry, Scan
from .ignore import Rules
from .plan import Action, Outcome


class LocalFolder:
    """One workspace. Every error is a ``SyncError`` (errors.py): ``ChangedMeanwhile``, ``DiskFull``, ``UnsafePath`` or itself."""

    def __init__(self, root: Path) -> None: ...

    def rules(self) -> Rules:
        """From the ``.dsvmignore`` files in the folder."""
        raise NotImplementedError

    def scan(self, base: Base, rules: Rules) -> Scan:
        """Looks at everything that travels; reads no file, and takes digests from ``base`` where the stamp is unchanged."""
        raise NotImplementedError

    def digests(self, paths: Collection[str]) -> Mapping[str, Entry]:
        """The entries of these files with their digest, for ``Plan.digests_here``. What cannot be read is missing."""
        raise NotImplementedError

    def open(self, entry: Entry) -> Reading:
        """Opens a file to push it. Raises ``ChangedMeanwhile`` if it is no plain file any more, ``SecretRefused`` if it begins like a private key."""
        raise NotImplementedError

    def stage(self, entry: Entry) -> Staged:
        """Begins to receive ``entry`` (the other side's) in the staging folder. A part that an earlier, cut-off transfer of exactly this
        version (path, size, mtime, mark, digest) left is kept: ``Staged.offset``."""
        raise NotImplementedError

    def link(self, action: Action) -> Entry:
        """COPY of a link: as ``Staged.place``, for a symbolic link with the target ``action.entry.digest``."""
        raise NotImplementedError

    def carry_out(self, action: Action) -> Outcome:
        """Any action of this side but COPY: FOLDER, DELETE, REMOVE_FOLDER, MOVE. Never raises ``SyncError``: the outcome has the problem."""
        raise NotImplementedError

    def purge(self, days: float = 7.0, max_bytes: int | None = None) -> int:
        """Deletes from the trash what is older, then the oldest above ``max_bytes``, and staged parts older than a day. Returns bytes freed."""
        raise NotImplementedError


class Reading:
    """A file that is read to be pushed; a context manager."""

    def chunks(self, size: int = 256 * 1024, offset: int = 0) -> Iterator[bytes]:
        """Its bytes. Raises ``ChangedMeanwhile`` at the end if the file changed while it was read: what was sent is to be thrown away."""
        raise NotImplementedError

    @property
    def entry(self) -> Entry:
        """After ``chunks``: what was read, with its digest."""
        raise NotImplementedError


class Staged:
    """A file that arrives; a context manager that removes what was not placed, unless ``keep`` was called."""

    offset: int
    """Bytes that are already there."""

    def write(self, data: bytes) -> None:
        """Raises ``DiskFull``. More bytes than the entry has are refused."""
        raise NotImplementedError

    def keep(self) -> None:
        """The transfer was cut: leave the part for the next try."""
        raise NotImplementedError

    def place(self, action: Action) -> Entry:
        """Checks size and (where known) digest, then renames into place with ``action``'s ``path``, ``replaces``, ``keep_as`` and ``trash``.
        Raises ``ChangedMeanwhile`` where something else is there than ``replaces``. Returns the entry as it is here now."""
        raise NotImplementedError
