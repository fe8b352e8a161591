"""The connection, against a real OpenSSH server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.errors import AuthenticationError, HostKeyError, SSHError, Unreachable
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support.sshd import FlakyTCP, SSHServer, free_port, generate_key, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("vm")) as server:
        yield server


@pytest.fixture
def host_keys(server: SSHServer, tmp_path: Path) -> HostKeys:
    keys = HostKeys(tmp_path / "pins", known_hosts=[])
    keys.pin(server.target().pinned_key_id or "", server.host_key_line)
    return keys


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    threads, fds = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    yield
    deadline = time.monotonic() + 3
    while set(threading.enumerate()) - threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not set(threading.enumerate()) - threads
    assert len(os.listdir("/proc/self/fd")) <= len(fds) + 1


def test_importing_does_not_import_paramiko() -> None:
    code = "import jupyter_dsvm.ssh.connection, jupyter_dsvm.ssh.keys, sys; print('paramiko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_commands_run_with_the_options_that_make_it_fast(server: SSHServer, host_keys: HostKeys) -> None:
    connection = SSHConnection.open(server.target(), host_keys)
    try:
        assert connection.run("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
        assert connection.run("cat", b"x" * 1_000_000)[1] == b"x" * 1_000_000
        assert connection.run("echo no >&2; exit 3", b"x" * 10_000_000) == (3, b"", b"no\n"), (
            "it has read nothing of that"
        )
        assert connection.run("kill -9 $$")[0] == -1
        assert connection.run("pwd; echo $HOME")[1].split()[1].decode() == str(server.home)
        transport = connection._transport
        assert transport is not None
        assert transport.remote_cipher == transport.local_cipher == "aes128-gcm@openssh.com"
        assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.alive
    finally:
        connection.close()
    assert not connection.alive
    with pytest.raises(Unreachable, match="closed"):
        connection.exec("true")


def test_a_command_is_bounded_in_time_and_output(server: SSHServer, host_keys: HostKeys) -> None:
    connection = SSHConnection.open(server.target(), host_keys)
    try:
        with pytest.raises(SSHError, match=r"did not end within 0\.3 s\. It printed: so far"):
            connection.run("echo so far; sleep 30", timeout=0.3)
        with pytest.raises(SSHError, match="more than 10000 bytes"):
            connection.run("yes", limit=10_000)
        assert connection.run("true")[0] == 0, "the connection is still good"
    finally:
        connection.close()


def test_an_unknown_host_key_is_refused_before_signing_in(server: SSHServer, tmp_path: Path) -> None:
    signed_in = server.log.read_text().count("Accepted")
    with pytest.raises(HostKeyError) as e:
        SSHConnection.open(server.target(), HostKeys(tmp_path / "none", known_hosts=[]))
    assert "SHA256:" in e.value.message
    assert server.host_key_line.split()[1] in e.value.advice
    assert server.log.read_text().count("Accepted") == signed_in


def test_a_changed_host_key_is_refused(server: SSHServer, host_keys: HostKeys, tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other")
    host_keys.pin(server.target().pinned_key_id or "", other)
    with pytest.raises(HostKeyError, match="has changed") as e:
        SSHConnection.open(server.target(), host_keys)
    assert e.value.message.count("SHA256:") == 2


def test_known_hosts_serves_where_nothing_is_pinned(server: SSHServer, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"[127.0.0.1]:{server.port} {server.host_key_line}\n")
    SSHConnection.open(server.target(pinned_key_id=None), HostKeys(tmp_path / "pins", [path])).close()


def test_a_refused_key_says_who_tried_what(server: SSHServer, host_keys: HostKeys, tmp_path: Path) -> None:
    generate_key(tmp_path / "wrong")
    generate_key(tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"], check=True)
    files = tuple(str(tmp_path / name) for name in ("wrong", "open", "locked", "missing"))
    with pytest.raises(AuthenticationError) as e:
        SSHConnection.open(server.target(key_files=files), host_keys, agent=False)
    message = e.value.message
    assert f"does not let {server.user} in" in message
    assert f"{tmp_path / 'wrong'} (ssh-ed25519 SHA256:" in message
    assert f"{tmp_path / 'open'} was not used because it can be read by other accounts" in message
    assert f"{tmp_path / 'locked'} is encrypted" in message
    assert f"{tmp_path / 'missing'} does not exist" in message
    assert "The server accepts: publickey." in message


def test_the_key_that_was_taken_last_is_tried_first(tmp_path: Path) -> None:
    with sshd(tmp_path / "vm", "MaxAuthTries 2") as server:
        host_keys = HostKeys(tmp_path / "pins", [])
        host_keys.pin(server.target().pinned_key_id or "", server.host_key_line)
        others = tuple(str(tmp_path / name) for name in ("one", "two", "three"))
        for name in others:
            generate_key(Path(name))
        SSHConnection.open(server.target(), host_keys, agent=False).close()
        target = server.target(key_files=(*others, *server.target().key_files))
        SSHConnection.open(target, host_keys, agent=False).close()
        with pytest.raises(AuthenticationError):
            SSHConnection.open(server.target(key_files=others), host_keys, agent=False)


def test_a_key_from_the_agent(
    server: SSHServer, host_keys: HostKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    try:
        while not address.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        subprocess.run(["ssh-add", "-q", server.key_file], check=True)
        connection = SSHConnection.open(server.target(key_files=()), host_keys)
        assert connection.run("true")[0] == 0
        connection.close()
    finally:
        agent.terminate()
        agent.wait()


def test_an_encrypted_key_with_its_passphrase(server: SSHServer, host_keys: HostKeys, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(server.key_file.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", locked], check=True)
    target = server.target(key_files=(str(locked),))
    SSHConnection.open(target, host_keys, agent=False, passphrase="secret").close()


def test_a_closed_port(server: SSHServer, host_keys: HostKeys) -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"vm \(127\.0\.0\.1, port {port}\) refuses connections"):
        SSHConnection.open(server.target(port=port), host_keys)


def test_a_name_that_does_not_resolve(server: SSHServer, host_keys: HostKeys) -> None:
    with pytest.raises(Unreachable, match="cannot be found"):
        SSHConnection.open(server.target(host="no-such-host.invalid"), host_keys)


def test_a_machine_that_falls_silent_while_one_signs_in_has_not_refused(
    server: SSHServer, host_keys: HostKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyTCP(server.host, server.port) as way:
        verify = host_keys.verify

        def then_silence(*args: Any) -> None:
            verify(*args)
            way.stall = True

        monkeypatch.setattr(host_keys, "verify", then_silence)
        target = server.target(port=way.port)
        with pytest.raises(Unreachable, match="while signing in"):
            SSHConnection.open(target, host_keys, timeout=2)
        way.stall = False
        threading.Timer(0.5, way.cut).start()
        with pytest.raises(Unreachable, match="while signing in"):
            SSHConnection.open(target, host_keys, timeout=20)


def test_something_that_is_no_ssh_server(server: SSHServer, host_keys: HostKeys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(Unreachable, match="accepts connections and then says nothing"):
            SSHConnection.open(server.target(port=listener.getsockname()[1]), host_keys, timeout=0.5)

        def babble() -> None:
            client, _ = listener.accept()
            with client:
                try:
                    while True:
                        client.sendall(b"x" * 65536)
                except OSError:
                    pass

        listener.accept()[0].close()
        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(Unreachable, match="no SSH greeting"):
            SSHConnection.open(server.target(port=listener.getsockname()[1]), host_keys, timeout=5)
        thread.join()


def test_close_ends_a_connect_that_hangs(server: SSHServer, host_keys: HostKeys) -> None:
    with FlakyTCP(server.host, server.port) as way:
        way.stall = True
        connection = SSHConnection(server.target(port=way.port))
        threading.Timer(0.3, connection.close).start()
        start = time.monotonic()
        with pytest.raises(Unreachable):
            connection.connect(host_keys, timeout=30)
        assert time.monotonic() - start < 5


def test_sessions_that_sshd_refuses(tmp_path: Path) -> None:
    with sshd(tmp_path / "vm", "MaxSessions 1") as server:
        host_keys = HostKeys(tmp_path / "pins", [])
        host_keys.pin(server.target().pinned_key_id or "", server.host_key_line)
        connection = SSHConnection.open(server.target(), host_keys)
        try:
            channel = connection.exec("sleep 30")
            with pytest.raises(SSHError, match="refused to run a command") as e:
                connection.exec("true")
            assert "MaxSessions" in e.value.advice
            channel.close()
        finally:
            connection.close()


def test_a_proxy_command(server: SSHServer, host_keys: HostKeys) -> None:
    relay = "import socket,sys,threading,os;s=socket.create_connection(('127.0.0.1',int(sys.argv[1])));\n"
    relay += "def up():\n while d:=os.read(0,65536): s.sendall(d)\n"
    relay += "threading.Thread(target=up,daemon=True).start()\nwhile d:=s.recv(65536): os.write(1,d)"
    command = f'{sys.executable} -c "{relay}" {server.port}'
    target = server.target(host="nowhere.invalid", proxy_command=command)
    connection = SSHConnection.open(target, host_keys)
    assert connection.run("echo through")[1] == b"through\n"
    connection.close()
    with pytest.raises(Unreachable, match="The proxy command printed: no way in") as e:
        SSHConnection.open(server.target(proxy_command="sh -c 'echo no way in >&2; exit 1'"), host_keys)
    assert e.value.advice == "Check the proxy command."


def test_what_comes_on_a_channel_is_read_as_it_came() -> None:
    from paramiko.buffered_pipe import PipeTimeout

    from jupyter_dsvm.ssh.packets import PacketQueue

    queue = PacketQueue()
    with pytest.raises(PipeTimeout):
        queue.read(10, 0.0)
    with pytest.raises(PipeTimeout):
        queue.read(10, 0.05)
    event = threading.Event()
    queue.set_event(event)
    assert not event.is_set()
    for piece in (b"abc", b"defg", b"h"):
        queue.feed(piece)
    assert event.is_set()
    assert (len(queue), queue.read_ready()) == (8, True)
    assert [queue.read(n) for n in (2, 3, 100)] == [b"ab", b"cde", b"fgh"]
    assert not event.is_set()
    threading.Timer(0.1, queue.feed, [b"later"]).start()
    assert queue.read(100, 10) == b"later"
    threading.Timer(0.1, queue.close).start()
    assert queue.read(100, 10) == b""
    assert event.is_set()
    queue.feed(b"last")
    assert (queue.empty(), queue.read(1), len(queue)) == (b"last", b"", 0)


def test_short_packets_are_taken_on_the_connections_thread_in_order_with_the_others() -> None:
    from paramiko.buffered_pipe import PipeTimeout

    from jupyter_dsvm.ssh.packets import DIRECT, MAX_TAKEN, PacketQueue, Taken

    queue = PacketQueue()
    got: list[bytes] = []
    refuses: list[bool] = []

    def take(packet: bytes) -> bool:
        if refuses:
            return False
        got.append(packet)
        return True

    queue.feed(b"before")
    queue.take_directly(take)
    queue.feed(b"a")  # behind what was not read yet
    assert queue.read(100, 1) == b"beforea"
    queue.feed(b"b")  # the reader has not said yet that it has dealt with that
    assert got == []
    assert queue.read(100, 1) == b"b"
    with pytest.raises(PipeTimeout):
        queue.read(100, 0)
    queue.feed(b"c")
    queue.feed(b"x" * (DIRECT + 1))
    queue.feed(b"d")
    assert got == [b"c"]
    spent = queue.read(1 << 20, 0)
    assert isinstance(spent, Taken)
    assert len(spent) == 1
    assert queue.read(1 << 20, 0) == b"x" * (DIRECT + 1) + b"d"
    with pytest.raises(PipeTimeout):
        queue.read(100, 0)
    refuses.append(True)
    queue.feed(b"e")
    assert queue.read(100, 0) == b"e"
    with pytest.raises(PipeTimeout):
        queue.read(100, 0)
    refuses.clear()
    piece = bytes(DIRECT)
    feed = threading.Timer(0.1, lambda: [queue.feed(piece) for _ in range(MAX_TAKEN // DIRECT + 1)])
    feed.start()
    spent = queue.read(1, 10)  # woken although there is nothing to read: the window is to be made larger
    assert isinstance(spent, Taken)
    feed.join()
    assert len(spent) + queue._taken == MAX_TAKEN + DIRECT
    queue.take_directly(None)
    taken = len(got)
    queue.feed(b"late")
    queue.close()
    rest = [queue.read(100, 0) for _ in range(3)]
    assert [r for r in rest if not isinstance(r, Taken)] == [b"late", b""] or rest == [b"late", b"", b""]
    assert len(got) == taken


def test_a_machine_behind_a_proxy_jump(tmp_path: Path):
    """As ``~/.ssh/config`` has it: a real ssh to a real jump host, the names and host keys of both checked."""
    from jupyter_dsvm.compute.hosts import SSHHosts

    with sshd(tmp_path / "jump") as jump, sshd(tmp_path / "inner") as inner:
        known, config = tmp_path / "known", tmp_path / "config"
        known.write_text(f"[{jump.host}]:{jump.port} {jump.host_key_line}\ninner-key {inner.host_key_line}\n")
        config.write_text(
            f"Host *\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n"
            f"Host jump\n  HostName {jump.host}\n  Port {jump.port}\n  User {jump.user}\n  IdentityFile {jump.key_file}\n"
            f"Host inner\n  HostName {inner.host}\n  Port {inner.port}\n  User {inner.user}\n  IdentityFile {inner.key_file}\n"
            "  ProxyJump jump\n  HostKeyAlias inner-key\n"
        )
        target = SSHHosts(config_file=str(config)).ssh_target("host:inner")
        connection = SSHConnection.open(target, HostKeys(tmp_path / "pins", known_hosts=[]), timeout=40)
        try:
            assert connection.run("echo here")[1] == b"here\n"
        finally:
            connection.close()
        known.write_text(f"inner-key {inner.host_key_line}\n")
        with pytest.raises(Unreachable, match="Host key verification failed"):
            SSHConnection.open(target, HostKeys(tmp_path / "pins", known_hosts=[]), timeout=40)
