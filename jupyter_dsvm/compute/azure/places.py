"""Where a new VM can go: the subscriptions and regions that the account has and the administrator allows.

Called by ``preflight``. Everything here only reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import BadRequest, ComputeError, NotAllowed
from ..creating import LocationOffer
from . import names
from .listing import SUBSCRIPTIONS_API
from .refusals import FREE_OFFERS

if TYPE_CHECKING:
    from .client import ArmClient
    from .provider import AzureCompute


@dataclass(frozen=True)
class Subscription:
    id: str
    name: str
    state: str
    tenant: str
    """The tenant to ask there, as ``AzureCompute.tenants`` has it; empty for the account's own."""
    free: str = ""
    """What to call the offer if it has no GPUs; empty if it is none of those."""


def subscriptions(azure: AzureCompute) -> list[Subscription]:
    """Of all tenants, the account's own first. Raises if that cannot be asked."""
    found: dict[str, Subscription] = {}
    for tenant in ("", *azure.tenants):
        client = azure._arm(tenant)
        try:
            with client.translated("list the subscriptions"):
                rows = list(client.pages("/subscriptions", SUBSCRIPTIONS_API))
        except ComputeError:
            if not tenant:
                raise
            continue  # the listing of VMs says so
        for row in rows:
            policies = row.get("subscriptionPolicies")
            offer = str((policies if isinstance(policies, Mapping) else {}).get("quotaId") or "").lower()
            one = Subscription(
                id=str(row.get("subscriptionId") or ""),
                name=str(row.get("displayName") or row.get("subscriptionId") or ""),
                state=str(row.get("state") or ""),
                tenant=tenant,
                free=next((words for prefix, words in FREE_OFFERS.items() if offer.startswith(prefix)), ""),
            )
            if one.id:
                found.setdefault(one.id.lower(), one)
    return list(found.values())


def locations(azure: AzureCompute, client: ArmClient, subscription: Subscription) -> tuple[LocationOffer, ...]:
    """Regions, without what only groups them (Europe, Global), that the administrator allows."""
    with client.translated(f"list the regions of {subscription.name}"):
        rows = list(client.pages(f"/subscriptions/{subscription.id}/locations", SUBSCRIPTIONS_API))
    allowed = {one.replace(" ", "").lower() for one in azure.create_locations}
    return tuple(
        LocationOffer(str(row["name"]).lower(), str(row.get("displayName") or row["name"]))
        for row in sorted(rows, key=lambda row: str(row.get("displayName")))
        if row.get("name")
        and str((row.get("metadata") or {}).get("regionType") or "Physical") == "Physical"
        and (not allowed or str(row["name"]).lower() in allowed)
    )


def unusable(azure: AzureCompute, one: Subscription) -> str:
    if azure.create_subscriptions and not {one.id.lower(), one.name.lower()} & {
        text.lower() for text in azure.create_subscriptions
    }:
        return "The administrator does not allow VMs to be made there."
    return f"It is {one.state.lower()}." if one.state.lower() not in ("enabled", "warned", "pastdue") else ""


def chosen_subscription(azure: AzureCompute, every: list[Subscription], text: str | None) -> Subscription:
    """By id or name; the only one there is where none is named."""
    usable = [one for one in every if not unusable(azure, one)]
    if not text:
        if len(usable) != 1:
            raise which(usable)
        return usable[0]
    found = [one for one in every if text.lower() == one.id.lower()]
    found = found or [one for one in every if text.lower() == one.name.lower()]
    if len(found) != 1:
        many = f"{len(found)} subscriptions are called {text!r}." if found else f"There is no subscription {text!r}."
        names = ", ".join(f"{one.name} ({one.id})" for one in found or usable)
        raise BadRequest(many, advice=f"Name one of {names}." if names else "", code="UnknownSubscription")
    why = unusable(azure, found[0])
    if why:
        raise NotAllowed(f"No VM can be made in the subscription {found[0].name}. {why}")
    return found[0]


def which(usable: list[Subscription]) -> BadRequest:
    if not usable:
        return BadRequest(
            "There is no subscription in which a VM can be made.",
            advice="Sign in with an account that has one, or ask whoever administers this server.",
            code="NoSubscription",
        )
    return BadRequest(
        "There are several subscriptions, so the one for the new VM has to be named.",
        advice=f"Name one of {', '.join(one.name for one in usable)} (`--subscription` on the command line).",
        code="WhichSubscription",
    )


def place(places: Iterable[LocationOffer], text: str) -> str:
    name = names.check_location(text)
    known = [place.name for place in places]
    if name not in known:
        raise BadRequest(
            f"There is no region {name!r} for this subscription, or the administrator does not allow it.",
            advice=f"Name one of {', '.join(known)}.",
            code="BadLocation",
        )
    return name
