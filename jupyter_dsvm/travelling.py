"""When the files of a workspace travel by themselves: how long a wish for a sync waits, and who looks at the clock.

``Due`` is pure: one of each workspace. ``Agenda`` is the one thread that starts what is due; the work itself is done elsewhere
(``workspaces``), so that nobody here waits for a VM.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

log = logging.getLogger("jupyter_dsvm.workspaces")

SETTLE_SECONDS = 1.0
"""A sync waits so long for the next cell to end or the next file to be saved: mostly it can do both."""
AT_MOST_SECONDS = 5.0
"""It does not wait longer than that in all, however fast the cells follow each other."""
GAP_SECONDS = 2.0
"""Between the end of one and the beginning of the next; or, if it took long, so many times as long:"""
GAP_SHARE = 2.0


class Due:
    """When a workspace's next sync is to begin, and which way it goes. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._asked = self._first = self._last = 0.0
        self._not_before = -math.inf

    def ask(self, direction: str, now: float, later: float = 0.0) -> None:
        """Something has changed, or may have, on the side that ``direction`` (a value of ``sync.plan.Direction``) starts from.
        It can wait for ``later`` seconds."""
        if not self._wanted:
            self._first = now + later
        self._wanted.add(direction)
        self._asked = now
        self._last = now + later

    @property
    def at(self) -> float | None:
        """None: nothing is wanted."""
        if not self._wanted:
            return None
        return max(self._not_before, min(self._last + SETTLE_SECONDS, self._first + AT_MOST_SECONDS))

    @property
    def pulls(self) -> bool:
        """Whether something there is wanted here."""
        return bool(self._wanted - {"push"})

    def take(self) -> str | None:
        """What is wanted, which is under way from here on."""
        wanted, self._wanted = self._wanted, set()
        if not wanted:
            return None
        return wanted.pop() if len(wanted) == 1 else "both"

    def done(self, direction: str, begun: float) -> None:
        """A sync that began then has done that, for whatever reason: what was wanted before it is not wanted any more."""
        if self._asked <= begun:
            keeps = {"both": set(), "pull": {"push"}, "push": {"pull"}}[direction]
            if "both" in self._wanted:
                self._wanted |= {"pull", "push"}
            self._wanted &= keeps

    def ended(self, now: float, took: float) -> None:
        """A sync has ended, whoever had asked for it."""
        self._not_before = now + max(GAP_SECONDS, GAP_SHARE * took)


class Agenda:
    """Calls functions at their time, on one thread that begins with the first of them. They must not block."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wake = threading.Condition()
        self._entries: dict[str, tuple[float, Callable[[], object]]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, key: str, when: float, call: Callable[[], object]) -> None:
        """``call`` at ``when``, in place of what ``key`` stood for. Any thread; does not block."""
        with self._wake:
            if self._closed:
                return
            self._entries[key] = (when, call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-agenda", daemon=True)
                self._thread.start()
            self._wake.notify()

    def drop(self, key: str) -> None:
        with self._wake:
            self._entries.pop(key, None)

    def close(self) -> None:
        """Nothing is called any more when this returns. Not from what it calls."""
        with self._wake:
            self._closed = True
            self._entries.clear()
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                now = self._clock()
                due = [key for key, (when, _) in self._entries.items() if when <= now]
                calls = [self._entries.pop(key)[1] for key in due]
                if not calls:
                    if self._closed:
                        return
                    earliest = min((when for when, _ in self._entries.values()), default=None)
                    self._wake.wait(None if earliest is None else max(0.0, earliest - now))
                    continue
            for call in calls:
                try:
                    call()
                except Exception:
                    log.exception("what was due failed")  # the next one is not to suffer for it
