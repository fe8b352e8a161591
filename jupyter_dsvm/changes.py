"""Long changes of machines, as operations with steps and an end: who asks for one gets a ``Running`` at once.

``begin_…`` makes the operation, ``run_…`` does the work on the caller's thread (the magic, the command line; the service has
worker threads for the page) and ends it. Whatever a provider needs to go on after the server was killed is in the
change's ``Memo``, which is kept on disk (``keptchanges``) for as long as the change runs; ``resumers`` says how each kind is gone
on with (``resuming``).
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol, cast

from .compute.provider import Cancel, Memo, Report
from .errors import Cancelled, DSVMError, OperationRefused, StaysOn
from .keptchanges import Kept, KeptChange, KeptChanges
from .models import Compute, Operation, OperationState, Step, StepState
from .operations import OperationStore
from .returns import go_back, kernels_ended
from .temporarydisk import Lost, sentence

if TYPE_CHECKING:
    from .computes import Computes, PowerKind
    from .operations import Running
    from .returns import Return
    from .spending import Spending
    from .trips import Trips

STOP_AGAIN_SECONDS = 3600.0
"""How old a stop may be that was not accepted before the server was killed, to be sent again: later the machine may be on
because somebody has started it since."""

RELEASE_SECONDS = 60.0
"""How long a release waits for those who wait for the start to let go of it. They look at their cancel every few seconds at most,
unless Azure is just being asked."""

CROSSED_SECONDS = 60.0
"""A release of a start that ended no longer ago was asked for by somebody whose page still showed it as under way."""

UNDONE = frozenset({"resize", "create"})
"""Kinds of changes that a cancel takes back, which takes a while itself."""

POWER_STEPS: dict[str, tuple[tuple[str, str], ...]] = {
    "start": (("ask", "Ask Azure to start {}"), ("start", "Azure starts {}"), ("boot", "{} boots")),
    "stop": (("ask", "Ask Azure to stop {}"), ("stop", "Azure releases {}")),
    "restart": (("ask", "Ask Azure to restart {}"), ("restart", "Azure restarts {}"), ("boot", "{} boots")),
}

Resumer = Callable[["Running"], object]
"""Goes on with an operation that an earlier server has begun: with ``running.arguments`` and ``running.memo``, through
``Changes.run``, on a worker thread."""


class Boot(Protocol):
    def __call__(self, compute: Compute, cancel: Cancel) -> str:
        """Wait until a machine that has just been started can be reached, as far as can be told from here: "" or a sentence for
        the user. Raises ``OperationRefused`` if it is off again, and ``Cancelled``."""


class Stopped(Protocol):
    def __call__(self, compute_id: str, reason: str = "") -> Return:
        """We have just stopped that machine; ``reason`` goes on after its name, where it was stopped by itself."""


class _Steps:
    """A ``provider.Report`` that knows the operation's steps."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def __call__(self, text: str, fraction: float | None = None) -> None:
        self._running.report(text, fraction)

    def reach(self, name: str, text: str) -> None:
        self._running.reach(name, text)


class Changes:
    def __init__(
        self,
        operations: OperationStore,
        computes: Computes,
        notebooks_on: Callable[[str], list[str]],
        stopped: Stopped,
        boot: Boot,
        kept: KeptChanges,
        trips: Trips,
        spending: Spending,
        lost: Callable[[str], Lost | None] = lambda compute_id: None,
    ) -> None:
        """``notebooks_on`` names the notebooks whose kernels run on a machine; ``stopped`` is called with the id of a machine that
        we have just stopped, and may block for a moment: its notebooks go back to the free tier. ``lost``: what lies on a machine's
        temporary disk, as far as it can be asked; may block for some seconds."""
        self._operations = operations
        self._computes = computes
        self._notebooks_on = notebooks_on
        self._stopped = stopped
        self._boot = boot
        self._kept = kept
        self._trips = trips
        self._spending = spending
        self._lost = lost
        self._lock = threading.Lock()
        self._claimed: dict[str, Kept] = {}
        """Files of an earlier server's changes that are not under way yet."""
        self._left: set[str] = set()
        """Ids of the changes that the next server is to go on with, since this one stops."""
        self._closing = False
        self.before_start: Callable[[Compute | None], str] = lambda row: ""
        """Asked before a machine is started: "" or a sentence for whoever starts it. May block for some seconds; raises nothing."""
        self.resumers: dict[str, Resumer] = dict.fromkeys(("start", "stop", "restart"), self._resume_power)

    # Power

    def begin_power(
        self,
        kind: PowerKind,
        compute: str,
        cancel: Cancel | None = None,
        reason: str = "",
        quiet: bool = False,
    ) -> Running:
        """May block to find the compute by its name. ``reason``: why it is stopped by itself; goes on after its name. ``quiet``:
        not in everybody's list, since nobody asked for it and an earlier one there has said the same. Raises
        ``BudgetExceeded``."""
        row = self._computes.find(compute)
        if kind == "start":
            self._spending.check_start(row)
        steps = [(name, text.format(row.name)) for name, text in POWER_STEPS[kind]]
        if kind != "start":
            steps = self._trips.steps_of_stop(row) + steps
        operations = OperationStore() if quiet else self._operations
        arguments = {"reason": reason} if reason else {}
        running = operations.begin(kind, compute=row.id, steps=steps, cancel=cancel, arguments=arguments)
        running.starts = kind == "start"
        return running

    def run_power(self, running: Running, kind: PowerKind, before: Callable[[], None] | None = None) -> Compute:
        """``before`` is called once the files are back, before the cloud is asked, and may raise ``Cancelled``. A stop may end well
        and leave the machine on, for others (``StaysOn``): the row and the operation's notice say so."""
        compute_id, reason = running.value.compute or "", str(running.arguments.get("reason", ""))
        affected = self._notebooks_on(compute_id)
        remark = missing = lost = unsafe = stays_on = ""
        back: Return | None = None

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            nonlocal remark, missing, lost, unsafe, stays_on, back
            if kind == "start":
                unsafe = self.before_start(self._computes.known(compute_id))
                if unsafe:
                    running.mention(unsafe)
            else:
                missing = self._trips.bring_back(running)
                there = self._lost(compute_id) if kind == "stop" else None
                if there is not None and there.count:
                    running.mention(sentence(there))
                    lost = sentence(there, past=True)
                running.reach("ask", f"Looking at {self._computes.name(compute_id)}")
            if before is not None:
                before()
            try:
                row = self._computes.change_power(kind, compute_id, report, cancel, memo)
            except StaysOn as e:
                stays_on = e.message
                return self._computes.known(compute_id) or self._computes.fresh(compute_id)
            if kind == "stop":
                back = self._stopped(compute_id, reason)
                if back.count:
                    running.step("return", go_back(back.count))
            else:
                running.reach("boot", f"{row.name} boots")
                remark = self._boot(row, cancel)
            return row

        def notice(row: Compute) -> str:
            if stays_on:
                return " ".join(text for text in (stays_on, missing) if text)
            became = back.notice(affected) if back is not None else _kernels(kind, affected)
            spent = self._spending.remark(row) if kind == "start" else ""
            said = (_power_notice(kind, row, reason), became, remark, missing, lost, unsafe, spent)
            return " ".join(text for text in said if text)

        if kind == "start":
            running.reach("ask", f"Looking at {self._computes.name(compute_id)}")
        return self.run(running, act, notice)

    def _resume_power(self, running: Running) -> None:
        kind, facts = cast("PowerKind", running.value.kind), running.memo.facts
        by_itself = bool(running.arguments.get("reason"))
        if by_itself and f"{kind}_operation" not in facts:
            # Somebody may use it by now; whoever watches it looks again.
            self._end(
                running,
                OperationRefused("The server ended before Azure was asked. The VM is watched again from now on."),
            )
        again = kind == "stop" and _age(running.value.started) <= STOP_AGAIN_SECONDS
        # What a provider makes of a request that may have arrived, it knows best; one that was not made costs money.
        if f"{kind}_operation" in facts or again or (kind != "stop" and f"{kind}_asked" in facts):
            self.run_power(running, kind)
        else:
            self.interrupted(running)

    # Taking a start back

    def begin_release(self, operation_id: str) -> Running:
        """Stop waiting for a machine to start, and have it deallocated: an operation of its own, for ``run_release``. Azure lets
        a deallocation go before the start. Where the start has just ended, it is stopped as well, unless something runs there
        by now: whoever wants it off did not ask to pay for it because an answer crossed the question."""
        running = self._operations.get(operation_id)
        compute = running.value.compute
        if not running.starts or compute is None:
            self._operations.check_cancel(running)
            raise OperationRefused(
                f"This operation ({running.value.kind}) starts no machine, so there is none to release.",
                advice="Cancel it without release; to stop a machine that runs, use Stop.",
                code="NothingToRelease",
            )
        if not self._operations.ended_within(running, CROSSED_SECONDS):
            self._operations.check_cancel(running)
        elif there := self._notebooks_on(compute):
            raise OperationRefused(
                f"{self._computes.name(compute)} has come on meanwhile, and runs {', '.join(there)}.",
                advice="It is billed. Use Stop unless you need what runs there.",
                code="OperationEnded",
            )
        stop = self.begin_power("stop", compute)
        # Others may wait for the same start, and would ask for it again.
        waiting = [r for r in self._operations.running() if r.starts and r.value.compute == compute]
        stop.after = [r.finished for r in waiting]
        for each in reversed(waiting):  # those who have joined first, so that none of them leads
            self._operations.cancel(
                each.id, f"{self._computes.name(compute)} is released: the start was taken back.", quiet=True
            )
        return stop

    def run_release(self, running: Running) -> Compute:
        running.report(f"Stop waiting for {self._computes.name(running.value.compute or '')}")
        for each in running.after:
            try:
                each.result(RELEASE_SECONDS)
            except FutureTimeout:
                break  # then the change itself says what is in the way
        return self.run_power(running, "stop")

    # Any change

    def run(
        self,
        running: Running,
        act: Callable[[Report, Cancel, Memo], Compute],
        notice: Callable[[Compute], str],
    ) -> Compute:
        """Do it on this thread. The operation ends with what is returned or raised."""
        with self._lock:
            kept = self._claimed.pop(running.id, None) or self._kept.open(running.id)
        memo, name = running.memo, self._computes.name(running.value.compute or "")

        def keep(facts: Mapping[str, Any]) -> None:
            kept.write(KeptChange(running.value, name, running.arguments, facts))

        memo.keep = keep
        keep(memo.facts)
        try:
            row = act(_Steps(running), running.cancel, memo)
        except BaseException as e:
            kept.close(ended=not (isinstance(e, Cancelled) and running.id in self._left))
            if running.cancel.is_set():
                running.cancelled(e if isinstance(e, DSVMError) else DSVMError("It was cancelled."))
            else:
                running.failed(e)
            raise
        kept.close(ended=True)
        running.done(notice(row))
        return row

    @contextlib.contextmanager
    def keeping_start(self, row: Compute) -> Iterator[Memo]:
        """For a start that is part of something else, which ends with the server (an attach): the next one shows it as a start,
        and goes on with that."""
        steps = tuple(Step(name, text.format(row.name)) for name, text in POWER_STEPS["start"])
        operation = Operation(uuid.uuid4().hex, "start", row.id, None, OperationState.RUNNING, steps, 0.0)
        file = self._kept.open(operation.id)
        ended = True
        try:
            yield Memo(keep=lambda facts: file.write(KeptChange(operation, row.name, {}, facts)))
        except Cancelled:
            ended = not self._closing
            raise
        finally:
            file.close(ended)

    # What an earlier server has begun

    def adopt(self, found: Sequence[tuple[KeptChange, Kept]]) -> list[Running]:
        """Their operations, under their ids; ``resume`` goes on with each."""
        facts: dict[tuple[str, str | None], Mapping[str, Any]] = {}
        for kept, _ in found:
            if kept.facts:
                facts[kept.operation.kind, kept.operation.compute] = kept.facts
        adopted = []
        for kept, file in found:
            op = kept.operation
            # Who had joined another's change has noted nothing; it is the same change.
            running = self._operations.resume(op, kept.arguments, kept.facts or facts.get((op.kind, op.compute), {}))
            with self._lock:
                self._claimed[op.id] = file
            running.starts = op.kind == "start"
            if op.steps and not any(s.state is StepState.RUNNING for s in op.steps):
                running.step(next((s.name for s in op.steps if s.state is StepState.PENDING), op.steps[-1].name))
            adopted.append(running)
        return adopted

    def resume(self, running: Running) -> None:
        """Go on with it on this thread."""
        resumer = self.resumers.get(running.value.kind)
        if running.cancel.is_set():
            self._end(running, Cancelled(f"{running.cancel_reason} What Azure was asked for before goes on."))
        elif resumer is None:
            self.interrupted(running)
        else:
            resumer(running)

    def interrupted(self, running: Running, advice: str = "") -> None:
        """End one that is not gone on with, because nobody may ask for it again but the user. Raises the reason."""
        kind, compute = running.value.kind, running.value.compute
        try:
            row = self._computes.fresh(compute) if compute else None
        except DSVMError:
            row = None
        now = f" {row.name} is {row.power_state.value} now." if row is not None else ""
        self._end(
            running,
            OperationRefused(
                f"The server ended while this ({kind}) was under way, and it is not gone on with by itself.{now}",
                advice=advice or "Look at the machine, and ask for it again if you still want it.",
                code="Interrupted",
            ),
        )

    def _end(self, running: Running, error: DSVMError) -> None:
        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            raise error

        self.run(running, act, lambda row: "")

    # The end

    def leave(self) -> None:
        """The server stops: what is under way is for the next one, so is what a cancel has yet to undo. Called before everything
        is cancelled."""
        self._closing = True
        self._left |= {r.id for r in self._operations.running() if not r.cancel.is_set() or r.value.kind in UNDONE}

    def close(self) -> None:
        """Called last."""
        with self._lock:
            claimed, self._claimed = self._claimed, {}
        for file in claimed.values():
            file.close(ended=False)


def _age(moment: str) -> float:
    """Seconds since; infinite for what is no moment."""
    try:
        began = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        return (datetime.now(timezone.utc) - began).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def _power_notice(kind: PowerKind, row: Compute, reason: str = "") -> str:
    if reason:
        return f"{row.name} {reason}."
    return f"{row.name} {({'start': 'runs', 'stop': 'is off', 'restart': 'has restarted'})[kind]}."


def _kernels(kind: PowerKind, affected: list[str]) -> str:
    return kernels_ended(affected) if kind != "start" and affected else ""
