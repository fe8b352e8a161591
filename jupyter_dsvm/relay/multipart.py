"""Messages to and from ZeroMQ sockets, as lists of parts; like pyzmq's own functions, in about two thirds of their time.

What pyzmq's take beside the system's calls is arithmetic with enumerations for each part, and an exception for each
time that a socket turns out to be empty (measured: 17 → 12 µs to send seven parts, 28 → 18 µs to receive them and see
that nothing follows).
"""

from __future__ import annotations

from typing import Any, List, Sequence

import zmq

MAX_BYTES = 2 * 1024 * 1024
"""Bytes of messages that are taken at a time, since they are all in memory then."""

_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_IN = int(zmq.POLLIN)


def send(s: Any, parts: Sequence[Any]) -> bool:
    """Send one message at once; False if the socket has no room for it. ``zmq.ZMQError`` for anything else."""
    last = len(parts) - 1
    try:
        for i, part in enumerate(parts):
            s.send(part, _NOBLOCK | _MORE if i < last else _NOBLOCK)
    except zmq.Again:
        return False  # ZeroMQ says so with the first part only
    return True


def receive(s: Any, limit: int, max_bytes: int = MAX_BYTES) -> List[List[bytes]]:
    """Up to ``limit`` messages that are there now, and no more once they have ``max_bytes``."""
    messages: List[List[bytes]] = []
    size = 0
    try:
        while len(messages) < limit and size < max_bytes and (not messages or s.getsockopt(_EVENTS) & _IN):
            frame = s.recv(_NOBLOCK, copy=False)
            parts = [frame.bytes]
            while frame.more:
                frame = s.recv(_NOBLOCK, copy=False)
                parts.append(frame.bytes)
            messages.append(parts)
            size += sum(map(len, parts))
    except zmq.Again:
        pass
    return messages
