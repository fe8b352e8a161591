"""What the last execution of each cell of one kernel has put out: its messages in, in order, as they go to clients. Pure.

A cell is whatever the request's metadata name: JupyterLab, Notebook 7 and VS Code send ``cellId``; ``cell_id`` counts too. What
names none is not kept: requests of a console and of nbclient, and those of jupyter_server_nbmodel, which writes into the shared
document itself.

The latest request of a cell takes the place of the one before, also while that runs, as its output area takes the latest
future. What a thread still puts out after the end is added, as the front end does for a future that it still has. Updates of
displays go to every cell that shows that display, as @jupyterlab/services passes them round (``_handleDisplayId`` in
src/kernel/default.ts): also a new ``display_data`` updates those that were shown under its id before. With a
restart of the kernel they let go of all that: what comes late is not shown, and no display is known any more.

What an ``Output`` widget of ipywidgets captures is not the cell's: while the widget's ``msg_id`` names a request, its front end
(``OutputModel`` of @jupyter-widgets/output) takes all that is said about that. It has a run of its own here, as long as its comm.

A reply with a page of help (``?``) and the echo of what was typed for ``input()`` are outputs too: the front end makes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from .cellouts import DISPLAY, ERROR, RESULT, CellOutputs
from .cellruns import GONE, WIDGET, Run, State
from .hearing import OUTPUTS
from .messages import MAX_CONTENT, Message

COMMS = {"comm_open", "comm_msg", "comm_close"}

MAX_RUNS = 10_000
"""Cells of one kernel."""
MAX_NAME = 1024
"""Characters of a cell's id, and of other names."""
MAX_SOURCE = 256 * 1024
"""Characters of a cell's source that are kept."""
MAX_DISPLAYS = 100_000
"""Displays that are known by id."""
LIMIT = 64 * 1024 * 1024
"""Bytes that are kept for one kernel."""
CELL_PART = 4
"""One cell may take that part of it."""
MAX_READ = 64 * 1024 * 1024
"""Bytes of a display from a kernel here that is read in order to see its id."""
HIDDEN = "········"
"""What the front end shows in the place of a password."""

_NO_ID = re.compile(rb'"transient"\s*:\s*(\{\s*\}|null)\s*\}\s*$')
"""The content of a display that has no id, seen from its end: nothing but its own last member can look like this."""


class CellBook:
    def __init__(self, version: int = 0, limit: int = LIMIT) -> None:
        """``version``: where its versions begin."""
        self.version = version
        self.runs: dict[str, Run] = {}
        """By the id of the request. In the order of arrival."""
        self.cells: dict[str, Run] = {}
        self.dirty: dict[str, Run] = {}
        """Runs that have changed since they were written."""
        self.dropped: list[int] = []
        """Where runs are written that are not kept any more."""
        self.displays: dict[str, list[str]] = {}
        """By display id, the requests that showed it."""
        self.displays_forgotten = False
        """Since it was written."""
        self.captures: dict[str, str] = {}
        """By the comm of an Output widget, the request of whose outputs it takes now. The latest last."""
        self._limit = limit
        self._per_cell = limit // CELL_PART
        self._size = 0

    # What happens. Raises MalformedMessage for what no client could read

    def requested(self, message: Message) -> None:
        """An ``execute_request`` of a client has come."""
        content, metadata, msg_id = message.content, message.metadata, message.id
        cell = metadata.get("cellId") or metadata.get("cell_id")
        code = content.get("code")
        if not isinstance(cell, str) or len(cell) > MAX_NAME or not isinstance(code, str) or content.get("silent"):
            return
        if not msg_id or msg_id in self.runs:
            return
        before = self.cells.get(cell)
        if before is not None:
            self._drop(before)
        session = message.header.get("session")
        run = Run(
            cell,
            msg_id,
            session[:MAX_NAME] if isinstance(session, str) else "",
            code if len(code) <= MAX_SOURCE else None,
            hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest(),
            CellOutputs(self._per_cell),
            self.version,
        )
        self.cells[cell] = self.runs[msg_id] = run
        self._now(run)
        self._grown(run, 0)
        while len(self.runs) > MAX_RUNS:
            self._drop(next(iter(self.runs.values())))

    def published(self, message: Message) -> None:
        """On IOPub, on its way to clients."""
        kind, run = message.type, self.runs.get(message.parent_id)
        if kind in COMMS:
            self._comm(kind, message)
            return
        if run is not None and run.let_go and kind in OUTPUTS:
            return
        if self.captures and kind in OUTPUTS:
            taker = next((c for c, m in reversed(self.captures.items()) if m == message.parent_id), None)
            if taker is not None:
                self._captured(self.runs[WIDGET + taker], kind, message)
                return
        if kind in (DISPLAY, RESULT, "update_display_data"):
            self._display(kind, run, message)
        elif run is not None:
            self._about(run, kind, message)

    def replied(self, message: Message) -> None:
        """An ``execute_reply``, on its way to who asked."""
        run = self.runs.get(message.parent_id)
        if run is None or run.replied or message.type != "execute_reply":
            return
        content = message.content
        status = content.get("status")
        run.replied = True
        run.status = status if status in ("ok", "error", "aborted") else None
        run.count = _count(content)
        run.ended = _date(message)
        if status == "ok" and not run.let_go:
            self._page(run, content.get("payload"))
        self._may_be_over(run)
        self._now(run)

    def asked(self, message: Message) -> None:
        """An ``input_request``, on its way to who asked for the execution."""
        run, content = self.runs.get(message.parent_id), message.content
        if run is not None:
            prompt = content.get("prompt")
            run.prompts.append((message.id, prompt if isinstance(prompt, str) else "", bool(content.get("password"))))
            self._now(run)

    def answered(self, message: Message) -> None:
        """An ``input_reply`` goes to the kernel."""
        value, waiting = message.content.get("value"), [r for r in self.runs.values() if r.prompts]
        if not isinstance(value, str):
            return
        # JupyterLab says which request it answers; most others do not.
        run = next(
            (r for r in waiting if any(p[0] == message.parent_id for p in r.prompts)), waiting[0] if waiting else None
        )
        if run is not None:
            _, prompt, password = run.prompts.pop(0)
            size = run.size
            run.outputs.stream("stdin", f"{prompt} {HIDDEN if password else value}\n", self._now(run))
            self._grown(run, size)

    def forget(self, msg_id: str) -> None:
        """Nobody wants that run's outputs any more. It is remembered that there was one, or an adopter would announce it again."""
        run = self.runs.get(msg_id)
        if run is None or run.cell.startswith((WIDGET, GONE)):
            return
        size = run.size
        del self.cells[run.cell]
        run.cell, run.source = GONE + msg_id, None
        self.cells[run.cell] = run
        run.outputs.clear(wait=False)
        run.outputs.full = True
        self._now(run)
        self._grown(run, size)

    def lost(self, message: Message, messages: int, length: int) -> None:
        """So many outputs about the same request as this message have not been looked at."""
        run = self.runs.get(message.parent_id)
        if run is not None:
            size = run.size
            run.outputs.leave_out(length, self._now(run), messages)
            self._grown(run, size)

    def restarted(self) -> None:
        """The kernel begins anew: front ends forget what they were told of displays."""
        self.displays.clear()
        self.displays_forgotten = True
        self.captures.clear()
        for run in self.runs.values():
            run.outputs.forget_displays()
            if not run.let_go:
                run.let_go = True
                self.dirty[run.msg_id] = run

    # Messages of a kernel

    def _comm(self, kind: str, message: Message) -> None:
        body = message.parts[message.at + 5]
        if kind == "comm_open" and b"OutputModel" in body:
            content = message.content
            state = _state(content)
            comm = content.get("comm_id")
            if state.get("_model_name") == "OutputModel" and isinstance(comm, str) and 0 < len(comm) <= MAX_NAME:
                name = WIDGET + comm
                if name not in self.runs:
                    run = Run(name, name, "", None, "", CellOutputs(self._per_cell), self.version, State.DONE)
                    self.cells[name] = self.runs[name] = run
                    self._now(run)
                    self._grown(run, 0)
                self._captures(comm, state)
        elif kind == "comm_msg" and b'"msg_id"' in body:
            comm = message.content.get("comm_id")
            if isinstance(comm, str) and WIDGET + comm in self.runs:
                self._captures(comm, _state(message.content))
        elif kind == "comm_close":
            closed = self.runs.get(WIDGET + str(message.content.get("comm_id")))
            if closed is not None:
                self._drop(closed)

    def _captures(self, comm: str, state: dict[str, Any]) -> None:
        if "msg_id" in state:
            self.captures.pop(comm, None)
            if isinstance(state["msg_id"], str) and state["msg_id"]:
                self.captures[comm] = state["msg_id"]
            self.dirty[WIDGET + comm] = self.runs[WIDGET + comm]

    def _captured(self, run: Run, kind: str, message: Message) -> None:
        if kind in (DISPLAY, RESULT, "update_display_data"):
            self._display(kind, None, message)  # first they go round, whoever takes them
        if kind in (DISPLAY, RESULT):
            size = run.size
            run.outputs.add(kind, bytes(message.parts[message.at + 5]), self._now(run))
            self._grown(run, size)
        elif kind != "update_display_data":
            self._about(run, kind, message)

    def _about(self, run: Run, kind: str, message: Message) -> None:
        size = run.size
        if kind == "stream":
            if self._too_long(run, message):
                return
            name, text = message.content.get("name"), message.content.get("text")
            if not isinstance(name, str) or not isinstance(text, str):
                return
            run.outputs.stream(name[:MAX_NAME], text, self._now(run))
        elif kind == ERROR:
            run.outputs.add(ERROR, bytes(message.parts[message.at + 5]), self._now(run))
        elif kind == "clear_output":
            if not run.outputs.clear(bool(message.content.get("wait"))):
                self.dirty[run.msg_id] = run  # what is remembered of the last stream is written, too
                return
            self._now(run)
        elif kind == "status":
            state = message.content.get("execution_state")
            if state == "busy" and run.state is State.QUEUED:
                run.state, run.started = State.RUNNING, _date(message)
            elif state == "idle" and not run.idle:
                run.idle = True
                self._may_be_over(run)
            else:
                return
            self._now(run)
        elif kind == "execute_input":
            run.count = _count(message.content) or run.count
            if run.state is State.QUEUED:
                run.state, run.started = State.RUNNING, _date(message)
            self._now(run)
        else:
            return
        self._grown(run, size)

    def _display(self, kind: str, run: Run | None, message: Message) -> None:
        body = bytes(message.parts[message.at + 5])
        display_id = _display_id(message, body)
        if display_id:
            for msg_id in self.displays.get(display_id, ()):
                shown = self.runs.get(msg_id)
                if shown is not None:
                    size, version = shown.size, self.version + 1
                    if shown.outputs.update(display_id, body, version):
                        self._now(shown)
                        self._grown(shown, size)
        if run is None or kind == "update_display_data":
            return
        if display_id and len(self.displays) < MAX_DISPLAYS:
            parents = [m for m in self.displays.get(display_id, ()) if m in self.runs and m != run.msg_id]
            self.displays[display_id] = [*parents, run.msg_id]
        size = run.size
        run.outputs.add(kind, body, self._now(run), display_id)
        self._grown(run, size)

    def _page(self, run: Run, payload: Any) -> None:
        """The front end shows the first page of help that a reply carries."""
        pages = (
            [p for p in payload if isinstance(p, dict) and p.get("source") == "page"]
            if isinstance(payload, list)
            else []
        )
        if pages:
            size = run.size
            data = pages[0].get("data")
            body = json.dumps({"data": data if isinstance(data, dict) else {}, "metadata": {}}).encode()
            run.outputs.add(DISPLAY, body, self._now(run))
            self._grown(run, size)

    @staticmethod
    def _may_be_over(run: Run) -> None:
        if run.replied and run.idle:
            run.state = State.ABORTED if run.status == "aborted" else State.DONE
            run.prompts.clear()

    def _too_long(self, run: Run, message: Message) -> bool:
        """So long that it is not read, since it would be left out anyway."""
        length = len(message.parts[message.at + 5])
        # Escaped, a character takes six bytes. What is longer than may be read of a VM's message is not.
        if length <= (MAX_CONTENT if message.bounded else max(MAX_CONTENT, 6 * self._per_cell)):
            return False
        run.outputs.leave_out(length, self._now(run))
        return True

    # Versions and room

    def _now(self, run: Run) -> int:
        self.version += 1
        run.version = self.version
        self.dirty[run.msg_id] = run
        return self.version

    def _grown(self, run: Run, size: int) -> None:
        """It had that size before."""
        self._size += run.size - size
        if self._size > self._limit:
            self._make_room(run)

    def _make_room(self, newest: Run) -> None:
        """Those that ended first give up what they have; if that is not enough, what grows now gets no more."""
        others = [
            r for r in self.runs.values() if r.over and r is not newest and not r.outputs.full and r.outputs.outputs
        ]
        for run in sorted(others, key=lambda r: r.version):
            if self._size <= self._limit * 7 // 8:
                return
            self.give_up(run)
        for run in [r for r in self.runs.values() if r.outputs.full and r.over and r is not newest]:
            if self._size <= self._limit:
                return
            self._drop(run)  # many long sources
        if self._size > self._limit:
            newest.outputs.full = True

    def give_up(self, run: Run) -> None:
        """Nothing of its outputs is kept but how much they were."""
        size = run.size
        run.outputs.give_up(self._now(run))
        self._size += run.size - size

    def _drop(self, run: Run) -> None:
        self._size -= run.size
        del self.runs[run.msg_id], self.cells[run.cell]
        if run.cell.startswith(WIDGET):
            self.captures.pop(run.cell[1:], None)
        self.dirty.pop(run.msg_id, None)
        if run.number:
            self.dropped.append(run.number)

    def restore(self, runs: list[Run], displays: dict[str, list[str]], captures: dict[str, str]) -> None:
        """As they were written."""
        for run in runs:
            self.cells[run.cell] = self.runs[run.msg_id] = run
            self._size += run.size
        self.displays = displays
        self.captures = {comm: msg_id for comm, msg_id in captures.items() if WIDGET + comm in self.runs}


def _state(content: dict[str, Any]) -> dict[str, Any]:
    """Of a widget, as a comm's message says it."""
    data = content.get("data")
    state = data.get("state") if isinstance(data, dict) else None
    return state if isinstance(state, dict) else {}


def _display_id(message: Message, body: bytes) -> str:
    if len(body) > 2048 and _NO_ID.search(body[-64:]) is not None:
        return ""
    if len(body) > (MAX_CONTENT if message.bounded else MAX_READ):
        return ""
    transient = message.content.get("transient")
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return display_id if isinstance(display_id, str) and len(display_id) <= MAX_NAME else ""


def _count(content: dict[str, Any]) -> int | None:
    count = content.get("execution_count")
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _date(message: Message) -> str | None:
    date = message.header.get("date")
    return date if isinstance(date, str) and len(date) <= 64 else None
