"""One look at this side's folder."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from . import descent
from .base import Base, known
from .entries import IGNORE_FILE, UNSETTLED, UNSETTLED_NS, Entry, Kind, Scan, Side
from .ignore import Rules
from .names import POSIX, link_problem, printable, problem

DEPTH = 100
"""Folders in folders that a scan goes into."""
TRIES = 3
"""Looks at a folder in which names come and go meanwhile."""
IGNORE_FILE_BYTES = 64 * 1024
ENVIRONMENT = "pyvenv.cfg"
"""What has it is a Python environment, whose paths mean nothing on another machine."""


class TooMany(Exception):
    pass


def entry_of(path: str, found: os.stat_result, *, digest: str = "", now_ns: int | None = None) -> Entry:
    """A folder's or file's entry."""
    if stat.S_ISDIR(found.st_mode):
        return Entry(path, Kind.FOLDER)
    now = time.time_ns() if now_ns is None else now_ns
    settled = abs(now - found.st_mtime_ns) >= UNSETTLED_NS
    mark = f"{found.st_ino}:{found.st_ctime_ns}" if settled else UNSETTLED
    executable = bool(found.st_mode & stat.S_IXUSR)
    return Entry(path, Kind.FILE, found.st_size, found.st_mtime_ns, digest, executable, mark)


class Look:
    """A scan in progress. A name that moves while folders are read one after the other may be seen nowhere, and must not
    be taken for deleted: the folders' times are compared afterwards, and the look is repeated."""

    def __init__(self, root: Path, root_fd: int, base: Base, rules: Rules, limit: int) -> None:
        self._root = os.path.realpath(root)
        self._fd = root_fd
        self._base = base
        self._before = known(base, Side.HERE)
        self._rules = rules
        self._limit = limit

    def scan(self) -> Scan:
        for _ in range(TRIES):
            self._tree: dict[str, Entry] = {}
            self._unknown: dict[str, str] = {}
            self._unnamed: list[str] = []
            self._times: dict[str, int] = {}
            self._count = 0
            self._enter("", self._fd, 0)
            if self._is_still():
                break
        else:
            for path in self._base.keys() - self._tree.keys():
                self._unknown.setdefault(path, "the folder changed while it was looked at")
        return Scan(self._tree, self._unknown, tuple(sorted(self._unnamed)))

    def _is_still(self) -> bool:
        for path, then in self._times.items():
            try:
                with descent.folder(self._fd, path) as fd:
                    if os.fstat(fd).st_mtime_ns != then:
                        return False
            except OSError:
                return False
        return True

    def _enter(self, path: str, fd: int, depth: int) -> None:
        self._times[path] = os.fstat(fd).st_mtime_ns
        with os.scandir(fd) as listing:
            entries = sorted(listing, key=lambda e: e.name)
        for found in entries:
            self._count += 1
            if self._count > self._limit:
                raise TooMany
            inner = f"{path}/{found.name}" if path else found.name
            if "not UTF-8" in problem(inner, POSIX):
                self._unnamed.append(printable(inner))
                continue
            try:
                self._take(inner, found, fd, depth)
            except FileNotFoundError:
                continue  # its folder's time tells
            except OSError as e:
                self._unknown[inner] = f"it cannot be read ({e.strerror or e})"

    def _take(self, path: str, found: os.DirEntry[str], fd: int, depth: int) -> None:
        is_folder = found.is_dir(follow_symlinks=False)
        if self._rules.ignores(path, is_folder):
            return
        if is_folder:
            self._folder(path, found.name, fd, depth)
        elif found.is_symlink():
            target = os.readlink(found.name, dir_fd=fd)
            if reason := link_problem(path, target) or leads_out(self._root, path, target):
                self._unknown[path] = reason
            else:
                self._tree[path] = Entry(path, Kind.LINK, digest=target)
        else:
            told = found.stat(follow_symlinks=False)
            if not stat.S_ISREG(told.st_mode):
                self._unknown[path] = "it is neither a file, a folder nor a link"
            else:
                self._tree[path] = self._with_digest(entry_of(path, told))

    def _folder(self, path: str, name: str, fd: int, depth: int) -> None:
        if depth >= DEPTH:
            self._unknown[path] = f"it is more than {DEPTH} folders deep"
            return
        inner = os.open(name, descent.FOLDER, dir_fd=fd)
        try:
            if descent.look(ENVIRONMENT, inner) is not None:
                return
            self._tree[path] = Entry(path, Kind.FOLDER)
            self._enter(path, inner, depth + 1)
        finally:
            os.close(inner)

    def _with_digest(self, entry: Entry) -> Entry:
        old = self._before.get(entry.path)
        if old is None or old.kind is not Kind.FILE or entry.mark == UNSETTLED:
            return entry
        if (old.size, old.mtime_ns, old.mark) != (entry.size, entry.mtime_ns, entry.mark):
            return entry
        return Entry(entry.path, entry.kind, entry.size, entry.mtime_ns, old.digest, entry.executable, entry.mark)


def leads_out(root: str, path: str, target: str) -> str:
    """Why a link with this target may not be at ``path``, by what is on disk on its way, or ""."""
    where = os.path.realpath(os.path.join(root, os.path.dirname(path), target))
    if where != root and not where.startswith(root.rstrip("/") + "/"):
        return "it is a link that leads out of the workspace"
    return ""


def ignore_files(root_fd: int, limit: int) -> Mapping[str, str]:
    """The text of each ``.dsvmignore``, by folder. Folders that the ones above leave out are not entered."""
    files: dict[str, str] = {}
    count = 0

    def enter(path: str, fd: int, depth: int, rules: Rules) -> None:
        nonlocal count
        if text := _text_of(IGNORE_FILE, fd):
            files[path] = text
            rules = Rules({f: t for f, t in files.items() if not f or (path + "/").startswith(f + "/")})
        with os.scandir(fd) as listing:
            inside = sorted(e.name for e in listing if e.is_dir(follow_symlinks=False))
        for name in inside:
            inner = f"{path}/{name}" if path else name
            count += 1
            if count > limit or depth >= DEPTH or problem(inner, POSIX) or rules.ignores(inner, True):
                continue
            try:
                with descent.folder(fd, name) as inner_fd:
                    enter(inner, inner_fd, depth + 1, rules)
            except OSError:
                continue

    enter("", root_fd, 0, Rules())
    return files


def _text_of(name: str, dir_fd: int) -> str:
    try:
        fd = os.open(name, descent.PLAIN, dir_fd=dir_fd)
    except OSError:
        return ""
    with open(fd, "rb") as f:
        return f.read(IGNORE_FILE_BYTES).decode("utf-8", "replace") if descent.is_plain(os.fstat(fd)) else ""
