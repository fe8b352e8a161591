"""Who may attach to a relay, and what each gets: cuts, the newest attach, the server that starts again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from jupyter_dsvm.relay.spec import SOCKET_VARIABLE
from jupyter_dsvm.relay.wire import (
    Channel,
    Type,
    data_bodies,
    read_json,
)
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, pipe, until
from support.relay_vm import IPYKERNEL, end_of_relay, home, ready, run, say, shut_down, started, vm, way

__all__ = ["home", "vm", "way"]


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
    assert kernel.signal(signal.SIGINT) is False, "an interrupt must not wait for the link"
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
    with machine(home, before="import relay.daemon as d; d.UNUSED_LIMIT = 1.0; d.EXITED_LIMIT = 0.6") as vm:
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
