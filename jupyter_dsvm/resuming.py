"""Goes on with the changes of machines that an earlier server had begun (``keptchanges``): a part of ``DSVMService``.

Their operations are there from the moment that the server loads, so that a page which comes back finds what it followed. The work
begins once the server runs. One thread asks whether the cloud can be asked at all: where nobody is signed in yet it waits for
that, however long, and a cloud that does not answer gets some time. Then each change goes on a worker thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .errors import ComputeError, DSVMError, Forbidden, SignInRequired, UnknownCompute

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .keptchanges import KeptChanges
    from .operations import Running

log = logging.getLogger("jupyter_dsvm.changes")

RETRY_SECONDS = 15.0
"""Between two looks whether somebody has signed in; a sign-in of ours is heard of at once."""

PATIENCE = 120.0
"""Seconds for a cloud that does not answer, as while this machine's network comes up. Then the change itself says so."""


CLOSE_SECONDS = 5.0
"""For a question to the cloud that is under way as the service closes."""


class Resuming:
    def __init__(
        self,
        kept: KeptChanges,
        changes: Changes,
        computes: Computes,
        spawn: Callable[[Running, Callable[[], object]], None],
    ) -> None:
        """``spawn`` does work on a worker thread; it raises ``RuntimeError`` when the service is closing."""
        self._kept, self._changes, self._computes, self._spawn = kept, changes, computes, spawn
        self._waiting: Sequence[Running] = ()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def claim(self) -> None:
        """Take over what nobody works on. Blocks for small files; the extension calls it while it loads."""
        self._waiting = self._changes.adopt(self._kept.claim())
        for running in self._waiting:
            running.on_cancel = lambda reason: self._wake.set()

    def go_on(self) -> None:
        """With what was claimed. Does not block."""
        if self._waiting and self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-resume", daemon=True)
            self._thread.start()

    def account_changed(self) -> None:
        """Somebody has signed in, or out. Does not block."""
        self._wake.set()

    def close(self) -> None:
        """What still waits is left for the next server."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._waiting and not self._closed:
            self._wake.clear()
            self._waiting = [r for r in self._waiting if not self._begun(r, time.monotonic() > deadline)]
            if self._waiting:
                self._wake.wait(RETRY_SECONDS)

    def _begun(self, running: Running, late: bool) -> bool:
        try:
            if not self._closed and (running.cancel.is_set() or self._ready(running, late)):
                self._spawn(running, lambda: self._changes.resume(running))
                return True
        except RuntimeError:  # no worker takes anything on any more
            self._closed = True
        except Exception:
            log.exception("whether %s can be gone on with is not known", running.value.kind)
        return False

    def _ready(self, running: Running, late: bool) -> bool:
        compute = running.value.compute
        try:
            if compute is not None:
                self._computes.fresh(compute)
            else:  # one that is only being made
                for provider in self._computes.providers:
                    if hasattr(provider, "sign_in"):
                        provider.list()
        except SignInRequired:
            running.report("Waiting until somebody signs in to Azure, to go on with what an earlier server began")
            return False
        except (UnknownCompute, Forbidden):
            return True  # that is an answer
        except ComputeError as e:
            running.report(f"Waiting for an answer, to go on with what an earlier server began: {e.message}")
            return late
        except DSVMError:
            return True
        return True
