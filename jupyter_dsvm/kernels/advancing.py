"""What of the waiting requests can go to the notebook's kernel now. Pure, like the gate, whose rules 1, 3, 4 and 9 it carries out.

Called after every event that may have made room: a request has ended, a side is READY or back in reach, a swap was asked for or
cancelled, something new has come.
"""

from __future__ import annotations

from ..relay.wire import Channel
from .actions import Phase, Side
from .control import Control
from .gate_state import GateState
from .subshells import subshell_of
from .swapping import Swapping


class Advancing:
    def __init__(self, state: GateState, swapping: Swapping, control: Control) -> None:
        self._state = state
        self._flow = state.flow
        self._swapping = swapping
        self._control = control

    @property
    def in_touch(self) -> bool:
        side = self._state.current
        return side is not None and side.phase is Phase.READY and side.reachable

    @property
    def at_leisure(self) -> bool:
        """A message on shell could go to the kernel now, and be answered soon."""
        side = self._state.current
        idle = self._state.target is None and self._flow.occupied_by is None
        return self.in_touch and idle and side is not None and not side.stopping

    def advance(self) -> None:
        """Also takes the place of the current kernel, for a side that waits, where nothing is with that one any more."""
        if self._swapping.take_place():
            self._control.release()
        side = self._state.current
        if side is not None and self.in_touch:
            self._to_subshells(side)
            if self._state.target is None and not side.stopping:
                for message in self._flow.next():
                    self._state.forward(side, Channel.SHELL, message)
        # Requests to a kernel that ended wait for its restart; one that is gone will not be restarted by itself.
        if self._state.target is None and side is not None and side.phase is Phase.GONE:
            self._flow.refuse_waiting(self._state.gone)

    def _to_subshells(self, side: Side) -> None:
        """What is for subshells goes there, if it has not to wait for one to be made, or for a swap."""
        if self._state.target is not None and self._flow.running is None:
            return
        stay: set[str] = set()
        for message in self._flow.aside.take_all():
            front = subshell_of(message)
            # A cell is to run where the notebook moves to; a comm has its other end here as long as a cell runs here.
            cell_in_between = self._state.target is not None and message.type == "execute_request"
            there = self._state.subshells.place(side, front)
            if there is None:
                self._flow.waiting.append(message)
            elif not there or front in stay or cell_in_between or self._flow.must_wait(message):
                stay.add(front)
                self._flow.aside.append(message)
            else:
                self._state.forward(side, Channel.SHELL, message, front, there)
        self._state.subshells.close(side, lambda: self._flow.subshells_in_use)
