"""DSVMs made in one deployment, against the emulator over real HTTP: what is made, chosen and refused."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.errors import BadRequest, ConfigurationError, DSVMError, NotAllowed, OperationRefused
from jupyter_dsvm.models import PowerState
from support.creating import Make, Said, created, emulator, everything, failed, make, resource, spec
from support.emulated import writes

__all__ = ["emulator", "make"]

# -- what is made -----------------------------------------------------------------------------------------------------


def test_a_vm_with_all_that_it_needs(make: Make, emulator: Emulator):
    azure, said, before = make(create_owner="ada"), Said(), len(emulator.traffic)
    emulator.set_timings(network=0.4)  # each is looked at
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


def test_the_new_vm_is_in_the_list_before_the_graph_knows_it(make: Make, emulator: Emulator):
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


def test_without_a_public_address(make: Make, emulator: Emulator):
    azure = make(create_source_address="")
    row = created(azure, spec(resource_group="made", private=True))
    assert resource(emulator, "publicIPAddresses", "new-vm-ip") is None
    assert resource(emulator, "networkSecurityGroups", "new-vm-nsg")["properties"]["securityRules"] == []
    interface = resource(emulator, "networkInterfaces", "new-vm-nic")
    assert "publicIPAddress" not in interface["properties"]["ipConfigurations"][0]["properties"]
    assert (
        azure.ssh_target(row.id).host
        == interface["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"]
    )


def test_into_a_subnet_that_is_there(make: Make, emulator: Emulator):
    first = make()
    created(first, spec("first-vm", resource_group="made"))
    subnet = resource(emulator, "virtualNetworks", "first-vm-vnet")["properties"]["subnets"][0]["id"]
    azure = make(create_subnet=subnet, create_private_only=True, create_source_address="")
    created(azure, spec("second-vm", resource_group="made"))
    assert resource(emulator, "virtualNetworks", "second-vm-vnet") is None
    assert resource(emulator, "publicIPAddresses", "second-vm-ip") is None
    interface = resource(emulator, "networkInterfaces", "second-vm-nic")
    assert interface["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"] == subnet


def test_trusted_launch_is_said_and_secure_boot_off(make: Make, emulator: Emulator):
    created(make(create_security_type="TrustedLaunch"), spec(resource_group="made"))
    assert resource(emulator, "virtualMachines", "new-vm")["properties"]["securityProfile"] == {
        "securityType": "TrustedLaunch",
        "uefiSettings": {"secureBootEnabled": False, "vTpmEnabled": True},
    }


def test_ssh_is_open_to_our_key_and_the_address_stays(make: Make, emulator: Emulator):
    azure = make(ssh_key_file="")
    row = created(azure, spec(resource_group="made"))
    target = azure.ssh_target(row.id)
    key = target.own_key
    assert key is not None
    assert key.endswith("/jupyter-dsvm/id_ed25519")
    (there,) = resource(emulator, "virtualMachines", "new-vm")["properties"]["osProfile"]["linuxConfiguration"]["ssh"][
        "publicKeys"
    ]
    assert re.fullmatch(r"ssh-ed25519 \S+ jupyter-dsvm:[0-9a-f]{16}", there["keyData"])
    assert Path(key).stat().st_mode & 0o077 == 0
    assert target.pinned_key_id == row.id.removeprefix("azure:")
    assert target.user == "azureuser"
    with socket.create_connection((target.host, target.port), timeout=5) as connection:
        assert connection.recv(8) == b"SSH-2.0-"
    azure.stop(row.id, Said(), Cancel())
    azure.start(row.id, Said(), Cancel())
    assert azure.ssh_target(row.id).host == target.host


# -- what is refused before anything exists -----------------------------------------------------------------------------


def quota(family: str, limit: int) -> Callable[[Emulator], None]:
    return lambda emulator: emulator.set_scenario(quotas=[{"family": family, "limit": limit}])


def restricted(size: str) -> Callable[[Emulator], None]:
    return lambda emulator: emulator.set_scenario(restrictions=[{"size": size}])


def as_it_is(emulator: Emulator) -> None:
    pass


REFUSED: dict[str, tuple[Callable[[Emulator], None], dict[str, Any], dict[str, Any], type[DSVMError], str]] = {
    "the family's quota": (quota("standardDDSv5Family", 5), {}, {}, OperationRefused, "4 of 5 are in use, 2 more are needed"),
    "the region's quota": (quota("cores", 5), {}, {}, OperationRefused, "all sizes of the region"),
    "a size that this subscription does not get": (
        restricted("Standard_D2ds_v5"), {}, {}, OperationRefused, "does not offer it to this subscription"
    ),
    "a GPU for a free trial": (
        as_it_is, {"subscription": "Trial", "size": "Standard_NC4as_T4_v3"}, {}, OperationRefused, "free trial"
    ),
    "a region that there is not": (as_it_is, {"location": "atlantis"}, {}, BadRequest, "There is no region 'atlantis'"),
    "a region that is not allowed": (
        as_it_is, {}, {"create_locations": ["North Europe"]}, BadRequest, "northeurope"
    ),
    "a size that there is not": (as_it_is, {"size": "Standard_X1"}, {}, BadRequest, "There is no size Standard_X1"),
    "a size that is not allowed": (
        as_it_is, {}, {"create_sizes": ["Standard_NC*"]}, OperationRefused, "The administrator does not allow this size."
    ),
    "a subscription that there is not": (as_it_is, {"subscription": "Elsewhere"}, {}, BadRequest, "no subscription 'Elsewhere'"),
    "a subscription that is not allowed": (
        as_it_is, {}, {"create_subscriptions": ["Teaching"]}, NotAllowed, "The administrator does not allow"
    ),
    "no subscription among several": (as_it_is, {"subscription": None}, {}, BadRequest, "Research, Teaching, Trial"),
    "a group that there is not and may not be made": (
        as_it_is, {"resource_group": "nowhere"}, {"create_resource_group": False}, NotAllowed, "no resource group nowhere"
    ),
    "a VM that is there": (
        as_it_is, {"name": "cpu-vm", "resource_group": "notebooks"}, {}, OperationRefused, "There is a VM cpu-vm"
    ),
    "nothing at all may be made": (as_it_is, {}, {"may_create": False}, NotAllowed, "does not allow VMs to be made here"),
    "nobody says who may reach it": (as_it_is, {}, {"create_source_address": ""}, BadRequest, "--from ADDRESS"),
    "the whole internet": (
        as_it_is, {"source_address": "0.0.0.0/0"}, {"create_source_address": ""}, BadRequest, "whole internet"
    ),
    "any address": (as_it_is, {"source_address": "*"}, {"create_source_address": ""}, BadRequest, "neither an IPv4 address"),
    "half a continent": (
        as_it_is, {"source_address": "203.0.0.0/16"}, {"create_source_address": ""}, BadRequest, "more addresses than a /24"
    ),
    "another address than the administrator's": (
        as_it_is, {"source_address": "198.51.100.1"}, {}, NotAllowed, "203.0.113.7/32 alone"
    ),
    "an account that Azure does not take": (as_it_is, {}, {"ssh_user": "root"}, ConfigurationError, "AzureCompute.ssh_user"),
    "a name that cannot be": (as_it_is, {"name": "new_vm"}, {}, BadRequest, "letters, digits and hyphens"),
    "a disk that is too small": (as_it_is, {"disk_gib": 5}, {}, BadRequest, "30 to 4095 GiB"),
    "an image of Windows": (
        as_it_is, {}, {"create_image": "microsoft-dsvm:dsvm-win-2022:winserver-2022"}, ConfigurationError, "Windows"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case: str, make: Make, emulator: Emulator):
    arrange, wanted, options, kind, words = REFUSED[case]
    arrange(emulator)
    azure, before = make(**options), len(emulator.traffic)
    error = failed(azure, spec(**{"resource_group": "made", **wanted}))
    assert type(error) is kind
    assert words in str(error)
    assert error.advice or kind is NotAllowed
    assert writes(emulator, before) == []


def test_what_is_there_under_one_of_the_names_is_left_alone(make: Make, emulator: Emulator):
    created(make(), spec(resource_group="made"))
    emulator.remove("new-vm")  # as somebody deletes the VM alone
    there, before = everything(emulator), len(emulator.traffic)
    error = failed(make(), spec(resource_group="made"))
    assert error.code == "NameTaken"
    assert "new-vm-nic" in error.message
    assert writes(emulator, before) == []
    assert everything(emulator) == there


# -- what can be chosen -------------------------------------------------------------------------------------------------


def test_what_can_be_chosen(make: Make, emulator: Emulator):
    azure = make(create_locations=["westeurope"], create_source_address="")
    first = azure.creation()
    assert [s.name for s in first.subscriptions] == ["Research", "Teaching", "Trial"]
    assert (first.allowed, first.subscription, first.sizes) == (True, None, ())
    found = azure.creation("West Europe", "Trial")
    assert found.location == "westeurope"
    assert [place.text for place in found.locations] == ["West Europe"]
    offers = {o.size.name: o for o in found.sizes}
    assert "free trial" in offers["Standard_NC4as_T4_v3"].reason
    assert offers["Standard_D2ds_v5"].available
    assert offers["Standard_D2ds_v5"].price is not None
    assert not offers["Standard_D8ds_v5"].available
    assert [o.available for o in found.sizes] == sorted((o.available for o in found.sizes), reverse=True)
    with pytest.raises(BadRequest):
        azure.creation("northeurope", "Trial")
    assert make(may_create=False).creation().allowed is False
