"""A workspace in words: what ``%dsvm`` says of files that travel with a notebook. Pure.

``calls`` adds these sentences to ``%dsvm sync`` and ``%dsvm status``. File names may be a VM's: ``livesteps`` escapes all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .models import WorkspaceFile, WorkspaceRecord, WorkspaceState
from .space import mb

MOST = 5
"""Names in one sentence or list; the panel has all of them."""


def state_lines(record: WorkspaceRecord) -> list[str]:
    """For ``%dsvm status``: the state, and what it leaves to do."""
    lines = [f"Its files: {record.text.rstrip('.')}."]
    problem = record.problem
    if problem is not None:
        said = "" if problem.message.rstrip(".") == record.text.rstrip(".") else problem.message
        lines.append(f"{said} {problem.advice}".strip())
    return [line for line in [*lines, *force_lines(record, lines), *todo_lines(record)] if line]


def force_lines(record: WorkspaceRecord, said: Sequence[str]) -> list[str]:
    """How to have done what a sync had stopped before, unless that is ``said`` already."""
    halted = record.state is WorkspaceState.HALTED and (record.problem is None or record.problem.code != "NeedsYes")
    return ["%dsvm sync --force does it all the same."] if halted and not any("--force" in s for s in said) else []


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
    named = [f"{_shown(f.path)} ({mb(f.size)})" if f.size is not None else _shown(f.path) for f in files[:MOST]]
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
