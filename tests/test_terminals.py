"""A terminal of the server whose shell is on a machine: a real server, a real terminal, a real SSH server."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import jupyter_runtime_dir
from tornado.httpclient import HTTPClientError

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import HostKeyError, OperationRefused
from jupyter_dsvm.models import PowerState, SSHTarget
from jupyter_dsvm.ownfolder import OwnFolder, sweep
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.ssh.hostkeys import HostKeys
from jupyter_dsvm.ssh.openssh import arguments_of, command_line
from jupyter_dsvm.terminals import Prepared, Terminals, open_terminal
from support.emulated import configured, emulator, settings
from support.fakes import FakeCompute, FakeFree, dsvm, windows
from support.kernels import until
from support.served import JupyterServer, RestError
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401
from support.sshd import SSHServer, sshd

__all__ = ["configured", "emulator"]

CPU, GPU, WIN = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED), windows("win-vm")


class Terminal:
    """The page's side of one."""

    def __init__(self, server: JupyterServer, name: str) -> None:
        self._socket = server.websocket(f"terminals/websocket/{name}")
        self.seen = ""

    def type(self, text: str) -> None:
        self._socket.send(json.dumps(["stdin", text]))

    def until(self, text: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            kind, *rest = json.loads(self._socket.recv())
            if kind == "stdout":
                self.seen += rest[0]
            assert kind != "disconnect", self.seen

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def opened(server: JupyterServer, name: str) -> Iterator[Terminal]:
    terminal = Terminal(server, name)
    try:
        yield terminal
    finally:
        terminal.close()


def folders() -> list[Path]:
    return list(Path(jupyter_runtime_dir()).glob("jupyter-dsvm-*/terminals/*"))


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as running:
        yield running


def test_a_shell_on_the_machine(server: JupyterServer, configured: Emulator):
    ids = {c["name"]: c["id"] for c in server.rest("GET", "jupyter-dsvm/computes")["computes"]}
    name = server.rest("POST", f"jupyter-dsvm/computes/{ids['cpu-vm']}/terminals", {}, 201)["name"]
    assert [t["name"] for t in server.rest("GET", "api/terminals")] == [name]
    with opened(server, name) as terminal:
        terminal.type("echo on-$DSVM_NAME\r")
        terminal.until("on-cpu-vm")
        (folder,) = folders()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}
        assert [f.name for f in folder.iterdir()] == ["known_hosts"]
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert configured.token not in lines
        terminal.type("exit\r")
        until(lambda: not folders())
    until(lambda: server.rest("GET", "api/terminals") == [])

    # Closed in the page, while the shell is open.
    name = server.rest("POST", "jupyter-dsvm/computes/cpu-vm/terminals", {}, 201)["name"]
    with opened(server, name) as terminal:
        terminal.type("echo again-$DSVM_NAME\r")
        terminal.until("again-cpu-vm")
        assert len(folders()) == 1
        server.rest("DELETE", f"api/terminals/{name}", status=204)
        until(lambda: not folders())

    # A line that somebody pastes does the same.
    line = server.rest("GET", f"jupyter-dsvm/computes/{ids['cpu-vm']}/ssh")["command"]
    assert line.startswith("ssh ")
    done = subprocess.run(["sh", "-c", f"{line} 'echo $DSVM_NAME'"], capture_output=True, text=True, timeout=30)
    assert done.stdout == "cpu-vm\n", done.stderr

    # What cannot be.
    for compute, code in (("gpu-vm", "ComputeNotRunning"), ("win-vm", "WindowsNotSupported"), ("free", "FreeTier")):
        for method, what in (("POST", "terminals"), ("GET", "ssh")):
            with pytest.raises(RestError) as refused:
                server.rest(method, f"jupyter-dsvm/computes/{compute}/{what}", {} if method == "POST" else None)
            assert (refused.value.status, refused.value.answer["code"]) == (409, code)
    assert server.rest("GET", "api/terminals") == []
    assert folders() == []


def test_a_machine_that_goes_away_says_so_in_the_terminal(server: JupyterServer, configured: Emulator):
    name = server.rest("POST", "jupyter-dsvm/computes/cpu-vm/terminals", {}, 201)["name"]
    with opened(server, name) as terminal:
        terminal.type("echo on-$DSVM_NAME\r")
        terminal.until("on-cpu-vm")
        configured.kill_ssh("cpu-vm")
        terminal.until("The connection to cpu-vm has ended. Press Enter to close this terminal.", 60)
        with pytest.raises(RestError) as refused:
            server.rest("POST", "jupyter-dsvm/computes/cpu-vm/terminals", {})
        assert refused.value.answer["code"] == "Unreachable"
        terminal.type("\r")
        until(lambda: server.rest("GET", "api/terminals") == [])
    assert folders() == []


# Who is let in


Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> FakeCompute:
    made = FakeCompute(CPU, GPU, WIN)
    monkeypatch.setattr(DSVMService, "_make_providers", lambda self: [FakeFree(), made])
    return made


@pytest.fixture
def jp_server_config(cloud: FakeCompute, request: pytest.FixtureRequest) -> dict[str, Any]:
    extensions = {"jupyter_dsvm": True, "jupyter_server_terminals": True}
    app: dict[str, Any] = {"jpserver_extensions": extensions, "allow_unauthenticated_access": False}
    return {"ServerApp": {**app, **getattr(request, "param", {})}}


async def asked(jp_fetch: Fetch, method: str, *path: str, **options: Any) -> tuple[int, Any]:
    body = "" if method == "POST" else None
    try:
        answer = await jp_fetch("jupyter-dsvm", *path, method=method, body=body, **options)
    except HTTPClientError as e:
        answer = e.response
    return answer.code, json.loads(answer.body)


@pytest.mark.parametrize("jp_server_config", [{"terminals_enabled": False}], indirect=True)
async def test_not_where_terminals_are_turned_off(jp_fetch: Fetch):
    status, answer = await asked(jp_fetch, "POST", "computes", CPU.id, "terminals")
    assert (status, answer["code"]) == (409, "TerminalsOff")
    assert "terminals_enabled" in answer["advice"]


@pytest.mark.parametrize("denied", ["write", "execute"])
async def test_not_for_who_may_not_use_terminals(
    jp_fetch: Fetch, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch, denied: str
):
    def is_authorized(handler: Any, user: Any, action: str, resource: str) -> bool:
        return (action, resource) != (denied, "terminals")

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", is_authorized)
    status, answer = await asked(jp_fetch, "POST", "computes", CPU.id, "terminals")
    assert (status, answer["code"]) == (403, "NotAllowed")
    assert answer["message"] == "You may not use terminals on this Jupyter server."


async def test_not_for_who_may_only_read(jp_fetch: Fetch, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", lambda h, u, action, r: action == "read")
    assert (await asked(jp_fetch, "POST", "computes", CPU.id, "terminals"))[0] == 403


async def test_not_for_strangers(jp_fetch: Fetch):
    for method, what in (("POST", "terminals"), ("GET", "ssh")):
        status, _ = await asked(jp_fetch, method, "computes", CPU.id, what, headers={"Authorization": "token wrong"})
        assert status == 403


async def test_not_without_a_client(jp_fetch: Fetch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    status, answer = await asked(jp_fetch, "POST", "computes", CPU.id, "terminals")
    assert (status, answer["code"]) == (409, "NoSSHClient")
    assert "openssh-client" in answer["advice"]


# The parts


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SSHServer]:
    with sshd(tmp_path) as running:
        yield running


class Manager:
    """As jupyter_server_terminals' ``TerminalManager``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.terminals: dict[str, Any] = {}

    def create(self, shell_command: list[str]) -> dict[str, str]:
        if self.error is not None:
            raise self.error
        self.terminals["7"] = type("Pty", (), {"clients": []})()
        return {"name": "7"}


def test_a_terminal_that_cannot_be_made_leaves_no_files():
    forgotten: list[int] = []
    prepared = Prepared(("ssh",), lambda: forgotten.append(1))
    with pytest.raises(OSError, match="no pty"):
        open_terminal(Manager(OSError("no pty")), prepared)
    assert forgotten == [1]
    manager = Manager()
    assert open_terminal(manager, prepared) == "7"
    (watcher,) = manager.terminals["7"].clients
    watcher.on_pty_read("text")
    assert (watcher.size, forgotten) == ((None, None), [1])
    watcher.on_pty_died()
    assert forgotten == [1, 1]


def test_a_line_for_every_shell(machine: SSHServer, tmp_path: Path):
    """Quoted, with pinned host keys only, and through a proxy command."""
    keys = HostKeys(tmp_path / "it's a folder" / "known_hosts")
    target = machine.target(name="vm; touch pwned", proxy_command=f"nc 127.0.0.1 {machine.port}")
    if not Path("/bin/nc").exists() and not Path("/usr/bin/nc").exists():
        target = machine.target(name="vm; touch pwned")
    keys.pin(str(target.pinned_key_id), machine.host_key_line)
    line = command_line(target, keys.file_of(target))
    assert machine.key_file.read_text().splitlines()[1] not in line
    done = subprocess.run(
        ["sh", "-c", f"{line} 'echo there'"], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert done.stdout == "there\n", done.stderr
    keys.pin(str(target.pinned_key_id), (machine.folder / "client_key.pub").read_text())
    done = subprocess.run(
        ["sh", "-c", f"{line} 'echo there'"], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr
    assert not (tmp_path / "pwned").exists()
    assert command_line(SSHTarget("host:lab", "lab pc", "h"), tmp_path) == "ssh -- 'lab pc'"
    with pytest.raises(OperationRefused) as refused:
        command_line(machine.target(certificates=(object(),), key_files=()), tmp_path)
    assert refused.value.code == "CertificateOnly"


def test_files_are_private(machine: SSHServer, tmp_path: Path):
    words = arguments_of(machine.target(), [machine.host_key_line], tmp_path / "way")
    assert stat.S_IMODE((tmp_path / "way" / "known_hosts").stat().st_mode) == 0o600
    assert words[-2:] == ["--", "127.0.0.1"]


def test_an_unknown_host_key_is_not_accepted(cloud: FakeCompute, tmp_path: Path):
    class Unknown:
        host_keys = HostKeys(tmp_path / "pins")

    target = SSHTarget(CPU.id, CPU.name, "127.0.0.1", pinned_key_id="x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloud, "ssh_target", lambda compute_id: target)
        service = DSVMService()
        try:
            terminals = Terminals(service.known, Unknown(), OwnFolder(tmp_path))  # type: ignore[arg-type]
            with pytest.raises(HostKeyError) as refused:
                terminals.ssh_command("cpu-vm")
        finally:
            service.close()
    assert refused.value.code == "HostKeyUnknown"


def test_a_servers_own_folder_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, other, left = OwnFolder(tmp_path), OwnFolder(tmp_path), OwnFolder(tmp_path)
    assert not folder.path.exists()
    for one in (folder, other, left):
        made = one.sub("terminals")
        assert {stat.S_IMODE(p.stat().st_mode) for p in (made, one.path)} == {0o700}
    (folder.sub("terminals") / "file").write_text("x")
    folder.remove()
    folder.remove()
    assert not folder.path.exists()
    with pytest.raises(OSError, match="stopping"):
        folder.sub("kernels")
    monkeypatch.setattr("jupyter_dsvm.ownfolder.MIN_AGE", 0.0)
    os.close(left._held)  # type: ignore[arg-type]  # its process was killed
    (tmp_path / "jupyter-dsvm-x").mkdir()  # somebody else's
    assert sweep(tmp_path) == 1
    assert other.path.exists()
    assert not left.path.exists()
    other.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["jupyter-dsvm-x"]
