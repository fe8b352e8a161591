"""Where notebooks last ran: the file, and what the service writes into it."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from jupyter_dsvm.lastran import MAX_NOTEBOOKS, LastRan
from jupyter_dsvm.models import FREE, OperationState, PowerState
from jupyter_dsvm.service import DSVMService
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm

CPU, GPU = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "last-ran.json"


def test_it_is_kept(file: Path):
    one = LastRan(file)
    assert one.note({"/a.ipynb": "azure:1", "/b.ipynb": "azure:2"})
    assert not one.note({"/a.ipynb": "azure:1", "/none.ipynb": None})
    one.save()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    two = LastRan(file)
    assert two.get("/a.ipynb") is None
    two.load()
    assert (two.get("/a.ipynb"), two.get("/b.ipynb")) == ("azure:1", "azure:2")
    # Each server puts in what it knows and leaves the rest.
    two.note({"/a.ipynb": None})
    one.note({"/c.ipynb": "azure:3"})
    two.save()
    one.save()
    three = LastRan(file)
    three.load()
    assert [three.get(f"/{n}.ipynb") for n in "abc"] == [None, "azure:2", "azure:3"]


def test_it_is_bounded_and_bears_nonsense(file: Path, caplog: pytest.LogCaptureFixture):
    kept = LastRan(file)
    kept.note({f"/{i}": "azure:1" for i in range(MAX_NOTEBOOKS + 20)})
    assert not kept.note({"x" * 5000: "azure:1"})
    kept.save()
    again = LastRan(file)
    again.load()
    assert (again.get("/19"), again.get("/20")) == (None, "azure:1")
    for nonsense in ("", "{", "7", '{"a": 1}', "[[1]]", "[[[], 1]]"):
        file.write_text(nonsense)
        LastRan(file).load()
    assert "cannot be read" in caplog.text
    file.write_text('[[1, 2], ["/x", "azure:1"]]')
    again.load()
    assert again.get("/x") == "azure:1"


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").touch()
    kept = LastRan(tmp_path / "file" / "last-ran.json")
    kept.note({"/a": "azure:1"})
    kept.save()
    assert kept.get("/a") == "azure:1"
    assert "is not kept" in caplog.text


class Server:
    """A service as the extension uses it, with one kernel."""

    def __init__(self, root: Path, kernel: str = "k1") -> None:
        self.proxy = FakeProxy(kernel)
        self.registry = FakeRegistry(self.proxy)
        self.service = DSVMService(
            lambda: [FakeFree(), FakeCompute(CPU, GPU)], registry=self.registry, connections=FakeConnections()
        )
        self.service.use_root(str(root))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.close()

    def move(self, compute: str) -> None:
        operation = self.service.attach(self.proxy.kernel_id, compute)
        ended = self.service.operations_store.get(operation.id).finished.result(5)
        assert ended.state is OperationState.DONE
        self.registry.changed(self.proxy.kernel_id)

    @property
    def last(self) -> str | None:
        return self.service.kernels()[0][0].last_compute


def test_a_notebook_that_ran_on_a_vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with Server(tmp_path) as server:
        server.service.set_paths({"k1": "a.ipynb"})
        assert server.last is None
        server.move("cpu-vm")
        assert server.last is None  # it is there now
        server.service.set_paths({"k1": "sub/b.ipynb"})  # renamed
    file = tmp_path / "data" / "jupyter-dsvm" / "last-ran.json"
    assert file.read_text() == f'[["{tmp_path}/sub/b.ipynb", "{CPU.id}"]]'
    with Server(tmp_path, "k2") as server:
        # Another server, another kernel: nothing is started, and the row says where it was.
        assert server.proxy.status.compute == FREE
        server.registry.changed("k2")
        server.service.set_paths({"k2": "other.ipynb"})
        assert server.last is None
        heard = threading.Event()
        server.service.listen(lambda what, *_: heard.set() if what == "kernels" else None)
        server.service.set_paths({"k2": "sub/b.ipynb"})
        assert heard.is_set()
        assert server.last == CPU.id
        server.move("cpu-vm")
        assert server.last is None
        server.move(FREE)  # a person brought it back
        assert server.last is None
    assert file.read_text() == "[]"


def test_a_machine_that_we_stop_is_where_it_last_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The notebook has come back by itself, and no person has said that it belongs here."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with Server(tmp_path) as server:
        server.service.set_paths({"k1": "a.ipynb"})
        server.move("cpu-vm")
        operation = server.service.stop("cpu-vm")
        assert server.service.operations_store.get(operation.id).finished.result(5).state is OperationState.DONE
        assert server.proxy.status.compute == FREE
        assert server.last == CPU.id


def test_a_move_that_starts_its_machine_says_afterwards_what_is_missing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with Server(tmp_path) as server:
        looked = threading.Event()

        def notes(kernel_id: str, kernelspec: str | None = None) -> list[str]:
            assert looked.wait(5)
            return [f"Missing there for {kernel_id}: pandas."]

        monkeypatch.setattr(server.service, "attach_notes", notes)
        server.move("gpu-vm")  # which ends before anybody has looked
        heard = threading.Event()
        server.service.listen(lambda what, *_: heard.set() if what == "operations" else None)
        looked.set()
        assert heard.wait(5)
        notice = server.service.operations()[0][0].notice
        assert notice.startswith("The notebook runs on gpu-vm.")
        assert notice.endswith(". Missing there for k1: pandas.")
        server.move("cpu-vm")  # it ran: the dialog has looked already
        assert "Missing" not in server.service.operations()[0][0].notice


def test_a_kernel_that_ends_leaves_it_and_staying_here_forgets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with Server(tmp_path) as server:
        server.service.set_paths({"k1": "a.ipynb"})
        server.move("cpu-vm")
        server.registry.proxies["k2"] = FakeProxy("k2")
        del server.registry.proxies["k1"]
        server.registry.changed("k1")
        server.proxy = server.registry.proxies["k2"]
        server.service.set_paths({"k2": "a.ipynb"})
        assert server.last == CPU.id
        server.move(FREE)
        assert server.last is None


def test_paths_outside_the_folder_and_services_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    with Server(tmp_path) as server:
        for path in ("../x.ipynb", "a/../../x.ipynb", "a\0b"):
            server.service.set_paths({"k1": path})
            server.proxy.status = dataclasses.replace(server.proxy.status, compute=CPU.id)
            server.registry.changed("k1")
        server.service.root_dir = None
        server.service.set_paths({"k1": "a.ipynb"})
        server.registry.changed("k1")
        assert server.service.attach_notes("k1") == []
        assert server.service.attach_notes("none") == []
    assert not os.path.exists(tmp_path / "data" / "jupyter-dsvm" / "last-ran.json")
