"""How much memory a tree of processes has, and how much data a folder: for a free tier whose limits nobody enforces.

Where a control group or a volume enforces them, those are asked instead (``relay.usage``, ``own_volume``).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..relay.usage import Memory, fields, read

COUNT_EVERY = 60.0
"""Seconds at least between two counts of the same folder; and so many times as long as a count takes:"""

COUNT_SHARE = 20

COUNT_SECONDS = 60.0
MAX_ENTRIES = 2_000_000
"""A count that takes longer, or finds more, is given up: then nobody knows."""

FIRST_SECONDS = 0.2
"""What a first question waits for the count, which mostly takes less."""

BREATH = 500
"""Entries after which a count pauses for a millisecond: it is in nobody's hurry."""


def tree_memory(proc: Path, root: int) -> int | None:
    """Bytes of memory of a process and all that it has started, shared pages counted once. None where there is no /proc.

    Proportional sets where the system tells them, else what is the process's own."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents(proc):
        children.setdefault(parent, []).append(pid)
    total, found, left = 0, False, [root]
    while left:
        pid = left.pop()
        left += children.get(pid, [])
        size = _size(proc / str(pid))
        if size is not None:
            total, found = total + size, True
    return total if found else None


def peak_memory(proc: Path, root: int) -> int | None:
    """Bytes that a process has had at most since it began, or has now together with all that it has started; the larger. None where
    there is no /proc, or no such process."""
    own = fields(read(f"{proc}/{root}/status")).get("VmHWM")
    now = tree_memory(proc, root)
    known = [size for size in (own, now) if size]
    return max(known) if known else None


def _parents(proc: Path) -> Iterator[tuple[int, int]]:
    try:
        names = os.listdir(proc)
    except OSError:
        return
    for name in names:
        if name.isdigit():
            # After the program's name, which may have anything in it: the state, and the parent.
            rest = (read(f"{proc}/{name}/stat") or "").rpartition(")")[2].split()
            if len(rest) > 1 and rest[1].isdigit():
                yield int(name), int(rest[1])


def _size(folder: Path) -> int | None:
    proportional = fields(read(f"{folder}/smaps_rollup")).get("Pss")
    if proportional is not None:
        return proportional
    status = fields(read(f"{folder}/status"))
    return status["RssAnon"] + status.get("RssShmem", 0) if "RssAnon" in status else None


def own_volume(folder: str, mountinfo: str | None) -> Memory | None:
    """The volume that is mounted at ``folder``, as a hub does for each user; None where it is a part of a larger one, or of a
    server's that many share."""
    path = os.path.realpath(folder)
    for line in reversed((mountinfo or "").splitlines()):  # the latest mount at a place is the one that is seen
        before, _, after = line.partition(" - ")
        parts, source = before.split(), after.split()
        if len(parts) < 5 or len(source) < 2 or _unescaped(parts[4]) != path:
            continue
        # Of a bind mount only the folder is another's own: the file system behind it has others' files, too.
        if path == "/" or parts[3] != "/" or not source[1].startswith("/dev/"):
            return None
        try:
            stat = os.statvfs(path)
        except OSError:
            return None
        total = stat.f_blocks * stat.f_frsize
        return Memory(total - stat.f_bfree * stat.f_frsize, total) if total else None
    return None


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


class DataUse:
    """Counts a folder's files now and then, on a thread of its own; ``of`` gives what the last count found."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._folder = ""
        self._found: int | None = None
        self._again = 0.0

    def of(self, folder: str) -> int | None:
        """Bytes on disk, as of some time ago; None before the first count has ended, or where there is too much to count. Any
        worker thread."""
        with self._lock:
            first = self._folder != folder
            if first:
                self._folder, self._found, self._again = folder, None, 0.0
            due = self._clock() >= self._again
            if due and not self._stop.is_set() and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._count, args=(folder,), name="jupyter-dsvm-data", daemon=True
                )
                self._thread.start()
            thread = self._thread
        if first and thread is not None:
            thread.join(FIRST_SECONDS)
        with self._lock:
            return self._found

    def _count(self, folder: str) -> None:
        begun = self._clock()
        found = data_of(folder, self._stop)
        took = self._clock() - begun
        with self._lock:
            if self._folder == folder:
                self._found = found
                self._again = self._clock() + max(COUNT_EVERY, COUNT_SHARE * took)

    def close(self) -> None:
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(2.0)  # it may hang in a file system that does not answer


def data_of(folder: str, stop: threading.Event, limit: int = MAX_ENTRIES, seconds: float = COUNT_SECONDS) -> int | None:
    """Bytes that the files below ``folder`` take on its file system: links are not followed, other file systems not entered, and
    a file of several names counts once. None where there is more than can be counted."""
    deadline = time.monotonic() + seconds
    try:
        device = os.stat(folder).st_dev
    except OSError:
        return None
    total, entries, folders = 0, 0, [folder]
    seen: set[int] = set()
    while folders:
        try:
            listing = os.scandir(folders.pop())
        except OSError:
            continue  # it is not ours, or has just gone
        with listing:
            for entry in listing:
                entries += 1
                if entries > limit or time.monotonic() > deadline or stop.is_set():
                    return None
                if entries % BREATH == 0:
                    time.sleep(0.001)
                try:
                    stat = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.st_dev != device:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif stat.st_nlink > 1:
                    if stat.st_ino in seen:
                        continue
                    seen.add(stat.st_ino)
                total += getattr(stat, "st_blocks", 0) * 512
    return total
