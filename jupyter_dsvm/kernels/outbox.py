"""What a kernel said, kept until each websocket client has it: one sequence, and a cursor in it for every client. Pure.

Everything for the clients of one kernel gets the next *position*. A message is kept once, however many clients it is
for, from the first client that has yet to get it to the last. A client's cursor is three positions:

    given       put into a batch of ``take``           goes back to ``confirmed`` when the client connects anew
    flushed     written into its websocket             what is *handed on*: the server's own memory is no longer needed
    confirmed   known to have arrived there            what is forgotten

confirmed ≤ flushed, confirmed ≤ given. What is for another client only (a reply) is stepped over, and counts as confirmed.

Kernels behind a relay number their messages, each *source* for itself. A number is handed on once every client, parked
ones included, has been flushed up to the position that the message had come to; at once where there is no client.

What does not fit into memory goes to the spool, in the same order. The spool has a soft limit: nothing is refused here.
Past it, ``laggards`` says which clients could be given up to make room, and whoever puts messages in decides what else
to do: hold the kernel back, or leave outputs out.

Not thread-safe: ``clients.Clients`` has the lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ..relay.wire import MAX_PARTS, Channel, pack_message, unpack_message

MEMORY = 6 * 1024 * 1024
"""Bytes of messages kept in memory for all clients of one kernel together; the spool takes another two blocks of it."""
SPOOL_LIMIT = 256 * 1024 * 1024
"""Bytes of messages kept in the spool, before the kernel's machine has to keep the rest."""
SPOOL_LIMIT_ALONE = 1024 * 1024 * 1024
"""The same where they are kept nowhere else, before outputs are left out: as many as a relay keeps."""
OVERHEAD = 512
"""Bytes that a message takes beside its parts."""
LEAST_SPOOLED = 6 * 1024
LEAST_SPOOLED_ALONE = 24 * 1024
"""What a message in the spool counts for at least, since knowing where it is takes memory: 43,000 fill the spool."""


class Spool(Protocol):
    """Where messages are kept that do not fit into memory; ``relay.journal.Journal`` is one."""

    def capacity(self, limit: int) -> int: ...

    def append(self, type: int, body: bytes) -> int: ...

    def get(self, seq: int) -> Any: ...

    def trim(self, upto: int) -> None: ...


class Outgoing(NamedTuple):
    """One message for one client."""

    position: int
    channel: Channel
    parts: list[bytes]
    """From the delimiter on: ``[b"<IDS|MSG>", signature, header, parent_header, metadata, content, buffers…]``."""


class HandedOn(NamedTuple):
    source: int
    number: int


class _Entry(NamedTuple):
    channel: Channel
    parts: list[bytes] | None
    """None: in the spool, under ``spooled``."""
    spooled: int
    size: int
    end: int
    """What all messages up to and with this one have counted for, since the first."""
    to: str | None
    """The only client that it is for; None: all."""
    source: int
    number: int
    """Of the kernel's message that brought it; 0: of nobody's."""
    upto: int
    """All messages of the source that counted then, up to this number, are before this one or are this one."""
    counted: int


@dataclass
class Cursor:
    given: int
    flushed: int
    confirmed: int
    confirmed_end: int
    """``_Entry.end`` there."""
    connected: bool = True
    number: int = 0
    """Of the source that counts: the client was flushed everything up to it."""
    seen: tuple[int, int] = (0, 0)
    """Source and number: it has everything up to there from an earlier server process."""


class Outbox:
    def __init__(
        self, spool: Spool, memory: int = MEMORY, limit: int = SPOOL_LIMIT, limit_alone: int = SPOOL_LIMIT_ALONE
    ) -> None:
        self.cursors: dict[str, Cursor] = {}
        self.last = 0
        """The position of the newest message."""
        self.memory = 0
        """Bytes that are kept in memory now."""
        self.spooled = 0
        """Bytes that are in the spool now; small messages count for more."""
        self.source = 0
        self._upto = 0
        self._spool = spool
        self._room = memory
        self._limit = limit
        self._limit_alone = limit_alone
        self._entries: dict[int, _Entry] = {}
        self._first = 1
        self._end = 0
        self._came: deque[tuple[int, HandedOn]] = deque()

    # What comes in

    def count(self, source: int) -> None:
        """From now on it is this source's numbers by which clients are said to be ``flushed`` up to something."""
        if source != self.source:
            self.source, self._upto = source, 0
            for cursor in self.cursors.values():
                cursor.number = 0

    def put(
        self, channel: Channel, parts: list[bytes], to: str | None = None, source: int = 0, number: int = 0
    ) -> None:
        """``parts`` from the delimiter on; ``to``: for that client only. ``came`` follows if it has a number."""
        if to is not None and to not in self.cursors:
            return
        self.last += 1
        if not self.cursors:
            self._first = self.last + 1
            return
        size = sum(map(len, parts)) + OVERHEAD
        kept: list[bytes] | None = parts
        spooled = 0
        if self.memory + size > self._room and len(parts) <= MAX_PARTS:
            spooled = self._spool.append(channel, pack_message(parts))
            kept = None
            size = max(size, LEAST_SPOOLED if number else LEAST_SPOOLED_ALONE)
            self.spooled += size
        else:
            self.memory += size
        self._end += size
        entry = _Entry(channel, kept, spooled, size, self._end, to, source, number, self._upto, self.source)
        self._entries[self.last] = entry
        if to is not None or number:
            self._step_over(entry)

    def came(self, source: int, number: int) -> None:
        """All that the source's message ``number`` brought for clients has been put (which may be nothing)."""
        if source == self.source:
            self._upto = max(self._upto, number)
            newest = self._entries.get(self.last)
            # What is flushed with the last of a message's parts is the whole message.
            if newest is not None and (newest.source, newest.number) == (source, number):
                self._entries[self.last] = newest._replace(upto=self._upto, counted=source)
        if self._came and self._came[-1][0] == self.last and self._came[-1][1].source == source:
            self._came.pop()
        self._came.append((self.last, HandedOn(source, number)))

    def handed_on(self) -> list[HandedOn]:
        """What has newly been handed on, in order."""
        reached = min((c.flushed for c in self.cursors.values()), default=self.last)
        told: dict[int, HandedOn] = {}
        while self._came and self._came[0][0] <= reached:
            mark = self._came.popleft()[1]
            told[mark.source] = mark
        return list(told.values())

    # Clients

    def join(self, client: str, seen: int = 0) -> None:
        """A new client, which gets what comes from now on; of the source that counts, only what has a number above ``seen``."""
        self.cursors[client] = Cursor(
            self.last, self.last, self.last, self._end, number=max(self._upto, seen), seen=(self.source, seen)
        )

    def rewind(self, client: str) -> None:
        """Whatever is not confirmed is to be given again, over another connection."""
        cursor = self.cursors[client]
        cursor.given = cursor.confirmed

    def drop(self, client: str) -> int:
        """Forget the client. Gives the position up to which it had everything."""
        cursor = self.cursors.pop(client)
        self._trim()
        return cursor.confirmed

    def waiting(self, client: str) -> bool:
        """Whether ``take`` would give something."""
        return self.cursors[client].given < self.last

    def take(self, client: str, max_bytes: int) -> list[Outgoing]:
        """What comes next for it: at least one message if there is one, and no more than ``max_bytes`` if there are more."""
        batch: list[Outgoing] = []
        cursor, size = self.cursors[client], 0
        while cursor.given < self.last:
            entry = self._entries[cursor.given + 1]
            if self._is_for(client, cursor, entry):
                if batch and size + entry.size > max_bytes:
                    break
                size += entry.size
                batch.append(Outgoing(cursor.given + 1, entry.channel, self._parts(entry)))
            cursor.given += 1
        return batch

    def flushed(self, client: str, position: int) -> bool:
        """It was written into the client's websocket, and so was all before. Whether ``number`` of its cursor has risen."""
        cursor = self.cursors[client]
        position = min(position, cursor.given)
        if position <= cursor.flushed:
            return False
        cursor.flushed = self._beyond(client, cursor, position)
        cursor.given = max(cursor.given, cursor.flushed)
        entry = self._entries[cursor.flushed]
        if entry.counted != self.source or entry.upto <= cursor.number:
            return False
        cursor.number = entry.upto
        return True

    def confirmed(self, client: str, position: int) -> bool:
        """It has arrived at the client, and so has all before. Implies ``flushed``, whose answer it gives."""
        risen = self.flushed(client, position)
        cursor = self.cursors[client]
        position = min(position, cursor.given)
        if position > cursor.confirmed:
            self._confirm(cursor, self._beyond(client, cursor, position))
            self._trim()
        return risen

    def behind(self, client: str) -> int:
        """Bytes that are kept for the client."""
        return self._end - self.cursors[client].confirmed_end

    # Room

    @property
    def limit(self) -> int:
        """Bytes that the spool is to hold at most: less than it was made for while the disk takes nothing."""
        return self._spool.capacity(self._limit)

    @property
    def limit_alone(self) -> int:
        """The same for messages without a number."""
        return self._spool.capacity(self._limit_alone)

    @property
    def full(self) -> bool:
        return self.spooled > self.limit

    def laggards(self) -> list[str]:
        """Who may be given up to make room: clients far behind, as long as another one is connected and keeps up."""
        limit = self.limit
        reads = any(c.connected and self.behind(name) <= limit // 4 for name, c in self.cursors.items())
        return [name for name in self.cursors if self.behind(name) > limit // 2] if reads else []

    # Positions

    @staticmethod
    def _is_for(client: str, cursor: Cursor, entry: _Entry) -> bool:
        if entry.to is not None and entry.to != client:
            return False
        source, number = cursor.seen
        return not (0 < entry.number <= number and entry.source == source)

    def _beyond(self, client: str, cursor: Cursor, position: int) -> int:
        """The position up to which nothing more is for that client."""
        while position < self.last and not self._is_for(client, cursor, self._entries[position + 1]):
            position += 1
        return position

    def _step_over(self, entry: _Entry) -> None:
        """A message has come that is not for everybody: who had all before it has all with it."""
        for name, cursor in self.cursors.items():
            if not self._is_for(name, cursor, entry):
                if cursor.given == self.last - 1:
                    cursor.given = self.last
                if cursor.flushed == self.last - 1:
                    cursor.flushed = self.last
                if cursor.confirmed == self.last - 1:
                    self._confirm(cursor, self.last)
        self._trim()

    def _confirm(self, cursor: Cursor, position: int) -> None:
        cursor.confirmed = position
        cursor.confirmed_end = self._entries[position].end
        cursor.given = max(cursor.given, position)

    def _parts(self, entry: _Entry) -> list[bytes]:
        return entry.parts if entry.parts is not None else unpack_message(self._spool.get(entry.spooled).body)

    def _trim(self) -> None:
        reached = min((c.confirmed for c in self.cursors.values()), default=self.last)
        spooled = 0
        while self._first <= reached:
            entry = self._entries.pop(self._first)
            self._first += 1
            if entry.parts is None:
                spooled = entry.spooled
                self.spooled -= entry.size
            else:
                self.memory -= entry.size
        if spooled:
            self._spool.trim(spooled)
