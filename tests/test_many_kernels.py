"""Many kernels on one machine share one pipe: the loud one, the slow way, and what sshd allows."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from jupyter_dsvm.kernels.vmpipe import PipeTimes
from jupyter_dsvm.models import LinkPhase
from support.linked import Kernel, forget_everything, piped
from support.sshd import FlakyTCP, sshd

FLOOD = """
import os, time
try:
    while True:
        print('z' * {size})
        time.sleep({pause})
except KeyboardInterrupt:
    with open({stopped!r} + '.new', 'w') as f: f.write(str(time.time()))
    os.rename({stopped!r} + '.new', {stopped!r})
    raise
"""

SLOW = 64_000
"""Bytes per second each way."""


def interrupted_within(kernel: Kernel, stopped: Path, seconds: float) -> float:
    """Interrupt it, and wait until it has felt that, over there; how long that took."""
    asked = time.time()
    kernel.io.call_soon(kernel.backend.signal, signal.SIGINT)
    kernel.until(stopped.exists, seconds)
    return float(stopped.read_text()) - asked


def round_trip(kernel: Kernel, seconds: float) -> float:
    start = time.monotonic()
    assert kernel.output("print(1)", seconds) == "1\n"
    return time.monotonic() - start


@pytest.mark.parametrize("sessions", [10, 2])
def test_twenty_kernels_over_one_pipe(tmp_path: Path, sessions: int) -> None:
    with sshd(tmp_path / "vm", f"MaxSessions {sessions}") as server, piped(server, times=PipeTimes()) as pipe:
        kernels = [Kernel(pipe) for _ in range(20)]
        for kernel in kernels:
            kernel.until(lambda k=kernel: k.starts == 1, 120)  # type: ignore[misc]
            kernel.ready()
        assert len(pipe.kernels()) == 20
        loud, *others = kernels
        stopped = server.home / "stopped"
        request = loud.execute(FLOOD.format(size=200_000, pause=0.002, stopped=str(stopped)))
        loud.next("stream", request)
        times = [round_trip(kernel, 30) for kernel in others]
        assert max(times) < 10, times
        assert interrupted_within(loud, stopped, 10) < 6
        assert loud.next("error", request, 60)["content"]["ename"] == "KeyboardInterrupt"
        for kernel in kernels:
            kernel.io.call_soon(kernel.backend.end)
        for kernel in kernels:
            kernel.until(lambda k=kernel: k.backend.over, 30)  # type: ignore[misc]
            assert kernel.exits
    forget_everything(server)
    assert not kernel_folders(server.home)


def kernel_folders(home: Path) -> list[str]:
    folder = home / ".local/share/jupyter-dsvm/kernels"
    return os.listdir(folder) if folder.exists() else []


def test_a_slow_way_and_a_fast_cell(tmp_path: Path) -> None:
    with (
        sshd(tmp_path / "vm") as server,
        FlakyTCP(server.host, server.port) as way,
        piped(server, way.port, times=PipeTimes()) as pipe,
    ):
        loud, quiet = Kernel(pipe).ready(), Kernel(pipe).ready()
        way.rate = SLOW
        stopped = server.home / "stopped"
        # Some 5 MB/s, of which the way takes little more than one part in a hundred.
        request = loud.execute(FLOOD.format(size=5000, pause=0.001, stopped=str(stopped)))
        loud.next("stream", request)
        time.sleep(4)
        begun = loud.backend._session._window.received_bytes  # one message of it takes many seconds
        times = []
        until = time.monotonic() + 8
        while time.monotonic() < until:
            times.append(round_trip(quiet, 20))
            time.sleep(0.2)
        assert max(times) < 8, times
        assert loud.backend._session._window.received_bytes > begun, "the loud one gets on as well"
        assert interrupted_within(loud, stopped, 20) < 6
        assert round_trip(quiet, 20) < 8
        # All that time the link was never taken for dead.
        assert [s.state for s in loud.links] == [LinkPhase.CONNECTING, LinkPhase.CONNECTED]
        print(times)
        # What it has said by then would take minutes over this way.
        way.rate = None
        assert loud.next("error", request, 60)["content"]["ename"] == "KeyboardInterrupt"
        loud.end()
        quiet.end()
    forget_everything(server)


def test_a_slow_way_for_what_goes_there(tmp_path: Path) -> None:
    """A request to one kernel, ten seconds long, does not hold up the other, nor the answers by which the link is known to live."""
    with (
        sshd(tmp_path / "vm") as server,
        FlakyTCP(server.host, server.port) as way,
        piped(server, way.port, times=PipeTimes()) as pipe,
    ):
        loud, quiet = Kernel(pipe).ready(), Kernel(pipe).ready()
        way.rate = SLOW
        request = loud.execute("x = '" + "y" * 600_000 + "'")
        times = []
        while True:
            times.append(round_trip(quiet, 20))
            if any(m["msg_type"] == "execute_reply" for m in _look(loud)):
                break
            assert len(times) < 300
        assert max(times) < 8, times
        loud.next("execute_reply", request)
        assert [s.state for s in loud.links] == [LinkPhase.CONNECTING, LinkPhase.CONNECTED]
        print(times)
        loud.end()
        quiet.end()
    forget_everything(server)


def _look(kernel: Kernel) -> list[dict[str, object]]:
    while not kernel.got.empty():
        kernel.kept.append(kernel.got.get()[1])
    return kernel.kept
