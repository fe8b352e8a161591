"""Accounts in several tenants: what somebody signed in to by name is listed beside the rest, and acted on with its own token."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.emulator.directory import GRACE, PARTNER_TENANT_ID
from jupyter_dsvm.emulator.machines import TENANT_ID
from jupyter_dsvm.models import PowerState, SignInState
from support.arm_server import ArmServer, Reply, Request, arm_server, fault, graph_row, vm_model
from support.entra import Entra, entra_server


@pytest.fixture
def entra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Entra]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with entra_server(tmp_path) as server:
        yield server


class Azure:
    """Shows each tenant's token that tenant's VM; ``refused`` are tenants whose tokens count no more."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.asked_by: list[str] = []

    def __call__(self, request: Request) -> Reply:
        part = request.headers["authorization"].split(".")[1]
        tenant = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["tid"]
        self.asked_by.append(tenant)
        if tenant in self.refused:
            return fault(401, "InvalidAuthenticationToken", "The token has been revoked.")
        theirs = tenant == PARTNER_TENANT_ID
        if request.path.endswith("/theirs"):
            return (
                Reply(body=vm_model("theirs", "b2", state="running")) if theirs else fault(404, "NotFound", "Not here.")
            )
        return Reply(body={"data": [graph_row("theirs", "b2") if theirs else graph_row()]})


@pytest.fixture
def azure() -> Azure:
    return Azure()


@pytest.fixture
def server(azure: Azure) -> Iterator[ArmServer]:
    with arm_server(azure) as running:
        yield running


def provider_of(server: ArmServer, entra: Entra, **traits: Any) -> AzureCompute:
    return AzureCompute(arm_endpoint=server.url, authority=entra.url, authority_ca_file=entra.ca_file, **traits)


def test_a_tenant_that_somebody_signs_in_to_is_listed(entra: Entra, server: ArmServer, azure: Azure) -> None:
    provider = provider_of(server, entra)
    entra.signed_in(provider.sign_in)
    assert provider.sign_in.tenants == ()
    assert [c.name for c in provider.list().computes] == ["gpu-vm"]
    entra.signed_in(provider.sign_in, PARTNER_TENANT_ID, username=GRACE)
    assert provider.sign_in.tenants == (PARTNER_TENANT_ID,)
    listing = provider.list()
    assert [c.name for c in listing.computes] == ["gpu-vm", "theirs"]
    assert listing.problems == ()
    azure.asked_by.clear()
    assert provider.get("azure:b2").power_state is PowerState.RUNNING
    assert azure.asked_by == [PARTNER_TENANT_ID]
    # One that is named twice is asked once.
    azure.asked_by.clear()
    twice = provider_of(server, entra, tenants=[PARTNER_TENANT_ID.upper()])
    twice._sign_in = provider.sign_in
    twice.list()
    assert azure.asked_by == [TENANT_ID, PARTNER_TENANT_ID]
    twice._sign_in = None
    twice.close()
    provider.close()


def test_an_expired_sign_in_of_one_tenant_hides_nothing_of_the_others(
    entra: Entra, server: ArmServer, azure: Azure
) -> None:
    provider = provider_of(server, entra)
    entra.signed_in(provider.sign_in)
    entra.signed_in(provider.sign_in, PARTNER_TENANT_ID, username=GRACE)
    assert len(provider.list().computes) == 2
    azure.refused.add(PARTNER_TENANT_ID)
    entra.directory.behaviour.at_refresh = 50173
    for expected in ("InvalidAuthenticationToken", "AADSTS50173"):  # Azure's word first, then Entra's
        listing = provider.list()
        (problem,) = listing.problems
        assert problem.code == expected
        assert problem.message.startswith(f"In the tenant {PARTNER_TENANT_ID}: ")
        assert [c.name for c in listing.computes] == ["gpu-vm", "theirs"], "what was known of it stays"
        entra.directory.behaviour.at_refresh = None if expected == "AADSTS50173" else 50173
    status = provider.sign_in.status()
    assert (status.state, status.tenants) == (SignInState.SIGNED_IN, (TENANT_ID,))
    # Signing in there again mends it.
    azure.refused.clear()
    entra.signed_in(provider.sign_in, PARTNER_TENANT_ID, username=GRACE)
    assert provider.list().problems == ()
    provider.close()


def test_signing_out_leaves_no_tenant(entra: Entra, server: ArmServer) -> None:
    provider = provider_of(server, entra)
    entra.signed_in(provider.sign_in)
    entra.signed_in(provider.sign_in, PARTNER_TENANT_ID, username=GRACE)
    provider.sign_in.sign_out()
    assert provider.sign_in.tenants == ()
    provider.close()
