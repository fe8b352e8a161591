"""The part of a journal that lies on disk: frames in order, in files that have no name.

A file is unlinked as soon as it is made. So nobody else opens it, nothing is left behind by a process that is killed, and what
is in it stays readable when somebody clears the folder away. (``lsof +L1`` shows such files, ``du`` does not.)

Frames come in blocks, as many as were moved out of memory at once, and are read in blocks. A file is given back when all
its frames are trimmed. In memory stay nine bytes for each frame, its type and its place.
"""

from __future__ import annotations

import errno
import os
import uuid
from array import array
from typing import List, NamedTuple, Optional, Sequence, Tuple

from .wire import Buffer

FILE = 16 * 1024 * 1024
"""Bytes of a file, or a thirty-second of all there is, so that a large journal does not take all descriptors."""

FLOOR = 512 * 1024 * 1024
FLOOR_SHARE = 0.02
"""So many bytes, or this share of a small disk, are left free for everybody else."""


class Entry(NamedTuple):
    type: int
    body: Buffer
    end: int
    """Bytes of all bodies up to and with this one, counted from the first frame."""


class _File:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0
        self.blocks = 0


class _Block:
    def __init__(self, file: _File, first: int, entries: Sequence[Entry]) -> None:
        self.file = file
        self.first = first
        self.last = first + len(entries) - 1
        self.types = bytes(e.type for e in entries)
        self.ends = array("Q", (e.end for e in entries))
        self.start = entries[0].end - len(entries[0].body)
        self.offset = file.size
        self.size = entries[-1].end - self.start


class Segments:
    def __init__(self, folder: str, floor: int = FLOOR) -> None:
        """``folder`` is private; ``floor``: bytes of the disk to leave free, less on a small one. Does nothing until ``add``."""
        self._folder = folder
        self._floor = floor
        self._files: List[_File] = []
        self._blocks: List[_Block] = []
        self._read: Optional[Tuple[_Block, memoryview]] = None
        self.size = 0
        """Bytes on disk, less what is trimmed and not given back yet."""
        self.last = 0
        """The highest number that lies here; 0 where nothing does."""

    def add(self, first: int, entries: Sequence[Entry]) -> None:
        """Keep these, the first of which has the number ``first``, one more than the last here. ``OSError``: none was kept."""
        data = b"".join(e.body for e in entries)
        file = self._file_for(len(data))
        try:
            self._write(file, data)
        except OSError:
            os.ftruncate(file.fd, file.size)
            raise
        block = _Block(file, first, entries)
        file.size += block.size
        file.blocks += 1
        self._blocks.append(block)
        self.size += block.size
        self.last = block.last

    def get(self, seq: int) -> Optional[Entry]:
        """The frame with that number; None where it is not here. ``OSError`` where the disk does not give it back."""
        block = self._block_of(seq)
        if block is None:
            return None
        if self._read is None or self._read[0] is not block:
            self._read = (block, memoryview(_read(block)))
        at = seq - block.first
        begin = (block.ends[at - 1] if at else block.start) - block.start
        return Entry(block.types[at], self._read[1][begin : block.ends[at] - block.start], block.ends[at])

    def trim(self, upto: int) -> int:
        """Forget everything up to ``upto``, which is here; the byte count at its end."""
        block = self._block_of(upto)
        assert block is not None
        end = block.ends[upto - block.first]
        done = 0
        while done < len(self._blocks) and self._blocks[done].last <= upto:
            self._give_back(self._blocks[done])
            done += 1
        del self._blocks[:done]
        if not self._blocks:
            self.last = 0
        return end

    def close(self) -> None:
        """Give everything back."""
        for file in self._files:
            os.close(file.fd)
        self._files.clear()
        self._blocks.clear()
        self._read = None
        self.size = self.last = 0

    def _block_of(self, seq: int) -> Optional[_Block]:
        if not self._blocks or not self._blocks[0].first <= seq <= self.last:
            return None
        if self._read is not None and self._read[0].first <= seq <= self._read[0].last:
            return self._read[0]
        low, high = 0, len(self._blocks)  # bisect knows keys only since Python 3.10
        while high - low > 1:
            middle = (low + high) // 2
            if self._blocks[middle].first <= seq:
                low = middle
            else:
                high = middle
        return self._blocks[low]

    def _give_back(self, block: _Block) -> None:
        self.size -= block.size
        block.file.blocks -= 1
        if self._read is not None and self._read[0] is block:
            self._read = None
        if block.file.blocks == 0:
            os.close(block.file.fd)
            self._files.remove(block.file)

    def _file_for(self, size: int) -> _File:
        """The newest file, or another where that is long enough. ``OSError`` where the disk should not take so many bytes."""
        file = self._files[-1] if self._files else None
        fresh = file is None or file.size >= max(FILE, self.size // 32)
        if fresh:
            path = os.path.join(self._folder, f"journal-{uuid.uuid4().hex}")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.unlink(path)
            file = _File(fd)
        assert file is not None
        try:
            disk = os.fstatvfs(file.fd)
            floor = min(self._floor, int(disk.f_blocks * disk.f_frsize * FLOOR_SHARE))
            if disk.f_bavail * disk.f_frsize - size < floor:
                raise OSError(errno.ENOSPC, f"less than {floor >> 20} MiB would be free")
        except OSError:
            if fresh:
                os.close(file.fd)
            raise
        if fresh:
            self._files.append(file)
        return file

    def _write(self, file: _File, data: bytes) -> None:
        view, position = memoryview(data), 0
        while position < len(data):
            position += os.pwrite(file.fd, view[position:], file.size + position)


def _read(block: _Block) -> bytes:
    data = os.pread(block.file.fd, block.size, block.offset)
    while len(data) < block.size:
        piece = os.pread(block.file.fd, block.size - len(data), block.offset + len(data))
        if not piece:
            raise OSError(errno.EIO, "what was kept on disk is not there any more")
        data += piece
    return data
