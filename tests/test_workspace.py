"""A workspace from end to end: this server's folder, a real SSH server, plans and transfers together."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.errors import Cancelled, DiskFull, SyncError, Unreachable
from jupyter_dsvm.sync import workspace as module
from jupyter_dsvm.sync.local import LocalFolder
from jupyter_dsvm.sync.plan import Direction, HaltReason
from jupyter_dsvm.sync.remote import RemoteFolder
from jupyter_dsvm.sync.workspace import Limits, Progress, Synced, Workspace, base_file
from support.sshd import FlakyTCP, SSHServer, small_disk, sshd
from support.workspaces import NEVER, Way

OLD = 1_700_000_000


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("vm")) as server:
        yield server


@pytest.fixture
def vm(machine: SSHServer) -> Iterator[SSHServer]:
    yield machine
    assert not machine.wait_until_idle()
    assert not list(machine.home.glob("notebooks/*/.dsvm-sync"))
    shutil.rmtree(machine.home / "notebooks", ignore_errors=True)


class Both:
    """A workspace and both its folders."""

    def __init__(self, here: Path, vm: SSHServer, base: Path, root: str = "w", port: int | None = None) -> None:
        self.here = here
        self.there = vm.home / "notebooks" / root
        self.limits = Limits()
        here.mkdir(exist_ok=True)
        self.way = Way(vm, port)
        self.remote = RemoteFolder(self.way, root, "gpu-vm")
        self.base = base
        self.workspace = Workspace(LocalFolder(here), self.remote, base, limits=lambda: self.limits)
        self.reports: list[Progress] = []

    def sync(self, direction: Direction = Direction.BOTH, **how: object) -> Synced:
        return self.workspace.sync(direction, self.reports.append, NEVER, **how)  # type: ignore[arg-type]

    def close(self) -> None:
        self.workspace.close()
        self.way.close()

    def files(self, side: str) -> dict[str, bytes]:
        root = self.here if side == "here" else self.there
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.relative_to(root).parts[0].startswith(".dsvm")
        }

    def alike(self) -> bool:
        return self.files("here") == self.files("there")

    def trash(self, side: str) -> set[bytes]:
        root = self.here if side == "here" else self.there
        return {path.read_bytes() for path in (root / ".dsvm-trash").rglob("*") if path.is_file()}


def write(path: Path, data: bytes | str, when: float = OLD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.utime(path, (when, when))


@pytest.fixture
def both(vm: SSHServer, tmp_path: Path) -> Iterator[Both]:
    opened = Both(tmp_path / "here", vm, tmp_path / "bases/one.json")
    yield opened
    opened.close()


def test_a_notebook_s_folder_there_and_back(both: Both) -> None:
    for path, data in {
        "data.csv": "a,b\n",
        "pkg/__init__.py": "",
        "pkg/helpers.py": "x = 1\n",
        "run.sh": "#!/bin/sh\n",
    }.items():
        write(both.here / path, data)
    (both.here / "bare").mkdir()
    done = both.sync(Direction.PUSH)
    assert (done.pushed, done.pulled, done.problems, done.in_step) == (4, 0, (), True)
    assert both.alike()
    assert (both.there / "bare").is_dir()
    assert both.reports[-1] == Progress(4, 4, done.bytes, done.bytes)
    assert stat.S_IMODE(both.base.stat().st_mode) == 0o600

    trips = both.remote.round_trips
    done = both.sync()
    assert (done.pushed, done.pulled, done.deleted, done.bytes) == (0, 0, 0, 0)
    assert both.remote.round_trips - trips <= 3

    write(both.there / "plot.png", os.urandom(50_000), time.time())
    write(both.there / "models/model.bin", os.urandom(500_000), time.time())
    write(both.there / "data.csv", "a,b\n1,2\n", OLD + 9)
    done = both.sync(Direction.PULL)
    assert (done.pushed, done.pulled) == (0, 3)
    assert both.alike()
    assert b"a,b\n" in both.trash("here"), "what was replaced is kept for a while"

    (both.here / "plot.png").unlink()
    (both.there / "run.sh").unlink()
    done = both.sync()
    assert done.deleted == 2
    assert both.alike()
    assert "plot.png" not in both.files("there")
    assert b"#!/bin/sh\n" in both.trash("here")
    done = both.sync()
    assert (done.pushed, done.pulled, done.deleted) == (0, 0, 0)


def test_an_empty_folder_is_there_for_the_kernel(both: Both) -> None:
    assert both.sync(Direction.PULL).in_step
    assert not both.there.exists()
    assert both.sync(Direction.PUSH).in_step
    assert both.there.is_dir()
    both.close()
    assert both.sync().in_step
    assert both.workspace.estimate() == (0, 0)
    write(both.here / "a", "123")
    assert both.workspace.estimate() == (1, 3)


def test_the_base_outlives_the_server(both: Both, vm: SSHServer) -> None:
    write(both.here / "a", "1")
    both.sync()
    both.close()
    again = Both(both.here, vm, both.base)
    try:
        (again.there / "a").unlink()
        write(again.here / "b", "2")
        write(again.there / "c", "3")
        done = again.sync()
        assert (done.pushed, done.pulled, done.deleted) == (1, 1, 1), "it is known to have been there"
        again.base.write_text("{")
        lost = Both(again.here, vm, again.base)
        done = lost.sync()
        assert (done.pushed, done.pulled, done.deleted, done.problems) == (0, 0, 0, ()), "nothing is lost without it"
        lost.close()
        assert json.loads(again.base.read_text())["base"]
    finally:
        again.close()


@pytest.mark.parametrize("theirs", [False, True])
def test_both_changed_and_one_is_kept(both: Both, theirs: bool) -> None:
    write(both.here / "data.csv", "first")
    both.sync()
    write(both.here / "data.csv", "mine", OLD + 1)
    write(both.there / "data.csv", "theirs", OLD + 2)
    done = both.sync()
    (conflict,) = done.conflicts
    assert done.problems == ()
    assert not done.in_step
    assert "gpu-vm" in conflict.kept_as
    assert both.alike()
    assert both.files("here") == {"data.csv": b"mine", conflict.kept_as: b"theirs"}
    assert both.sync().conflicts == done.conflicts, "until somebody resolves it"

    done = both.workspace.resolve(conflict.kept_as, theirs, both.reports.append, NEVER)
    assert (done.conflicts, done.in_step) == ((), True)
    assert both.alike()
    assert both.files("here") == {"data.csv": b"theirs" if theirs else b"mine"}
    assert (b"mine" if theirs else b"theirs") in both.trash("here") | both.trash("there")
    with pytest.raises(SyncError, match="no conflict"):
        both.workspace.resolve(conflict.kept_as, theirs, both.reports.append, NEVER)


def test_a_conflict_that_was_dealt_with_by_hand_is_over(both: Both) -> None:
    write(both.here / "d", "first")
    both.sync()
    write(both.here / "d", "mine", OLD + 1)
    write(both.there / "d", "theirs", OLD + 2)
    (conflict,) = both.sync().conflicts
    (both.here / conflict.kept_as).unlink()
    assert both.sync().conflicts == ()
    assert both.alike()


def test_a_halt_does_nothing_until_it_is_forced(both: Both) -> None:
    for i in range(10):
        write(both.here / f"f{i}", str(i))
    both.sync()
    shutil.rmtree(both.there)
    done = both.sync()
    assert done.halt is not None
    assert HaltReason.VANISHED in done.halt.reasons
    assert len(both.files("here")) == 10
    assert not both.there.exists()
    done = both.sync(force=done.halt.id)
    assert done.pushed == 10
    assert both.alike()
    for i in range(8):
        (both.there / f"f{i}").unlink()
    done = both.sync()
    assert done.halt is not None
    assert done.halt.reasons == (HaltReason.MANY_DELETIONS,)
    assert len(both.files("here")) == 10
    assert both.sync(force=done.halt.id).deleted == 8
    assert both.alike()


def test_what_is_too_large_asks_and_what_does_not_fit_stays(both: Both) -> None:
    write(both.here / "large", os.urandom(200_000))
    both.limits = Limits(ask_above=100_000, pull_bytes=50_000)
    done = both.sync()
    assert (done.needs_yes, done.pushed) == (200_000, 0)
    assert not both.there.exists() or not both.files("there")
    assert both.sync(yes=True).pushed == 1
    write(both.there / "model", os.urandom(80_000))
    write(both.there / "small", os.urandom(10_000))
    done = both.sync()
    assert done.pulled == 1
    assert [e.path for e in done.left_there] == ["model"]
    assert both.sync().left_there == done.left_there
    done = both.workspace.fetch(["model"], both.reports.append, NEVER)
    assert done.left_there == ()
    assert both.alike()


def test_planted_secrets_never_arrive(both: Both) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    secrets = (
        ".ssh/id_ed25519",
        ".aws/credentials",
        ".env",
        "id_rsa",
        "server.pem",
        ".git/config",
        "sub/.netrc",
        "azureProfile.json",
    )
    for path in secrets:
        write(both.here / path, "SECRET-7d1f " + path)
    write(both.here / "innocent.txt", key)
    write(both.here / "data.csv", "a,b\n")
    done = both.sync()
    assert done.pushed == 1
    assert done.problems == ()
    assert any("innocent.txt" in skipped.path for skipped in done.skipped)
    assert set(both.files("there")) == {"data.csv"}
    assert b"SECRET-7d1f" not in b"".join(p.read_bytes() for p in both.there.parent.rglob("*") if p.is_file())


def test_what_would_run_here_never_arrives(both: Both) -> None:
    write(both.here / "a.py", "1")
    both.sync()
    for path in (
        ".git/hooks/post-checkout",
        "evil.pth",
        "sitecustomize.py",
        ".ipython/profile_default/startup/x.py",
        ".bashrc",
    ):
        write(both.there / path, "import os")
    (both.there / "link").symlink_to("/etc/passwd")
    (both.there / "up").symlink_to("../../..")
    write(both.there / "fine.py", "2")
    done = both.sync()
    assert done.pulled == 1
    assert set(both.files("here")) == {"a.py", "fine.py"}
    assert not (both.here / "link").is_symlink()
    assert not (both.here / "up").is_symlink()


def test_clocks_that_disagree_by_hours(both: Both) -> None:
    write(both.here / "a", "first")
    both.sync()
    write(both.here / "a", "newer, by a clock that is behind", OLD - 36_000)
    assert both.sync().pushed == 1
    write(both.there / "a", "newest, by one that is ahead", time.time() + 36_000)
    assert both.sync().pulled == 1
    assert both.alike()
    assert both.sync().bytes == 0


def test_two_notebooks_in_one_folder_take_turns(both: Both) -> None:
    for i in range(50):
        write(both.here / f"f{i}", os.urandom(1000))
    results: list[Synced] = []
    threads = [threading.Thread(target=lambda: results.append(both.sync())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.pushed for done in results) == [0, 0, 50]
    assert both.alike()


def test_one_folder_on_two_machines(both: Both, tmp_path: Path) -> None:
    with sshd(tmp_path / "second") as second:
        other = Both(both.here, second, tmp_path / "bases/two.json")
        try:
            write(both.here / "a", "1")
            assert (both.sync().pushed, other.sync().pushed) == (1, 1)
            write(both.there / "from one", "x")
            assert both.sync().pulled == 1
            assert other.sync().pushed == 1
            write(other.there / "from one", "y", OLD + 5)
            assert other.sync().pulled == 1
            assert both.sync().pushed == 1
            assert both.files("there") == other.files("there") == both.files("here")
            assert both.files("here")["from one"] == b"y"
        finally:
            other.close()
            assert not second.wait_until_idle()
    one, two = (base_file(tmp_path, compute, both.here) for compute in ("azure:1", "azure:2"))
    assert one != two
    assert one == base_file(tmp_path, "azure:1", both.here)


def test_a_sync_that_is_cut_and_cancelled_loses_nothing(vm: SSHServer, tmp_path: Path) -> None:
    with FlakyTCP(vm.host, vm.port, rate=5e6) as way:
        both = Both(tmp_path / "here", vm, tmp_path / "base.json", port=way.port)
        try:
            files = {f"d{i % 7}/f{i}": os.urandom(30_000) for i in range(200)}
            for path, data in files.items():
                write(both.here / path, data)
            cancel = threading.Event()
            cuts: list[int] = []

            def report(progress: Progress) -> None:
                if progress.bytes > 1_000_000 and not cuts:
                    cuts.append(progress.files)
                    way.cut()
                if progress.bytes > 3_000_000:
                    cancel.set()

            with pytest.raises(Cancelled):
                both.workspace.sync(Direction.BOTH, report, cancel)
            done = both.sync()
            assert 0 < done.pushed < 200, "what was done is remembered"
            assert done.problems == ()
            assert both.alike()
            assert both.sync().bytes == 0
        finally:
            both.close()


def test_the_machine_is_gone(both: Both, vm: SSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    write(both.here / "a", "1")
    both.sync()
    both.way.close()
    monkeypatch.setattr("jupyter_dsvm.sync.remote.PAUSES", (0.01,))

    def gone() -> None:
        raise Unreachable("gpu-vm does not answer.")

    monkeypatch.setattr(both.remote, "_connect", gone)
    with pytest.raises(Unreachable):
        both.sync()
    monkeypatch.undo()
    write(both.here / "b", "2")
    assert both.sync().pushed == 1


def test_a_disk_there_that_is_too_small_is_said_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sshd(tmp_path / "vm") as vm:
        (vm.home / "notebooks/w").mkdir(parents=True)
        with small_disk(vm.home / "notebooks/w", 3000):
            both = Both(tmp_path / "here", vm, tmp_path / "base.json")
            try:
                for i in range(10):
                    write(both.here / f"f{i}", os.urandom(500_000))
                with pytest.raises(DiskFull, match="5 MB are to be copied to gpu-vm, where 3 MB are free"):
                    both.sync()
                assert both.files("there") == {}
                monkeypatch.setattr(module, "SPARE_BYTES", -100_000_000)  # as with a quota, which nobody can ask for
                done = both.sync()
                assert 3 <= done.pushed < 10
                assert all("the disk is full" in problem for problem in done.problems)
                (both.there / "f0").unlink(missing_ok=True)
            finally:
                both.close()
                assert not vm.wait_until_idle()


def test_files_that_change_while_they_are_copied_are_taken_again(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    write(both.here / "steady", "1")
    write(both.here / "log", b"x" * 3_000_000)
    opened = LocalFolder.open
    times: list[int] = []

    def busy(self: LocalFolder, entry: object, **how: bool) -> object:
        reading = opened(self, entry, **how)  # type: ignore[arg-type]
        if entry.path == "log" and not times:  # type: ignore[attr-defined]
            times.append(1)
            with (both.here / "log").open("ab") as file:
                file.write(b"more")
        return reading

    monkeypatch.setattr(LocalFolder, "open", busy)
    done = both.sync()
    assert (done.pushed, done.problems) == (2, ())
    assert both.alike()
