"""The thread that writes down what cells put out, for all kernels of this process; there while there is something to write."""

from __future__ import annotations

import threading
import time
from typing import ClassVar, Protocol

INTERVAL = 0.1
"""Seconds in which outputs are collected before they are written."""
LONGEST = 2.0
"""Seconds; at most so long where writing takes long, since it should be doing something else nine tenths of the time."""


class Flushed(Protocol):
    def flush(self) -> None:
        """Write what has come. Blocks; raises nothing."""


class Writer:
    """The thread that writes, for all kernels of this process; there while there is any."""

    _shared: ClassVar[Writer | None] = None
    _users: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def acquire(cls) -> Writer:
        """Each user calls ``release`` once."""
        with cls._lock:
            if cls._shared is None:
                cls._shared, cls._users = cls(), 0
            cls._users += 1
            return cls._shared

    @classmethod
    def release(cls) -> None:
        with cls._lock:
            cls._users -= 1
            if cls._users or cls._shared is None:
                return
            writer, cls._shared = cls._shared, None
        writer._stop()

    def __init__(self) -> None:
        self._due: dict[Flushed, None] = {}
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        """Started with the first that is due."""

    def due(self, recording: Flushed, hurry: bool = False) -> None:
        """It has something to write. On the I/O thread."""
        self._due[recording] = None
        if hurry:
            self._hurry.set()
        self._wake.set()
        if self._thread is None and not self._stopping:
            self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-outputs", daemon=True)
            self._thread.start()

    def forget(self, recording: Flushed) -> None:
        self._due.pop(recording, None)

    def _run(self) -> None:
        took = 0.0
        while True:
            self._wake.wait()
            if not self._stopping:
                self._hurry.wait(max(INTERVAL, min(LONGEST, 9 * took)))
            self._wake.clear()
            self._hurry.clear()
            if self._stopping:
                return
            began = time.monotonic()
            for recording in list(self._due):
                self._due.pop(recording, None)
                recording.flush()
            took = time.monotonic() - began

    def _stop(self) -> None:
        self._stopping = True
        self._hurry.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
