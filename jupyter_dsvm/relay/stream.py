"""Frames over descriptors that never block: a decoder on one side, a queue on the other."""

from __future__ import annotations

import os
from collections import deque
from typing import Deque, Iterable, List, Optional

from .wire import Buffer, Frame, FrameDecoder

READ_SIZE = 256 * 1024

WRITE_SIZE = 256 * 1024
"""Bytes taken from the queue at once. What is urgent waits behind no more than that."""

MAX_BUFFERS = 512  # IOV_MAX is 1024


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

    def read(self) -> Optional[List[Frame]]:
        """The frames completed by what can be read now, which may be none; None at the end."""
        try:
            data = os.read(self.read_fd, READ_SIZE)
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
        while self._writing_bytes < WRITE_SIZE and len(self._writing) < MAX_BUFFERS:
            waiting = self._urgent or self._queue
            if not waiting:
                return
            frame = waiting.popleft()
            self._queued_bytes -= frame.size
            self._writing_bytes += frame.size
            self._writing.extend(b for b in frame.buffers() if len(b))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for fd in {self.read_fd, self.write_fd}:
                os.close(fd)
