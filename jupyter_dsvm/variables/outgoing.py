"""The sending end of a stream: items, their pickles and the memory beside them, deflated where that pays."""

from __future__ import annotations

import time
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .stream import MAX_PAYLOAD, Kind, Writer

PICKLE_PIECE = 256 * 1024
"""Bytes of a pickle that are gathered to a frame."""
SMALL = 256 * 1024
"""Parts below this are never deflated."""
SAMPLE = 64 * 1024
DECIDED = 16
"""Frames for which one sample decides: deflating it takes a millisecond."""
AHEAD = 4
"""Frames that are deflated before they are sent."""
ZLIB = 400e6
"""Bytes per second that zlib does not reach, whatever it is given."""
MEASURED = 4 * 1024 * 1024
"""Bytes after which the rate of the way is believed."""


class NoRoom(Exception):
    """The file has reached its limit."""


class Outgoing:
    """``write`` takes all of what it is given (``socket.sendall``, a file's ``write``). A ``pickling.Sink``."""

    def __init__(self, write: Callable[[Any], Any], compress: Union[str, bool] = "auto") -> None:
        self.writer = Writer(self._timed(write))
        self.bytes = 0
        """Of values, uncompressed."""
        self._compress = compress
        self._tickets = 0
        self._pickle: List[bytes] = []
        self._gathered = 0
        self._item = 0
        self._rate = _Rate()
        self._pool: Optional[ThreadPoolExecutor] = None

    def _timed(self, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def timed(data: Any) -> None:
            started = time.perf_counter()
            write(data)
            self._rate.add(memoryview(data).nbytes, time.perf_counter() - started)

        return timed

    def begin(self, names: List[str], size: Optional[int]) -> None:
        self._item, self._pickle, self._gathered = 0, [], 0
        self.writer.json(Kind.ITEM, {"names": names, "bytes": size})

    def end(self) -> int:
        self._flush()
        self.writer.json(Kind.END, {"bytes": self._item})
        self.bytes += self._item
        return self._item

    def abandon(self, reason: str) -> None:
        """Also in the middle of a part."""
        self.forget()
        self.writer.json(Kind.ABANDON, {"reason": reason})

    def forget(self) -> None:
        """What has not been written of the item."""
        self._pickle, self._gathered = [], 0

    def write(self, data: Any) -> int:
        """For the pickler."""
        view = memoryview(data)
        size = view.nbytes
        self._item += size
        if size >= PICKLE_PIECE:
            self._flush()
            for start in range(0, size, MAX_PAYLOAD):
                self.writer.frame(Kind.PICKLE, view[start : start + MAX_PAYLOAD])
        else:
            self._pickle.append(bytes(view))
            self._gathered += size
            if self._gathered >= PICKLE_PIECE:
                self._flush()
        return size

    def _flush(self) -> None:
        if self._pickle:
            data, self._pickle, self._gathered = b"".join(self._pickle), [], 0
            self.writer.frame(Kind.PICKLE, data)

    def part(self, about: Dict[str, Any], size: int, memory: Iterator[Any]) -> int:
        self._flush()
        self._tickets += 1
        self.writer.json(Kind.PART, {**about, "ticket": self._tickets, "size": size})
        self._item += size
        frames = _pieces(memory)
        if size < SMALL or self._compress is False:
            for piece in frames:
                self.writer.frame(Kind.DATA, piece)
        else:
            self._deflated(frames)
        return self._tickets

    def _deflated(self, pieces: Iterable[memoryview]) -> None:
        """Deflate on a thread, a few frames ahead, while the way is slower than that; else send as it is."""
        waiting: Deque[Tuple[memoryview, Optional["Future[bytes]"]]] = deque()
        deflate = False
        for number, piece in enumerate(pieces):
            if number % DECIDED == 0:
                deflate = self._compress is True or self._rate.pays(piece)
            waiting.append((piece, self._started(piece) if deflate else None))
            if len(waiting) >= AHEAD:
                self._send(*waiting.popleft())
        while waiting:
            self._send(*waiting.popleft())

    def _started(self, piece: memoryview) -> "Future[bytes]":
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "jupyter-dsvm-deflate")
        return self._pool.submit(zlib.compress, piece, 1)

    def _send(self, piece: memoryview, deflating: Optional["Future[bytes]"]) -> None:
        if deflating is not None:
            deflated = deflating.result()
            if len(deflated) < piece.nbytes:
                self.writer.frame(Kind.DATA, deflated, piece.nbytes)
                return
        self.writer.frame(Kind.DATA, piece)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


class _Rate:
    """How fast the way takes bytes, how fast zlib deflates, and whether the one is worth the other."""

    def __init__(self) -> None:
        self._bytes, self._seconds = 0, 0.0

    def add(self, size: int, seconds: float) -> None:
        self._bytes += size
        self._seconds += seconds
        if self._bytes > 64 * MEASURED:  # what was long ago counts less
            self._bytes //= 2
            self._seconds /= 2

    def pays(self, piece: memoryview) -> bool:
        if self._bytes < MEASURED or self._seconds <= 0.0:
            return False
        way = self._bytes / self._seconds
        if way > ZLIB:
            return False
        middle = max(0, piece.nbytes // 2 - SAMPLE // 2)
        sample = piece[middle : middle + SAMPLE]
        started = time.perf_counter()
        deflated = len(zlib.compress(sample, 1))
        seconds = max(time.perf_counter() - started, 1e-9)
        # Bytes of the value per second, if it is deflated on one thread while the way is busy with what is deflated already.
        return min(sample.nbytes / seconds, way * sample.nbytes / max(deflated, 1)) > 1.2 * way


def _pieces(memory: Iterator[Any]) -> Iterator[memoryview]:
    for block in memory:
        view = memoryview(block).cast("B") if not isinstance(block, memoryview) or block.format != "B" else block
        for start in range(0, view.nbytes, MAX_PAYLOAD):
            yield view[start : start + MAX_PAYLOAD]
