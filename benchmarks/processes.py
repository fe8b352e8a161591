"""What the system says about processes: CPU time and memory (Linux, ``/proc``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far, of all their threads; in steps of 10 ms."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


@dataclass(frozen=True)
class Memory:
    """MiB. ``pss`` counts a page that several processes share in equal parts: files of the same Python, for one."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(value) / 1024 for name, value in re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)}
    return Memory(found["Rss"], found["Pss"])


def private(pid: int) -> float:
    """MiB that this process alone has (USS): what its end would give back."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(value) for value in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE)) / 1024


def rss_now(pid: int) -> float:
    """MiB; cheap enough to be asked many times a second."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which that process listens."""
    return {port for inode, port in _listeners().items() if inode in _socket_inodes(pid)}


def unix_sockets(pid: int) -> set[str]:
    """The paths of the unix sockets that that process has bound, without abstract ones."""
    own, found = _socket_inodes(pid), set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[6] in own and fields[7].startswith("/"):
            found.add(fields[7])
    return found


def _listeners() -> dict[str, int]:
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
