"""How long an ACK waits for frames to go with. Pure, but for the time; for the owner of a session that is ``delivered`` lazily."""

from __future__ import annotations

from typing import Optional

from .session import Session

ACK_WAIT = 0.05
"""Seconds. In a notebook's ordinary course, cell after cell, a cell's ACK goes with the next request, and the request's with the
first output. So little is kept for that long that nobody need care (``window.UNACKNOWLEDGED``)."""


class LateAck:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._since: Optional[float] = None
        self._told = 0

    def look(self, now: float) -> Optional[float]:
        """Seconds after which to look again; 0: frames can be sent now; None: nothing waits. After ``delivered``, and when due."""
        session = self._session
        if not session.ack_waits:
            self._since = None
            return None
        if self._since is None or session.ack_told != self._told:
            self._since, self._told = now, session.ack_told
        left = self._since + ACK_WAIT - now
        if left > 0:
            return left
        self._since = None
        session.acknowledge()
        return 0.0
