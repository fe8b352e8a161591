"""What can be seen of a kernel from outside: the proxy writes it, the service and the page read it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..models import FREE, LinkPhase, LinkState, utc_now


@dataclass(frozen=True)
class ProxyStatus:
    """Replaced as a whole, so it may be read from any thread."""

    compute: str = FREE
    compute_name: str = "Free tier"
    kernelspec: str = ""
    language: str = ""
    link: LinkState = field(default_factory=lambda: LinkState(LinkPhase.CONNECTING, utc_now()))
    execution_state: str = "starting"
    last_activity: str = ""
    running: str | None = None
    """The id of the user's ``execute_request`` that runs now."""
    swap_to: str | None = None
    """The compute of a backend that waits for the running cell to end."""
