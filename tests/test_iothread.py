"""The I/O thread: what is handed over runs there, in order, whatever else happens, and the thread goes with its last user."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import closing

import pytest
import zmq

from jupyter_dsvm.kernels.iothread import IOThread


@pytest.fixture
def io() -> Iterator[IOThread]:
    thread = IOThread.acquire()
    yield thread
    IOThread.release()


def test_calls_run_on_one_thread_in_order_and_give_their_results(io: IOThread) -> None:
    seen: list[int] = []
    names = {io.call(lambda n=n: (seen.append(n), threading.current_thread().name)[1]).result(5) for n in range(500)}
    assert seen == list(range(500))
    assert names == {"jupyter-dsvm-io"}


def test_what_a_call_raises_is_its_futures_and_the_thread_goes_on(
    io: IOThread, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ZeroDivisionError):
        io.call(lambda: 1 // 0).result(5)
    io.call_soon(lambda: 1 // 0)
    assert io.call(lambda: io.here).result(5)
    assert not io.here
    assert "a callback on the I/O thread failed" in caplog.text


def test_a_call_that_was_cancelled_does_not_run(io: IOThread) -> None:
    blocked, ran = threading.Event(), []
    io.call_soon(blocked.wait, 5)
    future: Future[None] = io.call(ran.append, 1)
    assert future.cancel()
    blocked.set()
    io.call(lambda: None).result(5)
    assert ran == []


def test_calls_from_many_threads_are_all_run(io: IOThread) -> None:
    counts: list[int] = []

    def hammer() -> None:
        for n in range(2000):
            io.call_soon(counts.append, n)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    io.call(lambda: None).result(5)
    assert len(counts) == 8000


def test_timers_run_in_the_order_in_which_they_are_due_unless_cancelled(io: IOThread) -> None:
    seen: list[str] = []
    done = threading.Event()

    def plan() -> None:
        io.call_later(0.06, lambda: (seen.append("late"), done.set()))
        io.call_later(0.02, lambda: seen.append("early"))
        io.call_later(0.03, lambda: seen.append("never")).cancel()

    started = time.monotonic()
    io.call(plan).result(5)
    assert done.wait(5)
    assert seen == ["early", "late"]
    assert time.monotonic() - started >= 0.06


def test_sockets_of_both_kinds_are_watched_until_unregistered(io: IOThread) -> None:
    a, b = socket.socketpair()
    with closing(a), closing(b):
        heard: list[bytes] = []
        arrived = threading.Event()

        def ready(_events: int) -> None:
            heard.append(a.recv(10))
            arrived.set()

        io.call(io.register, a, ready).result(5)
        b.send(b"x")
        assert arrived.wait(5)
        io.call(io.unregister, a).result(5)
        b.send(b"y")
        io.call(lambda: None).result(5)
        assert heard == [b"x"]

    pair = io.call(lambda: (io.context.socket(zmq.PAIR), io.context.socket(zmq.PAIR))).result(5)
    got = threading.Event()

    def setup() -> None:
        pair[0].bind("inproc://x")
        pair[1].connect("inproc://x")
        io.register(pair[0], lambda _events: (pair[0].recv(), got.set()))
        pair[1].send(b"x")

    io.call(setup).result(5)
    assert got.wait(5)

    def close_without_unregistering() -> None:
        for s in pair:
            s.close(0)

    io.call(close_without_unregistering).result(5)
    assert io.call(lambda: "still there").result(5) == "still there"


def test_the_thread_is_shared_and_ends_with_its_last_user() -> None:
    first, second = IOThread.acquire(), IOThread.acquire()
    assert first is second
    IOThread.release()
    assert first.call(lambda: 1).result(5) == 1
    ran: list[int] = []
    first.call_soon(ran.append, 1)
    IOThread.release()
    assert ran == [1], "what was handed over before the end has run"
    with pytest.raises(CancelledError):
        first.call(lambda: 1).result(5)
    first.call_soon(ran.append, 2)
    another = IOThread.acquire()
    assert another is not first
    IOThread.release()


def test_the_last_release_may_come_from_the_thread_itself() -> None:
    io = IOThread.acquire()
    released: Future[None] = io.call(IOThread.release)
    released.result(5)
    io._thread.join(5)
    assert not io._thread.is_alive()
