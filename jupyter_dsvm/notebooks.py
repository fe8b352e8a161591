"""What the service knows of notebooks' files: where they last ran, what they import, and what of it a VM lacks.

The part of ``DSVMService`` for the move dialog, the magic's hints and "Last ran on". Only a server has files of notebooks:
elsewhere (nbclient, a console) there is no root folder, and nothing here has anything to say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .environments import Environments
from .errors import BadRequest
from .lastran import LastRan
from .models import FREE, KernelRecord, Module, Operation, OperationState
from .modules import imported

if TYPE_CHECKING:
    from .advising import Advising
    from .carrying import Carrying
    from .computes import Computes
    from .connections import Connections
    from .operations import OperationStore, Running

MAX_NOTEBOOK = 32 * 1024 * 1024
"""Bytes; a notebook with more in it is not looked through for a hint."""
MAX_SOURCES = 1024 * 1024
"""Characters of code."""
NOTES_SECONDS = 4.0
"""For a hint in a cell that waits for it."""


class NotebookFiles:
    # Of DSVMService
    log: Any
    _work: Any
    _paths: Mapping[str, str]
    known: Computes
    operations_store: OperationStore
    connections: Connections
    registry: Any
    spawn: Callable[[Running, Callable[[], object]], None]
    _kernel_changed: Callable[[str], None]
    advising: Advising
    carrying: Carrying

    def _join_notebooks(self, file: Path) -> None:
        self.root_dir: Path | None = None
        self.last_ran = LastRan(file)
        self.environments = Environments(self.operations_store, self.known, self.connections)
        self.operations_store.listen(self._brought_back)

    def use_root(self, folder: str) -> None:
        """The folder that notebooks' paths begin in. Blocks for a small file; the extension calls it while the server loads."""
        if folder:
            self.root_dir = Path(folder)
            self.last_ran.load()
            self.carrying.saves.load()

    def _file(self, path: str | None) -> Path | None:
        """A notebook's file, inside the root folder; it need not exist."""
        if not path or self.root_dir is None or "\0" in path:
            return None
        file = self.root_dir / path.lstrip("/")
        return None if ".." in file.parts else file

    def notebook_file(self, kernel_id: str) -> Path | None:
        """The file of a kernel's notebook here, if it has one that is known; it need not exist any more. Does not block."""
        return self._file(self._paths.get(kernel_id))

    # Where it last ran

    def _last_compute(self, path: str | None, compute: str) -> str | None:
        """For a kernel's row: where its notebook last ran, if that is elsewhere."""
        file = self._file(path)
        last = self.last_ran.get(str(file)) if file is not None else None
        return last if last != compute else None

    def _note_where(self, row: KernelRecord) -> None:
        """A kernel's row has changed; on the I/O thread, so it must not block."""
        file = self._file(row.path)
        if file is not None and row.compute != FREE and self.last_ran.note({str(file): row.compute}):
            self._save_soon()

    def _renamed(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Kernels' paths have changed; on the server's loop."""
        changes: dict[str, str | None] = {}
        moved: dict[str, str] = {}
        for kernel_id, path in after.items():
            old, new = self._file(before.get(kernel_id)), self._file(path)
            if old is not None and new is not None and old != new:
                moved[str(old)] = str(new)
                last = self.last_ran.get(str(old))
                if last is not None:
                    changes |= {str(old): None, str(new): last}
        self.carrying.renamed(moved)
        if self.last_ran.note(changes):
            self._save_soon()

    def _brought_back(self, operation: Operation) -> None:
        """Somebody has had the notebook moved to the free tier, or stay there: it has no other place any more."""
        if operation.kind != "detach" or operation.state is not OperationState.DONE or operation.kernel is None:
            return
        file = self._file(self._paths.get(operation.kernel))
        if file is not None and self.last_ran.note({str(file): None}):
            self._save_soon()
            self._kernel_changed(operation.kernel)

    def _save_soon(self) -> None:
        try:
            self._work.submit(self.last_ran.save)
        except RuntimeError:
            pass  # the server is stopping, and saves at the end

    # What it imports

    def modules(self, compute: str, kernelspec: str | None, sources: Sequence[str], path: str | None) -> list[Module]:
        """What the code in ``sources`` imports, as a kernel there would find it. Blocks; the machine must run."""
        if sum(map(len, sources)) > MAX_SOURCES:
            raise BadRequest(
                f"There is more code than can be looked through ({MAX_SOURCES} characters).",
                advice="Send the cells that import something.",
            )
        file = self._file(path)
        return self.environments.modules(compute, kernelspec, imported(sources), file.parent if file else None)

    def install(self, compute: str, kernelspec: str | None, packages: Sequence[str]) -> Operation:
        """Have pip install them for that kernel there. Blocks only to find the compute."""
        running = self.environments.begin_install(compute, packages)
        self.spawn(running, lambda: self.environments.run_install(running, kernelspec, packages))
        return running.value

    def attach_notes(self, kernel_id: str, kernelspec: str | None = None) -> list[str]:
        """What to tell whoever moves, or has just moved, this kernel: sentences. ``kernelspec``: which one was asked for there.

        For the magic, and for a move from the page that had to start its machine. Blocks for some seconds at most, and never
        raises: it is a hint."""
        until = time.monotonic() + NOTES_SECONDS
        gpu = self.advising.begin_look_at_gpu(kernel_id, kernelspec)
        notes = []
        try:
            notes = self._notes(kernel_id, kernelspec)
        except Exception as e:
            self.log.info("What a notebook imports could not be looked for: %s", e)
        try:
            return [*notes, *gpu.result(timeout=max(0.0, until - time.monotonic()))]
        except FutureTimeout:
            return notes  # ``%dsvm status`` says it when it is known: the change over is not to wait for it
        except CancelledError:
            return notes

    def _notes(self, kernel_id: str, kernelspec: str | None) -> list[str]:
        proxy, file = self.registry.get(kernel_id), self._file(self._paths.get(kernel_id))
        if proxy is None or file is None or proxy.status.language.lower() != "python":
            return []
        compute = proxy.moving or proxy.status.compute
        if compute == FREE or not file.is_file() or file.stat().st_size > MAX_NOTEBOOK:
            return []
        names = imported(code_of(file.read_bytes()))
        local = proxy.kernelspec if compute != proxy.status.compute else proxy.status.kernelspec
        found = self.environments.modules(compute, kernelspec, names, file.parent, local, NOTES_SECONDS)
        return notes_of(found)


def code_of(notebook: bytes) -> list[str]:
    """The sources of a notebook's code cells (nbformat 4 and 3); none where it is no notebook."""
    try:
        whole = json.loads(notebook)
        cells = whole["cells"] if "cells" in whole else [c for sheet in whole["worksheets"] for c in sheet["cells"]]
        sources = [c["source" if "source" in c else "input"] for c in cells if c.get("cell_type") == "code"]
        texts = ["".join(s) if isinstance(s, list) else str(s) for s in sources]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    size, kept = 0, []
    for text in texts:
        size += len(text)
        if size > MAX_SOURCES:
            break
        kept.append(text)
    return kept


def language_of(notebook: bytes) -> str:
    """Of a notebook's file, as far as it says so: ``python``, ``r``; empty where it does not."""
    try:
        metadata = json.loads(notebook)["metadata"]
        said = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name") or ""
        return str(said).lower()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""


def _named(module: Module) -> str:
    """With the package's name, where that is a different one."""
    same = module.package.lower().replace("-", "_") in ("", module.name.lower())
    return module.name if same else f"{module.name} ({module.package})"


def notes_of(modules: Sequence[Module]) -> list[str]:
    """What of it is worth a sentence."""
    notes = []
    missing = [m for m in modules if m.state == "missing"]
    if missing:
        named = ", ".join(_named(m) for m in missing)
        packages = list(dict.fromkeys(m.package for m in missing if m.package))
        how = ""
        if packages:
            them = "it" if len(missing) == 1 else "them"
            how = f" Install {them} with %pip install {' '.join(packages)} in the next cell."
        notes.append(f"Missing there: {named}.{how}")
    local = [m.name for m in modules if m.state == "local"]
    if local:
        lie, are = ("lies", "is") if len(local) == 1 else ("lie", "are")
        notes.append(f"{', '.join(local)} {lie} beside the notebook here and {are} not there.")
    return notes
