"""Kernels on VMs whose end is owed: what is known of each, and what follows from the facts. Pure.

A kernel on a VM is at any moment either *kept* (``kernels.keptfiles``: a notebook goes on with it, the next server process adopts
it) or *owed* (``kernels.ledger``: it is being prepared and nobody has it yet, or nobody wants it any more). What is owed is
written down before a VM hears of it and before what was kept is removed, so that a server that is killed between any two
steps leaves no kernel that nobody knows. Who finds it later decides by these tables.

    in use   kept      older than MAX_AGE   step
    yes      any       any                  LEAVE: a living process prepares it, ends it, or is just writing down where it belongs
    no       yes       any                  FORGET: it is a notebook's, or was still when its server was killed
    no       any       yes                  FORGET
    no       unknown   no                   LEAVE: what is kept cannot be read
    no       no        no                   END

    what was heard of it                                    settled
    GOODBYE shutdown: it has ended                          yes
    GONE: no relay there has it                             yes
    the machine is off, or there is none: its processes     yes
    ended with it
    GOODBYE superseded, epoch: it is another server's       yes
    GOODBYE version: nobody can adopt or end it             yes
    GOODBYE protocol, disk, or another word                 no
    nothing: out of reach, refused, no answer in time       no
"""

from __future__ import annotations

import enum
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ComputeNotRunning, DSVMError, UnknownCompute
from ..relay.wire import PIPE

if TYPE_CHECKING:
    from .keptfiles import KeptKernel

MAX_AGE = 90 * 24 * 3600.0
"""Seconds. The relay of a kernel that has ended leaves after a week at the latest (``relay.daemon``), that of one that lives never:
so this is for machines that are not known here any more."""

SETTLING_GOODBYES = frozenset({"shutdown", "superseded", "epoch", "version"})


@dataclass(frozen=True)
class OwedEnd:
    """All that it takes to end one kernel. ``tag`` and ``epoch`` let whoever may sign in to the VM do that, and nothing else."""

    tag: str
    """Of its relay's frames, in hexadecimal."""
    epoch: str
    """Of the server's end of the session with the relay."""
    compute: str
    compute_name: str
    since: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, kept: KeptKernel) -> OwedEnd:
        """Of a kernel that is kept, which it will soon not be any more."""
        return cls(kept.tag, kept.epoch, kept.compute, kept.compute_name, time.time())

    def to_json(self) -> dict[str, Any]:
        return {"version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any) -> OwedEnd:
        """Raises ``ValueError`` for what this version did not write."""
        if not isinstance(value, dict) or value.get("version") != 1:
            raise ValueError("it is of another version")
        tag, epoch, compute, name = (value.get(n) for n in ("tag", "epoch", "compute", "compute_name"))
        if not all(isinstance(t, str) and t for t in (tag, epoch, compute, name)):
            raise ValueError("a text is none")
        since = value.get("since")
        if isinstance(since, bool) or not isinstance(since, (int, float)) or since != since:
            raise ValueError("the moment is none")
        if len(bytes.fromhex(str(tag))) != len(PIPE):
            raise ValueError("the tag is none")
        return cls(str(tag), str(epoch), str(compute), str(name), float(since))


class Step(enum.Enum):
    END = "end"
    """Reach the VM, if it runs, and have the kernel ended."""
    LEAVE = "leave"
    FORGET = "forget"


@dataclass(frozen=True)
class Facts:
    in_use: bool
    """Something in a living process has it: in this one, or in another, which holds the lock."""
    kept: bool | None
    """Whether a kept kernel has this tag; None where not all that is kept can be read."""
    age: float
    """Seconds; below 0 where the clock was set back."""


def step(facts: Facts) -> Step:
    if facts.in_use:
        return Step.LEAVE
    if facts.kept or facts.age > MAX_AGE:
        return Step.FORGET
    return Step.LEAVE if facts.kept is None else Step.END


def settled_by_goodbye(reason: str) -> bool:
    """Whether nothing is owed any more once the relay has said that."""
    return reason in SETTLING_GOODBYES


def settled_by(error: DSVMError) -> bool:
    """Whether nothing is owed any more where the way to the VM has failed for good with ``error``."""
    return isinstance(error, (ComputeNotRunning, UnknownCompute))
