"""A kernel on a machine, as far as it is there but not started: the machine runs, its pipe stands, the notebook's files have come,
the kernelspec is chosen. For a move (``moves``), and for a kernel that is launched there at once (the provisioner).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from .compute.provider import Cancel, Memo, Report
from .computes import OFF, Computes
from .connections import Connections
from .errors import Cancelled, ComputeNotRunning, KernelStartError
from .models import Compute, ComputeKind, PowerState
from .operations import Running
from .trips import Trip
from .workspaces import reporting

if TYPE_CHECKING:
    from .kernels.backends import Backend
    from .kernels.kernelspecs import RemoteSpec
    from .kernels.vmpipe import VMPipe
    from .spending import Spending
    from .sync.workspace import Progress

log = logging.getLogger("jupyter_dsvm.arrivals")

MayStart = Callable[[Compute], None]
"""Raises ``NotAllowed`` where whoever asked may not start that machine."""


class KernelFront(Protocol):
    """What of a proxy is needed to start a kernel elsewhere for it (the provisioner passes one before it launches)."""

    kernel_id: str
    key: bytes
    signature_scheme: str
    session: str


class Arrivals:
    def __init__(
        self,
        computes: Computes,
        connections: Connections,
        kernel_env: Callable[[], Sequence[str]],
        spending: Spending,
        start_settings: Callable[[], Mapping[str, Any]] = lambda: {"spare": True},
        keeping_start: Callable[[Compute], AbstractContextManager[Memo]] = lambda row: nullcontext(Memo()),
    ) -> None:
        """``kernel_env`` gives the names of this server's variables that a kernel on a VM gets; ``start_settings`` gives what else
        a relay is told of its kernel (``relay.spec``): whether to keep a spare interpreter, and how much of what it says;
        ``keeping_start`` is ``Changes.keeping_start``."""
        self._computes = computes
        self._connections = connections
        self._kernel_env = kernel_env
        self._spending = spending
        self._start_settings = start_settings
        self._keeping_start = keeping_start
        self.before_start: Callable[[Compute | None], str] = lambda row: ""
        """As in ``Changes``."""

    def backend(
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
        _check(cancel)
        cwd = None
        if trip is not None and trip.copies:
            step("files", "Copy the notebook's folder")
            shown = reporting(running) if running is not None else _telling(say)
            trip.leave(shown, cancel)
            cwd, size = trip.arrive(shown, cancel)
            if size:
                say(f"Copy the notebook's folder ({size})")
            _check(cancel)
        step("kernel", f"Start the kernel on {compute.name}")
        spec = self._choose(pipe, machine=compute.name, language=language, local_name=local_name, wanted=wanted)
        _check(cancel)
        return self._connections.backend(pipe, compute, front.kernel_id, self.start_spec(front, spec, cwd), spec)

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

    def start_spec(self, front: KernelFront, spec: RemoteSpec, cwd: str | None) -> dict[str, Any]:
        """What the relay there is told of the kernel to start (``relay.spec``)."""
        from .kernels.kernelspecs import start_spec

        environment: Mapping[str, str] = {n: os.environ[n] for n in self._kernel_env() if n in os.environ}
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
        _check(cancel)
        return now


def refuse_to_start(compute: Compute) -> None:
    """A ``MayStart`` for kernelspecs that are offered of machines that run: one that was turned off since stays so."""
    raise ComputeNotRunning(
        f"{compute.name} is {compute.power_state.value}, and no kernel can start there.",
        advice=f"Start {compute.name} in the Compute panel and try again, or choose a kernel of the free tier.",
    )


def _check(cancel: Cancel) -> None:
    if cancel.is_set():
        raise Cancelled("The move was cancelled.", advice="The notebook keeps the kernel it had.")


def _telling(say: Report) -> Callable[[Progress], None]:
    """How far the files are, where nobody has an operation to look at."""

    def tell(progress: Progress) -> None:
        if progress.of_files:
            say(f"Copying {progress.files} of {progress.of_files} files", None)

    return tell
