"""What of a relay's frames has been dealt with here, and when the relay hears of that: it keeps them until then.

Part of ``kernels.link.RelayBackend``, on the I/O thread. Acknowledged is, in order, what the clients have: a server that is killed
before takes up where they are. What is no message (STARTED, EXITED) is acknowledged with the messages before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..relay.lateack import LateAck
from ..relay.session import Session
from .iothread import IOThread, Timer


class Acknowledging:
    def __init__(self, session: Session, io: IOThread, send: Callable[[], None]) -> None:
        """``send``: the session has something to send."""
        self.at_once = False
        """The relay waits for it, so no ACK waits for frames to go with."""
        self._session = session
        self._io = io
        self._send = send
        self._late = LateAck(session)
        self._given = self._handed = self._taken = 0
        """Numbers: of the last message given out, of the last that all clients have, of the last frame that was dealt with."""
        self._timer: Timer | None = None

    def given(self, number: int) -> None:
        """That message goes to the clients, who have it once it is ``handed_on``."""
        self._given = self._taken = number

    def taken(self, number: int) -> None:
        """A frame that is no message was dealt with, or will be in a moment."""
        self._taken = number
        self._tell()

    def handed_on(self, upto: int) -> None:
        """All clients have the messages up to that number."""
        self._handed = max(self._handed, min(upto, self._session.received))
        self._tell()

    def all_handed_on(self) -> None:
        """Nobody waits for any of it any more."""
        self._handed = self._given
        self._tell()

    def begin_after(self, number: int) -> None:
        """All up to there was dealt with by an earlier server process."""
        self._given = self._handed = self._taken = number

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        upto = self._taken if self._handed >= self._given else self._handed
        self._session.delivered(upto, lazily=not self.at_once)
        if self._session.can_send:
            self._send()
        self._look()

    def _look(self) -> None:
        """What waits to be acknowledged has company in a moment, or goes alone."""
        if self._timer is None:
            wait = self._late.look(time.monotonic())
            if wait:
                self._timer = self._io.call_later(wait, self._look_again)
            elif wait is not None:
                self._send()

    def _look_again(self) -> None:
        self._timer = None
        self._look()
