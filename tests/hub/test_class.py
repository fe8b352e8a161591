"""Two students and a teacher on one hub: each has what is theirs, through the proxy and with their own token, and nothing else."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import websocket
import yaml

import jupyter_dsvm
from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, WHERE
from support.hub import TRY, Hub, Person, cell, compute, needs_proxy
from support.restarted import attach
from support.served import Events, RestError, Served
from support.tab import Tab

pytestmark = [needs_proxy, pytest.mark.timeout(300)]

DOCUMENT = yaml.safe_load((Path(jupyter_dsvm.__file__).parent / "openapi.yaml").read_text())
OPERATIONS = [
    (method.upper(), re.sub(r"\{.*?\}", "x", path))
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method in ("get", "put", "post", "delete")
]

ACCOUNT = "import getpass; print(getpass.getuser())"


def works(hub: Hub, name: str) -> None:
    """List, attach, run, detach."""
    server = hub.as_user(name)
    names = {c["name"] for c in server.rest("GET", "jupyter-dsvm/computes")["computes"]}
    assert {"Free tier", "cpu-vm", "gpu-vm"} <= names
    session = server.open(f"{name}.ipynb")
    kernel_id = session["kernel"]["id"]
    with Tab(server, kernel_id) as tab:
        assert cell(tab, WHERE) == HERE
        attach(server, kernel_id, compute(server, "cpu-vm"))
        assert cell(tab, WHERE) == "cpu-vm"
        assert "cpu-vm" in cell(tab, "%dsvm status")
        assert server.row(kernel_id)["path"] == f"{name}.ipynb"
        attach(server, kernel_id, "free")
        assert cell(tab, WHERE) == HERE
    server.rest("DELETE", f"api/sessions/{session['id']}", status=204)


def test_each_lists_attaches_runs_and_detaches_at_the_same_time(hub: Hub, kernels: None):
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(works, hub, name) for name in hub.people]:
            done.result()


def test_servers_and_kernels_run_as_their_users(hub: Hub, people: list[Person], emulator: Emulator, kernels: None):
    if not hub.accounts or emulator.vm("cpu-vm")["user"] != "azureuser":
        pytest.skip("no accounts of their own here")
    for name, there in (("ada", "azureuser"), ("bob", "visitor")):
        server = hub.as_user(name)
        kernel_id = server.open("account.ipynb")["kernel"]["id"]
        with Tab(server, kernel_id) as tab:
            assert cell(tab, ACCOUNT) == name
            attach(server, kernel_id, compute(server, "cpu-vm"))
            assert cell(tab, ACCOUNT) == there


def test_the_hub_s_limits_are_those_of_the_free_tier(hub: Hub):
    """``Spawner.mem_limit`` and ``cpu_limit``, which the hub tells servers as MEM_LIMIT and CPU_LIMIT."""
    (free,) = [c for c in hub.as_user("ada").rest("GET", "jupyter-dsvm/computes")["computes"] if c["id"] == "free"]
    assert (free["size"]["memory_gib"], free["size"]["vcpus"]) == (3.0, 2)
    memory = hub.as_user("ada").rest("GET", "jupyter-dsvm/computes/free/metrics")["memory"]
    assert memory["total_gib"] == 3.0
    assert 0 < memory["used_gib"] < 3.0


# Nobody reaches what is another's


def refused(server: Served, method: str, path: str) -> None:
    with pytest.raises(RestError) as caught:
        server.rest(method, path, {} if method in ("PUT", "POST") else None)
    assert caught.value.status == 403, f"{method} {path}: {caught.value}"


@pytest.mark.parametrize(("who", "of"), [("ada", "bob"), ("bob", "ada"), ("ada", "teacher")])
def test_a_token_opens_no_other_server(hub: Hub, who: str, of: str):
    other = hub.as_user(who, of)
    for method, path in [
        ("GET", "api/status"),
        ("GET", "api/kernels"),
        ("GET", "api/contents"),
        ("POST", "api/kernels"),
    ]:
        refused(other, method, path)
    assert len(OPERATIONS) > 25
    for method, path in OPERATIONS:
        refused(other, method, f"jupyter-dsvm{path}")


def test_nor_another_s_kernel_and_events(hub: Hub, kernels: None):
    ada, bob = hub.as_user("ada"), hub.as_user("ada", "bob")
    kernel_id = hub.as_user("bob").open("secret.ipynb")["kernel"]["id"]
    for path in (f"api/kernels/{kernel_id}/channels", "api/events/subscribe"):
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            bob.websocket(path)
        assert caught.value.status_code == 403
    refused(bob, "POST", f"api/kernels/{kernel_id}/interrupt")
    refused(bob, "PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute")
    # Nor is it known by its id on her own server.
    with pytest.raises(RestError) as missing:
        ada.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": "free"})
    assert missing.value.status == 404
    assert not [k for k in ada.rest("GET", "jupyter-dsvm/kernels")["kernels"] if k["id"] == kernel_id]


def test_who_has_no_token_or_a_narrow_one_is_refused(hub: Hub):
    for token in ("", "0" * 32, hub.token("ada", scopes=["read:users!user"])):
        nobody = Served(hub.port, token, f"{hub.base}user/ada/")
        for method, path in OPERATIONS:
            refused(nobody, method, f"jupyter-dsvm{path}")
    # One that is for this server, and can do nothing else.
    narrow = Served(hub.port, hub.token("ada", scopes=["access:servers!user"]), f"{hub.base}user/ada/")
    assert narrow.rest("GET", "jupyter-dsvm/computes")["computes"]
    refused(Served(hub.port, narrow.token, f"{hub.base}user/bob/"), "GET", "jupyter-dsvm/computes")


def test_events_are_the_user_s_own(hub: Hub, kernels: None):
    ada, bob = hub.as_user("ada"), hub.as_user("bob")
    with Events(ada) as hers, Events(bob) as his:
        kernel_id = bob.open("events.ipynb")["kernel"]["id"]
        attach(bob, kernel_id, compute(bob, "cpu-vm"))
        assert [e for e in his.of_ours() if e["what"] == "kernels"]
        assert not [e for e in hers.of_ours() if e["what"] in ("kernels", "operations")]


def tried(tab: Tab, paths: list[str]) -> dict[str, str]:
    """With that kernel's account."""
    code = TRY.replace("sys.stdin.read()", repr(json.dumps(paths)))
    found: dict[str, str] = json.loads(cell(tab, code))
    return found


def test_sockets_and_files_on_the_hub_are_the_user_s_own(hub: Hub, people: list[Person], kernels: None):
    """The socket that leads to ``%dsvm``, the kernel's connection file and what is kept of it, the token for Azure."""
    if not hub.accounts:
        pytest.skip("no accounts of their own here")
    ada, bob = hub.as_user("ada"), hub.as_user("bob")
    hers, his = (s.open("private.ipynb")["kernel"]["id"] for s in (ada, bob))
    home = hub.people["bob"].home
    with Tab(ada, hers) as tab, Tab(bob, his) as other:
        socket = cell(other, "import os; print(os.environ['JUPYTER_DSVM_SOCKET'])")
        attach(bob, his, compute(bob, "cpu-vm"))
        kept = hub.people["bob"].data / "jupyter-dsvm" / "kernels" / his / "kernel.json"
        connection = hub.people["bob"].runtime / f"kernel-{his}.json"
        secrets = [socket, str(home / ".jupyter" / "token"), str(home / ".jupyter" / "id_ed25519"), str(kept)]
        secrets += [str(connection), str(hub.people["bob"].data / "jupyter-dsvm")]
        assert all(Path(p).exists() for p in secrets), secrets
        assert tried(tab, secrets) == dict.fromkeys(secrets, "PermissionError")


def test_the_relay_on_a_vm_is_its_account_s_own(hub: Hub, emulator: Emulator, kernels: None):
    """Ada and Bob have their kernels on one VM. The relay's sockets, its folder and the files there are shut to the other."""
    if emulator.vm("cpu-vm")["user"] != "azureuser":
        pytest.skip("no accounts of their own on the VMs here")
    tabs = {}
    try:
        for name in ("ada", "bob"):
            server = hub.as_user(name)
            kernel_id = server.open("there.ipynb")["kernel"]["id"]
            attach(server, kernel_id, compute(server, "cpu-vm"))
            tabs[name] = Tab(server, kernel_id)
        sockets = {n: cell(t, "import os; print(os.environ['JUPYTER_DSVM_SOCKET'])") for n, t in tabs.items()}
        folders = {n: cell(t, "import os; print(os.getcwd())") for n, t in tabs.items()}
        for who, of in (("ada", "bob"), ("bob", "ada")):
            relay = str(Path(sockets[of]).parent)
            inside = json.loads(cell(tabs[of], f"import json; print(json.dumps(os.listdir({relay!r})))"))
            assert len([name for name in inside if name.endswith(".sock")]) > 1, inside
            paths = [relay, folders[of], *(f"{relay}/{name}" for name in inside)]
            assert tried(tabs[who], paths) == dict.fromkeys(paths, "PermissionError")
            # And it is open to its own account.
            assert tried(tabs[of], [sockets[of], relay, folders[of]]) == dict.fromkeys(
                [sockets[of], relay, folders[of]], "open"
            )
    finally:
        for tab in tabs.values():
            tab.close()


# The administrator, and guests


def test_an_administrator_sees_a_user_s_server_and_changes_nothing_there(hub: Hub, kernels: None):
    """The hub lets administrators in everywhere. With the account of whose server it is, they act only where that is allowed."""
    looked = hub.as_user("teacher", "ada")
    kernel_id = hub.as_user("ada").open("hers.ipynb")["kernel"]["id"]
    assert looked.row(kernel_id)["compute"] == "free"
    assert looked.rest("GET", "jupyter-dsvm/computes")["computes"]
    vm = compute(looked, "cpu-vm")
    for method, path, body in (
        ("PUT", f"kernels/{kernel_id}/compute", {"compute": vm}),
        ("POST", f"computes/{vm}/stop", {}),
        ("POST", "signin", {}),
        ("DELETE", "signin", None),
    ):
        with pytest.raises(RestError) as caught:
            looked.rest(method, f"jupyter-dsvm/{path}", body)
        assert (caught.value.status, caught.value.answer["code"]) == (403, "Guest")
        assert "teacher is a guest on the server of ada" in caught.value.answer["message"]
    # A question with a body changes nothing.
    assert looked.rest("POST", f"jupyter-dsvm/kernels/{kernel_id}/advice", {"sources": ["import os"]})


def test_who_a_server_is_shared_with_is_a_guest(hub: Hub, kernels: None):
    hub.api.rest("POST", "shares/ada/", {"user": "bob", "scopes": ["access:servers!server=ada/"]})
    try:
        # With new tokens: a server asks the hub about a token that it knows again after some minutes only.
        guest = Served(hub.port, hub.token("bob"), f"{hub.base}user/ada/")
        kernel_id = hub.as_user("ada").open("ours.ipynb")["kernel"]["id"]
        assert guest.row(kernel_id)["compute"] == "free"
        with Tab(guest, kernel_id) as tab:
            assert cell(tab, WHERE) == HERE  # they share the kernel
        with pytest.raises(RestError) as caught:
            guest.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": compute(guest, "cpu-vm")})
        assert (caught.value.status, caught.value.answer["code"]) == (403, "Guest")
    finally:
        hub.api.rest("PATCH", "shares/ada/", {"user": "bob", "scopes": ["access:servers!server=ada/"]})
    refused(Served(hub.port, hub.token("bob"), f"{hub.base}user/ada/"), "GET", "jupyter-dsvm/computes")
