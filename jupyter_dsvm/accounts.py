"""Signing in to a cloud, for the page, the magic and the command line: a part of ``DSVMService``.

Blocks; called on worker threads. Whoever asks for a code gets it in the answer, and nobody gets it otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .compute.provider import Cancel, ComputeProvider
from .errors import BadRequest, Cancelled, NotFound, SignInRequired
from .models import SignInState, SignInStatus

if TYPE_CHECKING:
    from .compute.azure.signin import SignIn

LOOK_SECONDS = 0.2
"""How often who waits looks at their own cancel."""


class Accounts:
    def __init__(
        self,
        providers: Callable[[], Sequence[ComputeProvider]],
        changed: Callable[[str | None], None],
        account_changed: Callable[[], None],
    ) -> None:
        """``changed`` is called with an attempt's id or None after every change, ``account_changed`` after those that change
        what can be listed; from any thread, and neither may block."""
        self._providers = providers
        self._changed, self._account_changed = changed, account_changed
        self._lock = threading.Lock()
        self._heard: SignIn | None = None

    def status(self, attempt: str | None = None) -> SignInStatus:
        """Who is signed in, or how an attempt stands; without a code."""
        sign_in = self._find()
        if sign_in is None:
            if attempt is not None:
                raise _no_cloud()
            return SignInStatus(SignInState.SIGNED_OUT)
        return sign_in.status(attempt)

    def begin(self, tenant: str = "", keep: bool = False) -> SignInStatus:
        """Ask for a code. The answer has it, and is for who asked alone."""
        return self._need().begin(tenant, keep)

    def paste(self, token: str) -> SignInStatus:
        return self._need().paste(token)

    def cancel(self, attempt: str) -> None:
        self._need().cancel(attempt)

    def sign_out(self) -> None:
        self._need().sign_out()

    def wait(self, attempt: str, cancel: Cancel) -> SignInStatus:
        """How an attempt ended. Raises ``Cancelled``, and ends the attempt, if ``cancel`` is set."""
        sign_in = self._need()
        while True:
            ended = sign_in.wait(attempt, LOOK_SECONDS)
            if ended is not None:
                return ended
            if cancel.is_set():
                sign_in.cancel(attempt)
                raise Cancelled("Signing in was interrupted.")

    def close(self) -> None:
        """End attempts, so that nobody waits for them."""
        with self._lock:
            heard = self._heard
        if heard is not None:
            heard.close()

    def _find(self) -> SignIn | None:
        found: SignIn | None = next((p.sign_in for p in self._providers() if hasattr(p, "sign_in")), None)
        with self._lock:
            if found is not None and found is not self._heard:
                self._heard = found
                found.listeners.append(self._hear)
        return found

    def _need(self) -> SignIn:
        found = self._find()
        if found is None:
            raise _no_cloud()
        return found

    def _hear(self, attempt: str | None, account: bool) -> None:
        self._changed(attempt)
        if account:
            self._account_changed()


def _no_cloud() -> NotFound:
    return NotFound(
        "There is no cloud to sign in to.", advice="DSVMService.compute_providers has no azure.", code="NoCloud"
    )


def checked(body: dict[str, object]) -> tuple[str, bool, str | None]:
    """Tenant, whether to keep the sign-in, and a pasted token or None, of what REST was sent. Raises ``BadRequest``."""
    tenant, keep, token = body.get("tenant", ""), body.get("keep", False), body.get("token")
    known = not set(body) - {"tenant", "keep", "token"} and None not in body.values()
    if not (known and isinstance(tenant, str) and isinstance(keep, bool) and isinstance(token, (str, type(None)))) or (
        token is not None and (tenant or keep)
    ):
        raise BadRequest(
            "The request's body does not say how to sign in.",
            advice='Send {} for a code, {"tenant": ID} for one tenant, {"keep": true} to keep it, or {"token": TOKEN} alone.',
        )
    return tenant, keep, token


WAYS = {
    "device_code": "with a code",
    "pasted_token": "with a token that was pasted",
    "token_file": "with the token in AzureCompute.token_file",
    "environment": "with AZURE_CLIENT_ID of the environment",
    "workload_identity": "with workload identity",
    "managed_identity": "with the machine's managed identity",
    "azure_cli": "with the Azure CLI",
    "hub": "as on the hub",
}


def prompt_text(status: SignInStatus) -> str:
    """What a person is told to do. For who asked alone."""
    until = f" It is good until {status.expires}." if status.expires else ""
    return f"To sign in to Azure, open {status.url} and enter the code {status.code}.{until}"


def outcome_text(status: SignInStatus) -> str:
    """How it stands, in a sentence or two."""
    if status.state is SignInState.SIGNED_IN:
        who = f" as {status.account}" if status.account else ""
        where = f" in the tenant {status.tenant}" if status.tenant else ""
        kept = " It is kept, encrypted, beyond this server's life." if status.kept else ""
        return f"Signed in to Azure{who}{where}, {WAYS.get(status.method or '', 'in some way')}.{kept}"
    if status.error is not None:
        return f"{status.error.message} {status.error.advice}".strip()
    if status.state is SignInState.PROMPTING:
        return "Somebody is signing in to Azure just now."
    return "Nobody is signed in to Azure."


def ended(status: SignInStatus) -> str:
    """The text of an attempt that has ended well. Raises ``SignInRequired``, with the reason, for any other end."""
    if status.state is SignInState.SIGNED_IN:
        return outcome_text(status)
    if status.error is not None:
        raise SignInRequired(status.error.message, advice=status.error.advice, code=status.error.code)
    raise SignInRequired("Signing in was cancelled.", advice="Ask for a new code.", code="Cancelled")
