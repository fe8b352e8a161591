"""What a stop loses: which disk is the temporary one, what lies there, the sentence, and an emulated VM that loses it."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import Unreachable
from jupyter_dsvm.models import OperationState, StopLoss
from jupyter_dsvm.relay import temporary
from jupyter_dsvm.relay.temporary import Mount, agents_place, mounts, temporary_disks
from jupyter_dsvm.temporarydisk import NOTHING, Lost, ask, parse, sentence
from support.emulated import PATIENCE, attached, configured, emulator, service
from support.kernels import Notebook
from support.relay_end import machine, pipe
from support.relay_vm import home

__all__ = ["configured", "emulator", "home"]

MOUNTINFO = """\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
25 24 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw
36 24 8:17 / /mnt rw,relatime shared:3 - ext4 /dev/sdb1 rw
37 24 8:33 / /media/my\\040data rw - ext4 /dev/sdc1 rw
nonsense
"""


# Which disk it is


def test_mounts() -> None:
    assert mounts(MOUNTINFO) == [
        Mount((8, 1), "/"), Mount((0, 5), "/dev"), Mount((8, 17), "/mnt"), Mount((8, 33), "/media/my data"),
    ]  # fmt: skip
    assert mounts("") == []


@given(st.text(max_size=300))
def test_text_that_is_none_of_it(text: str) -> None:
    mounts(text)
    agents_place(text)


@pytest.mark.parametrize(
    ("conf", "place"),
    [
        ("ResourceDisk.Format=y\nResourceDisk.MountPoint=/mnt/resource\n", "/mnt/resource"),
        ("  ResourceDisk.MountPoint = /scratch/\n", "/scratch"),
        ("# ResourceDisk.MountPoint=/mnt/resource\n", None),
        ("ResourceDisk.MountPoint=\nA=b", None),
        ("", None),
    ],
)
def test_where_the_agent_puts_it(conf: str, place: str | None) -> None:
    assert agents_place(conf) == place


class Disks:
    """A machine whose mounts, configuration and devices are what a test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.mounted: list[str] = ["24 1 8:1 / / rw - ext4 /dev/root rw"]
        self.devices: set[tuple[int, int]] = set()
        monkeypatch.delenv(temporary.PLACE, raising=False)
        monkeypatch.setattr(temporary, "MOUNTS", str(folder / "mountinfo"))
        monkeypatch.setattr(temporary, "AGENT", str(folder / "waagent.conf"))
        monkeypatch.setattr(temporary, "USUAL", (str(folder / "mnt"), str(folder / "mnt" / "resource")))
        monkeypatch.setattr(temporary, "_named_devices", lambda: self.devices)

    def mount(self, name: str, device: str = "8:17", warned: bool = False) -> str:
        point = self.folder / name
        point.mkdir(parents=True, exist_ok=True)
        if warned:
            (point / temporary.WARNING).write_text("lost")
        self.mounted.append(f"36 24 {device} / {point} rw - ext4 /dev/x rw")
        (self.folder / "mountinfo").write_text("\n".join(self.mounted))
        return str(point)


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(tmp_path, monkeypatch)


def test_a_machine_without_one(disks: Disks) -> None:
    assert temporary_disks() == []
    (disks.folder / "mnt").mkdir()
    (disks.folder / "mnt" / temporary.WARNING).write_text("a folder of the system disk, not a mount")
    disks.mount("somewhere", warned=True)  # a copy of the file in an unusual place says nothing
    assert temporary_disks() == []


def test_a_disk_of_somebodys_own_at_the_usual_place_is_none(disks: Disks) -> None:
    disks.mount("mnt", "8:33")
    assert temporary_disks() == []
    disks.devices = {(8, 17)}
    assert temporary_disks() == []


def test_it_is_known_by_its_warning(disks: Disks) -> None:
    place = disks.mount("mnt", warned=True)
    assert temporary_disks() == [place]


def test_it_is_known_by_azures_name_for_it_wherever_it_is(disks: Disks) -> None:
    place = disks.mount("scratch", "259:4")
    disks.devices = {(259, 4)}
    assert temporary_disks() == [place]


def test_it_is_where_the_agents_configuration_says(disks: Disks) -> None:
    place = disks.mount("scratch", warned=True)
    assert temporary_disks() == []
    (disks.folder / "waagent.conf").write_text(f"ResourceDisk.MountPoint={place}\n")
    assert temporary_disks() == [place]


def test_it_is_where_the_account_says(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    disks.mount("mnt", warned=True)
    for value, found in ((str(disks.folder), [str(disks.folder)]), ("", []), ("relative", []), ("/not/there", [])):
        monkeypatch.setenv(temporary.PLACE, value)
        assert temporary_disks() == found


# What lies there


def found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(temporary.PLACE, str(folder))
    return temporary.look()


def test_files_of_the_account_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    (disk / "deep" / "er").mkdir(parents=True)
    (tmp_path / "outside").write_text("not there")
    for age, name in enumerate(["deep/er/new", "b", "a"]):
        (disk / name).write_bytes(b"x" * 1000)
        os.utime(disk / name, (1_000_000 - age, 1_000_000 - age))
    (disk / temporary.WARNING).write_text("x")
    (disk / "link").symlink_to(tmp_path / "outside")
    (disk / "folder").symlink_to(tmp_path)
    os.mkfifo(disk / "fifo")
    assert found(disk, monkeypatch) == {
        "disks": [str(disk)],
        "files": [str(disk / name) for name in ("deep/er/new", "b", "a")],
        "more": 0,
        "bytes": 3000,
        "complete": True,
    }
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert found(disk, monkeypatch)["files"] == []


def test_many_files_are_counted_and_the_newest_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        (tmp_path / f"{n}").write_bytes(b"1")
        os.utime(tmp_path / f"{n}", (n, n))
    (tmp_path / "odd \udcff\n\u200b name").write_text("1")
    os.utime(tmp_path / "odd \udcff\n\u200b name", (99, 99))
    said = json.loads(json.dumps(found(tmp_path, monkeypatch)))
    assert len(said["files"]) == temporary.MOST
    assert said["files"][0].endswith("odd \\xff\n\u200b name")
    assert said["files"][1:3] == [str(tmp_path / "49"), str(tmp_path / "48")]
    assert (said["more"], said["bytes"], said["complete"]) == (31, 51, True)


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d"] * (temporary.DEEPEST + 2))
    deep.mkdir(parents=True)
    (deep / "file").write_text("1")
    assert found(tmp_path, monkeypatch)["complete"] is False
    for n in range(30):
        (tmp_path / str(n)).write_text("1")
    monkeypatch.setattr(temporary, "MOST_ENTRIES", 10)
    said = found(tmp_path, monkeypatch)
    assert said["complete"] is False
    assert len(said["files"]) + said["more"] <= 10
    monkeypatch.setattr(temporary, "SECONDS", -1.0)
    assert found(tmp_path, monkeypatch)["files"] == []


def test_a_pipe_tells_it(home: Path) -> None:
    scratch = home / "scratch"
    scratch.mkdir()
    (scratch / "model.pt").write_bytes(b"1" * 500)
    with machine(home, before=f"import os; os.environ[{temporary.PLACE!r}] = {str(scratch)!r}") as vm, pipe(vm) as way:
        answer = way.ask("temporary")["result"]
        assert (answer["files"], answer["more"], answer["bytes"]) == ([str(scratch / "model.pt")], 0, 500)
        assert parse(answer) == Lost((str(scratch / "model.pt"),), 0, 500)


# What is said of it


@pytest.mark.parametrize(
    ("lost", "now", "past"),
    [
        (NOTHING, "", ""),
        (
            Lost(("/mnt/x",), 0, 10),
            "1 file on the temporary disk is lost: /mnt/x (10 bytes).",
            "1 file on the temporary disk was lost: /mnt/x (10 bytes).",
        ),
        (
            Lost(("/mnt/x", "/mnt/y", "/mnt/z", "/mnt/1"), 0, 1_200_000_000),
            "4 files on the temporary disk are lost: /mnt/x, /mnt/y, /mnt/z and one more (1.2 GB).",
            "4 files on the temporary disk were lost: /mnt/x, /mnt/y, /mnt/z and one more (1.2 GB).",
        ),
        (
            Lost(("/mnt/x",), 4999, 0, False),
            "At least 5,000 files on the temporary disk are lost: /mnt/x and 4999 more.",
            "At least 5,000 files on the temporary disk were lost: /mnt/x and 4999 more.",
        ),
    ],
)
def test_the_sentence(lost: Lost, now: str, past: str) -> None:
    assert sentence(lost) == now
    assert sentence(lost, past=True) == past


def test_the_list() -> None:
    assert NOTHING.listed == ()
    assert Lost(("/mnt/x",), 0, 1).listed == ("/mnt/x",)
    assert Lost(("/mnt/x",), 7, 1).listed == ("/mnt/x", "and 7 more")
    assert Lost((), 7, 1, False).listed == ("at least 7 files",)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["files", "more", "bytes", "complete"]), inner),
        max_leaves=30,
    )
)
def test_what_a_vm_says_is_checked(answer: Any) -> None:
    lost = parse(answer)
    assert lost.count >= 0
    for text in (sentence(lost), *lost.listed):
        assert "\n" not in text
        assert len(text) < 2000


def test_long_and_odd_names_are_cut() -> None:
    lost = parse({"files": ["/mnt/\x1b[2J\nx", "/mnt/" + "y" * 5000, "", 7, *["/mnt/z"] * 50], "more": 3, "bytes": -1})
    assert lost.files[0] == "/mnt/�[2J�x"
    assert len(lost.files[1]) < 400
    assert (len(lost.files), lost.more, lost.bytes) == (20, 3 + 32, 0)


def test_nobody_knows_where_there_is_no_answer() -> None:
    waiting: Future[Any] = Future()
    failed: Future[Any] = Future()
    failed.set_exception(Unreachable("gpu-vm is out of reach."))
    assert ask(lambda compute, operation: None, "azure:1") is None
    assert ask(lambda compute, operation: failed, "azure:1") is None
    before = time.monotonic()
    assert ask(lambda compute, operation: waiting, "azure:1", 0.1) is None
    assert time.monotonic() - before < 5


# An emulated VM

WRITE = """
import os
place = os.environ.get("JUPYTER_DSVM_TEMPORARY_DISK", "/mnt")
for name in ("model.pt", "data.csv"):
    with open(os.path.join(place, name), "w") as f: f.write("x" * 1000)
print(place)
"""
READ = "import os; print(os.listdir(os.environ.get('JUPYTER_DSVM_TEMPORARY_DISK', '/mnt')))"


def test_a_stop_says_what_it_loses_and_azure_loses_it(configured: Emulator, notebook: Notebook) -> None:
    attached(notebook, "cpu-vm")
    compute = service().known.find("cpu-vm").id
    assert service().lost_by_stop(compute) == NOTHING
    place = notebook.run(WRITE, timeout=PATIENCE).text.strip()
    there = service().lost_by_stop(compute)
    assert there is not None
    assert set(there.files) == {f"{place}/model.pt", f"{place}/data.csv"}
    assert (there.more, there.bytes, there.complete) == (0, 2000, True)
    asked = service().stop_loss("cpu-vm")
    assert (asked.known, set(asked.files), asked.more, asked.bytes) == (True, set(there.files), 0, 2000)
    assert asked.text == sentence(there)
    heard: list[str] = []
    running = service().changes.begin_power("stop", "cpu-vm")
    running.listeners.append(heard.append)
    service().changes.run_power(running, "stop")
    assert running.value.state is OperationState.DONE
    told = "2 files on the temporary disk {} lost: "
    assert any(text.startswith(told.format("are")) and place in text for text in heard)
    assert told.format("were") in (running.value.notice or "")
    attached(notebook, "cpu-vm")
    assert notebook.run(READ, timeout=PATIENCE).text.strip() == "['DATALOSS_WARNING_README.txt']"
    assert service().lost_by_stop(compute) == NOTHING


def test_the_magic_says_it_before_and_after(configured: Emulator, notebook: Notebook) -> None:
    attached(notebook, "cpu-vm")
    place = notebook.run(WRITE, timeout=PATIENCE).text.strip()
    with Notebook() as here:
        done = here.run("%dsvm stop cpu-vm", timeout=PATIENCE)
        assert done.status == "ok", done.content
        shown = done.text + json.dumps([o["content"]["data"] for o in done.outputs("display_data")])
        shown += json.dumps([o["content"]["data"] for o in done.outputs("update_display_data")])
    assert "2 files on the temporary disk are lost: " in shown
    assert "2 files on the temporary disk were lost: " in shown
    assert f"{place}/model.pt" in shown


def test_a_machine_that_is_not_connected_to_says_nothing(configured: Emulator, notebook: Notebook) -> None:
    assert service().lost_by_stop(service().known.find("gpu-vm").id) is None
    assert service().stop_loss("gpu-vm") == StopLoss(known=False)
