"""What the server was told of the kernel's runs, up to any frame: for one that adopts the relay and missed the beginning. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, Tuple


class Runs:
    def __init__(self) -> None:
        self._told: Deque[Tuple[int, Dict[str, Any]]] = deque([(0, {"run": 0})])

    def started(self, seq: int, value: Dict[str, Any]) -> None:
        """STARTED went out under number ``seq``, with ``value`` in it."""
        self._told.append((seq, dict(value)))

    def exited(self, seq: int, value: Dict[str, Any]) -> None:
        """EXITED went out under number ``seq``, with ``value`` in it: it is added to what is known of that run."""
        self._told.append((seq, {**self._told[-1][1], **value}))

    def forget(self, upto: int) -> None:
        """That was acknowledged up to there, so nobody will ask how things stood before."""
        while len(self._told) > 1 and self._told[1][0] <= upto:
            self._told.popleft()

    def as_of(self, base: int, phase: str, runs: int) -> Dict[str, Any]:
        """What the STARTED and EXITED up to number ``base`` said; those after it are replayed and say the rest.

        ``phase`` and ``runs`` are how it is now: what the kernel does, and how often a server asked for a run.
        """
        self.forget(base)
        return {**self._told[0][1], "phase": phase, "runs": runs}
