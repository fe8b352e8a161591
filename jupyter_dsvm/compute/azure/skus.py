"""The sizes that a region offers to a subscription, and how much of each family it may use: Azure's own lists.

Called by ``refusals`` when a size was refused, and by whoever offers sizes to choose from. ``sku`` and ``alternatives``
are pure. Capabilities: https://learn.microsoft.com/rest/api/compute/resource-skus/list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import ArmClient

SKUS_API = "2021-07-01"
USAGES_API = "2024-07-01"


@dataclass(frozen=True)
class Sku:
    """A size in a region. What Azure does not say is None."""

    name: str
    family: str
    """The name of its quota in the list of usages."""
    vcpus: int | None
    memory_gib: float | None
    gpus: int
    generations: frozenset[str]
    """``V1``, ``V2``: generations of VMs that it boots."""
    temporary_disk: bool | None
    architecture: str
    """``x64`` or ``Arm64``."""
    disk_controllers: frozenset[str]
    """``SCSI``, ``NVMe``; sizes that say nothing have SCSI."""
    premium_disks: bool
    max_data_disks: int | None
    max_interfaces: int | None
    trusted_launch: bool
    confidential: bool
    """For confidential VMs, which no other VM can become."""
    zones: frozenset[str]
    restricted: str
    """Why it cannot be had anywhere in the region (``NotAvailableForSubscription``, ``QuotaId``); empty if it can."""
    restricted_zones: frozenset[str]
    accelerated: bool | None = None
    """Whether it has accelerated networking."""
    usable_vcpus: int | None = None
    """Of a constrained size fewer than ``vcpus``, which is what its quota counts."""
    retires: str = ""
    """Day on which Azure retires it, ISO 8601; empty where the list does not say."""


@dataclass(frozen=True)
class Usage:
    used: int
    limit: int


def sku(item: Mapping[str, Any], location: str) -> Sku | None:
    """One item of the list; None if it is no size of a VM."""
    if str(item.get("resourceType")).lower() != "virtualmachines" or not item.get("name"):
        return None
    has = {str(c.get("name")): str(c.get("value")) for c in _mappings(item.get("capabilities"))}
    disk = _number(has.get("MaxResourceVolumeMB"))
    restricted, restricted_zones = _restrictions(item, location)
    vcpus, gpus = _number(has.get("vCPUs")), _number(has.get("GPUs"))
    return Sku(
        name=str(item["name"]),
        family=str(item.get("family") or ""),
        vcpus=None if vcpus is None else int(vcpus),
        memory_gib=_number(has.get("MemoryGB")),
        gpus=math.ceil(gpus or 0),  # a sixth of a GPU is one for whoever looks for a size with GPU
        generations=frozenset(v.strip().upper() for v in has.get("HyperVGenerations", "V1").split(",")),
        temporary_disk=None if disk is None else disk > 0,
        architecture=has.get("CpuArchitectureType", "x64"),
        disk_controllers=frozenset(v.strip() for v in has.get("DiskControllerTypes", "SCSI").split(",")),
        premium_disks=has.get("PremiumIO") == "True",
        max_data_disks=_whole(has.get("MaxDataDiskCount")),
        max_interfaces=_whole(has.get("MaxNetworkInterfaces")),
        trusted_launch=has.get("TrustedLaunchDisabled") != "True",
        confidential=bool(has.get("ConfidentialComputingType")),
        zones=frozenset(
            str(z)
            for info in _mappings(item.get("locationInfo"))
            if str(info.get("location")).lower() == location.lower()
            for z in info.get("zones") or ()
        ),
        restricted=restricted,
        restricted_zones=restricted_zones,
        accelerated={"True": True, "False": False}.get(has.get("AcceleratedNetworkingEnabled", "")),
        usable_vcpus=_whole(has.get("vCPUsAvailable")),
        retires=_day(has.get("RetirementDateUtc", "")),
    )


def from_vm_sizes(item: Mapping[str, Any]) -> Sku | None:
    """One item of ``GET …/virtualMachines/NAME/vmSizes``: the sizes that this VM can be changed to, as far as Azure checks that
    itself. What the item does not say is None, or as wide as can be. Spellings are those of the API."""
    if not item.get("name"):
        return None
    disk = item.get("resourceDiskSizeInMB")
    memory = item.get("memoryInMB")
    return Sku(
        name=str(item["name"]),
        family="",
        vcpus=_integer(item.get("numberOfCores")),
        memory_gib=memory / 1024 if isinstance(memory, (int, float)) else None,
        gpus=0,
        generations=frozenset(),
        temporary_disk=disk > 0 if isinstance(disk, (int, float)) else None,
        architecture="",
        disk_controllers=frozenset(),
        premium_disks=True,
        max_data_disks=_integer(item.get("maxDataDiskCount")),
        max_interfaces=None,
        trusted_launch=True,
        confidential=False,
        zones=frozenset(),
        restricted="",
        restricted_zones=frozenset(),
    )


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _day(text: str) -> str:
    """``08/31/2023`` as ``2023-08-31``; empty for anything else."""
    match = re.fullmatch(r"(\d\d)/(\d\d)/(\d{4})", text.strip())
    return f"{match[3]}-{match[1]}-{match[2]}" if match else ""


def _restrictions(item: Mapping[str, Any], location: str) -> tuple[str, frozenset[str]]:
    everywhere = ""
    zones: set[str] = set()
    for restriction in _mappings(item.get("restrictions")):
        info = restriction.get("restrictionInfo")
        info = info if isinstance(info, Mapping) else {}
        if str(restriction.get("type")).lower() == "zone":
            zones.update(str(z) for z in info.get("zones") or ())
            continue
        locations = [str(v).lower() for v in info.get("locations") or restriction.get("values") or ()]
        if not locations or location.lower() in locations:
            everywhere = str(restriction.get("reasonCode") or "Restricted")
    return everywhere, frozenset(zones)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def skus(client: ArmClient, subscription: str, location: str) -> dict[str, Sku]:
    """By name in lower case. Raises what ``client`` raises."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.Compute/skus"
    items = client.pages(path, SKUS_API, filter=f"location eq '{location}'")
    found = (sku(item, location) for item in items if isinstance(item, Mapping))
    return {one.name.lower(): one for one in found if one is not None}


def usages(client: ArmClient, subscription: str, location: str) -> dict[str, Usage]:
    """By the quota's name in lower case; ``cores`` is the whole region's. Raises what ``client`` raises."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/usages"
    found = {}
    for item in client.pages(path, USAGES_API):
        name = (item.get("name") or {}).get("value") if isinstance(item, Mapping) else None
        if name is not None:
            found[str(name).lower()] = Usage(int(item.get("currentValue") or 0), int(item.get("limit") or 0))
    return found


def room(size: Sku, quotas: Mapping[str, Usage]) -> bool:
    """Whether the quotas leave room for one more VM of this size; a quota that is not listed does not stop it."""
    wanted = size.vcpus or 0
    return all(
        usage is None or usage.limit - usage.used >= wanted
        for usage in (quotas.get(size.family.lower()), quotas.get("cores"))
    )


def alternatives(
    offered: Mapping[str, Sku],
    quotas: Mapping[str, Usage],
    refused: str,
    generation: str | None = None,
    zones: Iterable[str] = (),
    most: int = 3,
) -> list[str]:
    """Sizes that could take the place of one that was refused, the most similar first.

    They boot the VM's generation, can be had in its zone and within the quotas, and have a temporary disk if the refused one
    has; with a GPU if it has one. NV sizes are none: the image's drivers do not work there.
    """
    like = offered.get(refused.lower())
    if like is None or not like.vcpus:
        return []
    in_zones = frozenset(zones)

    def fits(one: Sku) -> bool:
        return (
            one.name.lower() != refused.lower()
            and not one.restricted
            and not one.name.lower().startswith("standard_nv")
            and (generation is None or generation in one.generations)
            and one.architecture == like.architecture
            and one.confidential == like.confidential
            and bool(one.gpus) == bool(like.gpus)
            and one.temporary_disk == like.temporary_disk
            and one.disk_controllers >= like.disk_controllers
            and one.premium_disks >= like.premium_disks
            and in_zones <= one.zones - one.restricted_zones
            and bool(one.vcpus)
            and room(one, quotas)
        )

    def distance(one: Sku) -> tuple[float, float, str]:
        cores = abs(math.log2((one.vcpus or 1) / (like.vcpus or 1)))
        memory = abs(math.log2((one.memory_gib or 1) / (like.memory_gib or 1)))
        return cores, memory, one.name

    return [one.name for one in sorted(filter(fits, offered.values()), key=distance)[:most]]
