"""Start, deallocate and restart: Azure's long-running operations, with reports and a way to stop waiting.

The POST goes out once and is never repeated. After it was accepted, Azure works on whether anybody listens or not:
so a poll that fails is asked again for ``PATIENCE`` seconds, and an error or a cancel after that says that Azure goes
on. A server that was killed meanwhile has left a memo, by which the next one goes on polling. Called by the provider, on a
worker thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from azure.core.exceptions import (
    AzureError,
    DecodeError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.polling.base_polling import BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from ...errors import Cancelled, ComputeError, DSVMError, OperationRefused
from ...models import PowerState, utc_now
from ..provider import Cancel, Memo, Report, reach
from .credentials import origin
from .errors import translate
from .faults import seconds

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
    again: bool = False
    """Whether it is sent once more where a killed server may have sent it: what saves money is, what costs some is not."""


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
        goes_on="Azure cannot call a stop back: it goes on deallocating it, which is billed until that is done",
        again=True,
    ),
    "restart": Action(
        method="begin_restart",
        verb="restart",
        doing="restarting",
        wanted=PowerState.RUNNING,
        passing=frozenset({PowerState.STARTING, PowerState.UNKNOWN}),
        busy=frozenset({PowerState.STOPPING, PowerState.DEALLOCATING, PowerState.STARTING}),
        done_already=False,
        goes_on="Azure cannot call a restart back, and goes on with it",
    ),
}


class _GivenUp(Exception):
    """Raised inside the poller's thread to end it: the reason is for ``change`` to say."""


class _Polling(ARMPolling):
    """azure-mgmt-core's polling, which can be cancelled and which outlives a fault of the network."""

    def __init__(
        self, interval: float, cancel: Cancel, deadline: float, accepted: Callable[[str], object] = lambda address: None
    ) -> None:
        """``accepted`` is called with the operation's address once Azure has accepted the request, if it gives one."""
        super().__init__(
            timeout=interval,
            # The operation's own address says whether it is done; the last GET of `Location` would add nothing.
            lro_options={"final-state-via": "azure-async-operation"},
            retry_total=0,
        )
        self._cancel = cancel
        self._deadline = deadline
        self._good = time.monotonic()
        self._accepted = accepted

    def initialize(self, client: Any, initial_response: Any, deserialization_callback: Any) -> None:
        super().initialize(client, initial_response, deserialization_callback)
        address = initial_response.http_response.headers.get("Azure-AsyncOperation")
        if address:
            self._accepted(address)

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
        follow: GETs the address of an operation that an earlier server has begun; raises azure-core's errors and ours.
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
        follow: Callable[[str], Any],
        endpoint: str,
        interval: float,
        timeout: float,
    ) -> None:
        self._action, self._name, self._begin, self._state = action, name, begin, state
        self._follow, self._endpoint, self._interval, self._timeout = follow, endpoint, interval, timeout

    def run(self, report: Report, cancel: Cancel, memo: Memo | None = None) -> PowerState:
        """Return the wanted state once the VM has it.

        What is reported changes only when something has happened: the panel shows it in a live region, where a screen
        reader would read out a count of seconds.

        Raises:
            OperationRefused: Azure said no, or the VM ended in another state.
            Cancelled: ``cancel`` was set; the message says whether Azure goes on.
        """
        self._began = time.monotonic()
        memo = memo if memo is not None else Memo()
        address = memo.facts.get(f"{self._action.verb}_operation")
        if isinstance(address, str) and _same_host(address, self._endpoint):
            reach(report, self._action.verb, self._progress)
            self._poll(address, cancel)
            return self._confirmed(report, cancel)
        if was_asked(memo, self._action.verb) and not self._action.again:
            return self._perhaps(report, cancel)
        state = self._settled(report, cancel)
        if state is self._action.wanted and self._action.done_already:
            return state
        if cancel.is_set():
            raise Cancelled(f"{self._name} was not {_past(self._action)}: cancelled before Azure was asked.")
        reach(report, "ask", f"Asking Azure to {self._action.verb} {self._name}")
        self._operate(report, cancel, memo)
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

    @property
    def _progress(self) -> str:
        return f"Azure is {self._action.doing} {self._name}"

    def _perhaps(self, report: Report, cancel: Cancel) -> PowerState:
        """An earlier server was killed while it asked: the VM may tell whether that arrived."""
        state = self._state()
        goes_on = self._action.done_already and state is not PowerState.UNKNOWN
        if goes_on and state in {*self._action.passing, self._action.wanted}:
            reach(report, self._action.verb, self._progress)
            return self._confirmed(report, cancel)
        raise OperationRefused(
            f"The server ended while it asked Azure to {self._action.verb} {self._name}, so whether Azure has heard that is not "
            f"known. It is {state.value} now.",
            advice=f"{self._action.verb.capitalize()} it again if you still want that.",
            code="Interrupted",
        )

    def _poll(self, address: str, cancel: Cancel) -> None:
        """Wait for an operation that an earlier server has begun."""
        what, good = f"{self._action.verb} {self._name}", time.monotonic()
        while True:
            delay: float = self._interval
            lost: AzureError | None = None
            try:
                answer = self._follow(address)
                status, said = answer.status_code, _said_status(answer)
                if status == 404 or said == "succeeded":
                    return  # 404: the address has ended; whether the VM has, is asked of the VM itself
                if said in {"failed", "canceled"}:
                    raise translate(HttpResponseError(response=answer), what, self._endpoint)
                if status >= 400:
                    lost = HttpResponseError(response=answer)
                else:
                    good = time.monotonic()
                delay = min(seconds(answer.headers.get("Retry-After")) or delay, LONGEST_DELAY)
            except _LOST as error:
                lost = error
            except AzureError as error:
                raise self._accepted(translate(error, what, self._endpoint)) from error
            if lost is not None:
                brief = isinstance(lost, _LOST) or _status(lost) in _TRANSIENT
                if not brief or time.monotonic() - good > PATIENCE:
                    raise self._after_accepting(lost) from lost
            if cancel.wait(delay) or self._late():
                self._give_up(cancel)

    def _operate(self, report: Report, cancel: Cancel, memo: Memo) -> None:
        verb = self._action.verb
        polling = _Polling(
            self._interval,
            cancel,
            self._began + self._timeout,
            lambda address: memo.note(**{f"{verb}_operation": address}),
        )
        memo.note(**{f"{verb}_asked": utc_now()})
        try:
            # Once: whether a POST whose answer was lost has had its effect cannot be known.
            poller = self._begin(polling=polling, retry_total=0)
        except AzureError as error:
            raise translate(error, f"{self._action.verb} {self._name}", self._endpoint) from error
        try:
            while not poller.done():
                reach(report, verb, self._progress)
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
                advice=f"`jupyter dsvm stop {self._name}` (in a notebook, `%dsvm stop {self._name}`) releases it, so that it costs "
                "nothing but its disk."
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


def was_asked(memo: Memo | None, verb: str) -> bool:
    """Whether an earlier server has sent that request, or may have."""
    return memo is not None and f"{verb}_asked" in memo.facts


def _same_host(address: str, endpoint: str) -> bool:
    """A memo comes from a file: a token goes along to the endpoint that is configured now, and nowhere else."""
    try:
        return origin(address) == origin(endpoint)
    except ValueError:
        return False


def _said_status(answer: Any) -> str:
    """An operation's ``status``, in lower case."""
    try:
        body = answer.json()
    except (ValueError, RecursionError) as error:
        if answer.status_code >= 400:
            return ""
        raise DecodeError(f"No JSON: {error}") from error
    return str(body.get("status") or "").lower() if isinstance(body, dict) else ""


def _past(action: Action) -> str:
    return {"start": "started", "stop": "stopped", "restart": "restarted", "release": "released", "resize": "resized"}[
        action.verb
    ]


def _status(error: AzureError) -> int | None:
    return getattr(error, "status_code", None)
