"""Deployments: a template's resources made one after the other, as Azure's Resource Manager does it.

A deployment is validated before anything of it exists (template, names, image, quota, what is offered), then accepted, and then
each resource is an operation of its own, whose outcome is in the deployment's list. The first that fails ends the deployment; what
was made before stays, as with the real one. A cancel ends the deployment at once, and a resource that is being made then is
made nevertheless. Lives on the emulator's event loop.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import made, shapes
from .described import described
from .estate import ADDRESS, DISK, INTERFACE, NSG, VM, VNET, Estate, Group, Resource
from .machines import Machine
from .made import Made
from .records import Operation, Record, utc
from .refusal import Refusal
from .template_language import Scope, evaluated, in_order, invalid
from .vm import BootError, VirtualMachine

if TYPE_CHECKING:
    from .arm import Arm

Json = dict[str, Any]

NewVM = Callable[[Machine, str, str, str], "VirtualMachine | None"]
"""Makes the machine behind a VM: machine, ``vmId``, the key that may log in, and the account."""

IMAGE_GIB = 150
NETWORK_KINDS = (NSG, VNET, ADDRESS, INTERFACE)


@dataclass
class Step:
    """One operation of a deployment."""

    resource_id: str
    resource: Json
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16].upper())
    tracking: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = ""
    """Empty until it has begun."""
    status: str = ""
    error: Json | None = None
    changed: datetime = field(default_factory=utc)


@dataclass
class Deployment:
    group: Group
    name: str
    steps: list[Step]
    template: Json
    parameters: Json
    mode: str
    state: str = "Accepted"
    error: Json | None = None
    status_id: str = field(default_factory=lambda: str(uuid.uuid4().int)[:20])
    correlation: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=utc)
    ended: datetime | None = None
    task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return f"{self.group.id}/providers/Microsoft.Resources/deployments/{self.name}"

    @property
    def over(self) -> bool:
        return self.ended is not None

    def end(self, state: str, error: Json | None = None) -> None:
        if self.ended is None:
            self.state, self.error, self.ended = state, error, utc()


class Deployments:
    def __init__(self, arm: Arm, estate: Estate) -> None:
        self.arm = arm
        self.estate = estate
        self.known: dict[str, Deployment] = {}
        self.new_vm: NewVM = lambda machine, vm_id, key, account: None
        """Set by whoever can make machines."""

    # -- requests -----------------------------------------------------------------------------------------------------

    def validated(self, subscription: str, group: str, name: str, asked: Any) -> Deployment:
        """What would be deployed. Raises what Azure answers where it cannot be."""
        where = self.estate.group(subscription, group)
        properties = asked.get("properties") if isinstance(asked, dict) else None
        if not isinstance(properties, dict):
            raise Refusal(400, "InvalidRequestContent", "The request content was invalid: 'properties' is missing.")
        if properties.get("mode") != "Incremental":
            raise invalid("The deployment mode is not one that is known here; it has to be 'Incremental'")
        owner = self.arm.known_subscription(subscription)
        if owner.state == "Disabled":
            raise Refusal(
                409,
                "ReadOnlyDisabledSubscription",
                f"The subscription '{owner.id}' is disabled and therefore marked as read only. You cannot perform any write "
                "actions on this subscription until it is re-enabled.",
            )
        scope = Scope(where.subscription, where.name)
        resources = evaluated(properties.get("template"), properties.get("parameters"), scope)
        steps = [Step(resource_id, resource) for resource_id, resource in in_order(resources, scope)]
        for step in steps:
            if step.resource["type"] not in (*NETWORK_KINDS, VM):
                raise invalid(f"The resource type '{step.resource['type']}' is not one that templates can have here")
        try:
            self._fault("request", name)
            for step in steps:
                if step.resource["type"] == VM:
                    self._check_vm(step, where, steps)
        except Refusal as refusal:
            code = "QuotaExceeded" if "exceeding approved" in refusal.message else refusal.code
            detail: Json = {"code": code, "message": refusal.message}
            if refusal.target:
                detail["target"] = refusal.target
            raise Refusal(
                400 if refusal.status != 429 else 429,
                "InvalidTemplateDeployment" if refusal.status != 429 else refusal.code,
                f"The template deployment '{name}' is not valid according to the validation procedure. The tracking id is "
                f"'{uuid.uuid4()}'. See inner errors for details.",
                details=[detail],
                retry_after=refusal.retry_after,
            ) from None
        return Deployment(where, name, steps, properties["template"], properties.get("parameters") or {}, "Incremental")

    def begin(self, deployment: Deployment) -> Deployment:
        running = self.known.get(deployment.id.lower())
        if running is not None and not running.over:
            raise Refusal(
                409,
                "DeploymentActive",
                f"Unable to edit or replace deployment '{deployment.name}': previous deployment from "
                f"'{shapes.moment(running.started)}' is still active (expiration time is later). Please see "
                "https://aka.ms/arm-deploy for usage details.",
            )
        self.known[deployment.id.lower()] = deployment
        deployment.task = asyncio.create_task(self._run(deployment))
        return deployment

    def find(self, subscription: str, group: str, name: str) -> Deployment:
        where = self.estate.group(subscription, group)
        try:
            return self.known[f"{where.id}/providers/Microsoft.Resources/deployments/{name}".lower()]
        except KeyError:
            raise Refusal(404, "DeploymentNotFound", f"Deployment '{name}' could not be found.") from None

    def cancel(self, deployment: Deployment) -> None:
        if deployment.over:
            raise Refusal(
                409,
                "DeploymentCannotBeCancelled",
                f"The deployment '{deployment.name}' cannot be cancelled because it is not active: its state is "
                f"'{deployment.state}'.",
            )
        deployment.end("Canceled")

    def forget(self, group: Group) -> None:
        """The group is gone, and what was deployed there with it."""
        self.known = {key: one for key, one in self.known.items() if one.group is not group}

    # -- validation ---------------------------------------------------------------------------------------------------

    def _fault(self, at: str, name: str) -> None:
        fault = self.arm.faults.take("deployment", at, name)
        if fault is not None:
            raise Refusal(fault.status, fault.code, self.arm.words(fault, None), retry_after=fault.retry_after)

    def _check_vm(self, step: Step, group: Group, steps: list[Step]) -> None:
        record = described(self.arm, step.resource, group)
        self.arm.raise_fault("vm", record)
        known = self.arm.by_id(record.id)
        if known is not None and not (known.made is not None and known.made.key == (record.made and record.made.key)):
            raise Refusal(
                409,
                "PropertyChangeNotAllowed",
                "Changing property 'linuxConfiguration.ssh.publicKeys' is not allowed.",
                target="linuxConfiguration.ssh.publicKeys",
            )
        assert record.made is not None
        interface = record.made.interface_id.lower()
        if interface not in {s.resource_id.lower() for s in steps} and self.estate.find(interface) is None:
            raise invalid(f"The resource '{record.made.interface_id}' is not defined in the template")
        if known is None:
            owner = self.arm.known_subscription(group.subscription)
            self.arm.offers.check_offered(record, owner, record.size)
            self.arm.offers.check_quota(self.arm.records, record, owner, record.size)

    # -- carrying it out ----------------------------------------------------------------------------------------------

    async def _run(self, deployment: Deployment) -> None:
        deployment.state = "Running"
        try:
            self._fault("operation", deployment.name)
            for step in deployment.steps:
                if deployment.over:
                    return
                step.state, step.changed = "Running", utc()
                making = asyncio.ensure_future(self._make(step, deployment))
                # Whoever cancels the deployment does not stop what its provider has begun.
                await asyncio.shield(making)
        except Refusal as refusal:
            self._failed(deployment, refusal)
        except BootError as error:
            self._failed(deployment, Refusal(409, "OSProvisioningTimedOut", str(error)))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(deployment, Refusal(500, "InternalServerError", f"{type(error).__name__}: {error}"))
        else:
            deployment.end("Succeeded")

    @staticmethod
    def _failed(deployment: Deployment, refusal: Refusal) -> None:
        error = shapes.error(refusal.code, refusal.message, refusal.target)
        for step in deployment.steps:
            if step.state == "Running":
                step.state, step.status, step.error, step.changed = "Failed", "Conflict", error, utc()
        deployment.end(
            "Failed",
            {
                "code": "DeploymentFailed",
                "message": "At least one resource deployment operation failed. Please list deployment operations for details. "
                "Please see https://aka.ms/arm-deployment-operations for usage details.",
                # As in Azure's answers: the resource's own error is JSON in the message.
                "details": [{"code": "Conflict", "message": json.dumps(error, indent=2).replace("\n", "\r\n")}],
            },
        )

    async def _make(self, step: Step, deployment: Deployment) -> None:
        existed = self.estate.find(step.resource_id) is not None
        if step.resource["type"] == VM:
            await self._make_vm(step, deployment)
        else:
            await asyncio.sleep(self.arm.timings.network)
            fault = self.arm.faults.take("network", "operation", self._vm_name(deployment))
            if fault is not None:
                raise Refusal(fault.status, fault.code, self.arm.words(fault, None))
            self._make_network(step)
        step.state, step.status, step.changed = "Succeeded", "OK" if existed else "Created", utc()

    @staticmethod
    def _vm_name(deployment: Deployment) -> str:
        return next((s.resource["name"] for s in deployment.steps if s.resource["type"] == VM), "*")

    def _make_network(self, step: Step) -> None:
        body = made.network_body(step.resource_id, step.resource)
        self.estate.add(Resource(step.resource_id, step.resource["type"], body))
        if step.resource["type"] == INTERFACE:
            configuration = body["properties"]["ipConfigurations"][0]
            address = self.estate.find(str((configuration["properties"].get("publicIPAddress") or {}).get("id", "")))
            if address is not None:
                address.body["properties"]["ipConfiguration"] = {"id": configuration["id"]}
            security = self.estate.find(str((body["properties"].get("networkSecurityGroup") or {}).get("id", "")))
            if security is not None:
                security.body["properties"]["networkInterfaces"] = [{"id": step.resource_id}]

    async def _make_vm(self, step: Step, deployment: Deployment) -> None:
        known = self.arm.by_id(step.resource_id)
        if known is not None:
            return  # as it is: a second deployment of the same template changes nothing
        found = described(self.arm, step.resource, deployment.group)
        assert found.made is not None
        interface = self.estate.find(found.made.interface_id)
        public = self._public(interface)
        machine = found.machine
        vm = self.new_vm(machine, found.vm_id, found.made.key, found.made.admin)
        record = Record(machine, found.vm_id, vm, Made(**{**vars(found.made), "address_id": public}))
        record.size = found.size
        record.power, record.provisioning, record.created = "starting", "Creating", utc()
        if vm is not None:
            vm.size = record.size
        self.arm.records.append(record)
        record.busy = Operation("create", record)
        gib = int(found.made.properties["storageProfile"]["osDisk"].get("diskSizeGB") or IMAGE_GIB)
        assert record.made is not None
        disk = made.disk_body(record.made, record.id, machine.location, shapes.moment(record.created), gib)
        self.estate.add(Resource(record.made.disk_id, DISK, disk))
        if interface is not None:
            interface.body["properties"]["virtualMachine"] = {"id": record.id}
        try:
            fault = self.arm.faults.take("vm", "operation", machine.name, record.size)
            no_room = self.arm.offers.place(record, record.size) if fault is None else None
            await asyncio.sleep(self.arm.timings.create)
            if fault is not None:
                raise Refusal(fault.status, fault.code, self.arm.words(fault, record))
            if no_room is not None:
                raise Refusal(409, no_room["code"], no_room["message"])
            if vm is not None and record in self.arm.records:
                await vm.boot()
        except (Refusal, BootError):
            record.power, record.provisioning, record.busy = "deallocated", "Failed", None
            until = asyncio.get_running_loop().time() + self.arm.timings.nic_reserved
            self.estate.reserved[record.nic_id.lower()] = (until, record.id)
            raise
        if record not in self.arm.records:  # deleted while it was being made
            if vm is not None:
                await vm.halt()
            return
        record.power, record.provisioning, record.busy = "running", "Succeeded", None
        self._show_addresses(record, interface)
        record.note()

    def _public(self, interface: Resource | None) -> str:
        if interface is None:
            return ""
        configuration = interface.body["properties"]["ipConfigurations"][0]["properties"]
        return str((configuration.get("publicIPAddress") or {}).get("id", ""))

    def _show_addresses(self, record: Record, interface: Resource | None) -> None:
        """There is but one network between the emulator and its VMs: the private address is the public one."""
        if interface is None or not record.host:
            return
        interface.body["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] = record.host
        address = self.estate.find(record.public_ip_id)
        if address is not None:
            address.body["properties"]["ipAddress"] = record.host

    async def close(self) -> None:
        """End what is under way."""
        tasks = [d.task for d in self.known.values()] + [t.task for t in self.estate.tasks.values()]
        running = [t for t in tasks if t is not None and not t.done()]
        for one in running:
            one.cancel()
        if running:
            await asyncio.wait(running)
