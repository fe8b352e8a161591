"""Long changes: their steps, their progress, their end, and how they are cancelled.

The service begins an ``Operation`` for every start, stop, restart, attach and detach and hands the ``Running`` handle to
whoever does the work; the REST API, the magic and the command line only ever see frozen ``models.Operation`` values.
An operation ends once. What may follow what is this table; a move that is not in it is ignored, so that a cancel and
a success that cross do no harm::

    running → done | failed | cancelled          (the last three are final)

Ended operations are kept for some minutes, so that a page that was away still learns how they went. Everything here
may be called from any thread; listeners are called on the thread that made the change and must not block.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from .compute.provider import Cancel, Memo
from .errors import DSVMError, NotFound, OperationRefused
from .models import Operation, OperationState, Problem, Step, StepState, utc_now

TRANSITIONS: dict[OperationState, frozenset[OperationState]] = {
    OperationState.RUNNING: frozenset({OperationState.DONE, OperationState.FAILED, OperationState.CANCELLED}),
    OperationState.DONE: frozenset(),
    OperationState.FAILED: frozenset(),
    OperationState.CANCELLED: frozenset(),
}

KEEP_ENDED_SECONDS = 600.0
KEEP_ENDED_COUNT = 200

Listener = Callable[[Operation], None]


def problem_of(error: BaseException) -> Problem:
    """An exception as the ``error`` shape; what is none of ours is named by its class, since its text may be anything."""
    if isinstance(error, DSVMError):
        return Problem(error.code, error.message, error.advice, error.retry_after)
    return Problem(
        "Internal",
        f"An error inside jupyter-dsvm: {type(error).__name__}: {error}",
        "The server's log has the details; please report it.",
    )


class Running:
    """The worker's end of one operation: what it calls while it works. ``finished`` resolves with the last value."""

    def __init__(
        self, store: OperationStore, operation: Operation, cancel: Cancel, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.arguments = dict(arguments or {})
        """What a later server has to know to go on with it, besides kind and compute: plain JSON, and no secrets."""
        self.memo = Memo()
        """What has been noted of it so far."""
        self.starts = False
        """Whether it asks for its machine to be started, which is billed from then on: then ``Changes.release`` takes it back."""
        self._store = store
        self._value = operation
        self.id = operation.id
        self.cancel = cancel
        """Set when somebody wants it to stop; the worker looks at it, and calls ``cancelled`` once it has stopped."""
        self.cancel_reason = "It was cancelled."
        self.on_cancel: Callable[[str], object] | None = None
        """Called by ``OperationStore.cancel`` when nobody looks at ``cancel`` any more (a move that waits for a cell)."""
        self.after: list[Future[Operation]] = []
        """The ends of others that it waits for before it begins (a release)."""
        self.finished: Future[Operation] = Future()
        self.listeners: list[Callable[[str], None]] = []
        """Called with each new sentence: how the magic and the command line show progress."""

    @property
    def value(self) -> Operation:
        return self._value

    def step(self, name: str, text: str | None = None) -> None:
        """Step ``name`` begins, and those before it are done. A step that was not announced is added at the end."""

        def change(op: Operation) -> Operation:
            names = [s.name for s in op.steps]
            steps = list(op.steps)
            if name not in names:
                steps.append(Step(name, text or name))
                names.append(name)
            at = names.index(name)
            for i, s in enumerate(steps):
                if i < at:
                    steps[i] = dataclasses.replace(s, state=StepState.DONE)
                elif i == at:
                    steps[i] = dataclasses.replace(s, text=text or s.text, state=StepState.RUNNING)
            return dataclasses.replace(op, steps=tuple(steps), progress=at / len(steps))

        self._change(change)

    def insert(self, name: str, text: str) -> None:
        """A step that was not announced comes first, and begins: a person is asked before anything else."""
        self._change(lambda op: dataclasses.replace(op, steps=(Step(name, text), *op.steps)))
        self.step(name)

    def reach(self, name: str, text: str) -> None:
        """A ``provider.reach``: the step ``name``, if it was announced and is not over; else the running step says so."""
        if any(s.name == name and s.state in (StepState.PENDING, StepState.RUNNING) for s in self._value.steps):
            self.step(name, text)
        else:
            self.report(text)

    def about(self, compute: str) -> None:
        """The compute's id, where it was not known at the beginning: a new machine's."""
        self._change(lambda op: dataclasses.replace(op, compute=compute))

    def skip(self, name: str) -> None:
        """Take an announced step out: it turned out not to be needed."""
        self._change(lambda op: dataclasses.replace(op, steps=tuple(s for s in op.steps if s.name != name)))

    def report(self, text: str, fraction: float | None = None) -> None:
        """The running step says how far it is: a sentence, and the fraction of that step (a ``provider.Report``)."""

        def change(op: Operation) -> Operation:
            at = next((i for i, s in enumerate(op.steps) if s.state is StepState.RUNNING), None)
            if at is None:
                return op
            steps = list(op.steps)
            steps[at] = dataclasses.replace(steps[at], text=text)
            progress = op.progress if fraction is None else (at + min(1.0, max(0.0, fraction))) / len(steps)
            return dataclasses.replace(op, steps=tuple(steps), progress=progress)

        self._change(change)

    def mention(self, text: str) -> None:
        """A sentence for whoever follows, that is no progress."""
        for listener in list(self.listeners):
            listener(text)

    def done(self, notice: str = "") -> bool:
        return self._end(OperationState.DONE, None, notice)

    def failed(self, error: BaseException) -> bool:
        return self._end(OperationState.FAILED, problem_of(error), "")

    def cancelled(self, error: DSVMError) -> bool:
        return self._end(OperationState.CANCELLED, problem_of(error), "")

    def add_notice(self, text: str) -> None:
        """What was found out only after it was done joins its notice. Not for one that failed or was cancelled."""
        with self._store.lock:
            if self._value.state is not OperationState.DONE or not text:
                return
            notice = f"{self._value.notice} {text}".strip()
            value = self._value = dataclasses.replace(self._value, notice=notice)
        self._store.changed(value)

    def _change(self, function: Callable[[Operation], Operation]) -> None:
        with self._store.lock:
            if self._value.state is not OperationState.RUNNING:
                return
            before, self._value = self._value, function(self._value)
            value = self._value
        if value == before:
            return
        self._store.changed(value)
        sentence = next((s.text for s in value.steps if s.state is StepState.RUNNING), None)
        if sentence is not None and sentence != next(
            (s.text for s in before.steps if s.state is StepState.RUNNING), None
        ):
            for listener in list(self.listeners):
                listener(sentence)

    def _end(self, state: OperationState, error: Problem | None, notice: str) -> bool:
        with self._store.lock:
            if state not in TRANSITIONS[self._value.state]:
                return False
            last = StepState.DONE if state is OperationState.DONE else StepState.FAILED
            steps = tuple(
                dataclasses.replace(s, state=last)
                if s.state is StepState.RUNNING or (last is StepState.DONE and s.state is StepState.PENDING)
                else s
                for s in self._value.steps
            )
            self._value = dataclasses.replace(
                self._value,
                state=state,
                steps=steps,
                progress=1.0 if state is OperationState.DONE else self._value.progress,
                error=error,
                ended=utc_now(),
                notice=notice or self._value.notice,
            )
            value = self._value
            self._store.ended(self)
        self.finished.set_result(value)
        self._store.changed(value)
        return True


class OperationStore:
    """All operations of one service, running and lately ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, keep: float = KEEP_ENDED_SECONDS) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._keep = keep
        self._operations: dict[str, Running] = {}
        self._ended: dict[str, float] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """``listener`` is called with each new value of any operation."""
        self._listeners.append(listener)

    def begin(
        self,
        kind: str,
        *,
        compute: str | None = None,
        kernel: str | None = None,
        steps: Sequence[tuple[str, str]] = (),
        cancel: Cancel | None = None,
        arguments: Mapping[str, Any] | None = None,
        elsewhere: bool = False,
    ) -> Running:
        """Start one. ``steps`` announces what will come, so that a page can say "2 of 4". With ``arguments`` and its memo a later
        server goes on with a change of a machine (``resuming``)."""
        operation = Operation(
            id=uuid.uuid4().hex,
            kind=kind,
            compute=compute,
            kernel=kernel,
            state=OperationState.RUNNING,
            steps=tuple(Step(name, text) for name, text in steps),
            progress=0.0,
            elsewhere=elsewhere,
        )
        return self._added(Running(self, operation, cancel if cancel is not None else Cancel(), arguments))

    def resume(self, operation: Operation, arguments: Mapping[str, Any], facts: Mapping[str, Any]) -> Running:
        """One that an earlier server has begun, under its id and with the steps that it has come to."""
        running = Running(self, operation, Cancel(), arguments)
        running.memo.facts.update(facts)
        return self._added(running)

    def _added(self, running: Running) -> Running:
        with self.lock:
            self._prune()
            self._operations[running.id] = running
        self.changed(running.value)
        return running

    def all(self) -> list[Operation]:
        """Newest first."""
        with self.lock:
            self._prune()
            return [r.value for r in reversed(self._operations.values())]

    def running(self) -> list[Running]:
        with self.lock:
            return [r for r in self._operations.values() if r.value.state is OperationState.RUNNING]

    def get(self, operation_id: str) -> Running:
        with self.lock:
            self._prune()
            running = self._operations.get(operation_id)
        if running is None:
            raise NotFound(
                f"There is no operation {operation_id!r}.",
                advice="It may have ended some minutes ago; fetch the list again.",
                code="UnknownOperation",
            )
        return running

    def cancel(self, operation_id: str, reason: str = "It was cancelled.", quiet: bool = False) -> None:
        """Ask it to stop. It ends when its worker has noticed; raises when it has ended already, unless ``quiet``."""
        running = self.get(operation_id)
        try:
            self.check_cancel(running)
        except OperationRefused:
            if quiet:
                return
            raise
        running.cancel_reason = reason
        running.cancel.set()
        callback = running.on_cancel
        if callback is not None:
            callback(reason)

    def dismiss(self, operation_id: str) -> None:
        """A person has seen how it ended, and nobody is shown it again. Raises where it goes on."""
        running = self.get(operation_id)
        with self.lock:
            if running.value.state is OperationState.RUNNING:
                raise OperationRefused(
                    "The operation goes on.", advice="Cancel it, or wait for its end.", code="OperationRunning"
                )
            self._ended.pop(operation_id, None)
            self._operations.pop(operation_id, None)

    @staticmethod
    def check_cancel(running: Running) -> None:
        """Raises ``OperationRefused`` for what nobody here can cancel."""
        if running.value.state is not OperationState.RUNNING:
            raise OperationRefused(
                f"The operation has ended already ({running.value.state.value}).",
                advice="Start the opposite change instead.",
                code="OperationEnded",
            )
        if running.value.elsewhere:
            raise OperationRefused(
                "It was begun elsewhere, and is only watched here.",
                advice="Cancel it where it was begun; to stop the machine, use Stop.",
                code="BegunElsewhere",
            )

    # For ``Running``

    def changed(self, operation: Operation) -> None:
        for listener in list(self._listeners):
            listener(operation)

    def ended_within(self, running: Running, seconds: float) -> bool:
        """Whether it has ended, and no longer ago."""
        at = self._ended.get(running.id)
        return at is not None and self._clock() - at <= seconds

    def ended(self, running: Running) -> None:
        self._ended[running.id] = self._clock()

    def _prune(self) -> None:
        now = self._clock()
        old = [i for i, at in self._ended.items() if now - at > self._keep]
        old += [i for i in list(self._ended)[: max(0, len(self._ended) - KEEP_ENDED_COUNT)] if i not in old]
        for operation_id in old:
            del self._ended[operation_id]
            self._operations.pop(operation_id, None)
