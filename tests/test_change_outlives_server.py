"""The server is killed, or stopped, while a machine starts or stops: the next one goes on with the same operation."""

from __future__ import annotations

import json
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import PATIENCE, emulator, settings, unchanged, writes
from support.kernels import until
from support.served import OTHERS, JupyterServer

__all__ = ["emulator"]

SLOW = 12.0
"""Seconds of a start or a stop: a server comes up meanwhile, though this computer is busy."""


@pytest.fixture
def server(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    runtime = tempfile.mkdtemp(prefix="rt-")  # where a killed server leaves its files
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", runtime)
    folder = settings(emulator, tmp_path / "server")
    with unchanged(emulator):
        try:
            with JupyterServer(tmp_path / "notebooks", folder, OTHERS) as running:
                yield running
        finally:
            emulator.set_timings(start=0.3, deallocate=0.2, restart=0.3)
            shutil.rmtree(runtime)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "jupyter-dsvm" / "changes").glob("*.json"))


def compute(emulator: Emulator, name: str) -> str:
    return f"azure:{emulator.vm(name)['vm_id'].lower()}"


def begin(server: JupyterServer, emulator: Emulator, name: str, action: str) -> dict[str, Any]:
    operation: dict[str, Any] = server.rest(
        "POST", f"jupyter-dsvm/computes/{compute(emulator, name)}/{action}", {}, 202
    )
    return operation


def accepted(tmp_path: Path, action: str) -> dict[str, Any]:
    """What is kept, once Azure has accepted it."""

    def facts() -> dict[str, Any]:
        return json.loads(kept(tmp_path)[0].read_text()) if kept(tmp_path) else {"facts": {}}

    until(lambda: f"{action}_operation" in facts()["facts"], PATIENCE)
    return facts()


@pytest.mark.parametrize(
    ("name", "action", "verb", "after"),
    [("gpu-vm", "start", "start", "running"), ("cpu-vm", "stop", "deallocate", "deallocated")],
)
def test_killed_while_azure_works(
    server: JupyterServer, emulator: Emulator, tmp_path: Path, name: str, action: str, verb: str, after: str
):
    emulator.set_timings(start=SLOW, deallocate=SLOW)
    begun = begin(server, emulator, name, action)
    accepted(tmp_path, action)
    (file,) = kept(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert emulator.token not in file.read_text()
    before = len(emulator.traffic)
    server.kill()
    server.start()
    operations = server.rest("GET", "jupyter-dsvm/operations")["operations"]
    (found,) = [o for o in operations if o["id"] == begun["id"]]  # from the first moment
    assert (found["state"], found["started"], found["elsewhere"]) == ("running", begun["started"], False)
    assert emulator.vm(name)["power_state"] != after
    done, said = server.operation(begun["id"], PATIENCE)
    assert (done["state"], done["error"]) == ("done", None)
    assert [s["state"] for s in done["steps"]] == ["done"] * len(begun["steps"])
    assert any("Azure is" in text for text in said)
    assert emulator.vm(name)["power_state"] == after
    assert writes(emulator, before) == []  # nothing was asked twice
    (row,) = [c for c in server.rest("GET", "jupyter-dsvm/computes")["computes"] if c["name"] == name]
    assert row["power_state"] == after
    until(lambda: not kept(tmp_path))
    # Nor is it shown as somebody else's.
    assert not [o for o in server.rest("GET", "jupyter-dsvm/operations")["operations"] if o["elsewhere"]]


def test_stopped_in_good_order_while_azure_works(server: JupyterServer, emulator: Emulator, tmp_path: Path):
    emulator.set_timings(start=SLOW)
    begun = begin(server, emulator, "gpu-vm", "start")
    accepted(tmp_path, "start")
    server.stop()
    assert len(kept(tmp_path)) == 1
    server.start()
    done, _ = server.operation(begun["id"], PATIENCE)
    assert done["state"] == "done"
    assert emulator.vm("gpu-vm")["power_state"] == "running"


def test_killed_while_an_attach_starts_the_machine(server: JupyterServer, emulator: Emulator, tmp_path: Path):
    """The notebook's kernel ends with the server; what is billed does not, and is shown."""
    emulator.set_timings(start=SLOW)
    kernel = server.open("one.ipynb")["kernel"]["id"]
    begun = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel}/compute", {"compute": "gpu-vm"}, 202)
    accepted(tmp_path, "start")
    server.kill()
    server.start()
    (found,) = server.rest("GET", "jupyter-dsvm/operations")["operations"]
    assert (found["kind"], found["compute"], found["state"]) == ("start", begun["compute"], "running")
    done, _ = server.operation(found["id"], PATIENCE)
    assert (done["state"], done["notice"]) == ("done", "gpu-vm runs.")
    until(lambda: not kept(tmp_path))


@pytest.mark.parametrize(("name", "action"), [("gpu-vm", "start"), ("cpu-vm", "stop")])
def test_killed_before_azure_was_asked(
    server: JupyterServer, emulator: Emulator, tmp_path: Path, name: str, action: str
):
    """What costs money is not asked for behind the user's back, what saves some is."""
    listed = server.rest("GET", "jupyter-dsvm/computes?refresh=true")  # so that only the VM itself is asked for
    assert len(listed["computes"]) > 2
    emulator.set_scenario(latency=[{"operation": "instanceView", "seconds": 30.0}])
    try:
        before = len(emulator.traffic)
        begun = begin(server, emulator, name, action)
        until(lambda: kept(tmp_path), PATIENCE)
        server.kill()
    finally:
        emulator.set_scenario(latency=[])
    assert json.loads(kept(tmp_path)[0].read_text())["facts"] == {}
    server.start()
    ended, _ = server.operation(begun["id"], PATIENCE)
    if action == "stop":
        assert (ended["state"], ended["error"]) == ("done", None)
        assert emulator.vm(name)["power_state"] == "deallocated"
    else:
        assert ended["state"] == "failed"
        assert ended["error"]["code"] == "Interrupted"
        assert "gpu-vm is deallocated now." in ended["error"]["message"]
        assert "ask for it again if you still want it" in ended["error"]["advice"]
        time.sleep(0.5)
        assert writes(emulator, before) == []
    until(lambda: not kept(tmp_path))


def test_nobody_is_signed_in_when_the_server_comes_back(server: JupyterServer, emulator: Emulator, tmp_path: Path):
    emulator.set_timings(deallocate=SLOW)
    begun = begin(server, emulator, "cpu-vm", "stop")
    accepted(tmp_path, "stop")
    server.kill()
    config = tmp_path / "server" / "jupyter_dsvm_config.json"
    signed_in = config.read_text()
    values = json.loads(signed_in)
    values["AzureCompute"]["token_file"] = str(tmp_path / "none")
    config.write_text(json.dumps(values))
    server.start()
    until(lambda: "signs in" in step_text(server, begun["id"]), PATIENCE)
    token = tmp_path / "none"
    token.touch(0o600)
    token.write_text(emulator.token)
    done, _ = server.operation(begun["id"], PATIENCE)
    assert (done["state"], done["error"]) == ("done", None)


def step_text(server: JupyterServer, operation_id: str) -> str:
    steps = server.rest("GET", f"jupyter-dsvm/operations/{operation_id}")["steps"]
    return next((s["text"] for s in steps if s["state"] == "running"), "")
