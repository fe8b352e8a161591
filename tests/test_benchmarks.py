"""The benchmarks still run: their harness with small numbers, and what decides what the table says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.contenders import LOCAL, OURS, PEER, local
from benchmarks.delay import DelayedWay
from benchmarks.report import markdown
from benchmarks.rows import Results, Row, at_least, at_most, times_local, times_peer
from benchmarks.server import Server

ROOT = Path(__file__).parent.parent
ABOUT = {
    "date": "2026-01-01 00:00 UTC",
    "cpu": "a CPU",
    "cores": 2,
    "memory_gib": 4.0,
    "system": "Linux",
    "load_average": [0.0, 0.0, 0.0],
    "versions": {"sshpyk": "1.25"},
    "revision": "1234567",
    "repeats": 3,
    "quick": False,
}


@pytest.mark.timeout(300)
def test_a_quick_run(tmp_path: Path) -> None:
    """Of the groups that need least; sshpyk need not be installed."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rows", "imports,queued", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert set(measured) == {"start", "import", "import-ssh", "gap", "gap-far"}
    for row in measured.values():
        assert row["samples"][OURS]["values"], (row, done.stderr)
    assert measured["gap-far"]["samples"][OURS]["values"][0] >= 40  # milliseconds: the way's own
    assert measured["gap"]["samples"][LOCAL]["values"]
    table = (tmp_path / "RESULTS.md").read_text()
    assert table in done.stdout
    assert "importing the extension at server start" in table
    assert "what the extension adds to a server's start" in table


def test_a_server_and_a_page(tmp_path: Path) -> None:
    with Server(local(tmp_path)) as server:
        kernel_id = server.open()
        with server.page(kernel_id) as page:
            text: list[str] = []
            request = page.send("print('said')\n1 / 0")
            reply = page.wait(
                request, lambda kind, content: text.append(json.loads(content)["text"]) if kind == "stream" else None
            )
            assert (reply["status"], "".join(text)) == ("error", "said\n")
            server.busy(0.5)
            assert page.run("pass") > 0
        assert server.kernels() == [kernel_id]


def test_a_target_is_held_against_the_others_of_the_same_run() -> None:
    medians = {LOCAL: 2.0, PEER: 4.0, OURS: 3.0}
    for target, reached in (
        (at_most(3, ""), True),
        (at_most(2.9, ""), False),
        (at_least(3, ""), True),
        (at_least(3.1, ""), False),
        (times_local(1, 0.9, text=""), False),
        (times_local(1, 1, text=""), True),
        (times_peer(0.75, text=""), True),
        (times_peer(0.8, text="", more=True), False),
    ):
        assert target.reached(medians) is reached
    assert times_peer(1, text="").reached({LOCAL: 1.0, OURS: 1.0}) is None
    assert at_most(3, "").reached({LOCAL: 1.0}) is None


def test_the_table_says_what_was_measured_and_why_something_was_not() -> None:
    results = Results()
    results.declare((Row("a", "waiting", "s", times_local(0.5, text="≤ half")), Row("b", "moving", "", None, 0)))
    for value in (0.3, 0.2, 0.4):
        results.add("a", LOCAL, 2 * value)
        results.add("a", OURS, value + 0.1)
    results.fail("a", PEER, "it ended")
    results.add("b", OURS, 7)
    results.note("b", OURS, "two came twice")
    lines = markdown(results, ABOUT).splitlines()
    assert "| waiting | 0.60 s (0.40–0.80) | not available | 0.40 s (0.30–0.50) | 0.67 |  | ≤ half | **no** |" in lines
    assert "| moving |  |  | 7 |  |  |  |  |" in lines
    assert "- waiting, sshpyk: not available: it ended" in lines
    assert "- moving, ours: two came twice" in lines


def test_the_way_adds_its_delay_and_loses_nothing() -> None:
    data = bytes(range(256)) * 40_000  # more than a socket's own buffers hold
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        way = DelayedWay("127.0.0.1", listener.getsockname()[1], 0.05)
        with socket.create_connection(("127.0.0.1", way.port)) as client:
            server, _ = listener.accept()
            with server:
                sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
                begun = time.monotonic()
                sender.start()
                received = bytearray(server.recv(1))
                assert time.monotonic() - begun >= 0.05
                while more := server.recv(1024 * 1024):
                    received += more
                sender.join()
                assert received == data
                server.sendall(b"back")
                assert client.recv(10) == b"back"
        way.close()


def test_a_way_that_is_cut_refuses_for_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way = DelayedWay("127.0.0.1", listener.getsockname()[1], 0)
        with socket.create_connection(("127.0.0.1", way.port)) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x")
                assert server.recv(1) == b"x"
                way.cut(1.0)
                assert ended(client)
                assert ended(server)
        with socket.create_connection(("127.0.0.1", way.port)) as refused:
            assert ended(refused)
        time.sleep(1.0)
        with socket.create_connection(("127.0.0.1", way.port)) as client:
            client.sendall(b"y")
            server, _ = listener.accept()
            with server:
                assert server.recv(1) == b"y"
        way.close()


def ended(sock: socket.socket) -> bool:
    sock.settimeout(10)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
