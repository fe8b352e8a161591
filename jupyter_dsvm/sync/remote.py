"""A workspace's folder on a VM: looked at, filled, read and changed. Blocking, for worker threads; one thread at a time.

Requests are sent one after the other and nobody waits for the answer to one before sending the next, so a thousand small files
take one round trip. A connection that is lost comes back (``connect``), and what had no answer is asked again: every
request can be repeated, since the VM looks at what is there before it changes anything. A large file goes on where it was cut.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from ..errors import Cancelled, Superseded, SyncError, Unreachable
from ..relay.fileframes import Code, Op, frame, wrong_root
from ..relay.wire import Frame
from . import arrivals
from .arrivals import Failure, Listing
from .carrying import Moved, Tell
from .entries import Entry, Scan, Tree
from .filechannel import Connect, FileChannel, opening
from .plan import Action
from .receiving import ASKED_AHEAD, Fetches
from .sending import Changes

if TYPE_CHECKING:
    from ..kernels.bootstrap import RememberedPythons
    from .local import LocalFolder

TRIES = 4
"""Connections in a row that may be lost before anything was copied over them."""

PAUSES = (0.2, 1.0, 3.0)
"""Seconds between those."""

STALLED = 600.0
"""Seconds in which a machine that answers may get nothing done; a scan has to be over by then."""

T = TypeVar("T")


@dataclass(frozen=True)
class About:
    """What the VM says of the folder when a connection is opened."""

    exists: bool
    fresh: bool
    """It was made just now."""
    free: int = 0
    """Bytes for this account; a quota may leave less."""
    total: int = 0
    folds_case: bool = False


class RemoteFolder:
    """``~/notebooks/<root>``. Errors: ``SSHError``, ``RelayError``, ``SyncError``, ``Cancelled``. What concerns one path is in its
    outcome instead."""

    def __init__(self, connect: Connect, root: str, name: str, *, pythons: RememberedPythons | None = None) -> None:
        """``connect`` gives the VM's SSH connection, again after a loss; it belongs to others and is never closed here.
        ``name``: the VM's, for sentences."""
        wrong = wrong_root(root)
        if wrong:
            raise SyncError(f"A folder on {name} cannot be called {root!r}: {wrong}.", advice="Rename the folder here.")
        self.root = root
        self.name = name
        self.about: About | None = None
        self.round_trips = 0
        """Times that somebody waited for an answer; for the benchmark."""
        self.opened = False
        """Whether the VM has said that, on this connection."""
        self.parts = False
        """Whether the beginning of some large file lies there."""
        self.changed_meanwhile = 0
        """Outcomes that were not done because something was not as the plan had it: there is a reason to look again soon."""
        self.numbers = itertools.count(1)
        """Of requests."""
        self.progress = 0
        """Becomes more with everything that got through."""
        self._done_last = 0, 0.0
        """``progress`` as it was when it changed last, and when that was."""
        self._connect = connect
        self._pythons = pythons
        self._channel: FileChannel | None = None
        self._make = False

    # One connection after the other

    def _open(self, channel: FileChannel | None, ahead: Sequence[Frame], cancel: threading.Event) -> FileChannel:
        """The connection, with ``ahead`` sent on it: along with the command, where it has to be opened."""
        if channel is not None:
            if self._make and self.about is not None and not self.about.exists:
                self._opening = next(self.numbers)
                channel.put(opening(self.root, self._opening, make=True), cancel=cancel)
            channel.put(*ahead, cancel=cancel)
            return channel
        self._opening = next(self.numbers)
        self.opened = False
        first = opening(self.root, self._opening, make=self._make)
        frames = b"".join(each.encode() for each in (first, *ahead))
        channel = FileChannel(self._connect(), frames, pythons=self._pythons)
        self._channel = channel
        return channel

    def _opened(self, each: Frame) -> None:
        if each.type == Op.FAILED:
            failed = arrivals.failure(each.body)
            raise SyncError(f"The folder ~/notebooks/{self.root} on {self.name} cannot be used: {failed.text}.")
        value = arrivals.body(each.body)
        exists = value.get("exists") is True
        free, total, parts = (value.get(name, 0) for name in ("free", "total", "parts"))
        if not all(isinstance(count, int) and count >= 0 for count in (free, total, parts)):
            raise arrivals.nonsense("a disk of no size")
        self.parts = bool(parts)
        self.opened = True
        self.about = About(exists, value.get("fresh") is True, free, total, value.get("folds_case") is True)

    def _talk(
        self,
        cancel: threading.Event,
        ahead: Callable[[], Sequence[Frame]],
        talk: Callable[[FileChannel], T],
    ) -> T:
        """``talk`` over a connection, and over the next one where it is lost; ``ahead`` is sent before."""
        tries, progress = 0, self.progress
        self._done_last = progress, time.monotonic()
        while True:
            usable = None
            try:
                usable = self._channel if self._channel is not None and self._channel.usable else None
                return talk(self._open(usable, ahead(), cancel))
            except Unreachable as e:
                self.close()
                tries, progress = (tries + 1, progress) if self.progress == progress else (1, self.progress)
                if tries >= TRIES:
                    raise
                if cancel.wait(PAUSES[min(tries - 1, len(PAUSES) - 1)]):
                    raise Cancelled(f"Copying files was cancelled. {e.message}") from e
            except Superseded:
                self.close()
                if usable is None or self.progress != progress:
                    raise
                # It was taken while nothing was done here, so the other one may be done by now.
            except BaseException:
                # In the middle of a frame, maybe: nothing more can be said over it. Over there the process ends with it.
                self.close()
                raise

    def answers(self, channel: FileChannel, cancel: threading.Event, wait: bool = True) -> Iterator[Frame]:
        """What came on the connection, or comes next; without what is about the connection itself."""
        done, since = self._done_last
        if done != self.progress:
            self._done_last = self.progress, time.monotonic()
        elif time.monotonic() - since > STALLED:
            raise SyncError(
                f"{self.name} answers, and has got nothing done about ~/notebooks/{self.root} for {STALLED:.0f} s.",
                advice="Its disk may be slow, or the folder very large: list what need not travel in .dsvmignore.",
                code="Stalled",
            )
        if wait:
            self.round_trips += 1
        for each in channel.take(wait, cancel):
            if each.seq == 0 and each.type == Op.FAILED and arrivals.failure(each.body).code == Code.SUPERSEDED:
                raise Superseded(
                    f"Another connection works on ~/notebooks/{self.root} on {self.name} now.",
                    advice="Somebody else, or another server of yours, copies files there; sync again when that is over.",
                )
            if each.seq == self._opening and each.type in (Op.DONE, Op.FAILED):
                self._opened(each)
            else:
                yield each

    def close(self) -> None:
        """The process on the VM ends; the next call starts another one, and so does one that is under way: cancel that first.
        Any thread; does not block."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    # Looking

    def scan(self, pruned: Collection[str], known: Tree, cancel: threading.Event) -> Scan:
        """What is there. ``known``: what was there last, whose digests hold where nothing says otherwise."""
        self._make = False

        def ask() -> Sequence[Frame]:
            self._asked = next(self.numbers)
            return [frame(Op.SCAN, self._asked, {"pruned": sorted(pruned)})]

        def listen(channel: FileChannel) -> Scan:
            listing = Listing(known)
            while True:
                for each in self.answers(channel, cancel):
                    if each.seq != self._asked:
                        raise arrivals.nonsense("an answer to nothing")
                    if each.type == Op.ROWS:
                        listing.add(each.body)
                    elif each.type == Op.DONE:
                        return listing.scan()
                    elif arrivals.failure(each.body).code == Code.MISSING:
                        if self.about is not None:
                            self.about = replace(self.about, exists=False)
                        return Scan(None)
                    else:
                        raise self._failed("be looked at", arrivals.failure(each.body))

        return self._talk(cancel, ask, listen)

    def digests(self, paths: Collection[str], cancel: threading.Event) -> Mapping[str, Entry]:
        """These files with their digests; what cannot be read or changes meanwhile is missing."""
        wanted = sorted(paths)
        found: dict[str, Entry] = {}
        for start in range(0, len(wanted), ASKED_AHEAD):
            found |= self._digests(wanted[start : start + ASKED_AHEAD], cancel)
        return found

    def _digests(self, paths: list[str], cancel: threading.Event) -> dict[str, Entry]:
        def ask() -> Sequence[Frame]:
            self._asked = next(self.numbers)
            return [frame(Op.DIGEST, self._asked, {"paths": paths})]

        def listen(channel: FileChannel) -> dict[str, Entry]:
            listing = Listing({}, len(paths))
            while True:
                for each in self.answers(channel, cancel):
                    if each.seq != self._asked:
                        raise arrivals.nonsense("an answer to nothing")
                    if each.type == Op.ROWS:
                        listing.add(each.body)
                    elif each.type == Op.DONE:
                        return {path: e for path, e in listing.tree.items() if path in wanted and e.digest}
                    else:
                        raise self._failed("be read", arrivals.failure(each.body))

        wanted = set(paths)
        return self._talk(cancel, ask, listen)

    def _failed(self, what: str, failed: Failure) -> SyncError:
        return SyncError(f"~/notebooks/{self.root} on {self.name} cannot {what}: {failed.text}.")

    # Changing

    def make(self, cancel: threading.Event) -> None:
        """The folder, if it is missing: a kernel is to start in it, also where nothing is copied."""
        self._make = True

        def listen(channel: FileChannel) -> None:
            while not (self.opened and self.about is not None and self.about.exists):
                for _ in self.answers(channel, cancel):
                    raise arrivals.nonsense("an answer to nothing")

        self._talk(cancel, lambda: [], listen)

    def change(
        self, actions: Sequence[Action], here: LocalFolder, tell: Tell, moved: Moved, cancel: threading.Event
    ) -> None:
        """Carry out actions whose side is THERE and that need not wait for each other. Each is told once, unless this raises."""
        todo = dict(enumerate(actions))
        self._make = True

        def talk(channel: FileChannel) -> None:
            Changes(self, channel, here, todo, tell, moved, cancel).run()

        if todo:
            self._talk(cancel, lambda: [], talk)

    def fetch(
        self, actions: Sequence[Action], here: LocalFolder, tell: Tell, moved: Moved, cancel: threading.Event
    ) -> None:
        """Carry out copies from there to here. Each is told once, unless this raises."""
        todo = dict(enumerate(actions))

        def talk(channel: FileChannel) -> None:
            fetches = Fetches(self, channel, here, todo, tell, moved, cancel)
            try:
                fetches.run()
            finally:
                fetches.keep()

        if todo:
            self._talk(cancel, lambda: [], talk)
