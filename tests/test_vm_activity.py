"""What keeps a VM on: the parsers, the rules, and a machine with real relays that is looked at."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.relay import activity, executing, metrics
from jupyter_dsvm.relay.activity import Busy, Counters, reasons
from jupyter_dsvm.relay.executing import Executing
from jupyter_dsvm.relay.marks import HOLDER_MARK, PIPE_MARK, RELAY_BUSY, RELAY_IDLE
from jupyter_dsvm.relay.processes import Names, Process, parse, read_processes
from support.kernels import until
from support.relay_end import Machine, PipeEnd
from support.relay_vm import home, run, shut_down, started, vm, way

__all__ = ["home", "vm", "way"]

ME, ANNA = 1000, 1001
QUIET = (Counters(100.0, 10.0, 0, 0, "b"), Counters(160.0, 11.0, 0, 0, "b"))


def process(pid: int, name: str = "python3", command: str = "", **more: Any) -> Process:
    about = {"parent": 1, "group": pid, "session": pid, "tty": 0, "foreground": -1, "uid": ME, **more}
    return Process(pid=pid, user={ME: "me", ANNA: "anna", 0: "root"}[about["uid"]], name=name, command=command, **about)


def why(
    *processes: Process, idle: float | None = None, gpus: list[float | None] | None = None
) -> list[tuple[str, str]]:
    found = reasons(processes, ME, *QUIET, gpus if gpus is not None else [], lambda tty: idle)
    return [tuple(one) for one in found]


# The rules


def test_nothing_is_idle() -> None:
    assert why() == []
    assert (
        why(process(5, "dbus-daemon"), process(6, RELAY_IDLE), process(7, PIPE_MARK), process(8, "agetty", tty=1025))
        == []
    )


@pytest.mark.parametrize(
    ("processes", "kind", "text"),
    [
        ([process(5, RELAY_BUSY)], "kernel", "a cell runs"),
        ([process(5, RELAY_BUSY), process(6, RELAY_BUSY, uid=ANNA)], "kernel", "cells run in 2 notebooks"),
        ([process(5, RELAY_BUSY, uid=ANNA)], "kernel", "a cell runs"),
        # A kernel that is nobody's of ours: the VM's own Jupyter, or a relay of an earlier version.
        ([process(5, command="python -m ipykernel_launcher -f k.json")], "unknown", "(me)"),
        ([process(5, command="/x/bin/python -m ipykernel -f k.json", uid=ANNA)], "unknown", "(anna)"),
        ([process(5, command="R --slave -e IRkernel::main() --args /run/kernel-1.json")], "unknown", "(me)"),
        ([process(5, command="julia kernel.jl /x/kernel-0b1f6471-1bf0-4dda.json")], "unknown", "(me)"),
        # People.
        ([process(5, "bash", "-bash", tty=34816, uid=ANNA, foreground=5)], "terminal", "(anna)"),
        ([process(5, "bash", "-bash", tty=34816, uid=0, foreground=5)], "terminal", "(root)"),
        ([process(5, "bash", "-bash", tty=34816, foreground=9)], "terminal", "a program runs"),
        ([process(5, "sshd", "sshd: anna@notty", uid=ANNA)], "connection", "(anna)"),
        ([process(5, "sshd-session", "sshd-session: anna@notty", uid=ANNA)], "connection", "(anna)"),
        ([process(5, "sshd", "sshd: me@notty"), process(6, "rsync", parent=5)], "connection", "not ours"),
        ([process(5, "sshd", "sshd: me@notty")], "connection", "not ours"),  # a tunnel
        (
            [process(5, "sshd", "sshd: me@notty"), process(6, PIPE_MARK, parent=5), process(7, "node", parent=5)],
            "connection",
            "not ours",
        ),
    ],
)
def test_busy(processes: list[Process], kind: str, text: str) -> None:
    ((found, said),) = why(*processes)
    assert found == kind
    assert text in said


def test_ours_are_told_from_others() -> None:
    kernel = "python -m ipykernel_launcher -f /x/connection.json"
    assert why(process(5, RELAY_IDLE), process(6, command=kernel, parent=5)) == []
    assert why(process(5, RELAY_IDLE, uid=ANNA), process(6, command=kernel, parent=5, uid=ANNA)) == []
    # One that was a spare is its holder's, whose relay may be no more.
    assert why(process(5, HOLDER_MARK), process(6, command=kernel, parent=5)) == []
    # What a cell has started: a kernel below a kernel.
    assert why(process(5, RELAY_IDLE), process(6, parent=5), process(7, command=kernel, parent=6)) == []
    before = process(5, "sshd", "sshd: me [priv]", uid=0)
    ours = (
        before,
        process(6, "sshd", "sshd: me@notty", parent=5),
        process(7, "sh", parent=6),
        process(8, PIPE_MARK, parent=7),
    )
    assert why(*ours, process(9, "python3", parent=8)) == []


@pytest.mark.parametrize(("idle", "kinds"), [(None, ["terminal"]), (3.0, ["terminal"]), (61.0, [])])
def test_a_terminal_of_ours_counts_while_it_is_used(idle: float | None, kinds: list[str]) -> None:
    assert [kind for kind, _ in why(process(5, "bash", "-bash", tty=34816, foreground=5), idle=idle)] == kinds


@pytest.mark.parametrize(
    ("gpus", "kinds"),
    [([], []), ([0.0], []), ([0.0, 0.61], ["gpu"]), ([None], ["unknown"]), ([None, 0.5], ["gpu", "unknown"])],
)
def test_a_gpu_alone_keeps_it_on(gpus: list[float | None], kinds: list[str]) -> None:
    assert [kind for kind, _ in why(gpus=gpus)] == kinds


def test_unknown_is_busy() -> None:
    hidden = reasons(None, ME, *QUIET, [])
    assert [one.kind for one in hidden] == ["unknown"]
    assert [one.kind for one in reasons([], ME, *QUIET, None)] == ["unknown"]
    first, now = QUIET
    for earlier, later in (
        (None, now),
        (first._replace(boot="x"), now),
        (now, first),
        (first._replace(cpu=None), now),
        (first, now._replace(disk=None)),
        (first._replace(network=5), now),  # counted anew
    ):
        assert [one.kind for one in reasons([], ME, earlier, later, [])] == ["unknown"], (earlier, later)


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"cpu": 11.0 + 60 * 0.3}, "cpu", "0.3 cores"),
        ({"disk": 60 * 2_000_000}, "disk", "2.0 MB/s"),
        ({"network": 60 * 500_000}, "network", "0.5 MB/s"),
    ],
)
def test_load(changes: dict[str, Any], kind: str, text: str) -> None:
    first, now = QUIET
    ((found, said),) = reasons([], ME, first, now._replace(**changes), [])
    assert found == kind
    assert text in said


def test_one_core_of_many_is_busy() -> None:
    """1.6 % of a machine with 64."""
    first, now = QUIET
    assert reasons([], ME, first, now._replace(cpu=first.cpu + 60.0 if first.cpu else None), []) == [
        Busy("cpu", "the CPU is busy (1.0 cores)")
    ]


# /proc


def test_disks_and_networks() -> None:
    stats = (
        "   8  0 sda 10 0 2048 5 20 0 4096 6 0 7 8\n   8  1 sda1 10 0 2048 5 20 0 4096 6 0 7 8\n"
        " 259  0 nvme0n1 1 0 2 0 1 0 2 0 0 0 0\n   7  0 loop0 1 0 999 0 1 0 999 0 0 0 0\n"
    )
    assert activity.disk_bytes(stats, ["sda", "nvme0n1"]) == (2048 + 4096 + 4) * 512
    assert activity.disk_bytes(stats, []) is None
    assert activity.disk_bytes(None, ["sda"]) is None
    dev = (
        "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"
        "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n"
    )
    assert activity.network_bytes(dev) == 150
    assert activity.network_bytes("") is None
    assert activity.cpu_seconds("cpu  100 50 100 700 100 5 5 7 50 0\n", 100) == 2.6
    assert activity.cpu_seconds("cpu a b", 100) is None


def test_a_process() -> None:
    stat = "42 (odd ) (name) S 7 8 9 34816 10 4194304 0 0"
    found = parse(stat, "Name:\todd\nUid:\t1000\t0\t0\t0\n", "x", Names())
    assert found is not None
    assert (found.pid, found.name, found.parent, found.group, found.session, found.tty, found.foreground, found.uid) == (
        42, "odd ) (name", 7, 8, 9, 34816, 10, 1000,
    )  # fmt: skip
    for odd in (None, "", "42 (x) S 7", stat.replace(") S", ") Z")):
        assert parse(odd, "Uid:\t1000\n", "x", Names()) is None
    assert parse(stat, None, "x", Names()) is None


@given(st.text(max_size=200))
def test_an_argument_that_is_none(text: str) -> None:
    found = activity.from_argument(text)
    assert found is None or isinstance(found, Counters)


def test_counters_come_back_as_they_went() -> None:
    now = activity.counters()
    assert activity.from_argument(json.dumps(list(now))) == now
    assert activity.from_argument(json.dumps(list(now._replace(disk=None)))) == now._replace(disk=None)


# What a relay knows of cells


def message(kind: str, msg_id: str, parent: str = "", first: bytes = b"route") -> list[bytes]:
    header = json.dumps({"msg_type": kind, "msg_id": msg_id}).encode()
    above = json.dumps({"msg_id": parent}).encode() if parent else b"{}"
    return [first, executing.DELIMITER, b"signature", header, above, b"{}", b'{"code": "execute_request"}']


def test_a_cell_runs_until_it_is_answered() -> None:
    it = Executing()
    it.asked(message("kernel_info_request", "1"))
    it.asked(message("complete_request", "2"))
    assert not it.busy
    it.asked(message("execute_request", "3"))
    it.answered(message("complete_reply", "4", "2"))
    it.answered(message("execute_reply", "5", "another"))
    assert it.busy
    it.answered(message("execute_reply", "6", "3"))
    assert not it.busy
    it.asked(message("execute_request", "7"))
    it.reset()
    assert not it.busy


@given(st.lists(st.binary(max_size=40) | st.just(executing.DELIMITER), max_size=10))
def test_what_is_no_message(parts: list[bytes]) -> None:
    it = Executing()
    it.asked(parts)
    assert not it.busy
    it.asked(message("execute_request", "1"))
    it.answered(parts)
    assert it.busy


# A machine


def comms(vm: Machine) -> list[str]:
    found = []
    for pid in vm.processes():
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            pass
    return found


def test_everybody_sees_whether_a_cell_runs(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    until(lambda: RELAY_IDLE in comms(vm), 10)
    assert PIPE_MARK in comms(vm)
    request = kernel.execute("import time\nwhile not globals().get('go'): time.sleep(0.05)")
    way.wait(lambda: RELAY_BUSY in comms(vm), 10)
    busy = way.ask("activity", 30)["result"]["busy"]
    # Of every account of the machine, so of the tests beside this one as well.
    (said,) = [one["text"] for one in busy if one["kind"] == "kernel"]
    assert said == "a cell runs" or said.startswith("cells run in ")
    assert kernel.interrupt()
    way.wait(lambda: kernel.done(request), 20)
    way.wait(lambda: RELAY_IDLE in comms(vm), 10)
    result = way.ask("activity", 30)["result"]
    mine = set(vm.processes())
    assert activity.kernels([p for p in read_processes() or [] if p.pid in mine]) == []
    assert result["boot"]
    assert abs(result["wall"] - time.time()) < 60
    assert "counters" not in result
    assert way.ask("keep", holder="a", seconds=60, why="Keep on 1 h")["result"]
    assert way.ask("activity", 30)["result"]["leases"][0]["why"] == "Keep on 1 h"
    # A kernel that dies while it runs something runs nothing.
    kernel.execute("import os; os.kill(os.getpid(), 9)")
    way.wait(lambda: RELAY_BUSY not in comms(vm), 20)
    shut_down(way, kernel)


def test_a_kernel_is_known_as_ours_and_another_is_not(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    run(way, kernel, "1")
    mine = set(vm.processes())
    until(lambda: RELAY_IDLE in comms(vm), 10)
    seen = [p for p in read_processes() or [] if p.pid in mine]
    assert [one.text for one in activity.kernels(seen)] == []
    stranger = subprocess.Popen(
        [sys.executable, "-c", "input()", "-m", "ipykernel_launcher", "-f", "k.json"], stdin=subprocess.PIPE
    )
    try:
        seen += [p for p in read_processes() or [] if p.pid == stranger.pid]
        assert "not started from here" in activity.kernels(seen)[0].text
    finally:
        stranger.communicate(b"\n", timeout=10)
    shut_down(way, kernel)


def test_a_terminal_here() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh"])
    try:
        os.read(fd, 1)  # its prompt
        (shell,) = [p for p in read_processes() or [] if p.pid == pid]
        assert shell.session == shell.pid
        idle = activity.tty_idle(shell.tty)
        assert idle is not None
        assert idle < 30
        assert [one.kind for one in reasons([shell], os.getuid(), *QUIET, [], activity.tty_idle)] == ["terminal"]
        os.write(fd, b"sleep 30\n")
        until(lambda: any(p.pid == pid and p.foreground != p.group for p in read_processes() or []), 10)
        (shell,) = [p for p in read_processes() or [] if p.pid == pid]
        ((_, text),) = reasons([shell], os.getuid(), *QUIET, [], lambda tty: 1e6)
        assert text == "a program runs in a terminal"
    finally:
        os.kill(pid, 9)
        os.close(fd)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("load", "programs", "expected"),
    [
        ("Tesla T4, 0, 3, 15360", "exit 9", [0.0]),
        ("Tesla T4, 37, 3, 15360", "exit 9", [0.37]),
        ("NVIDIA H100, [N/A], 3, 15360", "true", [0.0]),
        ("NVIDIA H100, [N/A], 3, 15360", "echo 4711", [None]),
        ("NVIDIA H100, [N/A], 3, 15360", "exit 6", [None]),
        ("No devices were found", "true", None),
    ],
)
def test_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str, programs: str, expected: list[float | None] | None
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f'#!/bin/sh\ncase "$1" in --query-gpu*) echo "{load}";; *) {programs};; esac\n')
    script.chmod(0o755)
    monkeypatch.setattr(metrics, "PLACES", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(activity, "has_gpu", lambda: True)
    assert activity.gpu_loads() == expected
    if expected is None:
        monkeypatch.setattr(activity, "has_gpu", lambda: False)
        assert activity.gpu_loads() == []


def test_the_whole_as_it_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(activity, "INTERVAL", 0.1)
    activity.main([])
    first = json.loads(capsys.readouterr().out)
    activity.main([json.dumps(first["counters"])])
    second = json.loads(capsys.readouterr().out)
    assert second["up"] > first["up"]
    assert second["boot"] == first["boot"]
    assert {"kind", "text"} == set().union(*second["busy"]) or second["busy"] == []
