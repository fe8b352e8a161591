"""The file in which it is kept what machines have cost: shared, killed, damaged, full."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupyter_dsvm import spendledger
from jupyter_dsvm.models import PowerState
from jupyter_dsvm.spending_rules import DAY, HOUR, KEPT_SECONDS, UNSEEN_SECONDS, Interval, Observation, Terms
from jupyter_dsvm.spendledger import SpendLedger
from support.kernels import until

RUNNING, OFF = PowerState.RUNNING, PowerState.DEALLOCATED
T4 = Terms("NC4as_T4_v3", 0.5, "USD")
NOON = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Ledger(SpendLedger):
    """With a clock that goes where it is set, and is set by what is seen."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, Clock())

    def see(
        self, at: float, state: PowerState = RUNNING, word: float | None = None, vm: str = "vm"
    ) -> spendledger.Taken:
        self.clock.now = NOON + at  # type: ignore[attr-defined]
        since = None if word is None else NOON + word
        return self.observe([Observation(f"azure:{vm}", vm, state, NOON + at, T4, since)])

    def spans(self) -> list[tuple[float, float, bool]]:
        return [(i.since - NOON, i.seen - NOON, i.open) for i in self.intervals(0.0)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jupyter-dsvm" / "spend.sqlite"


def test_what_was_seen_is_there_for_the_next_process(file: Path):
    first = Ledger(file)
    assert first.see(0).news
    assert not first.see(600).news  # only time has passed
    first.close()
    second = Ledger(file)
    second.see(HOUR, OFF, word=1200)
    assert second.spans() == [(0, 1200, False)]
    assert second.intervals(NOON + 1300) == []
    (interval,) = second.intervals(NOON + 1100)
    assert (interval.name, interval.terms) == ("vm", T4)


def test_only_this_user_can_read_it(file: Path):
    before = os.umask(0)
    try:
        Ledger(file).see(0)
    finally:
        os.umask(before)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_machines_that_are_off_and_were_never_on_are_not_in_it(file: Path):
    ledger = Ledger(file)
    assert ledger.observe([Observation(f"azure:{n}", f"vm-{n}", OFF, NOON) for n in range(1000)]) == spendledger.Taken()
    assert ledger.spans() == []


def test_old_days_are_forgotten(file: Path):
    ledger = Ledger(file)
    ledger.see(0)
    ledger.see(600, OFF, word=600)
    ledger.see(KEPT_SECONDS, vm="other")
    assert len(ledger.spans()) == 2
    ledger.see(KEPT_SECONDS + HOUR, vm="third")
    assert [s[0] for s in ledger.spans()] == [KEPT_SECONDS, KEPT_SECONDS + HOUR]


def test_a_machine_that_is_gone(file: Path):
    ledger = Ledger(file)
    ledger.see(0)
    ledger.clock.now = NOON + 600  # type: ignore[attr-defined]
    assert ledger.gone("azure:vm")
    assert not ledger.gone("azure:vm")
    assert ledger.spans() == [(0, 600, False)]


def test_the_clock_is_set_back(file: Path):
    ledger = Ledger(file)
    ledger.see(0)
    ledger.see(600, OFF, word=600)
    ledger.see(3 * DAY)  # wrong
    ledger.see(3 * DAY + 600)
    ledger.see(700)
    assert ledger.spans() == [(0, 600, False), (700, 700, True)]
    ledger.see(1300, OFF, word=1300)
    assert ledger.spans() == [(0, 600, False), (700, 1300, False)]


# Two servers


SERVER = """
import random, sys, time
from pathlib import Path
from jupyter_dsvm.models import PowerState
from jupyter_dsvm.spending_rules import Observation, Terms
from jupyter_dsvm.spendledger import SpendLedger
ledger, seed = SpendLedger(Path(sys.argv[1])), random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    now = time.time()
    on = int(now * 5) % 2 == 0  # all of them see the same machine, on and off five times in two seconds
    state = PowerState.RUNNING if on else PowerState.DEALLOCATED
    ledger.observe([Observation("azure:vm", "vm", state, now, Terms("A", 3600.0, "USD"), int(now * 5) / 5)])
    time.sleep(seed.random() / 50)
"""


@contextlib.contextmanager
def server(file: Path, seed: int):
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(file), str(seed)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_servers_and_one_killed_again_and_again(file: Path):
    """Each is killed while it may be writing; what is there stays whole, and no hour counts twice."""
    began = time.time()
    with server(file, 1):
        for seed in range(2, 6):
            with server(file, seed) as other:
                time.sleep(0.1 + random.Random(seed).random() / 2)
                other.send_signal(signal.SIGKILL)
    ended = time.time()
    assert list(file.parent.glob("*damaged*")) == []
    db = sqlite3.connect(file)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    intervals = SpendLedger(file).intervals(0.0)
    assert len(intervals) >= 3
    for a, b in itertools.pairwise(intervals):
        assert not a.open
        assert a.since <= a.seen <= b.since
    on = sum(i.seen - i.since for i in intervals)
    assert 0 < on < ended - began
    # What the last one saw goes on from there: it is closed where it was seen, and by Azure's word later than that.
    ledger = SpendLedger(file, lambda: ended + DAY)
    last = intervals[-1]
    if last.open:
        assert last.until(ended + DAY) == last.seen + UNSEEN_SECONDS
    ledger.observe([Observation("azure:vm", "vm", OFF, ended + DAY, unchanged_since=ended + HOUR)])
    closed = ledger.intervals(0.0)[-1]
    assert closed.open is False
    assert closed.seen == (ended + HOUR if last.open else last.seen)


def test_another_process_that_does_not_let_go(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(spendledger, "BUSY_SECONDS", 0.1)
    ledger = Ledger(file)
    ledger.see(0)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert ledger.see(600) == spendledger.Taken()
    assert ledger.intervals(0.0) == []
    assert "in use by another process" in caplog.text
    other.execute("ROLLBACK")
    ledger.see(700)
    assert ledger.spans() == [(0, 700, True)]
    other.execute("BEGIN EXCLUSIVE")
    for n in range(spendledger.MOST_LOCKED):  # a file system without locks
        ledger.see(800 + n)
    assert ledger.spans() == [(804, 804, True)]
    assert caplog.text.count("It is counted until this process ends") == 1
    other.close()
    ledger.close()


# Files that are none


@pytest.mark.parametrize("damage", ["no database", "torn", "another one's"])
def test_a_damaged_file_is_put_aside(file: Path, damage: str, caplog: pytest.LogCaptureFixture):
    ledger = Ledger(file)
    for n in range(200):
        ledger.see(n, vm=f"vm-{n}")
    if damage == "no database":
        file.write_bytes(b"{}" * 5000)
    elif damage == "torn":
        whole = file.read_bytes()
        file.write_bytes(whole[:100] + os.urandom(len(whole) - 100))
    else:
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("DROP TABLE intervals")
            db.commit()
    (file.parent / "spend.sqlite-journal").write_bytes(b"of the damaged one")
    with caplog.at_level(logging.WARNING):
        ledger.see(1000)
        ledger.see(1600)
    assert ledger.spans() == [(1000, 1600, True)]
    assert caplog.text.count("What machines have cost cannot be read") == 1
    aside = sorted(p.name for p in file.parent.glob("*damaged*"))
    assert len(aside) >= 1
    assert not (file.parent / "spend.sqlite-journal").exists()
    assert Ledger(file).spans() == [(1000, 1600, True)]


def test_a_file_of_a_later_version_is_left_alone(file: Path, caplog: pytest.LogCaptureFixture):
    Ledger(file).see(0)
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 7")
        db.commit()
    before = file.read_bytes()
    ledger = Ledger(file)
    ledger.see(600)
    ledger.see(1200)
    assert ledger.spans() == [(600, 1200, True)]
    ledger.close()
    assert file.read_bytes() == before
    assert caplog.text.count("a later version") == 1


def test_without_a_place_to_write_it_is_counted_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "jupyter-dsvm").write_text("a file where the folder is to be")
    ledger = Ledger(tmp_path / "jupyter-dsvm" / "spend.sqlite")
    ledger.see(0)
    ledger.see(600)
    assert ledger.spans() == [(0, 600, True)]
    assert caplog.text.count("It is counted until this process ends") == 1
    ledger.close()


def test_a_full_disk_goes_on_from_what_could_be_read(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ledger = Ledger(file)
    ledger.see(0)
    connect = spendledger._connect

    def full(name: Path | str, read_only: bool = False) -> sqlite3.Connection:
        db = connect(name, read_only)
        if name == file and not read_only:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    monkeypatch.setattr(spendledger, "_connect", full)
    for n in range(300):  # until no page is left
        ledger.see(600 + n, vm=f"vm-{n}" + "x" * 200)
    assert "database or disk is full" in caplog.text
    assert caplog.text.count("It is counted until this process ends") == 1
    spans = ledger.spans()
    assert len(spans) == 301
    assert spans[0] == (0, 0, True)
    ledger.close()


def test_threads_of_one_process(file: Path):
    import threading

    ledger = SpendLedger(file)
    stop = time.monotonic() + 1

    def work(n: int) -> None:
        while time.monotonic() < stop:
            ledger.observe([Observation(f"azure:{n}", f"vm-{n}", RUNNING, time.time(), T4)])
            ledger.intervals(0.0)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(i.compute for i in ledger.intervals(0.0)) == [f"azure:{n}" for n in range(4)]


def test_nothing_stays_open(file: Path):
    """A child that is started meanwhile inherits nothing, and no lock is held between two calls."""
    ledger = Ledger(file)
    ledger.see(0)
    held = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    assert not any(name.startswith(str(file)) for name in held)
    assert isinstance(ledger.intervals(0.0)[0], Interval)
    until(lambda: not (file.parent / "spend.sqlite-journal").exists())
