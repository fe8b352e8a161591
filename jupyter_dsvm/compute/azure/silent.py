"""The account that is there without anybody having signed in here: its tokens, kept while they are good, and who it is.

Made by ``signin``. Blocks; the Azure libraries come in with the first token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ComputeError, DSVMError, SignInRequired
from ...models import Problem
from .credentials import NOBODY, SilentChain, TokenFile, cloud_of, credential_for
from .hub_tokens import HubTokens
from .tokens import claims_of, who

LOOK_AGAIN = 60.0
"""Seconds for which a look finds what the last one found: each one may start the Azure CLI."""
RENEW_BEFORE = 300.0
"""Seconds before its end at which a token is renewed."""
FILE_LIFETIME = 60.0
"""Seconds for which a token from a file counts: it says not how long it lasts, and the file may change."""


@dataclass(frozen=True)
class Found:
    """What the last look found."""

    at: float
    method: str = ""
    account: str = ""
    tenant: str = ""
    problem: Problem | None = None


class SilentAccount:
    def __init__(
        self, endpoint: str, token_file: str, managed_identity: str, hub: bool, changed: Callable[[], None]
    ) -> None:
        """``changed`` is called when another account, or none, is found than before."""
        self._asks = hub or cloud_of(endpoint) is not None
        """Whether somebody is asked for a token, and may answer that nobody is there."""
        self._settings = (endpoint, token_file, managed_identity, hub)
        self._token_file = token_file
        self._changed = changed
        self._lock = threading.Lock()  # protects all below, and is held for no request
        self._chain: SilentChain | TokenFile | HubTokens | None = None
        self._found: Found | None = None
        self._tokens: dict[tuple[tuple[str, ...], str | None], tuple[str, float]] = {}

    def token(self, scopes: tuple[str, ...], tenant: str | None, claims: str | None) -> tuple[str, float]:
        """A token and when it expires (Unix time). Raises ``SignInRequired``, ``ComputeError``."""
        key = (scopes, tenant)
        with self._lock:
            if self._chain is None:
                self._chain = credential_for(*self._settings)
            chain, known = self._chain, self._tokens.get(key)
        if isinstance(chain, TokenFile):
            return chain.read(), time.time() + FILE_LIFETIME
        if known is not None and known[1] - RENEW_BEFORE > time.time() and not claims:
            return known
        options = {k: v for k, v in (("tenant_id", tenant), ("claims", claims)) if v}
        try:
            method, token = chain.find(*scopes, **options)
        except SignInRequired as error:
            if not tenant:
                problem = None if NOBODY in error.message else problem_of(error)
                self._keep(Found(time.monotonic(), problem=problem))
            raise
        if not tenant:
            self._keep(Found(time.monotonic(), method, *who(claims_of(token.token))))
        with self._lock:
            self._tokens[key] = found = (token.token, float(token.expires_on))
        return found

    def look(self, scope: str) -> Found:
        """Who is there, as seen lately. Nobody is no problem."""
        with self._lock:
            known = self._found
        if known is not None and time.monotonic() - known.at < LOOK_AGAIN:
            return known
        if not self._asks and not self._token_file:
            return Found(time.monotonic())
        try:
            self.token((scope,), None, None)
        except SignInRequired as error:
            if self._asks:
                return self._found or Found(time.monotonic())
            return Found(time.monotonic(), problem=problem_of(error))
        except ComputeError as error:
            found = Found(time.monotonic(), problem=problem_of(error))
            if self._asks:
                self._keep(found)  # an Entra that does not answer takes long to ask
            return found
        return self._found or Found(time.monotonic(), "token_file")

    def forget(self) -> None:
        """The next look and the next token are fresh."""
        with self._lock:
            self._found = None
            self._tokens.clear()

    def _keep(self, found: Found) -> None:
        with self._lock:
            before, self._found = self._found, found
        if before is not None and (before.method, before.account) != (found.method, found.account):
            self._changed()

    def close(self) -> None:
        with self._lock:
            chain, self._chain = self._chain, None
        if chain is not None:
            chain.close()


def problem_of(error: DSVMError) -> Problem:
    return Problem(error.code, error.message, error.advice, error.retry_after)
