"""What the emulator answers about sizes, quotas and prices; a part of ``routes.Handler``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from .offers import parsed_filter
from .refusal import Refusal

if TYPE_CHECKING:
    from .arm import Arm

Json = dict[str, Any]

OFFER_ROUTES = (
    ("GET", r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.compute/skus", "skus"),
    (
        "GET",
        r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.compute/locations/(?P<location>[^/]+)/usages",
        "usages",
    ),
    ("GET", r"/(?P<door>[^/]+)/api/retail/prices", "prices"),
)

PRICES_PATH = re.compile(r"/([^/]+)/api/retail/prices/?", re.IGNORECASE)
"""Azure's own price list needs no sign-in. Here a secret first part of the path keeps strangers out, who have no token to show."""

PRICES_PER_PAGE = 1000


class OfferRoutes:
    arm: Arm
    base: str
    get_query_argument: Any
    _spend: Any

    def on_skus(self, sub: str) -> Json:
        subscription = self.arm.known_subscription(sub)
        self.arm.raise_fault("skus")
        text = self.get_query_argument("$filter", "")
        match = re.fullmatch(r"\s*location eq '([^']*)'\s*", text)
        if text and match is None:
            raise Refusal(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
        places = sorted(self.arm.locations)
        wanted = [match[1].lower()] if match else places
        return {"value": self.arm.offers.skus(subscription, [p for p in wanted if p in places])}

    def on_usages(self, sub: str, location: str) -> Json:
        subscription = self.arm.known_subscription(sub)
        self.arm.raise_fault("usages")
        self._spend("HighCostGet3Min;159", "HighCostGet30Min;799")
        return {"value": self.arm.offers.usages(self.arm.records, subscription, location.lower())}

    def on_prices(self, door: str) -> Json:
        self.arm.raise_fault("prices")
        text = self.get_query_argument("$filter", "")
        currency = self.get_query_argument("currencyCode", "'USD'").strip("'")
        try:
            items = self.arm.offers.retail_items(parsed_filter(text), currency)
        except ValueError as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        skip = self.get_query_argument("$skip", "0")
        if not skip.isdigit():
            raise Refusal(400, "BadRequest", "$skip has to be a number.")
        size = min(PRICES_PER_PAGE, max(1, self.arm.timings.price_page_size))
        page, end = items[int(skip) : int(skip) + size], int(skip) + size
        query = {"api-version": self.get_query_argument("api-version"), "currencyCode": f"'{currency}'"}
        query |= {"$filter": text, "$skip": str(end)}
        more = f"{self.base}/{door}/api/retail/prices?{urlencode(query, quote_via=quote, safe='$')}"
        return {
            "BillingCurrency": currency,
            "CustomerEntityId": "Default",
            "CustomerEntityType": "Retail",
            "Items": page,
            "NextPageLink": more if end < len(items) else None,
            "Count": len(page),
        }
