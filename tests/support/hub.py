"""A real JupyterHub with its real proxy, which starts and stops its users' real single-user servers.

Where this is possible (``accounts_possible``: root, and mount namespaces) every user has a Unix account, and the hub starts their
servers with the spawner that it has by default. The accounts are in the hub's own ``/etc/passwd`` only: ``hub_host.py``
lays it over the computer's in a mount namespace. Elsewhere all servers run as the account of the tests, with homes of their own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator

from .emulated import settings
from .kernels import until
from .served import OTHERS, RestError, Served, end
from .sshd import free_port
from .tab import Tab

REPOSITORY = Path(__file__).parents[2]
PROXY = (
    REPOSITORY / ".stamps" / "proxy" / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
)
HOST = Path(__file__).with_name("hub_host.py")
CONFIG = Path(__file__).with_name("hub_config.py")

FIRST_UID = 62000
"""Of the accounts: unused by Debian, and by the emulated VMs."""

SERVER = "jupyter_server.serverapp.ServerApp"
"""What the servers run, unless a test is about a page: without JupyterLab it is up sooner."""

needs_proxy = pytest.mark.skipif(
    not PROXY.exists(), reason="configurable-http-proxy is not there: make .stamps/proxy/done"
)


@functools.cache
def accounts_possible() -> bool:
    """Tried, not guessed."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    tried = "d=$(mktemp -d) && mount -t tmpfs none $d; s=$?; umount $d; rmdir $d; exit $s"
    return subprocess.run(["unshare", "--mount", "sh", "-c", tried], capture_output=True).returncode == 0


@dataclass
class Person:
    """A user of the hub. ``home`` is theirs alone where they have an account."""

    name: str
    home: Path
    admin: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    """What their servers get besides what the hub gives."""

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "jupyter"

    @property
    def runtime(self) -> Path:
        return self.data / "runtime"


class Hub:
    """``public`` is the address of the proxy; nothing here goes past it."""

    def __init__(
        self,
        folder: Path,
        people: Sequence[Person],
        *,
        base: str = "/",
        app: str = SERVER,
        accounts: bool = False,
        extra: str = "",
        environment: Mapping[str, str] | None = None,
        login: bool = True,
        port: int | None = None,
    ) -> None:
        """``extra`` is appended to the hub's configuration, ``environment`` is every server's. ``login=False``: ``extra`` says
        how people log in; otherwise everybody may, with any password."""
        folder.mkdir()
        self._folder = folder
        self.people = {person.name: person for person in people}
        self.port = port or free_port()
        self.base = base
        self.log = folder / "log"
        self._secret = secrets.token_hex(16)
        self.api = Served(self.port, self._secret, f"{base}hub/api/")
        self.accounts = accounts
        self._tokens: dict[str, str] = {}
        values: dict[str, Any] = {
            "public": f"http://127.0.0.1:{self.port}{base}",
            "hub": f"http://127.0.0.1:{free_port()}",
            "proxy_api": f"http://127.0.0.1:{free_port()}",
            "proxy": ["node", str(PROXY)],
            "base": base,
            "login": login,
            "token": self._secret,
            "accounts": accounts,
            "command": [sys.executable, "-m", "jupyterhub.singleuser"],
            "environment": {
                # So that what a test leaves behind is found, and nobody's own folders are looked into.
                **{name: value for name, value in os.environ.items() if name.startswith("JUPYTER_DSVM_")},
                "JUPYTER_PLATFORM_DIRS": "0",
                "JUPYTERHUB_SINGLEUSER_APP": app,
                **(environment or {}),
            },
            "people": {
                p.name: {"home": str(p.home), "admin": p.admin, "environment": dict(p.environment)} for p in people
            },
        }
        (folder / "given.json").write_text(json.dumps(values))
        (folder / "given.json").chmod(0o600)
        config = CONFIG.read_text() + "\n" + extra
        (folder / "config.py").write_text(config)
        command = [sys.executable, "-m", "jupyterhub", "-f", "config.py"]
        if accounts:
            host = {
                "accounts": [(p.name, FIRST_UID + n, str(p.home)) for n, p in enumerate(people)],
                "reachable": [sys.base_prefix, sys.prefix, str(REPOSITORY)],
                "command": command,
            }
            (folder / "host.json").write_text(json.dumps(host))
            command = ["unshare", "--mount", "--propagation", "private", sys.executable, str(HOST), "host.json"]
        # None of the tests' own folders: servers have those of their users.
        own = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER_") or k.startswith("JUPYTER_DSVM_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=own
            )

    # People

    def token(self, name: str, **body: Any) -> str:
        """One that this user makes, as on the hub's page "Token"; ``body`` as in the hub's REST API."""
        made: dict[str, Any] = self.api.rest("POST", f"users/{name}/tokens", {"note": "tests", **body})
        return str(made["token"])

    def as_user(self, who: str, of: str = "", server: str = "") -> Served:
        """The server of ``of`` (their own, if nobody is named) through the proxy, with a token of ``who``."""
        if who not in self._tokens:
            self._tokens[who] = self.token(who)
        name = f"{server}/" if server else ""
        return Served(self.port, self._tokens[who], f"{self.base}user/{of or who}/{name}")

    # Their servers

    def spawn(self, name: str, server: str = "") -> Served:
        """Start a user's server, as when they log in; returns it as its user sees it, once the hub says that it is ready."""
        self.api.rest("POST", self._path(name, server))
        self.wait_for(name, server)
        return self.as_user(name, server=server)

    def spawn_all(self, names: Iterable[str]) -> None:
        """All at the same time, as a class does it."""
        wanted = list(names)
        with ThreadPoolExecutor(len(wanted)) as pool:
            for done in [pool.submit(self.spawn, name) for name in wanted]:
                done.result()

    def wait_for(self, name: str, server: str = "") -> None:
        def ready() -> bool:
            found = self.state(name, server)
            assert found, self.log.read_text(errors="replace")[-6000:]  # the hub has given it up
            return bool(found["ready"])

        try:
            until(ready, 120)
        except AssertionError as e:
            raise AssertionError(self.log.read_text(errors="replace")[-6000:]) from e

    def cull(self, name: str, server: str = "") -> None:
        """Stop the user's server, as the idle culler and the user's own "Stop My Server" do."""
        self.api.rest("DELETE", self._path(name, server))

        def stopped() -> bool:
            found = self.state(name, server)
            return not found.get("pending") and not found.get("ready")

        until(stopped, 60)

    def state(self, name: str, server: str = "") -> dict[str, Any]:
        servers = self.api.rest("GET", f"users/{name}?include_stopped_servers")["servers"]
        found: dict[str, Any] = servers.get(server, {})
        return found

    def _path(self, name: str, server: str) -> str:
        return f"users/{name}/servers/{server}" if server else f"users/{name}/server"

    # Its life

    def __enter__(self) -> Hub:
        try:
            until(self._answers, 120)
        except BaseException:
            if self._process.poll() is None:
                end(self._process, 40)  # killed, it would leave its proxy
            self._end_proxy()
            raise
        for person in self.people.values():
            with contextlib.suppress(RestError):  # the configuration has made the administrator
                self.api.rest("POST", f"users/{person.name}")
        return self

    def _end_proxy(self) -> None:
        """Of a hub that failed itself: the proxy has a session of its own."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._folder / "jupyterhub-proxy.pid").read_text()), signal.SIGTERM)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text(errors="replace")
        with contextlib.suppress(OSError, RestError):
            self.api.rest("GET", "")
            return True
        return False

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """It stops the users' servers and its proxy, too."""
        end(self._process, 60)


@contextlib.contextmanager
def homes(people: Mapping[str, bool], accounts: bool) -> Iterator[list[Person]]:
    """Home folders for people, who are administrators or not. Not below pytest's folder, which others may not enter."""
    top = Path(tempfile.mkdtemp(prefix="hub-", dir="/tmp"))
    top.chmod(0o755)
    made = []
    for number, (name, admin) in enumerate(people.items()):
        home = top / name
        home.mkdir(mode=0o700)
        made.append(Person(name, home, admin))
        if accounts:
            os.chown(home, FIRST_UID + number, FIRST_UID + number)
    try:
        yield made
    finally:
        shutil.rmtree(top)


def set_up(emulator: Emulator, person: Person, **sections: dict[str, Any] | None) -> None:
    """Configure a person's servers for the emulated Azure, with a token and a key that are theirs. Sections as in
    ``emulated.settings``."""
    config = person.home / ".jupyter"
    files = {}
    for name in ("token", "id_ed25519", "host_keys", "entra-ca.pem"):
        files[name] = config / name
    azure = {
        "token_file": str(files["token"]),
        "authority_ca_file": str(files["entra-ca.pem"]),
        "ssh_key_file": str(files["id_ed25519"]),
        "host_keys_file": str(files["host_keys"]),
        **(sections.pop("AzureCompute", None) or {}),
    }
    settings(emulator, config, AzureCompute=azure, FreeTier=None, **sections)
    for name, file in files.items():
        shutil.copy(emulator.config_dir / name, file)
        file.chmod(0o600)
    bare(person)


def bare(person: Person, **sections: dict[str, Any]) -> None:
    """A person's servers load no extension that takes long. ``sections``: settings of jupyter-dsvm."""
    config = person.home / ".jupyter"
    config.mkdir(mode=0o700, exist_ok=True)
    values = {
        "jpserver_extensions": {"jupyter_dsvm": True, **dict.fromkeys(OTHERS, False)},
        "allow_root": True,
    }
    (config / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": values}))
    if sections:
        (config / "jupyter_dsvm_config.json").write_text(json.dumps(sections))
    give(person)


def give(person: Person, folder: Path | None = None) -> None:
    """All that is in the home, or in a folder of it, becomes the person's own."""
    owner = person.home.stat()
    for found, folders, files in os.walk(folder or person.home):
        for name in (".", *folders, *files):
            os.chown(os.path.join(found, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


# What a page asks

TRY = """
import json, os, socket, sys
found = {}
for path in json.loads(sys.stdin.read()):
    try:
        if path.endswith(".sock") or "socket" in path:
            socket.socket(socket.AF_UNIX).connect(path)
        else:
            os.listdir(path) if os.path.isdir(path) else open(path).read()
        found[path] = "open"
    except OSError as e:
        found[path] = type(e).__name__
print(json.dumps(found))
"""
"""What an account can open of these files, folders and sockets."""


def compute(server: Served, name: str) -> str:
    """The id of the one machine of that name."""
    found = [c["id"] for c in server.rest("GET", "jupyter-dsvm/computes")["computes"] if c["name"] == name]
    assert len(found) == 1, found
    return str(found[0])


def cell(tab: Tab, code: str) -> str:
    """What it prints; it has to end well."""
    done = tab.run(code, timeout=60)
    assert done.status == "ok", done.content
    return str(done.text.strip())
