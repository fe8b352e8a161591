"""Whether the quotas leave room for several VMs at once: what a hub's broker looks at before it starts those of a lesson.

Azure refuses one start at a time, the last ones of a class; this says it before the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...models import PowerState
from .fitting import REGIONAL
from .skus import Sku, Usage

if TYPE_CHECKING:
    from .client import ArmClient
    from .machine import VirtualMachine


def lacking(wanted: Iterable[Sku], quotas: Mapping[str, Usage], location: str) -> list[str]:
    """A sentence for each quota that has no room for all of these VMs together. Pure. What is not known stops nobody."""
    cores: Counter[str] = Counter()
    names = {REGIONAL: "all sizes"}
    for sku in wanted:
        for name in (sku.family.lower(), REGIONAL):
            cores[name] += sku.vcpus or 0
        names[sku.family.lower()] = f"the family {sku.family}"
    found = []
    for name, needed in cores.items():
        usage = quotas.get(name)
        if usage is not None and usage.limit - usage.used < needed:
            left = max(0, usage.limit - usage.used)
            found.append(
                f"The quota of cores for {names[name]} in {location} has {left} of {usage.limit} left, and {needed} are needed."
            )
    return found


class Quotas:
    # Of AzureCompute
    _known: Callable[[str], VirtualMachine]
    _arm: Callable[[str], ArmClient]
    _skus: Callable[[ArmClient, VirtualMachine], Mapping[str, Sku]]
    _usages: Callable[[ArmClient, VirtualMachine], Mapping[str, Usage]]

    def lacking(self, compute_ids: Sequence[str]) -> list[str]:
        """A sentence for each quota that does not allow these VMs to be on together. Two requests for each region; raises what
        they raise."""
        regions: dict[tuple[str, str, str], list[VirtualMachine]] = {}
        for compute_id in compute_ids:
            machine = self._known(compute_id)
            # One that is only stopped has its cores still.
            if machine.compute.power_state is PowerState.DEALLOCATED:
                where = (machine.tenant, machine.subscription.lower(), (machine.compute.location or "").lower())
                regions.setdefault(where, []).append(machine)
        found = []
        for (tenant, _, location), machines in regions.items():
            client = self._arm(tenant)
            offered = self._skus(client, machines[0])
            names = (machine.compute.size.name.lower() for machine in machines if machine.compute.size)
            wanted = [offered[name] for name in names if name in offered]
            found += lacking(wanted, self._usages(client, machines[0]), location)
        return found
