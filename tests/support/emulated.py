"""Notebooks that move to emulated VMs and back: the emulator, Jupyter configured for it, and what a test asks of both."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.machines import TWINS
from jupyter_dsvm.kernels.registry import registry
from jupyter_dsvm.models import Operation, OperationState
from jupyter_dsvm.service import DSVMService

from .kernels import Client, Execution, Notebook

HERE = "here"
WHERE = f"import os; print(os.environ.get('DSVM_NAME', {HERE!r}))"
"""A cell that prints the name of the VM it runs on. The variable is the VM's own, and nothing carries it over."""

PATIENCE = 60.0
"""Seconds for a move: the machine's start, the connection and the kernel's start, on a busy computer."""

READS = {"GET", "HEAD"}
QUESTIONS = ("Microsoft.ResourceGraph/resources",)
"""What of a POST's address says that it only asks."""
SCHEDULES = "/providers/Microsoft.DevTestLab/schedules/"
"""The dead man's switch, which is set behind everybody's back (``test_idle_stops``)."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for all tests of a module: the standard VMs, and two of one name."""
    with Emulator(tmp_path_factory.mktemp("azure"), machines=(*STANDARD, *TWINS), may_start=True) as running:
        yield running


@pytest.fixture
def configured(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None
) -> Iterator[Emulator]:
    """Jupyter in this process as the emulator's configuration has it, a home folder without SSH configuration, and a
    proxy for every kernel. Afterwards every VM is as it was."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(settings(emulator, tmp_path / "jupyter")))
    monkeypatch.setenv("HOME", str(tmp_path))
    with unchanged(emulator):
        yield emulator


@contextlib.contextmanager
def unchanged(emulator: Emulator) -> Iterator[None]:
    """Put back into its state whatever the body does to the VMs."""
    try:
        yield
    finally:
        emulator.clear_faults()
        for name, state in (("cpu-vm", "running"), ("gpu-vm", "deallocated"), ("web-server", "running")):
            emulator.restore_host_key(name)
            if emulator.vm(name)["power_state"] != state:
                emulator.power(name, "start" if state == "running" else "deallocate")
            elif state == "running":
                emulator.start_ssh(name)


def settings(emulator: Emulator, folder: Path, **sections: dict[str, Any] | None) -> Path:
    """A configuration folder like the emulator's, with other values; a section that is None is left out. The emulator's
    changes take less than the three seconds after which Azure is asked how far it is."""
    values = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    values["AzureCompute"]["polling_interval"] = 0.2
    for name, section in sections.items():
        if section is None:
            values.pop(name, None)
        else:
            values[name] = {**values.get(name, {}), **section}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "jupyter_dsvm_config.json").write_text(json.dumps(values))
    return folder


def where(client: Client) -> str:
    """On which VM the next cell runs; ``HERE`` for the free tier."""
    return client.run(WHERE, timeout=PATIENCE).text.strip()


def attached(notebook: Client, name: str) -> None:
    """``%dsvm attach``, and it has worked."""
    done = notebook.run(f"%dsvm attach {name}", timeout=PATIENCE)
    assert done.status == "ok", done.content
    assert where(notebook) == name


def refused(client: Client, line: str) -> tuple[str, str]:
    """A cell that fails as ``%dsvm`` fails: the error's message and advice in one, and the reply's ``ename``."""
    done = client.run(line, timeout=PATIENCE)
    assert done.status == "error", done.text
    (shown,) = done.outputs("error")
    assert shown["content"]["evalue"] == done.content["evalue"]
    assert not any("Traceback" in text for text in shown["content"]["traceback"])  # a sentence, not a stack
    return done.content["evalue"], done.content["ename"]


def nonce(emulator: Emulator, name: str) -> str:
    """A secret that is on that VM's disk and nowhere else, in the file ``nonce`` of the account's home folder."""
    value = secrets.token_hex(16)
    file = Path(emulator.vm(name)["home"]) / "nonce"
    file.write_text(value)
    file.chmod(0o644)
    return value


def writes(emulator: Emulator, since: int = 0) -> list[str]:
    """What Azure was asked to change after the first ``since`` exchanges, besides the dead man's switch: method and address."""
    return [
        f"{r['method']} {r['url']}"
        for r in (exchange["request"] for exchange in emulator.traffic[since:])
        if r["method"] not in READS and not any(part in r["url"] for part in (*QUESTIONS, SCHEDULES))
    ]


def ours(emulator: Emulator, name: str) -> list[str]:
    """Command lines of what runs on that VM besides the VM itself (its first process and its SSH server)."""
    found = []
    for row in emulator.processes(name):
        line = " ".join(row["argv"])
        if "sshd" not in row["argv"][0] and "ssh_server.py" not in line and "guest.py" not in line:
            found.append(line)
    return found


def relay_folder(emulator: Emulator, name: str, client: Client) -> Path:
    """The folder that a kernel's relay has on that VM, as this computer sees it. Ask while the kernel is there."""
    socket = client.run("import os; print(os.environ['JUPYTER_DSVM_SOCKET'])", timeout=PATIENCE).text.strip()
    seen = Path(socket).parent
    on_disk = Path(emulator.vm(name)["disk"]).joinpath(*seen.parts[1:])  # where the VM has a file system of its own
    folder = on_disk if on_disk.exists() else seen
    assert folder.exists()
    return folder


def service() -> DSVMService:
    """The one that this process's kernels have, loaded now if need be."""
    loaded = registry.load_service()
    assert isinstance(loaded, DSVMService)
    return loaded


def moved(notebook: Notebook, compute: str, kernelspec: str | None = None) -> Operation:
    """Attach as the page does, and wait until the operation has ended; ``compute`` may be ``free``."""
    operation = service().attach(notebook.proxy.kernel_id, compute, kernelspec)
    ended: Future[Operation] = service().operations_store.get(operation.id).finished
    return ended.result(PATIENCE)


def assert_moved(notebook: Notebook, compute: str, kernelspec: str | None = None) -> Operation:
    operation = moved(notebook, compute, kernelspec)
    assert operation.state is OperationState.DONE, operation.error
    return operation


def all_at_once(client: Client, *cells: str, stop_on_error: bool = True) -> list[Execution]:
    """Run All: every request is sent before the first has run; what came back, in the order of the cells."""
    ids = [client.send(cell, stop_on_error=stop_on_error) for cell in cells]
    return client.wait(*ids, timeout=2 * PATIENCE)
