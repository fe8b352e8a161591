"""The sizes that a new VM can have, and why not another: pure, but for the lists that it asks Azure for.

Called by ``preflight``, for the form and before a deployment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ...errors import BadRequest, OperationRefused
from ...models import OS, Size, SizeOffer
from .places import Subscription
from .prices import key
from .refusals import REGIONAL
from .sizes import size as size_of
from .skus import Sku, Usage, skus, usages

if TYPE_CHECKING:
    from .client import ArmClient
    from .provider import AzureCompute

PATIENCE = 3.0
"""Seconds that a list of sizes waits for prices."""
LEAST_MEMORY = 3.5
"""GiB below which the image's own services leave no room for a kernel."""
NV = "The drivers of the Data Science VM image do not work on NV sizes: their GPU cannot be used."


def possible(one: Sku, generation: str) -> bool:
    """Whether a VM of the image could ever have this size; what could not is not shown."""
    return (
        generation in one.generations
        and one.architecture == "x64"
        and not one.confidential
        and bool(one.vcpus)
        and (one.memory_gib is None or one.memory_gib >= LEAST_MEMORY)
    )


def obstacle(one: Sku, quotas: Mapping[str, Usage], subscription: Subscription, allowed: Iterable[str] = ()) -> str:
    """Why a VM of this size cannot be made there now, in a sentence; empty if it can."""
    patterns = [pattern.lower() for pattern in allowed]
    if patterns and not any(fnmatchcase(one.name.lower(), pattern) for pattern in patterns):
        return "The administrator does not allow this size."
    if one.gpus and subscription.free:
        return f"The subscription is {subscription.free}, which gets no GPU sizes; pay-as-you-go does."
    if one.restricted == "NotAvailableForSubscription":
        return "Azure does not offer it to this subscription in this region."
    if one.restricted:
        return f"Azure does not offer it in this region ({one.restricted})."
    wanted = one.vcpus or 0
    for name, words in ((one.family.lower(), f"the family {one.family}"), (REGIONAL, "all sizes of the region")):
        usage = quotas.get(name)
        if usage is not None and usage.limit - usage.used < wanted:
            return (
                f"The quota of cores for {words} leaves no room: {usage.used} of {usage.limit} are in use, {wanted} more are "
                "needed."
            )
    return ""


def warnings(one: Sku) -> tuple[str, ...]:
    return (NV,) if one.name.lower().startswith("standard_nv") else ()


def shown(one: Sku) -> Size:
    known = size_of(one.name)
    return Size(one.name, one.vcpus, one.memory_gib, one.gpus, known.gpu_model)


def offers(
    azure: AzureCompute, client: ArmClient, subscription: Subscription, location: str, generation: str
) -> Iterable[SizeOffer]:
    offered, quotas = _region(client, subscription, location)
    trusted = azure.create_security_type != "Standard"
    rows = [one for one in offered.values() if possible(one, generation) and (one.trusted_launch or not trusted)]
    found = [
        SizeOffer(shown(one), available=not (why := obstacle(one, quotas, subscription, azure.create_sizes)), reason=why,
                  warnings=warnings(one))
        for one in rows
    ]  # fmt: skip
    keys = {o.size.name: key(location, o.size.name, OS.LINUX) for o in found if o.available}
    prices = azure._prices().known(keys.values(), PATIENCE)
    found = [replace(o, price=prices.get(keys[o.size.name])) if o.size.name in keys else o for o in found]
    return sorted(
        found,
        key=lambda o: (not o.available, bool(o.size.gpus), o.size.vcpus or 0, o.size.memory_gib or 0, o.size.name),
    )


def _region(client: ArmClient, subscription: Subscription, location: str) -> tuple[dict[str, Sku], dict[str, Usage]]:
    with client.translated(f"list the sizes of {location}"):
        offered = skus(client, subscription.id, location)
    with client.translated(f"list the quotas of {location}"):
        return offered, usages(client, subscription.id, location)


def checked_size(
    azure: AzureCompute, client: ArmClient, subscription: Subscription, location: str, size: str, generation: str
) -> Sku:
    offered, quotas = _region(client, subscription, location)
    fits = [
        o
        for o in offered.values()
        if possible(o, generation) and not obstacle(o, quotas, subscription, azure.create_sizes)
    ]
    instead = sorted((o for o in fits if not o.gpus), key=lambda o: (o.vcpus or 0, o.memory_gib or 0, o.name))[:3]
    advice = f"Offered in {location}: {', '.join(o.name for o in instead)}." if instead else "Choose another region."
    one = offered.get(size.lower())
    if one is None:
        raise BadRequest(f"There is no size {size} in {location}.", advice=advice, code="BadSize")
    if not possible(one, generation):
        raise OperationRefused(
            f"{one.name} cannot run the image: it needs an x64 size for generation {generation[1:]} VMs with at least "
            f"{LEAST_MEMORY:g} GiB of memory.",
            advice=advice,
            code="BadSize",
        )
    if azure.create_security_type != "Standard" and not one.trusted_launch:
        raise OperationRefused(
            f"{one.name} has no Trusted Launch, which AzureCompute.create_security_type asks for.",
            advice=advice,
            code="BadSize",
        )
    why = obstacle(one, quotas, subscription, azure.create_sizes)
    if why:
        if one.gpus:
            with_gpu = sorted((o for o in fits if o.gpus), key=lambda o: (o.vcpus or 0, o.name))[:3]
            advice = f"With a GPU there are {', '.join(o.name for o in with_gpu)}." if with_gpu else advice
        if why.startswith("The quota"):
            advice += " More quota can be asked for at https://aka.ms/quotas."
        raise OperationRefused(f"A {one.name} cannot be made in {location}. {why}", advice=advice, code=_code(why))
    return one


def _code(why: str) -> str:
    return "QuotaExceeded" if why.startswith("The quota") else "SkuNotAvailable"
