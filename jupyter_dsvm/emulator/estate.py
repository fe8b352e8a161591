"""What the emulated Azure holds beside VMs: resource groups, and the network and disks of VMs that were made in a deployment.

A resource is its body, as a GET shows it. What uses what is in those bodies, as it is in Azure's, and what is used cannot be
deleted. The VMs of the beginning have their interface, address and disk in their own record (``shapes``); ``inventory`` shows all.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .records import Record, utc
from .refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

NSG, VNET, ADDRESS, INTERFACE, VM, DISK = (
    "Microsoft.Network/networkSecurityGroups",
    "Microsoft.Network/virtualNetworks",
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Compute/disks",
)
KINDS = {kind.rsplit("/", 1)[-1].lower(): kind for kind in (NSG, VNET, ADDRESS, INTERFACE, DISK)}


@dataclass
class Group:
    subscription: str
    name: str
    location: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.name}"

    def body(self) -> Json:
        found: Json = {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self.location,
            "properties": {"provisioningState": "Succeeded"},
        }
        return found | ({"tags": dict(self.tags)} if self.tags else {})


@dataclass
class Resource:
    id: str
    kind: str
    body: Json
    """As a GET shows it."""
    deleting: bool = False


@dataclass
class Task:
    """A long-running operation of the network or of disks."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    error: Json | None = None
    started: datetime = field(default_factory=utc)
    task: asyncio.Task[None] | None = None

    def body(self) -> Json:
        return {"name": self.id, "status": self.status} | ({"error": self.error} if self.error else {})


class Estate:
    def __init__(self, records: Iterable[Record]) -> None:
        self.groups: dict[str, Group] = {}
        self.resources: dict[str, Resource] = {}
        self.tasks: dict[str, Task] = {}
        self.reserved: dict[str, tuple[float, str]] = {}
        """By the id of an interface: until when it is kept for a VM that failed, and that VM's id."""
        for record in records:
            machine = record.machine
            self.groups.setdefault(
                record.group_id.lower(), Group(machine.subscription, machine.resource_group, machine.location)
            )

    # -- groups -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _group_id(subscription: str, group: str) -> str:
        return f"/subscriptions/{subscription}/resourceGroups/{group}".lower()

    def has_group(self, subscription: str, group: str) -> bool:
        return self._group_id(subscription, group) in self.groups

    def group(self, subscription: str, group: str) -> Group:
        try:
            return self.groups[self._group_id(subscription, group)]
        except KeyError:
            raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.") from None

    def put_group(self, subscription: str, name: str, location: str, tags: dict[str, str]) -> tuple[Group, bool]:
        """The group, and whether it is new."""
        key = self._group_id(subscription, name)
        known = self.groups.get(key)
        if known is None:
            known = self.groups[key] = Group(subscription, name, location, tags)
            return known, True
        if known.location.lower() != location.lower():
            raise Refusal(
                409,
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{location}'. The Resource group already exists in location '{known.location}'.",
            )
        known.tags = tags
        return known, False

    # -- resources ----------------------------------------------------------------------------------------------------

    def find(self, resource_id: str) -> Resource | None:
        return self.resources.get(resource_id.lower())

    def add(self, resource: Resource) -> None:
        self.resources[resource.id.lower()] = resource

    def of_group(self, group: Group) -> Iterator[Resource]:
        for resource in list(self.resources.values()):
            if resource.id.lower().startswith(group.id.lower() + "/"):
                yield resource

    def check_unused(self, resource: Resource, records: Iterable[Record]) -> None:
        """Raise what Azure answers to the deletion of what something else uses. Texts from recorded answers."""
        users = [r for r in self.resources.values() if not r.deleting]
        if resource.kind == INTERFACE:
            until, vm = self.reserved.get(resource.id.lower(), (0.0, ""))
            for record in records:
                if record.nic_id.lower() == resource.id.lower():
                    raise Refusal(
                        400,
                        "NicInUse",
                        f"Network Interface {resource.id} is used by existing resource {record.id}. In order to delete the "
                        "network interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.",
                    )
            if until > asyncio.get_running_loop().time():
                raise Refusal(
                    400,
                    "NicReservedForAnotherVm",
                    "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or "
                    f"retry after 180 seconds. Reserved VM: {vm}",
                )
        elif resource.kind == DISK:
            for record in records:
                if record.made is not None and record.made.disk_id.lower() == resource.id.lower():
                    raise Refusal(
                        409,
                        "OperationNotAllowed",
                        f"Disk {resource.id.rsplit('/', 1)[-1]} is attached to VM {record.id}.",
                    )
        for user in users:
            if user.kind == INTERFACE:
                self._check_interface(resource, user)

    @staticmethod
    def _check_interface(resource: Resource, user: Resource) -> None:
        configuration = user.body["properties"]["ipConfigurations"][0]
        properties = configuration["properties"]
        name = resource.id.rsplit("/", 1)[-1]
        address = str((properties.get("publicIPAddress") or {}).get("id", "")).lower()
        security = str((user.body["properties"].get("networkSecurityGroup") or {}).get("id", "")).lower()
        subnet = str((properties.get("subnet") or {}).get("id", "")).lower()
        if resource.kind == ADDRESS and address == resource.id.lower():
            raise Refusal(
                400,
                "PublicIPAddressCannotBeDeleted",
                f"Public IP address {resource.id} can not be deleted since it is still allocated to resource "
                f"{configuration['id']}. In order to delete the public IP, disassociate/detach the Public IP address from the "
                "resource.  To learn how to do this, see aka.ms/deletepublicip.",
            )
        if resource.kind == NSG and security == resource.id.lower():
            raise Refusal(
                400,
                "InUseNetworkSecurityGroupCannotBeDeleted",
                f"Network security group {resource.id} cannot be deleted because it is in use by the following resources: "
                f"{user.id}. In order to delete the Network security group, remove the association with the resource(s). To "
                "learn how to do this, see aka.ms/deletensg.",
            )
        if resource.kind == VNET and subnet.startswith(resource.id.lower() + "/subnets/"):
            raise Refusal(
                400,
                "InUseSubnetCannotBeDeleted",
                f"Subnet {subnet.rsplit('/', 1)[-1]} is in use by {configuration['id']} and cannot be deleted. In order to delete "
                f"the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet. ({name})",
            )

    def remove(self, resource_id: str) -> None:
        gone = self.resources.pop(resource_id.lower(), None)
        if gone is None:
            return
        for other in self.resources.values():
            # What pointed back at it does no longer.
            if gone.kind == INTERFACE and other.kind == ADDRESS:
                held = str((other.body["properties"].get("ipConfiguration") or {}).get("id", "")).lower()
                if held.startswith(gone.id.lower() + "/"):
                    other.body["properties"].pop("ipConfiguration", None)
            if gone.kind == INTERFACE and other.kind == NSG:
                other.body["properties"].pop("networkInterfaces", None)

    # -- everything ---------------------------------------------------------------------------------------------------

    def inventory(self, group: Group, records: Iterable[Record]) -> list[Json]:
        """As ``GET …/resources`` lists a group: VMs, and all that there is beside them."""
        rows = []
        for record in records:
            if record.group_id.lower() == group.id.lower():
                rows.append(_row(record.id, VM, record.machine.location, record.machine.tags))
                if record.made is None:
                    disk = f"{record.group_id}/providers/{DISK}/{record.disk_name}"
                    for one, kind in ((record.nic_id, INTERFACE), (record.public_ip_id, ADDRESS), (disk, DISK)):
                        rows.append(_row(one, kind, record.machine.location, {}))
        for resource in self.of_group(group):
            rows.append(_row(resource.id, resource.kind, resource.body["location"], resource.body.get("tags") or {}))
        return sorted(rows, key=lambda row: str(row["id"]).lower())


def _row(resource_id: str, kind: str, location: str, tags: dict[str, str]) -> Json:
    row: Json = {"id": resource_id, "name": resource_id.rsplit("/", 1)[-1], "type": kind, "location": location}
    return row | ({"tags": dict(tags)} if tags else {})
