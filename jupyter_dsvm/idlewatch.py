"""The watch over one VM: a reading a minute, what follows from it, and the stop.

``idlestops`` makes one for each VM that is watched; its thread calls ``turn`` and then waits for as long as that says. The theory
is ``idlepolicy``'s. A turn does in this order: is it on; what does it do; what follows; the schedule in Azure; and, where it is to
be stopped, one more reading, the claim on the VM, and the stop as an operation like anybody's (``changes``). Everything that
blocks here blocks this VM's thread alone.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from .computes import DELETED
from .errors import Cancelled, DSVMError, UnknownCompute
from .idleasking import Asking, House
from .idlepolicy import SOON, Decision, Reading, Settings, State, Watched, duration
from .idlereadings import SAME, is_news, record, steadied
from .idlesettings import KeptIdle
from .models import Compute, IdleStop, PowerState, utc_at
from .temporarydisk import parse

if TYPE_CHECKING:
    from .operations import Running

log = logging.getLogger("jupyter_dsvm.idle")

CLAIM_SECONDS = 900.0
"""For which a VM is claimed: as long as its files may take to come back and Azure to release it. It is given back where that
fails."""

SHORTEST_WAIT = 1.0
"""Seconds between two turns, whatever ends in between."""

OURS_TO_COPY = frozenset({"cpu", "disk", "network"})
"""What bringing the files back makes busy itself, so that it does not count right after."""


class IdleWatch(Asking):
    def __init__(self, house: House, compute_id: str) -> None:
        super().__init__(house, compute_id)
        self.shown: IdleStop | None = None
        self._watched = Watched()
        self._boot = ""
        """Of the last reading."""
        self._lost: tuple[str, ...] = ()
        self._told = False
        """Whether a failed stop was said in an operation of everybody's list."""
        self._pushed = False
        self.said_idle: bool | None = None
        """Whether whoever has it was told that nothing of ours goes on there; None before the first reading, when our account may
        not be made yet."""
        self._left = False
        """Its stop was asked for, and left to others; nothing of ours has gone on since, as far as it could be asked."""
        self._running: Running | None = None
        """The stop that is under way, or was the last."""
        self.asked = False
        """Whether what it does decides on its stop, so that it gets a connection."""

    # One turn

    def turn(self) -> float | None:
        """The seconds until the next; None when there is nothing to watch any more."""
        house = self._house
        if house.computes.is_changing(self.id):
            return house.interval()
        row = self._row()
        if row is None:
            return None if self.cancel.is_set() else house.interval()
        if row.power_state is PowerState.DEALLOCATED:
            if not self._is_off():  # the command line, or somebody else, has started it since that was heard
                return 0.0 if house.computes.known(self.id) != row else house.interval()
            self.off()
            return None
        if row.power_state not in (PowerState.RUNNING, PowerState.STOPPED, PowerState.UNKNOWN):
            return house.interval()
        kept = house.kept.read(self.id)
        settings = self.settings(row, kept)
        ours = settings.started_by_us or settings.opted_in
        self.asked = ours and (settings.idle_minutes is not None or settings.hard_limit_hours is not None)
        if not self.asked:
            # Nothing that it does could have it stopped.
            self._show(self._watched.decide(settings, house.clock()), settings, kept)
            self._hold(None, kept)
            if house.safety.is_due(self.id):
                if ours:
                    house.safety.push(self.id, self._kept_on(kept))
                else:
                    house.safety.look(self.id)
                self._show(self._watched.decide(settings, house.clock()), settings, kept)
            self._tell_strikes()
            return house.interval()
        if not self._pushed:
            # Also of one that cannot be asked anything: then Azure stops it.
            self._pushed = True
            house.safety.push(self.id, self._kept_on(kept))
        decision = self._look(row, settings, kept)
        if decision is None:
            return None
        self._after(decision, kept)
        if decision.state is State.STOP and decision.ask_now and not self.cancel.is_set():
            if self._stop(row, settings, kept):
                return None
            decision = self._watched.decide(settings, house.clock())
            self._show(decision, settings, kept)
        return self._wait(decision)

    def _look(self, row: Compute, settings: Settings, kept: KeptIdle) -> Decision | None:
        """A reading, and what follows from it, shown. None where the VM turned out to be off."""
        reading = self._read(row)
        if not reading.reachable and self._is_off():
            self.off()
            return None
        if reading.boot and not self._may_be_ours(reading.boot, kept):
            settings = self.settings(row, self._house.kept.read(self.id))
        self._left = self._left and not reading.busy
        self._watched = self._watched.seen(reading)
        decision = self._watched.decide(settings, self._house.clock())
        if decision.state in (State.STOPS_SOON, State.STOP):
            if self.shown is None or self.shown.state.value not in ("stops_soon", "stop"):
                self._lost = parse(self._ask("temporary")).listed
        else:
            self._lost = ()
        self._show(decision, settings, kept)
        return decision

    def _after(self, decision: Decision, kept: KeptIdle) -> None:
        """The lease on the VM, and the schedule in Azure."""
        house = self._house
        self._hold(decision, kept)
        left = self._kept_on(kept)
        known = house.safety.known(self.id)
        short = known is not None and known.left is not None and left > known.left - (house.clock() - known.at)
        shared, since = house.rule(self.id) is not None, decision.idle_since
        idle = max(0.0, house.clock() - since) if shared and since is not None and not left else 0.0
        # Who shares it is told at once that something goes on again, and, as unknown is busy, also while it is out of reach.
        known_now = self._watched.reading is not None and self._watched.reading.reachable
        turned = shared and known_now and (self.said_idle is None or (self.said_idle and not idle))
        if turned or ((decision.push or shared) and (house.safety.is_due(self.id) or short)):
            house.safety.push(self.id, left, idle)
            self.said_idle = idle > 0 if known_now or self.said_idle is not None else None
            self._show(decision, self.settings_now(), kept)
        self._tell_strikes()

    def _wait(self, decision: Decision) -> float:
        """Until the next turn: less than usual where something ends before."""
        interval = self._house.interval()
        if decision.stops_at is None:
            return interval
        left = decision.stops_at - self._house.clock()
        soon = left - SOON
        return min(interval, max(SHORTEST_WAIT, soon if soon > 0 else left))

    def say_now(self) -> None:
        """A person has chosen something: show it before the next reading. On the person's thread; does not wait for anybody."""
        row = self._house.computes.known(self.id)
        kept = self._house.kept.read(self.id)
        if self.shown is not None and row is not None:
            settings = self.settings(row, kept)
            self._show(self._watched.decide(settings, self._house.clock()), settings, kept)

    def preview(self, row: Compute) -> IdleStop:
        """Of one that is not watched yet, or off."""
        kept = self._house.kept.read(self.id)
        settings = self.settings(row, kept)
        decision = self._watched.decide(settings, self._house.clock())
        if row.power_state is PowerState.DEALLOCATED:
            decision = Decision(State.NEVER, "It is off.")
        until = kept.keep_until if self._kept_on(kept) > 0 else None
        return record(decision, settings, until, self._house.wall() - self._house.clock())

    def settle(self, row: Compute) -> IdleStop:
        """The lease and the schedule alone, for who does not watch: a schedule that nobody moves on later is not begun."""
        kept = self._house.kept.read(self.id)
        left = self._kept_on(kept)
        safety = self._house.safety
        if kept.keep_until is not None:
            why = f"Keep on {duration(left)}" if left else ""
            self._ask("keep", holder=self._house.holder(), seconds=left, why=why)
        known = safety.look(self.id)
        if known is not None and known.record.kind == "ours" and left > 0:
            known = safety.push(self.id, left)
            self._tell_strikes()
        return replace(self.preview(row), safety=known.record if known is not None else None)

    # What is known

    def settings(self, row: Compute | None, kept: KeptIdle) -> Settings:
        house = self._house
        tag = house.opted_in(row) if row is not None else None
        choices = dict(house.defaults().choices)
        if tag is False:
            choices["idle_minutes"] = None
        elif tag is not None and tag is not True:
            choices["idle_minutes"] = tag
        rule = house.rule(self.id)
        if rule is not None:
            choices["idle_minutes"] = rule.minutes
        choices.update(kept.choices)
        if rule is not None and rule.minutes is not None:
            choices["idle_minutes"] = min(choices["idle_minutes"] or rule.minutes, rule.minutes)
        ahead = house.wall() - house.clock()
        return Settings(
            started_by_us=kept.started is not None and rule is None,
            opted_in=house.attached(self.id)
            if rule is not None
            else (tag is not None and tag is not False) or kept.is_chosen,
            idle_minutes=choices.get("idle_minutes"),
            hard_limit_hours=choices.get("hard_limit_hours"),
            keep_until=None if kept.keep_until is None else kept.keep_until - ahead,
            shared=rule is not None,
        )

    def settings_now(self) -> Settings:
        return self.settings(self._house.computes.known(self.id), self._house.kept.read(self.id))

    def started(self) -> None:
        """It was started just now, by this server."""
        self._watched = self._watched.started(self._house.clock())
        self._boot, self._lease, self._pushed = "", None, False
        self._connect_at = float("-inf")

    def _row(self) -> Compute | None:
        """As last heard; asked for where that is nothing yet, as after a restart of the server."""
        row = self._house.computes.known(self.id)
        if row is not None:
            return row
        try:
            return self._house.computes.fresh(self.id)
        except UnknownCompute as e:
            if e.code in DELETED:
                self.off()
                self.cancel.set()
        except DSVMError as e:
            self._trouble = e.message
        return None

    def _may_be_ours(self, boot: str, kept: KeptIdle) -> bool:
        """Note which run of the VM was started from here. One that was started again while nobody looked is somebody else's,
        perhaps: then it is not ours to stop any more."""
        first, self._boot = not self._boot, boot
        if kept.started is None or kept.boot == boot:
            return True
        if first and kept.boot:
            log.info("%s was started again since it was started from here, so it is not stopped by itself.", self._name)
            self._house.kept.change(self.id, lambda one: one.off())
            self._house.safety.off(self.id)
            return False
        self._house.kept.change(self.id, lambda one: replace(one, boot=boot) if one.started is not None else one)
        return True

    # Stopping

    def _stop(self, row: Compute, settings: Settings, kept: KeptIdle) -> bool:
        """Whether it is off now. One more reading first: what was quiet a minute ago may not be any more."""
        house = self._house
        decision = self._look(row, settings, kept)
        if decision is None:
            return True
        if decision.state is not State.STOP or not decision.ask_now:
            return False
        if row.power_state is not PowerState.STOPPED:
            others = self._ask("claim", holder=house.holder(), seconds=CLAIM_SECONDS)
            if others is None and not decision.hard:
                self._watched = self._watched.seen(Reading(house.clock(), reachable=False))
                return False
            if others and not decision.hard:
                return False  # the next reading has their leases
        # Asked again: the list of a quarter of an hour ago is no list of what is lost now.
        self._lost = parse(self._ask("temporary")).listed
        self._show(decision, settings, kept)
        why = self._why(row, decision, settings)
        running = self._running = house.changes.begin_power("stop", self.id, reason=why, quiet=self._told)

        saved: list[str] = []

        def still_idle() -> None:
            if row.power_state is not PowerState.STOPPED:
                saved.extend(house.save(self.id, running))
            if decision.hard or row.power_state is PowerState.STOPPED:
                return
            reading = self._read(row, OURS_TO_COPY)
            busy = reading.busy if reading.reachable else ["it does not answer any more"]
            if busy:
                running.cancel_reason = f"{row.name} stays on: {busy[0]}."
                running.cancel.set()
                self._watched = self._watched.seen(replace(reading, busy=tuple(busy)))
                raise Cancelled(running.cancel_reason)

        try:
            after = house.changes.run_power(running, "stop", before=still_idle)
        except BaseException as e:
            if not isinstance(e, Cancelled) and isinstance(e, Exception):
                self._watched = self._watched.failed(house.clock())
                self._told = True
                self._trouble = e.message if isinstance(e, DSVMError) else f"{type(e).__name__}: {e}."
                log.warning("%s is idle and could not be stopped: %s", row.name, e)
            if not self.cancel.is_set() and row.power_state is not PowerState.STOPPED:
                trouble = self._trouble
                self._ask("keep", holder=house.holder(), seconds=self._kept_on(kept), why="")
                self._trouble = trouble
            if not isinstance(e, Exception):
                raise
            return False
        if after.power_state is PowerState.RUNNING:
            self._watched = self._watched.left_to_others(running.value.notice or f"{row.name} stays on.")
            self.said_idle = self._left = True
            self._ask("keep", holder=house.holder(), seconds=self._kept_on(kept), why="")
            return False
        log.info("%s %s.", row.name, why)
        running.add_notice(" ".join(saved))
        self.off()
        return True

    def leave(self) -> None:
        """The service ends, or nobody wants it watched. Does not block."""
        self.cancel.set()
        running = self._running
        if running is not None:
            running.cancel_reason = "The server is stopping."
            running.cancel.leaving = True
            running.cancel.set()

    @staticmethod
    def _why(row: Compute, decision: Decision, settings: Settings) -> str:
        """Goes on after the VM's name."""
        if decision.hard:
            return f"was stopped at its time limit of {duration((settings.hard_limit_hours or 0) * 3600)}"
        if row.power_state is PowerState.STOPPED:
            return "was released, since it was stopped and still billed"
        minutes = settings.idle_minutes or 0
        number, unit = (minutes, "minute") if minutes >= 1 else (round(minutes * 60), "second")
        return f"was stopped after {number:g} idle {unit}{'' if number == 1 else 's'}"

    def off(self) -> None:
        """It is off, whoever did it: what belonged to this run of it is over. Where we had asked for that, notebooks go back."""
        if self._left:
            self._left = False
            self._house.returned(self.id, "was stopped, since none of those who share it used it any more")
        self._house.kept.change(self.id, lambda one: one.off())
        self._house.safety.off(self.id)
        self._watched, self._boot, self._lost, self._told = Watched(), "", (), False
        self._publish(None)

    # What is shown

    def _show(self, decision: Decision, settings: Settings, kept: KeptIdle) -> None:
        house = self._house
        ahead = house.wall() - house.clock()
        until = [kept.keep_until] if self._kept_on(kept) > 0 else []
        if self._watched.kept_until is not None and self._watched.kept_until > house.clock():
            until.append(self._watched.kept_until + ahead)
        known = house.safety.known(self.id)
        ours = settings.started_by_us or settings.opted_in
        if known is not None and known.record.kind == "none" and not ours:
            known = None  # nobody has promised one
        new = record(
            decision,
            settings,
            max((one for one in until if one is not None), default=None),
            ahead,
            trouble=self._trouble,
            lost=self._lost,
            safety=known.record if known is not None else None,
        )
        moved = _seconds(new.stops_at) - _seconds(self.shown.stops_at if self.shown is not None else None)
        steady = steadied(new, self.shown, moved)
        kept_moved = _seconds(new.kept_until) - _seconds(self.shown.kept_until if self.shown is not None else None)
        if self.shown is not None and new.kept_until and self.shown.kept_until and abs(kept_moved) <= SAME:
            steady = replace(steady, kept_until=self.shown.kept_until)
        self._publish(steady)

    def _publish(self, new: IdleStop | None) -> None:
        before, self.shown = self.shown, new
        if not is_news(new, before):
            return
        if new is not None:
            as_of = utc_at(self._house.wall())
            shown = {**new.to_json(), "as_of": as_of}
            self._house.kept.change(self.id, lambda one: replace(one, shown=shown, name=self._name))
        self._house.changed(self.id)


def _seconds(moment: str | None) -> float:
    """Of a moment in a shape; infinite where there is none."""
    if moment is None:
        return float("inf")
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
