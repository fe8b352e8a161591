"""``Spending``: what the user's machines have cost, and whether one more may begin to cost something. A part of ``DSVMService``.

It hears what providers say of machines (``Computes.heard``), and keeps it (``spendledger``) by the rules of ``spending_rules``.
Where what was heard leaves open what happened meanwhile, the machine itself is asked once: Azure says when its last operation was.
While a machine is on it is looked at every ten minutes at least, whoever else does, so that one that is turned off elsewhere does
not count on.

``check_start`` and ``check_new`` are called by whatever is about to make something cost money, before it does: ``changes``,
``moves``, ``resizes``, ``creations``. What others start, in the portal for example, is counted and not refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from .budgets import BudgetRules, budget, refusal, remark
from .errors import DSVMError, UnknownCompute
from .models import Budget, BudgetState, Compute, ComputeKind, ComputeSpend, PowerState, Spend, utc_at
from .spending_rules import (
    BILLED,
    DAY,
    KEPT_SECONDS,
    Calendar,
    DaySpend,
    Interval,
    Observation,
    Terms,
    cost,
    currency_of,
    daily,
)
from .tables import money

if TYPE_CHECKING:
    from .computes import Computes
    from .spendledger import SpendLedger

log = logging.getLogger("jupyter_dsvm.spend")

TICK_SECONDS = 60.0
"""Between two looks at budgets while a machine is on, and between two notes that it still is."""

LOOK_SECONDS = 600.0
"""After which a machine that was on, and of which nobody has heard since, is asked for."""

STOP_SECONDS = 5.0

MOST_LOOKS = 20
"""Machines that are asked for at a time, each with one request. Of more, lists have to do."""

SETTLED = frozenset({PowerState.RUNNING, PowerState.STOPPED, PowerState.DEALLOCATED})


class Spending:
    def __init__(
        self,
        known: Computes,
        ledger: SpendLedger,
        rules: Callable[[], BudgetRules],
        counted: Callable[[], Sequence[str]],
        changed: Callable[[], None],
        in_background: Callable[[Callable[[], object]], None],
    ) -> None:
        """``counted`` gives names and patterns of the machines that count; ``changed`` is called when what is spent, or the state
        of a budget, has changed by more than the time that has passed; it must not block."""
        self._known, self._ledger, self._rules, self._counted = known, ledger, rules, counted
        self._changed, self._in_background = changed, in_background
        self.calendar = Calendar()
        self._lock = threading.Lock()  # of what is below
        self._queue: deque[Observation] = deque()
        self._noted: dict[str, tuple[object, float]] = {}
        """What was last heard of each machine, and when that was noted."""
        self._asked: dict[str, float] = {}
        """When a machine was last asked for itself, by the monotonic clock."""
        self._states: tuple[object, ...] | None = None
        self._thread: threading.Thread | None = None
        self._draining = threading.Lock()
        self._closed = threading.Event()

    @property
    def clock(self) -> Callable[[], float]:
        """This computer's time of the day. Settable, for tests."""
        return self._ledger.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self._ledger.clock = clock

    # What is seen

    def heard(self, rows: Iterable[Compute]) -> None:
        """Of ``Computes``. From any thread; does not block."""
        now = self.clock()
        with self._lock:
            some = [self._observation(row, now) for row in rows if self._matters(row, now)]
            self._queue.extend(some)
        if some:
            self._in_background(self._drain)

    def _matters(self, row: Compute, now: float) -> bool:
        """Whether it is more than was noted a moment ago."""
        if row.kind is not ComputeKind.DSVM or BILLED[row.power_state] is None:
            return False
        what = (row.power_state, _terms(row), row.unchanged_since)
        before, at = self._noted.get(row.id, (None, 0.0))
        if what == before and abs(now - at) < TICK_SECONDS:
            return False
        self._noted[row.id] = (what, now)
        return True

    @staticmethod
    def _observation(row: Compute, now: float, asked: bool = False) -> Observation:
        return Observation(row.id, row.name, row.power_state, now, _terms(row), row.unchanged_since, asked)

    def _drain(self) -> None:
        """Write down what was heard. Blocks for a file."""
        with self._draining:
            with self._lock:
                batch = list(self._queue)
                self._queue.clear()
            taken = self._ledger.observe(batch)
        if taken.news:
            self._tell()
        asked = self._may_ask(taken.ask)
        if asked:
            self._in_background(lambda: self._ask(asked))
        if batch and any(BILLED[o.state] for o in batch):
            self._watch()

    def _may_ask(self, computes: Iterable[str]) -> list[str]:
        """Those that were not asked for lately; they are from now on."""
        now = time.monotonic()
        with self._lock:
            some = [c for c in computes if now - self._asked.get(c, float("-inf")) >= LOOK_SECONDS][:MOST_LOOKS]
            self._asked.update(dict.fromkeys(some, now))
        return some

    def _ask(self, computes: Sequence[str]) -> None:
        """Look at the machines themselves. Blocks while the cloud answers."""
        for compute in computes:
            if self._closed.is_set():
                return
            try:
                row = self._known.fresh(compute)
            except UnknownCompute:
                if self._ledger.gone(compute):
                    self._tell()
            except DSVMError as e:
                log.debug("Whether %s is on cannot be seen: %s", compute, e)
            except Exception:
                log.exception("Looking at %s failed", compute)
            else:
                settled = row.power_state in SETTLED and not row.updating
                with self._lock:
                    if not settled:
                        self._asked.pop(compute, None)  # Azure has a word once that has ended
                    self._queue.append(self._observation(row, self.clock(), asked=settled))
        self._drain()

    # While something is on

    def begin(self) -> None:
        """The server runs: what was on when an earlier one ended is looked at from now on. Blocks for a file."""
        if self._on():
            self._watch()

    def _watch(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-spend", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._closed.wait(TICK_SECONDS)
            with self._lock:
                if self._closed.is_set() or not self._still_on():
                    self._thread = None
                    return
            self.tick()

    def _still_on(self) -> bool:
        try:
            return bool(self._queue) or bool(self._on())
        except Exception:
            log.exception("What machines cost cannot be read")
            return False

    def _on(self) -> list[Interval]:
        """Those that are on, as far as is known."""
        now = self.clock()
        return [i for i in self._ledger.intervals(now) if i.open and now - i.seen < DAY]

    def tick(self) -> None:
        """What is due once a minute while a machine is on. Blocks while the cloud answers."""
        now = self.clock()
        self._ask(self._may_ask(i.compute for i in self._on() if not 0 <= now - i.seen < LOOK_SECONDS))
        if self._has_turned():
            self._changed()

    def _has_turned(self) -> bool:
        """Whether a budget is nearly spent, or spent, or a day has begun since this was last asked: then what is shown is out of
        date though nothing was seen."""
        now = self.clock()
        states = (self.calendar.day(now), *((b.compute, b.state) for b in self._spend(now).budgets))
        with self._lock:
            before, self._states = self._states, states
        return before is not None and before != states

    def _tell(self) -> None:
        self._has_turned()
        self._changed()

    def stop(self) -> None:
        """Ask for no machine any more. Blocks for as long as a question that is under way, some seconds at most."""
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(STOP_SECONDS)

    def close(self) -> None:
        """Write down what was heard last. Blocks for a file."""
        try:
            with self._draining:
                self._ledger.observe(list(self._queue))
                self._queue.clear()
        except Exception:
            log.exception("What machines cost was not noted at the end")
        self._ledger.close()

    # What is spent

    def record(self) -> Spend:
        """Today and this month, per machine, and the budgets. Blocks for a small file."""
        self._drain()
        return self._spend(self.clock())

    def days(self, count: int) -> list[DaySpend]:
        """Of the last days, today included, by day and machine. Blocks for a small file."""
        self._drain()
        now = self.clock()
        first = self.calendar.day(max(0.0, now - min(count - 1, KEPT_SECONDS / DAY) * DAY))
        begin = self.calendar.begin(first)
        return daily(self._intervals(begin), self.calendar, now, begin)

    def today(self) -> str:
        """In a few words, for who shows something else: ``~$1.12 today``; empty where it is nothing."""
        spend = self.record()
        return f"~{money(spend.today, spend.currency)} today" if spend.today >= 0.01 else ""

    def _intervals(self, begin: float) -> list[Interval]:
        patterns = [p.lower() for p in self._counted()]
        some = self._ledger.intervals(begin)
        if "*" in patterns:
            return some
        counts = {
            i.compute: any(fnmatchcase(n.lower(), p) for n in self._names(i.compute, i.name) for p in patterns)
            for i in some
        }
        return [i for i in some if counts[i.compute]]

    def _names(self, compute: str, name: str) -> list[str]:
        """What a machine is called; the longer names only while it is known."""
        row = self._known.known(compute)
        return [name] if row is None else _names(row)

    def _spend(self, now: float) -> Spend:
        month, day = self.calendar.period("month", now), self.calendar.period("day", now)
        intervals = [i for i in self._intervals(month) if i.until(now) > month]
        currency = currency_of(intervals)
        sums: dict[str, ComputeSpend] = {}
        for i in intervals:
            if i.terms.amount is None or i.terms.currency != currency:
                continue
            before = sums.get(i.compute, ComputeSpend(i.compute, i.name, 0.0, 0.0, 0.0))
            sums[i.compute] = ComputeSpend(
                i.compute,
                i.name,
                before.today + cost(i, now, day),
                before.month + cost(i, now, month),
                before.per_hour + (i.terms.amount if i.runs(now) else 0.0),
            )
        computes = tuple(sorted(map(_rounded, sums.values()), key=lambda c: (-c.month, c.name)))
        return Spend(
            as_of=utc_at(now),
            currency=currency,
            today=round(sum(c.today for c in computes), 6),
            month=round(sum(c.month for c in computes), 6),
            per_hour=sum(c.per_hour for c in computes),
            computes=computes,
            budgets=tuple(self._budgets(computes)),
            unpriced=_named(i for i in intervals if i.terms.amount is None or i.terms.currency != currency),
            unseen=_named(i for i in intervals if i.unseen),
        )

    # Budgets

    def _budgets(self, computes: Sequence[ComputeSpend]) -> list[Budget]:
        rules = self._rules()
        if not rules.any:
            return []
        found = [] if rules.limit is None else [budget(rules, rules.limit, _spent(rules, computes))]
        for one in computes:
            limit = rules.of(self._names(one.compute, one.name))
            if limit is not None:
                found.append(budget(rules, limit, _spent(rules, [one]), one.compute, one.name))
        return found

    def _relevant(self, row: Compute) -> tuple[list[Budget], str | None]:
        """The budgets that a machine counts for, and their currency."""
        spend, rules = self.record(), self._rules()
        found = [b for b in spend.budgets if b.compute in (None, row.id)]
        limit = rules.of(_names(row))
        if limit is not None and all(b.compute is None for b in found):
            found.append(budget(rules, limit, 0.0, row.id, row.name))
        return found, spend.currency or (row.price.currency if row.price is not None else None)

    def check_start(self, row: Compute, size: str | None = None) -> None:
        """``row``, as last heard of, is about to be started, or to have the size ``size`` (as ``sizing.canonical`` gives it).
        Raises ``BudgetExceeded``, unless it is billed as it is. Blocks for a small file."""
        billed = BILLED[row.power_state]
        if size is None and not billed:
            self._check(row, f"{row.name} was not started")
        elif size is not None and billed is not False and not self._is_cheaper(row, size):
            self._check(row, f"{row.name} was not resized to {size.removeprefix('standard_')}")

    def check_new(self, name: str, subscription: str | None = None, group: str | None = None) -> None:
        """The same for a machine that is about to be made."""
        row = Compute("", name, ComputeKind.DSVM, PowerState.UNKNOWN, subscription=subscription, resource_group=group)
        self._check(row, f"{name} was not created")

    def _is_cheaper(self, row: Compute, size: str) -> bool:
        """Whether that size is known to cost no more than the present one."""
        offers = self._known.offers().get(row.id, ())
        price = next((o.price for o in offers if o.size.name.lower() == size), None)
        return (
            price is not None
            and row.price is not None
            and price.currency == row.price.currency
            and price.amount <= row.price.amount
        )

    def _check(self, row: Compute, tried: str) -> None:
        rules = self._rules()
        if not rules.any or not rules.refuses:
            return
        budgets, currency = self._relevant(row)
        spent = next((b for b in budgets if b.state is BudgetState.EXCEEDED), None)
        if spent is not None and not self._is_billed_now(row):
            again = self.calendar.next_period(rules.period, self.clock())
            raise refusal(spent, tried, currency, again)

    def _is_billed_now(self, row: Compute) -> bool:
        """Whether it is on, contrary to what was last heard of it: then nothing begins."""
        if not row.id or BILLED[row.power_state]:
            return False
        try:
            return bool(BILLED[self._known.fresh(row.id).power_state])
        except DSVMError:
            return False

    def remark(self, row: Compute) -> str:
        """What to say to who has that machine started: sentences on budgets that are nearly spent; empty where there are none.
        Blocks for a small file."""
        return remark(*self._relevant(row)) if self._rules().any else ""


def _terms(row: Compute) -> Terms:
    price = row.price
    return Terms(
        row.size.name if row.size is not None else None,
        price.amount if price is not None else None,
        price.currency if price is not None else None,
    )


def _rounded(one: ComputeSpend) -> ComputeSpend:
    """To what can be told apart: sums of binary fractions have a tail."""
    return replace(one, today=round(one.today, 6), month=round(one.month, 6))


def _names(row: Compute) -> list[str]:
    return [row.name, f"{row.resource_group}/{row.name}", row.long_name]


def _named(intervals: Iterable[Interval]) -> tuple[str, ...]:
    return tuple(sorted({i.name for i in intervals}))


def _spent(rules: BudgetRules, computes: Iterable[ComputeSpend]) -> float:
    return sum(c.today if rules.period == "day" else c.month for c in computes)
