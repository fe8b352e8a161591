"""The poll loop that the relay and the attach pipe each run one of: sources, handlers, one turn at a time."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict

from .poller import ERR, IN, OUT, make_poller

__all__ = ["ERR", "IN", "OUT", "Loop"]

log = logging.getLogger("relay")

MAX_LOGGED = 100
"""A handler that fails each time it is called must not fill the disk."""


class Loop:
    def __init__(self) -> None:
        self._poller = make_poller()
        self._handlers: Dict[Any, Callable[[int], None]] = {}
        self._events: Dict[Any, int] = {}
        self._failed = 0

    def register(self, source: Any, handler: Callable[[int], None], events: int = IN) -> None:
        """Call ``handler(events)`` when ``source``, a descriptor or a ZeroMQ socket, is ready; again, to change either.

        With no events the source is only remembered; then not even its end is noticed.
        """
        self._handlers[source] = handler
        if self._events.get(source) == events:
            return
        if events:
            self._poller.register(source, events)
        elif self._events.get(source):
            self._poller.unregister(source)
        self._events[source] = events

    def unregister(self, source: Any) -> None:
        """Before the source is closed: the number of a closed descriptor is soon another's."""
        self._handlers.pop(source, None)
        if self._events.pop(source, 0):
            self._poller.unregister(source)

    def used(self, source: Any) -> None:
        """A ZeroMQ socket that is registered here was used by other than its handler: see ``poller``."""
        self._poller.used(source)

    def turn(self, seconds: float) -> None:
        """Wait for at most ``seconds`` and call who is ready. A bug in one handler is logged and does not end the loop."""
        for source, events in self._poller.poll(int(max(0.0, seconds) * 1000 + 0.999)):
            handler = self._handlers.get(source)  # an earlier handler of this turn may have closed it
            if handler is None:
                continue
            try:
                handler(events)
            except Exception:
                self._failed += 1
                if self._failed <= MAX_LOGGED:
                    log.exception("a handler failed")
