"""What Azure's refusals say, and what would work instead: each row of the table, and the look for other sizes over HTTP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.errors import duration, from_fault, parse_fault
from jupyter_dsvm.compute.azure.faults import link_in, quota_of, role_for, throttling_of
from jupyter_dsvm.compute.azure.refusal_table import TABLE
from jupyter_dsvm.compute.azure.skus import alternatives, sku
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import DSVMError, Forbidden, OperationRefused, SignInRequired, Throttled
from support.arm_server import VM_ID, Reply, Request, arm_server, fault, graph_row, token_file, vm_model

ID = f"azure:{VM_ID.lower()}"
FACTS = Path(__file__).parents[2] / "shared/facts/arm-errors.md"
SKUS = Path(__file__).parents[2] / "shared/data/skewer/eastus.json"
LINK = "https://aka.ms/ProdportalCRP/#blade/Microsoft_Azure_Capacity/UsageAndQuota.ReactView/Parameters/%7B%7D"


def quota_text(family: str = "standardDLSv5Family Cores", limit: int = 100, used: int = 96, needed: int = 32) -> str:
    return (
        f"Operation could not be completed as it results in exceeding approved {family} quota. Additional details - "
        f"Deployment Model: Resource Manager, Location: westus2, Current Limit: {limit}, Current Usage: {used}, Additional "
        f"Required: {needed}, (Minimum) New Limit Required: {used + needed}. Submit a request for Quota increase at {LINK} by "
        "specifying parameters listed in the 'Details' section. Please read more at https://docs.microsoft.com/azure/quota"
    )


def refused(status: int, code: str, message: str, headers: dict[str, str] | None = None, **more: Any) -> DSVMError:
    body = {"error": {"code": code, "message": message, **more}}
    return from_fault(parse_fault(status, json.dumps(body), headers or {}), "Could not start gpu-vm")


@pytest.mark.parametrize(
    ("error", "kind", "says", "advises"),
    [
        (
            refused(409, "OperationNotAllowed", quota_text()),
            OperationRefused,
            "standardDLSv5Family Cores in westus2): 96 of 100 are in use, 32 more are needed",
            f"a limit of 128 in westus2) at {LINK}",
        ),
        (
            refused(409, "OperationNotAllowed", quota_text("Total Regional Cores")),
            OperationRefused,
            "for all sizes of the region is used up: 96 of 100",
            LINK,
        ),
        (refused(409, "OperationNotAllowed", quota_text("LowPriorityCores")), OperationRefused, "Spot VMs", LINK),
        (
            refused(409, "OperationNotAllowed", quota_text("standardNCASv3_T4 Family Cores", 0, 0, 4)),
            OperationRefused,
            "its quota is 0 (standardNCASv3_T4 Family Cores in westus2)",
            "upgrade to pay-as-you-go",
        ),
        (
            refused(409, "OperationNotAllowed", "Unable to resize the VM 'x' because the requested size S is not available in "
                    "the current hardware cluster. The available sizes are: A", target="vmSize"),
            OperationRefused, "where it runs now", "deallocate",
        ),
        (
            refused(409, "OperationNotAllowed", "Unable to resize the VM 'X' since changing from resource disk to non-resource "
                    "disk VM size and vice-versa is not allowed. Please refer to https://aka.ms/AAah4sj for more details."),
            OperationRefused, "temporary disk", "D4ds_v5",
        ),
        (
            refused(400, "BadRequest", "The selected VM size 'X' cannot boot Hypervisor Generation '1'."),
            OperationRefused, "generation", "upgraded to generation 2",
        ),
        (
            refused(400, "InvalidParameter", "The value X provided for the VM size is not valid.", target="vmSize"),
            OperationRefused, "no such size", "panel",
        ),
        (
            refused(409, "PropertyChangeNotAllowed", "Changing property 'adminPassword' is not allowed."),
            OperationRefused, "cannot be changed", "another VM",
        ),
        (
            refused(409, "OperationNotAllowed", "The operation requires the VM to be running (or set to run)."),
            OperationRefused, "has to run", "Start it",
        ),
        (
            refused(409, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace "
                    "'Microsoft.DevTestLab'."),
            OperationRefused, "Microsoft.DevTestLab", "az provider register --namespace Microsoft.DevTestLab",
        ),
        (
            refused(403, "RequestDisallowedByAzure", "Resource 'x' was disallowed by Azure: The selected region is currently "
                    "not accepting new customers."),
            OperationRefused, "no new customers", "another region",
        ),
        (
            refused(409, "ZonalAllocationFailed", "Allocation failed."), OperationRefused, "in the VM's zone", "another size",
        ),
        (
            refused(409, "OverconstrainedZonalAllocationRequest", "Allocation failed."),
            OperationRefused, "fits all that was asked", "zone",
        ),
        (
            refused(400, "MarketplacePurchaseEligibilityFailed", "See inner errors for details.", details=[{"code": "BadRequest",
                    "message": '{"error": {"code": "AccountSetupError", "message": "Fill this form."}}'}]),
            OperationRefused, "Fill this form.", "az vm image terms accept",
        ),
        (
            refused(403, "AuthorizationFailed", "The client 'a@b.c' with object id 'o' does not have authorization to perform "
                    "action 'Microsoft.Compute/virtualMachines/start/action' over scope '/subscriptions/s/resourceGroups/lab/"
                    "providers/Microsoft.Compute/virtualMachines/gpu-vm' or the scope is invalid."),
            Forbidden, "lacks the permission Microsoft.Compute/virtualMachines/start/action",
            "role Virtual Machine Contributor on gpu-vm",
        ),
        (
            refused(403, "LinkedAuthorizationFailed", "The client has permission to perform action 'X/write' on scope 'a', "
                    "however, it does not have permission to perform action(s) 'Microsoft.Network/publicIPAddresses/join/action'"
                    " on the linked scope(s) 'b'."),
            Forbidden, "lacks the permission Microsoft.Network/publicIPAddresses/join/action", "Network Contributor",
        ),
        (
            refused(429, "OperationNotAllowed", "The server rejected the request.", {"Retry-After": "1200"}, details=[{
                    "code": "TooManyRequests", "target": "HighCostGet30Min", "message": json.dumps({"operationGroup":
                    "HighCostGet30Min", "allowedRequestCount": 800, "measuredRequestCount": 1238})}]),
            Throttled, "(1238 of 800 for HighCostGet30Min)", "Try again in 20 min.",
        ),
        (
            refused(401, "InvalidAuthenticationToken", "No.", {"WWW-Authenticate": 'Bearer error="insufficient_claims", '
                    'claims="eyJ9"'}),
            SignInRequired, "asks for a new sign-in", "",
        ),
        (
            refused(200, "VMExtensionProvisioningTimeout", "Provisioning of VM extension RunCommandLinux has timed out."),
            OperationRefused, "agent inside the VM", "443",
        ),
    ],
)  # fmt: skip
def test_rows_with_their_facts(error: DSVMError, kind: type[DSVMError], says: str, advises: str) -> None:
    assert type(error) is kind
    assert says in error.message
    assert advises in error.advice
    assert set(error.to_json()) >= {"code", "message", "advice"}


@pytest.mark.skipif(not FACTS.exists(), reason="../shared/facts with Azure's refusals is not there")
def test_every_row_of_the_facts_is_explained() -> None:
    """Each code with each status that it comes with, and the text that was seen with it; the wrappers say nothing by themselves."""
    wrappers = {"BadRequest", "InvalidTemplateDeployment"}
    explained = set()
    for line in FACTS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("| ") or len(cells) < 4:
            continue
        statuses = [int(status) for status in re.findall(r"\b[2345]\d\d\b", cells[1])]
        for code in re.findall(r"\b[A-Z][A-Za-z]{6,}\b", cells[2]):
            for status in statuses:
                error = refused(status, code, cells[3])
                if code in wrappers and "Azure answered" in error.message:
                    continue
                assert "Azure answered" not in error.message, (code, status)
                assert error.advice, (code, status)
                assert error.code == code
                explained.add(code)
    assert len(explained) > 25


def test_no_placeholder_is_left() -> None:
    for row in TABLE:
        for code in sorted(row.codes) or ["X"]:
            for status in sorted(row.statuses) or [409]:
                error = refused(status, code, quota_text() if "quota" in row.text else row.text or "No.")
                assert "{" not in error.message.replace(LINK, "")
                assert "{" not in error.advice


def test_a_link_elsewhere_is_not_shown_as_advice() -> None:
    for link in (
        "https://evil.example/quota",
        "https://aka.ms.evil.example/",
        "https://aka.ms@evil.example/",
        "javascript:alert(1)",
        "http://[",
    ):
        assert link_in(f"increase at {link} now") == ""
        error = refused(409, "OperationNotAllowed", quota_text().replace(LINK, link))
        assert "portal.azure.com" in error.advice or "docs.microsoft.com" in error.advice
        assert "evil" not in error.advice
    assert link_in("see http://aka.ms/corequotaincrease.") == "https://aka.ms/corequotaincrease"


def test_unknown_codes_show_what_azure_said_in_the_details_too() -> None:
    error = refused(
        400, "DeploymentFailed", "See inner errors.", details=[{"code": "Y", "message": "The disk is full."}]
    )
    assert "See inner errors. The disk is full." in error.message
    assert error.code == "DeploymentFailed"


@pytest.mark.parametrize(
    ("action", "role"),
    [
        ("Microsoft.Compute/virtualMachines/read", "Reader"),
        ("Microsoft.Compute/virtualMachines/runCommand/action", "Virtual Machine Contributor"),
        ("microsoft.network/networkInterfaces/write", "Network Contributor"),
        ("Microsoft.DevTestLab/schedules/write", "Virtual Machine Contributor"),
        ("Microsoft.Resources/deployments/write", "Contributor"),
    ],
)
def test_roles(action: str, role: str) -> None:
    assert role_for(action) == role


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (50, "50 s"), (1200, "20 min"), (1201, "21 min"), (7000, "2 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@given(
    st.text(alphabet=st.sampled_from("exceeding approved quota Current Limit: 0,\n9Additional Required")) | st.text()
)
def test_no_text_breaks_the_look_for_facts(text: str) -> None:
    quota_of(text)
    quota_of(quota_text(text))
    throttling_of(text)
    assert link_in(text) == "" or "://" in text


# -- what would work instead ------------------------------------------------------------------------------------------


def item(name: str, vcpus: int, memory: float, gpus: int = 0, **more: Any) -> dict[str, Any]:
    capabilities = {
        "vCPUs": vcpus, "MemoryGB": memory, "MaxResourceVolumeMB": 1024, "HyperVGenerations": "V1,V2",
        "CpuArchitectureType": "x64", "PremiumIO": "True", **({"GPUs": gpus} if gpus else {}), **more.pop("has", {}),
    }  # fmt: skip
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "family": f"family{'G' if gpus else 'C'}",
        "locations": ["westeurope"],
        "locationInfo": [{"location": "westeurope", "zones": ["1", "2"]}],
        "capabilities": [{"name": k, "value": str(v)} for k, v in capabilities.items()],
        "restrictions": [],
        **more,
    }


NOWHERE = {"type": "Location", "values": ["westeurope"], "reasonCode": "NotAvailableForSubscription"}
NOT_IN_1 = {"type": "Zone", "restrictionInfo": {"locations": ["westeurope"], "zones": ["1"]}, "reasonCode": "QuotaId"}
ITEMS = [
    item("Standard_NC4as_T4_v3", 4, 28, 1, restrictions=[NOWHERE]),
    item("Standard_NC8as_T4_v3", 8, 56, 1),
    item("Standard_NC16as_T4_v3", 16, 110, 1, restrictions=[NOT_IN_1]),
    item("Standard_NC24ads_A100_v4", 24, 220, 1, has={"HyperVGenerations": "V2"}),
    item("Standard_NV6ads_A10_v5", 6, 55, 1),
    item("Standard_ND_Arm", 4, 28, 1, has={"CpuArchitectureType": "Arm64"}),
    item("Standard_D4ds_v5", 4, 16),
    {"resourceType": "disks", "name": "P10"},
]


def names(**how: Any) -> list[str]:
    found = {s.name.lower(): s for s in (sku(i, "westeurope") for i in ITEMS) if s is not None}
    return alternatives(found, how.pop("quotas", {}), "standard_nc4as_t4_v3", **how)


def test_other_sizes_are_similar_and_can_be_had() -> None:
    assert names() == ["Standard_NC8as_T4_v3", "Standard_NC16as_T4_v3", "Standard_NC24ads_A100_v4"]
    assert names(generation="V1") == ["Standard_NC8as_T4_v3", "Standard_NC16as_T4_v3"]
    assert names(zones=("1",)) == ["Standard_NC8as_T4_v3", "Standard_NC24ads_A100_v4"]


@pytest.mark.skipif(not SKUS.exists(), reason="../shared/data with Azure's size items is not there")
def test_azures_own_items() -> None:
    data = json.loads(SKUS.read_text())
    found = [sku(i, "eastus") for i in (data if isinstance(data, list) else data["value"])]
    one = next(s for s in found if s is not None and s.name == "Standard_D4s_v3")
    assert (one.vcpus, one.memory_gib, one.gpus, one.family) == (4, 16, 0, "standardDSv3Family")
    assert one.generations == {"V1", "V2"}
    assert one.temporary_disk is True
    assert one.zones == {"1", "2", "3"}
    assert (one.max_data_disks, one.max_interfaces, one.restricted) == (8, 2, "")


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_item_breaks_the_reading(value: Any) -> None:
    for key in ("capabilities", "restrictions", "locationInfo", "name"):
        sku({**item("Standard_X", 1, 1), key: value}, "westeurope")


def azure(refusal: Reply, quota_id: str = "FreeTrial_2014-09-01") -> Any:
    def answer(request: Request) -> Reply:
        last = request.path.rpartition("/")[2]
        if last == "resources":
            return Reply(body={"data": [graph_row()]})
        if last == "gpu-vm":
            return Reply(body=vm_model())
        if last == "start":
            return refusal
        if last == "skus":
            return Reply(body={"value": ITEMS})
        if last == "usages":
            return Reply(body={"value": [{"name": {"value": "familyG"}, "currentValue": 0, "limit": 8}]})
        return Reply(body={"subscriptionPolicies": {"quotaId": quota_id, "spendingLimit": "On"}})

    return answer


def started(tmp_path: Path, answer: Any) -> tuple[DSVMError, list[Request]]:
    with arm_server(answer) as server:
        provider = AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02)
        with pytest.raises(DSVMError) as caught:
            provider.start(ID, lambda text, done: None, Cancel())
        provider.close()
        return caught.value, server.requests


def test_a_size_that_is_not_offered_names_others_that_are(tmp_path: Path) -> None:
    error, requests = started(tmp_path, azure(fault(409, "SkuNotAvailable", "The requested VM size is not available")))
    assert error.advice.endswith("Offered in westeurope, and within the quota: Standard_NC8as_T4_v3.")
    assert "Azure does not offer Standard_NC4as_T4_v3 in westeurope to this subscription" in error.advice
    assert "This is a free trial" in error.advice
    (asked,) = [r for r in requests if r.path.endswith("/skus")]
    assert asked.query["$filter"] == "location eq 'westeurope'"


def test_a_free_account_is_told_that_it_gets_no_gpu(tmp_path: Path) -> None:
    refusal = fault(409, "OperationNotAllowed", quota_text("standardNCASv3_T4 Family Cores", 0, 0, 4))
    error, _ = started(tmp_path, azure(refusal))
    assert "This is a free trial, which gets no GPU sizes" in error.advice
    error, _ = started(tmp_path, azure(refusal, "PayAsYouGo_2014-09-01"))
    assert "This is" not in error.advice


def test_a_size_of_the_family_whose_quota_is_used_up_is_not_offered(tmp_path: Path) -> None:
    """The refusal is newer than the list of usages, and names the family in other letters."""
    error, _ = started(tmp_path, azure(fault(409, "OperationNotAllowed", quota_text("FamilyG Cores", 4, 4, 4))))
    assert "Offered" not in error.advice
    error, _ = started(tmp_path, azure(fault(409, "OperationNotAllowed", quota_text("familyC Cores", 4, 4, 4))))
    assert "Offered" in error.advice
    error, _ = started(tmp_path, azure(fault(409, "OperationNotAllowed", quota_text("Total Regional Cores", 4, 4, 4))))
    assert "Offered" not in error.advice


def test_a_failed_look_for_others_leaves_the_error_as_it_is(tmp_path: Path) -> None:
    plain = azure(fault(409, "AllocationFailed", "Allocation failed."))

    def answer(request: Request) -> Reply:
        return fault(403, "AuthorizationFailed", "No.") if request.path.endswith("/skus") else plain(request)

    error, _ = started(tmp_path, answer)
    assert (error.code, type(error)) == ("AllocationFailed", OperationRefused)
    assert error.advice.endswith("did not start.")


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_nothing_is_asked_twice_that_costs_money(tmp_path: Path, status: int) -> None:
    _, requests = started(tmp_path, azure(fault(status, "ServerTimeout", "Later.", Retry_After="0")))
    assert [r.method for r in requests if r.path.endswith("/start")] == ["POST"]


def test_a_start_whose_answer_was_lost_is_not_asked_for_again(tmp_path: Path) -> None:
    plain = azure(Reply(202))

    def answer(request: Request) -> Reply:
        if request.path.endswith("/start"):
            raise ConnectionAbortedError("the connection ends without an answer")
        return plain(request)

    error, requests = started(tmp_path, answer)
    assert error.code == "Unreachable"
    assert [r.method for r in requests if r.path.endswith("/start")] == ["POST"]
