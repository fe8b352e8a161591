"""What a person is asked before code spends money: who answers, who cannot, and what is kept."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm import questions as module
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import DSVMError, NotAllowed, NotFound
from jupyter_dsvm.models import Price
from jupyter_dsvm.questions import KEPT_SECONDS, KeptAnswers, Questions, question_of
from support.fakes import dsvm

PRICE = Price(0.53, "USD", "2026-01-01T00:00:00Z")
VM = dsvm("gpu-vm", price=PRICE)
REFUSED = NotAllowed("Code may not.", advice="Use the panel.")


class Cell:
    """A call that asks, on a thread of its own, as ``calls`` does."""

    def __init__(self, questions: Questions, kernel: str = "k1", path: str | None = "a.ipynb", **more: Any) -> None:
        self.cancel = Cancel()
        self.page_is_open = True
        self.needless = False
        self.asking = threading.Event()
        self.error: BaseException | None = None
        self.question = question_of(more.get("kind", "start"), more.get("compute", VM), kernel, path, True, "it")
        self._about = more.get("about", "")
        self._questions = questions
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._questions.ask(
                self.question,
                self._about,
                "gpu-vm",
                self.cancel,
                lambda: self.page_is_open,
                lambda: self.needless,
                REFUSED,
                self.asking.set,
            )
        except BaseException as e:
            self.error = e

    def ended(self) -> DSVMError | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.error is None or isinstance(self.error, DSVMError)
        return self.error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()


@pytest.fixture
def bumps() -> list[str]:
    return []


@pytest.fixture
def questions(bumps: list[str], tmp_path: Path) -> Iterator[Questions]:
    made = Questions(bumps.append, tmp_path / "data" / "answers.json", look_seconds=0.01)
    yield made
    made.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_yes_is_kept_with_its_price(questions: Questions, bumps: list[str], tmp_path: Path) -> None:
    cell = Cell(questions)
    until(questions.open)
    assert cell.asking.is_set()
    questions.answer(cell.question.id, True)
    assert cell.ended() is None
    assert bumps == [cell.question.id] * 2  # it is there, it is not
    assert questions.open() == []
    file = tmp_path / "data" / "answers.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (row,) = json.loads(file.read_text())
    assert (row["path"], row["compute"], row["kind"], row["price"]) == ("a.ipynb", VM.id, "start", [0.53, "USD"])
    again = Cell(questions)
    assert again.ended() is None
    assert not again.asking.is_set()


@pytest.mark.parametrize(
    "other",
    [
        {"path": "b.ipynb"},
        {"compute": dsvm("cpu-vm", price=PRICE)},
        {"compute": replace(VM, price=replace(PRICE, amount=0.54))},
        {"compute": replace(VM, price=replace(PRICE, currency="EUR"))},
        {"compute": replace(VM, price=None)},
        {"kind": "resize", "about": "Standard_NC4as_T4_v3"},
    ],
    ids=["notebook", "machine", "price", "currency", "no price", "kind"],
)
def test_a_yes_is_for_nothing_else(questions: Questions, other: dict[str, Any]) -> None:
    questions._kept.keep("a.ipynb", VM.id, "start", PRICE)
    cell = Cell(questions, **other)
    until(questions.open)
    questions.answer(cell.question.id, False)
    assert cell.ended().code == "SaidNo"


def test_a_cheaper_price_is_covered_and_a_notebook_without_a_path_is_asked_every_time(questions: Questions) -> None:
    questions._kept.keep("a.ipynb", VM.id, "start", PRICE)
    assert Cell(questions, compute=replace(VM, price=replace(PRICE, amount=0.5))).ended() is None
    for _ in range(2):
        cell = Cell(questions, path=None)
        until(questions.open)
        questions.answer(cell.question.id, True)
        assert cell.ended() is None


def test_it_is_asked_again_after_thirty_days(tmp_path: Path) -> None:
    now = [1_000_000.0]
    kept = KeptAnswers(tmp_path / "answers.json", lambda: now[0])
    kept.keep("a.ipynb", VM.id, "start", PRICE)
    now[0] += KEPT_SECONDS - 1
    assert kept.holds("a.ipynb", VM.id, "start", PRICE)
    now[0] += 2
    assert not kept.holds("a.ipynb", VM.id, "start", PRICE)


@pytest.mark.parametrize(
    "content", ["", "nonsense", "{}", "[1]", '[{"path": 1}]', '[{"path": "a.ipynb", "compute": "x", "kind": "start"}]']
)
def test_a_file_that_says_something_else_allows_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "answers.json"
    file.write_text(content)
    kept = KeptAnswers(file)
    assert not kept.holds("a.ipynb", VM.id, "start", PRICE)
    kept.keep("a.ipynb", VM.id, "start", PRICE)
    assert kept.holds("a.ipynb", VM.id, "start", PRICE)
    odd = [{"path": "a.ipynb", "compute": VM.id, "kind": "start", "price": p, "at": time.time()} for p in (1, [1], "x")]
    file.write_text(json.dumps(odd))
    assert not kept.holds("a.ipynb", VM.id, "start", PRICE)


def test_a_disk_that_takes_nothing_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = KeptAnswers(tmp_path / "file" / "answers.json")
    kept.keep("a.ipynb", VM.id, "start", PRICE)
    assert not kept.holds("a.ipynb", VM.id, "start", PRICE)


def test_a_renamed_notebook_takes_its_answers_along(questions: Questions) -> None:
    questions._kept.keep("a.ipynb", VM.id, "start", PRICE)
    questions._kept.keep("b.ipynb", VM.id, "resize:x", PRICE)
    questions.renamed({"a.ipynb": "b.ipynb"})
    assert questions._kept.holds("b.ipynb", VM.id, "start", PRICE)
    assert not questions._kept.holds("a.ipynb", VM.id, "start", PRICE)
    assert not questions._kept.holds("b.ipynb", VM.id, "resize:x", PRICE)  # it was another notebook's


def test_the_first_answer_counts(questions: Questions) -> None:
    cell = Cell(questions)
    until(questions.open)
    questions.answer(cell.question.id, False)
    with pytest.raises(NotFound):
        questions.answer(cell.question.id, True)
    error = cell.ended()
    assert error.message == "The question about gpu-vm was answered with “Not now”, so nothing was started."
    with pytest.raises(NotFound):
        questions.answer("nothing", True)


def test_a_no_cannot_be_worn_down_by_a_loop(questions: Questions) -> None:
    cell = Cell(questions)
    until(questions.open)
    questions.answer(cell.question.id, False)
    cell.ended()
    again = Cell(questions)
    assert again.ended().code == "SaidNo"
    assert not again.asking.is_set()


def test_one_question_at_a_time_for_a_kernel_and_an_end_to_all(
    questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    first = Cell(questions)
    until(questions.open)
    assert Cell(questions, compute=dsvm("cpu-vm")).ended().code == "QuestionOpen"
    second = Cell(questions, kernel="k2")
    until(lambda: len(questions.open()) == 2)
    assert Cell(questions, kernel="k3").ended().code == "QuestionOpen"
    for cell in (first, second):
        cell.cancel.set()
        assert cell.ended().code == "Cancelled"


def test_the_page_may_reload_but_not_go_away(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GONE_SECONDS", 0.3)
    cell = Cell(questions)
    until(questions.open)
    cell.page_is_open = False
    time.sleep(0.1)
    cell.page_is_open = True
    time.sleep(0.4)
    assert cell.waits
    cell.page_is_open = False
    assert cell.ended().code == "PageClosed"
    assert "nothing was started" in cell.ended().message


def test_a_page_that_shows_no_questions_is_none(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEEN_SECONDS", 0.1)
    assert Cell(questions).ended() is REFUSED


def test_nobody_waits_for_ever(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    cell = Cell(questions)
    until(questions.open)
    assert cell.ended().code == "NotAnswered"
    assert questions.open() == []


def test_a_machine_that_somebody_has_started_meanwhile_needs_no_answer(questions: Questions) -> None:
    cell = Cell(questions)
    until(questions.open)
    cell.needless = True
    assert cell.ended() is None
    assert not questions._kept.holds("a.ipynb", VM.id, "start", PRICE)  # nobody has said yes


def test_the_end_of_the_server_ends_the_waiting(questions: Questions) -> None:
    cell = Cell(questions)
    until(questions.open)
    questions.close()
    assert cell.ended().code == "Cancelled"
    assert Cell(questions, kernel="k2").ended().code == "Cancelled"
