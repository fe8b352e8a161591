"""Kernels that nobody goes on with are ended on their VM as soon as it is reached: a real SSH server, and the emulated cloud."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.kernels import ending, link
from jupyter_dsvm.kernels.comeback import Comeback
from jupyter_dsvm.kernels.ending import Ending
from jupyter_dsvm.kernels.ledger import ledger, owed_folder
from jupyter_dsvm.kernels.owed import OwedEnd
from jupyter_dsvm.models import FREE, LinkPhase
from support.emulated import HERE, PATIENCE, WHERE, assert_moved, attached, configured, emulator, ours, service, where
from support.kernels import Notebook, until
from support.linked import Kernel, open_pipe, piped
from support.sshd import SSHServer, sshd

__all__ = ["configured", "emulator"]

pytestmark = pytest.mark.timeout(300)  # the cloud takes long to set up on a busy computer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Before, in a folder of its own, and after."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    yield
    until(lambda: not entries())


def entries() -> list[Path]:
    return sorted(owed_folder().glob("*"))


def left(server: SSHServer, code: str = "") -> OwedEnd:
    """A kernel whose server was killed while it was prepared."""
    pipe = open_pipe(server)
    kernel = Kernel(pipe)
    try:
        kernel.ready()
        if code:
            kernel.acknowledging = False
            kernel.next("stream", kernel.execute(code))
        assert len(entries()) == 1
    finally:
        pipe.close()
    (end,) = ledger.claim("host:vm")
    assert server.processes()
    return end


def settle(server: SSHServer, end: OwedEnd) -> list[bool]:
    told: list[bool] = []
    with piped(server, patient=True) as pipe:
        assert pipe.retain()
        pipe.io.call(Ending, pipe, end, told.append).result(5)
        until(lambda: told)
    return told


def test_an_orphan_is_ended(server: SSHServer):
    end = left(server)
    assert settle(server, end) == [True]
    assert not server.wait_until_idle(10)
    assert settle(server, end) == [True]  # the pipe says that it has no such kernel
    ledger.leave(end.tag, settled=True)


def test_also_one_that_has_more_to_say_than_anybody_wants_to_hear(server: SSHServer):
    end = left(
        server, "print('x', flush=True)\nfor i in range(300): print('y' * 100_000)\nimport time; time.sleep(600)"
    )
    assert settle(server, end) == [True]
    assert not server.wait_until_idle(30)
    ledger.leave(end.tag, settled=True)


def test_one_that_was_killed_before_it_was_started_leaves_by_itself(server: SSHServer):
    """A HELLO has arrived, and no START."""
    with piped(server) as pipe:
        session = link.Session(link.Role.SERVER, b"t" * 16)
        greeting = _Greeting(session)
        pipe.io.call(pipe.router.add, greeting).result(5)
        until(lambda: session.peer_epoch)
        pipe.io.call(pipe.router.remove, greeting).result(5)
    end = OwedEnd(session.tag.hex(), session.epoch, "host:vm", "vm", time.time())
    assert settle(server, end) == [True]
    assert not server.wait_until_idle(30)


class _Greeting:
    """A member of a pipe that says HELLO and nothing else."""

    def __init__(self, session: link.Session) -> None:
        self.tag = session.tag
        self._session = session

    def pipe_up(self) -> None:
        self._session.attach(create=True)

    def pipe_lost(self, attempt: int, error: Exception) -> None:
        self._session.detach()

    def pipe_failed(self, error: Exception) -> None:
        pass

    def frames_to_send(self, max_bytes: int) -> list[link.Frame]:
        return self._session.frames_to_send(max_bytes) if self._session.can_send else []

    def frame(self, frame: link.Frame) -> None:
        self._session.receive(frame)


def test_a_stranger_with_the_wrong_word_ends_nothing(server: SSHServer):
    with piped(server) as pipe:
        kernel = Kernel(pipe).ready()
        (entry,) = entries()
        stranger = OwedEnd(entry.stem, "another", "host:vm", "vm", time.time())
        assert settle(server, stranger) == [True]  # there is nothing that we could end
        assert kernel.output("print('still here')") == "still here\n"
        kernel.end()
    assert not server.wait_until_idle(10)


def test_patience_ends_and_what_is_owed_stays(server: SSHServer, monkeypatch: pytest.MonkeyPatch):
    end = left(server)
    server.stop_listening()
    try:
        with monkeypatch.context() as patch:  # undoing all would undo the folder, too
            patch.setattr(ending, "PATIENCE", 0.5)
            assert settle(server, end) == [False]
    finally:
        server.start()
    ledger.leave(end.tag, settled=False)
    assert len(entries()) == 1
    (again,) = ledger.claim()
    assert again == end
    assert settle(server, end) == [True]
    ledger.leave(end.tag, settled=True)
    assert not server.wait_until_idle(10)


# In a service


def kernels_there(configured: Emulator) -> list[str]:
    return [line for line in ours(configured, "cpu-vm") if "start.py" in line]


def test_out_of_reach_for_longer_than_an_end_is_waited_for(configured: Emulator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link, "END_WAIT", 0.5)
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        configured.kill_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.RECONNECTING)
        assert_moved(notebook, "free")
        assert where(notebook) == HERE
        time.sleep(3)  # what was to end it has given up
        assert kernels_there(configured)
        assert len(entries()) == 1
        configured.start_ssh("cpu-vm")
        until(lambda: not entries(), PATIENCE)
        until(lambda: not kernels_there(configured))


def test_a_machine_that_was_deallocated_owes_nothing(configured: Emulator, monkeypatch: pytest.MonkeyPatch):
    """And is not started to find that out."""
    monkeypatch.setattr(link, "END_WAIT", 0.5)
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        configured.kill_ssh("cpu-vm")
        until(lambda: notebook.proxy.status.link.state is LinkPhase.RECONNECTING)
        assert_moved(notebook, "free")
        assert len(entries()) == 1
        before = len(configured.traffic)
        configured.power("cpu-vm", "deallocate")
        until(lambda: not entries(), PATIENCE)
        assert not [t for t in configured.traffic[before:] if "/start" in str(t)]
        assert configured.vm("cpu-vm")["power_state"] == "deallocated"


def test_notebooks_on_a_machine_that_we_stop_come_back_whether_their_link_has_seen_its_end_or_not(
    configured: Emulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Comeback, "gone", lambda comeback, name: None)
    with Notebook() as notebook:
        attached(notebook, "gpu-vm")
        operation = service().stop("gpu-vm")
        until(lambda: service().operation(operation.id).ended, PATIENCE)
        until(lambda: notebook.proxy.status.compute == FREE, PATIENCE)
        assert notebook.proxy.status.link.state is LinkPhase.LOCAL
        reply = notebook.run(WHERE)
        assert reply.content["status"] == "ok"
