"""The server's end of a relay, over a real attach pipe in a subprocess: everything but SSH is the real thing."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.session import Session as Messages

from jupyter_dsvm.relay.session import Attached, Event, Gone, HungUp, Received, Role, Session
from jupyter_dsvm.relay.stream import Stream
from jupyter_dsvm.relay.wire import (
    PIPE,
    Channel,
    Frame,
    MessageAssembler,
    Type,
    WireError,
    call_body,
    data_bodies,
    interrupt_body,
    json_body,
    kernel_tag,
    read_call,
    read_json,
    signal_body,
    u64_body,
)

PACKAGE = Path(__file__).parents[2] / "jupyter_dsvm" / "relay"
LOAD = "import sys; sys.path.insert(0, {zip!r}); {before}; from relay import pipe; pipe.main()"


def ship(folder: Path) -> Path:
    """The zip that a VM gets."""
    path = folder / "relay.zip"
    with zipfile.ZipFile(path, "w") as z:
        for source in sorted(PACKAGE.glob("*.py")):
            z.write(source, f"relay/{source.name}")
    return path


class Machine:
    """A home folder of its own, and every process that was started in it."""

    def __init__(self, home: Path, python: str = sys.executable, before: str = "pass") -> None:
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.zip = ship(home)
        self.python = python
        self.before = before
        self.mark = uuid.uuid4().hex

    @property
    def kernels(self) -> Path:
        return self.home / ".local/share/jupyter-dsvm/kernels"

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("JPY_", "JUPYTER", "IPYTHON", "XDG_"))}
        return {**env, "HOME": str(self.home), "DSVM_TEST_MACHINE": self.mark}

    def processes(self) -> dict[int, str]:
        """What runs on it, except zombies that the test still has to reap."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                environ = Path(f"/proc/{entry}/environ").read_bytes()
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if self.mark.encode() in environ:
                found[int(entry)] = command
        return found

    def wait_empty(self, seconds: float = 10) -> None:
        until(lambda: not self.processes(), seconds, lambda: f"still running: {self.processes()}")

    def end(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


@contextmanager
def machine(home: Path, **more: Any) -> Iterator[Machine]:
    it = Machine(home, **more)
    try:
        yield it
    finally:
        it.end()


def until(true: Callable[[], Any], seconds: float = 10, what: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


class PipeEnd:
    """One attach pipe."""

    def __init__(self, on: Machine) -> None:
        self.process = subprocess.Popen(
            [on.python, "-c", LOAD.format(zip=str(on.zip), before=on.before)],
            env=on.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=on.home,
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stream = Stream(os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno()))
        self.process.stdin.close()
        self.process.stdout.close()
        self.kernels: dict[bytes, KernelEnd] = {}
        self.own: list[Frame] = []
        self.unclaimed: list[Frame] = []
        self.ended = False
        self.reading = True

    def turn(self, seconds: float = 0.01) -> None:
        for kernel in self.kernels.values():
            self.stream.queue(kernel.session.frames_to_send(1 << 18))
        try:
            self.stream.flush()
        except OSError:
            self.ended = True
        if not self.reading:
            time.sleep(seconds)
            return
        if not select.select([self.stream.read_fd], [], [], seconds)[0]:
            return
        frames = self.stream.read()
        if frames is None:
            self.ended = True
            return
        for frame in frames:
            if frame.kernel == PIPE and frame.type == Type.PING:
                self.stream.queue([Frame(Type.PONG, PIPE, 0, frame.body)], urgent=True)
            elif frame.kernel == PIPE:
                self.own.append(frame)
            elif frame.kernel in self.kernels:
                self.kernels[frame.kernel].frame(frame)
            else:
                self.unclaimed.append(frame)

    def wait(self, true: Callable[[], Any], seconds: float = 20, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, what or "it did not happen in time"
            assert not self.ended, "the pipe has ended"
            self.turn()

    def ask(self, op: str, seconds: float = 20, /, **arguments: Any) -> dict[str, Any]:
        call_id = uuid.uuid4().int >> 64
        self.stream.queue([Frame(Type.CALL, PIPE, 0, call_body(call_id, {**arguments, "op": op}))])
        answers: list[dict[str, Any]] = []

        def answered() -> bool:
            answers.extend(v for f in self.own if f.type == Type.RESULT for i, v in [read_call(f.body)] if i == call_id)
            return bool(answers)

        self.wait(answered, seconds)
        return answers[0]

    def ping(self) -> float:
        """Seconds until the PONG."""
        self.own.clear()
        start = time.monotonic()
        self.stream.queue([Frame(Type.PING, PIPE, 0, u64_body(7))])
        self.wait(lambda: any(f.type == Type.PONG and f.body == u64_body(7) for f in self.own))
        return time.monotonic() - start

    def cut(self) -> None:
        """End it from this side, as when SSH is cut."""
        for kernel in self.kernels.values():
            kernel.session.detach()
        self.kernels.clear()
        self.stream.close()
        assert self.process.wait(10) is not None


@contextmanager
def pipe(on: Machine) -> Iterator[PipeEnd]:
    it = PipeEnd(on)
    try:
        yield it
    finally:
        it.cut()


class KernelEnd:
    """What a link does for one kernel, reduced to what tests look at."""

    def __init__(self, kernel_id: str = "") -> None:
        self.kernel_id = kernel_id or str(uuid.uuid4())
        self.tag = kernel_tag(self.kernel_id)
        self.session = Session(Role.SERVER, self.tag)
        self.messages = Messages(key=b"a key of 32 characters or so", session=uuid.uuid4().hex)
        self.assembler = MessageAssembler()
        self.events: list[Event] = []
        self.got: list[tuple[Channel, dict[str, Any]]] = []
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.numbers: list[int] = []
        """Of the last frame of each message in ``got``."""
        self.error: WireError | None = None
        self.raw_bytes = 0
        self.acknowledging = True
        """Otherwise everything is only taken."""

    def adopter(self, received_upto: int) -> KernelEnd:
        """What a server that starts again makes of what this one had written down."""
        it = KernelEnd(self.kernel_id)
        known = self.session
        it.session = Session.adopting(self.tag, known.epoch, known.peer_epoch, received_upto)
        it.messages = Messages(key=self.messages.key, session=self.messages.session)
        return it

    def attach(self, through: PipeEnd, create: bool = False, **more: Any) -> None:
        through.kernels[self.tag] = self
        self.session.attach(create=create, **more)

    def frame(self, frame: Frame) -> None:
        try:
            events = self.session.receive(frame)
        except WireError as e:
            self.error = e
            raise
        for event in events:
            self.events.append(event)
            if isinstance(event, (HungUp, Gone)):
                self.session.detach()
            if not isinstance(event, Received):
                continue
            if event.type == Type.DATA:
                message = self.assembler.feed(event.body)
                if message is not None:
                    channel, parts = message
                    self.raw_bytes += sum(map(len, parts))
                    _, rest = self.messages.feed_identities(parts)
                    self.got.append((channel, self.messages.deserialize(rest)))
                    self.numbers.append(event.seq)
            elif event.type == Type.CALL:
                self.told.append((event.type, dict(zip(("id", "request"), read_call(event.body), strict=True))))
            else:
                self.told.append((event.type, read_json(event.body)))
            if event.seq and self.acknowledging:
                self.session.delivered(event.seq)
            elif event.seq:
                self.session.consumed(event.seq)

    def start(self, argv: list[str], **more: Any) -> None:
        spec = {
            "kernel_id": self.kernel_id,
            "argv": argv,
            "env": {},
            "cwd": None,
            "key": self.messages.key.decode(),
            "signature_scheme": "hmac-sha256",
            "session": self.messages.session,
            "kernel_name": "python3",
            "interrupt_mode": "signal",
            "resource_dir": "",
            **more,
        }
        self.session.send(Type.START, json_body(spec))

    def send(self, channel: Channel, kind: str, content: dict[str, Any]) -> str:
        message = self.messages.msg(kind, content)
        for body in data_bodies(channel, self.messages.serialize(message)):
            self.session.send(Type.DATA, body)
        return str(message["header"]["msg_id"])

    def execute(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        return self.send(Channel.SHELL, "execute_request", {**content, "stop_on_error": True})

    def signal(self, signum: int) -> bool:
        return self.session.pass_by(Type.SIGNAL, signal_body(signum))

    def interrupt(self) -> bool:
        parts = self.messages.serialize(self.messages.msg("interrupt_request", {}))
        return self.session.pass_by(Type.INTERRUPT, interrupt_body(parts))

    def of(self, kind: str, parent: str | None = None) -> list[dict[str, Any]]:
        """Messages of a type, for one request."""
        return [
            m
            for _, m in self.got
            if m["header"]["msg_type"] == kind and (parent is None or m["parent_header"].get("msg_id") == parent)
        ]

    def text(self, parent: str | None = None) -> str:
        return "".join(m["content"]["text"] for m in self.of("stream", parent) if m["content"]["name"] == "stdout")

    def done(self, parent: str) -> bool:
        """Its reply and its idle status have come."""
        idle = any(m["content"]["execution_state"] == "idle" for m in self.of("status", parent))
        return idle and bool(self.of("execute_reply", parent))

    def happened(self, type: int) -> list[dict[str, Any]]:
        return [body for kind, body in self.told if kind == type]

    @property
    def hung_up(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, HungUp)]

    @property
    def gone(self) -> list[str]:
        return [e.text for e in self.events if isinstance(e, Gone)]

    @property
    def attachments(self) -> int:
        return len(self.hellos)

    @property
    def hellos(self) -> list[dict[str, Any]]:
        """What the relay has said at each attach."""
        return [e.hello for e in self.events if isinstance(e, Attached)]
