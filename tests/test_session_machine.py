"""A relay, and servers that come and go, over lines that deliver any number of bytes and are cut at any byte.

What is compared: what the relay has said with what the clients of the server got, and what the servers have asked with what
the relay got. Both are at any time a prefix, and equal when everything has come to rest; nothing comes twice.
"""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jupyter_dsvm.relay.events import Attached, EpochChanged, Event, HungUp, Received
from jupyter_dsvm.relay.journal import Journal
from jupyter_dsvm.relay.session import Role, Session, State
from jupyter_dsvm.relay.wire import MAX_FRAME, Frame, FrameDecoder, Type, WireError, json_body, u64_body

TAG = bytes(range(16))
WINDOW = MAX_FRAME
SIZES = st.sampled_from([0, 1, 100, 3_000, 100_000, 400_000])
COUNTS = st.one_of(st.integers(1, 80), st.integers(1, 1 << 20))


class Line:
    """A connection. Each end may have closed it without the other knowing."""

    def __init__(self) -> None:
        self.bytes = {Role.RELAY: b"", Role.SERVER: b""}
        """On their way to that end."""
        self.decoders = {Role.RELAY: FrameDecoder(), Role.SERVER: FrameDecoder()}

    def put(self, to: Role, frames: list[Frame]) -> None:
        self.bytes[to] += b"".join(f.encode() for f in frames)

    def take(self, at: Role, count: int) -> list[Frame]:
        data, self.bytes[at] = self.bytes[at][:count], self.bytes[at][count:]
        return list(self.decoders[at].feed(data))


class Conversation(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="dsvm-")
        self.journal = Journal(self.folder.name, memory=300_000, floor=0)
        self.relay = Session(Role.RELAY, TAG, credit=WINDOW, journal=self.journal)
        self.server = Session(Role.SERVER, TAG, credit=WINDOW)
        self.servers_line: Line | None = None
        self.relays_line: Line | None = None
        self.old_lines: list[Line] = []
        self.ghosts: list[Session] = []
        self.said: list[bytes] = []
        self.asked: list[bytes] = []
        self.early: list[bytes] = []
        self.relay_got: list[bytes] = []
        self.clients_got: list[bytes] = []
        self.waiting: list[tuple[int, bytes]] = []
        self.unique = 0

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.folder.cleanup()

    def body(self, size: int) -> bytes:
        self.unique += 1
        return (b"%d:" % self.unique).ljust(size, b"x")

    # Something to say

    @rule(size=SIZES)
    def relay_says(self, size: int) -> None:
        body = self.body(size)
        self.said.append(body)
        assert self.relay.send(Type.DATA, body) == len(self.said)

    @rule(size=SIZES)
    def server_asks(self, size: int) -> None:
        body = self.body(size)
        number = self.server.send(Type.DATA, body)
        if self.adopting:
            self.early.append(body)
            assert number == len(self.early)
        else:
            self.asked.append(body)
            assert number == len(self.asked)

    @rule()
    def server_interrupts(self) -> None:
        attached = self.server.attached
        assert self.server.pass_by(Type.INTERRUPT, b"not looked into here") is attached

    # Connections

    @rule()
    def server_connects(self) -> None:
        """Also where it has a connection: that is then cut on its side, and the relay has not noticed."""
        self.server_cuts()
        self.server.attach(create=not self.server.peer_epoch)
        self.servers_line = Line()

    @rule()
    def server_cuts(self) -> None:
        if self.servers_line is not None and self.servers_line is not self.relays_line:
            self.old_lines.append(self.servers_line)
        self.servers_line = None
        self.server.detach()

    @rule()
    def relay_cuts(self) -> None:
        self.relays_line = None
        self.relay.detach()

    @rule(behind=st.integers(0, 3))
    def server_is_killed(self, behind: int) -> None:
        """The next one knows what all clients have, or a little less than that."""
        self.server_cuts()
        if self.relay.peer_epoch and self.server.peer_epoch:
            if self.adopting:
                self.old_lines.clear()  # that it wanted to adopt must not come later than that the next one did
            else:
                self.ghosts.append(self.server)
            known = max(0, len(self.clients_got) - behind)
            self.server = Session.adopting(TAG, self.server.epoch, self.server.peer_epoch, known, credit=WINDOW)
            self.waiting, self.early = [], []

    @property
    def adopting(self) -> bool:
        return bool(self.ghosts) and self.server.state is not State.ATTACHED and self.server is not self.adopted

    adopted: Session | None = None

    @precondition(lambda self: self.ghosts and self.server is self.adopted)
    @rule()
    def one_that_was_taken_for_dead_comes_back(self) -> None:
        ghost = self.ghosts[-1]
        ghost.attach()
        (hello,) = ghost.frames_to_send(1)
        ghost.detach()
        refused = self.relay.check_hello(hello)
        assert isinstance(refused, EpochChanged)
        assert refused.overtaken

    # Frames on their way

    @rule(max_bytes=st.sampled_from([0, 1, 1000, 1 << 20]))
    def server_puts(self, max_bytes: int) -> None:
        frames = self.server.frames_to_send(max_bytes)
        if self.servers_line is not None:
            self.servers_line.put(Role.RELAY, frames)
        else:
            assert frames == []

    @rule(max_bytes=st.sampled_from([0, 1, 1000, 1 << 20]))
    def relay_puts(self, max_bytes: int) -> None:
        frames = self.relay.frames_to_send(max_bytes)
        if self.relays_line is not None:
            self.relays_line.put(Role.SERVER, frames)
        else:
            assert frames == []

    @rule(count=COUNTS)
    def server_takes(self, count: int) -> None:
        if self.servers_line is not None:
            for frame in self.servers_line.take(Role.SERVER, count):
                for event in self.server.receive(frame):
                    self.server_event(event)

    def server_event(self, event: Event) -> None:
        if isinstance(event, Received):
            self.waiting.append((event.seq, bytes(event.body)))
        elif isinstance(event, Attached) and event.adopted:
            self.adopted = self.server
            assert event.hello["received_upto"] == event.renumbered == len(self.relay_got)
            assert event.hello["base"]["seq"] <= len(self.clients_got)
            self.asked = self.asked[: len(self.relay_got)] + self.early
            self.early = []

    @rule(count=COUNTS)
    def relay_takes(self, count: int) -> None:
        if self.relays_line is not None:
            self.relay_frames(self.relays_line, self.relays_line.take(Role.RELAY, count))

    @rule(count=COUNTS)
    def relay_takes_of_the_newest(self, count: int) -> None:
        if self.servers_line is not None:
            self.relay_frames(self.servers_line, self.servers_line.take(Role.RELAY, count))

    @precondition(lambda self: self.old_lines)
    @rule(count=COUNTS)
    def relay_takes_of_an_old_one(self, count: int) -> None:
        """Which the server has left: its HELLO may come late, even after that of the next."""
        line = self.old_lines.pop()
        self.relay_frames(line, line.take(Role.RELAY, count))

    def relay_frames(self, line: Line, frames: list[Frame]) -> None:
        """As the relay does it: a HELLO that fits pushes out who is attached."""
        for frame in frames:
            if line is not self.relays_line:
                try:
                    if frame.type != Type.HELLO or self.relay.check_hello(frame) is not None:
                        return
                except WireError:
                    assert line is not self.servers_line, "only what is late can be wrong"
                    return
                self.relay.detach()
                self.relay.attach()
                self.relays_line = line
            for event in self.relay.receive(frame):
                if isinstance(event, Received) and event.seq:
                    self.relay_got.append(bytes(event.body))

    # What was received is dealt with

    @rule(count=st.integers(1, 20))
    def server_hands_on(self, count: int) -> None:
        for seq, body in self.waiting[:count]:
            # A client that has it already drops it: the mark was behind.
            if seq > len(self.clients_got):
                assert seq == len(self.clients_got) + 1
                self.clients_got.append(body)
        del self.waiting[:count]

    @rule(share=st.floats(0, 1))
    def server_consumed(self, share: float) -> None:
        self.server.consumed(int(share * self.server.received) if not self.adopting else 0)

    @rule(share=st.floats(0, 1), lazily=st.booleans())
    def server_delivered(self, share: float, lazily: bool) -> None:
        handed_on = self.waiting[0][0] - 1 if self.waiting else self.server.received
        if not self.adopting:
            self.server.delivered(int(share * handed_on), lazily)

    @rule(share=st.floats(0, 1))
    def relay_consumed(self, share: float) -> None:
        self.relay.consumed(int(share * self.relay.received))

    @rule(share=st.floats(0, 1), lazily=st.booleans())
    def relay_delivered(self, share: float, lazily: bool) -> None:
        self.relay.delivered(int(share * self.relay.received), lazily)

    # What cannot be right

    @rule(
        kind=st.integers(0, 255),
        seq=st.integers(0, 1 << 64),
        body=st.binary(max_size=40),
        tag=st.sampled_from([TAG, bytes(16)]),
    )
    def nonsense_for_the_relay(self, kind: int, seq: int, body: bytes, tag: bytes) -> None:
        self.nonsense(self.relay, Frame(kind, tag, seq, body))

    @rule(
        kind=st.integers(0, 255),
        seq=st.integers(0, 1 << 64),
        body=st.binary(max_size=40),
        tag=st.sampled_from([TAG, bytes(16)]),
    )
    def nonsense_for_the_server(self, kind: int, seq: int, body: bytes, tag: bytes) -> None:
        self.nonsense(self.server, Frame(kind, tag, seq, body))

    def nonsense(self, session: Session, frame: Frame) -> None:
        """What could be right by chance, and would then be part of the conversation, is left out."""
        if frame.type in (Type.ACK, Type.CREDIT, Type.HELLO) or frame.seq == session.received + 1:
            return
        before = (session.received, session.acked, len(session.journal))
        try:
            for event in session.receive(frame):
                assert isinstance(event, (Received, HungUp)) or event.text is not None  # type: ignore[union-attr]
        except WireError:
            if session is self.server:
                self.server_cuts()
            else:
                self.relay_cuts()
        assert (session.received, session.acked, len(session.journal)) == before

    # What holds

    @rule()
    def come_to_rest(self) -> None:
        if self.servers_line is None or self.relays_line is not self.servers_line:
            self.old_lines.clear()
            self.server_connects()
        for _ in range(10_000):
            self.server_puts(1 << 20)
            self.relay_takes_of_the_newest(1 << 22)
            self.relay_puts(1 << 20)
            self.server_takes(1 << 22)
            self.server_hands_on(1_000)
            self.server_delivered(1.0, True)
            self.relay_delivered(1.0, True)
            self.server.acknowledge()  # as their owners do after a while
            self.relay.acknowledge()
            line = self.servers_line
            assert line is not None
            if not (self.server.can_send or self.relay.can_send or any(line.bytes.values())):
                break
        assert self.server.attached
        assert self.relay.attached
        assert self.clients_got == self.said
        assert self.relay_got == self.asked
        for session in (self.relay, self.server):
            assert len(session.journal) == session.journal.size == 0

    @invariant()
    def what_was_received_is_a_prefix(self) -> None:
        assert self.clients_got == self.said[: len(self.clients_got)]
        assert self.relay_got == self.asked[: len(self.relay_got)]

    @invariant()
    def nothing_is_forgotten_before_it_was_handed_on(self) -> None:
        assert self.relay.acked <= len(self.clients_got)
        assert self.relay.journal.first == self.relay.acked + 1
        assert self.relay.journal.last == len(self.said)

    @invariant()
    def no_more_came_than_there_was_room_for(self) -> None:
        for session in (self.relay, self.server):
            assert 0 <= session._window.received_bytes - session._window.consumed_bytes <= WINDOW
            assert session._window.consumed <= session.received


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


# Bytes that were changed on their way


def recorded(role: Role) -> bytes:
    """What comes to an end of that role in a conversation with everything in it."""
    other = Role.SERVER if role is Role.RELAY else Role.RELAY
    sender, receiver = Session(other, TAG, "sender"), Session(role, TAG, "receiver")
    sender.attach()
    receiver.attach()
    frames = [
        Frame(Type.HELLO, TAG, 0, json_body({"version": 2, "epoch": "receiver", "received_upto": 0, "credit": 1 << 24}))
    ]
    for frame in frames:
        sender.receive(frame)
    for kind in (Type.START, Type.DATA, Type.RESTART) if role is Role.RELAY else (Type.STARTED, Type.DATA, Type.EXITED):
        sender.send(kind, b"body of it")
    sender.pass_by(Type.PING, u64_body(5))
    sender.delivered(0)
    return b"".join(f.encode() for f in sender.frames_to_send(1 << 20)) + sender.goodbye("detached").encode()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(Role),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(max_size=3)), min_size=1, max_size=8),
    st.data(),
)
def test_changed_bytes_are_a_wire_error_or_another_conversation_and_nothing_breaks(
    role: Role, changes: list[tuple[int, bytes]], data: Any
) -> None:
    line = bytearray(recorded(role))
    for at, new in changes:
        at %= len(line)
        line[at : at + data.draw(st.integers(0, 3))] = new
    session = Session(role, TAG, "receiver", credit=WINDOW)
    session.send(Type.DATA, b"one")
    session.attach()
    decoder = FrameDecoder()
    try:
        for start in range(0, len(line), 7):
            for frame in decoder.feed(bytes(line[start : start + 7])):
                session.receive(frame)
                session.frames_to_send(100)
    except WireError:
        pass
    session.detach()
    assert session.acked <= 1
    assert len(session.journal) == 1 - session.acked
    session.consumed(session.received)
    session.attach()
    assert session.can_send is (role is Role.SERVER)
