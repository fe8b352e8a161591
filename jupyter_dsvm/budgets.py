"""Budgets: what may be spent in a day or a month, on all machines together and on single ones, and what is said of it. Pure.

A budget warns from 80 % on. From 100 % on it refuses what would begin to cost money, unless ``DSVMService.budget_refuses`` is
off. A machine that runs then goes on: what it computes is worth more than what the next minutes cost, and one that nobody uses is
stopped for that (docs/idle.md). ``spending`` asks, docs/spend.md tells the user.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .errors import BudgetExceeded
from .models import Budget, BudgetState
from .tables import money

WARNING = 0.8
"""The part of a budget from which on it warns."""

PERIODS = {"day": "today's", "month": "this month's"}


@dataclass(frozen=True)
class BudgetRules:
    """As they are configured (``DSVMService.budget`` and its neighbours)."""

    limit: float | None = None
    """Of all machines together; None: there is none."""
    period: str = "month"
    each: Mapping[str, float] = field(default_factory=dict)
    """Of single machines, by name or pattern; the first that fits counts."""
    refuses: bool = True

    def of(self, names: Iterable[str]) -> float | None:
        """The limit of a machine that is called so."""
        called = [n.lower() for n in names if n]
        return next((v for p, v in self.each.items() if any(fnmatchcase(n, p.lower()) for n in called)), None)

    @property
    def any(self) -> bool:
        return self.limit is not None or bool(self.each)


def state_of(spent: float, limit: float) -> BudgetState:
    if spent >= limit:
        return BudgetState.EXCEEDED
    return BudgetState.WARNING if spent >= WARNING * limit else BudgetState.OK


def budget(rules: BudgetRules, limit: float, spent: float, compute: str | None = None, name: str = "") -> Budget:
    """``compute`` None: of all machines."""
    return Budget(compute, name, rules.period, limit, spent, state_of(spent, limit), rules.refuses)


def remark(budgets: Iterable[Budget], currency: str | None) -> str:
    """What to say to who starts something: a sentence for each budget that is nearly spent, or is and does not refuse."""
    return " ".join(_sentence(b, currency) for b in budgets if b.state is not BudgetState.OK)


def _sentence(one: Budget, currency: str | None) -> str:
    of = f"{PERIODS[one.period]} budget of {money(one.limit, currency)}{f' for {one.name}' if one.name else ''}"
    if one.state is BudgetState.EXCEEDED:
        return f"{of[0].upper()}{of[1:]} is spent: {money(one.spent, currency)} so far."
    return f"{100 * one.spent / one.limit:.0f} % of {of} is spent."


def in_words(one: Budget) -> str:
    """What follows from its state, as the end of a sentence that has said the numbers."""
    if one.state is not BudgetState.EXCEEDED:
        return "."
    if not one.refuses:
        return "; it only warns."
    return "; it is not started any more." if one.name else "; nothing more is started."


def refusal(one: Budget, tried: str, currency: str | None, again: datetime.date) -> BudgetExceeded:
    """``tried``: "gpu-vm was not started"; ``again``: the day on which the budget begins anew."""
    trait = "DSVMService.budgets" if one.name else "DSVMService.budget"
    return BudgetExceeded(
        f"{tried}: {money(one.spent, currency)} of {PERIODS[one.period]} budget of {money(one.limit, currency)}"
        f"{f' for {one.name}' if one.name else ''} is spent, by this server's estimate.",
        advice=f"It begins anew on {again.day} {again:%B}. To go on before that, whoever configures this server can raise {trait} "
        "in jupyter_dsvm_config.py, or set DSVMService.budget_refuses to False so that it only warns; then restart the server.",
    )
