"""Which cells a kernel was given and has not answered. Pure; one per relay, which looks at the headers of the shell channel for it.

A kernel that never answers counts as busy until it ends: nobody knows what it does.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

DELIMITER = b"<IDS|MSG>"
LONGEST_HEADER = 64 * 1024
MOST = 100_000
"""More than a proxy ever sends at once, which is one."""


class Executing:
    def __init__(self) -> None:
        self._headers: Dict[str, bytes] = {}
        """By their ids, in the order in which they came."""

    @property
    def busy(self) -> bool:
        return bool(self._headers)

    @property
    def first(self) -> Optional[Tuple[str, Dict[str, Any]]]:
        """Id and header of the request that runs now: kernels answer them in their order. None where none does."""
        for msg_id, header in self._headers.items():
            return msg_id, _json(header)
        return None

    def asked(self, parts: Sequence[Any]) -> None:
        """A message to the kernel's shell channel."""
        headers = _headers(parts)
        # Cheap, for messages with large buffers go the same way.
        if headers is None or b"execute_request" not in headers[0] or len(self._headers) >= MOST:
            return
        header = _json(headers[0])
        if header.get("msg_type") == "execute_request":
            self._headers[str(header.get("msg_id"))] = headers[0]

    def answered(self, parts: Sequence[Any]) -> None:
        """A message from it."""
        if not self._headers:
            return
        headers = _headers(parts)
        if headers is not None and _json(headers[0]).get("msg_type") == "execute_reply":
            self._headers.pop(str(_json(headers[1]).get("msg_id")), None)

    def reset(self) -> None:
        """The kernel has ended, or what it was to run is not for its next run."""
        self._headers.clear()


def _headers(parts: Sequence[Any]) -> Optional[List[bytes]]:
    """Header and parent header, which come after the addresses, the delimiter and the signature."""
    for index, part in enumerate(parts[:8]):
        if len(part) == len(DELIMITER) and bytes(part) == DELIMITER:
            found = parts[index + 2 : index + 4]
            if len(found) == 2 and all(len(one) <= LONGEST_HEADER for one in found):
                return [bytes(one) for one in found]
            return None
    return None


def _json(text: bytes) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
