"""The way that variables take between two kernels, as this server sees it: two ends, and what is pumped between them.

A kernel connects to a unix socket whose path it is told. On this server the socket is ours (``LocalEnd``); on a VM a process of the
relay's has it (``relay.carrypipe``), at the far end of an SSH channel of its own (``RemoteEnd``). ``Pumps`` passes bytes on in both
directions, on two threads, and counts them. Nothing here knows what they are.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jupyter_core.paths import jupyter_runtime_dir

from .errors import ProtocolError, Unreachable, reason
from .relay.folders import fits
from .relay.listening import same_user

if TYPE_CHECKING:
    from .kernels.bootstrap import RememberedPythons
    from .ssh.connection import SSHConnection

PIECE = 1024 * 1024
PACKET = 32 * 1024
"""OpenSSH takes no larger packet on a channel."""
STEP = 0.25
"""Seconds after which a wait looks whether the end was closed."""
MAX_SAID = 4096
BUFFER = 4 * 1024 * 1024
END_SECONDS = 5.0
"""For the pumps to end, once both ends are closed."""


class End(Protocol):
    name: str
    """Of the machine, for messages."""
    path: str
    """The socket that the kernel there is to connect to."""

    def receive(self) -> bytes:
        """What the kernel says next; empty at its end. Blocks. Raises ``OSError``."""

    def send(self, data: bytes) -> None:
        """To the kernel. Blocks. Raises ``OSError``."""

    def finish(self) -> None:
        """Nothing more is sent to the kernel."""

    def close(self) -> None:
        """Any thread; what blocks ends. May be called again."""


class LocalEnd:
    """A socket for one kernel of this server's user, in a folder that nobody else can enter."""

    def __init__(self, name: str) -> None:
        self.name = name
        base = Path(jupyter_runtime_dir())
        prefix = f"dsvm-carry-{os.getpid()}-"  # kernels.leftovers removes it once that process is no more
        if fits(str(base / f"{prefix}xxxxxxxx")):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = tempfile.mkdtemp(prefix=prefix, dir=base)
        else:
            self._folder = tempfile.mkdtemp(prefix=prefix)
        self.path = os.path.join(self._folder, "v")
        self._listener = socket.socket(socket.AF_UNIX)
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._listener.bind(self.path)
            os.chmod(self.path, 0o600)  # nobody else could have entered the folder before that
            self._listener.listen(1)
            self._listener.setblocking(False)
        except BaseException:
            self.close()
            raise

    def receive(self) -> bytes:
        connection = self._kernel()
        while True:
            if self._closed:
                raise ConnectionAbortedError("closed")
            if select.select([connection], [], [], STEP)[0]:
                return connection.recv(PIECE)

    def send(self, data: bytes) -> None:
        connection, view = self._kernel(), memoryview(data)
        while view:
            if self._closed:
                raise ConnectionAbortedError("closed")
            if select.select([], [connection], [], STEP)[1]:
                view = view[connection.send(view) :]

    def finish(self) -> None:
        with self._lock:
            if self._connection is not None and not self._closed:
                self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for each in (self._connection, self._listener):
                if each is not None:
                    try:
                        each.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
        shutil.rmtree(self._folder, ignore_errors=True)

    def release(self) -> None:
        """Nobody blocks in it any more."""
        self.close()
        self._listener.close()
        if self._connection is not None:
            self._connection.close()

    def _kernel(self) -> socket.socket:
        """Its connection, waited for: one, and of this user."""
        while True:
            with self._lock:
                if self._connection is not None:
                    return self._connection
                if self._closed:
                    raise ConnectionAbortedError("closed")
                try:
                    connection, _ = self._listener.accept()
                except BlockingIOError:
                    connection = None
                if connection is not None and (not hasattr(socket, "SO_PEERCRED") or same_user(connection)):
                    connection.setblocking(False)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                    self._connection = connection
                    return connection
                if connection is not None:
                    connection.close()
            select.select([self._listener], [], [], STEP)


class RemoteEnd:
    """A process on a VM that passes bytes on. Made with a round trip or two; raises ``SSHError`` or ``RelayError``."""

    def __init__(
        self, connection: SSHConnection, pythons: RememberedPythons, *, own: bool, timeout: float = 30.0
    ) -> None:
        """``own``: the connection is for this alone, and closed with it."""
        from .kernels.bootstrap import bootstrap

        self.name = connection.target.name
        self._connection = connection if own else None
        self._closed = False
        self._finished = False
        started = bootstrap(connection, pythons=pythons, timeout=timeout, module="carrypipe")
        self._channel = started.channel
        self._channel.settimeout(STEP)
        self._received = started.received
        try:
            self.path = self._said(time.monotonic() + timeout)
        except BaseException:
            self.close()
            raise

    def _said(self, deadline: float) -> str:
        def read(size: int) -> bytes:
            while len(self._received) < size:
                if time.monotonic() > deadline:
                    raise Unreachable(f"{self.name} did not say where variables can go through.")
                try:
                    data = self._channel.recv(PACKET)
                except TimeoutError:
                    continue
                except OSError as e:
                    raise Unreachable(f"The connection to {self.name} was lost: {reason(e)}.") from e
                if not data:
                    raise Unreachable(f"{self.name} has ended the connection that variables were to go through.")
                self._received += data
            taken, self._received = self._received[:size], self._received[size:]
            return taken

        (size,) = struct.unpack("!I", read(4))
        if size > MAX_SAID:
            raise ProtocolError(f"{self.name} said something that is no path of a socket.")
        try:
            path = json.loads(read(size))["path"]
        except (ValueError, KeyError, TypeError):
            path = None
        # It is told to the kernel on that same machine only.
        if not isinstance(path, str) or not path.startswith("/"):
            raise ProtocolError(f"{self.name} said something that is no path of a socket.")
        return path

    def receive(self) -> bytes:
        if self._received:
            data, self._received = self._received, b""
            return data
        while True:
            if self._closed:
                raise ConnectionAbortedError("closed")
            try:
                data = self._channel.recv(PIECE)
            except TimeoutError:
                continue
            if not data and not self._ended_well():
                raise ConnectionResetError("the connection was lost")
            return data

    def _ended_well(self) -> bool:
        """The process there has ended what it says, rather than the connection what carries it."""
        transport = self._channel.get_transport()
        return bool(self._channel.eof_received) and transport is not None and transport.is_active()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._closed:
                raise ConnectionAbortedError("closed")
            try:
                sent = self._channel.send(view[:PACKET])  # type: ignore[arg-type]
            except TimeoutError:
                continue
            if not sent:
                raise ConnectionResetError("the connection was lost")
            view = view[sent:]

    def finish(self) -> None:
        if not self._closed and not self._finished:
            self._finished = True
            self._channel.shutdown_write()

    def close(self) -> None:
        self._closed = True
        try:
            self._channel.close()
        except (OSError, EOFError):
            pass
        if self._connection is not None:
            self._connection.close()

    release = close


class Pumps:
    """Between the end of the kernel that sends and the one of the kernel that receives. ``close`` ends it all."""

    def __init__(self, old: LocalEnd | RemoteEnd, new: LocalEnd | RemoteEnd) -> None:
        self.moved = 0
        """Bytes, towards the new kernel."""
        self.last = time.monotonic()
        """When something moved, in either direction."""
        self.broken: Unreachable | None = None
        """Which connection was lost, once one was."""
        self._ends = (old, new)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(source, sink, counts), name="jupyter-dsvm-carry", daemon=True)
            for source, sink, counts in ((old, new, True), (new, old, False))
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, source: LocalEnd | RemoteEnd, sink: LocalEnd | RemoteEnd, counts: bool) -> None:
        at: LocalEnd | RemoteEnd = source
        try:
            while True:
                at = source
                data = source.receive()
                if not data:
                    break
                at = sink
                sink.send(data)
                self.last = time.monotonic()
                if counts:
                    self.moved += len(data)
            at = sink
            sink.finish()
        except (OSError, EOFError) as e:
            if isinstance(at, RemoteEnd) and not self._closed:
                self.broken = Unreachable(
                    f"The connection over which variables go was lost: {at.name}: {reason(e)}.", code="ConnectionLost"
                )
            self._hang_up(sink if at is source else source)

    @staticmethod
    def _hang_up(end: LocalEnd | RemoteEnd) -> None:
        """Its kernel is to learn that the other one will hear and say nothing more."""
        end.close()

    def close(self) -> None:
        """Blocks for a moment."""
        self._closed = True
        for end in self._ends:
            end.close()
        for thread in self._threads:
            thread.join(END_SECONDS)
        for end in self._ends:
            end.release()
