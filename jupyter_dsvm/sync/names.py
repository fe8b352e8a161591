"""Which names a side can have, and the names of conflict copies. Pure."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
WINDOWS_ILLEGAL = re.compile(r'[<>:"|?*\\\x00-\x1f]')
ORIGIN_CHARACTERS = 40
"""Of the part of a conflict copy's name that says where it is from."""
EXTENSION_BYTES = 32
"""What is longer behind a dot is no extension."""


@dataclass(frozen=True)
class Names:
    """What a side's file system makes of names."""

    folds_case: bool = False
    """``Data`` and ``data`` are one name (macOS, Windows)."""
    windows: bool = False
    max_name: int = 255
    """Bytes of one part."""
    max_path: int = 3000
    """Bytes of the whole, relative to the workspace; systems take 4096 with the folders above it."""

    def key(self, path: str) -> str:
        """Two paths with one key are one thing on this side."""
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()) if self.folds_case else path


POSIX = Names()


def problem(path: str, names: Names) -> str:
    """Why a side cannot have this path, as the end of a sentence, or ""."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if "\0" in path:
        return "its name has a NUL character"
    parts = path.split("/")
    if not all(parts) or "." in parts or ".." in parts:
        return "its name is not a path inside the workspace"
    if size > names.max_path:
        return f"its path has {size} bytes, and {names.max_path} is the most"
    for part in parts:
        if len(part.encode()) > names.max_name:
            return f"its name has {len(part.encode())} bytes, and {names.max_name} is the most"
        if names.windows and (WINDOWS_ILLEGAL.search(part) or part[-1] in ". " or WINDOWS_DEVICES.fullmatch(part)):
            return f"Windows can have no “{printable(part)}”"
    return ""


def folders_of(path: str) -> list[str]:
    """The folders above ``path``, the topmost first, without the workspace itself."""
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def link_problem(path: str, target: str) -> str:
    """Why a link at ``path`` may not travel, by the text of its target alone, or "". What is on disk on its way is for the side
    that makes it to look at."""
    if problem(path, POSIX):
        return problem(path, POSIX)
    try:
        too_long = len(target.encode()) > POSIX.max_path
    except UnicodeEncodeError:
        return "it is a link whose target is not UTF-8"
    if not target or "\0" in target or too_long:
        return "it is a link without a usable target"
    # A backslash separates on Windows, and a drive or share there leads anywhere.
    if target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", target):
        return "it is a link with an absolute target"
    depth = path.count("/")
    for part in re.split(r"[/\\]", target):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return "it is a link that leads out of the workspace"
    return ""


def printable(path: str) -> str:
    """With bytes that are no UTF-8, and control characters, as ``\\xNN``."""
    return "".join(
        f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else c
        if c.isprintable()
        else c.encode("unicode_escape").decode()
        for c in path
    )


def conflict_name(
    path: str, origin: str, now: datetime, taken: Callable[[str], bool], names: tuple[Names, ...] = (POSIX,)
) -> str:
    """``data.csv`` → ``data (gpu-vm 2026-11-28 05.10).csv``, with `` 2`` and so on behind the time where that is taken.

    There is no colon in the time: Windows has no such names, and JupyterLab reads what is before one as a drive. ``origin``
    is the VM's name or any other text; ``taken`` says whether a path is in use on either side.
    """
    folder, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    if stem.lower().endswith(".tar"):
        stem, extension = stem[:-4], stem[-4:] + extension
    if len(extension.encode()) > EXTENSION_BYTES:
        stem, extension = name, ""
    where = re.sub(r'[<>:"|?*\\/()]|[^\x20-\U0010ffff]', "-", printable(origin)).strip()[:ORIGIN_CHARACTERS] or "other"
    room = min(min(n.max_name, n.max_path - len(folder.encode()) - 1) for n in names)
    for number in range(1, 1_000_000):
        tail = f" ({where} {now:%Y-%m-%d %H.%M}{f' {number}' if number > 1 else ''}){extension}"
        # At least one byte of the name, even where that makes the path longer than a side takes: it is then listed.
        cut = stem.encode()[: max(1, room - len(tail.encode()))].decode(errors="ignore").rstrip() or "_"
        found = posixpath.join(folder, cut + tail)
        if not taken(found):
            return found
    raise AssertionError("a million copies of one file in one minute")
