"""What Azure offers to whom: sizes and their restrictions, quotas and what is used of them, capacity, and list prices.

The rules can be changed while the emulator runs; the first that fits counts. ``arm`` asks before it gives a VM hardware,
``offer_routes`` shows the lists. Shapes as of Microsoft.Compute's skus (2021-07-01) and usages, and of the Retail
Prices API.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .machines import SIZES, SizeInfo, Subscription
from .pacing import ANY, fits
from .refusal import Refusal

if TYPE_CHECKING:
    from .records import Record

Json = dict[str, Any]

REGIONAL = "cores"
"""The name of the quota for all sizes of a region."""

USUAL_LIMITS = {REGIONAL: 10_000}
USUAL_LIMIT = 500
FREE_LIMIT = 4
SPOT_SHARE = 0.2


@dataclass(frozen=True)
class Quota:
    """Cores of a family of sizes, or ``cores`` for the region's."""

    family: str
    limit: int
    subscription: str = ANY
    location: str = ANY


@dataclass
class Capacity:
    """How many more VMs get hardware there; what is deallocated gives its place back."""

    machines: int
    size: str = ANY
    location: str = ANY
    vm: str = ANY
    others: bool = False
    """Others take at once what is given back."""


@dataclass(frozen=True)
class Restriction:
    """A size that a subscription does not get; ``zones``: not in those, but elsewhere in the region."""

    size: str
    reason: str = "NotAvailableForSubscription"
    subscription: str = ANY
    location: str = ANY
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListPrice:
    """Per hour, with Linux; None: the price list does not have it."""

    size: str
    usd: float | None
    location: str = ANY


@dataclass
class Offers:
    quotas: list[Quota] = field(default_factory=list)
    capacity: list[Capacity] = field(default_factory=list)
    restrictions: list[Restriction] = field(default_factory=list)
    prices: list[ListPrice] = field(default_factory=list)

    # -- quotas -------------------------------------------------------------------------------------------------------

    def limit(self, subscription: Subscription, location: str, family: str) -> int:
        for rule in self.quotas:
            in_place = fits(rule.location, location) and (
                fits(rule.subscription, subscription.id) or fits(rule.subscription, subscription.name)
            )
            if in_place and rule.family.lower() == family.lower():
                return rule.limit
        if subscription.free:
            return 0 if any(s.gpus for s in SIZES.values() if s.family == family) else FREE_LIMIT
        return USUAL_LIMITS.get(family, USUAL_LIMIT)

    def check_quota(self, records: Iterable[Record], record: Record, subscription: Subscription, size: str) -> None:
        """Raise what Azure answers to a VM that would exceed a quota with this size."""
        used = usage(records, subscription.id, record.machine.location)
        mine = SIZES[record.size] if record.allocated else None
        wanted = SIZES[size]
        for family in (wanted.family, REGIONAL):
            own = mine.vcpus if mine is not None and family in (mine.family, REGIONAL) else 0
            needed, current = wanted.vcpus - own, used.get(family, 0)
            limit = self.limit(subscription, record.machine.location, family)
            if needed > 0 and current + needed > limit:
                raise _quota_refusal(family, record.machine.location, limit, current, needed)

    # -- capacity -----------------------------------------------------------------------------------------------------

    def check_offered(self, record: Record, subscription: Subscription, size: str) -> None:
        """Raise what Azure answers where the size is restricted for this subscription."""
        if any(
            _restricts(r, subscription, record.machine.location, size, record.machine.zones) for r in self.restrictions
        ):
            raise Refusal(
                409,
                "SkuNotAvailable",
                f"The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {size}' is "
                f"currently not available in location '{record.machine.location}'. Please try another size or deploy to a "
                "different location or different zone. See https://aka.ms/azureskunotavailable for details.",
            )

    def place(self, record: Record, size: str) -> Json | None:
        """Take hardware; the error of the operation if there is none left."""
        rule = self._rule(record, size)
        if rule is None:
            return None
        if rule.machines > 0:
            rule.machines -= 1
            return None
        zone = f" in zone {record.machine.zones[0]}" if record.machine.zones else " in this region"
        code = "ZonalAllocationFailed" if record.machine.zones else "AllocationFailed"
        wanted = f"the requested VM size {size}" if record.machine.zones else "the requested VM size"
        return {
            "code": code,
            "message": f"Allocation failed. We do not have sufficient capacity for {wanted}{zone}. Read more about improving "
            "likelihood of allocation success at https://aka.ms/allocation-guidance",
        }

    def give_back(self, record: Record, size: str) -> None:
        rule = self._rule(record, size)
        if rule is not None and not rule.others:
            rule.machines += 1

    def _rule(self, record: Record, size: str) -> Capacity | None:
        machine = record.machine
        return next(
            (
                r
                for r in self.capacity
                if fits(r.size, size) and fits(r.location, machine.location) and fits(r.vm, machine.name)
            ),
            None,
        )

    # -- the lists ----------------------------------------------------------------------------------------------------

    def skus(self, subscription: Subscription, locations: Sequence[str]) -> list[Json]:
        return [
            _sku(name, size, location, [r for r in self.restrictions if _concerns(r, subscription, location, name)])
            for location in locations
            for name, size in SIZES.items()
        ]

    def usages(self, records: Iterable[Record], subscription: Subscription, location: str) -> list[Json]:
        used = usage(records, subscription.id, location)
        rows = [_usage(REGIONAL, "Total Regional vCPUs", used, self.limit(subscription, location, REGIONAL))]
        for family in dict.fromkeys(s.family for s in SIZES.values()):
            rows.append(_usage(family, f"{family} vCPUs", used, self.limit(subscription, location, family)))
        return rows

    def retail_items(self, filters: dict[str, set[str]], currency: str) -> list[Json]:
        """What the price list has for a filter: fields in lower case, each with the values that are allowed."""
        items: list[Json] = []
        for location in sorted(filters.get("armregionname", set())):
            for name, size in SIZES.items():
                usd = next(
                    (p.usd for p in self.prices if p.size.lower() == name.lower() and fits(p.location, location)),
                    size.usd,
                )
                if usd is not None:
                    items += _retail(name, size, location, usd, currency)

        def chosen(item: Json) -> bool:
            row = {"pricetype" if k == "type" else k.lower(): str(v) for k, v in item.items()}
            # With regard to case, as the API does since 2023-01-01-preview.
            return all(row.get(name, "") in values for name, values in filters.items())

        return [item for item in items if chosen(item)]


def usage(records: Iterable[Record], subscription_id: str, location: str) -> dict[str, int]:
    """Cores in use by quota: those of VMs that have hardware."""
    used: dict[str, int] = {}
    for record in records:
        machine = record.machine
        if (
            record.allocated
            and machine.subscription.lower() == subscription_id.lower()
            and machine.location == location
        ):
            size = SIZES[record.size]
            for family in (size.family, REGIONAL):
                used[family] = used.get(family, 0) + size.vcpus
    return used


def parsed_filter(text: str) -> dict[str, set[str]]:
    """``field eq 'value'``, joined by ``and``, and by ``or`` for one field. Raises ``ValueError`` for anything else."""
    found: dict[str, set[str]] = {}
    rest = re.sub(r"(\w+) eq '((?:[^']|'')*)'", lambda m: _note(found, m), text)
    if re.sub(r"\b(and|or)\b|[()\s]", "", rest):
        raise ValueError(f"The filter {text!r} is not understood.")
    return found


def _note(found: dict[str, set[str]], match: re.Match[str]) -> str:
    found.setdefault(match[1].lower(), set()).add(match[2].replace("''", "'"))
    return ""


def _concerns(rule: Restriction, subscription: Subscription, location: str, size: str) -> bool:
    return (
        fits(rule.size, size)
        and fits(rule.location, location)
        and (fits(rule.subscription, subscription.id) or fits(rule.subscription, subscription.name))
    )


def _restricts(rule: Restriction, subscription: Subscription, location: str, size: str, zones: tuple[str, ...]) -> bool:
    return _concerns(rule, subscription, location, size) and (not rule.zones or bool(set(rule.zones) & set(zones)))


def _quota_refusal(family: str, location: str, limit: int, current: int, needed: int) -> Refusal:
    shown = "Total Regional Cores" if family == REGIONAL else f"{family} Cores"
    return Refusal(
        409,
        "OperationNotAllowed",
        f"Operation could not be completed as it results in exceeding approved {shown} quota. Additional details - "
        f"Deployment Model: Resource Manager, Location: {location}, Current Limit: {limit}, Current Usage: {current}, "
        f"Additional Required: {needed}, (Minimum) New Limit Required: {current + needed}. Submit a request for Quota "
        "increase at https://aka.ms/ProdportalCRP/#blade/Microsoft_Azure_Capacity/UsageAndQuota.ReactView/Parameters/"
        "%7B%22quotas%22:[%7B%22location%22:%22" + location + "%22%7D]%7D by specifying parameters listed in the "
        "‘Details’ section for deployment to succeed. Please read more about quota limits at "
        "https://docs.microsoft.com/en-us/azure/azure-supportability/per-vm-quota-requests",
    )


def _usage(name: str, shown: str, used: dict[str, int], limit: int) -> Json:
    return {
        "unit": "Count",
        "currentValue": used.get(name, 0),
        "limit": limit,
        "name": {"value": name, "localizedValue": shown},
    }


def _sku(name: str, size: SizeInfo, location: str, rules: list[Restriction]) -> Json:
    zones = ["1", "2", "3"]
    capabilities = {
        "MaxResourceVolumeMB": str(size.temporary_disk_gib * 1024),
        "OSVhdSizeMB": "1047552",
        "vCPUs": str(size.vcpus),
        "MemoryPreservingMaintenanceSupported": str(not size.gpus),
        "HyperVGenerations": ",".join(size.generations),
        "MemoryGB": str(size.memory_gib),
        "MaxDataDiskCount": str(size.data_disks),
        "CpuArchitectureType": size.architecture,
        "LowPriorityCapable": "True",
        "PremiumIO": str(size.premium),
        "VMDeploymentTypes": "IaaS",
        "vCPUsAvailable": str(size.vcpus),
        "vCPUsPerCore": "2",
        "EphemeralOSDiskSupported": str(size.temporary_disk_gib > 0),
        "AcceleratedNetworkingEnabled": str(size.accelerated),
        "RdmaEnabled": "False",
        "MaxNetworkInterfaces": str(size.interfaces),
    }
    if size.controllers:
        capabilities["DiskControllerTypes"] = ", ".join(size.controllers)
    if size.confidential:
        capabilities["ConfidentialComputingType"] = size.confidential
    if size.retires:
        capabilities["RetirementDateUtc"] = size.retires
    if size.gpus:
        capabilities["GPUs"] = str(size.gpus)
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "tier": "Standard",
        "size": name.removeprefix("Standard_"),
        "family": size.family,
        "locations": [location],
        "locationInfo": [{"location": location, "zones": zones, "zoneDetails": []}],
        "capabilities": [{"name": key, "value": value} for key, value in capabilities.items()],
        "restrictions": [_restriction(rule, location) for rule in rules],
    }


def _restriction(rule: Restriction, location: str) -> Json:
    kind = "Zone" if rule.zones else "Location"
    info: Json = {"locations": [location]}
    if rule.zones:
        info["zones"] = list(rule.zones)
    return {"type": kind, "values": [location], "restrictionInfo": info, "reasonCode": rule.reason}


_EXCHANGE = {"USD": 1.0, "EUR": 0.9}
"""Of the emulator's own making: enough to see that a currency is asked for."""


def _retail(name: str, size: SizeInfo, location: str, usd: float, currency: str) -> list[Json]:
    """The items of one size: Linux and Windows, each also as Spot and with low priority."""
    short = name.removeprefix("Standard_").replace("_", " ")
    product = size.product or f"Virtual Machines {size.family.removeprefix('standard').removesuffix('Family')} Series"
    rows = []
    for windows in (False, True):
        for kind, share in (("", 1.0), (" Spot", SPOT_SHARE), (" Low Priority", SPOT_SHARE)):
            price = round((usd * share + (0.046 * size.vcpus if windows else 0)) * _EXCHANGE.get(currency, 1.0), 6)
            meter = uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{location}/{windows}/{kind}")
            rows.append(
                {
                    "currencyCode": currency,
                    "tierMinimumUnits": 0.0,
                    "retailPrice": price,
                    "unitPrice": price,
                    "armRegionName": location,
                    "location": location,
                    "effectiveStartDate": "2023-06-01T00:00:00Z",
                    "meterId": str(meter),
                    "meterName": short + kind,
                    "productId": f"DZH318Z0{meter.hex[:4].upper()}",
                    "skuId": f"DZH318Z0{meter.hex[:4].upper()}/{meter.hex[4:8].upper()}",
                    "productName": product + (" Windows" if windows else ""),
                    "skuName": short + kind,
                    "serviceName": "Virtual Machines",
                    "serviceId": "DZH313Z7MMC8",
                    "serviceFamily": "Compute",
                    "unitOfMeasure": "1 Hour",
                    "type": "Consumption",
                    "isPrimaryMeterRegion": True,
                    "armSkuName": name,
                }
            )
    return rows
