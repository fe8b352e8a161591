"""What a VM that lies about a workspace's files can do: nothing but make a sync fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.errors import DSVMError, ProtocolError, Unreachable
from jupyter_dsvm.relay.fileframes import wrong_path, wrong_target
from jupyter_dsvm.sync import arrivals, filechannel
from jupyter_dsvm.sync.entries import Entry, Kind
from jupyter_dsvm.sync.plan import Outcome
from support.sshd import SSHServer, sshd
from support.workspaces import NEVER, Plain, fetch, lie, pull, push, remote


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("vm")) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Plain:
    return Plain(tmp_path / "here")


OPENED = """
def answer(kind, seq, body):
    if kind == OPEN:
        write(frame(DONE, seq, GOOD))
        return
"""

ROWS = {
    "up": '["f", "../x", 1, 1, 0, ""]',
    "up inside": '["f", "a/../../x", 1, 1, 0, ""]',
    "absolute": '["f", "/etc/passwd", 1, 1, 0, ""]',
    "empty part": '["f", "a//b", 1, 1, 0, ""]',
    "dot": '["d", "."]',
    "nul": '["f", "a\\0b", 1, 1, 0, ""]',
    "surrogate": '["f", "a\\ud800b", 1, 1, 0, ""]',
    "long": '["f", "a" * 300, 1, 1, 0, ""]',
    "staging": '["f", ".dsvm-sync/x", 1, 1, 0, ""]',
    "negative": '["f", "x", -1, 1, 0, ""]',
    "huge": '["f", "x", 2**60, 1, 0, ""]',
    "no number": '["f", "x", "9", 1, 0, ""]',
    "true": '["f", "x", True, 1, 0, ""]',
    "no time": '["f", "x", 1, 2**70, 0, ""]',
    "a mark": '["f", "x", 1, 1, 0, "m" * 100]',
    "a digest": '["f", "x", 1, 1, 0, "", "../" * 20]',
    "a device": '["c", "x", 1, 3]',
    "link out": '["l", "a", "../../x"]',
    "link away": '["l", "a", "/etc"]',
    "link round about": '["l", "a", "b/../../etc"]',
    "no folder": '["f", "a/b", 1, 1, 0, ""]',
    "under a file": '["f", "a", 1, 1, 0, ""], ["f", "a/b", 1, 1, 0, ""]',
    "under a link": '["l", "a", "b"], ["f", "a/b", 1, 1, 0, ""]',
    "nothing": "[]",
    "no list": "7",
    "a list as path": '["f", ["x"], 1, 1, 0, ""]',
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_none(vm: SSHServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lie(monkeypatch, f"{OPENED}\n    write(rows(seq, {ROWS[name]}) + frame(DONE, seq, {{}}))")
    with remote(vm) as folder, pytest.raises(ProtocolError, match="no message about files"):
        folder.scan((), {}, NEVER)
    assert not vm.wait_until_idle()


NONSENSE = {
    "a long frame": "write(struct.pack('!I', 2**31) + bytes(64))",
    "no JSON": "write(frame(ROWS, seq, b'{'))",
    "deep JSON": "write(frame(ROWS, seq, b'[' * 500000))",
    "another number": "write(frame(DONE, seq + 7, {}))",
    "a file": "write(frame(BYTES, seq, b'x'))",
    "text": "write(b'Last login: never on tty1 from nowhere at all, and more of that')",
    "a failure without a reason": "write(frame(FAILED, seq, {}))",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_frames_that_are_none(vm: SSHServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lie(monkeypatch, f"{OPENED}\n    {NONSENSE[name]}")
    with remote(vm) as folder, pytest.raises(DSVMError) as e:
        folder.scan((), {}, NEVER)
    assert isinstance(e.value, ProtocolError) or e.value.code == "Sync"


def test_rows_without_end(vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals.Listing.__init__, "__defaults__", (20_000,))
    endless = """
    n = 0
    while True:
        write(rows(seq, *(["f", "f%d" % (n + i), 1, 1, 0, ""] for i in range(200))))
        n += 200
"""
    lie(monkeypatch, OPENED + endless)
    with remote(vm) as folder, pytest.raises(ProtocolError, match="more than 20000 files") as e:
        folder.scan((), {}, NEVER)
    assert e.value.code == "TooManyFiles"
    assert not vm.wait_until_idle()


def test_unknown_without_end(vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, OPENED + "\n    while True: write(rows(seq, unknown=[['f', 'kind']] * 500, unnamed=['x'] * 500))")
    with remote(vm) as folder, pytest.raises(ProtocolError):
        folder.scan((), {}, NEVER)


def test_silence(vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        filechannel.FileChannel.__init__, "__kwdefaults__", {"pythons": None, "timeout": 30, "deadline": 1.0}
    )
    monkeypatch.setattr("jupyter_dsvm.sync.remote.PAUSES", (0.0,))
    lie(monkeypatch, OPENED + "\n    time.sleep(4)")
    begun = time.monotonic()
    with remote(vm) as folder, pytest.raises(Unreachable, match="has not answered"):
        folder.scan((), {}, NEVER)
    assert time.monotonic() - begun < 30
    assert not vm.wait_until_idle()


def test_answers_and_does_nothing(vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_dsvm.sync.remote.STALLED", 1.0)
    lie(monkeypatch, OPENED + "\n    while True: write(rows(seq)); time.sleep(0.1)")
    with remote(vm) as folder, pytest.raises(DSVMError, match="has got nothing done") as e:
        folder.scan((), {}, NEVER)
    assert e.value.code == "Stalled"
    assert not vm.wait_until_idle()


def test_what_it_prints_is_shown_as_text(vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, OPENED + "\n    os.write(2, b'\\x1b[31m' + b'out of memory'); sys.exit(1)")
    monkeypatch.setattr("jupyter_dsvm.sync.remote.PAUSES", (0.0,))
    with remote(vm) as folder, pytest.raises(Unreachable, match="out of memory") as e:
        folder.scan((), {}, NEVER)
    assert "\x1b" not in e.value.message


FETCHED = {
    "more than announced": "write(frame(BYTES, seq, b'x' * 20) + frame(DONE, seq, {'row': ['f', 'data', 20, 1, 0, '']}))",
    "endless": "\n        while True: write(frame(BYTES, seq, b'x' * 100000))",
    "endless nothing": "\n        while True: write(frame(BYTES, seq, b''))",
    "another file": "write(frame(BYTES, seq, b'x' * 10) + frame(DONE, seq, {'row': ['f', '../data', 10, 1, 0, '']}))",
    "another name": "write(frame(BYTES, seq, b'x' * 10) + frame(DONE, seq, {'row': ['f', 'other', 10, 1, 0, '']}))",
    "less": "write(frame(BYTES, seq, b'x' * 5) + frame(DONE, seq, {'row': ['f', 'data', 10, 1, 0, '']}))",
    "a link": "write(frame(DONE, seq, {'row': ['l', 'data', 'x']}))",
    "rows": "write(rows(seq, ['f', 'data', 10, 1, 0, '']))",
    "nobody asked": "write(frame(BYTES, seq + 1, b'x'))",
    "twice": "write((frame(BYTES, seq, b'x' * 10) + frame(DONE, seq, {'row': ['f', 'data', 10, 1, 0, '']})) * 2)",
}


@pytest.mark.parametrize("name", FETCHED)
def test_files_that_were_not_asked_for(vm: SSHServer, here: Plain, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lie(monkeypatch, f"{OPENED}\n    if kind == FETCH:\n        {FETCHED[name]}")
    # The second one keeps it waiting for an answer after the first.
    entries = [Entry("data", Kind.FILE, 10, 1), Entry("never", Kind.FILE, 10, 1)]
    with remote(vm) as folder, pytest.raises(ProtocolError):
        fetch(folder, here, [pull(e) for e in entries])
    assert set(os.listdir(here.root)) <= ({"data"} if name == "twice" else set())
    assert os.listdir(here.root.parent) == ["here"]


STORED = {
    "another row": "write(frame(DONE, seq, {'row': ['f', 'other', 3, 1, 0, '']}))",
    "another size": "write(frame(DONE, seq, {'row': ['f', 'data', 4, 1, 0, '']}))",
    "a path": "write(frame(DONE, seq, {'row': ['f', '/data', 3, 1, 0, '']}))",
    "no row": "write(frame(DONE, seq, {}))",
    "another number": "write(frame(DONE, seq + 1, {'row': ['f', 'data', 3, 1, 0, '']}))",
    "a file": "write(frame(BYTES, seq, b'x'))",
}


@pytest.mark.parametrize("name", STORED)
def test_answers_to_what_was_pushed(vm: SSHServer, here: Plain, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lie(monkeypatch, f"{OPENED}\n    if kind == END:\n        {STORED[name]}")
    outcomes: list[Outcome] = []
    with remote(vm) as folder, pytest.raises(ProtocolError):
        folder.change([push(here.write("data", b"abc"))], here, outcomes.append, lambda n: None, NEVER)  # type: ignore[arg-type]
    assert outcomes == []


def test_a_failure_names_no_more_than_it_may(vm: SSHServer, here: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(
        monkeypatch,
        f"{OPENED}\n    if kind == END:\n        write(frame(FAILED, seq, {{'code': 'x', 'text': '<b>\\x1b' * 9999}}))",
    )
    outcomes: list[Outcome] = []
    with remote(vm) as folder:
        folder.change([push(here.write("data", b"abc"))], here, outcomes.append, lambda n: None, NEVER)  # type: ignore[arg-type]
    assert not outcomes[0].done
    assert len(outcomes[0].problem) < 400
    assert "\x1b" not in outcomes[0].problem


def test_paths_and_targets() -> None:
    for good in ("a", "a/b", ".hidden/x", "ünï 名", "a\nb", "x" * 255, "..a", "a..", "..."):
        assert not wrong_path(good), good
    for bad in (
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/..",
        "./a",
        "a/./b",
        "a\0",
        "x" * 256,
        "é" * 128,
        "a/" * 3000,
        7,
        None,
        b"a",
    ):
        assert wrong_path(bad), bad
    for path, good in (("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b"), ("a", "b/c")):
        assert not wrong_target(path, good), good
    for path, bad in (
        ("a", ".."),
        ("a", "../a"),
        ("a/b", "../../c"),
        ("a", "b/.."),
        ("a", "/b"),
        ("a", ""),
        ("a", None),
    ):
        assert wrong_target(path, bad), bad
