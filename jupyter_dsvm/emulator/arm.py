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
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from . import graph, shapes
from .faults import Fault, Faults
from .machines import SIZES, Machine
from .vm import BootError, VirtualMachine

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
}  # fmt: skip


class Refusal(Exception):
    """A request that Azure answers with an error."""

    def __init__(
        self, status: int, code: str, message: str, *, target: str | None = None, retry_after: int | None = None
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.target, self.retry_after = status, code, message, target, retry_after


def utc() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Operation:
    """A long-running operation and its resource."""

    action: str
    record: Record
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=utc)
    due: datetime = field(default_factory=utc)
    """When it should be done; for ``Retry-After``."""
    ended: datetime | None = None
    status: str = "InProgress"
    error: Json | None = None
    task: asyncio.Task[None] | None = None

    def end(self, status: str, error: Json | None = None) -> None:
        if self.ended is None:
            self.status, self.error, self.ended = status, error, utc()


class Record:
    """A VM as ARM sees it; ``vm`` is the machine itself, None with Windows, which nobody can log in to here."""

    def __init__(self, machine: Machine, vm_id: str, vm: VirtualMachine | None) -> None:
        self.machine = machine
        self.vm_id = vm_id
        self.vm = vm
        self.size = machine.size
        self.power = machine.power
        self.provisioning = "Succeeded"
        self.created = utc() - timedelta(days=90)
        self.changed = utc()
        self.busy: Operation | None = None
        self.group_id = f"/subscriptions/{machine.subscription}/resourceGroups/{machine.resource_group}"
        self.id = f"{self.group_id}/providers/Microsoft.Compute/virtualMachines/{machine.name}"
        self.nic_id = f"{self.group_id}/providers/Microsoft.Network/networkInterfaces/{machine.name}-nic"
        self.public_ip_id = f"{self.group_id}/providers/Microsoft.Network/publicIPAddresses/{machine.name}-ip"
        self.rows: deque[tuple[float, Json]] = deque(maxlen=100)
        """What the Resource Graph could see, and since when; the graph lags behind."""

    @property
    def host(self) -> str | None:
        return self.vm.address.host if self.vm is not None and self.vm.address is not None else None

    @property
    def state(self) -> str:
        return "busy" if self.power == "running" and self.busy is not None else self.power

    def note(self) -> None:
        """Called after every change, for the graph."""
        self.changed = utc()
        self.rows.append((asyncio.get_running_loop().time(), graph.row(self)))


@dataclass
class Timings:
    """Seconds that things take, and what else can be set while the emulator runs (``PUT /control/timings``)."""

    start: float = 3.0
    deallocate: float = 2.0
    restart: float = 3.0
    powerOff: float = 2.0
    patch: float = 2.0
    retry_after: int | None = None
    """``Retry-After`` of operations; None: what is left of the operation, from 1 to 10 s."""
    graph_lag: float = 0.0
    """How old the Resource Graph's knowledge is."""
    page_size: int = 100
    """VMs per page of a list."""

    def update(self, values: Json) -> None:
        """Raises ``ValueError`` or ``TypeError`` for a name or a value that there is not."""
        for name, value in values.items():
            if name not in self.__dataclass_fields__:
                raise ValueError(f"There is no timing {name!r}.")
            whole = name in ("page_size", "retry_after")
            setattr(self, name, None if value is None else int(value) if whole else float(value))


class Arm:
    """All subscriptions' VMs and what is going on with them. Lives on the emulator's event loop."""

    def __init__(self, records: Iterable[Record], timings: Timings) -> None:
        self.records = list(records)
        self.timings = timings
        self.faults = Faults()
        self.operations: dict[str, Operation] = {}

    # -- finding things; ids are compared without regard to case ------------------------------------------------------

    def subscription(self, subscription_id: str) -> list[Record]:
        found = [r for r in self.records if r.machine.subscription.lower() == subscription_id.lower()]
        if not found:
            raise Refusal(
                404, "SubscriptionNotFound", f"The subscription '{subscription_id}' could not be found.", target=None
            )
        return found

    def group(self, subscription_id: str, group: str) -> list[Record]:
        found = [r for r in self.subscription(subscription_id) if r.machine.resource_group.lower() == group.lower()]
        if not found:
            raise Refusal(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        return found

    def resource(self, subscription_id: str, group: str, kind: str, name: str) -> Record:
        """By the name of the VM, of its network interface or of its public address, as ``kind`` says."""
        suffix = {"networkInterfaces": "-nic", "publicIPAddresses": "-ip"}.get(kind, "")
        provider = "Microsoft.Network" if suffix else "Microsoft.Compute"
        for record in self.group(subscription_id, group):
            if f"{record.machine.name}{suffix}".lower() == name.lower():
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

    def graph_rows(self) -> list[Json]:
        seen_at = asyncio.get_running_loop().time() - self.timings.graph_lag
        rows = []
        for record in self.records:
            past = [row for since, row in record.rows if since <= seen_at]
            rows.append(past[-1] if past else record.rows[0][1])
        return rows

    def raise_fault(self, operation: str, record: Record | None = None) -> None:
        """Raise the fault that is set for a request, if there is one."""
        fault = self.faults.take(operation, "request", record.machine.name if record else "*")
        if fault is not None:
            raise Refusal(fault.status, fault.code, self._words(fault, record), retry_after=fault.retry_after)

    @staticmethod
    def _words(fault: Fault, record: Record | None) -> str:
        words = {"operation": fault.operation}
        if record is not None:
            words |= {
                "size": record.size,
                "location": record.machine.location,
                "id": record.id,
                "subscription": record.machine.subscription,
            }
        message = fault.message
        for name, value in words.items():
            message = message.replace("{" + name + "}", value)
        return message

    # -- changing things ----------------------------------------------------------------------------------------------

    def begin(self, action: str, record: Record, size: str | None = None) -> Operation:
        """Accept an action, or raise what Azure would answer."""
        self.raise_fault(action, record)
        if size is not None:
            size = self._checked_size(record, size)
        answer = ANSWERS[action][record.state]
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
            operation.end("Succeeded")
        elif answer == JOIN:
            operation.task = asyncio.create_task(self._follow(operation, record.busy))
        else:
            before = record.busy
            record.busy = operation
            took_over = record.power
            record.power = ACTIONS[action].through or record.power
            record.provisioning = "Updating"
            record.note()
            seconds = getattr(self.timings, action)
            operation.due = utc() + timedelta(seconds=seconds)
            operation.task = asyncio.create_task(self._carry_out(operation, before, took_over, seconds, size))
        return operation

    def retry_after(self, operation: Operation) -> int:
        if self.timings.retry_after is not None:
            return self.timings.retry_after
        return max(1, min(10, math.ceil((operation.due - utc()).total_seconds())))

    def _checked_size(self, record: Record, size: str) -> str:
        names = {name.lower(): name for name in SIZES}
        if size.lower() not in names:
            raise Refusal(
                400,
                "InvalidParameter",
                f"The value {size} provided for the VM size is not valid. The valid sizes in the current region are: "
                f"{','.join(SIZES)}. Find out more on the valid VM sizes in each region at https://aka.ms/azure-regions.",
                target="vmSize",
            )
        size = names[size.lower()]
        if record.machine.generation not in SIZES[size].generations:
            raise Refusal(
                400,
                "BadRequest",
                f"The selected VM size '{size}' cannot boot Hypervisor Generation '{record.machine.generation[1]}'. If "
                "this was a Create operation please check that the Hypervisor Generation of the Image matches the "
                "Hypervisor Generation of the selected VM Size. If this was an Update operation please select a "
                f"Hypervisor Generation '{record.machine.generation[1]}' VM Size.",
            )
        if bool(SIZES[size].temporary_disk_gib) != bool(SIZES[record.size].temporary_disk_gib):
            raise Refusal(
                409,
                "OperationNotAllowed",
                f"Unable to resize the VM '{record.machine.name}' since changing from resource disk to non-resource disk VM "
                "size and vice-versa is not allowed. Please refer to https://aka.ms/AAah4sj for more details.",
            )
        return size

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
                before.end(
                    "Failed",
                    shapes.error(
                        "OperationPreempted", "Operation execution has been preempted by a more recent operation."
                    )["error"],
                )
                if before.task is not None:
                    before.task.cancel()
                    await asyncio.wait([before.task])
            fault = self.faults.take(operation.action, "operation", record.machine.name)
            if fault is not None:
                await asyncio.sleep(seconds)
                record.power = took_over if took_over in ("running", "stopped", "deallocated") else "stopped"
                operation.end("Failed", shapes.error(fault.code, self._words(fault, record))["error"])
                return
            await self._effect(operation.action, record, seconds, size)
            record.power = ACTIONS[operation.action].to or record.power
            operation.end("Succeeded")
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

    async def _effect(self, action: str, record: Record, seconds: float, size: str | None) -> None:
        """What happens to the machine itself, in ``seconds`` at least."""
        vm = record.vm
        time = asyncio.get_running_loop().time
        done_at = time() + seconds
        was_running = record.power == "running"
        if vm is not None and (action in ("deallocate", "powerOff", "restart") or (action == "patch" and was_running)):
            await vm.halt()
        if vm is not None and action == "deallocate":
            vm.release()
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
        tasks = [o.task for o in self.operations.values() if o.task is not None and not o.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with contextlib.suppress(ProcessLookupError):
            await asyncio.gather(*(r.vm.halt() for r in self.records if r.vm is not None))
