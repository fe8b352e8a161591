"""Who is connected to a relay's socket, and which of them is attached: at most one, and the newest wins.

    a connection   becomes
    CONNECTED      ATTACHED (a HELLO that fits), CLOSING (any other first frame)
    ATTACHED       CLOSING (superseded, a protocol error, the relay's end), gone (it hung up)
    CLOSING        gone (it has read its GOODBYE, or ``LINGER`` is over)

Belongs to the relay's poll loop; nothing here waits.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Callable, Dict, Optional

from .events import Attached, EpochChanged, HungUp, Received
from .journal import JournalError
from .listening import accept_same_user
from .loop import IN, OUT, Loop
from .session import Session
from .stream import Stream
from .wire import Frame, WireError

log = logging.getLogger("relay")

TURN = 256 * 1024
"""Bytes handed to the pipe's socket at once; more waits in the journal, where a new connection finds it."""

MAX_CONNECTIONS = 16
LINGER = 2.0
"""Seconds that a connection which was told GOODBYE may take to read it."""


class _Connection:
    """A pipe's connection to this relay; attached once its HELLO was accepted."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = Stream(connection.detach())
        self.close_at: Optional[float] = None


class Attaching:
    def __init__(
        self,
        loop: Loop,
        session: Session,
        listener: socket.socket,
        on_frame: Callable[[Received], None],
        on_adopted: Callable[[], None],
    ) -> None:
        """Listens at once. ``on_frame``: a frame for the relay; it may raise ``WireError``. ``on_adopted``: another server has
        adopted this relay, and has not been answered yet."""
        self._loop = loop
        self._session = session
        self._on_frame = on_frame
        self._on_adopted = on_adopted
        self._connections: Dict[int, _Connection] = {}
        self._attached: Optional[_Connection] = None
        self._listener = listener
        loop.register(listener.fileno(), self._accept)

    @property
    def attached(self) -> bool:
        """Whether a server is."""
        return self._attached is not None

    def listen_at(self, listener: socket.socket) -> None:
        """In place of the listener until now, whose file is gone."""
        self._loop.unregister(self._listener.fileno())
        self._listener.close()
        self._listener = listener
        self._loop.register(listener.fileno(), self._accept)

    def send(self) -> None:
        """Pass on what the session may send now."""
        connection = self._attached
        if connection is None:
            return
        try:
            while connection.stream.pending < TURN and self._session.can_send:
                connection.stream.queue(self._session.frames_to_send(TURN))
                connection.stream.flush()
        except JournalError as e:
            log.error("%s", e)
            self._goodbye(connection, "disk", str(e))
            return
        except OSError:
            self._drop(connection)
            return
        self._watch(connection)

    def close_lingering(self) -> float:
        """Close those that were told GOODBYE long enough ago; seconds until the next may be due."""
        closing = [c for c in self._connections.values() if c.close_at is not None]
        for connection in closing:
            if connection.stream.pending == 0 or time.monotonic() > (connection.close_at or 0):
                self._drop(connection)
        return 0.1 if closing else 60.0

    def close(self, text: str) -> None:
        """Say GOODBYE to all and listen no more."""
        for connection in list(self._connections.values()):
            self._goodbye(connection, "shutdown", text)
            self._drop(connection)
        self._loop.unregister(self._listener.fileno())
        self._listener.close()

    def _accept(self, _events: int) -> None:
        peer = accept_same_user(self._listener)
        if peer is None:
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            peer.close()
            return
        connection = _Connection(peer)
        self._connections[connection.stream.read_fd] = connection
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        events = IN | (OUT if connection.stream.pending else 0)
        self._loop.register(connection.stream.read_fd, lambda e: self._ready(connection, e), events)

    def _ready(self, connection: _Connection, events: int) -> None:
        try:
            if events & OUT:
                connection.stream.flush()
            if events & ~OUT:
                frames = connection.stream.read()
                if frames is None:
                    self._drop(connection)
                    return
                if connection.close_at is None:
                    for frame in frames:
                        self._frame(connection, frame)
        except WireError as e:
            log.warning("protocol error: %s", e)
            self._goodbye(connection, "protocol", str(e))
        except OSError:
            self._drop(connection)
        if connection.stream.read_fd in self._connections:
            self._watch(connection)

    def _frame(self, connection: _Connection, frame: Frame) -> None:
        if connection.close_at is not None or self._connections.get(connection.stream.read_fd) is not connection:
            return
        if connection is not self._attached:
            # Looked at first: a connection that cannot resume must not push out one that does.
            refused = self._session.check_hello(frame)
            if isinstance(refused, EpochChanged) and refused.overtaken:
                self._goodbye(connection, "superseded", "the kernel was attached from elsewhere")
                return
            if refused is not None:
                self._goodbye(connection, "epoch", "this relay belongs to another server process")
                return
            if self._attached is not None:
                self._goodbye(self._attached, "superseded", "the kernel was attached from elsewhere")
            self._session.attach(pid=os.getpid())
            self._attached = connection
        for event in self._session.receive(frame):
            if isinstance(event, Received):
                self._on_frame(event)
            elif isinstance(event, HungUp):
                self._drop(connection)
            elif isinstance(event, Attached) and event.adopted:
                self._on_adopted()

    def _goodbye(self, connection: _Connection, reason: str, text: str) -> None:
        """Tell it, and close it when it has read that or a moment later. What else waited for it stays in the journal."""
        if connection is self._attached:
            self._detach()
        connection.stream.drop_queue()
        connection.stream.queue([self._session.goodbye(reason, text)])
        connection.close_at = time.monotonic() + LINGER
        try:
            connection.stream.flush()
        except OSError:
            pass
        if connection.stream.pending == 0:
            self._drop(connection)
        else:
            self._watch(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection is self._attached:
            self._detach()
        if self._connections.pop(connection.stream.read_fd, None) is not None:
            self._loop.unregister(connection.stream.read_fd)
            connection.stream.close()

    def _detach(self) -> None:
        self._attached = None
        self._session.detach()
