"""Carries out what the gate wants done: to clients, to backends, to what the proxy's callers wait for. On the I/O thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..relay.wire import Channel
from .actions import (
    Action,
    Answered,
    Arrived,
    Carry,
    Failed,
    Heard,
    Insist,
    OwnReply,
    Ready,
    Signal,
    Swapped,
    ToBackend,
    ToClient,
    UserCancelled,
)
from .asking import Asking
from .clients import Clients
from .front import Front
from .gate import Gate
from .iothread import IOThread
from .keeper import Keeper
from .promises import Promises
from .recording import Recording
from .sides import Sides

log = logging.getLogger("jupyter_dsvm.proxy")

INSIST_AFTER = 2.0
"""Seconds that code of ours may take to end by itself before it is interrupted."""

FAREWELL = 2.0
"""Seconds in which a replaced kernel may end by itself before it is made to."""


class Executor:
    def __init__(
        self,
        io: IOThread,
        gate: Gate,
        promises: Promises,
        sides: Sides,
        clients: Clients,
        keeper: Keeper,
        recording: Recording,
        asking: Asking,
        changed: Callable[[], None],
        cancelled: Callable[[str], None],
    ) -> None:
        """``changed``: something may look different from outside now; ``cancelled``: the user has changed their mind."""
        self.front: Front | None = None
        """Set as soon as it is bound."""
        self._io = io
        self._gate = gate
        self._promises = promises
        self._sides = sides
        self._clients = clients
        self._keeper = keeper
        self._recording = recording
        self._asking = asking
        self._changed = changed
        self._cancelled = cancelled
        self._running = False
        self._messages: list[tuple[Channel, list[bytes]]] = []
        self._came = (0, 0)

    def run(self, side: int = 0, number: int = 0) -> None:
        """Drain the gate's actions in order. An action may raise an event of its own, whose actions then join the end.

        ``side``: whose backend raised the event, with its message ``number`` if that is kept there until it is handed on.
        """
        if number or (side and not self._came[1]):
            self._came = (side, number)
            if number:
                self._keeper.came(side, number)
        if self._running:
            return
        self._running = True
        actions = self._gate.actions
        done = 0
        try:
            while done < len(actions):
                action = actions[done]
                done += 1
                self._recording.note(action)
                try:
                    self._do(action)
                except Exception:
                    log.exception("an action of the gate failed")  # the others must not be lost with it
        finally:
            actions.clear()
            self._running = False
        messages, self._messages = self._messages, []
        came, self._came = self._came, (0, 0)
        self._recording.put(*came)
        if messages or came[1]:
            self._clients.deliver(messages, *came)
        self._changed()

    def _do(self, action: Action) -> None:
        if isinstance(action, ToClient):
            self._to_client(action.channel, action.parts)
        elif isinstance(action, ToBackend):
            self._keeper.send(action)
        elif isinstance(action, (Arrived, Heard, Answered)):
            self._keeper.note(action)
        elif isinstance(action, Signal):
            if (backend := self._sides.backends.get(action.side)) is not None:
                backend.signal(action.signum)
        elif isinstance(action, Ready):
            self._promises.keep(self._promises.prepared, action.side)
        elif isinstance(action, Failed):
            self._asking.forget(action.side)
            self._promises.fail(action.side, action.error)
            self._sides.let_go(action.side)
        elif isinstance(action, Carry):
            self._asking.carry(action)
        elif isinstance(action, Insist):
            self._io.call_later(INSIST_AFTER, lambda: self._insist(action))
        elif isinstance(action, OwnReply):
            self._asking.replied(action)
        elif isinstance(action, Swapped):
            self._swapped(action.old, action.new)
        elif isinstance(action, UserCancelled):
            self._cancelled(action.reason)

    def _to_client(self, channel: Channel, parts: list[bytes]) -> None:
        if channel is Channel.IOPUB:
            self._messages.append((channel, parts))
        elif self._clients.knows(parts[0]):
            self._messages.append((channel, parts))
            return
        if self.front is not None:
            self.front.send(channel, parts)

    def _insist(self, action: Insist) -> None:
        self._gate.insist(action.side, action.msg_id)
        self.run()

    def _swapped(self, old: int, new: int) -> None:
        had_ended = self._promises.exit_code is not None
        self._asking.forget(new)
        self._recording.settle(*self._came)
        self._promises.launched()
        self._sides.deaths.forget()
        self._clients.count(new)
        self._changed()  # whoever hears that the notebook has moved may look where it is
        self._promises.keep(self._promises.swapped, new)
        if had_ended:
            self._sides.let_go(old)
            self._sides.drop(old)
        else:
            self._gate.farewell(old)
            self._io.call_later(FAREWELL, lambda: self._sides.let_go(old, forget=False))
