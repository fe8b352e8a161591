"""Changes of machines as files, so that the next server goes on with what this one had begun when it was killed.

One file for each, ``<jupyter data>/jupyter-dsvm/changes/<operation id>.json`` (0600 in a 0700 folder): the operation with its
steps, the machine's name, the arguments that it was begun with, and its memo's facts. No secrets. It is written whole under
another name and renamed at every note, and removed when the change has ended. The process that makes the change holds the file
locked (flock); a killed process holds nothing, so whoever gets the lock goes on. Where the file system knows no locks nobody
can tell, and nothing is gone on with. As in ``kernels.keptfiles``, plain writes are enough.

``Changes`` opens, notes and closes; ``resuming`` claims. Nothing here raises for what the disk does: there is one warning, and
the change itself goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kernels.keptfiles import take, write_all
from .models import Operation, OperationState, Step, StepState

log = logging.getLogger("jupyter_dsvm.changes")

VERSION = 1
MAX_FILE = 256 * 1024

TORN_AGE = 60.0
"""Seconds after which a file that was not renamed is taken to be a killed process's."""

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class KeptChange:
    """What a file says."""

    operation: Operation
    name: str
    """Of the machine, for messages: nobody can be asked for it yet."""
    arguments: Mapping[str, Any]
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        op = self.operation
        return {
            "version": VERSION,
            "id": op.id,
            "kind": op.kind,
            "compute": op.compute,
            "name": self.name,
            "started": op.started,
            "steps": [s.to_json() for s in op.steps],
            "arguments": dict(self.arguments),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, value: Any) -> KeptChange:
        """Raises ``ValueError`` for what this version did not write."""
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise ValueError("it is of another version")
        texts = {key: value.get(key) for key in ("id", "kind", "compute", "name", "started")}
        for key, text in texts.items():
            if not isinstance(text, str) and not (key == "compute" and text is None):
                raise ValueError(f"its {key} is no text")
        arguments, facts, steps = value.get("arguments"), value.get("facts"), value.get("steps")
        if not isinstance(arguments, dict) or not isinstance(facts, dict) or not isinstance(steps, list):
            raise ValueError("its arguments, facts or steps are none")
        try:
            made = tuple(Step(str(s["name"]), str(s["text"]), StepState(s["state"])) for s in steps)
        except (KeyError, TypeError) as e:
            raise ValueError(f"a step of it is none: {e}") from None
        operation = Operation(
            id=value["id"],
            kind=value["kind"],
            compute=value["compute"],
            kernel=None,
            state=OperationState.RUNNING,
            steps=made,
            progress=_progress(made),
            started=value["started"],
        )
        return cls(operation, value["name"], arguments, facts)


def _progress(steps: tuple[Step, ...]) -> float:
    return sum(s.state is StepState.DONE for s in steps) / len(steps) if steps else 0.0


class Kept:
    """The file of one change that this process makes. May be called from any thread."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path, self._fd = path, fd
        self._lock = threading.Lock()
        self._warned = self._closed = False

    def write(self, kept: KeptChange) -> None:
        """As it stands now. A file cannot be changed in place: who was killed in between would leave half of one."""
        new = self._path.with_suffix(".new")
        with self._lock:
            if self._closed:
                return
            fd = None
            try:
                data = json.dumps(kept.to_json()).encode()
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                with contextlib.suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before anybody can find it
                write_all(fd, data)
                os.replace(new, self._path)
            except (OSError, TypeError, ValueError) as e:
                if fd is not None:
                    os.close(fd)
                    with contextlib.suppress(OSError):
                        new.unlink(missing_ok=True)
                self._warn(e)
                return
            before, self._fd = self._fd, fd
            if before is not None:
                os.close(before)

    def close(self, ended: bool) -> None:
        """``ended``: nobody is to go on with it. Otherwise it is the next server's."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if ended:
                try:
                    self._path.unlink(missing_ok=True)
                except NotADirectoryError:
                    pass  # nor was it ever written
                except OSError as e:
                    self._warn(e)
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "A change of a machine cannot be kept in %s: %s. If this server is killed, the next one does not go on with it.",
                self._path.parent,
                error,
            )


class KeptChanges:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, operation_id: str) -> Kept:
        """For a change that begins now. Touches no file until it is written."""
        return Kept(self._folder / f"{operation_id}.json", None)

    def claim(self) -> list[tuple[KeptChange, Kept]]:
        """Those whose process is gone; they are this one's from now on. Blocks for small files. What is none of ours is left
        as it is, with a line in the log."""
        found = []
        for path in self._paths():
            fd = None
            try:
                fd = take(path)
                if fd is None:
                    continue
                if os.fstat(fd).st_uid != os.getuid():
                    raise ValueError("it belongs to somebody else")
                kept = KeptChange.from_json(json.loads(os.pread(fd, MAX_FILE, 0)))
                if kept.operation.id != path.stem or not _ID.fullmatch(path.stem):
                    raise ValueError("it is of another operation")
            except (OSError, ValueError, RecursionError) as e:
                log.warning("Which change of a machine was under way cannot be read from %s: %s.", path, e)
                if fd is not None:
                    os.close(fd)
                continue
            found.append((kept, Kept(path, fd)))
        return sorted(found, key=lambda pair: pair[0].operation.started)

    def _paths(self) -> list[Path]:
        try:
            for torn in self._folder.glob("*.new"):
                if time.time() - torn.stat().st_mtime > TORN_AGE:
                    torn.unlink()
            return sorted(self._folder.glob("*.json"))
        except OSError:
            return []
