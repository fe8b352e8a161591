"""What both sides say, made safe to think about. Pure. The VM may say anything."""

from __future__ import annotations

from collections.abc import Mapping

from . import names
from .entries import Entry, Kind, Side, Tree
from .names import folders_of
from .plan import Options


class Told:
    """The two trees without what cannot travel, and what is left alone for it."""

    def __init__(self, here: Tree, there: Tree, options: Options) -> None:
        self._options = options
        self.skipped: dict[tuple[Side, str], str] = {}
        """What is to be listed, with the reason. ``reconcile`` adds its own."""
        self.unknown: dict[Side, set[str]] = {Side.HERE: set(), Side.THERE: set()}
        for side, told in ((Side.HERE, options.unknown_here), (Side.THERE, options.unknown_there)):
            for path, reason in told.items():
                self._leave(side, path, reason)
        self.trees: Mapping[Side, dict[str, Entry]] = {
            Side.HERE: self._checked(Side.HERE, here),
            Side.THERE: self._checked(Side.THERE, there),
        }
        self._blocked = {self.key(path) for paths in self.unknown.values() for path in paths}

    def key(self, path: str) -> str:
        """Two paths with one key are one thing on one of the sides."""
        return self._options.here_names.key(self._options.there_names.key(path))

    def left_alone(self, path: str) -> bool:
        """Whether a side cannot say what ``path`` is, or what is above it."""
        if not self._blocked:
            return False
        return "" in self._blocked or any(self.key(p) in self._blocked for p in (path, *folders_of(path)))

    def _leave(self, side: Side, path: str, reason: str) -> None:
        self.skipped[side, path] = reason
        self.unknown[side].add(path)

    def _checked(self, side: Side, tree: Tree) -> dict[str, Entry]:
        """``tree`` without names that cannot be had on both sides and links that lead out, and with every folder that
        something is in."""
        found: dict[str, Entry] = {}
        for path, entry in sorted(tree.items()):
            if reason := self._reason(entry, path):
                if path:
                    self._leave(side, path, reason)
                else:  # would be the whole workspace, which only ``Options.unknown_…`` can mean
                    self.skipped[side, path] = reason
            else:
                found[path] = entry
        for path in list(found):
            for folder in folders_of(path):
                entry = found.setdefault(folder, Entry(folder, Kind.FOLDER))
                if entry.kind is not Kind.FOLDER and path in found:
                    self._leave(side, path, "it is told to be in what is no folder")
                    del found[path]
        return found

    def _reason(self, entry: Entry, path: str) -> str:
        here, there = self._options.here_names, self._options.there_names
        reason = names.problem(path, here) or (names.problem(path, there) if there != here else "")
        if not reason and entry.path != path:
            reason = "its name is told in two ways"
        if not reason and entry.kind is Kind.LINK:
            reason = names.link_problem(path, entry.digest)
        return reason
