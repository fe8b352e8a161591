"""The five endpoints of a kernel's front, which clients connect to and which never change. Lives on the I/O thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import zmq
from jupyter_core.paths import jupyter_runtime_dir

from ..relay import multipart
from ..relay.folders import fits
from ..relay.kernel import PORT_NAMES
from ..relay.wire import Channel
from .iothread import IOThread

TURN = 200
"""Messages taken from one socket before the others have their turn."""

_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)

KINDS = {Channel.SHELL: zmq.ROUTER, Channel.IOPUB: zmq.XPUB, Channel.STDIN: zmq.ROUTER, Channel.CONTROL: zmq.ROUTER}


class Front:
    def __init__(
        self,
        io: IOThread,
        ip: str,
        wanted: dict[str, int],
        on_message: Callable[[Channel, list[bytes]], None],
        welcome: Callable[[bytes], list[bytes]],
    ) -> None:
        """Binds at once, to any port where ``wanted`` has none. On failure nothing stays bound.

        ``welcome(topic)`` gives the message that greets a new subscriber.
        """
        self.ports: dict[str, int] = {}
        self._io = io
        self._ip = ip
        self._on_message = on_message
        self._welcome = welcome
        self._sockets: dict[Channel, zmq.Socket[bytes]] = {}
        self._topics: set[bytes] = set()
        self._heartbeat = io.context.socket(zmq.ROUTER)
        try:
            for channel, kind in KINDS.items():
                s = self._sockets[channel] = io.context.socket(kind)
                s.linger = 1000
                s.sndhwm = s.rcvhwm = 0  # what cannot be sent yet waits; a kernel's own socket would drop it at 1,000
                if kind == zmq.XPUB:
                    s.setsockopt(zmq.XPUB_VERBOSE, 1)  # a second subscriber to the same topic is welcomed too
                else:
                    s.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that reconnects keeps its identity
                self._bind(s, PORT_NAMES[channel], wanted)
            self._heartbeat.linger = 0
            self._bind(self._heartbeat, "hb_port", wanted)
        except BaseException:
            self.close()
            raise
        for channel, s in self._sockets.items():
            io.register(s, self._subscribed if channel is Channel.IOPUB else partial(self._readable, channel))
        io.register(self._heartbeat, self._beat)

    def _bind(self, s: zmq.Socket[bytes], name: str, wanted: dict[str, int]) -> None:
        s.bind(f"tcp://{self._ip}:{wanted.get(name) or '*'}")
        endpoint = s.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.ports[name] = int(endpoint.rstrip(b"\0").rpartition(b":")[2])

    def send(self, channel: Channel, parts: list[bytes]) -> None:
        s = self._sockets.get(channel)
        if s is None:
            return
        if channel is Channel.IOPUB and not self._topics:
            # A server's pages subscribe to nothing, and ZeroMQ takes as long to drop a message as to send it. Somebody may
            # have subscribed since the last look.
            self._io.used(s)
            if int(s.getsockopt(_EVENTS)) & _IN:
                self._subscribed()
            if not self._topics:
                return
        self._io.used(s)
        multipart.send(s, parts)

    def _readable(self, channel: Channel, _events: int) -> None:
        for parts in _received(self._sockets.get(channel)):
            self._on_message(channel, parts)

    def _subscribed(self, _events: int = _IN) -> None:
        for parts in _received(self._sockets.get(Channel.IOPUB)):
            said, topic = parts[0][:1], parts[0][1:]
            if said == b"\x01":
                self._topics.add(topic)
                # As ipykernel 7 greets a subscriber (JEP 65), so that a client knows that it will miss nothing.
                self.send(Channel.IOPUB, self._welcome(topic))
            elif said == b"\x00":
                self._topics.discard(topic)  # said only for the last subscriber to it

    def _beat(self, _events: int) -> None:
        for parts in _received(self._heartbeat):
            multipart.send(self._heartbeat, parts)

    def close(self) -> None:
        for s in (*self._sockets.values(), self._heartbeat):
            self._io.unregister(s)
            s.close()
        self._sockets.clear()


def _received(s: zmq.Socket[bytes] | None) -> list[list[bytes]]:
    return multipart.receive(s, TURN) if s is not None and not s.closed else []


def socket_folder() -> Path:
    """A new 0700 folder for one kernel's sockets, under Jupyter's runtime folder where paths in it stay short enough."""
    base = Path(jupyter_runtime_dir())
    if fits(str(base / "dsvm-xxxxxxxx")):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="dsvm-", dir=base))
    return Path(tempfile.mkdtemp(prefix="dsvm-"))
