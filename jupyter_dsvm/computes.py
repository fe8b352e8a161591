"""What is known about all computes, and the one place where a machine is changed.

Providers are asked on worker threads; what they said last is kept per provider, so that a cloud that does not answer
takes nothing else out of the list. A machine has at most one change at a time: who asks for the same change again
joins it, who asks for another is told to wait.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Literal

from .compute.naming import resolve
from .compute.provider import Cancel, ComputeProvider, Memo, Report, reach
from .denials import Denials
from .errors import Cancelled, ComputeNotRunning, DSVMError, OperationRefused, UnknownCompute
from .models import FREE, Compute, ComputeKind, PowerState, Problem, SizeOffer, SSHTarget, utc_now
from .operations import problem_of

log = logging.getLogger("jupyter_dsvm.computes")

PowerKind = Literal["start", "stop", "restart"]

Ended = Callable[[str, Compute, PowerState], None]
"""Called with the kind of a change that has succeeded here, the machine as it is now, and the state that it had before."""

Act = Callable[[Report, Cancel], Compute]
"""Does a change of a machine, with progress, and returns the machine as it then is."""

DURING: dict[str, PowerState] = {
    "start": PowerState.STARTING,
    "stop": PowerState.DEALLOCATING,
    "restart": PowerState.STARTING,
}
"""What a row says while a change of ours is under way, whatever an older answer of the cloud said."""

GERUND = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "resize": "resized",
    "access": "set up",
    "forget": "set up",
}

OFF = frozenset({PowerState.STOPPED, PowerState.DEALLOCATED, PowerState.STOPPING, PowerState.DEALLOCATING})
"""States in which a machine must be started before anything can run there."""

CONFIRMED_OFF = frozenset({PowerState.STOPPED, PowerState.DEALLOCATED})
"""States in which nothing runs there any more, for sure."""

DELETED = frozenset({"ResourceNotFound", "NotFound", "ResourceGroupNotFound", "Replaced"})
"""Codes with which a cloud confirms that a machine is not there any more, or that its name means another one now."""

POLL_SECONDS = 0.1
"""How often somebody who joined a change looks at their own cancel."""


@dataclass(frozen=True)
class Snapshot:
    computes: tuple[Compute, ...]
    problems: tuple[Problem, ...]
    as_of: str | None
    """When the providers were last asked for everything; None before the first time."""


@dataclass
class _Known:
    """What one provider said last."""

    rows: dict[str, Compute] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class _Everybody:
    """A ``provider.Report`` to all who wait for a change."""

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports

    def __call__(self, text: str, fraction: float | None = None) -> None:
        for report in list(self._reports):
            report(text, fraction)

    def reach(self, name: str, text: str) -> None:
        for report in list(self._reports):
            reach(report, name, text)


@dataclass
class _Change:
    kind: str
    target: str
    reports: list[Report] = field(default_factory=list)
    future: Future[Compute] = field(default_factory=Future)


class Computes:
    def __init__(
        self, providers: Callable[[], Sequence[ComputeProvider]], changed: Callable[[str | None], None]
    ) -> None:
        """``providers`` is called once, at first use, since some import much. ``changed`` is called with a compute's id,
        or None for several, after each change of what ``snapshot`` gives; from any thread, and it must not block."""
        self._make_providers = providers
        self._changed = changed
        self.heard: Callable[[Sequence[Compute]], None] = lambda rows: None
        """Called with what a provider has just said of machines, whether that is new or not, and with a machine that a change of
        ours turns on or off, as that begins; from any thread, and it must not block."""
        self._lock = threading.RLock()
        self._listing = threading.Lock()
        self._providers: tuple[ComputeProvider, ...] | None = None
        self._known: dict[str, _Known] = {}
        self._changes: dict[str, _Change] = {}
        self._denials = Denials()
        self._offers: dict[str, tuple[SizeOffer, ...]] = {}
        self._as_of: str | None = None
        self._listings = 0
        self._closed = False
        self.on_ended: list[Ended] = []
        """Called on the thread of each change of ours that has succeeded; may block for a moment."""

    @property
    def providers(self) -> tuple[ComputeProvider, ...]:
        with self._lock:
            if self._providers is None:
                self._providers = tuple(self._make_providers())
                self._known = {p.prefix: _Known() for p in self._providers}
            return self._providers

    def provider(self, compute_id: str) -> ComputeProvider:
        """Who answers for this id. Raises ``UnknownCompute``."""
        for provider in self.providers:
            if compute_id == provider.prefix.rstrip(":") or compute_id.startswith(provider.prefix.rstrip(":") + ":"):
                return provider
        raise UnknownCompute(
            f"There is no compute with the id {compute_id!r}.", advice="`%dsvm list` shows what there is."
        )

    # Listing

    def snapshot(self, refresh: bool = False) -> Snapshot:
        """Everything. Blocks while the providers are asked: the first time, and with ``refresh``. Several callers at a
        time share one round of questions."""
        begun = self._listings
        if refresh or self._as_of is None:
            with self._listing:
                # A round that ended while we waited for the lock began before we asked; only a second one is as fresh.
                if self._as_of is None or (refresh and self._listings - begun < 2):
                    self._ask_all()
        with self._lock:
            rows = [self._shown(c) for known in self._known.values() for c in known.rows.values()]
            problems = tuple(p for known in self._known.values() for p in known.problems)
            return Snapshot(tuple(rows), problems, self._as_of)

    def _ask_all(self) -> None:
        before = self._rows()
        for provider in self.providers:
            try:
                listing = provider.list()
            except Exception as e:
                if not isinstance(e, DSVMError):
                    log.exception("listing %s failed", provider.prefix)
                with self._lock:
                    self._known[provider.prefix].problems = (problem_of(e),)
                continue
            with self._lock:
                self._known[provider.prefix] = _Known({c.id: c for c in listing.computes}, tuple(listing.problems))
                heard = [self._shown(c) for c in listing.computes]
            self.heard(heard)
        with self._lock:
            self._as_of = utc_now()
            self._listings += 1
        if self._rows() != before:
            self._changed(None)

    def _rows(self) -> tuple[dict[str, Compute], tuple[Problem, ...]]:
        with self._lock:
            rows = {c.id: c for known in self._known.values() for c in known.rows.values()}
            return rows, tuple(p for known in self._known.values() for p in known.problems)

    def _shown(self, row: Compute) -> Compute:
        change = self._changes.get(row.id)
        during = DURING.get(change.kind) if change is not None else None
        state = row.power_state if during is None else during
        denied = self._denials.of(row.id)
        if (state, denied) == (row.power_state, row.not_allowed):
            return row
        since = row.unchanged_since if state is row.power_state else None
        return dataclasses.replace(row, power_state=state, not_allowed=denied, unchanged_since=since)

    def _keep(self, row: Compute) -> None:
        provider = self.provider(row.id)
        with self._lock:
            rows = self._known[provider.prefix].rows
            same = rows.get(row.id) == row
            rows[row.id] = row
            heard = self._shown(row)
        self.heard([heard])
        if not same:
            self._changed(row.id)

    def forget(self, compute_id: str) -> None:
        """It is confirmed that it is not there any more."""
        with self._lock:
            found = any(known.rows.pop(compute_id, None) is not None for known in self._known.values())
        if found:
            self._changed(None)

    def learn(self, row: Compute) -> None:
        """A machine that was made just now."""
        self._keep(row)

    def account_changed(self) -> None:
        """What one account may not do, another may. Does not block."""
        self._offers.clear()
        if self._denials.account_changed():
            self._changed(None)

    # One of them

    @property
    def is_listed(self) -> bool:
        """Whether the providers have been asked for everything."""
        return self._as_of is not None

    def last(self) -> tuple[Compute, ...]:
        """All rows as last heard, without asking anybody."""
        with self._lock:
            return tuple(self._shown(c) for known in self._known.values() for c in known.rows.values())

    def known(self, compute_id: str) -> Compute | None:
        """The row as last heard, without asking anybody."""
        with self._lock:
            for known in self._known.values():
                if compute_id in known.rows:
                    return self._shown(known.rows[compute_id])
        return None

    def name(self, compute_id: str) -> str:
        """What users call it; the id where that is not known. Asks nobody."""
        row = self.known(compute_id)
        return row.name if row is not None else "the free tier" if compute_id == FREE else compute_id

    def find(self, text: str) -> Compute:
        """By id, or by any name a user can type. A name that is not known yet is looked for once more, freshly."""
        row = self.known(text)
        if row is not None:
            return row
        try:
            return resolve(text, self.snapshot().computes)
        except UnknownCompute:
            snapshot = self.snapshot(refresh=True)
        try:
            return resolve(text, snapshot.computes)
        except UnknownCompute as e:
            if not snapshot.problems:
                raise
            # It may well be there: a cloud that was not heard must not look like one that has no such machine.
            said = " ".join(p.message for p in snapshot.problems)
            advice = " ".join(dict.fromkeys([e.advice, *(p.advice for p in snapshot.problems)]))
            raise UnknownCompute(f"{e.message} Not everything could be listed: {said}", advice=advice.strip()) from None

    def fresh(self, compute_id: str) -> Compute:
        """Read now; a change of ours that is under way shows in ``power_state``."""
        row = self.provider(compute_id).get(compute_id)
        self._keep(row)
        with self._lock:
            return self._shown(row)

    def look(self, compute_id: str) -> Compute:
        """Only its state, read now with as little as its provider can: for who looks every few seconds."""
        provider = self.provider(compute_id)
        row: Compute = getattr(provider, "look", provider.get)(compute_id)
        self._keep(row)
        return row

    def is_changing(self, compute_id: str) -> bool:
        """Whether a change of ours is under way."""
        with self._lock:
            return compute_id in self._changes

    def ssh_target(self, compute_id: str) -> SSHTarget:
        return self.provider(compute_id).ssh_target(compute_id)

    def terminal_target(self, compute_id: str) -> SSHTarget:
        """The same for a terminal, where the provider makes a difference."""
        provider = self.provider(compute_id)
        found: SSHTarget = getattr(provider, "terminal_target", provider.ssh_target)(compute_id)
        return found

    def is_gone(self, compute_id: str, by_us: bool = False) -> DSVMError | None:
        """Asked by a pipe whose connection broke: why nothing can run there any more, or None where that is not known.
        Blocks. No answer is not "gone". ``by_us``: we have stopped it, or are about to."""
        try:
            row = self.fresh(compute_id)
        except UnknownCompute as e:
            # "Unknown" without such a code is only what a listing lacked, as when the account's role has just changed.
            return e if e.code in DELETED else None
        except DSVMError:
            return None
        if row.kind is ComputeKind.DSVM and row.power_state in CONFIRMED_OFF:
            with self._lock:
                change = self._changes.get(compute_id)
            by_us = by_us or (change is not None and change.kind in ("stop", "resize"))
            return ComputeNotRunning(
                f"{row.name} is {row.power_state.value}: what ran there has ended.",
                # Not with %dsvm: there is no kernel that could run it.
                advice="The notebook goes back to the free tier by itself, with a new kernel."
                if by_us
                else "In the Compute panel, start it and attach again, or return to the free tier.",
            )
        return None

    # Changes

    def change_power(
        self, kind: PowerKind, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None
    ) -> Compute:
        """Return once it is done. Blocks for minutes."""

        def act(report: Report, cancel: Cancel) -> Compute:
            provider = self.provider(compute_id)
            method: Callable[..., Compute] = getattr(provider, kind)
            return method(compute_id, report, cancel, memo)

        return self.change(kind, compute_id, act, report, cancel)

    def change(self, kind: str, compute_id: str, act: Act, report: Report, cancel: Cancel, target: str = "") -> Compute:
        """Do one change of a machine, or join the same one (same ``target``: a size) that somebody else began here. Blocks for
        minutes. Raises ``OperationRefused`` while another is under way."""
        while True:
            with self._lock:
                change = self._changes.get(compute_id)
                if change is None:
                    if cancel.is_set():
                        raise Cancelled(
                            "It was cancelled before it began."
                        )  # while it waited for a worker, or for another's
                    change = self._changes[compute_id] = _Change(kind, target, [report])
                    break
                if (change.kind, change.target) != (kind, target):
                    raise OperationRefused(
                        f"{self.name(compute_id)} is being {GERUND.get(change.kind, 'changed')} just now.",
                        advice="Wait until that has ended, or cancel it and have the machine released."
                        if change.kind == "start"
                        else "Wait until that has ended, or cancel it.",
                        code="ChangeUnderWay",
                    )
                change.reports.append(report)
            joined = self._join(change, cancel)
            if joined is not None:
                return joined
        self._changed(compute_id)
        begun = self.known(compute_id)
        if kind in DURING and begun is not None:
            self.heard([begun])
        return self._lead(change, compute_id, act, cancel)

    def _lead(self, change: _Change, compute_id: str, act: Act, cancel: Cancel) -> Compute:
        account = self._denials.account
        before = self._state_before(compute_id)
        try:
            row = act(_Everybody(change.reports), cancel)
        except BaseException as e:
            self._denials.ended(account, change.kind, compute_id, e)
            with self._lock:
                del self._changes[compute_id]
            change.future.set_exception(e)
            self._reread(compute_id)
            raise
        self._denials.ended(account, change.kind, compute_id, None)
        with self._lock:
            del self._changes[compute_id]
        self._keep(row)
        self._changed(compute_id)
        for ended in list(self.on_ended):
            try:
                ended(change.kind, row, before)
            except Exception:
                log.exception("what follows the %s of %s failed", change.kind, row.name)
        change.future.set_result(row)
        return row

    def _state_before(self, compute_id: str) -> PowerState:
        """As last heard, whatever change of ours is under way since."""
        with self._lock:
            rows = (known.rows.get(compute_id) for known in self._known.values())
            return next((row.power_state for row in rows if row is not None), PowerState.UNKNOWN)

    def _join(self, change: _Change, cancel: Cancel) -> Compute | None:
        """Wait for a change that somebody else leads; None when they gave it up, so that we may lead."""
        while True:
            try:
                return change.future.result(timeout=POLL_SECONDS)
            except FutureTimeout:
                if cancel.is_set():
                    raise Cancelled("It was cancelled while waiting for the machine.") from None
            except Cancelled:
                if cancel.is_set():
                    raise  # both were: nobody may ask for it again
                return None

    def _reread(self, compute_id: str) -> None:
        """After a failed change: what is true now."""
        try:
            self.fresh(compute_id)
        except DSVMError:
            pass
        self._changed(compute_id)

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        """The sizes that a machine could have, and what a resize does to it. Blocks while the cloud is asked."""
        offers, notice = self.provider(compute_id).sizes(compute_id)
        self._offers[compute_id] = tuple(offers)
        return offers, notice

    def offers(self) -> dict[str, tuple[SizeOffer, ...]]:
        """The sizes that machines could have, of those that somebody has asked for. Asks nobody."""
        return dict(self._offers)

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """Return once it has that size, and runs if it ran. Blocks for minutes. ``size`` as ``sizing.canonical`` gives it, so
        that two who want the same are joined."""

        def act(report: Report, cancel: Cancel) -> Compute:
            return self.provider(compute_id).resize(compute_id, size, report, cancel, memo)

        return self.change("resize", compute_id, act, report, cancel, target=size)

    def close(self) -> None:
        with self._lock:
            providers, self._providers, self._closed = self._providers or (), (), True
        for provider in providers:
            try:
                provider.close()
            except Exception:
                log.exception("closing %s failed", provider.prefix)
