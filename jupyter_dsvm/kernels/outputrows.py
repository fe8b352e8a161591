"""What was kept of a cell's outputs as nbformat has it, for the page. Pure.

A display is kept as the kernel sent it; here it is read, which may be work, so this is called on a worker thread. What no client
could read is a sentence in its place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .cellouts import DISPLAY, NOTE, RESULT, STREAM, Cut
from .cellruns import WIDGET

if TYPE_CHECKING:
    from .outputstore import Found

MAX_VALUES = 2_000_000
"""Commas and brackets in one output, about: a value takes up to a hundred bytes once it is read."""


def row(found: Found) -> dict[str, Any]:
    run, cut = found.run, found.run.outputs.cut
    widget = run.cell[1:] if run.cell.startswith(WIDGET) else None
    return {
        "cell": run.cell if widget is None else "",
        "widget": widget,
        "msg_id": run.msg_id if widget is None else "",
        "session": run.session,
        "version": run.version,
        "source": run.source,
        "source_sha256": run.sha256,
        "state": run.state.value,
        "status": run.status,
        "execution_count": run.count,
        "started": run.started,
        "ended": run.ended,
        "prompts": [{"id": i, "prompt": prompt, "password": password} for i, prompt, password in run.prompts],
        "kept": found.kept,
        "kept_text": found.kept_text,
        "outputs": [output(kind, name, body, cut) for kind, name, body in found.outputs],
        "cut": {"messages": cut.messages, "bytes": cut.bytes} if cut is not None else None,
    }


def output(kind: str, name: str, body: bytes, cut: Cut | None = None) -> dict[str, Any]:
    """One output of a notebook."""
    if kind == STREAM:
        return {"output_type": STREAM, "name": name, "text": body.decode("utf-8", "surrogatepass")}
    if kind == NOTE:
        return _sentence(note(cut or Cut()))
    try:
        if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ValueError("it has too many values")
        content = json.loads(body, parse_constant=_no_constant)
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as e:
        return _sentence(f"An output of {len(body)} bytes cannot be shown here: {e}.")
    made = {**content, "output_type": kind}
    made.pop("transient", None)
    if kind in (DISPLAY, RESULT):
        for part in ("data", "metadata"):
            made[part] = content[part] if isinstance(content.get(part), dict) else {}
    return made


def note(cut: Cut) -> str:
    size = f"({cut.bytes / 1e6:.1f} MB) of this cell"
    if cut.messages == 1:
        return f"1 output {size} was left out here: there was no room to keep it."
    return f"{cut.messages} outputs {size} were left out here: there was no room to keep them."


def _sentence(text: str) -> dict[str, Any]:
    return {"output_type": STREAM, "name": "stderr", "text": f"\n[{text}]\n"}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
