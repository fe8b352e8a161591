"""The syncs of workspaces that are due: when each begins, on which thread, and what follows it.

A part of ``workspaces``, which says what is wanted (``ask``). One agenda looks at the clock (``travelling``), a few threads do the
work, and one sync of a folder runs at a time. When the server stops nothing is copied any more (``leave``, ``close``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .errors import Cancelled, DSVMError
from .space import Space, done_words, stopped_because
from .travelling import Agenda

if TYPE_CHECKING:
    from .service import DSVMService

log = logging.getLogger("jupyter_dsvm.workspaces")

WORKERS = 4
EVENT_SECONDS = 0.2
"""Between two events about workspaces, at least."""
IDLE_SECONDS = 60.0
"""After which the process on a VM that serves a folder, and its SSH session, are given up until the next sync."""
AGAIN_SECONDS = 30.0
"""After which a sync that could not reach the VM is tried again, although nothing has said that it is back."""
FINISH_SECONDS = 20.0
"""Without progress, after which a last pull is given up when a process without a server ends."""


class DueSyncs:
    """But for ``close`` nothing here blocks, and all of it may be called from any thread."""

    def __init__(
        self,
        service: DSVMService,
        spaces: dict[str, Space],
        lock: threading.RLock,
        expected: Callable[[Space], bool],
        clock: Callable[[], float],
    ) -> None:
        """``spaces``: those of ``workspaces``, under its ``lock``; one that nobody needs any more is taken out here. ``expected``:
        a kernel is on its way to that one."""
        self._service = service
        self._spaces = spaces
        self._lock = lock
        self._expected = expected
        self._clock = clock
        self.cancel = threading.Event()
        """Set when what is under way is to end."""
        self._left = self._closing = self._closed = False
        self._agenda = Agenda(clock)
        self._pool: ThreadPoolExecutor | None = None
        self._todo: dict[str, Callable[[], object]] = {}
        self._one_at_a_time = threading.Lock()
        self._told_at = 0.0

    @property
    def over(self) -> bool:
        """The server stops: nothing more is due, and what kernels become from here on is no news."""
        return self._left or self._closing

    def ask(self, space: Space, direction: str) -> None:
        """``direction``: a value of ``sync.plan.Direction``."""
        with self._lock:
            if self.over:
                return
            space.due.ask(direction, self._clock())
            self.look_after(space)

    def look_after(self, space: Space) -> None:
        """What comes next for it: a sync, the end, or rest. Any thread; does not block."""
        with self._lock:
            at = space.due.at
            if at is not None:
                self._agenda.at(space.id, at, lambda: self._begin(space))
            elif not space.needed and not space.running and not space.busy and not self._expected(space):
                self._spaces.pop(space.id, None)
                self._agenda.drop(space.id)
                space.close()
                self.touch(space.id)
            else:
                self._agenda.at(space.id, space.used + IDLE_SECONDS, lambda: self._rest(space))

    @staticmethod
    def _rest(space: Space) -> None:
        if not space.running:
            space.close()

    def _begin(self, space: Space) -> None:
        """On the agenda's thread: its time has come."""
        with self._lock:
            if space.busy or self._closing:
                return  # its end looks again
            if not self._service.connections.stands(space.place.compute):
                if not space.away:
                    space.away = True
                    self.touch(space.id)
                if not space.needed and any(each.unsure for each in space.left.values()):
                    space.not_back(f"The last files have not come back from {space.name}: it is out of reach.")
                if space.needed:
                    self._agenda.at(space.id, self._clock() + AGAIN_SECONDS, lambda: self._begin(space))
                else:
                    space.due.take()
                    self.look_after(space)
                return
            direction = space.due.take()
            if direction is None:
                return
            if not space.kernels:
                direction = "pull"  # nobody is there who could use what is here
            space.busy = True
            self._submit(lambda: self._sync_due(space, direction))

    def _sync_due(self, space: Space, direction: str) -> None:
        try:
            if self.cancel.is_set():
                return
            synced = space.run(direction, lambda progress: None, self.cancel)
            if synced.pulled or synced.deleted:
                self.tell_others(space)
            stopped = stopped_because(synced, space.name)
            if stopped is not None or synced.problems:
                self._missed(space, stopped.message if stopped is not None else done_words(synced, space.name))
        except Cancelled:
            log.info("Copying the files of %s was cancelled.", space.place.folder)
        except DSVMError as e:
            log.info("The files of %s: %s", space.place.folder, e)
            self._missed(space, str(e))
            if space.away and space.needed:
                space.due.ask(direction, self._clock(), AGAIN_SECONDS)
        except Exception as e:
            log.exception("copying the files of %s failed", space.place.folder)
            self._missed(space, f"{type(e).__name__}: {e}.")
        finally:
            space.busy = False
            self.look_after(space)

    def _missed(self, space: Space, why: str) -> None:
        """As long as a kernel is there, the next sync tries again; afterwards whoever has left is told."""
        if not space.kernels:
            log.warning("Not everything came back from %s: %s", space.name, why)
            space.not_back(f"Not everything came back from {space.name}: {why}")

    def tell_others(self, space: Space) -> None:
        """What came from one VM goes to another one that has the same folder."""
        with self._lock:
            for other in list(self._spaces.values()):
                if other is not space and other.kernels and other.place.folder == space.place.folder:
                    self.ask(other, "push")

    def touch(self, workspace_id: str | None) -> None:
        """It can be seen from outside that something has changed. Any thread; does not block."""
        now = self._clock()
        when = max(now, self._told_at + EVENT_SECONDS)

        def tell() -> None:
            self._told_at = self._clock()
            self._service.workspaces_changed(workspace_id)

        self._agenda.at("changed", when, tell)

    def _submit(self, work: Callable[[], object]) -> Future[object] | None:
        with self._lock:
            if self._closed:
                return None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="jupyter-dsvm-files")
            return self._pool.submit(work)

    def later(self, key: str, work: Callable[[], object]) -> None:
        """Have a worker thread do what blocks for files, also if this is about to close. The last of one ``key`` counts."""
        with self._lock:
            self._todo[key] = work
            self._submit(lambda: self._do(key))

    def _do(self, key: str) -> None:
        with self._one_at_a_time:
            with self._lock:
                work = self._todo.pop(key, None)
            try:
                if work is not None:
                    work()
            except Exception:
                log.exception("what a workspace needs to remember could not be written or read")

    def leave(self) -> None:
        """The server stops and leaves its kernels: what they become from here on is no news. Does not block."""
        with self._lock:
            self._left = True

    def close(self) -> None:
        """Ends what is under way. Where no server leaves kernels behind (nbclient), what they have written at their end comes here
        first. Called once."""
        with self._lock:
            self._closing = True
            last = [] if self._left else [s for s in self._spaces.values() if s.due.at is not None or s.busy]
        self._finish(last)
        self.cancel.set()
        self._agenda.close()
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def _finish(self, spaces: list[Space]) -> None:
        moved = time.monotonic()
        seen: dict[str, object] = {}
        for space in spaces:
            if space.busy:
                continue
            direction = space.due.take()
            if direction is not None and self._service.connections.stands(space.place.compute):
                space.busy = True
                self._submit(lambda space=space, direction=direction: self._sync_due(space, direction))  # type: ignore[misc]
        while any(space.busy for space in spaces) and time.monotonic() < moved + FINISH_SECONDS:
            for space in spaces:
                if seen.get(space.id) != space.progress:
                    seen[space.id], moved = space.progress, time.monotonic()
            time.sleep(0.02)
