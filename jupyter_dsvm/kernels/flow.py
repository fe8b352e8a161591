"""Clients' requests: those that wait, in order, and those that are with the kernel. Pure, like the gate, whose part it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from typing import Any

from ..errors import DSVMError
from ..relay.wire import Channel
from .actions import Action, Answered, Heard, Key, Request
from .answers import Answers, content_of, text_in
from .messages import Message
from .subshells import subshell_of

MAX_COMMS = 10_000
"""Comms that are remembered in order to be closed; a hostile kernel could open any number."""
MAX_NEVER_IDLE = 100
OVERHEAD = 1024
"""Bytes that a message which waits takes beside its parts, about."""


class Waiting:
    """A queue of messages that knows its size."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self.size = 0
        """Bytes."""

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    @property
    def first(self) -> Message:
        return self._messages[0]

    def append(self, message: Message) -> None:
        self._messages.append(message)
        self.size += size_of(message)

    def put_back(self, messages: Iterable[Message]) -> None:
        """In front of all others, in their order."""
        later = self.take_all()
        for message in (*messages, *later):
            self.append(message)

    def pop(self) -> Message:
        message = self._messages.popleft()
        self.size -= size_of(message)
        return message

    def take_all(self) -> deque[Message]:
        messages, self._messages, self.size = self._messages, deque(), 0
        return messages


def size_of(message: Message) -> int:
    return sum(map(len, message.parts)) + OVERHEAD


class Flow:
    """At most one ``execute_request`` is with the kernel's main shell: ``running``. What came after it there waits."""

    def __init__(self, say: Answers, actions: list[Action]) -> None:
        self.waiting = Waiting()
        """For the main shell."""
        self.aside = Waiting()
        """For subshells, which wait for nothing that runs: until the kernel is there and has a subshell for them."""
        self.running: Request | None = None
        self.comms: dict[str, None] = {}
        """Ids of the comms that are open, whichever end opened them."""
        self._say = say
        self._actions = actions
        # By type and id: a kernel manager and its clients share a session and count their messages each for itself, so
        # an id alone is not unique (jupyter_client's Session.clone).
        self._sent: dict[Key, Request] = {}
        self._adopted: set[Key] = set()
        """What waited when an earlier server process ended."""
        self._never_idle: deque[Request] = deque()
        """Control requests that were replied to; some kernels say nothing more."""

    @property
    def with_kernel(self) -> bool:
        """Something is with the kernel that a move has to wait for. On control, that is the reply only: not every kernel
        says that it is idle again."""
        return any(r.awaited for r in self._sent.values())

    @property
    def cell(self) -> Request | None:
        """A cell that is with the kernel: in its main shell, or in a subshell."""
        return self.running or next((r for r in self._sent.values() if _is_cell(r.message) and r.awaited), None)

    @property
    def occupied_by(self) -> Request | None:
        """What keeps the kernel's main shell busy: a cell, a comm's handler, a completion."""
        return next(
            (r for r in self._sent.values() if r.channel is Channel.SHELL and not r.idle and not r.subshell), None
        )

    @property
    def subshells_in_use(self) -> set[str]:
        """Front ids of the subshells that something unanswered was sent to."""
        return {r.subshell for r in self._sent.values() if r.subshell and r.awaited}

    def find(self, key: Key) -> Request | None:
        return self._sent.get(key)

    def awaited(self, kind: str) -> list[Request]:
        """The unanswered requests of a type that are with the kernel."""
        return [r for r in self._sent.values() if r.message.type == kind and r.awaited]

    def must_wait(self, message: Message) -> bool:
        """Another client's request under the same id is with the kernel: answers to the two could not be told apart."""
        earlier = self._sent.get(message.key)
        return earlier is not None and earlier.awaited

    def sent(self, message: Message, channel: Channel, subshell: str = "") -> Request:
        """It goes to the kernel now: to its main shell, or to a subshell."""
        request = self._sent[message.key] = Request(message, channel, subshell=subshell)
        if channel is not Channel.SHELL:
            return request
        if message.type == "execute_request":
            if not subshell:
                self.running = request
            content = content_of(message)
            # A silent request aborts nothing (ipykernel's kernelbase.execute_request).
            request.stop_on_error = bool(content.get("stop_on_error", True)) and not content.get("silent")
        elif not message.type.endswith("_request"):
            request.replied = True
            self.track_comm(message)
        return request

    def wait(self, message: Message, adopted: bool = False) -> None:
        """A client's message on shell, after all others. ``adopted``: it has come to an earlier server process."""
        if adopted:
            self._adopted.add(message.key)
        (self.aside if subshell_of(message) else self.waiting).append(message)

    def take_back(self, keys: Iterable[Key]) -> None:
        """These never reached the kernel: cells are sent once more when their turn comes, the others are given up."""
        lost = [r for r in (self._sent.pop(key, None) for key in keys) if r is not None]
        if self.running in lost:
            cells = [r for r in self._sent.values() if _is_cell(r.message) and not r.subshell and r.awaited]
            self.running = cells[-1] if cells else None
        cells = [r for r in lost if r.channel is Channel.SHELL and _is_cell(r.message)]
        self.waiting.put_back(r.message for r in cells if not r.subshell)
        self.aside.put_back(r.message for r in cells if r.subshell)
        for request in lost:
            if request not in cells:
                self.give_up(request, None)

    def next(self) -> Iterator[Message]:
        """What may go to an idle main shell now, in order; each is to be ``sent`` before the next is asked for."""
        while self.waiting and self.running is None and not self.must_wait(self.waiting.first):
            yield self.waiting.pop()

    def finished(self, request: Request, what: str) -> bool:
        """The kernel's ``reply`` or ``idle`` has been passed on. Whether nobody waits for this request any more.

        It is forgotten once that was all the kernel had to say.
        """
        if request.answered:
            self._sent.pop(request.message.key, None)
            if request is self.running:
                self.running = None
            self._told(request)
            return True
        if request.channel is Channel.CONTROL and request.replied:
            self._told(request)
            self._never_idle.append(request)
            if len(self._never_idle) > MAX_NEVER_IDLE:
                oldest = self._never_idle.popleft()
                if self._sent.get(oldest.message.key) is oldest:
                    del self._sent[oldest.message.key]
            return True
        self._actions.append(Heard(request.message.key, what))
        return False

    def _told(self, request: Request, here: bool = False) -> None:
        if not request.over:
            request.over = True
            self._actions.append(Answered(request.message.key, here))

    def abort_behind(self, request: Request) -> None:
        """It has failed: the cells that wait are not run; what else waits still is. What an earlier server process has heard
        already had failed when later cells came, and they are run."""
        self._abort_waiting(self._adopted if request.heard else None)

    def _abort_waiting(self, these: Set[Key] | None = None) -> None:
        for message in self.waiting.take_all():
            if _is_cell(message) and (these is None or message.key in these):
                self.abort(message)
            else:
                self.waiting.append(message)

    def abort(self, message: Message) -> None:
        """A cell that has not been sent will not be."""
        self._say.aborted(request := Request(message, Channel.SHELL))
        self._told(request, here=True)

    def give_up(self, request: Request, error: DSVMError | None) -> None:
        """The kernel will not answer this: a reason, or none where it was asked to end."""
        if error is None:
            self._say.aborted(request)
        else:
            self._say.failed(request, error)
        self._sent.pop(request.message.key, None)
        self._told(request, here=True)

    def answer(self, request: Request, content: dict[str, Any]) -> None:
        """The kernel may not answer this any more."""
        self._say.end(request, content)
        self._sent.pop(request.message.key, None)
        self._told(request, here=True)

    def settle(self, error: DSVMError | None) -> None:
        """The kernel will answer nothing any more: answer what is with it, and the cells that wait.

        With an error when it was lost, ``aborted`` (None) when its end was asked for.
        """
        running, self.running = self.running, None
        for request in list(self._sent.values()):
            self.give_up(request, error)
        if error is None or (running is not None and running.stop_on_error):
            self._abort_waiting()
            self.aside, beside = Waiting(), self.aside
            for message in beside:
                if _is_cell(message):
                    self.abort(message)
                else:
                    self.aside.append(message)

    def leave(self) -> None:
        """The notebook moves: what has been replied to goes idle, since nothing will be heard from that kernel about it."""
        for request in list(self._sent.values()):
            self.give_up(request, None)

    def refuse_waiting(self, error: DSVMError | None) -> None:
        """There is no kernel, and none will come by itself."""
        for message in (*self.waiting.take_all(), *self.aside.take_all()):
            self.refuse(message, error)

    def refuse(self, message: Message, error: DSVMError | None) -> None:
        """A message on shell that will not be sent."""
        self._say.failed(request := Request(message, Channel.SHELL), error)
        if _is_cell(message):
            self._told(request, here=True)

    def track_comm(self, message: Message) -> None:
        if message.type == "comm_open" and len(self.comms) < MAX_COMMS:
            self.comms[text_in(content_of(message), "comm_id")] = None
        elif message.type == "comm_close":
            self.comms.pop(text_in(content_of(message), "comm_id"), None)

    def found_comms(self, reply: Message, replaced: bool) -> None:
        """A kernel that was adopted says which comms are open; where the notebook has left it meanwhile, they are closed."""
        listed = content_of(reply).get("comms")
        found = dict.fromkeys(islice(listed, MAX_COMMS)) if isinstance(listed, dict) else {}
        if replaced:
            self._close(found)
        elif len(self.comms) + len(found) <= MAX_COMMS:
            self.comms.update(found)

    def close_comms(self) -> None:
        """Tell the clients that the other ends of their comms are gone."""
        self._close(self.comms)
        self.comms.clear()

    def _close(self, comms: Iterable[str]) -> None:
        for comm_id in comms:
            self._say.publish("comm_close", {"comm_id": comm_id, "data": {}}, None)


def _is_cell(message: Message) -> bool:
    return message.type == "execute_request"
