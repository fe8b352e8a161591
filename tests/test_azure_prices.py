"""Prices: which item of the price list is the one, how it is asked for, and that no token goes there."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.prices import A_DAY, PUBLIC_ENDPOINT, SOON, Prices, address, key, prices_of
from jupyter_dsvm.errors import ComputeError
from jupyter_dsvm.models import OS
from support.arm_server import ArmServer, Reply, Request, arm_server, graph_row, token_file

REGIONS = Path(__file__).parents[2] / "shared/data/vm_prices_usd_by_region.json"
NOW = "2026-06-18T00:00:00.000Z"
D4, T4 = "Standard_D4ds_v5", "Standard_NC4as_T4_v3"


def item(price: float, size: str = D4, **changes: Any) -> dict[str, Any]:
    """As https://prices.azure.com/api/retail/prices answers."""
    short = size.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "westeurope",
        "location": "EU West",
        "effectiveStartDate": "2021-11-01T00:00:00Z",
        "meterName": short,
        "productName": "Virtual Machines Ddsv5 Series",
        "skuName": short,
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
        **changes,
    }


WINDOWS = {"productName": "Virtual Machines Ddsv5 Series Windows"}
OTHERS = [
    item(0.45, **WINDOWS),
    item(0.05, skuName="D4ds v5 Spot", meterName="D4ds v5 Spot"),
    item(0.06, skuName="D4ds v5 Low Priority", meterName="D4ds v5 Low Priority"),
    item(0.10, type="Reservation", unitOfMeasure="1 Hour", reservationTerm="1 Year"),
    item(0.20, type="DevTestConsumption"),
    item(0.90, effectiveStartDate="2030-01-01T00:00:00Z"),
    item(0.80, effectiveEndDate="2022-01-01T00:00:00Z"),
    item(0.70, tierMinimumUnits=100.0),
    item(0.60, isPrimaryMeterRegion=False),
    item(0.50, unitOfMeasure="1/Month"),
]


# -- pure -----------------------------------------------------------------------------------------------------------------


def test_the_plain_price_is_found_among_the_others() -> None:
    items = [item(0.272), *OTHERS]
    random.Random(1).shuffle(items)
    found = prices_of(items, NOW)
    assert {k: p.amount for k, p in found.items()} == {
        key("westeurope", D4, OS.LINUX): 0.272,
        key("westeurope", D4, OS.WINDOWS): 0.45,
    }
    price = found[key("westeurope", D4, OS.LINUX)]
    assert (price.currency, price.as_of) == ("USD", NOW)


def test_what_is_not_clear_is_absent() -> None:
    assert prices_of([item(0.2), item(0.3)], NOW) == {}
    assert len(prices_of([item(0.2), item(0.2)], NOW)) == 1
    for bad in (0, -1, None, "0.2", True, 1e9):
        assert prices_of([item(0.2, retailPrice=bad)], NOW) == {}
    assert prices_of(["x", None, []], NOW) == {}
    assert prices_of([i for i in OTHERS[1:] if i["isPrimaryMeterRegion"]], NOW) == {}
    assert len(prices_of([item(0.6, isPrimaryMeterRegion=False)], NOW)) == 1


@given(
    st.dictionaries(
        st.sampled_from(list(item(1))),
        st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.lists(st.none()),
    )
)
def test_no_item_breaks_the_reading(changes: dict[str, Any]) -> None:
    for price in prices_of([item(0.2, **changes)], NOW).values():
        assert 0 < price.amount < 100_000


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3), st.text(max_size=12))
def test_a_name_cannot_change_the_question(sizes: list[str], region: str) -> None:
    from urllib.parse import parse_qs, urlsplit

    given = parse_qs(urlsplit(address("https://x", region, sizes, "USD")).query, keep_blank_values=True)
    assert set(given) == {"api-version", "currencyCode", "$filter"}
    quoted = " or ".join("armSkuName eq '" + s.replace("'", "''") + "'" for s in sizes)
    assert f"({quoted})" in given["$filter"][0]


@pytest.mark.skipif(not REGIONS.exists(), reason="../shared/data with prices of the Retail Prices API is not there")
def test_prices_of_every_region_survive_the_reading() -> None:
    for region, prices in json.loads(REGIONS.read_text()).items():
        items = [item(price, size, armRegionName=region) for size, price in prices.items()]
        found = prices_of(items, NOW)
        assert {(k.size, p.amount) for k, p in found.items()} == {(s.lower(), p) for s, p in prices.items() if p > 0}


# -- asking ---------------------------------------------------------------------------------------------------------------


class PriceList:
    """Azure's price list with a page size of 2, and a clock that a test moves."""

    def __init__(self) -> None:
        self.items = [item(0.272), *OTHERS[:4], item(0.658, T4)]
        self.now = 1000.0
        self.broken = False
        self.link = ""
        self.url = ""

    def __call__(self, request: Request) -> Reply:
        if self.broken:
            return Reply(503, "<html>busy</html>")
        skip = int(request.query.get("$skip", 0))
        page = self.items[skip : skip + 2]
        more = skip + 2 < len(self.items)
        link = self.link or f"{self.url}/api/retail/prices?$skip={skip + 2}"
        return Reply(
            body={"BillingCurrency": "USD", "Items": page, "NextPageLink": link if more else None, "Count": len(page)}
        )


@pytest.fixture
def price_list() -> PriceList:
    return PriceList()


@pytest.fixture
def server(price_list: PriceList) -> Iterator[ArmServer]:
    with arm_server(price_list) as running:
        price_list.url = running.url
        yield running


def test_asked_once_a_day_for_all_sizes_of_a_region(server: ArmServer, price_list: PriceList) -> None:
    prices = Prices(server.url, clock=lambda: price_list.now)
    wanted = [
        key("WestEurope", D4, OS.LINUX),
        key("westeurope", T4, OS.LINUX),
        key("westeurope", "Standard_X", OS.LINUX),
    ]
    found = prices.lookup(wanted)
    assert {k.size: p.amount for k, p in found.items()} == {D4.lower(): 0.272, T4.lower(): 0.658}
    assert len(server.requests) == 3, "the pages of one question"
    assert all("authorization" not in r.headers for r in server.requests)
    assert "armRegionName eq 'westeurope'" in server.requests[0].query["$filter"]
    assert f"armSkuName eq '{D4}'" in server.requests[0].query["$filter"], "the API compares with regard to case"
    assert prices.lookup([*wanted, key("westeurope", D4, OS.WINDOWS)])[key("westeurope", D4, OS.WINDOWS)].amount == 0.45
    assert len(server.requests) == 3, "what is absent is known to be absent"
    price_list.now += A_DAY + 1
    price_list.items[0] = item(0.3)
    assert prices.lookup(wanted)[wanted[0]].amount == 0.3
    prices.close()


def test_yesterdays_price_stays_while_the_list_does_not_answer(server: ArmServer, price_list: PriceList) -> None:
    prices = Prices(server.url, clock=lambda: price_list.now)
    wanted = [key("westeurope", D4, OS.LINUX)]
    before = prices.lookup(wanted)
    price_list.broken = True
    price_list.now += A_DAY + 1
    assert prices.lookup(wanted) == before
    asked = len(server.requests)
    assert prices.lookup(wanted) == before
    assert len(server.requests) == asked, "it is left alone for a while"
    price_list.broken = False
    price_list.now += SOON + 1
    prices.lookup(wanted)
    assert len(server.requests) > asked
    prices.close()


def test_a_next_page_at_another_host_is_not_asked(server: ArmServer, price_list: PriceList) -> None:
    with arm_server(lambda request: Reply(body={"Items": [item(9.0)], "NextPageLink": None})) as elsewhere:
        price_list.link = f"{elsewhere.url}/api/retail/prices"
        prices = Prices(server.url)
        assert prices.lookup([key("westeurope", D4, OS.LINUX)]) == {}
        prices.close()
    assert elsewhere.requests == []


def test_a_redirect_is_not_followed() -> None:
    with arm_server(lambda request: Reply(body={"Items": [item(9.0)]})) as elsewhere:
        with arm_server(lambda request: Reply(302, headers={"Location": elsewhere.url})) as server:
            prices = Prices(server.url)
            assert prices.lookup([key("westeurope", D4, OS.LINUX)]) == {}
            prices.close()
        assert elsewhere.requests == []


@pytest.mark.parametrize("body", ["{broken", "[]", '{"Items": 3}', '{"Items": [{}], "NextPageLink": 7}', ""])
def test_an_answer_that_makes_no_sense(body: str) -> None:
    with arm_server(lambda request: Reply(body=body)) as server:
        prices = Prices(server.url)
        assert prices.lookup([key("westeurope", D4, OS.LINUX)]) == {}
        prices.close()


def test_pages_without_end_are_left() -> None:
    with arm_server(
        lambda request: Reply(body={"Items": [item(1.0)], "NextPageLink": server.url + request.path})
    ) as server:
        prices = Prices(server.url)
        assert prices.lookup([key("westeurope", D4, OS.LINUX)]) == {}
        prices.close()
        assert len(server.requests) <= 20


def test_nobody_is_asked_without_an_endpoint() -> None:
    prices = Prices("")
    assert prices.lookup([key("westeurope", D4, OS.LINUX)]) == {}
    prices.close()
    with pytest.raises(ComputeError, match="prices_endpoint"):
        Prices("file:///etc/passwd")


@pytest.mark.parametrize(
    ("traits", "endpoint"),
    [
        ({}, PUBLIC_ENDPOINT),
        ({"cloud": "usgov"}, PUBLIC_ENDPOINT),
        ({"cloud": "china"}, ""),
        ({"arm_endpoint": "http://127.0.0.1:1"}, ""),
        ({"prices_endpoint": "https://prices.example"}, "https://prices.example"),
    ],
)
def test_which_price_list(traits: dict[str, str], endpoint: str) -> None:
    assert AzureCompute(**traits).prices_endpoint == endpoint


def test_a_listing_has_prices_and_does_not_need_them(server: ArmServer, price_list: PriceList, tmp_path: Path) -> None:
    rows = [
        graph_row(),
        graph_row("cpu", "c1", size=D4),
        graph_row("odd", "o1", size="Standard_Q1"),
        graph_row("no", "n1", size=""),
    ]
    with arm_server(lambda request: Reply(body={"data": rows})) as azure:
        settings = {"arm_endpoint": azure.url, "token_file": token_file(tmp_path), "prices_endpoint": server.url}
        provider = AzureCompute(**settings)
        amounts = {c.name: c.price and c.price.amount for c in provider.list().computes}
        provider.close()
        assert amounts == {"gpu-vm": 0.658, "cpu": 0.272, "odd": None, "no": None}
        assert len(azure.requests) == 1
        price_list.broken = True
        provider = AzureCompute(**settings)
        assert {c.price for c in provider.list().computes} == {None}
        provider.close()
    assert all("authorization" not in r.headers for r in server.requests)
