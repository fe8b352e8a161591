"""Listing at size and with bad input: how many requests it takes, what one part's refusal hides, and where no token goes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.images import gallery_image
from jupyter_dsvm.compute.azure.machine import from_graph
from jupyter_dsvm.compute.azure.signin import SignIn
from jupyter_dsvm.compute.naming import resolve
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.errors import AmbiguousCompute, ComputeError, OperationRefused, Throttled, UnknownCompute
from jupyter_dsvm.models import OS, Compute, PowerState
from support.arm_server import VM_ID, ArmServer, Reply, Request, arm_server, fault, graph_row, token_file, vm_model

ID = f"azure:{VM_ID.lower()}"
UBUNTU = "microsoft-dsvm:ubuntu-2204:2204-gen2"
GUEST = "11111111-1111-4111-8111-111111111111"
"""A tenant that the account is a guest in."""


def subscription_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"subscription {number}"))


def vms(number: int, count: int, **more: Any) -> dict[str, Any]:
    return {
        "name": "vm-{n}",
        "count": count,
        "resource_group": "lab",
        "subscription": f"Team {number}",
        "size": "Standard_D4ds_v5",
        "image": UBUNTU,
        "ssh": False,
        **more,
    }


def teams(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": subscription_id(n), "name": f"Team {n}", **more} for n in range(count)]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """500 VMs in 20 subscriptions, with 100 ms for each answer."""
    machines = [vms(n, 25) for n in range(20)]
    machines[0]["power"] = "running"
    machines[1] |= {"os": "Windows", "image": "microsoft-dsvm:dsvm-win-2022:winserver-2022"}
    machines[2] |= {"image": "contoso:linux:1", "gallery_image": ["microsoft-dsvm", "ubuntu-2204", "2204-gen2"]}
    machines[3] |= {
        "image": "contoso:linux:1",
        "plan": "microsoft-ads:linux-data-science-vm-ubuntu:linuxdsvmubuntubyol",
    }
    machines[4]["graph_power"] = False
    strangers = [
        vms(0, 5, name="hpc-{n}", image="microsoft-dsvm:ubuntu-hpc:2204"),
        vms(0, 5, name="aml-{n}", image="microsoft-dsvm:aml-workstation:ubuntu22"),
        vms(0, 5, name="web-{n}", image="canonical:ubuntu-24_04-lts:server"),
        vms(0, 1, name="hidden-{n}", tags={"DSVM": "false"}),
    ]
    scenario = {"subscriptions": teams(20), "machines": machines + strangers, "latency": [{"seconds": 0.1}]}
    with Emulator(tmp_path_factory.mktemp("azure"), scenario=scenario, isolate=False, timeout=120) as running:
        yield running


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[AzureCompute]:
    emulator.set_scenario(latency=[{"seconds": 0.1}], throttles=[], faults=[], prices=[])
    provider = configured(emulator)
    yield provider
    provider.close()


def configured(emulator: Emulator, **traits: Any) -> AzureCompute:
    config = Config()
    for file in emulator.config_dir.glob("*.json"):
        config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
    return AzureCompute(config=config, polling_interval=0.05, **traits)


class Asked:
    """What the emulator was asked in the body of a ``with``."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def __enter__(self) -> Asked:
        self._before = len(self._emulator.traffic)
        return self

    def __exit__(self, *args: object) -> None:
        exchanges = self._emulator.traffic[self._before :]
        self.urls = [e["request"]["url"] for e in exchanges]
        self.arm = [u for u in self.urls if "retail/prices" not in u]


# -- at size ----------------------------------------------------------------------------------------------------------


def test_500_vms_in_20_subscriptions_take_one_request(azure: AzureCompute, emulator: Emulator) -> None:
    with Asked(emulator) as asked:
        listing = azure.list()
    assert len(asked.arm) == 1
    assert len(listing.computes) == 500
    assert len({c.subscription for c in listing.computes}) == 20
    assert listing.problems == ()
    of = {n: [c for c in listing.computes if c.subscription == subscription_id(n)] for n in range(20)}
    assert {c.power_state for c in of[0]} == {PowerState.RUNNING}
    assert {c.os for c in of[1]} == {OS.WINDOWS}
    assert {c.os for c in of[0]} == {OS.LINUX}
    assert {c.image for c in of[2]} == {UBUNTU}, "known by the gallery image"
    assert {c.image for c in of[3]} == {"microsoft-ads:linux-data-science-vm-ubuntu:linuxdsvmubuntubyol"}, (
        "known by the plan"
    )
    assert {c.power_state for c in of[4]} == {PowerState.UNKNOWN}
    assert {c.power_state for c in of[5]} == {PowerState.DEALLOCATED}
    # Prices come from the price list: Windows costs more.
    prices = [{c.price.amount if c.price else None for c in of[n]} for n in (0, 1)]
    assert prices[0] == {0.272}
    (windows,) = prices[1]
    assert windows is not None
    assert windows > 0.272


def test_the_prices_of_a_listing_are_asked_for_once_a_day(azure: AzureCompute, emulator: Emulator) -> None:
    with Asked(emulator) as asked:
        azure.list()
        azure.list()
    assert len([u for u in asked.urls if "retail/prices" in u]) == 1
    assert all("Authorization" not in u for u in asked.urls)


def test_without_the_graph_the_list_is_the_same_and_says_what_is_missing(
    emulator: Emulator, azure: AzureCompute
) -> None:
    whole = {c.id for c in azure.list().computes}
    refused = {"operation": "graph", "code": "AccessDenied", "status": 403, "message": "No.", "times": -1}
    emulator.set_scenario(latency=[], faults=[refused])
    other = configured(emulator)
    assert {c.id for c in other.list().computes} == whole
    emulator.set_scenario(faults=[refused, {"operation": "list", "code": "AuthorizationFailed"}])
    listing = other.list()
    (problem,) = listing.problems
    assert "Could not list the VMs of the subscription Team " in problem.message
    missing = whole - {c.id for c in listing.computes}
    assert len(missing) == 25
    # One that did not answer is not one that refuses: what was known of it stays.
    emulator.set_scenario(faults=[refused, {"operation": "list", "code": "TooManyRequests", "retry_after": 600}])
    azure.list()
    listing = azure.list()
    other.close()
    assert len(listing.computes) == 500


def test_a_throttled_page_is_asked_for_again_when_the_graph_says(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(latency=[], throttles=[{"operation": "graph", "requests": 1, "seconds": 1.5}])
    with Asked(emulator) as asked:
        began = time.monotonic()
        assert len(azure.list().computes) == 500
        assert len(azure.list().computes) == 500
    assert time.monotonic() - began > 0.9
    assert len(asked.arm) == 3, "one of them was answered with 429"
    emulator.set_scenario(throttles=[{"operation": "graph", "requests": 1, "seconds": 600}])
    azure.list()
    with pytest.raises(Throttled) as caught:
        azure.list()
    assert 500 < (caught.value.retry_after or 0) <= 600


def test_3000_vms_take_three_requests_and_unicode_names_are_found(tmp_path: Path) -> None:
    """Tags and groups may have letters of every script; a VM's name that has them comes from an older portal."""
    machines = [
        vms(0, 2990),
        vms(0, 5, name="größe-{n}", resource_group="Forschung-Küche"),
        vms(0, 5, name="データ-{n}", resource_group="研究"),
    ]
    scenario = {"subscriptions": teams(1), "machines": machines, "timings": {"start": 0.05, "retry_after": 0}}
    with Emulator(tmp_path / "e", scenario=scenario, isolate=False, timeout=120) as emulator:
        azure = configured(emulator)
        with Asked(emulator) as asked:
            computes = azure.list().computes
        assert len(asked.arm) == 3
        assert len({c.id for c in computes}) == 3000
        for name in ("größe-3", "研究/データ-2", "VM-2990"):
            compute = resolve(name, computes)
            assert azure.get(compute.id).power_state is PowerState.DEALLOCATED
        started = azure.start(resolve("データ-4", computes).id, silent, Cancel())
        assert started.power_state is PowerState.RUNNING
        azure.close()


def silent(text: str, done: float | None) -> None:
    pass


# -- what changes meanwhile ---------------------------------------------------------------------------------------------


def test_a_vm_deleted_or_replaced_meanwhile(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(latency=[])
    emulator.set_timings(graph_lag=3600)
    first, second = (next(c for c in azure.list().computes if c.subscription == subscription_id(n)) for n in (7, 8))
    emulator.remove(vm_id(first))
    emulator.replace(vm_id(second))
    assert {first.id, second.id} <= {c.id for c in azure.list().computes}, "the graph does not know yet"
    with Asked(emulator) as asked:
        for compute, code in ((first, "ResourceNotFound"), (second, "Replaced")):
            for act in (azure.get, lambda i: azure.start(i, silent, Cancel()), azure.ssh_target):
                with pytest.raises(UnknownCompute) as caught:
                    act(compute.id)
                assert caught.value.code == code
                assert caught.value.advice
    assert not [u for u in asked.urls if "/start" in u], "a stranger's VM is not started"
    emulator.set_timings(graph_lag=0)
    ids = {c.id for c in azure.list().computes}
    assert not {first.id, second.id} & ids
    assert (
        len([c for c in azure.list().computes if c.name == second.name and c.subscription == second.subscription]) == 1
    )


def vm_id(compute: Compute) -> str:
    return compute.id.removeprefix("azure:")


def test_a_strangers_vm_with_the_same_name(azure: AzureCompute) -> None:
    computes = azure.list().computes
    with pytest.raises(AmbiguousCompute) as caught:
        resolve("vm-12", computes)
    assert subscription_id(9) in caught.value.advice
    assert resolve(f"{subscription_id(9)}/lab/vm-12", computes).subscription == subscription_id(9)


# -- answers that make no sense -------------------------------------------------------------------------------------------


def provider_of(server: ArmServer, tmp_path: Path, **traits: Any) -> AzureCompute:
    return AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02, **traits)


def listed(tmp_path: Path, answer: Callable[[Request], Reply], **traits: Any) -> tuple[Any, list[Request]]:
    with arm_server(answer) as server:
        provider = provider_of(server, tmp_path, **traits)
        try:
            return provider.list(), server.requests
        finally:
            provider.close()


def test_rows_that_are_none(tmp_path: Path) -> None:
    rows = [
        graph_row(),
        graph_row(powerState=None, vmId="a1", name="x"),
        graph_row(powerState=7, vmId="a2"),
        "text",
        None,
        [],
        {},
        graph_row(vmId="../../etc/passwd"),
        graph_row(vmId={"$ref": 1}),
        graph_row(vmId="a3", image="microsoft-dsvm", plan=[1], tags="dsvm"),
        graph_row(vmId="a4", image={"publisher": 1, "offer": None}, tags={"dsvm": {"a": 1}}, osType=["Linux"]),
        graph_row(id="/not/a/vm", vmId="a5"),
        graph_row(),
    ]
    listing, _ = listed(tmp_path, lambda request: Reply(body={"data": rows}))
    assert [c.id for c in listing.computes] == [ID, "azure:a1", "azure:a2", "azure:a4"]
    assert [c.power_state for c in listing.computes[1:3]] == [PowerState.UNKNOWN, PowerState.UNKNOWN]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(graph_row())), json_values), st.booleans())
def test_no_row_breaks_the_reading(changes: dict[str, Any], tagged: bool) -> None:
    row = {**graph_row(tags={"dsvm": "1"} if tagged else None), **changes}
    machine = from_graph(row, "dsvm")
    assert machine is None or machine.compute.id.isascii()


@given(st.text(), st.text(min_size=1).filter(lambda t: "/" not in t and t.isprintable()))
def test_gallery_images(anything: str, name: str) -> None:
    assert gallery_image(anything) is None or anything.lower().startswith("/subscriptions/")
    image = f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/x/images/{name}"
    assert gallery_image({"id": f"{image}/versions/1.2.3"}) == image
    assert gallery_image({"id": image}) == image
    assert gallery_image({"id": image.replace("/galleries/x", "")}) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [graph_row()], "$skipToken": "again"},
        {"data": [graph_row()], "resultTruncated": "true"},
    ],
)
def test_a_list_that_never_ends_or_is_cut_shows_what_there_is_and_says_so(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    listing, requests = listed(tmp_path, lambda request: Reply(body=answer))
    assert [c.id for c in listing.computes] == [ID]
    (problem,) = listing.problems
    assert "Only the first" in problem.message
    assert len(requests) <= 2


def test_a_page_that_fails_leaves_the_others_and_what_was_known(tmp_path: Path) -> None:
    broken = False

    def answer(request: Request) -> Reply:
        if request.body["options"].get("$skipToken") and broken:
            return fault(500, "InternalServerError", "Oops.")
        second = bool(request.body["options"].get("$skipToken"))
        more = {} if second else {"$skipToken": "2"}
        return Reply(body={"data": [graph_row("b", "b2") if second else graph_row()], **more})

    with arm_server(answer) as server:
        provider = provider_of(server, tmp_path)
        assert len(provider.list().computes) == 2
        broken = True
        listing = provider.list()
        provider.close()
    assert [c.name for c in listing.computes] == ["gpu-vm", "b"]
    assert listing.problems[0].code == "InternalServerError"


def test_the_next_page_waits_while_the_quota_is_used_up(tmp_path: Path) -> None:
    times = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        more = {"$skipToken": "2"} if len(times) == 1 else {}
        headers = {"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:01"}
        return Reply(body={"data": [], **more}, headers=headers)

    listed(tmp_path, answer)
    assert len(times) == 2
    assert times[1] - times[0] > 0.9


# -- several tenants ------------------------------------------------------------------------------------------------------


def test_several_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def token(self: SignIn, scopes: Any, tenant: str | None, claims: Any) -> tuple[str, float]:
        return f"token-of-{tenant or 'home'}", time.time() + 3600

    monkeypatch.setattr(SignIn, "token", token)
    refused = False

    def answer(request: Request) -> Reply:
        home = request.headers["authorization"] == "Bearer token-of-home"
        if request.path.endswith("/theirs"):
            assert not home
            return Reply(body=vm_model("theirs", "b2", state="running"))
        if not home and refused:
            return fault(401, "InvalidAuthenticationToken", "Sign in there first.")
        return Reply(body={"data": [graph_row()] if home else [graph_row("theirs", "b2"), graph_row()]})

    with arm_server(answer) as server:
        provider = provider_of(server, tmp_path, tenants=[GUEST])
        assert [c.name for c in provider.list().computes] == ["gpu-vm", "theirs"]
        assert provider.get("azure:b2").power_state is PowerState.RUNNING
        refused = True
        listing = provider.list()
        provider.close()
    assert [c.name for c in listing.computes] == ["gpu-vm", "theirs"], "what was known of it stays"
    (problem,) = listing.problems
    assert problem.message.startswith(f"In the tenant {GUEST}: ")


# -- where no token goes --------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[ArmServer]:
    """Another listener, which must never see a bearer, nor be asked at all."""
    with arm_server(lambda request: Reply(body={"status": "Succeeded", "value": []})) as server:
        yield server
    assert server.requests == []


def test_a_next_link_to_another_host_in_a_subscriptions_list(tmp_path: Path, elsewhere: ArmServer) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/resources"):
            return fault(403, "AccessDenied", "No.")
        if request.path == "/subscriptions":
            return Reply(body={"value": [{"subscriptionId": "s1", "displayName": "One"}]})
        return Reply(body={"value": [vm_model()], "nextLink": f"{elsewhere.url}/more"})

    listing, _ = listed(tmp_path, answer)
    assert listing.computes == ()
    (problem,) = listing.problems
    assert problem.code == "ForeignAddress"


@pytest.mark.parametrize("header", ["Azure-AsyncOperation", "Location"])
@pytest.mark.parametrize("kind", ["start", "stop", "restart"])
def test_an_operations_address_at_another_host(tmp_path: Path, elsewhere: ArmServer, header: str, kind: str) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/resources"):
            return Reply(body={"data": [graph_row()]})
        if request.method == "GET":
            return Reply(body=vm_model(state="deallocated" if kind == "start" else "running"))
        return Reply(202, headers={header: f"{elsewhere.url}/operations/1", "Retry-After": "0"})

    with arm_server(answer) as server:
        provider = provider_of(server, tmp_path)
        with pytest.raises(ComputeError, match=r"pointed there.*Azure had accepted it") as caught:
            getattr(provider, kind)(ID, silent, Cancel())
        provider.close()
    assert caught.value.code == "ForeignAddress"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_what_changes_something(tmp_path: Path, elsewhere: ArmServer, status: int) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/resources"):
            return Reply(body={"data": [graph_row()]})
        if request.method == "GET":
            return Reply(body=vm_model())
        return Reply(status, headers={"Location": f"{elsewhere.url}/start"})

    with arm_server(answer) as server:
        provider = provider_of(server, tmp_path)
        with pytest.raises(ComputeError, match="redirect"):
            provider.start(ID, silent, Cancel())
        provider.close()


# -- capacity, quotas and restrictions in the emulator ------------------------------------------------------------------


def test_refusals_come_from_what_the_emulated_azure_has(azure: AzureCompute, emulator: Emulator) -> None:
    emulator.set_scenario(latency=[])
    computes = [c for c in azure.list().computes if c.subscription == subscription_id(10)]
    one, two = computes[:2]
    emulator.set_scenario(restrictions=[{"size": "Standard_D4ds_v5", "subscription": "Team 10"}])
    with pytest.raises(OperationRefused) as caught:
        azure.start(one.id, silent, Cancel())
    assert caught.value.code == "SkuNotAvailable"
    assert "Offered in westeurope, and within the quota: Standard_E4ds_v5, " in caught.value.advice
    emulator.set_scenario(
        restrictions=[], quotas=[{"family": "standardDDSv5Family", "limit": 6, "subscription": "Team 10"}]
    )
    assert azure.start(one.id, silent, Cancel()).power_state is PowerState.RUNNING
    with pytest.raises(
        OperationRefused, match=r"standardDDSv5Family Cores in westeurope.: 4 of 6 are in use, 4 more"
    ) as caught:
        azure.start(two.id, silent, Cancel())
    assert "a limit of 8 in westeurope) at https://aka.ms/" in caught.value.advice
    emulator.set_scenario(quotas=[], capacity=[{"size": "Standard_D4ds_v5", "machines": 0}])
    with pytest.raises(OperationRefused, match="no capacity") as caught:
        azure.start(two.id, silent, Cancel())
    assert caught.value.code == "AllocationFailed"
    assert azure.stop(one.id, silent, Cancel()).power_state is PowerState.DEALLOCATED
    assert azure.start(two.id, silent, Cancel()).power_state is PowerState.RUNNING, "what is given up can be had again"
    azure.stop(two.id, silent, Cancel())
    emulator.set_scenario(capacity=[])


def test_nothing_of_the_token_is_in_the_traffic(emulator: Emulator) -> None:
    """Last in the module."""
    text = emulator.traffic_file.read_text("utf-8")
    door = configured(emulator).prices_endpoint.rpartition("/")[2]
    assert len(door) == 40
    assert emulator.token not in text
    assert door not in text
    assert os.stat(emulator.traffic_file).st_mode & 0o077 == 0
