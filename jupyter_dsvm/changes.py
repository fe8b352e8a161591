"""Long changes of machines, as operations with steps and an end: who asks for one gets a ``Running`` at once.

``begin_…`` makes the operation, ``run_…`` does the work on the caller's thread (the magic, the command line; the service has
worker threads for the page) and ends it. Whatever a provider needs to go on after the server was killed is in the
change's ``Memo``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel, Memo, Report
from .compute.sizing import canonical
from .errors import DSVMError, KernelsRunning
from .models import Compute, ComputeKind
from .tables import size_words, state_words

if TYPE_CHECKING:
    from .computes import Computes, PowerKind
    from .operations import OperationStore, Running


RELEASE, CHANGE, START, BACK, AGAIN = "release", "change", "start", "back", "again"
"""Stages of a resize, as a provider notes them in the ``Memo``, and the names of the operation's steps."""


class Changes:
    def __init__(
        self,
        operations: OperationStore,
        computes: Computes,
        notebooks_on: Callable[[str], list[str]],
        stopped: Callable[[str], None],
    ) -> None:
        """``notebooks_on`` names the notebooks whose kernels run on a machine; ``stopped`` is called with the id of a machine that
        we have just stopped, and may block for a moment."""
        self._operations = operations
        self._computes = computes
        self._notebooks_on = notebooks_on
        self._stopped = stopped

    # Power

    def begin_power(self, kind: PowerKind, compute: str, cancel: Cancel | None = None) -> Running:
        """May block to find the compute by its name."""
        row = self._computes.find(compute)
        text = {"start": f"Start {row.name}", "stop": f"Stop {row.name}", "restart": f"Restart {row.name}"}[kind]
        return self._operations.begin(kind, compute=row.id, steps=[(kind, text)], cancel=cancel)

    def run_power(self, running: Running, kind: PowerKind) -> Compute:
        compute_id = running.value.compute or ""
        affected = self._notebooks_on(compute_id)

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            row = self._computes.change_power(kind, compute_id, report, cancel, memo)
            if kind == "stop":
                self._stopped(compute_id)
            return row

        running.step(kind)
        return self.run(running, act, lambda row: _power_notice(kind, row, affected))

    # Size

    def begin_resize(self, compute: str, size: str, cancel: Cancel | None = None, end_kernels: bool = False) -> Running:
        """May block to find the compute by its name. Raises ``KernelsRunning`` with the notebooks that run there, unless their
        kernels may end."""
        row = self._computes.find(compute)
        target = canonical(size)
        if row.kind is not ComputeKind.DSVM:
            self._computes.sizes(row.id)  # which says why not
        notebooks = self._notebooks_on(row.id)
        if notebooks and not end_kernels:
            raise KernelsRunning(row.name, notebooks)
        shown = target.removeprefix("standard_")
        steps = [
            (RELEASE, f"Release {row.name}"),
            (CHANGE, f"Change {row.name} to {shown}"),
            (START, f"Start {row.name}"),
        ]
        return self._operations.begin("resize", compute=row.id, steps=steps, cancel=cancel)

    def run_resize(self, running: Running, size: str) -> Compute:
        compute_id = running.value.compute or ""
        affected = self._notebooks_on(compute_id)

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            self._follow_stages(running, compute_id, memo)
            return self._computes.resize(compute_id, canonical(size), report, cancel, memo)

        running.step(RELEASE)
        return self.run(running, act, lambda row: _resize_notice(row, affected))

    def _follow_stages(self, running: Running, compute_id: str, memo: Memo) -> None:
        """The stages that a provider notes are the operation's steps; once the machine is released, its kernels are gone."""
        keep, name = memo.keep, self._computes.name(compute_id)
        released = False

        def follow(facts: dict[str, Any]) -> None:
            nonlocal released
            keep(facts)
            stage = facts.get("stage")
            released = released or stage == RELEASE
            if not facts.get("asked"):
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
                    self._stopped(compute_id)

        memo.keep = follow

    # Any change

    def run(
        self,
        running: Running,
        act: Callable[[Report, Cancel, Memo], Compute],
        notice: Callable[[Compute], str],
    ) -> Compute:
        """Do it on this thread. The operation ends with what is returned or raised."""
        try:
            row = act(running.report, running.cancel, Memo())
        except BaseException as e:
            if running.cancel.is_set():
                running.cancelled(e if isinstance(e, DSVMError) else DSVMError("It was cancelled."))
            else:
                running.failed(e)
            raise
        running.done(notice(row))
        return row


def _resize_notice(row: Compute, affected: list[str]) -> str:
    size = size_words(row.size)
    name = row.size.name if row.size is not None else "the new size"
    has = f"{row.name} has the size {name}{f' ({size})' if size and size != name else ''} and is {state_words(row)}."
    return has if not affected else f"{has} {_ended(affected)}"


def _ended(affected: list[str]) -> str:
    ended = f"The kernel of {affected[0]}" if len(affected) == 1 else f"The kernels of {', '.join(affected)}"
    return f"{ended} ended with it; attach again, or return to the free tier."


def _power_notice(kind: str, row: Compute, affected: list[str]) -> str:
    if kind == "start":
        return f"{row.name} runs."
    if not affected:
        return f"{row.name} has restarted." if kind == "restart" else f"{row.name} is off."
    what = "has restarted" if kind == "restart" else "is off"
    return f"{row.name} {what}. {_ended(affected)}"
