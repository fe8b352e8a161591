"""What goes wrong on purpose: refusals set per VM and operation, with the words that Azure uses for them.

``PRESETS`` holds Azure's status, code and message of the common refusals; a fault may overrule each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

OPERATIONS = (
    "start", "deallocate", "restart", "powerOff", "patch", "runCommand", "extension",
    "bootDiagnostics", "get", "instanceView", "list", "graph", "subscriptions", "operation", "network",
    "tenants", "sizes", "skus", "usages", "prices", "gallery",
    "locations", "group", "deployment", "deployments", "vm", "delete", "schedule", "setSchedule",
)  # fmt: skip
"""``get`` is one VM, ``operation`` the address of a long-running operation, ``network`` an interface or public address,
``sizes`` those that a VM could have, ``skus`` those of a subscription, ``gallery`` an image in one. ``group`` makes a resource
group; ``deployment`` is one that is validated or begun, ``deployments`` a look at one; ``network`` and ``vm`` as operations are
what a deployment makes; ``delete`` is the deletion of anything. ``schedule`` is a look at a VM's auto-shutdown, ``setSchedule`` a
change of it."""

LONG_RUNNING = frozenset(
    {"start", "deallocate", "restart", "powerOff", "patch", "runCommand", "extension", "deployment", "network", "vm"}
)

PRESETS: dict[str, tuple[int, str]] = {
    "AllocationFailed": (
        409,
        "Allocation failed. We do not have sufficient capacity for the requested VM size in this region. Read more "
        "about improving likelihood of allocation success at https://aka.ms/allocation-guidance",
    ),
    "ZonalAllocationFailed": (
        409,
        "Allocation failed. We do not have sufficient capacity for the requested VM size {size} in zone 1. Read more "
        "about improving likelihood of allocation success at https://aka.ms/allocation-guidance",
    ),
    "SkuNotAvailable": (
        409,
        "The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {size}' is currently "
        "not available in location '{location}'. Please try another size or deploy to a different location or "
        "different zone. See https://aka.ms/azureskunotavailable for details.",
    ),
    "OperationNotAllowed": (
        409,
        "Operation could not be completed as it results in exceeding approved {family} Cores quota. Additional "
        "details - Deployment Model: Resource Manager, Location: {location}, Current Limit: 0, Current Usage: 0, "
        "Additional Required: 4, (Minimum) New Limit Required: 4. Submit a request for Quota increase at "
        "https://aka.ms/ProdportalCRP/#blade/Microsoft_Azure_Capacity/UsageAndQuota.ReactView",
    ),
    "AuthorizationFailed": (
        403,
        "The client 'someone@example.com' with object id '3f1c9b62-5e0d-4b87-a2c4-9d6e7f801b35' does not have "
        "authorization to perform action 'Microsoft.Compute/virtualMachines/{operation}/action' over scope '{id}' or "
        "the scope is invalid. If access was recently granted, please refresh your credentials.",
    ),
    "ReadOnlyDisabledSubscription": (
        409,
        "The subscription '{subscription}' is disabled and therefore marked as read only. You cannot perform any write "
        "actions on this subscription until it is re-enabled.",
    ),
    "TooManyRequests": (
        429,
        "The server rejected the request because too many requests have been received for this subscription.",
    ),
    "OverconstrainedAllocationRequest": (
        409,
        "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too "
        "restrictive. Please remove some constraints and try again. Constraints applied are:\n  - VM Size ({size})\n",
    ),
    "RequestDisallowedByAzure": (
        403,
        "Resource '{id}' was disallowed by Azure: The selected region is currently not accepting new customers: "
        "https://aka.ms/locationineligible.",
    ),
    "RequestDisallowedByPolicy": (
        403,
        "Resource '{id}' was disallowed by policy. Policy identifiers: 'allowed-sizes'.",
    ),
    "ScopeLocked": (
        409,
        "The scope '{id}' cannot perform write operation because following scope(s) are locked: '{id}'. Please remove the "
        "lock and try again.",
    ),
    "SubscriptionRequestsThrottled": (429, "Number of requests for subscription '{subscription}' exceeded the limit."),
    "VMExtensionProvisioningTimeout": (
        409,
        "Provisioning of VM extension RunCommandLinux has timed out. Extension provisioning has taken too long to complete. "
        "The extension did not report a message. More information on troubleshooting is available at "
        "https://aka.ms/vmextensionlinuxtroubleshoot",
    ),
    "ServerTimeout": (503, "The request timed out."),
    "InternalServerError": (500, "An internal execution error occurred. Please retry later."),
}
_UNKNOWN = (409, "The operation was refused.")


@dataclass
class Fault:
    """One thing that goes wrong, the next ``times`` times (-1: until it is taken away)."""

    vm: str
    """A VM's name, or ``*``."""
    operation: str
    code: str
    status: int
    message: str
    times: int
    at: str
    """``request``: the request is answered with it; ``operation``: it is accepted with 202 and fails later."""
    retry_after: int | None = None
    size: str = "*"
    """Only VMs of this size."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Fault:
        """From what ``PUT /control/faults`` got. Raises ``ValueError`` with a sentence."""
        unknown = set(data) - {"vm", "operation", "code", "status", "message", "times", "at", "retry_after", "size"}
        if unknown:
            raise ValueError(f"A fault has no {', '.join(sorted(unknown))}.")
        operation, at = str(data.get("operation", "")), str(data.get("at", "request"))
        if operation not in OPERATIONS:
            raise ValueError(f"operation is one of {', '.join(OPERATIONS)}, not {operation!r}.")
        if at not in ("request", "operation") or (at == "operation" and operation not in LONG_RUNNING):
            raise ValueError(f"at is 'request', or 'operation' with {', '.join(sorted(LONG_RUNNING))}; not {at!r}.")
        code = str(data.get("code", "AllocationFailed"))
        status, message = PRESETS.get(code, _UNKNOWN)
        retry_after = data.get("retry_after")
        return cls(
            vm=str(data.get("vm", "*")).lower(),
            operation=operation,
            code=code,
            status=int(data.get("status", status)),
            message=str(data.get("message", message)),
            times=int(data.get("times", 1)),
            at=at,
            retry_after=None if retry_after is None else int(retry_after),
            size=str(data.get("size", "*")),
        )


class Faults:
    """Those that are set now; the newest of several that fit goes first."""

    def __init__(self) -> None:
        self.active: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self.active.insert(0, fault)

    def take(self, operation: str, at: str, vm: str = "*", size: str = "*") -> Fault | None:
        """The fault that is due, counted down; None where all goes well."""
        for fault in self.active:
            fits = fault.vm in ("*", vm.lower()) and fault.size.lower() in ("*", size.lower())
            if fault.operation == operation and fault.at == at and fits:
                if fault.times > 0:
                    fault.times -= 1
                    if fault.times == 0:
                        self.active.remove(fault)
                return fault
        return None
