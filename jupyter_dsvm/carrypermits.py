"""From which VMs variables may come: the yes that a person has given, once for each VM.

Loading variables runs what the machine that sends them has put into them. A kernel here that does so runs it beside this server's
token, and so does a kernel on another VM with that account's rights; hence a person is asked first, in the page. The yes is kept in
a file of this user's (0600, no secret), until SSH access to the VM is forgotten (``jupyter dsvm forget``) or the file is removed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .ssh.keys import write_private

log = logging.getLogger("jupyter_dsvm.carrying")

MAX_FILE = 1024 * 1024
MAX_KEPT = 1000


class CarryPermits:
    """Every method may be called from any thread and blocks for a small file."""

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.time) -> None:
        """``file`` None keeps them in this process."""
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: dict[str, float] = {}

    def holds(self, compute_id: str) -> bool:
        with self._lock:
            return compute_id in self._read()

    def keep(self, compute_id: str) -> None:
        """Somebody has said yes. Where it cannot be written, it holds for this process."""
        with self._lock:
            permits = self._read()
            if compute_id not in permits:
                latest = sorted({**permits, compute_id: self._clock()}.items(), key=lambda p: p[1])[-MAX_KEPT:]
                self._write(dict(latest))

    def revoke(self, compute_id: str) -> None:
        with self._lock:
            permits = self._read()
            if permits.pop(compute_id, None) is not None:
                self._write(permits)

    def _read(self) -> dict[str, float]:
        if self._file is None:
            return dict(self._memory)
        try:
            if self._file.stat().st_size > MAX_FILE:
                return dict(self._memory)
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return dict(self._memory)  # then it is asked again
        rows = data.items() if isinstance(data, dict) else ()
        return {**self._memory, **{k: float(v) for k, v in rows if isinstance(v, (int, float))}}

    def _write(self, permits: dict[str, float]) -> None:
        if self._file is None:
            self._memory = permits
            return
        try:
            write_private(self._file, json.dumps(permits, indent=1, sort_keys=True).encode())
            self._memory = {}
        except OSError as e:
            self._memory = permits
            log.warning("A yes cannot be kept in %s: %s", self._file, e.strerror or e)
