"""What machines have cost, as an estimate: hours on, times the price per hour that was known then."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .shape import Shape


class BudgetState(str, enum.Enum):
    OK = "ok"
    WARNING = "warning"
    """80 % are spent."""
    EXCEEDED = "exceeded"


@dataclass(frozen=True)
class Budget(Shape):
    """A limit that was configured, and what of it is spent."""

    compute: str | None
    """None: of all machines together."""
    name: str
    """The machine's name; empty where it is of all."""
    period: str
    """day or month, in this server's time zone."""
    limit: float
    spent: float
    state: BudgetState
    refuses: bool
    """Whether a start is refused once it is exceeded."""


@dataclass(frozen=True)
class ComputeSpend(Shape):
    compute: str
    name: str
    today: float
    month: float
    per_hour: float
    """What it costs now, disk not counted: 0 where it is off."""


@dataclass(frozen=True)
class Spend(Shape):
    """What ``GET spend`` answers. Amounts are of ``as_of``; from there they grow by ``per_hour``."""

    as_of: str
    currency: str | None
    """None where nothing is known yet."""
    today: float
    month: float
    per_hour: float
    computes: tuple[ComputeSpend, ...] = ()
    budgets: tuple[Budget, ...] = ()
    unpriced: tuple[str, ...] = ()
    """Names of machines that were on in this month while their price was not known, or was in another currency: what they cost then
    is not in here."""
    unseen: tuple[str, ...] = ()
    """Names of machines of which nobody knows, for some time of this month, whether they were on: what they cost then is a
    guess."""
