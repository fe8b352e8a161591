"""What is written down of a kernel on a VM so that a later server process can adopt it: formats, and files that cannot hurt.

Each kernel on a VM has a folder of its own, ``<jupyter data>/jupyter-dsvm/kernels/<kernel id>/`` (0700, its files 0600)::

    kernel.json     who it is and where its relay is (KeptKernel); replaced as a whole
    requests.jsonl  which requests wait or are with the kernel (RequestLog); appended to, written anew when it has grown
    marks           up to which message each page has everything (Marks); fixed places, overwritten
    lock            held (flock) by the server process that has the kernel, for as long as it lives

Plain writes: what a process has written survives its own kill -9 in the page cache, and what is kept is of no use after a
crash of this machine that lost more than that. Every file may be torn, missing or nonsense; readers take what is sound.
``kernels.keeping`` decides what is written when; ``kernels.requestlog`` and ``kernels.marks`` have the formats of those two.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir

from ..relay.wire import PIPE, kernel_tag

log = logging.getLogger("jupyter_dsvm.keeping")

KERNEL, REQUESTS, MARKS, LOCK = "kernel.json", "requests.jsonl", "marks", "lock"

MAX_KERNEL = 4 * 1024 * 1024
MAX_LOG = 512 * 1024 * 1024


def kept_folder() -> Path:
    """Where all of them are. Not made here."""
    return Path(jupyter_data_dir()) / "jupyter-dsvm" / "kernels"


def folder_of(kernel_id: str) -> Path:
    """Of one kernel. Ids that a custom manager has made may be no name for a folder."""
    try:
        name = kernel_id if str(uuid.UUID(kernel_id)) == kernel_id else ""
    except ValueError:
        name = ""
    return kept_folder() / (name or str(uuid.UUID(bytes=kernel_tag(kernel_id))))


def server_name() -> str:
    """Which of its user's servers on a hub this is (``JUPYTERHUB_SERVER_NAME``): empty for the default one, and without a hub.

    Named servers may share one home folder. What a server leaves is for the next server of its own name.
    """
    return os.environ.get("JUPYTERHUB_SERVER_NAME", "")


# kernel.json


@dataclass(frozen=True)
class SessionRow:
    """A row of the session manager: which notebook a kernel belongs to."""

    id: str
    path: str
    name: str
    type: str


@dataclass(frozen=True)
class KeptKernel:
    """All that adoption needs besides the requests and marks. ``key`` is a secret, so nothing of this is logged."""

    kernel_id: str
    kernel_name: str
    """The notebook's kernelspec on this server."""
    key: str = field(repr=False)
    signature_scheme: str
    session: str
    ip: str
    ports: dict[str, int]
    compute: str
    compute_name: str
    kernelspec: str
    language: str
    interrupt_mode: str
    epoch: str
    """Of the server's end of the session with the relay."""
    peer_epoch: str
    """Of the relay's end."""
    tag: str
    """Of the relay's frames, in hexadecimal."""
    notice: str = ""
    runs: int = 1
    """How often the kernel was to be started there."""
    run: int = 1
    """The latest run that has told of its start."""
    info: dict[str, Any] | None = None
    """The content of its latest ``kernel_info_reply``."""
    sessions: tuple[SessionRow, ...] = ()
    root_dir: str = ""
    """What the paths of ``sessions`` are relative to."""
    server: str = ""
    """``server_name`` of the server that left it."""
    when: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> KeptKernel:
        """Raises ``ValueError`` for what this version did not write."""
        if not isinstance(value, dict) or value.get("version") != 1:
            raise ValueError("it is of another version")
        found: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in value:
                found[f.name] = value[f.name]
        rows, ports, info = found.get("sessions", ()), found.get("ports"), found.get("info")
        try:
            found["sessions"] = tuple(SessionRow(**row) for row in rows)
            made = cls(**found)
        except TypeError as e:
            raise ValueError(f"something is missing or too much: {e}") from None
        texts = [getattr(made, f.name) for f in fields(cls) if f.type == "str"]
        texts += [getattr(row, f.name) for row in made.sessions for f in fields(SessionRow)]
        if not all(isinstance(t, str) for t in texts) or not made.kernel_id or not made.compute:
            raise ValueError("a text is none")
        if not isinstance(ports, dict) or not all(isinstance(p, int) for p in ports.values()):
            raise ValueError("the ports are none")
        if not all(isinstance(n, int) and n >= 0 for n in (made.runs, made.run)):
            raise ValueError("a number is none")
        if len(bytes.fromhex(made.tag)) != len(PIPE):
            raise ValueError("the tag is none")
        if info is not None and not isinstance(info, dict):
            raise ValueError("the kernel's info is none")
        return made


def read_kernel(folder: Path) -> KeptKernel:
    """Raises ``OSError`` or ``ValueError``."""
    with (folder / KERNEL).open("rb") as f:
        try:
            return KeptKernel.from_json(json.loads(f.read(MAX_KERNEL)))
        except RecursionError as e:
            raise ValueError(str(e)) from None


def kept_kernels() -> list[KeptKernel]:
    """All that can be read. What cannot is left as it is, with a line in the log. Blocks for a moment."""
    found, unread = _read_all()
    for folder, e in unread:
        log.warning("What is kept of a kernel in %s cannot be read: %s.", folder, e)
    return found


def kept_tags() -> tuple[set[str], bool]:
    """The tags of their relays, and whether these are all. Blocks for a moment."""
    found, unread = _read_all()
    return {kept.tag for kept in found}, not unread


def _read_all() -> tuple[list[KeptKernel], list[tuple[Path, Exception]]]:
    found: list[KeptKernel] = []
    unread: list[tuple[Path, Exception]] = []
    try:
        folders = sorted(p for p in kept_folder().iterdir() if p.is_dir())
    except FileNotFoundError:
        return found, unread
    except OSError as e:
        return found, [(kept_folder(), e)]
    for folder in folders:
        try:
            found.append(read_kernel(folder))
        except FileNotFoundError:
            pass  # another process is just making or removing it
        except (OSError, ValueError) as e:
            unread.append((folder, e))
    return found, unread


def write_kernel(folder: Path, kept: KeptKernel) -> None:
    """Raises ``OSError``; then what was there before is there still."""
    replace_file(folder / KERNEL, [json.dumps(kept.to_json(), indent=1).encode()])


def replace_file(path: Path, data: Iterable[bytes]) -> int:
    """Whole or not at all; its length. Raises ``OSError``."""
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    size = 0
    try:
        for piece in data:
            write_all(fd, piece)
            size += len(piece)
    except OSError:
        os.close(fd)
        new.unlink(missing_ok=True)
        raise
    os.close(fd)
    os.replace(new, path)
    return size


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def take(path: Path) -> int | None:
    """A file locked for this process (flock); None where there is none, where another process has it, or where that cannot be
    told. Raises ``OSError`` where it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:  # whoever had it has just ended it, or written it anew
        os.close(fd)
        return None
    return fd


# The folder and its lock


def take_folder(folder: Path, *, make: bool) -> int | None:
    """The descriptor that holds the folder for this process; None where another process has it, or there is none.

    Where the file system knows no locks, it counts as ours. Raises ``OSError``.
    """
    if make:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    elif not folder.is_dir():
        return None
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        pass
    if not (folder / LOCK).exists():  # whoever had it has just removed it all
        os.close(fd)
        return None
    return fd


def remove_folder(folder: Path) -> None:
    # The name goes first: who looks meanwhile finds a kernel or none.
    (folder / KERNEL).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
