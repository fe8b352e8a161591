"""A kernel process of this server: how it comes up, what it says to the last word, and how it ends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from jupyter_client.session import Session

from jupyter_dsvm.errors import DSVMError
from jupyter_dsvm.kernels import local
from jupyter_dsvm.kernels.backends import Backend
from jupyter_dsvm.kernels.iothread import IOThread
from jupyter_dsvm.kernels.local import LocalBackend
from jupyter_dsvm.models import LinkPhase, LinkState
from jupyter_dsvm.relay.wire import Channel
from support.kernels import until

KEY = b"secret"
IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
FAKE = Path(__file__).parent / "support" / "fake_kernel.py"


class Heard:
    """All that a backend says to whoever started it."""

    def __init__(self) -> None:
        self.ups = 0
        self.messages: list[tuple[Channel, dict[str, Any]]] = []
        self.links: list[LinkState] = []
        self.exits: list[int] = []
        self._session = Session(key=KEY, session="reader")

    def started(self, backend: Backend) -> None:
        self.ups += 1

    def message(self, backend: Backend, channel: Channel, parts: list[bytes], number: int = 0) -> None:
        _idents, rest = self._session.feed_identities(parts)
        self.messages.append((channel, self._session.deserialize(rest)))

    def link(self, backend: Backend, state: LinkState) -> None:
        self.links.append(state)

    def exited(self, backend: Backend, code: int, text: str) -> None:
        self.exits.append(code)

    def gone(self, backend: Backend, error: DSVMError) -> None:
        raise AssertionError("a kernel of this server is never gone")

    def call(self, backend: Backend, call_id: int, request: dict[str, Any]) -> None:
        raise AssertionError("a kernel of this server calls over the proxy's socket")

    def texts(self) -> str:
        streams = [m["content"] for _c, m in self.messages if m["msg_type"] == "stream"]
        return "".join(content["text"] for content in streams if content["name"] == "stdout")


class Started:
    def __init__(self, folder: Path, io: IOThread, argv: list[str], **options: Any) -> None:
        self.io, self.heard, self.folder = io, Heard(), folder
        self.client = Session(key=KEY, session="client")
        self.backend = LocalBackend(
            io,
            folder,
            1,
            argv,
            options,
            key=KEY,
            session="front",
            signature_scheme="hmac-sha256",
            kernelspec="k",
            language="python",
            interrupt_mode="signal",
        )

    def start(self) -> Started:
        self.io.call(self.backend.start, self.heard).result(10)
        return self

    def up(self) -> Started:
        self.start()
        until(lambda: self.heard.ups or self.heard.exits)
        return self

    def ask(self, kind: str, content: dict[str, Any] | None = None, channel: Channel = Channel.SHELL) -> dict[str, Any]:
        message = self.client.msg(kind, content=content or {})
        self.do(self.backend.send, channel, [b"me", *self.client.serialize(message)])
        until(lambda: self.replies(message["header"]["msg_id"]) or self.heard.exits)
        return message["header"]

    def run(self, code: str) -> dict[str, Any]:
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        return self.ask("execute_request", content)

    def replies(self, msg_id: str) -> list[dict[str, Any]]:
        return [m for c, m in self.heard.messages if c is not Channel.IOPUB and m["parent_header"]["msg_id"] == msg_id]

    def idle(self, msg_id: str) -> bool:
        """Whether all that it publishes about that request has come."""
        published = [m for c, m in list(self.heard.messages) if c is Channel.IOPUB]
        states = [m for m in published if m["msg_type"] == "status" and m["parent_header"].get("msg_id") == msg_id]
        return bool(states) and states[-1]["content"]["execution_state"] == "idle"

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.io.call(function, *args).result(10)

    def exit_code(self) -> int:
        until(lambda: self.heard.exits)
        return self.heard.exits[0]


Start = Callable[..., Started]


@pytest.fixture
def make(jupyter_folders: Path) -> Iterator[Start]:
    folder, io = jupyter_folders / "local", IOThread.acquire()
    folder.mkdir(mode=0o700)
    made: list[Started] = []

    def start(*argv: str, **options: Any) -> Started:
        made.append(Started(folder, io, list(argv) or IPYKERNEL, **options))
        return made[-1]

    yield start
    for each in made:
        each.do(each.backend.close)
    IOThread.release()
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == [], "its sockets and its connection file go with it"


def fake(habit: str) -> tuple[str, ...]:
    return (sys.executable, str(FAKE), "{connection_file}", habit)


def test_ipykernel_comes_up_on_private_sockets_in_the_fronts_session(make: Start) -> None:
    kernel = make().up()
    header = kernel.run("import os; print(os.environ['JPY_PARENT_PID'])")
    until(lambda: kernel.heard.texts())
    assert kernel.heard.texts() == f"{os.getpid()}\n", "it ends with this process, whatever happens"
    assert {m["header"]["session"] for _c, m in kernel.heard.messages} == {"front"}
    assert [state.state for state in kernel.heard.links] == [LinkPhase.LOCAL]
    assert (kernel.folder / "kernel-1.json").stat().st_mode & 0o777 == 0o600
    connections = psutil.Process(kernel.backend.pid).net_connections("tcp")
    assert not [c for c in connections if c.status == psutil.CONN_LISTEN]
    assert kernel.replies(header["msg_id"])[0]["content"]["status"] == "ok"


FLOOD = """
with open({path!r}, "ab", 0) as file:
    for n in range({count}):
        display({{"text/plain": str(n), "x": "x" * 5000}}, raw=True)
        file.write(b".")
"""


def test_an_ipykernel_waits_until_its_outputs_are_read_and_loses_none(make: Start, tmp_path: Path) -> None:
    kernel, count, file = make().up(), 8000, tmp_path / "n"
    file.touch()
    read_on = threading.Event()
    content = {"code": FLOOD.format(count=count, path=str(file)), "silent": False}
    message = kernel.client.msg("execute_request", content)
    asked = message["header"]["msg_id"]

    def ask_and_read_nothing() -> None:
        kernel.backend.send(Channel.SHELL, [b"me", *kernel.client.serialize(message)])
        read_on.wait(60)

    kernel.io.call_soon(ask_and_read_nothing)
    try:
        until(lambda: file.stat().st_size)
        said = 0
        while file.stat().st_size != said:
            said = file.stat().st_size
            time.sleep(2)
        assert 64 < said < 6000
    finally:
        read_on.set()
    until(lambda: kernel.idle(asked), 60)
    about = [m for _c, m in kernel.heard.messages if m["parent_header"].get("msg_id") == asked]
    shown = [m["content"]["data"]["text/plain"] for m in about if m["msg_type"] == "display_data"]
    assert shown == [str(n) for n in range(count)]


@pytest.mark.parametrize(
    ("argv", "as_it_is"),
    [
        (["-X", "dev", "-m", "ipykernel_launcher", "-f", "{connection_file}", "--debug"], False),
        (["-m", "ipykernel", "-f", "{connection_file}"], False),
        (["-c", "from ipykernel.kernelapp import launch_new_instance as l; l()", "-f", "{connection_file}"], True),
    ],
)
def test_only_what_is_the_start_of_an_ipykernel_is_changed(make: Start, argv: list[str], as_it_is: bool) -> None:
    kernel = make(sys.executable, *argv, env={**os.environ, "FROM_THE_KERNELSPEC": "yes"}).up()
    kernel.run(
        "import os, sys; print(os.environ['FROM_THE_KERNELSPEC'], sys.executable, __name__, 'start' in sys.argv[0])"
    )
    until(lambda: kernel.heard.texts())
    assert kernel.heard.texts() == f"yes {sys.executable} __main__ False\n"
    line = psutil.Process(kernel.backend.pid).cmdline()
    starter = str(kernel.folder / "start-1.py")
    filled = [a.replace("{connection_file}", str(kernel.folder / "kernel-1.json")) for a in argv]
    if as_it_is:
        assert line[1:] == filled
    else:
        at = filled.index("-m")
        assert line[1:-1] == [*filled[:at], starter, *filled[at + 2 :]]


def test_signals_reach_the_kernels_group_and_its_end_is_told_once(make: Start) -> None:
    kernel = make().up()
    message = kernel.client.msg("execute_request", {"code": "import time; time.sleep(60)"})
    kernel.do(kernel.backend.send, Channel.SHELL, [b"me", *kernel.client.serialize(message)])
    until(lambda: [m for _c, m in kernel.heard.messages if m["msg_type"] == "execute_input"])
    time.sleep(0.1)
    kernel.do(kernel.backend.signal, signal.SIGINT)
    until(lambda: kernel.replies(message["header"]["msg_id"]))
    assert kernel.replies(message["header"]["msg_id"])[0]["content"]["ename"] == "KeyboardInterrupt"
    kernel.do(kernel.backend.signal, signal.SIGKILL)
    assert kernel.exit_code() == -signal.SIGKILL
    kernel.do(kernel.backend.signal, signal.SIGTERM)
    kernel.do(kernel.backend.send, Channel.SHELL, [b"too late"])
    kernel.do(kernel.backend.end)
    assert kernel.heard.exits == [-signal.SIGKILL]
    assert kernel.backend.pid is None


def test_a_kernel_that_names_its_sockets_with_a_colon(make: Start) -> None:
    kernel = make(*fake("colon")).up()
    kernel.run("x")
    until(lambda: kernel.heard.texts() == "fake over ipc")


@pytest.mark.parametrize("habit", ["tcp", "refuses"])
def test_a_kernel_that_cannot_do_ipc_is_started_on_loopback_tcp(
    make: Start, habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "IPC_PATIENCE", 0.5)
    kernel = make(*fake(habit)).up()

    def heard() -> bool:
        kernel.run("x")  # a PUB socket drops what it sends before the subscription has come (JEP 65)
        return "fake over tcp" in kernel.heard.texts()

    until(heard)
    assert (kernel.heard.ups, kernel.heard.exits) == (1, [])


def test_ipykernel_is_given_all_the_time_it_takes(make: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "IPC_PATIENCE", 0.01)
    kernel = make().up()
    assert kernel.backend._transport == "ipc"


def test_a_kernel_that_dies_at_start_is_told_with_its_exit_code(make: Start) -> None:
    kernel = make(*fake("dies")).start()
    assert kernel.exit_code() == 7
    assert kernel.heard.ups == 0


def test_an_ipykernel_that_dies_at_start_is_not_tried_again(make: Start) -> None:
    kernel = make(*IPYKERNEL, "--IPKernelApp.no_such_setting.at_all=1", "--transport=nonsense").start()
    assert kernel.exit_code() != 0


def test_a_program_that_does_not_exist_raises_and_leaves_nothing(make: Start) -> None:
    kernel = make("/no/such/program", "{connection_file}")
    with pytest.raises(FileNotFoundError):
        kernel.start()
    assert list(kernel.folder.iterdir()) == []


def test_a_disk_that_takes_nothing_raises_and_leaves_nothing(make: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: str, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(local, "write_private", full)
    kernel = make()
    with pytest.raises(OSError, match="No space"):
        kernel.start()
    assert kernel.backend._channels is None, "nobody closes a backend that was never started"
    assert list(kernel.folder.iterdir()) == []


def test_all_that_a_kernel_said_before_its_end_arrives_before_its_end_does(make: Start) -> None:
    kernel = make(*fake("flood")).up()
    kernel.ask("kernel_info_request")
    kernel.ask("shutdown_request", channel=Channel.CONTROL)
    assert kernel.exit_code() == 0
    assert kernel.heard.texts() == "".join(f"{n}\n" for n in range(2000))


def test_what_is_read_slowly_arrives_before_the_end_too(make: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only few messages may wait, that the kernel has hung up is not seen before they have been read."""

    class Channels:
        sockets: ClassVar[dict[Channel, Any]] = {Channel.IOPUB: -1}

        def __init__(self, messages: list[list[bytes]]) -> None:
            self.messages = messages

        def hung_up(self) -> bool:
            return not self.messages

        def receive(self, _channel: Channel) -> list[list[bytes]]:
            return [self.messages.pop(0)] if self.messages else []

        def close(self) -> None:
            pass

    monkeypatch.setattr(local, "DRAIN", 0.0)  # as if this thread had been busy with other kernels for as long as that
    kernel = make()
    said = [kernel.client.serialize(kernel.client.msg("stream", {"name": "stdout", "text": str(n)})) for n in range(5)]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    backend: Any = kernel.backend
    backend._process, backend._events = ended, kernel.heard
    backend._channels, backend._registered = Channels(said), True
    kernel.do(backend._look)
    assert kernel.exit_code() == 0
    assert kernel.heard.texts() == "01234"


def test_a_child_that_holds_the_dead_kernels_sockets_does_not_hold_up_its_end(make: Start) -> None:
    kernel = make().up()
    code = "import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(3)\n    os._exit(0)\nos.kill(os.getpid(), 9)"
    message = kernel.client.msg("execute_request", {"code": code})
    started = time.monotonic()
    kernel.do(kernel.backend.send, Channel.SHELL, [b"me", *kernel.client.serialize(message)])
    assert kernel.exit_code() == -9
    assert time.monotonic() - started < 2.5


def test_end_is_polite_and_then_firm(make: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "END_GRACE", 0.3)
    polite, firm = make().up(), make(*fake("colon"))
    polite.do(polite.backend.end)
    assert polite.exit_code() == -signal.SIGTERM
    firm = make(*fake("stubborn")).up()
    firm.do(firm.backend.end)
    firm.do(firm.backend.end)
    assert firm.exit_code() == -signal.SIGKILL


def test_close_kills_at_once_and_says_nothing_more(make: Start) -> None:
    kernel = make(*fake("stubborn")).up()
    pid = kernel.backend.pid
    kernel.do(kernel.backend.close)
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert kernel.heard.exits == []


def test_close_before_it_came_up(make: Start) -> None:
    kernel = make().start()
    kernel.do(kernel.backend.close)
    time.sleep(0.1)
    assert (kernel.heard.ups, kernel.heard.exits) == (0, [])
