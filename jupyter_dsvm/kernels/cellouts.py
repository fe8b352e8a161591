"""What one execution of a cell has put out, as JupyterLab's front end would hold it in the notebook. Pure.

The rules are those of @jupyterlab/outputarea (``OutputAreaModel`` in src/model.ts, ``OutputArea._onIOPub`` in src/widget.ts):

- A stream joins the output before it where that is a stream of the same name (``streamtext`` has what happens to its text);
- ``clear_output(wait=True)`` clears with the next output, and until then nothing joins what stands there;
- an update of a display takes the place of each output that was displayed under its id, where that stands;
- its ``maxNumberOutputs`` is about what is shown, not about what the notebook holds, so it plays no part here.

``tests/test_cellouts.py`` and ``labextension/src/__tests__/outputs.spec.ts`` hold this against a model and against the real one.

What is beyond ``limit`` bytes is left out, message by message, and counted; a *note* stands where the first of it would have stood.
Errors still find some room after it. A cell that clears its outputs begins anew.

The bodies of outputs may be taken away once they are written somewhere (``Output.body``, ``StreamText.forget_finished``): nothing
here reads them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .streamtext import StreamText

OVERHEAD = 512
"""Bytes that an output counts for beside its body."""
ERRORS = 1024 * 1024
"""Bytes of errors that are kept beyond the limit."""

STREAM, DISPLAY, RESULT, ERROR, NOTE = "stream", "display_data", "execute_result", "error", "note"


@dataclass(eq=False)
class Output:
    kind: str
    version: int
    size: int
    """Bytes that it counts for."""
    body: bytes | None = None
    """The content of the kernel's message, JSON; None for a stream, and once it is written."""
    text: StreamText | None = None
    name: str = ""
    """Of a stream."""
    ids: list[str] = field(default_factory=list)
    """Under which it was displayed."""
    place: int = 0
    """Among the outputs of the cell."""


@dataclass
class Cut:
    """What was left out."""

    messages: int = 0
    bytes: int = 0


class CellOutputs:
    def __init__(self, limit: int) -> None:
        self.outputs: list[Output] = []
        self.limit = limit
        self.size = 0
        self.cut: Cut | None = None
        self.full = False
        """There is no room for more, whatever the limit says."""
        self.clear_next = False
        self.last_stream = ""
        self.rewritten = False
        """Outputs that were written before are not there any more."""
        self.dirty: dict[int, Output] = {}
        """By their places, those that have changed since they were written."""
        self._shown: dict[str, list[Output]] = {}
        self._note_there: Output | None = None

    def restore(self, outputs: list[Output], cut: Cut | None) -> None:
        """As they were written."""
        self.outputs, self.cut = outputs, cut
        self.size = sum(o.size for o in outputs)
        for output in outputs:
            for display_id in output.ids:
                self._shown.setdefault(display_id, []).append(output)
            if output.kind == NOTE:
                self._note_there = output

    # What the kernel says

    def stream(self, name: str, text: str, version: int) -> None:
        self._cleared_by_this()
        joins = bool(self.outputs) and name == self.last_stream
        if not self._has_room(len(text) + (0 if joins else OVERHEAD), len(text), version):
            return
        if not joins:
            self._append(Output(STREAM, version, OVERHEAD, text=StreamText(), name=name))
            self.last_stream = name
        output = self.outputs[-1]
        assert output.text is not None
        output.text.add(text)
        self._resize(output, OVERHEAD + output.text.size)
        self._changed(output, version)

    def add(self, kind: str, body: bytes, version: int, display_id: str = "") -> None:
        """A display, a result or an error."""
        self._cleared_by_this()
        if not self._has_room(len(body) + OVERHEAD, len(body), version, ERRORS if kind == ERROR else 0):
            return
        output = Output(kind, version, len(body) + OVERHEAD, body)
        if display_id and kind == DISPLAY:
            output.ids.append(display_id)
            self._shown.setdefault(display_id, []).append(output)
        self._append(output)
        self.last_stream = ""

    def update(self, display_id: str, body: bytes, version: int) -> bool:
        """Whether that is displayed here."""
        shown = self._shown.get(display_id, ())
        for output in shown:
            size = len(body) + OVERHEAD
            if self.size - output.size + size > self.limit:
                self._left_out(len(body), version)
                break
            output.kind, output.body = DISPLAY, body
            self._resize(output, size)
            self._changed(output, version)
        return bool(shown)

    def clear(self, wait: bool) -> bool:
        """Whether that has changed anything."""
        self.last_stream = ""
        if wait:
            self.clear_next = True
            return False
        had = bool(self.outputs)
        self.outputs.clear()
        self.dirty.clear()
        self._shown.clear()
        self._note_there = self.cut = None
        self.size = 0
        self.full = False
        self.rewritten = True
        return had

    def leave_out(self, length: int, version: int, messages: int = 1) -> None:
        """So many bytes of outputs are not looked at."""
        self._cleared_by_this()
        self._left_out(length, version, messages)

    # Room

    def give_up(self, version: int) -> None:
        """Room is needed for other cells: nothing of it is kept but how much it was."""
        cut = self.cut or Cut()
        for output in self.outputs:
            if output.kind != NOTE:
                cut.messages += 1
                cut.bytes += output.size
        wait, self.clear_next = self.clear_next, False
        self.clear(wait=False)
        self.clear_next = wait
        self.full = True
        self.cut = cut
        self._note(version)

    def _has_room(self, size: int, length: int, version: int, beyond: int = 0) -> bool:
        if self.size + size <= self.limit + beyond and (beyond or not (self.full or self.cut)):
            return True
        self._left_out(length, version)
        return False

    def _left_out(self, length: int, version: int, messages: int = 1) -> None:
        if self.cut is None:
            self.cut = Cut()
        self.cut.messages += messages
        self.cut.bytes += length
        if self._note_there is None:
            self._note(version)
        else:
            self._changed(self._note_there, version)

    def _note(self, version: int) -> None:
        self._note_there = Output(NOTE, version, OVERHEAD)
        self._append(self._note_there)
        self.last_stream = ""

    # Bookkeeping

    @property
    def unwritten(self) -> int:
        """Bytes that are kept here until they are written."""
        return sum(o.size for o in self.dirty.values())

    def forget_displays(self) -> None:
        self._shown.clear()
        for output in self.outputs:
            output.ids.clear()

    def _cleared_by_this(self) -> None:
        if self.clear_next:
            self.clear(wait=False)
            self.clear_next = False

    def _append(self, output: Output) -> None:
        output.place = len(self.outputs)
        self.dirty[output.place] = output
        self.outputs.append(output)
        self.size += output.size

    def _resize(self, output: Output, size: int) -> None:
        self.size += size - output.size
        output.size = size

    def _changed(self, output: Output, version: int) -> None:
        output.version = version
        self.dirty[output.place] = output
