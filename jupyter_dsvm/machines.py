"""Changes of machines for the page and the REST API: the part of ``DSVMService`` that begins them.

Each method answers at once with the operation, and the work goes on on a worker thread. The magic and the command line, which wait
for the end, use ``changes``, ``resizes``, ``creations`` and ``access`` themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import temporarydisk
from .access import Access, AccessRequest
from .changes import Changes
from .compute.creating import Creation, NewCompute
from .creations import Creations
from .errors import DSVMError
from .models import Operation, StopLoss
from .resizes import Resizes
from .resuming import Resuming
from .returns import Return, Returns

if TYPE_CHECKING:
    from .computes import Computes, PowerKind
    from .connections import Connections
    from .keptchanges import KeptChanges
    from .operations import OperationStore, Running
    from .spending import Spending
    from .temporarydisk import Lost
    from .trips import Trips


class MachineChanges:
    # Of DSVMService
    log: Any
    _work: Any
    known: Computes
    operations_store: OperationStore
    connections: Connections
    returns: Returns
    trips: Trips
    spending: Spending
    _notebooks_on: Callable[[str], list[str]]

    def _join_changes(self, kept: KeptChanges) -> None:
        """Make the objects that do the work."""
        self.changes = Changes(
            self.operations_store,
            self.known,
            self._notebooks_on,
            self._stopped,
            self.connections.wait_for_boot,
            kept,
            self.trips,
            self.spending,
            self.lost_by_stop,
        )
        self.resuming = Resuming(kept, self.changes, self.known, self.spawn)
        self.resizes = Resizes(
            self.operations_store,
            self.known,
            self.changes,
            self._notebooks_on,
            self._stopped,
            self.trips,
            self.spending,
        )
        self.creations = Creations(self.operations_store, self.known, self.changes, self.spending)
        self.access = Access(self.operations_store, self.known, self.connections, self.changes)

    def lost_by_stop(self, compute_id: str) -> Lost | None:
        """Files on that machine's temporary disk; None where nobody knows. Blocks for some seconds at most; raises nothing."""
        return temporarydisk.ask(self.connections.ask, compute_id)

    def stop_loss(self, compute: str) -> StopLoss:
        """The same for a page that asks before a stop. Raises ``NotFound``."""
        found = self.lost_by_stop(self.known.find(compute).id)
        if found is None:
            return StopLoss(known=False)
        return StopLoss(True, temporarydisk.sentence(found), found.files, found.more, found.bytes)

    def _stopped(self, compute_id: str, reason: str = "") -> Return:
        """We have just stopped that machine, or it was stopped by itself for that ``reason``. Blocks while the cloud confirms
        it."""
        self.connections.stopped(compute_id)
        return self.returns.begin(compute_id, reason)

    def start(self, compute: str) -> Operation:
        return self._power("start", compute)

    def stop(self, compute: str) -> Operation:
        """Deallocate: it then costs nothing but its disk."""
        return self._power("stop", compute)

    def restart(self, compute: str) -> Operation:
        return self._power("restart", compute)

    def _power(self, kind: PowerKind, compute: str) -> Operation:
        running = self.changes.begin_power(kind, compute)
        self.spawn(running, lambda: self.changes.run_power(running, kind))
        return running.value

    def sizes(self, compute: str) -> dict[str, Any]:
        """The sizes that a machine could have, and what a resize does to it. Blocks while the cloud is asked."""
        offers, notice = self.known.sizes(self.known.find(compute).id)
        return {"sizes": [o.to_json() for o in offers], "notice": notice}

    def resize(self, compute: str, size: str, end_kernels: bool = False) -> Operation:
        running = self.resizes.begin(compute, size, end_kernels=end_kernels)
        self.spawn(running, lambda: self.resizes.run(running, size))
        return running.value

    def creation(self, location: str | None, subscription: str | None) -> Creation:
        """What a new machine can be like. Blocks while the cloud is asked."""
        return self.creations.choices(location, subscription)

    def create(self, wanted: NewCompute) -> Operation:
        running = self.creations.begin(wanted)
        self.spawn(running, lambda: self.creations.run(running, wanted))
        return running.value

    def set_up_access(self, compute: str, request: AccessRequest) -> Operation:
        """SSH to a machine: a key, an account, a password."""
        running = self.access.begin(compute, request)
        self.spawn(running, lambda: self.access.run(running, request))
        return running.value

    def forget_access(self, compute: str) -> Operation:
        running = self.access.begin_forget(compute)
        self.spawn(running, lambda: self.access.run_forget(running))
        return running.value

    def release(self, operation_id: str) -> Operation:
        """Cancel what starts a machine, and stop (deallocate) that: the stop."""
        running = self.changes.begin_release(operation_id)
        self.spawn(running, lambda: self.changes.run_release(running))
        return running.value

    def spawn(self, running: Running, work: Callable[[], object]) -> None:
        """Do ``work`` on a worker thread; ``running`` has the outcome."""
        self._work.submit(self._quietly, running, work)

    def _quietly(self, running: Running, work: Callable[[], object]) -> None:
        what = running.value.steps[0].text if running.value.steps else running.value.kind
        try:
            work()
        except DSVMError as e:
            self.log.info("%s: %s", what, e)
        except Exception:
            self.log.exception("%s failed", what)
