"""The one I/O thread: it owns every ZeroMQ socket of every proxy in this process.

ZeroMQ sockets belong to one thread, and a kernel's messages must flow while the server's event loop is busy. So
everything that touches them runs here; other threads and event loops hand work over with ``call`` (which gives a
future) or ``call_soon``. Callbacks must not block: what blocks (SSH, Azure, starting processes) runs elsewhere and
hands its result over.

The thread starts with the first user and ends with the last (``IOThread.acquire`` and ``release``), so that a test or
a short-lived nbclient process leaves none behind. It imports the standard library, pyzmq and ``relay.poller`` only.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ClassVar, TypeVar

import zmq

from ..relay.poller import make_poller

log = logging.getLogger("jupyter_dsvm.io")

T = TypeVar("T")

IDLE_WAIT_MS = 60_000

SWITCH_INTERVAL = 0.0005
"""Seconds that another thread may compute before this one gets its turn (``sys.setswitchinterval``, for the whole process).
With Python's 5 ms, a kernel's messages wait as long behind an event loop that computes, at each hand-over."""

MAX_SOCKETS = 16_384
"""A kernel takes about a dozen; ZeroMQ's default of 1,023 would be full at some eighty kernels."""


class Timer:
    """A callback due later; ``cancel`` may be called on the I/O thread at any time, also after it ran."""

    __slots__ = ("callback", "cancelled", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class IOThread:
    _shared: ClassVar[IOThread | None] = None
    _users: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _switch_interval: ClassVar[float] = SWITCH_INTERVAL
    """What it was before there was a thread."""

    @classmethod
    def acquire(cls) -> IOThread:
        """The process's thread, started if need be. Each user calls ``release`` once when done with it."""
        with cls._lock:
            if cls._shared is None or cls._shared._pid != os.getpid():
                cls._shared, cls._users = cls(), 0
                cls._switch_interval = sys.getswitchinterval()
                sys.setswitchinterval(min(cls._switch_interval, SWITCH_INTERVAL))
                cls._shared._thread.start()
            cls._users += 1
            return cls._shared

    @classmethod
    def release(cls) -> None:
        """The last release stops the thread once what was handed over has run. Callable from any thread, also this one."""
        with cls._lock:
            cls._users -= 1
            if cls._users > 0 or cls._shared is None:
                return
            io, cls._shared = cls._shared, None
            sys.setswitchinterval(cls._switch_interval)
        io._stop()

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        self._pid = os.getpid()
        self._poller = make_poller()
        self._handlers: dict[Any, Callable[[int], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._wake_pending = False
        self._stopping = self._ended = False
        self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-io", daemon=True)

    # From any thread

    def call(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Run ``function`` on the I/O thread; the future has its result or exception. Cancelled once the thread has ended."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args))
            except BaseException as e:
                future.set_exception(e)

        self.call_soon(run)
        if self._ended:
            future.cancel()  # nobody runs it any more; without effect if the thread's last round did
        return future

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function`` on the I/O thread; what it raises is logged."""
        self._soon.append((lambda: function(*args)) if args else function)
        # A wake-up that is under way will see what was just appended: the flag is cleared before the deque is drained.
        if not self._wake_pending and not self.here:
            self._wake_pending = True
            try:
                self._wake_sender.send(b"\0")
            except BlockingIOError:
                pass  # the buffer is full of wake-ups already
            except OSError:
                log.debug("handed over to an I/O thread that has ended")

    @property
    def here(self) -> bool:
        return threading.current_thread() is self._thread

    # On the I/O thread

    def call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, function)
        heapq.heappush(self._timers, (timer.due, next(self._count), timer))
        return timer

    def register(self, source: Any, handler: Callable[[int], object], events: int = zmq.POLLIN) -> None:
        """Call ``handler(events)`` whenever ``source`` (a ZeroMQ socket, a socket or a descriptor) is ready.

        A ZeroMQ handler should take a bounded number of messages, so that sockets take turns; it is called again.
        """
        key = source if isinstance(source, (zmq.Socket, int)) else source.fileno()
        self._handlers[key] = handler
        self._poller.register(key, events)

    def used(self, source: Any) -> None:
        """A ZeroMQ socket that may be registered was used by other than its handler: see ``relay.poller``."""
        self._poller.used(source)

    def unregister(self, source: Any) -> None:
        key = source if isinstance(source, (zmq.Socket, int)) else source.fileno()
        if self._handlers.pop(key, None) is not None:
            self._poller.unregister(key)

    def _run(self) -> None:
        self.register(self._wake_receiver, self._woken)
        while not (self._stopping and not self._soon):
            try:
                ready = self._poller.poll(self._wait_ms())
            except zmq.ZMQError:
                log.exception("polling failed")
                self._forget_closed()
                continue
            for source, events in ready:
                handler = self._handlers.get(source)
                if handler is not None:
                    self._guarded(partial(handler, events))
            self._run_soon()
            self._run_timers()
        self._ended = True
        while self._soon:
            self._run_soon()
        self._poller.unregister(self._wake_receiver.fileno())
        self._wake_receiver.close()
        self._wake_sender.close()
        self._poller.close()
        self.context.destroy(linger=0)

    def _wait_ms(self) -> int:
        if self._soon:
            return 0
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return IDLE_WAIT_MS
        return max(0, min(IDLE_WAIT_MS, math.ceil((self._timers[0][0] - time.monotonic()) * 1000)))

    def _woken(self, _events: int) -> None:
        try:
            while self._wake_receiver.recv(4096):
                pass
        except BlockingIOError:
            pass
        # Only now: a byte sent after this line is still there for the next poll. Cleared before, the flag could stay set
        # by someone whose byte was just taken, and nobody would be woken again.
        self._wake_pending = False

    def _run_soon(self) -> None:
        # Only what is there now: what these add runs after the sockets had their turn.
        for _ in range(len(self._soon)):
            self._guarded(self._soon.popleft())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                self._guarded(timer.callback)

    def _guarded(self, function: Callable[[], Any]) -> None:
        """One kernel's bug must not end the thread that serves all of them."""
        try:
            function()
        except Exception:
            log.exception("a callback on the I/O thread failed")

    def _forget_closed(self) -> None:
        for source in list(self._handlers):
            if isinstance(source, zmq.Socket) and source.closed:
                self.unregister(source)

    def _stop(self) -> None:
        def stop() -> None:
            self._stopping = True

        self.call_soon(stop)
        if not self.here:
            self._thread.join(timeout=10)
