"""Files go over the connection that kernels use: neither holds up the other, and both come back after a cut."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from jupyter_dsvm.errors import Unreachable
from jupyter_dsvm.sync.plan import Outcome
from jupyter_dsvm.sync.remote import RemoteFolder
from support.linked import Kernel, forget_everything, piped
from support.sshd import FlakyTCP, sshd
from support.workspaces import NEVER, Plain, change, fetch, pull, push


def test_a_kernel_answers_while_files_are_copied(tmp_path: Path) -> None:
    """On a way of 1 MB/s whatever SSH's windows take would hold up a reply for many seconds."""
    here = Plain(tmp_path / "here")
    entries = [here.write(f"f{i}", os.urandom(200_000)) for i in range(40)]
    with (
        sshd(tmp_path / "vm", "MaxSessions 2") as server,
        FlakyTCP(server.host, server.port, delay=0.01, rate=1e6) as way,
        piped(server, way.port) as pipe,
    ):
        kernel = Kernel(pipe)
        kernel.until(lambda: kernel.starts == 1, 60)
        kernel.ready()
        folder = RemoteFolder(lambda: pipe.ssh(30), "w", "vm")
        outcomes: list[Outcome] = []

        def copy() -> None:
            folder.change([push(e) for e in entries], here, outcomes.append, lambda n: None, NEVER)  # type: ignore[arg-type]
            back = Plain(tmp_path / "back")
            there = [o.there for o in outcomes if o.there is not None]
            folder.fetch([pull(e) for e in there], back, outcomes.append, lambda n: None, NEVER)  # type: ignore[arg-type]

        copying = threading.Thread(target=copy)
        copying.start()
        times = []
        while copying.is_alive():
            begun = time.monotonic()
            assert kernel.output("print(1)", 30) == "1\n"
            times.append(time.monotonic() - begun)
            time.sleep(0.2)
        copying.join()
        assert len(outcomes) == 80
        assert all(o.done for o in outcomes)
        assert len(times) > 5
        assert sorted(times)[len(times) // 2] < 2, times
        assert max(times) < 6, times
        folder.close()
        kernel.io.call_soon(kernel.backend.end)
        kernel.until(lambda: kernel.backend.over, 30)
    forget_everything(server)


def test_files_wait_for_the_pipe_to_come_back(tmp_path: Path) -> None:
    here = Plain(tmp_path / "here")
    entries = [here.write(f"f{i}", os.urandom(100_000)) for i in range(60)]
    with (
        sshd(tmp_path / "vm") as server,
        FlakyTCP(server.host, server.port, rate=10e6) as way,
        piped(server, way.port) as pipe,
    ):
        folder = RemoteFolder(lambda: pipe.ssh(30), "w", "vm")
        done: list[Outcome] = []

        def tell(outcome: Outcome) -> None:
            done.append(outcome)
            if len(done) in (10, 30):
                way.cut()

        folder.change([push(e) for e in entries], here, tell, lambda n: None, NEVER)  # type: ignore[arg-type]
        assert all(o.done for o in done)
        assert len(done) == 60
        assert way.cuts == 2
        folder.close()
        assert all(o.done for o in change(folder, here, [push(here.write("more", b"x"))]))
        there = folder.scan((), {}, NEVER).tree
        assert there is not None
        assert fetch(folder, Plain(tmp_path / "back"), [pull(there["more"])])[0].done
        folder.close()
    with pytest.raises(Unreachable, match=r"closed|out of reach"):
        pipe.ssh()
