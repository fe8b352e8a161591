"""Scenarios: what a file may say, what it may not, and what the emulated Azure then does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.emulator import ControlError, Emulator
from jupyter_dsvm.emulator.machines import HOME, RESEARCH, SIZES, STANDARD
from jupyter_dsvm.emulator.offers import parsed_filter
from jupyter_dsvm.emulator.pacing import Latency, Throttle, delay
from jupyter_dsvm.emulator.refusal import Refusal
from jupyter_dsvm.emulator.scenario import FIXED, LIVE, Scenario, ScenarioError, load, parse

API = "api-version=2024-07-01"
LAB = {"id": "0b1f6471-1bf0-4dda-aec3-cb9272f09590", "name": "Lab", "quota_id": "FreeTrial_2014-09-01"}
OTHER = {"id": "c27f9d03-81e6-4b5a-b3d4-0e94a6157f8d", "name": "Theirs", "tenant": "t2", "forbidden": True}
OFF = {"id": "c27f9d03-81e6-4b5a-b3d4-0e94a6157f8e", "name": "Off", "state": "Disabled"}
VM = {
    "name": "vm-{n}",
    "count": 3,
    "resource_group": "lab",
    "subscription": "lab",
    "size": "Standard_D2ds_v5",
    "image": "microsoft-dsvm:ubuntu-2204:2204-gen2",
    "ssh": False,
}
WHOLE: dict[str, Any] = {
    "tenants": [
        {"id": HOME.id, "name": HOME.name, "domain": HOME.domain},
        {"id": "t2", "name": "Guests", "domain": "x.org"},
    ],
    "subscriptions": [LAB, OTHER, OFF],
    "machines": [
        VM,
        {**VM, "name": "gpu", "count": 1, "size": "Standard_NC4as_T4_v3"},
        {**VM, "name": "theirs", "count": 1, "subscription": "Theirs"},
        {**VM, "name": "off", "count": 1, "subscription": OFF["id"]},
    ],
    "latency": [{"operation": "get", "vm": "vm-2", "seconds": 0.6}],
    "restrictions": [
        {"size": "Standard_NC24ads_A100_v4"},
        {"size": "Standard_D8ds_v5", "zones": ["1"], "reason": "QuotaId"},
    ],
    "prices": [
        {"size": "Standard_D2ds_v5", "usd": None},
        {"size": "Standard_D4ds_v5", "usd": 0.5, "location": "northeurope"},
    ],
    "timings": {"start": 0.1, "retry_after": 0},
}


# -- what may be said -----------------------------------------------------------------------------------------------------


def test_a_whole_one() -> None:
    found = parse(WHOLE)
    assert [m.name for m in found.machines] == ["vm-1", "vm-2", "vm-3", "gpu", "theirs", "off"]
    assert {m.subscription for m in found.machines[:4]} == {LAB["id"]}
    assert found.machines[0].image == ("microsoft-dsvm", "ubuntu-2204", "2204-gen2")
    assert found.latency == [Latency(0.6, "get", "vm-2")]
    assert parse({}) == Scenario()


def test_the_example_of_the_documentation() -> None:
    text = (Path(__file__).parents[1] / "docs/emulator.md").read_text("utf-8")
    example = json.loads(text.partition("```json\n")[2].partition("```")[0])
    found = parse(example)
    assert len(found.machines) == 25
    assert set(example) <= {f.name for f in dataclasses.fields(found)}
    for part in (*FIXED, *LIVE):
        assert f"| `{part}` |" in text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "it has to be an object, not []"),
        ({"machine": []}, "it has 'machine'; possible are tenants, subscriptions, machines"),
        ({"machines": {}}, "machines has to be a list"),
        ({"machines": [{"name": "x"}]}, "machines[0] has no 'resource_group'"),
        ({"machines": [{**VM, "subscription": "Research", "count": 0}]}, "machines[0].count is between 1 and"),
        ({"machines": [{**VM, "subscription": "Research", "name": "x"}]}, "machines[0].name needs {n}"),
        (
            {"machines": [{**VM, "subscription": "Nobody"}]},
            "there is none called 'Nobody'; there are Research, Teaching",
        ),
        (
            {"machines": [{**VM, "subscription": "Research", "size": "Huge"}]},
            "machines[0].size is one of Standard_D2ds_v5",
        ),
        (
            {"machines": [{**VM, "subscription": "Research", "power": "on"}]},
            "power is one of running, stopped, deallocated",
        ),
        (
            {"machines": [{**VM, "subscription": "Research", "image": "x"}]},
            "machines[0].image has to have 3 parts; it has 1",
        ),
        ({"machines": [{**VM, "subscription": "Research"}] * 2}, "is there twice"),
        (
            {"machines": [{**VM, "subscription": "Research", "ssh": 1}]},
            "machines[0].ssh has to be true or false, not 1",
        ),
        ({"subscriptions": [LAB]}, "it has to have machines, too"),
        ({"subscriptions": [{**LAB, "tenant": "t9"}], "machines": [VM]}, "subscriptions[0].tenant is one of"),
        ({"subscriptions": [LAB, LAB], "machines": [VM]}, "is there twice"),
        ({"latency": [{"seconds": "slow"}]}, 'latency[0].seconds has to be a number, not "slow"'),
        ({"latency": [{"seconds": -1}]}, "latency[0].seconds must not be negative"),
        ({"latency": [{"seconds": 1, "operation": "fly"}]}, "latency[0].operation is one of start, deallocate"),
        ({"latency": [{"seconds": 1, "vm": "nobody"}]}, "there is no VM 'nobody'; there are cpu-vm, gpu-vm"),
        ({"throttles": [{"operation": "*", "requests": 1, "seconds": 1}]}, "throttles[0].operation has to be one of"),
        ({"throttles": [{"operation": "graph", "requests": 1.5, "seconds": 1}]}, "requests has to be a whole number"),
        ({"quotas": [{"family": "D", "limit": 1}]}, "quotas[0].family is one of"),
        ({"capacity": [{"machines": -2}]}, "capacity[0].machines must not be negative"),
        ({"prices": [{"size": "Standard_B2s"}]}, "prices[0] has no 'usd'"),
        ({"faults": [{"operation": "get", "code": "X", "when": 1}]}, "faults[0] has 'when'"),
        ({"faults": [{"operation": "fly"}]}, "faults[0]: operation is one of"),
        ({"timings": {"sleep": 1}}, "timings has 'sleep'"),
        ({"timings": {"page_size": None}}, "timings.page_size has to be a whole number, not null"),
    ],
)
def test_mistakes_are_said_with_their_place(data: Any, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(data)
    assert says in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*WHOLE, *VM, "seconds", "operation", "vm", "size", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_breaks_the_reading(data: Any) -> None:
    with contextlib.suppress(ScenarioError):
        parse(data)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        load(tmp_path / "none.json")
    file = tmp_path / "scenario.json"
    file.write_text("{broken")
    with pytest.raises(ScenarioError, match="is no JSON"):
        load(file)
    file.write_text('{"latency": 3}')
    with pytest.raises(ScenarioError, match=r"scenario\.json: latency has to be a list"):
        load(file)
    file.write_text("{}")
    assert load(file, STANDARD[:1]).machines == STANDARD[:1]


def test_the_command_line_says_what_is_wrong_with_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "scenario.json"
    file.write_text(json.dumps({"latency": [{"seconds": 1, "operation": "fly"}]}))
    command = [sys.executable, "-m", "jupyter_dsvm", "emulator", "--dir", str(tmp_path / "e"), "--scenario", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "latency[0].operation is one of start" in done.stderr
    assert "Traceback" not in done.stderr


# -- rules, pure ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 5), st.floats(0.1, 5))
def test_a_throttle_lets_no_more_through_than_it_says(gaps: list[float], requests: int, seconds: float) -> None:
    throttle, now, passed = Throttle("graph", requests, seconds), 0.0, []
    waits: list[int] = []
    for gap in gaps:
        now += gap
        try:
            left, wait = throttle.take(now)
            passed.append(now)
            assert 0 <= left < requests
            assert wait <= seconds + 1e-6
        except Refusal as refusal:
            waits.append(refusal.retry_after or 0)
        assert len([p for p in passed if p > now - seconds]) <= requests
    assert all(wait >= 1 for wait in waits)


def test_the_longest_latency_that_fits_counts() -> None:
    rules = [Latency(0.1), Latency(2, "get", "VM-1"), Latency(1, size="Standard_B2s")]
    assert delay(rules, "get", "vm-1", "Standard_D2ds_v5") == 2
    assert delay(rules, "get", "vm-2", "standard_b2s") == 1
    assert delay(rules, "graph", None, None) == 0.1
    assert delay([], "get", "vm-1", None) == 0


def test_filters_of_the_price_list() -> None:
    text = "serviceName eq 'Virtual Machines' and (armSkuName eq 'a' or armSkuName eq 'it''s')"
    assert parsed_filter(text) == {"servicename": {"Virtual Machines"}, "armskuname": {"a", "it's"}}
    for bad in ("contains(skuName, 'x')", "armSkuName ne 'x'", "armSkuName eq x"):
        with pytest.raises(ValueError):
            parsed_filter(bad)


# -- what Azure then does -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), scenario=WHOLE, isolate=False, timeout=120) as running:
        yield running


def test_tenants_and_subscriptions(emulator: Emulator) -> None:
    _, _, tenants = emulator.request("GET", f"/tenants?{API}")
    assert [t["tenantId"] for t in tenants["value"]] == [HOME.id, "t2"]
    _, _, answer = emulator.request("GET", f"/subscriptions?{API}")
    rows = {s["displayName"]: s for s in answer["value"]}
    assert rows["Lab"]["subscriptionPolicies"]["spendingLimit"] == "On"
    assert rows["Lab"]["subscriptionPolicies"]["quotaId"] == "FreeTrial_2014-09-01"
    assert (rows["Theirs"]["tenantId"], rows["Off"]["state"]) == ("t2", "Disabled")
    status, _, body = emulator.request(
        "GET", f"/subscriptions/{OTHER['id']}/providers/Microsoft.Compute/virtualMachines?{API}"
    )
    assert (status, body["error"]["code"]) == (403, "AuthorizationFailed")
    status, _, body = emulator.request("POST", f"{emulator.vm('off')['id']}/start?{API}")
    assert (status, body["error"]["code"]) == (409, "ReadOnlyDisabledSubscription")


def test_sizes_with_restrictions_and_capabilities(emulator: Emulator) -> None:
    path = f"/subscriptions/{LAB['id']}/providers/Microsoft.Compute/skus?{API}"
    _, _, answer = emulator.request("GET", f"{path}&$filter=location%20eq%20'westeurope'")
    rows = {s["name"]: s for s in answer["value"]}
    assert set(rows) == set(SIZES)
    t4 = {c["name"]: c["value"] for c in rows["Standard_NC4as_T4_v3"]["capabilities"]}
    assert (t4["GPUs"], t4["vCPUs"], t4["HyperVGenerations"]) == ("1", "4", "V1,V2")
    assert rows["Standard_NC4as_T4_v3"]["restrictions"] == []
    (restriction,) = rows["Standard_NC24ads_A100_v4"]["restrictions"]
    assert (restriction["type"], restriction["reasonCode"]) == ("Location", "NotAvailableForSubscription")
    (restriction,) = rows["Standard_D8ds_v5"]["restrictions"]
    assert (restriction["type"], restriction["restrictionInfo"]["zones"]) == ("Zone", ["1"])
    status, _, body = emulator.request("GET", f"{path}&$filter=name%20eq%20'x'")
    assert (status, body["error"]["code"]) == (400, "InvalidFilterInQueryString")


def usages(emulator: Emulator) -> dict[str, tuple[int, int]]:
    path = f"/subscriptions/{LAB['id']}/providers/Microsoft.Compute/locations/westeurope/usages?{API}"
    _, _, answer = emulator.request("GET", path)
    return {row["name"]["value"]: (row["currentValue"], row["limit"]) for row in answer["value"]}


def test_a_free_trials_quotas(emulator: Emulator) -> None:
    assert usages(emulator)["Standard NCASv3_T4 Family"] == (0, 0)
    assert usages(emulator)["cores"] == (0, 4)
    status, _, body = emulator.request("POST", f"{emulator.vm('gpu')['id']}/start?{API}")
    assert (status, body["error"]["code"]) == (409, "OperationNotAllowed")
    assert "exceeding approved Standard NCASv3_T4 Family Cores quota" in body["error"]["message"]
    assert "Current Limit: 0, Current Usage: 0, Additional Required: 4" in body["error"]["message"]
    emulator.power("vm-1", "start")
    emulator.power("vm-2", "start")
    assert usages(emulator)["cores"] == (4, 4)
    with pytest.raises(ControlError, match=r"Total Regional Cores|standardDDSv5Family Cores"):
        emulator.power("vm-3", "start")
    emulator.power("vm-1", "deallocate")
    emulator.power("vm-3", "start")
    emulator.power("vm-2", "deallocate")
    emulator.power("vm-3", "deallocate")
    assert usages(emulator)["cores"] == (0, 4)


def test_latency_of_one_vm(emulator: Emulator) -> None:
    def took(name: str) -> float:
        path = f"{emulator.vm(name)['id']}?{API}"
        began = time.monotonic()
        assert emulator.request("GET", path)[0] == 200
        return time.monotonic() - began

    assert took("vm-2") >= 0.6
    emulator.set_scenario(latency=[])
    assert took("vm-2") < 0.6


def test_a_throttled_group_of_the_compute_service(emulator: Emulator) -> None:
    emulator.set_scenario(throttles=[{"operation": "get", "requests": 1, "seconds": 100}])
    path = f"{emulator.vm('vm-1')['id']}?{API}"
    assert emulator.request("GET", path)[0] == 200
    status, headers, body = emulator.request("GET", path)
    emulator.set_scenario(throttles=[])
    assert (status, body["error"]["code"]) == (429, "OperationNotAllowed")
    assert 90 < int(headers["retry-after"]) <= 100
    told = json.loads(body["error"]["details"][0]["message"])
    assert (told["allowedRequestCount"], told["measuredRequestCount"]) == (1, 2)


def test_a_fault_of_one_size(emulator: Emulator) -> None:
    emulator.set_scenario(
        faults=[{"operation": "get", "size": "Standard_NC4as_T4_v3", "code": "ServerTimeout", "times": -1}]
    )
    assert emulator.request("GET", f"{emulator.vm('gpu')['id']}?{API}")[0] == 503
    assert emulator.request("GET", f"{emulator.vm('vm-1')['id']}?{API}")[0] == 200
    emulator.clear_faults()


def test_capacity_that_a_resize_needs(emulator: Emulator) -> None:
    emulator.set_scenario(quotas=[{"family": "cores", "limit": 100}, {"family": "standardDDSv5Family", "limit": 100}])
    emulator.power("vm-1", "start")
    emulator.set_scenario(capacity=[{"size": "Standard_D4ds_v5", "machines": 0}])
    patch = {"properties": {"hardwareProfile": {"vmSize": "Standard_D4ds_v5"}}}
    status, headers, _ = emulator.request("PATCH", f"{emulator.vm('vm-1')['id']}?{API}", patch)
    assert status == 200
    while (operation := emulator.request("GET", headers["azure-asyncoperation"])[2])["status"] == "InProgress":
        time.sleep(0.05)
    assert operation["error"]["code"] == "AllocationFailed"
    assert emulator.vm("vm-1")["power_state"] == "running"
    emulator.power("vm-1", "deallocate")
    emulator.set_scenario(capacity=[], quotas=[])


def test_the_control_endpoint_says_what_is_wrong(emulator: Emulator) -> None:
    for parts, says in (
        ({"latency": 1}, "latency has to be a list"),
        ({"machines": []}, "it has 'machines'; possible are latency, throttles"),
        ({"capacity": [{"machines": 0, "vm": "nobody"}]}, "there is no VM 'nobody'"),
    ):
        with pytest.raises(ControlError, match="400") as caught:
            emulator.set_scenario(**parts)
        assert says in str(caught.value)


def test_the_price_list(emulator: Emulator) -> None:
    """It is open to whoever knows its door, which is in the configuration only, and pages as Azure's does."""
    settings = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    endpoint = settings["AzureCompute"]["prices_endpoint"]
    query = (
        "api-version=2023-01-01-preview&$filter=serviceName%20eq%20'Virtual%20Machines'%20and%20armRegionName%20eq%20"
        "'northeurope'%20and%20(armSkuName%20eq%20'Standard_D2ds_v5'%20or%20armSkuName%20eq%20'Standard_D4ds_v5')%20and%20"
        "priceType%20eq%20'Consumption'"
    )
    emulator.set_timings(price_page_size=4)
    _, _, first = emulator.request("GET", f"{endpoint}/api/retail/prices?{query}")
    assert (first["Count"], len(first["Items"]), first["BillingCurrency"]) == (4, 4, "USD")
    _, _, second = emulator.request("GET", first["NextPageLink"])
    assert second["NextPageLink"] is None
    items = first["Items"] + second["Items"]
    assert {i["armSkuName"] for i in items} == {"Standard_D4ds_v5"}, "the other one has no price"
    assert len(items) == 6
    linux = [i for i in items if not i["productName"].endswith(" Windows") and i["skuName"] == "D4ds v5"]
    assert [i["retailPrice"] for i in linux] == [0.5]
    assert emulator.request("GET", f"{endpoint}/api/retail/prices?api-version=2023-01-01-preview&$filter=x")[0] == 400


def test_subscriptions_of_the_standard_emulator_are_still_there() -> None:
    assert RESEARCH in Scenario().subscriptions
