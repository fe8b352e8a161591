"""Which sources are ready: descriptors and ZeroMQ sockets, through one epoll. What ``zmq.Poller`` does, in fewer system calls.

``zmq.Poller`` asks each of its sockets at each turn, two system calls apiece, and a kernel takes a dozen sockets (measured: 210
calls for a cell behind the proxy). ZeroMQ also gives a descriptor per socket (``ZMQ_FD``), which becomes readable when
something has happened to the socket that it has not looked at yet; then ``ZMQ_EVENTS`` says what (zmq_getsockopt(3)). From that:

1. Whatever uses the socket, ``send`` and ``recv`` among them, may look at what has happened. The descriptor falls silent, and
   messages may be there nevertheless. So a socket that was used is asked once more before the next wait: who was found ready,
   and whoever ``used`` names.
2. The descriptor may be readable although there is no message. Asking makes it silent.

Where there is no epoll (a server on macOS or Windows), ``make_poller`` gives a ``zmq.Poller`` with the same methods.

Belongs to one thread, as the sockets do. Used by ``relay.loop`` and by the server's I/O thread.
"""

from __future__ import annotations

import select
import time
from typing import Any, Dict, List, Tuple

import zmq

IN, OUT, ERR = int(zmq.POLLIN), int(zmq.POLLOUT), int(zmq.POLLERR)
"""As plain numbers: arithmetic with pyzmq's enumerations took a sixth of the attach pipe's time."""

_FD, _EVENTS = int(zmq.FD), int(zmq.EVENTS)


class PlainPoller(zmq.Poller):
    """``zmq.Poller``, which asks everybody at each turn and need not be told who was used."""

    def register(self, source: Any, events: int = IN) -> None:
        super().register(source, events)

    def used(self, source: Any) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class EpollPoller:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: Dict[int, Any] = {}
        self._descriptors: Dict[Any, int] = {}  # of ZeroMQ sockets: once closed, they do not tell any more
        self._used: Dict[Any, None] = {}

    def register(self, source: Any, events: int = IN) -> None:
        """A descriptor, for any ``events``, or a ZeroMQ socket, for IN; again, to change the events. ERR always comes."""
        if isinstance(source, zmq.Socket):
            assert events == IN, "a ZeroMQ socket is only read when it is ready"
            fd = self._descriptors.get(source)
            if fd is None:
                fd = self._descriptors[source] = int(source.getsockopt(_FD))
            self._used[source] = None
        else:
            fd = source
        wanted = (select.EPOLLIN if events & IN else 0) | (select.EPOLLOUT if events & OUT else 0)
        try:
            self._epoll.register(fd, wanted)
        except FileExistsError:
            self._epoll.modify(fd, wanted)
        self._sources[fd] = source

    def unregister(self, source: Any) -> None:
        """``KeyError`` for one that is not registered. One that was closed before is forgotten as well."""
        if isinstance(source, zmq.Socket):
            fd = self._descriptors.pop(source)
            self._used.pop(source, None)
            if self._sources.get(fd) is not source:
                return  # it was closed, and another one has its number by now
        else:
            fd = source
        del self._sources[fd]
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass

    def used(self, source: Any) -> None:
        """Somebody has sent on this ZeroMQ socket, or read from it and not to its end: it is asked before the next wait."""
        if source in self._descriptors:
            self._used[source] = None

    def poll(self, milliseconds: int) -> List[Tuple[Any, int]]:
        """Who is ready, once somebody is or the time is up. ``zmq.ZMQError`` for a ZeroMQ socket that is closed."""
        ready: List[Tuple[Any, int]] = []
        for source in list(self._used):
            if source.getsockopt(_EVENTS) & IN:
                ready.append((source, IN))  # and is asked again next time, since it is about to be used
            else:
                del self._used[source]
        if ready:
            self._look(self._epoll.poll(0), ready)
            return ready
        wait, until = milliseconds / 1000, time.monotonic() + milliseconds / 1000
        while True:
            happened = self._epoll.poll(wait)
            self._look(happened, ready)
            if ready or not happened:
                return ready
            if milliseconds >= 0:  # a socket's descriptor was readable, and there was no message (2.)
                wait = max(0.0, until - time.monotonic())

    def _look(self, told: List[Tuple[int, int]], ready: List[Tuple[Any, int]]) -> None:
        """Who of those that epoll has told of is ready."""
        for fd, happened in told:
            source = self._sources.get(fd)
            if source is None or source in self._used:
                continue
            if not isinstance(source, int):
                if source.getsockopt(_EVENTS) & IN:
                    self._used[source] = None
                    ready.append((source, IN))
                continue
            events = IN if happened & select.EPOLLIN else 0
            if happened & select.EPOLLOUT:
                events |= OUT
            if happened & ~(select.EPOLLIN | select.EPOLLOUT):
                events |= ERR
            ready.append((source, events))

    def close(self) -> None:
        self._epoll.close()


def make_poller() -> Any:
    return EpollPoller() if hasattr(select, "epoll") else PlainPoller()
