"""A kernel's channels and arguments, for whoever owns one: the relay on a VM, the local backend in the Jupyter server.

Both have a poll loop of their own, so nothing here waits: the owner registers ``KernelChannels.sockets`` with its
poller once ``try_connect`` has said True. The process is in ``process``.

The channels are ipc sockets in a 0700 folder. What follows from that:

* Kernels disagree on the name. ipykernel and IJulia bind ``<ip>-<port>``, IRkernel ``<ip>:<port>``; we look for both.
* ZeroMQ retries a connect that came too early after 100 ms. We connect when the file is there, so a start does not
  pay for that.
* A killed kernel leaves its socket files behind, so each run of a kernel has names of its own (``r1-…``, ``r2-…``).

A kernel that cannot do ipc is given loopback TCP by its owner (``transport="tcp"``).
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import struct
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence

import zmq

from . import multipart
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


class KernelChannels:
    """The four message channels of one run of a kernel. Belongs to the thread that made it."""

    def __init__(
        self,
        context: Any,
        folder: str,
        run: int = 1,
        transport: str = "ipc",
        unread: int = 0,
        used: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """``folder`` exists and is private; ``context`` is a ``zmq.Context``; ``transport`` is ``ipc`` or ``tcp``.

        ``unread``: messages of IOPub that may wait here until they are read, 0 for any number; others wait in the kernel.
        ``used``: that of the loop which watches ``sockets``.
        """
        self._used = used
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
                # With the default, a kernel that does not wait drops what we are slow to read (24,232 of 30,000 arrive).
                s.rcvhwm = unread
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
        self._used(self.sockets[channel])
        return multipart.send(self.sockets[channel], parts)

    def receive(self, channel: Channel, limit: int = RECEIVE_LIMIT) -> List[List[bytes]]:
        """Up to ``limit`` messages that are there now, each as its parts."""
        s = self.sockets.get(channel)
        if s is None:
            return []
        self._used(s)
        return multipart.receive(s, limit)

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
                    if _event(self._monitors[channel]) == zmq.EVENT_DISCONNECTED:
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


def _event(monitor: Any) -> int:
    """The next event, u16 and u32 in the first part: ``zmq_socket_monitor(3)``. pyzmq's own function imports asyncio and ssl."""
    return int(struct.unpack_from("=H", monitor.recv_multipart(zmq.NOBLOCK)[0])[0])


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


# Its arguments


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
    return _module_at(argv) is not None


def started_by(starter: str, argv: Sequence[str]) -> List[str]:
    """``argv`` with the file ``starter`` (``start_ipykernel.py``) in the place of ``-m ipykernel…``; others as they are."""
    at = _module_at(argv)
    return list(argv) if at is None else [*argv[:at], starter, *argv[at + 2 :]]


def _module_at(argv: Sequence[str]) -> Optional[int]:
    names = ("ipykernel_launcher", "ipykernel")
    return next((i for i, arg in enumerate(argv[:-1]) if arg == "-m" and argv[i + 1] in names), None)
