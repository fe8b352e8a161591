"""What the proxy holds, forwards, answers and aborts. Pure: messages in, actions out; no sockets, no clock, no threads.

Rules (DESIGN section 1 says why each is there):

1. At most one ``execute_request`` is with the kernel. What arrives on shell behind it waits, in order. Message text is
   never looked at: any cell may move everything after it.
2. After an error reply to a request with ``stop_on_error``, the ``execute_request``s that wait are answered here: busy,
   ``aborted``, idle. (The kernel would have done that, but it never saw them.)
3. A new backend is ready once its IOPub reaches us (a welcome, or a status whose parent is a request of ours), it has answered
   ``kernel_info_request``, and the magic is in. Nothing that waits goes out before.
4. A change of backend takes place when everything that was forwarded has been answered *and* has gone idle.
5. Every request is answered. What a lost backend will never answer gets an error or ``aborted``, and idle.
6. ``kernel_info_request`` never waits behind a cell, nor for a machine that is out of reach: it is answered from what
   the kernel said earlier.
7. Every message to a client carries one ``header.session``.
8. From a backend that is not trusted, only what answers a request of this gate is let through, to whom asked.

One ``Side`` is one kernel process behind the gate; ``current`` is the one that requests go to. A side's life::

    STARTING --started--> ASKING --iopub seen, info there--> INSTALLING --magic answered--> READY
    any --exited--> ENDED     any --gone--> GONE     READY, ENDED --started (restarted in place)--> ASKING

``own_requests.py`` takes a side from STARTING to READY, ``flow.py`` keeps the requests that wait or are with the kernel,
``answers.py`` writes what the gate says to clients.

Every method is one event; what is to be done about it is appended to ``actions``, which the caller drains in order.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import Cancelled, DSVMError, KernelStartError, printable
from ..relay.wire import Channel
from .actions import (
    Action,
    Failed,
    Phase,
    Ready,
    Request,
    Side,
    Signal,
    Swapped,
    ToBackend,
    ToClient,
    UserCancelled,
)
from .answers import Answers, content_of, failure, text_in, without_subshells
from .flow import Flow
from .messages import Intake, MalformedMessage, Message, Signer
from .own_requests import OwnRequests, language_problem

log = logging.getLogger("jupyter_dsvm.gate")

SUBSHELL_REQUESTS = {"create_subshell_request", "delete_subshell_request", "list_subshell_request"}
STARTING = {Phase.STARTING, Phase.ASKING, Phase.INSTALLING}
OUTPUTS = {"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output", "comm_msg"}
"""What a kernel that has been replaced may still say."""
PUBLISHED = OUTPUTS | {"status", "execute_input", "comm_open", "comm_close", "debug_event", "shutdown_reply"}
"""What a kernel that is not trusted may say on IOPub."""


class Gate:
    def __init__(self, signer: Signer, magic_source: Callable[[], str | None]) -> None:
        """``magic_source`` gives the code that puts ``%dsvm`` into a Python kernel, or None for none."""
        self.actions: list[Action] = []
        self.current: Side | None = None
        self.execution_state = "starting"
        self.ending = False
        """A restart or shutdown was asked for: the end of the kernel is expected."""
        self._signer = signer
        self._intake = Intake(signer)
        self._say = Answers(signer, self.actions)
        self._flow = Flow(self._say)
        self._own = OwnRequests(signer, self.actions, magic_source)
        self._sides: dict[int, Side] = {}
        self._numbers = 0
        self._held_control: deque[Message] = deque()
        # By type and id: a kernel manager and its clients share a session and count their messages each for itself, so
        # an id alone is not unique (jupyter_client's Session.clone).
        self._sent: dict[tuple[str, str], Request] = {}
        self._info: dict[str, Any] | None = None
        self._target: Side | None = None
        self._gone: DSVMError | None = None

    @property
    def running(self) -> Request | None:
        """The ``execute_request`` that is with the kernel."""
        return self._flow.running

    @property
    def target(self) -> int | None:
        """The side that waits to be swapped in."""
        return self._target.number if self._target is not None else None

    @property
    def gone_error(self) -> DSVMError | None:
        """Why the current kernel is confirmed to be gone with its machine; None when it is not."""
        return self._gone

    def welcome(self, topic: bytes) -> list[bytes]:
        """What a new subscriber to the front's IOPub is greeted with."""
        content = {"subscription": topic.decode("utf-8", "replace")}
        return self._signer.message("iopub_welcome", content, None, [topic])

    # Sides

    def add(self, compute_name: str, language: str, interrupt_mode: str, trusted: bool) -> int:
        """A side for a backend that is about to be started; ``launched`` or ``swap`` makes it the current one."""
        self._numbers += 1
        self._sides[self._numbers] = Side(self._numbers, compute_name, language, interrupt_mode, trusted)
        return self._numbers

    def launched(self, number: int) -> None:
        """The kernel manager starts this side as the kernel: at first, or after a restart. No swap, no closing of comms."""
        old = self.current
        if old is not None and old.number != number:
            if old.phase not in (Phase.ENDED, Phase.GONE):
                old.phase = Phase.ENDED
                self._settle(None)
            self._sides.pop(old.number, None)
        self.current = self._sides[number]
        self._info = self._gone = None
        self._flow.comms.clear()
        self.execution_state = "starting"
        self.ending = False

    def started(self, number: int) -> None:
        """A kernel process runs on that side: ask who it is. ``ask_again`` repeats that every 100 ms."""
        side = self._sides.get(number)
        if side is None:
            return
        if side is self.current:
            if side.phase not in (Phase.STARTING, Phase.ENDED):
                # A restart in place whose end nobody saw: what was with the old process will not be answered by the new
                # one. What came after a confirmed end, or before the first start, waits for this process.
                side.phase = Phase.ENDED
                self._settle(None)
            self._info = None
            self.ending = False
            self.execution_state = "starting"
        self._own.introduce(side)

    def ask_again(self, number: int) -> bool:
        """Repeat the question if it was answered but nothing came over IOPub yet. False once there is nothing to wait for."""
        side = self._sides.get(number)
        return side is not None and self._own.ask_again(side)

    def exited(self, number: int, code: int, text: str) -> None:
        """Confirmed: the kernel process on that side has ended."""
        side = self._sides.get(number)
        if side is None or side.phase is Phase.GONE:
            return
        was, side.phase = side.phase, Phase.ENDED
        if side.replaced:
            self._sides.pop(number)
            return
        said = f" It said: {printable(text).rstrip('.')}." if text.strip() else ""
        error = KernelStartError(
            f"The kernel on {side.compute_name} ended with exit code {code}"
            f"{'' if was is Phase.READY else ' before it answered'}.{said}",
            advice="The notebook keeps the kernel it had."
            if side is not self.current
            else "Restart the kernel to go on.",
            code="KernelDied" if was is Phase.READY else None,
        )
        if side is self.current:
            self.execution_state = "dead"
            self._settle(None if self.ending else error)
        else:
            self._drop(side, error)

    def gone(self, number: int, error: DSVMError) -> None:
        """Confirmed: the machine no longer has that side's kernel. The front stays, and says so to whoever asks."""
        side = self._sides.get(number)
        if side is None or side.phase is Phase.GONE:
            return
        side.phase = Phase.GONE
        if side.replaced:
            self._sides.pop(number)
        elif side is not self.current:
            self._drop(side, error)
        else:
            self._gone = error
            self.execution_state = "idle"
            self._settle(error)

    def link(self, number: int, reachable: bool) -> None:
        """The link to that side's machine was lost, or is back. What was sent stays with the backend meanwhile."""
        side = self._sides.get(number)
        if side is not None:
            side.reachable = reachable

    def swap(self, number: int) -> None:
        """Make a READY side the current one as soon as all that was forwarded is answered. A later swap replaces an earlier."""
        side = self._sides.get(number)
        if side is not None and side is self.current:
            return
        if side is None or side.phase is not Phase.READY or side.replaced:
            self.actions.append(
                Failed(number, KernelStartError("The new kernel ended before the notebook could move to it."))
            )
            return
        if self._target is not None and self._target is not side:
            self._drop(self._target, Cancelled("A later attach took the place of this one."))
        self._target = side
        self._advance()

    def cancel_swap(self, number: int, error: DSVMError) -> None:
        """Forget a side that has not been swapped in."""
        side = self._sides.get(number)
        if side is not None and side is not self.current and not side.replaced:
            self._drop(side, error)
            self._advance()

    def hurry(self) -> None:
        """A swap has waited for long: do not wait for requests other than cells, which some kernels never end with idle."""
        if self._target is None or self.running is not None:
            return
        self._flow.settle(KernelStartError("The notebook moved before this request was answered."))
        self._advance()

    def _drop(self, side: Side, error: DSVMError) -> None:
        self._sides.pop(side.number, None)
        if self._target is side:
            self._target = None
        self.actions.append(Failed(side.number, error))

    # From clients

    def from_client(self, channel: Channel, parts: list[bytes]) -> None:
        try:
            message = self._intake.take(parts)
            if channel is Channel.STDIN:
                self._stdin(message)
                return
        except MalformedMessage as e:
            log.warning("Dropped a message on %s: %s.", channel.name.lower(), e)
            return
        if channel is Channel.CONTROL:
            self._control(message)
        else:
            self._shell(message)

    def _shell(self, message: Message) -> None:
        side = self.current
        soon = self._flowing and side is not None and side.reachable and self._flow.occupied_by is None
        if message.type == "kernel_info_request" and self._info is not None and not soon:
            self._say.answer(message, Channel.SHELL, self._info, self._flow.occupied_by)
            return
        self._flow.waiting.append(message)
        self._advance()

    def _control(self, message: Message) -> None:
        kind = message.type
        side = self.current
        if kind in SUBSHELL_REQUESTS:
            text = "This kernel offers no subshells, since their ids would not outlive a move."
            self._answer_control(message, failure("SubshellsNotSupported", text))
            return
        if kind == "interrupt_request" and side is not None:
            if not side.reachable:
                self._user_cancel("interrupted")
                text = f"{side.compute_name} is out of reach; the kernel there was not interrupted."
                self._answer_control(message, failure("Unreachable", text))
                self._advance()
                return
            if side.interrupt_mode != "message":
                self.interrupt()
                self._answer_control(message, {"status": "ok"})
                return
            self._user_cancel("interrupted")
            if side.phase in STARTING:
                # Nothing runs there; kept until something does, it would stop the wrong cell.
                self._answer_control(message, {"status": "ok"})
                self._advance()
                return
        if kind == "shutdown_request" and side is not None and side.phase is Phase.READY and not side.reachable:
            # Not kept for later: nobody would expect the end then.
            self._user_cancel("shut down or restarted")
            text = f"{side.compute_name} is out of reach; the kernel there was not shut down."
            self._answer_control(message, failure("Unreachable", text))
            self._advance()
            return
        if kind == "shutdown_request":
            self.user_ends("shut down or restarted")
        self._pass_control(message)
        self._advance()  # a cancelled swap lets go what waited for it

    def _pass_control(self, message: Message) -> None:
        """To the kernel, or to where it waits for one, or answered where none will come."""
        kind, side = message.type, self.current
        reachable = side is not None and side.phase is Phase.READY and side.reachable
        if kind == "kernel_info_request" and self._info is not None and not reachable:
            self._answer_control(message, self._info)
        elif side is None or side.phase in STARTING:
            self._held_control.append(message)
        elif side.phase is Phase.READY:
            if self._flow.must_wait(message):
                self._held_control.append(message)
            else:
                self._forward(side, Channel.CONTROL, message)
        elif kind == "shutdown_request":
            restart = bool(content_of(message).get("restart"))
            self._answer_control(message, {"status": "ok", "restart": restart})
        else:
            self._say.failed(Request(message, Channel.CONTROL), self._gone)

    def _answer_control(self, message: Message, content: dict[str, Any]) -> None:
        self._say.answer(message, Channel.CONTROL, content, self._flow.occupied_by)

    def _release_control(self) -> None:
        """What was held on control goes on: the kernel is there now, or it never will be."""
        if not self._held_control:
            return
        held, self._held_control = self._held_control, deque()
        for message in held:
            self._pass_control(message)

    def _stdin(self, message: Message) -> None:
        side = self.current
        kind, asked_by = message.parent_key
        if side is None or not side.inputs or (kind == "input_request" and asked_by not in side.inputs):
            log.info("Dropped an input_reply that the present kernel did not ask for.")
            return
        if asked_by in side.inputs:
            side.inputs.remove(asked_by)
        else:
            side.inputs.popleft()  # most front ends do not say what they answer
        self.actions.append(ToBackend(side.number, Channel.STDIN, message.parts))

    def interrupt(self) -> None:
        """The kernel manager interrupts (with a signal, as the front's kernelspec says)."""
        self._user_cancel("interrupted")
        side = self.current
        if side is not None and side.interrupt_mode != "message":
            self.actions.append(Signal(side.number, signal.SIGINT))
        elif side is not None and side.phase is Phase.READY:
            self._own.ask(side, "interrupt_request", {}, Channel.CONTROL)
        # After the signal: what waited for the swap is not what the user wants to interrupt.
        self._advance()

    def user_ends(self, reason: str) -> None:
        """The kernel manager ends or restarts the kernel: its end is expected, and no attach may go on."""
        self.ending = True
        self._user_cancel(reason)

    def _user_cancel(self, reason: str) -> None:
        for side in list(self._sides.values()):
            if side is not self.current and not side.replaced:
                self._drop(side, Cancelled(f"The move was cancelled: the kernel was {reason}."))
        self.actions.append(UserCancelled(reason))

    # The flow of requests

    @property
    def _flowing(self) -> bool:
        """A shell message could go to the kernel now and be answered soon."""
        side = self.current
        return side is not None and side.phase is Phase.READY and self._flow.running is None and self._target is None

    def _advance(self) -> None:
        self._try_swap()
        if self._flowing and self.current is not None:
            for message in self._flow.next():
                self._forward(self.current, Channel.SHELL, message)
        # Requests to a kernel that ended wait for its restart; one that is gone will not be restarted by itself.
        if self._target is None and self.current is not None and self.current.phase is Phase.GONE:
            self._flow.refuse_waiting(self._gone)

    def _forward(self, side: Side, channel: Channel, message: Message) -> None:
        self._intake.sent_to(side.number, message)
        self._flow.sent(message, channel)
        self.actions.append(ToBackend(side.number, channel, message.parts))

    def _try_swap(self) -> None:
        new, old = self._target, self.current
        if new is None or old is None:
            return
        if old.phase in (Phase.READY, Phase.GONE, Phase.ENDED) and not self._flow.with_kernel:
            self._flow.leave()
            self._target, self.current = None, new
            self._info, self._gone = new.info, None
            self.execution_state = "idle"
            old.replaced = True
            if old.phase is not Phase.READY:
                del self._sides[old.number]
            self._flow.close_comms()
            self.actions.append(Swapped(old.number, new.number))

    def farewell(self, number: int) -> None:
        """Ask the kernel on a side that is not needed any more to end by itself, so that what it does at exit is done."""
        side = self._sides.get(number)
        if side is not None and side.phase is Phase.READY:
            self._own.ask(side, "shutdown_request", {"restart": False}, Channel.CONTROL)

    def forget(self, number: int) -> None:
        """A replaced backend has ended or been let go: nothing more comes from it."""
        if self.current is None or self.current.number != number:
            self._sides.pop(number, None)

    # From backends

    def from_backend(self, number: int, channel: Channel, parts: list[bytes]) -> None:
        side = self._sides.get(number)
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
                self._own.heard(side, channel, message)
                self._progress(side)
            elif kind == "iopub_welcome":
                side.iopub_seen = True
                self._progress(side)
            elif side is self.current:
                self._from_current(side, channel, kind, parent_id, message)
            elif side.replaced and channel is Channel.IOPUB and kind in OUTPUTS and self._sent_to(side, parent_id):
                self._publish(side, kind, message)
            # A kernel that is being prepared says nothing to clients, a replaced one has only output left.
        except MalformedMessage as e:
            log.warning("Dropped a message from the kernel on %s: %s.", side.compute_name, e)

    def _progress(self, side: Side) -> None:
        """Something was heard about the gate's own requests: the side may have become READY, or be of no use."""
        problem = language_problem(side, self.current)
        if problem is not None and not side.replaced:
            self._drop(side, problem)
        elif self._own.progress(side):
            self.actions.append(Ready(side.number))
            if side is self.current:
                self._info = side.info
                self.execution_state = "idle"
                self._release_control()
                self._advance()

    def _sent_to(self, side: Side, msg_id: str) -> bool:
        return self._intake.was_sent_to(side.number, msg_id)

    def _publish(self, side: Side, kind: str, message: Message) -> None:
        parts = self._signer.in_session(message)
        if not side.trusted:
            parts = [self._signer.topic(kind), *parts[message.at :]]
        self.actions.append(ToClient(Channel.IOPUB, parts))

    def _from_current(self, side: Side, channel: Channel, kind: str, parent_id: str, message: Message) -> None:
        request = self._flow.find(message.parent_key)
        if channel is Channel.IOPUB:
            if not side.trusted and not (kind in PUBLISHED and self._sent_to(side, parent_id)):
                return
            state = text_in(content_of(message), "execution_state") if kind == "status" else ""
            if state:
                self.execution_state = state
            self._flow.track_comm(message)
            self._publish(side, kind, message)
            if request is not None and state == "idle":
                request.idle = True
                self._finish(request)
            return
        if channel is Channel.STDIN:
            request = request or (self._flow.running if side.trusted else None)
            if request is None or kind != "input_request":
                return
            side.inputs.append(message.id)
        elif request is None or request.channel is not channel or request.replied:
            return  # an answer to nothing that was asked, or a second one
        elif not side.trusted and kind != request.message.type.rpartition("_")[0] + "_reply":
            return
        if kind == "kernel_info_reply":
            content = without_subshells(content_of(message))
            message = Message(self._signer.replace(message, content=content))
            if side.phase is Phase.READY:
                side.info = self._info = content
        parts = self._signer.in_session(message)
        # To whom asked, whatever the kernel put in front of its answer.
        self.actions.append(ToClient(channel, [*request.message.idents, *parts[message.at :]]))
        if channel is Channel.STDIN or not kind.endswith("_reply"):
            return
        request.replied = True
        if request is self._flow.running and request.stop_on_error and content_of(message).get("status") == "error":
            self._flow.abort_waiting()
        self._finish(request)

    # The ends of requests

    def _finish(self, request: Request) -> None:
        if not self._flow.finished(request):
            return
        if self._flow.running is None and self.current is not None:
            self.current.inputs.clear()
        self._release_control()
        self._advance()

    def _settle(self, error: DSVMError | None) -> None:
        """The current kernel will answer nothing any more."""
        self._flow.settle(error)
        if self.current is not None:
            self.current.inputs.clear()
        self._release_control()
        self._advance()
