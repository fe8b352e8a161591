"""The way to a machine: a TCP relay on loopback that holds everything back for a while, in each direction.

A process of its own (``python -m benchmarks.delay HOST PORT SECONDS``), so that it shares no interpreter with what is measured.
It prints its port. Commands on its stdin, one per line: ``cut SECONDS`` resets every connection and refuses new ones for
so long. It ends with its stdin.

Each direction has a thread that reads and one that writes when the time has come; up to ``BUFFER`` bytes are under way, so
that the delay costs no bandwidth (that is up to the windows of the two ends). Both ends are told at once what closes.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import sys
import threading
import time

CHUNK = 256 * 1024
BUFFER = 64 * 1024 * 1024


class Direction:
    """Bytes from ``source`` to ``sink``, ``delay`` seconds later."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        self._source, self._sink, self._delay = source, sink, delay
        self._under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(BUFFER // CHUNK)
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]
        for thread in self.threads:
            thread.start()

    def _read(self) -> None:
        data = b"-"
        while data:
            try:
                data = self._source.recv(CHUNK)
            except OSError:
                data = b""
            self._under_way.put((time.monotonic() + self._delay, data))

    def _write(self) -> None:
        while True:
            due, data = self._under_way.get()
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            try:
                if data:
                    self._sink.sendall(data)
                    continue
                self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                # Whoever reads there is gone: so is what would still come from here.
                with contextlib.suppress(OSError):
                    self._source.shutdown(socket.SHUT_RDWR)
            if not data:
                return


class DelayedWay:
    def __init__(self, host: str, port: int, delay: float) -> None:
        self._to = (host, port)
        self._delay = delay
        self._sockets: list[socket.socket] = []
        self._refuse_until = 0.0
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self, seconds: float) -> None:
        """Reset all connections, and each new one for ``seconds``."""
        self._refuse_until = time.monotonic() + seconds
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            _reset(sock)

    def close(self) -> None:
        """Reset everything and listen no more; returns once its threads have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut(0)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._refuse_until:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._to)
            except OSError:
                _reset(client)
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
            for one, other in ((client, server), (server, client)):
                self._threads += Direction(one, other, self._delay).threads


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that waits in recv keeps the socket open in the system, so close alone would send nothing.
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def main() -> None:
    host, port, seconds = sys.argv[1:]
    way = DelayedWay(host, int(port), float(seconds))
    print(way.port, flush=True)
    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        if word == "cut":
            way.cut(float(argument))
            print("cut", flush=True)


if __name__ == "__main__":
    main()
