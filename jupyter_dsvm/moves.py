"""Attach and detach: from "this notebook, that machine" to a change of backend that is queued.

Everything slow (start the machine, connect, start the kernel there, wait until it answers) happens before the proxy is
asked to change anything, so a failure anywhere leaves the notebook on the kernel it had. The steps, in order::

    start     only where the machine is off, and the caller may start it
    boot      after that: until its SSH server greets
    connect   the VM's pipe, shared by all kernels there
    files     the notebook's folder; back from the VM that it runs on now, if any (``trips``)
    kernel    choose the kernelspec, start the kernel, wait until it has answered
    wait      the proxy changes over once nothing of the user's runs
    variables where they go along: then they do (``carryjob``), and after that it changes over

``Moves.run`` blocks until the change is queued; the operation ends when the proxy reports it done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .arrivals import Arrivals, MayStart
from .carrywords import stayed
from .compute.provider import Cancel
from .computes import OFF, Computes
from .errors import Cancelled, DSVMError, KernelStartError, OperationRefused
from .models import FREE, OS, Compute, PowerState, StepState
from .operations import OperationStore, Running
from .tables import place
from .trips import Trip, Trips
from .workspaces import reporting

if TYPE_CHECKING:
    from .carryjob import CarryJob
    from .kernels.backends import Backend
    from .spending import Spending

log = logging.getLogger("jupyter_dsvm.moves")

POLL_SECONDS = 0.1
"""How often a wait for the kernel looks at its cancel."""

CALL_OFF_SECONDS = 10.0
"""How long the I/O thread may take to drop a change that waits."""

T = TypeVar("T")


class Moves:
    def __init__(
        self,
        operations: OperationStore,
        computes: Computes,
        there: Arrivals,
        start_timeout: Callable[[], float],
        changed: Callable[[str], None],
        trips: Trips,
        spending: Spending,
    ) -> None:
        """``changed`` is called with a kernel's id when where it is moving to has changed."""
        self._operations = operations
        self._computes = computes
        self._there = there
        self._start_timeout = start_timeout
        self._changed = changed
        self._trips = trips
        self._spending = spending
        self._lock = threading.Lock()
        self._latest: dict[str, Running] = {}
        """The newest move of each kernel; it decides what ``Proxy.moving`` says."""
        self._preparing: dict[str, Running] = {}

    def begin(
        self,
        proxy: Any,
        compute: Compute,
        cancel: Cancel | None = None,
        operations: OperationStore | None = None,
        carry: bool = False,
    ) -> Running:
        """The operation, with its steps announced. ``run`` does the work. A move of the same kernel that is still being
        prepared is cancelled: the last one counts. One that only waits for its cell keeps its place until ``run`` has
        queued this one. ``operations``: another list than everybody's, for what nobody has to follow. ``carry``: variables go
        along, with the job that ``run`` is given."""
        if compute.os is OS.WINDOWS:
            raise OperationRefused(
                f"{compute.name} runs Windows, and notebooks cannot run there yet.",
                advice="Choose a Linux machine; starting and stopping this one works.",
                code="WindowsNotSupported",
            )
        steps: list[tuple[str, str]] = []
        if compute.id != FREE:
            if compute.power_state in OFF or compute.power_state is PowerState.STARTING:
                steps += [("start", f"Start {compute.name}"), ("boot", f"{compute.name} boots")]
            steps.append(("connect", f"Connect to {compute.name}"))
        steps += self._trips.steps(proxy, compute)
        where = place(compute.id, compute.name)
        steps.append(("kernel", f"Start the kernel on {where}"))
        if carry:
            steps += [("wait", "Wait for what is running"), ("variables", "Carry variables, then change over")]
        else:
            steps.append(("wait", "Wait for what is running, then change over"))
        running = (operations or self._operations).begin(
            "detach" if compute.id == FREE else "attach",
            compute=compute.id,
            kernel=proxy.kernel_id,
            steps=steps,
            cancel=cancel,
        )
        with self._lock:
            earlier = self._preparing.get(proxy.kernel_id)
            self._preparing[proxy.kernel_id] = self._latest[proxy.kernel_id] = running
        if earlier is not None:
            earlier.cancel_reason = "A later attach took the place of this one."
            earlier.cancel.set()
        self._mark(proxy)
        return running

    def run(
        self,
        running: Running,
        proxy: Any,
        compute: Compute,
        wanted: str | None,
        may_start: MayStart | None,
        set_up: bool = True,
        interrupt: bool = False,
        sync: bool | None = None,
        machine_is_off: bool = False,
        carry: CarryJob | None = None,
    ) -> Future[None]:
        """Prepare and queue. ``set_up``: SSH may be set up there (``connections``). ``interrupt``: the running cell is interrupted
        rather than waited for, but not before the new kernel has answered: a move that fails has cost nothing. ``sync``: whether
        the notebook's files go along (``Trips.of``). ``machine_is_off``: of the one that it leaves nothing can be brought back.
        ``carry``: its variables go along, once nothing runs.

        On failure the operation has ended with the error, which is raised as well. The future is the
        swap's own: it resolves when the notebook runs over there."""

        def user_cancelled(reason: str) -> None:
            running.cancel_reason = f"The move was cancelled: the kernel was {reason}."
            running.cancel.set()

        proxy.on_user_cancel.append(user_cancelled)
        trip: Trip | None = None
        try:
            trip = self._trips.of(proxy, compute, sync)
            if not trip.copies or machine_is_off:
                running.skip("files")
            if compute.id == FREE:
                if not machine_is_off:
                    self._leave(trip, running)
                running.step("kernel")
                backend: Backend = proxy.make_local()
            else:
                language = proxy.status.language
                backend = self._there.backend(
                    proxy,
                    compute,
                    wanted,
                    language=language,
                    local_name=proxy.kernelspec,
                    running=running,
                    cancel=running.cancel,
                    may_start=may_start,
                    set_up=set_up,
                    trip=trip,
                )
            self._wait(proxy, proxy.prepare(backend), running, backend.compute_name)
            left = place(proxy.status.compute, proxy.status.compute_name)
            notices = [n for n in (backend.notice, *trip.notices, *self._spent(running, compute)) if n]
            for each in notices:
                running.mention(each)
            running.step("wait")
            running.on_cancel = partial(self._call_off, proxy)
            swapped: Future[None] = proxy.swap(backend, interrupt, carry.begin if carry is not None else None)
            if carry is not None:
                carry.watch(swapped)
        except BaseException as e:
            if trip is not None:
                trip.gave_up()
            self._end(running, proxy, e)
            raise
        finally:
            proxy.on_user_cancel.remove(user_cancelled)
            with self._lock:
                if self._preparing.get(proxy.kernel_id) is running:
                    del self._preparing[proxy.kernel_id]

        def notice() -> str:
            variables = carry.notice() if carry is not None else stayed(left, "")
            return " ".join([f"The notebook runs on {place(compute.id, compute.name)}.", variables, *notices])

        swapped.add_done_callback(partial(self._swapped, running, proxy, trip, notice, carry))
        if running.cancel.is_set():
            self._call_off(proxy, running.cancel_reason)
        return swapped

    def _spent(self, running: Running, compute: Compute) -> list[str]:
        """What is to be said of budgets where the move has started its machine."""
        return [said] if running.starts and (said := self._spending.remark(compute)) else []

    def _swapped(
        self,
        running: Running,
        proxy: Any,
        trip: Trip,
        notice: Callable[[], str],
        carry: CarryJob | None,
        swapped: Future[None],
    ) -> None:
        """On the I/O thread."""
        error = swapped.exception()
        if carry is not None:
            carry.ended(error)
        if error is None:
            trip.arrived(running.add_notice)
        else:
            trip.gave_up()
        self._end(running, proxy, error, notice() if error is None else "")

    @staticmethod
    def _leave(trip: Trip, running: Running) -> None:
        if trip.copies:
            running.step("files")
            trip.leave(reporting(running), running.cancel)

    def withdraw(self, proxy: Any, reason: str) -> bool:
        """Call off whatever move of this kernel is under way; whether there was one. Returns when it is off."""
        with self._lock:
            latest = self._latest.get(proxy.kernel_id)
        if latest is None or latest.value.ended is not None:
            return False
        latest.cancel_reason = reason
        latest.cancel.set()
        self._call_off(proxy, reason).result(CALL_OFF_SECONDS)
        return True

    def forget(self, kernel_id: str) -> None:
        """The kernel has ended for good: nothing of it is kept."""
        with self._lock:
            latest = self._latest.pop(kernel_id, None)
        if latest is not None:
            latest.cancel.set()

    @staticmethod
    def _call_off(proxy: Any, reason: str) -> Future[None]:
        called_off: Future[None] = proxy.cancel_swap(reason)
        return called_off

    def _wait(self, proxy: Any, future: Future[T], running: Running, where: str) -> T:
        """For the new kernel's first answer, unless cancelled or too late; then the proxy ends the new backend."""
        waited, limit = 0.0, self._start_timeout()
        called_off: DSVMError | None = None
        while True:
            try:
                return future.result(timeout=POLL_SECONDS)
            except FutureTimeout:
                if future.done():  # what the future itself raised is a TimeoutError too
                    raise
                waited += POLL_SECONDS
            except Cancelled:
                raise called_off or Cancelled(running.cancel_reason) from None
            if called_off is None:
                if running.cancel.is_set():
                    called_off = Cancelled(running.cancel_reason)
                elif waited >= limit:
                    called_off = KernelStartError(
                        f"The kernel on {where} did not answer within {limit:.0f} s.",
                        advice="Try again; a first start on a machine takes longest. DSVMService.start_timeout sets the limit.",
                        code="KernelTimeout",
                    )
                if called_off is not None:
                    self._call_off(proxy, called_off.message)
            elif waited >= limit + 10:
                raise called_off

    def _end(self, running: Running, proxy: Any, error: BaseException | None, notice: str = "") -> None:
        """The move is over. Also called on the I/O thread, so it must not block."""
        if isinstance(error, DSVMError) and _has_started(running):
            name = self._computes.name(running.value.compute or "")
            error.advice += f" {name} was started for this and is billed: stop it unless you need it."
        if error is None:
            running.done(notice)
        elif isinstance(error, Cancelled):
            running.cancelled(error)
        else:
            if not isinstance(error, DSVMError):
                log.exception("an attach failed", exc_info=error)
            running.failed(error)
        self._mark(proxy)

    def _mark(self, proxy: Any) -> None:
        with self._lock:
            latest = self._latest.get(proxy.kernel_id)
            under_way = latest is not None and latest.value.ended is None
            proxy.moving = latest.value.compute if latest is not None and under_way else None
        self._changed(proxy.kernel_id)


def _has_started(running: Running) -> bool:
    """Whether the move has had its machine started, which goes on when the move does not."""
    return any(s.name == "boot" and s.state is not StepState.PENDING for s in running.value.steps)
