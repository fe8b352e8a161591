"""Kernel messages on a page's websocket, held against jupyter_server's own functions and tornado's reading of frames."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from tornado.websocket import WebSocketProtocol13

from jupyter_dsvm.frames import (
    GATHER_SECONDS,
    PACE_MESSAGES,
    PACE_SECONDS,
    PING_MESSAGES,
    PING_SECONDS,
    TOGETHER,
    Pace,
    Receipts,
    framed,
    joined,
    read_json,
    read_v1,
    v1,
)

parts = st.lists(st.binary(max_size=40), min_size=4, max_size=7)
channels = st.sampled_from(["shell", "iopub", "stdin", "control"])


@given(channels, parts)
def test_the_v1_format_is_jupyter_servers(channel: str, message: list[bytes]):
    written = b"".join(v1(channel, message))
    assert written == serialize_msg_to_ws_v1(message, channel)
    assert read_v1(written) == deserialize_msg_from_ws_v1(written) == (channel, message)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_within_its_bounds(data: bytes):
    try:
        _, message = read_v1(data)
    except ValueError:
        return
    assert len(message) >= 4
    assert sum(map(len, message)) <= len(data)


@pytest.mark.parametrize("change", [lambda d: d[:40], lambda d: b"\xff" * 8 + d[8:], lambda d: d[:-1], lambda d: b""])
def test_a_message_that_was_cut_or_lies_about_its_length_is_refused(change: Any):
    whole = b"".join(v1("shell", [b"{}"] * 4))
    with pytest.raises(ValueError, match=r"offsets|buffer"):
        read_v1(change(whole))


def test_the_older_format_with_and_without_buffers():
    message = {"header": {"msg_id": "1"}, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}
    assert read_json(json.dumps(message)) == ("shell", {k: v for k, v in message.items() if k != "channel"})
    channel, read = read_json(serialize_binary_message({**message, "buffers": [b"one", b""]}))
    assert (channel, read["header"], read["buffers"]) == ("shell", {"msg_id": "1"}, [b"one", b""])
    assert read_json('{"header": {}}') == (None, {"header": {}})


class Stream:
    """Where tornado's own writer writes to."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


@pytest.mark.parametrize("length", [0, 1, 125, 126, 0xFFFF, 0x10000, 300_000])
@pytest.mark.parametrize("binary", [True, False])
def test_a_frame_is_tornados(length: int, binary: bool):
    protocol = WebSocketProtocol13.__new__(WebSocketProtocol13)
    protocol.mask_outgoing = False
    protocol._wire_bytes_out = 0
    protocol.stream = stream = Stream()  # type: ignore[assignment]
    body = bytes(length)
    protocol._write_frame(True, 0x2 if binary else 0x1, body)
    assert b"".join(framed([body[:100], body[100:]], binary)) == stream.written


@given(st.lists(st.sampled_from([0, 1, 100, TOGETHER - 1, TOGETHER, 3 * TOGETHER])))
def test_short_pieces_are_joined_and_long_ones_are_not_copied(lengths: list[int]):
    pieces = [bytes([i % 256]) * length for i, length in enumerate(lengths)]
    written = list(joined(pieces))
    assert b"".join(written) == b"".join(pieces)
    assert all(written)
    for piece in pieces:
        assert len(piece) < TOGETHER or any(w is piece for w in written)
    assert all(len(a) >= TOGETHER or len(b) >= TOGETHER for a, b in pairwise(written))
    assert all(len(w) < 2 * TOGETHER or any(w is piece for piece in pieces) for w in written)


def test_a_pong_confirms_what_was_written_before_its_ping():
    receipts: Receipts[str] = Receipts()
    assert receipts.due(100.0) is None
    receipts.wrote("a", 1)
    assert receipts.due(100.0) == 0
    first = receipts.ping(100.0)
    assert receipts.due(100.0) is None
    receipts.wrote("b", 1)
    assert receipts.due(100.0) == pytest.approx(PING_SECONDS)
    assert receipts.due(200.0) == 0
    assert receipts.pong(first) == "a"
    assert receipts.pong(first) is None
    second = receipts.ping(200.0)
    assert receipts.pong(second) == "b"


def test_many_messages_do_not_wait_for_the_clock():
    receipts: Receipts[int] = Receipts()
    receipts.wrote(1, 1)
    receipts.ping(0.0)
    receipts.wrote(PING_MESSAGES, PING_MESSAGES - 1)
    assert receipts.due(0.0) == PING_SECONDS
    receipts.wrote(PING_MESSAGES + 1, 1)
    assert receipts.due(0.0) == 0


def test_one_pong_may_stand_for_several_pings_and_others_pings_count_for_nothing():
    receipts: Receipts[int] = Receipts()
    payloads = []
    for number in range(4):
        receipts.wrote(number, 1)
        payloads.append(receipts.ping(float(number)))
    assert len(set(payloads)) == 4
    assert receipts.pong(b"") is None
    assert receipts.pong(b"dsvm 99") is None
    assert receipts.pong(payloads[2]) == 2
    assert receipts.pong(payloads[0]) is None
    assert receipts.pong(payloads[3]) == 3


def test_a_flood_is_written_in_larger_pieces_and_a_cells_few_messages_at_once() -> None:
    pace = Pace()
    cells = [pace.wrote(1, 100 + n * 3 * PACE_SECONDS / PACE_MESSAGES) for n in range(20 * PACE_MESSAGES)]
    assert set(cells) == {0.0}, "cells one after the other"
    flood = [pace.wrote(PACE_MESSAGES // 2, 200 + n * GATHER_SECONDS) for n in range(100)]
    assert set(flood[:2]) == {0.0}
    assert set(flood[2:]) == {GATHER_SECONDS}
    assert pace.wrote(5, 202.0) == 0.0, "a while after it"
