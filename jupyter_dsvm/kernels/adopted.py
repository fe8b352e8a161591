"""How a gate takes over the kernel of an earlier server process. Pure, like the gate.

What that process passed on may not have reached the clients before it was killed. It comes again from the kernel's relay,
and so a request counts as answered as far as its answer will not come again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..relay.wire import Channel
from .actions import Answered, KeptRequest, Phase, Request, Side
from .control import Control
from .gate_state import GateState
from .messages import MalformedMessage, Message
from .subshells import offers_subshells, subshell_of

log = logging.getLogger("jupyter_dsvm.gate")


class Adoption:
    def __init__(self, state: GateState, control: Control) -> None:
        self._state = state
        self._control = control

    def adopt(
        self,
        side: Side,
        info: dict[str, Any] | None,
        requests: Iterable[KeptRequest],
        answered_ids: Iterable[str],
        ready: bool,
    ) -> None:
        """``Gate.adopt`` says what these are."""
        state = self._state
        state.current, state.gone = side, None
        if ready:
            side.phase, side.iopub_seen = Phase.READY, True
            side.info = state.info = info
        for msg_id in answered_ids:
            state.intake.sent_to(side.number, msg_id)
        for kept in requests:
            try:
                self._take(side, kept, Message(kept.parts))
            except MalformedMessage as e:
                log.warning("A request that was kept is none: %s.", e)
        if ready:
            state.execution_state = "busy" if state.flow.with_kernel else "idle"
            side.asked_earlier = state.flow.cell is not None
            if info is None:
                state.own.ask(side, "kernel_info_request", {})
            # The earlier process knew which comms are open. A move is to close them.
            state.own.ask(side, "comm_info_request", {})

    def _take(self, side: Side, kept: KeptRequest, message: Message) -> None:
        state = self._state
        state.intake.taken(message)
        if kept.sent:
            state.intake.sent_to(side.number, message.id)
        if kept.here:
            state.say.aborted(Request(message, kept.channel, kept.replied, kept.idle))
            state.actions.append(Answered(message.key, here=True))
        elif kept.sent:
            subshell = subshell_of(message) if kept.channel is Channel.SHELL and offers_subshells(side) else ""
            request = state.flow.sent(message, kept.channel, subshell)
            request.replied, request.idle = request.replied or kept.replied, kept.idle
            request.heard = kept.heard
        elif kept.channel is Channel.CONTROL:
            self._control.take(message)
        else:
            state.flow.wait(message, adopted=True)
