"""What Azure says when it refuses, as our errors: one table, first row that fits.

``translate`` is called with every exception that the Azure libraries raise. Codes and texts are from recorded
answers of Azure and from https://learn.microsoft.com/troubleshoot/azure/virtual-machines/ (quota, allocation,
throttling). A code that no row knows keeps Azure's own code and message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import (
    ComputeError,
    DSVMError,
    Forbidden,
    OperationRefused,
    SignInRequired,
    Throttled,
    UnknownCompute,
    printable,
)

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError

SIGN_IN_ADVICE = (
    "Run `az login` where this server runs, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET for it."
)


@dataclass(frozen=True)
class AzureFault:
    """Azure's error body, flattened."""

    status: int
    code: str
    message: str
    codes: frozenset[str]
    """The code and those of its details, lower-case."""
    text: str
    """The message and those of its details."""
    retry_after: float | None = None


@dataclass(frozen=True)
class Row:
    error: type[DSVMError]
    sentence: str
    """What it means. ``{action}`` is the permission that Azure names."""
    advice: str
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    text: str = ""
    """A pattern that has to be in the text as well."""

    def fits(self, fault: AzureFault) -> bool:
        named = bool(self.codes & fault.codes) or fault.status in self.statuses
        return named and bool(re.search(self.text, fault.text, re.IGNORECASE))


def _row(
    error: type[DSVMError], codes: str, sentence: str, advice: str, *, statuses: tuple[int, ...] = (), text: str = ""
) -> Row:
    return Row(error, sentence, advice, frozenset(codes.lower().split()), frozenset(statuses), text)


TABLE = (
    _row(
        Throttled,
        "TooManyRequests SubscriptionRequestsThrottled RateLimiting",
        "Azure has had too many requests for this account or subscription.",
        "Wait before trying again.",
        statuses=(429,),
    ),
    _row(
        OperationRefused,
        "OperationNotAllowed QuotaExceeded",
        "This subscription may not use that family of sizes at all: its quota is 0.",
        "Free, trial and student subscriptions have no GPU quota. Request one in the Azure portal under Quotas, "
        "or use another size.",
        text=r"current limit: 0\b",
    ),
    _row(
        OperationRefused,
        "OperationNotAllowed QuotaExceeded",
        "The subscription's quota of cores is used up.",
        "Stop (deallocate) another VM of that family, or request more in the Azure portal under Quotas.",
        text=r"exceeding (approved|quota)|quota limits",
    ),
    _row(
        OperationRefused,
        "SkuNotAvailable",
        "The VM's size is not available there now, or not for this subscription.",
        "Choose another size or another region.",
    ),
    _row(
        OperationRefused,
        "AllocationFailed ZonalAllocationFailed OverconstrainedAllocationRequest OverconstrainedZonalAllocationRequest",
        "Azure has no capacity for this size there at the moment.",
        "Try again later, or choose another size. The VM's disk is kept, and nothing is billed for a VM that did not start.",
    ),
    _row(
        OperationRefused,
        "ReadOnlyDisabledSubscription DisabledSubscription SubscriptionDisabled",
        "The subscription is disabled, so nothing in it can be changed.",
        "Re-enable it in the Azure portal; a spending limit or an expired credit is the usual cause.",
    ),
    _row(
        OperationRefused,
        "RequestDisallowedByPolicy RequestDisallowedByAzure",
        "A policy of the organisation or of Azure forbids it.",
        "Ask whoever administers the subscription.",
    ),
    _row(
        OperationRefused,
        "ScopeLocked",
        "A lock on the VM or its resource group forbids it.",
        "Remove the lock in the Azure portal, or ask whoever set it.",
    ),
    _row(
        SignInRequired,
        "InvalidAuthenticationTokenTenant",
        "The sign-in is for another tenant than the subscription's.",
        "Sign in to the subscription's tenant: `az login --tenant TENANT`.",
    ),
    _row(SignInRequired, "", "Azure does not accept the sign-in, or it has expired.", SIGN_IN_ADVICE, statuses=(401,)),
    _row(
        Forbidden,
        "AuthorizationFailed LinkedAuthorizationFailed",
        "The account lacks the permission {action}.",
        "Ask for a role with that permission on the VM (Virtual Machine Contributor has those for starting and stopping), "
        "and activate it if it has to be activated first.",
    ),
    _row(Forbidden, "", "The account may not do that.", "Ask whoever administers the subscription.", statuses=(403,)),
    _row(
        ComputeError,
        "SubscriptionNotFound InvalidSubscriptionId",
        "The account's tenant has no such subscription.",
        "Sign in to the subscription's tenant: `az login --tenant TENANT`.",
    ),
    # By code only: a 404 without one is not Azure's word, and "unknown" ends what runs there.
    _row(
        UnknownCompute,
        "ResourceNotFound NotFound ResourceGroupNotFound",
        "It is not in Azure any more.",
        "Reload the list of computes.",
    ),
    _row(
        OperationRefused,
        "Conflict OperationPreempted AttachDiskWhileBeingDetached OperationNotAllowedOnVMBeingChanged AnotherOperationInProgress",
        "Another operation on this VM, started elsewhere, is under way or took its place.",
        "Wait until the VM's state is settled, then try again.",
    ),
    _row(
        ComputeError,
        "ServerTimeout InternalServerError InternalExecutionError GatewayTimeout",
        "Azure had a fault of its own.",
        "Try again in a few minutes; https://azure.status.microsoft lists known outages.",
        statuses=(500, 502, 503, 504),
    ),
    _row(OperationRefused, "", "", "", statuses=(409,)),
)


@contextmanager
def translated(what: str, endpoint: str) -> Iterator[None]:
    """Wrap a call of the Azure libraries: their exceptions leave it as ours.

    Args:
        what: What is tried, to follow "Could not": ``start gpu-vm``.
        endpoint: Where, for the message when nobody answers there.
    """
    # Imported already by whoever made the client that this call goes through.
    from azure.core.exceptions import AzureError, DeserializationError

    try:
        yield
    except (AzureError, DeserializationError) as error:
        raise translate(error, what, endpoint) from error


def translate(error: AzureError | ValueError, what: str, endpoint: str) -> DSVMError:
    """One exception of azure-core or azure-identity as one of ours; raises nothing."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        DecodeError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    tried = f"Could not {what}"
    if isinstance(error, HttpResponseError) and error.response is not None and not isinstance(error, DecodeError):
        if 300 <= (error.status_code or 0) < 400:
            return ComputeError(
                f"{tried}: {endpoint} answered with a redirect, which is not followed, since a token would go along.",
                advice="Check AzureCompute.arm_endpoint.",
                code="Redirected",
            )
        return from_fault(fault_of(error), tried)
    said = _shown(str(getattr(error, "message", "") or error))
    if isinstance(error, ClientAuthenticationError):
        return SignInRequired(f"{tried}: nobody is signed in to Azure here. {said}", advice=SIGN_IN_ADVICE)
    if isinstance(error, (ServiceRequestError, ServiceResponseError)):
        return ComputeError(
            f"{tried}: no answer from {endpoint}. {said}",
            advice="Check the network and the proxy settings of this server, then try again.",
            code="Unreachable",
        )
    return ComputeError(f"{tried}: {endpoint} answered something that is not Azure's. {said}", code="BadAnswer")


def from_fault(fault: AzureFault, tried: str) -> DSVMError:
    """By the table: ``tried`` starts the message ("Could not start gpu-vm")."""
    said = _shown(fault.message)
    row = next((row for row in TABLE if row.fits(fault)), None)
    if row is None or not row.sentence:
        kind: type[DSVMError] = row.error if row else ComputeError
        return kind(f"{tried}: Azure answered {fault.code}. {said}".strip(), code=fault.code)
    sentence = row.sentence.format(action=_action(fault.text))
    retry_after = fault.retry_after if row.error in {Throttled, ComputeError} else None
    if row.error is Throttled and retry_after is None:
        retry_after = 60.0
    message = f"{tried}. {sentence}" + (f" Azure said ({fault.code}): {said}" if said else f" ({fault.code})")
    return row.error(message, advice=row.advice, code=fault.code, retry_after=retry_after)


def fault_of(error: HttpResponseError) -> AzureFault:
    """Azure's body of an HTTP error, or of a long-running operation that failed (status 200, ``"status": "Failed"``)."""
    response: Any = error.response  # the caller has seen that there is one
    try:
        text = response.text()
    except Exception:  # a body that was not read, or is no text: the status alone then has to do
        text = ""
    fault = parse_fault(response.status_code, text, response.headers)
    if not fault.message:
        fault = AzureFault(
            fault.status, fault.code, str(error.message or ""), fault.codes, fault.text, fault.retry_after
        )
    return fault


def parse_fault(status: int, text: str, headers: Mapping[str, str]) -> AzureFault:
    """From what came over the wire; with and without the ``error`` envelope, both of which Azure sends."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    found = body.get("error", body) if isinstance(body, dict) else None
    root = found if isinstance(found, dict) else {}
    code = str(root.get("code") or f"HTTP{status}")
    parts = list(_walk(root))
    return AzureFault(
        status=status,
        code=code,
        message=str(root.get("message") or ("" if body is not None else text)),
        codes=frozenset(str(part["code"]).lower() for part in parts if part.get("code")) | {code.lower()},
        text="\n".join(str(part["message"]) for part in parts if part.get("message")),
        retry_after=_seconds(headers.get("Retry-After")) or _seconds(headers.get("x-ms-user-quota-resets-after")),
    )


def _walk(node: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """An error and its details, which nest; the depth is bounded since the other side sends it."""
    yield node
    details = node.get("details")
    if isinstance(details, list) and depth < 5:
        for detail in details:
            if isinstance(detail, dict):
                yield from _walk(detail, depth + 1)


def _seconds(value: str | None) -> float | None:
    """``Retry-After`` in seconds, or the graph's ``hh:mm:ss``; None for what is neither."""
    if not value or not re.fullmatch(r"\d{1,6}|\d\d:\d\d:\d\d", value.strip()):
        return None
    total = 0
    for part in value.strip().split(":"):
        total = total * 60 + int(part)
    return float(total)


def _shown(text: str, limit: int = 600) -> str:
    """The beginning of what Azure says, which names the matter; its end is addresses and tracking ids."""
    return printable(text if len(text) <= limit else text[:limit] + " …")


def _action(text: str) -> str:
    match = re.search(r"(?:perform action|permission\(s\)) '([^']+)'", text)
    return match.group(1) if match else "for it"
