"""What the proxy holds, forwards, answers and aborts. Pure: messages in, actions out; no sockets, no clock, no threads.

Rules (DESIGN section 1 says why each is there):

1. At most one ``execute_request`` is with the kernel. What arrives on shell behind it waits, in order. Message text is
   never looked at: any cell may move everything after it.
2. After an error reply to a request with ``stop_on_error``, the ``execute_request``s that wait are answered here: busy,
   ``aborted``, idle. (The kernel would have done that, but it never saw them.)
3. A new backend is ready once its IOPub reaches us (a welcome, or a status whose parent is a request of ours) and it has
   answered ``kernel_info_request``. Nothing that waits goes out before, and the magic goes out before that.
4. A change of backend takes place when everything that was forwarded has been answered *and* has gone idle.
5. Every request is answered. What a lost backend will never answer gets an error or ``aborted``, and idle.
6. ``kernel_info_request`` never waits behind a cell, nor for a machine that is out of reach: it is answered from what
   the kernel said earlier.
7. Every message to a client carries one ``header.session``.
8. From a backend that is not trusted, only what answers a request of this gate is let through, to whom asked.

9. A message for a subshell waits for no cell: one that runs there is beside the one of rule 1, and rules 4 and 5 hold for it.
10. What waits for a machine that is out of reach waits here, up to a limit, and what is with the kernel stays with it.

One ``Side`` is one kernel process behind the gate; ``current`` is the one that requests go to. A side's life::

    STARTING --started--> ASKING --iopub seen, info there; magic sent--> READY
    any --exited--> ENDED     any --gone--> GONE     READY, ENDED --started (restarted in place)--> ASKING
    (added) --adopt--> READY: the kernel of an earlier server process

``own_requests.py`` takes a side from STARTING to READY, ``swapping.py`` to its place, ``flow.py`` keeps the requests that wait
or are with the kernel, ``advancing.py`` lets them go there, ``control.py`` sees to the control channel, ``hearing.py`` to what
kernels say, ``subshells.py`` to the ids of subshells, and ``answers.py`` writes what the gate says to clients.

Every method is one event; what is to be done about it is appended to ``actions``, which the caller drains in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import Cancelled, DSVMError, KernelStartError
from ..relay.wire import Channel
from .actions import (
    Action,
    Arrived,
    Carrying,
    KeptRequest,
    Key,
    Phase,
    Ready,
    Request,
    Side,
    ToBackend,
    UserCancelled,
)
from .activity import Activity
from .adopted import Adoption
from .advancing import Advancing
from .control import Control
from .deaths import ended_by_itself
from .gate_state import GateState
from .hearing import Hearing
from .messages import MalformedMessage, Message, Signer
from .own_requests import language_problem
from .swapping import Swapping

log = logging.getLogger("jupyter_dsvm.gate")


class Gate:
    def __init__(self, signer: Signer, magic_source: Callable[[], str | None]) -> None:
        """``magic_source`` gives the code that puts ``%dsvm`` into a Python kernel, or None for none."""
        self._state = state = GateState(signer, magic_source)
        self.ending = False
        """A restart or shutdown was asked for: the end of the kernel is expected."""
        self._numbers = 0
        self._flow = state.flow
        self._hearing = Hearing(state)
        self._control = Control(state, self.user_ends, self._user_cancel, self.interrupt)
        self._adoption = Adoption(state, self._control)
        self._swapping = Swapping(state)
        self._advancing = Advancing(state, self._swapping, self._control)
        self._refusing = False

    @property
    def actions(self) -> list[Action]:
        """What is to be done; whoever does it takes it out."""
        return self._state.actions

    @property
    def current(self) -> Side | None:
        return self._state.current

    @property
    def execution_state(self) -> str:
        """As the current kernel said last; ``dead`` once it has ended."""
        return self._state.execution_state

    @property
    def info(self) -> dict[str, Any] | None:
        """What the current kernel said to ``kernel_info_request``, for ``adopt`` in a later process; None before that."""
        return self._state.info

    @property
    def activity(self) -> Activity:
        """Says what is published, to whoever watches."""
        return self._state.activity

    @property
    def running(self) -> Request | None:
        """The ``execute_request`` that is with the kernel; one in a subshell where its main shell runs none."""
        return self._flow.cell

    @property
    def completing(self) -> bool:
        """Whether a client's ``complete_request`` is with the kernel."""
        return bool(self._flow.awaited("complete_request"))

    @property
    def target(self) -> int | None:
        """The side that waits to be swapped in."""
        return self._state.target.number if self._state.target is not None else None

    @property
    def gone_error(self) -> DSVMError | None:
        """Why the current kernel is confirmed to be gone with its machine; None when it is not."""
        return self._state.gone

    def welcome(self, topic: bytes) -> list[bytes]:
        """What a new subscriber to the front's IOPub is greeted with."""
        content = {"subscription": topic.decode("utf-8", "replace")}
        return self._state.signer.message("iopub_welcome", content, None, [topic])

    # Sides

    def add(self, compute_name: str, language: str, interrupt_mode: str, trusted: bool) -> int:
        """A side for a backend that is about to be started; ``launched`` or ``swap`` makes it the current one."""
        self._numbers += 1
        self._state.sides[self._numbers] = Side(self._numbers, compute_name, language, interrupt_mode, trusted)
        return self._numbers

    def launched(self, number: int) -> None:
        """The kernel manager starts this side as the kernel: at first, or after a restart. No swap, no closing of comms."""
        old = self.current
        if old is not None and old.number != number:
            self._state.own.unanswered(old)
            if old.phase not in (Phase.ENDED, Phase.GONE):
                old.phase = Phase.ENDED
                self._settle(None)
            self._state.sides.pop(old.number, None)
        self._state.current = self._state.sides[number]
        self._state.info = self._state.gone = None
        self._flow.comms.clear()
        self._state.execution_state = "starting"
        self.ending = False

    def adopt(
        self,
        number: int,
        info: dict[str, Any] | None,
        requests: Iterable[KeptRequest],
        answered_ids: Iterable[str] = (),
        ready: bool = True,
    ) -> None:
        """That side, added before, has the kernel that an earlier server process started.

        ``info`` is what ``info`` was then. ``requests`` are those that clients may still wait for, in order of arrival:
        what the kernel says of those that were ``sent`` is let through, and what waits is sent in its turn. Where the
        kernel is not reached yet, say so with ``link`` before. Of ``answered_ids``, and of no others that were answered,
        outputs are let through. Not ``ready`` is a kernel that was still coming up: ``started`` follows.
        """
        self.ending = False
        self._adoption.adopt(self._state.sides[number], info, requests, answered_ids, ready)
        self._advancing.advance()

    def not_received(self, keys: Iterable[Key]) -> None:
        """These requests, adopted as ``sent``, never reached the kernel's machine: cells go again, in order of ``keys``."""
        self._flow.take_back(keys)
        self._advancing.advance()

    def starting(self, number: int) -> None:
        """A new kernel was ordered on that side; what is sent from now on is kept for it. ``started`` follows."""
        side = self._state.sides.get(number)
        if side is not None and side.phase is Phase.STARTING:
            self._state.own.ask_early(side)

    def started(self, number: int) -> None:
        """A kernel process runs on that side: ask who it is. ``ask_again`` repeats that every 100 ms."""
        side = self._state.sides.get(number)
        if side is None:
            return
        if side is self.current:
            if side.phase not in (Phase.STARTING, Phase.ENDED):
                # A restart in place whose end nobody saw: what was with the old process will not be answered by the new
                # one. What came after a confirmed end, or before the first start, waits for this process.
                side.phase = Phase.ENDED
                self._settle(None)
            self._state.info = None
            self.ending = False
            self._state.execution_state = "starting"
        self._state.own.introduce(side)

    def ask_again(self, number: int) -> bool:
        """Repeat the question if it was answered but nothing came over IOPub yet. False once there is nothing to wait for."""
        side = self._state.sides.get(number)
        return side is not None and self._state.own.ask_again(side)

    def exited(self, number: int, code: int, text: str, why: DSVMError | None = None) -> None:
        """Confirmed: the kernel process on that side has ended. ``why``: where more is known of that than its exit code."""
        side = self._state.sides.get(number)
        if side is None or side.phase is Phase.GONE:
            return
        was, side.phase = side.phase, Phase.ENDED
        self._state.own.unanswered(side)
        side.asked_early = ""  # a process that takes this one's place has not heard the question
        if side.replaced:
            self._state.sides.pop(number)
            return
        error = why or ended_by_itself(side, was is Phase.READY, code, text, side is self.current)
        if side is self.current:
            self._state.execution_state = "dead"
            self._settle(None if self.ending else error)
        else:
            self._swapping.drop(side, error)
            self._advancing.advance()

    def gone(self, number: int, error: DSVMError) -> None:
        """Confirmed: the machine no longer has that side's kernel. The front stays, and says so to whoever asks."""
        side = self._state.sides.get(number)
        if side is None or side.phase is Phase.GONE:
            return
        side.phase = Phase.GONE
        self._state.own.unanswered(side)
        if side.replaced:
            self._state.sides.pop(number)
        elif side is not self.current:
            self._swapping.drop(side, error)
            self._advancing.advance()
        else:
            self._state.gone = error
            self._state.execution_state = "idle"
            self._settle(error)

    def link(self, number: int, reachable: bool) -> None:
        """The link to that side's machine was lost, or is back. What was sent stays with the backend meanwhile."""
        side = self._state.sides.get(number)
        if side is None or side.reachable is reachable:
            return
        side.reachable = reachable
        if not reachable:
            self._swapping.out_of_reach(side)
        if side is self.current:
            self._refusing = False
            if not reachable:
                self._control.link_lost(side)
            self._control.release()
        self._advancing.advance()

    def swap(self, number: int, carry: bool = False) -> None:
        """Make a READY side the current one as soon as all that was forwarded is answered. A later swap replaces an earlier.
        ``carry``: not before its variables were (``swapping.py``); ``Carry`` says when that can begin."""
        if self._swapping.ask(number, carry):
            self._advancing.advance()

    def carried(self, number: int) -> None:
        """The variables for that side are there: it takes the place now."""
        if self._swapping.carried(number):
            self._advancing.advance()

    def ask(self, number: int, code: str, expressions: Mapping[str, str]) -> str | None:
        """Have the kernel on a READY side run code silently and read expressions; clients hear nothing of it. ``OwnReply`` with
        the id given here follows. None: nothing can be asked of that side. It goes behind a cell that runs: see ``idle``."""
        side = self._state.sides.get(number)
        if side is None or side.phase is not Phase.READY or side.replaced:
            return None
        return self._state.own.ask_code(side, code, expressions)

    def insist(self, number: int, msg_id: str) -> None:
        """Some seconds after an ``Insist``."""
        side = self._state.sides.get(number)
        if side is not None:
            self._state.own.insist(side, msg_id)

    @property
    def idle(self) -> bool:
        """Nothing is with the kernel, and a question would be answered at once."""
        return self._advancing.at_leisure and not self._flow.with_kernel and not self._flow.waiting

    def say_next(self, text: str) -> None:
        """A sentence for the output of the next cell of a person that a kernel runs."""
        self._state.say_next = text

    def cancel_swap(self, number: int, error: DSVMError) -> None:
        """Forget a side that has not been swapped in."""
        if self._swapping.cancel(number, error):
            self._advancing.advance()

    def hurry(self) -> None:
        """A swap has waited for long: do not wait for requests other than cells, which some kernels never end with idle."""
        if self._state.target is None or self._flow.cell is not None:
            return
        self._flow.settle(KernelStartError("The notebook moved before this request was answered."))
        self._advancing.advance()

    # From clients

    def from_client(self, channel: Channel, parts: list[bytes]) -> None:
        try:
            message = self._state.intake.take(parts)
            if channel is Channel.STDIN:
                self._stdin(message)
                return
        except MalformedMessage as e:
            log.warning("Dropped a message on %s: %s.", channel.name.lower(), e)
            return
        if channel is Channel.CONTROL:
            self._control.take(message)
        else:
            self._shell(message)
        self._advancing.advance()  # a cancelled swap lets go what waited for it

    def _shell(self, message: Message) -> None:
        state, kind = self._state, message.type
        if kind == "kernel_info_request" and state.info is not None and not self._advancing.at_leisure:
            state.say.answer(message, Channel.SHELL, state.info, self._flow.occupied_by)
            return
        if kind == "execute_request":
            state.actions.append(Arrived(message.key, message.parts))
        too_much = state.too_much(message)
        if too_much is not None:
            if not self._refusing:
                log.warning("Messages are refused: %s", too_much)
            self._refusing = True
            self._flow.refuse(message, too_much)
            return
        self._flow.wait(message)

    def _stdin(self, message: Message) -> None:
        side = self.current
        kind, asked_by = message.parent_key
        if side is not None and side.asked_earlier and asked_by not in side.inputs:
            side.asked_earlier = False
        elif side is None or not side.inputs or (kind == "input_request" and asked_by not in side.inputs):
            log.info("Dropped an input_reply that the present kernel did not ask for.")
            return
        elif asked_by in side.inputs:
            side.inputs.remove(asked_by)
        else:
            side.inputs.popleft()  # most front ends do not say what they answer
        self.actions.append(ToBackend(side.number, Channel.STDIN, message.parts))

    def interrupt(self) -> None:
        """The kernel manager interrupts (with a signal, as the front's kernelspec says)."""
        self._user_cancel("interrupted")
        self._interrupt_current()
        # After the signal: what waited for the swap is not what the user wants to interrupt.
        self._advancing.advance()

    def interrupt_for_swap(self) -> None:
        """Whoever asked for the swap that waits would rather have what runs interrupted than wait for it. What is queued behind is
        aborted with it, as after any error."""
        if self._state.target is not None and self._state.carrying is not Carrying.UNDER_WAY:
            self._interrupt_current()

    def _interrupt_current(self) -> None:
        side = self.current
        if side is not None and not side.stopping:  # else what runs there is ending already
            self._state.own.interrupt(side)

    def user_ends(self, reason: str) -> None:
        """The kernel manager ends or restarts the kernel: its end is expected, and no attach may go on."""
        self.ending = True
        self._user_cancel(reason)

    def _user_cancel(self, reason: str) -> None:
        self._swapping.cancel_all(Cancelled(f"The move was cancelled: the kernel was {reason}."))
        self.actions.append(UserCancelled(reason))

    # Sides that are not needed any more

    def farewell(self, number: int) -> None:
        """Ask the kernel on a side that is not needed any more to end by itself, so that what it does at exit is done."""
        side = self._state.sides.get(number)
        if side is not None and side.phase is Phase.READY:
            self._state.own.ask(side, "shutdown_request", {"restart": False}, Channel.CONTROL)

    def forget(self, number: int) -> None:
        """A replaced backend has ended or been let go: nothing more comes from it."""
        if self.current is None or self.current.number != number:
            side = self._state.sides.pop(number, None)
            if side is not None:
                self._state.own.unanswered(side)

    # From backends

    def from_backend(self, number: int, channel: Channel, parts: list[bytes]) -> None:
        side = self._state.sides.get(number)
        if side is None:
            return
        try:
            message = Message(parts, bounded=not side.trusted)
            kind, parent_id = message.type, message.parent_id
            if not kind or not message.id:
                raise MalformedMessage("a message without type or id")  # which no client could read
            if not side.trusted:
                message.check()
            if parent_id in side.own:
                self._own_heard(side, channel, message)
            elif kind == "iopub_welcome":
                side.iopub_seen = True
                self._progress(side)
            elif side is self.current:
                said = self._hearing.current(side, channel, message)
                if said is not None:
                    self._finish(*said)
            elif side.replaced:
                self._hearing.replaced(side, channel, message)
            # A kernel that is being prepared says nothing to clients.
        except MalformedMessage as e:
            log.warning("Dropped a message from the kernel on %s: %s.", side.compute_name, e)

    def _own_heard(self, side: Side, channel: Channel, message: Message) -> None:
        """Something was said about one of the gate's own requests."""
        self._state.own.heard(side, channel, message)
        self._progress(side)
        if message.type == "comm_info_reply" and channel is Channel.SHELL:
            self._flow.found_comms(message, side.replaced)
        if side is self.current:
            if side.phase is Phase.READY and self._state.info is None:
                self._state.info = side.info
            if self._state.subshells.heard(side, channel, message) or channel is Channel.SHELL:
                self._advancing.advance()

    def _progress(self, side: Side) -> None:
        """The side may have become READY, or be of no use."""
        problem = language_problem(side, self.current)
        if problem is not None and not side.replaced:
            self._swapping.drop(side, problem)
            self._advancing.advance()
        elif self._state.own.progress(side):
            self._state.actions.append(Ready(side.number))
            if side is self.current:
                self._state.info = side.info
                self._state.execution_state = "idle"
                self._control.release()
                self._advancing.advance()

    # The ends of requests

    def _finish(self, request: Request, what: str) -> None:
        """The kernel's ``reply`` or ``idle`` has been passed on."""
        if what == "reply" and request is self._flow.running and request.stop_on_error and request.failed:
            self._flow.abort_behind(request)
        if not self._flow.finished(request, what):
            return
        self._forget_inputs()
        self._control.release()
        self._advancing.advance()

    def _forget_inputs(self) -> None:
        if self._flow.cell is None and self.current is not None:
            self.current.inputs.clear()
            self.current.asked_earlier = False

    def _settle(self, error: DSVMError | None) -> None:
        """The current kernel will answer nothing any more."""
        self._flow.settle(error)
        self._forget_inputs()
        self._control.release()
        self._advancing.advance()
