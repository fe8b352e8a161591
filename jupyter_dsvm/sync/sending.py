"""What a sync changes on a VM, over one connection: files and links that go there, folders, deletions. Made by ``sync.remote``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import Cancelled, SyncError, Unreachable
from ..relay.fileframes import CHUNK, LARGE, MAX_WAITING, Op, frame, raw
from ..relay.wire import Frame
from . import arrivals
from .carrying import Carrying
from .entries import Entry, Kind
from .plan import Action, Do, Outcome


@dataclass(eq=False)
class Changes(Carrying):
    _sent: dict[int, tuple[int, Entry | None]] = field(default_factory=dict, init=False)
    """By number of a request: which action, and what this side has of it."""
    _asked_part: int = field(default=0, init=False)
    _parts: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)

    @property
    def _unanswered(self) -> Collection[int]:
        return self._sent

    def _start(self, key: int, action: Action) -> None:
        if action.do is Do.COPY and action.entry is not None and action.entry.kind is Kind.FILE:
            self._store(key, action, action.entry)
        else:
            self._ask(key, action)

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
        seq = next(self.folder.numbers)
        self._sent[seq] = key, here
        self.channel.put(frame(op, seq, value), cancel=self.cancel)
        while len(self._sent) >= MAX_WAITING // 2:
            self._listen(wait=True)

    def _store(self, key: int, action: Action, entry: Entry) -> None:
        seq = next(self.folder.numbers)
        try:
            with self.here.open(entry) as reading:
                now = reading.now
                offset = self._agreed_part(now) if now.size >= LARGE else 0
                value = {"path": action.path, "size": now.size, "mtime_ns": now.mtime_ns, "offset": offset}
                self.channel.put(frame(Op.STORE, seq, {**value, **_in_place_of(action)}), cancel=self.cancel)
                self._sent[seq] = key, None
                for chunk in reading.chunks(CHUNK, offset):
                    self.channel.put(raw(Op.BYTES, seq, chunk), cancel=self.cancel)
                    self.folder.progress += 1
                    self.moved(len(chunk))
                    self._listen(wait=False)
                    if seq not in self._sent:
                        return  # refused over there, and told; what came of it is thrown away
                read = reading.entry
        except (Cancelled, Unreachable):
            raise
        except SyncError as e:
            self._not_sent(seq, key, action, e)
            return
        end = {"digest": read.digest, "mtime_ns": read.mtime_ns, "executable": read.executable}
        self._sent[seq] = key, read
        self.channel.put(frame(Op.END, seq, end), cancel=self.cancel)

    def _not_sent(self, seq: int, key: int, action: Action, error: SyncError) -> None:
        if seq in self._sent:  # or it has been refused over there already, or nothing of it was sent
            del self._sent[seq]
            self.channel.put(frame(Op.END, seq, {"drop": True}), cancel=self.cancel)
        if self.todo.pop(key, None) is not None:
            self._failed_here(action, error)

    def _agreed_part(self, now: Entry) -> int:
        """How much of a large file is over there already, if it is the beginning of this one."""
        while not self.folder.opened:
            self._listen(wait=True)
        if not self.folder.parts:
            return 0
        seq = self._asked_part = next(self.folder.numbers)
        asked = {"path": now.path, "size": now.size, "mtime_ns": now.mtime_ns}
        self.channel.put(frame(Op.PART, seq, asked), cancel=self.cancel)
        while seq not in self._parts:
            self._listen(wait=True)
        part = self._parts.pop(seq)
        offset, digest = part.get("offset"), part.get("digest")
        if not isinstance(offset, int) or not 0 < offset <= now.size or not arrivals.is_digest(digest):
            return 0
        with self.here.open(now) as reading:
            return offset if _digest_of_start(reading.chunks(CHUNK), offset) == digest else 0

    def _heard(self, each: Frame) -> None:
        if each.seq == self._asked_part:
            self._parts[each.seq] = arrivals.body(each.body) if each.type == Op.DONE else {}
        elif each.seq in self._sent:
            self._answered(*self._sent.pop(each.seq), each)
        elif each.type != Op.FAILED:  # that is the answer to a file that was dropped
            raise arrivals.nonsense("an answer to nothing")

    def _answered(self, key: int, here: Entry | None, each: Frame) -> None:
        action = self.todo.pop(key, None)
        if action is None:
            raise arrivals.nonsense("two answers to one request")
        self.folder.progress += 1
        if each.type == Op.FAILED:
            self._failed_there(action, each)
        elif each.type == Op.DONE:
            self.tell(Outcome(action, True, here, self._there(action, here, arrivals.body(each.body))))
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
