"""Nothing that a kernel on a VM says is lost, repeated or out of order, whatever happens to the way there.

The truth is a file on the VM, into which the cell writes each line that it prints. The machine has a real SSH server, OpenSSH
or dropbear, in a network of its own where the test runs as root, else on loopback. What happens, and when, is drawn
from a seed, which is in the test's name; ``JUPYTER_DSVM_SEEDS=1-50`` in the environment tries others.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.errors import RelayError
from jupyter_dsvm.kernels.vmpipe import PipeTimes
from jupyter_dsvm.models import LinkPhase
from support import netns, restarted
from support.kernels import Notebook, until
from support.linked import Kernel, backend_on, forget_everything, piped
from support.pages import Page, reading
from support.sshd import DROPBEAR, FlakyTCP, SSHServer, dropbear, sshd
from support.tab import Tab

TIMES = PipeTimes(ping=0.4, deadline=1.2, reconnect=3.0, answer=1.0, longest_wait=0.5)
"""Quicker than usual, so that more can happen while a cell runs."""

PATIENCE = 120.0
MANY = 8
"""So much happens at most, since a cell is to come to its end."""


def seeds() -> list[int]:
    first, _, last = os.environ.get("JUPYTER_DSVM_SEEDS", "1-3").partition("-")
    return list(range(int(first), int(last or first) + 1))


@contextlib.contextmanager
def machine(kind: str, folder: Path) -> Iterator[tuple[SSHServer, netns.Network | None]]:
    make = {"openssh": sshd, "dropbear": dropbear}[kind]
    if kind == "dropbear" and (DROPBEAR is None or os.geteuid() != 0):
        pytest.skip("dropbear's test needs dropbear-bin and root")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(netns.network()) if netns.possible() else None
        yield stack.enter_context(make(folder / "vm", network=network)), network


@pytest.fixture(params=["openssh", "dropbear"])
def vm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SSHServer, netns.Network | None]]:
    with machine(request.param, tmp_path) as made:
        yield made


class Mishaps:
    """What happens to the way while the cell runs, one thing after the other, until ``enough``."""

    def __init__(self, seed: int, server: SSHServer, way: FlakyTCP, network: netns.Network | None) -> None:
        self._random = random.Random(seed)
        self._way = way
        self._server = server
        self._network = network
        self._over = threading.Event()
        self.happened: list[str] = []
        self._kinds: list[Callable[[], str]] = [self._cut, self._cut, self._stall, self._refuse, self._sshd_dies]
        if network is not None:
            self._kinds.append(self._swallow)
        self._thread = threading.Thread(target=self._run, name="mishaps")

    def __enter__(self) -> Mishaps:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while len(self.happened) < MANY and not self._over.wait(self._random.uniform(0.05, 1.0)):
            self.happened.append(self._random.choice(self._kinds)())

    def _cut(self) -> str:
        self._way.cut()
        return "cut"

    def _stall(self) -> str:
        seconds = self._random.uniform(0.1, 2.5)
        self._way.stall = True
        self._over.wait(seconds)
        if self._random.random() < 0.5:
            self._way.cut()
        self._way.stall = False
        return f"stall {seconds:.1f}"

    def _refuse(self) -> str:
        seconds = self._random.uniform(0.1, 1.5)
        self._way.refuse = True
        self._way.cut()
        self._over.wait(seconds)
        self._way.refuse = False
        return f"refuse {seconds:.1f}"

    def _sshd_dies(self) -> str:
        seconds = self._random.uniform(0.0, 1.0)
        self._server.stop_listening()
        self._over.wait(seconds)
        self._server.start()
        return f"sshd dies {seconds:.1f}"

    def _swallow(self) -> str:
        assert self._network is not None
        seconds = self._random.uniform(0.1, 2.5)
        self._network.swallow()
        self._over.wait(seconds)
        self._network.heal()
        return f"swallow {seconds:.1f}"


@contextlib.contextmanager
def notebook_on(server: SSHServer) -> Iterator[tuple[Notebook, FlakyTCP]]:
    """A notebook whose kernel is on the machine, and the way there."""
    with (
        FlakyTCP(server.host, server.port) as way,
        piped(server, way.port, times=TIMES) as pipe,
        Notebook() as notebook,
    ):
        proxy = notebook.proxy
        backend = backend_on(pipe, proxy.kernel_id, proxy.key, proxy.session)
        proxy.prepare(backend).result(60)
        proxy.swap(backend).result(60)
        yield notebook, way


COUNT = """
import time, random
r = random.Random({seed})
with open({truth!r}, 'a') as f:
    for i in range({first}, {first} + {n}):
        line = f"{{i}} {{'x' * r.choice([0, 0, 10, 1000, 100_000])}}"
        print(line, flush=True)
        print(line, file=f, flush=True)
        time.sleep(r.choice([0, 0.01, 0.02]))
"""


def numbers(text: str) -> list[int]:
    return [int(line.split(" ", 1)[0]) for line in text.splitlines()]


def printed(message: dict[str, Any]) -> str:
    content = message["content"]
    return str(content["text"]) if message["msg_type"] == "stream" and content["name"] == "stdout" else ""


def nothing_left(server: SSHServer) -> None:
    """On the VM, once its kernels were ended: no process, no kernel's folder."""
    # A connection whose end was swallowed stands there until its sshd gives up, which takes minutes.
    server.stop_listening()
    forget_everything(server)
    kernels = server.home / ".local/share/jupyter-dsvm/kernels"
    assert not kernels.exists() or not os.listdir(kernels)


@pytest.mark.parametrize("seed", seeds())
def test_a_cell_counts_through_all_that_happens(
    vm: tuple[SSHServer, netns.Network | None], dsvm_provisioner: None, seed: int
) -> None:
    server, network = vm
    with notebook_on(server) as (notebook, way):
        truth = server.home / "truth"
        page = Page(notebook.proxy)
        with reading(page), Mishaps(seed, server, way, network) as mishaps:
            cells = [
                notebook.send(COUNT.format(seed=seed * 10 + k, truth=str(truth), first=300 * k, n=300))
                for k in range(2)
            ]
            done = notebook.wait(*cells, timeout=PATIENCE)
        # A kernel that is out of reach when it is shut down is ended later, by a pipe that this test closes at once.
        until(lambda: notebook.proxy.status.link.state is LinkPhase.CONNECTED)
        print(seed, mishaps.happened)
        assert len(mishaps.happened) >= 3
        until(lambda: all("idle" in page.of(cell).states for cell in cells))
        assert numbers(truth.read_text()) == list(range(600))
        for texts in ([e.text for e in done], [page.of(cell).text for cell in cells]):
            assert "".join(texts) == truth.read_text()
        for execution in done:
            assert [r["content"]["status"] for r in execution.replies] == ["ok"]
            assert execution.states == ["busy", "idle"]
            ids = [m["header"]["msg_id"] for m in execution.published]
            assert len(ids) == len(set(ids))
    nothing_left(server)


def test_what_was_sent_while_nothing_passed_is_run_once_and_in_order(
    vm: tuple[SSHServer, netns.Network | None], dsvm_provisioner: None
) -> None:
    server, _ = vm
    with notebook_on(server) as (notebook, way):
        truth = server.home / "truth"
        notebook.run(f"f = open({str(truth)!r}, 'a')")
        cells = []
        for n in range(12):
            if n % 3 == 0:
                way.refuse = True
                way.cut()
            cells.append(notebook.send(f"print({n}); print({n}, file=f, flush=True)"))
            time.sleep(0.1)
            way.refuse = False
        done = notebook.wait(*cells, timeout=60)
        assert "".join(e.text for e in done) == truth.read_text() == "".join(f"{n}\n" for n in range(12))
        notebook.run("f.close()")
    nothing_left(server)


def test_who_comes_second_gets_all_that_the_first_had_not_taken(vm: tuple[SSHServer, netns.Network | None]) -> None:
    server, _ = vm
    with piped(server, times=TIMES) as pipe, piped(server, times=TIMES) as other_pipe:
        first = Kernel(pipe).ready()
        truth = server.home / "truth"
        request = first.execute(COUNT.format(seed=7, truth=str(truth), first=0, n=300))
        had: list[str] = []
        while len(numbers("".join(had))) < 40:
            had.append(printed(first.next("stream", request)))

        def stop_acknowledging() -> int:
            first.acknowledging = False
            return first.got.qsize()

        waiting = first.io.call(stop_acknowledging).result(5)
        texts = [printed(m) for m in first.kept] + [printed(first.got.get()[1]) for _ in range(waiting)]
        acknowledged = "".join(had + texts)
        # More comes, which the first one sees but does not take over.
        first.until(lambda: first.got.qsize() > 5)
        second = Kernel.heir(other_pipe, first)
        first.until(lambda: first.error is not None)
        assert isinstance(first.error, RelayError)
        assert first.error.code == "Superseded"
        assert first.phase is LinkPhase.GONE
        second.until(lambda: second.starts == 1)
        text = []
        while True:
            _, message = second.got.get(timeout=60)
            second.kept.append(message)
            text.append(printed(message))
            if message["content"].get("execution_state") == "idle":
                break
        assert acknowledged + "".join(text) == truth.read_text()
        assert numbers(truth.read_text()) == list(range(300))
        assert second.next("execute_reply", request)["content"]["status"] == "ok"
        assert second.output("print('mine')") == "mine\n"
        second.end()
    nothing_left(server)


def test_a_server_that_is_killed_over_a_bad_way(tmp_path: Path) -> None:
    """kill -9 of a real Jupyter server in the middle of a cell, with cuts before, meanwhile and after; the page comes back."""
    with sshd(tmp_path / "machine") as server, FlakyTCP(server.host, server.port) as way:
        where = restarted.Place(tmp_path, server, way.port)
        truth = server.home / "truth"
        with where.server() as jupyter:
            kernel_id = jupyter.open("count.ipynb")["kernel"]["id"]
            restarted.attach(jupyter, kernel_id)
            with Tab(jupyter, kernel_id) as tab:
                tab.run("x = 41")
                cells = [tab.send(COUNT.format(seed=5 + k, truth=str(truth), first=500 * k, n=500)) for k in range(2)]
                tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 20)
                way.cut()
                tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 100)
                way.refuse = True
                way.cut()
                jupyter.kill()
                time.sleep(0.5)
                jupyter.start()
                way.refuse = False
                tab.connect()
                tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 200)
                way.cut()
                done = tab.wait(*cells, timeout=PATIENCE)
                assert "".join(e.text for e in done) == truth.read_text()
                assert numbers(truth.read_text()) == list(range(1000))
                assert [e.status for e in done] == ["ok", "ok"]
                assert tab.run("print(x)").text == "41\n"
                jupyter.rest("DELETE", f"api/kernels/{kernel_id}", status=204)
        nothing_left(server)
