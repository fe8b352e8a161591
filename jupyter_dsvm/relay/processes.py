"""Everybody's processes on this machine, from /proc: what ``activity`` looks at. A process that ends meanwhile is left out."""

from __future__ import annotations

import os
import pwd
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from .usage import PROC, read

_KERNEL = re.compile(
    r"(^|[\s/])ipykernel(_launcher)?(\s|$)|\bIRkernel::main\b|[/\s]kernel-[0-9a-f-]{8,40}\.json(\s|$)|\bxeus|\bxpython\b"
)
"""In a command line: how kernels are started by Jupyter servers."""


class Process(NamedTuple):
    pid: int
    parent: int
    group: int
    session: int
    tty: int
    """The terminal's device number; 0 without one."""
    foreground: int
    """The process group that has the terminal."""
    uid: int
    user: str
    name: str
    """What ``ps`` calls it: 15 bytes, which it may have chosen itself."""
    command: str


def parse(stat: Optional[str], status: Optional[str], command: str, user_of: Names) -> Optional[Process]:
    """Of /proc/PID/stat, .../status and .../cmdline; None where they make no sense, or it is a thread of the system's own."""
    try:
        head, _, rest = (stat or "").rpartition(")")
        pid, _, name = head.partition(" (")
        fields = rest.split()
        uid = int(next(line for line in (status or "").splitlines() if line.startswith("Uid:")).split()[1])
        state, parent, group, session, tty, foreground = fields[0], *(int(field) for field in fields[1:6])
        if state in ("Z", "X"):
            return None
        return Process(int(pid), parent, group, session, tty, foreground, uid, user_of(uid), name, command)
    except (ValueError, IndexError, StopIteration):
        return None


class Names:
    """Users' names, each looked up once; some machines ask another one for them."""

    def __init__(self) -> None:
        self._known: Dict[int, str] = {}

    def __call__(self, uid: int) -> str:
        if uid not in self._known:
            try:
                self._known[uid] = pwd.getpwuid(uid).pw_name
            except (KeyError, OSError):
                self._known[uid] = str(uid)
        return self._known[uid]


def read_processes() -> Optional[List[Process]]:
    """None where others' are hidden (``hidepid``), so that nobody knows what they do."""
    if read(PROC + "/1/stat") is None or not os.path.exists(PROC + "/1/comm"):
        return None
    names, found = Names(), []
    for entry in os.listdir(PROC):
        if entry.isdigit():
            folder = os.path.join(PROC, entry)
            command = (read(folder + "/cmdline") or "").replace("\0", " ").strip()
            process = parse(read(folder + "/stat"), read(folder + "/status"), command[:4096], names)
            if process is not None:
                found.append(process)
    return found


def below(processes: Iterable[Process], roots: Set[int]) -> Set[int]:
    """The processes that ``roots`` have started, directly or not, and the roots."""
    children: Dict[int, List[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    found, left = set(roots), list(roots)
    while left:
        for pid in children.get(left.pop(), ()):
            if pid not in found:
                found.add(pid)
                left.append(pid)
    return found


def is_kernel(process: Process) -> bool:
    return bool(process.command and _KERNEL.search(process.command))


def children_of(processes: Sequence[Process], pid: int) -> List[Process]:
    return [process for process in processes if process.parent == pid]
