"""A notebook moves to an emulated VM and back, end to end: Azure's API, SSH, the relay and the kernels are all real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import NotAllowed
from jupyter_dsvm.models import StepState
from support.emulated import (
    HERE,
    PATIENCE,
    WHERE,
    all_at_once,
    assert_moved,
    attached,
    configured,
    emulator,
    nonce,
    ours,
    refused,
    settings,
    where,
    writes,
)
from support.kernels import Notebook, until
from support.sshd import sshd

__all__ = ["configured", "emulator"]

SAMPLE = resources.files("jupyter_dsvm") / "emulator" / "sample" / "digits.ipynb"
READ_NONCE = "from pathlib import Path; print((Path.home() / 'nonce').read_text())"


def facts(notebook: Notebook) -> dict[str, str]:
    """What the sample notebook prints, run from its first cell to its last: ``accuracy``, ``host``, ``home``, …"""
    said = ""
    for cell in json.loads(SAMPLE.read_text())["cells"]:
        if cell["cell_type"] == "code":
            done = notebook.run("".join(cell["source"]), timeout=PATIENCE)
            assert done.status == "ok", done.content
            said += done.text
    return dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)


def test_the_sample_notebook_here_there_and_here_again(configured: Emulator):
    with Notebook() as notebook:
        here = facts(notebook)
        assert float(here["accuracy"]) > 0.95
        operation = assert_moved(notebook, "gpu-vm")  # as the panel does it: the machine is off, so it is started
        assert [s.name for s in operation.steps] == ["start", "boot", "connect", "kernel", "wait"]
        assert all(s.state is StepState.DONE for s in operation.steps)
        assert "Variables stayed on the free tier" in operation.notice
        assert notebook.run("classifier").content["ename"] == "NameError"
        there = facts(notebook)
        assert there["accuracy"] == here["accuracy"]
        assert (there["host"], there["home"]) != (here["host"], here["home"])
        assert where(notebook) == "gpu-vm"
        assert assert_moved(notebook, "free").kind == "detach"
        again = facts(notebook)
        assert (again["host"], again["home"]) == (here["host"], here["home"])
    until(lambda: not ours(configured, "gpu-vm"))


ATTACHING = {
    "a line of its own": ("%dsvm attach gpu-vm", True),
    "behind a comment": ("# now with more machine\n%dsvm attach gpu-vm", False),
    "in a function": ("def more():\n    %dsvm attach gpu-vm\n\nmore()", False),
    "through IPython": ("name = 'gpu-vm'\nget_ipython().run_line_magic('dsvm', f'attach {name}')", True),
    "among other code": (f"before = 1\n%dsvm attach gpu-vm\n{WHERE}", False),
}
"""Cells that attach, and ``stop_on_error`` of all requests of that Run All."""


@pytest.mark.parametrize(("cell", "stop_on_error"), ATTACHING.values(), ids=ATTACHING)
def test_run_all_with_an_attach_in_the_second_cell(configured: Emulator, cell: str, stop_on_error: bool):
    secret = nonce(configured, "gpu-vm")
    with Notebook() as notebook:
        cells = [WHERE, cell, WHERE, "seen = ['third']", "seen.append('fourth')", READ_NONCE, "1/0", "print(seen)"]
        done = all_at_once(notebook, *cells, stop_on_error=stop_on_error)
        assert [d.status for d in done[:7]] == ["ok"] * 6 + ["error"]
        assert done[0].text.strip() == HERE
        assert "Start gpu-vm" in done[1].text
        assert "The following cells run on gpu-vm (" in done[1].text
        if cell.endswith(WHERE):
            assert done[1].text.splitlines()[-1] == HERE  # what follows the magic in its cell still runs here
        assert done[2].text.strip() == "gpu-vm"
        assert done[5].text.strip() == secret
        # As the kernel counts that ran it: here 1 and 2, there from 1 again.
        assert [d.count for d in done[:7]] == [1, 2, 1, 2, 3, 4, 5]
        assert [i["content"]["execution_count"] for d in done[2:7] for i in d.outputs("execute_input")] == [
            1,
            2,
            3,
            4,
            5,
        ]
        assert done[6].content["ename"] == "ZeroDivisionError"
        if stop_on_error:
            assert done[7].status == "aborted"
        else:
            assert (done[7].status, done[7].text.strip()) == ("ok", "['third', 'fourth']")
        ran = [m["parent_header"]["msg_id"] for m in notebook.messages if m["msg_type"] == "execute_input"]
        assert ran == [i for i in notebook.executions if i in ran]  # in the order in which they were sent
        # One session for life: JupyterLab drops what it has not handled yet when that changes.
        assert len({m["header"]["session"] for m in notebook.messages}) == 1


def test_nbclient_without_a_server_starts_the_machine_where_that_is_allowed(configured: Emulator, tmp_path: Path):
    """``jupyter execute`` as a process of its own, which ends while its notebook is on the VM."""
    secret = nonce(configured, "gpu-vm")
    sources = [WHERE, "%dsvm attach cpu-vm", WHERE, "%dsvm detach", WHERE, "%dsvm attach gpu-vm", WHERE, READ_NONCE]
    path = tmp_path / "report.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources]), path)
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", "--kernel_name=python3", path],
        env={**os.environ, "JUPYTER_DEFAULT_PROVISIONER_NAME": "dsvm-provisioner"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = ["".join(o.get("text", "") for o in cell.outputs).strip() for cell in nbformat.read(path, 4).cells]
    assert "Start gpu-vm" in said[5]
    assert [said[i] for i in (0, 2, 4, 6, 7)] == [HERE, "cpu-vm", HERE, "gpu-vm", secret]
    assert configured.vm("gpu-vm")["power_state"] == "running"
    assert [w for w in writes(configured) if "gpu-vm" in w][-1].split("?")[0].endswith("/start")
    until(lambda: not ours(configured, "gpu-vm") and not ours(configured, "cpu-vm"))


def executed(notebook: nbformat.NotebookNode, **options: Any) -> nbformat.NotebookNode:
    nbclient.NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", **options).execute()
    return notebook


def test_nbclient_says_why_where_it_is_not_allowed(
    configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings(configured, tmp_path / "config", DSVMService=None)))
    before = len(configured.traffic)
    cells = [nbformat.v4.new_code_cell(s) for s in ("kept = 7", "%dsvm attach gpu-vm", "print(kept)")]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="code may not start it"):
        executed(nbformat.v4.new_notebook(cells=cells))
    goes_on = executed(nbformat.v4.new_notebook(cells=cells), allow_errors=True)
    assert goes_on.cells[2].outputs[0]["text"] == "7\n"
    assert not writes(configured, before)


def test_a_cell_ran_there_and_nowhere_else(configured: Emulator):
    """The nonce is on the VM's disk only, and without the VM's SSH server there is no way to it."""
    secret = nonce(configured, "cpu-vm")
    with Notebook() as notebook:
        notebook.run("kept = 42")
        assert notebook.run(READ_NONCE).content["ename"] == "FileNotFoundError"
        attached(notebook, "cpu-vm")
        assert notebook.run(READ_NONCE).text.strip() == secret
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert notebook.run("kept").content["ename"] == "NameError"  # a fresh kernel here: the old one has ended
    configured.kill_ssh("cpu-vm")
    with Notebook() as notebook:
        notebook.run("kept = 43")
        vm = configured.vm("cpu-vm")
        said, name = refused(notebook, "%dsvm attach cpu-vm")
        assert name == "DSVMError"
        assert f"cpu-vm ({vm['host']}, port {vm['port']}) refuses connections." in said
        assert "Check that the machine runs, that sshd runs there" in said
        assert notebook.run("print(kept)").text == "43\n"
        assert notebook.run(READ_NONCE).content["ename"] == "FileNotFoundError"
        configured.start_ssh("cpu-vm")
        attached(notebook, "cpu-vm")  # nothing of the failure stays behind


def test_a_host_of_the_ssh_configuration_without_azure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None
):
    home, config = tmp_path / "home", tmp_path / "config"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    config.mkdir()
    (config / "jupyter_dsvm_config.json").write_text(
        '{"DSVMService": {"compute_providers": ["free", "hosts"]}, "SSHHosts": {"allowed_addresses": ["127.0.0.0/8"]}}'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(config))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with sshd(tmp_path / "sshd", env={"DSVM_NAME": "lab-pc", "PATH": path}) as server:
        (home / ".ssh/config").write_text(
            f"Host lab-pc\n  HostName {server.host}\n  Port {server.port}\n  User {server.user}\n"
            f"  IdentityFile {server.key_file}\n"
        )
        with Notebook() as notebook:
            said, _ = refused(notebook, "%dsvm attach lab-pc")  # its key was never seen
            assert "SHA256:" in said
            assert "Nothing was sent to it" in said
            assert f"ssh -p {server.port} {server.user}@{server.host}" in said
            (home / ".ssh/known_hosts").write_text(f"[{server.host}]:{server.port} {server.host_key_line}\n")
            listed = notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
            assert [line.split()[0] for line in listed.splitlines()[1:]] == ["*", "lab-pc"]
            attached(notebook, "lab-pc")
            assert notebook.run("print(__import__('os').path.expanduser('~'))").text.strip() == str(server.home)
            assert "runs on lab-pc" in notebook.run("%dsvm status").text
            said, _ = refused(notebook, "%dsvm stop lab-pc")
            assert "may not stop" in said
            assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
            assert where(notebook) == HERE
            said, _ = refused(notebook, "%dsvm stop lab-pc")
            assert "only by hand" in said
        assert not server.wait_until_idle()


def test_a_kernelspec_of_a_vm_starts_there_and_comes_back(
    configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    command = [sys.executable, "-m", "jupyter_dsvm", "kernelspec", "install", "cpu-vm"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert installed.returncode == 0, installed.stderr
    with Notebook("dsvm-cpu-vm-python3") as notebook:
        assert where(notebook) == "cpu-vm"
        assert notebook.run("%dsvm status").text.startswith("This notebook runs on cpu-vm with the kernel python3.")
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE
        notebook.km.restart_kernel()
        assert where(notebook) == HERE  # where it runs is no property of its kernelspec
    configured.power("cpu-vm", "deallocate")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings(configured, tmp_path / "config", DSVMService=None)))
    before = len(configured.traffic)
    with pytest.raises(NotAllowed, match="cpu-vm is deallocated, and code may not start it"):
        Notebook("dsvm-cpu-vm-python3")  # opening a notebook costs nothing
    assert writes(configured, before) == []
