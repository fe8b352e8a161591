"""``DSVMService``: the one object behind the REST API, the magic and the command line.

It joins what is known about computes, the connections to them, the kernels whose fronts this process holds, and the
operations that change any of these. Nothing here belongs to an event loop: blocking work runs on worker threads, and
handlers await it through ``submit``. A server's extension makes one (``extension.py``); elsewhere (nbclient, papermill, a
console, the command line) ``load_service`` does, through the entry point group ``jupyter_dsvm.service``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_core.paths import jupyter_data_dir
from traitlets import TraitError
from traitlets.config import Config

from .accounts import Accounts
from .advising import Advising
from .allowance import Allowance
from .arrivals import Arrivals, KernelFront, MayStart, refuse_to_start
from .carrying import Carry, Carrying
from .completion import Completion
from .compute.provider import Cancel, ComputeProvider, Report
from .computes import OFF, Computes
from .connections import Connections
from .elsewhere import Elsewhere
from .errors import ComputeNotRunning, ConfigurationError, DSVMError, KernelStartError, NotFound
from .idlesettings import KeptIdles
from .idlestops import IdleStops
from .inventory import Inventory
from .keptchanges import KeptChanges
from .keptplaces import KeptPlaces
from .kerneldeaths import OUT_OF_MEMORY, KernelDeaths
from .kernels.registry import Call, Registry, registry
from .machines import MachineChanges
from .metrics import ComputeMetrics
from .models import (
    FREE,
    Compute,
    LinkPhase,
    Operation,
    OperationState,
)
from .moves import Moves
from .notebooks import NotebookFiles
from .operations import OperationStore, Running
from .ownfolder import OwnFolder
from .questions import Questions
from .returns import Returns
from .revisions import Listener, Revisions
from .safetystops import SafetyStops
from .settings import ServiceSettings, load_config
from .spending import Spending
from .spendledger import SpendLedger
from .terminals import Terminals
from .trips import Trips
from .workspaces import Workspaces

if TYPE_CHECKING:
    from .kernels.backends import Backend
    from .kernels.deaths import Death
    from .kernels.keptfiles import KeptKernel

T = TypeVar("T")

REQUEST_WORKERS = 4
WORK_WORKERS = 16


class DSVMService(Inventory, MachineChanges, NotebookFiles, ServiceSettings):
    """The module's text says what it is for; its settings are in ``settings``, what it lists in ``inventory``, the changes of
    machines in ``machines``, and what concerns notebooks' files in ``notebooks``."""

    def __init__(
        self,
        providers: Callable[[], list[ComputeProvider]] | None = None,
        registry: Registry = registry,
        connections: Connections | None = None,
        **kwargs: Any,
    ) -> None:
        """``providers`` takes the place of those that ``compute_providers`` names; the other two are the process's own
        unless a test has its own."""
        super().__init__(**kwargs)
        self._lock = threading.RLock()
        self._closed = False
        self.revisions = Revisions()
        self._join_inventory()
        self._requests = ThreadPoolExecutor(REQUEST_WORKERS, thread_name_prefix="jupyter-dsvm-request")
        self._work = ThreadPoolExecutor(WORK_WORKERS, thread_name_prefix="jupyter-dsvm-work")
        self.registry = registry
        self.operations_store = OperationStore()
        self.operations_store.listen(lambda op: self.revisions.bump("operations", op.id))
        self.known = Computes(providers or self._make_providers, self._compute_changed)
        self.spending = Spending(
            self.known,
            SpendLedger(Path(jupyter_data_dir()) / "jupyter-dsvm" / "spend.sqlite"),
            self.budget_rules,
            lambda: self.spend_names,
            lambda: self.revisions.bump("spend", None),
            self._in_background,
        )
        self.known.heard = self.spending.heard
        self.elsewhere = Elsewhere(self.operations_store, self.known)
        self.accounts = Accounts(
            lambda: self.known.providers, lambda i: self.revisions.bump("signin", i), self._account_changed
        )
        self.connections = connections or Connections(
            self.known, lambda: self._in_use() | self.idle_stops.connected(), lambda: self.connection_idle
        )
        self.measured = ComputeMetrics(self.known, self.connections)
        self.deaths = KernelDeaths(self._look_at_memory)
        self.workspaces = Workspaces(self, Path(jupyter_data_dir()) / "jupyter-dsvm")
        self.carrying = Carrying(self, Path(jupyter_data_dir()) / "jupyter-dsvm", self._in_background)
        self.trips = Trips(self.workspaces, lambda: self.sync_files)
        self.arrivals = Arrivals(
            self.known,
            self.connections,
            lambda: self.kernel_env,
            self.spending,
            lambda: {"spare": self.spare_interpreters, "journal_limit": self.journal_limit_mib << 20},
            lambda row: self.changes.keeping_start(row),
        )
        self.moves = Moves(
            self.operations_store,
            self.known,
            self.arrivals,
            lambda: self.start_timeout,
            self._kernel_changed,
            self.trips,
            self.spending,
        )
        self.returns = Returns(self.moves, self.known, registry.all, self._notebook_name, self._work.submit)
        self.returns.saved = self.carrying.just_saved
        self._join_changes(KeptChanges(Path(jupyter_data_dir()) / "jupyter-dsvm" / "changes"))
        self._join_idle_stops(Path(jupyter_data_dir()) / "jupyter-dsvm")
        self._join_notebooks(Path(jupyter_data_dir()) / "jupyter-dsvm" / "last-ran.json")
        self.own_folder = OwnFolder()
        self.terminals = Terminals(self.known, self.connections, self.own_folder)
        self.allowance = Allowance(
            lambda: self.kernel_may_start, Path(jupyter_data_dir()) / "jupyter-dsvm" / "starts.jsonl"
        )
        self.questions = Questions(
            lambda i: self.revisions.bump("questions", i), Path(jupyter_data_dir()) / "jupyter-dsvm" / "answers.json"
        )
        self.page_is_open: Callable[[str], bool] = lambda kernel_id: False
        """Whether a page has that kernel's websocket open. The server's extension knows; elsewhere there is no page."""
        self.look_for_paths: Callable[[], None] = lambda: None
        """Has the notebooks' paths brought up to date, and blocks for a moment; set by the server's extension."""
        self.advising = Advising(self, self._work.submit)
        self.completion = Completion(self.known, self.connections, self._work.submit)
        self.registry.outputs_limit = self.kept_outputs_mib << 20
        self._unsubscribe = self.registry.subscribe(self._kernel_changed)
        self._unsubscribe_executed = self.registry.subscribe_executed(self.workspaces.executed)

    def _join_idle_stops(self, folder: Path) -> None:
        safety = SafetyStops(self.known, lambda: self.safety_stop)
        self.idle_stops = IdleStops(
            self.known,
            self.connections,
            self.changes,
            safety,
            KeptIdles(folder / "idle"),
            holder=KeptPlaces(folder).server_id,
            minutes=lambda: self.idle_stop_minutes,
            hard_hours=lambda: self.hard_limit_hours,
            tag=lambda: self.idle_tag,
            ignored=lambda: self.idle_ignore,
            interval=lambda: self.idle_check_seconds,
            attached=self._in_use,
            busy_here=self._busy_on,
            changed=lambda i: self.revisions.bump("computes", i),
            save=lambda compute_id, running: self.carrying.save_before_stop(compute_id, running),
            returned=self.returns.begin,
        )
        self.known.on_ended += [self.idle_stops.changed, self.carrying.machine_changed]
        self.changes.before_start = self.arrivals.before_start = safety.before_start

    def _make_providers(self) -> list[ComputeProvider]:
        # Late: the cloud's libraries take time and memory, and most sessions begin without needing them.
        providers: list[ComputeProvider] = []
        if "free" in self.compute_providers:
            from .compute.free_tier import FreeTier

            providers.append(FreeTier(parent=self))
        if "azure" in self.compute_providers:
            from .compute.azure import AzureCompute

            providers.append(AzureCompute(parent=self))
        if "hub" in self.compute_providers:
            from .compute.broker import BrokerCompute

            providers.append(BrokerCompute(parent=self))
        if "hosts" in self.compute_providers:
            from .compute.hosts import SSHHosts

            providers.append(SSHHosts(parent=self))
        return providers

    def submit(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Run a method of this object that blocks on a worker thread: what REST handlers await."""
        return self._requests.submit(function, *args, **kwargs)

    # Events

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Called after each change, on whatever thread made it; must not block. Gives what ends it."""
        return self.revisions.listen(listener)

    def revision(self, what: str) -> int:
        """Of one of ``revisions.KINDS``."""
        return self.revisions.of(what)

    def _compute_changed(self, compute_id: str | None) -> None:
        self.revisions.bump("computes", compute_id)
        row = self.known.known(compute_id) if compute_id is not None else None
        if row is not None:
            self.elsewhere.seen([row])
        self.idle_stops.look()

    def _account_changed(self) -> None:
        """Another account sees other machines: ask for them, so that the page need not."""
        self.resuming.account_changed()
        self.known.account_changed()
        self._in_background(lambda: self.known.snapshot(True))

    def _in_background(self, function: Callable[[], object]) -> None:
        try:
            self._work.submit(function)
        except RuntimeError:
            pass  # the server is stopping

    # Moves

    def attach(
        self,
        kernel_id: str,
        compute: str,
        kernelspec: str | None = None,
        interrupt: bool = False,
        sync: bool | None = None,
        carry: Carry = False,
        allow_carry: bool | None = None,
    ) -> Operation:
        """Move a kernel; ``free`` brings it back. Blocks only to find the compute. The page's way: it may start machines,
        or raises ``BudgetExceeded``.
        ``interrupt``: what still runs when the new kernel has answered is interrupted rather than waited for. ``sync``: whether the
        notebook's files go along; None: as it is configured, True also where they are many. ``carry``: which variables do, and
        ``allow_carry`` a person's yes to those of a VM (``Carrying.check``)."""
        proxy = self.proxy(kernel_id)
        row = self.known.find(compute)
        if self.stays(proxy, row, kernelspec):
            self.moves.withdraw(proxy, f"The notebook stays on {row.name}.")
            kind = "detach" if row.id == FREE else "attach"
            running = self.operations_store.begin(kind, compute=row.id, kernel=kernel_id)
            running.done(f"The notebook runs on {row.name} already.")
            return running.value
        if row.power_state in OFF:
            self.spending.check_start(row)
        self.carrying.check(proxy, row, carry, allow_carry)
        running = self.moves.begin(proxy, row, carry=bool(carry))

        def move() -> None:
            job = self.carrying.job(running, proxy, row, carry)
            swapped = self.moves.run(running, proxy, row, kernelspec, None, interrupt=interrupt, sync=sync, carry=job)
            swapped.add_done_callback(lambda f: self._in_background(lambda: self._note_missing(running, kernelspec)))

        self.spawn(running, move)
        return running.value

    def _note_missing(self, running: Running, kernelspec: str | None) -> None:
        """After a move: what the notebook imports and has not there, and what does not use the GPU there, as long as its operation
        is listed. Of a machine that was on, the page has looked before what is missing."""
        kernel = running.value.kernel
        if running.value.state is OperationState.DONE and kernel is not None:
            running.add_notice(self.carrying.arrived(kernel, running.value.compute or ""))
            attach_notes = self.attach_notes if running.starts else self.advising.look_at_gpu
            running.add_notice(" ".join(attach_notes(kernel, kernelspec)))

    def proxy(self, kernel_id: str) -> Any:
        proxy = self.registry.get(kernel_id)
        if proxy is None:
            raise NotFound(
                f"This server holds no kernel {kernel_id!r} that can move.",
                advice="Restart the notebook's kernel; if that does not help, `jupyter dsvm doctor` says what is missing.",
                code="UnknownKernel",
            )
        return proxy

    def reconnect(self, kernel_id: str) -> None:
        """Somebody wants a kernel's machine to be tried now, while its link waits between two tries. Does not block; nothing to do
        where the link stands. Raises ``NotFound``, and ``ComputeNotRunning`` where the kernel has ended."""
        status = self.proxy(kernel_id).status
        if status.link.state is LinkPhase.GONE:
            raise ComputeNotRunning(
                f"There is nothing to reconnect to: what ran on {self.known.name(status.compute)} has ended.",
                advice="Return the notebook to the free tier, or attach it again.",
                code="KernelGone",
            )
        if status.link.state is not LinkPhase.LOCAL:
            self.connections.hurry(status.compute)

    @staticmethod
    def stays(proxy: Any, row: Compute, kernelspec: str | None) -> bool:
        """Whether that kernel runs there already, so that there is nothing to move."""
        status = proxy.status
        if status.compute != row.id or status.link.state is LinkPhase.GONE:
            return False
        return row.id == FREE or kernelspec in (None, status.kernelspec)

    def handle_call(self, call: Call) -> None:
        """A line of ``%dsvm``; the proxy's owner calls this on a worker thread, and it ends the call."""
        from .calls import handle

        handle(self, call)

    def remote_backend(
        self,
        front: KernelFront,
        compute: str,
        kernelspec: str | None,
        report: Report | None = None,
        cancel: Cancel | None = None,
        *,
        may_start: bool = True,
    ) -> Backend:
        """A backend on a VM, not started, for a kernelspec that names one (``dsvm-NAME-KERNEL``). Blocks; the provisioner
        calls it. Opening a notebook starts nothing that is billed, unless ``kernel_may_start`` allows it; with ``may_start``
        false, never."""
        row = self.known.find(compute)
        language = str(getattr(front, "language", "") or "")
        trip = self.trips.of_new(front, row)
        try:
            backend = self.arrivals.backend(
                front,
                row,
                kernelspec,
                language=language,
                local_name=None,
                report=report,
                cancel=cancel or Cancel(),
                may_start=self.code_may_start if may_start else refuse_to_start,
                trip=trip,
            )
        except BaseException:
            trip.gave_up()
            raise
        for each in trip.notices:
            self.log.warning("A kernel on %s: %s", row.name, each)
        trip.arrived()
        return backend

    def adopted_backend(self, kept: KeptKernel, handed_on: int) -> Backend:
        """A kernel that an earlier server process left on its VM. Blocks for imports and files only: nobody is asked and
        nothing connected here, so the machine may be off, gone, or not be known any more; the kernel's link tells."""
        return self.connections.adopt(kept, handed_on)

    def explain_death(self, kernel_id: str, death: Death) -> DSVMError | None:
        """Of a kernel that ended unasked: for the cell that ran then. On the I/O thread, right after it."""
        problem = self.deaths.problem(kernel_id, death)
        if problem is None or problem.code != OUT_OF_MEMORY:
            return None
        return KernelStartError(problem.message, advice=problem.advice, code=problem.code)

    def claim_changes(self) -> None:
        """What an earlier server was changing when it ended is shown again. Blocks for small files; called while the server
        loads. Outside a server nobody goes on with it: such a process may end at any moment."""
        self.resuming.claim()

    def resume_changes(self) -> None:
        """Go on with those. Does not block; called when the server runs."""
        self.resuming.go_on()

    def watch_spending(self) -> None:
        """Of machines that were on when an earlier server ended. Blocks for a small file; called when the server runs."""
        self.spending.begin()

    def end_left_kernels(self) -> None:
        """Those on VMs that nobody goes on with: an earlier server was killed, or could not reach them. Blocks for a moment; the
        extension calls it when the server has started."""
        self.connections.end_left()

    @property
    def code_may_start(self) -> MayStart:
        return self.allowance.take

    def close(self) -> None:
        """End what is under way and hang up. Kernels on VMs go on. Blocks for some seconds at most; may be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._unsubscribe()
        self._unsubscribe_executed()
        self.deaths.close()
        self.questions.close()
        self.spending.stop()
        self.changes.leave()
        self.elsewhere.close()
        self.idle_stops.leave()
        self.resuming.close()
        for running in self.operations_store.running():
            running.cancel_reason = "The server is stopping."
            running.cancel.leaving = True
            running.cancel.set()
            if running.on_cancel is not None:
                running.on_cancel(running.cancel_reason)
        self.idle_stops.close()
        self.returns.close("The server is stopping.")
        self.workspaces.close()
        self.accounts.close()
        self._requests.shutdown(wait=True, cancel_futures=True)
        self._work.shutdown(wait=True, cancel_futures=True)
        self.last_ran.save()
        self.changes.close()
        self.connections.close()
        self.known.close()
        self.spending.close()
        if self._free_tier is not None:
            self._free_tier.close()
        self.own_folder.remove()
        self.revisions.close()


def load_service(config: Config | None = None, log: logging.Logger | None = None) -> DSVMService:
    """A service outside a server, configured by ``jupyter_dsvm_config.{json,py}`` on Jupyter's configuration path.

    Blocks (imports, files). Whoever calls it closes it. Raises ``ConfigurationError``.
    """
    logger = log or logging.getLogger("jupyter_dsvm")
    merged = load_config(logger)
    merged.merge(config or Config())
    try:
        return DSVMService(config=merged, log=logger)
    except TraitError as e:
        raise ConfigurationError(
            f"A setting in jupyter_dsvm_config cannot be: {e}",
            advice="Correct it; `jupyter --paths` says where the file may be.",
        ) from e
