"""What the provider remembers of a VM: where it is in Azure, and its row in the panel.

Three sources give it, each with its own shape: a row of the graph, the SDK's model from a list, and the same model
with its instance view. All end in ``VirtualMachine``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ...models import Compute, ComputeKind, PowerState
from .images import recognise
from .sizes import size

PREFIX = "azure:"

UNDER_WAY = frozenset({"creating", "updating", "deleting", "migrating"})
"""Provisioning states of a VM on which Azure works: the enum of its specification, less those that are ends."""

_VM_ID = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)
"""A UUID, in fact. It goes into addresses and file names, so nothing else may be in it."""


@dataclass(frozen=True)
class Hardware:
    """What of a VM decides which sizes it can have. Read from its own model; lists do not have all of it."""

    disk_controller: str = "SCSI"
    """``SCSI`` or ``NVMe``; a model that says nothing means the first."""
    disk_types: frozenset[str] = frozenset()
    """Storage account types of its disks, such as ``Premium_LRS``."""
    data_disks: int = 0
    ephemeral: bool = False
    """Its OS disk is on the host: it goes when the VM is deallocated, so Azure does not allow that."""
    interfaces: tuple[str, ...] = ()
    """Resource ids of its network interfaces."""
    security: str = ""
    """``TrustedLaunch``, ``ConfidentialVM``; empty for neither."""
    secure_boot: bool = False
    availability_set: bool = False
    spot: bool = False
    provisioning: str = ""
    """``Succeeded``, ``Updating``, ``Failed``: whether an operation is under way on it."""


@dataclass(frozen=True)
class VirtualMachine:
    """A DSVM as last seen."""

    compute: Compute
    vm_id: str
    """Lower-case. A VM that is deleted and made again under its name has another."""
    subscription: str
    group: str
    name: str
    admin: str | None = None
    """The account that was chosen when the VM was made."""
    interface: str | None = None
    """The resource id of its primary network interface."""
    public_ip: str | None = None
    private_ip: str | None = None
    """Addresses as the graph last knew them; ``ssh_target`` reads them fresh."""
    tenant: str = ""
    """The tenant whose sign-in shows it; empty for the one that the account itself is in."""
    generation: str | None = None
    """``V1`` or ``V2``, once the VM itself was read."""
    zones: tuple[str, ...] = ()
    may_hibernate: bool = False
    """Hibernation is switched on: when it is off, only its instance view says whether it is hibernated."""
    hardware: Hardware | None = None
    """None until its model was read."""
    read_at: float | None = None
    """When its state was last read from the VM itself, by ``time.monotonic``; None if only lists ever did."""

    def in_state(
        self,
        state: PowerState,
        *,
        updating: bool = False,
        hibernated: bool | None = None,
        unchanged_since: float | None = None,
    ) -> VirtualMachine:
        """The same VM, whose state was read just now. One that runs is not hibernated."""
        asleep = state is PowerState.DEALLOCATED and (self.compute.hibernated if hibernated is None else hibernated)
        compute = replace(
            self.compute, power_state=state, updating=updating, hibernated=asleep, unchanged_since=unchanged_since
        )
        return replace(self, compute=compute, read_at=time.monotonic())


def from_graph(row: Mapping[str, Any], tag: str) -> VirtualMachine | None:
    """A row of ``graph.query``; None if it is no DSVM, or if it has no ``vmId`` to know it by."""
    return _machine(
        resource_id=str(row.get("id") or ""),
        vm_id=row.get("vmId"),
        may_hibernate=str(row.get("hibernation")).lower() == "true",
        location=row.get("location"),
        image=row.get("image"),
        plan=row.get("plan"),
        tags=row.get("tags"),
        os_type=row.get("osType"),
        size_name=row.get("size"),
        state=PowerState.from_azure(_text(row.get("powerState"))),
        tag=tag,
        gallery=row.get("gallery"),
        purchase_plan=row.get("purchasePlan"),
        public_ip=_text(row.get("publicIp")),
        private_ip=_text(row.get("privateIp")),
        updating=under_way(row.get("provisioningState")),
    )


def from_model(
    model: Mapping[str, Any],
    tag: str,
    state: PowerState | None = None,
    gallery_image: Mapping[str, Any] | None = None,
    hibernated: bool | None = None,
) -> VirtualMachine | None:
    """The SDK's ``VirtualMachine.as_dict()``; ``state`` and ``hibernated`` where they came from elsewhere, and the
    properties of the gallery image it was made from, if it was. None as in ``from_graph``."""
    properties = model.get("properties") or {}
    storage = properties.get("storageProfile") or {}
    interfaces = (properties.get("networkProfile") or {}).get("networkInterfaces") or []
    primary = next((i for i in interfaces if (i.get("properties") or {}).get("primary")), None)
    interface = primary or (interfaces[0] if interfaces else {})
    view = properties.get("instanceView")
    return _machine(
        resource_id=str(model.get("id") or ""),
        vm_id=properties.get("vmId"),
        hibernated=is_hibernated(view) if hibernated is None else hibernated,
        location=model.get("location"),
        image=storage.get("imageReference"),
        plan=model.get("plan"),
        tags=model.get("tags"),
        os_type=(storage.get("osDisk") or {}).get("osType"),
        size_name=(properties.get("hardwareProfile") or {}).get("vmSize"),
        state=power_state(view) if state is None else state,
        updating=under_way(properties.get("provisioningState")),
        tag=tag,
        gallery=(gallery_image or {}).get("identifier"),
        purchase_plan=(gallery_image or {}).get("purchasePlan"),
        admin=(properties.get("osProfile") or {}).get("adminUsername"),
        interface=interface.get("id"),
        generation=(properties.get("instanceView") or {}).get("hyperVGeneration"),
        zones=tuple(str(zone) for zone in model.get("zones") or ()),
        may_hibernate=(properties.get("additionalCapabilities") or {}).get("hibernationEnabled") is True,
        hardware=hardware(model),
    )


def reread(known: VirtualMachine, model: Mapping[str, Any]) -> VirtualMachine:
    """A VM that would not be listed any more (its tag was taken away), as its model has it now."""
    size_name = ((model.get("properties") or {}).get("hardwareProfile") or {}).get("vmSize")
    compute = replace(
        known.compute, size=size(str(size_name)) if size_name else known.compute.size, tags=texts(model.get("tags"))
    )
    return replace(known, compute=compute, hardware=hardware(model))


def hardware(model: Mapping[str, Any]) -> Hardware:
    """From the SDK's ``VirtualMachine.as_dict()``."""
    properties = model.get("properties") or {}
    storage = properties.get("storageProfile") or {}
    os_disk, data_disks = storage.get("osDisk") or {}, storage.get("dataDisks") or []
    security = properties.get("securityProfile") or {}
    kinds = (str((disk.get("managedDisk") or {}).get("storageAccountType") or "") for disk in (os_disk, *data_disks))
    interfaces = (properties.get("networkProfile") or {}).get("networkInterfaces") or []
    return Hardware(
        disk_controller="NVMe" if str(storage.get("diskControllerType")).lower() == "nvme" else "SCSI",
        disk_types=frozenset(filter(None, kinds)),
        data_disks=len(data_disks),
        ephemeral=str((os_disk.get("diffDiskSettings") or {}).get("option")).lower() == "local",
        interfaces=tuple(str(one["id"]) for one in interfaces if one.get("id")),
        security={"trustedlaunch": "TrustedLaunch", "confidentialvm": "ConfidentialVM"}.get(
            str(security.get("securityType")).lower(), ""
        ),
        secure_boot=(security.get("uefiSettings") or {}).get("secureBootEnabled") is True,
        availability_set=bool((properties.get("availabilitySet") or {}).get("id")),
        spot=str(properties.get("priority")).lower() in ("spot", "low"),
        provisioning=str(properties.get("provisioningState") or ""),
    )


def is_hibernated(instance_view: Mapping[str, Any] | None) -> bool:
    """It is deallocated as well, says its power state."""
    return any(
        str(status.get("code")).lower() == "hibernationstate/hibernated"
        for status in (instance_view or {}).get("statuses") or ()
    )


def power_state(instance_view: Mapping[str, Any] | None) -> PowerState:
    """From an instance view's statuses, which hold provisioning states too."""
    return PowerState.from_azure(_status(instance_view, "powerstate/"))


def under_way(provisioning: Any) -> bool:
    """Whether a provisioning state (``Updating``, ``ProvisioningState/updating``) is that of an operation which has not ended."""
    return str(provisioning or "").rpartition("/")[2].lower() in UNDER_WAY


def is_updating(instance_view: Mapping[str, Any] | None) -> bool:
    return under_way(_status(instance_view, "provisioningstate/"))


def unchanged_since(instance_view: Mapping[str, Any] | None) -> float | None:
    """When the last operation on the VM has ended: the time of its provisioning state, which every start and stop writes anew, as
    do updates of other kinds. Its power state has none. None while an operation is under way."""
    if is_updating(instance_view):
        return None
    said = _row(instance_view, "provisioningstate/").get("time")
    # Seven digits of a second's fraction, of which Python 3.10 reads six at most: they do not matter here.
    text = re.sub(r"\.\d+", "", str(said or "")).replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def _status(instance_view: Mapping[str, Any] | None, prefix: str) -> str | None:
    code = _row(instance_view, prefix).get("code")
    return None if code is None else str(code)


def _row(instance_view: Mapping[str, Any] | None, prefix: str) -> Mapping[str, Any]:
    rows = (instance_view or {}).get("statuses") or ()
    return next((row for row in rows if str(row.get("code") or "").lower().startswith(prefix)), {})


def segments(resource_id: str) -> dict[str, str]:
    """``subscriptions``, ``resourcegroups`` and so on of a resource id, keys lower-case: their case differs between APIs."""
    parts = resource_id.strip("/").split("/")
    return {key.lower(): value for key, value in zip(parts[::2], parts[1::2], strict=False)}


def _machine(
    *,
    resource_id: str,
    vm_id: Any,
    location: Any,
    image: Any,
    plan: Any,
    tags: Any,
    os_type: Any,
    size_name: Any,
    state: PowerState,
    tag: str,
    hibernated: bool = False,
    gallery: Any = None,
    purchase_plan: Any = None,
    updating: bool = False,
    **extra: Any,
) -> VirtualMachine | None:
    where = segments(resource_id)
    try:
        subscription, group, name = where["subscriptions"], where["resourcegroups"], where["virtualmachines"]
    except KeyError:
        return None
    known = recognise(image, plan, tags, os_type=os_type, tag=tag, gallery=gallery, purchase_plan=purchase_plan)
    vm_id = str(vm_id or "").lower()
    if known is None or not _VM_ID.fullmatch(vm_id):
        return None
    compute = Compute(
        id=PREFIX + vm_id,
        name=name,
        kind=ComputeKind.DSVM,
        power_state=state,
        hibernated=hibernated and state is PowerState.DEALLOCATED,
        os=known.os,
        location=_text(location),
        subscription=subscription,
        resource_group=group,
        image=known.image,
        size=size(str(size_name)) if size_name else None,
        updating=updating,
        tags=texts(tags),
        image_version=_text((image if isinstance(image, Mapping) else {}).get("exactVersion")),
    )
    return VirtualMachine(compute, vm_id, subscription, group, name, **extra)


def texts(tags: Any) -> dict[str, str]:
    """A VM's tags, of which nobody has promised what they look like."""
    return {str(key): str(value) for key, value in tags.items()} if isinstance(tags, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def may_be_asleep(listed: VirtualMachine, before: VirtualMachine | None) -> bool:
    """Off, and hibernated perhaps, which the graph does not say; once the VM itself was read, ``merged`` knows."""
    return (
        listed.may_hibernate
        and listed.compute.power_state is PowerState.DEALLOCATED
        and not listed.compute.hibernated
        and (before is None or before.read_at is None or before.compute.power_state is not listed.compute.power_state)
    )


def merged(new: VirtualMachine, old: VirtualMachine | None) -> VirtualMachine:
    """``new``, with what only ``old`` says: a row of the graph knows less than the VM itself."""
    if old is None:
        return new
    asleep = new.compute.hibernated or (
        new.hardware is None  # from the graph
        and old.compute.hibernated
        and new.compute.power_state is PowerState.DEALLOCATED
    )
    return replace(
        new,
        compute=replace(new.compute, hibernated=asleep),
        hardware=new.hardware or old.hardware,
        admin=new.admin or old.admin,
        interface=new.interface or old.interface,
        public_ip=new.public_ip or old.public_ip,
        private_ip=new.private_ip or old.private_ip,
        generation=new.generation or old.generation,
        zones=new.zones or old.zones,
        tenant=new.tenant or old.tenant,
        read_at=new.read_at or old.read_at,
    )
