"""The port: what the rest of the package asks of a cloud, a host list or the free tier.

Implementations: ``compute.azure.AzureCompute``, ``compute.hosts.SSHHosts``, ``compute.free_tier.FreeTier``.
All methods block and are called by the service on worker threads, never on an event loop. They raise
``errors.ComputeError`` and its children only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..models import Compute, Problem, SSHTarget
from .creating import Creation, NewCompute


@dataclass(frozen=True)
class Listing:
    """What a provider knows now; ``problems`` says what could not be asked (a subscription that is forbidden)."""

    computes: Sequence[Compute]
    problems: Sequence[Problem] = ()


Report = Callable[[str, "float | None"], None]
"""Called with a sentence and the fraction done (or None) while a long change goes on."""


class Cancel(threading.Event):
    """Set by whoever wants a long change to stop waiting; the change itself may go on in the cloud."""

    leaving = False
    """Whether it is set because the server stops: then nothing is undone, and the next server goes on with the memo."""


@dataclass
class Memo:
    """What a long change notes down, so that it can be gone on with after the server has been killed.

    The service hands one to each change and keeps it on disk (``keep`` is called after every note). A provider that is handed
    one with facts in it goes on from there in place of beginning. Facts are plain JSON values, and no secrets.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    keep: Callable[[dict[str, Any]], None] = lambda facts: None

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)
        self.keep(dict(self.facts))


class ComputeProvider(Protocol):
    """One source of computes. Ids are unique across providers by their prefix (``azure:``, ``host:``, ``free``)."""

    prefix: str

    def list(self) -> Listing:
        """Everything there is, fresh. One request per 1,000 rows where the other side can do that."""

    def get(self, compute_id: str) -> Compute:
        """One of them, with its power state read now. Raises ``UnknownCompute``."""

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Return once it runs. Raises ``OperationRefused`` with the other side's reason, ``Cancelled`` on cancel."""

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Deallocate: return once it costs nothing."""

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Return once it runs again."""

    def ssh_target(self, compute_id: str) -> SSHTarget:
        """Where to connect now: the address is read fresh, since it changes at every deallocation."""

    def close(self) -> None:
        """Release clients and threads; called once, at the end."""


@runtime_checkable
class Maker(Protocol):
    """A provider that can make new computes."""

    prefix: str

    def creation(self, location: str | None = None, subscription: str | None = None) -> Creation:
        """What one can be like; the sizes of ``location``, if it is named."""

    def create(self, wanted: NewCompute, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Return once it runs. Nothing is left of one that could not be made, or the error names what is."""
