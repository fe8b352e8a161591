"""Receives a stream into a namespace: a name is made when all of it has arrived, and never over one that is there."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

from .incoming import Allowance, Item
from .names import Import, Namespace, import_of
from .reasons import why
from .sending import MAX_TOGETHER, Result
from .stream import VERSION, Kind, Reader, StreamError, Writer

TAKEN = "There is a variable of this name already."


class Receiving:
    def __init__(
        self,
        namespace: Namespace,
        readinto: Callable[[memoryview], Any],
        back: Optional[Writer] = None,
        names: Optional[Sequence[str]] = None,
        limit: Optional[int] = None,
    ) -> None:
        """``back``: where the sender hears what is wanted once more; None for a file. ``names``: only these; None for all."""
        self._namespace = namespace
        self._reader = Reader(readinto)
        self._back = back
        self._only = None if names is None else set(names)
        self._limit = limit
        self._allowance = Allowance()
        self._again: Dict[str, str] = {}
        """Names of items that could not be loaded as a whole, with the reason."""
        self.result = Result()

    def receive(self) -> None:
        """Returns when all is said. ``StreamError`` ends it; what has arrived by then is there."""
        self._head()
        asked = False
        while True:
            head = self._reader.next()
            if head.kind is Kind.IMPORTS:
                self._imports(self._reader.json())
            elif head.kind is Kind.ITEM:
                self._item(Item(self._reader, self._allowance))
            elif head.kind is Kind.DONE:
                self._reader.skip()
                if self._back is None or not self._again or asked:
                    break
                self._back.json(Kind.WANTED, list(self._again)[:MAX_TOGETHER])
                asked = True
            else:
                raise StreamError(f"{head.kind.name} came where it may not.")
        for name, reason in self._again.items():
            if name not in self.result.done and name not in self.result.failed:
                self.result.fail(name, reason)
        if self._back is not None:
            self._back.json(Kind.RESULT, {"failed": self.result.failures()})

    def _head(self) -> None:
        self._reader.next()
        head = self._reader.json()
        if not isinstance(head, dict) or head.get("version") != VERSION:
            raise StreamError("The other end sends variables in a way that is not known here.")
        size = head.get("bytes")
        if size is None:
            size = self._limit if self._limit is not None else 1 << 62
        if type(size) is not int or size < 0:
            raise StreamError("The other end does not say how much it sends.")
        self._allowance.announced(size, self._limit)

    def _wanted(self, name: str) -> bool:
        return (self._only is None or name in self._only) and self._namespace.may_have(name)

    def _imports(self, entries: Any) -> None:
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not self._wanted(entry["name"]):
                continue
            name, found = entry["name"], Import(str(entry.get("module")), str(entry.get("attribute") or ""))
            try:
                value = found.value()
            except Exception as e:
                self.result.fail(name, why(e))
                continue
            if (
                not self._namespace.has(name)
                or self._namespace.names[name] is value
                or import_of(self._namespace.names[name]) == found
            ):
                self._namespace.names[name] = value
                self.result.imported[name] = None
            else:
                self.result.fail(name, TAKEN)

    def _item(self, item: Item) -> None:
        wanted = [name for name in item.names if self._wanted(name)]
        taken = [name for name in wanted if name not in self.result.done and self._namespace.has(name)]
        for name in taken:
            self.result.fail(name, TAKEN)
        wanted = [name for name in wanted if name not in taken]
        if not wanted:
            item.skip()
            return
        try:
            values: List[Any] = item.load(self._namespace)
        except StreamError:
            raise
        except Exception as e:
            reason = why(e)
            del e
            item.skip()
            if not item.abandoned:
                self._failed(item.names, wanted, reason)
            return
        for name, value in zip(item.names, values):
            if name in wanted:
                self._make(name, value)
        self.result.bytes += item.bytes

    def _failed(self, names: List[str], wanted: List[str], reason: str) -> None:
        for name in wanted:
            if len(names) > 1:
                self._again[name] = reason
            else:
                self.result.fail(name, reason)

    def _make(self, name: str, value: Any) -> None:
        self._namespace.names[name] = value
        self.result.succeed(name)
