"""The relay with a real kernel, over a real attach pipe: all that SSH would carry, without SSH."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from jupyter_dsvm.relay.wire import (
    PIPE,
    VERSION,
    Channel,
    Frame,
    Type,
    call_body,
)
from support.relay_end import KernelEnd, Machine, PipeEnd, pipe, until
from support.relay_vm import end_of_relay, home, run, say, shut_down, started, vm, way

__all__ = ["home", "vm", "way"]


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
    assert kernel.signal(signal.SIGINT)
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


WAITING = """
import os, runpy, sys, time
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
sys.argv[1:] = ["-f", sys.argv[1]]
runpy.run_module("ipykernel_launcher", run_name="__main__")
"""


def test_what_is_sent_while_the_kernel_starts_is_acknowledged_when_it_was_handed_on(vm: Machine, way: PipeEnd) -> None:
    go = vm.home / "go"
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    kernel.start([sys.executable, "-c", WAITING, "{connection_file}", str(go)])
    request = kernel.execute("print('late')")
    way.wait(lambda: kernel.session.acked == 1)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        way.turn()
        assert kernel.session.acked == 1
    go.touch()
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
