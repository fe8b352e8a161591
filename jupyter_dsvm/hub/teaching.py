"""What a teacher asks of the broker, and what the rules have it end by itself. A part of ``Broker``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import NotAllowed
from ..models import Compute, PowerState
from .audit import Audit
from .certificates import Authority
from .policy import HubPolicy, Person
from .setups import Setups, vm_of
from .snapshots import Snapshots
from .starts import Starts
from .state import State
from .views import ON, PREFIX, machine_of, month_of

if TYPE_CHECKING:
    from ..compute.azure import AzureCompute
    from ..computes import Computes
    from ..operations import Running

HUB = Person("the hub", admin=True)
"""Who does what the rules do by themselves."""


class Teaching:
    # Of Broker
    policy: HubPolicy
    state: State
    audit: Audit
    azure: AzureCompute
    known: Computes
    snapshots: Snapshots
    starts: Starts
    setups: Setups
    authority: Authority
    _begin_power: Callable[..., Running]

    def end(self, person: Person, name: str, vm: str | None = None, remove: bool = False) -> int:
        """End what ``name`` has running, on one VM or on all, and let them in no more until they are given an account again;
        ``remove``: the accounts too, with what is in them. How many VMs it is about."""
        if not self.policy.is_teacher(person):
            raise NotAllowed("That is for teachers.", advice="Ask whoever runs the hub.")
        rows = {vm_of(row): row for row in self.known.last()}
        count = 0
        for (where, who), state in self.state.accounts().items():
            if who != name or (vm is not None and where != vm) or (state == "removing" and not remove):
                continue
            row = rows.get(where)
            count += 1
            if row is None:  # it is no more
                self.state.account(where, who, "removed")
                continue
            self.end_on(row, name, person.name, remove)
        if remove:
            for pool, who in list(self.state.assignments()):
                if who == name:
                    self.state.unassign(pool, who)
        return count

    def end_on(self, row: Compute, name: str, by: str, remove: bool = False, why: str = "") -> None:
        self.setups.end(row, name, remove)
        self.audit.record("remove" if remove else "end", by, vm_of(row), row.name, "begun", whose=name, why=why)
        if row.power_state is PowerState.RUNNING:
            self.setups.bring_about(row)

    def stop_all(self, person: Person) -> list[str]:
        """Names of the VMs that are being stopped now: every one of the hub's that is on."""
        if not self.policy.is_teacher(person):
            raise NotAllowed("That is for teachers.", advice="Ask whoever runs the hub.")
        self.snapshots.all()
        stopping = []
        for row in self.known.last():
            if row.power_state in ON and self.is_ours(row):
                self._begin_power("stop", row.id, person.name)
                self.audit.record("stop", person.name, vm_of(row), row.name, "begun", why="all")
                stopping.append(row.name)
        return stopping

    def is_ours(self, row: Compute) -> bool:
        """Whether the hub's rules are about that VM at all: it has one of their tags, or was started here. Nothing else is ever
        stopped by itself."""
        machine = machine_of(row)
        tags = {name.lower() for name in machine.tags}
        named = {self.policy.user_tag.lower(), self.policy.group_tag.lower(), self.policy.pool_tag.lower()}
        return bool(tags & named) or bool(self.state.starts().get(machine.id, ("", 0.0))[0])

    def stop_by_rule(self, row: Compute, why: str) -> None:
        self._begin_power("stop", row.id, HUB.name, f"was stopped: {why}".rstrip("."))
        self.audit.record("stop", HUB.name, vm_of(row), row.name, "begun", why=why)

    def overview(self, person: Person) -> dict[str, Any]:
        """For teachers: the VMs of the hub, who is attached, and what everybody has spent in this month."""
        if not self.policy.is_teacher(person):
            raise NotAllowed("That is for teachers.", advice="Ask whoever runs the hub.")
        snapshot, now = self.snapshots.all(), time.time()
        attached: dict[str, list[str]] = {}
        for vm, who, until in self.state.presence():
            if until > now:
                attached.setdefault(vm, []).append(who)
        starts = self.state.starts()
        rows = []
        for row in snapshot.computes:
            if self.is_ours(row):
                vm = vm_of(row)
                by, at = starts.get(vm, ("", 0.0))
                rows.append(
                    {
                        "id": PREFIX + vm,
                        "name": row.name,
                        "power_state": row.power_state.value,
                        "size": row.size.name if row.size else None,
                        "per_hour": row.price.amount if row.price else None,
                        "image": row.image,
                        "image_version": row.image_version,
                        "drift": self._drift(row),
                        "on_since": at or None,
                        "started_by": by,
                        "authority": self._authority_of(vm),
                        "attached": sorted(attached.get(vm, ())),
                    }
                )
        spend: dict[str, float] = {}
        for (who, _), amount in self.state.spend(month_of(now)).items():
            spend[who] = spend.get(who, 0.0) + amount
        return {
            "vms": rows,
            "month": month_of(now),
            "currency": self.azure.currency,
            "spend": spend,
            "waiting": self.starts.waiting,
            "problems": [p.to_json() for p in snapshot.problems],
        }

    def _drift(self, row: Compute) -> str:
        """The version that it should have, where it is known to have another; otherwise empty."""
        wanted = self.policy.image_version
        return wanted if wanted and row.image_version not in (None, wanted) else ""

    def _authority_of(self, vm: str) -> str:
        """Which key of the authority a VM trusts: newest, older, or not set up."""
        known = self.state.set_up(vm)
        if known is None:
            return "not set up"
        return "newest" if self.authority.known()[-1].fingerprint in known.trusted else "older"

    def spend_of(self, person: Person) -> dict[str, Any]:
        now = time.time()
        mine = {vm: a for (who, vm), a in self.state.spend(month_of(now)).items() if who == person.name}
        return {
            "month": month_of(now),
            "currency": self.azure.currency,
            "amount": sum(mine.values()),
            "budget": self.policy.budget_per_user,
        }

    def numbers(self) -> dict[str, Any]:
        """For ``audit.Numbers``: as last heard, asking nobody."""
        now, rows = time.time(), [row for row in self.known.last() if self.is_ours(row)]
        states: dict[str, int] = {}
        for row in rows:
            states[row.power_state.value] = states.get(row.power_state.value, 0) + 1
        attached = {row.name: 0 for row in rows}
        names = {vm_of(row): row.name for row in rows}
        for vm, _, until in self.state.presence():
            if until > now and vm in names:
                attached[names[vm]] += 1
        return {"states": states, "attached": attached, "waiting": self.starts.waiting}
