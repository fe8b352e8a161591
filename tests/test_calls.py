"""``%dsvm`` on the server's side: lines, rights, and what is answered."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from jupyter_dsvm.calls import ACTS, handle
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import BadRequest, Cancelled, NotFound, OperationRefused, Unreachable
from jupyter_dsvm.models import (
    FREE,
    Compute,
    PowerState,
    Price,
    Problem,
    Size,
    WorkspaceFile,
    WorkspaceState,
)
from jupyter_dsvm.operations import Running
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.tables import computes_html, computes_text
from jupyter_dsvm.verbs import VERBS, parse
from support.fakes import (
    RECORD,
    FakeCompute,
    FakeConnections,
    FakeFree,
    FakeProxy,
    FakeRegistry,
    FakeWorkspaces,
    dsvm,
    windows,
)

CPU, GPU = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED)


class FakeCall:
    """``kernels.registry.Call`` that keeps what it is answered."""

    def __init__(
        self,
        proxy: FakeProxy,
        line: Any,
        trusted: bool = True,
        running: bool = True,
        version: int = 1,
        completing: bool = False,
        key: str = "line",
        shows: Callable[[dict[str, Any]], object] = lambda _shown: None,
    ) -> None:
        self.proxy = proxy
        self.shows = shows
        self.request = {key: line, "version": version}
        self.completing = completing
        self.trusted = trusted
        self.running = running
        self.cancelled = Cancel()
        self.said: list[str] = []
        self.shown: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None

    def progress(self, value: dict[str, Any]) -> None:
        self.said.append(value["text"])
        self.shown.append(value)
        self.shows(value)

    def finish(self, value: dict[str, Any]) -> None:
        assert self.result is self.error is None
        self.result = value

    def fail(self, error: Any) -> None:
        assert self.result is self.error is None
        self.error = error.to_json()


class Stage:
    def __init__(self, rows: tuple[Compute, ...] = (CPU, GPU), **traits: Any) -> None:
        self.proxy = FakeProxy(busy=True)
        self.cloud = FakeCompute(*rows)
        registry = FakeRegistry(self.proxy)
        self.service = DSVMService(
            lambda: [FakeFree(), self.cloud], registry=registry, connections=FakeConnections(), **traits
        )
        self.service.allowance._file = self.service.questions._kept._file = None
        self.workspaces = FakeWorkspaces(self.service)

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
        ("x" * 5000, "5000 characters", "%dsvm help"),
        (5, "without a line", "Restart"),
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
        assert "attach NAME" in bare
        assert "gpu-vm" in bare
        rich = s.run("").result["html"]
        assert "<div>This notebook runs on the free tier" in rich
        assert "<table>" in rich
        listed = s.run("help").result["text"]
        assert all(f"%dsvm {name}" in listed for name in VERBS)
        one = s.run("help attach").result["text"]
        assert one.startswith(
            "%dsvm attach NAME [--kernel K] [--carry [x y]] [--no-sync] [--yes]\n\nThe following cells run there. "
        )
        assert "keeps the kernel" in one
        assert s.run("attach --help").result["text"] == one
        assert "Did you mean %dsvm attach" in s.run("help atach").error["advice"]


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


def test_an_attach_is_shown_step_by_step_and_ends_in_one_line():
    size, price = Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "T4"), Price(0.53, "USD", "2026-01-01T00:00:00Z")
    with stage(kernel_may_start={"names": ["*"]}, rows=(replace(GPU, size=size, price=price),)) as s:
        call = s.run("attach gpu-vm")
        first = next(v for v in call.shown if v["text"] == "Start gpu-vm")
        assert first["live"]["text"].splitlines() == [
            "▸ Start gpu-vm…",
            "· gpu-vm boots",
            "· Connect to gpu-vm",
            "· Start the kernel on gpu-vm",
            "· Wait for what is running, then change over",
        ]
        assert first["stopped"]["text"] == "■ Start gpu-vm"
        assert first["stopped"]["say"] == "Interrupted: the notebook stays on the free tier with its variables."
        connect = next(v for v in call.shown if v["text"] == "Connect to gpu-vm")
        assert connect["live"]["text"].startswith("✓ start: asking\n✓ gpu-vm boots\n▸ Connect to gpu-vm…")
        assert "gpu-vm is on and is billed; %dsvm stop gpu-vm" in connect["stopped"]["say"]
        line = (
            "The following cells run on gpu-vm (4 CPU · 28 GB · 1 × T4, ~$0.53/h). The rest of this cell still runs on the free "
            "tier. Variables stayed behind."
        )
        assert call.result["text"] == line
        # The dollar sign stands in a span of its own: JupyterLab would typeset "$…$" as mathematics.
        assert call.result["live"] == {"text": line, "html": f"<div>{line.replace('$', '<span>$</span>')}</div>"}


def test_what_another_part_has_to_say_of_an_attach_follows_its_line():
    with stage() as s:
        s.service.attach_notes = lambda kernel_id, kernelspec=None: [f"{kernel_id} needs <pandas>."]
        answer = s.run("attach cpu-vm").result
        assert answer["text"].splitlines()[1] == "k1 needs <pandas>."
        assert "<div>k1 needs &lt;pandas&gt;.</div>" in answer["live"]["html"]
        s.proxy.cell_ended()
        assert len(s.run("detach").result["text"].splitlines()) == 1


def test_a_failed_attach_raises_the_reason_and_status_keeps_it():
    with stage() as s:
        s.service.connections.error = Unreachable("No answer at 10.0.0.4 port 22.", advice="Check the address.")
        call = s.run("attach cpu-vm")
        assert call.shown[-1]["live"]["text"].splitlines()[0] == "✗ Connect to cpu-vm"
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
        assert call.shown[-1]["live"]["text"].splitlines()[:2] == [
            "✓ Connect to cpu-vm",
            "■ Start the kernel on cpu-vm",
        ]
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
        assert set(ACTS) == {"", *VERBS}
        for verb in ACTS:
            line = f"{verb} cpu-vm" if verb in ("attach", "start", "stop", "restart", "keep") else verb
            line = "autostop cpu-vm 60" if verb == "autostop" else line
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


# Completion


def complete(s: Stage, line: Any, **options: Any) -> list[str]:
    call = s.run(line, key="complete", **options)
    assert call.error is None, call.error
    return call.result["matches"]


def test_completion_offers_what_may_come_next():
    twin = dsvm("twin", resource_group="lab"), dsvm("twin", resource_group="ops")
    twins = [replace(t, id=f"azure:twin{i}") for i, t in enumerate(twin)]
    with stage(rows=(CPU, GPU, windows("win-vm"), *twins)) as s:
        s.service.connections.kernelspecs[CPU.id] = ["python3", "pytorch"]
        assert complete(s, "") == list(VERBS)
        assert complete(s, "re") == ["restart", "resize"]
        assert complete(s, "help re") == ["restart", "resize"]
        s.service.computes()
        assert complete(s, "attach ") == [
            "cpu-vm",
            "gpu-vm",
            "lab/twin",
            "ops/twin",
        ]  # no Windows, and what is unambiguous
        assert complete(s, "attach GP") == ["gpu-vm"]
        assert complete(s, "start ") == ["gpu-vm"]
        assert complete(s, "start cp") == ["cpu-vm"]  # that it runs may be old news
        assert complete(s, "attach cpu-vm ") == ["--kernel", "--carry", "--no-sync", "--yes"]
        assert complete(s, "attach cpu-vm --kernel py") == ["python3", "pytorch"]
        assert complete(s, "attach --kernel ir c") == ["cpu-vm"]
        assert complete(s, "attach gpu-vm --kernel ") == []  # not connected to, and nobody connects for this
        assert complete(s, "signin --") == ["--tenant", "--new"]
        assert complete(s, "signin --tenant ") == []
        assert complete(s, "resize cpu-vm nc") == ["NC4as_T4_v3"]  # no A100, whose quota is 0
        assert complete(s, "resize cpu-vm NC4as_T4_v3 ") == ["--yes"]
        assert complete(s, "keep cpu-vm ") == ["1", "2", "4", "8"]
        assert complete(s, "autostop cpu-vm o") == ["off"]
        assert complete(s, "autostop cpu-vm 30 ") == ["--hard"]
        for nonsense in ("no ", "x" * 5000, "attach a\nb", "list x y z "):
            assert complete(s, nonsense) == []
        assert s.cloud.asked == ["list", f"sizes {CPU.id}"]


def test_completion_waits_for_no_cloud(monkeypatch: pytest.MonkeyPatch):
    with stage() as s:
        gate, listed = threading.Event(), s.cloud.list
        monkeypatch.setattr(s.cloud, "list", lambda: gate.wait(10) and listed())
        began = time.monotonic()
        assert complete(s, "attach ") == complete(s, "attach ") == []
        assert time.monotonic() - began < 2
        gate.set()
        deadline = time.monotonic() + 5
        while complete(s, "attach ") != ["cpu-vm", "gpu-vm"]:
            assert time.monotonic() < deadline


def test_completion_has_limits():
    with stage(rows=tuple(dsvm(f"vm-{i:04}") for i in range(3000))) as s:
        s.service.computes()
        began = time.monotonic()
        assert len(complete(s, "attach vm-")) == 200
        assert complete(s, "attach vm-2999") == ["vm-2999"]
        assert time.monotonic() - began < 0.6


def test_a_vm_completes_what_it_may_use_and_only_while_somebody_asks():
    with stage() as s:
        s.service.computes()
        assert complete(s, "", trusted=False, running=False, completing=True) == [
            n for n, v in VERBS.items() if v.from_vm
        ]
        assert complete(s, "start ", trusted=False, completing=True) == []
        assert complete(s, "resize cpu-vm ", trusted=False, completing=True) == []
        assert complete(s, "attach c", trusted=False) == ["cpu-vm"]
        assert s.run("attach ", key="complete", trusted=False, running=False).error["code"] == "NotAllowed"
        # A completion is no cell: with it nothing can be moved.
        assert s.run("attach cpu-vm", trusted=False, running=False, completing=True).error["code"] == "NotAllowed"
        assert s.run(5, key="complete").error["code"] == "BadRequest"
        assert "Restart" in s.run("a", key="complete", version=2).error["advice"]


# Questions


@contextlib.contextmanager
def asked(s: Stage, line: str) -> Iterator[tuple[FakeCall, Any]]:
    """A line that asks in the page, and the question; afterwards it has been answered somehow."""
    call = FakeCall(s.proxy, line)
    thread = threading.Thread(target=handle, args=(s.service, call))
    thread.start()
    deadline = time.monotonic() + 5
    while not (found := s.service.open_questions()[0]):
        assert time.monotonic() < deadline, call.error
        time.sleep(0.01)
    yield call, found[0]
    thread.join(10)
    assert not thread.is_alive()


def test_what_costs_money_is_asked_in_the_page_once():
    size, price = Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "T4"), Price(0.53, "USD", "2026-01-01T00:00:00Z")
    row = replace(GPU, size=size, price=price)
    with stage(rows=(row,)) as s:
        s.service.page_is_open = lambda kernel_id: kernel_id == "k1"
        s.service.set_paths({"k1": "work/analysis.ipynb"})
        with asked(s, "attach gpu-vm") as (call, question):
            assert question.text == "A cell of analysis.ipynb wants to start gpu-vm (4 CPU · 28 GB · 1 × T4)."
            assert (question.kind, question.path, question.price) == ("start", "work/analysis.ipynb", price)
            assert call.said == ["Waiting for your answer in the page"]
            assert call.shown[0]["live"]["text"].startswith("▸ Waiting for your answer in the page…\n· Start gpu-vm\n")
            assert s.service.operations()[0][0].steps[0].name == "ask"
            assert s.cloud.asked == ["list"]
            s.service.questions.answer(question.id, True)
        assert call.error is None
        assert "Allowed in the page" in call.said
        assert s.service.open_questions()[0] == []
        s.run("stop gpu-vm")
        assert s.run("start gpu-vm").error is None  # the yes is kept
        s.cloud.rows[row.id] = replace(row, power_state=PowerState.STOPPED, price=replace(price, amount=0.6))
        s.service.known.fresh(row.id)
        with asked(s, "restart gpu-vm") as (call, question):  # and asked for again at a higher price
            assert question.price.amount == 0.6
            assert "nothing was asked of gpu-vm" in call.shown[0]["stopped"]["say"]
            s.service.questions.answer(question.id, False)
        assert call.error["code"] == "SaidNo"
        assert "Not now" in call.error["message"]
        assert s.cloud.asked.count(f"restart {row.id}") == 0


def test_a_resize_is_asked_for_with_the_new_size_and_its_price():
    with stage() as s:
        s.service.page_is_open = lambda kernel_id: True
        with asked(s, "resize cpu-vm NC4as_T4_v3") as (call, question):
            assert question.kind == "resize"
            assert question.text == (
                "A cell of a notebook wants to give cpu-vm the size Standard_NC4as_T4_v3 (4 CPU · 28 GB · 1 × T4)."
            )
            assert question.price.amount == 0.66
            s.service.questions.answer(question.id, True)
        assert call.error is None


def test_interrupting_the_cell_takes_the_question_back():
    with stage() as s:
        s.service.page_is_open = lambda kernel_id: True
        with asked(s, "attach gpu-vm") as (call, question):
            call.cancelled.set()
        assert call.error["code"] == "Cancelled"
        assert s.service.open_questions()[0] == []
        assert s.service.operations()[0][0].state.value == "cancelled"
        with pytest.raises(NotFound):
            s.service.questions.answer(question.id, True)
        assert not [a for a in s.cloud.asked if a.startswith("start")]


def test_without_a_page_or_from_a_vm_nothing_is_asked_and_with_a_rule_neither():
    with stage(kernel_may_start={"names": ["gpu-vm"]}) as s:
        s.service.page_is_open = lambda kernel_id: True
        assert s.run("start gpu-vm").error is None
    with stage() as s:
        assert s.run("start gpu-vm").error["code"] == "NotAllowed"
        s.service.page_is_open = lambda kernel_id: True
        for line in ("attach gpu-vm", "start gpu-vm", "resize gpu-vm NC4as_T4_v3"):
            assert s.run(line, trusted=False).error["code"] == "NotAllowed"
        assert s.service.revision("questions") == 0


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


# Files that travel


def test_sync_shows_its_steps_and_then_one_line():
    with stage() as s:
        s.workspaces.rows = [replace(RECORD, conflicts=(), left_there=(), skipped=())]
        go = threading.Event()

        def work(running: Running) -> None:
            running.report("Copy 1 of 4 files (1 of 2 MB)", 0.5)
            go.wait(10)
            running.done("In step: 3 files came here, 1 went there (2 MB).")

        s.workspaces.run = work
        call = s.run("sync", shows=lambda shown: "Copy 1 of 4 files" in shown["live"]["text"] and go.set())
        assert s.workspaces.asked == [("sync", "w1", "both", False, False)]
        assert call.result["text"] == "In step: 3 files came here, 1 went there (2 MB)."
        assert call.result["live"]["html"] == "<div>In step: 3 files came here, 1 went there (2 MB).</div>"
        assert any("▸ Copy 1 of 4 files (1 of 2 MB)…" in shown["live"]["text"] for shown in call.shown)


def test_sync_names_what_is_left_to_do():
    with stage() as s:
        s.workspaces.rows = [RECORD]
        lines = s.run("sync --force --yes").result["text"].splitlines()
        assert s.workspaces.asked == [("sync", "w1", "both", True, True)]
        assert lines[0] == "In step: 3 files came here."
        assert lines[1].startswith("data.csv was changed here and there")
        assert "model.bin (2.0 GB) stays on the machine" in lines[2]
        s.run("sync --fetch model.bin --fetch 'other file'")
        assert s.workspaces.asked[1] == ("fetch", "w1", ["model.bin", "other file"])
        status = s.run("status").result["text"].splitlines()
        assert status[1] == "Its files: 84 MB, 1 conflict."
        assert status[2:] == lines[1:]


def test_a_sync_that_stops_says_why_and_how_to_go_on():
    with stage() as s:
        s.workspaces.rows = [replace(RECORD, state=WorkspaceState.HALTED)]
        halt = OperationRefused("7 of 9 files would be deleted there.", advice="Look at the folder.", code="Halted")
        s.workspaces.run = lambda running: running.failed(halt)
        call = s.run("sync")
        assert call.error == {
            "code": "Halted",
            "message": "7 of 9 files would be deleted there.",
            "advice": "Look at the folder. %dsvm sync --force does it all the same.",
        }
        assert call.shown[-1]["live"]["text"] == "✗ Copy"
        assert "The last move" not in s.run("status").result["text"]


def test_an_interrupt_cancels_a_sync():
    with stage() as s:
        s.workspaces.rows = [RECORD]

        def work(running: Running) -> None:
            assert running.cancel.wait(10)
            running.cancelled(Cancelled(running.cancel_reason, advice="The next one goes on."))

        s.workspaces.run = work
        call = FakeCall(s.proxy, "sync")
        threading.Timer(0.3, call.cancelled.set).start()
        handle(s.service, call)
        assert call.error == {
            "code": "Cancelled",
            "message": "The cell was interrupted.",
            "advice": "The next one goes on.",
        }
        assert call.shown[-1]["stopped"]["say"].startswith("Interrupted: what has been copied stays")


def test_sync_where_no_files_travel_says_how_they_would():
    with stage() as s:
        free = s.run("sync").error
        assert (free["code"], free["message"]) == (
            "NoWorkspace",
            "No files travel with this notebook: it runs on the free tier.",
        )
        s.run("attach cpu-vm --no-sync")
        s.proxy.cell_ended()
        there = s.run("sync").error
        assert there["message"] == "No files travel with this notebook on cpu-vm."
        assert "%dsvm detach" in there["advice"]
        s.workspaces.rows = [replace(RECORD, state=WorkspaceState.OFF, text="Its files stay on this server.")]
        off = s.run("sync").error
        assert off["message"] == "No files travel with this notebook on cpu-vm. Its files stay on this server."
        assert s.workspaces.asked == []


@pytest.mark.parametrize(
    ("line", "sync"), [("attach cpu-vm", None), ("attach cpu-vm --no-sync", False), ("attach cpu-vm --yes", True)]
)
def test_attach_says_whether_files_go_along(line: str, sync: bool | None, monkeypatch: pytest.MonkeyPatch):
    with stage() as s:
        asked, run = [], s.service.moves.run

        def watched(*args: Any, sync: bool | None = None, **options: Any) -> Any:
            asked.append(sync)
            return run(*args, sync=False, **options)

        monkeypatch.setattr(s.service.moves, "run", watched)
        assert s.run(line).error is None
        assert asked == [sync]
        assert "do not go together" in s.run("attach cpu-vm --yes --no-sync").error["message"]


def test_a_vm_may_sync_and_agree_to_nothing():
    with stage() as s:
        s.workspaces.rows = [RECORD]
        assert s.run("sync", trusted=False).result["text"].startswith("In step")
        for line in ("sync --force", "sync --yes", "sync --fetch model.bin", "attach cpu-vm --yes"):
            call = s.run(line, trusted=False)
            assert call.error["code"] == "NotAllowed", line
            assert line.split()[2 if line.startswith("attach") else 1] in call.error["message"]
        assert len(s.workspaces.asked) == 1
        assert s.run("sync", trusted=False, running=False).error["code"] == "NotAllowed"


def test_completion_of_sync():
    with stage() as s:
        s.workspaces.rows = [replace(RECORD, left_there=(WorkspaceFile("model.bin"), WorkspaceFile("my file")))]

        def matches(line: str, **options: Any) -> Any:
            return s.run(line, key="complete", **options).result["matches"]

        assert matches("sy") == ["sync"]
        assert matches("sync ") == ["--force", "--yes", "--fetch"]
        assert matches("sync --fetch ") == ["model.bin", "'my file'"]
        assert matches("sync --fetch mo") == ["model.bin"]
        assert matches("sync --fetch model.bin --f") == ["--force", "--fetch"]
        assert matches("attach cpu-vm --") == ["--kernel", "--carry", "--no-sync", "--yes"]
        assert matches("sync ", trusted=False) == []
        assert matches("attach cpu-vm --", trusted=False) == ["--kernel", "--carry", "--no-sync"]
