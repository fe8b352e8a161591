"""The thread that writes to one connection of an attach pipe, so that nobody else waits for the network."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..relay.inflight import InFlight
from ..relay.wire import PIPE, Frame, Type, json_body, u64_body

if TYPE_CHECKING:
    import paramiko

log = logging.getLogger("jupyter_dsvm.pipe")

LIMIT = 512 * 1024
"""Bytes that wait here at most, give or take a frame; what is urgent waits behind no more than that."""
SHARE = 64 * 1024
"""Bytes that are handed to SSH at once, and that a kernel may put before the next one has its turn."""
PIECE = 32 * 1024
"""OpenSSH takes no larger packet on a channel."""


class PipeWriter:
    """Made by the pipe's thread when a connection stands."""

    def __init__(self, channel: paramiko.Channel, has_room: Callable[[], None]) -> None:
        """``has_room`` is called on the writer's thread when there is room again after there was none."""
        self._channel = channel
        self._has_room = has_room
        self._change = threading.Condition()
        self._out: deque[Frame] = deque()
        self._size = 0
        self._was_full = False
        self._flight = InFlight()
        self._ping_due = False
        self._pong: int | None = None
        self._finishing = False
        self._said_goodbye = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-pipe-writer", daemon=True)
        self._thread.start()

    # On the I/O thread; none of these blocks

    def room(self) -> int:
        """Bytes that may be put now. If there are none, ``has_room`` or an answer of the other end follows."""
        with self._change:
            room = min(LIMIT - self._size, self._flight.room)
            if room <= 0:
                self._was_full = True
            return 0 if self._stopped or self._finishing else max(room, 0)

    def put(self, frames: Sequence[Frame]) -> int:
        """Queue them; their size."""
        size = sum(frame.size for frame in frames)
        if size:
            with self._change:
                self._out.extend(frames)
                self._size += size
                self._flight.sent(size, time.monotonic())
                self._ask()
                self._change.notify()
        return size

    def answered(self, number: int) -> None:
        """The other end has answered a PING, so it has what went before that."""
        with self._change:
            self._flight.answered(number, time.monotonic())
            self._ask()
            self._change.notify()

    def pong(self, number: int) -> None:
        """Answer a PING, before all that waits; one answer for all that came meanwhile."""
        with self._change:
            self._pong = number
            self._change.notify()

    def _ask(self) -> None:
        number = self._flight.question(time.monotonic())
        if number is not None:
            frame = Frame(Type.PING, PIPE, 0, u64_body(number))
            self._out.append(frame)
            self._size += frame.size

    # From any thread; none of these blocks but ``join``

    def ping(self) -> None:
        """Ask the other end whether it is there, before all that waits."""
        with self._change:
            self._ping_due = True
            self._change.notify()

    def finish(self) -> None:
        """Write what is queued, say GOODBYE, and end the input of the far end; it leaves then."""
        with self._change:
            self._finishing = True
            self._change.notify()

    def stop(self) -> None:
        """The connection is being closed; what is queued is dropped."""
        with self._change:
            self._stopped = True
            self._change.notify()

    def join(self) -> None:
        """After ``stop``, and after the connection was closed, which ends a write that waits."""
        self._thread.join()

    # Its thread

    def _run(self) -> None:
        try:
            while (data := self._next()) is not None:
                if not self._write(data):
                    return
            if self._said_goodbye:
                self._channel.shutdown_write()
        except Exception as e:  # the connection is lost; the reader finds the same, and says so
            log.debug("writing ended: %r", e)

    def _next(self) -> bytes | None:
        """What to write next, waiting for it: an answer, a PING, what is queued, the GOODBYE; None at the end."""
        with self._change:
            while True:
                if self._stopped or self._said_goodbye:
                    return None
                if self._pong is not None:
                    number, self._pong = self._pong, None
                    return Frame(Type.PONG, PIPE, 0, u64_body(number)).encode()
                if self._ping_due:
                    self._ping_due = False
                    return Frame(Type.PING, PIPE, 0, u64_body(0)).encode()
                if self._out:
                    break
                if self._finishing:
                    self._said_goodbye = True
                    return Frame(Type.GOODBYE, PIPE, 0, json_body({"reason": "detached", "text": ""})).encode()
                self._change.wait()
            pieces: list[bytes] = []
            size = 0
            while self._out and size < SHARE:
                frame = self._out.popleft()
                size += frame.size
                pieces.append(frame.encode())
            self._size -= size
            again = self._was_full and self._size <= LIMIT // 2
            if again:
                self._was_full = False
        if again:
            self._has_room()
        return b"".join(pieces)

    def _write(self, data: bytes) -> bool:
        position = 0
        while position < len(data):
            try:
                sent = self._channel.send(data[position : position + PIECE])
            except TimeoutError:
                if self._stopped:
                    return False
                continue  # the channel's timeout is the reader's; a window that stays full is no error here
            if not sent:
                return False
            position += sent
        return True
