"""The websocket clients of one kernel: they live in this process, with no ZeroMQ between, and each comes away with everything.

``Clients`` is the shell around ``outbox.Outbox``, which has the rules of what is kept for whom. The I/O thread puts in
(``deliver``); each client's websocket takes out, on the server's event loop::

    connected   send, take, flushed, confirmed   disconnect → parked     close → forgotten    given up → forgotten
    parked      (it is expected back)            connect → connected     time up, room needed → forgotten

A client is known by its session id, which is also its routing frame in the gate's world. A parked client keeps its place:
when it connects again it is given what it had not confirmed. One that was given up, because it read nothing while
another client read everything, is told how much it missed when it comes back.

``wake`` of a connection is called, from any thread, when there is something to take after a ``take`` that gave nothing;
so a websocket calls ``take`` until it gives nothing, and sees then whether the connection is ``over``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from jupyter_client.session import DELIM

from ..relay.journal import BLOCK, Journal, JournalError, OutputLimit
from ..relay.wire import Channel
from .iothread import IOThread, Timer
from .messages import Message, Signer
from .outbox import MEMORY, SPOOL_LIMIT, SPOOL_LIMIT_ALONE, Outbox, Outgoing

__all__ = ["ClientConnection", "Clients", "ClientsEvents", "Outgoing"]

log = logging.getLogger("jupyter_dsvm.clients")

SPOOL_MEMORY = BLOCK
SPOOL_MEMORY_ALONE = 16 * 1024 * 1024
"""Bytes that the spool may keep in memory while the disk takes nothing."""
MAX_PARKED = 8
PARKED_FOR = 24 * 3600.0
"""Seconds in which a parked client is expected back."""
NOT_TAKEN = "this page did not take them in time"
NOT_READ = "the disk of the notebook's server did not give them back"
MAX_GIVEN_UP = 64
"""Clients that were given up and are told so if they come back."""


class ClientsEvents(Protocol):
    """What the clients tell the proxy, on the I/O thread."""

    def from_client(self, channel: Channel, parts: list[bytes]) -> None:
        """A client sent a message; parts as from a ROUTER socket."""

    def handed_on(self, source: int, number: int) -> None:
        """Every message of that backend up to ``number`` has reached the clients."""

    def hold(self, on: bool) -> None:
        """The clients are too far behind, or no longer."""

    def running(self) -> Message | None:
        """The ``execute_request`` that is with the kernel."""


class ClientConnection:
    """One websocket's hold of its client. Every method may be called from any thread, and does nothing once it is ``over``."""

    def __init__(self, clients: Clients, session_id: str, wake: Callable[[], None]) -> None:
        self.session_id = session_id
        self.over = False
        """Close the websocket: the kernel has ended for good, the client was given up, or it has connected anew."""
        self.wake = wake
        self.asleep = True
        """The last ``take`` gave nothing; the next message wakes."""
        self._clients = clients

    def send(self, channel: Channel, parts: list[bytes]) -> None:
        """To the kernel; ``parts`` from the delimiter on, signed with the kernel's key."""
        if not self.over:
            self._clients.receive(channel, [self.session_id.encode(), *parts])

    def take(self, max_bytes: int) -> list[Outgoing]:
        """The next messages, about ``max_bytes`` of them; none when there are no more just now."""
        return self._clients.take(self, max_bytes)

    def flushed(self, outgoing: Outgoing) -> None:
        """This one and all before were written into the websocket (its buffer has been flushed into the socket)."""
        self._clients.reached(self, outgoing.position, confirmed=False)

    def confirmed(self, outgoing: Outgoing) -> None:
        """This one and all before are known to have arrived, since a ping sent after them was answered."""
        self._clients.reached(self, outgoing.position, confirmed=True)

    def disconnect(self) -> None:
        """The websocket is gone, and its client may come back: from now on it is parked."""
        self._clients.leave(self, back=True)

    def close(self) -> None:
        """The client has gone for good."""
        self._clients.leave(self, back=False)


class Clients:
    def __init__(self, io: IOThread, signer: Signer, events: ClientsEvents, folder: Path) -> None:
        """For all clients together, ``MEMORY`` bytes of messages are kept, and ``SPOOL_LIMIT`` or ``SPOOL_LIMIT_ALONE``
        in files in ``folder``, which is private."""
        self.on_flushed: Callable[[str, int], None] | None = None
        """Called at once, on whatever thread, with a client's session id and the number up to which it was flushed everything
        that the kernel which ``count`` named has sent; also when it connects for the first time."""
        self.on_forgotten: Callable[[str], None] | None = None
        """The client is not expected any more; called on the I/O thread."""
        self.held = False
        self._io = io
        self._signer = signer
        self._events = events
        self._lock = threading.Lock()
        self._spool = Journal(str(folder), memory=SPOOL_MEMORY, memory_alone=SPOOL_MEMORY_ALONE)
        self._outbox = Outbox(self._spool, MEMORY, SPOOL_LIMIT, SPOOL_LIMIT_ALONE)
        self._limit = OutputLimit(SPOOL_LIMIT_ALONE)
        self._leaving_out = False
        self._connections: dict[str, ClientConnection] = {}
        self._parked: dict[str, float] = {}
        """Since when, in the order of parking."""
        self._given_up: dict[str, tuple[int, str]] = {}
        """The position up to which it had everything, and why it did not get the rest."""
        self._telling = False
        self._timer: Timer | None = None
        self._closed = False

    # From any thread

    def connect(self, session_id: str, wake: Callable[[], None]) -> ClientConnection:
        """A websocket of that client. If it was parked, what it has not confirmed comes first; an older connection is over."""
        connection = ClientConnection(self, session_id, wake)
        with self._lock:
            if self._closed:
                connection.over = True
                return connection
            older = self._connections.pop(session_id, None)
            self._connections[session_id] = connection
            self._parked.pop(session_id, None)
            if session_id not in self._outbox.cursors:
                self._outbox.join(session_id)
            else:
                self._outbox.rewind(session_id)
            cursor = self._outbox.cursors[session_id]
            cursor.connected = True
            number = cursor.number
            stood, why = self._given_up.pop(session_id, (self._outbox.last, ""))
            missed = self._outbox.last - stood
            if self._outbox.waiting(session_id):
                connection.asleep = False
        if older is not None:
            older.over = True
            older.wake()
        if number and self.on_flushed is not None:
            self.on_flushed(session_id, number)
        if missed:
            self._io.call_soon(self._tell_missed, session_id, missed, why)
        if not connection.asleep:
            wake()
        self._tell_soon()
        return connection

    def expect(self, session_id: str, number: int) -> None:
        """A client of an earlier server process, parked, has everything up to ``number`` of the kernel that ``count`` named."""
        with self._lock:
            if not self._closed and session_id not in self._outbox.cursors:
                self._outbox.join(session_id, seen=number)
                self._park(session_id)
        self._io.call_soon(self._expire)

    def sessions(self) -> dict[str, int]:
        """The clients, parked ones included, and up to which number of the kernel that ``count`` named each was flushed."""
        with self._lock:
            return {name: cursor.number for name, cursor in self._outbox.cursors.items()}

    @property
    def behind(self) -> bool:
        """Whether a page that is open was not given all that there is."""
        with self._lock:
            return any(map(self._outbox.waiting, self._connections))

    def connected(self) -> set[str]:
        """The clients that have a websocket now."""
        with self._lock:
            return set(self._connections)

    def receive(self, channel: Channel, parts: list[bytes]) -> None:
        """A connection's ``send``."""
        self._io.call_soon(self._events.from_client, channel, parts)

    def take(self, connection: ClientConnection, max_bytes: int) -> list[Outgoing]:
        with self._lock:
            if connection.over:
                return []
            try:
                batch = self._outbox.take(connection.session_id, max_bytes)
            except JournalError as e:
                log.error("A page does not get all that its kernel said: %s", e)
                self._give_up([connection.session_id], NOT_READ)
                return []
            connection.asleep = not batch
            return batch

    def reached(self, connection: ClientConnection, position: int, confirmed: bool) -> None:
        """A connection's ``flushed`` and ``confirmed``."""
        with self._lock:
            if connection.over:
                return
            told = self._outbox.confirmed if confirmed else self._outbox.flushed
            risen = told(connection.session_id, position)
            number = self._outbox.cursors[connection.session_id].number
        if risen and self.on_flushed is not None:
            self.on_flushed(connection.session_id, number)
        self._tell_soon()

    def leave(self, connection: ClientConnection, back: bool) -> None:
        """A connection's ``disconnect`` (it is expected ``back``) and ``close``."""
        name = connection.session_id
        with self._lock:
            if connection.over:
                return
            connection.over = True
            del self._connections[name]
            if back:
                self._park(name)
            else:
                self._outbox.drop(name)
                self._io.call_soon(self._forgotten, name)
        self._io.call_soon(self._expire)
        self._tell_soon()

    # On the I/O thread

    def knows(self, routing: bytes) -> bool:
        """Whether a message with that routing frame is for one of these clients."""
        return routing.decode("utf-8", "replace") in self._outbox.cursors

    def count(self, source: int) -> None:
        """That backend is the kernel from now on: ``on_flushed`` and ``sessions`` speak of its numbers."""
        with self._lock:
            self._outbox.count(source)

    def deliver(self, messages: Iterable[tuple[Channel, list[bytes]]], source: int = 0, number: int = 0) -> None:
        """Messages for the clients, routing frames in front: on IOPub for all, else for the one that is named there. What
        ``input()`` asks is for all where that one has no websocket now.

        They are all that the backend ``source`` brought with its message ``number``. 0: what they are about is kept
        nowhere else, so that outputs which find no room are left out.
        """
        if not number and not self._outbox.cursors and not self._given_up:
            return
        awake: list[ClientConnection] = []
        with self._lock:
            outbox = self._outbox
            for channel, parts in messages:
                to = None if channel is Channel.IOPUB else parts[0].decode("utf-8", "replace")
                whole = parts[parts.index(DELIM) :]
                if to is None and source and not number:
                    self._put_within_limits(whole)
                elif channel is Channel.STDIN and to not in self._connections:
                    outbox.put(channel, whole, None, source, number)  # whoever is there may answer
                else:
                    outbox.put(channel, whole, to, source, number)
            if self._connections:
                awake = [c for name, c in self._connections.items() if c.asleep and outbox.waiting(name)]
                for connection in awake:
                    connection.asleep = False
            if number:
                outbox.came(source, number)
            full = bool(number) and outbox.full and not self.held
        for connection in awake:
            connection.wake()
        if full:
            self._make_room()
        if number:
            self._tell_soon()

    def _put_within_limits(self, parts: list[bytes]) -> None:
        outbox = self._outbox
        self._limit.cap = outbox.limit_alone
        full = outbox.spooled + sum(map(len, parts)) > self._limit.cap
        if full:
            self._give_up(outbox.laggards())
        elif not self._leaving_out:
            outbox.put(Channel.IOPUB, parts)
            return
        self._leaving_out = full  # what was left out is told with the first message that finds room
        for taken in self._limit.take(parts, outbox.spooled):
            outbox.put(Channel.IOPUB, self._left_out(taken) if isinstance(taken, dict) else list(map(bytes, taken)))

    def _left_out(self, told: dict[str, Any]) -> list[bytes]:
        text = (
            f"\n[{told['messages']} outputs ({told['bytes'] / 1e6:.1f} MB) were left out here: they came faster than the "
            "page took them, and there was no room to keep them.]\n"
        )
        return self._signer.message("stream", {"name": "stderr", "text": text}, told["parent_header"], [])

    def _make_room(self) -> None:
        """The spool is full: give up who is far behind while others read, or else hold the kernel back."""
        with self._lock:
            self._give_up(self._outbox.laggards())
            hold = self._outbox.spooled > self._outbox.limit // (2 if self.held else 1)
        if hold != self.held:
            self.held = hold
            self._events.hold(hold)

    def _give_up(self, names: list[str], why: str = NOT_TAKEN) -> None:
        for name in names:
            log.info("A page does not get all that its kernel said: %s.", why)
            self._given_up[name] = self._outbox.drop(name), why
            if len(self._given_up) > MAX_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]
            self._parked.pop(name, None)
            connection = self._connections.pop(name, None)
            if connection is not None:
                connection.over = True
                self._io.call_soon(connection.wake)
            self._io.call_soon(self._forgotten, name)

    def _tell_missed(self, name: str, missed: int, why: str) -> None:
        text = f"\n[{missed} messages were left out: {why}.]\n"
        running = self._events.running()
        parts = self._signer.message("stream", {"name": "stderr", "text": text}, running, [])
        with self._lock:
            self._outbox.put(Channel.IOPUB, parts, to=name)
            connection = self._connections.get(name)
            if connection is not None:
                connection.asleep = False
        if connection is not None:
            connection.wake()

    def _tell_soon(self) -> None:
        """Once for all that is handed on until the I/O thread gets to it."""
        if not self._telling:
            self._telling = True
            self._io.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        with self._lock:
            told = self._outbox.handed_on()
        for source, number in told:
            self._events.handed_on(source, number)
        if self.held:
            self._make_room()

    # Parking

    def _park(self, name: str) -> None:
        self._outbox.cursors[name].connected = False
        self._parked[name] = time.monotonic()
        self._give_up(list(self._parked)[:-MAX_PARKED])

    def _expire(self) -> None:
        with self._lock:
            due = [name for name, since in self._parked.items() if since + PARKED_FOR <= time.monotonic()]
            self._give_up(due)
            oldest = min(self._parked.values(), default=None)
        if self._timer is not None:
            self._timer.cancel()
        if oldest is not None and not self._closed:
            self._timer = self._io.call_later(max(1.0, oldest + PARKED_FOR - time.monotonic()), self._expire)

    def _forgotten(self, name: str) -> None:
        if self.on_forgotten is not None and name not in self._outbox.cursors:
            self.on_forgotten(name)

    def close(self) -> None:
        """The front is no more: every connection is over."""
        with self._lock:
            self._closed = True
            connections, self._connections = list(self._connections.values()), {}
            for connection in connections:
                connection.over = True
            self._outbox.cursors.clear()
            self._spool.close()
        if self._timer is not None:
            self._timer.cancel()
        for connection in connections:
            connection.wake()
