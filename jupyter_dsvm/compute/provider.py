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

from ..models import Compute, Problem, SizeOffer, SSHTarget
from .creating import Creation, NewCompute


@dataclass(frozen=True)
class Listing:
    """What a provider knows now; ``problems`` says what could not be asked (a subscription that is forbidden)."""

    computes: Sequence[Compute]
    problems: Sequence[Problem] = ()


Report = Callable[[str, "float | None"], None]
"""Called with a sentence and the fraction done (or None) while a long change goes on. One that knows steps has a method
``reach(name, text)`` as well: see ``reach``."""


def reach(report: Report, name: str, text: str) -> None:
    """A provider has come to the step ``name`` of a change (ask, start, stop, restart): whoever has announced such a step shows
    it, everybody else only the sentence."""
    known = getattr(report, "reach", None)
    if known is not None:
        known(name, text)
    else:
        report(text, None)


class Cancel(threading.Event):
    """Set by whoever wants a long change to stop waiting; the change itself may go on in the cloud."""

    leaving = False
    """True before it is set where the server ends rather than somebody cancels: nothing is undone then, which would take
    minutes; the change's ``Memo`` says how to go on."""


@dataclass
class Memo:
    """What a long change notes down, so that it can be gone on with after the server has been killed.

    The service hands one to each change and keeps it on disk (``keep`` is called after every note). A provider that is handed
    one with facts in it goes on from there in place of beginning. Facts are plain JSON values, and no secrets.

    Of each request that changes something a provider notes two facts, so that several changes can share one memo:
    ``ACTION_asked`` before it goes out, and ``ACTION_operation``, the address to ask how far it is, once it was accepted. Of one
    that has the first alone nobody knows whether it arrived.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    keep: Callable[[dict[str, Any]], None] = lambda facts: None

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)
        self.keep(dict(self.facts))


@dataclass(frozen=True)
class IdleRule:
    """Of machines that several people share: whoever has them (a hub's broker) stops what nobody is attached to. Who is attached
    says how long nothing of theirs has gone on there, and asks for the stop after ``minutes`` of that (None: never). A provider has
    it as ``idle_rule``."""

    minutes: float | None


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

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        """The sizes there are, those that it could have first, and in sentences what a resize does to it, or why it cannot
        be resized at all. Raises ``OperationRefused`` where there is nothing of the kind."""

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Release it if it has hardware, give it that size, and start it again if it ran; its disks stay. What cannot work is
        refused before anything is stopped. One that fails leaves it as it was, as far as the cloud has room for that, and the
        error says what it is now. ``memo`` has the ``stage``: release, change, start, and back, again when it is undone."""

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
