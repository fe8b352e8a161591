"""A server dies while a cell runs on its VM: the cell says when Azure stops the VM, Azure's schedule stops it, and nothing that a
server could still take is lost. Real servers, SSH and relays; the emulated Azure, whose clock is set."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.relay.leases import seconds_up
from jupyter_dsvm.relay.strikes import SETTLED
from support.emulated import PATIENCE, attached, configured, emulator, ours, service, settings, where, writes
from support.kernels import Execution, Notebook, until
from support.restarted import attach, counting, lines
from support.served import OTHERS, JupyterServer
from support.tab import Tab

__all__ = ["configured", "emulator"]

pytestmark = pytest.mark.timeout(300)

VM = "gpu-vm"
"""Off at first, so that whoever attaches to it starts it: others' VMs are not stopped for them."""
SENTENCE = "Azure's auto-shutdown stops gpu-vm at {} UTC, whatever runs there."


def said(done: Execution) -> str:
    """Everything that the cell has put out as text, in its order."""
    return "".join(m["content"]["text"] for m in done.outputs("stream"))


def strike_file(emulator: Emulator) -> Path:
    """What the VM keeps of it, as this computer sees its disk."""
    return Path(emulator.vm(VM)["home"]) / ".local/share/jupyter-dsvm/strikes/strike"


def told(emulator: Emulator) -> dict[str, Any]:
    file = strike_file(emulator)
    until(file.exists, 30)
    value: dict[str, Any] = json.loads(file.read_text())
    return value


def pass_time(emulator: Emulator, left: float) -> None:
    """On the VM, until so many seconds are left: its count of seconds cannot be set, so the moment comes nearer instead."""
    file = strike_file(emulator)
    new = file.with_name("new")
    new.write_text(json.dumps({**told(emulator), "at": seconds_up() + left}))
    new.replace(file)


def strikes_at(emulator: Emulator) -> datetime:
    """When the VM's schedule strikes, as Azure has it."""
    (at,) = [one["next"] for one in emulator.clock["schedules"] if one["id"].endswith(f"-{VM}")]
    return datetime.fromisoformat(at)


@pytest.fixture(autouse=True)
def schedule_of_its_own(configured: Emulator) -> Iterator[None]:
    """None is left from the test before, nor for the next one."""
    strike_file(configured).unlink(missing_ok=True)
    yield
    configured.advance(3 * 24 * 3600)
    until(lambda: configured.vm(VM)["power_state"] not in ("deallocating", "starting"), 30)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a killed server leaves its sockets."""
    with tempfile.TemporaryDirectory(prefix="rt-") as folder:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", folder)
        yield


def test_a_running_cell_is_warned_and_others_are_not(configured: Emulator, notebook: Notebook) -> None:
    attached(notebook, VM)
    at = strikes_at(configured)
    known = told(configured)
    assert known["text"] == SENTENCE.format(f"{at:%H:%M}")
    assert 2.9 * 3600 < known["at"] - seconds_up() < 3.1 * 3600
    code = "import time\nfor i in range(1000):\n    print(i, flush=True)\n    time.sleep(0.1)"
    cell = notebook.send(code)
    notebook.until(lambda: notebook.of(cell).text.count("\n") > 10 * SETTLED)
    assert "[In" not in said(notebook.of(cell))
    pass_time(configured, 14 * 60.0)
    notebook.until(lambda: "[In" in said(notebook.of(cell)), timeout=PATIENCE)
    warned = f"\n[In 14 min: {known['text']}]\n"
    # Nine minutes later, by the words of whoever asks the VM: Azure's clock is another matter.
    compute = service().known.find(VM).id
    future = service().connections.ask(compute, "strikes", **{"in": 290.0, "text": "Sooner than that."})
    assert future is not None
    future.result(30)
    notebook.until(lambda: "[In 5 min: Sooner than that.]" in said(notebook.of(cell)), timeout=PATIENCE)
    assert warned in said(notebook.of(cell))
    notebook.km.interrupt_kernel()
    (done,) = notebook.wait(cell, timeout=PATIENCE)
    assert said(done).count("[In ") == 2
    assert {m["content"]["name"] for m in done.outputs("stream") if "[In" in m["content"]["text"]} == {"stderr"}
    counted = [int(n) for n in re.findall(r"^\d+$", done.text, re.MULTILINE)]
    assert counted == list(range(len(counted)))
    assert "[In" not in said(notebook.run("print('after')", timeout=PATIENCE))


def test_a_schedule_of_the_users_own_is_told_too(configured: Emulator, notebook: Notebook) -> None:
    """In the time zone of its owner; it stays as it is."""
    now = datetime.fromisoformat(configured.clock["now"])
    there = (now + timedelta(hours=2)).astimezone(ZoneInfo("Europe/Berlin"))
    resource = configured.vm(VM)["id"]
    path = f"{resource.rpartition('/providers/')[0]}/providers/Microsoft.DevTestLab/schedules/shutdown-computevm-{VM}"
    properties = {
        "status": "Enabled",
        "taskType": "ComputeVmShutdownTask",
        "dailyRecurrence": {"time": f"{there:%H%M}"},
        "timeZoneId": "W. Europe Standard Time",
        "notificationSettings": {"status": "Disabled", "timeInMinutes": 30},
        "targetResourceId": resource,
    }
    body = {"location": "westeurope", "properties": properties}
    status, _, answer = configured.request("PUT", f"{path}?api-version=2018-09-15", body)
    assert status in (200, 201), answer
    try:
        attached(notebook, VM)
        known = told(configured)
        assert known["text"] == SENTENCE.format(f"{there.astimezone(timezone.utc):%H:%M}")
        assert 1.9 * 3600 < known["at"] - seconds_up() < 2.1 * 3600
        _, _, shown = configured.request("GET", f"{path}?api-version=2018-09-15")
        assert shown["properties"]["timeZoneId"] == "W. Europe Standard Time"
    finally:
        configured.request("DELETE", f"{path}?api-version=2018-09-15")


def test_the_server_is_killed_and_azure_stops_the_vm(configured: Emulator, runtime: None, tmp_path: Path) -> None:
    said_there = Path(configured.vm(VM)["home"]) / "said"
    said_there.unlink(missing_ok=True)
    code = counting(1_000_000, 0.1, Path("said")).replace("'said'", "__import__('os').path.expanduser('~/said')")
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server"), OTHERS) as server:
        kernel_id = server.open("train.ipynb")["kernel"]["id"]
        attach(server, kernel_id, VM)
        # The server has set the schedule ahead, and told the VM.
        text = told(configured)["text"]
        at = strikes_at(configured)
        assert text == SENTENCE.format(f"{at:%H:%M}")
        assert at > datetime.now(timezone.utc) + timedelta(hours=2)
        with Tab(server, kernel_id) as tab:
            cell, after = tab.send(code), tab.send("print('never')")
            tab.until(lambda: tab.of(cell).text.count("\n") >= 5)
            server.kill()
            tab.cut()
            before = lines(said_there)

            # Nobody moves it on. Fourteen minutes before, with no server there, the cell is told.
            configured.set_clock((at - timedelta(minutes=14)).isoformat())
            pass_time(configured, 14 * 60.0)
            until(lambda: lines(said_there) > before + 20 * SETTLED, 60)
            assert configured.vm(VM)["power_state"] == "running"
            late = lines(said_there)

            # A server that comes in time has all of it, in its order. It is too late to move the schedule on.
            server.start()
            tab.connect()
            tab.until(lambda: "[In 14 min: " in said(tab.of(cell)), timeout=PATIENCE)
            tab.until(lambda: tab.of(cell).text.count("\n") > late, timeout=PATIENCE)
            so_far = said(tab.of(cell))
            assert so_far.count(f"\n[In 14 min: {text}]\n") == so_far.count("[In ") == 1
            counted = [int(n) for n in re.findall(r"^\d+$", so_far, re.MULTILINE)]
            assert counted == list(range(1, len(counted) + 1))
            assert so_far.index("\n5\n") < so_far.index("[In 14 min") < so_far.index(f"\n{len(counted)}\n")
            assert strikes_at(configured) == at

            # That one dies, too; the time comes, and Azure does what it said.
            server.kill()
            tab.cut()
            struck = configured.set_clock((at + timedelta(seconds=1)).isoformat())["struck"]
            assert [(one["vm"], one["at"], one["refused"]) for one in struck[-1:]] == [(VM, at.isoformat(), None)]
            until(lambda: configured.vm(VM)["power_state"] == "deallocated", 30)
            assert ours(configured, VM) == []

            # What the page had is there; the cell hears that what ran has ended, and nothing is started.
            marker = len(configured.traffic)
            server.start()
            tab.connect()
            lost, never = tab.wait(cell, after, timeout=PATIENCE)
            assert lost.status == "error"
            assert f"{VM} is deallocated: what ran there has ended." in lost.content["evalue"]
            assert said(lost).startswith(so_far)
            assert never.status == "aborted"
            assert server.row(kernel_id)["link"]["state"] == "gone"
            assert [w for w in writes(configured, marker) if "/schedules/" not in w] == []
            attach(server, kernel_id, "free")
            assert where(tab) == "here"
