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
    any --exited--> ENDED     any --gone--> GONE     READY --started (restarted in place)--> ASKING

Every method is one event; what is to be done about it is appended to ``actions``, which the caller drains in order.
"""

from __future__ import annotations

import logging
import signal
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ..errors import Cancelled, DSVMError, KernelStartError, LanguageMismatch, printable
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
from .messages import MalformedMessage, Message, Signer

log = logging.getLogger("jupyter_dsvm.gate")

REMEMBERED_REQUESTS = 100_000
"""Requests whose late output is still let through; a thread of an old cell may print for hours."""

SUBSHELL_REQUESTS = {"create_subshell_request", "delete_subshell_request", "list_subshell_request"}
OUTPUTS = {"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output", "comm_msg"}
"""What a kernel that has been replaced may still say."""


class Gate:
    def __init__(self, signer: Signer, magic_source: Callable[[], str | None]) -> None:
        """``magic_source`` gives the code that puts ``%dsvm`` into a Python kernel, or None for none."""
        self.actions: list[Action] = []
        self.current: Side | None = None
        self.execution_state = "starting"
        self.running: Request | None = None
        self.ending = False
        """A restart or shutdown was asked for: the end of the kernel is expected."""
        self._signer = signer
        self._say = Answers(signer, self.actions)
        self._magic_source = magic_source
        self._sides: dict[int, Side] = {}
        self._numbers = 0
        self._queue: deque[Message] = deque()
        self._held_control: deque[Message] = deque()
        # By type and id: a kernel manager and its clients share a session and count their messages each for itself, so
        # an id alone is not unique (jupyter_client's Session.clone).
        self._sent: dict[tuple[str, str], Request] = {}
        self._signatures: OrderedDict[bytes, None] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._comms: dict[str, None] = {}
        self._info: dict[str, Any] | None = None
        self._target: Side | None = None
        self._gone: DSVMError | None = None

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
        if self.current is not None and self.current.number != number:
            self._sides.pop(self.current.number, None)
        self.current = self._sides[number]
        self.execution_state = "starting"
        self._info = self._gone = None
        self._comms.clear()
        self.ending = False

    def started(self, number: int) -> None:
        """A kernel process runs on that side: ask who it is. ``ask_again`` repeats that every 100 ms."""
        side = self._sides.get(number)
        if side is None:
            return
        if side is self.current:
            # A restart in place: what was with the old process will not be answered by the new one.
            self._settle(None)
            self._info = None
            self.ending = False
            self.execution_state = "starting"
        side.phase, side.info, side.iopub_seen, side.inputs = Phase.ASKING, None, False, 0
        side.own.clear()
        side.unanswered.clear()
        self._ask(side, "kernel_info_request", {})

    def ask_again(self, number: int) -> bool:
        """Repeat the question if it was answered but nothing came over IOPub yet. False once there is nothing to wait for."""
        side = self._sides.get(number)
        if side is None or side.phase is not Phase.ASKING:
            return False
        if side.info is not None and not side.iopub_seen:
            self._ask(side, "kernel_info_request", {})
        return True

    def exited(self, number: int, code: int, text: str) -> None:
        """Confirmed: the kernel process on that side has ended."""
        side = self._sides.get(number)
        if side is None:
            return
        was, side.phase = side.phase, Phase.ENDED
        said = f" It said: {printable(text)}" if text.strip() else ""
        error = KernelStartError(
            f"The kernel on {side.compute_name} ended with exit code {code}"
            f"{'' if was is Phase.READY else ' before it answered'}.{said}",
            advice="The notebook keeps the kernel it had."
            if side is not self.current
            else "Restart the kernel to go on.",
            code="KernelDied" if was is Phase.READY else None,
        )
        if side is self.current:
            self._settle(None if self.ending else error)
        else:
            self._drop(side, error)

    def gone(self, number: int, error: DSVMError) -> None:
        """Confirmed: the machine no longer has that side's kernel. The front stays, and says so to whoever asks."""
        side = self._sides.get(number)
        if side is None or side.phase is Phase.GONE:
            return
        side.phase = Phase.GONE
        if side is not self.current:
            self._drop(side, error)
            return
        self._gone = error
        self.execution_state = "idle"
        self._settle(error)
        while self._held_control:
            self._control(self._held_control.popleft())
        self._advance()

    def link(self, number: int, reachable: bool) -> None:
        """The link to that side's machine was lost, or is back. What was sent stays with the backend meanwhile."""
        side = self._sides.get(number)
        if side is not None:
            side.reachable = reachable

    def swap(self, number: int) -> None:
        """Make a READY side the current one as soon as all that was forwarded is answered. A later swap replaces an earlier."""
        side = self._sides.get(number)
        if side is None or side.phase is not Phase.READY:
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
        if side is not None and side is not self.current:
            self._drop(side, error)
            self._advance()

    def hurry(self) -> None:
        """A swap has waited for long: do not wait for requests other than cells, which some kernels never end with idle."""
        if self._target is None or self.running is not None:
            return
        for request in [r for r in self._sent.values() if r is not self.running]:
            del self._sent[request.message.key]
            self._say.failed(request, KernelStartError("The notebook moved before this request was answered."))
        self._advance()

    def _drop(self, side: Side, error: DSVMError) -> None:
        self._sides.pop(side.number, None)
        if self._target is side:
            self._target = None
        self.actions.append(Failed(side.number, error))

    # From clients

    def from_client(self, channel: Channel, parts: list[bytes]) -> None:
        try:
            message = Message(parts)
            self._signer.check(message)
            if not message.id:
                raise MalformedMessage("a message without an id")
            self._check_new(message.parts[message.at + 1])
            if "subshell_id" in message.header:
                header = {k: v for k, v in message.header.items() if k != "subshell_id"}
                message = Message(self._signer.replace(message, header=header))
        except MalformedMessage as e:
            log.warning("Dropped a message on %s: %s.", channel.name.lower(), e)
            return
        if channel is Channel.STDIN:
            self._stdin(message)
            return
        self._known[message.id] = None
        if len(self._known) > REMEMBERED_REQUESTS:
            self._known.popitem(last=False)
        if channel is Channel.CONTROL:
            self._control(message)
        else:
            self._shell(message)

    def _check_new(self, signature: bytes) -> None:
        """A kernel drops a message whose signature it has seen; one that we waited for would never be answered."""
        if signature and signature in self._signatures:
            raise MalformedMessage("it was sent twice")
        self._signatures[signature] = None
        if len(self._signatures) > REMEMBERED_REQUESTS:
            self._signatures.popitem(last=False)

    def _shell(self, message: Message) -> None:
        flowing = self._flowing and self.current is not None and self.current.reachable
        if message.type == "kernel_info_request" and self._info is not None and not flowing:
            self._say.info(message, Channel.SHELL, self._info, self.running)
            return
        self._queue.append(message)
        self._advance()

    def _control(self, message: Message) -> None:
        kind = message.type
        side = self.current
        if kind in SUBSHELL_REQUESTS:
            text = "This kernel offers no subshells, since their ids would not outlive a move."
            self._say.answer(message, Channel.CONTROL, failure("SubshellsNotSupported", text))
            return
        if kind == "interrupt_request":
            self._user_cancel("interrupted")
            if side is not None and side.interrupt_mode != "message":
                self.actions.append(Signal(side.number, signal.SIGINT))
                self._say.answer(message, Channel.CONTROL, {"status": "ok"})
                return
        if kind == "shutdown_request":
            self._user_cancel("shut down or restarted")
            self.ending = True
        reachable = side is not None and side.phase is Phase.READY and side.reachable
        if kind == "kernel_info_request" and self._info is not None and not reachable:
            self._say.info(message, Channel.CONTROL, self._info, self.running)
        elif side is None or side.phase in (Phase.STARTING, Phase.ASKING, Phase.INSTALLING):
            self._held_control.append(message)
        elif side.phase is Phase.READY:
            self._sent[message.key] = Request(message, Channel.CONTROL)
            self.actions.append(ToBackend(side.number, Channel.CONTROL, message.parts))
        elif kind == "shutdown_request":
            restart = bool(content_of(message).get("restart"))
            self._say.answer(message, Channel.CONTROL, {"status": "ok", "restart": restart})
        else:
            self._say.failed(Request(message, Channel.CONTROL), self._gone)

    def _stdin(self, message: Message) -> None:
        if self.current is None or self.current.inputs == 0:
            log.info("Dropped an input_reply that the present kernel did not ask for.")
            return
        self.current.inputs -= 1
        self.actions.append(ToBackend(self.current.number, Channel.STDIN, message.parts))

    def interrupt(self) -> None:
        """The kernel manager interrupts (with a signal, as the front's kernelspec says)."""
        self._user_cancel("interrupted")
        side = self.current
        if side is None:
            return
        if side.interrupt_mode == "message":
            if side.phase is Phase.READY:
                self._ask(side, "interrupt_request", {}, Channel.CONTROL)
        else:
            self.actions.append(Signal(side.number, signal.SIGINT))

    def user_ends(self, reason: str) -> None:
        """The kernel manager ends or restarts the kernel: its end is expected, and no attach may go on."""
        self.ending = True
        self._user_cancel(reason)

    def _user_cancel(self, reason: str) -> None:
        if self._target is not None:
            self._drop(self._target, Cancelled(f"The move was cancelled: the kernel was {reason}."))
        self.actions.append(UserCancelled(reason))

    # The flow of requests

    @property
    def _flowing(self) -> bool:
        """A shell message could go to the kernel now and be answered soon."""
        side = self.current
        return side is not None and side.phase is Phase.READY and self.running is None and self._target is None

    def _advance(self) -> None:
        self._try_swap()
        while self._queue and self._flowing and self.current is not None:
            if self._queue[0].key in self._sent:
                break  # another client's request under the same id: its answers could not be told from this one's
            message = self._queue.popleft()
            request = self._sent[message.key] = Request(message, Channel.SHELL)
            kind = message.type
            if kind == "execute_request":
                self.running = request
                request.stop_on_error = bool(content_of(message).get("stop_on_error", True))
            elif not kind.endswith("_request"):
                request.replied = True
                self._track_comm(message)
            self.actions.append(ToBackend(self.current.number, Channel.SHELL, message.parts))
        # Requests to a kernel that ended wait for its restart; one that is gone will not be restarted by itself.
        while self._queue and self._target is None and self.current is not None and self.current.phase is Phase.GONE:
            self._say.failed(Request(self._queue.popleft(), Channel.SHELL), self._gone)

    def _try_swap(self) -> None:
        new, old = self._target, self.current
        if new is None or old is None:
            return
        if old.phase in (Phase.READY, Phase.GONE, Phase.ENDED) and not self._sent:
            self._target, self.current = None, new
            self._info, self._gone = new.info, None
            self.execution_state = "idle"
            old.replaced = True
            for comm_id in self._comms:
                self._say.publish("comm_close", {"comm_id": comm_id, "data": {}}, None)
            self._comms.clear()
            self.actions.append(Swapped(old.number, new.number))

    def farewell(self, number: int) -> None:
        """Ask the kernel on a side that is not needed any more to end by itself, so that what it does at exit is done."""
        side = self._sides.get(number)
        if side is not None and side.phase is Phase.READY:
            self._ask(side, "shutdown_request", {"restart": False}, Channel.CONTROL)

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
            message = Message(parts)
            kind, parent_id = message.type, message.parent_id
            if parent_id in side.own:
                self._own(side, channel, kind, parent_id, message)
            elif kind == "iopub_welcome":
                side.iopub_seen = True
                self._progress(side)
            elif side is self.current:
                self._from_current(side, channel, kind, parent_id, message)
            elif side.replaced and channel is Channel.IOPUB and kind in OUTPUTS and parent_id in self._known:
                self.actions.append(ToClient(channel, self._signer.in_session(message)))
            # A kernel that is being prepared says nothing to clients, a replaced one has only output left.
        except MalformedMessage as e:
            log.warning("Dropped a message from the kernel on %s: %s.", side.compute_name, e)

    def _from_current(self, side: Side, channel: Channel, kind: str, parent_id: str, message: Message) -> None:
        request = self._sent.get(message.parent_key)
        if channel is Channel.IOPUB:
            if parent_id not in self._known and not side.trusted:
                return
            if kind == "status":
                state = content_of(message).get("execution_state")
                if isinstance(state, str):
                    self.execution_state = state
            elif kind in ("comm_open", "comm_close"):
                self._track_comm(message)
            self.actions.append(ToClient(channel, self._signer.in_session(message)))
            if request is not None and kind == "status" and self.execution_state == "idle":
                request.idle = True
                self._finish(request)
            return
        if channel is Channel.STDIN:
            if request is None and side.trusted:
                request = self.running
            if request is None:
                return
            side.inputs += 1
        if request is None:
            return  # an answer to nothing that was asked, or a second one
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
        if request is self.running and request.stop_on_error and content_of(message).get("status") == "error":
            self._abort_waiting()
        if request.channel is Channel.CONTROL:
            request.idle = True
        self._finish(request)

    def _own(self, side: Side, channel: Channel, kind: str, parent_id: str, message: Message) -> None:
        if channel is Channel.IOPUB:
            side.iopub_seen = True
            if kind == "status" and content_of(message).get("execution_state") == "idle":
                side.unanswered.discard("idle:" + parent_id)
        elif kind.endswith("_reply"):
            side.unanswered.discard("reply:" + parent_id)
            if kind == "kernel_info_reply":
                side.info = without_subshells(content_of(message))
            elif kind == "execute_reply" and content_of(message).get("status") != "ok":
                log.warning("%%dsvm could not be put into the kernel on %s: %s", side.compute_name, message.content)
        self._progress(side)

    def _progress(self, side: Side) -> None:
        """Take a starting side as far as it can go."""
        if side.phase is Phase.ASKING and side.info is not None and side.iopub_seen:
            language = text_in(side.info.get("language_info"), "name")
            if side.language and language and language.lower() != side.language.lower() and side is not self.current:
                self._drop(
                    side,
                    LanguageMismatch(
                        f"The kernel on {side.compute_name} speaks {language}, the notebook {side.language}.",
                        advice="Name another kernel there, for instance with %dsvm attach NAME --kernel KERNELSPEC.",
                    ),
                )
                return
            source = self._magic_source() if language.lower() == "python" else None
            if source is not None:
                side.phase = Phase.INSTALLING
                content = {
                    "code": source, "silent": True, "store_history": False,
                    "user_expressions": {}, "allow_stdin": False, "stop_on_error": False,
                }  # fmt: skip
                self._ask(side, "execute_request", content)
            else:
                self._ready(side)
        elif side.phase is Phase.INSTALLING and not side.unanswered:
            self._ready(side)

    def _ready(self, side: Side) -> None:
        side.phase = Phase.READY
        self.actions.append(Ready(side.number))
        if side is self.current:
            self._info = side.info
            self.execution_state = "idle"
            while self._held_control:
                self._control(self._held_control.popleft())
            self._advance()

    def _ask(self, side: Side, kind: str, content: dict[str, Any], channel: Channel = Channel.SHELL) -> None:
        msg_id, parts = self._signer.request(kind, content)
        side.own[msg_id] = kind
        if kind == "execute_request":
            # Earlier kernel_info_requests may still be on their way; only the magic's own end is waited for.
            side.unanswered = {"reply:" + msg_id, "idle:" + msg_id}
        self.actions.append(ToBackend(side.number, channel, parts))

    # Answers of the gate's own

    def _finish(self, request: Request) -> None:
        if request.answered:
            self._sent.pop(request.message.key, None)
            if request is self.running:
                self.running = None
            self._advance()

    def _abort_waiting(self) -> None:
        waiting, self._queue = self._queue, deque()
        for message in waiting:
            if message.type == "execute_request":
                self._say.aborted(Request(message, Channel.SHELL))
            else:
                self._queue.append(message)

    def _settle(self, error: DSVMError | None) -> None:
        """The current kernel will answer nothing any more: answer what is with it, and the cells that wait.

        With an error when it was lost, ``aborted`` (None) when its end was asked for.
        """
        running, self.running = self.running, None
        sent, self._sent = self._sent, {}
        for request in sent.values():
            if error is None:
                self._say.aborted(request)
            else:
                self._say.failed(request, error)
        if error is None or (running is not None and running.stop_on_error):
            self._abort_waiting()
        if self.current is not None:
            self.current.inputs = 0
        self._advance()

    def _track_comm(self, message: Message) -> None:
        comm_id = text_in(content_of(message), "comm_id")
        if message.type == "comm_open" and comm_id:
            self._comms[comm_id] = None
        elif message.type == "comm_close":
            self._comms.pop(comm_id, None)
