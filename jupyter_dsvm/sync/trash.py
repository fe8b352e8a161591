"""What a sync deleted or replaced on this side: ``.dsvm-trash/DATE/PATH`` in the workspace, for a week."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from . import descent
from .entries import STAGING, TRASH

PART_SECONDS = 24 * 3600.0
"""How long a part of a file that did not arrive whole waits for the rest."""
COPIED_AT_ONCE = 1024 * 1024


@contextmanager
def bin_for(root_fd: int, path: str, today: date) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder of the trash that ``path`` goes to today, and a name that is free in it."""
    above, name = descent.split(path)
    fd = descent.own_folder(root_fd, TRASH)
    try:
        for part in (today.isoformat(), *(above.split("/") if above else ())):
            inner = _inner(fd, part)
            os.close(fd)
            fd = inner
        yield fd, _free(fd, name)
    finally:
        os.close(fd)


def _inner(fd: int, name: str) -> int:
    """The folder of that name, or of the next one where a deleted file has it."""
    for candidate in _numbered(name):
        found = descent.look(candidate, fd)
        if found is None or stat.S_ISDIR(found.st_mode):
            return descent.own_folder(fd, candidate)
    raise AssertionError("numbers do not end")


def _free(fd: int, name: str) -> str:
    return next(candidate for candidate in _numbered(name) if descent.look(candidate, fd) is None)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        tail = f" {number}"
        yield os.fsencode(name)[: 255 - len(tail)].decode(errors="ignore") + tail
        number += 1


def keep(name: str, fd: int, new: str, to_fd: int) -> None:
    """Gives what has ``name`` the name ``new`` too. Where the file system has no hard links it is copied."""
    if descent.give_second_name(name, fd, new, to_fd):
        return
    found = descent.look(name, fd)
    if found is not None and stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=fd), new, dir_fd=to_fd)
        return
    source = os.open(name, descent.PLAIN, dir_fd=fd)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(new, flags, 0o600, dir_fd=to_fd)
        try:
            try:
                while data := os.read(source, COPIED_AT_ONCE):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(copy, view) :]
                told = os.fstat(source)
                os.fchmod(copy, stat.S_IMODE(told.st_mode) & 0o777)
                os.utime(copy, ns=(told.st_atime_ns, told.st_mtime_ns))
            except BaseException:
                os.unlink(new, dir_fd=to_fd)
                raise
        finally:
            os.close(copy)
    finally:
        os.close(source)


def purge(root_fd: int, days: float, max_bytes: int | None, today: date) -> int:
    """See ``LocalFolder.purge``. Nothing here is ever followed out of the trash."""
    freed = 0
    if descent.look(TRASH, root_fd) is not None:
        fd = descent.own_folder(root_fd, TRASH)
        try:
            oldest = (today - timedelta(days=days)).isoformat()
            by_day = sorted(os.listdir(fd))
            # The sizes of what stays are asked for only where they count.
            sizes = {day: _size(day, fd) for day in by_day if max_bytes is not None or day < oldest}
            total = sum(sizes.values())
            for day in by_day:
                if day < oldest or (max_bytes is not None and total > max_bytes):
                    _remove(day, fd)
                    total -= sizes[day]
                    freed += sizes[day]
        finally:
            os.close(fd)
    if descent.look(STAGING, root_fd) is not None:
        fd = descent.own_folder(root_fd, STAGING)
        try:
            for name in os.listdir(fd):
                found = descent.look(name, fd)
                if (
                    found is not None
                    and not stat.S_ISDIR(found.st_mode)
                    and time.time() - found.st_ctime > PART_SECONDS
                ):
                    os.unlink(name, dir_fd=fd)
                    freed += found.st_size
        finally:
            os.close(fd)
    return freed


def _size(name: str, dir_fd: int) -> int:
    found = descent.look(name, dir_fd)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return found.st_size if found else 0
    total = 0
    with descent.folder(dir_fd, name) as fd:
        for inner in os.listdir(fd):
            total += _size(inner, fd)
    return total


def _remove(name: str, dir_fd: int) -> None:
    found = descent.look(name, dir_fd)
    if found is None:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=dir_fd)
        return
    with descent.folder(dir_fd, name) as fd:
        for inner in os.listdir(fd):
            _remove(inner, fd)
    os.rmdir(name, dir_fd=dir_fd)
