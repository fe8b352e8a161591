"""What a person of the hub sees of VMs: their rows, under ids of the broker's, and which VM an id means for them.

A VM's id is ``hub:VMID``. One of a pool is ``hub:pool-NAME`` for whoever has it, and already before they have one: the row says
what they would get, and which VM it is becomes settled when it is first started or attached. Where a VM is in Azure (subscription,
resource group) and its tags are nothing that a student's page shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ..errors import RefusedByPolicy, UnknownCompute
from ..models import Compute, ComputeKind, Operation, PowerState, Problem
from ..spending_rules import BILLED
from .policy import Facts, HubPolicy, Machine, Person
from .pool import choose
from .presence import attached, using
from .setups import vm_of
from .snapshots import Snapshots
from .state import State

PREFIX = "hub:"
POOL = "hub:pool-"

ON = frozenset(state for state, billed in BILLED.items() if billed)
"""What is billed, or about to be."""


def machine_of(row: Compute) -> Machine:
    """For the rules."""
    size = row.size.name if row.size is not None else ""
    price = row.price.amount if row.price is not None else None
    return Machine(vm_of(row), row.name, dict(row.tags), size, price)


def month_of(now: float) -> str:
    """In UTC, as ``state.State.spend`` has it."""
    return datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m")


@dataclass(frozen=True)
class Meant:
    """The VM that an id means for a person."""

    row: Compute
    """As the provider has it."""
    shown: str
    """The id that the person uses."""
    name: str
    settled: bool = True
    """False: of a pool, and it could still be another."""


class Views:
    def __init__(
        self, policy: HubPolicy, state: State, snapshots: Snapshots, rows: Callable[[], Sequence[Compute]]
    ) -> None:
        """``rows`` gives all VMs as last heard, asking nobody."""
        self.policy, self._state, self._snapshots, self._rows = policy, state, snapshots, rows
        self._lock = threading.Lock()
        """Held while somebody is given a VM."""

    def all_of(self, person: Person) -> list[Compute]:
        """The rows of that person, as last heard."""
        policy, assigned = self.policy, self._state.assigned_to(person.name)
        seen = [row for row in self._rows() if policy.sees(person, machine_of(row), assigned)]
        pools = policy.pools_of(person)
        names = {pool.name for pool in pools}
        if not policy.is_teacher(person):
            # Theirs by a pool: it is in the pool's row.
            seen = [r for r in seen if self._own_by_tag(person, r) or policy.pool_of(machine_of(r)) is None]
        shown = [self.shown(person, row, PREFIX + vm_of(row), row.name) for row in seen]
        return shown + [self._pool_row(person, name) for name in sorted(names)]

    def _own_by_tag(self, person: Person, row: Compute) -> bool:
        return self.policy.owns(person, machine_of(row))

    def _pool_row(self, person: Person, name: str) -> Compute:
        try:
            meant = self.meant(person, POOL + name)
        except RefusedByPolicy as e:
            problem = Problem(e.code, e.message, e.advice)
            return Compute(POOL + name, name, ComputeKind.DSVM, PowerState.DEALLOCATED, problem=problem)
        row = self.shown(person, meant.row, meant.shown, meant.name)
        return row if meant.settled else replace(row, power_state=PowerState.DEALLOCATED)

    def shown(self, person: Person, row: Compute, shown_id: str, name: str) -> Compute:
        """A row as that person may see it."""
        denied = set(row.not_allowed)
        if not self.policy.is_teacher(person):
            denied |= {"resize"} if not self.policy.may(person, self.policy.may_resize) else set()
        return replace(
            row,
            id=shown_id,
            name=name,
            subscription=None,
            resource_group=None,
            tags={},
            not_allowed=tuple(sorted(denied)),
        )

    def meant(self, person: Person, shown_id: str, settle: bool = False) -> Meant:
        """The VM that they mean. ``settle``: one of a pool is theirs from now on.

        Raises ``UnknownCompute``, also for a VM of somebody else's: nobody learns what there is. ``RefusedByPolicy`` where the pool
        has no room.
        """
        policy = self.policy
        if shown_id.startswith(POOL):
            pool = policy.pool(shown_id[len(POOL) :])
            if pool is None or pool not in policy.pools_of(person):
                raise _unknown(shown_id)
            with self._lock:
                rows = [r for r in self._rows() if policy.pool_of(machine_of(r)) == pool]
                assignments = self._state.assignments()
                by_vm = {vm_of(r): r for r in rows}
                listed = [replace(r, id=vm) for vm, r in by_vm.items()]
                chosen = choose(pool, listed, assignments, person.name)
                settled = assignments.get((pool.name, person.name)) == chosen
                if settle and not settled:
                    self._state.assign(pool.name, person.name, chosen)
                    settled = True
            return Meant(by_vm[chosen], shown_id, pool.name, settled)
        vm = shown_id.removeprefix(PREFIX).lower()
        row = next((r for r in self._rows() if vm_of(r) == vm), None)
        if row is None or not policy.sees(person, machine_of(row), self._state.assigned_to(person.name)):
            raise _unknown(shown_id)
        return Meant(row, PREFIX + vm, row.name)

    def facts(self, person: Person, row: Compute, now: float) -> Facts:
        vm = vm_of(row)
        states = {vm_of(r): r.power_state for r in self._rows()}
        spend, present = self._state.spend(month_of(now)), self._state.present(vm)
        on = {
            where for where, (who, _) in self._state.starts().items() if who == person.name and states.get(where) in ON
        }
        asked = {where for _, who, where in self._state.under_way("start") if who == person.name}
        return Facts(
            attached=attached(present, now),
            using=using(present, now, self.policy.idle_minutes),
            running=frozenset((on | asked) - {vm}),
            spent=sum(amount for (who, _), amount in spend.items() if who == person.name),
            spent_by_all=sum(spend.values()),
        )

    def shown_operation(self, person: Person, operation: Operation) -> Operation | None:
        """As that person may see it; None where it is none of theirs. One to set up an account is of that person alone."""
        if operation.kind == "access" and self._state.owner(operation.id) != person.name:
            return None
        if operation.compute is None:
            return operation if self._state.owner(operation.id) == person.name else None
        vm = operation.compute.partition(":")[2].lower()
        for (pool, who), where in self._state.assignments().items():
            if who == person.name and where == vm and self.policy.pool(pool) in self.policy.pools_of(person):
                return replace(operation, compute=POOL + pool)
        try:
            return replace(operation, compute=self.meant(person, PREFIX + vm).shown)
        except UnknownCompute:
            return None


def _unknown(shown_id: str) -> UnknownCompute:
    return UnknownCompute(
        f"No VM of yours has the id {shown_id[:80]!r}.", advice="Reload the list of computes; ask your teacher."
    )
