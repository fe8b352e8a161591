"""Two ends of a session, and a line between them that delivers any number of bytes and is cut at any byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jupyter_dsvm.relay.session import (
    RECEIVABLE,
    Attached,
    EpochChanged,
    Gone,
    HungUp,
    Received,
    Role,
    Session,
    State,
)
from jupyter_dsvm.relay.wire import (
    MAX_FRAME,
    Frame,
    FrameDecoder,
    Type,
    WireError,
    json_body,
    signal_body,
    u64_body,
)

TAG = bytes(range(16))


class End:
    """A session, the bytes on their way to it, and what it received."""

    def __init__(self, role: Role, **more: Any) -> None:
        self.session = Session(role, TAG, **more)
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.signals: list[bytes] = []
        self.arriving = b""
        self.decoder = FrameDecoder()

    def take(self, count: int, acknowledge: bool = True) -> None:
        data, self.arriving = self.arriving[:count], self.arriving[count:]
        for frame in self.decoder.feed(data):
            for event in self.session.receive(frame):
                if isinstance(event, Received) and event.seq:
                    self.got.append(bytes(event.body))
                    if acknowledge:
                        self.session.delivered(event.seq)
                elif isinstance(event, Received):
                    self.signals.append(bytes(event.body))

    def cut(self) -> None:
        self.arriving = b""
        self.decoder = FrameDecoder()
        self.session.detach()


class Pair:
    def __init__(self, **more: Any) -> None:
        self.relay, self.server = End(Role.RELAY, **more), End(Role.SERVER, **more)
        self.ends = (self.relay, self.server)

    def other(self, end: End) -> End:
        return self.server if end is self.relay else self.relay

    def attach(self) -> None:
        for end in self.ends:
            end.session.attach()

    def cut(self) -> None:
        for end in self.ends:
            end.cut()

    def flow(self, end: End, max_bytes: int) -> None:
        """What ``end`` may send goes on its way."""
        self.other(end).arriving += b"".join(f.encode() for f in end.session.frames_to_send(max_bytes))

    def rest(self) -> None:
        while any(e.session.can_send or e.arriving for e in self.ends):
            for end in self.ends:
                self.flow(end, 1 << 20)
                end.take(1 << 20)


def attached(**more: Any) -> Pair:
    pair = Pair(**more)
    pair.attach()
    pair.rest()
    return pair


class Conversation(RuleBasedStateMachine):
    """Received is always a prefix of what was sent; at rest it is all of it, and nothing is kept any more."""

    side = st.sampled_from([0, 1])

    @initialize(epochs=st.tuples(st.text("ab", min_size=1, max_size=3), st.text("cd", min_size=1, max_size=3)))
    def begin(self, epochs: tuple[str, str]) -> None:
        self.pair = Pair(credit=MAX_FRAME)
        self.connected = False
        self.unacknowledged = False

    @rule(side=side, size=st.sampled_from([0, 1, 100, 200_000, 700_000]))
    def send(self, side: int, size: int) -> None:
        end = self.pair.ends[side]
        body = (b"%d:" % len(end.sent)).ljust(size, b"x")
        end.sent.append(body)
        end.session.send(Type.DATA, body)

    @precondition(lambda self: not self.connected)
    @rule()
    def attach(self) -> None:
        self.pair.attach()
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.pair.cut()
        self.connected = False

    @precondition(lambda self: self.connected)
    @rule(side=side, max_bytes=st.sampled_from([0, 1, 1000, 1 << 20]))
    def put_on_the_line(self, side: int, max_bytes: int) -> None:
        self.pair.flow(self.pair.ends[side], max_bytes)

    @rule(side=side, count=st.one_of(st.integers(1, 80), st.integers(1, 1 << 20)), acknowledge=st.booleans())
    def take(self, side: int, count: int, acknowledge: bool) -> None:
        self.pair.ends[side].take(count, acknowledge)

    @rule(side=side)
    def acknowledge(self, side: int) -> None:
        session = self.pair.ends[side].session
        session.delivered(session.received)

    @rule(side=side)
    def signal(self, side: int) -> None:
        session = self.pair.ends[side].session
        assert session.pass_by(Type.PING, u64_body(1)) == session.attached

    @rule()
    def come_to_rest(self) -> None:
        if not self.connected:
            self.attach()
        for side in (0, 1):
            self.acknowledge(side)
        self.pair.rest()
        for end in self.pair.ends:
            assert self.pair.other(end).got == end.sent
            assert len(end.session.journal) == 0
            assert end.session.journal.size == 0

    @invariant()
    def a_prefix(self) -> None:
        for end in self.pair.ends:
            got = self.pair.other(end).got
            assert got == end.sent[: len(got)]
            assert end.session.journal.first <= end.session.acked + 1


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def hello(session: Session, **more: Any) -> Frame:
    said = {"version": 1, "epoch": "peer", "received_upto": 0, "credit": 1 << 24, **more}
    return Frame(Type.HELLO, session.tag, 0, json_body(said))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 12), st.binary(max_size=40)), max_size=12), st.booleans())
def test_any_frames_give_events_or_a_wire_error(garbage: list[tuple[int, int, bytes]], greeted: bool) -> None:
    for role in Role:
        session = Session(role, TAG)
        session.send(Type.DATA, b"x")
        session.attach()
        if greeted:
            session.receive(hello(session))
        session.frames_to_send(100)
        for kind, seq, body in garbage:
            try:
                session.receive(Frame(kind, TAG, seq, body))
            except WireError:
                break
        assert session.acked <= 1
        assert len(session.journal) == 1 - session.acked


@given(
    st.dictionaries(
        st.sampled_from(["version", "epoch", "received_upto", "credit"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.text(max_size=3),
            st.floats(allow_nan=False),
            st.lists(st.none()),
        ),
    )
)
def test_any_hello_attaches_or_is_a_wire_error(said: dict[str, Any]) -> None:
    session = Session(Role.SERVER, TAG)
    session.attach()
    try:
        (event,) = session.receive(hello(session, **said))
    except WireError:
        assert session.state is State.GREETING
    else:
        assert isinstance(event, Attached)
        assert event.version == 1


def test_what_the_table_of_states_calls_an_error_is_one() -> None:
    session = Session(Role.SERVER, TAG)
    with pytest.raises(WireError, match="outside"):
        session.receive(hello(session))
    session.attach()
    with pytest.raises(WireError, match="begins with HELLO"):
        session.receive(Frame(Type.DATA, TAG, 1, b"x"))
    assert session.receive(Frame(Type.GONE, TAG, 0, json_body({"text": "no"}))) == [Gone("no")]
    session.receive(hello(session))
    with pytest.raises(WireError, match="second HELLO"):
        session.receive(hello(session))


@pytest.mark.parametrize("role", Role)
def test_each_end_is_sent_only_what_is_for_it(role: Role) -> None:
    for kind in Type:
        session = Session(role, TAG)
        session.attach()
        session.receive(hello(session))
        frame = Frame(kind, TAG, 1, b"")
        if kind not in RECEIVABLE[role]:
            with pytest.raises(WireError, match=f"{kind.name} is nothing to send"):
                session.receive(frame)


def test_a_type_from_a_newer_version_keeps_its_place_in_the_sequence() -> None:
    session = Session(Role.SERVER, TAG)
    session.attach()
    session.receive(hello(session))
    assert session.receive(Frame(200, TAG, 1, b"new")) == [Received(200, 1, b"new")]
    assert session.receive(Frame(201, TAG, 0, b"new")) == []
    assert session.receive(Frame(Type.DATA, TAG, 2, b"old")) == [Received(Type.DATA, 2, b"old")]


def test_a_gap_is_an_error_and_a_repetition_is_not() -> None:
    session = Session(Role.SERVER, TAG)
    session.attach()
    session.receive(hello(session))
    assert len(session.receive(Frame(Type.DATA, TAG, 1, b"a"))) == 1
    assert session.receive(Frame(Type.DATA, TAG, 1, b"a")) == []
    with pytest.raises(WireError, match="missing"):
        session.receive(Frame(Type.DATA, TAG, 3, b"c"))
    assert session.received == 1


def test_an_acknowledgement_of_what_was_never_sent_is_an_error() -> None:
    session = Session(Role.SERVER, TAG)
    session.attach()
    session.receive(hello(session))
    session.send(Type.DATA, b"queued, and not sent")
    with pytest.raises(WireError, match="only 0 were sent"):
        session.receive(Frame(Type.ACK, TAG, 0, u64_body(1)))
    session.frames_to_send(100)
    session.receive(Frame(Type.ACK, TAG, 0, u64_body(1)))
    assert session.acked == 1


def test_a_peer_that_forgot_what_it_acknowledged_cannot_resume() -> None:
    pair = attached()
    pair.relay.session.send(Type.DATA, b"x")
    pair.rest()
    pair.cut()
    pair.relay.session.attach()
    with pytest.raises(WireError, match="acknowledged frame 1 and now has only 0"):
        pair.relay.session.receive(hello(pair.relay.session, epoch=pair.server.session.epoch))


def test_replay_starts_at_what_the_peer_has_not_received() -> None:
    pair = attached()
    for n in range(5):
        pair.relay.session.send(Type.DATA, b"%d" % n)
    pair.flow(pair.relay, 1 << 20)
    whole = [f.size for f in FrameDecoder().feed(pair.server.arriving)]
    pair.server.take(sum(whole[:2]) + 5, acknowledge=False)
    pair.cut()
    pair.attach()
    pair.flow(pair.server, 1)
    pair.relay.take(1 << 20)
    replayed = [f.seq for f in pair.relay.session.frames_to_send(1 << 20) if f.seq]
    assert replayed == [3, 4, 5]


def test_another_epoch_is_told_and_changes_nothing() -> None:
    pair = attached()
    known = pair.server.session.epoch
    pair.cut()
    pair.relay.session.attach()
    assert pair.relay.session.receive(hello(pair.relay.session, epoch="other")) == [EpochChanged(known, "other")]
    assert not pair.relay.session.attached
    pair.relay.session.detach()
    pair.attach()
    pair.rest()
    assert pair.relay.session.attached


@pytest.mark.parametrize(("relay", "server", "spoken"), [(1, 1, 1), (2, 1, 1), (1, 7, 1), (3, 3, 3)])
def test_the_lower_version_is_spoken(relay: int, server: int, spoken: int) -> None:
    pair = Pair()
    pair.relay, pair.server = End(Role.RELAY, version=relay), End(Role.SERVER, version=server)
    pair.ends = (pair.relay, pair.server)
    pair.attach()
    pair.rest()
    assert pair.relay.session.version == pair.server.session.version == spoken


def test_no_more_is_under_way_than_the_credit_and_it_goes_on_as_room_is_made() -> None:
    pair = attached(credit=MAX_FRAME)
    body = bytes(MAX_FRAME // 4)
    for _ in range(10):
        pair.relay.session.send(Type.DATA, body)
    pair.flow(pair.relay, 1 << 30)
    pair.server.take(1 << 30, acknowledge=False)
    assert len(pair.server.got) == 4
    assert not pair.relay.session.can_send
    pair.server.session.consumed(1)
    pair.flow(pair.server, 1)
    pair.relay.take(1 << 20)
    assert pair.relay.session.acked == 0, "room is no acknowledgement"
    pair.flow(pair.relay, 1 << 30)
    pair.server.take(1 << 30)
    assert len(pair.server.got) == 5
    pair.rest()
    assert len(pair.server.got) == 10


def test_a_peer_that_ignores_credit_is_refused() -> None:
    session = Session(Role.SERVER, TAG, credit=MAX_FRAME)
    session.attach()
    session.receive(hello(session))
    body = bytes(MAX_FRAME // 2)
    session.receive(Frame(Type.DATA, TAG, 1, body))
    session.receive(Frame(Type.DATA, TAG, 2, body))
    with pytest.raises(WireError, match="credit"):
        session.receive(Frame(Type.DATA, TAG, 3, b"x"))


def test_a_cut_leaves_no_credit_to_repair() -> None:
    pair = attached(credit=MAX_FRAME)
    for _ in range(20):
        pair.relay.session.send(Type.DATA, bytes(MAX_FRAME // 2))
    for _ in range(30):
        pair.flow(pair.relay, 1 << 20)
        pair.server.take(MAX_FRAME // 2 + 500)
        pair.flow(pair.server, 1)
        pair.relay.take(20)
        pair.cut()
        pair.attach()
        pair.flow(pair.server, 1)
        pair.relay.take(1 << 20)
    pair.rest()
    assert len(pair.server.got) == 20


def test_a_signal_is_dropped_while_detached_and_does_not_overtake_its_request() -> None:
    pair = attached()
    pair.cut()
    assert pair.server.session.pass_by(Type.SIGNAL, signal_body(2)) is False
    pair.attach()
    assert pair.server.session.pass_by(Type.SIGNAL, signal_body(2)) is False
    pair.rest()
    assert pair.relay.signals == []
    pair.server.session.send(Type.DATA, b"run")
    assert pair.server.session.pass_by(Type.SIGNAL, signal_body(2))
    kinds = [f.type for f in pair.server.session.frames_to_send(100)]
    assert kinds == [Type.DATA, Type.SIGNAL]


def test_acknowledgements_are_coalesced() -> None:
    pair = attached()
    for _ in range(100):
        pair.relay.session.send(Type.DATA, b"x")
    pair.flow(pair.relay, 1 << 20)
    pair.server.take(1 << 20)
    (ack,) = pair.server.session.frames_to_send(100)
    assert (ack.type, ack.body) == (Type.ACK, u64_body(100))
    assert pair.server.session.can_send is False


def test_an_acknowledgement_lost_in_a_cut_is_told_again() -> None:
    pair = attached()
    pair.relay.session.send(Type.DATA, b"x")
    pair.flow(pair.relay, 100)
    pair.server.take(1 << 20)
    assert [f.type for f in pair.server.session.frames_to_send(100)] == [Type.ACK]
    pair.cut()
    pair.attach()
    pair.rest()
    assert pair.relay.session.acked == 1


def test_a_signal_that_waited_when_the_connection_was_cut_does_not_come_later() -> None:
    pair = attached()
    assert pair.server.session.pass_by(Type.SIGNAL, signal_body(2))
    pair.cut()
    pair.attach()
    pair.rest()
    assert pair.relay.signals == []


def test_frames_of_another_kernel_are_refused() -> None:
    session = Session(Role.SERVER, TAG)
    session.attach()
    with pytest.raises(WireError, match="another kernel"):
        session.receive(Frame(Type.HELLO, bytes(16), 0, hello(session).body))


def test_a_ping_is_answered_with_the_same_number() -> None:
    pair = attached()
    pair.relay.session.receive(Frame(Type.PING, TAG, 0, u64_body(99)))
    assert pair.relay.session.frames_to_send(1) == [Frame(Type.PONG, TAG, 0, u64_body(99))]


def test_goodbye_arrives_with_its_reason() -> None:
    pair = attached()
    assert pair.server.session.receive(pair.relay.session.goodbye("superseded", "elsewhere")) == [
        HungUp("superseded", "elsewhere")
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Session(Role.RELAY, credit=10),
        lambda: Session(Role.RELAY).send(Type.DATA, bytes(MAX_FRAME)),
    ],
)
def test_what_could_never_work_is_refused_at_once(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()
