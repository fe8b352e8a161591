"""The relay with a real kernel, over a real attach pipe: all that SSH would carry, without SSH."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.relay.spec import SOCKET_VARIABLE, KernelSpec
from jupyter_dsvm.relay.wire import (
    PIPE,
    VERSION,
    Channel,
    Frame,
    FrameDecoder,
    Type,
    WireError,
    call_body,
    data_bodies,
    json_body,
    read_json,
)
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, pipe, until

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
INTERRUPT = signal.SIGINT


@pytest.fixture
def home() -> Iterator[Path]:
    """As short a path as homes have; pytest's own would be too long for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="vm", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def vm(home: Path) -> Iterator[Machine]:
    with machine(home) as it:
        yield it


@pytest.fixture
def way(vm: Machine) -> Iterator[PipeEnd]:
    with pipe(vm) as it:
        yield it


def started(way: PipeEnd, argv: list[str] = IPYKERNEL, **more: Any) -> KernelEnd:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    kernel.start(argv, **more)
    way.wait(lambda: kernel.happened(Type.STARTED) or kernel.happened(Type.EXITED))
    if kernel.happened(Type.STARTED):
        ready(way, kernel)
    return kernel


def ready(way: PipeEnd, kernel: KernelEnd) -> None:
    """Until its IOPub is known to reach us: what a kernel publishes before that is nobody's."""
    asked = 0.0

    def heard() -> bool:
        nonlocal asked
        if time.monotonic() > asked + 0.1:
            asked = time.monotonic()
            kernel.send(Channel.SHELL, "kernel_info_request", {})
        return any(m["parent_header"].get("msg_type") == "kernel_info_request" for m in kernel.of("status"))

    way.wait(heard)


def run(way: PipeEnd, kernel: KernelEnd, code: str, seconds: float = 20) -> str:
    request = kernel.execute(code)
    way.wait(lambda: kernel.done(request), seconds, f"{code!r} did not end: {kernel.got[-5:]}")
    return request


def say(way: PipeEnd, kernel: KernelEnd, code: str) -> str:
    return kernel.text(run(way, kernel, code))


def shut_down(way: PipeEnd, kernel: KernelEnd) -> None:
    kernel.session.send(Type.SHUTDOWN, b"{}")
    way.wait(lambda: kernel.happened(Type.EXITED))
    way.wait(lambda: kernel.hung_up)


def end_of_relay(vm: Machine, kernel: KernelEnd) -> Path:
    return vm.kernels / kernel.tag.hex()[:16]


# The life of a kernel


def test_a_kernel_runs_and_ends_and_leaves_nothing(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        assert kernel.happened(Type.STARTED)[0]["run"] == 1
        assert say(way, kernel, "print(6 * 7)") == "42\n"
        assert {m["header"]["session"] for _, m in kernel.got} == {kernel.messages.session}
        shut_down(way, kernel)
        assert kernel.hung_up == ["shutdown"]
        assert kernel.gone == []
        assert kernel.happened(Type.EXITED) == [{"code": -signal.SIGTERM, "run": 1, "text": ""}]
        until(lambda: not end_of_relay(vm, kernel).exists())
    vm.wait_empty()


def test_input_and_interrupt(way: PipeEnd) -> None:
    kernel = started(way)
    request = kernel.execute("print('got', input('name? '))")
    way.wait(lambda: kernel.of("input_request", request))
    kernel.send(Channel.STDIN, "input_reply", {"value": "Ada"})
    way.wait(lambda: kernel.done(request))
    assert kernel.text(request) == "got Ada\n"
    request = kernel.execute("import time\nprint('sleeping', flush=True)\ntime.sleep(60)")
    way.wait(lambda: kernel.text(request))
    assert kernel.signal(INTERRUPT)
    way.wait(lambda: kernel.done(request), 10)
    assert kernel.of("error", request)[0]["content"]["ename"] == "KeyboardInterrupt"
    assert say(way, kernel, "print('alive')") == "alive\n"


def test_restart_runs_the_same_again_without_the_variables(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    run(way, kernel, "x = 1")
    first = kernel.happened(Type.STARTED)[0]
    kernel.session.send(Type.RESTART, b"{}")
    request = kernel.execute("print('x' in globals())")  # sent at once: it waits for the new run
    way.wait(lambda: kernel.done(request))
    assert kernel.text(request) == "False\n"
    second = kernel.happened(Type.STARTED)[1]
    assert second["run"] == 2
    assert second["pid"] != first["pid"]
    assert kernel.happened(Type.EXITED) == []
    assert first["pid"] not in vm.processes()


def test_a_kernel_that_ends_by_itself_is_told_after_all_its_output_and_can_be_restarted(way: PipeEnd) -> None:
    kernel = started(way)
    kernel.execute("import sys, os\nfor i in range(5000): print(i)\nsys.stdout.flush()\nos.kill(os.getpid(), 15)")
    way.wait(lambda: kernel.happened(Type.EXITED))
    assert kernel.happened(Type.EXITED)[0]["code"] == -signal.SIGTERM
    lines = kernel.text().split()
    assert lines == [str(i) for i in range(len(lines))]
    kernel.session.send(Type.RESTART, b"{}")
    way.wait(lambda: len(kernel.happened(Type.STARTED)) == 2)
    assert say(way, kernel, "print('again')") == "again\n"


def test_an_orderly_exit_loses_nothing(way: PipeEnd) -> None:
    kernel = started(way)
    request = kernel.execute("for i in range(3000): print('line', i)")
    kernel.send(Channel.CONTROL, "shutdown_request", {"restart": False})
    way.wait(lambda: kernel.happened(Type.EXITED))
    assert kernel.happened(Type.EXITED)[0]["code"] == 0
    lines = kernel.text(request).splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))]
    assert kernel.of("shutdown_reply")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such module: numpy')"], "no such module: numpy"),
        (
            [sys.executable, "-m", "ipykernel_launcher", "--no-such-option=1", "-f", "/nowhere/at/all"],
            "--no-such-option",
        ),
        (["/no/such/python", "{connection_file}"], "/no/such/python could not be started"),
    ],
)
def test_a_kernel_that_cannot_start_says_why(way: PipeEnd, argv: list[str], said: str) -> None:
    kernel = started(way, argv)
    (exited,) = kernel.happened(Type.EXITED)
    assert exited["code"] != 0
    assert said in exited["text"]
    assert kernel.happened(Type.STARTED) == []


TCP_ONLY = """
import json, sys
info = json.load(open(sys.argv[1]))
if info["transport"] != "tcp":
    sys.exit("only tcp")
import ipykernel.kernelapp as app
app.launch_new_instance(["-f", sys.argv[1]])
"""


def test_a_kernel_that_cannot_do_ipc_gets_loopback_tcp(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way, [sys.executable, "-c", TCP_ONLY, "{connection_file}"])
    assert kernel.happened(Type.STARTED)[0]["transport"] == "tcp"
    assert kernel.happened(Type.STARTED)[0]["run"] == 1
    assert say(way, kernel, "print(1)") == "1\n"


def test_what_is_sent_while_the_kernel_starts_is_acknowledged_when_it_was_handed_on(way: PipeEnd) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    kernel.start([sys.executable, "-c", "import time, runpy, sys; time.sleep(1); sys.argv[1:1] = ['-f'];"
                  "runpy.run_module('ipykernel_launcher', run_name='__main__')", "{connection_file}"])  # fmt: skip
    request = kernel.execute("print('late')")
    way.wait(lambda: kernel.session.acked == 1)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        way.turn()
        assert kernel.session.acked == 1
    way.wait(lambda: kernel.done(request))
    assert kernel.session.acked == 2
    assert kernel.text(request) == "late\n"


def test_environment_and_folder_are_those_of_the_machine(vm: Machine, way: PipeEnd) -> None:
    (vm.home / "project").mkdir()
    kernel = started(way, env={"FROM_SERVER": "yes"}, cwd="~/project")
    code = (
        "import os; print(os.getcwd(), os.environ['FROM_SERVER'], os.environ['HOME'], 'JPY_PARENT_PID' in os.environ)"
    )
    assert say(way, kernel, code) == f"{vm.home}/project yes {vm.home} False\n"
    elsewhere = started(way, cwd="/only/on/the/server")
    assert say(way, elsewhere, "import os; print(os.getcwd())") == f"{vm.home}\n"


def test_what_forked_children_print_arrives_though_no_port_is_open_for_it(way: PipeEnd) -> None:
    kernel = started(way)
    code = """
import os, sys
child = os.fork()
if child == 0:
    print('from the child', flush=True)
    os._exit(0)
_ = os.waitpid(child, 0)
"""
    request = run(way, kernel, code)
    way.wait(lambda: kernel.text(request))
    assert kernel.text(request) == "from the child\n"
    code = "import os, sys; print('' in sys.path, any('jupyter-dsvm' in p for p in sys.path))"
    assert say(way, kernel, code) == "True False\n", "the kernel's sys.path is that of any kernel"


# Attach, cut, supersede


def test_20_mb_cut_in_the_middle_arrive_whole(vm: Machine) -> None:
    kernel = KernelEnd()
    code = "for i in range(40): print(str(i).zfill(6) * (1 << 20 >> 1 >> 2), flush=True)"
    with pipe(vm) as way:
        kernel.attach(way, create=True)
        kernel.start(IPYKERNEL)
        request = kernel.execute(code)
        way.wait(lambda: kernel.raw_bytes > 1_000_000)
    assert not kernel.done(request)
    cuts = 0
    while not kernel.done(request):
        with pipe(vm) as way:
            cuts += 1
            kernel.attach(way)
            seen = kernel.raw_bytes
            way.wait(lambda seen=seen: kernel.done(request) or kernel.raw_bytes > seen + 6_000_000)  # type: ignore[misc]
    assert cuts >= 3
    text = kernel.text(request)
    assert len(text) > 30_000_000
    assert text == "".join(str(i).zfill(6) * (1 << 17) + "\n" for i in range(40))


def test_what_a_kernel_says_while_nobody_is_attached_comes_later(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        request = kernel.execute("import time\nfor i in range(300): print(i); time.sleep(0.005)")
        way.wait(lambda: kernel.text(request))
    time.sleep(0.5)
    assert kernel.signal(INTERRUPT) is False, "an interrupt must not wait for the link"
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(request))
        assert kernel.text(request).split() == [str(i) for i in range(300)]
        assert kernel.attachments == 2


def test_the_newest_attach_wins_and_the_older_is_told(vm: Machine) -> None:
    with pipe(vm) as first:
        kernel = started(first)
        run(first, kernel, "x = 5")
        with pipe(vm) as second:
            # The older pipe stays open, as after a network change that only one side has noticed.
            del first.kernels[kernel.tag]
            kernel.session.detach()
            kernel.attach(second)
            second.wait(lambda: kernel.attachments == 2)
            first.wait(lambda: any(f.type == Type.GOODBYE for f in first.unclaimed))
            said = [read_json(f.body)["reason"] for f in first.unclaimed if f.type == Type.GOODBYE]
            assert said == ["superseded"]
            assert not any(f.type == Type.GONE for f in first.unclaimed)
            assert say(second, kernel, "print(x)") == "5\n"


def test_another_server_process_is_refused_and_does_not_disturb(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    with pipe(vm) as second:
        stranger = KernelEnd(kernel.kernel_id)
        stranger.attach(second, create=True)
        second.wait(lambda: stranger.hung_up)
        assert stranger.hung_up == ["epoch"]
    assert say(way, kernel, "print(1)") == "1\n"
    assert kernel.hung_up == []


def test_a_kernel_without_relay_is_gone(vm: Machine, way: PipeEnd) -> None:
    kernel = KernelEnd()
    kernel.attach(way)
    way.wait(lambda: kernel.gone)
    assert "no relay" in kernel.gone[0]
    assert not end_of_relay(vm, kernel).exists()


def test_when_a_relay_is_killed_its_kernel_goes_too_and_the_server_is_told(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    (relay,) = way.ask("kernels")["result"]
    os.kill(relay["pid"], signal.SIGKILL)
    way.wait(lambda: kernel.gone)
    until(lambda: set(vm.processes()) == {way.process.pid}, what=lambda: str(vm.processes()))
    again = KernelEnd(kernel.kernel_id)
    again.attach(way)
    way.wait(lambda: again.gone)
    assert way.ask("kernels") == {"result": []}
    left = end_of_relay(vm, kernel)
    assert left.exists(), "it may be one that is just starting"
    os.utime(left, (0, 0))
    assert way.ask("kernels") == {"result": []}
    assert not left.exists()


def test_the_relay_asked_to_end_takes_the_kernel_with_it(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    (relay,) = way.ask("kernels")["result"]
    assert relay["id"] == kernel.kernel_id
    os.kill(relay["pid"], signal.SIGTERM)
    way.wait(lambda: kernel.hung_up)
    assert kernel.hung_up == ["shutdown"]
    assert kernel.happened(Type.EXITED)[0]["code"] == -signal.SIGTERM
    until(lambda: set(vm.processes()) == {way.process.pid}, what=lambda: str(vm.processes()))
    assert not end_of_relay(vm, kernel).exists()


def test_two_pipes_that_start_a_relay_at_once_start_one(vm: Machine) -> None:
    with pipe(vm) as one, pipe(vm) as two:
        kernels = [KernelEnd("11111111-2222-3333-4444-555555555555") for _ in range(2)]
        for way, kernel in zip((one, two), kernels, strict=True):
            kernel.attach(way, create=True)
            way.turn()
        for way, kernel in zip((one, two), kernels, strict=True):
            way.wait(lambda k=kernel: k.session.attached or k.gone or k.hung_up)  # type: ignore[misc]
        assert sum(k.session.attached for k in kernels) == 1
        assert len(vm.processes()) == 3


def test_what_a_relay_killed_with_its_machine_left_behind_is_no_obstacle(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        (relay,) = way.ask("kernels")["result"]
        os.kill(relay["pid"], signal.SIGKILL)
        way.wait(lambda: kernel.gone)
        # While it is being taken apart, its socket may accept one connection more than it lives to see.
        until(lambda: not os.path.exists(f"/proc/{relay['pid']}"))
        again = KernelEnd(kernel.kernel_id)
        again.attach(way, create=True)
        again.start(IPYKERNEL)
        way.wait(lambda: again.happened(Type.STARTED))
        ready(way, again)
        assert say(way, again, "print('new')") == "new\n"


def test_a_relay_that_nobody_uses_ends(home: Path) -> None:
    with machine(home, before="import relay.daemon as d; d.UNUSED_LIMIT = 0.2; d.EXITED_LIMIT = 0.6") as vm:
        with pipe(vm) as way:
            never = KernelEnd()
            never.attach(way, create=True)
            way.wait(lambda: never.session.attached)
            kernel = started(way)
            kernel.execute("import os; os._exit(3)")
            way.wait(lambda: kernel.happened(Type.EXITED) and not kernel.session.can_send)
            way.ping()
        vm.wait_empty(15)
        until(lambda: not list(vm.kernels.iterdir()))


# A server that starts again


def test_a_killed_servers_kernel_is_adopted_and_what_was_not_handed_on_comes_again(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        run(way, kernel, "x = 5")
        upto, before = kernel.session.received, len(kernel.got)
        kernel.acknowledging = False
        request = kernel.execute("import time\nfor i in range(300): print(i, flush=True); time.sleep(0.005)")
        way.wait(lambda: len(kernel.text(request).split()) > 100)
        sent = kernel.session.journal.last
    shown = before + 60
    adopter = kernel.adopter(kernel.numbers[shown - 1])
    with pipe(vm) as way:
        adopter.attach(way)
        later = adopter.execute("print(x)")  # before it can know any number
        way.wait(lambda: adopter.done(later))
        (hello,) = adopter.hellos
        assert hello["base"]["seq"] == kernel.numbers[shown - 1] > upto
        assert hello["received_upto"] == sent
        started_as = kernel.happened(Type.STARTED)[0]
        assert hello["kernel"] == {**started_as, "phase": "running", "runs": 1}
        assert adopter.numbers[0] == kernel.numbers[shown]
        kernel.got = kernel.got[:shown] + adopter.got
        assert kernel.text(request).split() == [str(i) for i in range(300)]
        assert adopter.text(later) == "5\n"
        shut_down(way, adopter)


def test_of_a_message_that_the_killed_server_had_half_sent_nothing_reaches_the_kernel(vm: Machine) -> None:
    kernel = KernelEnd()
    with pipe(vm) as way:
        kernel.attach(way, create=True)
        kernel.start(IPYKERNEL)
        way.wait(lambda: kernel.happened(Type.STARTED))
        ready(way, kernel)
        number = kernel.session.journal.last
        pieces = list(data_bodies(Channel.SHELL, [b"x" * 1_000_000]))
        for piece in pieces[:2]:
            kernel.session.send(Type.DATA, piece)
        way.wait(lambda: not kernel.session.can_send)
        for _ in range(50):  # nobody acknowledges half a message
            way.turn()
    adopter = kernel.adopter(0)
    with pipe(vm) as way:
        adopter.attach(way)
        assert say(way, adopter, "print('whole')") == "whole\n"
        assert adopter.hellos[0]["received_upto"] == number + 2
        assert adopter.session.acked == adopter.session.journal.last > number + 2


def test_the_server_whose_kernel_was_adopted_is_told_when_it_comes_back(vm: Machine) -> None:
    with pipe(vm) as first, pipe(vm) as second:
        kernel = started(first)
        adopter = kernel.adopter(kernel.session.received)
        adopter.attach(second)
        second.wait(lambda: adopter.session.attached)
        first.wait(lambda: kernel.hung_up)
        assert kernel.hung_up == ["superseded"]
        kernel.attach(first)
        first.wait(lambda: len(kernel.hung_up) == 2)
        assert kernel.hung_up == ["superseded", "superseded"]
        assert say(second, adopter, "print(1)") == "1\n"
        assert adopter.hung_up == []


def test_a_server_that_knows_nothing_of_the_relay_cannot_adopt_it(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    with pipe(vm) as second:
        stranger = KernelEnd(kernel.kernel_id).adopter(0)
        stranger.attach(second)
        second.wait(lambda: stranger.hung_up)
        assert stranger.hung_up == ["epoch"]
        nowhere = KernelEnd().adopter(0)
        nowhere.attach(second)
        second.wait(lambda: nowhere.gone)
    assert say(way, kernel, "print(1)") == "1\n"


def test_a_kernel_that_ended_while_no_server_was_there_is_told_with_its_output_and_exit_code(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        run(way, kernel, "pass")
        upto = kernel.session.received
        kernel.execute(
            "import os, time; time.sleep(0.5); print('last words', flush=True); time.sleep(0.2); os._exit(3)"
        )
        way.wait(lambda: len(kernel.session.journal) == 0)
        pid = kernel.happened(Type.STARTED)[0]["pid"]
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    adopter = kernel.adopter(upto)
    with pipe(vm) as way:
        adopter.attach(way)
        way.wait(lambda: adopter.happened(Type.EXITED))
        assert "code" not in adopter.hellos[0]["kernel"], "that is replayed"
        assert adopter.text() == "last words\n"
        assert adopter.happened(Type.EXITED)[0]["code"] == 3
        way.wait(lambda: not adopter.session.can_send)
        way.ping()
    again = adopter.adopter(adopter.session.received)
    with pipe(vm) as way:
        again.attach(way)
        way.wait(lambda: again.session.attached)
        known = again.hellos[0]["kernel"]
        assert (known["phase"], known["run"], known["code"]) == ("ended", 1, 3)
        assert again.happened(Type.EXITED) == []
        shut_down(way, again)


def test_a_call_that_the_killed_server_had_taken_is_answered(vm: Machine) -> None:
    code = f"""
import json, os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ[{SOCKET_VARIABLE!r}])
s.sendall(b'{{"line": "attach gpu-vm"}}\\n')
print(json.loads(s.makefile().readline())["error"]["code"])
s.close()
"""
    with pipe(vm) as way:
        kernel = started(way)
        request = kernel.execute(code)
        way.wait(lambda: kernel.happened(Type.CALL))
    adopter = kernel.adopter(kernel.session.received)
    with pipe(vm) as way:
        adopter.attach(way)
        way.wait(lambda: adopter.done(request))
        assert adopter.text(request) == "ServerRestarted\n"
        assert adopter.happened(Type.CALL) == []


def test_an_interrupt_request_that_is_not_in_the_sequence_stops_the_cell(way: PipeEnd) -> None:
    kernel = started(way)
    request = kernel.execute("import time\nprint('sleeping', flush=True)\ntime.sleep(60)")
    way.wait(lambda: kernel.text(request))
    sent = kernel.session.journal.last
    assert kernel.session.knows(Type.INTERRUPT)
    assert kernel.interrupt()
    way.wait(lambda: kernel.done(request) and kernel.of("interrupt_reply"), 10)
    assert kernel.of("error", request)[0]["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.session.journal.last == sent


# Several kernels on one pipe


def test_a_flood_holds_up_neither_a_ping_nor_another_kernel(way: PipeEnd) -> None:
    flooding, other = started(way), started(way)
    run(way, other, "pass")
    request = flooding.execute("for i in range(120): print('x' * 1_000_000, flush=True)")
    way.wait(lambda: flooding.raw_bytes > 5_000_000)
    assert way.ping() < 2
    start = time.monotonic()
    run(way, other, "pass")
    assert time.monotonic() - start < 4
    assert not flooding.done(request), "the flood was over before it could hold anything up"
    way.wait(lambda: flooding.done(request), 60)
    assert len(flooding.text(request)) == 120 * 1_000_001


def test_a_reader_that_stops_costs_the_pipe_no_memory_and_ends_it_cleanly(vm: Machine) -> None:
    with pipe(vm) as way:
        kernel = started(way)
        request = kernel.execute("for i in range(60): print('x' * 1_000_000, flush=True)\nprint('end')")
        way.reading = False
        for _ in range(150):
            way.turn()
        pages = int(Path(f"/proc/{way.process.pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGESIZE") < 100_000_000
    # Its stdin was closed while its stdout was full: it ended (PipeEnd.cut waits for that), and the relay did not.
    assert kernel.session.received > 0
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(request), 30)
        assert len(kernel.text(request)) == 60 * 1_000_001 + 4


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
    request = while_away(vm, kernel, "for i in range(150): print('x' * 1_000_000, flush=True)")
    assert memory_of(relay["pid"]) < 100_000_000
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


# %dsvm


def test_a_call_from_the_kernel_and_its_answers(way: PipeEnd) -> None:
    kernel = started(way)
    code = f"""
import json, os, socket
s = socket.socket(socket.AF_UNIX); s.connect(os.environ[{SOCKET_VARIABLE!r}])
s.sendall(b'{{"line": "attach gpu-vm"}}\\n')
f = s.makefile()
for line in f:
    print(json.loads(line))
    if "result" in json.loads(line): break
s.close()
"""
    request = kernel.execute(code)
    way.wait(lambda: kernel.happened(Type.CALL))
    (call,) = kernel.happened(Type.CALL)
    assert call["request"] == {"line": "attach gpu-vm"}
    kernel.session.send(Type.RESULT, call_body(call["id"], {"progress": "starting"}))
    kernel.session.send(Type.RESULT, call_body(call["id"] + 7, {"result": "nobody's"}))
    kernel.session.send(Type.RESULT, call_body(call["id"], {"result": "attached"}))
    way.wait(lambda: kernel.done(request))
    assert kernel.text(request) == "{'progress': 'starting'}\n{'result': 'attached'}\n"
    assert len(kernel.happened(Type.CALL)) == 1, "a finished call is not cancelled"


def test_a_kernel_that_hangs_up_cancels_its_call_and_nonsense_is_hung_up_on(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    path = str(end_of_relay(vm, kernel) / "call.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b'{"line": "start gpu')
        s.sendall(b'-vm"}\n')
        way.wait(lambda: kernel.happened(Type.CALL))
    way.wait(lambda: len(kernel.happened(Type.CALL)) == 2)
    first, second = kernel.happened(Type.CALL)
    assert second == {"id": first["id"], "request": {"cancel": True}}
    for nonsense in (b"[]\n", b"GET / HTTP/1.1\r\n", b"x" * 200_000, b'{"a":' * 10_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.settimeout(5)
            try:
                s.sendall(nonsense)
                assert s.recv(1) == b""
            except ConnectionError:
                pass
    assert len(kernel.happened(Type.CALL)) == 2
    assert say(way, kernel, "print(1)") == "1\n"


# What the pipe answers itself


def test_what_the_pipe_knows(vm: Machine, way: PipeEnd) -> None:
    info = way.ask("info")["result"]
    assert info["python"] == sys.executable
    assert info["home"] == str(vm.home)
    assert info["relay"] == VERSION
    assert way.ask("kernels") == {"result": []}
    names = {spec["name"]: spec for spec in way.ask("kernelspecs")["result"]}
    assert names["python3"]["language"] == "python"
    assert os.access(names["python3"]["argv"][0], os.X_OK)
    assert "{connection_file}" in names["python3"]["argv"]
    assert way.ask("no such")["error"]["code"] == "UnknownOperation"


def test_a_listing_under_way_ends_with_the_pipe(vm: Machine) -> None:
    with pipe(vm) as way:
        way.stream.queue([Frame(Type.CALL, PIPE, 0, call_body(1, {"op": "kernelspecs"}))])
        way.turn()
        until(lambda: len(vm.processes()) == 2, what=lambda: str(vm.processes()))
    vm.wait_empty()


# Nobody is trusted


def test_only_this_user_can_reach_anything_and_the_key_is_nowhere(vm: Machine, way: PipeEnd) -> None:
    kernel = started(way)
    run(way, kernel, "pass")
    folder = end_of_relay(vm, kernel)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    for name in ("relay.sock", "call.sock", "connection.json", "kernel.log", "relay.log", "relay.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    key = kernel.messages.key
    assert key in (folder / "connection.json").read_bytes()
    running = vm.processes()
    assert len(running) == 3, running
    for pid in running:
        assert key not in Path(f"/proc/{pid}/environ").read_bytes()
        assert key not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert key not in (folder / "relay.json").read_bytes() + (folder / "relay.log").read_bytes()
    assert listening_on_tcp(running) == []


def listening_on_tcp(pids: Any) -> list[str]:
    """Local addresses on which one of these processes listens. tcp(5) of /proc: state 0A is LISTEN, column 9 the inode."""
    inodes = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except OSError:
                pass
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


def test_the_check_above_would_see_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening_on_tcp([os.getpid()])) >= 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff" * 100,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
        Frame(Type.START, bytes(16), 1, b"{}").encode(),
        Frame(Type.HELLO, bytes(16), 0, b'{"version": 1}').encode(),
        Frame(Type.HELLO, bytes(16), 0, b'{"version":1,"epoch":"x","received_upto":99,"credit":1}').encode(),
    ],
    ids=["length", "http", "start", "half-hello", "other-hello"],
)
def test_nonsense_on_the_relays_socket_closes_that_connection_only(vm: Machine, way: PipeEnd, nonsense: bytes) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    way.wait(lambda: kernel.session.attached)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(end_of_relay(vm, kernel) / "relay.sock"))
        s.sendall(nonsense)
        said = b""
        while piece := s.recv(65536):
            said += piece
    (goodbye,) = FrameDecoder().feed(said)
    assert goodbye.type == Type.GOODBYE
    assert read_json(goodbye.body)["reason"] in ("protocol", "epoch")
    for _ in range(5):
        way.turn()
    assert kernel.session.attached
    assert kernel.hung_up == kernel.gone == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Type.START, b"{}"),
        (Type.START, json_body({"argv": "python", "key": "k"})),
        (Type.DATA, bytes((Channel.IOPUB, 1)) + b"\0\0\0\0"),
        (Type.DATA, b"\x63\x01"),
        (Type.RESULT, b"short"),
        (Type.INTERRUPT, b""),
        (Type.INTERRUPT, bytes((Channel.CONTROL, 0)) + b"\0\0\0\0"),
        (Type.INTERRUPT, bytes((Channel.SHELL, 1)) + b"\0\0\0\0"),
    ],
)
def test_a_wrong_body_from_the_server_is_a_protocol_error(way: PipeEnd, kind: Type, body: bytes) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    if kind is Type.INTERRUPT:
        way.wait(lambda: kernel.session.attached)
        kernel.session.pass_by(kind, body)
    else:
        kernel.session.send(kind, body)
    way.wait(lambda: kernel.hung_up)
    assert kernel.hung_up == ["protocol"]
    assert way.ping() < 2


def test_nonsense_on_the_pipe_is_answered_and_ends_it(vm: Machine) -> None:
    with pipe(vm) as way:
        os.write(way.stream.write_fd, b"\xff" * 64)
        until(lambda: way.turn() or way.ended)
        (goodbye,) = way.own
        assert read_json(goodbye.body)["reason"] == "protocol"
    vm.wait_empty()


def test_many_connections_to_a_relay_are_bounded(vm: Machine, way: PipeEnd) -> None:
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    way.wait(lambda: kernel.session.attached)
    held = []
    try:
        for _ in range(40):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(end_of_relay(vm, kernel) / "relay.sock"))
            held.append(s)
        (relay,) = (pid for pid in vm.processes() if pid != way.process.pid)
        until(lambda: all(_closed(s) for s in held[15:]))
        assert len(os.listdir(f"/proc/{relay}/fd")) < 40
    finally:
        for s in held:
            s.close()
    assert kernel.session.attached


def _closed(s: socket.socket) -> bool:
    s.setblocking(False)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_long_home_folder_does_not_break_the_sockets(tmp_path: Path) -> None:
    with machine(tmp_path / ("long" * 20)) as vm, pipe(vm) as way:
        kernel = started(way)
        assert say(way, kernel, "print('short')") == "short\n"
        (relay,) = way.ask("kernels")["result"]
        folder = Path(f"/proc/{relay['pid']}/fd/2").resolve().parent
        assert str(folder).startswith(f"/tmp/jupyter-dsvm-{os.getuid()}-")
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        shut_down(way, kernel)
        until(lambda: not folder.exists())
        shutil.rmtree(folder.parent)


def test_no_zombies_are_left_to_whoever_reaps_for_the_pipe(vm: Machine, way: PipeEnd) -> None:
    started(way)
    way.ask("kernelspecs")
    children = subprocess.run(
        ["ps", "--ppid", str(way.process.pid), "-o", "stat="], capture_output=True, text=True, check=False
    )
    assert "Z" not in children.stdout


def test_a_spec_keeps_its_key_to_itself() -> None:
    spec = KernelSpec.from_json({"argv": ["python"], "key": "secret", "unknown": 1})
    assert "secret" not in repr(spec)
    assert KernelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(WireError):
        KernelSpec.from_json({"argv": ["python"], "key": 5})
