"""The table of libraries, and that ``docs/advice.md`` shows it."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jupyter_dsvm.datafiles import KINDS
from jupyter_dsvm.libraries import LIBRARIES, TOOLS, Use, library_of, means_gpu

DOCUMENT = (Path(__file__).parent.parent / "docs" / "advice.md").read_text()


def rows_under(heading: str) -> list[list[str]]:
    """Of the first table under a heading, without its head."""
    text = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_document_shows_every_row_and_no_other():
    shown = {row[0]: row[1:] for row in rows_under("Libraries")}
    assert list(shown) == [row.name for row in LIBRARIES]
    for row in LIBRARIES:
        modules, uses, how, source = shown[row.name]
        assert modules == ", ".join(f"`{m}`" for m in row.modules)
        assert (uses, how, source) == (row.use.value, row.how.strip(" ,"), row.source)


def test_the_document_names_every_tool():
    named = DOCUMENT.rpartition("counts for neither answer:")[2].strip().rstrip(".")
    assert {n.strip().strip("`") for n in named.split(",")} == TOOLS


def test_the_document_shows_the_factors_for_files():
    assert rows_under("Memory") == [[k.name, f"× {k.factor:g}", k.source] for k in KINDS]


@pytest.mark.parametrize("row", LIBRARIES, ids=lambda row: row.name)
def test_a_row(row):
    source = urlsplit(row.source)
    assert source.scheme == "https"
    assert source.netloc
    assert source.path
    assert row.modules
    asks = bool(row.settings or row.calls or row.methods or row.moves or row.prefers)
    assert asks == (row.use is Use.ASKED) or row.name == "Numba"
    assert bool(row.how) or row.use is not Use.ASKED
    for values in row.settings.values():
        assert all(value == value.lower() for value in values)
    for name in (*row.calls, *row.prefers, *(m for m in row.moves if "." in m)):
        assert name.startswith(row.modules), name


def test_no_module_is_in_two_rows_or_a_tool_as_well():
    modules = [m for row in LIBRARIES for m in row.modules]
    assert len(modules) == len(set(modules))
    assert not TOOLS & set(modules)
    assert not (TOOLS | {m.partition(".")[0] for m in modules}) & set(sys.stdlib_module_names)


def test_the_most_particular_row_counts():
    names = {
        "numba": "Numba",
        "numba.cuda.jit": "numba.cuda",
        "cudf.pandas.install": "cudf.pandas",
        "cudf.DataFrame": "cuDF",
    }
    assert {k: getattr(library_of(k), "name", None) for k in names} == names
    assert library_of("numbar") is None
    assert library_of("") is None


@pytest.mark.parametrize(
    ("value", "gpu"), [("cuda:1", True), ("CUDA", True), (" gpu ", True), ("cpu", False), ("", False)]
)
def test_values(value: str, gpu: bool):
    assert means_gpu(frozenset({"cuda", "gpu"}), value) is gpu
