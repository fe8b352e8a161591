"""``jupyter dsvm hub …``: what a teacher types, against a broker, and the keys of its certificate authority."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.cli import main
from jupyter_dsvm.compute.broker import ADDRESS, TOKEN
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.hub.certificates import Authority
from jupyter_dsvm.hub.policy import Person
from support.broker import FakeHub, Running, broker, vm
from support.kernels import until
from support.sshd import free_port

ADA, GRACE = Person("ada", frozenset({"vision"})), Person("grace")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = (vm("class-vm", power="running", group="vision"), vm("ada-vm", user="ada"))
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        running.set_timings(deallocate=0.2)
        yield running


@pytest.fixture
def running(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """This is a terminal of grace's server."""
    with broker(emulator, tmp_path / "broker", FakeHub(ADA, GRACE), teachers=["grace"]) as started:
        monkeypatch.setenv(ADDRESS, started.address)
        monkeypatch.setenv(TOKEN, "token-of-grace")
        yield started


def test_what_a_teacher_sees_and_stops(running: Running, emulator: Emulator, capsys: pytest.CaptureFixture[str]):
    running.broker.state.here(emulator.vm("class-vm")["vm_id"].lower(), "ada", 9e9)
    running.broker.state.spent(running.ask("grace", "GET", "spend")[1]["month"], [("ada", "x", 1.25)])
    running.broker.policy.image_version = "25.09.01"
    assert main(["hub", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = "VM|STATE|SIZE|PER HOUR|ON SINCE|STARTED BY|ATTACHED|CA KEY|IMAGE"
    assert re.split(r"\s{2,}", lines[0]) == heads.split("|")
    (row,) = [line for line in lines if line.startswith("class-vm")]
    assert re.split(r"\s{2,}", row) == [
        "class-vm",
        "running",
        "D2ds_v5",
        "0.14 USD",
        "ada",
        "not set up",
        "25.06.18 (not 25.09.01)",
    ]
    assert "ada   1.25 USD" in lines
    assert main(["hub", "status", "--json"]) == 0
    assert {v["name"] for v in json.loads(capsys.readouterr().out)["vms"]} == {"ada-vm", "class-vm"}
    assert main(["hub", "stop", "--all"]) == 0
    assert capsys.readouterr().err == "Being stopped: class-vm.\n"
    until(lambda: emulator.vm("class-vm")["power_state"] == "deallocated", 30)
    until(lambda: not running.broker.operations.running(), 30)
    assert main(["hub", "stop", "--all"]) == 0
    assert capsys.readouterr().err == "None of the hub's VMs is on.\n"


def test_a_student_does_not(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(TOKEN, "token-of-ada")
    for line in (["status"], ["stop", "--all"], ["end", "grace"]):
        assert main(["hub", *line]) == 1
        assert "That is for teachers." in capsys.readouterr().err
    file = tmp_path / "token"
    file.write_text("token-of-grace\n")
    assert main(["hub", "end", "ada", "--token-file", str(file)]) == 1
    assert "ada has no account on any VM of the hub" in capsys.readouterr().err
    assert main(["hub", "status", "--token-file", str(tmp_path / "none")]) == 1
    monkeypatch.delenv(ADDRESS)
    assert main(["hub", "status"]) == 1
    assert "Nobody has said where the hub's broker is" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["hub", "stop"])


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """The hub's proxy, whose service is gone."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(status)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/services/dsvm/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("proxy", [503, None])
def test_a_broker_that_does_not_run(
    proxy: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Behind the hub's proxy, which answers for it, or without one."""
    monkeypatch.setenv(TOKEN, "token-of-grace")
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(answering(proxy)) if proxy else f"http://127.0.0.1:{free_port()}/services/dsvm/"
        for line, tried in ((["stop", "--all"], "stop the hub's VMs"), (["status"], "ask how the hub's VMs are")):
            assert main(["hub", *line, "--address", address]) == 1
            said = capsys.readouterr().err
            assert f"Could not {tried}: the hub's broker at {address} did not answer" in said
            assert "status 503" in said if proxy else "refused" in said
            assert "It seems not to run." in said
            assert "az vm deallocate --resource-group GROUP --name VM" in said


def test_the_authority_s_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["hub", "rotate", "--state-dir", str(tmp_path)]) == 1
    assert "no certificate authority" in capsys.readouterr().err
    authority = Authority(tmp_path / "ca")
    (old,) = authority.known()
    assert main(["hub", "retire", "--state-dir", str(tmp_path)]) == 1
    assert main(["hub", "rotate", "--state-dir", str(tmp_path)]) == 0
    _, new = authority.known()
    assert new.fingerprint in capsys.readouterr().err
    assert main(["hub", "retire", "--state-dir", str(tmp_path)]) == 0
    assert old.fingerprint in capsys.readouterr().err
    assert authority.known() == (new,)


def test_a_broker_says_why_it_cannot_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["hub", "broker"]) == 1
    assert "c.DSVMBroker.state_dir" in capfd.readouterr().err
    assert main(["hub", "broker", "--config", str(tmp_path / "none.py")]) == 1
    assert "There is no configuration" in capfd.readouterr().err
