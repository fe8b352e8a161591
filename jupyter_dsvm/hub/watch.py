"""What a broker does by itself, every half minute: counts what VMs cost, stops those that a rule ends, ends what nobody may go on
with, keeps Azure's own schedule ahead, and starts VMs before a lesson.

One thread. ``tick`` is one round, and raises nothing: a cloud that does not answer is asked again in the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import DSVMError, RefusedByPolicy, UnknownCompute
from ..models import Compute, PowerState
from . import presence
from .lessons import Lesson
from .policy import Person
from .setups import vm_of
from .views import ON, machine_of, month_of

if TYPE_CHECKING:
    from .broker import Broker

log = logging.getLogger("jupyter_dsvm.hub")

SECONDS = 30.0

LONGEST_GAP = 600.0
"""Seconds between two rounds beyond which nobody counts what VMs have cost: this computer was asleep, or its clock was set."""

SCHEDULE_SECONDS = 900.0
"""Between two looks at a VM's auto-shutdown schedule."""

PRUNE_SECONDS = 3600.0

PEOPLE_SECONDS = 120.0
"""Between two looks at the hub's list of people."""


def shares(row: Compute, seconds: float, attached: list[str], started_by: str) -> list[tuple[str, str, float]]:
    """(person, VM, amount): what it has cost in that time is shared by those who are attached, and is of whoever started it where
    nobody is. Pure. Nothing where its price is not known or it is not billed."""
    if row.price is None or row.power_state not in ON or seconds <= 0:
        return []
    amount = row.price.amount * seconds / 3600.0
    whose = attached or ([started_by] if started_by else [])
    return [(person, vm_of(row), amount / len(whose)) for person in whose]


class Watch:
    def __init__(
        self,
        broker: Broker,
        everybody: Callable[[], Mapping[str, frozenset[str]] | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``everybody``: ``people.People.everybody``."""
        self._broker, self._everybody, self._clock = broker, everybody, clock
        self.groups: dict[str, frozenset[str]] = {}
        """Of the people whom the hub has identified, by name, as it said last."""
        self._whole = False
        """Whether that is everybody: then whoever is not in it is none of the hub's any more."""
        self._asked = float("-inf")
        self._last: float | None = None
        self._schedules: dict[str, float] = {}
        self._pruned = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, seconds: float = SECONDS) -> None:
        self._thread = threading.Thread(target=self._run, args=(seconds,), name="jupyter-dsvm-hub-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.tick()

    def tick(self) -> None:
        broker, now = self._broker, self._clock()
        try:
            broker.snapshots.all()
        except DSVMError as e:
            log.warning("The list of VMs is not known: %s", e)
        if now - self._asked >= PEOPLE_SECONDS:
            self._asked = now
            everybody = self._everybody()
            if everybody is not None:
                self.groups, self._whole = dict(everybody), True
        gap = now - self._last if self._last is not None else 0.0
        self._last = now
        for row in broker.known.last():
            if self._stop.is_set():
                return
            if broker.is_ours(row):
                try:
                    self._look(row, now, gap if 0 < gap <= LONGEST_GAP else 0.0)
                except DSVMError as e:
                    log.warning("%s: %s", row.name, e)
                except Exception:
                    log.exception("watching %s failed", row.name)
        try:
            self._lessons(now)
        except Exception:
            log.exception("starting the VMs of a lesson failed")
        if now - self._pruned > PRUNE_SECONDS:
            self._pruned = now
            broker.state.prune()

    def _lessons(self, now: float) -> None:
        """Start what a lesson needs, once for each time that it is held."""
        broker = self._broker
        local = broker.policy.local(now)
        for lesson in map(Lesson.parse, broker.policy.lessons):
            time_of_it = lesson.occurrence(local)
            if (
                not time_of_it
                or broker.state.count(f"lesson {lesson.text} {lesson.pool} {lesson.vms} {time_of_it}") > 1
            ):
                continue
            rows = [row for row in broker.known.last() if broker.is_ours(row)]
            wanted = lesson.machines(rows, lambda row: getattr(broker.policy.pool_of(machine_of(row)), "name", ""))
            broker.start_for_lesson([row for row in wanted if row.power_state is not PowerState.RUNNING], time_of_it)

    def _look(self, row: Compute, now: float, gap: float) -> None:
        broker, vm = self._broker, vm_of(row)
        if row.power_state in (PowerState.DEALLOCATED, PowerState.DEALLOCATING):
            if vm in broker.state.starts() and not broker.known.is_changing(row.id):
                broker.state.stopped(vm)
            if row.power_state is PowerState.DEALLOCATED and self._schedules.pop(row.id, None) is not None:
                self._keep(row, off=True)  # or it would come again tomorrow
            return
        if row.power_state not in ON:
            return
        broker.state.seen_running(vm)
        by, since = broker.state.starts()[vm]
        present = broker.state.present(vm)
        attached = sorted(presence.attached(present, now))
        broker.state.spent(month_of(now), shares(row, gap, attached, by))
        if row.power_state is not PowerState.RUNNING:
            return
        why = broker.policy.why_stop(since, presence.used_at(present, now), now, len(attached))
        if not why and presence.left_by_all(present):
            why = "everybody who used it has left it."
        if why:
            broker.stop_by_rule(row, why)
            return
        self._end_what_may_not_stay(row, now)
        broker.setups.bring_about(row)
        self._schedule(row, now)

    def _end_what_may_not_stay(self, row: Compute, now: float) -> None:
        """Also of those who are not attached now: what they have left running there."""
        broker, vm = self._broker, vm_of(row)
        for (_, who), state in broker.state.accounts(vm).items():
            if state not in ("present", "wanted"):
                continue
            if who not in self.groups:
                if self._whole:
                    broker.end_on(row, who, "the hub", why=f"{who} is not in the hub any more.")
                continue  # otherwise they have not asked for anything since the broker was started
            person = Person(who, self.groups[who])
            try:
                facts = broker.views.facts(person, row, now)
                broker.policy.check_stay(person, machine_of(row), broker.state.assigned_to(who), facts, now)
            except RefusedByPolicy as e:
                broker.end_on(row, who, "the hub", why=e.message)

    def _schedule(self, row: Compute, now: float) -> None:
        """The dead man's switch: should this process die, Azure stops the VM."""
        if now - self._schedules.get(row.id, 0.0) < SCHEDULE_SECONDS:
            return
        self._schedules[row.id] = now
        self._keep(row)

    def _keep(self, row: Compute, off: bool = False) -> None:
        from ..compute.azure.schedules import Use

        try:
            kept = self._broker.azure.safety(row.id).keep(Use.OFF if off else Use.USED)
        except UnknownCompute:
            return
        if kept.error is not None:
            log.warning("%s: %s", row.name, kept.text)
