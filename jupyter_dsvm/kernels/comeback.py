"""How a pipe that was lost comes back: when it tries again, who is in a hurry, and whether the machine is there at all.

Part of ``kernels.vmpipe.VMPipe``, on the pipe's thread, where waiting is allowed. When to try is ``retries``' to say.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..errors import DSVMError
from .pipetimes import PipeTimes
from .retries import Again, Retries

log = logging.getLogger("jupyter_dsvm.pipe")

SLEPT = 3.0
"""Seconds; a second's wait that took so much longer means that this process did not run."""


class Comeback:
    def __init__(
        self, times: PipeTimes, closing: threading.Event, is_gone: Callable[[], DSVMError | None] | None
    ) -> None:
        """``closing``: nobody wants it back any more. ``is_gone``: see ``VMPipe.open``."""
        self._times = times
        self._closing = closing
        self._ask_gone = is_gone
        self._asked: float | None = None
        self._retries = Retries(times)
        self._awake = threading.Event()

    def hurry(self) -> None:
        """Somebody waits for it, or has given it up: a wait between two tries is short now. Any thread; does not block."""
        self._awake.set()

    def after(self, error: DSVMError, stood: float, now: float) -> Again | None:
        """A connection ended after it ``stood`` for so many seconds, or (0) did not come about. None: that was final."""
        return self._retries.failed(error, stood, now)

    def wait(self, again: Again, since: float) -> None:
        """Blocks until it is time for the next try."""
        self._awake.clear()
        while (left := since + (again.hurried if self._awake.is_set() else again.wait) - time.monotonic()) > 0:
            if self._closing.is_set():
                return
            begun, slice = time.time(), min(left, 1.0)
            if self._awake.is_set():
                self._closing.wait(slice)
            else:
                self._awake.wait(slice)
            if time.time() - begun > slice + SLEPT:
                self._retries.woken(time.monotonic())
                return

    def gone(self, name: str) -> DSVMError | None:
        """The error with which the machine is known to be off. May block."""
        now = time.monotonic()
        if self._ask_gone is None or (self._asked is not None and now < self._asked + self._times.ask_gone):
            return None
        try:
            return self._ask_gone()
        except Exception as e:
            log.warning("whether %s is off could not be found out: %s", name, e)
            return None
        finally:
            self._asked = time.monotonic()
