"""``AzureCompute`` against the emulator, with nothing but the configuration that the emulator writes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.naming import resolve
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import STANDARD
from jupyter_dsvm.errors import (
    Cancelled,
    ComputeError,
    ComputeNotRunning,
    DSVMError,
    Forbidden,
    OperationRefused,
    SignInRequired,
    Throttled,
)
from jupyter_dsvm.models import OS, Compute, PowerState

# No Python environments: nothing runs on these VMs here.
MACHINES = tuple(replace(machine, requirements=(), kernelspecs=()) for machine in STANDARD)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES, isolate=False, timeout=120) as emulator:
        yield emulator


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[AzureCompute]:
    config = Config()
    for file in emulator.config_dir.glob("*.json"):
        config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
    provider = AzureCompute(config=config, polling_interval=0.05)
    assert provider.arm_endpoint == emulator.arm
    yield provider
    provider.close()
    emulator.clear_faults()
    emulator.set_timings(start=0.3, deallocate=0.2, restart=0.3, graph_lag=0)


def find(azure: AzureCompute, name: str) -> Compute:
    return resolve(name, azure.list().computes)


def silent(text: str, done: float | None) -> None:
    pass


def deallocated(emulator: Emulator, name: str) -> None:
    if emulator.vm(name)["power_state"] != "deallocated":
        emulator.power(name, "deallocate")


def answers(host: str, port: int) -> bytes:
    with socket.create_connection((host, port), timeout=5) as connection:
        return connection.recv(8)


def test_the_dsvms_of_both_subscriptions_and_no_other_vm(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    listing = azure.list()
    rows = {c.name: c for c in listing.computes}
    assert set(rows) == {"cpu-vm", "gpu-vm", "old-vm", "win-vm"}
    assert len({c.subscription for c in listing.computes}) == 2
    assert rows["gpu-vm"].power_state is PowerState.DEALLOCATED
    assert rows["old-vm"].power_state is PowerState.STOPPED
    assert rows["win-vm"].os is OS.WINDOWS
    gpu, cpu = rows["gpu-vm"].size, rows["cpu-vm"].size
    assert gpu is not None
    assert cpu is not None
    assert (gpu.gpus, cpu.vcpus, cpu.memory_gib) == (1, 4, 16)
    assert listing.problems == ()


@pytest.mark.parametrize("status", [400, 403])
def test_without_the_graph_the_list_is_the_same(azure: AzureCompute, emulator: Emulator, status: int) -> None:
    graph = azure.list().computes
    emulator.fault("*", "graph", code="AccessDenied", status=status, message="No.")
    subscriptions = azure.list().computes
    assert sorted(graph, key=lambda c: c.id) == sorted(subscriptions, key=lambda c: c.id)


def test_a_forbidden_subscription_is_a_problem_of_its_own(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.fault("*", "graph", code="AccessDenied", status=403, message="No.")
    emulator.fault("*", "list", code="AuthorizationFailed", times=1)
    listing = azure.list()
    (problem,) = listing.problems
    assert problem.code == "AuthorizationFailed"
    assert listing.computes, "the other subscription's VMs are there"


def test_start_connect_restart_stop(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    with pytest.raises(ComputeNotRunning, match="gpu-vm is deallocated"):
        azure.ssh_target(gpu.id)
    reports: list[str] = []
    assert azure.start(gpu.id, lambda text, done: reports.append(text), Cancel()).power_state is PowerState.RUNNING
    assert any(text.startswith("Azure is starting gpu-vm") for text in reports)
    target = azure.ssh_target(gpu.id)
    vm = emulator.vm("gpu-vm")
    assert (target.host, target.port, target.user) == (vm["host"], vm["port"], vm["user"])
    assert target.pinned_key_id == vm["vm_id"]
    assert target.key_files == (str(emulator.key_file),)
    assert answers(target.host, target.port).startswith(b"SSH-2.0-")
    assert azure.restart(gpu.id, silent, Cancel()).power_state is PowerState.RUNNING
    assert azure.stop(gpu.id, silent, Cancel()).power_state is PowerState.DEALLOCATED
    with pytest.raises(OSError):
        answers(target.host, target.port)


def test_the_address_is_read_anew_after_each_deallocation(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    places = set()
    for _ in range(2):
        azure.start(gpu.id, silent, Cancel())
        target = azure.ssh_target(gpu.id)
        assert answers(target.host, target.port).startswith(b"SSH-2.0-")
        places.add((target.host, target.port))
        azure.stop(gpu.id, silent, Cancel())
    assert len(places) == 2


def test_a_windows_vm_is_listed_but_runs_no_notebook_yet(azure: AzureCompute) -> None:
    win = find(azure, "win-vm")
    with pytest.raises(ComputeError, match="Windows VM"):
        azure.ssh_target(win.id)


@pytest.mark.parametrize("at", ["request", "operation"])
@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("AllocationFailed", OperationRefused, "no capacity"),
        ("SkuNotAvailable", OperationRefused, "size is not available"),
        ("OperationNotAllowed", OperationRefused, "its quota is 0"),
        ("AuthorizationFailed", Forbidden, "Microsoft.Compute/virtualMachines/start/action"),
        ("ReadOnlyDisabledSubscription", OperationRefused, "subscription is disabled"),
    ],
)
def test_a_refused_start(
    azure: AzureCompute, emulator: Emulator, code: str, kind: type[ComputeError], says: str, at: str
) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    emulator.fault("gpu-vm", "start", code=code, at=at)
    with pytest.raises(kind, match=f"Could not start gpu-vm.*{says}") as caught:
        azure.start(gpu.id, silent, Cancel())
    assert caught.value.code == code
    assert caught.value.advice
    assert azure.get(gpu.id).power_state is PowerState.DEALLOCATED


def test_throttling_says_when_again(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.fault("*", "graph", code="TooManyRequests", retry_after=77)
    with pytest.raises(Throttled) as caught:
        azure.list()
    assert caught.value.retry_after == 77


def test_polling_outlives_a_fault(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    emulator.fault("*", "operation", code="ServerTimeout", times=2)
    assert azure.start(gpu.id, silent, Cancel()).power_state is PowerState.RUNNING


def test_cancel_leaves_azure_at_it(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    emulator.set_timings(start=1.5)
    cancel = Cancel()
    timer = threading.Timer(0.4, cancel.set)
    timer.start()
    with pytest.raises(Cancelled, match="Azure goes on starting it"):
        azure.start(gpu.id, silent, cancel)
    timer.join()
    assert azure.get(gpu.id).power_state is PowerState.STARTING
    deadline = time.monotonic() + 10
    while azure.get(gpu.id).power_state is not PowerState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_stop_by_somebody_else_is_waited_for_before_a_start(azure: AzureCompute, emulator: Emulator) -> None:
    gpu = find(azure, "gpu-vm")
    azure.start(gpu.id, silent, Cancel())
    emulator.set_timings(deallocate=1.0)
    other = threading.Thread(target=emulator.power, args=("gpu-vm", "deallocate"))
    other.start()
    while azure.get(gpu.id).power_state is PowerState.RUNNING:
        time.sleep(0.02)
    reports: list[str] = []
    assert azure.start(gpu.id, lambda text, done: reports.append(text), Cancel()).power_state is PowerState.RUNNING
    other.join()
    assert any("is deallocating by another operation" in text for text in reports)


def test_somebody_else_preempts_a_start(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    gpu = find(azure, "gpu-vm")
    emulator.set_timings(start=2.0)
    other = threading.Timer(0.5, emulator.power, args=("gpu-vm", "deallocate"))
    other.start()
    with pytest.raises(OperationRefused, match=r"Could not start gpu-vm\. Another operation on this VM"):
        azure.start(gpu.id, silent, Cancel())
    other.join()


def test_the_graph_may_lag(azure: AzureCompute, emulator: Emulator) -> None:
    deallocated(emulator, "gpu-vm")
    emulator.set_timings(graph_lag=30)
    gpu = find(azure, "gpu-vm")
    azure.start(gpu.id, silent, Cancel())
    assert find(azure, "gpu-vm").power_state is PowerState.RUNNING


def test_a_wrong_token_is_a_sign_in(azure: AzureCompute, emulator: Emulator) -> None:
    token = emulator.config_dir / "token"
    right = token.read_text()
    token.write_text("wrong")
    try:
        with pytest.raises(SignInRequired, match="does not accept"):
            azure.list()
    finally:
        token.write_text(right)
    assert azure.list().computes


@pytest.mark.parametrize(("kind", "operation"), [("start", "start"), ("stop", "deallocate"), ("resize", "patch")])
def test_a_missing_role_is_remembered_for_that_machine(
    azure: AzureCompute, emulator: Emulator, kind: str, operation: str
) -> None:
    """As Azure itself says it, at the step that changes something."""
    deallocated(emulator, "gpu-vm")
    name = "old-vm" if kind == "stop" else "gpu-vm"
    known = Computes(lambda: [azure], lambda _: None)
    chosen = known.find(name).id
    emulator.fault(name, operation, code="AuthorizationFailed", times=-1)
    do = {
        "start": lambda: known.change_power("start", chosen, silent, Cancel()),
        "stop": lambda: known.change_power("stop", chosen, silent, Cancel()),
        "resize": lambda: known.resize(chosen, "standard_nc8as_t4_v3", silent, Cancel()),
    }
    with pytest.raises(DSVMError, match="lacks the permission"):
        do[kind]()
    denied = {c.name: c.not_allowed for c in known.snapshot().computes if c.not_allowed}
    assert denied == {name: (kind,)}
    known.account_changed()
    assert not [c for c in known.snapshot().computes if c.not_allowed]
