"""How a person of the hub gets onto a VM: an account there, and certificates of some minutes. A part of ``Broker``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ComputeNotRunning, OperationRefused, RefusedByPolicy
from ..models import Compute, Operation, PowerState
from .audit import Audit, Audited
from .certificates import Authority, account, principal
from .policy import HubPolicy, Person
from .presence import stays_on
from .setups import Setups, vm_of
from .snapshots import Snapshots
from .state import State
from .views import Meant, Views, machine_of

if TYPE_CHECKING:
    from ..operations import OperationStore

PRESENCE_SECONDS = 900.0
"""For how long somebody counts as attached after their server has last said so, which it does every ten minutes
(``safetystops.EVERY``)."""

ANEW_SECONDS = 60.0
"""How soon after a VM was set up it may be set up again because somebody was not let in."""


class LettingIn:
    # Of Broker
    policy: HubPolicy
    state: State
    authority: Authority
    audit: Audit
    operations: OperationStore
    snapshots: Snapshots
    views: Views
    setups: Setups
    _meant: Callable[..., Meant]
    _settled: Callable[[Person, Meant, Compute], Compute]
    _audited: Callable[..., Audited]
    operation: Callable[[Person, str], Operation]

    def access(self, person: Person, shown_id: str) -> Operation:
        """Make the person's account on the VM. The operation ends at once where it is there and the VM was set up just now."""
        meant = self._meant(person, shown_id)
        vm = vm_of(meant.row)
        with self._audited("access", person, vm, meant.row.name):
            row = self._running_row(meant)
            self._check_attach(person, row)
            row = self._settled(person, meant, row)
            vm = vm_of(row)
            text = f"Make your account on {row.name}"
            running = self.operations.begin(
                "access", compute=row.id, steps=[("access", text)], arguments={"person": person.name}
            )
            self.state.operation(running.id, person.name, "access", vm, "begun")
            running.step("access")
            known = self.state.set_up(vm)
            lately = known is not None and time.time() - known.at < ANEW_SECONDS
            if lately and self.setups.is_ready(vm, person.name):
                running.done(f"Your account on {row.name} is there.")
            else:
                self.setups.want(row, person.name, running)
        return self.operation(person, running.id)

    def certificate(self, person: Person, shown_id: str, public_line: str, terminal: bool) -> dict[str, Any]:
        """A certificate for the key of ``public_line``, and where the VM is. Raises ``OperationRefused`` (``AccountNeeded``) where
        ``access`` comes first."""
        meant = self._meant(person, shown_id)
        vm = vm_of(meant.row)
        with self._audited("certificate", person, vm, meant.row.name, quiet=True):
            row = self._running_row(meant)
            self._check_attach(person, row)
            row = self._settled(person, meant, row)
            vm = vm_of(row)
            if terminal and not self.policy.terminals:
                raise RefusedByPolicy(
                    f"No terminal may be opened on {row.name} (rule HubPolicy.terminals).",
                    advice="Ask your teacher.",
                    rule="terminals",
                )
            known = self.state.set_up(vm)
            if known is None or not self.setups.is_ready(vm, person.name):
                raise OperationRefused(
                    f"You have no account on {row.name} yet.",
                    advice="Ask for it first: POST computes/ID/access.",
                    code="AccountNeeded",
                )
            where = self.snapshots.target(row.id)
            serial = self.state.count("certificates")
            made = self.authority.sign(
                public_line,
                to=principal(vm, person.name),
                key_id=f"{person.name} on {row.name} ({vm})",
                serial=serial,
                seconds=self.policy.certificate_minutes * 60,
                now=time.time(),
                trusted=known.trusted,
                terminal=terminal,
                sources=self.policy.source_addresses,
            )
            self.state.issued(serial, person.name, vm, made.authority, made.until)
            self.state.here(vm, person.name, made.until, time.time(), at_least=True)
        self.audit.record("certificate", person.name, vm, row.name, serial=serial, until=made.until)
        return {
            "certificate": made.line,
            "serial": serial,
            "until": made.until,
            "seconds": made.until - time.time(),
            "user": account(person.name),
            "vm_id": vm,
            "host": where.host,
            "port": where.port,
            "host_keys": list(known.host_keys),
            "python": where.python,
        }

    def present(self, person: Person, shown_id: str, used: bool, idle: float = 0.0) -> dict[str, Any]:
        """A user's server says every few minutes whether notebooks of its user are there, and for how many seconds nothing of
        theirs has gone on. Gives when the VM is stopped at the latest."""
        meant = self._meant(person, shown_id)
        vm, now = vm_of(meant.row), time.time()
        if used and (self.state.account_state(vm, person.name) == "present" or self._has_started(vm, person)):
            until = now + PRESENCE_SECONDS
            self.state.here(vm, person.name, until, now - idle if idle > 0 else until)
        elif not used:
            self.state.gone(vm, person.name)
        since = self.state.starts().get(vm, ("", now))[1]
        hours = self.policy.hard_limit_hours
        return {"hard_limit_at": None if hours is None else since + hours * 3600.0, "now": now}

    def _leave(self, person: Person, meant: Meant, others: int) -> Operation:
        """In place of a stop: an operation that ends at once and well."""
        vm, name = vm_of(meant.row), meant.row.name
        self.state.leave(vm, person.name, time.time())
        steps = [("ask", f"Leave {name} to the others")]
        running = self.operations.begin("leave", compute=meant.row.id, steps=steps, arguments={"person": person.name})
        self.state.operation(running.id, person.name, "leave", vm, "begun")
        running.step("ask")
        running.done(stays_on(name, others))
        return self.operation(person, running.id)

    def _has_started(self, vm: str, person: Person) -> bool:
        return self.state.starts().get(vm, ("", 0.0))[0] == person.name

    def _running_row(self, meant: Meant) -> Compute:
        row = self.snapshots.one(meant.row.id)
        if row.power_state is not PowerState.RUNNING:
            raise ComputeNotRunning(
                f"{meant.name} is {row.power_state.value}.", advice="Start it first: in the panel, or with %dsvm start."
            )
        return row

    def _check_attach(self, person: Person, row: Compute) -> None:
        now = time.time()
        self.policy.check_attach(person, machine_of(row), self.views.facts(person, row, now), now)
