"""A notebook's files go with it to an emulated VM and come back, end to end: kernels, SSH and both folders are real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import FREE, Operation, OperationState, StepState, WorkspaceRecord, WorkspaceState
from support.emulated import PATIENCE, assert_moved, configured, emulator, ours, service
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]

OLD = 1_700_000_000

READS = """
import csv, helpers
rows = list(csv.reader(open("data/values.csv")))
print(helpers.total(rows))
"""
WRITES = """
import pickle
open("plot.png", "wb").write(b"\\x89PNG" + bytes(2000))
import os; os.makedirs("models", exist_ok=True)
pickle.dump({"weights": [1, 2, 3]}, open("models/model.pkl", "wb"))
"""
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A notebook's folder with what it needs, and with what must not leave this server."""
    folder = tmp_path / "work" / "analysis"
    write(folder / "data/values.csv", "1,2\n3,4\n")
    write(folder / "helpers.py", "def total(rows):\n    return sum(int(v) for row in rows for v in row)\n")
    write(folder / "study.ipynb", "{}")
    write(folder / ".env", "TOKEN=secret-in-env")
    write(folder / "server.pem", KEY)
    write(folder / "notes.txt", KEY)
    write(folder / ".git/config", "[core]")
    return folder


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (OLD, OLD))


@pytest.fixture
def vm(configured: Emulator) -> Iterator[Path]:
    """Where folders lie on cpu-vm."""
    folder = Path(configured.vm("cpu-vm")["home"]) / "notebooks"
    yield folder
    until(lambda: not ours(configured, "cpu-vm"))
    remove(folder)


def remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def there(vm: Path) -> Path:
    (only,) = vm.iterdir()
    return only


def record(notebook: Notebook) -> WorkspaceRecord:
    found = service().workspaces.of_kernel(notebook.proxy.kernel_id)
    assert found is not None
    return found


def files_step(operation: Operation) -> str:
    return next(s.text for s in operation.steps if s.name == "files")


def ended(operation: Operation) -> Operation:
    done: Operation = service().operations_store.get(operation.id).finished.result(PATIENCE)
    return done


def test_a_notebook_finds_its_files_there_and_what_it_writes_comes_back(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        operation = assert_moved(notebook, "cpu-vm")
        assert [s.name for s in operation.steps] == ["connect", "files", "kernel", "wait"]
        assert all(s.state is StepState.DONE for s in operation.steps)
        assert files_step(operation).startswith("Copy the notebook's folder (")
        assert "Its files" not in operation.notice
        assert notebook.run(READS).text == "10\n"
        assert notebook.run("import os; print(os.getcwd())").text.strip().endswith(f"/notebooks/{there(vm).name}")
        arrived = {p.relative_to(there(vm)).as_posix() for p in there(vm).rglob("*") if p.is_file()}
        assert {a for a in arrived if not a.startswith((".dsvm", "__pycache__"))} == {
            "data/values.csv",
            "helpers.py",
            "study.ipynb",
        }
        # No planted secret, under whatever name.
        assert not any(s in p.read_bytes() for p in vm.rglob("*") if p.is_file() for s in (b"secret", b"PRIVATE KEY"))

        assert notebook.run(WRITES).status == "ok"
        until(lambda: (project / "models/model.pkl").exists() and (project / "plot.png").exists())
        assert (project / "plot.png").stat().st_size == 2004
        until(lambda: record(notebook).state is WorkspaceState.IN_STEP)
        now = record(notebook)
        assert (now.text, now.files) == ("2 kB, in step", 5)
        assert now.kernels == (notebook.proxy.kernel_id,)
        assert "notes.txt" in {s.path for s in now.skipped} or now.problem is None

        # Back, with what the last cell wrote; and there again, where nothing has to move.
        notebook.run("open('late.txt', 'w').write('late')")
        back = assert_moved(notebook, FREE)
        assert [s.name for s in back.steps] == ["files", "kernel", "wait"]
        assert (project / "late.txt").read_text() == "late"
        assert notebook.run("print(open('late.txt').read())").text == "late\n"
        until(lambda: service().workspaces.records()[0] == [])
        inodes = {p: p.stat().st_ino for p in there(vm).rglob("*") if p.is_file()}
        assert_moved(notebook, "cpu-vm")
        assert {p: p.stat().st_ino for p in there(vm).rglob("*") if p.is_file()} == inodes
        assert notebook.run(READS).text == "10\n"


def test_without_files(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        operation = ended(service().attach(notebook.proxy.kernel_id, "cpu-vm", sync=False))
        assert operation.state is OperationState.DONE
        assert [s.name for s in operation.steps] == ["connect", "kernel", "wait"]
        assert "files" not in operation.notice
        assert notebook.run("import os; print(os.path.exists('helpers.py'))").text == "False\n"
        assert not vm.exists()
        assert record(notebook).state is WorkspaceState.OFF
