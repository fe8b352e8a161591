"""Kernelspecs of this server for machines that notebooks run on: "Python 3 on gpu-vm" in launcher and kernel picker.

They are written when a kernel is connected to a machine and removed when none is any more, or when what ran there is gone. A kernel
that is installed there later joins them once the machine is asked what it has: at an attach, in the move dialog, after an install.
They lie in a folder of this server process's own, the last of those in which its ``KernelSpecManager`` looks: what a person
has installed under the same name comes first. What a VM says of its kernels is not trusted, so only checked words of it are
written, and no command.

The extension makes one. A look at what is attached is taken on a thread of its own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compute.naming import shortest_name
from .errors import DSVMError
from .models import FREE, Compute, LinkPhase
from .ownfolder import OwnFolder

if TYPE_CHECKING:
    from .kernels.kernelspecs import RemoteSpec
    from .service import DSVMService

MOST = 40
"""Kernelspecs of one machine; a picker with more serves nobody."""

MAX_NAME = 120
"""Letters of a kernelspec's name, which is a folder's."""

LISTING_SECONDS = 10.0
"""How long a machine may take to list them; it mostly has when it was attached."""

LOGOS = ("logo-svg.svg", "logo-64x64.png", "logo-32x32.png")
MAX_LOGO = 256 * 1024


class KernelspecOffers:
    def __init__(self, service: DSVMService, manager: Any, folder: OwnFolder, log: Any) -> None:
        """``manager`` is the server's ``KernelSpecManager``; one that does not look where it is told gets nothing."""
        self._service = service
        self._manager = manager
        self._folder = folder
        self._log = log
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._waiting = False
        self._closed = False
        self._offered: dict[str, list[tuple[RemoteSpec, Path]]] = {}
        """By compute. Only the worker touches it."""
        self._stale: set[str] = set()
        """Machines that have listed others since theirs were written."""
        self._dir = str(folder.path / "kernels")
        self._unlisten: Callable[[], None] = lambda: None

    def begin(self) -> bool:
        """Called once, while the server loads. Whether there will be any."""
        if not looks_in_folders(self._manager):
            self._log.debug(
                "%s does not look in kernel_dirs: machines' kernels are not offered in the launcher.",
                type(self._manager).__name__,
            )
            return False
        self._manager.kernel_dirs = [*self._manager.kernel_dirs, self._dir]
        self._unlisten = self._service.listen(self._heard)
        self._service.connections.on_listed = self._listed
        return True

    def close(self) -> None:
        """Blocks for what is under way, seconds at most. The folder is its owner's to remove. May be called again."""
        self._unlisten()
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        if self._dir in self._manager.kernel_dirs:
            self._manager.kernel_dirs = [d for d in self._manager.kernel_dirs if d != self._dir]

    def _heard(self, what: str, thing: str | None, revision: int) -> None:
        """Of the service, on any thread."""
        if what != "kernels":
            return
        with self._lock:
            if self._closed or self._waiting:
                return
            if self._worker is None:
                if not any(row.compute != FREE for row in self._service.kernels()[0]):
                    return  # most servers: no thread for nothing
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="jupyter-dsvm-offers")
            self._waiting = True
            self._worker.submit(self._look)

    def _listed(self, compute_id: str) -> None:
        """On any thread."""
        with self._lock:
            self._stale.add(compute_id)
            if self._worker is not None and not self._waiting:  # without one nothing is offered yet
                self._waiting = True
                self._worker.submit(self._look)

    def _look(self) -> None:
        with self._lock:
            self._waiting = False  # what is heard from here on leads to another look
            stale, self._stale = self._stale, set()
        try:
            if self._update(stale):
                self._service.kernelspecs_changed()
        except Exception as e:
            self._log.warning("Machines' kernels are not offered in the launcher: %s: %s", type(e).__name__, e)

    def _update(self, stale: set[str]) -> bool:
        """Whether anything was written or removed."""
        attached, connected = self._attached()
        changed = False
        for compute_id in set(self._offered) - attached:
            for _, path in self._offered.pop(compute_id):
                shutil.rmtree(path, ignore_errors=True)
            changed = True
        for compute_id in sorted(connected - (set(self._offered) - stale)):
            row = self._service.known.known(compute_id)
            try:
                specs = self._service.connections.kernelspecs_there(compute_id, LISTING_SECONDS)
            except DSVMError as e:
                self._log.debug("The kernels of %s are not offered: %s", compute_id, e)
                continue
            if row is not None and specs is not None:
                changed |= self._offer(row, specs[:MOST])
        return changed

    def _offer(self, row: Compute, specs: list[RemoteSpec]) -> bool:
        """These, and no others of that machine. Whether they were others before."""
        before = self._offered.get(row.id, [])
        stay = [(spec, path) for spec, path in before if spec in specs]
        for spec, path in before:
            if spec not in specs:
                shutil.rmtree(path, ignore_errors=True)
        here, known = self._kernels_here(), [spec for spec, _ in stay]
        new = [(spec, self._write(row, spec, here)) for spec in specs if spec not in known]
        self._offered[row.id] = stay + new
        return bool(new) or len(stay) < len(before) or not before

    def _attached(self) -> tuple[set[str], set[str]]:
        """The machines that kernels run on, as far as is known, and those that are connected now."""
        away = [r for r in self._service.kernels()[0] if r.compute != FREE and r.link.state is not LinkPhase.GONE]
        return {r.compute for r in away}, {r.compute for r in away if r.link.state is LinkPhase.CONNECTED}

    def _write(self, compute: Compute, spec: RemoteSpec, here: dict[str, Any]) -> Path:
        from .kernels.kernelspecs import installed_name, installed_spec  # late, as all that only an attach needs

        name = shortest_name(compute, self._service.known.snapshot().computes)
        kernel = installed_name(name, spec.name)
        folder = self._folder.sub("kernels")
        if len(kernel) > MAX_NAME or (folder / kernel).exists():
            # Two machines, or two kernels of one, whose names differ in other letters only.
            mark = hashlib.sha256(f"{compute.id}\n{spec.name}".encode()).hexdigest()[:8]
            kernel = f"{kernel[: MAX_NAME - 9]}-{mark}"
        content = installed_spec(compute.id, name, spec)
        content["metadata"]["kernel_provisioner"]["config"]["may_start"] = False
        made = folder / kernel
        made.mkdir(mode=0o700)
        copy_logos(here, spec, made)
        # Last, since a folder without it is no kernelspec.
        (made / "kernel.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return made

    def _kernels_here(self) -> dict[str, Any]:
        """The kernelspecs that start a kernel on this server, as ``get_all_specs`` gives them."""
        found: dict[str, Any] = self._manager.get_all_specs()
        return {name: entry for name, entry in found.items() if _compute_of(entry["spec"]) == FREE}


def _compute_of(spec: dict[str, Any]) -> str:
    return str(spec.get("metadata", {}).get("kernel_provisioner", {}).get("config", {}).get("compute", FREE))


def copy_logos(here: dict[str, Any], spec: RemoteSpec, to: Path) -> None:
    """Of the kernel here that has its name, or else its language: the VM's own picture would be one more thing to trust."""
    language = spec.language.lower()
    alike = sorted(name for name, entry in here.items() if str(entry["spec"].get("language", "")).lower() == language)
    chosen = next((name for name in (spec.name.lower(), "python3", *alike) if name in alike), None)
    if chosen is None:
        return
    for name in LOGOS:
        logo = Path(here[chosen]["resource_dir"]) / name
        try:
            if logo.stat().st_size <= MAX_LOGO:
                shutil.copyfile(logo, to / name)
        except OSError:
            continue  # it has none of that kind


def looks_in_folders(manager: Any) -> bool:
    """Whether it finds kernelspecs as jupyter_client's own does. Others, a gateway's for one, ask somebody else."""
    from jupyter_client.kernelspec import KernelSpecManager

    return isinstance(manager, KernelSpecManager) and all(
        getattr(type(manager), name) is getattr(KernelSpecManager, name)
        for name in ("find_kernel_specs", "get_kernel_spec", "get_all_specs")
    )
