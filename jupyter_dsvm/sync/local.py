"""This side's workspace on disk. Blocking; for worker threads.

What comes from the VM is hostile, and the folder may change at any moment: every path is walked part by part without following
links (``descent``), what arrives is written into the staging folder and renamed into place, and what is to be replaced or deleted
is touched only while it is what the plan was made for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from ..errors import ChangedMeanwhile, FolderRefused, SecretRefused, SyncError, UnsafePath
from . import descent, trash
from .base import Base
from .entries import STAGING, UNSETTLED, Entry, Kind, Scan
from .ignore import Rules, never_pulled
from .names import Names, link_problem, printable
from .plan import Action, Do, Outcome
from .reading import Reading
from .scanning import Look, TooMany, ignore_files, leads_out
from .staging import Staged

FILES = 200_000
"""Things in a workspace that a scan looks at."""
REGENERATED = frozenset(
    {"__pycache__", ".ipynb_checkpoints", ".DS_Store", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)
"""A folder that holds nothing else counts as empty; it goes to the trash whole."""


class LocalFolder:
    """One workspace; one sync of it at a time. Every error is a ``SyncError``: ``ChangedMeanwhile``, ``DiskFull``,
    ``UnsafePath``, ``SecretRefused`` or itself."""

    def __init__(self, root: Path, *, limit: int = FILES, today: Callable[[], date] = date.today) -> None:
        if os.open not in os.supports_dir_fd:  # Windows
            raise FolderRefused(
                "Files cannot travel from this server: its system cannot open a file relative to a folder.",
                advice="Attach with `%dsvm attach NAME --no-sync`.",
            )
        self.root = Path(os.path.realpath(root))
        self._limit = limit
        self._today = today
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The workspace's folder; it must be the one that the last scan looked at."""
        fd = os.open(self.root, descent.FOLDER)
        try:
            found = os.fstat(fd)
            if self._identity is None:
                self._identity = (found.st_dev, found.st_ino)
            elif self._identity != (found.st_dev, found.st_ino):
                raise ChangedMeanwhile(
                    f"The folder {self.root} is another one than when this sync began.",
                    advice="Nothing is written into it; sync again.",
                )
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _at(self, path: str, doing: str) -> Iterator[tuple[int, int, str]]:
        """Descriptors of the workspace and of the folder that ``path`` is in, and its name there."""
        above, name = descent.split(path)
        with descent.told(doing, path), self.opened() as root, descent.folder(root, above) as fd:
            yield root, fd, name

    # Looking.

    def names(self) -> Names:
        """What this folder's file system makes of names; for ``Options.here_names``."""
        with descent.told("look at", str(self.root)), self.opened() as fd:
            os.close(descent.own_folder(fd, STAGING))
            folds = descent.look(STAGING.upper(), fd) is not None
            longest = os.fpathconf(fd, "PC_NAME_MAX")
        return Names(folds_case=folds, max_name=min(255, longest) if longest > 0 else 255)

    def rules(self) -> Rules:
        """From the ``.dsvmignore`` files in the folder; before the scan."""
        self._identity = None
        with descent.told("look through", str(self.root)):
            try:
                with self.opened() as fd:
                    return Rules(ignore_files(fd, self._limit))
            except FileNotFoundError:
                return Rules()

    def scan(self, base: Base, rules: Rules) -> Scan:
        """Looks at everything that travels; reads no file, and takes digests from ``base`` where the stamp is unchanged.
        A sync begins with it: until the next one the workspace's folder must stay the one that was looked at."""
        self._identity = None
        with descent.told("look through", str(self.root)):
            try:
                with self.opened() as fd:
                    return Look(self.root, fd, base, rules, self._limit).scan()
            except FileNotFoundError:
                return Scan(None)
            except TooMany:
                raise SyncError(
                    f"The folder {self.root} holds more than {self._limit} files.",
                    advice="List what need not travel in a .dsvmignore there, or choose a smaller folder.",
                ) from None

    def digests(self, paths: Collection[str]) -> Mapping[str, Entry]:
        """The entries of these files with their digest, for ``Plan.digests_here``. What cannot be read is missing."""
        found = {}
        for path in paths:
            try:
                with self.open(Entry(path, Kind.FILE), secrets=True) as reading:
                    for _ in reading.chunks():
                        pass
                    found[path] = reading.entry
            except SyncError:
                continue
        return found

    # Sending.

    def open(self, entry: Entry, *, secrets: bool = False) -> Reading:
        """Opens a file to push it, as it is now. Raises ``ChangedMeanwhile`` if it is no plain file any more, and
        ``SecretRefused`` if it holds a private key (unless ``secrets``: it is only looked at)."""
        with self._at(entry.path, "read") as (_root, fd, name):
            opened = os.open(name, descent.PLAIN, dir_fd=fd)
        try:
            if not descent.is_plain(os.fstat(opened)):
                raise ChangedMeanwhile(f"“{printable(entry.path)}” is no plain file any more.", advice="Sync again.")
            reading = Reading(entry.path, opened)
            if not secrets and reading.holds_key():
                raise SecretRefused(
                    f"“{printable(entry.path)}” holds a private key, which never travels.",
                    advice="If it is none, take the key's header out of its first lines.",
                )
        except BaseException:
            os.close(opened)
            raise
        return reading

    # Receiving.

    def stage(self, entry: Entry) -> Staged:
        """Begins to receive ``entry``, as the other side has it now, in the staging folder. A part that an earlier, cut-off
        transfer of exactly this version (path, size, mtime, mark, digest) left is kept: ``Staged.offset``."""
        descent.split(entry.path)
        with descent.told("write", entry.path), self.opened() as root:
            return Staged(self, entry, descent.own_folder(root, STAGING))

    def link(self, action: Action) -> Entry:
        """COPY of a link: as ``Staged.place``, for a symbolic link with the target ``action.entry.digest``."""
        assert action.entry is not None
        path, target = action.path, action.entry.digest
        if reason := link_problem(path, target):
            raise UnsafePath(f"“{printable(path)}” is not made here: {reason}.")
        with self._at(path, "make the link") as (root, _fd, _name):
            if reason := leads_out(str(self.root), path, target):
                raise UnsafePath(f"“{printable(path)}” is not made here: {reason}.")
            staging = descent.own_folder(root, STAGING)
            try:
                name = f"{os.urandom(8).hex()}.link"
                os.symlink(target, name, dir_fd=staging)
                try:
                    self.put(action, staging, name)
                except BaseException:
                    os.unlink(name, dir_fd=staging)
                    raise
            finally:
                os.close(staging)
        return Entry(path, Kind.LINK, digest=target)

    def put(self, action: Action, staging: int, staged: str) -> None:
        """Renames ``staged`` from the staging folder into place; ``Staged.place`` and ``link`` call it."""
        path, expected = action.path, action.replaces
        self._harmless(path)
        with self._at(path, "write") as (root, fd, name):
            if expected is None:
                descent.move_to_free(staged, staging, name, fd)
                return
            self._check(path, expected, fd, name)
            if action.keep_as:
                above, kept = descent.split(action.keep_as)
                with descent.folder(root, above) as keep_fd:
                    trash.keep(name, fd, kept, keep_fd)
            elif action.trash:
                with trash.bin_for(root, path, self._today()) as (bin_fd, free):
                    trash.keep(name, fd, free, bin_fd)
            if not descent.exchange(staged, staging, name, fd):
                os.replace(staged, name, src_dir_fd=staging, dst_dir_fd=fd)
                return
            # What was displaced is now in the staging folder: it must be what was to be replaced.
            try:
                self._check(path, expected, staging, staged, moved=True)
            except ChangedMeanwhile:
                descent.exchange(staged, staging, name, fd)
                raise
            os.unlink(staged, dir_fd=staging)

    @staticmethod
    def _harmless(path: str) -> None:
        """No plan has such a path; but a mistake in one would run somebody's code."""
        if reason := never_pulled(path):
            raise UnsafePath(f"“{printable(path)}” is not written here: {reason}.")

    # What changes only this side.

    def carry_out(self, action: Action) -> Outcome:
        """Any action of this side but COPY: FOLDER, DELETE, REMOVE_FOLDER, MOVE. Never raises ``SyncError``: the outcome has
        the problem."""
        does = {
            Do.FOLDER: self._make_folder,
            Do.DELETE: self._delete,
            Do.REMOVE_FOLDER: self._remove_folder,
            Do.MOVE: self._move,
        }
        try:
            return does[action.do](action)
        except SyncError as e:
            return Outcome(action, False, problem=str(e))

    def _make_folder(self, action: Action) -> Outcome:
        self._harmless(action.path)
        with self._at(action.path, "make the folder") as (_root, fd, name):
            try:
                os.mkdir(name, dir_fd=fd)
            except FileExistsError:
                found = descent.look(name, fd)
                if found is None or not stat.S_ISDIR(found.st_mode):
                    raise
        # The other side has it, or it would not be made.
        entry = Entry(action.path, Kind.FOLDER)
        return Outcome(action, True, here=entry, there=entry)

    def _delete(self, action: Action) -> Outcome:
        assert action.entry is not None
        with self._at(action.path, "delete") as (root, fd, name):
            self._check(action.path, action.entry, fd, name)
            with trash.bin_for(root, action.path, self._today()) as (bin_fd, free):
                os.rename(name, free, src_dir_fd=fd, dst_dir_fd=bin_fd)
                try:
                    self._check(action.path, action.entry, bin_fd, free, moved=True)
                except ChangedMeanwhile:
                    descent.move_to_free(free, bin_fd, name, fd)
                    raise
        return Outcome(action, True)

    def _remove_folder(self, action: Action) -> Outcome:
        with self._at(action.path, "remove the folder") as (root, fd, name):
            found = descent.look(name, fd)
            if found is None:
                return Outcome(action, True)
            if not stat.S_ISDIR(found.st_mode):
                raise ChangedMeanwhile(f"“{printable(action.path)}” is no folder any more.", advice="Sync again.")
            with descent.folder(fd, name) as inside:
                left = set(os.listdir(inside))
            if not left:
                try:
                    os.rmdir(name, dir_fd=fd)
                    return Outcome(action, True)
                except OSError:
                    pass  # something came into it
            elif left <= REGENERATED:
                with trash.bin_for(root, action.path, self._today()) as (bin_fd, free):
                    os.rename(name, free, src_dir_fd=fd, dst_dir_fd=bin_fd)
                return Outcome(action, True)
        return Outcome(action, True, here=Entry(action.path, Kind.FOLDER))

    def _move(self, action: Action) -> Outcome:
        assert action.entry is not None
        above, new = descent.split(action.keep_as)
        with self._at(action.path, "rename") as (root, fd, name), descent.folder(root, above) as to_fd:
            self._check(action.path, action.entry, fd, name)
            descent.move_to_free(name, fd, new, to_fd)
        return Outcome(action, True)

    def _check(self, path: str, expected: Entry, fd: int, name: str, *, moved: bool = False) -> None:
        """That ``name`` is still ``expected``. ``moved``: it has another name, or a second one, since; this alone changes its
        inode's time of change."""
        found = descent.look(name, fd)
        if found is not None and expected.kind is Kind.LINK:
            same = stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=fd) == expected.digest
        elif found is not None and descent.is_plain(found):
            mark = f"{found.st_ino}:{found.st_ctime_ns}"
            then = expected.mark
            same = (found.st_size, found.st_mtime_ns) == (expected.size, expected.mtime_ns) and (
                then in ("", UNSETTLED) or mark == then or (moved and mark.split(":")[0] == then.split(":")[0])
            )
        else:
            same = False
        if not same:
            raise ChangedMeanwhile(
                f"“{printable(path)}” changed on this server while it was synced.", advice="The next sync looks again."
            )

    # Afterwards.

    def flush(self) -> None:
        """Call it when a plan was carried out, before the base is saved: what was placed is on disk when this returns. What
        has been in the trash for a week is deleted."""
        with descent.told("write", str(self.root)), self.opened() as fd:
            descent.flush(fd)
        self.purge()

    def purge(self, days: float = 7.0, max_bytes: int | None = None) -> int:
        """Deletes from the trash what is older, then the oldest above ``max_bytes``, and staged parts older than a day.
        Returns bytes freed."""
        with descent.told("empty the trash of", str(self.root)), self.opened() as fd:
            return trash.purge(fd, days, max_bytes, self._today())
