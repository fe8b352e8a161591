"""Start, deallocate and restart: Azure's long-running operations, with reports and a way to stop waiting.

The POST goes out once and is never repeated. After it was accepted, Azure works on whether anybody listens or not:
so a poll that fails is asked again for ``PATIENCE`` seconds, and an error or a cancel after that says that Azure goes
on. Called by the provider, on a worker thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from azure.core.exceptions import AzureError, DecodeError, ServiceRequestError, ServiceResponseError
from azure.core.polling.base_polling import BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from ...errors import Cancelled, ComputeError, DSVMError, OperationRefused
from ...models import PowerState
from ..provider import Cancel, Report
from .errors import translate

PATIENCE = 120.0
"""Seconds without one good answer after which waiting is given up. Long enough for a change of network."""

LONGEST_DELAY = 30.0
"""Seconds between two polls at most, whatever ``Retry-After`` says: the user sees the state at most this late."""

_TRANSIENT = {408, 429, 500, 502, 503, 504}

_NO_RIGHT = {401, 403}
"""Of a poll: the sign-in or a role has ended meanwhile, and says nothing of the operation."""

_LOST = (ServiceRequestError, ServiceResponseError, DecodeError)
"""No answer, or one that is not Azure's, as of a gateway in between."""


@dataclass(frozen=True)
class Action:
    """One row of ``ACTIONS``."""

    method: str
    """Of azure-mgmt-compute's ``virtual_machines``."""
    verb: str
    doing: str
    wanted: PowerState
    """What the VM is when it is done."""
    passing: frozenset[PowerState]
    """What it may be for a moment longer."""
    busy: frozenset[PowerState]
    """What it may not be before: an operation that somebody else began has to end first."""
    done_already: bool
    """Whether nothing is asked of Azure if it is in the wanted state."""
    goes_on: str


ACTIONS = {
    "start": Action(
        method="begin_start",
        verb="start",
        doing="starting",
        wanted=PowerState.RUNNING,
        passing=frozenset({PowerState.STARTING, PowerState.UNKNOWN}),
        busy=frozenset({PowerState.STOPPING, PowerState.DEALLOCATING}),
        done_already=True,
        goes_on="Azure goes on starting it, and it is billed while it runs",
    ),
    "stop": Action(
        method="begin_deallocate",
        verb="stop",
        doing="stopping",
        wanted=PowerState.DEALLOCATED,
        passing=frozenset({PowerState.DEALLOCATING, PowerState.STOPPING, PowerState.STOPPED, PowerState.UNKNOWN}),
        busy=frozenset(),  # stopping must not wait for anything: Azure lets a deallocation go before a start
        done_already=True,
        goes_on="Azure goes on deallocating it, and it is billed until it is deallocated",
    ),
    "restart": Action(
        method="begin_restart",
        verb="restart",
        doing="restarting",
        wanted=PowerState.RUNNING,
        passing=frozenset({PowerState.STARTING, PowerState.UNKNOWN}),
        busy=frozenset({PowerState.STOPPING, PowerState.DEALLOCATING, PowerState.STARTING}),
        done_already=False,
        goes_on="Azure goes on restarting it",
    ),
}


class _GivenUp(Exception):
    """Raised inside the poller's thread to end it: the reason is for ``change`` to say."""


class _Polling(ARMPolling):
    """azure-mgmt-core's polling, which can be cancelled and which outlives a fault of the network."""

    def __init__(self, interval: float, cancel: Cancel, deadline: float) -> None:
        super().__init__(
            timeout=interval,
            # The operation's own address says whether it is done; the last GET of `Location` would add nothing.
            lro_options={"final-state-via": "azure-async-operation"},
            retry_total=0,
        )
        self._cancel = cancel
        self._deadline = deadline
        self._good = time.monotonic()

    def _sleep(self, delay: float) -> None:
        left = self._deadline - time.monotonic()
        if self._cancel.wait(max(0.0, min(delay, LONGEST_DELAY, left))) or left <= 0:
            raise _GivenUp

    def update_status(self) -> None:
        try:
            super().update_status()
        except BadStatus:
            if self._pipeline_response.http_response.status_code not in _TRANSIENT or self._impatient():
                raise
        except _LOST:
            if self._impatient():
                raise
        else:
            self._good = time.monotonic()

    def _impatient(self) -> bool:
        return time.monotonic() - self._good > PATIENCE


class Change:
    """One change of one VM's power state; ``run`` is called once.

    Args:
        action: A row of ``ACTIONS``.
        name: What users call the VM.
        begin: Sends the POST: azure-mgmt-compute's ``begin_…`` with the VM filled in.
        state: Reads the VM's power state now; raises our errors.
        endpoint: For messages.
        interval: Seconds between two polls where Azure does not say.
        timeout: Seconds after which waiting is given up.
    """

    def __init__(
        self,
        action: Action,
        name: str,
        begin: Callable[..., Any],
        state: Callable[[], PowerState],
        *,
        endpoint: str,
        interval: float,
        timeout: float,
    ) -> None:
        self._action, self._name, self._begin, self._state = action, name, begin, state
        self._endpoint, self._interval, self._timeout = endpoint, interval, timeout

    def run(self, report: Report, cancel: Cancel) -> PowerState:
        """Return the wanted state once the VM has it.

        What is reported changes only when something has happened: the panel shows it in a live region, where a screen
        reader would read out a count of seconds.

        Raises:
            OperationRefused: Azure said no, or the VM ended in another state.
            Cancelled: ``cancel`` was set; the message says whether Azure goes on.
        """
        self._began = time.monotonic()
        state = self._settled(report, cancel)
        if state is self._action.wanted and self._action.done_already:
            return state
        if cancel.is_set():
            raise Cancelled(f"{self._name} was not {_past(self._action)}: cancelled before Azure was asked.")
        report(f"Asking Azure to {self._action.verb} {self._name}", None)
        self._operate(report, cancel)
        return self._confirmed(report, cancel)

    def _settled(self, report: Report, cancel: Cancel) -> PowerState:
        """Wait for what somebody else began; at once if there is nothing."""
        while (state := self._state()) in self._action.busy:
            report(f"{self._name} is {state.value} by another operation; waiting for that to end", None)
            if cancel.wait(self._interval):
                raise Cancelled(
                    f"Stopped waiting for {self._name}, which is {state.value} by another operation. "
                    f"Azure was not asked to {self._action.verb} it."
                )
            if self._late():
                raise OperationRefused(
                    f"Could not {self._action.verb} {self._name}: it has been {state.value} for {self._seconds()} s, "
                    "by an operation that was started elsewhere.",
                    advice="Look at its activity log in the Azure portal.",
                )
        return state

    def _operate(self, report: Report, cancel: Cancel) -> None:
        polling = _Polling(self._interval, cancel, self._began + self._timeout)
        try:
            # Once: whether a POST whose answer was lost has had its effect cannot be known.
            poller = self._begin(polling=polling, retry_total=0)
        except AzureError as error:
            raise translate(error, f"{self._action.verb} {self._name}", self._endpoint) from error
        try:
            while not poller.done():
                report(f"Azure is {self._action.doing} {self._name}", None)
                poller.wait(self._interval)
            poller.result()
        except _GivenUp:
            self._give_up(cancel)
        except AzureError as error:
            if _status(error) == 404:
                return  # the operation's address has ended; whether the VM has, is asked of the VM itself
            raise self._after_accepting(error) from error
        except ComputeError as error:
            # Raised on our side of the wire: an address that is not followed, or no token any more.
            raise self._accepted(error) from error.__cause__

    def _after_accepting(self, error: AzureError) -> DSVMError:
        """A failed operation is Azure's answer; a lost contact is not, and the VM may be running and billed."""
        found = translate(error, f"{self._action.verb} {self._name}", self._endpoint)
        if isinstance(error, _LOST) or _status(error) in _TRANSIENT | _NO_RIGHT:
            return self._accepted(found)
        return found

    def _accepted(self, error: DSVMError) -> DSVMError:
        error.message += f" Azure had accepted it before contact was lost: {self._action.goes_on}."
        error.args = (error.message,)
        return error

    def _confirmed(self, report: Report, cancel: Cancel) -> PowerState:
        """The operation has ended; the VM itself says what it is now."""
        while (state := self._state()) is not self._action.wanted:
            if state not in self._action.passing:
                raise OperationRefused(
                    f"Azure has finished {self._action.doing} {self._name}, but now it is {state.value}: "
                    "another operation, started elsewhere, has changed it.",
                    advice="Wait until its state is settled, then try again.",
                    code="Conflict",
                )
            report(f"{self._name} is {state.value}", None)
            if cancel.wait(self._interval) or self._late():
                self._give_up(cancel)
        return state

    def _give_up(self, cancel: Cancel) -> NoReturn:
        action = self._action
        if cancel.is_set():
            raise Cancelled(
                f"Stopped waiting for {self._name} after {self._seconds()} s. {action.goes_on}.",
                advice=f"`jupyter dsvm stop {self._name}` deallocates it."
                if action.wanted is PowerState.RUNNING
                else "",
            )
        raise ComputeError(
            f"{self._name} was not {_past(action)} within {self._timeout:.0f} s. {action.goes_on}.",
            advice="Look at its activity log in the Azure portal; AzureCompute.operation_timeout sets how long to wait.",
            code="Timeout",
        )

    def _seconds(self) -> int:
        return int(time.monotonic() - self._began)

    def _late(self) -> bool:
        return time.monotonic() - self._began > self._timeout


def _past(action: Action) -> str:
    return {"start": "started", "stop": "stopped", "restart": "restarted", "release": "released", "resize": "resized"}[
        action.verb
    ]


def _status(error: AzureError) -> int | None:
    return getattr(error, "status_code", None)
