"""What a stop loses: files of the account on a VM's temporary disk, as the VM names them (``relay.temporary``).

``idlestops`` asks for it while a stop is announced, ``changes`` before one. Everything but ``ask`` is pure. What comes from a VM is
checked, cut and made printable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any

from .errors import DSVMError, printable

log = logging.getLogger("jupyter_dsvm.temporarydisk")

SECONDS = 8.0
"""For the VM to look, which gives up itself after five."""
MOST_NAMED = 20
LONGEST_NAME = 300
IN_SENTENCE = 3
MOST_COUNTED = 10**9

Ask = Callable[[str, str], "Future[Any] | None"]
"""``Connections.ask``."""


@dataclass(frozen=True)
class Lost:
    files: tuple[str, ...] = ()
    """Paths, those changed last first."""
    more: int = 0
    """Besides them."""
    bytes: int = 0
    """Of all."""
    complete: bool = True
    """False: there are more than could be counted."""

    @property
    def count(self) -> int:
        return len(self.files) + self.more

    @property
    def listed(self) -> tuple[str, ...]:
        """For ``IdleStop.lost``: the paths, and how many there are besides."""
        if not self.more:
            return self.files
        least = "" if self.complete else "at least "
        return (*self.files, f"and {least}{self.more} more" if self.files else f"{least}{_files(self.more)}")


NOTHING = Lost()


def parse(answer: Any) -> Lost:
    """Of the answer to ``temporary``."""
    if not isinstance(answer, dict):
        return NOTHING
    named = answer.get("files")
    files = [name for name in named if isinstance(name, str) and name] if isinstance(named, list) else []
    shown = tuple(printable(name, LONGEST_NAME).replace("\n", "�") for name in files[:MOST_NAMED])
    more = _count(answer.get("more")) + max(0, len(files) - MOST_NAMED)
    return Lost(shown, more, _count(answer.get("bytes"), 1 << 60), answer.get("complete") is not False)


def sentence(lost: Lost, past: bool = False) -> str:
    """ "3 files on the temporary disk are lost: /mnt/x, /mnt/y and one more (1.2 GB)."; "" where nothing is."""
    if not lost.count:
        return ""
    one = lost.count == 1 and lost.complete
    verb = ("was" if one else "were") if past else ("is" if one else "are")
    named = lost.files[:IN_SENTENCE]
    besides = lost.count - len(named)
    names = ", ".join(named)
    if named and besides:
        names += f" and {'one' if besides == 1 else besides} more"
    least = "" if lost.complete else "At least "
    size = f" ({_size(lost.bytes)})" if lost.bytes else ""
    return f"{least}{_files(lost.count)} on the temporary disk {verb} lost{': ' + names if names else ''}{size}."


def ask(asked: Ask, compute_id: str, seconds: float = SECONDS) -> Lost | None:
    """What a stop of that VM loses; None where nobody knows: it is not connected to, of an earlier version, or does not answer.
    Blocks for so long at most; raises nothing."""
    future = asked(compute_id, "temporary")
    if future is None:
        return None
    try:
        return parse(future.result(seconds))
    except (DSVMError, FutureTimeout) as e:
        log.info("What lies on the temporary disk of %s could not be found out: %s", compute_id, e)
    except Exception:
        log.exception("What lies on the temporary disk of %s could not be found out", compute_id)
    return None


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _size(size: int) -> str:
    for unit, bytes in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes:
            return f"{size / bytes:.1f} {unit}"
    return f"{size} bytes" if size != 1 else "1 byte"


def _count(value: Any, most: int = MOST_COUNTED) -> int:
    return min(max(0, value), most) if isinstance(value, int) and not isinstance(value, bool) else 0
