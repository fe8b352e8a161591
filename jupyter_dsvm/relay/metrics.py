"""What of this machine is in use: CPU, memory, disk and GPUs. Run by the attach pipe in a process of its own, since a disk of
another machine and a GPU's driver may take long to answer, or never do.

Printed as one line of JSON: ``{"cpu": 0..1, "cpu_times": [busy, all], "memory": [used, total], "disk": [used, total], "gpus":
[{"name", "utilization": 0..1, "memory": [used, total]}]}``, in bytes; what is not known is null, and never an error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .usage import PROC, cpu_share, cpu_times, memory_here, read

QUERY = ("--query-gpu=name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")

PLACES = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib", "/opt/bin")
"""Where nvidia-smi is where PATH does not lead to it."""

GPU_SECONDS = 4.0
"""A driver that hangs lets nvidia-smi hang with it."""

CPU_SECONDS = 0.2
"""Between two readings where there is no earlier one."""

MAX_GPUS = 64
MIB = 1024 * 1024


def measure(earlier: Optional[Tuple[int, int]] = None) -> Dict[str, Any]:
    """All of it; takes some tenths of a second, mostly for nvidia-smi. ``earlier``: ``cpu_times`` of the last time."""
    if earlier is None:
        earlier = cpu_times(read(PROC + "/stat"))
        time.sleep(CPU_SECONDS)
    # Before nvidia-smi, which is busy itself.
    now = cpu_times(read(PROC + "/stat"))
    return {
        "cpu": cpu_share(earlier, now),
        "cpu_times": now,
        "memory": memory_here(),
        "disk": disk_of(os.path.expanduser("~")),
        "gpus": parse_gpus(ask_nvidia()),
    }


def disk_of(folder: str) -> Optional[List[int]]:
    """Used and total bytes of the file system that ``folder`` is on, as ``df`` says it."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    total = stat.f_blocks * stat.f_frsize
    return [total - stat.f_bfree * stat.f_frsize, total] if total > 0 else None


def ask_nvidia() -> str:
    """What nvidia-smi prints; empty where there is none, or it takes too long."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *QUERY],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GPU_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def parse_gpus(text: str) -> List[Dict[str, Any]]:
    """One entry per line that is a GPU's. nvidia-smi prints its errors where it prints GPUs, and ``[N/A]`` and the like for what a
    driver does not say (the load of a GPU that is shared as MIG instances, the memory of one that has none of its own)."""
    found: List[Dict[str, Any]] = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 3)]
        if len(parts) != 4 or not parts[0] or not all(_is_value(part) for part in parts[1:]):
            continue
        load, used, total = (_number(part) for part in parts[1:])
        memory = [round(used * MIB), round(total * MIB)] if used is not None and total else None
        utilization = min(1.0, load / 100) if load is not None else None
        found.append({"name": parts[0], "utilization": utilization, "memory": memory})
    return found[:MAX_GPUS]


def _is_value(text: str) -> bool:
    return _number(text) is not None or text == "N/A" or (text.startswith("[") and text.endswith("]"))


def _number(text: str) -> Optional[float]:
    return float(text) if text.replace(".", "", 1).isdigit() and text.isascii() else None


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """``arguments``: the ``cpu_times`` of the last time, or none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    earlier = (int(given[0]), int(given[1])) if len(given) == 2 else None
    sys.stdout.write(json.dumps(measure(earlier)) + "\n")


if __name__ == "__main__":
    main()
