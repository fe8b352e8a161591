"""This side's workspace on a real disk, with everything that a hostile VM, a careless user or a full disk can do to it."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from jupyter_dsvm.errors import ChangedMeanwhile, DiskFull, SecretRefused, SyncError, UnsafePath
from jupyter_dsvm.sync import descent, scanning
from jupyter_dsvm.sync.base import row_of
from jupyter_dsvm.sync.entries import STAGING, TRASH, UNSETTLED, Entry, Kind, Side
from jupyter_dsvm.sync.ignore import Rules
from jupyter_dsvm.sync.local import LocalFolder
from jupyter_dsvm.sync.names import Names
from jupyter_dsvm.sync.plan import Action, Do, Why

OLD = 1_600_000_000 * 10**9
TODAY = date(2026, 11, 28)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    return folder


@pytest.fixture
def local(root: Path) -> LocalFolder:
    return LocalFolder(root, today=lambda: TODAY)


def write(root: Path, path: str, text: str | bytes = "x", at: int = OLD) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(target, ns=(at, at))
    return target


def tree(local: LocalFolder, base=None):
    scan = local.scan(base or {}, local.rules())
    assert scan.tree is not None
    return scan.tree


def incoming(path: str, data: bytes = b"new", **more) -> Entry:
    return Entry(path, Kind.FILE, len(data), OLD, hashlib.sha256(data).hexdigest(), **more)


def copy(path: str, data: bytes = b"new", **more) -> Action:
    return Action(Do.COPY, Side.HERE, path, Why.NEW, entry=incoming(path, data), **more)


def receive(local: LocalFolder, action: Action, data: bytes = b"new") -> Entry:
    assert action.entry is not None
    with local.stage(replace(action.entry, path=action.path)) as staged:
        staged.write(data)
        return staged.place(action)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


# Scanning.


def test_a_scan_says_what_is_there_and_reads_nothing(root: Path, local: LocalFolder):
    write(root, "d/a.csv", "12345")
    (root / "empty").mkdir()
    write(root, "run.sh").chmod(0o755)
    (root / "link").symlink_to("d/a.csv")
    found = tree(local)
    assert {p: e.kind for p, e in found.items()} == {
        "d": Kind.FOLDER,
        "d/a.csv": Kind.FILE,
        "empty": Kind.FOLDER,
        "link": Kind.LINK,
        "run.sh": Kind.FILE,
    }
    a = found["d/a.csv"]
    told = (root / "d/a.csv").stat()
    assert (a.size, a.mtime_ns, a.digest, a.executable) == (5, OLD, "", False)
    assert a.mark == f"{told.st_ino}:{told.st_ctime_ns}"
    assert found["run.sh"].executable
    assert found["link"].digest == "d/a.csv"


def test_a_digest_is_taken_from_the_base_while_the_stamp_is_unchanged(root: Path, local: LocalFolder):
    write(root, "a", "one")
    (entry,) = local.digests(["a"]).values()
    assert entry.digest == hashlib.sha256(b"one").hexdigest()
    base = {"a": row_of(entry, entry)}
    assert tree(local, base)["a"].digest == entry.digest
    write(root, "b", "two")  # of the same size and time
    os.replace(root / "b", root / "a")
    assert tree(local, base)["a"].digest == ""
    write(root, "a", "six")  # in place, and its time set back
    assert tree(local, base)["a"].digest == ""


def test_what_was_written_just_now_is_not_trusted(root: Path, local: LocalFolder):
    write(root, "a", at=time.time_ns())
    entry = local.digests(["a"])["a"]
    assert entry.mark == UNSETTLED
    assert tree(local, {"a": row_of(entry, entry)})["a"].digest == ""


def test_the_zoo_is_listed_and_left_alone(root: Path, local: LocalFolder, outside: Path):
    write(root, "good")
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("../outside/precious")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "inner").symlink_to(".")
    (root / "sideways").symlink_to("inner/../../outside")
    (root / "by").symlink_to("out/precious")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / "socket"))
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).write_text("latin")
    (root / ("n" * 255)).write_text("long")
    (root / "line\nbreak").write_text("odd")
    scan = local.scan({}, local.rules())
    assert scan.tree is not None
    assert set(scan.tree) == {"good", "inner", "n" * 255, "line\nbreak"}
    assert set(scan.unknown) == {"fifo", "out", "up", "absolute", "socket", "sideways", "by"}
    assert "out of the workspace" in scan.unknown["by"]
    assert scan.unnamed == ("caf\\xe9",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_devices_are_skipped(root: Path, local: LocalFolder):
    try:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices in this container")
    assert "null" in local.scan({}, local.rules()).unknown
    with pytest.raises(ChangedMeanwhile):
        local.open(Entry("null", Kind.FILE))


def test_what_cannot_be_read_is_unknown_and_not_deleted():
    """In a process without root's rights, and so in a folder that any user can reach."""
    code = """
import os, sys
from pathlib import Path
from jupyter_dsvm.sync.local import LocalFolder
from jupyter_dsvm.sync.entries import Entry, Kind
local = LocalFolder(Path(sys.argv[1]))
local.rules()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
scan = local.scan({}, local.rules())
try:
    local.open(Entry("b", Kind.FILE))
except Exception as e:
    print(sorted(scan.tree), sorted(scan.unknown), type(e).__name__, e)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        write(root, "closed/a")
        write(root, "b").chmod(0)
        os.chmod(root / "closed", 0)
        try:
            shown = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, timeout=60)
        finally:
            os.chmod(root / "closed", 0o755)
    assert "['b'] ['closed'] SyncError Could not read “b”: Permission denied" in shown.stdout, shown


def test_a_folder_that_is_not_there(root: Path, local: LocalFolder):
    root.rmdir()
    assert local.scan({}, local.rules()).tree is None


def test_too_many_files(root: Path):
    for i in range(12):
        write(root, f"f{i}")
    with pytest.raises(SyncError, match=r"more than 10 files.*\.dsvmignore"):
        LocalFolder(root, limit=10).scan({}, Rules())


def test_a_name_that_moves_during_the_scan_is_not_taken_for_deleted(root: Path, local: LocalFolder, monkeypatch):
    """It goes from a folder that is looked at later to one that was looked at already."""
    for folder in ("a", "b", "z"):
        (root / folder).mkdir()
    write(root, "z/moves", "v")
    entry = local.digests(["z/moves"])["z/moves"]
    base = {"z/moves": row_of(entry, entry)}
    enter = scanning.Look._enter
    places = [root / "z/moves", root / "a/moves"]

    def entering(self, path, fd, depth):
        if path == "b" and places[0].exists():
            places[0].rename(places[1])
        if path == "b" and always:
            places.reverse()
            write(root, f"a/{time.time_ns()}")
        enter(self, path, fd, depth)

    monkeypatch.setattr(scanning.Look, "_enter", entering)
    always = False
    assert "a/moves" in tree(local, base)
    always = True
    (root / "a/moves").rename(root / "z/moves")
    places = [root / "z/moves", root / "a/moves"]
    scan = local.scan(base, Rules())
    assert scan.tree is not None
    assert "z/moves" in scan.tree or "changed while it was looked at" in scan.unknown["z/moves"]


def test_rules_come_from_this_sides_files_and_an_environment_is_none_of_it(root: Path, local: LocalFolder):
    for path in [
        "a.log",
        "keep.log",
        "d/a.log",
        "d/b.tmp",
        ".env",
        ".dsvmignore",
        "env/pyvenv.cfg",
        "env/lib/x.py",
        "x.pyc",
    ]:
        write(root, path)
    (root / ".dsvmignore").write_text("*.log\n!keep.log\n!.env\n")
    write(root, "d/.dsvmignore", "!a.log\n*.tmp\n")
    assert set(tree(local)) == {"keep.log", "d", "d/a.log", ".env"}


# Sending.


def test_reading_a_file(root: Path, local: LocalFolder):
    data = os.urandom(700_000)
    write(root, "d/big", data)
    with local.open(Entry("d/big", Kind.FILE)) as reading:
        assert b"".join(reading.chunks()) == data
        assert reading.entry == replace(tree(local)["d/big"], digest=hashlib.sha256(data).hexdigest())
    for offset in (1, 262_143, 262_144, 600_000, 700_000):
        with local.open(Entry("d/big", Kind.FILE)) as reading:
            assert b"".join(reading.chunks(offset=offset)) == data[offset:]
            assert reading.entry.digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("how", ["grows", "shrinks", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_not_sent(root: Path, local: LocalFolder, how: str):
    path = write(root, "a", b"x" * 600_000)
    with local.open(Entry("a", Kind.FILE)) as reading:
        chunks = reading.chunks()
        next(chunks)
        path.write_bytes({"grows": b"x" * 700_000, "shrinks": b"x", "rewritten": b"y" * 600_000}[how])
        with pytest.raises(ChangedMeanwhile):
            list(chunks)


def test_links_fifos_and_folders_are_not_read(root: Path, local: LocalFolder, outside: Path):
    (root / "out").symlink_to(outside)
    (root / "file").symlink_to(outside / "precious")
    os.mkfifo(root / "fifo")
    for path in ("out/precious", "file"):
        with pytest.raises(UnsafePath):
            local.open(Entry(path, Kind.FILE))
    for path in ("fifo", "gone"):
        with pytest.raises(ChangedMeanwhile):
            local.open(Entry(path, Kind.FILE))
    for path in ("../outside/precious", "/etc/passwd", "", "a//b", "."):
        with pytest.raises(UnsafePath):
            local.open(Entry(path, Kind.FILE))


KEYS = [
    b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl",
    b"-----BEGIN RSA PRIVATE KEY-----\r\nMII",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
    b"Bag Attributes\n    friendlyName: x\n-----BEGIN EC PRIVATE KEY-----\n",
    b'{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\nMII"}',
    b"PuTTY-User-Key-File-3: ssh-ed25519\n",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_planted_key_never_leaves(root: Path, local: LocalFolder, key: bytes):
    write(root, "harmless.txt", key)
    with pytest.raises(SecretRefused, match=r"harmless\.txt"):
        local.open(tree(local)["harmless.txt"])


def test_what_speaks_about_keys_travels(root: Path, local: LocalFolder):
    write(root, "notes.md", 'Look for "-----BEGIN RSA PRIVATE KEY-----" in it.\n-----BEGIN CERTIFICATE-----\n')
    with local.open(tree(local)["notes.md"]) as reading:
        assert sum(map(len, reading.chunks())) == reading.size


# Receiving.


def test_a_new_file(root: Path, local: LocalFolder):
    entry = receive(local, copy("a.csv"))
    assert (root / "a.csv").read_bytes() == b"new"
    assert entry == replace(tree(local)["a.csv"], digest=hashlib.sha256(b"new").hexdigest())
    assert entry.mtime_ns == OLD
    assert stat.S_IMODE((root / "a.csv").stat().st_mode) == 0o666 & ~current_umask()
    assert list((root / STAGING).iterdir()) == []
    assert stat.S_IMODE((root / STAGING).stat().st_mode) == 0o700


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_executable_bit_travels_and_a_private_file_stays_private(root: Path, local: LocalFolder):
    action = copy("run")
    receive(local, replace(action, entry=replace(action.entry, executable=True)))
    assert (root / "run").stat().st_mode & 0o111 == 0o111 & ~current_umask()
    write(root, "mine", "old").chmod(0o4600)
    receive(local, copy("mine", replaces=tree(local)["mine"]))
    assert stat.S_IMODE((root / "mine").stat().st_mode) == 0o600


def test_what_is_replaced_goes_to_the_trash_or_is_kept_beside(root: Path, local: LocalFolder):
    write(root, "d/a", "old")
    receive(local, copy("d/a", replaces=tree(local)["d/a"], trash=True))
    assert (root / TRASH / "2026-11-28/d/a").read_text() == "old"
    receive(local, copy("d/a", b"newer", replaces=tree(local)["d/a"], trash=True), b"newer")
    assert (root / TRASH / "2026-11-28/d/a 2").read_text() == "new"
    receive(local, copy("d/a", b"last", replaces=tree(local)["d/a"], keep_as="d/a (gpu)"), b"last")
    assert ((root / "d/a").read_text(), (root / "d/a (gpu)").read_text()) == ("last", "newer")
    assert list((root / STAGING).iterdir()) == []


@pytest.mark.parametrize("system", ["usual", "no hard links", "no exchange", "neither"])
def test_every_way_to_replace(root: Path, local: LocalFolder, monkeypatch, system: str):
    if system in ("no hard links", "neither"):
        monkeypatch.setattr(descent, "give_second_name", lambda *a: False)
    if system in ("no exchange", "neither"):
        monkeypatch.setattr(descent, "exchange", lambda *a: False)
    receive(local, copy("a", b"1"), b"1")
    with pytest.raises(ChangedMeanwhile):
        receive(local, copy("a", b"2"), b"2")
    receive(local, copy("a", b"3", replaces=tree(local)["a"], trash=True), b"3")
    receive(local, copy("a", b"4", replaces=tree(local)["a"], keep_as="b"), b"4")
    with pytest.raises(ChangedMeanwhile):
        receive(local, copy("a", b"5", replaces=tree(local)["a"], keep_as="b"), b"5")
    assert everything(root) == {"a": b"4", "b": b"3", f"{TRASH}/2026-11-28/a": b"1"}


def test_what_changed_since_the_plan_is_not_replaced(root: Path, local: LocalFolder):
    write(root, "a", "old")
    action = copy("a", replaces=tree(local)["a"], trash=True)
    write(root, "a", "mine")
    with pytest.raises(ChangedMeanwhile, match="changed on this server"):
        receive(local, action)
    (root / "a").unlink()
    with pytest.raises(ChangedMeanwhile):
        receive(local, action)
    (root / "a").mkdir()
    with pytest.raises(ChangedMeanwhile):
        receive(local, action)
    (root / "a").rmdir()
    write(root, "new", "mine")
    with pytest.raises(ChangedMeanwhile):
        receive(local, copy("new"))
    assert everything(root) == {"new": b"mine"}


def test_a_file_saved_in_the_last_moment_is_put_back(root: Path, local: LocalFolder, monkeypatch):
    """Between the check and the rename an editor renames its own version into place."""
    write(root, "a", "old")
    action = copy("a", replaces=tree(local)["a"])
    exchange = descent.exchange

    def late(*args):
        if not (root / "saved").exists():
            write(root, "saved.tmp", "edited")
            os.replace(root / "saved.tmp", root / "a")
            (root / "saved").touch()
        return exchange(*args)

    monkeypatch.setattr(descent, "exchange", late)
    with pytest.raises(ChangedMeanwhile):
        receive(local, action)
    assert (root / "a").read_text() == "edited"
    assert list((root / STAGING).iterdir()) == []


@pytest.mark.parametrize("data", [b"ne", b"NEW", b"newer"])
def test_what_arrives_wrong_is_thrown_away(root: Path, local: LocalFolder, data: bytes):
    with pytest.raises(SyncError):
        receive(local, copy("a"), data)
    assert everything(root) == {}


def test_a_cut_transfer_goes_on_where_it_was(root: Path, local: LocalFolder):
    data = os.urandom(3_000_000)
    action = copy("big", data)
    assert action.entry is not None
    with local.stage(action.entry) as staged:
        staged.write(data[:2_000_000])
        staged.keep()
    with local.stage(replace(action.entry, mtime_ns=OLD + 1)) as other:
        assert other.offset == 0  # another version of it
    with local.stage(action.entry) as staged:
        assert staged.offset == 2_000_000
        with local.stage(action.entry) as second:
            assert second.offset == 0  # two at once do not write into one file
        staged.write(data[staged.offset :])
        staged.place(action)
    assert everything(root) == {"big": data}


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "..", "", "a//x", "./x", "x\0y", "caf\udce9"])
def test_paths_that_lead_out_are_refused(root: Path, local: LocalFolder, outside: Path, path: str):
    before = everything(root.parent)
    entry = Entry("a", Kind.FILE, 3, OLD)
    with pytest.raises(UnsafePath):
        local.stage(Entry(path, Kind.FILE, 3, OLD))
    with local.stage(entry) as staged:
        staged.write(b"new")
        with pytest.raises(UnsafePath):
            staged.place(Action(Do.COPY, Side.HERE, path, Why.NEW, entry=entry))
    for do in (Do.FOLDER, Do.DELETE, Do.REMOVE_FOLDER, Do.MOVE):
        outcome = local.carry_out(Action(do, Side.HERE, path, Why.NEW, entry=entry, keep_as="b"))
        assert not outcome.done
        assert "not in the workspace" in outcome.problem
    write(root, "a", "mine")
    for keep_as in (path, f"d/{path}"):
        assert not local.carry_out(
            Action(Do.MOVE, Side.HERE, "a", Why.TYPE, entry=tree(local)["a"], keep_as=keep_as)
        ).done
    assert everything(root.parent) == {**before, "work/a": b"mine"}


@pytest.mark.parametrize("path", ["sitecustomize.py", "d/x.pth", ".git", ".bashrc", ".dsvmignore"])
def test_what_would_run_is_not_written_whatever_a_plan_says(root: Path, local: LocalFolder, path: str):
    (root / "d").mkdir()
    with pytest.raises(UnsafePath, match="is not written here"):
        receive(local, copy(path))
    assert not local.carry_out(Action(Do.FOLDER, Side.HERE, path, Why.NEW)).done
    link = Entry(path, Kind.LINK, digest="d")
    with pytest.raises(UnsafePath):
        local.link(Action(Do.COPY, Side.HERE, path, Why.NEW, entry=link))
    assert everything(root) == {}
    assert list((root / STAGING).iterdir()) == []


def test_what_names_this_disk_can_have(local: LocalFolder):
    assert local.names() == Names()


def test_nothing_is_written_through_a_link(root: Path, local: LocalFolder, outside: Path):
    (root / "d").symlink_to(outside)
    write(root, "file")
    (root / "precious").symlink_to(outside / "precious")
    before = everything(root.parent)
    for path in ("d/precious", "d/new", "file/x"):
        with pytest.raises(UnsafePath):
            receive(local, copy(path))
    with pytest.raises(ChangedMeanwhile):
        receive(local, copy("precious"))
    with pytest.raises(ChangedMeanwhile):
        receive(local, copy("precious", replaces=incoming("precious", b"mine")))
    entry = incoming("d/precious", b"mine")
    for do in (Do.FOLDER, Do.DELETE, Do.REMOVE_FOLDER, Do.MOVE):
        assert not local.carry_out(Action(do, Side.HERE, "d/precious", Why.NEW, entry=entry, keep_as="d/x")).done
    assert not local.carry_out(Action(Do.REMOVE_FOLDER, Side.HERE, "d", Why.NEW)).done
    assert not local.carry_out(Action(Do.FOLDER, Side.HERE, "d", Why.NEW)).done
    assert {p: d for p, d in everything(root.parent).items() if STAGING not in p} == before
    assert (root / "d").is_symlink()


@pytest.mark.parametrize("name", [STAGING, TRASH])
def test_a_link_in_the_place_of_our_own_folders(root: Path, local: LocalFolder, outside: Path, name: str):
    write(root, "a", "old")
    replaces = tree(local)["a"]
    (root / name).symlink_to(outside)
    with pytest.raises(UnsafePath):
        receive(local, copy("a", replaces=replaces, trash=True))
    if name == TRASH:
        assert not local.carry_out(Action(Do.DELETE, Side.HERE, "a", Why.DELETED, entry=replaces)).done
    with pytest.raises(SyncError):
        local.purge()
    assert (root / "a").read_text() == "old"
    assert everything(outside) == {"precious": b"mine"}


def test_a_link_swapped_in_while_files_arrive(root: Path, local: LocalFolder, outside: Path):
    """Somebody swaps a folder for a link out of the workspace and back, as fast as possible, while files are written into it."""
    (root / "d").mkdir()
    (root / "aside").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        fd = os.open(root, os.O_RDONLY)
        try:
            while not stop.is_set():
                descent.exchange("d", fd, "aside", fd)
        finally:
            os.close(fd)

    thread = threading.Thread(target=swap)
    thread.start()
    placed = refused = 0
    try:
        until = time.monotonic() + 20
        while (placed < 100 or refused < 100) and time.monotonic() < until:
            try:
                receive(local, copy(f"d/f{placed}"))
                placed += 1
            except SyncError:
                refused += 1
            local.carry_out(
                Action(Do.DELETE, Side.HERE, "d/precious", Why.DELETED, entry=incoming("d/precious", b"mine"))
            )
    finally:
        stop.set()
        thread.join()
    assert everything(outside) == {"precious": b"mine"}
    assert placed > 10
    assert refused > 10


def test_a_workspace_that_was_exchanged_is_refused(root: Path, local: LocalFolder):
    write(root, "a")
    tree(local)
    root.rename(root.parent / "old")
    root.mkdir()
    with pytest.raises(ChangedMeanwhile, match="another one"):
        receive(local, copy("b"))
    assert everything(root) == {}
    tree(local)  # the next sync begins with what is there then
    receive(local, copy("b"))
    assert everything(root) == {"b": b"new"}


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "d/../../outside", "", "inner/../../outside", "C:\\x", "..\\x"]
)
def test_links_out_are_not_made(root: Path, local: LocalFolder, outside: Path, target: str):
    (root / "d").mkdir()
    (root / "inner").symlink_to(".")
    entry = Entry("l", Kind.LINK, digest=target)
    with pytest.raises(UnsafePath):
        local.link(Action(Do.COPY, Side.HERE, "l", Why.NEW, entry=entry))
    assert not os.path.lexists(root / "l")


def test_links_inside_are_made_and_replaced(root: Path, local: LocalFolder):
    write(root, "d/a")
    for target in ("d/a", "d"):
        entry = Entry("l", Kind.LINK, digest=target)
        before = tree(local).get("l")
        assert local.link(Action(Do.COPY, Side.HERE, "l", Why.NEW, entry=entry, replaces=before, trash=True)) == entry
        assert os.readlink(root / "l") == target
    assert os.readlink(root / TRASH / "2026-11-28/l") == "d/a"
    assert list((root / STAGING).iterdir()) == []


# Deleting.


def test_deleted_files_go_to_the_trash(root: Path, local: LocalFolder):
    write(root, "d/a", "1")
    entry = tree(local)["d/a"]
    action = Action(Do.DELETE, Side.HERE, "d/a", Why.DELETED, entry=entry)
    assert local.carry_out(action).done
    write(root, "d/a", "mine")
    outcome = local.carry_out(action)
    assert not outcome.done
    assert "changed on this server" in outcome.problem
    assert everything(root) == {"d/a": b"mine", f"{TRASH}/2026-11-28/d/a": b"1"}
    (root / "link").symlink_to("d")
    assert local.carry_out(Action(Do.DELETE, Side.HERE, "link", Why.DELETED, entry=tree(local)["link"])).done
    assert os.readlink(root / TRASH / "2026-11-28/link") == "d"


def test_a_folder_of_the_trash_whose_name_a_file_has(root: Path, local: LocalFolder):
    write(root, "d", "file")
    assert local.carry_out(Action(Do.DELETE, Side.HERE, "d", Why.DELETED, entry=tree(local)["d"])).done
    write(root, "d/a", "inside")
    assert local.carry_out(Action(Do.DELETE, Side.HERE, "d/a", Why.DELETED, entry=tree(local)["d/a"])).done
    assert everything(root) == {f"{TRASH}/2026-11-28/d": b"file", f"{TRASH}/2026-11-28/d 2/a": b"inside"}


def test_only_empty_folders_are_removed(root: Path, local: LocalFolder):
    (root / "empty").mkdir()
    write(root, "cached/__pycache__/x.pyc")
    write(root, "full/.env")
    outcomes = [
        local.carry_out(Action(Do.REMOVE_FOLDER, Side.HERE, p, Why.DELETED))
        for p in ("empty", "cached", "full", "gone")
    ]
    assert [(o.done, o.here) for o in outcomes] == [
        (True, None),
        (True, None),
        (True, Entry("full", Kind.FOLDER)),
        (True, None),
    ]
    assert everything(root) == {"full/.env": b"x", f"{TRASH}/2026-11-28/cached/__pycache__/x.pyc": b"x"}


def test_folders_are_made_and_files_moved_aside(root: Path, local: LocalFolder):
    write(root, "a", "1")
    moved = local.carry_out(
        Action(Do.MOVE, Side.HERE, "a", Why.TYPE, entry=tree(local)["a"], keep_as="a (this server)")
    )
    made = local.carry_out(Action(Do.FOLDER, Side.HERE, "a", Why.TYPE))
    assert moved.done
    assert (made.done, made.here, made.there) == (True, Entry("a", Kind.FOLDER), Entry("a", Kind.FOLDER))
    assert local.carry_out(Action(Do.FOLDER, Side.HERE, "a", Why.NEW)).done
    assert not local.carry_out(Action(Do.FOLDER, Side.HERE, "a (this server)", Why.NEW)).done
    assert not local.carry_out(Action(Do.FOLDER, Side.HERE, "no/parent", Why.NEW)).done


def test_the_trash_is_emptied_after_a_week_and_when_it_is_too_large(root: Path, local: LocalFolder, outside: Path):
    for day in ("2026-11-20", "2026-11-21", "2026-11-27", "2026-11-28"):
        write(root, f"{TRASH}/{day}/d/a", "12345")
    (root / TRASH / "2026-11-20/out").symlink_to(outside)
    local.flush()
    assert sorted(p.name for p in (root / TRASH).iterdir()) == ["2026-11-21", "2026-11-27", "2026-11-28"]
    assert local.purge(max_bytes=7) == 10
    assert sorted(p.name for p in (root / TRASH).iterdir()) == ["2026-11-28"]
    assert everything(outside) == {"precious": b"mine"}


def test_parts_that_nobody_asks_for_any_more_are_deleted(root: Path, local: LocalFolder, monkeypatch):
    with local.stage(incoming("a", b"12345")) as staged:
        staged.write(b"123")
        staged.keep()
    assert local.purge() == 0
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    assert local.purge() == 3
    assert everything(root) == {}


# A full disk.


def test_a_disk_without_room_is_told_beforehand(root: Path, local: LocalFolder):
    with pytest.raises(DiskFull, match="this server's disk has"):
        local.stage(Entry("a", Kind.FILE, 2**60, OLD))
    assert everything(root) == {}


def test_a_disk_that_fills_up_replaces_nothing(root: Path, local: LocalFolder):
    """By the limit on a file's size, which fails a write in its middle as a quota does."""
    write(root, "a", "old")
    action = copy("a", b"x" * 100_000, replaces=tree(local)["a"], trash=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DiskFull, match=r"Could not write “a”.*nothing was replaced"):
            receive(local, action, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert everything(root) == {"a": b"old"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_real_disk_that_fills_up(root: Path):
    """Other files take the room while one arrives."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs: {mounted.stderr}")
    try:
        local = LocalFolder(root)
        write(root, "a", "old")
        action = copy("a", b"x" * 700_000, replaces=tree(local)["a"], keep_as="b")
        assert action.entry is not None
        with local.stage(action.entry) as staged:
            write(root, "hog", b"y" * 600_000)
            with pytest.raises(DiskFull, match="No space left"):
                staged.write(b"x" * 700_000)
        assert everything(root) == {"a": b"old", "hog": b"y" * 600_000}
        (root / "hog").unlink()
        receive(local, action, b"x" * 700_000)
        local.flush()
        assert set(everything(root)) == {"a", "b"}
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_no_descriptor_is_left_open(root: Path, local: LocalFolder):
    write(root, "d/a", "old")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        tree(local)
        local.digests(["d/a", "gone"])
        receive(local, copy("d/a", replaces=tree(local)["d/a"], trash=True))
        for path in ("d/a", "no/x", "../x"):
            with pytest.raises(SyncError):
                receive(local, copy(path))
        local.carry_out(Action(Do.DELETE, Side.HERE, "gone", Why.DELETED, entry=incoming("gone")))
        local.purge()
    assert len(os.listdir("/proc/self/fd")) == before
