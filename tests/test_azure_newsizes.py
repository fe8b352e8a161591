"""Which sizes a new VM can have, and why not: pure, and held against real items of Azure's list where they are there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.azure.newsizes import NV, obstacle, possible, shown, warnings
from jupyter_dsvm.compute.azure.places import Subscription
from jupyter_dsvm.compute.azure.skus import Sku, Usage, sku

ITEMS = Path(__file__).resolve().parents[2] / "shared/data/skewer/eastus.json"
PAID = Subscription("s", "Research", "Enabled", "")
FREE = replace(PAID, free="a free trial")
D2 = Sku(
    name="Standard_D2ds_v5",
    family="standardDDSv5Family",
    vcpus=2,
    memory_gib=8,
    gpus=0,
    generations=frozenset({"V1", "V2"}),
    temporary_disk=True,
    architecture="x64",
    disk_controllers=frozenset({"SCSI"}),
    premium_disks=True,
    max_data_disks=4,
    max_interfaces=2,
    trusted_launch=True,
    confidential=False,
    zones=frozenset(),
    restricted="",
    restricted_zones=frozenset(),
)
T4 = replace(D2, name="Standard_NC4as_T4_v3", family="Standard NCASv3_T4 Family", vcpus=4, memory_gib=28, gpus=1)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"generations": frozenset({"V1"})}, False),
        ({"architecture": "Arm64"}, False),
        ({"confidential": True}, False),
        ({"vcpus": None}, False),
        ({"memory_gib": 2.0}, False),
        ({"memory_gib": None}, True),
    ],
)
def test_what_could_ever_run_the_image(change: dict[str, Any], fits: bool):
    assert possible(replace(D2, **change), "V2") is fits


@pytest.mark.parametrize(
    ("one", "quotas", "subscription", "allowed", "why"),
    [
        (D2, {}, PAID, (), ""),
        (D2, {"standardddsv5family": Usage(8, 10)}, PAID, (), ""),
        (D2, {"standardddsv5family": Usage(9, 10)}, PAID, (), "9 of 10 are in use, 2 more are needed"),
        (D2, {"cores": Usage(10, 10)}, PAID, (), "all sizes of the region"),
        (D2, {"standardddsv5family": Usage(0, 0)}, PAID, (), "0 of 0"),
        (D2, {}, FREE, (), ""),
        (T4, {}, FREE, (), "a free trial, which gets no GPU sizes"),
        (replace(D2, restricted="NotAvailableForSubscription"), {}, PAID, (), "does not offer it to this subscription"),
        (replace(D2, restricted="QuotaId"), {}, PAID, (), "(QuotaId)"),
        (D2, {}, PAID, ("standard_d*DS_v5",), ""),
        (D2, {}, PAID, ("Standard_E*", "Standard_NC4as_T4_v3"), "The administrator does not allow this size."),
    ],
)
def test_why_not(one: Sku, quotas: dict[str, Usage], subscription: Subscription, allowed: tuple[str, ...], why: str):
    found = obstacle(one, quotas, subscription, allowed)
    assert why in found
    assert bool(found) is bool(why)


def test_nv_is_warned_of_and_models_are_named():
    assert warnings(replace(T4, name="Standard_NV6ads_A10_v5")) == (NV,)
    assert warnings(T4) == ()
    assert shown(T4).gpu_model == "NVIDIA T4 16 GB"
    assert (shown(D2).vcpus, shown(D2).memory_gib) == (2, 8)


@pytest.mark.skipif(not ITEMS.exists(), reason="needs ../shared/data")
def test_real_items():
    items = json.loads(ITEMS.read_text())["value"]
    found = {one.name: one for item in items if (one := sku(item, "eastus")) is not None}
    for item in items:
        capabilities = {c["name"]: c["value"] for c in item.get("capabilities", ())}
        if item["resourceType"] == "virtualMachines":
            assert possible(found[item["name"]], "V2") is ("V2" in capabilities["HyperVGenerations"])
            # What is restricted in zones alone can be had without one.
            restricted = any(r["type"] == "Location" for r in item["restrictions"])
            assert bool(obstacle(found[item["name"]], {}, PAID)) is restricted
