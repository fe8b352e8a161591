"""A client that speaks to a kernel over ZeroMQ, with as little of its own between as can be: it must not be what is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import zmq
from jupyter_client.session import Session

PATIENCE = 120.0
Parts = list[zmq.Frame]


class DirectClient:
    def __init__(self, connection: dict[str, Any], *, idle: bool = True) -> None:
        """``connection``: the content of a connection file. ``idle``: whether its kernel is, so that it can be tried."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.session = Session(key=connection["key"].encode(), signature_scheme=connection["signature_scheme"])
        base = f"{connection['transport']}://{connection['ip']}:"
        self._shell = self._connect(zmq.DEALER, f"{base}{connection['shell_port']}")
        self._iopub = self._connect(zmq.SUB, f"{base}{connection['iopub_port']}")
        self._poller = zmq.Poller()
        for sock in (self._shell, self._iopub):
            self._poller.register(sock, zmq.POLLIN)
        if idle:
            self._subscribed()

    def _connect(self, kind: int, url: str) -> zmq.Socket[bytes]:
        sock = self._context.socket(kind)
        sock.linger = 0
        sock.rcvhwm = 0
        sock.identity = self.session.bsession
        if kind == zmq.SUB:
            sock.subscribe(b"")
        sock.connect(url)
        return sock

    def _subscribed(self) -> None:
        """Cells are lost on a subscription that has not arrived: try until one's output does."""
        for _ in range(100):
            heard: list[str] = []
            self.wait(self.send("pass"), lambda kind, _, heard=heard: heard.append(kind), 10)  # type: ignore[misc]
            if "status" in heard:
                return
        raise RuntimeError("nothing comes from the kernel's IOPub")

    def send(self, code: str, silent: bool = False) -> str:
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        message = self.session.msg("execute_request", content, metadata={"cellId": "cell"})
        self._shell.send_multipart(self.session.serialize(message))
        return str(message["header"]["msg_id"])

    def run(self, code: str, output: Callable[[str, Parts], object] | None = None, patience: float = PATIENCE) -> float:
        """Seconds until a cell has its reply and its idle. ``output`` gets each message of IOPub: type and the parts after it."""
        begun = time.perf_counter()
        self.wait(self.send(code), output, patience)
        return time.perf_counter() - begun

    def wait(
        self,
        request: str,
        output: Callable[[str, Parts], object] | None = None,
        patience: float = PATIENCE,
        *,
        replied: bool = True,
    ) -> dict[str, Any]:
        """Until the request has its reply and its idle (or, where IOPub says nothing at all, for a second after the reply).
        ``replied``: False where another client gets the reply."""
        deadline = time.perf_counter() + patience
        reply: dict[str, Any] | None = None if replied else {}
        heard = idle = False
        while reply is None or not idle:
            if reply and not heard:
                deadline = min(deadline, time.perf_counter() + 1)
            ready = self._poller.poll(int(max(0, deadline - time.perf_counter()) * 1000))
            if not ready:
                if reply and not heard:
                    return reply
                raise TimeoutError("the kernel has not answered in time")
            for sock, _ in ready:
                kind, parent, parts = _read(sock)
                if parent != request:
                    continue
                if sock is self._shell:
                    reply = json.loads(parts[3].bytes)
                    continue
                heard = True
                if kind == "status" and b'"idle"' in parts[3].bytes:
                    idle = True
                if output is not None:
                    output(kind, parts)
        return reply

    def __enter__(self) -> DirectClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._context.destroy(linger=0)


def _read(sock: zmq.Socket[bytes]) -> tuple[str, str, Parts]:
    """Type, the id of the request it is about, and header, parent, metadata, content, buffers."""
    parts = sock.recv_multipart(copy=False)
    begin = next(i for i, part in enumerate(parts) if len(part) == 9 and part.bytes == b"<IDS|MSG>") + 2
    parts = parts[begin:]
    header, parent = json.loads(parts[0].bytes), json.loads(parts[1].bytes)
    return header["msg_type"], parent.get("msg_id", ""), parts
