"""The holder: the parent of one spare, and of the kernel that the spare becomes. A small process of its own, detached.

A relay starts it (``spare.SpareKeeper``), with an order on stdin; it parks one Python and listens in the private folder of that
kind of spare. It is the parent instead of the relay since a spare waits for whichever relay needs one, and a process keeps its
parent. On that relay's behalf it reports the exit code, and ends the kernel, its whole process group, when the relay is gone;
the kernel is killed with it, should it be killed itself. It ends with what it holds. What it does when is in ``hold``.

Between a relay and a holder (``lines``): ``{"take": {"kind", "kernel"}}`` from the relay; ``{"parked"}``, ``{"taken": {"pid",
"start_time"}}``, ``{"refused": why}`` and ``{"exited": code}`` from here. Signals go from the relay to the process itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from typing import Any, Dict, List, Optional

from .folders import private_folder, write_private
from .hold import Action, End, Hand, Hold, State, Tell, Withdraw
from .lines import Lines
from .listening import accept_same_user, listen
from .marks import HOLDER_MARK, mark
from .process import GRACE, KernelProcess, start_time

SOCKET = "spare.sock"
RECORD = "spare.json"
"""Which processes wait here, from when on they are ready."""

SCRIPT = "start.py"
"""As the one in a kernel's folder is called: what ``ps`` shows may not get longer."""

CONTROL = 3
"""The descriptor under which the parked Python finds us."""

MAX_RELAYS = 200

LOCK_WAIT = 0.5
"""Seconds that a predecessor may take to be gone, or somebody to look whether there is one."""


class Holder:
    """``order``: ``{"kind", "folder", "argv", "env", "script"}``; ``script`` is the text of ``park``. Raises ``OSError``."""

    def __init__(self, order: Dict[str, Any], lock: int) -> None:
        self._folder: str = order["folder"]
        self._lock: Optional[int] = lock
        self._hold = Hold(order["kind"], time.monotonic())
        self._relays: Dict[int, Lines] = {}
        self._peers: Dict[int, int] = {}
        write_private(os.path.join(self._folder, SCRIPT), order["script"].encode())
        ours, theirs = socket.socketpair()
        with theirs:
            os.dup2(theirs.fileno(), CONTROL)  # reserved by main
            log = os.path.join(self._folder, "log")
            self._process = KernelProcess(
                order["argv"], order["env"], "/", log, die_with_parent=True, pass_fds=(CONTROL,)
            )
        os.close(CONTROL)
        self._parked = Lines(ours)
        self._start_time = start_time(self._process.pid)
        self._listener: Optional[socket.socket] = listen(os.path.join(self._folder, SOCKET))

    def run(self) -> None:
        wake, wake_sender = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wake_sender, False)
        signal.set_wakeup_fd(wake_sender, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            # Not SIG_IGN: whatever starts a process here would pass that on.
            signal.signal(signum, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._do([End()]))
        try:
            while self._hold.state is not State.ENDED:
                self._turn(wake)
        except _Over:
            pass
        finally:
            self._close()

    def _turn(self, wake: int) -> None:
        poll = select.poll()
        for fd in (wake, self._parked.fileno(), *self._relays):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener.fileno(), select.POLLIN)
        due = self._hold.due
        poll.poll(None if due is None else max(0.0, due - time.monotonic()) * 1000 + 1)
        _drain(wake)
        self._accept()
        # What it said before its end, and before whoever asked for it has gone.
        self._hear_parked()
        for who in list(self._relays):
            self._hear(who)
        code = self._process.poll()
        if code is not None:
            self._do(self._hold.exited(code))
        self._do(self._hold.tick(time.monotonic()))

    def _accept(self) -> None:
        connection = accept_same_user(self._listener) if self._listener is not None else None
        if connection is None:
            return
        if len(self._relays) >= MAX_RELAYS:
            connection.close()
            return
        lines = Lines(connection)
        self._relays[lines.fileno()] = lines
        self._do(self._hold.connected(lines.fileno()))

    def _hear_parked(self) -> None:
        for value in self._parked.read():
            about = {"pid": self._process.pid, "start_time": self._start_time}
            actions = self._hold.said(value, about)
            if self._hold.state is State.PARKED:
                record = {"pid": self._process.pid, "holder": os.getpid(), "since": time.time()}
                write_private(os.path.join(self._folder, RECORD), json.dumps(record).encode())
            self._do(actions)
        if not self._parked.open:
            self._parked.close()  # it is a kernel, or it is ending and SIGCHLD comes

    def _hear(self, who: int) -> None:
        relay = self._relays.get(who)
        if relay is None:
            return
        for value in relay.read():
            if "take" in value:
                self._do(self._hold.asked(who, value["take"]))
        if not relay.open and who in self._relays:
            self._hang_up(who)
            self._do(self._hold.gone(who, time.monotonic()))

    def _hang_up(self, who: int) -> None:
        self._relays.pop(who).close()

    def _do(self, actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Tell):
                self._tell(action)
            elif isinstance(action, Withdraw):
                for who in [w for w in self._relays if w != action.keep]:
                    self._hang_up(who)
                self._withdraw()
            elif isinstance(action, Hand):
                self._parked.say(**action.kernel)
            else:
                raise _Over

    def _tell(self, tell: Tell) -> None:
        relay = self._relays.get(tell.who)
        if relay is not None and relay.say(**tell.value):
            # The relay waits for its children's ends; nothing else need look at this connection all the time.
            _wake(relay.connection)

    def _withdraw(self) -> None:
        """Its folder first, then the lock on it: who gets that makes a new one."""
        if self._lock is None:
            return
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _close(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._process.kill()
        self._process.wait(GRACE)
        self._withdraw()


class _Over(Exception):
    """Leaves the loop from wherever it is."""


def _wake(connection: socket.socket) -> None:
    pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    try:
        os.kill(pid, signal.SIGCHLD)  # does nothing to a process that does not ask for it
    except OSError:
        pass


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def lock(folder: str, seconds: float = LOCK_WAIT) -> Optional[int]:
    """A descriptor that holds the lock on the place of a kind of spare, which is made; None where another one has it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            private_folder(folder)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # a spare has just been handed out, and its folder is removed
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                return fd
        except OSError:
            pass
        os.close(fd)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.02)


def main() -> None:
    """Run by a relay's Python, with the order on stdin. What the relay started returns at once; the holder is its child."""
    order = json.loads(sys.stdin.read())
    if os.fork():
        return
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, CONTROL)
    if null != CONTROL:
        os.close(null)
    mark(HOLDER_MARK)
    held = lock(order["folder"])
    if held is not None:
        Holder(order, held).run()
