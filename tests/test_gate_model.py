"""The gate under every sequence of events that hypothesis finds: clients, kernels, swaps, ends and losses in any order.

A model kernel takes what it is sent one by one, as ipykernel does, and puts out busy, reply and idle whenever the test
says so, idle before or after the reply, and an output before both. Clients may lag behind, and the gate's process may be
killed: the next one adopts the kernel, and what the clients had not read comes again. What must hold all the time and at
the end are the methods named ``invariant`` and ``teardown``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyter_dsvm.errors import Cancelled
from jupyter_dsvm.kernels.actions import Carrying, Phase
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.relay.wire import Channel
from support.gated import FRONT, GONE, Gated, Kernel, info

Lane = tuple[Channel, Any]
MAIN: Lane = (Channel.SHELL, None)


@dataclass(repr=False)
class Process:
    """A model kernel's process: a queue per channel and subshell, and what it has yet to say about the request it is at."""

    kernel: Kernel
    alive: bool = True
    started: bool = False
    read: int = 0
    queues: dict[Lane, deque[Message]] = field(default_factory=dict)
    saying: dict[Lane, list[tuple[str, Message]]] = field(default_factory=dict)
    offers_subshells: bool = True
    subshells: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    checked: int = 0
    last: int = -1
    outputs: list[str] = field(default_factory=list)
    hostile: bool = False

    def receive(self) -> None:
        for channel, message in self.kernel.received[self.read :]:
            subshell = message.header.get("subshell_id") if channel is Channel.SHELL else None
            assert subshell is None or subshell in self.subshells, "it would be an UnknownSubshellError"
            self.queues.setdefault((channel, subshell), deque()).append(message)
        self.read = len(self.kernel.received)

    @property
    def outstanding(self) -> list[Message]:
        """Cells of clients that its main shell was given and has not finished."""
        waiting = [m for m in self.queues.get(MAIN, []) if is_cell(m)]
        begun = {m.id: m for _w, m in self.saying.get(MAIN, []) if is_cell(m)}
        return waiting + list(begun.values())

    def about_subshells(self, message: Message) -> dict[str, Any]:
        if message.type == "create_subshell_request" and self.offers_subshells:
            made = f"{self.kernel.session.session}-{len(self.subshells | self.deleted)}"
            self.subshells.add(made)
            return {"subshell_id": made}
        if message.type == "delete_subshell_request":
            self.subshells.remove(message.content["subshell_id"])
            self.deleted.add(message.content["subshell_id"])
        return {}

    def step(self, lane: Lane, idle_first: bool, fails: bool) -> bool:
        """Say one thing more, about the next request on that channel if the last is done with."""
        self.receive()
        channel = lane[0]
        saying = self.saying.setdefault(lane, [])
        if not saying:
            if not self.queues.get(lane):
                return False
            message = self.queues[lane].popleft()
            ends = [("idle", message), ("fail" if fails else "reply", message)]
            if not message.type.endswith("_request"):
                ends = ends[:1]
            saying += [("busy", message), ("output", message), *(ends if idle_first else reversed(ends))]
        what, message = saying.pop(0)
        if what == "output":
            self.outputs.append(f"{self.kernel.session.session} {len(self.outputs)} {message.id}")
            self.kernel.publish("stream", {"name": "stdout", "text": self.outputs[-1]}, message)
            return True
        if what in ("busy", "idle"):
            self.kernel.status(what, message)
            return True
        content = self.about_subshells(message)
        if message.type == "kernel_info_request":
            content = info() if self.offers_subshells else {**info(), "supported_features": []}
        if what == "fail" and is_cell(message):
            content = {"status": "error", "ename": "E", "evalue": "", "traceback": []}
        self.kernel.reply(message, channel, **content)
        return True

    def run(self) -> bool:
        """Until nothing is left to say; whether there was anything."""
        said = False
        self.receive()
        while sum(self.step(lane, False, False) for lane in list(self.queues)):
            self.receive()
            said = True
        return said


def is_cell(message: Message) -> bool:
    return message.type == "execute_request" and message.header["session"] != FRONT


class GateMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.g = Gated(magic="the magic")
        self.processes: dict[int, Process] = {}
        self.asked: dict[str, tuple[str, Channel, bytes]] = {}
        """Every request of a client: type, channel, and who asked."""
        self.sent: dict[str, int] = {}
        """Which message on shell it was."""
        self.heard = 0
        self.states: dict[str, list[str]] = {}
        self.replied: set[str] = set()
        self.outputs: set[str] = set()
        self.everyone: list[Process] = []
        self.excused: set[str] = set()
        """Outputs that died with this server, whose kernel was on it, or had been replaced."""
        self.lost: set[str] = set()
        """Requests that a server which was killed had not passed on, other than cells."""
        self.preparing: set[int] = set()
        self.questions: set[str] = set()
        """Of the gate's owner to kernels, by id."""
        self.launch()

    # Helpers

    def process(self, trusted: bool, name: str, offers_subshells: bool = True) -> Process:
        process = Process(self.g.add(name=name, trusted=trusted), offers_subshells=offers_subshells)
        self.everyone.append(process)
        self.processes[process.kernel.number] = process
        return process

    @property
    def current(self) -> Process:
        assert self.g.gate.current is not None
        return self.processes[self.g.gate.current.number]

    @property
    def living(self) -> list[Process]:
        return [p for p in self.processes.values() if p.alive and p.started]

    def ask(
        self, kind: str, channel: Channel, bob: bool, content: dict[str, Any] | None = None, subshell: str | None = None
    ) -> None:
        asker = self.g.bob if bob else self.g.alice
        parts = asker.request(kind, content, subshell_id=subshell)
        message = Message(parts)
        self.asked[message.id] = (kind, channel, asker.ident)
        if channel is Channel.SHELL and subshell is None:
            self.sent[message.id] = len(self.sent)
        self.g.do(self.g.gate.from_client, channel, parts)

    def begin(self, process: Process) -> None:
        process.alive = process.started = True
        self.g.do(self.g.gate.started, process.kernel.number)

    # Clients

    @rule(bob=st.booleans(), stop=st.booleans(), silent=st.booleans())
    def a_cell(self, bob: bool, stop: bool, silent: bool) -> None:
        self.ask("execute_request", Channel.SHELL, bob, {"code": "cell", "stop_on_error": stop, "silent": silent})

    @rule(
        kind=st.sampled_from(["complete_request", "kernel_info_request", "comm_msg", "odd_request"]), bob=st.booleans()
    )
    def another_request(self, kind: str, bob: bool) -> None:
        self.ask(kind, Channel.SHELL, bob)

    @rule(
        kind=st.sampled_from(["execute_request", "comm_msg", "comm_msg", "odd_request"]),
        subshell=st.sampled_from(["1", "2"]),
        bob=st.booleans(),
    )
    def a_request_to_a_subshell(self, kind: str, subshell: str, bob: bool) -> None:
        self.ask(kind, Channel.SHELL, bob, {"code": "cell"}, subshell)

    @rule(
        kind=st.sampled_from(["kernel_info_request", "debug_request", "create_subshell_request", "interrupt_request"])
    )
    def a_control_request(self, kind: str) -> None:
        self.ask(kind, Channel.CONTROL, False)

    @rule(subshell=st.sampled_from(["1", "2", "3"]))
    def a_subshell_is_deleted(self, subshell: str) -> None:
        self.ask("delete_subshell_request", Channel.CONTROL, False, {"subshell_id": subshell})

    @rule()
    def an_input_reply(self) -> None:
        self.g.do(self.g.gate.from_client, Channel.STDIN, self.g.alice.request("input_reply", {"value": ""}))

    # Kernels

    @rule(
        data=st.data(),
        channel=st.sampled_from([Channel.SHELL, Channel.SHELL, Channel.CONTROL]),
        subshell=st.integers(0, 2),
        idle_first=st.booleans(),
        fails=st.booleans(),
        times=st.integers(1, 6),
    )
    def a_kernel_speaks(
        self, data: st.DataObject, channel: Channel, subshell: int, idle_first: bool, fails: bool, times: int
    ) -> None:
        if self.living:
            process = data.draw(st.sampled_from(self.living))
            process.receive()
            lanes = [lane for lane in process.queues if lane[0] is channel]
            for _ in range(times if lanes else 0):
                process.step(lanes[subshell % len(lanes)], idle_first, fails)

    @rule(data=st.data(), about=st.integers(0, 30))
    def a_kernel_says_what_it_should_not(self, data: st.DataObject, about: int) -> None:
        """What a kernel that is not trusted, not current or not ready says about other kernels' requests is not heard."""
        others = [p for p in self.living if p is not self.current or p.hostile]
        known = {m.id for p in others for m in p.kernel.requests()}
        targets = [i for i in self.asked if i not in known]
        if not others or not targets:
            return
        process = data.draw(st.sampled_from(others))
        msg_id = targets[about % len(targets)]
        parent = {"msg_id": msg_id, "msg_type": self.asked[msg_id][0]}
        heard = len(self.g.said)
        for kind, content in (("stream", {"name": "stdout", "text": ""}), ("status", {"execution_state": "idle"})):
            process.kernel.publish(kind, content, parent)
        reply = self.asked[msg_id][0].replace("request", "reply")
        process.kernel.message(self.asked[msg_id][1], reply, {"status": "ok"}, parent, [self.asked[msg_id][2]])
        process.kernel.message(Channel.STDIN, "input_request", {"prompt": ""}, parent, [b"alice"])
        assert len(self.g.said) == heard

    # What happens to kernels

    @rule(hostile=st.booleans(), at_once=st.booleans(), subshells=st.booleans())
    def an_attach(self, hostile: bool, at_once: bool, subshells: bool) -> None:
        process = self.process(not hostile, "gpu-vm", subshells)
        process.hostile = hostile
        self.preparing.add(process.kernel.number)
        self.begin(process)
        if at_once:
            process.run()

    @rule(data=st.data(), carry=st.booleans())
    def a_swap(self, data: st.DataObject, carry: bool) -> None:
        candidates = sorted(self.preparing - self.g.failed.keys() - {old for old, _new in self.g.swapped})
        if candidates:
            self.g.swap(self.processes[data.draw(st.sampled_from(candidates))].kernel, carry)

    @rule(data=st.data(), here=st.booleans())
    def something_is_asked_of_a_kernel(self, data: st.DataObject, here: bool) -> None:
        """As for its variables: of the notebook's kernel, or of any."""
        process = self.current if here else self.processes[data.draw(st.sampled_from(sorted(self.processes)))]
        asked = self.g.do(self.g.gate.ask, process.kernel.number, "code of ours", {"x": "1"})
        if asked is not None:
            self.questions.add(asked)

    @rule()
    def seconds_go_by(self) -> None:
        self.g.insist()

    @rule(data=st.data(), the_one=st.booleans())
    def variables_are_carried(self, data: st.DataObject, the_one: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.processes)))
        target = self.g.gate.target
        self.g.do(self.g.gate.carried, target if the_one and target is not None else number)

    @rule(data=st.data())
    def a_cancelled_swap(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.processes)))
        self.g.do(self.g.gate.cancel_swap, number, Cancelled("It was cancelled."))

    @rule()
    def it_takes_too_long(self) -> None:
        self.g.do(self.g.gate.hurry)

    @rule(data=st.data(), code=st.integers(-15, 1))
    def an_end(self, data: st.DataObject, code: int) -> None:
        if self.living:
            process = data.draw(st.sampled_from(self.living))
            process.alive = False
            self.g.do(self.g.gate.exited, process.kernel.number, code, "it said this")

    @rule(data=st.data())
    def a_machine_goes(self, data: st.DataObject) -> None:
        if self.living:
            process = data.draw(st.sampled_from(self.living))
            process.alive = False
            self.g.do(self.g.gate.gone, process.kernel.number, GONE)

    @rule(reachable=st.booleans())
    def the_link_changes(self, reachable: bool) -> None:
        self.g.do(self.g.gate.link, self.current.kernel.number, reachable)

    @rule(data=st.data(), reachable=st.booleans())
    def another_link_changes(self, data: st.DataObject, reachable: bool) -> None:
        self.g.do(self.g.gate.link, data.draw(st.sampled_from(sorted(self.processes))), reachable)

    @rule()
    def an_interrupt(self) -> None:
        self.g.do(self.g.gate.interrupt)

    @rule(seen=st.booleans(), ready=st.booleans())
    def a_restart(self, seen: bool, ready: bool) -> None:
        """As jupyter_client restarts a kernel on this server: it ends, and another one is launched."""
        self.ask("shutdown_request", Channel.CONTROL, False, {"restart": True})
        self.g.do(self.g.gate.user_ends, "restarted")
        old = self.current
        if seen and old.alive:
            self.g.do(self.g.gate.exited, old.kernel.number, 0, "")
        old.alive = False
        self.launch(ready)

    @precondition(lambda self: self.g.gate.gone_error is None)
    @rule(seen=st.booleans())
    def a_restart_in_place(self, seen: bool) -> None:
        """As a relay restarts one: the same side, another process."""
        process = self.current
        self.g.do(self.g.gate.user_ends, "restarted")
        if seen and process.alive and process.started:
            self.g.do(self.g.gate.exited, process.kernel.number, 0, "")
        process.receive()
        process.saying.clear()
        process.queues.clear()
        process.deleted |= process.subshells
        process.subshells.clear()
        self.begin(process)

    def launch(self, ready: bool = True) -> None:
        process = self.process(True, "Free tier")
        self.g.do(self.g.gate.launched, process.kernel.number)
        self.g.moved(process.kernel.number)
        self.begin(process)
        if ready:
            process.run()

    # What happens to this server

    @rule(lag=st.booleans())
    def the_clients_lag_or_catch_up(self, lag: bool) -> None:
        self.g.lagging = lag
        if not lag:
            self.g.read_all()

    @precondition(lambda self: self.current.alive and self.g.gate.current.phase is Phase.READY)
    @rule(
        cells=st.integers(0, 3),
        idle_first=st.booleans(),
        fails=st.booleans(),
        times=st.integers(0, 10),
        reads=st.integers(0, 15),
    )
    def it_is_killed(self, cells: int, idle_first: bool, fails: bool, times: int, reads: int) -> None:
        """And the kernel's machine is not: the next process adopts the kernel."""
        process = self.current
        lagged, self.g.lagging = self.g.lagging, True
        for _ in range(cells):
            self.ask("execute_request", Channel.SHELL, False, {"code": "cell", "stop_on_error": fails})
        for _ in range(times):
            process.step(MAIN, idle_first, fails)
        self.g.lagging = lagged
        self.g.die(reads)
        self.hear()
        self.excused |= {text for p in self.everyone if p is not process for text in p.outputs}
        self.processes = {process.kernel.number: process}
        self.preparing.clear()
        self.questions.clear()
        self.g.own_replies.clear()
        self.g.failed.clear()
        self.g.swapped.clear()
        kept = {key[1] for key in self.g.log.requests}
        for msg_id, (kind, _channel, _ident) in self.asked.items():
            if kind != "execute_request" and msg_id not in kept:
                self.lost.add(msg_id)

    # What must hold

    @invariant()
    def at_most_one_cell_is_with_a_kernel(self) -> None:
        self.current.receive()
        assert not self.current.alive or len(self.current.outstanding) <= 1

    @invariant()
    def no_cell_is_with_a_kernel_that_sends_its_variables_or_is_interrupted_in_that(self) -> None:
        side = self.g.gate.current
        under_way = self.g.gate._state.carrying is Carrying.UNDER_WAY
        if side is not None and self.current.alive and (under_way or side.stopping):
            assert self.current.outstanding == []
            assert not under_way or self.g.gate.target is not None

    @invariant()
    def nothing_waits_for_nothing(self) -> None:
        state = self.g.gate._state
        side = self.g.gate.current
        if side is not None and side.phase is Phase.READY and side.reachable and not side.stopping and not state.target:
            assert not state.flow.waiting or state.flow.running or state.flow.must_wait(state.flow.waiting.first)

    @invariant()
    def each_question_is_answered_once_at_most(self) -> None:
        assert self.g.own_replies.keys() <= self.questions

    @invariant()
    def each_request_has_at_most_one_reply_which_goes_to_who_asked_and_nothing_is_said_about_anything_else(
        self,
    ) -> None:
        self.hear()

    def hear(self) -> None:
        for said in self.g.said[self.heard :]:
            self.states.setdefault(said.about, []).append(said.what)
            assert said.about in self.asked or not said.about
            if said.type == "stream":
                assert said.content["text"] not in self.outputs
                self.outputs.add(said.content["text"])
            if said.channel is not Channel.IOPUB:
                kind, channel, ident = self.asked[said.about]
                assert (said.type, said.channel, said.idents) == (kind.replace("_request", "_reply"), channel, [ident])
                assert said.about not in self.replied or said.again
                self.replied.add(said.about)
        self.heard = len(self.g.said)

    @invariant()
    def the_order_of_requests_is_kept(self) -> None:
        for process in self.processes.values():
            for channel, message in process.kernel.received[process.checked :]:
                if channel is Channel.SHELL and message.id in self.sent:
                    assert self.sent[message.id] > process.last
                    process.last = self.sent[message.id]
            process.checked = len(process.kernel.received)

    @invariant()
    def what_was_swapped_out_was_not_given_up(self) -> None:
        assert not {old for old, _new in self.g.swapped} & self.g.failed.keys()

    def teardown(self) -> None:
        """In the end everything has been answered: kernels finish what they have, and a dead one is restarted."""
        self.g.lagging = False
        self.g.do(self.g.gate.link, self.current.kernel.number, True)
        for _ in range(4):
            while [p for p in self.living if p.run()]:
                pass
            self.g.do(self.g.gate.hurry)
            if self.g.gate.target is not None:
                self.g.do(self.g.gate.carried, self.g.gate.target)
            if not self.current.alive and self.g.gate.gone_error is None:
                self.launch()
        self.hear()
        assert set(self.g.answered) == set(self.g.asked)
        assert self.g.own_replies.keys() == self.questions, "every question is answered, or given up"
        for text in [t for p in self.everyone for t in p.outputs if t.split()[-1] in self.asked]:
            assert text in self.outputs | self.excused
        for msg_id, (kind, _channel, _ident) in self.asked.items():
            about = self.states.get(msg_id, [])
            if msg_id in self.lost:
                continue
            assert "idle" in about, f"{kind} never went idle: {about}"
            assert [w for w in about if w in ("busy", "idle")][-1] == "idle", f"{kind} ended busy: {about}"
            assert (msg_id in self.replied) is kind.endswith("_request"), f"{kind} got no reply: {about}"


TestGate = GateMachine.TestCase
TestGate.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
