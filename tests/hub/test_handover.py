"""The hub's sign-in at Entra is its users' sign-in to Azure: their servers get tokens, and nothing that renews them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, WHERE
from support.hub import Hub, Person, accounts_possible, cell, compute, homes, needs_proxy, set_up
from support.restarted import attach
from support.served import RestError, Served
from support.sshd import free_port
from support.tab import Tab

pytest.importorskip("oauthenticator")
pytestmark = [needs_proxy, pytest.mark.timeout(300)]

SECRET = "the hub's own"
NAMES = {"ada": "ada@example.com", "bob": "grace@partner.example"}

CONFIGURATION = """
import os

from oauthenticator.azuread import AzureAdOAuthenticator

from jupyter_dsvm.hub.handover import TokenHandover


class Authenticator(TokenHandover, AzureAdOAuthenticator):
    pass


entra = {entra!r}
c.JupyterHub.authenticator_class = Authenticator
c.CryptKeeper.keys = [os.urandom(32)]
c.Authenticator.enable_auth_state = True
c.Authenticator.auth_refresh_age = 1
c.Authenticator.allow_all = True
c.Authenticator.username_map = {{"ada@example.com": "ada", "grace@partner.example": "bob"}}
c.TokenHandover.azure_endpoint = {arm!r}
c.AzureAdOAuthenticator.client_id = {client_id!r}
c.AzureAdOAuthenticator.client_secret = {secret!r}
c.AzureAdOAuthenticator.authorize_url = f"{{entra}}/organizations/oauth2/v2.0/authorize"
c.AzureAdOAuthenticator.token_url = f"{{entra}}/organizations/oauth2/v2.0/token"
c.AzureAdOAuthenticator.oauth_callback_url = {callback!r}
c.AzureAdOAuthenticator.username_claim = "preferred_username"
c.AzureAdOAuthenticator.scope = ["openid", "profile", "offline_access", {arm!r} + "/user_impersonation"]
c.AzureAdOAuthenticator.http_request_kwargs = {{"ca_certs": {ca!r}}}
"""


class Browser(requests.Session):
    """Somebody's browser, which knows the hub's cookies and logs in at the emulated Entra."""

    def __init__(self, hub: Hub, emulator: Emulator) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(emulator.config_dir / "entra-ca.pem")
        self.home = f"http://127.0.0.1:{hub.port}{hub.base}hub"

    def log_in(self, account: str) -> None:
        page = self.get(f"{self.home}/oauth_login", params={"next": "/class/hub/home"}, timeout=30)
        assert "Pick an account" in page.text, page.text[:500]
        done = self.post(page.url, {"account": account}, timeout=30)
        assert done.ok, done.text[:500]
        assert done.url == f"{self.home}/home"


@pytest.fixture(scope="module")
def students(emulator: Emulator) -> Iterator[list[Person]]:
    with homes({"ada": False, "bob": False, "teacher": True}, accounts_possible()) as made:
        for person in made:
            set_up(emulator, person, AzureCompute={"token_file": ""})
        yield made


@pytest.fixture(scope="module")
def entra_hub(
    emulator: Emulator, students: list[Person], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hub, dict[str, Browser]]]:
    """Ada and Bob have logged in, and their servers run."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/class/hub/oauth_callback"
    extra = CONFIGURATION.format(
        entra=emulator.entra,
        arm=emulator.arm,
        client_id=emulator.web_application(SECRET, callback),
        secret=SECRET,
        callback=callback,
        ca=str(emulator.config_dir / "entra-ca.pem"),
    )
    folder = tmp_path_factory.mktemp("entra") / "hub"
    with Hub(
        folder, students, base="/class/", port=port, accounts=accounts_possible(), extra=extra, login=False
    ) as hub:
        browsers = {}
        for name, account in NAMES.items():
            browsers[name] = Browser(hub, emulator)
            browsers[name].log_in(account)
        hub.spawn_all(NAMES)
        yield hub, browsers
        for browser in browsers.values():
            browser.close()


@pytest.fixture(autouse=True)
def as_it_was(emulator: Emulator, entra_hub: tuple[Hub, dict[str, Browser]]) -> Iterator[None]:
    yield
    emulator.set_entra(token_lifetime=3900.0, at_refresh=None)
    for name in NAMES:
        entra_hub[0].as_user(name).end_kernels()


def machines(server: Served) -> set[str]:
    found = server.rest("GET", "jupyter-dsvm/computes?refresh=true")
    assert found["problems"] == []
    return {c["name"] for c in found["computes"]}


def its_token(server: Served) -> str:
    """What the hub gave that server: everybody can read their own, in a cell."""
    kernel_id = server.open("environment.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as tab:
        return cell(tab, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])")


def asked(hub: Hub, token: str, user: str, server: str = "", **body: Any) -> tuple[int, Any]:
    try:
        answer = Served(hub.port, token, f"{hub.base}hub/").rest("POST", f"jupyter-dsvm/token/{user}/{server}", body)
        return 200, answer
    except RestError as error:
        return error.status, error.answer


def test_whoever_logged_in_to_the_hub_is_signed_in_to_azure(entra_hub: tuple[Hub, dict[str, Browser]]):
    hub, _ = entra_hub
    ada = hub.as_user("ada")
    status = ada.rest("GET", "jupyter-dsvm/signin")
    assert (status["state"], status["method"], status["account"]) == ("signed_in", "hub", "ada@example.com")
    assert {"cpu-vm", "gpu-vm"} <= machines(ada)
    kernel_id = ada.open("nb.ipynb")["kernel"]["id"]
    with Tab(ada, kernel_id) as tab:
        attach(ada, kernel_id, compute(ada, "cpu-vm"))
        assert cell(tab, WHERE) == "cpu-vm"
        # Nothing of the hub is there.
        assert cell(tab, "import os; print([n for n in os.environ if 'HUB' in n])") == "[]"
        attach(ada, kernel_id, "free")
        assert cell(tab, WHERE) == HERE
    # Each as themselves.
    assert hub.as_user("bob").rest("GET", "jupyter-dsvm/signin")["account"] == "grace@partner.example"


def test_nothing_secret_is_in_a_server_s_environment_or_home(entra_hub: tuple[Hub, dict[str, Browser]]):
    hub, _ = entra_hub
    ada = hub.as_user("ada")
    machines(ada)
    kernel_id = ada.open("environment.ipynb")["kernel"]["id"]
    with Tab(ada, kernel_id) as tab:
        names = json.loads(cell(tab, "import json, os; print(json.dumps(dict(os.environ)))"))
    token = asked(hub, names["JUPYTERHUB_API_TOKEN"], "ada")[1]["access_token"]
    assert names["JUPYTER_DSVM_HUB_SIGN_IN"] == "1"
    long = {n: v for n, v in names.items() if len(v) > 300 or re.match(r"eyJ|[\w-]{100,}$", v)}
    assert long == {}, long
    for file in hub.people["ada"].home.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert token.encode() not in content, file
            assert SECRET.encode() not in content, file
    log = hub.log.read_text(errors="replace")
    assert token not in log
    assert SECRET not in log
    assert names["JUPYTERHUB_API_TOKEN"] not in log


def test_the_hub_renews_and_the_server_knows_only_the_token(
    entra_hub: tuple[Hub, dict[str, Browser]], emulator: Emulator
):
    hub, browsers = entra_hub
    emulator.set_entra(token_lifetime=2.0)
    browsers["ada"].log_in(NAMES["ada"])
    ada = hub.spawn("ada", "short")
    try:
        # However short they last, the server has one that is good.
        for _ in range(2):
            assert "cpu-vm" in machines(ada)
            time.sleep(2.1)
    finally:
        hub.cull("ada", "short")
    secret = its_token(hub.as_user("ada"))
    status, first = asked(hub, secret, "ada")
    assert status == 200
    assert set(first) == {"access_token", "expires_on", "account", "tenant"}
    assert asked(hub, secret, "ada")[1]["access_token"] != first["access_token"]
    # One that lasts is given again, also after the hub has looked at the login anew (auth_refresh_age).
    emulator.set_entra(token_lifetime=3900.0)
    _, renewed = asked(hub, secret, "ada")
    time.sleep(1.1)
    assert asked(hub, secret, "ada")[1] == renewed
    # And also where Azure is said not to take it, if it is quite new.
    assert asked(hub, secret, "ada", fresh=True)[1] == renewed


def test_nobody_gets_another_s_token(entra_hub: tuple[Hub, dict[str, Browser]]):
    hub, browsers = entra_hub
    hers, his = its_token(hub.as_user("ada")), its_token(hub.as_user("bob"))
    assert asked(hub, hers, "ada")[0] == 200
    refusals = [
        asked(hub, his, "ada"),
        asked(hub, hers, "bob"),
        asked(hub, "0" * 32, "ada"),
        # A token that is for something else, as one that a program of hers was given.
        asked(hub, hub.token("ada", scopes=["read:users!user"]), "ada"),
        asked(hub, hub.token("ada", scopes=["users:activity!user"]), "ada"),
        # An administrator may open her server, and does not become her.
        asked(hub, hub.token("teacher"), "ada"),
        # A token for one server is not for another one.
        asked(hub, hub.token("ada", scopes=["access:servers!server=ada/"]), "ada", "other"),
    ]
    assert [status for status, _ in refusals if status not in (403, 404)] == []
    assert not any("access_token" in str(answer) for _, answer in refusals)
    # A page that she has open, whatever runs in it.
    browser = browsers["ada"]
    xsrf = next(c.value for c in browser.cookies if c.name == "_xsrf")
    for headers in ({}, {"X-XSRFToken": xsrf, "Content-Type": "application/json"}):
        answer = browser.post(f"{browser.home}/jupyter-dsvm/token/ada/", json={}, headers=headers, timeout=30)
        assert answer.status_code == 403, answer.text


def test_a_sign_in_that_has_ended_says_to_log_in_to_the_hub(
    entra_hub: tuple[Hub, dict[str, Browser]], emulator: Emulator
):
    hub, browsers = entra_hub
    bob = hub.as_user("bob")
    kernel_id = bob.open("nb.ipynb")["kernel"]["id"]
    with Tab(bob, kernel_id) as tab:
        secret = cell(tab, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])")
        emulator.set_entra(token_lifetime=2.0)  # so that the login's own has to be renewed at once
        browsers["bob"].log_in(NAMES["bob"])
        emulator.set_entra(at_refresh=50173)
        status, answer = asked(hub, secret, "bob")
        assert (status, answer["code"]) == (403, "SignInExpired")
        assert "AADSTS50173" in answer["message"]
        assert answer["advice"].startswith("Log out of the hub")
        assert cell(tab, "print(1)") == "1"
        # He does so.
        emulator.set_entra(at_refresh=None)
        browsers["bob"].log_in(NAMES["bob"])
        assert asked(hub, secret, "bob")[0] == 200


def test_a_hub_does_not_start_where_tokens_would_go_elsewhere(students: list[Person], tmp_path: Path):
    """An authority that is not the one of the cloud whose tokens are handed over."""
    extra = CONFIGURATION.format(
        entra="https://login.microsoftonline.com",
        arm="http://127.0.0.1:9",
        client_id="x",
        secret=SECRET,
        callback="http://127.0.0.1:9/hub/oauth_callback",
        ca="",
    )
    hub = Hub(tmp_path / "hub", students[:1], extra=extra, login=False)
    with pytest.raises(AssertionError, match=r"token_url is https://login\.microsoftonline\.com"), hub:
        pass
