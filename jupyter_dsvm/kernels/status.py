"""What can be seen of a kernel from outside: the proxy writes it, the service and the page read it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..models import FREE, LinkPhase, LinkState, utc_at, utc_now

if TYPE_CHECKING:
    from .gate import Gate
    from .sides import Sides


@dataclass(frozen=True)
class ProxyStatus:
    """Replaced as a whole, so it may be read from any thread."""

    compute: str = FREE
    compute_name: str = "Free tier"
    kernelspec: str = ""
    language: str = ""
    link: LinkState = field(default_factory=lambda: LinkState(LinkPhase.CONNECTING, utc_now()))
    execution_state: str = "starting"
    changed: float = 0.0
    """When (seconds since 1970); written as text only for who asks, since each cell changes it twice."""
    running: str | None = None
    """The id of the user's ``execute_request`` that runs now."""
    swap_to: str | None = None
    """The compute of a backend that waits for the running cell to end."""

    @property
    def last_activity(self) -> str:
        return utc_at(self.changed) if self.changed else ""


def status_of(gate: Gate, sides: Sides, before: ProxyStatus) -> ProxyStatus:
    """How things stand now; ``before`` itself where nothing has changed, or there is no kernel. Called on the I/O thread."""
    side = gate.current
    if side is None or side.number not in sides.backends:
        return before
    backend = sides.backends[side.number]
    target = sides.backends.get(gate.target or 0)
    link = sides.links.get(side.number, before.link)
    state = gate.execution_state
    running = gate.running.message.id if gate.running is not None else None
    swap_to = target.compute if target is not None else None
    now = (backend.compute, backend.compute_name, backend.kernelspec, backend.language, link, state, running, swap_to)
    b = before
    if now == (b.compute, b.compute_name, b.kernelspec, b.language, b.link, b.execution_state, b.running, b.swap_to):
        return before  # asked with each message
    return ProxyStatus(*now[:6], changed=time.time(), running=running, swap_to=swap_to)
