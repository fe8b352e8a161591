"""What is ready is said, of descriptors and of ZeroMQ sockets, by either poller, whatever was done with the sockets in between."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_dsvm.relay import multipart
from jupyter_dsvm.relay.poller import ERR, IN, OUT, EpollPoller, PlainPoller, make_poller

SOON = 5_000
"""Milliseconds in which what was sent has come."""


@pytest.fixture(params=[EpollPoller, PlainPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    with closing(request.param()) as made:
        yield made


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made = zmq.Context()
    opened: list[zmq.Socket[bytes]] = []
    socket_of = made.socket
    made.socket = lambda *args, **options: opened.append(socket_of(*args, **options)) or opened[-1]  # type: ignore[method-assign]
    yield made
    for one in opened:
        one.close(0)
    made.destroy(linger=0)


Pair = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]


def pair(context: zmq.Context[zmq.Socket[bytes]]) -> Pair:
    a, b = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    port = a.bind_to_random_port("tcp://127.0.0.1")
    b.connect(f"tcp://127.0.0.1:{port}")
    return a, b


def test_here_it_is_epoll() -> None:
    with closing(make_poller()) as made:
        assert isinstance(made, EpollPoller)


def test_descriptors(poller: Any) -> None:
    a, b = socket.socketpair()
    with closing(a), closing(b):
        poller.register(a.fileno(), IN)
        assert poller.poll(0) == []
        b.send(b"x")
        assert poller.poll(SOON) == [(a.fileno(), IN)] == poller.poll(0)
        poller.register(a.fileno(), IN | OUT)
        assert poller.poll(SOON) == [(a.fileno(), IN | OUT)]
        poller.register(a.fileno(), OUT)
        assert poller.poll(SOON) == [(a.fileno(), OUT)]
        poller.unregister(a.fileno())
        assert poller.poll(0) == []
        with pytest.raises(KeyError):
            poller.unregister(a.fileno())


def test_the_end_of_a_reader_is_said_to_who_has_nothing_to_write(poller: Any) -> None:
    reader, writer = os.pipe()
    poller.register(writer, ERR)
    assert poller.poll(0) == []
    os.close(reader)
    assert poller.poll(SOON) == [(writer, ERR)]
    poller.unregister(writer)
    os.close(writer)


def test_a_socket_that_is_not_read_to_its_end_is_ready_again(
    poller: Any, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    a, b = pair(context)
    poller.register(a)
    assert poller.poll(0) == []
    for n in range(5):
        b.send(bytes([n]))
    got: list[bytes] = []
    while len(got) < 5:
        assert poller.poll(SOON) == [(a, IN)]
        got.append(a.recv())  # one of what may be many
    assert got == [bytes([n]) for n in range(5)]
    assert poller.poll(0) == []
    poller.unregister(a)
    b.send(b"x")
    assert poller.poll(50) == []


def test_what_came_before_it_was_registered_is_said(poller: Any, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a, b = pair(context)
    b.send(b"x")
    assert a.poll(SOON)  # which has silenced the descriptor
    poller.register(a)
    assert poller.poll(SOON) == [(a, IN)]


def test_what_a_send_has_silenced_is_said(poller: Any, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """The case that makes ``used`` necessary: the message is taken note of by a use of the socket, not by the poller."""
    a, b = pair(context)
    poller.register(a)
    assert poller.poll(0) == []
    b.send(b"x")
    assert a.poll(SOON)
    poller.used(a)
    assert poller.poll(0) == [(a, IN)]
    assert a.recv() == b"x"
    assert poller.poll(0) == []


def test_who_is_not_registered_may_be_used(poller: Any, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    a, b = pair(context)
    poller.used(a)
    b.send(b"x")
    assert a.poll(SOON)
    assert poller.poll(0) == []


def test_a_closed_socket_is_forgotten_and_its_number_is_anothers(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with closing(EpollPoller()) as poller:
        a, _b = pair(context)
        poller.register(a)
        assert poller.poll(0) == []
        number = a.getsockopt(zmq.FD)
        a.close(0)
        context.destroy(linger=0)
        reader, writer = os.pipe()
        other = os.dup2(reader, number)
        poller.register(other)
        os.write(writer, b"x")
        assert poller.poll(SOON) == [(other, IN)]
        poller.unregister(a)
        assert poller.poll(SOON) == [(other, IN)]
        for fd in {reader, writer, other}:
            os.close(fd)


@pytest.mark.parametrize("kind", [EpollPoller, PlainPoller])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["send", "answer", "turn", "turn", "few"]), max_size=60))
def test_nothing_that_comes_is_waited_for_in_vain(kind: Callable[[], Any], steps: list[str]) -> None:
    """Two threads that both send all the time: whoever polls gets all there is, however bounded its reads are."""
    with zmq.Context() as context, closing(kind()) as poller:
        a, b = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        a.bind("inproc://x")
        b.connect("inproc://x")
        to_send = threading.Semaphore(0)
        over = threading.Event()
        sent: list[bytes] = []

        def other_end() -> None:
            while to_send.acquire() and not over.is_set():
                sent.append(str(len(sent)).encode())
                b.send(sent[-1])

        thread = threading.Thread(target=other_end)
        thread.start()
        got: list[bytes] = []
        asked = 0
        poller.register(a)

        def turn(wait: int, most: int) -> None:
            for source, _events in poller.poll(wait):
                poller.used(source)
                got.extend(parts[0] for parts in multipart.receive(source, most))

        for step in steps:
            if step == "send":
                to_send.release()
                asked += 1
            elif step == "answer":
                poller.used(a)
                multipart.send(a, [b"x"])
            else:
                turn(0, 1 if step == "few" else 3)
        try:
            while len(got) < asked:
                before = len(got)
                turn(SOON, 3)
                assert len(got) > before, "it waited for what was there"
            assert got == sent
            assert poller.poll(0) == []
        finally:
            over.set()
            to_send.release()
            thread.join()
            poller.unregister(a)
            a.close(0)
            b.close(0)
