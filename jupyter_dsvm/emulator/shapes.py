"""Azure's JSON: what a VM, its instance view, its network and an error look like. Pure functions of ``arm.Record``.

The shapes follow Azure's own compute specification and recordings of real traffic; times have seven digits of a second,
as CRP writes them.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from . import made
from .machines import SIZES, Subscription, Tenant

if TYPE_CHECKING:
    from .records import Operation, Record

Json = dict[str, Any]


def moment(when: datetime) -> str:
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")


def error(code: str, message: str, target: str | None = None, details: list[Json] | None = None) -> Json:
    body: Json = {"code": code, "message": message}
    if target:
        body["target"] = target
    if details:
        body["details"] = details
    return {"error": body}


def subscription(one: Subscription) -> Json:
    return {
        "id": f"/subscriptions/{one.id}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": one.id,
        "tenantId": one.tenant,
        "displayName": one.name,
        "state": one.state,
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": one.quota_id,
            "spendingLimit": "On" if one.free else "Off",
        },
    }


def tenant(one: Tenant) -> Json:
    return {
        "id": f"/tenants/{one.id}",
        "tenantId": one.id,
        "countryCode": "NL",
        "displayName": one.name,
        "domains": [one.domain],
        "tenantCategory": "Home",
    }


def image_reference(record: Record) -> Json:
    machine = record.machine
    if record.gallery_image_id is not None:
        return {"id": f"{record.gallery_image_id}/versions/1.0.0", "exactVersion": "1.0.0"}
    publisher, offer, sku = machine.image
    return {
        "publisher": publisher,
        "offer": offer,
        "sku": sku,
        "version": "latest",
        "exactVersion": machine.exact_version,
    }


def gallery_image(record: Record) -> Json:
    publisher, offer, sku = record.machine.gallery_image or ("", "", "")
    return {
        "id": record.gallery_image_id,
        "name": f"{record.machine.name}-image",
        "type": "Microsoft.Compute/galleries/images",
        "location": record.machine.location,
        "properties": {
            "osType": record.machine.os,
            "osState": "Generalized",
            "hyperVGeneration": record.machine.generation,
            "identifier": {"publisher": publisher, "offer": offer, "sku": sku},
            "provisioningState": "Succeeded",
        },
    }


def virtual_machine(record: Record, instance: bool = False) -> Json:
    machine = record.machine
    linux = machine.os == "Linux"
    os_profile: Json = {
        "computerName": machine.name,
        "adminUsername": "azureuser",
        "secrets": [],
        "allowExtensionOperations": True,
        "requireGuestProvisionSignal": True,
    }
    if linux:
        os_profile["linuxConfiguration"] = {
            "disablePasswordAuthentication": True,
            "provisionVMAgent": True,
            "patchSettings": {"patchMode": "ImageDefault", "assessmentMode": "ImageDefault"},
        }
    else:
        os_profile["windowsConfiguration"] = {
            "provisionVMAgent": True,
            "enableAutomaticUpdates": True,
            "patchSettings": {"patchMode": "AutomaticByOS"},
        }
    disk_name = record.disk_name
    body: Json = {
        "name": machine.name,
        "id": record.id,
        "type": "Microsoft.Compute/virtualMachines",
        "location": machine.location,
        "properties": {
            "vmId": record.vm_id,
            "hardwareProfile": {"vmSize": record.size},
            "storageProfile": {
                "imageReference": image_reference(record),
                "osDisk": {
                    "osType": machine.os,
                    "name": disk_name,
                    "createOption": "FromImage",
                    "caching": "ReadWrite",
                    "managedDisk": {
                        "storageAccountType": machine.os_disk,
                        "id": f"{record.group_id}/providers/Microsoft.Compute/disks/{disk_name}",
                    },
                    "diskSizeGB": 150,
                },
                "dataDisks": [_data_disk(record, lun) for lun in range(machine.data_disks)],
            },
            "osProfile": os_profile,
            "networkProfile": {
                "networkInterfaces": [
                    {"id": f"{record.nic_id}{n or ''}", "properties": {"primary": n == 0}}
                    for n in range(machine.interfaces)
                ]
            },
            "provisioningState": record.provisioning,
            "timeCreated": moment(record.created),
        },
    }
    properties = body["properties"]
    if machine.ephemeral:
        properties["storageProfile"]["osDisk"]["diffDiskSettings"] = {"option": "Local", "placement": "CacheDisk"}
    if machine.disk_controller != "SCSI":
        properties["storageProfile"]["diskControllerType"] = machine.disk_controller
    if machine.security:
        properties["securityProfile"] = {
            "securityType": machine.security,
            "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
        }
    if machine.hibernation:
        properties["additionalCapabilities"] = {"hibernationEnabled": True}
    if machine.tags:
        body["tags"] = dict(machine.tags)
    if machine.plan is not None:
        body["plan"] = plan(machine.plan)
    if machine.zones:
        body["zones"] = list(machine.zones)
    if record.made is not None:
        made.apply(body, record.made, image_reference(record))
    if instance:
        body["properties"]["instanceView"] = instance_view(record)
    return body


def _data_disk(record: Record, lun: int) -> Json:
    name = f"{record.machine.name}_data{lun}"
    return {
        "lun": lun,
        "name": name,
        "createOption": "Attach",
        "caching": "None",
        "managedDisk": {
            "storageAccountType": record.machine.os_disk,
            "id": f"{record.group_id}/providers/Microsoft.Compute/disks/{name}",
        },
        "diskSizeGB": 128,
    }


def plan(given: tuple[str, str, str]) -> Json:
    return dict(zip(("publisher", "product", "name"), given, strict=True))


def statuses(record: Record) -> list[Json]:
    busy = record.provisioning in ("Updating", "Creating", "Deleting")
    provisioning = record.provisioning if busy else "Provisioning succeeded"
    word = record.provisioning.lower()
    rows: list[Json] = [
        {
            "code": f"ProvisioningState/{word}",
            "level": "Info",
            "displayStatus": provisioning if word != "failed" else "Provisioning failed",
            "time": moment(record.changed),
        },
        {"code": f"PowerState/{record.power}", "level": "Info", "displayStatus": f"VM {record.power}"},
    ]
    if record.hibernated:
        rows.append({"code": "HibernationState/Hibernated", "level": "Info", "displayStatus": "VM hibernated"})
    return rows


def instance_view(record: Record) -> Json:
    """Without agent and host name unless the VM runs, as CRP answers."""
    body: Json = {
        "disks": [
            {
                "name": virtual_machine(record)["properties"]["storageProfile"]["osDisk"]["name"],
                "statuses": statuses(record)[:1],
            }
        ],
        "hyperVGeneration": record.machine.generation,
        "statuses": statuses(record),
    }
    if record.power == "running":
        linux = record.machine.os == "Linux"
        body |= {
            "computerName": record.machine.name,
            "osName": "ubuntu" if linux else "Windows Server 2022 Datacenter",
            "osVersion": "22.04" if linux else "10.0.20348.3692",
            "vmAgent": {
                "vmAgentVersion": "2.14.0.1" if linux else "2.7.41491.1172",
                "statuses": [
                    {
                        "code": "ProvisioningState/succeeded",
                        "level": "Info",
                        "displayStatus": "Ready",
                        "message": "Guest Agent is running",
                        "time": moment(record.changed),
                    }
                ],
                "extensionHandlers": [],
            },
        }
    return body


def status_only(record: Record) -> Json:
    """A row of a list with ``statusOnly=true``: the instance view, and little else."""
    full = virtual_machine(record)
    keep = {"vmId": record.vm_id, "provisioningState": record.provisioning, "instanceView": instance_view(record)}
    return {k: full[k] for k in ("name", "id", "type", "location")} | {"properties": keep}


def operation(one: Operation) -> Json:
    body: Json = {"startTime": moment(one.started), "status": one.status, "name": one.id}
    if one.ended is not None:
        body["endTime"] = moment(one.ended)
    if one.error is not None:
        body["error"] = one.error
    if one.output is not None:
        body["properties"] = {"output": one.output}
    return body


def network_interface(record: Record) -> Json:
    """The private address is the public one here: there is but one network, between the emulator and the VM."""
    address: Json = {"privateIPAddress": record.host} if record.host else {}
    configuration = {
        "name": "ipconfig1",
        "id": f"{record.nic_id}/ipConfigurations/ipconfig1",
        "type": "Microsoft.Network/networkInterfaces/ipConfigurations",
        "properties": {
            "provisioningState": "Succeeded",
            **address,
            "privateIPAllocationMethod": "Dynamic",
            "privateIPAddressVersion": "IPv4",
            "primary": True,
            "publicIPAddress": {"id": record.public_ip_id},
        },
    }
    return {
        "name": f"{record.machine.name}-nic",
        "id": record.nic_id,
        "type": "Microsoft.Network/networkInterfaces",
        "location": record.machine.location,
        "properties": {
            "provisioningState": "Succeeded",
            "ipConfigurations": [configuration],
            "primary": True,
            "enableAcceleratedNetworking": record.machine.accelerated_networking,
            "virtualMachine": {"id": record.id},
        },
    }


def public_ip_address(record: Record) -> Json:
    """Dynamic: a deallocated VM's has no ``ipAddress``."""
    address: Json = {"ipAddress": record.host} if record.host else {}
    return {
        "name": f"{record.machine.name}-ip",
        "id": record.public_ip_id,
        "type": "Microsoft.Network/publicIPAddresses",
        "location": record.machine.location,
        "sku": {"name": "Basic", "tier": "Regional"},
        "properties": {
            "provisioningState": "Succeeded",
            **address,
            "publicIPAddressVersion": "IPv4",
            "publicIPAllocationMethod": "Dynamic",
            "idleTimeoutInMinutes": 4,
            "ipConfiguration": {"id": f"{record.nic_id}/ipConfigurations/ipconfig1"},
        },
    }


def vm_sizes(record: Record) -> Json:
    """Those that it can be changed to: of the region once it is released, otherwise of the hardware it is on."""
    rows = [
        {
            "name": name,
            "numberOfCores": size.vcpus,
            "osDiskSizeInMB": 1047552,
            "resourceDiskSizeInMB": size.temporary_disk_gib * 1024,
            "memoryInMB": size.memory_gib * 1024,
            "maxDataDiskCount": size.data_disks,
        }
        for name, size in SIZES.items()
        if record.machine.generation in size.generations
        and (not record.allocated or size.cluster == SIZES[record.size].cluster)
    ]
    return {"value": rows}
