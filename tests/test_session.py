"""Two ends of a session, and a line between them that delivers any number of bytes and is cut at any byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.relay.events import Attached, EpochChanged, Gone, HungUp, Received
from jupyter_dsvm.relay.lateack import ACK_WAIT, LateAck
from jupyter_dsvm.relay.session import AHEAD, RECEIVABLE, Role, Session, State
from jupyter_dsvm.relay.window import UNACKNOWLEDGED
from jupyter_dsvm.relay.wire import (
    MAX_FRAME,
    VERSION,
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
        assert event.version == min(VERSION, said.get("version", 1))


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
    server = pair.server.session
    with pytest.raises(WireError, match="acknowledged frame 1 and now has only 0"):
        pair.relay.session.receive(hello(pair.relay.session, epoch=server.epoch, process=server.process))


def test_what_is_for_a_relay_that_is_being_made_goes_ahead_of_its_answer_and_once() -> None:
    pair = Pair()
    server, relay = pair.server.session, pair.relay.session
    for body in (b"start", b"who are you?"):
        server.send(Type.DATA, body)
    server.attach(create=True)
    assert [f.seq for f in server.frames_to_send(1 << 20)] == [0, 1, 2]
    pair.server.cut()  # nobody knows what of it has arrived
    server.send(Type.DATA, bytes(AHEAD))
    server.attach(create=True)
    pair.flow(pair.server, 1 << 20)
    assert not server.can_send, "no more than any relay has room for"
    relay.attach()
    pair.relay.take(1 << 20)
    assert pair.relay.got == [b"start", b"who are you?"]
    pair.flow(pair.relay, 1 << 20)
    pair.server.take(1 << 20)
    assert [f.seq for f in server.frames_to_send(1 << 20)] == [3]
    pair.cut()
    server.attach(create=False)
    assert [f.type for f in server.frames_to_send(1 << 20)] == [Type.HELLO], (
        "a relay that was reached says where to go on"
    )


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


def test_an_acknowledgement_that_may_be_late_goes_with_whatever_goes_next() -> None:
    pair = attached()
    server = pair.server.session
    pair.relay.session.send(Type.DATA, b"x")
    for frame in pair.relay.session.frames_to_send(100):
        server.receive(frame)
    server.delivered(1, lazily=True)
    assert server.ack_waits
    assert not server.can_send
    server.send(Type.DATA, b"y")
    assert [f.type for f in server.frames_to_send(100)] == [Type.ACK, Type.DATA]
    assert not server.ack_waits


@pytest.mark.parametrize("why", ["time is up", "somebody waits for it", "too much would be kept"])
def test_an_acknowledgement_that_may_be_late_goes_alone_at_some_time(why: str) -> None:
    pair = attached()
    server = pair.server.session
    size = UNACKNOWLEDGED // 2
    for _ in range(2):
        pair.relay.session.send(Type.DATA, bytes(size))
    for frame in pair.relay.session.frames_to_send(1 << 20):
        server.receive(frame)
    server.delivered(1, lazily=True)
    assert not server.can_send
    if why == "time is up":
        late = LateAck(server)
        assert late.look(7.0) == pytest.approx(ACK_WAIT)
        assert late.look(7.0 + ACK_WAIT / 2) == pytest.approx(ACK_WAIT / 2)
        assert not server.can_send
        assert late.look(7.001 + ACK_WAIT) == 0
    else:
        server.delivered(1 if why == "somebody waits for it" else 2, lazily=why != "somebody waits for it")
    assert server.can_send
    (ack,) = server.frames_to_send(100)
    assert (ack.type, ack.body) == (Type.ACK, u64_body(2 if why == "too much would be kept" else 1))
    assert not server.can_send


def test_one_acknowledgement_waits_no_longer_because_others_went_before() -> None:
    pair = attached()
    server = pair.server.session
    late = LateAck(server)
    assert late.look(0.0) is None
    for n in (1, 2):
        pair.relay.session.send(Type.DATA, b"x")
        for frame in pair.relay.session.frames_to_send(100):
            server.receive(frame)
        server.delivered(n, lazily=True)
        assert late.look(float(n)) == pytest.approx(ACK_WAIT), "counted from when this one began to wait"
        server.send(Type.DATA, b"y")
        server.frames_to_send(100)
    assert late.look(3.0) is None
    server.detach()
    assert late.look(4.0) is None


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


# Adoption


def crashed(acked: int = 2, received: int = 5) -> Pair:
    """A pair whose server is no more: it had ``received`` of ten frames, and had handed on and acknowledged ``acked``."""
    pair = attached(credit=MAX_FRAME)
    for n in range(10):
        pair.relay.session.send(Type.DATA, b"%d" % n * 100)
    pair.server.session.send(Type.DATA, b"request")
    while len(pair.server.got) < received:
        pair.flow(pair.relay, 1)
        pair.server.take(1 << 20, acknowledge=False)
    pair.server.session.delivered(acked)
    pair.flow(pair.server, 1)
    pair.relay.take(1 << 20)
    pair.cut()
    assert (pair.relay.session.acked, pair.relay.session.received) == (acked, 1)
    return pair


def adopter(pair: Pair, received_upto: int, **more: Any) -> End:
    old = pair.server.session
    end = End(Role.SERVER)
    end.session = Session.adopting(TAG, old.epoch, more.get("peer_epoch", old.peer_epoch), received_upto)
    return end


def adopt(pair: Pair, end: End) -> Attached:
    pair.server = end
    pair.ends = (pair.relay, end)
    pair.attach()
    pair.flow(end, 1)
    pair.relay.take(1 << 20)
    pair.flow(pair.relay, 1)
    (hello,) = list(FrameDecoder().feed(end.arriving))[:1]
    (event,) = end.session.receive(hello)
    end.arriving = end.arriving[hello.size :]
    assert isinstance(event, Attached)
    assert event.adopted
    return event


@pytest.mark.parametrize(("mark", "base"), [(0, 2), (1, 2), (2, 2), (3, 3), (5, 5)])
def test_an_adopter_gets_what_its_clients_did_not_have_and_goes_on_with_the_numbers(mark: int, base: int) -> None:
    pair = crashed(acked=2, received=5)
    end = adopter(pair, mark)
    early = [end.session.send(Type.DATA, body) for body in (b"a", b"bc")]
    event = adopt(pair, end)
    assert event.hello["base"] == {"seq": base, "bytes": 100 * base}
    assert (event.hello["received_upto"], event.hello["received_bytes"]) == (1, len(b"request"))
    assert [n + event.renumbered for n in early] == [2, 3]
    assert end.session.send(Type.DATA, b"d") == 4
    pair.rest()
    assert end.got == [b"%d" % n * 100 for n in range(base, 10)]
    assert pair.relay.got == [b"request", b"a", b"bc", b"d"]
    assert len(pair.relay.session.journal) == len(end.session.journal) == 0


def test_an_adoption_whose_answer_was_lost_is_done_again() -> None:
    pair = crashed()
    end = adopter(pair, 3)
    pair.server, pair.ends = end, (pair.relay, end)
    for _ in range(2):
        pair.attach()
        pair.flow(end, 1)
        pair.relay.take(1 << 20)
        pair.flow(pair.relay, 1 << 20)
        pair.cut()
    pair.attach()
    pair.rest()
    assert end.got == [b"%d" % n * 100 for n in range(3, 10)]


def test_the_credit_of_an_adopter_counts_from_where_it_begins() -> None:
    pair = crashed(acked=4)
    end = adopter(pair, 4)
    adopt(pair, end)
    for _ in range(8):
        pair.relay.session.send(Type.DATA, bytes(MAX_FRAME // 2))
        end.session.send(Type.DATA, bytes(MAX_FRAME // 2))
    for _ in range(50):
        for each in pair.ends:
            pair.flow(each, 1 << 20)
            each.take(1 << 20)
    assert len(end.got) == 14
    assert len(pair.relay.got) == 9


def test_only_who_knows_both_epochs_adopts() -> None:
    pair = crashed()
    relay = pair.relay.session
    relay.attach()
    stranger = Session.adopting(TAG, "another", relay.epoch, 0)
    stranger.attach()
    (frame,) = stranger.frames_to_send(1)
    assert relay.check_hello(frame) == EpochChanged(pair.server.session.epoch, "another")
    fresh = Session(Role.RELAY, TAG)
    fresh.attach()
    assert fresh.check_hello(frame) == EpochChanged("", "another"), "there is nothing to adopt"
    mistaken = adopter(pair, 0, peer_epoch="an earlier relay").session
    mistaken.attach()
    (answer,) = mistaken.receive(hello(mistaken, version=2, epoch=relay.epoch))
    assert answer == EpochChanged("an earlier relay", relay.epoch)
    assert not mistaken.attached


def test_a_server_that_was_taken_for_dead_is_refused_when_it_comes_back() -> None:
    pair = crashed()
    old = pair.server
    adopt(pair, adopter(pair, 5))
    pair.cut()
    old.session.attach()
    (frame,) = old.session.frames_to_send(1)
    refused = pair.relay.session.check_hello(frame)
    assert isinstance(refused, EpochChanged)
    assert refused.overtaken
    pair.attach()
    pair.rest()
    assert pair.relay.session.attached


def test_a_greeting_that_comes_after_that_of_a_later_connection_is_refused() -> None:
    pair = attached()
    pair.cut()
    server, relay = pair.server.session, pair.relay.session
    server.attach()
    (late,) = server.frames_to_send(1)
    server.detach()
    pair.attach()
    pair.rest()
    refused = relay.check_hello(late)
    assert isinstance(refused, EpochChanged)
    assert refused.overtaken
    assert relay.attached


def test_an_adopter_that_has_more_than_was_sent_is_an_error() -> None:
    pair = crashed(received=5)
    pair.relay.session.attach()
    wrong = adopter(pair, 99).session
    wrong.attach()
    (frame,) = wrong.frames_to_send(1)
    with pytest.raises(WireError, match="frame 99"):
        pair.relay.session.receive(frame)
    assert pair.relay.session.acked == 2


def test_a_relay_of_version_1_cannot_be_adopted_and_that_is_said() -> None:
    for answer in (
        hello(Session(Role.SERVER, TAG), epoch="relay"),
        Frame(
            Type.GOODBYE, TAG, 0, json_body({"reason": "protocol", "text": "the peer acknowledged frame 2 and now …"})
        ),
    ):
        session = Session.adopting(TAG, "server", "relay", 0)
        session.attach()
        (event,) = session.receive(answer)
        assert isinstance(event, HungUp)
        assert event.reason == "version"
        assert not session.attached


@given(
    st.dictionaries(
        st.sampled_from(["version", "base", "received_upto", "received_bytes", "credit", "process"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.text(max_size=3),
            st.dictionaries(st.sampled_from(["seq", "bytes"]), st.one_of(st.none(), st.integers())),
        ),
    )
)
def test_any_answer_to_an_adopter_attaches_or_is_an_error(said: dict[str, Any]) -> None:
    session = Session.adopting(TAG, "server", "peer", 3)
    session.send(Type.DATA, b"x")
    session.attach()
    right = {"version": 2, "base": {"seq": 5, "bytes": 50}, "received_bytes": 7}
    try:
        (event,) = session.receive(hello(session, **{**right, **said}))
    except WireError:
        assert session.state is State.GREETING
        return
    if isinstance(event, HungUp):
        assert event.reason == "version"
        return
    assert isinstance(event, Attached)
    assert session.received >= 3
    session.frames_to_send(1 << 20)


def test_a_type_is_known_to_the_peer_from_its_version_on() -> None:
    for version, known in ((1, False), (2, True)):
        session = Session(Role.SERVER, TAG)
        session.attach()
        session.receive(hello(session, version=version))
        assert session.knows(Type.INTERRUPT) is known
        assert session.knows(Type.SIGNAL)
