"""Which kernel has which workspace: with a service that has no machines, so that nothing is copied."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jupyter_dsvm.duesyncs import EVENT_SECONDS
from jupyter_dsvm.errors import NotFound
from jupyter_dsvm.keptplaces import KeptPlaces
from jupyter_dsvm.models import FREE, KernelRecord, LinkPhase, LinkState, OperationState, WorkspaceState, utc_now
from jupyter_dsvm.operations import OperationStore
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.space import Space
from jupyter_dsvm.sync.workspace import Synced
from jupyter_dsvm.workspaces import Workspaces
from support.kernels import until

KERNEL = str(uuid.uuid4())


class FakeService:
    """What ``Workspaces`` asks of a service. No machine is in reach."""

    sync_ask_above_mib = 500
    project_folders: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self.root_dir = root
        self.paths = {KERNEL: "analysis/study.ipynb"}
        self.events: list[str | None] = []
        self.known = SimpleNamespace(name=lambda compute: "gpu-vm")
        self.connections = SimpleNamespace(stands=lambda compute: False)
        proxy = SimpleNamespace(kernel_id=KERNEL, cwd=None, status=SimpleNamespace(compute_name="gpu-vm"))
        self.registry = SimpleNamespace(get=lambda kernel_id: proxy)
        self.proxy = proxy
        self.operations_store = OperationStore()

    def path(self, kernel_id: str) -> str | None:
        return self.paths.get(kernel_id)

    def look_for_paths(self) -> None:
        pass

    def revision(self, what: str) -> int:
        return len(self.events)

    def workspaces_changed(self, workspace_id: str | None) -> None:
        self.events.append(workspace_id)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.folder = self.root / "analysis"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        self.service = FakeService(self.root)
        self.workspaces = Workspaces(cast(DSVMService, self.service), self.data)

    def arrive(self) -> None:
        place = self.workspaces.folders.place("azure:1", self.workspaces.folders.of(self.service.proxy))
        self.workspaces.arriving(KERNEL, "azure:1")
        self.workspaces.arrived(KERNEL, "azure:1", self.workspaces.space(place), str(place.folder), "")

    def kept(self) -> Any:
        return KeptPlaces(self.data).read(KERNEL)


def row(compute: str, link: LinkPhase = LinkPhase.CONNECTED) -> KernelRecord:
    return KernelRecord(KERNEL, None, compute, "python3", LinkState(link, utc_now()), "idle", "")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.workspaces.leave()
    made.workspaces.close()


@pytest.mark.parametrize(
    ("projects", "travels", "inside"),
    [
        ((), "course/week/one", ""),
        (("course",), "course", "week/one"),
        (("course", "course/week/"), "course/week", "one"),  # the innermost
        (("course/week/one",), "course/week/one", ""),
        (("other", "course/week/one/below", "cour"), "course/week/one", ""),
        (("{root}/course",), "course", "week/one"),
        ((".",), "", "course/week/one"),
    ],
)
def test_which_folder_travels(stage: Stage, projects: tuple[str, ...], travels: str, inside: str):
    stage.service.paths = {KERNEL: "course/week/one/study.ipynb"}
    (stage.root / "course/week/one/below").mkdir(parents=True)
    stage.service.project_folders = tuple(p.format(root=stage.root) for p in projects)
    folder = stage.workspaces.folders.of(stage.service.proxy)
    assert folder == (stage.root / travels).resolve()
    assert stage.workspaces.folders.inside(stage.service.proxy, folder) == inside


def test_a_kernel_has_its_workspace_until_it_leaves(stage: Stage):
    stage.arrive()
    record = stage.workspaces.of_kernel(KERNEL)
    assert record is not None
    assert (record.folder, record.kernels, record.state) == ("analysis", (KERNEL,), WorkspaceState.WAITING)
    assert stage.workspaces.records()[0] == [record]
    until(lambda: stage.kept() is not None)
    until(lambda: record.id in stage.service.events)
    space(stage).due.take()  # nothing is still to be fetched
    stage.workspaces.kernel_changed(KERNEL, None)
    assert stage.workspaces.records()[0] == []
    with pytest.raises(NotFound):
        stage.workspaces.sync(record.id)
    until(lambda: stage.kept() is None)


def space(stage: Stage) -> Space:
    found = stage.workspaces.current(KERNEL)
    assert found is not None
    return found


def test_whoever_shuts_a_kernel_down_hears_that_its_last_files_did_not_come(stage: Stage):
    stage.arrive()
    there = space(stage)
    stage.workspaces.executed(KERNEL)
    stage.workspaces.kernel_changed(KERNEL, None)
    until(lambda: stage.service.operations_store.all())
    (operation,) = stage.service.operations_store.all()
    assert (operation.kind, operation.state, operation.kernel) == ("sync", OperationState.FAILED, KERNEL)
    assert operation.error is not None
    assert operation.error.message == "The last files have not come back from gpu-vm: it is out of reach."
    assert f"still in ~/notebooks/{there.place.root} there" in operation.error.advice
    (record,) = stage.workspaces.records()[0]
    assert (record.kernels, record.state, record.text) == ((), WorkspaceState.FAILED, operation.error.message)
    assert stage.workspaces.on("azure:1") == [there], "a stop tries to bring them"
    assert stage.workspaces.find(record.id) is there, "and so can a person"


def test_of_a_machine_out_of_reach_nobody_can_know_whether_all_is_back(stage: Stage):
    stage.arrive()
    space(stage).due.take()
    stage.workspaces.kernel_changed(KERNEL, row("azure:1", LinkPhase.RECONNECTING))
    stage.workspaces.kernel_changed(KERNEL, None)
    until(lambda: stage.service.operations_store.all())
    (record,) = stage.workspaces.records()[0]
    assert record.state is WorkspaceState.FAILED


def test_a_notebook_that_has_come_back_keeps_the_row_until_its_files_are_back(stage: Stage):
    stage.arrive()
    there = space(stage)
    stage.workspaces.executed(KERNEL)
    said: list[str] = []
    stage.workspaces.arriving(KERNEL, FREE)
    stage.workspaces.arrived(KERNEL, FREE, None, "", "", said.append)
    until(lambda: said)
    assert said == ["The last files have not come back from gpu-vm: it is out of reach."]
    assert stage.service.operations_store.all() == [], "it is in the move's notice"
    record = stage.workspaces.of_kernel(KERNEL)
    assert record is not None
    assert (record.kernels, record.state) == ((KERNEL,), WorkspaceState.FAILED)
    assert record.problem is not None
    assert record.problem.code == "NotBack"

    there.open_workspace = lambda space: cast(Any, SimpleNamespace(sync=lambda *how: Synced(), close=lambda: None))
    there.run("push", lambda progress: None, threading.Event())
    assert stage.workspaces.of_kernel(KERNEL) is not None, "nothing was fetched"
    there.run("both", lambda progress: None, threading.Event())
    stage.workspaces.leave()
    assert stage.workspaces.of_kernel(KERNEL) is None
    assert stage.workspaces.records()[0] == []


def test_what_was_brought_back_just_before_a_stop_is_not_missed(stage: Stage):
    stage.arrive()
    there = space(stage)
    there.open_workspace = lambda space: cast(Any, SimpleNamespace(sync=lambda *how: Synced(), close=lambda: None))
    stage.workspaces.executed(KERNEL)
    there.run("both", lambda progress: None, threading.Event())  # as ``trips`` does it
    said: list[str] = []
    stage.workspaces.arriving(KERNEL, FREE)
    stage.workspaces.arrived(KERNEL, FREE, None, "", "", said.append)
    until(lambda: not stage.workspaces.on("azure:1") and there.id not in stage.workspaces._spaces)
    assert said == []


def test_the_next_server_finds_it_again(stage: Stage, tmp_path: Path):
    stage.arrive()
    until(lambda: stage.kept() is not None)
    before = stage.workspaces.of_kernel(KERNEL)
    assert before is not None
    stage.workspaces.leave()
    stage.workspaces.kernel_changed(KERNEL, None)  # the server lets go of it, and it goes on
    stage.workspaces.close()
    assert stage.kept() is not None
    following = Stage(tmp_path)
    try:
        following.workspaces.kernel_changed(KERNEL, row("azure:1", LinkPhase.CONNECTING))
        until(lambda: following.workspaces.of_kernel(KERNEL) is not None)
        found = following.workspaces.of_kernel(KERNEL)
        assert found is not None
        assert (found.id, found.folder) == (before.id, "analysis")
    finally:
        following.workspaces.leave()
        following.workspaces.close()


def test_a_renamed_folder_keeps_its_place_there(stage: Stage):
    stage.arrive()
    space = stage.workspaces.current(KERNEL)
    assert space is not None
    root, base = space.place.root, space.place.base
    stage.folder.rename(stage.root / "renamed")
    stage.service.paths[KERNEL] = "renamed/study.ipynb"
    stage.workspaces.folder_renamed()
    until(lambda: space.place.folder.name == "renamed")
    assert (space.place.root, space.place.base) == (root, base)
    until(lambda: stage.kept() is not None and stage.kept().folder.endswith("/renamed"))


def test_events_are_no_more_than_five_a_second(stage: Stage):
    stage.arrive()
    until(lambda: stage.service.events)
    before, begun = len(stage.service.events), time.monotonic()
    for _ in range(200):
        stage.workspaces.touch("w")
        threading.Event().wait(0.005)
    assert len(stage.service.events) - before <= (time.monotonic() - begun) / EVENT_SECONDS + 2
