"""Who is asking: the hub says it, by the token that came along.

A user's server sends its own ``JUPYTERHUB_API_TOKEN``. The broker asks the hub whose it is and which scopes it has; the answer is
kept for ``CACHE_SECONDS``, so that a token which the hub has revoked is good for no longer than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import NotAllowed
from .policy import Person

CACHE_SECONDS = 60

LONGEST_TOKEN = 512


class People(Protocol):
    async def identify(self, token: str) -> Person | None:
        """Whose token it is; None where it is nobody's. Raises ``NotAllowed`` where it may not be used here."""


class HubPeople:
    """Asks the hub. Needs the package jupyterhub."""

    def __init__(self, service: str, **settings: Any) -> None:
        """``service``: the broker's name among the hub's services. The rest is for ``HubAuth``, and comes from the environment
        that the hub gives its services where it is not said."""
        from jupyterhub.services.auth import HubAuth

        self._auth = HubAuth(cache_max_age=CACHE_SECONDS, **settings)
        self._service = service

    async def identify(self, token: str) -> Person | None:
        if not token or len(token) > LONGEST_TOKEN:
            return None
        model = await self._auth.user_for_token(token, sync=False)
        return person_of(model, self._service) if model else None


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
