"""The socket that the magic in the kernel speaks to: newline-delimited JSON, a request line in, answer lines out.

The relay does not know what a request means. It gives each an id of its own and passes it to the server as a CALL; what
comes back as RESULT goes out as lines, the last of which has ``result`` or ``error`` in it. When the kernel hangs up
before that, the server gets ``{"cancel": true}``. What a server had taken over when it ended is answered here.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, Callable, Dict, Optional

import zmq

from .listening import accept_same_user, listen
from .loop import Loop

MAX_LINE = 64 * 1024
MAX_CALLERS = 16
MAX_UNSENT = 4 * 1024 * 1024
"""Bytes of answers that a caller may leave unread before it is taken to have stopped."""


RESTARTED = {
    "code": "ServerRestarted",
    "message": "The Jupyter server was restarted while it worked on this.",
    "advice": "Run %dsvm status to see what became of it.",
}


class _Caller:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.line = bytearray()
        self.unsent = bytearray()
        self.open_calls: Dict[int, int] = {}
        """Ids that await an answer, and the numbers under which they went to the server."""


class CallServer:
    def __init__(self, loop: Loop, path: str, on_call: Callable[[int, Dict[str, Any]], int]) -> None:
        """Listens at once; ``on_call(id, request)`` for every request and every hang-up gives the number it was sent under."""
        self.path = path
        self._loop = loop
        self._on_call = on_call
        self._callers: Dict[int, _Caller] = {}
        self._last_id = 0
        self._listener = listen(path)
        loop.register(self._listener.fileno(), self._accept)

    def result(self, call_id: int, value: Dict[str, Any]) -> None:
        """An answer line for that call; ignored where its caller is gone."""
        caller = next((c for c in self._callers.values() if call_id in c.open_calls), None)
        if caller is None:
            return
        if "result" in value or "error" in value:
            del caller.open_calls[call_id]
        caller.unsent += json.dumps(value).encode() + b"\n"
        self._write(caller)

    def forget(self, upto: int) -> None:
        """Answer the calls that went to the server up to that number: it has ended with what it did for them."""
        lost = [c for caller in self._callers.values() for c, number in caller.open_calls.items() if number <= upto]
        for call_id in lost:
            self.result(call_id, {"error": RESTARTED})

    def listen_again(self) -> None:
        """Its file is gone. Callers that are connected stay so."""
        self._loop.unregister(self._listener.fileno())
        self._listener.close()
        self._listener = listen(self.path)
        self._loop.register(self._listener.fileno(), self._accept)

    def close(self) -> None:
        for caller in list(self._callers.values()):
            self._hang_up(caller, tell=False)
        self._loop.unregister(self._listener.fileno())
        self._listener.close()
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def _accept(self, _events: int) -> None:
        connection = accept_same_user(self._listener)
        if connection is None:
            return
        if len(self._callers) >= MAX_CALLERS:
            connection.close()
            return
        caller = self._callers[connection.fileno()] = _Caller(connection)
        self._watch(caller)

    def _watch(self, caller: _Caller) -> None:
        events = zmq.POLLIN | (zmq.POLLOUT if caller.unsent else 0)
        self._loop.register(caller.connection.fileno(), lambda e: self._ready(caller, e), events)

    def _ready(self, caller: _Caller, events: int) -> None:
        if events & zmq.POLLOUT:
            self._write(caller)
        if events & ~zmq.POLLOUT and caller.connection.fileno() >= 0:
            self._read(caller)

    def _read(self, caller: _Caller) -> None:
        try:
            data = caller.connection.recv(MAX_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        caller.line += data
        if not data or (b"\n" not in caller.line and len(caller.line) > MAX_LINE):
            self._hang_up(caller)
            return
        while b"\n" in caller.line:
            line, _, rest = caller.line.partition(b"\n")
            caller.line = bytearray(rest)
            request = _request(bytes(line))
            if request is None:
                self._hang_up(caller)
                return
            self._last_id += 1
            caller.open_calls[self._last_id] = 0
            caller.open_calls[self._last_id] = self._on_call(self._last_id, request)

    def _write(self, caller: _Caller) -> None:
        try:
            while caller.unsent:
                del caller.unsent[: caller.connection.send(caller.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up(caller)
            return
        if len(caller.unsent) > MAX_UNSENT:
            self._hang_up(caller)
            return
        self._watch(caller)

    def _hang_up(self, caller: _Caller, tell: bool = True) -> None:
        fd = caller.connection.fileno()
        self._loop.unregister(fd)
        self._callers.pop(fd, None)
        caller.connection.close()
        if tell:
            for call_id in sorted(caller.open_calls):
                self._on_call(call_id, {"cancel": True})
        caller.open_calls.clear()


def _request(line: bytes) -> Optional[Dict[str, Any]]:
    if len(line) > MAX_LINE:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
