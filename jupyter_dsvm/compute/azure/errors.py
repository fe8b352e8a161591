"""What Azure says when it refuses, as our errors, by ``refusal_table.TABLE``.

``translate`` is called with every exception that the Azure libraries raise. A code that no row knows keeps Azure's own
code and message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import (
    ComputeError,
    DSVMError,
    MissingResource,
    SignInRequired,
    Throttled,
    UnknownCompute,
    printable,
)
from .aadsts import SIGN_IN_ADVICE
from .faults import (
    AzureFault,
    action_of,
    fault_of,
    parse_fault,
    quota_of,
    role_for,
    scope_of,
    throttling_of,
)
from .refusal_table import TABLE

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

__all__ = ["SIGN_IN_ADVICE", "TABLE", "AzureFault", "fault_of", "from_fault", "parse_fault", "translate", "translated"]

NOT_THERE = (UnknownCompute, MissingResource)
"""What a request for any kind of resource ends with when Azure says that there is none."""

LONGEST_TEXT = 8000
"""Characters of Azure's text that are looked into."""

QUOTA_PAGE = "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"


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
    said = _shown(_said(fault))
    row = next((row for row in TABLE if row.fits(fault)), None)
    if row is None or not row.sentence:
        kind: type[DSVMError] = row.error if row else ComputeError
        return kind(f"{tried}: Azure answered {fault.code}. {said}".strip(), code=fault.code)
    retry_after = fault.retry_after if row.error in {Throttled, ComputeError} else None
    if row.error is Throttled and retry_after is None:
        retry_after = 60.0
    known = facts(fault, retry_after)
    message = f"{tried}. {row.sentence.format(**known)}" + (
        f" Azure said ({fault.code}): {said}" if said else f" ({fault.code})"
    )
    return row.error(message, advice=row.advice.format(**known), code=fault.code, retry_after=retry_after)


def _said(fault: AzureFault) -> str:
    """The message and those of its details, which hold the reason where the message says "see inner errors"."""
    # A detail in JSON is for programs; what is in it was taken out before.
    return " ".join(dict.fromkeys([fault.message, *(d for d in fault.details if not d.lstrip().startswith("{"))]))


def _shown(text: str, limit: int = 600) -> str:
    """The beginning of what Azure says, which names the matter; its end is addresses and tracking ids."""
    return printable(text if len(text) <= limit else text[:limit] + " …")


def facts(fault: AzureFault, retry_after: float | None) -> dict[str, str]:
    """What a row's sentence and advice may name. Every value is safe to show and reads well where it stands."""
    text = printable(fault.text, LONGEST_TEXT)
    quota, throttling = quota_of(text), throttling_of(text)
    action, scope = action_of(text), scope_of(text)
    namespace = re.search(r"namespace '([\w.]{1,80})'", text)
    named = {
        "action": action or "for it",
        "role": role_for(action) if action else "with that permission",
        "where": f"{_last(scope)} or on what it is in" if scope else "the VM or its resource group",
        "wait": duration(retry_after or 60.0),
        "measured": f" ({throttling.measured} of {throttling.allowed} for {throttling.group})" if throttling else "",
        "of_family": "",
        "counts": "",
        "new_limit": "",
        "quota_link": QUOTA_PAGE,
        "namespace": f" ({namespace[1]})" if namespace else "",
        "provider": namespace[1] if namespace else "Microsoft.Compute",
    }
    if quota is not None:
        there = f" in {quota.location}" if quota.location else ""
        named["of_family"] = f" ({quota.family}{there})"
        named["counts"] = f": {quota.used} of {quota.limit} are in use, {quota.needed} more are needed"
        named["new_limit"] = f" (a limit of {quota.new_limit or quota.used + quota.needed}{there})"
        named["quota_link"] = quota.link or QUOTA_PAGE
    return named


def _last(scope: str) -> str:
    """What people call the place: the VM's, the group's or the subscription's own name."""
    return scope.rstrip("/").rpartition("/")[2] or "the subscription"


def duration(seconds: float) -> str:
    """``50 s``, ``20 min``, ``2 h``: rounded up, since it says how long to wait."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"
