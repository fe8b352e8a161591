"""A page as the proxy's clients know it: a websocket's end in this process, that reads when the test wants it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.session import Session

from jupyter_dsvm.kernels.clients import ClientConnection
from jupyter_dsvm.kernels.proxy import Proxy
from jupyter_dsvm.relay.wire import Channel
from support.kernels import TIMEOUT, Execution, Message

CHANNELS = {"shell": Channel.SHELL, "control": Channel.CONTROL, "stdin": Channel.STDIN}


class Page:
    def __init__(self, proxy: Proxy) -> None:
        self.session = Session(key=proxy.key)
        self.messages: list[tuple[Channel, Message]] = []
        """All that arrived, over all connections, in order."""
        self.executions: dict[str, Execution] = {}
        self.requests_for_input: list[Message] = []
        self.woken = threading.Event()
        self.connection: ClientConnection
        self._proxy = proxy
        self.connect()

    @property
    def name(self) -> str:
        return str(self.session.session)

    def connect(self) -> None:
        self.woken.set()  # a websocket takes first and waits then
        self.connection = self._proxy.clients.connect(self.name, self.woken.set)

    def send(self, kind: str, content: dict[str, Any], channel: str = "shell", parent: Any = None) -> str:
        message = self.session.msg(kind, content=content, parent=parent)
        self.connection.send(CHANNELS[channel], self.session.serialize(message))
        return str(message["header"]["msg_id"])

    def cell(self, code: str, **more: Any) -> str:
        plain = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        return self.send("execute_request", {"code": code, **plain, **more})

    def run(self, code: str, **more: Any) -> Execution:
        return self.wait(self.cell(code, **more))[0]

    def read(self, batches: int = 1_000_000, max_bytes: int = 256 * 1024, confirm: bool = True) -> int:
        """Take what there is; the number of messages."""
        read = 0
        while batches and (batch := self.connection.take(max_bytes)):
            for outgoing in batch:
                self._arrived(outgoing.channel, self.session.deserialize(outgoing.parts[1:]))
            self.connection.flushed(batch[-1])
            if confirm:
                self.connection.confirmed(batch[-1])
            batches, read = batches - 1, read + len(batch)
        return read

    def _arrived(self, channel: Channel, message: Message) -> None:
        self.messages.append((channel, message))
        execution = self.of(message["parent_header"].get("msg_id", ""))
        if channel is Channel.IOPUB:
            execution.published.append(message)
        elif channel is Channel.STDIN:
            self.requests_for_input.append(message)
        else:
            execution.replies.append(message)

    def of(self, msg_id: str) -> Execution:
        return self.executions.setdefault(msg_id, Execution())

    def until(self, condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while True:
            if self.woken.wait(0.02):
                self.woken.clear()
                self.read()
            if condition():
                return
            assert time.monotonic() < deadline, f"in time came only {[str(e) for e in self.executions.values()]}"

    def wait(self, *ids: str, timeout: float = TIMEOUT) -> list[Execution]:
        self.until(lambda: all(self.of(i).over for i in ids), timeout)
        return [self.of(i) for i in ids]

    @property
    def ids(self) -> list[str]:
        return [m["header"]["msg_id"] for _c, m in self.messages]


@contextmanager
def reading(*pages: Page) -> Iterator[None]:
    """They read all the time, each on a thread."""
    over = threading.Event()

    def read(page: Page) -> None:
        while not over.is_set():
            if page.woken.wait(0.05):
                page.woken.clear()
                page.read()

    threads = [threading.Thread(target=read, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
