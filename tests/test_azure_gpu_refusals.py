"""GPUs that Azure does not give, against the emulator: each refusal names the sizes that would work instead, and only those."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.errors import OperationRefused
from jupyter_dsvm.models import PowerState

UBUNTU = "microsoft-dsvm:ubuntu-2204:2204-gen2"
T4 = "Standard NCASv3_T4 Family"
A100 = "StandardNCADSA100v4Family"


def vm(name: str, subscription: str = "Lab", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "resource_group": "gpus",
        "subscription": subscription,
        "size": "Standard_NC4as_T4_v3",
        "image": UBUNTU,
        "ssh": False,
        **more,
    }


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    scenario = {
        "subscriptions": [
            {"id": "0b1f6471-1bf0-4dda-aec3-cb9272f09591", "name": "Lab"},
            {"id": "0b1f6471-1bf0-4dda-aec3-cb9272f09592", "name": "Trial", "quota_id": "FreeTrial_2014-09-01"},
            {"id": "0b1f6471-1bf0-4dda-aec3-cb9272f09593", "name": "School", "quota_id": "AzureForStudents_2018-01-01"},
        ],
        "machines": [
            vm("one"),
            vm("two"),
            vm("old", generation="V1", image="microsoft-dsvm:ubuntu-2004:2004"),
            vm("zonal", zones=["1"]),
            vm("big", size="Standard_NC24ads_A100_v4"),
            vm("trial", "Trial"),
            vm("school", "School"),
            vm("cpu", "Trial", size="Standard_D4ds_v5"),
        ],
    }
    with Emulator(tmp_path_factory.mktemp("azure"), scenario=scenario, isolate=False, timeout=120) as running:
        yield running


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[AzureCompute]:
    config = Config()
    for file in emulator.config_dir.glob("*.json"):
        config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
    provider = AzureCompute(config=config, polling_interval=0.05)
    yield provider
    emulator.set_scenario(quotas=[], capacity=[], restrictions=[], faults=[])
    for row in emulator.vms:
        if row["power_state"] != "deallocated":
            emulator.power(row["vm_id"], "deallocate")
    provider.close()


def compute_id(azure: AzureCompute, name: str) -> str:
    return next(c.id for c in azure.list().computes if c.name == name)


def refusal(azure: AzureCompute, name: str) -> OperationRefused:
    chosen = compute_id(azure, name)
    with pytest.raises(OperationRefused) as caught:
        azure.start(chosen, lambda text, done: None, Cancel())
    assert azure.get(chosen).power_state is PowerState.DEALLOCATED
    return caught.value


def offered(error: OperationRefused) -> list[str]:
    found = re.search(r"Offered in westeurope, and within the quota: ([\w, ]+)\.", error.advice)
    return found[1].split(", ") if found else []


def test_a_size_that_is_not_offered(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(restrictions=[{"size": "Standard_NC4as_T4_v3"}])
    error = refusal(azure, "one")
    assert error.code == "SkuNotAvailable"
    assert "Azure does not offer Standard_NC4as_T4_v3 in westeurope to this subscription" in error.advice
    assert "This is" not in error.advice, "pay-as-you-go: nothing to upgrade"
    assert offered(error)[0] == "Standard_NC8as_T4_v3"
    assert all(size.startswith("Standard_NC") for size in offered(error)), "sizes with a GPU, and none of NV"


def test_no_capacity(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(capacity=[{"size": "Standard_NC4as_T4_v3", "machines": 1}])
    azure.start(compute_id(azure, "one"), lambda text, done: None, Cancel())
    error = refusal(azure, "two")
    assert (error.code, offered(error)[0]) == ("AllocationFailed", "Standard_NC8as_T4_v3")
    assert "Try again later" in error.advice
    assert "nothing is billed for a VM that did not start" in error.advice


def test_no_capacity_in_a_zone(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(
        capacity=[{"size": "Standard_NC4as_T4_v3", "machines": 0}],
        restrictions=[{"size": "Standard_NC8as_T4_v3", "zones": ["1"], "reason": "NotAvailableForSubscription"}],
    )
    zonal, elsewhere = refusal(azure, "zonal"), refusal(azure, "one")
    assert (zonal.code, elsewhere.code) == ("ZonalAllocationFailed", "AllocationFailed")
    assert "Standard_NC8as_T4_v3" not in offered(zonal)
    assert "Standard_NC8as_T4_v3" in offered(elsewhere)
    assert offered(zonal)


def test_the_familys_quota(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(quotas=[{"family": T4, "limit": 6, "subscription": "Lab"}])
    azure.start(compute_id(azure, "one"), lambda text, done: None, Cancel())
    error = refusal(azure, "two")
    assert error.code == "OperationNotAllowed"
    assert re.search(r"NCASv3_T4 Family Cores in westeurope\): 4 of 6 are in use, 4 more are needed", error.message)
    assert "a limit of 8 in westeurope) at https://" in error.advice
    assert offered(error), "another family has room"
    assert not [size for size in offered(error) if "_T4_" in size], "this family has none"


def test_a_generation_1_vm_is_offered_what_it_can_boot(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(capacity=[{"size": "Standard_NC4as_T4_v3", "machines": 0}])
    assert not [size for size in offered(refusal(azure, "old")) if "A100" in size or "H100" in size]
    emulator.set_scenario(quotas=[{"family": T4, "limit": 2, "subscription": "Lab"}])
    error = refusal(azure, "old")
    assert offered(error) == [], "its quota is used up, and no other family boots it"
    assert "request more" in error.advice


def test_the_regions_quota_leaves_nothing(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(quotas=[{"family": "cores", "limit": 2, "subscription": "Lab"}])
    error = refusal(azure, "one")
    assert "for all sizes of the region" in error.message
    assert offered(error) == []


def test_a_quota_of_nothing_with_an_ordinary_subscription(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(quotas=[{"family": A100, "limit": 0, "subscription": "Lab"}])
    error = refusal(azure, "big")
    assert "may not use that family of sizes at all" in error.message
    assert "request quota (a limit of 24 in westeurope)" in error.advice
    assert "This is" not in error.advice


@pytest.mark.parametrize(
    ("name", "kind"), [("trial", "a free trial"), ("school", "an Azure for Students subscription")]
)
def test_a_free_account_gets_no_gpu(azure: AzureCompute, name: str, kind: str) -> None:
    error = refusal(azure, name)
    assert "its quota is 0" in error.message
    assert f"This is {kind}, which gets no GPU sizes" in error.advice
    assert offered(error) == []


def test_a_free_accounts_vm_without_gpu_is_told_nothing_of_gpus(azure: AzureCompute, emulator: Emulator) -> None:
    assert azure.start(compute_id(azure, "cpu"), lambda text, done: None, Cancel()).power_state is PowerState.RUNNING
    azure.stop(compute_id(azure, "cpu"), lambda text, done: None, Cancel())
    emulator.set_scenario(capacity=[{"size": "Standard_D4ds_v5", "machines": 0}])
    error = refusal(azure, "cpu")
    assert "GPU" not in error.advice
    assert not [size for size in offered(error) if size.startswith("Standard_N")]


def test_what_the_panel_reads_of_it(azure: AzureCompute, emulator: Emulator) -> None:
    """``labextension/src/refusals.ts`` looks for a quota's numbers and page, and for an account that gets no GPU."""
    numbers = r"Current Limit: \d+, Current Usage: \d+, Additional Required: \d+"
    emulator.set_scenario(quotas=[{"family": T4, "limit": 0}])
    error = refusal(azure, "one")
    assert error.code in ("OperationNotAllowed", "QuotaExceeded")
    assert re.search(numbers, error.message)
    assert re.search(r"https://(aka\.ms|portal\.azure\.com)/", error.advice)
    assert "gets no GPU sizes" not in error.advice
    free = refusal(azure, "trial")
    assert free.code in ("OperationNotAllowed", "QuotaExceeded", "SkuNotAvailable")
    assert "gets no GPU sizes" in free.advice
