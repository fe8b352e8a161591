"""The hub's sign-in as its users' sign-in to Azure: a mixin for the hub's authenticator.

In ``jupyterhub_config.py``::

    from jupyter_dsvm.hub.handover import TokenHandover
    from oauthenticator.azuread import AzureAdOAuthenticator

    class Authenticator(TokenHandover, AzureAdOAuthenticator):
        pass

    c.JupyterHub.authenticator_class = Authenticator
    c.Authenticator.enable_auth_state = True

It runs inside the hub, which alone has what renews a sign-in: the refresh token in ``auth_state``, encrypted in the hub's database.

=======================  ====================================================================================================
who                      does what
=======================  ====================================================================================================
``pre_spawn_start``      tells a server that there are tokens to be had: one word in its environment, nothing secret
a user's server          asks ``hub/jupyter-dsvm/token/USER/SERVER`` with the token that the hub gave it (``JUPYTERHUB_API_TOKEN``)
``TokenHandler``         checks that this token may open that server of that user and is that user's own
``TokenHandover``        answers with an access token for Azure's Resource Manager, renewed with the refresh token where need be
=======================  ====================================================================================================

An access token lasts an hour or so, and is for the Resource Manager of the configured cloud alone. The refresh token goes to the
authority that the authenticator signs in at, over verified TLS, and that has to be the configured cloud's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any
from urllib.parse import urlencode

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.auth import Authenticator
from jupyterhub.scopes import needs_scope
from jupyterhub.utils import maybe_future
from tornado.httpclient import HTTPClientError
from traitlets import Enum, Unicode

from ..compute.azure.aadsts import ends_sign_in, refusal
from ..compute.azure.credentials import CLOUDS, Cloud, check_endpoint, cloud_of, origin
from ..compute.azure.hub_tokens import AGAIN, FLAG
from ..compute.azure.tokens import LETTERS, LONGEST_TOKEN, audiences, claims_of, who
from ..errors import ComputeError, ConfigurationError, DSVMError, SignInRequired, printable

RENEW_BEFORE = 600.0
"""Seconds before its end at which an access token is renewed: servers renew theirs 300 seconds before, and must get another one."""

RENEWED_LATELY = 60.0
"""Seconds within which a token is not renewed again, whoever says that Azure did not take it."""

REQUEST_SECONDS = 30.0

NEEDS_SCOPE = "The authenticator's scope needs offline_access"
NEEDS_RESOURCE = (
    "Its endpoints are v1, so the authenticator's token_params need the resource that tokens are for (docs/hub.md)"
)

TRIED = "The hub could not renew the sign-in to Azure"


class TokenHandler(APIHandler):
    """``POST hub/jupyter-dsvm/token/USER/SERVER`` with ``{"fresh": bool}``; the default server's name is empty."""

    # Whoever may open a user's server acts as that user there, so this gives nothing that they would not have.
    @needs_scope("access:servers")
    async def post(self, user_name: str, server_name: str = "") -> None:
        user = self.current_user
        if not getattr(self, "_token_authenticated", False) or user is None or user.name != user_name:
            # Neither a page's cookie, nor an administrator for others, nor a service.
            self._refuse(403, ComputeError("A server may ask for its own user only.", code="NotYours"))
            return
        body = self.get_json_body() or {}
        fresh = isinstance(body, dict) and body.get("fresh") is True
        try:
            token, expires = await self.authenticator.azure_token(user, fresh)
        except DSVMError as error:
            self._refuse(error.status, error)
            return
        self.log.info("The server %s/%s of %s has a token for Azure.", user_name, server_name, user.name)
        name, tenant = who(claims_of(token))
        self._answer({"access_token": token, "expires_on": expires, "account": name, "tenant": tenant})

    def _refuse(self, status: int, error: DSVMError) -> None:
        self.log.warning("No token for Azure for %s: %s", self.request.path, error)
        self.set_status(status)
        self._answer(error.to_json())

    def _answer(self, data: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(data))


class TokenHandover(Authenticator):
    azure_cloud = Enum(
        list(CLOUDS), default_value="public", help="Which Azure cloud the tokens are for: public, usgov or china."
    ).tag(config=True)
    azure_endpoint = Unicode(
        "",
        help="Address of a Resource Manager that is no Azure cloud, as `AzureCompute.arm_endpoint` of the servers: the emulator's.",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._tokens: dict[str, tuple[str, str, float, float]] = {}
        """By user: which refresh token it belongs to (its digest), the access token, when it ends, when it was got."""
        self._locks: dict[str, asyncio.Lock] = {}

    # Called by the hub

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """Once, while the hub starts. Raises ``ConfigurationError`` for what could send a token elsewhere."""
        self._check()
        return [*super().get_handlers(app), (r"/jupyter-dsvm/token/([^/]+)/([^/]*)", TokenHandler)]

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Before each start of a server, after ``Spawner.environment`` was read."""
        await maybe_future(super().pre_spawn_start(user, spawner))
        state = await user.get_auth_state()
        if not state or not state.get("refresh_token"):
            self.log.warning(
                "There is no refresh token for %s: their servers get tokens for Azure as long as the one of the login lasts. %s, "
                "and Authenticator.enable_auth_state has to be True.",
                user.name,
                NEEDS_SCOPE if self._is_v2 else NEEDS_RESOURCE,
            )
        spawner.environment = {**spawner.environment, FLAG: "1"}

    # Tokens

    async def azure_token(self, user: Any, fresh: bool = False) -> tuple[str, float]:
        """An access token for the Resource Manager and when it ends (Unix time); ``fresh``: Azure did not take the last one.
        Raises ``SignInRequired`` where the user has to log in to the hub again, ``ComputeError`` where Entra cannot be asked."""
        # One at a time for each user: their servers wake up together.
        async with self._locks.setdefault(user.name, asyncio.Lock()):
            state = await user.get_auth_state()
            if not state:
                raise SignInRequired("The hub has kept no sign-in to Azure of yours.", advice=AGAIN, code="NoSignIn")
            refresh = str(state.get("refresh_token") or "")
            known = self._known(user.name, refresh, str(state.get("access_token") or ""))
            now = time.time()
            if known is not None and known[1] - RENEW_BEFORE > now and not (fresh and known[2] + RENEWED_LATELY < now):
                return known[0], known[1]
            if not refresh:
                raise SignInRequired(
                    "The hub has nothing to renew your sign-in to Azure with.", advice=AGAIN, code="SignInExpired"
                )
            token, expires, renewed = await self._renew(refresh)
            if renewed != refresh:
                await _save(user, state, renewed)
            self._tokens[user.name] = (_digest(renewed), token, expires, time.time())
            return token, expires

    def _known(self, name: str, refresh: str, login: str) -> tuple[str, float, float] | None:
        """Token, end, and when it was got: what was renewed last, else the login's own if it is for the Resource Manager."""
        digest, token, expires, at = self._tokens.get(name, ("", "", 0.0, 0.0))
        if token and digest == _digest(refresh):
            return token, expires, at
        # Somebody has logged in since.
        self._tokens.pop(name, None)
        claims = claims_of(login)
        if self._is_for_us(claims) and isinstance(claims.get("exp"), (int, float)):
            return login, float(claims["exp"]), float(claims.get("iat") or 0)
        return None

    async def _renew(self, refresh: str) -> tuple[str, float, str]:
        """Access token, end, and the refresh token from now on."""
        params = {**self.build_refresh_token_request_params(refresh)}
        if self._is_v2:
            params["scope"] = f"{self._scope} offline_access"
        else:
            params["resource"] = self._scope.removesuffix("/.default")
        try:
            answer = await self.httpfetch(
                self.token_url,
                label="renewing the sign-in to Azure",
                method="POST",
                headers=self.build_token_info_request_headers(),
                body=urlencode(params).encode(),
                validate_cert=self.validate_server_cert,
                follow_redirects=False,
                request_timeout=REQUEST_SECONDS,
            )
        except HTTPClientError as error:
            raise _refusal(error) from None
        except (OSError, ValueError) as error:
            raise ComputeError(
                f"{TRIED}: no answer from {origin(self.token_url)[1]}. {printable(str(error), 200)}",
                advice="Try again in a minute; if it stays so, tell whoever runs the hub.",
                code="Unreachable",
            ) from None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or len(token) > LONGEST_TOKEN or not LETTERS.fullmatch(token):
            raise ComputeError(f"{TRIED}: Entra's answer has no token.", code="BadAnswer")
        claims = claims_of(token)
        if not self._is_for_us(claims):
            raise ComputeError(
                f"{TRIED}: the token that came is not for Azure's Resource Manager.",
                advice="Whoever runs the hub: the application needs the permission user_impersonation of Azure Service Management.",
                code="BadToken",
            )
        expires = claims.get("exp")
        if not isinstance(expires, (int, float)):
            expires = time.time() + float(answer.get("expires_in") or 0)
        return token, float(expires), str(answer.get("refresh_token") or refresh)

    @property
    def _is_v2(self) -> bool:
        """Of Entra's two token endpoints: v2.0 is asked for scopes; the older one, which ``AzureAdOAuthenticator`` has where only
        its ``tenant_id`` is set, for a resource."""
        return "/v2.0/" in self.token_url

    # The rule that keeps tokens with Azure

    @property
    def _cloud(self) -> Cloud | None:
        return cloud_of(self.azure_endpoint) if self.azure_endpoint else CLOUDS[self.azure_cloud]

    @property
    def _endpoint(self) -> str:
        return self.azure_endpoint or CLOUDS[self.azure_cloud].endpoint

    @property
    def _scope(self) -> str:
        cloud = self._cloud
        return cloud.scope if cloud is not None else f"{self._endpoint.rstrip('/')}/.default"

    def _is_for_us(self, claims: dict[str, Any]) -> bool:
        return str(claims.get("aud") or "").rstrip("/").lower() in audiences(self._endpoint, self._scope)

    def _check(self) -> None:
        check_endpoint(self._endpoint)
        try:
            scheme, host, _ = origin(self.token_url)
        except ValueError as error:
            raise ConfigurationError(f"The authenticator's token_url cannot be used: {error}.") from None
        owner = next((c for c in CLOUDS.values() if host in {c.authority, *c.aliases}), None)
        if scheme != "https" or owner is not self._cloud:
            raise ConfigurationError(
                f"The authenticator's token_url is {self.token_url}, which does not go with {self._endpoint}.",
                advice="Set azure_cloud to the cloud that people log in to.",
            )
        if not self.validate_server_cert:
            raise ConfigurationError("validate_server_cert is off: tokens for Azure would go to whoever answers.")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def _save(user: Any, state: dict[str, Any], refresh: str) -> None:
    """The new refresh token in both places: OAuthenticator makes ``auth_state`` anew out of ``token_response``."""
    response = state.get("token_response")
    if isinstance(response, dict):
        state = {**state, "token_response": {**response, "refresh_token": refresh}}
    await user.save_auth_state({**state, "refresh_token": refresh})


def _refusal(error: HTTPClientError) -> ComputeError:
    """What Entra said, without anything secret: its error has none."""
    text = error.response.body.decode("utf-8", "replace") if error.response and error.response.body else ""
    try:
        body = json.loads(text)
        word, description = str(body["error"]), str(body.get("error_description") or "")
    except (ValueError, TypeError, KeyError, RecursionError):
        return ComputeError(
            f"{TRIED}: Entra answered {error.code}.",
            advice="Try again in a minute; if it stays so, tell whoever runs the hub.",
            code="EntraFault",
        )
    refused = refusal(word, description, TRIED)
    if ends_sign_in(refused.code):
        return SignInRequired(refused.message, advice=AGAIN, code="SignInExpired")
    return SignInRequired(refused.message, advice=AGAIN, code=refused.code)
