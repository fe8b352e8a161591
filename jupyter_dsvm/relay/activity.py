"""What is going on on this machine, for the server that would stop it when nothing is: run by the attach pipe in a process of
its own.

Theory. A machine is busy for as long as something says so; whatever cannot be looked at counts as busy too, with its reason.
Looked at are the processes (everybody's: relays and the terminals and SSH connections of people), and, over two readings, CPU,
disk, network and GPUs. What a machine does by itself (agents, updates of lists) is below the thresholds.

Printed as one line of JSON: ``{"busy": [{"kind", "text"}], "leases": [{"holder", "left", "why"}], "up", "boot", "wall",
"counters"}``. ``counters`` is what the next reading gets as its argument. The pure part is ``reasons``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from . import metrics
from .leases import Leases, seconds_up
from .marks import HOLDER_MARK, RELAY_BUSY, RELAY_IDLE
from .processes import Process, below, is_kernel, read_processes
from .record import boot_id
from .terminals import connections, terminals
from .usage import PROC, read

INTERVAL = 2.0
"""Seconds between two readings where there is no earlier one."""

CORES = 0.25
"""Of one core's time. In cores, not in shares of the machine: one program that computes is 1 % of a large machine."""
GPU = 0.02
DISK = 1024 * 1024
"""Bytes per second, read and written."""
NETWORK = 128 * 1024
"""Bytes per second, in and out. Kernels that do nothing, and we ourselves, need less than a hundredth of it."""

GPU_FOLDER = PROC + "/driver/nvidia/gpus"
SECTOR = 512


class Counters(NamedTuple):
    """What goes up for as long as the machine runs."""

    up: float
    """Seconds since it was started."""
    cpu: Optional[float]
    """Seconds of cores."""
    disk: Optional[int]
    network: Optional[int]
    boot: str


class Busy(NamedTuple):
    kind: str
    """``kernel``, ``terminal``, ``connection``, ``cpu``, ``gpu``, ``disk``, ``network`` or ``unknown``."""
    text: str
    """What people are told: "another user's SSH connection (anna)"."""


# Pure


def reasons(
    processes: Optional[Sequence[Process]],
    own: int,
    earlier: Optional[Counters],
    now: Counters,
    gpus: Optional[Sequence[Optional[float]]],
    idle_of: Any = None,
) -> List[Busy]:
    """Why the machine is busy; none if it is idle. ``own``: our account. ``processes``: None where others' are hidden from us.
    ``gpus``: load of each; None where it has some and nobody knows. ``idle_of(tty)``: seconds since a terminal was used, or
    None."""
    found = []
    if processes is None:
        found.append(Busy("unknown", "other users' processes are hidden here, so nobody knows what they do"))
    else:
        found += kernels(processes)
        found += [Busy("terminal", text) for text in terminals(processes, own, idle_of)]
        found += [Busy("connection", text) for text in connections(processes, own)]
    found += load(earlier, now)
    if gpus is None:
        found.append(Busy("unknown", "the GPUs do not say how busy they are"))
    else:
        unknown = sum(1 for one in gpus if one is None)
        most = max((one for one in gpus if one is not None), default=0.0)
        if most >= GPU:
            found.append(Busy("gpu", f"a GPU is at {most:.0%}"))
        if unknown:
            found.append(Busy("unknown", f"{unknown} of {len(gpus)} GPUs do not say how busy they are"))
    return found


def kernels(processes: Sequence[Process]) -> List[Busy]:
    """Ours, of all accounts, by the names of their relays; and others, of which nobody knows whether they run something."""
    found = []
    running = sum(1 for p in processes if p.name == RELAY_BUSY)
    if running:
        found.append(Busy("kernel", "a cell runs" if running == 1 else f"cells run in {running} notebooks"))
    ours = below(processes, {p.pid for p in processes if p.name in (RELAY_BUSY, RELAY_IDLE, HOLDER_MARK)})
    for name in sorted({p.user for p in processes if is_kernel(p) and p.pid not in ours}):
        found.append(
            Busy("unknown", f"a kernel that was not started from here ({name}): nobody knows whether it runs something")
        )
    return found


def load(earlier: Optional[Counters], now: Counters) -> List[Busy]:
    """Between two readings. Whatever cannot be compared is unknown, and so busy: the next reading can."""
    if earlier is None or earlier.boot != now.boot or now.up <= earlier.up:
        return [Busy("unknown", "there is only one reading of CPU, disk and network so far")]
    seconds = now.up - earlier.up
    found = []
    for kind, before, after, most, words in (
        ("cpu", earlier.cpu, now.cpu, CORES, "the CPU is busy ({:.1f} cores)"),
        ("disk", earlier.disk, now.disk, DISK, "the disks are busy ({:.1f} MB/s)"),
        ("network", earlier.network, now.network, NETWORK, "the network is busy ({:.1f} MB/s)"),
    ):
        if before is None or after is None or after < before:
            found.append(Busy("unknown", f"nobody knows how busy the {kind} is"))
        elif (after - before) / seconds >= most:
            rate = (after - before) / seconds
            found.append(Busy(kind, words.format(rate if kind == "cpu" else rate / 1e6)))
    return found


def disk_bytes(diskstats: Optional[str], whole: Iterable[str]) -> Optional[int]:
    """Of /proc/diskstats: read and written by the ``whole`` disks, not counted again for their partitions."""
    disks, total, seen = set(whole), 0, False
    for line in (diskstats or "").splitlines():
        parts = line.split()
        if len(parts) >= 10 and parts[2] in disks and parts[5].isdigit() and parts[9].isdigit():
            total += (int(parts[5]) + int(parts[9])) * SECTOR
            seen = True
    return total if seen else None


def network_bytes(dev: Optional[str]) -> Optional[int]:
    """Of /proc/net/dev: in and out, of all but the loopback interface."""
    total, seen = 0, False
    for line in (dev or "").splitlines():
        name, colon, rest = line.partition(":")
        parts = rest.split()
        if colon and len(parts) >= 9 and parts[0].isdigit() and parts[8].isdigit():
            seen = True
            if name.strip() != "lo":
                total += int(parts[0]) + int(parts[8])
    return total if seen else None


def cpu_seconds(stat: Optional[str], ticks: int) -> Optional[float]:
    """Of /proc/stat: what all cores have worked, also for what waits for nothing else (nice)."""
    first = (stat or "").split("\n", 1)[0].split()
    if len(first) < 8 or first[0] != "cpu" or not all(part.isdigit() for part in first[1:]) or ticks <= 0:
        return None
    user, nice, system, _, _, irq, soft = (int(part) for part in first[1:8])
    return (user + nice + system + irq + soft) / ticks


def from_argument(text: str) -> Optional[Counters]:
    """What an earlier reading said, as the pipe kept it."""
    try:
        up, cpu, disk, network, boot = json.loads(text)
        return Counters(float(up), _number(cpu, float), _number(disk, int), _number(network, int), str(boot))
    except (ValueError, TypeError):
        return None


def _number(value: Any, kind: Any) -> Any:
    return None if value is None else kind(value)


# This machine


def counters() -> Counters:
    return Counters(
        seconds_up(),
        cpu_seconds(read(PROC + "/stat"), os.sysconf("SC_CLK_TCK")),
        disk_bytes(read(PROC + "/diskstats"), _whole_disks()),
        network_bytes(read(PROC + "/net/dev")),
        boot_id(),
    )


def _whole_disks() -> List[str]:
    try:
        names = os.listdir("/sys/block")
    except OSError:
        return []
    # Loop devices and those in memory are no disks, and those that are made of others are counted with them.
    return [name for name in names if not re.match(r"loop|ram|zram|dm-|md|sr|fd", name)]


def gpu_loads() -> Optional[List[Optional[float]]]:
    """Of each GPU; a load that is not known is 0 where no program uses the GPU. None where the machine has some, and they say
    nothing."""
    found = [gpu["utilization"] for gpu in metrics.parse_gpus(metrics.ask_nvidia())]
    if not found:
        return None if has_gpu() else []
    if None in found and not _gpu_programs():
        return [0.0 if load is None else load for load in found]
    return found


def has_gpu() -> bool:
    try:
        return bool(os.listdir(GPU_FOLDER))
    except OSError:
        return os.path.exists("/dev/nvidia0")


def _gpu_programs() -> bool:
    """Whether any computes on a GPU; True also where nobody says."""
    program = shutil.which("nvidia-smi", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *metrics.PLACES]))
    if program is None:
        return True
    query = [program, "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=metrics.GPU_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return True
    printed = done.stdout.decode("utf-8", "replace").strip()
    return done.returncode != 0 or (bool(printed) and "no running" not in printed.lower())


def tty_idle(tty: int) -> Optional[float]:
    """Seconds since a terminal was written to, by a person or a program; None where nobody knows."""
    major, minor = os.major(tty), os.minor(tty)
    path = f"/dev/pts/{minor + 256 * (major - 136)}" if 136 <= major <= 143 else f"/dev/tty{minor}"
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if stat.st_rdev != tty:
        return None
    return max(0.0, time.time() - max(stat.st_atime, stat.st_mtime))


def look(earlier: Optional[Counters] = None) -> Dict[str, Any]:
    """All of it. Takes ``INTERVAL`` where there is no earlier reading, and some tenths of a second for nvidia-smi."""
    if earlier is None:
        earlier = counters()
        time.sleep(INTERVAL)
    # Before nvidia-smi, which is busy itself.
    now, wall = counters(), time.time()
    processes = read_processes()
    found = reasons(processes, os.getuid(), earlier, now, gpu_loads(), tty_idle)
    return {
        "busy": [one._asdict() for one in found],
        "leases": [lease.as_json() for lease in Leases().read()],
        "up": round(now.up, 3),
        "boot": now.boot,
        "wall": round(wall, 3),
        "counters": list(now),
    }


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """``arguments``: the ``counters`` of the last reading as JSON, or none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.stdout.write(json.dumps(look(from_argument(given[0]) if given else None)) + "\n")


if __name__ == "__main__":
    main()
