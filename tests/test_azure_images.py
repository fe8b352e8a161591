"""Recognising a DSVM, and reading a size's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_dsvm.compute.azure.images import DSVM_IMAGES, PUBLISHERS, recognise
from jupyter_dsvm.compute.azure.sizes import size
from jupyter_dsvm.models import OS

SKUS = Path(__file__).parents[2] / "shared/data/skewer/eastus.json"


def image(publisher: str, offer: str, sku: str = "x") -> dict[str, str]:
    return {"publisher": publisher, "offer": offer, "sku": sku, "version": "latest"}


def test_by_image_whatever_the_case() -> None:
    found = recognise(image("Microsoft-DSVM", "Ubuntu-2204", "2204-gen2"), None, None, os_type="Linux", tag="dsvm")
    assert found is not None
    assert (found.image, found.os) == ("Microsoft-DSVM:Ubuntu-2204:2204-gen2", OS.LINUX)


@pytest.mark.parametrize("offer", ["ubuntu-hpc", "aml-workstation", "something-new"])
def test_other_images_of_the_same_publisher_are_none(offer: str) -> None:
    assert recognise(image("microsoft-dsvm", offer), None, None, os_type="Linux", tag="dsvm") is None


def test_by_plan_where_the_image_was_captured() -> None:
    captured = {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/mine"}
    plan = {"publisher": "microsoft-ads", "product": "linux-data-science-vm-ubuntu", "name": "linuxdsvmubuntubyol"}
    found = recognise(captured, plan, None, os_type="Linux", tag="dsvm")
    assert found is not None
    assert found.image == "microsoft-ads:linux-data-science-vm-ubuntu:linuxdsvmubuntubyol"


def test_by_tag_and_not_by_tag() -> None:
    ubuntu = image("canonical", "ubuntu-24_04-lts", "server")
    assert recognise(ubuntu, None, {"env": "test"}, os_type="Linux", tag="dsvm") is None
    found = recognise(ubuntu, None, {"DSVM": ""}, os_type="Linux", tag="dsvm")
    assert found is not None
    assert found.image == "canonical:ubuntu-24_04-lts:server"
    hidden = recognise(image("microsoft-dsvm", "ubuntu-2204"), None, {"dsvm": "False"}, os_type="Linux", tag="dsvm")
    assert hidden is None


def test_windows_by_disk_and_by_table() -> None:
    for os_type in ("Windows", None):
        found = recognise(image("microsoft-dsvm", "dsvm-win-2022"), None, None, os_type=os_type, tag="dsvm")
        assert found is not None
        assert found.os is OS.WINDOWS


def test_the_table_is_lower_case_and_its_publishers_are_asked_for() -> None:
    assert all(text == text.lower() for pair in DSVM_IMAGES for text in pair)
    assert PUBLISHERS == ("microsoft-ads", "microsoft-dsvm", "microsoft-dvsm")


@pytest.mark.parametrize(
    ("name", "vcpus", "memory", "gpus", "model"),
    [
        ("Standard_NC4as_T4_v3", 4, 28, 1, "NVIDIA T4 16 GB"),
        ("standard_nc24ads_a100_v4", 24, 220, 1, "NVIDIA A100 80 GB"),
        ("Standard_NC80adis_H100_v5", 80, 640, 2, "NVIDIA H100 NVL 94 GB"),
        ("Standard_D4ds_v5", 4, 16, 0, None),
        ("Standard_D96ads_v5", 96, 384, 0, None),
        ("Standard_D2lds_v6", 2, 4, 0, None),
        ("Standard_D4als_v6", 4, 8, 0, None),
        ("Standard_D2nds_v6", 2, 8, 0, None),
        ("Standard_E8s_v5", 8, 64, 0, None),
        ("Standard_B2ms", 2, 8, 0, None),
        ("Standard_B4as_v2", 4, 16, 0, None),
        ("Standard_F8s_v2", 8, 16, 0, None),
    ],
)
def test_known_sizes(name: str, vcpus: int, memory: float, gpus: int, model: str | None) -> None:
    found = size(name)
    assert (found.name, found.vcpus, found.memory_gib, found.gpus, found.gpu_model) == (
        name,
        vcpus,
        memory,
        gpus,
        model,
    )


@pytest.mark.parametrize("name", ["Standard_E96ds_v5", "Standard_E104i_v5", "Standard_Z9_v1", "", "Standard_E4-2s_v5"])
def test_what_is_not_known_is_none(name: str) -> None:
    found = size(name)
    assert (found.vcpus, found.memory_gib, found.gpus, found.gpu_model) == (None, None, None, None)


@pytest.mark.skipif(not SKUS.exists(), reason="../shared/data with Azure's own size list is not there")
def test_agrees_with_azures_own_list() -> None:
    checked = 0
    listing = json.loads(SKUS.read_text())
    for sku in listing if isinstance(listing, list) else listing["value"]:
        if sku.get("resourceType") != "virtualMachines":
            continue
        said = {c["name"]: c["value"] for c in sku["capabilities"]}
        found = size(sku["name"])
        assert found.vcpus == int(said["vCPUs"])
        assert found.memory_gib == float(said["MemoryGB"])
        assert found.gpus == int(said.get("GPUs", 0))
        checked += 1
    assert checked >= 4
