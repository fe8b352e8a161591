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
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .carrywords import stayed
from .compute.provider import Cancel, Memo, Report
from .computes import OFF, Computes
from .connections import Connections
from .errors import Cancelled, ComputeNotRunning, DSVMError, KernelStartError, OperationRefused
from .models import FREE, OS, Compute, ComputeKind, PowerState, StepState
from .operations import OperationStore, Running
from .tables import place
from .trips import Trip, Trips
from .workspaces import reporting

if TYPE_CHECKING:
    from .carryjob import CarryJob
    from .kernels.backends import Backend
    from .kernels.kernelspecs import RemoteSpec
    from .kernels.vmpipe import VMPipe
    from .spending import Spending
    from .sync.workspace import Progress

log = logging.getLogger("jupyter_dsvm.moves")

POLL_SECONDS = 0.1
"""How often a wait for the kernel looks at its cancel."""

CALL_OFF_SECONDS = 10.0
"""How long the I/O thread may take to drop a change that waits."""

T = TypeVar("T")

MayStart = Callable[[Compute], None]
"""Raises ``NotAllowed`` where whoever asked may not start that machine."""


class KernelFront(Protocol):
    """What of a proxy is needed to start a kernel elsewhere for it (the provisioner passes one before it launches)."""

    kernel_id: str
    key: bytes
    signature_scheme: str
    session: str


class Moves:
    def __init__(
        self,
        operations: OperationStore,
        computes: Computes,
        connections: Connections,
        kernel_env: Callable[[], Sequence[str]],
        start_timeout: Callable[[], float],
        changed: Callable[[str], None],
        trips: Trips,
        spending: Spending,
        start_settings: Callable[[], Mapping[str, Any]] = lambda: {"spare": True},
        keeping_start: Callable[[Compute], AbstractContextManager[Memo]] = lambda row: nullcontext(Memo()),
    ) -> None:
        """``kernel_env`` gives the names of this server's variables that a kernel on a VM gets; ``changed`` is called
        with a kernel's id when where it is moving to has changed; ``start_settings`` gives what else a
        relay is told of its kernel (``relay.spec``): whether to keep a spare interpreter, and how much of what it says;
        ``keeping_start`` is ``Changes.keeping_start``."""
        self._keeping_start = keeping_start
        self._spending = spending
        self._operations = operations
        self._computes = computes
        self._connections = connections
        self._kernel_env = kernel_env
        self._start_timeout = start_timeout
        self._changed = changed
        self._trips = trips
        self._start_settings = start_settings
        self.before_start: Callable[[Compute | None], str] = lambda row: ""
        """As in ``Changes``."""
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
                backend = self.remote_backend(
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

    # A kernel there

    def remote_backend(
        self,
        front: KernelFront,
        compute: Compute,
        wanted: str | None,
        *,
        language: str,
        local_name: str | None,
        cancel: Cancel,
        running: Running | None = None,
        report: Report | None = None,
        may_start: MayStart | None = None,
        set_up: bool = True,
        trip: Trip | None = None,
    ) -> Backend:
        """A backend on ``compute``, not started: the machine runs, the pipe stands, the files of ``trip`` are there, the kernelspec
        is chosen. Blocks."""

        def say(text: str, fraction: float | None = None) -> None:
            if running is not None:
                running.report(text, fraction)
            if report is not None:
                report(text, fraction)

        def step(name: str, text: str) -> None:
            if running is not None:
                running.step(name)
            if report is not None:
                report(text, None)

        compute = self._ensure_running(compute, step, say, cancel, may_start, running)
        step("connect", f"Connect to {compute.name}")
        pipe = self._connections.open(compute, cancel, say if set_up else None)
        self._check(cancel)
        cwd = None
        if trip is not None and trip.copies:
            step("files", "Copy the notebook's folder")
            shown = reporting(running) if running is not None else _telling(say)
            trip.leave(shown, cancel)
            cwd, size = trip.arrive(shown, cancel)
            if size:
                say(f"Copy the notebook's folder ({size})")
            self._check(cancel)
        step("kernel", f"Start the kernel on {compute.name}")
        spec = self._choose(pipe, machine=compute.name, language=language, local_name=local_name, wanted=wanted)
        self._check(cancel)
        return self._connections.backend(pipe, compute, front.kernel_id, self._start(front, spec, cwd), spec)

    @staticmethod
    def _choose(pipe: VMPipe, **what: Any) -> RemoteSpec:
        """From what the machine is known to have; from a new list where that has nothing that serves."""
        from .kernels.kernelspecs import choose, parse_specs  # late, as all that only an attach needs

        try:
            return choose(parse_specs(pipe.kernelspecs(known=True)), **what)
        except KernelStartError:
            return choose(parse_specs(pipe.kernelspecs()), **what)

    def kernelspecs(self, compute: Compute, cancel: Cancel) -> list[RemoteSpec]:
        """What can be started there, in the order of preference. Blocks; raises where it does not run."""
        from .kernels.kernelspecs import parse_specs

        return parse_specs(self._connections.open(compute, cancel).kernelspecs())

    def _start(self, front: KernelFront, spec: RemoteSpec, cwd: str | None) -> dict[str, Any]:
        environment: Mapping[str, str] = {n: os.environ[n] for n in self._kernel_env() if n in os.environ}
        from .kernels.kernelspecs import start_spec

        start = start_spec(
            spec,
            kernel_id=front.kernel_id,
            key=front.key,
            signature_scheme=front.signature_scheme,
            session=front.session,
            env=environment,
            cwd=cwd,
        )
        return {**start, **self._start_settings()}

    def _ensure_running(
        self,
        compute: Compute,
        step: Callable[[str, str], None],
        say: Report,
        cancel: Cancel,
        may_start: MayStart | None,
        running: Running | None,
    ) -> Compute:
        if compute.kind is not ComputeKind.DSVM:
            return compute  # nobody can start a host for us, and its pipe says whether it answers
        now = self._computes.fresh(compute.id)
        if now.power_state in OFF or now.power_state is PowerState.STARTING:
            self._spending.check_start(now)
            if may_start is not None:
                may_start(now)
            step("start", f"Start {now.name}")
            if running is not None:
                running.starts = True
            unsafe = self.before_start(now)
            if unsafe and running is not None:
                running.mention(unsafe)
            elif unsafe:
                log.warning("%s", unsafe)
            with self._keeping_start(now) as memo:
                now = self._computes.change_power("start", compute.id, say, cancel, memo)
            step("boot", f"{now.name} boots")
            self._connections.wait_for_boot(now, cancel)  # a port that stays closed is for who connects to explain
        elif running is not None:
            running.skip("start")
            running.skip("boot")
        self._check(cancel)
        return now

    @staticmethod
    def _check(cancel: Cancel) -> None:
        if cancel.is_set():
            raise Cancelled("The move was cancelled.", advice="The notebook keeps the kernel it had.")


def _telling(say: Report) -> Callable[[Progress], None]:
    """How far the files are, where nobody has an operation to look at."""

    def tell(progress: Progress) -> None:
        if progress.of_files:
            say(f"Copying {progress.files} of {progress.of_files} files", None)

    return tell


def refuse_to_start(compute: Compute) -> None:
    """A ``MayStart`` for kernelspecs that are offered of machines that run: one that was turned off since stays so."""
    raise ComputeNotRunning(
        f"{compute.name} is {compute.power_state.value}, and no kernel can start there.",
        advice=f"Start {compute.name} in the Compute panel and try again, or choose a kernel of the free tier.",
    )


def _has_started(running: Running) -> bool:
    """Whether the move has had its machine started, which goes on when the move does not."""
    return any(s.name == "boot" and s.state is not StepState.PENDING for s in running.value.steps)
