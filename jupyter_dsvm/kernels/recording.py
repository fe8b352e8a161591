"""What a kernel's cells put out, as it goes to clients, on its way into a file.

The proxy's executor hands over all that one event has brought (``put``), on the I/O thread, which costs it a few appends. One
thread for all kernels (``outputwriter``) takes what has come in a tenth of a second, works it into the kernel's book
(``cellbook``) and writes what has changed (``outputstore``). Whoever asks for outputs has that done at once.

**Exactly once, also after kill -9.** A relay sends again what was not acknowledged. So the relay hears of a message only once it is
in the file (``handed_on`` waits for that), and the file says up to which message of which relay it has everything; what comes again
is skipped. The two are written in one transaction, and all that one message has brought is one item. A server that is killed at any
moment therefore leaves a file that is at most behind, and by no more than the relay still has. The requests, which come from
clients, are in ``requests.jsonl`` before they are sent, and announced again.

It must not be able to hurt: where the disk does not take it, the kernel and its pages go on without waiting, outputs are kept in
memory as long as they are few, and there is one warning.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jupyter_client.session import DELIM

from ..relay.wire import Channel
from .actions import Action, Arrived, KeptRequest, ToBackend, ToClient
from .hearing import OUTPUTS
from .messages import MalformedMessage, Message
from .outputwriter import Writer
from .registry import registry

if TYPE_CHECKING:
    from .cellbook import CellBook
    from .iothread import IOThread
    from .outputstore import Found, OutputStore

T = TypeVar("T")

log = logging.getLogger("jupyter_dsvm.outputs")

HURRY = 4 * 1024 * 1024
"""Bytes that are written at once."""
TOO_MUCH = 64 * 1024 * 1024
"""Bytes that may wait to be written; what comes then is left out."""
UNWRITTEN = 16 * 1024 * 1024
"""Bytes that are kept in memory while they cannot be written."""
RETRY = 5.0
"""Seconds, after a write that failed."""
PAGE = 8 * 1024 * 1024
"""Bytes of outputs in one answer."""

_KINDS = {Channel.IOPUB: "published", Channel.SHELL: "replied", Channel.STDIN: "asked"}


class Item(NamedTuple):
    said: list[tuple[str, list[bytes]]]
    """Methods of ``CellBook``, and the message for it."""
    trusted: bool
    source: str
    number: int
    """Of the source's message that has brought it all; 0: of nobody's that is sent again."""
    size: int = 0
    """Bytes."""


class Recording:
    def __init__(
        self,
        kernel_id: str,
        io: IOThread,
        source_of: Callable[[int], tuple[bool, str]],
        handed_on: Callable[[int, int], None],
    ) -> None:
        """``source_of`` says of a side whether it is trusted, and whose messages its numbers count where it is the kernel that
        the notebook has now. ``handed_on`` is called for what ``handed_on`` was told, once that is in the file."""
        self._kernel_id = kernel_id
        self._io = io
        self._source_of = source_of
        self._pass_on = handed_on
        self._limit = registry.outputs_limit
        self._on = False
        """A cell was run. Before that nothing is worth a look."""
        # Of the I/O thread
        self._said: list[tuple[str, list[bytes]]] = []
        self._put = self._taken_bytes = self._put_bytes = 0
        self._lost: dict[bytes, tuple[list[bytes], int, int]] = {}
        """By the parent's header: a message without its content, how many outputs about that request were left out, their bytes."""
        self._due = False
        self._marks: deque[tuple[int, int, int]] = deque()
        """Count of the item, side, number: those that are not in the file yet."""
        self._waiting: dict[int, int] = {}
        """By side, up to which number all clients have everything, and the file not yet."""
        # Of whoever has the lock
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._kept = 0
        """Items that have been dealt with."""
        self._store: OutputStore | None = None
        self._book: CellBook | None = None
        self._skip = ("", 0)
        self._number = ("", 0)
        self._adopted: list[KeptRequest] | None = None
        self._before: Message | None = None
        self._retry_at = 0.0
        self._warned = self._failing = self._useless = self._closed = False
        self._writer = Writer.acquire()

    # On the I/O thread

    def note(self, action: Action) -> None:
        """The proxy's executor carries that out."""
        if isinstance(action, ToClient):
            kind = _KINDS.get(action.channel)
            if kind is not None and self._on:
                self._said.append((kind, action.parts))
        elif isinstance(action, Arrived):
            if self._limit and (self._on or _names_a_cell(action.parts)):
                self._on = True
                self._said.append(("requested", action.parts))
        elif isinstance(action, ToBackend) and action.channel is Channel.STDIN and self._on:
            self._said.append(("answered", action.parts))

    def put(self, side: int, number: int) -> None:
        """All that was noted since the last time has been brought by that side's message ``number``, which may be 0."""
        if not self._on or self._useless:
            self._said.clear()
            return
        said, self._said = self._said, []
        if not said:
            return
        trusted, source = self._source_of(side)
        self._append(Item(said, trusted, source, number if source else 0))
        if number and source:
            self._marks.append((self._put, side, number))

    def _append(self, item: Item) -> None:
        size = sum(len(part) for _, parts in item.said for part in parts)
        waiting = self._put_bytes - self._taken_bytes
        if waiting + size > TOO_MUCH:
            item = item._replace(said=[s for s in item.said if not self._leave_out(*s)])
            size = sum(len(part) for _, parts in item.said for part in parts)
        self._put += 1
        self._put_bytes += size
        self._items.append(item._replace(size=size))
        if not self._due or waiting + size > HURRY:
            self._due = True
            self._writer.due(self, hurry=waiting + size > HURRY)

    def _leave_out(self, kind: str, parts: list[bytes]) -> bool:
        """The disk is far behind: whether this is an output, which is only counted."""
        try:
            message = Message(parts, bounded=True)
            if kind != "published" or message.type not in OUTPUTS:
                return False
        except MalformedMessage:
            return True
        at = message.at
        _, messages, size = self._lost.get(parts[at + 3], ([], 0, 0))
        self._lost[parts[at + 3]] = [*parts[: at + 4], b"{}", b"{}"], messages + 1, size + len(parts[at + 5])
        return True

    def restarted(self) -> None:
        """The kernel is started anew."""
        if self._on:
            self._append(Item([("restarted", [])], True, "", 0))

    def settle(self, side: int, number: int) -> None:
        """As ``put``, and it is in the file afterwards: the relay that would send it again is about to be left. Blocks for a
        moment."""
        self.put(side, number)
        self.flush()

    def adopt(self, requests: list[KeptRequest]) -> None:
        """The kernel of an earlier server process goes on here, which knew of these requests. Before anything is put."""
        if self._limit:
            self._on = True
            self._adopted = requests
            self._append(Item([], True, "", 0))

    def handed_on(self, side: int, number: int) -> None:
        """All clients have that side's messages up to ``number``."""
        if self._in_file(side, number):
            self._pass_on(side, number)
        else:
            self._waiting[side] = number

    def _in_file(self, side: int, number: int) -> bool:
        first = next((n for _, s, n in self._marks if s == side), None)
        return first is None or first > number

    def _written(self, kept: int, size: int) -> None:
        self._taken_bytes += size
        while self._marks and self._marks[0][0] <= kept:
            self._marks.popleft()
        waiting, self._waiting = self._waiting, {}
        for side, number in waiting.items():
            self.handed_on(side, number)
        if self._lost:
            lost, self._lost = self._lost, {}
            self._append(
                Item([(f"{messages} {length}", parts) for parts, messages, length in lost.values()], False, "", 0)
            )

    # On any other thread

    def flush(self) -> None:
        """All that has come is worked in and written. Blocks for a moment."""
        with self._lock:
            self._flush()

    def since(self, version: int, after: int = 0, max_bytes: int = PAGE) -> dict[str, Any]:
        """What ``GET kernels/{id}/outputs`` answers. Blocks."""
        from .outputrows import row

        def read(store: OutputStore, book: CellBook) -> tuple[int, list[Found], bool]:
            known = version if version <= book.version else 0  # of a file that was lost
            return book.version, *store.since(known, after, max_bytes, self._limit)

        now, found, more = self.look(read) or (0, [], False)
        rows = [row(f) for f in found if not f.run.is_forgotten]
        return {"version": now, "rows": rows, "next": found[-1].run.version if more else None}

    @property
    def version(self) -> int:
        """Of the latest change that was worked in; 0: of none. Does not block."""
        return self._book.version if self._book is not None else 0

    def look(self, function: Callable[[OutputStore, CellBook], T]) -> T | None:
        """What that finds in the file, with all that has come; None where nothing is kept. Blocks."""
        with self._lock:
            self._flush()
            if self._store is None or self._book is None or self._closed or self._useless:
                return None
            return function(self._store, self._book)

    def forget(self, msg_id: str) -> None:
        """What ``DELETE kernels/{id}/outputs`` asks for. Blocks."""

        def forget(store: OutputStore, book: CellBook) -> None:
            book.forget(msg_id)
            self._write()

        self.look(forget)

    def close(self, leave: bool) -> None:
        """Nothing is put any more. ``leave``: a later process goes on with the kernel."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if leave:
                    self._flush()
                if self._store is not None:
                    self._store.close() if leave else self._store.remove()
            except Exception:
                log.exception("What cells have put out could not be closed")
        self._writer.forget(self)
        Writer.release()

    # With the lock

    def _flush(self) -> None:
        self._due = False
        count, size = len(self._items), 0
        if count == 0 and not self._failing:
            return
        try:
            self._useless = self._useless or not self._open()
            for _ in range(count):
                item = self._items.popleft()
                size += item.size
                if not self._useless:
                    self._work_in(item)
            if not self._useless:
                self._write()
        except Exception:
            log.exception("What this notebook's cells put out is not kept any more")
            self._useless = True
        self._kept += count
        self._before = None
        self._io.call_soon(self._written, self._kept, size)

    def _open(self) -> bool:
        if self._store is not None:
            return True
        try:
            from .outputstore import OutputStore, path_of
        except ImportError as e:  # a Python without SQLite
            self._warn(e)
            return False
        try:
            self._store = OutputStore(path_of(self._kernel_id))
            self._book = self._store.read(self._limit)
        except Exception as e:
            self._warn(e)
            if self._store is not None:
                self._store.remove()
            self._limit = min(self._limit, UNWRITTEN)
            self._store = OutputStore(None)
            self._book = self._store.read(self._limit)
        self._skip = self._store.source, self._store.number
        self._number = self._skip
        requests, self._adopted = self._adopted, None
        if requests is not None:
            self._announce(self._book, requests)
        if self._store.is_torn:
            for run in [r for r in self._book.runs.values() if not r.over]:
                self._book.give_up(run)
        return True

    def _announce(self, book: CellBook, requests: list[KeptRequest]) -> None:
        """Those that came after the last one that is known."""
        messages = [m for m in map(_message, requests) if m is not None]
        known = [at for at, m in enumerate(messages) if m.id in book.runs]
        for message in messages[known[-1] + 1 if known else 0 :]:
            if message.type == "execute_request":
                _told(book.requested, message)

    def _work_in(self, item: Item) -> None:
        book, (source, number) = self._book, self._skip
        assert book is not None
        if item.number:
            if item.source == source and item.number <= number:
                return
            self._number = item.source, item.number
        for kind, parts in item.said:
            try:
                if kind == "restarted":
                    book.restarted()
                elif kind[0].isdigit():
                    book.lost(Message(parts, bounded=True), *map(int, kind.split()))
                else:
                    message = Message(parts, bounded=not item.trusted)
                    if self._before is not None:
                        message.compare_parent(self._before)
                    self._before = message
                    _told(getattr(book, kind), message)
            except MalformedMessage:
                continue
            except Exception:
                log.exception("an output is not kept")

    def _write(self) -> None:
        store, book = self._store, self._book
        assert store is not None
        assert book is not None
        if not (book.dirty or book.dropped or book.displays_forgotten) or time.monotonic() < self._retry_at:
            return
        try:
            store.write(book, *self._number)
            self._failing = False
        except Exception as e:
            self._retry_at = time.monotonic() + RETRY
            self._failing = True
            self._warn(e)
            store.torn()
            unwritten = 0
            for run in list(book.dirty.values()):
                unwritten += run.outputs.unwritten
                if unwritten > UNWRITTEN:
                    book.give_up(run)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "What this notebook's cells put out cannot be kept for a page that comes later: %s. Kernels, and pages that are "
                "open, are not affected.",
                error,
            )


def _told(method: Callable[[Message], None], message: Message) -> None:
    try:
        method(message)
    except MalformedMessage as e:
        log.debug("a message is not kept: %s", e)


def _message(kept: KeptRequest) -> Message | None:
    try:
        return Message(kept.parts)
    except MalformedMessage:
        return None


def _names_a_cell(parts: list[bytes]) -> bool:
    metadata = parts[parts.index(DELIM) + 4]
    return b'"cellId"' in metadata or b'"cell_id"' in metadata


def remove_orphans() -> int:
    """Files that nobody needs any more are removed; the extension calls this at its start. Blocks for a moment."""
    try:
        from . import outputstore
    except ImportError:
        return 0
    return outputstore.remove_orphans()
