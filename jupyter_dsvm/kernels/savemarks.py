"""What of a kernel's outputs is in its notebooks' files, as far as the server has seen: a note in the file of what is kept.

A ``Mark`` for each path: up to which version of what is kept somebody has saved the notebook, and in which states of the file the
outputs were then put by ``outputsaver``, so that a page which has an earlier one of these open can tell that nothing else has
changed. The file is SQLite, so the marks outlive the server as outputs do. Functions here block; they are for worker threads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .outputrows import row

if TYPE_CHECKING:
    from .cellbook import CellBook
    from .outputstore import OutputStore
    from .recording import Recording

NAME = "saved"
MAX_PATHS = 16
MAX_STATES = 32

FileState = tuple[str, str]
"""When a file was modified, as the contents API writes it, and the hash of its content, empty where the server makes none."""


class Mark(NamedTuple):
    version: int
    states: list[FileState]
    """Of the file: as somebody else saved it last, and then as we have, the latest last."""


NONE = Mark(0, [])


class Unsaved(NamedTuple):
    version: int
    """Up to which all is in ``rows`` or was saved before."""
    rows: list[dict[str, Any]]
    """Runs that have changed since, with all of their outputs (``outputrows``)."""
    mark: Mark


def unsaved(recording: Recording, path: str) -> Unsaved | None:
    """What the notebook's file may not have yet; None where nothing is kept."""

    def read(store: OutputStore, book: CellBook) -> tuple[Any, ...]:
        mark = _read(store).get(path, NONE)
        return book.version, store.whole(mark.version if mark.version <= book.version else 0), mark

    found = recording.look(read)
    if found is None:
        return None
    version, runs, mark = found
    return Unsaved(version, [row(f) for f in runs if not f.run.is_forgotten], mark)


def saved(recording: Recording, path: str, mark: Mark) -> None:
    """Raises ``sqlite3.Error``."""

    def write(store: OutputStore, book: CellBook) -> None:
        marks = _read(store)
        marks.pop(path, None)
        marks[path] = Mark(mark.version, mark.states[-MAX_STATES:])
        _write(store, marks)

    recording.look(write)


def renamed(recording: Recording, old: str, new: str) -> None:
    """A file, or a folder with what is in it. Raises ``sqlite3.Error``."""

    def write(store: OutputStore, book: CellBook) -> None:
        marks = _read(store)
        moved = {(new + p[len(old) :] if (p + "/").startswith(old + "/") else p): mark for p, mark in marks.items()}
        if moved != marks:
            _write(store, moved)

    recording.look(write)


def marks_of(recording: Recording) -> dict[str, Mark]:
    return recording.look(lambda store, book: _read(store)) or {}


def _read(store: OutputStore) -> dict[str, Mark]:
    """What cannot be read was never there: then all outputs count as new, and are compared with the file's."""
    try:
        rows = json.loads(store.noted(NAME) or "[]")
        return {path: Mark(int(version), [(str(m), str(h)) for m, h in states]) for path, version, states in rows}
    except (ValueError, TypeError):
        return {}


def _write(store: OutputStore, marks: dict[str, Mark]) -> None:
    store.note(NAME, json.dumps([[path, *mark] for path, mark in list(marks.items())[-MAX_PATHS:]]))
