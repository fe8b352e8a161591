"""Leases on a VM: two servers of one account do not stop it under each other."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jupyter_dsvm.relay import folders, leases
from jupyter_dsvm.relay.leases import STOPPING, Lease, LeaseError, Leases
from support.relay_end import Machine, PipeEnd
from support.relay_vm import home, vm, way

__all__ = ["home", "vm", "way"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(leases, "seconds_up", lambda: now[0])
    return now


def test_kept_read_ended_and_expired(tmp_path: Path, clock: list[float]) -> None:
    folder = tmp_path / "leases"
    one, other = Leases(str(folder)), Leases(str(folder))
    assert one.read() == []
    one.keep("server-a", 600, "Keep on 1 h")
    assert other.keep("server-b", 60, "moving a notebook") == [
        Lease("server-a", 600, "Keep on 1 h"),
        Lease("server-b", 60, "moving a notebook"),
    ]
    clock[0] += 61
    assert other.read() == [Lease("server-a", 539, "Keep on 1 h")]
    assert one.keep("server-a", 0, "") == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    one.keep("server-a", 1, "x")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 1  # what has expired was removed


def test_who_claims_finds_no_other_and_who_comes_after_finds_the_claim(tmp_path: Path, clock: list[float]) -> None:
    one = Leases(str(tmp_path / "leases"))
    one.keep("b", 600, "in use")
    assert one.claim("a", 120) == [Lease("b", 600, "in use")]
    assert one.read() == [Lease("b", 600, "in use")]
    one.keep("a", 600, "in use")  # one's own is none to wait for
    one.keep("b", 0, "")
    assert one.claim("a", 120) == []
    assert one.keep("b", 60, "moving a notebook") == [Lease("a", 120, STOPPING), Lease("b", 60, "moving a notebook")]
    assert one.claim("a", 120) == [Lease("b", 60, "moving a notebook")]
    clock[0] += 121  # it was not stopped after all
    assert one.read() == []
    assert one.claim("b", 60) == []
    assert one.claim("a", 60) == []  # two that want the same are no harm


def test_a_machine_that_was_started_again_has_none(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Leases(str(tmp_path / "leases"))
    one.keep("a", 600, "in use")
    monkeypatch.setattr(leases, "boot_id", lambda: "another")
    assert one.read() == []


def test_what_the_wall_clock_says_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Leases(str(tmp_path / "leases"))
    one.keep("a", 600, "in use")
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert [lease.holder for lease in one.read()] == ["a"]
    for path in (tmp_path / "leases").iterdir():
        os.utime(path, (0, 0))
    assert 590 < one.read()[0].left <= 600


@pytest.mark.parametrize(
    ("holder", "seconds", "why"),
    [
        ("", 1, "x"), ("a/b", 1, "x"), ("a" * 65, 1, "x"), (None, 1, "x"), ("a", -1, "x"), ("a", 1e9, "x"), ("a", "1", "x"),
        ("a", None, "x"), ("a", True, "x"), ("a", float("nan"), "x"), ("a", 1, "x" * 201), ("a", 1, "a\nb"), ("a", 1, 7),
        ("a", 1, STOPPING),
    ],
)  # fmt: skip
def test_nonsense_is_refused(tmp_path: Path, holder: Any, seconds: Any, why: Any) -> None:
    one = Leases(str(tmp_path / "leases"))
    with pytest.raises(LeaseError):
        one.keep(holder, seconds, why)
    assert one.read() == []


def test_what_lies_there_is_no_lease(tmp_path: Path, clock: list[float]) -> None:
    folder = tmp_path / "leases"
    one = Leases(str(folder))
    one.keep("a", 600, "in use")
    (path,) = folder.iterdir()
    value = json.loads(path.read_text())
    for number, odd in enumerate(
        [b"", b"[", b"[]", b"{}", b"\xff", json.dumps({**value, "until": 1e9}).encode(),
         json.dumps({**value, "until": "x"}).encode(), json.dumps({**value, "holder": "../x"}).encode()]
    ):  # fmt: skip
        (folder / f"odd{number}").write_bytes(odd)
    assert [lease.holder for lease in one.read()] == ["a"]
    one.keep("a", 600, "in use")
    assert list(folder.iterdir()) == [path]


def test_a_folder_that_others_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir(mode=0o755)
    one = Leases(str(tmp_path / "leases"))
    assert one.read() == []
    with pytest.raises(folders.FolderError):
        one.keep("a", 60, "in use")


def test_not_without_end(tmp_path: Path, clock: list[float]) -> None:
    one = Leases(str(tmp_path / "leases"))
    for number in range(leases.MOST):
        one.keep(f"s{number}", 60, "in use")
    with pytest.raises(LeaseError, match="already"):
        one.keep("one-more", 60, "in use")
    one.keep("s0", 90, "in use")
    clock[0] += 61
    assert [lease.holder for lease in one.keep("one-more", 60, "in use")] == ["one-more", "s0"]


def test_many_at_once(tmp_path: Path) -> None:
    """Of those that claim and those that keep, never both got what they wanted."""
    folder = str(tmp_path / "leases")
    for round_ in range(30):
        results: dict[str, Any] = {}
        start = threading.Barrier(2)

        def claim(results: dict[str, Any] = results, start: threading.Barrier = start) -> None:
            start.wait()
            results["others"] = Leases(folder).claim("a", 30)

        def keep(results: dict[str, Any] = results, start: threading.Barrier = start) -> None:
            start.wait()
            results["kept"] = Leases(folder).keep("b", 30, "moving")

        threads = [threading.Thread(target=claim), threading.Thread(target=keep)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        claimed = results["others"] == []
        told = any(lease.why == STOPPING for lease in results["kept"])
        assert claimed == told, round_
        for path in Path(folder).iterdir():
            path.unlink()


class TwoServers(RuleBasedStateMachine):
    """Whatever they do and whatever time passes: no claim while another's lease holds."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.mkdtemp(prefix="leases", dir="/tmp")
        self.now = 0.0
        self.real = leases.seconds_up
        leases.seconds_up = lambda: self.now
        self.until: dict[str, float] = {}
        self.claims: dict[str, float] = {}
        self.all = Leases(self.folder)

    @rule(who=st.sampled_from("abc"), seconds=st.integers(0, 100))
    def keep(self, who: str, seconds: int) -> None:
        seen = self.all.keep(who, seconds, "in use")
        self.claims.pop(who, None)
        self.until[who] = self.now + seconds
        assert {lease.holder for lease in seen if lease.why == STOPPING} == {
            one for one, until in self.claims.items() if until > self.now
        }

    @rule(who=st.sampled_from("abc"), seconds=st.integers(1, 100))
    def claim(self, who: str, seconds: int) -> None:
        others = {one for one, until in self.until.items() if until > self.now and one != who}
        assert {lease.holder for lease in self.all.claim(who, seconds)} == others
        if not others:
            self.claims[who] = self.now + seconds
            self.until.pop(who, None)

    @rule(seconds=st.integers(0, 200))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def what_is_read_is_what_holds(self) -> None:
        if hasattr(self, "all"):
            wanted = {**self.until, **self.claims}
            assert {lease.holder: round(self.now + lease.left) for lease in self.all.read()} == {
                who: until for who, until in wanted.items() if until > self.now
            }

    def teardown(self) -> None:
        import shutil

        if hasattr(self, "folder"):
            leases.seconds_up = self.real
            shutil.rmtree(self.folder)


TestTwoServers = TwoServers.TestCase
TestTwoServers.settings = settings(max_examples=40, stateful_step_count=20)


def test_over_a_pipe(vm: Machine, way: PipeEnd) -> None:
    kept = way.ask("keep", holder="a", seconds=60, why="Keep on 1 h")
    assert [one["holder"] for one in kept.get("result", [])] == ["a"], kept
    (refused,) = way.ask("claim", holder="b", seconds=60)["result"]
    assert (refused["holder"], refused["why"]) == ("a", "Keep on 1 h")
    assert 50 < refused["left"] <= 60
    assert way.ask("keep", holder="a", seconds=0)["result"] == []
    assert way.ask("claim", holder="b", seconds=60)["result"] == []
    for odd in ({}, {"holder": ["a"], "seconds": 1}, {"holder": "a", "seconds": "many"}):
        assert way.ask("keep", **odd)["error"]["code"] == "LeaseFailed"
    folder = vm.home / ".local/share/jupyter-dsvm/leases"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
