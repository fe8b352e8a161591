"""The durable list of kernels whose end is owed (``kernels.owed``), shared by all server processes of one user.

One file for each, ``<jupyter data>/jupyter-dsvm/ends/<tag>.json`` (0600 in a 0700 folder), written whole under another name
and then renamed, never changed, and removed when it is settled. As in ``kernels.keptfiles``, a plain write is enough. While
something in a process uses the kernel the process holds the file locked (flock), so that no other one ends it; a killed process
holds nothing. Where the file system knows no locks, nobody can tell, and nothing is ended.

Nothing here raises for what the disk does: there is one warning, and what could not be written down is not known later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from .keptfiles import kept_tags, take, write_all
from .owed import Facts, OwedEnd, Step, step

log = logging.getLogger("jupyter_dsvm.ledger")

MAX_FILE = 64 * 1024

TORN_AGE = 60.0
"""Seconds after which a file that was not renamed is taken to be a killed process's."""

Listener = Callable[[str], None]


def owed_folder() -> Path:
    """Where all of them are. Not made here."""
    return Path(jupyter_data_dir()) / "jupyter-dsvm" / "ends"


class Ledger:
    """One process's view of the list. May be called from any thread; blocks for a file's write at most."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._uses: Counter[str] = Counter()
        self._locked: dict[str, int] = {}
        """The descriptors of those in use that are owed, by tag."""
        self._listeners: list[Listener] = []
        self._warned = False

    # Who has a kernel

    def begin(self, end: OwedEnd, owe: bool) -> None:
        """This process has the kernel from now on. ``owe``: it is new, and unless it becomes a notebook's it is to end."""
        with self._lock:
            self._uses[end.tag] += 1
            if owe:
                self.owe(end)

    def over(self, tag: str, settled: bool) -> None:
        """The backend that had it has done with it. Where its end is owed still, the listeners are told."""
        left = self.leave(tag, settled)
        if left is not None:
            for listener in list(self._listeners):
                listener(left.compute)

    def leave(self, tag: str, settled: bool) -> OwedEnd | None:
        """As ``over`` without telling anybody; what is owed still and in nobody's hands."""
        with self._lock:
            if settled:
                self.forget(tag)
            self._uses[tag] -= 1
            if self._uses[tag] > 0:
                return None
            del self._uses[tag]
            fd = self._locked.pop(tag, None)
            if fd is None:
                return None
            try:
                return _read(fd, tag)
            except (OSError, ValueError):
                return None
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def owed_meanwhile(self, end: OwedEnd | None) -> Iterator[None]:
        """What was kept of it is about to go: it is owed from now on, and nobody else touches that until it is done."""
        if end is None:
            yield
            return
        self.begin(end, owe=True)
        try:
            yield
        finally:
            self.over(end.tag, settled=False)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """``listener(compute)`` when a kernel there was left to itself; on any thread, and it must not block."""
        self._listeners.append(listener)

        def unlisten() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unlisten

    # What is owed

    def owe(self, end: OwedEnd) -> None:
        """Write it down, unless it is."""
        with self._lock:
            if end.tag in self._locked:
                return
            try:
                fd = take(_path(end.tag)) or _make(end)
            except OSError as e:
                self._failed(e)
                return
            self._warned = False
            if end.tag in self._uses:
                self._locked[end.tag] = fd
            else:
                os.close(fd)

    def forget(self, tag: str) -> None:
        """It is settled, or a notebook's."""
        with self._lock:
            try:
                _path(tag).unlink(missing_ok=True)
            except NotADirectoryError:
                pass  # nor was it ever written
            except OSError as e:
                self._failed(e)
            fd = self._locked.pop(tag, None)
            if fd is not None:
                os.close(fd)

    def claim(self, compute: str | None = None) -> list[OwedEnd]:
        """What is to be ended now, on that compute or anywhere, and is this caller's from now on: ``leave`` for each.

        What needs no ending any more is forgotten.
        """
        found = [end for end in map(self._claim, self._paths()) if end is not None]
        if not found:
            return []
        # Only now: whoever moves a kernel from one list to the other has it locked meanwhile.
        tags, complete = kept_tags()
        claimed = []
        for end in found:
            kept = True if end.tag in tags else False if complete else None
            todo = step(Facts(in_use=False, kept=kept, age=time.time() - end.since))
            if todo is Step.END and compute in (None, end.compute):
                claimed.append(end)
            else:
                self.leave(end.tag, settled=todo is Step.FORGET)
        return claimed

    def _paths(self) -> list[Path]:
        folder = owed_folder()
        try:
            for torn in folder.glob("*.new"):
                if time.time() - torn.stat().st_mtime > TORN_AGE:
                    torn.unlink()
            return sorted(folder.glob("*.json"))
        except OSError:
            return []

    def _claim(self, path: Path) -> OwedEnd | None:
        tag = path.stem
        with self._lock:
            if tag in self._uses:
                return None
            fd = None
            try:
                fd = take(path)
                if fd is None:
                    return None
                end = _read(fd, tag)
            except (OSError, ValueError) as e:
                log.warning("Which kernel on a VM is to be ended cannot be read from %s: %s.", path, e)
                if fd is not None:
                    os.close(fd)
                return None
            self._uses[tag] += 1
            self._locked[tag] = fd
            return end

    def _failed(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "Which kernels on VMs are to be ended cannot be written to %s: %s. If this server is killed, a kernel may be left "
                "running on a VM.",
                owed_folder(),
                error,
            )


def _path(tag: str) -> Path:
    return owed_folder() / f"{tag}.json"


def _make(end: OwedEnd) -> int:
    """Locked before anybody can find it. Raises ``OSError``."""
    path = _path(end.tag)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(fd, json.dumps(end.to_json()).encode())
        os.replace(new, path)
    except OSError:
        os.close(fd)
        new.unlink(missing_ok=True)
        raise
    return fd


def _read(fd: int, tag: str) -> OwedEnd:
    """Raises ``OSError`` or ``ValueError``."""
    try:
        end = OwedEnd.from_json(json.loads(os.pread(fd, MAX_FILE, 0)))
    except RecursionError as e:
        raise ValueError(str(e)) from None
    if end.tag != tag:
        raise ValueError("it is of another kernel")
    return end


ledger = Ledger()
"""This process's. The links and what is kept write into it; ``settling`` reads it."""
