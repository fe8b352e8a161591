"""The gate's own requests to the kernels behind it, above all those that take a started kernel to READY.

A kernel is asked who it is, again every 100 ms until something comes over IOPub (a status, or the welcome that newer
kernels send), and a Python kernel is given ``%dsvm``. That goes before everything else into the kernel's shell channel, which
keeps the order, so nobody waits for its end. Where requests are kept for a kernel that is just being started, the
question goes along with the order to start it. On a far machine each of the two is a round trip less.

Nothing that is said about these requests reaches a client. Pure, like the gate, whose list of actions it appends to.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import LanguageMismatch
from ..relay.wire import Channel
from .actions import Action, Insist, KernelSubshells, OwnReply, Phase, Side, Signal, ToBackend
from .answers import content_of, text_in
from .messages import Message, Signer

log = logging.getLogger("jupyter_dsvm.gate")

MAX_OWN = 10_000
"""Requests that are remembered per side, for what is still said about them."""


class OwnRequests:
    def __init__(self, signer: Signer, actions: list[Action], magic_source: Callable[[], str | None]) -> None:
        self._signer = signer
        self._actions = actions
        self._magic_source = magic_source

    def ask(self, side: Side, kind: str, content: dict[str, Any], channel: Channel = Channel.SHELL) -> str:
        msg_id, parts = self._signer.request(kind, content)
        side.own[msg_id] = kind
        if len(side.own) > MAX_OWN:
            del side.own[next(iter(side.own))]
        self._actions.append(ToBackend(side.number, channel, parts))
        return msg_id

    def ask_code(self, side: Side, code: str, expressions: Mapping[str, str]) -> str:
        """Have it run silently and the expressions read after it; ``OwnReply`` follows, whatever becomes of the kernel."""
        msg_id = self._run(side, code, expressions)
        side.asked[msg_id] = None
        return msg_id

    def _run(self, side: Side, code: str, expressions: Mapping[str, str]) -> str:
        content = {
            "code": code, "silent": True, "store_history": False,
            "user_expressions": dict(expressions), "allow_stdin": False, "stop_on_error": False,
        }  # fmt: skip
        return self.ask(side, "execute_request", content)

    def interrupt(self, side: Side) -> None:
        """What runs there; as the kernel wants it."""
        if side.interrupt_mode != "message":
            self._actions.append(Signal(side.number, signal.SIGINT))
        elif side.phase is Phase.READY and side.reachable:
            self.ask(side, "interrupt_request", {}, Channel.CONTROL)

    def stop_asking(self, side: Side) -> None:
        """What ``ask_code`` has running there, if anything, is to end. It does so by itself, as its sockets are closed: a signal
        that comes just when it ends would hit the kernel's own code, of which ipykernel dies. Hence that comes late, if at all."""
        if side.asked and not side.stopping:
            side.stopping = next(reversed(side.asked))
            self._actions.append(Insist(side.number, side.stopping))

    def insist(self, side: Side, msg_id: str) -> None:
        """It has had some seconds."""
        if side.stopping == msg_id:
            if side.reachable:
                self.interrupt(side)
            self._actions.append(Insist(side.number, msg_id))

    def unanswered(self, side: Side) -> None:
        """The kernel process on that side will answer nothing any more, or is not wanted any more."""
        asked, side.asked, side.stopping = side.asked, {}, ""
        for msg_id in asked:
            self._actions.append(OwnReply(side.number, msg_id, None))

    def ask_early(self, side: Side) -> None:
        """A kernel process is being started on that side, and will find what is sent to it now."""
        side.asked_early = self.ask(side, "kernel_info_request", {})

    def introduce(self, side: Side) -> None:
        """A kernel process has just come up on that side."""
        side.phase, side.info, side.iopub_seen = Phase.ASKING, None, False
        side.inputs.clear()
        self.unanswered(side)
        side.own.clear()
        side.subshells = KernelSubshells()
        early, side.asked_early = side.asked_early, ""
        if early:
            side.own[early] = "kernel_info_request"
        else:
            self.ask(side, "kernel_info_request", {})

    def ask_again(self, side: Side) -> bool:
        """Every 100 ms; False once there is nothing to wait for."""
        if side.phase is not Phase.ASKING:
            return False
        if side.info is not None and not side.iopub_seen and side.reachable:  # else they would pile up for its return
            self.ask(side, "kernel_info_request", {})
        return True

    def heard(self, side: Side, channel: Channel, message: Message) -> None:
        """The kernel said something about one of these requests. ``progress`` says what follows from it."""
        parent_id = message.parent_id
        if channel is Channel.IOPUB:
            side.iopub_seen = True
        elif message.type.endswith("_reply"):
            if parent_id in side.asked:
                del side.asked[parent_id]
                if side.stopping == parent_id:
                    side.stopping = ""
                self._actions.append(OwnReply(side.number, parent_id, content_of(message)))
            elif side.own[parent_id] == "kernel_info_request":
                side.info = content_of(message)
            elif side.own[parent_id] == "execute_request" and content_of(message).get("status") != "ok":
                log.warning("%%dsvm could not be put into the kernel on %s.", side.compute_name)

    def progress(self, side: Side) -> bool:
        """Take a starting side as far as it can go; True when it has become READY just now."""
        if side.phase is not Phase.ASKING or side.info is None or not side.iopub_seen:
            return False
        source = self._magic_source() if language_of(side).lower() == "python" else None
        if source is not None:
            self._run(side, source, {})
        side.phase = Phase.READY
        return True


def language_of(side: Side) -> str:
    """What the kernel says it speaks; until it has answered, what its kernelspec says."""
    return text_in((side.info or {}).get("language_info"), "name") or side.language


def language_problem(side: Side, current: Side | None) -> LanguageMismatch | None:
    """Why a kernel that has answered cannot take the current one's place: the notebook's cells are in another language."""
    if current is None or side is current or side.info is None:
        return None
    there, here = language_of(side), language_of(current)
    if not there or not here or there.lower() == here.lower():
        return None
    return LanguageMismatch(
        f"The kernel on {side.compute_name} speaks {there}, the notebook {here}.",
        advice="Name another kernel there, for instance with %dsvm attach NAME --kernel KERNELSPEC.",
    )
