"""A folder for what a server process writes for itself and nobody needs after it: kernelspecs of attached machines, what
``ssh`` of a terminal reads. 0700, under Jupyter's runtime folder, gone when the server stops.

A process that was killed leaves it. The next server removes it then: whoever lives holds a lock on a file in theirs, which
a pid, that another process or another computer with the same home folder may have, could not tell.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

PREFIX = "jupyter-dsvm-"
LOCK = "lock"

MIN_AGE = 10.0
"""Seconds; a younger one may not be locked yet."""


class OwnFolder:
    """Made when first used. Any thread; blocks for files only."""

    def __init__(self, base: Path | None = None) -> None:
        self.path = (Path(jupyter_runtime_dir()) if base is None else base) / f"{PREFIX}{secrets.token_hex(8)}"
        self._lock = threading.Lock()
        self._held: int | None = None
        self._removed = False

    def sub(self, name: str) -> Path:
        """The folder of that name in it, 0700. Raises ``OSError``, also once it was removed."""
        with self._lock:
            if self._removed:
                raise FileNotFoundError(f"{self.path} was removed: the server is stopping.")
            if self._held is None:
                self.path.mkdir(mode=0o700, parents=True)
                self._held = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = self.path / name
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder

    def remove(self) -> None:
        """At the server's end. May be called again."""
        with self._lock:
            self._removed = True
            held, self._held = self._held, None
            if held is not None:
                shutil.rmtree(self.path, ignore_errors=True)
                os.close(held)


def sweep(base: Path | None = None) -> int:
    """Remove those of processes that live no more; how many. Called at the server's start; raises nothing."""
    removed = 0
    for folder in (Path(jupyter_runtime_dir()) if base is None else base).glob(f"{PREFIX}*"):
        try:
            about = folder.lstat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < MIN_AGE:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # none of ours, or not known to be left
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        except OSError:
            pass  # somebody lives there
        finally:
            os.close(lock)
    return removed
