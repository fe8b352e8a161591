"""Azure's run command: a script of ours, executed on a running VM as root by Azure's agent there.

The way onto a machine before SSH works. One at a time per VM, twenty seconds at least, cannot be cancelled, and what
comes back is the last 4,096 bytes of what it printed (https://learn.microsoft.com/azure/virtual-machines/linux/run-command).
Called by ``access`` on a worker thread; imports the Azure libraries.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from azure.core.exceptions import AzureError

from ...errors import Cancelled, ComputeError, OperationRefused, printable
from ..provider import Cancel, Report
from .errors import translate
from .lifecycle import _GivenUp, _Polling

INERT = re.compile(r"[A-Za-z0-9+/=_.:-]{1,600}")
"""What a parameter's value may be: nothing that any shell, quoted or not, takes for anything but itself."""

NAME = re.compile(r"dsvm_[a-z]{1,20}")

BUSY_PATIENCE = 180.0
"""Seconds to wait while another run command is under way on that VM."""

LIMIT = 300.0
"""Seconds for one: it takes 20 to 60, and a missing agent is noticed by Azure after some minutes only."""

_OUTPUT = re.compile(r"\[stdout\]\n(?P<out>.*)\n\[stderr\]\n?(?P<err>.*)", re.DOTALL)


def checked(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    """As Azure takes them. Raises ``ComputeError`` for a value that is more than a word: it would be run as root."""
    for name, value in parameters.items():
        if not NAME.fullmatch(name) or not INERT.fullmatch(value):
            raise ComputeError(
                f"The parameter {printable(name, 40)} of a command on the VM has a value that is not allowed: "
                f"{printable(repr(value), 80)}.",
                code="BadParameter",
            )
    return [{"name": name, "value": value} for name, value in parameters.items()]


def output(body: Mapping[str, Any]) -> tuple[str, str]:
    """What it printed, stdout and stderr, from the operation's last answer or the one of its ``Location``."""
    properties = body.get("properties")
    inner = properties.get("output") if isinstance(properties, dict) else None
    rows = (inner if isinstance(inner, dict) else body).get("value")
    for row in rows if isinstance(rows, list) else ():
        message = row.get("message") if isinstance(row, dict) else None
        found = _OUTPUT.search(message.replace("\r\n", "\n")) if isinstance(message, str) else None
        if found:
            return found["out"], found["err"]
    return "", ""


def run(
    begin: Callable[..., Any],
    script: str,
    parameters: Mapping[str, str],
    *,
    name: str,
    what: str,
    doing: str,
    endpoint: str,
    interval: float,
    report: Report,
    cancel: Cancel,
    busy_patience: float = BUSY_PATIENCE,
) -> tuple[str, str]:
    """Run ``script`` there and return what it printed. Blocks for 20 seconds at least.

    ``begin``: azure-mgmt-compute's ``begin_run_command`` with the VM filled in. ``what`` follows "Could not", and ``doing`` begins
    what is reported. Raises
    ``Forbidden``, ``OperationRefused`` or ``ComputeError``; ``Cancelled`` when waiting was given up, while it goes on there.
    """
    body = {"commandId": "RunShellScript", "script": script.split("\n"), "parameters": checked(parameters)}
    begun = time.monotonic()
    while True:
        try:
            return output(_once(begin, body, name, what, doing, endpoint, interval, report, cancel))
        except OperationRefused as error:
            # Only one at a time: what somebody else runs there just now has to end first.
            if error.code not in {"Conflict", "RunCommandInProgress"} or time.monotonic() - begun > busy_patience:
                raise
        report(f"{doing}: another command is being run there by Azure; waiting for that to end", None)
        if cancel.wait(interval):
            raise Cancelled(
                f"Stopped waiting for {name}, where another command is being run. Nothing was changed there."
            )


def _once(
    begin: Callable[..., Any],
    body: Mapping[str, Any],
    name: str,
    what: str,
    doing: str,
    endpoint: str,
    interval: float,
    report: Report,
    cancel: Cancel,
) -> dict[str, Any]:
    if cancel.is_set():
        raise Cancelled(f"Nothing was changed on {name}: it was cancelled before Azure was asked.")
    polling = _Polling(interval, cancel, time.monotonic() + LIMIT)
    try:
        poller = begin(body, polling=polling, retry_total=0, cls=_body)
        while not poller.done():
            report(f"{doing}: Azure runs a command there, which takes some 30 seconds", None)
            poller.wait(interval)
        found = poller.result()
    except _GivenUp:
        if cancel.is_set():
            raise Cancelled(
                f"Stopped waiting for the command on {name}. Azure goes on with it; it cannot be called off."
            ) from None
        raise OperationRefused(
            f"Could not {what}: the agent inside {name} did not answer within {LIMIT:.0f} s.",
            advice="Restart the VM and try again.",
            code="VMAgentStatusCommunicationError",
        ) from None
    except AzureError as error:
        raise translate(error, what, endpoint) from error
    return found if isinstance(found, dict) else {}


def _body(response: Any, _deserialized: Any, _headers: Any) -> Any:
    """The JSON as it came: the output is in the operation's own body, which the SDK's model has no room for."""
    return response.http_response.json()
