"""What has come on a channel and was not read yet: paramiko's ``BufferedPipe`` without its copies.

paramiko appends each packet to one array and cuts what is read off its beginning, which moves every byte three times. Here
packets stay as they came, and are joined when they are read. Imported with the first connection.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from paramiko.buffered_pipe import PipeTimeout


class PacketQueue:
    """For ``Channel.in_buffer``: fed on the transport's thread, read on another one."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._packets: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._event: Any = None

    def __len__(self) -> int:
        return self._size

    def feed(self, data: bytes) -> None:
        with self._change:
            self._packets.append(data)
            self._size += len(data)
            self._tell()
            self._change.notify()

    def read_ready(self) -> bool:
        return self._size > 0

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """Up to ``nbytes``, waiting for the first of them; nothing at the end. Raises ``PipeTimeout``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._change:
            while not self._size and not self._closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise PipeTimeout
                self._change.wait(left)
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
