"""What is kept until it is acknowledged, and what is said about what could not be kept."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.relay.journal import Journal, OutputLimit


def iopub(kind: str, parent: str, content: dict[str, Any]) -> list[bytes]:
    header = json.dumps({"msg_type": kind, "msg_id": f"{kind}-{parent}"}).encode()
    parent_header = json.dumps({"msg_id": parent}).encode()
    return [b"topic", b"<IDS|MSG>", b"signature", header, parent_header, b"{}", json.dumps(content).encode()]


def stream(parent: str, size: int = 1000) -> list[bytes]:
    return iopub("stream", parent, {"name": "stdout", "text": "x" * size})


def idle(parent: str) -> list[bytes]:
    return iopub("status", parent, {"execution_state": "idle"})


@given(st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 30)), max_size=60))
def test_it_keeps_exactly_what_was_not_trimmed(steps: list[bytes | int]) -> None:
    journal, kept, total = Journal(), {}, 0
    for step in steps:
        if isinstance(step, bytes):
            total += len(step)
            kept[journal.append(2, step)] = (step, total)
        else:
            journal.trim(step)
            kept = {seq: v for seq, v in kept.items() if seq > step}
        assert journal.size == sum(len(body) for body, _ in kept.values())
        assert len(journal) == len(kept) == journal.last - journal.first + 1
        for seq, (body, end) in kept.items():
            entry = journal.get(seq)
            assert entry is not None
            assert (entry.body, entry.end) == (body, end)
        assert journal.get(journal.first - 1) is None
        assert journal.get(journal.last + 1) is None


def test_without_a_limit_everything_is_taken() -> None:
    limit = OutputLimit(0)
    assert limit.take(stream("a"), 1 << 60) == [stream("a")]


def test_what_is_left_out_is_told_in_its_cell_before_the_cell_ends() -> None:
    limit = OutputLimit(10_000)
    assert limit.take(stream("a"), 0) == [stream("a")]
    assert limit.take(stream("a"), 9_999) == []
    assert limit.take(stream("a"), 9_999) == []
    told, last = limit.take(idle("a"), 9_999)
    assert last == idle("a")
    assert told == {"parent_header": {"msg_id": "a"}, "messages": 2, "bytes": 2 * sum(map(len, stream("a")))}
    assert limit.flush() == []


def test_only_outputs_are_left_out() -> None:
    limit = OutputLimit(1)
    for message in (idle("a"), iopub("error", "a", {}), iopub("comm_msg", "a", {}), [b"no", b"message"]):
        assert limit.take(message, 100) == [message]
    for kind in ("stream", "display_data", "update_display_data", "execute_result"):
        assert limit.take(iopub(kind, "a", {}), 100) == []


def test_it_is_told_as_soon_as_there_is_room_again() -> None:
    limit = OutputLimit(10_000)
    assert limit.take(stream("a"), 9_999) == []
    told, message = limit.take(stream("b"), 0)
    assert isinstance(told, dict)
    assert told["parent_header"] == {"msg_id": "a"}
    assert message == stream("b")


def test_many_requests_at_the_limit_take_bounded_memory() -> None:
    limit = OutputLimit(1)
    for n in range(5_000):
        assert limit.take(stream(str(n)), 100) == []
    told = limit.flush()
    assert len(told) <= 257
    assert sum(t["messages"] for t in told if isinstance(t, dict)) == 5_000
