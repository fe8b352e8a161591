"""Two real kernels, and what is between them when variables travel: a pump between unix sockets that can be slow or cut."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from jupyter_dsvm.kernels import variables_source

TIMEOUT = 60.0


class Kernel:
    """An ipykernel that is asked as the gate asks."""

    def __init__(self, python: str = sys.executable) -> None:
        self.manager = KernelManager()
        self.manager.kernel_spec.argv[0] = python
        self.manager.start_kernel()
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.process.pid)

    def run(self, code: str) -> str:
        """A cell; what it printed and its result. Raises with its error."""
        told: list[str] = []

        def hook(message: dict[str, Any]) -> None:
            content = message["content"]
            told.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        reply = self.client.execute_interactive(code, timeout=TIMEOUT, output_hook=hook)
        if reply["content"]["status"] != "ok":
            raise AssertionError(f"{reply['content']['ename']}: {reply['content']['evalue']}")
        return "".join(told)

    def value(self, expression: str) -> Any:
        return json.loads(self.run(f"print(__import__('json').dumps({expression}))"))

    def begin(self, function: str, **arguments: Any) -> str:
        """Ask without waiting."""
        content = variables_source.request(function, **arguments)
        message = self.client.session.msg("execute_request", content)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def answer(self, msg_id: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            reply = self.client.get_shell_msg(timeout=max(0.01, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == msg_id:
                return variables_source.parse(reply["content"])

    def ask(self, function: str, **arguments: Any) -> dict[str, Any]:
        return self.answer(self.begin(function, **arguments))

    def peak_mib(self) -> float:
        """Of its resident memory since ``forget_peak``."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

    def forget_peak(self) -> None:
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@contextlib.contextmanager
def kernels(*pythons: str) -> Iterator[list[Kernel]]:
    with contextlib.ExitStack() as stack:
        made = []
        for python in pythons or (sys.executable, sys.executable):
            kernel = Kernel(python)
            stack.callback(kernel.close)
            made.append(kernel)
        yield made


class Pump:
    """Two listening sockets; what the one that connects to ``sender`` says goes to the one at ``receiver``, and back.

    ``rate``: bytes per second; ``delay``: seconds that each way takes; ``cut``: after so many bytes both are hung up.
    """

    def __init__(self, rate: float = 0.0, delay: float = 0.0, cut: int | None = None) -> None:
        self.folder = tempfile.mkdtemp(prefix="carry-")
        self.sender, self.receiver = f"{self.folder}/s", f"{self.folder}/r"
        self._listeners = []
        for path in (self.sender, self.receiver):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(1)
            self._listeners.append(listener)
        self.rate, self.delay, self.cut = rate, delay, cut
        self.bytes = 0
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        try:
            for listener in self._listeners:
                self._ends.append(listener.accept()[0])
        except OSError:
            return
        s, r = self._ends
        for pair in ((s, r, True), (r, s, False)):
            thread = threading.Thread(target=self._pump, args=pair, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(1024 * 1024 if not self.rate else 65536):
                if self.delay:
                    time.sleep(self.delay)
                if self.rate:
                    time.sleep(len(data) / self.rate)
                if counted:
                    self.bytes += len(data)
                    if self.cut is not None and self.bytes >= self.cut:
                        self.hang_up()
                        return
                target.sendall(data)
        except OSError:
            pass
        self.hang_up()  # neither end goes on without the other

    def hang_up(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(TIMEOUT)
        for end in self._ends:
            end.close()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def pump(**how: Any) -> Iterator[Pump]:
    made = Pump(**how)
    try:
        yield made
    finally:
        made.close()


def carry(
    old: Kernel, new: Kernel, names: list[str] | None = None, **how: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All of it: what ``send`` and ``receive`` answer."""
    compress = how.pop("compress", "auto")
    hello = new.ask("hello")
    with pump(**how) as between:
        sent = old.begin("send", path=between.sender, names=names, there=hello, compress=compress)
        received = new.begin("receive", path=between.receiver)
        return old.answer(sent), new.answer(received)


def python_of(version: str) -> str | None:
    """Another Python with ipykernel, for tests between versions; None where there is none."""
    found = os.environ.get(f"DSVM_TESTS_PYTHON{version.replace('.', '')}")
    return found if found and os.path.exists(found) else None
