"""When to try again after a connection was lost, and what ends the trying. Pure: no clock, no thread.

The first try comes at once, since most losses are short. After that the wait is a quarter of the time that has passed
since the loss, within bounds and with jitter: so an outage is prolonged by a quarter at most, and many servers do not
come back to one machine at the same moment.

    error                                   what becomes of it
    HostKeyError, ProtocolError             final
    AuthenticationError                     final when it came ``REFUSALS`` times in a row: a machine that boots has sshd
                                            before it has home folders, and until then lets nobody in (pam_nologin)
    one that says ``retry_after``           no try before that, whoever is in a hurry
    any other                               again; whether a machine is there no more, only ``is_gone`` knows
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import AuthenticationError, DSVMError, HostKeyError, ProtocolError
from .pipetimes import PipeTimes

FINAL = (HostKeyError, ProtocolError)
REFUSALS = 3
SHORT = 5.0
"""Seconds; a connection that stood for less does not make the next loss a new one."""
LONGEST_ADVICE = 300.0
"""Seconds; what a service asks for beyond that is taken for a mistake."""


@dataclass(frozen=True)
class Again:
    """Try once more."""

    attempt: int
    """How many tries have failed since the loss."""
    wait: float
    """Seconds."""
    hurried: float
    """Seconds, for when somebody waits for it."""


class Retries:
    def __init__(self, times: PipeTimes, jitter: Callable[[], float] = random.random) -> None:
        """``jitter`` gives a number from 0 to 1."""
        self._times = times
        self._jitter = jitter
        self._lost_at: float | None = None
        self._attempt = 0
        self._refused = 0

    def failed(self, error: DSVMError, stood: float, now: float) -> Again | None:
        """A connection ended after it ``stood`` for so many seconds, or (0) did not come about. None: that was final."""
        if isinstance(error, FINAL):
            return None
        self._refused = self._refused + 1 if isinstance(error, AuthenticationError) else 0
        if self._refused >= REFUSALS:
            return None
        if self._lost_at is None or stood > SHORT:
            self._lost_at = now
            self._attempt = 0 if stood else 1
        else:
            self._attempt += 1
        wait = self._wait(now - self._lost_at)
        least = self._least(error)
        return Again(self._attempt, max(wait, least), max(min(wait, self._times.hurried_wait), least))

    def woken(self, now: float) -> None:
        """This computer has slept, or the process was stopped: how long it is lost says nothing now."""
        if self._lost_at is not None:
            self._lost_at = now

    def _wait(self, lost_for: float) -> float:
        if self._attempt == 0:
            return 0.0
        longest = min(max(lost_for / 4, self._times.first_wait), self._times.longest_wait)
        return longest * (0.5 + self._jitter() / 2)

    def _least(self, error: DSVMError) -> float:
        if isinstance(error, AuthenticationError):
            return self._times.refused_wait
        return min(error.retry_after or 0.0, LONGEST_ADVICE)
