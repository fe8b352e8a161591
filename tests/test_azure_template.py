"""The template of a new DSVM and the rules of names, without Azure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure import names, template
from jupyter_dsvm.compute.azure.createsettings import SECURITY_TYPES
from jupyter_dsvm.compute.azure.failures import innermost
from jupyter_dsvm.compute.azure.template import ADDRESS, DISK, INTERFACE, NSG, VM, VNET, Plan
from jupyter_dsvm.compute.creating import NewCompute
from jupyter_dsvm.emulator.template_language import Scope, evaluated, in_order
from jupyter_dsvm.errors import BadRequest, ConfigurationError

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
SUBNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/vms"
ANYTHING = st.text(min_size=1, max_size=40)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,50}[a-z0-9]", fullmatch=True).filter(
    lambda n: not re.search("microsoft|windows|^login|^xbox|^free$", n)
)


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "subscription": SUBSCRIPTION,
        "group": "lab",
        "name": "new-vm",
        "location": "westeurope",
        "size": "Standard_D2ds_v5",
        "image": template.image("microsoft-dsvm:ubuntu-2204:2204-gen2:latest"),
        "admin": "azureuser",
        "public_key": "ssh-ed25519 AAAA jupyter-dsvm",
        "tags": {"dsvm": "true"},
        "source": "203.0.113.7/32",
    }
    return Plan(**{**values, **changes})


def resources(one: Plan) -> dict[str, Any]:
    """By kind, as Azure would see them: every expression evaluated."""
    body = template.deployment(one)["properties"]
    scope = Scope(one.subscription, one.group)
    found = in_order(evaluated(body["template"], body["parameters"], scope), scope)
    return {resource["type"]: {**resource, "id": resource_id} for resource_id, resource in found}


PLANS = st.builds(
    plan,
    name=NAMES,
    source=st.sampled_from(["", "203.0.113.7/32", "198.51.100.0/24"]),
    subnet=st.sampled_from(["", SUBNET]),
    disk_gib=st.sampled_from([None, 30, 256]),
    security_type=st.sampled_from(SECURITY_TYPES),
    tags=st.dictionaries(st.sampled_from(["dsvm", "owner", "team"]), ANYTHING),
    public_key=ANYTHING,
    image=st.sampled_from(
        [
            template.image("microsoft-dsvm:ubuntu-2204:2204-gen2"),
            template.image(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/images/team"),
            template.image("acme:lab:gpu:1.0.0", "acme:lab:gpu"),
        ]
    ),
)


@given(PLANS)
def test_what_every_template_holds_to(one: Plan):
    found = resources(one)
    # What is announced is what is made, and each is where it was said to be.
    assert set(found) | {DISK} == set(one.kinds)
    assert {kind: r["id"] for kind, r in found.items()} == {k: v for k, v in one.ids.items() if k != DISK}
    assert found[VM]["properties"]["storageProfile"]["osDisk"]["name"] == one.ids[DISK].rsplit("/", 1)[-1]
    for resource in found.values():
        assert resource["tags"] == dict(one.tags)
        assert resource["location"] == one.location
        assert len(resource["name"]) <= 64
    # Nobody but the source reaches port 22, and nothing else is opened.
    rules = [r["properties"] for r in found[NSG]["properties"]["securityRules"]]
    assert [(r["sourceAddressPrefix"], r["destinationPortRange"], r["access"]) for r in rules] == (
        [] if one.private else [(one.source, "22", "Allow")]
    )
    interface = found[INTERFACE]["properties"]
    assert interface["networkSecurityGroup"]["id"] == one.ids[NSG]
    configuration = interface["ipConfigurations"][0]["properties"]
    assert configuration.get("publicIPAddress", {}).get("id") == one.ids.get(ADDRESS)
    assert configuration["subnet"]["id"] == (one.subnet or f"{one.ids[VNET]}/subnets/default")
    machine = found[VM]["properties"]
    assert machine["securityProfile"]["securityType"] == one.security_type
    assert machine["securityProfile"].get("uefiSettings", {}).get("secureBootEnabled", False) is False
    assert machine["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"] is True
    (key,) = machine["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key == {"path": "/home/azureuser/.ssh/authorized_keys", "keyData": one.public_key}
    assert "adminPassword" not in json.dumps(found)
    assert machine["storageProfile"]["osDisk"]["deleteOption"] == "Delete"
    assert machine["networkProfile"]["networkInterfaces"][0]["properties"]["deleteOption"] == "Delete"
    assert found[VM].get("plan") == one.image.plan


@given(ANYTHING, ANYTHING)
def test_what_people_typed_is_never_part_of_the_template(text: str, other: str):
    """An owner's name that looks like an expression is a parameter, and stays a name."""
    one = plan(tags={"owner": f"[{text}]"}, public_key=f"[concat({other})]")
    assert template.template(one) == template.template(plan())
    assert resources(one)[VM]["tags"] == {"owner": f"[{text}]"}


def test_standard_is_asked_for_with_an_api_that_knows_it():
    assert resources(plan())[VM]["apiVersion"] >= "2025-11-01"


# -- names ------------------------------------------------------------------------------------------------------------


@given(NAMES)
def test_good_names(name: str):
    names.check_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"), ("a" * 60, "60 characters"), ("a_b", "hyphens"), ("-a", "hyphen at an end"), ("a-", "hyphen at an end"),
        ("12345", "digits only"), ("free", "free tier"), ("my-windows-vm", "keeps for itself"), ("login1", "keeps for itself"),
        ("größe", "letters, digits"), ("a b", "letters, digits"), ("a/b", "letters, digits"), ("a\n", "letters, digits"),
        ("[x]", "letters, digits"),
    ],
)  # fmt: skip
def test_bad_names_say_why(name: str, words: str):
    with pytest.raises(BadRequest) as caught:
        names.check_name(name)
    assert words in str(caught.value)
    assert caught.value.advice


@given(st.text(max_size=80))
def test_whatever_passes_is_a_name_that_azure_takes(name: str):
    try:
        names.check_name(name)
    except BadRequest:
        return
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,57}[A-Za-z0-9])?", name)


@pytest.mark.parametrize("name", ["admin", "root", "ROOT", "1", "Ada", "ada.l", "-ada", "a" * 33, "", "ada\n"])
def test_accounts_that_cannot_be(name: str):
    with pytest.raises(ConfigurationError):
        names.check_account(name, "AzureCompute.ssh_user")


def test_groups_locations_and_disks():
    names.check_group("Web-Prod_1(x)")
    assert names.check_location("West Europe") == "westeurope"
    for bad in ("ends.", "a" * 91, "a/b", ""):
        with pytest.raises(BadRequest):
            names.check_group(bad)
    for bad in ("west/europe", "", "x" * 50):
        with pytest.raises(BadRequest):
            names.check_location(bad)
    names.check_disk(None)
    names.check_disk(256)
    for size in (0, -1, 5000):
        with pytest.raises(BadRequest):
            names.check_disk(size)


@pytest.mark.parametrize(
    ("text", "network"),
    [("203.0.113.7", "203.0.113.7/32"), (" 203.0.113.0/24 ", "203.0.113.0/24"), ("10.1.2.3", "10.1.2.3/32")],
)
def test_sources(text: str, network: str):
    assert names.source_network(text, by_administrator=False) == network


@given(st.integers(0, 23), st.integers(1, 223))
def test_wide_networks_are_the_administrators(prefix: int, first: int):
    network = f"{first}.0.0.0/{prefix}" if prefix >= 8 else f"0.0.0.0/{prefix}"
    with pytest.raises(BadRequest):
        names.source_network(network, by_administrator=False)
    if prefix >= 8 and first != 127:
        assert names.source_network(network, by_administrator=True) == network


@pytest.mark.parametrize(
    "text", ["*", "Internet", "0.0.0.0/0", "::/0", "2001:db8::1", "203.0.113.7/24", "127.0.0.1", "169.254.1.1", ""]
)
def test_sources_that_cannot_be(text: str):
    with pytest.raises(BadRequest):
        names.source_network(text, by_administrator=False)
    with pytest.raises(ConfigurationError):
        names.source_network(text, by_administrator=True)


def test_images():
    assert template.image("a:b:c").reference == {"publisher": "a", "offer": "b", "sku": "c", "version": "latest"}
    assert template.image("a:b:c:1.2").reference["version"] == "1.2"
    gallery = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/galleries/team/images/gpu/versions/1.0.0"
    assert template.image(gallery).own_id == gallery
    assert template.image(gallery).text == "gpu"
    for bad in ("", "ubuntu", "a:b", "a:b:c:d:e", "[a]:b:c", "/subscriptions/x", "microsoft-dsvm:dsvm-win-2022:x"):
        with pytest.raises(ConfigurationError):
            template.image(bad)
    with pytest.raises(ConfigurationError):
        template.image("a:b:c", "only-two:parts")


# -- what somebody wants ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name and location and size are not said"),
        ({"name": "a", "location": "b", "size": " "}, "size is not said"),
        ({"name": 1, "location": "b", "size": "c"}, "name has to be a text"),
        ({"name": "a", "location": "b", "size": "c", "disk_gib": True}, "a whole number"),
        ({"name": "a", "location": "b", "size": "c", "private": "yes"}, "true or false"),
        ({"name": "a" * 300, "location": "b", "size": "c"}, "longer than 200"),
        ({"name": "a", "location": "b", "size": "c", "image": "mine"}, "no 'image'"),
    ],
)
def test_bodies_that_are_refused(body: dict[str, Any], words: str):
    with pytest.raises(BadRequest) as caught:
        NewCompute.from_json(body)
    assert words in caught.value.message


def test_a_body_and_back():
    wanted = NewCompute.from_json({"name": " a ", "location": "b", "size": "c", "disk_gib": 64, "subscription": None})
    assert wanted == NewCompute("a", "b", "c", disk_gib=64)
    assert NewCompute.from_json(wanted.to_json()) == wanted


# -- what a deployment failed of ----------------------------------------------------------------------------------------


def test_the_reason_inside_a_failed_deployment():
    """As recorded: the resource's error is JSON in the message of a detail."""
    inner = {"code": "AllocationFailed", "message": "Allocation failed."}
    wrapped = {"code": "Conflict", "message": json.dumps({"error": inner}, indent=2).replace("\n", "\r\n")}
    error = {"code": "DeploymentFailed", "message": "At least one …", "details": [wrapped]}
    assert innermost(error)["code"] == "AllocationFailed"
    plain = {
        "code": "InvalidTemplateDeployment",
        "message": "…",
        "details": [{"code": "QuotaExceeded", "message": "no"}],
    }
    assert innermost(plain)["code"] == "QuotaExceeded"
    for empty in (
        {},
        {"code": "DeploymentFailed"},
        {"code": "DeploymentFailed", "details": ["x"]},
        {"message": "{not json"},
    ):
        assert innermost(empty) == empty
    deep: dict[str, Any] = {"code": "DeploymentFailed", "message": "x"}
    for _ in range(50):
        deep = {"code": "DeploymentFailed", "details": [deep]}
    assert innermost(deep)["code"] == "DeploymentFailed"
