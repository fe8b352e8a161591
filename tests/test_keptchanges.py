"""Changes of machines as files: written whole, locked by who makes them, and no harm in whatever else lies there."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from jupyter_dsvm.keptchanges import KeptChange, KeptChanges
from jupyter_dsvm.models import Operation, OperationState, Step, StepState

ID = "0123456789abcdef0123456789abcdef"
STEPS = (Step("ask", "Ask Azure", StepState.DONE), Step("start", "Azure starts it", StepState.RUNNING))


def change(operation_id: str = ID, **facts: object) -> KeptChange:
    operation = Operation(
        operation_id, "start", "azure:1", None, OperationState.RUNNING, STEPS, 0.5, started="2026-01-01T00:00:00Z"
    )
    return KeptChange(operation, "gpu-vm", {"size": "Standard_D2s_v3"}, facts)


def test_there_and_back():
    kept = change(start_asked="now")
    again = KeptChange.from_json(json.loads(json.dumps(kept.to_json())))
    assert again == kept


def test_each_note_is_the_whole_file_and_the_end_removes_it(tmp_path: Path):
    changes = KeptChanges(tmp_path / "changes")
    file = changes.open(ID)
    path = tmp_path / "changes" / f"{ID}.json"
    assert not path.parent.exists()  # nothing is touched before there is something to keep
    for n in range(3):
        file.write(change(n=n))
        assert json.loads(path.read_text())["facts"] == {"n": n}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]
    file.close(ended=True)
    file.write(change())  # a late note
    assert os.listdir(path.parent) == []


def test_it_belongs_to_who_makes_it_and_then_to_one_other(tmp_path: Path):
    mine, other, third = (KeptChanges(tmp_path) for _ in range(3))
    file = mine.open(ID)
    file.write(change())
    file.write(change(start_asked="now"))
    assert other.claim() == []
    file.close(ended=False)  # as the end of its process does
    ((found, claimed),) = other.claim()
    assert found == change(start_asked="now")
    assert third.claim() == []
    claimed.write(dataclasses.replace(found, facts={"start_operation": "https://x/"}))
    assert third.claim() == []
    claimed.close(ended=True)
    assert third.claim() == []
    assert os.listdir(tmp_path) == []


GOOD = change().to_json()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        json.dumps({**GOOD, "version": 2}),
        json.dumps({**GOOD, "id": "f" * 32}),
        json.dumps({**GOOD, "kind": None}),
        json.dumps({**GOOD, "compute": 1}),
        json.dumps({**GOOD, "facts": []}),
        json.dumps({**GOOD, "arguments": "x"}),
        json.dumps({**GOOD, "steps": [{"name": "x"}]}),
        json.dumps({**GOOD, "steps": [{"name": "x", "text": "y", "state": "odd"}]}),
    ],
)
def test_what_is_none_of_ours_is_left_with_a_line_in_the_log(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / f"{ID}.json"
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert KeptChanges(tmp_path).claim() == []
    assert str(path) in caplog.text
    assert path.read_text() == content


def test_a_link_and_a_folder_are_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "real").write_text(json.dumps(GOOD))
    folder = tmp_path / "changes"
    folder.mkdir()
    (folder / f"{ID}.json").symlink_to(tmp_path / "real")
    (folder / f"{'1' * 32}.json").mkdir()
    with caplog.at_level(logging.WARNING):
        assert KeptChanges(folder).claim() == []
    assert caplog.text.count("cannot be read") == 2


def test_a_disk_that_takes_nothing_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    file = KeptChanges(tmp_path / "file" / "changes").open(ID)
    with caplog.at_level(logging.WARNING):
        file.write(change())
        file.write(change())
        file.close(ended=True)
    assert caplog.text.count("cannot be kept") == 1


def test_what_is_no_json_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = KeptChanges(tmp_path).open(ID)
    file.write(change())
    file.write(change(odd=object()))
    assert "cannot be kept" in caplog.text
    file.close(ended=False)
    ((found, claimed),) = KeptChanges(tmp_path).claim()
    assert found == change()  # the last that could be
    claimed.close(ended=True)
