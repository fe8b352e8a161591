"""What JupyterLab's front end makes of a kernel's messages: a plain model of it, with whole texts, and sequences of such messages.

Written from the sources of @jupyterlab/services (src/kernel/default.ts) and @jupyterlab/outputarea (src/model.ts, src/widget.ts),
and held against the real ones in ``labextension/src/__tests__/outputs.spec.ts``, which plays ``tests/data/cell_outputs.json``.
That file is written by ``python -m support.outputarea`` in the folder of the tests.

An *event* is a small JSON object::

    {"do": "execute", "cell": "a", "run": "r1"}                      a cell is run
    {"do": "iopub", "run": "r1", "type": "stream", "content": {…}}   the kernel says something about that run
    {"do": "reply", "run": "r1", "content": {…}}                     and answers it
    {"do": "input", "run": "r1", "prompt": "", "password": false, "value": "x"}
    {"do": "restart"}                                                of the kernel
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from jupyter_client.session import DELIM, Session

Event = dict[str, Any]
Outputs = list[dict[str, Any]]

FIXTURE = Path(__file__).parents[1] / "data" / "cell_outputs.json"
SEED = 20261128
SEQUENCES = 160

DOTS = "········"


def process_text(index: int, new: str, text: str) -> tuple[str, int]:
    """``Private.processText``, in UTF-16 code units."""
    units, cursor = _units(text), index
    for unit in _units(new):
        if unit == "\b":
            if cursor > 0 and units[cursor - 1] != "\n":
                units = units[: cursor - 1] + units[cursor + 1 :]
                cursor -= 1
        elif unit == "\r":
            while cursor > 0 and units[cursor - 1] != "\n":
                cursor -= 1
        elif unit == "\n":
            units.append("\n")
            cursor = len(units)
        else:
            units[cursor : cursor + 1] = [unit]
            cursor += 1
    return "".join(units).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"), cursor


def _units(text: str) -> list[str]:
    data = text.encode("utf-16-le", "surrogatepass")
    return [chr(data[i] | data[i + 1] << 8) for i in range(0, len(data), 2)]


class Area:
    """``OutputArea`` with its ``OutputAreaModel``."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.outputs: Outputs = []
        self.clear_next = False
        self.last_stream = ""
        self.index = 0
        self.display_ids: dict[str, list[int]] = {}
        self.count: int | None = None

    def add(self, output: dict[str, Any]) -> None:
        if self.clear_next:
            self.clear()
            self.clear_next = False
        if output["output_type"] == "stream":
            if self.outputs and output["name"] == self.last_stream:
                last = self.outputs[-1]
                last["text"], self.index = process_text(self.index, output["text"], last["text"])
                return
            output["text"], self.index = process_text(0, output["text"], "")
        self.outputs.append(output)
        self.last_stream = output.get("name", "") if output["output_type"] == "stream" else ""

    def clear(self, wait: bool = False) -> None:
        self.last_stream = ""
        if wait:
            self.clear_next = True
            return
        if self.outputs:
            self.display_ids.clear()
        self.outputs.clear()

    def published(self, kind: str, content: dict[str, Any]) -> None:
        display_id = (content.get("transient") or {}).get("display_id")
        if kind in ("execute_result", "display_data", "stream", "error"):
            self.add(_output(kind, content))
        elif kind == "clear_output":
            self.clear(content.get("wait", False))
        elif kind == "update_display_data":
            for index in self.display_ids.get(display_id, ()):
                self.outputs[index] = _output("display_data", content)
        if display_id and kind == "display_data":
            self.display_ids.setdefault(display_id, []).append(len(self.outputs) - 1)

    def replied(self, content: dict[str, Any]) -> None:
        self.count = content.get("execution_count")
        pages = [p for p in content.get("payload", ()) if p["source"] == "page"] if content["status"] == "ok" else []
        if pages:
            self.add({"output_type": "display_data", "data": pages[0]["data"], "metadata": {}})


def _output(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    output = json.loads(json.dumps({**content, "output_type": kind}))
    output.pop("transient", None)
    if kind in ("display_data", "execute_result"):
        output.setdefault("data", {})
        output.setdefault("metadata", {})
    return output  # type: ignore[no-any-return]


class FrontEnd:
    """A notebook that was watched all along: ``KernelConnection`` and an ``OutputArea`` for each cell."""

    def __init__(self) -> None:
        self.cells: dict[str, Area] = {}
        self._futures: dict[str, Area] = {}
        self._display_ids: dict[str, list[str]] = {}

    def happens(self, event: Event) -> None:
        do, run = event["do"], event.get("run", "")
        if do == "execute":
            before = self.cells.get(event["cell"])
            if before is not None:
                self._futures.pop(before.run, None)
            self.cells[event["cell"]] = self._futures[run] = Area(run)
        elif do == "restart":
            self._futures.clear()
            self._display_ids.clear()
        elif do == "reply" and run in self._futures:
            self._futures[run].replied(event["content"])
        elif do == "input" and run in self._futures:
            typed = DOTS if event["password"] else event["value"]
            self._futures[run].add({"output_type": "stream", "name": "stdin", "text": f"{event['prompt']} {typed}\n"})
        elif do == "iopub":
            self._published(run, event["type"], event["content"])

    def _published(self, run: str, kind: str, content: dict[str, Any]) -> None:
        display_id = (content.get("transient") or {}).get("display_id")
        if display_id and kind in ("display_data", "update_display_data", "execute_result"):
            for parent in self._display_ids.get(display_id, ()):
                if parent in self._futures:
                    self._futures[parent].published("update_display_data", content)
            if kind == "update_display_data":
                return
            parents = self._display_ids.setdefault(display_id, [])
            if run not in parents:
                parents.append(run)
        if run in self._futures:
            self._futures[run].published(kind, content)

    def notebook(self) -> dict[str, Outputs]:
        return {cell: area.outputs for cell, area in self.cells.items()}


# Messages

_session = Session(key=b"", session="kernel")


def messages(event: Event) -> list[tuple[str, list[bytes]]]:
    """The event as messages: what each is (request, iopub, reply, asks, typed), and its parts."""
    do, run = event["do"], event.get("run", "")
    if do == "execute":
        content = {"code": event.get("code", f"# {run}"), "silent": False}
        parts = _parts("execute_request", run, content, {}, {"cellId": event["cell"]})
        return [("request", [b"client", *parts])]
    about = {"msg_id": run, "msg_type": "execute_request", "session": "client"}
    if do == "iopub":
        return [("iopub", [b"topic", *_parts(event["type"], "", event["content"], about)])]
    if do == "reply":
        return [("reply", [b"client", *_parts("execute_reply", "", event["content"], about)])]
    if do == "input":
        asks = {"prompt": event["prompt"], "password": event["password"]}
        typed = {"value": event["value"], "status": "ok"}
        asked = {"msg_id": f"asks {run}", "msg_type": "input_request", "session": "kernel"}
        return [
            ("asks", [b"client", *_parts("input_request", f"asks {run}", asks, about)]),
            ("typed", [b"client", *_parts("input_reply", "", typed, asked)]),
        ]
    return []


def _parts(
    kind: str, msg_id: str, content: dict[str, Any], parent: dict[str, Any], metadata: dict[str, Any] | None = None
) -> list[bytes]:
    header = _session.msg_header(kind)
    header = {**header, "msg_id": msg_id or header["msg_id"], "date": "2026-01-01T00:00:00.000000Z"}
    return [DELIM, b"", *(json.dumps(p).encode() for p in (header, parent, metadata or {}, content))]


# Sequences

_TEXTS = [
    "a",
    "b\n",
    "\r",
    "\b",
    "xy\rz",
    "\n\n",
    "\r 50%|##  |",
    "\r100%|####|\n",
    "😀",
    "\b\b",
    "é\n",
    "",
    "end\r\n",
    "🎉\r-",
]


def sequence(rng: random.Random) -> list[Event]:
    """What could happen in a notebook of three cells."""
    events: list[Event] = []
    runs: list[str] = []
    live: list[str] = []
    replied: set[str] = set()
    for _ in range(rng.randrange(3, 40)):
        if not live or rng.random() < 0.1:
            runs.append(f"r{len(runs) + 1}")
            live.append(runs[-1])
            events.append({"do": "execute", "cell": rng.choice("abc"), "run": runs[-1]})
            continue
        if rng.random() < 0.02:
            events.append({"do": "restart"})
            live.clear()
            continue
        event = _event(rng, rng.choice(live))
        if event["do"] != "reply" or event["run"] not in replied:
            events.append(event)
        if event["do"] == "reply":
            replied.add(event["run"])
    return events


def _event(rng: random.Random, run: str) -> Event:
    kind = rng.choices(
        ["stream", "display_data", "update_display_data", "clear_output", "execute_result", "error", "reply", "input"],
        [12, 4, 4, 3, 1, 1, 1, 1],
    )[0]
    if kind == "reply":
        return {"do": "reply", "run": run, "content": _reply(rng)}
    if kind == "input":
        value = rng.choice(["x", "", "1 2"])
        return {
            "do": "input",
            "run": run,
            "prompt": rng.choice(["", "> "]),
            "password": rng.random() < 0.3,
            "value": value,
        }
    content: dict[str, Any]
    if kind == "stream":
        content = {
            "name": rng.choice(["stdout", "stdout", "stderr"]),
            "text": "".join(rng.choices(_TEXTS, k=rng.randrange(4))),
        }
    elif kind == "clear_output":
        content = {"wait": rng.random() < 0.6}
    elif kind == "error":
        content = {"ename": "E", "evalue": "v", "traceback": ["t", "u"]}
    else:
        display_id = rng.choice(["", "p", "q"]) if kind != "update_display_data" else rng.choice("pq")
        content = {
            "data": {"text/plain": str(rng.randrange(100)), **rng.choice([{}, {"application/json": {"x": [1, None]}}])},
            "metadata": rng.choice([{}, {"image/png": {"width": 1}}]),
            "transient": {"display_id": display_id} if display_id else {},
        }
        if kind == "execute_result":
            content["execution_count"] = rng.randrange(9)
    return {"do": "iopub", "run": run, "type": kind, "content": content}


def _reply(rng: random.Random) -> dict[str, Any]:
    status = rng.choice(["ok", "ok", "error", "aborted"])
    if status == "aborted":
        return {"status": status}
    content: dict[str, Any] = {"status": status, "execution_count": rng.randrange(9)}
    if status == "error":
        return {**content, "ename": "E", "evalue": "v", "traceback": []}
    page = {"source": "page", "data": {"text/plain": "help"}, "start": 0}
    return {**content, "payload": rng.choice([[], [page], [{"source": "set_next_input", "text": "x"}]])}


def fixture() -> list[dict[str, Any]]:
    rng = random.Random(SEED)
    made = []
    for _ in range(SEQUENCES):
        events, page = sequence(rng), FrontEnd()
        for event in events:
            page.happens(event)
        made.append({"events": events, "cells": page.notebook()})
    return made


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(s, separators=(",", ":")) for s in fixture())
    FIXTURE.write_text(f"[\n{lines}\n]\n")
