"""A file of this side that is read, to be pushed or for its digest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from types import TracebackType

from ..errors import ChangedMeanwhile, SyncError
from .descent import told
from .entries import Entry
from .names import printable
from .scanning import entry_of

CHUNK = 256 * 1024
LOOKED_AT = 8192
"""Bytes at the beginning of a file in which a private key is looked for."""
_KEY = re.compile(
    rb"""(?:\A|[\r\n]|"private_key"\s*:\s*")[ \t]*(?:-----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY|PuTTY-User-Key-File-\d)""",
    re.VERBOSE,
)


class Reading:
    """A file that is read; a context manager. Its descriptor was opened without following links."""

    def __init__(self, path: str, fd: int) -> None:
        """``fd`` becomes this object's once the constructor has returned."""
        self.path = path
        self._fd = fd
        self._first = os.fstat(fd)
        self._entry: Entry | None = None

    @property
    def size(self) -> int:
        """When it was opened; ``chunks`` gives exactly as many bytes."""
        return self._first.st_size

    @property
    def now(self) -> Entry:
        """As it was when it was opened, without a digest: what to announce to the other side."""
        return entry_of(self.path, self._first)

    def holds_key(self) -> bool:
        """Whether it begins like a private key, or has one where a cloud's key files have it."""
        return _KEY.search(os.pread(self._fd, LOOKED_AT, 0)) is not None

    def chunks(self, size: int = CHUNK, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from ``offset`` on (those before are read too, for the digest). Raises ``ChangedMeanwhile`` at the end
        if the file changed while it was read: what was sent is to be thrown away."""
        digest = hashlib.sha256()
        at = 0
        while at < self.size:
            with told("read", self.path):
                data = os.pread(self._fd, min(size, self.size - at), at)
            if not data:
                break
            digest.update(data)
            if at + len(data) > offset:
                yield data[max(0, offset - at) :]
            at += len(data)
        after = os.fstat(self._fd)
        then = (self._first.st_size, self._first.st_mtime_ns)
        if at != self.size or (after.st_size, after.st_mtime_ns) != then:
            raise ChangedMeanwhile(
                f"“{printable(self.path)}” changed while it was read.", advice="The next sync takes it as it is then."
            )
        self._entry = entry_of(self.path, after, digest=digest.hexdigest())

    @property
    def entry(self) -> Entry:
        """After ``chunks``: what was read, with its digest."""
        if self._entry is None:
            raise SyncError(f"“{printable(self.path)}” was not read to its end.")
        return self._entry

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
