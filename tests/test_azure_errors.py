"""Azure's refusals as ours: recorded bodies, and the texts that Azure documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.errors import TABLE, from_fault, parse_fault
from jupyter_dsvm.errors import (
    ComputeError,
    DSVMError,
    Forbidden,
    OperationRefused,
    SignInRequired,
    Throttled,
    UnknownCompute,
)

BODIES = Path(__file__).parents[2] / "shared/data/real_error_bodies.json"

QUOTA = (
    "Operation could not be completed as it results in exceeding approved standardNCASv3_T4 Family Cores quota. Additional "
    "details - Deployment Model: Resource Manager, Location: westus2, Current Limit: {limit}, Current Usage: {limit}, "
    "Additional Required: 4, (Minimum) New Limit Required: 104."
)
DENIED = (
    "The client 'ada@example.org' with object id 'x' does not have authorization to perform action "
    "'Microsoft.Compute/virtualMachines/start/action' over scope '/subscriptions/s' or the scope is invalid."
)


def answered(status: int, code: str, message: str, headers: dict[str, str] | None = None, **more: Any) -> DSVMError:
    body = {"error": {"code": code, "message": message, **more}}
    return from_fault(parse_fault(status, json.dumps(body), headers or {}), "Could not start gpu-vm")


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "says"),
    [
        (409, "OperationNotAllowed", QUOTA.format(limit=100), OperationRefused, "quota of cores is used up"),
        (409, "OperationNotAllowed", QUOTA.format(limit=0), OperationRefused, "its quota is 0"),
        (409, "SkuNotAvailable", "The requested VM size is not available", OperationRefused, "size is not available"),
        (409, "AllocationFailed", "Allocation failed.", OperationRefused, "no capacity"),
        (200, "ZonalAllocationFailed", "Allocation failed.", OperationRefused, "no capacity"),
        (409, "OverconstrainedAllocationRequest", "Allocation failed.", OperationRefused, "no capacity"),
        (403, "AuthorizationFailed", DENIED, Forbidden, "permission Microsoft.Compute/virtualMachines/start/action"),
        (403, "RequestDisallowedByPolicy", "Policy x.", OperationRefused, "policy"),
        (409, "ScopeLocked", "The scope is locked.", OperationRefused, "lock"),
        (403, "ReadOnlyDisabledSubscription", "The subscription is disabled", OperationRefused, "is disabled"),
        (409, "ReadOnlyDisabledSubscription", "The subscription is disabled", OperationRefused, "is disabled"),
        (404, "ResourceNotFound", "The Resource was not found.", UnknownCompute, "not in Azure any more"),
        (404, "SubscriptionNotFound", "The subscription could not be found.", ComputeError, "no such subscription"),
        (401, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier", SignInRequired, "expired"),
        (
            401,
            "InvalidAuthenticationTokenTenant",
            "The access token is from the wrong issuer",
            SignInRequired,
            "tenant",
        ),
        (429, "SubscriptionRequestsThrottled", "Number of requests exceeded", Throttled, "too many requests"),
        (409, "OperationPreempted", "Operation execution has been preempted", OperationRefused, "Another operation"),
        (409, "Conflict", "The request failed due to conflict with a concurrent request.", OperationRefused, "Another"),
        (503, "ServerTimeout", "The request timed out.", ComputeError, "fault of its own"),
        (409, "SomethingNew", "Not today.", OperationRefused, "Azure answered SomethingNew. Not today."),
        (400, "SomethingNew", "Not today.", ComputeError, "Azure answered SomethingNew. Not today."),
    ],
)
def test_rows(status: int, code: str, message: str, kind: type[DSVMError], says: str) -> None:
    error = answered(status, code, message)
    assert type(error) is kind
    assert error.message.startswith("Could not start gpu-vm")
    assert says in error.message
    assert message in error.message, "what Azure said is shown"
    assert error.code == code


def test_every_row_that_explains_gives_advice() -> None:
    assert all(row.advice for row in TABLE if row.sentence)


def test_the_compute_services_throttling_is_told_from_a_refusal() -> None:
    """It comes as OperationNotAllowed, with the truth in its details (compute throttling documentation)."""
    details = [
        {"code": "TooManyRequests", "target": "HighCostGet30Min", "message": '{"operationGroup": "HighCostGet30Min"}'}
    ]
    error = answered(429, "OperationNotAllowed", "The server rejected it.", {"Retry-After": "1200"}, details=details)
    assert isinstance(error, Throttled)
    assert error.retry_after == 1200


def test_the_graphs_own_way_to_say_when_again() -> None:
    error = answered(429, "RateLimiting", "Slow down", {"x-ms-user-quota-resets-after": "00:00:05"})
    assert error.retry_after == 5
    assert answered(429, "RateLimiting", "Slow down", {"Retry-After": "Fri, 31 Dec"}).retry_after == 60


def test_a_404_that_is_not_azures_does_not_mean_that_the_vm_is_gone() -> None:
    error = from_fault(parse_fault(404, "<html>proxy says no</html>", {}), "Could not read")
    assert type(error) is ComputeError
    assert "proxy says no" in error.message


def gone(status: int, code: str, message: str, **more: Any) -> bool:
    return isinstance(answered(status, code, message, **more), UnknownCompute)


def test_only_the_vm_itself_can_be_gone() -> None:
    """``UnknownCompute`` ends what runs there, so another resource that is missing must not be taken for the VM."""
    vm = "The Resource 'Microsoft.Compute/virtualMachines/gpu-vm' under resource group 'lab' was not found."
    assert gone(404, "ResourceNotFound", vm)
    assert gone(
        404, "ResourceNotFound", vm.replace("Microsoft.Compute/virtualMachines", "microsoft.compute/virtualmachines")
    )
    assert gone(404, "NotFound", "The entity was not found in this Azure location.")
    assert gone(404, "ResourceGroupNotFound", "Resource group 'lab' could not be found.")
    for message in (
        "The Resource 'Microsoft.Network/networkInterfaces/gpu-vm-nic' under resource group 'lab' was not found.",
        "The Resource 'Microsoft.Compute/disks/gpu-vm_OsDisk' under resource group 'lab' was not found.",
        "The Resource 'Microsoft.Compute/virtualMachines/gpu-vm/extensions/x' under resource group 'lab' was not found.",
        "The requested resource of type 'Microsoft.DevTestLab/schedules' with name 'x' was not found.",
        "Disk gpu-vm_OsDisk is not found.",
    ):
        assert not gone(404, "ResourceNotFound", message), message
        assert "the VM itself may still be there" in answered(404, "NotFound", message).advice
    # Nor does a detail of something else say so, or an operation that failed.
    assert not gone(400, "InvalidTemplateDeployment", "See details.", details=[{"code": "NotFound", "message": "No."}])
    assert not gone(200, "NotFound", "The entity was not found in this Azure location.")


def test_without_the_envelope() -> None:
    fault = parse_fault(409, '{"code": "AllocationFailed", "message": "No."}', {})
    assert (fault.code, fault.message) == ("AllocationFailed", "No.")


def test_control_characters_of_the_other_side_are_not_shown() -> None:
    assert "\x1b" not in answered(400, "X", "\x1b[2J gone").message


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_no_body_makes_the_translation_fail(text: str) -> None:
    assert from_fault(parse_fault(500, text, {}), "Could not").message


@given(
    st.recursive(
        st.none() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["error", "code", "message", "details"]), inner | st.lists(inner)
        ),
        max_leaves=12,
    )
)
def test_no_json_makes_the_translation_fail(body: Any) -> None:
    assert from_fault(parse_fault(409, json.dumps(body), {}), "Could not").code


@pytest.mark.skipif(not BODIES.exists(), reason="../shared/data with recorded error bodies is not there")
def test_recorded_bodies() -> None:
    kinds = {
        "AuthorizationFailed": Forbidden,
        "LinkedAuthorizationFailed": Forbidden,
        "ServerTimeout": ComputeError,
        "Unauthorized": SignInRequired,
    }
    seen = set()
    for recorded in json.loads(BODIES.read_text()):
        fault = parse_fault(recorded["status"], json.dumps(recorded["body"]), recorded["headers"])
        error = from_fault(fault, "Could not do it")
        body = recorded["body"].get("error", recorded["body"])
        assert error.code == body["code"]
        assert body["message"][:200].strip().replace("\r\n", "\n")[:60] in error.message
        assert issubclass(type(error), kinds.get(body["code"], ComputeError)), error
        # None of these is about a VM, but for the two that do not say what they are about.
        unsaid = body["message"].startswith(("The entity was not found", "The resource record"))
        assert isinstance(error, UnknownCompute) is unsaid, error
        seen.add(body["code"])
        if body["code"] in {"AuthorizationFailed", "LinkedAuthorizationFailed"}:
            assert "/read" in error.message or "/action" in error.message or "policyDefinitions" in error.message
    assert set(kinds) <= seen
