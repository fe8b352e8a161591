"""A notebook with what its cells have put out while no page was there. Pure; ``outputsaver`` reads and writes the file.

The notebook is JSON as the contents manager gives it, the rows are ``kernels.outputrows``'. A cell is found by its id, and only
where its source is what was run. In a notebook of an old format whose cells have no ids, JupyterLab makes some up each time it
opens it; there a cell is found by its source where no other cell or run has the same. What is written is what JupyterLab would have
saved: outputs and execution count, and no times of an earlier run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

FIELDS = {
    "stream": ("name", "text"),
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}
"""What nbformat's schema has of each kind of output; what else a kernel says of it makes a notebook invalid."""

Row = dict[str, Any]


def with_outputs(notebook: Any, rows: Iterable[Row]) -> dict[str, Any] | None:
    """A new notebook; what is not changed is shared with the old one. None where it has all of them already, or its file is none of
    nbformat 4. A cell that is changed is marked as not trusted."""
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        return None
    about = notebook.get("metadata")
    if isinstance(about, dict) and about.get("orig_nbformat", 4) != 4:
        return None  # it was converted while it was read
    cells, runs = notebook["cells"], [row for row in rows if row["cell"]]
    found = [_filled(cell, run) if run else cell for cell, run in zip(cells, _matched(cells, runs), strict=True)]
    if all(new is old for new, old in zip(found, cells, strict=True)):
        return None
    return {**notebook, "cells": found}


def _matched(cells: list[Any], runs: list[Row]) -> list[Row | None]:
    """For each cell the run that it is of."""
    by_id = {run["cell"]: run for run in runs}
    ids = Counter(cell["id"] for cell in cells if _is_code(cell) and isinstance(cell.get("id"), str))
    sources = Counter(source_of(cell) for cell in cells if _is_code(cell))
    by_hash: dict[str, list[Row]] = {}
    for run in runs:
        by_hash.setdefault(run["source_sha256"], []).append(run)
    return [_run_of(cell, by_id, by_hash, ids, sources) if _is_code(cell) else None for cell in cells]


def _run_of(
    cell: dict[str, Any], by_id: dict[str, Row], by_hash: dict[str, list[Row]], ids: Counter[str], sources: Counter[str]
) -> Row | None:
    source, cell_id, run = source_of(cell), cell.get("id"), None
    sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    if isinstance(cell_id, str):
        run = by_id.get(cell_id) if ids[cell_id] == 1 else None
    elif sources[source] == 1 and len(by_hash.get(sha256, ())) == 1:
        (run,) = by_hash[sha256]
        run = run if run["cell"] not in ids else None
    return run if run is not None and run["source_sha256"] == sha256 else None


def _is_code(cell: Any) -> bool:
    return isinstance(cell, dict) and cell.get("cell_type") == "code"


def source_of(cell: dict[str, Any]) -> str:
    return _text(cell.get("source"))


def _filled(cell: dict[str, Any], run: Row) -> dict[str, Any]:
    outputs, count = [_valid(o) for o in run["outputs"]], run["execution_count"]
    if cell.get("execution_count") == count and _plain(cell.get("outputs")) == _plain(outputs):
        return cell
    metadata = cell.get("metadata")
    kept = {k: v for k, v in metadata.items() if k != "execution"} if isinstance(metadata, dict) else {}
    return {**cell, "outputs": outputs, "execution_count": count, "metadata": {**kept, "trusted": False}}


def _valid(output: dict[str, Any]) -> dict[str, Any]:
    kind = output["output_type"]
    made = {"output_type": kind, **{name: output[name] for name in FIELDS[kind] if name in output}}
    if kind == "execute_result":
        made.setdefault("execution_count", None)
    elif kind == "error":
        made = {"ename": "", "evalue": "", "traceback": [], **made}
    return made


def _plain(value: Any) -> Any:
    """For comparing: nbformat keeps a text as one string or as its lines."""
    if isinstance(value, list):
        if value and all(isinstance(v, str) for v in value):
            return "".join(value)
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(v for v in value if isinstance(v, str))
    return value if isinstance(value, str) else ""
