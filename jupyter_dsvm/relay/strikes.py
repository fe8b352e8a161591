"""When Azure's auto-shutdown schedule stops this machine: kept here by whoever set it, read by every relay of the account, which
says it in the cell that runs.

Theory. The server that sets the schedule may be gone when it strikes: that is what it is for. So it tells the machine beforehand
(``strikes``, asked of the pipe), and the moment is kept by the machine's own count of seconds since it was started, as leases
are. A relay reads it while a cell runs. ``Warner``, which is pure, says when something is to be said.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, NamedTuple, Optional

from .folders import beside_kernels, private_folder, write_private
from .leases import seconds_up
from .record import boot_id

LONGEST = 48 * 3600.0
"""Seconds; the schedule is daily."""
LONGEST_TEXT = 300
LONGEST_FILE = 4096
NAME = "strike"
NEW = ".new"

STEPS = (15 * 60.0, 5 * 60.0)
"""Seconds before it at which a cell is told."""
SAME = 120.0
"""Seconds by which a moment that is told again may differ: it is in whole minutes, and the way there takes a while."""
SETTLED = 5.0
"""Seconds that a cell has run before it is told: one that is over in a moment has nothing to fear."""


class Strike(NamedTuple):
    left: float
    """Seconds."""
    text: str
    """A sentence that says what happens, and at what time."""

    def as_json(self) -> Dict[str, Any]:
        return {"in": round(self.left, 1), "text": self.text}


class StrikeError(Exception):
    """What was asked for cannot be, with the reason."""


class Strikes:
    def __init__(self, folder: Optional[str] = None) -> None:
        self.folder = folder if folder is not None else beside_kernels("strikes")

    def set(self, seconds: Any, text: Any) -> Optional[Strike]:
        """The schedule strikes in so many seconds; None: it does not. The last word counts, whichever server's it is, since the
        machine has one schedule. What is known afterwards.

        Raises ``StrikeError``, or ``OSError`` where the folder is not ours alone or the disk takes nothing.
        """
        path = os.path.join(private_folder(self.folder), NAME)
        if seconds is None:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            return None
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
            raise StrikeError(f"it strikes in 0 to {LONGEST:g} seconds, not {seconds!r:.100}")
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TEXT or not text.isprintable():
            raise StrikeError(f"what is said then is a line of up to {LONGEST_TEXT} characters")
        value = {"at": seconds_up() + seconds, "boot": boot_id(), "text": text}
        # Two servers may write at once: a name of its own for each, and whole under the one that is read.
        new = f"{path}.{os.getpid()}{NEW}"
        write_private(new, json.dumps(value).encode())
        os.replace(new, path)
        return self.read()

    def read(self) -> Optional[Strike]:
        """None where nothing is known, or it is over, or it was of another run of the machine."""
        try:
            with open(os.path.join(self.folder, NAME), "rb") as f:
                value = json.loads(f.read(LONGEST_FILE))
            left, text = float(value["at"]) - seconds_up(), value["text"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        fitting = isinstance(text, str) and len(text) <= LONGEST_TEXT and text.isprintable()
        return Strike(left, text) if fitting and value.get("boot") == boot_id() and 0 < left <= LONGEST else None


class Warner:
    """What the cell that runs has been told. Pure; times are of one clock that only goes forward."""

    def __init__(self) -> None:
        self._cell = ""
        self._since = 0.0
        self._told = 0
        """How many of ``STEPS`` for the moment ``_at``."""
        self._at = 0.0

    def due(self, cell: str, strike: Optional[Strike], now: float) -> Optional[int]:
        """Minutes that are left, if that is to be said now in ``cell``, the request that runs; at each of ``STEPS`` once.

        To be asked every few seconds with what is known at that moment. One that was moved on comes with more time left, and
        nothing is said of it; one that is told anew for about the same moment is the same.
        """
        if cell != self._cell:
            self._cell, self._since, self._told = cell, now, 0
        if strike is None:
            return None
        at = now + strike.left
        if abs(at - self._at) > SAME:
            self._told = 0
        step = sum(1 for seconds in STEPS if strike.left <= seconds)
        if step <= self._told or now < self._since + SETTLED:
            return None
        self._told, self._at = step, at
        return max(1, round(strike.left / 60))
