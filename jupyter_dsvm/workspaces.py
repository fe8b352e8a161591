"""The notebooks' files on VMs: a part of ``DSVMService``.

A *space* (``space``) is a folder of this server on one VM, for as long as notebooks of that folder run there; all of them share it.
This module knows which kernel has which, and when its files travel::

    on attach                  push, before the kernel starts there      ``trips``, from ``moves``
    after a cell there         pull, a moment later                      ``executed``
    on save here               push, a moment later                      ``saved``
    when the VM is back        both                                      ``kernel_changed``
    on detach, before a stop   both                                      ``trips``, from ``moves``, ``changes``, ``resizes``
    when a kernel has left     pull, a last time                         ``kernel_changed``
    by hand                    what is wanted                            ``sync``, ``fetch``, ``resolve``

What is due is started by the agenda's thread and done by a few threads of its own; one sync of a folder runs at a time. When the
server stops nothing is copied any more: kernels on VMs go on, and the next server finds their folders again (``keptplaces``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

from .errors import Cancelled, DSVMError, FolderRefused, NotFound, SyncError
from .keptplaces import KeptPlace, KeptPlaces
from .kernels.keptfiles import server_name
from .models import (
    FREE,
    KernelRecord,
    LinkPhase,
    Operation,
    WorkspaceEstimate,
    WorkspaceRecord,
    WorkspaceState,
)
from .space import Place, Space, done_words, fraction, limits_of, mb, progress_words, relative, stopped_because
from .travelling import Agenda

if TYPE_CHECKING:
    from .operations import Running
    from .service import DSVMService
    from .sync.workspace import Limits, Progress, Workspace

log = logging.getLogger("jupyter_dsvm.workspaces")

NO_NOTEBOOK = "NoNotebook"
"""The code of a refusal that nobody needs to be told of: a console's kernel, where there is no server."""

WORKERS = 4
EVENT_SECONDS = 0.2
"""Between two events about workspaces, at least."""
IDLE_SECONDS = 60.0
"""After which the process on a VM that serves a folder, and its SSH session, are given up until the next sync."""
AGAIN_SECONDS = 30.0
"""After which a sync that could not reach the VM is tried again, although nothing has said that it is back."""
FINISH_SECONDS = 20.0
"""Without progress, after which a last pull is given up when a process without a server ends."""


@dataclass(frozen=True)
class _Off:
    """A kernel on a VM whose files do not travel."""

    compute: str
    folder: str
    why: str


class Workspaces:
    """``records``, ``of_kernel``, ``kernel_changed``, ``executed``, ``saved`` and ``leave`` do not block and may be called from any
    thread; the others are for worker threads."""

    def __init__(self, service: DSVMService, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """``folder``: the extension's data folder."""
        self._service = service
        self._folder = folder
        self._clock = clock
        self._kept = KeptPlaces(folder)
        self._lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._of: dict[str, str] = {}
        """By kernel: the id of its space."""
        self._off: dict[str, _Off] = {}
        self._arriving: dict[str, str] = {}
        """By kernel that is moving: the compute that it is moving to; what ``kernel_changed`` hears of that is not news."""
        self._linked: dict[str, bool] = {}
        self._looked: set[str] = set()
        self._left = self._closing = self._closed = False
        self._cancel = threading.Event()
        self._agenda = Agenda(clock)
        self._pool: ThreadPoolExecutor | None = None
        self._todo: dict[str, Callable[[], object]] = {}
        self._one_at_a_time = threading.Lock()
        self._told_at = 0.0

    # What there is

    def records(self) -> tuple[list[WorkspaceRecord], int]:
        """Those that notebooks use now, and the list's revision. Does not block."""
        revision = self._service.revision("workspaces")
        with self._lock:
            spaces, off = list(self._spaces.values()), dict(self._off)
        rows = [self._record(space) for space in spaces if space.kernels]
        return rows + [self._off_record(kernel_id, each) for kernel_id, each in off.items()], revision

    def of_kernel(self, kernel_id: str) -> WorkspaceRecord | None:
        """Does not block."""
        with self._lock:
            space, off = self._spaces.get(self._of.get(kernel_id, "")), self._off.get(kernel_id)
        if space is not None:
            return self._record(space)
        return self._off_record(kernel_id, off) if off is not None else None

    def _record(self, space: Space) -> WorkspaceRecord:
        return space.record(relative(space.place.folder, self._service.root_dir))

    def _off_record(self, kernel_id: str, off: _Off) -> WorkspaceRecord:
        folder = relative(Path(off.folder), self._service.root_dir) if off.folder else ""
        return WorkspaceRecord(f"off-{kernel_id}", off.compute, folder, (kernel_id,), WorkspaceState.OFF, off.why)

    def estimate(self, kernel_id: str, compute: str) -> WorkspaceEstimate:
        """What an attach there would copy, for the dialog before it. Blocks: the folder here is looked through, and nobody asked
        there."""
        row = self._service.known.find(compute)
        proxy = self._service.proxy(kernel_id)
        folder = ""
        try:
            found = self.folder_of(proxy)
            folder = relative(found, self._service.root_dir)
            files, size = self.pending(self.place(row.id, found))
        except SyncError as e:
            return WorkspaceEstimate(folder, row.id, False, str(e))
        return WorkspaceEstimate(folder, row.id, True, "", files, size, size > self.ask_above)

    @property
    def ask_above(self) -> int:
        """Bytes."""
        return int(self._service.sync_ask_above_mib) << 20

    # Places

    def folder_of(self, proxy: object, new: bool = False) -> Path:
        """The folder that travels with a kernel's notebook: its own, or the one of ``project_folders`` that it is in. Raises
        ``FolderRefused`` where there is none, or it may not travel. Blocks. ``new``: it is just being started, and
        jupyter_server lists its session afterwards."""
        from .sync.refusals import check_workspace

        own = [Path(jupyter_data_dir()), Path(jupyter_config_dir()), Path(jupyter_runtime_dir()), self._folder]
        return check_workspace(self._project(self._notebook_folder(proxy, new)), own=own)

    def inside(self, proxy: object, folder: Path, new: bool = False) -> str:
        """Where in the folder that travels the notebook is: "" or ``part/part``. The kernel there works in that. Blocks."""
        within = os.path.relpath(os.path.realpath(self._notebook_folder(proxy, new)), os.path.realpath(folder))
        return "" if within == os.curdir or within.startswith(os.pardir) else Path(within).as_posix()

    def _project(self, folder: Path) -> Path:
        root = self._service.root_dir or Path()
        projects = {os.path.realpath(root / os.path.expanduser(p)) for p in self._service.project_folders}
        return next((p for p in (folder, *folder.parents) if os.path.realpath(p) in projects), folder)

    def _notebook_folder(self, proxy: object, new: bool) -> Path:
        from .sync.refusals import project_folder

        root = self._service.root_dir
        kernel_id = str(getattr(proxy, "kernel_id", ""))
        named = getattr(proxy, "cwd", None)
        if root is not None:
            path = self._service.path(kernel_id)
            if path is None and not new:
                self._service.look_for_paths()
                path = self._service.path(kernel_id)
            if path is not None:
                folder = project_folder(path.lstrip("/"), root)
            elif new and named and Path(os.path.realpath(named)).is_relative_to(os.path.realpath(root)):
                folder = Path(named)
            else:
                raise FolderRefused("It belongs to no notebook of this server.", code="NoFolder")
        elif named:
            folder = Path(named)
        else:
            raise FolderRefused("It has no notebook with a folder here.", code=NO_NOTEBOOK)
        return folder

    def place(self, compute: str, folder: Path) -> Place:
        from .sync.refusals import workspace_name
        from .sync.workspace import base_file

        root = workspace_name(folder, self._kept.server_id())
        return Place(compute, folder, root, base_file(self._folder, compute, folder, server_name()).name)

    def pending(self, place: Place) -> tuple[int, int]:
        """Files and bytes here that are not known to be there. Blocks; raises ``SyncError``."""
        from .sync.entries import Kind
        from .sync.local import LocalFolder
        from .sync.workspace import read_base

        base = read_base(self._folder / "sync" / place.base).base
        here = LocalFolder(place.folder)
        tree = here.scan(base, here.rules()).tree or {}
        new = []
        for path, entry in tree.items():
            row = base.get(path)
            then = row.here if row is not None else None
            if entry.kind is not Kind.FOLDER and (
                then is None or (then.size, then.mtime_ns) != (entry.size, entry.mtime_ns)
            ):
                new.append(entry.size)
        return len(new), sum(new)

    def space(self, place: Place, name: str = "") -> Space:
        """The one of that folder there, made if need be. ``name``: the VM's, where it may not have been listed yet."""
        with self._lock:
            found = self._spaces.get(place.id)
            if found is None:
                name = name or self._service.known.name(place.compute)
                found = self._spaces[place.id] = Space(place, name, self._open, self.touch)
            return found

    def _open(self, space: Space) -> Workspace:
        from .sync.local import LocalFolder
        from .sync.remote import RemoteFolder
        from .sync.workspace import Workspace

        here = LocalFolder(space.place.folder)
        there = RemoteFolder(
            lambda: self._service.connections.standing(space.place.compute),
            space.place.root,
            space.name,
            pythons=self._service.connections.pythons,
        )
        return Workspace(
            here,
            there,
            self._folder / "sync" / space.place.base,
            limits=lambda: self._limits(space.place.folder),
            here_names=here.names(),
        )

    def _limits(self, folder: Path) -> Limits:
        return limits_of(folder, self.ask_above, self._service.data_use(), self._open_notebooks(folder))

    def _open_notebooks(self, folder: Path) -> frozenset[str]:
        """Those in ``folder`` that a kernel belongs to, relative to it: the page has them, and a pull does not replace them."""
        root, found = self._service.root_dir, set()
        for path in self._service.notebook_paths() if root is not None else ():
            file = self._service.root_dir / path.lstrip("/")  # type: ignore[operator]
            real = Path(os.path.realpath(file.parent)) / file.name
            if file.suffix == ".ipynb" and real.is_relative_to(folder):
                found.add(real.relative_to(folder).as_posix())
        return frozenset(found)

    # Which kernel has which

    def arriving(self, kernel_id: str, compute: str) -> None:
        with self._lock:
            self._arriving[kernel_id] = compute

    def arrived(self, kernel_id: str, compute: str, space: Space | None, folder: str, why: str) -> None:
        """The kernel runs there now, in that space, or ``why`` not. On any thread; does not block."""
        with self._lock:
            self._arriving.pop(kernel_id, None)
            if self._left or self._closing:
                return
            before = self._of.get(kernel_id)
            if before is not None and (space is None or before != space.id):
                self._leaves(kernel_id)
            if self._off.pop(kernel_id, None) is not None:
                self._later(f"keep {kernel_id}", lambda: self._kept.forget(kernel_id))
                self.touch(None)
            self._looked.add(kernel_id)
            if space is not None:
                self._spaces[space.id] = space
                self._of[kernel_id] = space.id
                space.kernels.add(kernel_id)
                kept = KeptPlace(compute, str(space.place.folder), space.place.root, space.place.base)
            elif compute != FREE:
                self._off[kernel_id] = _Off(compute, folder, why)
                kept = KeptPlace(compute, folder, why=why)
            else:
                return
            self._later(f"keep {kernel_id}", lambda: self._kept.write(kernel_id, kept))
        self.touch(space.id if space is not None else None)
        if space is not None:
            self._ask(space, "pull")  # what an earlier kernel has left there

    def gave_up(self, kernel_id: str, space: Space | None) -> None:
        """The kernel did not get there."""
        with self._lock:
            self._arriving.pop(kernel_id, None)
        if space is not None:
            self._look_after(space)

    def kernel_changed(self, kernel_id: str, row: KernelRecord | None) -> None:
        """A kernel's row has changed; None: the kernel is no more. On the I/O thread."""
        with self._lock:
            if self._left or self._closing:
                return
            known = self._of.get(kernel_id)
            compute = self._spaces[known].place.compute if known in self._spaces else None
            off = self._off.get(kernel_id)
            if row is None:
                self._arriving.pop(kernel_id, None)
                self._linked.pop(kernel_id, None)
                self._looked.discard(kernel_id)
                if known is not None or off is not None:
                    self._leaves(kernel_id)
                return
            linked, before = row.link.state is LinkPhase.CONNECTED, self._linked.get(kernel_id)
            self._linked[kernel_id] = linked
            if self._arriving.get(kernel_id) == row.compute:
                return  # ``arrived`` comes in a moment
            if known is not None and compute == row.compute:
                if linked and before is False:
                    self._ask(self._spaces[known], "both")
            elif known is not None or (off is not None and off.compute != row.compute):
                self._leaves(kernel_id)
            elif row.compute != FREE and off is None and kernel_id not in self._looked:
                self._looked.add(kernel_id)
                self._later(f"look {kernel_id}", lambda: self._adopt(kernel_id, row.compute))

    def _adopt(self, kernel_id: str, compute: str) -> None:
        """A kernel that an earlier server has left there: which folder was its?"""
        kept = self._kept.read(kernel_id)
        if kept is None or kept.compute != compute:
            return
        with self._lock:
            proxy = self._service.registry.get(kernel_id)
            if self._left or self._closing or proxy is None or kernel_id in self._of:
                return
            if not kept.root:
                self._off[kernel_id] = _Off(compute, kept.folder, kept.why)
                self.touch(None)
                return
            space = self.space(Place(compute, Path(kept.folder), kept.root, kept.base), proxy.status.compute_name)
            self._of[kernel_id] = space.id
            space.kernels.add(kernel_id)
        self.touch(space.id)
        self._ask(space, "both")

    def _leaves(self, kernel_id: str) -> None:
        """With the lock. What it has written there at its end comes here once more."""
        self._off.pop(kernel_id, None)
        space = self._spaces.get(self._of.pop(kernel_id, ""))
        self._later(f"keep {kernel_id}", lambda: self._kept.forget(kernel_id))
        self.touch(space.id if space is not None else None)
        if space is not None:
            space.kernels.discard(kernel_id)
            self._ask(space, "pull")

    def folder_renamed(self) -> None:
        """Notebooks' paths have changed: a folder may have another name here. Does not block."""
        with self._lock:
            if self._spaces:
                self._later("renamed", self._look_for_renames)

    def _look_for_renames(self) -> None:
        """A workspace whose folder is gone from here, and whose notebooks are all in one other now, has gone there with them."""
        with self._lock:
            spaces = [(space, set(space.kernels)) for space in self._spaces.values() if space.kernels]
        for space, kernels in spaces:
            if space.running or space.place.folder.is_dir():
                continue
            found = set()
            for kernel_id in kernels:
                proxy = self._service.registry.get(kernel_id)
                with contextlib.suppress(SyncError):
                    found.add(self.folder_of(proxy))
            if len(found) == 1:
                folder = found.pop()
                space.moved_to(folder)
                kept = KeptPlace(space.place.compute, str(folder), space.place.root, space.place.base)
                for kernel_id in kernels:
                    self._kept.write(kernel_id, kept)
                self._ask(space, "both")

    # What makes files travel

    def executed(self, kernel_id: str) -> None:
        """A request of the user has ended in that kernel. On the I/O thread."""
        space = self._spaces.get(self._of.get(kernel_id, ""))
        if space is not None:
            self._ask(space, "pull")

    def saved(self, paths: Collection[str]) -> None:
        """Something at these paths of the server has changed. On the server's loop."""
        root = self._service.root_dir
        with self._lock:
            spaces = [space for space in self._spaces.values() if space.kernels]
        if root is None or not spaces:
            return
        for path in paths:
            file = root / path.lstrip("/")
            real = Path(os.path.realpath(file.parent)) / file.name
            for space in spaces:
                if real.is_relative_to(space.place.folder):
                    self._ask(space, "push")

    def _ask(self, space: Space, direction: str) -> None:
        with self._lock:
            if self._left or self._closing:
                return
            space.due.ask(direction, self._clock())
            self._look_after(space)

    def _look_after(self, space: Space) -> None:
        """What comes next for it: a sync, the end, or rest. Any thread; does not block."""
        with self._lock:
            at = space.due.at
            if at is not None:
                self._agenda.at(space.id, at, lambda: self._begin(space))
            elif not space.kernels and not space.running and not space.busy and not self._expected(space):
                self._spaces.pop(space.id, None)
                self._agenda.drop(space.id)
                space.close()
                self.touch(space.id)
            else:
                self._agenda.at(space.id, space.used + IDLE_SECONDS, lambda: self._rest(space))

    def _expected(self, space: Space) -> bool:
        return space.place.compute in self._arriving.values()

    @staticmethod
    def _rest(space: Space) -> None:
        if not space.running:
            space.close()

    def _begin(self, space: Space) -> None:
        """On the agenda's thread: its time has come."""
        with self._lock:
            if space.busy or self._closing:
                return  # its end looks again
            if not self._service.connections.stands(space.place.compute):
                space.away = True
                self.touch(space.id)
                if space.kernels:
                    self._agenda.at(space.id, self._clock() + AGAIN_SECONDS, lambda: self._begin(space))
                else:
                    space.due.take()
                    self._look_after(space)
                return
            direction = space.due.take()
            if direction is None:
                return
            space.busy = True
            self._submit(lambda: self._sync_due(space, direction))

    def _sync_due(self, space: Space, direction: str) -> None:
        try:
            if self._cancel.is_set():
                return
            synced = space.run(direction, lambda progress: None, self._cancel)
            if synced.pulled or synced.deleted:
                self._tell_others(space)
            if not space.kernels and (synced.halt or synced.problems):
                log.warning("Not everything came back from %s: %s", space.name, done_words(synced, space.name))
        except DSVMError as e:
            (log.info if space.kernels else log.warning)("The files of %s: %s", space.place.folder, e)
            if space.away and space.kernels:
                space.due.ask(direction, self._clock() + AGAIN_SECONDS)
        except Exception:
            log.exception("copying the files of %s failed", space.place.folder)
        finally:
            space.busy = False
            self._look_after(space)

    def _tell_others(self, space: Space) -> None:
        """What came from one VM goes to another one that has the same folder."""
        with self._lock:
            for other in list(self._spaces.values()):
                if other is not space and other.kernels and other.place.folder == space.place.folder:
                    self._ask(other, "push")

    # By hand

    def sync(
        self,
        workspace_id: str,
        direction: str = "both",
        force: bool = False,
        yes: bool = False,
        kernel: str | None = None,
    ) -> Operation:
        """``force``: do what the last sync stopped before. ``yes``: also if it is much. Does not block."""
        space = self.find(workspace_id)
        running = self._begin_operation(space, kernel)
        halt = space.synced.halt.id if force and space.synced is not None and space.synced.halt is not None else ""
        self._service.spawn(running, lambda: self.run(running, space, direction, yes=yes, force=halt))
        return running.value

    def fetch(self, workspace_id: str, paths: Collection[str]) -> Operation:
        """Files that stayed on the VM since there was no room here. Does not block."""
        space = self.find(workspace_id)
        there = {e.path for e in space.synced.left_there} if space.synced is not None else set()
        missing = sorted(set(paths) - there)
        if missing or not paths:
            raise NotFound(
                f"{missing[0] if missing else 'Nothing'} is not among the files that stayed on {space.name}.",
                advice="Look at the list again: it may be here by now.",
            )
        running = self._begin_operation(space, None)
        self._service.spawn(running, lambda: self.run(running, space, "pull", fetch=frozenset(paths)))
        return running.value

    def resolve(self, workspace_id: str, path: str, keep: str) -> None:
        """``path``: a conflict's, or the name that the VM's version has. ``keep``: ``mine`` or ``theirs``. Blocks; raises
        ``NotFound``, ``SyncError``, ``SSHError``, ``RelayError``."""
        space = self.find(workspace_id)
        conflicts = space.synced.conflicts if space.synced is not None else ()
        found = [c for c in conflicts if c.kept_as == path] or [c for c in conflicts if c.path == path]
        if not found:
            raise NotFound(f"There is no conflict about {path} any more.", advice="Look at the list again.")
        space.run("both", lambda progress: None, self._cancel, resolve=(found[0].kept_as, keep == "theirs"))
        self._look_after(space)

    def find(self, workspace_id: str) -> Space:
        with self._lock:
            space = self._spaces.get(workspace_id)
        if space is None or not space.kernels:
            raise NotFound(
                f"There is no workspace {workspace_id!r}.",
                advice="No notebook of that folder runs on that machine with its files; fetch the list again.",
                code="UnknownWorkspace",
            )
        return space

    def _begin_operation(self, space: Space, kernel: str | None) -> Running:
        first = kernel or min(space.kernels, default=None)
        text = f"Copy files to and from {space.name}"
        return self._service.operations_store.begin(
            "sync", compute=space.place.compute, kernel=first, steps=[("files", text)]
        )

    def run(
        self,
        running: Running,
        space: Space,
        direction: str,
        *,
        yes: bool = False,
        force: str = "",
        fetch: frozenset[str] = frozenset(),
    ) -> None:
        """Do it on this thread. The operation ends with the outcome; an error is raised as well."""
        running.step("files")
        try:
            synced = space.run(direction, reporting(running), running.cancel, yes=yes, force=force, fetch=fetch)
            stopped = stopped_because(synced, space.name)
            if stopped is not None:
                raise stopped
            if synced.pulled or synced.deleted:
                self._tell_others(space)
            running.done(done_words(synced, space.name))
        except Cancelled as e:
            running.cancelled(e)
            raise
        except BaseException as e:
            running.failed(e)
            raise
        finally:
            self._look_after(space)

    # For ``trips``

    def current(self, kernel_id: str) -> Space | None:
        with self._lock:
            return self._spaces.get(self._of.get(kernel_id, ""))

    def in_reach(self, space: Space) -> bool:
        return self._service.connections.stands(space.place.compute)

    def on(self, compute: str) -> list[Space]:
        """Those with notebooks there."""
        with self._lock:
            return [s for s in self._spaces.values() if s.place.compute == compute and s.kernels]

    # Events

    def touch(self, workspace_id: str | None) -> None:
        """It can be seen from outside that something has changed. Any thread; does not block."""
        now = self._clock()
        when = max(now, self._told_at + EVENT_SECONDS)

        def tell() -> None:
            self._told_at = self._clock()
            self._service.workspaces_changed(workspace_id)

        self._agenda.at("changed", when, tell)

    # Threads

    def _submit(self, work: Callable[[], object]) -> Future[object] | None:
        with self._lock:
            if self._closed:
                return None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="jupyter-dsvm-files")
            return self._pool.submit(work)

    def _later(self, key: str, work: Callable[[], object]) -> None:
        """Have a worker thread do what blocks for files, also if this is about to close. The last of one ``key`` counts."""
        with self._lock:
            self._todo[key] = work
            self._submit(lambda: self._do(key))

    def _do(self, key: str) -> None:
        with self._one_at_a_time:
            with self._lock:
                work = self._todo.pop(key, None)
            try:
                if work is not None:
                    work()
            except Exception:
                log.exception("what a workspace needs to remember could not be written or read")

    def leave(self) -> None:
        """The server stops and leaves its kernels: what they become from here on is no news. Does not block."""
        with self._lock:
            self._left = True

    def close(self) -> None:
        """Ends what is under way. Where no server leaves kernels behind (nbclient), what they have written at their end comes here
        first. Called once."""
        with self._lock:
            self._closing = True
            last = [] if self._left else [s for s in self._spaces.values() if s.due.at is not None or s.busy]
        self._finish(last)
        self._cancel.set()
        self._agenda.close()
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        with self._lock:
            spaces, self._spaces = list(self._spaces.values()), {}
        for space in spaces:
            space.close()

    def _finish(self, spaces: list[Space]) -> None:
        moved = time.monotonic()
        seen: dict[str, object] = {}
        for space in spaces:
            if space.busy:
                continue
            direction = space.due.take()
            if direction is not None and self._service.connections.stands(space.place.compute):
                space.busy = True
                self._submit(lambda space=space, direction=direction: self._sync_due(space, direction))  # type: ignore[misc]
        while any(space.busy for space in spaces) and time.monotonic() < moved + FINISH_SECONDS:
            for space in spaces:
                if seen.get(space.id) != space.progress:
                    seen[space.id], moved = space.progress, time.monotonic()
            time.sleep(0.02)


def reporting(running: Running) -> Callable[[Progress], None]:
    """An operation's step that says how far its files are."""

    def report(progress: Progress) -> None:
        if progress.of_files:
            words = progress_words(progress)
            much = f" ({mb(progress.bytes)} of {mb(progress.of_bytes)})" if progress.of_bytes else ""
            running.report(f"{words[0].upper()}{words[1:]}{much}", fraction(progress))

    return report
