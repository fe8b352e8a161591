"""The stream in a file: variables that wait on a VM's disk until the notebook comes back to it."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, List, Optional, Sequence

from .names import Namespace
from .outgoing import NoRoom, Outgoing
from .pickling import There
from .receiving import Receiving
from .sending import Result, Sending


class _ToFile(Outgoing):
    """What is given up is cut off again. ``NoRoom`` where it would be longer than ``limit`` bytes."""

    def __init__(self, file: BinaryIO, limit: Optional[int]) -> None:
        super().__init__(self._into, compress=False)
        self._file = file
        self._limit = limit
        self._start = (0, 0)

    def _into(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        if self._limit is not None and self._file.tell() + len(view) > self._limit:
            raise NoRoom("There was no room for it")
        while view:
            view = view[self._file.write(view) or 0 :]

    def begin(self, names: List[str], size: Optional[int]) -> None:
        self._start = self.writer.position()
        super().begin(names, size)

    def abandon(self, reason: str) -> None:
        self.forget()
        self.writer.rewind(self._start)
        self._file.seek(self._start[1])
        self._file.truncate()


def save(namespace: Namespace, path: str, names: Optional[Sequence[str]], limit: Optional[int]) -> Result:
    """Whole or not at all: written beside ``path``, and renamed. ``OSError`` where the disk does not take it.

    What does not fit into ``limit`` bytes stays behind, the largest first.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    aside = f"{path}.{os.getpid()}.part"
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(aside, flags, 0o600)
    try:
        with open(descriptor, "r+b", buffering=0) as file:
            out = _ToFile(file, limit)
            sending = Sending(namespace, There(), out)
            sending.send(names, limit)
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    _sync_folder(os.path.dirname(path))
    return sending.result


def _sync_folder(path: str) -> None:
    """So that the new name is on the disk too, when the machine stops."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # a file system that cannot
    finally:
        os.close(descriptor)


def load(namespace: Namespace, path: str, names: Optional[Sequence[str]]) -> Result:
    """``OSError`` where there is no such file; ``StreamError`` where it is damaged: what was loaded by then stays."""
    with open(path, "rb", buffering=0) as file:
        receiving = Receiving(namespace, file.readinto, names=names)
        receiving.receive()
    return receiving.result
