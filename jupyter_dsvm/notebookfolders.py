"""Which folder of this server travels with a notebook, what it is called on a VM, and what of it would be copied.

A part of ``workspaces``. What is said here of a kernel is looked up in the server's sessions and on its disk, so it blocks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

from .errors import FolderRefused
from .keptplaces import KeptPlaces
from .kernels.keptfiles import server_name
from .space import Place, limits_of

if TYPE_CHECKING:
    from .service import DSVMService
    from .sync.workspace import Limits

NO_NOTEBOOK = "NoNotebook"
"""The code of a refusal that nobody needs to be told of: a console's kernel, where there is no server."""


class NotebookFolders:
    def __init__(self, service: DSVMService, folder: Path, kept: KeptPlaces) -> None:
        """``folder``: the extension's data folder."""
        self._service = service
        self._folder = folder
        self._kept = kept

    @property
    def ask_above(self) -> int:
        """Bytes."""
        return int(self._service.sync_ask_above_mib) << 20

    def of(self, proxy: object, new: bool = False) -> Path:
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

    def limits(self, folder: Path) -> Limits:
        """What a sync of that folder may do now. Blocks."""
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
