"""Azure Resource Manager's behaviour: the VMs' power states, their long-running operations, and what is refused.

Theory. A VM has a power state and at most one operation under way. What a new request meets is looked up in ``ANSWERS``
by the action and the state; what an action goes through and ends in is in ``ACTIONS``. Every accepted request gets an
operation of its own, also one that has nothing to do. The outcome of an operation is in its resource, never in the answer to the
request, as with the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import runcommand, shapes
from .deletions import Deletions
from .deployments import Deployments
from .estate import Estate
from .faults import Fault, Faults
from .machines import HOME, SIZES, SUBSCRIPTIONS, Subscription, Tenant
from .offers import Offers
from .pacing import Latency, Throttle
from .records import Operation, Record, Timings, utc
from .refusal import Refusal
from .resizing import check_release, checked_size
from .schedules import Schedules
from .vm import BootError

Json = dict[str, Any]


@dataclass(frozen=True)
class Action:
    through: str
    """The power state meanwhile."""
    to: str | None
    """The power state at the end; None: as before."""


ACTIONS: dict[str, Action] = {
    "start": Action("starting", "running"),
    "deallocate": Action("deallocating", "deallocated"),
    "powerOff": Action("stopping", "stopped"),
    "restart": Action("running", "running"),
    "patch": Action("", None),
    "runCommand": Action("", None),
    "extension": Action("", None),
}

RUN, NOTHING, JOIN, PREEMPT, CONFLICT, REFUSE = "run", "nothing", "join", "preempt", "conflict", "refuse"

ANSWERS: dict[str, dict[str, str]] = {
    # "busy" is running, with a restart or a resize under way.
    "start": {
        "running": NOTHING, "busy": CONFLICT, "starting": JOIN, "stopping": CONFLICT, "stopped": RUN,
        "deallocating": CONFLICT, "deallocated": RUN,
    },
    "deallocate": {
        "running": RUN, "busy": PREEMPT, "starting": PREEMPT, "stopping": PREEMPT, "stopped": RUN,
        "deallocating": JOIN, "deallocated": NOTHING,
    },
    "powerOff": {
        "running": RUN, "busy": PREEMPT, "starting": PREEMPT, "stopping": JOIN, "stopped": NOTHING,
        "deallocating": CONFLICT, "deallocated": NOTHING,
    },
    "restart": {
        "running": RUN, "busy": CONFLICT, "starting": CONFLICT, "stopping": CONFLICT, "stopped": REFUSE,
        "deallocating": CONFLICT, "deallocated": REFUSE,
    },
    "patch": {
        "running": RUN, "busy": CONFLICT, "starting": CONFLICT, "stopping": CONFLICT, "stopped": RUN,
        "deallocating": CONFLICT, "deallocated": RUN,
    },
    "runCommand": {
        "running": RUN, "busy": CONFLICT, "starting": REFUSE, "stopping": REFUSE, "stopped": REFUSE,
        "deallocating": REFUSE, "deallocated": REFUSE,
    },
    "extension": {
        "running": RUN, "busy": CONFLICT, "starting": REFUSE, "stopping": REFUSE, "stopped": REFUSE,
        "deallocating": REFUSE, "deallocated": REFUSE,
    },
}  # fmt: skip


PREEMPTED: Json = shapes.error(
    "OperationPreempted", "Operation execution has been preempted by a more recent operation."
)["error"]
"""How an operation ends that a later one takes the place of: a deallocation, the end of the VM."""


class Arm:
    """All subscriptions' VMs and what is going on with them. Lives on the emulator's event loop."""

    def __init__(
        self,
        records: Iterable[Record],
        timings: Timings,
        subscriptions: Iterable[Subscription] = SUBSCRIPTIONS,
        tenants: Iterable[Tenant] = (HOME,),
    ) -> None:
        self.records = list(records)
        self.timings = timings
        self.subscriptions = tuple(subscriptions)
        self.tenants = tuple(tenants)
        self.faults = Faults()
        self.offers = Offers()
        self.latency: list[Latency] = []
        self.throttles: dict[str, Throttle] = {}
        """By operation."""
        self.operations: dict[str, Operation] = {}
        self.estate = Estate(self.records)
        self.deployments = Deployments(self, self.estate)
        self.deletions = Deletions(self, self.estate)
        self.schedules = Schedules(self)
        self.newcomers: Json = {}
        """What VMs that are made in deployments have beside what their template says: fields of ``Machine``."""
        self._removed: list[tuple[float, Record]] = []
        """Deleted VMs and when, for the graph."""

    # -- finding things; ids are compared without regard to case ------------------------------------------------------

    def visible(self, tenant: str | None) -> list[Subscription]:
        """Those that a token for this tenant shows; all of them for the emulator's own secret, which is for none."""
        return [one for one in self.subscriptions if tenant is None or one.tenant == tenant]

    def check_tenant(self, subscription_id: str, tenant: str | None) -> None:
        """Raise what Azure answers to a token of another tenant than the subscription's."""
        for one in self.subscriptions:
            if one.id.lower() == subscription_id.lower() and tenant not in (None, one.tenant):
                raise Refusal(
                    401,
                    "InvalidAuthenticationTokenTenant",
                    f"The access token is from the wrong issuer 'https://sts.windows.net/{tenant}/'. It must match the tenant "
                    f"'https://sts.windows.net/{one.tenant}/' associated with this subscription. Please use the authority (URL) "
                    f"'https://login.windows.net/{one.tenant}' to get the token.",
                )

    def concerned(self, name: str | None) -> Record | None:
        """The VM that a request is about: by its name, or by the id of one of its operations."""
        operation = self.operations.get((name or "").lower())
        if operation is not None:
            return operation.record
        return next((r for r in self.records if name and r.machine.name.lower() == name.lower()), None)

    def known_subscription(self, subscription_id: str) -> Subscription:
        """One that the account may see into."""
        for one in self.subscriptions:
            if one.id.lower() == subscription_id.lower():
                if one.forbidden:
                    raise Refusal(
                        403,
                        "AuthorizationFailed",
                        "The client 'someone@example.com' with object id '3f1c9b62-5e0d-4b87-a2c4-9d6e7f801b35' does not "
                        "have authorization to perform action 'Microsoft.Compute/virtualMachines/read' over scope "
                        f"'/subscriptions/{one.id}' or the scope is invalid. If access was recently granted, please "
                        "refresh your credentials.",
                    )
                return one
        raise Refusal(404, "SubscriptionNotFound", f"The subscription '{subscription_id}' could not be found.")

    def subscription(self, subscription_id: str) -> list[Record]:
        """Its VMs."""
        one = self.known_subscription(subscription_id)
        return [r for r in self.records if r.machine.subscription == one.id]

    def group(self, subscription_id: str, group: str) -> list[Record]:
        found = [r for r in self.subscription(subscription_id) if r.machine.resource_group.lower() == group.lower()]
        if not found and not self.estate.has_group(subscription_id, group):
            raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        return found

    def resource(self, subscription_id: str, group: str, kind: str, name: str) -> Record:
        """By the name of the VM, of its network interface or of its public address, as ``kind`` says."""
        suffix = {"networkInterfaces": "-nic", "publicIPAddresses": "-ip"}.get(kind, "")
        provider = "Microsoft.Network" if suffix else "Microsoft.Compute"
        if suffix == "-nic":
            name = re.sub(r"-nic\d+$", "-nic", name, flags=re.IGNORECASE)  # its further ones are like the first
        for record in self.group(subscription_id, group):
            if f"{record.machine.name}{suffix}".lower() == name.lower() and not (suffix and record.made):
                return record
        raise Refusal(
            404,
            "ResourceNotFound",
            f"The Resource '{provider}/{kind}/{name}' under resource group '{group}' was not found. For more details "
            "please go to https://aka.ms/ARMResourceNotFoundFix",
        )

    def operation(self, operation_id: str) -> Operation:
        try:
            return self.operations[operation_id.lower()]
        except KeyError:
            raise Refusal(404, "NotFound", "The entity was not found in this Azure location.") from None

    def by_name(self, name: str) -> Record:
        """For the control interface: a VM's name or its ``vmId``."""
        for record in self.records:
            if name.lower() in (record.machine.name.lower(), record.vm_id.lower(), record.id.lower()):
                return record
        raise Refusal(404, "ResourceNotFound", f"There is no VM {name!r}.")

    def by_id(self, resource_id: str) -> Record | None:
        return next((r for r in self.records if r.id.lower() == resource_id.lower()), None)

    @property
    def locations(self) -> dict[str, str]:
        """Regions by name, each with what people read."""
        known = {"westeurope": "West Europe", "northeurope": "North Europe"}
        return known | {
            r.machine.location: r.machine.location.title() for r in self.records if r.machine.location not in known
        }

    def graph_rows(self, tenant: str | None) -> list[Json]:
        seen_at = asyncio.get_running_loop().time() - self.timings.graph_lag
        shown = {one.id for one in self.visible(tenant) if not one.forbidden}
        still_seen = [record for since, record in self._removed if since > seen_at]
        rows = []
        for record in (*self.records, *still_seen):
            if record.machine.subscription in shown:
                past = [row for since, row in record.rows if since <= seen_at]
                if record.made is None:
                    rows.append(past[-1] if past else record.rows[0][1])
                elif past:  # of one that was made just now the graph knows nothing
                    rows.append(past[-1])
        return rows

    def raise_fault(self, operation: str, record: Record | None = None) -> None:
        """Raise the fault that is set for a request, if there is one."""
        name, size = (record.machine.name, record.size) if record else ("*", "*")
        fault = self.faults.take(operation, "request", name, size)
        if fault is not None:
            raise Refusal(fault.status, fault.code, self.words(fault, record), retry_after=fault.retry_after)

    @staticmethod
    def words(fault: Fault, record: Record | None) -> str:
        words = {"operation": fault.operation}
        if record is not None:
            words |= {
                "size": record.size,
                "family": SIZES[record.size].family,
                "location": record.machine.location,
                "id": record.id,
                "subscription": record.machine.subscription,
            }
        message = fault.message
        for name, value in words.items():
            message = message.replace("{" + name + "}", value)
        return message

    # -- changing things ----------------------------------------------------------------------------------------------

    def begin(
        self,
        action: str,
        record: Record,
        size: str | None = None,
        hibernate: bool = False,
        command: runcommand.Command | None = None,
    ) -> Operation:
        """Accept an action, or raise what Azure would answer. ``hibernate``: deallocate with its memory kept."""
        self.raise_fault(action, record)
        subscription = self.known_subscription(record.machine.subscription)
        if subscription.state == "Disabled":
            raise Refusal(
                409,
                "ReadOnlyDisabledSubscription",
                f"The subscription '{subscription.id}' is disabled and therefore marked as read only. You cannot perform any "
                "write actions on this subscription until it is re-enabled.",
            )
        if size is not None:
            size = checked_size(record, size)
        if action == "deallocate":
            check_release(record, hibernate)
        answer = ANSWERS[action][record.state]
        if answer == RUN and action in ("start", "patch") and (size or not record.allocated):
            self.offers.check_offered(record, subscription, size or record.size)
            if action == "start" or record.allocated:
                self.offers.check_quota(self.records, record, subscription, size or record.size)
        if answer == CONFLICT:
            raise Refusal(
                409,
                "Conflict",
                "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
                "https://aka.ms/activitylog to get more details on the conflicting requests.",
            )
        if answer == REFUSE:
            raise Refusal(409, "OperationNotAllowed", "The operation requires the VM to be running (or set to run).")
        operation = Operation(action, record)
        self.operations[operation.id] = operation
        if answer == NOTHING:
            record.hibernated = False  # to deallocate a hibernated VM is to forget its memory
            operation.end("Succeeded")
        elif answer == JOIN:
            operation.task = asyncio.create_task(self._follow(operation, record.busy))
        else:
            before = record.busy
            record.busy = operation
            took_over = record.power
            record.power = ACTIONS[action].through or record.power
            record.provisioning = "Updating"
            record.hibernate_next = hibernate
            record.note()
            seconds = getattr(self.timings, action)
            operation.due = utc() + timedelta(seconds=seconds)
            operation.command = command
            operation.task = asyncio.create_task(self._carry_out(operation, before, took_over, seconds, size))
        return operation

    def retry_after(self, operation: Operation) -> int:
        if self.timings.retry_after is not None:
            return self.timings.retry_after
        return max(1, min(10, math.ceil((operation.due - utc()).total_seconds())))

    async def _follow(self, operation: Operation, leader: Operation | None) -> None:
        if leader is not None and leader.task is not None:
            await asyncio.wait([leader.task])
            operation.end(leader.status, leader.error)
        else:
            operation.end("Succeeded")

    async def _carry_out(
        self, operation: Operation, before: Operation | None, took_over: str, seconds: float, size: str | None
    ) -> None:
        record = operation.record
        try:
            if before is not None:
                before.end("Failed", PREEMPTED)
                if before.task is not None:
                    before.task.cancel()
                    await asyncio.wait([before.task])
            fault = self.faults.take(operation.action, "operation", record.machine.name, record.size)
            if fault is not None:
                error: Json | None = shapes.error(fault.code, self.words(fault, record))["error"]
            else:
                error = self._place(operation.action, record, took_over, size)
            if error is not None:
                await asyncio.sleep(seconds)
                record.power = took_over if took_over in ("running", "stopped", "deallocated") else "stopped"
                operation.end("Failed", error)
                return
            await self._effect(operation.action, record, seconds, size)
            if operation.command is not None:
                said = await runcommand.execute(record.vm, operation.command)
                operation.output = said if operation.action == "runCommand" else None
            record.power = ACTIONS[operation.action].to or record.power
            operation.end("Succeeded")
        except runcommand.NoAgent as error:
            operation.end("Failed", shapes.error("VMAgentStatusCommunicationError", str(error))["error"])
        except BootError as error:
            record.power = "stopped"
            operation.end("Failed", shapes.error("OSProvisioningTimedOut", str(error))["error"])
        except asyncio.CancelledError:
            raise
        except Exception as error:
            record.power = "stopped"
            operation.end("Failed", shapes.error("InternalExecutionError", f"{type(error).__name__}: {error}")["error"])
        finally:
            if record.busy is operation:
                record.busy = None
                record.provisioning = "Succeeded"
                record.note()

    def _place(self, action: str, record: Record, before: str, size: str | None) -> Json | None:
        """Take and give back hardware; the operation's error if there is none."""
        if action == "deallocate" and before != "deallocated":
            self.offers.give_back(record, record.size)
        elif action == "start" and before == "deallocated":
            return self.offers.place(record, record.size)
        elif action == "patch" and size is not None and before != "deallocated" and size != record.size:
            error = self.offers.place(record, size)
            if error is None:
                self.offers.give_back(record, record.size)
            return error
        return None

    async def _effect(self, action: str, record: Record, seconds: float, size: str | None) -> None:
        """What happens to the machine itself, in ``seconds`` at least."""
        vm = record.vm
        time = asyncio.get_running_loop().time
        done_at = time() + seconds
        was_running = record.power == "running"
        if vm is not None and (action in ("deallocate", "powerOff", "restart") or (action == "patch" and was_running)):
            await vm.halt()
        if vm is not None and action == "deallocate" and record.made is None:
            vm.release()  # an address that is static, as those that deployments make, stays
        if vm is not None and (action == "deallocate" or (action == "patch" and was_running)):
            await asyncio.to_thread(vm.lose_temporary_disk)
        if action in ("start", "deallocate"):
            record.hibernated = action == "deallocate" and record.hibernate_next
        if size is not None:
            record.size = size
            if vm is not None:
                vm.size = size
        if action in ("start", "restart") or (action == "patch" and was_running):
            # The wait comes first: until then a real VM does not answer.
            await asyncio.sleep(max(0.0, done_at - time()))
            if vm is not None:
                await vm.boot()
        await asyncio.sleep(max(0.0, done_at - time()))

    async def remove(self, record: Record, successor: Record | None = None) -> None:
        """Delete a VM as somebody else would, at once; ``successor`` is another one under its name."""
        if record.busy is not None and record.busy.task is not None:
            record.busy.end("Failed", PREEMPTED)
            record.busy.task.cancel()
            await asyncio.wait([record.busy.task])
        if record.vm is not None:
            await record.vm.halt()
            record.vm.release()
        self.records.remove(record)
        self._removed.append((asyncio.get_running_loop().time(), record))
        if successor is not None:
            self.records.append(successor)
            successor.note()

    # -- the emulator's own life --------------------------------------------------------------------------------------

    async def power_on(self) -> None:
        """Boot what is running at the beginning; what is stopped has its address already."""
        for record in self.records:
            if record.vm is not None and record.power != "deallocated":
                record.vm.allocate()
        booting = [r.vm.boot() for r in self.records if r.vm is not None and r.power == "running"]
        await asyncio.gather(*booting)
        for record in self.records:
            record.note()

    async def power_off(self) -> None:
        """End every process of every VM."""
        self.schedules.close()
        await self.deployments.close()
        tasks = [o.task for o in self.operations.values() if o.task is not None and not o.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with contextlib.suppress(ProcessLookupError):
            await asyncio.gather(*(r.vm.halt() for r in self.records if r.vm is not None))
