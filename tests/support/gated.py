"""A gate with clients in front of it and kernels behind it, all of them in the test's hands. No sockets.

The process with the gate may die: what the clients had not read is lost, and a new gate adopts the current kernel from
the log of requests that is kept (``kernels/requestlog.py``) and what the relay then says again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.session import Session

from jupyter_dsvm.errors import DSVMError, RelayError
from jupyter_dsvm.kernels.actions import (
    Answered,
    Arrived,
    Carry,
    Failed,
    Heard,
    Insist,
    OwnReply,
    Ready,
    Signal,
    Swapped,
    ToBackend,
    ToClient,
    UserCancelled,
)
from jupyter_dsvm.kernels.gate import Gate
from jupyter_dsvm.kernels.messages import Message, Signer
from jupyter_dsvm.kernels.requestlog import RequestLog
from jupyter_dsvm.relay.wire import Channel

KEY = b"secret"
FRONT = "front-session"


def info(language: str = "python", **more: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "language_info": {"name": language},
        "supported_features": ["kernel subshells", "debugger"],
        **more,
    }


class Asker:
    """One client: makes requests, and has a routing frame that answers must carry."""

    def __init__(self, name: str) -> None:
        self.ident = name.encode()
        self.session = Session(key=KEY, session=f"session-{name}")

    def request(
        self, kind: str, content: dict[str, Any] | None = None, parent: Any = None, **header: Any
    ) -> list[bytes]:
        message = self.session.msg(kind, content=content or {}, parent=parent)
        message["header"].update(header)
        return [self.ident, *self.session.serialize(message)]


@dataclass
class Said:
    """A message that went to clients, as they read it."""

    channel: Channel
    idents: list[bytes]
    type: str
    content: dict[str, Any]
    header: dict[str, Any]
    parent: dict[str, Any]
    again: bool = False
    """Said when a kernel was adopted: it may have been said before."""

    @property
    def about(self) -> str:
        return str(self.parent.get("msg_id", ""))

    @property
    def what(self) -> str:
        """``busy``, ``idle``, or the type and, for a reply, its status."""
        if self.type == "status":
            return str(self.content["execution_state"])
        return f"{self.type}:{self.content['status']}" if self.type.endswith("_reply") else self.type


@dataclass
class Kernel:
    """What a side has received, and its voice. It never answers by itself."""

    number: int
    say: Callable[[Channel, list[bytes]], None]
    session: Session
    received: list[tuple[Channel, Message]] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    journal: list[tuple[Channel, list[bytes]]] = field(default_factory=list)
    """All that it has said, as its relay keeps it."""

    def requests(self, kind: str = "") -> list[Message]:
        return [m for _c, m in self.received if not kind or m.type == kind]

    @property
    def code(self) -> list[str]:
        """The cells that it was given, without the gate's own."""
        return [m.content["code"] for m in self.requests("execute_request") if "cell" in m.content["code"]]

    def message(
        self,
        channel: Channel,
        kind: str,
        content: dict[str, Any],
        parent: Message | dict[str, Any] | None,
        idents: Any = None,
    ) -> str:
        made = self.session.msg(kind, content=content)
        header = parent.header if isinstance(parent, Message) else parent
        made["parent_header"] = header or {}
        if idents is None:
            idents = [f"kernel.x.{kind}".encode()] if channel is Channel.IOPUB else getattr(parent, "idents", [])
        self.say(channel, [*idents, *self.session.serialize(made)])
        return str(made["header"]["msg_id"])

    def publish(self, kind: str, content: dict[str, Any], parent: Message | dict[str, Any] | None) -> str:
        return self.message(Channel.IOPUB, kind, content, parent)

    def status(self, state: str, parent: Message | None) -> None:
        self.publish("status", {"execution_state": state}, parent)

    def reply(self, message: Message, channel: Channel = Channel.SHELL, **content: Any) -> None:
        kind = message.type.rpartition("_")[0] + "_reply"
        self.message(channel, kind, {"status": "ok", **content}, message)

    def answer(self, message: Message, channel: Channel = Channel.SHELL, **content: Any) -> None:
        self.status("busy", message)
        self.reply(message, channel, **content)
        self.status("idle", message)


class Gated:
    def __init__(self, magic: str | None = None) -> None:
        self._magic = magic
        self.gate = self._new_gate()
        self.alice, self.bob = Asker("alice"), Asker("bob")
        self.kernels: dict[int, Kernel] = {}
        self.said: list[Said] = []
        self.ready: list[int] = []
        self.failed: dict[int, DSVMError] = {}
        self.swapped: list[tuple[int, int]] = []
        self.cancelled: list[str] = []
        self.carries: list[tuple[int, int]] = []
        self.insisting: list[tuple[int, str]] = []
        self.own_replies: dict[str, dict[str, Any] | None] = {}
        self.lagging = False
        """The clients do not read."""
        self.unread: deque[tuple[int, ToClient, bool]] = deque()
        """Up to which message of the kernel everything has been read once all before this one has; and ``Said.again``."""
        self.log = RequestLog()
        self.answered: list[Any] = []
        """The keys of ``Arrived``, ``ToBackend`` and ``Answered``."""
        self.asked: list[Any] = []
        self._number = 0
        """Of the current kernel's last message that the gate has seen."""
        self._adopting = False
        self._reader = Session(key=KEY, session="reader", packer="json")

    def _new_gate(self) -> Gate:
        return Gate(Signer(KEY, FRONT, "hmac-sha256", "k1"), lambda: self._magic)

    # The events

    def do(self, event: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """One event, and then all that the gate wants done about it."""
        result = event(*args, **options)
        actions = self.gate.actions
        while actions:
            self._carry_out(actions.pop(0))
        if not self.lagging:
            self.read_all()
        return result

    def read_all(self) -> None:
        while self.unread:
            self._read_one()

    def _read_one(self) -> None:
        _upto, action, again = self.unread.popleft()
        said = self._read(action.channel, action.parts)
        said.again = again
        self.said.append(said)

    def _carry_out(self, action: Any) -> None:
        if isinstance(action, ToClient):
            self.unread.append((self._upto(action), action, self._adopting))
        elif isinstance(action, ToBackend):
            self.kernels[action.side].received.append((action.channel, Message(action.parts)))
            if action.key is not None:
                self.asked.append(action.key)
                self.log.sent(action.key, action.channel, 1, action.parts)
        elif isinstance(action, Arrived):
            self.asked.append(action.key)
            self.log.arrived(action.key, action.parts)
        elif isinstance(action, Heard):
            self.log.heard(action.key, action.what, self._number)
        elif isinstance(action, Answered):
            self.answered.append(action.key)
            self.log.answered(action.key, action.here, self._number)
        elif isinstance(action, Signal):
            self.kernels[action.side].signals.append(action.signum)
        elif isinstance(action, Ready):
            self.ready.append(action.side)
        elif isinstance(action, Failed):
            self.failed[action.side] = action.error
        elif isinstance(action, Carry):
            self.carries.append((action.old, action.new))
        elif isinstance(action, Insist):
            self.insisting.append((action.side, action.msg_id))
        elif isinstance(action, OwnReply):
            assert action.msg_id not in self.own_replies, "one answer to each"
            self.own_replies[action.msg_id] = action.content
        elif isinstance(action, Swapped):
            self.swapped.append((action.old, action.new))
            self.moved(action.new)
        elif isinstance(action, UserCancelled):
            self.cancelled.append(action.reason)

    def moved(self, number: int) -> None:
        """That side has the kernel now, and what is kept is about that one."""
        self.read_all()
        self._number = len(self.kernels[number].journal)
        self.log.elsewhere()

    def _upto(self, action: ToClient) -> int:
        """Up to where the kernel's messages are read when all before this has been."""
        current = self.gate.current
        journal = self.kernels[current.number].journal if current is not None else []
        if not 0 < self._number <= len(journal):
            return self._number
        of_kernel = Message(action.parts).id == Message(journal[self._number - 1][1]).id
        return self._number - 1 if of_kernel else self._number

    def die(self, reads: int = 0, before_it_is_heard: Callable[[], object] = lambda: None) -> Kernel:
        """The gate's process is killed when the clients have read so many more messages; another one adopts the kernel.
        ``before_it_is_heard``: what happens then before the kernel is heard again."""
        old = self.gate.current
        assert old is not None
        for _ in range(min(reads, len(self.unread))):
            self._read_one()
        handed = self.unread[0][0] if self.unread else self._number
        self.unread.clear()
        kernel, info = self.kernels[old.number], self.gate.info
        self.log = RequestLog.read(b"".join(self.log.lines()))
        self.log.forget(handed)
        self.gate, self._number, self._adopting = self._new_gate(), handed, True
        number = self.gate.add(old.compute_name, old.language, old.interrupt_mode, trusted=False)
        self.kernels = {number: kernel}
        kernel.number = number
        kept = [r.request(handed) for r in self.log.requests.values() if not r.done(handed)]
        self.do(self.gate.adopt, number, info, kept, list(self.log.finished))
        self._adopting = False
        before_it_is_heard()
        for at, (channel, parts) in enumerate(kernel.journal[handed:], handed + 1):
            self._hear(kernel, at, channel, parts)
        return kernel

    def _hear(self, kernel: Kernel, at: int, channel: Channel, parts: list[bytes]) -> None:
        if self.gate.current is not None and self.gate.current.number == kernel.number:
            self._number = at
        self.do(self.gate.from_backend, kernel.number, channel, parts)

    def _read(self, channel: Channel, parts: list[bytes]) -> Said:
        """As any client would: the signature holds, nothing comes twice, and the session never changes."""
        idents, rest = self._reader.feed_identities(parts)
        read = self._reader.deserialize(rest)
        assert read["header"]["session"] == FRONT
        return Said(channel, idents, read["header"]["msg_type"], read["content"], read["header"], read["parent_header"])

    # Kernels

    def add(
        self, name: str = "Free tier", language: str = "python", mode: str = "signal", trusted: bool = True
    ) -> Kernel:
        number = self.do(self.gate.add, name, language, mode, trusted=trusted)

        def say(channel: Channel, parts: list[bytes]) -> None:
            kernel.journal.append((channel, parts))
            self._hear(kernel, len(kernel.journal), channel, parts)

        kernel = self.kernels[number] = Kernel(number, say, Session(key=KEY, session=f"session-of-{number}"))
        return kernel

    def launch(self, **options: Any) -> Kernel:
        """A kernel that is the current one, and READY."""
        kernel = self.add(**options)
        self.do(self.gate.launched, kernel.number)
        self.moved(kernel.number)
        return self.come_up(kernel)

    def prepare(self, **options: Any) -> Kernel:
        """A kernel beside it, READY."""
        return self.come_up(self.add(**options))

    def come_up(self, kernel: Kernel, language: str = "python") -> Kernel:
        self.do(self.gate.started, kernel.number)
        self.answer_own(kernel, language)
        return kernel

    def answer_own(self, kernel: Kernel, language: str = "python") -> None:
        """What the gate itself has asked, and asks in answer to that."""
        while own := [(c, m) for c, m in kernel.received if m.header["session"] == FRONT]:
            channel, message = own[0]
            kernel.received.remove(own[0])
            kernel.answer(message, channel, **(info(language) if message.type == "kernel_info_request" else {}))

    def swap(self, kernel: Kernel, carry: bool = False) -> None:
        self.do(self.gate.swap, kernel.number, carry)

    def insist(self) -> None:
        """The seconds after which code of ours is interrupted are over."""
        insisting, self.insisting = self.insisting, []
        for side, msg_id in insisting:
            self.do(self.gate.insist, side, msg_id)

    def ask_code(self, kernel: Kernel, code: str = "code of ours") -> str:
        """What is asked of a kernel to carry its variables; the id."""
        msg_id = self.do(self.gate.ask, kernel.number, code, {"x": "1"})
        assert isinstance(msg_id, str)
        return msg_id

    # Clients

    def ask(
        self,
        kind: str,
        content: Any = None,
        channel: Channel = Channel.SHELL,
        asker: Asker | None = None,
        **header: Any,
    ) -> str:
        parts = (asker or self.alice).request(kind, content, **header)
        self.do(self.gate.from_client, channel, parts)
        return Message(parts).id

    def cell(self, name: str = "cell", **content: Any) -> str:
        return self.ask("execute_request", {"code": name, **content})

    def control(self, kind: str, content: Any = None) -> str:
        return self.ask(kind, content, Channel.CONTROL)

    def about(self, msg_id: str) -> list[str]:
        """All that clients heard about a request, in order."""
        return [s.what for s in self.said if s.about == msg_id]

    def replies(self, msg_id: str) -> list[Said]:
        return [
            s for s in self.said if s.about == msg_id and s.type.endswith("_reply") and s.channel is not Channel.IOPUB
        ]


GONE = RelayError("The machine was deallocated.", code="KernelGone")
