"""Why a deployment was refused or has failed: what is inside Azure's "at least one operation failed", as our errors.

Called by ``create``. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import DSVMError, OperationRefused
from .errors import NOT_THERE, fault_of, from_fault
from .faults import parse_fault
from .refusals import NO_ROOM

_WRAPPERS = frozenset(
    {"deploymentfailed", "invalidtemplatedeployment", "resourcedeploymentfailure", "multipleerrorsoccurred"}
)
"""Codes that only say that something inside has failed."""

DEEPEST = 6


def failure(error: Mapping[str, Any], tried: str) -> DSVMError:
    """What a deployment failed of; ``tried`` begins the message ("Could not make new-vm")."""
    fault = parse_fault(409, json.dumps({"error": innermost(error)}), {})
    return _advised(from_fault(fault, tried))


def explained(error: DSVMError, tried: str) -> DSVMError:
    """The same for a request that was refused with what is inside: validation, or the deployment's own PUT."""
    cause: Any = error.__cause__
    if getattr(cause, "response", None) is None:
        return error
    if fault_of(cause).code.lower() not in _WRAPPERS:
        return _advised(error)
    try:
        body = json.loads(cause.response.text())
    except (ValueError, AttributeError):
        return error
    found = failure(body.get("error", body) if isinstance(body, dict) else {}, tried)
    found.__cause__ = cause
    return found


def _advised(error: DSVMError) -> DSVMError:
    if error.code.lower() in NO_ROOM and error.code.lower() != "quotaexceeded":
        # The table's words are about a VM that is there already.
        error.advice = "Try again later, or choose another size or another region."
    if isinstance(error, NOT_THERE):
        # Something that the VM needs is not there; it is not the VM that is unknown.
        return OperationRefused(
            error.message, advice="Check the image and the subnet in the configuration.", code=error.code
        )
    return error


def innermost(error: Mapping[str, Any], depth: int = 0) -> Mapping[str, Any]:
    """The error inside a deployment's, which may be JSON in a message; the first of several."""
    if depth > DEEPEST:
        return error
    details = error.get("details")
    inside = next((d for d in details if isinstance(d, Mapping)), None) if isinstance(details, list) else None
    if inside is None and isinstance(error.get("message"), str) and str(error["message"]).lstrip().startswith("{"):
        try:
            found = json.loads(str(error["message"]))
        except ValueError:
            found = None
        inside = found.get("error", found) if isinstance(found, dict) else None
    wraps = str(error.get("code") or "").lower() in _WRAPPERS or str(error.get("message") or "").lstrip().startswith(
        "{"
    )
    if not wraps or not isinstance(inside, Mapping):
        return error
    return innermost(inside, depth + 1)
