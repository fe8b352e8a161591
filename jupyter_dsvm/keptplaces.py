"""Which folder is the working folder of which kernel on a VM, on disk: for the server that adopts the kernel later.

One small file for each kernel, below ``sync/kernels`` in the extension's data folder; and what this server calls itself towards
VMs, so that two servers of one account, or two named servers of one user on a hub, do not share a folder there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from .kernels.keptfiles import server_name
from .ssh.keys import private_folder, write_private

VERSION = 1


@dataclass(frozen=True)
class KeptPlace:
    compute: str
    folder: str
    """Here; empty where its files do not travel."""
    root: str = ""
    base: str = ""
    why: str = ""
    """Why they do not travel."""


class KeptPlaces:
    """Blocking, for worker threads. What cannot be read is as if it were not there: the kernel goes on, its files stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, kernel_id: str) -> Path:
        return self.folder / "sync" / "kernels" / f"{uuid.UUID(kernel_id)}.json"

    def write(self, kernel_id: str, place: KeptPlace) -> None:
        with contextlib.suppress(ValueError):
            write_private(self._file(kernel_id), json.dumps({"version": VERSION, **vars(place)}).encode())

    def read(self, kernel_id: str) -> KeptPlace | None:
        try:
            value = json.loads(self._file(kernel_id).read_bytes())
            if value["version"] != VERSION:
                return None
            return KeptPlace(*(str(value[name]) for name in ("compute", "folder", "root", "base", "why")))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def forget(self, kernel_id: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file(kernel_id).unlink(missing_ok=True)

    def server_id(self) -> str:
        """The same for good; made at the first call, by whichever process comes first."""
        name = server_name()
        suffix = f"-{hashlib.sha256(name.encode()).hexdigest()[:16]}" if name else ""
        file = self.folder / "sync" / f"server-id{suffix}"
        private_folder(file.parent)
        try:
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return file.read_text("ascii", "replace").strip()
        with open(fd, "w", encoding="ascii") as opened:
            made = uuid.uuid4().hex
            opened.write(made)
        return made
