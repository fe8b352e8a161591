"""The deployment template of a new DSVM: pure, no I/O.

``create`` sends it as one deployment. Whatever a person typed is a parameter, never a part of the template: text in a template
that begins with ``[`` is an expression, a parameter's value is not. There is no secret in it: the SSH key is the public half.
Syntax: https://learn.microsoft.com/azure/azure-resource-manager/templates/syntax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigurationError

Json = dict[str, Any]

SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"

VM_API = "2025-11-01"
"""The first in which ``securityType`` may be ``Standard`` without the preview feature
``Microsoft.Compute/UseStandardSecurityType`` (https://github.com/Azure/azure-cli/issues/33280). Before it, leaving the type out was
the only other way, and what that means is Azure's to change: Trusted Launch is becoming the default."""
NETWORK_API = "2023-11-01"
DISK_API = "2023-04-02"

NSG, VNET, ADDRESS, INTERFACE, VM, DISK = (
    "Microsoft.Network/networkSecurityGroups",
    "Microsoft.Network/virtualNetworks",
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Compute/virtualMachines",
    "Microsoft.Compute/disks",
)
APIS = {NSG: NETWORK_API, VNET: NETWORK_API, ADDRESS: NETWORK_API, INTERFACE: NETWORK_API, VM: VM_API, DISK: DISK_API}

SUFFIXES = {NSG: "-nsg", VNET: "-vnet", ADDRESS: "-ip", INTERFACE: "-nic", VM: "", DISK: "-osdisk"}
SUBNET = "default"

# -- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    reference: Mapping[str, str]
    """As ``imageReference`` takes it."""
    text: str
    plan: Mapping[str, str] | None = None

    @property
    def own_id(self) -> str:
        """The resource id of an image that somebody made; empty for the marketplace's."""
        return self.reference.get("id", "")


_OWN_IMAGE = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/"
    r"(?:images/[^/]+|galleries/[^/]+/images/[^/]+(?:/versions/[^/]+)?)",
    re.IGNORECASE,
)
_URN_PART = re.compile(r"[A-Za-z0-9._-]{1,80}", re.ASCII)


def image(text: str, plan: str = "") -> Image:
    """From ``AzureCompute.create_image`` and ``create_image_plan``. Raises ``ConfigurationError``."""
    text, parts = text.strip(), text.strip().split(":")
    purchase = None
    if plan:
        bought = plan.strip().split(":")
        if len(bought) != 3 or not all(_URN_PART.fullmatch(p) for p in bought):
            raise ConfigurationError(
                f"AzureCompute.create_image_plan is {plan[:120]!r}.",
                advice="Write PUBLISHER:PRODUCT:NAME, or leave it out.",
            )
        purchase = dict(zip(("publisher", "product", "name"), bought, strict=True))
    if _OWN_IMAGE.fullmatch(text):
        segments = text.strip("/").split("/")
        return Image({"id": text}, segments[-3] if "versions" in text.lower().split("/") else segments[-1], purchase)
    if len(parts) in (3, 4) and all(_URN_PART.fullmatch(p) for p in parts):
        if "win" in parts[1].lower():
            raise ConfigurationError(
                f"AzureCompute.create_image is {text!r}: notebooks cannot run on Windows.", advice="Name a Linux image."
            )
        reference = dict(zip(("publisher", "offer", "sku", "version"), [*parts, "latest"][:4], strict=True))
        return Image(reference, ":".join(parts[:3]), purchase)
    raise ConfigurationError(
        f"AzureCompute.create_image is {text[:120]!r}, which is no image.",
        advice="Write PUBLISHER:OFFER:SKU:VERSION of the marketplace, or the resource id of a managed or gallery image.",
    )


# -- the template -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Everything that the template says of a VM, checked."""

    subscription: str
    group: str
    name: str
    location: str
    size: str
    image: Image
    admin: str
    public_key: str
    tags: Mapping[str, str]
    """On every resource."""
    source: str = ""
    """The network that may reach port 22; empty for a VM without a public address."""
    subnet: str = ""
    """The resource id of a subnet that is there already; empty: a network of its own."""
    disk_gib: int | None = None
    disk_kind: str = "Premium_LRS"
    security_type: str = "Standard"
    secure_boot: bool = False

    @property
    def private(self) -> bool:
        return not self.source

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is made, in the order in which it can be."""
        return tuple(
            kind
            for kind in (NSG, VNET, ADDRESS, INTERFACE, VM, DISK)
            if not (kind == ADDRESS and self.private) and not (kind == VNET and self.subnet)
        )

    def id_of(self, kind: str) -> str:
        return resource_id(self.subscription, self.group, kind, self.name + SUFFIXES[kind])

    @property
    def ids(self) -> dict[str, str]:
        """By kind: the ids of all that it makes."""
        return {kind: self.id_of(kind) for kind in self.kinds}


def resource_id(subscription: str, group: str, kind: str, name: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{kind}/{name}"


def deployment(plan: Plan) -> Json:
    """The body of the deployment's PUT."""
    values = {
        "name": plan.name,
        "location": plan.location,
        "size": plan.size,
        "adminUsername": plan.admin,
        "sshPublicKey": plan.public_key,
        "tags": dict(plan.tags),
    }
    if not plan.private:
        values["sourceAddress"] = plan.source
    if plan.subnet:
        values["subnet"] = plan.subnet
    return {
        "properties": {
            "mode": "Incremental",
            "template": template(plan),
            "parameters": {name: {"value": value} for name, value in values.items()},
        }
    }


def template(plan: Plan) -> Json:
    declared = ["name", "location", "size", "adminUsername", "sshPublicKey"]
    declared += [] if plan.private else ["sourceAddress"]
    declared += ["subnet"] if plan.subnet else []
    makers = {NSG: _nsg, VNET: _vnet, ADDRESS: _address, INTERFACE: _interface, VM: _vm}
    return {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": {**{name: {"type": "string"} for name in declared}, "tags": {"type": "object"}},
        "variables": {
            _variable(kind): f"[concat(parameters('name'), '{SUFFIXES[kind]}')]" for kind in plan.kinds if kind != VM
        },
        "resources": [makers[kind](plan) for kind in plan.kinds if kind != DISK],
        "outputs": {"vm": {"type": "string", "value": f"[resourceId('{VM}', parameters('name'))]"}},
    }


def _variable(kind: str) -> str:
    return {NSG: "securityGroup", VNET: "network", ADDRESS: "address", INTERFACE: "interface", DISK: "disk"}[kind]


def _named(kind: str) -> str:
    """The expression of a resource's name, without its brackets."""
    return "parameters('name')" if kind == VM else f"variables('{_variable(kind)}')"


def _id(kind: str) -> str:
    return f"[resourceId('{kind}', {_named(kind)})]"


def _resource(kind: str, properties: Json, depends_on: tuple[str, ...] = (), **more: Any) -> Json:
    return {
        "type": kind,
        "apiVersion": APIS[kind],
        "name": f"[{_named(kind)}]",
        "location": "[parameters('location')]",
        "tags": "[parameters('tags')]",
        "dependsOn": [_id(other) for other in depends_on],
        **more,
        "properties": properties,
    }


def _nsg(plan: Plan) -> Json:
    """Azure's own rules of a new group deny what comes from outside; one more opens SSH. Without a public address there is none."""
    rule = {
        "name": "ssh-from-jupyter",
        "properties": {
            "priority": 1000,
            "direction": "Inbound",
            "access": "Allow",
            "protocol": "Tcp",
            "sourceAddressPrefix": "[parameters('sourceAddress')]",
            "sourcePortRange": "*",
            "destinationAddressPrefix": "*",
            "destinationPortRange": "22",
        },
    }
    return _resource(NSG, {"securityRules": [] if plan.private else [rule]})


def _vnet(plan: Plan) -> Json:
    subnet = {"name": SUBNET, "properties": {"addressPrefix": "10.0.0.0/24"}}
    return _resource(VNET, {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": [subnet]})


def _address(plan: Plan) -> Json:
    properties = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
    return _resource(ADDRESS, properties, sku={"name": "Standard", "tier": "Regional"})


def _interface(plan: Plan) -> Json:
    subnet = "[parameters('subnet')]" if plan.subnet else (
        f"[resourceId('{VNET}/subnets', {_named(VNET)}, '{SUBNET}')]"
    )  # fmt: skip
    address: Json = {"privateIPAllocationMethod": "Dynamic", "subnet": {"id": subnet}}
    if not plan.private:
        # Deleting the VM deletes its address too: one that is left over is billed.
        address["publicIPAddress"] = {"id": _id(ADDRESS), "properties": {"deleteOption": "Delete"}}
    properties = {
        "ipConfigurations": [{"name": "ipconfig1", "properties": address}],
        "networkSecurityGroup": {"id": _id(NSG)},
    }
    needed = tuple(kind for kind in (NSG, VNET, ADDRESS) if kind in plan.kinds)
    return _resource(INTERFACE, properties, needed)


def _vm(plan: Plan) -> Json:
    security: Json = {"securityType": plan.security_type}
    if plan.security_type != "Standard":
        # Secure Boot may refuse the image's NVIDIA module, which nobody has signed for it.
        security["uefiSettings"] = {"secureBootEnabled": plan.secure_boot, "vTpmEnabled": True}
    disk: Json = {
        "name": f"[{_named(DISK)}]",
        "createOption": "FromImage",
        "caching": "ReadWrite",
        "deleteOption": "Delete",
        "managedDisk": {"storageAccountType": plan.disk_kind},
    }
    if plan.disk_gib is not None:
        disk["diskSizeGB"] = plan.disk_gib
    key = {
        "path": "[concat('/home/', parameters('adminUsername'), '/.ssh/authorized_keys')]",
        "keyData": "[parameters('sshPublicKey')]",
    }
    properties: Json = {
        "hardwareProfile": {"vmSize": "[parameters('size')]"},
        "securityProfile": security,
        "storageProfile": {"imageReference": dict(plan.image.reference), "osDisk": disk},
        "osProfile": {
            "computerName": "[parameters('name')]",
            "adminUsername": "[parameters('adminUsername')]",
            "linuxConfiguration": {
                "disablePasswordAuthentication": True,
                "provisionVMAgent": True,
                "ssh": {"publicKeys": [key]},
            },
        },
        "networkProfile": {
            "networkInterfaces": [{"id": _id(INTERFACE), "properties": {"primary": True, "deleteOption": "Delete"}}]
        },
        # Azure keeps the serial log itself: nobody pays for a storage account.
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
    }
    more = {} if plan.image.plan is None else {"plan": dict(plan.image.plan)}
    return _resource(VM, properties, (INTERFACE,), **more)
