"""What a user's server says to a hub's broker in place of keeping Azure's schedule ahead: that a VM is used."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import DSVMError

if TYPE_CHECKING:
    from .azure.schedules import SafetyStop, Use


class Tells(Protocol):
    def present(self, compute_id: str, idle: float) -> dict[str, Any]:
        """``BrokerCompute.present``."""


class Presence:
    """``azure.schedules.Schedules`` for a VM of the hub: whoever keeps Azure's schedule ahead tells the broker instead."""

    def __init__(self, broker: Tells, compute_id: str) -> None:
        self._broker, self._compute_id = broker, compute_id

    def check(self) -> None:
        """The broker keeps the schedule: nothing has to be looked at before a start."""

    def keep(self, use: Use, *arguments: Any, idle: float = 0.0, **others: Any) -> SafetyStop:
        """Notebooks of ours are there (``Use.USED``); ``idle``: seconds for which nothing of ours has gone on."""
        from .azure.schedules import Kind, SafetyStop, Use

        if use is not Use.USED:
            return SafetyStop(Kind.NONE, "The hub stops it where nobody uses it.")
        try:
            said = self._broker.present(self._compute_id, idle)
        except DSVMError as e:
            return SafetyStop(Kind.NONE, f"No safety stop: {e}", error=e)
        at = said.get("hard_limit_at")
        if not isinstance(at, (int, float)):
            return SafetyStop(Kind.THEIRS, "The hub stops it where nobody uses it.")
        moment = datetime.fromtimestamp(at, timezone.utc)
        return SafetyStop(Kind.THEIRS, f"The hub stops it at {moment:%H:%M} UTC at the latest.", moment, averted=True)
