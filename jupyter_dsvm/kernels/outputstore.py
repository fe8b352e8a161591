"""What the cells of one kernel have put out, in a file: an SQLite database, which survives the kill -9 of its process.

``write`` takes what has changed in a ``CellBook`` since it was last written, in one transaction, together with the number of the
kernel's message up to which all of that is. A process that is killed in between leaves the state before it. Nothing waits for the
disk (``synchronous`` is off): what is kept is of no use after a crash of this machine.

The file belongs to one process at a time, which holds its lock (flock); SQLite's own locks, which some network file systems do not
have, are off. Not thread-safe: ``recording.Recording`` has the lock.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jupyter_core.paths import jupyter_data_dir

from .cellbook import CELL_PART, CellBook
from .cellouts import OVERHEAD, STREAM, CellOutputs, Cut, Output
from .cellruns import Run, State
from .keptfiles import folder_of, kept_folder, take
from .streamtext import StreamText

log = logging.getLogger("jupyter_dsvm.outputs")

SUFFIX = ".sqlite3"
FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, cell TEXT UNIQUE, msg_id TEXT, session TEXT, source TEXT, sha256 TEXT, state TEXT,
  status TEXT, count INTEGER, started TEXT, ended TEXT, version INTEGER, idle INTEGER, replied INTEGER, let_go INTEGER,
  prompts TEXT,  clear_next INTEGER, last_stream TEXT, full INTEGER, cut_messages INTEGER, cut_bytes INTEGER
);
CREATE TABLE IF NOT EXISTS outputs (
  run INTEGER, place INTEGER, part INTEGER, kind TEXT, version INTEGER, size INTEGER, name TEXT, ids TEXT, column INTEGER,
  body BLOB,
  PRIMARY KEY (run, place, part)
);
"""

_INSERT_RUN = """
INSERT INTO runs (cell, msg_id, session, source, sha256, state, status, count, started, ended, version, idle, replied, let_go,
  prompts, clear_next, last_stream, full, cut_messages, cut_bytes)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE_RUN = """
UPDATE runs SET (cell, msg_id, session, source, sha256, state, status, count, started, ended, version, idle, replied, let_go,
  prompts, clear_next, last_stream, full, cut_messages, cut_bytes) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  WHERE number = ?
"""
_SELECT_RUNS = """
SELECT cell, msg_id, session, source, sha256, state, status, count, started, ended, version, idle, replied, let_go,
  prompts, clear_next, last_stream, full, cut_messages, cut_bytes, number FROM runs WHERE version > ? ORDER BY
"""
_SELECT_OUTLINES = """
SELECT place, part, kind, version, size, name, ids, column FROM outputs WHERE run = ? ORDER BY place, part
"""
_SELECT_FIRST_CHANGED = """
SELECT min(place) FROM (SELECT place FROM outputs WHERE run = ? GROUP BY place HAVING max(version) > ?)
"""


_SELECT_KNOWN_TEXT = """
SELECT count(*), ifnull(sum(size), 0) FROM outputs WHERE run = ? AND place = ? AND part < ? AND version <= ?
"""
_SELECT_BODIES = """
SELECT place, kind, name, body FROM outputs WHERE run = ? AND (place > ? OR (place = ? AND part >= ?)) ORDER BY place, part
"""


class Found(NamedTuple):
    """A run as ``since`` gives it."""

    run: Run
    kept: int
    """How many of its first outputs are as they were."""
    kept_text: int
    """How many UTF-16 code units of the next one, a stream, are as they were, too."""
    outputs: list[tuple[str, str, bytes]]
    """All others: kind, name of a stream, body (of a stream: its text, without what is as it was)."""


def outputs_folder() -> Path:
    """Where all of them are. Not made here."""
    return Path(jupyter_data_dir()) / "jupyter-dsvm" / "outputs"


def path_of(kernel_id: str) -> Path:
    return outputs_folder() / (folder_of(kernel_id).name + SUFFIX)


class OutputStore:
    def __init__(self, path: Path | None) -> None:
        """New, or with what is there; None: in memory. Raises ``OSError`` or ``sqlite3.Error``."""
        self._path = path
        self._lock = _take(path) if path is not None else None
        self.is_torn = path is not None and _mark_of(path).exists()
        try:
            self._db = self._open()
        except sqlite3.OperationalError:
            self._release()
            raise
        except sqlite3.DatabaseError as e:  # it is none of ours, or broken
            if path is None:
                raise
            log.warning("What cells have put out cannot be read from %s, and is begun anew: %s.", path, e)
            _unlink(path)
            self._release()
            self._lock = _take(path)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        target = f"file:{quote(str(self._path))}?nolock=1" if self._path is not None else "file::memory:"
        db = sqlite3.connect(target, uri=True, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = PERSIST")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA cache_size = -1024")
            db.execute(f"PRAGMA journal_size_limit = {1024 * 1024}")
            db.executescript(_TABLES)
            found = dict(db.execute("SELECT name, value FROM about"))
            if found.setdefault("format", FORMAT) != FORMAT:
                raise sqlite3.DatabaseError("it is of another version")
            self.source: str = found.get("source", "")
            """Whose messages ``number`` counts."""
            self.number: int = found.get("number", 0)
            self._captures: str = found.get("captures", "{}")
            # Versions go on where a file has been lost, as far as anybody can tell.
            self.version: int = found.get("version", 0) or int(time.time() * 1000)
            db.execute("INSERT OR REPLACE INTO about VALUES ('format', ?)", (FORMAT,))
        except BaseException:
            db.close()
            raise
        return db

    # Writing

    def write(self, book: CellBook, source: str, number: int) -> None:
        """All that has changed. Raises ``sqlite3.Error``; then nothing was written, and the book is as it was."""
        db, runs = self._db, list(book.dirty.values())
        db.execute("BEGIN")
        try:
            for dropped in book.dropped:
                db.execute("DELETE FROM outputs WHERE run = ?", (dropped,))
                db.execute("DELETE FROM runs WHERE number = ?", (dropped,))
            if book.displays_forgotten:
                db.execute("UPDATE outputs SET ids = '[]' WHERE ids != '[]'")
            numbers = [self._write_run(run) for run in runs]
            captures = json.dumps(book.captures)
            values = {"source": source, "number": number, "version": book.version, "captures": captures}
            db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", values.items())
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.source, self.number, self.version = source, number, book.version
        self._captures = captures
        if self.is_torn and self._path is not None:
            _mark_of(self._path).unlink(missing_ok=True)
            self.is_torn = False
        freed = bool(book.dropped) or any(r.outputs.rewritten for r in runs)
        for run, found in zip(runs, numbers, strict=True):
            run.number = found
            run.outputs.rewritten = False
            for output in run.outputs.dirty.values():
                _written(output)
            run.outputs.dirty.clear()
        book.dirty.clear()
        book.dropped.clear()
        book.displays_forgotten = False
        if freed:
            db.execute("PRAGMA incremental_vacuum(256)").fetchall()

    def _write_run(self, run: Run) -> int:
        o, db = run.outputs, self._db
        cut = o.cut or Cut()
        values = (
            *(run.cell, run.msg_id, run.session, run.source, run.sha256, run.state.value, run.status, run.count),
            *(
                run.started,
                run.ended,
                run.version,
                run.idle,
                run.replied,
                run.let_go,
                json.dumps(run.prompts),
                o.clear_next,
            ),
            *(o.last_stream, o.full, cut.messages, cut.bytes),
        )
        number = run.number
        if number:
            db.execute(_UPDATE_RUN, (*values, number))
        else:
            number = db.execute(_INSERT_RUN, values).lastrowid or 0
        if o.rewritten and run.number:
            db.execute("DELETE FROM outputs WHERE run = ?", (number,))
        rows = (row for output in o.dirty.values() for row in _rows(number, output))
        db.executemany("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return number

    # Reading

    def read(self, limit: int) -> CellBook:
        """The book as it was written last, but for the bodies of its outputs."""
        book = CellBook(self.version, limit)
        displays: dict[str, list[str]] = {}
        runs = list(self._runs(_SELECT_RUNS + "number", limit, 0))
        for run in runs:
            outputs, cut = self._outlines(run.number), run.outputs.cut
            run.outputs.restore(outputs, cut)
            for display_id in {i for o in outputs for i in o.ids}:
                displays.setdefault(display_id, []).append(run.msg_id)
        book.restore(runs, displays, json.loads(self._captures))
        return book

    def _runs(self, query: str, limit: int, version: int) -> Iterator[Run]:
        for row in self._db.execute(query, (version,)):
            cell, msg_id, session, source, sha256, state, status, count, started, ended, version, *rest = row
            idle, replied, let_go, prompts, clear_next, last_stream, full, cut_messages, cut_bytes, number = rest
            outputs = CellOutputs(limit // CELL_PART)
            outputs.clear_next, outputs.last_stream, outputs.full = bool(clear_next), last_stream, bool(full)
            outputs.cut = Cut(cut_messages, cut_bytes) if cut_messages else None
            yield Run(
                *(cell, msg_id, session, source, sha256, outputs, version, State(state), status, count, started, ended),
                idle=bool(idle),
                replied=bool(replied),
                let_go=bool(let_go),
                number=number,
                prompts=[tuple(p) for p in json.loads(prompts)],
            )

    def _outlines(self, number: int) -> list[Output]:
        found: list[Output] = []
        last: dict[int, tuple[Any, ...]] = {}
        rows = self._db.execute(_SELECT_OUTLINES, (number,))
        for place, *about in rows:
            last[place] = tuple(about)
        for place in sorted(last):
            part, kind, version, size, name, ids, column = last[place]
            output = Output(kind, version, size, name=name, ids=json.loads(ids), place=place)
            if kind == STREAM:
                (rest,) = self._db.execute(
                    "SELECT body FROM outputs WHERE run = ? AND place = ? AND part = ?", (number, place, part)
                ).fetchone()
                output.text = StreamText(_text(rest), column, part, size - OVERHEAD)
            found.append(output)
        return found

    def since(self, version: int, after: int, max_bytes: int, limit: int) -> tuple[list[Found], bool]:
        """Runs that have changed after ``version``, which is how far who asks has everything, in the order of their versions; of
        these, those after ``after``, which it has had in an earlier part of the answer. At least one if there is one, and no
        more than ``max_bytes`` if there are more. And whether there are more."""
        found: list[Found] = []
        size = 0
        runs = list(self._runs(_SELECT_RUNS + "version", limit, max(version, after)))
        for run in runs:
            kept, kept_text, outputs = self._changed(run.number, version)
            size += sum(len(body) + OVERHEAD for _, _, body in outputs) + len(run.source or "") + OVERHEAD
            if found and size > max_bytes:
                return found, True
            found.append(Found(run, kept, kept_text, outputs))
        return found, False

    def whole(self, version: int) -> list[Found]:
        """Runs that have changed after ``version``, with all of their outputs."""
        runs = list(self._runs(_SELECT_RUNS + "version", 0, version))
        return [Found(run, 0, 0, self._changed(run.number, 0)[2]) for run in runs]

    def noted(self, name: str) -> str:
        """What ``note`` was told, by a module of another name."""
        found = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found is not None else ""

    def note(self, name: str, value: str) -> None:
        """Raises ``sqlite3.Error``."""
        self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def _changed(self, number: int, version: int) -> tuple[int, int, list[tuple[str, str, bytes]]]:
        first: int | None = self._db.execute(_SELECT_FIRST_CHANGED, (number, version)).fetchone()[0]
        if first is None:
            counted = "SELECT count(DISTINCT place) FROM outputs WHERE run = ?"
            return int(self._db.execute(counted, (number,)).fetchone()[0]), 0, []
        # Parts of a text that are not its last one never change.
        (last,) = self._db.execute(
            "SELECT max(part) FROM outputs WHERE run = ? AND place = ?", (number, first)
        ).fetchone()
        known, kept_text = self._db.execute(_SELECT_KNOWN_TEXT, (number, first, last, version)).fetchone()
        outputs: list[tuple[str, str, list[bytes]]] = []
        at = -1
        for place, kind, name, body in self._db.execute(_SELECT_BODIES, (number, first, first, known)):
            if place != at:
                at = place
                outputs.append((kind, name, []))
            outputs[-1][2].append(body or b"")
        return first, kept_text, [(kind, name, b"".join(pieces)) for kind, name, pieces in outputs]

    # The end

    def torn(self) -> None:
        """What is in the file is behind what nobody has any more, until the next ``write``: whoever opens it is to know."""
        if self._path is not None and not self.is_torn:
            try:
                _mark_of(self._path).touch(mode=0o600)
            except OSError:
                _unlink(self._path)  # nothing is better than what is wrong
            self.is_torn = True

    def close(self) -> None:
        """It stays for a later process."""
        self._db.close()
        self._release()

    def remove(self) -> None:
        """Nothing is left of it."""
        self._db.close()
        if self._path is not None:
            _unlink(self._path)
        self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def remove_orphans() -> int:
    """Those of kernels that ended with a server that was killed: all but those of kernels that are kept (``kernels.keeping``), and
    those that a living process has. How many there were. Blocks for a moment; raises nothing."""
    removed = 0
    try:
        paths = [p for p in outputs_folder().iterdir() if p.name.endswith(SUFFIX)]
        paths = [p for p in paths if not (kept_folder() / p.name.removesuffix(SUFFIX)).is_dir()]
    except OSError:
        return 0
    for path in paths:
        try:
            lock = take(path)
            if lock is not None:
                _unlink(path)
                os.close(lock)
                removed += 1
        except OSError:
            continue
    return removed


def _take(path: Path) -> int:
    """The descriptor that holds it. Where the file system knows no locks, it counts as ours. Raises ``OSError``."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for tried in range(10):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            time.sleep(0.01 * tried)  # who cleans up may have it, for a moment
            continue
        except OSError:
            return lock
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # and has just removed it
    raise OSError(f"another process has {path}")


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + "-journal").unlink(missing_ok=True)
    _mark_of(path).unlink(missing_ok=True)


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + "-torn")


def _rows(number: int, output: Output) -> Iterator[tuple[Any, ...]]:
    place = output.place
    about = (output.kind, output.version, output.size, output.name, json.dumps(output.ids))
    text = output.text
    if text is None:
        yield number, place, 0, *about, 0, output.body
        return
    part, finished = text.sealed, text.finished
    if finished:
        yield number, place, part, STREAM, output.version, text.finished_size, output.name, "[]", 0, _bytes(finished)
        part += 1
    yield number, place, part, *about, text.column, _bytes(text.line if finished else text.rest)


def _written(output: Output) -> None:
    output.body = None
    if output.text is not None and output.text.finished:
        output.text.forget_finished()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(body: bytes) -> str:
    return body.decode("utf-8", "surrogatepass")
