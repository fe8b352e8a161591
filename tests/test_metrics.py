"""What is in use, here and there: the parsers, the rules, and a relay's pipe that is asked."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.free_tier import GIB, FreeTier
from jupyter_dsvm.compute.usage import DataUse, data_of, own_volume, tree_memory
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.errors import Unreachable
from jupyter_dsvm.metrics import KEPT, ComputeMetrics, from_machine
from jupyter_dsvm.models import FREE, GPUUse, Usage
from jupyter_dsvm.relay import inquiry, metrics, questions, usage
from jupyter_dsvm.relay.deaths import Look, Watch, out_of_memory
from jupyter_dsvm.relay.loop import Loop
from jupyter_dsvm.relay.usage import Memory
from support.fakes import FakeCompute, FakeConnections, FakeFree, dsvm
from support.kernels import until
from support.relay_end import Machine, PipeEnd
from support.relay_vm import home, vm, way

__all__ = ["home", "vm", "way"]

MIB = 1024 * 1024

# What nvidia-smi prints


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Tesla T4, 61, 3584, 15360\n", [("Tesla T4", 0.61, (3584, 15360))]),
        (
            "NVIDIA A100 80GB PCIe, 0, 4, 81920\nNVIDIA A100 80GB PCIe, 100, 80000, 81920\n",
            [("NVIDIA A100 80GB PCIe", 0.0, (4, 81920)), ("NVIDIA A100 80GB PCIe", 1.0, (80000, 81920))],
        ),
        # Shared as MIG instances, of which a user may see but its own.
        ("NVIDIA H100 80GB HBM3, [N/A], 1024, 81559\n", [("NVIDIA H100 80GB HBM3", None, (1024, 81559))]),
        ("NVIDIA H100, [N/A], [Insufficient Permissions], [Insufficient Permissions]\n", [("NVIDIA H100", None, None)]),
        ("NVIDIA GB10, 7, [N/A], [N/A]\n", [("NVIDIA GB10", 0.07, None)]),
        ("Tesla M60, [Not Supported], 0, 8129\n", [("Tesla M60", None, (0, 8129))]),
        ("Tesla T4, [GPU requires reset], [GPU requires reset], [GPU requires reset]\n", [("Tesla T4", None, None)]),
        ("No devices were found\n", []),
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.183\n", []),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
            "NVIDIA driver is installed and running.\n\n",
            [],
        ),
        (
            "Unable to determine the device handle for GPU 0001:00:00.0: GPU is lost.  Reboot the system to recover\n",
            [],
        ),
        ('Field "utilization.gpu" is not a valid field to query.\n\n', []),
        ("one, two, three, four\n, 1, 2, 3\nname, -1, 2, 3\n", []),
        ("", []),
    ],
)
def test_gpus(printed: str, expected: list[tuple[str, float | None, tuple[int, int] | None]]) -> None:
    assert metrics.parse_gpus(printed) == [
        {"name": name, "utilization": load, "memory": [memory[0] * MIB, memory[1] * MIB] if memory else None}
        for name, load, memory in expected
    ]


def test_no_gpu_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert metrics.ask_nvidia() == ""
    program(tmp_path / "nvidia-smi", "echo 'No devices were found'; exit 6")
    assert metrics.ask_nvidia() == "No devices were found\n"
    monkeypatch.setattr(metrics, "GPU_SECONDS", 0.3)
    program(tmp_path / "nvidia-smi", f"exec {sys.executable} -c 'import time; time.sleep(60)'")
    assert metrics.ask_nvidia() == ""


def program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# /proc

MEMINFO = "MemTotal:       28802048 kB\nMemFree:         1000000 kB\nMemAvailable:   20802048 kB\nBuffers: 5 kB\nCached: 7 kB\n"


def test_memory_of_a_machine() -> None:
    assert usage.machine_memory(MEMINFO) == Memory(8000000 * 1024, 28802048 * 1024)
    before_3_14 = MEMINFO.replace("MemAvailable", "Other")
    assert usage.machine_memory(before_3_14) == Memory((28802048 - 1000012) * 1024, 28802048 * 1024)
    for odd in (None, "", "MemTotal: plenty kB", "MemTotal: 0 kB\n"):
        assert usage.machine_memory(odd) is None


def test_cpu_between_two_readings() -> None:
    first = usage.cpu_times("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4 5\n")
    assert first == (200, 1000)
    later = usage.cpu_times("cpu  140 0 110 850 100 0 0 0 50 0\n")
    assert usage.cpu_share(first, later) == 0.25
    assert usage.cpu_share(first, first) is None
    assert usage.cpu_share(later, first) is None  # the machine was started anew
    assert usage.cpu_share(None, later) is None
    for odd in (None, "", "intr 1 2 3 4 5 6", "cpu 1 2", "cpu a b c d e f"):
        assert usage.cpu_times(odd) is None


def groups(folder: Path, own: str, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return list(usage.group_folders(own, "memory", str(folder)))


def test_memory_of_a_control_group(tmp_path: Path) -> None:
    v2 = groups(
        tmp_path / "v2",
        "0::/user/notebook\n",
        {
            "user/notebook/memory.max": "max\n",
            "user/notebook/memory.events": "low 0\nhigh 0\nmax 17\noom 2\noom_kill 2\noom_group_kill 0\n",
            "user/memory.max": f"{4 * GIB}\n",
            "user/memory.current": f"{3 * GIB}\n",
            "user/memory.stat": f"anon 5\nfile {GIB}\ninactive_file {GIB // 2}\n",
            "user/memory.events": "oom_kill 9\n",
        },
    )
    assert usage.group_memory(iter(v2)) == Memory(int(2.5 * GIB), 4 * GIB)
    assert usage.kills(iter(v2), "oom_kill 5\n") == 2
    v1 = groups(
        tmp_path / "v1",
        "9:memory:/docker/abc\n0::/\n",
        {
            "memory/memory.limit_in_bytes": f"{GIB}\n",
            "memory/memory.usage_in_bytes": f"{GIB // 2}\n",
            "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        },
    )
    assert usage.group_memory(iter(v1)) == Memory(GIB // 4, GIB)
    assert usage.kills(iter(v1), None) == 1
    free = groups(tmp_path / "free", "4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert usage.group_memory(iter(free)) is None
    assert usage.kills(iter(free), "pgfault 3\noom_kill 5\n") == 5
    assert usage.kills(iter(free), None) is None


def test_this_machine() -> None:
    measured = json.loads(json.dumps(metrics.measure()))
    assert 0 <= measured["cpu"] <= 1
    for used, total in (measured["memory"], measured["disk"]):
        assert 0 < used <= total
    again = metrics.measure(tuple(measured["cpu_times"]))
    assert again["cpu_times"][1] >= measured["cpu_times"][1]
    assert usage.kills_here() is None or usage.kills_here() >= 0  # type: ignore[operator]


# Out of memory

FULL, ROOM = Memory(95, 100), Memory(50, 100)


@pytest.mark.parametrize(
    ("code", "before", "after", "expected"),
    [
        (-9, [Look(3, ROOM), Look(3, ROOM)], Look(4, ROOM), 100),
        (-9, [Look(3, ROOM), Look(4, ROOM)], Look(4, ROOM), 100),  # the look came between the kill and its being seen
        (-9, [Look(None, FULL)], Look(None, ROOM), 100),
        (137, [Look(0, FULL)], Look(0, ROOM), 100),
        (-9, [Look(3, ROOM)], Look(3, ROOM), None),
        (-9, [Look(None, None)], Look(7, ROOM), None),  # counted since the machine began
        (-9, [], Look(7, ROOM), None),
        (-9, [Look(3, None)], Look(4, None), None),
        (-11, [Look(3, FULL)], Look(4, FULL), None),
        (1, [Look(3, FULL)], Look(4, FULL), None),
        (0, [Look(3, FULL)], Look(4, FULL), None),
    ],
)
def test_the_rule(code: int, before: list[Look], after: Look, expected: int | None) -> None:
    assert out_of_memory(code, before, after) == expected


def test_a_watch_looks_now_and_then_and_forgets() -> None:
    looks = [Look(0, FULL), Look(0, ROOM), Look(0, ROOM), Look(0, ROOM), Look(0, ROOM)]
    asked = iter(looks)
    watch = Watch(lambda: next(asked), every=1000.0)
    watch.step()
    watch.step()  # too soon
    assert watch.verdict(-9) == 100
    assert watch.verdict(-15) is None  # nothing is looked at for that
    for _ in range(2):
        watch.keep(Look(0, ROOM))
    assert watch.verdict(-9) is None


# What a machine says is checked


def test_a_machine_is_not_believed() -> None:
    said: Any = {
        "cpu": 0.25,
        "memory": [7 * GIB, 28 * GIB],
        "disk": [1, 0],
        "gpus": [
            {"name": "Tesla T4\x1b[31m", "utilization": 7.0, "memory": [GIB, 16 * GIB]},
            {"name": "x" * 1000, "utilization": "high", "memory": [-1, 5]},
            "T4",
            {},
        ],
    }
    found = from_machine("azure:1", said)
    assert (found.compute, found.cpu, found.memory, found.disk) == ("azure:1", 0.25, Usage(7.0, 28.0), None)
    assert "\x1b" not in found.gpus[0].name
    assert (found.gpus[0].utilization, found.gpus[0].memory) == (1.0, Usage(1.0, 16.0))
    assert len(found.gpus[1].name) <= 110
    assert (found.gpus[1].utilization, found.gpus[1].memory) == (None, None)
    assert found.gpus[2] == GPUUse("GPU")
    many = from_machine("azure:1", {"gpus": [{"name": "T4"}] * 1000, "cpu": float("nan"), "memory": [10**400, 10**400]})
    assert (len(many.gpus), many.cpu, many.memory) == (64, None, None)
    for odd in (None, [], "text", {"gpus": 5, "cpu": True, "memory": {}}):
        nothing = from_machine("azure:1", odd)
        assert (nothing.cpu, nothing.memory, nothing.disk, nothing.gpus) == (None, None, None, ())


# Who asks whom, and how often


def test_many_pages_ask_a_machine_once() -> None:
    connections, cloud, now = FakeConnections(), FakeCompute(dsvm("gpu-vm"), dsvm("off")), [0.0]
    shown = ComputeMetrics(Computes(lambda: [FakeFree(), cloud], lambda _: None), connections, lambda: now[0])  # type: ignore
    gpu = connections.answers["azure:gpu-vm-id"] = Future()
    first = shown.of("gpu-vm")
    now[0] += 100.0
    assert shown.of("azure:gpu-vm-id") is first  # not answered yet, so nothing is added
    assert not first.done()
    gpu.set_result({"cpu": 0.5})
    assert first.result(0).cpu == 0.5
    now[0] += 1.0
    assert shown.of("gpu-vm").result(0).cpu == 0.5
    assert len(connections.asked) == 2
    now[0] += KEPT
    connections.answers["azure:gpu-vm-id"] = Future()
    connections.answers["azure:gpu-vm-id"].set_exception(Unreachable("It is away."))
    assert shown.of("gpu-vm").result(0).cpu is None
    off = shown.of("off").result(0)
    assert (off.compute, off.memory, off.gpus) == ("azure:off-id", None, ())
    assert shown.of(FREE).result(0).memory is None


# The free tier


def test_a_tree_of_processes(tmp_path: Path) -> None:
    hold = "x = bytearray(60_000_000); print('ready', flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        size = tree_memory(Path("/proc"), process.pid)
        process.stdin.close()
    assert size is not None
    assert 60_000_000 < size < 150_000_000
    assert tree_memory(Path("/proc"), process.pid) is None
    assert tree_memory(tmp_path / "none", 1) is None


def test_a_tree_without_proportional_sets(tmp_path: Path) -> None:
    for pid, parent, status in ((10, 1, "RssAnon: 100 kB\nRssShmem: 5 kB\n"), (11, 10, "RssAnon: 7 kB\n"), (12, 1, "")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b (c) S {parent} 0 0")
        (tmp_path / str(pid) / "status").write_text(f"Name: x\n{status}")
    assert tree_memory(tmp_path, 10) == 112 * 1024


def test_what_counts_against_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    free = FreeTier()
    free.cgroups, free.own_cgroup, free.proc = tmp_path / "cgroup", tmp_path / "own", tmp_path / "proc"
    free.own_cgroup.write_text("0::/\n")
    free.proc.mkdir()
    (free.proc / "meminfo").write_text(MEMINFO)
    (tmp_path / "cgroup").mkdir()
    total = 28802048 * 1024
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": total // 4096, "SC_PAGE_SIZE": 4096}[name])

    def memory() -> tuple[float, float] | None:
        look = free.memory_look().memory
        return (round(look.used / GIB, 2), round(look.total / GIB, 2)) if look is not None else None

    assert memory() == (7.63, 27.47)  # no limit: the machine
    (tmp_path / "cgroup" / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "cgroup" / "memory.current").write_text(f"{3 * GIB}\n")
    assert memory() == (3.0, 4.0)  # what the system keeps it to
    monkeypatch.setenv("MEM_LIMIT", str(4 * GIB))
    assert memory() == (3.0, 4.0)
    monkeypatch.setenv("MEM_LIMIT", str(2 * GIB))
    assert memory() is None  # a group that is wider counts others too, and there are no processes in this /proc
    me = free.proc / str(os.getpid())
    me.mkdir()
    (me / "stat").write_text(f"{os.getpid()} (python) S 1 0")
    (me / "smaps_rollup").write_text("Rss: 900000 kB\nPss: 524288 kB\nPss_Anon: 5 kB\n")
    assert memory() == (0.5, 2.0)
    free.close()


def test_data_is_counted_once_and_here_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"x" * 1_000_000)
    os.link(folder / "sub" / "a", folder / "same")
    (tmp_path / "elsewhere").write_bytes(b"x" * 5_000_000)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 10**9)
    found = data_of(str(folder), threading.Event())
    assert found is not None
    assert 1_000_000 <= found < 1_100_000
    assert data_of(str(folder), threading.Event(), limit=3) is None
    assert data_of(str(folder), threading.Event(), seconds=0.0) is None
    assert data_of(str(tmp_path / "none"), threading.Event()) is None


def test_data_is_counted_now_and_then(tmp_path: Path) -> None:
    now = [0.0]
    data = DataUse(lambda: now[0])
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    until(lambda: data.of(str(tmp_path)))
    before = data.of(str(tmp_path))
    (tmp_path / "b").write_bytes(b"x" * 100_000)
    time.sleep(0.1)
    assert data.of(str(tmp_path)) == before
    now[0] += 61.0
    until(lambda: data.of(str(tmp_path)) != before)
    data.close()
    now[0] += 61.0
    data.of(str(tmp_path))  # starts nothing any more
    assert not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-data"]


def test_a_volume_of_its_own(tmp_path: Path) -> None:
    where = str(tmp_path / "my home")
    os.mkdir(where)
    root = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    mounted = where.replace(" ", "\\040")
    volume = f"23 22 8:2 / {mounted} rw,relatime shared:1 - ext4 /dev/sdb rw\n"
    found = own_volume(where, root + volume)
    assert found is not None
    assert 0 < found.used <= found.total
    assert own_volume(where, root) is None
    assert own_volume("/", root) is None
    assert own_volume(where, root + volume.replace("8:2 / ", "8:2 /users/me ")) is None
    assert own_volume(where, root + volume.replace("ext4 /dev/sdb", "nfs4 filer:/home/me")) is None
    assert own_volume(where, None) is None


def test_the_gauge_of_data(tmp_path: Path) -> None:
    free = FreeTier(data_dir=str(tmp_path))
    assert free.metrics().disk is None  # nobody has set a limit, and a test's folder is no volume
    free.data_gib = 1.0
    (tmp_path / "a").write_bytes(b"x" * 50 * MIB)
    until(lambda: free.metrics().disk)
    disk, memory = free.metrics().disk, free.metrics().memory
    assert disk is not None
    assert (disk.total_gib, round(disk.used_gib, 2)) == (1.0, 0.05)
    assert memory is not None
    assert 0 < memory.used_gib <= memory.total_gib
    free.close()


# A relay's pipe


def test_a_pipe_tells_what_its_machine_uses(vm: Machine, way: PipeEnd) -> None:
    first = way.ask("metrics")["result"]
    assert 0 <= first["cpu"] <= 1
    assert "cpu_times" not in first
    assert first["memory"][1] > first["memory"][0] > 0
    assert first["disk"][1] >= first["disk"][0] > 0
    assert 0 <= way.ask("metrics")["result"]["cpu"] <= 1  # since the first


class Asked:
    """A pipe's loop with one inquiry in it."""

    def __init__(self, module: str, limit: float) -> None:
        self.loop = Loop()
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.inquiry = inquiry.Inquiry(self.loop, module, lambda i, value: self.answers.append((i, value)), limit)

    def until(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.answers) < count:
            assert time.monotonic() < deadline
            self.loop.turn(min(0.1, self.inquiry.look()))


def test_who_asks_meanwhile_shares_the_answer() -> None:
    asked = Asked("metrics", 20.0)
    asked.inquiry.ask(1)
    asked.inquiry.ask(2)
    asked.until(2)
    assert [i for i, _ in asked.answers] == [1, 2]
    assert asked.answers[0][1] == asked.answers[1][1]
    assert asked.inquiry.look() == 60.0


def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path / "nvidia-smi", f"echo $$ > {tmp_path}/pid; sleep 60")
    asked = Asked("metrics", 1.5)
    asked.inquiry.ask(1)
    asked.until(1)
    assert asked.answers == [(1, {"error": {"code": "MetricsFailed", "message": "metrics took longer than 1.5 s"}})]
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not Path(f"/proc/{pid}/stat").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text())
    asked.inquiry.ask(2)
    asked.inquiry.close()
    assert len(asked.answers) == 1


def test_a_pipe_waits_no_longer_than_that() -> None:
    assert metrics.GPU_SECONDS + 1 < questions.METRICS_SECONDS
