"""What the watch over one VM asks of it: what goes on there, leases, and to be told when Azure stops it.

A part of ``idlewatch.IdleWatch``. Everything here blocks, for ``ANSWER_SECONDS`` at most, and none of it raises: what cannot be
asked is not known, and why is in ``_trouble``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel, IdleRule
from .computes import DELETED
from .errors import DSVMError, UnknownCompute
from .idlepolicy import LONGEST_KEEP, Decision, Reading, duration
from .idlereadings import SAME, reading_of
from .idlewords import strike_words
from .models import Compute, PowerState

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .connections import Connections
    from .idlesettings import KeptIdle, KeptIdles
    from .operations import Running
    from .safetystops import SafetyStops

ANSWER_SECONDS = 30.0
"""For a question to a VM: two seconds where it has to count something, and a busy one takes its time."""

POLL_SECONDS = 0.1
"""How often whoever waits for an answer looks whether the server ends."""

RENEWED = 300.0
"""Seconds of a lease that is taken anew with each turn: with the server it ends soon."""

LONGEST_PAUSE = 600.0
"""Seconds between two tries to connect to a VM that cannot be; they begin with ``FIRST_PAUSE`` and double."""
FIRST_PAUSE = 60.0


@dataclass(frozen=True)
class House:
    """What a watch needs of the service."""

    computes: Computes
    connections: Connections
    changes: Changes
    safety: SafetyStops
    kept: KeptIdles
    holder: Callable[[], str]
    """This server's name in leases."""
    defaults: Callable[[], KeptIdle]
    """What holds where a person has chosen nothing (``choices`` of it)."""
    opted_in: Callable[[Compute], float | bool | None]
    """By its tag: minutes, True, False for "never", or None."""
    ignored: Callable[[], Collection[str]]
    interval: Callable[[], float]
    attached: Callable[[str], bool]
    """Whether notebooks of ours are there."""
    busy_here: Callable[[str], list[str]]
    """What this server knows to go on there: cells, moves, operations."""
    changed: Callable[[str], None]
    """Whoever shows it must be told."""
    rule: Callable[[str], IdleRule | None] = lambda compute_id: None
    """Of whoever has it, where several people share it."""
    returned: Callable[[str, str], object] = lambda compute_id, reason: None
    """It was stopped, as we had asked: its notebooks go back. ``reason`` goes on after its name."""
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    save: Callable[[str, Running], list[str]] = lambda compute_id, running: []
    """Has what notebooks have in memory there saved on its disk, and says what was. Blocks; raises ``Cancelled`` only."""


class Asking:
    def __init__(self, house: House, compute_id: str) -> None:
        self.id = compute_id
        self.cancel = Cancel()
        """Set when the service ends, or nobody wants it watched."""
        self._house = house
        self._trouble = ""
        """Why the last question has no answer, or what else went wrong; empty where all is well."""
        self._lease: float | None = None
        """What was last asked of the VM: kept on until then, by the wall clock."""
        self._connect_at = float("-inf")
        self._pause = FIRST_PAUSE
        self._refused = ""
        """Why it could not be connected to, the last time."""
        self._strikes: float | None = None

    @property
    def _name(self) -> str:
        return self._house.computes.name(self.id)

    def _kept_on(self, kept: KeptIdle) -> float:
        """Seconds for which a person wants it kept on."""
        return max(0.0, kept.keep_until - self._house.wall()) if kept.keep_until is not None else 0.0

    def _read(self, row: Compute, uncounted: Collection[str] = ()) -> Reading:
        """What goes on there now. One that is stopped and still billed does nothing."""
        house = self._house
        busy = house.busy_here(self.id)
        if row.power_state is PowerState.STOPPED:
            return Reading(house.clock(), busy=busy)
        self._trouble = ""
        said = self._ask("activity")
        now = house.clock()
        if said is None:
            return Reading(now, reachable=False, busy=busy)
        return reading_of(said, now, house.holder(), {*house.ignored(), *uncounted}, busy)

    def _is_off(self) -> bool:
        """Of one that does not answer, or was off when it was last heard of: whether Azure says that it is off."""
        try:
            state = self._house.computes.look(self.id).power_state
        except UnknownCompute as e:
            return e.code in DELETED
        except DSVMError:
            return False
        return state is PowerState.DEALLOCATED

    def _ask(self, operation: str, **arguments: Any) -> Any:
        """Its answer; None where there is none, and why is in ``_trouble``."""
        answer = self._answer(operation, arguments)
        return answer[0] if answer else None

    def _answer(self, operation: str, arguments: dict[str, Any]) -> tuple[Any] | None:
        future = self._asked(operation, arguments)
        if future is None:
            return None
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return (future.result(POLL_SECONDS),)
            except FutureTimeout:
                if time.monotonic() < deadline and not self.cancel.is_set():
                    continue
                self._trouble = f"{self._name} did not answer within {ANSWER_SECONDS:.0f} s."
            except DSVMError as e:
                self._trouble = e.message
            except Exception as e:
                self._trouble = f"{type(e).__name__}: {e}."
            return None

    def _asked(self, operation: str, arguments: dict[str, Any]) -> Future[Any] | None:
        house = self._house
        future = house.connections.ask(self.id, operation, **arguments)
        if future is not None or self.cancel.is_set():
            return future
        row = house.computes.known(self.id)
        now = house.clock()
        if row is None or row.power_state is PowerState.STOPPED or house.connections.is_coming_back(self.id):
            self._trouble = f"{self._name} is out of reach."
            return None
        if now < self._connect_at:
            self._trouble = self._refused
            return None
        try:
            house.connections.open(row, self.cancel)
        except DSVMError as e:
            self._connect_at, self._pause = now + self._pause, min(LONGEST_PAUSE, 2 * self._pause)
            self._trouble = self._refused = e.message
            return None
        self._pause = FIRST_PAUSE
        return house.connections.ask(self.id, operation, **arguments)

    def _tell_strikes(self) -> None:
        """When Azure's schedule strikes, to the VM: its relays say so in time, even if there is no server any more."""
        known = self._house.safety.known(self.id)
        if known is None or known.at == self._strikes or not self._house.connections.stands(self.id):
            return
        left = None if known.left is None else max(0.0, known.left - (self._house.clock() - known.at))
        trouble = self._trouble
        # A relay of an earlier version does not know the question.
        self._answer("strikes", {"in": left, "text": strike_words(self._name, known.record.at)})
        self._strikes = known.at
        self._trouble = trouble

    def _hold(self, decision: Decision | None, kept: KeptIdle) -> None:
        """The lease on the VM, for the servers of others: a person wants it kept on, or has chosen how long it stays on while
        notebooks of ours are there. The latter lasts until our own count ends, whatever leases others have, so that two servers
        do not keep it on for each other for ever."""
        house = self._house
        wall, left = house.wall(), self._kept_on(kept)
        why = f"Keep on {duration(left)}" if left else ""
        if "idle_minutes" in kept.choices and house.attached(self.id):
            minutes, since = kept.choices["idle_minutes"], decision.idle_since if decision is not None else None
            longer = RENEWED if minutes is None else since + minutes * 60 - house.clock() if since is not None else 0.0
            if longer > left:
                left, why = longer, "somebody has chosen that it stays on"
        until = wall + left if left > 0 else None
        same = until == self._lease if until is None or self._lease is None else abs(until - self._lease) <= SAME
        if same:
            return
        trouble = self._trouble
        if self._answer("keep", {"holder": house.holder(), "seconds": min(left, LONGEST_KEEP), "why": why}) is not None:
            self._lease = until
        self._trouble = trouble
