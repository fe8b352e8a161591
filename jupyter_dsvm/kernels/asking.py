"""Code of ours in the kernels behind one proxy, with their answers; and variables that go along with a swap.

Who uses it: the service, to look at variables and to carry them (``jupyter_dsvm.carrying``). A side's kernel is asked with
a silent ``execute_request`` whose expressions are its answer; no client hears of it, and what a kernel on a VM answers is as little
trusted as anything else that it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from ..errors import DSVMError, KernelStartError, OperationRefused
from .actions import Carry, OwnReply
from .gate import Gate
from .iothread import IOThread
from .promises import promise

Begin = Callable[[int, int], None]
"""Called on the I/O thread with the numbers of the old and the new side, when nothing but variables is left to move. It must not
block; ``Asking.carried`` or ``Asking.give_up`` is to follow."""


class Asking:
    """Of one proxy. The methods in the first part may be called from any thread."""

    def __init__(self, io: IOThread, gate: Gate, carry_out: Callable[[], None]) -> None:
        self._io = io
        self._gate = gate
        self._carry_out = carry_out
        self._asked: dict[tuple[int, str], Future[dict[str, Any]]] = {}
        self._begin: dict[int, Begin] = {}
        self._closed = False

    def ask(self, code: str, expressions: Mapping[str, str], side: int = 0) -> Future[dict[str, Any]]:
        """Have the kernel run ``code`` and give the content of its ``execute_reply``.

        Without ``side`` the notebook's kernel is asked, and only where it is idle: ``OperationRefused`` with the code
        ``KernelBusy`` otherwise. ``KernelStartError``: it ended before it answered. There is no time limit; whoever waits has one.
        """
        done: Future[dict[str, Any]] = promise()

        def run() -> None:
            current = self._gate.current
            number = side or (current.number if current is not None else 0)
            msg_id = None
            if not self._closed:
                if not side and not self._gate.idle:
                    done.set_exception(_busy())
                    return
                msg_id = self._gate.ask(number, code, expressions)
            if msg_id is None:
                done.set_exception(_ended())
                return
            self._asked[number, msg_id] = done
            self._carry_out()

        self._io.call_soon(run)
        return done

    def carried(self, side: int) -> None:
        """What could be carried to the kernel on that side is there: it takes over."""
        self._io.call_soon(self._after, self._gate.carried, side)

    def give_up(self, side: int, error: DSVMError) -> None:
        """It was not: the notebook stays where it is, and ``Proxy.swap``'s future fails with that."""
        self._io.call_soon(self._after, self._gate.cancel_swap, side, error)

    # On the I/O thread

    def expect(self, side: int, begin: Begin | None) -> bool:
        """A swap to that side is about to be asked for; whether variables go along."""
        self._begin.pop(side, None)
        if begin is not None:
            self._begin[side] = begin
        return begin is not None

    def replied(self, action: OwnReply) -> None:
        done = self._asked.pop((action.side, action.msg_id), None)
        if done is None:
            return
        if action.content is None:
            done.set_exception(_ended())
        else:
            done.set_result(action.content)

    def carry(self, action: Carry) -> None:
        begin = self._begin.pop(action.new, None)
        if begin is None:  # nobody knows how: then it goes without
            self._gate.carried(action.new)
        else:
            begin(action.old, action.new)

    def forget(self, side: int) -> None:
        """It has taken over, or it never will."""
        self._begin.pop(side, None)

    def close(self) -> None:
        self._closed = True
        self._begin.clear()
        asked, self._asked = self._asked, {}
        for done in asked.values():
            done.set_exception(_ended())

    def _after(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._closed:
            function(*arguments)
            self._carry_out()


def _busy() -> OperationRefused:
    return OperationRefused(
        "The notebook's kernel is busy.",
        advice="Wait until its cells have ended, or interrupt them.",
        code="KernelBusy",
    )


def _ended() -> KernelStartError:
    return KernelStartError("The kernel ended before it had answered.", code="KernelEnded")
