"""What is kept of each VM for its idle stop: whether it was started from here, and what a person has chosen for it.

One small file for each, ``<jupyter data>/jupyter-dsvm/idle/<hash of its id>.json`` (0600 in a 0700 folder), read before each
reading of a VM, since the command line and other servers of this account write them too. Moments are seconds since 1970. The
choices of a person stay for good; what belongs to one run of the VM is dropped once it is off.

Blocking, for worker threads. What cannot be read is as if it were not there: then a VM is not stopped by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .ssh.keys import private_folder, write_private

log = logging.getLogger("jupyter_dsvm.idle")

VERSION = 1
MAX_FILE = 16 * 1024

CHOICES = ("idle_minutes", "hard_limit_hours")
"""What a person may choose for a VM; None is a choice too: never."""


@dataclass(frozen=True)
class KeptIdle:
    compute: str
    name: str = ""
    """For messages, while nobody can be asked for it."""
    started: float | None = None
    """When it was started from here; None where it was not, or is off."""
    boot: str = ""
    """Of that run, as the VM names it, once it has been heard."""
    keep_until: float | None = None
    choices: Mapping[str, float | None] = field(default_factory=dict)
    """By the names of ``CHOICES``; what is not in it is as configured."""
    shown: Mapping[str, Any] | None = None
    """The last ``models.IdleStop`` of a server that watches it, and ``as_of``: for the command line, which watches nothing."""

    @property
    def is_empty(self) -> bool:
        return self.started is None and self.keep_until is None and not self.choices and self.shown is None

    @property
    def is_chosen(self) -> bool:
        """Whether a person wants it stopped by itself, whoever has started it."""
        return any(value is not None for value in self.choices.values())

    def off(self) -> KeptIdle:
        """Its run has ended."""
        return replace(self, started=None, boot="", keep_until=None, shown=None)

    def to_json(self) -> dict[str, Any]:
        shown = None if self.shown is None else dict(self.shown)
        return {"version": VERSION, **vars(self), "choices": dict(self.choices), "shown": shown}

    @classmethod
    def from_json(cls, value: Any) -> KeptIdle:
        """Raises ``ValueError`` for what this version did not write."""
        if not isinstance(value, dict) or value.get("version") != VERSION or not isinstance(value.get("compute"), str):
            raise ValueError("it is of another version")
        choices, shown = value.get("choices"), value.get("shown")
        return cls(
            value["compute"],
            str(value.get("name") or ""),
            _number(value.get("started")),
            str(value.get("boot") or ""),
            _number(value.get("keep_until")),
            {key: _number(choices[key]) for key in CHOICES if key in choices} if isinstance(choices, dict) else {},
            shown if isinstance(shown, dict) else None,
        )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


class KeptIdles:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._warned = False

    def read(self, compute_id: str) -> KeptIdle:
        try:
            with open(self._file(compute_id), "rb") as file:
                found = KeptIdle.from_json(json.loads(file.read(MAX_FILE)))
        except (OSError, ValueError, RecursionError):
            return KeptIdle(compute_id)
        return found if found.compute == compute_id else KeptIdle(compute_id)

    def change(self, compute_id: str, function: Callable[[KeptIdle], KeptIdle]) -> KeptIdle:
        """Read, change and write it in one, for all processes of this account. Raises nothing for what the disk does: there is one
        line in the log, and it is forgotten with this process."""
        try:
            with self._locked():
                before = self.read(compute_id)
                after = function(before)
                if after.is_empty:
                    self._file(compute_id).unlink(missing_ok=True)
                elif after != before:
                    write_private(self._file(compute_id), json.dumps(after.to_json()).encode())
                return after
        except OSError as e:
            if not self._warned:
                self._warned = True
                log.warning("What is chosen for idle VMs cannot be kept in %s: %s.", self._folder, e)
            return function(KeptIdle(compute_id))

    def all(self) -> list[KeptIdle]:
        found = []
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return []
        for path in paths:
            try:
                kept = KeptIdle.from_json(json.loads(path.read_bytes()[:MAX_FILE]))
            except (OSError, ValueError, RecursionError):
                continue
            if path == self._file(kept.compute):
                found.append(kept)
        return found

    def _file(self, compute_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(compute_id.encode()).hexdigest()[:32]}.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        private_folder(self._folder)
        with self._lock:
            fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                with contextlib.suppress(OSError):  # a file system without locks: the last who writes counts
                    fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)
