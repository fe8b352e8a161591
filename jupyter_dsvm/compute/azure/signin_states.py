"""The life of a sign-in by code: a table, and functions without I/O. ``signin`` has the threads and the requests.

Everybody who asks gets an attempt of their own, with a code of its own; whoever is first to finish signs the server in, and the
other attempts end with that. So a second page need not wait for a first one that was closed, and no page sees another's code.

=========  =========  =================================================================
phase      event      next
=========  =========  =================================================================
asked      coded      prompting: Entra gave a code
asked      refused    failed
asked      cancelled  cancelled
prompting  finished   signed_in: Entra gave a token
prompting  refused    failed: declined, expired, not allowed
prompting  cancelled  cancelled: by its asker, by another's success, or at the server's end
=========  =========  =================================================================

Every other event is ignored: what comes late changes nothing, so a token that arrives after a cancel is dropped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from ...models import Problem

MOST_OPEN = 4
"""Attempts that may be open at a time; the oldest is cancelled for the next one."""
MOST_ENDED = 8
"""Attempts that have ended and can still be asked for."""


class Phase(enum.Enum):
    ASKED = "asked"
    PROMPTING = "prompting"
    SIGNED_IN = "signed_in"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(enum.Enum):
    CODED = "coded"
    FINISHED = "finished"
    REFUSED = "refused"
    CANCELLED = "cancelled"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.ASKED, Event.CODED): Phase.PROMPTING,
    (Phase.ASKED, Event.REFUSED): Phase.FAILED,
    (Phase.ASKED, Event.CANCELLED): Phase.CANCELLED,
    (Phase.PROMPTING, Event.FINISHED): Phase.SIGNED_IN,
    (Phase.PROMPTING, Event.REFUSED): Phase.FAILED,
    (Phase.PROMPTING, Event.CANCELLED): Phase.CANCELLED,
}

OPEN = frozenset({Phase.ASKED, Phase.PROMPTING})


@dataclass(frozen=True)
class Prompt:
    """What a person is shown. The code is in no ``repr``, so in no log either."""

    url: str
    code: str = field(repr=False)
    expires: str
    """ISO 8601, in UTC."""


@dataclass(frozen=True)
class Attempt:
    id: str
    tenant: str
    """What was asked for; empty: the account's own."""
    phase: Phase = Phase.ASKED
    prompt: Prompt | None = None
    problem: Problem | None = None

    @property
    def open(self) -> bool:
        return self.phase in OPEN


@dataclass(frozen=True)
class Attempts:
    """All that are known, oldest first."""

    all: tuple[Attempt, ...] = ()

    def get(self, attempt_id: str) -> Attempt | None:
        return next((a for a in self.all if a.id == attempt_id), None)

    @property
    def open(self) -> tuple[Attempt, ...]:
        return tuple(a for a in self.all if a.open)

    def asked(self, attempt_id: str, tenant: str) -> Attempts:
        """With one more; with too many, the oldest is cancelled, and what ended long ago forgotten."""
        kept = self
        for old in self.open[: max(0, len(self.open) - MOST_OPEN + 1)]:
            kept = kept.happened(old.id, Event.CANCELLED)
        ended = [a for a in kept.all if not a.open]
        forgotten = {a.id for a in ended[: max(0, len(ended) - MOST_ENDED)]}
        return Attempts((*(a for a in kept.all if a.id not in forgotten), Attempt(attempt_id, tenant)))

    def happened(
        self, attempt_id: str, event: Event, *, prompt: Prompt | None = None, problem: Problem | None = None
    ) -> Attempts:
        """By the table. The same object if the event is ignored, so that callers see whether it counted."""
        before = self.get(attempt_id)
        phase = TRANSITIONS.get((before.phase, event)) if before is not None else None
        if before is None or phase is None:
            return self
        # A code is kept while it can be entered, and no longer.
        after = replace(
            before, phase=phase, prompt=(prompt or before.prompt) if phase in OPEN else None, problem=problem
        )
        changed = Attempts(tuple(after if a.id == attempt_id else a for a in self.all))
        return changed.cancelled() if event is Event.FINISHED else changed

    def cancelled(self) -> Attempts:
        """All that are open end: somebody has signed in, or the server stops."""
        changed = self
        for attempt in self.open:
            changed = changed.happened(attempt.id, Event.CANCELLED)
        return changed
