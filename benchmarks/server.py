"""A real Jupyter server as a process of its own, and a page's side of it: REST, and a kernel's websocket as JupyterLab opens it."""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import subprocess
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import websocket
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1

from tests.support import frontend
from tests.support.served import OTHERS, RestError, Served, end
from tests.support.sshd import free_port

from .contenders import Contender
from .machines import processes_with

PATIENCE = 120.0


class Server:
    """``start`` and ``kill`` may take turns: the port, the token and the folders stay."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        contender.prepare()
        self._api = Served(free_port(), secrets.token_hex(16))
        self._api.timeout = PATIENCE
        extensions = {
            **dict.fromkeys(OTHERS, False),
            "jupyter_dsvm": contender.extension,
            "benchmarks.busyloop": True,
        }
        values = {
            "jpserver_extensions": extensions,
            "port": self._api.port,
            "port_retries": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(contender.folder / "root"),
        }
        (contender.folder / "config" / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": values}))
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
                env={**self.contender.environment(), "JUPYTER_TOKEN": self._api.token},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, RestError):
                self._api.rest("GET", "api/status")
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

    def open(self, name: str = "a.ipynb") -> str:
        """A notebook's session with a new kernel; the kernel's id."""
        return str(self._api.open(name, self.contender.kernel)["kernel"]["id"])

    def kernels(self) -> list[str]:
        return [k["id"] for k in self._api.rest("GET", "api/kernels")]

    def interrupt(self, kernel_id: str) -> None:
        self._api.rest("POST", f"api/kernels/{kernel_id}/interrupt")

    def outputs(self, kernel_id: str) -> list[dict[str, Any]]:
        """What is kept of its cells."""
        rows: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            answer = self._api.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/outputs?after={after}")
            rows += answer["rows"]
            after = answer["next"]
        return rows

    def busy(self, share: float) -> None:
        """Keep its event loop busy for that share of the time."""
        self._api.rest("PUT", "benchmarks/busy", share)

    def page(self, kernel_id: str, session: str | None = None) -> Page:
        session = session or uuid.uuid4().hex
        path = f"api/kernels/{kernel_id}/channels?session_id={session}"
        return Page(self._api.websocket(path, subprotocols=[frontend.V1]), session)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError, RestError):  # what runs on a machine is to be ended, not kept
                self._api.end_kernels()
            with contextlib.suppress(subprocess.TimeoutExpired):
                end(self._process, 40)
        self.contender.hang_up()


class Page:
    """One websocket to one kernel."""

    def __init__(self, socket: websocket.WebSocket, session: str) -> None:
        self._socket = socket
        self.session = session
        self.cell = "cell"
        """The id of the cell that is run."""

    def send(self, code: str) -> str:
        message = frontend.request("execute_request", frontend.cell(code), self.session)
        message["metadata"] = {"cellId": self.cell}
        self._socket.send_binary(frontend.to_v1(message, "shell"))
        return str(message["header"]["msg_id"])

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
