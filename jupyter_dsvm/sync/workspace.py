"""One workspace on one VM: look at both sides, plan, carry the plan out, and remember what both sides have. Blocking.

Made by whoever attaches a notebook; all notebooks of a folder that run on one VM share it, and one sync runs at a time. Two
VMs have two workspaces, with what was in step kept for each (``base_file``).

What stops a sync half-way (a cancel, a lost connection, the end of the server) costs no more than doing the rest again: each file
is whole or not there, and what was done is written down.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import Cancelled, DiskFull, SyncError
from ..ssh.keys import write_private
from . import base as bases
from .base import Base
from .entries import Entry, Kind, Scan, Side, Skipped, Tree
from .ignore import Rules, never_pulled
from .local import LocalFolder
from .names import Names
from .plan import Action, Conflict, Direction, Do, Halt, Options, Outcome, Plan, Why
from .reconcile import advance, reconcile
from .remote import RemoteFolder

VERSION = 1
ROUNDS = 2
"""A file that changes while it is copied is looked at once more in the same sync, and then left for the next one."""

REPORT_EVERY = 0.2
"""Seconds between two reports of one sync, at least."""

SPARE_BYTES = 64 * 1024 * 1024
"""Of a VM's disk that a push leaves free."""


@dataclass(frozen=True)
class Limits:
    """What a sync may do, asked for at each: the user's and the administrator's settings, and what the page has open."""

    pull_bytes: int | None = None
    ask_above: int | None = None
    owned_here: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Progress:
    """How far a sync is. The first two are 0 while the sides are looked at."""

    files: int = 0
    of_files: int = 0
    bytes: int = 0
    of_bytes: int = 0


@dataclass(frozen=True)
class Synced:
    """What a sync did, and how the workspace is after it."""

    pushed: int = 0
    """Files and links."""
    pulled: int = 0
    deleted: int = 0
    bytes: int = 0
    """Of the files that were copied."""
    size: int = 0
    """Bytes of the workspace, as far as both sides have it."""
    files: int = 0
    conflicts: tuple[Conflict, ...] = ()
    """New ones first, then those of earlier syncs that nobody has resolved."""
    left_there: tuple[Entry, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    problems: tuple[str, ...] = ()
    """What was not done, a sentence for each; the next sync tries again."""
    halt: Halt | None = None
    """Then nothing was done."""
    needs_yes: int = 0
    """Bytes of a push that the user must agree to first; then nothing was done."""

    @property
    def in_step(self) -> bool:
        return not (self.problems or self.halt or self.needs_yes or self.conflicts)


@dataclass
class _Kept:
    """What the base file holds."""

    base: Base = field(default_factory=dict)
    conflicts: dict[str, Conflict] = field(default_factory=dict)
    """By ``kept_as``."""
    left_there: tuple[Entry, ...] = ()


Report = Callable[[Progress], None]


class Workspace:
    """``sync``, ``fetch`` and ``resolve`` raise ``SSHError``, ``RelayError``, ``SyncError`` or ``Cancelled``. Any thread."""

    def __init__(
        self,
        here: LocalFolder,
        there: RemoteFolder,
        base_file: Path,
        *,
        limits: Callable[[], Limits] = Limits,
        here_names: Names | None = None,
    ) -> None:
        self._here = here
        self._there = there
        self._file = base_file
        self._limits = limits
        self._here_names = here_names or Names()
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def sync(
        self,
        direction: Direction,
        report: Report,
        cancel: threading.Event,
        *,
        yes: bool = False,
        force: str = "",
        fetch: frozenset[str] = frozenset(),
    ) -> Synced:
        """Bring both sides into step, as far as ``direction`` says.

        ``yes``: the user agreed to the size (``Synced.needs_yes``). ``force``: ``Halt.id`` of the plan that the user wants all the
        same. ``fetch``: files that come here whatever their size.
        """
        with self._turn(cancel):
            total = Synced()
            for round_left in reversed(range(ROUNDS)):
                self._there.changed_meanwhile = 0
                one = self._once(direction, report, cancel, yes=yes, force=force, fetch=fetch)
                total = _added(total, one)
                if not (one.problems and self._there.changed_meanwhile and round_left):
                    break
            return total

    def fetch(self, paths: Collection[str], report: Report, cancel: threading.Event) -> Synced:
        """Bring here what was left there for its size."""
        return self.sync(Direction.PULL, report, cancel, fetch=frozenset(paths))

    def resolve(self, kept_as: str, theirs: bool, report: Report, cancel: threading.Event) -> Synced:
        """Keep one version of a conflict, on both sides; the other one goes to the trash."""
        with self._turn(cancel):
            kept = self._load()
            conflict = kept.conflicts.get(kept_as)
            if conflict is None:
                raise SyncError(f"There is no conflict {kept_as} any more.", code="NoConflict")
            self._settle(conflict, theirs)
            del kept.conflicts[kept_as]
            self._save(kept)
        return self.sync(Direction.BOTH, report, cancel)

    def estimate(self) -> tuple[int, int]:
        """Files and bytes that an attach would copy at most: for the dialog before the move. Looks at this side only."""
        scan = self._here.scan({}, self._here.rules())
        entries = [entry for entry in (scan.tree or {}).values() if entry.kind is not Kind.FOLDER]
        return len(entries), sum(entry.size for entry in entries)

    def close(self) -> None:
        """The process on the VM ends; a later sync starts another one. Does not block."""
        self._there.close()

    # One sync

    def _turn(self, cancel: threading.Event) -> _Turn:
        return _Turn(self._lock, cancel)

    def _once(
        self,
        direction: Direction,
        report: Report,
        cancel: threading.Event,
        *,
        yes: bool,
        force: str,
        fetch: frozenset[str],
    ) -> Synced:
        report(Progress())
        kept = self._load()
        rules = self._here.rules()
        here, there = self._look(kept.base, rules, cancel)
        limits = self._limits()
        about = self._there.about
        options = Options(
            now=datetime.now().astimezone(),
            there_name=self._there.name,
            here_names=self._here_names,
            there_names=Names(folds_case=about is not None and about.folds_case),
            owned_here=limits.owned_here,
            never_pull=never_pulled,
            unknown_here=here.unknown,
            unknown_there=there.unknown,
            pull_bytes=limits.pull_bytes,
            fetch=fetch,
            ask_above=None if yes else limits.ask_above,
            forced=force,
        )
        plan = self._plan(kept.base, here.tree, there.tree, direction, options, cancel)
        skipped = plan.skipped + tuple(
            Skipped(name, side, "its name is not UTF-8")
            for side, scan in ((Side.HERE, here), (Side.THERE, there))
            for name in scan.unnamed
        )
        if plan.halt is not None or plan.needs_yes:
            return replace(
                self._state(kept, here.tree or {}), skipped=skipped, halt=plan.halt, needs_yes=plan.needs_yes
            )
        full = self._no_room(plan, cancel)
        if full is not None:
            if direction is Direction.BOTH:  # what is there comes all the same
                self._once(Direction.PULL, report, cancel, yes=yes, force="", fetch=fetch)
            raise full
        if there.tree is None and direction is not Direction.PULL:
            self._there.make(cancel)
        outcomes: list[Outcome] = []
        before = kept.base
        try:
            self._carry_out(plan, outcomes, report, cancel)
        finally:
            if any(outcome.done and outcome.action.side is Side.HERE for outcome in outcomes):
                self._here.flush()
            kept.base = advance(before, plan, outcomes)
            if direction is not Direction.PUSH:
                kept.left_there = plan.left_there
            done = {outcome.action.path for outcome in outcomes if outcome.done}
            kept.conflicts.update({c.kept_as: c for c in plan.conflicts if c.path in done or c.kept_as in done})
            if kept.base != before or outcomes:
                self._save(kept)
        skipped += tuple(Skipped(o.action.path, Side.HERE, "it holds a private key") for o in outcomes if o.secret)
        return replace(self._state(kept, here.tree or {}, new=plan.conflicts), skipped=skipped, **_counted(outcomes))

    def _look(self, base: Base, rules: Rules, cancel: threading.Event) -> tuple[Scan, Scan]:
        """Both sides at the same time."""
        with ThreadPoolExecutor(1, "jupyter-dsvm-scan") as pool:
            scan = pool.submit(self._here.scan, base, rules)
            there = self._there.scan(rules.pruned, bases.known(base, Side.THERE), cancel)
            here = scan.result()
        if there.tree is not None:
            there = replace(there, tree=rules.kept(there.tree))
        return here, there

    def _plan(
        self,
        base: Base,
        here: Tree | None,
        there: Tree | None,
        direction: Direction,
        options: Options,
        cancel: threading.Event,
    ) -> Plan:
        plan = reconcile(base, here, there, direction=direction, options=options)
        if plan.digests_here or plan.digests_there:
            if here is not None and plan.digests_here:
                here = {**here, **_of(here, self._here.digests(plan.digests_here))}
            if there is not None and plan.digests_there:
                there = {**there, **_of(there, self._there.digests(plan.digests_there, cancel))}
            plan = reconcile(base, here, there, direction=direction, options=options)
        return plan

    def _no_room(self, plan: Plan, cancel: threading.Event) -> DiskFull | None:
        needed = plan.pushed_bytes
        if not needed or self._free() >= needed + SPARE_BYTES:
            return None
        # How much is free was said when the connection was opened, and somebody may have made room since then.
        self._there.close()
        self._there.make(cancel)
        if self._free() >= needed + SPARE_BYTES:
            return None
        return DiskFull(
            f"{_mb(needed)} are to be copied to {self._there.name}, where {_mb(int(self._free()))} are free. "
            "Nothing was copied there.",
            advice="Make room there, list what need not travel in .dsvmignore, or resize the machine's disk.",
        )

    def _free(self) -> float:
        """Bytes there; infinity as long as the folder does not exist."""
        about = self._there.about
        return about.free if about is not None and about.exists else math.inf

    def _carry_out(self, plan: Plan, outcomes: list[Outcome], report: Report, cancel: threading.Event) -> None:
        copies = [action for action in plan.actions if action.do is Do.COPY]
        counting = _Counting(report, len(copies), plan.pushed_bytes + plan.pulled_bytes)

        def tell(outcome: Outcome) -> None:
            outcomes.append(outcome)
            counting.told(outcome)

        for phase in plan.phases:
            if cancel.is_set():
                raise Cancelled("The sync was cancelled.", advice="What was copied stays; the next sync does the rest.")
            there = [action for action in phase if action.side is Side.THERE]
            here = [action for action in phase if action.side is Side.HERE]
            if there:
                self._there.change(there, self._here, tell, counting.moved, cancel)
            for action in here:
                if action.do is not Do.COPY:
                    tell(self._here.carry_out(action))
            fetched = [action for action in here if action.do is Do.COPY]
            if fetched:
                self._there.fetch(fetched, self._here, tell, counting.moved, cancel)

    def _state(self, kept: _Kept, here: Tree, new: tuple[Conflict, ...] = ()) -> Synced:
        for name in list(kept.conflicts):
            if name not in kept.base and name not in here:
                del kept.conflicts[name]  # somebody has dealt with it by hand
        files = [row for row in kept.base.values() if row.kind is Kind.FILE]
        size = sum(row.here.size for row in files if row.here is not None)
        older = tuple(c for c in kept.conflicts.values() if c not in new)
        return Synced(size=size, files=len(files), conflicts=new + older, left_there=kept.left_there)

    def _settle(self, conflict: Conflict, theirs: bool) -> None:
        """On this side; the sync that follows does the same over there."""
        looked = self._here.digests([conflict.path, conflict.kept_as])
        mine, other = looked.get(conflict.path), looked.get(conflict.kept_as)
        if other is None:
            return  # it was dealt with by hand meanwhile
        if not theirs:
            steps = [Action(Do.DELETE, Side.HERE, conflict.kept_as, Why.CONFLICT, other)]
        else:
            steps = [Action(Do.MOVE, Side.HERE, conflict.kept_as, Why.CONFLICT, other, keep_as=conflict.path)]
            if mine is not None:
                steps.insert(0, Action(Do.DELETE, Side.HERE, conflict.path, Why.CONFLICT, mine))
        for step in steps:
            outcome = self._here.carry_out(step)
            if not outcome.done:
                raise SyncError(f"The conflict about {conflict.path} is not resolved: {outcome.problem}")

    # What is remembered

    def _load(self) -> _Kept:
        if self._kept is None:
            self._kept = read_base(self._file)
        return self._kept

    def _save(self, kept: _Kept) -> None:
        value = {
            "version": VERSION,
            "root": self._there.root,
            "there": self._there.name,
            "base": bases.to_json(kept.base),
            "conflicts": [[c.path, c.kept_as, c.here.to_json(), c.there.to_json()] for c in kept.conflicts.values()],
            "left_there": [entry.to_json() for entry in kept.left_there],
        }
        write_private(self._file, json.dumps(value, separators=(",", ":")).encode())


class _Turn:
    """The workspace's lock, which a cancel need not wait for."""

    def __init__(self, lock: threading.Lock, cancel: threading.Event) -> None:
        self._lock = lock
        self._cancel = cancel

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=0.1):
            if self._cancel.is_set():
                raise Cancelled("The sync was cancelled while another one of this folder ran.")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Counting:
    """From what is told of files and bytes to reports, not too many of them."""

    def __init__(self, report: Report, of_files: int, of_bytes: int) -> None:
        self._report = report
        self._now = Progress(0, of_files, 0, of_bytes)
        self._due = 0.0

    def moved(self, count: int) -> None:
        # What had to be sent again after a cut counts once.
        self._now = replace(self._now, bytes=min(self._now.bytes + count, self._now.of_bytes))
        self._maybe()

    def told(self, outcome: Outcome) -> None:
        if outcome.action.do is Do.COPY:
            self._now = replace(self._now, files=self._now.files + 1)
            self._maybe()

    def _maybe(self) -> None:
        now = time.monotonic()
        if now >= self._due or self._now.files == self._now.of_files:
            self._due = now + REPORT_EVERY
            self._report(self._now)


def base_file(folder: Path, compute: str, root: Path, server: str = "") -> Path:
    """Where what is in step between ``root`` here and a VM is kept, below the extension's data folder. ``server``: the name of a
    hub's named server, which has a folder of its own there."""
    whose = "\0".join((compute, str(root), *filter(None, [server])))
    digest = hashlib.sha256(whose.encode("utf-8", "surrogateescape")).hexdigest()
    return folder / "sync" / f"{digest[:32]}.json"


def read_base(path: Path) -> _Kept:
    """Nothing in step, if there is no such file or nothing can be made of it: both sides are compared then, and nothing is lost."""
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict) or value.get("version") != VERSION:
            return _Kept()
        conflicts = [
            Conflict(str(one), str(kept_as), Entry.from_json(here), Entry.from_json(there))
            for one, kept_as, here, there in value["conflicts"]
        ]
        left = tuple(Entry.from_json(entry) for entry in value["left_there"])
        return _Kept(bases.from_json(value["base"]), {c.kept_as: c for c in conflicts}, left)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return _Kept()


def _of(tree: Tree, digests: Mapping[str, Entry]) -> dict[str, Entry]:
    return {path: entry for path, entry in digests.items() if path in tree}


def _counted(outcomes: list[Outcome]) -> dict[str, Any]:
    done = [o for o in outcomes if o.done]
    copied = [o for o in done if o.action.do is Do.COPY]
    return {
        "pushed": sum(o.action.side is Side.THERE for o in copied),
        "pulled": sum(o.action.side is Side.HERE for o in copied),
        "deleted": sum(o.action.do is Do.DELETE for o in done),
        "bytes": sum(o.action.entry.size for o in copied if o.action.entry is not None),
        "problems": tuple(o.problem for o in outcomes if not o.done and not o.secret),
    }


def _added(total: Synced, one: Synced) -> Synced:
    """``one`` came after ``total``: its view of the workspace, and the work of both."""
    return replace(
        one,
        pushed=total.pushed + one.pushed,
        pulled=total.pulled + one.pulled,
        deleted=total.deleted + one.deleted,
        bytes=total.bytes + one.bytes,
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
