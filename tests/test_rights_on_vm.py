"""What code on a VM may do with ``%dsvm``: look, move its own notebook to what runs, and nothing that costs or ends anything."""

from __future__ import annotations

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, PATIENCE, attached, configured, emulator, ours, refused, where, writes
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]

REFUSED = {
    "%dsvm start gpu-vm": "A kernel on a VM may not start machines.",
    "%dsvm stop cpu-vm": "A kernel on a VM may not stop machines.",
    "%dsvm stop gpu-vm": "A kernel on a VM may not stop machines.",
    "%dsvm restart cpu-vm": "A kernel on a VM may not restart machines.",
    "%dsvm attach gpu-vm": "gpu-vm is off, and a kernel on a VM may not start another one.",
    "%dsvm attach old-vm": "old-vm is stopped (still billed), and a kernel on a VM may not start another one.",
}

LATER = """
import json, os, socket, threading, time
def ask(line):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ["JUPYTER_DSVM_SOCKET"])
        s.sendall(json.dumps({"line": line, "version": 1}).encode() + b"\\n")
        return next(line for line in s.makefile() if '"progress"' not in line)
def later():
    time.sleep(0.5)
    answers.extend(ask(line) for line in ("status", "attach cpu-vm", "detach", "stop cpu-vm"))
answers = []
thread = threading.Thread(target=later)
thread.start()
"""


def test_code_on_a_vm_may_not_spend_or_stop(configured: Emulator):
    """The configuration allows code to start everything: that is for kernels here."""
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        before = len(configured.traffic)
        notebook.run("kept = 1")
        for line, expected in REFUSED.items():
            said, _ = refused(notebook, line)
            assert said.startswith(expected), said
            assert "Compute panel" in said
            assert "jupyter dsvm" in said
        assert notebook.run("print(kept)").text == "1\n"
        assert where(notebook) == "cpu-vm"
        assert writes(configured, before) == []
        assert configured.vm("gpu-vm")["power_state"] == "deallocated"
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE


def test_from_one_vm_to_another_and_back(configured: Emulator):
    configured.power("gpu-vm", "start")
    with Notebook() as notebook, Notebook() as other:
        other.run("%dsvm status")
        attached(notebook, "cpu-vm")
        before = len(configured.traffic)
        listed = notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
        assert "* " in next(line for line in listed.splitlines() if "cpu-vm" in line)
        assert "NOTEBOOKS" not in listed  # nor whose they are
        attached(notebook, "gpu-vm")
        assert "runs on gpu-vm" in notebook.run("%dsvm status").text
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE
        assert writes(configured, before) == []
        listed = notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
        assert "this notebook" in listed.splitlines()[1]
        assert f"notebook {other.proxy.kernel_id[:8]}" in listed.splitlines()[1]
        assert other.proxy.kernel_id not in listed
    until(lambda: not ours(configured, "cpu-vm") and not ours(configured, "gpu-vm"))


def test_code_on_a_vm_may_ask_only_while_a_cell_of_the_user_runs(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        notebook.run(LATER)
        until(lambda: notebook.proxy.status.execution_state == "idle")
        with pytest.raises(AssertionError, match="did not come about"):
            until(lambda: notebook.proxy.moving, 2)  # it does not even begin
        answers = notebook.run("thread.join(); print('\\n'.join(answers))").text
        assert answers.count("only while a cell of yours runs there") == 3
        assert answers.count("may not stop machines") == 1
        assert where(notebook) == "cpu-vm"
