"""Subshells whose ids outlive the kernel: in the gate, and with real kernels, where widgets answer while a cell runs."""

from __future__ import annotations

from typing import Any

import pytest
from ipykernel import version_info as ipykernel_version

from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.kernels.subshells import MAX_ID, MAX_SUBSHELLS
from jupyter_dsvm.relay.wire import Channel
from support.gated import GONE, Gated, Kernel
from support.kernels import Client, Notebook

# In the gate


def make(g: Gated) -> str:
    """A subshell's id, as a client gets it."""
    return str(g.replies(g.control("create_subshell_request"))[0].content["subshell_id"])


def give(kernel: Kernel, theirs: str = "theirs-1", **content: Any) -> None:
    """The kernel's answer to the last request for a subshell."""
    asked = kernel.requests("create_subshell_request")[-1]
    kernel.answer(asked, Channel.CONTROL, **{"status": "ok", "subshell_id": theirs, **content})


def comm(g: Gated, subshell_id: str, **content: Any) -> str:
    return g.ask("comm_msg", {"comm_id": "c", "data": {}, **content}, subshell_id=subshell_id)


def reached(kernel: Kernel) -> list[tuple[str, object]]:
    """What clients have sent it on shell, and the subshell that it names."""
    return [(m.type, m.header.get("subshell_id")) for c, m in kernel.received if c is Channel.SHELL]


def test_a_message_for_a_subshell_does_not_wait_for_the_cell_that_runs() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    cell = g.cell("cell 1")
    g.cell("cell 2")
    front = make(g)
    asked = comm(g, front)
    assert reached(kernel) == [("execute_request", None)], "the kernel has no subshell for it yet"
    give(kernel)
    assert reached(kernel) == [("execute_request", None), ("comm_msg", "theirs-1")]
    comm(g, front)
    assert reached(kernel)[2:] == [("comm_msg", "theirs-1")]
    kernel.answer(kernel.requests("comm_msg")[0])
    assert g.about(asked) == ["busy", "idle"]
    assert g.replies(cell) == []
    assert kernel.code == ["cell 1"]


def test_clients_read_the_id_that_they_know() -> None:
    for trusted in (True, False):
        g = Gated()
        kernel = g.launch(trusted=trusted)
        front = make(g)
        give(kernel)
        asked = g.ask("execute_request", {"code": "cell"}, subshell_id=front)
        theirs = kernel.requests("execute_request")[0]
        assert theirs.header["subshell_id"] == "theirs-1" != front
        kernel.publish("stream", {"name": "stdout", "text": "x"}, theirs)
        kernel.answer(theirs)
        said = [s for s in g.said if s.about == asked]
        assert [s.type for s in said] == ["stream", "status", "execute_reply", "status"]
        assert {s.parent["subshell_id"] for s in said} == {front}


@pytest.mark.parametrize("offers", [True, False])
def test_an_id_that_is_remembered_works_in_the_next_kernel(offers: bool) -> None:
    g = Gated()
    old = g.launch()
    front = make(g)
    give(old)
    new = g.add()
    g.do(g.gate.started, new.number)
    features = ["kernel subshells"] if offers else []
    new.answer(new.requests()[0], language_info={"name": "python"}, supported_features=features)
    new.received.clear()
    g.swap(new)
    g.cell()
    asked = comm(g, front)
    if offers:
        give(new, "theirs-2")
        assert reached(new) == [("execute_request", None), ("comm_msg", "theirs-2")]
        assert g.gate.info is not None
        assert g.gate.info["supported_features"] == features
    else:
        assert new.requests("create_subshell_request") == []
        assert g.replies(g.control("create_subshell_request"))[0].content["status"] == "error"
        new.answer(new.requests()[0])
        assert reached(new) == [("execute_request", None), ("comm_msg", None)]
    new.answer(new.requests("comm_msg")[0])
    assert g.about(asked)[-1] == "idle"


@pytest.mark.parametrize("how", ["launched", "in place"])
def test_an_id_that_is_remembered_works_after_a_restart(how: str) -> None:
    g = Gated()
    kernel = g.launch()
    front = make(g)
    give(kernel)
    g.do(g.gate.user_ends, "restarted")
    if how == "launched":
        kernel = g.launch()
    else:
        g.do(g.gate.exited, kernel.number, 0, "")
        g.come_up(kernel)
    kernel.received.clear()
    comm(g, front)
    give(kernel, "theirs-1")  # an id that the process before it had is as good as any
    assert reached(kernel) == [("comm_msg", "theirs-1")]


def test_an_id_that_nobody_here_gave_out_works_too() -> None:
    g = Gated()
    kernel = g.launch()
    comm(g, "of-an-earlier-server")
    give(kernel)
    assert reached(kernel) == [("comm_msg", "theirs-1")]
    assert g.replies(g.control("list_subshell_request"))[0].content["subshell_id"] == ["of-an-earlier-server"]


@pytest.mark.parametrize("value", [None, 7, [], "", "x" * (MAX_ID + 1)])
def test_what_is_no_id_is_the_main_shell(value: object) -> None:
    g = Gated()
    kernel = g.launch()
    g.ask("comm_msg", {"comm_id": "c"}, subshell_id=value)
    assert reached(kernel) == [("comm_msg", None)] or value == ""
    assert kernel.requests("create_subshell_request") == []


def test_a_deleted_subshell_is_deleted_there_once_its_messages_are_answered() -> None:
    g = Gated()
    kernel = g.launch()
    front = make(g)
    give(kernel)
    comm(g, front)
    deleted = g.control("delete_subshell_request", {"subshell_id": front})
    assert g.about(deleted) == ["busy", "delete_subshell_reply:ok", "idle"]
    assert kernel.requests("delete_subshell_request") == []
    kernel.status("idle", kernel.requests("comm_msg")[0])
    g.cell()
    assert [m.content for m in kernel.requests("delete_subshell_request")] == [{"subshell_id": "theirs-1"}]
    comm(g, front)
    kernel.answer(kernel.requests("execute_request")[0])
    assert reached(kernel)[-1] == ("comm_msg", None), "what comes later takes the main shell's way"
    assert g.replies(g.control("list_subshell_request"))[0].content["subshell_id"] == []
    assert g.replies(g.control("delete_subshell_request", {"subshell_id": "none"}))[0].content["status"] == "ok"


def test_a_swap_waits_for_a_cell_in_a_subshell_and_a_new_one_goes_there() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    front = make(g)
    give(old)
    running = g.ask("execute_request", {"code": "cell 1"}, subshell_id=front)
    assert g.gate.running is not None
    assert g.gate.running.message.id == running
    g.swap(new)
    g.do(g.gate.hurry)
    g.ask("execute_request", {"code": "cell 2"}, subshell_id=front)
    g.cell("cell 3")
    assert g.swapped == []
    old.answer(old.requests("execute_request")[0])
    assert g.swapped
    give(new)
    assert (old.code, sorted(new.code)) == (["cell 1"], ["cell 2", "cell 3"])


def test_while_a_swap_waits_for_a_cell_comms_are_answered_here_and_then_no_more() -> None:
    g = Gated()
    old, new = g.launch(), g.prepare()
    front = make(g)
    give(old)
    g.cell()
    g.swap(new)
    comm(g, front)
    assert len(old.requests("comm_msg")) == 1
    old.answer(old.requests("execute_request")[0])
    assert g.swapped == []
    comm(g, front)
    assert len(old.requests("comm_msg")) == 1
    old.answer(old.requests("comm_msg")[0])
    assert g.swapped
    give(new)
    assert reached(new) == [("comm_msg", "theirs-1")]


def test_an_error_in_a_subshell_aborts_no_cell_of_the_main_shell() -> None:
    g = Gated()
    kernel = g.launch()
    front = make(g)
    give(kernel)
    g.cell("cell 1")
    waiting = g.cell("cell 2")
    g.ask("execute_request", {"code": "cell 3"}, subshell_id=front)
    kernel.answer(kernel.requests("execute_request")[1], status="error", ename="E", evalue="", traceback=[])
    assert g.about(waiting) == []
    kernel.answer(kernel.requests("execute_request")[0])
    assert kernel.code == ["cell 1", "cell 3", "cell 2"]


@pytest.mark.parametrize("how", ["exited", "gone", "restarted"])
def test_what_is_with_or_for_a_subshell_is_answered_when_the_kernel_ends(how: str) -> None:
    g = Gated()
    kernel = g.launch()
    front, other = make(g), "other"
    give(kernel)
    there = g.ask("execute_request", {"code": "cell 1"}, subshell_id=front)
    moving = comm(g, front)
    waits = g.ask("execute_request", {"code": "cell 2"}, subshell_id=other)
    if how == "restarted":
        g.do(g.gate.user_ends, "restarted")
        g.do(g.gate.started, kernel.number)
    else:
        g.do(g.gate.exited, kernel.number, 1, "") if how == "exited" else g.do(g.gate.gone, kernel.number, GONE)
    assert g.about(there)[-2:] == [f"execute_reply:{'aborted' if how == 'restarted' else 'error'}", "idle"]
    assert g.about(moving)[-1] == "idle"
    if how == "exited":
        new = g.launch()
        assert new.code == ["cell 2"], "it waits for the next kernel, like any cell that was not sent"
    else:
        assert g.about(waits)[-1] == "idle"


def test_out_of_reach_a_subshell_is_made_when_it_can_be() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    g.do(g.gate.link, kernel.number, False)
    comm(g, make(g))
    assert kernel.requests() == []
    g.do(g.gate.link, kernel.number, True)
    give(kernel)
    assert reached(kernel) == [("comm_msg", "theirs-1")]


def test_after_an_adoption_an_id_goes_on_in_a_subshell_of_its_own() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    front = make(g)
    give(kernel)
    cell = g.ask("execute_request", {"code": "cell"}, subshell_id=front)
    g.die()
    g.cell("cell 2")
    assert kernel.code == ["cell", "cell 2"], "the one in the subshell holds up nothing"
    kernel.answer(kernel.requests("execute_request")[0])
    assert g.about(cell) == ["busy", "execute_reply:ok", "idle"]
    comm(g, front)
    give(kernel, "theirs-2")
    assert reached(kernel)[-1] == ("comm_msg", "theirs-2")


@pytest.mark.parametrize(
    "content",
    [
        {"subshell_id": "x" * (MAX_ID + 1)},
        {"subshell_id": 7},
        {"subshell_id": ""},
        {"subshell_id": ["a"]},
        {"subshell_id": "taken"},
        {"status": "error"},
        {"status": None},
    ],
)
def test_a_kernel_that_makes_up_ids_gets_its_messages_in_the_main_shell(content: dict[str, Any]) -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    make(g)
    give(kernel, "taken")
    comm(g, make(g))
    give(kernel, **content)
    assert reached(kernel) == [("comm_msg", None)]
    for parent in ({"subshell_id": ["a"]}, {"subshell_id": {}}, {"subshell_id": "unknown"}):
        asked = kernel.requests("comm_msg")[0]
        kernel.publish("status", {"execution_state": "busy"}, {**asked.header, **parent})


def test_a_kernel_that_answers_twice_changes_nothing() -> None:
    g = Gated()
    kernel = g.launch(trusted=False)
    front = make(g)
    for theirs in ("theirs-1", "theirs-2"):
        give(kernel, theirs)
    kernel.message(Channel.SHELL, "create_subshell_reply", {"status": "ok", "subshell_id": "x"}, None)
    comm(g, front)
    assert reached(kernel) == [("comm_msg", "theirs-1")]


def test_there_is_a_limit_to_subshells() -> None:
    g = Gated()
    kernel = g.launch()
    for n in range(MAX_SUBSHELLS + 5):
        comm(g, f"front-{n}")
    assert len(kernel.requests("create_subshell_request")) == MAX_SUBSHELLS
    assert reached(kernel) == [("comm_msg", None)] * 5


def test_a_client_that_uses_no_subshells_is_not_rewritten() -> None:
    g = Gated()
    kernel = g.launch()
    parts = g.alice.request("comm_msg", {"comm_id": "c"}, subshell_id=None)
    g.do(g.gate.from_client, Channel.SHELL, parts)
    assert kernel.requests()[0].parts == Message(parts).parts


# With real kernels

WIDGET = """
import threading
def opened(comm, _message):
    def on_msg(message):
        happened.set()
        comm.send({"echo": message["content"]["data"]})
    comm.on_msg(on_msg)
get_ipython().kernel.comm_manager.register_target("target", opened)
happened = threading.Event()
"""
WAIT = "happened.clear(); print('running', flush=True); print(happened.wait(30))"

needs_subshells = pytest.mark.skipif(ipykernel_version < (7,), reason="ipykernel has subshells since 7.0")


def widget_answers_while_a_cell_runs(client: Client, subshell: str, comm_id: str) -> None:
    opened = client.ask("comm_open", {"comm_id": comm_id, "target_name": "target", "data": {}}, subshell_id=subshell)
    client.until(lambda: "idle" in client.of(opened).states)
    running = client.send(WAIT)
    client.until(lambda: "running" in client.of(running).text)
    moved = client.ask("comm_msg", {"comm_id": comm_id, "data": {"n": 1}}, subshell_id=subshell)
    client.until(lambda: "idle" in client.of(moved).states)
    client.wait(running)
    assert client.of(running).text == "running\nTrue\n", "the cell saw it while it ran"
    (echo,) = client.of(moved).outputs("comm_msg")
    assert echo["content"]["data"] == {"echo": {"n": 1}}
    assert echo["parent_header"]["subshell_id"] == subshell
    assert not client.of(moved).replies


@needs_subshells
def test_a_widget_answers_while_a_cell_runs_before_and_after_a_swap_and_a_restart(notebook: Notebook) -> None:
    info, made = notebook.ask("kernel_info_request", {}), notebook.ask("create_subshell_request", {}, "control")
    offered, created = notebook.wait(info, made)
    assert "kernel subshells" in offered.content["supported_features"]
    subshell = created.content["subshell_id"]
    for n, change in enumerate((lambda: None, notebook.move, notebook.km.restart_kernel)):
        change()
        assert notebook.run(WIDGET).status == "ok"
        widget_answers_while_a_cell_runs(notebook, subshell, f"comm-{n}")
    deleted = notebook.ask("delete_subshell_request", {"subshell_id": subshell}, "control")
    assert notebook.wait(deleted)[0].status == "ok"
    count = "import threading; print([t.name for t in threading.enumerate() if 'subshell-' in t.name])"
    notebook.until(lambda: notebook.run(count).text == "[]\n")


@needs_subshells
def test_an_unknown_subshell_is_no_error(notebook: Notebook) -> None:
    execute = {"code": "print(1)", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    for change in (lambda: None, notebook.move):
        change()
        (run,) = notebook.wait(notebook.ask("execute_request", execute, subshell_id="from-another-kernel"))
        assert (run.status, run.text) == ("ok", "1\n")
        assert {m["parent_header"]["subshell_id"] for m in (*run.published, *run.replies)} == {"from-another-kernel"}
