"""A notebook of a hub's user moves to a VM of the class and back, with the broker alone between it and Azure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.compute.broker import ADDRESS, TOKEN
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.hub.certificates import account
from jupyter_dsvm.hub.policy import Person
from support.broker import FakeHub, Running, broker, vm
from support.emulated import HERE, PATIENCE, attached, refused, service, where
from support.kernels import Notebook

REASON = can_isolate()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"needs VMs with accounts of their own: {REASON}")

ADA = Person("ada", frozenset({"vision"}))
WHO = "import getpass, os; print(getpass.getuser(), os.getcwd())"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=(vm("class-vm", power="running", group="vision"),)) as one:
        one.set_timings(runCommand=0.3)
        yield one


@pytest.fixture
def running(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """This process is ada's server: no configuration of Azure's, and no key."""
    with broker(emulator, tmp_path / "broker", FakeHub(ADA)) as started:
        (tmp_path / "config").mkdir()
        monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        monkeypatch.setenv(ADDRESS, started.address)
        monkeypatch.setenv(TOKEN, "token-of-ada")
        yield started


def test_attach_and_detach(running: Running, dsvm_provisioner: None, tmp_path: Path):
    with Notebook() as notebook:
        attached(notebook, "class-vm")
        user, folder = notebook.run(WHO, timeout=PATIENCE).text.split()
        assert user == account("ada")
        assert folder.startswith(f"/home/{user}")
        assert service().compute_providers == ["free", "hub", "hosts"]
        assert {row.name for row in service().known.last()} == {"Free tier", "class-vm"}
        notebook.run("%dsvm detach", timeout=PATIENCE)
        assert where(notebook) == HERE
        said, _ = refused(notebook, "%dsvm resize class-vm D8ds_v5 --yes")
        assert "(rule HubPolicy.may_resize)" in said
        assert {line["person"] for line in running.said("certificate")} == {"ada"}
    assert not list(tmp_path.rglob("id_*")), "no key was made"
