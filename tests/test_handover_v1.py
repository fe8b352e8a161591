"""The hub's sign-in at Entra's older endpoints, which ``AzureAdOAuthenticator`` has where only its ``tenant_id`` is set: they are
asked for a resource and not for scopes. The authenticator is the real one; what Entra answers has the documented shape."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import time
from typing import Any
from urllib.parse import parse_qs

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse

pytest.importorskip("oauthenticator")
pytest.importorskip("jupyterhub")

from oauthenticator.azuread import AzureAdOAuthenticator
from traitlets.config import Config

from jupyter_dsvm.errors import ComputeError, ConfigurationError, SignInRequired
from jupyter_dsvm.hub.handover import TokenHandover

ARM = "https://management.azure.com"
TENANT = "11111111-2222-3333-4444-555555555555"


class Authenticator(TokenHandover, AzureAdOAuthenticator):
    """As docs/hub.md has it."""

    answer: Any = None

    async def httpfetch(self, url: str, label: str = "fetching", parse_json: bool = True, **kwargs: Any) -> Any:
        self.asked = url, {k: v[0] for k, v in parse_qs(kwargs["body"].decode()).items()}
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def authenticator(**settings: Any) -> Authenticator:
    of_ours = {"client_id": "application", "client_secret": "secret", "tenant_id": TENANT, **settings}
    return Authenticator(config=Config({"Authenticator": {}, "AzureAdOAuthenticator": of_ours}))


def token(audience: str, lasts: float = 3599, **claims: Any) -> str:
    now = time.time()
    facts = {"aud": audience, "iat": now, "exp": now + lasts, "upn": "ada@example.com", "tid": TENANT, **claims}
    part = base64.urlsafe_b64encode(json.dumps(facts).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{part}.c2ln"


def answered(audience: str, refresh: str | None = "0.refresh-1", lasts: float = 3599) -> dict[str, Any]:
    """Of the v1 token endpoint: numbers are strings there."""
    more = {} if refresh is None else {"refresh_token": refresh}
    return {
        "token_type": "Bearer",
        "scope": "user_impersonation",
        "expires_in": str(int(lasts)),
        "ext_expires_in": str(int(lasts)),
        "expires_on": str(int(time.time() + lasts)),
        "not_before": str(int(time.time())),
        "resource": audience,
        "access_token": token(audience, lasts),
        "id_token": token("application"),
        **more,
    }


class User:
    name = "ada"

    def __init__(self, made_by: Authenticator, response: dict[str, Any]) -> None:
        """With what that authenticator stores after a login that was answered so."""
        self.state: dict[str, Any] = made_by.build_auth_state_dict(response, {"upn": "ada@example.com"})

    async def get_auth_state(self) -> dict[str, Any]:
        return self.state

    async def save_auth_state(self, state: dict[str, Any]) -> None:
        self.state = state


class Spawner:
    def __init__(self) -> None:
        self.environment: dict[str, str] = {}


def test_its_endpoints_are_v1_and_those_of_azure():
    made = authenticator()
    assert made.token_url == f"https://login.microsoftonline.com/{TENANT}/oauth2/token"
    made._check()
    with pytest.raises(ConfigurationError, match=r"does not go with https://management\.usgovcloudapi\.net"):
        authenticator(azure_cloud="usgov")._check()
    authenticator(azure_cloud="usgov", graph_url="https://login.microsoftonline.us")._check()


@pytest.mark.parametrize("audience", [ARM, f"{ARM}/", "https://management.core.windows.net/"])
def test_a_login_for_the_resource_manager_is_used_as_it_is(audience: str):
    made = authenticator()
    user = User(made, answered(audience))
    got, ends = asyncio.run(made.azure_token(user))
    assert got == user.state["access_token"]
    assert ends == pytest.approx(time.time() + 3599, abs=60)
    assert not hasattr(made, "asked")


@pytest.mark.parametrize(
    "login",
    [
        answered(ARM, lasts=300),  # it ends soon
        answered("00000002-0000-0000-c000-000000000000"),  # a login without a resource is for the directory alone
    ],
)
def test_it_is_renewed_for_the_resource(login: dict[str, Any]):
    made = authenticator()
    user = User(made, login)
    made.answer = answered(f"{ARM}/", "0.refresh-2")
    got, ends = asyncio.run(made.azure_token(user))
    url, form = made.asked
    assert url == made.token_url
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": "0.refresh-1",
        "client_id": "application",
        "client_secret": "secret",
        "resource": ARM,
    }
    assert (got, ends) == (made.answer["access_token"], pytest.approx(time.time() + 3599, abs=60))
    # The new one is in both places: the hub's own renewal (auth_refresh_age) reads the first and makes it of the second.
    assert user.state["refresh_token"] == user.state["token_response"]["refresh_token"] == "0.refresh-2"
    del made.asked
    assert asyncio.run(made.azure_token(user))[0] == got
    assert not hasattr(made, "asked"), "it is kept"


def test_v2_is_asked_for_the_scope():
    base = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0"
    made = authenticator(token_url=f"{base}/token", authorize_url=f"{base}/authorize")
    made.answer = answered(ARM)
    asyncio.run(made.azure_token(User(made, answered(ARM, lasts=60))))
    assert made.asked[1]["scope"] == f"{ARM}/.default offline_access"
    assert "resource" not in made.asked[1]


def refusal(number: int, word: str, text: str) -> HTTPClientError:
    body = json.dumps({"error": word, "error_description": f"AADSTS{number}: {text}", "error_codes": [number]})
    response = HTTPResponse(HTTPRequest("https://login.microsoftonline.com"), 400, buffer=io.BytesIO(body.encode()))
    return HTTPClientError(400, "Bad Request", response)


def test_what_the_application_lacks_is_said():
    made = authenticator()
    user = User(made, answered("00000002-0000-0000-c000-000000000000"))
    made.answer = refusal(65001, "invalid_grant", "The user or administrator has not consented to use the application.")
    with pytest.raises(SignInRequired, match="AADSTS65001"):
        asyncio.run(made.azure_token(user))
    made.answer = answered("00000002-0000-0000-c000-000000000000")
    with pytest.raises(ComputeError, match="the token that came is not for Azure's Resource Manager") as caught:
        asyncio.run(made.azure_token(user))
    assert "user_impersonation" in caught.value.advice


def test_without_a_refresh_token_the_log_says_what_v1_needs(caplog: pytest.LogCaptureFixture):
    made = authenticator()
    made.log = logging.getLogger("test.handover")
    user, spawner = User(made, answered(ARM, refresh=None, lasts=60)), Spawner()
    with caplog.at_level(logging.WARNING):
        asyncio.run(made.pre_spawn_start(user, spawner))
    assert "token_params need the resource that tokens are for" in caplog.text
    assert "offline_access" not in caplog.text
    assert spawner.environment == {"JUPYTER_DSVM_HUB_SIGN_IN": "1"}
    with pytest.raises(SignInRequired) as caught:
        asyncio.run(made.azure_token(user))
    assert caught.value.code == "SignInExpired"
