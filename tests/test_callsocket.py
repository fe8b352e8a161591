"""The socket of ``%dsvm``: one line in, lines out, hanging up cancels, and nobody else gets in."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.kernels import callsocket
from jupyter_dsvm.kernels.callsocket import MAX_CONNECTIONS, MAX_REQUEST, CallSocket, Connection
from jupyter_dsvm.kernels.iothread import IOThread


class Server:
    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[Connection, dict[str, Any]]] = []
        self.arrived = threading.Semaphore(0)
        self.hung_up = threading.Event()
        self.io = IOThread.acquire()
        self.socket = self.io.call(CallSocket, self.io, folder / "call", self._asked).result(5)

    def _asked(self, connection: Connection, request: dict[str, Any]) -> None:
        connection.on_hang_up = self.hung_up.set
        self.requests.append((connection, request))
        self.arrived.release()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(str(self.socket.path))
        return client

    def ask(self, line: bytes = b'{"line": "list"}\n') -> tuple[socket.socket, Connection]:
        client = self.connect()
        client.sendall(line)
        assert self.arrived.acquire(timeout=5)
        return client, self.requests[-1][0]

    def close(self) -> None:
        self.io.call(self.socket.close).result(5)
        IOThread.release()


@pytest.fixture
def server(jupyter_folders: Path) -> Iterator[Server]:
    folder = jupyter_folders / "calls"
    folder.mkdir(mode=0o700, exist_ok=True)
    opened = Server(folder)
    yield opened
    opened.close()
    assert not opened.socket.path.exists()


def test_one_line_is_one_call_with_progress_and_one_answer(server: Server) -> None:
    assert stat.S_IMODE(os.stat(server.socket.path).st_mode) == 0o600
    client, connection = server.ask(b'{"line": "attach x", "version": 1}\n')
    assert server.requests[0][1] == {"line": "attach x", "version": 1}
    for value in ({"progress": {"text": "…"}}, {"progress": {"text": "2"}}, {"result": {"text": "done"}}):
        connection.answer(value)
    with client, client.makefile("rb") as lines:
        assert [next(iter(json.loads(line))) for line in lines] == ["progress", "progress", "result"]
    assert not server.hung_up.is_set(), "an answered call is not one that was given up"


def test_a_line_may_come_in_pieces_and_what_follows_it_is_ignored(server: Server) -> None:
    with server.connect() as client:
        for piece in (b'{"li', b'ne": "x"', b"}\n", b'{"line": "another"}\n'):
            client.sendall(piece)
            time.sleep(0.01)
        assert server.arrived.acquire(timeout=5)
        server.io.call(lambda: None).result(5)
        assert [request for _c, request in server.requests] == [{"line": "x"}]


def test_hanging_up_cancels(server: Server) -> None:
    client, connection = server.ask()
    client.close()
    assert server.hung_up.wait(5)
    connection.answer({"result": {}})  # nobody is there; no harm
    assert server.io.call(lambda: server.socket.connections).result(5) == set()


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b"[" * 30_000 + b"\n", b"\xff\n", b"x" * (MAX_REQUEST + 1)])
def test_what_is_no_request_is_hung_up_on(server: Server, line: bytes) -> None:
    with server.connect() as client:
        try:
            client.sendall(line)
            assert client.recv(1) == b""
        except ConnectionError:
            pass  # it was hung up on before all of it was sent
    assert server.requests == []


def test_a_slow_reader_gets_all_of_a_long_answer(server: Server) -> None:
    client, connection = server.ask()
    text = "x" * 5_000_000
    connection.answer({"result": {"text": text}})
    time.sleep(0.1)
    with client, client.makefile("rb") as lines:
        assert json.loads(lines.readline())["result"]["text"] == text


def test_there_is_an_end_to_connections(server: Server) -> None:
    clients = [server.connect() for _ in range(MAX_CONNECTIONS)]
    with server.connect() as one_more:
        assert one_more.recv(1) == b""
    for client in clients:
        client.close()
    deadline = time.monotonic() + 5
    while server.io.call(lambda: len(server.socket.connections)).result(5) and time.monotonic() < deadline:
        time.sleep(0.01)
    client, connection = server.ask()
    connection.answer({"result": {}})
    client.close()


def test_another_user_is_hung_up_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with server.connect() as theirs:
        assert theirs.recv(1) == b""
    monkeypatch.undo()
    client, connection = server.ask()
    connection.answer({"result": {}})
    client.close()


def test_where_the_peer_cannot_be_known_the_folder_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    a, b = socket.socketpair()
    with a, b:
        assert callsocket.peer_is_this_user(a)
