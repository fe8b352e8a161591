"""Kernels on a VM: a real OpenSSH server, the real relay, a real ipykernel, and a way there that fails when told to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.errors import (
    BootstrapError,
    Cancelled,
    ComputeNotRunning,
    ConfigurationError,
    DSVMError,
    HostKeyError,
    ProtocolError,
    RelayError,
    Unreachable,
)
from jupyter_dsvm.kernels import bootstrap
from jupyter_dsvm.kernels.iothread import IOThread
from jupyter_dsvm.kernels.vmpipe import Phase, VMPipe
from jupyter_dsvm.models import LinkPhase
from jupyter_dsvm.relay.wire import Channel
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support.linked import Kernel, forget_everything, open_pipe, piped
from support.sshd import FlakyTCP, SSHServer, sshd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    with sshd(tmp_path / "vm") as server:
        yield server


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    threads, fds = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - threads) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
    assert len(os.listdir("/proc/self/fd")) <= fds
    assert IOThread._shared is None


def test_what_the_machine_says_of_itself(server: SSHServer) -> None:
    with piped(server) as pipe:
        about = pipe.info()
        assert about["home"] == str(server.home)
        assert pipe.python == sys.executable
        assert "python3" in {spec["name"] for spec in pipe.kernelspecs()}
        assert pipe.kernels() == []
        with pytest.raises(RelayError, match="could not answer"):
            pipe.call("nonsense").result(10)
    forget_everything(server)


def test_a_known_list_of_kernelspecs_serves_and_is_brought_up_to_date(server: SSHServer) -> None:
    def names(known: bool) -> set[str]:
        return {spec["name"] for spec in pipe.kernelspecs(known=known)}

    with piped(server) as pipe:
        assert "mine" not in names(known=True)  # nothing is known yet, so it asks
        folder = server.home / ".local" / "share" / "jupyter" / "kernels" / "mine"
        folder.mkdir(parents=True)
        spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
        (folder / "kernel.json").write_text(json.dumps({**spec, "display_name": "Mine"}))
        assert "mine" not in names(known=True)
        deadline = time.monotonic() + 30
        while "mine" not in names(known=True) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "mine" in names(known=True)
        assert "mine" in names(known=False)
    forget_everything(server)


def test_a_kernel_lives_there(server: SSHServer) -> None:
    with piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        assert [s.state for s in kernel.links] == [LinkPhase.CONNECTING, LinkPhase.CONNECTED]
        assert kernel.output("import os; print(os.environ['HOME'])").strip() == str(server.home)

        request = kernel.execute("print(input('name? ') * 2)", stdin=True)
        asked = kernel.next("input_request")
        kernel.send(Channel.STDIN, "input_reply", {"value": "ab"}, parent=asked)
        assert kernel.next("stream", request)["content"]["text"] == "abab\n"
        kernel.next("execute_reply", request)

        request = kernel.execute("import time\nprint('running', flush=True)\ntime.sleep(60)")
        kernel.next("stream", request)
        kernel.io.call_soon(kernel.backend.signal, signal.SIGINT)
        assert kernel.next("error", request, 5)["content"]["ename"] == "KeyboardInterrupt"

        kernel.output("x = 1")
        kernel.io.call_soon(kernel.backend.restart)
        kernel.until(lambda: kernel.starts == 2)
        kernel.starts = 1
        kernel.ready()
        assert kernel.output("print('x' in globals())") == "False\n"

        start = time.monotonic()
        text = kernel.output("for i in range(20): print(chr(97 + i) * 1_000_000)")
        assert text == "".join(chr(97 + i) * 1_000_000 + "\n" for i in range(20))
        assert time.monotonic() - start < 20

        request = kernel.execute(
            "from IPython.display import display\ndisplay({'text/plain': 'y' * 20_000_000}, raw=True)"
        )
        assert len(kernel.next("display_data", request)["content"]["data"]["text/plain"]) == 20_000_000
        assert [k["id"] for k in pipe.kernels()] == [kernel.id]

        kernel.end()
        assert kernel.exits == [(kernel.exits[0][0], "")]
        assert kernel.error is None
        forget_everything_but_the_pipe(server)
    forget_everything(server)


def forget_everything_but_the_pipe(server: SSHServer) -> None:
    deadline = time.monotonic() + 10
    while any("connection.json" in line for line in server.processes().values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any("connection.json" in line for line in server.processes().values())


def test_two_kernels_share_a_pipe_and_one_does_not_hold_up_the_other(server: SSHServer) -> None:
    with piped(server) as pipe:
        flood, other = Kernel(pipe).ready(), Kernel(pipe).ready()
        request = flood.execute("for i in range(300): print('z' * 200_000)")
        flood.next("stream", request)
        slowest = 0.0
        for _ in range(10):
            start = time.monotonic()
            assert other.output("print(1)") == "1\n"
            slowest = max(slowest, time.monotonic() - start)
        assert slowest < 2
        flood.end()
        assert other.output("print(2)") == "2\n", "the other kernel's end is not this one's"
        other.end()
    forget_everything(server)


def test_close_leaves_the_kernel_running(server: SSHServer) -> None:
    with piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        pid = int(kernel.output("import os; print(os.getpid())"))
        kernel.io.call(kernel.backend.close).result(5)
    time.sleep(0.5)
    assert "connection.json" in server.processes()[pid]
    with piped(server) as pipe:
        assert [k["id"] for k in pipe.kernels()] == [kernel.id]
    os.kill(next(p for p, line in server.processes().items() if p != pid), signal.SIGTERM)
    forget_everything(server)


def test_a_kernel_that_cannot_be_started(server: SSHServer) -> None:
    with piped(server) as pipe:
        kernel = Kernel(pipe, argv=[sys.executable, "-c", "print('\\x1b no licence'); raise SystemExit(4)"])
        kernel.until(lambda: kernel.exits)
        assert kernel.exits[0][0] == 4
        assert "no licence" in kernel.exits[0][1]
        assert "\x1b" not in kernel.exits[0][1]
        kernel.end()
        assert len(kernel.exits) == 1
        with pytest.raises(ConfigurationError, match="argv"):
            Kernel(pipe, argv=[])
    forget_everything(server)


NUMBERS = "import time\nfor i in range({n}):\n    print(i, flush=True)\n    time.sleep({pause})"


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.split()]


def test_a_cut_in_the_middle_of_output_loses_and_repeats_nothing(server: SSHServer) -> None:
    with FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        cutter = threading.Timer(0.6, way.cut)
        cutter.start()
        assert numbers(kernel.output(NUMBERS.format(n=300, pause=0.005))) == list(range(300))
        cutter.join()
        assert way.cuts == 1
        assert LinkPhase.RECONNECTING in {s.state for s in kernel.links}
        assert kernel.links[-1].state is LinkPhase.CONNECTED
        kernel.end()
    forget_everything(server)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_cuts_under_heavy_output(server: SSHServer, seed: int) -> None:
    # After every 1 to 4 MB of 12 MB, each way with 5 ms of delay: cuts fall into the middle of frames and of messages.
    with (
        FlakyTCP(server.host, server.port, delay=0.005, cut_every=(1_000_000, 4_000_000), seed=seed) as way,
        piped(server, way.port) as pipe,
    ):
        kernel = Kernel(pipe).ready()
        text = kernel.output("for i in range(24): print(f'{i:03}' + 'x' * 500_000)", 60)
        assert [line[:3] for line in text.splitlines()] == [f"{i:03}" for i in range(24)]
        assert {len(line) for line in text.splitlines()} == {500_003}
        assert way.cuts >= 2
        kernel.end()
    forget_everything(server)


def test_a_stall_is_noticed_by_the_missing_answer(server: SSHServer) -> None:
    with FlakyTCP(server.host, server.port) as way, piped(server, way.port) as pipe:
        kernel = Kernel(pipe).ready()
        way.stall = True
        start = time.monotonic()
        kernel.until(lambda: kernel.links[-1].state is LinkPhase.RECONNECTING, 10)
        assert time.monotonic() - start < 5
        assert "has not answered" in kernel.links[-1].reason
        # What is asked meanwhile waits; an interrupt does not.
        request = kernel.execute("print('waited')")
        kernel.io.call_soon(kernel.backend.signal, signal.SIGINT)
        kernel.send(Channel.CONTROL, "interrupt_request", {})
        way.cut()
        way.stall = False
        assert kernel.next("stream", request)["content"]["text"] == "waited\n"
        kernel.end()
    forget_everything(server)


def test_close_while_out_of_reach_is_quick(server: SSHServer) -> None:
    with FlakyTCP(server.host, server.port) as way:
        pipe = open_pipe(server, way.port)
        kernel = Kernel(pipe).ready()
        pid = int(kernel.output("import os; print(os.getppid())"))
        way.stall = True
        kernel.until(lambda: kernel.links[-1].state is LinkPhase.RECONNECTING, 10)
        start = time.monotonic()
        kernel.io.call(kernel.backend.close).result(5)
        pipe.release()
        pipe._thread.join(5)
        assert time.monotonic() - start < 3
        assert pipe.phase is Phase.CLOSED
    os.kill(pid, signal.SIGTERM)
    forget_everything(server)


def test_the_machine_dies_then_is_known_to_be_off(tmp_path: Path) -> None:
    off = threading.Event()

    def is_gone() -> DSVMError | None:
        return ComputeNotRunning("vm is deallocated.", advice="Start it.") if off.is_set() else None

    with sshd(tmp_path / "vm") as server, piped(server, is_gone=is_gone) as pipe:
        kernel = Kernel(pipe).ready()
        server.kill()
        kernel.until(lambda: kernel.links[-1].state is LinkPhase.RECONNECTING)
        kernel.until(lambda: kernel.links[-1].attempt >= 3)
        assert "refuses connections" in kernel.links[-1].reason
        assert kernel.error is None, "out of reach is not gone"
        with pytest.raises(Unreachable):
            pipe.info()
        off.set()
        kernel.until(lambda: kernel.error is not None)
        assert isinstance(kernel.error, ComputeNotRunning)
        assert kernel.links[-1].state is LinkPhase.GONE
        with pytest.raises(ComputeNotRunning):
            Kernel(pipe)


def test_the_machine_reboots_without_its_kernels(tmp_path: Path) -> None:
    with sshd(tmp_path / "vm") as server, piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        server.kill()
        server.start()
        kernel.until(lambda: kernel.error is not None)
        assert isinstance(kernel.error, RelayError)
        assert kernel.error.code == "KernelGone"
        again = Kernel(pipe).ready()
        assert again.output("print(3)") == "3\n"
        again.end()


def test_sshd_alone_dies_and_the_kernel_is_found_again(tmp_path: Path) -> None:
    with sshd(tmp_path / "vm") as server, piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        request = kernel.execute("import time\ntime.sleep(1)\nprint('meanwhile')")
        server.stop_listening()
        time.sleep(1.2)
        server.start()
        assert kernel.next("stream", request)["content"]["text"] == "meanwhile\n"
        kernel.end()
        assert kernel.exits


def test_another_host_key_after_a_loss_is_final(tmp_path: Path) -> None:
    with (
        sshd(tmp_path / "vm") as server,
        sshd(tmp_path / "other") as other,
        FlakyTCP(server.host, server.port) as way,
        piped(server, way.port) as pipe,
    ):
        kernel = Kernel(pipe).ready()
        way.to = (other.host, other.port)
        way.cut()
        kernel.until(lambda: kernel.error is not None)
        assert isinstance(kernel.error, HostKeyError)
        assert kernel.error.code == "HostKeyChanged"


def test_opening_fails_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sshd(tmp_path / "vm") as server:
        with pytest.raises(HostKeyError):
            VMPipe.open(server.target, HostKeys(tmp_path / "none", []))
        monkeypatch.setattr(bootstrap, "PLACES", "")
        bootstrap.command.cache_clear()
        try:
            (server.home / ".bash_profile").write_text("PATH=\n")
            (server.home / ".bashrc").write_text("PATH=/bin:/usr/bin\n")
            host_keys = HostKeys(server.folder / "pins", [])
            host_keys.pin(server.target().pinned_key_id or "", server.host_key_line)
            with pytest.raises(BootstrapError, match=r"no Python 3\.8 or newer"):
                VMPipe.open(server.target, host_keys)
        finally:
            bootstrap.command.cache_clear()

        def source() -> Any:
            raise ComputeNotRunning("vm is stopped.")

        with pytest.raises(ComputeNotRunning):
            VMPipe.open(source, host_keys)
        with FlakyTCP(server.host, server.port) as way:
            way.stall = True
            cancel = threading.Event()
            threading.Timer(0.3, cancel.set).start()
            start = time.monotonic()
            with pytest.raises(Cancelled):
                VMPipe.open(lambda: server.target(port=way.port), host_keys, cancel=cancel)
            assert time.monotonic() - start < 3


HOSTILE = {
    "length": "os.write(1, b'\\xff\\xff\\xff\\xff' * 100)\nwhile os.read(0, 65536): pass",
    "garbage": "import random\nr = random.Random(1)\nwhile True: os.write(1, r.randbytes(65536))",
    "flood": "while True: os.write(1, b'\\0' * 1048576)",
    "pipe": "os.write(1, struct.pack('!IB16sQ', 25, 5, bytes(16), 0))\nwhile os.read(0, 65536): pass",
}
"""What a hostile far end does once it has said the magic."""

PER_KERNEL = {
    "endless message": "seq = 0\nwhile True:\n    seq += 1\n    say(2, seq, bytes((2, 0)) + b'm' * 262144)",
    "gap": "say(2, 5, b'\\2\\1\\0\\0\\0\\0')",
    "wrong type": "say(7, 1, b'{}')",
    "no json": "say(15, 0, b'\\xff')",
    "deep json": "say(14, 1, b'[' * 200000)",
    "channel": "say(2, 1, b'\\x09\\x01' + b'\\0' * 4)",
    "parts": "say(2, 1, b'\\2\\1' + b'\\xff' * 12)",
    "lengths": "say(2, 1, b'\\2\\1' + struct.pack('!IQQ', 2, 2**63, 2**63))",
    "ack": "say(3, 0, struct.pack('!Q', 99))",
    "pings": "for _ in range(200000): say(5, 0, bytes(8))",
    "second hello": "say(1, 0, hello)",
    "code": 'say(14, 1, b\'{"code": "x", "run": 1}\')',
}
"""What a hostile relay does once it has the kernel's HELLO and has answered it."""

GREET = """
buffer = b""
while True:
    buffer += os.read(0, 65536)
    while len(buffer) >= 29:
        length, kind, tag, seq = struct.unpack_from("!IB16sQ", buffer)
        if len(buffer) < 4 + length:
            break
        if kind == 1:
            def say(kind, seq, body):
                data = struct.pack("!IB16sQ", 25 + len(body), kind, tag, seq) + body
                while data:
                    data = data[os.write(1, data):]
            hello = b'{"version": 1, "epoch": "e", "received_upto": 0, "credit": 16777216}'
            say(1, 0, hello)
%s
            while os.read(0, 65536): pass
            raise SystemExit
        buffer = buffer[4 + length:]
"""


def hostile_relay(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    import hashlib
    import io
    import zipfile

    source = "import os, struct\ndef main():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("relay/__init__.py", "")
        archive.writestr("relay/pipe.py", source)
    made = data.getvalue(), hashlib.sha256(data.getvalue()).hexdigest()
    monkeypatch.setattr(bootstrap, "relay_zip", lambda: made)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def megabytes(line: str = "VmHWM") -> float:
    """This process's memory, by default the most it was since ``forget_peak`` (proc(5))."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(line + ":")[2].split()[0]) / 1024


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pipe(server: SSHServer, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    hostile_relay(monkeypatch, HOSTILE[what])
    forget_peak()
    before = megabytes("VmRSS")
    IOThread.acquire()  # as a proxy does for its life: the pipe may have ended before the kernel is put on it
    try:
        with contextlib.suppress(ProtocolError):  # it may be found out about at once, or as soon as a kernel is there
            pipe = open_pipe(server)
            try:
                with contextlib.suppress(ProtocolError):
                    kernel = Kernel(pipe)
                    kernel.until(lambda: kernel.error is not None)
                    assert isinstance(kernel.error, ProtocolError)
                with pytest.raises(ProtocolError):
                    pipe.info()
            finally:
                pipe.release()
                pipe.close()
    finally:
        IOThread.release()
    assert megabytes() - before < 100
    forget_everything(server)


@pytest.mark.parametrize("what", PER_KERNEL)
def test_a_hostile_relay(server: SSHServer, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    lines = "\n".join("            " + line for line in PER_KERNEL[what].splitlines())
    hostile_relay(monkeypatch, GREET % lines)
    monkeypatch.setattr("jupyter_dsvm.kernels.link.MAX_MESSAGE", 32 * 1024 * 1024)
    forget_peak()
    before = megabytes("VmRSS")
    with piped(server) as pipe:
        kernel = Kernel(pipe)
        kernel.until(lambda: kernel.error is not None)
        assert isinstance(kernel.error, ProtocolError)
        assert kernel.got.empty()
        assert kernel.links[-1].state is LinkPhase.GONE
    assert megabytes() - before < 150
    forget_everything(server)


def test_names_and_keys_stay_out_of_sight(server: SSHServer) -> None:
    with piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        key = kernel.session.key
        for pid in server.processes():
            for name in ("cmdline", "environ"):
                assert key not in Path(f"/proc/{pid}/{name}").read_bytes()
        argv = next(line for line in server.processes().values() if "connection.json" in line).split()
        folder = Path(argv[argv.index("-f") + 1]).parent
        assert folder.stat().st_mode & 0o077 == 0
        held = [p for p in folder.iterdir() if p.is_file() and key in p.read_bytes()]
        assert held, "the connection file has it"
        assert all(p.stat().st_mode & 0o077 == 0 for p in held)
        kernel.end()
    forget_everything(server)
    assert not folder.exists()


def test_many_users_at_once(server: SSHServer) -> None:
    with piped(server) as pipe, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: pipe.info()["hostname"], range(20)))
        assert len(set(answers)) == 1
        assert pipe.retain()
        pipe.release()
    assert not pipe.retain()
    assert json.dumps(answers)
