"""The gate's vocabulary: the sides behind it, the requests that are with a kernel, and what it asks to be done."""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.session import DELIM

from ..errors import DSVMError
from ..relay.wire import Channel
from .messages import Message


class Phase(enum.Enum):
    STARTING = "starting"
    ASKING = "asking"
    READY = "ready"
    ENDED = "ended"
    GONE = "gone"


class Carrying(enum.Enum):
    """What becomes of the variables at the swap that waits (``swapping.py`` has the table)."""

    NO = "no"
    WANTED = "wanted"
    UNDER_WAY = "under way"
    DONE = "done"


@dataclass
class KernelSubshells:
    """The subshells of one kernel process (``subshells.py``). A side gets a new one whenever its kernel has come up anew."""

    ids: dict[str, str] = field(default_factory=dict)
    """By front id, the kernel's own; empty while it has been asked for."""
    asked: dict[str, str] = field(default_factory=dict)
    """By the id of our ``create_subshell_request``, the front id that it is for."""
    fronts: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """By the kernel's id, the front id; kept when it is deleted, for what its threads may still say."""
    closed: OrderedDict[str, None] = field(default_factory=OrderedDict)


@dataclass
class Side:
    number: int
    compute_name: str
    language: str = ""
    interrupt_mode: str = "signal"
    trusted: bool = True
    phase: Phase = Phase.STARTING
    own: dict[str, str] = field(default_factory=dict)
    """Ids of the gate's own requests, with their type."""
    asked: dict[str, None] = field(default_factory=dict)
    """Ids of own ``execute_request``s whose replies are wanted (``Gate.ask``)."""
    stopping: str = ""
    """The id of one of these that is to end: until it has, no cell is sent there, which a signal could hit instead."""
    info: dict[str, Any] | None = None
    iopub_seen: bool = False
    reachable: bool = True
    """False while the link to its machine is down."""
    replaced: bool = False
    """It was the current side once; what it still puts out is let through until it ends."""
    inputs: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    """Ids of ``input_request``s that wait for a reply."""
    asked_earlier: bool = False
    """Adopted while a cell ran: it may wait for a reply to an ``input_request`` that an earlier server passed on."""
    asked_early: str = ""
    """The id of the ``kernel_info_request`` that was sent before the kernel process ran."""
    subshells: KernelSubshells = field(default_factory=KernelSubshells)


@dataclass
class Request:
    """A client's request that is with the kernel."""

    message: Message
    channel: Channel
    replied: bool = False
    idle: bool = False
    failed: bool = False
    """The reply had the status ``error``."""
    stop_on_error: bool = False
    subshell: str = ""
    """The front id of the subshell that it was sent to; empty for the main shell."""
    over: bool = False
    """``Answered`` has been said of it."""
    heard: bool = False
    """An earlier server process has had its reply."""

    @property
    def answered(self) -> bool:
        return self.replied and self.idle

    @property
    def awaited(self) -> bool:
        """More will be said about it. On control that is certain of the reply only."""
        return not self.replied or (self.channel is Channel.SHELL and not self.idle)


# Actions


@dataclass(frozen=True)
class ToClient:
    channel: Channel
    parts: list[bytes]


Key = tuple[str, str]
"""A request's type and id (``Message.key``)."""


@dataclass(frozen=True)
class ToBackend:
    side: int
    channel: Channel
    parts: list[bytes]
    key: Key | None = None
    """Set for what a client sent on shell or control: ``Answered`` follows, comm messages included."""


@dataclass(frozen=True)
class Arrived:
    """An ``execute_request`` of a client has come and is owed an answer. Before anything else happens with it."""

    key: Key
    parts: list[bytes]
    """As the client sent it, its routing frames in front."""


@dataclass(frozen=True)
class Heard:
    """The kernel's reply to a request of a client (``reply``), or its idle (``idle``), was passed on just now.

    Either may come first. Whoever keeps requests keeps with this the number of the kernel's message that brought it: a
    server that adopts the kernel hears again what is above the number up to which was handed on, and nothing below it.
    """

    key: Key
    what: str


@dataclass(frozen=True)
class Answered:
    """Nobody waits for an answer to this request any more: for each key of an ``Arrived`` or ``ToBackend``, once."""

    key: Key
    here: bool = False
    """The gate itself answered: aborted, or with an error. The kernel will not say it again, and it must not run again."""


@dataclass(frozen=True)
class OwnReply:
    """A kernel's answer to code that ``Gate.ask`` gave it; ``content`` is None where none will come any more."""

    side: int
    msg_id: str
    content: dict[str, Any] | None


@dataclass(frozen=True)
class Insist:
    """Code that ``Gate.ask`` gave that kernel is not wanted any more, and has been given the chance to find out: where it runs on
    for some seconds, ``Gate.insist`` is to be called."""

    side: int
    msg_id: str


@dataclass(frozen=True)
class Carry:
    """Nothing of the user's is with the old kernel, the new one is ready, and what is sent waits: now variables can go from one to
    the other. Said once for a swap that asked for it; ``Gate.carried`` or ``Gate.cancel_swap`` answers."""

    old: int
    new: int


@dataclass(frozen=True)
class Signal:
    side: int
    signum: int


@dataclass(frozen=True)
class Ready:
    """The side answers, and the magic is on its way in, before all else. For a side being prepared: it may be swapped in now."""

    side: int


@dataclass(frozen=True)
class Failed:
    """A side that was being prepared, or waited to be swapped in, will not be; the current one is untouched."""

    side: int
    error: DSVMError


@dataclass(frozen=True)
class Swapped:
    old: int
    new: int


@dataclass(frozen=True)
class UserCancelled:
    """The user interrupted, restarted or shut down: an attach that is under way must not go on."""

    reason: str


Action = (
    ToClient
    | ToBackend
    | Signal
    | Ready
    | Failed
    | Carry
    | Swapped
    | UserCancelled
    | Arrived
    | Heard
    | Answered
    | OwnReply
    | Insist
)


# Adoption


@dataclass(frozen=True)
class KeptRequest:
    """A request that an earlier server process had not seen answered, for ``Gate.adopt``."""

    parts: list[bytes]
    """As in ``Arrived``; for a request that need not be sent again ``outline(parts)`` will do."""
    channel: Channel
    sent: bool
    """It is with the kernel (its relay has it); otherwise it is sent when its turn comes."""
    replied: bool = False
    """``Heard(key, "reply")`` came, with a message that will not be heard again."""
    idle: bool = False
    """The same with ``"idle"``."""
    here: bool = False
    """``Answered(key, here=True)`` came, and the answer may not have reached who asked: it is aborted (once more)."""
    heard: bool = False
    """Its reply came to that process, and may come again: if it failed, no cell of a later time was waiting behind it."""


def outline(parts: list[bytes]) -> list[bytes]:
    """What is kept of a request that is with the kernel and not sent again: its metadata, content and buffers are left out."""
    at = parts.index(DELIM)
    return [*parts[: at + 4], b"{}", b"{}"]
