"""What ``%dsvm`` says of files that travel with a notebook."""

from __future__ import annotations

from dataclasses import replace

from jupyter_dsvm.filewords import MOST, state_lines, todo_lines
from jupyter_dsvm.models import Problem, WorkspaceConflict, WorkspaceFile, WorkspaceState
from support.fakes import RECORD


def test_what_is_left_to_do_is_named_with_what_to_do():
    assert todo_lines(RECORD) == [
        "data.csv was changed here and there: the machine's version is beside it as data (cpu-vm 2026-11-28 05.10).csv. "
        "Delete the one that you do not want, or choose in the Compute panel.",
        "model.bin (2.0 GB) stays on the machine, since there is no room here. %dsvm sync --fetch PATH brings a file here.",
        "out does not travel; the Compute panel says why.",
    ]
    several = replace(RECORD, conflicts=(), skipped=(WorkspaceFile("a"), WorkspaceFile("b", 5)), left_there=())
    assert todo_lines(several) == ["a and b (5 bytes) do not travel; the Compute panel says why."]
    assert todo_lines(replace(several, skipped=())) == []


def test_of_many_some_are_named_and_the_rest_counted():
    conflicts = tuple(WorkspaceConflict(f"{i}.csv", f"{i} (vm).csv") for i in range(MOST + 2))
    files = tuple(WorkspaceFile(f"f{i}", 1000) for i in range(MOST + 1))
    lines = todo_lines(replace(RECORD, conflicts=conflicts, left_there=files, skipped=()))
    assert len(lines) == MOST + 2
    assert lines[MOST].startswith("2 more files were changed on both sides")
    assert lines[MOST + 1].startswith("f0 (1 kB), f1 (1 kB), ")
    assert " and 1 more stay on the machine" in lines[MOST + 1]


def test_a_name_from_a_machine_is_one_line():
    evil = replace(RECORD, conflicts=(WorkspaceConflict("a\nb\x1b[31m", "c\u2028d"),), left_there=(), skipped=())
    (line,) = todo_lines(evil)
    assert line.isprintable()


def test_a_sync_that_stopped_says_why_and_how_to_go_on():
    problem = Problem("Halt", "7 of 9 files would be deleted there.", "Look at the folder here.")
    halted = replace(RECORD, state=WorkspaceState.HALTED, text="stopped", problem=problem, conflicts=(), left_there=())
    lines = state_lines(replace(halted, skipped=()))
    assert lines == [
        "Its files: stopped.",
        "7 of 9 files would be deleted there. Look at the folder here.",
        "%dsvm sync --force does it all the same.",
    ]
    much = replace(problem, code="NeedsYes", advice="`%dsvm sync --yes` copies them.")
    asks = replace(halted, text=much.message, problem=much, skipped=())
    assert state_lines(asks) == ["Its files: 7 of 9 files would be deleted there.", "`%dsvm sync --yes` copies them."]
    told = replace(halted, problem=replace(problem, advice="Use %dsvm sync --force."), skipped=())
    assert len(state_lines(told)) == 2
