"""What is kept of a kernel on a VM for the next server process: any prefix of it is sound, and no disk can hurt."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_dsvm.kernels import keeping as keeping_module
from jupyter_dsvm.kernels.actions import outline
from jupyter_dsvm.kernels.keeping import Keeping
from jupyter_dsvm.kernels.keptfiles import (
    KERNEL,
    LOCK,
    MARKS,
    REQUESTS,
    KeptKernel,
    SessionRow,
    folder_of,
    kept_folder,
    kept_kernels,
    read_kernel,
)
from jupyter_dsvm.kernels.leftovers import remove_leftovers
from jupyter_dsvm.kernels.marks import Marks
from jupyter_dsvm.kernels.requestlog import FINISHED, WHOLE, RequestLog, line
from jupyter_dsvm.relay.wire import Channel

KERNEL_ID = "0f6ac4a2-5f5b-4d0c-b1f5-2f6a0a8f2f11"
CELL = ("execute_request", "a1")
OTHER = ("complete_request", "b2")


def kernel(**changes: object) -> KeptKernel:
    made = KeptKernel(
        kernel_id=KERNEL_ID,
        kernel_name="python3",
        key="secret-key",
        signature_scheme="hmac-sha256",
        session="front",
        ip="127.0.0.1",
        ports={"shell_port": 1, "iopub_port": 2},
        compute="host:vm",
        compute_name="vm",
        kernelspec="python3",
        language="python",
        interrupt_mode="signal",
        epoch="here",
        peer_epoch="there",
        tag="00112233445566778899aabbccddeeff",
        info={"language_info": {"name": "python"}},
        sessions=(SessionRow("s1", "a.ipynb", "a.ipynb", "notebook"),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def parts(text: str) -> list[bytes]:
    return [b"client", b"<IDS|MSG>", b"signature", b'{"msg_id":"a1"}', b"{}", b"{}", text.encode()]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def open_one(data: Path) -> Iterator[Keeping]:
    made = Keeping(KERNEL_ID)
    made.keep(kernel())
    yield made
    made.release()


# The log of requests


keys = st.sampled_from(
    [("execute_request", "1"), ("execute_request", "2"), ("comm_msg", "3"), ("complete_request", "4")]
)
numbers = st.integers(1, 6)
events = st.lists(
    st.one_of(
        st.tuples(st.just("arrived"), keys.filter(lambda k: k[0] == "execute_request")),
        st.tuples(st.just("sent"), keys, numbers),
        st.tuples(st.just("heard"), keys, st.sampled_from(["reply", "idle"]), numbers),
        st.tuples(st.just("answered"), keys, st.booleans(), numbers),
        st.tuples(st.just("call"), numbers),
    ),
    max_size=25,
)


def play(events: list[tuple[object, ...]]) -> tuple[RequestLog, list[bytes]]:
    """As the proxy does it: nothing is sent that has not arrived where it is a cell."""
    log, lines = RequestLog(), []
    for kind, *values in events:
        if kind == "arrived":
            event = log.arrived(values[0], parts(values[0][1]))  # type: ignore[index,arg-type]
        elif kind == "sent":
            event = log.sent(values[0], Channel.SHELL, values[1], parts("sent"))  # type: ignore[arg-type]
        else:
            event = getattr(log, str(kind))(*values)
        lines.append(line(*event))
    return log, lines


def state(log: RequestLog) -> object:
    return list(log.requests.items()), list(log.finished), log.last_call


@given(events, st.data())
def test_any_prefix_of_the_log_is_the_state_at_that_moment(played: list[tuple[object, ...]], data: st.DataObject):
    """Also one that a crash cut in the middle of a line."""
    whole = b"".join(play(played)[1])
    cut = data.draw(st.integers(0, len(whole)))
    complete = whole[:cut].count(b"\n")
    assert state(RequestLog.read(whole[:cut])) == state(play(played[:complete])[0])


@given(events, st.one_of(st.none(), st.integers(0, 7)))
def test_the_log_written_anew_says_the_same(played: list[tuple[object, ...]], handed: int | None):
    log, _ = play(played)
    log.forget(handed)
    assert not any(r.done(handed) for r in log.requests.values())
    assert state(RequestLog.read(b"".join(log.lines()))) == state(log)


@given(st.binary(max_size=300), events)
def test_nonsense_between_the_lines_is_no_event(nonsense: bytes, played: list[tuple[object, ...]]):
    log, lines = play(played)
    garbage = nonsense.replace(b"[", b"<")  # whatever is no list
    assert state(RequestLog.read(b"\n".join([b"", garbage, b""]) + b"".join(lines))) == state(log)


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())), max_size=6))
def test_a_line_of_any_other_shape_is_no_event_either(values: list[object]):
    for kind in ("arrived", "sent", "heard", "answered", "finished", "call"):
        log = RequestLog.read(json.dumps([kind, *values]).encode() + b"\n")
        assert all(len(k) == 2 and r.parts for k, r in log.requests.items())


def test_what_the_clients_have_not_got_yet_has_not_happened():
    """The reply was message 7, idle 8. A server that adopts hears again what is above what was handed on."""
    log = RequestLog()
    log.arrived(CELL, parts("1 + 1"))
    log.sent(CELL, Channel.SHELL, 3, parts("1 + 1"))
    log.heard(CELL, "reply", 7)
    log.heard(CELL, "idle", 8)
    log.answered(CELL, False, 8)
    found = RequestLog.read(b"".join(log.lines())).requests[CELL]
    for handed, expected in ((6, (True, False, False)), (7, (True, True, False))):
        request = found.request(handed)
        assert (request.sent, request.replied, request.idle) == expected
        assert not found.done(handed)
    assert found.done(8)
    assert found.done(None)  # where nobody knows, waiting for ever would be worse


def test_an_answer_of_the_gate_itself_is_done_only_when_more_has_been_handed_on():
    log = RequestLog()
    log.arrived(CELL, parts("x"))
    log.answered(CELL, True, 7)
    assert not log.requests[CELL].done(7)
    assert log.requests[CELL].request(7).here
    assert log.requests[CELL].done(8)


def test_large_requests_that_are_no_cells_are_kept_in_outline():
    log = RequestLog()
    large = parts("x" * (WHOLE + 1))
    log.sent(OTHER, Channel.SHELL, 1, large)
    log.arrived(CELL, large)
    log.sent(CELL, Channel.SHELL, 2, large)
    assert log.requests[OTHER].parts == outline(large)
    assert log.requests[CELL].parts == large


def test_only_so_many_finished_requests_are_remembered():
    log = RequestLog()
    for i in range(FINISHED + 10):
        log.arrived(("execute_request", str(i)), parts(""))
        log.answered(("execute_request", str(i)), False, i)
    log.forget(FINISHED + 10)
    assert list(log.finished) == [str(i) for i in range(10, FINISHED + 10)]
    assert not log.requests


# The marks


def test_marks_outlive_whoever_wrote_them(tmp_path: Path):
    """They are written with the message they are about, not at the end: a kill -9 takes nothing along."""
    code = f"""
import os, signal
from pathlib import Path
from jupyter_dsvm.kernels.marks import Marks
marks = Marks(Path({str(tmp_path / "marks")!r}))
marks.handed(5); marks.flushed("page one", 7); marks.flushed("page two", 5); marks.flushed("page one", 9)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60)
    marks = Marks(tmp_path / "marks")
    assert (marks.handed_on, marks.clients) == (5, {"page one": 9, "page two": 5})
    marks.flushed("page two", 11)
    marks.forgotten("page one")
    marks.forgotten("page nine")
    marks.close()
    marks.flushed("page two", 12)  # too late, and no error
    assert Marks(tmp_path / "marks").clients == {"page two": 11}


def test_marks_have_room_for_many_and_let_go_of_who_is_furthest_behind(tmp_path: Path):
    marks = Marks(tmp_path / "marks")
    for i in range(100):
        marks.flushed(f"page {i}", i)
    marks.flushed("x" * 1000, 1000)
    marks.close()
    again = Marks(tmp_path / "marks")
    again.close()
    assert set(again.clients.values()) == set(range(36, 100))


@settings(max_examples=50)
@given(st.binary(max_size=1000))
def test_marks_read_whatever_is_in_the_file(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("marks") / "marks"
    path.write_bytes(content)
    marks = Marks(path)
    marks.flushed("page", 3)
    marks.close()
    again = Marks(path)
    again.close()
    assert again.clients["page"] == 3


# The folder


def test_what_is_kept_is_this_user_s_alone(open_one: Keeping):
    open_one.arrived(CELL, parts("x"))
    open_one.handed(1)
    folder = folder_of(KERNEL_ID)
    assert {p.name for p in folder.iterdir()} == {KERNEL, REQUESTS, MARKS, LOCK}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    assert "secret-key" not in repr(open_one.kept)


def test_adopting_goes_on_where_the_other_was(open_one: Keeping):
    open_one.arrived(CELL, parts("cell"))
    open_one.arrived(("execute_request", "a2"), parts("next"))
    open_one.sent(CELL, Channel.SHELL, 4, parts("cell"))
    open_one.sent(OTHER, Channel.CONTROL, 5, parts("?"))
    open_one.number = 21
    open_one.flushed("page", 20)
    open_one.flushed("of the kernel before", 22)
    open_one.handed(20)
    open_one.heard(OTHER, "reply")
    open_one.call(3)
    open_one.release()  # as a kill does
    with (folder_of(KERNEL_ID) / REQUESTS).open("ab") as f:
        f.write(b'["answered","execute_req')  # the last words of the other
    found = Keeping.claim(KERNEL_ID)
    assert found is not None
    try:
        assert found.kept is not None
        assert replace(found.kept, when="") == kernel()
        assert found.handed_on == 20
        assert found.clients == {"page": 20}
        kept = found.requests()
        assert [(k.parts[-1], k.channel, k.sent, k.replied) for k in kept] == [
            (b"cell", Channel.SHELL, True, False),
            (b"next", Channel.SHELL, False, False),
            (b"?", Channel.CONTROL, True, False),  # the reply was message 21, and comes again
        ]
        assert (found.not_received(3), found.not_received(4), found.not_received(5)) == ([CELL, OTHER], [OTHER], [])
        assert found.is_repeated(3)
        assert not found.is_repeated(4)
        found.answered(CELL, False)  # the torn line must not take this one along
        found.release()
        again = Keeping.claim(KERNEL_ID)
        assert again is not None
        assert [k.parts[-1] for k in again.requests()] == [b"next", b"?"]
        again.release()
    finally:
        found.release()


def test_a_client_that_was_given_up_on_is_not_expected(open_one: Keeping):
    open_one.number = 10
    open_one.flushed("behind", 3)
    open_one.flushed("page", 10)
    open_one.handed(10)
    assert open_one.clients == {"page": 10}


def test_a_living_process_keeps_its_kernel(open_one: Keeping):
    code = f"from jupyter_dsvm.kernels.keeping import Keeping; print(Keeping.claim({KERNEL_ID!r}))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert seen.stdout.strip() == "None"
    assert [k.kernel_id for k in kept_kernels()] == [KERNEL_ID]


def test_the_end_leaves_nothing(open_one: Keeping):
    open_one.end()
    assert list(kept_folder().iterdir()) == []
    open_one.arrived(CELL, parts("x"))
    open_one.keep(kernel(epoch="another"))  # and it may move again
    assert read_kernel(folder_of(KERNEL_ID)).epoch == "another"


def test_an_end_is_kept_until_everybody_has_heard_of_it(open_one: Keeping):
    open_one.handed(4)
    open_one.number = 6
    open_one.ended()
    open_one.handed(5)
    assert folder_of(KERNEL_ID).exists()
    open_one.handed(6)
    assert not folder_of(KERNEL_ID).exists()


def test_another_kernel_counts_from_the_beginning(open_one: Keeping):
    open_one.arrived(CELL, parts("waits"))
    open_one.sent(OTHER, Channel.SHELL, 5, parts("?"))
    open_one.answered(OTHER, False)
    open_one.number = 30
    open_one.flushed("page", 30)
    open_one.handed(30)
    open_one.keep(kernel(epoch="moved", compute="host:other"))
    open_one.release()
    found = Keeping.claim(KERNEL_ID)
    assert found is not None
    assert (found.handed_on, found.clients) == (None, {})
    assert [(k.parts[-1], k.sent) for k in found.requests()] == [(b"waits", False)]
    found.release()


def test_a_broken_folder_keeps_nothing_else_from_being_found(open_one: Keeping, caplog: pytest.LogCaptureFixture):
    for name, content in (
        ("a", b"{"),
        ("b", b"[]"),
        ("c", b'{"version": 1}'),
        ("d", b'{"version": 99}'),
        ("e", b"\xff"),
    ):
        (kept_folder() / name).mkdir()
        (kept_folder() / name / KERNEL).write_bytes(content)
    (kept_folder() / "f").mkdir()
    (kept_folder() / "file").write_text("")
    assert [k.kernel_id for k in kept_kernels()] == [KERNEL_ID]
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 5


def test_ids_that_are_no_uuids_stay_in_the_folder(data: Path):
    for name in ("../../evil", "a/b", "", "x" * 300, KERNEL_ID.upper()):
        assert folder_of(name).parent == kept_folder()
        assert folder_of(name).name != name


def test_the_log_does_not_grow_for_ever(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping_module, "GROWN", 10_000)
    open_one = Keeping(KERNEL_ID)
    open_one.keep(kernel())
    largest = 0
    for i in range(500):
        key = ("execute_request", f"{i:08}")
        open_one.arrived(key, parts("x" * 1000))
        open_one.sent(key, Channel.SHELL, i + 1, [])
        open_one.number = i + 1
        open_one.answered(key, False)
        open_one.handed(i + 1)
        largest = max(largest, (folder_of(KERNEL_ID) / REQUESTS).stat().st_size)
    assert largest < 100_000
    open_one.release()


def test_sockets_of_a_killed_process_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    dead, living, young, other = (tmp_path / f"dsvm-{name}" for name in ("dead", "living", "young", "other"))
    listeners = []
    for folder in (dead, living, young, other):
        folder.mkdir()
        if folder is not other:
            monkeypatch.chdir(folder)  # the path may be too long for a socket
            listeners.append(socket.socket(socket.AF_UNIX))
            listeners[-1].bind("call")
            listeners[-1].listen(1)
    monkeypatch.chdir(tmp_path)
    (dead / "spool").write_text("x")
    for each in (listeners[0], listeners[2]):
        each.close()
    for folder in (dead, living, other):
        os.utime(folder, (1, 1))
    assert remove_leftovers() == 1
    assert {p.name for p in tmp_path.iterdir()} == {"dsvm-living", "dsvm-young", "dsvm-other"}
    listeners[1].close()


# Disks


@pytest.fixture
def full(data: Path) -> Iterator[Path]:
    """Room for 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "small", data], capture_output=True)
    if mounted.returncode:
        pytest.skip("this computer does not let us mount a small disk")
    yield data
    subprocess.run(["umount", "-l", data], check=True)


def test_a_full_disk_hurts_nobody(full: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping_module, "RETRY_SECONDS", 0.0)
    filler = full / "filler"
    one = Keeping(KERNEL_ID)
    one.keep(kernel())
    one.arrived(("execute_request", "0"), parts("before"))
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as f:
        while True:
            f.write(b"x" * 512)
    for i in range(1, 30):
        one.arrived(("execute_request", str(i)), parts("x" * 1000))
        one.number = i
        one.flushed("page", i)
        one.handed(i)
        one.keep(kernel(runs=i))
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    filler.unlink()
    one.arrived(CELL, parts("after"))  # there is room again, and all of it is written
    one.keep(kernel(runs=30))
    one.release()
    found = Keeping.claim(KERNEL_ID)
    assert found is not None
    assert len(found.requests()) == 31
    assert (found.handed_on, found.clients) == (29, {"page": 29})
    assert found.kept is not None
    assert found.kept.runs == 30
    found.release()


def test_no_folder_at_all_hurts_nobody(data: Path, caplog: pytest.LogCaptureFixture):
    (data / "jupyter-dsvm").write_text("a file where the folder should be")
    one = Keeping(KERNEL_ID)
    for _ in range(3):
        one.keep(kernel())
        one.arrived(CELL, parts("x"))
        one.flushed("page", 1)
        one.handed(1)
        one.ended()
    one.end()
    one.release()
    assert len([r for r in caplog.records if (r.levelname, r.name) == ("WARNING", "jupyter_dsvm.keeping")]) == 1
    assert kept_kernels() == []
    assert Keeping.claim(KERNEL_ID) is None
