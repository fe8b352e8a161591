"""How a user's server takes a token from its hub: whom it asks, what it believes, and that no other identity comes in instead."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import azure.identity
import pytest

from jupyter_dsvm.compute.azure import hub_tokens
from jupyter_dsvm.compute.azure.account import AzureAccount
from jupyter_dsvm.compute.azure.credentials import CLOUDS, SilentChain, credential_for
from jupyter_dsvm.compute.azure.hub_tokens import HubTokens
from jupyter_dsvm.compute.azure.signin import SignIn
from jupyter_dsvm.compute.azure.signin_settings import SignInSettings
from jupyter_dsvm.compute.azure.signin_store import SignInStore
from jupyter_dsvm.emulator.directory import unsigned_jwt
from jupyter_dsvm.errors import ComputeError, ConfigurationError, SignInRequired
from jupyter_dsvm.models import SignInState

ARM = "https://management.azure.com"
SCOPE = CLOUDS["public"].scope
SECRET = "what-the-hub-gave"


def token(**claims: Any) -> str:
    return unsigned_jwt({"aud": ARM, "tid": "t", "upn": "ada@example.com", "n": time.monotonic_ns(), **claims})


class Hub:
    """What stands at JUPYTERHUB_API_URL: answers with ``status``, ``headers`` and ``body``, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {}, b""
        self.asked: list[tuple[str, str, Any]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                hub.asked.append((self.path, self.headers["Authorization"], json.loads(self.rfile.read(length))))
                self.send_response(hub.status)
                for name, value in hub.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(hub.body)))
                self.end_headers()
                self.wfile.write(hub.body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/class/hub/api"

    def gives(self, value: str, seconds: float = 3900, **more: Any) -> None:
        self.status = 200
        self.body = json.dumps({"access_token": value, "expires_on": time.time() + seconds, **more}).encode()

    def refuses(self, status: int, body: Any) -> None:
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    for name, value in (("URL", made.url), ("TOKEN", SECRET)):
        monkeypatch.setenv(f"JUPYTERHUB_API_{name}", value)
    monkeypatch.setenv("JUPYTERHUB_USER", "ada@example.com")
    monkeypatch.setenv("JUPYTERHUB_SERVER_NAME", "gpu")
    # A proxy of the environment would see the secret.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_its_own_hub_is_asked_with_its_own_token(hub: Hub):
    given = token()
    hub.gives(given)
    found = HubTokens(ARM, SCOPE).find(SCOPE)
    assert (found[0], found[1].token) == ("hub", given)
    assert hub.asked == [("/class/hub/jupyter-dsvm/token/ada@example.com/gpu", f"token {SECRET}", {"fresh": False})]


def test_who_asks_again_before_the_end_gets_a_fresh_one(hub: Hub):
    """Nobody asks while a token is good, unless Azure has refused it."""
    chain = HubTokens(ARM, SCOPE)
    hub.gives(token())
    chain.find(SCOPE)
    chain.find(SCOPE)
    hub.gives(token(), seconds=200)
    chain.find(SCOPE)
    chain.find(SCOPE)
    assert [body["fresh"] for _, _, body in hub.asked] == [False, True, True, False]


@pytest.mark.parametrize("audience", ["https://graph.microsoft.com", "https://management.usgovcloudapi.net", "", None])
def test_a_token_for_anything_else_is_not_used(hub: Hub, audience: str | None):
    hub.gives(token(aud=audience))
    with pytest.raises(SignInRequired, match="not for the Resource Manager that is configured here") as caught:
        HubTokens(ARM, SCOPE).find(SCOPE)
    assert caught.value.code == "BadToken"


def test_a_real_token_does_not_go_to_another_endpoint(hub: Hub):
    """Whatever a user configures as the endpoint of their server: the hub's token says for whom it is."""
    hub.gives(token())
    chain = credential_for("http://127.0.0.1:9", "", hub=True)
    with pytest.raises(SignInRequired, match="not for the Resource Manager"):
        chain.get_token("http://127.0.0.1:9/.default")
    hub.gives(token(aud="http://127.0.0.1:9"))
    assert chain.get_token("http://127.0.0.1:9/.default").token


def test_other_scopes_tenants_and_claims_are_not_the_hub_s(hub: Hub):
    hub.gives(token())
    chain = HubTokens(ARM, SCOPE)
    with pytest.raises(SignInRequired, match="Resource Manager only"):
        chain.find("https://graph.microsoft.com/.default")
    with pytest.raises(SignInRequired, match="wants a new sign-in"):
        chain.find(SCOPE, claims="{}")
    assert hub.asked == []
    assert chain.find(SCOPE, tenant_id="T")
    with pytest.raises(SignInRequired, match="for the tenant other"):
        chain.find(SCOPE, tenant_id="other")


WORDS = {"code": "SignInExpired", "message": "It has expired.", "advice": "Log out of the hub and log in again."}


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "said"),
    [
        (403, WORDS, SignInRequired, "SignInExpired", "It has expired."),
        (502, WORDS, ComputeError, "SignInExpired", "It has expired."),
        (404, {"status": 404, "message": "Not Found"}, SignInRequired, "NoHandover", "hands over no tokens"),
        (403, b"<html>no</html>", SignInRequired, "HubRefused", "it answered 403"),
        (302, b"", SignInRequired, "HubRefused", "it answered 302"),
        (200, b"{}", ComputeError, "BadAnswer", "no token"),
        (200, b"[" * 100_000, ComputeError, "BadAnswer", "no token"),
        (200, b'{"access_token": "' + b"x" * 200_000 + b'"}', ComputeError, "BadAnswer", "no token"),
        (200, {"access_token": "a\nb", "expires_on": 9e9}, ComputeError, "BadAnswer", "no token"),
        (200, {"access_token": "abc", "expires_on": "soon"}, ComputeError, "BadAnswer", "no token"),
    ],
)
def test_what_is_no_token_is_an_error_with_a_way_on(hub: Hub, status: int, body: Any, kind: type, code: str, said: str):
    hub.refuses(status, body)
    hub.headers = {"Location": "http://127.0.0.1:9/elsewhere"} if status == 302 else {}
    with pytest.raises(kind, match=said) as caught:
        HubTokens(ARM, SCOPE).find(SCOPE)
    assert caught.value.code == code
    assert caught.value.advice or code == "BadAnswer"
    assert len(hub.asked) == 1  # a redirect is not followed
    assert SECRET not in str(caught.value)


def test_a_hub_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:9/hub/api")
    with pytest.raises(ComputeError, match=r"no answer from http://127.0.0.1:9/hub/api") as caught:
        HubTokens(ARM, SCOPE).find(SCOPE)
    assert (caught.value.code, isinstance(caught.value, SignInRequired)) == ("Unreachable", False)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN")
    with pytest.raises(ConfigurationError, match="no JupyterHub has started this server"):
        HubTokens(ARM, SCOPE).find(SCOPE)


# Who is signed in


def test_the_hub_s_account_is_shown_and_its_end_too(hub: Hub, tmp_path: Path):
    sign_in = SignIn(SignInSettings(ARM, hub_sign_in=True), SignInStore(tmp_path / "kept"))
    try:
        hub.gives(token())
        status = sign_in.status()
        assert (status.state, status.method, status.account) == (SignInState.SIGNED_IN, "hub", "ada@example.com")
        first = sign_in.token((SCOPE,))[0]
        assert sign_in.token((SCOPE,))[0] == first
        assert len(hub.asked) == 1
        # Azure does not take it any more.
        hub.gives(token())
        sign_in.refused()
        assert sign_in.token((SCOPE,))[0] != first
        assert hub.asked[-1][2] == {"fresh": True}
        hub.refuses(403, WORDS)
        sign_in.refused()
        with pytest.raises(SignInRequired, match="It has expired"):
            sign_in.token((SCOPE,))
        ended = sign_in.status()
        assert (ended.state, ended.error and ended.error.code) == (SignInState.FAILED, "SignInExpired")
    finally:
        sign_in.close()


@pytest.fixture
def identities(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All ways that ask nobody, each of which would work; the names of those that were asked."""
    asked: list[str] = []
    for name in ("Environment", "WorkloadIdentity", "ManagedIdentity", "AzureCli"):

        class Credential:
            def __init__(self, **_: Any) -> None:
                pass

            _name = name

            def get_token(self, *_: str, **__: Any) -> Any:
                asked.append(self._name)
                raise azure.identity.CredentialUnavailableError("not here")

            def close(self) -> None:
                pass

        monkeypatch.setattr(azure.identity, f"{name}Credential", Credential)
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.setenv(name, "x")  # as Azure's webhook puts them into a pod
    return asked


def tried(identities: list[str], managed_identity: str) -> list[str]:
    identities.clear()
    with pytest.raises(SignInRequired):
        SilentChain(CLOUDS["public"], managed_identity).find(SCOPE)
    return list(identities)


def test_a_pod_s_identity_is_nobody_s_by_accident(hub: Hub, identities: list[str], monkeypatch: pytest.MonkeyPatch):
    assert tried(identities, "") == ["Environment", "AzureCli"]
    assert tried(identities, "workload") == ["Environment", "WorkloadIdentity", "AzureCli"]
    assert tried(identities, "system") == ["Environment", "ManagedIdentity", "AzureCli"]
    # A service of the hub, the broker for one, and any other server.
    monkeypatch.delenv("JUPYTERHUB_USER")
    assert tried(identities, "") == ["Environment", "WorkloadIdentity", "AzureCli"]


def test_where_the_hub_hands_over_nothing_else_is_tried(
    hub: Hub, identities: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(hub_tokens.FLAG, "1")
    assert AzureAccount().hub_sign_in
    hub.refuses(403, WORDS)
    with pytest.raises(SignInRequired, match="It has expired"):
        credential_for(ARM, "", "system", hub=True).get_token(SCOPE)
    assert identities == []
    monkeypatch.delenv(hub_tokens.FLAG)
    assert not AzureAccount().hub_sign_in
