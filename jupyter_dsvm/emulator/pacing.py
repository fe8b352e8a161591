"""How long Azure takes to answer, and how often it may be asked: both set per kind of request, while the emulator runs.

``routes`` asks before each answer. A throttle counts the requests of the last ``seconds``, as the Resource Graph does
(15 in 5 s and user) and as the compute service does by group and subscription.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from .refusal import Refusal

ANY = "*"


@dataclass(frozen=True)
class Latency:
    """Seconds that the answer to a request takes longer."""

    seconds: float
    operation: str = ANY
    """One of ``faults.OPERATIONS``."""
    vm: str = ANY
    size: str = ANY


def fits(wanted: str, given: str | None) -> bool:
    """Whether a rule's name is ``*`` or the given one; names are compared without regard to case."""
    return wanted == ANY or (given is not None and wanted.lower() == given.lower())


def delay(rules: Iterable[Latency], operation: str, vm: str | None, size: str | None) -> float:
    """The longest of those that fit."""
    return max(
        (r.seconds for r in rules if fits(r.operation, operation) and fits(r.vm, vm) and fits(r.size, size)),
        default=0.0,
    )


@dataclass
class Throttle:
    """At most ``requests`` of one kind in ``seconds``; one more is answered with 429."""

    operation: str
    requests: int
    seconds: float
    taken: deque[float] = field(default_factory=deque, repr=False)

    def take(self, now: float) -> tuple[int, float]:
        """(how many are left, seconds until one more is). Raises ``Refusal``."""
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) >= self.requests:
            wait = self.taken[0] + self.seconds - now if self.taken else self.seconds
            raise self._refusal(max(1, math.ceil(wait)))
        self.taken.append(now)
        return self.requests - len(self.taken), self.taken[0] + self.seconds - now

    def _refusal(self, wait: int) -> Refusal:
        if self.operation == "graph":
            return Refusal(
                429,
                "RateLimiting",
                "Please provide below info when asking for support: the rate of requests of this user is too high.",
                retry_after=wait,
                headers=quota_headers(0, wait),
            )
        return throttled(f"{self.operation[:1].upper()}{self.operation[1:]}", wait, self.requests, self.requests + 1)


def quota_headers(left: int, wait: float) -> dict[str, str]:
    """The Resource Graph's word on how much of the user's quota is left."""
    whole = max(0, math.ceil(wait))
    return {
        "x-ms-user-quota-remaining": str(left),
        "x-ms-user-quota-resets-after": f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}",
    }


def throttled(group: str, wait: int | None, allowed: int, measured: int) -> Refusal:
    """As the compute service says it: the code is another's, and the truth is in the detail, as JSON."""
    now = datetime.now(timezone.utc)
    told = {
        "operationGroup": group,
        "startTime": now.isoformat(),
        "endTime": (now + timedelta(seconds=wait or 60)).isoformat(),
        "allowedRequestCount": allowed,
        "measuredRequestCount": measured,
    }
    return Refusal(
        429,
        "OperationNotAllowed",
        "The server rejected the request because too many requests have been received for this subscription.",
        retry_after=wait,
        details=[{"code": "TooManyRequests", "target": group, "message": json.dumps(told)}],
        headers={"x-ms-ratelimit-remaining-resource": f"Microsoft.Compute/{group};0"},
    )
