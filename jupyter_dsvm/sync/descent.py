"""Opening and naming things inside one folder, whatever links somebody plants in it meanwhile.

Every part of a path is opened relative to the one before and without following links, so that what begins in the folder ends
in it. The functions take a descriptor of an open folder (``dir_fd``) and one name, never a path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ChangedMeanwhile, DiskFull, SyncError, UnsafePath
from .names import POSIX, printable, problem

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
PLAIN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""Without O_NONBLOCK, opening a FIFO would wait for a writer."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.EACCES}
_RENAME_EXCHANGE = 2


@contextmanager
def told(doing: str, path: str) -> Iterator[None]:
    """Turns an ``OSError`` into what the user is told: ``doing`` is what was tried, as in "write"."""
    try:
        yield
    except OSError as e:
        said = f"Could not {doing} “{printable(path)}”: {e.strerror or e}."
        if e.errno in NO_ROOM:
            raise DiskFull(said, advice="Make room on this server, then sync again; nothing was replaced.") from e
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafePath(
                f"Could not {doing} “{printable(path)}”: a link or a file is where a folder should be.",
                advice="Remove it, or put a folder there; nothing is written through links.",
            ) from e
        if e.errno in (errno.ENOENT, errno.EEXIST, errno.ESTALE):
            raise ChangedMeanwhile(said, advice="It changed meanwhile; the next sync looks again.") from e
        raise SyncError(said, advice="Look at its permissions, then sync again.") from e


@contextmanager
def folder(root_fd: int, path: str) -> Iterator[int]:
    """A descriptor of the folder ``path`` in the open folder ``root_fd``; "" is that folder itself."""
    if path and problem(path, POSIX):
        raise UnsafePath(f"“{printable(path)}” is not in the workspace: {problem(path, POSIX)}.")
    fd = os.dup(root_fd)
    try:
        for part in path.split("/") if path else ():
            inner = os.open(part, FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def split(path: str) -> tuple[str, str]:
    """The folder and the name. Raises ``UnsafePath`` where ``path`` is none of a workspace's."""
    if reason := problem(path, POSIX):
        raise UnsafePath(f"“{printable(path)}” is not in the workspace: {reason}.")
    above, _, name = path.rpartition("/")
    return above, name


def own_folder(root_fd: int, name: str) -> int:
    """A descriptor of a folder of ours directly in the workspace, made (0700) where it is missing. A link in its place is
    refused."""
    try:
        os.mkdir(name, 0o700, dir_fd=root_fd)
    except FileExistsError:
        pass
    return os.open(name, FOLDER, dir_fd=root_fd)


def look(name: str, dir_fd: int) -> os.stat_result | None:
    """What has that name, a link itself; None: nothing."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def move_to_free(name: str, from_fd: int, new: str, to_fd: int) -> None:
    """Renames; raises ``FileExistsError`` where ``new`` is taken, and never replaces it."""
    if give_second_name(name, from_fd, new, to_fd):
        os.unlink(name, dir_fd=from_fd)
    else:
        if look(new, to_fd) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        os.rename(name, new, src_dir_fd=from_fd, dst_dir_fd=to_fd)


def give_second_name(name: str, from_fd: int, new: str, to_fd: int) -> bool:
    """A hard link. False where the file system has none, or will not have this one; raises ``FileExistsError`` where
    ``new`` is taken."""
    try:
        os.link(name, new, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
    except OSError as e:
        if e.errno in NO_HARD_LINKS:
            return False
        raise
    except NotImplementedError:  # pragma: no cover - a platform without it
        return False
    return True


def exchange(name: str, from_fd: int, other: str, to_fd: int) -> bool:
    """Swaps two names in one step, so that what was displaced can be looked at. False: this system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    if call(from_fd, os.fsencode(name), to_fd, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), other)


def flush(fd: int) -> None:
    """Returns once the file system of ``fd`` has on disk what was written: one wait instead of one per file."""
    try:
        if sys.platform.startswith("linux") and ctypes.CDLL(None, use_errno=True).syncfs(fd) == 0:
            return
    except (OSError, AttributeError):
        pass
    os.sync()


def is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)
