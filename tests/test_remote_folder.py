"""A workspace's folder on a VM, against a real SSH server: what is stored, read, changed there, and what goes wrong."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_dsvm.errors import Cancelled, SyncError
from jupyter_dsvm.relay.fileframes import LARGE
from jupyter_dsvm.sync.entries import Entry, Kind, Side
from jupyter_dsvm.sync.plan import Action, Do, Outcome, Why
from jupyter_dsvm.sync.remote import RemoteFolder
from support.sshd import FlakyTCP, SSHServer, small_disk, sshd
from support.workspaces import NEVER, Plain, change, fetch, pull, push, remote


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with sshd(tmp_path_factory.mktemp("vm")) as server:
        yield server


@pytest.fixture
def vm(machine: SSHServer) -> Iterator[SSHServer]:
    yield machine
    assert not machine.wait_until_idle(), "nothing runs there when nobody is connected"
    left = list(machine.home.glob("notebooks/*/.dsvm-sync"))
    assert not left, "nothing that was half-way stays"
    shutil.rmtree(machine.home / "notebooks", ignore_errors=True)


@pytest.fixture
def here(tmp_path: Path) -> Plain:
    return Plain(tmp_path / "here")


def folder_of(vm: SSHServer, root: str = "w") -> Path:
    return vm.home / "notebooks" / root


def scan(folder: RemoteFolder, known: dict[str, Entry] | None = None) -> dict[str, Entry]:
    found = folder.scan((), known or {}, NEVER)
    assert found.tree is not None
    return dict(found.tree)


def test_what_is_pushed_is_there_and_what_is_pulled_is_here(vm: SSHServer, here: Plain, tmp_path: Path) -> None:
    files = {
        "data.csv": b"a,b\n1,2\n",
        "empty": b"",
        "sub/deep/ünïcode 名.bin": os.urandom(300_000),
        "run.sh": b"#!/bin/sh\n",
    }
    entries = [here.write(path, data) for path, data in files.items()]
    os.chmod(here.root / "run.sh", 0o755)
    with remote(vm) as folder:
        assert folder.scan((), {}, NEVER).tree is None, "it is not there, and looking does not make it"
        assert not folder_of(vm).exists()
        folders = [Action(Do.FOLDER, Side.THERE, path, Why.NEW) for path in ("sub", "sub/deep", "bare")]
        assert all(o.done for o in change(folder, here, folders))
        outcomes = change(folder, here, [push(entry) for entry in entries])
        assert all(o.done for o in outcomes)
        for path, data in files.items():
            assert (folder_of(vm) / path).read_bytes() == data
            assert (folder_of(vm) / path).stat().st_mtime == 1_700_000_000.0
        assert os.access(folder_of(vm) / "run.sh", os.X_OK)
        assert not (folder_of(vm) / "data.csv").stat().st_mode & 0o111
        assert folder_of(vm).stat().st_mode & 0o777 == 0o700, "nobody else on the machine reads it"

        there = {o.action.path: o.there for o in outcomes if o.there is not None}
        tree = scan(folder, there)
        assert {path for path, e in tree.items() if e.kind is Kind.FOLDER} == {"sub", "sub/deep", "bare"}
        assert {path: e for path, e in tree.items() if e.kind is Kind.FILE} == there, "digests and all"

        back = Plain(tmp_path / "back")
        outcomes = fetch(folder, back, [pull(e) for e in tree.values() if e.kind is Kind.FILE])
        assert all(o.done and o.there == tree[o.action.path] for o in outcomes)
        assert {path: (back.root / path).read_bytes() for path in files} == files


def test_a_thousand_files_take_no_round_trip_each(vm: SSHServer, here: Plain, tmp_path: Path) -> None:
    entries = [here.write(f"f{i}", os.urandom(1000)) for i in range(1000)]
    with FlakyTCP(vm.host, vm.port, delay=0.05) as way, remote(vm, port=way.port) as folder:
        folder.scan((), {}, NEVER)
        begun = time.monotonic()
        outcomes = change(folder, here, [push(entry) for entry in entries])
        assert all(o.done for o in outcomes)
        assert time.monotonic() - begun < 10, "100 s with a round trip for each"
        asked = folder.round_trips
        tree = scan(folder, {o.action.path: o.there for o in outcomes if o.there})
        assert all(e.digest for e in tree.values())
        begun = time.monotonic()
        back = Plain(tmp_path / "back")
        assert all(o.done for o in fetch(folder, back, [pull(e) for e in tree.values()]))
        assert time.monotonic() - begun < 10
        assert asked < 200


def test_what_changed_there_meanwhile_is_not_overwritten(vm: SSHServer, here: Plain) -> None:
    new, known = here.write("new", b"from here"), here.write("known", b"old")
    with remote(vm) as folder:
        (first,) = change(folder, here, [push(known)])
        (folder_of(vm) / "new").write_bytes(b"the cell's")
        (folder_of(vm) / "known").write_bytes(b"its")
        newer = here.write("known", b"newer", 1_700_000_001.0)
        outcomes = change(folder, here, [push(new), push(newer, replaces=first.there)])
        assert [o.done for o in outcomes] == [False, False]
        assert outcomes[0].problem == "new on vm: it changed meanwhile."
        assert folder.changed_meanwhile == 2
        assert (folder_of(vm) / "new").read_bytes() == b"the cell's"
        assert (folder_of(vm) / "known").read_bytes() == b"its"
        removed = Action(Do.DELETE, Side.THERE, "known", Why.DELETED, first.there)
        assert not change(folder, here, [removed])[0].done
        assert (folder_of(vm) / "known").exists()


def test_replaced_and_deleted_files_are_kept(vm: SSHServer, here: Plain) -> None:
    with remote(vm) as folder:
        paths = ("sub/trashed", "sub/kept", "deleted")
        outcomes = change(folder, here, [push(here.write(path, b"old " + path.encode())) for path in paths])
        trashed, kept, deleted = (o.there for o in outcomes)
        outcomes = change(
            folder,
            here,
            [
                push(here.write("sub/trashed", b"new"), replaces=trashed, trash=True),
                push(here.write("sub/kept", b"new"), replaces=kept, keep_as="sub/kept (vm)"),
                Action(Do.DELETE, Side.THERE, "deleted", Why.DELETED, deleted),
            ],
        )
        assert [o.done for o in outcomes] == [True] * 3
        root = folder_of(vm)
        assert (root / "sub/trashed").read_bytes() == (root / "sub/kept").read_bytes() == b"new"
        assert (root / "sub/kept (vm)").read_bytes() == b"old sub/kept"
        (day,) = (root / ".dsvm-trash").iterdir()
        assert (day / "sub/trashed").read_bytes() == b"old sub/trashed"
        assert (day / "deleted").read_bytes() == b"old deleted"
        assert set(scan(folder)) == {"sub", "sub/trashed", "sub/kept", "sub/kept (vm)"}, "the trash does not travel"

        again = change(folder, here, [push(here.write("deleted", b"second"))])[0].there
        change(folder, here, [Action(Do.DELETE, Side.THERE, "deleted", Why.DELETED, again)])
        assert (day / "deleted.1").read_bytes() == b"second", "nothing in the trash is overwritten"
        os.utime(day, (time.time() - 8 * 86400,) * 2)
    with remote(vm) as folder:
        scan(folder)
        deadline = time.monotonic() + 10
        while (root / ".dsvm-trash").exists():
            assert time.monotonic() < deadline, "after a week it is gone"
            time.sleep(0.02)


def test_folders_links_and_moves(vm: SSHServer, here: Plain) -> None:
    with remote(vm) as folder:
        data = change(folder, here, [push(here.write("data", b"x"))])[0].there
        link = Entry("sub/link", Kind.LINK, digest="../data")
        make = [Action(Do.FOLDER, Side.THERE, "sub", Why.NEW), push(link)]
        assert all(o.done for o in change(folder, here, make))
        assert (folder_of(vm) / "sub/link").read_bytes() == b"x"
        assert scan(folder)["sub/link"] == link
        assert all(o.done for o in change(folder, here, make)), "what is so already is done"
        (outcome,) = change(folder, here, [Action(Do.REMOVE_FOLDER, Side.THERE, "sub", Why.DELETED)])
        assert outcome.done
        assert outcome.there == Entry("sub", Kind.FOLDER), "it is not empty, and stays"
        change(folder, here, [Action(Do.DELETE, Side.THERE, "sub/link", Why.DELETED, link)])
        (outcome,) = change(folder, here, [Action(Do.REMOVE_FOLDER, Side.THERE, "sub", Why.DELETED)])
        assert (outcome.done, outcome.there) == (True, None)
        (outcome,) = change(folder, here, [Action(Do.MOVE, Side.THERE, "data", Why.TYPE, data, keep_as="data (vm)")])
        assert outcome.done
        assert set(scan(folder)) == {"data (vm)"}


def test_links_there_lead_nothing_outside(vm: SSHServer, here: Plain) -> None:
    outside = vm.home / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "target").write_bytes(b"mine")
    root = folder_of(vm)
    root.mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "target")
    with remote(vm) as folder:
        found = folder.scan((), {}, NEVER)
        assert found.tree == {}
        assert found.unknown == {"folder": "it leads out of the folder", "file": "it leads out of the folder"}
        outcomes = change(folder, here, [push(here.write("folder/x", b"1")), push(here.write("file", b"2"))])
        assert [o.done for o in outcomes] == [False, False]
        entry = Entry("folder/target", Kind.FILE, 4, (outside / "target").stat().st_mtime_ns)
        (outcome,) = fetch(folder, Plain(here.root), [pull(entry)])
        assert not outcome.done
    assert sorted(p.name for p in outside.iterdir()) == ["target"]
    assert (outside / "target").read_bytes() == b"mine"
    shutil.rmtree(outside)
    (vm.home / "notebooks/linked").symlink_to("/tmp")
    with remote(vm, "linked") as folder, pytest.raises(SyncError, match="is a link or a file, not a folder"):
        folder.scan((), {}, NEVER)


def test_what_does_not_travel_is_said(vm: SSHServer, here: Plain) -> None:
    root = folder_of(vm)
    (root / "node_modules" / "x").mkdir(parents=True)
    (root / "plain").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    (root / "up").symlink_to("../../../etc/passwd")
    (root / "sideways").symlink_to("plain/../../x")
    (Path(os.fsdecode(os.fsencode(root) + b"/latin\xe9"))).write_bytes(b"x")
    with remote(vm) as folder:
        found = folder.scan(("node_modules",), {}, NEVER)
    assert found.tree is not None
    assert set(found.tree) == {"plain"}
    assert set(found.unknown) == {"pipe", "up", "sideways"}
    assert found.unnamed == ("latin\\xe9",)


def test_only_what_differs_is_read_there(vm: SSHServer, here: Plain) -> None:
    with remote(vm) as folder:
        outcomes = change(folder, here, [push(here.write(name, name.encode())) for name in "abc"])
        there = {o.action.path: o.there for o in outcomes if o.there}
        os.utime(folder_of(vm) / "b", (5, 5))
        other = folder_of(vm) / "other"
        other.write_bytes(b"C")
        os.utime(other, ns=(there["c"].mtime_ns,) * 2)
        other.replace(folder_of(vm) / "c")  # as large and as old, and another file
        tree = scan(folder, there)
        assert [path for path, e in sorted(tree.items()) if e.digest] == ["a"]
        read = folder.digests(["b", "c", "gone"], NEVER)
        assert read["b"].digest == there["b"].digest
        assert read["c"].digest != there["c"].digest
        assert set(read) == {"b", "c"}


def test_a_running_cell_sees_no_half_written_file(vm: SSHServer, here: Plain) -> None:
    size = LARGE + 1000
    with remote(vm) as folder:
        (outcome,) = change(folder, here, [push(here.write("model", b"0" * size))])
        seen: set[tuple[int, bytes]] = set()
        stop = threading.Event()

        def cell() -> None:
            while not stop.is_set():
                data = (folder_of(vm) / "model").read_bytes()
                seen.add((len(data), bytes(set(data))))

        thread = threading.Thread(target=cell)
        thread.start()
        try:
            for i in b"123":
                entry = here.write("model", bytes([i]) * size, 1_700_000_000.0 + i)
                (outcome,) = change(folder, here, [push(entry, replaces=outcome.there)])
                assert outcome.done
        finally:
            stop.set()
            thread.join()
    assert seen <= {(size, bytes([i])) for i in b"0123"}
    assert len(seen) > 1


def test_a_large_file_goes_on_where_it_was_cut(vm: SSHServer, here: Plain, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(5 * LARGE)
    entry = here.write("large", data)
    sent: list[int] = []
    with FlakyTCP(vm.host, vm.port, rate=40e6) as way, remote(vm, port=way.port) as folder:
        folder.scan((), {}, NEVER)
        total = 0

        def moved(count: int) -> None:
            nonlocal total
            total += count
            if total > len(data) // 2 * (len(sent) + 1) and len(sent) < 1:
                sent.append(total)
                way.cut()

        outcomes: list[bool] = []
        folder.change([push(entry)], here, lambda o: outcomes.append(o.done), moved, NEVER)  # type: ignore[arg-type]
        assert outcomes == [True]
        assert sent
        assert (folder_of(vm) / "large").read_bytes() == data
        assert folder._channel is not None
        assert folder._channel.bytes_out < 0.9 * len(data), "the second connection took the rest only"

        there = replace(scan(folder)["large"])
        back = Plain(tmp_path / "back")
        sent.clear()
        total = 0
        outcomes.clear()
        folder.fetch([pull(there)], back, lambda o: outcomes.append(o.done), moved, NEVER)  # type: ignore[arg-type]
        assert outcomes == [True]
        assert sent
        assert (back.root / "large").read_bytes() == data
        assert folder._channel is not None
        assert folder._channel.bytes_in < 0.9 * len(data)


def test_a_staged_beginning_of_another_file_is_not_gone_on_with(vm: SSHServer, here: Plain) -> None:
    entry = here.write("large", os.urandom(2 * LARGE))
    cancel = threading.Event()
    with remote(vm) as folder:
        with pytest.raises(Cancelled):
            folder.change([push(entry)], here, lambda o: None, lambda n: cancel.set(), cancel)  # type: ignore[arg-type]
        deadline = time.monotonic() + 10
        while not list(folder_of(vm).glob(".dsvm-sync/*.part")) or vm.processes():
            assert time.monotonic() < deadline, "the beginning is kept"
            time.sleep(0.02)
        other = os.urandom(2 * LARGE)
        again = here.write("large", other)
        assert (again.size, again.mtime_ns) == (entry.size, entry.mtime_ns)
        assert all(o.done for o in change(folder, here, [push(again)]))
        assert (folder_of(vm) / "large").read_bytes() == other


def test_many_cuts(vm: SSHServer, here: Plain) -> None:
    entries = [here.write(f"f{i}", os.urandom(20_000)) for i in range(300)]
    with FlakyTCP(vm.host, vm.port, rate=8e6) as way, remote(vm, port=way.port) as folder:
        done: list[str] = []

        def tell(outcome: Outcome) -> None:
            done.append(outcome.action.path)
            assert outcome.done, outcome
            if len(done) in (20, 90, 200):
                way.cut()

        folder.change([push(e) for e in entries], here, tell, lambda n: None, NEVER)  # type: ignore[arg-type]
        assert sorted(done) == sorted(e.path for e in entries), "each once"
        assert way.cuts == 3
    for entry in entries:
        assert (folder_of(vm) / entry.path).read_bytes() == (here.root / entry.path).read_bytes()


def test_a_cancel_is_heard_soon_and_the_rest_can_follow(vm: SSHServer, here: Plain) -> None:
    entries = [here.write(f"f{i}", os.urandom(200_000)) for i in range(100)]
    cancel = threading.Event()
    done: list[str] = []
    with FlakyTCP(vm.host, vm.port, rate=2e6) as way, remote(vm, port=way.port) as folder:
        timer = threading.Timer(1.0, cancel.set)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(Cancelled):
            folder.change(
                [push(e) for e in entries], here, lambda o: done.append(o.action.path), lambda n: None, cancel
            )  # type: ignore[arg-type]
        assert time.monotonic() - begun < 3
        assert len(done) < 100
    with remote(vm) as folder:
        rest = [push(e) for e in entries if e.path not in done]
        assert all(o.done for o in change(folder, here, rest)), "one whose answer did not come is found to be there"


def test_the_newest_connection_has_the_folder(vm: SSHServer, here: Plain) -> None:
    entries = [here.write(f"f{i}", os.urandom(100_000)) for i in range(200)]
    with FlakyTCP(vm.host, vm.port, rate=4e6) as way, remote(vm, port=way.port) as first, remote(vm) as second:
        done: list[str] = []

        def tell(outcome: Outcome) -> None:
            done.append(outcome.action.path)
            if len(done) == 20:
                scan(second)

        with pytest.raises(SyncError, match="Another connection works on") as e:
            first.change([push(e) for e in entries], here, tell, lambda n: None, NEVER)  # type: ignore[arg-type]
        assert e.value.code == "Superseded"
        assert len(done) < 200
        scan(second)
        assert scan(first).keys() == scan(second).keys(), "who is idle gives way without a word"


def test_a_file_that_changes_while_it_is_sent_is_thrown_away(vm: SSHServer, here: Plain) -> None:
    entries = [here.write("grows", b"x" * 1_000_000), here.write("other", b"y")]
    with remote(vm) as folder:

        def moved(count: int) -> None:
            with (here.root / "grows").open("ab") as file:
                file.write(b"more")

        outcomes: list[object] = []
        folder.change([push(e) for e in entries], here, outcomes.append, moved, NEVER)  # type: ignore[arg-type]
        assert {o.action.path: o.done for o in outcomes} == {"grows": False, "other": True}
        assert set(scan(folder)) == {"other"}


def test_a_disk_that_is_full(here: Plain, tmp_path: Path) -> None:
    with sshd(tmp_path / "vm") as vm:
        (vm.home / "notebooks").mkdir()
        with small_disk(vm.home / "notebooks", 2000), remote(vm) as folder:
            files = [here.write(f"f{i}", os.urandom(300_000)) for i in range(10)]
            large = here.write("large", os.urandom(LARGE))
            outcomes = change(folder, here, [push(large), *map(push, files), push(here.write("small", b"x"))])
            done = {o.action.path for o in outcomes if o.done}
            assert "large" not in done
            assert 3 <= len(done) < 11
            assert {o.problem.split(": ")[1] for o in outcomes if not o.done} == {"the disk is full."}
            assert set(scan(folder)) == done
            for path in done:
                assert (folder_of(vm) / path).read_bytes() == (here.root / path).read_bytes()
            folder.close()
            assert not vm.wait_until_idle()
            assert not (folder_of(vm) / ".dsvm-sync").exists()


@pytest.mark.parametrize("name", ["", "..", ".ssh", "a/b", "x" * 200, "a\nb", "\ud800"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(SyncError, match="cannot be called"):
        RemoteFolder(lambda: pytest.fail("no connection"), name, "vm")
