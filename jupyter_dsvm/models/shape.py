"""What all shapes share: JSON out, and how a moment is written."""

from __future__ import annotations

import dataclasses
import enum
import time
from datetime import datetime, timezone
from typing import Any


class Shape:
    """What all of them can do."""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _plain(self)
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.metadata.get("json", True)
        }
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def utc_now() -> str:
    """Now, as every moment in a shape is written."""
    return utc_at(time.time())


def utc_at(moment: float) -> str:
    """That moment (seconds since 1970) as it is written in a shape."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
