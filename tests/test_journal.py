"""What is kept until it is acknowledged, and what is said about what could not be kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_dsvm.kernels.link import MAX_MESSAGE
from jupyter_dsvm.relay import journal, segments, wire
from jupyter_dsvm.relay.journal import Journal, JournalError, OutputLimit


def iopub(kind: str, parent: str, content: dict[str, Any]) -> list[bytes]:
    header = json.dumps({"msg_type": kind, "msg_id": f"{kind}-{parent}"}).encode()
    parent_header = json.dumps({"msg_id": parent}).encode()
    return [b"topic", b"<IDS|MSG>", b"signature", header, parent_header, b"{}", json.dumps(content).encode()]


def stream(parent: str, size: int = 1000) -> list[bytes]:
    return iopub("stream", parent, {"name": "stdout", "text": "x" * size})


def idle(parent: str) -> list[bytes]:
    return iopub("status", parent, {"execution_state": "idle"})


steps = st.lists(
    st.one_of(
        st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, 3_000), st.integers(0, 255)),
        st.integers(0, 60),
        st.sampled_from(["fails", "partly", "works", "no folder", "folder", "rest"]),
    ),
    max_size=60,
)


class Disk:
    """How writes fare, in place of ``os.pwrite``."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.mood = "works"
        self.really = os.pwrite
        patch.setattr(os, "pwrite", self.pwrite)
        patch.setattr(journal, "RETRY", 0.0)
        patch.setattr(journal, "BLOCK", 2_000)
        patch.setattr(journal, "RESTING", 1_000)
        patch.setattr(segments, "FILE", 5_000)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        if self.mood == "fails":
            raise OSError(errno.ENOSPC, "full")
        if self.mood == "partly":
            self.mood = "fails"
            return self.really(fd, data[: len(data) // 2], offset)
        return self.really(fd, data[: 1 + len(data) // 2], offset)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps, st.booleans())
def test_it_keeps_exactly_what_was_not_trimmed(steps: list[bytes | int | str], with_disk: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        disk, folder = Disk(patch), Path(home, "kernel")
        folder.mkdir()
        kept, total = {}, 0
        it = Journal(str(folder), memory=4_000, floor=0) if with_disk else Journal()
        for step in steps:
            if isinstance(step, bytes):
                total += len(step)
                kept[it.append(2, step)] = (step, total)
            elif isinstance(step, int):
                it.trim(step)
                kept = {seq: v for seq, v in kept.items() if seq > step}
            elif step == "folder":
                folder.mkdir(exist_ok=True)
            elif step == "no folder":
                shutil.rmtree(folder, ignore_errors=True)
            elif step == "rest":
                it.rest()
            else:
                disk.mood = step
            assert it.size == sum(len(body) for body, _ in kept.values())
            assert len(it) == len(kept) == it.last - it.first + 1
            assert it.before + it.size == total
            for seq, (body, end) in kept.items():
                entry = it.get(seq)
                assert entry is not None
                assert (entry.body, entry.end) == (body, end)
            assert it.get(it.first - 1) is None
            assert it.get(it.last + 1) is None
        it.trim(it.last)
        assert it.on_disk == it.size == len(it) == 0
        it.close()
        assert not folder.exists() or not list(folder.iterdir())


def fill(it: Journal, size: int, each: int = 100_000) -> None:
    for _ in range(size // each):
        it.append(2, bytes(each))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_beyond_its_memory_it_is_on_disk_and_gives_that_back_when_trimmed(tmp_path: Path) -> None:
    before = descriptors()
    it = Journal(str(tmp_path), memory=8_000_000, floor=0)
    tracemalloc.start()
    try:
        fill(it, 100_000_000)
        assert tracemalloc.get_traced_memory()[0] < 12_000_000
        for seq in range(1, it.last + 1):
            entry = it.get(seq)
            assert entry is not None
            assert len(entry.body) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
    assert it.on_disk > 85_000_000
    assert descriptors() - before < 10
    assert list(tmp_path.iterdir()) == [], "nothing is left behind by a process that is killed"
    it.trim(it.last // 2)
    assert it.on_disk < 45_000_000
    it.trim(it.last)
    assert it.on_disk == 0
    assert descriptors() == before


def test_at_rest_almost_all_of_it_is_on_disk(tmp_path: Path) -> None:
    it = Journal(str(tmp_path), floor=0)
    fill(it, 20_000_000)
    assert it.on_disk == 0, "what fits its memory does not see the disk"
    it.rest()
    assert it.on_disk > it.size - journal.RESTING
    it.rest()
    fill(it, 20_000_000)
    assert it.on_disk < 20_000_000
    for seq in range(1, it.last + 1):
        entry = it.get(seq)
        assert entry is not None
        assert entry.body == bytes(100_000)
    it.trim(it.last)
    it.rest()
    assert it.on_disk == it.size == 0
    Journal().rest()


def test_a_removed_folder_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "kernel"
    folder.mkdir()
    it = Journal(str(folder), memory=8_000_000, floor=0)
    fill(it, 20_000_000)
    shutil.rmtree(folder)
    fill(it, 40_000_000)
    assert all(it.get(seq) is not None for seq in range(1, it.last + 1))
    assert it.capacity(0) == it.on_disk + journal.MEMORY_ALONE
    it.close()


def test_a_disk_that_takes_nothing_bounds_it_until_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    it = Journal(str(tmp_path), memory=1_000_000, memory_alone=3_000_000, floor=0)
    assert it.capacity(0) == 0
    assert it.capacity(1 << 30) == 1 << 30
    disk.mood = "fails"
    fill(it, 2_000_000)
    assert it.on_disk == 0
    assert it.capacity(0) == it.capacity(1 << 30) == 3_000_000
    assert it.capacity(2_500_000) == 2_500_000
    disk.mood = "works"
    assert it.capacity(0) == 0
    assert it.on_disk > 500_000
    it.close()


def test_a_floor_of_free_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FLOOR_SHARE", 1.0)
    it = Journal(str(tmp_path), memory=100_000, floor=1 << 60)
    fill(it, 1_000_000)
    assert it.on_disk == 0
    assert len(it) == 10
    it.close()
    share = Journal(str(tmp_path), memory=100_000, floor=shutil.disk_usage(tmp_path).free - 500_000)
    fill(share, 2_000_000)
    assert len(share) == 20
    assert share.on_disk < 2_000_000
    share.close()


def test_what_the_disk_does_not_give_back_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Journal(str(tmp_path), memory=3_000_000, floor=0)
    fill(it, 5_000_000)
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(JournalError, match="not there any more"):
        it.get(1)
    assert it.get(it.last) is not None
    it.close()


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


def test_what_cannot_be_sent_at_all_is_told_with_the_next_message() -> None:
    limit = OutputLimit(0)
    limit.leave_out(stream("a", 5_000))
    told, last = limit.take(idle("a"), 0)
    assert last == idle("a")
    assert told == {"parent_header": {"msg_id": "a"}, "messages": 1, "bytes": sum(map(len, stream("a", 5_000)))}


def test_the_longest_message_that_a_relay_sends_is_one_that_a_server_takes() -> None:
    pieces = -(-wire.LONGEST_OUTPUT // wire.CHUNK) + 1
    head = 4 + 8 * wire.MAX_PARTS
    assert wire.LONGEST_OUTPUT + head + pieces * wire.PIECE < MAX_MESSAGE
