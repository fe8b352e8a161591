"""What the cloud told this account that it may not do with a machine: a part of ``Computes``, any thread.

Nobody asks beforehand, since that would be a request for each machine and each action. What a refusal has taught is kept until
the account changes, or the same is done after all: a role may have been given meanwhile.
"""

from __future__ import annotations

import threading

from .errors import DSVMError

ACTIONS = ("start", "stop", "resize")
"""What a row can say that it is not allowed, in this order."""

CODES = frozenset({"AuthorizationFailed"})
"""The account has no role for it, whatever the error has become since: a resize that was put back is a refused one. What else
is answered with status 403 may be over the next time, or is about something else."""


class Denials:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._account = 0
        self._denied: dict[str, set[str]] = {}

    @property
    def account(self) -> int:
        """Which account it is now, counted; to be given to ``ended``."""
        with self._lock:
            return self._account

    def ended(self, account: int, kind: str, compute_id: str, error: BaseException | None) -> None:
        """A change that ``account`` began has ended, with this error or well."""
        with self._lock:
            if account != self._account or kind not in ACTIONS:
                return
            if error is None:
                self._denied.get(compute_id, set()).discard(kind)
            elif isinstance(error, DSVMError) and error.code in CODES:
                self._denied.setdefault(compute_id, set()).add(kind)

    def of(self, compute_id: str) -> tuple[str, ...]:
        """For ``Compute.not_allowed``."""
        with self._lock:
            denied = self._denied.get(compute_id, set())
            return tuple(action for action in ACTIONS if action in denied)

    def account_changed(self) -> bool:
        """Somebody has signed in or out. Whether anything was forgotten."""
        with self._lock:
            self._account += 1
            had = any(self._denied.values())
            self._denied.clear()
            return had
