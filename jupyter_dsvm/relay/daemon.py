"""The relay: one detached process per kernel, which owns the kernel and keeps what it says until that is acknowledged.

The attach pipe starts it (``spawn``) when a HELLO with ``create`` comes for a kernel that has no relay. From then on it
depends on nobody: pipes connect to its socket and go, at most one of them is attached, the newest wins. It ends

* after SHUTDOWN, when the kernel has ended and the server has acknowledged EXITED (or 10 s later),
* when the kernel has ended by itself and nobody has been attached for ten minutes,
* when no kernel was ever started and nobody is attached any more,
* on SIGTERM, with the kernel.

A relay with a living kernel stays for as long as the machine runs.

Flow: the kernel's IOPub is read as fast as it comes, into the session's journal; what goes on to the pipe is what the
server's credit and the socket's buffer allow. From the server, a message is acknowledged when the kernel's socket has it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, NoReturn, Optional, Set, Tuple

import zmq

from .calls import CallServer
from .folders import kernel_folder, kernels_folder, private_folder, write_private
from .journal import OutputLimit
from .kernel import GRACE
from .listening import accept_same_user, listen
from .loop import Loop
from .runner import Phase, Runner
from .session import Attached, EpochChanged, Event, HungUp, Received, Role, Session
from .spec import KernelSpec
from .stream import Stream
from .wire import (
    Channel,
    Frame,
    MessageAssembler,
    Type,
    WireError,
    call_body,
    data_bodies,
    json_body,
    read_call,
    read_json,
    read_signal,
)

log = logging.getLogger("relay")

SOCKET = "relay.sock"
CALL_SOCKET = "call.sock"
RECORD = "relay.json"
"""Which kernel this is, for people and for the pipe's list of kernels; nothing secret."""

TURN = 256 * 1024
"""Bytes handed to the pipe's socket at once; more waits in the journal, where a new connection finds it."""

MAX_CONNECTIONS = 16
LINGER = 2.0
"""Seconds that a connection which was told GOODBYE may take to read it."""

LOCK_WAIT = 0.5
"""Seconds that the pipe, and so all kernels on it, may wait for a relay's predecessor to be gone."""

ACK_WAIT = 10.0
UNUSED_LIMIT = 60.0
EXITED_LIMIT = 600.0


class _Connection:
    """A pipe's connection to this relay; attached once its HELLO was accepted."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = Stream(connection.detach())
        self.close_at: Optional[float] = None


class Relay:
    def __init__(self, folder: str, tag: bytes, listener: socket.socket) -> None:
        self._folder = folder
        self._listener = listener
        self._loop = Loop()
        self._context = zmq.Context()
        self._session = Session(Role.RELAY, tag)
        self._limit = OutputLimit(0)  # START sets it
        self._assembler = MessageAssembler()
        self._connections: Dict[int, _Connection] = {}
        self._attached: Optional[_Connection] = None
        self._incomplete: Optional[int] = None  # number of the first piece of a message that is not whole yet
        self._waiting: Deque[Tuple[int, Channel, List[bytes]]] = deque()  # whole messages, for a kernel not there yet
        self._calls = CallServer(self._loop, os.path.join(folder, CALL_SOCKET), self._called)
        self._runner = Runner(
            self._context, folder, self._calls.path, self._from_kernel, self._kernel_started, self._kernel_exited
        )
        self._polled: Optional[Any] = None
        self._sockets: List[Any] = []
        self._idle_since = time.monotonic()
        self._shut_down_at: Optional[float] = None
        self._exited_seq = 0
        self._terminating = False
        self._loop.register(listener.fileno(), self._accept)
        self._actions: Dict[int, Callable[[Received], None]] = {
            Type.DATA: self._to_kernel,
            Type.START: self._start,
            Type.RESTART: self._restart,
            Type.SHUTDOWN: self._shut_down,
            Type.SIGNAL: lambda e: self._runner.signal(read_signal(e.body)),
            Type.RESULT: lambda e: self._calls.result(*read_call(e.body)),
        }

    # The loop

    def run(self) -> None:
        """Until the relay has a reason to end. Then the kernel has ended, and the folder is gone."""
        wake, wake_sender = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wake_sender, False)
        self._loop.register(wake, lambda _: _read_all(wake))
        signal.set_wakeup_fd(wake_sender, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._terminated)
        for signum in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            # A handler that does nothing, not SIG_IGN: that would be the kernel's too, and no interrupt would reach it.
            signal.signal(signum, lambda *_: None)
        try:
            while not self._finished():
                wait = self._runner.step()
                self._watch_kernel()
                self._hand_on()
                self._send()
                self._loop.turn(min(wait, self._close_lingering(), 5.0 if self._shut_down_at is None else 0.1))
        finally:
            self._close()

    def _terminated(self, *_: Any) -> None:
        self._terminating = True

    def _finished(self) -> bool:
        now = time.monotonic()
        if self._terminating and self._shut_down_at is None:
            self._begin_shutdown()
        if self._runner.alive:
            self._idle_since = now
            return False
        if self._shut_down_at is not None:
            if self._session.acked >= self._exited_seq or (self._terminating and self._attached is None):
                return True
            return now > self._shut_down_at + GRACE + ACK_WAIT
        if self._attached is not None:
            self._idle_since = now
        limit = UNUSED_LIMIT if self._runner.phase is Phase.ABSENT else EXITED_LIMIT
        return now > self._idle_since + limit

    def _close(self) -> None:
        self._runner.close()
        for connection in list(self._connections.values()):
            self._goodbye(connection, "shutdown", "the relay has ended")
            self._drop(connection)
        self._calls.close()
        self._loop.unregister(self._listener.fileno())
        self._listener.close()
        self._context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    # Pipes

    def _accept(self, _events: int) -> None:
        peer = accept_same_user(self._listener)
        if peer is None:
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            peer.close()
            return
        connection = _Connection(peer)
        self._connections[connection.stream.read_fd] = connection
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        events = zmq.POLLIN | (zmq.POLLOUT if connection.stream.pending else 0)
        self._loop.register(connection.stream.read_fd, lambda e: self._ready(connection, e), events)

    def _ready(self, connection: _Connection, events: int) -> None:
        try:
            if events & zmq.POLLOUT:
                connection.stream.flush()
            if events & ~zmq.POLLOUT:
                frames = connection.stream.read()
                if frames is None:
                    self._drop(connection)
                    return
                if connection.close_at is None:
                    for frame in frames:
                        self._frame(connection, frame)
        except WireError as e:
            log.warning("protocol error: %s", e)
            self._goodbye(connection, "protocol", str(e))
        except OSError:
            self._drop(connection)
        if connection.stream.read_fd in self._connections:
            self._watch(connection)

    def _frame(self, connection: _Connection, frame: Frame) -> None:
        if connection.close_at is not None or self._connections.get(connection.stream.read_fd) is not connection:
            return
        if connection is not self._attached:
            # Looked at first: a connection that cannot resume must not push out one that does.
            changed = self._session.check_hello(frame)
            if changed is not None:
                self._goodbye(connection, "epoch", "this relay belongs to another server process")
                return
            if self._attached is not None:
                self._goodbye(self._attached, "superseded", "the kernel was attached from elsewhere")
            self._session.attach(pid=os.getpid())
            self._attached = connection
        for event in self._session.receive(frame):
            self._event(connection, event)

    def _event(self, connection: _Connection, event: Event) -> None:
        if isinstance(event, Received):
            action = self._actions.get(event.type)
            if action is not None:
                action(event)
        elif isinstance(event, HungUp):
            self._drop(connection)
        elif not isinstance(event, (Attached, EpochChanged)):
            raise WireError("GONE is nothing to send to the relay")

    def _goodbye(self, connection: _Connection, reason: str, text: str) -> None:
        """Tell it, and close it when it has read that or a moment later. What else waited for it stays in the journal."""
        if connection is self._attached:
            self._detach()
        connection.stream.drop_queue()
        connection.stream.queue([self._session.goodbye(reason, text)])
        connection.close_at = time.monotonic() + LINGER
        try:
            connection.stream.flush()
        except OSError:
            pass
        if connection.stream.pending == 0:
            self._drop(connection)
        else:
            self._watch(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection is self._attached:
            self._detach()
        if self._connections.pop(connection.stream.read_fd, None) is not None:
            self._loop.unregister(connection.stream.read_fd)
            connection.stream.close()

    def _detach(self) -> None:
        self._attached = None
        self._session.detach()
        self._idle_since = time.monotonic()

    def _close_lingering(self) -> float:
        """Close those that were told GOODBYE long enough ago; seconds until the next may be due."""
        closing = [c for c in self._connections.values() if c.close_at is not None]
        for connection in closing:
            if connection.stream.pending == 0 or time.monotonic() > (connection.close_at or 0):
                self._drop(connection)
        return 0.1 if closing else 60.0

    def _send(self) -> None:
        connection = self._attached
        if connection is None:
            return
        try:
            while connection.stream.pending < TURN and self._session.can_send:
                connection.stream.queue(self._session.frames_to_send(TURN))
                connection.stream.flush()
        except OSError:
            self._drop(connection)
            return
        self._watch(connection)

    # From the server

    def _to_kernel(self, event: Received) -> None:
        message = self._assembler.feed(event.body)
        if self._incomplete is None:
            self._incomplete = event.seq
        if message is None:
            self._session.consumed(event.seq)
            return
        channel, parts = message
        first, self._incomplete = self._incomplete, None
        if channel is Channel.IOPUB:
            raise WireError("a message for the kernel's IOPub channel")
        self._waiting.append((first, channel, parts))

    def _hand_on(self) -> None:
        while self._waiting and self._runner.send(*self._waiting[0][1:]):
            self._waiting.popleft()
        if self._waiting:
            self._session.delivered(self._waiting[0][0] - 1)
        elif self._incomplete is not None:
            self._session.delivered(self._incomplete - 1)
        else:
            self._session.delivered(self._session.received)

    def _start(self, event: Received) -> None:
        if self._runner.phase is not Phase.ABSENT:
            raise WireError("a second START")
        spec = KernelSpec.from_json(read_json(event.body))
        self._limit.cap = spec.journal_limit
        record = {
            "kernel_id": spec.kernel_id,
            "kernel_name": spec.kernel_name,
            "pid": os.getpid(),
            "since": time.time(),
        }
        write_private(os.path.join(self._folder, RECORD), json.dumps(record).encode())
        self._runner.start(spec)

    def _restart(self, _event: Received) -> None:
        # What the old run had not got yet is not for the new one; the server answers those requests.
        self._waiting.clear()
        self._runner.restart()

    def _shut_down(self, _event: Received) -> None:
        self._begin_shutdown()

    def _begin_shutdown(self) -> None:
        self._waiting.clear()
        self._shut_down_at = time.monotonic()
        if self._runner.alive:
            self._runner.end()
        else:
            self._kernel_exited(0, "")

    # From the kernel

    def _watch_kernel(self) -> None:
        channels = self._runner.channels if self._runner.phase is Phase.RUNNING else None
        if channels is self._polled:
            return
        if self._polled is not None:
            for s in self._sockets:
                self._loop.unregister(s)
        self._sockets = []
        self._polled = channels
        if channels is not None:
            for channel, s in channels.sockets.items():
                self._sockets.append(s)
                self._loop.register(s, partial(self._kernel_readable, channel))

    def _kernel_readable(self, channel: Channel, _events: int) -> None:
        self._runner.read(channel)

    def _from_kernel(self, channel: Channel, parts: List[bytes]) -> None:
        if channel is not Channel.IOPUB:
            self._say(channel, parts)
            return
        for taken in self._limit.take(parts, self._session.journal.size):
            if isinstance(taken, dict):
                self._session.send(Type.OMITTED, json_body(taken))
            else:
                self._say(channel, taken)

    def _say(self, channel: Channel, parts: Any) -> None:
        for body in data_bodies(channel, parts):
            self._session.send(Type.DATA, body)

    def _kernel_started(self, value: Dict[str, Any]) -> None:
        self._session.send(Type.STARTED, json_body(value))

    def _kernel_exited(self, code: int, text: str) -> None:
        for omitted in self._limit.flush():
            assert isinstance(omitted, dict)
            self._session.send(Type.OMITTED, json_body(omitted))
        body = {"code": code, "run": self._runner.run, "text": text}
        self._exited_seq = self._session.send(Type.EXITED, json_body(body))

    def _called(self, call_id: int, request: Dict[str, Any]) -> None:
        self._session.send(Type.CALL, call_body(call_id, request))


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def spawn(tag: bytes) -> str:
    """Start the relay of this kernel, detached, and return the path of its socket, which listens already.

    Called by the attach pipe, which has one thread. The socket is made here, before the fork: so a connect follows at
    once, and what can go wrong with the folder is raised here as an ``OSError``, where somebody hears it.
    """
    private_folder(kernels_folder())  # under /tmp somebody else may have made it, and could then exchange what is in it
    folder = private_folder(kernel_folder(tag))
    # Held by the relay for its life. Two pipes must not start two relays; and systemd-tmpfiles, which removes what lies in
    # /tmp for ten days, leaves alone what is locked.
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _lock(lock):
            raise OSError("the kernel's relay is just starting or ending; try again in a moment")
        return _start_in(folder, tag, lock)
    finally:
        os.close(lock)


def _lock(fd: int) -> bool:
    """Whether the lock is ours now. A relay that is being killed closes its sockets a moment before it lets go of this."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


def _start_in(folder: str, tag: bytes, lock: int) -> str:
    for name in os.listdir(folder):  # left behind by a relay that was killed with its machine
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            os.unlink(path)
    path = os.path.join(folder, SOCKET)
    listener = listen(path)
    child = os.fork()
    if child:
        listener.close()
        os.waitpid(child, 0)
        return path
    _become_relay(folder, tag, listener, lock)


def _become_relay(folder: str, tag: bytes, listener: socket.socket, lock: int) -> NoReturn:
    """In the forked child. It never comes back into the pipe's code, whatever happens."""
    try:
        os.setsid()
        if os.fork() == 0:
            _detach_from_everything(os.path.join(folder, "relay.log"), {listener.fileno(), lock})
            Relay(folder, tag, listener).run()
    except BaseException:
        log.exception("the relay failed")
    finally:
        os._exit(0)


def _detach_from_everything(log_path: str, keep: Set[int]) -> None:
    """No terminal, no open file of the pipe (sshd would wait for its channel), no folder that could be unmounted."""
    os.chdir("/")
    write_private(log_path, b"")
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.INFO, force=True)
