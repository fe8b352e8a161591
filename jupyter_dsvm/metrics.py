"""``GET computes/{id}/metrics``: how much of a compute is in use, for pages that look at it.

Many pages ask, and each compute is asked once in ``KEPT`` seconds at most. A machine that this server has no connection to is not
asked: it is not worth one. Then nothing is known, and so it is when a machine does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .computes import Computes
from .connections import Connections
from .errors import printable
from .models import FREE, GPUUse, Metrics, Usage, utc_now

KEPT = 4.0
"""Seconds for which an answer serves everybody: a page asks every five."""

PATIENCE = 5.0
"""Seconds that a page is kept waiting for a machine."""

GIB = 1024**3
MAX_BYTES = 2**60
MAX_GPUS = 64
MAX_NAME = 100


@dataclass
class _Asked:
    """The last question to one compute."""

    answer: Future[Metrics] = field(default_factory=Future)
    at: float = 0.0


class ComputeMetrics:
    def __init__(
        self, computes: Computes, connections: Connections, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._computes = computes
        self._connections = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked] = {}

    def of(self, compute: str) -> Future[Metrics]:
        """By id or name; blocks where that is not known yet. Raises ``UnknownCompute``. The future is shared: whoever waits for
        it waits for ``PATIENCE`` and does not cancel it."""
        row = self._computes.find(compute)
        with self._lock:
            last = self._asked.get(row.id)
            now = self._clock()
            # One that has not been answered is not repeated, however long ago: it would only queue up there.
            if last is not None and (not last.answer.done() or now < last.at + KEPT):
                return last.answer
            asked = self._asked[row.id] = _Asked(at=now)
        if row.id == FREE:
            self._ask_here(asked)
        else:
            self._ask_there(row.id, asked)
        return asked.answer

    def _ask_here(self, asked: _Asked) -> None:
        try:
            measure: Callable[[], Metrics] | None = getattr(self._computes.provider(FREE), "metrics", None)
            asked.answer.set_result(measure() if measure is not None else unknown(FREE))
        except Exception as e:
            asked.answer.set_exception(e)

    def _ask_there(self, compute: str, asked: _Asked) -> None:
        future = self._connections.ask(compute, "metrics")
        if future is None:
            asked.answer.set_result(unknown(compute))
            return

        def answered(done: Future[Any]) -> None:
            failed = done.cancelled() or done.exception() is not None
            asked.answer.set_result(unknown(compute) if failed else from_machine(compute, done.result()))

        future.add_done_callback(answered)


def unknown(compute: str) -> Metrics:
    return Metrics(compute, utc_now())


def from_machine(compute: str, said: Any) -> Metrics:
    """What ``relay.metrics`` printed there. The machine is not trusted: what makes no sense is not known."""
    value = said if isinstance(said, dict) else {}
    gpus = value.get("gpus")
    return Metrics(
        compute,
        utc_now(),
        cpu=_share(value.get("cpu")),
        memory=_usage(value.get("memory")),
        disk=_usage(value.get("disk")),
        gpus=tuple(_gpu(gpu) for gpu in gpus[:MAX_GPUS] if isinstance(gpu, dict)) if isinstance(gpus, list) else (),
    )


def _gpu(value: dict[str, Any]) -> GPUUse:
    name = printable(str(value.get("name", "")), MAX_NAME) or "GPU"
    return GPUUse(name, _share(value.get("utilization")), _usage(value.get("memory")))


def _share(value: Any) -> float | None:
    number = _number(value)
    return min(1.0, round(number, 3)) if number is not None else None


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    used, total = _number(value[0]), _number(value[1])
    if used is None or not total:
        return None
    return Usage(round(used / GIB, 3), round(total / GIB, 3))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= MAX_BYTES else None  # which NaN is not either
