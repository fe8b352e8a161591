"""Whether a kernel was ended for want of memory. The rule is pure; ``Watch`` keeps what it needs to know beforehand.

The relay watches its machine with it; the server watches the free tier. Looking again after the death is not enough: by then the
memory is free again.

    exit code        processes ended for want of memory   memory at the last looks   out of memory
    SIGKILL          one more than at an earlier look     any                        yes
    SIGKILL          no more, or not counted              90 % or more               yes
    SIGKILL          no more, or not counted              less, or unknown           no
    anything else    any                                  any                        no
"""

from __future__ import annotations

import time
from collections import deque
from typing import Callable, Deque, NamedTuple, Optional, Sequence

from .usage import Memory, kills_here, memory_here

KILLED = (-9, 128 + 9)
"""SIGKILL, as a parent sees it, and as a shell in between says it."""

NEARLY_FULL = 0.9

LOOK_EVERY = 2.0
"""Seconds between two looks."""

LOOKS = 2
"""That many are kept: the newest may have come after the kill, which is seen only when the process is looked at. No more, since
what was long ago is not the reason."""


class Look(NamedTuple):
    kills: Optional[int]
    memory: Optional[Memory]


def out_of_memory(code: int, before: Sequence[Look], after: Look) -> Optional[int]:
    """The limit (bytes) at which a process that ended with ``code`` was out of memory; None where it was not, or nobody knows."""
    looks = [*before, after]
    limits = [look.memory.total for look in looks if look.memory is not None]
    if code not in KILLED or not limits:
        return None
    counted = [look.kills for look in before if look.kills is not None]
    more = after.kills is not None and bool(counted) and after.kills > min(counted)
    full = any(look.memory is not None and look.memory.used >= NEARLY_FULL * look.memory.total for look in looks)
    return limits[-1] if more or full else None


def look_here() -> Look:
    return Look(kills_here(), memory_here())


class Watch:
    """Looks at the memory now and then. Its owner calls ``step`` as often as it likes, and ``verdict`` at a death. One that may
    not be kept waiting has another thread ``look``, and only does the ``keep``."""

    def __init__(self, look: Callable[[], Look] = look_here, every: float = LOOK_EVERY) -> None:
        self._look = look
        self._every = every
        self._looks: Deque[Look] = deque(maxlen=LOOKS)
        self._next = 0.0

    def step(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self.keep(self.look())

    def look(self) -> Look:
        return self._look()

    def keep(self, look: Look) -> None:
        self._looks.append(look)

    def verdict(self, code: int) -> Optional[int]:
        """``out_of_memory``, just after a death."""
        return out_of_memory(code, list(self._looks), self._look()) if code in KILLED else None
