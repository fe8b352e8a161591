"""The dead man's switch of every VM that is watched here: Azure's own schedule is set ahead while the VM is used.

``idlewatch`` calls ``push`` on attach and every few minutes, ``off`` is called once a VM is off, ``before_start`` before one is
started. The rules are ``compute.azure.schedules``'; which machine has such a schedule its provider knows (``safety``). Whatever
fails is a sentence that begins with "No safety stop", and fails nothing else. Everything here blocks, on worker threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import DSVMError, printable
from .models import Compute, ComputeKind, SafetyStopRecord, utc_at

if TYPE_CHECKING:
    from .computes import Computes

log = logging.getLogger("jupyter_dsvm.idle")

EVERY = 600.0
"""Seconds between two looks at the schedule of a VM that is used: it is moved on when two hours are left."""

CHECK_SECONDS = 5.0
"""For the questions before a start, which is not held up longer."""

CHECKED_SECONDS = 3600.0
"""For which an answer that all is well holds."""

OFF_SECONDS = 10.0
"""How long the end of the service waits for schedules that are just being disabled."""

LONGEST_TEXT = 500


@dataclass(frozen=True)
class Known:
    """What was found, and when by the watch's clock."""

    record: SafetyStopRecord
    left: float | None
    """Seconds from then until Azure stops the VM."""
    at: float


class SafetyStops:
    def __init__(
        self,
        computes: Computes,
        enabled: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._computes = computes
        self._enabled = enabled
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._checked: dict[str, float] = {}
        self._ending: set[threading.Thread] = set()
        self._closed = False

    def known(self, compute_id: str) -> Known | None:
        """Asks nobody."""
        return self._known.get(compute_id)

    def is_due(self, compute_id: str) -> bool:
        known = self._known.get(compute_id)
        return known is None or self._clock() - known.at >= EVERY

    def push(self, compute_id: str, least: float = 0.0, idle: float = 0.0) -> Known | None:
        """The VM is used: set the schedule ahead, for ``least`` seconds at least. None where it has none. ``idle``: where several
        people share it (``IdleRule``), the seconds for which nothing of ours has gone on."""
        from .compute.azure.schedules import Use

        return self._keep(compute_id, Use.USED, least, {"idle": idle} if idle else {})

    def look(self, compute_id: str) -> Known | None:
        """Only read it: the VM is none of ours to stop."""
        from .compute.azure.schedules import Use

        return self._keep(compute_id, Use.IDLE)

    def off(self, compute_id: str) -> None:
        """The VM is off, or is not ours to stop any more: disable ours, which would come again tomorrow. On a thread of its own,
        since whoever has stopped it shall not wait; the service's end does."""
        if not self._has(compute_id):
            return
        thread = threading.Thread(target=self._off, args=(compute_id,), name="jupyter-dsvm-safety-stop", daemon=True)
        with self._lock:
            self._known.pop(compute_id, None)
            if self._closed:
                return
            thread.start()
            self._ending.add(thread)  # which waits for the lock before it takes itself out

    def _off(self, compute_id: str) -> None:
        from .compute.azure.schedules import Use

        try:
            self._keep(compute_id, Use.OFF)
            with self._lock:
                self._known.pop(compute_id, None)
        finally:
            with self._lock:
                self._ending.discard(threading.current_thread())

    def before_start(self, row: Compute | None) -> str:
        """ "" or a sentence: that VM could have no safety stop, and why. Waits for ``CHECK_SECONDS`` at most; raises nothing."""
        if row is None or row.kind is not ComputeKind.DSVM:
            return ""
        checked = self._checked.get(row.id)
        if checked is not None and self._clock() - checked < CHECKED_SECONDS:
            return ""
        if self._closed or not self._has(row.id):
            return ""
        asked: Future[str] = Future()
        threading.Thread(
            target=lambda: asked.set_result(self._check(row.id)), name="jupyter-dsvm-safety-check", daemon=True
        ).start()
        try:
            return asked.result(CHECK_SECONDS)
        except FutureTimeout:
            return ""

    def _check(self, compute_id: str) -> str:
        try:
            self._schedule(compute_id).check()
            self._checked[compute_id] = self._clock()
        except DSVMError as e:
            if e.code in ("MissingSubscriptionRegistration", "AuthorizationFailed"):
                return f"No safety stop: {e}"
            log.debug("Whether %s can have a safety stop is not known: %s", compute_id, e)
        except Exception:
            log.exception("whether %s can have a safety stop is not known", compute_id)
        return ""

    def _has(self, compute_id: str) -> bool:
        """Whether such a machine has a schedule at all."""
        try:
            return self._enabled() and hasattr(self._computes.provider(compute_id), "safety")
        except DSVMError:
            return False

    def _schedule(self, compute_id: str) -> Any:
        """Blocks where the provider has to list its machines first."""
        return getattr(self._computes.provider(compute_id), "safety")(compute_id)  # noqa: B009 - some providers have none

    def _keep(
        self, compute_id: str, use: Any, least: float = 0.0, more: Mapping[str, float] = MappingProxyType({})
    ) -> Known | None:
        if not self._has(compute_id):
            return None
        try:
            found = self._schedule(compute_id).keep(use, least=timedelta(seconds=least) if least > 0 else None, **more)
            advice = f" {found.error.advice}" if found.error is not None and found.error.advice else ""
            at = utc_at(found.at.timestamp()) if found.at is not None else None
            record = SafetyStopRecord(found.kind.value, found.text + advice, at, found.averted)
            left = found.left.total_seconds() if found.left is not None else None
        except DSVMError as e:
            record, left = SafetyStopRecord("none", f"No safety stop: {e}"), None
        except Exception as e:
            log.exception("the safety stop of %s could not be set", compute_id)
            record, left = SafetyStopRecord("none", f"No safety stop: {type(e).__name__}: {e}."), None
        text = printable(record.text, LONGEST_TEXT)
        known = Known(SafetyStopRecord(record.kind, text, record.at, record.averted), left, self._clock())
        with self._lock:
            before = self._known.get(compute_id)
            self._known[compute_id] = known
        if known.record.kind == "none" and (before is None or before.record.text != text):
            log.info("%s: %s", self._computes.name(compute_id), text)
        return known

    def close(self) -> None:
        """Blocks while schedules are being disabled, for ``OFF_SECONDS`` at most."""
        with self._lock:
            self._closed = True
            ending = list(self._ending)
        deadline = time.monotonic() + OFF_SECONDS
        for thread in ending:
            thread.join(max(0.0, deadline - time.monotonic()))
