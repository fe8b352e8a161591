"""The emulated Entra, asked by Microsoft's own libraries and by plain https."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, DeviceCodeCredential

from jupyter_dsvm.emulator.directory import ADA, AZURE_CLI_APP, GRACE, PARTNER_TENANT_ID
from jupyter_dsvm.emulator.machines import TENANT_ID
from support.entra import Entra, entra_server

SCOPE = "https://management.azure.com/.default"
GRAPH = "https://graph.microsoft.com/.default"


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[Entra]:
    with entra_server(tmp_path) as server:
        yield server


def ask(entra: Entra, path: str, form: dict[str, str] | None = None, host: str | None = None) -> tuple[int, Any]:
    context = ssl.create_default_context(cafile=entra.ca_file)
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(entra.url + path, data, {"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text.decode()


def application(entra: Entra, tenant: str = "organizations", **more: Any) -> tuple[msal.PublicClientApplication, Any]:
    session = requests.Session()
    session.verify = entra.ca_file
    session.trust_env = False  # REQUESTS_CA_BUNDLE would count more than that
    settings = {"instance_discovery": False, **more}
    return (
        msal.PublicClientApplication(AZURE_CLI_APP, authority=f"{entra.url}/{tenant}", http_client=session, **settings),
        session,
    )


def test_azure_identity_signs_in_and_refreshes_for_a_second_scope_and_tenant(entra: Entra):
    prompts = []

    def prompt(url: str, code: str, expires: Any) -> None:
        prompts.append((url, code))
        entra.directory.enter(code)

    with DeviceCodeCredential(
        authority=entra.url,
        disable_instance_discovery=True,
        connection_verify=entra.ca_file,
        prompt_callback=prompt,
        disable_automatic_authentication=True,
        additionally_allowed_tenants=["*"],
    ) as credential:
        record = credential.authenticate(scopes=[SCOPE])
        assert (record.username, record.tenant_id) == (ADA, TENANT_ID)
        first = credential.get_token(SCOPE).token
        second = credential.get_token(GRAPH).token
        third = credential.get_token(SCOPE, tenant_id=PARTNER_TENANT_ID).token
    assert len(prompts) == 1
    assert prompts[0][0].startswith(entra.url)
    assert entra.directory.accepts(first, "https://management.azure.com")
    assert entra.directory.accepts(second, "https://graph.microsoft.com")
    assert not entra.directory.accepts(second, "https://management.azure.com")
    assert entra.directory.accepts(third, "https://management.azure.com/")
    entra.clock.ahead = 2 * entra.directory.behaviour.token_lifetime
    assert not entra.directory.accepts(first, "https://management.azure.com")


def test_msal_asks_for_the_instance_and_its_metadata(entra: Entra):
    app, session = application(entra, instance_discovery=f"{entra.url}/common/discovery/instance")
    flow = app.initiate_device_flow([SCOPE])
    entra.directory.enter(flow["user_code"], GRACE)
    result = app.acquire_token_by_device_flow(flow)
    assert result["id_token_claims"]["tid"] == PARTNER_TENANT_ID
    assert app.acquire_token_silent([GRAPH], app.get_accounts(GRACE)[0], force_refresh=True)["access_token"]
    session.close()


def test_instance_discovery_knows_azures_hosts_and_itself(entra: Entra):
    path = "/common/discovery/instance?api-version=1.1&authorization_endpoint="
    status, answer = ask(entra, path + f"{entra.url}/common/oauth2/authorize")
    assert status == 200
    assert any(f"localhost:{entra.port}" in m["aliases"] for m in answer["metadata"])
    assert answer["tenant_discovery_endpoint"] == f"{entra.url}/common/v2.0/.well-known/openid-configuration"
    assert ask(entra, path + "https://login.microsoftonline.us/x/oauth2/authorize")[0] == 200
    for other in ("https://evil.example/common/authorize", "http://login.microsoftonline.us/x", "nonsense"):
        status, answer = ask(entra, path + other)
        assert (status, answer["error"]) == (400, "invalid_instance")


def test_the_shapes_of_a_code_and_of_waiting(entra: Entra):
    form = {"client_id": AZURE_CLI_APP, "scope": f"{SCOPE} offline_access openid profile"}
    status, code = ask(entra, "/organizations/oauth2/v2.0/devicecode", form)
    assert status == 200
    assert set(code) == {"user_code", "device_code", "verification_uri", "expires_in", "interval", "message"}
    assert code["user_code"] in code["message"]
    poll = {
        "client_id": AZURE_CLI_APP,
        "device_code": code["device_code"],
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    }
    status, pending = ask(entra, "/organizations/oauth2/v2.0/token", poll)
    assert (status, pending["error"], pending["error_codes"]) == (400, "authorization_pending", [70016])
    assert set(pending) >= {"error_description", "timestamp", "trace_id", "correlation_id", "error_uri"}
    assert pending["error_description"].startswith("AADSTS70016: ")
    entra.directory.behaviour.slow_down = 1
    assert ask(entra, "/organizations/oauth2/v2.0/token", poll)[1]["error"] == "slow_down"
    # Another application, or another tenant's endpoint, does not get what the code stands for.
    entra.directory.enter(code["user_code"])
    assert ask(entra, f"/{TENANT_ID}/oauth2/v2.0/token", poll)[1]["error_codes"] == [70018]
    status, token = ask(entra, "/organizations/oauth2/v2.0/token", poll)
    assert status == 200
    assert set(token) >= {
        "access_token",
        "refresh_token",
        "id_token",
        "client_info",
        "expires_in",
        "scope",
        "token_type",
    }
    assert ask(entra, "/organizations/oauth2/v2.0/token", poll)[1]["error_codes"] == [70020]  # used up
    status, late = ask(entra, "/organizations/oauth2/v2.0/devicecode", form)
    entra.clock.ahead = 1000
    expired = ask(entra, "/organizations/oauth2/v2.0/token", {**poll, "device_code": late["device_code"]})[1]
    assert (expired["error"], expired["error_codes"]) == ("expired_token", [70020])
    with pytest.raises(ValueError, match="did not work"):
        entra.directory.enter(late["user_code"])


@pytest.mark.parametrize(
    ("path", "form", "number"),
    [
        ("/nowhere.example/v2.0/.well-known/openid-configuration", None, 90002),
        ("/organizations/oauth2/v2.0/devicecode", {"client_id": "unknown", "scope": SCOPE}, 700016),
        ("/organizations/oauth2/v2.0/devicecode", {"client_id": AZURE_CLI_APP}, 70011),
        ("/organizations/oauth2/v2.0/token", {"client_id": AZURE_CLI_APP, "grant_type": "password"}, 70003),
        (
            "/organizations/oauth2/v2.0/token",
            {"client_id": AZURE_CLI_APP, "grant_type": "refresh_token", "refresh_token": "x", "scope": SCOPE},
            70008,
        ),
    ],
)
def test_refusals(entra: Entra, path: str, form: dict[str, str] | None, number: int):
    status, answer = ask(entra, path, form)
    assert status == 400
    assert answer["error_codes"] == [number]


def test_an_application_signs_in_with_its_secret(entra: Entra):
    entra.directory.applications["app"] = "right"

    def token(secret: str) -> str:
        with ClientSecretCredential(
            TENANT_ID,
            "app",
            secret,
            authority=entra.url,
            disable_instance_discovery=True,
            connection_verify=entra.ca_file,
        ) as credential:
            return credential.get_token(SCOPE).token

    assert entra.directory.accepts(token("right"), "https://management.azure.com")
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        token("wrong")


def test_the_page_on_which_a_code_is_entered(entra: Entra):
    form = {"client_id": AZURE_CLI_APP, "scope": SCOPE}
    code = ask(entra, "/organizations/oauth2/v2.0/devicecode", form)[1]
    context = ssl.create_default_context(cafile=entra.ca_file)

    def open_page(**fields: str) -> tuple[int, str]:
        data = urllib.parse.urlencode(fields).encode() if fields else None
        try:
            with urllib.request.urlopen(code["verification_uri"], data, context=context, timeout=20) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    assert ADA in open_page()[1]
    assert open_page(code="<b>", account=ADA)[0] == 400
    assert "signed in" in open_page(code=code["user_code"].lower(), account=ADA, answer="yes")[1]
    declined = ask(entra, "/organizations/oauth2/v2.0/devicecode", form)[1]
    assert "declined" in open_page(code=declined["user_code"], account=ADA, answer="no")[1]
    poll = {"client_id": AZURE_CLI_APP, "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}
    answer = ask(entra, "/organizations/oauth2/v2.0/token", {**poll, "device_code": declined["device_code"]})[1]
    assert answer["error"] == "authorization_declined"


def test_it_answers_to_its_own_names_and_behind_its_own_certificate_only(entra: Entra):
    assert ask(entra, "/common/v2.0/.well-known/openid-configuration", host="evil.example")[0] == 403
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(entra.url, timeout=20)
    assert ask(entra, "/anything")[0] == 404
