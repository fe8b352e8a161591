"""Tokens as text: what one says, and one that a person pasted. No request is made here, and no signature checked: Azure does that.

Called by ``signin`` and ``silent``.
"""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

from ...errors import BadRequest, SignInRequired, printable
from .aadsts import AGAIN

LONGEST_TOKEN = 32 * 1024

LETTERS = re.compile(r"[\w.~+/=-]*", re.ASCII)
"""What a token is made of (RFC 6750): with anything else, requests refuses the header in words that hold the token."""


class PastedToken:
    """A token from elsewhere, for where sign-in by code is blocked. It lasts an hour or so and cannot be renewed."""

    method = "pasted_token"

    def __init__(self, token: str, endpoint: str, scope: str) -> None:
        """Raises ``BadRequest`` for what Azure would not take; Azure checks the rest."""
        # A terminal may have broken it into lines.
        token = "".join(re.sub(r"^bearer\s", "", token.strip(), flags=re.IGNORECASE).split())
        claims = claims_of(token) if len(token) <= LONGEST_TOKEN and LETTERS.fullmatch(token) else {}
        advice = "Print one with `az account get-access-token --query accessToken --output tsv`, and paste all of it."
        if not claims:
            raise BadRequest("What was pasted is no access token.", advice=advice, code="BadToken")
        audience = str(claims.get("aud") or "").rstrip("/").lower()
        if audience not in audiences(endpoint, scope):
            raise BadRequest(
                f"That token is for {printable(audience, 200) or 'nothing'}, not for Azure's Resource Manager.",
                advice=advice,
                code="BadToken",
            )
        expires = claims.get("exp")
        if not isinstance(expires, (int, float)) or expires <= time.time():
            raise BadRequest("That token has expired.", advice=advice, code="BadToken")
        self._token, self._expires = token, float(expires)
        self.username, self.tenant = who(claims)

    def token(
        self, scopes: tuple[str, ...], tenant: str | None, claims: str | None, fresh: bool = False
    ) -> tuple[str, float]:
        """The one there is, however ``fresh`` it should be. Raises ``SignInRequired``."""
        if self._expires <= time.time() or claims:
            raise SignInRequired("The token that was pasted has expired.", advice=AGAIN, code="SignInExpired")
        if tenant and self.tenant and tenant.lower() != self.tenant.lower():
            raise SignInRequired(
                f"The token that was pasted is for the tenant {self.tenant}, not for {tenant}.", advice=AGAIN
            )
        return self._token, self._expires

    def close(self) -> None:
        self._token = ""


def audiences(endpoint: str, scope: str) -> set[str]:
    """Whom a token for Resource Manager may be for: it has an older name in each cloud, which the Azure CLI asks for."""
    own = endpoint.rstrip("/").lower()
    older = own.replace("://management.", "://management.core.").replace("core.azure.com", "core.windows.net")
    return {own, older, scope.removesuffix("/.default").rstrip("/").lower()}


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says, unchecked: for showing who it is and refusing what cannot work. Empty for what is none."""
    parts = token.split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))) if len(parts) == 3 else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def who(claims: dict[str, Any]) -> tuple[str, str]:
    """Account and tenant of a token: a person's name, or an application's id."""
    name = next((claims[k] for k in ("upn", "unique_name", "preferred_username", "appid", "azp") if claims.get(k)), "")
    return printable(str(name), 200), printable(str(claims.get("tid") or ""), 100)
