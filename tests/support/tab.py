"""A browser's tab as far as a kernel's websocket is concerned: it can stop reading, lose its connection and come back.

It speaks jupyter_server's v1 format as JupyterLab does, and drops what it has had already as our labextension does
(``labextension/src/once.ts``).
"""

from __future__ import annotations

import contextlib
import queue
import socket
import uuid
from collections.abc import Iterator
from typing import Any

from . import frontend
from .kernels import Client, Message
from .served import Reader, Served, arriving

HEAD = 60
"""Characters that are kept of a text."""


class Tab(Client):
    """``receive_buffer``: bytes of the socket's, so that a tab that does not read is soon full."""

    def __init__(
        self,
        server: Served,
        kernel_id: str,
        session: str | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.executions = {}
        self.messages = []
        self.requests_for_input = []
        self.server = server
        self.kernel_id = kernel_id
        self.session = session or uuid.uuid4().hex
        self.repeated = 0
        """Messages that came again, and were dropped."""
        self._receive_buffer = receive_buffer
        self._had: set[tuple[str, str]] = set()
        self._arrived: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.connect()

    # The connection

    def connect(self) -> None:
        """Open the websocket; again, with the same session, after ``cut``."""
        options = []
        if self._receive_buffer is not None:
            options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer))
        path = f"api/kernels/{self.kernel_id}/channels?session_id={self.session}"
        opened = self.server.websocket(path, subprotocols=[frontend.V1], sockopt=options)
        assert opened.subprotocol == frontend.V1
        self._connection = Reader(opened, _read, self._arrived)

    @property
    def connected(self) -> bool:
        return self._connection.thread.is_alive()

    def pause(self) -> None:
        """Read nothing more, not even pings."""
        self._connection.reads.clear()

    def resume(self) -> None:
        self._connection.reads.set()

    def cut(self) -> None:
        """The connection is reset, as by a router that forgot it; what is on its way is lost."""
        self._connection.reset()

    @contextlib.contextmanager
    def another(self) -> Iterator[None]:
        """Connect anew, and leave the former connection as it is: neither read any more nor closed."""
        self.pause()
        former = self._connection
        self.connect()
        try:
            yield
        finally:
            former.reset()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Messages

    def send(self, code: str, **options: Any) -> str:
        return self.ask("execute_request", frontend.cell(code, **options))

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> str:
        message = frontend.request(kind, content, self.session, **header)
        self._connection.ws.send_binary(frontend.to_v1(message, channel))
        return str(message["header"]["msg_id"])

    def receive(self, seconds: float) -> None:
        for message in arriving(self._arrived, seconds):
            self._take(message)

    def _take(self, message: Message) -> None:
        key = (message["header"]["msg_id"], message["header"]["date"])
        if key in self._had:
            self.repeated += 1
            return
        self._had.add(key)
        if message["channel"] == "iopub":
            self._published(message)
        elif message["channel"] == "stdin":
            self.requests_for_input.append(message)
        else:
            self._replied(message)

    def displayed(self, msg_id: str) -> list[str]:
        """What that cell has displayed so far, in the order of arrival: the beginning of each text."""
        return [m["content"]["data"]["text/plain"] for m in self.of(msg_id).outputs("display_data")]


def _read(data: bytes) -> Message:
    message = frontend.from_v1(data)
    if message["msg_type"] == "display_data":
        content = message["content"]
        text = content["data"]["text/plain"]
        content["data"]["text/plain"] = text[:HEAD]
        content["length"] = len(text)
    return message
