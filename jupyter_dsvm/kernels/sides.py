"""The backends behind one proxy, by the numbers that the gate gives its sides, and what they tell. On the I/O thread.

``Sides`` is the ``BackendEvents`` of every backend of its proxy. It passes on what happens to the gate, to the promises that
callers wait for and to the calls of ``%dsvm``; what the gate wants done about it is the proxy's (``carry_out``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import DSVMError, KernelStartError
from ..models import LinkPhase, LinkState, utc_now
from ..relay.wire import Channel
from .backends import Backend
from .calls import Calls
from .deaths import Deaths
from .gate import Gate
from .iothread import IOThread
from .promises import Promises

if TYPE_CHECKING:
    from .keeper import Keeper

ASK_EVERY = 0.1

REPEATED = {
    "code": "ServerRestarted",
    "message": "The Jupyter server was restarted while it worked on this.",
    "advice": "Run %dsvm status to see what became of it.",
}
"""The answer to a line of ``%dsvm`` that an earlier server process has begun to work on."""


class Sides:
    keeper: Keeper
    """Set by the proxy before there is any backend."""

    def __init__(
        self,
        io: IOThread,
        gate: Gate,
        promises: Promises,
        calls: Calls,
        deaths: Deaths,
        carry_out: Callable[[int, int], None],
    ) -> None:
        """``carry_out(side, number)`` follows each event; ``number`` > 0 is that of the backend's message behind it."""
        self.backends: dict[int, Backend] = {}
        self.links: dict[int, LinkState] = {}
        self.deaths = deaths
        self._numbers: dict[int, int] = {}
        self._io = io
        self._gate = gate
        self._promises = promises
        self._calls = calls
        self._carry_out = carry_out

    def add(self, backend: Backend) -> int:
        number = self._gate.add(backend.compute_name, backend.language, backend.interrupt_mode, trusted=backend.trusted)
        self.backends[number] = backend
        self._numbers[id(backend)] = number
        return number

    def starting(self, number: int) -> None:
        """The backend on that side was told to start a kernel."""
        backend = self.backends.get(number)
        if backend is not None and backend.keeps_requests:
            self._gate.starting(number)

    def number_of(self, backend: Backend) -> int | None:
        """None for one that is no longer of any use."""
        return self._numbers.get(id(backend))

    def is_current(self, number: int) -> bool:
        return self._gate.current is not None and self._gate.current.number == number

    def whose(self, number: int) -> tuple[bool, str]:
        """Whether what that side says is trusted; and whose count of messages it is that an adopter of the notebook's kernel goes
        on from, empty where that is not this side's."""
        backend = self.backends.get(number)
        if backend is None or backend.trusted:
            return True, ""
        ends = backend.ends if self.is_current(number) else None
        return False, ends.epoch if ends is not None else ""

    def let_go(self, number: int, forget: bool = True) -> None:
        """End a backend that is not the kernel (any more). What it still says until it has ended is drained."""
        backend = self.backends.get(number)
        if backend is None:
            return
        if forget:
            self._gate.forget(number)
        backend.end()

    def drop(self, number: int) -> None:
        """Nothing is left of it."""
        backend = self.backends.pop(number, None)
        self._numbers.pop(id(backend), None)
        self.links.pop(number, None)
        self._gate.forget(number)
        self._calls.forget(number)

    def release(self, leave: bool) -> None:
        """The front is no more. What has not ended by now is ended: a relay gets the order, a local process is killed.

        ``leave``: but not the relay of the notebook's kernel, which a later server process will adopt.
        """
        for number, backend in list(self.backends.items()):
            if backend.trusted or (leave and self.is_current(number)):
                backend.close()
            else:
                backend.end()
        self.backends.clear()
        self._numbers.clear()

    def handed_on(self, number: int, upto: int) -> None:
        """All that the backend said up to its message ``upto`` has reached the clients."""
        backend = self.backends.get(number)
        if backend is not None:
            backend.handed_on(upto)

    # BackendEvents

    def adopted(self, backend: Backend, received_upto: int) -> None:
        number = self.number_of(backend)
        if number is not None:
            self.keeper.adopted(number, received_upto)
            self._carry_out(number, 0)

    def started(self, backend: Backend) -> None:
        number = self.number_of(backend)
        if number is None:
            return
        self._gate.started(number)
        if self.is_current(number):
            self._promises.keep(self._promises.prepared, number)
        self._io.call_later(ASK_EVERY, lambda: self._ask_again(number))
        self._carry_out(number, 0)

    def _ask_again(self, number: int) -> None:
        if number in self.backends and self._gate.ask_again(number):
            self._io.call_later(ASK_EVERY, lambda: self._ask_again(number))
            self._carry_out(number, 0)

    def message(self, backend: Backend, channel: Channel, parts: list[bytes], number: int = 0) -> None:
        side = self.number_of(backend)
        if side is not None:
            self._gate.from_backend(side, channel, parts)
            self._carry_out(side, number)
        elif number:
            backend.handed_on(number)

    def link(self, backend: Backend, state: LinkState) -> None:
        number = self.number_of(backend)
        if number is None:
            return
        self.links[number] = state
        self._gate.link(number, state.state in (LinkPhase.LOCAL, LinkPhase.CONNECTED))
        self._carry_out(number, 0)
        if state.state is LinkPhase.LOCAL and self.is_current(number):
            # Its process runs, and that is all that jupyter_client waits for when it starts a kernel itself.
            self._promises.keep(self._promises.prepared, number)

    def exited(self, backend: Backend, code: int, text: str) -> None:
        number = self.number_of(backend)
        if number is None:
            return
        why = None
        if self.is_current(number):
            why = self.deaths.note(backend, code, text, asked=self._gate.ending)
        self._gate.exited(number, code, text, why)
        if self.is_current(number):  # otherwise a backend that waited to be swapped in has taken over by now
            error = KernelStartError(f"The kernel on {backend.compute_name} ended with exit code {code}.", advice=text)
            self._promises.keep(self._promises.prepared, number, error)
            self._promises.has_exited(code)
            self.keeper.exited()
        self._ended(number)

    def gone(self, backend: Backend, error: DSVMError) -> None:
        number = self.number_of(backend)
        if number is None:
            return
        self.links[number] = LinkState(LinkPhase.GONE, utc_now(), reason=error.message)
        self._gate.gone(number, error)
        if self.is_current(number):
            self._promises.keep(self._promises.prepared, number, error)
            self.keeper.gone(error)
        self._ended(number)

    def _ended(self, number: int) -> None:
        """The kernel on that side has ended. Unless it is the notebook's, nothing is left of it."""
        self._calls.forget(number)
        self._carry_out(number, 0)
        if not self.is_current(number):
            self.let_go(number)
            self.drop(number)

    def call(self, backend: Backend, call_id: int, request: dict[str, Any]) -> None:
        number = self.number_of(backend)
        if number is None:
            return
        if not request.get("cancel") and self.keeper.is_repeated(number, call_id):
            backend.result(call_id, {"error": REPEATED})
        else:
            self._calls.from_backend(number, backend, call_id, request)
