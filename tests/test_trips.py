"""Files on the way of a move or a stop: whatever becomes of them, the move or the stop goes on, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from jupyter_dsvm.errors import Cancelled, DiskFull, FolderRefused
from jupyter_dsvm.models import FREE
from jupyter_dsvm.space import Place, Space
from jupyter_dsvm.sync.plan import Halt, HaltReason
from jupyter_dsvm.sync.workspace import Progress, Synced, Workspace
from jupyter_dsvm.trips import Trip, Trips, patiently
from jupyter_dsvm.workspaces import Workspaces

MB = 1_000_000
HALT = Halt((HaltReason.EMPTY,), "The folder on gpu-vm is empty.", "Force it.", "h1")


class FakeWorkspace:
    def __init__(self, outcome: Synced | BaseException) -> None:
        self.outcome = outcome
        self.directions: list[str] = []

    def sync(self, direction: Any, report: Callable[[Progress], None], cancel: threading.Event, **how: Any) -> Synced:
        self.directions.append(direction.value)
        if isinstance(self.outcome, TimeoutError):  # it hangs
            cancel.wait(10)
            raise Cancelled("Stopped.")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        pass


class FakeWorkspaces:
    def __init__(self, current: Space | None = None, reach: bool = True, size: int = 10 * MB) -> None:
        self.now = current
        self.reach = reach
        self.size = size
        self.refused: FolderRefused | None = None
        self.log: list[tuple[Any, ...]] = []
        self.ask_above = 500 * MB
        self.target = space("gpu-vm")
        self.folders = self

    def current(self, kernel_id: str) -> Space | None:
        return self.now

    def in_reach(self, space: Space) -> bool:
        return self.reach

    def inside(self, proxy: object, folder: Path, new: bool = False) -> str:
        return ""

    def of(self, proxy: object, new: bool = False) -> Path:
        if self.refused is not None:
            raise self.refused
        return Path("/work/analysis")

    def place(self, compute: str, folder: Path) -> Place:
        return self.target.place

    def pending(self, place: Place) -> tuple[int, int]:
        return 3, self.size

    def space(self, place: Place, name: str = "") -> Space:
        return self.target

    def arriving(self, *about: Any) -> None:
        self.log.append(("arriving", *about))

    def arrived(self, *about: Any) -> None:
        self.log.append(("arrived", *about[:5]))

    def gave_up(self, *about: Any) -> None:
        self.log.append(("gave up", *about))


class Front:
    kernel_id = "k"


class Row:
    def __init__(self, name: str) -> None:
        self.name = self.id = name


def space(name: str, outcome: Synced | BaseException | None = None) -> Space:
    fake = FakeWorkspace(Synced(size=84 * MB) if outcome is None else outcome)
    place = Place(name, Path("/work/analysis"), "analysis-01234567", "b.json")
    found = Space(place, name, lambda space: cast(Workspace, fake), lambda workspace_id: None, kernels={"k"})
    found.fake = fake  # type: ignore[attr-defined]
    return found


def trip(fake: FakeWorkspaces, compute: str = "gpu-vm", sync: bool | None = None) -> Trip:
    return Trips(cast(Workspaces, fake), lambda: True).of(Front(), cast(Any, Row(compute)), sync)


def quiet(progress: Progress) -> None:
    pass


def test_the_folder_goes_before_the_kernel_starts_in_it():
    fake = FakeWorkspaces()
    going = trip(fake)
    assert going.copies
    going.leave(quiet, threading.Event())
    assert going.arrive(quiet, threading.Event()) == ("notebooks/analysis-01234567", "84 MB")
    assert going.notices == []
    assert fake.target.fake.directions == ["push"]  # type: ignore[attr-defined]
    going.arrived()
    assert [entry[0] for entry in fake.log] == ["arriving", "arrived"]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (DiskFull("gpu-vm is full."), "Its files are not all on gpu-vm: gpu-vm is full."),
        (Synced(halt=HALT), "Its files are not all on gpu-vm: The folder on gpu-vm is empty. Force it."),
        (Synced(problems=("“a” cannot be read.",)), "Not everything was copied to gpu-vm: “a” cannot be read."),
        (RuntimeError("a bug"), "Its files are not all on gpu-vm: RuntimeError: a bug."),
    ],
)
def test_a_push_that_fails_does_not_fail_the_move(outcome: Synced | Exception, said: str):
    fake = FakeWorkspaces()
    fake.target = space("gpu-vm", outcome)
    going = trip(fake)
    assert going.arrive(quiet, threading.Event())[0] == "notebooks/analysis-01234567"
    assert going.notices == [said]


def test_a_cancel_is_the_moves():
    fake = FakeWorkspaces()
    fake.target = space("gpu-vm", Cancelled("Stopped."))
    going = trip(fake)
    with pytest.raises(Cancelled):
        going.arrive(quiet, threading.Event())
    going.gave_up()
    assert fake.log[-1] == ("gave up", "k", fake.target)


def test_what_does_not_travel_and_why():
    fake = FakeWorkspaces()
    left = trip(fake, sync=False)
    assert (left.copies, left.notices) == (False, [])  # that was asked for
    assert left.arrive(quiet, threading.Event()) == (None, "")
    fake.refused = FolderRefused("Your home folder cannot travel.", advice="Choose another.")
    refused = trip(fake)
    assert refused.notices == ["Its files stay on this server. Your home folder cannot travel. Choose another."]
    fake.refused = FolderRefused("It has no notebook.", code="NoNotebook")
    assert trip(fake).notices == []


def test_many_files_are_asked_about_before_anything_starts():
    fake = FakeWorkspaces(size=900 * MB)
    with pytest.raises(Exception, match="has 900 MB to copy to gpu-vm") as e:
        trip(fake)
    assert e.value.code == "NeedsYes"  # type: ignore[attr-defined]
    assert fake.log == []
    assert trip(fake, sync=True).copies
    new = Trips(cast(Workspaces, fake), lambda: True).of_new(Front(), cast(Any, Row("gpu-vm")))
    assert not new.copies
    assert "900 MB" in new.notices[0]


def test_coming_back_brings_what_is_there():
    there = space("gpu-vm")
    back = trip(FakeWorkspaces(there), FREE)
    back.leave(quiet, threading.Event())
    assert there.fake.directions == ["both"]  # type: ignore[attr-defined]
    assert back.notices == []
    away = trip(FakeWorkspaces(there, reach=False), FREE)
    away.leave(quiet, threading.Event())
    assert away.notices == ["Not everything came back from gpu-vm: gpu-vm is out of reach."]
    assert len(there.fake.directions) == 1  # type: ignore[attr-defined]


def test_a_machine_that_gets_nothing_done_is_not_waited_for():
    hangs, fake = space("gpu-vm", TimeoutError()), FakeWorkspaces()
    begun = time.monotonic()
    said = patiently(cast(Workspaces, fake), hangs, quiet, threading.Event(), 0.3)
    assert said == "nothing went on for 0 s."
    assert time.monotonic() < begun + 5
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        patiently(cast(Workspaces, fake), hangs, quiet, cancel, 60)
