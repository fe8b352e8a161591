"""What a relay keeps while nobody takes it: on disk, up to a limit, on a full disk and in a folder that is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from jupyter_dsvm.kernels.kernelspecs import RemoteSpec
from jupyter_dsvm.relay.spec import KernelSpec
from jupyter_dsvm.relay.wire import (
    Type,
)
from jupyter_dsvm.service import DSVMService
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, pipe, until
from support.relay_vm import IPYKERNEL, end_of_relay, home, say, shut_down, started, vm, way

__all__ = ["home", "vm", "way"]


def test_a_full_journal_leaves_out_outputs_and_says_so_in_the_cell(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way, journal_limit=2_000_000)
        request = kernel.execute("import time; time.sleep(0.3)\nfor i in range(10): print('x' * 1_000_000, flush=True)")
        until(lambda: not kernel.session.can_send or way.turn())
        for _ in range(5):
            way.turn()
    time.sleep(2)
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(request))
        omitted = kernel.happened(Type.OMITTED)
        assert {o["parent_header"]["msg_id"] for o in omitted} == {request}
        got = len(kernel.text(request)) // 1_000_001
        assert 1 <= got < 10
        assert sum(o["messages"] for o in omitted) >= 10 - got
        assert sum(o["bytes"] for o in omitted) >= (10 - got) * 1_000_000


def while_away(vm: Machine, kernel: KernelEnd, code: str) -> str:
    """Run ``code`` with nobody attached from just after it was sent; returns once the kernel is through with it."""
    done = vm.home / "done"
    done.unlink(missing_ok=True)
    with pipe(vm) as way:
        kernel.attach(way)
        request = kernel.execute(f"{code}\nopen({str(done)!r}, 'w').close()")
        way.wait(lambda: len(kernel.session.journal) == 0)  # the kernel has it
    until(done.exists, 60)
    return request


def test_what_is_not_acknowledged_is_on_disk_and_costs_the_relay_little_memory(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        (relay,) = way.ask("kernels")["result"]
    # Not faster than a busy machine's disk takes it: what the relay has yet to read counts as its memory, too.
    code = "import time\nfor i in range(150): print('x' * 1_000_000, flush=True); time.sleep(0.02)"
    request = while_away(vm, kernel, code)
    assert memory_of(relay["pid"]) < 100_000_000
    until(lambda: memory_of(relay["pid"]) < 50_000_000, 30)  # at rest; of all that, 32 MiB were in memory
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(request), 60)
        assert len(kernel.text(request)) == 150 * 1_000_001


def memory_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_folder_that_is_cleared_away_loses_nothing(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
    request = while_away(vm, kernel, "for i in range(30): print('x' * 1_000_000, flush=True)")
    shutil.rmtree(vm.kernels)
    until(lambda: (end_of_relay(vm, kernel) / "relay.sock").exists())
    second = while_away(vm, kernel, "for i in range(30): print('y' * 1_000_000, flush=True)")
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(second), 30)
        assert len(kernel.text(request)) == len(kernel.text(second)) == 30 * 1_000_001
        (relay,) = way.ask("kernels")["result"]
        assert relay["id"] == kernel.kernel_id
        kernel.session.send(Type.RESTART, b"{}")
        assert say(way, kernel, "print('again')") == "again\n"
        shut_down(way, kernel)
        until(lambda: not end_of_relay(vm, kernel).exists())


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A home folder on a disk of 40 MB."""
    if (
        os.getuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "none", str(home)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root may mount")
    yield home
    until(lambda: subprocess.run(["umount", str(home)], capture_output=True, check=False).returncode == 0)


def test_on_a_full_disk_the_cell_says_what_was_left_out_and_nothing_else_is_lost(small_disk: Path) -> None:
    with machine(small_disk) as vm:
        with pipe(vm) as way:
            kernel = started(way)
            (relay,) = way.ask("kernels")["result"]
        code = "for i in range(150): print('x' * 1_000_000, flush=True)\nx = 5"
        request = while_away(vm, kernel, code)
        assert shutil.disk_usage(small_disk).free > 0, "some is left to others"
        assert memory_of(relay["pid"]) < 200_000_000
        with pipe(vm) as way:
            kernel.attach(way)
            way.wait(lambda: kernel.done(request), 60)
            omitted = kernel.happened(Type.OMITTED)
            assert {o["parent_header"]["msg_id"] for o in omitted} == {request}
            got = len(kernel.text(request))
            assert 60_000_000 < got < 140_000_000, "the rest of the disk, and what is kept in memory"
            assert got + sum(o["bytes"] for o in omitted) >= 150 * 1_000_001
            assert say(way, kernel, "print(x)") == "5\n"
            shut_down(way, kernel)


def test_who_asks_for_a_kernel_that_is_no_more_hears_what_is_known(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    (relay,) = way.ask("kernels")["result"]
    os.kill(relay["pid"], signal.SIGKILL)
    way.wait(lambda: kernel.gone)
    assert "killed" in kernel.gone[0]
    record = end_of_relay(vm, kernel) / "relay.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}))
    later = kernel.adopter(0)
    later.attach(way)
    way.wait(lambda: later.gone)
    assert "restarted since" in later.gone[0]


def test_a_relay_whose_kernel_has_ended_stays_while_something_is_unheard(home: Path) -> None:
    with machine(home, before="import relay.daemon as d; d.EXITED_LIMIT = 0.3") as vm:
        with pipe(vm) as way:
            kernel = started(way)
            (relay,) = way.ask("kernels")["result"]
            kernel.acknowledging = False
            kernel.execute("import os; os._exit(3)")
            way.wait(lambda: kernel.happened(Type.EXITED))
        upto = kernel.numbers[-1]
        time.sleep(2)
        assert relay["pid"] in vm.processes()
        adopter = kernel.adopter(upto)
        with pipe(vm) as way:
            adopter.attach(way)
            way.wait(lambda: adopter.happened(Type.EXITED))
            assert adopter.happened(Type.EXITED)[0]["code"] == 3
            way.wait(lambda: not adopter.session.can_send)
            way.ping()
        vm.wait_empty()


@pytest.mark.parametrize(("mib", "limit"), [(None, 1 << 30), (7, 7 << 20), (0, 0)])
def test_the_limit_is_the_users_to_set(mib: int | None, limit: int) -> None:
    front = SimpleNamespace(kernel_id="k", key=b"k", signature_scheme="hmac-sha256", session="s")
    service = DSVMService(**({} if mib is None else {"journal_limit_mib": mib}))
    try:
        body = service.arrivals.start_spec(front, RemoteSpec("python3", "Python 3", "python", tuple(IPYKERNEL)), None)
    finally:
        service.close()
    assert KernelSpec.from_json(body).journal_limit == limit
