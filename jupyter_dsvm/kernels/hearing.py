"""What a kernel behind the gate says: what of it is let through to clients, and in which form. Pure, like the gate.

From a kernel that is not trusted, only what answers a request of this gate is let through, to whom asked.
"""

from __future__ import annotations

from ..relay.wire import Channel
from .actions import Phase, Request, Side, ToClient
from .answers import content_of, text_in
from .gate_state import GateState
from .messages import Message

OUTPUTS = {"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output", "comm_msg"}
"""What a kernel that has been replaced may still say."""
PUBLISHED = OUTPUTS | {"status", "execute_input", "comm_open", "comm_close", "debug_event", "shutdown_reply"}
"""What a kernel that is not trusted may say on IOPub."""


class Hearing:
    def __init__(self, state: GateState) -> None:
        self._state = state

    def replaced(self, side: Side, channel: Channel, message: Message) -> None:
        """It was the notebook's kernel: its cells have output left, and nothing else."""
        if channel is Channel.IOPUB and message.type in OUTPUTS and self._sent_to(side, message):
            self._publish(side, message, "")

    def current(self, side: Side, channel: Channel, message: Message) -> tuple[Request, str] | None:
        """The notebook's kernel; gives the request that has its reply or idle now, and which of the two."""
        request = self._state.flow.find(message.parent_key)
        if channel is Channel.IOPUB:
            return self._published(side, request, message)
        if channel is Channel.STDIN:
            self._asks(side, request, message)
            return None
        return self._replied(side, channel, request, message)

    def _published(self, side: Side, request: Request | None, message: Message) -> tuple[Request, str] | None:
        kind = message.type
        if not side.trusted and not (kind in PUBLISHED and self._sent_to(side, message)):
            return None
        state = text_in(content_of(message), "execution_state") if kind == "status" else ""
        if state:
            self._state.execution_state = state
        self._state.flow.track_comm(message)
        self._publish(side, message, state)
        if request is not None and state == "busy" and self._state.say_next:
            self._say_next(request.message)
        if request is None or state != "idle":
            return None
        request.idle = True
        return request, "idle"

    def _say_next(self, cell: Message) -> None:
        if cell.type == "execute_request" and not content_of(cell).get("silent"):
            text, self._state.say_next = self._state.say_next, ""
            self._state.say.publish("stream", {"name": "stderr", "text": f"{text}\n"}, cell)

    def _asks(self, side: Side, request: Request | None, message: Message) -> None:
        request = request or (self._state.flow.running if side.trusted else None)
        if request is not None and message.type == "input_request":
            side.inputs.append(message.id)
            self._to(request, Channel.STDIN, side, message)

    def _replied(
        self, side: Side, channel: Channel, request: Request | None, message: Message
    ) -> tuple[Request, str] | None:
        kind = message.type
        if request is None or request.channel is not channel or request.replied:
            return None  # an answer to nothing that was asked, or a second one
        if not side.trusted and kind != request.message.type.rpartition("_")[0] + "_reply":
            return None
        if kind == "kernel_info_reply" and side.phase is Phase.READY:
            side.info = self._state.info = content_of(message)
        self._to(request, channel, side, message)
        if not kind.endswith("_reply"):
            return None
        request.replied, request.failed = True, content_of(message).get("status") == "error"
        return request, "reply"

    def _sent_to(self, side: Side, message: Message) -> bool:
        return self._state.intake.was_sent_to(side.number, message.parent_id)

    def _for_clients(self, side: Side, message: Message) -> list[bytes]:
        return self._state.signer.in_session(message, self._state.subshells.parent_for_clients(side, message))

    def _to(self, request: Request, channel: Channel, side: Side, message: Message) -> None:
        """To whom asked, whatever the kernel put in front of its answer."""
        parts = self._for_clients(side, message)
        self._state.actions.append(ToClient(channel, [*request.message.idents, *parts[message.at :]]))

    def _publish(self, side: Side, message: Message, execution_state: str) -> None:
        parts = self._for_clients(side, message)
        if not side.trusted:
            parts = [self._state.signer.topic(message.type), *parts[message.at :]]
        self._state.actions.append(ToClient(Channel.IOPUB, parts))
        self._state.activity.published(message.type, message.parent_key[0], execution_state)
