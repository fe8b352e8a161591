"""New VMs by way of a hub's broker, where its rules let this person make one: the part of ``BrokerCompute`` that is a ``Maker``."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ComputeError
from ..models import Compute, Operation
from .brokershapes import offer_of, rows_of, text_of
from .creating import Creation, LocationOffer, NewCompute, SubscriptionOffer
from .provider import Cancel, Memo, Report


class Making:
    # Of BrokerCompute
    ask: Callable[..., dict[str, Any]]
    get: Callable[[str], Compute]
    _follow: Callable[..., Operation]

    def creation(self, location: str | None = None, subscription: str | None = None) -> Creation:
        """What a new VM can be like; not allowed, with the rule that says so, for most people of most hubs."""
        query = urllib.parse.urlencode({k: v for k, v in (("location", location), ("subscription", subscription)) if v})
        path = f"creation?{query}" if query else "creation"
        return creation_of(self.ask("GET", path, what="ask what a new VM can be like"))

    def create(self, wanted: NewCompute, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Return once it runs. It is this person's, by its tag."""
        body = {name: value for name, value in wanted.to_json().items() if value is not None}
        made = self._follow("create", "computes", body, report, cancel, memo)
        if made.compute is None:
            raise ComputeError("The hub's broker has made a VM and does not say which.", code="Broker")
        return self.get(made.compute)


def creation_of(data: Mapping[str, Any]) -> Creation:
    """From what ``GET creation`` answers; pure."""
    offers = [o for o in map(offer_of, rows_of(data, "sizes")) if o is not None]
    return Creation(
        allowed=data.get("allowed") is True,
        reason=text_of(data.get("reason")) or "",
        subscriptions=tuple(
            SubscriptionOffer(
                str(row.get("id")),
                str(row.get("name")),
                row.get("available") is not False,
                text_of(row.get("reason")) or "",
            )
            for row in rows_of(data, "subscriptions")
        ),
        subscription=text_of(data.get("subscription")),
        locations=tuple(
            LocationOffer(str(row.get("name")), str(row.get("text"))) for row in rows_of(data, "locations")
        ),
        location=text_of(data.get("location")),
        sizes=tuple(offers),
        image=text_of(data.get("image")) or "",
        resource_group=text_of(data.get("resource_group")) or "",
        source_address=text_of(data.get("source_address")) or "",
        private_only=data.get("private_only") is True,
        notice=text_of(data.get("notice")) or "",
    )
