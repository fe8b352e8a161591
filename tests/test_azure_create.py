"""DSVMs made in one deployment, against the emulator over real HTTP: what is made, what is refused beforehand, and that nothing is
left of what could not be finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.creating import NewCompute
from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH, STANDARD, TEACHING
from jupyter_dsvm.errors import DSVMError
from jupyter_dsvm.models import Compute, PowerState
from support.emulated import writes

MACHINES = tuple(
    replace(machine, requirements=(), kernelspecs=(), ssh=False)
    for machine in STANDARD
    if machine.name in ("cpu-vm", "old-vm", "web-server")
)
FREE = {
    "id": "9d1c6b1e-4a5f-4f3e-8f0b-6f1f6f0c7a11",
    "name": "Trial",
    "quota_id": "FreeTrial_2014-09-01",
}
GROUPS = ("notebooks", "made", "jupyter-dsvm")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    scenario = {
        "subscriptions": [{"id": s.id, "name": s.name} for s in (RESEARCH, TEACHING)] + [FREE],
    }
    scenario["machines"] = [
        {
            "name": m.name,
            "resource_group": m.resource_group,
            "subscription": "Research" if m.subscription == RESEARCH.id else "Teaching",
            "size": m.size,
            "image": ":".join(m.image),
            "location": m.location,
            "power": m.power,
            "generation": m.generation,
            "ssh": False,
        }
        for m in MACHINES
    ]
    with Emulator(tmp_path_factory.mktemp("azure"), scenario=scenario, timeout=120) as emulator:
        yield emulator


@pytest.fixture
def make(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AzureCompute]]:
    """An ``AzureCompute`` as the emulator's configuration has it, with other options on top."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    made: list[AzureCompute] = []

    def azure(**options: Any) -> AzureCompute:
        config = Config()
        for file in emulator.config_dir.glob("*.json"):
            config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
        values = {"polling_interval": 0.05, "create_source_address": "203.0.113.7", "ssh_user": "azureuser", **options}
        made.append(AzureCompute(config=config, **values))
        return made[-1]

    yield azure
    for one in made:
        one.close()
    emulator.clear_faults()
    emulator.set_scenario(quotas=[], restrictions=[], capacity=[])
    emulator.set_timings(create=0.2, network=0.05, delete=0.1, nic_reserved=0, graph_lag=0)
    for group in ("made", "jupyter-dsvm"):
        path = f"/subscriptions/{RESEARCH.id}/resourcegroups/{group}?api-version=2021-04-01"
        emulator.request("DELETE", path)
        while emulator.request("GET", path)[0] == 200:
            time.sleep(0.05)


def spec(name: str = "new-vm", **other: Any) -> NewCompute:
    return NewCompute(
        **{"name": name, "location": "westeurope", "size": "Standard_D2ds_v5", "subscription": "Research", **other}
    )


class Said:
    """What was reported."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, fraction: float | None = None) -> None:
        assert fraction is None or 0 <= fraction <= 1
        if text not in self.texts:
            self.texts.append(text)


def everything(emulator: Emulator, subscription: str = RESEARCH.id) -> list[str]:
    """Ids of all that there is in the groups that these tests use, and the groups."""
    found = []
    for group in GROUPS:
        path = f"/subscriptions/{subscription}/resourcegroups/{group}"
        status, _, body = emulator.request("GET", f"{path}?api-version=2021-04-01")
        if status == 200:
            found.append(body["id"])
            found += [r["id"] for r in emulator.request("GET", f"{path}/resources?api-version=2021-04-01")[2]["value"]]
    return sorted(found)


def created(azure: AzureCompute, wanted: NewCompute, memo: Memo | None = None) -> Compute:
    return azure.create(wanted, Said(), Cancel(), memo)


def failed(azure: AzureCompute, wanted: NewCompute, memo: Memo | None = None) -> DSVMError:
    with pytest.raises(DSVMError) as caught:
        created(azure, wanted, memo)
    return caught.value


def resource(emulator: Emulator, kind: str, name: str, group: str = "made") -> Any:
    provider = "Microsoft.Compute" if kind in ("virtualMachines", "disks") else "Microsoft.Network"
    path = f"/subscriptions/{RESEARCH.id}/resourceGroups/{group}/providers/{provider}/{kind}/{name}"
    status, _, body = emulator.request("GET", f"{path}?api-version=2023-11-01")
    return body if status == 200 else None


# -- what is made -----------------------------------------------------------------------------------------------------


def test_a_vm_with_all_that_it_needs(make: Callable[..., AzureCompute], emulator: Emulator):
    azure, said, before = make(create_owner="ada"), Said(), len(emulator.traffic)
    row = azure.create(spec(resource_group="made", disk_gib=200), said, Cancel())
    assert (row.name, row.power_state, row.location) == ("new-vm", PowerState.RUNNING, "westeurope")
    assert row.image == "microsoft-dsvm:ubuntu-2204:2204-gen2"
    assert row.price is not None
    vm = resource(emulator, "virtualMachines", "new-vm")
    properties = vm["properties"]
    assert properties["securityProfile"] == {"securityType": "Standard"}
    assert properties["storageProfile"]["osDisk"]["deleteOption"] == "Delete"
    assert properties["storageProfile"]["osDisk"]["diskSizeGB"] == 200
    assert properties["storageProfile"]["osDisk"]["managedDisk"]["storageAccountType"] == "Premium_LRS"
    assert properties["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert properties["networkProfile"]["networkInterfaces"][0]["properties"]["deleteOption"] == "Delete"
    assert vm["tags"]["dsvm"] == "true"
    assert vm["tags"]["owner"] == "ada"
    assert vm["tags"]["created-by"] == "jupyter-dsvm"
    (rule,) = resource(emulator, "networkSecurityGroups", "new-vm-nsg")["properties"]["securityRules"]
    assert rule["properties"]["sourceAddressPrefix"] == "203.0.113.7/32"
    assert rule["properties"]["destinationPortRange"] == "22"
    address = resource(emulator, "publicIPAddresses", "new-vm-ip")
    assert address["sku"]["name"] == "Standard"
    assert address["properties"]["publicIPAllocationMethod"] == "Static"
    # One deployment, and one group: nothing else is asked of Azure that changes anything.
    asked = [line.split("?")[0].rsplit("/", 2)[-2:] for line in writes(emulator, before)]
    assert [a[0] if a[1].startswith("jupyter-dsvm-new-vm") else a[1] for a in asked] == [
        "made",
        "validate",
        "deployments",
    ]
    assert said.texts[-1].startswith("Azure is making")
    assert any("network (2 of 5)" in text for text in said.texts)


def test_the_new_vm_is_in_the_list_before_the_graph_knows_it(make: Callable[..., AzureCompute], emulator: Emulator):
    emulator.set_timings(graph_lag=60)
    azure = make()
    row = created(azure, spec(resource_group="made"))
    assert row.id in {c.id for c in azure.list().computes}
    emulator.set_timings(graph_lag=0)
    assert [c.id for c in azure.list().computes].count(row.id) == 1
    # Deleted meanwhile, it is not: the VM itself is asked.
    emulator.set_timings(graph_lag=60)
    emulator.remove("new-vm")
    assert row.id not in {c.id for c in azure.list().computes}
