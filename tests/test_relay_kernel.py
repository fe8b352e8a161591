"""A kernel process and its channels, with real kernels and no relay; and what a machine offers to run."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.session import Session as Messages

from jupyter_dsvm.relay import folders, kernel, kernelspecs, listening
from jupyter_dsvm.relay import process as processes
from jupyter_dsvm.relay.kernel import KernelChannels, kernel_argv
from jupyter_dsvm.relay.process import KernelProcess
from jupyter_dsvm.relay.wire import Channel
from support.relay_end import until

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
KEY = "0123456789abcdef"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def context() -> Iterator[Any]:
    with zmq.Context() as it:
        yield it


class Kernel:
    """One run of a kernel, as an owner would have it."""

    def __init__(self, context: Any, folder: Path, argv: list[str], run: int = 1, transport: str = "ipc") -> None:
        self.channels = KernelChannels(context, str(folder), run, transport)
        path = str(folder / "connection.json")
        self.channels.write_connection_file(path, KEY, kernel_name="test")
        self.messages = Messages(key=KEY.encode())
        command = kernel_argv(argv, path, session=self.messages.session)
        self.process = KernelProcess(command, os.environ, None, str(folder / "kernel.log"))
        self.got: list[tuple[Channel, dict[str, Any]]] = []

    def connect(self, seconds: float = 30) -> None:
        until(lambda: self.channels.try_connect() or self.process.poll() is not None, seconds)
        assert self.channels.connected, self.process.tail()

    def send(self, channel: Channel, kind: str, content: dict[str, Any]) -> str:
        message = self.messages.msg(kind, content)
        assert self.channels.send(channel, self.messages.serialize(message))
        return str(message["header"]["msg_id"])

    def execute(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        return self.send(Channel.SHELL, "execute_request", {**content, "stop_on_error": True})

    def read(self) -> int:
        before = len(self.got)
        for channel in list(self.channels.sockets):
            for parts in self.channels.receive(channel):
                self.got.append((channel, self.messages.deserialize(self.messages.feed_identities(parts)[1])))
        return len(self.got) - before

    def of(self, kind: str) -> list[dict[str, Any]]:
        self.read()
        return [m["content"] for _, m in self.got if m["header"]["msg_type"] == kind]

    def text(self) -> str:
        return "".join(c["text"] for c in self.of("stream") if c["name"] == "stdout")

    def close(self) -> None:
        self.process.kill()
        assert self.process.wait(10) is not None
        self.channels.close()


@pytest.fixture
def run(context: Any, folder: Path) -> Iterator[Callable[..., Kernel]]:
    kernels: list[Kernel] = []

    def start(argv: list[str] = IPYKERNEL, **more: Any) -> Kernel:
        kernels.append(Kernel(context, folder, argv, **more))
        return kernels[-1]

    yield start
    for it in kernels:
        it.close()


def test_input_finds_its_way_because_shell_and_stdin_have_one_identity(run: Callable[..., Kernel]) -> None:
    it = run()
    it.connect()
    it.execute("print(input('name? '))")
    until(lambda: it.of("input_request"))
    it.send(Channel.STDIN, "input_reply", {"value": "Ada"})
    until(lambda: it.of("execute_reply"))
    until(lambda: it.text() == "Ada\n")


def test_tcp_is_there_for_kernels_that_need_it(run: Callable[..., Kernel]) -> None:
    it = run(transport="tcp")
    it.connect()
    it.execute("print('over tcp')")
    until(lambda: it.text() == "over tcp\n")


COLON = """
import json, sys, zmq
info = json.load(open(sys.argv[1]))
context = zmq.Context()
sockets = {}
for name, kind in (("shell", zmq.ROUTER), ("control", zmq.ROUTER), ("stdin", zmq.ROUTER), ("iopub", zmq.PUB)):
    sockets[name] = context.socket(kind)
    sockets[name].bind("ipc://{}:{}".format(info["ip"], info[name + "_port"]))
while True:
    sockets["shell"].send_multipart(sockets["shell"].recv_multipart())
"""


def test_names_with_a_colon_are_found(run: Callable[..., Kernel], folder: Path) -> None:
    it = run([sys.executable, "-c", COLON, "{connection_file}"])
    it.connect()
    assert (folder / "r1:1").exists()
    message = [b"<IDS|MSG>", b"any", b"parts", b"at all"]
    assert it.channels.send(Channel.SHELL, message)
    got: list[list[bytes]] = []
    until(lambda: got.extend(it.channels.receive(Channel.SHELL)) or got)
    assert got == [message]


def test_an_r_kernel_runs(run: Callable[..., Kernel]) -> None:
    spec = next((s for s in kernelspecs.list_kernelspecs() if s["language"].lower() == "r"), None)
    if spec is None:
        pytest.skip("needs Debian's r-cran-irkernel")
    it = run(spec["argv"])
    it.connect()
    until(lambda: it.send(Channel.SHELL, "kernel_info_request", {}) and it.of("status"), 30)
    it.execute("cat(6 * 7)")
    until(lambda: it.text() == "42", 30)


def test_what_a_killed_kernel_left_behind_is_not_taken_for_the_next_one(
    run: Callable[..., Kernel], folder: Path
) -> None:
    first = run()
    first.connect()
    first.process.kill()
    until(lambda: first.process.poll() is not None)
    assert first.process.poll() == -signal.SIGKILL
    assert (folder / "r1-1").exists()
    second = run(run=2)
    assert second.channels.try_connect() is False
    second.connect()
    first.channels.close()
    assert not list(folder.glob("r1*"))
    second.execute("print('second')")
    until(lambda: second.text() == "second\n")


def test_everything_a_kernel_said_is_there_after_its_exit(run: Callable[..., Kernel]) -> None:
    it = run()
    it.connect()
    it.execute("for i in range(20_000): print(i)\nget_ipython().kernel.iopub_thread.flush()\nexit()")
    it.send(Channel.CONTROL, "shutdown_request", {"restart": False})
    assert it.channels.hung_up() is False
    until(lambda: it.process.poll() is not None)
    until(it.channels.hung_up, 5)
    while it.read():
        pass
    assert it.text().split() == [str(i) for i in range(20_000)]


def test_a_message_for_a_channel_that_is_not_there_yet_is_not_taken(context: Any, folder: Path) -> None:
    channels = KernelChannels(context, str(folder))
    assert channels.try_connect() is False
    assert channels.send(Channel.SHELL, [b"x"]) is False
    assert channels.send(Channel.IOPUB, [b"x"]) is False
    assert channels.receive(Channel.SHELL) == []
    channels.close()
    assert channels.send(Channel.SHELL, [b"x"]) is False


def test_the_connection_file_is_private_and_complete(context: Any, folder: Path) -> None:
    channels = KernelChannels(context, str(folder), run=3)
    path = folder / "connection.json"
    path.write_text("an earlier one")
    channels.write_connection_file(str(path), KEY, "hmac-sha512", "ir")
    channels.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "shell_port": 1,
        "iopub_port": 2,
        "stdin_port": 3,
        "control_port": 4,
        "hb_port": 5,
        "ip": str(folder / "r3"),
        "transport": "ipc",
        "key": KEY,
        "signature_scheme": "hmac-sha512",
        "kernel_name": "ir",
    }


def test_a_path_too_long_for_sockets_is_refused(context: Any, folder: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        KernelChannels(context, str(folder / ("x" * 100)))


def test_only_ipykernel_is_told_a_session() -> None:
    argv = kernel_argv(["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "/c", session="S")
    assert argv == ["python", "-m", "ipykernel_launcher", "-f", "/c", "--Session.session=S"]
    other = ["R", "-e", "{connection_file}", "--args", "{resource_dir}/x", "{other}"]
    assert kernel_argv(other, "/c", "/r", "S") == ["R", "-e", "/c", "--args", "/r/x", "{other}"]


# The process


def process(folder: Path, code: str, **more: Any) -> KernelProcess:
    return KernelProcess([sys.executable, "-c", code], os.environ, None, str(folder / "log"), **more)


def test_a_process_ends_with_everything_it_started(folder: Path) -> None:
    it = process(
        folder, "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(0.2)"
    )
    assert it.wait(10) == 0
    child = int(it.tail())
    until(lambda: not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text())


def test_a_process_that_does_not_want_to_end_is_ended(folder: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    it = process(folder, stubborn)
    until(lambda: "ready" in it.tail())
    it.end(grace=0.2)
    assert it.poll() is None
    assert it.wait(10) == -signal.SIGKILL
    polite = process(folder, "import time; print('ready', flush=True); time.sleep(60)")
    until(lambda: "ready" in polite.tail())
    polite.end(grace=30)
    assert polite.wait(10) == -signal.SIGTERM
    polite.signal(signal.SIGINT)
    assert polite.poll() == -signal.SIGTERM


def test_a_process_has_no_input_and_a_private_log(folder: Path) -> None:
    it = process(folder, "import sys; print(repr(sys.stdin.read())); sys.exit(4)")
    assert it.wait(10) == 4
    assert it.tail() == "''\n"
    assert stat.S_IMODE((folder / "log").stat().st_mode) == 0o600


def test_the_log_is_bounded_and_keeps_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_LIMIT", 10_000)
    it = process(folder, "import time\nfor i in range(3000): print(i, 'x' * 50, flush=True); time.sleep(0.0002)")
    sizes = []
    while it.poll() is None:
        sizes.append((folder / "log").stat().st_size)
        time.sleep(0.005)
    assert len(sizes) > 20
    assert max(sizes) < 100_000
    assert it.tail().endswith(f"2999 {'x' * 50}\n")


def test_a_process_can_be_bound_to_the_life_of_its_owner(folder: Path) -> None:
    owner = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from jupyter_dsvm.relay.process import KernelProcess\n"
        "p = KernelProcess(['sleep', '60'], os.environ, None, None, die_with_parent=True)\n"
        "print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root = str(Path(kernel.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", owner, root], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    until(lambda: not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text())


# Folders and sockets


def test_private_folders(folder: Path) -> None:
    made = Path(folders.private_folder(str(folder / "a/b/c")))
    assert [stat.S_IMODE(p.stat().st_mode) for p in (made, made.parent, made.parent.parent)] == [0o700] * 3
    assert folders.private_folder(str(made)) == str(made)
    made.chmod(0o750)
    with pytest.raises(folders.FolderError, match=re.escape(f"{made} is not a folder that only this user can enter")):
        folders.private_folder(str(made))
    (folder / "link").symlink_to(folder / "a")
    with pytest.raises(folders.FolderError):
        folders.private_folder(str(folder / "link"))


def test_a_kernels_folder_is_the_same_everywhere_and_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    tag = bytes(range(16))
    monkeypatch.setenv("HOME", "/home/someone")
    assert folders.kernel_folder(tag) == "/home/someone/.local/share/jupyter-dsvm/kernels/0001020304050607"
    monkeypatch.setenv("HOME", "/home/" + "x" * 90)
    long = folders.kernel_folder(tag)
    assert long.startswith(f"/tmp/jupyter-dsvm-{os.getuid()}-")
    assert folders.fits(long)
    monkeypatch.setenv("HOME", "/home/" + "y" * 90)
    assert folders.kernel_folder(tag) != long
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert folders.kernel_folder(tag) == "/data/jupyter-dsvm/kernels/0001020304050607"


def test_sockets_are_private_and_their_peers_known(folder: Path) -> None:
    path = str(folder / "s")
    assert listening.connect(path) is None
    with listening.listen(path) as listener:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        there = listening.connect(path)
        here = listening.accept_same_user(listener)
        assert there is not None
        assert here is not None
        assert listening.accept_same_user(listener) is None
        there.close()
        here.close()
    assert listening.connect(path) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for two users")
def test_a_peer_of_another_user_is_hung_up_on(folder: Path) -> None:
    folder.chmod(0o755)
    path = str(folder / "s")
    with listening.listen(path) as listener:
        os.chmod(path, 0o777)
        code = f"import os, socket; os.setuid(65534); s = socket.socket(1); s.connect({path!r}); print(s.recv(1))"
        stranger = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        listener.settimeout(10)
        assert listening.accept_same_user(listener) is None
        assert stranger.communicate(timeout=10)[0] == "b''\n"


# Kernelspecs


@pytest.fixture
def offers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share/jupyter"))

    def offer(name: str, content: Any) -> Path:
        path = folder / "share/jupyter/kernels" / name
        path.mkdir(parents=True)
        (path / "kernel.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return offer


def named(name: str) -> dict[str, Any] | None:
    return next((s for s in kernelspecs.list_kernelspecs() if s["name"] == name), None)


def test_a_kernelspec_is_told_whole(offers: Callable[..., Path]) -> None:
    path = offers(
        "mine",
        {
            "argv": [sys.executable, "-m", "mine", "{connection_file}"],
            "display_name": "Mine",
            "language": "mine",
            "env": {"A": "1"},
            "interrupt_mode": "message",
            "metadata": {"debugger": True},
        },
    )
    assert named("mine") == {
        "name": "mine",
        "argv": [sys.executable, "-m", "mine", "{connection_file}"],
        "display_name": "Mine",
        "language": "mine",
        "env": {"A": "1"},
        "interrupt_mode": "message",
        "resource_dir": str(path),
        "metadata": {"debugger": True},
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"argv": []},
        {"argv": 5},
        {"display_name": "no argv"},
        {"argv": ["/no/such/program", "{connection_file}"]},
        {"argv": ["no-such-program-on-path"]},
        {"argv": ["python3"], "env": 5},
    ],
)
def test_what_could_not_be_started_is_not_offered(offers: Callable[..., Path], content: Any) -> None:
    offers("broken", content)
    assert named("broken") is None
    assert named("python3") is not None


def test_a_bare_python_is_the_one_the_kernelspec_belongs_to(offers: Callable[..., Path], folder: Path) -> None:
    offers("bare", {"argv": ["python", "{connection_file}"]})
    spec = named("bare")
    assert spec is not None
    assert spec["argv"][0] == sys.executable
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(sys.executable)
    spec = named("bare")
    assert spec is not None
    assert spec["argv"][0] == str(folder / "bin/python")


def test_kernelspecs_are_found_without_jupyter_client(offers: Callable[..., Path]) -> None:
    offers("mine", {"argv": ["/bin/sh"], "language": "sh"})
    code = "import sys; sys.modules['jupyter_client'] = None; from jupyter_dsvm.relay.kernelspecs import main; main()"
    root = str(Path(kernel.__file__).parents[2])
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert {"mine", "python3"} <= {spec["name"] for spec in json.loads(out)}
