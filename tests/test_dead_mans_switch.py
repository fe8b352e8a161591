"""A server dies while a cell runs on its VM: the cell says when Azure stops the VM, Azure's schedule stops it, and nothing that a
server could still take is lost. Real servers, SSH and relays; the emulated Azure, whose clock is set."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.schedules import Kind, Schedules, Use
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.relay.strikes import SETTLED
from jupyter_dsvm.service import DSVMService, load_service
from support.emulated import PATIENCE, attached, configured, emulator, ours, service, settings, where, writes
from support.kernels import Execution, Notebook, until
from support.restarted import attach, counting, lines
from support.served import OTHERS, JupyterServer
from support.tab import Tab

__all__ = ["configured", "emulator"]

pytestmark = pytest.mark.timeout(300)

VM = "cpu-vm"
SENTENCE = "Azure's auto-shutdown stops cpu-vm at {:%H:%M} UTC."


def said(done: Execution) -> str:
    """Everything that the cell has put out as text, in its order."""
    return "".join(m["content"]["text"] for m in done.outputs("stream"))


@pytest.fixture
def other(configured: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[DSVMService]:
    """Another server of the same account."""
    with contextlib.closing(load_service()) as made:
        yield made


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a killed server leaves its sockets."""
    with tempfile.TemporaryDirectory(prefix="rt-") as folder:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", folder)
        yield


def tell(server: DSVMService, in_seconds: float | None, at: datetime | None = None) -> Any:
    """What a server tells the VM after each look at the schedule."""
    compute = server.known.find(VM)
    server.connections.open(compute, threading.Event())
    text = None if at is None else SENTENCE.format(at)
    future = server.connections.ask(compute.id, "strikes", **{"in": in_seconds, "text": text})
    assert future is not None
    return future.result(30)


def schedule(server: DSVMService) -> Schedules:
    (azure,) = [p for p in server.known.providers if isinstance(p, AzureCompute)]
    return azure.safety(server.known.find(VM).id)


def set_ahead(server: DSVMService) -> datetime:
    """As a server in use has it; when it strikes."""
    kept = schedule(server).keep(Use.USED)
    assert kept.kind is Kind.OURS
    assert kept.at is not None
    return kept.at


def test_a_running_cell_is_warned_and_others_are_not(configured: Emulator, notebook: Notebook) -> None:
    at = set_ahead(service())
    attached(notebook, VM)
    code = "import time\nfor i in range(1000):\n    print(i, flush=True)\n    time.sleep(0.1)"
    cell = notebook.send(code)
    tell(service(), 3 * 3600.0, at)
    notebook.until(lambda: notebook.of(cell).text.count("\n") > 10 * SETTLED)
    assert "[In" not in said(notebook.of(cell))
    tell(service(), 14 * 60.0, at)
    notebook.until(lambda: "[In" in said(notebook.of(cell)), timeout=PATIENCE)
    tell(
        service(), 4.6 * 60, at + timedelta(minutes=-10)
    )  # five minutes before, as the clock of a test cannot wait for it
    warned = f"\n[In 14 min: {SENTENCE.format(at)}]\n"
    notebook.until(lambda: "[In 5 min: " in said(notebook.of(cell)), timeout=PATIENCE)
    assert warned in said(notebook.of(cell))
    tell(service(), None)
    notebook.km.interrupt_kernel()
    (done,) = notebook.wait(cell, timeout=PATIENCE)
    assert said(done).count("[In ") == 2
    names = {m["content"]["name"] for m in done.outputs("stream") if "[In" in m["content"]["text"]}
    assert names == {"stderr"}
    counted = [int(n) for n in re.findall(r"^\d+$", done.text, re.MULTILINE)]
    assert counted == list(range(len(counted)))
    assert "[In" not in said(notebook.run("print('after')", timeout=PATIENCE))


def test_the_server_is_killed_and_azure_stops_the_vm(
    configured: Emulator, other: DSVMService, runtime: None, tmp_path: Path
) -> None:
    said_there = Path(configured.vm(VM)["home"]) / "said"
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server"), OTHERS) as server:
        kernel_id = server.open("train.ipynb")["kernel"]["id"]
        attach(server, kernel_id, VM)
        at = set_ahead(other)
        with Tab(server, kernel_id) as tab:
            cell = tab.send(
                counting(1_000_000, 0.1, Path("said")).replace("'said'", "__import__('os').path.expanduser('~/said')")
            )
            after = tab.send("print('never')")
            tab.until(lambda: tab.of(cell).text.count("\n") >= 5)
            server.kill()
            tab.cut()
            before = lines(said_there)

            # Nobody moves it on. Fourteen minutes before, with no server there, the cell is told.
            configured.set_clock((at - timedelta(minutes=14)).isoformat())
            tell(other, 14 * 60.0, at)
            other.close()  # and that server ends, too
            until(lambda: lines(said_there) > before + 20 * SETTLED, 60)
            assert configured.vm(VM)["power_state"] == "running"
            late = lines(said_there)

            # A server that comes in time has all of it, in its order.
            server.start()
            tab.connect()
            tab.until(lambda: "[In 14 min: " in said(tab.of(cell)), timeout=PATIENCE)
            tab.until(lambda: tab.of(cell).text.count("\n") > late, timeout=PATIENCE)
            text = said(tab.of(cell))
            assert text.count(f"\n[In 14 min: {SENTENCE.format(at)}]\n") == 1
            counted = [int(n) for n in re.findall(r"^\d+$", text, re.MULTILINE)]
            assert counted == list(range(1, len(counted) + 1))
            assert text.index("\n5\n") < text.index("[In 14 min") < text.index(f"\n{len(counted)}\n")

            # That one dies, too; the time comes, and Azure does what it said.
            server.kill()
            tab.cut()
            struck = configured.set_clock((at + timedelta(seconds=1)).isoformat())["struck"]
            assert [(one["vm"], one["at"], one["refused"]) for one in struck] == [(VM, at.isoformat(), None)]
            until(lambda: configured.vm(VM)["power_state"] == "deallocated", 30)
            assert ours(configured, VM) == []

            # What the page had is there; the cell hears that what ran has ended, and nothing is started.
            marker = len(configured.traffic)
            server.start()
            tab.connect()
            lost, never = tab.wait(cell, after, timeout=PATIENCE)
            assert lost.status == "error"
            assert f"{VM} is deallocated: what ran there has ended." in lost.content["evalue"]
            assert said(lost).startswith(text)
            assert never.status == "aborted"
            assert server.row(kernel_id)["link"]["state"] == "gone"
            assert [w for w in writes(configured, marker) if "schedules" not in w] == []
            attach(server, kernel_id, "free")
            assert where(tab) == "here"
    # Ours is off with the VM, so that it does not come again the day after.
    with contextlib.closing(load_service()) as third:
        assert schedule(third).keep(Use.OFF).kind is Kind.NONE
    configured.power(VM, "start")
    assert len(configured.advance(2 * 24 * 3600)["struck"]) == 1
