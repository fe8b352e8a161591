"""``AzureCompute``: listing, one VM, and where to reach it, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.graph import PAGE, query
from jupyter_dsvm.compute.azure.machine import unchanged_since
from jupyter_dsvm.compute.provider import ComputeProvider
from jupyter_dsvm.errors import ComputeError, ComputeNotRunning, Forbidden, SignInRequired, Throttled, UnknownCompute
from jupyter_dsvm.models import OS, ComputeKind, PowerState
from support.arm_server import (
    SUBSCRIPTION,
    VM_ID,
    Answer,
    ArmServer,
    Reply,
    Request,
    arm_server,
    fault,
    graph_row,
    token_file,
    vm_model,
    vm_path,
)

ID = f"azure:{VM_ID.lower()}"
GRAPH = "/providers/Microsoft.ResourceGraph/resources"


def provider_of(server: ArmServer, tmp_path: Path, **traits: Any) -> AzureCompute:
    return AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02, **traits)


def routed(**routes: Reply | Callable[[Request], Reply]) -> Answer:
    """By how the path ends: ``resources`` (the graph), ``gpu_vm``, ``gpu_vm_nic`` and so on; ``_`` stands for ``-``."""

    def answer(request: Request) -> Reply:
        last = request.path.rpartition("/")[2].replace("-", "_")
        route = routes.get(last)
        if route is None:
            return fault(404, "ResourceNotFound", f"The Resource '{request.path}' was not found.")
        return route if isinstance(route, Reply) else route(request)

    return answer


def graph(*rows: dict[str, Any]) -> Reply:
    return Reply(body={"totalRecords": len(rows), "count": len(rows), "data": list(rows), "resultTruncated": "false"})


def test_it_fills_the_port() -> None:
    provider: ComputeProvider = AzureCompute()
    assert provider.prefix == "azure:"


def test_configuration() -> None:
    config = Config()
    config.AzureCompute.cloud = "china"
    config.AzureCompute.ssh_ports = {VM_ID: "2201"}
    provider = AzureCompute(config=config)
    assert provider.arm_endpoint == "https://management.chinacloudapi.cn"
    assert provider.ssh_ports == {VM_ID.lower(): 2201}
    assert AzureCompute().arm_endpoint == "https://management.azure.com"
    assert all(trait.help for trait in AzureCompute.class_own_traits(config=True).values())


def test_a_row_of_the_graph(tmp_path: Path) -> None:
    rows = [
        graph_row(),
        graph_row("hpc", "2", image={"publisher": "microsoft-dsvm", "offer": "ubuntu-hpc", "sku": "2204"}),
        graph_row("win", "3", osType="Windows", image={"publisher": "microsoft-dsvm", "offer": "dsvm-win-2022"}),
        graph_row("tagged", "4", image={"id": "/gallery"}, tags={"dsvm": "true"}, powerState=None, size="Standard_Z1"),
        graph_row("no-id", ""),
    ]
    with arm_server(routed(resources=graph(*rows))) as server:
        provider = provider_of(server, tmp_path)
        listing = provider.list()
        provider.close()
    gpu, win, tagged = listing.computes
    assert listing.problems == ()
    assert (gpu.id, gpu.name, gpu.kind, gpu.power_state) == (ID, "gpu-vm", ComputeKind.DSVM, PowerState.DEALLOCATED)
    assert (gpu.subscription, gpu.resource_group, gpu.location) == (SUBSCRIPTION, "Lab", "westeurope")
    assert gpu.image == "microsoft-dsvm:ubuntu-2204:2204-gen2"
    assert gpu.size is not None
    assert (gpu.size.gpus, gpu.size.gpu_model) == (1, "NVIDIA T4 16 GB")
    assert win.os is OS.WINDOWS
    assert (tagged.power_state, tagged.image) == (PowerState.UNKNOWN, None)
    assert len(server.requests) == 1, "one request for all subscriptions"


def test_paging(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        page = int(request.body["options"].get("$skipToken", 0))
        rows = [graph_row(f"vm{page}-{i}", f"{page}-{i}") for i in range(3)]
        return Reply(body={"data": rows, **({"$skipToken": str(page + 1)} if page < 2 else {})})

    with arm_server(routed(resources=answer)) as server:
        provider = provider_of(server, tmp_path)
        assert len(provider.list().computes) == 9
        provider.close()
    assert [r.body["options"].get("$skipToken") for r in server.requests] == [None, "1", "2"]
    assert {r.body["options"]["$top"] for r in server.requests} == {PAGE}
    assert {r.body["query"] for r in server.requests} == {query("dsvm")}


def test_a_tag_cannot_change_the_query() -> None:
    assert "tostring(tags) contains 'it\\'s'" in query("it's")
    assert "tags) contains" not in query("")


def subscriptions(*ids: str) -> Reply:
    return Reply(body={"value": [{"subscriptionId": i, "displayName": f"Team {i}"} for i in ids]})


@pytest.mark.parametrize("refusal", [(403, "AccessDenied"), (400, "BadRequest"), (404, "InvalidResourceType")])
def test_where_the_graph_is_refused_the_subscriptions_are_asked(tmp_path: Path, refusal: tuple[int, str]) -> None:
    def vms(request: Request) -> Reply:
        if "/s2/" in request.path:
            return fault(
                403, "AuthorizationFailed", "perform action 'Microsoft.Compute/virtualMachines/read' over scope"
            )
        if request.query.get("statusOnly") == "true":
            status = vm_model(state="running")
            return Reply(body={"value": [{"id": status["id"].upper(), "properties": status["properties"]}]})
        other = vm_model("web", "9")
        other["properties"]["storageProfile"]["imageReference"] = {"publisher": "canonical", "offer": "ubuntu"}
        return Reply(body={"value": [vm_model(state=None), other]})

    routes = routed(resources=fault(*refusal, "No."), subscriptions=subscriptions("s1", "s2"), virtualMachines=vms)
    with arm_server(routes) as server:
        provider = provider_of(server, tmp_path)
        listing = provider.list()
        provider.close()
    (gpu,) = listing.computes
    assert (gpu.id, gpu.power_state) == (ID, PowerState.RUNNING)
    (problem,) = listing.problems
    assert problem.code == "AuthorizationFailed"
    assert "the subscription Team s2" in problem.message
    assert "Microsoft.Compute/virtualMachines/read" in problem.message


def test_an_account_without_subscription_is_told_so(tmp_path: Path) -> None:
    with arm_server(routed(resources=fault(403, "AccessDenied", "No."), subscriptions=subscriptions())) as server:
        provider = provider_of(server, tmp_path)
        (problem,) = provider.list().problems
        provider.close()
    assert problem.code == "NoSubscription"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (fault(401, "ExpiredAuthenticationToken", "Expired."), SignInRequired),
        (fault(429, "RateLimiting", "Slow down."), Throttled),
        (fault(500, "InternalServerError", "Oops."), ComputeError),
    ],
)
def test_other_answers_of_the_graph_are_errors(tmp_path: Path, reply: Reply, kind: type[ComputeError]) -> None:
    with arm_server(routed(resources=reply, subscriptions=subscriptions("s1"))) as server:
        provider = provider_of(server, tmp_path)
        with pytest.raises(kind, match="Could not list the VMs"):
            provider.list()
        provider.close()


def test_disabled_asks_nobody(tmp_path: Path) -> None:
    with arm_server(lambda request: Reply()) as server:
        assert provider_of(server, tmp_path, enabled=False).list().computes == ()
    assert server.requests == []


def test_get_reads_the_vm_itself_and_lists_once_if_it_never_did(tmp_path: Path) -> None:
    with arm_server(routed(resources=graph(graph_row()), gpu_vm=Reply(body=vm_model(state="running")))) as server:
        provider = provider_of(server, tmp_path)
        assert provider.get(ID).power_state is PowerState.RUNNING
        assert provider.get(ID.upper().replace("AZURE", "azure")).power_state is PowerState.RUNNING
        provider.close()
    assert len(server.asked("POST")) == 1
    assert [r.query["$expand"] for r in server.asked("GET", vm_path())] == ["instanceView"] * 2


def test_the_graph_does_not_take_back_what_the_vm_said(tmp_path: Path) -> None:
    """It lags: directly after a start it still says deallocated."""
    with arm_server(routed(resources=graph(graph_row()), gpu_vm=Reply(body=vm_model(state="running")))) as server:
        provider = provider_of(server, tmp_path)
        assert provider.list().computes[0].power_state is PowerState.DEALLOCATED
        provider.get(ID)
        assert provider.list().computes[0].power_state is PowerState.RUNNING
        provider.close()


def test_a_vm_that_is_gone_is_unknown_and_forgotten(tmp_path: Path) -> None:
    rows = [graph_row()]

    def listed(request: Request) -> Reply:
        return graph(*rows)

    with arm_server(routed(resources=listed)) as server:
        provider = provider_of(server, tmp_path)
        provider.list()
        with pytest.raises(UnknownCompute, match="Could not read the state of gpu-vm") as caught:
            provider.get(ID)
        assert caught.value.code == "ResourceNotFound"
        rows.clear()
        with pytest.raises(UnknownCompute, match="No Data Science VM has the id"):
            provider.get(ID)
        provider.close()


def test_a_vm_made_again_under_its_name_is_another(tmp_path: Path) -> None:
    with arm_server(routed(resources=graph(graph_row()), gpu_vm=Reply(body=vm_model(vm_id="another")))) as server:
        provider = provider_of(server, tmp_path)
        with pytest.raises(UnknownCompute, match="another VM now"):
            provider.get(ID)
        provider.close()


def test_a_vm_that_lost_its_tag_is_still_the_one_that_was_listed(tmp_path: Path) -> None:
    plain = vm_model(state="running")
    plain["properties"]["storageProfile"]["imageReference"] = {"id": "/gallery/x"}
    rows = graph(graph_row(tags={"dsvm": "1"}, image={"id": "/gallery/x"}))
    with arm_server(routed(resources=rows, gpu_vm=Reply(body=plain))) as server:
        provider = provider_of(server, tmp_path)
        assert provider.get(ID).power_state is PowerState.RUNNING
        provider.close()


NIC = {
    "properties": {
        "ipConfigurations": [
            {"properties": {"primary": False, "privateIPAddress": "10.0.0.9"}},
            {
                "properties": {
                    "primary": True,
                    "privateIPAddress": "10.0.0.5",
                    "publicIPAddress": {"id": "/net/gpu-vm-ip"},
                }
            },
        ]
    }
}


def running(**routes: Any) -> Answer:
    routes = {
        "resources": graph(graph_row(publicIp="203.0.113.1")),
        "gpu_vm": Reply(body=vm_model(state="running")),
        "gpu_vm_nic": Reply(body=NIC),
        "gpu_vm_ip": Reply(body={"properties": {"ipAddress": "203.0.113.2"}}),
        **routes,
    }
    return routed(**routes)


def test_target_has_the_fresh_address_of_the_primary_interface(tmp_path: Path) -> None:
    with arm_server(running()) as server:
        provider = provider_of(server, tmp_path, ssh_ports={VM_ID.upper(): 2201}, ssh_key_file="/k", python="/opt/py")
        target = provider.ssh_target(ID)
        provider.close()
    assert (target.host, target.port, target.user) == ("203.0.113.2", 2201, "ada")
    assert (target.name, target.compute, target.pinned_key_id) == ("gpu-vm", ID, VM_ID.lower())
    assert (target.key_files, target.python) == (("/k",), "/opt/py")


def test_target_by_settings(tmp_path: Path) -> None:
    with arm_server(running()) as server:
        provider = provider_of(server, tmp_path, private_addresses=True, ssh_user="grace")
        target = provider.ssh_target(ID)
        provider.close()
    assert (target.host, target.port, target.user, target.key_files) == ("10.0.0.5", 22, "grace", ())


def test_target_without_public_address_is_the_private_one(tmp_path: Path) -> None:
    nic = {"properties": {"ipConfigurations": [{"properties": {"privateIPAddress": "10.0.0.5"}}]}}
    with arm_server(running(gpu_vm_nic=Reply(body=nic))) as server:
        provider = provider_of(server, tmp_path)
        assert provider.ssh_target(ID).host == "10.0.0.5"
        provider.close()


def test_an_account_that_may_not_read_the_network_uses_the_graphs_address(tmp_path: Path) -> None:
    denied = fault(403, "AuthorizationFailed", "perform action 'Microsoft.Network/networkInterfaces/read' over scope")
    with arm_server(running(gpu_vm_nic=denied)) as server:
        provider = provider_of(server, tmp_path)
        assert provider.ssh_target(ID).host == "203.0.113.1"
        provider.close()
    row = graph(graph_row(publicIp="", privateIp=""))
    with arm_server(running(gpu_vm_nic=denied, resources=row)) as server:
        provider = provider_of(server, tmp_path)
        with pytest.raises(Forbidden, match=r"Microsoft\.Network/networkInterfaces/read"):
            provider.ssh_target(ID)
        provider.close()


def test_no_target_without_a_running_linux_vm_with_an_address(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], type[ComputeError], str]] = [
        ({"gpu_vm": Reply(body=vm_model(state="deallocated"))}, ComputeNotRunning, "gpu-vm is deallocated"),
        ({"gpu_vm_nic": Reply(body={"properties": {}})}, ComputeNotRunning, "no address"),
        (
            {
                "gpu_vm": Reply(
                    body=vm_model(
                        state="running",
                        storageProfile={
                            "imageReference": {"publisher": "microsoft-dsvm", "offer": "dsvm-win-2022"},
                            "osDisk": {"osType": "Windows"},
                        },
                    )
                )
            },
            ComputeError,
            "Windows VM; notebooks cannot run there yet",
        ),
    ]
    for routes, kind, says in cases:
        with arm_server(running(**routes)) as server:
            provider = provider_of(server, tmp_path)
            with pytest.raises(kind, match=says) as caught:
                provider.ssh_target(ID)
            assert caught.value.advice
            provider.close()


def test_workers_share_it(tmp_path: Path) -> None:
    with arm_server(running()) as server:
        provider = provider_of(server, tmp_path)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                provider.list()
                assert provider.get(ID).power_state is PowerState.RUNNING
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        provider.close()
        provider.close()
    assert failed == []


@pytest.mark.parametrize(
    ("code", "said", "since"),
    [
        ("ProvisioningState/succeeded", "2018-07-20T16:00:24.4511706+00:00", 1532102424.0),
        ("ProvisioningState/failed/AllocationFailed", "2018-07-20T16:00:24Z", 1532102424.0),
        ("ProvisioningState/succeeded", "2018-07-20T16:00:24", 1532102424.0),
        ("ProvisioningState/succeeded", "0001-01-01T00:00:00+00:00", -62135596800.0),  # which who uses it knows
        ("ProvisioningState/updating", "2018-07-20T16:00:24.4511706+00:00", None),
        ("ProvisioningState/succeeded", "yesterday", None),
        ("ProvisioningState/succeeded", None, None),
        ("OSState/generalized", "2018-07-20T16:00:24Z", None),
    ],
)
def test_since_when_a_vm_is_as_it_is(code: str, said: str | None, since: float | None):
    status = {"code": code, **({"time": said} if said is not None else {})}
    assert unchanged_since({"statuses": [{"code": "PowerState/running"}, status]}) == since
    assert unchanged_since(None) is None
