"""Files that come from a VM, over one connection, in the order in which they are asked for. Made by ``sync.remote``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import SyncError
from ..relay.fileframes import LARGE, MAX_WAITING, Op, frame
from ..relay.wire import Frame
from . import arrivals
from .carrying import Carrying
from .entries import Entry, Kind
from .plan import Action, Outcome, Why
from .sending import row

if TYPE_CHECKING:
    from .staging import Staged

ASKED_AHEAD = MAX_WAITING // 4
"""Files that are asked for and have not come; also paths in one question for digests."""


@dataclass(eq=False)
class Fetches(Carrying):
    """In the order in which they are asked for."""

    _asked: dict[int, int] = field(default_factory=dict, init=False)
    """By number of a request: which action."""
    _staged: dict[int, Staged] = field(default_factory=dict, init=False)
    _came: dict[int, int] = field(default_factory=dict, init=False)

    @property
    def _unanswered(self) -> Collection[int]:
        return self._asked

    def _start(self, key: int, action: Action) -> None:
        assert action.entry is not None
        if action.entry.kind is Kind.LINK:
            self._link(key, action)
            return
        while len(self._asked) >= ASKED_AHEAD:
            self._listen(wait=True)
        self._ask(key, action, action.entry)

    def _link(self, key: int, action: Action) -> None:
        self._finish(key, lambda: self.here.link(action), action.entry)

    def _finish(self, key: int, place: Callable[[], Entry], there: Entry | None) -> None:
        action = self.todo.pop(key)
        try:
            here = place()
        except SyncError as e:
            self._failed_here(action, e)
            return
        self.folder.progress += 1
        self.tell(Outcome(action, True, here, replace(there, digest=here.digest) if there is not None else None))

    def _ask(self, key: int, action: Action, entry: Entry) -> None:
        seq = next(self.folder.numbers)
        offset = 0
        if entry.size >= LARGE:
            if not self._begin(seq, key, action, entry):
                return
            offset = self._staged[seq].offset
        self._asked[seq] = key
        self._came[seq] = offset
        # Keeping it under another name changed its mark; that it is as large and as old must do.
        expect = replace(entry, mark="") if action.why is Why.CONFLICT else entry
        value = {"path": action.path, "expect": row(expect), "offset": offset}
        self.channel.put(frame(Op.FETCH, seq, value), cancel=self.cancel)

    def _begin(self, seq: int, key: int, action: Action, entry: Entry) -> bool:
        try:
            staged = self.here.stage(entry)
            staged.__enter__()
        except SyncError as e:
            self.todo.pop(key, None)
            self._failed_here(action, e)
            return False
        self._staged[seq] = staged
        return True

    def _heard(self, each: Frame) -> None:
        key = self._asked.get(each.seq)
        if key is None:
            raise arrivals.nonsense("an answer to nothing")
        action = self.todo.get(key)
        if each.type == Op.BYTES:
            self._bytes(each, key, action)
        elif each.type in (Op.DONE, Op.FAILED):
            del self._asked[each.seq]
            if action is not None:
                self._ended(each, key, action)
        else:
            raise arrivals.nonsense("rows that nobody asked for")

    def _bytes(self, each: Frame, key: int, action: Action | None) -> None:
        if action is None:
            return  # it failed here already
        entry = action.entry
        assert entry is not None
        if not len(each.body):
            raise arrivals.nonsense("a piece of a file with nothing in it")
        self._came[each.seq] += len(each.body)
        if self._came[each.seq] > entry.size:
            raise arrivals.nonsense("more of a file than it has")
        if each.seq not in self._staged and not self._begin(each.seq, key, action, entry):
            return
        try:
            self._staged[each.seq].write(bytes(each.body))
        except SyncError as e:
            self._close(each.seq)
            del self.todo[key]
            self._failed_here(action, e)
            return
        self.folder.progress += 1
        self.moved(len(each.body))

    def _ended(self, each: Frame, key: int, action: Action) -> None:
        entry = action.entry
        assert entry is not None
        try:
            if each.type == Op.FAILED:
                del self.todo[key]
                self._failed_there(action, each)
                return
            there = arrivals.entry(arrivals.body(each.body).get("row"))
            if (there.path, there.kind, there.size) != (action.path, Kind.FILE, self._came[each.seq]):
                raise arrivals.nonsense("another file than was asked for")
            if each.seq not in self._staged and not self._begin(each.seq, key, action, entry):
                return  # an empty file has no BYTES
            staged = self._staged[each.seq]
            self._finish(key, lambda: staged.place(action), there)
        finally:
            self._close(each.seq)

    def _close(self, seq: int) -> None:
        staged = self._staged.pop(seq, None)
        if staged is not None:
            staged.__exit__(None, None, None)

    def keep(self) -> None:
        """At the end of the connection: what came of large files is gone on with, over the next one or at the next sync."""
        for seq in list(self._staged):
            if self._came[seq] >= LARGE:
                self._staged[seq].keep()
            self._close(seq)
