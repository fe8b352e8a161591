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
from ..models import FREE, OS, Compute, ComputeKind, Metrics, PowerState, Size, SizeOffer, SSHTarget, Usage, utc_now
from ..relay import usage as machine
from ..relay.deaths import Look
from .provider import Cancel, Listing, Memo, Report
from .usage import DataUse, own_volume, tree_memory

GIB = 1024**3

ENFORCED = 1.02
"""A control group whose limit is no more than so many times ours is what keeps us to it; a wider one counts others, too."""


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

    data_gib = Float(
        None,
        allow_none=True,
        help="Data that a user may keep here, in GiB, for the gauge in the page; it is not enforced. The default is the size "
        "of the volume where `data_dir` is one of its own, else there is no gauge.",
    ).tag(config=True)
    data_dir = Unicode(
        "",
        help="The folder whose files count as the user's data. The default is the folder that the server serves, else the "
        "home folder.",
    ).tag(config=True)

    cgroups = Path(machine.CGROUPS)
    own_cgroup = Path(machine.PROC) / "self" / "cgroup"
    proc = Path(machine.PROC)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._data = DataUse()

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
        """Ends a count of files that is under way."""
        self._data.close()

    # What is in use

    def metrics(self) -> Metrics:
        """What ``GET computes/free/metrics`` answers. Blocks for some milliseconds; files are counted behind its back."""
        memory = self.memory_look().memory
        return Metrics(FREE, utc_now(), memory=_usage(memory) if memory is not None else None, disk=self.data_use())

    def memory_look(self) -> Look:
        """What of the memory is in use that may be, and how many processes were ended for want of it."""
        folders = [str(folder) for folder in self._folders("memory")]
        kills = machine.kills(iter(folders), machine.read(str(self.proc / "vmstat")))
        return Look(kills, self._memory_use(folders))

    def _memory_use(self, folders: Sequence[str]) -> machine.Memory | None:
        limit = self._memory()
        whole = machine.machine_memory(machine.read(str(self.proc / "meminfo")))
        if limit is None:
            return whole
        total = int(limit * GIB)
        group = machine.group_memory(iter(folders))
        if group is not None and group.total <= total * ENFORCED:
            return machine.Memory(group.used, total)
        if whole is not None and whole.total <= total * ENFORCED:
            return machine.Memory(whole.used, total)
        used = tree_memory(self.proc, os.getpid())
        return machine.Memory(used, total) if used is not None else None

    def data_use(self) -> Usage | None:
        """Of the data that a user may keep here; None where there is no limit, or before it was counted. Blocks for a moment."""
        folder = self.data_dir or str(getattr(self.parent, "root_dir", None) or "") or os.path.expanduser("~")
        volume = own_volume(folder, machine.read(str(self.proc / "self" / "mountinfo")))
        if self.data_gib is None:
            return _usage(volume) if volume is not None else None
        used = volume.used if volume is not None else self._data.of(folder)
        return _usage(machine.Memory(used, int(self.data_gib * GIB))) if used is not None else None

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
            limit = machine.group_limit(str(folder))
            if limit:
                yield float(limit)

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
        for folder in machine.group_folders(_read(self.own_cgroup), controller, str(self.cgroups)):
            yield Path(folder)


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


def _usage(memory: machine.Memory) -> Usage:
    return Usage(round(memory.used / GIB, 3), round(memory.total / GIB, 3))


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
