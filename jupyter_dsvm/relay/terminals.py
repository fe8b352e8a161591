"""Who is logged in on this machine: terminals, and SSH connections without one. Pure; for ``activity``.

A terminal of another user counts as long as it is open: the machine is not stopped under somebody. One of our own account
counts while something runs in it or it was used lately, since one that is forgotten would keep the machine on for ever. Of SSH
connections those that carry nothing but our own pipes do not count.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, List, Optional, Sequence

from .marks import HOLDER_MARK, PIPE_MARK, RELAY_BUSY, RELAY_IDLE
from .processes import Process, below, children_of

LATELY = 60.0
"""Seconds since a terminal of our own was used. The server counts the idle minutes from the last reading at which something was
busy."""

_SESSION = re.compile(r"sshd(?:-session)?: ([^\s@\[]{1,64})@(\S+)")
"""How sshd calls the process of a connection: ``sshd: anna@pts/0,pts/1``, ``sshd: anna@notty``."""

LOGIN = ("agetty", "getty", "login", "mingetty")
"""What waits on a console for somebody."""


def terminals(
    processes: Sequence[Process], own: int, idle_of: Optional[Callable[[int], Optional[float]]] = None
) -> List[str]:
    found = set()
    for leader in processes:
        if leader.tty == 0 or leader.pid != leader.session or leader.name in LOGIN:
            continue
        if leader.uid != own:
            found.add(f"another user's terminal ({leader.user})")
            continue
        idle = idle_of(leader.tty) if idle_of is not None else None
        if leader.foreground not in (leader.group, -1):
            found.add("a program runs in a terminal")
        elif idle is None or idle < LATELY:
            found.add("a terminal is in use")
    return sorted(found)


def connections(processes: Sequence[Process], own: int) -> List[str]:
    """SSH connections without a terminal: copying, tunnels, editors."""
    found = set()
    for process in processes:
        session = _SESSION.match(process.command)
        if session is None or not process.name.startswith("sshd") or "notty" not in session[2]:
            continue
        started = children_of(processes, process.pid)
        if started and all(_is_ours(processes, one) for one in started):
            continue
        other = process.uid != own
        found.add(f"another user's SSH connection ({session[1]})" if other else "an SSH connection that is not ours")
    return sorted(found)


def _is_ours(processes: Iterable[Process], process: Process) -> bool:
    """A pipe, or the shell that started it."""
    listed = list(processes)
    tree = below(listed, {process.pid})
    names = {one.name for one in listed if one.pid in tree}
    return bool(names & {PIPE_MARK, RELAY_BUSY, RELAY_IDLE, HOLDER_MARK})
