"""A Jupyter server as a process of its own, and the page's side of it: REST, websockets, the events."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

from .kernels import TIMEOUT, Message, until
from .sshd import free_port

OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook", "notebook_shim")
"""Extensions that take long to load, and have nothing to do with kernels."""


class RestError(AssertionError):
    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.answer = answer


class Served:
    """What a page can ask of a Jupyter server, or of another that speaks REST with tokens: a hub."""

    timeout = TIMEOUT

    def __init__(self, port: int, token: str, base: str = "/") -> None:
        """``base``: the path under which everything is, with a slash at both ends."""
        self.port = port
        self.token = token
        self._base = base

    def rest(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        """The answer's JSON; raises ``RestError`` for what is no success, or another than ``status``."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{self._base}{path}"
        request = urllib.request.Request(url, data, {"Authorization": f"token {self.token}"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.timeout) as response:
                got, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                got, text = error.code, error.read()
        answer = _read(text)
        if got != status and (status is not None or got >= 300):
            raise RestError(got, answer)
        return answer

    def websocket(self, path: str, **options: Any) -> websocket.WebSocket:
        """``options`` are websocket-client's."""
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}{self._base}{path}",
            header={"Authorization": f"token {self.token}"},
            timeout=self.timeout,
            http_no_proxy=["127.0.0.1"],
            **options,
        )

    def open(self, name: str, kernel: str = "python3") -> dict[str, Any]:
        """A notebook's session, as when a page opens it."""
        body = {"path": name, "name": name, "type": "notebook", "kernel": {"name": kernel}}
        session: dict[str, Any] = self.rest("POST", "api/sessions", body, 201)
        return session

    def end_kernels(self) -> None:
        """As JupyterLab's "Shut Down All": those on VMs too, which would outlive the server."""
        for kernel in self.rest("GET", "api/kernels"):
            with contextlib.suppress(RestError):
                self.rest("DELETE", f"api/kernels/{kernel['id']}", status=204)

    def operation(self, operation_id: str, seconds: float = 60.0) -> tuple[dict[str, Any], list[str]]:
        """An operation once it has ended, and every sentence that one of its steps said meanwhile."""
        said: list[str] = []
        deadline = time.monotonic() + seconds
        while True:
            operation = self.rest("GET", f"jupyter-dsvm/operations/{operation_id}")
            said += [s["text"] for s in operation["steps"] if s["state"] == "running"]
            if operation["state"] != "running":
                return operation, list(dict.fromkeys(said))
            assert time.monotonic() < deadline, operation
            time.sleep(0.05)

    def row(self, kernel_id: str) -> dict[str, Any]:
        rows = self.rest("GET", "jupyter-dsvm/kernels")["kernels"]
        return next(r for r in rows if r["id"] == kernel_id)


def _read(text: bytes) -> Any:
    """What is no JSON (a proxy's own words) as it is; None for nothing."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text.decode(errors="replace")


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """As a service manager does it: asked first, and killed if that is of no use, which is an error."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def wait_until_it_answers(served: Served, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """A server that has just been launched; where it does not come up, it is killed."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        with contextlib.suppress(OSError, RestError):
            served.rest("GET", path)
            return True
        return False

    try:
        until(answers, 120)
    except BaseException:
        process.kill()
        process.wait()
        raise


def write_settings(config_dir: Path, without: tuple[str, ...] = ()) -> None:
    """A Jupyter server's configuration."""
    values = {
        "jpserver_extensions": {"jupyter_dsvm": True, **dict.fromkeys(without, False)},
        "cookie_secret_file": str(config_dir / "cookie_secret"),
    }
    (config_dir / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": values}))


class JupyterServer(Served):
    """``root`` becomes the folder with the notebooks; ``config_dir`` is what JUPYTER_CONFIG_DIR points to."""

    def __init__(self, root: Path, config_dir: Path, without: tuple[str, ...] = ()) -> None:
        """``without``: extensions that are not loaded."""
        super().__init__(free_port(), secrets.token_hex(16))
        self.root = root
        self.log = root.with_name(root.name + ".log")
        root.mkdir()
        write_settings(config_dir, without)
        self._command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={self.port}", "--allow-root"]
        self._command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
        self._environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(config_dir), "JUPYTER_TOKEN": self.token}
        self._environment.pop("JUPYTER_DEFAULT_PROVISIONER_NAME", None)
        self.launch()

    def launch(self, *options: str) -> None:
        """``start``, without the waiting."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def _wait(self) -> None:
        wait_until_it_answers(self, "api/status", self._process, self.log)

    def __enter__(self) -> JupyterServer:
        self._wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """As JupyterLab's "Shut Down" does it: kernels first."""
        with contextlib.suppress(OSError, RestError):
            self.end_kernels()
        self.stop()

    def start(self, *options: str) -> None:
        """Again, after ``stop`` or ``kill``: the same folder, port and token. Returns when it answers."""
        self.launch(*options)
        self._wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As when its service manager stops it."""
        end(self._process, 40)

    @property
    def pid(self) -> int:
        return self._process.pid


class Reader:
    """A thread that takes messages from a websocket, whose own time limit can cut one in two."""

    def __init__(
        self, ws: websocket.WebSocket, read: Callable[[Any], Message], arrived: queue.SimpleQueue[Message]
    ) -> None:
        self.ws = ws
        self._sock: socket.socket = ws.sock
        self.reads = threading.Event()
        """Cleared: it takes one message more at most, and not even pings are answered."""
        self.reads.set()
        self._ended = False
        self._read = read
        self._arrived = arrived
        ws.settimeout(None)
        self.thread = threading.Thread(target=self._run, name="page")
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while (data := self.ws.recv()) and not self._ended:
                self._arrived.put(self._read(data))
                self.reads.wait()

    def close(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self.ws.send_close()
        self._end()

    def reset(self) -> None:
        """The connection breaks; what is on its way is lost."""
        with contextlib.suppress(OSError):  # the other end was quicker
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self._ended = True
        self.reads.set()
        # The thread waits in it, so that closing alone would neither wake the thread nor reach the other end.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
        self.thread.join()
        self._sock.close()


def arriving(queued: queue.SimpleQueue[Message], seconds: float) -> Iterator[Message]:
    """What a ``Reader`` has put there, after waiting for the first."""
    with contextlib.suppress(queue.Empty):
        yield queued.get(timeout=seconds)
        while True:
            yield queued.get_nowait()


class Events:
    """What the server has announced since this was made."""

    def __init__(self, server: Served) -> None:
        self._arrived: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._reader = Reader(server.websocket("api/events/subscribe"), json.loads, self._arrived)
        self.seen: list[dict[str, Any]] = []

    def of_ours(self, seconds: float = 0.5) -> list[dict[str, Any]]:
        """All of jupyter_dsvm so far, after waiting for the last ones."""
        self.seen += arriving(self._arrived, seconds)
        return [e for e in self.seen if e["schema_id"].endswith("jupyter_dsvm/changed")]

    def next_of_ours(self, after: int, patience: float, **fields: str) -> dict[str, Any]:
        """The first of jupyter_dsvm after so many of them that has these fields, however long others come before it."""
        deadline = time.monotonic() + patience
        while True:
            for event in self.of_ours(0.1)[after:]:
                if fields.items() <= event.items():
                    return event
            assert time.monotonic() < deadline, f"announced were only {self.seen}"

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
