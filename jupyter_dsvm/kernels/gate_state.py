"""What the parts of the gate know in common. Pure, like the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DSVMError, KernelStartError
from ..relay.wire import Channel
from .actions import Action, Carrying, Side, ToBackend
from .activity import Activity
from .answers import Answers
from .flow import Flow, size_of
from .messages import Intake, Message, Signer
from .own_requests import OwnRequests
from .subshells import Subshells

MAX_HELD = 64 * 1024 * 1024
"""Bytes of what may wait for a kernel that is out of reach."""


class GateState:
    def __init__(self, signer: Signer, magic_source: Callable[[], str | None]) -> None:
        self.actions: list[Action] = []
        self.signer = signer
        self.intake = Intake(signer)
        self.activity = Activity()
        self.say = Answers(signer, self.actions, self.activity)
        self.flow = Flow(self.say, self.actions)
        self.own = OwnRequests(signer, self.actions, magic_source)
        self.subshells = Subshells(self.own)
        self.sides: dict[int, Side] = {}
        self.current: Side | None = None
        self.target: Side | None = None
        """The side that waits to be swapped in."""
        self.carrying = Carrying.NO
        """Whether variables go along with ``target``."""
        self.info: dict[str, Any] | None = None
        """What the kernel said to ``kernel_info_request``."""
        self.gone: DSVMError | None = None
        """Why the current kernel is confirmed to be gone with its machine."""
        self.execution_state = "starting"
        self.say_next = ""
        """For the output of the next cell that runs."""
        self.held_control = 0
        """Bytes that wait on control."""

    def forward(self, side: Side, channel: Channel, message: Message, subshell: str = "", there: str = "") -> None:
        """To the kernel: to its main shell, or to a subshell with that front id, which it calls ``there``."""
        self.intake.sent_to(side.number, message.id)
        self.flow.sent(message, channel, subshell)
        parts = self.signer.to_subshell(message, there) if channel is Channel.SHELL else message.parts
        self.actions.append(ToBackend(side.number, channel, parts, message.key))

    def too_much(self, message: Message) -> DSVMError | None:
        """Why a message cannot wait for a kernel that is out of reach; None while there is room."""
        held = self.flow.waiting.size + self.flow.aside.size + self.held_control
        if self.current is None or self.current.reachable or held + size_of(message) <= MAX_HELD:
            return None
        return KernelStartError(
            f"{self.current.compute_name} is out of reach, and no more can wait for it: {held / 1e6:.0f} MB do already.",
            advice="Run it again when the machine is reached, or return to the free tier in the Compute panel.",
            code="TooMuchWaiting",
        )
