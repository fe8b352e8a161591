"""Advice in a service: from the notebook's file, its kernel's memory, the data beside it; by magic and from the command line."""

from __future__ import annotations

import ast
import glob
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import jupyter_dsvm
from jupyter_dsvm import cli
from jupyter_dsvm.advice import GIB
from jupyter_dsvm.compute.usage import peak_memory
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import BadRequest
from jupyter_dsvm.gpufallback import fallback_notes, looked_at, uses_gpu
from jupyter_dsvm.models import FREE, GPUGrade, Size
from jupyter_dsvm.notebookfacts import facts_of
from support.emulated import PATIENCE, assert_moved, configured, emulator, ours, service, where
from support.fakes import dsvm
from support.kernels import Notebook, until
from test_calls import Stage, stage

__all__ = ["configured", "emulator"]

PROGRAM = Path(jupyter_dsvm.__file__).parent / "kernels" / "find_gpu.py"


def written(folder: Path, *cells: str, name: str = "a.ipynb", language: str = "python") -> Path:
    made = {
        "cells": [{"cell_type": "code", "source": c} for c in cells],
        "metadata": {"kernelspec": {"language": language}},
    }
    (folder / name).write_text(json.dumps(made))
    return folder / name


def opened(s: Stage, folder: Path, path: str = "a.ipynb") -> None:
    s.service.root_dir = folder
    s.service.set_paths({"k1": path})


# From a notebook's file


def test_the_file_its_data_and_what_lies_beside_it(tmp_path: Path):
    written(tmp_path, "import pandas as pd, own\npd.read_csv('big.csv')")
    (tmp_path / "own.py").write_text("")
    with (tmp_path / "big.csv").open("wb") as f:
        f.truncate(GIB)
    with stage() as s:
        opened(s, tmp_path)
        answer = s.run("advise").result
        assert "own beside the notebook is not read" in answer["text"]
        assert "big.csv (1.0 GB, text table: × 5)" in answer["text"]
        assert "<b>Whether this notebook gains" in answer["html"]
        # Code on a VM is told nothing of files here: neither how large they are, nor that they are there.
        told = s.run("advise", trusted=False).result["text"]
        assert "of own nothing is known here" in told
        assert "The size of big.csv is not known here." in told
        assert s.run("advise", trusted=False, running=False).error["code"] == "NotAllowed"


def test_what_the_page_sends_counts_rather_than_the_file(tmp_path: Path):
    written(tmp_path, "import pandas")
    with stage() as s:
        opened(s, tmp_path)
        assert s.service.advising.of_kernel("k1").gpu is GPUGrade.NO_GAIN
        assert s.service.advising.of_kernel("k1", ["import cudf"]).gpu is GPUGrade.NEEDED
        with pytest.raises(BadRequest, match="more code"):
            s.service.advising.of_kernel("k1", ["x" * 2_000_000])


def test_without_a_file_it_says_so(tmp_path: Path):
    with stage() as s:
        assert "cannot be read" in s.run("advise").error["message"]
        opened(s, tmp_path)
        assert s.run("advise").error["code"] == "UnknownNotebook"
        written(tmp_path, "import cudf", language="R")
        assert "no Python code" in s.run("advise").result["text"]
        s.proxy.status.__dict__["language"] = "r"
        written(tmp_path, "import cudf")
        assert "no Python code" in s.run("advise").result["text"]


def test_sizes_are_shown_once_somebody_has_asked_for_them(tmp_path: Path):
    with stage() as s:
        assert all(f.compute for f in s.service.advising.of_kernel("k1", ["import cudf"]).fits)
        s.service.known.sizes(s.service.known.find("gpu-vm").id)
        assert s.service.known.offers()
        s.service.known.account_changed()
        assert s.service.known.offers() == {}


def test_a_kernel_that_was_ended_for_want_of_memory(tmp_path: Path):
    with stage() as s:
        s.proxy.death = SimpleNamespace(compute=FREE, compute_name="Free tier", code=-9, text="", out_of_memory=4 * GIB)
        s.service.deaths._problems["k1"] = (s.proxy.death, SimpleNamespace(code="OutOfMemory"))
        advice = s.service.advising.of_kernel("k1", ["import pandas"])
        assert advice.memory_gib == 4.0
        assert "It ran out of memory at 4.0 GB, so it needs more than that." in advice.sentences


def test_the_most_memory_that_a_process_has_had():
    code = "x = bytearray(80 << 20); x[::4096] = b'x' * len(x[::4096]); del x; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = peak_memory(Path("/proc"), process.pid)
        process.communicate(b"\n")
    assert peak is not None
    assert 80 << 20 < peak < 400 << 20
    assert peak_memory(Path("/proc/nothing"), 1) is None


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("SSH_CONFIG", str(tmp_path / "none"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_dsvm_config.json").write_text('{"DSVMService": {"compute_providers": ["free"]}}')
    file = written(tmp_path, "import torch", "x.cuda()")
    assert cli.main(["advise", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("This notebook needs a GPU: PyTorch asks for one in code cell 2 (.cuda()).\n")
    assert "None of your machines is known to have a GPU" in out
    assert cli.main(["advise", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["gpu"], shown["fits"][0]["compute"]) == ("needed", "free")
    assert cli.main(["advise", str(tmp_path / "none.ipynb")]) == 1
    assert "cannot be read" in capsys.readouterr().err


# Libraries that fall back


GPU = replace(dsvm("gpu-vm"), size=Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "NVIDIA T4 16 GB"))
TORCH = facts_of(["import torch, pandas"])


def test_what_is_looked_at():
    assert looked_at(TORCH, GPU) == ["torch"]
    assert looked_at(facts_of(["from transformers import pipeline", "import jax"]), GPU) == ["torch", "jax"]
    assert looked_at(facts_of(["import pandas"]), GPU) == []
    assert looked_at(TORCH, dsvm("cpu-vm")) == []
    amd = replace(GPU, size=Size("Standard_NV28adms_V710_v5", 28, 160.0, 1, "AMD Radeon Pro V710"))
    assert looked_at(TORCH, amd) == []
    assert uses_gpu(facts_of(["import cupy"]))
    assert not uses_gpu(facts_of(["import pandas"]))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"driver": "535.183.01", "builds": {"torch": ["cuda", "2.4.0+cu121"]}}, None),
        ({"driver": None, "builds": {}}, None),
        ({}, None),
        ({"driver": "535", "builds": {"torch": ["cpu", "2.4.0+cpu"]}}, "PyTorch on gpu-vm is a build for the CPU (2.4.0+cpu)"),
        ({"driver": None, "builds": {"torch": ["cpu", ""]}}, "PyTorch on gpu-vm is a build for the CPU and does not"),
        ({"driver": "", "builds": {"torch": ["cpu", "1"]}}, "no driver of NVIDIA's that works"),
        ({"driver": "535", "builds": {"torch": ["bare", "2.4.0"]}}, "PyTorch on gpu-vm finds no cuDNN there"),
        # A VM may say anything.
        ({"driver": 5, "builds": 5}, None),
        ({"driver": "x", "builds": {"torch": "cpu"}}, None),
        ({"driver": "x", "builds": {"torch": []}}, None),
        ({"driver": "x", "builds": {"jax": ["cpu", "1"]}}, None),
        ({"driver": "x", "builds": {"torch": ["cpu", {"a": "\x1b[31m" + "x" * 999}]}}, "x…"),
    ],
)  # fmt: skip
def test_what_is_said(answer: dict[str, Any], said: str | None):
    notes = fallback_notes(answer, ["torch"], GPU)
    assert len(notes) == (said is not None)
    for note in notes:
        assert "\x1b" not in note
        assert len(note) < 400


def looked(
    folder: Path, *names: str, smi: str | None = None, python: str = sys.executable, **variables: str
) -> dict[str, Any]:
    """What the program says of packages in a folder, with an nvidia-smi that is a script. ``variables``: the kernelspec's."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    if smi is not None:
        (place / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
        (place / "nvidia-smi").chmod(0o755)
    text = f"{json.dumps(list(names))}\n{json.dumps({'PYTHONPATH': str(folder), **variables})}\n{json.dumps('MARK')}\n"
    done = subprocess.run(
        [python, "-c", PROGRAM.read_text()],
        input=text, capture_output=True, text=True, timeout=60, check=True,
        env={"PATH": f"{place}:{os.environ['PATH']}", "PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert done.stderr == ""
    return dict(json.loads(done.stdout.partition("MARK")[2]))


def installed(folder: Path, name: str, version: str, **files: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for path, text in files.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


BROKEN = "raise RuntimeError('it was imported')\n"


@pytest.mark.parametrize(
    ("version", "lines", "built"),
    [
        (
            "2.4.0+cpu",
            "__version__ = '2.4.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n",
            ["cpu", "2.4.0+cpu"],
        ),
        ("2.4.0", "__version__ = '2.4.0'\ncuda = '12.1'\nhip = None\n", ["cuda", "2.4.0"]),
        ("2.4.0", "__version__ = '2.4.0'\ncuda = None\nhip = '6.0'\n", ["cuda", "2.4.0"]),
        ("2.4.0", "no python (\n", None),
    ],
)
def test_how_pytorch_was_built(tmp_path: Path, version: str, lines: str, built: list[str] | None):
    installed(tmp_path, "torch", version)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(BROKEN)
    (tmp_path / "torch" / "version.py").write_text(lines)
    answer = looked(tmp_path, "torch", "jax", "odd", smi="echo 535.183.01")
    assert answer == {"driver": "535.183.01", "builds": {"torch": built} if built else {}}


def test_how_the_others_were_built(tmp_path: Path):
    installed(tmp_path, "tensorflow", "2.16.1")
    folder = tmp_path / "tensorflow" / "python" / "platform"
    folder.mkdir(parents=True)
    (tmp_path / "tensorflow" / "__init__.py").write_text(BROKEN)
    (folder / "build_info.py").write_text(
        "build_info = collections.OrderedDict([('is_cuda_build', False), ('x', [1])])\n"
    )
    installed(tmp_path, "jaxlib", "0.4.30")
    installed(tmp_path, "xgboost-cpu", "2.1.1")
    builds = looked(tmp_path, "tensorflow", "jax", "xgboost", smi="exit 9")["builds"]
    assert builds == {"tensorflow": ["cpu", "2.16.1"], "jax": ["cpu", "0.4.30"], "xgboost": ["cpu", "2.1.1"]}
    # The wheel that `pip install tensorflow` brings is a build for CUDA, and brings none of CUDA's libraries.
    (folder / "build_info.py").write_text("build_info = {'is_cuda_build': True}\n")
    assert looked(tmp_path, "tensorflow")["builds"] == {"tensorflow": ["bare", "2.16.1"]}
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcudnn.so.9").write_bytes(b"")
    assert looked(tmp_path, "tensorflow", LD_LIBRARY_PATH=str(tmp_path / "lib"))["builds"]["tensorflow"][0] == "cuda"
    installed(tmp_path, "nvidia-cudnn-cu12", "9.3.0.75")
    assert looked(tmp_path, "tensorflow")["builds"]["tensorflow"][0] == "cuda"
    installed(tmp_path, "jax-cuda12-plugin", "0.4.30")
    installed(tmp_path, "xgboost", "2.1.1")
    answer = looked(tmp_path, "tensorflow", "jax", "xgboost")
    assert answer == {"driver": "", "builds": {"tensorflow": ["cuda", "2.16.1"], "jax": ["cuda", "0.4.30"]}}


OLDEST = "3.8"
"""Of Pythons that kernels on a VM may have; ``pyproject.toml`` asks this server for a newer one."""


def test_it_runs_on_the_oldest_python(tmp_path: Path):
    """What only shows when it is run: which syntax an annotation may have, what a module has. Where there is such a Python."""
    ast.parse(PROGRAM.read_text(), feature_version=(3, 8))
    pythons = [
        shutil.which(f"python{OLDEST}"),
        *glob.glob(os.path.expanduser(f"~/.pyenv/versions/{OLDEST}.*/bin/python")),
    ]
    for python in [p for p in pythons if p is not None]:
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip(f"there is no Python {OLDEST} here")
    installed(tmp_path, "torch", "1.13.1+cpu")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(BROKEN)
    (tmp_path / "torch" / "version.py").write_text("__version__ = '1.13.1+cpu'\ncuda: Optional[str] = None\n")
    answer = looked(tmp_path, "torch", "tensorflow", "jax", "xgboost", smi="echo 470.1", python=python)
    assert answer == {"driver": "470.1", "builds": {"torch": ["cpu", "1.13.1+cpu"]}}


def test_an_attach_waits_only_a_moment_for_it_and_status_says_it_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from jupyter_dsvm import notebooks

    monkeypatch.setattr(notebooks, "NOTES_SECONDS", 0.2)
    written(tmp_path, "import torch")
    with stage() as s:
        opened(s, tmp_path)
        late: Future[list[str]] = Future()
        s.service.advising.begin_look_at_gpu = lambda *_: late
        begun = time.monotonic()
        assert "build for the CPU" not in s.run("attach cpu-vm").result["text"]
        assert time.monotonic() - begun < 5
        s.proxy.cell_ended()
        compute = s.proxy.status.compute
        s.service.advising._fallen_back["k1"] = (compute, ["PyTorch on cpu-vm is a build for the CPU."])
        assert "build for the CPU" in s.run("status").result["text"]
        assert "build for the CPU" in " ".join(s.service.advising.of_kernel("k1", ["import cudf"]).sentences)
        s.run("detach")
        s.proxy.cell_ended()
        assert "build for the CPU" not in s.run("status").result["text"]
        s.service.advising.forget("k1")
        assert s.service.advising.fallen_back("k1", compute) == []


def test_looking_never_fails(tmp_path: Path):
    with stage() as s:
        assert s.service.advising.begin_look_at_gpu("none").result(timeout=10) == []
        assert s.service.advising.begin_look_at_gpu("k1").result(timeout=10) == []
        opened(s, tmp_path)
        written(tmp_path, "import torch")
        s.service.known.snapshot()
        s.service.environments = None
        s.proxy.moving = s.service.known.find("gpu-vm").id
        assert s.service.advising.begin_look_at_gpu("k1").result(timeout=10) == []
    assert s.service.advising.begin_look_at_gpu("k1").result(timeout=10) == []


# Real kernels


def shown(execution: Any) -> str:
    return execution.text + " ".join(str(o["content"]["data"]) for o in execution.outputs("display_data"))


def pytorch_for_the_cpu(emulator: Emulator) -> None:
    """A kernelspec ``torch`` on the GPU VM, whose Python finds a folder that looks like PyTorch's."""
    home = Path(emulator.vm("gpu-vm")["home"])
    (home / "fake" / "torch").mkdir(parents=True, exist_ok=True)
    (home / "fake" / "torch" / "__init__.py").write_text(BROKEN)
    (home / "fake" / "torch" / "version.py").write_text("__version__ = '2.4.0+cpu'\ncuda = None\n")
    spec = home / ".local" / "share" / "jupyter" / "kernels" / "torch" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    argv = ["/anaconda/envs/dsvm/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    env = {"PYTHONPATH": f"/home/{home.name}/fake"}
    spec.write_text(json.dumps({"argv": argv, "display_name": "PyTorch", "language": "python", "env": env}))


def test_in_a_kernel_here_and_on_a_vm_whose_pytorch_is_for_the_cpu(configured: Emulator, tmp_path: Path):
    """The emulated GPU VM has an nvidia-smi; a folder that looks like PyTorch's lies where its Python finds it."""
    written(tmp_path, "import numpy as np", "import torch\ntorch.zeros(1).cuda()", "np.load('x.npy')")
    (tmp_path / "x.npy").write_bytes(b"x" * (64 << 20))
    pytorch_for_the_cpu(configured)
    with Notebook() as notebook:
        kernel_id = notebook.proxy.kernel_id
        service().root_dir = tmp_path
        service().set_paths({kernel_id: "a.ipynb"})
        notebook.run("x = bytearray(300 << 20)")
        here = shown(notebook.run("%dsvm advise", timeout=PATIENCE))
        assert "This notebook needs a GPU: PyTorch asks for one in code cell 2 (.cuda())." in here
        advice = service().advising.of_kernel(kernel_id)
        assert advice.memory_gib is not None
        assert 0.29 < advice.memory_gib < 2
        assert any(s.startswith("Its kernel has had") for s in advice.sentences)
        assert {f.name for f in advice.fits if f.gpu} >= {"gpu-vm"}
        assert notebook.run("%dsvm attach gpu-vm --kernel torch", timeout=PATIENCE).status == "ok"
        assert where(notebook) == "gpu-vm"
        said = "PyTorch on gpu-vm is a build for the CPU (2.4.0+cpu)"
        until(lambda: said in shown(notebook.run("%dsvm status", timeout=PATIENCE)))
        there = shown(notebook.run("%dsvm advise", timeout=PATIENCE))
        assert said in there
        assert "The size of x.npy is not known here." in there
        notebook.run("%dsvm detach", timeout=PATIENCE)
    until(lambda: not ours(configured, "gpu-vm"))


def test_a_move_from_the_page_says_it_too_and_that_a_driver_is_missing(configured: Emulator, tmp_path: Path):
    """Once where the move starts the VM, and once more where that is on, and its driver has gone."""
    written(tmp_path, "import torch\ntorch.zeros(1).cuda()")
    pytorch_for_the_cpu(configured)
    with Notebook() as notebook:
        kernel_id = notebook.proxy.kernel_id
        service().root_dir = tmp_path
        service().set_paths({kernel_id: "a.ipynb"})
        assert configured.vm("gpu-vm")["power_state"] == "deallocated"
        started = assert_moved(notebook, "gpu-vm", "torch")
        told_in(started.id, "PyTorch on gpu-vm is a build for the CPU (2.4.0+cpu) and does not use the GPU there.")
        assert_moved(notebook, "free")
        smi = Path(configured.vm("gpu-vm")["disk"]) / "dsvm" / "bin" / "nvidia-smi"
        smi.write_text(
            "#!/bin/sh\necho 'NVIDIA-SMI has failed because it couldn\\'t communicate with the driver.'; exit 9\n"
        )
        again = assert_moved(notebook, "gpu-vm", "torch")
        told_in(again.id, "gpu-vm has a GPU, and no driver of NVIDIA's that works")
        assert "no driver of NVIDIA's" in shown(notebook.run("%dsvm status", timeout=PATIENCE))
        assert_moved(notebook, "free")
        assert "driver" not in shown(notebook.run("%dsvm status", timeout=PATIENCE))
    until(lambda: not ours(configured, "gpu-vm"))


def told_in(operation_id: str, text: str) -> None:
    """A sentence in an operation's notice, which comes a moment after its end."""
    store = service().operations_store
    until(lambda: text in (store.get(operation_id).value.notice or ""), 30)
