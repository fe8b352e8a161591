"""A file that arrives: written into the workspace's staging folder, then renamed into place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import DiskFull, SyncError
from . import descent
from .entries import Entry, Kind
from .names import printable
from .scanning import entry_of

if TYPE_CHECKING:
    from .local import LocalFolder
    from .plan import Action

PART = ".part"
READ = 1024 * 1024
LATEST_NS = 2**62
"""Times beyond what file systems take are cut; the VM may say anything."""


def umask() -> int:
    """The process's, read without changing it for the other threads."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as f:
            return next(int(line.split()[1], 8) for line in f if line.startswith("Umask:"))
    except (OSError, StopIteration, ValueError):
        return 0o022


class Staged:
    """A context manager that removes what was not placed, unless ``keep`` was called."""

    def __init__(self, folder: LocalFolder, entry: Entry, staging: int) -> None:
        """``staging`` is a descriptor of the staging folder, and becomes this object's, also if this raises."""
        self.entry = entry
        self._folder = folder
        self._staging = staging
        self._fd = -1
        self._kept = False
        self._digest = hashlib.sha256()
        try:
            if entry.kind is not Kind.FILE:
                raise SyncError(f"“{printable(entry.path)}” is no file.")
            self._open()
            self.offset = self._resume()
            self._room()
        except BaseException:
            self.close()
            raise
        self._written = self.offset

    def _open(self) -> None:
        e = self.entry
        version = "\0".join([e.path, str(e.size), str(e.mtime_ns), e.mark, e.digest])
        self._name = hashlib.sha256(version.encode()).hexdigest()[:32] + PART
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = os.open(self._name, flags, 0o600, dir_fd=self._staging)
        found = os.fstat(self._fd)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            usable = descent.is_plain(found) and found.st_nlink == 1 and found.st_uid == os.geteuid()
        except OSError:
            usable = False  # another sync receives the same file, or there are no locks
        if not usable:
            os.close(self._fd)
            self._fd = -1
            self._name = os.urandom(16).hex() + PART
            self._fd = os.open(self._name, flags | os.O_EXCL, 0o600, dir_fd=self._staging)

    def _resume(self) -> int:
        """Takes what an earlier transfer left, if that is no more than the whole."""
        size = os.fstat(self._fd).st_size
        if size > self.entry.size:
            os.ftruncate(self._fd, 0)
            return 0
        at = 0
        while data := os.pread(self._fd, READ, at):
            self._digest.update(data)
            at += len(data)
        os.lseek(self._fd, at, os.SEEK_SET)
        return at

    def _room(self) -> None:
        """Says at once what would otherwise be found out after gigabytes. Quotas do not show here; a write tells of them."""
        found = os.fstatvfs(self._fd)
        free = found.f_bavail * found.f_frsize
        need = self.entry.size - self.offset
        if need > free:
            raise DiskFull(
                f"“{printable(self.entry.path)}” needs {need} more bytes, and this server's disk has {free}.",
                advice="Make room on this server, then sync again; nothing was replaced.",
            )

    def write(self, data: bytes) -> None:
        """Raises ``DiskFull``. More bytes than the entry has are refused."""
        if self._written + len(data) > self.entry.size:
            raise SyncError(f"More bytes came for “{printable(self.entry.path)}” than were announced.")
        with descent.told("write", self.entry.path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        self._written += len(data)
        self._digest.update(data)

    def keep(self) -> None:
        """The transfer was cut: leave the part for the next try."""
        self._kept = True

    def place(self, action: Action) -> Entry:
        """Checks size and (where known) digest, then renames into place with ``action``'s ``path``, ``replaces``,
        ``keep_as`` and ``trash``. Raises ``ChangedMeanwhile`` where something else is there than ``replaces``. Returns the
        entry as it is here now, with its digest."""
        digest = self._digest.hexdigest()
        if self._written != self.entry.size or self.entry.digest not in ("", digest):
            raise SyncError(
                f"“{printable(action.path)}” arrived incomplete or changed.", advice="The next sync copies it again."
            )
        with descent.told("write", action.path):
            os.fchmod(self._fd, self._mode(action))
            time = min(max(self.entry.mtime_ns, 0), LATEST_NS)
            os.utime(self._fd, ns=(time, time))
            self._folder.put(action, self._staging, self._name)
            self._kept = True  # it has another name now
            return entry_of(action.path, os.fstat(self._fd), digest=digest)

    def _mode(self, action: Action) -> int:
        """That of what it replaces, otherwise what a new file gets; with the executable bit that it has there."""
        mode = 0o666 & ~umask()
        if action.replaces is not None:
            above, name = descent.split(action.path)
            with self._folder.opened() as root, descent.folder(root, above) as fd:
                found = descent.look(name, fd)
            if found is not None and descent.is_plain(found):
                mode = stat.S_IMODE(found.st_mode) & 0o666
        executable = action.entry.executable if action.entry is not None else self.entry.executable
        return mode | ((mode & 0o444) >> 2 if executable else 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self._kept:
                try:
                    os.unlink(self._name, dir_fd=self._staging)
                except FileNotFoundError:
                    pass
        if self._staging >= 0:
            os.close(self._staging)
            self._staging = -1

    def __enter__(self) -> Staged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
