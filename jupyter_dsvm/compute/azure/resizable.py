"""The part of ``AzureCompute`` that offers sizes and changes them: it asks Azure, ``fitting`` and ``resizing`` decide."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import ComputeError, DSVMError, Forbidden, OperationRefused
from ...models import Compute, PowerState, Price, SizeOffer
from ..provider import Cancel, Memo, Report
from ..sizing import chosen
from . import fitting
from .fitting import Question
from .machine import Hardware, VirtualMachine, power_state
from .prices import Prices, key
from .refusals import advise, free_offer
from .resizing import Resize, Seen
from .sizes import size as size_of
from .skus import Sku, Usage, from_vm_sizes, skus, usages

if TYPE_CHECKING:
    from .client import ArmClient

NETWORK_API = "2023-11-01"
VM_SIZES_API = "2024-07-01"

SKUS_KEPT = 600.0
"""Seconds for which a region's list of sizes is not asked for again: it is long, and changes with the months."""

PRICES_PATIENCE = 6.0
"""Seconds that a list of sizes waits for prices. A region's take some dozen requests; what comes later is in the next list."""


@dataclass(frozen=True)
class _Offered:
    question: Question
    skus: Sequence[Sku]
    impossible: str

    @property
    def partial(self) -> bool:
        """Whether these are but the sizes of the hardware that the VM is on."""
        return self.question.running and not any(one.family for one in self.skus)


class Resizable:
    """Mixed into ``AzureCompute``, whose members it uses."""

    if TYPE_CHECKING:
        polling_interval: Any
        operation_timeout: Any
        _lock: threading.Lock
        _machines: dict[str, VirtualMachine]

        def _fresh(self, compute_id: str) -> VirtualMachine: ...
        def _arm(self, tenant: str = "") -> ArmClient: ...
        def _prices(self) -> Prices: ...
        def _shown(self, compute: Compute) -> Compute: ...
        def _forgetting(self, machine: VirtualMachine) -> AbstractContextManager[None]: ...

    _sku_lists: dict[tuple[str, str], tuple[float, Mapping[str, Sku]]]
    """By subscription and region, each with when it was read; made by ``AzureCompute``, protected by its lock."""

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        machine = self._fresh(compute_id)
        offered = self._offered(machine)
        offers = fitting.offers(offered.question, offered.skus, {}, offered.impossible)
        prices = self._size_prices(machine, offers)
        priced = [replace(one, price=prices.get(one.size.name.lower())) for one in offers]
        said = fitting.notice(machine, offered.question.hardware)
        return priced, f"{said} {_partial(machine)}" if offered.partial and not offered.impossible else said

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        memo = memo if memo is not None else Memo()
        machine = self._fresh(compute_id)
        resumed = "stage" in memo.facts
        if resumed:
            new = str(memo.facts["size"])
        else:
            report(f"Looking what {machine.name} can have", None)
            new = self._checked(machine, size)
            own = machine.compute.size
            if own is not None and own.name.lower() == new.lower():
                return self._shown(machine.compute)
        compute = machine.compute
        work = Resize(
            machine.name,
            new,
            compute.size.name if compute.size else "",
            compute.power_state,
            _Cloud(self, machine),
            memo,
            interval=self.polling_interval,
            timeout=self.operation_timeout,
        )
        with self._forgetting(machine):
            work.run(report, cancel)
        return self._shown(self._fresh(compute_id).compute)

    # -- what is possible -----------------------------------------------------------------------------------------------

    def _checked(self, machine: VirtualMachine, size: str) -> str:
        """The size as Azure spells it, if the VM can have it. Nothing has been changed when this raises."""
        hardware = machine.hardware or Hardware()
        hindered = fitting.impossible(machine, hardware)
        if hindered:
            raise OperationRefused(f"{machine.name} cannot be resized. {hindered}", code="ResizeImpossible")
        if machine.compute.power_state is PowerState.UNKNOWN:
            raise OperationRefused(
                f"{machine.name} cannot be resized now: Azure does not say whether it runs.", advice="Try again later."
            )
        offered = self._offered(machine)
        offers = fitting.offers(offered.question, offered.skus, {})
        try:
            return chosen(size, offers, machine.name, machine.compute.location).size.name
        except OperationRefused as error:
            if error.code != "UnknownSize" or not offered.partial:
                raise
            raise OperationRefused(
                f"Whether {machine.name} can have the size {size} is not known. {_partial(machine)}",
                advice=f"Stop it (`jupyter dsvm stop {machine.name}`), then resize it.",
                code=error.code,
            ) from None

    def _offered(self, machine: VirtualMachine) -> _Offered:
        client = self._arm(machine.tenant)
        hardware = machine.hardware or Hardware()
        listed = self._skus(client, machine)
        found = list(listed.values())
        question = Question(
            machine,
            hardware,
            listed.get(machine.compute.size.name.lower()) if machine.compute.size else None,
            self._usages(client, machine),
            accelerated=_accelerated(client, hardware),
            today=fitting.today(),
        )
        # Only where there is a GPU that it does not get is it asked what kind of subscription this is.
        if any(one.gpus and (one.restricted or _no_quota(one, question.quotas)) for one in found):
            question = replace(question, no_gpus=free_offer(client, machine.subscription))
        return _Offered(question, found, fitting.impossible(machine, hardware))

    def _skus(self, client: ArmClient, machine: VirtualMachine) -> Mapping[str, Sku]:
        """By name in lower case. Of an account that may see the VM only, what Azure says that this VM can become."""
        where = (machine.subscription.lower(), (machine.compute.location or "").lower())
        with self._lock:
            known = self._sku_lists.get(where)
        if known is not None and time.monotonic() - known[0] < SKUS_KEPT:
            return known[1]
        try:
            with client.translated(f"list the sizes of {where[1]}"):
                found: Mapping[str, Sku] = skus(client, machine.subscription, where[1])
        except Forbidden as error:
            return _vm_sizes(client, machine, error)
        with self._lock:
            self._sku_lists[where] = (time.monotonic(), found)
        return found

    def _usages(self, client: ArmClient, machine: VirtualMachine) -> Mapping[str, Usage]:
        """Nothing where they may not be read: then a quota is Azure's to refuse."""
        try:
            with client.translated("list the quotas"):
                return usages(client, machine.subscription, machine.compute.location or "")
        except Forbidden:
            return {}

    def _size_prices(self, machine: VirtualMachine, offers: Sequence[SizeOffer]) -> Mapping[str, Price]:
        """By the name in lower case; those that can be had are asked for first."""
        if not machine.compute.location:
            return {}
        keys = {o.size.name.lower(): key(machine.compute.location, o.size.name, machine.compute.os) for o in offers}
        found = self._prices().known(keys.values(), PRICES_PATIENCE)
        return {name: found[one] for name, one in keys.items() if one in found}


class _Cloud:
    """``resizing.Cloud`` for one VM."""

    def __init__(self, azure: Resizable, machine: VirtualMachine) -> None:
        self._azure, self._machine, self._size = azure, machine, machine.compute.size
        self._client = azure._arm(machine.tenant)
        self._operations = self._client.virtual_machines(machine.subscription)

    def look(self) -> Seen:
        seen = self._azure._fresh(self._machine.compute.id)
        size = seen.compute.size.name if seen.compute.size else ""
        return Seen(size, seen.compute.power_state, (seen.hardware or Hardware()).provisioning)

    def release(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        self._run("release", report, cancel, accepted)

    def change(self, size: str, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        before, self._size = self._size, size_of(size)
        try:
            self._run("resize", report, cancel, accepted, {"properties": {"hardwareProfile": {"vmSize": size}}})
        except DSVMError:
            self._size = before
            raise

    def start(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        self._run("start", report, cancel, accepted)

    def _run(self, kind: str, report: Report, cancel: Cancel, accepted: Callable[[], None], *body: Any) -> None:
        from .lifecycle import ACTIONS, Change  # here, since it imports the Azure libraries

        machine = self._machine
        action = {"start": ACTIONS["start"], "release": _release(ACTIONS["stop"]), "resize": _patch(ACTIONS["stop"])}[
            kind
        ]

        def begin(**options: Any) -> Any:
            poller = getattr(self._operations, action.method)(machine.group, machine.name, *body, **options)
            accepted()
            return poller

        def state() -> PowerState:
            with self._client.translated(f"read the state of {machine.name}"):
                return power_state(self._operations.instance_view(machine.group, machine.name).as_dict())

        change = Change(
            action,
            machine.name,
            begin,
            state,
            follow=self._client.read,
            endpoint=self._client.endpoint,
            interval=self._azure.polling_interval,
            timeout=self._azure.operation_timeout,
        )
        try:
            change.run(report, cancel)
        except OperationRefused as error:
            # Which other sizes there is room for, if that was the reason.
            advise(error, self._client, replace(machine, compute=replace(machine.compute, size=self._size)))
            raise


def _release(stop: Any) -> Any:
    """A stop, whose words are those of a resize, and which lets an operation of somebody else end first."""
    busy = frozenset({PowerState.STARTING, PowerState.STOPPING, PowerState.DEALLOCATING})
    return replace(stop, verb="release", doing="releasing", busy=busy)


def _patch(stop: Any) -> Any:
    """A released VM stays so while its size is changed."""
    return replace(
        stop,
        method="begin_update",
        verb="resize",
        doing="resizing",
        passing=frozenset({PowerState.UNKNOWN}),
        done_already=False,
        goes_on="Azure goes on changing its size",
    )


def _vm_sizes(client: ArmClient, machine: VirtualMachine, refused: Forbidden) -> Mapping[str, Sku]:
    path = (
        f"/subscriptions/{machine.subscription}/resourceGroups/{machine.group}/providers/Microsoft.Compute/virtualMachines/"
        f"{machine.name}/vmSizes"
    )
    try:
        with client.translated(f"list the sizes of {machine.name}"):
            found = [from_vm_sizes(item) for item in client.pages(path, VM_SIZES_API)]
    except ComputeError:
        raise refused from refused.__cause__
    return {one.name.lower(): one for one in found if one is not None}


def _accelerated(client: ArmClient, hardware: Hardware) -> bool | None:
    """Whether one of the network interfaces has it; None if they cannot all be read and none of the others has."""
    known: bool | None = False
    for interface in hardware.interfaces:
        try:
            with client.translated("read the network interface"):
                properties = client.get(interface, NETWORK_API).get("properties") or {}
        except DSVMError:
            known = None
            continue
        if properties.get("enableAcceleratedNetworking") is True:
            return True
    return known


def _partial(machine: VirtualMachine) -> str:
    return (
        f"This account may not read the region's list of sizes, and while {machine.name} runs, Azure names those of the hardware "
        "that it is on; once it is stopped, all of them."
    )


def _no_quota(sku: Sku, quotas: Mapping[str, Usage]) -> bool:
    usage = quotas.get(sku.family.lower())
    return usage is not None and usage.limit == 0
