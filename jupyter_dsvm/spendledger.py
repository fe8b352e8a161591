"""Where it is kept what machines have cost: intervals (``spending_rules``) in a small SQLite file of this user's.

``<jupyter data>/jupyter-dsvm/spend.sqlite`` (0600 in a 0700 folder). Several servers of one user share it, as do the command line
and notebooks that run without a server: each change is one transaction, in which what is there is read, what was seen is put in by
the rules, and the outcome is written. So a process may be killed at any moment, and whoever sees a machine next goes on from there.
With SQLite's usual journal, not a write-ahead log: that does not work on network file systems, where the home folders of hubs are
(https://sqlite.org/wal.html), and there is one write a minute.

A file that is damaged is put aside with a warning. Where the file cannot be written (no room, another owner, made by a later
version), what is spent is counted in memory as long as the process lives, from what could be read on, with a warning. Nobody meets
an error for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .spending_rules import BILLED, KEPT_SECONDS, SKEW_SECONDS, Interval, Observation, Terms, cut, gone, observed

if TYPE_CHECKING:
    import sqlite3  # late, as all that a server's start does not need

log = logging.getLogger("jupyter_dsvm.spend")

VERSION = 1
"""In the file's ``user_version``; 0 is a file that was just made."""

BUSY_SECONDS = 5.0
"""For another process that writes just now."""

MOST_LOCKED = 5
"""As often it may be locked, one time after the other. Then no other process is in the way: some file systems have no locks."""

SCHEMA = """
CREATE TABLE intervals (
    id INTEGER PRIMARY KEY,
    compute TEXT NOT NULL, name TEXT NOT NULL,
    size TEXT, amount REAL, currency TEXT,
    since REAL NOT NULL, seen REAL NOT NULL,
    open INTEGER NOT NULL, starting INTEGER NOT NULL, exact INTEGER NOT NULL, unseen INTEGER NOT NULL
);
CREATE UNIQUE INDEX one_is_open ON intervals (compute) WHERE open;
CREATE INDEX by_compute ON intervals (compute, seen);
CREATE INDEX by_end ON intervals (seen);
"""
COLUMNS = "compute, name, size, amount, currency, since, seen, open, starting, exact, unseen"

T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """What became of observations."""

    news: bool = False
    """What is spent has changed by more than the time that has passed."""
    ask: frozenset[str] = frozenset()
    """Ids of machines of which Azure's word would say more."""


class _Newer(Exception):
    """A later version has made the file."""


class SpendLedger:
    """May be used from any thread; blocks for the file, and for another process that writes, some seconds at most."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self.clock = clock
        self._lock = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        """In the file's place, where that cannot be used."""
        self._locked = 0
        """How often it was locked, one time after the other."""

    def observe(self, observations: Sequence[Observation]) -> Taken:
        """Put in what was seen, in that order."""

        def work(db: sqlite3.Connection) -> Taken:
            news, ask = _cut_future(db, self.clock()), set()
            on = {compute for (compute,) in db.execute("SELECT compute FROM intervals WHERE open")}
            for seen in observations:
                if seen.compute not in on and not BILLED[seen.state]:
                    continue  # nearly all of thousands
                on.add(seen.compute)
                before = _open(db, seen.compute)
                outcome = observed(before, _ended(db, seen.compute), seen)
                if outcome.ask:
                    ask.add(seen.compute)
                if outcome.open == before and outcome.closed is None:
                    continue
                news = news or outcome.is_news(before)
                db.execute("DELETE FROM intervals WHERE compute = ? AND open", (seen.compute,))
                for interval in (outcome.closed, outcome.open):
                    if interval is not None and (interval.open or interval.seen > interval.since):
                        _insert(db, interval)
            if news:
                db.execute("DELETE FROM intervals WHERE NOT open AND seen < ?", (self.clock() - KEPT_SECONDS,))
            return Taken(news, frozenset(ask))

        return self._with(work, Taken()) if observations else Taken()

    def gone(self, compute: str) -> bool:
        """There is no such machine any more, which is confirmed; whether that is news."""

        def work(db: sqlite3.Connection) -> bool:
            _cut_future(db, self.clock())
            before = _open(db, compute)
            if before is None:
                return False
            db.execute("DELETE FROM intervals WHERE compute = ? AND open", (compute,))
            _insert(db, gone(before, self.clock()))
            return True

        return self._with(work, False)

    def intervals(self, since: float) -> list[Interval]:
        """Those that reach beyond that moment, oldest first, and all that are open."""

        def work(db: sqlite3.Connection) -> list[Interval]:
            return list(_select(db, "open OR seen > ? ORDER BY since, id", since))

        return self._with(work, [])

    def close(self) -> None:
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    # The file

    def _with(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """In a transaction of its own. ``otherwise``: where another process does not let go of the file."""
        import sqlite3

        with self._lock:
            if self._memory is None:
                try:
                    done = self._on_file(work)
                    self._locked = 0
                    return done
                except sqlite3.OperationalError as e:
                    self._locked += "locked" in str(e)
                    if "locked" in str(e) and self._locked < MOST_LOCKED:
                        log.warning(
                            "What machines cost is not noted just now: %s is in use by another process.", self._file
                        )
                        return otherwise
                    self._use_memory(str(e))
                except _Newer:
                    self._use_memory("a later version of jupyter-dsvm has made it")
                except (sqlite3.Error, OSError) as e:
                    self._use_memory(str(e))
            assert self._memory is not None
            with _transaction(self._memory):
                return work(self._memory)

    def _on_file(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Once more after a damaged one was put aside."""
        import sqlite3

        self._make()
        made = self._file.stat().st_ino
        try:
            return self._once(work)
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError) and not str(e).startswith("no such"):
                raise
            self._put_aside(made, e)
        self._make()
        return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with contextlib.closing(_connect(self._file)) as db, _transaction(db):
            _prepare(db)
            return work(db)

    def _make(self) -> None:
        """With its mode from the first moment; the journal takes that over. SQLite loses its locks where a process closes
        another descriptor of the file, so one that is there is not opened."""
        if not self._file.exists():
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def _put_aside(self, found: int, error: Exception) -> None:
        """The one with that inode: another process may have done so in between. Its journal too, which would be played into
        the next."""
        if not self._file.exists() or self._file.stat().st_ino != found:
            return
        aside = self._file.with_name(f"{self._file.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for ending in ("-journal", ""):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._file}{ending}", f"{aside}{ending}")
        log.warning(
            "What machines have cost cannot be read from %s: %s. It is now %s, and a new one is begun.",
            self._file,
            error,
            aside,
        )

    def _use_memory(self, why: str) -> None:
        import sqlite3

        log.warning(
            "What machines cost cannot be written to %s: %s. It is counted until this process ends, and not known to others.",
            self._file,
            why,
        )
        self._memory = _connect(":memory:")
        with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(self._file, read_only=True)) as db:
            if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                db.backup(self._memory)
        with _transaction(self._memory):
            _prepare(self._memory)


def _connect(file: Path | str, read_only: bool = False) -> sqlite3.Connection:
    import sqlite3

    # Several threads, one at a time; transactions are begun by hand.
    options: dict[str, Any] = {"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False}
    name = f"{Path(file).absolute().as_uri()}?mode=ro" if read_only else str(file)
    db: sqlite3.Connection = sqlite3.connect(name, uri=read_only, **options)
    return db


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:  # some errors have ended it already
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _prepare(db: sqlite3.Connection) -> None:
    """The tables of a file that is new."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise _Newer
    if version == 0:
        for statement in filter(str.strip, SCHEMA.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")


# Intervals as rows


def _select(db: sqlite3.Connection, where: str, *values: Any) -> Iterator[Interval]:
    for row in db.execute(f"SELECT {COLUMNS} FROM intervals WHERE {where}", values):  # noqa: S608
        yield _interval(row)


def _interval(row: Iterable[Any]) -> Interval:
    compute, name, size, amount, currency, since, seen, is_open, starting, exact, unseen = row
    terms = Terms(size, amount, currency)
    return Interval(compute, name, terms, since, seen, bool(is_open), bool(starting), bool(exact), bool(unseen))


def _insert(db: sqlite3.Connection, i: Interval) -> None:
    t = i.terms
    values = (i.compute, i.name, t.size, t.amount, t.currency, i.since, i.seen, i.open, i.starting, i.exact, i.unseen)
    db.execute(f"INSERT INTO intervals ({COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608


def _open(db: sqlite3.Connection, compute: str) -> Interval | None:
    return next(_select(db, "compute = ? AND open", compute), None)


def _ended(db: sqlite3.Connection, compute: str) -> float:
    found = db.execute("SELECT max(seen) FROM intervals WHERE compute = ? AND NOT open", (compute,)).fetchone()[0]
    return float("-inf") if found is None else float(found)


def _cut_future(db: sqlite3.Connection, now: float) -> bool:
    """Whether there was any: the clock was set back."""
    found = list(_select(db, "seen > ? ORDER BY open", now + SKEW_SECONDS))  # the closed ones first
    db.execute("DELETE FROM intervals WHERE seen > ?", (now + SKEW_SECONDS,))
    for interval in found:
        left = cut(interval, now, _ended(db, interval.compute))
        if left is not None:
            _insert(db, left)
    return bool(found)
