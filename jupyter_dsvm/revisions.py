"""Which list has changed how often: what the page is told in place of the lists themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable

KINDS = ("computes", "kernels", "operations", "signin", "questions", "workspaces", "spend")
"""Of lists; ``events/changed.yaml`` names the same."""

Listener = Callable[[str, "str | None", int], None]
"""Called with one of ``KINDS``, an id or None, and the new revision."""


class Revisions:
    """One count for each list of ``DSVMService``, and who wants to know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(KINDS, 0)
        self._listeners: list[Listener] = []

    def of(self, what: str) -> int:
        with self._lock:
            return self._counts[what]

    def bump(self, what: str, thing: str | None) -> None:
        """That list has changed; ``thing`` is the id of what has, where it is one alone."""
        with self._lock:
            self._counts[what] += 1
            revision = self._counts[what]
            listeners = list(self._listeners)
        for listener in listeners:
            listener(what, thing, revision)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Called after each change, on whatever thread made it; must not block. Gives what ends it."""
        with self._lock:
            self._listeners.append(listener)

        def unlisten() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unlisten

    def close(self) -> None:
        with self._lock:
            self._listeners.clear()
