"""Kernels of attached machines in launcher and kernel picker: a real server, real kernelspecs, real kernels there."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import ComputeNotRunning, RelayError
from jupyter_dsvm.kernels.kernelspecs import RemoteSpec
from jupyter_dsvm.models import LinkPhase, LinkState, PowerState, utc_now
from jupyter_dsvm.offers import KernelspecOffers, looks_in_folders
from jupyter_dsvm.service import DSVMService
from support.emulated import PATIENCE, configured, emulator, settings, where, writes
from support.fakes import FakeCompute, FakeConnections, FakeFree, FakeProxy, FakeRegistry, dsvm
from support.kernels import until
from support.served import Events, JupyterServer, RestError
from support.tab import Tab

__all__ = ["configured", "emulator"]

OFFERED = "dsvm-cpu-vm-python3"


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as running:
        yield running


def offered(server: JupyterServer) -> dict[str, Any]:
    specs: dict[str, Any] = server.rest("GET", "api/kernelspecs")["kernelspecs"]
    return {name: spec for name, spec in specs.items() if name.startswith("dsvm-")}


def move(server: JupyterServer, kernel_id: str, compute: str) -> None:
    begun = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": compute}, 202)
    ended, _ = server.operation(begun["id"], PATIENCE)
    assert ended["state"] == "done", ended


def test_a_notebook_begins_on_an_attached_machine(server: JupyterServer, configured: Emulator):
    first = server.open("first.ipynb")["kernel"]["id"]
    assert offered(server) == {}
    with Events(server) as events:
        move(server, first, "cpu-vm")
        until(lambda: OFFERED in offered(server))
        before = len(events.of_ours())
    assert before > 0
    spec = offered(server)[OFFERED]
    assert spec["spec"]["display_name"] == "Python 3 (DSVM) on cpu-vm"
    assert spec["resources"].keys() >= {"logo-64x64"}  # this server's own Python's
    (folder,) = Path(jupyter_runtime_dir()).glob("jupyter-dsvm-*/kernels")
    assert {stat.S_IMODE(p.stat().st_mode) for p in (folder, folder.parent, folder / OFFERED)} == {0o700}
    assert str(configured.vm("cpu-vm")["home"]) not in (folder / OFFERED / "kernel.json").read_text()

    # What the launcher does.
    session = server.open("second.ipynb", OFFERED)
    kernel_id = session["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        assert where(page) == "cpu-vm"
        assert server.row(kernel_id)["kernelspec"] == "python3"
        server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        assert where(page) == "cpu-vm"

    # The first returns: the second still runs there.
    move(server, first, "free")
    assert OFFERED in offered(server)
    with Tab(server, kernel_id) as page:
        move(server, kernel_id, "free")
        assert where(page) == "here"
        until(lambda: offered(server) == {})

    # And again, until the machine is off, and with it what ran there.
    move(server, first, "cpu-vm")
    until(lambda: OFFERED in offered(server))
    stopped = server.rest("POST", "jupyter-dsvm/computes/cpu-vm/stop", {}, 202)
    assert server.operation(stopped["id"], PATIENCE)[0]["state"] == "done"
    until(lambda: offered(server) == {})
    server.stop()
    assert list(Path(jupyter_runtime_dir()).glob("jupyter-dsvm-*")) == []
    server.start()


def test_a_kernel_that_was_installed_there_meanwhile_joins_once_somebody_asks(
    server: JupyterServer, configured: Emulator
):
    first = server.open("first.ipynb")["kernel"]["id"]
    move(server, first, "cpu-vm")
    until(lambda: OFFERED in offered(server))
    folder = Path(configured.vm("cpu-vm")["home"]) / ".local/share/jupyter/kernels/late"
    folder.mkdir(parents=True)
    spec = {"argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    (folder / "kernel.json").write_text(json.dumps({**spec, "display_name": "Late"}))
    for path in (folder, *folder.parents[:3], folder / "kernel.json"):
        path.chmod(0o755)
    try:
        listed = server.rest("GET", "jupyter-dsvm/computes/cpu-vm/kernelspecs")["kernelspecs"]
        assert "late" in [one["name"] for one in listed]
        until(lambda: "dsvm-cpu-vm-late" in offered(server))
        assert offered(server)["dsvm-cpu-vm-late"]["spec"]["display_name"] == "Late on cpu-vm"
    finally:
        shutil.rmtree(folder)
    server.rest("GET", "jupyter-dsvm/computes/cpu-vm/kernelspecs")
    until(lambda: "dsvm-cpu-vm-late" not in offered(server))
    move(server, first, "free")


def test_nothing_billed_is_started_for_a_kernelspec_of_the_launcher(server: JupyterServer, configured: Emulator):
    """It was on when the launcher showed it. The emulator's configuration lets code start machines."""
    first = server.open("first.ipynb")["kernel"]["id"]
    move(server, first, "cpu-vm")
    until(lambda: OFFERED in offered(server))
    (folder,) = Path(jupyter_runtime_dir()).glob(f"jupyter-dsvm-*/kernels/{OFFERED}")
    kept = (folder / "kernel.json").read_text()
    stopped = server.rest("POST", "jupyter-dsvm/computes/cpu-vm/stop", {}, 202)
    assert server.operation(stopped["id"], PATIENCE)[0]["state"] == "done"
    until(lambda: not folder.exists())
    folder.mkdir()  # as a page that was quicker would find it
    (folder / "kernel.json").write_text(kept)
    since = len(configured.traffic)
    with pytest.raises(RestError) as refused:
        server.open("second.ipynb", OFFERED)
    assert "cpu-vm is deallocated, and no kernel can start there." in refused.value.answer["message"]
    assert "Start cpu-vm in the Compute panel" in refused.value.answer["message"]
    assert writes(configured, since) == []


# By itself

SPEC = RemoteSpec("python3", "Python 3 (ipykernel)", "python", ("python3", "-f", "{connection_file}"))


class Attached:
    """A service some of whose kernels run on machines, and the offers that follow it."""

    def __init__(self, manager: KernelSpecManager) -> None:
        self.computes = FakeCompute(
            dsvm("gpu-vm"),
            dsvm("Gpu_VM"),
            dsvm("twin"),
            dataclasses.replace(dsvm("x"), name="twin", resource_group="other"),
        )
        self.kernels = FakeRegistry(FakeProxy("k1"), FakeProxy("k2"))
        self.connections = FakeConnections()
        self.specs: list[RemoteSpec] = [SPEC]
        self.error: RelayError | None = None
        self.connections.kernelspecs_there = self._there  # type: ignore[method-assign]
        self.service = DSVMService(
            lambda: [FakeFree(), self.computes],
            registry=self.kernels,  # type: ignore[arg-type]
            connections=self.connections,  # type: ignore[arg-type]
        )
        self.service.known.snapshot()
        self.manager = manager
        self.offers = KernelspecOffers(self.service, manager, self.service.own_folder, logging.getLogger("test"))

    def _there(self, compute_id: str, seconds: float) -> list[RemoteSpec]:
        if self.error is not None:
            raise self.error
        return self.specs

    def run_on(self, kernel: str, compute: str, state: LinkPhase = LinkPhase.CONNECTED) -> None:
        proxy = self.kernels.get(kernel)
        assert proxy is not None
        link = LinkState(state if compute != "free" else LinkPhase.LOCAL, utc_now())
        proxy.status = dataclasses.replace(proxy.status, compute=compute, compute_name=compute, link=link)
        self.service._kernel_changed(kernel)

    def names(self) -> list[str]:
        return sorted(n for n in self.manager.find_kernel_specs() if n.startswith("dsvm-"))

    def shown(self) -> dict[str, str]:
        """Display names by name; a kernelspec is replaced by taking it away first."""
        rows = self.manager.get_all_specs()
        return {name: row["spec"]["display_name"] for name, row in rows.items() if name.startswith("dsvm-")}


@pytest.fixture
def attached() -> Iterator[Attached]:
    made = Attached(KernelSpecManager())
    assert made.offers.begin()
    yield made
    made.offers.close()
    made.offers.close()
    made.service.close()
    assert made.names() == []


def test_names_that_are_alike_do_not_meet(attached: Attached):
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: len(attached.names()) == 1)
    attached.run_on("k2", "azure:Gpu_VM-id")
    until(lambda: len(attached.names()) == 2)
    assert attached.names() == ["dsvm-gpu-vm-python3", "dsvm-gpu_vm-python3"]
    attached.run_on("k1", "azure:twin-id")
    attached.run_on("k2", "azure:x-id")
    until(lambda: ["twin" in name for name in attached.names()] == [True, True])
    shown = {s["spec"]["display_name"] for n, s in attached.manager.get_all_specs().items() if n.startswith("dsvm-")}
    assert shown == {"Python 3 on lab/twin", "Python 3 on other/twin"}


def test_kernels_of_a_machine_that_differ_in_case_only(attached: Attached):
    attached.specs = [SPEC, dataclasses.replace(SPEC, name="PYTHON3"), dataclasses.replace(SPEC, name="k" * 200)]
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: len(attached.names()) == 3)
    assert all(len(name) <= 120 for name in attached.names())


def test_a_lost_machine_keeps_its_kernels_in_the_list(attached: Attached):
    attached.run_on("k1", "azure:gpu-vm-id", LinkPhase.CONNECTING)
    assert attached.names() == []
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: attached.names() != [])
    attached.run_on("k1", "azure:gpu-vm-id", LinkPhase.RECONNECTING)
    attached.run_on("k2", "azure:twin-id")
    until(lambda: len(attached.names()) == 2)
    attached.run_on("k1", "azure:gpu-vm-id", LinkPhase.GONE)
    until(lambda: attached.names() == ["dsvm-lab-twin-python3"])


def test_what_a_person_installed_comes_first(attached: Attached):
    by_hand = Path(jupyter_data_dir()) / "kernels" / "dsvm-gpu-vm-python3"
    by_hand.mkdir(parents=True)
    (by_hand / "kernel.json").write_text(json.dumps({"argv": ["x"], "display_name": "Mine", "language": "python"}))
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: any(attached.service.own_folder.path.glob("kernels/*/kernel.json")))
    assert attached.manager.get_kernel_spec("dsvm-gpu-vm-python3").display_name == "Mine"
    attached.run_on("k1", "free")
    until(lambda: not any(attached.service.own_folder.path.glob("kernels/*")))
    assert attached.names() == ["dsvm-gpu-vm-python3"]
    for path in (by_hand / "kernel.json", by_hand):
        path.unlink() if path.is_file() else path.rmdir()


def test_a_machine_that_does_not_say_what_it_has_is_asked_again(attached: Attached):
    attached.error = RelayError("It did not answer.")
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: not attached.offers._waiting)
    assert attached.names() == []
    attached.error = None
    attached.run_on("k2", "azure:twin-id")
    until(lambda: len(attached.names()) == 2)


def test_kernels_that_are_installed_there_later(attached: Attached):
    other = dataclasses.replace(SPEC, name="torch", display_name="PyTorch")
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: attached.names() == ["dsvm-gpu-vm-python3"])
    (file,) = attached.service.own_folder.path.glob("kernels/*/kernel.json")
    written = file.stat()
    heard: list[str] = []
    unlisten = attached.service.listen(lambda what, thing, revision: heard.append(what))
    attached.specs = [SPEC, other]
    attached.connections.on_listed("azure:gpu-vm-id")
    until(lambda: attached.names() == ["dsvm-gpu-vm-python3", "dsvm-gpu-vm-torch"])
    assert file.stat() == written, "what was there stays as it is"
    until(lambda: "computes" in heard)  # the page looks for them
    attached.specs = [dataclasses.replace(other, display_name="PyTorch 2")]
    attached.connections.on_listed("azure:gpu-vm-id")
    until(lambda: attached.shown() == {"dsvm-gpu-vm-torch": "PyTorch 2 on gpu-vm"})
    unlisten()
    attached.connections.on_listed("azure:twin-id")  # nothing runs there
    attached.run_on("k1", "free")
    until(lambda: attached.names() == [])


def test_no_command_of_a_machine_is_written_down(attached: Attached):
    attached.specs = [dataclasses.replace(SPEC, argv=("/tmp/evil", "{connection_file}"), env={"A": "evil"})]
    attached.run_on("k1", "azure:gpu-vm-id")
    until(lambda: attached.names() != [])
    (file,) = attached.service.own_folder.path.glob("kernels/*/kernel.json")
    assert "evil" not in file.read_text()


def test_another_way_to_find_kernelspecs_gets_none(caplog: pytest.LogCaptureFixture):
    class Elsewhere(KernelSpecManager):
        def find_kernel_specs(self) -> dict[str, str]:
            return {}

    class Alike(KernelSpecManager):
        pass

    assert looks_in_folders(Alike())
    assert not looks_in_folders(object())
    made = Attached(Elsewhere())
    with caplog.at_level(logging.DEBUG, "test"):
        assert not made.offers.begin()
    assert [r.message for r in caplog.records if r.name == "test"] == [
        "Elsewhere does not look in kernel_dirs: machines' kernels are not offered in the launcher."
    ]
    made.run_on("k1", "azure:gpu-vm-id")
    assert made.offers._worker is None
    made.offers.close()
    made.service.close()


def test_a_kernel_that_must_not_start_its_machine(attached: Attached):
    attached.computes.rows["azure:gpu-vm-id"] = dsvm("gpu-vm", PowerState.DEALLOCATED)
    attached.service.kernel_may_start = {"names": ["*"]}
    with pytest.raises(ComputeNotRunning) as refused:
        attached.service.remote_backend(FakeProxy(), "gpu-vm", "python3", may_start=False)
    assert "Compute panel" in refused.value.advice
    assert "start azure:gpu-vm-id" not in attached.computes.asked
