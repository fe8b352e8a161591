"""Azure Resource Graph, as much of it as lists Data Science VMs.

There is no query engine here. Of a query about ``microsoft.compute/virtualmachines`` these are understood, and a query
about something else gets no rows:

- ``tostring(image.publisher) in~ ('a', 'b')`` or the same of ``plan`` and ``gallery``, and beside it
  ``tostring(tags) contains 'key'``: only rows with such a publisher, or with that text in their tags; without any of the two,
  all rows;
- the last ``project``: which columns come out, by the name left of ``=``. A column that is unknown here is null.

Rows are ordered by ``id``. ``$top`` and ``$skipToken`` page as the real one does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

from . import shapes
from .machines import TENANT_ID

if TYPE_CHECKING:
    from .records import Record

Json = dict[str, Any]

_VIRTUAL_MACHINES = re.compile(r"type\s*(=~|==)\s*['\"]microsoft\.compute/virtualmachines['\"]", re.IGNORECASE)
_PUBLISHERS = re.compile(r"publisher\)?\s+in~?\s*\(([^)]*)\)", re.IGNORECASE)
_TAG = re.compile(r"tostring\(tags\)\s+contains\s+'((?:[^'\\]|\\.)*)'")
_PROJECT = re.compile(r"\|\s*project\s+(.*?)(?=\||\Z)", re.IGNORECASE | re.DOTALL)
MOST_ROWS = 1000


class BadQuery(Exception):
    """The graph answers 400 with this message."""


def row(record: Record) -> Json:
    """Every column that can be asked for. The graph writes types and resource groups in lower case."""
    body = shapes.virtual_machine(record)
    properties = body["properties"]
    view: Json = {"hyperVGeneration": record.machine.generation}
    if record.machine.graph_power:
        view["powerState"] = {
            "code": f"PowerState/{record.power}",
            "displayStatus": f"VM {record.power}",
            "level": "Info",
        }
    properties["extended"] = {"instanceView": view}
    return {
        "id": record.id,
        "name": record.machine.name,
        "type": "microsoft.compute/virtualmachines",
        "tenantId": TENANT_ID,
        "kind": "",
        "location": record.machine.location,
        "resourceGroup": record.machine.resource_group.lower(),
        "subscriptionId": record.machine.subscription,
        "managedBy": "",
        "sku": None,
        "plan": body.get("plan"),
        "properties": properties,
        "tags": dict(record.machine.tags) or None,
        "identity": None,
        "zones": list(record.machine.zones) or None,
        "extendedLocation": None,
        # What queries commonly compute:
        "image": properties["storageProfile"]["imageReference"],
        "gallery": shapes.gallery_image(record)["properties"]["identifier"] if record.gallery_image_id else None,
        "purchasePlan": None,
        "vmId": record.vm_id,
        "osType": record.machine.os,
        "size": record.size,
        "vmSize": record.size,
        "powerState": f"PowerState/{record.power}" if record.machine.graph_power else "",
        "provisioningState": record.provisioning,
        "privateIp": record.host or "",
        "publicIp": record.public or "",
        "fqdn": "",
        "hibernation": "true" if record.machine.hibernation else "",
    }


def answer(body: Any, rows: list[Json]) -> Json:
    """The response to one POST. Raises ``BadQuery``."""
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise BadQuery("The request body has no query.")
    options = body.get("options") or {}
    if options.get("resultFormat", "objectArray") != "objectArray":
        raise BadQuery("Only resultFormat objectArray is known here.")
    query = body["query"]
    chosen = [r for r in rows if _fits(query, r)] if _VIRTUAL_MACHINES.search(query) else []
    subscriptions = [str(s).lower() for s in body.get("subscriptions") or ()]
    if subscriptions:
        chosen = [r for r in chosen if r["subscriptionId"].lower() in subscriptions]
    chosen.sort(key=lambda r: str(r["id"]).lower())
    columns = _columns(query)
    if columns is not None:
        chosen = [{name: r.get(name) for name in columns} for r in chosen]
    top, skip = int(options.get("$top", MOST_ROWS)), int(options.get("$skip", 0))
    if not 1 <= top <= MOST_ROWS:
        raise BadQuery(f"$top has to be between 1 and {MOST_ROWS}.")
    if options.get("$skipToken"):
        skip = _from_token(str(options["$skipToken"]))
    page = chosen[skip : skip + top]
    result: Json = {
        "totalRecords": len(chosen),
        "count": len(page),
        "data": page,
        "facets": [],
        "resultTruncated": "false",
    }
    if skip + top < len(chosen):
        result["$skipToken"] = base64.urlsafe_b64encode(str(skip + top).encode()).decode()
    return result


def _fits(query: str, candidate: Json) -> bool:
    publishers = [
        p.lower() for clause in _PUBLISHERS.findall(query) for p in re.findall(r"['\"]([^'\"]*)['\"]", clause)
    ]
    keys = [re.sub(r"\\(.)", r"\1", key) for key in _TAG.findall(query)]
    if not publishers and not keys:
        return True
    tags = json.dumps(candidate["tags"] or {}, ensure_ascii=False).lower()
    named = [str((candidate[part] or {}).get("publisher", "")).lower() for part in ("image", "plan", "gallery")]
    return any(name in publishers for name in named) or any(k.lower() in tags for k in keys)


def _columns(query: str) -> list[str] | None:
    projections = _PROJECT.findall(query)
    if not projections:
        return None
    # A comma inside parentheses or brackets separates arguments, not columns.
    flat = re.sub(r"\([^()]*\)|\[[^\]]*\]", "", re.sub(r"\([^()]*\)|\[[^\]]*\]", "", projections[-1]))
    return [part.partition("=")[0].strip() for part in flat.split(",") if part.strip()]


def _from_token(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error):
        raise BadQuery("The $skipToken is none that was given out.") from None
