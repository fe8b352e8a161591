"""Resizing against the emulator: what is offered, what is refused before anything is stopped, and what is put back."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.naming import resolve
from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH, STANDARD, UBUNTU_2204_DSVM, Machine
from jupyter_dsvm.errors import BadRequest, Cancelled, ComputeError, DSVMError, OperationRefused
from jupyter_dsvm.models import Compute, PowerState, SizeOffer
from support.emulated import writes

T4, T4_8, A100, H100 = (
    "Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3", "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5",
)  # fmt: skip
CPU, CPU_8 = "Standard_D4ds_v5", "Standard_D8ds_v5"
QUICK = {"start": 0.2, "deallocate": 0.15, "restart": 0.2, "patch": 0.15, "graph_lag": 0}


def vm(name: str, size: str = CPU, **more: Any) -> Machine:
    """In Azure's lists only."""
    values = {"power": "running", "ssh": False, **more}
    return Machine(name, "lab", RESEARCH.id, size, UBUNTU_2204_DSVM, **values)


MACHINES = (
    *(replace(m, ssh=False) for m in STANDARD),
    vm("gen1-vm", generation="V1"),
    vm("zoned-vm", T4, zones=("2",)),
    vm("asleep-vm", hibernation=True, hibernated=True, power="deallocated"),
    vm("sleeper-vm", hibernation=True, hibernated=True, power="deallocated"),
    vm("ephemeral-vm", ephemeral=True),
    vm("trusted-vm", security="TrustedLaunch"),
    vm("confidential-vm", "Standard_DC4ads_v5", security="ConfidentialVM"),
    vm("full-vm", data_disks=6, interfaces=2, accelerated_networking=True),
    vm("plain-vm", os_disk="StandardSSD_LRS"),
    vm("nvme-vm", "Standard_D4s_v6", disk_controller="NVMe"),
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES, isolate=False, timeout=120) as emulator:
        yield emulator


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[AzureCompute]:
    provider = made(emulator)
    emulator.set_timings(**QUICK)
    yield provider
    provider.close()
    emulator.clear_faults()
    emulator.set_scenario(capacity=[], quotas=[], restrictions=[])


def made(emulator: Emulator) -> AzureCompute:
    config = Config()
    for file in emulator.config_dir.glob("*.json"):
        config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
    return AzureCompute(config=config, polling_interval=0.05)


@pytest.fixture
def cpu(azure: AzureCompute, emulator: Emulator) -> Iterator[Compute]:
    """``cpu-vm``, which runs with its usual size; put back afterwards."""
    put_back(emulator)
    yield find(azure, "cpu-vm")
    emulator.clear_faults()
    emulator.set_scenario(capacity=[], quotas=[], restrictions=[])
    emulator.set_timings(**QUICK)
    put_back(emulator)


def put_back(emulator: Emulator) -> None:
    deadline = time.monotonic() + 10
    while size_of(emulator, "cpu-vm")[1] not in ("running", "deallocated", "stopped"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if size_of(emulator, "cpu-vm")[0] != CPU:
        if emulator.vm("cpu-vm")["power_state"] != "deallocated":
            emulator.power("cpu-vm", "deallocate")
        patched(emulator, "cpu-vm", CPU)
    if emulator.vm("cpu-vm")["power_state"] != "running":
        emulator.power("cpu-vm", "start")


def patched(emulator: Emulator, name: str, size: str) -> None:
    """As somebody else changes its size."""
    path = f"{emulator.vm(name)['id']}?api-version=2024-07-01"
    body = {"properties": {"hardwareProfile": {"vmSize": size}}}
    status, headers, answer = emulator.request("PATCH", path, body)
    assert status == 200, answer
    while emulator.request("GET", headers["azure-asyncoperation"])[2]["status"] == "InProgress":
        time.sleep(0.03)


def size_of(emulator: Emulator, name: str) -> tuple[str, str]:
    """Size and power state, as Azure has them."""
    vm = emulator.vm(name)
    _, _, model = emulator.request("GET", f"{vm['id']}?api-version=2024-07-01")
    return model["properties"]["hardwareProfile"]["vmSize"], vm["power_state"]


def find(azure: AzureCompute, name: str) -> Compute:
    return resolve(name, azure.list().computes)


def silent(text: str, done: float | None) -> None:
    pass


def asked(emulator: Emulator, since: int) -> list[str]:
    """What Azure was asked to change: ``deallocate``, ``PATCH SIZE``, ``start``."""
    found = []
    for exchange in emulator.traffic[since:]:
        request = exchange["request"]
        if request["method"] == "PATCH":
            found.append(f"PATCH {request['body']['properties']['hardwareProfile']['vmSize']}")
        elif match := re.search(r"/(start|deallocate|restart|powerOff)\?", request["url"]):
            found.append(match[1])
    return found


def offers(azure: AzureCompute, name: str) -> dict[str, SizeOffer]:
    return {o.size.name: o for o in azure.sizes(find(azure, name).id)[0]}


# -- what is offered ----------------------------------------------------------------------------------------------------


def test_what_a_cpu_vm_can_have(azure: AzureCompute, cpu: Compute) -> None:
    rows, notice = azure.sizes(cpu.id)
    by_name = {o.size.name: o for o in rows}
    assert by_name[CPU].current
    t4 = by_name[T4]
    assert (t4.available, t4.reason, t4.size.vcpus, t4.size.memory_gib, t4.size.gpus) == (True, "", 4, 28, 1)
    assert t4.size.gpu_model == "NVIDIA T4 16 GB"
    assert t4.price is not None
    assert t4.price.amount == 0.658
    assert by_name[H100].available
    assert "Arm64" in by_name["Standard_D4ps_v5"].reason
    assert "NVMe" in by_name["Standard_D4s_v6"].reason
    assert "generation 1 VMs only" in by_name["Standard_D2_v2"].reason
    assert "premium disks" in by_name["Standard_D4d_v5"].reason
    assert "confidential" in by_name["Standard_DC4ads_v5"].reason
    assert "Azure may refuse that" in by_name["Standard_D4s_v5"].warnings[0]
    assert "do not work on NV sizes" in by_name["Standard_NV36ads_A10_v5"].warnings[0]
    available = [o.available for o in rows]
    assert available == sorted(available, reverse=True), "those that can be had first"
    assert [o.size.name for o in rows if o.available][-1] == "Standard_NV36ads_A10_v5"
    assert "released, changed and started again" in notice
    assert "if there is still room" in notice


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("gen1-vm", A100, "this one is generation 1; it can be upgraded"),
        ("full-vm", "Standard_B2s", "4 data disks at most"),
        ("confidential-vm", CPU, "confidential VM"),
        ("nvme-vm", CPU, "this VM's by NVMe"),
        ("win-vm", "Standard_D4s_v5", "no temporary disk"),
    ],
)
def test_why_not(azure: AzureCompute, name: str, size: str, says: str) -> None:
    offer = offers(azure, name)[size]
    assert not offer.available
    assert says in offer.reason


def test_what_else_is_known_of_a_vm(azure: AzureCompute) -> None:
    assert offers(azure, "plain-vm")["Standard_D4d_v5"].available  # its disk is no premium one
    assert "Secure Boot" in offers(azure, "trusted-vm")[T4].warnings[0]
    assert "generation 1 VM" in azure.sizes(find(azure, "gen1-vm").id)[1]


def test_quota_counts_the_cores_that_the_vm_gives_back(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    family, used = "standardDDSv5Family", 0
    path = (
        f"/subscriptions/{RESEARCH.id}/providers/Microsoft.Compute/locations/westeurope/usages?api-version=2024-07-01"
    )
    for row in emulator.request("GET", path)[2]["value"]:
        used = row["currentValue"] if row["name"]["value"] == family else used
    emulator.set_scenario(
        quotas=[{"family": family, "limit": used + 4}, {"family": "Standard NCASv3_T4 Family", "limit": 0}]
    )
    rows = offers(azure, "cpu-vm")
    assert rows[CPU_8].available  # 4 are left, and 4 are its own
    assert (
        f"16 cores of the quota for its family ({family}), of which 8 of {used + 4}" in rows["Standard_D16ds_v5"].reason
    )
    assert rows[T4_8].reason == "The subscription's quota for its family (Standard NCASv3_T4 Family) is 0."


def test_restrictions_of_region_and_zone(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(
        restrictions=[{"size": A100}, {"size": H100, "reason": "QuotaId"}, {"size": T4_8, "zones": ["2"]}]
    )
    rows, zoned = offers(azure, "cpu-vm"), offers(azure, "zoned-vm")
    assert rows[A100].reason == "Azure does not offer it to this subscription in westeurope."
    assert rows[H100].reason == "This kind of subscription does not get it in westeurope."
    assert rows[T4_8].available
    assert "not offer it in zone 2" in zoned[T4_8].reason
    assert zoned[CPU].available


def test_hibernated_and_ephemeral_vms_cannot_be_resized_at_all(azure: AzureCompute, emulator: Emulator) -> None:
    asleep = find(azure, "sleeper-vm")
    assert asleep.hibernated, "the list says so, though the graph does not"
    assert asleep.power_state is PowerState.DEALLOCATED
    for name, says in (("sleeper-vm", "is hibernated"), ("ephemeral-vm", "ephemeral OS disk")):
        one = find(azure, name)
        rows, notice = azure.sizes(one.id)
        assert says in notice
        assert not [o for o in rows if o.available and not o.current]
        since = len(emulator.traffic)
        with pytest.raises(OperationRefused, match=says):
            azure.resize(one.id, T4, silent, Cancel())
        assert writes(emulator, since) == []


def test_without_the_graph_the_list_knows_who_is_hibernated(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.fault("*", "graph", code="AccessDenied", status=403, message="No.")
    assert find(azure, "sleeper-vm").hibernated
    assert not find(azure, "gpu-vm").hibernated


def test_a_hibernated_vm_is_started_as_it_is_and_then_resized(azure: AzureCompute, emulator: Emulator) -> None:
    asleep = find(azure, "asleep-vm")
    assert not azure.start(asleep.id, silent, Cancel()).hibernated
    assert azure.resize(asleep.id, CPU_8, silent, Cancel()).size.name == CPU_8
    path = f"{emulator.vm('asleep-vm')['id']}/deallocate?hibernate=true&api-version=2024-07-01"
    status, headers, _ = emulator.request("POST", path)
    assert status == 202
    while emulator.request("GET", headers["azure-asyncoperation"])[2]["status"] == "InProgress":
        time.sleep(0.03)
    assert azure.get(asleep.id).hibernated
    assert azure.stop(asleep.id, silent, Cancel()).power_state is PowerState.DEALLOCATED


def test_without_a_role_on_the_subscription_azures_own_list_for_the_vm_has_to_do(
    azure: AzureCompute, emulator: Emulator, cpu: Compute
) -> None:
    emulator.fault("*", "skus", code="AuthorizationFailed", times=-1)
    emulator.fault("*", "usages", code="AuthorizationFailed", times=-1)
    rows = {o.size.name: o for o in azure.sizes(cpu.id)[0]}
    assert CPU_8 in rows
    assert T4 not in rows, "while it runs, Azure lists the sizes of its own hardware"
    assert "may not read what this size can do" in rows[CPU_8].warnings[0]
    assert rows[CPU_8].size.memory_gib == 32
    assert "once it is stopped, all of them" in azure.sizes(cpu.id)[1]
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match=f"Whether cpu-vm can have the size {T4} is not known") as caught:
        azure.resize(cpu.id, T4, silent, Cancel())
    assert "jupyter dsvm stop cpu-vm" in caught.value.advice
    assert writes(emulator, since) == []
    assert azure.resize(cpu.id, CPU_8, silent, Cancel()).size.name == CPU_8


# -- a resize -----------------------------------------------------------------------------------------------------------


def test_a_running_vm_is_released_changed_and_started(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    since, reports, notes = len(emulator.traffic), [], []
    memo = Memo(keep=notes.append)
    row = azure.resize(cpu.id, "nc4AS_t4_v3", lambda text, done: reports.append(text), Cancel(), memo)
    assert row.size is not None
    assert (row.size.name, row.power_state) == (T4, PowerState.RUNNING)
    assert asked(emulator, since) == ["deallocate", f"PATCH {T4}", "start"]
    assert [n["stage"] for n in notes if not n["asked"]] == ["release", "change", "start"]
    assert all((n["size"], n["old"], n["ran"]) == (T4, CPU, True) for n in notes)
    for text in ("Azure is releasing cpu-vm", "Azure is resizing cpu-vm", "Azure is starting cpu-vm"):
        assert text in reports
    assert size_of(emulator, "cpu-vm") == (T4, "running")


def test_one_that_is_off_stays_off(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    azure.stop(cpu.id, silent, Cancel())
    since = len(emulator.traffic)
    assert azure.resize(cpu.id, CPU_8, silent, Cancel()).power_state is PowerState.DEALLOCATED
    assert asked(emulator, since) == [f"PATCH {CPU_8}"]


def test_one_that_is_stopped_but_billed_is_released_and_stays_off(
    azure: AzureCompute, emulator: Emulator, cpu: Compute
) -> None:
    emulator.power("cpu-vm", "powerOff")
    since = len(emulator.traffic)
    assert azure.resize(cpu.id, T4, silent, Cancel()).power_state is PowerState.DEALLOCATED
    assert asked(emulator, since) == ["deallocate", f"PATCH {T4}"]


def test_the_size_it_has_is_no_change(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    since = len(emulator.traffic)
    assert azure.resize(cpu.id, CPU, silent, Cancel()).power_state is PowerState.RUNNING
    assert writes(emulator, since) == []


@pytest.mark.parametrize(
    ("size", "kind", "says", "advises"),
    [
        ("Standard_NC4as_T4_v4", OperationRefused, "There is no VM size", "Did you mean Standard_NC4as_T4_v3"),
        ("../x", BadRequest, "no name of a VM size", "Standard_NC4as_T4_v3"),
        ("Standard_D4ps_v5", OperationRefused, "Arm64", "What can be had"),
        ("Standard_D4s_v6", OperationRefused, "NVMe", "What can be had"),
        ("Standard_D2_v2", OperationRefused, "generation 1 VMs only", "Nothing was changed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_stopped(
    azure: AzureCompute, emulator: Emulator, cpu: Compute, size: str, kind: type[DSVMError], says: str, advises: str
) -> None:
    since = len(emulator.traffic)
    with pytest.raises(kind, match=says) as caught:
        azure.resize(cpu.id, size, silent, Cancel())
    assert advises in caught.value.advice
    assert writes(emulator, since) == []
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


# -- put back -----------------------------------------------------------------------------------------------------------


def test_no_room_for_the_new_size_ends_at_the_old_one_and_running(
    azure: AzureCompute, emulator: Emulator, cpu: Compute
) -> None:
    emulator.set_scenario(capacity=[{"size": T4, "machines": 0}])
    since, notes = len(emulator.traffic), []
    with pytest.raises(OperationRefused, match="no capacity for this size") as caught:
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(keep=notes.append))
    assert caught.value.code == "AllocationFailed"
    assert f"cpu-vm has its old size, {CPU}, and runs again." in caught.value.message
    assert T4_8 in caught.value.advice, "what would work"
    assert size_of(emulator, "cpu-vm") == (CPU, "running")
    assert asked(emulator, since) == ["deallocate", f"PATCH {T4}", "start", f"PATCH {CPU}", "start"]
    assert [n["stage"] for n in notes if not n["asked"]] == ["release", "change", "start", "back", "again"]


def test_the_old_place_is_gone_too(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    emulator.set_scenario(
        capacity=[{"size": T4, "machines": 0}, {"size": CPU, "vm": "cpu-vm", "machines": 0, "others": True}]
    )
    with pytest.raises(OperationRefused) as caught:
        azure.resize(cpu.id, T4, silent, Cancel())
    said = caught.value.message
    assert "could not be put back either" in said
    assert (
        f"cpu-vm is deallocated now, with its old size ({CPU}); its disks are kept, and nothing but its disks is billed"
        in said
    )
    assert "jupyter dsvm sizes cpu-vm" in caught.value.advice
    assert size_of(emulator, "cpu-vm") == (CPU, "deallocated")


@pytest.mark.parametrize("at", ["request", "operation"])
def test_a_change_that_azure_refuses_is_put_back(
    azure: AzureCompute, emulator: Emulator, cpu: Compute, at: str
) -> None:
    emulator.fault("cpu-vm", "patch", code="OverconstrainedAllocationRequest", at=at)
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match=r"(?s)Could not resize cpu-vm\. .* and runs again\.") as caught:
        azure.resize(cpu.id, T4, silent, Cancel())
    assert caught.value.code == "OverconstrainedAllocationRequest"
    assert size_of(emulator, "cpu-vm") == (CPU, "running")
    assert asked(emulator, since).count(f"PATCH {T4}") == 1, "asked once"


def test_azures_word_on_temporary_disks_is_heard(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    with pytest.raises(OperationRefused, match=r"One of the two sizes has a temporary disk.* and runs again\."):
        azure.resize(cpu.id, "Standard_D4s_v5", silent, Cancel())
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


def test_a_release_that_is_refused_leaves_it_running(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    emulator.fault("cpu-vm", "deallocate", code="ScopeLocked")
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match=r"Could not release cpu-vm\. A lock.*was not resized and is running"):
        azure.resize(cpu.id, T4, silent, Cancel())
    assert asked(emulator, since) == ["deallocate"]
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


def test_contact_that_breaks_off_does_not_end_a_change(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    emulator.fault("*", "operation", code="ServerTimeout", times=3)
    assert azure.resize(cpu.id, T4, silent, Cancel()).size.name == T4


# -- cancelled ----------------------------------------------------------------------------------------------------------


class Stop:
    """Cancels once a note says so."""

    def __init__(self, when: Callable[[dict[str, Any]], bool], leaving: bool = False) -> None:
        self.cancel = Cancel()
        self.notes: list[dict[str, Any]] = []
        self.memo = Memo(keep=self._keep)
        self._when, self._leaving = when, leaving

    def _keep(self, facts: dict[str, Any]) -> None:
        self.notes.append(facts)
        if self._when(facts):
            self.cancel.leaving = self._leaving
            self.cancel.set()


def at(stage: str, asked: bool = True) -> Callable[[dict[str, Any]], bool]:
    return lambda facts: facts["stage"] == stage and facts["asked"] is asked


@pytest.mark.parametrize("when", [at("release"), at("change", asked=False)])
def test_cancelled_before_the_change_it_goes_back(
    azure: AzureCompute, emulator: Emulator, cpu: Compute, when: Callable[[dict[str, Any]], bool]
) -> None:
    since, stop = len(emulator.traffic), Stop(when)
    with pytest.raises(Cancelled, match=rf"was cancelled\. cpu-vm has its old size, {CPU}, and runs again"):
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    assert asked(emulator, since) == ["deallocate", "start"]
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


def test_cancelled_before_it_began_nothing_is_asked(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    since, cancel = len(emulator.traffic), Cancel()
    cancel.set()
    with pytest.raises(Cancelled, match="before Azure was asked"):
        azure.resize(cpu.id, T4, silent, cancel)
    stop = Stop(at("release", asked=False))
    with pytest.raises(Cancelled, match="nothing was changed"):
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    assert writes(emulator, since) == []


@pytest.mark.parametrize(
    ("when", "says", "then"),
    [
        (at("change"), "Azure goes on giving it the size Standard_NC4as_T4_v3. It is off", (T4, "deallocated")),
        (at("start", asked=False), "has its new size, Standard_NC4as_T4_v3, and is off", (T4, "deallocated")),
        (at("start"), "Azure goes on starting it", (T4, "running")),
    ],
)
def test_cancelled_after_the_change_it_says_what_azure_goes_on_doing(
    azure: AzureCompute,
    emulator: Emulator,
    cpu: Compute,
    when: Callable[[dict[str, Any]], bool],
    says: str,
    then: tuple[str, str],
) -> None:
    stop = Stop(when)
    with pytest.raises(Cancelled, match=re.escape(says)) as caught:
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    assert "jupyter dsvm" in caught.value.advice
    deadline = time.monotonic() + 10
    while size_of(emulator, "cpu-vm") != then:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- after the server was killed ------------------------------------------------------------------------------------------


def killed(
    emulator: Emulator, azure: AzureCompute, cpu: Compute, when: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The facts that were on disk when the server ended at that moment; Azure has ended what it was at by then."""
    stop = Stop(when, leaving=True)
    with pytest.raises(Cancelled, match="server is stopping"):
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    facts = next(n for n in stop.notes if when(n))
    deadline = time.monotonic() + 10
    while emulator.vm("cpu-vm")["power_state"] not in ("running", "deallocated", "stopped"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(facts)


@pytest.mark.parametrize("stage", ["release", "change", "start"])
@pytest.mark.parametrize("accepted", [True, False])
def test_killed_at_any_stage_it_is_gone_on_with(
    azure: AzureCompute, emulator: Emulator, cpu: Compute, stage: str, accepted: bool
) -> None:
    since = len(emulator.traffic)
    facts = killed(emulator, azure, cpu, at(stage, accepted))
    again = made(emulator)  # which knows nothing
    try:
        row = again.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    finally:
        again.close()
    assert row.size is not None
    assert (row.size.name, row.power_state) == (T4, PowerState.RUNNING)
    assert asked(emulator, since).count("start") == 1, "what costs money is asked for once"


@pytest.mark.parametrize("stage", ["back", "again"])
def test_killed_while_it_is_put_back(azure: AzureCompute, emulator: Emulator, cpu: Compute, stage: str) -> None:
    emulator.set_scenario(capacity=[{"size": T4, "machines": 0}])
    facts = killed(emulator, azure, cpu, at(stage, asked=False))
    assert facts["why"]["code"] == "AllocationFailed"
    again = made(emulator)
    try:
        with pytest.raises(OperationRefused, match=r"no capacity.* and runs again\.") as caught:
            again.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    finally:
        again.close()
    assert caught.value.code == "AllocationFailed"
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


def test_somebody_started_it_meanwhile(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    facts = killed(emulator, azure, cpu, at("release"))
    emulator.power("cpu-vm", "start")
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match=r"is not gone on with\. It runs with its old size") as caught:
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    assert caught.value.code == "Interrupted"
    facts = {**facts, "stage": "change", "asked": False}
    with pytest.raises(OperationRefused, match="It is running with its old size"):
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    assert writes(emulator, since) == []


def test_a_start_that_did_not_come_about_is_not_repeated(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    azure.stop(cpu.id, silent, Cancel())
    patched(emulator, "cpu-vm", T4)
    facts = {"stage": "start", "size": T4, "old": CPU, "ran": True, "asked": True, "began": time.time()}
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match="asked to start and did not, or was stopped since"):
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    assert writes(emulator, since) == []


def test_a_resize_of_an_hour_ago_does_not_stop_what_runs(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    facts = {"stage": "release", "size": T4, "old": CPU, "ran": True, "asked": False, "began": time.time() - 4000}
    since = len(emulator.traffic)
    with pytest.raises(OperationRefused, match="left alone"):
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(facts))
    assert writes(emulator, since) == []


def test_a_server_that_ends_does_not_wait(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    emulator.set_timings(deallocate=3.0)
    stop = Stop(at("release"), leaving=True)
    began = time.monotonic()
    with pytest.raises(Cancelled, match="gone on with when the server runs again"):
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    assert time.monotonic() - began < 2.5


def test_a_server_that_ends_after_a_cancel_leaves_it_to_be_put_back(
    azure: AzureCompute, emulator: Emulator, cpu: Compute
) -> None:
    emulator.set_timings(deallocate=2.0)
    stop = Stop(at("release"))  # somebody cancels

    def leave() -> None:
        stop.cancel.leaving = True

    timer = threading.Timer(1.2, leave)
    timer.start()
    with pytest.raises(Cancelled, match="server is stopping"):
        azure.resize(cpu.id, T4, silent, stop.cancel, stop.memo)
    timer.join()
    facts = stop.notes[-1]
    assert facts["stage"] == "again"
    with pytest.raises(Cancelled, match=rf"was cancelled\. cpu-vm has its old size, {CPU}, and runs again"):
        azure.resize(cpu.id, T4, silent, Cancel(), Memo(dict(facts)))
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


def test_a_cancel_while_the_release_goes_on_waits_for_it(azure: AzureCompute, emulator: Emulator, cpu: Compute) -> None:
    emulator.set_timings(deallocate=1.0)
    cancel = Cancel()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    with pytest.raises(Cancelled, match="and runs again"):
        azure.resize(cpu.id, T4, silent, cancel)
    timer.join()
    assert size_of(emulator, "cpu-vm") == (CPU, "running")


# -- the emulator itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "status", "words"),
    [
        ("cpu-vm", A100, 409, "not available in the current hardware cluster"),
        ("cpu-vm", "Standard_D4s_v6", 400, "disk controller types"),
        ("cpu-vm", "Standard_D4ps_v5", 400, "CPU Architecture"),
        ("cpu-vm", "Standard_D4d_v5", 400, "storage account type"),
        ("full-vm", "Standard_B2s", 409, "number of data disks"),
        ("gen1-vm", A100, 400, "cannot boot Hypervisor Generation '1'"),
        ("sleeper-vm", "Standard_D2ds_v5", 409, "hibernated"),
        ("cpu-vm", "Standard_X", 400, "provided for the VM size is not valid"),
    ],
)
def test_azure_refuses_itself(
    azure: AzureCompute, emulator: Emulator, name: str, size: str, status: int, words: str
) -> None:
    found = emulator.request(
        "PATCH",
        f"{emulator.vm(name)['id']}?api-version=2024-07-01",
        {"properties": {"hardwareProfile": {"vmSize": size}}},
    )
    assert found[0] == status
    assert words in found[2]["error"]["message"]


def test_what_cannot_be_changed_or_released(emulator: Emulator) -> None:
    path = f"{emulator.vm('cpu-vm')['id']}?api-version=2024-07-01"
    status, _, body = emulator.request("PATCH", path, {"properties": {"osProfile": {"adminPassword": "x"}}})
    assert (status, body["error"]["code"], body["error"]["target"]) == (
        409,
        "PropertyChangeNotAllowed",
        "adminPassword",
    )
    assert body["error"]["message"] == "Changing property 'adminPassword' is not allowed."
    path = f"{emulator.vm('ephemeral-vm')['id']}/deallocate?api-version=2024-07-01"
    status, _, body = emulator.request("POST", path)
    assert (status, body["error"]["code"]) == (409, "OperationNotAllowed")
    assert emulator.vm("ephemeral-vm")["power_state"] == "running"


def test_a_stopped_ephemeral_vm_says_why(azure: AzureCompute) -> None:
    with pytest.raises(ComputeError, match="ephemeral"):
        azure.stop(find(azure, "ephemeral-vm").id, silent, Cancel())
