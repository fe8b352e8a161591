"""What has been sent and not yet acknowledged: append, replay, trim. In memory, and beyond that on disk.

A ``Journal`` numbers what it is given from 1 and keeps it until ``trim``. It also counts bytes of bodies from the very
first, since that is what credit is counted in: a frame's place in that count is the same each time it is sent.

The newest frames are in memory, since those are what an attached server is sent; the oldest go to disk (``segments``) when
memory is used up, or when nothing happens any more (``rest``). What the disk does not take (it is full, the folder is
gone) stays in memory, and the disk is tried again a while later.

A journal never drops anything. Where it is to be bounded, ``OutputLimit`` stands in front of it and leaves out
whole outputs of a cell, nothing else, and what it left out becomes an OMITTED frame in the same place of the sequence,
so that the cell itself can say so.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .segments import FLOOR, Entry, Segments
from .wire import Buffer

log = logging.getLogger("relay")

OUTPUT_TYPES = frozenset({"stream", "display_data", "update_display_data", "execute_result"})
"""IOPub messages that may be left out. A status, an error, a reply or a comm message never is: something waits for it."""

MAX_OMITTED_PARENTS = 256


MEMORY = 32 * 1024 * 1024
"""Bytes that a journal with a folder keeps in memory: what is under way to a server that takes it, and a flood of small
outputs (20,000 of them are 25 MB), never see the disk."""

RESTING = 1024 * 1024
"""Bytes that it keeps there once nothing happens any more."""

MEMORY_ALONE = 64 * 1024 * 1024
"""Bytes that it may keep in memory while the disk takes nothing."""

BLOCK = 1024 * 1024
"""Bytes that go to disk at once."""

OVERHEAD = 250
"""Bytes of memory that a frame takes besides its body."""

RETRY = 10.0
"""Seconds until a disk that took nothing is tried again."""


class JournalError(Exception):
    """The disk does not give back what it took."""


class Journal:
    def __init__(
        self,
        folder: Optional[str] = None,
        *,
        memory: int = MEMORY,
        memory_alone: int = MEMORY_ALONE,
        floor: int = FLOOR,
        after: int = 0,
        before: int = 0,
    ) -> None:
        """Without ``folder``, which is private, everything stays in memory, whatever that takes. ``floor`` is ``segments``'.

        The first number given is the one after ``after``; ``before``: bytes of the bodies up to there.
        """
        self._entries: Dict[int, Entry] = {}  # the newest; those before them are on disk
        self._in_memory = 0
        self._memory = memory
        self._memory_alone = memory_alone
        self._disk = Segments(folder, floor) if folder is not None else None
        self._retry_at: Optional[float] = None
        self.first = after + 1
        """The lowest number that is still kept (one more than ``last`` when nothing is)."""
        self.last = after
        """The number given to the newest entry."""
        self.before = before
        """Bytes of all bodies that came before ``first``."""
        self._end = before

    @property
    def size(self) -> int:
        """Bytes of the bodies that are kept."""
        return self._end - self.before

    @property
    def on_disk(self) -> int:
        """Bytes that the disk holds for it."""
        return self._disk.size if self._disk is not None else 0

    def capacity(self, limit: int) -> int:
        """How many bytes it should hold at most: ``limit``, or less while the disk takes nothing. 0 stands for no limit."""
        if self._refused:
            self._move_to_disk(self._memory)
        if not self._refused:
            return limit
        alone = self.on_disk + self._memory_alone
        return min(limit, alone) if limit else alone

    def append(self, type: int, body: Buffer) -> int:
        """Keep a frame and give it the next number."""
        self.last += 1
        self._end += len(body)
        self._entries[self.last] = Entry(type, body, self._end)
        self._in_memory += len(body) + OVERHEAD
        if self._in_memory > self._memory and self._disk is not None:
            self._move_to_disk(self._memory)
        return self.last

    def get(self, seq: int) -> Optional[Entry]:
        """The frame with that number; None if it was trimmed or not yet given.

        ``JournalError`` where the disk does not give back what it took: then this journal cannot be replayed any more.
        """
        entry = self._entries.get(seq)
        if entry is None and self._disk is not None and self.first <= seq <= self._disk.last:
            try:
                return self._disk.get(seq)
            except OSError as e:
                raise JournalError(f"what the kernel has put out cannot be read back from the disk: {e}") from e
        return entry

    def trim(self, upto: int) -> None:
        """Forget everything up to and with ``upto``, which the other end has acknowledged."""
        upto = min(upto, self.last)
        if upto < self.first:
            return
        on_disk = self._disk.last if self._disk is not None else 0
        if self._disk is not None and on_disk >= self.first:
            self.before = self._disk.trim(min(upto, on_disk))
        for seq in range(max(self.first, on_disk + 1), upto + 1):
            entry = self._entries.pop(seq)
            self._in_memory -= len(entry.body) + OVERHEAD
            self.before = entry.end
        self.first = upto + 1

    def rest(self) -> None:
        """Take little memory: nothing has come or gone for a while, and what is kept may be kept for days."""
        if self._disk is not None:
            self._move_to_disk(RESTING)

    def close(self) -> None:
        """Give back what lies on disk. Nothing is asked of it afterwards."""
        if self._disk is not None:
            self._disk.close()

    def __len__(self) -> int:
        return self.last - self.first + 1

    @property
    def _refused(self) -> bool:
        """Whether the disk took nothing when it was last tried."""
        return self._retry_at is not None

    def _move_to_disk(self, keep: int) -> None:
        """Move the oldest frames out of memory, a block at a time, until no more than ``keep`` bytes are in it."""
        assert self._disk is not None
        if self._retry_at is not None and time.monotonic() < self._retry_at:
            return
        try:
            while self._in_memory > keep:
                first = max(self.first, self._disk.last + 1)
                size = 0
                moved: List[Entry] = []
                while first + len(moved) <= self.last and size < BLOCK:
                    moved.append(self._entries[first + len(moved)])
                    size += len(moved[-1].body) + OVERHEAD
                self._disk.add(first, moved)
                for seq in range(first, first + len(moved)):
                    del self._entries[seq]
                self._in_memory -= size
            self._retry_at = None
        except OSError as e:
            if not self._refused:
                log.warning("what is not acknowledged stays in memory, since the disk does not take it: %s", e)
            self._retry_at = time.monotonic() + RETRY


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
        full = bool(self.cap) and kept + sum(map(len, parts)) > self.cap
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

    def leave_out(self, parts: Sequence[Buffer]) -> None:
        """This message cannot be sent at all, however much room there is."""
        self._count(_look(parts)[1], sum(map(len, parts)))

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
