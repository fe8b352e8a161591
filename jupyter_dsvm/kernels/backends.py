"""What is behind a proxy: the contract.

A backend is one kernel somewhere. ``kernels.local.LocalBackend`` is a kernel process of this server,
``kernels.link.RelayBackend`` a kernel that a relay owns on a VM. A backend belongs to the I/O thread: every method of
``Backend`` and of ``BackendEvents`` is called there, none of them blocks, and none raises for what the kernel or the
network does.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..errors import DSVMError
from ..models import LinkState
from ..relay.wire import Channel


def on_loopback_tcp(where: str) -> str:
    """The ``notice`` of a kernel that cannot use private sockets; ``where`` is its compute's name."""
    return (
        f"The kernel on {where} cannot use private sockets, so it listens on loopback TCP there: other users of that "
        "machine can connect to it and see its outputs."
    )


class RelayEnds(NamedTuple):
    """What must be known of a relay to adopt it later: words of both ends' sessions, and how often its kernel was started."""

    epoch: str
    peer_epoch: str
    runs: int
    """Starts that were asked for."""
    run: int
    """The latest that has come about."""
    tag: str
    """Of its frames, in hexadecimal."""


class BackendEvents(Protocol):
    """What a backend tells whoever started it (the proxy)."""

    def started(self, backend: Backend) -> None:
        """A kernel process runs and its channels can carry messages. Comes again after each ``restart``."""

    def message(self, backend: Backend, channel: Channel, parts: list[bytes], number: int = 0) -> None:
        """The kernel sent a message: parts as they came from its socket, without the backend's own routing frame.

        ``number`` > 0 rises from message to message, and the backend waits for ``handed_on`` with it; 0: nobody waits.
        """

    def link(self, backend: Backend, state: LinkState) -> None:
        """Whether the kernel can be reached has changed. ``reconnecting`` is unknown, never dead."""

    def exited(self, backend: Backend, code: int, text: str) -> None:
        """Confirmed: the kernel process has ended, and all it sent has been handed over. Once per start or restart."""

    def gone(self, backend: Backend, error: DSVMError) -> None:
        """Confirmed: the machine or the relay no longer has this kernel (deallocated, refused for good). Final."""

    def adopted(self, backend: Backend, received_upto: int) -> None:
        """A relay of an earlier server process was reached: from now on ``send`` sends. It has what that process had sent
        under numbers up to ``received_upto``, and nothing above. Once, before ``link`` says connected."""

    def call(self, backend: Backend, call_id: int, request: dict[str, Any]) -> None:
        """A line of ``%dsvm`` from the kernel; ``{"cancel": true}`` when the kernel hung up. Answer with ``result``."""


class Backend(Protocol):
    compute: str
    """The id of the compute it runs on."""
    compute_name: str
    """What users call that compute."""
    kernelspec: str
    """Name of the kernelspec over there."""
    language: str
    """As that kernelspec says; empty when it does not."""
    interrupt_mode: str
    """``signal`` or ``message``, as that kernelspec says."""
    trusted: bool
    """False for a kernel on a VM: what it sends is treated as hostile."""
    keeps_requests: bool
    """What is sent once ``start`` has returned, and before ``started``, is kept for the kernel."""
    out_of_memory: int | None
    """Bytes of memory over there, where the kernel's latest process was ended for want of it; None where it was not, or a backend
    leaves it to others to find that out. Set before ``exited`` is told."""
    notice: str
    """What its user should know about how it runs, once ``started`` was told; mostly empty."""

    def start(self, events: BackendEvents) -> None:
        """Begin; ``started``, ``exited`` or ``gone`` follows. Called once. Raises ``OSError`` where there is no such program."""

    @property
    def ends(self) -> RelayEnds | None:
        """None for a backend that cannot be adopted (yet)."""

    def send(self, channel: Channel, parts: list[bytes]) -> int:
        """Send a message to the kernel; kept while the link is down, except on what must not be late.

        The number of its last frame, which leaves only after the caller has returned to the I/O thread's loop; 0 where
        nobody counts.
        """

    def signal(self, signum: int) -> None:
        """Signal the kernel's process group; dropped while the link is down."""

    def handed_on(self, upto: int) -> None:
        """Every message with a number up to ``upto`` has reached the clients that it was for, or needs to reach nobody.

        Called in rising order. Before it, a relay keeps the message: the server may be killed meanwhile.
        """

    def hold(self, on: bool) -> None:
        """The clients are far behind, and the room for what they have not taken is full (or, False, no longer).

        A relay then goes on keeping what the kernel says over there. A local kernel has nowhere else to keep it.
        """

    def restart(self) -> None:
        """End the kernel process and start it again as it was; ``exited`` may, ``started`` will follow."""

    def result(self, call_id: int, value: dict[str, Any]) -> None:
        """Answer a ``call``: ``{"progress": …}`` any number of times, then ``{"result": …}`` or ``{"error": …}``."""

    def end(self) -> None:
        """End the kernel for good, politely then firmly, then release everything here.

        ``exited`` follows if it can be confirmed.
        """

    def close(self) -> None:
        """Release everything here, at once. A relay's kernel runs on; a local one cannot, and is killed."""
