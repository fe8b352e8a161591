"""A run: the machine and the ways to it, repeats in which the contenders take turns, and the results so far."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .machines import SSHServer, Way
from .rows import Results

Turn = Callable[[], None]


@dataclass
class Bench:
    folder: Path
    """Short: the contenders' folders are in it."""
    vm: SSHServer
    near: Way
    far: Way
    """40 ms round trip."""
    repeats: int = 5
    quick: bool = False
    """Small numbers, to see that it works; what comes out says little."""
    results: Results = field(default_factory=Results)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def rounds(
        self, turns: Mapping[str, Turn], keys: Mapping[str, Iterable[tuple[str, str]]], repeats: int = 0
    ) -> None:
        """Take all turns one after the other, ``repeats`` times, so that whatever drifts hits everybody. Who fails is left out from
        then on; ``keys`` says which (row, contender) go without a value then."""
        failed: set[str] = set()
        for number in range(repeats or self.repeats):
            for name, turn in turns.items():
                if name in failed:
                    continue
                begun = time.monotonic()
                if not self.attempt(turn, keys[name]):
                    failed.add(name)
                self.say(f"   {number + 1}. {name}: {time.monotonic() - begun:.1f} s")

    def attempt(self, turn: Turn, keys: Iterable[tuple[str, str]]) -> bool:
        try:
            turn()
        except Exception as e:
            reason = f"{type(e).__name__}: {e}".strip().rstrip(":").splitlines()[0][:200]
            for key, contender in keys:
                self.results.fail(key, contender, reason)
            traceback.print_exc(file=sys.stderr)
            return False
        return True

    @staticmethod
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
