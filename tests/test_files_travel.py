"""A notebook's files go with it to an emulated VM and come back, end to end: kernels, SSH and both folders are real."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_dsvm import duesyncs
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import FREE, LinkPhase, Operation, OperationState, StepState, WorkspaceRecord, WorkspaceState
from support.emulated import HERE, PATIENCE, assert_moved, configured, emulator, ours, service, where
from support.kernels import Notebook, until
from support.restarted import Place, attach, place
from support.tab import Tab

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
    remove(folder)  # the image has one
    yield folder
    until(lambda: not ours(configured, "cpu-vm"))

    def removed() -> bool:
        remove(folder)  # what wrote there last may still be at it
        return not folder.exists()

    until(removed)


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
        assert now.problem is None

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


def test_a_project_travels_whole_and_the_kernel_works_where_the_notebook_is(
    vm: Path, project: Path, monkeypatch: pytest.MonkeyPatch
):
    write(project / "notebooks/deep/study.ipynb", "{}")
    write(project / "notebooks/deep/near.txt", "near")
    with Notebook(cwd=str(project / "notebooks/deep")) as notebook:
        monkeypatch.setattr(service(), "project_folders", [str(project)])
        assert_moved(notebook, "cpu-vm")
        assert (
            notebook.run("print(open('near.txt').read(), open('../../data/values.csv').read()[:3])").text
            == "near 1,2\n"
        )
        assert notebook.run("open('made.txt', 'w').write('made')").status == "ok"
        until(lambda: (project / "notebooks/deep/made.txt").exists())
        assert record(notebook).folder == str(project)
        assert_moved(notebook, FREE)


def test_without_files(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        operation = ended(service().attach(notebook.proxy.kernel_id, "cpu-vm", sync=False))
        assert operation.state is OperationState.DONE
        assert [s.name for s in operation.steps] == ["connect", "kernel", "wait"]
        assert "files" not in operation.notice
        assert notebook.run("import os; print(os.path.exists('helpers.py'))").text == "False\n"
        assert not vm.exists()
        assert record(notebook).state is WorkspaceState.OFF


def test_a_home_folder_does_not_travel(vm: Path, tmp_path: Path):
    write(tmp_path / "nb.ipynb", "{}")
    with Notebook(cwd=str(tmp_path)) as notebook:  # the fixtures make it the home folder
        operation = assert_moved(notebook, "cpu-vm")
        assert "files" not in [s.name for s in operation.steps]
        assert "Its files stay on this server. Your home folder cannot travel: it holds keys and settings." in (
            operation.notice
        )
        now = record(notebook)
        assert (now.state, "Your home folder cannot travel" in now.text) == (WorkspaceState.OFF, True)
        assert not vm.exists()
        said = service().workspaces.estimate(notebook.proxy.kernel_id, "cpu-vm")
        assert (said.allowed, said.files) == (False, 0)
        assert_moved(notebook, FREE)
        assert service().workspaces.of_kernel(notebook.proxy.kernel_id) is None


def test_many_files_need_a_yes(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        service().sync_ask_above_mib = 0
        kernel_id = notebook.proxy.kernel_id
        said = service().workspaces.estimate(kernel_id, "cpu-vm")
        assert (said.allowed, said.files, said.needs_yes) == (True, 4, True)  # one of them turns out to be a key
        refused = ended(service().attach(kernel_id, "cpu-vm"))
        assert refused.error is not None
        assert (refused.state, refused.error.code) == (OperationState.FAILED, "NeedsYes")
        assert "--no-sync" in refused.error.advice
        assert not vm.exists()
        assert ended(service().attach(kernel_id, "cpu-vm", sync=True)).state is OperationState.DONE
        assert notebook.run(READS).text == "10\n"
        assert service().workspaces.estimate(kernel_id, "cpu-vm").files == 1  # the others are there


def test_both_have_changed_a_file(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        assert_moved(notebook, "cpu-vm")
        until(lambda: record(notebook).state is WorkspaceState.IN_STEP)
        (project / "helpers.py").write_text("mine = 1\n")
        notebook.run("open('helpers.py', 'w').write('theirs = 1\\n')")
        until(lambda: record(notebook).state is WorkspaceState.CONFLICTS)
        now = record(notebook)
        assert now.text.endswith(", 1 conflict")
        (conflict,) = now.conflicts
        assert conflict.path == "helpers.py"
        assert (project / "helpers.py").read_text() == "mine = 1\n"
        assert (project / conflict.kept_as).read_text() == "theirs = 1\n"
        assert "cpu-vm" in conflict.kept_as
        service().workspaces.resolve(now.id, "helpers.py", "theirs")
        assert record(notebook).state is WorkspaceState.IN_STEP
        assert (project / "helpers.py").read_text() == "theirs = 1\n"
        assert (there(vm) / "helpers.py").read_text() == "theirs = 1\n"
        assert not (there(vm) / conflict.kept_as).exists()


def test_a_folder_that_is_suddenly_empty_stops_it(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        assert_moved(notebook, "cpu-vm")
        until(lambda: record(notebook).state is WorkspaceState.IN_STEP)
        notebook.run("import os, shutil; [os.remove(f) for f in ('helpers.py', 'study.ipynb')]; shutil.rmtree('data')")
        until(lambda: record(notebook).state is WorkspaceState.HALTED)
        now = record(notebook)
        assert now.problem is not None
        assert now.problem.code == "Halted"
        assert (project / "helpers.py").exists()
        # Nor does a move back carry that out; it says so.
        stopped = ended(service().workspaces.sync(now.id))
        assert stopped.error is not None
        assert (stopped.state, stopped.error.code) == (OperationState.FAILED, "Halted")
        forced = ended(service().workspaces.sync(now.id, force=True))
        assert forced.state is OperationState.DONE, forced.error
        assert (forced.kind, "deleted" in forced.notice) == ("sync", True)
        assert not (project / "helpers.py").exists()
        kept = {p.name for p in (project / ".dsvm-trash").rglob("*") if p.is_file()}
        assert {"helpers.py", "values.csv"} <= kept


def test_files_come_back_before_a_machine_is_stopped(configured: Emulator, vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        assert_moved(notebook, "cpu-vm")
        notebook.run("open('result.txt', 'w').write('done')")
        operation = ended(service().stop("cpu-vm"))
        assert operation.state is OperationState.DONE, operation.error
        assert operation.steps[0].name == "files"
        assert "Not everything came back" not in operation.notice
        assert (project / "result.txt").read_text() == "done"
    assert configured.vm("cpu-vm")["power_state"] == "deallocated"


def test_a_kernel_that_is_shut_down_leaves_its_last_files(vm: Path, project: Path):
    with Notebook(cwd=str(project)) as notebook:
        assert_moved(notebook, "cpu-vm")
        notebook.run("open('last.txt', 'w').write('last')")
    until(lambda: (project / "last.txt").exists())  # the service, which nobody uses any more, ends with it


def test_files_that_have_not_come_back_when_a_notebook_leaves_are_missed_and_come_later(
    configured: Emulator, vm: Path, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duesyncs, "AGAIN_SECONDS", 0.5)
    with Notebook(cwd=str(project)) as stays:
        with Notebook(cwd=str(project)) as ends:
            assert_moved(stays, "cpu-vm")
            assert_moved(ends, "cpu-vm")
            until(lambda: record(stays).state is WorkspaceState.IN_STEP)
            ends.run("open('late.txt', 'w').write('late')")
            configured.kill_ssh("cpu-vm")
            until(lambda: stays.proxy.status.link.state is LinkPhase.RECONNECTING)
            assert not (project / "late.txt").exists()
            back = assert_moved(stays, FREE)
            assert back.notice.count("Not everything came back from cpu-vm: cpu-vm is out of reach.") == 1
        said = "The last files have not come back from cpu-vm: it is out of reach."
        until(lambda: [o for o in service().operations()[0] if o.kind == "sync"], PATIENCE)
        (missed,) = [o for o in service().operations()[0] if o.kind == "sync"]
        assert missed.error is not None
        assert (missed.state, missed.error.code, missed.error.message) == (OperationState.FAILED, "NotBack", said)
        now = record(stays)
        assert (now.state, now.text, now.kernels) == (WorkspaceState.FAILED, said, (stays.proxy.kernel_id,))
        assert service().operation(back.id).notice == back.notice, "it was said once"
        status = stays.run("%dsvm status").text
        assert said in status
        assert "come by themselves when cpu-vm is reached" in status

        configured.start_ssh("cpu-vm")
        assert_moved(stays, "cpu-vm")
        until(lambda: (project / "late.txt").exists(), PATIENCE)
        until(lambda: record(stays).state is WorkspaceState.IN_STEP)
        assert_moved(stays, FREE)


@contextlib.contextmanager
def small_disk(emulator: Emulator, name: str, kib: int) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A disk of so many KiB at ``~/notebooks`` of that VM, as the VM sees it; and what makes it as large as so many KiB."""
    vm = emulator.vm(name)
    seen = "/" + str((Path(vm["home"]) / "notebooks").relative_to(vm["disk"]))
    folder = Path(f"/proc/{vm['pid']}/root{seen}")
    owner = os.stat(vm["home"])

    def there(*command: str) -> None:
        subprocess.run(
            ["nsenter", "-t", str(vm["pid"]), "--mount", "--pid", "--root", "--wd", "--", *command], check=True
        )

    if os.geteuid() != 0:
        pytest.skip("a small disk on a VM needs root")
    (Path(vm["home"]) / "notebooks").mkdir()
    options = f"size={kib}k,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    there("mount", "-t", "tmpfs", "-o", options, "tmpfs", seen)
    try:
        yield folder, lambda kib: there("mount", "-o", f"remount,size={kib}k", seen)
    finally:
        there("umount", "--lazy", seen)


def test_a_machine_whose_disk_is_full_gets_the_kernel_and_what_it_has_room_for(
    configured: Emulator, vm: Path, project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("jupyter_dsvm.sync.workspace.SPARE_BYTES", 0)
    write(project / "model.bin", os.urandom(3_000_000))
    with small_disk(configured, "cpu-vm", 1000) as (disk, resize), Notebook(cwd=str(project)) as notebook:
        operation = assert_moved(notebook, "cpu-vm")
        said = "Not everything was copied to cpu-vm: model.bin on cpu-vm: the disk is full."
        assert said in operation.notice
        assert notebook.run(READS).text == "10\n", "the small files have room"
        assert not (there(disk) / "model.bin").exists()
        # Nothing here is touched for it, and what the notebook writes there still comes.
        assert (project / "model.bin").stat().st_size == 3_000_000
        assert notebook.run("open('result.txt', 'w').write('done')").status == "ok"
        until(lambda: (project / "result.txt").exists())
        until(lambda: record(notebook).state is not WorkspaceState.COPYING)
        now = record(notebook)
        assert (now.state, now.text) == (WorkspaceState.FAILED, "83 bytes, 1 file was not copied")
        assert now.problem is not None
        assert now.problem.message == "model.bin on cpu-vm: the disk is full."
        notebook.run("open('second.txt', 'w').write('done')")
        refused = ended(service().workspaces.sync(now.id))
        assert refused.error is not None
        assert (refused.state, refused.error.code) == (OperationState.FAILED, "DiskFull")
        assert "3 MB are to be copied to cpu-vm, where 1 MB are free" in refused.error.message
        assert (project / "second.txt").exists(), "what is there comes all the same"
        # With room, the next sync brings the rest.
        resize(8000)
        again = ended(service().workspaces.sync(now.id))
        assert again.state is OperationState.DONE, again.error
        assert (there(disk) / "model.bin").read_bytes() == (project / "model.bin").read_bytes()
        until(lambda: record(notebook).state is WorkspaceState.IN_STEP)
        # A machine whose disk is full again keeps nothing back.
        write(project / "more.bin", os.urandom(9_000_000))
        notebook.run("open('third.txt', 'w').write('done')")
        back = assert_moved(notebook, FREE)
        assert "Not everything came back" not in back.notice
        assert (project / "third.txt").exists()


def test_a_kernel_that_begins_there_from_its_kernelspec_has_its_files(
    vm: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    command = [sys.executable, "-m", "jupyter_dsvm", "kernelspec", "install", "cpu-vm"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert installed.returncode == 0, installed.stderr
    with Notebook("dsvm-cpu-vm-python3", cwd=str(project)) as notebook:
        assert where(notebook) == "cpu-vm"
        assert notebook.run(READS).text == "10\n"
        assert notebook.run("import os; print(os.getcwd())").text.strip().endswith(f"/notebooks/{there(vm).name}")
        assert notebook.run(WRITES).status == "ok"
        until(lambda: (project / "models/model.pkl").exists() and (project / "plot.png").exists())
        now = record(notebook)
        assert now.kernels == (notebook.proxy.kernel_id,)
        # A restart is another kernel in the same folder.
        notebook.km.restart_kernel()
        assert notebook.run("import os; print(os.path.exists('plot.png'))").text == "True\n"
        notebook.run("open('late.txt', 'w').write('late')")
        assert_moved(notebook, FREE)
        assert (project / "late.txt").read_text() == "late"
        assert where(notebook) == HERE
        assert notebook.run("print(open('late.txt').read())").text == "late\n"


def test_two_notebooks_share_a_folder_and_two_machines_have_each_their_own(
    configured: Emulator, vm: Path, project: Path
):
    with Notebook(cwd=str(project)) as one, Notebook(cwd=str(project)) as two:
        for notebook in (one, two):
            assert_moved(notebook, "cpu-vm")
        assert record(one).id == record(two).id
        assert record(one).kernels == tuple(sorted((one.proxy.kernel_id, two.proxy.kernel_id)))
        assert_moved(two, "gpu-vm")
        assert record(one).id != record(two).id
        one.run("open('from-one.txt', 'w').write('1')")
        until(lambda: (project / "from-one.txt").exists())
        two.run("import time, os\nwhile not os.path.exists('from-one.txt'): time.sleep(0.05)", timeout=PATIENCE)
        assert len(service().workspaces.records()[0]) == 2
    until(lambda: not ours(configured, "gpu-vm"))
    remove(Path(configured.vm("gpu-vm")["home"]) / "notebooks")


# With a server


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "place") as found:
        yield found


LATE = "import time; time.sleep(6); open('late.txt', 'w').write('written while no server was there')"


def test_saves_go_there_and_a_server_that_starts_again_goes_on(machine: Place):
    with machine.server() as server:
        project = server.root / "analysis"
        write(project / "study.ipynb", "{}")
        write(project / "data/values.csv", "1,2\n3,4\n")
        write(server.root / "elsewhere.txt", "not the notebook's")
        kernel_id = server.open("analysis/study.ipynb")["kernel"]["id"]
        with Tab(server, kernel_id) as page:
            page.run("pass")
            attach(server, kernel_id)
            folder = there(machine.machine.home / "notebooks")
            assert folder.name.startswith("analysis-")
            assert page.run("print(open('data/values.csv').read())").text == "1,2\n3,4\n\n"

            body = {"type": "file", "format": "text", "content": "saved = 1\n"}
            server.rest("PUT", "api/contents/analysis/helpers.py", body, 201)
            until(lambda: (folder / "helpers.py").exists())
            server.rest("PATCH", "api/contents/analysis/helpers.py", {"path": "analysis/renamed.py"})
            until(lambda: (folder / "renamed.py").exists() and not (folder / "helpers.py").exists())
            assert not (folder / "elsewhere.txt").exists()

            page.run("open('made.txt', 'w').write('made')")
            until(lambda: (project / "made.txt").exists())
            page.send(LATE)
            page.until(lambda: server.row(kernel_id)["execution_state"] == "busy", 10)
        server.stop()
        until(lambda: (folder / "late.txt").exists())
        write(project / "meanwhile.txt", "made here without a server")
        assert not (project / "late.txt").exists()
        server.start()
        until(lambda: (project / "late.txt").exists() and (folder / "meanwhile.txt").exists(), PATIENCE)

        # A page's open notebook is never replaced.
        with Tab(server, kernel_id) as page:
            page.run("open('study.ipynb', 'w').write('{\"cells\": []}')")
            until(lambda: len(list(project.glob("study (vm *).ipynb"))) == 1)
            assert (project / "study.ipynb").read_text() == "{}"
    assert not list((machine.data / "jupyter-dsvm" / "sync" / "kernels").iterdir())
