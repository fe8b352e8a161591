"""What the gate itself says to clients: the replies, outputs and statuses that no kernel will send."""

from __future__ import annotations

from typing import Any

from ..errors import DSVMError
from ..relay.wire import Channel
from .actions import Action, Request, ToClient
from .activity import Activity
from .messages import MalformedMessage, Message, Signer


class Answers:
    """Appends ``ToClient`` actions to the gate's list."""

    def __init__(self, signer: Signer, actions: list[Action], activity: Activity) -> None:
        self._signer = signer
        self._actions = actions
        self._activity = activity

    def publish(self, kind: str, content: dict[str, Any], parent: Message | None) -> None:
        self._actions.append(ToClient(Channel.IOPUB, self._signer.published(kind, content, parent)))
        about = parent.type if parent is not None else ""
        self._activity.published(kind, about, text_in(content, "execution_state") if kind == "status" else "")

    def answer(self, message: Message, channel: Channel, content: dict[str, Any], running: Request | None) -> None:
        """A request that needs no kernel; ``running`` is what the kernel is busy with meanwhile."""
        self.end(Request(message, channel), content)
        if running is not None and not running.idle:
            # Front ends take the last status for the kernel's: something is running, so say so again.
            self._status("busy", running.message)

    def aborted(self, request: Request) -> None:
        """What a kernel does with a queued cell after an error in an earlier one."""
        self.end(request, {"status": "aborted"})

    def failed(self, request: Request, error: DSVMError | None) -> None:
        """The kernel will not answer this any more: say why, in the cell's output too."""
        name, text = (error.code, str(error)) if error else ("KernelError", "The kernel is not there.")
        self.end(request, failure(name, text))

    def end(self, request: Request, content: dict[str, Any]) -> None:
        """All of an answer that has not gone out yet: busy, the error as the cell's output, the reply, idle."""
        message = request.message
        if not request.idle:
            self._status("busy", message)
        if not request.replied and message.type.endswith("_request"):
            if message.type == "execute_request" and "ename" in content and not content_of(message).get("silent"):
                self.publish("error", {k: content[k] for k in ("ename", "evalue", "traceback")}, message)
            kind = message.type.rpartition("_")[0] + "_reply"
            self._actions.append(
                ToClient(request.channel, self._signer.message(kind, content, message, message.idents))
            )
        if not request.idle:
            self._status("idle", message)

    def _status(self, state: str, message: Message) -> None:
        self.publish("status", {"execution_state": state}, message)


def content_of(message: Message) -> dict[str, Any]:
    """The content, or nothing where it is no JSON object: a request like that is the kernel's to refuse."""
    try:
        return message.content
    except MalformedMessage:
        return {}


def text_in(content: object, name: str) -> str:
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else ""


def failure(name: str, text: str) -> dict[str, Any]:
    return {"status": "error", "ename": name, "evalue": text, "traceback": [f"{name}: {text}"]}
