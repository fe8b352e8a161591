"""Who may start a VM now, and who waits: at nine o'clock a whole class does. Pure; ``starts`` has the threads.

First come, first served, ``limit`` at a time. A place is 1 for whoever is next.
"""

from __future__ import annotations

from collections.abc import Sequence

STEP = 20


class StartQueue:
    """Not thread-safe: whoever uses it has a lock."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._under_way: set[str] = set()
        self._waiting: list[str] = []
        self._told: dict[str, int] = {}

    def enter(self, key: str) -> bool:
        """Whether it is their turn at once. Who is in it already stays where they are."""
        if key in self._under_way:
            return True
        if key not in self._waiting:
            self._waiting.append(key)
        return key in self._let_in()

    def leave(self, key: str) -> Sequence[str]:
        """It has ended, or somebody has given up waiting: whose turn it is now."""
        self._under_way.discard(key)
        if key in self._waiting:
            self._waiting.remove(key)
        return self._let_in()

    def place(self, key: str) -> int:
        """0: it is their turn, or they are not here."""
        return self._waiting.index(key) + 1 if key in self._waiting else 0

    def news(self) -> Sequence[tuple[str, int]]:
        """Who is to be told their place now, and that. Far behind, only what is a twentieth less than what they were told last:
        each word to somebody is a request, and 200 who wait need not send 200 whenever one of them begins."""
        found = []
        for place, key in enumerate(self._waiting, 1):
            told = self._told.get(key)
            if told is None or told - place >= max(1, place // STEP):
                self._told[key] = place
                found.append((key, place))
        self._told = {key: self._told[key] for key in self._waiting}
        return found

    @property
    def waiting(self) -> Sequence[str]:
        return tuple(self._waiting)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def _let_in(self) -> list[str]:
        room = max(0, self.limit - len(self._under_way))
        turn, self._waiting = self._waiting[:room], self._waiting[room:]
        self._under_way.update(turn)
        return turn
