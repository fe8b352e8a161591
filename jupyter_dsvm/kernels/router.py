"""Which kernel a frame of a pipe is for, and whose turn it is to send. Belongs to the I/O thread; nothing here blocks.

Learns that a connection stands, is lost, or is over for good in its place among the frames: what came before a loss is
dealt with before it, and nothing is put on a connection whose predecessor's loss the kernels have not heard of.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from ..errors import DSVMError, ProtocolError, RelayError, Unreachable, printable
from ..relay.wire import PIPE, Frame, Type, WireError, call_body, read_call, read_json, read_u64
from .pipewriter import SHARE, PipeWriter


class Member(Protocol):
    """A kernel's end of a pipe (``kernels.link.RelayBackend``); called on the I/O thread."""

    tag: bytes

    def pipe_up(self) -> None:
        """Frames can flow; begins with HELLO."""

    def pipe_lost(self, attempt: int, error: DSVMError) -> None:
        """They cannot; ``attempt`` counts the failed tries to connect again, from 0."""

    def pipe_failed(self, error: DSVMError) -> None:
        """They never will again. The member has been removed."""

    def frame(self, frame: Frame) -> None: ...

    def frames_to_send(self, max_bytes: int) -> list[Frame]: ...


AHEAD = 0
"""The id of the one call that is sent before the connection stands."""


def call_ahead(operation: str) -> bytes:
    """A frame for whoever connects to send first; ``FrameRouter.expect`` takes the answer."""
    return Frame(Type.CALL, PIPE, 0, call_body(AHEAD, {"op": operation})).encode()


class FrameRouter:
    def __init__(self, on_broken: Callable[[DSVMError], None]) -> None:
        """``on_broken``: the far end of the pipe made no sense and everybody here has been told."""
        self._on_broken = on_broken
        self._name = "the machine"
        self._writer: PipeWriter | None = None
        self._over: DSVMError | None = None
        self._lost: tuple[int, DSVMError] | None = None
        self._members: dict[bytes, Member] = {}
        self._turns: deque[Member] = deque()
        self._own: deque[Frame] = deque()
        self._calls: dict[int, Future[Any]] = {}
        self._call_ids = itertools.count(1)

    def add(self, member: Member) -> None:
        """From now on frames with its tag are the member's. It hears at once how things stand."""
        if self._over is not None:
            member.pipe_failed(self._over)
            return
        self._members[member.tag] = member
        self._turns.append(member)
        if self._writer is not None:
            member.pipe_up()
            self.pump()
        elif self._lost is not None:
            member.pipe_lost(*self._lost)

    def remove(self, member: Member, *last_words: Frame) -> None:
        """No more frames for it; ``last_words`` still go out if there is a connection."""
        if self._members.get(member.tag) is member:
            del self._members[member.tag]
            self._turns.remove(member)
            if self._writer is not None:
                self._own.extend(last_words)
                self.pump()

    def pump(self) -> None:
        """Give the writer what it has room for, each kernel in turn. Called when there is something to send, or room."""
        writer = self._writer
        if writer is None:
            return
        room = writer.room()
        while self._own and room > 0:
            room -= writer.put([self._own.popleft()])
        idle = 0
        while room > 0 and idle < len(self._turns):
            member = self._turns[0]
            self._turns.rotate(-1)
            frames = member.frames_to_send(min(room, SHARE))
            idle = 0 if frames else idle + 1
            room -= writer.put(frames)
        if room <= 0:
            writer.room()  # which asks for a call when there is some

    def up(self, name: str, writer: PipeWriter) -> None:
        self._name = name
        if self._over is None:
            self._writer = writer
            self._lost = None
            for member in list(self._members.values()):
                member.pipe_up()

    def lost(self, attempt: int, error: DSVMError) -> None:
        self._writer = None
        self._lost = attempt, error
        self._own.clear()
        self._fail_calls(error)
        for member in list(self._members.values()):
            member.pipe_lost(attempt, error)

    def failed(self, error: DSVMError) -> None:
        """For good. Comes once more when the thread ends, for who has joined meanwhile."""
        self._writer = None
        self._over = self._over or error
        self._fail_calls(error)
        members, self._members = list(self._members.values()), {}
        self._turns.clear()
        for member in members:
            member.pipe_failed(error)

    def _fail_calls(self, error: DSVMError) -> None:
        calls, self._calls = self._calls, {}
        for future in calls.values():
            future.set_exception(error)

    def frame(self, frame: Frame) -> None:
        if self._over is not None:
            return
        if frame.kernel != PIPE:
            member = self._members.get(frame.kernel)
            if member is not None:  # else: what an earlier kernel there still says
                member.frame(frame)
            return
        try:
            self._pipe_frame(frame)
        except WireError as e:
            self._broken(str(e))

    def _pipe_frame(self, frame: Frame) -> None:
        if frame.type == Type.PING:
            if self._writer is not None:
                self._writer.pong(read_u64(frame.body))
        elif frame.type == Type.PONG:
            if self._writer is not None:
                self._writer.answered(read_u64(frame.body))
        elif frame.type == Type.RESULT:
            call_id, value = read_call(frame.body)
            future = self._calls.pop(call_id, None)
            if future is None:
                return
            if "result" in value:
                future.set_result(value["result"])
            else:
                error = value.get("error")
                text = error.get("message") if isinstance(error, dict) else error
                future.set_exception(RelayError(f"{self._name} could not answer: {printable(str(text), 500)}"))
        elif frame.type == Type.GOODBYE:
            self._broken(f"it hung up and said {printable(str(read_json(frame.body).get('text')), 500)!r}")

    def _broken(self, text: str) -> None:
        """The far end of the pipe makes no sense: over for every kernel on it."""
        error = ProtocolError(f"The relay's pipe on {self._name} broke the protocol: {text}.")
        self.failed(error)
        self._on_broken(error)

    def expect(self, future: Future[Any]) -> None:
        """The answer to ``call_ahead``, on a connection that is just being made. Fails like any call."""
        self._calls[AHEAD] = future

    def call(self, operation: str, arguments: Mapping[str, Any], future: Future[Any]) -> None:
        if self._writer is None:
            future.set_exception(
                self._over or Unreachable(f"{self._name} is out of reach just now.", advice="Try again in a moment.")
            )
            return
        call_id = next(self._call_ids)
        self._calls[call_id] = future
        self._own.append(Frame(Type.CALL, PIPE, 0, call_body(call_id, {**arguments, "op": operation})))
        self.pump()
