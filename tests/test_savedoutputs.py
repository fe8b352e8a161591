"""Which cells of a notebook get what was put out without a page, and that nothing else of it changes. Pure."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import nbformat
from hypothesis import given
from hypothesis import strategies as st
from nbformat.validator import isvalid

from jupyter_dsvm.kernels.cellouts import DISPLAY, ERROR, RESULT, STREAM
from jupyter_dsvm.kernels.outputrows import output
from jupyter_dsvm.savedoutputs import with_outputs

TEXT = {"output_type": "stream", "name": "stdout", "text": "a\nb\n"}


def run(cell: str, source: str, outputs: list[dict[str, Any]] | None = None, count: int | None = 1) -> dict[str, Any]:
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    outputs = [TEXT] if outputs is None else outputs
    return {"cell": cell, "source_sha256": sha256, "outputs": outputs, "execution_count": count}


def code(
    cell_id: str | None, source: str, outputs: list[Any] | None = None, count: int | None = None
) -> dict[str, Any]:
    cell = {"cell_type": "code", "source": source, "outputs": outputs or [], "execution_count": count, "metadata": {}}
    return cell if cell_id is None else {"id": cell_id, **cell}


def notebook(*cells: dict[str, Any], minor: int = 5) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": list(cells)}


def test_outputs_go_into_their_cell_and_the_rest_stays() -> None:
    first = {"cell_type": "markdown", "id": "m", "source": "print()", "metadata": {}}
    before = notebook(first, code("a", "print()"), code("b", "print()", [TEXT], 7), minor=5)
    before["cells"][1]["metadata"] = {"tags": ["x"], "execution": {"iopub.status.busy": "2026"}, "trusted": True}
    kept = copy.deepcopy(before)
    made = with_outputs(before, [run("a", "print()", count=3), run("m", "print()")])
    assert made is not None
    assert before == kept
    assert made["cells"][1] == {**code("a", "print()", [TEXT], 3), "metadata": {"tags": ["x"], "trusted": False}}
    assert made["cells"][0] is first
    assert made["cells"][2] is before["cells"][2]


def test_what_was_edited_since_is_left_alone() -> None:
    assert with_outputs(notebook(code("a", "print(1)")), [run("a", "print(2)")]) is None
    assert with_outputs(notebook(code("a", "print(1)")), [run("b", "print(1)")]) is None
    lines = code("a", "x")
    lines["source"] = ["1\n", "2"]
    assert with_outputs(notebook(lines), [run("a", "1\n2")]) is not None


def test_what_is_there_already_is_no_change() -> None:
    lines = {**TEXT, "text": ["a\n", "b\n"]}
    assert with_outputs(notebook(code("a", "1", [lines], 1)), [run("a", "1")]) is None
    assert with_outputs(notebook(code("a", "1", [lines], 2)), [run("a", "1")]) is not None
    # One line of text is the text, too.
    shown = output(DISPLAY, "", b'{"data": {"text/plain": "x"}, "metadata": {}}')
    there = {**shown, "data": {"text/plain": ["x"]}}
    assert with_outputs(notebook(code("a", "1", [there], 1)), [run("a", "1", [shown])]) is None


def test_a_cell_that_was_aborted_has_nothing() -> None:
    made = with_outputs(notebook(code("a", "1", [TEXT], 4)), [run("a", "1", [], None)])
    assert made is not None
    assert (made["cells"][0]["outputs"], made["cells"][0]["execution_count"]) == ([], None)


def test_cells_without_ids_are_found_by_a_source_of_their_own() -> None:
    old = notebook(code(None, "a"), code(None, "b"), code(None, "b"), minor=4)
    made = with_outputs(old, [run("x", "a"), run("y", "b")])
    assert made is not None
    assert [bool(c["outputs"]) for c in made["cells"]] == [True, False, False]
    assert made["nbformat_minor"] == 4
    assert with_outputs(old, [run("x", "a"), run("z", "a")]) is None
    assert with_outputs(notebook(code("q", "a")), [run("x", "a")]) is None


def test_ids_that_are_there_twice_are_nobodys() -> None:
    assert with_outputs(notebook(code("a", "1"), code("a", "1")), [run("a", "1")]) is None


def test_no_notebook_of_this_format() -> None:
    rows = [run("a", "1")]
    converted = notebook(code("a", "1"))
    converted["metadata"] = {"orig_nbformat": 3}
    for none in (None, [], {"nbformat": 3, "worksheets": []}, {"nbformat": 4, "cells": None}, converted):
        assert with_outputs(none, rows) is None
    assert with_outputs({"nbformat": 4, "metadata": [], "cells": [None, "x", {"cell_type": "code"}]}, rows) is None


def test_what_a_schema_does_not_have_is_left_out() -> None:
    outputs = [
        output(DISPLAY, "", b'{"data": {"text/plain": "x"}, "metadata": {}, "extra": 1}'),
        output(RESULT, "", b'{"data": {"text/plain": "x"}}'),
        output(ERROR, "", b'{"ename": "E", "evalue": "e", "status": "error"}'),
        output(STREAM, "stdin", b"name: x\n"),
    ]
    made = with_outputs(notebook(code("a", "1")), [run("a", "1", outputs)])
    assert made is not None
    made["cells"][0]["metadata"].pop("trusted")
    assert isvalid(nbformat.from_dict(made))


sources = st.sampled_from(["", "a", "b", "c = 1\nc"])
outputs = st.lists(
    st.sampled_from([TEXT, {"output_type": "display_data", "data": {"text/html": "<b>"}, "metadata": {}}]), max_size=3
)
counts = st.none() | st.integers(1, 3)
ids = st.sampled_from(["a", "b", "c", "d"])
cells = st.lists(
    st.builds(code, st.none() | ids, sources, outputs, counts)
    | st.builds(lambda s: {"cell_type": "markdown", "metadata": {}, "source": s}, sources),
    max_size=5,
)
runs = st.lists(st.builds(run, ids, sources, outputs, counts), max_size=4, unique_by=lambda r: r["cell"])


@given(cells, runs)
def test_nothing_lands_where_it_is_not_of(cells: list[dict[str, Any]], runs: list[dict[str, Any]]) -> None:
    before = notebook(*cells)
    kept = copy.deepcopy(before)
    made = with_outputs(before, runs)
    assert before == kept
    if made is None:
        return
    assert {k: v for k, v in made.items() if k != "cells"} == {k: v for k, v in before.items() if k != "cells"}
    changed = [(old, new) for old, new in zip(cells, made["cells"], strict=True) if new is not old]
    assert changed
    for old, new in changed:
        sha256 = hashlib.sha256(old["source"].encode()).hexdigest()
        fitting = [r for r in runs if r["source_sha256"] == sha256 and old.get("id", r["cell"]) == r["cell"]]
        assert len(fitting) == 1
        assert (new["outputs"], new["execution_count"]) == (fitting[0]["outputs"], fitting[0]["execution_count"])
        rest = {"outputs", "execution_count", "metadata"}
        assert {k: v for k, v in new.items() if k not in rest} == {k: v for k, v in old.items() if k not in rest}
        assert new["metadata"] == {"trusted": False}
    assert with_outputs(made, runs) is None
