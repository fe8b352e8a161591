"""Which sizes a VM can be changed to, and Azure's words where it cannot.

The words on generation, temporary disk, hardware cluster, properties and unknown sizes are Azure's own. Those on disk
controllers, disks, interfaces, architecture, hibernation and ephemeral disks say the same thing in words of this file, under the
codes that Azure has for such refusals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .machines import SIZES
from .refusal import Refusal

if TYPE_CHECKING:
    from .records import Record


def checked_size(record: Record, size: str) -> str:
    """The size as Azure spells it. Raises what Azure answers where the VM cannot have it."""
    names = {name.lower(): name for name in SIZES}
    if size.lower() not in names:
        raise Refusal(
            400,
            "InvalidParameter",
            f"The value {size} provided for the VM size is not valid. The valid sizes in the current region are: "
            f"{','.join(SIZES)}. Find out more on the valid VM sizes in each region at https://aka.ms/azure-regions.",
            target="vmSize",
        )
    size = names[size.lower()]
    machine, new, old = record.machine, SIZES[size], SIZES[record.size]
    if size == record.size:
        return size
    if record.hibernated:
        raise _not_allowed(record, "the VM is hibernated")
    if machine.generation not in new.generations:
        raise Refusal(
            400,
            "BadRequest",
            f"The selected VM size '{size}' cannot boot Hypervisor Generation '{machine.generation[1]}'. If "
            "this was a Create operation please check that the Hypervisor Generation of the Image matches the "
            "Hypervisor Generation of the selected VM Size. If this was an Update operation please select a "
            f"Hypervisor Generation '{machine.generation[1]}' VM Size.",
        )
    if new.architecture != old.architecture:
        raise Refusal(
            400,
            "BadRequest",
            f"Cannot create a VM of size '{size}' because this VM size only supports a CPU Architecture of "
            f"'{new.architecture}', but an image or disk with CPU Architecture '{old.architecture}' was given. Please check "
            "that the CPU Architecture of the image or disk is compatible with that of the VM size.",
        )
    if bool(new.confidential) != (machine.security == "ConfidentialVM"):
        raise _not_allowed(record, f"the size {size} and the security type of the VM do not go together")
    if machine.disk_controller not in (new.controllers or ("SCSI",)):
        raise Refusal(
            400,
            "InvalidParameter",
            f"The VM size '{size}' cannot boot with OS image or disk. Please check that disk controller types supported by the "
            f"OS image or disk is one of the supported disk controller types for the VM size '{size}'. Please query sku api at "
            "https://aka.ms/azure-compute-skus to determine supported disk controller types for the VM size.",
            target="vmSize",
        )
    if bool(new.temporary_disk_gib) != bool(old.temporary_disk_gib):
        raise _not_allowed(
            record,
            "changing from resource disk to non-resource disk VM size and vice-versa is not allowed. Please refer to "
            "https://aka.ms/AAah4sj for more details",
            "since",
        )
    if machine.os_disk.startswith("Premium") and not new.premium:
        raise Refusal(
            400,
            "InvalidParameter",
            f"Requested operation cannot be performed because the VM size {size} does not support the storage account type "
            f"{machine.os_disk} of disk '{machine.name}_OsDisk_1'. Consider updating the VM to a size that supports Premium "
            "storage.",
            target="vmSize",
        )
    if machine.data_disks > new.data_disks:
        raise _not_allowed(
            record,
            f"the number of data disks attached ({machine.data_disks}) exceeds the maximum of {new.data_disks} for {size}",
        )
    if machine.interfaces > new.interfaces:
        raise Refusal(
            400,
            "NetworkInterfaceCountExceeded",
            f"The number of network interfaces for virtual machine {machine.name} exceeds the maximum allowed for the virtual "
            f"machine size {size}. The number of network interfaces is {machine.interfaces} and the maximum allowed is "
            f"{new.interfaces}.",
        )
    if machine.accelerated_networking and not new.accelerated:
        raise Refusal(
            400,
            "VMSizeIsNotPermittedToEnableAcceleratedNetworking",
            f"The VM size '{size}' is not supported for enabling accelerated networking at present.",
        )
    if record.allocated and new.cluster != old.cluster:
        there = ",".join(name for name, one in SIZES.items() if one.cluster == old.cluster)
        raise Refusal(
            409,
            "OperationNotAllowed",
            f"Unable to resize the VM '{machine.name}' because the requested size {size} is not available in the current "
            f"hardware cluster. The available sizes are: {there}. Read more on VM resizing strategy at "
            "https://aka.ms/azure-resizevm.",
            target="vmSize",
        )
    return size


def check_release(record: Record, hibernate: bool) -> None:
    """Raise what Azure answers where the VM cannot be deallocated."""
    if record.machine.ephemeral:
        raise Refusal(
            409,
            "OperationNotAllowed",
            "This operation is not supported for a VM that has an ephemeral OS disk.",
        )
    if hibernate and (not record.machine.hibernation or record.power != "running"):
        raise Refusal(
            409,
            "OperationNotAllowed",
            f"The VM '{record.machine.name}' cannot hibernate since hibernation was not enabled on it.",
        )


def immutable(record: Record, asked: dict[str, Any]) -> Refusal | None:
    """What Azure answers to a change of what cannot be changed in a VM that exists; None if there is none."""
    properties = asked.get("properties") or {}
    profile, storage = properties.get("osProfile") or {}, properties.get("storageProfile") or {}
    fixed = ("adminPassword", "adminUsername", "computerName", "customData")
    for part, names in (
        (profile, fixed),
        (storage, ("imageReference",)),
    ):
        for name in names:
            if part.get(name) is not None:
                return Refusal(
                    409, "PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.", target=name
                )
    return None


def _not_allowed(record: Record, why: str, joint: str = "because") -> Refusal:
    return Refusal(409, "OperationNotAllowed", f"Unable to resize the VM '{record.machine.name}' {joint} {why}.")
