"""The emulated Azure Resource Manager, asked by Azure's own SDK and by plain HTTP."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.compute import ComputeManagementClient

from jupyter_dsvm.compute.azure.graph import query
from jupyter_dsvm.emulator import STANDARD, TWINS, ControlError, Emulator
from jupyter_dsvm.emulator.arm import ACTIONS, ANSWERS
from jupyter_dsvm.emulator.control import CONTROL
from jupyter_dsvm.emulator.machines import RESEARCH, SUBSCRIPTIONS, TEACHING
from jupyter_dsvm.emulator.routes import ROUTES
from jupyter_dsvm.models import PowerState

API = "api-version=2024-07-01"
GRAPH = "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    # No Python on the VMs: nobody logs in to them here.
    machines = [dataclasses.replace(m, requirements=(), kernelspecs=()) for m in (*STANDARD, *TWINS)]
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.clear_faults()
    emulator.set_timings(start=0.3, deallocate=0.2, powerOff=0.2, graph_lag=0, page_size=100)
    wanted = {m.name: m.power for m in STANDARD}
    for row in emulator.vms:
        if row["name"] in wanted and row["power_state"] != wanted[row["name"]]:
            if wanted[row["name"]] == "stopped":
                emulator.power(row["vm_id"], "start")
            emulator.power(
                row["vm_id"],
                {"running": "start", "stopped": "powerOff", "deallocated": "deallocate"}[wanted[row["name"]]],
            )


class _Secret:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self.secret, int(time.time()) + 3600)


class _PlainHttp(SansIOHTTPPolicy[Any, Any]):
    def on_request(self, request: Any) -> None:
        request.context.options["enforce_https"] = False


def sdk(emulator: Emulator, subscription: str = RESEARCH.id) -> ComputeManagementClient:
    return ComputeManagementClient(
        _Secret(emulator.token),
        subscription,
        base_url=emulator.arm,
        credential_scopes=["https://management.azure.com/.default"],
        per_call_policies=[_PlainHttp()],
        polling_interval=0.05,
        retry_total=0,
    )


def raw(emulator: Emulator, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection(emulator.arm.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(text) if text else None
    finally:
        connection.close()


def every_route() -> list[tuple[str, str]]:
    """Method and an example path of each route."""
    paths = []
    for method, pattern, _ in (*ROUTES, *CONTROL):
        path = re.sub(r"\(\?P<(\w+)>\[\^/\]\+\)|\[\^/\]\+", "x", pattern.pattern.removesuffix("/?")).replace("\\.", ".")
        path = re.sub(r"\(\?P<\w+>([\w-]+)\|[^)]*\)", r"\1", path)
        paths.append((method, path))
    return paths


# -- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), every_route())
def test_every_route_refuses_strangers(emulator: Emulator, method: str, path: str) -> None:
    secret, host = f"Bearer {emulator.token}", emulator.arm.removeprefix("http://")
    url = f"{path}?{API}"
    for authorization in (None, "Bearer wrong", f"Basic {emulator.token}", "Bearer"):
        status, headers, body = raw(emulator, method, url, {"Authorization": authorization} if authorization else {})
        assert status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]
        assert body["error"]["code"] in ("AuthenticationFailed", "InvalidAuthenticationToken")
    for foreign in ("example.com", f"example.com:{host.rpartition(':')[2]}", "127.0.0.1", host + "0", ""):
        status, _, body = raw(emulator, method, url, {"Authorization": secret, "Host": foreign})
        assert (status, body["error"]["code"]) == (403, "HostNotAllowed")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_accepted(emulator: Emulator, name: str) -> None:
    port = emulator.arm.rpartition(":")[2]
    headers = {"Authorization": f"Bearer {emulator.token}", "Host": f"{name}:{port}"}
    status, _, body = raw(emulator, "GET", f"/subscriptions?{API}", headers)
    assert status == 200
    assert {s["subscriptionId"] for s in body["value"]} == {s.id for s in SUBSCRIPTIONS}


def test_secret_lies_in_private_files_only(emulator: Emulator) -> None:
    assert emulator.config_dir.stat().st_mode & 0o777 == 0o700
    for file in emulator.config_dir.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    argv = Path(f"/proc/{emulator.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{emulator.pid}/environ").read_bytes()
    assert emulator.token.encode() not in argv + environment
    emulator.request("GET", f"/subscriptions?{API}")
    assert emulator.token not in emulator.traffic_file.read_text()


def test_api_version_is_required(emulator: Emulator) -> None:
    status, _, body = emulator.request("GET", "/subscriptions")
    assert (status, body["error"]["code"]) == (400, "MissingApiVersionParameter")
    status, _, body = emulator.request("GET", "/subscriptions?api-version=now")
    assert (status, body["error"]["code"]) == (400, "InvalidApiVersionParameter")


# -- what the SDK sees ------------------------------------------------------------------------------------------------


def test_lists_over_both_subscriptions(emulator: Emulator) -> None:
    names = set()
    for subscription in SUBSCRIPTIONS:
        with sdk(emulator, subscription.id) as client:
            for vm in client.virtual_machines.list_all():
                names.add(vm.name)
                assert uuid.UUID(vm.vm_id)
                assert vm.id.startswith(f"/subscriptions/{subscription.id}/resourceGroups/")
    assert names == {"cpu-vm", "gpu-vm", "web-server", "old-vm", "win-vm", "twin"}


def test_list_pages_and_status_only(emulator: Emulator) -> None:
    emulator.set_timings(page_size=1)
    with sdk(emulator) as client:
        pages = list(client.virtual_machines.list_all(status_only="true").by_page())
        rows = [vm for page in pages for vm in page]
    states = {vm.name: vm.instance_view.statuses[-1].code for vm in rows}
    assert len(states) == 4
    assert states["cpu-vm"] == "PowerState/running"
    assert states["gpu-vm"] == "PowerState/deallocated"


def test_get_with_instance_view_in_any_case(emulator: Emulator) -> None:
    with sdk(emulator, TEACHING.id.upper()) as client:
        vm = client.virtual_machines.get("ClassRoom", "OLD-VM", expand="instanceView")
        view = client.virtual_machines.instance_view("classroom", "old-vm")
    assert vm.storage_profile.image_reference.offer == "ubuntu-2004"
    assert [s.code for s in vm.instance_view.statuses] == ["ProvisioningState/succeeded", "PowerState/stopped"]
    assert view.hyper_v_generation == "V1"


def test_life_of_a_vm(emulator: Emulator) -> None:
    """Start, restart, power off, start, deallocate, to the end of each operation; what the address does meanwhile."""

    def state(client: ComputeManagementClient) -> PowerState:
        return PowerState.from_azure(client.virtual_machines.instance_view("notebooks", "gpu-vm").statuses[-1].code)

    def address() -> str | None:
        row = emulator.vm("gpu-vm")
        url = f"{row['id'].partition('/providers/')[0]}/providers/Microsoft.Network"
        _, _, nic = emulator.request("GET", f"{url}/networkInterfaces/gpu-vm-nic?{API}")
        public = nic["properties"]["ipConfigurations"][0]["properties"]["publicIPAddress"]["id"]
        found: str | None = emulator.request("GET", f"{public}?{API}")[2]["properties"].get("ipAddress")
        return found

    with sdk(emulator) as client:
        vms = client.virtual_machines
        assert address() is None
        starting = vms.begin_start("notebooks", "gpu-vm")
        assert state(client) is PowerState.STARTING
        starting.result()
        first = address()
        assert state(client) is PowerState.RUNNING
        assert first
        vms.begin_restart("notebooks", "gpu-vm").result()
        assert (state(client), address()) == (PowerState.RUNNING, first)
        vms.begin_power_off("notebooks", "gpu-vm").result()
        assert (state(client), address()) == (PowerState.STOPPED, first)
        vms.begin_start("notebooks", "gpu-vm").result()
        assert address() == first
        vms.begin_deallocate("notebooks", "gpu-vm").result()
        assert (state(client), address()) == (PowerState.DEALLOCATED, None)
        vms.begin_start("notebooks", "gpu-vm").result()
        assert address() not in (None, first)


def test_resize(emulator: Emulator) -> None:
    def change(client: ComputeManagementClient, group: str, name: str, size: str) -> Any:
        patch = {"properties": {"hardwareProfile": {"vmSize": size}}}
        return client.virtual_machines.begin_update(group, name, patch).result()

    with sdk(emulator) as client:
        before = emulator.vm("cpu-vm")
        assert change(client, "notebooks", "cpu-vm", "standard_d8ds_v5").hardware_profile.vm_size == "Standard_D8ds_v5"
        after = emulator.vm("cpu-vm")
        assert after["power_state"] == "running"
        assert after["host"] == before["host"]
        assert after["pid"] != before["pid"]  # it was restarted
        for size, status, code, words in (
            ("Standard_Nonsense", 400, "InvalidParameter", "Standard_NC4as_T4_v3"),
            ("Standard_D4s_v5", 409, "OperationNotAllowed", "resource disk"),
        ):
            with pytest.raises(HttpResponseError, match=words) as refused:
                change(client, "notebooks", "cpu-vm", size)
            assert (refused.value.status_code, refused.value.error.code) == (status, code)
    with sdk(emulator, TEACHING.id) as client, pytest.raises(HttpResponseError, match="Hypervisor Generation '1'"):
        change(client, "classroom", "old-vm", "Standard_NC24ads_A100_v4")


def test_what_is_not_there(emulator: Emulator) -> None:
    with sdk(emulator) as client:
        with pytest.raises(ResourceNotFoundError) as missing:
            client.virtual_machines.get("notebooks", "nobody")
        assert missing.value.error.code == "ResourceNotFound"
        assert missing.value.response.headers["x-ms-failure-cause"] == "gateway"
        with pytest.raises(ResourceNotFoundError) as missing:
            client.virtual_machines.get("nowhere", "cpu-vm")
        assert missing.value.error.code == "ResourceGroupNotFound"
    with sdk(emulator, str(uuid.uuid4())) as client, pytest.raises(HttpResponseError, match="could not be found"):
        list(client.virtual_machines.list_all())


# -- long-running operations on the wire --------------------------------------------------------------------------------


def test_headers_of_a_long_running_operation(emulator: Emulator) -> None:
    emulator.set_timings(retry_after=None)
    path = emulator.vm("gpu-vm")["id"]
    status, headers, body = emulator.request("POST", f"{path}/start?{API}")
    emulator.set_timings(retry_after=0)
    assert (status, body) == (202, None)
    assert headers["retry-after"] == "1"
    assert headers["azure-asyncoperation"].startswith(f"{emulator.arm}/subscriptions/{RESEARCH.id}/providers/")
    assert "monitor=true" in headers["location"]
    assert uuid.UUID(headers["x-ms-request-id"])
    assert headers["x-ms-correlation-request-id"]
    assert re.fullmatch(
        r"Microsoft.Compute/UpdateVM3Min;\d+,Microsoft.Compute/UpdateVM30Min;\d+",
        headers["x-ms-ratelimit-remaining-resource"],
    )
    _, _, running = emulator.request("GET", headers["azure-asyncoperation"])
    assert running["status"] == "InProgress"
    assert "endTime" not in running
    assert emulator.request("GET", headers["location"])[0] == 202
    done = wait(emulator, headers["azure-asyncoperation"])
    assert (done["status"], set(done)) == ("Succeeded", {"startTime", "endTime", "status", "name"})
    assert emulator.request("GET", headers["location"])[0] == 200


def wait(emulator: Emulator, url: str) -> dict[str, Any]:
    while True:
        operation: dict[str, Any] = emulator.request("GET", url)[2]
        if operation["status"] != "InProgress":
            return operation
        time.sleep(0.03)


def test_the_table_knows_every_state() -> None:
    states = {"running", "busy", "starting", "stopping", "stopped", "deallocating", "deallocated"}
    assert set(ANSWERS) == set(ACTIONS)
    assert all(set(row) == states for row in ANSWERS.values())


def test_operations_that_meet(emulator: Emulator) -> None:
    path = emulator.vm("gpu-vm")["id"]
    emulator.set_timings(start=5, deallocate=0.5)
    _, first, _ = emulator.request("POST", f"{path}/start?{API}")
    status, joined, _ = emulator.request("POST", f"{path}/start?{API}")
    assert status == 202
    status, second, _ = emulator.request("POST", f"{path}/deallocate?{API}")
    assert status == 202
    status, _, body = emulator.request("POST", f"{path}/start?{API}")
    assert (status, body["error"]["code"]) == (409, "Conflict")
    assert wait(emulator, second["azure-asyncoperation"])["status"] == "Succeeded"
    for preempted in (first, joined):
        assert wait(emulator, preempted["azure-asyncoperation"])["error"]["code"] == "OperationPreempted"
    status, _, body = emulator.request("POST", f"{path}/restart?{API}")
    assert (status, body["error"]["code"]) == (409, "OperationNotAllowed")


# -- faults -------------------------------------------------------------------------------------------------------------


def test_a_start_is_refused_at_once(emulator: Emulator) -> None:
    emulator.fault("gpu-vm", "start", code="SkuNotAvailable", times=1)
    with sdk(emulator) as client:
        with pytest.raises(HttpResponseError) as refused:
            client.virtual_machines.begin_start("notebooks", "gpu-vm")
        assert (refused.value.status_code, refused.value.error.code) == (409, "SkuNotAvailable")
        assert "Standard_NC4as_T4_v3" in refused.value.error.message
        assert emulator.vm("gpu-vm")["power_state"] == "deallocated"
        client.virtual_machines.begin_start("notebooks", "gpu-vm").result()  # the fault is used up


def test_a_start_fails_later(emulator: Emulator) -> None:
    emulator.fault("gpu-vm", "start", code="AllocationFailed", at="operation")
    with sdk(emulator) as client, pytest.raises(HttpResponseError, match="sufficient capacity") as failed:
        client.virtual_machines.begin_start("notebooks", "gpu-vm").result()
    assert failed.value.error.code == "AllocationFailed"
    assert emulator.vm("gpu-vm")["power_state"] == "deallocated"


def test_throttling(emulator: Emulator) -> None:
    emulator.fault("*", "list", code="TooManyRequests", retry_after=1200)
    status, headers, body = emulator.request(
        "GET", f"/subscriptions/{RESEARCH.id}/providers/Microsoft.Compute/virtualMachines?{API}"
    )
    assert (status, headers["retry-after"]) == (429, "1200")
    assert body["error"]["details"][0]["code"] == "TooManyRequests"


def test_faults_that_make_no_sense(emulator: Emulator) -> None:
    for fault in ({"operation": "fly"}, {"operation": "get", "at": "operation"}, {"operation": "start", "when": 1}):
        with pytest.raises(ControlError, match="400"):
            emulator.control("PUT", "faults", {"vm": "gpu-vm", **fault})
    with pytest.raises(ControlError, match="There is no VM"):
        emulator.fault("nobody", "start")
    with pytest.raises(ControlError, match="There is no timing"):
        emulator.set_timings(sleep=1)


# -- Resource Graph -----------------------------------------------------------------------------------------------------


def ask_graph(emulator: Emulator, text: str, **options: Any) -> dict[str, Any]:
    status, headers, body = emulator.request("POST", GRAPH, {"query": text, "options": options})
    assert status == 200
    assert headers["x-ms-user-quota-resets-after"] == "00:00:05"
    answer: dict[str, Any] = body
    return answer


def test_graph_answers_the_query_of_this_package(emulator: Emulator) -> None:
    rows = {r["name"]: r for r in ask_graph(emulator, query("jupyter-dsvm"))["data"]}
    assert set(rows) == {"cpu-vm", "gpu-vm", "old-vm", "win-vm", "twin"}  # the web server is no DSVM
    cpu = rows["cpu-vm"]
    assert set(cpu) == {
        "hibernation",
        "id", "name", "subscriptionId", "resourceGroup", "location", "tags", "plan", "image", "vmId", "osType", "size",
        "powerState", "provisioningState", "privateIp", "publicIp", "fqdn", "gallery", "purchasePlan",
    }  # fmt: skip
    assert (cpu["vmId"], cpu["publicIp"]) == (emulator.vm("cpu-vm")["vm_id"], emulator.vm("cpu-vm")["host"])
    assert cpu["powerState"] == "PowerState/running"
    assert cpu["image"]["offer"] == "ubuntu-2204"
    assert rows["old-vm"]["resourceGroup"] == "classroom"
    assert rows["win-vm"]["osType"] == "Windows"


def test_graph_finds_a_tag(emulator: Emulator) -> None:
    text = query("costCenter").replace("'microsoft-", "'nobody-")
    assert [r["name"] for r in ask_graph(emulator, text)["data"]] == ["gpu-vm"]


def test_graph_pages(emulator: Emulator) -> None:
    names, options = [], {"$top": 2}
    while True:
        page = ask_graph(emulator, query("jupyter-dsvm"), **options)
        names += [r["name"] for r in page["data"]]
        assert page["totalRecords"] == 6
        if "$skipToken" not in page:
            break
        options["$skipToken"] = page["$skipToken"]
    assert sorted(names) == ["cpu-vm", "gpu-vm", "old-vm", "twin", "twin", "win-vm"]
    status, _, body = emulator.request("POST", GRAPH, {"query": query("x"), "options": {"$skipToken": "nonsense"}})
    assert (status, body["error"]["code"]) == (400, "BadRequest")


def test_graph_lags_behind(emulator: Emulator) -> None:
    def seen() -> str:
        rows = ask_graph(emulator, query("jupyter-dsvm"))["data"]
        return next(str(r["powerState"]) for r in rows if r["name"] == "gpu-vm")

    emulator.set_timings(graph_lag=3600)
    emulator.power("gpu-vm", "start")
    assert seen() == "PowerState/deallocated"
    emulator.set_timings(graph_lag=0)
    assert seen() == "PowerState/running"


def test_the_sizes_that_a_vm_can_have(emulator: Emulator) -> None:
    """As far as ``vmSizes`` goes; whoever chooses one has to look at the list of sizes as well. While it runs: those of its
    hardware."""

    def sizes(name: str) -> dict[str, Any]:
        status, _, body = emulator.request("GET", f"{emulator.vm(name)['id']}/vmSizes?{API}")
        assert status == 200
        return {row["name"]: row for row in body["value"]}

    assert sizes("cpu-vm")["Standard_D4ds_v5"]["numberOfCores"] == 4
    assert "Standard_NC4as_T4_v3" not in sizes("cpu-vm")
    assert sizes("gpu-vm")["Standard_NC4as_T4_v3"]["memoryInMB"] == 28 * 1024
    assert "Standard_D4ds_v5" in sizes("gpu-vm")
