"""Which sizes a VM could have: rules on Azure's own items, and what holds whatever the lists say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure import fitting
from jupyter_dsvm.compute.azure.fitting import Question
from jupyter_dsvm.compute.azure.machine import Hardware, VirtualMachine, from_model, hardware, is_hibernated, reread
from jupyter_dsvm.compute.azure.sizes import gpu_model, size
from jupyter_dsvm.compute.azure.skus import Sku, Usage, from_vm_sizes, sku
from jupyter_dsvm.compute.sizing import canonical, chosen
from jupyter_dsvm.errors import BadRequest, OperationRefused
from jupyter_dsvm.models import OS, Compute, ComputeKind, PowerState
from support.arm_server import vm_model

DATA = Path(__file__).parents[2] / "shared/data"
SKUS, KNOWN = DATA / "skewer/eastus.json", DATA / "known_skus.yaml"
GPU_CODES = ("a10", "a100", "t4", "h100", "h200", "mi300x", "v710", "v620", "gb200", "gb300", "rtxpro6000bse")


def item(name: str, family: str = "standardDDSv5Family", **capabilities: Any) -> dict[str, Any]:
    has = {
        "vCPUs": 4, "MemoryGB": 16, "HyperVGenerations": "V1,V2", "MaxResourceVolumeMB": 150000, "PremiumIO": "True",
        "MaxDataDiskCount": 8, "MaxNetworkInterfaces": 2, "CpuArchitectureType": "x64", "AcceleratedNetworkingEnabled": "True",
        **capabilities,
    }  # fmt: skip
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "family": family,
        "locationInfo": [{"location": "eastus", "zones": ["1", "2"]}],
        "capabilities": [{"name": k, "value": str(v)} for k, v in has.items()],
        "restrictions": [],
    }


def a_sku(name: str = "Standard_D4ds_v5", family: str = "standardDDSv5Family", **capabilities: Any) -> Sku:
    found = sku(item(name, family, **capabilities), "eastus")
    assert found is not None
    return found


PRESENT = a_sku()


def machine(
    state: PowerState = PowerState.RUNNING, os: OS = OS.LINUX, hibernated: bool = False, **more: Any
) -> VirtualMachine:
    compute = Compute(
        "azure:x",
        "x-vm",
        ComputeKind.DSVM,
        state,
        os,
        location="eastus",
        size=size(PRESENT.name),
        hibernated=hibernated,
    )
    return VirtualMachine(compute, "x", "s", "g", "x-vm", **{"generation": "V2", **more})


def question(hardware: Hardware | None = None, **more: Any) -> Question:
    values: dict[str, Any] = {"machine": machine(), "present": PRESENT, "quotas": {}, "today": "2026-11-28", **more}
    return Question(hardware=hardware or Hardware(), **values)


def test_it_fits_itself() -> None:
    assert fitting.reasons(question(), PRESENT) == []


@pytest.mark.parametrize(
    ("asked", "wanted", "says"),
    [
        (question(), a_sku(CpuArchitectureType="Arm64"), "processors are Arm64"),
        (question(), a_sku(ConfidentialComputingType="SNP"), "confidential VMs"),
        (question(Hardware(security="ConfidentialVM")), PRESENT, "not for those"),
        (question(machine=machine(generation="V1")), a_sku(HyperVGenerations="V2"), "can be upgraded in the Azure portal"),
        (question(), a_sku(HyperVGenerations="V1"), "generation 1 VMs only"),
        (question(Hardware(security="TrustedLaunch")), a_sku(TrustedLaunchDisabled="True"), "no Trusted Launch"),
        (question(), a_sku(DiskControllerTypes="NVMe"), "by NVMe, and this VM's by SCSI"),
        (question(Hardware(disk_controller="NVMe")), PRESENT, "by SCSI, and this VM's by NVMe"),
        (question(machine=machine(os=OS.WINDOWS)), a_sku(MaxResourceVolumeMB=0), "no temporary disk"),
        (question(Hardware(disk_types=frozenset({"Premium_LRS"}))), a_sku(PremiumIO="False"), "no premium disks"),
        (question(Hardware(data_disks=9)), PRESENT, "8 data disks at most, and this VM has 9"),
        (question(Hardware(interfaces=("a", "b", "c"))), PRESENT, "2 network interfaces at most"),
        (question(accelerated=True), a_sku(AcceleratedNetworkingEnabled="False"), "no accelerated networking"),
        (question(machine=machine(zones=("3",))), PRESENT, "zone 3 of eastus"),
        (question(quotas={"cores": Usage(10, 10)}), a_sku(vCPUs=8), "8 cores of the quota for all sizes of the region, of which 4"),
        (question(quotas={"standardncasv3_t4 family": Usage(0, 0)}, no_gpus="This is a free trial."),
         a_sku("Standard_NC4as_T4_v3", "StandardNCASv3_T4 Family", GPUs=1), "is 0. This is a free trial."),
        (question(Hardware(spot=True), quotas={"lowprioritycores": Usage(4, 7)}), a_sku("Standard_X", vCPUs=8),
         "Spot VMs, of which 7 of 7"),
    ],
)  # fmt: skip
def test_each_rule(asked: Question, wanted: Sku, says: str) -> None:
    (said,) = fitting.reasons(asked, wanted)
    assert says in said
    assert said.endswith(".")


def test_what_is_not_known_keeps_nothing_from_being_had() -> None:
    listed = from_vm_sizes(
        {"name": "Standard_D8ds_v5", "numberOfCores": 8, "memoryInMB": 32768, "maxDataDiskCount": 16}
    )
    assert listed is not None
    hard = Hardware("NVMe", frozenset({"Premium_LRS"}), 3, interfaces=("a",), security="TrustedLaunch")
    asked = question(hard, machine=machine(generation=None, zones=("1",)), present=None, accelerated=True)
    assert fitting.reasons(asked, listed) == []
    assert "may not read" in fitting.warnings(asked, listed)[0]
    assert from_vm_sizes({}) is None


def test_quotas_count_the_own_cores_only_while_it_has_hardware() -> None:
    quotas = {"standardddsv5family": Usage(8, 8)}
    wanted = a_sku("Standard_D4ads_v5")
    assert fitting.reasons(question(quotas=quotas), wanted) == []
    off = question(quotas=quotas, machine=machine(PowerState.DEALLOCATED))
    assert "of which 0 of 8 are left" in fitting.reasons(off, wanted)[0]
    unlisted = question(quotas=quotas, present=None)  # as a retired size is
    assert fitting.reasons(unlisted, wanted) == []
    assert fitting.reasons(question(quotas={"other": Usage(9, 9)}), wanted) == []


def test_warnings() -> None:
    def said(name: str, hardware: Hardware | None = None, **capabilities: Any) -> str:
        return " ".join(fitting.warnings(question(hardware), a_sku(name, **capabilities)))

    assert "Azure may refuse that" in said("Standard_D4s_v5", MaxResourceVolumeMB=0)
    assert "NV sizes" in said("Standard_NV36ads_A10_v5", GPUs=1)
    assert "NV sizes" in said("Standard_NV6", GPUs=1)
    assert "too old for NVIDIA RTX PRO 6000 Blackwell" in said("Standard_NC36lds_xl_RTXPRO6000BSE_v6", GPUs=1)
    assert "AMD MI300X" in said("Standard_ND96isr_MI300X_v5", GPUs=8)
    assert "fabricmanager" in said("Standard_ND96asr_v4", GPUs=8)
    assert said("Standard_ND96isr_H100_v5", GPUs=8) == ""
    assert "Secure Boot" in said("Standard_NC4as_T4_v3", Hardware(secure_boot=True), GPUs=1)
    assert said("Standard_D4ads_v5", Hardware(secure_boot=True)) == ""
    assert said("Standard_NC6s_v3", GPUs=1) == "Azure has retired this size (2025-09-30)."
    assert said("Standard_D4s_v3") == "Azure retires this size (2029-11-15)."
    assert said("Standard_X", RetirementDateUtc="12/24/2026") == "Azure retires this size (2026-12-24)."
    for name in ("NC4as_T4_v3", "NC24ads_A100_v4", "NC40ads_H100_v5", "D4ds_v5", "D4s_v6", "E4ds_v5", "B2s_v2"):
        assert said(f"Standard_{name}") == "", name


# -- Azure's own lists --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SKUS.exists(), reason="../shared/data/skewer with real items of Azure's list is not there")
def test_real_items() -> None:
    found = {one.name: one for one in (sku(i, "eastus") for i in json.loads(SKUS.read_text())["value"]) if one}
    assert set(found) == {"Standard_D2_v2", "Standard_D13_v2_Promo", "Standard_D4s_v3", "Standard_NV6"}
    assert found["Standard_NV6"].retires == "2023-08-31"
    assert found["Standard_D2_v2"].accelerated is True
    hardware = Hardware(disk_types=frozenset({"Premium_LRS"}))
    new = question(hardware, present=found["Standard_D4s_v3"])
    rows = {o.size.name: o for o in fitting.offers(new, found.values(), {})}
    assert rows["Standard_D4s_v3"].available
    assert "generation 1 VMs only" in rows["Standard_D2_v2"].reason
    old = question(hardware, present=found["Standard_D4s_v3"], machine=machine(generation="V1", zones=("2",)))
    rows = {o.size.name: o for o in fitting.offers(old, found.values(), {})}
    assert "premium disks" in rows["Standard_D2_v2"].reason
    assert len(fitting.reasons(old, found["Standard_D13_v2_Promo"])) == 3  # premium, zone, subscription
    plain = question(present=found["Standard_D4s_v3"], machine=machine(generation="V1"))
    rows = {o.size.name: o for o in fitting.offers(plain, found.values(), {})}
    assert rows["Standard_D13_v2_Promo"].reason == "Azure does not offer it to this subscription in eastus."
    assert rows["Standard_NV6"].available, "its restriction is of the zones, and this VM is in none"
    assert "NV sizes" in rows["Standard_NV6"].warnings[0]
    assert "retired" in rows["Standard_NV6"].warnings[1]
    assert [o.size.name for o in fitting.offers(plain, found.values(), {}) if o.available][-1] == "Standard_NV6"


@pytest.mark.skipif(
    not KNOWN.exists(), reason="../shared/data/known_skus.yaml with the names of all sizes is not there"
)
def test_every_gpu_size_that_azure_has_is_known_by_its_model() -> None:
    names = [row["name"] for row in yaml.safe_load(KNOWN.read_text())]
    assert len(names) > 1000
    for name in names:
        assert canonical(name) == name.lower()
        assert canonical(name.partition("_")[2]) == name.lower(), "Standard_ may be left out"
        short = name.lower().removeprefix("standard_")
        is_gpu = short[0] == "n" and short[1] in "cdvgp"
        assert (gpu_model(name) is not None) == is_gpu, name
        if is_gpu and (code := next((c for c in GPU_CODES if f"_{c}_" in f"{short}_"), None)):
            model = (gpu_model(name) or "").lower().replace(" ", "")
            assert code.removesuffix("bse") in model, name


# -- whatever the lists say ---------------------------------------------------------------------------------------------

flags = st.sampled_from(["True", "False"])
items = st.builds(
    lambda name, family, zones, restricted, **capabilities: {
        **item(name, family, **capabilities),
        "locationInfo": [{"location": "eastus", "zones": zones}],
        "restrictions": restricted,
    },
    name=st.sampled_from(["Standard_D4ds_v5", "Standard_NC4as_T4_v3", "Standard_NV6", "Standard_D2_v2", "Standard_M1"]),
    family=st.sampled_from(["a", "b"]),
    zones=st.lists(st.sampled_from(["1", "2", "3"])),
    restricted=st.lists(
        st.sampled_from(
            [
                {"type": "Location", "reasonCode": "QuotaId", "restrictionInfo": {"locations": ["eastus"]}},
                {"type": "Zone", "reasonCode": "NotAvailableForSubscription", "restrictionInfo": {"zones": ["1"]}},
            ]
        ),
        max_size=2,
    ),
    vCPUs=st.sampled_from([1, 4, 8, "many"]),
    HyperVGenerations=st.sampled_from(["V1", "V2", "V1,V2"]),
    MaxResourceVolumeMB=st.sampled_from([0, 1000, ""]),
    PremiumIO=flags,
    MaxDataDiskCount=st.integers(0, 5),
    MaxNetworkInterfaces=st.integers(1, 3),
    CpuArchitectureType=st.sampled_from(["x64", "Arm64"]),
    AcceleratedNetworkingEnabled=flags,
    TrustedLaunchDisabled=flags,
    DiskControllerTypes=st.sampled_from(["SCSI", "NVMe", "SCSI, NVMe"]),
)
skus = items.map(lambda i: sku(i, "eastus")).filter(lambda s: s is not None)
hardwares = st.builds(
    Hardware,
    disk_controller=st.sampled_from(["SCSI", "NVMe"]),
    disk_types=st.frozensets(st.sampled_from(["Premium_LRS", "Standard_LRS"])),
    data_disks=st.integers(0, 4),
    interfaces=st.integers(1, 3).map(lambda n: tuple(map(str, range(n)))),
    security=st.sampled_from(["", "TrustedLaunch"]),
    ephemeral=st.booleans(),
)
questions = st.builds(
    question,
    hardware=hardwares,
    machine=st.builds(
        machine,
        state=st.sampled_from(list(PowerState)),
        os=st.sampled_from(list(OS)),
        hibernated=st.booleans(),
        generation=st.sampled_from(["V1", "V2", None]),
        zones=st.sampled_from([(), ("1",), ("3",)]),
    ),
    present=st.one_of(st.none(), skus),
    quotas=st.dictionaries(
        st.sampled_from(["a", "b", "cores"]), st.builds(Usage, st.integers(0, 9), st.integers(0, 12))
    ),
    accelerated=st.sampled_from([True, False, None]),
)


@given(asked=questions, offered=st.lists(skus, max_size=6, unique_by=lambda s: s.name))
def test_what_holds_for_every_list(asked: Question, offered: list[Sku]) -> None:
    rows = fitting.offers(asked, offered, {})
    own = asked.machine.compute.size
    assert own is not None
    assert {o.size.name for o in rows} == {s.name for s in offered} | {own.name}
    assert [o.available for o in rows] == sorted((o.available for o in rows), reverse=True)
    for offer in rows:
        assert offer.available == (offer.reason == "")
        assert offer.current == (offer.size.name == own.name)
        assert not offer.current or offer.available, "what it has it can keep"
    for one in offered:
        row = next(o for o in rows if o.size.name == one.name)
        if row.available and not row.current:
            assert asked.machine.generation is None or asked.machine.generation in one.generations
            assert asked.hardware.disk_controller in one.disk_controllers
            assert one.premium_disks or "Premium_LRS" not in asked.hardware.disk_types
            assert (one.max_data_disks or 0) >= asked.hardware.data_disks
            assert set(asked.machine.zones) <= one.zones - one.restricted_zones
            assert not one.restricted
            assert not (asked.accelerated and one.accelerated is False)
        if row.available:
            assert chosen(one.name.lower(), rows, "x-vm", "eastus") is row
        else:
            with pytest.raises(OperationRefused) as caught:
                chosen(one.name, rows, "x-vm", "eastus")
            assert row.reason in caught.value.message


@given(asked=questions, offered=st.lists(skus, min_size=1, max_size=4, unique_by=lambda s: s.name))
def test_more_quota_never_takes_a_size_away(asked: Question, offered: list[Sku]) -> None:
    more = {name: dataclasses.replace(usage, limit=usage.limit + 4) for name, usage in asked.quotas.items()}
    for one in offered:
        if not fitting.reasons(asked, one):
            assert not fitting.reasons(dataclasses.replace(asked, quotas=more), one)


@given(asked=questions, offered=st.lists(skus, max_size=4, unique_by=lambda s: s.name))
def test_a_vm_that_cannot_be_resized_at_all_has_but_its_own_size(asked: Question, offered: list[Sku]) -> None:
    why = fitting.impossible(asked.machine, asked.hardware)
    rows = fitting.offers(asked, offered, {}, why)
    assert bool(why) == (asked.machine.compute.hibernated or asked.hardware.ephemeral)
    if why:
        assert [o.current for o in rows if o.available] == [True]
        assert fitting.notice(asked.machine, asked.hardware) == why


@given(st.text(max_size=90))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = canonical(text)
    except BadRequest:
        return
    assert canonical(name) == name
    assert not set(name) & set("/?#&%'\" \n")


# -- the model of a VM --------------------------------------------------------------------------------------------------


def test_what_is_read_of_a_model() -> None:
    model = vm_model(
        state="deallocated",
        storageProfile={
            "imageReference": {"publisher": "microsoft-dsvm", "offer": "ubuntu-2204", "sku": "2204-gen2"},
            "osDisk": {
                "osType": "Linux",
                "managedDisk": {"storageAccountType": "Premium_LRS"},
                "diffDiskSettings": {"option": "Local"},
            },
            "dataDisks": [{"managedDisk": {"storageAccountType": "StandardSSD_LRS"}}, {}],
            "diskControllerType": "NVMe",
        },
        securityProfile={"securityType": "trustedlaunch", "uefiSettings": {"secureBootEnabled": True}},
        availabilitySet={"id": "/x"},
        priority="Spot",
        provisioningState="Updating",
    )
    model["properties"]["instanceView"]["statuses"].append({"code": "HibernationState/Hibernated"})
    found = from_model(model, "dsvm")
    assert found is not None
    assert found.compute.hibernated
    assert found.hardware == Hardware(
        disk_controller="NVMe",
        disk_types=frozenset({"Premium_LRS", "StandardSSD_LRS"}),
        data_disks=2,
        ephemeral=True,
        interfaces=("/x/second", "/net/gpu-vm-nic"),
        security="TrustedLaunch",
        secure_boot=True,
        availability_set=True,
        spot=True,
        provisioning="Updating",
    )
    assert not found.in_state(PowerState.RUNNING).compute.hibernated
    assert not is_hibernated(None)
    unmarked = reread(found, vm_model(hardwareProfile={"vmSize": "Standard_D8ds_v5"}))
    assert unmarked.compute.size is not None
    assert (unmarked.compute.size.vcpus, unmarked.hardware) == (8, hardware(vm_model()))
    bare = from_model(vm_model(state=None), "dsvm")
    assert bare is not None
    assert bare.hardware == Hardware(interfaces=("/x/second", "/net/gpu-vm-nic"))
