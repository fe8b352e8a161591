"""Folders of proxies whose process was killed: their sockets, and what had not fitted into memory. Nobody else removes them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from ..relay.listening import connect

MIN_AGE = 10.0
"""Seconds; a younger one may not listen yet."""


def remove_leftovers() -> int:
    """How many there were. Blocks for a moment; raises nothing."""
    removed = 0
    if not hasattr(socket, "SO_PEERCRED"):
        return removed  # who listens there could not be told
    for base in {jupyter_runtime_dir(), tempfile.gettempdir()}:
        for folder in Path(base).glob("dsvm-*"):
            try:
                about = folder.lstat()
                if about.st_uid != os.getuid() or time.time() - about.st_mtime < MIN_AGE:
                    continue
                if folder.name.startswith("dsvm-carry-"):
                    removed += _remove_of_dead(folder)
                    continue
                if not (folder / "call").is_socket():
                    continue
                listener = connect(str(folder / "call"))
            except OSError:
                continue  # it is not known to be dead
            if listener is not None:
                listener.close()
            else:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed


def _remove_of_dead(folder: Path) -> int:
    """A socket for variables that travel (``carryends``), whose process is in its name: nobody else may connect to it."""
    pid = folder.name.split("-")[2]
    if not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    return 1
