"""A notebook moves to a VM on which nothing was prepared: no key, no known host key, and nobody is asked anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.models import OperationState
from support.emulated import HERE, PATIENCE, attached, moved, refused, service, settings, where
from support.kernels import Notebook

REASON = can_isolate()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"VMs cannot be isolated here: {REASON}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = [m for m in STANDARD if m.name in ("cpu-vm", "gpu-vm")]
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines, keys=False, may_start=True) as running:
        yield running


@pytest.fixture
def configured(
    bare: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None
) -> Iterator[Emulator]:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings(bare, tmp_path / "jupyter")))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield bare
    bare.clear_faults()
    for row in bare.vms:
        (Path(row["home"]) / ".ssh" / "authorized_keys").unlink(missing_ok=True)
    if bare.vm("gpu-vm")["power_state"] == "running":
        bare.power("gpu-vm", "deallocate")


def commands_run(emulator: Emulator) -> int:
    return sum("/runcommand" in e["request"]["url"].lower() for e in emulator.traffic)


def test_the_first_attach_sets_up_ssh_and_the_second_need_not(configured: Emulator):
    with Notebook() as notebook:
        texts: list[str] = []
        notebook.run("1")
        service().operations_store.listen(lambda o: texts.extend(s.text for s in o.steps))
        operation = moved(notebook, "gpu-vm")
        assert operation.state is OperationState.DONE, operation.error
        assert "Setting up SSH on gpu-vm" in texts
        assert where(notebook) == "gpu-vm"
        assert commands_run(configured) == 1
        moved(notebook, "free")
        attached(notebook, "gpu-vm")
        assert commands_run(configured) == 1


def test_what_cannot_be_set_up_says_both(configured: Emulator):
    before = commands_run(configured)
    configured.fault("cpu-vm", "runCommand", code="AuthorizationFailed")
    with Notebook() as notebook:
        said, _ = refused(notebook, "%dsvm attach cpu-vm")
        assert "The host key of cpu-vm" in said
        assert "Microsoft.Compute/virtualMachines/runCommand/action" in said
        assert "SHA256:" in said, "it can be compared by hand"
        assert where(notebook) == HERE
    assert commands_run(configured) == before + 1


def test_switched_off(configured: Emulator, tmp_path: Path):
    before = commands_run(configured)
    settings(configured, tmp_path / "jupyter", AzureCompute={"set_up_ssh": False, "polling_interval": 0.2})
    with Notebook() as notebook:
        said, _ = refused(notebook, "%dsvm attach cpu-vm")
        assert "`jupyter dsvm access cpu-vm`" in said
    assert commands_run(configured) == before


def test_code_on_a_vm_sets_up_nothing(configured: Emulator):
    configured.power("gpu-vm", "start")
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        before = commands_run(configured)
        said, _ = refused(notebook, "%dsvm attach cpu-vm")
        assert "The host key of cpu-vm" in said
        assert "`jupyter dsvm access cpu-vm`" in said
        assert commands_run(configured) == before
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
