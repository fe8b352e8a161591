"""The receiving end of a stream: an item's frames while its pickle is being loaded; exactly passed over where it cannot be."""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional

from . import forms, pickling
from .names import Namespace
from .stream import ITEM_ENDS, Head, Kind, Reader, StreamError

SLACK = 64 * 1024 * 1024
"""Bytes that may come beyond what was announced: sizes of objects that were not looked at to their end."""


class Item:
    """One item, from its ITEM frame to its end. A file for the unpickler, and the memory beside the pickle."""

    def __init__(self, reader: Reader, allowance: "Allowance") -> None:
        self._reader = reader
        self._allowance = allowance
        described = reader.json()
        names = described.get("names") if isinstance(described, dict) else None
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise StreamError("An item names nothing.")
        self.names: List[str] = names
        self.bytes = 0
        self._pickle: Deque[memoryview] = deque()
        self._arrived: Dict[int, Any] = {}
        self._buffers: Deque[Any] = deque()
        self._last: Optional[Head] = None
        """The frame that ended it."""
        self._failed: Optional[BaseException] = None

    def load(self, namespace: Namespace) -> List[Any]:
        """The values, in the order of the names. Whatever it raises but ``StreamError`` is about this item alone."""
        try:
            with pickling.Loading(namespace, self._take):
                values = pickling.load(self, self._buffered())
            self._to_the_end()
        finally:
            self._arrived.clear()
            self._buffers.clear()
        if self.abandoned or not isinstance(values, list) or len(values) != len(self.names):
            raise StreamError("An item does not hold what it names.")
        return values

    @property
    def abandoned(self) -> bool:
        """The sender has given it up, and has said why at its own end. Known once it is over."""
        return self._last is not None and self._last.kind is Kind.ABANDON

    def skip(self) -> None:
        """Pass over what is left of it."""
        self._pickle.clear()
        while self._last is None:
            self._step(keep=False)

    # For the unpickler

    def read(self, size: int = -1) -> bytes:
        pieces: List[bytes] = []
        while size != 0:
            piece = self._pickled()
            if piece is None:
                break
            taken = piece if size < 0 else piece[:size]
            if len(taken) < len(piece):
                self._pickle.appendleft(piece[len(taken) :])
            pieces.append(bytes(taken))
            if size > 0:
                size -= len(taken)
        return b"".join(pieces)

    def readinto(self, target: Any) -> int:
        view, at = memoryview(target).cast("B"), 0
        while at < len(view):
            piece = self._pickled()
            if piece is None:
                break
            taken = piece[: len(view) - at]
            view[at : at + len(taken)] = taken
            at += len(taken)
            if len(taken) < len(piece):
                self._pickle.appendleft(piece[len(taken) :])
        return at

    def readline(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return line

    def _pickled(self) -> Optional[memoryview]:
        while not self._pickle and self._last is None:
            self._step()
        return self._pickle.popleft() if self._pickle else None

    def _buffered(self) -> Iterator[Any]:
        while True:
            while not self._buffers and self._last is None:
                self._step()
            if not self._buffers:
                return
            yield self._got(self._buffers.popleft())

    def _take(self, ticket: int) -> Any:
        while ticket not in self._arrived and self._last is None:
            self._step()
        if ticket not in self._arrived:
            raise StreamError("The memory of a variable is missing.")
        return self._got(self._arrived.pop(ticket))

    def _got(self, arrived: Any) -> Any:
        if isinstance(arrived, _Lost):
            raise arrived.error
        return arrived

    # Frames

    def _to_the_end(self) -> None:
        while self._last is None:
            self._step(keep=False)

    def _step(self, keep: bool = True) -> None:
        """One frame, or one part with all of its frames. Without ``keep`` nothing of it is kept."""
        head = self._reader.next()
        if head.kind is Kind.PICKLE:
            self._count(head.full)
            if keep:
                self._pickle.append(memoryview(self._reader.payload()))
            else:
                self._reader.skip()
        elif head.kind is Kind.PART:
            self._part(keep)
        elif head.kind in ITEM_ENDS:
            self._ended(head)
        else:
            raise StreamError(f"{head.kind.name} came within an item.")

    def _ended(self, head: Head) -> None:
        self._last = head
        said = self._reader.json()
        if head.kind is Kind.END and (not isinstance(said, dict) or said.get("bytes") != self.bytes):
            raise StreamError("An item is not as long as its sender says.")

    def _count(self, size: int) -> None:
        self.bytes += size
        self._allowance.take(size)

    def _part(self, keep: bool) -> None:
        about = self._reader.json()
        size, ticket = (about.get("size"), about.get("ticket")) if isinstance(about, dict) else (None, None)
        if type(size) is not int or type(ticket) is not int or size < 0:
            raise StreamError("A part of a variable is not described.")
        self._count(size)
        self._reader.order.part(size)
        target: Any = None
        value: Any = None
        if keep:
            try:
                value, target = forms.room_for(about, size)
            except StreamError:
                raise
            except Exception as e:
                value = _Lost(e)
        at = 0
        while at < size:
            head = self._reader.next()
            if head.kind is Kind.ABANDON:
                self._ended(head)
                return
            if target is None:
                self._reader.skip()
            else:
                self._reader.into(target[at : at + head.full])
            at += head.full
        if keep and about.get("form") == "buffer":
            self._buffers.append(value)
        elif keep:
            self._arrived[ticket] = value


class _Lost:
    """Stands for memory that could not be had, until it is asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Allowance:
    """How many bytes may still come, so that a sender cannot fill this kernel's memory without end."""

    def __init__(self) -> None:
        self._left = 0

    def announced(self, size: int, limit: Optional[int]) -> None:
        self._left = size + SLACK if limit is None else min(size + SLACK, limit)

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise StreamError("More came than was announced.")
