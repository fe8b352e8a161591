"""Signing in over real https: MSAL and azure-identity against the emulated Entra."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.client import ArmClient
from jupyter_dsvm.compute.azure.credentials import CLOUDS, SilentChain, TokenFile
from jupyter_dsvm.compute.azure.entra import Application
from jupyter_dsvm.compute.azure.signin import SignIn
from jupyter_dsvm.compute.azure.signin_settings import SignInSettings
from jupyter_dsvm.compute.azure.signin_states import Attempts, Prompt
from jupyter_dsvm.compute.azure.signin_store import SignInStore
from jupyter_dsvm.compute.azure.tokens import PastedToken
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.emulator.directory import ADA, AZURE_CLI_APP, GRACE, PARTNER_TENANT_ID, unsigned_jwt
from jupyter_dsvm.emulator.entra import _OpenIdConfiguration, _Token
from jupyter_dsvm.emulator.machines import TENANT_ID
from jupyter_dsvm.errors import BadRequest, ComputeError, ConfigurationError, NotFound, SignInRequired
from jupyter_dsvm.models import SignInState
from support.arm_server import Reply, Request, arm_server, graph_row
from support.entra import ARM, Entra, entra_server, finished, proxy_to, until

SCOPE = f"{ARM}/.default"
AZURE = "https://management.azure.com"


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[Entra]:
    with entra_server(tmp_path) as server:
        yield server


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing on this computer signs in by itself, and no proxy or certificate of its environment is in the way."""
    for name in list(os.environ):
        if (
            name.startswith("AZURE_")
            or name.lower().endswith("_proxy")
            or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no `az`


# With a code


def test_a_code_then_a_token(entra: Entra):
    with entra.sign_in() as sign_in:
        assert sign_in.status().state is SignInState.SIGNED_OUT
        with pytest.raises(SignInRequired):
            sign_in.token((SCOPE,))
        asked = sign_in.begin()
        assert asked.state is SignInState.PROMPTING
        assert asked.code in entra.directory.state()["waiting"]
        assert asked.url.startswith(entra.url)
        assert 800 < seconds_until(asked.expires) <= 901
        entra.directory.enter(asked.code)
        done = finished(sign_in, asked)
        assert (done.state, done.account, done.tenant, done.method) == (
            SignInState.SIGNED_IN,
            ADA,
            TENANT_ID,
            "device_code",
        )
        token, expires = sign_in.token((SCOPE,))
        assert entra.directory.accepts(token, ARM)
        assert expires > time.time() + 3000
        assert sign_in.token((SCOPE,))[0] == token  # from memory
        assert sign_in.credential.get_token(SCOPE).expires_on <= time.time() + 61  # so that azure-core asks again


def seconds_until(moment: str) -> float:
    from datetime import datetime, timezone

    return (datetime.fromisoformat(moment.replace("Z", "+00:00")) - datetime.now(timezone.utc)).total_seconds()


def test_only_the_asker_sees_the_code(entra: Entra):
    with entra.sign_in() as sign_in:
        asked = sign_in.begin()
        for other in (sign_in.status(), sign_in.status(asked.id)):
            assert other.state is SignInState.PROMPTING
            assert (other.code, other.url) == (None, None)
        assert asked.code not in repr(asked)
        sign_in.cancel(asked.id)


def test_two_pages_have_codes_of_their_own_and_one_is_enough(entra: Entra):
    with entra.sign_in() as sign_in:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(sign_in.begin())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first, second = answers
        assert first.id != second.id
        assert first.code != second.code
        entra.directory.enter(second.code)
        for each in (first, second):
            assert finished(sign_in, each).state is SignInState.SIGNED_IN
        # Too late: whose code it was makes no difference any more.
        entra.directory.enter(first.code, GRACE)
        time.sleep(1.2)
        assert sign_in.status().account == ADA


def test_a_cancelled_code_signs_nobody_in(entra: Entra):
    with entra.sign_in() as sign_in:
        asked = sign_in.begin()
        sign_in.cancel(asked.id)
        entra.directory.enter(asked.code)
        assert finished(sign_in, asked).state is SignInState.SIGNED_OUT
        with pytest.raises(SignInRequired):
            sign_in.token((SCOPE,))
        with pytest.raises(NotFound):
            sign_in.cancel("nothing")


@pytest.mark.parametrize(
    ("number", "advice"),
    [(53003, "az login"), (50076, "second factor"), (65001, "consent"), (50105, "assign"), (65004, "new code")],
)
def test_a_refusal_says_why_and_what_next(entra: Entra, number: int, advice: str):
    with entra.sign_in() as sign_in:
        asked = sign_in.begin()
        entra.directory.enter(asked.code, refuse=number)
        done = finished(sign_in, asked)
        assert done.state is SignInState.FAILED
        assert done.error.code == f"AADSTS{number}"
        assert advice in done.error.advice
        assert sign_in.status().state is SignInState.FAILED  # a page that is opened now sees it, too
        # Another try is not hampered by that.
        assert entra.signed_in(sign_in).account == ADA


def test_an_expired_code(entra: Entra):
    with entra.sign_in() as sign_in:
        asked = sign_in.begin()
        entra.clock.ahead = 1000
        assert finished(sign_in, asked).error.code == "AADSTS70020"


def test_it_is_asked_less_often_when_entra_says_so(entra: Entra):
    entra.directory.behaviour.slow_down = 1
    with entra.sign_in() as sign_in:
        assert entra.signed_in(sign_in).account == ADA


@pytest.mark.parametrize(("number", "settings"), [(7000218, {}), (700016, {"client_id": "unknown"})])
def test_no_code_at_all(entra: Entra, number: int, settings: dict[str, str]):
    if not settings:
        entra.directory.behaviour.at_code = number
    with entra.sign_in(**settings) as sign_in:
        status = sign_in.begin()
        assert (status.state, status.code) == (SignInState.FAILED, None)
        assert status.error.code == f"AADSTS{number}"
        assert "AzureCompute.client_id" in status.error.advice


def test_an_unknown_tenant(entra: Entra):
    with entra.sign_in() as sign_in:
        status = sign_in.begin("nowhere.example")
        assert status.error.code == "AADSTS90002"
        with pytest.raises(BadRequest):
            sign_in.begin("../common")


def test_nobody_answers(entra: Entra):
    with entra.sign_in(authority="https://localhost:9") as sign_in:
        status = sign_in.begin()
        assert status.error.code == "Unreachable"
        assert "localhost:9" in status.error.message


def test_another_certificate_is_refused(entra: Entra):
    with entra.sign_in(authority_ca_file="") as sign_in:
        status = sign_in.begin()
        assert status.error.code == "Certificate"
        assert entra.directory.state()["waiting"] == []


@pytest.mark.parametrize("endpoint", ["token_endpoint", "device_authorization_endpoint"])
def test_an_answer_that_points_elsewhere_is_not_followed(entra: Entra, monkeypatch: pytest.MonkeyPatch, endpoint: str):
    original = _OpenIdConfiguration.answer
    with socket.create_server(("127.0.0.1", 0)) as foreign, entra.sign_in() as sign_in:
        address = f"https://localhost:{foreign.getsockname()[1]}/organizations/oauth2/v2.0/x"

        def elsewhere(self: Any, body: dict[str, Any], status: int = 200) -> None:
            original(self, {**body, endpoint: address}, status)

        monkeypatch.setattr(_OpenIdConfiguration, "answer", elsewhere)
        status = sign_in.begin()
        if status.code:
            entra.directory.enter(status.code)
            status = finished(sign_in, status)
        assert status.error.code == "ForeignAddress"
        assert select.select([foreign], [], [], 0.2)[0] == []  # nobody knocked there


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(entra: Entra, monkeypatch: pytest.MonkeyPatch, status: int):
    """With 307 and 308 what was posted, a refresh token for one, would go along."""
    with socket.create_server(("127.0.0.1", 0)) as foreign, entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        address = f"https://localhost:{foreign.getsockname()[1]}/"
        monkeypatch.setattr(_Token, "post", lambda self, tenant: self.redirect(address, status=status))
        with pytest.raises(ComputeError) as caught:
            sign_in.token(("https://other.example/.default",))
        assert caught.value.code == "Redirected"
        assert select.select([foreign], [], [], 0.2)[0] == []
        assert sign_in.status().state is SignInState.SIGNED_IN


def test_ending_the_server_ends_what_waits_for_a_code(entra: Entra):
    with entra.sign_in() as sign_in:
        sign_in.begin()
        began = time.monotonic()
    assert time.monotonic() - began < 15
    with pytest.raises(ComputeError):
        sign_in.begin()


# Tenants


def test_a_token_for_another_tenant_of_the_same_account(entra: Entra):
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        token, _ = sign_in.token((SCOPE,), PARTNER_TENANT_ID)
        assert claims(token)["tid"] == PARTNER_TENANT_ID
        assert claims(sign_in.token((SCOPE,))[0])["tid"] == TENANT_ID


def test_a_tenant_that_refuses_ends_nothing_else(entra: Entra):
    entra.directory.behaviour.tenants[PARTNER_TENANT_ID] = 50076
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        with pytest.raises(SignInRequired, match="second factor") as caught:
            sign_in.token((SCOPE,), PARTNER_TENANT_ID)
        assert "--tenant" in caught.value.advice
        assert sign_in.status().state is SignInState.SIGNED_IN
        assert sign_in.token((SCOPE,))[0]
        # Signing in there by name stands beside the first.
        entra.directory.behaviour.tenants.clear()
        both = entra.signed_in(sign_in, PARTNER_TENANT_ID, username=GRACE)
        assert both.account == ADA
        assert both.tenants == (TENANT_ID, PARTNER_TENANT_ID)
        assert claims(sign_in.token((SCOPE,), PARTNER_TENANT_ID)[0])["upn"] == GRACE
        assert claims(sign_in.token((SCOPE,))[0])["upn"] == ADA
        # And without a name it takes the place of all.
        assert entra.signed_in(sign_in, username=GRACE).tenants == (PARTNER_TENANT_ID,)


def test_an_account_that_is_no_guest(entra: Entra):
    with entra.sign_in() as sign_in:
        asked = sign_in.begin(TENANT_ID)
        entra.directory.enter(asked.code, GRACE)
        done = finished(sign_in, asked)
        assert done.error.code == "AADSTS50020"
        assert GRACE in done.error.message


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# Expiry


def test_an_expired_sign_in_asks_for_another_and_leaves_the_rest_alone(entra: Entra):
    heard = []
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        sign_in.listeners.append(lambda attempt, account: heard.append((attempt, account)))
        entra.directory.behaviour.at_refresh = 50173
        with pytest.raises(SignInRequired, match="expired, or was revoked") as caught:
            sign_in.token(("https://other.example/.default",))  # a token that is not there yet
        assert "Sign in again" in caught.value.advice
        status = sign_in.status()
        assert (status.state, status.account) == (SignInState.FAILED, ADA)
        assert "Kernels that run on VMs are not affected" in status.error.advice
        assert heard == [(None, False)]
        with pytest.raises(SignInRequired):
            sign_in.token((SCOPE,))
        entra.directory.behaviour.at_refresh = None
        assert entra.signed_in(sign_in).state is SignInState.SIGNED_IN
        assert sign_in.token((SCOPE,))[0]


def test_another_service_that_refuses_ends_nothing(entra: Entra):
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        entra.directory.behaviour.at_refresh = 65001
        with pytest.raises(SignInRequired, match="consent"):
            sign_in.token(("https://pas.windows.net/CheckMyAccess/Linux/.default",))
        assert sign_in.status().state is SignInState.SIGNED_IN
        with pytest.raises(SignInRequired, match="consent"):
            sign_in.token((SCOPE,), None, "{}")
        assert sign_in.status().error.code == "AADSTS65001"


def test_entras_own_faults_end_no_sign_in(entra: Entra):
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        entra.directory.behaviour.at_refresh = 90033
        with pytest.raises(ComputeError) as caught:
            sign_in.token(("https://other.example/.default",))
        assert not isinstance(caught.value, SignInRequired)
        assert sign_in.status().state is SignInState.SIGNED_IN


def test_claims_are_passed_on(entra: Entra):
    """Continuous access evaluation: the token in memory is not good enough any more."""
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        token, _ = sign_in.token((SCOPE,))
        renewed, _ = sign_in.token((SCOPE,), None, '{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}')
        assert renewed != token
        assert entra.directory.accepts(renewed, ARM)


def test_the_kernels_of_a_vm_outlive_the_sign_in(entra: Entra):
    """What a link asks when its connection broke: without a sign-in that is unknown, and never "gone"."""

    def answer(request: Request) -> Reply:
        return Reply(body={"data": [graph_row()], "count": 1, "totalRecords": 1, "resultTruncated": "false"})

    with arm_server(answer) as arm:
        provider = AzureCompute(
            arm_endpoint=arm.url, authority=entra.url, authority_ca_file=entra.ca_file, prices_endpoint=""
        )
        computes = Computes(lambda: [provider], lambda i: None)
        entra.signed_in(provider.sign_in)
        rows = computes.snapshot().computes
        assert [r.name for r in rows] == ["gpu-vm"]
        sent = arm.requests[-1].headers["authorization"].removeprefix("Bearer ")
        assert entra.directory.accepts(sent, arm.url)
        entra.directory.behaviour.at_refresh = 50173
        provider.sign_in.token((f"{arm.url}/.default",))  # still good
        with pytest.raises(SignInRequired):
            provider.sign_in.token((f"{arm.url}/.default",), None, '{"access_token":{}}')
        asked = len(arm.requests)
        assert computes.is_gone(rows[0].id) is None
        after = computes.snapshot(refresh=True)
        assert [r.name for r in after.computes] == ["gpu-vm"]
        assert "Sign in again" in after.problems[0].advice
        assert len(arm.requests) == asked  # nothing without a token
        computes.close()


def test_signing_out_forgets_everything(entra: Entra):
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        waiting = sign_in.begin()
        sign_in.sign_out()
        assert sign_in.status().state is SignInState.SIGNED_OUT
        with pytest.raises(SignInRequired):
            sign_in.token((SCOPE,))
        with pytest.raises(NotFound):
            sign_in.status(waiting.id)


# Nothing secret


def test_no_secret_is_in_a_log_or_an_error(entra: Entra, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with entra.sign_in() as sign_in:
        asked = sign_in.begin()
        entra.directory.enter(asked.code)
        finished(sign_in, asked)
        token, _ = sign_in.token((SCOPE,))
        other = sign_in.token((SCOPE,), PARTNER_TENANT_ID)[0]
        entra.directory.behaviour.at_refresh = 50173
        with pytest.raises(SignInRequired) as caught:
            sign_in.token(("https://other.example/.default",))
        said = caplog.text + repr(sign_in.status()) + str(caught.value)
        secret = [asked.code, token, other, *entra.directory._codes, *entra.directory._grants]
        assert len(secret) >= 5
        assert not [s for s in secret if s in said]


# Beyond the server's life


def test_keeping_needs_an_encrypted_store(entra: Entra, monkeypatch: pytest.MonkeyPatch):
    import msal_extensions

    def none(location: str) -> None:
        raise ImportError("no libsecret")

    monkeypatch.setattr(msal_extensions, "build_encrypted_persistence", none)
    with entra.sign_in() as sign_in:
        with pytest.raises(ConfigurationError, match="no encrypted store") as caught:
            sign_in.begin(keep=True)
        assert "without keeping" in caught.value.advice
        assert entra.directory.state()["waiting"] == []
        assert list(entra.folder.glob("kept*")) == []


class _Keyring:
    """A system's encrypted store: the secret is in here, and the file only says so."""

    secrets: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, location: str) -> None:
        self.location = location

    def save(self, content: str) -> None:
        self.secrets[self.location] = content
        Path(self.location).touch()

    def load(self) -> str:
        return self.secrets[self.location]


def test_a_kept_sign_in_is_there_in_the_next_server_until_somebody_signs_out(
    entra: Entra, monkeypatch: pytest.MonkeyPatch
):
    import msal_extensions

    monkeypatch.setattr(msal_extensions, "build_encrypted_persistence", _Keyring)
    with entra.sign_in() as first:
        asked = first.begin(keep=True)
        entra.directory.enter(asked.code)
        assert finished(first, asked).kept
        assert (entra.folder / "kept").read_text() == ""
    with entra.sign_in() as second:
        status = second.status()
        assert (status.state, status.account, status.kept) == (SignInState.SIGNED_IN, ADA, True)
        assert entra.directory.accepts(second.token((SCOPE,))[0], ARM)
        assert claims(second.token((SCOPE,), PARTNER_TENANT_ID)[0])["tid"] == PARTNER_TENANT_ID
    reachable, entra.directory.behaviour.at_refresh = entra.directory.behaviour.at_refresh, 90033
    with entra.sign_in() as later:
        with pytest.raises(ComputeError, match="fault of its own"):
            later.token((SCOPE,), None, "{}")
        assert later.status().account == ADA  # still kept
    entra.directory.behaviour.at_refresh = reachable
    with entra.sign_in(authority="https://localhost:9") as elsewhere:
        assert elsewhere.status().state is SignInState.SIGNED_OUT  # kept for another authority
    with entra.sign_in() as third:
        third.sign_out()
        assert not (entra.folder / "kept").exists()
        assert ADA not in _Keyring.secrets[str(entra.folder / "kept")]
    with entra.sign_in() as fourth:
        assert fourth.status().state is SignInState.SIGNED_OUT


# Pasted tokens


def jwt(audience: str = AZURE, ahead: float = 3600, **more: Any) -> str:
    return unsigned_jwt({"aud": audience, "exp": int(time.time() + ahead), "upn": ADA, "tid": TENANT_ID, **more})


def test_a_pasted_token(entra: Entra):
    with entra.sign_in(endpoint=AZURE, authority="") as sign_in:
        for audience in (AZURE, AZURE + "/", "https://management.core.windows.net/"):
            token = jwt(audience)
            status = sign_in.paste(f"  Bearer {token[:80]}\r\n{token[80:]}\n")  # as a terminal shows it
            assert (status.state, status.account, status.method) == (SignInState.SIGNED_IN, ADA, "pasted_token")
            assert sign_in.token((f"{AZURE}/.default",))[0] == token
        assert sign_in.paste(f"bearer {token}").state is SignInState.SIGNED_IN
        assert sign_in.token((f"{AZURE}/.default",))[0] == token
        with pytest.raises(SignInRequired, match="for the tenant"):
            sign_in.token((f"{AZURE}/.default",), PARTNER_TENANT_ID)
        with pytest.raises(SignInRequired, match="has expired"):
            sign_in.token((f"{AZURE}/.default",), None, "{}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "hunter2",
        "a.b.c",
        "x" * 100_000,
        jwt("https://graph.microsoft.com"),
        jwt(ahead=-5),
        jwt() + "\x01",
        jwt() + "é",
        jwt("https://management.usgovcloudapi.net"),
        unsigned_jwt({"aud": AZURE}),
        unsigned_jwt({"aud": ["a", {}], "exp": "soon"}),
    ],
)
def test_what_is_no_token_for_azure(entra: Entra, token: str):
    with entra.sign_in(endpoint=AZURE, authority="") as sign_in:
        with pytest.raises(BadRequest) as caught:
            sign_in.paste(token)
        assert not token or token not in str(caught.value)
        assert "az account get-access-token" in caught.value.advice


# Azure's own clouds: the same Entra under their names, behind a proxy


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Entra, list[str]]]:
    with (
        entra_server(tmp_path, [c.authority for c in CLOUDS.values()]) as server,
        proxy_to(server.port) as (url, asked),
    ):
        monkeypatch.setenv("https_proxy", url)
        yield server, asked


@pytest.mark.parametrize("cloud", list(CLOUDS.values()), ids=list(CLOUDS))
def test_each_cloud_has_its_own_authority_and_scope(clouds: tuple[Entra, list[str]], cloud: Any):
    entra, asked = clouds
    settings = SignInSettings(cloud.endpoint, authority_ca_file=entra.ca_file)
    sign_in = SignIn(settings, SignInStore(entra.folder / "kept"))
    try:
        status = entra.signed_in(sign_in)
        assert (status.cloud, status.account) == (cloud.name, ADA)
        token, _ = sign_in.token((cloud.scope,))
        assert entra.directory.accepts(token, cloud.scope.removesuffix("/.default"))
        sign_in.token((cloud.scope,), PARTNER_TENANT_ID)
    finally:
        sign_in.close()
    assert set(asked) == {f"{cloud.authority}:443"}


def test_the_environment_signs_in_without_asking(clouds: tuple[Entra, list[str]], monkeypatch: pytest.MonkeyPatch):
    entra, asked = clouds
    entra.directory.applications["app"] = "right"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra.ca_file)  # azure-identity's way to trust it
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT_ID)
    monkeypatch.setenv("AZURE_CLIENT_ID", "app")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "right")
    cloud = CLOUDS["usgov"]
    sign_in = SignIn(SignInSettings(cloud.endpoint), SignInStore(entra.folder / "kept"))
    try:
        status = sign_in.status()
        assert (status.state, status.method, status.account) == (SignInState.SIGNED_IN, "environment", "app")
        token, _ = sign_in.token((cloud.scope,))
        assert entra.directory.accepts(token, cloud.scope.removesuffix("/.default"))
        requests = len(asked)
        assert sign_in.token((cloud.scope,))[0] == token
        assert len(asked) == requests
    finally:
        sign_in.close()
    assert set(asked) == {f"{cloud.authority}:443"}
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong-secret")
    sign_in = SignIn(SignInSettings(cloud.endpoint), SignInStore(entra.folder / "kept"))
    try:
        status = sign_in.status()
        assert (status.state, status.error.code) == (SignInState.FAILED, "AADSTS7000215")
        assert "AZURE_CLIENT_SECRET" in status.error.advice
        assert "wrong-secret" not in status.error.message
    finally:
        sign_in.close()


# Without being asked


def fake_az(folder: Path, script: str) -> None:
    (folder / "bin").mkdir()
    az = folder / "bin" / "az"
    az.write_text(f"#!/bin/sh\n{script}\n")
    az.chmod(0o755)


def test_the_azure_cli_is_asked_for_the_clouds_own_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    token = jwt()
    answer = json.dumps({"accessToken": token, "expires_on": int(time.time()) + 3600})
    fake_az(tmp_path, f"echo \"$@\" >> {tmp_path}/asked; echo '{answer}'")
    sign_in = SignIn(SignInSettings(AZURE), SignInStore(tmp_path / "kept"))
    try:
        assert sign_in.status().method == "azure_cli"
        assert sign_in.status().account == ADA
        assert sign_in.token((f"{AZURE}/.default",))[0] == token
        sign_in.token((f"{AZURE}/.default",), PARTNER_TENANT_ID)
        asked = (tmp_path / "asked").read_text().splitlines()
        assert len(asked) == 2
        assert asked[0].endswith(f"--resource {AZURE}")
        assert asked[1].endswith(f"--tenant {PARTNER_TENANT_ID}")
        # A claims challenge, which the CLI cannot answer.
        with pytest.raises(SignInRequired, match="wants a new sign-in"):
            sign_in.token((f"{AZURE}/.default",), None, "{}")
        assert (sign_in.status().state, sign_in.status().error.code) == (SignInState.FAILED, "SignInExpired")
    finally:
        sign_in.close()


def test_a_cli_whose_sign_in_has_expired_says_so(tmp_path: Path):
    fake_az(tmp_path, "echo 'ERROR: AADSTS70043: The refresh token has expired. Trace ID: 1' >&2; exit 1")
    sign_in = SignIn(SignInSettings(AZURE), SignInStore(tmp_path / "kept"))
    try:
        status = sign_in.status()
        assert (status.state, status.error.code) == (SignInState.FAILED, "AADSTS70043")
        assert "Azure CLI" in status.error.message
    finally:
        sign_in.close()


def test_the_managed_identity_only_where_it_is_configured(monkeypatch: pytest.MonkeyPatch):
    import azure.identity

    made: list[dict[str, Any]] = []

    class Identity:
        def __init__(self, **kwargs: Any) -> None:
            made.append(kwargs)

        def get_token(self, *scopes: str, **kwargs: Any) -> Any:
            raise azure.identity.CredentialUnavailableError("none here")

        def close(self) -> None:
            pass

    monkeypatch.setattr(azure.identity, "ManagedIdentityCredential", Identity)
    for configured, expected in (("", []), ("system", [{}]), ("some-id", [{"client_id": "some-id"}])):
        made.clear()
        chain = SilentChain(CLOUDS["public"], configured)
        with pytest.raises(SignInRequired, match="nobody is signed in"):
            chain.get_token(CLOUDS["public"].scope)
        chain.close()
        assert made == expected


def test_whoever_signs_in_comes_before_the_token_file(entra: Entra, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("from-the-file")
    file.chmod(0o600)
    with entra.sign_in(token_file=str(file)) as sign_in:
        assert sign_in.status().method == "token_file"
        assert sign_in.token((SCOPE,))[0] == "from-the-file"
        entra.signed_in(sign_in)
        assert sign_in.status().method == "device_code"
        assert sign_in.token((SCOPE,))[0] != "from-the-file"
        sign_in.sign_out()
        assert sign_in.token((SCOPE,))[0] == "from-the-file"
    file.unlink()
    with entra.sign_in(token_file=str(file)) as sign_in:
        assert sign_in.status().error.code == "SignInRequired"


def test_a_token_file_with_more_than_a_token_is_not_sent_nor_shown(tmp_path: Path):
    """requests would refuse the header, in words that hold it."""
    file = tmp_path / "token"
    file.write_text("first-secret\nsecond-secret\n")
    file.chmod(0o600)
    with pytest.raises(SignInRequired, match="no token") as caught:
        TokenFile(str(file)).read()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/nonexistent.pem"}, "SignInRequired", "/nonexistent.pem"),
        ({"AZURE_FEDERATED_TOKEN_FILE": "/nonexistent"}, "SignInRequired", "/nonexistent"),
        ({"AZURE_CLIENT_SECRET": "x", "https_proxy": "http://127.0.0.1:9"}, "Unreachable", "no answer from login."),
    ],
)
def test_an_environment_that_cannot_work_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: str, says: str
):
    for name, value in {"AZURE_TENANT_ID": TENANT_ID, "AZURE_CLIENT_ID": "app", **variables}.items():
        monkeypatch.setenv(name, value)
    sign_in = SignIn(SignInSettings(AZURE), SignInStore(tmp_path / "kept"))
    try:
        status = sign_in.status()
        assert (status.state, status.error.code) == (SignInState.FAILED, code)
        assert says in status.error.message
    finally:
        sign_in.close()


# Attempts and the end of accounts, without Entra


def test_a_page_whose_attempt_has_ended_is_not_told_that_it_goes_on(tmp_path: Path):
    """Its code is worth nothing any more, whatever other pages are at."""
    with a_sign_in(tmp_path) as sign_in:
        sign_in._attempts = Attempts().asked("first", "").asked("second", "")
        sign_in.cancel("first")
        assert sign_in.status("first").state is SignInState.SIGNED_OUT
        assert sign_in.status("second").state is SignInState.PROMPTING
        assert sign_in.status().state is SignInState.PROMPTING


def test_a_code_that_comes_too_late_is_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answered, closed = threading.Event(), threading.Event()

    class Slow:
        def begin(self) -> Any:
            answered.wait(20)
            return Prompt("https://localhost", "CODE", ""), {}

        def finish(self, flow: Any, stop: Any) -> None:
            assert stop()

        def close(self) -> None:
            closed.set()

    monkeypatch.setattr("jupyter_dsvm.compute.azure.signin.CODE_PATIENCE", 0.1)
    with a_sign_in(tmp_path) as sign_in:
        monkeypatch.setattr(sign_in, "_application", lambda tenant: Slow())
        asked = sign_in.begin()
        assert (asked.state, asked.error.code) == (SignInState.FAILED, "Unreachable")
        answered.set()
        assert closed.wait(20)
        assert sign_in.status().state is SignInState.FAILED


def test_forgetting_an_account_asks_nobody(monkeypatch: pytest.MonkeyPatch):
    """MSAL's own way asks the authority for its aliases, which fails where there is no network."""
    asked = []

    def answer(self: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        asked.append(url)
        base = "https://login.microsoftonline.com/x/oauth2/v2.0"
        answered = requests.Response()
        answered.status_code = 200
        answered._content = json.dumps(
            {"issuer": base, "authorization_endpoint": base, "token_endpoint": base}
        ).encode()
        return answered

    monkeypatch.setattr(requests.Session, "request", answer)
    account = Application(SignInSettings(AZURE).sign_in_authority, AZURE_CLI_APP, f"{AZURE}/.default")
    account._cache.deserialize('{"RefreshToken": {}}')
    account._client()
    assert asked
    asked.clear()
    account.close()
    assert asked == []
    assert account._cache.serialize() == "{}"


def test_what_was_signed_out_is_not_written_after_that(tmp_path: Path):
    """A renewed token is being kept while somebody signs out."""
    writing, go_on = threading.Event(), threading.Event()

    class Store(SignInStore):
        kept: Any = None

        def save(self, rows: Any) -> None:
            if rows:
                writing.set()
                go_on.wait(20)
            self.kept = list(rows)

    class Kept(PastedToken):
        def to_keep(self) -> dict[str, Any]:
            return {"secret": 1}

    store = Store(tmp_path / "kept")
    sign_in = SignIn(SignInSettings(AZURE), store)
    keeping = threading.Thread(
        target=sign_in._take, args=(Kept(jwt(), AZURE, f"{AZURE}/.default"),), kwargs={"named": False, "kept": True}
    )
    keeping.start()
    assert writing.wait(20)
    leaving = threading.Thread(target=sign_in.sign_out)
    leaving.start()
    leaving.join(0.3)
    go_on.set()
    keeping.join()
    leaving.join()
    assert store.kept == []
    sign_in.close()


def test_a_token_that_is_renewed_while_the_server_stops_leaves_what_was_kept(tmp_path: Path):
    saved = []

    class Store(SignInStore):
        def save(self, rows: Any) -> None:
            saved.append(list(rows))

    sign_in = SignIn(SignInSettings(AZURE), Store(tmp_path / "kept"))
    sign_in.close()
    sign_in._keep()  # as the thread that renewed it does
    assert saved == []


@contextmanager
def a_sign_in(folder: Path) -> Iterator[SignIn]:
    made = SignIn(SignInSettings(ARM, authority="https://localhost:9"), SignInStore(folder / "kept"))
    try:
        yield made
    finally:
        made.close()


# Where a token may go


def test_a_clouds_own_authority_may_be_spelt_out(tmp_path: Path):
    """It changes nothing: what asks nobody still counts."""
    token = jwt()
    answer = json.dumps({"accessToken": token, "expires_on": int(time.time()) + 3600})
    fake_az(tmp_path, f"echo '{answer}'")
    sign_in = SignIn(SignInSettings(AZURE, authority="https://login.microsoftonline.com"), SignInStore(tmp_path / "k"))
    try:
        assert sign_in.status().state is SignInState.SIGNED_IN
        assert sign_in.token((f"{AZURE}/.default",))[0] == token
    finally:
        sign_in.close()


@pytest.mark.parametrize("endpoint", ["management.azure.com", "http://arm.example", ""])
def test_an_endpoint_that_is_no_address_is_a_sentence(endpoint: str, tmp_path: Path):
    with pytest.raises(ComputeError, match=r"AzureCompute\.arm_endpoint"):
        SignIn(SignInSettings(endpoint), SignInStore(tmp_path / "kept"))


@pytest.mark.parametrize(
    ("endpoint", "authority"),
    [
        (AZURE, "https://localhost:1"),  # a real endpoint, somebody else's authority
        (AZURE, "https://login.microsoftonline.us"),
        ("https://arm.example", "https://login.microsoftonline.com"),  # a real authority, somebody else's endpoint
        ("https://arm.example", "https://login.windows.net"),
        ("https://arm.example", "https://login.microsoftonline.com."),
        (ARM, "http://localhost:1"),
        (ARM, "nonsense"),
    ],
)
def test_real_tokens_stay_with_azure(endpoint: str, authority: str, tmp_path: Path):
    with pytest.raises(ConfigurationError):
        SignIn(SignInSettings(endpoint, authority=authority), SignInStore(tmp_path / "kept"))


def test_an_endpoint_without_an_authority(tmp_path: Path):
    sign_in = SignIn(SignInSettings("https://arm.example"), SignInStore(tmp_path / "kept"))
    with pytest.raises(ConfigurationError, match="no Azure cloud"):
        sign_in.begin()
    assert sign_in.status().state is SignInState.SIGNED_OUT
    with pytest.raises(SignInRequired, match="no Azure cloud"):
        sign_in.token(("https://arm.example/.default",))
    sign_in.close()


def test_a_password_of_the_netrc_does_not_take_the_tokens_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent = []

    def send(self: Any, request: Any, **options: Any) -> Any:
        sent.append(request.headers["Authorization"])
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    sign_in = SignIn(SignInSettings(AZURE), SignInStore(tmp_path / "kept"))
    token = jwt()
    sign_in.paste(token)
    client = ArmClient(AZURE, credential=sign_in.credential)
    with pytest.raises(ComputeError, match="no answer"), client.translated("ask"):
        client.post("/x", "1", {})
    client.close()
    sign_in.close()
    assert sent == [f"Bearer {token}"]


def test_a_change_of_account_counts_at_once(entra: Entra):
    with arm_server(lambda request: Reply(body={})) as arm, entra.sign_in(endpoint=arm.url) as sign_in:
        client = ArmClient(arm.url, credential=sign_in.credential)
        with client.translated("list"), pytest.raises(SignInRequired):
            client.get("/x", "1")
        assert arm.requests == []
        entra.signed_in(sign_in)
        client.get("/x", "1")
        entra.signed_in(sign_in, username=GRACE)
        until(lambda: client.get("/x", "1") is None or who(arm.requests[-1]) == GRACE)
        assert who(arm.requests[0]) == ADA
        client.close()


def who(request: Request) -> str:
    return claims(re.sub("^Bearer ", "", request.headers["authorization"]))["upn"]


def test_the_application_is_the_azure_clis_unless_another_is_chosen(entra: Entra):
    entra.directory.applications["ours"] = None
    with entra.sign_in(client_id="ours") as sign_in:
        entra.signed_in(sign_in)
        assert claims(sign_in.token((SCOPE,))[0])["appid"] == "ours"
    with entra.sign_in() as sign_in:
        entra.signed_in(sign_in)
        assert claims(sign_in.token((SCOPE,))[0])["appid"] == AZURE_CLI_APP
