"""A link that is taken over by another server process: what the first had not handed on comes again, and nothing else."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.errors import ProtocolError
from jupyter_dsvm.kernels.keptfiles import KeptKernel
from jupyter_dsvm.kernels.link import RelayBackend
from jupyter_dsvm.kernels.runsthere import RunsThere
from jupyter_dsvm.kernels.vmpipe import VMPipe
from jupyter_dsvm.models import LinkPhase
from jupyter_dsvm.relay.wire import Channel, WireError
from support.linked import Kernel, open_pipe, piped
from support.sshd import SSHServer, sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


class Slow(Kernel):
    """Its clients take messages up to a number only."""

    def __init__(self, pipe: VMPipe, **spec: Any) -> None:
        self.upto = 1 << 60
        self.numbers: list[int] = []
        self.adoptions: list[int] = []
        super().__init__(pipe, **spec)

    def message(self, backend: RelayBackend, channel: Channel, parts: list[bytes], number: int = 0) -> None:
        _, rest = self.session.feed_identities(parts)
        self.got.put((channel, self.session.deserialize(rest)))
        self.numbers.append(number)
        backend.handed_on(min(number, self.upto))

    def adopted(self, backend: RelayBackend, received_upto: int) -> None:
        self.adoptions.append(received_upto)

    def taken_over(self, pipe: VMPipe, kept: KeptKernel, handed_on: int) -> None:
        """By a process of which this object is the proxy now."""
        self.numbers.clear()
        self.links.clear()
        self.error = None
        assert pipe.retain()
        self.backend = RelayBackend.adopting(pipe, kept, handed_on)
        self.io = pipe.io
        self.session.digest_history.clear()
        self.io.call_soon(self.backend.start, self)


def test_what_was_not_handed_on_comes_again(server: SSHServer, tmp_path: Path):
    first = open_pipe(server)
    kernel = Slow(first)
    try:
        kernel.ready()
        assert kernel.output("print('before')") == "before\n"
        kernel.until(lambda: kernel.backend._session.acked > 0)
        kernel.upto = kernel.numbers[-1]
        assert kernel.output("for i in range(50): print(i, flush=True)").split() == [str(i) for i in range(50)]
        later = [n for n in kernel.numbers if n > kernel.upto]
        cell = kernel.execute("open({!r}, 'w').write('ran')".format(str(tmp_path / "ran")))
        kernel.until((tmp_path / "ran").exists)
        kept = kernel.written_down()
        assert kept.peer_epoch
    finally:
        first.close()  # as when the process is killed: nothing is said to the relay
    with piped(server, patient=True) as second:
        kernel.taken_over(second, kept, kernel.upto)
        kernel.until(lambda: kernel.phase is LinkPhase.CONNECTED)
        assert kernel.links[0].state is LinkPhase.CONNECTING
        assert len(kernel.adoptions) == 1
        assert kernel.adoptions[0] >= 3  # all requests had arrived
        kernel.until(lambda: set(later) <= set(kernel.numbers))
        assert kernel.numbers[0] == kernel.upto + 1
        assert kernel.numbers == sorted(set(kernel.numbers))
        kernel.next("execute_reply", cell)
        kernel.upto = 1 << 60
        assert kernel.output("print('after')") == "after\n"
        kernel.end()
    assert not server.wait_until_idle(10)


def test_the_end_is_told_after_everything_else_and_acknowledged_with_it(server: SSHServer):
    """The relay of a kernel that ended while nobody was attached waits for whoever hears of it."""
    first = open_pipe(server)
    kernel = Slow(first)
    try:
        kernel.ready()
        kernel.upto = kernel.numbers[-1]
        cell = kernel.execute("import os, time; print('last words', flush=True); time.sleep(0.5); os._exit(5)")
        kernel.next("stream", cell)
        kept = kernel.written_down()
    finally:
        first.close()
    with piped(server, patient=True) as second:
        kernel.taken_over(second, kept, kernel.upto)
        kernel.until(lambda: kernel.exits)
        assert kernel.exits[0][0] == 5
        assert kernel.next("stream", cell)["content"]["text"] == "last words\n"
        assert kernel.backend._session._window.delivered < kernel.numbers[-1]  # the clients do not have it yet
        kernel.io.call(kernel.backend.handed_on, kernel.numbers[-1]).result(5)
        assert kernel.backend._session._window.delivered == kernel.backend._session.received > kernel.numbers[-1]
        kernel.io.call_soon(kernel.backend.end)
        kernel.until(lambda: kernel.backend.over)
    assert not server.wait_until_idle(10)


def test_the_newest_attach_wins(server: SSHServer):
    with piped(server) as first, piped(server) as second:
        former = Slow(first)
        former.ready()
        kept = former.written_down()
        latter = Slow.__new__(Slow)
        latter.__dict__.update(
            former.__dict__, got=queue.Queue(), kept=[], numbers=[], links=[], exits=[], adoptions=[]
        )
        latter.taken_over(second, kept, former.numbers[-1])
        former.until(lambda: former.error is not None)
        assert former.error is not None
        assert former.error.code == "Superseded"
        # Until it is adopted, nothing may be sent: the proxy keeps requests back as it does without a kernel.
        latter.until(lambda: latter.adoptions)
        assert latter.output("print('mine now')") == "mine now\n"
        latter.end()
    assert not server.wait_until_idle(10)


def test_who_does_not_know_the_session_changes_nothing(server: SSHServer):
    with piped(server) as first, piped(server) as second:
        kernel = Slow(first)
        kernel.ready()
        other = Slow.__new__(Slow)
        other.__dict__.update(kernel.__dict__, got=queue.Queue(), kept=[], numbers=[], links=[], exits=[], adoptions=[])
        other.taken_over(second, replace(kernel.written_down(), epoch="another"), 0)
        other.until(lambda: other.error is not None)
        assert isinstance(other.error, ProtocolError)
        assert kernel.error is None
        assert kernel.output("print('still mine')") == "still mine\n"
        kernel.end()
    assert not server.wait_until_idle(10)


# Runs


def told(run: int, runs: int, **more: object) -> dict[str, object]:
    return {"run": run, "runs": runs, "phase": "running", **more}


@pytest.mark.parametrize(
    ("asked", "known", "hello", "found"),
    [
        (1, 1, told(1, 1), ""),
        (1, 0, told(1, 1), "started"),  # it came up, and the other had not spoken to it yet
        (1, 0, told(0, 1, phase="starting"), ""),  # STARTED comes
        (1, 0, told(0, 0, phase="absent"), "absent"),
        (2, 1, told(2, 2), "started"),
        (2, 1, told(1, 1), "started"),  # the order to restart never arrived
        (2, 1, told(1, 2, phase="starting"), ""),
        (1, 1, told(1, 1, phase="ended", code=3), "ended"),
        (1, 1, told(1, 1, phase="ended"), ""),  # EXITED comes
    ],
)
def test_what_an_adopter_is_told_of_the_kernel(asked: int, known: int, hello: dict[str, Any], found: str):
    runs = RunsThere(asked, known)
    assert runs.adopted(hello) == found
    assert (runs.asked, runs.started) == (hello["runs"], hello["run"])
    if found != "ended" and hello["run"]:
        assert runs.ends({"run": hello["run"]})
    assert not runs.ends({"run": hello["run"]}) or not hello["run"]


@given(
    st.dictionaries(st.sampled_from(["run", "runs", "code", "phase"]), st.one_of(st.none(), st.integers(), st.text()))
)
def test_a_relay_that_tells_nonsense_is_refused(hello: dict[str, Any]):
    runs = RunsThere(1, 1)
    try:
        runs.adopted(hello)
    except WireError:
        return
    assert 0 <= runs.started <= runs.asked
