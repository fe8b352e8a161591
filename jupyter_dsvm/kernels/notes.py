"""What a relay itself says in a cell's output: it signs nothing, so the link makes messages of it. Pure.

What comes from a VM is checked and cut; whether its parent is a request of ours, the proxy checks as with every output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import printable
from ..relay.strikes import LONGEST_TEXT
from ..relay.wire import WireError
from .runsthere import integer

MOST_MINUTES = 24 * 60


class Note(NamedTuple):
    parent_header: dict[str, Any]
    """Of the request in whose output it stands."""
    text: str


def omitted(value: dict[str, Any], compute_name: str) -> Note:
    """Of OMITTED: the relay's room for this kernel was full, or a message too long, so it left out outputs."""
    text = (
        f"[{integer(value, 'messages')} outputs ({integer(value, 'bytes') / 1e6:.1f} MB) were left out here: "
        f"more than could be kept on {compute_name}, or too long for one message.]"
    )
    return Note(_parent(value), f"\n{text}\n")


def strike(value: dict[str, Any]) -> Note:
    """Of NOTE: the machine is stopped soon, whatever runs there (``relay.strikes``)."""
    minutes = min(max(1, integer(value, "minutes")), MOST_MINUTES)
    return Note(_parent(value), f"\n[In {minutes} min: {printable(str(value.get('text', '')), LONGEST_TEXT)}]\n")


def _parent(value: dict[str, Any]) -> dict[str, Any]:
    parent = value.get("parent_header")
    if not isinstance(parent, dict):
        raise WireError("a note to a cell without parent header")
    return parent
