"""What users type for a VM size, and which one they mean: pure.

Called wherever a size comes in: the providers, the magic, the command line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ..errors import BadRequest, OperationRefused
from ..models import Size, SizeOffer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", re.ASCII)


def canonical(typed: str) -> str:
    """``NC4as_T4_v3``, ``standard_nc4as_t4_v3`` and the like in one form, for comparing. Raises ``BadRequest`` for what cannot
    be a size's name."""
    text = re.sub(r"\s+", "_", typed.strip())
    if not NAME.fullmatch(text):
        raise BadRequest(
            f"{typed.strip()[:80]!r} is no name of a VM size.",
            advice="Sizes are called like Standard_NC4as_T4_v3.",
            code="BadSize",
        )
    lower = text.lower()
    return lower if lower.startswith(("standard_", "basic_")) else f"standard_{lower}"


def chosen(typed: str, offered: Sequence[SizeOffer], name: str, location: str | None) -> SizeOffer:
    """The size that is meant, if the VM called ``name`` can have it. Raises ``OperationRefused``, with what would work."""
    wanted = canonical(typed)
    found = next((offer for offer in offered if offer.size.name.lower() == wanted), None)
    if found is None:
        near = nearest(wanted, offered)
        did = f"Did you mean {' or '.join(near)}? " if near else ""
        raise OperationRefused(
            f"There is no VM size {typed.strip()!r} in {location or 'its region'}.",
            advice=f"{did}`jupyter dsvm sizes {name}` shows what {name} can have.",
            code="UnknownSize",
        )
    if not found.available:
        instead = similar(found.size, offered)
        works = f"What can be had: {', '.join(instead)}. " if instead else ""
        raise OperationRefused(
            f"{name} cannot have the size {found.size.name}: {found.reason}",
            advice=f"{works}`jupyter dsvm sizes {name}` shows all. Nothing was changed.",
            code="SizeNotPossible",
        )
    return found


def nearest(wanted: str, offered: Sequence[SizeOffer]) -> list[str]:
    """Names like a mistyped one, those that can be had first."""
    names = {_short(offer.size.name): offer for offer in offered}
    close = difflib.get_close_matches(_short(wanted), names, n=6, cutoff=0.6)
    return [names[c].size.name for c in sorted(close, key=lambda c: not names[c].available)[:3]]


def similar(like: Size, offered: Sequence[SizeOffer], most: int = 3) -> list[str]:
    """Sizes that can be had and come nearest to one that cannot, without those that warn of the GPU's drivers."""

    def distance(offer: SizeOffer) -> tuple[float, float, str]:
        cores = abs((offer.size.vcpus or 0) - (like.vcpus or 0))
        memory = abs((offer.size.memory_gib or 0.0) - (like.memory_gib or 0.0))
        return cores, memory, offer.size.name

    fit = [
        o for o in offered
        if o.available and not o.current and bool(o.size.gpus) == bool(like.gpus) and not o.warnings
    ]  # fmt: skip
    return [offer.size.name for offer in sorted(fit, key=distance)[:most]]


def _short(name: str) -> str:
    return name.lower().removeprefix("standard_")
