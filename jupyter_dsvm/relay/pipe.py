"""The attach pipe: what the loader becomes on the VM. Frames between one SSH channel and the relays' sockets.

Every frame names its kernel, and goes to that kernel's relay unread; only HELLO and GOODBYE are looked at, since
they open and close the way there. The relays take turns on the way back: one read of each in a round, and none while the channel
is full or as much is under way as the way to the server takes well (``inflight``). What the pipe itself says (PONG, RESULT,
GONE) goes before what waits.

The pipe keeps nothing that would be missed: it ends when its input does, and the relays and their kernels go on.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import platform
import shutil
import signal
import socket
import sys
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional

import zmq

from .archive import Archive
from .daemon import SOCKET
from .folders import kernel_folder, kernels_folder
from .inflight import InFlight
from .inquiry import Inquiry
from .leases import Lease, LeaseError, Leases
from .listening import connect
from .loop import ERR, IN, OUT, Loop
from .marks import PIPE_MARK, mark
from .record import read_record, what_became_of_it
from .spare import spare_of
from .spawning import spawn
from .stream import Stream
from .wire import (
    MAX_BODY,
    PIPE,
    VERSION,
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

STALE = 60.0
"""Seconds after which a folder without a relay is taken to be left behind."""

SILENT = 900.0
"""Seconds without a word from the server, which asks for one every second or so, after which nobody is there: sshd itself
may take hours to notice that. A server that slept for longer connects anew."""

LISTING_SECONDS = 60.0
METRICS_SECONDS = 6.0
ACTIVITY_SECONDS = 12.0
"""Seconds that a process which looks for something here may take."""

MEASURED_LATELY = 60.0
"""Seconds for which an earlier reading of the CPU's times tells of the load now."""


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
        self._kernelspecs = Inquiry(self._loop, "kernelspecs", self._answer, LISTING_SECONDS)
        self._metrics = Inquiry(self._loop, "metrics", self._answer_metrics, METRICS_SECONDS)
        self._activity = Inquiry(self._loop, "activity", self._answer_activity, ACTIVITY_SECONDS)
        self._counters: Optional[List[Any]] = None
        self._cpu_times: List[int] = []
        self._measured = 0.0
        self._open = True
        self._heard = time.monotonic()
        self._operations: Dict[str, Callable[[int], None]] = {
            "info": self._info,
            "kernels": self._kernels,
            "kernelspecs": self._kernelspecs.ask,
            "metrics": self._ask_metrics,
            "activity": self._ask_activity,
        }
        self._with_request: Dict[str, Callable[[int, Dict[str, Any]], None]] = {
            "keep": self._keep,
            "claim": self._claim,
        }

    def run(self) -> None:
        self._loop.register(self._channel.read_fd, self._from_channel)
        try:
            while self._open and time.monotonic() < self._heard + SILENT:
                self._archive.keep()
                self._watch()
                self._loop.turn(min(self._kernelspecs.look(), self._metrics.look(), self._activity.look()))
                self._take_turns()
                self._flush()
        finally:
            for way in list(self._ways.values()):
                self._close(way)
            self._kernelspecs.close()
            self._metrics.close()
            self._activity.close()

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
            call_id, request = read_call(frame.body)
            operation = self._operations.get(str(request.get("op")))
            with_request = self._with_request.get(str(request.get("op")))
            if with_request is not None:
                with_request(call_id, request)
            elif operation is None:
                self._answer(call_id, {"error": {"code": "UnknownOperation", "message": f"{request.get('op')!r:.100}"}})
            else:
                operation(call_id)

    def _answer(self, call_id: int, value: Dict[str, Any]) -> None:
        body = call_body(call_id, value)
        if len(body) > MAX_BODY:
            body = call_body(call_id, {"error": {"code": "TooLong", "message": f"an answer of {len(body)} bytes"}})
        self._say([Frame(Type.RESULT, PIPE, 0, body)])

    def _info(self, call_id: int) -> None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        about = {
            "hostname": socket.gethostname(),
            "python": sys.executable,
            "python_version": platform.python_version(),
            "pyzmq": zmq.__version__,
            "relay": VERSION,
            "user": user,
            "home": os.path.expanduser("~"),
        }
        self._answer(call_id, {"result": about})

    def _kernels(self, call_id: int) -> None:
        """Which kernels have a relay here. What a relay left behind that is no more is removed."""
        alive = []
        parent = kernels_folder()
        try:
            names = sorted(os.listdir(parent))
        except OSError:
            names = []
        for name in names:
            folder = os.path.join(parent, name)
            try:
                connection = connect(os.path.join(folder, SOCKET))
            except OSError:
                continue  # stopped, perhaps; not known to be dead
            if connection is None:
                _remove_stale(folder)
                continue
            connection.close()
            record = read_record(folder)
            alive.append({"id": record.get("kernel_id", ""), "folder": name, **record, "spare": spare_of(folder)})
        self._answer(call_id, {"result": alive})

    def _ask_metrics(self, call_id: int) -> None:
        busy = self._cpu_times if time.monotonic() < self._measured + MEASURED_LATELY else []
        self._metrics.ask(call_id, [str(ticks) for ticks in busy])

    def _answer_metrics(self, call_id: int, value: Dict[str, Any]) -> None:
        """The load is that between two questions, so the pipe keeps what the first was told."""
        result = value.get("result")
        times = result.pop("cpu_times", None) if isinstance(result, dict) else None
        if times is not None:
            self._cpu_times, self._measured = times, time.monotonic()
        self._answer(call_id, value)

    def _ask_activity(self, call_id: int) -> None:
        self._activity.ask(call_id, [] if self._counters is None else [json.dumps(self._counters)])

    def _answer_activity(self, call_id: int, value: Dict[str, Any]) -> None:
        """What is busy is counted between two questions, so the pipe keeps what the first was told."""
        result = value.get("result")
        counters = result.pop("counters", None) if isinstance(result, dict) else None
        if counters is not None:
            self._counters = counters
        self._answer(call_id, value)

    def _keep(self, call_id: int, request: Dict[str, Any]) -> None:
        self._leased(
            call_id, lambda: Leases().keep(request.get("holder"), request.get("seconds"), request.get("why") or "")
        )

    def _claim(self, call_id: int, request: Dict[str, Any]) -> None:
        self._leased(call_id, lambda: Leases().claim(request.get("holder"), request.get("seconds")))

    def _leased(self, call_id: int, change: Callable[[], List[Lease]]) -> None:
        """Small files of this machine's own: at once, like the list of kernels."""
        try:
            self._answer(call_id, {"result": [lease.as_json() for lease in change()]})
        except (LeaseError, OSError) as e:
            self._answer(call_id, {"error": {"code": "LeaseFailed", "message": str(e)}})


def _remove_stale(folder: str) -> None:
    """Unless it is so new that another pipe may just be starting a relay in it."""
    try:
        if time.time() - os.stat(folder).st_mtime > STALE:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass


def main(stdin_fd: int = 0, stdout_fd: int = 1) -> None:
    """Called by the loader, when what stands on stdin from here on is frames. Returns when stdin ends."""
    logging.basicConfig(stream=sys.stderr, format="relay: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    mark(PIPE_MARK)
    Pipe(stdin_fd, stdout_fd).run()
