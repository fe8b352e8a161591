"""Which requests wait or are with a kernel on a VM, as lines: what an adopter of the kernel goes on with. Pure.

Each line is one event, a JSON list whose first word is its kind::

    arrived   type, id, parts                       an execute_request has come
    sent      type, id, channel, number, parts      it is on its way to the relay; no parts: those it arrived with
    heard     type, id, reply or idle, number       the kernel's message of that number brought it
    answered  type, id, here, number                nobody waits for more; here: the gate answered, not the kernel
    finished  ids                                   requests that are done
    call      id                                    a line of %dsvm came from there

``number`` is the kernel's message (of ``sent``: the server's frame) in the relay's count. An adopter hears again what is
above the number up to which everything was handed on, so what such a message brought has not happened yet for it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jupyter_client.session import DELIM

from ..relay.wire import Channel
from .actions import KeptRequest, Key, outline

WHOLE = 64 * 1024
"""Bytes of a request other than a cell up to which all of it is kept, so that it can be sent again."""

FINISHED = 1000
"""Finished requests that are remembered: threads that they left behind may still print."""


@dataclass
class KeptState:
    """One request: what has happened to it. Numbers are of the kernel's messages; None: has not happened."""

    parts: list[bytes]
    channel: Channel
    sent: int | None = None
    """The number of its last frame to the relay."""
    reply: int | None = None
    idle: int | None = None
    answered: int | None = None
    here: bool = False

    def done(self, handed: int | None) -> bool:
        """Whether all that was said about it has reached who asked, and nothing more will be said. ``handed``: up to which
        of the kernel's messages everything has been handed on; None: unknown, and taken to be all."""
        if self.answered is None:
            return False
        if handed is None:
            return True
        return self.answered < handed if self.here else self.answered <= handed

    def request(self, handed: int | None) -> KeptRequest:
        def has(number: int | None) -> bool:
            return number is not None and (handed is None or number <= handed)

        here = self.here and self.answered is not None
        heard = self.reply is not None
        return KeptRequest(
            self.parts, self.channel, self.sent is not None, has(self.reply), has(self.idle), here, heard
        )


Event = tuple[Any, ...]


class RequestLog:
    """The requests of one kernel. Pure.

    Every method for something that has happened gives the event, which ``line`` makes a line to be appended; ``lines`` gives
    the shortest log of the same state. Reading any prefix of a log gives the state at that moment, and a line that is
    none is no event.
    """

    def __init__(self) -> None:
        self.requests: dict[Key, KeptState] = {}
        """In the order of arrival."""
        self.finished: deque[str] = deque(maxlen=FINISHED)
        """Ids of those that are done."""
        self.last_call = 0
        """Of the lines of ``%dsvm`` that came from there, which are numbered."""
        self._ended: dict[Key, None] = {}

    @classmethod
    def read(cls, data: bytes) -> RequestLog:
        log = cls()
        for line in data.split(b"\n")[:-1]:  # what follows the last line's end was being written
            try:
                log._apply(json.loads(line))
            except (ValueError, TypeError, LookupError, RecursionError, binascii.Error):
                pass
        return log

    def _apply(self, event: list[Any]) -> None:
        kind, *values = event
        if kind == "finished":
            self.finished.extend(str(i) for i in values[0])
        elif kind == "call":
            self.call(_number(values[0]))
        elif kind == "arrived":
            key, parts = _key(values), _decode(values[2])
            if parts:
                self.arrived(key, parts)
        elif kind == "sent":
            key, parts = _key(values), _decode(values[4])
            if parts or key in self.requests:
                self.sent(key, Channel(values[2]), _number(values[3]), parts)
        elif kind == "heard":
            self.heard(_key(values), str(values[2]), _number(values[3]))
        elif kind == "answered":
            self.answered(_key(values), bool(values[2]), _number(values[3]))

    def arrived(self, key: Key, parts: list[bytes]) -> Event:
        self.requests[key] = KeptState(parts, Channel.SHELL)
        self._ended.pop(key, None)
        return "arrived", *key, parts

    def sent(self, key: Key, channel: Channel, number: int, parts: list[bytes]) -> Event:
        """``number``: of its last frame. A cell's parts are known by now."""
        found = self.requests.get(key)
        if found is not None and (found.sent is None or not parts or key[0] == "execute_request"):
            found.sent = number
            return "sent", *key, int(channel), number, []
        if key[0] != "execute_request" and sum(map(len, parts)) > WHOLE:
            parts = _outline(parts)
        self.requests[key] = KeptState(parts, channel, number)
        self._ended.pop(key, None)
        return "sent", *key, int(channel), number, parts

    def heard(self, key: Key, what: str, number: int) -> Event:
        found = self.requests.get(key)
        if found is not None and what in ("reply", "idle") and getattr(found, what) is None:
            setattr(found, what, number)
        return "heard", *key, what, number

    def answered(self, key: Key, here: bool, number: int) -> Event:
        found = self.requests.get(key)
        if found is not None and found.answered is None:
            found.answered, found.here = number, here
            self._ended[key] = None
        return "answered", *key, here, number

    def call(self, call_id: int) -> Event:
        self.last_call = max(self.last_call, call_id)
        return "call", call_id

    def forget(self, handed: int | None) -> None:
        """Drop what is done; no line says so, the next ``lines`` just leaves it out."""
        for key in [k for k in self._ended if self.requests[k].done(handed)]:
            del self.requests[key], self._ended[key]
            self.finished.append(key[1])

    def elsewhere(self) -> None:
        """The kernel is another one from now on: what was answered is done, what waits has not been sent."""
        self.forget(None)
        self.last_call = 0
        for r in self.requests.values():
            r.sent = r.reply = r.idle = None

    def lines(self) -> Iterator[bytes]:
        if self.finished:
            yield line("finished", list(self.finished))
        if self.last_call:
            yield line("call", self.last_call)
        for key, r in self.requests.items():
            if r.channel is Channel.SHELL and key[0] == "execute_request":
                yield line("arrived", *key, r.parts)
                if r.sent is not None:
                    yield line("sent", *key, int(r.channel), r.sent, [])
            elif r.sent is not None:
                yield line("sent", *key, int(r.channel), r.sent, r.parts)
            for what, number in (("reply", r.reply), ("idle", r.idle)):
                if number is not None:
                    yield line("heard", *key, what, number)
            if r.answered is not None:
                yield line("answered", *key, r.here, r.answered)


def line(*event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":"), default=_base64).encode() + b"\n"


def _base64(part: bytes) -> str:
    return base64.b64encode(bytes(part)).decode()


def _decode(parts: Any) -> list[bytes]:
    if not isinstance(parts, list):
        raise ValueError("parts")
    return [base64.b64decode(p, validate=True) for p in parts]


def _key(values: list[Any]) -> Key:
    kind, msg_id = values[:2]
    if not isinstance(kind, str) or not isinstance(msg_id, str):
        raise ValueError("key")
    return kind, msg_id


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("number")
    return value


def _outline(parts: list[bytes]) -> list[bytes]:
    return outline(parts) if DELIM in parts else parts
