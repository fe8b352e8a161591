"""Has the kernels ended that earlier servers, or moves that failed, have left on VMs (``kernels.owed``).

When: as a server starts; after a connection to a VM was opened for something else; and when a backend of this process had to
leave an end to be owed. A VM is never started for it: the pipe of one that is off says so, and then nothing is owed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from .errors import DSVMError
from .kernels.ledger import ledger
from .kernels.owed import OwedEnd

if TYPE_CHECKING:
    from .kernels.ending import Ending
    from .kernels.vmpipe import VMPipe

log = logging.getLogger("jupyter_dsvm.connections")


class Settling:
    def __init__(self, borrow: Callable[[str, str], VMPipe]) -> None:
        """``borrow(compute id, name)`` gives a pipe, retained, that may still be trying to connect. It raises ``DSVMError``."""
        self._borrow = borrow
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._endings: dict[str, tuple[VMPipe, Future[Ending]]] = {}
        self._closed = False
        self._unlisten = ledger.listen(self.soon)

    def soon(self, compute_id: str) -> None:
        """``settle`` on a thread of its own. From any thread; does not block."""
        with self._lock:
            if self._closed:
                return
            thread = threading.Thread(target=self._run, args=(compute_id,), name="jupyter-dsvm-ends", daemon=True)
            try:
                thread.start()
            except RuntimeError as e:  # no room for a thread; a backend that calls this is in the midst of its end
                log.warning("Kernels that were left on VMs are not ended now: %s", e)
            else:
                self._threads.add(thread)  # which waits for the lock before it takes itself out

    def _run(self, compute_id: str) -> None:
        try:
            self.settle(compute_id)
        except Exception:
            log.exception("kernels that were left on %s could not be ended", compute_id)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def settle(self, compute_id: str | None = None) -> None:
        """Begin to end what is owed on that compute, or everywhere. Blocks for files and imports, and waits for no VM."""
        ends = ledger.claim(compute_id)
        while ends:
            end = ends.pop()
            try:
                self._begin(end)
            except DSVMError as e:
                log.info("A kernel that was left on %s is not ended now: %s", end.compute_name, e)
                ledger.leave(end.tag, settled=False)
            except BaseException:
                for left in (end, *ends):  # nobody could claim them for as long as this process lives
                    ledger.leave(left.tag, settled=False)
                raise

    def _begin(self, end: OwedEnd) -> None:
        from .kernels.ending import Ending  # late, as all that only a connection needs

        pipe = self._borrow(end.compute, end.compute_name)
        with self._lock:
            closed = self._closed
            if not closed:
                begun = pipe.io.call(Ending, pipe, end, lambda settled: self._over(end, settled))
                self._endings[end.tag] = pipe, begun
        if closed:
            pipe.release()
            ledger.leave(end.tag, settled=False)

    def _over(self, end: OwedEnd, settled: bool) -> None:
        with self._lock:
            self._endings.pop(end.tag, None)
        ledger.leave(end.tag, settled)
        if settled:
            log.info("A kernel that nobody used any more has ended on %s.", end.compute_name)
        elif not self._closed:
            log.warning(
                "A kernel that nobody uses any more could not be ended on %s. It is tried again when a notebook is attached "
                "there, or a server starts.",
                end.compute_name,
            )

    def close(self) -> None:
        """Begin nothing more; ends that are under way go on until their pipes are closed. Blocks for a moment."""
        self._unlisten()
        with self._lock:
            self._closed = True
            threads, endings = list(self._threads), list(self._endings.values())
        for thread in threads:
            thread.join()
        for pipe, begun in endings:
            pipe.io.call_soon(lambda b=begun: b.result().give_up())
