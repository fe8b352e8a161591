"""Clients' requests: those that wait, in order, and those that are with the kernel. Pure, like the gate, whose part it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..errors import DSVMError
from ..relay.wire import Channel
from .actions import Request
from .answers import Answers, content_of, text_in
from .messages import Message

MAX_COMMS = 10_000
"""Comms that are remembered in order to be closed; a hostile kernel could open any number."""
MAX_NEVER_IDLE = 100


class Flow:
    """At most one ``execute_request`` is with the kernel: ``running``. Everything that came after it on shell waits."""

    def __init__(self, say: Answers) -> None:
        self.waiting: deque[Message] = deque()
        self.running: Request | None = None
        self.comms: dict[str, None] = {}
        """Ids of the comms that are open, whichever end opened them."""
        self._say = say
        # By type and id: a kernel manager and its clients share a session and count their messages each for itself, so
        # an id alone is not unique (jupyter_client's Session.clone).
        self._sent: dict[tuple[str, str], Request] = {}
        self._never_idle: deque[Request] = deque()
        """Control requests that were replied to; some kernels say nothing more."""

    @property
    def with_kernel(self) -> bool:
        """Something is with the kernel that a move has to wait for. On control, that is the reply only: not every kernel
        says that it is idle again."""
        return any(r.awaited for r in self._sent.values())

    @property
    def occupied_by(self) -> Request | None:
        """What keeps the kernel's shell busy: a cell, a comm's handler, a completion."""
        return next((r for r in self._sent.values() if r.channel is Channel.SHELL and not r.idle), None)

    def find(self, key: tuple[str, str]) -> Request | None:
        return self._sent.get(key)

    def must_wait(self, message: Message) -> bool:
        """Another client's request under the same id is with the kernel: answers to the two could not be told apart."""
        earlier = self._sent.get(message.key)
        return earlier is not None and earlier.awaited

    def sent(self, message: Message, channel: Channel) -> None:
        """It goes to the kernel now."""
        request = self._sent[message.key] = Request(message, channel)
        if channel is not Channel.SHELL:
            return
        if message.type == "execute_request":
            self.running = request
            content = content_of(message)
            # A silent request aborts nothing (ipykernel's kernelbase.execute_request).
            request.stop_on_error = bool(content.get("stop_on_error", True)) and not content.get("silent")
        elif not message.type.endswith("_request"):
            request.replied = True
            self.track_comm(message)

    def next(self) -> Iterator[Message]:
        """What may go to an idle kernel now, in order; each is to be ``sent`` before the next is asked for."""
        while self.waiting and self.running is None and not self.must_wait(self.waiting[0]):
            yield self.waiting.popleft()

    def finished(self, request: Request) -> bool:
        """Whether nobody waits for this request any more; it is forgotten once that was all the kernel had to say."""
        if request.answered:
            self._sent.pop(request.message.key, None)
            if request is self.running:
                self.running = None
            return True
        if request.channel is Channel.CONTROL and request.replied:
            self._never_idle.append(request)
            if len(self._never_idle) > MAX_NEVER_IDLE:
                oldest = self._never_idle.popleft()
                if self._sent.get(oldest.message.key) is oldest:
                    del self._sent[oldest.message.key]
            return True
        return False

    def abort_waiting(self) -> None:
        """After an error, the cells that wait are not run; what else waits still is."""
        waiting, self.waiting = self.waiting, deque()
        for message in waiting:
            if message.type == "execute_request":
                self._say.aborted(Request(message, Channel.SHELL))
            else:
                self.waiting.append(message)

    def settle(self, error: DSVMError | None) -> None:
        """The kernel will answer nothing any more: answer what is with it, and the cells that wait.

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
            self.abort_waiting()

    def leave(self) -> None:
        """The notebook moves: what has been replied to goes idle, since nothing will be heard from that kernel about it."""
        sent, self._sent = self._sent, {}
        for request in sent.values():
            self._say.aborted(request)

    def refuse_waiting(self, error: DSVMError | None) -> None:
        """There is no kernel, and none will come by itself."""
        while self.waiting:
            self._say.failed(Request(self.waiting.popleft(), Channel.SHELL), error)

    def track_comm(self, message: Message) -> None:
        if message.type == "comm_open" and len(self.comms) < MAX_COMMS:
            self.comms[text_in(content_of(message), "comm_id")] = None
        elif message.type == "comm_close":
            self.comms.pop(text_in(content_of(message), "comm_id"), None)

    def close_comms(self) -> None:
        """Tell the clients that the other ends of their comms are gone."""
        for comm_id in self.comms:
            self._say.publish("comm_close", {"comm_id": comm_id, "data": {}}, None)
        self.comms.clear()
