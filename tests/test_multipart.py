"""Messages over ZeroMQ sockets as lists of parts: whole, in order, never waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from jupyter_dsvm.relay import multipart


@pytest.fixture(params=[2])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Connected sockets, with room for so many messages at either end."""
    context = zmq.Context()
    a, b = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    a.sndhwm = b.rcvhwm = request.param
    a.bind("inproc://x")
    b.connect("inproc://x")
    yield a, b
    context.destroy(linger=0)


@pytest.mark.parametrize("pair", [100], indirect=True)
def test_parts_arrive_as_they_were(pair: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    a, b = pair
    assert multipart.receive(b, 10) == []
    messages = [[b"one"], [b"", b"x" * 1_000_000, memoryview(b"view")], [b"a", b""]]
    assert all(multipart.send(a, parts) for parts in messages)
    assert multipart.receive(b, 2) == [[b"one"], [b"", b"x" * 1_000_000, b"view"]]
    assert multipart.receive(b, 2) == [[b"a", b""]]
    assert multipart.receive(b, 2) == []
    for _ in range(2):
        assert multipart.send(a, [b"x" * 600, b"y" * 600])
    assert len(multipart.receive(b, 2, max_bytes=1000)) == 1
    assert len(multipart.receive(b, 2, max_bytes=2000)) == 1


def test_a_socket_without_room_takes_nothing_of_a_message(pair: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    a, b = pair
    sent = 0
    while multipart.send(a, [str(sent).encode(), b"end"]):
        sent += 1
        assert sent < 100
    assert multipart.receive(b, 100) == [[str(n).encode(), b"end"] for n in range(sent)]
    assert a.poll(5000, zmq.POLLOUT)
    assert multipart.send(a, [b"again"])


def test_other_errors_are_raised(pair: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    a, _b = pair
    a.close()
    with pytest.raises(zmq.ZMQError):
        multipart.send(a, [b"x"])
