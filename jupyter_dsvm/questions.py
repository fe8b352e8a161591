"""What code wants to do and a person has to allow first: start something that is billed, or load what a VM sends.

A line of ``%dsvm`` in a kernel of this server that would start or resize a machine comes here where ``kernel_may_start`` does
not allow it already, and a page has that kernel open; so does one that brings variables from a VM (``carry_calls``). The question
is in ``GET questions`` until the first of these::

    asked ── yes, in any page ──────────────→ goes on, and the yes is kept
          ── no, in any page ───────────────→ refused
          ── the cell was interrupted ──────→ cancelled
          ── it runs already ───────────────→ goes on: nothing is spent any more by it
          ── no page has fetched it in time → refused as without a page: what is open there shows no questions
          ── the last page has gone ────────→ refused, after a while in which it may be reloaded
          ── nobody has answered ───────────→ refused

A yes is kept for the notebook (its path, in this user's data folder, 0600), the machine and what was asked, with its price:
it is asked again when that has risen or is not known any more, and after 30 days. Where nobody knows the notebook, it is not kept.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .compute.provider import Cancel
from .errors import Cancelled, DSVMError, NotAllowed, NotFound
from .models import Compute, Price, Question

log = logging.getLogger("jupyter_dsvm.questions")

ANSWER_SECONDS = 600.0
SEEN_SECONDS = 30.0
"""Within which some page must have fetched a question: one that is open has the event at once, or asks when it is back."""
GONE_SECONDS = 30.0
"""How long every page may be away: that is a reload, or a network that changes."""
LOOK_SECONDS = 0.2
REFUSED_SECONDS = 10.0
"""A loop in a cell must not be able to ask without an end: so long a no counts for the same question again."""
KEPT_SECONDS = 30 * 24 * 3600.0
MAX_KEPT = 1000
MAX_FILE = 1024 * 1024
MAX_OPEN = 20


@dataclass
class _Asked:
    question: Question
    answered: threading.Event = field(default_factory=threading.Event)
    answer: bool | None = None
    seen: bool = False


class Questions:
    def __init__(
        self,
        changed: Callable[[str], None],
        file: Path | None,
        clock: Callable[[], float] = time.time,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """``changed`` is called with a question's id when there is one more or less; ``file`` None keeps a yes in this process."""
        self._changed = changed
        self._kept = KeptAnswers(file, clock)
        self._clock = clock
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked] = {}
        self._refused: dict[tuple[str, str, str], float] = {}
        self._closed = False

    # The page's side, on any thread

    def open(self) -> list[Question]:
        """Those that wait for an answer, oldest first; from now on they count as seen."""
        with self._lock:
            for asked in self._asked.values():
                asked.seen = True
            return [a.question for a in self._asked.values()]

    def answer(self, question_id: str, yes: bool) -> None:
        """The first answer counts. Raises ``NotFound`` for one that is answered or taken back."""
        with self._lock:
            asked = self._asked.get(question_id)
            if asked is None or asked.answer is not None:
                raise NotFound(
                    "This question does not wait for an answer any more.",
                    advice="It was answered in another page, or its cell was interrupted.",
                    code="UnknownQuestion",
                )
            asked.answer = yes
        asked.answered.set()

    def renamed(self, paths: Mapping[str, str]) -> None:
        """Notebooks have other paths, by their old ones: what was kept for them goes along. Blocks for a small file."""
        self._kept.rename(paths)

    # The cell's side: blocks

    def ask(
        self,
        question: Question,
        about: str,
        name: str,
        cancel: Cancel,
        page_is_open: Callable[[], bool],
        needless: Callable[[], bool],
        without_page: DSVMError,
        asking: Callable[[], None],
        keep: bool = True,
    ) -> None:
        """Return when a person has said yes, now or before. Raises ``NotAllowed`` or ``Cancelled`` with one clear sentence.

        ``about``: what besides kind, notebook and machine a kept yes is for (a size); ``name``: of the machine, for messages;
        ``needless``: whether what is asked for is so already; ``without_page``: why code may not do it by itself;
        ``asking`` is called once the question is about to be shown. Not ``keep``: whoever asks keeps the yes.
        """
        kind = f"{question.kind}:{about}" if about else question.kind
        if (
            keep
            and question.path is not None
            and self._kept.holds(question.path, question.compute, kind, question.price)
        ):
            return
        refusal = (question.kernel, question.compute, kind)
        with self._lock:
            if self._clock() - self._refused.get(refusal, float("-inf")) < REFUSED_SECONDS:
                raise _said_no(name)
            if len(self._asked) >= MAX_OPEN or any(a.question.kernel == question.kernel for a in self._asked.values()):
                raise NotAllowed(
                    "Another question of this notebook waits for an answer in the page.",
                    advice="Answer that one first.",
                    code="QuestionOpen",
                )
            if self._closed:
                raise Cancelled("The server is stopping.")
            asked = self._asked[question.id] = _Asked(question)
        try:
            asking()
            self._changed(question.id)
            yes = self._wait(asked, name, cancel, page_is_open, needless, without_page)
        finally:
            with self._lock:
                del self._asked[question.id]
            self._changed(question.id)
        if not yes:
            with self._lock:
                now = self._clock()
                self._refused = {k: at for k, at in self._refused.items() if now - at < REFUSED_SECONDS}
                self._refused[refusal] = now
            raise _said_no(name)
        if asked.answer and keep and question.path is not None:
            self._kept.keep(question.path, question.compute, kind, question.price)

    def _wait(
        self,
        asked: _Asked,
        name: str,
        cancel: Cancel,
        page_is_open: Callable[[], bool],
        needless: Callable[[], bool],
        without_page: DSVMError,
    ) -> bool:
        began = last_page = time.monotonic()
        while not asked.answered.wait(self._look_seconds):
            now = time.monotonic()
            if self._closed:
                raise Cancelled("The server is stopping.")
            if cancel.is_set():
                raise Cancelled(
                    f"The question in the page was taken back, and nothing was asked of {name}.",
                    advice="The notebook keeps the kernel it had.",
                )
            if needless():
                return True
            if page_is_open():
                last_page = now
            elif now - last_page > GONE_SECONDS:
                raise NotAllowed(
                    f"The page was closed before the question about {name} was answered, so nothing was started.",
                    advice="Run the cell again with the notebook open.",
                    code="PageClosed",
                )
            if not asked.seen and now - began > SEEN_SECONDS:
                raise without_page  # another kind of page, which shows no questions
            if now - began > ANSWER_SECONDS:
                raise NotAllowed(
                    f"Nobody has answered the question about {name} within {ANSWER_SECONDS / 60:.0f} minutes, so nothing "
                    "was started.",
                    advice="Run the cell again, and answer it in the page.",
                    code="NotAnswered",
                )
        return bool(asked.answer)

    def close(self) -> None:
        """The server stops: whoever waits stops waiting."""
        with self._lock:
            self._closed = True


def _said_no(name: str) -> Cancelled:
    return Cancelled(
        f"The question about {name} was answered with “Not now”, so nothing was started.",
        advice="Run the cell again to be asked again, or use the Compute panel.",
        code="SaidNo",
    )


def question_of(kind: str, compute: Compute, kernel: str, path: str | None, in_cell: bool, wants: str) -> Question:
    """The question as a page shows it. ``compute`` has the price that would be paid; ``wants`` ends "A cell of x.ipynb wants …"."""
    notebook = path.rpartition("/")[2] if path else "a notebook"
    text = f"{'A cell' if in_cell else 'Code'} of {notebook} wants {wants}."
    return Question(uuid.uuid4().hex, kind, kernel, path, compute.id, text, compute.price)


class KeptAnswers:
    """Every yes, in a file of this user's: notebook, machine, what was asked, price, moment. No secret, and nobody's but theirs."""

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: list[dict[str, Any]] = []

    def holds(self, path: str, compute: str, kind: str, price: Price | None) -> bool:
        """Whether a person has allowed this, at this price or more."""
        with self._lock:
            rows = self._read()
        return any(_same(r, path, compute, kind) and _covers(r.get("price"), price) for r in rows)

    def keep(self, path: str, compute: str, kind: str, price: Price | None) -> None:
        said = None if price is None else [price.amount, price.currency]
        row = {"path": path, "compute": compute, "kind": kind, "price": said, "at": self._clock()}
        with self._lock:
            self._write([r for r in self._read() if not _same(r, path, compute, kind)] + [row])

    def rename(self, paths: Mapping[str, str]) -> None:
        """By their old paths."""
        with self._lock:
            rows = self._read()
            moved = [{**r, "path": paths[r["path"]]} for r in rows if r["path"] in paths]
            if moved:
                # What was said for another notebook of that name is not this one's.
                left = {*paths, *(r["path"] for r in moved)}
                self._write([r for r in rows if r["path"] not in left] + moved)

    def _read(self) -> list[dict[str, Any]]:
        rows: Any = self._memory
        if self._file is not None:
            try:
                if self._file.stat().st_size > MAX_FILE:
                    return []
                rows = json.loads(self._file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return []  # then it is asked again
        now = self._clock()
        return [
            r
            for r in (rows if isinstance(rows, list) else ())
            if isinstance(r, dict)
            and all(isinstance(r.get(k), str) for k in ("path", "compute", "kind"))
            and isinstance(r.get("at"), (int, float))
            and 0 <= now - r["at"] < KEPT_SECONDS
        ]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        rows = rows[-MAX_KEPT:]
        if self._file is None:
            self._memory = rows
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as f:
                json.dump(rows, f)
            os.replace(new, self._file)
        except OSError as e:
            log.warning("An answer cannot be kept in %s, and will be asked for again: %s", self._file, e.strerror or e)


def _same(row: dict[str, Any], path: str, compute: str, kind: str) -> bool:
    return (row["path"], row["compute"], row["kind"]) == (path, compute, kind)


def _covers(said: Any, price: Price | None) -> bool:
    """A price that was not known was allowed as such, and one that is not known now is not what was allowed."""
    if said is None or price is None:
        return said is None and price is None
    return (
        isinstance(said, list)
        and len(said) == 2
        and isinstance(said[0], (int, float))
        and said[1] == price.currency
        and price.amount <= said[0] + 1e-9
    )
