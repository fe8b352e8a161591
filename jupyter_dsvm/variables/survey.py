"""The dry run: what of a namespace could move, how large it is, what stays behind and why. Nothing is sent and nothing is changed.

Each name is pickled into nothing (``Counter``): its memory is counted and not copied. On the way it is seen which objects
that can change it shares with other names: those travel in one pickle, so that they are shared there too.
"""

from __future__ import annotations

import re
import time
import types
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from .names import Import, Namespace, import_of
from .pickling import Pickler, There
from .reasons import UNMOVABLE, CannotMove, is_plain, type_name, unmovable, why

LOOK_BYTES = 16 * 1024 * 1024
"""Of pickled objects (not of arrays, which are not looked into) after which a name is known well enough."""

_SHARED_SAFELY = frozenset(
    (
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        slice,
        types.BuiltinFunctionType,
        types.CodeType,
        type(Ellipsis),
    )
)
"""Nobody sees whether two names share one of these."""
_IMMUTABLE_MODULES = frozenset(
    ("datetime", "decimal", "fractions", "uuid", "pathlib", "zoneinfo", "re", "ipaddress", "numpy.dtypes")
)
_IMMUTABLE_NAMES = re.compile(
    r"\w*[dD]type|cython_function_or_method|method_descriptor|wrapper_descriptor|NaTType|NAType|generic|Enum"
)


class _Enough(BaseException):
    """The look at a name ends early. Not an ``Exception``: a class's own ``__reduce__`` may catch those."""


class Look:
    """What is known of one name."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.type = type_name(type(value))
        self.imported: Optional[Import] = None
        self.bytes: Optional[int] = None
        self.reason = ""
        self.complete = True
        """False where the look ended early: its size is a lower bound, what it shares is not all known."""
        self.shares: Set[Any] = set()
        """Addresses of what can be shared; valid as long as it is ``kept``, since others may be at them later."""
        self.kept: List[Any] = []
        self.arrays: Dict[int, Tuple[Any, int]] = {}
        """Address of each array: the one whose memory it is, and its bytes."""
        self.note = ""
        """What is not quite the same there."""
        self.modules: Set[str] = set()
        """Packages that its pickle names."""

    @property
    def moves(self) -> bool:
        return not self.reason


class Counter:
    """A ``pickling.Sink`` that only counts."""

    def __init__(self, limit: int) -> None:
        self.pickled = 0
        self.beside = 0
        self._tickets = 0
        self._limit = limit

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.pickled += size
        if self.pickled > self._limit:
            raise _Enough
        return size

    def part(self, about: Dict[str, Any], size: int, memory: Iterator[Any]) -> int:
        self.beside += size
        self._tickets += 1
        return self._tickets


class _Watching(Pickler):
    """Sees every object, with what that costs: about 0.2 µs each."""

    only_counts = True

    def __init__(self, look: Look, counter: Counter, namespace: Namespace, there: There, deadline: float) -> None:
        super().__init__(counter, namespace, there)
        self._look = look
        self._deadline = deadline
        self._seen = 0
        self._safe: Dict[type, bool] = dict.fromkeys(_SHARED_SAFELY, True)

    def saw_array(self, array: Any, root: Any) -> None:
        self._look.kept.append(array)
        self._look.arrays[id(array)] = (root, array.nbytes)

    def shares(self, key: Any) -> None:
        self._look.shares.add(key)

    def note(self, text: str) -> None:
        self._look.note = text

    def persistent_id(self, obj: Any) -> None:
        kind = type(obj)
        safe = self._safe.get(kind)
        if safe is None:
            safe = self._safe[kind] = _is_immutable(kind)
            self._look.modules.add(str(kind.__module__).partition(".")[0])
        if safe:
            return
        self._seen += 1
        if not self._seen & 1023 and time.monotonic() > self._deadline:
            raise _Enough
        if kind is tuple:
            return  # what is in it counts
        if isinstance(obj, type) or (kind is types.FunctionType and obj.__module__ != "__main__"):
            # A class of the notebook is the same one in all pickles: cloudpickle sees to that.
            self._look.modules.add(str(obj.__module__).partition(".")[0])
            return
        if kind is types.ModuleType:
            self._look.modules.add(obj.__name__.partition(".")[0])
            return
        self._look.shares.add(id(obj))
        self._look.kept.append(obj)


def _is_immutable(kind: type) -> bool:
    return kind.__module__ in _IMMUTABLE_MODULES or any(
        _IMMUTABLE_NAMES.fullmatch(base.__name__) is not None for base in kind.__mro__
    )


def look_at(namespace: Namespace, name: str, there: There, deadline: float, limit: int = LOOK_BYTES) -> Look:
    """``deadline``: of ``time.monotonic()``."""
    value = namespace.names[name]
    look = Look(name, value)
    if value is namespace.names:
        look.reason = "It is the notebook's own namespace."
        return look
    look.imported = import_of(value)
    if look.imported is not None:
        root = look.imported.module.partition(".")[0]
        look.bytes = 0
        look.modules.add(root)
        look.reason = f"{root} is not installed there." if there.lacks(root) else ""
        return look
    if is_plain(value):
        look.bytes = len(value) if isinstance(value, (str, bytes)) else 16
        return look
    if time.monotonic() > deadline:
        look.complete = False
        return look
    counter = Counter(limit)
    try:
        _Watching(look, counter, namespace, there, deadline).dump(value)
    except _Enough:
        look.complete = False
    except CannotMove as e:
        look.reason = reason = str(e)
        if unmovable(type(value)) is None and reason in UNMOVABLE.values():
            look.reason = f"Something in it stays: {reason[0].lower()}{reason[1:]}"
        return look
    except Exception as e:
        look.reason = why(e, there="there")
        return look
    look.bytes = counter.pickled + counter.beside
    lacking = sorted(m for m in look.modules if there.lacks(m))
    if lacking:
        look.reason = f"{lacking[0]} is not installed there."
    return look


def roots_of(looks: List[Look]) -> Set[int]:
    """Addresses of the arrays that are sent whole, since others that are sent are views of them: they are sent too, or are most of
    what the views see. Those who have such views then share it, and its bytes count once."""
    seen: Dict[int, Dict[int, int]] = {}
    found: Dict[int, Any] = {}
    for look in looks:
        for address, (root, size) in look.arrays.items():
            seen.setdefault(id(root), {})[address] = size
            found[id(root)] = root
    whole: Set[int] = set()
    for address, arrays in seen.items():
        views = sum(size for array, size in arrays.items() if array != address)
        if views and (address in arrays or (len(arrays) > 1 and views >= found[address].nbytes)):
            whole.add(address)
    counted: Set[int] = set()
    for look in looks:
        for _, (root, size) in look.arrays.items():
            if id(root) in whole:
                look.shares.add(id(root))
                look.bytes = (look.bytes or 0) - size + (0 if id(root) in counted else root.nbytes)
                counted.add(id(root))
    return whole


def grouped(looks: List[Look]) -> List[List[Look]]:
    """Names that share objects, together; in the order in which they were made."""
    leader: Dict[int, int] = {}
    group = list(range(len(looks)))

    def top(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for i, look in enumerate(looks):
        for shared in look.shares:
            first = leader.setdefault(shared, i)
            a, b = top(first), top(i)
            group[max(a, b)] = min(a, b)
    found: Dict[int, List[Look]] = {}
    for i, look in enumerate(looks):
        found.setdefault(top(i), []).append(look)
    return list(found.values())
