"""When a spare is handed out, and when it ends. A table and no I/O: ``holder`` says what happened and does what this says.

    state     may become
    LOADING   PARKED (its imports are done), ENDED
    PARKED    ASKED (a relay wants it), ENDED
    ASKED     TAKEN (it says that it is that kernel now), ENDED
    TAKEN     ENDED (the kernel has)

A connection of a relay means "I have a kernel of this kind": with the last one the spare ends. The connection over which it was
asked for is the kernel's life line: when it closes, the relay is gone, and the kernel ends.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Set, Union

LOADING_LIMIT = 120.0
"""Seconds that the imports may take, on a cold disk."""

LONELY_LIMIT = 3.0
"""Seconds without anybody who wants it; a relay that makes a spare connects within one."""

MAX_AGE = 12 * 3600.0
"""Seconds: what of the machine it does not notice, it is not to miss for longer."""


class State(enum.Enum):
    LOADING = "loading"
    PARKED = "parked"
    ASKED = "asked"
    TAKEN = "taken"
    ENDED = "ended"


MAY_BECOME = {
    State.LOADING: {State.PARKED, State.ENDED},
    State.PARKED: {State.ASKED, State.ENDED},
    State.ASKED: {State.TAKEN, State.ENDED},
    State.TAKEN: {State.ENDED},
    State.ENDED: {State.ENDED},
}


@dataclass(frozen=True)
class Tell:
    """Say ``value`` to the relay of connection ``who``."""

    who: int
    value: Mapping[str, Any]


@dataclass(frozen=True)
class Withdraw:
    """It is no spare any more: nobody finds it, its place is free for the next, and all but ``keep`` are hung up on."""

    keep: int


@dataclass(frozen=True)
class Hand:
    """Tell the parked Python which kernel to be."""

    kernel: Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """End what is there, and go."""


Action = Union[Tell, Withdraw, Hand, End]


class Hold:
    def __init__(self, kind: str, now: float) -> None:
        self.state = State.LOADING
        self._kind = kind
        self._made = now
        self._relays: Set[int] = set()
        self._taker: Optional[int] = None
        self._lonely_since: Optional[float] = now

    def connected(self, who: int) -> List[Action]:
        self._relays.add(who)
        self._lonely_since = None
        return [Tell(who, {"parked": True})] if self.state is State.PARKED else []

    def asked(self, who: int, take: Any) -> List[Action]:
        """A relay wants it. ``take``: ``{"kind", "kernel"}``, of which the second is for the parked Python."""
        if self.state is not State.PARKED:
            return [Tell(who, {"refused": "it is not ready yet" if self.state is State.LOADING else "it is taken"})]
        if not isinstance(take, dict) or take.get("kind") != self._kind or not isinstance(take.get("kernel"), dict):
            return [Tell(who, {"refused": "it is of another kind"})]
        self._become(State.ASKED)
        self._taker = who
        return [Withdraw(who), Hand(take["kernel"])]

    def said(self, value: Mapping[str, Any], about: Mapping[str, Any]) -> List[Action]:
        """The parked Python said something; ``about`` is what a relay is to know of the process."""
        if self.state is State.LOADING and "ready" in value:
            self._become(State.PARKED)
            return [Tell(who, {"parked": True}) for who in sorted(self._relays)]
        if self.state is State.ASKED and "taken" in value:
            self._become(State.TAKEN)
            return self._tell({"taken": dict(about)})
        if self.state is State.ASKED and "refused" in value:
            return [*self._tell({"refused": str(value["refused"])[:1000]}), *self._end()]
        return self._end()

    def gone(self, who: int, now: float) -> List[Action]:
        """A relay has hung up."""
        self._relays.discard(who)
        if who == self._taker:
            return self._end()
        if not self._relays:
            self._lonely_since = now
        return []

    def exited(self, code: int) -> List[Action]:
        if self.state is State.TAKEN:
            return [*self._tell({"exited": code}), *self._end()]
        if self.state is State.ASKED:
            return [*self._tell({"refused": "it has ended"}), *self._end()]
        return self._end()

    def tick(self, now: float) -> List[Action]:
        due = self.due
        return self._end() if due is not None and now >= due else []

    @property
    def due(self) -> Optional[float]:
        """When ``tick`` is to be called at the latest; None: no need to."""
        if self.state not in (State.LOADING, State.PARKED):
            return None
        due = self._made + (LOADING_LIMIT if self.state is State.LOADING else MAX_AGE)
        return due if self._lonely_since is None else min(due, self._lonely_since + LONELY_LIMIT)

    def _tell(self, value: Dict[str, Any]) -> List[Action]:
        return [] if self._taker is None else [Tell(self._taker, value)]

    def _end(self) -> List[Action]:
        self._become(State.ENDED)
        return [End()]

    def _become(self, state: State) -> None:
        assert state in MAY_BECOME[self.state], f"{self.state} cannot become {state}"
        self.state = state
