"""A kernel process and its channels, for whoever owns one: the relay on a VM, the local backend in the Jupyter server.

Both have a poll loop of their own, so nothing here waits: the owner registers ``KernelChannels.sockets`` with its
poller once ``try_connect`` has said True, and calls ``KernelProcess.poll`` now and then.

The channels are ipc sockets in a 0700 folder. What follows from that:

* Kernels disagree on the name. ipykernel and IJulia bind ``<ip>-<port>``, IRkernel ``<ip>:<port>``; we look for both.
* ZeroMQ retries a connect that came too early after 100 ms. We connect when the file is there, so a start does not
  pay for that.
* A killed kernel leaves its socket files behind, so each run of a kernel has names of its own (``r1-…``, ``r2-…``).

A kernel that cannot do ipc is given loopback TCP by its owner (``transport="tcp"``).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
import uuid
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import zmq
from zmq.utils.monitor import recv_monitor_message

from .folders import fits, write_private
from .wire import Channel

PORTS = {Channel.SHELL: 1, Channel.IOPUB: 2, Channel.STDIN: 3, Channel.CONTROL: 4}
"""With ipc a "port" is only the end of a file name. 5 is the heartbeat's, which nobody here listens to."""

HEARTBEAT_PORT = 5

PORT_NAMES = {
    Channel.SHELL: "shell_port",
    Channel.IOPUB: "iopub_port",
    Channel.STDIN: "stdin_port",
    Channel.CONTROL: "control_port",
}

RECEIVE_LIMIT = 64
"""Messages taken from one channel in one turn."""

RECONNECT_MS = 5
RECONNECT_MAX_MS = 1000
"""A socket's file appears at bind, a moment before it listens; that gap must not cost ZeroMQ's 100 ms either."""

LOG_LIMIT = 1024 * 1024
"""What a kernel's log may take on disk, in bytes. Outputs do not go there, only what precedes or escapes them."""

TAIL = 4000
"""Bytes of the log that go into an error."""

_PR_SET_PDEATHSIG = 1  # prctl(2)

GRACE = 5.0
"""Seconds between asking a kernel to end and ending it."""


class KernelChannels:
    """The four message channels of one run of a kernel. Belongs to the thread that made it."""

    def __init__(self, context: Any, folder: str, run: int = 1, transport: str = "ipc") -> None:
        """``folder`` exists and is private; ``context`` is a ``zmq.Context``; ``transport`` is ``ipc`` or ``tcp``."""
        self.transport = transport
        self.sockets: Dict[Channel, Any] = {}
        self._waiting = set(PORTS)
        self._monitors: Dict[Channel, Any] = {}
        self._open: set[Channel] = set()
        if transport == "ipc":
            if not fits(folder):
                raise ValueError(f"the folder {folder} is too long a path for sockets in it")
            self.ip = os.path.join(folder, f"r{run}")
            self.ports = dict(PORTS)
            self.heartbeat_port = HEARTBEAT_PORT
        elif transport == "tcp":
            self.ip = "127.0.0.1"
            free = _free_ports(len(PORTS) + 1)
            self.heartbeat_port = free.pop()
            self.ports = {channel: free.pop() for channel in PORTS}
        else:
            raise ValueError(f"there is no transport {transport!r}")
        # Shell and stdin need one identity: a kernel asks for input by the identity that the request came from.
        identity = uuid.uuid4().hex.encode()
        for channel in PORTS:
            s = context.socket(zmq.SUB if channel is Channel.IOPUB else zmq.DEALER)
            s.linger = 0
            s.set(zmq.RECONNECT_IVL, RECONNECT_MS)
            s.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
            if channel is Channel.IOPUB:
                s.rcvhwm = 0  # the default drops what we are slow to read (measured: 24,232 of 30,000 arrive)
                s.set(zmq.SUBSCRIBE, b"")
            else:
                s.sndhwm = s.rcvhwm = 0
                s.set(zmq.IDENTITY, identity)
            if channel is not Channel.STDIN:
                self._monitors[channel] = s.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                self._open.add(channel)
            self.sockets[channel] = s

    def connection_info(self, key: str, signature_scheme: str = "hmac-sha256", kernel_name: str = "") -> Dict[str, Any]:
        """What the kernel finds in its connection file."""
        info: Dict[str, Any] = {PORT_NAMES[channel]: port for channel, port in self.ports.items()}
        info.update(
            hb_port=self.heartbeat_port,
            ip=self.ip,
            transport=self.transport,
            key=key,
            signature_scheme=signature_scheme,
            kernel_name=kernel_name,
        )
        return info

    def write_connection_file(
        self, path: str, key: str, signature_scheme: str = "hmac-sha256", kernel_name: str = ""
    ) -> None:
        """Write it, 0600, before each run: a kernel may remove it when it ends."""
        write_private(path, json.dumps(self.connection_info(key, signature_scheme, kernel_name), indent=1).encode())

    def try_connect(self) -> bool:
        """Connect what the kernel offers by now; True once that is all of it. Called every 5 to 10 ms until then."""
        for channel in list(self._waiting):
            endpoint = self._offered(self.ports[channel])
            if endpoint is not None:
                self.sockets[channel].connect(endpoint)
                self._waiting.discard(channel)
        return not self._waiting

    @property
    def connected(self) -> bool:
        return not self._waiting

    def _offered(self, port: int) -> Optional[str]:
        if self.transport == "tcp":
            with socket.socket() as probe:
                probe.setblocking(True)  # on loopback this is answered or refused at once
                return f"tcp://{self.ip}:{port}" if probe.connect_ex((self.ip, port)) == 0 else None
        for separator in "-:":
            path = f"{self.ip}{separator}{port}"
            try:
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    return "ipc://" + path
            except OSError:
                pass
        return None

    def send(self, channel: Channel, parts: Sequence[Any]) -> bool:
        """Hand a message on to the kernel's socket. False (not raised) where that channel is not connected."""
        if channel is Channel.IOPUB or channel in self._waiting or channel not in self.sockets:
            return False
        try:
            self.sockets[channel].send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, channel: Channel, limit: int = RECEIVE_LIMIT) -> List[List[bytes]]:
        """Up to ``limit`` messages that are there now, each as its parts."""
        messages: List[List[bytes]] = []
        s = self.sockets.get(channel)
        if s is None:
            return messages
        try:
            while len(messages) < limit:
                messages.append(s.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            pass
        return messages

    def hung_up(self) -> bool:
        """Whether the kernel has closed all its connections, so that what ``receive`` gives now is all there will be.

        Asked after the process has ended, before the last ``receive``. It may stay False where a child of the kernel
        has inherited a socket, so the owner waits for it with a deadline.
        """
        for channel in list(self._open):
            if channel in self._waiting:
                self._open.discard(channel)
                continue
            try:
                while True:
                    if recv_monitor_message(self._monitors[channel], zmq.NOBLOCK)["event"] == zmq.EVENT_DISCONNECTED:
                        self._open.discard(channel)
            except zmq.Again:
                pass
        return not self._open

    def close(self) -> None:
        """Release the sockets and, with ipc, the kernel's socket files. The owner has unregistered the sockets."""
        for channel, s in self.sockets.items():
            if channel in self._monitors:
                s.disable_monitor()
                self._monitors[channel].close(0)
            s.close(0)
        self.sockets.clear()
        self._monitors.clear()
        if self.transport == "ipc":
            for port in (*self.ports.values(), self.heartbeat_port):
                for separator in "-:":
                    try:
                        os.unlink(f"{self.ip}{separator}{port}")
                    except OSError:
                        pass


def _free_ports(count: int) -> List[int]:
    """Free at this moment; the kernel binds them a moment later, so a collision is possible: a failed start."""
    held = []
    try:
        for _ in range(count):
            s = socket.socket()
            held.append(s)
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in held]
    finally:
        for s in held:
            s.close()


# The process


def kernel_argv(argv: Sequence[str], connection_file: str, resource_dir: str = "", session: str = "") -> List[str]:
    """A kernelspec's argv with its placeholders filled in.

    ipykernel is also told which session id to put on its messages; other kernels choose one of their own, and the
    proxy rewrites their headers.
    """
    values = {"connection_file": connection_file, "resource_dir": resource_dir}
    # As jupyter_client does: what is no placeholder of ours stays as it is.
    filled = [re.sub(r"\{([A-Za-z0-9_]+)\}", lambda m: values.get(m.group(1), m.group(0)), arg) for arg in argv]
    if session and is_ipykernel(argv):
        filled.append(f"--Session.session={session}")
    return filled


def is_ipykernel(argv: Sequence[str]) -> bool:
    """Whether this argv is ``python -m ipykernel_launcher …`` or ``python -m ipykernel …``."""
    modules = [argv[i + 1] for i, arg in enumerate(argv[:-1]) if arg == "-m"]
    return "ipykernel_launcher" in modules or "ipykernel" in modules


class KernelProcess:
    """One run of a kernel: a process in a session and process group of its own, with nothing on stdin.

    ``argv`` is complete and ``env`` is all of the environment: whether ``JPY_PARENT_PID`` is in it (a kernel on this
    server ends with the server) or not (a kernel on a VM outlives everything) is the owner's choice. ``log`` is a path
    in a private folder for what the process prints, or None to let it print where the owner prints.
    ``die_with_parent`` (Linux): killed with the thread that starts it, for an owner without whom nobody could reach it.
    Raises ``OSError`` if it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Optional[str],
        log: Optional[str],
        die_with_parent: bool = False,
    ) -> None:
        self._log = log
        self._kill_at: Optional[float] = None
        output: Union[int, Any, None] = None
        if log is not None:
            write_private(log, b"")
            # Append: after the log has been cut, writing goes on at its new end and leaves no hole.
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent() if die_with_parent else None,
            )
        finally:
            if output is not None:
                os.close(output)
        self.pid = self._process.pid
        self.started = time.monotonic()

    def poll(self) -> Optional[int]:
        """The exit code (negative: the signal) once it has ended, else None. Also does what ``end`` has put off.

        With the process its whole group ends: what a cell left running there would otherwise keep memory and GPU.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.kill()
        self._bound_log()
        # Looked at without reaping: as long as the leader is a zombie, its number cannot become another group's.
        if not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return None
        self.signal(signal.SIGKILL)
        return self._process.poll()

    def signal(self, signum: int) -> None:
        """Signal the process group; nothing happens once it has ended."""
        if self._process.returncode is not None:
            return
        try:
            os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):
            pass  # ended, and nobody of the group is left; macOS says EPERM for a group of zombies

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def end(self, grace: float = GRACE) -> None:
        """Ask the process to end; ``poll``, which the owner goes on calling, kills it ``grace`` seconds later."""
        if self._kill_at is None:
            self.signal(signal.SIGTERM)
            # An interrupted or stopped kernel must still get it.
            self.signal(signal.SIGCONT)
        self._kill_at = time.monotonic() + grace

    @property
    def ending(self) -> bool:
        return self._kill_at is not None

    def wait(self, timeout: float) -> Optional[int]:
        """``poll`` until ``timeout``. Only where blocking is right: when the process that owns the kernel ends."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self._process.returncode

    def tail(self, limit: int = TAIL) -> str:
        """The end of what it printed, for an error message. Unsafe text: whoever shows it cleans it."""
        return _tail(self._log, limit).decode("utf-8", "replace") if self._log is not None else ""

    def _bound_log(self) -> None:
        if self._log is None:
            return
        try:
            if os.stat(self._log).st_size > LOG_LIMIT:
                kept = _tail(self._log, LOG_LIMIT // 4)
                with open(self._log, "r+b") as f:
                    f.truncate(0)
                    f.write(kept)
        except OSError:
            pass  # the folder is being removed


def _die_with_parent() -> Optional[Callable[[], None]]:
    """What the child does before exec, prepared here: after a fork nothing should be imported. Only for one-threaded owners."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None  # not Linux
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) and None


def _tail(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - limit))
            return f.read(limit)
    except OSError:
        return b""


def signal_name(code: int) -> str:
    """How a process ended, in words: for ``EXITED`` and for messages."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
