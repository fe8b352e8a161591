"""One folder here that is on one VM too, while notebooks run there: its syncs, and how it is. A part of ``workspaces``.

``run`` may be called by several at a time (a move, a sync by hand, what is due); ``sync.workspace`` has them take turns. What is
seen from outside is one table::

    a sync copies                             copying
    the last sync failed                      failed        (the VM out of reach: waiting)
    a kernel has left, its files are not back failed
    there was none yet                        waiting
    the last one stopped, and asks            halted
    it left some files out for a reason       failed
    both versions of a file are there         conflicts
    else                                      in step
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, ComputeNotRunning, DSVMError, SSHError, SyncError
from .models import Problem, Usage, WorkspaceConflict, WorkspaceFile, WorkspaceRecord, WorkspaceState, utc_now
from .operations import problem_of
from .travelling import Due

if TYPE_CHECKING:
    from .sync.workspace import Limits, Progress, Report, Synced, Workspace

SHOWN = 200
"""Conflicts, files that stayed there, and files that do not travel: so many of each are listed."""


def mb(count: int) -> str:
    """``84 MB``, as a person says it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 and unit == "GB" else f"{value:.0f} {unit}"
    return f"{count} bytes"


def progress_words(progress: Progress) -> str:
    """``copying 12 of 340 files``; while both sides are looked at there is no number yet."""
    if not progress.of_files:
        return "looking for changes"
    return f"copying {progress.files} of {progress.of_files} file{'s' if progress.of_files > 1 else ''}"


def fraction(progress: Progress) -> float | None:
    if progress.of_bytes:
        return min(1.0, progress.bytes / progress.of_bytes)
    return min(1.0, progress.files / progress.of_files) if progress.of_files else None


@dataclass(frozen=True)
class Place:
    """What a workspace is about, and what must stay the same for as long as a kernel there has it for its working folder."""

    compute: str
    folder: Path
    """Here; links resolved."""
    root: str
    """Its name below ``~/notebooks`` there."""
    base: str
    """The name of the file in which what both sides have is kept."""

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.compute}\0{self.root}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Left:
    """A kernel that runs there no more, and what it has written there at its end has not come yet."""

    goes_on: bool
    """It runs elsewhere now."""
    unsure: bool
    """Something was still to be fetched when it left, or nobody could know."""
    tell: Callable[[str], object]
    """Called with a sentence where that does not come. Any thread; must not block."""


@dataclass
class Space:
    """``open_workspace`` makes the ``Workspace`` when it is first needed (imports, files), on that thread; ``changed`` is
    called with every change that can be seen from outside, on any thread, and must not block."""

    place: Place
    name: str
    """The VM's."""
    open_workspace: Callable[[Space], Workspace]
    changed: Callable[[str], None]
    kernels: set[str] = field(default_factory=set)
    due: Due = field(default_factory=Due)
    left: dict[str, Left] = field(default_factory=dict)
    """By kernel."""
    behind: set[str] = field(default_factory=set)
    """Kernels that left, and go on elsewhere, without all of their files."""
    missing: str = ""
    """What is said of those files; empty: nothing is known to be missing."""
    busy: bool = False
    """A sync that was due is under way."""
    away: bool = False
    """The VM was out of reach when it was last tried."""
    synced: Synced | None = None
    problem: Problem | None = None
    as_of: str | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._workspace: Workspace | None = None
        self._running = 0
        self._progress: Progress | None = None
        self._not_sent: tuple[str, ...] = ()
        """What the last sync that goes there said of files that it did not copy."""
        self.used = time.monotonic()
        """When a sync ended last."""

    @property
    def id(self) -> str:
        return self.place.id

    @property
    def progress(self) -> Progress | None:
        return self._progress

    @property
    def running(self) -> bool:
        return self._running > 0

    @property
    def needed(self) -> bool:
        """Whether anybody wants to know of it."""
        return bool(self.kernels or self.missing)

    @property
    def unsure(self) -> bool:
        """Whether something is known there that is not here, or the last sync did not do all."""
        synced = self.synced
        stuck = synced is not None and bool(synced.halt or synced.needs_yes or synced.problems)
        return self.due.pulls or self.problem is not None or stuck

    def not_back(self, sentence: str) -> None:
        """The last files of kernels that have left did not come; they are told once. Any thread; does not block."""
        self.missing = sentence
        left, self.left = self.left, {}
        for kernel_id, each in left.items():
            if each.goes_on:
                self.behind.add(kernel_id)
            each.tell(self.missing)
        self.changed(self.id)

    def _all_back(self) -> None:
        self.missing = ""
        self.behind.clear()
        self.left.clear()

    def workspace(self) -> Workspace:
        """Blocks for files. Raises ``SyncError``."""
        with self._lock:
            if self._workspace is None:
                self._workspace = self.open_workspace(self)
            return self._workspace

    def run(
        self,
        direction: str,
        report: Report,
        cancel: threading.Event,
        resolve: tuple[str, bool] | None = None,
        **how: Any,
    ) -> Synced:
        """One sync, on this thread. ``how``: ``Workspace.sync``'s. ``resolve``: a conflict, by the name under which the VM's
        version is kept, and whether that is the one to keep. Raises what ``Workspace.sync`` raises."""

        def told(progress: Progress) -> None:
            if self._progress != progress:
                self._progress = progress
                self.changed(self.id)
            report(progress)

        from .sync.plan import Direction  # late: most servers never need it

        begun = time.monotonic()
        with self._lock:
            self._running += 1
        try:
            workspace = self.workspace()
            if resolve is not None:
                synced = workspace.resolve(*resolve, told, cancel)
            else:
                synced = workspace.sync(Direction(direction), told, cancel, **how)
            self._took(synced, direction)
            if not (synced.halt or synced.needs_yes or synced.problems):
                self.due.done(direction, begun)
                if direction != "push":
                    self._all_back()
            return synced
        except BaseException as e:
            self._failed(e)
            raise
        finally:
            with self._lock:
                self._running -= 1
                self._progress = None
                self.used = time.monotonic()
                self.due.ended(self.used, self.used - begun)
            self.changed(self.id)

    def _took(self, synced: Synced, direction: str) -> None:
        if direction == "pull":  # what did not get there is no nearer now
            synced = replace(
                synced, problems=(*synced.problems, *(p for p in self._not_sent if p not in synced.problems))
            )
        elif not (synced.halt or synced.needs_yes):
            self._not_sent = synced.problems
        self.synced, self.problem, self.away = synced, None, False
        if not (synced.halt or synced.needs_yes or synced.problems):
            self.as_of = utc_now()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            return
        self.away = isinstance(error, (SSHError, ComputeNotRunning))
        self.problem = problem_of(error)

    def close(self) -> None:
        """The process over there ends; a later sync starts another one. Does not block."""
        with self._lock:
            workspace = self._workspace
        if workspace is not None and not self._running:
            workspace.close()

    def moved_to(self, folder: Path) -> None:
        """The folder has another name here now; over there it keeps its own. Nothing may be running."""
        with self._lock:
            workspace, self._workspace = self._workspace, None
            self.place = Place(self.place.compute, folder, self.place.root, self.place.base)
        if workspace is not None:
            workspace.close()

    # As it is seen

    @property
    def advice(self) -> str:
        """For who misses files."""
        return (
            f"They are still in ~/notebooks/{self.place.root} there, and come by themselves when {self.name} is reached from here "
            "again."
        )

    def record(self, folder: str) -> WorkspaceRecord:
        """``folder``: relative to the server's root. Does not block."""
        progress, synced = self._progress, self.synced
        state, text, problem = self._state(progress if self._running else None)
        record = WorkspaceRecord(
            self.id,
            self.place.compute,
            folder,
            tuple(sorted(self.kernels | self.behind)),
            state,
            text,
            progress=fraction(progress) if state is WorkspaceState.COPYING and progress is not None else None,
            problem=problem,
            as_of=self.as_of,
        )
        if synced is None:
            return record
        return replace(
            record,
            files=synced.files,
            bytes=synced.size,
            conflicts=tuple(WorkspaceConflict(c.path, c.kept_as) for c in synced.conflicts[:SHOWN]),
            left_there=tuple(WorkspaceFile(e.path, e.size) for e in synced.left_there[:SHOWN]),
            skipped=tuple(WorkspaceFile(s.path, None, s.reason) for s in synced.skipped[:SHOWN]),
        )

    def _state(self, progress: Progress | None) -> tuple[WorkspaceState, str, Problem | None]:
        synced = self.synced
        if progress is not None and (progress.of_files or synced is None):
            return WorkspaceState.COPYING, progress_words(progress), None
        if self.missing and not (synced is not None and stopped_because(synced, self.name)):
            return WorkspaceState.FAILED, self.missing, Problem("NotBack", self.missing, self.advice)
        if self.away:
            size = f"{mb(synced.size)}; " if synced is not None else ""
            return WorkspaceState.WAITING, f"{size}{self.name} is out of reach", self.problem
        if self.problem is not None:
            return WorkspaceState.FAILED, self.problem.message, self.problem
        if synced is None:
            return WorkspaceState.WAITING, f"waiting for {self.name}", None
        stopped = stopped_because(synced, self.name)
        if stopped is not None:
            return WorkspaceState.HALTED, stopped.message, problem_of(stopped)
        there = sum(e.size for e in synced.left_there)
        stays = f"; {mb(there)} stay on {self.name}, there is no room here" if synced.left_there else ""
        size = mb(synced.size)
        if synced.problems:
            some = f"{len(synced.problems)} file{'s were' if len(synced.problems) > 1 else ' was'} not copied"
            problem = Problem("NotCopied", " ".join(synced.problems[:3]), "The next sync tries again.")
            return WorkspaceState.FAILED, f"{size}, {some}{stays}", problem
        if synced.conflicts:
            count = len(synced.conflicts)
            return WorkspaceState.CONFLICTS, f"{size}, {count} conflict{'s' if count > 1 else ''}{stays}", None
        return WorkspaceState.IN_STEP, f"{size}, in step{stays}", None


def stopped_because(synced: Synced, name: str) -> DSVMError | None:
    """Why a sync did nothing and asks, if it did."""
    if synced.halt is not None:
        return SyncError(synced.halt.message, advice=synced.halt.advice, code="Halted")
    if synced.needs_yes:
        return SyncError(
            f"{mb(synced.needs_yes)} are to be copied to {name}, which is more than is copied without asking.",
            advice="`%dsvm sync --yes` copies them; what need not travel can be listed in .dsvmignore.",
            code="NeedsYes",
        )
    return None


def done_words(synced: Synced, name: str) -> str:
    """What a sync did, for whoever has asked for it."""
    did = []
    if synced.pushed:
        did.append(f"{_files(synced.pushed)} copied to {name}")
    if synced.pulled:
        did.append(f"{_files(synced.pulled)} copied from {name}")
    if synced.deleted:
        did.append(f"{_files(synced.deleted)} deleted, and kept in .dsvm-trash for a week")
    words = "; ".join(did) if did else "Nothing had changed"
    if synced.conflicts:
        words += f". {len(synced.conflicts)} conflict{'s' if len(synced.conflicts) > 1 else ''}: both versions are kept"
    if synced.left_there:
        words += f". {mb(sum(e.size for e in synced.left_there))} stay on {name}, there is no room here"
    if synced.problems:
        words += f". Not copied: {' '.join(synced.problems[:3])}".rstrip(".")
    return f"{words}."


def _files(count: int) -> str:
    return f"{count} file{'s' if count > 1 else ''}"


def limits_of(folder: Path, ask_above: int, data: Usage | None, owned: frozenset[str]) -> Limits:
    """What a sync may do now. ``data``: of this server's disk, where it has a limit."""
    from .sync.workspace import SPARE_BYTES, Limits

    try:
        room = max(0, shutil.disk_usage(folder).free - SPARE_BYTES)
    except OSError:
        room = None
    if data is not None:
        left = max(0, int((DATA_SHARE * data.total_gib - data.used_gib) * 1024**3))
        room = left if room is None else min(room, left)
    return Limits(room, ask_above, owned)


DATA_SHARE = 0.8
"""Of the data that a user may keep on this server, as far as a pull may fill it."""


def relative(folder: Path, root: Path | None) -> str:
    """As the page has it: below the server's root, which is ""."""
    if root is None:
        return str(folder)
    found = os.path.relpath(folder, os.path.realpath(root))
    return "" if found == "." else found
