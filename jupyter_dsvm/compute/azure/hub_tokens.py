"""Tokens of the hub's own sign-in: a user's server asks its JupyterHub, which keeps what renews them to itself.

``credentials.credential_for`` makes it where ``AzureCompute.hub_sign_in`` says so; ``jupyter_dsvm.hub.handover`` is the other side.
The question goes to the hub that ``JUPYTERHUB_API_URL`` names, with the token that the hub gave this server, and nowhere else: no
redirect is followed and no proxy is used. An answer counts only if its token is for the Resource Manager that is configured
here. Nothing is kept on disk. Blocks; called on worker threads.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...errors import ComputeError, ConfigurationError, SignInRequired, printable
from .tokens import LETTERS, LONGEST_TOKEN, audiences, claims_of

if TYPE_CHECKING:
    import requests
    from azure.core.credentials import AccessToken

FLAG = "JUPYTER_DSVM_HUB_SIGN_IN"
"""In the environment of a server whose hub hands tokens over; it says nothing else."""

METHOD = "hub"

AGAIN = "Log out of the hub (File, Log Out) and log in again. Kernels that run on VMs are not affected."

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between bytes of an answer: the hub may have to ask Entra."""

LONGEST_ANSWER = 2 * LONGEST_TOKEN

STILL_GOOD = 300.0
"""Who is asked again although the last token is good for longer than so many seconds is to renew it: Azure did not take it."""


def under_hub() -> bool:
    """Whether this process belongs to a user's server of a hub; a service of the hub has no user."""
    return bool(os.environ.get("JUPYTERHUB_USER"))


def announced() -> bool:
    """Whether the hub has said that it hands tokens over."""
    return os.environ.get(FLAG) == "1"


def hub_path(user: str, server: str) -> str:
    """Below the hub's own address (``…/hub``)."""
    return f"/jupyter-dsvm/token/{quote(user, safe='@~')}/{quote(server, safe='')}"


class HubTokens:
    """A chain with one way in, like ``credentials.SilentChain``."""

    def __init__(self, endpoint: str, scope: str) -> None:
        self._scope = scope
        self._audiences = audiences(endpoint, scope)
        self._last = ("", 0.0)

    def find(self, *scopes: str, **options: Any) -> tuple[str, AccessToken]:
        """Raises ``SignInRequired``, ``ComputeError``."""
        from azure.core.credentials import AccessToken

        tried = "Could not get a token from the hub"
        if scopes != (self._scope,):
            raise SignInRequired(
                f"{tried}: it hands over tokens for Azure's Resource Manager only.",
                advice="Sign in with a code: in the Compute panel, or with %dsvm signin.",
            )
        if options.get("claims"):
            raise SignInRequired(
                "Azure did not take the hub's token (a rule of your organisation, or the account has changed) and wants a new "
                "sign-in.",
                advice=AGAIN,
                code="SignInExpired",
            )
        token, expires = self._ask(fresh=self._last[1] - STILL_GOOD > time.time())
        claims = claims_of(token)
        tenant = str(claims.get("tid") or "")
        wanted = options.get("tenant_id")
        if wanted and tenant and wanted.lower() != tenant.lower():
            raise SignInRequired(
                f"{tried} for the tenant {wanted}: the hub's sign-in is with {printable(tenant, 100)}.",
                advice=f"Sign in to that tenant with a code: %dsvm signin --tenant {wanted}.",
            )
        self._last = (token, expires)
        return METHOD, AccessToken(token, int(expires))

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return self.find(*scopes, **options)[1]

    def close(self) -> None:
        self._last = ("", 0.0)

    def _ask(self, fresh: bool) -> tuple[str, float]:
        import requests

        api, secret = os.environ.get("JUPYTERHUB_API_URL", ""), os.environ.get("JUPYTERHUB_API_TOKEN", "")
        user = os.environ.get("JUPYTERHUB_USER", "")
        if not (api and secret and user):
            raise ConfigurationError(
                "AzureCompute.hub_sign_in is set, but no JupyterHub has started this server.",
                advice="Leave it out: the hub says itself when it hands tokens over.",
            )
        url = api.rstrip("/").removesuffix("/api") + hub_path(user, os.environ.get("JUPYTERHUB_SERVER_NAME", ""))
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy, no ~/.netrc
                with session.post(
                    url,
                    json={"fresh": fresh},
                    headers={"Authorization": f"token {secret}"},
                    timeout=TIMEOUT,
                    allow_redirects=False,
                    stream=True,
                    **_certificates(),
                ) as answer:
                    status, body = answer.status_code, _read(answer)
        except requests.exceptions.RequestException as error:
            raise ComputeError(
                f"Could not get a token from the hub: no answer from {printable(api, 200)}. {printable(str(error), 300)}",
                advice="Try again in a minute; if it stays so, tell whoever runs the hub.",
                code="Unreachable",
            ) from None
        if status == 200:
            return self._checked(body)
        raise _refused(status, body)

    def _checked(self, body: dict[str, Any]) -> tuple[str, float]:
        token, expires = body.get("access_token"), body.get("expires_on")
        if (
            not isinstance(token, str)
            or not token
            or len(token) > LONGEST_TOKEN
            or not LETTERS.fullmatch(token)
            or not isinstance(expires, (int, float))
        ):
            raise ComputeError("The hub answered something that is no token.", code="BadAnswer")
        audience = str(claims_of(token).get("aud") or "").rstrip("/").lower()
        if audience not in self._audiences:
            raise SignInRequired(
                f"The hub's token is for {printable(audience, 200) or 'nothing'}, not for the Resource Manager that is configured "
                "here, so it was not used.",
                advice="Whoever runs the hub: its authenticator's azure_cloud and the servers' AzureCompute.cloud have to agree.",
                code="BadToken",
            )
        return token, float(expires)


def _certificates() -> dict[str, Any]:
    """As the hub told its servers with ``internal_ssl``; what this leaves out are requests' own defaults."""
    ca = os.environ.get("JUPYTERHUB_SSL_CLIENT_CA", "")
    pair = os.environ.get("JUPYTERHUB_SSL_CERTFILE", ""), os.environ.get("JUPYTERHUB_SSL_KEYFILE", "")
    found: dict[str, Any] = {"verify": ca} if ca else {}
    return {**found, "cert": pair} if all(pair) else found


def _read(answer: requests.Response) -> dict[str, Any]:
    """Empty for what is no object of ours, however long it is."""
    import json

    text = answer.raw.read(LONGEST_ANSWER + 1, decode_content=True)
    try:
        body = json.loads(text) if len(text) <= LONGEST_ANSWER else {}
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _refused(status: int, body: dict[str, Any]) -> ComputeError:
    said, advice, code = (printable(str(body.get(k) or ""), 600) for k in ("message", "advice", "code"))
    if code and said:
        kind = ComputeError if status >= 500 else SignInRequired
        return kind(said, advice=advice or AGAIN, code=code)
    if status == 404:
        return SignInRequired(
            "The hub hands over no tokens for Azure.",
            advice="Sign in with a code: in the Compute panel, or with %dsvm signin. Whoever runs the hub: see docs/hub.md.",
            code="NoHandover",
        )
    return SignInRequired(
        f"The hub gave this server no token: it answered {status}.",
        advice=AGAIN,
        code="HubRefused",
    )
