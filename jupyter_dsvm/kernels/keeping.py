"""What one proxy writes down while its kernel is on a VM, so that the next server process can go on where this one was.

    phase   becomes
    IDLE    OPEN (keep: the kernel is on a VM now), CLOSED (release, end)
    OPEN    IDLE (end: it is back, has ended, is gone), CLOSED (release: this process leaves it running)

Belongs to the I/O thread, but for ``flushed``. Nothing here raises for what the disk does: where something cannot be
written there is one warning, the kernel goes on, and it is tried again later. ``keptfiles`` has the formats.
"""

from __future__ import annotations

import enum
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

from ..models import utc_now
from ..relay.wire import Channel
from .actions import KeptRequest, Key
from .keptfiles import (
    MARKS,
    MAX_LOG,
    REQUESTS,
    KeptKernel,
    folder_of,
    read_kernel,
    remove_folder,
    replace_file,
    take_folder,
    write_all,
    write_kernel,
)
from .ledger import ledger
from .marks import Marks
from .owed import OwedEnd
from .requestlog import Event, RequestLog, line

log = logging.getLogger("jupyter_dsvm.keeping")

GROWN = 1024 * 1024
"""Bytes of requests.jsonl below which it is not written anew."""

RETRY_SECONDS = 5.0
"""After a write that failed."""


class Phase(enum.Enum):
    IDLE = "idle"
    OPEN = "open"
    CLOSED = "closed"


class Keeping:
    def __init__(self, kernel_id: str) -> None:
        """For a kernel that was started by this process. Touches no file until ``keep``."""
        self.kept: KeptKernel | None = None
        self.number = 0
        """Of the kernel's message that is being dealt with, or was last; the proxy sets it."""
        self._folder = folder_of(kernel_id)
        self._phase = Phase.IDLE
        self._log = RequestLog()
        self._marks: Marks | None = None
        self._lock: int | None = None
        self._file: int | None = None
        self._size = self._grown = 0
        self._retry_at = 0.0
        self._warned = False
        self._ended_at: int | None = None

    @classmethod
    def claim(cls, kernel_id: str) -> Keeping | None:
        """What an earlier process left of this kernel, taken over; None where nothing is kept, or another living process has
        it. Called on a worker thread before the proxy is made. Raises ``OSError`` or ``ValueError`` for a broken folder."""
        self = cls(kernel_id)
        self._lock = take_folder(self._folder, make=False)
        if self._lock is None:
            return None
        try:
            self.kept = read_kernel(self._folder)
            if self.kept.kernel_id != kernel_id:
                raise ValueError("it is of another kernel")
            self._log = RequestLog.read(_read(self._folder / REQUESTS))
            self._open_marks()
            self._phase = Phase.OPEN
            self.number = self.handed_on or 0
            self._log.forget(self.handed_on)
            self._rewrite()  # the last line may be torn
        except BaseException:
            self.release()
            raise
        return self

    # What an adopter asks

    @property
    def handed_on(self) -> int | None:
        """Up to which of the kernel's messages every client has everything; None: unknown."""
        return self._marks.handed_on if self._marks is not None and self._marks.handed_on else None

    @property
    def clients(self) -> dict[str, int]:
        """The pages that were there, with the last message of each. Who is further behind was given up on."""
        handed = self.handed_on or 0
        found = self._marks.clients if self._marks is not None else {}
        return {session: number for session, number in found.items() if number >= handed}

    def requests(self) -> list[KeptRequest]:
        handed = self.handed_on
        return [r.request(handed) for r in self._log.requests.values() if not r.done(handed)]

    @property
    def finished(self) -> list[str]:
        return list(self._log.finished)

    def is_repeated(self, call_id: int) -> bool:
        """Whether that line of ``%dsvm`` came to the earlier process, which may have done some of it."""
        return call_id <= self._log.last_call

    def not_received(self, upto: int) -> list[Key]:
        """What was sent under higher numbers than the relay has got."""
        return [key for key, r in self._log.requests.items() if r.sent is not None and r.sent > upto]

    # Where the kernel is

    @property
    def open(self) -> bool:
        return self._phase is Phase.OPEN

    def keep(self, kept: KeptKernel) -> None:
        """The kernel is on a VM, and this is what adopts it. Called whenever something of that may have changed."""
        if self._phase is Phase.CLOSED:
            return
        before = self.kept
        other = before is not None and before.epoch != kept.epoch
        if self._phase is Phase.IDLE or before is None or other:
            self._begin()
        self._ended_at = None
        if before is not None and replace(kept, when=before.when) == before and self._lock is not None:
            return
        with ledger.owed_meanwhile(OwedEnd.of(before) if before is not None and other else None):
            self._write(kept, before)
        # Only now, and also where it could not be written: a notebook's kernel is never one to be ended.
        ledger.forget(kept.tag)

    def _write(self, kept: KeptKernel, before: KeptKernel | None) -> None:
        self.kept = replace(kept, when=utc_now())
        if self._lock is None:
            return
        try:
            write_kernel(self._folder, self.kept)
        except OSError as e:
            self.kept = before  # so that it is tried again
            self._failed(e)

    def _begin(self) -> None:
        """Another kernel, with its own count of messages."""
        self._phase = Phase.OPEN
        self.number = 0
        self._log.elsewhere()
        try:
            if self._lock is None:
                self._lock = take_folder(self._folder, make=True)
            if self._lock is None:
                raise OSError(f"another process has {self._folder}")
            self._open_marks()
            if self._marks is not None:
                self._marks.clear()
            self._rewrite()
        except OSError as e:
            self._failed(e)

    def ended(self) -> None:
        """The kernel's process has ended. Once everybody has heard all of it there is nothing to adopt, unless it is started
        again (``keep``)."""
        if self._phase is Phase.OPEN:
            self._ended_at = self.number
            self._drop_if_heard()

    def _drop_if_heard(self) -> None:
        if self._ended_at is not None and (self.handed_on or 0) >= self._ended_at:
            self.end()

    def end(self, gone: bool = False) -> None:
        """The notebook does not go on with it: nothing is left of it here but that its end is owed, unless it is ``gone``."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.IDLE
            with ledger.owed_meanwhile(OwedEnd.of(self.kept) if self.kept is not None and not gone else None):
                if self._lock is not None:
                    remove_folder(self._folder)
            self._close_files()
            self._log.elsewhere()
        self.kept = self._ended_at = None

    def release(self) -> None:
        """This process leaves it: as it is for an adopter where the kernel runs on, otherwise after ``end``."""
        self._phase = Phase.CLOSED
        self._close_files()

    def _close_files(self) -> None:
        marks, self._marks = self._marks, None
        if marks is not None:
            marks.close()
        for fd in (self._file, self._lock):
            if fd is not None:
                os.close(fd)
        self._file = self._lock = None

    # What happens to requests

    def arrived(self, key: Key, parts: list[bytes]) -> None:
        self._append(self._log.arrived(key, parts))

    def sent(self, key: Key, channel: Channel, number: int, parts: list[bytes]) -> None:
        """Before anything of it can have left this process."""
        self._append(self._log.sent(key, channel, number, parts))

    def heard(self, key: Key, what: str) -> None:
        self._append(self._log.heard(key, what, self.number))

    def answered(self, key: Key, here: bool) -> None:
        self._append(self._log.answered(key, here, self.number))
        self._log.forget(self.handed_on or 0 if self.open else None)

    def call(self, call_id: int) -> None:
        self._append(self._log.call(call_id))

    # What has reached clients

    def handed(self, upto: int) -> None:
        """Before the relay is told."""
        if self._marks is not None:
            self._marks.handed(upto)
        self._log.forget(upto)
        self._drop_if_heard()

    def flushed(self, session_id: str, number: int) -> None:
        """From any thread: that client has everything up to there."""
        marks = self._marks
        if marks is not None and number <= self.number:  # else it is of the kernel before
            marks.flushed(session_id, number)

    def forgotten(self, session_id: str) -> None:
        """From any thread: that client is not expected back."""
        if self._marks is not None:
            self._marks.forgotten(session_id)

    # Files

    def _open_marks(self) -> None:
        if self._marks is None:
            try:
                self._marks = Marks(self._folder / MARKS)
            except OSError as e:
                self._failed(e)

    def _append(self, event: Event) -> None:
        if self._phase is not Phase.OPEN or self._lock is None:
            return
        if self._file is None:
            if time.monotonic() >= self._retry_at:
                self._rewrite()
            return
        data = line(*event)
        try:
            write_all(self._file, data)
        except OSError as e:
            self._failed(e)
            return
        self._size += len(data)
        if self._size > self._grown:
            self._rewrite()

    def _rewrite(self) -> None:
        """The log as short as it can be, in place of what is there."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        path = self._folder / REQUESTS
        try:
            file, self._file = self._file, None
            if file is not None:
                os.close(file)
            self._size = replace_file(path, self._log.lines())
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as e:
            self._failed(e)
        self._grown = max(GROWN, 4 * self._size)

    def _failed(self, error: OSError) -> None:
        """One that is not complete would mislead whoever adopts, so there is none until it can be written again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
        try:
            (self._folder / REQUESTS).unlink(missing_ok=True)
        except OSError:
            pass
        if not self._warned:
            self._warned = True
            log.warning(
                "What a restarted server needs to go on with this notebook's kernel cannot be written to %s: %s. The kernel "
                "itself is not affected.",
                self._folder,
                error,
            )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(MAX_LOG)
    except FileNotFoundError:
        return b""
