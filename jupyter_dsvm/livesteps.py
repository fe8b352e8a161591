"""How a long line of ``%dsvm`` looks in its cell while it goes on: the operation's steps, as text and as HTML. Pure.

``calls`` makes a ``LiveSteps`` for each operation that it waits for, and sends what it gives to the magic, which shows it in
one place of the cell where the front end can, and as lines where it cannot. With each picture goes what the magic shows
if nothing more comes: a cell that was interrupted or lost its server keeps no picture of something in progress.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .models import Operation, OperationState, Step, StepState
from .richtext import escaped
from .tables import place

MARKS = {
    StepState.DONE: ("✓", "done"),
    StepState.RUNNING: ("▸", "running"),
    StepState.PENDING: ("·", "to come"),
    StepState.FAILED: ("✗", "failed"),
}
STOPPED = ("■", "stopped")


@dataclass(frozen=True)
class Line:
    mark: str
    meaning: str
    """The mark in words, for a screen reader."""
    text: str
    note: str = ""


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def picture(lines: Sequence[Line], notes: Sequence[str] = ()) -> dict[str, str]:
    """``{"text", "html"}``. Names in it come from a cloud: all of it is escaped."""
    text = "\n".join(f"{line.mark} {line.text}{f' ({line.note})' if line.note else ''}" for line in lines)
    rows = "".join(
        f'<li><span role="img" aria-label="{html.escape(line.meaning)}" style="display: inline-block; width: 1.3em">'
        f"{line.mark}</span> {escaped(line.text)}"
        f"{f' <small>({escaped(line.note)})</small>' if line.note else ''}</li>"
        for line in lines
    )
    return {
        "text": "\n".join([text, *notes]),
        "html": f'<ul style="list-style: none; margin: 0; padding: 0">{rows}</ul>{as_html(*notes)}',
    }


def as_html(*lines: str) -> str:
    return "".join(f"<div>{escaped(line)}</div>" for line in lines)


class LiveSteps:
    """Of one operation. Made when it begins, and told of every change of it."""

    def __init__(self, here: str, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """``here``: where the notebook runs, inside a sentence; ``name``: of the machine."""
        self._here = here
        self._name = name
        self._clock = clock
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def progress(
        self, operation: Operation, sentence: str, notes: Sequence[str] = (), starts: bool = False
    ) -> dict[str, Any]:
        """What is sent of it now. ``notes`` are sentences below the steps; ``starts``: its machine was asked to start."""
        now = self._clock()
        for step in operation.steps:
            if step.state is StepState.RUNNING:
                self._began.setdefault(step.name, now)
            elif step.name in self._began and step.name not in self._took:
                self._took[step.name] = now - self._began[step.name]
        # What will not come any more is not announced any more.
        begun = [s for s in operation.steps if s.state is not StepState.PENDING]
        goes_on = operation.state is OperationState.RUNNING
        ended = STOPPED if operation.state is OperationState.CANCELLED else MARKS[StepState.FAILED]
        marks = {**MARKS, StepState.FAILED: ended}
        stopped = {**marks, StepState.RUNNING: STOPPED}
        return {
            "text": sentence,
            "live": picture([self._line(s, marks[s.state]) for s in operation.steps if goes_on or s in begun], notes),
            "stopped": {
                **picture([self._line(s, stopped[s.state]) for s in begun], notes),
                "say": if_interrupted(operation, self._here, self._name, starts),
            },
        }

    def _line(self, step: Step, mark: tuple[str, str]) -> Line:
        text = step.text.rstrip(" .…") + ("…" if mark is MARKS[StepState.RUNNING] else "")
        took = self._took.get(step.name)
        return Line(*mark, text, duration(took) if took is not None and took >= 0.5 else "")


def waiting_for_answer(name: str) -> dict[str, Any]:
    """What is shown while a person is asked in the page, before there is an operation."""
    text = "Waiting for your answer in the page"
    return {
        "text": text,
        "live": picture([Line(*MARKS[StepState.RUNNING], text + "…")]),
        "stopped": {
            **picture([Line(*STOPPED, text)]),
            "say": f"Interrupted: the question in the page was taken back, and nothing was asked of {name}.",
        },
    }


def if_interrupted(operation: Operation, here: str, name: str, starts: bool) -> str:
    """What an interrupt of the cell comes to at this moment: what is kept, and what goes on all the same."""
    running = next((s.name for s in operation.steps if s.state is StepState.RUNNING), "")
    state = "goes on starting" if running in ("ask", "start", "boot") else "is on"
    billed = f"{name} {state} and is billed; %dsvm stop {name} releases it."
    if operation.kind in ("attach", "detach"):
        kept = f"Interrupted: the notebook stays on {here} with its variables."
        return f"{kept} {billed}" if starts and running != "ask" else kept
    if operation.kind == "sync":
        return "Interrupted: what has been copied stays, and the next sync goes on with the rest."
    if operation.kind == "start":
        return f"Interrupted: nobody waits for {name} any more. {billed}"
    if operation.kind == "resize":
        if running == "release":
            return f"Interrupted: {name} keeps its size, and is started again once it is released if it ran."
        return f"Interrupted: nobody waits for {name} any more, and Azure goes on with the change; %dsvm list shows how it ends."
    doing = {"stop": "stopping", "restart": "restarting"}.get(operation.kind, "with it on")
    return f"Interrupted: nobody waits any more, and Azure goes on {doing} {name}; %dsvm list shows how it ends."


def moved_text(compute_id: str, name: str, about: str, here: str, in_cell: bool, carries: bool = False) -> str:
    """The one line when an attach or detach is done. ``about``: size and price, where they are known. ``carries``: variables are
    still to go along, which what comes next says."""
    target = place(compute_id, name)
    told = f"{target} ({about})" if about else target
    if not in_cell:
        return f"This notebook moves to {told}. Variables {'go along' if carries else f'stay behind on {here}'}."
    variables = "Variables go along when it has ended" if carries else "Variables stayed behind"
    return f"The following cells run on {told}. The rest of this cell still runs on {here}. {variables}."


def said(text: str, notes: Sequence[str] = (), mentioned: Sequence[str] = ()) -> dict[str, Any]:
    """An answer of sentences, each note a line of its own. What was ``mentioned`` on the way is still there where lines were
    printed, and comes again where this takes the place of the steps."""
    lines = [text, *notes]
    shown = [text, *mentioned, *notes]
    return {"text": "\n".join(lines), "live": {"text": "\n".join(shown), "html": as_html(*shown)}}
