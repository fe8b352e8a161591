"""Nobody pays for a VM that nobody uses: a part of ``DSVMService`` that watches those that may be stopped.

A VM is watched for as long as this server knows that it is on, and it was started from here, has the opt-in tag or a person's
choice, or notebooks of ours are on it. Each has a thread of its own (``idlewatch``), which sleeps for nearly all of the time. Which
VMs were started from here outlives the server (``idlesettings``); the countdown does not, since nobody knows what was meanwhile.

Nothing is watched before ``begin`` (the server's extension calls it, once the server runs) or before a notebook of this process is
on a VM (papermill, nbclient): the command line only notes what it starts, for the server of its account and for Azure's own
schedule.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .compute.provider import IdleRule
from .computes import CONFIRMED_OFF
from .errors import BadRequest, ComputeNotRunning, DSVMError, OperationRefused
from .idleasking import House
from .idlepolicy import LONGEST_KEEP
from .idlesettings import KeptIdle, KeptIdles
from .idlewatch import IdleWatch
from .idlewords import seconds_left
from .models import FREE, OS, Compute, ComputeKind, IdleState, IdleStop, PowerState

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .connections import Connections
    from .operations import Running
    from .safetystops import SafetyStops

log = logging.getLogger("jupyter_dsvm.idle")

MOST = 50
"""VMs watched at a time. More than that carry the tag of a whole company, and are others' to watch."""

LONGEST_IDLE_MINUTES = 7 * 24 * 60.0
LONGEST_HARD_HOURS = 30 * 24.0

CLOSE_SECONDS = 5.0
"""For what a watch is just asking, as the service ends."""

YES = frozenset({"", "true", "yes", "on"})
NO = frozenset({"false", "no", "off", "never", "0"})
"""Values of the tag, in any case, besides minutes."""


def tag_value(tags: Mapping[str, str], name: str) -> float | bool | None:
    """What the opt-in tag says: minutes, True (as configured), False (never), None without one, or where it makes no sense."""
    value = next((v.strip().lower() for k, v in tags.items() if k.lower() == name.lower()), None) if name else None
    if value is None or value in NO:
        return None if value is None else False
    if value in YES:
        return True
    try:
        minutes = float(value)
    except ValueError:
        return None
    return minutes if 1 <= minutes <= LONGEST_IDLE_MINUTES else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class IdleStops:
    def __init__(
        self,
        computes: Computes,
        connections: Connections,
        changes: Changes,
        safety: SafetyStops,
        kept: KeptIdles,
        *,
        holder: Callable[[], str],
        minutes: Callable[[], float],
        hard_hours: Callable[[], float | None],
        tag: Callable[[], str],
        ignored: Callable[[], Collection[str]],
        interval: Callable[[], float],
        attached: Callable[[], set[str]],
        busy_here: Callable[[str], list[str]],
        changed: Callable[[str], None],
        returned: Callable[[str, str], object],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        save: Callable[[str, Running], list[str]] = lambda compute_id, running: [],
    ) -> None:
        """``attached`` gives the ids of computes that notebooks of this process are on; the rest as in ``idleasking.House``."""
        self.safety = safety
        self._computes = computes
        self._kept = kept
        self._tag = tag
        self._minutes, self._hard_hours = minutes, hard_hours
        self._attached = attached
        self._connections = connections
        self.house = House(
            computes,
            connections,
            changes,
            safety,
            kept,
            holder,
            self._defaults,
            self._opted_in,
            ignored,
            interval,
            lambda i: i in attached(),
            busy_here,
            changed,
            self._rule,
            returned,
            clock,
            wall,
            save,
        )
        self._lock = threading.RLock()
        self._watches: dict[str, tuple[IdleWatch, threading.Thread]] = {}
        self._wakes: dict[str, threading.Event] = {}
        self._started: set[str] = set()
        self._chosen: set[str] = set()
        self._serving = self._closed = False
        self._over = threading.Event()
        self._looking: threading.Thread | None = None

    def _defaults(self) -> KeptIdle:
        minutes, hours = self._minutes(), self._hard_hours()
        return KeptIdle("", choices={"idle_minutes": minutes or None, "hard_limit_hours": hours or None})

    def _opted_in(self, row: Compute) -> float | bool | None:
        return tag_value(row.tags, self._tag())

    def _rule(self, compute_id: str) -> IdleRule | None:
        try:
            return getattr(self._computes.provider(compute_id), "idle_rule", None)
        except DSVMError:
            return None

    # What is shown

    def of(self, compute_id: str) -> IdleStop | None:
        """None where it is not watched here. Never blocks."""
        with self._lock:
            found = self._watches.get(compute_id)
        return found[0].shown if found is not None else None

    def expected(self, row: Compute) -> IdleStop | None:
        """Of one that is off: what will hold once it is started from here. Blocks for a small file."""
        if row.power_state is not PowerState.DEALLOCATED or not self._may_be_stopped(row):
            return None
        return IdleWatch(self.house, row.id).preview(row)

    def last_of(self, row: Compute) -> IdleStop | None:
        """What a server of this account has last written down of it, and when: for the command line. Blocks for a small file."""
        shown = self._kept.read(row.id).shown
        if shown is None or row.power_state in CONFIRMED_OFF:
            return None
        try:
            stops_at, kept_until = (_text(shown.get(key)) for key in ("stops_at", "kept_until"))
            left = seconds_left(stops_at, self.house.wall())
            if left is not None and left < -self.house.interval():
                return None  # whoever has written it is no more
            return IdleStop(IdleState(shown["state"]), str(shown.get("text", "")), stops_at, kept_until)
        except (KeyError, TypeError, ValueError):
            return None

    def connected(self) -> set[str]:
        """Ids of the VMs whose connections are needed to watch them. Does not block."""
        with self._lock:
            return {i for i, (watch, _) in self._watches.items() if watch.asked}

    # Who is watched

    def begin(self) -> None:
        """The server runs. Does not block."""
        with self._lock:
            if self._serving or self._closed:
                return
            self._serving = True
            self._looking = threading.Thread(target=self._look_again, name="jupyter-dsvm-idle-stops", daemon=True)
            self._looking.start()

    def _look_again(self) -> None:
        """The command line, or another server of this account, may have started one too."""
        while True:
            found = self._kept.all()
            with self._lock:
                self._started |= {kept.compute for kept in found if kept.started is not None}
                self._chosen |= {kept.compute for kept in found if kept.is_chosen}
            self.look()
            if self._over.wait(self.house.interval()):
                return

    def look(self) -> None:
        """What there is has changed: watch what is to be watched. From any thread; does not block."""
        attached = {i for i in self._attached() if i != FREE}
        with self._lock:
            if self._closed or not (self._serving or attached):
                return
            rows = {row.id: row for row in self._computes.last()}
            # One that was started from here is looked at once more when it is off: then that is over.
            wanted = [i for i in self._started if i not in rows or self._may_be_stopped(rows[i])]
            wanted += [i for i in attached if i not in rows or self._may_be_watched(rows[i])]
            wanted += [
                i for i, row in rows.items() if self._may_be_watched(row) and (i in self._chosen or self._opted_in(row))
            ]
            for compute_id in wanted:
                if compute_id not in self._watches and len(self._watches) < MOST:
                    self._watch(compute_id)

    @staticmethod
    def _may_be_stopped(row: Compute) -> bool:
        return row.kind is ComputeKind.DSVM and row.os is not OS.WINDOWS

    def _may_be_watched(self, row: Compute) -> bool:
        return self._may_be_stopped(row) and row.power_state is not PowerState.DEALLOCATED

    def _watch(self, compute_id: str) -> None:
        """Under the lock."""
        watch = IdleWatch(self.house, compute_id)
        wake = self._wakes[compute_id] = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(watch, wake), name=f"jupyter-dsvm-idle-watch-{compute_id[-12:]}", daemon=True
        )
        self._watches[compute_id] = watch, thread
        try:
            thread.start()
        except RuntimeError as e:
            del self._watches[compute_id]
            log.warning("%s is not watched, and so not stopped when nobody uses it: %s", compute_id, e)

    def _run(self, watch: IdleWatch, wake: threading.Event) -> None:
        while not watch.cancel.is_set():
            wake.clear()
            try:
                seconds = watch.turn() if self._is_wanted(watch.id) else None
            except Exception:
                log.exception("watching %s failed", self._computes.name(watch.id))
                seconds = self.house.interval()
            if seconds is None:
                break
            wake.wait(seconds)
        with self._lock:
            if self._watches.get(watch.id, (None,))[0] is watch:
                del self._watches[watch.id]
            closed = self._closed
            row = self._computes.known(watch.id)
            if row is not None and row.power_state is PowerState.DEALLOCATED:
                self._started.discard(watch.id)
        if not closed:
            if watch.shown is not None:
                self.house.changed(watch.id)
            self._connections.kernels_changed()  # which looks for connections that nobody uses

    def _is_wanted(self, compute_id: str) -> bool:
        row = self._computes.known(compute_id)
        if compute_id in self._attached() or (row is not None and self._opted_in(row)):
            return True
        kept = self._kept.read(compute_id)
        return kept.started is not None or kept.is_chosen

    def used(self, compute_id: str) -> None:
        """Something runs there: where others believe that nothing of ours does, they are told now. Any thread; does not block."""
        found = self._watches.get(compute_id)
        if found is not None and found[0].said_idle:
            self.wake(compute_id)

    def wake(self, compute_id: str) -> None:
        """Look at it now. Does not block."""
        with self._lock:
            event = self._wakes.get(compute_id)
        if event is not None:
            event.set()

    def changed(self, kind: str, row: Compute, before: PowerState) -> None:
        """A change of a machine by this process has succeeded (``Computes``). On its thread; blocks for small files."""
        if row.kind is not ComputeKind.DSVM:
            return
        runs = row.power_state is PowerState.RUNNING
        if runs and kind in ("start", "create", "resize") and before is not PowerState.RUNNING:
            self._kept.change(row.id, lambda one: replace(one.off(), name=row.name, started=self.house.wall()))
            with self._lock:
                self._started.add(row.id)
                found = self._watches.get(row.id)
            if found is not None:
                found[0].started()
                self.wake(row.id)
            self.look()
        elif kind == "stop":
            with self._lock:
                self._started.discard(row.id)
            self._kept.change(row.id, lambda one: one.off())
            self.safety.off(row.id)
            self.wake(row.id)

    # What a person says

    def keep(self, compute: str, seconds: float) -> IdleStop:
        """Keep it on for so long, 0 ends that. Blocks to find it. Raises where that makes no sense."""
        return self.configure(compute, keep_seconds=seconds)

    def configure(self, compute: str, **wanted: float | None) -> IdleStop:
        """``keep_seconds``, ``idle_minutes`` (None: never for being idle), ``hard_limit_hours`` (None: no limit), any of them."""
        row = self._computes.find(compute)
        self._check(row, wanted)
        if wanted.get("keep_seconds") and row.power_state in CONFIRMED_OFF:
            raise ComputeNotRunning(
                f"{row.name} is off, so there is nothing to keep on.", advice="Start it; then it can be kept on."
            )
        choices = {key: value for key, value in wanted.items() if key != "keep_seconds"}
        wall = self.house.wall()

        def change(kept: KeptIdle) -> KeptIdle:
            until = kept.keep_until
            seconds = wanted.get("keep_seconds")
            if seconds:
                until = wall + seconds
            elif seconds is not None and until is not None:
                until = min(until, wall)  # kept on until now: whoever is there is told before it is stopped
            return replace(kept, name=row.name, keep_until=until, choices={**kept.choices, **choices})

        kept = self._kept.change(row.id, change)
        with self._lock:
            if kept.is_chosen:
                self._chosen.add(row.id)
            found = self._watches.get(row.id)
        if found is not None:
            found[0].say_now()
        self.look()
        self.wake(row.id)
        with self._lock:
            found = self._watches.get(row.id)
        if found is not None and found[0].shown is not None:
            return found[0].shown
        return IdleWatch(self.house, row.id).preview(row)

    def _check(self, row: Compute, wanted: Mapping[str, float | None]) -> None:
        if row.kind is not ComputeKind.DSVM:
            what = "The free tier" if row.id == FREE else row.name
            raise OperationRefused(
                f"{what} is no VM that could be stopped from here.",
                advice="Choose one of the Azure VMs.",
                code="NothingToStop",
            )
        if row.os is OS.WINDOWS:
            raise OperationRefused(
                f"{row.name} runs Windows, and cannot be asked what it does, so it is not stopped by itself.",
                advice="Set Auto-shutdown for it in the Azure portal, or stop it by hand.",
                code="WindowsNotSupported",
            )
        for name, least, most in (
            ("keep_seconds", 0, LONGEST_KEEP),
            ("idle_minutes", 1, LONGEST_IDLE_MINUTES),
            ("hard_limit_hours", 0.1, LONGEST_HARD_HOURS),
        ):
            value = wanted.get(name)
            if value is not None and not least <= value <= most:
                raise BadRequest(f"{name} is {value:g}.", advice=f"It is {least:g} to {most:g}.")
        rule = self._rule(row.id)
        most_idle = rule.minutes if rule is not None else None
        if most_idle is not None and "idle_minutes" in wanted and (wanted["idle_minutes"] or math.inf) > most_idle:
            raise OperationRefused(
                f"{row.name} is shared, and stops after {most_idle:g} idle minutes at the latest.",
                advice="Keep it on for a while instead; or ask whoever runs the hub.",
                code="SharedRule",
            )

    def settle(self, compute: str) -> IdleStop | None:
        """For the command line, which watches nothing: the lease on the VM and Azure's schedule, now. Blocks; what fails is a
        sentence in what it gives."""
        row = self._computes.find(compute)
        if not self._may_be_watched(row) or row.power_state is not PowerState.RUNNING:
            return None
        watch = IdleWatch(self.house, row.id)
        return watch.settle(row)

    def leave(self) -> None:
        """The service ends. Does not block."""
        with self._lock:
            self._closed = True
            watches = list(self._watches.items())
        self._over.set()
        for compute_id, (watch, _) in watches:
            watch.leave()
            self.wake(compute_id)

    def close(self) -> None:
        """Blocks for as long as a question takes, and for schedules that are being disabled: some seconds at most."""
        self.leave()
        with self._lock:
            threads = [thread for _, thread in self._watches.values()]
        if self._looking is not None:
            threads.append(self._looking)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.safety.close()
