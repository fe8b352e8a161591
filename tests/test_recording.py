"""What cells put out is in the file exactly once, wherever the server is killed; and nothing of that can hurt a kernel."""

from __future__ import annotations

import json
import logging
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.kernels import recording as module
from jupyter_dsvm.kernels.actions import Arrived, KeptRequest, ToBackend, ToClient
from jupyter_dsvm.kernels.keptfiles import folder_of
from jupyter_dsvm.kernels.outputstore import OutputStore, outputs_folder, path_of, remove_orphans
from jupyter_dsvm.kernels.recording import Recording
from jupyter_dsvm.kernels.registry import PROVISIONER, registry
from jupyter_dsvm.relay.wire import Channel
from support import frontend
from support.kernels import Notebook, default_provisioner, until
from support.outputarea import Event, FrontEnd, messages, sequence

KERNEL = "7c7d5b58-4f6a-4b5e-9d3e-000000000001"
SIDE = 3


class IO:
    """The I/O thread, which is the test's."""

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class NoThread:
    """Writes nothing by itself: the test says when."""

    def due(self, recording: Any, hurry: bool = False) -> None: ...
    def forget(self, recording: Any) -> None: ...


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Writer, "acquire", NoThread)
    monkeypatch.setattr(module.Writer, "release", lambda: None)


def tell(recording: Recording, event: Event, side: int = 0, number: int = 0) -> None:
    if event["do"] == "restart":
        recording.restarted()
    for what, parts in messages(event):
        if what == "request":
            recording.note(Arrived(("execute_request", event["run"]), parts))
        elif what == "typed":
            recording.note(ToBackend(SIDE, Channel.STDIN, parts))
        else:
            recording.note(
                ToClient({"iopub": Channel.IOPUB, "reply": Channel.SHELL, "asks": Channel.STDIN}[what], parts)
            )
    recording.put(side, number)


def outputs(recording: Recording) -> dict[str, Any]:
    answer = recording.since(0, max_bytes=2**40)
    assert answer["next"] is None
    return {r["cell"]: json.loads(json.dumps(r["outputs"])) for r in answer["rows"]}


class Life:
    """Server processes, one after another, and relays, each of which has what none of the servers has acknowledged."""

    def __init__(self) -> None:
        self.side = SIDE
        self.acked = 0
        self.said: list[Event] = []
        """By the kernel of the present side: numbered from 1."""
        self.requests: list[tuple[Event, int]] = []
        """Those that went there, and how much had been said before."""
        self.ran_there: set[str] = set()
        self.begin()

    def begin(self) -> None:
        self.recording = Recording(KERNEL, IO(), self._whose, self._acknowledge)  # type: ignore[arg-type]

    def _whose(self, side: int) -> tuple[bool, str]:
        return False, f"relay {side}" if side == self.side else ""

    def _acknowledge(self, side: int, number: int) -> None:
        assert side == self.side
        self.acked = max(self.acked, number)

    def happens(self, event: Event) -> None:
        if event["do"] == "execute":
            self.requests.append((event, len(self.said)))
            self.ran_there.add(event["run"])
            tell(self.recording, event)
        elif event["run"] in self.ran_there:
            self.said.append(event)
            tell(self.recording, event, self.side, len(self.said))
        else:  # by a kernel that the notebook has left
            tell(self.recording, event, self.side - 1, 7)
            self.recording.flush()

    def moves(self) -> None:
        """The notebook gets another kernel."""
        self.recording.settle(self.side, len(self.said))
        self.side += 1
        self.acked, self.said, self.requests, self.ran_there = 0, [], [], set()

    def killed(self) -> None:
        """And the next one adopts the kernel, and is told again what was not acknowledged."""
        self.recording._flush = lambda: None  # type: ignore[method-assign]
        self.recording.close(leave=True)
        self.begin()
        # Those whose end is acknowledged are not known any more; some of them may be, which does no harm.
        first = min((at for at, (_, n) in enumerate(self.requests) if n >= self.acked), default=len(self.requests))
        kept = [
            KeptRequest(messages(event)[0][1], Channel.SHELL, sent=True)
            for event, _ in self.requests[max(0, first - 2) :]
        ]
        self.recording.adopt(kept)
        for number in range(self.acked + 1, len(self.said) + 1):
            tell(self.recording, self.said[number - 1], self.side, number)


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@pytest.mark.usefixtures("by_hand")
def test_wherever_servers_are_killed_the_outputs_are_those_of_a_page_that_watched_all_along(
    seed: int, rng: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", folder)
        page, life = FrontEnd(), Life()
        try:
            # What was typed goes to the kernel and is not said again; a restart is the server's own.
            for event in [e for e in sequence(random.Random(seed)) if e["do"] not in ("input", "restart")]:
                page.happens(event)
                life.happens(event)
                if rng.random() < 0.3:
                    life.recording.flush()
                if rng.random() < 0.3:
                    life.recording.handed_on(life.side, rng.randint(life.acked, len(life.said)))
                if rng.random() < 0.15:
                    life.killed()
                if rng.random() < 0.05:
                    life.moves()
            assert outputs(life.recording) == page.notebook()
        finally:
            life.recording.close(leave=False)
        assert list(outputs_folder().glob("*")) == []


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Of a kernel here, with the thread that writes."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    made = Recording(KERNEL, IO(), lambda side: (True, ""), lambda side, number: None)  # type: ignore[arg-type]
    yield made
    made.close(leave=False)


def execute(cell: str = "a", run: str = "r1") -> Event:
    return {"do": "execute", "cell": cell, "run": run}


def printed(text: str, run: str = "r1") -> Event:
    return {"do": "iopub", "run": run, "type": "stream", "content": {"name": "stdout", "text": text}}


def test_nothing_is_written_before_a_cell_is_run(recording: Recording) -> None:
    tell(recording, printed("x", "nobody"))
    console = [part.replace(b'"cellId"', b'"other"') for part in messages(execute())[0][1]]
    recording.note(Arrived(("execute_request", "c"), console))
    recording.put(0, 0)
    assert recording.since(0) == {"version": 0, "rows": [], "next": None}
    assert not outputs_folder().exists()


def test_a_relay_hears_of_a_message_once_it_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    heard: list[int] = []
    made = Recording(KERNEL, IO(), lambda side: (False, "relay"), lambda side, number: heard.append(number))  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_writer", NoThread())
    tell(made, execute())
    made.handed_on(SIDE, 1)  # nothing of it is worth keeping
    tell(made, printed("x"), SIDE, 2)
    made.handed_on(SIDE, 2)
    tell(made, printed("y"), SIDE, 3)
    assert heard == [1]
    made.flush()
    assert heard == [1, 2]
    made.handed_on(SIDE, 3)
    assert heard == [1, 2, 3]
    made.close(leave=False)


def test_a_disk_that_takes_nothing_holds_nobody_up(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []
    recording._pass_on = lambda side, number: heard.append(number)
    recording._source_of = lambda side: (False, "relay")
    monkeypatch.setattr(module, "RETRY", 0.0)
    monkeypatch.setattr(recording, "_writer", NoThread())
    tell(recording, execute())
    recording.flush()
    path = path_of(KERNEL)
    assert path.exists()

    write = OutputStore.write

    def full(self: OutputStore, *args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OutputStore, "write", full)
    tell(recording, printed("x"), SIDE, 1)
    recording.handed_on(SIDE, 1)
    recording.flush()
    assert heard == [1]
    assert path.with_name(path.name + "-torn").exists()
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [caplog.records[0].message]
    assert "No space left" in caplog.text
    monkeypatch.setattr(OutputStore, "write", write)
    tell(recording, printed("y"), SIDE, 2)
    assert outputs(recording) == {"a": [{"output_type": "stream", "name": "stdout", "text": "xy"}]}
    assert not path.with_name(path.name + "-torn").exists()


@pytest.mark.usefixtures("by_hand")
def test_what_a_full_disk_has_cost_is_said_by_the_cell_that_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    life = Life()
    life.happens(execute())
    life.happens(printed("before"))
    life.recording.flush()
    path = path_of(KERNEL)
    path.with_name(path.name + "-torn").touch()
    life.acked = 1
    life.killed()
    life.happens(printed("after"))
    (kept,) = outputs(life.recording)["a"]
    assert "were left out here" in kept["text"]
    life.recording.close(leave=False)


def test_a_folder_that_cannot_be_written_leaves_outputs_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "jupyter-dsvm").write_text("no folder")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    made = Recording(KERNEL, IO(), lambda side: (True, ""), lambda side, number: None)  # type: ignore[arg-type]
    tell(made, execute())
    tell(made, printed("x"))
    assert outputs(made) == {"a": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    assert "cannot be kept" in caplog.text
    made.close(leave=False)


def test_a_file_that_is_none_is_begun_anew(recording: Recording) -> None:
    path_of(KERNEL).parent.mkdir(parents=True)
    path_of(KERNEL).write_bytes(b"nonsense" * 1000)
    tell(recording, execute())
    tell(recording, printed("x"))
    assert outputs(recording) == {"a": [{"output_type": "stream", "name": "stdout", "text": "x"}]}
    assert path_of(KERNEL).read_bytes().startswith(b"SQLite format 3")


def test_outputs_that_come_faster_than_they_are_written_are_counted_and_the_end_of_the_cell_is_there(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOO_MUCH", 20_000)
    monkeypatch.setattr(recording, "_writer", NoThread())
    tell(recording, execute())
    for _ in range(50):
        tell(recording, printed("x" * 1000))
    tell(recording, {"do": "reply", "run": "r1", "content": {"status": "ok", "execution_count": 1}})
    tell(recording, {"do": "iopub", "run": "r1", "type": "status", "content": {"execution_state": "idle"}})
    recording.flush()
    (row,) = recording.since(0)["rows"]
    assert row["state"] == "done"
    kept = len(row["outputs"][0]["text"]) // 1000
    assert 5 < kept < 30
    assert row["cut"]["messages"] == 50 - kept
    assert f"[{50 - kept} outputs" in row["outputs"][-1]["text"]


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(registry, "outputs_limit", 0)
    made = Recording(KERNEL, IO(), lambda side: (True, ""), lambda side, number: None)  # type: ignore[arg-type]
    made.adopt([])
    tell(made, execute())
    tell(made, printed("x"))
    assert made.since(0)["rows"] == []
    made.close(leave=False)
    assert not outputs_folder().exists()


def test_files_of_kernels_that_ended_with_their_server_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    ids = [f"7c7d5b58-4f6a-4b5e-9d3e-00000000000{n}" for n in range(3)]
    used = OutputStore(path_of(ids[0]))
    for kernel_id in ids[1:]:
        OutputStore(path_of(kernel_id)).close()
    folder_of(ids[2]).mkdir(parents=True)
    assert remove_orphans() == 1
    assert sorted(p.name[:36] for p in outputs_folder().glob("*.sqlite3")) == [ids[0], ids[2]]
    used.remove()


def test_a_page_is_answered_in_parts(recording: Recording) -> None:
    for n in range(5):
        tell(recording, execute(f"c{n}", f"r{n}"))
        tell(recording, printed("x" * 1000, f"r{n}"))
    first = recording.since(0, max_bytes=4000)
    assert 0 < len(first["rows"]) < 5
    rest = recording.since(0, first["next"], max_bytes=10**6)
    assert [r["cell"] for r in first["rows"] + rest["rows"]] == [f"c{n}" for n in range(5)]
    assert rest["next"] is None
    assert recording.since(first["version"]) == {"version": first["version"], "rows": [], "next": None}
    assert len(recording.since(first["version"] + 10**9)["rows"]) == 5  # it has them from a file that was lost


def test_the_thread_that_writes_ends_with_the_last_kernel(recording: Recording) -> None:
    tell(recording, execute())
    until(path_of(KERNEL).exists)
    assert "jupyter-dsvm-outputs" in {t.name for t in threading.enumerate()}
    recording.close(leave=False)
    until(lambda: "jupyter-dsvm-outputs" not in {t.name for t in threading.enumerate()})


def run_cell(notebook: Notebook, cell: str, code: str) -> str:
    message = notebook.kc.session.msg("execute_request", frontend.cell(code), metadata={"cellId": cell})
    notebook.kc.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def test_a_notebook_that_moves_keeps_what_its_cells_have() -> None:
    """Also what the kernel that it has left still says, and what a restart leaves."""
    with default_provisioner(PROVISIONER), Notebook() as notebook:
        late = "import threading; threading.Timer(1, lambda: print('late')).start(); print('before')"
        before = run_cell(notebook, "a", late)
        notebook.wait(before)
        notebook.move()
        notebook.wait(run_cell(notebook, "b", "print('after'); 1/0"))
        notebook.until(lambda: any("late" in str(m["content"].get("text")) for m in notebook.messages))
        recording = notebook.proxy.recording
        found = outputs(recording)
        assert found["a"] == [{"output_type": "stream", "name": "stdout", "text": "before\nlate\n"}]
        assert [o["output_type"] for o in found["b"]] == ["stream", "error"]
        notebook.km.restart_kernel(now=True)
        notebook.kc.wait_for_ready(timeout=30)
        notebook.wait(run_cell(notebook, "c", "print('restarted')"))
        assert outputs(recording) == {
            **found,
            "c": [{"output_type": "stream", "name": "stdout", "text": "restarted\n"}],
        }
        assert list(outputs_folder().glob("*.sqlite3"))
    assert list(outputs_folder().glob("*")) == []
