"""A notebook's VM gets a GPU and gives it back: what is on its OS disk stays, and the notebooks that ran there are told.

Against the emulator, whose VMs are real SSH servers with a disk and a Python of their own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.errors import KernelsRunning
from jupyter_dsvm.models import Operation, OperationState
from support.emulated import HERE, PATIENCE, attached, configured, moved, refused, service, where, writes
from support.kernels import Notebook, until

__all__ = ["configured"]

CPU, GPU = "Standard_D4ds_v5", "Standard_NC4as_T4_v3"

SMI = """
import subprocess
try:
    print(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout, end="")
except FileNotFoundError:
    print("no nvidia-smi")
"""

KILLED = """
import json, os, signal, sys
from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.service import load_service

stage, asked, file = sys.argv[1], sys.argv[2] == "True", sys.argv[3]

def keep(facts):
    with open(file, "w") as f:
        json.dump(facts, f)
    if (facts["stage"], facts["asked"]) == (stage, asked):
        os.kill(os.getpid(), signal.SIGKILL)

known = load_service().known
known.resize(known.find("cpu-vm").id, "standard_nc4as_t4_v3", lambda text, done: None, Cancel(), Memo(keep=keep))
"""
"""A server that is killed at a moment of a resize: its last note is on disk."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=STANDARD[:3], may_start=True) as running:
        yield running


@pytest.fixture(autouse=True)
def usual_size(configured: Emulator) -> Iterator[None]:
    """Put back as somebody does it in the portal: the service of the test is closed by then."""
    yield
    configured.set_scenario(capacity=[])
    if size(configured) == CPU:
        return
    configured.power("cpu-vm", "deallocate")
    body = {"properties": {"hardwareProfile": {"vmSize": CPU}}}
    path = f"{configured.vm('cpu-vm')['id']}?api-version=2024-07-01"
    _, headers, _ = configured.request("PATCH", path, body)
    until(lambda: configured.request("GET", headers["azure-asyncoperation"])[2]["status"] != "InProgress")
    configured.power("cpu-vm", "start")


def size(emulator: Emulator) -> str:
    model = emulator.request("GET", f"{emulator.vm('cpu-vm')['id']}?api-version=2024-07-01")[2]
    return str(model["properties"]["hardwareProfile"]["vmSize"])


def resized(name: str) -> Operation:
    """As the page does it."""
    operation = service().resize("cpu-vm", name, end_kernels=True)
    ended: Future[Operation] = service().operations_store.get(operation.id).finished
    return ended.result(PATIENCE)


def test_a_file_survives_cpu_gpu_cpu(configured: Emulator):
    with Notebook() as notebook, Notebook() as other:
        attached(notebook, "cpu-vm")
        notebook.run("import os; open(os.path.expanduser('~/results'), 'w').write('42 epochs')")
        assert notebook.run(SMI).text == "no nvidia-smi\n"

        # Whoever asks first learns whose kernel it would end, and nothing has been asked of Azure.
        before = len(configured.traffic)
        said, code = refused(other, f"%dsvm resize cpu-vm {GPU}")
        assert f"notebook {notebook.proxy.kernel_id[:8]} runs on cpu-vm; a resize ends its kernel" in said
        assert code == "DSVMError"
        with pytest.raises(KernelsRunning):
            service().resize("cpu-vm", GPU)
        assert writes(configured, before) == []

        done = other.run("%dsvm resize cpu-vm nc4as_t4_v3 --yes", timeout=PATIENCE)
        assert done.status == "ok", done.content
        for text in (
            "cpu-vm is released, changed and started again",
            "if there is still room",
            "Azure is releasing cpu-vm",
            "Azure is resizing cpu-vm",
            "Azure is starting cpu-vm",
            f"cpu-vm has the size {GPU} (4 CPU · 28 GB · 1 × T4) and is running.",
            "is back on the free tier with a new kernel; its variables are lost.",
        ):
            assert text in done.text
        assert where(notebook) == where(other) == HERE

        assert moved(notebook, "cpu-vm").state is OperationState.DONE
        assert notebook.run(SMI, timeout=PATIENCE).text.startswith("GPU 0: Tesla T4 (UUID: GPU-")
        assert notebook.run("import os; print(open(os.path.expanduser('~/results')).read())").text == "42 epochs\n"

        ended = resized(CPU)
        assert ended.state is OperationState.DONE, ended.error
        assert [step.name for step in ended.steps] == ["release", "change", "start"]
        assert moved(notebook, "cpu-vm").state is OperationState.DONE
        assert notebook.run(SMI, timeout=PATIENCE).text == "no nvidia-smi\n"
        assert notebook.run("import os; print(open(os.path.expanduser('~/results')).read())").text == "42 epochs\n"


def test_one_that_cannot_work_stops_nothing(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        notebook.run("kept = 3")
        before = len(configured.traffic)
        ended = resized("Standard_D4s_v6")
        assert ended.state is OperationState.FAILED
        assert ended.error is not None
        assert "Its disks are attached by NVMe" in ended.error.message
        assert writes(configured, before) == []
        assert notebook.run("print(kept)").text == "3\n"


def test_no_room_for_the_new_size_ends_at_the_old_one_and_running(configured: Emulator):
    configured.set_scenario(capacity=[{"size": GPU, "machines": 0}])
    ended = resized(GPU)
    assert ended.state is OperationState.FAILED
    assert ended.error is not None
    assert ended.error.code == "AllocationFailed"
    assert f"cpu-vm has its old size, {CPU}, and runs again." in ended.error.message
    assert [step.name for step in ended.steps] == ["release", "change", "start", "back", "again"]
    assert (size(configured), configured.vm("cpu-vm")["power_state"]) == (CPU, "running")
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")


def test_an_interrupted_cell_puts_it_back(configured: Emulator):
    configured.set_timings(deallocate=2.0)
    try:
        with Notebook() as notebook:
            before = len(configured.traffic)
            running = notebook.send(f"%dsvm resize cpu-vm {GPU}")
            notebook.until(lambda: "Azure is releasing cpu-vm" in notebook.of(running).text, PATIENCE)
            notebook.km.interrupt_kernel()
            assert notebook.wait(running, timeout=PATIENCE)[0].status == "error"
            operation = next(o for o in service().operations()[0] if o.kind == "resize")
            ended = service().operations_store.get(operation.id).finished.result(PATIENCE)
            assert ended.state is OperationState.CANCELLED
            assert ended.error is not None
            assert f"cpu-vm has its old size, {CPU}, and runs again." in ended.error.message
            assert [w.partition("?")[0].rpartition("/")[2] for w in writes(configured, before)] == [
                "deallocate",
                "start",
            ]
    finally:
        configured.set_timings(deallocate=0.2)


@pytest.mark.parametrize(("stage", "asked"), [("release", True), ("change", False), ("change", True), ("start", True)])
def test_a_server_killed_in_the_middle_is_gone_on_with(configured: Emulator, tmp_path, stage: str, asked: bool):
    file = tmp_path / "facts.json"
    before = len(configured.traffic)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, stage, str(asked), str(file)], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    facts = json.loads(file.read_text())
    assert (facts["stage"], facts["asked"]) == (stage, asked)
    # The next server is handed the facts.
    compute = service().known.find("cpu-vm")
    row = service().known.resize(compute.id, facts["size"].lower(), lambda text, done: None, Cancel(), Memo(facts))
    assert row.size is not None
    assert row.size.name == GPU
    assert (size(configured), configured.vm("cpu-vm")["power_state"]) == (GPU, "running")
    assert len([w for w in writes(configured, before) if "/start?" in w]) == 1
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        assert "Tesla T4" in notebook.run(SMI, timeout=PATIENCE).text
