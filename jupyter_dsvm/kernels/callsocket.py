"""The socket over which ``%dsvm`` in a kernel of this server reaches the proxy.

A unix socket, 0600, in the kernel's private folder, whose peer's user is checked too. One connection is one call: a
line of JSON in, lines of JSON out, and hanging up cancels. It lives on the I/O thread.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from ..relay.listening import same_user
from .iothread import IOThread

log = logging.getLogger("jupyter_dsvm.calls")

MAX_REQUEST = 64 * 1024
MAX_CONNECTIONS = 16


def peer_is_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as this user (SO_PEERCRED on Linux; elsewhere the folder's mode counts)."""
    return not hasattr(socket, "SO_PEERCRED") or same_user(connection)


class Connection:
    """One call. ``on_request(connection, request)`` comes once, ``on_hang_up`` when the kernel hangs up before the answer."""

    def __init__(self, io: IOThread, server: CallSocket, sock: socket.socket) -> None:
        self._io = io
        self._server = server
        self._socket = sock
        self._received = b""
        self._outgoing = b""
        self._asked = False
        self._closing = False
        self.on_hang_up: Callable[[], None] | None = None
        sock.setblocking(False)
        io.register(sock, self._ready)

    def _ready(self, events: int) -> None:
        if events & zmq.POLLOUT:
            self._flush()
        if events & (zmq.POLLIN | zmq.POLLERR):
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self._asked:
            return
        self._received += data
        line, newline, _rest = self._received.partition(b"\n")
        if not newline:
            if len(self._received) > MAX_REQUEST:
                self.close()
            return
        self._asked = True
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if isinstance(request, dict):
            self._server.on_request(self, request)
        else:
            self.close()

    def answer(self, value: dict[str, Any]) -> None:
        """From any thread. The connection closes after a result or an error."""
        line = json.dumps(value).encode() + b"\n"
        self._io.call_soon(self._send, line, "progress" not in value)

    def _send(self, line: bytes, last: bool) -> None:
        if self._socket.fileno() < 0:
            return
        self._outgoing += line
        self._closing = self._closing or last
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
        except BlockingIOError:
            self._io.unregister(self._socket)
            self._io.register(self._socket, self._ready, zmq.POLLIN | zmq.POLLOUT)
            return
        except OSError:
            self.close()
            return
        if self._closing:
            self.on_hang_up = None
            self.close()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._io.unregister(self._socket)
        self._socket.close()
        self._server.connections.discard(self)
        if self.on_hang_up is not None:
            self.on_hang_up()


class CallSocket:
    def __init__(self, io: IOThread, path: Path, on_request: Callable[[Connection, dict[str, Any]], None]) -> None:
        """On the I/O thread. ``path`` lies in a 0700 folder."""
        self.path = path
        self.on_request = on_request
        self.connections: set[Connection] = set()
        self._io = io
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(0o600)
        self._socket.listen(MAX_CONNECTIONS)
        self._socket.setblocking(False)
        io.register(self._socket, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if len(self.connections) >= MAX_CONNECTIONS or not peer_is_this_user(connection):
            connection.close()
            return
        self.connections.add(Connection(self._io, self, connection))

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()
        self._io.unregister(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)
