"""The VM's end of a pipe that variables go through: one process, one SSH channel, one kernel.

The loader calls ``carrypipe.main()``. It listens on a unix socket of this account's, says where (a u32 length and JSON
``{"path": …}``), and passes on what comes: bytes from the kernel that connects to stdout, bytes from stdin to the kernel. What they
are is the kernels' affair. It ends when the kernel has said all, when its stdin ends before a kernel came, or when nothing has
moved for long.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import struct
import sys
import threading
import time
from typing import List

from .folders import beside_kernels, private_folder
from .listening import listen, same_user
from .marks import PIPE_MARK, mark

PIECE = 1024 * 1024
CONNECT_SECONDS = 600.0
"""For the kernel to connect: it may be importing what it needs for that."""
STALLED_SECONDS = 900.0
"""With nothing moved in either direction: nobody is there any more, or nobody will ever read."""
LOOK_SECONDS = 5.0

F_SETPIPE_SZ = 1031


class Pump(threading.Thread):
    """One direction. ``moved`` is when it last passed something on."""

    def __init__(self, source: int, sink: int, at_end: socket.socket, wakes: int) -> None:
        super().__init__(daemon=True)
        self.moved = time.monotonic()
        self._source, self._sink = source, sink
        self._at_end = at_end
        self._wakes = wakes

    def run(self) -> None:
        try:
            while True:
                data = os.read(self._source, PIECE)
                self.moved = time.monotonic()
                if not data:
                    break
                view = memoryview(data)
                while view:
                    view = view[os.write(self._sink, view) :]
                    self.moved = time.monotonic()
        except OSError:
            self._hang_up(socket.SHUT_RDWR)  # one end is gone: then so is the other
        else:
            if self._sink == self._at_end.fileno():
                self._hang_up(socket.SHUT_WR)
        finally:
            os.write(self._wakes, b"-")

    def _hang_up(self, how: int) -> None:
        try:
            self._at_end.shutdown(how)
        except OSError:
            pass


def accepted(listener: socket.socket, stdin_fd: int) -> socket.socket:
    """The kernel's connection. Raises ``OSError`` where none comes, or the other end of stdin is gone."""
    deadline = time.monotonic() + CONNECT_SECONDS
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(stdin_fd, select.POLLHUP)
    while time.monotonic() < deadline:
        for fd, events in poll.poll(LOOK_SECONDS * 1000):
            if fd == listener.fileno():
                connection, _ = listener.accept()
                if same_user(connection):
                    connection.setblocking(True)
                    return connection
                connection.close()
            elif events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                raise ConnectionAbortedError("nobody waits for the kernel any more")
    raise TimeoutError("no kernel came")


def serve(listener: socket.socket, stdin_fd: int, stdout_fd: int) -> None:
    with listener:
        connection = accepted(listener, stdin_fd)
    woken, wakes = os.pipe()
    with connection:
        out = Pump(connection.fileno(), stdout_fd, connection, wakes)
        into = Pump(stdin_fd, connection.fileno(), connection, wakes)
        pumps: List[Pump] = [out, into]
        for each in pumps:
            each.start()
        # What the kernel has said is all there is to wait for: stdin may stay open for ever behind it.
        while out.is_alive() and time.monotonic() - max(p.moved for p in pumps) < STALLED_SECONDS:
            select.select([woken], [], [], LOOK_SECONDS)
            if not into.is_alive():
                out.join(LOOK_SECONDS)


def main(stdin_fd: int = 0, stdout_fd: int = 1) -> None:
    """Called by the loader, when what stands on stdin from here on is bytes for the kernel."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    mark(PIPE_MARK)
    for fd in (stdin_fd, stdout_fd):
        try:
            import fcntl

            fcntl.fcntl(fd, F_SETPIPE_SZ, PIECE)
        except OSError:
            pass  # it is a socket, or not Linux
    folder = private_folder(beside_kernels("carry"))
    path = os.path.join(folder, secrets.token_hex(4))
    listener = listen(path)
    try:
        said = json.dumps({"path": path}).encode()
        os.write(stdout_fd, struct.pack("!I", len(said)) + said)
        serve(listener, stdin_fd, stdout_fd)
    except OSError as e:
        print(e, file=sys.stderr)  # noqa: T201  # becomes part of the error that the user reads
    finally:
        os.unlink(path)
    os._exit(0)  # a thread may still be in a read of stdin
