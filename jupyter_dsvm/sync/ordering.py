"""In which order the actions of a plan are done. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .entries import Side
from .names import folders_of
from .plan import Action, Do, Options


def phases(actions: Sequence[Action], options: Options) -> tuple[tuple[Action, ...], ...]:
    """The actions in their order. What makes a name free that another action needs comes first: the file that the folder
    takes the place of, or ``data`` before ``Data`` where those are one name."""
    spelled = {Side.HERE: options.here_names, Side.THERE: options.there_names}
    removed = {(a.side, a.path) for a in actions if a.do is Do.REMOVE_FOLDER}
    made = set()
    for a in actions:
        if a.do in (Do.COPY, Do.FOLDER):
            made |= {(a.side, spelled[a.side].key(p)) for p in (*folders_of(a.path), a.path)}

    def frees(a: Action) -> bool:
        freed = [a.path, *(f for f in folders_of(a.path) if (a.side, f) in removed)]
        return any((a.side, spelled[a.side].key(p)) in made for p in freed)

    clearing, folders, removing = [], [], []
    copies: dict[Side, list[Action]] = {Side.HERE: [], Side.THERE: []}
    for a in actions:
        if a.do is Do.COPY:
            copies[a.side].append(a)
        elif a.do is Do.FOLDER:
            folders.append(a)
        elif a.do is Do.MOVE or frees(a):
            clearing.append(a)
        else:
            removing.append(a)
    cut = (
        sorted(clearing, key=_deepest_first),
        sorted(folders, key=lambda a: (a.side.value, a.path.count("/"), a.path)),
        sorted(copies[Side.THERE], key=lambda a: a.path),
        sorted(copies[Side.HERE], key=lambda a: a.path),
        sorted((a for a in removing if a.do is Do.DELETE), key=_deepest_first),
        sorted((a for a in removing if a.do is Do.REMOVE_FOLDER), key=_deepest_first),
    )
    return tuple(tuple(phase) for phase in cut if phase)


def _deepest_first(action: Action) -> tuple[int, bool, str]:
    return (-action.path.count("/"), action.do is Do.REMOVE_FOLDER, action.path)
