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

Which folder that is says ``notebookfolders``; what is due is done by ``duesyncs``. When the server stops nothing is copied any
more: kernels on VMs go on, and the next server finds their folders again (``keptplaces``).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .duesyncs import DueSyncs
from .errors import Cancelled, NotFound, SyncError
from .keptplaces import KeptPlace, KeptPlaces
from .models import (
    FREE,
    KernelRecord,
    LinkPhase,
    Operation,
    WorkspaceEstimate,
    WorkspaceRecord,
    WorkspaceState,
)
from .notebookfolders import NotebookFolders
from .space import Left, Place, Space, done_words, fraction, mb, progress_words, relative, stopped_because

if TYPE_CHECKING:
    from .operations import Running
    from .service import DSVMService
    from .sync.workspace import Progress, Workspace


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
        self._kept = KeptPlaces(folder)
        self._lock = threading.RLock()
        self._spaces: dict[str, Space] = {}
        self._of: dict[str, str] = {}
        """By kernel: the id of its space."""
        self._off: dict[str, _Off] = {}
        self._arriving: dict[str, str] = {}
        """By kernel that is moving: the compute that it is moving to; what ``kernel_changed`` hears of that is not news."""
        self._links: dict[str, LinkPhase] = {}
        self._looked: set[str] = set()
        self.folders = NotebookFolders(service, folder, self._kept)
        self._due = DueSyncs(service, self._spaces, self._lock, self._expected, clock)

    # What there is

    def records(self) -> tuple[list[WorkspaceRecord], int]:
        """Those that notebooks use now, or whose files did not all come back, and the list's revision. Does not block."""
        revision = self._service.revision("workspaces")
        with self._lock:
            spaces, off = list(self._spaces.values()), dict(self._off)
        rows = [self._record(space) for space in spaces if space.needed]
        return rows + [self._off_record(kernel_id, each) for kernel_id, each in off.items()], revision

    def of_kernel(self, kernel_id: str) -> WorkspaceRecord | None:
        """Does not block."""
        with self._lock:
            space, off = self._spaces.get(self._of.get(kernel_id, "")), self._off.get(kernel_id)
            if space is None:
                space = next((each for each in self._spaces.values() if kernel_id in each.behind), None)
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
            found = self.folders.of(proxy)
            folder = relative(found, self._service.root_dir)
            files, size = self.folders.pending(self.folders.place(row.id, found))
        except SyncError as e:
            return WorkspaceEstimate(folder, row.id, False, str(e))
        return WorkspaceEstimate(folder, row.id, True, "", files, size, size > self.folders.ask_above)

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
            limits=lambda: self.folders.limits(space.place.folder),
            here_names=here.names(),
        )

    # Which kernel has which

    def arriving(self, kernel_id: str, compute: str) -> None:
        with self._lock:
            self._arriving[kernel_id] = compute

    def arrived(
        self,
        kernel_id: str,
        compute: str,
        space: Space | None,
        folder: str,
        why: str,
        tell: Callable[[str], object] | None = None,
        unsure: bool = False,
    ) -> None:
        """The kernel runs there now, in that space, or ``why`` not. ``tell``: who is to know if what it has left where it was does
        not come; None: the page. ``unsure``: not everything could be brought before. On any thread; does not block."""
        with self._lock:
            self._arriving.pop(kernel_id, None)
            if self._due.over:
                return
            before = self._of.get(kernel_id)
            if before is not None and (space is None or before != space.id):
                self._leaves(kernel_id, tell, unsure=unsure)
            if self._off.pop(kernel_id, None) is not None:
                self._due.later(f"keep {kernel_id}", lambda: self._kept.forget(kernel_id))
                self.touch(None)
            self._looked.add(kernel_id)
            if space is not None:
                self._spaces[space.id] = space
                self._of[kernel_id] = space.id
                space.kernels.add(kernel_id)
                self._forget_behind(kernel_id)
                kept = KeptPlace(compute, str(space.place.folder), space.place.root, space.place.base)
            elif compute != FREE:
                self._off[kernel_id] = _Off(compute, folder, why)
                kept = KeptPlace(compute, folder, why=why)
            else:
                return
            self._due.later(f"keep {kernel_id}", lambda: self._kept.write(kernel_id, kept))
        self.touch(space.id if space is not None else None)
        if space is not None:
            self._due.ask(space, "pull")  # what an earlier kernel has left there

    def gave_up(self, kernel_id: str, space: Space | None) -> None:
        """The kernel did not get there."""
        with self._lock:
            self._arriving.pop(kernel_id, None)
        if space is not None:
            self._due.look_after(space)

    def kernel_changed(self, kernel_id: str, row: KernelRecord | None) -> None:
        """A kernel's row has changed; None: the kernel is no more. On the I/O thread."""
        with self._lock:
            if self._due.over:
                return
            known = self._of.get(kernel_id)
            compute = self._spaces[known].place.compute if known in self._spaces else None
            off = self._off.get(kernel_id)
            if row is None:
                self._arriving.pop(kernel_id, None)
                unsure = self._links.pop(kernel_id, None) is LinkPhase.RECONNECTING
                self._looked.discard(kernel_id)
                self._forget_behind(kernel_id)
                if known is not None or off is not None:
                    self._leaves(kernel_id, goes_on=False, unsure=unsure)
                return
            before = self._links.get(kernel_id)
            self._links[kernel_id] = row.link.state
            is_back = row.link.state is LinkPhase.CONNECTED and before not in (None, LinkPhase.CONNECTED)
            if self._arriving.get(kernel_id) == row.compute:
                return  # ``arrived`` comes in a moment
            if known is not None and compute == row.compute:
                if is_back:
                    self._due.ask(self._spaces[known], "both")
            elif known is not None or (off is not None and off.compute != row.compute):
                self._leaves(kernel_id)
            elif row.compute != FREE and off is None and kernel_id not in self._looked:
                self._looked.add(kernel_id)
                self._due.later(f"look {kernel_id}", lambda: self._adopt(kernel_id, row.compute))

    def _adopt(self, kernel_id: str, compute: str) -> None:
        """A kernel that an earlier server has left there: which folder was its?"""
        kept = self._kept.read(kernel_id)
        if kept is None or kept.compute != compute:
            return
        with self._lock:
            proxy = self._service.registry.get(kernel_id)
            if self._due.over or proxy is None or kernel_id in self._of:
                return
            if not kept.root:
                self._off[kernel_id] = _Off(compute, kept.folder, kept.why)
                self.touch(None)
                return
            space = self.space(Place(compute, Path(kept.folder), kept.root, kept.base), proxy.status.compute_name)
            self._of[kernel_id] = space.id
            space.kernels.add(kernel_id)
        self.touch(space.id)
        self._due.ask(space, "both")

    def _leaves(
        self,
        kernel_id: str,
        tell: Callable[[str], object] | None = None,
        goes_on: bool = True,
        unsure: bool = False,
    ) -> None:
        """With the lock. What it has written there at its end comes here once more; ``tell`` is told if not."""
        self._off.pop(kernel_id, None)
        space = self._spaces.get(self._of.pop(kernel_id, ""))
        self._due.later(f"keep {kernel_id}", lambda: self._kept.forget(kernel_id))
        self.touch(space.id if space is not None else None)
        if space is not None:
            space.kernels.discard(kernel_id)
            told = tell or partial(self._tell_missing, space, kernel_id)
            space.left[kernel_id] = Left(goes_on, unsure or space.unsure, told)
            self._due.ask(space, "pull")

    def _tell_missing(self, space: Space, kernel_id: str, text: str) -> None:
        """Nobody follows what that kernel does: it is an operation of its own, that has failed."""
        self._begin_operation(space, kernel_id).failed(SyncError(text, advice=space.advice, code="NotBack"))

    def _forget_behind(self, kernel_id: str) -> None:
        for space in self._spaces.values():
            space.behind.discard(kernel_id)

    def folder_renamed(self) -> None:
        """Notebooks' paths have changed: a folder may have another name here. Does not block."""
        with self._lock:
            if self._spaces:
                self._due.later("renamed", self._look_for_renames)

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
                    found.add(self.folders.of(proxy))
            if len(found) == 1:
                folder = found.pop()
                space.moved_to(folder)
                kept = KeptPlace(space.place.compute, str(folder), space.place.root, space.place.base)
                for kernel_id in kernels:
                    self._kept.write(kernel_id, kept)
                self._due.ask(space, "both")

    # What makes files travel

    def executed(self, kernel_id: str) -> None:
        """A request of the user has ended in that kernel. On the I/O thread."""
        space = self._spaces.get(self._of.get(kernel_id, ""))
        if space is not None:
            self._due.ask(space, "pull")

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
                    self._due.ask(space, "push")

    def _expected(self, space: Space) -> bool:
        return space.place.compute in self._arriving.values()

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
        space.run("both", lambda progress: None, self._due.cancel, resolve=(found[0].kept_as, keep == "theirs"))
        self._due.look_after(space)

    def find(self, workspace_id: str) -> Space:
        with self._lock:
            space = self._spaces.get(workspace_id)
        if space is None or not space.needed:
            raise NotFound(
                f"There is no workspace {workspace_id!r}.",
                advice="No notebook of that folder runs on that machine with its files; fetch the list again.",
                code="UnknownWorkspace",
            )
        return space

    def _begin_operation(self, space: Space, kernel: str | None) -> Running:
        first = kernel or min(space.kernels | space.behind, default=None)
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
                self._due.tell_others(space)
            running.done(done_words(synced, space.name))
        except Cancelled as e:
            running.cancelled(e)
            raise
        except BaseException as e:
            running.failed(e)
            raise
        finally:
            self._due.look_after(space)

    # For ``trips``

    def current(self, kernel_id: str) -> Space | None:
        with self._lock:
            return self._spaces.get(self._of.get(kernel_id, ""))

    def in_reach(self, space: Space) -> bool:
        return self._service.connections.stands(space.place.compute)

    def on(self, compute: str) -> list[Space]:
        """Those with notebooks there, or with files that did not come back."""
        with self._lock:
            return [s for s in self._spaces.values() if s.place.compute == compute and s.needed]

    # The end

    def touch(self, workspace_id: str | None) -> None:
        """It can be seen from outside that something has changed. Any thread; does not block."""
        self._due.touch(workspace_id)

    def leave(self) -> None:
        """The server stops and leaves its kernels: what they become from here on is no news. Does not block."""
        self._due.leave()

    def close(self) -> None:
        """Ends what is under way. Where no server leaves kernels behind (nbclient), what they have written at their end comes here
        first. Called once."""
        self._due.close()
        with self._lock:
            spaces = list(self._spaces.values())
            self._spaces.clear()
        for space in spaces:
            space.close()


def reporting(running: Running) -> Callable[[Progress], None]:
    """An operation's step that says how far its files are."""

    def report(progress: Progress) -> None:
        if progress.of_files:
            words = progress_words(progress)
            much = f" ({mb(progress.bytes)} of {mb(progress.of_bytes)})" if progress.of_bytes else ""
            running.report(f"{words[0].upper()}{words[1:]}{much}", fraction(progress))

    return report
