"""An attach that fails: what the cell says, and that the notebook goes on with the kernel and the variables it had."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.client import QUICK
from jupyter_dsvm.models import OperationState
from support.emulated import (
    HERE,
    PATIENCE,
    assert_moved,
    attached,
    configured,
    emulator,
    moved,
    ours,
    refused,
    settings,
    where,
    writes,
)
from support.kernels import Notebook, until
from support.sshd import generate_key

__all__ = ["configured", "emulator"]


class Kept:
    """A notebook with a variable, which must still be there after each failure, in the same kernel."""

    def __init__(self, notebook: Notebook, emulator: Emulator) -> None:
        self.notebook = notebook
        self.emulator = emulator
        self.value = secrets.token_hex(8)
        assert notebook.run(f"import os; kept, process = {self.value!r}, os.getpid()").status == "ok"

    def fails(self, line: str) -> str:
        """The cell's error: message and advice."""
        before = len(self.emulator.traffic)
        said, name = refused(self.notebook, line)
        assert name == "DSVMError"
        self.goes_on()
        assert all("/start?" in w for w in writes(self.emulator, before))  # a failed attach changes nothing else
        return said

    def goes_on(self) -> None:
        done = self.notebook.run("assert process == os.getpid(); print(kept)")
        assert (done.status, done.text.strip()) == ("ok", self.value)
        assert where(self.notebook) == HERE
        assert self.notebook.run("%dsvm status").text.startswith("This notebook runs on the free tier")


@pytest.fixture
def kept(configured: Emulator) -> Iterator[Kept]:
    with Notebook() as notebook:
        yield Kept(notebook, configured)
    until(lambda: not any(ours(configured, name) for name in ("cpu-vm", "gpu-vm", "web-server")))


def test_names(kept: Kept):
    said = kept.fails("%dsvm attach gpuvm")
    assert said == "There is no compute called 'gpuvm'. Did you mean gpu-vm or cpu-vm?"
    said = kept.fails("%dsvm attach twin")
    assert "2 computes are called 'twin'." in said
    assert "Write one of: notebooks/twin, classroom/twin." in said or "classroom/twin, notebooks/twin" in said
    assert "There is no compute called 'web-server'" in kept.fails("%dsvm attach web-server")  # a VM, but no DSVM
    said = kept.fails("%dsvm attach win-vm")
    assert "win-vm runs Windows" in said
    assert "Choose a Linux machine" in said
    assert "Usage: %dsvm attach NAME [--kernel K]" in kept.fails("%dsvm attach")
    assert "Did you mean %dsvm attach?" in kept.fails("%dsvm atach gpu-vm")


def test_what_is_queued_behind_a_failed_attach_is_aborted(kept: Kept):
    notebook = kept.notebook
    ids = [notebook.send(c) for c in ("%dsvm attach nowhere", "kept = 'overwritten'", "raise SystemError")]
    assert [d.status for d in notebook.wait(*ids)] == ["error", "aborted", "aborted"]
    kept.goes_on()


def test_the_cloud_does_not_know_us(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    token = tmp_path / "expired"
    token.write_text("nobody\n")
    token.chmod(0o600)
    config = settings(kept.emulator, tmp_path / "config", AzureCompute={"token_file": str(token)})
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(config))
    said = kept.fails("%dsvm attach gpu-vm")
    assert "There is no compute called 'gpu-vm'" in said
    assert "Not everything could be listed" in said  # so that may be why
    assert "az login" in said
    listed = kept.notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
    assert "Free tier" in listed
    assert "Not everything could be listed: Could not list" in listed


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no capacity, at once": (
        {"code": "AllocationFailed"},
        ["Could not start gpu-vm.", "no capacity", "(AllocationFailed)", "Try again later, or choose another size."],
    ),
    "no capacity, found out later": (
        {"code": "AllocationFailed", "at": "operation"},
        [
            "Could not start gpu-vm.",
            "no capacity",
            "(AllocationFailed)",
            "nothing is billed for a VM that did not start",
        ],
    ),
    "no quota": (
        {"code": "OperationNotAllowed"},
        [
            "Could not start gpu-vm.",
            "its quota is 0",
            "Current Limit: 0",
            "upgrade to pay-as-you-go",
        ],
    ),
    "no permission": (
        {"code": "AuthorizationFailed"},
        [
            "Could not start gpu-vm.",
            "virtualMachines/start/action",
            "Ask for the role Virtual Machine Contributor on gpu-vm",
        ],
    ),
}


@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS)
def test_azure_refuses_to_start(kept: Kept, fault: dict[str, Any], expected: list[str]):
    kept.emulator.fault("gpu-vm", "start", **fault)
    said = kept.fails("%dsvm attach gpu-vm")
    assert [e for e in expected if e not in said] == [], said
    assert kept.emulator.vm("gpu-vm")["power_state"] == "deallocated"
    assert "did not happen" in kept.notebook.run("%dsvm status").text
    assert kept.notebook.run("%dsvm detach").text.strip() == "This notebook runs on the free tier already."


def test_code_may_start_nothing_where_nothing_is_said(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings(kept.emulator, tmp_path / "config", DSVMService=None)))
    before = len(kept.emulator.traffic)
    for line in ("%dsvm attach gpu-vm", "%dsvm start gpu-vm"):
        said = kept.fails(line)
        assert "gpu-vm is deallocated, and code may not start it." in said
        assert "Start it in the Compute panel or with `jupyter dsvm start gpu-vm`" in said
        assert "c.DSVMService.kernel_may_start = {'names': ['gpu-vm']}" in said
    assert "old-vm is stopped" in kept.fails("%dsvm attach old-vm")
    assert writes(kept.emulator, before) == []
    attached(kept.notebook, "cpu-vm")  # what runs already needs no permission


def test_interrupting_an_attach(kept: Kept):
    kept.emulator.set_timings(start=4)
    try:
        attaching = kept.notebook.send("%dsvm attach gpu-vm")
        kept.notebook.until(lambda: "gpu-vm" in kept.notebook.of(attaching).text)
        until(lambda: kept.emulator.vm("gpu-vm")["power_state"] == "starting")
        kept.notebook.km.interrupt_kernel()
        assert kept.notebook.wait(attaching)[0].content["ename"] == "Interrupted"
        kept.goes_on()
        until(lambda: kept.notebook.proxy.moving is None)
        until(lambda: kept.emulator.vm("gpu-vm")["power_state"] == "running")  # Azure goes on, and is not asked to stop
        kept.goes_on()
        said = kept.notebook.run("%dsvm status").text
        assert "The last move did not happen" in said
        assert "it is billed while it runs" in said
    finally:
        kept.emulator.set_timings(start=QUICK["start"])
    attached(kept.notebook, "gpu-vm")


def fingerprint(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]


def test_the_host_key_has_changed(kept: Kept):
    key = kept.emulator.directory / "machines/cpu-vm/ssh/host_key"
    known = fingerprint(key)
    kept.emulator.new_host_key("cpu-vm")
    said = kept.fails("%dsvm attach cpu-vm")
    assert "The host key of cpu-vm at" in said
    assert "has changed. It shows ssh-ed25519 " + fingerprint(key) in said
    assert "known is ssh-ed25519 " + known in said
    assert "Nothing was sent to it." in said
    assert f"remove the lines of {kept.emulator.vm('cpu-vm')['vm_id']} from" in said
    assert not ours(kept.emulator, "cpu-vm")
    kept.emulator.restore_host_key("cpu-vm")
    attached(kept.notebook, "cpu-vm")


def test_the_machine_does_not_accept_the_key(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    generate_key(tmp_path / "another")
    config = settings(kept.emulator, tmp_path / "config", AzureCompute={"ssh_key_file": str(tmp_path / "another")})
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(config))
    said = kept.fails("%dsvm attach cpu-vm")
    assert f"does not let {kept.emulator.vm('cpu-vm')['user']} in. Tried: {tmp_path / 'another'}" in said
    assert "Put the public half of one of these keys into" in said


def test_a_machine_without_a_python_that_has_pyzmq(kept: Kept):
    """The VM that is no DSVM, as a host of the SSH configuration."""
    vm = kept.emulator.vm("web-server")
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    key = next(k for k in (kept.emulator.config_dir / "host_keys").read_text().splitlines() if vm["vm_id"] in k)
    (folder / "known_hosts").write_text(f"[{vm['host']}]:{vm['port']} {key.split(None, 1)[1]}\n")
    (folder / "config").write_text(
        f"Host plain\n  HostName {vm['host']}\n  Port {vm['port']}\n  User {vm['user']}\n"
        f"  IdentityFile {kept.emulator.key_file}\n"
    )
    if vm["port"] == 22:
        (folder / "known_hosts").write_text(f"{vm['host']} {key.split(None, 1)[1]}\n")
    said = kept.fails("%dsvm attach plain")
    assert "There is no Python 3.8 or newer with pyzmq on plain." in said
    assert "python3 has no pyzmq" in said  # what was tried
    assert "Run `python3 -m pip install --user pyzmq ipykernel` there" in said
    assert not ours(kept.emulator, "web-server")


SPEAKS_JULIA = """
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
class Kernel(IPythonKernel):
    language_info = {"name": "julia", "file_extension": ".jl", "mimetype": "text/x-julia"}
IPKernelApp.launch_instance(kernel_class=Kernel)
"""


@pytest.fixture
def odd_kernels(configured: Emulator) -> Iterator[None]:
    """Kernelspecs on cpu-vm: one of another language, one that is not of the language it says, and two that do not start."""
    (folder,) = Path(configured.vm("cpu-vm")["disk"]).glob("anaconda/envs/*/share/jupyter/kernels")
    python = json.loads((folder / "python3/kernel.json").read_text())["argv"][0]
    specs = {
        "ir": {"argv": ["R", "{connection_file}"], "display_name": "R", "language": "R"},
        "liar": {
            "argv": [python, "-c", SPEAKS_JULIA, "-f", "{connection_file}"],
            "display_name": "Python?",
            "language": "python",
        },
        "slow": {
            "argv": [python, "-c", "import time; time.sleep(300)"],
            "display_name": "Slow",
            "language": "python",
        },
        "broken": {
            "argv": [python, "-c", "raise SystemExit('no licence')"],
            "display_name": "B",
            "language": "python",
        },
    }
    for name, spec in specs.items():
        (folder / name).mkdir()
        (folder / name / "kernel.json").write_text(json.dumps(spec))
    yield
    for name in specs:
        shutil.rmtree(folder / name)


def test_another_language(odd_kernels: None, kept: Kept):
    said = kept.fails("%dsvm attach cpu-vm --kernel ir")
    assert "The kernel 'ir' on cpu-vm speaks R, and this notebook python." in said
    assert (
        "A notebook keeps its language when it moves. It has: python3 (python), broken (python), liar (python), slow (python)."
        in said
    )
    said = kept.fails("%dsvm attach cpu-vm --kernel liar")
    assert "julia" in said
    assert "python" in said
    said = kept.fails("%dsvm attach cpu-vm --kernel python4")
    assert said == "cpu-vm has no kernel named 'python4'. Did you mean python3?"
    said = kept.fails("%dsvm attach cpu-vm --kernel broken")
    assert "The kernel on cpu-vm ended with exit code 1 before it answered." in said
    assert "no licence" in said
    assert "The notebook keeps the kernel it had." in said


def test_the_machine_goes_off_during_an_attach(odd_kernels: None, kept: Kept):
    attaching = kept.notebook.send("%dsvm attach cpu-vm --kernel slow")
    kept.notebook.until(lambda: "Start the kernel on cpu-vm" in kept.notebook.of(attaching).text)
    until(lambda: any("sleep(300)" in line for line in ours(kept.emulator, "cpu-vm")))
    kept.emulator.power("cpu-vm", "deallocate")
    (done,) = kept.notebook.wait(attaching, timeout=20)
    assert "cpu-vm is deallocated: what ran there has ended." in done.content["evalue"]
    kept.goes_on()


def test_a_notebook_in_r_moves_to_an_r_kernel_only(configured: Emulator):
    """The emulated VMs see this computer's /usr, so where IRkernel is installed here it is there too."""
    if not Path("/usr/share/jupyter/kernels/ir").exists():
        pytest.skip("needs IRkernel (Debian: r-cran-irkernel)")
    with Notebook("ir") as notebook:
        assert notebook.run("kept <- 6 * 7", timeout=PATIENCE).status == "ok"
        operation = moved(notebook, "cpu-vm", "python3")
        assert operation.state is OperationState.FAILED
        assert operation.error is not None
        assert operation.error.message == "The kernel 'python3' on cpu-vm speaks python, and this notebook R."
        assert notebook.run("cat(kept)").text == "42"
        assert_moved(notebook, "cpu-vm")
        assert notebook.run("cat(Sys.getenv('DSVM_NAME'))", timeout=PATIENCE).text == "cpu-vm"
        assert notebook.run("stop('as expected')").content["status"] == "error"
        assert_moved(notebook, "free")
        assert notebook.run("cat(Sys.getenv('DSVM_NAME', 'here'))", timeout=PATIENCE).text == HERE
    until(lambda: not ours(configured, "cpu-vm"))
