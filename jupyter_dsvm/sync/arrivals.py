"""What comes from a VM about a workspace's files, checked before anything else is done with it. Pure.

The VM is not trusted: whatever a sync does on this side is done with what has passed here. ``ProtocolError`` where a frame
could not have come from our own relay; the connection is then given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ProtocolError, printable
from ..relay.fileframes import Code, moment, number, read, wrong_path, wrong_target
from ..relay.wire import Buffer, WireError
from .entries import Entry, Kind, Scan

MAX_ROWS = 500_000
"""Files, folders and links of one workspace. What is listed takes about half a kilobyte each here."""

MAX_UNKNOWN = 10_000
MAX_MARK = 64
MAX_TEXT = 300

REASONS: Mapping[str, str] = {
    Code.CHANGED: "it changed meanwhile",
    Code.MISSING: "it is not there any more",
    Code.UNREADABLE: "it cannot be read",
    Code.FULL: "the disk is full",
    Code.NAME: "the file system there takes no such name",
    Code.KIND: "it is no file, folder or link",
    Code.OUTSIDE: "it leads out of the folder",
    Code.NOT_EMPTY: "something is left in it",
    Code.CANCELLED: "it was cancelled",
    Code.DAMAGED: "it did not arrive whole",
}


class Failure(NamedTuple):
    """Why one path failed over there."""

    code: str
    text: str
    """For the end of a sentence."""


def body(data: Buffer) -> dict[str, Any]:
    try:
        return read(data)
    except WireError as e:
        raise nonsense(str(e)) from None


def nonsense(what: str) -> ProtocolError:
    return ProtocolError(
        f"The machine sent what is no message about files: {what}.",
        advice="Something there writes into the connection, or it is not what it seems to be. Nothing of it was written here.",
    )


def failure(data: Buffer) -> Failure:
    value = body(data)
    code, text = value.get("code"), value.get("text")
    if not isinstance(code, str) or not isinstance(text, str):
        raise nonsense("a failure without a reason")
    return Failure(code if code in REASONS or code == Code.SUPERSEDED else Code.OTHER, printable(text, MAX_TEXT))


def sentence(path: str, name: str, failed: Failure) -> str:
    """Why an action on the machine called ``name`` was not done."""
    return f"{path} on {name}: {REASONS.get(failed.code) or failed.text}."


def entry(row: object) -> Entry:
    """A row of the VM's."""
    if not isinstance(row, list) or len(row) < 2 or not isinstance(row[1], str):
        raise nonsense("a row that is none")
    kind, path = row[0], row[1]
    wrong = wrong_path(path)
    if wrong:
        raise nonsense(f"a path of which {wrong}: {printable(path, 100)!r}")
    if kind == "d":
        return Entry(path, Kind.FOLDER)
    if kind == "l":
        target = row[2] if len(row) > 2 else None
        wrong = wrong_target(path, target)
        if wrong:
            raise nonsense(f"a link of which {wrong}: {printable(path, 100)!r}")
        return Entry(path, Kind.LINK, digest=str(target))
    if kind != "f" or not 6 <= len(row) <= 7:
        raise nonsense("a row of an unknown kind")
    try:
        size, mtime_ns = number(row[2]), moment(row[3])
    except WireError as e:
        raise nonsense(str(e)) from None
    mark, digest = row[5], row[6] if len(row) == 7 else ""
    if not isinstance(mark, str) or len(mark) > MAX_MARK or not mark.isascii() or not mark.isprintable():
        raise nonsense("a mark that is none")
    if digest != "" and not is_digest(digest):
        raise nonsense("a digest that is none")
    return Entry(path, Kind.FILE, size, mtime_ns, digest, bool(row[4]), mark)


def is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


class Listing:
    """The rows of one scan, as they come."""

    def __init__(self, known: Mapping[str, Entry], most: int = MAX_ROWS) -> None:
        """``known``: what that side said last (``base.known``): where size, time and mark agree the digest is that."""
        self._known = known
        self._most = most
        self._rows = 0
        self.tree: dict[str, Entry] = {}
        self._unknown: dict[str, str] = {}
        self._unnamed: list[str] = []

    def add(self, data: Buffer) -> None:
        value = body(data)
        rows, unknown, unnamed = (value.get(name) for name in ("rows", "unknown", "unnamed"))
        if not isinstance(rows, list) or not isinstance(unknown, list) or not isinstance(unnamed, list):
            raise nonsense("rows that are none")
        self._rows += len(rows)
        if self._rows > self._most:
            raise ProtocolError(
                f"The folder on the machine holds more than {self._most} files.",
                advice="List what need not travel in .dsvmignore, or choose a smaller folder.",
                code="TooManyFiles",
            )
        for row in rows:
            one = entry(row)
            self.tree[one.path] = self._with_digest(one)
        if len(self._unknown) + len(unknown) > MAX_UNKNOWN or len(self._unnamed) + len(unnamed) > MAX_UNKNOWN:
            raise nonsense("too much that it cannot name")
        for pair in unknown:
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise nonsense("a row that is none")
            path, code = pair
            if path and wrong_path(path):
                self._unnamed.append(printable(path, MAX_TEXT))
            else:
                self._unknown[path] = REASONS.get(code, "it cannot be read")
        self._unnamed += [printable(str(text), MAX_TEXT) for text in unnamed]

    def _with_digest(self, one: Entry) -> Entry:
        was = self._known.get(one.path)
        if was is None or one.kind is not Kind.FILE or not was.digest or one.digest:
            return one
        if (was.kind, was.size, was.mtime_ns, was.mark) != (
            one.kind,
            one.size,
            one.mtime_ns,
            one.mark,
        ) or one.mark == "?":
            return one
        return Entry(one.path, one.kind, one.size, one.mtime_ns, was.digest, one.executable, one.mark)

    def scan(self) -> Scan:
        """Once all has come. What lies under something that is no folder makes no sense."""
        for path in self.tree:
            above = path.rpartition("/")[0]
            if above and (above not in self.tree or self.tree[above].kind is not Kind.FOLDER):
                raise nonsense(f"a path without a folder: {printable(path, 100)!r}")
        return Scan(self.tree, self._unknown, tuple(self._unnamed))
