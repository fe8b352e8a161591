"""Who is asking: the hub says it, by the token that came along.

A user's server sends its own ``JUPYTERHUB_API_TOKEN``. The broker asks the hub whose it is and which scopes it has; the answer is
kept for ``CACHE_SECONDS`` at most (``identities``), so that a token which the hub has revoked is good for no longer than that.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import NotAllowed
from .identities import Identities
from .policy import Person

CACHE_SECONDS = 60

LONGEST_TOKEN = 512
PAGE = 200
MOST_PAGES = 500
LONGEST_PAGE = 16 * 1024 * 1024

log = logging.getLogger("jupyter_dsvm.hub")


class People(Protocol):
    async def identify(self, token: str) -> Person | None:
        """Whose token it is; None where it is nobody's. Raises ``NotAllowed`` where it may not be used here."""

    def everybody(self) -> Mapping[str, frozenset[str]] | None:
        """The groups of everybody whom the hub knows, by name; None where it does not say. Blocks; raises nothing."""


class HubPeople:
    """Asks the hub. Needs the package jupyterhub."""

    def __init__(self, service: str, **settings: Any) -> None:
        """``service``: the broker's name among the hub's services. The rest is for ``HubAuth``, and comes from the environment
        that the hub gives its services where it is not said."""
        from jupyterhub.services.auth import HubAuth

        self._auth = HubAuth(**settings)
        self._identities = Identities(self._ask, CACHE_SECONDS)
        self._service = service
        self._told = False

    async def identify(self, token: str) -> Person | None:
        if not token or len(token) > LONGEST_TOKEN:
            return None
        model = await self._identities.of(token)
        return person_of(model, self._service) if model else None

    async def _ask(self, token: str) -> Mapping[str, Any] | None:
        model: Mapping[str, Any] | None = await self._auth.user_for_token(token, use_cache=False, sync=False)
        return model

    def everybody(self) -> Mapping[str, frozenset[str]] | None:
        found: dict[str, frozenset[str]] = {}
        try:
            for page in range(MOST_PAGES):
                rows = self._page(page * PAGE)
                found.update({str(r["name"]): frozenset(map(str, r.get("groups") or ())) for r in rows})
                if len(rows) < PAGE:
                    return found
        except (OSError, ValueError, KeyError, TypeError) as e:
            if isinstance(e, urllib.error.HTTPError):
                e.close()
            if not self._told:
                self._told = True
                log.warning(
                    "The hub does not say whom it knows (%s), so nobody's accounts end by themselves when they leave a group or "
                    "the hub while their server is off. Give the broker a role with the scopes list:users and read:users:groups.",
                    e,
                )
        return None

    def _page(self, offset: int) -> list[dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310 - the hub's own address, from the hub
            f"{self._auth.api_url.rstrip('/')}/users?offset={offset}&limit={PAGE}",
            headers={"Authorization": f"token {self._auth.api_token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found = json.loads(answer.read(LONGEST_PAGE))
        if not isinstance(found, list):
            raise ValueError("that is no list of users")
        return found


def person_of(model: Mapping[str, Any], service: str) -> Person | None:
    """From what ``GET /hub/api/user`` answers to that token. Raises ``NotAllowed`` without the scope to access the service."""
    if model.get("kind") not in (None, "user") or not isinstance(model.get("name"), str):
        return None  # a service's
    name, groups, scopes = model["name"], model.get("groups") or (), model.get("scopes") or ()
    if not may_access(scopes, service):
        raise NotAllowed(
            f"The token of {name} may not access the hub's service {service}.",
            advice=f"Give the roles `user` and `server` the scope access:services!service={service}: docs/hub.md has both.",
            code="ScopeMissing",
        )
    admin = bool(model.get("admin")) or "admin:servers" in scopes
    return Person(name, frozenset(str(group) for group in groups), admin)


def may_access(scopes: Any, service: str) -> bool:
    return any(scope in ("access:services", f"access:services!service={service}") for scope in scopes)
