"""What ``arm.Arm`` keeps: a VM as Azure sees it, its long-running operations, and how long they take."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from . import graph
from .machines import Machine
from .made import Made
from .runcommand import Command
from .vm import VirtualMachine

Json = dict[str, Any]


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
    command: Command | None = None
    output: Json | None = None
    """What a run command has to say, once it has ended."""
    task: asyncio.Task[None] | None = None

    def end(self, status: str, error: Json | None = None) -> None:
        if self.ended is None:
            self.status, self.error, self.ended = status, error, utc()


class Record:
    """A VM as ARM sees it; ``vm`` is the machine itself, None with Windows, which nobody can log in to here."""

    def __init__(self, machine: Machine, vm_id: str, vm: VirtualMachine | None, made: Made | None = None) -> None:
        self.machine = machine
        self.made = made
        """What the template said, of a VM that was made in a deployment."""
        self.vm_id = vm_id
        self.vm = vm
        self.size = machine.size
        self.power = machine.power
        self.hibernated = machine.hibernated and machine.power == "deallocated"
        self.hibernate_next = False
        """Whether the deallocation that is under way keeps the memory."""
        self.provisioning = "Succeeded"
        self.created = utc() - timedelta(days=90)
        self.changed = utc()
        self.busy: Operation | None = None
        self.group_id = f"/subscriptions/{machine.subscription}/resourceGroups/{machine.resource_group}"
        self.id = f"{self.group_id}/providers/Microsoft.Compute/virtualMachines/{machine.name}"
        self.nic_id = f"{self.group_id}/providers/Microsoft.Network/networkInterfaces/{machine.name}-nic"
        self.public_ip_id = f"{self.group_id}/providers/Microsoft.Network/publicIPAddresses/{machine.name}-ip"
        if made is not None:
            self.nic_id, self.public_ip_id = made.interface_id, made.address_id

        self.extensions: dict[str, Json] = {}
        """Their properties, by name; secrets are not kept."""
        self.rows: deque[tuple[float, Json]] = deque(maxlen=100)
        """What the Resource Graph could see, and since when; the graph lags behind."""

    @property
    def host(self) -> str | None:
        return self.vm.address.host if self.vm is not None and self.vm.address is not None else None

    @property
    def disk_name(self) -> str:
        if self.made is not None:
            return self.made.disk_id.rsplit("/", 1)[-1]
        return f"{self.machine.name}_OsDisk_1_{self.vm_id.replace('-', '')}"

    @property
    def public(self) -> str | None:
        """Its public address, if it has one."""
        return self.host if self.public_ip_id else None

    @property
    def allocated(self) -> bool:
        """Whether it has hardware, which quotas count."""
        return self.power != "deallocated"

    @property
    def gallery_image_id(self) -> str | None:
        if self.machine.gallery_image is None:
            return None
        return f"{self.group_id}/providers/Microsoft.Compute/galleries/team/images/{self.machine.name}-image"

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
    network: float = 0.5
    """A network resource of a deployment."""
    create: float = 5.0
    """A VM of a deployment."""
    delete: float = 2.0
    nic_reserved: float = 0.0
    """How long the interface of a VM that could not be made stays reserved for it; Azure's 180."""

    extension: float = 5.0
    runCommand: float = 5.0
    """The least; the real one takes 20 s and more."""
    retry_after: int | None = None
    """``Retry-After`` of operations; None: what is left of the operation, from 1 to 10 s."""
    graph_lag: float = 0.0
    """How old the Resource Graph's knowledge is."""
    page_size: int = 100
    """VMs per page of a list."""
    price_page_size: int = 1000

    def update(self, values: Json) -> None:
        """Raises ``ValueError`` or ``TypeError`` for a name or a value that there is not."""
        for name, value in values.items():
            if name not in self.__dataclass_fields__:
                raise ValueError(f"There is no timing {name!r}.")
            whole = name in ("page_size", "price_page_size", "retry_after")
            setattr(self, name, None if value is None else int(value) if whole else float(value))
