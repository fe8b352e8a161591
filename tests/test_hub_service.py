"""The broker as a real JupyterHub runs it: its scopes decide who may ask, and a broker that is killed goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.hub.people import HubPeople
from support.broker import vm
from support.emulated import writes
from support.kernels import until
from support.sshd import free_port

pytest.importorskip("jupyterhub")

HUB = """
import json, sys
from pathlib import Path
from jupyterhub.proxy import Proxy

given = json.loads(Path({given!r}).read_text())


class NoProxy(Proxy):
    should_start = False

    async def add_route(self, routespec, target, data):
        pass

    async def delete_route(self, routespec):
        pass

    async def get_all_routes(self):
        return {{}}


c = get_config()
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = given["public"]
c.JupyterHub.hub_bind_url = given["hub"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Spawner.poll_interval = 1  # also of its services, which it starts again
c.JupyterHub.services = [
    {{"name": "tests", "api_token": given["token"]}},
    {{
        "name": "dsvm",
        "url": given["broker"],
        "oauth_no_confirm": True,
        "api_token": given["broker_token"],
        "command": [sys.executable, "-m", "jupyter_dsvm.hub", "--config", given["config"]],
        "environment": given["environment"],
    }},
]
c.JupyterHub.load_groups = {{"vision": {{"users": ["ada"]}}, "staff": {{"users": ["grace"]}}}}
c.JupyterHub.load_roles = [
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "tokens"]}},
    {{"name": "user", "scopes": ["self", "access:services!service=dsvm"]}},
    {{"name": "dsvm", "services": ["dsvm"], "scopes": ["list:users", "read:users:groups"]}},
]
"""


@dataclass
class School:
    api: str
    token: str
    broker: str
    folder: Path

    def hub(self, method: str, path: str, body: Any = None) -> Any:
        return self._send(method, f"{self.api}/{path}", self.token, body)[1]

    def ask(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self._send(method, f"{self.broker}/services/dsvm/{path}", token, body)

    def token_of(self, name: str, scopes: list[str] | None = None) -> str:
        body = {"note": "test"} if scopes is None else {"note": "test", "scopes": scopes}
        return str(self.hub("POST", f"users/{name}/tokens", body)["token"])

    @staticmethod
    def _send(method: str, url: str, token: str, body: Any) -> tuple[int, Any]:
        data = None if method in ("GET", "DELETE") else json.dumps(body or {}).encode()
        request = urllib.request.Request(url, data, {"Authorization": f"token {token}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as e:
            with e:
                return e.code, json.loads(e.read() or b"{}")

    def answers(self) -> bool:
        try:
            return self.ask("", "GET", "computes")[0] == 401
        except OSError:
            return False

    def pid(self) -> int:
        """Of the broker."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"{self.folder}/broker.py".encode() in (entry / "cmdline").read_bytes():
                    return int(entry.name)
        return 0


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = (vm("class-vm", group="vision"), vm("ada-vm", user="ada"))
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        yield running


@pytest.fixture(scope="module")
def school(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    with running_school(emulator, tmp_path_factory.mktemp("school")) as made:
        yield made


@pytest.fixture
def other_school(emulator: Emulator, tmp_path: Path) -> Iterator[School]:
    """For what leaves other processes than it found."""
    with running_school(emulator, tmp_path) as made:
        yield made


@contextlib.contextmanager
def running_school(emulator: Emulator, folder: Path) -> Iterator[School]:
    of_azure = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())["AzureCompute"]
    (folder / "broker.py").write_text(
        "c = get_config()\n"
        + "".join(f"c.AzureCompute.{name} = {value!r}\n" for name, value in of_azure.items())
        + f"c.AzureCompute.polling_interval = 0.2\nc.DSVMBroker.state_dir = {str(folder / 'state')!r}\n"
        + f"c.DSVMBroker.audit_file = {str(folder / 'audit.jsonl')!r}\nc.HubPolicy.teachers = ['group:staff']\n"
        + "c.Broker.listing_seconds = 1\nc.Broker.look_seconds = 0.2\nc.DSVMBroker.watch_seconds = 0.5\n"
    )
    token, broker = secrets.token_hex(16), f"http://127.0.0.1:{free_port()}"
    hub = f"http://127.0.0.1:{free_port()}"
    marks = {name: value for name, value in os.environ.items() if name.startswith("JUPYTER_DSVM_")}
    given = {
        "public": f"http://127.0.0.1:{free_port()}",
        "hub": hub,
        "token": token,
        "broker": broker,
        "broker_token": secrets.token_hex(16),
        "config": str(folder / "broker.py"),
        "environment": {**marks, "JUPYTER_PLATFORM_DIRS": "0", "JUPYTER_DATA_DIR": str(folder / "data")},
    }
    (folder / "given.json").write_text(json.dumps(given))
    (folder / "config.py").write_text(HUB.format(given=str(folder / "given.json")))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "config.py"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    made = School(f"{hub}/hub/api", token, broker, folder)
    try:
        until(lambda: made.answers() and "JupyterHub is now running" in (folder / "log").read_text(), 60)
        for name in ("ada", "bob", "grace"):
            made.hub("POST", f"users/{name}")
        yield made
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.timeout(180)  # a hub comes up
def test_who_may_ask_is_said_by_the_hub_s_scopes(school: School):
    names = {}
    for name in ("ada", "bob", "grace"):
        status, found = school.ask(school.token_of(name), "GET", "computes")
        assert status == 200, found
        names[name] = {row["name"] for row in found["computes"]}
    assert names == {"ada": {"class-vm", "ada-vm"}, "bob": set(), "grace": {"class-vm", "ada-vm"}}
    narrow = school.token_of("ada", ["read:users!user=ada"])
    status, found = school.ask(narrow, "GET", "computes")
    assert (status, found["code"]) == (403, "ScopeMissing")
    assert school.ask(school.token, "GET", "computes")[0] == 401, "a service's token is nobody's"
    assert school.ask("nonsense", "GET", "computes")[0] == 401
    assert school.ask(school.token_of("grace"), "GET", "whoami")[1]["teacher"] is True
    assert school.ask(school.token_of("ada"), "GET", "admin/overview")[0] == 403
    status, overview = school.ask(school.token_of("grace"), "GET", "admin/overview")
    assert (status, sorted(v["name"] for v in overview["vms"])) == (200, ["ada-vm", "class-vm"])
    token = json.loads((school.folder / "given.json").read_text())["broker_token"]
    people = HubPeople("dsvm", api_url=school.api, api_token=token)
    assert people.everybody() == {"ada": {"vision"}, "bob": set(), "grace": {"staff"}}
    narrow = HubPeople("dsvm", api_url=school.api, api_token=school.token_of("ada", ["access:services!service=dsvm"]))
    assert narrow.everybody() is None


@pytest.mark.timeout(180)
def test_a_broker_killed_in_the_middle_of_a_start_goes_on(other_school: School, emulator: Emulator):
    """The hub starts it again; Azure is not asked a second time, and the page finds the operation that it followed."""
    school = other_school
    emulator.set_timings(start=6.0, deallocate=0.3)
    ada = school.token_of("ada")
    (row,) = [r for r in school.ask(ada, "GET", "computes")[1]["computes"] if r["name"] == "ada-vm"]
    before = len(emulator.traffic)
    status, operation = school.ask(ada, "POST", f"computes/{row['id']}/start")
    assert status == 202, operation
    until(lambda: emulator.vm("ada-vm")["power_state"] == "starting", 30)
    until(lambda: any("start_operation" in p.read_text() for p in (school.folder / "state/changes").glob("*.json")), 30)
    first = school.pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: school.pid() not in (0, first) and school.answers(), 60)

    def ended() -> Any:
        found = school.ask(ada, "GET", f"operations/{operation['id']}")[1]
        return found if found["state"] != "running" else None

    until(ended, 60)
    assert ended()["state"] == "done", ended()
    assert emulator.vm("ada-vm")["power_state"] == "running"
    assert len(writes(emulator, before)) == 1, writes(emulator, before)
    lines = [json.loads(line) for line in (school.folder / "audit.jsonl").read_text().splitlines()]
    assert [(li["action"], li["person"], li["outcome"]) for li in lines if li["action"] == "start"] == [
        ("start", "ada", "begun"),
        ("start", "ada", "ok"),
    ]
    assert (school.folder / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    for path in (school.folder / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


class Browser:
    """Follows redirects between the hub and the broker as if one proxy stood before both, and keeps cookies."""

    def __init__(self, school: School) -> None:
        self._school = school
        self._cookies = urllib.request.HTTPCookieProcessor()
        self._opener = urllib.request.build_opener(self._cookies, _NotByItself())

    def cookie(self, name: str, path: str) -> str:
        return next((c.value or "" for c in self._cookies.cookiejar if c.name == name and c.path == path), "")

    def go(self, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        for _ in range(12):
            origin = self._school.api.removesuffix("/hub/api") if path.startswith("/hub/") else self._school.broker
            data = urllib.parse.urlencode(form).encode() if form is not None else None
            try:
                with self._opener.open(urllib.request.Request(origin + path, data), timeout=30) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as e:
                with e:
                    if e.code not in (302, 303):
                        return e.code, e.read().decode()
                    path, form = e.headers["Location"], None
        raise AssertionError("it goes round in circles")


class _NotByItself(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def signed_in(school: School, name: str) -> Browser:
    browser = Browser(school)
    status, page = browser.go("/services/dsvm/")
    assert (status, "login" in page.lower()) == (200, True)
    form = {"username": name, "password": "x", "_xsrf": browser.cookie("_xsrf", "/hub/")}
    browser.go("/hub/login?next=%2Fhub%2Fapi", form)
    return browser


@pytest.mark.timeout(180)
def test_the_teacher_s_page(school: School, emulator: Emulator):
    emulator.set_timings(start=0.3, deallocate=0.3)
    if emulator.vm("ada-vm")["power_state"] == "running":  # an earlier test has left it on
        emulator.power("ada-vm", "deallocate")
    emulator.power("class-vm", "start")
    student = signed_in(school, "ada")
    status, page = student.go("/services/dsvm/")
    assert (status, "class-vm" in page) == (403, False)
    grace = signed_in(school, "grace")
    until(lambda: "Stop class-vm" in grace.go("/services/dsvm/")[1], 30)
    status, page = grace.go("/services/dsvm/")
    assert status == 200
    assert ">class-vm<" in page
    assert "<script" not in page
    stop = re.search(r'name="vm" value="(hub:[0-9a-f-]+)">\s*<button aria-label="Stop class-vm">', page)
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page)
    assert stop is not None
    assert xsrf is not None
    assert grace.go("/services/dsvm/", {"vm": stop[1]})[0] == 403, "without the page's token"
    assert emulator.vm("class-vm")["power_state"] == "running"
    assert student.go("/services/dsvm/", {"vm": stop[1], "_xsrf": xsrf[1]})[0] == 403
    status, page = grace.go("/services/dsvm/", {"vm": stop[1], "_xsrf": xsrf[1]})
    assert (status, "is being stopped." in page) == (200, True)
    until(lambda: grace.go("/services/dsvm/")[1].count(">deallocated<") == 2, 30)
    assert emulator.vm("class-vm")["power_state"] == "deallocated"
    status, page = grace.go("/services/dsvm/", {"vm": "*", "_xsrf": xsrf[1]})
    assert (status, "None of them is on." in page) == (200, True)
