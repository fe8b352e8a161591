"""The runs of a kernel on a VM, as its relay tells of them: which were asked for, have started, have ended. Pure.

The relay counts them from 1, one more for each restart. It is not trusted: what cannot be right is a ``WireError``.
"""

from __future__ import annotations

from typing import Any

from ..relay.wire import WireError


class RunsThere:
    def __init__(self, asked: int = 0, started: int = 0) -> None:
        """For an adopter: what the earlier server process knew. ``started`` is the last run that had come to answer."""
        self.asked = asked
        self.started = started
        """The latest run that has told of its start."""
        self._told = 0

    def starts(self, value: dict[str, Any]) -> None:
        """STARTED came."""
        run = self._run(value)
        if run <= self.started:
            raise WireError(f"run {run} of the kernel starts once more")
        self.started = run

    def ends(self, value: dict[str, Any]) -> bool:
        """EXITED came; whether it says something new. A SHUTDOWN is confirmed even where the end was told before."""
        run = self._run(value)
        if run <= self._told and self._told:
            return False
        self._told = max(run, 1)  # a kernel that never ran is run 0
        return True

    def adopted(self, value: dict[str, Any]) -> str:
        """What the relay told the earlier process, up to where this one goes on; the rest follows as always.

        ``started``: there is a run that the earlier process had not come to know; ``ended``: and none after it has
        started; ``absent``: there was never any; else empty.
        """
        known, asked = self.started, self.asked
        self.asked = integer(value, "runs")
        run = self._run(value)
        ended = "code" in value
        self.started, self._told = run, run if ended else run - 1
        if value.get("phase") == "absent":
            return "absent"
        if ended:
            return "ended"
        # The second case: it was to be restarted, and the relay never heard of that.
        return "started" if run > known or (asked > known and self.asked == run) else ""

    def _run(self, value: dict[str, Any]) -> int:
        run = integer(value, "run")
        if not 0 <= run <= self.asked:
            raise WireError(f"run {run} of a kernel that was started {self.asked} times")
        return run


def integer(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 1 << 63:
        raise WireError(f"{name} is no number")
    return number


def memory_of(value: dict[str, Any]) -> int | None:
    """EXITED's word on a kernel that was ended for want of memory: how many bytes there are."""
    if value.get("out_of_memory") is None:
        return None
    return max(0, integer(value, "out_of_memory"))
