"""Shows what others do to a machine (in the portal, from another server) as an operation, and follows it to its end.

A listing, or any other answer of the cloud, tells that a machine is being changed though no operation of this server changes
it. Then its state alone is asked for every few seconds, on one thread for all such machines, and only while somebody may be
looking at them. What is seen decides, by this table::

    power state               updating   kind
    starting                             start
    stopping, deallocating               stop
    any other                 yes        update
    any other                 no         none: it has settled, and the operation is done

Nothing of it can be cancelled here. It gives way to an operation of our own on the same machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .computes import DELETED
from .errors import Cancelled, ComputeError, DSVMError, UnknownCompute
from .models import Compute, ComputeKind, OperationState, PowerState

if TYPE_CHECKING:
    from .computes import Computes
    from .operations import OperationStore, Running

log = logging.getLogger("jupyter_dsvm.elsewhere")

INTERVAL = 3.0
"""Seconds between two looks at a machine: 20 a minute of the 4,000 reads in 3 minutes that Azure allows a subscription."""

LOOKED_SECONDS = 600.0
"""After the last list that was asked for, nobody is looking any more."""

LIMIT_SECONDS = 1800.0
"""For which one operation is followed; as long as ``AzureCompute.operation_timeout`` is by itself."""

PATIENCE = 120.0
"""Seconds without an answer until following ends."""

MOST = 20
"""Machines followed at a time. Of more, the list has the state."""

DOING = {"start": "starts", "stop": "stops", "update": "is changing"}


def kind_of(row: Compute) -> str | None:
    """What is being done to it, as far as its state tells."""
    if row.power_state is PowerState.STARTING:
        return "start"
    if row.power_state in (PowerState.STOPPING, PowerState.DEALLOCATING):
        return "stop"
    return "update" if row.updating else None


@dataclass
class _Followed:
    name: str
    kind: str
    running: Running | None = None
    """None until a look at the machine itself has confirmed what a list said, which may be old."""
    since: float = 0.0
    heard: float = 0.0
    not_before: float = 0.0


class Elsewhere:
    def __init__(self, operations: OperationStore, computes: Computes, interval: float = INTERVAL) -> None:
        self._operations, self._computes = operations, computes
        self.interval = interval
        self._lock = threading.Lock()
        self._followed: dict[str, _Followed] = {}
        self._given_up: dict[str, str] = {}
        """Kinds that took too long, by machine; forgotten once it is seen otherwise."""
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def looked(self) -> None:
        """Somebody has asked for a list."""
        self._looked_at = time.monotonic()

    def seen(self, rows: Iterable[Compute]) -> None:
        """What a cloud has said of these machines. From any thread; does not block."""
        if self._nobody_looks:
            return
        for row in rows:
            kind = kind_of(row) if row.kind is ComputeKind.DSVM else None
            if kind is None and row.id not in self._given_up:
                continue  # nearly all of thousands
            with self._lock:
                if self._given_up.get(row.id, kind) != kind:
                    del self._given_up[row.id]
                if kind is None or row.id in self._followed or row.id in self._given_up or self._closed.is_set():
                    continue
                if len(self._followed) >= MOST:
                    return
            if not self._is_ours(row.id):
                self._follow(row, kind)

    def _follow(self, row: Compute, kind: str) -> None:
        now = time.monotonic()
        with self._lock:
            if self._closed.is_set():
                return
            self._followed.setdefault(row.id, _Followed(row.name, kind, since=now, heard=now))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-elsewhere", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Blocks for as long as a look takes, some seconds at most."""
        with self._lock:
            self._closed.set()
            thread = self._thread
        if thread is not None:
            thread.join(5)
        for followed in list(self._followed.values()):
            self._end(followed, Cancelled("The server is stopping."))

    @property
    def _nobody_looks(self) -> bool:
        return time.monotonic() - self._looked_at > LOOKED_SECONDS

    def _is_ours(self, compute: str) -> bool:
        """Whether an operation of this server changes it. An attach does only where it starts it; a machine that is only being
        made here has no id yet that could tell."""
        return self._computes.is_changing(compute) or any(
            r.value.compute in (compute, None)
            and not r.value.elsewhere
            and (r.starts or r.value.kind not in ("attach", "detach"))
            for r in self._operations.running()
        )

    # On the thread

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                followed = list(self._followed.items())
                if not followed:
                    self._thread = None
                    return
            for compute, one in followed:
                if self._closed.is_set():
                    return
                try:
                    over = self._look(compute, one)
                except Exception:
                    log.exception("following %s failed", one.name)
                    self._end(one, ComputeError(f"Following {one.name} failed.", code="Internal"))
                    over = True
                if over:
                    with self._lock:
                        self._followed.pop(compute, None)
            self._closed.wait(self.interval)

    def _look(self, compute: str, one: _Followed) -> bool:
        """Whether following it is over."""
        now = time.monotonic()
        if self._is_ours(compute):
            self._end(one, notice=f"{one.name} is changed by an operation of this server now.")
            return True
        if self._nobody_looks:
            self._end(
                one,
                Cancelled(
                    f"{one.name} is not followed any more, since nobody has looked for {LOOKED_SECONDS / 60:.0f} min.",
                    advice="Refresh the list to see how it is.",
                ),
            )
            return True
        if now < one.not_before:
            return False
        try:
            row = self._computes.look(compute)
        except UnknownCompute as e:
            return self._gone(compute, one, e)
        except DSVMError as e:
            one.not_before = now + (e.retry_after or 0.0)
            if now - one.heard > max(PATIENCE, e.retry_after or 0.0):
                self._end(one, e)
                return True
            return False
        one.heard = now
        if self._is_ours(compute):
            return False  # begun meanwhile: said at the next look
        kind = kind_of(row)
        if kind is None:
            return self._settle(compute, one, row)
        if one.running is None or kind != one.kind:
            self._end(one, notice=f"Another operation on {one.name} has taken its place.")
            one.kind, one.since = kind, now
            one.running = self._begin(row, kind)
        elif now - one.since > LIMIT_SECONDS:
            with self._lock:
                self._given_up[compute] = kind
            self._end(
                one,
                ComputeError(
                    f"{one.name} {DOING[kind]} since {LIMIT_SECONDS / 60:.0f} min, by an operation that was begun elsewhere; it is "
                    "not followed any longer.",
                    advice="Look at its activity log in the Azure portal.",
                    code="Timeout",
                ),
            )
            return True
        return False

    def _settle(self, compute: str, one: _Followed, row: Compute) -> bool:
        """Read all of it once: it may have another size now, or be another machine under the same name."""
        if one.running is not None:
            try:
                row = self._computes.fresh(compute)
            except UnknownCompute as e:
                return self._gone(compute, one, e)
            except DSVMError:
                pass  # its state was heard
        self._end(one, notice=_settled(row))
        return True

    def _gone(self, compute: str, one: _Followed, error: UnknownCompute) -> bool:
        if error.code in DELETED:
            self._computes.forget(compute)
        self._end(one, notice=f"{one.name} is gone: {error.message}")
        return True

    def _begin(self, row: Compute, kind: str) -> Running:
        begun = (
            "Azure goes on with it, though this server has stopped waiting."
            if self._was_given_up(row.id, kind)
            else "Begun elsewhere, for example in the Azure portal."
        )
        running = self._operations.begin(
            kind, compute=row.id, steps=[(kind, f"{row.name} {DOING[kind]}. {begun}")], elsewhere=True
        )
        running.step(kind)
        return running

    def _was_given_up(self, compute: str, kind: str) -> bool:
        """Whether the last that this server did to it was the same, and was cancelled before it was done."""
        last = next((o for o in self._operations.all() if o.compute == compute and not o.elsewhere), None)
        if last is None or last.state not in (OperationState.CANCELLED, OperationState.FAILED):
            return False
        same = last.kind == kind or (kind == "start" and last.kind == "attach")
        return same and (
            last.state is OperationState.CANCELLED or (last.error is not None and last.error.code == "Timeout")
        )

    def _end(self, one: _Followed, error: DSVMError | None = None, notice: str = "") -> None:
        running, one.running = one.running, None
        if running is None:
            return
        if error is None:
            running.done(notice)
        elif isinstance(error, Cancelled):
            running.cancelled(error)
        else:
            running.failed(error)


def _settled(row: Compute) -> str:
    words = {PowerState.RUNNING: "runs", PowerState.UNKNOWN: "has settled"}
    return f"{row.name} {words.get(row.power_state, f'is {row.power_state.value}')}."
