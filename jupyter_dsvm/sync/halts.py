"""When a sync does nothing and asks instead. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set

from .base import Base
from .entries import Entry, Kind, Side
from .names import printable
from .plan import Action, Do, Halt, HaltReason, Options

MANY = 5
"""Fewer deletions than this are never too many."""
NAMED = 3
"""Paths that a sentence names."""

KEPT = "What is deleted is in the workspace's trash (.dsvm-trash) for a week."


def vanished(sides: list[Side], options: Options) -> Halt:
    """A side's folder is not there, though it was at the last sync."""
    where = " and ".join(_name(side, options) for side in sides)
    return _halt(
        [HaltReason.VANISHED],
        [f"The workspace's folder is not there any more on {where}. Nothing was copied or deleted."],
        "If it was moved, move it back. `%dsvm sync --force` makes it anew and copies everything into it.",
        [side.value for side in sides],
    )


def of_plan(
    base: Base,
    trees: Mapping[Side, Mapping[str, Entry]],
    unknown: Mapping[Side, Set[str]],
    actions: Iterable[Action],
    gone: Mapping[Side, int],
    types: Set[str],
    options: Options,
) -> Halt | None:
    """Why a plan is not to be carried out unasked. ``gone``: files of each side that are to be deleted since the other side has
    none of them any more, in whatever direction; ``types``: paths that are a folder on one side and not on the other."""
    reasons, said, means = [], [], []
    evidence = []
    files = {side: [e for e in tree.values() if e.kind is not Kind.FOLDER] for side, tree in trees.items()}
    had = {side: sum(r.kind is not Kind.FOLDER and r.stamp(side) is not None for r in base.values()) for side in Side}
    deletes = {side: sorted(a.path for a in actions if a.do is Do.DELETE and a.side is side) for side in Side}
    empty = {s for s in Side if not files[s] and not unknown[s] and gone[s.other]}
    for side in Side:
        if side in empty:
            reasons.append(HaltReason.EMPTY)
            where, other = _name(side, options), _name(side.other, options)
            said.append(f"The workspace on {where} is empty; at the last sync it had {_count(had[side])}.")
            means.append(f"takes this for what was meant, and deletes on {other} what was deleted on {where}")
            evidence.append(f"empty {side.value}")
        elif side.other not in empty and len(deletes[side]) >= MANY and 2 * len(deletes[side]) > len(files[side]):
            reasons.append(HaltReason.MANY_DELETIONS)
            where = _name(side, options)
            said.append(f"This sync would delete {len(deletes[side])} of {_count(len(files[side]))} on {where}.")
            means.append("deletes them")
        evidence += [f"delete {side.value} {path}" for path in deletes[side]]
    if types:
        reasons.append(HaltReason.TYPE)
        for path in sorted(types)[:NAMED]:
            side = Side.HERE if trees[Side.HERE][path].kind is Kind.FOLDER else Side.THERE
            where, other = _name(side, options), _name(side.other, options)
            said.append(f"“{printable(path)}” is a folder on {where} and a file on {other}.")
        if len(types) > NAMED:
            said.append(f"So are {len(types) - NAMED} more.")
        means.append(
            "keeps the file beside the folder, under another name, unless the base shows which of them is meant"
        )
        evidence += [f"type {path}" for path in sorted(types)]
    if not reasons:
        return None
    said.append("Nothing was copied or deleted.")
    advice = f"`%dsvm sync --force` {', and '.join(dict.fromkeys(means))}. {KEPT}"
    return _halt(reasons, said, advice, evidence)


def _halt(reasons: list[HaltReason], said: list[str], advice: str, evidence: list[str]) -> Halt:
    text = "\0".join([*(r.value for r in reasons), *evidence])
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return Halt(tuple(dict.fromkeys(reasons)), " ".join(said), advice, digest)


def _name(side: Side, options: Options) -> str:
    return "this server" if side is Side.HERE else options.there_name


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"
