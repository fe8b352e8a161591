"""A file that arrives on the VM: written beside its place, made durable, and renamed into it when it is whole.

So a cell that runs there sees the old file or the new one, never half of one, and neither does it after a power cut.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .fileframes import LARGE, Code, Op, moment, number, raw, wrong_path
from .filescan import Refused, file_row, why
from .filetree import Tree, part_name
from .wire import Buffer, Frame, WireError

READ = 128 * 1024

_UMASK = os.umask(0o077)
os.umask(_UMASK)


class Digests:
    """Of the beginnings of large files that PART has read, so that STORE need not read them again."""

    def __init__(self) -> None:
        self._known: Dict[str, Tuple[int, Any]] = {}

    def put(self, name: str, offset: int, digest: Any) -> None:
        self._known = {name: (offset, digest)}

    def take(self, name: str, offset: int) -> Any:
        known, digest = self._known.pop(name, (-1, None))
        if known != offset:
            raise Refused(Code.DAMAGED, "its beginning is not what was asked for")
        return digest


class Incoming:
    """From STORE to its answer."""

    def __init__(self, tree: Tree, seq: int, asked: Dict[str, Any], digests: Digests) -> None:
        self.seq = seq
        self.path = str(asked.get("path"))
        self._tree = tree
        wrong = wrong_path(asked.get("path"))
        if wrong:
            raise Refused(Code.OUTSIDE, wrong)
        self._asked = asked
        self.size = number(asked.get("size"))
        mtime_ns = moment(asked.get("mtime_ns"))
        offset = number(asked.get("offset", 0))
        self._large = self.size >= LARGE
        if self.size - offset > tree.room()[0]:
            raise Refused(Code.FULL, "there is not enough room on the disk")
        self.name = part_name(self.path, self.size, mtime_ns) if self._large else str(seq)
        self._digest = hashlib.sha256() if self._large else None
        if offset:
            self._digest = digests.take(self.name, offset)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self.name, flags, 0o600, dir_fd=tree.stage)
        self._written = offset
        try:
            os.ftruncate(self.fd, offset)
            os.lseek(self.fd, offset, os.SEEK_SET)
        except BaseException:
            self.drop(all=True)
            raise

    def write(self, data: Buffer) -> None:
        self._written += len(data)
        if self._written > self.size:
            raise WireError("more of a file came than it has")
        view = memoryview(data)
        while len(view):
            view = view[os.write(self.fd, view) :]
        if self._digest is not None:
            self._digest.update(data)

    def end(self, asked: Dict[str, Any]) -> None:
        """All of it is here; what follows is ``sync``, on any thread, and ``place``."""
        if asked.get("drop"):
            raise Refused(Code.DAMAGED, "it changed while it was sent")
        digest, mtime_ns = asked.get("digest"), moment(asked.get("mtime_ns"))
        if self._written != self.size:
            raise Refused(Code.DAMAGED, f"{self._written} of {self.size} bytes came")
        if self._digest is not None and digest != self._digest.hexdigest():
            raise Refused(Code.DAMAGED, "what came is not what was sent")
        before = self._tree.there(self.path)
        mode = 0o666 & ~_UMASK
        if before is not None and stat.S_ISREG(before.st_mode):
            mode = stat.S_IMODE(before.st_mode) & 0o666
        if asked.get("executable"):
            mode |= (mode & 0o444) >> 2
        os.fchmod(self.fd, mode)
        os.utime(self.fd, ns=(mtime_ns, mtime_ns))

    def sync(self) -> Optional[OSError]:
        """Onto the disk: a file that a power cut left empty would be taken for one that was changed."""
        try:
            os.fsync(self.fd)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                return e
        return None

    def place(self) -> List[Any]:
        """Its row afterwards. Raises ``Refused`` or ``OSError``; then nothing was changed."""
        tree, replaces = self._tree, self._asked.get("replaces")
        try:
            tree.check(self.path, replaces)
        except Refused:
            if not self._is_there():
                raise
        else:
            keep_as, trash = self._asked.get("keep_as"), bool(self._asked.get("trash"))
            if replaces is None:
                tree.put_new(self.name, self.path)
            else:
                tree.keep(self.path, keep_as, trash)
                tree.put(self.name, self.path)
        found = tree.there(self.path)
        if found is None:
            raise Refused(Code.CHANGED, "it was removed in this moment")
        return file_row(self.path, found)

    def _is_there(self) -> bool:
        """Whether it was put there already: by a try whose answer was lost with a connection."""
        try:
            fd, found = self._tree.open_file(self.path)
        except (OSError, Refused):
            return False
        with open(fd, "rb") as there:
            if found.st_size != self.size:
                return False
            os.lseek(self.fd, 0, os.SEEK_SET)
            while True:
                one = there.read(1 << 20)
                other = _exactly(self.fd, len(one))
                if one != other:
                    return False
                if not one:
                    return True

    def drop(self, all: bool = False) -> None:
        """What is staged goes, but for the beginning of a large file, unless ``all`` of it is to."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._large and not all and self._written:
            return
        try:
            os.unlink(self.name, dir_fd=self._tree.stage)
        except OSError:
            pass  # it was renamed into its place


def link(tree: Tree, seq: int, asked: Dict[str, Any]) -> List[Any]:
    """Put a symbolic link in its place; its row."""
    path, target, replaces = str(asked.get("path")), str(asked.get("target")), asked.get("replaces")
    if tree.row(path) == ["l", path, target]:
        return ["l", path, target]
    tree.check(path, replaces)
    name = f"{seq}.link"
    os.symlink(target, name, dir_fd=tree.stage)
    try:
        if replaces is None:
            tree.put_new(name, path)
        else:
            tree.keep(path, asked.get("keep_as"), bool(asked.get("trash")))
            tree.put(name, path)
    except BaseException:
        os.unlink(name, dir_fd=tree.stage)
        raise
    return ["l", path, target]


def part(tree: Tree, asked: Dict[str, Any], digests: Digests) -> Iterator[Optional[Dict[str, Any]]]:
    """How much of a large file is staged already, and the digest of that; read in small steps."""
    name = part_name(str(asked.get("path")), number(asked.get("size")), moment(asked.get("mtime_ns")))
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree.stage)
    except FileNotFoundError:
        yield {"offset": 0, "digest": ""}
        return
    digest, offset = hashlib.sha256(), 0
    with open(fd, "rb", buffering=0) as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                break
            digest.update(data)
            offset += len(data)
            yield None
    digests.put(name, offset, digest)
    yield {"offset": offset, "digest": digest.hexdigest()}


def digest_of(tree: Tree, path: object) -> Iterator[Optional[List[Any]]]:
    """A file's row with its digest at the end; read in small steps. ``Refused`` where it changed meanwhile."""
    fd, before = tree.open_file(path)
    digest = hashlib.sha256()
    with open(fd, "rb", buffering=0) as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                break
            digest.update(data)
            yield None
        unchanged(before, os.fstat(file.fileno()))
    yield [*file_row(str(path), before), digest.hexdigest()]


def contents(tree: Tree, seq: int, asked: Dict[str, Any]) -> Iterator[Optional[Frame]]:
    """The frames that answer FETCH, but for the first and the last."""
    path, offset = asked.get("path"), number(asked.get("offset", 0))
    fd, before = tree.open_file(path)
    with open(fd, "rb", buffering=0) as file:
        if offset:
            file.seek(offset)
        left = before.st_size - offset
        while left > 0:
            data = file.read(min(READ, left))
            if not data:
                break
            left -= len(data)
            yield raw(Op.BYTES, seq, data)
        unchanged(before, os.fstat(file.fileno()))


def unchanged(before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        raise Refused(Code.CHANGED, "it changed while it was read")


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            break
        data += piece
    return data if size else os.read(fd, 1)


__all__ = ["Digests", "Incoming", "contents", "digest_of", "link", "part", "why"]
