"""From an SSH connection to an attach pipe, against a real OpenSSH server; the relay shipped is a stub that echoes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from jupyter_dsvm.errors import BootstrapError, DSVMError, Unreachable
from jupyter_dsvm.kernels import bootstrap as module
from jupyter_dsvm.kernels import loader, vmpipe
from jupyter_dsvm.kernels.bootstrap import RememberedPythons, bootstrap, command, relay_zip
from jupyter_dsvm.kernels.pipeconnection import PIPE_ENDED
from jupyter_dsvm.models import SSHTarget
from jupyter_dsvm.relay.archive import Archive
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support.sshd import SSHServer, fill, small_disk, sshd

ECHO = """
import os, sys
def main():
    os.write(1, b"pipe:" + sys.executable.encode() + b"\\n")
    while True:
        data = os.read(0, 65536)
        if not data:
            return
        os.write(1, data)
"""


def stub(source: str) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("relay/__init__.py", "")
        archive.writestr("relay/pipe.py", source)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()


@pytest.fixture
def echo_relay(monkeypatch: pytest.MonkeyPatch) -> str:
    data, digest = stub(ECHO)
    monkeypatch.setattr(module, "relay_zip", lambda: (data, digest))
    return digest


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    with sshd(tmp_path / "vm") as server:
        yield server
        assert not server.wait_until_idle(5), "a pipe ends with its connection"


def connect(server: SSHServer, **changes: object) -> SSHConnection:
    host_keys = HostKeys(server.folder / "pins", [])
    host_keys.pin(server.target().pinned_key_id or "", server.host_key_line)
    target: SSHTarget = server.target(**{"python": sys.executable, **changes})
    return SSHConnection.open(target, host_keys)


def python_of(pipe: module.Bootstrapped) -> str:
    """The Python that the stub runs in; then that the pipe carries bytes both ways."""
    received = bytearray(pipe.received)
    pipe.channel.settimeout(10)
    while b"\n" not in received:
        received += pipe.channel.recv(1000)
    pipe.channel.sendall(b"\0frames\xff")
    while not received.endswith(b"\0frames\xff"):
        piece = pipe.channel.recv(1000)
        assert piece
        received += piece
    return received.split(b"\n")[0].removeprefix(b"pipe:").decode()


def failure(server: SSHServer, timeout: float = 20, **changes: object) -> BootstrapError:
    connection = connect(server, **changes)
    try:
        with pytest.raises(BootstrapError) as e:
            bootstrap(connection, timeout=timeout)
        return e.value
    finally:
        connection.close()


def test_the_zip_is_the_same_each_time_and_imports_alone(tmp_path: Path) -> None:
    data, digest = relay_zip.__wrapped__()
    assert relay_zip.__wrapped__() == (data, digest)
    (tmp_path / "relay.zip").write_bytes(data)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import relay.wire, relay.session; print(relay.wire.VERSION)"
    subprocess.run([sys.executable, "-I", "-c", code, tmp_path / "relay.zip"], check=True, cwd=tmp_path)


def test_the_second_time_only_the_hash_travels(server: SSHServer, echo_relay: str) -> None:
    connection = connect(server)
    try:
        first = bootstrap(connection)
        assert first.shipped
        assert python_of(first) == sys.executable == first.python
        second = bootstrap(connection)
        assert not second.shipped
        assert python_of(second) == sys.executable
    finally:
        connection.close()
    folder = server.home / ".local/share/jupyter-dsvm/relay"
    assert {p.name for p in folder.iterdir()} == {f"{echo_relay}.zip", compiled(folder, echo_relay).name}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{echo_relay}.zip").stat().st_mode) == 0o600


def test_what_is_sent_ahead_comes_first_whether_the_relay_had_to_be_sent_or_not(
    server: SSHServer, echo_relay: str
) -> None:
    connection = connect(server)
    try:
        for shipped in (True, False):
            pipe = bootstrap(connection, ahead=b"\0ahead")
            assert pipe.shipped is shipped
            received = pipe.received
            pipe.channel.settimeout(10)
            while not received.endswith(b"\0ahead"):
                piece = pipe.channel.recv(1000)
                assert piece
                received += piece
            assert received.count(b"ahead") == 1
            pipe.channel.close()
    finally:
        connection.close()


class RefusesCommands(paramiko.ServerInterface):
    """No OpenSSH does, whatever its configuration; routers and jump hosts do."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return False


def test_a_server_that_runs_no_commands(server: SSHServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there: list[paramiko.Transport] = []

        def accept() -> None:
            there.append(paramiko.Transport(listener.accept()[0]))
            there[0].add_server_key(paramiko.PKey.from_path(server.folder / "host_key"))
            there[0].start_server(server=RefusesCommands())

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            error = failure(server, port=listener.getsockname()[1])
        finally:
            thread.join(10)
            there[0].close()
            there[0].join(10)
    assert error.code == "ExecRefused"
    assert "refused to run a command" in error.message
    assert "ForceCommand" in error.advice


def test_a_damaged_zip_is_replaced(server: SSHServer, echo_relay: str) -> None:
    folder = server.home / ".local/share/jupyter-dsvm/relay"
    folder.mkdir(parents=True, mode=0o700)
    (folder / f"{echo_relay}.zip").write_bytes(b"something else")
    connection = connect(server)
    try:
        pipe = bootstrap(connection)
        assert pipe.shipped
        python_of(pipe)
    finally:
        connection.close()


def compiled(folder: Path, digest: str) -> Path:
    """The one with bytecode."""
    (found,) = folder.glob(f"{digest}.{sys.implementation.cache_tag}.*.zip")
    return found


def test_bytecode_is_made_once_and_anew_when_damaged(server: SSHServer, echo_relay: str) -> None:
    folder = server.home / ".local/share/jupyter-dsvm/relay"
    connection = connect(server)
    try:
        python_of(bootstrap(connection))
        made = compiled(folder, echo_relay)
        first = made.stat()
        python_of(bootstrap(connection))
        assert compiled(folder, echo_relay).stat().st_ino == first.st_ino
        with zipfile.ZipFile(made) as archive:
            assert {"relay/pipe.py", "relay/pipe.pyc"} <= set(archive.namelist())
        whole = made.read_bytes()
        for damaged in (b"", whole[:100], whole.replace(b"pipe:", b"\xff" * 5)):
            made.write_bytes(damaged)
            python_of(bootstrap(connection))
            assert compiled(folder, echo_relay).read_bytes() == whole
    finally:
        connection.close()


def test_zips_that_nobody_uses_any_more_go(server: SSHServer, echo_relay: str) -> None:
    folder = server.home / ".local/share/jupyter-dsvm/relay"
    folder.mkdir(parents=True, mode=0o700)
    month = time.time() - loader.UNUSED
    for name, when in {"old.zip": month - 3600, "cut.zip.123": month - 3600, "recent.zip": month + 3600}.items():
        (folder / name).write_bytes(b"another version")
        os.utime(folder / name, (when, when))
    connection = connect(server)
    try:
        python_of(bootstrap(connection))
        assert {p.name for p in folder.iterdir()} == {
            "recent.zip",
            f"{echo_relay}.zip",
            compiled(folder, echo_relay).name,
        }
        mine = folder / f"{echo_relay}.zip"
        os.utime(mine, (month - 3600, month - 3600))
        again = bootstrap(connection)
        assert not again.shipped
        python_of(again)
        assert mine.stat().st_mtime > time.time() - 3600, "it counts as used now"
    finally:
        connection.close()


def test_who_runs_from_a_zip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"")
    os.utime(path, (0, 0))
    archive = Archive(str(path / "relay" / "archive.py"))
    archive.keep()
    assert path.stat().st_mtime > time.time() - 3600
    os.utime(path, (0, 0))
    archive.keep()
    assert path.stat().st_mtime == 0, "but not all the time"
    path.unlink()
    Archive(str(path / "relay" / "archive.py")).keep()


def test_a_full_disk(server: SSHServer, echo_relay: str) -> None:
    with small_disk(server.home, 64):
        fill(server.home / "data")
        error = failure(server)
        assert "cannot be kept on vm" in error.message
        assert "No space left on device" in error.message
        assert "has space left" in error.advice
        (server.home / "data").unlink()
        connection = connect(server)
        try:
            assert python_of(bootstrap(connection)) == sys.executable
        finally:
            connection.close()
        assert not server.wait_until_idle(5)


def test_a_folder_that_others_can_write_to_is_refused(server: SSHServer, echo_relay: str) -> None:
    folder = server.home / ".local/share/jupyter-dsvm/relay"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    error = failure(server)
    assert f"{folder} is not a folder that only this account can write to" in error.message
    assert "cannot be kept on vm" in error.message


def test_a_noisy_login_shell(server: SSHServer, echo_relay: str) -> None:
    (server.home / ".bashrc").write_text("echo Welcome; printf '\\0\\n%5000s' x; echo on stderr >&2\n")
    connection = connect(server)
    try:
        assert python_of(bootstrap(connection)) == sys.executable
    finally:
        connection.close()


def test_a_login_shell_that_never_stops_printing(server: SSHServer, echo_relay: str) -> None:
    (server.home / ".bashrc").write_text("yes Welcome\n")
    error = failure(server)
    assert "prints too much" in error.message
    assert "Welcome" in error.message
    assert len(error.message) < 5000


def test_a_login_shell_that_hangs(server: SSHServer, echo_relay: str) -> None:
    (server.home / ".bashrc").write_text("echo waiting for the network; sleep 3\n")
    error = failure(server, timeout=1)
    assert error.code == "BootstrapTimeout"
    assert "waiting for the network" in error.message


def test_a_login_shell_that_refuses(server: SSHServer, echo_relay: str) -> None:
    (server.home / ".bashrc").write_text("echo 'This account is \x1b[31mclosed.'; exit 7\n")
    error = failure(server)
    assert "exit status 7" in error.message
    assert "This account is �[31mclosed." in error.message


@pytest.mark.parametrize("shell", ["dash -c", "bash -c", "bash --posix -c"])
def test_other_shells(tmp_path: Path, echo_relay: str, shell: str) -> None:
    with sshd(tmp_path / "vm", f'ForceCommand {shell} "$SSH_ORIGINAL_COMMAND"') as server:
        connection = connect(server)
        try:
            assert python_of(bootstrap(connection)) == sys.executable
        finally:
            connection.close()


def test_the_command_means_the_same_to_every_shell() -> None:
    line = command()
    assert line.startswith("exec sh -c '")
    # csh expands ! and needs \ before a newline even between single quotes; fish gives \ a meaning there.
    assert not set(line.removeprefix("exec sh -c '").removesuffix("'")) & set("'\\!\n")


def python_without(folder: Path, module_name: str) -> Path:
    """A Python of its own without pyzmq: a virtual environment without packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    assert not list(folder.glob(f"lib/*/site-packages/{module_name}"))
    return folder / "bin" / "python"


def only(folder: Path, *programs: str) -> str:
    """A PATH on which nothing but these can be found."""
    folder.mkdir()
    for program in programs:
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    return str(folder)


def test_no_usable_python_says_what_was_tried(tmp_path: Path, echo_relay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = python_without(tmp_path / "bare", "zmq")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    old = tmp_path / "bin" / "python3"
    path = only(tmp_path / "bin", "sh", "bash")
    old.write_text("#!/bin/sh\nexit 91\n")
    old.chmod(0o755)
    monkeypatch.setattr(module, "PLACES", f"/nowhere/*/bin/python {broken} python3 {bare}")
    command.cache_clear()
    try:
        force = f'ForceCommand PATH={path} SHELL={path}/sh /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
        with sshd(tmp_path / "vm", force) as server:
            error = failure(server, python="/not/there/python")
    finally:
        command.cache_clear()
    assert error.code == "NoPython"
    assert "no Python 3.8 or newer with pyzmq on vm" in error.message
    assert "tried: /not/there/python is not there" in error.message
    assert f"tried: {old} is older than Python 3.8" in error.message
    assert f"it is broken\ntried: {broken} does not work (exit status 1)" in error.message
    assert f"tried: {bare} has no pyzmq" in error.message
    assert "nowhere" not in error.message
    assert "python3 -m pip install --user pyzmq ipykernel" in error.advice


def test_the_python_of_the_login_shells_jupyter(
    tmp_path: Path, echo_relay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a VM whose Jupyter is on the login shell's PATH only; then it is remembered, and found without that."""
    monkeypatch.setattr(module, "PLACES", "python3")
    command.cache_clear()
    tools = only(tmp_path / "bin", "sh", "bash")
    jupyter = tmp_path / "conda" / "bin" / "jupyter"
    jupyter.parent.mkdir(parents=True)
    jupyter.write_text(f"#!{sys.executable}\n")
    jupyter.chmod(0o755)
    pythons = RememberedPythons(tmp_path / "data" / "pythons.json")
    try:
        force = f'ForceCommand PATH={tools} SHELL={tools}/bash /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
        with sshd(tmp_path / "vm", force) as server:
            profile = server.home / ".bash_profile"
            profile.write_text(f"echo Welcome to /usr/bin/true; PATH={jupyter.parent}:$PATH\n")
            for _ in range(2):
                connection = connect(server, python=None)
                try:
                    pipe = bootstrap(connection, pythons=pythons)
                    assert python_of(pipe) == sys.executable
                finally:
                    connection.close()
                assert pythons.get("host:vm") == sys.executable
                profile.unlink(missing_ok=True)
    finally:
        command.cache_clear()
    assert stat.S_IMODE(pythons.path.stat().st_mode) == 0o600


def test_a_remembered_python_that_has_gone_is_no_hindrance(server: SSHServer, echo_relay: str) -> None:
    pythons = RememberedPythons(server.folder / "pythons.json")
    pythons.set("host:vm", "/gone/bin/python")
    connection = connect(server)
    try:
        assert python_of(bootstrap(connection, pythons=pythons)) == sys.executable
    finally:
        connection.close()
    assert pythons.get("host:vm") == sys.executable


@pytest.mark.parametrize(
    ("ended", "by_us", "heard", "kept"),
    [
        (PIPE_ENDED, False, False, None),
        (PIPE_ENDED, False, True, sys.executable),
        (PIPE_ENDED, True, False, sys.executable),
        ("ConnectionLost", False, False, sys.executable),
    ],
)
def test_a_remembered_python_whose_pipe_ends_without_a_word_is_looked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str, by_us: bool, heard: bool, kept: str | None
) -> None:
    """Its pyzmq may be broken, which is found out only after it has been chosen."""
    told_to, over = threading.Event(), threading.Event()

    class Connection:
        python = sys.executable

        def __init__(self, *_: Any) -> None:
            self.heard = heard

        def connect(self, *_: Any, **_more: Any) -> None:
            pass

        def read(self, _on_frames: Any) -> DSVMError:
            assert told_to.wait(10)
            return Unreachable("over", code=ended)

        def finish(self) -> None:
            told_to.set()

        def close(self) -> None:
            over.set()

    pythons = RememberedPythons(tmp_path / "pythons.json")
    pythons.set("host:vm", sys.executable)
    pythons.set("host:other", "/usr/bin/python3")
    monkeypatch.setattr(vmpipe, "PipeConnection", Connection)
    target = SSHTarget(compute="host:vm", name="vm", host="127.0.0.1")
    if not by_us:
        told_to.set()
    pipe = vmpipe.VMPipe.open(lambda: target, HostKeys(tmp_path / "pins", []), pythons=pythons)
    assert by_us or over.wait(10)
    pipe.close()
    assert pythons.get("host:vm") == kept
    assert pythons.get("host:other") == "/usr/bin/python3"


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"host:vm": 3}', '{"host:vm": "rm\\n-rf"}', '{"host:vm": "relative"}']
)
def test_a_damaged_memory_is_no_hindrance(tmp_path: Path, content: str) -> None:
    (tmp_path / "pythons.json").write_text(content)
    assert RememberedPythons(tmp_path / "pythons.json").get("host:vm") is None


def test_files_in_the_home_folder_do_not_replace_modules(server: SSHServer, echo_relay: str) -> None:
    for name in ("hashlib", "json", "zmq", "struct"):
        (server.home / f"{name}.py").write_text("raise SystemExit('shadowed')")
    working = connect(server)
    try:
        # The account's own first folder is not the home of this test, so go there first.
        (server.home / ".bashrc").write_text(f"cd {server.home}\n")
        assert python_of(bootstrap(working)) == sys.executable
    finally:
        working.close()


def test_a_relay_that_fails_says_how(server: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    data, digest = stub("def main():\n    raise RuntimeError('out of luck')")
    monkeypatch.setattr(module, "relay_zip", lambda: (data, digest))
    connection = connect(server)
    try:
        pipe = bootstrap(connection)
        assert pipe.channel.recv(1) == b""
        assert pipe.channel.recv_exit_status() == 93
        assert b"out of luck" in pipe.channel.recv_stderr(10_000)
    finally:
        connection.close()


def test_nothing_secret_or_long_is_in_the_arguments(server: SSHServer, echo_relay: str) -> None:
    connection = connect(server)
    try:
        python_of(bootstrap(connection))
        seen = server.processes()
    finally:
        connection.close()
    assert any("find_spec" in line for line in seen.values())
    assert not any(echo_relay in line for line in seen.values())
    assert max(map(len, seen.values())) < 4096, "csh refuses longer words"
    assert os.environ.get("HOME") != str(server.home)
