"""What one end of a session has received, and what the other end hears of it: ACK and CREDIT. Pure; part of ``session.Session``.

Numbers are those of sequenced frames, bytes those of their bodies, counted since the first frame (rule 5 of ``session``)::

    told acked <= delivered <= consumed <= received                what was received beyond ``consumed`` takes room here
"""

from __future__ import annotations

from collections import deque
from typing import Deque

from .wire import WireError

UNACKNOWLEDGED = 64 * 1024
"""Bytes that were handed on after which an ACK does not wait for company (``Session.delivered``)."""


class Window:
    def __init__(self, size: int) -> None:
        """``size``: bytes that may be under way to an end that has taken none of them."""
        self.received = 0
        """Everything up to this number has come and was given out."""
        self.received_bytes = 0
        self.consumed = 0
        self.consumed_bytes = 0
        self.delivered = 0
        self.ack_told = 0
        """The number in the last ACK of this connection."""
        self.ack_due = False
        """The ACK that waits, if one does, waits for no company."""
        self.credit_told = 0
        self._size = size
        self._ends: Deque[int] = deque()  # of the frames after ``consumed``: the byte count at the end of each
        self._acked_bytes = 0  # what was consumed when the last ACK went out

    def connect(self) -> None:
        """A new connection: its HELLO tells the credit, and an ACK that was under way may be lost."""
        self.credit_told = self.consumed_bytes + self._size
        self.ack_told = 0
        self.ack_due = self.delivered > 0

    def go_on_from(self, seq: int, end: int) -> None:
        """An adopter's: up to that number, and so many bytes, all was dealt with before."""
        if seq < self.received:
            raise WireError(f"the relay goes on after frame {seq}, and frame {self.received} was handed on already")
        self.received = self.consumed = self.delivered = self.ack_told = seq
        self.received_bytes = self.consumed_bytes = self._acked_bytes = end
        self.credit_told = end + self._size

    def take(self, seq: int, size: int) -> bool:
        """A frame has come; False if it had come before. Raises ``WireError``."""
        if seq <= self.received:
            return False
        if seq != self.received + 1:
            raise WireError(f"frame {seq} came after frame {self.received}: what is between is missing")
        if self.received_bytes + size > self.credit_told:
            raise WireError("the peer sent more than it had credit for")
        self.received = seq
        self.received_bytes += size
        self._ends.append(self.received_bytes)
        return True

    def consume(self, upto: int) -> None:
        assert upto <= self.received
        while self.consumed < upto:
            self.consumed += 1
            self.consumed_bytes = self._ends.popleft()

    def deliver(self, upto: int, lazily: bool) -> None:
        self.consume(upto)
        self.delivered = max(self.delivered, upto)
        if not lazily or self.consumed_bytes - self._acked_bytes >= UNACKNOWLEDGED:
            self.ack_due = True

    @property
    def ack_waits(self) -> bool:
        return self.delivered > self.ack_told

    def ack(self) -> int:
        """What the ACK says that goes out now."""
        self.ack_told, self._acked_bytes, self.ack_due = self.delivered, self.consumed_bytes, False
        return self.delivered

    @property
    def credit_due(self) -> bool:
        # Not for every few bytes: the peer has at least three quarters of a window until then.
        return self.consumed_bytes + self._size - self.credit_told >= self._size // 4

    def credit(self) -> int:
        """What the CREDIT says that goes out now."""
        self.credit_told = self.consumed_bytes + self._size
        return self.credit_told
