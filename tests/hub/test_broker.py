"""A class with a broker, as docs/hub.md and docs/broker.md set it up: nobody has an Azure account, all share one DSVM, and each is
alone there. A real hub, its proxy, the broker as its service, and real servers of users."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from jupyter_dsvm.emulator import Emulator
from support.broker import vm
from support.emulated import HERE, WHERE
from support.hub import TRY, Hub, accounts_possible, bare, cell, compute, homes, needs_proxy
from support.restarted import attach
from support.school import School
from support.school import school as school_of
from support.served import Served
from support.tab import Tab

pytestmark = [needs_proxy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = (vm("class-vm", power="running", group="vision"), vm("ada-vm", user="ada"), vm("nobodys-vm"))
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        if running.vm("class-vm")["user"] != "azureuser":
            pytest.skip("the broker makes accounts, which VMs that share this computer cannot have")
        yield running


@pytest.fixture(scope="module")
def made(azure: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    with homes({"ada": False, "bob": False, "teacher": True}, accounts_possible()) as people:
        for person in people:
            bare(person)
        with school_of(
            azure,
            tmp_path_factory.mktemp("school"),
            people,
            {"vision": ["ada", "bob"]},
            accounts=accounts_possible(),
            HubPolicy={"teachers": ["teacher"]},
        ) as one:
            one.hub.spawn_all(("ada", "bob"))
            yield one


@pytest.fixture(scope="module")
def school(made: School) -> Hub:
    return made.hub


@pytest.fixture(autouse=True)
def kernels_end(school: Hub) -> Iterator[None]:
    yield
    for name in ("ada", "bob"):
        school.as_user(name).end_kernels()


def names(server: Served) -> set[str]:
    found = server.rest("GET", "jupyter-dsvm/computes?refresh=true")
    assert found["problems"] == []
    return {c["name"] for c in found["computes"]}


def test_each_has_an_account_of_their_own_on_the_class_s_machine(school: Hub):
    ada, bob = school.as_user("ada"), school.as_user("bob")
    assert names(ada) == {"Free tier", "class-vm", "ada-vm"}
    assert names(bob) == {"Free tier", "class-vm"}
    tabs: dict[str, Tab] = {}
    try:
        for name, server in (("ada", ada), ("bob", bob)):
            kernel_id = server.open("lesson.ipynb")["kernel"]["id"]
            attach(server, kernel_id, compute(server, "class-vm"))
            tabs[name] = Tab(server, kernel_id)
            assert cell(tabs[name], WHERE) == "class-vm"
            cell(tabs[name], f"open('secret.txt', 'w').write('of {name}')")
        look = (
            "import getpass, os; print(getpass.getuser(), os.path.expanduser('~'), os.environ['JUPYTER_DSVM_SOCKET'])"
        )
        (hers, her_home, her_socket), (his, his_home, his_socket) = (cell(t, look).split() for t in tabs.values())
        assert hers.startswith("jd-")
        assert his.startswith("jd-")
        assert hers != his
        for tab, others in ((tabs["ada"], [his_home, his_socket]), (tabs["bob"], [her_home, her_socket])):
            code = TRY.replace("sys.stdin.read()", repr(json.dumps(others)))
            assert json.loads(cell(tab, code)) == dict.fromkeys(others, "PermissionError")
            # No sudo, and nothing of the hub's or Azure's.
            assert cell(tab, "import os; print([n for n in os.environ if 'HUB' in n or 'AZURE' in n])") == "[]"
        for (name, tab), server in zip(tabs.items(), (ada, bob), strict=True):
            attach(server, tab.kernel_id, "free")
            assert cell(tab, WHERE) == HERE, name
    finally:
        for tab in tabs.values():
            tab.close()


def test_no_token_does_what_is_another_s(made: School, school: Hub):
    hers, his, teachers = (school.token(name) for name in ("ada", "bob", "teacher"))
    rows = {
        name: {r["name"]: r["id"] for r in made.ask(t, "computes")[1]["computes"]}
        for name, t in (("ada", hers), ("bob", his), ("teacher", teachers))
    }
    assert set(rows["ada"]) == {"class-vm", "ada-vm"}
    assert set(rows["bob"]) == {"class-vm"}
    assert set(rows["teacher"]) >= {"class-vm", "ada-vm"}
    her_vm = rows["ada"]["ada-vm"]
    certificate = {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPQ1nH8tPEjtkMmyWhSlgiLzVwZ6XkOQXbUZ6Yw7WJpX"}
    for method, path, body in (
        ("GET", f"computes/{her_vm}", None),
        ("POST", f"computes/{her_vm}/start", {}),
        ("POST", f"computes/{her_vm}/stop", {}),
        ("POST", f"computes/{her_vm}/certificate", certificate),
        ("POST", f"computes/{her_vm}/access", {}),
    ):
        status, answer = made.ask(his, path, method, body)
        assert status in (403, 404), (path, answer)
        assert "certificate" not in answer
        assert made.ask("0" * 32, path, method, body)[0] == 401
        assert made.ask(school.token("ada", scopes=["read:users!user"]), path, method, body)[0] == 403
    for path in ("admin/overview", "metrics"):
        assert made.ask(hers, path)[0] == 403, path
        assert made.ask(teachers, path)[0] == 200, path
    assert made.ask(hers, "admin/stop", "POST", {})[0] == 403
    # Making and resizing are for nobody, and the rule is named.
    status, answer = made.ask(hers, f"computes/{her_vm}/resize", "POST", {"size": "Standard_D8ds_v5"})
    assert status == 403
    assert "HubPolicy.may_resize" in answer["message"]


def test_no_server_holds_anything_of_azure_s(school: Hub, azure: Emulator):
    ada = school.as_user("ada")
    assert names(ada)
    kernel_id = ada.open("environment.ipynb")["kernel"]["id"]
    with Tab(ada, kernel_id) as tab:
        attach(ada, kernel_id, compute(ada, "class-vm"))
        assert cell(tab, WHERE) == "class-vm"
    secret = azure.token.encode()
    for file in school.people["ada"].home.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert secret not in content, file
            assert b"PRIVATE KEY" not in content, file
    assert secret.decode() not in school.log.read_text(errors="replace")
