"""What a relay does with nonsense, with other users of its machine, and with a call from its kernel."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.relay.spec import SOCKET_VARIABLE, KernelSpec
from jupyter_dsvm.relay.wire import (
    Channel,
    Frame,
    FrameDecoder,
    Type,
    WireError,
    call_body,
    json_body,
    read_json,
)
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, pipe, until
from support.relay_vm import end_of_relay, home, run, say, shut_down, started, vm, way

__all__ = ["home", "vm", "way"]


# %dsvm


def test_a_call_from_the_kernel_and_its_answers(way: PipeEnd) -> None:
    kernel = started(way)
    code = f"""
import json, os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ[{SOCKET_VARIABLE!r}])
s.sendall(b'{{"line": "attach gpu-vm"}}\\n')
f = s.makefile()
for line in f:
    print(json.loads(line))
    if "result" in json.loads(line): break
s.close()
"""
    request = kernel.execute(code)
    way.wait(lambda: kernel.happened(Type.CALL))
    (call,) = kernel.happened(Type.CALL)
    assert call["request"] == {"line": "attach gpu-vm"}
    kernel.session.send(Type.RESULT, call_body(call["id"], {"progress": "starting"}))
    kernel.session.send(Type.RESULT, call_body(call["id"] + 7, {"result": "nobody's"}))
    kernel.session.send(Type.RESULT, call_body(call["id"], {"result": "attached"}))
    way.wait(lambda: kernel.done(request))
    assert kernel.text(request) == "{'progress': 'starting'}\n{'result': 'attached'}\n"
    assert len(kernel.happened(Type.CALL)) == 1, "a finished call is not cancelled"


def test_a_kernel_that_hangs_up_cancels_its_call_and_nonsense_is_hung_up_on(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    path = str(end_of_relay(vm, kernel) / "call.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b'{"line": "start gpu')
        s.sendall(b'-vm"}\n')
        way.wait(lambda: kernel.happened(Type.CALL))
    way.wait(lambda: len(kernel.happened(Type.CALL)) == 2)
    first, second = kernel.happened(Type.CALL)
    assert second == {"id": first["id"], "request": {"cancel": True}}
    for nonsense in (b"[]\n", b"GET / HTTP/1.1\r\n", b"x" * 200_000, b'{"a":' * 10_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.settimeout(5)
            try:
                s.sendall(nonsense)
                assert s.recv(1) == b""
            except ConnectionError:
                pass
    assert len(kernel.happened(Type.CALL)) == 2
    assert say(way, kernel, "print(1)") == "1\n"


# Nobody is trusted


def test_only_this_user_can_reach_anything_and_the_key_is_nowhere(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    run(way, kernel, "pass")
    folder = end_of_relay(vm, kernel)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    for name in ("relay.sock", "call.sock", "connection.json", "kernel.log", "relay.log", "relay.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    key = kernel.messages.key
    assert key in (folder / "connection.json").read_bytes()
    running = vm.processes()
    assert len(running) == 3, running
    for pid in running:
        assert key not in Path(f"/proc/{pid}/environ").read_bytes()
        assert key not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert key not in (folder / "relay.json").read_bytes() + (folder / "relay.log").read_bytes()
    assert listening_on_tcp(running) == []


def listening_on_tcp(pids: Any) -> list[str]:
    """Local addresses on which one of these processes listens. tcp(5) of /proc: state 0A is LISTEN, column 9 the inode."""
    inodes = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                pass
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


def test_the_check_above_would_see_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening_on_tcp([os.getpid()])) >= 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff" * 100,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
        Frame(Type.START, bytes(16), 1, b"{}").encode(),
        Frame(Type.HELLO, bytes(16), 0, b'{"version": 1}').encode(),
        Frame(Type.HELLO, bytes(16), 0, b'{"version":1,"epoch":"x","received_upto":99,"credit":1}').encode(),
    ],
    ids=["length", "http", "start", "half-hello", "other-hello"],
)
def test_nonsense_on_the_relays_socket_closes_that_connection_only(vm: Machine, way: PipeEnd, nonsense: bytes) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    way.wait(lambda: kernel.session.attached)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(end_of_relay(vm, kernel) / "relay.sock"))
        s.sendall(nonsense)
        said = b""
        while piece := s.recv(65536):
            said += piece
    (goodbye,) = FrameDecoder().feed(said)
    assert goodbye.type == Type.GOODBYE
    assert read_json(goodbye.body)["reason"] in ("protocol", "epoch")
    for _ in range(5):
        way.turn()
    assert kernel.session.attached
    assert kernel.hung_up == kernel.gone == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Type.START, b"{}"),
        (Type.START, json_body({"argv": "python", "key": "k"})),
        (Type.DATA, bytes((Channel.IOPUB, 1)) + b"\0\0\0\0"),
        (Type.DATA, b"\x63\x01"),
        (Type.RESULT, b"short"),
        (Type.INTERRUPT, b""),
        (Type.INTERRUPT, bytes((Channel.CONTROL, 0)) + b"\0\0\0\0"),
        (Type.INTERRUPT, bytes((Channel.SHELL, 1)) + b"\0\0\0\0"),
    ],
)
def test_a_wrong_body_from_the_server_is_a_protocol_error(way: PipeEnd, kind: Type, body: bytes) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    if kind is Type.INTERRUPT:
        way.wait(lambda: kernel.session.attached)
        kernel.session.pass_by(kind, body)
    else:
        kernel.session.send(kind, body)
    way.wait(lambda: kernel.hung_up)
    assert kernel.hung_up == ["protocol"]
    assert way.ping() < 2


def test_nonsense_on_the_pipe_is_answered_and_ends_it(vm: Machine) -> None:
    with pipe(vm) as way:
        os.write(way.stream.write_fd, b"\xff" * 64)
        until(lambda: way.turn() or way.ended)
        (goodbye,) = way.own
        assert read_json(goodbye.body)["reason"] == "protocol"
    vm.wait_empty()


def test_many_connections_to_a_relay_are_bounded(vm: Machine, way: PipeEnd) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    way.wait(lambda: kernel.session.attached)
    held = []
    try:
        for _ in range(40):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(end_of_relay(vm, kernel) / "relay.sock"))
            held.append(s)
        (relay,) = (pid for pid in vm.processes() if pid != way.process.pid)
        until(lambda: all(_closed(s) for s in held[15:]))
        assert len(os.listdir(f"/proc/{relay}/fd")) < 40
    finally:
        for s in held:
            s.close()
    assert kernel.session.attached


def _closed(s: socket.socket) -> bool:
    s.setblocking(False)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_long_home_folder_does_not_break_the_sockets(tmp_path: Path) -> None:
    with machine(tmp_path / ("long" * 20)) as vm, pipe(vm) as way:
        kernel = started(way)
        assert say(way, kernel, "print('short')") == "short\n"
        (relay,) = way.ask("kernels")["result"]
        folder = Path(f"/proc/{relay['pid']}/fd/2").resolve().parent
        assert str(folder).startswith(f"/tmp/jupyter-dsvm-{os.getuid()}-")
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        shut_down(way, kernel)
        until(lambda: not folder.exists())
        shutil.rmtree(folder.parent)


def test_no_zombies_are_left_to_whoever_reaps_for_the_pipe(vm: Machine, way: PipeEnd) -> None:
    started(way)
    way.ask("kernelspecs")
    children = subprocess.run(
        ["ps", "--ppid", str(way.process.pid), "-o", "stat="], capture_output=True, text=True, check=False
    )
    assert "Z" not in children.stdout


def test_a_spec_keeps_its_key_to_itself() -> None:
    spec = KernelSpec.from_json({"argv": ["python"], "key": "secret", "unknown": 1})
    assert "secret" not in repr(spec)
    assert KernelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(WireError):
        KernelSpec.from_json({"argv": ["python"], "key": 5})
