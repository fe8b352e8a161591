"""Before a VM is stopped because nobody uses it: what the notebooks there have in memory is saved on its OS disk.

``idlewatch`` calls it on the watch's own thread, when the files are back. Each kernel that is idle and speaks Python writes a file
of its own into the account's data folder there (``~/.local/share/jupyter-dsvm/saved``); which one is whose is noted here
(``savedvariables``). Nothing of this keeps a VM on: what cannot be saved is lost, as it would have been, and the notice says so.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .carrywords import failed_words, variables_words
from .compute.provider import Cancel
from .errors import Cancelled, DSVMError, SSHError
from .kernelvariables import Moved, VariablesIn, moved_of, wait
from .models import LinkPhase
from .savedvariables import Save, SavedStore
from .tables import bytes_words

if TYPE_CHECKING:
    from .connections import Connections

log = logging.getLogger("jupyter_dsvm.carrying")

SAVE_SECONDS = 480.0
"""For all kernels of a VM together; it is claimed for a quarter of an hour, in which its files come back too."""
LOOK_SECONDS = 2.0
SHARE = 0.8
"""Of what is free on the disk."""
FOLDER = (
    'd="${XDG_DATA_HOME:-$HOME/.local/share}/jupyter-dsvm/saved"; umask 077; mkdir -p "$d" && '
    'find "$d" -name "*.vars*" -mtime +30 -exec rm -f {} \\; && printf "%s\\n" "$d" && df -Pk "$d"'
)
"""Makes the folder, removes what nobody has wanted for a month, and says where it is and how much room there is."""


@dataclass(frozen=True)
class Place:
    folder: str
    free: int
    """Bytes."""


class SavingVariables:
    def __init__(
        self,
        saves: SavedStore,
        connections: Connections,
        kernels: Callable[[], Iterable[Any]],
        notebook_of: Callable[[str], str],
        limit: Callable[[], int],
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``kernels`` gives the proxies of this process; ``limit`` is the most that one kernel may save, in bytes, 0 for nothing;
        ``changed`` is called with a kernel's id when something of its notebook was saved."""
        self._saves = saves
        self._connections = connections
        self._kernels = kernels
        self._notebook_of = notebook_of
        self._limit = limit
        self._changed = changed
        self._clock = clock

    def wanted(self, compute_id: str) -> bool:
        """Whether there is any kernel whose variables could be saved there. Does not block."""
        return self._limit() > 0 and any(self._idle_there(compute_id))

    def _idle_there(self, compute_id: str) -> Iterable[Any]:
        for proxy in self._kernels():
            status = proxy.status
            idle = status.execution_state == "idle" and status.running is None
            python = status.language.lower() in ("", "python")
            if status.compute == compute_id and status.link.state is LinkPhase.CONNECTED and idle and python:
                yield proxy

    def save(self, compute_id: str, cancel: Cancel) -> list[str]:
        """Blocks; sentences for whoever reads why the VM was stopped. Raises ``Cancelled`` only."""
        said: list[str] = []
        deadline = time.monotonic() + SAVE_SECONDS
        place: Place | None = None
        for proxy in list(self._idle_there(compute_id)):
            try:
                if place is None:
                    place = self._place(compute_id)
                moved = self._one(proxy, compute_id, place, deadline, cancel)
            except Cancelled:
                raise
            except DSVMError as e:
                log.info("Variables of %s were not saved: %s", proxy.kernel_id, e)
                said.append(f"Variables could not be saved: {e.message}")
                continue
            if moved is not None and moved.count:
                left = f" {len(moved.failed)} could not be: {failed_words(moved.failed)}." if moved.failed else ""
                said.append(f"{variables_words(moved.count)} saved on its disk ({bytes_words(moved.bytes)}).{left}")
        return said

    def _place(self, compute_id: str) -> Place:
        status, out, _ = self._connections.standing(compute_id, 5.0).run(FOLDER, timeout=30.0, limit=64 * 1024)
        lines = out.decode("utf-8", "replace").splitlines()
        try:
            folder, free = lines[0], int(lines[-1].split()[3]) * 1024
        except (IndexError, ValueError):
            folder, free = "", 0
        if status or not folder.startswith("/"):
            raise SSHError("the folder for them could not be made on its disk.", code="NoFolder")
        return Place(folder, free)

    def _one(self, proxy: Any, compute_id: str, place: Place, deadline: float, cancel: Cancel) -> Moved | None:
        notebook = self._notebook_of(proxy.kernel_id)
        file = f"{place.folder}/{hashlib.sha256(notebook.encode()).hexdigest()[:16]}.vars"
        limit = min(self._limit(), int(place.free * SHARE))
        kernel = VariablesIn(proxy)
        planned = kernel.plan(None, None, LOOK_SECONDS, cancel)
        if not planned.more and not any(v.moves for v in planned.variables):
            return None
        asked = kernel.begin_save(file, limit)
        saved = moved_of(wait(asked, max(1.0, deadline - time.monotonic()), cancel), "sent")
        if not saved.names:
            return None
        left = tuple(f.name for f in saved.failed)
        self._saves.put(Save(notebook, compute_id, file, self._clock(), saved.names, saved.count, saved.bytes, left))
        self._changed(proxy.kernel_id)
        return saved
