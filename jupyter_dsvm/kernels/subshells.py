"""Subshells (JEP 91) whose ids outlive the kernel: what clients call them here, and what the kernel of the moment calls them.

A page keeps the id of a subshell for as long as it keeps its kernel, and that kernel may change. So the ids that clients
know are made up here (*front ids*), and each kernel process has its own subshell for a front id, made when a message first
names it there. A client may use a front id that this server never gave out, too: an earlier server process did. Pure, like
the gate, whose part it is.

For one front id and one kernel process::

    unknown --first message--> asked for --the kernel's reply--> there, under the kernel's id --deleted--> closed
                                         --an error, nonsense--> closed

What is sent to a closed one goes to the main shell.
"""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..relay.wire import Channel
from .actions import Side
from .answers import content_of, text_in
from .messages import Message
from .own_requests import OwnRequests

log = logging.getLogger("jupyter_dsvm.gate")

FEATURE = "kernel subshells"
MAX_SUBSHELLS = 1000
"""Ids that are remembered, of clients and per kernel process; each subshell is a thread in the kernel."""
MAX_ID = 200
"""Characters. ipykernel's ids are UUIDs; what is longer is no id."""


def offers_subshells(side: Side) -> bool:
    features = (side.info or {}).get("supported_features")
    return isinstance(features, list) and FEATURE in features


def subshell_of(message: Message) -> str:
    """The front id that a client's message names; empty for the main shell, and for what is no id."""
    value = message.header.get("subshell_id")
    return value if isinstance(value, str) and len(value) <= MAX_ID else ""


class Subshells:
    def __init__(self, own: OwnRequests) -> None:
        self._own = own
        self._known: OrderedDict[str, None] = OrderedDict()

    # What clients ask for on control

    def create(self, side: Side) -> dict[str, Any]:
        """The reply to a client's ``create_subshell_request``."""
        front = str(uuid.uuid4())
        _keep(self._known, front, None)
        if side.reachable:
            self.place(side, front)  # otherwise when it is first used
        return {"status": "ok", "subshell_id": front}

    def delete(self, side: Side, message: Message) -> dict[str, Any]:
        """The reply to a client's ``delete_subshell_request``. One that is not there is as good as deleted."""
        front = text_in(content_of(message), "subshell_id")
        self._known.pop(front, None)
        if front and len(front) <= MAX_ID:
            _keep(side.subshells.closed, front, None)
        return {"status": "ok"}

    def list(self) -> dict[str, Any]:
        """The reply to a client's ``list_subshell_request``."""
        return {"status": "ok", "subshell_id": list(self._known)}

    # For messages that name one

    def place(self, side: Side, front: str) -> str | None:
        """The kernel's own id; empty while it is being asked for one; None where the main shell has to do."""
        there = side.subshells
        if not offers_subshells(side) or front in there.closed:
            return None
        if front not in there.ids:
            if len(there.ids) >= MAX_SUBSHELLS:
                return None
            there.ids[front] = ""
            there.asked[self._own.ask(side, "create_subshell_request", {}, Channel.CONTROL)] = front
            _keep(self._known, front, None)
        return there.ids[front]

    def heard(self, side: Side, channel: Channel, message: Message) -> bool:
        """The kernel said something about a request of ours. Whether messages that waited for it can go on now."""
        if channel is not Channel.CONTROL or message.parent_id not in side.subshells.asked:
            return False
        there = side.subshells
        front = there.asked.pop(message.parent_id)
        content = content_of(message)
        made = text_in(content, "subshell_id")
        if content.get("status") != "ok" or not 0 < len(made) <= MAX_ID or made in there.fronts:
            log.warning("The kernel on %s made no subshell; its main shell is used.", side.compute_name)
            del there.ids[front]
            _keep(there.closed, front, None)
        else:
            there.ids[front] = made
            _keep(there.fronts, made, front)
        return True

    def close(self, side: Side, in_use: Callable[[], set[str]]) -> None:
        """Have the kernel delete what clients have deleted, once nothing that was sent there is unanswered.

        A message that it had not got to would be refused.
        """
        there = side.subshells
        closed = [f for f in there.closed if there.ids.get(f)]
        used = in_use() if closed else set()
        for front in [f for f in closed if f not in used]:
            self._own.ask(side, "delete_subshell_request", {"subshell_id": there.ids.pop(front)}, Channel.CONTROL)

    def parent_for_clients(self, side: Side, message: Message) -> dict[str, Any] | None:
        """The parent header of what the kernel says, under the id that clients know; None where it is that already."""
        kernels = message.parent.get("subshell_id")
        front = side.subshells.fronts.get(kernels) if isinstance(kernels, str) else None
        return {**message.parent, "subshell_id": front} if front is not None else None


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    if len(kept) > MAX_SUBSHELLS:
        kept.popitem(last=False)
