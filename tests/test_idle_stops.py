"""Emulated VMs that nobody uses are deallocated, through real connections and kernels; what is used stays on; and Azure's own
schedule."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import jupyter_data_dir

from jupyter_dsvm import idlepolicy
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import FREE, IdleState, IdleStop, OperationState
from jupyter_dsvm.service import DSVMService, load_service
from support.emulated import (
    HERE,
    PATIENCE,
    SCHEDULES,
    WHERE,
    attached,
    configured,
    emulator,
    service,
    settings,
    unchanged,
    where,
)
from support.kernels import Notebook, until
from support.served import OTHERS, JupyterServer

__all__ = ["configured", "emulator"]

SECONDS = 4.0
"""Of idleness, after which a VM is stopped here."""


@pytest.fixture
def hurried(configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A VM is looked at twice a second and stopped after ``SECONDS``."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(quick(configured, tmp_path / "hurried")))
    yield configured
    shutil.rmtree(Path(jupyter_data_dir()) / "jupyter-dsvm" / "idle", ignore_errors=True)
    configured.request("DELETE", f"{schedule_of(configured)}?api-version=2018-09-15")


def schedule_of(emulator: Emulator) -> str:
    group = emulator.vm("gpu-vm")["id"].partition("/providers/")[0]
    return f"{group}/providers/Microsoft.DevTestLab/schedules/shutdown-computevm-gpu-vm"


def quick(emulator: Emulator, folder: Path, **more: Any) -> Path:
    return settings(
        emulator, folder, DSVMService={"idle_stop_minutes": SECONDS / 60, "idle_check_seconds": 0.5, **more}
    )


def stop_of(name: str = "gpu-vm", of: DSVMService | None = None) -> IdleStop | None:
    loaded = of or service()
    return loaded.idle_stops.of(loaded.known.find(name).id)


def shown(name: str = "gpu-vm", of: DSVMService | None = None) -> IdleStop:
    until(lambda: stop_of(name, of) is not None, 20)
    found = stop_of(name, of)
    assert found is not None
    return found


def state(emulator: Emulator, name: str = "gpu-vm") -> str:
    power: str = emulator.vm(name)["power_state"]
    return power


def stays_on(emulator: Emulator, text: str, seconds: float = 2 * SECONDS) -> None:
    """Longer than an idle one would."""
    until(lambda: text in (shown().text), 20)
    with pytest.raises(AssertionError):
        until(lambda: state(emulator) != "running", seconds)
    assert text in shown().text


def goes_off(emulator: Emulator, name: str = "gpu-vm", of: DSVMService | None = None) -> None:
    try:
        until(lambda: state(emulator, name) == "deallocated", PATIENCE)
    except AssertionError as e:
        raise AssertionError(f"{e}: {stop_of(name, of)}") from None


def schedules(emulator: Emulator) -> list[dict[str, Any]]:
    """What was written to the schedule of any VM, in its order."""
    exchanges = [e["request"] for e in emulator.traffic]
    return [json.loads(r["body"]) if isinstance(r["body"], str) else r["body"] for r in exchanges if is_write(r)]


def is_write(request: dict[str, Any]) -> bool:
    return request["method"] == "PUT" and SCHEDULES in request["url"]


def test_idle_and_off_and_the_notebook_is_back(hurried: Emulator) -> None:
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        until(lambda: (stop := stop_of()) is not None and stop.safety is not None and stop.safety.kind == "ours", 20)
        goes_off(hurried)
        until(lambda: notebook.proxy.status.compute == FREE, PATIENCE)
        said = [m["content"] for m in notebook.run(WHERE, timeout=PATIENCE).outputs("stream")]
        assert [(content["name"], content["text"]) for content in said] == [
            (
                "stderr",
                "gpu-vm was stopped after 4 idle seconds, and this notebook is back on the free tier with a new kernel. "
                "Its variables are lost; run the cells that make them.\n",
            ),
            ("stdout", f"{HERE}\n"),
        ]
        stop = next(o for o in service().operations()[0] if o.kind == "stop")
        assert stop.state is OperationState.DONE
        assert stop.notice.startswith("gpu-vm was stopped after 4 idle seconds.")
        assert stop_of() is None
        # The schedule was set ahead, and is disabled now: it is a daily one.
        until(lambda: [s["properties"]["status"] for s in schedules(hurried)[-2:]] == ["Enabled", "Disabled"], 20)
        (schedule,) = hurried.clock["schedules"]
        assert schedule["next"] is None


def test_a_silent_cell_keeps_it_on(hurried: Emulator) -> None:
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        cell = notebook.send("import time\nwhile True: time.sleep(1)")
        stays_on(hurried, "In use: a cell runs")
        notebook.km.interrupt_kernel()
        notebook.wait(cell)
        goes_off(hurried)


def test_a_gpu_alone_keeps_it_on(hurried: Emulator) -> None:
    """A program that needs the GPU and next to nothing else."""
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        (hardware,) = Path(hurried.vm("gpu-vm")["disk"]).glob("**/gpus.json")
        idle = hardware.read_text()
        hardware.write_text(json.dumps({**json.loads(idle), "utilization": 61}))
        stays_on(hurried, "In use: a GPU is at 61%.")
        hardware.write_text(idle)
        goes_off(hurried)


def test_another_persons_connection_keeps_it_on(hurried: Emulator) -> None:
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        row = hurried.vm("gpu-vm")
        way = [
            "ssh",
            "-F",
            "none",
            "-i",
            str(hurried.key_file),
            "-p",
            str(row["port"]),
            "-o",
            "StrictHostKeyChecking=no",
        ]
        way += ["-o", f"UserKnownHostsFile={os.devnull}", f"{row['user']}@{row['host']}", "sleep 300"]
        with subprocess.Popen(way, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as stranger:
            try:
                stays_on(hurried, "connection")
            finally:
                stranger.kill()
        goes_off(hurried)


def test_a_stop_that_fails_is_tried_again(hurried: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idlepolicy, "FIRST_WAIT", 2.0)
    hurried.fault("gpu-vm", "deallocate", code="OperationNotAllowed", at="request", times=2)
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        until(lambda: (stop := stop_of()) is not None and "could not be stopped and is still billed" in stop.text, 30)
        goes_off(hurried)
        until(lambda: notebook.proxy.status.compute == FREE, PATIENCE)
        failed = [o for o in service().operations()[0] if o.kind == "stop"]
        assert [o.state for o in failed] == [OperationState.FAILED]  # said once
        assert failed[0].error is not None
        assert "OperationNotAllowed" in failed[0].error.message


def test_keep_on_from_a_notebook(hurried: Emulator) -> None:
    with Notebook() as notebook, Notebook() as other:
        attached(notebook, "gpu-vm")
        assert other.run("%dsvm keep gpu-vm 2").text.startswith("gpu-vm is kept on for 2 h.")
        stays_on(hurried, "Kept on.")
        assert "kept on for 2 h" in str(other.run("%dsvm list").outputs("display_data")[0]["content"]["data"])
        assert "gpu-vm is running. Kept on for 2 h." in notebook.run("%dsvm status").text
        refused = notebook.run("%dsvm keep gpu-vm")  # which runs there
        assert refused.content["evalue"].startswith("A kernel on a VM may not keep machines.")
        assert "is not kept on any more" in other.run("%dsvm keep gpu-vm 0").text
        there = service().known.find("gpu-vm").id
        until(lambda: service().connections.ask(there, "activity").result(30)["leases"] == [], 20)  # type: ignore[union-attr]
        assert "is stopped after 1 idle minute." in other.run("%dsvm autostop gpu-vm 1").text
        until(lambda: shown().idle_minutes == 1, 10)
        assert "is not stopped for being idle" in other.run("%dsvm autostop gpu-vm off --hard 0.1").text
        until(lambda: shown().hard, 10)
        assert "%dsvm stop" not in other.run("%dsvm stop gpu-vm", timeout=PATIENCE).text
        until(lambda: stop_of() is None, 20)
        assert "is stopped after 30 idle minutes." in other.run("%dsvm autostop gpu-vm 30 --hard off").text


@contextlib.contextmanager
def server(folder: Path, name: str) -> Iterator[DSVMService]:
    """Another user's, who signs in on the VM with the same account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(folder / name))
        loaded = load_service()
    try:
        loaded.computes()
        loaded.idle_stops.begin()
        yield loaded
    finally:
        loaded.close()


def test_two_servers_do_not_stop_it_under_each_other(hurried: Emulator, tmp_path: Path) -> None:
    with server(tmp_path, "ada") as ada, server(tmp_path, "bob") as bob:
        begun = ada.start("gpu-vm")
        ada.operations_store.get(begun.id).finished.result(PATIENCE)
        bob.computes(refresh=True)
        bob.idle_stops.configure("gpu-vm", idle_minutes=30)
        bob.idle_stops.keep("gpu-vm", 30)
        until(lambda: (stop := shown(of=ada)).state is IdleState.KEPT and stop.text.startswith("Kept on: Keep on"), 20)
        with pytest.raises(AssertionError):
            until(lambda: state(hurried) != "running", 2 * SECONDS)
        bob.idle_stops.keep("gpu-vm", 0)
        goes_off(hurried, of=ada)
        bob.computes(refresh=True)
        until(lambda: stop_of(of=ada) is None and stop_of(of=bob) is None, 20)


def test_by_hand_and_the_schedule_of_somebody_else(hurried: Emulator) -> None:
    path = schedule_of(hurried)
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        until(lambda: hurried.clock["schedules"] and hurried.clock["schedules"][0]["next"], 20)
        # Time passes at Azure: it is moved on, so that it does not come.
        first = hurried.clock["schedules"][0]["next"]
        hurried.advance(2 * 3600)
        service().idle_stops.safety._known.clear()
        until(lambda: hurried.clock["schedules"][0]["next"] > first, 20)
        notebook.run("%dsvm detach", timeout=PATIENCE)
        assert where(notebook) == HERE
        notebook.run("%dsvm stop gpu-vm", timeout=PATIENCE)
        until(lambda: hurried.clock["schedules"][0]["next"] is None, 20)
        # Its owner has a schedule of their own from now on.
        _, _, body = hurried.request("GET", f"{path}?api-version=2018-09-15")
        body["properties"] |= {"status": "Enabled", "dailyRecurrence": {"time": "1900"}}
        body["properties"]["timeZoneId"] = "W. Europe Standard Time"
        hurried.request(
            "PUT", f"{path}?api-version=2018-09-15", {k: body[k] for k in ("location", "tags", "properties")}
        )
        _, _, theirs = hurried.request("GET", f"{path}?api-version=2018-09-15")
        attached(notebook, "gpu-vm")
        until(lambda: (stop := stop_of()) is not None and stop.safety is not None and stop.safety.kind == "theirs", 20)
        assert "Azure stops it every day at 19:00 (W. Europe Standard Time)" in (shown().safety or shown()).text
        goes_off(hurried)
        until(lambda: stop_of() is None, 20)
        assert hurried.request("GET", f"{path}?api-version=2018-09-15")[2] == theirs


def test_the_server_is_killed_in_the_middle(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has started is remembered, and watched again; nobody opens a page, and no notebook is there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))  # where a killed server leaves its files
    folder = quick(emulator, tmp_path / "server", idle_stop_minutes=0.25)
    with unchanged(emulator), JupyterServer(tmp_path / "notebooks", folder, OTHERS) as running:
        begun = running.rest("POST", f"jupyter-dsvm/computes/{compute(emulator, 'gpu-vm')}/start", {}, 202)
        assert running.operation(begun["id"], PATIENCE)[0]["state"] == "done"

        def row() -> dict[str, Any]:
            rows = running.rest("GET", "jupyter-dsvm/computes")["computes"]
            return next(r["idle"] or {} for r in rows if r["name"] == "gpu-vm")

        until(lambda: row().get("stops_at"), 20)
        first = row()["stops_at"]
        running.kill()
        running.start()
        until(lambda: row().get("stops_at"), 30)
        assert row()["stops_at"] > first  # the count begins anew
        assert row()["safety"]["kind"] == "ours"
        goes_off(emulator)
        until(lambda: row().get("text") == "It is off.", 20)
        # The command line knows it all without a server.
        done = subprocess.run(
            [sys.executable, "-m", "jupyter_dsvm", "start", "gpu-vm"],
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        until(lambda: row().get("stops_at"), 30)  # the server of this account has heard
        listed = subprocess.run(
            [sys.executable, "-m", "jupyter_dsvm", "list"],
            env={**os.environ, "JUPYTER_CONFIG_DIR": str(folder)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert "running, stops in" in listed.stdout
        goes_off(emulator)


def compute(emulator: Emulator, name: str) -> str:
    return f"azure:{emulator.vm(name)['vm_id'].lower()}"


def test_what_is_in_memory_is_saved_before_and_loaded_when_the_notebook_is_there_again(hurried: Emulator) -> None:
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        notebook.run(
            "import threading, math\nclass Point: x = 1\np = Point(); made = list(range(1000))\nlock = threading.Lock()"
        )
        goes_off(hurried)
        until(lambda: notebook.proxy.status.compute == FREE, PATIENCE)

        def notice() -> str:
            return next(o for o in service().operations()[0] if o.kind == "stop").notice

        until(lambda: "3 variables saved on its disk (" in notice(), 20)
        assert "1 could not be: lock (" in notice()
        assert "its variables are lost" not in notice()
        said = [
            m["content"]["text"] for m in notebook.run("print('made' in dir())", timeout=PATIENCE).outputs("stream")
        ]
        assert said[1:] == ["False\n"]
        assert "3 of its variables were saved" in said[0]
        (row,) = service().kernels()[0]
        assert row.saved is not None
        assert (row.saved.count, set(row.saved.names), row.saved.left) == (3, {"Point", "p", "made"}, ("lock",))
        refused_here = notebook.run("%dsvm load")
        assert refused_here.content["evalue"].startswith(
            "The variables were saved on gpu-vm, and this notebook runs elsewhere."
        )
        back = notebook.run("%dsvm attach gpu-vm", timeout=PATIENCE)
        assert "3 variables were saved there when the machine was stopped" in back.text
        assert "%dsvm load brings them back." in back.text
        assert where(notebook) == "gpu-vm"
        loaded = notebook.run("%dsvm load", timeout=PATIENCE)
        assert loaded.text.startswith("3 variables loaded."), loaded.content
        assert notebook.run("print(len(made), p.x, type(p) is Point)").text == "1000 1 True\n"
        saved = Path(hurried.vm("gpu-vm")["home"]) / ".local" / "share" / "jupyter-dsvm" / "saved"
        until(lambda: not list(saved.glob("*")), 20)
        assert service().kernels()[0][0].saved is None
        assert notebook.run("%dsvm load").content["evalue"].startswith("No variables of this notebook were saved.")
