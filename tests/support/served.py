"""A Jupyter server as a process of its own, and the page's side of it: REST, the kernel's websocket, the events' websocket."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket

from .kernels import TIMEOUT, Client, Message, until
from .sshd import free_port


class RestError(AssertionError):
    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.answer = answer


class JupyterServer:
    """``root`` becomes the folder with the notebooks; ``config_dir`` is what JUPYTER_CONFIG_DIR points to."""

    def __init__(self, root: Path, config_dir: Path, without: tuple[str, ...] = ()) -> None:
        """``without``: other extensions that take long to load."""
        self.root = root
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.log = root.with_name(root.name + ".log")
        root.mkdir()
        settings = config_dir / "jupyter_server_config.json"
        values = {
            "jpserver_extensions": {"jupyter_dsvm": True, **dict.fromkeys(without, False)},
            "cookie_secret_file": str(config_dir / "cookie_secret"),
        }
        settings.write_text(json.dumps({"ServerApp": values}))
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

    def __enter__(self) -> JupyterServer:
        self._wait_until_it_answers()
        return self

    def _wait_until_it_answers(self) -> None:
        def answers() -> bool:
            assert self._process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                self.rest("GET", "api/status")
                return True
            return False

        try:
            until(answers, 60)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """As JupyterLab's "Shut Down" does it: kernels first, those on VMs too, which would outlive the server."""
        with contextlib.suppress(OSError, RestError):
            self.end_kernels()
        self.stop()

    def end_kernels(self) -> None:
        for kernel in self.rest("GET", "api/kernels"):
            with contextlib.suppress(RestError):
                self.rest("DELETE", f"api/kernels/{kernel['id']}", status=204)

    def start(self, *options: str) -> None:
        """Again, after ``stop`` or ``kill``: the same folder, port and token. Returns when it answers."""
        self.launch(*options)
        self._wait_until_it_answers()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As when its service manager stops it."""
        self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def rest(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        """The answer's JSON; raises ``RestError`` for what is no success, or another than ``status``."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", data, {"Authorization": f"token {self.token}"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT) as response:
                got, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                got, text = error.code, error.read()
        answer = json.loads(text) if text else None
        if got != status and (status is not None or got >= 300):
            raise RestError(got, answer)
        return answer

    def socket(self, path: str) -> websocket.WebSocket:
        return websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/{path}",
            header={"Authorization": f"token {self.token}"},
            timeout=TIMEOUT,
            http_no_proxy=["127.0.0.1"],
        )

    def open(self, name: str) -> dict[str, Any]:
        """A notebook's session, as when a page opens it."""
        body = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        session: dict[str, Any] = self.rest("POST", "api/sessions", body, 201)
        return session

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


class Page(Client):
    """One websocket to one kernel, and one session, as JupyterLab has it."""

    def __init__(self, server: JupyterServer, kernel_id: str) -> None:
        self.executions = {}
        self.messages = []
        self.requests_for_input = []
        self.session = uuid.uuid4().hex
        self._socket = server.socket(f"api/kernels/{kernel_id}/channels?session_id={self.session}")
        self.arrived = _Reader(self._socket)

    @property
    def connected(self) -> bool:
        return self.arrived.thread.is_alive()

    def send(self, code: str, **options: Any) -> str:
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **options,
        }
        return self.ask("execute_request", content)

    def ask(self, kind: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> str:
        msg_id = uuid.uuid4().hex
        message = {
            "header": {
                "msg_id": msg_id,
                "msg_type": kind,
                "username": "",
                "session": self.session,
                "date": "2026-01-01T00:00:00.000000Z",
                "version": "5.4",
                **header,
            },
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
            "channel": channel,
        }
        self._socket.send(json.dumps(message))
        return msg_id

    def receive(self, seconds: float) -> None:
        for message in self.arrived.take(seconds):
            if message["channel"] == "iopub":
                self._published(message)
            elif message["channel"] == "stdin":
                self.requests_for_input.append(message)
            else:
                self._replied(message)

    def close(self) -> None:
        self._socket.close()
        self.arrived.thread.join()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Events:
    """What the server has announced since this was made."""

    def __init__(self, server: JupyterServer) -> None:
        self._socket = server.socket("api/events/subscribe")
        self._reader = _Reader(self._socket)
        self.seen: list[dict[str, Any]] = []

    def of_ours(self, seconds: float = 0.5) -> list[dict[str, Any]]:
        """All of jupyter_dsvm so far, after waiting for the last ones."""
        self.seen += self._reader.take(seconds)
        return [e for e in self.seen if e["schema_id"].endswith("jupyter_dsvm/changed")]

    def close(self) -> None:
        self._socket.close()
        self._reader.thread.join()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reader:
    """A thread that takes messages from a websocket, whose own time limit can cut one in two."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._socket = socket
        socket.settimeout(None)
        self.thread = threading.Thread(target=self._run, name="page")
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while text := self._socket.recv():
                self._messages.put(json.loads(text))

    def take(self, seconds: float) -> Iterator[Message]:
        with contextlib.suppress(queue.Empty):
            yield self._messages.get(timeout=seconds)
            while True:
                yield self._messages.get_nowait()
