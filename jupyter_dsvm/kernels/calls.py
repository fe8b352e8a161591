"""Lines of ``%dsvm`` on their way from a kernel to the service, and the answers back. Lives on the I/O thread.

They come from two places: over the proxy's own socket from a kernel of this server, and through the backend from a kernel
on a VM. Where a call came from decides what it may do, so that is noted here and never taken from what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DSVMError
from .backends import Backend
from .callsocket import Connection
from .gate import Gate
from .registry import Call, registry

if TYPE_CHECKING:
    from .proxy import Proxy


MAX_CALLS = 16
"""Calls of kernels on VMs that are worked on at a time, each of them on a thread. Cancelled ones count until they have ended."""


class Calls:
    """The calls of one proxy's kernels that have not been answered yet."""

    def __init__(self, proxy: Proxy, gate: Gate) -> None:
        self._proxy = proxy
        self._gate = gate
        self._open: dict[tuple[int, int], Call] = {}
        self._worked_on: set[Call] = set()

    def from_socket(self, connection: Connection, request: dict[str, Any]) -> None:
        """A kernel of this server asks."""
        side = self._gate.current
        # One that was replaced may still run code; it may look, but no cell of the user is behind it.
        trusted = side is not None and side.trusted
        running = trusted and self._gate.running is not None
        call = Call(self._proxy, request, trusted=trusted, running=running, answer=connection.answer)
        connection.on_hang_up = call.cancelled.set
        registry.dispatch(call)

    def from_backend(self, number: int, backend: Backend, call_id: int, request: dict[str, Any]) -> None:
        """The kernel on that side asks, or hangs up on what it asked earlier."""
        key = (number, call_id)
        if request.get("cancel"):
            self._cancel(key)
            return
        if len(self._worked_on) >= MAX_CALLS:
            busy = DSVMError("Too many lines of %dsvm at a time.", advice="Wait until some have ended.", code="Busy")
            backend.result(call_id, {"error": busy.to_json()})
            return

        def send(value: dict[str, Any]) -> None:
            if "progress" not in value:
                self._worked_on.discard(call)
            if key not in self._open:
                return  # nobody is there to hear it
            if "progress" not in value:
                del self._open[key]
            backend.result(call_id, value)

        def answer(value: dict[str, Any]) -> None:
            self._proxy.io.call_soon(send, value)

        current = self._gate.current
        asks = current is not None and current.number == number
        call = self._open[key] = Call(
            self._proxy,
            request,
            trusted=backend.trusted,
            running=asks and self._gate.running is not None,
            completing=asks and self._gate.completing,
            answer=answer,
        )
        self._worked_on.add(call)
        registry.dispatch(call)

    def forget(self, number: int) -> None:
        """The kernel on that side has ended."""
        for key in [k for k in self._open if k[0] == number]:
            self._cancel(key)

    def close(self) -> None:
        for key in list(self._open):
            self._cancel(key)

    def _cancel(self, key: tuple[int, int]) -> None:
        call = self._open.pop(key, None)
        if call is not None:
            call.cancelled.set()
