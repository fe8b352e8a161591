"""Which folder travels with a notebook, which never does, and what it is called on the VM."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ..errors import FolderRefused
from .names import POSIX, problem

WORKSPACES = "notebooks"
"""In the home folder on the VM."""
NAME_CHARACTERS = 40
PERSONAL = (".ssh", ".azure", ".aws", ".kube", ".jupyter", ".ipython", ".gnupg", ".docker")
"""What makes a folder somebody's home, or one that holds its keys and settings."""
SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
SHARED = ("/home", "/Users", "/mnt", "/media", "/opt", "/srv", "/tmp", "/var/tmp", "/root", "/private", "/Volumes")  # noqa: S108
"""What is in them may be a workspace; they themselves not."""
TEMPORARY = ("/tmp", "/var/tmp", "/private/tmp", "/private/var/folders")  # noqa: S108
"""Also where they are in a folder of ``SYSTEM``."""
TRAVELS_ALONE = "Put the notebook into a folder of its own, or attach with `%dsvm attach NAME --no-sync`."


def project_folder(notebook: str, root: Path, chosen: str | None = None) -> Path:
    """The folder that travels: the notebook's own, or the one that the user chose for it.

    ``notebook`` and ``chosen`` are paths as Jupyter's contents manager has them, relative to ``root``. A chosen folder must be
    the notebook's or one above it.
    """
    above = str(PurePosixPath(notebook).parent)
    folder = above if chosen is None else chosen.strip("/") or "."
    if folder != "." and problem(folder, POSIX):
        raise FolderRefused(
            f"“{folder}” is no folder of this server's: {problem(folder, POSIX)}.", advice=TRAVELS_ALONE
        )
    if folder != "." and not (above + "/").startswith(folder + "/"):
        raise FolderRefused(
            f"{notebook} is not in the folder “{folder}”.", advice="Choose the notebook's folder, or one above it."
        )
    return root if folder == "." else root / folder


def check_workspace(folder: Path, *, home: Path | None = None, own: Collection[Path] = ()) -> Path:
    """The folder with its links resolved. Raises ``FolderRefused`` where it may not travel.

    ``own``: where Jupyter and this extension keep what they need (data, runtime and configuration folders).
    """
    home = Path(os.path.realpath(home if home is not None else Path.home()))
    real = Path(os.path.realpath(folder))
    if not real.is_dir():
        raise FolderRefused(f"The folder {folder} is not there.", advice=TRAVELS_ALONE)
    if real == Path(real.anchor):
        raise FolderRefused("All of this server's disk cannot travel.", advice=TRAVELS_ALONE)
    if str(real) in SHARED and real != home:
        raise FolderRefused(f"{real} cannot travel: it is this system's.", advice=TRAVELS_ALONE)
    if real == home:
        raise FolderRefused("Your home folder cannot travel: it holds keys and settings.", advice=TRAVELS_ALONE)
    if real in home.parents:
        raise FolderRefused(f"{real} cannot travel: your home folder is in it.", advice=TRAVELS_ALONE)
    temporary = any(real.is_relative_to(t) for t in TEMPORARY)
    if not temporary and any(real.is_relative_to(s) for s in SYSTEM) and not real.is_relative_to(home):
        raise FolderRefused(f"{real} cannot travel: it is this system's.", advice=TRAVELS_ALONE)
    for name in PERSONAL:
        if os.path.lexists(real / name):
            raise FolderRefused(f"{real} cannot travel: it holds {name}, with keys or settings.", advice=TRAVELS_ALONE)
        if name in real.parts:
            raise FolderRefused(f"{real} cannot travel: {name} holds keys or settings.", advice=TRAVELS_ALONE)
    for kept in own:
        kept = Path(os.path.realpath(kept))
        if real == kept or kept in real.parents or real in kept.parents:
            raise FolderRefused(f"{real} cannot travel: Jupyter keeps its own files in {kept}.", advice=TRAVELS_ALONE)
    return real


def workspace_name(folder: Path, server: str) -> str:
    """The folder's name under ``~/notebooks`` on a VM: its own, and eight digits by which two of one name, on one server or on
    two, do not meet. It is the same each time.

    ``server`` identifies this Jupyter server and user for good, for instance the id that the extension keeps.
    """
    real = os.path.realpath(folder)
    plain = unicodedata.normalize("NFKD", os.path.basename(real)).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:NAME_CHARACTERS].strip("-._") or "notebook"
    digits = hashlib.sha256(f"{server}\0{real}".encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{name}-{digits}"
