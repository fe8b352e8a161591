"""Frames: any cut gives the same frames, and any garbage gives frames or WireError, nothing else."""

from __future__ import annotations

import struct
import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.relay import wire
from jupyter_dsvm.relay.wire import Channel, Frame, FrameDecoder, MessageAssembler, Type, WireError

frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=300),
)
messages = st.lists(st.binary(max_size=200), max_size=8)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_survive_any_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(f.encode() for f in sent)
    decoder, got, position, turn = FrameDecoder(), [], 0, 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        got += decoder.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert got == sent
    assert decoder.pending == 0


@given(st.binary(max_size=400))
def test_garbage_is_frames_or_an_error(data: bytes) -> None:
    try:
        for frame in FrameDecoder().feed(data):
            assert frame.size <= len(data)
    except WireError:
        pass


def test_a_frame_says_what_it_is_in_the_documented_places() -> None:
    frame = Frame(Type.DATA, bytes(range(16)), 0x0102030405060708, b"body")
    assert (
        frame.encode() == struct.pack("!I", 1 + 16 + 8 + 4) + b"\x02" + bytes(range(16)) + bytes(range(1, 9)) + b"body"
    )
    assert b"".join(frame.buffers()) == frame.encode()


def test_a_length_is_refused_before_memory_is_taken_for_it() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="4294967295"):
            list(FrameDecoder().feed(struct.pack("!IB16sQ", 0xFFFFFFFF, 2, bytes(16), 1)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_length_shorter_than_a_header_is_refused() -> None:
    with pytest.raises(WireError):
        list(FrameDecoder().feed(struct.pack("!IB16sQ", 3, 2, bytes(16), 1)))


def test_the_longest_body_fits_and_one_byte_more_does_not() -> None:
    assert len(list(FrameDecoder().feed(Frame(Type.DATA, wire.PIPE, 1, bytes(wire.MAX_BODY)).encode()))) == 1
    with pytest.raises(WireError):
        list(FrameDecoder().feed(Frame(Type.DATA, wire.PIPE, 1, bytes(wire.MAX_BODY + 1)).encode()))


@given(messages, st.integers(1, 64))
def test_a_message_comes_back_from_pieces_of_any_size(parts: list[bytes], chunk: int) -> None:
    assembler = MessageAssembler()
    results = [assembler.feed(b) for b in wire.data_bodies(Channel.IOPUB, parts, chunk)]
    assert results[:-1] == [None] * (len(results) - 1)
    assert results[-1] == (Channel.IOPUB, parts)


@given(st.binary(max_size=100))
def test_a_packed_message_that_cannot_be_right_is_refused(data: bytes) -> None:
    try:
        parts = wire.unpack_message(data)
    except WireError:
        return
    assert wire.pack_message(parts) == data


def test_a_message_is_put_together_only_up_to_its_limit() -> None:
    assembler = MessageAssembler(max_message=1000)
    assembler.feed(bytes((Channel.IOPUB, 0)) + bytes(600))
    with pytest.raises(WireError, match="1000"):
        assembler.feed(bytes((Channel.SHELL, 0)) + bytes(600))


def test_empty_pieces_of_a_message_that_never_ends_are_counted() -> None:
    assembler = MessageAssembler(max_message=100 * wire.PIECE)
    for _ in range(100):
        assembler.feed(bytes((Channel.IOPUB, 0)))
    with pytest.raises(WireError, match="more than"):
        assembler.feed(bytes((Channel.IOPUB, 0)))


def test_what_pieces_count_is_given_back() -> None:
    assembler = MessageAssembler(max_message=10 * wire.PIECE)
    for _ in range(100):
        assert [assembler.feed(b) for b in wire.data_bodies(Channel.IOPUB, [bytes(40)], 20)][-1] is not None


def test_two_channels_may_be_put_together_at_a_time() -> None:
    assembler = MessageAssembler()
    one = list(wire.data_bodies(Channel.SHELL, [b"a" * 10], 8))
    two = list(wire.data_bodies(Channel.IOPUB, [b"b" * 10], 8))
    got = [assembler.feed(body) for pair in zip(one, two, strict=True) for body in pair]
    assert [g for g in got if g] == [(Channel.SHELL, [b"a" * 10]), (Channel.IOPUB, [b"b" * 10])]


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x00\x01rest", b"\x09\x01rest"])
def test_data_without_a_known_channel_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        MessageAssembler().feed(body)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (wire.read_json, b"{"),
        (wire.read_json, b"[1]"),
        (wire.read_json, b"\xff"),
        (wire.read_json, b"[" * 100_000),
        (wire.read_u64, b"\0" * 7),
        (wire.read_signal, b"\0" * 8),
        (wire.read_call, b"\0" * 5),
        (wire.read_call, b"\0" * 8 + b"nonsense"),
    ],
)
def test_bodies_that_do_not_fit_their_type_are_refused(read: Any, body: bytes) -> None:
    with pytest.raises(WireError):
        read(body)


def test_bodies_come_back() -> None:
    assert wire.read_json(wire.json_body({"text": "ü"})) == {"text": "ü"}
    assert wire.read_u64(wire.u64_body(2**64 - 1)) == 2**64 - 1
    assert wire.read_signal(wire.signal_body(-2)) == -2
    assert wire.read_call(wire.call_body(5, {"op": "info"})) == (5, {"op": "info"})


def test_a_kernel_id_that_is_no_uuid_has_a_tag_too() -> None:
    known = uuid.uuid4()
    assert wire.kernel_tag(str(known)) == known.bytes
    assert len(wire.kernel_tag("my kernel")) == 16
    assert wire.kernel_tag("my kernel") != wire.kernel_tag("my other kernel")
