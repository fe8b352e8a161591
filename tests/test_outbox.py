"""What is kept for whom: order, exactly once, what is handed on, and what it may cost. Against a model that keeps everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jupyter_dsvm.kernels.outbox import LEAST_SPOOLED, OVERHEAD, HandedOn, Outbox, Outgoing
from jupyter_dsvm.relay.journal import Journal
from jupyter_dsvm.relay.wire import Channel

NAMES = ("ada", "bob", "cy")
ROOM = 4 * (OVERHEAD + 60)


def body(text: str, size: int = 0) -> list[bytes]:
    return [b"<IDS|MSG>", text.encode(), bytes(size)]


def text_of(outgoing: Outgoing) -> str:
    return outgoing.parts[1].decode()


@dataclass
class Put:
    text: str
    to: str | None
    source: int
    number: int


@dataclass
class Model:
    """A client that keeps a list of all it is ever to get."""

    due: list[Put] = field(default_factory=list)
    given: int = 0
    flushed: int = 0
    confirmed: int = 0
    positions: list[int] = field(default_factory=list)
    """Of those it was given, by their place in ``due``."""
    seen: tuple[int, int] = (0, 0)


class Clients(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.journal = Journal()
        self.outbox = Outbox(self.journal, memory=ROOM, limit=10_000_000)
        self.models: dict[str, Model] = {}
        self.numbers = {1: 0, 2: 0}
        self.last_of = {1: 0, 2: 0}
        self.handed_on = {1: 0, 2: 0}
        self.texts = 0
        self.outbox.count(1)

    def put(self, to: str | None, source: int, number: int, size: int) -> None:
        self.texts += 1
        put = Put(f"m{self.texts}", to, source, number)
        self.outbox.put(Channel.IOPUB, body(put.text, size), to, source, number)
        for name, model in self.models.items():
            had = source == model.seen[0] and 0 < number <= model.seen[1]
            if to in (None, name) and not had:
                model.due.append(put)

    recipients = st.sampled_from([None, None, *NAMES])
    sizes = st.sampled_from([0, 10, 500, 3000])

    @rule(source=st.sampled_from([1, 2]), brings=st.lists(st.tuples(recipients, sizes), max_size=3))
    def kernel_says(self, source: int, brings: list[tuple[str | None, int]]) -> None:
        self.numbers[source] += 1
        for to, size in brings:
            self.put(to, source, self.numbers[source], size)
        self.outbox.came(source, self.numbers[source])

    @rule(to=recipients, size=sizes)
    def gate_says(self, to: str | None, size: int) -> None:
        self.put(to, 0, 0, size)

    @rule(source=st.sampled_from([1, 2]))
    def swap(self, source: int) -> None:
        self.outbox.count(source)

    @rule(name=st.sampled_from(NAMES), ahead=st.sampled_from([0, 0, 3]))
    def connect(self, name: str, ahead: int) -> None:
        if name in self.models:
            self.outbox.rewind(name)
            self.models[name].given = self.models[name].confirmed
        else:
            seen = self.numbers[self.outbox.source] + ahead if ahead else 0
            self.outbox.join(name, seen=seen)
            self.models[name] = Model(seen=(self.outbox.source, seen))

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name: str) -> None:
        if self.models.pop(name, None) is not None:
            self.outbox.drop(name)

    @rule(name=st.sampled_from(NAMES), max_bytes=st.sampled_from([1, 1500, 10_000]))
    def take(self, name: str, max_bytes: int) -> None:
        model = self.models.get(name)
        if model is None:
            return
        assert self.outbox.waiting(name) == (model.given < len(model.due))
        batch = self.outbox.take(name, max_bytes)
        expected = model.due[model.given : model.given + len(batch)]
        assert [text_of(o) for o in batch] == [put.text for put in expected]
        assert batch or model.given == len(model.due)
        positions = [o.position for o in batch]
        del model.positions[model.given :]
        model.positions += positions
        assert model.positions == sorted(set(model.positions))
        model.given += len(batch)

    @rule(name=st.sampled_from(NAMES), share=st.floats(0, 1), confirm=st.booleans())
    def reaches(self, name: str, share: float, confirm: bool) -> None:
        model = self.models.get(name)
        place = round(share * (model.given if model else 0))
        if model is None or not place:
            return
        number = self.outbox.cursors[name].number
        told = self.outbox.confirmed if confirm else self.outbox.flushed
        risen = told(name, model.positions[place - 1])
        assert risen == (self.outbox.cursors[name].number > number)
        model.flushed = max(model.flushed, place)
        if confirm:
            model.confirmed = max(model.confirmed, place)

    @rule()
    def everybody_reads(self) -> None:
        for name, model in self.models.items():
            while self.outbox.waiting(name):
                self.take(name, 5000)
            self.reaches(name, 1.0, True)
            assert model.confirmed == len(model.due)
        self.hand_on()
        assert self.handed_on == self.numbers, "nothing is waited for"
        assert (self.outbox.memory, self.outbox.spooled, self.journal.size) == (0, 0, 0)

    @invariant()
    def hand_on(self) -> None:
        for source, number in self.outbox.handed_on():
            assert number > self.handed_on[source]
            self.handed_on[source] = number
        for model in self.models.values():
            for put in model.due[model.flushed :]:
                assert not put.number or put.number > self.handed_on[put.source]

    @invariant()
    def no_client_is_said_to_have_what_it_has_not(self) -> None:
        for name, model in self.models.items():
            number = self.outbox.cursors[name].number
            for put in model.due[model.flushed :]:
                assert put.source != self.outbox.source or not put.number or put.number > number

    @invariant()
    def memory_is_bounded(self) -> None:
        assert 0 <= self.outbox.memory <= ROOM
        assert self.journal.size <= self.outbox.spooled


Clients.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_any_order_of_events = Clients.TestCase


def outbox(limit: int = 40 * LEAST_SPOOLED) -> Outbox:
    made = Outbox(Journal(), memory=ROOM, limit=limit)
    made.count(1)
    return made


def fill(box: Outbox, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        box.put(Channel.IOPUB, body(f"m{number}"), source=1, number=number)
        box.came(1, number)


def read(box: Outbox, name: str, upto: int | None = None) -> list[str]:
    texts = []
    while batch := box.take(name, 1):
        texts.append(text_of(batch[0]))
        box.confirmed(name, batch[0].position)
        if upto is not None and len(texts) == upto:
            break
    return texts


def test_without_clients_all_is_handed_on_at_once_and_nothing_kept() -> None:
    box = outbox()
    fill(box, 3)
    assert box.handed_on() == [HandedOn(1, 3)]
    assert (box.memory, box.spooled) == (0, 0)
    box.join("ada")
    assert not box.waiting("ada"), "what came before it is not for it"


def test_a_message_is_kept_once_for_all_clients() -> None:
    box = outbox()
    for name in NAMES:
        box.join(name)
    box.put(Channel.IOPUB, body("m", 1000))
    assert box.memory == OVERHEAD + 1010
    kept = [box.take(name, 1)[0].parts for name in NAMES]
    assert kept[0] is kept[1] is kept[2]


def test_one_message_that_brings_several_is_there_only_with_the_last_of_them() -> None:
    box = outbox()
    box.join("ada")
    for text in ("reply", "aborted"):
        box.put(Channel.SHELL, body(text), to="ada", source=1, number=5)
    box.came(1, 5)
    first, second = box.take("ada", 10_000)
    assert not box.flushed("ada", first.position)
    assert (box.cursors["ada"].number, box.handed_on()) == (0, [])
    assert box.flushed("ada", second.position)
    assert (box.cursors["ada"].number, box.handed_on()) == (5, [HandedOn(1, 5)])


def test_numbers_of_another_kernel_are_not_taken_for_the_present_ones() -> None:
    box = outbox()
    box.join("ada")
    fill(box, 3)
    box.count(2)
    for outgoing in box.take("ada", 10_000):
        assert not box.flushed("ada", outgoing.position)
    assert box.cursors["ada"].number == 0
    assert box.handed_on() == [HandedOn(1, 3)], "the old one is told all the same"


def test_who_had_something_from_an_earlier_server_is_not_given_it_again() -> None:
    box = outbox()
    box.join("ada", seen=2)
    box.join("bob", seen=0)
    fill(box, 4)
    assert read(box, "ada") == ["m3", "m4"]
    assert box.handed_on() == []
    assert read(box, "bob") == ["m1", "m2", "m3", "m4"]
    assert box.handed_on() == [HandedOn(1, 4)]


def test_a_client_far_behind_is_given_up_for_one_that_reads_and_only_then() -> None:
    box = outbox()
    for name in NAMES:
        box.join(name)
    fill(box, 50)
    assert box.full
    assert box.laggards() == [], "nobody reads: the kernel is to wait"
    box.cursors["ada"].connected = False
    read(box, "bob")
    assert box.laggards() == ["ada", "cy"]
    read(box, "cy", upto=30)
    assert box.laggards() == ["ada"], "it is behind, but it follows"
    assert box.drop("ada") == 0
    assert not box.full
    box.cursors["bob"].connected = False
    fill(box, 50, first=51)
    assert box.laggards() == [], "a parked client does not read"


def test_small_messages_in_the_spool_count_for_what_it_takes_to_know_of_them() -> None:
    box = outbox(limit=1_000_000)
    box.join("ada")
    fill(box, 400)
    assert box.full
    assert len(read(box, "ada")) == 400
