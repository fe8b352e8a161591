"""Which side is to become the notebook's kernel, from being asked for to taking the place. Pure, like the gate, whose part it is.

A side that is READY waits as ``GateState.target`` until everything that was forwarded to the current one has been answered and has
gone idle. A later one takes its place in waiting; who is given up on the way is told why (``Failed``).
"""

from __future__ import annotations

from ..errors import Cancelled, DSVMError, KernelStartError
from .actions import Failed, Phase, Side, Swapped
from .gate_state import GateState


class Swapping:
    def __init__(self, state: GateState) -> None:
        self._state = state

    def ask(self, number: int) -> bool:
        """That side is to become the current one; False where there is nothing to wait for."""
        state = self._state
        side = state.sides.get(number)
        if side is not None and side is state.current:
            return False
        if side is None or side.phase is not Phase.READY or side.replaced:
            error = KernelStartError("The new kernel ended before the notebook could move to it.")
            state.actions.append(Failed(number, error))
            return False
        if state.target is not None and state.target is not side:
            self.drop(state.target, Cancelled("A later attach took the place of this one."))
        state.target = side
        return True

    def cancel(self, number: int, error: DSVMError) -> bool:
        """Forget a side that has not been swapped in; False where it has, or there is none."""
        side = self._state.sides.get(number)
        if side is None or side is self._state.current or side.replaced:
            return False
        self.drop(side, error)
        return True

    def cancel_all(self, error: DSVMError) -> None:
        for side in list(self._state.sides.values()):
            if side is not self._state.current and not side.replaced:
                self.drop(side, error)

    def drop(self, side: Side, error: DSVMError) -> None:
        """It is of no use, or not wanted any more."""
        self._state.sides.pop(side.number, None)
        if self._state.target is side:
            self._state.target = None
        self._state.actions.append(Failed(side.number, error))

    def take_place(self) -> bool:
        """If the time has come: the side that waits is the current one from now on."""
        state, new, old = self._state, self._state.target, self._state.current
        if new is None or old is None:
            return False
        if old.phase not in (Phase.READY, Phase.GONE, Phase.ENDED) or state.flow.with_kernel:
            return False
        state.flow.leave()
        state.target, state.current = None, new
        state.info, state.gone = new.info, None
        state.execution_state = "idle"
        old.replaced = True
        if old.phase is not Phase.READY:
            del state.sides[old.number]
        state.flow.close_comms()
        state.actions.append(Swapped(old.number, new.number))
        return True
