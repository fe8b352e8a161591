"""Two servers of two users and one Azure: whoever acts at the same time on one VM gets a true end, and nothing hangs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm import booting
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import Operation, OperationState
from jupyter_dsvm.service import DSVMService, load_service
from support.emulated import PATIENCE, configured, emulator, settings, writes
from support.kernels import until
from support.sshd import free_port

__all__ = ["configured", "emulator"]

DONE, FAILED, CANCELLED = OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED


@contextlib.contextmanager
def server(tmp_path: Path, name: str) -> Iterator[DSVMService]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(tmp_path / name))
        loaded = load_service()
    loaded.elsewhere.interval = 0.2
    try:
        loaded.computes()
        yield loaded
    finally:
        loaded.close()


@pytest.fixture
def both(configured: Emulator, tmp_path: Path) -> Iterator[tuple[DSVMService, DSVMService]]:
    configured.set_timings(start=2.0, deallocate=2.0, restart=2.0)
    with server(tmp_path, "ada") as ada, server(tmp_path, "bob") as bob:
        yield ada, bob
    configured.set_timings(start=0.3, deallocate=0.2, restart=0.3)
    assert not [*tmp_path.glob("*/jupyter-dsvm/changes/*")]


def ended(service: DSVMService, operation: Operation) -> Operation:
    return service.operations_store.get(operation.id).finished.result(PATIENCE)


def becomes(emulator: Emulator, name: str, state: str) -> None:
    until(lambda: emulator.vm(name)["power_state"] == state, PATIENCE)


def test_both_start_it(both: tuple[DSVMService, DSVMService], configured: Emulator):
    before = len(configured.traffic)
    operations = [service.start("gpu-vm") for service in both]
    ends = [ended(service, operation) for service, operation in zip(both, operations, strict=True)]
    assert [(e.state, e.notice) for e in ends] == [(DONE, "gpu-vm runs.")] * 2
    assert configured.vm("gpu-vm")["power_state"] == "running"
    assert 1 <= len(writes(configured, before)) <= 2  # Azure lets the second join, where it is asked again at all


def test_one_stops_what_the_other_starts(both: tuple[DSVMService, DSVMService], configured: Emulator):
    ada, bob = both
    start = ada.start("gpu-vm")
    becomes(configured, "gpu-vm", "starting")
    bob.computes(refresh=True)
    until(lambda: [o.kind for o in bob.operations()[0] if o.elsewhere] == ["start"], PATIENCE)
    stop = bob.stop("gpu-vm")
    assert ended(bob, stop).state is DONE
    lost = ended(ada, start)
    assert (lost.state, lost.error.code) == (FAILED, "OperationPreempted")
    assert "Another operation on this VM, started elsewhere" in lost.error.message
    assert configured.vm("gpu-vm")["power_state"] == "deallocated"
    assert ada.known.known(start.compute).power_state.value in ("deallocating", "deallocated")
    until(lambda: all(o.ended for o in bob.operations()[0]), PATIENCE)


def test_one_starts_what_the_other_stops(both: tuple[DSVMService, DSVMService], configured: Emulator):
    ada, bob = both
    stop = ada.stop("cpu-vm")
    becomes(configured, "cpu-vm", "deallocating")
    start = bob.start("cpu-vm")
    until(lambda: "by another operation; waiting" in " ".join(s.text for s in bob.operation(start.id).steps), PATIENCE)
    stopped = ended(ada, stop)
    if stopped.state is not DONE:  # she looked when his start had begun already
        assert (stopped.state, stopped.error.code) == (FAILED, "Conflict")
        assert "Azure has finished stopping cpu-vm, but now it is" in stopped.error.message
    assert ended(bob, start).state is DONE
    assert configured.vm("cpu-vm")["power_state"] == "running"


def test_one_releases_what_both_start(both: tuple[DSVMService, DSVMService], configured: Emulator):
    ada, bob = both
    starts = [ada.start("gpu-vm"), bob.start("gpu-vm")]
    for service, start in zip(both, starts, strict=True):
        until(
            lambda s=service, o=start: "Azure is starting" in " ".join(t.text for t in s.operation(o.id).steps),
            PATIENCE,
        )
    stop = ada.release(starts[0].id)
    assert ended(ada, starts[0]).state is CANCELLED
    assert ended(ada, stop).state is DONE
    assert ended(bob, starts[1]).error.code == "OperationPreempted"
    assert configured.vm("gpu-vm")["power_state"] == "deallocated"


def test_one_stops_it_while_it_boots_for_the_other(
    both: tuple[DSVMService, DSVMService], configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(booting, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(booting, "LOOK_SECONDS", 0.3)
    vm_id = configured.vm("gpu-vm")["vm_id"].lower()
    closed = settings(configured, tmp_path / "closed", AzureCompute={"ssh_ports": {vm_id: free_port()}})
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(closed))
    _, bob = both
    with server(tmp_path, "cleo") as cleo:
        start = cleo.start("gpu-vm")
        until(lambda: cleo.operation(start.id).steps[2].state.value == "running", PATIENCE)
        assert configured.vm("gpu-vm")["power_state"] == "running"
        assert ended(bob, bob.stop("gpu-vm")).state is DONE
        lost = ended(cleo, start)
        assert lost.state is FAILED
        assert "gpu-vm was started, but another operation has changed it since" in lost.error.message


def test_a_closed_port_fails_no_start(configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(booting, "PAUSE_SECONDS", 0.1)
    vm_id, port = configured.vm("gpu-vm")["vm_id"].lower(), free_port()
    closed = settings(configured, tmp_path / "closed", AzureCompute={"ssh_ports": {vm_id: port}})
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(closed))
    with server(tmp_path, "cleo") as cleo:
        monkeypatch.setattr(booting.wait, "__defaults__", (0.5,))
        done = ended(cleo, cleo.start("gpu-vm"))
        assert done.state is DONE
        assert f"gpu-vm runs. Its SSH port ({port} at " in done.notice


def test_one_resizes_what_the_other_wants_to_restart_or_start(
    both: tuple[DSVMService, DSVMService], configured: Emulator
):
    ada, _ = both
    row = configured.vm("cpu-vm")
    configured.set_timings(patch=2.0)

    def resize(size: str) -> None:
        body = {"properties": {"hardwareProfile": {"vmSize": size}}}
        status, _, answer = configured.request("PATCH", f"{row['id']}?api-version=2024-07-01", body)
        assert status in (200, 202), answer

    try:
        resize("Standard_D2ds_v5")
        restart = ended(ada, ada.restart("cpu-vm"))
        assert (restart.state, restart.error.code) == (FAILED, "Conflict")
        assert "Another operation on this VM, started elsewhere" in restart.error.message
        ada.computes(refresh=True)
        until(lambda: [o.kind for o in ada.operations()[0] if o.elsewhere] == ["update"], PATIENCE)
        until(lambda: all(o.ended for o in ada.operations()[0]), PATIENCE)
        (now,) = [c for c in ada.computes().computes if c.name == "cpu-vm"]
        assert now.size is not None
        assert now.size.name == "Standard_D2ds_v5"  # though no list was asked for again
        assert ended(ada, ada.restart("cpu-vm")).state is DONE
    finally:
        configured.set_timings(patch=0.2)
        resize("Standard_D4ds_v5")
        until(
            lambda: (
                configured.request("GET", f"{row['id']}?api-version=2024-07-01")[2]["properties"]["provisioningState"]
                == "Succeeded"
            ),
            PATIENCE,
        )


@pytest.mark.parametrize("how", ["remove", "replace"])
def test_one_deletes_what_the_other_starts(both: tuple[DSVMService, DSVMService], configured: Emulator, how: str):
    """The last tests of this module: nobody makes these VMs again."""
    ada, bob = both
    name = {"remove": "old-vm", "replace": "win-vm"}[how]
    if configured.vm(name)["power_state"] == "running":
        assert ended(ada, ada.stop(name)).state is DONE
    start = ada.start(name)
    becomes(configured, name, "starting")
    bob.computes(refresh=True)
    until(lambda: [o.kind for o in bob.operations()[0] if o.elsewhere] == ["start"], PATIENCE)
    getattr(configured, how)(name)
    lost = ended(ada, start)
    assert lost.state is FAILED
    assert any(word in lost.error.message for word in ("not in Azure any more", "another VM now", "Could not")), (
        lost.error
    )
    until(lambda: all(o.ended for o in bob.operations()[0]), PATIENCE)
    json.dumps(lost.to_json())
    assert threading.active_count() < 60
