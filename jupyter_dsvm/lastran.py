"""Where notebooks last ran, when that was a VM: a small file of this user's, since server, kernel and VM may have ended by then.

``<jupyter data>/jupyter-dsvm/last-ran.json`` (0600): ``[[notebook's whole path, compute's id], …]``, the latest last. It is written
whole under another name and renamed. Two servers of one user write into the same file: each puts in what it knows and leaves the
rest. What cannot be read or written is forgotten with one line in the log; nobody has to wait or to fail for it.

The service notes a notebook when it runs on a VM, and forgets it when somebody brings it back.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger("jupyter_dsvm.lastran")

MAX_NOTEBOOKS = 500
MAX_FILE = 2 * 1024 * 1024
MAX_PATH = 4096


class LastRan:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._known: dict[str, str] = {}
        self._changed: dict[str, str | None] = {}
        """What has not been written yet; None: forgotten."""

    def load(self) -> None:
        """Blocks for a small file. Before that nothing is known."""
        known = self._read()
        with self._lock:
            self._known = {**known, **self._known}

    def get(self, path: str) -> str | None:
        """The compute's id. Does not block; any thread."""
        with self._lock:
            return self._known.get(path)

    def note(self, changes: Mapping[str, str | None]) -> bool:
        """These notebooks run there now, or (None) are to be forgotten. Whether that is news, and ``save`` due. Does not block."""
        with self._lock:
            news = {
                path: compute
                for path, compute in changes.items()
                if len(path) <= MAX_PATH and self._known.get(path) != compute
            }
            for path, compute in news.items():
                self._known.pop(path, None)
                if compute is not None:
                    self._known[path] = compute
            self._changed.update(news)
            return bool(news)

    def save(self) -> None:
        """Write what has changed. Blocks; worker threads."""
        with self._writing:
            with self._lock:
                changed, self._changed = self._changed, {}
            if not changed:
                return
            rows = {path: compute for path, compute in self._read().items() if path not in changed}
            rows.update({path: compute for path, compute in changed.items() if compute is not None})
            new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            try:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with open(fd, "w", encoding="utf-8") as f:
                    json.dump(list(rows.items())[-MAX_NOTEBOOKS:], f)
                os.replace(new, self._file)
            except OSError as e:
                log.warning("Where notebooks last ran is not kept: %s", e)

    def _read(self) -> dict[str, str]:
        try:
            with open(self._file, encoding="utf-8") as f:
                rows = json.loads(f.read(MAX_FILE))
            return {
                path: compute
                for path, compute in rows[-MAX_NOTEBOOKS:]
                if isinstance(path, str) and isinstance(compute, str)
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as e:
            log.warning("Where notebooks last ran cannot be read: %s", e)
            return {}
