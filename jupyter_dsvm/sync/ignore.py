"""What travels: ``.dsvmignore`` with gitignore's rules, defaults, and what never comes from a VM. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .entries import Tree

PRUNED: frozenset[str] = frozenset()
"""Names of folders that are left out by default, for a scan that does not go into them; see ``Rules.pruned``."""


class Rules:
    """What the defaults and the ``.dsvmignore`` files of this side leave out. The files of the VM are never asked."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        """``files``: by folder ("" is the workspace), the text of its ``.dsvmignore``."""
        raise NotImplementedError

    def ignores(self, path: str, folder: bool) -> bool:
        """Whether ``path`` stays where it is, on either side: asked of a folder before it is entered."""
        raise NotImplementedError

    @property
    def pruned(self) -> frozenset[str]:
        """Names of folders that the other side's scan need not enter, wherever they are: those of the defaults that no line lists again."""
        raise NotImplementedError

    def kept(self, tree: Tree) -> dict[str, object]:
        """``tree`` without what is ignored; for what the VM's scan found."""
        raise NotImplementedError


def never_pulled(path: str) -> str:
    """Why this path is never written here, whatever is listed, or "": for ``Options.never_pull``."""
    raise NotImplementedError
