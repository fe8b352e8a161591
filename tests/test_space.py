"""One workspace as the panel sees it: every state, and the words for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from jupyter_dsvm.errors import Cancelled, DiskFull, Unreachable
from jupyter_dsvm.models import Usage, WorkspaceConflict, WorkspaceFile, WorkspaceState
from jupyter_dsvm.space import Place, Space, done_words, limits_of, mb, relative, stopped_because
from jupyter_dsvm.sync.entries import Entry, Kind, Side, Skipped
from jupyter_dsvm.sync.plan import Conflict, Halt, HaltReason
from jupyter_dsvm.sync.workspace import Progress, Synced, Workspace

MB = 1_000_000
WHOLE = Synced(size=84 * MB, files=340)
FILE = Entry("big.bin", Kind.FILE, 12 * MB)
HALT = Halt((HaltReason.EMPTY,), "The folder on gpu-vm is empty.", "`%dsvm sync --force` deletes all of it here.", "h1")


class Fake:
    """A ``Workspace`` that does what it is told."""

    def __init__(self) -> None:
        self.outcome: Synced | BaseException = WHOLE
        self.during: Callable[[Callable[[Progress], None]], None] = lambda report: None
        self.asked: list[dict[str, Any]] = []
        self.closed = 0

    def sync(self, direction: object, report: Callable[[Progress], None], cancel: object, **how: Any) -> Synced:
        self.asked.append({"direction": direction, **how})
        self.during(report)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def space(fake: Fake) -> Space:
    place = Place("azure:1", Path("/home/j/work/analysis"), "analysis-01234567", "b.json")
    return Space(place, "gpu-vm", lambda space: cast(Workspace, fake), lambda workspace_id: None, kernels={"k"})


def run(space: Space, **how: Any) -> Synced:
    return space.run("pull", lambda progress: None, threading.Event(), **how)


OUTCOMES = {
    "in step": (WHOLE, WorkspaceState.IN_STEP, "84 MB, in step", None),
    "conflicts": (
        Synced(
            size=84 * MB, conflicts=(Conflict("a", "a (gpu-vm)", FILE, FILE), Conflict("b", "b (gpu-vm)", FILE, FILE))
        ),
        WorkspaceState.CONFLICTS,
        "84 MB, 2 conflicts",
        None,
    ),
    "no room here": (
        Synced(size=84 * MB, left_there=(FILE,)),
        WorkspaceState.IN_STEP,
        "84 MB, in step; 12 MB stay on gpu-vm, there is no room here",
        None,
    ),
    "halted": (Synced(halt=HALT), WorkspaceState.HALTED, "The folder on gpu-vm is empty.", "Halted"),
    "too much": (
        Synced(needs_yes=900 * MB),
        WorkspaceState.HALTED,
        "900 MB are to be copied to gpu-vm, which is more than is copied without asking.",
        "NeedsYes",
    ),
    "left out": (
        Synced(size=84 * MB, problems=("“a” cannot be read.",)),
        WorkspaceState.FAILED,
        "84 MB, 1 file was not copied",
        "NotCopied",
    ),
    "no room there": (DiskFull("gpu-vm is full."), WorkspaceState.FAILED, "gpu-vm is full.", "DiskFull"),
    "out of reach": (Unreachable("No answer."), WorkspaceState.WAITING, "gpu-vm is out of reach", "Unreachable"),
    "cancelled": (Cancelled("Stopped."), WorkspaceState.WAITING, "waiting for gpu-vm", None),
}


@pytest.mark.parametrize(("outcome", "state", "text", "code"), OUTCOMES.values(), ids=OUTCOMES)
def test_how_a_sync_ended_is_what_is_seen(
    space: Space, fake: Fake, outcome: Synced | Exception, state: WorkspaceState, text: str, code: str | None
):
    fake.outcome = outcome
    if isinstance(outcome, Exception):
        with pytest.raises(type(outcome)):
            run(space)
    else:
        assert run(space) is outcome
    record = space.record("analysis")
    assert (record.state, record.text) == (state, text)
    assert (record.problem and record.problem.code) == code
    assert (record.compute, record.folder, record.kernels) == ("azure:1", "analysis", ("k",))
    fake.outcome = WHOLE  # a sync that works makes up for it
    run(space)
    assert space.record("analysis").text == "84 MB, in step"
    assert space.record("analysis").as_of is not None


def test_while_files_are_copied(space: Space, fake: Fake):
    seen = []

    def during(report: Callable[[Progress], None]) -> None:
        for progress in (Progress(), Progress(12, 340, 30 * MB, 60 * MB)):
            report(progress)
            record = space.record("")
            seen.append((record.state, record.text, record.progress))

    fake.during = during
    run(space)
    assert seen == [
        (WorkspaceState.COPYING, "looking for changes", None),
        (WorkspaceState.COPYING, "copying 12 of 340 files", 0.5),
    ]
    seen.clear()
    run(space)
    # It has been in step before: a look that may find nothing does not flicker.
    assert [text for _, text, _ in seen] == ["84 MB, in step", "copying 12 of 340 files"]


def test_the_lists_of_a_record(space: Space, fake: Fake):
    fake.outcome = Synced(
        conflicts=(Conflict("a", "a (gpu-vm)", FILE, FILE),),
        left_there=(FILE,),
        skipped=(Skipped("pipe", Side.THERE, "it is a FIFO"),) * 1000,
    )
    run(space)
    record = space.record("")
    assert record.conflicts == (WorkspaceConflict("a", "a (gpu-vm)"),)
    assert record.left_there == (WorkspaceFile("big.bin", 12 * MB),)
    assert len(record.skipped) == 200
    assert record.skipped[0].reason == "it is a FIFO"


def test_a_sync_that_takes_long_puts_off_the_next(space: Space):
    run(space)
    space.due.ask("pull", space.used)
    assert space.due.at is not None
    assert space.due.at >= space.used + 2


def test_what_somebody_is_told_who_has_asked():
    assert done_words(Synced(), "gpu-vm") == "Nothing had changed."
    some = Synced(pushed=3, pulled=1, deleted=1, problems=("“a” cannot be read.",))
    assert done_words(some, "gpu-vm") == (
        "3 files copied to gpu-vm; 1 file copied from gpu-vm; 1 file deleted, and kept in .dsvm-trash for a week. "
        "Not copied: “a” cannot be read."
    )
    assert stopped_because(WHOLE, "gpu-vm") is None


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (2004, "2 kB"), (84 * MB, "84 MB"), (1_500 * MB, "1.5 GB")]
)
def test_sizes(count: int, words: str):
    assert mb(count) == words


def test_a_pull_stops_at_four_fifths_of_the_data_that_may_be_kept(tmp_path: Path):
    limits = limits_of(tmp_path, 5, Usage(1.0, 10.0), frozenset({"a.ipynb"}))
    assert limits.pull_bytes is not None
    assert limits.pull_bytes <= 7 * 1024**3
    assert (limits.ask_above, limits.owned_here) == (5, frozenset({"a.ipynb"}))
    assert limits_of(tmp_path, 5, Usage(9.0, 10.0), frozenset()).pull_bytes == 0
    free = limits_of(tmp_path, 5, None, frozenset()).pull_bytes
    assert free is None or free > 0
    assert limits_of(tmp_path / "gone", 5, None, frozenset()).pull_bytes is None


def test_folders_are_named_below_the_root(tmp_path: Path):
    assert relative(tmp_path / "a" / "b", tmp_path) == "a/b"
    assert relative(tmp_path, tmp_path) == ""
    assert relative(tmp_path / "a", None) == str(tmp_path / "a")
