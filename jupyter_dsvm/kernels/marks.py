"""Up to which of a kernel's messages everybody has everything, and each page by itself: small numbers in a small file.

One write of some bytes for each, from whatever thread has the news: a mark is in the page cache before anything that follows
from it goes out, and so survives a kill -9. (Not mapped into memory: on a full disk a write to a map ends the process.)
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from pathlib import Path

log = logging.getLogger("jupyter_dsvm.keeping")

_PLACE = 128
"""Bytes. Place 0 is everybody's."""
_HEAD = struct.Struct("<QB")
_LONGEST = _PLACE - _HEAD.size
_PLACES = 64
_SIZE = _PLACE * (_PLACES + 1)


class Marks:
    def __init__(self, path: Path) -> None:
        """New, or as they are. All of their room is taken now, since later there may be none. Raises ``OSError``."""
        self._lock = threading.Lock()
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            data = os.pread(self._fd, _SIZE, 0)
            if len(data) < _SIZE:
                os.pwrite(self._fd, bytes(_SIZE - len(data)), len(data))
            self.handed_on, self.clients, self._places = _read_marks(data)
        except OSError:
            self.close()
            raise

    def handed(self, number: int) -> None:
        self.handed_on = number
        self._write(0, number, b"")

    def flushed(self, session_id: str, number: int) -> None:
        name = session_id.encode("utf-8", "surrogatepass")
        if not 0 < len(name) <= _LONGEST:
            return
        with self._lock:
            place = self._places.get(session_id)
            if place is None:
                place = self._free_place()
                self._places[session_id] = place
            self.clients[session_id] = number
            self._write(place, number, name)

    def forgotten(self, session_id: str) -> None:
        """Nobody waits for that client any more."""
        with self._lock:
            place = self._places.pop(session_id, None)
            if place is not None:
                del self.clients[session_id]
                self._write(place, 0, b"")

    def _free_place(self) -> int:
        if len(self._places) < _PLACES:
            return min(set(range(1, _PLACES + 1)) - set(self._places.values()))
        furthest_behind = min(self.clients, key=lambda s: self.clients[s])
        del self.clients[furthest_behind]
        return self._places.pop(furthest_behind)

    def _write(self, place: int, number: int, name: bytes) -> None:
        if self._fd is not None:
            try:
                os.pwrite(self._fd, _HEAD.pack(number, len(name)) + name, place * _PLACE)
            except OSError as e:
                log.debug("a mark could not be written: %s", e)  # its room is there since the beginning

    def clear(self) -> None:
        """Another kernel's messages are counted from now on."""
        with self._lock:
            self.handed_on, self.clients, self._places = 0, {}, {}
            if self._fd is not None:
                try:
                    os.pwrite(self._fd, bytes(_SIZE), 0)
                except OSError as e:
                    log.debug("the marks could not be cleared: %s", e)

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _read_marks(data: bytes) -> tuple[int, dict[str, int], dict[str, int]]:
    """Everybody's, each client's, and each client's place."""
    clients, places = {}, {}
    handed = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else 0
    for place in range(1, len(data) // _PLACE):
        number, length = _HEAD.unpack_from(data, place * _PLACE)
        start = place * _PLACE + _HEAD.size
        if 0 < length <= _LONGEST:
            try:
                name = data[start : start + length].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                continue
            clients[name], places[name] = number, place
    return handed, clients, places
