"""What has come on a channel and was not read yet: paramiko's ``BufferedPipe`` without its copies.

paramiko appends each packet to one array and cuts what is read off its beginning, which moves every byte three times. Here
packets stay as they came, and are joined when they are read. Imported with the first connection.

Whoever reads may also take short packets on the transport's thread, which saves a hand-over between threads for each
(``take_directly``). What has been taken there still counts in SSH's window, and a window is made larger by reading: so the next
``read`` gives as many bytes of nothing (``Taken``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from paramiko.buffered_pipe import PipeTimeout

DIRECT = 8 * 1024
"""Bytes of a packet that may be taken on the transport's thread: a cell's few messages. With a flood's packets, of 32 KiB, it has
enough to do in deciphering them."""
MAX_TAKEN = 256 * 1024
"""Bytes that were taken there after which the reader is woken to say so."""


class Taken(bytes):
    """As many bytes as were taken directly; what is in them means nothing."""


class PacketQueue:
    """For ``Channel.in_buffer``: fed on the transport's thread, read on another one."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._packets: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._event: Any = None
        self._take_one: Callable[[bytes], bool] | None = None
        self._taken = 0
        self._with_reader = False  # what was read last may not be dealt with yet

    def take_directly(self, take: Callable[[bytes], bool] | None) -> None:
        """From now on ``take(packet)`` is called on the transport's thread for a short packet, when all before it has been dealt
        with: what ``read`` gave counts as dealt with when it is called again. It must not wait, and returns False to leave
        the packet to the reader."""
        with self._change:
            self._take_one = take

    def __len__(self) -> int:
        return self._size

    def feed(self, data: bytes) -> None:
        with self._change:
            if self._is_taken(data):
                self._taken += len(data)
                if self._taken > MAX_TAKEN:
                    self._change.notify()
                return
            self._packets.append(data)
            self._size += len(data)
            self._tell()
            self._change.notify()

    def _is_taken(self, data: bytes) -> bool:
        if self._take_one is None or self._with_reader or self._size or len(data) > DIRECT:
            return False
        return self._take_one(data)

    def read_ready(self) -> bool:
        return self._size > 0

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """Up to ``nbytes``, waiting for the first of them; nothing at the end. Raises ``PipeTimeout``.

        Where some were taken directly: that many, as ``Taken``, once it is time to say so."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._change:
            self._with_reader = False
            while not self._size and not self._closed and self._taken <= MAX_TAKEN:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    if self._taken:
                        break
                    raise PipeTimeout
                self._change.wait(left)
            if self._taken:
                taken, self._taken = self._taken, 0
                return Taken(taken)
            self._with_reader = self._size > 0
            return self._take(nbytes)

    def empty(self) -> bytes:
        """All that is there, at once."""
        with self._change:
            return self._take(self._size)

    def _take(self, nbytes: int) -> bytes:
        taken: list[bytes] = []
        while self._packets and nbytes > 0:
            packet = self._packets.popleft()
            if len(packet) > nbytes:
                self._packets.appendleft(packet[nbytes:])
                packet = packet[:nbytes]
            nbytes -= len(packet)
            self._size -= len(packet)
            taken.append(packet)
        self._tell()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def close(self) -> None:
        """What is there can still be read."""
        with self._change:
            self._closed = True
            self._tell()
            self._change.notify_all()

    def set_event(self, event: Any) -> None:
        """Set while ``read`` would return something or the end: what ``Channel.fileno`` and so ``select`` go by."""
        with self._change:
            self._event = event
            self._tell()

    def _tell(self) -> None:
        if self._event is not None:
            if self._size or self._closed:
                self._event.set()
            else:
                self._event.clear()
