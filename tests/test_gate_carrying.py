"""The gate while variables go from one kernel to the other (``kernels/swapping.py``); ``test_gate_model.py`` tries every order."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from jupyter_dsvm.errors import Cancelled, Unreachable
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.relay.wire import Channel
from support.gated import FRONT, GONE, Gated, Kernel


def own(kernel: Kernel) -> list[Message]:
    return [m for m in kernel.requests("execute_request") if m.header["session"] == FRONT]


def carrying(**options: Any) -> tuple[Gated, Kernel, Kernel, str]:
    """A swap that has come to its variables: the old kernel sends, a cell and a completion wait."""
    g = Gated()
    old = g.launch(**options)
    new = g.prepare(name="gpu-vm")
    g.swap(new, carry=True)
    assert g.carries == [(old.number, new.number)]
    asked = g.ask_code(old)
    g.cell("cell 1")
    g.ask("complete_request")
    assert old.code == new.code == []
    return g, old, new, asked


def test_variables_go_when_all_has_been_answered_and_then_the_new_kernel_takes_over() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    running = g.cell("cell 1")
    g.swap(new, carry=True)
    g.cell("cell 2")
    assert g.carries == []
    old.reply(old.requests()[0])
    assert g.carries == [], "it may have output left"
    old.status("idle", old.requests()[0])
    assert g.carries == [(old.number, new.number)]
    assert g.swapped == []
    g.cell("cell 3")
    g.do(g.gate.hurry)
    assert (old.code, new.code) == (["cell 1"], [])
    assert g.about(running)[-1] == "idle"
    g.do(g.gate.carried, new.number)
    assert g.swapped == [(old.number, new.number)]
    assert new.code == ["cell 2"], "in their order, one at a time"
    new.answer(new.requests("execute_request")[-1])
    assert new.code == ["cell 2", "cell 3"]
    g.do(g.gate.carried, new.number)
    assert g.carries == [(old.number, new.number)]


def test_what_is_asked_of_the_kernels_is_heard_by_nobody_else() -> None:
    g, old, new, asked = carrying()
    said = len(g.said)
    there = g.ask_code(new)
    for kernel, msg_id in ((old, asked), (new, there)):
        message = own(kernel)[0]
        assert (message.id, message.content["silent"], message.content["user_expressions"]) == (
            msg_id,
            True,
            {"x": "1"},
        )
        kernel.publish("stream", {"name": "stdout", "text": "secret"}, message)
        kernel.answer(message, user_expressions={"x": {"status": "ok", "data": {"text/plain": "1"}}})
    assert len(g.said) == said
    assert [(r or {})["user_expressions"]["x"]["data"]["text/plain"] for r in g.own_replies.values()] == ["1", "1"]
    assert g.gate.ask(99, "x", {}) is None, "no such side"


def test_the_page_is_answered_meanwhile_and_asking_is_refused() -> None:
    g, _old, new, _asked = carrying()
    info = g.ask("kernel_info_request")
    assert g.about(info) == ["busy", "kernel_info_reply:ok", "idle"]
    assert not g.gate.idle
    g.do(g.gate.carried, new.number)
    assert not g.gate.idle, "what waited runs"


CALLED_OFF: dict[str, Callable[[Gated, Kernel, Kernel], Any]] = {
    "cancelled": lambda g, old, new: g.do(g.gate.cancel_swap, new.number, Cancelled("It was cancelled.")),
    "interrupted": lambda g, old, new: g.do(g.gate.interrupt),
    "interrupted by a message": lambda g, old, new: g.control("interrupt_request"),
    "the new kernel ended": lambda g, old, new: g.do(g.gate.exited, new.number, 1, ""),
    "the new machine has gone": lambda g, old, new: g.do(g.gate.gone, new.number, GONE),
    "the new machine is out of reach": lambda g, old, new: g.do(g.gate.link, new.number, False),
}


@pytest.mark.parametrize("how", CALLED_OFF)
def test_called_off_the_old_kernel_keeps_everything_and_runs_what_waited(how: str) -> None:
    g, old, new, asked = carrying()
    CALLED_OFF[how](g, old, new)
    assert list(g.failed) == [new.number]
    assert old.signals == [], "what it sends ends with its socket"
    g.insist()
    assert old.signals == [signal.SIGINT], "or else it is interrupted"
    assert old.code == [], "the signal must not find a cell"
    g.cell("cell 2")
    message = own(old)[0]
    assert message.id == asked
    old.reply(message, status="error", ename="KeyboardInterrupt", evalue="", traceback=[])
    assert old.code == ["cell 1"]
    old.answer(old.requests("execute_request")[-1])
    assert old.code == ["cell 1", "cell 2"]
    assert g.swapped == []
    assert g.own_replies[asked] is not None
    g.insist()
    assert (old.signals, g.insisting) == ([signal.SIGINT], []), "it has ended"


@pytest.mark.parametrize("how", CALLED_OFF)
def test_called_off_when_nothing_is_being_sent_any_more_what_waited_runs_at_once(how: str) -> None:
    g, old, new, _asked = carrying()
    old.answer(own(old)[0])
    CALLED_OFF[how](g, old, new)
    assert old.code == ["cell 1"]
    interrupted = [signal.SIGINT] if how.startswith("interrupted") else []
    assert (old.signals, g.insisting) == (interrupted, [])


def test_nothing_is_interrupted_where_nothing_is_being_sent() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    g.swap(new, carry=True)
    g.cell("cell 1")
    g.do(g.gate.cancel_swap, new.number, Cancelled("It was cancelled."))
    assert (old.signals, old.code) == ([], ["cell 1"])


def test_a_kernel_that_is_interrupted_with_a_message_gets_one() -> None:
    g, old, new, _asked = carrying(mode="message")
    g.do(g.gate.cancel_swap, new.number, Cancelled("It was cancelled."))
    g.insist()
    assert [m.type for m in old.requests() if m.header["session"] == FRONT][-1] == "interrupt_request"
    assert old.signals == []


@pytest.mark.parametrize("how", ["exited", "gone"])
def test_where_the_old_kernel_ends_the_new_one_takes_over_with_what_it_has(how: str) -> None:
    g, old, new, asked = carrying()
    g.do(*((g.gate.exited, old.number, -9, "") if how == "exited" else (g.gate.gone, old.number, GONE)))
    assert g.own_replies == {asked: None}, "whoever asked is told"
    assert g.swapped == [(old.number, new.number)]
    assert g.failed == {}
    # An end aborts the cells that wait only where one was running.
    assert new.code == ["cell 1"]


def test_out_of_reach_nothing_is_carried_and_a_signal_may_follow_when_it_is_back() -> None:
    g, old, new, _asked = carrying(trusted=False)
    g.do(g.gate.link, old.number, False)
    assert isinstance(g.failed[new.number], Unreachable)
    assert old.code == []
    g.insist()
    assert old.signals == [], "it would be dropped with the link"
    g.do(g.gate.link, old.number, True)
    g.insist()
    assert old.signals == [signal.SIGINT]
    assert old.code == []
    old.answer(own(old)[0])
    assert old.code == ["cell 1"]


def test_a_swap_with_variables_does_not_begin_out_of_reach() -> None:
    g = Gated()
    old, new = g.launch(trusted=False), g.prepare()
    g.do(g.gate.link, old.number, False)
    g.swap(new, carry=True)
    assert g.carries == []
    assert isinstance(g.failed[new.number], Unreachable)


def test_a_restart_while_they_go_cancels_the_move_and_nothing_waits_for_ever() -> None:
    g, old, new, asked = carrying()
    waiting = g.cell("cell 2")
    g.do(g.gate.user_ends, "restarted")
    assert list(g.failed) == [new.number]
    g.do(g.gate.started, old.number)
    assert g.own_replies == {asked: None}
    assert g.about(waiting) == ["busy", "execute_reply:aborted", "idle"], (
        "as what waits behind a cell when it is restarted"
    )
    g.answer_own(old)
    g.cell("cell 3")
    assert old.code == ["cell 3"]


def test_a_later_attach_takes_the_place_of_one_that_carries() -> None:
    g, old, new, _asked = carrying()
    other = g.prepare(name="cpu-vm")
    g.swap(other, carry=True)
    assert isinstance(g.failed[new.number], Cancelled)
    assert g.carries == [(old.number, new.number)], "not before the other one has ended"
    old.answer(own(old)[0])
    assert g.carries[1:] == [(old.number, other.number)]
    g.do(g.gate.carried, new.number)
    assert g.swapped == []
    g.do(g.gate.carried, other.number)
    assert g.swapped == [(old.number, other.number)]
    assert other.code == ["cell 1"]


def test_a_kernel_that_is_asked_for_its_variables_while_idle_runs_the_next_cell_behind_that() -> None:
    g = Gated()
    kernel = g.launch()
    assert g.gate.idle
    asked = g.ask_code(kernel)
    g.cell("cell 1")
    assert kernel.code == ["cell 1"]
    assert not g.gate.idle
    kernel.answer(own(kernel)[0], Channel.SHELL, user_expressions={})
    assert list(g.own_replies) == [asked]
