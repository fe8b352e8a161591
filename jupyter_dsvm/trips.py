"""Files on the way of something else: of a kernel that moves, and of a machine that is about to be stopped.

None of it fails what it belongs to. A move goes on without its files, a stop stops, and what did not work is said in the notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, DiskFull, DSVMError, SyncError
from .models import FREE, Compute
from .notebookfolders import NO_NOTEBOOK
from .space import Space, done_words, mb, stopped_because
from .workspaces import Workspaces, reporting

if TYPE_CHECKING:
    from pathlib import Path

    from .operations import Running
    from .sync.workspace import Progress, Synced

log = logging.getLogger("jupyter_dsvm.workspaces")

STEP = "files"

STOP_SECONDS = 60.0
"""Without progress, after which a machine is stopped although not all of its files are back."""

LEAVE_SECONDS = 30.0
"""The same for a notebook that leaves the machine: whoever brings it back may do so because the machine answers no more."""

LEFT_OUT = "Its files stay on this server, as was asked for."


class Trip:
    """The files of one move of one kernel. ``Moves`` calls, in this order: ``leave``, ``arrive`` (unless it comes back), and then
    either ``arrived`` or ``gave_up``."""

    def __init__(
        self,
        workspaces: Workspaces,
        kernel_id: str,
        compute: str,
        space: Space | None,
        why: str,
        folder: str = "",
        yes: bool = False,
        tell: bool = True,
        inside: str = "",
    ) -> None:
        """Use ``Trips.of``. ``space``: where the files go, and where ``inside`` that the notebook is; or ``why`` they do not, and
        whether to ``tell`` that."""
        self._inside = inside
        self._workspaces = workspaces
        self._kernel_id = kernel_id
        self._compute = compute
        self._space = space
        self._why = why
        self._folder = folder
        self._yes = yes
        self._from = workspaces.current(kernel_id)
        self._said = False
        """That not everything came back from there."""
        self.notices: list[str] = []
        """Sentences for whoever moves: what did not work."""
        if why and tell:
            self.notices.append(why)
        workspaces.arriving(kernel_id, compute)

    @property
    def copies(self) -> bool:
        """Whether it has a step of its own."""
        return self._space is not None or self._from is not None

    def leave(self, report: Callable[[Progress], None], cancel: threading.Event) -> None:
        """Bring back what is on the VM that the kernel runs on now. Blocks; raises ``Cancelled``."""
        space = self._from
        if space is not None and (self._space is None or space.id != self._space.id):
            problem = patiently(self._workspaces, space, report, cancel, LEAVE_SECONDS)
            if problem:
                self._said = True
                self.notices.append(f"Not everything came back from {space.name}: {problem}")

    def arrive(self, report: Callable[[Progress], None], cancel: threading.Event) -> tuple[str | None, str]:
        """Copy the folder there. Gives the working folder for the kernel, relative to the home folder, and what is now there in
        words. Blocks; raises ``Cancelled``."""
        from .sync.refusals import WORKSPACES

        space = self._space
        if space is None:
            return None, ""
        size = ""
        try:
            synced = space.run("push", report, cancel, yes=self._yes)
            stopped = stopped_because(synced, space.name)
            size = mb(synced.size)
            if stopped is not None:
                raise stopped
            if synced.problems:
                self.notices.append(f"Not everything was copied to {space.name}: {' '.join(synced.problems[:3])}")
        except Cancelled:
            raise
        except DSVMError as e:
            self.notices.append(f"Its files are not all on {space.name}: {e}")
        except Exception as e:
            log.exception("copying the files of %s failed", space.place.folder)
            self.notices.append(f"Its files are not all on {space.name}: {type(e).__name__}: {e}.")
        return "/".join(p for p in (WORKSPACES, space.place.root, self._inside) if p), size

    def arrived(self, tell: Callable[[str], object] | None = None) -> None:
        """``tell``: who is to know if what it has left where it was does not come; None: the page. Any thread; does not block."""
        told = _nobody if self._said else tell
        self._workspaces.arrived(self._kernel_id, self._compute, self._space, self._folder, self._why, told, self._said)

    def gave_up(self) -> None:
        self._workspaces.gave_up(self._kernel_id, self._space)


def _nobody(text: str) -> None:
    """It was said before."""


class Trips:
    """Makes them; and brings files back before a machine is stopped."""

    def __init__(self, workspaces: Workspaces, by_default: Callable[[], bool]) -> None:
        self._workspaces = workspaces
        self._by_default = by_default

    def steps(self, proxy: Any, compute: Compute) -> list[tuple[str, str]]:
        """What a move announces of its files, as far as can be told at once."""
        now = self._workspaces.current(proxy.kernel_id)
        if compute.id == FREE:
            return [(STEP, f"Bring the files back from {now.name}")] if now is not None else []
        try:
            self._workspaces.folders.of(proxy)
        except SyncError:
            return [] if now is None else [(STEP, f"Bring the files back from {now.name}")]
        return [(STEP, "Copy the notebook's folder")]

    def of(self, proxy: Any, compute: Compute, sync: bool | None = None, new: bool = False) -> Trip:
        """``sync``: whether files travel; None: as it is configured, and not if they are many: then it raises a ``SyncError`` with
        the code ``NeedsYes``, before anything was started. Blocks: the folder here is looked through."""
        workspaces, kernel_id = self._workspaces, proxy.kernel_id
        if compute.id == FREE:
            return Trip(workspaces, kernel_id, FREE, None, "")
        if not (self._by_default() if sync is None else sync):
            return Trip(workspaces, kernel_id, compute.id, None, LEFT_OUT, tell=False)
        folder: Path | None = None
        try:
            folder = workspaces.folders.of(proxy, new)
            place = workspaces.folders.place(compute.id, folder)
            if sync is None:
                self._ask(folder, compute.name, workspaces.folders.pending(place)[1])
            space = workspaces.space(place, compute.name)
            inside = workspaces.folders.inside(proxy, folder, new)
            return Trip(workspaces, kernel_id, compute.id, space, "", yes=sync is True, inside=inside)
        except (SyncError, OSError) as e:
            if isinstance(e, SyncError) and e.code == "NeedsYes":
                raise
            said = str(e) if isinstance(e, SyncError) else f"{e.strerror}: {e.filename}."
            why = f"Its files stay on this server. {said}"
            untold = isinstance(e, SyncError) and e.code == NO_NOTEBOOK
            return Trip(workspaces, kernel_id, compute.id, None, why, str(folder or ""), tell=not untold)

    def of_new(self, front: Any, compute: Compute) -> Trip:
        """Of a kernel that begins there, from a kernelspec. Nobody can be asked: many files do not travel then."""
        try:
            return self.of(front, compute, new=True)
        except SyncError as e:
            why = f"Its files stay on this server. {e.message}"
            return Trip(self._workspaces, front.kernel_id, compute.id, None, why)

    def _ask(self, folder: Path, name: str, size: int) -> None:
        if size > self._workspaces.folders.ask_above:
            raise SyncError(
                f"The folder {folder.name} has {mb(size)} to copy to {name}, which is more than is copied without asking.",
                advice=f"`%dsvm attach {name} --yes` copies it, `--no-sync` goes without; what need not travel can be listed "
                "in a .dsvmignore there.",
                code="NeedsYes",
            )

    # Before a stop

    def steps_of_stop(self, compute: Compute) -> list[tuple[str, str]]:
        return [(STEP, f"Bring the files back from {compute.name}")] if self._workspaces.on(compute.id) else []

    def bring_back(self, running: Running) -> str:
        """From all workspaces on the operation's machine, before it is stopped. Gives sentences about what did not come back.
        Blocks; raises ``Cancelled`` if the operation is."""
        problems = []
        for space in self._workspaces.on(running.value.compute or ""):
            running.reach(STEP, f"Bring the files back from {space.name}")
            problem = patiently(self._workspaces, space, reporting(running), running.cancel, STOP_SECONDS)
            if problem:
                problems.append(f"Not everything came back from {space.name}: {problem}")
                running.mention(problems[-1])
        return " ".join(problems)


def bring(space: Space, report: Callable[[Progress], None], cancel: threading.Event) -> str:
    """Both ways, before the kernel leaves. What did not work, in words; raises ``Cancelled``."""
    try:
        try:
            synced: Synced = space.run("both", report, cancel)
        except DiskFull:
            # Over there, where the kernel is about to leave: what is here need not go.
            synced = space.run("pull", report, cancel)
        stopped = stopped_because(synced, space.name)
        if stopped is not None:
            return str(stopped)
        return done_words(synced, space.name) if synced.problems or synced.left_there else ""
    except Cancelled:
        raise
    except DSVMError as e:
        return str(e)
    except Exception as e:
        log.exception("copying the files of %s failed", space.place.folder)
        return f"{type(e).__name__}: {e}."


def patiently(
    workspaces: Workspaces,
    space: Space,
    report: Callable[[Progress], None],
    cancel: threading.Event,
    seconds: float,
) -> str:
    """``bring``, given up where the VM is out of reach, or nothing has gone on for ``seconds``."""
    if not workspaces.in_reach(space):
        return f"{space.name} is out of reach."
    with Patience(cancel, seconds) as patience:

        def told(progress: Progress) -> None:
            patience.moved()
            report(progress)

        try:
            return bring(space, told, patience.cancel)
        except Cancelled:
            if cancel.is_set():
                raise
            return f"nothing went on for {seconds:.0f} s."


class Patience:
    """Sets ``cancel`` when another event is set, or nothing has moved for some time. It has a thread for as long as it is open."""

    def __init__(self, outer: threading.Event, seconds: float) -> None:
        self.cancel = threading.Event()
        self._outer = outer
        self._seconds = seconds
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-patience", daemon=True)

    def moved(self) -> None:
        self._moved = time.monotonic()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            if self._outer.is_set() or time.monotonic() > self._moved + self._seconds:
                self.cancel.set()
                return

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
