"""A notebook's VM gets a GPU and gives it back: what is on its OS disk stays, and the notebook is told.

Against the emulator, whose VMs are real SSH servers with a disk and a Python of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator
from support.emulated import (
    attached,
    nonce,
    where,
)
from support.emulated import configured as configured
from support.kernels import Notebook

CPU, GPU = "Standard_D4ds_v5", "Standard_NC4as_T4_v3"
NVIDIA = "import subprocess; print(subprocess.run('nvidia-smi -L || true', shell=True, capture_output=True, text=True).stdout)"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=STANDARD[:3], may_start=True) as running:
        yield running


def test_cpu_to_gpu_and_back(configured: Emulator, notebook: Notebook) -> None:
    secret = nonce(configured, "cpu-vm")
    read = "print(open('/home/azureuser/nonce' if __import__('os').path.exists('/home/azureuser/nonce') else"
    read += f" {str(Path(configured.vm('cpu-vm')['home']) / 'nonce')!r}).read())"
    attached(notebook, "cpu-vm")
    assert notebook.run(read).text.strip() == secret
    assert "GPU" not in notebook.run(NVIDIA).text
    assert where(notebook) == "cpu-vm"
