"""What the provider remembers of a VM: where it is in Azure, and its row in the panel.

Three sources give it, each with its own shape: a row of the graph, the SDK's model from a list, and the same model
with its instance view. All end in ``VirtualMachine``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...models import Compute, ComputeKind, PowerState
from .images import recognise
from .sizes import size

PREFIX = "azure:"


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
    read_at: float | None = None
    """When its state was last read from the VM itself, by ``time.monotonic``; None if only a list said so."""

    def in_state(self, state: PowerState) -> VirtualMachine:
        """The same VM, whose state was read just now."""
        return replace(self, compute=replace(self.compute, power_state=state), read_at=time.monotonic())


def from_graph(row: Mapping[str, Any], tag: str) -> VirtualMachine | None:
    """A row of ``graph.query``; None if it is no DSVM, or if it has no ``vmId`` to know it by."""
    return _machine(
        resource_id=str(row.get("id") or ""),
        vm_id=row.get("vmId"),
        location=row.get("location"),
        image=row.get("image"),
        plan=row.get("plan"),
        tags=row.get("tags"),
        os_type=row.get("osType"),
        size_name=row.get("size"),
        state=PowerState.from_azure(row.get("powerState")),
        tag=tag,
        public_ip=row.get("publicIp") or None,
        private_ip=row.get("privateIp") or None,
    )


def from_model(model: Mapping[str, Any], tag: str, state: PowerState | None = None) -> VirtualMachine | None:
    """The SDK's ``VirtualMachine.as_dict()``; ``state`` where it came from elsewhere. None as in ``from_graph``."""
    properties = model.get("properties") or {}
    storage = properties.get("storageProfile") or {}
    interfaces = (properties.get("networkProfile") or {}).get("networkInterfaces") or []
    primary = next((i for i in interfaces if (i.get("properties") or {}).get("primary")), None)
    interface = primary or (interfaces[0] if interfaces else {})
    return _machine(
        resource_id=str(model.get("id") or ""),
        vm_id=properties.get("vmId"),
        location=model.get("location"),
        image=storage.get("imageReference"),
        plan=model.get("plan"),
        tags=model.get("tags"),
        os_type=(storage.get("osDisk") or {}).get("osType"),
        size_name=(properties.get("hardwareProfile") or {}).get("vmSize"),
        state=power_state(properties.get("instanceView")) if state is None else state,
        tag=tag,
        admin=(properties.get("osProfile") or {}).get("adminUsername"),
        interface=interface.get("id"),
    )


def power_state(instance_view: Mapping[str, Any] | None) -> PowerState:
    """From an instance view's statuses, which hold provisioning states too."""
    for status in (instance_view or {}).get("statuses") or ():
        code = str(status.get("code") or "")
        if code.lower().startswith("powerstate/"):
            return PowerState.from_azure(code)
    return PowerState.UNKNOWN


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
    **extra: Any,
) -> VirtualMachine | None:
    where = segments(resource_id)
    try:
        subscription, group, name = where["subscriptions"], where["resourcegroups"], where["virtualmachines"]
    except KeyError:
        return None
    known = recognise(image, plan, tags, os_type=os_type, tag=tag)
    if known is None or not vm_id:
        return None
    vm_id = str(vm_id).lower()
    compute = Compute(
        id=PREFIX + vm_id,
        name=name,
        kind=ComputeKind.DSVM,
        power_state=state,
        os=known.os,
        location=location,
        subscription=subscription,
        resource_group=group,
        image=known.image,
        size=size(str(size_name)) if size_name else None,
    )
    return VirtualMachine(compute, vm_id, subscription, group, name, **extra)
