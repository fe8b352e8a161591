"""Clients' messages on control: passed to the kernel beside whatever runs, or answered here. Pure, like the gate.

An interrupt is never kept for later: it would stop the wrong cell. Nor is a shutdown: nobody would expect the end then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..relay.wire import Channel
from .actions import Phase, Request, Side
from .answers import content_of, failure
from .flow import size_of
from .gate_state import GateState
from .messages import Message
from .subshells import offers_subshells

STARTING = {Phase.STARTING, Phase.ASKING}
SUBSHELL_REQUESTS = {"create_subshell_request", "delete_subshell_request", "list_subshell_request"}


class Control:
    def __init__(
        self,
        state: GateState,
        user_ends: Callable[[str], None],
        user_cancels: Callable[[str], None],
        interrupt: Callable[[], None],
    ) -> None:
        """The functions are the gate's: the kernel's end was asked for; a swap is to be given up; send a signal."""
        self._state = state
        self._user_ends = user_ends
        self._user_cancels = user_cancels
        self._interrupt = interrupt
        self._held: deque[Message] = deque()

    def take(self, message: Message) -> None:
        """A client's message. It may have cancelled a swap: what waited for that may go on afterwards."""
        side = self._state.current
        if message.type == "interrupt_request":
            self._answer(message, self._interrupted(message, side))
        elif (
            message.type == "shutdown_request" and side is not None and side.phase is Phase.READY and not side.reachable
        ):
            self._user_cancels("shut down or restarted")
            self._answer(message, _unreachable(side, "was not shut down"))
        else:
            if message.type == "shutdown_request":
                self._user_ends("shut down or restarted")
            self._pass(message)

    def _interrupted(self, message: Message, side: Side | None) -> dict[str, Any] | None:
        """What an ``interrupt_request`` is answered with; None where the kernel does that."""
        if side is not None and not side.reachable:
            self._user_cancels("interrupted")
            return _unreachable(side, "was not interrupted")
        if side is not None and side.interrupt_mode != "message":
            self._interrupt()
            return {"status": "ok"}
        self._user_cancels("interrupted")
        if side is not None and side.phase in (Phase.ENDED, Phase.GONE):
            self._pass(message)
        elif side is None or side.phase is not Phase.READY or self._state.flow.must_wait(message):
            return {"status": "ok"}  # nothing runs there, or it is being interrupted already
        else:
            self._state.forward(side, Channel.CONTROL, message)
        return None

    def _pass(self, message: Message) -> None:
        """To the kernel, or to where it waits for one, or answered where none will come."""
        kind, side, info = message.type, self._state.current, self._state.info
        reachable = side is not None and side.phase is Phase.READY and side.reachable
        if kind == "kernel_info_request" and info is not None and not reachable:
            self._answer(message, info)
        elif side is None or side.phase in STARTING:
            self._hold(message)
        elif side.phase is Phase.READY:
            if kind in SUBSHELL_REQUESTS:
                self._answer(message, self._subshells(side, message))
            elif not side.reachable or self._state.flow.must_wait(message):
                self._hold(message)
            else:
                self._state.forward(side, Channel.CONTROL, message)
        elif kind == "shutdown_request":
            restart = bool(content_of(message).get("restart"))
            self._answer(message, {"status": "ok", "restart": restart})
        else:
            self._state.say.failed(Request(message, Channel.CONTROL), self._state.gone)

    def _subshells(self, side: Side, message: Message) -> dict[str, Any]:
        subshells = self._state.subshells
        if not offers_subshells(side):
            return failure("SubshellsNotSupported", f"The kernel on {side.compute_name} has no subshells.")
        if message.type == "create_subshell_request":
            return subshells.create(side)
        if message.type == "delete_subshell_request":
            return subshells.delete(side, message)
        return subshells.list()

    def _answer(self, message: Message, content: dict[str, Any] | None) -> None:
        if content is not None:
            self._state.say.answer(message, Channel.CONTROL, content, self._state.flow.occupied_by)

    def _hold(self, message: Message) -> None:
        too_much = self._state.too_much(message)
        if too_much is not None:
            self._state.say.failed(Request(message, Channel.CONTROL), too_much)
            return
        self._held.append(message)
        self._state.held_control += size_of(message)

    def release(self) -> None:
        """What was held goes on: the kernel is there now, or it never will be."""
        if not self._held:
            return
        held, self._held = self._held, deque()
        self._state.held_control = 0
        for message in held:
            self._pass(message)

    def link_lost(self, side: Side) -> None:
        """The link drops what it has of interrupts; whether one still arrived, nobody can say."""
        for request in self._state.flow.awaited("interrupt_request"):
            text = f"{side.compute_name} went out of reach; the kernel there may not have been interrupted."
            self._state.flow.answer(request, failure("Unreachable", text))


def _unreachable(side: Side, what: str) -> dict[str, Any]:
    return failure("Unreachable", f"{side.compute_name} is out of reach; the kernel there {what}.")
