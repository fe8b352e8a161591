"""Long changes of machines, as operations with steps and an end: who asks for one gets a ``Running`` at once.

``begin_…`` makes the operation, ``run_…`` does the work on the caller's thread (the magic, the command line; the service has
worker threads for the page) and ends it. Whatever a provider needs to go on after the server was killed is in the
change's ``Memo``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .compute.provider import Cancel, Memo, Report
from .errors import DSVMError
from .models import Compute

if TYPE_CHECKING:
    from .computes import Computes, PowerKind
    from .operations import OperationStore, Running


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


def _power_notice(kind: str, row: Compute, affected: list[str]) -> str:
    if kind == "start":
        return f"{row.name} runs."
    if not affected:
        return f"{row.name} has restarted." if kind == "restart" else f"{row.name} is off."
    ended = f"The kernel of {affected[0]}" if len(affected) == 1 else f"The kernels of {', '.join(affected)}"
    what = "has restarted" if kind == "restart" else "is off"
    return f"{row.name} {what}. {ended} ended with it; attach again, or return to the free tier."
