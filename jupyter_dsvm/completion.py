"""What may come next in a line of ``%dsvm``: verbs, options, names of machines, kernelspecs, sizes.

``calls`` answers a kernel's ``complete`` with it. A person waits for it with a finger on Tab, so it says what is known and never
waits for a cloud or a machine: what is not known is asked for behind the caller's back, and is there the next time.
"""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .compute.naming import shortest_names
from .models import FREE, OS, Compute, ComputeKind, PowerState
from .verbs import MAX_LINE, VERBS, Verb

if TYPE_CHECKING:
    from .computes import Computes
    from .connections import Connections

log = logging.getLogger("jupyter_dsvm.completion")

MOST = 200
"""Matches of one answer."""

PATIENCE = 0.3
"""Seconds that an answer waits for what is just being asked for; the magic waits for half a second in all."""

SIZES_SECONDS = 300.0

NOT_WHEN = {
    "start": {PowerState.RUNNING, PowerState.STARTING},
    "stop": {PowerState.DEALLOCATED},
    "restart": {PowerState.DEALLOCATED, PowerState.STOPPED},
}
"""Machines that a verb has nothing to do for. Offered all the same where no other has such a name: what is known may be old."""


WORDS: dict[str, Sequence[str]] = {"[HOURS]": ("1", "2", "4", "8"), "MINUTES|off": ("15", "30", "60", "120", "off")}
"""For arguments that are numbers: the usual ones."""


class Completion:
    """One service's. Thread-safe."""

    def __init__(
        self,
        known: Computes,
        connections: Connections,
        background: Callable[[Callable[[], object]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``background`` runs a function on a worker thread, or raises ``RuntimeError`` when there is none any more."""
        self._known = known
        self._connections = connections
        self._background = background
        self._clock = clock
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Event] = {}
        self._sizes: dict[str, tuple[float, list[str]]] = {}

    def matches(self, line: str, from_vm: bool, left_there: Sequence[str] = ()) -> list[str]:
        """Words that may stand in the place of the last one of ``line``, which is what precedes the cursor, without ``%dsvm``.
        ``left_there``: files that a sync of this notebook's folder has left on the machine."""
        if len(line) > MAX_LINE or "\n" in line:
            return []
        words = line.split()
        token = words.pop() if line[-1:].strip() else ""
        offered = self._offered(words, token, from_vm, left_there)
        lower = token.casefold()
        return [word for word in offered if word.casefold().startswith(lower)][:MOST]

    def _offered(self, words: list[str], token: str, from_vm: bool, left_there: Sequence[str]) -> Sequence[str]:
        verbs = [v.name for v in VERBS.values() if v.from_vm or not from_vm]
        if not words or (words[0] == "help" and len(words) == 1):
            return verbs
        if words[0] not in verbs:
            return []
        verb, rest = VERBS[words[0]], words[1:]
        options = [o for o in verb.options if o.from_vm or not from_vm]
        valued = {o.name for o in options if o.value}
        places = [w for i, w in enumerate(rest) if not w.startswith("-") and (i == 0 or rest[i - 1] not in valued)]
        if rest and rest[-1] in valued:
            if rest[-1] == "--fetch":
                return [shlex.quote(path) for path in left_there if path not in rest]
            return self._kernelspecs(places) if rest[-1] == "--kernel" else []
        if token.startswith("-") or len(places) >= len(verb.arguments):
            return [o.name for o in options if o.many or o.name not in rest]
        if verb.arguments[len(places)] == "NAME":
            return self._names(verb, token)
        known = WORDS.get(verb.arguments[len(places)])
        return known if known is not None else self._size_names(places[0])

    # What is known

    def _names(self, verb: Verb, token: str) -> list[str]:
        rows = self._rows()
        named = {name: row for name, row in zip(shortest_names(rows), rows, strict=True) if row.id != FREE}
        fit = [name for name, row in named.items() if self._fits(verb.name, row)]
        if any(name.casefold().startswith(token.casefold()) for name in fit):
            return fit
        return list(named)

    @staticmethod
    def _fits(verb: str, row: Compute) -> bool:
        if verb == "attach":
            return row.os is not OS.WINDOWS
        return row.kind is ComputeKind.DSVM and row.power_state not in NOT_WHEN.get(verb, ())

    def _rows(self) -> tuple[Compute, ...]:
        if not self._known.is_listed:
            self._ask("computes", self._known.snapshot)
        return self._known.last()

    def _row(self, name: str) -> Compute | None:
        rows = self._rows()
        wanted = name.casefold()
        named = zip(shortest_names(rows), rows, strict=True)
        return next((r for n, r in named if wanted in (r.name.casefold(), n.casefold(), r.id.casefold())), None)

    def _kernelspecs(self, places: list[str]) -> list[str]:
        """Of a machine that is connected to; nobody is connected to for this."""
        row = self._row(places[0]) if places else None
        return self._connections.known_kernelspecs(row.id) if row is not None else []

    def _size_names(self, name: str) -> list[str]:
        row = self._row(name)
        if row is None or row.kind is not ComputeKind.DSVM:
            return []
        with self._lock:
            at, names = self._sizes.get(row.id, (float("-inf"), []))
        if self._clock() - at > SIZES_SECONDS:
            self._ask(f"sizes {row.id}", lambda: self._learn_sizes(row.id))
            with self._lock:
                names = self._sizes.get(row.id, (0.0, names))[1]
        return names

    def _learn_sizes(self, compute: str) -> None:
        offers, _ = self._known.sizes(compute)
        names = [o.size.name.removeprefix("Standard_") for o in offers if o.available and not o.current]
        with self._lock:
            self._sizes[compute] = (self._clock(), names)

    def _ask(self, what: str, function: Callable[[], object]) -> None:
        """Have it asked for, once at a time, and wait for a moment."""
        with self._lock:
            answered = self._asking.get(what)
            begin = answered is None
            if answered is None:
                answered = self._asking[what] = threading.Event()

        def ask() -> None:
            try:
                function()
            except Exception as e:
                log.debug("Nothing to complete with: %s", e)  # whoever runs the line is told
            finally:
                with self._lock:
                    del self._asking[what]
                answered.set()

        if begin:
            try:
                self._background(ask)
            except RuntimeError:  # the server is stopping
                with self._lock:
                    del self._asking[what]
                return
        answered.wait(PATIENCE)
