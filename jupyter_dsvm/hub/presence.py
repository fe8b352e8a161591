"""Who is attached to a VM, who uses it, and since when nobody does. Pure; ``state.State`` keeps the rows.

A user's server says every ten minutes that notebooks of its user are on a VM, and for how long nothing of theirs has gone on there.
So somebody may be attached and use nothing: such a person keeps no VM on, and whoever asks for its stop need not wait for them.

=================================  =============================================================
a person's server says             from then on they
=================================  =============================================================
something goes on                  are attached, and use it
nothing has gone on for so long    are attached, and have used it until then
the VM may be stopped (a "leave")  use it no more, until something of theirs goes on there again
nothing, for a quarter of an hour  are not attached; they have used it until then
=================================  =============================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEFT_SECONDS = 120.0
"""After somebody has left a VM to the others: what their own asking has made busy counts as nothing that goes on."""

PULL_SECONDS = 600.0
"""Beyond the idle time, for servers to fetch their users' files and to ask for the stop themselves. Only then the broker stops a VM
under those who are attached."""


@dataclass(frozen=True)
class Present:
    """One person on one VM, since it was started. Moments are seconds since 1970."""

    person: str
    until: float
    """They are attached at least until then."""
    used: float
    """They have used it until then. In the future: something goes on there."""
    left: float = 0.0
    """When they have left it to the others; 0 where they have not."""

    @property
    def used_until(self) -> float:
        """0 where they have left it and nothing has gone on since."""
        return 0.0 if self.left and self.used <= self.left + LEFT_SECONDS else self.used


def attached(rows: Iterable[Present], now: float) -> frozenset[str]:
    return frozenset(one.person for one in rows if one.until > now)


def using(rows: Iterable[Present], now: float, idle_minutes: float | None) -> frozenset[str]:
    """Those who are attached and for whom the VM stays on; ``idle_minutes`` as in ``HubPolicy``."""
    return frozenset(
        one.person
        for one in rows
        if one.until > now and one.used_until > 0 and (idle_minutes is None or now - one.used_until < idle_minutes * 60)
    )


def used_at(rows: Iterable[Present], now: float) -> float | None:
    """When somebody has used it last: now, where somebody does; None where nobody has, or all of them have left it."""
    last = max((one.used_until for one in rows), default=0.0)
    return min(now, last) if last > 0 else None


def left_by_all(rows: Iterable[Present]) -> bool:
    """Whether everybody who was there has left it to others: two who ask at the same moment do."""
    found = list(rows)
    return bool(found) and all(one.used_until == 0 for one in found)


def stays_on(name: str, others: int) -> str:
    """What whoever has asked for its stop is told."""
    if others == 1:
        return f"{name} stays on: 1 other person uses it. It is stopped when they do not any more."
    return f"{name} stays on: {others} other people use it. It is stopped when none of them does any more."
