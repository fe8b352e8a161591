"""Making DSVMs against the emulator: fixtures, and what a test asks of what there is afterwards."""

from __future__ import annotations

import json
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
from jupyter_dsvm.models import Compute

Make = Callable[..., AzureCompute]

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
    scenario: dict[str, Any] = {
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


def kept_memo() -> tuple[Memo, dict[str, Any]]:
    """A memo, and what would be on disk of it."""
    kept: dict[str, Any] = {}
    return Memo(keep=lambda facts: kept.update(json.loads(json.dumps(facts)))), kept
