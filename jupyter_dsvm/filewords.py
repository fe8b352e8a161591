"""A workspace in words: what ``%dsvm`` says of files that travel with a notebook. Pure.

``calls`` adds these sentences to ``%dsvm sync`` and ``%dsvm status``. File names may be a VM's: ``livesteps`` escapes all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .models import WorkspaceFile, WorkspaceRecord, WorkspaceState

MOST = 5
"""Names in one sentence or list; the panel has all of them."""

UNITS = ("kB", "MB", "GB", "TB")


def bytes_words(count: int) -> str:
    """``84 MB``, as file managers have it: thousands."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in UNITS:
        value /= 1000
        if value < 999.5 or unit == UNITS[-1]:
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def state_lines(record: WorkspaceRecord) -> list[str]:
    """For ``%dsvm status``: the state, and what it leaves to do."""
    lines = [f"Its files: {record.text.rstrip('.')}."]
    if record.problem is not None:
        lines.append(f"{record.problem.message} {record.problem.advice}".strip())
    if record.state is WorkspaceState.HALTED and "--force" not in lines[-1]:
        lines.append("%dsvm sync --force does it all the same.")
    return [*lines, *todo_lines(record)]


def todo_lines(record: WorkspaceRecord) -> list[str]:
    """What a sync has left to a person: conflicts, and files that stayed on the machine. One line each, and how many more."""
    lines = []
    for conflict in record.conflicts[:MOST]:
        lines.append(
            f"{_shown(conflict.path)} was changed here and there: the machine's version is beside it as "
            f"{_shown(conflict.kept_as)}. Delete the one that you do not want, or choose in the Compute panel."
        )
    lines += _more(len(record.conflicts), "file was changed on both sides", "files were changed on both sides")
    if record.left_there:
        verb = "stays" if len(record.left_there) == 1 else "stay"
        lines.append(
            f"{_listed(record.left_there)} {verb} on the machine, since there is no room here. "
            "%dsvm sync --fetch PATH brings a file here."
        )
    if record.skipped:
        verb = "does" if len(record.skipped) == 1 else "do"
        lines.append(f"{_listed(record.skipped)} {verb} not travel; the Compute panel says why.")
    return lines


def _listed(files: Sequence[WorkspaceFile]) -> str:
    named = [
        f"{_shown(f.path)} ({bytes_words(f.size)})" if f.size is not None else _shown(f.path) for f in files[:MOST]
    ]
    left = len(files) - len(named)
    if left:
        named.append(f"{left} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _more(count: int, one: str, several: str) -> list[str]:
    left = count - MOST
    return [f"{left} more {one if left == 1 else several}; the Compute panel has them all."] if left > 0 else []


def _shown(path: str) -> str:
    """A name without what could pass for more than a name: no line breaks, no control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in path)
