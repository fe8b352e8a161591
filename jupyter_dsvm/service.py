"""``DSVMService``: the one object behind the REST API, the magic and the command line.

It joins what is known about computes, the connections to them, the kernels whose fronts this process holds, and the
operations that change any of these. Nothing here belongs to an event loop: blocking work runs on worker threads, and
handlers await it through ``submit``. A server's extension makes one (``extension.py``); elsewhere (nbclient, papermill, a
console, the command line) ``load_service`` does, through the entry point group ``jupyter_dsvm.service``.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_core.paths import jupyter_data_dir
from traitlets.config import Config

from .accounts import Accounts
from .advising import Advising
from .allowance import Allowance
from .completion import Completion
from .compute.provider import Cancel, ComputeProvider, Report
from .computes import Computes
from .connections import Connections
from .elsewhere import Elsewhere
from .errors import ComputeNotRunning, DSVMError, KernelStartError, NotFound
from .keptchanges import KeptChanges
from .kerneldeaths import OUT_OF_MEMORY, KernelDeaths
from .kernels.registry import Call, Registry, registry
from .machines import MachineChanges
from .metrics import ComputeMetrics
from .models import (
    FREE,
    Compute,
    KernelRecord,
    LinkPhase,
    Metrics,
    Operation,
    OperationState,
    Problem,
    Question,
    Usage,
)
from .moves import KernelFront, MayStart, Moves, refuse_to_start
from .notebooks import NotebookFiles
from .operations import OperationStore, Running
from .ownfolder import OwnFolder
from .questions import Questions
from .returns import Returns
from .settings import ServiceSettings, load_config
from .terminals import Terminals
from .trips import Trips
from .workspaces import Workspaces

if TYPE_CHECKING:
    from .compute.free_tier import FreeTier
    from .kernels.backends import Backend
    from .kernels.deaths import Death
    from .kernels.keptfiles import KeptKernel
    from .relay.deaths import Look

T = TypeVar("T")

Listener = Callable[[str, "str | None", int], None]
"""Called with ``computes``, ``kernels``, ``operations``, ``signin``, ``questions`` or ``workspaces``, an id or None, and the new
revision."""

REQUEST_WORKERS = 4
WORK_WORKERS = 16


@dataclasses.dataclass(frozen=True)
class ComputeList:
    computes: tuple[Compute, ...]
    problems: tuple[Problem, ...]
    as_of: str | None
    revision: int

    def to_json(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "computes": [c.to_json() for c in self.computes],
            "problems": [p.to_json() for p in self.problems],
            "as_of": self.as_of,
        }


class DSVMService(MachineChanges, NotebookFiles, ServiceSettings):
    """The module's text says what it is for; its settings are in ``settings``, the changes of machines in ``machines``,
    and what concerns notebooks' files in ``notebooks``."""

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
        self._revisions = {"computes": 0, "kernels": 0, "operations": 0, "signin": 0, "questions": 0, "workspaces": 0}
        self._listeners: list[Listener] = []
        self._paths: Mapping[str, str] = {}
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._free_tier: FreeTier | None = None
        self._requests = ThreadPoolExecutor(REQUEST_WORKERS, thread_name_prefix="jupyter-dsvm-request")
        self._work = ThreadPoolExecutor(WORK_WORKERS, thread_name_prefix="jupyter-dsvm-work")
        self.registry = registry
        self.operations_store = OperationStore()
        self.operations_store.listen(lambda op: self._bump("operations", op.id))
        self.known = Computes(providers or self._make_providers, self._compute_changed)
        self.elsewhere = Elsewhere(self.operations_store, self.known)
        self.accounts = Accounts(lambda: self.known.providers, lambda i: self._bump("signin", i), self._account_changed)
        self.connections = connections or Connections(self.known, self._in_use, lambda: self.connection_idle)
        self.measured = ComputeMetrics(self.known, self.connections)
        self.deaths = KernelDeaths(self._look_at_memory)
        self.workspaces = Workspaces(self, Path(jupyter_data_dir()) / "jupyter-dsvm")
        self.trips = Trips(self.workspaces, lambda: self.sync_files)
        self.moves = Moves(
            self.operations_store,
            self.known,
            self.connections,
            lambda: self.kernel_env,
            lambda: self.start_timeout,
            self._kernel_changed,
            self.trips,
            lambda: {"spare": self.spare_interpreters, "journal_limit": self.journal_limit_mib << 20},
            lambda row: self.changes.keeping_start(row),
        )
        self.returns = Returns(self.moves, self.known, registry.all, self._notebook_name, self._work.submit)
        self._join_changes(KeptChanges(Path(jupyter_data_dir()) / "jupyter-dsvm" / "changes"))
        self._join_notebooks(Path(jupyter_data_dir()) / "jupyter-dsvm" / "last-ran.json")
        self.own_folder = OwnFolder()
        self.terminals = Terminals(self.known, self.connections, self.own_folder)
        self.allowance = Allowance(
            lambda: self.kernel_may_start, Path(jupyter_data_dir()) / "jupyter-dsvm" / "starts.jsonl"
        )
        self.questions = Questions(
            lambda i: self._bump("questions", i), Path(jupyter_data_dir()) / "jupyter-dsvm" / "answers.json"
        )
        self.page_is_open: Callable[[str], bool] = lambda kernel_id: False
        """Whether a page has that kernel's websocket open. The server's extension knows; elsewhere there is no page."""
        self.look_for_paths: Callable[[], None] = lambda: None
        """Has the notebooks' paths brought up to date, and blocks for a moment; set by the server's extension."""
        self.advising = Advising(self, self._work.submit)
        self.completion = Completion(self.known, self.connections, self._work.submit)
        self._unsubscribe = self.registry.subscribe(self._kernel_changed)
        self._unsubscribe_executed = self.registry.subscribe_executed(self.workspaces.executed)

    def _make_providers(self) -> list[ComputeProvider]:
        # Late: the cloud's libraries take time and memory, and most sessions begin without needing them.
        providers: list[ComputeProvider] = []
        if "free" in self.compute_providers:
            from .compute.free_tier import FreeTier

            providers.append(FreeTier(parent=self))
        if "azure" in self.compute_providers:
            from .compute.azure import AzureCompute

            providers.append(AzureCompute(parent=self))
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
        self._listeners.append(listener)

        def unlisten() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unlisten

    def _bump(self, what: str, thing: str | None) -> None:
        with self._lock:
            self._revisions[what] += 1
            revision = self._revisions[what]
        for listener in list(self._listeners):
            listener(what, thing, revision)

    def _compute_changed(self, compute_id: str | None) -> None:
        self._bump("computes", compute_id)
        row = self.known.known(compute_id) if compute_id is not None else None
        if row is not None:
            self.elsewhere.seen([row])

    def _kernel_changed(self, kernel_id: str) -> None:
        """On the I/O thread, for every status of every kernel: only what a row's reader must know now becomes an event."""
        row = self._row(kernel_id)
        self.workspaces.kernel_changed(kernel_id, row)
        if row is not None:
            self._note_where(row)
        shown = (
            None
            if row is None
            else (row.compute, row.kernelspec, row.link, row.moving_to, row.path, row.last_compute, row.problem)
        )
        self.deaths.kernels_changed(any(p.status.compute == FREE for p in self.registry.all()))
        with self._lock:
            before = self._rows.get(kernel_id)
            if shown == before:
                return
            if shown is None:
                del self._rows[kernel_id]
            else:
                self._rows[kernel_id] = shown
        self._bump("kernels", kernel_id)
        if (before and before[0]) != (shown and shown[0]):
            self._bump("computes", None)  # the notebooks attached to one or two of them have changed
            self.connections.kernels_changed()
        if shown is None:
            self.deaths.problem(kernel_id, None)
            self.moves.forget(kernel_id)
            self.advising.forget(kernel_id)

    def set_paths(self, paths: Mapping[str, str]) -> None:
        """The notebooks' paths by kernel id, from the session manager, so that renames follow. The extension calls this."""
        with self._lock:
            if dict(paths) == self._paths:
                return
            before, self._paths = self._paths, dict(paths)
            known = list(self._rows)
        renamed = {old: paths[k] for k, old in before.items() if paths.get(k, old) != old}
        if renamed:
            self._in_background(lambda: self.questions.renamed(renamed))
        self._renamed(before, paths)
        self.workspaces.folder_renamed()
        for kernel_id in known:
            self._kernel_changed(kernel_id)
        self._bump("computes", None)

    # Lists

    def computes(self, refresh: bool = False) -> ComputeList:
        """Everything a notebook can run on, with the notebooks that do. Blocks while a cloud is asked."""
        with self._lock:
            revision = self._revisions["computes"]
        snapshot = self.known.snapshot(refresh)
        self.elsewhere.looked()
        self.elsewhere.seen(snapshot.computes)
        attached: dict[str, list[str]] = {}
        for row in self.kernels()[0]:
            if row.link.state is not LinkPhase.GONE:
                attached.setdefault(row.compute, []).append(row.notebook)
        return ComputeList(
            tuple(dataclasses.replace(c, attached=tuple(sorted(attached.get(c.id, ())))) for c in snapshot.computes),
            snapshot.problems,
            snapshot.as_of,
            max(revision, self._revisions["computes"]) if refresh else revision,
        )

    def kernels(self) -> tuple[list[KernelRecord], int]:
        """The kernels whose fronts this process holds, and the list's revision."""
        with self._lock:
            revision = self._revisions["kernels"]
        rows = [self._row(p.kernel_id) for p in self.registry.all()]
        return [r for r in rows if r is not None], revision

    def _row(self, kernel_id: str) -> KernelRecord | None:
        proxy = self.registry.get(kernel_id)
        if proxy is None:
            return None
        status = proxy.status
        return KernelRecord(
            id=kernel_id,
            path=self._paths.get(kernel_id),
            compute=status.compute,
            kernelspec=status.kernelspec,
            link=status.link,
            execution_state=status.execution_state,
            last_activity=status.last_activity,
            moving_to=proxy.moving,
            last_compute=self._last_compute(self._paths.get(kernel_id), status.compute),
            problem=self.deaths.problem(kernel_id, proxy.death),
        )

    def _in_use(self) -> set[str]:
        """Ids of the computes that kernels of ours run on or are moving to."""
        proxies = self.registry.all()
        return {p.status.compute for p in proxies} | {p.moving for p in proxies if p.moving}

    def revision(self, what: str) -> int:
        """Of ``computes``, ``kernels``, ``operations``, ``signin``, ``questions`` or ``workspaces``."""
        with self._lock:
            return self._revisions[what]

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

    def kernelspecs(self, compute: str) -> list[dict[str, str]]:
        """What can be started on a running machine, the first being what an attach without a name takes. Blocks."""
        return [s.to_json() for s in self.moves.kernelspecs(self.known.find(compute), Cancel())]

    def kernelspecs_changed(self) -> None:
        """Of this server, for a machine that was attached or left: a page that has the list looks for them then."""
        self._bump("computes", None)

    def metrics(self, compute: str) -> Future[Metrics]:
        """How much of it is in use. Blocks only to find it; see ``ComputeMetrics.of`` for what to do with the answer."""
        return self.measured.of(compute)

    def _look_at_memory(self) -> Look:
        return self._this_server().memory_look()

    def data_use(self) -> Usage | None:
        """How much of the data that a user may keep here is kept; None where there is no limit, or it has not been counted yet.
        Blocks for a moment."""
        return self._this_server().data_use()

    def _this_server(self) -> FreeTier:
        # One of its own: those of ``known`` are made when a cloud is first asked, which is much for a look at the memory.
        with self._lock:
            if self._free_tier is None:
                from .compute.free_tier import FreeTier

                self._free_tier = FreeTier(parent=self)
            return self._free_tier

    def operations(self) -> tuple[list[Operation], int]:
        self.elsewhere.looked()
        with self._lock:
            revision = self._revisions["operations"]
        return self.operations_store.all(), revision

    def open_questions(self) -> tuple[list[Question], int]:
        """What code wants to do and a person has to allow, and the list's revision. For pages: these count as seen now."""
        revision = self.revision("questions")
        return self.questions.open(), revision

    def workspaces_changed(self, workspace_id: str | None) -> None:
        self._bump("workspaces", workspace_id)

    def notebook_paths(self) -> list[str]:
        """Of all kernels that the session manager has."""
        return list(self._paths.values())

    def path(self, kernel_id: str) -> str | None:
        """The notebook's path, where the session manager has said it."""
        return self._paths.get(kernel_id)

    def operation(self, operation_id: str) -> Operation:
        return self.operations_store.get(operation_id).value

    def cancel(self, operation_id: str) -> None:
        self.operations_store.cancel(operation_id)

    def _notebook_name(self, kernel_id: str) -> str:
        row = self._row(kernel_id)
        return row.notebook if row is not None else kernel_id

    def _notebooks_on(self, compute: str) -> list[str]:
        return sorted(r.notebook for r in self.kernels()[0] if r.compute == compute)

    # Moves

    def attach(
        self,
        kernel_id: str,
        compute: str,
        kernelspec: str | None = None,
        interrupt: bool = False,
        sync: bool | None = None,
    ) -> Operation:
        """Move a kernel; ``free`` brings it back. Blocks only to find the compute. The page's way: it may start machines.
        ``interrupt``: what still runs when the new kernel has answered is interrupted rather than waited for. ``sync``: whether the
        notebook's files go along; None: as it is configured, True also where they are many."""
        proxy = self.proxy(kernel_id)
        row = self.known.find(compute)
        if self.stays(proxy, row, kernelspec):
            self.moves.withdraw(proxy, f"The notebook stays on {row.name}.")
            kind = "detach" if row.id == FREE else "attach"
            running = self.operations_store.begin(kind, compute=row.id, kernel=kernel_id)
            running.done(f"The notebook runs on {row.name} already.")
            return running.value
        running = self.moves.begin(proxy, row)

        def move() -> None:
            swapped = self.moves.run(running, proxy, row, kernelspec, None, interrupt=interrupt, sync=sync)
            swapped.add_done_callback(lambda f: self._in_background(lambda: self._note_missing(running, kernelspec)))

        self.spawn(running, move)
        return running.value

    def _note_missing(self, running: Running, kernelspec: str | None) -> None:
        """After a move: what the notebook imports and has not there, and what does not use the GPU there, as long as its operation
        is listed. Of a machine that was on, the page has looked before what is missing."""
        kernel = running.value.kernel
        if running.value.state is OperationState.DONE and kernel is not None:
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
            backend = self.moves.remote_backend(
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
        self.changes.leave()
        self.elsewhere.close()
        self.resuming.close()
        for running in self.operations_store.running():
            running.cancel_reason = "The server is stopping."
            running.cancel.leaving = True
            running.cancel.set()
            if running.on_cancel is not None:
                running.on_cancel(running.cancel_reason)
        self.returns.close("The server is stopping.")
        self.workspaces.close()
        self.accounts.close()
        self._requests.shutdown(wait=True, cancel_futures=True)
        self._work.shutdown(wait=True, cancel_futures=True)
        self.last_ran.save()
        self.changes.close()
        self.connections.close()
        self.known.close()
        if self._free_tier is not None:
            self._free_tier.close()
        self.own_folder.remove()
        self._listeners.clear()


def load_service(config: Config | None = None, log: logging.Logger | None = None) -> DSVMService:
    """A service outside a server, configured by ``jupyter_dsvm_config.{json,py}`` on Jupyter's configuration path.

    Blocks (imports, files). Whoever calls it closes it.
    """
    logger = log or logging.getLogger("jupyter_dsvm")
    merged = load_config(logger)
    merged.merge(config or Config())
    return DSVMService(config=merged, log=logger)
