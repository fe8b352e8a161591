"""What users type for a compute, and which one they mean.

Called wherever a name comes in: the magic, the command line, the REST API. A name is an id, or ``name``,
``group/name`` or ``subscription/group/name``, the shortest that is unambiguous, in any case. An id comes first: it is
unique, so a VM that is called ``free`` is typed with its group. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..errors import AmbiguousCompute, UnknownCompute
from ..models import Compute


def resolve(text: str, computes: Sequence[Compute]) -> Compute:
    """The compute that ``text`` means.

    Raises:
        UnknownCompute: None has that name; the nearest are in the advice.
        AmbiguousCompute: Several have it; what to type for each is in the advice.
    """
    wanted = text.strip().casefold()
    for compute in computes:
        if compute.id.casefold() == wanted:
            return compute
    matches = _named(wanted, computes)
    if len(matches) == 1:
        return matches[0]
    if matches:
        longer = [shortest_name(compute, computes) for compute in matches]
        raise AmbiguousCompute(
            f"{len(matches)} computes are called {text.strip()!r}.", advice=f"Write one of: {', '.join(longer)}."
        )
    raise UnknownCompute(f"There is no compute called {text.strip()!r}.", advice=_suggestion(wanted, computes))


def shortest_name(compute: Compute, computes: Sequence[Compute]) -> str:
    """What to type for ``compute`` so that ``resolve`` gives it: the shortest of its names, or its id if none is its own."""
    ids = {other.id.casefold() for other in computes}
    for name in _names(compute):
        if name.casefold() not in ids and len(_named(name.casefold(), computes)) == 1:
            return name
    return compute.id


def shortest_names(computes: Sequence[Compute]) -> list[str]:
    """``shortest_name`` of each, in their order, in time that grows with their number only."""
    ids = {compute.id.casefold() for compute in computes}
    called = Counter(name for compute in computes for name in {n.casefold() for n in _names(compute)})
    return [
        next((n for n in _names(c) if n.casefold() not in ids and called[n.casefold()] == 1), c.id) for c in computes
    ]


def _names(compute: Compute) -> Iterator[str]:
    """``name``, ``group/name``, ``subscription/group/name``: as far as they are known, shortest first."""
    name = compute.name
    yield name
    for part in (compute.resource_group, compute.subscription):
        if not part:
            return
        name = f"{part}/{name}"
        yield name


def _named(wanted: str, computes: Sequence[Compute]) -> list[Compute]:
    return [compute for compute in computes if any(name.casefold() == wanted for name in _names(compute))]


def _suggestion(wanted: str, computes: Sequence[Compute]) -> str:
    if not computes:
        return "There is none at all: sign in to Azure, or add a host to ~/.ssh/config."
    import difflib  # late: a server that starts has no use for it

    typed = {name.casefold(): shortest_name(compute, computes) for compute in computes for name in _names(compute)}
    near = dict.fromkeys(typed[name] for name in difflib.get_close_matches(wanted, typed, n=3, cutoff=0.5))
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return "`%dsvm list` shows what there is."
