"""What others do to a machine is an operation here: seen in a list, followed by its state alone, and never cancelled here."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm import elsewhere
from jupyter_dsvm.compute.azure.machine import from_graph, from_model, is_updating, power_state
from jupyter_dsvm.elsewhere import kind_of
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import ComputeError, OperationRefused, Throttled, UnknownCompute
from jupyter_dsvm.models import Compute, Operation, OperationState, PowerState
from jupyter_dsvm.service import DSVMService, load_service
from support.arm_server import graph_row, vm_model
from support.emulated import PATIENCE, configured, emulator
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm
from support.kernels import until

__all__ = ["configured", "emulator"]

GPU = dsvm("gpu-vm", PowerState.DEALLOCATED)


@pytest.mark.parametrize(
    ("state", "updating", "kind"),
    [
        (PowerState.STARTING, False, "start"),
        (PowerState.STARTING, True, "start"),
        (PowerState.STOPPING, True, "stop"),
        (PowerState.DEALLOCATING, False, "stop"),
        (PowerState.RUNNING, True, "update"),
        (PowerState.DEALLOCATED, True, "update"),
        (PowerState.UNKNOWN, True, "update"),
        (PowerState.RUNNING, False, None),
        (PowerState.STOPPED, False, None),
        (PowerState.UNKNOWN, False, None),
    ],
)
def test_what_a_state_tells(state: PowerState, updating: bool, kind: str | None):
    assert kind_of(dataclasses.replace(GPU, power_state=state, updating=updating)) == kind


@pytest.mark.parametrize(
    ("word", "updating"),
    [
        ("Updating", True),
        ("updating", True),
        ("Creating", True),
        ("Deleting", True),
        ("Succeeded", False),
        (None, False),
    ],
)
def test_where_azure_says_that_it_works_on_a_vm(word: str | None, updating: bool):
    row = from_graph(graph_row(provisioningState=word), "dsvm")
    assert row is not None
    assert row.compute.updating is updating
    model = from_model(vm_model(provisioningState=word), "dsvm")
    assert model is not None
    assert model.compute.updating is updating
    view = {"statuses": [{"code": f"ProvisioningState/{(word or '').lower()}"}, {"code": "PowerState/running"}]}
    assert is_updating(view) is updating
    assert power_state(view) is PowerState.RUNNING
    assert "updating" not in row.compute.to_json()  # what REST shows is the operation


class Cloud(FakeCompute):
    def __init__(self, *rows: Compute) -> None:
        super().__init__(*rows)
        self.looks = 0
        self.error: Exception | None = None

    def look(self, compute_id: str) -> Compute:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.get(compute_id)

    def becomes(self, state: PowerState, updating: bool = False, row: Compute = GPU) -> None:
        self.rows[row.id] = dataclasses.replace(row, power_state=state, updating=updating)


class Stage:
    def __init__(self, *proxies: FakeProxy) -> None:
        self.cloud = Cloud(GPU, dsvm("cpu-vm"))
        self.service = DSVMService(
            lambda: [FakeFree(), self.cloud], registry=FakeRegistry(*proxies), connections=FakeConnections()
        )
        self.service.elsewhere.interval = 0.02

    @property
    def seen(self) -> list[Operation]:
        """Oldest first."""
        return [o for o in reversed(self.service.operations_store.all()) if o.elsewhere]

    def listed(self) -> None:
        self.service.computes(refresh=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))


@contextlib.contextmanager
def stage(*proxies: FakeProxy) -> Iterator[Stage]:
    made = Stage(*proxies)
    try:
        yield made
    finally:
        made.cloud.gate.set()
        made.service.close()


def test_followed_from_the_list_to_its_end():
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING, True)
        events: list[tuple[str, str | None]] = []
        s.service.listen(lambda what, thing, revision: events.append((what, thing)))
        s.listed()
        until(lambda: s.seen)
        (found,) = s.seen
        assert (found.kind, found.compute, found.state) == ("start", GPU.id, OperationState.RUNNING)
        assert [step.text for step in found.steps] == [
            "gpu-vm starts. Begun elsewhere, for example in the Azure portal."
        ]
        with pytest.raises(OperationRefused, match="begun elsewhere") as caught:
            s.service.cancel(found.id)
        assert (caught.value.code, caught.value.status) == ("BegunElsewhere", 409)
        with pytest.raises(OperationRefused):
            s.service.release(found.id)
        lists = s.cloud.asked.count("list")
        until(lambda: s.cloud.looks > 3)
        events.clear()
        s.cloud.becomes(PowerState.RUNNING)
        until(lambda: s.seen[0].ended)
        assert (s.seen[0].state, s.seen[0].notice) == (OperationState.DONE, "gpu-vm runs.")
        assert ("computes", GPU.id) in events
        assert ("operations", found.id) in events
        assert s.service.known.known(GPU.id).power_state is PowerState.RUNNING
        assert s.cloud.asked.count("list") == lists  # only the machine was asked for
        until(lambda: not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-elsewhere"])
        looks = s.cloud.looks
        s.listed()
        time.sleep(0.1)
        assert s.cloud.looks == looks
        assert len(s.seen) == 1


def test_what_an_old_list_says_is_no_operation():
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        listing = s.cloud.list()
        s.cloud.becomes(PowerState.RUNNING)
        s.service.computes()
        s.service.elsewhere.seen(listing.computes)
        until(lambda: s.cloud.looks == 1)
        time.sleep(0.1)
        assert s.seen == []
        assert s.cloud.looks == 1


def test_one_operation_takes_the_place_of_another():
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        s.listed()
        until(lambda: s.seen)
        s.cloud.becomes(PowerState.DEALLOCATING)
        until(lambda: len(s.seen) == 2)
        assert (s.seen[0].state, s.seen[1].kind) == (OperationState.DONE, "stop")
        assert "Another operation" in s.seen[0].notice
        s.cloud.becomes(PowerState.DEALLOCATED)
        until(lambda: s.seen[1].ended)
        assert s.seen[1].notice == "gpu-vm is deallocated."


def test_our_own_are_not_somebody_elses():
    with stage(FakeProxy()) as s:
        s.cloud.gate.clear()
        s.cloud.becomes(PowerState.STARTING)
        start = s.service.start("gpu-vm")
        until(lambda: f"start {GPU.id}" in s.cloud.asked)
        s.listed()
        time.sleep(0.1)
        assert s.seen == []
        assert s.cloud.looks == 0
        s.service.cancel(start.id)
        s.service.operations_store.get(start.id).finished.result(5)
        s.listed()
        until(lambda: s.seen)  # Azure goes on with it
        assert "Azure goes on with it, though this server has stopped waiting" in s.seen[0].steps[0].text
        stop = s.service.stop("gpu-vm")
        until(lambda: s.seen[0].ended)
        assert s.seen[0].notice == "gpu-vm is changed by an operation of this server now."
        s.cloud.gate.set()
        assert s.service.operations_store.get(stop.id).finished.result(5).state is OperationState.DONE
        assert len(s.seen) == 1


def test_only_while_somebody_may_look(monkeypatch: pytest.MonkeyPatch):
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        s.service.known.snapshot(refresh=True)  # not because anybody asked
        s.service.known.fresh(GPU.id)
        time.sleep(0.1)
        assert s.seen == []
        assert s.cloud.looks == 0
        s.listed()
        until(lambda: s.seen)
        monkeypatch.setattr(elsewhere, "LOOKED_SECONDS", 0.0)
        until(lambda: s.seen[0].ended)
        assert s.seen[0].state is OperationState.CANCELLED
        assert "nobody has looked" in s.seen[0].error.message


def test_a_look_at_the_machine_itself_tells_as_well():
    with stage() as s:
        s.listed()
        s.cloud.becomes(PowerState.DEALLOCATING)
        s.service.known.fresh(GPU.id)  # as an attach, or a pipe that broke
        until(lambda: s.seen)
        s.cloud.becomes(PowerState.DEALLOCATED)
        until(lambda: s.seen[0].ended)


def test_deleted_meanwhile():
    with stage() as s:
        s.cloud.becomes(PowerState.DEALLOCATING)
        s.listed()
        until(lambda: s.seen)
        s.cloud.error = UnknownCompute("gpu-vm is not in Azure any more.", code="ResourceNotFound")
        until(lambda: s.seen[0].ended)
        assert s.seen[0].notice == "gpu-vm is gone: gpu-vm is not in Azure any more."
        assert s.service.known.known(GPU.id) is None


def test_a_cloud_that_does_not_answer_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch):
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        s.listed()
        until(lambda: s.seen)
        s.cloud.error = ComputeError("No answer.")
        looks = s.cloud.looks
        until(lambda: s.cloud.looks > looks + 3)
        assert s.seen[0].ended is None
        monkeypatch.setattr(elsewhere, "PATIENCE", 0.0)
        until(lambda: s.seen[0].ended)
        assert s.seen[0].error.message == "No answer."


def test_throttling_is_heeded():
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        s.listed()
        until(lambda: s.seen)
        s.cloud.error = Throttled("Too often.", retry_after=30.0)
        looks = s.cloud.looks
        until(lambda: s.cloud.looks > looks)
        looks = s.cloud.looks
        time.sleep(0.2)
        assert s.cloud.looks == looks


def test_one_that_does_not_end_is_given_up_and_not_begun_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elsewhere, "LIMIT_SECONDS", 0.1)
    with stage() as s:
        s.cloud.becomes(PowerState.RUNNING, updating=True)
        s.listed()
        until(lambda: s.seen and s.seen[0].ended)
        assert (s.seen[0].kind, s.seen[0].error.code) == ("update", "Timeout")
        s.listed()
        time.sleep(0.1)
        assert len(s.seen) == 1
        s.cloud.becomes(PowerState.RUNNING)
        s.listed()
        s.cloud.becomes(PowerState.RUNNING, updating=True)
        s.listed()
        until(lambda: len(s.seen) == 2)


def test_many_share_one_thread_and_there_is_a_limit():
    many = [dsvm(f"vm-{n}", PowerState.STARTING) for n in range(30)]
    with stage() as s:
        s.cloud.rows |= {row.id: row for row in many}
        s.listed()
        until(lambda: len(s.seen) == elsewhere.MOST)
        time.sleep(0.1)
        assert len(s.seen) == elsewhere.MOST
        assert len([t for t in threading.enumerate() if t.name == "jupyter-dsvm-elsewhere"]) == 1


def test_the_end_of_the_service_is_the_end_of_it():
    with stage() as s:
        s.cloud.becomes(PowerState.STARTING)
        s.listed()
        until(lambda: s.seen)
        s.service.close()
        assert s.seen[0].state is OperationState.CANCELLED
        s.service.elsewhere.seen(s.cloud.list().computes)
        assert not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-elsewhere"]


@pytest.mark.parametrize(
    ("name", "action", "kind", "after"),
    [
        ("gpu-vm", "start", "start", "runs."),
        ("cpu-vm", "deallocate", "stop", "is deallocated."),
        ("cpu-vm", "restart", "update", "runs."),
    ],
)
def test_in_the_portal(configured: Emulator, name: str, action: str, kind: str, after: str):
    """Against the emulator: what is asked for meanwhile is the machine's instance view, and nothing else."""
    configured.set_timings(start=2.0, deallocate=2.0, restart=2.0)
    loaded = load_service()
    loaded.elsewhere.interval = 0.2
    portal = threading.Thread(target=configured.power, args=(name, action))
    try:
        loaded.computes()
        portal.start()
        until(lambda: configured.vm(name)["power_state"] not in ("running", "deallocated") or action == "restart")
        time.sleep(0.2)
        before = len(configured.traffic)
        loaded.computes(refresh=True)
        until(lambda: any(o.elsewhere for o in loaded.operations()[0]), PATIENCE)
        (found,) = [o for o in loaded.operations()[0] if o.elsewhere]
        assert found.kind == kind
        until(lambda: loaded.operation(found.id).ended, PATIENCE)
        ended = loaded.operation(found.id)
        assert (ended.state, ended.notice) == (OperationState.DONE, f"{name} {after}")
        (row,) = [c for c in loaded.computes().computes if c.name == name]
        assert row.power_state.value == configured.vm(name)["power_state"]
        assert not row.updating
        asked = [e["request"]["url"] for e in configured.traffic[before:]]
        asked = [url.partition("?")[0].rpartition("/")[2] for url in asked if "/operations/" not in url]
        assert asked.count("resources") == 1
        assert asked.count("instanceView") >= 2
        portal.join()
        loaded.computes(refresh=True)
        time.sleep(0.5)
        assert len([o for o in loaded.operations()[0] if o.elsewhere]) == 1
    finally:
        configured.set_timings(start=0.3, deallocate=0.2, restart=0.3)
        portal.join()
        loaded.close()
