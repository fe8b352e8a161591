"""What the service knows and lists: computes, kernels, operations, questions, and how much of a compute is in use.

The part of ``DSVMService`` that is read: by the page after an event, by the magic and by the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel
from .models import FREE, Compute, KernelRecord, LinkPhase, Metrics, Operation, Problem, Question, Usage

if TYPE_CHECKING:
    from .advising import Advising
    from .arrivals import Arrivals
    from .carrying import Carrying
    from .compute.free_tier import FreeTier
    from .computes import Computes
    from .connections import Connections
    from .elsewhere import Elsewhere
    from .idlestops import IdleStops
    from .kerneldeaths import KernelDeaths
    from .metrics import ComputeMetrics
    from .moves import Moves
    from .operations import OperationStore
    from .questions import Questions
    from .relay.deaths import Look
    from .relay.usage import Memory
    from .revisions import Revisions
    from .workspaces import Workspaces


UNDER_WAY = {"install": "packages are being installed", "sync": "files are being copied"}
"""Operations that keep a machine on, and in which words."""


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


class Inventory:
    # Of DSVMService
    _lock: Any
    registry: Any
    revisions: Revisions
    known: Computes
    elsewhere: Elsewhere
    idle_stops: IdleStops
    connections: Connections
    operations_store: OperationStore
    workspaces: Workspaces
    questions: Questions
    deaths: KernelDeaths
    measured: ComputeMetrics
    arrivals: Arrivals
    moves: Moves
    advising: Advising
    carrying: Carrying
    _in_background: Callable[[Callable[[], object]], None]
    _note_where: Callable[[KernelRecord], None]
    _renamed: Callable[[Mapping[str, str], Mapping[str, str]], None]
    _last_compute: Callable[[str | None, str], str | None]

    def _join_inventory(self) -> None:
        self._paths: Mapping[str, str] = {}
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._free_tier: FreeTier | None = None

    # What has changed

    def _kernel_changed(self, kernel_id: str) -> None:
        """On the I/O thread, for every status of every kernel: only what a row's reader must know now becomes an event."""
        row = self._row(kernel_id)
        self.workspaces.kernel_changed(kernel_id, row)
        if row is not None:
            self._note_where(row)
            if row.execution_state == "busy":
                self.idle_stops.used(row.compute)
        shown = (
            None
            if row is None
            else (
                row.compute,
                row.kernelspec,
                row.link,
                row.moving_to,
                row.path,
                row.last_compute,
                row.problem,
                row.saved,
            )
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
        self.revisions.bump("kernels", kernel_id)
        if (before and before[0]) != (shown and shown[0]):
            self.revisions.bump("computes", None)  # the notebooks attached to one or two of them have changed
            self.connections.kernels_changed()
            self.idle_stops.look()
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
        self.revisions.bump("computes", None)

    # Lists

    def computes(self, refresh: bool = False) -> ComputeList:
        """Everything a notebook can run on, with the notebooks that do. Blocks while a cloud is asked."""
        revision = self.revisions.of("computes")
        snapshot = self.known.snapshot(refresh)
        self.elsewhere.looked()
        self.elsewhere.seen(snapshot.computes)
        attached: dict[str, list[str]] = {}
        for row in self.kernels()[0]:
            if row.link.state is not LinkPhase.GONE:
                attached.setdefault(row.compute, []).append(row.notebook)
        return ComputeList(
            tuple(
                dataclasses.replace(
                    c,
                    attached=tuple(sorted(attached.get(c.id, ()))),
                    idle=self.idle_stops.of(c.id) or self.idle_stops.expected(c),
                )
                for c in snapshot.computes
            ),
            snapshot.problems,
            snapshot.as_of,
            max(revision, self.revisions.of("computes")) if refresh else revision,
        )

    def kernels(self) -> tuple[list[KernelRecord], int]:
        """The kernels whose fronts this process holds, and the list's revision."""
        revision = self.revisions.of("kernels")
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
            saved=self.carrying.saved(kernel_id),
        )

    def _busy_on(self, compute_id: str) -> list[str]:
        """Why that machine is not idle, as far as it is known here: for ``idlewatch``, beside what the machine says itself."""
        proxies = self.registry.all()
        busy = []
        if any(p.status.compute == compute_id and p.status.execution_state == "busy" for p in proxies):
            busy.append("a cell runs")
        if any(p.moving and compute_id in (p.moving, p.status.compute) for p in proxies):
            busy.append("a notebook is moving")
        kinds = {r.value.kind for r in self.operations_store.running() if r.value.compute == compute_id}
        busy += [words for kind, words in UNDER_WAY.items() if kind in kinds]
        return busy

    def _in_use(self) -> set[str]:
        """Ids of the computes that kernels of ours run on or are moving to."""
        proxies = self.registry.all()
        return {p.status.compute for p in proxies} | {p.moving for p in proxies if p.moving}

    def kernelspecs(self, compute: str) -> list[dict[str, str]]:
        """What can be started on a running machine, the first being what an attach without a name takes. Blocks."""
        return [s.to_json() for s in self.arrivals.kernelspecs(self.known.find(compute), Cancel())]

    def kernelspecs_changed(self) -> None:
        """Of this server, for a machine that was attached or left: a page that has the list looks for them then."""
        self.revisions.bump("computes", None)

    def metrics(self, compute: str) -> Future[Metrics]:
        """How much of it is in use. Blocks only to find it; see ``ComputeMetrics.of`` for what to do with the answer."""
        return self.measured.of(compute)

    def _look_at_memory(self) -> Look:
        return self._this_server().memory_look()

    def memory_here(self) -> Memory | None:
        """Of this server, where it is known. Blocks for a moment."""
        return self._look_at_memory().memory

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
        revision = self.revisions.of("operations")
        return self.operations_store.all(), revision

    def open_questions(self) -> tuple[list[Question], int]:
        """What code wants to do and a person has to allow, and the list's revision. For pages: these count as seen now."""
        revision = self.revisions.of("questions")
        return self.questions.open(), revision

    def variables_changed(self, kernel_id: str) -> None:
        """Those that were saved of its notebook."""
        self._kernel_changed(kernel_id)

    def workspaces_changed(self, workspace_id: str | None) -> None:
        self.revisions.bump("workspaces", workspace_id)

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

    def dismiss(self, operation_id: str) -> None:
        self.operations_store.dismiss(operation_id)
        self.revisions.bump("operations", operation_id)

    def _notebook_name(self, kernel_id: str) -> str:
        row = self._row(kernel_id)
        return row.notebook if row is not None else kernel_id

    def _notebooks_on(self, compute: str) -> list[str]:
        return sorted(r.notebook for r in self.kernels()[0] if r.compute == compute)
