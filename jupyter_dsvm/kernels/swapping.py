"""Which side is to become the notebook's kernel, from being asked for to taking the place. Pure, like the gate, whose part it is.

A side that is READY waits as ``GateState.target`` until everything that was forwarded to the current one has been answered and has
gone idle. A later one takes its place in waiting; who is given up on the way is told why (``Failed``).

Where variables go along, one more thing happens in between, while both kernels are idle and what clients send waits::

    WANTED ── the current one is READY, in reach, and nothing is with it: Carry ──→ UNDER_WAY
    UNDER_WAY ── carried ──→ DONE, and the side takes the place
              ── cancelled, interrupted, the new kernel ended, either out of reach: Failed; what is being sent is ended, and
                 what waited goes to the old kernel once that has ended
    WANTED, UNDER_WAY ── the old kernel ended or is gone: the side takes the place, with what has arrived there
"""

from __future__ import annotations

from ..errors import Cancelled, DSVMError, KernelStartError, Unreachable
from .actions import Carry, Carrying, Failed, Phase, Side, Swapped
from .gate_state import GateState


class Swapping:
    def __init__(self, state: GateState) -> None:
        self._state = state

    def ask(self, number: int, carry: bool = False) -> bool:
        """That side is to become the current one; False where there is nothing to wait for."""
        state = self._state
        side = state.sides.get(number)
        if side is not None and side is state.current:
            return False
        if side is None or side.phase is not Phase.READY or side.replaced:
            error = KernelStartError("The new kernel ended before the notebook could move to it.")
            state.actions.append(Failed(number, error))
            return False
        if state.target is side and state.carrying is Carrying.UNDER_WAY:
            return False
        if state.target is not None and state.target is not side:
            self.drop(state.target, Cancelled("A later attach took the place of this one."))
        state.target = side
        state.carrying = Carrying.WANTED if carry else Carrying.NO
        return True

    def carried(self, number: int) -> bool:
        """The variables are there; False where that is not waited for any more."""
        state = self._state
        if state.target is None or state.target.number != number or state.carrying is not Carrying.UNDER_WAY:
            return False
        state.carrying = Carrying.DONE
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
        state = self._state
        state.sides.pop(side.number, None)
        state.own.unanswered(side)
        if state.target is side:
            state.target = None
            if state.carrying is Carrying.UNDER_WAY and state.current is not None:
                state.own.stop_asking(state.current)
            state.carrying = Carrying.NO
        state.actions.append(Failed(side.number, error))

    def out_of_reach(self, side: Side) -> None:
        """The link to that side's machine was lost: nothing can be carried from or to it."""
        state = self._state
        under_way = state.target is not None and state.carrying is Carrying.UNDER_WAY
        if state.target is not None and under_way and side in (state.current, state.target):
            self.drop(state.target, _unreachable(side))

    def take_place(self) -> bool:
        """If the time has come: the side that waits is the current one from now on."""
        state, new, old = self._state, self._state.target, self._state.current
        if new is None or old is None:
            return False
        if old.phase not in (Phase.READY, Phase.GONE, Phase.ENDED) or state.flow.with_kernel:
            return False
        if old.phase is Phase.READY and state.carrying in (Carrying.WANTED, Carrying.UNDER_WAY):
            self._carry(old, new)
            return False
        state.flow.leave()
        state.target, state.current = None, new
        state.carrying = Carrying.NO
        state.info, state.gone = new.info, None
        state.execution_state = "idle"
        old.replaced = True
        if old.phase is not Phase.READY:
            del state.sides[old.number]
        state.flow.close_comms()
        state.actions.append(Swapped(old.number, new.number))
        return True

    def _carry(self, old: Side, new: Side) -> None:
        state = self._state
        if state.carrying is not Carrying.WANTED or old.stopping:
            return
        for side in (old, new):
            if not side.reachable:
                self.drop(new, _unreachable(side))
                return
        state.carrying = Carrying.UNDER_WAY
        state.actions.append(Carry(old.number, new.number))


def _unreachable(side: Side) -> Unreachable:
    return Unreachable(
        f"{side.compute_name} is out of reach, so no variables can be carried.",
        advice="Move the notebook without its variables, or wait until the machine is reached again.",
    )
