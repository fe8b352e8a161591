"""The stream in which variables travel from one kernel to another, or into a file and out of it. Pure: bytes in, bytes out.

A stream is a row of frames. Each has a head of 24 bytes: its kind, whether its payload is deflated, how long the payload is here
and how long it is inflated, a checksum of it, the frame's number in the stream, and a checksum of all that. So a byte that was
changed, a frame that is missing and a stream that ends early are errors, and never something else than what was sent::

    HEAD {"version", "python", "names", "bytes"}
    IMPORTS [{"name", "module", "attribute"}, …]
    ITEM {"names", "bytes"}            names that share objects, or a single one
      PICKLE …                         the pickle of their values, in pieces
      PART {"ticket", "size", …}       memory that the pickle speaks of, such as an array's: DATA frames until it is complete
        DATA …
    END {"bytes"}                      of that item; or ABANDON {"reason"}: it could not be pickled to its end
    …
    DONE {}

Where there is a way back (a socket, not a file), the receiver says after DONE what it could not load together and would have name
by name, and the sender goes on with that::

    WANTED ["name", …]                 from the receiver
    ITEM … END … DONE                  from the sender
    RESULT {"received", "failed"}      from the receiver: all is said

``Order`` is that grammar as a table.
"""

from __future__ import annotations

import enum
import json
import struct
import zlib
from typing import Any, Callable, ClassVar, Dict, FrozenSet, NamedTuple, Tuple

VERSION = 1
MAX_PAYLOAD = 1024 * 1024
"""Bytes of a frame, as they travel and inflated."""
MAX_JSON = 1024 * 1024

_HEAD = struct.Struct("!BBHIIII")
_CHECK = struct.Struct("!I")
HEAD_SIZE = _HEAD.size + _CHECK.size
MARK = 0xD57A
"""In each head, so that what is no such stream is seen at its first bytes."""


class StreamError(Exception):
    """What came is not what a sender of this version sends: a byte has changed, something is missing, or it ended early."""


class StreamEnded(StreamError):
    """The other end is gone."""


class Kind(enum.IntEnum):
    HEAD = 1
    IMPORTS = 2
    ITEM = 3
    PICKLE = 4
    PART = 5
    DATA = 6
    END = 7
    ABANDON = 8
    DONE = 9
    WANTED = 10
    RESULT = 11


_KINDS = {int(kind): kind for kind in Kind}
DEFLATED = 1


class Head(NamedTuple):
    kind: Kind
    deflated: bool
    size: int
    """Bytes that follow."""
    full: int
    """The same inflated."""
    check: int


def head_of(kind: Kind, number: int, payload: Any, full: int, deflated: bool = False) -> bytes:
    """The head for a payload (anything with a buffer of bytes) that is frame ``number`` of its stream."""
    size = memoryview(payload).nbytes
    head = _HEAD.pack(kind, DEFLATED if deflated else 0, MARK, size, full, zlib.crc32(payload), number & 0xFFFFFFFF)
    return head + _CHECK.pack(zlib.crc32(head))


def parse_head(data: bytes, number: int) -> Head:
    """Raises ``StreamError`` for anything but the head of frame ``number``."""
    if len(data) != HEAD_SIZE:
        raise StreamEnded("The stream ended within a frame.")
    head, (check,) = data[: _HEAD.size], _CHECK.unpack(data[_HEAD.size :])
    kind, flags, mark, size, full, payload_check, its_number = _HEAD.unpack(head)
    if mark != MARK or zlib.crc32(head) != check:
        raise StreamError("The stream is damaged, or is not one of variables.")
    if its_number != number & 0xFFFFFFFF:
        raise StreamError(f"A part of the stream is missing (frame {number} was due, {its_number} came).")
    if kind not in _KINDS or flags not in (0, DEFLATED):
        raise StreamError("The other end sends what this one does not know; it is of another version.")
    if size > MAX_PAYLOAD or full > MAX_PAYLOAD or (not flags and size != full):
        raise StreamError("A frame is longer than any may be.")
    return Head(_KINDS[kind], bool(flags), size, full, payload_check)


class Order:
    """Which frame may follow which: state, frames that may come, the state after them. One for each direction of a stream."""

    STEPS: ClassVar[Dict[str, Dict[Kind, str]]] = {
        "start": {Kind.HEAD: "between"},
        "between": {Kind.IMPORTS: "between", Kind.ITEM: "item", Kind.DONE: "done"},
        "item": {Kind.PICKLE: "item", Kind.PART: "part", Kind.END: "between", Kind.ABANDON: "between"},
        "part": {Kind.DATA: "part", Kind.ABANDON: "between"},
        "done": {Kind.ITEM: "item", Kind.DONE: "done"},
    }
    BACK: ClassVar[Dict[str, Dict[Kind, str]]] = {
        "start": {Kind.WANTED: "asked", Kind.RESULT: "over"},
        "asked": {Kind.RESULT: "over"},
        "over": {},
    }

    def __init__(self, back: bool = False) -> None:
        self._steps = self.BACK if back else self.STEPS
        self.state = "start"
        self._due = 0
        """Bytes that the part still lacks."""

    def take(self, head: Head) -> None:
        """A frame has come."""
        after = self._steps[self.state].get(head.kind)
        if after is None:
            raise StreamError(f"{head.kind.name} came where it may not ({self.state}).")
        if head.kind is Kind.DATA:
            if head.full > self._due or not head.full:
                raise StreamError("A part of a variable is longer than was said.")
            self._due -= head.full
            after = "part" if self._due else "item"
        self.state = after

    def part(self, size: int) -> None:
        """The PART frame that has just come announces so many bytes."""
        self._due = size
        if not size:
            self.state = "item"


class Writer:
    """Frames into ``write``, numbered."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self._write = write
        self._number = 0
        self.written = 0

    def frame(self, kind: Kind, payload: Any = b"", full: int = -1) -> None:
        """``full``: its length inflated, if it is deflated."""
        size = memoryview(payload).nbytes
        head = head_of(kind, self._number, payload, size if full < 0 else full, full >= 0)
        self._number += 1
        if size <= 4096:
            self._write(head + bytes(payload))
        else:
            self._write(head)
            self._write(payload)
        self.written += HEAD_SIZE + size

    def json(self, kind: Kind, value: Any) -> None:
        payload = json.dumps(value, separators=(",", ":")).encode()
        if len(payload) > MAX_JSON:
            raise StreamError("A description is too long.")
        self.frame(kind, payload)

    def position(self) -> Tuple[int, int]:
        """For ``rewind``, where what is written goes to a file."""
        return self._number, self.written

    def rewind(self, position: Tuple[int, int]) -> None:
        self._number, self.written = position


class Reader:
    """Frames from ``readinto``, which fills a memoryview as far as it can and says how far; 0 at the end."""

    def __init__(self, readinto: Callable[[memoryview], Any], back: bool = False) -> None:
        self._readinto = readinto
        self._number = 0
        self.order = Order(back)
        self._head = Head(Kind.HEAD, False, 0, 0, 0)
        self.read = 0
        self._scratch = b""

    def next(self) -> Head:
        """The next frame's head; its payload must be taken before the next call."""
        data = bytearray(HEAD_SIZE)
        self._fill(memoryview(data))
        self._head = parse_head(bytes(data), self._number)
        self._number += 1
        self.order.take(self._head)
        self.read += HEAD_SIZE + self._head.size
        return self._head

    def payload(self) -> bytes:
        data = bytearray(self._head.size)
        self._fill(memoryview(data))
        self._checked(data)
        return self._inflated(data) if self._head.deflated else bytes(data)

    def json(self) -> Any:
        try:
            return json.loads(self.payload().decode())
        except ValueError:
            raise StreamError("A description cannot be read.") from None

    def into(self, target: memoryview) -> None:
        """The payload inflated, straight into memory of exactly its length."""
        if self._head.deflated:
            target[:] = self.payload()
        else:
            self._fill(target)
            self._checked(target)

    def skip(self) -> None:
        self._checked(self._raw())

    def _raw(self) -> bytearray:
        data = bytearray(self._head.size)
        self._fill(memoryview(data))
        return data

    def _inflated(self, data: bytearray) -> bytes:
        inflate = zlib.decompressobj()
        try:
            full = inflate.decompress(data, self._head.full + 1)
        except zlib.error:
            raise StreamError("The stream is damaged.") from None
        if len(full) != self._head.full or not inflate.eof or inflate.unused_data:
            raise StreamError("A frame is not as long as was said.")
        return full

    def _checked(self, data: Any) -> None:
        if zlib.crc32(data) != self._head.check:
            raise StreamError("The stream is damaged.")

    def _fill(self, target: memoryview) -> None:
        at, size = 0, len(target)
        while at < size:
            got = self._readinto(target[at:])
            if not got:
                raise StreamEnded("The stream ended before it was complete.")
            at += got


ITEM_ENDS: FrozenSet[Kind] = frozenset((Kind.END, Kind.ABANDON))
