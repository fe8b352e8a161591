"""One resize of one VM: released, changed, started again; and put back where that does not work.

Theory. A resize goes through the stages of ``STAGES``, each of which is one long-running operation of Azure's. The stage is
noted in the ``Memo`` before Azure is asked for anything, with the old size and whether the VM ran, so that whoever is handed
the memo after the server was killed looks at the VM and goes on from there. Rules:

- Always released first: then every size of the region is possible, not only those of the hardware that it is on.
- Every request goes out once. What is not known to have failed is looked at, never asked for again.
- Up to the change of the size, a cancel goes back; after it, a cancel ends the waiting and says what Azure goes on doing.
- A stage that fails leads back to the old size, started if it ran. If even that fails, the error says what the VM is now.

Called by ``resizable`` on a worker thread. Nothing here imports Azure's libraries; ``Cloud`` does the asking.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ...errors import Cancelled, ComputeError, DSVMError, OperationRefused
from ...models import PowerState
from ..provider import Cancel, Memo, Report

log = logging.getLogger("jupyter_dsvm.azure")

RELEASE, CHANGE, START, BACK, AGAIN = "release", "change", "start", "back", "again"
DONE, UNDONE = "done", "undone"


@dataclass(frozen=True)
class Stage:
    then: str
    failed: str
    """The stage after a failure; empty: there is nothing to put back, or nothing more that could be tried."""
    cancelled: str
    """The stage after a cancel; empty: the waiting ends, and Azure goes on."""


STAGES: dict[str, Stage] = {
    RELEASE: Stage(then=CHANGE, failed="", cancelled=AGAIN),
    CHANGE: Stage(then=START, failed=BACK, cancelled=""),
    START: Stage(then=DONE, failed=BACK, cancelled=""),
    BACK: Stage(then=AGAIN, failed="", cancelled=BACK),
    AGAIN: Stage(then=UNDONE, failed="", cancelled=AGAIN),
}
"""Of what is undone nothing is cancelled: it is what a cancel, or a failure, asked for."""

RAN = frozenset({PowerState.RUNNING, PowerState.STARTING})

PASSING = frozenset({PowerState.STARTING, PowerState.STOPPING, PowerState.DEALLOCATING})

TOO_LATE = 3600.0
"""Seconds after which a resize that had not begun yet when the server was killed does not release a running VM any more:
somebody may work on it by now."""


@dataclass(frozen=True)
class Seen:
    """The VM as it is now."""

    size: str
    state: PowerState
    provisioning: str

    @property
    def settled(self) -> bool:
        return self.state not in PASSING and self.provisioning.lower() != "updating"


class Cloud(Protocol):
    """What a resize asks of Azure, for one VM. Everything blocks and raises our errors."""

    def look(self) -> Seen: ...

    def release(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None: ...

    def change(self, size: str, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None: ...

    def start(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None: ...


class Held(Cancel):
    """A cancel that waits while ``held`` says so, unless the server ends: a stage that has begun is first brought to an end
    that the VM can be left in."""

    def __init__(self, cancel: Cancel, held: Callable[[], bool]) -> None:
        super().__init__()
        self._of, self._held = cancel, held
        self.wished = False
        """Whether somebody wanted it while it was held, before the server came to its end."""

    def is_set(self) -> bool:
        if not self._of.is_set():
            return False
        if _leaving(self._of) or not self._held():
            return True
        self.wished = True
        return False

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = 0.2 if until is None else min(0.2, until - time.monotonic())
            if left <= 0:
                return False
            if self._of.is_set():
                time.sleep(left)
            else:
                self._of.wait(left)
        return True


class Resize:
    """``run`` is called once. A ``memo`` with a stage in it is gone on with; otherwise ``old`` and ``state`` are what the VM is
    now. Raises what Azure says, ``Cancelled``, and ``OperationRefused`` for one that was put back."""

    def __init__(
        self,
        name: str,
        new: str,
        old: str,
        state: PowerState,
        cloud: Cloud,
        memo: Memo,
        *,
        interval: float,
        timeout: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        facts = memo.facts
        self._name, self._cloud, self._memo = name, cloud, memo
        self._interval, self._timeout, self._clock = interval, timeout, clock
        self._resumed = facts.get("stage") in STAGES
        if not self._resumed:
            facts.clear()
            # Without hardware there is nothing to release.
            stage = CHANGE if state is PowerState.DEALLOCATED else RELEASE
            facts.update(stage=stage, size=new, old=old, ran=state in RAN, asked=False, began=clock())
        self.new, self.old, self._ran = str(facts["size"]), str(facts["old"]), bool(facts["ran"])

    def run(self, report: Report, cancel: Cancel) -> None:
        stage = str(self._memo.facts["stage"])
        if self._resumed:
            stage = self._gone_on_with(stage, report, cancel)
        elif cancel.is_set():
            raise Cancelled(f"{self._name} was not resized: cancelled before Azure was asked.")
        while stage in STAGES:
            if stage in (START, AGAIN) and not self._ran:
                stage = STAGES[stage].then
                continue
            self._memo.note(stage=stage, asked=False)
            stage = self._gone_through(stage, report, cancel)
        if stage == UNDONE:
            self._put_back()

    # -- one stage ------------------------------------------------------------------------------------------------------

    def _gone_through(self, stage: str, report: Report, cancel: Cancel) -> str:
        """Give the next stage."""
        row = STAGES[stage]
        held = Held(cancel, lambda: stage != RELEASE or bool(self._memo.facts["asked"])) if row.cancelled else cancel
        try:
            self._ask(stage, report, held)
        except Cancelled as error:
            if _leaving(cancel):
                if stage == RELEASE and isinstance(held, Held) and held.wished:
                    self._memo.note(stage=self._called_off(), asked=False)
                raise self._left(error) from error
            if stage == RELEASE:
                raise Cancelled(f"{self._name} was not resized, and nothing was changed. {error.message}") from error
            if stage == CHANGE and not self._memo.facts["asked"]:
                return self._called_off()
            raise self._goes_on(stage, error) from error
        except DSVMError as error:
            return self._failed(stage, error, report, cancel)
        except Exception as error:
            # A fault of ours or of a library's must not leave the VM lying about either.
            log.exception("resizing %s failed", self._name)
            said = f"{self._name}: an error inside jupyter-dsvm, {type(error).__name__}: {error}"
            return self._failed(stage, ComputeError(said, code="Internal"), report, cancel)
        if stage == RELEASE and cancel.is_set():
            return self._called_off()
        return row.then

    def _ask(self, stage: str, report: Report, cancel: Cancel) -> None:
        if stage == RELEASE:
            self._cloud.release(report, cancel, self._accepted)
        elif stage == CHANGE:
            self._cloud.change(self.new, report, cancel, self._accepted)
        elif stage == BACK:
            seen = self._settled(report, cancel)
            if not _same(seen.size, self.old):
                # A start may have failed after it got hardware; on that the size would be changed in place.
                if seen.state is not PowerState.DEALLOCATED:
                    self._cloud.release(report, cancel, lambda: None)
                self._cloud.change(self.old, report, cancel, self._accepted)
        else:
            self._cloud.start(report, cancel, self._accepted)

    def _accepted(self) -> None:
        self._memo.note(asked=True)

    def _called_off(self) -> str:
        """Cancelled while it is off and has its old size."""
        self._why(Cancelled(f"{self._name} was not resized: it was cancelled."))
        return AGAIN

    def _failed(self, stage: str, error: DSVMError, report: Report, cancel: Cancel) -> str:
        row, cause = STAGES[stage], error.__cause__
        try:
            seen = self._cloud.look()
        except DSVMError:
            if stage == RELEASE:
                raise error from cause
            raise self._said(error, f"What {self._name} is now could not be read: look before you start it.") from cause
        if stage == START and seen.state is PowerState.RUNNING and _same(seen.size, self.new):
            return DONE
        if stage == AGAIN and seen.state is PowerState.RUNNING and _same(seen.size, self.old):
            return UNDONE
        if stage == CHANGE and _same(seen.size, self.new) and seen.provisioning.lower() == "succeeded":
            return START  # contact was lost, and it was done
        if not seen.settled:
            raise self._said(
                error, f"{self._name} is {seen.state.value} ({seen.size}), and Azure is at it still."
            ) from cause
        if row.failed:
            self._why(error)
            return row.failed
        if stage == RELEASE:
            raise self._said(error, f"{self._name} was not resized and is {seen.state.value}.") from cause
        self._stranded(seen, error)

    # -- going on after the server was killed ---------------------------------------------------------------------------

    def _gone_on_with(self, stage: str, report: Report, cancel: Cancel) -> str:
        """The stage to begin with, from the one that was noted and what the VM is now."""
        try:
            seen = self._settled(report, cancel)
        except Cancelled as error:
            if not _leaving(cancel):
                raise
            raise self._left(error) from error
        asked = bool(self._memo.facts.get("asked"))
        runs = seen.state is PowerState.RUNNING
        off = f"{self._name} has the size {seen.size} and is {seen.state.value}."
        if stage == RELEASE:
            late = self._clock() - float(self._memo.facts.get("began", 0.0)) > TOO_LATE
            if runs and (asked or late):
                raise self._not_gone_on_with(f"It runs with its old size, {seen.size}, and is left alone.")
            return RELEASE
        if stage == CHANGE:
            if _same(seen.size, self.new):
                return START if seen.provisioning.lower() != "failed" else self._broken_off(BACK)
            if seen.state is not PowerState.DEALLOCATED:
                raise self._not_gone_on_with(
                    f"It is {seen.state.value} with its old size, {seen.size}, and is left alone."
                )
            return CHANGE
        if stage == START:
            if not _same(seen.size, self.new):
                raise self._not_gone_on_with(f"{off} Somebody else has changed it.")
            if runs or not self._ran:
                return DONE
            if asked:
                raise self._not_gone_on_with(f"{off} It was asked to start and did not, or was stopped since.")
            return START
        if runs and _same(seen.size, self.old):
            return UNDONE
        if stage == AGAIN and asked:
            raise self._not_gone_on_with(f"{off} It was asked to start and did not, or was stopped since.")
        return stage

    def _settled(self, report: Report, cancel: Cancel) -> Seen:
        """The VM once no operation is under way on it."""
        until = time.monotonic() + self._timeout
        while not (seen := self._cloud.look()).settled:
            report(f"{self._name} is being changed; waiting for that to end", None)
            if cancel.wait(self._interval):
                raise Cancelled(f"Stopped waiting for {self._name}, which is {seen.state.value}.")
            if time.monotonic() > until:
                raise OperationRefused(
                    f"{self._name} has been {seen.state.value} for {self._timeout:.0f} s.",
                    advice="Look at its activity log in the Azure portal.",
                    code="Timeout",
                )
        return seen

    def _broken_off(self, stage: str) -> str:
        self._why(OperationRefused(f"Azure could not give {self._name} the size {self.new}."))
        return stage

    def _not_gone_on_with(self, said: str) -> OperationRefused:
        return OperationRefused(
            f"The resize of {self._name} to {self.new}, which the end of the server broke off, is not gone on with. {said}",
            advice=f"Start it, or resize it again: `jupyter dsvm resize {self._name} SIZE`.",
            code="Interrupted",
        )

    # -- what is said ---------------------------------------------------------------------------------------------------

    def _why(self, error: DSVMError) -> None:
        """What is said when all is put back. Kept with the next stage, so that nobody finds the one without the other."""
        self._memo.facts.setdefault("why", {**error.to_json(), "cancelled": isinstance(error, Cancelled)})

    def _reason(self) -> dict[str, Any]:
        why: dict[str, Any] = self._memo.facts.get("why") or {}
        return {"message": f"{self._name} was not resized.", "advice": "", "code": "OperationRefused", **why}

    def _put_back(self) -> NoReturn:
        why = self._reason()
        now = "and runs again" if self._ran else "and is off, as before"
        kind = Cancelled if why.get("cancelled") else OperationRefused
        raise kind(
            f"{_ended(why['message'])} {self._name} has its old size, {self.old}, {now}.",
            advice=why["advice"],
            code=why["code"],
        )

    def _stranded(self, seen: Seen, error: DSVMError) -> NoReturn:
        """Neither the new size nor the old one: what it is, and what can be done."""
        why = self._reason()
        old = "its old size" if _same(seen.size, self.old) else "the new size"
        billed = (
            "nothing but its disks is billed"
            if seen.state is PowerState.DEALLOCATED
            else "it is billed until it is stopped"
        )
        raise OperationRefused(
            f"{_ended(why['message'])} It could not be put back either: {_ended(error.message)} {self._name} is "
            f"{seen.state.value} now, with {old} ({seen.size}); its disks are kept, and {billed}.",
            advice=f"{error.advice} Start it later with `jupyter dsvm start {self._name}`, or give it a size that there is room "
            f"for: `jupyter dsvm sizes {self._name}`.".strip(),
            code=error.code,
        ) from error

    def _goes_on(self, stage: str, error: DSVMError) -> Cancelled:
        start = f"Start it with `jupyter dsvm start {self._name}` once it has changed."
        if stage == CHANGE:
            return Cancelled(
                f"Stopped waiting for {self._name}: Azure goes on giving it the size {self.new}. It is off, and nothing starts it.",
                advice=start if self._ran else "",
            )
        if not self._memo.facts["asked"]:
            return Cancelled(
                f"{self._name} has its new size, {self.new}, and is off: it was not started.", advice=start
            )
        return Cancelled(f"{_ended(error.message)} It has its new size, {self.new}.", advice=error.advice)

    def _left(self, error: DSVMError) -> Cancelled:
        return Cancelled(
            f"The server is stopping while {self._name} is being resized. {error.message}",
            advice="It is gone on with when the server runs again.",
            code="Leaving",
        )

    @staticmethod
    def _said(error: DSVMError, more: str) -> DSVMError:
        error.message = f"{_ended(error.message)} {more}"
        error.args = (error.message,)
        return error


def _leaving(cancel: Cancel) -> bool:
    """A cell's cancel is a plain event, which the server's end sets as well."""
    return bool(getattr(cancel, "leaving", False))


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _ended(text: str) -> str:
    """As a sentence, which what Azure says need not be."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
