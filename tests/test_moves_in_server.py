"""A notebook moves while a page looks at it: a real Jupyter server, its REST API, its websockets, its events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import (
    HERE,
    PATIENCE,
    WHERE,
    configured,
    emulator,
    nonce,
    ours,
    relay_folder,
    settings,
    where,
    writes,
)
from support.kernels import until
from support.served import Events, JupyterServer, RestError
from support.tab import Tab

__all__ = ["configured", "emulator"]


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as running:
        yield running


def move(server: JupyterServer, kernel_id: str, compute: str, **more: str | bool) -> tuple[dict[str, Any], list[str]]:
    path = f"jupyter-dsvm/kernels/{kernel_id}/compute"
    begun = server.rest("PUT", path, {"compute": compute, **more}, 202)
    assert begun["state"] == "running"
    return server.operation(begun["id"], PATIENCE)


def test_a_page_keeps_its_kernel(configured: Emulator, server: JupyterServer):
    secret = nonce(configured, "gpu-vm")
    session = server.open("digits.ipynb")
    kernel_id = session["kernel"]["id"]
    listed = server.rest("GET", "jupyter-dsvm/computes?refresh=true")
    ids = {c["name"]: c["id"] for c in listed["computes"]}
    assert {"cpu-vm", "gpu-vm", "win-vm", "old-vm"} < set(ids)
    assert "web-server" not in ids  # no DSVM
    with Tab(server, kernel_id) as page, Events(server) as events:
        assert where(page) == HERE
        assert (server.row(kernel_id)["compute"], server.row(kernel_id)["path"]) == ("free", "digits.ipynb")
        running = page.send("import time; time.sleep(1); print('here to the end')")
        queued = page.send(WHERE)

        done, said = move(server, kernel_id, ids["gpu-vm"])
        assert (done["state"], done["progress"], done["error"]) == ("done", 1.0, None)
        assert [s["name"] for s in done["steps"]] == ["start", "boot", "connect", "files", "kernel", "wait"]
        assert {s["state"] for s in done["steps"]} == {"done"}
        assert any("gpu-vm" in text for text in said)
        assert "Variables stayed on the free tier" in done["notice"]
        assert page.wait(running)[0].text == "here to the end\n"
        assert page.wait(queued)[0].text.strip() in (HERE, "gpu-vm")  # whichever came first; it is answered once
        assert where(page) == "gpu-vm"
        assert (
            page.run(
                "import os; print(open('/proc/sys/kernel/hostname').read(), open(os.path.expanduser('~/nonce')).read())"
            ).text.split()[1]
            == secret
        )
        row = server.row(kernel_id)
        assert (row["compute"], row["link"]["state"], row["moving_to"]) == (ids["gpu-vm"], "connected", None)
        (gpu,) = [c for c in server.rest("GET", "jupyter-dsvm/computes")["computes"] if c["name"] == "gpu-vm"]
        assert (gpu["attached"], gpu["power_state"]) == (["digits.ipynb"], "running")
        assert {e["what"] for e in events.of_ours()} == {
            "computes",
            "kernels",
            "operations",
            "spend",
            "workspaces",
        }
        assert set().union(*events.of_ours()) <= {"schema_id", "what", "revision", "id"} | {
            k for e in events.seen for k in e if k.startswith("__")
        }

        # A restart stays there, and is a fresh kernel.
        page.run("kept = 1")
        before = page.run("import os; print(os.getpid())").text
        server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        assert where(page) == "gpu-vm"
        assert page.run("kept").content["ename"] == "NameError"
        assert page.run("import os; print(os.getpid())").text != before

        # Renamed meanwhile.
        server.rest("PATCH", f"api/sessions/{session['id']}", {"path": "renamed.ipynb"})
        assert server.row(kernel_id)["path"] == "renamed.ipynb"

        done, _ = move(server, kernel_id, "free")
        assert (done["kind"], done["state"]) == ("detach", "done")
        assert where(page) == HERE
        # One kernel, one websocket, one session from the beginning to the end.
        assert page.connected
        assert [s["kernel"]["id"] for s in server.rest("GET", "api/sessions")] == [kernel_id]
        assert len({m["header"]["session"] for m in page.messages if m["msg_type"] != "iopub_welcome"}) == 1


def test_a_running_cell_is_interrupted_for_the_move(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("long.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        page.run("pass")
        for there, back in (("cpu-vm", HERE), ("free", "cpu-vm")):
            running = page.send(
                f"import time\nprint('begun', flush=True)\ntry:\n    time.sleep(300)\nfinally:\n    {WHERE}"
            )
            queued = page.send("print('never')")
            execution = page.of(running)
            page.until(lambda shown=execution: shown.text.startswith("begun"), PATIENCE)
            done, _ = move(server, kernel_id, there, interrupt=True)
            assert done["state"] == "done"
            page.wait(running, queued)
            assert (execution.status, execution.content["ename"]) == ("error", "KeyboardInterrupt")
            assert execution.text.split() == ["begun", back]  # there to its end
            assert page.of(queued).status == "aborted"
            assert where(page) == (HERE if there == "free" else there)
        # Where nothing runs there is nothing to interrupt.
        done, _ = move(server, kernel_id, "cpu-vm", interrupt=True)
        assert done["state"] == "done"
        assert where(page) == "cpu-vm"


def test_what_a_notebook_imports_and_where_it_last_ran(configured: Emulator, server: JupyterServer):
    session = server.open("imports.ipynb")
    kernel_id = session["kernel"]["id"]
    cells = [
        {"cell_type": "code", "source": "import json, ipykernel\nimport no_such_thing", "metadata": {}, "outputs": []}
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (server.root / "imports.ipynb").write_text(json.dumps(notebook))
    answer = server.rest("POST", "jupyter-dsvm/computes/cpu-vm/modules", {"sources": [cells[0]["source"]]}, 200)
    assert answer["modules"] == [
        {"name": "ipykernel", "package": "", "state": "present"},
        {"name": "no_such_thing", "package": "no-such-thing", "state": "missing"},
    ]
    cpu = next(c["id"] for c in server.rest("GET", "jupyter-dsvm/computes")["computes"] if c["name"] == "cpu-vm")
    with Tab(server, kernel_id) as page:
        assert server.row(kernel_id)["last_compute"] is None
        attached = page.run("%dsvm attach cpu-vm", timeout=PATIENCE)
        assert attached.status == "ok"
        assert (
            "Missing there: no_such_thing. Install it with %pip install no-such-thing in the next cell."
            in attached.text
        )
        assert where(page) == "cpu-vm"
        assert server.row(kernel_id)["last_compute"] is None  # it is there
    server.rest("DELETE", f"api/sessions/{session['id']}", None, 204)
    again = server.open("imports.ipynb")["kernel"]["id"]
    assert (server.row(again)["compute"], server.row(again)["last_compute"]) == ("free", cpu)
    server.rest("PUT", f"jupyter-dsvm/kernels/{again}/compute", {"compute": "free"}, 202)
    assert server.row(again)["last_compute"] is None  # somebody said that it is to be here


def test_the_end_leaves_nothing_on_the_machine(configured: Emulator, server: JupyterServer):
    session, other = server.open("one.ipynb"), server.open("two.ipynb")
    folders = []
    for each in (session, other):
        done, _ = move(server, each["kernel"]["id"], "cpu-vm")
        assert done["state"] == "done", done
        with Tab(server, each["kernel"]["id"]) as page:
            assert where(page) == "cpu-vm"
            folders.append(relay_folder(configured, "cpu-vm", page))
    server.rest("DELETE", f"api/sessions/{session['id']}", status=204)
    until(lambda: not folders[0].exists())
    with Tab(server, other["kernel"]["id"]) as page:  # which shared the connection
        assert where(page) == "cpu-vm"
        page.run("import subprocess; child = subprocess.Popen(['sleep', '1000'])")
    assert any("sleep 1000" in line for line in ours(configured, "cpu-vm"))
    server.rest("DELETE", f"api/kernels/{other['kernel']['id']}", status=204)
    until(lambda: not folders[1].exists())
    # What is left is the connection, for the next attach; the server's end takes it along.
    until(lambda: all("import sys,os" in line for line in ours(configured, "cpu-vm")))


def test_kernels_there_outlive_the_server(configured: Emulator, tmp_path: Path):
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as server:
        kernel_id = server.open("one.ipynb")["kernel"]["id"]
        done, _ = move(server, kernel_id, "cpu-vm")
        assert done["state"] == "done", done
        with Tab(server, kernel_id) as page:
            folder = relay_folder(configured, "cpu-vm", page)
            page.run("kept = 41")
        server.stop()
        assert folder.exists()
        server.start()
        with Tab(server, kernel_id) as page:
            assert where(page) == "cpu-vm"
            assert page.run("print(kept + 1)").text == "42\n"
        assert server.row(kernel_id)["path"] == "one.ipynb"
    until(lambda: not folder.exists() and not ours(configured, "cpu-vm"))


def test_the_vm_is_deallocated_while_there_is_no_server(configured: Emulator, tmp_path: Path):
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as server:
        kernel_id = server.open("one.ipynb")["kernel"]["id"]
        done, _ = move(server, kernel_id, "gpu-vm")
        assert done["state"] == "done", done
        with Tab(server, kernel_id) as tab:
            running = tab.send("print('here', flush=True); import time; time.sleep(300)")
            tab.until(lambda: tab.of(running).text)
            server.stop()
            tab.cut()
            configured.power("gpu-vm", "deallocate")
            before = len(configured.traffic)
            server.start()
            tab.connect()
            (lost,) = tab.wait(running, timeout=PATIENCE)
            assert (lost.text, lost.status) == ("here\n", "error")
            assert "gpu-vm is deallocated: what ran there has ended." in lost.content["evalue"]
            row = server.row(kernel_id)
            assert (row["link"]["state"], row["path"]) == ("gone", "one.ipynb")
            assert "gpu-vm is deallocated" in row["link"]["reason"]
            with pytest.raises(RestError):
                server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
            assert writes(configured, before) == []  # nothing was started
            done, _ = move(server, kernel_id, "free")
            assert done["state"] == "done", done
            assert where(tab) == HERE
        server.stop()
        server.start()
        assert server.rest("GET", "api/kernels") == []


def test_the_vm_is_deallocated_under_an_open_page(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("digits.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page, Events(server) as events:
        done, _ = move(server, kernel_id, "gpu-vm")
        assert done["state"] == "done", done
        running = page.send("import time; time.sleep(300)")
        queued = page.send(WHERE)
        page.until(lambda: "busy" in page.of(running).states)
        announced, before = len(events.of_ours()), len(configured.traffic)
        configured.power("gpu-vm", "deallocate")
        (lost,) = page.wait(running, timeout=PATIENCE)
        assert "gpu-vm is deallocated: what ran there has ended." in lost.content["evalue"]
        assert page.wait(queued)[0].status == "aborted"
        events.next_of_ours(announced, PATIENCE, what="kernels", id=kernel_id)
        # The page may have its messages a moment before what the row is made of has been written.
        until(lambda: server.row(kernel_id)["execution_state"] == "idle")
        assert server.row(kernel_id)["link"]["state"] == "gone"
        with pytest.raises(RestError) as refused:
            server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        assert refused.value.status == 500
        assert "gpu-vm is deallocated" in server.log.read_text()
        assert page.connected
        assert page.run(WHERE).status == "error"
        with Tab(server, kernel_id) as reloaded:
            assert reloaded.wait(reloaded.ask("kernel_info_request", {}))[0].status == "ok"
            assert "gpu-vm is deallocated" in reloaded.run(WHERE).content["evalue"]
        assert [w for w in writes(configured, before) if "/deallocate?" not in w] == []
        done, _ = move(server, kernel_id, "free")
        assert done["state"] == "done", done
        assert where(page) == HERE


def test_errors_of_the_api(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("digits.ipynb")["kernel"]["id"]
    path = f"jupyter-dsvm/kernels/{kernel_id}/compute"
    with pytest.raises(RestError) as e:
        server.rest("PUT", path, {"compute": "gpuvm"})
    assert (e.value.status, e.value.answer["code"]) == (404, "UnknownCompute")
    assert "Did you mean gpu-vm" in e.value.answer["advice"]
    with pytest.raises(RestError) as e:
        server.rest("PUT", path, {"compute": "win-vm"})
    assert (e.value.status, e.value.answer["code"]) == (409, "WindowsNotSupported")
    configured.fault("gpu-vm", "start", code="AllocationFailed")
    done, _ = move(server, kernel_id, "gpu-vm")
    assert (done["state"], done["error"]["code"]) == ("failed", "AllocationFailed")
    assert [s["state"] for s in done["steps"]] == ["failed", "pending", "pending", "pending", "pending", "pending"]
    assert server.row(kernel_id)["compute"] == "free"
    with Tab(server, kernel_id) as page:
        assert where(page) == HERE
