"""What the frames of a peer mean to the owner of a ``session.Session``: ``receive`` gives these. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, NamedTuple, Union

from .wire import Buffer


@dataclass(frozen=True)
class Attached:
    """The peer's HELLO has come; frames flow. ``hello`` is its body, for what this class does not know of."""

    version: int
    hello: Dict[str, Any]
    adopted: bool = False
    """This HELLO began an adoption: at the relay by another server, at the server of this relay."""
    renumbered: int = 0
    """What is to be added to the numbers that ``send`` has given before, when they were not known yet."""


class Received(NamedTuple):
    """A frame to act on. Sequenced ones (``seq`` > 0) come once and in order; say ``delivered(seq)`` when handed on."""

    type: int
    seq: int
    body: Buffer


@dataclass(frozen=True)
class EpochChanged:
    """The peer's state is not the one this session knows: nothing can be resumed. The state is as before the HELLO."""

    known: str
    found: str
    overtaken: bool = False
    """The epoch is right, but its place is taken: by another server, which has adopted the relay, or by a later connection."""


@dataclass(frozen=True)
class HungUp:
    """The peer said GOODBYE; unsafe text. ``reason``: superseded, detached, shutdown, protocol, epoch, version."""

    reason: str
    text: str


@dataclass(frozen=True)
class Gone:
    """No relay has this kernel; unsafe text."""

    text: str


Event = Union[Attached, Received, EpochChanged, HungUp, Gone]
