"""The relay: one detached process per kernel, which owns the kernel and keeps what it says until that is acknowledged.

The attach pipe starts it (``spawning``) when a HELLO with ``create`` comes for a kernel that has no relay. From then on it
depends on nobody: pipes connect to its socket and go, at most one of them is attached, the newest wins. It ends

* after SHUTDOWN, when the kernel has ended and the server has acknowledged EXITED (or 15 s after the order),
* when the kernel has ended by itself and nobody has been attached for ten minutes, or, where not all of what it said is
  acknowledged, for a week,
* when no kernel was ever started and nobody has been attached for a minute,
* on SIGTERM, with the kernel.

A relay with a living kernel stays for as long as the machine runs.

Flow: the kernel's IOPub is read as fast as it comes, into the session's journal; what goes on to the pipe is what the
server's credit and the socket's buffer allow. From the server, a message is acknowledged when the kernel's socket has it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import time
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import zmq

from . import memory
from .archive import Archive
from .attaching import Attaching
from .calls import CallServer
from .events import Received
from .executing import Executing
from .folders import lock_folder, private_folder
from .journal import Journal, OutputLimit
from .lateack import LateAck
from .listening import listen
from .loop import Loop
from .marks import RELAY_BUSY, RELAY_IDLE, mark
from .process import GRACE
from .record import write_record
from .runner import Phase, Runner
from .runs import Runs
from .session import Role, Session
from .spec import KernelSpec
from .strikes import Strikes, Warner
from .wire import (
    LONGEST_OUTPUT,
    MAX_PARTS,
    Channel,
    MessageAssembler,
    Type,
    WireError,
    call_body,
    data_bodies,
    json_body,
    read_call,
    read_interrupt,
    read_json,
    read_signal,
)

log = logging.getLogger("relay")

SOCKET = "relay.sock"
CALL_SOCKET = "call.sock"

ACK_WAIT = 10.0
"""Seconds that a relay which is to end waits for the server to acknowledge the kernel's end."""

UNUSED_LIMIT = 60.0
"""Seconds for which a relay without a kernel waits for somebody to attach."""

EXITED_LIMIT = 600.0
"""Seconds for which one whose kernel has ended by itself waits for a RESTART."""

UNHEARD_LIMIT = 7 * 24 * 3600.0
"""The same where something is not acknowledged: whoever comes back hears how the kernel ended, and what it said."""

LOOK = 1.0
"""Seconds between two looks for the folder."""

STRIKE_LOOK = 2.0
"""The same for when the machine is to be stopped, while a cell runs."""

QUIET = 3.0
"""Seconds in which the journal has not changed after which memory is given back."""


class Relay:
    def __init__(self, folder: str, tag: bytes, listener: socket.socket) -> None:
        self._folder = folder
        self._socket = os.path.join(folder, SOCKET)
        self._archive = Archive()
        self._look_at = 0.0
        self._moved = self._tidied_at = 0  # bytes that have come into the journal and gone from it
        self._moved_at = 0.0
        self._loop = Loop()
        self._context = zmq.Context()
        self._journal = Journal(folder)
        self._session = Session(Role.RELAY, tag, journal=self._journal)
        self._late_ack = LateAck(self._session)
        self._attaching = Attaching(self._loop, self._session, listener, self._frame, self._adopted)
        self._limit = OutputLimit(0)
        self._journal_limit = 0  # START sets it
        self._assembler = MessageAssembler()
        self._incomplete: Optional[int] = None  # number of the first piece of a message that is not whole yet
        self._waiting: Deque[Tuple[int, Channel, List[bytes]]] = deque()  # whole messages, for a kernel not there yet
        self._calls = CallServer(self._loop, os.path.join(folder, CALL_SOCKET), self._called)
        self._runner = Runner(
            self._context,
            folder,
            self._calls.path,
            self._from_kernel,
            self._kernel_started,
            self._kernel_exited,
            self._loop.used,
        )
        self._runs = Runs()
        self._executing = Executing()
        self._strikes = Strikes()
        self._warner = Warner()
        self._strike_look_at = 0.0
        self._mark = ""
        self._polled: Optional[Any] = None
        self._sockets: List[Any] = []
        self._idle_since = time.monotonic()
        self._shut_down_at: Optional[float] = None
        self._exited_seq = 0
        self._terminating = False
        self._actions: Dict[int, Callable[[Received], None]] = {
            Type.DATA: self._to_kernel,
            Type.START: self._start,
            Type.RESTART: self._restart,
            Type.SHUTDOWN: self._shut_down,
            Type.SIGNAL: lambda e: self._runner.signal(read_signal(e.body)),
            Type.INTERRUPT: self._interrupt,
            Type.RESULT: lambda e: self._calls.result(*read_call(e.body)),
        }

    # The loop

    def run(self) -> None:
        """Until the relay has a reason to end. Then the kernel has ended, and the folder is gone."""
        memory.keep()
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
                self._look_after_folder()
                self._look_after_memory()
                self._look_after_mark()
                self._look_after_strike()
                self._archive.keep()
                wait = self._runner.step()
                self._watch_kernel()
                self._hand_on()
                late = self._late_ack.look(time.monotonic())
                self._attaching.send()
                lingering = self._attaching.close_lingering()
                self._loop.turn(min(wait, lingering, late or 5.0, 5.0 if self._shut_down_at is None else 0.1))
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
            if self._session.acked >= self._exited_seq or (self._terminating and not self._attaching.attached):
                return True
            return now > self._shut_down_at + GRACE + ACK_WAIT
        if self._attaching.attached:
            self._idle_since = now
        limit = UNUSED_LIMIT
        if self._runner.phase is not Phase.ABSENT:
            limit = UNHEARD_LIMIT if len(self._journal) else EXITED_LIMIT
        return now > self._idle_since + limit

    def _close(self) -> None:
        self._runner.close()
        self._attaching.close("the relay has ended")
        self._calls.close()
        self._journal.close()
        self._context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _look_after_memory(self) -> None:
        now, moved = time.monotonic(), 2 * self._journal.before + self._journal.size
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        elif now > self._moved_at + QUIET:
            self._journal.rest()  # again and again: a disk that takes nothing now may do so later
            if moved - self._tidied_at > memory.KEPT // 4:
                self._tidied_at = moved
                memory.give_back()

    def _look_after_mark(self) -> None:
        """What the process is called says whether a cell runs (``marks``)."""
        wanted = RELAY_BUSY if self._executing.busy else RELAY_IDLE
        if wanted != self._mark:
            self._mark = wanted
            mark(wanted)

    def _look_after_strike(self) -> None:
        """Before the machine is stopped the cell that runs says so, whether a server is attached or not (``strikes``)."""
        now = time.monotonic()
        if now < self._strike_look_at or self._shut_down_at is not None:
            return
        running = self._executing.first
        if running is None:
            return
        self._strike_look_at = now + STRIKE_LOOK
        strike = self._strikes.read()
        minutes = self._warner.due(running[0], strike, now)
        if minutes is not None and strike is not None:
            note = {"parent_header": running[1], "text": strike.text, "minutes": minutes}
            self._session.send(Type.NOTE, json_body(note))

    def _look_after_folder(self) -> None:
        """Somebody may have cleared it away. Whoever has a connection keeps it; others find the relay again in a new one."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK
        if os.path.exists(self._socket):
            return
        try:
            if lock_folder(private_folder(self._folder), 0.0) is None:  # else kept for life
                return  # another relay, which has taken this one for dead
            self._attaching.listen_at(listen(self._socket))
            self._calls.listen_again()
            if self._runner.spec is not None:
                write_record(self._folder, self._runner.spec.kernel_id, self._runner.spec.kernel_name)
            log.warning("the folder was gone; it is there again")
        except OSError as e:
            log.warning("the folder is gone and cannot be made again: %s", e)
            self._look_at = now + 60 * LOOK

    # From the server

    def _frame(self, event: Received) -> None:
        action = self._actions.get(event.type)
        if action is not None:
            action(event)

    def _adopted(self) -> None:
        """Another server process goes on. Of a message that its predecessor had begun it does not have the rest."""
        self._assembler = MessageAssembler()
        self._incomplete = None
        base = self._session.acked
        self._session.add_to_hello(kernel=self._runs.as_of(base, self._runner.phase.value, self._runner.run))
        self._calls.forget(base)

    def _interrupt(self, event: Received) -> None:
        # After the requests that came before it, which may still wait for the kernel to be there.
        first = self._session.received + 1 if self._incomplete is None else self._incomplete
        self._waiting.append((first, Channel.CONTROL, read_interrupt(event.body)))

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
        if channel is Channel.SHELL:
            self._executing.asked(parts)
        self._waiting.append((first, channel, parts))

    def _hand_on(self) -> None:
        while self._waiting and self._runner.send(*self._waiting[0][1:]):
            self._waiting.popleft()
        if self._waiting:
            upto = self._waiting[0][0] - 1
        elif self._incomplete is not None:
            upto = self._incomplete - 1
        else:
            upto = self._session.received
        self._session.delivered(upto, lazily=True)

    def _start(self, event: Received) -> None:
        if self._runner.phase is not Phase.ABSENT:
            raise WireError("a second START")
        spec = KernelSpec.from_json(read_json(event.body))
        self._journal_limit = spec.journal_limit
        try:
            write_record(self._folder, spec.kernel_id, spec.kernel_name)
        except OSError as e:  # a full disk, most likely: then the start fails as well, and says so
            log.warning("what is to be known of this relay cannot be written down: %s", e)
        self._runner.start(spec)

    def _restart(self, _event: Received) -> None:
        # What the old run had not got yet is not for the new one; the server answers those requests.
        self._waiting.clear()
        self._executing.reset()
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
            if channel is Channel.SHELL:
                self._executing.answered(parts)
            self._say(channel, parts)
            return
        if sum(map(len, parts)) > LONGEST_OUTPUT or len(parts) > MAX_PARTS:
            self._limit.leave_out(parts)
            return
        self._limit.cap = self._journal.capacity(self._journal_limit)
        for taken in self._limit.take(parts, self._journal.size):
            if isinstance(taken, dict):
                self._session.send(Type.OMITTED, json_body(taken))
            else:
                self._say(channel, taken)

    def _say(self, channel: Channel, parts: Any) -> None:
        for body in data_bodies(channel, parts):
            self._session.send(Type.DATA, body)

    def _kernel_started(self, value: Dict[str, Any]) -> None:
        self._runs.forget(self._session.acked)
        self._runs.started(self._session.send(Type.STARTED, json_body(value)), value)

    def _kernel_exited(self, code: int, text: str) -> None:
        self._executing.reset()
        for omitted in self._limit.flush():
            assert isinstance(omitted, dict)
            self._session.send(Type.OMITTED, json_body(omitted))
        body: Dict[str, Any] = {"code": code, "run": self._runner.run, "text": text}
        if self._runner.out_of_memory is not None:
            body["out_of_memory"] = self._runner.out_of_memory
        self._exited_seq = self._session.send(Type.EXITED, json_body(body))
        self._runs.exited(self._exited_seq, body)

    def _called(self, call_id: int, request: Dict[str, Any]) -> int:
        return self._session.send(Type.CALL, call_body(call_id, request))


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass
