"""Kernels on a VM without a proxy before them: a pipe to a real SSH server, and what stands in the proxy's place."""

from __future__ import annotations

import contextlib
import queue
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from jupyter_client.session import Session

from jupyter_dsvm.errors import DSVMError
from jupyter_dsvm.kernels.iothread import IOThread
from jupyter_dsvm.kernels.keptfiles import KeptKernel
from jupyter_dsvm.kernels.link import RelayBackend
from jupyter_dsvm.kernels.vmpipe import PipeTimes, VMPipe
from jupyter_dsvm.models import LinkPhase, LinkState
from jupyter_dsvm.relay.wire import Channel
from jupyter_dsvm.ssh.hostkeys import HostKeys

from .sshd import SSHServer

QUICK = PipeTimes(
    ping=0.3, deadline=1.0, reconnect=2.0, answer=1.0, first_wait=0.05, longest_wait=0.3, refused_wait=0.1, ask_gone=0.2
)
"""For tests whose subject is not the times themselves."""


def open_pipe(server: SSHServer, port: int | None = None, **options: Any) -> VMPipe:
    host_keys = HostKeys(server.folder / "pins", [])
    host_keys.pin(server.target().pinned_key_id or "", server.host_key_line)
    target = server.target(python=sys.executable, **({"host": "127.0.0.1", "port": port} if port else {}))
    options.setdefault("times", QUICK)
    return VMPipe.open(lambda: target, host_keys, **options)


@contextlib.contextmanager
def piped(server: SSHServer, port: int | None = None, **options: Any) -> Iterator[VMPipe]:
    pipe = open_pipe(server, port, **options)
    try:
        yield pipe
    finally:
        pipe.release()
        pipe.close()


def backend_on(pipe: VMPipe, kernel_id: str, key: bytes, session: str, **spec: Any) -> RelayBackend:
    """A backend for a new Python kernel on that machine; ``spec`` is put into its START."""
    start = {
        "kernel_id": kernel_id,
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "env": {},
        "cwd": None,
        "key": key.decode(),
        "session": session,
        "signature_scheme": "hmac-sha256",
        "kernel_name": "python3",
        "interrupt_mode": "signal",
        "resource_dir": "",
        **spec,
    }
    return pipe.backend(
        kernel_id,
        start,
        compute="host:vm",
        compute_name="vm",
        kernelspec="python3",
        language="python",
        interrupt_mode="signal",
    )


class Kernel:
    """What the proxy is to a backend: gathers what comes, and speaks the messages of a client."""

    def __init__(self, pipe: VMPipe, **spec: Any) -> None:
        self._begin(pipe, str(uuid.uuid4()), uuid.uuid4().hex.encode())
        self.backend = backend_on(pipe, self.id, self.session.key, self.session.session, **spec)
        self.io.call_soon(self.backend.start, self)

    def _begin(self, pipe: VMPipe, kernel_id: str, key: bytes) -> None:
        self.id = kernel_id
        self.session = Session(key=key)
        self.io = pipe.io
        self.got: queue.Queue[tuple[Channel, dict[str, Any]]] = queue.Queue()
        self.kept: list[dict[str, Any]] = []
        self.links: list[LinkState] = []
        self.starts = 0
        self.exits: list[tuple[int, str]] = []
        self.error: DSVMError | None = None
        self.calls: list[tuple[int, dict[str, Any]]] = []
        self.acknowledging = True
        """Whether what comes counts as handed on."""

    @classmethod
    def heir(cls, pipe: VMPipe, earlier: Kernel) -> Kernel:
        """What a later server process is to the kernel of ``earlier``, which still believes that it is attached."""
        self = cls.__new__(cls)
        self._begin(pipe, earlier.id, earlier.session.key)
        assert pipe.retain()
        self.backend = RelayBackend.adopting(pipe, earlier.written_down(), 0)
        self.io.call_soon(self.backend.start, self)
        return self

    def written_down(self) -> KeptKernel:
        """What a later server process finds of it."""
        ends = self.backend.ends
        assert ends is not None
        return KeptKernel(
            kernel_id=self.id,
            kernel_name="python3",
            key=self.session.key.decode(),
            signature_scheme="hmac-sha256",
            session=self.session.session,
            ip="127.0.0.1",
            ports={},
            compute="host:vm",
            compute_name="vm",
            kernelspec="python3",
            language="python",
            interrupt_mode="signal",
            **ends._asdict(),
        )

    # BackendEvents, on the I/O thread

    def started(self, backend: RelayBackend) -> None:
        assert IOThread._shared is not None
        assert IOThread._shared.here
        self.starts += 1

    def message(self, backend: RelayBackend, channel: Channel, parts: list[bytes], number: int = 0) -> None:
        _, rest = self.session.feed_identities(parts)
        self.got.put((channel, self.session.deserialize(rest)))
        if self.acknowledging:
            backend.handed_on(number)

    def adopted(self, backend: RelayBackend, received_upto: int) -> None:
        self.starts += 1

    def link(self, backend: RelayBackend, state: LinkState) -> None:
        self.links.append(state)

    def exited(self, backend: RelayBackend, code: int, text: str) -> None:
        self.exits.append((code, text))

    def gone(self, backend: RelayBackend, error: DSVMError) -> None:
        self.error = error

    def call(self, backend: RelayBackend, call_id: int, request: dict[str, Any]) -> None:
        self.calls.append((call_id, request))

    # The client's side

    @property
    def phase(self) -> LinkPhase | None:
        """None before the first word about the link."""
        return self.links[-1].state if self.links else None

    @property
    def reason(self) -> str:
        return self.links[-1].reason if self.links else ""

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.error is None or condition(), self.error
            assert time.monotonic() < deadline, f"{self.links}, {self.exits}, {self.error}"
            time.sleep(0.005)

    def send(self, channel: Channel, kind: str, content: dict[str, Any], parent: Any = None) -> str:
        message = self.session.msg(kind, content=content, parent=parent)
        parts = self.session.serialize(message)
        self.io.call_soon(self.backend.send, channel, parts)
        return str(message["header"]["msg_id"])

    def execute(self, code: str, stdin: bool = False) -> str:
        return self.send(
            Channel.SHELL,
            "execute_request",
            {"code": code, "silent": False, "allow_stdin": stdin, "stop_on_error": True, "user_expressions": {}},
        )

    def next(self, kind: str, parent: str | None = None, seconds: float = 20) -> dict[str, Any]:
        """The next message of that type, for that request; others stay for later calls."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self.kept:
                if message["msg_type"] == kind and parent in (None, message["parent_header"].get("msg_id")):
                    self.kept.remove(message)
                    return message
            assert self.error is None, self.error
            assert time.monotonic() < deadline, f"no {kind}; {self.links}, {self.exits}"
            with contextlib.suppress(queue.Empty):
                self.kept.append(self.got.get(timeout=min(0.5, seconds))[1])

    def output(self, code: str, seconds: float = 30) -> str:
        """What that cell prints, up to its idle status."""
        parent = self.execute(code)
        text = []
        deadline = time.monotonic() + seconds
        while True:
            _, message = self.got.get(timeout=max(0.01, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != parent:
                continue
            if message["msg_type"] == "stream":
                text.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                raise AssertionError(message["content"])
            elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return "".join(text)

    def ready(self) -> Kernel:
        self.until(lambda: self.starts == 1)
        # A kernel's IOPub may not have subscribed yet when it starts; the proxy asks until it is heard.
        while True:
            self.send(Channel.SHELL, "kernel_info_request", {})
            with contextlib.suppress(AssertionError):
                self.next("status", seconds=0.5)
                return self

    def end(self) -> None:
        """Returns once the relay has confirmed it and gone."""
        self.io.call_soon(self.backend.end)
        self.until(lambda: self.backend.over)
        assert self.exits


def forget_everything(server: SSHServer) -> None:
    """Each test begins with no kernel there."""
    left = server.wait_until_idle(10)
    assert not left, left
