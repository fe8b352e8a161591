"""A notebook moves to a VM on which nothing was prepared: no key, no known host key, and nobody is asked anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.models import OperationState
from support.emulated import HERE, PATIENCE, attached, moved, refused, service, settings, where
from support.kernels import Notebook
from support.sshd import generate_key

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
    configured.fault("cpu-vm", "bootDiagnostics", code="AuthorizationFailed")
    with Notebook() as notebook:
        said, _ = refused(notebook, "%dsvm attach cpu-vm")
        assert "The host key of cpu-vm" in said
        assert "Microsoft.Compute/virtualMachines/runCommand/action" in said
        assert "SHA256:" in said, "it can be compared by hand"
        assert where(notebook) == HERE
    assert commands_run(configured) == before + 1


def test_host_keys_from_the_serial_log_and_a_key_of_ones_own(configured: Emulator, tmp_path: Path):
    """An account that may not run commands, and has put a key there by hand."""
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    mine = Path(configured.vm("cpu-vm")["home"]) / ".ssh" / "authorized_keys"
    mine.parent.mkdir(mode=0o700, exist_ok=True)
    mine.write_text(generate_key(folder / "id_ed25519") + "\n")
    owner = mine.parents[1].stat().st_uid
    for path in (mine.parent, mine):
        os.chown(path, owner, owner)
    configured.fault("cpu-vm", "runCommand", code="AuthorizationFailed", times=-1)
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
    mine.unlink()
    pinned = (tmp_path / "data/jupyter-dsvm/known_hosts").read_text()
    assert pinned.startswith(configured.vm("cpu-vm")["vm_id"] + " ssh-ed25519 ")


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
