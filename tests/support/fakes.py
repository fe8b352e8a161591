"""Stand-ins for what the service works with: a machine park and a kernel's front, both without any I/O."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from jupyter_dsvm.compute.creating import Creation, LocationOffer, NewCompute, SubscriptionOffer
from jupyter_dsvm.compute.provider import Cancel, Listing, Memo, Report
from jupyter_dsvm.errors import Cancelled, DSVMError, NotFound, UnknownCompute
from jupyter_dsvm.kernels.cellbook import CellBook
from jupyter_dsvm.kernels.deaths import Death
from jupyter_dsvm.kernels.kernelspecs import RemoteSpec, parse_specs
from jupyter_dsvm.kernels.outputstore import OutputStore
from jupyter_dsvm.kernels.proxy import ProxyStatus
from jupyter_dsvm.models import (
    FREE,
    OS,
    Compute,
    ComputeKind,
    LinkPhase,
    LinkState,
    Operation,
    PowerState,
    Price,
    Size,
    SizeOffer,
    SSHTarget,
    WorkspaceConflict,
    WorkspaceEstimate,
    WorkspaceFile,
    WorkspaceRecord,
    WorkspaceState,
    utc_now,
)
from jupyter_dsvm.operations import Running
from jupyter_dsvm.service import DSVMService
from jupyter_dsvm.ssh.grants import Grant
from jupyter_dsvm.ssh.hostkeys import HostKeys


def dsvm(name: str, power: PowerState = PowerState.RUNNING, **more: Any) -> Compute:
    values = {"subscription": "sub1", "resource_group": "lab", **more}
    return Compute(id=f"azure:{name}-id", name=name, kind=ComputeKind.DSVM, power_state=power, **values)


class FakeCompute:
    """A provider of Azure's kind, in memory. ``gate`` holds changes up until it is set; ``refuse`` makes them fail."""

    prefix = "azure:"

    def __init__(self, *rows: Compute) -> None:
        self.rows = {r.id: r for r in rows}
        self.refuse: DSVMError | None = None
        self.list_error: DSVMError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []
        self.offers = [
            SizeOffer(Size("Standard_D4ds_v5", 4, 16.0, 0), Price(0.27, "USD", "2026-01-01T00:00:00Z"), current=True),
            SizeOffer(Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "T4"), Price(0.66, "USD", "2026-01-01T00:00:00Z")),
            SizeOffer(
                Size("Standard_NC24ads_A100_v4", 24, 220.0, 1, "A100"), available=False, reason="Its quota is 0."
            ),
        ]
        self.closed = False

    def list(self) -> Listing:
        self.asked.append("list")
        if self.list_error is not None:
            raise self.list_error
        return Listing(tuple(self.rows.values()))

    def get(self, compute_id: str) -> Compute:
        if compute_id not in self.rows:
            raise UnknownCompute(f"There is no compute {compute_id}.")
        return self.rows[compute_id]

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("start", compute_id, PowerState.RUNNING, report, cancel)

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("stop", compute_id, PowerState.DEALLOCATED, report, cancel)

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        return self._change("restart", compute_id, PowerState.RUNNING, report, cancel)

    def _change(
        self, kind: str, compute_id: str, power: PowerState, report: Report, cancel: Cancel, memo: Memo | None = None
    ) -> Compute:
        self.asked.append(f"{kind} {compute_id}")
        report(f"{kind}: asking", 0.5)
        while not self.gate.wait(0.01):
            if cancel.is_set():
                raise Cancelled("It was cancelled.")
        if self.refuse is not None:
            raise self.refuse
        row = self.rows[compute_id] = dataclasses.replace(self.rows[compute_id], power_state=power)
        return row

    def sizes(self, compute_id: str) -> tuple[list[SizeOffer], str]:
        self.asked.append(f"sizes {compute_id}")
        return self.offers, "It is released, changed and started again."

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """As Azure's goes: its stages are noted, and ``gate`` holds up the last."""
        memo = memo or Memo()
        row = self.rows[compute_id]
        ran = row.power_state is PowerState.RUNNING
        chosen = next(o.size for o in self.offers if o.size.name.lower() == size)
        memo.note(stage="release", size=chosen.name, old=row.size.name if row.size else "", ran=ran, asked=False)
        self.rows[compute_id] = dataclasses.replace(row, power_state=PowerState.DEALLOCATED)
        memo.note(stage="change")
        self.rows[compute_id] = dataclasses.replace(self.rows[compute_id], size=chosen)
        if ran:
            memo.note(stage="start")
        return self._change("resize", compute_id, row.power_state, report, cancel)

    def set_up_access(self, compute_id: str, report: Report, cancel: Cancel, **options: Any) -> str:
        self.asked.append(f"access {compute_id} {options}")
        return "It is set up."

    def may_set_up(self, compute_id: str) -> bool:
        return False

    def grant(self, compute_id: str) -> Grant:
        return Grant()

    def forget_access(self, compute_id: str, report: Report, cancel: Cancel, taken_away: bool) -> str:
        self.asked.append(f"forget {compute_id}")
        return "It is forgotten."

    def ssh_target(self, compute_id: str) -> SSHTarget:
        # Nobody can tell through a command whether it has booted, so nothing of this computer is asked.
        return SSHTarget(compute_id, self.rows[compute_id].name, "127.0.0.1", proxy_command="false")

    def close(self) -> None:
        self.closed = True


class FakeMaker(FakeCompute):
    """One that can make new computes."""

    def creation(self, location: str | None = None, subscription: str | None = None) -> Creation:
        offers = (SizeOffer(Size("Standard_D2ds_v5", 2, 8.0, 0), Price(0.1, "USD", utc_now())),) if location else ()
        return Creation(
            True,
            subscriptions=(SubscriptionOffer("sub1", "Research"),),
            subscription=subscription or "sub1",
            locations=(LocationOffer("westeurope", "West Europe"),),
            location=location,
            sizes=offers,
            image="microsoft-dsvm:ubuntu-2204:2204-gen2",
            resource_group="lab",
            notice="Its disk costs extra.",
        )

    def create(self, wanted: NewCompute, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        self.rows[f"azure:{wanted.name}-id"] = dsvm(wanted.name, PowerState.DEALLOCATED)
        self.memo = memo
        return self._change("create", f"azure:{wanted.name}-id", PowerState.RUNNING, report, cancel)


class FakeFree(FakeCompute):
    prefix = FREE

    def __init__(self) -> None:
        super().__init__(Compute(id=FREE, name="Free tier", kind=ComputeKind.FREE, power_state=PowerState.RUNNING))


def windows(name: str) -> Compute:
    return dsvm(name, os=OS.WINDOWS)


@dataclasses.dataclass
class FakeBackend:
    compute: str
    compute_name: str
    kernelspec: str = "python3"
    language: str = "python"
    interrupt_mode: str = "signal"
    trusted: bool = True
    notice: str = ""


class FakeProxy:
    """A kernel's front, as the service sees it (``kernels.proxy.Proxy``). A swap waits until ``cell_ended``."""

    def __init__(self, kernel_id: str = "k1", busy: bool = False) -> None:
        self.kernel_id = kernel_id
        self.key = b"secret-key"
        self.signature_scheme = "hmac-sha256"
        self.session = "s1"
        self.kernelspec = "python3"
        self.status = ProxyStatus(
            kernelspec="python3", language="python", link=LinkState(LinkPhase.LOCAL, utc_now()), execution_state="idle"
        )
        self.moving: str | None = None
        self.death: Death | None = None
        self.on_user_cancel: list[Callable[[str], None]] = []
        self.recording = FakeRecording()
        self.clients = SimpleNamespace(connected=lambda: {"s1"})
        self.busy = busy
        self.prepare_error: DSVMError | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.preparing: tuple[FakeBackend, Future[None]] | None = None
        self.waiting: tuple[FakeBackend, Future[None]] | None = None
        self.log: list[str] = []

    def make_local(self) -> FakeBackend:
        return FakeBackend(FREE, "Free tier")

    def prepare(self, backend: FakeBackend) -> Future[None]:
        future: Future[None] = Future()
        self.log.append(f"prepare {backend.compute}")
        if self.prepare_error is not None:
            future.set_exception(self.prepare_error)
        elif self.answers.is_set():
            future.set_result(None)
        else:
            self.preparing = (backend, future)
        return future

    def swap(self, backend: FakeBackend, interrupt: bool = False, carry: Any = None) -> Future[None]:
        future: Future[None] = Future()
        self.log.append(f"swap {backend.compute}{', interrupting' if interrupt else ''}{', carrying' if carry else ''}")
        earlier, self.waiting = self.waiting, (backend, future)
        if earlier is not None:
            earlier[1].set_exception(Cancelled("A later attach took the place of this one."))
        if not self.busy:
            self.cell_ended()
        return future

    def say(self, text: str) -> None:
        self.log.append(f"say {text}".strip())

    def cell_ended(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            backend, future = waiting
            self.status = dataclasses.replace(
                self.status,
                compute=backend.compute,
                compute_name=backend.compute_name,
                kernelspec=backend.kernelspec,
                language=backend.language,
            )
            future.set_result(None)

    def cancel_swap(self, reason: str) -> Future[None]:
        self.log.append(f"cancel: {reason}")
        for pending in (self.preparing, self.waiting):
            if pending is not None:
                pending[1].set_exception(Cancelled(reason))
        self.preparing = self.waiting = None
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def user_interrupts(self) -> None:
        for callback in list(self.on_user_cancel):
            callback("interrupted")
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting[1].set_exception(Cancelled("The move was cancelled: the kernel was interrupted."))


class FakeRecording:
    """``kernels.recording.Recording`` as the REST API uses it."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"version": 0, "rows": [], "next": None}
        self.asked: list[tuple[int, int]] = []
        self.forgotten: list[str] = []
        self.store: OutputStore | None = None

    def look(self, function: Callable[[OutputStore, CellBook], Any]) -> Any:
        return function(self.store, self.store.read(0)) if self.store is not None else None

    def forget(self, msg_id: str) -> None:
        self.forgotten.append(msg_id)

    def since(self, version: int, after: int) -> dict[str, Any]:
        self.asked.append((version, after))
        return self.answer


class FakeRegistry:
    """``kernels.registry.Registry`` as the service uses it."""

    def __init__(self, *proxies: FakeProxy) -> None:
        self.proxies = {p.kernel_id: p for p in proxies}
        self.listeners: list[Callable[[str], None]] = []
        self.executed_listeners: list[Callable[[str], None]] = []

    def get(self, kernel_id: str) -> FakeProxy | None:
        return self.proxies.get(kernel_id)

    def all(self) -> list[FakeProxy]:
        return list(self.proxies.values())

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def subscribe_executed(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.executed_listeners.append(listener)
        return lambda: self.executed_listeners.remove(listener)

    def changed(self, kernel_id: str) -> None:
        for listener in list(self.listeners):
            listener(kernel_id)


RECORD = WorkspaceRecord(
    "w1",
    "azure:cpu-vm-id",
    "work",
    ("k1",),
    WorkspaceState.CONFLICTS,
    "84 MB, 1 conflict",
    340,
    84_000_000,
    conflicts=(WorkspaceConflict("data.csv", "data (cpu-vm 2026-11-28 05.10).csv"),),
    left_there=(WorkspaceFile("model.bin", 2_000_000_000, "There is no room for it here."),),
    skipped=(WorkspaceFile("out", None, "it is a link to a place outside"),),
)


class FakeWorkspaces:
    """What is asked of ``workspaces.Workspaces`` by hand, without files: it takes the place of those methods of a service's own.
    ``run`` is what a sync does with its operation; it ends it."""

    def __init__(self, service: DSVMService, *records: WorkspaceRecord) -> None:
        self.operations = service.operations_store
        for name in ("records", "of_kernel", "estimate", "sync", "fetch", "resolve"):
            setattr(service.workspaces, name, getattr(self, name))
        self.rows = list(records)
        self.asked: list[tuple[Any, ...]] = []
        self.run: Callable[[Running], object] = lambda running: running.done("In step: 3 files came here.")

    def records(self) -> tuple[list[WorkspaceRecord], int]:
        return self.rows, 1

    def of_kernel(self, kernel_id: str) -> WorkspaceRecord | None:
        return next((r for r in self.rows if kernel_id in r.kernels), None)

    def _find(self, workspace_id: str) -> WorkspaceRecord:
        for row in self.rows:
            if row.id == workspace_id:
                return row
        raise NotFound(f"There is no workspace {workspace_id!r}.", code="UnknownWorkspace")

    def estimate(self, kernel_id: str, compute: str) -> WorkspaceEstimate:
        self.asked.append(("estimate", kernel_id, compute))
        return WorkspaceEstimate("work", compute, True, files=340, bytes=84_000_000)

    def sync(self, workspace_id: str, direction: str = "both", force: bool = False, yes: bool = False) -> Operation:
        self.asked.append(("sync", workspace_id, direction, force, yes))
        return self._begin(workspace_id)

    def fetch(self, workspace_id: str, paths: list[str]) -> Operation:
        self.asked.append(("fetch", workspace_id, paths))
        return self._begin(workspace_id)

    def _begin(self, workspace_id: str) -> Operation:
        row = self._find(workspace_id)
        running = self.operations.begin("sync", compute=row.compute, kernel=row.kernels[0], steps=[("files", "Copy")])
        running.step("files")
        threading.Thread(target=self.run, args=(running,)).start()
        return running.value

    def resolve(self, workspace_id: str, path: str, keep: str) -> None:
        self.asked.append(("resolve", workspace_id, path, keep))
        if path not in [c.path for c in self._find(workspace_id).conflicts]:
            raise NotFound(f"{path} is no conflict.", code="UnknownConflict")


PYTHON3 = {"name": "python3", "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
PYTHON3 |= {"display_name": "Python 3 (ipykernel)", "language": "python", "metadata": {"debugger": True}}
IR = {"name": "ir", "argv": ["R", "{connection_file}"], "display_name": "R", "language": "R"}


class FakePipe:
    def kernelspecs(self, timeout: float = 60.0, known: bool = False) -> list[dict[str, Any]]:
        return [IR, PYTHON3]


class FakeConnections:
    """``connections.Connections`` without SSH; ``error`` is what connecting fails with."""

    def __init__(self) -> None:
        self.error: DSVMError | None = None
        self.passwords: dict[str, str | None] = {}
        self.starts: list[dict[str, Any]] = []
        self.hurried: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[str, Future[Any]] = {}
        self.kernelspecs: dict[str, list[str]] = {}
        self.closed = False

    def stands(self, compute_id: str) -> bool:
        return False

    def hurry(self, compute_id: str) -> None:
        self.hurried.append(compute_id)

    def known_kernelspecs(self, compute_id: str) -> list[str]:
        return self.kernelspecs.get(compute_id, [])

    def open(self, compute: Compute, cancel: Cancel, set_up: Report | None = None) -> FakePipe:
        if self.error is not None:
            raise self.error
        return FakePipe()

    def backend(
        self, pipe: FakePipe, compute: Compute, kernel_id: str, start: dict[str, Any], spec: Any
    ) -> FakeBackend:
        self.starts.append(start)
        return FakeBackend(compute.id, compute.name, spec.name, spec.language, trusted=False)

    def wait_for_boot(self, compute: Compute, cancel: Cancel) -> str:
        return ""

    def is_coming_back(self, compute_id: str) -> bool:
        return False

    def ask(self, compute_id: str, operation: str, **arguments: Any) -> Future[Any] | None:
        self.asked.append((compute_id, operation))
        return self.answers.get(compute_id)

    def kernels_changed(self) -> None:
        pass

    def let_in(self, compute: Compute, cancel: Cancel) -> None:
        if self.error is not None:
            raise self.error

    def kernelspecs_there(self, compute_id: str, seconds: float) -> list[RemoteSpec] | None:
        return parse_specs(FakePipe().kernelspecs())

    @property
    def host_keys(self) -> HostKeys:
        return HostKeys()

    def set_password(self, compute_id: str, password: str | None) -> None:
        self.passwords[compute_id] = password

    def stopped(self, compute_id: str) -> None:
        pass

    def close(self) -> None:
        self.closed = True
