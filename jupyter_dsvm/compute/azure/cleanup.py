"""Deletes what a deployment of ours has made and could not finish: exactly that, each confirmed, and what is left is named.

Called by ``create`` when a deployment has failed or was cancelled, and again by the next server if this one is killed meanwhile.
A resource is deleted only if its id was free before the deployment (the caller knows), if the deployment's own list says that it
made it, and if it carries the deployment's tag. What cannot be deleted costs money, so it is said with its id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import ComputeError, Throttled
from . import template
from .errors import NOT_THERE, fault_of
from .preflight import DEPLOYMENT_TAG, RESOURCES_API, group_path, is_there

if TYPE_CHECKING:
    from .client import ArmClient

ORDER = (template.VM, template.INTERFACE, template.ADDRESS, template.NSG, template.VNET, template.DISK)
"""Each only once nothing uses it any more: the VM holds its interface and its disk, the interface all of the network."""

IN_USE = frozenset(
    c.lower()
    for c in (
        "NicInUse", "NicReservedForAnotherVm", "PublicIPAddressCannotBeDeleted", "InUseNetworkSecurityGroupCannotBeDeleted",
        "InUseSubnetCannotBeDeleted", "AnotherOperationInProgress", "OperationNotAllowed", "Conflict", "RetryableError",
        "CanceledAndSupersededDueToAnotherOperation",
    )
)  # fmt: skip
"""Azure's refusals to delete that pass by themselves: an interface stays reserved for a VM that failed for 180 s
(https://github.com/Azure/karpenter-provider-azure/issues/92), and lists of what is in use lag behind."""

PATIENCE = 420.0
"""Seconds for one resource: the reservation, and the deletion itself."""

REPEAT = 30.0
"""Seconds after which a deletion that was accepted and has not come true is asked for again."""

WORDS = {
    template.VM: "the VM", template.INTERFACE: "the network interface", template.ADDRESS: "the public address",
    template.NSG: "the rules for the network", template.VNET: "the network", template.DISK: "the disk",
}  # fmt: skip


@dataclass
class Left:
    """What could not be deleted: id and why."""

    ids: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self) -> str:
        """Empty if nothing is left."""
        if not self.ids:
            return ""
        listed = "; ".join(f"{one} ({why})" for one, why in self.ids)
        return f"These could not be deleted and may be billed: {listed}"


@dataclass(frozen=True)
class Cleaner:
    """Deletes for one deployment. ``report`` is called with a sentence for each thing."""

    client: ArmClient
    deployment: str
    """Its name, which is the value of the tag."""
    interval: float
    report: Callable[[str, float | None], None]
    patience: float = PATIENCE

    def delete(self, ids: Mapping[str, str]) -> Left:
        """``ids`` by kind. Blocks for minutes; does not stop for anything, since what is left over is billed."""
        left = Left()
        kinds = [kind for kind in ORDER if kind in ids]
        for number, kind in enumerate(kinds):
            self.report(f"Deleting {WORDS[kind]} ({number + 1} of {len(kinds)})", number / len(kinds))
            why = self._delete(kind, ids[kind], ids.get(template.VM, ""))
            if why:
                left.ids.append((ids[kind], why))
        return left

    def is_there(self, kind: str, resource_id: str) -> bool:
        """Whether it is, as far as Azure says so."""
        try:
            return is_there(self.client, resource_id, template.APIS[kind]) is not None
        except ComputeError:
            return False

    def delete_group(self, subscription: str, group: str) -> str:
        """A resource group that we made, if nothing is in it. Why it is left, or empty."""
        path = group_path(subscription, group)
        try:
            found = is_there(self.client, path, RESOURCES_API)
            if found is None:
                return ""
            if (found.get("tags") or {}).get(DEPLOYMENT_TAG) != self.deployment:
                return "it is another one: it does not have this deployment's tag"
            with self.client.translated(f"look into the resource group {group}"):
                inside = list(self.client.pages(f"{path}/resources", RESOURCES_API))
        except ComputeError as error:
            return error.message
        if inside:
            return f"there is something else in it: {', '.join(str(one.get('name')) for one in inside[:5])}"
        self.report(f"Deleting the resource group {group}", None)
        return self._gone(path, RESOURCES_API, f"delete the resource group {group}")

    def _delete(self, kind: str, resource_id: str, vm: str) -> str:
        version = template.APIS[kind]
        try:
            found = is_there(self.client, resource_id, version)
        except ComputeError as error:
            return error.message
        if found is None:
            return ""
        why = self._strange(kind, found, vm)
        return why or self._gone(resource_id, version, f"delete {WORDS[kind]} {resource_id.rsplit('/', 1)[-1]}")

    def _strange(self, kind: str, found: Mapping[str, Any], vm: str) -> str:
        """Why a thing that has one of our names is none of ours; empty if it is."""
        tags = found.get("tags")
        tag = (tags if isinstance(tags, Mapping) else {}).get(DEPLOYMENT_TAG)
        if tag == self.deployment:
            return ""
        if kind == template.DISK and tag is None:
            # Made by the VM, and so without tags of its own; then it hangs on our VM, or on none any more.
            holder = str(found.get("managedBy") or "")
            return "" if not holder or holder.lower() == vm.lower() else f"it belongs to {holder}"
        return "it is another one: it does not have this deployment's tag"

    def _gone(self, path: str, version: str, what: str) -> str:
        """Ask for it until it is refused for good or the resource is not there any more. Why it is left, or empty."""
        began = time.monotonic()
        ask_at, why = began, ""
        while True:
            if time.monotonic() >= ask_at:
                # Once more after a while: a deletion that was accepted may fail later, and asking twice does no harm.
                ask_at = time.monotonic() + REPEAT
                try:
                    with self.client.translated(what):
                        self.client.send("DELETE", path, version)
                except ComputeError as error:
                    if isinstance(error, NOT_THERE):
                        return ""
                    why = error.message
                    if not isinstance(error, Throttled) and not _passes(error):
                        return why
                    ask_at = time.monotonic() + min(error.retry_after or self.interval, REPEAT)
            try:
                if is_there(self.client, path, version) is None:
                    return ""
            except ComputeError as error:
                why = error.message
            if time.monotonic() - began > self.patience:
                return why or f"it was still there {self.patience:.0f} s after Azure was asked to delete it"
            time.sleep(self.interval)


def _passes(error: ComputeError) -> bool:
    """Whether a refusal may be another in a moment: something still uses it, or Azure had a fault of its own."""
    cause: Any = error.__cause__
    if getattr(cause, "response", None) is None:
        return True  # no answer at all
    fault = fault_of(cause)
    return bool(IN_USE & fault.codes) or fault.status in {408, 500, 502, 503, 504}


def made_by(operations: Sequence[Mapping[str, Any]], ids: Mapping[str, str]) -> dict[str, str]:
    """Of ``ids`` those that the deployment's operations say it has made, or began to; with a VM comes its disk."""
    begun = {
        str((properties.get("targetResource") or {}).get("id") or "").lower()
        for properties in ((one.get("properties") or {}) for one in operations)
        if str(properties.get("provisioningOperation")).lower() == "create"
    }
    found = {kind: one for kind, one in ids.items() if one.lower() in begun}
    if template.VM in found and template.DISK in ids:
        found[template.DISK] = ids[template.DISK]
    return found
