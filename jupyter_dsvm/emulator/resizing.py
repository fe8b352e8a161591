"""Which sizes a VM can be changed to, and Azure's words where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    if record.machine.generation not in SIZES[size].generations:
        raise Refusal(
            400,
            "BadRequest",
            f"The selected VM size '{size}' cannot boot Hypervisor Generation '{record.machine.generation[1]}'. If "
            "this was a Create operation please check that the Hypervisor Generation of the Image matches the "
            "Hypervisor Generation of the selected VM Size. If this was an Update operation please select a "
            f"Hypervisor Generation '{record.machine.generation[1]}' VM Size.",
        )
    if bool(SIZES[size].temporary_disk_gib) != bool(SIZES[record.size].temporary_disk_gib):
        raise Refusal(
            409,
            "OperationNotAllowed",
            f"Unable to resize the VM '{record.machine.name}' since changing from resource disk to non-resource disk VM "
            "size and vice-versa is not allowed. Please refer to https://aka.ms/AAah4sj for more details.",
        )
    return size
