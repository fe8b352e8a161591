"""A real SSH server that stands for a VM, and a TCP proxy that makes the way to it bad.

``sshd`` (OpenSSH) and ``dropbear`` log in the account that runs the tests, with a home folder of its own, so that nothing
touches the account's real one. Their processes carry a mark in their environment, by which they are found and ended
however they detached themselves. They listen on loopback, or in a network of their own (``support.netns``).
"""

from __future__ import annotations

import contextlib
import getpass
import heapq
import itertools
import os
import pwd
import random
import re
import secrets
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import network
from jupyter_dsvm.models import SSHTarget

from .netns import Network

SSHD = shutil.which("sshd", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}")
DROPBEAR = shutil.which("dropbear", path=f"/usr/sbin:/usr/local/sbin:{os.environ.get('PATH', '')}")
MARK = "JUPYTER_DSVM_TEST_VM"


def generate_key(path: Path) -> str:
    """An ed25519 pair at ``path``; its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)
    return path.with_name(path.name + ".pub").read_text().strip()


def free_port() -> int:
    """Not one of those that the system gives out by itself: a kernel of a test beside this one may get such a port first."""
    return network.free_port()


def processes_with(mark: str) -> dict[int, str]:
    """Living processes that have ``mark`` in their environment: pid to command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
            except OSError:
                pass
    return found


class SSHServer:
    """The machine: ``kill`` and ``start`` are a crash and a boot, the home folder is its disk."""

    daemon = "sshd"

    def __init__(
        self, folder: Path, options: tuple[str, ...], env: dict[str, str], network: Network | None = None
    ) -> None:
        self.folder = folder
        self._network = network
        self.user = getpass.getuser()
        self.port = free_port()
        # Short, so that the relay's sockets fit into it and not into a folder of their own under /tmp.
        self.home = Path(tempfile.mkdtemp(prefix="vm-"))
        self.key_file = folder / "client_key"
        public = generate_key(self.key_file)
        (folder / "authorized_keys").write_text(public + "\n")
        self.host_key = folder / "host_key"
        self.host_key_line = self._make_host_key()
        self.mark = secrets.token_hex(8)
        self._options = options
        self._env = {"HOME": str(self.home), MARK: self.mark, **env}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "sshd.log"

    def _make_host_key(self) -> str:
        return generate_key(self.host_key)

    @property
    def host(self) -> str:
        return self._network.there if self._network is not None else "127.0.0.1"

    def target(self, **changes: object) -> SSHTarget:
        values: dict[str, object] = {
            "compute": "host:vm",
            "name": "vm",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "key_files": (str(self.key_file),),
            "pinned_key_id": "11111111-2222-3333-4444-555555555555",
        }
        return SSHTarget(**{**values, **changes})  # type: ignore[arg-type]

    def start(self) -> None:
        command = self._command()
        if self._network is not None:
            command = self._network.command(*command)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                env=self._process_env(),
            )
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as s:
                if s.connect_ex((self.host, self.port)) == 0:
                    return
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def _process_env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], MARK: self.mark}

    def _command(self) -> list[str]:
        """What runs it in the foreground."""
        assert SSHD, "this test needs sshd (Debian: openssh-server)"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation wants it
        environment = " ".join(f'{name}="{value}"' for name, value in self._env.items())
        lines = [
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            "PermitRootLogin yes",
            "MaxStartups 100",
            f"SetEnv {environment}",
            *self._options,
        ]
        version = re.search(
            r"OpenSSH_(\d+)\.(\d+)", subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr
        )
        if version and tuple(map(int, version.groups())) >= (9, 8):
            lines.append("PerSourcePenalties no")  # every test's connections come from one address
        chosen = {line.split()[0] for line in self._options}
        lines = [line for line in lines if line in self._options or line.split()[0] not in chosen]
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        return [SSHD, "-D", "-e", "-f", str(config)]

    def servers(self) -> set[int]:
        """The processes of the SSH server itself: the one that listens, and one or two per connection."""
        found = {pid for pid, command in processes_with(self.mark).items() if self.daemon in command.split(" ")[0]}
        if self._process is not None:
            found |= {self._process.pid} | _descendants(self._process.pid, self.daemon)
        return found

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Its SSH server does not run meanwhile, and nobody is told."""
        pids = self.servers()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop_listening(self) -> None:
        """sshd and its connections end; what it has started goes on, as after a crash of sshd alone."""
        for pid in self.servers():
            _kill(pid)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Everything that runs on this machine ends at once, as when a VM is deallocated; its disk stays."""
        self.stop_listening()
        deadline = time.monotonic() + 10
        while True:
            left = self.processes()
            if not left:
                return
            for pid in left:
                _kill(pid)
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.02)

    def processes(self) -> dict[int, str]:
        """What runs on this machine, sshd itself left out."""
        own = self._process.pid if self._process is not None else None
        return {
            pid: command
            for pid, command in processes_with(self.mark).items()
            if pid != own and self.daemon not in command.split(" ")[0]
        }

    def wait_until_idle(self, seconds: float = 10) -> dict[int, str]:
        """What still runs there once nothing does, or at the latest after ``seconds``."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def _descendants(pid: int, name: str) -> set[int]:
    """sshd's own children have an environment that sshd has overwritten, so they are found by their parent."""
    found: set[int] = set()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in map(int, children):
        try:
            if name in Path(f"/proc/{child}/comm").read_text():
                found |= {child} | _descendants(child, name)
        except OSError:
            pass
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class DropbearServer(SSHServer):
    """The same with dropbear: other ciphers, small windows, no SFTP, no SetEnv. Needs root.

    It takes home folder and authorized keys from the account's entry, so it runs with a passwd file of its own.
    """

    daemon = "dropbear"

    def _make_host_key(self) -> str:
        done = subprocess.run(
            ["dropbearkey", "-t", "ed25519", "-f", self.host_key], capture_output=True, text=True, check=True
        )
        return next(line for line in done.stdout.splitlines() if line.startswith("ssh-ed25519 "))

    def _process_env(self) -> dict[str, str]:
        return {**super()._process_env(), **self._env}

    def _command(self) -> list[str]:
        assert DROPBEAR, "this test needs dropbear (Debian: dropbear-bin)"
        keys = self.home / ".ssh"
        keys.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self.folder / "authorized_keys", keys / "authorized_keys")
        (keys / "authorized_keys").chmod(0o600)
        account = pwd.getpwnam(self.user)
        passwd = self.folder / "passwd"
        passwd.write_text(f"{self.user}:x:{account.pw_uid}:{account.pw_gid}::{self.home}:/bin/bash\n")
        passwd.chmod(0o644)
        dropbear = [DROPBEAR, "-F", "-E", "-m", "-s", "-e", "-p", f"{self.host}:{self.port}", "-r", str(self.host_key)]
        dropbear += ["-P", str(self.folder / "pid"), *self._options]
        script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", str(passwd), *dropbear]


def sshd(
    folder: Path, *options: str, env: dict[str, str] | None = None, network: Network | None = None
) -> contextlib.AbstractContextManager[SSHServer]:
    """A running OpenSSH in the empty ``folder``; ``options`` are further lines of its configuration, ``env`` of its SetEnv."""
    folder.mkdir(parents=True, exist_ok=True)
    return _running(SSHServer(folder, options, env or {}, network))


def dropbear(
    folder: Path, *options: str, env: dict[str, str] | None = None, network: Network | None = None
) -> contextlib.AbstractContextManager[SSHServer]:
    """A running dropbear; ``options`` are further words of its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    return _running(DropbearServer(folder, options, env or {}, network))


@contextlib.contextmanager
def _running(server: SSHServer) -> Iterator[SSHServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(server.home, ignore_errors=True)
    assert not processes_with(server.mark)


@contextlib.contextmanager
def small_disk(home: Path, kib: int) -> Iterator[None]:
    """A disk of so many KiB under that home folder, empty; the test is skipped where nobody may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "tmpfs", home], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs root: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


def fill(path: Path) -> None:
    """Until its disk is full; the file's removal makes room again."""
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


class FlakyTCP:
    """A TCP proxy on loopback whose faults are chosen by the test, or drawn with a seed.

    ``delay``: seconds each way. ``rate``: bytes per second each way. ``cut_every``: (low, high) bytes to the client after
    which connections are reset, drawn from ``seed``. ``stall``: nothing passes, nothing is closed. ``refuse``: new
    connections are reset at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        delay: float = 0.0,
        rate: float | None = None,
        cut_every: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.to = (host, port)
        self.delay = delay
        self.rate = rate
        self.stall = False
        self.refuse = False
        self.cuts = 0
        self._cut_every = cut_every
        self._random = random.Random(seed)
        self._budget = self._draw()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.host, self.port = self._listener.getsockname()
        self._pairs: dict[socket.socket, _Half] = {}
        self._due: list[tuple[float, int, _Half, bytes]] = []
        self._count = itertools.count()
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="flaky-tcp")

    def __enter__(self) -> FlakyTCP:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def cut(self) -> None:
        """Reset every connection now, and return once it is done."""
        self._cut.set()
        while self._cut.is_set() and self._thread.is_alive():
            time.sleep(0.002)

    def _draw(self) -> int | None:
        return None if self._cut_every is None else self._random.randint(*self._cut_every)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        finally:
            self._reset_all()
            self._listener.close()
            self._selector.close()

    def _turn(self) -> None:
        wait = 0.02 if not self._due else min(0.02, max(0.0, self._due[0][0] - time.monotonic()))
        for key, events in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj in self._pairs and not self.stall:
                half = self._pairs[key.fileobj]  # type: ignore[index]
                if events & selectors.EVENT_READ:
                    self._read(half)
                if events & selectors.EVENT_WRITE and half.sock in self._pairs:
                    self._flush(half)
        if self.stall:
            time.sleep(0.01)
        else:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, half, data = heapq.heappop(self._due)
                if half.sock in self._pairs:
                    half.out.append(data)
                    self._flush(half)
        if self._cut.is_set():
            self._reset_all()
            self._cut.clear()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.refuse:
            _reset(client)
            return
        try:
            server = socket.create_connection(self.to)
        except OSError:
            _reset(client)
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        a, b = _Half(client, True), _Half(server, False)
        a.other, b.other = b, a
        for half in (a, b):
            self._pairs[half.sock] = half
            self._selector.register(half.sock, selectors.EVENT_READ)

    def _read(self, half: _Half) -> None:
        # A slow way holds little by itself; what it does not take yet waits in the sender's buffers.
        most = 16 * 1024 * 1024 if self.rate is None else int(self.rate * 0.1)
        if half.other.queued >= most:
            time.sleep(0.002)
            return
        try:
            data = half.sock.recv(min(most, 256 * 1024))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not half.is_client and self._budget is not None:
            self._budget -= len(data)
            if self._budget <= 0:
                self._budget = self._draw()
                self._reset_all()
                return
        half.other.queued += len(data)
        passed = time.monotonic()
        if self.rate is not None:
            passed = half.other.passed = max(passed, half.other.passed) + len(data) / self.rate
        heapq.heappush(self._due, (passed + self.delay, next(self._count), half.other, data))
        if not data:
            self._selector.unregister(half.sock)
            half.ended = True

    def _flush(self, half: _Half) -> None:
        while half.out:
            data = half.out[0]
            if not data:  # the other side has ended
                self._close(half)
                return
            try:
                sent = half.sock.send(data)
            except BlockingIOError:
                break
            except OSError:
                self._close(half)
                return
            half.queued -= sent
            if sent < len(data):
                half.out[0] = data[sent:]
            else:
                half.out.popleft()
        if not half.ended:
            self._selector.modify(half.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if half.out else 0))

    def _close(self, half: _Half) -> None:
        for each in (half, half.other):
            if self._pairs.pop(each.sock, None) is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(each.sock)
                each.sock.close()

    def _reset_all(self) -> None:
        if self._pairs:
            self.cuts += 1
        for half in list(self._pairs.values()):
            with contextlib.suppress(KeyError):
                self._selector.unregister(half.sock)
            _reset(half.sock)
        self._pairs.clear()
        self._due.clear()


class _Half:
    """One of the two sockets of a connection; ``out`` is what is to be written to it."""

    other: _Half

    def __init__(self, sock: socket.socket, is_client: bool) -> None:
        self.sock = sock
        self.is_client = is_client
        self.out: deque[bytes] = deque()
        self.queued = 0
        self.passed = 0.0
        self.ended = False


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
