"""The text of one stream output, as JupyterLab's output area would hold it: carriage returns and backspaces carried out. Pure.

What ``OutputAreaModel`` does (@jupyterlab/outputarea, ``processText`` in src/model.ts) in other words: there is a cursor in the
last line, and what is written there takes the place of what stands there. ``\\r`` goes back to the beginning of the line,
``\\b`` takes the character before the cursor away together with the one under it, and ``\\n`` goes to the end of the text and
begins a line. So nothing before the last line ever changes, which is what makes a long text cheap here.

JavaScript counts UTF-16 code units. A character beyond the first 65,536 therefore is two here as well, as long as it may be
overwritten.
"""

from __future__ import annotations

import re

SEALED = 64 * 1024
"""Characters of finished lines that are given out as one part and then not kept any more."""

_SPECIAL = re.compile("[\n\b\r]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class StreamText:
    def __init__(self, rest: str = "", column: int = 0, sealed: int = 0, size: int = 0) -> None:
        """As new, or as it was when it had that ``size`` and ``sealed`` parts of it were given out: then with what was not, and
        the cursor in its last line."""
        self.sealed = sealed
        units = _units(rest)
        head, newline, last = units.rpartition("\n")
        self._lines: list[str] = [head + newline] if newline else []
        self._lines_size = len(head) + len(newline)
        self._sealed_size = size - len(units) if sealed else 0
        self._line = last
        self._ends: list[str] = []
        """What came after ``_line`` with the cursor at its end."""
        self._ends_size = 0
        self.column = column

    @property
    def size(self) -> int:
        """Characters."""
        return self._sealed_size + self._lines_size + len(self._line) + self._ends_size

    def add(self, text: str) -> None:
        text = _units(text)
        if "\r" not in text and "\b" not in text and self.column == len(self._line) + self._ends_size:
            head, newline, last = text.rpartition("\n")
            if newline:
                self._finish(head + newline)
            self._append(last)
            return
        at = 0
        while True:
            found = _SPECIAL.search(text, at)
            self._write(text[at : found.start() if found else len(text)])
            if found is None:
                return
            at = found.end()
            char = found.group()
            if char == "\n":
                self._finish("\n")
            elif char == "\r":
                self.column = 0
            elif self.column:
                line = self._whole_line()
                self._line = line[: self.column - 1] + line[self.column + 1 :]
                self.column -= 1

    def _append(self, text: str) -> None:
        if text:
            self._ends.append(text)
            self._ends_size += len(text)
            self.column += len(text)

    def _write(self, text: str) -> None:
        if self.column == len(self._line) + self._ends_size:
            self._append(text)
        elif text:
            line = self._whole_line()
            self._line = line[: self.column] + text + line[self.column + len(text) :]
            self.column += len(text)

    def _finish(self, end: str) -> None:
        """The line as it is with that behind it is never changed again."""
        done = self._whole_line() + end
        self._lines.append(done)
        self._lines_size += len(done)
        self._line = ""
        self.column = 0

    def _whole_line(self) -> str:
        if self._ends:
            self._line += "".join(self._ends)
            self._ends.clear()
            self._ends_size = 0
        return self._line

    @property
    def finished(self) -> str:
        """The finished lines, once there are enough of them to be a part of their own; empty before."""
        return _characters("".join(self._lines)) if self._lines_size >= SEALED else ""

    @property
    def finished_size(self) -> int:
        """Characters."""
        return self._lines_size

    def forget_finished(self) -> None:
        """They were given out and are kept elsewhere: ``finished`` was not empty, and nothing has been added since."""
        self._lines.clear()
        self._sealed_size += self._lines_size
        self._lines_size = 0
        self.sealed += 1

    @property
    def line(self) -> str:
        """What comes after the finished lines."""
        return _characters(self._whole_line())

    @property
    def rest(self) -> str:
        """All that comes after the parts that were given out."""
        return _characters("".join(self._lines) + self._whole_line())


def _units(text: str) -> str:
    """Each UTF-16 code unit as a character."""
    if text.isascii() or _ASTRAL.search(text) is None:
        return text
    return "".join(map(chr, memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")))


def _characters(units: str) -> str:
    if units.isascii() or _SURROGATE.search(units) is None:
        return units
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
