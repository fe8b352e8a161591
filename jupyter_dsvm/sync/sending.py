"""What a sync changes on a VM, over one connection: files and links that go there, folders, deletions. Made by ``sync.remote``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, ChangedMeanwhile, SecretRefused, SyncError, Unreachable
from ..relay.fileframes import CHUNK, LARGE, MAX_WAITING, Code, Op, frame, raw
from ..relay.wire import Frame
from . import arrivals
from .entries import Entry, Kind
from .filechannel import FileChannel
from .plan import Action, Do, Outcome

if TYPE_CHECKING:
    from .local import LocalFolder
    from .remote import RemoteFolder

Tell = Callable[[Outcome], None]
Moved = Callable[[int], None]
"""Told how many bytes of files went over the way since the last time; many times a second."""


class Changes:
    """Over one connection: what is still to be done, in order."""

    def __init__(
        self,
        folder: RemoteFolder,
        channel: FileChannel,
        here: LocalFolder,
        todo: dict[int, Action],
        tell: Tell,
        moved: Moved,
        cancel: threading.Event,
    ) -> None:
        self._folder = folder
        self._channel = channel
        self._here = here
        self._todo = todo
        self._tell = tell
        self._moved = moved
        self._cancel = cancel
        self._sent: dict[int, tuple[int, Entry | None]] = {}
        """By number of a request: which action, and what this side has of it."""
        self._asked_part = 0
        self._parts: dict[int, dict[str, Any]] = {}

    def run(self) -> None:
        for key, action in list(self._todo.items()):
            if self._cancel.is_set():
                raise Cancelled("Copying files was cancelled.", advice="What was copied stays; the next sync goes on.")
            if action.do is Do.COPY and action.entry is not None and action.entry.kind is Kind.FILE:
                self._store(key, action, action.entry)
            else:
                self._ask(key, action)
            self._listen(wait=False)
        while self._sent:
            self._listen(wait=True)

    def _ask(self, key: int, action: Action) -> None:
        entry = action.entry
        value: dict[str, Any] = {"path": action.path}
        copied = None
        if action.do is Do.COPY and entry is not None:
            op, copied = Op.LINK, entry
            value |= {"target": entry.digest, **_in_place_of(action)}
        elif action.do is Do.FOLDER:
            op = Op.MKDIR
        elif action.do is Do.REMOVE_FOLDER:
            op = Op.RMDIR
        else:
            op = Op.DELETE if action.do is Do.DELETE else Op.MOVE
            value |= {"expect": row(entry), "to": action.keep_as}
        self._send(key, Entry(action.path, Kind.FOLDER) if action.do is Do.FOLDER else copied, op, value)

    def _send(self, key: int, here: Entry | None, op: Op, value: dict[str, Any]) -> None:
        seq = next(self._folder.numbers)
        self._sent[seq] = key, here
        self._channel.put(frame(op, seq, value), cancel=self._cancel)
        while len(self._sent) >= MAX_WAITING // 2:
            self._listen(wait=True)

    def _store(self, key: int, action: Action, entry: Entry) -> None:
        seq = next(self._folder.numbers)
        try:
            with self._here.open(entry) as reading:
                now = reading.now
                offset = self._agreed_part(now) if now.size >= LARGE else 0
                value = {"path": action.path, "size": now.size, "mtime_ns": now.mtime_ns, "offset": offset}
                self._channel.put(frame(Op.STORE, seq, {**value, **_in_place_of(action)}), cancel=self._cancel)
                self._sent[seq] = key, None
                for chunk in reading.chunks(CHUNK, offset):
                    self._channel.put(raw(Op.BYTES, seq, chunk), cancel=self._cancel)
                    self._folder.progress += 1
                    self._moved(len(chunk))
                    self._listen(wait=False)
                    if seq not in self._sent:
                        return  # refused over there, and told; what came of it is thrown away
                read = reading.entry
        except (Cancelled, Unreachable):
            raise
        except SyncError as e:
            self._folder.changed_meanwhile += isinstance(e, ChangedMeanwhile)
            self._not_sent(seq, key, action, e.message, isinstance(e, SecretRefused))
            return
        end = {"digest": read.digest, "mtime_ns": read.mtime_ns, "executable": read.executable}
        self._sent[seq] = key, read
        self._channel.put(frame(Op.END, seq, end), cancel=self._cancel)

    def _not_sent(self, seq: int, key: int, action: Action, problem: str, secret: bool) -> None:
        if seq in self._sent:  # or it has been refused over there already, or nothing of it was sent
            del self._sent[seq]
            self._channel.put(frame(Op.END, seq, {"drop": True}), cancel=self._cancel)
        if self._todo.pop(key, None) is not None:
            self._tell(Outcome(action, False, problem=problem, secret=secret))

    def _agreed_part(self, now: Entry) -> int:
        """How much of a large file is over there already, if it is the beginning of this one."""
        while not self._folder.opened:
            self._listen(wait=True)
        if not self._folder.parts:
            return 0
        seq = self._asked_part = next(self._folder.numbers)
        asked = {"path": now.path, "size": now.size, "mtime_ns": now.mtime_ns}
        self._channel.put(frame(Op.PART, seq, asked), cancel=self._cancel)
        while seq not in self._parts:
            self._listen(wait=True)
        part = self._parts.pop(seq)
        offset, digest = part.get("offset"), part.get("digest")
        if not isinstance(offset, int) or not 0 < offset <= now.size or not arrivals.is_digest(digest):
            return 0
        with self._here.open(now) as reading:
            return offset if _digest_of_start(reading.chunks(CHUNK), offset) == digest else 0

    def _listen(self, wait: bool) -> None:
        for each in self._folder.answers(self._channel, self._cancel, wait):
            if each.seq == self._asked_part:
                self._parts[each.seq] = arrivals.body(each.body) if each.type == Op.DONE else {}
            elif each.seq in self._sent:
                self._answered(*self._sent.pop(each.seq), each)
            elif each.type != Op.FAILED:  # that is the answer to a file that was dropped
                raise arrivals.nonsense("an answer to nothing")

    def _answered(self, key: int, here: Entry | None, each: Frame) -> None:
        action = self._todo.pop(key, None)
        if action is None:
            raise arrivals.nonsense("two answers to one request")
        self._folder.progress += 1
        if each.type == Op.FAILED:
            failed = arrivals.failure(each.body)
            self._folder.changed_meanwhile += failed.code == Code.CHANGED
            self._tell(Outcome(action, False, problem=arrivals.sentence(action.path, self._folder.name, failed)))
        elif each.type == Op.DONE:
            self._tell(Outcome(action, True, here, self._there(action, here, arrivals.body(each.body))))
        else:
            raise arrivals.nonsense("a file that nobody asked for")

    def _there(self, action: Action, here: Entry | None, value: dict[str, Any]) -> Entry | None:
        if action.do is Do.COPY:
            there = arrivals.entry(value.get("row"))
            if here is None or (there.path, there.kind, there.size) != (action.path, here.kind, here.size):
                raise arrivals.nonsense("another file than was sent")
            return replace(there, digest=here.digest)
        if action.do is Do.FOLDER:
            return Entry(action.path, Kind.FOLDER)
        if action.do is Do.REMOVE_FOLDER and value.get("gone") is False:
            return Entry(action.path, Kind.FOLDER)
        return None


def row(entry: Entry | None) -> list[Any] | None:
    """As the VM would say it; for what is to be there when something is changed."""
    if entry is None:
        return None
    if entry.kind is Kind.FILE:
        return ["f", entry.path, entry.size, entry.mtime_ns, entry.executable, entry.mark]
    return ["l", entry.path, entry.digest] if entry.kind is Kind.LINK else ["d", entry.path]


def _in_place_of(action: Action) -> dict[str, Any]:
    return {"replaces": row(action.replaces), "keep_as": action.keep_as, "trash": action.trash}


def _digest_of_start(chunks: Iterator[bytes], size: int) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk[:size])
        size -= min(size, len(chunk))
        if not size:
            break
    return digest.hexdigest()
