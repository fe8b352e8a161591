"""Sends names into a stream: what is imported, items of names that share objects, and what is wanted once more."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from .names import Namespace
from .outgoing import Outgoing
from .pickling import Pickler, There
from .reasons import why
from .stream import VERSION, Kind, Reader, StreamError
from .survey import Look, grouped, look_at, roots_of

MAX_NAMES = 100_000
LOOK_SECONDS = 60.0
"""For all names together; what is not looked at by then travels by itself."""


class Result:
    """What became of the names."""

    def __init__(self) -> None:
        self.done: List[str] = []
        self.failed: Dict[str, str] = {}
        self.bytes = 0

    def as_json(self, key: str) -> Dict[str, Any]:
        failed = [{"name": name, "reason": reason} for name, reason in self.failed.items()]
        return {key: self.done, "failed": failed, "bytes": self.bytes}


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

    def send(self, names: Optional[Sequence[str]], fits: Optional[Callable[[Look], str]] = None) -> None:
        """``fits`` gives the reason why a name is left out for its size, if there is one."""
        wanted = self._namespace.users() if names is None else list(dict.fromkeys(names))
        deadline = time.monotonic() + LOOK_SECONDS
        looks: List[Look] = []
        for name in wanted[:MAX_NAMES]:
            if not self._namespace.has(name):
                self._fail(name, "There is no such variable.")
                continue
            look = look_at(self._namespace, name, self._there, deadline)
            reason = look.reason or (fits(look) if fits is not None else "")
            if reason:
                self._fail(name, reason)
            else:
                looks.append(look)
        for name in wanted[MAX_NAMES:]:
            self._fail(name, "There are too many variables.")
        self._looks = {look.name: look for look in looks}
        self._roots = roots_of(looks)
        self._head(looks)
        groups = grouped([look for look in looks if look.imported is None])
        for look in looks:
            look.kept.clear()
        for group in groups:
            if not self._item([look.name for look in group]) and len(group) > 1:
                for look in group:
                    self._item([look.name])
        self._out.writer.json(Kind.DONE, {})
        if self._back is not None:
            self._once_more(self._back)
        self.result.bytes = self._out.bytes

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
        self.result.done += [look.name for look in imports]

    def _item(self, names: List[str]) -> bool:
        """False where it could not be pickled; then, if it is one name, that is noted as failed."""
        sizes = [self._looks[name].bytes for name in names if name in self._looks]
        self._out.begin(names, sum(size or 0 for size in sizes))
        try:
            values = [self._namespace.names[name] for name in names]
            Pickler(self._out, self._namespace, self._there, self._roots).dump(values)
        except StreamError:
            raise
        except Exception as e:
            reason = why(e, there="there")
            self._out.abandon(reason)
            if len(names) == 1:
                self._fail(names[0], reason)
            return False
        self._out.end()
        for name in names:
            self.result.failed.pop(name, None)
            if name not in self.result.done:
                self.result.done.append(name)
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
            if isinstance(entry, dict) and entry.get("name") in self.result.done:
                self._fail(entry["name"], str(entry.get("reason"))[:400])

    def _fail(self, name: str, reason: str) -> None:
        self.result.failed[name] = reason
        if name in self.result.done:
            self.result.done.remove(name)
