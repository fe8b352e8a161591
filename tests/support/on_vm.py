"""One notebook on an emulated VM for many tests, and what it has there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator

from .emulated import attached, ours
from .kernels import Notebook, default_provisioner, until


@contextlib.contextmanager
def notebook_on_cpu_vm(emulator: Emulator, home: Path, env: Mapping[str, str] | None = None) -> Iterator[Notebook]:
    """For a fixture of a module's scope. ``env`` is set in this process meanwhile."""
    with pytest.MonkeyPatch.context() as patch, default_provisioner("dsvm-provisioner"):
        patch.setenv("JUPYTER_CONFIG_DIR", str(emulator.config_dir))
        patch.setenv("HOME", str(home))
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with Notebook() as notebook:
            attached(notebook, "cpu-vm")
            # What stays after its first use is not a test's: pyzmq's thread for large messages.
            notebook.run(f"_ = {'x' * 100_000!r}")
            yield notebook
    until(lambda: not ours(emulator, "cpu-vm"))


def kernel_folders(emulator: Emulator, name: str) -> list[Path]:
    """The folders that relays have on that VM, one per kernel."""
    home = Path(emulator.vm(name)["home"])
    return sorted((home / ".local/share/jupyter-dsvm/kernels").glob("*"))


def kernel_pids(emulator: Emulator, name: str) -> list[int]:
    """The kernel processes on that VM, as this computer counts."""
    return [row["pid"] for row in emulator.processes(name) if any("connection.json" in arg for arg in row["argv"])]
