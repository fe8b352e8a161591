"""What others could learn or do: other users of the VM, a VM that means harm, and whoever reads this server's files and logs."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import secrets
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import FREE, LinkPhase
from jupyter_dsvm.relay.folders import kernels_folder
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support.emulated import PATIENCE, assert_moved, attached, configured, emulator, refused, service
from support.emulated import where as where_it_runs
from support.hostile_relay import FORGED, hostile
from support.kernels import Execution, Notebook, until
from support.lab_pc import NAME, lab_pc
from support.on_vm import kernel_folders, notebook_on_cpu_vm

__all__ = ["configured", "emulator"]

SECRET = {"SECRET_TOKEN": "s3cret-" + secrets.token_hex(8), "TZ": "Antarctica/Troll"}
"""In this server's environment. A time zone is nothing to hide."""


@pytest.fixture
def namespaces(emulator: Emulator) -> None:
    """The VM is a machine of its own, with other users, so that what is theirs can be told from what is ours."""
    if emulator.vm("cpu-vm")["user"] != "azureuser":
        pytest.skip("needs root: the emulated VMs have no namespaces of their own")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def files_under(folder: Path) -> Iterator[Path]:
    for parent, _folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in files)


def holding(what: bytes, folder: Path) -> list[Path]:
    """The regular files under a folder in which that is written."""
    found = []
    for path in files_under(folder):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 50_000_000:
            continue
        if what in path.read_bytes():
            found.append(path)
    return found


# Kernels of their own. (They come first: the tests further down share one, and with it a connection.)


class Everything(logging.Handler):
    """What is logged at any level, by anybody, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.text = ""
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + f" {record.args!r}\n"


def test_logs_hold_no_secret(configured: Emulator, monkeypatch: pytest.MonkeyPatch):
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    everything, root = Everything(), logging.getLogger()
    level = root.level
    loud = {
        name: logging.getLogger(name) for name in ("jupyter_dsvm", "jupyter_dsvm.ssh.transport", "azure", "paramiko")
    }
    levels = {name: logger.level for name, logger in loud.items()}
    for logger in (root, *loud.values()):
        logger.setLevel(logging.DEBUG)
    root.addHandler(everything)
    try:
        with Notebook() as notebook:
            key = notebook.km.session.key.decode()
            attached(notebook, "cpu-vm")
            notebook.run("%dsvm list")
            notebook.km.restart_kernel()
            assert where_it_runs(notebook) == "cpu-vm"
            refused(notebook, "%dsvm attach nowhere")
            configured.kill_ssh("cpu-vm")
            configured.start_ssh("cpu-vm")
            assert where_it_runs(notebook) == "cpu-vm"
            notebook.run("%dsvm detach", timeout=PATIENCE)
            private = (configured.config_dir / "id_ed25519").read_text().splitlines()[2]
        until(lambda: not [t for t in threading.enumerate() if t.name.startswith("jupyter-dsvm")])
    finally:
        root.removeHandler(everything)
        root.setLevel(level)
        for name, logger in loud.items():
            logger.setLevel(levels[name])
    text = everything.text
    assert "paramiko" in text or "ssh.transport" in text  # it was loud
    assert "microsoft" in text.lower()
    for secret in (key, configured.token, SECRET["SECRET_TOKEN"], private):
        assert secret not in text


def test_a_folder_that_somebody_else_has_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None
):
    """A home folder whose path is too long for sockets: the relay's then lies in /tmp, where others can be faster."""
    data = tmp_path / ("long" * 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(data))
        squatted = Path(kernels_folder())
    assert squatted.parent == Path("/tmp")
    squatted.mkdir(mode=0o777)
    try:
        if os.geteuid() == 0:
            os.chown(squatted, 65534, 65534)
        else:
            squatted.chmod(0o777)
        with lab_pc(tmp_path / "pc", monkeypatch, XDG_DATA_HOME=str(data)), Notebook() as notebook:
            said, _ = refused(notebook, f"%dsvm attach {NAME}")
            assert f"{squatted} is not a folder that only this user can enter" in said
            assert not list(squatted.iterdir())
            squatted.rmdir()
            attached(notebook, NAME)
            assert mode(squatted) == 0o700
    finally:
        subprocess.run(["rm", "-rf", squatted], check=True)


# A VM that means harm


def megabytes(line: str) -> float:
    """This process's memory: now (``VmRSS``), or the most since ``forget_peak`` (``VmHWM``); proc(5)."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(line + ":")[2].split()[0]) / 1024


@dataclasses.dataclass
class Attacked:
    """A notebook on a hostile VM, with another client of the same notebook beside it."""

    notebook: Notebook
    bob: Any
    cell: Execution
    bobs_cell: Execution
    memory: float
    """MB that it has cost at most."""

    def goes_on_here(self) -> None:
        """The notebook returns, and works."""
        assert_moved(self.notebook, FREE)
        assert self.notebook.run("print(6 * 7)").text == "42\n"

    def everything(self) -> str:
        """All that any client was sent."""
        clients = (self.notebook, self.bob)
        said = [m for c in clients for m in (*c.messages, *c.requests_for_input)]
        said += [r for c in clients for e in c.executions.values() for r in e.replies]
        return repr(said)


@pytest.fixture
def attacked(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    dsvm_provisioner: None,
) -> Iterator[Attacked]:
    """What comes of the attack that the test is parametrized with."""
    monkeypatch.setattr("jupyter_dsvm.kernels.link.MAX_MESSAGE", 16 * 1024 * 1024)
    # What earlier tests still owe that machine would be settled over this one's pipe, and its relay knows one kernel only.
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with (
        hostile(request.param),
        lab_pc(tmp_path, monkeypatch),
        Notebook() as notebook,
        notebook.another_client() as bob,
    ):
        bob.run("bobs = 1")
        assert notebook.run(f"%dsvm attach {NAME}", timeout=PATIENCE).status == "ok"
        asked = bob.ask("complete_request", {"code": "x", "cursor_pos": 1})  # so that it knows where he is
        bob.until(lambda: bob.of(asked).over)
        Path("/proc/self/clear_refs").write_text("5")
        before = megabytes("VmRSS")
        (cell,) = notebook.wait(notebook.send("print('from the user')"), timeout=PATIENCE)
        time.sleep(0.2)
        notebook.receive(0.05)
        bob.receive(0.05)
        yield Attacked(notebook, bob, cell, bob.of(asked), megabytes("VmHWM") - before)
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def attack(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attacked", names, indirect=True)


@attack("forged")
def test_a_hostile_vm_reaches_only_the_cell_that_runs_there(attacked: Attacked):
    assert (attacked.cell.status, attacked.cell.text) == ("ok", "an honest line\n")
    assert [m["msg_type"] for m in attacked.cell.published if m["msg_type"] not in ("status", "comm_close")] == [
        "stream"
    ]
    assert len(attacked.cell.replies) == len(attacked.bobs_cell.replies) == 1
    assert FORGED not in attacked.everything()
    assert len({m["header"]["session"] for m in attacked.notebook.messages}) == 1
    assert attacked.memory < 100
    attacked.goes_on_here()


@attack("notes")
def test_what_a_vm_has_to_say_itself_reaches_the_cell_that_runs_there_cut_and_harmless(attacked: Attacked):
    assert attacked.cell.status == "ok"
    assert FORGED not in attacked.everything()
    (said,) = [m["content"]["text"] for m in attacked.cell.outputs("stream") if m["content"]["name"] == "stderr"]
    assert said.startswith("\n[In 1440 min: ")
    assert len(said) < 400
    assert all(c.isprintable() or c == "\n" for c in said)
    attacked.goes_on_here()


@attack("addresses")
def test_an_answer_goes_to_whoever_asked_whatever_address_the_vm_wrote_on_it(attacked: Attacked):
    assert attacked.cell.status == "ok"
    assert len(attacked.cell.replies) == 1
    assert len(attacked.bobs_cell.replies) == 1
    attacked.goes_on_here()


@attack("flood", "much to read")
def test_a_flood_from_a_hostile_vm_costs_bounded_memory_and_reaches_nobody(attacked: Attacked):
    assert attacked.cell.status == "ok"
    assert attacked.cell.text == ""
    assert FORGED not in attacked.everything()
    assert attacked.memory < 250
    attacked.goes_on_here()


NOT_SAID = {
    "length": "a frame says it is 4294967295 bytes long",
    "wrong type": "START is nothing to send to the server",
    "wrong body": "a body that should be JSON is not",
    "endless message": "a message of more than",
    "endless message of nothing": "a message of more than",
    "calls": "does not read the answers",
    "starts": "run 1 of the kernel starts once more",
    "later runs": "run 2 of a kernel that was started 1 times",
    "note to nobody": "a note to a cell without parent header",
    "note of no time": "minutes is no number",
    "exits": "run 9 of a kernel that was started 1 times",
}


@pytest.mark.parametrize(("attacked", "why"), NOT_SAID.items(), ids=NOT_SAID, indirect=["attacked"])
def test_what_no_relay_says_ends_the_link_and_the_cell_says_why(attacked: Attacked, why: str):
    assert attacked.cell.status == "error"
    said = attacked.cell.content["evalue"]
    assert NAME in said
    assert why in said
    assert attacked.cell.outputs("error")[0]["content"]["evalue"] == said
    assert attacked.memory < 150
    assert attacked.notebook.proxy.status.link.state is LinkPhase.GONE
    attacked.goes_on_here()


@attack("dies", "gone")
def test_last_words_of_a_hostile_vm_are_text_and_short(attacked: Attacked):
    assert attacked.cell.status == "error"
    said = attacked.cell.content["evalue"]
    assert "its last words" in said
    assert len(said) < 3000
    assert [c for c in said if not c.isprintable() and c != "\n"] == []
    attacked.goes_on_here()


@attack("addresses")
def test_names_from_a_hostile_vm_are_text(attacked: Attacked):
    attacked.goes_on_here()
    said, _ = refused(attacked.notebook, f"%dsvm attach {NAME} --kernel another")
    assert "has no kernel named 'another'" in said
    assert [c for c in said if not c.isprintable() and c != "\n"] == []


# One kernel on a VM for all that follows


@pytest.fixture(scope="module")
def on_vm(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with notebook_on_cpu_vm(emulator, tmp_path_factory.mktemp("home"), SECRET) as notebook:
        yield notebook


# On the VM


LISTENING = "0A"


def listening(pid: int) -> set[str]:
    """Addresses on which something listens on TCP, in the network that this process is in (proc(5))."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {fields[1] for fields in lines if fields[3] == LISTENING}


def test_nothing_listens_on_tcp(on_vm: Notebook, emulator: Emulator, namespaces: None):
    pid = emulator.vm("cpu-vm")["pid"]
    assert {address.rpartition(":")[2] for address in listening(pid)} == {f"{22:04X}"}  # sshd, and nobody else
    # Nor anywhere that a file's mode says nothing about: abstract unix sockets are open to all.
    names = [line.split()[-1] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    assert not [n for n in names if n.startswith("@")]
    assert [n for n in names if n.endswith("/relay.sock")]


def test_the_relays_folder_is_private(on_vm: Notebook, emulator: Emulator, namespaces: None):
    (folder,) = kernel_folders(emulator, "cpu-vm")
    home = Path(emulator.vm("cpu-vm")["home"])
    uid = home.stat().st_uid
    assert uid != os.getuid()
    parents = [p for p in (folder, *folder.parents) if p.is_relative_to(home / ".local/share/jupyter-dsvm")]
    assert [(mode(p), p.stat().st_uid) for p in parents] == [(0o700, uid)] * 3
    inside = {p.name: p for p in folder.iterdir()}
    assert {"relay.sock", "call.sock", "connection.json", "relay.json", "kernel.log", "relay.log"} <= set(inside)
    for name, path in inside.items():
        assert path.stat().st_uid == uid
        # The channels' sockets are made by the kernel, whose files are made as the account's are.
        assert mode(path) == 0o600 or (path.is_socket() and mode(path) & 0o022 == 0), (name, oct(mode(path)))
    shipped = home / ".local/share/jupyter-dsvm/relay"
    assert mode(shipped) == 0o700
    assert {mode(p) for p in shipped.iterdir()} == {0o600}


def test_the_key_is_told_to_nobody(on_vm: Notebook, emulator: Emulator):
    key = on_vm.km.session.key
    for secret in (key, SECRET["SECRET_TOKEN"].encode(), emulator.token.encode()):
        shown = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                for name in ("cmdline", "environ"):
                    try:
                        shown[entry.name, name] = (entry / name).read_bytes()
                    except OSError:
                        pass
        assert len(shown) > 10
        # This process has that variable, and what it starts here has too; nothing else has.
        mine = SECRET["SECRET_TOKEN"].encode() == secret
        there = {str(row["pid"]) for row in emulator.processes("cpu-vm")}
        assert there
        seen = {(pid, name) for (pid, name), text in shown.items() if secret in text}
        assert not {s for s in seen if s[0] in there or s[1] == "cmdline" or not mine}
    for folder, expected in ((Path(emulator.vm("cpu-vm")["disk"]), 1), (emulator.directory, 1)):
        held = holding(key, folder)
        assert len(held) == expected
        assert all(mode(p) == 0o600 and mode(p.parent) == 0o700 for p in held)
    own_root = Path(f"/proc/{emulator.vm('cpu-vm')['pid']}/root")
    for name in ("tmp", "dev/shm", "run", "var"):
        assert not holding(key, own_root / name) or own_root.resolve() == Path("/")


def test_nothing_of_the_servers_environment_travels(on_vm: Notebook, emulator: Emulator, namespaces: None):
    names = set(json.loads(on_vm.run("import os, json; print(json.dumps(sorted(os.environ)))").text))
    login = set(as_user(emulator, "azureuser", "env -0").decode().split("\0"))
    own = {line.partition("=")[0] for line in login}
    added = names - own
    assert "SECRET_TOKEN" in os.environ
    assert "TZ" in added  # what is listed does travel
    ipython = {
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "FORCE_COLOR",
        "GIT_PAGER",
        "MPLBACKEND",
        "PAGER",
        "TERM",
        "PYDEVD_USE_FRAME_EVAL",
    }
    listed = {"LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    assert added <= listed | ipython | {"JUPYTER_DSVM_SOCKET", "_"}
    values = on_vm.run("print(*os.environ.values())").text
    for secret in (SECRET["SECRET_TOKEN"], emulator.token, str(emulator.config_dir), str(Path.home())):
        assert secret not in values


def as_user(emulator: Emulator, user: str, command: str, input: bytes = b"") -> bytes:
    """What a command prints that some user of cpu-vm runs there."""
    vm = emulator.vm("cpu-vm")
    target = dataclasses.replace(service().known.ssh_target(f"azure:{vm['vm_id']}"), user=user)
    connection = SSHConnection.open(target, HostKeys(emulator.config_dir / "host_keys"))
    try:
        code, out, err = connection.run(command, input)
    finally:
        connection.close()
    assert code == 0, err
    return out


TRY = """
import json, os, socket, sys
said = {}
for path in json.load(sys.stdin):
    try:
        if path.endswith(".sock"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(5)
            s.connect(path)
            s.sendall(b'{"line": "status", "version": 1}\\n')
            said[path] = "answered" if s.recv(1) else "hung up"
        else:
            open(path, "rb").read(1)
            said[path] = "read"
    except ConnectionError:
        said[path] = "hung up"
    except OSError as e:
        said[path] = type(e).__name__
print(json.dumps(said))
"""


def test_another_user_of_the_vm_reaches_nothing(on_vm: Notebook, emulator: Emulator, namespaces: None):
    vm = emulator.vm("cpu-vm")
    (folder,) = kernel_folders(emulator, "cpu-vm")
    seen = Path("/home/azureuser") / folder.relative_to(vm["home"])
    python = on_vm.run("import sys; print(sys.executable)").text.strip()
    (pid,) = on_vm.run("import os; print(os.getpid())").text.split()
    paths = [str(seen / p.name) for p in folder.iterdir()] + [f"/proc/{pid}/environ", f"/proc/{pid}/fd/1"]

    def tried(user: str) -> dict[str, str]:
        answers: dict[str, str] = json.loads(
            as_user(emulator, user, f"{python} -c '{TRY.replace(chr(39), chr(34) * 3)}'", json.dumps(paths).encode())
        )
        return answers

    assert set(tried("visitor").values()) == {"PermissionError"}
    # Were the folder open, the sockets would still ask the kernel (of the machine) who it is that connects.
    opened = [Path(vm["home"]), *[p for p in folder.parents if p.is_relative_to(vm["home"])], folder]
    before = [(p, mode(p)) for p in (*opened, *folder.glob("*.sock"))]
    try:
        for path, was in before:
            path.chmod(was | 0o777)
        told = tried("visitor")
        assert {Path(p).name: s for p, s in told.items() if p.endswith(".sock")} == {
            "relay.sock": "hung up",
            "call.sock": "hung up",
        }
    finally:
        for path, was in before:
            path.chmod(was)
    assert on_vm.run("%dsvm status").text.startswith("This notebook runs on cpu-vm")


# %dsvm on a VM


def test_the_socket_of_the_magic_takes_no_nonsense(on_vm: Notebook, emulator: Emulator):
    """From a cell of the user, or what the cell has installed there."""
    done = on_vm.run(
        """
import json, os, socket
path = os.environ["JUPYTER_DSVM_SOCKET"]
def say(data):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.settimeout(20)
        try:
            s.sendall(data)
            return s.makefile().readline()
        except ConnectionError:
            return ""
for data in (b"x" * 1_000_000, b"\\xff\\0\\n", b"[]\\n", b"null\\n", b"[" * 60_000 + b"\\n", b"GET / HTTP/1.1\\r\\n\\r\\n"):
    assert say(data) == "", data[:20]
held = []
for _ in range(100):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(20)
    held.append(s)
refused = [s for s in held[40:] if s.recv(1) == b""]
for s in held:
    s.close()
print(len(refused), "refused")
while not say(b'{"line": "status", "version": 1}\\n'):
    pass  # until the relay has noticed that they are gone
for line in (7, None, "x" * 60_000, "status; rm -rf /", "stop cpu-vm", "start gpu-vm", "\\x1b[2J"):
    answer = say(json.dumps({"line": line, "version": 1}).encode() + b"\\n")
    assert answer, repr(line)[:50]
    print(json.loads(answer)["error"]["code"])
""",
        timeout=PATIENCE,
    )
    assert done.status == "ok", done.content
    first, *codes = done.text.split("\n")[:-1]
    assert first == "60 refused"
    assert set(codes[:3]) == {"BadRequest"}
    assert codes[4:6] == ["NotAllowed", "NotAllowed"]
    assert on_vm.run("%dsvm status").text.startswith("This notebook runs on cpu-vm")
    assert emulator.vm("cpu-vm")["power_state"] == "running"


def test_many_lines_at_once_from_a_vm_are_bounded(on_vm: Notebook):
    """Each is worked on by a thread of the server."""
    threads = threading.active_count()
    most = []
    cell = on_vm.send(
        """
import json, os, socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect(os.environ["JUPYTER_DSVM_SOCKET"])
    s.sendall(b'{"line": "list", "version": 1}\\n' * 2000)
    answers = [json.loads(line) for _, line in zip(range(2000), s.makefile())]
print(sum("result" in a for a in answers), sum(a.get("error", {}).get("code") == "Busy" for a in answers))
"""
    )

    def over() -> bool:
        most.append(threading.active_count())
        return on_vm.of(cell).over

    on_vm.until(over, PATIENCE)
    assert on_vm.of(cell).status == "ok", on_vm.of(cell).content
    answered, busy = map(int, on_vm.of(cell).text.split())
    assert answered + busy == 2000
    assert answered >= 16
    assert max(most) <= threads + 40


# On this server


def test_what_lies_here_is_private(on_vm: Notebook, emulator: Emulator):
    key = on_vm.km.session.key
    assert mode(Path(on_vm.km.connection_file)) == 0o600  # jupyter_client's own
    assert mode(on_vm.proxy.folder) == 0o700
    assert {mode(p) for p in on_vm.proxy.folder.iterdir() if p.name == "call"} == {0o600}
    service().allowance.take(service().known.find("gpu-vm"))  # as when code starts it: that is written down
    data = Path(jupyter_data_dir()) / "jupyter-dsvm"
    written = {p.name: mode(p) for p in files_under(data)}
    assert {"pythons.json", "starts.jsonl"} <= set(written)
    assert set(written.values()) == {0o600}
    assert mode(data) == 0o700
    for folder in (Path(jupyter_runtime_dir()), data.parent, Path(os.environ["HOME"])):
        for path in holding(key, folder):
            assert mode(path) == 0o600, path
    assert mode(emulator.config_dir / "host_keys") == 0o600
