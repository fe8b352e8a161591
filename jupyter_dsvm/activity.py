"""The activity of kernels behind a proxy, for jupyter_server: state and time of each in ``/api/kernels``, and for cullers.

jupyter_server's own way is a subscription per kernel whose every message is read once more on the server's loop, which was half of
the server's CPU time when a cell puts out much. ``ActivityWatcher`` takes the place of that one method of the kernel
manager, ``start_watching_activity``; the rules are jupyter_server's own (``record_activity`` there). A kernel without
a proxy is watched as jupyter_server does it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from logging import Logger, LoggerAdapter
from typing import TYPE_CHECKING, Any

from .kernels.activity import Watch

if TYPE_CHECKING:
    from .kernels.activity import Activity

METHOD = "start_watching_activity"

LOOK_SECONDS = 1.0
"""While a kernel says something other than a status, the time of that is brought up to date so often. Cullers count minutes."""


class ActivityWatcher:
    """One server's. The extension calls ``install`` while it is loaded, before there are kernels, and ``uninstall`` at the end."""

    def __init__(self, manager: Any, log: Logger | LoggerAdapter[Logger]) -> None:
        """``manager`` is the server's kernel manager."""
        self._manager = manager
        self._log = log
        self._installed = False

    def install(self) -> None:
        """Leaves alone a manager that watches in a way of its own: it may want more of each message."""
        from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

        own = getattr(type(self._manager), METHOD, None)
        if own is not MappingKernelManager.start_watching_activity or METHOD in vars(self._manager):
            self._log.debug("The activity of kernels is watched by %s.", type(self._manager).__name__)
            return
        setattr(self._manager, METHOD, self._start)
        self._installed = True

    def uninstall(self) -> None:
        """Kernels that are watched go on to be, until they end."""
        if self._installed:
            delattr(self._manager, METHOD)
            self._installed = False

    def _start(self, kernel_id: str) -> None:
        """As ``MappingKernelManager.start_watching_activity``, which is called when a kernel has started. A restart changes
        nothing, since the front stays."""
        manager = self._manager
        kernel = manager.get_kernel(kernel_id)
        proxy = getattr(getattr(kernel, "provisioner", None), "proxy", None)
        if proxy is None:
            type(manager).start_watching_activity(manager, kernel_id)
            return
        kernel.reason = ""
        kernel.last_activity = datetime.now(timezone.utc)
        kernel._activity_stream = KernelActivity(manager, kernel, proxy.activity)


class KernelActivity:
    """What one kernel's manager shows of its activity. ``stop_watching_activity`` takes it for a ``ZMQStream``, and closes it."""

    def __init__(self, manager: Any, kernel: Any, activity: Activity) -> None:
        self._manager = manager
        self._kernel = kernel
        self._activity = activity
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watch = activity.watch = Watch(manager.track_message_type, self._wake)
        self.closed = False

    @property
    def socket(self) -> KernelActivity:
        return self

    def close(self) -> None:
        self.closed = True
        if self._activity.watch is self._watch:
            self._activity.watch = None
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        """On the I/O thread."""
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            pass  # the loop was closed: the server has ended

    def _look(self) -> None:
        if self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        watch, kernel, manager = self._watch, self._kernel, self._manager
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look) if watch.news() else None
        while watch.statuses:
            status = watch.statuses.popleft()
            if kernel.execution_state == "busy":
                self._active(status.time)
            if manager.track_message_type(status.parent_type):
                kernel.execution_state = status.execution_state
            elif kernel.execution_state == "starting" and status.execution_state != "starting":
                kernel.execution_state = "idle"
        self._active(watch.tracked)
        if kernel.execution_state == "busy":
            self._active(watch.untracked)

    def _active(self, seconds: float) -> None:
        when = datetime.fromtimestamp(seconds, timezone.utc)
        if when > self._kernel.last_activity:
            self._kernel.last_activity = when
            self._manager.last_kernel_activity = max(when, self._manager.last_kernel_activity)
