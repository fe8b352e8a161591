"""What a pipe's thread hands to the I/O thread: frames, and what happened to the connection, in the order of happening.

A deque with one wake-up under way at most. It is bounded by making the reader wait, and with it the SSH window; so what
a machine can make this server hold is bounded too.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from ..relay.wire import Frame
from .iothread import IOThread

log = logging.getLogger("jupyter_dsvm.pipe")

LIMIT = 8 * 1024 * 1024
"""Bytes of frames that wait for the I/O thread before the reader waits."""
TURN = 1024 * 1024
"""Bytes of frames that the I/O thread takes before other work has its turn."""
OVERHEAD = 512
"""What a frame counts in these limits besides its body: an empty one takes memory too."""


class Inbox:
    def __init__(self, io: IOThread, on_frame: Callable[[Frame], None], then: Callable[[], None]) -> None:
        """``on_frame`` and ``then`` are called on the I/O thread: for each frame, and after a turn of them."""
        self._io = io
        self._on_frame = on_frame
        self._then = then
        self._change = threading.Condition()
        self._items: deque[tuple[int, Callable[[], None] | list[Frame]]] = deque()
        self._size = 0
        self._draining = False
        self._open = False  # whether the reader is let pass whatever waits

    # On the pipe's thread, or its connection's

    def post(self, function: Callable[[], None]) -> None:
        """To be called on the I/O thread, in its place among the frames."""
        self._put(0, function)

    @property
    def has_room(self) -> bool:
        """Whether ``frames`` would not wait now."""
        return self._size <= LIMIT

    def frames(self, frames: list[Frame]) -> None:
        """Waits while too much waits already."""
        size = sum(len(frame.body) + OVERHEAD for frame in frames)
        with self._change:
            while self._size > LIMIT and not self._open:
                self._change.wait()
        self._put(size, frames)

    def _put(self, size: int, item: Callable[[], None] | list[Frame]) -> None:
        with self._change:
            self._items.append((size, item))
            self._size += size
            wake, self._draining = not self._draining, True
        if wake:
            self._io.call_soon(self._drain)

    # From any thread

    def let_pass(self) -> None:
        """The pipe is being closed: its thread must not wait here any more."""
        with self._change:
            self._open = True
            self._change.notify_all()

    # On the I/O thread

    def _drain(self) -> None:
        taken = 0
        while True:
            with self._change:
                if not self._items:
                    self._draining = False
                    break
                if taken > TURN:
                    self._io.call_soon(self._drain)
                    break
                size, item = self._items.popleft()
                self._size -= size
                self._change.notify_all()
            taken += size
            for each in item if isinstance(item, list) else (item,):
                try:
                    if isinstance(each, Frame):
                        self._on_frame(each)
                    else:
                        each()
                except Exception:
                    log.exception("what came over a pipe could not be handled")
        self._then()
