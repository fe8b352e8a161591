"""Requests that wait for a change of an operation: on the broker's loop, woken from whatever thread changes it.

A request takes ``next`` before it reads the operation, and waits for it afterwards, so that no change falls in between.
"""

from __future__ import annotations

import asyncio

from ..models import Operation


class Followers:
    """One broker's. ``next`` and ``forget`` on its loop; ``changed`` on any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def changed(self, operation: Operation) -> None:
        """An ``OperationStore``'s listener. Does not block."""
        loop = self._loop
        if loop is None:
            return  # nobody has waited yet
        try:
            loop.call_soon_threadsafe(self._wake, operation.id)
        except RuntimeError:
            pass  # the broker is stopping

    def _wake(self, operation_id: str) -> None:
        for future in self._waiting.pop(operation_id, ()):
            if not future.done():
                future.set_result(None)

    def next(self, operation_id: str) -> asyncio.Future[None]:
        """Done with the operation's next change. Whoever no longer waits for it calls ``forget``."""
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        self._waiting.setdefault(operation_id, set()).add(future)
        return future

    def forget(self, operation_id: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(operation_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[operation_id]
        future.cancel()
