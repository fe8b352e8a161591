"""What a hub's broker says, as our shapes: JSON of its REST API in, ``models`` and ``errors`` out. Pure.

The broker is trusted, and may be of another version: what is missing is not known, what is more is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import errors
from ..errors import Cancelled, ComputeError, DSVMError, OperationRefused, UnknownCompute
from ..models import (
    OS,
    Compute,
    ComputeKind,
    Operation,
    OperationState,
    PowerState,
    Price,
    Problem,
    Size,
    SizeOffer,
    Step,
    StepState,
)
from .provider import IdleRule

PREFIX = "hub:"

LONGEST_IDLE_MINUTES = 366 * 24 * 60.0

CLASSES: dict[str, type[DSVMError]] = {
    cls.code: cls
    for cls in (
        errors.UnknownCompute,
        errors.SignInRequired,
        errors.Forbidden,
        errors.Throttled,
        errors.ComputeNotRunning,
        errors.NotAllowed,
        errors.BadRequest,
        errors.NotFound,
    )
}
BY_STATUS: dict[int, type[DSVMError]] = {
    400: errors.BadRequest,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.OperationRefused,
    429: errors.Throttled,
}


def error_of(data: Mapping[str, Any], status: int) -> DSVMError:
    """The broker's own error. Raises ``ValueError`` for what is none."""
    problem = problem_of(data)
    if problem is None:
        raise ValueError("that is no error of the broker's")
    if problem.code == errors.RefusedByPolicy.code:
        return errors.RefusedByPolicy(problem.message, advice=problem.advice)
    cls = CLASSES.get(problem.code) or BY_STATUS.get(status, ComputeError)
    if status == 404 and cls is errors.NotFound and problem.code != "UnknownOperation":
        cls = UnknownCompute
    return cls(problem.message, advice=problem.advice, code=problem.code, retry_after=problem.retry_after)


def ended(operation: Operation) -> DSVMError:
    problem = operation.error or Problem("Unknown", "It has failed.")
    if operation.state is OperationState.CANCELLED:
        return Cancelled(problem.message, advice=problem.advice)
    if problem.code == errors.RefusedByPolicy.code:
        return errors.RefusedByPolicy(problem.message, advice=problem.advice)
    cls = CLASSES.get(problem.code, OperationRefused)
    return cls(problem.message, advice=problem.advice, code=problem.code, retry_after=problem.retry_after)


def compute_of(row: Mapping[str, Any]) -> Compute:
    """Raises ``ComputeError`` for what is no row of a VM."""
    compute_id, name = text_of(row.get("id")), text_of(row.get("name"))
    if compute_id is None or name is None or not compute_id.startswith(PREFIX):
        raise ComputeError("The hub's broker has sent something that is no VM.", code="Broker")
    size, price = row.get("size"), row.get("price")
    not_allowed, word = row.get("not_allowed"), row.get("unchanged_since")
    return Compute(
        id=compute_id,
        name=name,
        kind=ComputeKind.DSVM,
        power_state=PowerState.from_azure(text_of(row.get("power_state"))),
        os=OS.WINDOWS if row.get("os") == "windows" else OS.LINUX,
        location=text_of(row.get("location")),
        image=text_of(row.get("image")),
        size=_size(size) if isinstance(size, dict) else None,
        price=_price(price) if isinstance(price, dict) else None,
        hibernated=row.get("hibernated") is True,
        problem=problem_of(row.get("problem")),
        not_allowed=tuple(str(one) for one in not_allowed) if isinstance(not_allowed, list) else (),
        unchanged_since=float(word) if isinstance(word, (int, float)) and not isinstance(word, bool) else None,
    )


def operation_of(data: Mapping[str, Any]) -> Operation:
    try:
        steps = tuple(Step(str(s["name"]), str(s["text"]), StepState(s["state"])) for s in data.get("steps") or ())
        return Operation(
            id=str(data["id"]),
            kind=str(data["kind"]),
            compute=text_of(data.get("compute")),
            kernel=None,
            state=OperationState(data["state"]),
            steps=steps,
            error=problem_of(data.get("error")),
            notice=text_of(data.get("notice")) or "",
        )
    except (KeyError, TypeError, ValueError):
        raise ComputeError("The hub's broker has sent something that is no operation.", code="Broker") from None


def problem_of(data: Any) -> Problem | None:
    if not isinstance(data, dict) or not isinstance(data.get("code"), str) or not isinstance(data.get("message"), str):
        return None
    after = data.get("retry_after")
    return Problem(
        data["code"],
        data["message"],
        text_of(data.get("advice")) or "",
        after if isinstance(after, (int, float)) else None,
    )


def _size(data: Mapping[str, Any]) -> Size:
    def number(key: str) -> Any:
        value = data.get(key)
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    model = text_of(data.get("gpu_model"))
    return Size(text_of(data.get("name")) or "unknown", number("vcpus"), number("memory_gib"), number("gpus"), model)


def _price(data: Mapping[str, Any]) -> Price | None:
    amount, currency = data.get("amount"), text_of(data.get("currency"))
    if not isinstance(amount, (int, float)) or currency is None:
        return None
    return Price(float(amount), currency, text_of(data.get("as_of")) or "")


def offer_of(data: Mapping[str, Any]) -> SizeOffer | None:
    size, price = data.get("size"), data.get("price")
    if not isinstance(size, dict):
        return None
    warnings = data.get("warnings")
    return SizeOffer(
        _size(size),
        _price(price) if isinstance(price, dict) else None,
        data.get("current") is True,
        data.get("available") is not False,
        text_of(data.get("reason")) or "",
        tuple(str(w) for w in warnings) if isinstance(warnings, list) else (),
    )


def rows_of(body: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = body.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def text_of(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def rule_of(minutes: Any) -> IdleRule:
    """Of the answer to a list. A broker that says none, or none that could be meant, has none."""
    known = isinstance(minutes, (int, float)) and not isinstance(minutes, bool) and 0 < minutes <= LONGEST_IDLE_MINUTES
    return IdleRule(float(minutes) if known else None)
