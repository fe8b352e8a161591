"""What a kernel's front publishes, as far as somebody who watches the kernel's activity must know it.

jupyter_server subscribes to each kernel's IOPub and reads every message only to know when the last one came and what the
last status said. Whoever publishes behind a proxy has read the message already, so it says that here, and ``Watch``
keeps just that: times and statuses, until the server's loop collects them (``jupyter_dsvm.activity``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple


class Status(NamedTuple):
    """A ``status`` that was published."""

    parent_type: str
    execution_state: str
    time: float


class Watch:
    """One watcher's view of one kernel. The I/O thread calls ``published``, the watcher everything else."""

    def __init__(self, is_tracked: Callable[[str], bool], wake: Callable[[], None]) -> None:
        """``is_tracked(message type)``: whether such a message counts as activity of the user; ``wake``: call ``news`` soon.
        Both are called on the I/O thread and must not block."""
        self.tracked = 0.0
        """When the last message came that is about something tracked (seconds since 1970); 0 before the first."""
        self.untracked = 0.0
        """The same of all others: they count while the kernel is busy."""
        self.statuses: deque[Status] = deque()
        """To be taken out, oldest first. A status alone says nothing of the state: that is the watcher's to conclude."""
        self._is_tracked = is_tracked
        self._wake = wake
        self._seen = (0.0, 0.0)
        self._waking = self._looks_again = False

    def published(self, kind: str, parent_type: str, execution_state: str = "") -> None:
        """A message went out on IOPub; ``execution_state`` is a status's."""
        now = time.time()
        if self._is_tracked(kind) or self._is_tracked(parent_type):
            self.tracked = now
        else:
            self.untracked = now
        if execution_state:
            self.statuses.append(Status(parent_type, execution_state, now))
        if not self._waking and (execution_state or not self._looks_again):
            self._waking = True
            self._wake()

    def news(self) -> bool:
        """Whether anything was published since the last call. After True the watcher looks again in a while by itself, and
        is woken before only for a status; after False the next message wakes it."""
        self._waking = self._looks_again = False  # first: what comes from here on either is seen below, or wakes
        seen, self._seen = self._seen, (self.tracked, self.untracked)
        self._looks_again = seen != self._seen
        return self._looks_again


class Activity:
    """Where a gate says what it publishes, and who watches that: at most one watcher at a time. Pure but for the watcher."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        """Set and cleared on any thread."""

    def published(self, kind: str, parent_type: str, execution_state: str = "") -> None:
        watch = self.watch
        if watch is not None:
            watch.published(kind, parent_type, execution_state)
