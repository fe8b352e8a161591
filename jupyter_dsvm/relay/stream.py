"""Frames over descriptors that never block: a decoder on one side, a queue on the other."""

from __future__ import annotations

import os
from collections import deque
from typing import Deque, Iterable, List, Optional

from .wire import Buffer, Frame, FrameDecoder

READ_SIZE = 256 * 1024

WRITE_SIZE = 256 * 1024
"""Bytes taken from the queue at once. What is urgent waits behind no more than that."""

SMALL = 16 * 1024


class Stream:
    """Owns both descriptors (they may be one). Errors of the other end are ``OSError``, its nonsense is ``WireError``."""

    def __init__(self, read_fd: int, write_fd: Optional[int] = None) -> None:
        self.read_fd = read_fd
        self.write_fd = read_fd if write_fd is None else write_fd
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self._decoder = FrameDecoder()
        self._writing: Deque[Buffer] = deque()
        self._writing_bytes = 0
        self._urgent: Deque[Frame] = deque()
        self._queue: Deque[Frame] = deque()
        self._queued_bytes = 0
        self._closed = False

    def read(self, most: int = READ_SIZE) -> Optional[List[Frame]]:
        """The frames completed by what can be read now (``most`` bytes of it), which may be none; None at the end."""
        try:
            data = os.read(self.read_fd, min(most, READ_SIZE))
        except (BlockingIOError, InterruptedError):
            return []
        except ConnectionError:
            return None
        return list(self._decoder.feed(data)) if data else None

    def queue(self, frames: Iterable[Frame], urgent: bool = False) -> None:
        """To be written by ``flush``, in order; urgent ones before all that is not being written already."""
        for frame in frames:
            (self._urgent if urgent else self._queue).append(frame)
            self._queued_bytes += frame.size

    def drop_queue(self) -> None:
        """Forget what waits. A frame that is half written stays: what follows it must be at a frame's start."""
        self._urgent.clear()
        self._queue.clear()
        self._queued_bytes = 0

    @property
    def pending(self) -> int:
        """Bytes not written yet."""
        return self._writing_bytes + self._queued_bytes

    def flush(self) -> None:
        """Write what the other end takes now. ``OSError`` when it has hung up."""
        while self.pending:
            self._gather()
            try:
                written = os.writev(self.write_fd, list(self._writing))
            except (BlockingIOError, InterruptedError):
                return
            self._writing_bytes -= written
            while written:
                head = self._writing[0]
                if len(head) > written:
                    self._writing[0] = memoryview(head)[written:]
                    break
                written -= len(head)
                self._writing.popleft()

    def _gather(self) -> None:
        """Few buffers, large ones as they are: small frames are joined, which costs less than a place in a list of hundreds."""
        small: List[Buffer] = []
        while self._writing_bytes < WRITE_SIZE:
            waiting = self._urgent or self._queue
            if not waiting:
                break
            frame = waiting.popleft()
            size = frame.size
            self._queued_bytes -= size
            self._writing_bytes += size
            small.extend(frame.buffers())
            if size > SMALL:
                body = small.pop()
                self._writing.append(b"".join(small))
                self._writing.append(body)
                small.clear()
        if small:
            self._writing.append(b"".join(small))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for fd in {self.read_fd, self.write_fd}:
                os.close(fd)
