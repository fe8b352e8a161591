"""Sends names into a stream: what is imported, items of names that share objects, and what is wanted once more."""

from __future__ import annotations

import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Set

from .names import Namespace
from .outgoing import NoRoom, Outgoing
from .pickling import Pickler, There
from .reasons import sentence, why
from .stream import VERSION, Kind, Reader, StreamError
from .survey import Look, grouped, look_at, roots_of

MAX_NAMES = 100_000
MAX_TOGETHER = 5000
"""Names in one item, and in one list of an answer."""
MAX_FAILED = 1000
LOOK_SECONDS = 60.0
"""For all names together; what is not looked at by then travels by itself."""


NO_ROOM = "There is no room for it."


class Result:
    """What became of the names."""

    def __init__(self) -> None:
        self.done: Dict[str, None] = {}
        """In their order."""
        self.imported: Dict[str, None] = {}
        """What an import brought there; not counted among the variables."""
        self.failed: Dict[str, str] = {}
        self.notes: Dict[str, str] = {}
        """What is not quite the same there."""
        self.bytes = 0

    def as_json(self, key: str) -> Dict[str, Any]:
        """``count`` and ``failed_count`` are of all; the lists are as long as a message may be."""
        notes = [{"name": name, "note": note} for name, note in self.notes.items() if name in self.done]
        return {
            key: list(self.done)[:MAX_TOGETHER],
            "failed": self.failures(),
            "bytes": self.bytes,
            "imported": list(self.imported)[:MAX_TOGETHER],
            "count": len(self.done),
            "failed_count": len(self.failed),
            "notes": notes[:MAX_FAILED],
        }

    def failures(self) -> List[Dict[str, str]]:
        return [{"name": name, "reason": reason} for name, reason in list(self.failed.items())[:MAX_FAILED]]

    def succeed(self, name: str) -> None:
        self.failed.pop(name, None)
        self.done[name] = None

    def fail(self, name: str, reason: str) -> None:
        self.done.pop(name, None)
        self.imported.pop(name, None)
        self.failed[name] = reason


class Sending:
    def __init__(self, namespace: Namespace, there: There, out: Outgoing, back: Optional[Reader] = None) -> None:
        """``back``: where the receiver answers; None for a file."""
        self._namespace = namespace
        self._there = there
        self._out = out
        self._back = back
        self._looks: Dict[str, Look] = {}
        self._roots: Set[int] = set()
        """Arrays that are sent whole; alive, since views of them are among the variables."""
        self.result = Result()

    def send(self, names: Optional[Sequence[str]], limit: Optional[int] = None) -> None:
        """``limit``: bytes that all of them may have; the largest stay behind."""
        looks = self._fitting(self._looked_at(names), limit)
        self._looks = {look.name: look for look in looks}
        self._roots = roots_of(looks)
        self._head(looks)
        groups = grouped([look for look in looks if look.imported is None])
        for look in looks:
            look.kept.clear()
            if look.note:
                self.result.notes[look.name] = look.note
        for group in groups:
            together = [look.name for look in group]
            for start in range(0, len(together), MAX_TOGETHER):
                some = together[start : start + MAX_TOGETHER]
                if not self._item(some) and len(some) > 1:
                    for name in some:
                        self._item([name])
        self._out.writer.json(Kind.DONE, {})
        if self._back is not None:
            self._once_more(self._back)
        self.result.bytes = self._out.bytes

    def _looked_at(self, names: Optional[Sequence[str]]) -> List[Look]:
        wanted = self._namespace.users() if names is None else list(dict.fromkeys(names))
        deadline = time.monotonic() + LOOK_SECONDS
        looks: List[Look] = []
        for name in wanted[:MAX_NAMES]:
            if not self._namespace.has(name):
                self.result.fail(name, "There is no such variable.")
                continue
            look = look_at(self._namespace, name, self._there, deadline)
            if look.reason:
                self.result.fail(name, look.reason)
            else:
                looks.append(look)
        for name in wanted[MAX_NAMES:]:
            self.result.fail(name, "There are too many variables.")
        return looks

    def _fitting(self, looks: List[Look], limit: Optional[int]) -> List[Look]:
        if limit is None:
            return looks
        left, fit = limit, set()
        for look in sorted(looks, key=lambda look: look.bytes or 0):
            left -= look.bytes or 0
            if left < 0:
                self.result.fail(look.name, NO_ROOM)
            else:
                fit.add(look.name)
        return [look for look in looks if look.name in fit]

    def _head(self, looks: List[Look]) -> None:
        total = sum(look.bytes or 0 for look in looks)
        unknown = any(not look.complete for look in looks)
        head = {"version": VERSION, "python": list(sys.version_info[:3]), "names": len(looks)}
        self._out.writer.json(Kind.HEAD, {**head, "bytes": None if unknown else total})
        imports = [look for look in looks if look.imported is not None]
        for start in range(0, len(imports), 1000):
            entries = [
                {"name": look.name, "module": look.imported.module, "attribute": look.imported.attribute}
                for look in imports[start : start + 1000]
                if look.imported is not None
            ]
            self._out.writer.json(Kind.IMPORTS, entries)
        self.result.imported = dict.fromkeys(look.name for look in imports)

    def _item(self, names: List[str]) -> bool:
        """False where it could not be pickled; then, if it is one name, that is noted as failed."""
        sizes = [self._looks[name].bytes for name in names if name in self._looks]
        self._out.begin(names, sum(size or 0 for size in sizes))
        try:
            values = [self._namespace.names[name] for name in names]
            Pickler(self._out, self._namespace, self._there, self._roots).dump(values)
            self._out.end()
        except StreamError:
            raise
        except Exception as e:
            reason = NO_ROOM if isinstance(e, NoRoom) else why(e, there="there")
            self._out.abandon(reason)
            if len(names) == 1:
                self.result.fail(names[0], reason)
            return False
        for name in names:
            self.result.succeed(name)
        return True

    def _once_more(self, back: Reader) -> None:
        """What the receiver could not load together, name by name; then what it has to say."""
        head = back.next()
        if head.kind is Kind.WANTED:
            wanted = back.json()
            for name in wanted if isinstance(wanted, list) else ():
                if name in self.result.done:
                    self._item([name])
            self._out.writer.json(Kind.DONE, {})
            head = back.next()
        said = back.json()
        failed = said.get("failed") if isinstance(said, dict) else None
        for entry in failed if isinstance(failed, list) else ():
            if isinstance(entry, dict) and (
                entry.get("name") in self.result.done or entry.get("name") in self.result.imported
            ):
                self.result.fail(entry["name"], sentence(str(entry.get("reason"))))
