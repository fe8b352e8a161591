"""A real Jupyter server as a process of its own, and a page's side of it: REST, and a kernel's websocket as JupyterLab opens it."""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import websocket
from jupyter_client.session import json_packer
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from tests.support.sshd import free_port

from .contenders import Contender
from .machines import processes_with

PATIENCE = 120.0
PROTOCOL = "v1.kernel.websocket.jupyter.org"
"""What JupyterLab asks for."""

OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook", "notebook_shim")


class Server:
    """``start`` and ``kill`` may take turns: the port, the token and the folders stay."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        contender.prepare()
        self._port = free_port()
        self._token = secrets.token_hex(16)
        extensions = {
            **dict.fromkeys(OTHERS, False),
            "jupyter_dsvm": contender.extension,
            "benchmarks.busyloop": True,
        }
        values = {
            "jpserver_extensions": extensions,
            "port": self._port,
            "port_retries": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(contender.folder / "root"),
        }
        (contender.folder / "config" / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": values}))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def server_side(self) -> list[int]:
        """The processes that carry this contender's traffic on this side: the server, and ssh where there is one."""
        marked = processes_with(self.contender.mark)
        return [self.pid, *(pid for pid, line in marked.items() if line.startswith("ssh") and pid != self.pid)]

    def start(self) -> None:
        log_file = self.contender.folder / "server.log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self.contender.python, "-m", "jupyter_server"],
                cwd=self.contender.folder / "root",
                env={**self.contender.environment(), "JUPYTER_TOKEN": self._token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                self.rest("GET", "api/status")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log_file.read_text(errors="replace").strip().rpartition("\n")[2]
                raise RuntimeError(f"the server of {self.contender.name} does not answer: {said}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As the kernel of the operating system ends it when memory is out: nothing of it runs any more."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/{path}", data, {"Authorization": f"token {self._token}"}, method=method
        )
        with self._opener.open(request, timeout=PATIENCE) as response:
            text = response.read()
        return json.loads(text) if text else None

    def open(self, name: str = "a.ipynb") -> str:
        """A notebook's session with a new kernel; the kernel's id."""
        kernel = {"name": self.contender.kernel}
        body = {"path": name, "name": name, "type": "notebook", "kernel": kernel}
        return str(self.rest("POST", "api/sessions", body)["kernel"]["id"])

    def kernels(self) -> list[str]:
        return [k["id"] for k in self.rest("GET", "api/kernels")]

    def interrupt(self, kernel_id: str) -> None:
        self.rest("POST", f"api/kernels/{kernel_id}/interrupt")

    def busy(self, share: float) -> None:
        """Keep its event loop busy for that share of the time."""
        self.rest("PUT", "benchmarks/busy", share)

    def page(self, kernel_id: str, session: str | None = None) -> Page:
        session = session or uuid.uuid4().hex
        socket = websocket.create_connection(
            f"ws://127.0.0.1:{self._port}/api/kernels/{kernel_id}/channels?session_id={session}",
            header={"Authorization": f"token {self._token}"},
            subprotocols=[PROTOCOL],
            timeout=PATIENCE,
            http_no_proxy=["127.0.0.1"],
        )
        return Page(socket, session)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):  # what runs on a machine is to be ended, not kept
                for kernel_id in self.kernels():
                    self.rest("DELETE", f"api/kernels/{kernel_id}")
            self._process.terminate()
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.contender.hang_up()


class Page:
    """One websocket to one kernel."""

    def __init__(self, socket: websocket.WebSocket, session: str) -> None:
        self._socket = socket
        self.session = session

    def send(self, code: str) -> str:
        request = uuid.uuid4().hex
        header = {
            "msg_id": request,
            "msg_type": "execute_request",
            "username": "",
            "session": self.session,
            "date": "2026-01-01T00:00:00.000000Z",
            "version": "5.4",
        }
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}
        self._socket.send_binary(serialize_msg_to_ws_v1(message, "shell", json_packer))  # type: ignore[no-untyped-call]
        return request

    def run(self, code: str, output: Callable[[str, bytes], object] | None = None, patience: float = PATIENCE) -> float:
        begun = time.perf_counter()
        self.wait(self.send(code), output, patience)
        return time.perf_counter() - begun

    def wait(
        self, request: str, output: Callable[[str, bytes], object] | None = None, patience: float = PATIENCE
    ) -> dict[str, Any]:
        """Until the request has its reply and its idle. ``output`` gets each message of IOPub about it: type and content."""
        deadline = time.perf_counter() + patience
        reply: dict[str, Any] | None = None
        idle = False
        while reply is None or not idle:
            channel, parts = deserialize_msg_from_ws_v1(self._message(deadline))  # type: ignore[no-untyped-call]
            header, parent = json.loads(parts[0]), json.loads(parts[1])
            if parent.get("msg_id") != request:
                continue
            if channel == "shell":
                reply = json.loads(parts[3])
            elif channel == "iopub":
                if header["msg_type"] == "status" and b'"idle"' in parts[3]:
                    idle = True
                if output is not None:
                    output(header["msg_type"], parts[3])
        return reply

    def _message(self, deadline: float) -> bytes:
        """The next one. A wait for one counts the server's pings, which would make it endless, as time."""
        sock = self._socket.sock
        assert sock is not None
        while True:
            if not select.select([sock], [], [], max(0.0, deadline - time.perf_counter()))[0]:
                raise TimeoutError("the page has not got the end of its cell in time")
            kind, frame = self._socket.recv_data_frame(control_frame=True)
            if kind == websocket.ABNF.OPCODE_CLOSE:
                raise ConnectionError("the websocket was closed")
            if kind == websocket.ABNF.OPCODE_BINARY:
                return bytes(frame.data)

    def close(self) -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._socket.close(timeout=1)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
