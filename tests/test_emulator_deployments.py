"""The emulator's deployments: templates it understands and refuses, what is made, what is in use, and Azure's words for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jupyter_dsvm.compute.azure import template
from jupyter_dsvm.compute.azure.template import ADDRESS, DISK, INTERFACE, NSG, VM, VNET, Plan
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH
from jupyter_dsvm.emulator.refusal import Refusal
from jupyter_dsvm.emulator.template_language import Evaluator, Scope, evaluated, in_order
from support.creating import emulator

__all__ = ["emulator"]

GROUP = f"/subscriptions/{RESEARCH.id}/resourcegroups/notebooks"
API = "api-version=2021-04-01"
SCOPE = Scope("s", "g")


def a_plan(name: str, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "subscription": RESEARCH.id,
        "group": "notebooks",
        "name": name,
        "location": "westeurope",
        "size": "Standard_D2ds_v5",
        "image": template.image("microsoft-dsvm:ubuntu-2204:2204-gen2:latest"),
        "admin": "azureuser",
        "public_key": "ssh-ed25519 AAAA",
        "tags": {"dsvm": "true"},
        "source": "203.0.113.7/32",
    }
    return Plan(**{**values, **changes})


def deploy(emulator: Emulator, name: str, body: Any, verb: str = "") -> tuple[int, Any]:
    path = f"{GROUP}/providers/Microsoft.Resources/deployments/{name}{verb}?{API}"
    status, _, answer = emulator.request("POST" if verb else "PUT", path, body)
    return status, answer


def ended(emulator: Emulator, name: str) -> Any:
    while True:
        _, _, answer = emulator.request("GET", f"{GROUP}/providers/Microsoft.Resources/deployments/{name}?{API}")
        if answer["properties"]["provisioningState"] not in ("Accepted", "Running"):
            return answer
        time.sleep(0.02)


def delete(emulator: Emulator, resource_id: str) -> tuple[int, str]:
    status, _, answer = emulator.request("DELETE", f"{resource_id}?{API}")
    return status, answer["error"]["code"] if answer else ""


def gone(emulator: Emulator, resource_id: str) -> None:
    while emulator.request("GET", f"{resource_id}?{API}")[0] == 200:
        time.sleep(0.02)


# -- the language -------------------------------------------------------------------------------------------------------


def test_expressions():
    evaluator = Evaluator({"name": "a'b", "tags": {"k": "[concat('x')]"}}, {"nic": "n"}, SCOPE)
    assert evaluator.value("[concat(parameters('name'), '-', variables('nic'))]") == "a'b-n"
    assert evaluator.value("[ resourceId( 'A.B/c' , 'n' ) ]") == "/subscriptions/s/resourceGroups/g/providers/A.B/c/n"
    assert evaluator.value("[resourceId('A.B/c/d', 'n', 'm')]").endswith("/providers/A.B/c/n/d/m")
    assert evaluator.value(["[[kept]", "plain", 1, {"x": "[concat('it''s')]"}]) == ["[kept]", "plain", 1, {"x": "it's"}]
    # What a parameter holds is not evaluated again.
    assert evaluator.value("[parameters('tags')]") == {"k": "[concat('x')]"}


@pytest.mark.parametrize(
    "text",
    [
        "[reference('x')]", "[concat()]", "[parameters('other')]", "[variables('other')]", "[concat('a']", "[concat('a') b]",
        "[resourceGroup().location]", "[concat(", "[]", "[concat('a',)]x]", "[1]", "['a", "[resourceId('A.B/c')]",
        "[resourceId('A.B/c', 'a', 'b')]", "[concat(parameters('tags'))]",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_invalid_template(text: str):
    evaluator = Evaluator({"tags": {}}, {}, SCOPE)
    if text.endswith("]"):
        with pytest.raises(Refusal) as caught:
            evaluator.value(text)
        assert caught.value.code == "InvalidTemplate"
        assert caught.value.status == 400
    else:
        assert evaluator.value(text) == text  # no expression at all


def test_order_follows_dependencies_and_circles_are_refused():
    def row(name: str, *needs: str) -> dict[str, Any]:
        ids = [f"/subscriptions/s/resourceGroups/g/providers/A.B/c/{need}" for need in needs]
        return {"type": "A.B/c", "apiVersion": "1", "name": name, "dependsOn": ids}

    ordered = in_order([row("c", "b"), row("b", "a"), row("a")], SCOPE)
    assert [resource["name"] for _, resource in ordered] == ["a", "b", "c"]
    for wrong in ([row("a", "b"), row("b", "a")], [row("a", "x")], [row("a"), row("A")]):
        with pytest.raises(Refusal):
            in_order(wrong, SCOPE)


def test_parameters_are_checked():
    base = {"$schema": "x", "contentVersion": "1", "parameters": {"p": {"type": "string"}}, "resources": []}
    assert evaluated(base, {"p": {"value": "v"}}, SCOPE) == []
    for wrong in ({}, {"p": {"value": 1}}, {"p": {"value": "v"}, "q": {"value": "v"}}, {"p": "v"}):
        with pytest.raises(Refusal) as caught:
            evaluated(base, wrong, SCOPE)
        assert caught.value.code == "InvalidTemplate"
    for unknown in ({**base, "functions": []}, {"resources": []}, [], None):
        with pytest.raises(Refusal):
            evaluated(unknown, {"p": {"value": "v"}}, SCOPE)


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_validation_makes_nothing(emulator: Emulator):
    before = emulator.request("GET", f"{GROUP}/resources?{API}")[2]
    status, answer = deploy(emulator, "v", template.deployment(a_plan("one-vm")), "/validate")
    assert status == 200
    assert len(answer["properties"]["validatedResources"]) == 5
    assert emulator.request("GET", f"{GROUP}/resources?{API}")[2] == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"image": template.image("acme:nothing:here")}, "PlatformImageNotFound"),
        ({"size": "Standard_X1"}, "InvalidParameter"),
        ({"location": "atlantis"}, "LocationNotAvailableForResourceType"),
        ({"admin": "root"}, "InvalidParameter"),
        ({"public_key": "no key"}, "InvalidParameter"),
    ],
)
def test_a_vm_that_cannot_be(change: dict[str, Any], code: str, emulator: Emulator):
    status, answer = deploy(emulator, "v", template.deployment(a_plan("one-vm", **change)), "/validate")
    assert (status, answer["error"]["code"]) == (400, "InvalidTemplateDeployment")
    assert answer["error"]["details"][0]["code"] == code


def test_standard_needs_an_api_that_has_it(emulator: Emulator):
    body = template.deployment(a_plan("one-vm"))
    for resource in body["properties"]["template"]["resources"]:
        if resource["type"] == VM:
            resource["apiVersion"] = "2024-07-01"
    status, answer = deploy(emulator, "v", body, "/validate")
    assert (status, answer["error"]["details"][0]["target"]) == (400, "securityProfile.securityType")


def test_quotas_count_at_validation(emulator: Emulator):
    emulator.set_scenario(quotas=[{"family": "standardDDSv5Family", "limit": 5}])
    try:
        for verb in ("/validate", ""):
            status, answer = deploy(emulator, "v", template.deployment(a_plan("one-vm")), verb)
            assert status == 400
            assert answer["error"]["details"][0]["code"] == "QuotaExceeded"
            assert (
                "Current Limit: 5, Current Usage: 4, Additional Required: 2" in answer["error"]["details"][0]["message"]
            )
    finally:
        emulator.set_scenario(quotas=[])


def test_members_and_resources_that_are_not_known(emulator: Emulator):
    body = template.deployment(a_plan("one-vm"))
    (vm,) = (r for r in body["properties"]["template"]["resources"] if r["type"] == VM)
    vm["properties"]["licenseType"] = "x"
    _, answer = deploy(emulator, "v", body, "/validate")
    assert "Could not find member 'licenseType'" in answer["error"]["details"][0]["message"]
    body = template.deployment(a_plan("one-vm"))
    body["properties"]["template"]["resources"].append(
        {"type": "Microsoft.Storage/storageAccounts", "apiVersion": "1", "name": "x"}
    )
    assert deploy(emulator, "v", body)[1]["error"]["code"] == "InvalidTemplate"
    body = template.deployment(a_plan("one-vm"))
    body["properties"]["mode"] = "Complete"
    assert deploy(emulator, "v", body)[1]["error"]["code"] == "InvalidTemplate"


def test_groups(emulator: Emulator):
    path = f"/subscriptions/{RESEARCH.id}/resourcegroups/other"
    assert emulator.request("GET", f"{path}?{API}")[2]["error"]["code"] == "ResourceGroupNotFound"
    assert emulator.request("PUT", f"{path}?{API}", {"location": "atlantis"})[0] == 400
    assert emulator.request("PUT", f"{path}?{API}", {"location": "westeurope"})[0] == 201
    assert emulator.request("PUT", f"{path}?{API}", {"location": "westeurope", "tags": {"a": "b"}})[0] == 200
    assert emulator.request("PUT", f"{path}?{API}", {"location": "northeurope"})[0] == 409
    assert emulator.request("GET", f"{path}?{API}")[2]["tags"] == {"a": "b"}
    assert emulator.request("GET", f"{path}/resources?{API}")[2] == {"value": []}
    assert emulator.request("DELETE", f"{path}?{API}")[0] == 202
    gone(emulator, path)


def test_deployments_that_there_are_not(emulator: Emulator):
    path = f"{GROUP}/providers/Microsoft.Resources/deployments/none"
    for method, tail in (("GET", ""), ("POST", "/cancel"), ("GET", "/operations")):
        assert emulator.request(method, f"{path}{tail}?{API}")[2]["error"]["code"] == "DeploymentNotFound"


# -- what is made, and what is in use -------------------------------------------------------------------------------------


def test_from_a_deployment_to_nothing_again(emulator: Emulator):
    before = emulator.request("GET", f"{GROUP}/resources?{API}")[2]
    plan = a_plan("two-vm")
    status, answer = deploy(emulator, "d1", template.deployment(plan))
    assert (status, answer["properties"]["provisioningState"]) == (201, "Accepted")
    assert deploy(emulator, "d1", template.deployment(plan))[1]["error"]["code"] == "DeploymentActive"
    assert ended(emulator, "d1")["properties"]["provisioningState"] == "Succeeded"
    assert deploy(emulator, "d1", None, "/cancel")[1]["error"]["code"] == "DeploymentCannotBeCancelled"
    operations = emulator.request("GET", f"{GROUP}/deployments/d1/operations?{API}")[2]["value"]
    assert {o["properties"]["targetResource"]["id"] for o in operations} == {
        v for k, v in plan.ids.items() if k != DISK
    }
    assert {o["properties"]["provisioningOperation"] for o in operations} == {"Create"}
    assert emulator.vm("two-vm")["power_state"] == "running"
    for kind, code in (
        (INTERFACE, "NicInUse"),
        (ADDRESS, "PublicIPAddressCannotBeDeleted"),
        (NSG, "InUseNetworkSecurityGroupCannotBeDeleted"),
        (VNET, "InUseSubnetCannotBeDeleted"),
        (DISK, "OperationNotAllowed"),
    ):
        status, found = delete(emulator, plan.ids[kind])
        assert (status in (400, 409), found) == (True, code)
    # Again, with another key: what is there cannot be changed so.
    other = template.deployment(a_plan("two-vm", public_key="ssh-ed25519 BBBB"))
    assert deploy(emulator, "d2", other)[1]["error"]["details"][0]["code"] == "PropertyChangeNotAllowed"
    assert delete(emulator, plan.ids[VM])[0] == 202
    gone(emulator, plan.ids[VM])
    for kind in (INTERFACE, ADDRESS, DISK):  # with the VM, as its template says
        gone(emulator, plan.ids[kind])
    for kind in (NSG, VNET):
        assert delete(emulator, plan.ids[kind])[0] == 202
        gone(emulator, plan.ids[kind])
        assert delete(emulator, plan.ids[kind])[0] == 204
    assert emulator.request("GET", f"{GROUP}/resources?{API}")[2] == before


def test_a_failed_deployment_says_which_operation_and_why(emulator: Emulator):
    plan = a_plan("three-vm")
    emulator.fault("*", "vm", at="operation", code="AllocationFailed")
    deploy(emulator, "d3", template.deployment(plan))
    found = ended(emulator, "d3")
    assert found["properties"]["provisioningState"] == "Failed"
    assert found["properties"]["error"]["code"] == "DeploymentFailed"
    assert "AllocationFailed" in found["properties"]["error"]["details"][0]["message"]
    operations = emulator.request("GET", f"{GROUP}/deployments/d3/operations?{API}")[2]["value"]
    (failed,) = (o["properties"] for o in operations if o["properties"]["provisioningState"] == "Failed")
    assert failed["statusMessage"]["error"]["code"] == "AllocationFailed"
    # The VM is there, failed, as Azure leaves it.
    body = emulator.request("GET", f"{plan.ids[VM]}?{API}")[2]
    assert body["properties"]["provisioningState"] == "Failed"
    for kind in (VM, INTERFACE, ADDRESS, NSG, VNET, DISK):
        delete(emulator, plan.ids[kind])
        gone(emulator, plan.ids[kind])


def test_a_cancel_ends_the_deployment_and_not_what_is_being_made(emulator: Emulator):
    plan = a_plan("four-vm")
    emulator.set_timings(create=1.0)
    try:
        deploy(emulator, "d4", template.deployment(plan))
        while emulator.request("GET", f"{plan.ids[VM]}?{API}")[0] != 200:
            time.sleep(0.02)
        assert deploy(emulator, "d4", None, "/cancel")[0] == 204
        assert ended(emulator, "d4")["properties"]["provisioningState"] == "Canceled"
        assert emulator.request("GET", f"{plan.ids[VM]}?{API}")[2]["properties"]["provisioningState"] == "Creating"
        while emulator.vm("four-vm")["power_state"] != "running":
            time.sleep(0.05)
    finally:
        emulator.set_timings(create=0.2)
        for kind in (VM, INTERFACE, ADDRESS, NSG, VNET, DISK):
            delete(emulator, plan.ids[kind])
            gone(emulator, plan.ids[kind])
