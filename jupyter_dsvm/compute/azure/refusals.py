"""After a refusal: what would work instead. Looked up once the answer is known, so that nothing is asked for nothing.

Called by the provider with the error that it is about to raise. Whatever goes wrong here leaves that error as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...errors import ComputeError
from .errors import fault_of
from .faults import AzureFault, Quota, quota_of
from .listing import SUBSCRIPTIONS_API
from .skus import Sku, Usage, alternatives, skus, usages

if TYPE_CHECKING:
    from .client import ArmClient
    from .machine import VirtualMachine

NO_ROOM = frozenset(
    c.lower()
    for c in (
        "SkuNotAvailable", "AllocationFailed", "ZonalAllocationFailed", "OverconstrainedAllocationRequest",
        "OverconstrainedZonalAllocationRequest", "QuotaExceeded",
    )
)  # fmt: skip

REGIONAL = "cores"
"""The region's quota in the list of usages."""

FREE_OFFERS = {"freetrial": "a free trial", "azureforstudents": "an Azure for Students subscription"}
"""How the ``quotaId`` of a subscription without GPUs begins, and what to call it."""


def advise(error: ComputeError, client: ArmClient, machine: VirtualMachine) -> None:
    """Add to the error's advice which sizes can be had, and whether the subscription is one that gets no GPU."""
    fault = _fault(error)
    if fault is None:
        return
    quota = quota_of(fault.text)
    if quota is None and not NO_ROOM & fault.codes:
        return
    size, location = machine.compute.size, machine.compute.location
    offered: Mapping[str, Sku] = {}
    quotas: Mapping[str, Usage] = {}
    if size is not None and location:
        offered, quotas = _offers(client, machine.subscription, location)
    like = offered.get(size.name.lower()) if size is not None else None
    if quota is not None:
        quotas = {**quotas, **_as_refused(quota, quotas)}
    found = []
    refused_gpu = size is not None and size.gpus != 0  # or one whose name says nothing
    if refused_gpu and (
        (quota is not None and quota.limit == 0) or (like is not None and like.gpus and like.restricted)
    ):
        found.append(free_offer(client, machine.subscription))
    if like is not None and like.restricted:
        found.append(f"Azure does not offer {like.name} in {location} to this subscription ({like.restricted}).")
    names = alternatives(offered, quotas, like.name, machine.generation, machine.zones) if like is not None else []
    if names:
        found.append(f"Offered in {location}, and within the quota: {', '.join(names)}.")
    error.advice = " ".join(filter(None, [error.advice, *found]))


def _as_refused(quota: Quota, quotas: Mapping[str, Usage]) -> Mapping[str, Usage]:
    """What the refusal says of its quota, under the name that the list has for it: it is newer than the list."""
    refused = _plain(quota.family)
    name = REGIONAL if refused == "totalregional" else next((n for n in quotas if _plain(n) == refused), None)
    return {} if name is None else {name: Usage(quota.used, quota.limit)}


def _plain(family: str) -> str:
    """``Standard NCASv3_T4 Family`` in a list is ``standardNCASv3_T4 Family Cores`` in a refusal."""
    return family.lower().removesuffix("cores").replace(" ", "")


def _fault(error: ComputeError) -> AzureFault | None:
    from azure.core.exceptions import HttpResponseError  # imported already by whoever raised it

    cause = error.__cause__
    return fault_of(cause) if isinstance(cause, HttpResponseError) and cause.response is not None else None


def free_offer(client: ArmClient, subscription: str) -> str:
    """A sentence if the subscription is of a kind that gets no GPU; empty if it is not, or may not be read."""
    try:
        with client.translated("read the subscription"):
            policies = client.get(f"/subscriptions/{subscription}", SUBSCRIPTIONS_API).get("subscriptionPolicies")
    except ComputeError:
        return ""
    offer = str(policies.get("quotaId") or "").lower() if isinstance(policies, Mapping) else ""
    kind = next((words for prefix, words in FREE_OFFERS.items() if offer.startswith(prefix)), None)
    return (
        f"This is {kind}, which gets no GPU sizes; its upgrade to pay-as-you-go is in the Azure portal." if kind else ""
    )


def _offers(client: ArmClient, subscription: str, location: str) -> tuple[Mapping[str, Sku], Mapping[str, Usage]]:
    """What Azure's lists say; nothing unless both can be read: a size without quota would be refused as well."""
    try:
        with client.translated("list the sizes"):
            offered = skus(client, subscription, location)
        with client.translated("list the quotas"):
            return offered, usages(client, subscription, location)
    except (ComputeError, TypeError, ValueError, AttributeError):
        return {}, {}
