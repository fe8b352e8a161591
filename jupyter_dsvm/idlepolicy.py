"""When a VM is stopped because nobody uses it. Pure: readings and settings in, a decision out.

Called by whoever watches a VM, once a minute and whenever something is asked for. Theory. Only ``IDLE`` counts towards a stop:
it begins with the first reading at which nothing was busy, and anything else begins it anew, a reading that failed as well,
since unknown is busy. Time is this server's monotonic clock alone. The VM's clock and both wall clocks may jump by hours. Where
two readings are farther apart than ``LONGEST_GAP``, by this clock or by the seconds that the VM has been up (a laptop's own
clock stands while it sleeps), nobody knows what was in between, and what was idle begins anew. Who is told to STOP takes one
more reading, claims it (``relay.leases``) and only then asks Azure.

========  ==============================  =====================================================================
from      when                            to
========  ==============================  =====================================================================
any       not ours to stop                NEVER
any       past the hard limit             STOP, whatever runs
any       something is busy, or unknown   BUSY
any       kept on, by us or by another    KEPT
IDLE      left to others, who use it      KEPT, until something is busy
BUSY,     nothing is busy                 IDLE, from now on; STOPS_SOON in the last ``SOON``
KEPT
IDLE      the idle minutes are over       STOP
STOP      it is still on                  STOP, asked again after a wait that grows
========  ==============================  =====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

MINUTES = 30.0
SOON = 300.0
"""Seconds before the stop from which on everybody is told."""

LONGEST_GAP = 300.0
"""Seconds between two readings, of which there should be one a minute."""

FIRST_WAIT = 60.0
LONGEST_WAIT = 1800.0
"""Seconds after a deallocation that failed before it is tried again, doubled each time."""

LONGEST_KEEP = 24 * 3600.0


class State(Enum):
    NEVER = "never"
    BUSY = "busy"
    KEPT = "kept"
    IDLE = "idle"
    STOPS_SOON = "stops_soon"
    STOP = "stop"


@dataclass(frozen=True)
class Settings:
    """Of one VM. Seconds are of this server's monotonic clock."""

    started_by_us: bool = False
    opted_in: bool = False
    """By its tag."""
    idle_minutes: float | None = MINUTES
    """None: it is not stopped for being idle."""
    hard_limit_hours: float | None = None
    """Since it was started: it is stopped then, cells that run included."""
    keep_until: float | None = None
    """"Keep on 1 h"."""
    shared: bool = False
    """Whoever has it stops it where nobody uses it (``compute.provider.IdleRule``)."""


@dataclass(frozen=True)
class Reading:
    """What the VM said at ``at``."""

    at: float
    reachable: bool = True
    up: float | None = None
    """Seconds since the VM was started, as it counts them."""
    boot: str = ""
    """Another one each time it is started."""
    busy: Sequence[str] = ()
    """Why it is busy, in words."""
    kept: Sequence[tuple[float, str]] = ()
    """Leases of other servers: seconds left at that time, and why."""


@dataclass(frozen=True)
class Decision:
    state: State
    text: str
    """A sentence for panel, chip and status bar."""
    stops_at: float | None = None
    """By the same clock; None where nothing is counted down."""
    stops_in: float | None = None
    idle_since: float | None = None
    hard: bool = False
    """It is stopped although something runs."""
    push: bool = False
    """Whether Azure's own schedule, the dead man's switch, is moved on: not for a VM that does not answer, which it is to stop."""
    ask_now: bool = False
    """Whether Azure is to be asked now; False while an earlier try waits."""
    plain: str = field(default="", compare=False)
    """``text`` without the time that is left, for who counts that."""


@dataclass(frozen=True)
class Watched:
    """What is remembered of one VM from one reading to the next. Immutable: ``seen``, ``started`` and ``failed`` give the next
    one."""

    since: float | None = None
    """When it was started, or first seen running."""
    idle_since: float | None = None
    reading: Reading | None = None
    kept_until: float | None = None
    """When the last lease of another server ends, or was seen to have ended."""
    left: str = ""
    """Its stop was asked for, and others use it: what was said then. Whoever has it stops it after them."""
    failures: int = 0
    failed_at: float | None = None

    def started(self, now: float) -> Watched:
        """It was started, by us or by somebody else; what was known before is over."""
        return Watched(since=now)

    def seen(self, reading: Reading) -> Watched:
        """The next reading. One that is older than the last is left out."""
        before = self.reading
        if before is not None and reading.at < before.at:
            return self
        if before is not None and before.boot and reading.boot and before.boot != reading.boot:
            return Watched(since=reading.at - (reading.up or 0.0)).seen(reading)
        gap = before is not None and _gap(before, reading)
        quiet = reading.reachable and not reading.busy
        since = self.idle_since if self.idle_since is not None and not gap else reading.at
        first = self.since if self.since is not None else reading.at - (reading.up or 0.0)
        leases = [reading.at + left for left, _ in reading.kept if left > 0]
        kept = self.kept_until
        if leases:
            kept = max(leases)
        elif kept is not None and reading.reachable:
            kept = min(kept, reading.at)
        # One that does not say when it was started says nothing: the next one is held against the last that did.
        known = replace(reading, up=before.up, boot=before.boot) if before is not None and not reading.boot else reading
        left = self.left if quiet and not gap else ""
        return replace(
            self, since=first, reading=known, idle_since=since if quiet else None, kept_until=kept, left=left
        )

    def failed(self, now: float) -> Watched:
        """The deallocation was refused or has failed."""
        return replace(self, failures=self.failures + 1, failed_at=now)

    def left_to_others(self, said: str) -> Watched:
        """Its stop was asked for, and it stays on for them."""
        return replace(self, left=said)

    def decide(self, settings: Settings, now: float) -> Decision:
        """What is to be done at ``now``, which is not before the last reading."""
        if not (settings.started_by_us or settings.opted_in):
            theirs = "The hub stops it when nobody uses it."
            ours = "It is not stopped by itself: it was not started from here."
            return Decision(State.NEVER, theirs if settings.shared else ours)
        hard_at = self._hard_at(settings)
        if hard_at is not None and now >= hard_at:
            return self._stop("Its time limit is over.", now, hard=True)
        idle = settings.idle_minutes
        if idle is None:
            return _until(Decision(State.NEVER, "It is not stopped when it is idle.", push=True), hard_at, now)
        if self.reading is None:
            return _until(
                Decision(State.BUSY, "Nobody knows yet what it does, so it stays on.", push=True), hard_at, now
            )
        stale = now - self.reading.at > LONGEST_GAP
        if stale or not self.reading.reachable:
            return _until(Decision(State.BUSY, "It cannot be asked what it does, so it stays on."), hard_at, now)
        if self.idle_since is None:
            more = f", and {len(self.reading.busy) - 1} more" if len(self.reading.busy) > 1 else ""
            return _until(Decision(State.BUSY, f"In use: {self.reading.busy[0]}{more}.", push=True), hard_at, now)
        kept, reason = self._kept(settings, now)
        if kept is not None and kept > now:
            because = f": {reason}" if reason else ""
            text, plain = f"Kept on for {duration(kept - now)}{because}.", f"Kept on{because}."
            return _until(Decision(State.KEPT, text, idle_since=self.idle_since, push=True, plain=plain), hard_at, now)
        end = self.idle_since + idle * 60.0
        if kept is not None:
            # Kept on means at least until then, and then everybody is told in time.
            end = max(end, kept + min(SOON, idle * 60.0))
        if now >= end and self.left:
            return _until(Decision(State.KEPT, self.left, idle_since=self.idle_since, push=True), hard_at, now)
        if now >= end:
            return self._stop(f"Idle for {duration(now - self.idle_since)}.", now)
        at = min(end, hard_at) if hard_at is not None else end
        state = State.STOPS_SOON if at - now <= SOON else State.IDLE
        text, plain = f"Stops in {duration(at - now)}.", "Nobody uses it."
        return Decision(state, text, at, at - now, self.idle_since, push=True, plain=plain)

    def _hard_at(self, settings: Settings) -> float | None:
        if settings.hard_limit_hours is None or self.since is None:
            return None
        return self.since + settings.hard_limit_hours * 3600.0

    def _kept(self, settings: Settings, now: float) -> tuple[float | None, str]:
        """Until when, and why: the last of ours and of the others'; in the past, when it was."""
        found: list[tuple[float, str]] = []
        if self.kept_until is not None:
            reading = self.reading
            whys = [why for left, why in reading.kept if reading.at + left == self.kept_until] if reading else []
            found.append((self.kept_until, whys[0] if whys else ""))
        if settings.keep_until is not None and settings.keep_until - now <= LONGEST_KEEP:
            found.append((settings.keep_until, ""))
        return max(found, default=(None, ""), key=lambda one: one[0])

    def _stop(self, why: str, now: float, hard: bool = False) -> Decision:
        wait = 0.0
        if self.failures and self.failed_at is not None:
            wait = max(0.0, self.failed_at + again_after(self.failures) - now)
        text, plain = why, "Its time limit is over." if hard else "Nobody uses it."
        if self.failures:
            again = f"next try in {duration(wait)}" if wait else "trying again"
            text += f" It could not be stopped and is still billed; {again}."
            plain += " It could not be stopped and is still billed; it is tried again."
        return Decision(State.STOP, text, now + wait, wait, self.idle_since, hard, ask_now=wait == 0.0, plain=plain)


def _gap(before: Reading, after: Reading) -> bool:
    gone = after.at - before.at
    if before.up is not None and after.up is not None:
        gone = max(gone, after.up - before.up)
    return gone > LONGEST_GAP


def again_after(failures: int) -> float:
    """Seconds from the last failure to the next try."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (min(failures, 10) - 1)))


def _until(decision: Decision, hard_at: float | None, now: float) -> Decision:
    """The same with the hard limit, where there is one: it comes whatever runs."""
    if hard_at is None:
        return decision
    text = f"{decision.text} Its time limit ends in {duration(hard_at - now)}."
    state = State.STOPS_SOON if hard_at - now <= SOON else decision.state
    plain = f"{decision.plain or decision.text} It is stopped at its time limit, whatever runs."
    return replace(decision, state=state, text=text, stops_at=hard_at, stops_in=hard_at - now, hard=True, plain=plain)


def duration(seconds: float) -> str:
    """``25 min``, ``50 s``, ``2 h 5 min``: rounded up, so that nothing comes before it was said to."""
    if seconds < 60:
        return f"{max(0, math.ceil(seconds))} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes // 60} h {minutes % 60} min"
