"""One look at the cloud for everybody: what is listed and what is asked of single VMs, however many users ask.

A listing is at most one every ``listing_seconds``, and a look at a VM itself at most one every ``look_seconds``; whoever asks in
between gets what was heard last. Several who ask for the same at a time share one question, and all looks together are at most
``looks_per_minute``: beyond that the list has to do. So the number of requests follows neither from the number of users nor
from that of VMs. ``computes.Computes`` has the rows; this says when it is to be asked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DSVMError
from ..models import Compute, SSHTarget

if TYPE_CHECKING:
    from ..computes import Computes, Snapshot


class Snapshots:
    """Blocks while the cloud is asked; called on worker threads."""

    def __init__(
        self,
        computes: Computes,
        listing_seconds: float,
        look_seconds: float,
        looks_per_minute: int = 120,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._computes = computes
        self._listing_seconds, self._look_seconds = listing_seconds, look_seconds
        self._looks: deque[float] = deque(maxlen=looks_per_minute)
        """When the last ones were."""
        self._clock = clock
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._asked: dict[str, float] = {}
        self._targets: dict[str, SSHTarget] = {}

    def all(self) -> Snapshot:
        """The list; who comes while it is asked for gets what is known, and waits only for the first one."""
        lock = self._of("")
        if not lock.acquire(blocking=not self._computes.is_listed):
            return self._computes.snapshot(refresh=False)
        try:
            return self._computes.snapshot(refresh=self._due("", self._listing_seconds))
        finally:
            lock.release()

    def one(self, compute_id: str) -> Compute:
        """One VM. Raises ``UnknownCompute``, and what the cloud says where it was asked."""
        known = self._computes.known(compute_id)
        if known is None:
            self.all()
        with self._of(compute_id):
            if known is None:
                return self._computes.fresh(compute_id)
            if self._due(compute_id, self._look_seconds):
                if self._may_look():
                    return self._computes.fresh(compute_id)
                self.all()
            return self._computes.known(compute_id) or known

    def target(self, compute_id: str) -> SSHTarget:
        """Where it is reached; read anew after it was off, and every ``listing_seconds`` at most."""
        with self._of(f"target {compute_id}"):
            known = self._targets.get(compute_id)
            if known is None or self._due(f"target {compute_id}", self._listing_seconds):
                known = self._targets[compute_id] = self._computes.ssh_target(compute_id)
            return known

    def changed(self, compute_id: str) -> None:
        """We have started or stopped it: its address is another now."""
        self._targets.pop(compute_id, None)

    def quietly(self, compute_id: str) -> Compute | None:
        """``one``, and None where that is not known."""
        try:
            return self.one(compute_id)
        except DSVMError:
            return None

    def _may_look(self) -> bool:
        """And then it is looked at now."""
        with self._lock:
            now = self._clock()
            if len(self._looks) == self._looks.maxlen and now - self._looks[0] < 60.0:
                return False
            self._looks.append(now)
            return True

    def _of(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _due(self, key: str, seconds: float) -> bool:
        """And then it is asked now."""
        now = self._clock()
        if key in self._asked and now - self._asked[key] < seconds:
            return False
        self._asked[key] = now
        return True
