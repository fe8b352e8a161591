"""What a VM has cost, told by a real server against the emulated Azure: over kill -9, and with a budget that is spent.

A dollar a second, so that nobody has to wait.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import PATIENCE, emulator, refused, settings, unchanged
from support.kernels import until
from support.served import OTHERS, JupyterServer, RestError
from support.tab import Tab

__all__ = ["emulator"]

LATE = 3.0
"""Seconds that the emulator and a loaded computer may take for what is meant to happen at one moment."""


@pytest.fixture
def server(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    runtime = tempfile.mkdtemp(prefix="rt-")  # where a killed server leaves its files
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", runtime)
    emulator.set_scenario(prices=[{"size": "Standard_NC4as_T4_v3", "usd": 3600.0}])
    folder = settings(emulator, tmp_path / "server", DSVMService={"spend_names": ["gpu-vm"], "kernel_may_start": {}})
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(folder))
    with unchanged(emulator):
        try:
            with JupyterServer(tmp_path / "notebooks", folder, OTHERS) as running:
                yield running
        finally:
            emulator.set_scenario(prices=[])
            shutil.rmtree(runtime)


def spend(server: JupyterServer, refresh: bool = False) -> dict[str, Any]:
    if refresh:
        server.rest("GET", "jupyter-dsvm/computes?refresh=true")
    answer: dict[str, Any] = server.rest("GET", "jupyter-dsvm/spend")
    return answer


def power(server: JupyterServer, emulator: Emulator, action: str) -> dict[str, Any]:
    compute = f"azure:{emulator.vm('gpu-vm')['vm_id'].lower()}"
    begun = server.rest("POST", f"jupyter-dsvm/computes/{compute}/{action}", {}, 202)
    ended, _ = server.operation(begun["id"], PATIENCE)
    assert ended["state"] == "done", ended
    return ended


def terminal(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jupyter_dsvm", *words], capture_output=True, text=True, timeout=110, env=os.environ
    )


def test_over_kill_9_azures_own_time_counts(server: JupyterServer, emulator: Emulator, tmp_path: Path):
    assert spend(server, refresh=True)["month"] == 0
    before = time.time()
    power(server, emulator, "start")
    started = time.time()
    until(lambda: spend(server)["per_hour"] == 3600.0)
    first = spend(server)
    assert started - before + LATE > first["month"] >= 0
    assert [c["name"] for c in first["computes"]] == ["gpu-vm"]
    time.sleep(1)
    assert 0.9 <= spend(server)["month"] - first["month"] < 1 + LATE

    server.kill()
    time.sleep(2)
    server.start()
    now = spend(server, refresh=True)
    assert (now["per_hour"], now["unseen"], now["unpriced"]) == (3600.0, [], [])
    assert time.time() - started - LATE < now["month"] < time.time() - before + LATE

    server.kill()
    time.sleep(1)
    emulator.power("gpu-vm", "deallocate")  # in the portal, or the VM's own schedule
    off = time.time()
    time.sleep(2 * LATE)
    server.start()
    until(lambda: spend(server, refresh=True)["per_hour"] == 0)
    now = spend(server)
    assert off - started - LATE < now["month"] < off - before + LATE
    assert now["unseen"] == []
    time.sleep(0.5)
    assert spend(server)["month"] == now["month"]
    (file,) = (tmp_path / "data" / "jupyter-dsvm").glob("spend.sqlite*")
    assert file.name == "spend.sqlite"


def test_a_budget_that_is_spent_refuses_in_page_cell_and_terminal(
    server: JupyterServer, emulator: Emulator, tmp_path: Path
):
    config = tmp_path / "server" / "jupyter_dsvm_config.json"
    values = json.loads(config.read_text())
    values["DSVMService"] |= {"budget": 6.0, "kernel_may_start": {"names": ["*"]}}
    config.write_text(json.dumps(values))
    server.stop()
    server.start()
    assert spend(server, refresh=True)["budgets"][0]["state"] == "ok"
    power(server, emulator, "start")
    until(lambda: spend(server)["budgets"][0]["state"] == "exceeded", PATIENCE)
    assert emulator.vm("gpu-vm")["power_state"] == "running"  # it goes on
    power(server, emulator, "stop")
    until(lambda: spend(server)["per_hour"] == 0)
    (budget,) = spend(server)["budgets"]
    message = f"gpu-vm was not started: ${budget['spent']:.2f} of this month's budget of $6 is spent, by this server's estimate."
    trait = "raise DSVMService.budget in jupyter_dsvm_config.py"

    kernel = server.open("one.ipynb")["kernel"]["id"]
    compute = f"azure:{emulator.vm('gpu-vm')['vm_id'].lower()}"
    for method, path, body in (
        ("POST", f"computes/{compute}/start", {}),
        ("PUT", f"kernels/{kernel}/compute", {"compute": "gpu-vm"}),
    ):
        with pytest.raises(RestError) as caught:
            server.rest(method, f"jupyter-dsvm/{path}", body)
        assert caught.value.status == 403
        assert (caught.value.answer["code"], caught.value.answer["message"]) == ("BudgetExceeded", message)
        assert trait in caught.value.answer["advice"]
    with Tab(server, kernel) as tab:
        for line in ("%dsvm start gpu-vm", "%dsvm attach gpu-vm"):
            said, _ = refused(tab, line)
            assert said.startswith(message), said
            assert trait in said
        shown = tab.run("%dsvm spend", timeout=PATIENCE)
        (table,) = shown.outputs("display_data")  # of whose plain text this tab keeps the beginning
        html = table["content"]["data"]["text/html"].replace("<span>$</span>", "$")
        assert f"${budget['spent']:.2f} of $6 " in html
        assert table["content"]["data"]["text/plain"].startswith("DAY ")
    done = terminal("start", "gpu-vm")
    assert (done.returncode, message in done.stderr, trait in done.stderr) == (1, True, True)
    assert "Traceback" not in done.stderr
    assert emulator.vm("gpu-vm")["power_state"] == "deallocated"

    told = json.loads(terminal("spend", "--json", "--days", "2").stdout)
    assert told["month"] == pytest.approx(budget["spent"])
    assert sum(d["amount"] for d in told["days"]) == pytest.approx(told["month"])
    table = terminal("spend").stdout.splitlines()
    assert table[0].split() == ["DAY", "NAME", "HOURS", "COST"]
    assert table[1].split()[1] == "gpu-vm"
    assert f"This month's budget: ${budget['spent']:.2f} of $6" in "\n".join(table)
    assert terminal("spend", "--days", "0").returncode == 2
