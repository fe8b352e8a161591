"""What is deleted through Azure's own requests: VMs with what goes with them, networks, disks, and whole resource groups."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .estate import Estate, Group, Resource, Task
from .records import Operation, Record
from .refusal import Refusal

if TYPE_CHECKING:
    from .arm import Arm


class Deletions:
    """Lives on the emulator's event loop."""

    def __init__(self, arm: Arm, estate: Estate) -> None:
        self.arm = arm
        self.estate = estate

    def delete_vm(self, record: Record) -> Operation:
        """Accept the deletion of a VM; what its template said goes with it does."""
        self.arm.raise_fault("delete", record)
        operation = Operation("delete", record)
        self.arm.operations[operation.id] = operation
        if record.busy is not None and record.busy.action == "delete":
            operation.end("Succeeded")
            return operation
        record.provisioning, record.busy = "Deleting", operation
        operation.task = asyncio.create_task(self._delete_vm(record, operation))
        return operation

    async def _delete_vm(self, record: Record, operation: Operation) -> None:
        await asyncio.sleep(self.arm.timings.delete)
        record.busy = None
        if record.allocated:
            self.arm.offers.give_back(record, record.size)
        await self.arm.remove(record)
        if record.made is not None:
            # Azure deletes what goes with the VM after it, interface before address.
            if record.made.deletes("interface"):
                interface = self.estate.find(record.nic_id)
                goes = interface is not None and self._address_goes(interface)
                if record.nic_id.lower() not in self.estate.reserved:
                    self.estate.remove(record.nic_id)
                    if goes:
                        self.estate.remove(record.public_ip_id)
            disk = self.estate.find(record.made.disk_id)
            if disk is not None:
                disk.body.pop("managedBy", None)
                disk.body["properties"]["diskState"] = "Unattached"
            if record.made.deletes("disk"):
                self.estate.remove(record.made.disk_id)
        operation.end("Succeeded")

    @staticmethod
    def _address_goes(interface: Resource) -> bool:
        configuration = interface.body["properties"]["ipConfigurations"][0]["properties"]
        address = configuration.get("publicIPAddress") or {}
        return str((address.get("properties") or {}).get("deleteOption")) == "Delete"

    def delete(self, resource: Resource) -> Task:
        """Accept the deletion of a network resource or a disk, or raise what Azure answers."""
        fault = self.arm.faults.take("delete", "request")
        if fault is not None:
            raise Refusal(fault.status, fault.code, self.arm.words(fault, None), retry_after=fault.retry_after)
        self.estate.check_unused(resource, self.arm.records)
        resource.deleting = True
        resource.body["properties"]["provisioningState"] = "Deleting"
        task = Task()
        self.estate.tasks[task.id] = task
        task.task = asyncio.create_task(self._delete(resource, task))
        return task

    async def _delete(self, resource: Resource, task: Task) -> None:
        await asyncio.sleep(self.arm.timings.delete / 4)
        self.estate.remove(resource.id)
        task.status = "Succeeded"

    def delete_group(self, group: Group) -> Task:
        task = Task()
        self.estate.tasks[task.id] = task
        task.task = asyncio.create_task(self._delete_group(group, task))
        return task

    async def _delete_group(self, group: Group, task: Task) -> None:
        await asyncio.sleep(self.arm.timings.delete)
        for record in [r for r in self.arm.records if r.group_id.lower() == group.id.lower()]:
            await self.arm.remove(record)
        for resource in self.estate.of_group(group):
            self.estate.remove(resource.id)
        self.arm.deployments.forget(group)
        self.estate.groups.pop(group.id.lower(), None)
        task.status = "Succeeded"
