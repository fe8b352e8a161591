"""The attach pipe: what the loader becomes on the VM. Frames between one SSH channel and the relays' sockets.

Every frame names its kernel, and goes to that kernel's relay unread; only HELLO and GOODBYE are looked at, since
they open and close the way there. The relays take turns on the way back: one read of each in a round, and none while the channel
is full or as much is under way as the way to the server takes well (``inflight``). What the pipe itself says (PONG, RESULT,
GONE) goes before what waits.

The pipe keeps nothing that would be missed: it ends when its input does, and the relays and their kernels go on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Any, Dict, List, Optional

from .archive import Archive
from .daemon import SOCKET
from .folders import kernel_folder
from .inflight import InFlight
from .listening import connect
from .loop import ERR, IN, OUT, Loop
from .marks import PIPE_MARK, mark
from .questions import Questions
from .record import what_became_of_it
from .spawning import spawn
from .stream import Stream
from .wire import (
    MAX_BODY,
    PIPE,
    Frame,
    Type,
    WireError,
    call_body,
    json_body,
    read_call,
    read_json,
    read_u64,
    u64_body,
)

log = logging.getLogger("relay")

FULL = 256 * 1024
"""Bytes waiting for the channel above which no relay is read."""

SMALL = 16 * 1024
"""Bytes that are read of a relay at least, however little may be under way."""

SILENT = 900.0
"""Seconds without a word from the server, which asks for one every second or so, after which nobody is there: sshd itself
may take hours to notice that. A server that slept for longer connects anew."""


class _Way:
    """The connection to one relay."""

    def __init__(self, tag: bytes, connection: socket.socket) -> None:
        self.tag = tag
        self.stream = Stream(connection.detach())
        self.said_goodbye = False


class Pipe:
    def __init__(self, stdin_fd: int, stdout_fd: int) -> None:
        self._loop = Loop()
        self._channel = Stream(stdin_fd, stdout_fd)
        self._flight = InFlight()
        self._archive = Archive()
        self._ways: Dict[bytes, _Way] = {}
        self._readable: Dict[bytes, _Way] = {}  # in the order in which they have their turn
        self._questions = Questions(self._loop, self._answer)
        self._open = True
        self._heard = time.monotonic()

    def run(self) -> None:
        self._loop.register(self._channel.read_fd, self._from_channel)
        try:
            while self._open and time.monotonic() < self._heard + SILENT:
                self._archive.keep()
                self._watch()
                self._loop.turn(self._questions.look())
                self._take_turns()
                self._flush()
        finally:
            for way in list(self._ways.values()):
                self._close(way)
            self._questions.close()

    def _watch(self) -> None:
        if self._channel.write_fd != self._channel.read_fd:
            # With nothing to write this still says when the reader has gone.
            watched = OUT if self._channel.pending else ERR
            self._loop.register(self._channel.write_fd, self._channel_writable, watched)
        else:
            events = IN | (OUT if self._channel.pending else 0)
            self._loop.register(self._channel.read_fd, self._from_channel, events)
        full = self._full
        for way in self._ways.values():
            wanted = (0 if full else IN) | (OUT if way.stream.pending else 0)
            self._loop.register(way.stream.read_fd, partial(self._way_ready, way), wanted)

    @property
    def _full(self) -> bool:
        return self._channel.pending >= FULL or self._flight.room <= 0

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self._open = False

    # The channel

    def _channel_writable(self, events: int) -> None:
        if events & ERR:
            self._open = False

    def _from_channel(self, events: int) -> None:
        if not events & ~OUT:
            return
        try:
            frames = self._channel.read()
            self._heard = time.monotonic()
            if frames is None:
                self._open = False
                return
            for frame in frames:
                if frame.kernel == PIPE:
                    self._for_pipe(frame)
                else:
                    self._for_relay(frame)
        except WireError as e:
            self._say([Frame(Type.GOODBYE, PIPE, 0, json_body({"reason": "protocol", "text": str(e)}))])
            self._flush()
            self._open = False
        for way in list(self._ways.values()):
            self._flush_way(way)

    def _say(self, frames: List[Frame]) -> None:
        self._channel.queue(frames, urgent=True)

    # Relays

    def _for_relay(self, frame: Frame) -> None:
        way = self._ways.get(frame.kernel)
        if frame.type == Type.HELLO:
            if way is not None:
                self._close(way)
            way = self._open_way(frame)
        if way is None:
            return  # it was told GONE or GOODBYE, and had sent this before it knew
        way.stream.queue([frame])
        if frame.type == Type.GOODBYE:
            way.said_goodbye = True

    def _open_way(self, hello: Frame) -> Optional[_Way]:
        tag = hello.kernel
        path = os.path.join(kernel_folder(tag), SOCKET)
        create = read_json(hello.body).get("create") is True
        connection, text = None, what_became_of_it(kernel_folder(tag))
        try:
            connection = connect(path)
            if connection is None and create:
                connection, text = connect(spawn(tag)), "the relay has ended at once"
        except OSError as e:
            text = f"the relay could not be {'started' if create else 'reached'}: {e}"
        if connection is None:
            self._say([Frame(Type.GONE, tag, 0, json_body({"text": text}))])
            return None
        way = self._ways[tag] = _Way(tag, connection)
        return way

    def _way_ready(self, way: _Way, events: int) -> None:
        if events & OUT:
            self._flush_way(way)
        if events & ~OUT and way.tag in self._ways:
            self._readable.setdefault(way.tag, way)

    def _take_turns(self) -> None:
        """One read of each relay that has something, the one that was read longest ago first, until the channel is full."""
        for tag, way in list(self._readable.items()):
            if self._full:
                return  # the others are first in the next round
            del self._readable[tag]
            self._from_relay(way)
            self._flush()

    def _from_relay(self, way: _Way) -> None:
        try:
            frames = way.stream.read(max(SMALL, self._flight.room // 2))
        except (OSError, WireError) as e:
            self._gone(way, f"the connection to the relay failed: {e}")
            return
        if frames is None:
            self._gone(way, what_became_of_it(kernel_folder(way.tag)))
            return
        for frame in frames:
            way.said_goodbye = way.said_goodbye or frame.type == Type.GOODBYE
        self._channel.queue(frames)
        self._flight.sent(sum(frame.size for frame in frames), time.monotonic())
        self._ask()

    def _ask(self) -> None:
        """In its place among what is sent, so that the answer tells what has arrived."""
        number = self._flight.question(time.monotonic())
        if number is not None:
            self._channel.queue([Frame(Type.PING, PIPE, 0, u64_body(number))])

    def _flush_way(self, way: _Way) -> None:
        try:
            way.stream.flush()
        except OSError:
            self._readable.setdefault(way.tag, way)  # what it said last is still to be read, and then its end

    def _gone(self, way: _Way, text: str) -> None:
        self._close(way)
        if not way.said_goodbye:
            # In its place in the order: the relay's last frames may still wait.
            self._channel.queue([Frame(Type.GONE, way.tag, 0, json_body({"text": text}))])

    def _close(self, way: _Way) -> None:
        if self._ways.get(way.tag) is way:
            del self._ways[way.tag]
            self._readable.pop(way.tag, None)
        self._loop.unregister(way.stream.read_fd)
        way.stream.close()

    # The pipe's own

    def _for_pipe(self, frame: Frame) -> None:
        if frame.type == Type.PING:
            self._say([Frame(Type.PONG, PIPE, 0, frame.body)])
            self._flush()
        elif frame.type == Type.PONG:
            self._flight.answered(read_u64(frame.body), time.monotonic())
            self._ask()
        elif frame.type == Type.GOODBYE:
            self._open = False
        elif frame.type == Type.CALL:
            self._questions.ask(*read_call(frame.body))

    def _answer(self, call_id: int, value: Dict[str, Any]) -> None:
        body = call_body(call_id, value)
        if len(body) > MAX_BODY:
            body = call_body(call_id, {"error": {"code": "TooLong", "message": f"an answer of {len(body)} bytes"}})
        self._say([Frame(Type.RESULT, PIPE, 0, body)])


def main(stdin_fd: int = 0, stdout_fd: int = 1) -> None:
    """Called by the loader, when what stands on stdin from here on is frames. Returns when stdin ends."""
    logging.basicConfig(stream=sys.stderr, format="relay: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    mark(PIPE_MARK)
    Pipe(stdin_fd, stdout_fd).run()
