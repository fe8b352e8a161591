"""The free tier's limits, from files of every kind of control group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_dsvm.compute.free_tier import GIB, FreeTier
from jupyter_dsvm.compute.provider import Cancel, ComputeProvider
from jupyter_dsvm.errors import OperationRefused, UnknownCompute
from jupyter_dsvm.models import FREE, ComputeKind, PowerState


@pytest.fixture(autouse=True)
def _no_limits_of_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    monkeypatch.delenv("CPU_LIMIT", raising=False)


def tier(tmp_path: Path, own: str, files: dict[str, str]) -> FreeTier:
    free = FreeTier()
    free.cgroups = tmp_path / "cgroup"
    free.own_cgroup = tmp_path / "own"
    free.own_cgroup.write_text(own)
    for name, text in files.items():
        path = free.cgroups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return free


def limits(free: FreeTier) -> tuple[float | None, int | None]:
    size = free.get(FREE).size
    assert size is not None
    return size.memory_gib, size.vcpus


def test_this_server_is_always_running() -> None:
    (free,) = FreeTier().list().computes
    assert (free.id, free.kind, free.power_state, free.name) == (
        FREE,
        ComputeKind.FREE,
        PowerState.RUNNING,
        "Free tier",
    )
    assert free.size is not None
    assert free.size.memory_gib is not None
    assert 0 < free.size.memory_gib < 100_000
    assert free.size.vcpus is not None
    assert 1 <= free.size.vcpus <= (os.cpu_count() or 1)


def test_cgroup_v2_takes_the_smallest_limit_on_the_way_up(tmp_path: Path) -> None:
    free = tier(
        tmp_path,
        "0::/user/notebook\n",
        {
            "user/notebook/memory.max": "max\n",
            "user/memory.max": f"{GIB}\n",
            "user/notebook/cpu.max": "50000 100000\n",
            "user/cpu.max": "max 100000\n",
        },
    )
    assert limits(free) == (1.0, 1)


def test_cgroup_v1(tmp_path: Path) -> None:
    free = tier(
        tmp_path,
        "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
        {
            "memory/memory.limit_in_bytes": f"{GIB // 2}\n",  # a container sees its own group as the root
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "100000\n",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        },
    )
    assert limits(free) == (0.5, 1)


def test_no_limit_is_the_whole_machine(tmp_path: Path) -> None:
    free = tier(
        tmp_path,
        "9:memory:/\n4:cpu:/\n",
        {"memory/memory.limit_in_bytes": "9223372036854771712\n", "cpu/cpu.cfs_quota_us": "-1\n"},
    )
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    assert limits(free) == (round(total, 2), len(os.sched_getaffinity(0)))


def test_the_hubs_limits_count_first_and_the_setting_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = tier(tmp_path, "0::/\n", {"memory.max": f"{8 * GIB}\n", "cpu.max": "800000 100000\n"})
    monkeypatch.setenv("MEM_LIMIT", str(4 * GIB))
    monkeypatch.setenv("CPU_LIMIT", "1.5")
    assert limits(free) == (4.0, 2)
    free.memory_gib = 3.5
    assert limits(free) == (3.5, 2)


def test_an_unreadable_limit_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = tier(tmp_path, "0::/\n", {"memory.max": f"{GIB}\n"})
    monkeypatch.setenv("MEM_LIMIT", "plenty")
    assert limits(free)[0] == 1.0


def test_it_cannot_be_stopped() -> None:
    free: ComputeProvider = FreeTier()
    for change in (free.stop, free.restart):
        with pytest.raises(OperationRefused, match="Jupyter server itself"):
            change(FREE, lambda text, done: None, Cancel())
    with pytest.raises(OperationRefused):
        free.ssh_target(FREE)
    with pytest.raises(UnknownCompute):
        free.get("azure:1")
