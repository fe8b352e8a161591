"""Whether the other end of a connection still lives. Pure: whoever reads the connection says what time it is.

After ``every`` seconds of silence the other side is asked (a PING is due), and after ``deadline`` more it is taken for
dead. Seconds count only while we run: between two looks at most ``STEP`` of them do. A process that was stopped, a
computer that slept, a reader that had to wait for somebody here: none of these says anything about the other side, and
what arrived meanwhile is read first.

The other side's first word may take as long as its program takes to start, on a machine that is busy with other things.
"""

from __future__ import annotations

STEP = 0.5
"""Seconds; whoever reads looks more often than that."""


class Pulse:
    def __init__(self, every: float, deadline: float, now: float, first: float = 0.0) -> None:
        """``first``: seconds until its first word, if that may take longer."""
        self._every = every
        self._deadline = deadline
        self._first = first
        self._last = now
        self._silent = 0.0
        self._asked = False

    def look(self, now: float, heard: bool) -> bool:
        """Called by the reader all the time, ``heard`` if anything has come since; whether to send a PING now."""
        step, self._last = now - self._last, now
        if heard:
            self._first = 0.0
            self._silent, self._asked = 0.0, False
            return False
        self._silent += min(max(step, 0.0), STEP)
        due = not self._asked and self._silent >= self._every
        self._asked = self._asked or due
        return due

    @property
    def silent(self) -> float:
        """Seconds for which we listened and heard nothing."""
        return self._silent

    @property
    def dead(self) -> bool:
        return self._silent >= max(self._every + self._deadline, self._first)
