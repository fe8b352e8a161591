"""A token goes to the configured endpoint and nowhere else, whatever address Azure's answers name: a second listener, which every
such address leads to, is asked nothing. One test for each kind of address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.credentials import CLOUDS, origin
from jupyter_dsvm.compute.azure.prices import PUBLIC_ENDPOINT, Prices, key
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import ComputeError
from jupyter_dsvm.models import OS
from support.arm_server import VM_ID, ArmServer, Reply, Request, arm_server, fault, graph_row, token_file, vm_model

ID = f"azure:{VM_ID.lower()}"

SPELLINGS = {
    "another port": "http://127.0.0.1:{there}/x",
    "another name": "http://localhost:{there}/x",
    "our address as a user": "http://127.0.0.1:{here}@127.0.0.1:{there}/x",
    "our address as a password": "http://a:127.0.0.1@127.0.0.1:{there}/x",
    "a backslash before ours": "http://127.0.0.1:{there}\\@127.0.0.1:{here}/x",
    "a backslash after ours": "http://127.0.0.1:{here}\\@127.0.0.1:{there}/x",
    "ours as a fragment": "http://127.0.0.1:{there}#@127.0.0.1:{here}/x",
    "another scheme": "https://127.0.0.1:{here}/x",
    "no scheme": "//127.0.0.1:{there}/x",
    "no address": "file:///etc/passwd",
}
spelled = pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)


@pytest.fixture
def elsewhere() -> Iterator[ArmServer]:
    """Must never see a bearer, nor be asked at all."""
    with arm_server(lambda request: Reply(body={"status": "Succeeded", "value": [], "Items": []})) as server:
        yield server
    assert server.requests == []


class Azure:
    """Answers with an address that leads elsewhere, in one place."""

    def __init__(self, place: str, spelling: str, elsewhere: ArmServer) -> None:
        self.place, self._spelling, self._elsewhere = place, spelling, elsewhere
        self.url = ""
        self.polls = 0

    @property
    def address(self) -> str:
        return self._spelling.format(here=urlsplit(self.url).port, there=urlsplit(self._elsewhere.url).port)

    def __call__(self, request: Request) -> Reply:
        last = request.path.rpartition("/")[2].lower()
        if last == "resources":
            graph = Reply(body={"data": [graph_row()]})
            return fault(403, "AccessDenied", "No.") if self.place.endswith("list") else graph
        if request.path == "/subscriptions":
            more = {"nextLink": self.address} if self.place == "subscriptions list" else {}
            return Reply(body={"value": [{"subscriptionId": "s1", "displayName": "One"}], **more})
        if last == "virtualmachines":
            return Reply(body={"value": [vm_model()], "nextLink": self.address})
        if last == "op":
            self.polls += 1
            # Azure-AsyncOperation stays with us, and its answers point elsewhere.
            return Reply(
                200, {"status": "InProgress"}, {"Location": self.address, "Azure-AsyncOperation": self.address}
            )
        if request.method == "GET":
            if self.place == "redirect of a question":
                return Reply(302, headers={"Location": self.address})
            return Reply(body=vm_model())
        if self.place == "redirect of a change":
            return Reply(307, headers={"Location": self.address})
        return Reply(202, headers={**self.headers, "Retry-After": "0"})

    @property
    def headers(self) -> dict[str, str]:
        here = f"{self.url}/op?api-version=1"
        return {
            "operation": {"Azure-AsyncOperation": self.address},
            "location": {"Location": self.address},
            "second operation": {"Location": here},
        }.get(self.place, {})


@pytest.fixture
def asked(elsewhere: ArmServer, tmp_path: Path) -> Iterator[Any]:
    """``asked(place, spelling)``: a provider, and the Azure that leads it elsewhere."""
    servers, providers = [], []

    def make(place: str, spelling: str) -> tuple[AzureCompute, Azure, ArmServer]:
        azure = Azure(place, spelling, elsewhere)
        server = ArmServer(azure)
        servers.append(server)
        azure.url = server.url
        provider = AzureCompute(
            arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02, operation_timeout=2.0
        )
        providers.append(provider)
        return provider, azure, server

    yield make
    for one in providers:
        one.close()
    for server in servers:
        server.close()


def silent(text: str, done: float | None) -> None:
    pass


@spelled
@pytest.mark.parametrize("place", ["subscriptions list", "machines list"])
def test_a_next_link(asked: Any, place: str, spelling: str) -> None:
    provider, _, server = asked(place, spelling)
    if place == "subscriptions list":
        with pytest.raises(ComputeError) as caught:
            provider.list()
        assert caught.value.code == "ForeignAddress"
    else:
        listing = provider.list()
        if spelling.startswith("http"):
            assert [problem.code for problem in listing.problems] == ["ForeignAddress"]
            assert listing.computes == ()
        else:
            # azure-mgmt-compute takes the path of what names no host, and asks the endpoint for it.
            assert server.asked("GET", urlsplit(spelling).path)


@spelled
@pytest.mark.parametrize("place", ["operation", "location"])
def test_an_operations_address(asked: Any, place: str, spelling: str) -> None:
    provider, _, server = asked(place, spelling)
    with pytest.raises(ComputeError, match="Azure had accepted it") as caught:
        provider.start(ID, silent, Cancel())
    assert caught.value.code == "ForeignAddress"
    assert len(server.asked("POST", "/start")) == 1


@spelled
def test_an_operations_address_that_changes_while_it_is_asked(asked: Any, spelling: str) -> None:
    provider, azure, _ = asked("second operation", spelling)
    with pytest.raises(ComputeError):
        provider.start(ID, silent, Cancel())
    assert azure.polls >= 1


@spelled
@pytest.mark.parametrize("place", ["redirect of a question", "redirect of a change"])
def test_a_redirect(asked: Any, place: str, spelling: str) -> None:
    provider, _, _ = asked(place, spelling)
    with pytest.raises(ComputeError, match="redirect") as caught:
        provider.start(ID, silent, Cancel())
    assert caught.value.code == "Redirected"


@spelled
def test_a_next_page_of_prices(elsewhere: ArmServer, spelling: str) -> None:
    """No token goes to a price list; but it is one host that was configured, and no other is asked."""
    there = urlsplit(elsewhere.url).port

    def answer(request: Request) -> Reply:
        here = urlsplit(server.url).port
        return Reply(body={"Items": [], "NextPageLink": spelling.format(here=here, there=there)})

    with arm_server(answer) as server:
        price_list = Prices(server.url)
        assert price_list.lookup([key("westeurope", "Standard_D4ds_v5", OS.LINUX)]) == {}
        price_list.close()
        assert len(server.requests) == 1
        assert all("authorization" not in request.headers for request in server.requests)


def test_the_price_lists_own_next_page_names_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Azure's does: https://prices.azure.com:443/…"""
    pages = {
        PUBLIC_ENDPOINT: {"Items": [{"a": 1}], "NextPageLink": f"{PUBLIC_ENDPOINT}:443/api/retail/prices?$skip=1000"},
        f"{PUBLIC_ENDPOINT}:443": {"Items": [{"b": 2}], "NextPageLink": None},
    }
    monkeypatch.setattr(Prices, "_page", lambda self, url: pages[url.partition("/api/")[0]])
    assert Prices(PUBLIC_ENDPOINT)._items(f"{PUBLIC_ENDPOINT}/api/retail/prices") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)
@pytest.mark.parametrize(
    "address",
    [
        "https://{host}@evil.example/x",
        "https://{host}:443@evil.example/x",
        "https://{host}%40evil.example/x",
        "https://{host}.evil.example/x",
        "https://evil.example\\@{host}/x",
        "https://{host}\\.evil.example/x",
        "https://evil.example?@{host}/x",
        "https://{host}:8443/x",
        "http://{host}/x",
        "http://{host}:443/x",
        "https://{host}./x",
        "https://{host}\uff0f@evil.example/x",
        "https://\uff4danagement.azure.com/x",
        "https://[{host}]/x",
        "{host}/x",
    ],
)
def test_what_is_not_a_clouds_own_address(cloud: Any, address: str) -> None:
    host = urlsplit(cloud.endpoint).hostname
    try:
        assert origin(address.format(host=host)) != origin(cloud.endpoint)
    except ValueError:
        pass
    assert origin(f"https://{str(host).upper()}:443/x") == origin(cloud.endpoint)
