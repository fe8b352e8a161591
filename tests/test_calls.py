"""``%dsvm`` on the server's side: lines, rights, and what is answered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_dsvm.calls import VERBS, handle, parse
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import BadRequest, Unreachable
from jupyter_dsvm.models import FREE, PowerState, Problem
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.tables import computes_html, computes_text
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm

CPU, GPU = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED)


class FakeCall:
    """``kernels.registry.Call`` that keeps what it is answered."""

    def __init__(
        self, proxy: FakeProxy, line: Any, trusted: bool = True, running: bool = True, version: int = 1
    ) -> None:
        self.proxy = proxy
        self.request = {"line": line, "version": version}
        self.trusted = trusted
        self.running = running
        self.cancelled = Cancel()
        self.said: list[str] = []
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None

    def progress(self, value: dict[str, Any]) -> None:
        self.said.append(value["text"])

    def finish(self, value: dict[str, Any]) -> None:
        assert self.result is self.error is None
        self.result = value

    def fail(self, error: Any) -> None:
        assert self.result is self.error is None
        self.error = error.to_json()


class Stage:
    def __init__(self, **traits: Any) -> None:
        self.proxy = FakeProxy(busy=True)
        self.cloud = FakeCompute(CPU, GPU)
        registry = FakeRegistry(self.proxy)
        self.service = DSVMService(
            lambda: [FakeFree(), self.cloud], registry=registry, connections=FakeConnections(), **traits
        )

    def run(self, line: Any, **options: Any) -> FakeCall:
        call = FakeCall(self.proxy, line, **options)
        handle(self.service, call)
        assert (call.result is None) != (call.error is None), "every call is answered once"
        return call


@contextlib.contextmanager
def stage(**traits: Any) -> Iterator[Stage]:
    made = Stage(**traits)
    try:
        yield made
    finally:
        made.service.close()


# The line


def test_lines():
    assert parse({"line": "  ", "version": 1})[0] == ""
    verb, arguments = parse({"line": "attach 'my vm' --kernel ir  # there", "version": 1})
    assert (verb, arguments.name, arguments.kernel) == ("attach", "my vm", "ir")
    assert parse({"line": "--help", "version": 1})[0] == "help"


@pytest.mark.parametrize(
    ("line", "message", "advice"),
    [
        ("atach gpu", "no verb 'atach'", "%dsvm attach"),
        ("attach", "required", "attach NAME"),
        ("attach a b", "unrecognized arguments: b", "Usage"),
        ("attach a --kern ir", "unrecognized", "Usage"),
        ("attach 'a", "quotation", "quotation mark"),
        ("list x", "unrecognized", "Usage"),
        ("x" * 5000, "language of this server", "Restart"),
        (5, "language of this server", "Restart"),
    ],
)
def test_a_wrong_line_gets_one_readable_sentence(line: Any, message: str, advice: str):
    with pytest.raises(BadRequest) as e:
        parse({"line": line, "version": 1})
    assert message in e.value.message
    assert advice in e.value.advice
    assert "\n" not in str(e.value)


def test_another_version_is_told_to_restart():
    with stage() as s:
        assert "Restart" in s.run("status", version=2).error["advice"]


# What is answered


def test_list_status_help():
    with stage() as s:
        listing = s.run("list").result
        assert "gpu-vm" in listing["text"]
        assert "<table>" in listing["html"]
        assert s.run("status").result["text"].startswith("This notebook runs on the free tier with the kernel python3.")
        bare = s.run("").result["text"]
        assert "free tier" in bare
        assert "%dsvm attach NAME" in bare
        assert s.run("help").result["text"] in bare


def test_attach_answers_before_the_notebook_moves():
    with stage() as s:
        call = s.run("attach cpu-vm")
        assert call.error is None
        assert "The following cells run on cpu-vm." in call.result["text"]
        assert "still runs on the free tier" in call.result["text"]
        assert call.said == [
            "Connect to cpu-vm",
            "Start the kernel on cpu-vm",
            "Wait for what is running, then change over",
        ]
        assert s.proxy.log == [f"prepare {CPU.id}", f"swap {CPU.id}"]
        assert s.proxy.status.compute == FREE  # until the cell has ended
        assert "It is moving to cpu-vm" in s.run("status").result["text"]
        s.proxy.cell_ended()
        assert "runs on cpu-vm" in s.run("status").result["text"]
        assert s.run("attach cpu-vm").result["text"] == "This notebook runs on cpu-vm already."
        assert "run on the free tier" in s.run("detach").result["text"]


def test_a_failed_attach_raises_the_reason_and_status_keeps_it():
    with stage() as s:
        s.service.connections.error = Unreachable("No answer at 10.0.0.4 port 22.", advice="Check the address.")
        call = s.run("attach cpu-vm")
        assert call.error == {
            "code": "Unreachable",
            "message": "No answer at 10.0.0.4 port 22.",
            "advice": "Check the address.",
        }
        assert "No answer at 10.0.0.4" in s.run("status").result["text"]
        assert "Did you mean cpu-vm" in s.run("attach cpuvm").error["advice"]


def test_detach_in_the_cell_that_attached_calls_the_move_off():
    with stage() as s:
        s.run("attach cpu-vm")
        assert "called off" in s.run("detach").result["text"]
        s.proxy.cell_ended()
        assert s.proxy.status.compute == FREE


def test_hanging_up_cancels():
    with stage() as s:
        s.proxy.answers.clear()
        call = FakeCall(s.proxy, "attach cpu-vm")
        thread = threading.Thread(target=handle, args=(s.service, call))
        thread.start()
        while s.proxy.preparing is None:
            pass
        call.cancelled.set()
        thread.join(5)
        assert call.error["code"] == "Cancelled"
        assert s.proxy.status.compute == FREE


def test_a_bug_is_an_answer_too(monkeypatch: pytest.MonkeyPatch):
    with stage() as s:
        monkeypatch.setattr(s.service, "computes", lambda: 1 / 0)
        assert "ZeroDivisionError" in s.run("list").error["message"]


# Rights


def test_starting_from_code_needs_the_setting():
    with stage() as s:
        for line in ("attach gpu-vm", "start gpu-vm"):
            error = s.run(line).error
            assert error["code"] == "NotAllowed"
            assert "panel" in error["advice"]
        assert s.cloud.asked == ["list"]
    with stage(kernel_may_start={"names": ["gpu-vm"]}) as s:
        s.service.allowance._file = None
        call = s.run("attach gpu-vm")
        assert call.error is None
        assert "start: asking" in call.said
        assert s.run("stop gpu-vm").result["text"].startswith("gpu-vm is off.")
        assert s.run("start gpu-vm").result["text"] == "gpu-vm runs."


def test_a_running_machine_needs_no_permission():
    with stage() as s:
        assert s.run("start cpu-vm").error is None
        assert s.run("restart cpu-vm").error is None


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_a_vm_may_change_no_machine(verb: str):
    with stage(kernel_may_start={"names": ["*"]}) as s:
        assert s.run(f"{verb} cpu-vm", trusted=False).error["code"] == "NotAllowed"
        assert s.cloud.asked == []


def test_a_vm_may_attach_only_to_what_runs():
    with stage(kernel_may_start={"names": ["*"]}) as s:
        assert s.run("attach gpu-vm", trusted=False).error["code"] == "NotAllowed"
        assert s.run("attach cpu-vm", trusted=False).error is None
        assert not [a for a in s.cloud.asked if a.startswith("start")]


def test_a_vm_is_heard_only_while_a_cell_runs_there():
    with stage() as s:
        for verb in VERBS:
            line = f"{verb} cpu-vm" if verb in ("attach", "start", "stop", "restart") else verb
            line = "resize cpu-vm D4ds_v5" if verb == "resize" else line
            assert s.run(line, trusted=False, running=False).error["code"] == "NotAllowed", verb


def test_resize_asks_what_code_may_spend_and_names_the_notebooks_it_would_end():
    with stage() as s:
        refused = s.run("resize cpu-vm NC4as_T4_v3").error
        assert refused["message"] == "cpu-vm is running, and code may not resize it."
        assert "jupyter dsvm resize cpu-vm SIZE" in refused["advice"]
        assert s.run("resize cpu-vm NC24ads_A100_v4", trusted=False).error["code"] == "NotAllowed"
        assert not [a for a in s.cloud.asked if a.startswith("resize")]
    with stage(kernel_may_start={"names": ["*"], "price_per_hour": 0.5}) as s:
        refused = s.run("resize cpu-vm NC4as_T4_v3").error
        assert "of cpu-vm it costs about 0.66 USD an hour" in refused["message"]
        assert (
            s.run("resize gpu-vm NC4as_T4_v3").error["code"] == "NotAllowed"
        )  # off, and dearer from its next start on
        assert s.run("resize cpu-vm d4ds_v5").result is not None  # what it has
    with stage(kernel_may_start={"names": ["cpu-vm"], "starts_per_day": 1}) as s:
        assert "no name of a VM size" in s.run("resize cpu-vm ../x").error["message"]
        assert "Did you mean Standard_NC4as_T4_v3" in s.run("resize cpu-vm nc4as_t4_v2").error["advice"]
        assert s.run("resize cpu-vm nc24ads_a100_v4").error["code"] == "SizeNotPossible"
        s.service.set_paths({"k1": "a.ipynb"})
        s.service.moves.run(running := s.service.moves.begin(s.proxy, CPU), s.proxy, CPU, None, None)
        s.proxy.cell_ended()
        running.finished.result(5)
        warned = s.run("resize cpu-vm nc4as_t4_v3").error
        assert warned["code"] == "KernelsRunning"
        assert "a.ipynb runs on cpu-vm; a resize ends its kernel" in warned["message"]
        assert s.cloud.rows[CPU.id].size is None
        call = s.run("resize cpu-vm nc4as_t4_v3 --yes")
        assert call.result["text"].startswith(
            "cpu-vm has the size Standard_NC4as_T4_v3 (4 CPU · 28 GB · 1 × T4) and is running."
        )
        assert "It is released, changed and started again." in call.said
        assert s.cloud.rows[CPU.id].size.name == "Standard_NC4as_T4_v3"
        # What was only warned about did not count; this did.
        assert "Code has started 1 machines" in s.run("resize cpu-vm nc4as_t4_v3 --yes").error["message"]


def test_a_vm_learns_no_path_and_no_secret():
    with stage() as s:
        s.service.set_paths({"k1": "private/plan.ipynb"})
        assert "plan.ipynb" in s.run("list").result["text"]
        assert "plan.ipynb" not in str(s.run("list", trusted=False).result)
        assert "secret-key" not in str([s.run(v, trusted=False).result for v in ("list", "status", "")])


# Tables


def test_names_are_text_in_a_table():
    evil = dsvm("<script>alert(1)</script>")
    problem = Problem("X", "<img src=x>", "")
    page = computes_html([evil], [problem])
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "Not everything could be listed: <img src=x>" in computes_text([evil], [problem])


def test_stopped_is_said_to_be_billed():
    asleep = dsvm("c", PowerState.DEALLOCATED, hibernated=True)
    text = computes_text([dsvm("a", PowerState.STOPPED), dsvm("b", PowerState.DEALLOCATED), asleep], [])
    assert "still billed" in text
    assert "asleep (memory kept)" in text
    assert "off" in text
