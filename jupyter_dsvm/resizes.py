"""Resizing machines, as operations: a part of ``DSVMService``.

The work is the provider's, which notes its stages in the change's ``Memo``; here they become the operation's steps, the notebooks
that run there are named before anything is asked of the cloud, and told once the machine is released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel, Memo, Report
from .compute.sizing import canonical
from .errors import KernelsRunning
from .models import Compute, ComputeKind
from .returns import kernels_ended
from .tables import size_words, state_words

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .operations import OperationStore, Running
    from .returns import Return
    from .spending import Spending
    from .trips import Trips

log = logging.getLogger("jupyter_dsvm.resizes")

RELEASE, CHANGE, START, BACK, AGAIN = "release", "change", "start", "back", "again"
"""Stages of a resize, as a provider notes them, and the names of the operation's steps. The last two are there only when it is
put back."""


class Resizes:
    def __init__(
        self,
        operations: OperationStore,
        computes: Computes,
        changes: Changes,
        notebooks_on: Callable[[str], list[str]],
        stopped: Callable[[str], Return],
        trips: Trips,
        spending: Spending,
    ) -> None:
        """``notebooks_on`` names the notebooks whose kernels run on a machine; ``stopped`` is called with the id of a machine that
        we have just released, and may block for a moment: its notebooks go back to the free tier."""
        self._operations = operations
        self._computes = computes
        self._changes = changes
        self._notebooks_on = notebooks_on
        self._stopped = stopped
        self._trips = trips
        self._spending = spending
        changes.resumers["resize"] = self._resume

    def begin(self, compute: str, size: str, cancel: Cancel | None = None, end_kernels: bool = False) -> Running:
        """May block to find the compute by its name. Raises ``KernelsRunning`` with the notebooks that run there, unless their
        kernels may end, ``BadRequest`` for what cannot be a size's name, and ``BudgetExceeded``."""
        row = self._computes.find(compute)
        target = canonical(size)
        if row.kind is not ComputeKind.DSVM:
            self._computes.sizes(row.id)  # which says why not
        self._spending.check_start(row, target)
        if not end_kernels and (row.size is None or canonical(row.size.name) != target):
            self.check_kernels(row)
        shown = target.removeprefix("standard_")
        steps = [
            *self._trips.steps_of_stop(row),
            (RELEASE, f"Release {row.name}"),
            (CHANGE, f"Change {row.name} to {shown}"),
            (START, f"Start {row.name}"),
        ]
        return self._operations.begin("resize", compute=row.id, steps=steps, cancel=cancel, arguments={"size": target})

    def check_kernels(self, row: Compute) -> None:
        """Raises ``KernelsRunning`` if there are any."""
        notebooks = self._notebooks_on(row.id)
        if notebooks:
            raise KernelsRunning(row.name, notebooks)

    def run(self, running: Running, size: str) -> Compute:
        """Do it on this thread. The operation ends with what is returned or raised."""
        compute_id = running.value.compute or ""
        affected = self._notebooks_on(compute_id)
        missing = ""
        back: list[Return] = []

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            nonlocal missing
            if not memo.facts:
                missing = self._trips.bring_back(running)
                running.step(RELEASE)
            self._follow_stages(running, compute_id, memo, back)
            return self._computes.resize(compute_id, canonical(size), report, cancel, memo)

        if running.memo.facts:
            running.step(RELEASE)
        return self._changes.run(running, act, lambda row: f"{_notice(row, affected, back)} {missing}".strip())

    def _resume(self, running: Running) -> None:
        """Go on with one that an earlier server has begun. Before the provider's first note nothing had been asked of the cloud."""
        if running.memo.facts:
            self.run(running, str(running.arguments["size"]))
        else:
            self._changes.interrupted(running)

    def _follow_stages(self, running: Running, compute_id: str, memo: Memo, back: list[Return]) -> None:
        """The stages that a provider notes are the operation's steps; once the machine is released, its kernels are gone, and their
        notebooks on the way ``back``."""
        keep, name = memo.keep, self._computes.name(compute_id)
        released = "stage" in memo.facts  # an earlier server may have done that

        def follow(facts: dict[str, Any]) -> None:
            nonlocal released
            keep(facts)
            stage = facts.get("stage")
            released = released or stage == RELEASE
            if facts.get("asked"):
                return  # the same stage still
            if not facts.get("ran"):
                running.skip(START)
            if stage == BACK:
                running.step(BACK, f"Put {name} back")
            elif stage == AGAIN:
                running.step(AGAIN, f"Start {name} again")
            elif stage in (RELEASE, CHANGE, START):
                running.step(stage)
            if not released:
                running.skip(RELEASE)  # it was off
            if stage in (CHANGE, AGAIN):
                try:
                    back.append(self._stopped(compute_id))
                except Exception:
                    log.exception("telling the notebooks on %s failed", name)  # which must not break the resize off

        memo.keep = follow


def _notice(row: Compute, affected: list[str], back: list[Return]) -> str:
    size = size_words(row.size)
    name = row.size.name if row.size is not None else "the new size"
    has = f"{row.name} has the size {name}{f' ({size})' if size and size != name else ''} and is {state_words(row)}."
    became = back[0].notice(affected) if back else kernels_ended(affected) if affected else ""
    return f"{has} {became}".strip()
