"""What a server and a VM say to each other about a workspace's files. Pure; both ends use it.

One process on the VM (``files``) serves one workspace over one SSH channel. Frames are those of ``wire``, with the number
of a request in ``seq`` (from 1, never used twice on a connection), and nothing in the place of the kernel. The server asks, and
does not wait for one answer before it asks the next:

    OPEN     {root, version, make}                              DONE {free, total, exists, fresh, folds_case, parts, version}
    SCAN     {pruned: [name, …]}                                ROWS …, DONE {}
    DIGEST   {paths}                                            ROWS …, DONE {}
    FETCH    {path, expect, offset}                             BYTES …, DONE {row}
    PART     {path, size, mtime_ns}                             DONE {offset, digest}    what is staged of a large file
    STORE    {path, size, mtime_ns, replaces, keep_as, trash, offset}, then BYTES …,
             END {digest, mtime_ns, executable} or END {drop}   DONE {row}
    LINK     {path, target, replaces, keep_as, trash}           DONE {row}
    DELETE   {path, expect}    MOVE {path, expect, to}          DONE {}
    MKDIR    {path}            RMDIR {path}                     DONE {row}, DONE {gone}
    CANCEL   no body: what waits to be read there is answered FAILED {code: cancelled}

Every request is answered once, by DONE or by FAILED ``{code, text}``; a failure concerns its path alone. A row is what is there::

    ["f", path, size, mtime_ns, executable, mark, digest]    ["d", path]    ["l", path, target]

``expect`` and ``replaces`` are such a row, or null for nothing: where something else is there now the answer is ``changed`` and
nothing was touched. ROWS carries ``{rows, unknown: [[path, code], …], unnamed: [text, …]}``. PING and PONG are those of
``inflight``, in both directions, so that a transfer never fills the way that kernels share.
"""

from __future__ import annotations

import enum
from typing import Any, Dict, Optional

from .wire import PIPE, Buffer, Frame, WireError, json_body, read_json

VERSION = 1

CHUNK = 128 * 1024
"""Bytes of a file in one frame."""

LARGE = 8 * 1024 * 1024
"""Bytes from which a file is kept when it is cut off half-way, and has a digest at its end."""

ROWS_AT_ONCE = 256

MAX_WAITING = 1024
"""Requests that may wait over there. The server keeps below half of it."""

MAX_PATH = 4000
"""Bytes; Linux allows 4096 with what stands before it."""

MAX_NAME = 255

MAX_SIZE = 1 << 50

MAX_ROOT = 100

STAGING = ".dsvm-sync"
TRASH = ".dsvm-trash"
"""As ``sync.entries`` has them; neither is ever a part of what travels."""

SILENT = 900.0
"""Seconds without a word from the server after which the process on the VM ends."""


class Op(enum.IntEnum):
    """Types of frames; the numbers are none of ``wire.Type``."""

    OPEN = 64
    SCAN = 65
    DIGEST = 66
    FETCH = 67
    PART = 68
    STORE = 69
    END = 70
    DELETE = 71
    MKDIR = 72
    RMDIR = 73
    LINK = 74
    CANCEL = 75
    MOVE = 76
    ROWS = 80
    BYTES = 82
    DONE = 83
    FAILED = 84


class Code:
    """Why a path failed: the ``code`` of FAILED."""

    CHANGED = "changed"
    """It is not what the server believed."""
    MISSING = "missing"
    UNREADABLE = "unreadable"
    FULL = "full"
    NAME = "name"
    """The file system there has no such name: too long, or with characters that it does not take."""
    KIND = "kind"
    """Something of another kind has that name, or stands in the way."""
    OUTSIDE = "outside"
    """It would lead out of the workspace."""
    NOT_EMPTY = "not_empty"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """Another connection works on this workspace now."""
    DAMAGED = "damaged"
    OTHER = "other"


def frame(op: int, seq: int, value: Optional[Dict[str, Any]] = None) -> Frame:
    return Frame(op, PIPE, seq, json_body(value) if value is not None else b"")


def raw(op: int, seq: int, body: Buffer) -> Frame:
    return Frame(op, PIPE, seq, body)


def failed(seq: int, code: str, text: str) -> Frame:
    return frame(Op.FAILED, seq, {"code": code, "text": text[:500]})


def read(body: Buffer) -> Dict[str, Any]:
    return read_json(body)


def wrong_path(path: object) -> str:
    """What is wrong with a path that the other end sent; "" for a path within a workspace.

    Both ends ask this about every path that arrives, before anything else is done with it.
    """
    if not isinstance(path, str) or not path:
        return "it is no path"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if len(encoded) > MAX_PATH:
        return "it is too long"
    if "\0" in path:
        return "it has a NUL in it"
    parts = path.split("/")
    if parts[0] in (STAGING, TRASH):
        return "it is where a sync keeps what is its own"
    for part in parts:
        if part in ("", ".", ".."):
            return "it is not plainly inside the workspace"
        if len(part) > MAX_NAME or len(part.encode("utf-8")) > MAX_NAME:
            return "a name in it is too long"
    return ""


def wrong_target(path: str, target: object) -> str:
    """What is wrong with a link at ``path``; "" where its target stays inside the workspace whatever other links do.

    ``..`` is taken at the beginning only: after a name that is a link itself it would be another folder's parent.
    """
    if not isinstance(target, str) or not target or "\0" in target or len(target) > MAX_PATH:
        return "it is no target"
    try:
        target.encode("utf-8")
    except UnicodeEncodeError:
        return "its target is not UTF-8"
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or up > path.count("/") or ".." in parts[up:]:
        return "it leads out of the workspace"
    return ""


def wrong_root(name: object) -> str:
    """What is wrong with a workspace's name; "" for one that can be a folder's below ``~/notebooks``."""
    if not isinstance(name, str) or not name or name.startswith(".") or "/" in name or not name.isprintable():
        return "it is no plain name of a folder"
    try:
        if len(name.encode("utf-8")) > MAX_ROOT:
            return "it is too long"
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return ""


def number(value: object, most: int = MAX_SIZE) -> int:
    """A count or a size that the other end sent. ``WireError`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise WireError("a number is out of bounds")
    return value


def moment(value: object) -> int:
    """A time in nanoseconds that the other end sent; files may be from before 1970."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise WireError("a time is out of bounds")
    return value
