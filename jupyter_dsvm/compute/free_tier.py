"""``FreeTier``: the Jupyter server that serves the page, with the memory and the CPUs that it may use.

The limits are read anew for each listing, since a hub may change them, and it is a few small files.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from traitlets import Float, Unicode
from traitlets.config import Configurable

from ..errors import OperationRefused, UnknownCompute
from ..models import FREE, OS, Compute, ComputeKind, PowerState, Size, SizeOffer, SSHTarget
from .provider import Cancel, Listing, Memo, Report

GIB = 1024**3

_V1_UNLIMITED = 2**60
"""cgroup v1 writes "no limit" as a number near 2**63."""


class FreeTier(Configurable):
    """The compute that is always there: this server."""

    prefix = FREE

    name = Unicode("Free tier", help="What the page calls this server.").tag(config=True)
    memory_gib = Float(
        None,
        allow_none=True,
        help="Memory that kernels may use here, in GiB. The default is MEM_LIMIT (which JupyterHub sets), else the "
        "limit of this process's control group, else the machine's memory.",
    ).tag(config=True)

    cgroups = Path("/sys/fs/cgroup")
    own_cgroup = Path("/proc/self/cgroup")

    def list(self) -> Listing:
        return Listing((self.get(FREE),))

    def get(self, compute_id: str) -> Compute:
        if compute_id != FREE:
            raise UnknownCompute(f"There is no free tier called {compute_id!r}.", advice=f"Its id is {FREE!r}.")
        return Compute(
            id=FREE,
            name=self.name,
            kind=ComputeKind.FREE,
            power_state=PowerState.RUNNING,
            os=OS.WINDOWS if sys.platform == "win32" else OS.LINUX,
            size=Size(FREE, vcpus=self._vcpus(), memory_gib=self._memory(), gpus=None),
        )

    def start(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        """It always runs."""
        return self.get(compute_id)

    def stop(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise _refused("stopped")

    def restart(self, compute_id: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise _refused("restarted")

    def sizes(self, compute_id: str) -> tuple[Sequence[SizeOffer], str]:
        raise _refused("resized")

    def resize(self, compute_id: str, size: str, report: Report, cancel: Cancel, memo: Memo | None = None) -> Compute:
        raise _refused("resized")

    def ssh_target(self, compute_id: str) -> SSHTarget:
        raise OperationRefused("The free tier is this server; there is no SSH to it.", advice="Name a VM or a host.")

    def close(self) -> None:
        """Nothing is held open."""

    def _memory(self) -> float | None:
        """GiB."""
        if self.memory_gib is not None:
            return float(self.memory_gib)
        limit = _number(os.environ.get("MEM_LIMIT"))
        limits = [limit] if limit else [*self._memory_limits(), _total_memory()]
        found = [each for each in limits if each]
        return round(min(found) / GIB, 2) if found else None

    def _vcpus(self) -> int | None:
        """A limit of half a CPU counts as one."""
        limit = _number(os.environ.get("CPU_LIMIT"))
        affinity = getattr(os, "sched_getaffinity", None)
        counts = [limit] if limit else [*self._cpu_limits(), len(affinity(0)) if affinity else os.cpu_count()]
        found = [count for count in counts if count]
        return max(1, math.ceil(min(found))) if found else None

    def _memory_limits(self) -> Iterator[float]:
        for folder in self._folders("memory"):
            for file in ("memory.max", "memory.limit_in_bytes"):
                limit = _number(_read(folder / file))
                if limit and limit < _V1_UNLIMITED:
                    yield limit

    def _cpu_limits(self) -> Iterator[float]:
        for folder in self._folders("cpu"):
            quota, _, period = (_read(folder / "cpu.max") or "").partition(" ")
            if not period:
                quota, period = _read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or ""
            parts = _number(quota), _number(period)
            if parts[0] and parts[1]:
                yield parts[0] / parts[1]

    def _folders(self, controller: str) -> Iterator[Path]:
        """This process's group and all above it, in version 2 and version 1: the smallest limit of them counts."""
        for line in (_read(self.own_cgroup) or "").splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if controllers and controller not in controllers.split(","):
                continue
            root = self.cgroups / controllers if controllers else self.cgroups
            group = root / path.strip().lstrip("/")
            # In a container the path may be one of the machine outside, of which only the root is mounted here.
            yield root
            while group != root and root in group.parents:
                yield group
                group = group.parent


def _refused(what: str) -> OperationRefused:
    return OperationRefused(
        f"The free tier cannot be {what}: it is the Jupyter server itself.",
        advice="Use the server's own menu (File, Shut Down) or the hub's control panel.",
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None


def _number(text: Any) -> float | None:
    """A number above 0; None for ``max``, ``-1``, nothing and anything else."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _total_memory() -> float | None:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # no such name on this system
        return None
