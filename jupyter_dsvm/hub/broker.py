"""``Broker``: the one process of a hub that has an Azure identity, and what it does for the people of the hub.

It joins the rules (``policy``), what is known of VMs (``snapshots`` over ``computes``), the changes of VMs (``changes``, which
outlive it), the queue for starts, the accounts on VMs (``setups``), the authority that signs certificates, and the audit. Every
method takes the person who asks and checks the rules first; what is refused is in the audit with the rule. All of them block; the
handlers call them on worker threads.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from traitlets import Float, Int
from traitlets.config import LoggingConfigurable

from .. import booting
from ..changes import Changes
from ..compute.azure import AzureCompute
from ..compute.creating import Creation, NewCompute
from ..compute.provider import Cancel
from ..computes import CONFIRMED_OFF, Computes, PowerKind, Snapshot
from ..creations import Creations
from ..errors import DSVMError, NotAllowed, NotFound, RefusedByPolicy
from ..keptchanges import KeptChanges
from ..models import Compute, ComputeKind, Operation, OperationState, PowerState, SizeOffer
from ..operations import OperationStore, Running
from ..resizes import Resizes
from ..resuming import Resuming
from ..returns import Return
from ..spending import Spending
from ..trips import Trips
from .audit import Audit, Audited
from .certificates import Authority
from .followers import Followers
from .lettingin import LettingIn
from .policy import HubPolicy, Person
from .setups import Setups, vm_of
from .snapshots import Snapshots
from .starts import Starts
from .state import State
from .teaching import HUB, Teaching
from .views import Meant, Views, machine_of
from .vmaccounts import Limits

T = TypeVar("T")

WORKERS = 32
"""Threads for stops, set-ups and the like, and for requests. Each of them waits for Azure most of the time."""
LISTING = 4
"""Threads for lists alone, which wait for Azure only once: a page has its list while a class attaches."""


class Broker(LettingIn, Teaching, LoggingConfigurable):
    """``c.Broker.…`` in the broker's configuration."""

    starts_at_once = Int(
        5, min=1, help="How many VMs are started at a time; whoever comes later waits, and is shown their place."
    ).tag(config=True)
    listing_seconds = Float(
        15.0,
        min=1,
        help="The list of VMs is asked for at most once in so many seconds, however many people look at it.",
    ).tag(config=True)
    look_seconds = Float(3.0, min=0.2, help="The same for the state of a single VM.").tag(config=True)
    looks_per_minute = Int(
        120, min=1, help="How often single VMs are looked at, all together; beyond that what the list says has to do."
    ).tag(config=True)

    def __init__(self, folder: Path, audit: Audit, azure: AzureCompute | None = None, **kwargs: Any) -> None:
        """``folder`` is the broker's alone: the authority's keys, and what is remembered."""
        super().__init__(**kwargs)
        self.policy = HubPolicy(parent=self)
        self.audit = audit
        self._closing = False
        self.state = State(folder / "state.sqlite")
        self.authority = Authority(folder / "ca")
        self.azure = azure or AzureCompute(parent=self)
        self.work = ThreadPoolExecutor(WORKERS, thread_name_prefix="jupyter-dsvm-hub-work")
        self.requests = ThreadPoolExecutor(WORKERS, thread_name_prefix="jupyter-dsvm-hub-request")
        self.lists = ThreadPoolExecutor(LISTING, thread_name_prefix="jupyter-dsvm-hub-list")
        self.operations = OperationStore(keep=3600.0)
        self.operations.listen(self._operation_changed)
        self.followers = Followers()
        self.operations.listen(self.followers.changed)
        self.known = Computes(lambda: [self.azure], lambda compute_id: None)
        kept = KeptChanges(folder / "changes")
        # No notebooks are here: nothing travels before a stop, and nothing goes back after it.
        nothing, free = cast(Trips, _NoFiles()), cast(Spending, _NoSpending())
        self.changes = Changes(self.operations, self.known, _nobody, _no_notebooks, self._boot, kept, nothing, free)
        self.resizes = Resizes(self.operations, self.known, self.changes, _nobody, _no_notebooks, nothing, free)
        self.creations = Creations(self.operations, self.known, self.changes, free)
        self.resuming = Resuming(kept, self.changes, self.known, self._spawn)
        self.snapshots = Snapshots(self.known, self.listing_seconds, self.look_seconds, self.looks_per_minute)
        self.views = Views(self.policy, self.state, self.snapshots, self.known.last)
        self.starts = Starts(self.starts_at_once)
        self.setups = Setups(
            self.state,
            self.authority,
            self.azure.run_script,
            self.limits,
            lambda: self.policy.keep_homes,
            self.work,
            self._account_ended,
        )

    def begin(self) -> None:
        """Go on with what an earlier broker had begun. Blocks for small files."""
        self.resuming.claim()
        under_way = {running.id for running in self.operations.running()}
        self.state.lost(under_way)
        for operation_id, person, kind, vm in self.state.queued():
            if operation_id in under_way:
                continue
            operation = Operation(operation_id, kind, f"{self.azure.prefix}{vm}", None, OperationState.RUNNING)
            running = self.operations.resume(operation, {"person": person}, {})
            running.starts = True
            self.starts.begin(running, functools.partial(self._run_start, running))
        self.resuming.go_on()

    def close(self) -> None:
        """What is under way is left to the next broker. Blocks for some seconds at most."""
        self._closing = True
        self.starts.leave()
        self.changes.leave()
        self.resuming.close()
        self.setups.close()
        for running in self.operations.running():
            running.cancel_reason = "The broker is stopping."
            running.cancel.leaving = True
            running.cancel.set()
        for requests in (self.requests, self.lists):
            requests.shutdown(wait=True, cancel_futures=True)
        self.starts.close()
        self.work.shutdown(wait=True, cancel_futures=True)
        self.changes.close()
        self.known.close()
        self.state.close()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """A method of this object on a worker thread: what handlers await."""
        return self.requests.submit(function, *arguments)

    def listing(self, person: Person) -> Future[tuple[Sequence[Compute], Snapshot]]:
        """``computes``, which waits for no other request."""
        return self.lists.submit(self.computes, person)

    def limits(self) -> Limits:
        return Limits(self.policy.memory_per_user, self.policy.cpu_per_user, self.policy.tasks_per_user)

    # Looking

    def listed(self) -> None:
        """After a start of the broker, before anybody is answered: what there is. Raises nothing; the answers have the problems."""
        try:
            self.snapshots.all()
        except DSVMError as e:
            self.log.warning("The VMs cannot be listed: %s", e)

    def computes(self, person: Person) -> tuple[Sequence[Compute], Snapshot]:
        """The rows of that person, and the snapshot that they are from."""
        snapshot = self.snapshots.all()
        return self.views.all_of(person), snapshot

    def compute(self, person: Person, shown_id: str) -> Compute:
        meant = self._meant(person, shown_id)
        row = self.snapshots.one(meant.row.id)
        return self.views.shown(person, row, meant.shown, meant.name)

    def sizes(self, person: Person, shown_id: str) -> tuple[Sequence[SizeOffer], str]:
        """Those that the person may resize to; of the others the reason."""
        meant = self._meant(person, shown_id)
        offers, notice = self.known.sizes(meant.row.id)
        facts, now = self.views.facts(person, meant.row, time.time()), time.time()
        found = []
        for offer in offers:
            try:
                self.policy.check_resize(person, machine_of(meant.row), offer.size.name, facts, now)
            except RefusedByPolicy as e:
                offer = dataclasses.replace(offer, available=False, reason=e.message)
            found.append(offer)
        return found, notice

    def operations_of(self, person: Person) -> list[Operation]:
        shown = (self.views.shown_operation(person, operation) for operation in self.operations.all())
        return [operation for operation in shown if operation is not None]

    def operation(self, person: Person, operation_id: str) -> Operation:
        shown = self.views.shown_operation(person, self.operations.get(operation_id).value)
        if shown is None:
            raise NotFound(f"There is no operation {operation_id!r}.", code="UnknownOperation")
        return shown

    def cancel(self, person: Person, operation_id: str) -> None:
        """Whoever has begun it may, and a teacher."""
        self.operation(person, operation_id)
        if self.state.owner(operation_id) != person.name and not self.policy.is_teacher(person):
            raise NotAllowed("Somebody else has begun that.", advice="Ask them, or your teacher.")
        self.operations.cancel(operation_id, f"{person.name} has cancelled it.")

    # Power

    def start(self, person: Person, shown_id: str) -> Operation:
        """In its turn. One that is under way already is joined."""
        meant = self._meant(person, shown_id)
        vm = vm_of(meant.row)
        with self._audited("start", person, vm, meant.row.name):
            row, now = self.snapshots.one(meant.row.id), time.time()
            self.policy.check_start(person, machine_of(row), self.views.facts(person, row, now), now)
            row = self._settled(person, meant, row)
            running = self._under_way("start", row.id) or self._queue_start(row, person.name)
        return self.operation(person, running.id)

    def start_for_lesson(self, rows: Sequence[Compute], lesson: str) -> None:
        """By the timetable. What the quotas lack is said beforehand; as many are started as Azure lets."""
        if rows:
            try:
                for sentence in self.azure.lacking([row.id for row in rows]):
                    self.log.warning("For the lesson at %s: %s", lesson, sentence)
                    self.audit.record("start", HUB.name, outcome="QuotaExceeded", why=sentence, lesson=lesson)
            except DSVMError as e:
                self.log.warning("Whether the quotas are enough for the lesson at %s is not known: %s", lesson, e)
        for row in rows:
            if self._under_way("start", row.id) is None:
                self._queue_start(row, HUB.name)
                self.audit.record("start", HUB.name, vm_of(row), row.name, "begun", lesson=lesson)

    def _queue_start(self, row: Compute, person: str) -> Running:
        if row.power_state in CONFIRMED_OFF:
            self.state.stopped(vm_of(row))  # whoever has stopped it: its hours begin anew
        running = self.changes.begin_power("start", row.id)
        running.arguments["person"] = person
        self.state.operation(running.id, person, "start", vm_of(row), "queued")
        self.starts.begin(running, lambda: self._run_start(running))
        return running

    def stop(self, person: Person, shown_id: str) -> Operation:
        """Where others use it, the person leaves it to them, which is no failure: the last one's stop is let through."""
        meant = self._meant(person, shown_id)
        others = self.policy.others(person, self.views.facts(person, meant.row, time.time()).using)
        if others and meant.row.power_state is PowerState.RUNNING:
            return self._leave(person, meant, len(others))
        return self._end_power(person, shown_id, "stop", "stopped")

    def restart(self, person: Person, shown_id: str) -> Operation:
        return self._end_power(person, shown_id, "restart", "restarted")

    def _end_power(self, person: Person, shown_id: str, kind: PowerKind, verb: str) -> Operation:
        meant = self._meant(person, shown_id)
        vm = vm_of(meant.row)
        with self._audited(kind, person, vm, meant.row.name):
            self.policy.check_stop(
                person, machine_of(meant.row), self.views.facts(person, meant.row, time.time()), verb
            )
            running = self._begin_power(kind, meant.row.id, person.name)
        return self.operation(person, running.id)

    def _begin_power(self, kind: PowerKind, compute_id: str, person: str, reason: str = "") -> Running:
        under_way = self._under_way(kind, compute_id)
        if under_way is not None:
            return under_way
        running = self.changes.begin_power(kind, compute_id, reason=reason)
        running.arguments["person"] = person
        self.state.operation(running.id, person, kind, compute_id.partition(":")[2], "begun")
        self._spawn(running, lambda: self.changes.run_power(running, kind))
        return running

    def _run_start(self, running: Running) -> None:
        compute = running.value.compute or ""
        vm = compute.partition(":")[2]
        self.state.operation(running.id, self.state.owner(running.id), "start", vm, "begun")
        self.changes.run_power(running, "start")

    def _under_way(self, kind: str, compute_id: str) -> Running | None:
        found = (r for r in self.operations.running() if r.value.kind == kind and r.value.compute == compute_id)
        return next((r for r in found if not r.cancel.is_set()), None)

    def resize(self, person: Person, shown_id: str, size: str) -> Operation:
        meant = self._meant(person, shown_id)
        vm = vm_of(meant.row)
        with self._audited("resize", person, vm, meant.row.name, size=size):
            facts, now = self.views.facts(person, meant.row, time.time()), time.time()
            self.policy.check_resize(person, machine_of(meant.row), size, facts, now)
            running = self.resizes.begin(meant.row.id, size)
            running.arguments["person"] = person.name
            self.state.operation(running.id, person.name, "resize", vm, "begun")
            self._spawn(running, lambda: self.resizes.run(running, size))
        return self.operation(person, running.id)

    # New VMs

    def creation(self, person: Person, location: str | None, subscription: str | None) -> Creation:
        """What a new VM can be like for that person. Raises nothing for who may make none: that is the answer then."""
        if not self.policy.may(person, self.policy.may_create):
            return Creation(False, "No VM may be made (rule HubPolicy.may_create). Ask your teacher.")
        found = self.creations.choices(location, subscription)
        allowed = [one for one in found.sizes if self.policy.allows_size(one.size.name)]
        return dataclasses.replace(found, sizes=tuple(allowed))

    def create(self, person: Person, wanted: NewCompute) -> Operation:
        """It is that person's, by its tag."""
        with self._audited("create", person, "", wanted.name, size=wanted.size):
            if not self.known.is_listed:
                self.snapshots.all()
            nothing = Compute("", wanted.name, ComputeKind.DSVM, PowerState.DEALLOCATED)
            now = time.time()
            self.policy.check_create(person, wanted.size, self.views.facts(person, nothing, now), now)
            wanted = dataclasses.replace(wanted, tags=((self.policy.user_tag, person.name),))
            running = self.creations.begin(wanted)
            self.state.operation(running.id, person.name, "create", None, "begun")
            self._spawn(running, lambda: self.creations.run(running, wanted))
        return self.operation(person, running.id)

    # In here

    def _meant(self, person: Person, shown_id: str, settle: bool = False) -> Meant:
        if not self.known.is_listed:
            self.snapshots.all()
        meant = self.views.meant(person, shown_id, settle=False)
        if settle and not meant.settled:
            meant = self.views.meant(person, shown_id, settle=True)
            self.audit.record("assign", person.name, vm_of(meant.row), meant.row.name)
        return meant

    def _settled(self, person: Person, meant: Meant, row: Compute) -> Compute:
        """What was looked at is theirs from now on; of a pool it may be another one by now, which is looked at then."""
        if meant.settled:
            return row
        settled = self._meant(person, meant.shown, settle=True)
        return row if settled.row.id == row.id else self.snapshots.one(settled.row.id)

    def _audited(self, action: str, person: Person, vm: str, name: str, quiet: bool = False, **more: Any) -> Audited:
        return Audited(self.audit, action, person.name, vm, name, quiet, more)

    def _spawn(self, running: Running, work: Callable[[], object]) -> None:
        self.work.submit(self._quietly, running, work)

    def _quietly(self, running: Running, work: Callable[[], object]) -> None:
        try:
            work()
        except DSVMError as e:
            self.log.info("%s: %s", running.value.kind, e)
        except Exception:
            self.log.exception("%s failed", running.value.kind)

    def _boot(self, compute: Compute, cancel: Cancel) -> str:
        return booting.wait(compute, self.known.ssh_target, self.known.look, cancel)

    def _operation_changed(self, operation: Operation) -> None:
        """The ends of operations: what is so from then on, and the audit."""
        if operation.state is OperationState.RUNNING or operation.kind == "update":
            return
        if self._closing and operation.state is OperationState.CANCELLED:
            return  # the next broker goes on with it
        vm = (operation.compute or "").partition(":")[2].lower()
        person = self.state.owner(operation.id)
        self.state.operation_ended(operation.id)
        done = operation.state is OperationState.DONE
        compute_id = operation.compute or ""
        if done and operation.kind in ("start", "create"):
            self.state.started(vm, person)
        if done and operation.kind == "stop":
            self.state.stopped(vm)
        if operation.kind in ("start", "stop", "restart", "resize"):
            self.snapshots.changed(compute_id)
        outcome = "ok" if done else (operation.error.code if operation.error else operation.state.value)
        seconds = max(0.0, _moment(operation.ended) - _moment(operation.started))
        self.audit.record(operation.kind, person, vm, self.known.name(compute_id), outcome, seconds=round(seconds, 3))

    def _account_ended(self, vm: str, person: str, state: str) -> None:
        action = "remove" if state == "removed" else "end"
        self.audit.record(action, HUB.name, vm, self.known.name(self.azure.prefix + vm), whose=person)


class _NoSpending:
    """In place of ``Spending``: a hub's money is counted by person (``watch``), and its budgets are rules."""

    def check_start(self, row: Compute, size: str | None = None) -> None:
        pass

    def check_new(self, name: str, subscription: str | None = None, group: str | None = None) -> None:
        pass

    def remark(self, row: Compute) -> str:
        return ""


class _NoFiles:
    """In place of ``Trips``: nothing of anybody's travels before a broker stops a VM. Their own servers see to that."""

    def steps_of_stop(self, row: Compute) -> list[tuple[str, str]]:
        return []

    def bring_back(self, running: Running) -> str:
        return ""


def _nobody(compute_id: str) -> list[str]:
    return []


def _no_notebooks(compute_id: str, reason: str = "") -> Return:
    return Return({})


def _moment(text: str | None) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
