"""A kernel as a notebook uses it, for tests: send cells, collect what comes back, move it."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_client.session import Session

from jupyter_dsvm.kernels.backends import Backend
from jupyter_dsvm.kernels.proxy import Proxy

TIMEOUT = 30.0
Message = dict[str, Any]


@contextlib.contextmanager
def default_provisioner(name: str) -> Iterator[None]:
    """What stands under kernelspecs that name no provisioner."""
    factory = KernelProvisionerFactory.instance()
    before, factory.default_provisioner_name = factory.default_provisioner_name, name
    try:
        yield
    finally:
        factory.default_provisioner_name = before


def until(condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


@dataclass
class Execution:
    """All that came back for one request."""

    replies: list[Message] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return bool(self.replies) and "idle" in self.states

    def __str__(self) -> str:
        replies = [m["content"].get("status") for m in self.replies]
        return f"{replies} {[m['msg_type'] for m in self.published][-5:]} {self.states[-3:]}"

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = self.replies[0]["content"]
        return content

    @property
    def status(self) -> str:
        return str(self.content["status"])

    @property
    def count(self) -> int | None:
        count: int | None = self.content.get("execution_count")
        return count

    @property
    def states(self) -> list[str]:
        return [m["content"]["execution_state"] for m in self.published if m["msg_type"] == "status"]

    @property
    def text(self) -> str:
        """Its standard output."""
        streams = [m["content"] for m in self.published if m["msg_type"] == "stream"]
        return "".join(content["text"] for content in streams if content["name"] == "stdout")

    def outputs(self, kind: str) -> list[Message]:
        return [m for m in self.published if m["msg_type"] == kind]


class Client:
    """Everything that one client of a kernel receives, sorted by the request it belongs to."""

    def __init__(self, kc: BlockingKernelClient) -> None:
        self.kc = kc
        self.executions: dict[str, Execution] = {}
        self.messages: list[Message] = []
        """All of IOPub, in the order of arrival."""
        self.requests_for_input: list[Message] = []

    def send(self, code: str, **options: Any) -> str:
        options.setdefault("allow_stdin", False)
        return str(self.kc.execute(code, **options))

    def run(self, code: str, timeout: float = TIMEOUT, **options: Any) -> Execution:
        return self.wait(self.send(code, **options), timeout=timeout)[0]

    def wait(self, *ids: str, timeout: float = TIMEOUT) -> list[Execution]:
        """Until each has its reply and its idle."""
        self.until(lambda: all(self.of(i).over for i in ids), timeout)
        return [self.of(i) for i in ids]

    def until(self, condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"in time came only {[str(e) for e in self.executions.values()]}"
            self.receive(0.02)

    def receive(self, seconds: float) -> None:
        """All that has arrived, after waiting a little for IOPub."""
        for channel, sort in (
            (self.kc.iopub_channel, self._published),
            (self.kc.shell_channel, self._replied),
            (self.kc.control_channel, self._replied),
            (self.kc.stdin_channel, self.requests_for_input.append),
        ):
            wait = seconds if channel is self.kc.iopub_channel else 0
            try:
                while True:
                    sort(channel.get_msg(timeout=wait))
                    wait = 0
            except queue.Empty:
                pass

    def of(self, msg_id: str) -> Execution:
        return self.executions.setdefault(msg_id, Execution())

    def _published(self, message: Message) -> None:
        self.messages.append(message)
        self.of(message["parent_header"].get("msg_id", "")).published.append(message)

    def _replied(self, message: Message) -> None:
        self.of(message["parent_header"].get("msg_id", "")).replies.append(message)

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> str:
        """Any request, on any channel; its id."""
        message = self.kc.session.msg(kind, content=content)
        message["header"].update(header)
        getattr(self.kc, f"{channel}_channel").send(message)
        return str(message["header"]["msg_id"])


class Notebook(Client):
    """A kernel manager, a client that is ready, and (behind our provisioner) the kernel's proxy."""

    def __init__(self, kernel_name: str = "python3", cwd: str | None = None, **options: Any) -> None:
        """``cwd``: the notebook's folder, which whoever starts kernels mostly names."""
        self.km: Any = KernelManager(kernel_name=kernel_name, **options)
        try:
            self.km.start_kernel(**({"cwd": cwd} if cwd is not None else {}))
            super().__init__(self.km.client())
            self.kc.start_channels()
            self.kc.wait_for_ready(timeout=TIMEOUT)
        except BaseException:
            self.close()
            raise

    @property
    def proxy(self) -> Proxy:
        proxy = self.km.provisioner.proxy
        assert isinstance(proxy, Proxy)
        return proxy

    def there(self) -> Backend:
        """Another kernel on this machine, which stands for one on a VM: it answers and can be swapped in."""
        backend = self.proxy.make_local()
        self.proxy.prepare(backend).result(TIMEOUT)
        return backend

    def move(self) -> None:
        """Let another kernel take over, now."""
        self.proxy.swap(self.there()).result(TIMEOUT)

    @contextlib.contextmanager
    def another_client(self) -> Iterator[Client]:
        """One with a session of its own, as each page has."""
        kc = self.km.client()
        kc.session = Session(key=self.km.session.key)
        kc.start_channels()
        try:
            yield Client(kc)
        finally:
            kc.stop_channels()

    def close(self) -> None:
        if hasattr(self, "kc"):
            self.kc.stop_channels()
        self.km.shutdown_kernel(now=True)
        self.km.context.destroy(linger=0)

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
