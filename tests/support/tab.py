"""A browser's tab as far as a kernel's websocket is concerned: it can stop reading, lose its connection and come back.

It speaks jupyter_server's v1 format as JupyterLab does, and drops what it has had already as our labextension does
(``labextension/src/once.ts``).
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import websocket
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from .kernels import TIMEOUT, Client, Message
from .served import JupyterServer

V1 = "v1.kernel.websocket.jupyter.org"

HEAD = 60
"""Characters that are kept of a text."""


class Tab(Client):
    """``receive_buffer``: bytes of the socket's, so that a tab that does not read is soon full."""

    def __init__(
        self,
        server: JupyterServer,
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
        opened = websocket.create_connection(
            f"ws://127.0.0.1:{self.server.port}/api/kernels/{self.kernel_id}/channels?session_id={self.session}",
            header={"Authorization": f"token {self.server.token}"},
            subprotocols=[V1],
            sockopt=options,
            timeout=TIMEOUT,
            http_no_proxy=["127.0.0.1"],
        )
        assert opened.subprotocol == V1
        self._connection = _Connection(opened, self._arrived)

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
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._connection.ws.send_close()
        self._connection.end()

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Messages

    def send(self, code: str, **options: Any) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        return self.ask("execute_request", {**content, "stop_on_error": True, **options})

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> str:
        msg_id = uuid.uuid4().hex
        about = {
            "msg_id": msg_id,
            "msg_type": kind,
            "username": "",
            "session": self.session,
            "version": "5.4",
            **header,
        }
        about.setdefault("date", "2026-01-01T00:00:00.000000Z")
        parts = [json.dumps(part).encode() for part in (about, {}, {}, content)]
        self._connection.ws.send_binary(serialize_msg_to_ws_v1(parts, channel))
        return msg_id

    def receive(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._take(self._arrived.get(timeout=seconds))
            while True:
                self._take(self._arrived.get_nowait())

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


class _Connection:
    """One websocket, and the thread that reads it."""

    def __init__(self, ws: websocket.WebSocket, arrived: queue.SimpleQueue[Message]) -> None:
        self.ws = ws
        self._sock: socket.socket = ws.sock
        self.reads = threading.Event()
        self.reads.set()
        self._ended = False
        self._arrived = arrived
        ws.settimeout(None)
        self._thread = threading.Thread(target=self._run, name="tab")
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while (data := self.ws.recv()) and not self._ended:
                self._arrived.put(_read(data))
                self.reads.wait()

    def reset(self) -> None:
        with contextlib.suppress(OSError):  # the other end was quicker
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self) -> None:
        self._ended = True
        self.reads.set()
        # The thread waits in it, so that closing alone would neither wake the thread nor reach the other end.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._sock.close()


def _read(data: bytes) -> Message:
    channel, parts = deserialize_msg_from_ws_v1(data)
    header, parent, metadata, content = map(json.loads, parts[:4])
    if header["msg_type"] == "display_data":
        text = content["data"]["text/plain"]
        content["data"]["text/plain"] = text[:HEAD]
        content["length"] = len(text)
    return {
        "channel": channel,
        "header": header,
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": parts[4:],
    }
