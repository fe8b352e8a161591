"""A VM that was made in a deployment: what its template said, and Azure's shapes of it and of what was made around it.

Pure. Members that are not known are refused as the compute service refuses them; of the others the template's own word is shown.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from .refusal import Refusal

Json = dict[str, Any]

FIRST_API_WITH_STANDARD = "2025-11-01"
"""Before it ``Standard`` needs the feature UseStandardSecurityType (https://github.com/Azure/azure-cli/issues/33280); what Azure
answers without: https://github.com/Azure/azure-cli/issues/31234."""

_MEMBERS = {
    "VirtualMachineProperties": {
        "hardwareProfile", "securityProfile", "storageProfile", "osProfile", "networkProfile", "diagnosticsProfile",
    },
    "StorageProfile": {"imageReference", "osDisk", "dataDisks"},
    "OSProfile": {"computerName", "adminUsername", "linuxConfiguration"},
    "SecurityProfile": {"securityType", "uefiSettings"},
    "NetworkProfile": {"networkInterfaces"},
    "OSDisk": {"name", "createOption", "caching", "deleteOption", "managedDisk", "diskSizeGB"},
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """What the template said of a VM."""

    properties: Json
    disk_id: str
    interface_id: str
    address_id: str
    """Empty without a public address."""
    plan: Json | None = None

    @property
    def admin(self) -> str:
        return str(self.properties["osProfile"]["adminUsername"])

    @property
    def key(self) -> str:
        return str(self.properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"])

    @property
    def image(self) -> Json:
        found: Json = self.properties["storageProfile"]["imageReference"]
        return found

    def deletes(self, what: str) -> bool:
        """Whether deleting the VM deletes its ``disk`` or its ``interface``."""
        profile = self.properties["storageProfile"]["osDisk"]
        if what == "interface":
            profile = self.properties["networkProfile"]["networkInterfaces"][0].get("properties") or {}
        return str(profile.get("deleteOption")) == "Delete"


def checked(name: str, resource: Json) -> Json:
    """The properties of a VM in a template. Raises what the compute service answers where they cannot be."""
    properties = resource.get("properties")
    if not isinstance(properties, dict):
        raise _bad("Required parameter 'properties' is missing (null).", "properties")
    storage, os_profile = _part(properties, "storageProfile"), _part(properties, "osProfile")
    security, network = properties.get("securityProfile") or {}, _part(properties, "networkProfile")
    for kind, given in (
        ("VirtualMachineProperties", properties),
        ("StorageProfile", storage),
        ("OSProfile", os_profile),
        ("SecurityProfile", security),
        ("NetworkProfile", network),
        ("OSDisk", _part(storage, "osDisk")),
    ):
        for member in given:
            if member not in _MEMBERS[kind]:
                raise _bad(f"Could not find member '{member}' on object of type '{kind}'. Path '{member}'.", member)
    security_type = security.get("securityType")
    too_early = security_type == "Standard" and str(resource.get("apiVersion")) < FIRST_API_WITH_STANDARD
    if security_type not in (None, "Standard", "TrustedLaunch", "ConfidentialVM") or too_early:
        raise Refusal(
            400,
            "InvalidParameter",
            "The value of parameter securityProfile.securityType is invalid.",
            target="securityProfile.securityType",
        )
    admin = str(os_profile.get("adminUsername") or "")
    if not admin or admin.lower() in ("admin", "administrator", "root", "user", "guest", "test"):
        raise Refusal(400, "InvalidParameter", "The Admin Username specified is not allowed.", target="adminUsername")
    linux = _part(os_profile, "linuxConfiguration")
    keys = (linux.get("ssh") or {}).get("publicKeys") or []
    if linux.get("disablePasswordAuthentication") is not True or len(keys) != 1:
        raise Refusal(
            400,
            "InvalidParameter",
            "Authentication using either SSH or by user name and password must be enabled in Linux profile.",
            target="linuxConfiguration",
        )
    if keys[0].get("path") != f"/home/{admin}/.ssh/authorized_keys":
        raise Refusal(
            400,
            "InvalidParameter",
            "Destination path for SSH public keys is currently limited to its default value "
            f"/home/{admin}/.ssh/authorized_keys  due to a known issue in Linux provisioning agent.",
            target="linuxConfiguration.ssh.publicKeys.path",
        )
    if not str(keys[0].get("keyData")).startswith(("ssh-ed25519 ", "ssh-rsa ")):
        raise Refusal(
            400,
            "InvalidParameter",
            "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid.",
            target="linuxConfiguration.ssh.publicKeys.keyData",
        )
    computer = str(os_profile.get("computerName") or "")
    if not 1 <= len(computer) <= 64 or computer.isdigit():
        raise Refusal(
            400,
            "InvalidParameter",
            "Linux host name cannot exceed 64 characters in length or contain the following characters: ` ~ ! @ # $ % ^ & * ( ) "
            "= + _ [ ] { } \\ | ; : ' \" , < > / ?.",
            target="computerName",
        )
    if len(network.get("networkInterfaces") or []) != 1:
        raise _bad("Required parameter 'networkProfile.networkInterfaces' is missing (null).", "networkProfile")
    return properties


def _part(given: Json, name: str) -> Json:
    found = given.get(name)
    if not isinstance(found, dict):
        raise _bad(f"Required parameter '{name}' is missing (null).", name)
    return found


def _bad(message: str, target: str) -> Refusal:
    return Refusal(400, "BadRequest", message, target=target)


def apply(body: Json, made: Made, machine_image: Json) -> None:
    """Show in the VM's ``body`` what its template said."""
    properties, given = body["properties"], made.properties
    properties["securityProfile"] = dict(given.get("securityProfile") or {})
    storage = properties["storageProfile"]
    storage["imageReference"] = dict(made.image) if made.image.get("id") else machine_image
    disk = storage["osDisk"]
    disk |= {k: v for k, v in given["storageProfile"]["osDisk"].items() if k != "managedDisk"}
    kind = (given["storageProfile"]["osDisk"].get("managedDisk") or {}).get("storageAccountType", "Premium_LRS")
    disk["managedDisk"] = {"storageAccountType": kind, "id": made.disk_id}
    properties["osProfile"]["adminUsername"] = made.admin
    properties["osProfile"]["computerName"] = given["osProfile"]["computerName"]
    properties["osProfile"]["linuxConfiguration"]["ssh"] = given["osProfile"]["linuxConfiguration"]["ssh"]
    interface = {**given["networkProfile"]["networkInterfaces"][0], "id": made.interface_id}
    properties["networkProfile"] = {"networkInterfaces": [interface]}
    if given.get("diagnosticsProfile"):
        properties["diagnosticsProfile"] = given["diagnosticsProfile"]
    if made.plan is not None:
        body["plan"] = dict(made.plan)


# -- what is around it ------------------------------------------------------------------------------------------------


def network_body(resource_id: str, resource: Json) -> Json:
    """A network resource as a GET shows it, from the template's."""
    kind = str(resource["type"])
    properties = {
        **(resource.get("properties") or {}),
        "provisioningState": "Succeeded",
        "resourceGuid": str(uuid.uuid4()),
    }
    if kind.endswith("/networkSecurityGroups"):
        properties["securityRules"] = [
            _child(resource_id, "securityRules", rule, kind) for rule in properties.get("securityRules") or ()
        ]
        properties["defaultSecurityRules"] = []
    elif kind.endswith("/virtualNetworks"):
        properties["subnets"] = [_child(resource_id, "subnets", one, kind) for one in properties.get("subnets") or ()]
    elif kind.endswith("/publicIPAddresses"):
        properties |= {"idleTimeoutInMinutes": 4, "ipTags": []}
    elif kind.endswith("/networkInterfaces"):
        properties["ipConfigurations"] = [
            _child(resource_id, "ipConfigurations", one, kind) for one in properties.get("ipConfigurations") or ()
        ]
        for one in properties["ipConfigurations"]:
            one["properties"] |= {"primary": True, "privateIPAddressVersion": "IPv4"}
        properties["enableAcceleratedNetworking"] = False
    body: Json = {
        "name": resource["name"],
        "id": resource_id,
        "type": kind,
        "location": resource.get("location"),
        "etag": f'W/"{uuid.uuid4()}"',
        "properties": properties,
    }
    for more in ("tags", "sku"):
        if resource.get(more):
            body[more] = resource[more]
    return body


def _child(parent: str, kind: str, given: Json, of: str) -> Json:
    return {
        "name": given["name"],
        "id": f"{parent}/{kind}/{given['name']}",
        "type": f"{of}/{kind}",
        "properties": {**(given.get("properties") or {}), "provisioningState": "Succeeded"},
    }


def disk_body(made: Made, vm_id: str, location: str, time_created: str, gib: int) -> Json:
    """The disk that a VM makes for itself; it has no tags."""
    kind = (made.properties["storageProfile"]["osDisk"].get("managedDisk") or {}).get(
        "storageAccountType", "Premium_LRS"
    )
    return {
        "name": made.disk_id.rsplit("/", 1)[-1],
        "id": made.disk_id,
        "type": "Microsoft.Compute/disks",
        "location": location,
        "managedBy": vm_id,
        "sku": {"name": kind, "tier": "Premium" if kind.startswith("Premium") else "Standard"},
        "properties": {
            "osType": "Linux",
            "hyperVGeneration": "V2",
            "creationData": {"createOption": "FromImage", "imageReference": {"id": "/Subscriptions/…"}},
            "diskSizeGB": gib,
            "timeCreated": time_created,
            "provisioningState": "Succeeded",
            "diskState": "Attached",
        },
    }
