"""Kernel messages as a page's websocket carries them, and which of them the page is known to have. Pure.

Two formats: ``v1.kernel.websocket.jupyter.org`` (jupyter_server's documentation, "Websocket protocols") is the message's
parts behind a table of offsets, so nothing is parsed or copied to write it; in the older one a message is JSON, behind a
table where it has buffers, and jupyter_server's own functions make that. Used by ``websocket.py``.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar

from jupyter_server.services.kernels.connection.base import deserialize_binary_message

V1 = "v1.kernel.websocket.jupyter.org"

MESSAGE_PARTS = 4
"""Header, parent header, metadata and content; buffers may follow."""

TOGETHER = 16 * 1024
"""Shorter pieces are written to a socket as one; longer ones are not copied for that."""

PING_SECONDS = 0.25
PING_MESSAGES = 2_000
"""A ping follows what was written after so long, or so many: a page that comes back gets about that much again."""

PACE_MESSAGES = 250
PACE_SECONDS = 0.05
"""More messages than that in so long are a flood (and half as many, time after time), ..."""
GATHER_SECONDS = 0.01
"""... of which so much is written at a time: each write takes more of the server's time than a message does. What comes to
a page at rest, a cell's few messages for one, never waits for this."""

_FINAL, _TEXT, _BINARY = 0x80, 0x1, 0x2

T = TypeVar("T")


def read_v1(data: bytes) -> tuple[str, list[bytes]]:
    """Channel and parts of a message. Raises ``ValueError`` or ``TypeError`` for what is none."""
    try:
        (count,) = struct.unpack_from("<Q", data)
        if not MESSAGE_PARTS + 2 <= count < len(data) // 8:
            raise ValueError(f"{count} offsets in {len(data)} bytes")
        offsets = struct.unpack_from(f"<{count}Q", data, 8)
    except struct.error as e:
        raise ValueError(str(e)) from None
    if offsets[-1] > len(data) or any(start > end for start, end in pairwise(offsets)):
        raise ValueError("offsets out of order or beyond the end")
    channel, *parts = (data[start:end] for start, end in pairwise(offsets))
    return channel.decode(), parts


def v1(channel: str, parts: list[bytes]) -> list[bytes]:
    """A message in pieces that are to be sent one after the other."""
    name = channel.encode()
    count = len(parts) + 2
    offsets = accumulate((len(name), *map(len, parts)), initial=8 * (1 + count))
    return [struct.pack(f"<{count + 1}Q", count, *offsets) + name, *parts]


def read_json(data: str | bytes) -> tuple[str | None, dict[str, Any]]:
    """Channel, if it names one, and message. Raises what json and dict raise for what is none."""
    binary = isinstance(data, bytes)
    message: dict[str, Any] = deserialize_binary_message(data) if binary else json.loads(data)  # type: ignore[no-untyped-call]
    return message.pop("channel", None), message


def framed(pieces: list[bytes], binary: bool) -> Iterator[bytes]:
    """One websocket frame from a server (RFC 6455), not masked and not compressed, in pieces."""
    length = sum(map(len, pieces))
    first = _FINAL | (_BINARY if binary else _TEXT)
    if length < 126:
        yield struct.pack("!BB", first, length)
    elif length <= 0xFFFF:
        yield struct.pack("!BBH", first, 126, length)
    else:
        yield struct.pack("!BBQ", first, 127, length)
    yield from pieces


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, short pieces put together: each is one call of the operating system."""
    short: list[bytes] = []
    size = 0
    for piece in pieces:
        length = len(piece)
        if length < TOGETHER:
            short.append(piece)
            size += length
            if size < TOGETHER:
                continue
            piece = b""
        if size:
            yield b"".join(short)
        short.clear()
        size = 0
        if piece:
            yield piece
    if size:
        yield b"".join(short)


class Pace:
    """How long to rest after a write, so that the next one takes more messages at a time while they come in a flood."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0

    def wrote(self, messages: int, now: float) -> float:
        """Seconds to rest, after so many more messages were written at ``now``."""
        passed = now - self._since
        if passed > PACE_SECONDS:
            # What came before counts half, so that a flood goes on as one, and ends when it does.
            self._count = min(self._count // 2, PACE_MESSAGES) if passed < 2 * PACE_SECONDS else 0
            self._since = now
        self._count += messages
        return GATHER_SECONDS if self._count > PACE_MESSAGES else 0.0


class Receipts(Generic[T]):
    """Pings in the stream of messages, whose pongs say that all messages before them have arrived.

    Times are seconds of one clock. A peer may answer only the last of several pings, so a pong stands for the earlier ones
    too.
    """

    def __init__(self) -> None:
        self._last: T | None = None
        self._unasked = 0
        self._asked: deque[tuple[bytes, T]] = deque()
        self._count = 0
        self._next = 0.0

    def wrote(self, last: T, messages: int) -> None:
        """``messages`` more were written, the last of them ``last``."""
        self._last = last
        self._unasked += messages

    def due(self, now: float) -> float | None:
        """In how many seconds a ping is to be sent, 0 for now; None when none is."""
        if self._last is None:
            return None
        return 0.0 if self._unasked >= PING_MESSAGES else max(0.0, self._next - now)

    def ping(self, now: float) -> bytes:
        """The payload of the ping that is sent now. Only when one is due."""
        assert self._last is not None
        self._count += 1
        payload = b"dsvm %d" % self._count
        self._asked.append((payload, self._last))
        self._last, self._unasked, self._next = None, 0, now + PING_SECONDS
        return payload

    def pong(self, payload: bytes) -> T | None:
        """The last message that is now known to have arrived; None for somebody else's pong, or a late one."""
        if not any(asked == payload for asked, _ in self._asked):
            return None
        while True:
            asked, last = self._asked.popleft()
            if asked == payload:
                return last
