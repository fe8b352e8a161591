"""A start that is taken back over REST: the waiting ends, the machine is released, and the notebook stays where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, PATIENCE, configured, emulator, settings, where, writes
from support.kernels import until
from support.served import OTHERS, JupyterServer, RestError
from support.tab import Tab

__all__ = ["configured", "emulator"]


@pytest.fixture
def server(configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    configured.set_timings(start=8.0)
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server"), OTHERS) as running:
        yield running
    configured.set_timings(start=0.3)


def asked(server: JupyterServer, operation_id: str) -> None:
    """Wait until Azure starts the machine."""
    until(
        lambda: any(
            s["state"] == "running" and s["text"] == "Azure is starting gpu-vm"
            for s in server.rest("GET", f"jupyter-dsvm/operations/{operation_id}")["steps"]
        ),
        PATIENCE,
    )


def actions(emulator: Emulator, since: int) -> list[str]:
    return [w.partition("?")[0].rpartition("/")[2] for w in writes(emulator, since)]


def test_a_start(server: JupyterServer, configured: Emulator):
    before = len(configured.traffic)
    start = server.rest("POST", "jupyter-dsvm/computes/gpu-vm/start", {}, 202)
    asked(server, start["id"])
    stop = server.rest("DELETE", f"jupyter-dsvm/operations/{start['id']}?release=true", status=202)
    assert (stop["kind"], stop["compute"]) == ("stop", start["compute"])
    ended, _ = server.operation(start["id"], PATIENCE)
    assert ended["state"] == "cancelled"
    done, _ = server.operation(stop["id"], PATIENCE)
    assert (done["state"], done["notice"]) == ("done", "gpu-vm is off.")
    assert configured.vm("gpu-vm")["power_state"] == "deallocated"
    assert actions(configured, before) == ["start", "deallocate"]


def test_without_release_it_says_what_goes_on(server: JupyterServer, configured: Emulator):
    start = server.rest("POST", "jupyter-dsvm/computes/gpu-vm/start", {}, 202)
    asked(server, start["id"])
    server.rest("DELETE", f"jupyter-dsvm/operations/{start['id']}", status=204)
    ended, _ = server.operation(start["id"], PATIENCE)
    assert ended["state"] == "cancelled"
    assert "Azure goes on starting it, and it is billed while it runs" in ended["error"]["message"]
    assert "releases it" in ended["error"]["advice"]
    # It is shown until it has happened.
    server.rest("GET", "jupyter-dsvm/computes?refresh=true")
    until(lambda: any(o["elsewhere"] for o in server.rest("GET", "jupyter-dsvm/operations")["operations"]), PATIENCE)
    (shown,) = [o for o in server.rest("GET", "jupyter-dsvm/operations")["operations"] if o["elsewhere"]]
    assert "though this server has stopped waiting" in shown["steps"][0]["text"]
    with pytest.raises(RestError, match="BegunElsewhere") as caught:
        server.rest("DELETE", f"jupyter-dsvm/operations/{shown['id']}")
    assert caught.value.status == 409
    done, _ = server.operation(shown["id"], PATIENCE)
    assert (done["state"], done["notice"]) == ("done", "gpu-vm runs.")


def test_an_attach_that_starts_the_machine(server: JupyterServer, configured: Emulator):
    kernel = server.open("one.ipynb")["kernel"]["id"]
    before = len(configured.traffic)
    with Tab(server, kernel) as page:
        page.run("kept = 1")
        attach = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel}/compute", {"compute": "gpu-vm"}, 202)
        asked(server, attach["id"])
        stop = server.rest("DELETE", f"jupyter-dsvm/operations/{attach['id']}?release=true", status=202)
        ended, _ = server.operation(attach["id"], PATIENCE)
        assert ended["state"] == "cancelled"
        done, _ = server.operation(stop["id"], PATIENCE)
        assert done["state"] == "done"
        assert where(page) == HERE
        assert page.run("print(kept)").text == "1\n"
    assert configured.vm("gpu-vm")["power_state"] == "deallocated"
    assert actions(configured, before) == ["start", "deallocate"]
