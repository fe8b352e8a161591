"""What is kept about variables that travel: the yes for a VM, what waits on VMs' disks, and the sentences."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_dsvm.carrypermits import CarryPermits
from jupyter_dsvm.carrywords import came_along, needs_yes, plan_html, plan_text, progress_text, stayed, unsupported
from jupyter_dsvm.kernelvariables import (
    Failed,
    Moved,
    VariablesError,
    hello_of,
    moved_of,
    planned_of,
    worded,
)
from jupyter_dsvm.models import CarryState, Variable, Variables
from jupyter_dsvm.savedvariables import KEPT_SECONDS, Save, SavedStore

SAVE = Save("/work/a.ipynb", "azure:1", "/home/me/a.vars", 1000.0, ("df", "model"), 2, 100, ("conn",))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# The yes


def test_a_yes_is_for_a_vm_outlives_the_server_and_can_be_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "data" / "carry-from.json"
    permits = CarryPermits(file)
    assert not permits.holds("azure:1")
    permits.keep("azure:1")
    assert permits.holds("azure:1")
    assert not permits.holds("azure:2")
    assert CarryPermits(file).holds("azure:1")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    CarryPermits(file).revoke("azure:1")
    assert not permits.holds("azure:1")
    permits.revoke("azure:1")


@pytest.mark.parametrize("text", ["", "[]", '{"azure:1": "yes"}', "{", '["azure:1"]'])
def test_a_file_that_makes_no_sense_allows_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "carry-from.json"
    file.write_text(text)
    permits = CarryPermits(file)
    assert not permits.holds("azure:1")
    permits.keep("azure:1")
    assert permits.holds("azure:1")


def test_where_it_cannot_be_kept_it_holds_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    permits = CarryPermits(tmp_path / "blocked" / "carry-from.json")
    permits.keep("azure:1")
    assert permits.holds("azure:1")


# What waits on disks


def test_a_save_outlives_the_server_and_follows_a_rename(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "saved-variables.json"
    store = SavedStore(file, clock)
    store.put(SAVE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.renamed({"/work/a.ipynb": "/work/b.ipynb", "/work/x.ipynb": "/work/y.ipynb"})
    again = SavedStore(file, clock)
    again.load()
    assert again.of("/work/a.ipynb") is None
    found = again.of("/work/b.ipynb")
    assert found == replace(SAVE, notebook="/work/b.ipynb")
    assert found.shown().to_json() == {
        "compute": "azure:1",
        "saved": "1970-01-01T00:16:40.000Z",
        "names": ["df", "model"],
        "count": 2,
        "bytes": 100,
        "left": ["conn"],
    }
    assert again.of(None) is None


def test_what_is_dropped_replaced_or_old_is_to_be_removed_there_once(tmp_path: Path) -> None:
    clock = Clock()
    file = tmp_path / "saved-variables.json"
    store = SavedStore(file, clock)
    store.put(SAVE)
    store.put(replace(SAVE, compute="azure:2"))
    assert [s.file for s in store.to_remove("azure:1")] == [SAVE.file], "a later save elsewhere took its place"
    store.put(replace(SAVE, compute="azure:2", at=1001.0))
    assert store.to_remove("azure:2") == [], "the same file, written anew"
    assert store.drop("/work/a.ipynb") is not None
    assert store.drop("/work/a.ipynb") is None
    assert store.of("/work/a.ipynb") is None
    again = SavedStore(file, clock)
    (save,) = again.to_remove("azure:2")
    again.removed(save)
    assert again.to_remove("azure:2") == []
    again.put(SAVE)
    clock.now += KEPT_SECONDS + 1
    assert again.of("/work/a.ipynb") is None
    assert [s.dropped for s in SavedStore(file, clock).to_remove("azure:1")] == [True, True]


@pytest.mark.parametrize("text", ["", "{}", '[{"notebook": "/a"}]', '[3, null, {"at": "x"}]'])
def test_a_file_of_saves_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "saved-variables.json"
    file.write_text(text)
    store = SavedStore(file)
    store.load()
    assert store.of("/a") is None


# What kernels say


def test_what_a_kernel_says_is_cut_to_bounds() -> None:
    rows = [{"name": "x\x1b[2J" * 200, "type": 5, "bytes": -1, "moves": 1, "reason": "no"}, "nonsense", None]
    planned = planned_of({"variables": rows * 2000, "more": -3, "bytes": 1 << 80})
    assert len(planned.variables) <= 1000
    row = planned.variables[0]
    assert (len(row.name), "\x1b" in row.name, row.type, row.bytes, row.moves, row.reason) == (
        256,
        False,
        "5",
        None,
        True,
        "",
    )
    assert (planned.more, planned.bytes) == (0, 1 << 50)
    for nonsense in ({}, {"variables": "x"}, {"variables": {"a": 1}}):
        assert planned_of(nonsense).variables == ()
    moved = moved_of(
        {"received": ["a"] * 3000, "failed": [{"name": "b", "reason": "c" * 1000}, 5], "bytes": True}, "received"
    )
    assert (len(moved.names), moved.count, moved.bytes, len(moved.failed), len(moved.failed[0].reason)) == (
        1000,
        3000,
        0,
        1,
        400,
    )
    assert moved_of({"received": 5, "failed": 5}, "received").names == ()
    hello = hello_of({"python": [3, "x", 11], "pickle": "5", "modules": {"numpy": "2.0", "a": 5}})
    assert hello.raw == {"python": [3, 11], "pickle": 4, "modules": {"numpy": "2.0", "a": None}}
    json.dumps(hello.raw)


def test_an_error_of_a_kernel_is_raised_with_its_code() -> None:
    assert worded({"sent": []}) == {"sent": []}
    with pytest.raises(VariablesError) as raised:
        worded({"error": {"message": "The disk is full.", "code": "Full"}})
    assert (raised.value.code, raised.value.message) == ("Full", "The kernel could not do it: The disk is full.")
    for nonsense in ({"error": 5}, {"error": {"code": "not a word!"}}, [], None):
        with pytest.raises(VariablesError) as raised:
            worded(nonsense)
        assert raised.value.code == "Variables"


# Sentences


def test_what_is_said_of_a_carry() -> None:
    failed = [Failed("conn", "An open connection cannot move."), Failed("f", "json is not installed there.")]
    assert came_along(Moved(("a",), (), 1_288_490_189, 12), failed) == (
        "12 variables came along (1.2 GB). 2 stayed behind: conn (an open connection cannot move), f (json is not installed there)."
    )
    assert came_along(Moved(("a",), (), 10, 1), []) == "1 variable came along (1 KB)."
    assert came_along(Moved((), (), 0, 0), failed[:1]) == (
        "No variable came along. 1 stayed behind: conn (an open connection cannot move)."
    )
    assert came_along(Moved((), (), 0, 0), []) == "There was no variable to carry."
    many = came_along(Moved((), (), 0, 0), [Failed(f"x{i}", "") for i in range(9)])
    assert many == "No variable came along. 9 stayed behind: x0, x1, x2, x3, x4 and 4 more."
    assert stayed("gpu-vm", "") == "Variables stayed on gpu-vm; run the cells that make them."
    assert progress_text(0, 0) == "Carrying variables"
    assert progress_text(356_515_840, 1_288_490_189) == "Carrying variables (0.3 GB of 1.2 GB)"
    assert progress_text(2 << 30, 1 << 30) == "Carrying variables (1.0 GB of 1.0 GB)"
    assert unsupported("R") == "Variables of an R kernel cannot be carried yet."
    assert unsupported("rust") == "Variables of a rust kernel cannot be carried yet."
    assert "beside this server’s token" in needs_yes("gpu-vm", "the free tier", True)
    assert "with your account on cpu-vm" in needs_yes("gpu-vm", "cpu-vm", False)


def test_the_dry_run_as_a_table() -> None:
    rows = (Variable("df", "pandas.DataFrame", 5 << 20, True), Variable("<b>", "x<y", None, False, "It cannot move."))
    plan = Variables("k", "azure:1", CarryState.READY, "", rows, 3, 5 << 20, 1.4, True)
    text = plan_text(plan, "gpu-vm").splitlines()
    assert (
        text[0]
        == "1 of 2 variables could go along to gpu-vm (5 MB, about 1 s). A person is asked first, once for this machine."
    )
    assert text[2:] == [
        "NAME  TYPE              SIZE  MOVES",
        "df    pandas.DataFrame  5 MB  yes",
        "<b>   x<y               —     no: It cannot move.",
        "and 3 more",
    ]
    html = plan_html(plan, "gpu-vm")
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    busy = replace(plan, state=CarryState.BUSY, reason="A cell runs.", variables=(), more=0)
    assert plan_text(busy, "gpu-vm") == "A cell runs."
