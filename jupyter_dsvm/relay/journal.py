"""What has been sent and not yet acknowledged: append, replay, trim. In memory.

A ``Journal`` numbers what it is given from 1 and keeps it until ``trim``. It also counts bytes of bodies from the very
first, since that is what credit is counted in: a frame's place in that count is the same each time it is sent.

A journal never drops anything. Where memory is to be bounded, ``OutputLimit`` stands in front of it and leaves out
whole outputs of a cell, nothing else, and what it left out becomes an OMITTED frame in the same place of the sequence,
so that the cell itself can say so.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .wire import Buffer

OUTPUT_TYPES = frozenset({"stream", "display_data", "update_display_data", "execute_result"})
"""IOPub messages that may be left out. A status, an error, a reply or a comm message never is: something waits for it."""

MAX_OMITTED_PARENTS = 256


class Entry(NamedTuple):
    type: int
    body: Buffer
    end: int
    """Bytes of all bodies up to and with this one, counted from the first frame."""


class Journal:
    def __init__(self) -> None:
        self._entries: Dict[int, Entry] = {}
        self.first = 1
        """The lowest number that is still kept (one more than ``last`` when nothing is)."""
        self.last = 0
        """The number given to the newest entry."""
        self.size = 0
        """Bytes of the bodies that are kept."""
        self._end = 0

    def append(self, type: int, body: Buffer) -> int:
        """Keep a frame and give it the next number."""
        self.last += 1
        self._end += len(body)
        self.size += len(body)
        self._entries[self.last] = Entry(type, body, self._end)
        return self.last

    def get(self, seq: int) -> Optional[Entry]:
        """The frame with that number; None if it was trimmed or not yet given."""
        return self._entries.get(seq)

    def trim(self, upto: int) -> None:
        """Forget everything up to and with ``upto``, which the other end has acknowledged."""
        for seq in range(self.first, min(upto, self.last) + 1):
            self.size -= len(self._entries.pop(seq).body)
        self.first = max(self.first, min(upto, self.last) + 1)

    def __len__(self) -> int:
        return len(self._entries)


Taken = Union[Sequence[Buffer], Dict[str, Any]]
"""A message to be sent as it is, or the body of an OMITTED frame."""


class OutputLimit:
    """Decides, message by message, whether an IOPub message still fits. Pure; the relay asks before it appends.

    What is left out is counted per request, and told in one OMITTED body for each: before that request's next idle
    status, or before whatever comes next once there is room again.
    """

    def __init__(self, cap: int) -> None:
        """``cap``: bytes that the journal may hold before outputs are left out; 0 for no limit."""
        self.cap = cap
        self._omitted: Dict[str, Dict[str, Any]] = {}

    def take(self, parts: Sequence[Buffer], kept: int) -> List[Taken]:
        """What is to be sent for this message, in order, when the journal holds ``kept`` bytes."""
        full = bool(self.cap) and kept + sum(len(p) for p in parts) > self.cap
        if not full:
            return [*self.flush(), parts] if self._omitted else [parts]
        kind, parent, content = _look(parts)
        if kind in OUTPUT_TYPES:
            self._count(parent, sum(len(p) for p in parts))
            return []
        parent_id = parent.get("msg_id", "")
        if kind == "status" and b'"idle"' in bytes(content) and parent_id in self._omitted:
            return [self._omitted.pop(parent_id), parts]
        return [parts]

    def flush(self) -> List[Taken]:
        """The OMITTED bodies of everything not told yet."""
        told: List[Taken] = list(self._omitted.values())
        self._omitted.clear()
        return told

    def _count(self, parent: Dict[str, Any], size: int) -> None:
        parent_id = parent.get("msg_id", "")
        if parent_id not in self._omitted and len(self._omitted) >= MAX_OMITTED_PARENTS:
            parent, parent_id = {}, ""
        entry = self._omitted.setdefault(parent_id, {"parent_header": parent, "messages": 0, "bytes": 0})
        entry["messages"] += 1
        entry["bytes"] += size


def _look(parts: Sequence[Buffer]) -> Tuple[str, Dict[str, Any], Buffer]:
    """Type, parent header and content of a message as it came from a kernel; the type is empty if it is no message."""
    try:
        start = [bytes(p) for p in parts[:8]].index(b"<IDS|MSG>")
        header, parent, content = (
            json.loads(bytes(parts[start + 2])),
            json.loads(bytes(parts[start + 3])),
            parts[start + 5],
        )
        return str(header["msg_type"]), dict(parent), content
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return "", {}, b""
