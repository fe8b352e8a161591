"""What can befall the way to a machine, each with its own outcome and its own words.

The machine has a real SSH server, in a network of its own where the test runs as root (packets can then be swallowed
without a word), else behind a TCP proxy. Where it is asserted how soon something is seen or over, the times are the
product's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.errors import AuthenticationError, DSVMError, HostKeyError, SignInRequired, Throttled, Unreachable
from jupyter_dsvm.kernels.vmpipe import Phase, PipeTimes, VMPipe
from jupyter_dsvm.models import LinkPhase, SSHTarget
from jupyter_dsvm.ssh.connection import CROWDED
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support import netns
from support.linked import QUICK, Kernel, forget_everything, open_pipe, piped
from support.sshd import FlakyTCP, SSHServer, fill, free_port, generate_key, small_disk, sshd

NORMAL = PipeTimes()
NOTICED = 9.0
"""Seconds within which a dead link is seen; it is to be under five, and machines that run tests are slow."""
RESUMED = 9.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    with sshd(tmp_path / "vm") as server:
        yield server


@contextlib.contextmanager
def silence(way: netns.Network | FlakyTCP) -> Iterator[None]:
    """Nothing passes any more, and nobody is told."""
    if isinstance(way, FlakyTCP):
        way.stall = True
        yield
        way.cut()
        way.stall = False
    else:
        way.swallow()
        yield
        way.heal()


def seconds_until(kernel: Kernel, state: LinkPhase, at_most: float) -> float:
    start = time.monotonic()
    kernel.until(lambda: kernel.phase is state, at_most)
    return time.monotonic() - start


@pytest.fixture
def way_to_vm(tmp_path: Path) -> Iterator[tuple[SSHServer, netns.Network | FlakyTCP]]:
    if netns.possible():
        with netns.network() as net, sshd(tmp_path / "vm", network=net) as server:
            yield server, net
    else:
        with sshd(tmp_path / "vm") as server, FlakyTCP(server.host, server.port) as way:
            yield server, way


def test_packets_are_swallowed(way_to_vm: tuple[SSHServer, netns.Network | FlakyTCP]) -> None:
    server, way = way_to_vm
    port = way.port if isinstance(way, FlakyTCP) else None
    with piped(server, port, times=NORMAL) as pipe:
        kernel = Kernel(pipe).ready()
        request = kernel.execute("import time\nfor i in range(100): print(i, flush=True); time.sleep(0.05)")
        kernel.next("stream", request)
        with silence(way):
            assert seconds_until(kernel, LinkPhase.RECONNECTING, NOTICED) < NOTICED
            assert "has not answered for" in kernel.reason
            lost_at = kernel.links[-1].since
            kernel.until(lambda: kernel.links[-1].attempt >= 2, 20)
            assert kernel.links[-1].since == lost_at, "since when it is out of reach, not since the latest try"
        assert seconds_until(kernel, LinkPhase.CONNECTED, RESUMED) < RESUMED
        kernel.next("execute_reply", request)
        kernel.end()
    forget_everything(server)


def test_a_short_cut_is_over_at_once(server: SSHServer) -> None:
    with FlakyTCP(server.host, server.port) as way, piped(server, way.port, times=NORMAL) as pipe:
        kernel = Kernel(pipe).ready()
        time.sleep(0.2)
        way.cut()
        start = time.monotonic()
        kernel.until(lambda: LinkPhase.RECONNECTING in {s.state for s in kernel.links}, 5)
        assert seconds_until(kernel, LinkPhase.CONNECTED, 5) < 5
        assert time.monotonic() - start < 5
        kernel.end()
    forget_everything(server)


def test_a_cut_in_the_middle_of_a_frame(server: SSHServer) -> None:
    with FlakyTCP(server.host, server.port, cut_every=(400_001, 400_001)) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        for n in range(3):
            text = kernel.output(f"print('{n}' * 350_000)")
            assert text == str(n) * 350_000 + "\n"
        assert way.cuts >= 2
        kernel.end()
    forget_everything(server)


def test_sshd_is_stopped_and_goes_on(server: SSHServer) -> None:
    with piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        with server.stopped():
            kernel.until(lambda: kernel.phase is LinkPhase.RECONNECTING)
            kernel.until(lambda: "says nothing" in kernel.reason)
        kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
        assert kernel.output("print(1)") == "1\n"
        kernel.end()
    forget_everything(server)


def test_this_process_is_stopped_as_when_a_laptop_sleeps(server: SSHServer) -> None:
    """The connection still stands afterwards: what has arrived meanwhile is read, and nothing is taken for dead."""
    seconds = 60
    lines = 20 * (seconds + 4)
    truth = server.home / "truth"
    code = (
        f"import time\nwith open({str(truth)!r}, 'w') as f:\n for i in range({lines}):\n"
        "  print(i, flush=True); print(i, file=f, flush=True); time.sleep(0.05)"
    )
    target = dataclasses.asdict(server.target(python=sys.executable))
    pins = server.folder / "pins"
    HostKeys(pins, []).pin(target["pinned_key_id"], server.host_key_line)
    client = subprocess.Popen(
        [sys.executable, "-m", "support.lone_client"],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    try:
        client.stdin.write(json.dumps({"target": target, "pins": str(pins), "code": code}) + "\n")
        client.stdin.flush()
        events = []
        while not any("text" in event for event in events):
            events.append(json.loads(client.stdout.readline()))
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(client.pid, signal.SIGCONT)
        while "over" not in events[-1]:
            events.append(json.loads(client.stdout.readline()))
        assert client.wait(30) == 0
    finally:
        client.kill()
        client.wait()
        client.stdin.close()
        client.stdout.close()
    assert [e["link"] for e in events if "link" in e] == ["connecting", "connected"]
    assert "".join(e.get("text", "") for e in events) == truth.read_text()
    assert len(truth.read_text().split()) == lines
    forget_everything(server)


def test_another_address_after_a_restart(tmp_path: Path) -> None:
    if not netns.possible():
        pytest.skip("a second address needs root")
    with netns.network() as net, sshd(tmp_path / "vm", network=net) as server:
        keys = HostKeys(tmp_path / "pins", [])
        keys.pin(server.target().pinned_key_id or "", server.host_key_line)
        pipe = VMPipe.open(lambda: server.target(python=sys.executable), keys, times=QUICK)
        try:
            kernel = Kernel(pipe).ready()
            first = server.host
            server.stop_listening()
            net.renumber()
            server.port = free_port()
            kernel.until(lambda: kernel.phase is LinkPhase.RECONNECTING)
            server.start()
            assert server.host != first
            kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
            assert kernel.output("print('here')") == "here\n"
            kernel.end()
        finally:
            pipe.release()
            pipe.close()
        forget_everything(server)


def test_another_host_key_is_final_and_says_what_to_do(server: SSHServer, tmp_path: Path) -> None:
    with sshd(tmp_path / "other") as other, FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        way.to = (other.host, other.port)
        way.cut()
        kernel.until(lambda: kernel.error is not None)
        error = kernel.error
        assert isinstance(error, HostKeyError)
        assert error.code == "HostKeyChanged"
        assert error.message.count("SHA256:") == 2
        assert str(server.folder / "pins") in error.advice
        assert kernel.phase is LinkPhase.GONE
        assert kernel.reason == error.message
        assert not pipe.usable


def test_a_refused_key_after_a_loss_is_final_only_when_it_stays_refused(server: SSHServer) -> None:
    allowed = server.folder / "authorized_keys"
    line = allowed.read_text()
    with FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        allowed.write_text("")
        way.cut()
        kernel.until(lambda: "does not let" in kernel.reason)
        allowed.write_text(line)
        kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
        allowed.write_text("")
        way.cut()
        kernel.until(lambda: kernel.error is not None)
        assert isinstance(kernel.error, AuthenticationError)
        assert "authorized_keys" in kernel.error.advice
        assert server.processes(), "the kernel runs on there"


def test_something_that_accepts_and_says_nothing(server: SSHServer) -> None:
    times = dataclasses.replace(QUICK, reconnect=0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        FlakyTCP(server.host, server.port) as way,
        piped(server, way.port, times=times) as pipe,
    ):
        kernel = Kernel(pipe).ready()
        way.to = mute.getsockname()
        way.cut()
        kernel.until(lambda: "says nothing" in kernel.reason)
        way.to = (server.host, server.port)
        kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
        kernel.end()
    forget_everything(server)


def test_sshd_takes_no_further_connections(tmp_path: Path) -> None:
    with sshd(tmp_path / "vm", "MaxStartups 1", "LoginGraceTime 60") as server:
        with FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
            kernel = Kernel(pipe).ready()
            # A connection that signs in never takes the only place.
            with socket.create_connection((server.host, server.port)) as idle:
                assert idle.recv(8).startswith(b"SSH-")
                way.cut()
                kernel.until(lambda: "MaxStartups" in kernel.reason)
                assert "no further connections" in kernel.reason
                # Who waits for a first connect waits for that, too.
                threading.Timer(1.0, idle.shutdown, [socket.SHUT_RDWR]).start()
                with piped(server) as second:
                    assert second.phase is Phase.UP
            kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
            kernel.end()
        forget_everything(server)


def test_a_first_connect_waits_for_a_crowded_machine(server: SSHServer) -> None:
    """Its sshd greets, and has no time for more."""
    said: list[float] = []
    times = dataclasses.replace(QUICK, connect=0.5, crowd=1.5)
    with greeting() as slow, FlakyTCP(server.host, server.port) as way:
        way.to = slow
        with pytest.raises(Unreachable, match=r"sshd on .* is slow: no key exchange within") as caught:
            open_pipe(server, way.port, times=times, crowded=lambda: said.append(time.monotonic()))
        assert caught.value.code in CROWDED
        assert len(said) >= 2
        said.clear()

        def passes_by() -> None:
            said.append(time.monotonic())
            way.to = (server.host, server.port)

        times = dataclasses.replace(QUICK, connect=2.0, crowd=30.0)
        with piped(server, way.port, times=times, crowded=passes_by) as pipe:
            assert pipe.phase is Phase.UP
            assert said
            Kernel(pipe).ready().end()
    forget_everything(server)


@contextlib.contextmanager
def greeting() -> Iterator[tuple[str, int]]:
    """Where one says what an SSH server says first, and nothing more."""

    def greet() -> None:
        with contextlib.ExitStack() as kept:
            while not ended.is_set():
                connection = kept.enter_context(listener.accept()[0])
                with contextlib.suppress(OSError):  # who has hung up already
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            ended.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def test_a_patient_pipe_waits_for_what_heals(server: SSHServer) -> None:
    keys = HostKeys(server.folder / "pins", [])
    keys.pin(server.target().pinned_key_id or "", server.host_key_line)
    errors: list[DSVMError] = [
        Unreachable("Azure cannot be reached."),
        Throttled("Azure asks for time.", retry_after=0.1),
        SignInRequired("Nobody is signed in."),
    ]

    def target() -> SSHTarget:
        if errors:
            raise errors.pop(0)
        return server.target(python=sys.executable)

    begin = threading.Event()

    def source() -> SSHTarget:
        begin.wait(10)
        return target()

    pipe = VMPipe.open(source, keys, times=QUICK, patient=True, name="my vm")
    try:
        assert pipe.usable
        assert pipe.name == "my vm"
        kernel = Kernel(pipe)
        begin.set()
        kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
        told = [(s.state, s.reason) for s in kernel.links]
        for reason in ("Azure cannot be reached.", "Azure asks for time.", "Nobody is signed in."):
            assert (LinkPhase.RECONNECTING, reason) in told
        assert kernel.ready().output("print(1)") == "1\n"
        kernel.end()
    finally:
        pipe.release()
        pipe.close()
    forget_everything(server)


def test_a_patient_pipe_gives_up_where_nothing_heals(server: SSHServer, tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "pins", [])
    keys.pin(server.target().pinned_key_id or "", generate_key(tmp_path / "another"))
    pipe = VMPipe.open(server.target, keys, times=QUICK, patient=True)
    try:
        deadline = time.monotonic() + 10
        while pipe.phase is Phase.LOST:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(HostKeyError):
            Kernel(pipe)
    finally:
        pipe.release()
        pipe.close()


def test_whoever_needs_it_need_not_wait_for_the_next_try(server: SSHServer) -> None:
    times = dataclasses.replace(NORMAL, first_wait=60.0, longest_wait=60.0)
    with FlakyTCP(server.host, server.port) as way, piped(server, way.port, times=times) as pipe:
        kernel = Kernel(pipe).ready()
        way.refuse = True
        way.cut()
        kernel.until(lambda: kernel.links[-1].attempt >= 2)
        way.refuse = False
        time.sleep(0.5)
        assert kernel.phase is LinkPhase.RECONNECTING
        with contextlib.suppress(DSVMError):
            pipe.call("info").result(5)
        assert seconds_until(kernel, LinkPhase.CONNECTED, RESUMED) < RESUMED
        kernel.end()
    forget_everything(server)


def test_opening_does_not_wait_for_a_machine_that_swallows(tmp_path: Path) -> None:
    if not netns.possible():
        pytest.skip("a network namespace needs root")
    with (
        netns.network() as net,
        sshd(tmp_path / "vm", network=net) as server,
        silence(net),
        pytest.raises(Unreachable, match="does not answer"),
    ):
        open_pipe(server, times=dataclasses.replace(QUICK, connect=2.0))


def test_the_disk_fills_up_while_nothing_passes(server: SSHServer) -> None:
    """What is said meanwhile is kept in memory; beyond that the cell says how much was left out. Nothing is lost in silence."""
    with small_disk(server.home, 20_000), FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        fill(server.home / "full")
        said = server.folder / "said"
        request = kernel.execute(
            "import time\nfor i in range(120): print(f'{i} ' + 'x' * 1_000_000, flush=True); time.sleep(0.02)\n"
            f"open({str(said)!r}, 'w').write('all')"
        )
        text, left_out = kernel.next("stream", request)["content"]["text"], ""
        way.refuse = True
        way.cut()
        kernel.until(said.exists, 60)
        assert kernel.phase is LinkPhase.RECONNECTING
        way.refuse = False
        while True:
            _, message = kernel.got.get(timeout=60)
            if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == request:
                if message["content"]["name"] == "stderr":
                    left_out += message["content"]["text"]
                else:
                    text += message["content"]["text"]
            elif message["content"].get("execution_state") == "idle":
                break
        lines = [int(line.split()[0]) for line in text.splitlines() if line[:1].isdigit()]
        assert lines == sorted(set(lines)), "in order, and none twice"
        assert len(lines) == 120 or "left out" in left_out, (len(lines), left_out)
        kernel.end()
    forget_everything(server)


def test_there_is_no_room_for_a_kernel(server: SSHServer) -> None:
    with small_disk(server.home, 2000):
        with piped(server) as pipe:
            fill(server.home / "full")
            kernel = Kernel(pipe)
            kernel.until(lambda: kernel.error is not None or kernel.exits, 30)
            text = str(kernel.error) + "".join(text for _, text in kernel.exits)
            assert "No space left on device" in text
            kernel.io.call_soon(kernel.backend.end)
            kernel.until(lambda: kernel.backend.over)
        forget_everything(server)
