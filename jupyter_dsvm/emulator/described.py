"""The VM that a template describes, as a record of no consequence yet: for validation, and for making it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from . import made
from .estate import DISK, VM, Group
from .machines import SIZES, Machine
from .made import Made
from .records import Record
from .refusal import Refusal
from .resizing import checked_size

if TYPE_CHECKING:
    from .arm import Arm

Json = dict[str, Any]


def described(arm: Arm, resource: Json, group: Group) -> Record:
    """The VM that a template describes, of no consequence yet."""
    properties = made.checked(resource["name"], resource)
    location = str(resource.get("location") or "")
    if location not in arm.locations:
        raise Refusal(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type '{VM}'. List of available regions for "
            f"the resource type is '{','.join(arm.locations)}'.",
        )
    reference = properties["storageProfile"].get("imageReference") or {}
    image, generation, gallery = _image(arm, reference)
    disk = str(properties["storageProfile"]["osDisk"].get("name") or f"{resource['name']}_OsDisk_1")
    machine = Machine(
        name=resource["name"],
        resource_group=group.name,
        subscription=group.subscription,
        size=str((properties.get("hardwareProfile") or {}).get("vmSize") or ""),
        image=image,
        location=location,
        generation=generation,
        tags={str(k): str(v) for k, v in (resource.get("tags") or {}).items()},
        plan=None,
        gallery_image=gallery,
        **arm.newcomers,
    )
    interface = str(properties["networkProfile"]["networkInterfaces"][0].get("id"))
    said = Made(
        properties=properties,
        disk_id=f"{group.id}/providers/{DISK}/{disk}",
        interface_id=interface,
        address_id="",
        plan=resource.get("plan"),
    )
    # ``checked_size`` compares with the size the VM has: it has none yet.
    sized = Record(machine, str(uuid.uuid4()), None, said)
    names = {name.lower(): name for name in SIZES}
    sized.size = names.get(machine.size.lower(), machine.size)
    sized.size = checked_size(sized, machine.size)
    return sized


def _image(arm: Arm, reference: Json) -> tuple[tuple[str, str, str], str, tuple[str, str, str] | None]:
    """Publisher, offer and sku, the generation, and those of the gallery image if it is one."""
    own = str(reference.get("id") or "")
    for record in arm.records:
        machine = record.machine
        gallery = record.gallery_image_id
        if own and gallery and own.lower().startswith(gallery.lower()):
            return machine.image, machine.generation, machine.gallery_image
        named = (reference.get("publisher"), reference.get("offer"), reference.get("sku"))
        if not own and tuple(str(v).lower() for v in named) == tuple(v.lower() for v in machine.image):
            return machine.image, machine.generation, None
    publisher, offer, sku = (str(reference.get(k) or "") for k in ("publisher", "offer", "sku"))
    if (publisher.lower(), offer.lower()) == ("microsoft-dsvm", "ubuntu-2204") and sku in ("2204", "2204-gen2"):
        return (publisher, offer, sku), "V2" if sku.endswith("gen2") else "V1", None
    shown = own or ":".join([publisher, offer, sku, str(reference.get("version") or "")])
    raise Refusal(
        404,
        "PlatformImageNotFound",
        f"The platform image '{shown}' is not available. Verify that all fields in the storage profile are correct. For more "
        "details about storage profile information, please refer to https://aka.ms/storageprofile",
        target="imageReference",
    )
