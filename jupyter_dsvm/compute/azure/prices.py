"""What a size costs per hour, as an estimate: Azure's Retail Prices API, asked once a day for each region and size.

``Prices.known`` is called by the provider for the rows of a listing, ``lookup`` by whoever shows sizes to choose from. The
API is public: no token goes there, and nothing is asked but regions and sizes. What it does not say is absent, never
guessed: a negotiated price, a reservation or a credit is not in it, nor disks and addresses, which a deallocated VM still
pays for.

Request and answer: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from ...errors import ComputeError
from ...models import OS, Price, utc_now
from .credentials import is_loopback, origin

PUBLIC_ENDPOINT = "https://prices.azure.com"
PATH = "/api/retail/prices"
API_VERSION = "2023-01-01-preview"

A_DAY = 86400.0
SOON = 600.0
"""Seconds after which prices that could not be had are asked for again."""

SIZES_PER_REQUEST = 12
"""So that the address stays below 2,000 characters."""

MOST_PAGES = 20
TIMEOUT = 10.0
"""Seconds for one request."""
LARGEST_PAGE = 4 << 20


@dataclass(frozen=True)
class Key:
    """Region and size in lower case, and the operating system: Windows costs more. ``key`` makes it."""

    region: str
    size: str
    os: OS
    spelled: str = field(default="", compare=False)
    """The size as Azure spells it: the API compares with regard to case (since 2023-01-01-preview)."""


def key(region: str, size: str, os: OS) -> Key:
    return Key(region.lower(), size.lower(), os, size)


# -- pure -------------------------------------------------------------------------------------------------------------


def address(endpoint: str, region: str, sizes: Iterable[str], currency: str) -> str:
    names = " or ".join(f"armSkuName eq '{_literal(size)}'" for size in sizes)
    conditions = (
        "serviceName eq 'Virtual Machines'",
        f"armRegionName eq '{_literal(region)}'",
        f"({names})",
        "priceType eq 'Consumption'",
    )
    query = {"api-version": API_VERSION, "currencyCode": f"'{_literal(currency)}'", "$filter": " and ".join(conditions)}
    return f"{endpoint.rstrip('/')}{PATH}?{urlencode(query, quote_via=quote, safe='$')}"


def _literal(text: str) -> str:
    return text.replace("'", "''")


def prices_of(items: Iterable[Any], as_of: str) -> dict[Key, Price]:
    """By the API's items. A size for which two different prices are left has none."""
    found: dict[Key, dict[bool, dict[float, Price]]] = {}
    for item in items:
        if not isinstance(item, Mapping) or not _counts(item, as_of):
            continue
        amount = item.get("retailPrice")
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 < amount < 100_000:
            continue
        os = OS.WINDOWS if str(item.get("productName")).endswith(" Windows") else OS.LINUX
        where = key(str(item.get("armRegionName")), str(item.get("armSkuName")), os)
        price = Price(float(amount), str(item.get("currencyCode") or "USD")[:3], as_of)
        primary = item.get("isPrimaryMeterRegion", True) is not False
        found.setdefault(where, {}).setdefault(primary, {})[price.amount] = price
    # What a region is billed by is the primary meter; where there is none, the other has to do.
    chosen = {where: kinds.get(True) or kinds[False] for where, kinds in found.items()}
    return {where: next(iter(prices.values())) for where, prices in chosen.items() if len(prices) == 1}


def _counts(item: Mapping[str, Any], as_of: str) -> bool:
    """Neither Spot nor low priority nor reserved nor out of date: what a VM costs that was simply started."""
    return (
        item.get("type", "Consumption") == "Consumption"
        and item.get("unitOfMeasure", "1 Hour") == "1 Hour"
        and not item.get("tierMinimumUnits")
        and not str(item.get("meterName")).endswith((" Low Priority", " Spot"))
        and not str(item.get("skuName")).endswith((" Spot", " Low Priority"))
        and not str(item.get("productName")).endswith("CloudServices")
        and str(item.get("effectiveStartDate") or "") <= as_of
        and str(item.get("effectiveEndDate") or "9999") > as_of
    )


# -- asking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    price: Price | None
    until: float


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Prices:
    """Thread-safe. ``endpoint`` may be empty: then nothing is known and nobody is asked."""

    def __init__(self, endpoint: str, currency: str = "USD", clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ``ComputeError`` for an endpoint that is none."""
        self._endpoint, self._currency, self._clock = endpoint, currency, clock
        self._lock = threading.Lock()  # protects the two below, and is held for no request
        self._kept: dict[Key, _Kept] = {}
        self._asking: threading.Thread | None = None
        if not endpoint:
            return
        try:
            self._origin = origin(endpoint)
        except ValueError as error:
            raise ComputeError(
                f"AzureCompute.prices_endpoint cannot be used: {error}.",
                advice="Leave it out, or set it to an empty text to show no prices.",
                code="Configuration",
            ) from None
        handlers: list[Any] = [_NoRedirect()]
        if is_loopback(self._origin[1]):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def known(self, keys: Iterable[Key], patience: float = 0.0) -> dict[Key, Price]:
        """Those that are known; what is missing is asked for meanwhile, and waited for ``patience`` seconds."""
        wanted = dict.fromkeys(keys)
        deadline = time.monotonic() + patience
        # Twice: what is under way may be somebody else's question, and then ours comes after it.
        for _ in range(2):
            asking = self._ask(wanted)
            if asking is None:
                break
            asking.join(max(0.0, deadline - time.monotonic()))
            if asking.is_alive():
                break
        with self._lock:
            return {k: kept.price for k in wanted if (kept := self._kept.get(k)) is not None and kept.price is not None}

    def lookup(self, keys: Iterable[Key]) -> dict[Key, Price]:
        """Blocks until each has been asked for, or for as long as a price list may take."""
        return self.known(keys, 4 * TIMEOUT)

    def _ask(self, wanted: Iterable[Key]) -> threading.Thread | None:
        """The thread that asks for what is not known or out of date; one at a time."""
        if not self._endpoint:
            return None
        now = self._clock()
        with self._lock:
            missing = [k for k in wanted if k not in self._kept or self._kept[k].until <= now]
            if not missing or (self._asking is not None and self._asking.is_alive()):
                return self._asking if missing else None
            # A daemon: a server that ends does not wait for a price.
            self._asking = threading.Thread(target=self._fetch, args=(missing,), name="dsvm-prices", daemon=True)
            self._asking.start()
            return self._asking

    def _fetch(self, missing: Sequence[Key]) -> None:
        regions: dict[str, dict[str, None]] = {}
        for one in missing:
            regions.setdefault(one.region, {})[one.spelled] = None
        for region, sizes in regions.items():
            names = list(sizes)
            for start in range(0, len(names), SIZES_PER_REQUEST):
                some = names[start : start + SIZES_PER_REQUEST]
                try:
                    items = self._items(address(self._endpoint, region, some, self._currency))
                    found, lifetime = prices_of(items, utc_now()), A_DAY
                except (OSError, ValueError, HTTPException, RecursionError):
                    # Nothing depends on a price; it is absent, and asked for again soon.
                    found, lifetime = {}, SOON
                self._keep(region, some, found, lifetime)

    def _keep(self, region: str, sizes: Iterable[str], found: Mapping[Key, Price], lifetime: float) -> None:
        until = self._clock() + lifetime
        with self._lock:
            for size in sizes:
                for os in OS:
                    where = key(region, size, os)
                    before = self._kept.get(where)
                    # Yesterday's price, with its date, says more than none.
                    price = found.get(where) or (before.price if before is not None and lifetime == SOON else None)
                    self._kept[where] = _Kept(price, until)

    def _items(self, url: str) -> list[Any]:
        items: list[Any] = []
        for _ in range(MOST_PAGES):
            page = self._page(url)
            if not isinstance(page.get("Items"), list):
                raise ValueError("no Items")
            items.extend(page["Items"])
            link = page.get("NextPageLink")
            if not link:
                return items
            # Its host carries the port, ":443"; another host, or plain http, is not asked.
            if origin(str(link)) != self._origin:
                raise ValueError("the next page is elsewhere")
            url = str(link)
        raise ValueError("more pages than there can be")

    def _page(self, url: str) -> dict[str, Any]:
        # http or https: ``origin`` has seen to that.
        request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "jupyter-dsvm"})  # noqa: S310
        with self._opener.open(request, timeout=TIMEOUT) as response:
            page = json.loads(response.read(LARGEST_PAGE))
        if not isinstance(page, dict):
            raise ValueError("no JSON object")
        return page

    def close(self) -> None:
        """Wait for a request that is under way, but not long."""
        with self._lock:
            asking = self._asking
        if asking is not None:
            asking.join(1.0)
