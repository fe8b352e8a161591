"""A workspace's folder on the VM: ``~/notebooks/<name>``, walked without following a link.

Every path is opened name by name from the folder's own descriptor, with O_NOFOLLOW, so that no link in it leads anywhere
else, whoever puts one there and when. In it, ``.dsvm-sync`` has what is being received, and ``.dsvm-trash`` what was deleted or
replaced, in one folder per day, for a week.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import time
from collections import OrderedDict
from typing import Any, List, Optional, Tuple

from .fileframes import STAGING, TRASH, Code, wrong_path, wrong_root
from .filescan import Refused, file_row, same

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OWNER = "owner"
"""In the staging folder: the process that works on the workspace."""
WEEK = 7 * 86400
KEPT_OPEN = 64
"""Descriptors of folders that are kept for the next path."""
UNUSED_PART = 2 * 86400
"""Seconds after which the beginning of a large file that nobody went on with is thrown away."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""A file system without a second name for a file."""


class Tree:
    """Opened by OPEN; one per process."""

    def __init__(self, name: str, make: bool) -> None:
        """Takes the folder over from an earlier process, or makes it. Raises ``Refused`` (MISSING where it is not to be made)."""
        wrong = wrong_root(name)
        if wrong:
            raise Refused(Code.NAME, f"a workspace cannot be called that: {wrong}")
        shown = f"~/notebooks/{name}"
        above = os.path.join(os.path.expanduser("~"), "notebooks")
        if make:
            os.makedirs(above, exist_ok=True)
        self._path = os.path.join(above, name)
        try:
            # The user may have made ~/notebooks a link to a larger disk; from there on no link is followed.
            parent = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.fresh = make and _make(parent, name)
                self.fd = _own(parent, name, shown)
            finally:
                os.close(parent)
        except FileNotFoundError:
            raise Refused(Code.MISSING, f"there is no {shown}") from None
        self._open: OrderedDict[str, int] = OrderedDict()
        self._today = time.strftime("%Y-%m-%d")
        self._lock(shown)
        self._clear_stage()

    def _lock(self, shown: str, wait: float = 5.0) -> None:
        """The newest wins: an older process may be the end of a connection that was cut, which sshd has not noticed yet."""
        self.stage = -1
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._ask_to_leave()
            if time.monotonic() > deadline:
                raise Refused(Code.OTHER, f"another process works on {shown} and does not end")
            time.sleep(0.02)
        _make(self.fd, STAGING)
        self.stage = _own(self.fd, STAGING, f"{shown}/{STAGING}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        owner = os.open(OWNER, flags, 0o600, dir_fd=self.stage)
        os.write(owner, str(os.getpid()).encode())
        os.close(owner)

    def _ask_to_leave(self) -> None:
        """Whoever holds the lock lives, so the number that it wrote is its own; and it must be such a process."""
        try:
            fd = os.open(f"{STAGING}/{OWNER}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                pid = int(os.read(fd, 20) or b"0")
            finally:
                os.close(fd)
            if pid > 1 and pid != os.getpid():
                os.kill(pid, signal.SIGTERM)
        except (ValueError, OSError):
            pass

    def is_there(self) -> bool:
        """Whether the folder has its name still: what is open of one that was removed looks empty."""
        try:
            named, own = os.stat(self._path, follow_symlinks=False), os.fstat(self.fd)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    # Folders

    def folder(self, parts: List[str], make: bool = False) -> int:
        """A descriptor of that folder, which the tree keeps."""
        key = "/".join(parts)
        if not key:
            return self.fd
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        above = self.folder(parts[:-1], make)
        try:
            fd = os.open(parts[-1], FOLDER, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            _make(above, parts[-1], 0o777)
            fd = os.open(parts[-1], FOLDER, dir_fd=above)
        if len(self._open) >= KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[key] = fd
        return fd

    def forget(self) -> None:
        """Folders may have been moved meanwhile: the next path is walked anew. Called whenever nothing is left to do."""
        while self._open:
            os.close(self._open.popitem()[1])

    def place(self, path: object, make: bool = False) -> Tuple[int, str]:
        """The folder that ``path`` is in, and its name there."""
        wrong = wrong_path(path)
        if wrong:
            raise Refused(Code.OUTSIDE, wrong)
        parts = str(path).split("/")
        return self.folder(parts[:-1], make), parts[-1]

    def there(self, path: object) -> Optional[os.stat_result]:
        """What has that name, itself and not what it links to; None for nothing."""
        try:
            folder, name = self.place(path)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, path: object) -> Tuple[int, os.stat_result]:
        """An ordinary file, to be read. Pipes and devices are not waited for."""
        folder, name = self.place(path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Refused(Code.KIND, "it is no ordinary file")
        return fd, found

    def row(self, path: str) -> Optional[List[Any]]:
        """What has that name, as a row; None for nothing."""
        found = self.there(path)
        if found is None:
            return None
        if stat.S_ISREG(found.st_mode):
            return file_row(path, found)
        if stat.S_ISLNK(found.st_mode):
            folder, name = self.place(path)
            return ["l", path, os.readlink(name, dir_fd=folder)]
        return ["d" if stat.S_ISDIR(found.st_mode) else "?", path]

    def check(self, path: str, expect: Any) -> None:
        """Raises ``Refused`` unless what has that name is what the server believes."""
        found = self.row(path)
        if expect is None and found is None:
            return
        if found is not None and isinstance(expect, list) and same(found, expect):
            return
        raise Refused(Code.CHANGED, "it is there meanwhile" if expect is None else "it was changed meanwhile")

    # Changes, all by a name in a folder that was opened without following a link

    def keep(self, path: str, keep_as: Any, trash: bool) -> None:
        """What has that name gets another one first, so that what takes its place ends nothing."""
        if keep_as:
            folder, name = self.place(path)
            there, other = self.place(keep_as, make=True)
            _link(name, other, folder, there)
        if trash:
            self.to_trash(path, copy=True)

    def put(self, staged: str, path: str) -> None:
        """In place of what is there, or of nothing."""
        folder, name = self.place(path, make=True)
        os.rename(staged, name, src_dir_fd=self.stage, dst_dir_fd=folder)

    def put_new(self, staged: str, path: str) -> None:
        """Never in place of anything, even of what came in this moment."""
        folder, name = self.place(path, make=True)
        try:
            os.link(staged, name, src_dir_fd=self.stage, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise Refused(Code.CHANGED, "it is there meanwhile") from None
        except OSError as e:
            if e.errno not in NO_LINKS:
                raise
            os.rename(staged, name, src_dir_fd=self.stage, dst_dir_fd=folder)
            return
        os.unlink(staged, dir_fd=self.stage)

    def move(self, path: str, to: object) -> None:
        folder, name = self.place(path)
        there, other = self.place(to, make=True)
        if _is_there(there, other):
            raise Refused(Code.CHANGED, "its new name is taken")
        os.rename(name, other, src_dir_fd=folder, dst_dir_fd=there)
        self.forget()

    def make_folder(self, path: str) -> None:
        folder, name = self.place(path, make=True)
        _make(folder, name, 0o777)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise Refused(Code.KIND, "something that is no folder has that name")

    def remove_folder(self, path: str) -> bool:
        """Whether it is gone; one that holds what does not travel stays."""
        self.forget()
        try:
            folder, name = self.place(path)
            os.rmdir(name, dir_fd=folder)
            return True
        except FileNotFoundError:
            return True
        except OSError as e:
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise

    def to_trash(self, path: str, copy: bool = False) -> None:
        """Move it there, or with ``copy`` let the trash have it too. Nothing of what is there already is lost."""
        folder, name = self.place(path)
        _make(self.fd, TRASH)
        trash = _own(self.fd, TRASH, TRASH)
        try:
            for part in (self._today, *path.split("/")[:-1]):
                _make(trash, part)
                below = os.open(part, FOLDER, dir_fd=trash)
                os.close(trash)
                trash = below
            there, count = name, 0
            while _is_there(trash, there):
                count += 1
                there = f"{_short(name)}.{count}"
            if copy:
                _link(name, there, folder, trash)
            else:
                os.rename(name, there, src_dir_fd=folder, dst_dir_fd=trash)
        finally:
            os.close(trash)

    def purge(self) -> None:
        """What has been in the trash for a week. Called once per process, on a thread of its own."""
        try:
            trash = os.open(TRASH, FOLDER, dir_fd=self.fd)
        except OSError:
            return
        try:
            names = os.listdir(trash)
            for name in names:
                found = os.stat(name, dir_fd=trash, follow_symlinks=False)
                if found.st_mtime < time.time() - WEEK and stat.S_ISDIR(found.st_mode):
                    shutil.rmtree(f"/proc/self/fd/{trash}/{name}", ignore_errors=True)
            os.rmdir(TRASH, dir_fd=self.fd)  # where nothing is left in it
        except OSError:
            pass
        finally:
            os.close(trash)

    def _clear_stage(self) -> None:
        """What an earlier process left half-way, but for the beginnings of large files."""
        self.parts = 0
        for name in os.listdir(self.stage):
            try:
                age = time.time() - os.stat(name, dir_fd=self.stage, follow_symlinks=False).st_mtime
                if name != OWNER and (not name.endswith(".part") or age > UNUSED_PART):
                    os.unlink(name, dir_fd=self.stage)
                elif name != OWNER:
                    self.parts += 1
            except OSError:
                pass

    def room(self) -> Tuple[int, int]:
        """Bytes free for this account, and bytes in all."""
        found = os.fstatvfs(self.fd)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def folds_case(self) -> bool:
        """Whether names that differ in case only are one here."""
        return _is_there(self.stage, OWNER.upper())

    def close(self) -> None:
        """Nothing but what was stored, the trash and the beginnings of large files stays."""
        self.forget()
        try:
            os.unlink(OWNER, dir_fd=self.stage)
            os.rmdir(STAGING, dir_fd=self.fd)
        except OSError:
            pass
        for fd in (self.stage, self.fd):
            os.close(fd)


def part_name(path: str, size: int, mtime_ns: int) -> str:
    """Where the beginning of a large file lies; another version of it has another name."""
    return hashlib.sha256(f"{size} {mtime_ns} {path}".encode()).hexdigest()[:40] + ".part"


def _make(parent: int, name: str, mode: int = 0o700) -> bool:
    """Whether the folder was missing."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
        return True
    except FileExistsError:
        return False


def _own(parent: int, name: str, shown: str) -> int:
    """A folder that is this account's and no link."""
    try:
        fd = os.open(name, FOLDER, dir_fd=parent)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Refused(Code.KIND, f"{shown} is a link or a file, not a folder") from None
        raise
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise Refused(Code.OTHER, f"{shown} belongs to another account")
    return fd


def _link(name: str, other: str, folder: int, there: int) -> None:
    """A second name for the same file. Where the file system has none of those: a copy."""
    try:
        os.link(name, other, src_dir_fd=folder, dst_dir_fd=there, follow_symlinks=False)
        return
    except FileExistsError:
        raise Refused(Code.CHANGED, "the name under which it was to be kept is taken") from None
    except OSError as e:
        if e.errno not in NO_LINKS:
            raise
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(source, "rb") as read:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(other, flags, 0o600, dir_fd=there), "wb") as copy:
            shutil.copyfileobj(read, copy, 1 << 20)


def _short(name: str) -> str:
    """With room for a number behind it."""
    return name.encode("utf-8")[:240].decode("utf-8", "ignore")


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False
