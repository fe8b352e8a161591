"""Which kernels on VMs are to end: written down first, known to all servers of a user, and never a notebook's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_dsvm import settling
from jupyter_dsvm.errors import (
    AuthenticationError,
    ComputeNotRunning,
    DSVMError,
    HostKeyError,
    UnknownCompute,
    Unreachable,
)
from jupyter_dsvm.kernels import keeping as keeping_module
from jupyter_dsvm.kernels.keeping import Keeping
from jupyter_dsvm.kernels.keptfiles import KeptKernel, folder_of, kept_kernels, kept_tags
from jupyter_dsvm.kernels.ledger import Ledger, owed_folder
from jupyter_dsvm.kernels.owed import MAX_AGE, Facts, OwedEnd, Step, settled_by, settled_by_goodbye, step
from jupyter_dsvm.kernels.vmpipe import VMPipe
from jupyter_dsvm.settling import Settling

KERNEL_ID = "0f6ac4a2-5f5b-4d0c-b1f5-2f6a0a8f2f11"


def owed_end(number: int = 1, **changes: Any) -> OwedEnd:
    return replace(OwedEnd(f"{number:032x}", f"epoch-{number}", "host:vm", "vm", time.time()), **changes)


def kept_kernel(number: int) -> KeptKernel:
    return KeptKernel(
        kernel_id=KERNEL_ID,
        kernel_name="python3",
        key="secret-key",
        signature_scheme="hmac-sha256",
        session="front",
        ip="127.0.0.1",
        ports={},
        compute="host:vm",
        compute_name="vm",
        kernelspec="python3",
        language="python",
        interrupt_mode="signal",
        epoch=f"epoch-{number}",
        peer_epoch=f"relay-{number}",
        tag=f"{number:032x}",
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return tmp_path


def entries() -> set[str]:
    return {path.stem for path in owed_folder().glob("*.json")}


# What follows from the facts


@pytest.mark.parametrize(
    ("in_use", "kept", "age", "expected"),
    [
        (True, None, 0, Step.LEAVE),
        (True, True, 2 * MAX_AGE, Step.LEAVE),
        (True, False, 0, Step.LEAVE),
        (False, True, 0, Step.FORGET),
        (False, True, 2 * MAX_AGE, Step.FORGET),
        (False, None, 0, Step.LEAVE),
        (False, None, 2 * MAX_AGE, Step.FORGET),
        (False, False, 2 * MAX_AGE, Step.FORGET),
        (False, False, 0, Step.END),
        (False, False, -100, Step.END),  # the clock was set back
    ],
)
def test_what_follows(in_use: bool, kept: bool | None, age: float, expected: Step):
    assert step(Facts(in_use, kept, age)) is expected


@given(st.booleans(), st.sampled_from([True, False, None]), st.floats(allow_nan=False))
def test_only_what_is_known_to_be_nobodys_is_ended(in_use: bool, kept: bool | None, age: float):
    found = step(Facts(in_use, kept, age))
    assert (found is Step.END) == (not in_use and kept is False and age <= MAX_AGE)
    assert not (in_use and found is Step.FORGET)


@pytest.mark.parametrize(
    ("error", "settled"),
    [
        (ComputeNotRunning("off"), True),
        (UnknownCompute("deleted"), True),
        (Unreachable("away"), False),
        (AuthenticationError("refused"), False),
        (HostKeyError("changed"), False),
    ],
)
def test_only_a_machine_that_is_off_settles_by_failing(error: DSVMError, settled: bool):
    assert settled_by(error) is settled


@given(st.text())
def test_a_goodbye_of_another_word_settles_nothing(reason: str):
    assert settled_by_goodbye(reason) == (reason in ("shutdown", "superseded", "epoch", "version"))


# The files


def test_there_is_nothing_secret_in_it_and_nobody_else_reads_it(data: Path):
    ledger, end = Ledger(), owed_end()
    ledger.begin(end, owe=True)
    path = owed_folder() / f"{end.tag}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert set(json.loads(path.read_text())) == {"version", "tag", "epoch", "compute", "compute_name", "since"}
    assert OwedEnd.from_json(json.loads(path.read_text())) == end
    ledger.leave(end.tag, settled=True)
    assert not entries()


def test_of_two_servers_one_has_it(data: Path):
    first, second = Ledger(), Ledger()  # locks are a descriptor's, so that two of them are two processes here
    end = owed_end()
    first.begin(end, owe=True)
    assert first.claim() == second.claim() == []
    assert first.leave(end.tag, settled=False) == end
    assert second.claim("host:other") == []
    assert second.claim("host:vm") == [end]
    assert first.claim() == []
    second.leave(end.tag, settled=True)
    assert first.claim() == []
    assert not entries()


def test_whoever_is_left_with_one_hears_of_it(data: Path):
    ledger, heard = Ledger(), list[str]()
    unlisten = ledger.listen(heard.append)
    for number, (owe, settled) in enumerate([(True, True), (False, True), (False, False), (True, False)]):
        ledger.begin(owed_end(number, compute=f"host:{number}"), owe=owe)
        ledger.over(f"{number:032x}", settled)
    assert heard == ["host:3"]
    unlisten()
    (end,) = ledger.claim()
    ledger.over(end.tag, settled=False)
    assert heard == ["host:3"]
    ledger.forget(end.tag)


def test_what_a_notebook_has_is_forgotten_and_what_may_be_one_is_left(data: Path):
    ledger = Ledger()
    keeping = Keeping(KERNEL_ID)
    keeping.keep(kept_kernel(1))
    keeping.release()
    for number in (1, 2):
        ledger.owe(owed_end(number))
    kernel_json = folder_of(KERNEL_ID) / "kernel.json"
    sound = kernel_json.read_text()
    kernel_json.write_text("{")
    assert kept_tags() == (set(), False)
    assert ledger.claim() == []
    assert len(entries()) == 2
    kernel_json.write_text(sound)
    (end,) = ledger.claim()
    assert end.tag == owed_end(2).tag
    assert entries() == {end.tag}
    ledger.leave(end.tag, settled=True)


def test_an_old_one_is_dropped(data: Path):
    ledger = Ledger()
    ledger.owe(owed_end(since=time.time() - MAX_AGE - 60))
    assert ledger.claim() == []
    assert not entries()


@settings(max_examples=50)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda v: st.lists(v, max_size=3),
        ).map(lambda v: json.dumps(v).encode()),
        st.fixed_dictionaries(
            {"version": st.just(1)},
            optional={name: st.one_of(st.none(), st.text(), st.floats()) for name in OwedEnd.__dataclass_fields__},
        ).map(lambda v: json.dumps(v).encode()),
    )
)
def test_nonsense_is_left_alone(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        owed_folder().mkdir(parents=True)
        path = owed_folder() / f"{1:032x}.json"
        path.write_bytes(content)
        ledger = Ledger()
        ledger.owe(owed_end(2))
        (end,) = ledger.claim()
        assert end.tag == owed_end(2).tag
        assert path.read_bytes() == content
        ledger.leave(end.tag, settled=True)


@pytest.mark.parametrize("blocked", [".", "jupyter-dsvm", "jupyter-dsvm/ends"])
def test_a_disk_that_takes_nothing_hurts_nobody(data: Path, caplog: pytest.LogCaptureFixture, blocked: str):
    place = data / blocked
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file")
    ledger = Ledger()
    for number in range(3):
        ledger.begin(owed_end(number), owe=True)
        ledger.over(owed_end(number).tag, settled=bool(number))
    assert ledger.claim() == []
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_no_descriptor_is_left(data: Path):
    ledger = Ledger()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(8):
        ledger.begin(owed_end(number), owe=bool(number & 1))
        with ledger.owed_meanwhile(owed_end(number) if number & 2 else None):
            pass
        if number & 4:
            ledger.forget(owed_end(number).tag)
        ledger.over(owed_end(number).tag, settled=False)
    for end in ledger.claim():
        ledger.leave(end.tag, settled=False)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(entries()) == 3


# Who ends them


def test_a_mistake_at_one_keeps_the_others_from_nobody(data: Path, monkeypatch: pytest.MonkeyPatch):
    ledger = Ledger()
    monkeypatch.setattr(settling, "ledger", ledger)
    for number in range(3):
        ledger.owe(owed_end(number))

    def borrow(compute: str, name: str) -> VMPipe:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        Settling(borrow).settle()
    claimed = ledger.claim()
    assert len(claimed) == 3
    for end in claimed:
        ledger.leave(end.tag, settled=True)


def test_whoever_leaves_one_is_not_hurt_where_no_thread_can_be_started(data: Path, monkeypatch: pytest.MonkeyPatch):
    """The link calls that in the middle of its own end."""
    ledger = Ledger()
    monkeypatch.setattr(settling, "ledger", ledger)
    made = Settling(lambda _compute, _name: pytest.fail("nothing is to be connected"))

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ledger.begin(owed_end(), owe=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        ledger.over(owed_end().tag, settled=False)
    made.close()
    (end,) = ledger.claim()
    ledger.leave(end.tag, settled=True)


# A server that is killed between any two changes of files


@contextlib.contextmanager
def before_change(number: int, then: Callable[[], None]) -> Iterator[None]:
    """Calls ``then`` before the change of files of that number, from 0, or at the end."""
    left = number
    real = {name: getattr(os, name) for name in ("replace", "unlink", "rmdir", "mkdir")}

    def counted(name: str) -> Callable[..., Any]:
        def change(*args: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                then()
            left -= 1
            return real[name](*args, **options)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, counted(name))
        yield
        patch.undo()
        if left >= 0:
            then()


class Life:
    """A notebook's kernels on VMs, as a server moves it about; which of them run, and which one it is attached to."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.keeping = Keeping(KERNEL_ID)
        self.running: set[int] = set()
        self.count = 0
        self.current = 0
        self.attached = {0}
        """Where the notebook may be said to be: two kernels in the middle of a move, 0 for the free tier."""

    def prepare(self) -> int:
        self.count += 1
        number = self.count
        self.ledger.begin(owed_end(number), owe=True)
        self.running.add(number)
        return number

    def end(self, number: int, reached: bool) -> None:
        if reached:
            self.running.discard(number)
        self.ledger.over(owed_end(number).tag, settled=reached)

    def move(self, reached: bool) -> None:
        new, old = self.prepare(), self.current
        self.attached = {old, new}
        self.keeping.keep(kept_kernel(new))
        self.current = new
        self.attached = {new}
        if old:
            self.end(old, reached)

    def fail(self, reached: bool) -> None:
        self.end(self.prepare(), reached)

    def come_back(self, reached: bool) -> None:
        if old := self.current:
            self.attached = {old, 0}
            self.keeping.end()
            self.current = 0
            self.attached = {0}
            self.end(old, reached)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["move", "fail", "come_back"]), st.booleans()), min_size=1, max_size=5),
    st.integers(0, 60),
)
def test_killed_at_any_moment_one_kernel_is_left_and_that_is_the_notebooks(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, bool]], change: int
):
    """What is on the disk at that moment is what the next server finds; a killed process has no locks."""
    data, copy = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("copy") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(data))
        first = Ledger()
        patch.setattr(keeping_module, "ledger", first)
        life = Life(first)
        running: set[int] = set()
        attached: set[int] = set()

        def killed() -> None:
            with pytest.MonkeyPatch.context() as as_ever:
                as_ever.setattr(os, "mkdir", mkdir)
                shutil.copytree(data, copy)
            running.update(life.running)
            attached.update(life.attached)

        mkdir = os.mkdir
        with before_change(change, killed):
            for name, reached in moves:
                getattr(life, name)(reached)
        life.keeping.release()

        patch.setenv("JUPYTER_DATA_DIR", str(copy))
        kept = {int(k.tag, 16) for k in kept_kernels()}
        second = Ledger()
        ended = {int(end.tag, 16) for end in second.claim()}
        assert not kept & ended, "the notebook's kernel would be ended"
        assert not running - ended - kept, "a kernel that nobody knows"
        assert kept <= running, "the notebook would be given a kernel that has ended"
        assert kept in [{number} - {0} for number in attached]
        for number in ended:
            second.leave(owed_end(number).tag, settled=True)
        assert Ledger().claim() == []
