"""The gate's rules, one by one (DESIGN section 1). ``test_gate_model.py`` tries them in every order."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from jupyter_dsvm.errors import Cancelled, KernelStartError, LanguageMismatch
from jupyter_dsvm.kernels import gate_state
from jupyter_dsvm.kernels.messages import DELIM
from jupyter_dsvm.relay.wire import Channel
from support.gated import FRONT, GONE, Gated, info

ABORTED = ["busy", "execute_reply:aborted", "idle"]
DIED = ["busy", "error", "execute_reply:error", "idle"]


def test_one_cell_at_a_time_and_in_order() -> None:
    g = Gated()
    kernel = g.launch()
    g.cell("cell 1")
    g.ask("complete_request")
    g.cell("cell 2")
    assert [m.type for m in kernel.requests()] == ["execute_request"]
    kernel.answer(kernel.requests()[0])
    assert [m.type for m in kernel.requests()] == ["execute_request", "complete_request", "execute_request"]
    assert kernel.code == ["cell 1", "cell 2"]


def test_requests_other_than_cells_do_not_wait_for_each_other() -> None:
    g = Gated()
    kernel = g.launch()
    g.ask("complete_request")
    g.ask("inspect_request")
    g.cell()
    assert len(kernel.requests()) == 3


@pytest.mark.parametrize("reply_first", [True, False])
def test_a_cell_is_over_when_it_has_replied_and_is_idle_whichever_is_first(reply_first: bool) -> None:
    g = Gated()
    kernel = g.launch()
    g.cell("cell 1")
    g.cell("cell 2")
    asked = kernel.requests()[0]
    steps = [lambda: kernel.reply(asked), lambda: kernel.status("idle", asked)]
    for step in steps if reply_first else reversed(steps):
        assert kernel.code == ["cell 1"]
        step()
    assert kernel.code == ["cell 1", "cell 2"]


@pytest.mark.parametrize(
    ("content", "aborts"),
    [({}, True), ({"stop_on_error": True}, True), ({"stop_on_error": False}, False), ({"silent": True}, False)],
)
def test_after_an_error_the_cells_that_had_arrived_are_aborted(content: dict[str, Any], aborts: bool) -> None:
    g = Gated()
    kernel = g.launch()
    g.cell("cell 1", **content)
    waiting = g.cell("cell 2")
    completion = g.ask("complete_request")
    asked = kernel.requests()[0]
    kernel.status("busy", asked)
    kernel.reply(asked, status="error", ename="E", evalue="", traceback=[])
    kernel.status("idle", asked)
    assert (g.about(waiting) == ABORTED) is aborts
    assert kernel.code == (["cell 1"] if aborts else ["cell 1", "cell 2"])
    if aborts:
        assert g.replies(waiting)[0].idents == [b"alice"]
        assert completion in [m.id for m in kernel.requests()], "what is no cell is not aborted"
        g.cell("cell 3")
        assert kernel.code[-1] == "cell 3", "what comes later runs"


def test_nothing_goes_to_a_kernel_before_it_is_ready_and_then_all_of_it_does() -> None:
    g = Gated(magic="the magic")
    kernel = g.add()
    g.do(g.gate.launched, kernel.number)
    g.cell()
    g.do(g.gate.started, kernel.number)
    (asked,) = kernel.requests()
    kernel.reply(asked, **info())
    assert [m.type for m in kernel.requests()] == ["kernel_info_request"], "IOPub has not been seen"
    g.do(g.gate.link, kernel.number, False)
    assert g.do(g.gate.ask_again, kernel.number)
    assert len(kernel.requests()) == 1, "ten a second would wait for the link"
    g.do(g.gate.link, kernel.number, True)
    assert g.do(g.gate.ask_again, kernel.number)
    assert [m.type for m in kernel.requests()] == ["kernel_info_request"] * 2
    assert g.ready == []
    kernel.status("busy", kernel.requests()[1])
    assert g.ready == [kernel.number]
    magic, cell = kernel.requests()[2:]
    assert (magic.content["code"], magic.content["silent"]) == ("the magic", True)
    assert cell.content["code"] == "cell", "right behind it: a shell channel keeps the order"
    assert not g.do(g.gate.ask_again, kernel.number)
    kernel.answer(magic)
    assert not [s for s in g.said if s.type != "status"], "nothing about the gate's own requests is heard outside"
    assert g.said == []


def test_a_kernel_that_is_asked_before_it_runs_is_not_asked_again_when_it_does() -> None:
    g = Gated(magic="the magic")
    kernel = g.add(trusted=False)
    g.do(g.gate.launched, kernel.number)
    g.do(g.gate.starting, kernel.number)
    (asked,) = kernel.requests()
    g.cell()
    g.do(g.gate.started, kernel.number)
    assert g.do(g.gate.ask_again, kernel.number)
    assert kernel.requests() == [asked]
    kernel.answer(asked, **info())
    assert g.ready == [kernel.number]
    assert [m.content["code"] for m in kernel.requests()[1:]] == ["the magic", "cell"]
    g.do(g.gate.started, kernel.number)
    assert [m.type for m in kernel.requests()].count("kernel_info_request") == 2, (
        "another process has heard nothing yet"
    )


def test_a_kernel_that_took_the_early_question_with_it_leaves_the_next_one_to_be_asked() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    g.do(g.gate.launched, kernel.number)
    g.do(g.gate.starting, kernel.number)
    (early,) = kernel.requests()
    g.do(g.gate.exited, kernel.number, 1, "")
    g.do(g.gate.started, kernel.number)  # restarted in place
    asked = kernel.requests()[-1]
    assert asked.id != early.id
    kernel.answer(asked, **info())
    assert g.ready == [kernel.number]


def test_a_welcome_will_do_and_a_kernel_of_another_language_gets_no_magic() -> None:
    g = Gated(magic="the magic")
    kernel = g.add(language="R")
    g.do(g.gate.launched, kernel.number)
    g.do(g.gate.started, kernel.number)
    kernel.publish("iopub_welcome", {"subscription": ""}, None)
    assert g.ready == []
    kernel.reply(kernel.requests()[0], **info("R"))
    assert g.ready == [kernel.number]
    assert g.said == []


def test_a_magic_that_failed_does_not_stop_the_kernel() -> None:
    g = Gated(magic="the magic")
    kernel = g.add()
    g.do(g.gate.launched, kernel.number)
    g.do(g.gate.started, kernel.number)
    kernel.answer(kernel.requests()[0], **info())
    asked = kernel.requests()[-1]
    kernel.reply(asked, status="error", ename="E", evalue="", traceback=[])
    kernel.status("idle", asked)
    assert g.ready == [kernel.number]


# Kernel info, control, stdin


def test_kernel_info_does_not_wait_behind_a_cell() -> None:
    g = Gated()
    kernel = g.launch()
    cell = g.cell()
    kernel.status("busy", kernel.requests()[0])
    asked = g.ask("kernel_info_request", asker=g.bob)
    assert g.about(asked) == ["busy", "kernel_info_reply:ok", "idle"]
    assert g.replies(asked)[0].idents == [b"bob"]
    assert g.replies(asked)[0].content["supported_features"] == ["kernel subshells", "debugger"]
    assert (g.said[-1].what, g.said[-1].about) == ("busy", cell), "the last word is that the cell runs"


def test_kernel_info_does_not_wait_behind_a_comm_either() -> None:
    g = Gated()
    g.launch()
    g.ask("comm_msg", {"comm_id": "c", "data": {}})
    asked = g.ask("kernel_info_request")
    assert "kernel_info_reply:ok" in g.about(asked)


def test_an_idle_kernel_is_asked_itself() -> None:
    g = Gated()
    kernel = g.launch()
    asked = g.ask("kernel_info_request")
    kernel.answer(kernel.requests()[0], **info(banner="new"))
    (reply,) = g.replies(asked)
    assert reply.content["banner"] == "new"
    assert g.gate.info is not None
    assert g.gate.info["banner"] == "new"


# Out of reach


def test_out_of_reach_kernel_info_is_answered_and_all_else_waits() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    g.do(g.gate.link, kernel.number, False)
    for channel in (Channel.SHELL, Channel.CONTROL):
        assert "kernel_info_reply:ok" in g.about(g.ask("kernel_info_request", channel=channel))
    g.control("debug_request")
    g.cell("cell 1")
    g.cell("cell 2")
    assert kernel.requests() == []
    g.do(g.gate.link, kernel.number, True)
    assert [m.type for m in kernel.requests()] == ["debug_request", "execute_request"]
    kernel.answer(kernel.requests()[1])
    assert kernel.code == ["cell 1", "cell 2"]


def test_what_waits_for_a_kernel_out_of_reach_runs_where_the_notebook_moves_to() -> None:
    g = Gated()
    old, new = g.launch(trusted=False), g.prepare()
    g.do(g.gate.link, old.number, False)
    g.cell()
    asked = g.control("debug_request")
    g.swap(new)
    assert (old.code, new.code) == ([], ["cell"])
    assert [m.id for m in new.requests("debug_request")] == [asked]


def test_what_waits_for_a_machine_that_turns_out_to_be_gone_is_answered() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    g.do(g.gate.link, kernel.number, False)
    cell, debug = g.cell(), g.control("debug_request")
    g.do(g.gate.gone, kernel.number, GONE)
    assert g.about(cell) == DIED
    assert g.about(debug) == ["busy", "debug_reply:error", "idle"]


@pytest.mark.parametrize("subshell", [{}, {"subshell_id": "s"}])
def test_no_more_than_a_limit_waits_for_a_kernel_out_of_reach(
    subshell: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 300_000
    monkeypatch.setattr(gate_state, "MAX_HELD", limit)
    g = Gated()
    kernel = g.launch(trusted=False, name="gpu-vm")
    g.do(g.gate.link, kernel.number, False)
    big = "cell" + "x" * (limit // 3)
    waiting = [g.ask("execute_request", {"code": big}, **subshell), g.control("debug_request", {"code": big})]
    too_much = g.ask("execute_request", {"code": big + big}, **subshell)
    assert g.about(too_much) == DIED
    assert "gpu-vm is out of reach" in g.replies(too_much)[0].content["evalue"]
    for _ in range(3):
        assert g.about(g.ask("comm_msg", {"comm_id": "c", "data": big + big}, **subshell)) == ["busy", "idle"]
    assert g.about(g.ask("complete_request", {"code": big + big}))[1] == "complete_reply:error"
    assert g.about(g.control("debug_request", {"code": big + big}))[1] == "debug_reply:error"
    assert len([r for r in caplog.records if "no more can wait" in r.getMessage()]) == 1
    small = g.cell("cell 2")
    assert not [s for i in (*waiting, small) for s in g.about(i)]
    g.do(g.gate.link, kernel.number, True)
    kernel.answer(kernel.requests("execute_request")[-1])
    assert {waiting[0], waiting[1], small} >= {m.id for m in kernel.requests() if m.type != "create_subshell_request"}
    asked = g.cell(big + big + big + big)
    assert g.about(asked) == [], "a kernel that is reached sets its own limits"


def test_an_interrupt_under_way_when_the_link_drops_is_answered() -> None:
    g = Gated()
    kernel = g.launch(mode="message", trusted=False, name="gpu-vm")
    cell = g.cell()
    asked = g.control("interrupt_request")
    debug = g.control("debug_request")
    g.do(g.gate.link, kernel.number, False)
    assert g.about(asked) == ["busy", "interrupt_reply:error", "idle"]
    assert "gpu-vm went out of reach" in g.replies(asked)[0].content["evalue"]
    assert g.about(cell) == g.about(debug) == []
    g.do(g.gate.interrupt)
    g.do(g.gate.link, kernel.number, True)
    assert [m.type for m in kernel.requests()] == ["execute_request", "interrupt_request", "debug_request"]
    kernel.reply(kernel.requests("interrupt_request")[0], Channel.CONTROL)
    assert len(g.replies(asked)) == 1


def test_an_interrupt_is_not_kept_behind_another_one() -> None:
    g = Gated()
    kernel = g.launch(mode="message")
    for _ in range(2):
        asked = g.ask("interrupt_request", {"n": len(g.said)}, Channel.CONTROL, msg_id="same")
    assert g.about(asked) == ["busy", "interrupt_reply:ok", "idle"]
    kernel.answer(kernel.requests()[0], Channel.CONTROL)
    assert len(kernel.requests("interrupt_request")) == 1


def test_before_the_first_answer_kernel_info_waits() -> None:
    g = Gated()
    kernel = g.add()
    g.do(g.gate.launched, kernel.number)
    shell, control = g.ask("kernel_info_request"), g.control("kernel_info_request")
    assert g.said == []
    g.come_up(kernel)
    assert {m.id for m in kernel.requests()} == {shell, control}


def test_an_interrupt_follows_the_kernels_mode() -> None:
    g = Gated()
    kernel = g.launch()
    assert "interrupt_reply:ok" in g.about(g.control("interrupt_request"))
    g.do(g.gate.interrupt)
    assert kernel.signals == [signal.SIGINT] * 2
    assert kernel.requests() == []

    g = Gated()
    kernel = g.launch(mode="message")
    asked = g.control("interrupt_request")
    g.do(g.gate.interrupt)
    first, own = kernel.requests("interrupt_request")
    assert (first.id, own.header["session"]) == (asked, FRONT)
    assert kernel.signals == []


@pytest.mark.parametrize("mode", ["signal", "message"])
def test_what_cannot_be_interrupted_is_not_said_to_be(mode: str) -> None:
    g = Gated()
    kernel = g.launch(mode=mode, trusted=False, name="gpu-vm")
    g.do(g.gate.link, kernel.number, False)
    (reply,) = g.replies(g.control("interrupt_request"))
    assert reply.content["status"] == "error"
    assert "gpu-vm is out of reach" in reply.content["evalue"]
    assert kernel.requests() == []


def test_a_starting_kernel_is_not_interrupted_later() -> None:
    g = Gated()
    kernel = g.add(mode="message")
    g.do(g.gate.launched, kernel.number)
    assert "interrupt_reply:ok" in g.about(g.control("interrupt_request"))
    g.come_up(kernel)
    assert kernel.requests() == []


def test_control_does_not_wait_behind_a_cell() -> None:
    g = Gated()
    kernel = g.launch()
    g.cell()
    asked = g.control("debug_request", {"command": "x"})
    kernel.reply(kernel.requests("debug_request")[0], Channel.CONTROL)
    assert g.about(asked) == ["debug_reply:ok"]


def test_two_clients_may_use_the_same_ids_as_long_as_their_requests_do_not_overlap() -> None:
    g = Gated()
    kernel = g.launch()
    g.ask("complete_request", msg_id="same")
    g.ask("complete_request", asker=g.bob, msg_id="same")
    g.ask("debug_request", channel=Channel.CONTROL, msg_id="same")
    g.ask("complete_request", {"x": 1}, Channel.CONTROL, g.bob, msg_id="same")
    assert [m.type for m in kernel.requests()] == ["complete_request", "debug_request"]
    kernel.answer(kernel.requests()[0])
    kernel.reply(kernel.requests()[1], Channel.CONTROL)
    for channel, message in kernel.received[2:]:
        kernel.answer(message, channel)
    for channel, message in kernel.received[4:]:
        kernel.answer(message, channel)
    assert sorted(s.idents[0] for s in g.said if s.type == "complete_reply") == [b"alice", b"bob"]
    assert [s.channel for s in g.said if s.type == "debug_reply"] == [Channel.CONTROL]


def test_input_is_asked_of_whom_the_cell_came_from_and_answered_once() -> None:
    g = Gated()
    kernel = g.launch()
    g.ask("execute_request", {"code": "cell"}, asker=g.bob)
    asked = kernel.requests()[0]
    g.ask("input_reply", {"value": "too early"}, Channel.STDIN)
    kernel.message(Channel.STDIN, "input_request", {"prompt": "?"}, asked)
    assert g.said[-1].idents == [b"bob"]
    g.ask("input_reply", {"value": "1"}, Channel.STDIN)
    g.ask("input_reply", {"value": "2"}, Channel.STDIN)
    assert [m.content["value"] for m in kernel.requests("input_reply")] == ["1"]


def test_an_answer_to_an_earlier_kernels_question_is_dropped() -> None:
    g = Gated()
    old = g.launch()
    g.cell("cell 1")
    old.message(Channel.STDIN, "input_request", {"prompt": "?"}, old.requests()[0])
    question = g.said[-1].header
    new = g.add()
    g.do(g.gate.launched, new.number)
    g.come_up(new)
    g.cell("cell 2")
    new.message(Channel.STDIN, "input_request", {"prompt": "?"}, new.requests()[0])
    for parent, value in ((question, "old"), (g.said[-1].header, "new"), (None, "nobody asked")):
        g.do(g.gate.from_client, Channel.STDIN, g.alice.request("input_reply", {"value": value}, parent=parent))
    assert [m.content["value"] for m in new.requests("input_reply")] == ["new"]


def test_a_question_that_was_interrupted_waits_for_no_answer() -> None:
    g = Gated()
    kernel = g.launch()
    g.cell()
    kernel.message(Channel.STDIN, "input_request", {"prompt": "?"}, kernel.requests()[0])
    kernel.answer(kernel.requests()[0], status="error")
    g.ask("input_reply", {"value": "late"}, Channel.STDIN)
    assert kernel.requests("input_reply") == []


# Swaps


def test_a_swap_waits_for_reply_and_idle_and_what_waited_goes_to_the_new_kernel() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare(name="gpu-vm", trusted=False)
    g.cell("cell 1")
    later = g.cell("cell 2")
    g.swap(new)
    asked = old.requests()[0]
    old.reply(asked)
    assert (g.swapped, g.gate.target) == ([], new.number)
    old.status("idle", asked)
    assert (g.swapped, g.gate.target) == ([(old.number, new.number)], None)
    assert (old.code, new.code) == (["cell 1"], ["cell 2"])
    new.answer(new.requests()[0], execution_count=1)
    assert g.about(later) == ["busy", "execute_reply:ok", "idle"]


def test_nothing_new_goes_to_the_old_kernel_while_a_swap_waits() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    comm = g.ask("comm_msg", {"comm_id": "c"})
    g.swap(new)
    g.cell()
    assert "kernel_info_reply:ok" in g.about(g.ask("kernel_info_request"))
    old.status("idle", old.requests()[0])
    assert g.about(comm)[-1] == "idle"
    assert (old.code, new.code) == ([], ["cell"])


def test_a_request_that_is_never_answered_does_not_hold_up_a_swap_for_ever() -> None:
    g = Gated()
    g.launch()
    new = g.prepare()
    odd, comm = g.ask("odd_request"), g.ask("comm_msg", {"comm_id": "c"})
    g.swap(new)
    g.do(g.gate.hurry)
    assert g.swapped
    assert g.about(odd) == ["busy", "odd_reply:error", "idle"]
    assert g.about(comm) == ["busy", "idle"]


def test_hurry_never_gives_up_a_cell() -> None:
    g = Gated()
    g.launch()
    new = g.prepare()
    cell = g.cell()
    g.swap(new)
    g.do(g.gate.hurry)
    assert (g.swapped, g.about(cell)) == ([], [])


def test_of_two_swaps_that_wait_the_last_counts() -> None:
    g = Gated()
    old = g.launch()
    first, second = g.prepare(), g.prepare()
    g.cell()
    g.swap(first)
    g.swap(second)
    assert isinstance(g.failed[first.number], Cancelled)
    old.answer(old.requests()[0])
    assert g.swapped == [(old.number, second.number)]


def test_a_swap_to_the_present_kernel_changes_nothing() -> None:
    g = Gated()
    kernel = g.launch()
    g.swap(kernel)
    assert (g.swapped, g.failed) == ([], {})


@pytest.mark.parametrize("how", ["interrupt", "interrupt_request", "shutdown_request", "user_ends"])
@pytest.mark.parametrize("waits", [True, False])
def test_the_user_cancels_what_is_prepared_or_waits_and_requests_go_on_here(how: str, waits: bool) -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    stuck = g.ask("odd_request")
    if waits:
        g.swap(new)
        g.cell()
    if how.endswith("_request"):
        g.control(how)
    else:
        g.do(getattr(g.gate, how), *(["restarted"] if how == "user_ends" else []))
    assert isinstance(g.failed[new.number], Cancelled)
    assert g.cancelled
    if waits and how.startswith("interrupt"):
        assert old.code == ["cell"]
        assert old.signals == [signal.SIGINT]
    old.answer(old.requests()[0])
    assert g.replies(stuck)
    g.swap(new)
    assert g.swapped == []


@pytest.mark.parametrize("how", ["exited", "gone"])
def test_a_new_kernel_that_ends_before_the_swap_leaves_the_old_one(how: str) -> None:
    g = Gated()
    old, new = g.launch(), g.prepare(name="gpu-vm")
    g.cell("cell 1")
    g.cell("cell 2")
    g.swap(new)
    g.do(g.gate.exited, new.number, 1, "no memory\x07") if how == "exited" else g.do(g.gate.gone, new.number, GONE)
    error = g.failed[new.number]
    assert "gpu-vm ended with exit code 1" in str(error) if how == "exited" else error is GONE
    assert "\x07" not in str(error)
    old.answer(old.requests()[0])
    assert old.code == ["cell 1", "cell 2"]
    assert g.swapped == []


def test_a_kernel_that_ended_cannot_be_swapped_in() -> None:
    g = Gated()
    g.launch()
    new = g.prepare()
    g.do(g.gate.exited, new.number, 0, "")
    g.swap(new)
    assert isinstance(g.failed[new.number], KernelStartError)


@pytest.mark.parametrize("spec", ["python", "R", ""])
def test_another_language_is_refused_whatever_its_kernelspec_says(spec: str) -> None:
    g = Gated()
    g.launch()
    new = g.add(name="gpu-vm", language=spec)
    g.come_up(new, language="R")
    assert isinstance(g.failed[new.number], LanguageMismatch)
    assert "speaks R, the notebook python" in str(g.failed[new.number])
    assert new.number not in g.ready


def test_the_same_language_may_be_spelt_otherwise_by_its_kernelspec() -> None:
    g = Gated()
    g.launch(language="Python 3")
    assert g.come_up(g.add(language="PYTHON"), language="Python").number in g.ready


def test_open_comms_are_closed_by_a_swap_whoever_opened_them() -> None:
    g = Gated()
    old = g.launch()
    g.ask("comm_open", {"comm_id": "client's", "target_name": "t"})
    g.ask("comm_open", {"comm_id": "closed", "target_name": "t"})
    g.ask("comm_close", {"comm_id": "closed"})
    for message in old.requests():
        old.status("idle", message)
    old.publish("comm_open", {"comm_id": "kernel's", "target_name": "t"}, None)
    g.swap(g.prepare())
    assert [s.content["comm_id"] for s in g.said if s.type == "comm_close"] == ["client's", "kernel's"]


def test_a_replaced_kernel_has_only_output_left() -> None:
    g = Gated()
    old = g.launch()
    g.cell("cell 1")
    asked = old.requests()[0]
    old.answer(asked)
    new = g.prepare()
    g.swap(new)
    g.cell("cell 2")
    running = new.requests()[0]
    heard = len(g.said)
    old.publish("stream", {"name": "stdout", "text": "late"}, asked)
    assert [(s.type, s.about) for s in g.said[heard:]] == [("stream", asked.id)]
    old.status("busy", asked)
    old.publish("stream", {"name": "stdout", "text": "forged"}, running)
    old.publish("comm_open", {"comm_id": "c"}, asked)
    old.reply(running)
    old.message(Channel.STDIN, "input_request", {}, asked)
    assert len(g.said) == heard + 1
    g.do(g.gate.farewell, old.number)
    assert old.requests("shutdown_request")
    g.do(g.gate.exited, old.number, 0, "")
    old.publish("stream", {"name": "stdout", "text": "too late"}, asked)
    assert len(g.said) == heard + 1
    assert g.failed == {}


def test_after_a_swap_the_answers_are_the_new_kernels() -> None:
    g = Gated()
    g.launch()
    new = g.add()
    g.do(g.gate.started, new.number)
    new.answer(new.requests()[0], **info(banner="there"))
    g.swap(new)
    g.cell()
    assert g.replies(g.ask("kernel_info_request"))[0].content["banner"] == "there"


# Ends


def test_a_kernel_that_dies_answers_its_cell_with_an_error_and_the_waiting_ones_with_aborted() -> None:
    g = Gated()
    kernel = g.launch()
    first, second = g.cell("cell 1"), g.cell("cell 2")
    completion = g.ask("complete_request")
    kernel.status("busy", kernel.requests()[0])
    g.do(g.gate.exited, kernel.number, -9, "")
    assert g.about(first) == ["busy", *DIED]
    assert "exit code -9" in g.replies(first)[0].content["evalue"]
    assert g.about(second) == ABORTED
    assert g.gate.execution_state == "dead"
    third = g.cell("cell 3")
    new = g.launch()
    assert new.code == ["cell 3"]
    assert {completion, third} == {m.id for m in new.requests()}


def test_a_reply_that_has_gone_out_is_not_given_again() -> None:
    g = Gated()
    kernel = g.launch()
    cell = g.cell()
    kernel.reply(kernel.requests()[0])
    g.do(g.gate.exited, kernel.number, 1, "")
    assert g.about(cell) == ["execute_reply:ok", "busy", "idle"]


def test_an_end_that_was_asked_for_is_no_error() -> None:
    g = Gated()
    kernel = g.launch()
    cell = g.cell()
    shutdown = g.control(
        "shutdown_request",
    )
    g.do(g.gate.exited, kernel.number, 0, "")
    assert g.about(cell) == ABORTED
    assert g.about(shutdown) == ["busy", "shutdown_reply:aborted", "idle"]


def test_a_shutdown_of_a_kernel_that_never_came_up_is_answered() -> None:
    g = Gated()
    kernel = g.add()
    g.do(g.gate.launched, kernel.number)
    shutdown, debug = g.control("shutdown_request", {"restart": True}), g.control("debug_request")
    g.do(g.gate.exited, kernel.number, -15, "")
    assert g.replies(shutdown)[0].content == {"status": "ok", "restart": True}
    assert g.replies(debug)[0].content["status"] == "error"


def test_cells_sent_before_the_first_start_run() -> None:
    g = Gated()
    kernel = g.add()
    g.do(g.gate.launched, kernel.number)
    g.cell()
    g.come_up(kernel)
    assert kernel.code == ["cell"]


def test_a_restart_in_place_aborts_what_was_with_the_old_process() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    first, second = g.cell("cell 1"), g.cell("cell 2")
    g.do(g.gate.user_ends, "restarted")
    g.do(g.gate.started, kernel.number)
    third = g.cell("cell 3")
    assert g.about(first) == g.about(second) == ABORTED
    g.answer_own(kernel)
    assert kernel.requests()[-1].id == third


def test_a_restart_in_place_after_a_confirmed_end_keeps_what_came_in_between() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    first = g.cell("cell 1")
    g.do(g.gate.user_ends, "restarted")
    g.do(g.gate.exited, kernel.number, 0, "")
    between = g.cell("cell 2")
    g.come_up(kernel)
    assert g.about(first) == ABORTED
    assert g.about(between) == []
    assert kernel.code[-1] == "cell 2"


def test_a_launch_over_a_kernel_whose_end_nobody_saw_leaves_no_request_unanswered() -> None:
    g = Gated()
    g.launch()
    cell = g.cell()
    g.launch()
    assert g.about(cell) == ABORTED


def test_gone_with_its_machine_every_request_says_so() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    first = g.cell("cell 1")
    g.do(g.gate.gone, kernel.number, GONE)
    assert g.gate.gone_error is GONE
    later, control = g.cell("cell 2"), g.control("debug_request")
    assert g.about(first) == g.about(later) == DIED
    assert "deallocated" in g.replies(later)[0].content["evalue"]
    assert g.replies(control)[0].content["status"] == "error"
    assert "shutdown_reply:ok" in g.about(g.control("shutdown_request"))
    g.do(g.gate.exited, kernel.number, 0, "")
    assert g.about(g.cell("cell 3")) == DIED, "gone is final"
    g.swap(g.prepare())
    assert g.gate.gone_error is None
    assert g.swapped


def test_a_current_kernel_that_ends_lets_a_waiting_swap_through() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    g.cell("cell 1", stop_on_error=False)
    g.cell("cell 2")
    g.swap(new)
    g.do(g.gate.exited, old.number, 1, "")
    assert g.swapped == [(old.number, new.number)]
    assert new.code == ["cell 2"]


# What is not to be trusted


def forgeries(g: Gated, kernel: Any, known: Any) -> None:
    """Everything that a hostile kernel might say, except outputs of the cell it was given."""
    unknown = {"msg_id": "someone-else's", "msg_type": "execute_request"}
    for parent in (unknown, {}, None, {"msg_id": 3}, {"msg_id": ["a"]}):
        kernel.publish("stream", {"name": "stdout", "text": "forged"}, parent)
        kernel.publish("status", {"execution_state": "idle"}, parent)
        kernel.message(Channel.SHELL, "execute_reply", {"status": "ok"}, parent, [b"bob"])
        kernel.message(Channel.STDIN, "input_request", {"prompt": "password"}, parent, [b"bob"])
    for kind in ("iopub_welcome", "execute_reply", "input_request", "anything", ""):
        kernel.publish(kind, {}, known)
    kernel.message(Channel.SHELL, "kernel_info_reply", info(), known)
    kernel.message(Channel.CONTROL, "execute_reply", {"status": "ok"}, known)
    kernel.message(Channel.STDIN, "execute_reply", {"status": "ok"}, known)


def test_a_hostile_kernel_reaches_nobody_but_who_asked_about_what_was_asked() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    g.cell()
    asked = kernel.requests()[0]
    forgeries(g, kernel, asked)
    assert g.said == []
    kernel.message(Channel.IOPUB, "stream", {"name": "stdout", "text": "x"}, asked, [b"some", b"topic"])
    kernel.message(Channel.STDIN, "input_request", {"prompt": "?"}, asked, [b"bob"])
    kernel.message(Channel.SHELL, "execute_reply", {"status": "ok"}, asked, [b"bob"])
    kernel.reply(asked)
    assert [(s.type, s.idents) for s in g.said] == [
        ("stream", [b"kernel.k1.stream"]),
        ("input_request", [b"alice"]),
        ("execute_reply", [b"alice"]),
    ]


def test_a_kernel_that_is_prepared_says_nothing_to_clients() -> None:
    g = Gated()
    g.launch()
    cell = g.cell()
    new = g.prepare()
    parent = {"msg_id": cell, "msg_type": "execute_request"}
    new.publish("stream", {"name": "stdout", "text": "x"}, parent)
    new.publish("status", {"execution_state": "starting"}, None)
    new.message(Channel.SHELL, "execute_reply", {"status": "ok"}, parent, [b"alice"])
    assert g.said == []


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("channel", list(Channel))
def test_malformed_parts_raise_nothing(trusted: bool, channel: Channel) -> None:
    g = Gated()
    kernel = g.launch(trusted=trusted)
    g.cell()
    good = kernel.requests()[0]
    header = json.dumps(good.header).encode()
    for parts in (
        [],
        [b""],
        [DELIM],
        [b"x", DELIM, b"", b"{}", b"{}", b"{}", b"{}"],
        [DELIM, b"", b"[]", b"[]", b"[]", b"[]"],
        [DELIM, b"", b'{"msg_type":"status"}', header, b"{}", b"\xff"],
        [DELIM, b"", b'{"msg_type":"kernel_info_reply"}', header, b"{}", b"[]"],
        [DELIM, b"", b'{"msg_type":"execute_reply","username":"\\ud800"}', header, b"{}", b"7"],
        [DELIM, b"", b'{"msg_type":"x","a":' + b"[" * 980 + b"]" * 980 + b"}", header, b"{}", b"{}"],
    ):
        g.do(g.gate.from_backend, kernel.number, channel, parts)
        g.do(g.gate.from_client, channel, parts)
    g.do(g.gate.from_backend, 99, channel, [])
    g.do(g.gate.from_client, channel, [b"x", *good.parts[:-1], b'{"code":"another"}'])
    assert kernel.code == ["cell"]


def test_a_message_sent_twice_is_taken_once() -> None:
    g = Gated()
    kernel = g.launch()
    parts = g.alice.request("execute_request", {"code": "cell"})
    for _ in range(2):
        g.do(g.gate.from_client, Channel.SHELL, parts)
    kernel.answer(kernel.requests()[0])
    assert kernel.code == ["cell"]


def test_a_subscriber_is_welcomed() -> None:
    g = Gated()
    said = g._read(Channel.IOPUB, g.gate.welcome(b"topic"))
    assert (said.type, said.content, said.idents) == ("iopub_welcome", {"subscription": "topic"}, [b"topic"])


def test_a_sentence_for_the_notebook_stands_above_the_output_of_the_next_cell_of_a_person() -> None:
    g = Gated()
    kernel = g.launch()
    g.do(g.gate.say_next, "Never mind.")
    g.do(g.gate.say_next, "It is back.")
    completion, silent = g.ask("complete_request"), g.cell("look", silent=True)
    cells = [g.cell("mine"), g.cell("later")]
    for kind, which in (
        ("complete_request", 0),
        ("execute_request", 0),
        ("execute_request", 1),
        ("execute_request", 2),
    ):
        kernel.answer(kernel.requests(kind)[which])
    assert g.about(cells[0]) == ["busy", "stream", "execute_reply:ok", "idle"]
    for other in (completion, silent, cells[1]):
        assert "stream" not in g.about(other)
    (said,) = [s for s in g.said if s.type == "stream"]
    assert said.content == {"name": "stderr", "text": "It is back.\n"}
