"""Private folders, short enough for the sockets in them.

A unix socket's path may have 107 bytes (``sun_path`` in ``unix(7)``, less its final zero). Kernels of other people on
the same machine must not reach these sockets, so every folder is 0700 and ours, and one that is not is refused
rather than repaired: whoever made it may still hold it open.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from typing import Optional

SOCKET_PATH_MAX = 107

LONGEST_NAME = len("/p4194304-9")
"""The longest socket name that anybody here puts into a kernel's folder."""


class FolderError(OSError):
    """A folder that should be private to this user is not."""


def private_folder(path: str) -> str:
    """Make ``path``, and what is missing above it, 0700. ``FolderError`` if it is there and not private."""
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        private_folder(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise FolderError(
            f"{path} is not a folder that only this user can enter (mode {stat.S_IMODE(found.st_mode):o}, owner"
            f" {found.st_uid}). Move it away and try again."
        )
    return path


def kernels_folder() -> str:
    """Where the folders of this user's relays are, on this machine. Not made here; the same answer in every process.

    Normally ``~/.local/share/jupyter-dsvm/kernels`` (or under ``XDG_DATA_HOME``); under ``/tmp`` where a socket in it
    would have too long a path. That name has a digest of the data folder in it, since several data folders of one user
    may share a ``/tmp``.
    """
    data = os.environ.get("XDG_DATA_HOME") or ""
    if not os.path.isabs(data):
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    folder = os.path.join(data, "jupyter-dsvm", "kernels")
    if fits(os.path.join(folder, "0" * 16)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return f"/tmp/jupyter-dsvm-{os.getuid()}-{digest}"  # noqa: S108 (checked by private_folder before use)


def beside_kernels(name: str) -> str:
    """A folder of the account that every relay and every pipe finds; beside that of the kernels. Not made here."""
    folder = kernels_folder()
    above = os.path.dirname(folder)
    return os.path.join(above, name) if os.path.basename(above) == "jupyter-dsvm" else f"{folder}-{name}"


def kernel_folder(tag: bytes) -> str:
    """The folder of the relay of one kernel. Half of the tag is enough to tell one user's kernels apart."""
    return os.path.join(kernels_folder(), tag.hex()[:16])


def lock_folder(folder: str, wait: float) -> Optional[int]:
    """A descriptor that holds the folder locked until it is closed; None where another still has it after ``wait`` seconds.

    Two pipes must not start two relays; and systemd-tmpfiles, which removes what lies in /tmp for ten days, leaves alone
    what is locked. A relay that is being killed closes its sockets a moment before it lets go of this.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.01)


def fits(folder: str) -> bool:
    """Whether the sockets of a kernel can lie in ``folder``."""
    return len(os.fsencode(folder)) + LONGEST_NAME <= SOCKET_PATH_MAX


def write_private(path: str, data: bytes) -> None:
    """A new 0600 file, in place of what had that name. The folder is private, so nobody else can be in between."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
