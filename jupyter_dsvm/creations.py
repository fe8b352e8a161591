"""New machines, as operations: a part of ``DSVMService``, behind ``POST computes`` and ``jupyter dsvm create``.

``begin`` checks what needs nobody else and makes the operation; ``run`` does the work on the caller's thread and ends it. What the
provider needs to go on after the server was killed is in the change's ``Memo``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from .compute.creating import Creation, NewCompute
from .compute.provider import Cancel, Maker, Memo, Report
from .errors import NotAllowed, OperationRefused
from .models import Compute

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .operations import OperationStore, Running
    from .spending import Spending


class Creations:
    def __init__(self, operations: OperationStore, computes: Computes, changes: Changes, spending: Spending) -> None:
        self._operations, self._computes, self._changes = operations, computes, changes
        self._spending = spending
        self._lock = threading.Lock()
        self._making: set[str] = set()
        """Names of those that are being made."""
        changes.resumers["create"] = self._resume

    def choices(self, location: str | None, subscription: str | None) -> Creation:
        """What a new machine can be like. Blocks while the cloud is asked."""
        maker = self._maker()
        if maker is None:
            return Creation(False, NO_MAKER)
        return maker.creation(location, subscription)

    def begin(self, wanted: NewCompute, cancel: Cancel | None = None) -> Running:
        """Raises ``NotAllowed`` without a cloud, ``OperationRefused`` while one of that name is being made here, and
        ``BudgetExceeded``."""
        if self._maker() is None:
            raise NotAllowed(NO_MAKER, advice="Add azure to DSVMService.compute_providers.", code="NoCloud")
        self._spending.check_new(wanted.name, wanted.subscription, wanted.resource_group)
        with self._lock:
            if wanted.name.lower() in self._making:
                raise OperationRefused(
                    f"{wanted.name} is being made just now.",
                    advice="Wait until that has ended, or cancel it.",
                    code="ChangeUnderWay",
                )
            self._making.add(wanted.name.lower())
        return self._operations.begin(
            "create", steps=[("create", f"Create {wanted.name}")], cancel=cancel, arguments=wanted.to_json()
        )

    def _resume(self, running: Running) -> None:
        """Go on with one that an earlier server has begun. Before the provider's first note nothing had been asked of the cloud."""
        if not running.memo.facts:
            self._changes.interrupted(running)
            return
        wanted = NewCompute.from_json(running.arguments)
        with self._lock:
            self._making.add(wanted.name.lower())
        self.run(running, wanted)

    def run(self, running: Running, wanted: NewCompute) -> Compute:
        """Do it on this thread. The operation ends with what is returned or raised."""
        try:
            running.step("create")
            return self._changes.run(running, self._act(running, wanted), lambda row: self._notice(row, wanted))
        finally:
            with self._lock:
                self._making.discard(wanted.name.lower())

    def _act(self, running: Running, wanted: NewCompute) -> Callable[[Report, Cancel, Memo], Compute]:
        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            maker = self._maker()
            if maker is None:
                raise NotAllowed(NO_MAKER, code="NoCloud")
            row = maker.create(wanted, report, cancel, memo)
            self._computes.learn(row)
            running.about(row.id)
            return row

        return act

    def _notice(self, row: Compute, wanted: NewCompute) -> str:
        return f"{notice(row, wanted)} {self._spending.remark(row)}".strip()

    def _maker(self) -> Maker | None:
        return next((p for p in self._computes.providers if isinstance(p, Maker)), None)


NO_MAKER = "No machine can be made here: there is no cloud among the sources of computes."


def notice(row: Compute, wanted: NewCompute) -> str:
    """What to say once it runs: what it costs, as far as known."""
    price = (
        f"about {row.price.amount:.2f} {row.price.currency} per hour"
        if row.price is not None
        else "a price that is not known"
    )
    extra = "Its disk costs" if wanted.private else "Its disk, and its public address if it has one, cost"
    return f"{row.name} runs, for {price} until it is stopped. {extra} extra, also while it is stopped."
