"""What is known of variables that wait on VMs' disks: which notebook's, where, and what is in them.

They are saved there before a VM is stopped for being idle (``savingvariables``), by the kernel itself; here is only a small file of
this user's (0600) that says so, since it must outlive the server. A notebook has one such save at a time: a later one takes the
place of an earlier. What a VM says of it is cut to bounds before it comes here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .models import SavedVariables, utc_at
from .ssh.keys import write_private

log = logging.getLogger("jupyter_dsvm.carrying")

KEPT_SECONDS = 30 * 24 * 3600.0
MAX_ROWS = 1000
MAX_FILE = 8 * 1024 * 1024
SHOWN = 100
"""Names in a row; there may be more."""


@dataclass(frozen=True)
class Save:
    notebook: str
    """The notebook's file here, absolute; where nobody knows it, ``kernel:`` and the kernel's id."""
    compute: str
    file: str
    """On the VM, absolute."""
    at: float
    names: tuple[str, ...]
    count: int
    bytes: int
    left: tuple[str, ...] = ()
    dropped: bool = False
    """Not wanted any more, and the file has still to be removed there."""

    def shown(self) -> SavedVariables:
        return SavedVariables(
            self.compute, utc_at(self.at), self.names[:SHOWN], self.count, self.bytes, self.left[:SHOWN]
        )


class SavedStore:
    """``of`` never blocks once ``load`` has run; what changes blocks for a small file. Any thread."""

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[str, Save] = {}
        self._dropped: list[Save] = []
        self._loaded = False

    def load(self) -> None:
        with self._lock:
            self._load()

    def of(self, notebook: str | None) -> Save | None:
        """What waits for that notebook. Old ones do not any more."""
        with self._lock:
            save = self._rows.get(notebook) if notebook is not None else None
        return save if save is not None and self._clock() - save.at < KEPT_SECONDS else None

    def put(self, save: Save) -> None:
        with self._lock:
            self._load()
            before = self._rows.pop(save.notebook, None)
            if before is not None and (before.compute, before.file) != (save.compute, save.file):
                self._dropped.append(dataclasses.replace(before, dropped=True))
            self._rows[save.notebook] = save
            self._write()

    def drop(self, notebook: str) -> Save | None:
        """It was loaded, or is not wanted; its file is still to be removed (``to_remove``)."""
        with self._lock:
            self._load()
            save = self._rows.pop(notebook, None)
            if save is not None:
                self._dropped.append(dataclasses.replace(save, dropped=True))
                self._write()
            return save

    def to_remove(self, compute_id: str) -> list[Save]:
        """Files on that VM that nobody wants any more, those that are too old included."""
        with self._lock:
            self._load()
            old = [s for s in self._rows.values() if self._clock() - s.at >= KEPT_SECONDS]
            for save in old:
                del self._rows[save.notebook]
                self._dropped.append(dataclasses.replace(save, dropped=True))
            if old:
                self._write()
            return [s for s in self._dropped if s.compute == compute_id]

    def removed(self, save: Save) -> None:
        with self._lock:
            self._dropped = [s for s in self._dropped if (s.compute, s.file) != (save.compute, save.file)]
            self._write()

    def renamed(self, notebooks: Mapping[str, str]) -> None:
        """By their old files."""
        with self._lock:
            self._load()
            moved = {old: self._rows.pop(old) for old in notebooks if old in self._rows}
            for old, save in moved.items():
                self._rows[notebooks[old]] = dataclasses.replace(save, notebook=notebooks[old])
            if moved:
                self._write()

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if self._file is None:
            return
        try:
            if self._file.stat().st_size > MAX_FILE:
                return
            rows = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        for row in rows if isinstance(rows, list) else ():
            save = _save(row)
            if save is not None and save.dropped:
                self._dropped.append(save)
            elif save is not None:
                self._rows[save.notebook] = save

    def _write(self) -> None:
        if self._file is None:
            return
        newest = sorted([*self._rows.values(), *self._dropped], key=lambda s: s.at)[-MAX_ROWS:]
        try:
            write_private(self._file, json.dumps([dataclasses.asdict(s) for s in newest]).encode())
        except OSError as e:
            log.warning("What was saved on VMs cannot be noted in %s: %s", self._file, e.strerror or e)


def _save(row: Any) -> Save | None:
    try:
        return Save(
            str(row["notebook"]),
            str(row["compute"]),
            str(row["file"]),
            float(row["at"]),
            tuple(str(n) for n in row["names"]),
            int(row["count"]),
            int(row["bytes"]),
            tuple(str(n) for n in row.get("left", ())),
            bool(row.get("dropped", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None
