"""How much memory and CPU is in use on this machine: from /proc, and from the control groups that this process is in.

For ``metrics`` and ``deaths`` over there, and for the free tier, which is a machine with a smaller limit. Functions of small
files; what cannot be read is None, never 0. Bytes.
"""

from __future__ import annotations

import os
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

PROC = "/proc"
CGROUPS = "/sys/fs/cgroup"

_V1_UNLIMITED = 2**60
"""cgroup v1 writes "no limit" as a number near 2**63."""

MAX_FILE = 256 * 1024


class Memory(NamedTuple):
    used: int
    total: int


def read(path: str) -> Optional[str]:
    """A small file's text; None where it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read(MAX_FILE)
    except OSError:
        return None


def whole(text: Optional[str]) -> Optional[int]:
    """A number above 0; None for ``max``, ``-1``, nothing and anything else."""
    try:
        value = int((text or "").strip())
    except ValueError:
        return None
    return value if value > 0 else None


def fields(text: Optional[str]) -> Dict[str, int]:
    """Lines of ``name number`` or ``name: number kB``, the latter as bytes."""
    found = {}
    for line in (text or "").splitlines():
        parts = line.replace(":", " ").split()
        if len(parts) >= 2 and parts[1].isdigit():
            found[parts[0]] = int(parts[1]) * (1024 if parts[2:] == ["kB"] else 1)
    return found


# The machine


def machine_memory(meminfo: Optional[str]) -> Optional[Memory]:
    """Of /proc/meminfo: all that programs could not have without somebody's losing it."""
    values = fields(meminfo)
    total = values.get("MemTotal")
    if not total:
        return None
    # Before Linux 3.14 there was no MemAvailable.
    plain = sum(values.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
    return Memory(max(0, total - min(total, values.get("MemAvailable", plain))), total)


def cpu_times(stat: Optional[str]) -> Optional[Tuple[int, int]]:
    """(busy, all) of /proc/stat, in ticks since the machine began."""
    first = (stat or "").split("\n", 1)[0].split()
    if len(first) < 6 or first[0] != "cpu" or not all(part.isdigit() for part in first[1:]):
        return None
    # What guests use is counted in user and nice already.
    ticks = [int(part) for part in first[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def cpu_share(before: Optional[Tuple[int, int]], now: Optional[Tuple[int, int]]) -> Optional[float]:
    """0 to 1 between two readings; None where there is no time between them."""
    if before is None or now is None or now[1] <= before[1]:
        return None
    return min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1])))


# Control groups


def group_folders(own: Optional[str], controller: str, root: str = CGROUPS) -> Iterator[str]:
    """The folders of the group that /proc/self/cgroup (``own``) names and of all above it, in version 2 and version 1, each after
    its root: the smallest limit of them counts."""
    for line in (own or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = os.path.join(root, controllers) if controllers else root
        # In a container the path may be one of the machine outside, of which only the root is mounted here.
        yield top
        group = os.path.normpath(os.path.join(top, path.strip().lstrip("/")))
        while group != top and group.startswith(top + os.sep):
            yield group
            group = os.path.dirname(group)


def group_limit(folder: str) -> Optional[int]:
    limits = (whole(read(os.path.join(folder, name))) for name in ("memory.max", "memory.limit_in_bytes"))
    return next((limit for limit in limits if limit and limit < _V1_UNLIMITED), None)


def group_memory(folders: Iterator[str]) -> Optional[Memory]:
    """What counts against the smallest limit among these groups; None where none has one.

    Without the part of the page cache that is not in use: it is given up before anything is refused, or ended.
    """
    limited = [(limit, folder) for folder in folders for limit in [group_limit(folder)] if limit]
    for limit, folder in sorted(limited):
        for current, inactive in (
            ("memory.current", "inactive_file"),
            ("memory.usage_in_bytes", "total_inactive_file"),
        ):
            used = whole(read(os.path.join(folder, current)))
            if used is not None:
                cache = fields(read(os.path.join(folder, "memory.stat"))).get(inactive, 0)
                return Memory(max(0, used - cache), limit)
    return None


def kills(folders: Iterator[str], vmstat: Optional[str]) -> Optional[int]:
    """How many processes were ended since nobody had memory for them: of this process's own group, else of the machine."""
    for folder in sorted(set(folders), key=len, reverse=True):
        for name in ("memory.events", "memory.oom_control"):
            counted = fields(read(os.path.join(folder, name))).get("oom_kill")
            if counted is not None:
                return counted
    return fields(vmstat).get("oom_kill")


def memory_here() -> Optional[Memory]:
    """Of this machine; where it is a container with a limit, against that."""
    machine = machine_memory(read(PROC + "/meminfo"))
    group = group_memory(group_folders(read(PROC + "/self/cgroup"), "memory"))
    if group is not None and (machine is None or group.total < machine.total):
        return group
    return machine


def kills_here() -> Optional[int]:
    return kills(group_folders(read(PROC + "/self/cgroup"), "memory"), read(PROC + "/vmstat"))
