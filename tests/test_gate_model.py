"""The gate under every sequence of events that hypothesis finds: clients, kernels, swaps, ends and losses in any order.

A model kernel takes what it is sent one by one, as ipykernel does, and puts out busy, reply and idle whenever the test
says so, idle before or after the reply. What must hold all the time and at the end are the methods named ``invariant``
and ``teardown``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jupyter_dsvm.errors import Cancelled
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.relay.wire import Channel
from support.gated import FRONT, GONE, Gated, Kernel, info


@dataclass
class Process:
    """A model kernel's process: a queue per channel, and what it has yet to say about the request it is at."""

    kernel: Kernel
    alive: bool = True
    started: bool = False
    read: int = 0
    queues: dict[Channel, deque[Message]] = field(default_factory=lambda: {c: deque() for c in Channel})
    saying: dict[Channel, list[tuple[str, Message]]] = field(default_factory=dict)
    checked: int = 0
    last: int = -1
    hostile: bool = False

    def receive(self) -> None:
        for channel, message in self.kernel.received[self.read :]:
            self.queues[channel].append(message)
        self.read = len(self.kernel.received)

    @property
    def outstanding(self) -> list[Message]:
        """Cells of clients that it was given and has not finished."""
        waiting = [m for m in self.queues[Channel.SHELL] if is_cell(m)]
        begun = {m.id: m for _w, m in self.saying.get(Channel.SHELL, []) if is_cell(m)}
        return waiting + list(begun.values())

    def step(self, channel: Channel, idle_first: bool, fails: bool) -> bool:
        """Say one thing more, about the next request on that channel if the last is done with."""
        self.receive()
        saying = self.saying.setdefault(channel, [])
        if not saying:
            if not self.queues[channel]:
                return False
            message = self.queues[channel].popleft()
            ends = [("idle", message), ("fail" if fails else "reply", message)]
            if not message.type.endswith("_request"):
                ends = ends[:1]
            saying += [("busy", message), *(ends if idle_first else reversed(ends))]
        what, message = saying.pop(0)
        if what in ("busy", "idle"):
            self.kernel.status(what, message)
            return True
        content: dict[str, Any] = info() if message.type == "kernel_info_request" else {}
        if what == "fail" and is_cell(message):
            content = {"status": "error", "ename": "E", "evalue": "", "traceback": []}
        self.kernel.reply(message, channel, **content)
        return True

    def run(self) -> bool:
        """Until nothing is left to say; whether there was anything."""
        said = False
        while any(self.step(channel, False, False) for channel in (Channel.SHELL, Channel.CONTROL)):
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
        self.preparing: set[int] = set()
        self.launch()

    # Helpers

    def process(self, trusted: bool, name: str) -> Process:
        process = Process(self.g.add(name=name, trusted=trusted))
        self.processes[process.kernel.number] = process
        return process

    @property
    def current(self) -> Process:
        assert self.g.gate.current is not None
        return self.processes[self.g.gate.current.number]

    @property
    def living(self) -> list[Process]:
        return [p for p in self.processes.values() if p.alive and p.started]

    def ask(self, kind: str, channel: Channel, bob: bool, content: dict[str, Any] | None = None) -> None:
        asker = self.g.bob if bob else self.g.alice
        parts = asker.request(kind, content)
        message = Message(parts)
        self.asked[message.id] = (kind, channel, asker.ident)
        if channel is Channel.SHELL:
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
        kind=st.sampled_from(["kernel_info_request", "debug_request", "create_subshell_request", "interrupt_request"])
    )
    def a_control_request(self, kind: str) -> None:
        self.ask(kind, Channel.CONTROL, False)

    @rule()
    def an_input_reply(self) -> None:
        self.g.do(self.g.gate.from_client, Channel.STDIN, self.g.alice.request("input_reply", {"value": ""}))

    # Kernels

    @rule(
        data=st.data(),
        channel=st.sampled_from([Channel.SHELL, Channel.SHELL, Channel.CONTROL]),
        idle_first=st.booleans(),
        fails=st.booleans(),
        times=st.integers(1, 6),
    )
    def a_kernel_speaks(self, data: st.DataObject, channel: Channel, idle_first: bool, fails: bool, times: int) -> None:
        if self.living:
            process = data.draw(st.sampled_from(self.living))
            for _ in range(times):
                process.step(channel, idle_first, fails)

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

    @rule(hostile=st.booleans(), at_once=st.booleans())
    def an_attach(self, hostile: bool, at_once: bool) -> None:
        process = self.process(not hostile, "gpu-vm")
        process.hostile = hostile
        self.preparing.add(process.kernel.number)
        self.begin(process)
        if at_once:
            process.run()

    @rule(data=st.data())
    def a_swap(self, data: st.DataObject) -> None:
        candidates = sorted(self.preparing - self.g.failed.keys() - {old for old, _new in self.g.swapped})
        if candidates:
            self.g.swap(self.processes[data.draw(st.sampled_from(candidates))].kernel)

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
        for queue in process.queues.values():
            queue.clear()
        self.begin(process)

    def launch(self, ready: bool = True) -> None:
        process = self.process(True, "Free tier")
        self.g.do(self.g.gate.launched, process.kernel.number)
        self.begin(process)
        if ready:
            process.run()

    # What must hold

    @invariant()
    def at_most_one_cell_is_with_a_kernel(self) -> None:
        self.current.receive()
        assert not self.current.alive or len(self.current.outstanding) <= 1

    @invariant()
    def each_request_has_at_most_one_reply_which_goes_to_who_asked_and_nothing_is_said_about_anything_else(
        self,
    ) -> None:
        for said in self.g.said[self.heard :]:
            self.states.setdefault(said.about, []).append(said.what)
            assert said.about in self.asked or not said.about
            if said.channel is not Channel.IOPUB:
                kind, channel, ident = self.asked[said.about]
                assert (said.type, said.channel, said.idents) == (kind.replace("_request", "_reply"), channel, [ident])
                assert said.about not in self.replied
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
        self.g.do(self.g.gate.link, self.current.kernel.number, True)
        for _ in range(4):
            while [p for p in self.living if p.run()]:
                pass
            self.g.do(self.g.gate.hurry)
            if not self.current.alive and self.g.gate.gone_error is None:
                self.launch()
        self.each_request_has_at_most_one_reply_which_goes_to_who_asked_and_nothing_is_said_about_anything_else()
        for msg_id, (kind, _channel, _ident) in self.asked.items():
            about = self.states.get(msg_id, [])
            assert "idle" in about, f"{kind} never went idle: {about}"
            assert [w for w in about if w in ("busy", "idle")][-1] == "idle", f"{kind} ended busy: {about}"
            assert (msg_id in self.replied) is kind.endswith("_request"), f"{kind} got no reply: {about}"


TestGate = GateMachine.TestCase
TestGate.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
