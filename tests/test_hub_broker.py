"""The broker of a hub against the emulated Azure: what a class does with it over HTTP, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.compute.azure.schedules import Use
from jupyter_dsvm.compute.brokershapes import compute_of
from jupyter_dsvm.compute.creating import NewCompute
from jupyter_dsvm.compute.provider import Cancel, IdleRule, Memo
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.errors import (
    AuthenticationError,
    Cancelled,
    ComputeError,
    ComputeNotRunning,
    NotFound,
    RefusedByPolicy,
    SignInRequired,
    StaysOn,
    UnknownCompute,
)
from jupyter_dsvm.hub.broker import WORKERS
from jupyter_dsvm.hub.certificates import account
from jupyter_dsvm.hub.policy import Person
from jupyter_dsvm.hub.vmaccounts import MOST
from jupyter_dsvm.models import PowerState
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from jupyter_dsvm.ssh.openssh import arguments_of
from support.broker import FakeHub, Running, as_server_of, broker, vm
from support.emulated import writes
from support.kernels import until

REASON = can_isolate()
isolated = pytest.mark.skipif(bool(REASON), reason=f"needs VMs with accounts of their own: {REASON}")

ADA, BOB, CARL = Person("ada", frozenset({"vision"})), Person("bob", frozenset({"vision"})), Person("carl")
GRACE = Person("grace", frozenset({"staff"}))
MACHINES = (
    vm("ada-vm", user="ada"),
    vm("class-vm", power="running", group="vision"),
    *(vm(f"pool-{n}", pool="gpu") for n in (1, 2)),
    vm("prod"),
)
QUICK = {"start": 0.4, "deallocate": 0.3, "restart": 0.3, "runCommand": 0.3}


def said(text: str, fraction: float | None = None) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES) as running:
        running.set_timings(**QUICK)
        yield running


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[Emulator]:
    """Every VM is as it was, afterwards."""
    yield emulator
    emulator.clear_faults()
    emulator.set_timings(**QUICK)
    for row in emulator.vms:
        wanted = "running" if row["name"] == "class-vm" else "deallocated"
        if emulator.vm(row["name"])["power_state"] != wanted:
            emulator.power(row["name"], "start" if wanted == "running" else "deallocate")


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub(ADA, BOB, CARL, GRACE)


@pytest.fixture
def running(azure: Emulator, tmp_path: Path, hub: FakeHub) -> Iterator[Running]:
    with broker(
        azure,
        tmp_path / "broker",
        hub,
        teachers=["group:staff"],
        pools={"gpu": {"people": ["carl", "group:vision"]}},
        hours=[],
    ) as started:
        yield started


def vm_id(emulator: Emulator, name: str) -> str:
    return emulator.vm(name)["vm_id"].lower()


def test_everybody_sees_their_own(running: Running, azure: Emulator):
    assert set(running.rows("ada")) == {"ada-vm", "class-vm", "gpu"}
    assert set(running.rows("carl")) == {"gpu"}
    assert set(running.rows("grace")) == {"ada-vm", "class-vm", "pool-1", "pool-2", "prod"}
    row = running.rows("ada")["class-vm"]
    assert row["id"] == f"hub:{vm_id(azure, 'class-vm')}"
    assert (row["power_state"], row["subscription"], row["resource_group"]) == ("running", None, None)
    assert row["not_allowed"] == ["resize"]
    assert "tags" not in row
    # Since when, of one alone: her own server counts with it what she spends.
    since = compute_of(running.ask("ada", "GET", f"computes/{row['id']}")[1]).unchanged_since
    assert since is not None
    assert time.time() - 3600 < since < time.time() + 5
    assert running.ask("ada", "GET", "whoami")[1] == {"name": "ada", "teacher": False, "pools": ["gpu"]}


def test_another_s_vm_looks_as_if_there_were_none(running: Running, azure: Emulator):
    ours = vm_id(azure, "ada-vm")
    nothing = "0" * 36
    for method, path, body in (
        ("GET", "computes/hub:{}", None),
        ("POST", "computes/hub:{}/start", {}),
        ("POST", "computes/hub:{}/stop", {}),
        ("POST", "computes/hub:{}/restart", {}),
        ("POST", "computes/hub:{}/resize", {"size": "D2s_v5"}),
        ("GET", "computes/hub:{}/sizes", None),
        ("POST", "computes/hub:{}/access", {}),
        ("POST", "computes/hub:{}/certificate", {"public_key": "x"}),
        ("PUT", "computes/hub:{}/presence", {"used": True}),
    ):
        status, answer = running.ask("bob", method, path.format(ours), body)
        other, unknown = running.ask("bob", method, path.format(nothing), body)
        assert (status, answer["code"]) == (404, "UnknownCompute"), path
        assert (other, unknown["message"].replace(nothing, ours)) == (status, answer["message"])
    before = len(azure.traffic)
    assert running.ask("carl", "POST", "computes/hub:pool-nothing/start")[0] == 404
    assert writes(azure, before) == []


@pytest.mark.parametrize("token", ["", "wrong", "token-of-nobody", "x" * 10_000])
def test_without_a_token_of_the_hub_nothing_is_answered(running: Running, token: str):
    for method, path in (("GET", "computes"), ("GET", "metrics"), ("POST", "admin/stop"), ("GET", "anything")):
        status, answer = running.ask("", method, path, token=token)
        assert (status, answer["code"]) == (401, "Unauthorized")


def test_what_teachers_may_nobody_else_may(running: Running):
    for method, path, body in (
        ("GET", "admin/overview", None),
        ("POST", "admin/stop", {}),
        ("POST", "admin/end", {"person": "bob"}),
        ("GET", "metrics", None),
    ):
        status, answer = running.ask("ada", method, path, body)
        assert (status, answer["code"]) == (403, "NotAllowed"), path


def test_start_and_stop(running: Running, azure: Emulator):
    mine = running.rows("ada")["ada-vm"]["id"]
    status, operation = running.ask("ada", "POST", f"computes/{mine}/start")
    assert (status, operation["kind"], operation["compute"]) == (202, "start", mine)
    done = running.ended("ada", operation)
    assert (done["state"], done["notice"]) == ("done", "ada-vm runs.")
    assert azure.vm("ada-vm")["power_state"] == "running"
    assert running.ask("bob", "GET", f"operations/{operation['id']}")[0] == 404
    assert [o["id"] for o in running.ask("grace", "GET", "operations")[1]["operations"]] == [operation["id"]]
    assert running.ended("ada", running.ask("ada", "POST", f"computes/{mine}/stop")[1])["state"] == "done"
    assert azure.vm("ada-vm")["power_state"] == "deallocated"
    until(lambda: len(running.said("stop", person="ada", outcome="ok")) == 1)
    lines = [(line["action"], line["outcome"], line["name"]) for line in running.audit]
    assert lines == [
        ("start", "begun", "ada-vm"),
        ("start", "ok", "ada-vm"),
        ("stop", "begun", "ada-vm"),
        ("stop", "ok", "ada-vm"),
    ]
    assert running.broker.audit.metrics()[0]["start", "ok"] == 2


def test_who_starts_what_is_being_started_joins(running: Running, azure: Emulator):
    azure.power("class-vm", "deallocate")
    before = len(azure.traffic)
    shared = running.rows("ada")["class-vm"]["id"]
    first = running.ask("ada", "POST", f"computes/{shared}/start")[1]
    second = running.ask("bob", "POST", f"computes/{shared}/start")[1]
    assert first["id"] == second["id"]
    assert running.ended("bob", second)["state"] == "done"
    assert len(writes(azure, before)) == 1
    status, answer = running.ask("bob", "DELETE", f"operations/{first['id']}")
    assert (status, answer["code"]) == (403, "NotAllowed")


def test_several_starts_at_once_count_too(running: Running, azure: Emulator):
    azure.set_timings(start=2.0)
    azure.power("class-vm", "deallocate")
    rows = running.rows("ada")
    first = running.ask("ada", "POST", f"computes/{rows['ada-vm']['id']}/start")[1]
    status, answer = running.ask("ada", "POST", f"computes/{rows['class-vm']['id']}/start")
    assert (status, "(rule HubPolicy.running_per_user)" in answer["message"]) == (403, True)
    assert running.ended("ada", first)["state"] == "done"


def test_refusals_name_their_rule(running: Running, azure: Emulator):
    rows = running.rows("ada")
    policy = running.broker.policy
    before = len(azure.traffic)

    def refused(method: str, path: str, body: object = None) -> str:
        status, answer = running.ask("ada", method, path, body)
        assert (status, answer["code"]) == (403, "RefusedByPolicy"), answer
        return str(answer["message"])

    mine, shared = rows["ada-vm"]["id"], rows["class-vm"]["id"]
    assert "(rule HubPolicy.may_resize)" in refused("POST", f"computes/{mine}/resize", {"size": "D4s_v5"})
    policy.sizes = ["NC*"]
    assert "(rule HubPolicy.sizes)" in refused("POST", f"computes/{mine}/start")
    policy.sizes = ["*"]
    policy.running_per_user = 0
    assert "(rule HubPolicy.running_per_user)" in refused("POST", f"computes/{mine}/start")
    policy.running_per_user = 1
    policy.budget = 0
    assert "(rule HubPolicy.budget)" in refused("POST", f"computes/{mine}/start")
    policy.budget = None
    running.broker.state.here(vm_id(azure, "class-vm"), "bob", time.time() + 60)
    assert "(rule HubPolicy.stop_under_others)" in refused("POST", f"computes/{shared}/restart")
    assert running.broker.state.presence() == [
        (vm_id(azure, "class-vm"), "bob", pytest.approx(time.time() + 60, abs=30))
    ]
    now = running.broker.policy.local(time.time())
    policy.hours = [f"{'Mon' if now.weekday() != 0 else 'Tue'} 03:00-03:01"]
    assert "(rule HubPolicy.hours)" in refused("POST", f"computes/{mine}/start")
    assert "(rule HubPolicy.hours)" in refused("POST", f"computes/{shared}/certificate", {"public_key": "x"})
    assert writes(azure, before) == []
    rules = [line["rule"] for line in running.audit if line["outcome"] == "RefusedByPolicy"]
    assert rules == [
        "may_resize",
        "sizes",
        "running_per_user",
        "budget",
        "stop_under_others",
        "hours",
        "hours",
    ]


def test_a_pool(running: Running, azure: Emulator):
    """A VM is somebody's at the first start, not when it is looked at; and there is an end to it."""
    assert running.rows("carl")["gpu"]["power_state"] == "deallocated"
    assert running.rows("ada")["gpu"]["id"] == "hub:pool-gpu"
    running.broker.policy.sizes = []
    status, answer = running.ask("carl", "POST", "computes/hub:pool-gpu/start")
    assert (status, answer["code"]) == (403, "RefusedByPolicy")
    assert running.ask("carl", "POST", "computes/hub:pool-gpu/access")[0] == 409
    running.broker.policy.sizes = ["*"]
    assert running.broker.state.assignments() == {}
    for name in ("carl", "ada"):
        operation = running.ask(name, "POST", "computes/hub:pool-gpu/start")[1]
        assert operation["compute"] == "hub:pool-gpu"
        assert running.ended(name, operation)["state"] == "done"
    taken = running.broker.state.assignments()
    assert set(taken) == {("gpu", "carl"), ("gpu", "ada")}
    assert set(taken.values()) == {vm_id(azure, "pool-1"), vm_id(azure, "pool-2")}
    assert running.rows("carl")["gpu"]["power_state"] == "running"
    status, answer = running.ask("ada", "POST", f"computes/{running.rows('ada')['ada-vm']['id']}/start")
    assert (status, "(rule HubPolicy.running_per_user)" in answer["message"]) == (403, True)
    status, answer = running.ask("bob", "POST", "computes/hub:pool-gpu/start")
    assert (status, answer["code"]) == (403, "RefusedByPolicy")
    assert "Each of its 2 VMs is taken" in answer["message"]
    assert running.rows("bob")["gpu"]["problem"]["code"] == "RefusedByPolicy"
    assert [line["person"] for line in running.said("assign")] == ["carl", "ada"]
    # Another's VM of the pool is nobody else's.
    assert running.ask("ada", "GET", f"computes/hub:{taken['gpu', 'carl']}")[0] == 404


def test_at_nine_a_class_waits_in_a_queue_and_sees_its_place(azure: Emulator, tmp_path: Path, hub: FakeHub):
    azure.set_timings(start=1.5)
    with broker(azure, tmp_path / "broker", hub, teachers=["grace"], starts_at_once=1) as running:
        ids = [running.rows("grace")[name]["id"] for name in ("ada-vm", "pool-1", "pool-2")]
        begun = [running.ask("grace", "POST", f"computes/{one}/start")[1] for one in ids]
        texts = [step["text"] for step in running.ask("grace", "GET", f"operations/{begun[2]['id']}")[1]["steps"]]
        assert texts[0] == "Waiting for its turn: place 2"
        assert running.broker.numbers()["waiting"] == 2
        assert running.ask("grace", "DELETE", f"operations/{begun[1]['id']}")[0] == 204
        cancelled = running.ended("grace", begun[1])
        assert cancelled["state"] == "cancelled"
        assert "still waiting for its turn" in cancelled["error"]["message"]
        texts = [step["text"] for step in running.ask("grace", "GET", f"operations/{begun[2]['id']}")[1]["steps"]]
        assert texts[0] in ("Waiting for its turn: place 1", "Waiting for its turn")
        assert [running.ended("grace", one)["state"] for one in (begun[0], begun[2])] == ["done", "done"]
        assert azure.vm("pool-1")["power_state"] == "deallocated"


def test_a_broker_that_is_killed_in_the_middle_of_starts_goes_on(azure: Emulator, tmp_path: Path, hub: FakeHub):
    """The one that Azure had accepted is not asked for again, and the one that waited for its turn gets it."""
    azure.set_timings(start=2.0)
    with broker(azure, tmp_path / "broker", hub, teachers=["grace"], starts_at_once=1) as running:
        rows = running.rows("grace")
        begun = [running.ask("grace", "POST", f"computes/{rows[name]['id']}/start")[1] for name in ("ada-vm", "pool-1")]
        until(lambda: azure.vm("ada-vm")["power_state"] == "starting")
        until(lambda: "start_operation" in next((tmp_path / "broker/changes").glob("*.json")).read_text())
    before = len(azure.traffic)
    with broker(azure, tmp_path / "broker", hub, teachers=["grace"], starts_at_once=1) as running:
        ended = [running.ended("grace", one) for one in begun]
        assert [e["state"] for e in ended] == ["done", "done"], ended
        assert azure.vm("ada-vm")["power_state"] == azure.vm("pool-1")["power_state"] == "running"
        assert len([w for w in writes(azure, before) if "/ada-vm/" in w]) == 0
        assert len([w for w in writes(azure, before) if "/pool-1/" in w]) == 1
        assert running.broker.state.starts()[vm_id(azure, "ada-vm")][0] == "grace"


def test_requests_to_azure_do_not_grow_with_users(azure: Emulator, tmp_path: Path):
    people = [Person(f"student{n}", frozenset({"vision"})) for n in range(200)]
    with broker(azure, tmp_path / "broker", FakeHub(*people), listing_seconds=600, look_seconds=600) as running:
        shared = running.rows("student0")["class-vm"]["id"]
        before, failed = len(azure.traffic), []

        def look(person: Person) -> None:
            for path in ("computes", f"computes/{shared}"):
                if running.ask(person.name, "GET", path)[0] != 200:
                    failed.append(person.name)

        threads = [threading.Thread(target=lambda some=people[n::8]: [look(p) for p in some]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        asked = [e["request"]["url"] for e in azure.traffic[before:] if "/retail/prices" not in e["request"]["url"]]
        assert len(asked) <= 1, f"the VM's own state, once for 400 questions: {asked}"


@isolated
@pytest.mark.timeout(300)
def test_a_whole_class_attaches_at_nine(azure: Emulator, tmp_path: Path):
    """More than one command has room for: all get their account, in a few commands, and a certificate each."""
    people = [Person(f"student{n}", frozenset({"vision"})) for n in range(MOST + 15)]
    with broker(azure, tmp_path / "broker", FakeHub(*people), listing_seconds=600, look_seconds=600) as running:
        shared = running.rows("student0")["class-vm"]["id"]
        azure.set_timings(runCommand=2.0)
        before = len(azure.traffic)
        begun = {p.name: running.ask(p.name, "POST", f"computes/{shared}/access")[1] for p in people}
        ends = {name: running.ended(name, operation, 240)["state"] for name, operation in begun.items()}
        assert set(ends.values()) == {"done"}, ends
        commands = [w for w in writes(azure, before) if "/runCommand" in w]
        assert len(commands) <= 4, commands
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5A"
        serials = {
            running.ask(p.name, "POST", f"computes/{shared}/certificate", {"public_key": key})[1]["serial"]
            for p in people
        }
        assert len(serials) == len(people)
        users = {p.name: str(account(p.name)) for p in people}
        homes = {home.name for home in (Path(azure.vm("class-vm")["disk"]) / "home").iterdir()}
        assert set(users.values()) <= homes


def test_a_list_waits_for_nobody_who_attaches(running: Running):
    running.rows("ada")
    go = threading.Event()
    waiting = [running.broker.submit(go.wait, 60) for _ in range(2 * WORKERS)]
    try:
        assert running.rows("ada")
        assert not any(each.done() for each in waiting)
    finally:
        go.set()


# New VMs


def test_nobody_makes_a_vm_unless_a_rule_says_so(running: Running, azure: Emulator, tmp_path: Path):
    wanted = NewCompute("new-vm", "westeurope", "Standard_D2ds_v5", "Research", source_address="203.0.113.7")
    before = len(azure.traffic)
    with as_server_of("ada", running.address, tmp_path / "ada") as ada:
        shown = ada.creation()
        assert (shown.allowed, shown.sizes) == (False, ())
        assert "(rule HubPolicy.may_create)" in shown.reason
        with pytest.raises(RefusedByPolicy, match="may_create"):
            ada.create(wanted, said, Cancel())
        assert writes(azure, before) == []
        running.broker.policy.may_create = ["ada"]
        running.broker.policy.sizes = ["D2*"]
        offered = {o.size.name for o in ada.creation("westeurope", "Research").sizes}
        assert offered
        assert all(name.startswith("Standard_D2") for name in offered)
        with pytest.raises(RefusedByPolicy, match="sizes"):
            ada.create(dataclasses.replace(wanted, size="Standard_D4ds_v5"), said, Cancel())
        made = ada.create(wanted, said, Cancel(), Memo())
        assert (made.name, made.power_state) == ("new-vm", PowerState.RUNNING)
        assert made.id in {row.id for row in ada.list().computes}
        assert ada.stop(made.id, said, Cancel()).power_state is PowerState.DEALLOCATED
    assert "new-vm" not in running.rows("bob")
    azure.remove("new-vm")


# A user's server


@isolated
def test_two_students_work_on_one_vm_without_any_azure_credential(running: Running, azure: Emulator, tmp_path: Path):
    seen: list[str] = []
    with as_server_of("ada", running.address, tmp_path / "ada") as ada:
        (row,) = [r for r in ada.list().computes if r.name == "class-vm"]
        assert row.power_state is PowerState.RUNNING
        with pytest.raises(AuthenticationError) as raised:
            ada.ssh_target(row.id)
        assert raised.value.code == "AccountNeeded"
        assert ada.may_set_up(row.id)
        assert "account" in ada.set_up_access(row.id, lambda text, fraction: seen.append(text), Cancel())
        assert any("Azure runs a command there" in text for text in seen), seen
        target = ada.ssh_target(row.id)
        assert target.user == account("ada")
        assert ada.ssh_target(row.id).certificates == target.certificates, "it is good for some minutes"
        first = SSHConnection(target)
        first.connect(HostKeys(tmp_path / "ada/jupyter-dsvm/known_hosts"), agent=False)
        assert first.run("id -un; echo x > mine; echo ok")[1].decode() == f"{account('ada')}\nok\n"
        with pytest.raises(RefusedByPolicy, match="HubPolicy"):
            ada.terminal_target(row.id)
        running.broker.policy.terminals = True
        folder = tmp_path / "terminal"
        folder.mkdir(mode=0o700)
        keys = [key.line for key in HostKeys(tmp_path / "ada/jupyter-dsvm/known_hosts").known(target)]
        words = arguments_of(ada.terminal_target(row.id), keys, folder)
        shown = subprocess.run(["ssh", "-tt", *words, "tty"], capture_output=True, text=True, timeout=30)
        assert shown.stdout.startswith("/dev/pts/"), shown.stderr
    with as_server_of("bob", running.address, tmp_path / "bob") as bob:
        bob.set_up_access(row.id, said, Cancel())
        target = bob.ssh_target(row.id)
        second = SSHConnection(target)
        second.connect(HostKeys(tmp_path / "bob/jupyter-dsvm/known_hosts"), agent=False)
        assert b"denied" in second.run(f"cat /home/{account('ada')}/mine 2>&1")[1]
    try:
        assert {line["person"] for line in running.said("certificate")} == {"ada", "bob"}
        overview = running.ask("grace", "GET", "admin/overview")[1]
        (shown,) = [v for v in overview["vms"] if v["name"] == "class-vm"]
        assert shown["attached"] == ["ada", "bob"]
        # The policy ends for one of them: what they have open ends, and the other goes on.
        running.hub.people["token-of-ada"] = Person("ada")
        assert running.ask("ada", "GET", f"computes/{row.id}")[0] == 404
        running.watch.tick()
        until(lambda: not first.alive, 30)
        assert second.run("echo here")[1] == b"here\n"
        until(lambda: running.said("end", whose="ada", outcome="ok"), 30)
        assert "is not yours any more" in running.said("end", outcome="begun")[0]["why"]
        # The course is over.
        assert running.ask("grace", "POST", "admin/end", {"person": "bob", "remove": True}) == (202, {"vms": 1})
        until(lambda: not second.alive, 30)
        until(lambda: running.said("remove", whose="bob", outcome="ok"), 30)
        assert not (Path(azure.vm("class-vm")["disk"]) / "home" / account("bob")).exists()
    finally:
        first.close()
        second.close()


def test_a_user_s_server_starts_and_stops(running: Running, azure: Emulator, tmp_path: Path):
    seen: list[str] = []
    with as_server_of("ada", running.address, tmp_path) as ada:
        (row,) = [r for r in ada.list().computes if r.name == "ada-vm"]
        with pytest.raises(ComputeNotRunning, match="ada-vm is deallocated"):
            ada.ssh_target(row.id)
        memo = Memo()
        started = ada.start(row.id, lambda text, fraction: seen.append(text), Cancel(), memo)
        assert started.power_state is PowerState.RUNNING
        assert any("Azure is starting" in text or "Azure starts" in text for text in seen), seen
        assert ada.start(row.id, said, Cancel(), memo).power_state is PowerState.RUNNING, (
            "gone on with, not asked again"
        )
        assert len(running.said("start", outcome="begun")) == 1
        forgotten = Memo({"start_operation": "0" * 32})
        assert ada.start(row.id, said, Cancel(), forgotten).power_state is PowerState.RUNNING
        with pytest.raises(NotFound):
            ada.stop(row.id, said, Cancel(), Memo({"stop_operation": "0" * 32}))
        safety = ada.safety(row.id)
        safety.check()
        stop = safety.keep(Use.USED)
        assert "The hub stops it at" in stop.text
        assert stop.at is not None
        assert stop.at.timestamp() == pytest.approx(time.time() + 8 * 3600, abs=120)
        assert [who for _, who, _ in running.broker.state.presence()] == ["ada"]
        assert ada.idle_rule == IdleRule(30.0)
        running.broker.state.here(vm_id(azure, "ada-vm"), "bob", time.time() + 60)
        with pytest.raises(StaysOn, match="ada-vm stays on: 1 other person uses it"):
            ada.stop(row.id, said, Cancel())
        running.broker.state.gone(vm_id(azure, "ada-vm"), "bob")
        assert ada.stop(row.id, said, Cancel()).power_state is PowerState.DEALLOCATED
        with pytest.raises(RefusedByPolicy, match="HubPolicy"):
            ada.resize(row.id, "standard_d4s_v5", said, Cancel())
        offers, _ = ada.sizes(row.id)
        assert offers
        assert not [o for o in offers if o.available]
        with pytest.raises(UnknownCompute):
            ada.get("hub:" + "0" * 36)
        azure.set_timings(start=5.0)
        cancel = Cancel()
        threading.Timer(0.5, cancel.set).start()
        with pytest.raises(Cancelled):
            ada.start(row.id, said, cancel)
        until(lambda: not running.broker.operations.running(), 30)


def test_what_goes_wrong_between_them_is_said(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with as_server_of("nobody", running.address, tmp_path) as nobody, pytest.raises(SignInRequired, match="token"):
        nobody.list()
    with as_server_of("ada", "http://127.0.0.1:9/services/dsvm", tmp_path) as away:
        with pytest.raises(ComputeError, match="did not answer as it should") as raised:
            away.list()
        assert raised.value.code == "BrokerAway"
    with as_server_of("ada", running.address + "elsewhere/", tmp_path) as lost, pytest.raises(ComputeError):
        lost.list()
    with as_server_of("ada", running.address, tmp_path) as ada:
        monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
        with pytest.raises(SignInRequired, match="no token of the hub"):
            ada.list()
