"""``SignIn``: whose token goes to Azure, and how people sign in. One per ``AzureCompute``.

``accounts`` calls it for the page, the magic and the command line; ``client.ArmClient`` takes tokens from ``credential``. Order:
who signed in here, then what asks nobody (``credentials``). Tokens are in memory only, unless the user asks for more. An account
whose sign-in has expired stays, as failed, until somebody signs in or out, rather than giving way to another account. Kernels
need no token: what runs on VMs goes on.

Everything blocks and is called on worker threads, except ``credential.close``. The Azure libraries come in with the first call.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import BadRequest, ComputeError, ConfigurationError, DSVMError, NotFound, SignInRequired, printable
from ...models import Problem, SignInState, SignInStatus
from .aadsts import AGAIN, ends_sign_in, passes
from .credentials import NOBODY
from .signin_settings import AZURE_CLI_APP, SignInSettings
from .signin_states import Attempt, Attempts, Event, Phase
from .signin_store import SignInStore
from .silent import SilentAccount, problem_of
from .tokens import PastedToken

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

    from .entra import Application

log = logging.getLogger("jupyter_dsvm.signin")

CODE_PATIENCE = 60.0
"""Seconds to wait for a code: longer than a request to Entra may take."""
LOOK_SECONDS = 0.2
CLOSE_PATIENCE = 2.0
"""Seconds in all that ending waits for threads, which look once a second whether they should."""
ASK_AGAIN = 60
"""Seconds for which azure-core may keep a token: the account can change at any time, and it asks nobody but us again."""


class Account(Protocol):
    """Somebody who signed in here."""

    method: str
    username: str
    tenant: str

    def token(
        self, scopes: tuple[str, ...], tenant: str | None, claims: str | None, fresh: bool = False
    ) -> tuple[str, float]: ...

    def close(self) -> None: ...


@dataclass
class _Entry:
    account: Account
    named: bool
    """Signed in to a tenant that was named, so it stands beside the others."""
    kept: bool = False
    problem: Problem | None = None
    doubted: bool = False
    """Its token was refused: the next one is not to come from memory."""


def _of(entry: _Entry, tenant: str) -> bool:
    return entry.account.tenant.lower() == tenant.lower()


def _whose(entries: list[_Entry], tenant: str | None) -> _Entry:
    """The account whose token goes to that tenant: its own, else the first."""
    return next((entry for entry in entries if tenant and _of(entry, tenant)), entries[0])


class Credential:
    """What the Azure clients take: asks ``SignIn`` each time, so a change of account counts at once."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    def get_token(self, *scopes: str, claims: str | None = None, tenant_id: str | None = None, **_: Any) -> AccessToken:
        from azure.core.credentials import AccessToken

        token, expires = self._sign_in.token(scopes, tenant_id, claims)
        return AccessToken(token, int(min(expires, time.time() + ASK_AGAIN)))

    def refused(self, tenant: str | None = None) -> None:
        """The other side did not take the token: the next one is to be fresh."""
        self._sign_in.refused(tenant)

    def close(self) -> None:
        """The clients' end is not the account's."""


class SignIn:
    def __init__(self, settings: SignInSettings, store: SignInStore) -> None:
        """Asks nobody and imports nothing yet. Raises ``ConfigurationError`` or ``ComputeError`` if the settings contradict the
        two rules of ``credentials``."""
        self._settings = settings
        settings.check()
        self._scope = settings.scope
        self._store = store
        self._lock = threading.RLock()  # protects all below, and is held for no request
        self._restoring = threading.Lock()
        self._saving = threading.Lock()  # one at a time, so that what was signed out is not written after that
        self._restored = False
        self._entries: list[_Entry] = []
        self._attempts = Attempts()
        self._threads: dict[str, threading.Thread] = {}
        self._silent = SilentAccount(
            settings.endpoint,
            settings.token_file,
            settings.managed_identity,
            settings.hub_sign_in,
            lambda: self._changed(None, False),
        )
        self._closed = False
        self.listeners: list[Callable[[str | None, bool], None]] = []
        """Called after each change, on any thread, with the attempt's id or None and whether the account has changed; must
        not block."""
        self.credential = Credential(self)

    # For people

    def status(self, attempt_id: str | None = None) -> SignInStatus:
        """Who is signed in; with an attempt's id, how that stands. Asks what asks nobody, if that was not done lately.
        Never has a code."""
        self._restore()
        with self._lock:
            attempt = self._attempts.get(attempt_id) if attempt_id else None
            entries, closed = list(self._entries), self._closed
        if attempt_id and attempt is None:
            raise NotFound("That sign-in is not known any more.", advice=AGAIN, code="UnknownSignIn")
        if attempt is not None and attempt.phase in (Phase.ASKED, Phase.PROMPTING, Phase.FAILED):
            return self._of_attempt(attempt)
        if entries:
            return self._of_entries(entries, attempt_id)
        if closed:
            return SignInStatus(SignInState.SIGNED_OUT, self._settings.cloud_name, id=attempt_id)
        silent = self._silent.look(self._scope)
        with self._lock:
            open_attempts = self._attempts.open
            ended = [a for a in self._attempts.all if not a.open]
        if silent.method:
            return SignInStatus(
                SignInState.SIGNED_IN,
                self._settings.cloud_name,
                silent.method,
                silent.account or None,
                silent.tenant or None,
                id=attempt_id,
            )
        # Not for an attempt that has ended: its page would go on showing a code that is worth nothing any more.
        if open_attempts and attempt is None:
            return SignInStatus(SignInState.PROMPTING, self._settings.cloud_name, id=attempt_id)
        problem = silent.problem or (ended[-1].problem if ended and attempt is None else None)
        state = SignInState.FAILED if problem else SignInState.SIGNED_OUT
        return SignInStatus(state, self._settings.cloud_name, id=attempt_id, error=problem)

    def begin(self, tenant: str = "", keep: bool = False) -> SignInStatus:
        """Ask for a code; returns with it, or with why there is none. The answer is for who asked alone. With ``keep`` the
        sign-in outlives the server, encrypted; raises ``ConfigurationError`` where that cannot be."""
        if not self._settings.can_prompt:
            raise ConfigurationError(
                f"Nobody can sign in to {self._settings.endpoint}, which is no Azure cloud, with a code.",
                advice="Set AzureCompute.authority to its authority, or AzureCompute.token_file to a file with a token.",
            )
        if tenant and not (tenant.isascii() and all(c.isalnum() or c in "-." for c in tenant)):
            raise BadRequest(
                f"{printable(tenant, 100)!r} is no tenant.", advice="It is an id or a domain.", code="BadTenant"
            )
        if keep:
            self._store.check()
        self._restore()
        attempt_id, ready = secrets.token_urlsafe(12), threading.Event()
        thread = threading.Thread(
            target=self._run, args=(attempt_id, tenant, keep, ready), name="jupyter-dsvm-signin", daemon=True
        )
        with self._lock:
            if self._closed:
                raise ComputeError("The server is stopping.")
            self._attempts = self._attempts.asked(attempt_id, tenant)
            self._threads = {i: t for i, t in self._threads.items() if t.is_alive()} | {attempt_id: thread}
        thread.start()
        deadline = time.monotonic() + CODE_PATIENCE
        while not ready.wait(LOOK_SECONDS) and self._is_open(attempt_id) and time.monotonic() < deadline:
            pass  # the server may stop meanwhile
        if not ready.is_set():
            # A code that came now would be shown to nobody.
            late = Problem("Unreachable", "Could not get a code for signing in to Azure in time.", "Try again.")
            self._happened(attempt_id, Event.REFUSED, problem=late)
        with self._lock:
            attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.phase is Phase.CANCELLED:
            return self.status()
        return self._of_attempt(attempt, for_asker=True)

    def wait(self, attempt_id: str, seconds: float) -> SignInStatus | None:
        """How an attempt ended; None while it is open after so many seconds."""
        with self._lock:
            thread = self._threads.get(attempt_id)
        if thread is not None:
            thread.join(seconds)
            if thread.is_alive():
                return None
        return self.status(attempt_id)

    def cancel(self, attempt_id: str) -> None:
        with self._lock:
            if self._attempts.get(attempt_id) is None:
                raise NotFound("That sign-in is not known any more.", advice=AGAIN, code="UnknownSignIn")
        self._happened(attempt_id, Event.CANCELLED)

    def paste(self, token: str) -> SignInStatus:
        """Sign in with a token from elsewhere. Raises ``BadRequest``."""
        self._restore()
        self._take(PastedToken(token, self._settings.endpoint, self._scope), named=False, kept=False)
        return self.status()

    def sign_out(self) -> None:
        """Forget who signed in here, and what was kept of it; what asks nobody remains."""
        self._restore()
        with self._lock:
            entries, self._entries = self._entries, []
            self._attempts = Attempts()
        for entry in entries:
            entry.account.close()
        self._silent.forget()
        try:
            with self._saving:
                self._store.save([])
        finally:
            self._changed(None, True)

    def close(self) -> None:
        """End what is under way; may be called again. What was kept stays kept."""
        with self._lock:
            self._closed = True
            self._attempts = self._attempts.cancelled()
            threads = list(self._threads.values())
            entries, self._entries = self._entries, []
        deadline = time.monotonic() + CLOSE_PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for entry in entries:
            entry.account.close()
        self._silent.close()

    # For the Azure clients

    def token(self, scopes: tuple[str, ...], tenant: str | None = None, claims: str | None = None) -> tuple[str, float]:
        """A token and when it expires. Raises ``SignInRequired``, ``ComputeError``."""
        self._restore()
        with self._lock:
            entries = list(self._entries)
        s = self._settings
        if not entries and s.cloud is None and s.authority and not (s.token_file or s.hub_sign_in):
            raise SignInRequired(f"Could not sign in to Azure: {NOBODY}.", advice=AGAIN)
        if not entries:
            return self._silent.token(scopes, tenant, claims)
        entry = _whose(entries, tenant)
        if entry.problem is not None:
            raise SignInRequired(entry.problem.message, advice=entry.problem.advice, code=entry.problem.code)
        try:
            fresh, entry.doubted = entry.doubted, False
            found = entry.account.token(scopes, tenant, claims, fresh)
        except SignInRequired as error:
            # For another tenant or service it may be refused for reasons of theirs.
            home = not tenant or _of(entry, tenant)
            if home and not passes(error.code) and (scopes == (self._scope,) or ends_sign_in(error.code)):
                self._expired(entry, error)
            raise
        if entry.kept and getattr(entry.account, "has_changed", False):
            self._keep()
        return found

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those that somebody signed in to besides the one whose token goes where no tenant is named."""
        self._restore()
        with self._lock:
            first, *others = [e.account.tenant for e in self._entries] or [""]
        return tuple(tenant for tenant in others if tenant and tenant.lower() != first.lower())

    def ssh_certificate(self, scope: str, data: dict[str, str], tenant: str) -> str:
        """An SSH certificate of whoever signed in with a code here; no other way to sign in can give one."""
        self._restore()
        with self._lock:
            entries = [e for e in self._entries if hasattr(e.account, "ssh_certificate") and e.problem is None]
        if not entries:
            raise SignInRequired(
                "An SSH certificate of Entra's needs somebody who signed in here with a code.",
                advice="Sign in with `%dsvm signin` or `jupyter dsvm signin`; or use a key: set AzureCompute.entra_ssh to False.",
            )
        own = [e for e in entries if tenant and e.account.tenant.lower() == tenant.lower()]
        account: Any = (own or entries)[0].account
        found: str = account.ssh_certificate(scope, data, tenant or None)
        return found

    def refused(self, tenant: str | None = None) -> None:
        """Azure did not take the token that ``token`` gave for that tenant. Called on the thread of that request; asks nobody."""
        with self._lock:
            if self._entries:
                _whose(self._entries, tenant).doubted = True
        self._silent.forget()

    # Accounts

    def _run(self, attempt_id: str, tenant: str, keep: bool, ready: threading.Event) -> None:
        """A thread of its own: from the question for a code to its end."""
        application: Application | None = None
        try:
            application = self._application(tenant)
            prompt, flow = application.begin()
            self._happened(attempt_id, Event.CODED, prompt=prompt)
            ready.set()
            application.finish(flow, lambda: not self._is_open(attempt_id))
        except DSVMError as error:
            self._happened(attempt_id, Event.REFUSED, problem=problem_of(error))
        except Exception as error:
            log.error("Signing in failed: %s", type(error).__name__)  # its text could be anything
            self._happened(attempt_id, Event.REFUSED, problem=Problem("Internal", "An error inside jupyter-dsvm.", ""))
        else:
            # Whoever looks at the attempt once it has ended finds the account.
            if self._is_open(attempt_id):
                self._take(application, named=bool(tenant), kept=keep, attempt_id=attempt_id)
                application = None
        finally:
            ready.set()
            if application is not None:
                application.close()

    def _application(self, tenant: str) -> Application:
        from .entra import Application

        s = self._settings
        return Application(s.sign_in_authority, s.client_id or AZURE_CLI_APP, self._scope, tenant or s.tenant)

    def _take(self, account: Account, *, named: bool, kept: bool, attempt_id: str | None = None) -> None:
        """A new account: beside those of other tenants if its tenant was named, else in the place of all."""
        with self._lock:
            if attempt_id is not None:
                changed = self._attempts.happened(attempt_id, Event.FINISHED)
                if changed is self._attempts or self._closed:
                    account.close()
                    return
                self._attempts = changed
            same = [e for e in self._entries if not named or e.account.tenant == account.tenant]
            others = [e for e in self._entries if e not in same]
            # An expired account in front would hide the new one.
            self._entries = sorted([*others, _Entry(account, named, kept)], key=lambda e: e.problem is not None)
        for entry in same:
            entry.account.close()
        if kept or any(e.kept for e in same):
            self._keep()
        self._changed(attempt_id, True)

    def _expired(self, entry: _Entry, error: SignInRequired) -> None:
        with self._lock:
            if entry.problem is not None:
                return
            entry.problem = Problem(
                error.code, error.message, error.advice + " Kernels that run on VMs are not affected."
            )
        self._changed(None, False)

    def _keep(self) -> None:
        with self._saving:
            with self._lock:
                if self._closed:
                    return  # what was kept stays kept, and nobody is in the list any more
                kept: list[tuple[Any, bool]] = [(e.account, e.named) for e in self._entries if e.kept]
                rows = [{**account.to_keep(), "named": named} for account, named in kept]
            try:
                self._store.save(rows)
            except Exception as error:  # the system's store can fail in its own ways; the sign-in itself is unaffected
                log.warning("The sign-in could not be kept: %s.", type(error).__name__)

    def _restore(self) -> None:
        """Once: what was kept by an earlier server, if it is for this authority."""
        with self._restoring:
            if self._restored:
                return
            self._restored = True
            rows = self._store.load() if self._settings.can_prompt else []
            for row in rows:
                from .entra import Application

                try:
                    authority = self._settings.sign_in_authority
                    if row.get("authority") != authority.host:
                        continue
                    account = Application(authority, str(row["client_id"]), self._scope, kept=row)
                except (DSVMError, KeyError, ValueError) as error:
                    log.warning("A kept sign-in cannot be used: %s.", type(error).__name__)
                    continue
                with self._lock:
                    self._entries.append(_Entry(account, bool(row.get("named")), True))

    # Words

    def _of_attempt(self, attempt: Attempt, for_asker: bool = False) -> SignInStatus:
        if attempt.phase is Phase.FAILED:
            return SignInStatus(SignInState.FAILED, self._settings.cloud_name, id=attempt.id, error=attempt.problem)
        if not attempt.open:
            return self.status(attempt.id)
        prompt = attempt.prompt
        return SignInStatus(
            SignInState.PROMPTING,
            self._settings.cloud_name,
            "device_code",
            tenant=attempt.tenant or None,
            id=attempt.id,
            url=prompt.url if prompt and for_asker else None,
            code=prompt.code if prompt and for_asker else None,
            expires=prompt.expires if prompt else None,
        )

    def _of_entries(self, entries: list[_Entry], attempt_id: str | None) -> SignInStatus:
        first = entries[0]
        return SignInStatus(
            SignInState.FAILED if first.problem else SignInState.SIGNED_IN,
            self._settings.cloud_name,
            first.account.method,
            first.account.username or None,
            first.account.tenant or None,
            tuple(e.account.tenant for e in entries if e.account.tenant and not e.problem),
            first.kept,
            id=attempt_id,
            error=first.problem,
        )

    # Changes

    def _is_open(self, attempt_id: str) -> bool:
        with self._lock:
            attempt = self._attempts.get(attempt_id)
        return attempt is not None and attempt.open

    def _happened(self, attempt_id: str, event: Event, **details: Any) -> None:
        with self._lock:
            changed = self._attempts.happened(attempt_id, event, **details)
            counted = changed is not self._attempts
            self._attempts = changed
        if counted:
            self._changed(attempt_id, False)

    def _changed(self, attempt_id: str | None, account: bool) -> None:
        for listener in list(self.listeners):
            listener(attempt_id, account)
