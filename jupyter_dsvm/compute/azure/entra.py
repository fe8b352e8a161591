"""One account's conversation with Microsoft Entra, through MSAL: a code, its token, and every later token.

Made by ``signin``, on worker threads. Imports MSAL and requests when it is imported, so nothing imports it before somebody
signs in. MSAL rather than azure-identity's ``DeviceCodeCredential``, which cannot be cancelled or signed out.

Every request goes over verified TLS to the authority's own hosts; a redirect or an address in an answer that leads elsewhere
is refused before a token or code goes along.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msal
import requests

from ...errors import ComputeError, DSVMError, SignInRequired, printable
from .aadsts import AGAIN, refusal
from .credentials import is_loopback
from .signin_settings import Authority
from .signin_states import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and between bytes of an answer."""

LONGEST_CODE = 32

# At DEBUG its cache logs the secret half of a device code, with which others could fetch the token.
logging.getLogger("msal.token_cache").setLevel(logging.INFO)

OWN_TENANT = "organizations"
"""Entra's word for the tenant that a work or school account belongs to."""


class _Session(requests.Session):
    """What MSAL sends with: to the authority's hosts only, and never along a redirect."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        host = urlsplit(f"https://{authority.host}").hostname or ""
        # Else a proxy of the environment, and ~/.netrc, come in on this machine's own loopback.
        self.trust_env = not is_loopback(host)
        self.auth = _no_netrc

    def request(self, method: str, url: str, *args: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.netloc.lower() not in {self._authority.host, *self._authority.aliases}:
            raise ComputeError(
                f"A request to {printable(parts.netloc, 200)} was refused: the sign-in is with {self._authority.host}, and its "
                "answer pointed elsewhere.",
                advice="Check AzureCompute.cloud and AzureCompute.authority.",
                code="ForeignAddress",
            )
        options.update(verify=self._authority.ca_file or True, allow_redirects=False, timeout=TIMEOUT)
        answer = super().request(method, url, *args, **options)
        if answer.is_redirect:
            raise ComputeError(
                f"{self._authority.host} answered with a redirect, which is not followed.",
                advice="Check AzureCompute.authority, and the network's proxy.",
                code="Redirected",
            )
        return answer


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class Application:
    """MSAL's public client for one account, with a token cache of its own: closing it forgets the account."""

    method = "device_code"

    def __init__(
        self, authority: Authority, client_id: str, scope: str, tenant: str = "", kept: Mapping[str, Any] | None = None
    ) -> None:
        """``kept`` is what ``to_keep`` of an earlier one gave. Asks nobody yet."""
        self._authority, self._client_id, self._scope = authority, client_id, scope
        self._asked_tenant = tenant or OWN_TENANT
        self.username = str(kept["username"]) if kept else ""
        self.tenant = str(kept["tenant"]) if kept else ""
        self._cache = msal.SerializableTokenCache()
        if kept:
            self._asked_tenant = str(kept["asked_tenant"])
            self._cache.deserialize(str(kept["cache"]))
        self._session = _Session(authority)
        self._clients: dict[str, Any] = {}

    def _client(self, tenant: str = "") -> Any:
        """MSAL's client, which is bound to one tenant; those of one account share its cache. A new one asks the authority
        where its endpoints are."""
        tenant = tenant or self._asked_tenant
        known = self._clients.get(tenant)
        if known is not None:
            return known
        made = msal.PublicClientApplication(
            self._client_id,
            authority=f"https://{self._authority.host}/{tenant}",
            token_cache=self._cache,
            http_client=self._session,
            instance_discovery=None if self._authority.known else False,
        )
        return self._clients.setdefault(tenant, made)

    def begin(self) -> tuple[Prompt, dict[str, Any]]:
        """Ask for a code. The second value is for ``finish``, and secret."""
        with self._translated("Could not get a code for signing in to Azure"):
            flow: dict[str, Any] = self._client().initiate_device_flow([self._scope])
        if "user_code" not in flow:
            raise _refused(flow, "Could not get a code for signing in to Azure")
        url, code = str(flow.get("verification_uri")), str(flow["user_code"])
        # Shown to a person, who will open it and sign in there.
        if urlsplit(url).scheme != "https" or not code.replace("-", "").isalnum() or len(code) > LONGEST_CODE:
            raise ComputeError(
                f"{self._authority.host} answered something that is no code to sign in with.", code="BadAnswer"
            )
        expires = datetime.fromtimestamp(flow["expires_at"], timezone.utc).isoformat(timespec="seconds")
        return Prompt(printable(url), code, expires.replace("+00:00", "Z")), flow

    def finish(self, flow: dict[str, Any], stop: Callable[[], bool]) -> None:
        """Wait until the code was entered, has expired, or ``stop`` says so (looked at every second). Raises
        ``SignInRequired`` with Entra's reason."""
        with self._translated("Could not sign in to Azure"):
            answer = self._client().acquire_token_by_device_flow(
                flow, exit_condition=lambda flow: stop() or time.time() > flow["expires_at"]
            )
        if "access_token" not in answer:
            if answer.get("error") in ("authorization_pending", "slow_down"):
                answer = {"error": "expired_token"}
            raise _refused(answer, "Could not sign in to Azure")
        claims = answer.get("id_token_claims") or {}
        self.username = printable(str(claims.get("preferred_username") or claims.get("name") or ""), 200)
        self.tenant = printable(str(claims.get("tid") or ""), 100)

    def token(
        self, scopes: tuple[str, ...], tenant: str | None, claims: str | None, fresh: bool = False
    ) -> tuple[str, float]:
        """A token and when it expires (Unix time), renewed where necessary or with ``fresh``.

        Raises ``SignInRequired`` if only a new sign-in helps, ``ComputeError`` if Entra cannot be asked.
        """
        other = tenant if tenant and tenant.lower() != self.tenant.lower() else None
        tried = f"Could not get a token for the tenant {other}" if other else "Could not renew the sign-in to Azure"
        with self._translated(tried):
            app = self._client(other or "")
            accounts = app.get_accounts()
            answer = app.acquire_token_silent_with_error(
                list(scopes), accounts[0] if accounts else None, claims_challenge=claims, force_refresh=fresh
            )
        if answer is None:
            raise SignInRequired(f"{tried}: nothing is left to renew it with.", advice=AGAIN, code="SignInExpired")
        if "access_token" not in answer:
            raise _refused(answer, tried)
        return str(answer["access_token"]), time.time() + float(answer.get("expires_in") or 0)

    def ssh_certificate(self, scope: str, data: dict[str, str], tenant: str | None) -> str:
        """The access token that is a certificate for the key in ``data`` (``entra_ssh``). Raises as ``token``."""
        other = tenant if tenant and tenant.lower() != self.tenant.lower() else None
        tried = "Could not get an SSH certificate"
        with self._translated(tried):
            app = self._client(other or "")
            accounts = app.get_accounts()
            answer = app.acquire_token_silent_with_error([scope], accounts[0] if accounts else None, data=dict(data))
        if answer is None:
            raise SignInRequired(f"{tried}: nothing is left to renew the sign-in with.", advice=AGAIN)
        if "access_token" not in answer:
            raise _refused(answer, tried)
        return str(answer["access_token"])

    @property
    def has_changed(self) -> bool:
        """Whether ``to_keep`` gives something new."""
        return bool(self._cache.has_state_changed)

    def to_keep(self) -> dict[str, Any]:
        """All of it, secrets included, for the encrypted store."""
        return {
            "username": self.username,
            "tenant": self.tenant,
            "asked_tenant": self._asked_tenant,
            "client_id": self._client_id,
            "authority": self._authority.host,
            "cache": self._cache.serialize(),
        }

    def close(self) -> None:
        """Forget the account and hang up. Asks nobody, as MSAL's own ``remove_account`` can."""
        self._cache.deserialize(None)
        self._session.close()

    @contextmanager
    def _translated(self, tried: str) -> Iterator[None]:
        host = self._authority.host
        try:
            yield
        except DSVMError:
            raise
        except requests.exceptions.SSLError as error:
            raise ComputeError(
                f"{tried}: the certificate of {host} is not trusted. {printable(str(error), 300)}",
                advice="If a proxy of your network opens TLS, set REQUESTS_CA_BUNDLE to its certificates.",
                code="Certificate",
            ) from None
        except requests.exceptions.RequestException as error:
            raise ComputeError(
                f"{tried}: no answer from {host}. {printable(str(error), 300)}",
                advice="Check the network and the proxy settings of this server, then try again.",
                code="Unreachable",
            ) from None
        except msal.exceptions.MsalServiceError as error:
            raise ComputeError(
                f"{tried}: {host} had a fault of its own ({printable(str(error), 200)}).",
                advice="Try again in a few minutes.",
                code="EntraFault",
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            # MSAL's, for a tenant that is none: what Entra said is in the error before it.
            said = f"{error.__context__ or ''} {error}"
            if "AADSTS" in said:
                raise refusal("", said, tried) from None
            raise ComputeError(
                f"{tried}: {host} answered something that is not Entra's.",
                advice="Check AzureCompute.authority, and the network's proxy.",
                code="BadAnswer",
            ) from None


def _refused(answer: Mapping[str, Any], tried: str) -> SignInRequired:
    return refusal(str(answer.get("error") or ""), str(answer.get("error_description") or ""), tried)
