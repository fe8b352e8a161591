"""What a workspace's folder on the VM holds, as rows (``fileframes``); and what the system's errors mean there."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import AbstractSet, Any, Callable, Iterator, List

from .fileframes import MAX_PATH, ROWS_AT_ONCE, STAGING, TRASH, Code, wrong_path, wrong_target

UNSETTLED = "?"
UNSETTLED_NS = 2_000_000_000
"""As ``sync.entries`` has them."""

CODES = {
    errno.ENOENT: Code.MISSING,
    errno.EACCES: Code.UNREADABLE,
    errno.EPERM: Code.UNREADABLE,
    errno.EIO: Code.UNREADABLE,
    errno.ENOSPC: Code.FULL,
    errno.EDQUOT: Code.FULL,
    errno.EFBIG: Code.FULL,
    errno.ENAMETOOLONG: Code.NAME,
    errno.EILSEQ: Code.NAME,
    errno.EINVAL: Code.NAME,
    errno.ENOTDIR: Code.KIND,
    errno.EISDIR: Code.KIND,
    errno.ELOOP: Code.KIND,
    errno.EEXIST: Code.CHANGED,
    errno.ENOTEMPTY: Code.NOT_EMPTY,
}


class Refused(Exception):
    """One path failed; the rest goes on."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def why(error: OSError) -> Refused:
    return Refused(CODES.get(error.errno or 0, Code.OTHER), error.strerror or type(error).__name__)


def file_row(path: str, found: os.stat_result) -> List[Any]:
    settled = abs(time.time_ns() - found.st_mtime_ns) >= UNSETTLED_NS
    mark = f"{found.st_ino}:{found.st_ctime_ns}" if settled else UNSETTLED
    return ["f", path, found.st_size, found.st_mtime_ns, bool(found.st_mode & 0o100), mark]


def same(found: List[Any], expect: List[Any]) -> bool:
    """Whether two rows are of the same thing. A mark that says nothing is not held against the other one."""
    if found[0] != "f" or expect[0] != "f" or len(expect) < 6:
        return found[0] == expect[0] and found[2:3] == expect[2:3]
    marks = (found[5], expect[5])
    return found[2:4] == expect[2:4] and (found[5] == expect[5] or UNSETTLED in marks or "" in marks)


class Found:
    """Some rows of a scan."""

    def __init__(self) -> None:
        self.rows: List[List[Any]] = []
        self.unknown: List[List[str]] = []
        self.unnamed: List[str] = []

    def __len__(self) -> int:
        return len(self.rows) + len(self.unknown) + len(self.unnamed)


def scan(open_folder: Callable[[List[str]], int], pruned: AbstractSet[str]) -> Iterator[Found]:
    """What is there, folder by folder; folders with a name in ``pruned`` are not entered."""
    waiting: List[str] = [""]
    found = Found()
    while waiting:
        above = waiting.pop()
        try:
            folder = open_folder(above.split("/") if above else [])
            with os.scandir(folder) as entries:
                for entry in entries:
                    _look(folder, entry, above, pruned, found, waiting)
                    if len(found) >= ROWS_AT_ONCE:
                        yield found
                        found = Found()
        except FileNotFoundError:
            pass  # gone meanwhile
        except OSError as e:
            found.unknown.append([above, why(e).code])
    yield found


def _look(
    folder: int, entry: os.DirEntry[str], above: str, pruned: AbstractSet[str], found: Found, waiting: List[str]
) -> None:
    path = f"{above}/{entry.name}" if above else entry.name
    if path in (STAGING, TRASH):
        return
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        found.unnamed.append(os.fsencode(path).decode("utf-8", "backslashreplace"))
        return
    if wrong_path(path):
        found.unknown.append([path[:MAX_PATH], Code.NAME])
        return
    try:
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(about.st_mode):
            found.rows.append(file_row(path, about))
        elif stat.S_ISDIR(about.st_mode):
            if entry.name not in pruned:
                found.rows.append(["d", path])
                waiting.append(path)
        elif stat.S_ISLNK(about.st_mode):
            target = os.readlink(entry.name, dir_fd=folder)
            if wrong_target(path, target):
                found.unknown.append([path, Code.OUTSIDE])
            else:
                found.rows.append(["l", path, target])
        else:
            found.unknown.append([path, Code.KIND])
    except FileNotFoundError:
        pass  # gone meanwhile
    except OSError as e:
        found.unknown.append([path, why(e).code])
