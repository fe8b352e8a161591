"""Starts that wait for their turn, and worker threads for those whose turn it is. ``startqueue`` has the rules.

What waits holds no thread. Where the broker is killed, what waited is in its state as ``queued``, and is asked for again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..errors import Cancelled
from .startqueue import StartQueue

if TYPE_CHECKING:
    from ..operations import Running

log = logging.getLogger("jupyter_dsvm.hub")

STEP = "queue"


class Starts:
    def __init__(self, limit: int) -> None:
        self._lock = threading.RLock()
        """Held until everybody who waits has been told: of two who tell, the later one would tell an older place, or one to
        somebody whose turn has come meanwhile."""
        self._queue = StartQueue(limit)
        self._work: dict[str, tuple[Running, Callable[[], object]]] = {}
        self._workers = ThreadPoolExecutor(limit, thread_name_prefix="jupyter-dsvm-start")
        self._closed = False

    def begin(self, running: Running, work: Callable[[], object]) -> None:
        """Do ``work``, which ends ``running``, when its turn has come. Does not block."""
        with self._lock:
            self._work[running.id] = running, work
            if self._queue.enter(running.id):
                self._submit([running.id])
            else:
                running.insert(STEP, "Waiting for its turn")
                running.on_cancel = lambda reason: self._give_up(running, reason)
                self._tell()

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._queue.waiting)

    def leave(self) -> None:
        """What waits is left to the next broker: nobody's turn comes any more. Before what is under way is cancelled, whose end
        would be somebody's turn."""
        with self._lock:
            self._closed = True

    def close(self) -> None:
        """After ``leave``. Blocks until what is under way has noticed that it was cancelled."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _submit(self, ids: list[str]) -> None:
        """With the lock."""
        for one in ids:
            running, work = self._work[one]
            running.on_cancel = None
            try:
                self._workers.submit(self._run, running, work)
            except RuntimeError:
                return  # the broker is stopping

    def _run(self, running: Running, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as e:
            log.info("%s: %s", running.value.kind, e)
        finally:
            self._leave(running.id)

    def _leave(self, one: str) -> None:
        with self._lock:
            self._work.pop(one, None)
            turn = list(self._queue.leave(one))
            if not self._closed:
                self._submit(turn)
                self._tell()

    def _give_up(self, running: Running, reason: str) -> None:
        if not self._closed:
            running.cancelled(Cancelled(f"{reason} It was still waiting for its turn; nothing was started."))
            self._leave(running.id)

    def _tell(self) -> None:
        """Their place, to whoever waits and has not heard of it (``StartQueue.news``). With the lock."""
        for one, place in self._queue.news():
            self._work[one][0].report(f"Waiting for its turn: place {place}")
