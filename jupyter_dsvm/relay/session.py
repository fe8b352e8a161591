"""One end of the conversation about one kernel, over any number of connections. Pure: frames in, frames and events out.

The relay and the server's link use the same class. The rules, for each direction:

1. Everything that must not be lost is *sequenced*: it gets the next number from 1, and stays in the sender's journal
   until the receiver has acknowledged it. The journal is trimmed on an ACK and on nothing else.
2. A connection begins with a HELLO each way, the server's first, which says how far the sender of it has received. Replay
   is then nothing special: each end sends from the number after that one, and what is new follows.
3. The receiver passes sequenced frames on once and in order. What it has already is dropped (a peer may send it twice); a
   number beyond the next one is a protocol error, since a stream loses nothing in its middle.
4. ACK says "handed on": to the kernel's socket, or to the notebook's clients. CREDIT says "room again". They differ for a
   message that is longer than the window: its pieces are taken (``consumed``) long before it is whole (``delivered``).
5. Credit is counted in bytes of sequenced bodies since the first frame, not since the connection began. So a replay
   needs none of its own, and a cut leaves no count to repair.
6. SIGNAL and INTERRUPT have no number. They are refused while detached: a late interrupt stops the wrong cell.
7. Each end has an epoch, a random word for the life of its state. A peer with another epoch than before has lost that
   state, or is another process, and nothing can be resumed: ``EpochChanged``, and the connection is of no use.
8. A server that starts again *adopts* (``Session.adopting``): it shows the epoch of its predecessor and up to where the
   clients had been served. The relay counts that as an ACK and says with which numbers and byte counts both
   directions go on. From then on the predecessor, should it still live, is refused.

``docs/protocol.md`` has all of it with pictures, for whoever writes another end.

    state       attach()   receive(HELLO)   receive(other)             detach()
    DETACHED    GREETING   error            error                      DETACHED
    GREETING    error      ATTACHED         error, but GOODBYE, GONE   DETACHED
    ATTACHED    error      error            by type                    DETACHED

An error is a ``WireError``, and is the peer's fault; nothing else is raised for what a peer sends. After one, say
``goodbye("protocol")``, close the connection and ``detach``; the session itself stays sound, and a new connection resumes.
"""

from __future__ import annotations

import enum
import uuid
from collections import deque
from typing import Any, Deque, Dict, FrozenSet, Iterator, List, Optional, Tuple, Union

from .events import Attached, EpochChanged, Event, Gone, HungUp, Received
from .hello import ADOPTION, MAX_WORD, Base, Hello, read_base, read_hello
from .journal import Journal
from .window import Window
from .wire import (
    MAX_BODY,
    MAX_FRAME,
    PIPE,
    SEQUENCED,
    VERSION,
    Buffer,
    Frame,
    Type,
    WireError,
    json_body,
    read_json,
    read_u64,
    u64_body,
)

CREDIT = 16 * 1024 * 1024
"""How many bytes may be under way to a receiver that has taken none of them."""

AHEAD = 64 * 1024
"""Bytes that a server sends a relay which is just being made for it, before the relay has answered its HELLO."""

SINCE: Dict[int, int] = {Type.INTERRUPT: 2}
"""The first version that knows a type, where that is not 1."""


class Role(enum.Enum):
    RELAY = "relay"
    SERVER = "server"


class State(enum.Enum):
    DETACHED = "detached"
    GREETING = "greeting"
    ATTACHED = "attached"


_BOTH = frozenset({Type.HELLO, Type.DATA, Type.ACK, Type.CREDIT, Type.PING, Type.PONG, Type.GOODBYE})
RECEIVABLE: Dict[Role, FrozenSet[int]] = {
    Role.RELAY: _BOTH | {Type.START, Type.SIGNAL, Type.INTERRUPT, Type.RESTART, Type.SHUTDOWN, Type.RESULT},
    Role.SERVER: _BOTH | {Type.CALL, Type.STARTED, Type.EXITED, Type.OMITTED, Type.NOTE, Type.GONE},
}
"""What each role may be sent. Types that this version does not know pass, and whoever gets the event ignores them."""

_KNOWN = frozenset(Type)


class Session:
    def __init__(
        self,
        role: Role,
        tag: bytes = PIPE,
        epoch: str = "",
        version: int = VERSION,
        credit: int = CREDIT,
        journal: Optional[Journal] = None,
    ) -> None:
        """``tag`` goes on every frame. Without ``epoch``, a random one. ``credit``: the window that the peer is given."""
        if credit < MAX_FRAME:
            raise ValueError(f"a window of {credit} bytes cannot take a frame of {MAX_FRAME}")
        self.role = role
        self.tag = tag
        self.epoch = epoch or uuid.uuid4().hex
        self.peer_epoch = ""
        self.process = uuid.uuid4().hex  # tells an adopter, which has the epoch of its predecessor, from that one
        self._peer_process = ""
        self._connection = 0  # which one of this process it is
        self._peer_connection = 0
        self._adopting = False
        self._early: List[Tuple[int, Buffer]] = []  # what an adopter sends before it knows the numbers
        self.state = State.DETACHED
        self.version = version
        """The version spoken: ours, or the peer's from its HELLO on if that is lower."""
        self.journal = journal if journal is not None else Journal()
        self._own_version = version
        self._window = Window(credit)
        # Sending
        self._next = 1
        self._sent = 0  # the highest number that ever left
        self.acked = 0
        """The peer has handed on everything up to this number."""
        self._peer_credit = 0
        self._ahead = False  # this connection is one to a relay that is made for it
        self._hello: Optional[Dict[str, Any]] = None  # not sent yet: what else it says
        self._urgent: Deque[Frame] = deque()
        self._passing: Deque[Frame] = deque()

    @classmethod
    def adopting(cls, tag: bytes, epoch: str, peer_epoch: str, received_upto: int = 0, credit: int = CREDIT) -> Session:
        """The server's end of a relay that an earlier server process was attached to.

        ``epoch`` and ``peer_epoch`` are those of the earlier session. ``received_upto``: all clients have everything up to
        this number, the end of a message (0 where that is not known). Once ``Attached``, it is a session like any other.

        In the ``hello`` that comes with ``Attached``, ``base`` says after which number the relay goes on, ``received_upto``
        what it had received of the earlier server (what that had sent under a higher number never arrived), and
        ``kernel`` what had been told of the kernel up to the base.
        """
        session = cls(Role.SERVER, tag, epoch, credit=credit)
        session.peer_epoch = peer_epoch
        session._window.received = received_upto
        session._adopting = True
        return session

    @property
    def received(self) -> int:
        """Everything up to this number has come and was given out as an event."""
        return self._window.received

    # A connection

    @property
    def attached(self) -> bool:
        return self.state is State.ATTACHED

    def attach(self, **more: Any) -> None:
        """A new connection: our first frame is HELLO, with ``more`` in it; a relay's follows the server's. Detached before."""
        assert self.state is State.DETACHED, "detach() comes before attach()"
        self.state = State.GREETING
        self._connection += 1
        self._hello = more
        # Any relay gives more credit than that, and one that was made just now has received nothing.
        self._ahead = more.get("create") is True and not self.peer_epoch and self.role is Role.SERVER
        if self._ahead:
            self._next = 1
        self._window.connect()

    def add_to_hello(self, **more: Any) -> None:
        """Say more in our HELLO. For a relay that has just got the server's (``Attached``) and has not answered."""
        assert self._hello is not None, "it has been sent"
        self._hello.update(more)

    def detach(self) -> None:
        """The connection is gone. What was sequenced is kept, everything else forgotten."""
        self.state = State.DETACHED
        self._hello = None
        self._urgent.clear()
        self._passing.clear()
        self._peer_credit = 0

    def goodbye(self, reason: str, text: str = "") -> Frame:
        """The last frame of a connection, for the caller to send in place of whatever else was waiting."""
        return Frame(
            Type.GOODBYE, self.tag, 0, json_body({"reason": reason, "text": text, "version": self._own_version})
        )

    # Sending

    def knows(self, type: int) -> bool:
        """Whether the peer knows this type of frame, as far as its version says."""
        return self.version >= SINCE.get(type, 1)

    def send(self, type: int, body: Buffer) -> int:
        """Send a sequenced frame, now or when there is a connection again; its number. ``ValueError`` if the body is too long.

        Numbers that an adopter's session gives before it is attached begin at 1; ``Attached.renumbered`` makes them right.
        """
        assert type in SEQUENCED, f"{type!r} has no sequence number; pass_by() sends it"
        if len(body) > MAX_BODY:
            raise ValueError(f"a body of {len(body)} bytes does not fit a frame")
        if self._adopting:
            self._early.append((type, body))
            return len(self._early)
        return self.journal.append(type, body)

    def pass_by(self, type: int, body: Buffer) -> bool:
        """Send an unsequenced frame (SIGNAL, PING) if there is a connection; False, and it is dropped, if not."""
        if self.state is not State.ATTACHED:
            return False
        self._passing.append(Frame(type, self.tag, 0, body))
        return True

    def frames_to_send(self, max_bytes: int) -> List[Frame]:
        """What may go out now, about ``max_bytes`` of it (always at least one frame if one may). Call again when sent.

        Acknowledgements go first. A SIGNAL goes after the sequenced frames of the same turn, so that it does not overtake the
        request it means, but not after what credit or a long queue holds back.
        """
        frames = []
        if self._hello_due:
            frames.append(self._our_hello())
        frames.extend(self._urgent)
        self._urgent.clear()
        if self.state is not State.ATTACHED:
            frames.extend(self._sequenced_frames(max_bytes))
            return frames
        if self._window.ack_waits:
            frames.append(Frame(Type.ACK, self.tag, 0, u64_body(self._window.ack())))
        if self._window.credit_due:
            frames.append(Frame(Type.CREDIT, self.tag, 0, u64_body(self._window.credit())))
        frames.extend(self._sequenced_frames(max_bytes))
        frames.extend(self._passing)
        self._passing.clear()
        return frames

    def _sequenced_frames(self, room: int) -> Iterator[Frame]:
        credit = self._credit
        while room > 0:
            entry = self.journal.get(self._next) if credit else None
            if entry is None or entry.end > credit:
                return
            yield Frame(entry.type, self.tag, self._next, entry.body)
            room -= len(entry.body)
            self._sent = max(self._sent, self._next)
            self._next += 1

    @property
    def _credit(self) -> int:
        if self.state is State.ATTACHED:
            return self._peer_credit
        return AHEAD if self.state is State.GREETING and self._ahead else 0

    @property
    def can_send(self) -> bool:
        """Whether ``frames_to_send`` has something."""
        if self._urgent or self._hello_due:
            return True
        attached = self.state is State.ATTACHED
        if attached and (self._passing or (self._window.ack_due and self._window.ack_waits) or self._window.credit_due):
            return True
        entry = self.journal.get(self._next) if self._credit else None
        return entry is not None and entry.end <= self._credit

    @property
    def _hello_due(self) -> bool:
        # A relay answers: what it says may depend on who is there.
        return self._hello is not None and (self.role is Role.SERVER or self.state is State.ATTACHED)

    def _our_hello(self) -> Frame:
        hello: Dict[str, Any] = {"version": self._own_version, "epoch": self.epoch, "process": self.process}
        hello.update(connection=self._connection, received_upto=self.received, credit=self._window.credit_told)
        hello.update(self._hello or {})
        if self._adopting:
            hello["adopt"] = True
        self._hello = None
        return Frame(Type.HELLO, self.tag, 0, json_body(hello))

    # Receiving

    def consumed(self, upto: int) -> None:
        """The bodies up to ``upto`` no longer take room here: the peer may send as much again."""
        self._window.consume(upto)

    def delivered(self, upto: int, lazily: bool = False) -> None:
        """Everything up to ``upto`` was handed on, so the peer may forget it. Implies ``consumed``.

        ``lazily``: the ACK goes with whatever goes out next, or once that is due to ``window.UNACKNOWLEDGED`` bytes or to
        ``acknowledge``. It costs its own way through five processes otherwise, and nobody waits for it.
        """
        self._window.deliver(upto, lazily)

    @property
    def ack_waits(self) -> bool:
        """Whether something was handed on that the peer, which is attached, was not told of."""
        return self.state is State.ATTACHED and self._window.ack_waits

    @property
    def ack_told(self) -> int:
        """The number in the last ACK of this connection."""
        return self._window.ack_told

    def acknowledge(self) -> None:
        """The ACK that waits has waited long enough (``lateack``)."""
        self._window.ack_due = True

    def check_hello(self, frame: Frame) -> Union[EpochChanged, HungUp, None]:
        """Whether this HELLO can be resumed from, before anything is changed for it. Raises ``WireError`` like ``receive``."""
        if frame.kernel != self.tag:
            raise WireError("a frame of another kernel")
        if frame.type != Type.HELLO:
            raise WireError(f"a connection begins with HELLO, not with {_name(frame.type)}")
        hello = read_hello(frame.body)
        if hello.adopt and self.role is Role.SERVER:
            raise WireError("a relay that wants to adopt")
        if (self.peer_epoch or hello.adopt) and hello.epoch != self.peer_epoch:
            return EpochChanged(self.peer_epoch, hello.epoch)
        if self._adopting:
            return None if hello.version >= ADOPTION else _too_old(hello.version)
        if self.role is Role.RELAY and self._overtaken(hello):
            return EpochChanged(self.peer_epoch, hello.epoch, overtaken=True)
        upto = hello.received_upto
        if upto > self._sent:
            raise WireError(f"the peer says it received frame {upto}, but only {self._sent} were sent")
        if upto < self.acked and not hello.adopt:
            raise WireError(f"the peer acknowledged frame {self.acked} and now has only {upto}")
        return None

    def _overtaken(self, hello: Hello) -> bool:
        if hello.process == self._peer_process:
            # Of a way that the server has given up long ago, it may come after that of the next.
            return 0 < hello.connection <= self._peer_connection
        return bool(self._peer_process) and not hello.adopt

    def receive(self, frame: Frame) -> List[Event]:
        """What this frame means. Raises ``WireError`` if it cannot be right; then end the connection and ``detach``."""
        if self.state is State.DETACHED:
            raise WireError(f"{_name(frame.type)} outside a connection")
        if frame.kernel != self.tag:
            raise WireError("a frame of another kernel")
        known = frame.type in _KNOWN
        if known and frame.type not in RECEIVABLE[self.role]:
            raise WireError(f"{_name(frame.type)} is nothing to send to the {self.role.value}")
        if known and (frame.type in SEQUENCED) != (frame.seq > 0):
            raise WireError(f"{_name(frame.type)} with sequence number {frame.seq}")
        if frame.type == Type.GOODBYE:
            said = read_json(frame.body)
            if self._adopting and "version" not in said:
                return [_too_old(1)]
            return [HungUp(str(said.get("reason", ""))[:MAX_WORD], str(said.get("text", "")))]
        if frame.type == Type.GONE:
            return [Gone(str(read_json(frame.body).get("text", "")))]
        if self.state is State.GREETING:
            return [self._greeted(frame)]
        if frame.seq:
            return self._sequenced(frame)
        if frame.type == Type.HELLO:
            raise WireError("a second HELLO in one connection")
        if frame.type == Type.ACK:
            self._acknowledged(read_u64(frame.body))
            return []
        if frame.type == Type.CREDIT:
            self._peer_credit = max(self._peer_credit, read_u64(frame.body))
            return []
        if frame.type == Type.PING:
            self._urgent.append(Frame(Type.PONG, self.tag, 0, u64_body(read_u64(frame.body))))
            return []
        return [Received(frame.type, 0, frame.body)] if known else []

    def _greeted(self, frame: Frame) -> Event:
        refused = self.check_hello(frame)
        if refused is not None:
            return refused
        hello = read_hello(frame.body)
        adopted, renumbered = self._adopting or hello.adopt, 0
        if self._adopting:
            self._go_on_from(read_base(hello))
            renumbered = hello.received_upto
        if hello.adopt:
            self._be_adopted(hello)
        else:
            self._peer_credit = hello.credit
            # What went ahead on this connection is not sent on it again.
            self._next = max(hello.received_upto + 1, self._next if self._ahead else 1)
        self.peer_epoch = hello.epoch
        self._peer_process, self._peer_connection = hello.process, hello.connection
        self.version = min(self._own_version, hello.version)
        self.state = State.ATTACHED
        return Attached(self.version, hello.all, adopted, renumbered)

    def _be_adopted(self, hello: Hello) -> None:
        """The relay's part. Done again, harmlessly, where the answer to the first adoption was lost."""
        self._acknowledged(max(hello.received_upto, self.acked))
        self._next = self.acked + 1
        self._peer_credit = self.journal.before + hello.credit  # the adopter does not know our count: so much more
        base = {"seq": self.acked, "bytes": self.journal.before}
        self.add_to_hello(base=base, received_bytes=self._window.received_bytes)

    def _go_on_from(self, base: Base) -> None:
        """The server's part."""
        self._window.go_on_from(base.seq, base.end)
        self.journal = Journal(after=base.received_upto, before=base.received_end)
        self.acked = self._sent = base.received_upto
        self._adopting = False
        early, self._early = self._early, []
        for type, body in early:
            self.journal.append(type, body)

    def _sequenced(self, frame: Frame) -> List[Event]:
        return [Received(frame.type, frame.seq, frame.body)] if self._window.take(frame.seq, len(frame.body)) else []

    def _acknowledged(self, upto: int) -> None:
        if upto > self._sent:
            raise WireError(f"the peer acknowledged frame {upto}, but only {self._sent} were sent")
        if upto > self.acked:
            self.acked = upto
            self.journal.trim(upto)
            self._next = max(self._next, upto + 1)


def _too_old(version: int) -> HungUp:
    text = f"it speaks version {version} of the protocol, and a server that starts again needs version {ADOPTION}"
    return HungUp("version", text)


def _name(type: int) -> str:
    try:
        return Type(type).name
    except ValueError:
        return f"frame type {type}"
