"""Nothing is left of a DSVM that could not be finished: refused, failed halfway, cancelled, or its server killed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError

from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH
from jupyter_dsvm.errors import Cancelled, OperationRefused
from jupyter_dsvm.models import PowerState
from support.creating import Make, Said, created, emulator, everything, failed, kept_memo, make, resource, spec
from support.emulated import writes

__all__ = ["emulator", "make"]

# -- what Azure refuses or cannot do ------------------------------------------------------------------------------------

STAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "validation, by a policy": (
        {"operation": "deployment", "code": "RequestDisallowedByPolicy"},
        "RequestDisallowedByPolicy",
        "policy",
    ),
    "validation, by the marketplace": (
        {
            "operation": "deployment",
            "code": "MarketplacePurchaseEligibilityFailed",
            "status": 400,
            "message": "Marketplace purchase failed",
        },
        "MarketplacePurchaseEligibilityFailed",
        "terms",
    ),
    "the first resource": (
        {"operation": "network", "at": "operation", "code": "InternalServerError"},
        "InternalServerError",
        "fault",
    ),
    "the VM, without room": (
        {"operation": "vm", "at": "operation", "code": "AllocationFailed"},
        "AllocationFailed",
        "no capacity",
    ),
    "the VM, not offered": (
        {"operation": "vm", "at": "operation", "code": "SkuNotAvailable"},
        "SkuNotAvailable",
        "not available",
    ),
}


@pytest.mark.parametrize("group", ["notebooks", "made"])
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_of_what_failed(stage: str, group: str, make: Make, emulator: Emulator):
    fault, code, words = STAGES[stage]
    before = everything(emulator)
    emulator.fault("*", **fault)
    error = failed(make(), spec(resource_group=group))
    assert error.code == code
    assert error.message.startswith("Could not make new-vm.")
    assert words in error.message
    assert "disk is kept" not in str(error)
    assert everything(emulator) == before


def test_no_capacity_is_found_out_at_the_end_and_undone(make: Make, emulator: Emulator):
    before = everything(emulator)
    emulator.set_scenario(capacity=[{"size": "Standard_D2ds_v5", "machines": 0}])
    error = failed(make(), spec(resource_group="made"))
    assert error.code == "AllocationFailed"
    assert "deleted again" in error.message
    assert "another region" in error.advice
    assert everything(emulator) == before


def test_an_interface_that_stays_reserved_is_waited_for(make: Make, emulator: Emulator):
    before = everything(emulator)
    emulator.set_timings(nic_reserved=1.5)
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    since = len(emulator.traffic)
    error = failed(make(), spec(resource_group="made"))
    assert error.code == "AllocationFailed"
    answers = [
        json.dumps(e["response"].get("body")) for e in emulator.traffic[since:] if e["request"]["method"] == "DELETE"
    ]
    assert any("NicReservedForAnotherVm" in answer for answer in answers)
    assert everything(emulator) == before


def test_what_cannot_be_deleted_is_named_with_its_id(make: Make, emulator: Emulator):
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    emulator.fault("*", "delete", code="ScopeLocked", times=-1)
    error = failed(make(), spec(resource_group="notebooks"))
    assert error.code == "AllocationFailed"
    assert "may be billed" in error.message
    for kind, name in (("virtualMachines", "new-vm"), ("publicIPAddresses", "new-vm-ip"), ("disks", "new-vm-osdisk")):
        assert f"{kind}/{name}" in error.message
    assert "lock" in error.message
    assert "Delete what is left" in error.advice
    emulator.clear_faults()
    for kind, name in (
        ("Compute/virtualMachines", "new-vm"), ("Network/networkInterfaces", "new-vm-nic"),
        ("Network/publicIPAddresses", "new-vm-ip"), ("Network/networkSecurityGroups", "new-vm-nsg"),
        ("Network/virtualNetworks", "new-vm-vnet"), ("Compute/disks", "new-vm-osdisk"),
    ):  # fmt: skip
        path = f"/subscriptions/{RESEARCH.id}/resourceGroups/notebooks/providers/Microsoft.{kind}/{name}?api-version=2023-11-01"
        emulator.request("DELETE", path)
        while emulator.request("GET", path)[0] == 200:
            time.sleep(0.05)


def test_another_ones_resource_is_not_deleted(make: Make, emulator: Emulator):
    """Somebody replaces the address while the VM is being made: it has our name, and not our tag."""
    azure = make()
    emulator.set_timings(create=1.5)
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    said = Said()

    def replace_it() -> None:
        while not any("the VM" in text for text in said.texts):
            time.sleep(0.02)
        body = foreign_deployment("new-vm-nsg")
        path = f"/subscriptions/{RESEARCH.id}/resourcegroups/notebooks/providers/Microsoft.Resources/deployments/other"
        status, _, _ = emulator.request("PUT", f"{path}?api-version=2021-04-01", body)
        assert status == 201

    other = threading.Thread(target=replace_it)
    other.start()
    with pytest.raises(OperationRefused) as caught:
        azure.create(spec(resource_group="notebooks"), said, Cancel())
    other.join()
    assert "networkSecurityGroups/new-vm-nsg (it is another one" in caught.value.message
    assert resource(emulator, "networkSecurityGroups", "new-vm-nsg", "notebooks")["tags"] == {"whose": "theirs"}
    assert resource(emulator, "publicIPAddresses", "new-vm-ip", "notebooks") is None
    path = f"/subscriptions/{RESEARCH.id}/resourceGroups/notebooks/providers/Microsoft.Network/networkSecurityGroups/new-vm-nsg"
    emulator.request("DELETE", f"{path}?api-version=2023-11-01")
    while emulator.request("GET", f"{path}?api-version=2023-11-01")[0] == 200:
        time.sleep(0.05)


def foreign_deployment(name: str) -> dict[str, Any]:
    resource = {
        "type": "Microsoft.Network/networkSecurityGroups",
        "apiVersion": "2023-11-01",
        "name": name,
        "location": "westeurope",
        "tags": {"whose": "theirs"},
        "properties": {"securityRules": []},
    }
    template = {
        "$schema": "https://schema.management.azure.com/x#",
        "contentVersion": "1.0.0.0",
        "resources": [resource],
    }
    return {"properties": {"mode": "Incremental", "template": template, "parameters": {}}}


# -- cancelled, killed, gone on with ------------------------------------------------------------------------------------


class When:
    """A report that does something once a sentence is said."""

    def __init__(self, words: str, act: Callable[[], None]) -> None:
        self.words, self.act, self.done = words, act, False

    def __call__(self, text: str, fraction: float | None = None) -> None:
        if self.words in text and not self.done:
            self.done = True
            self.act()


@pytest.mark.parametrize("at", ["Looking whether", "Asking Azure whether", "the network (2 of 5)", "the VM (5 of 5)"])
def test_cancelled_at_any_time_nothing_is_left(at: str, make: Make, emulator: Emulator):
    before, cancel = everything(emulator), Cancel()
    emulator.set_timings(network=0.3, create=1.0)
    with pytest.raises(Cancelled) as caught:
        make().create(spec(resource_group="made"), When(at, cancel.set), cancel)
    assert caught.value.message.startswith("new-vm was not made")
    assert everything(emulator) == before


class Killed(BaseException):
    """In place of the end of the process: nothing after it runs."""


def kill() -> None:
    raise Killed


KILLED_AT = [
    "Looking whether",
    "Making the resource group",
    "Asking Azure whether",
    "Azure begins",
    "the network (2 of 5)",
    "the VM (5 of 5)",
]


@pytest.mark.parametrize("at", KILLED_AT)
def test_killed_and_gone_on_with(at: str, make: Make, emulator: Emulator):
    emulator.set_timings(network=0.2, create=0.6)
    memo, kept = kept_memo()
    with pytest.raises(Killed):
        make().create(spec(resource_group="made"), When(at, kill), Cancel(), memo)
    before = len(emulator.traffic)
    azure = make()
    if at == "Azure begins":
        # Whether that request had arrived was not known; it had not.
        assert "before Azure had begun" in failed(azure, spec(resource_group="made"), Memo(kept)).message
        assert not any("/made" in one for one in everything(emulator))
        return
    row = created(azure, spec(resource_group="made"), Memo(kept))
    assert row.power_state is PowerState.RUNNING
    deployments = [line for line in writes(emulator, before) if line.startswith("PUT") and "/deployments/" in line]
    assert len(deployments) == (0 if "of 5" in at else 1)  # what has begun is not begun again


def test_killed_while_it_deletes_goes_on_deleting(make: Make, emulator: Emulator):
    before = everything(emulator)
    memo, kept = kept_memo()
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    with pytest.raises(Killed):
        make().create(spec(resource_group="made"), When("Deleting the network interface", kill), Cancel(), memo)
    assert everything(emulator) != before
    error = failed(make(), spec(resource_group="made"), Memo(kept))
    assert error.code == "AllocationFailed"
    assert "deleted again" in error.message
    assert everything(emulator) == before


def test_failed_while_no_server_was_there(make: Make, emulator: Emulator):
    before = everything(emulator)
    memo, kept = kept_memo()
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    with pytest.raises(Killed):
        make().create(spec(resource_group="made"), When("of 5", kill), Cancel(), memo)
    time.sleep(1)
    assert failed(make(), spec(resource_group="made"), Memo(kept)).code == "AllocationFailed"
    assert everything(emulator) == before


def test_a_server_that_stops_leaves_it_to_the_next(make: Make, emulator: Emulator):
    memo, kept = kept_memo()
    cancel = Cancel()

    def stops() -> None:
        cancel.leaving = True
        cancel.set()

    emulator.set_timings(create=1.0)
    with pytest.raises(Cancelled) as caught:
        make().create(spec(resource_group="made"), When("of 5", stops), cancel, memo)
    assert "Azure goes on" in caught.value.message
    assert created(make(), spec(resource_group="made"), Memo(kept)).power_state is PowerState.RUNNING


def test_somebody_deletes_the_whole_group_meanwhile(make: Make, emulator: Emulator):
    before = everything(emulator)
    emulator.set_timings(create=1.0)
    path = f"/subscriptions/{RESEARCH.id}/resourcegroups/made?api-version=2021-04-01"
    with pytest.raises(OperationRefused) as caught:
        make().create(
            spec(resource_group="made"), When("the VM (5 of 5)", lambda: emulator.request("DELETE", path)), Cancel()
        )
    assert caught.value.code == "ResourceGroupNotFound"
    assert everything(emulator) == before
    time.sleep(1.0)
    assert all(row["name"] != "new-vm" for row in emulator.vms)


def test_looks_that_fail_are_repeated(make: Make, emulator: Emulator):
    azure = make()
    emulator.fault("*", "deployments", code="ServerTimeout", times=8)
    before = len(emulator.traffic)
    assert created(azure, spec(resource_group="made")).power_state is PowerState.RUNNING
    assert sum("/deployments/" in line and line.startswith("PUT") for line in writes(emulator, before)) == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_a_lost_answer_is_no_second_deployment(arrived: bool, make: Make, emulator: Emulator):
    """Whether Azure has taken it, the deployment itself says."""
    there, before = everything(emulator), len(emulator.traffic)
    azure = make()
    client = azure._arm("")
    original = client.send

    def lossy(method: str, path: str, api_version: str, body: Any = None) -> Any:
        lost = method == "PUT" and "/deployments/" in path
        answer = original(method, path, api_version, body) if arrived or not lost else None
        if lost:
            raise ServiceResponseError("the connection was reset")
        return answer

    client.send = lossy  # type: ignore[method-assign]
    if arrived:
        assert created(azure, spec(resource_group="made")).power_state is PowerState.RUNNING
    else:
        assert failed(azure, spec(resource_group="made")).code == "Unreachable"
        assert everything(emulator) == there
    puts = [line for line in writes(emulator, before) if line.startswith("PUT") and "/deployments/" in line]
    assert len(puts) == int(arrived)


def test_one_that_was_made_is_stopped_and_started_as_any_other(make: Make):
    azure = make()
    row = created(azure, spec(resource_group="made"))
    assert azure.stop(row.id, Said(), Cancel()).power_state is PowerState.DEALLOCATED
    assert azure.start(row.id, Said(), Cancel()).power_state is PowerState.RUNNING
