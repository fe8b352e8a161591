"""No kernel is left on a VM that nobody knows any more: real servers that are killed in the middle, a real SSH server."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kernels import until
from support.restarted import COMPUTE, MACHINE, Place, attach, place
from support.served import JupyterServer
from support.tab import Tab

TWIN = "host:twin"
"""The same machine by another name: to a server, another one."""

PATIENCE = 60.0

pytestmark = pytest.mark.timeout(300)  # each of them starts several servers


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("place")) as found:
        config = found.home / ".ssh" / "config"
        config.write_text(config.read_text() + config.read_text().replace(f"Host {MACHINE}", "Host twin"))
        # A spare would look like a kernel that was left.
        found.configure(DSVMService={"compute_providers": ["free", "hosts"], "spare_interpreters": False})
        yield found


@pytest.fixture
def server(where: Place, request: pytest.FixtureRequest) -> Iterator[JupyterServer]:
    with where.lasting(request.node.name) as made:
        yield made
    assert not where.machine.wait_until_idle(20)
    assert not owed(where)
    assert not list((where.data / "jupyter-dsvm" / "kernels").glob("*"))


def owed(where: Place) -> list[Path]:
    return sorted((where.data / "jupyter-dsvm" / "ends").glob("*"))


def kernels(where: Place) -> list[int]:
    return [pid for pid, command in where.machine.processes().items() if "start.py" in command]


def busy(tab: Tab) -> str:
    """A cell that runs until it is interrupted: nothing can take over from its kernel."""
    cell = tab.send("print('busy', flush=True); import time; time.sleep(600)")
    tab.until(lambda: tab.of(cell).text)
    return cell


def waiting(server: JupyterServer, kernel_id: str, compute: str) -> str:
    """A move there whose kernel has answered, and waits for the cell; the operation's id."""
    begun: str = server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": compute}, 202)["id"]
    until(lambda: server.rest("GET", f"jupyter-dsvm/operations/{begun}")["steps"][-1]["state"] == "running", PATIENCE)
    return begun


def test_killed_while_the_first_kernel_there_was_prepared(where: Place, server: JupyterServer):
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as tab:
        busy(tab)
        waiting(server, kernel_id, COMPUTE)
        (entry,) = owed(where)
        assert entry.stat().st_mode & 0o777 == 0o600
        assert entry.parent.stat().st_mode & 0o777 == 0o700
        server.kill()
        tab.cut()
    assert len(kernels(where)) == 1
    server.start()
    assert server.rest("GET", "api/sessions") == []
    until(lambda: not kernels(where), PATIENCE)
    until(lambda: not owed(where))


def test_killed_while_a_second_kernel_was_prepared(where: Place, server: JupyterServer):
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    assert not owed(where)
    with Tab(server, kernel_id) as tab:
        tab.run("kept = 7")
        cell = busy(tab)
        waiting(server, kernel_id, TWIN)
        assert len(owed(where)) == 1
        server.kill()
        tab.cut()
        assert len(kernels(where)) == 2
        server.start()
        tab.connect()
        until(lambda: len(kernels(where)) == 1, PATIENCE)
        until(lambda: not owed(where))
        until(lambda: server.row(kernel_id)["link"]["state"] == "connected")  # an interrupt is not kept
        server.rest("POST", f"api/kernels/{kernel_id}/interrupt", status=204)
        assert tab.wait(cell, timeout=PATIENCE)[0].content["ename"] == "KeyboardInterrupt"
        assert tab.run("print(kept)").text == "7\n"
        assert server.row(kernel_id)["compute"] == COMPUTE


def test_killed_at_any_moment_of_a_move(where: Place, server: JupyterServer):
    """Moments are drawn with a seed. Whatever they hit, one kernel is left, the notebook's, with all its variables."""
    chance = random.Random(20261)
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    with Tab(server, kernel_id) as tab:
        tab.run("kept = {}")
        here, there = COMPUTE, TWIN
        for turn in range(6):
            pid = int(tab.run(f"kept[{turn}] = True; import os; print(os.getpid())").text)
            server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", {"compute": there}, 202)
            time.sleep(chance.uniform(0, 2.5))
            server.kill()
            tab.cut()
            server.start()
            tab.connect()
            until(lambda: server.row(kernel_id)["link"]["state"] == "connected", PATIENCE)
            until(lambda: not owed(where), PATIENCE)
            until(lambda: len(kernels(where)) == 1, PATIENCE)
            now = server.row(kernel_id)["compute"]
            if now == here:
                assert int(tab.run("import os; print(os.getpid())", timeout=PATIENCE).text) == pid
                assert tab.run("print(list(kept))").text == f"{list(range(turn + 1))}\n"
            else:  # it had moved
                assert tab.run("kept", timeout=PATIENCE).content["ename"] == "NameError"
                tab.run(f"kept = dict.fromkeys(range({turn + 1}), True)")
                here, there = there, here
            assert len(kernels(where)) == 1


def test_shut_down_while_out_of_reach_and_the_server_stopped(where: Place, server: JupyterServer):
    session = server.open("one.ipynb")
    attach(server, session["kernel"]["id"])
    where.machine.stop_listening()
    try:
        until(lambda: server.row(session["kernel"]["id"])["link"]["state"] == "reconnecting")
        server.rest("DELETE", f"api/sessions/{session['id']}", status=204)
        until(lambda: len(owed(where)) == 1)
        assert not where.kept
        server.stop()
        assert len(kernels(where)) == 1
        server.start()  # and once more, without ever having reached it
        server.stop()
        assert len(kernels(where)) == len(owed(where)) == 1
    finally:
        where.machine.start()
    server.start()
    assert server.rest("GET", "api/kernels") == []
    until(lambda: not kernels(where), PATIENCE)
    until(lambda: not owed(where))


def test_out_of_reach_and_back_while_the_server_runs(where: Place, server: JupyterServer):
    """For longer than an end is waited for."""
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    where.machine.stop_listening()
    try:
        until(lambda: server.row(kernel_id)["link"]["state"] == "reconnecting")
        attach(server, kernel_id, "free")
        assert len(owed(where)) == 1
        time.sleep(20)
        assert len(kernels(where)) == 1
    finally:
        where.machine.start()
    until(lambda: not kernels(where), PATIENCE)
    until(lambda: not owed(where))


def test_detached_and_then_locked_out(where: Place, server: JupyterServer):
    """Once the machine lets us in again, the next attach ends what the move had left there."""
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    attach(server, kernel_id)
    where.machine.stop_listening()
    keys = where.machine.folder / "authorized_keys"
    sound = keys.read_text()
    try:
        until(lambda: server.row(kernel_id)["link"]["state"] == "reconnecting")
        keys.write_text("")
        where.machine.start()
        attach(server, kernel_id, "free")
        until(lambda: "could not be ended on vm" in server.log.read_text(), PATIENCE)
        assert len(kernels(where)) == len(owed(where)) == 1
    finally:
        keys.write_text(sound)
    other = server.open("two.ipynb")["kernel"]["id"]
    attach(server, other)
    until(lambda: len(kernels(where)) == 1, PATIENCE)
    until(lambda: not owed(where))
    with Tab(server, other) as tab:
        assert [int(tab.run("import os; print(os.getpid())").text)] == kernels(where)


def test_a_second_server_ends_nothing_of_the_first(where: Place, server: JupyterServer):
    kernel_id = server.open("one.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as tab, where.server("second") as second:
        cell = busy(tab)
        begun = waiting(server, kernel_id, COMPUTE)
        second.stop()
        second.start()
        other = second.open("two.ipynb")["kernel"]["id"]
        attach(second, other)
        assert len(kernels(where)) == 2
        server.rest("POST", f"api/kernels/{kernel_id}/interrupt", status=204)
        tab.wait(cell)
        # An interrupt calls the move off, and then its kernel is ended by the server that had it.
        assert server.operation(begun)[0]["state"] == "cancelled"
        until(lambda: len(kernels(where)) == 1, PATIENCE)
        until(lambda: not owed(where))
