"""How much may be under way to the other end of a pipe. Pure; one per direction and connection, at its sending end.

Between the two ends lie buffers of many megabytes: TCP's, sshd's, the SSH window. On a slow way they would all fill
with one kernel's flood, and whatever is said next (another kernel's reply, the answer to a PING) would come minutes
later. So the sender measures: now and then it puts a PING after what it sent, and what has been sent up to there is
known to have arrived when the PONG comes. How long that took says how much was too much:

    limit = what was under way when the PING was sent * TARGET / how long its PONG took

and so the way there and back takes about TARGET: a fast way gets as much as it takes, a slow one holds up nobody for
long. The limit grows only where it was the limit that held back. It changes by steps: to four times at most, since the
first answers say little about a fast way, and to half at most, since one late answer may have had other reasons.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional, Tuple

TARGET = 0.3
"""Seconds from sending to knowing that it arrived; twice the shortest that was seen where that is more."""

LEAST = 64 * 1024
FIRST = 128 * 1024
MOST = 32 * 1024 * 1024

PARTS = 8
"""A PING goes out after each of so many parts of the limit."""

IDLE = 5.0
"""Seconds with nothing under way after which the way may be another one: what was learned is forgotten."""


class InFlight:
    def __init__(self) -> None:
        self.limit = FIRST
        self._sent = 0
        self._arrived = 0
        self._asked = 0
        self._questions: Deque[Tuple[int, float, int, bool]] = deque()
        self._held_back = False
        self._shortest: Optional[float] = None
        self._last: Optional[float] = None

    @property
    def under_way(self) -> int:
        """Bytes."""
        return self._sent - self._arrived

    @property
    def room(self) -> int:
        """Bytes that may be sent now; 0 or less: none. A frame may go beyond it."""
        room = self.limit - self.under_way
        if room <= 0:
            self._held_back = True
        return room

    def sent(self, size: int, now: float) -> None:
        """So many bytes were put on the way."""
        if self._last is not None and self.under_way == 0 and now - self._last > IDLE:
            self.limit = min(self.limit, FIRST)
        self._last = now
        self._sent += size

    def question(self, now: float) -> Optional[int]:
        """The number for a PING that is to follow what was sent, if one is due. Asked after ``sent`` and ``answered``."""
        new = self._sent - self._asked
        if new <= 0 or (new < self.limit // PARTS and self.room > 0):
            return None
        self._asked = self._sent
        self._questions.append((self._sent, now, self.under_way, self._held_back))
        self._held_back = False
        return self._sent

    def answered(self, number: int, now: float) -> None:
        """A PONG has come. One that answers nothing we asked means nothing."""
        if not self._questions or number < self._questions[0][0] or number > self._asked:
            return
        at, under_way, held_back = 0.0, 0, False
        while self._questions and self._questions[0][0] <= number:
            self._arrived, at, under_way, held = self._questions.popleft()
            held_back = held_back or held
        self._last = now
        took = max(now - at, 1e-4)
        self._shortest = took if self._shortest is None else min(took, self._shortest)
        target = max(TARGET, 2 * self._shortest)
        if took > target or held_back or self._held_back:
            fitting = int(under_way * target / took)
            self.limit = max(LEAST, self.limit // 2, min(fitting, 4 * self.limit, MOST))
