"""Azure's error bodies, read: what came over the wire becomes an ``AzureFault`` and the facts that are in its text.

Called by ``errors``, which has a sentence for each, and by ``refusals``, which looks for what would work instead. Pure;
nothing here trusts the other side: depth and length are bounded, and a link counts only if it is Microsoft's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import printable

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

DEEPEST = 5
"""How far details, which nest, are looked into."""

LONGEST_LINK = 1500
LONGEST_CODE = 100


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
    target: str = ""
    details: tuple[str, ...] = ()
    """The messages of the details alone."""


@dataclass(frozen=True)
class Quota:
    """What a refusal for want of quota says. Counts are cores."""

    family: str
    """Azure's name of the quota: a family of sizes, ``Total Regional Cores``, or ``LowPriorityCores``."""
    limit: int
    used: int
    needed: int
    location: str = ""
    new_limit: int | None = None
    link: str = ""
    """Where to ask for more; empty where Azure named no page of Microsoft's."""


def fault_of(error: HttpResponseError) -> AzureFault:
    """Azure's body of an HTTP error, or of a long-running operation that failed (status 200, ``"status": "Failed"``)."""
    response: Any = error.response  # the caller has seen that there is one
    try:
        text = response.text()
    except Exception:  # a body that was not read, or is no text: the status alone then has to do
        text = ""
    fault = parse_fault(response.status_code, text, response.headers)
    if not fault.message:
        # As when an operation failed without saying why: azure-core's own words.
        said = str(error.message or "")
        fault = replace(fault, message=said, text=fault.text or said)
    return fault


def parse_fault(status: int, text: str, headers: Mapping[str, str]) -> AzureFault:
    """From what came over the wire; with and without the ``error`` envelope, both of which Azure sends."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    found = body.get("error", body) if isinstance(body, dict) else None
    root = found if isinstance(found, dict) else {}
    code = printable(str(root.get("code") or f"HTTP{status}"), LONGEST_CODE)
    parts = list(_walk(root))
    # Continuous access evaluation says in a header that a new sign-in with certain claims is needed.
    claims = {"claimschallenge"} if status == 401 and "claims=" in (headers.get("WWW-Authenticate") or "") else set()
    return AzureFault(
        status=status,
        code=code,
        message=str(root.get("message") or ("" if body is not None else text)),
        codes=frozenset(str(part["code"]).lower() for part in parts if part.get("code")) | {code.lower()} | claims,
        text="\n".join(str(part["message"]) for part in parts if part.get("message")),
        retry_after=seconds(headers.get("Retry-After")) or seconds(headers.get("x-ms-user-quota-resets-after")),
        details=tuple(str(part["message"]) for part in parts[1:] if part.get("message")),
        target=next((str(part["target"]) for part in parts if part.get("target")), ""),
    )


def _walk(node: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """An error, its details and its inner error; a message may itself be an error in JSON, as the marketplace's are."""
    yield node
    if depth >= DEEPEST:
        return
    details = node.get("details")
    inner = [*(details if isinstance(details, list) else ()), node.get("innererror"), _within(node.get("message"))]
    for part in inner:
        if isinstance(part, dict):
            yield from _walk(part, depth + 1)


def _within(message: Any) -> dict[str, Any] | None:
    if not isinstance(message, str) or not message.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return None
    inner = found.get("error", found) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else None


def seconds(value: str | None) -> float | None:
    """``Retry-After`` in seconds, or the graph's ``hh:mm:ss``; None for what is neither."""
    if not value or not re.fullmatch(r"\d{1,6}|\d\d:\d\d:\d\d", value.strip(), re.ASCII):
        return None
    total = 0
    for part in value.strip().split(":"):
        total = total * 60 + int(part)
    return float(total)


# -- facts in a text --------------------------------------------------------------------------------------------------

_APPROVED = re.compile(r"exceeding approved (?P<family>[^\n]{1,120}?) quota\b", re.IGNORECASE)
_LIMITS = re.compile(r"exceeding quota limits of (?P<family>[\w .-]{1,120}?)\.", re.IGNORECASE)
_COUNT = r"\s*:\s*(\d{1,9})\b"
_LIMIT = re.compile(r"(?:current limit|maximum allowed)" + _COUNT, re.IGNORECASE)
_USED = re.compile(r"(?:current usage|current in use)" + _COUNT, re.IGNORECASE)
_NEEDED = re.compile(r"additional (?:required|requested)" + _COUNT, re.IGNORECASE)
_NEW_LIMIT = re.compile(r"new limit required" + _COUNT, re.IGNORECASE)
_LOCATION = re.compile(r"\blocation: ([\w-]{1,60})", re.IGNORECASE)
_LINK = re.compile(r"https?://[^\s'\"<>]+")
_OURS = re.compile(r"(?:aka\.ms|(?:[\w-]+\.)*(?:azure|microsoft)\.com)", re.IGNORECASE)


def quota_of(text: str) -> Quota | None:
    """The quota that a refusal is about; None if it is about none, or does not say how much."""
    family = _APPROVED.search(text) or _LIMITS.search(text)
    limit, used, needed = (pattern.search(text) for pattern in (_LIMIT, _USED, _NEEDED))
    if not (family and limit and used and needed):
        return None
    location, new_limit = _LOCATION.search(text), _NEW_LIMIT.search(text)
    return Quota(
        family=family["family"].strip(),
        limit=int(limit[1]),
        used=int(used[1]),
        needed=int(needed[1]),
        location=location[1] if location else "",
        new_limit=int(new_limit[1]) if new_limit else None,
        link=link_in(text[max(0, text.lower().find("quota increase")) :]),
    )


def link_in(text: str) -> str:
    """The first page of Microsoft's that is named there; empty if there is none. People are sent to no other."""
    for match in _LINK.finditer(text):
        link = match[0].rstrip(".,;)")
        try:
            host = urlsplit(link).hostname or ""
        except ValueError:
            continue
        if _OURS.fullmatch(host) and len(link) <= LONGEST_LINK and link.isprintable():
            return link.replace("http://", "https://", 1)
    return ""


def action_of(text: str) -> str:
    """The permission that is missing; empty if Azure names none."""
    linked = re.search(r"does not have permission to perform action\(?s?\)? '([^'\n]{1,200})'", text)
    plain = linked or re.search(r"(?:perform action|permission\(s\)) '([^'\n]{1,200})'", text)
    return plain[1] if plain else ""


def scope_of(text: str) -> str:
    """Where it is missing: a resource id, or empty."""
    match = re.search(r"over scope '([^'\n]{1,500})'", text)
    return match[1] if match else ""


_ROLES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), role)
    for pattern, role in (
        (r".*/read$", "Reader"),
        (r"microsoft\.authorization/.*", "User Access Administrator"),
        (r"microsoft\.network/.*", "Network Contributor"),
        (r"microsoft\.compute/(virtualmachines|disks)/.*", "Virtual Machine Contributor"),
        (r"microsoft\.devtestlab/schedules/.*", "Virtual Machine Contributor"),
    )
)


def role_for(action: str) -> str:
    """The smallest of Azure's built-in roles that has this permission (https://learn.microsoft.com/azure/role-based-access-control/built-in-roles)."""
    return next((role for pattern, role in _ROLES if pattern.fullmatch(action)), "Contributor")


@dataclass(frozen=True)
class Throttling:
    """What the compute service says of a throttled request, in the JSON that is its detail's message."""

    group: str
    allowed: int
    measured: int


def throttling_of(text: str) -> Throttling | None:
    for line in text.splitlines():
        try:
            found = json.loads(line)
            return Throttling(
                printable(str(found["operationGroup"]), 60),
                int(found["allowedRequestCount"]),
                int(found["measuredRequestCount"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            continue
    return None
