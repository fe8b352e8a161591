"""A gate that takes over the kernel of an earlier server process: what that one had not passed on is passed on once."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from jupyter_dsvm.kernels.actions import KeptRequest, outline
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.relay.wire import Channel
from support.gated import GONE, Gated, Kernel, info

ABORTED = ["busy", "execute_reply:aborted", "idle"]


def attached(**options: Any) -> tuple[Gated, Kernel]:
    g = Gated()
    return g, g.launch(trusted=False, name="gpu-vm", **options)


def test_a_running_cell_goes_on_to_whom_it_came_from() -> None:
    g, kernel = attached()
    g.ask("execute_request", {"code": "cell"}, asker=g.bob)
    asked = kernel.requests()[0]
    kernel.status("busy", asked)
    kernel.publish("stream", {"name": "stdout", "text": "before"}, asked)
    g.die()
    assert g.gate.execution_state == "busy"
    assert g.gate.running is not None
    kernel.publish("stream", {"name": "stdout", "text": "after"}, asked)
    kernel.reply(asked)
    kernel.status("idle", asked)
    assert g.about(asked.id) == ["busy", "stream", "stream", "execute_reply:ok", "idle"]
    assert g.replies(asked.id)[0].idents == [b"bob"]
    assert g.gate.execution_state == "idle"
    assert g.gate.running is None
    assert kernel.code == ["cell"]


def test_what_was_not_read_comes_again_and_what_was_read_does_not() -> None:
    heard = []
    for reads in range(6):
        g, kernel = attached()
        g.lagging = True
        g.cell()
        asked = kernel.requests()[0]
        kernel.status("busy", asked)
        kernel.publish("stream", {"name": "stdout", "text": "x"}, asked)
        kernel.reply(asked)
        kernel.status("idle", asked)
        g.lagging = False
        g.die(reads)
        heard.append(g.about(asked.id))
        g.cell("cell 2")
        assert kernel.code == ["cell", "cell 2"], "what has been answered is over"
    assert heard == [["busy", "stream", "execute_reply:ok", "idle"]] * 6


def test_the_cells_that_wait_follow_one_at_a_time_and_are_aborted_after_an_error() -> None:
    g, kernel = attached()
    cells = [g.cell(f"cell {n}") for n in range(4)]
    g.die()
    assert kernel.code == ["cell 0"]
    kernel.answer(kernel.requests()[0])
    assert kernel.code == ["cell 0", "cell 1"]
    kernel.answer(kernel.requests("execute_request")[1], status="error", ename="E", evalue="", traceback=[])
    assert kernel.code == ["cell 0", "cell 1"]
    assert g.about(cells[2]) == g.about(cells[3]) == ABORTED


def test_what_was_aborted_and_not_heard_of_is_aborted_once_more_and_never_run() -> None:
    for reads in range(8):
        g, kernel = attached()
        g.lagging = True
        first, second = g.cell("cell 1"), g.cell("cell 2")
        kernel.answer(kernel.requests()[0], status="error", ename="E", evalue="", traceback=[])
        g.lagging = False
        g.die(reads)
        assert kernel.code == ["cell 1"]
        assert g.about(first) == ["busy", "execute_reply:error", "idle"]
        assert g.about(second)[-3:] == ABORTED
        assert g.gate.execution_state == "idle"


@pytest.mark.parametrize("heard", [True, False])
def test_a_cell_that_comes_after_an_error_was_heard_is_run(heard: bool) -> None:
    """The error comes again after the adoption, when a page has sent the next cell already."""
    g, kernel = attached()
    g.lagging = True
    g.cell("cell 1")
    waited, later = g.cell("cell 2"), ""
    failure = {"status": "error", "ename": "E", "evalue": "", "traceback": []}

    def send() -> None:
        nonlocal later
        later = g.cell("cell 3")

    if heard:
        kernel.answer(kernel.requests()[0], **failure)
    g.lagging = False
    g.die(before_it_is_heard=send)
    if not heard:
        kernel.answer(kernel.requests()[0], **failure)
    assert g.about(waited)[-3:] == ABORTED
    assert kernel.code == (["cell 1", "cell 3"] if heard else ["cell 1"])
    assert g.about(later) == ([] if heard else ABORTED)


def test_a_second_death_changes_nothing() -> None:
    g, kernel = attached()
    first, second = g.cell("cell 1"), g.cell("cell 2")
    g.die()
    g.die()
    kernel.answer(kernel.requests()[0])
    g.die()
    kernel.answer(kernel.requests("execute_request")[1])
    assert g.about(first) == g.about(second) == ["busy", "execute_reply:ok", "idle"]
    assert kernel.code == ["cell 1", "cell 2"]


def test_a_cell_that_waits_for_input_still_gets_it_once() -> None:
    g, kernel = attached()
    g.cell()
    asked = kernel.requests()[0]
    question = kernel.message(Channel.STDIN, "input_request", {"prompt": "?"}, asked)
    g.die()
    parent = {"msg_id": question, "msg_type": "input_request"}
    for value in ("1", "2"):
        g.do(g.gate.from_client, Channel.STDIN, g.alice.request("input_reply", {"value": value}, parent=parent))
    assert [m.content["value"] for m in kernel.requests("input_reply")] == ["1"]
    kernel.message(Channel.STDIN, "input_request", {"prompt": "??"}, asked)
    g.ask("input_reply", {"value": "3"}, Channel.STDIN)
    assert [m.content["value"] for m in kernel.requests("input_reply")] == ["1", "3"]


def test_nobody_waits_for_input_once_the_adopted_cell_is_over() -> None:
    g, kernel = attached()
    g.cell()
    g.die()
    kernel.answer(kernel.requests()[0])
    g.cell("cell 2")
    g.ask("input_reply", {"value": "late"}, Channel.STDIN)
    assert kernel.requests("input_reply") == []


@pytest.mark.parametrize("sent", [True, False])
def test_a_request_that_a_page_sends_again_is_taken_once(sent: bool) -> None:
    g, kernel = attached()
    if not sent:
        g.cell("cell 0")
    parts = g.alice.request("execute_request", {"code": "cell 1"})
    g.do(g.gate.from_client, Channel.SHELL, parts)
    g.die()
    g.do(g.gate.from_client, Channel.SHELL, parts)
    for asked in kernel.requests():
        kernel.answer(asked)
    kernel.answer(kernel.requests()[-1])
    assert kernel.code.count("cell 1") == 1


def test_kernel_info_is_answered_from_what_the_kernel_said_to_the_earlier_process() -> None:
    g, _kernel = attached()
    cell = g.cell()
    g.die()
    asked = g.ask("kernel_info_request", asker=g.bob)
    assert g.about(asked) == ["busy", "kernel_info_reply:ok", "idle"]
    assert g.replies(asked)[0].content["language_info"] == {"name": "python"}
    assert (g.said[-1].what, g.said[-1].about) == ("busy", cell)


def test_without_that_the_kernel_is_asked_and_nothing_waits_for_it() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    g.do(g.gate.adopt, kernel.number, None, [])
    g.cell()
    (own,) = kernel.requests("kernel_info_request")
    assert (own.type, kernel.code) == ("kernel_info_request", ["cell"])
    waits = g.ask("kernel_info_request")
    assert g.replies(waits) == []
    kernel.answer(own, **info(banner="there"))
    assert g.ready == []
    assert g.replies(g.ask("kernel_info_request"))[0].content["banner"] == "there"


def test_a_kernel_that_was_still_coming_up_is_asked_once_it_has_started() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    parts = g.alice.request("execute_request", {"code": "cell"})
    g.do(g.gate.adopt, kernel.number, None, [KeptRequest(parts, Channel.SHELL, sent=False)], ready=False)
    assert (kernel.requests(), g.gate.execution_state) == ([], "starting")
    g.come_up(kernel)
    assert kernel.code == ["cell"]


def test_other_requests_that_are_with_the_kernel_are_answered_too() -> None:
    g, kernel = attached()
    shell, control = g.ask("complete_request", {"code": "im"}), g.control("debug_request", {"command": "x"})
    comm = g.ask("comm_msg", {"comm_id": "c"})
    for state in g.log.requests.values():
        state.parts = outline(state.parts)
    g.die()
    for channel, message in list(kernel.received):
        kernel.answer(message, channel)
    assert g.about(shell) == ["busy", "complete_reply:ok", "idle"]
    assert g.about(control) == ["busy", "debug_reply:ok", "idle"]
    assert g.about(comm) == ["busy", "idle"]


def test_threads_of_finished_cells_still_print_and_nobody_else_does() -> None:
    g, kernel = attached()
    cell = g.cell()
    asked = kernel.requests()[0]
    kernel.answer(asked)
    g.die()
    kernel.publish("stream", {"name": "stdout", "text": "late"}, asked)
    kernel.publish("stream", {"name": "stdout", "text": "x"}, {"msg_id": "someone's", "msg_type": "execute_request"})
    assert [(s.type, s.about) for s in g.said[-1:]] == [("stream", cell)]


def test_what_is_no_request_is_left_out() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    kept = [KeptRequest(parts, Channel.SHELL, sent) for parts in ([], [b"x"], [b""] * 9) for sent in (True, False)]
    g.do(g.gate.adopt, kernel.number, info(), kept)
    g.cell()
    assert kernel.code == ["cell"]


def test_out_of_reach_what_waits_goes_on_waiting() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    parts = g.alice.request("execute_request", {"code": "cell"})
    g.do(g.gate.link, kernel.number, False)
    g.do(g.gate.adopt, kernel.number, info(), [KeptRequest(parts, Channel.SHELL, sent=False)])
    assert kernel.code == []
    g.do(g.gate.link, kernel.number, True)
    assert kernel.code == ["cell"]


# What may happen to a kernel happens to an adopted one


def adopted() -> tuple[Gated, Kernel, str, str]:
    g, kernel = attached()
    running, waiting = g.cell("cell 1"), g.cell("cell 2")
    g.die()
    return g, kernel, running, waiting


def test_an_adopted_kernel_is_left_by_a_swap_once_its_cell_has_ended() -> None:
    g, kernel, running, _waiting = adopted()
    new = g.prepare()
    g.swap(new)
    assert g.swapped == []
    kernel.answer(kernel.requests()[0])
    assert g.swapped == [(kernel.number, new.number)]
    assert (kernel.code, new.code) == (["cell 1"], ["cell 2"])
    assert "idle" in g.about(running)


@pytest.mark.parametrize("late", [False, True])
def test_open_comms_are_closed_when_an_adopted_kernel_is_left(late: bool) -> None:
    """Also where the kernel comes to say which are open only after the move, since a cell ran from the adoption up to there."""
    g, kernel = attached()
    g.ask("comm_open", {"comm_id": "open", "target_name": "t"})
    kernel.status("idle", kernel.requests("comm_open")[0])
    g.die()
    new = g.prepare()
    (asked,) = kernel.requests("comm_info_request")
    if late:
        g.swap(new)
    kernel.reply(asked, comms={"open": {"target_name": "t"}})
    if not late:
        g.swap(new)
    assert g.swapped == [(kernel.number, new.number)]
    assert [s.content["comm_id"] for s in g.said if s.type == "comm_close"] == ["open"]


@pytest.mark.parametrize("comms", [None, [], "x", {"a": None, "b": 3}])
def test_what_a_hostile_kernel_lists_as_comms_does_no_harm(comms: object) -> None:
    g, kernel = attached()
    g.die()
    (asked,) = kernel.requests("comm_info_request")
    kernel.reply(asked, comms=comms)
    g.cell("cell")
    assert kernel.code == ["cell"]
    assert not [s for s in g.said if s.type in ("comm_close", "comm_info_reply")]


def test_an_adopted_kernel_is_interrupted() -> None:
    g, kernel, _running, _waiting = adopted()
    g.control("interrupt_request")
    assert kernel.signals == [signal.SIGINT]


def test_an_adopted_kernel_is_restarted() -> None:
    g, kernel, running, waiting = adopted()
    g.do(g.gate.user_ends, "restarted")
    g.do(g.gate.started, kernel.number)
    assert g.about(running) == g.about(waiting) == ABORTED
    g.answer_own(kernel)
    g.cell("cell 3")
    assert kernel.code == ["cell 1", "cell 3"]


@pytest.mark.parametrize("how", ["exited", "gone"])
def test_the_end_of_an_adopted_kernel_is_told(how: str) -> None:
    g, kernel, running, _waiting = adopted()
    g.do(g.gate.exited, kernel.number, 1, "") if how == "exited" else g.do(g.gate.gone, kernel.number, GONE)
    assert g.about(running) == ["busy", "error", "execute_reply:error", "idle"]
    assert g.gate.execution_state == ("dead" if how == "exited" else "idle")
    assert g.launch().code == []


def test_every_request_that_was_announced_is_said_to_be_answered_once() -> None:
    g, kernel = attached()
    g.cell("cell 1"), g.cell("cell 2"), g.ask("complete_request"), g.control("debug_request")
    g.ask("kernel_info_request")
    assert g.answered == []
    for channel, message in list(kernel.received):
        kernel.answer(message, channel)
    g.do(g.gate.exited, kernel.number, 1, "")
    assert sorted(g.answered) == sorted(set(g.asked))
    assert len(g.answered) == 3, "the completion was not announced: it waits for the next kernel"


def test_what_the_kernels_machine_never_received_is_sent_again_in_order() -> None:
    g, kernel = attached()
    completion, debug = g.ask("complete_request"), g.control("debug_request")
    first, second = g.cell("cell 1"), g.cell("cell 2")
    g.die()
    kernel.received.clear()
    g.do(g.gate.not_received, list(g.log.requests))
    assert kernel.code == ["cell 1"]
    assert g.about(completion) == ["busy", "complete_reply:aborted", "idle"]
    assert g.about(debug) == ["busy", "debug_reply:aborted", "idle"]
    kernel.answer(kernel.requests()[0])
    assert kernel.code == ["cell 1", "cell 2"]
    kernel.answer(kernel.requests("execute_request")[1])
    assert g.about(first) == g.about(second) == ["busy", "execute_reply:ok", "idle"]


def test_behind_what_it_did_receive() -> None:
    g = Gated()
    kernel = g.add(trusted=False)
    cells = [g.alice.request("execute_request", {"code": f"cell {n}"}) for n in range(2)]
    g.do(g.gate.adopt, kernel.number, info(), [KeptRequest(parts, Channel.SHELL, sent=True) for parts in cells])
    g.do(g.gate.not_received, [Message(cells[1]).key])
    assert kernel.code == []
    kernel.answer(Message(cells[0]))
    assert kernel.code == ["cell 1"]
