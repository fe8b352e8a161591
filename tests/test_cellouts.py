"""What is kept of a cell's outputs is what a front end that watched all along holds: against a plain model of it, whose own judge
is the real one (``labextension/src/__tests__/outputs.spec.ts``)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.kernels import streamtext
from jupyter_dsvm.kernels.cellbook import CellBook
from jupyter_dsvm.kernels.cellruns import State
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.kernels.outputrows import output, row
from jupyter_dsvm.kernels.outputstore import OutputStore
from jupyter_dsvm.kernels.streamtext import StreamText
from support.outputarea import FIXTURE, FrontEnd, fixture, messages, process_text, sequence

TEXT = st.text(alphabet=st.sampled_from("ab\r\n\b😀é\ud83d"), max_size=12)
EVENTS = st.integers(0, 2**32).map(lambda seed: sequence(random.Random(seed)))


def tell(book: CellBook, event: dict[str, Any], bounded: bool = False) -> None:
    if event["do"] == "restart":
        book.restarted()
    for what, parts in messages(event):
        message = Message(parts, bounded)
        {
            "request": book.requested,
            "iopub": book.published,
            "reply": book.replied,
            "asks": book.asked,
            "typed": book.answered,
        }[what](message)


def rows(store: OutputStore, since: int = 0) -> dict[str, dict[str, Any]]:
    found, more = store.since(since, 0, 2**40, 2**40)
    assert not more
    return {r["cell"]: r for r in map(row, found)}


def notebook(store: OutputStore) -> dict[str, Any]:
    return {cell: json.loads(json.dumps(r["outputs"])) for cell, r in rows(store).items()}


# Text


@given(st.lists(TEXT, max_size=12))
def test_a_stream_is_what_the_front_end_makes_of_it(texts: list[str]) -> None:
    text, index, made = "", 0, StreamText()
    for piece in texts:
        text, index = process_text(index, piece, text)
        made.add(piece)
    assert made.rest == text


@given(st.lists(st.tuples(TEXT, st.booleans()), max_size=16))
def test_a_stream_that_is_written_in_parts_and_read_again_goes_on(pieces: list[tuple[str, bool]]) -> None:
    text, index, made = "", 0, StreamText()
    parts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamtext, "SEALED", 4)
        for piece, again in pieces:
            text, index = process_text(index, piece, text)
            made.add(piece)
            if made.finished:
                parts.append(made.finished)
                made.forget_finished()
            assert "".join(parts) + made.rest == text
            if again:
                made = StreamText(made.rest, made.column, made.sealed, made.size)
    assert made.sealed == len(parts)
    assert made.size == len(text.encode("utf-16-le", "surrogatepass")) // 2


# Sequences of messages


@given(EVENTS, st.randoms(use_true_random=False))
def test_what_is_kept_is_what_a_page_holds_that_watched_all_along(
    events: list[dict[str, Any]], rng: random.Random
) -> None:
    page, store = FrontEnd(), OutputStore(None)
    book = store.read(2**30)
    for event in events:
        page.happens(event)
        tell(book, event, bounded=rng.random() < 0.5)
        if rng.random() < 0.3:
            store.write(book, "", 0)
        if rng.random() < 0.1:  # whoever goes on has what was written
            store.write(book, "", 0)
            book = store.read(2**30)
    store.write(book, "", 0)
    assert notebook(store) == page.notebook()
    counts = {cell: r["execution_count"] for cell, r in rows(store).items()}
    assert counts == {cell: area.count for cell, area in page.cells.items()}
    store.close()


def brought_up_to_date(held: dict[str, list[Any]], r: dict[str, Any]) -> None:
    """As a page does it with a row."""
    kept, text, had = r["kept"], r["kept_text"], held.get(r["cell"], [])
    outputs = json.loads(json.dumps(r["outputs"]))
    if text:
        before = had[kept]["text"].encode("utf-16-le", "surrogatepass")[: 2 * text]
        outputs[0]["text"] = before.decode("utf-16-le", "surrogatepass") + outputs[0]["text"]
    held[r["cell"]] = [*had[:kept], *outputs]


@pytest.mark.parametrize("sealed", [4, streamtext.SEALED])
@given(EVENTS, st.randoms(use_true_random=False))
def test_who_asks_now_and_then_for_what_is_new_has_all_of_it(
    sealed: int, events: list[dict[str, Any]], rng: random.Random
) -> None:
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(OutputStore(None)) as store:
        patch.setattr(streamtext, "SEALED", sealed)
        page, book, since = FrontEnd(), store.read(2**30), 0
        held: dict[str, list[Any]] = {}
        for event in events:
            page.happens(event)
            tell(book, event)
            if rng.random() < 0.3:
                store.write(book, "", 0)
                after, more = since, True
                while more:
                    found, more = store.since(since, after, rng.choice([1, 10**9]), 2**30)
                    for r in map(row, found):
                        brought_up_to_date(held, r)
                        assert r["version"] > after
                        after = r["version"]
                    if rng.random() < 0.2:  # it goes on meanwhile
                        break
                else:
                    since = after
        store.write(book, "", 0)
        found, _ = store.since(since, 0, 2**40, 2**30)
        for r in map(row, found):
            brought_up_to_date(held, r)
        assert held == page.notebook()


def test_what_is_forgotten_is_not_announced_again_and_nothing_is_added() -> None:
    with contextlib.closing(OutputStore(None)) as store:
        book = store.read(2**30)
        for event in (execute(), printed("x")):
            tell(book, event)
        (run,) = book.runs
        book.forget(run)
        tell(book, printed("y"))
        store.write(book, "", 0)
        again = store.read(2**30)
        assert not any(cell in again.cells for cell in "a")
        assert list(again.runs) == [run]
        tell(again, execute())  # as an adopter does it with each request that it finds
        assert list(again.runs) == [run]
        assert [o.kind for o in again.runs[run].outputs.outputs] in ([], ["note"])


def test_of_a_long_text_that_grows_only_its_end_is_sent() -> None:
    with contextlib.closing(OutputStore(None)) as store:
        book = store.read(2**30)
        tell(book, execute())
        held: dict[str, list[Any]] = {}
        sent, since = [], 0
        for n in range(20):
            tell(book, printed(f"{n} 😀é\n" * 10_000))
            store.write(book, "", 0)
            found, _ = store.since(since, 0, 2**40, 2**30)
            (r,) = map(row, found)
            sent.append(len(r["outputs"][0]["text"]))
            brought_up_to_date(held, r)
            since = r["version"]
        assert held["a"][0]["text"] == "".join(f"{n} 😀é\n" * 10_000 for n in range(20))
        assert max(sent) < 150_000


def test_the_recorded_sequences_are_those_of_the_seed_and_what_is_kept_of_them_is_what_they_say() -> None:
    recorded = json.loads(FIXTURE.read_text())
    assert recorded == fixture()
    for case in recorded:
        store = OutputStore(None)
        book = store.read(2**30)
        for event in case["events"]:
            tell(book, event)
        store.write(book, "", 0)
        assert notebook(store) == case["cells"]
        store.close()


# What happens to a run


def one(*events: dict[str, Any], limit: int = 2**30) -> dict[str, Any]:
    """The row of the only cell, after these events."""
    store = OutputStore(None)
    book = store.read(limit)
    for event in events:
        tell(book, event)
    store.write(book, "", 0)
    found, _ = store.since(0, 0, 2**40, limit)
    store.close()
    return row(found[0])


def execute(cell: str = "a", run: str = "r1", **more: Any) -> dict[str, Any]:
    return {"do": "execute", "cell": cell, "run": run, **more}


def says(kind: str, content: dict[str, Any], run: str = "r1") -> dict[str, Any]:
    return {"do": "iopub", "run": run, "type": kind, "content": content}


def status(state: str, run: str = "r1") -> dict[str, Any]:
    return says("status", {"execution_state": state}, run)


def printed(text: str, run: str = "r1") -> dict[str, Any]:
    return says("stream", {"name": "stdout", "text": text}, run)


def replied(run: str = "r1", status: str = "ok", **content: Any) -> dict[str, Any]:
    return {"do": "reply", "run": run, "content": {"status": status, **content}}


def test_a_run_waits_runs_and_is_done_once_it_is_replied_to_and_idle() -> None:
    events = [execute(), status("busy"), replied(execution_count=3), status("idle"), printed("late")]
    seen = [one(*events[: n + 1]) for n in range(len(events))]
    assert [r["state"] for r in seen] == ["queued", "running", "running", "done", "done"]
    assert [r["execution_count"] for r in seen] == [None, None, 3, 3, 3]
    assert [r["started"] for r in seen] == [None, *["2026-01-01T00:00:00.000000Z"] * 4]
    assert [r["ended"] for r in seen] == [None, None, *["2026-01-01T00:00:00.000000Z"] * 3]
    assert seen[-1]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "late"}]
    assert seen[-1]["status"] == "ok"
    assert seen[-1]["session"] == "kernel"


def test_a_run_that_was_never_begun_is_aborted() -> None:
    row = one(execute(), status("busy"), replied(status="aborted"), status("idle"))
    assert (row["state"], row["status"], row["outputs"]) == (State.ABORTED.value, "aborted", [])


def test_the_source_is_kept_and_its_hash_where_it_is_too_long() -> None:
    row = one(execute(code="1 + 1"))
    assert (row["source"], row["source_sha256"]) == ("1 + 1", hashlib.sha256(b"1 + 1").hexdigest())
    assert one(execute(code="#" * 300_000))["source"] is None


@pytest.mark.parametrize(
    ("metadata", "content"),
    [
        ({}, {}),
        ({"cellId": 1}, {}),
        ({"cellId": "x" * 2000}, {}),
        ({"cellId": "a"}, {"silent": True}),
        ({"cellId": "a"}, {"code": 1}),
    ],
)
def test_what_is_no_cell_is_not_kept(metadata: dict[str, Any], content: dict[str, Any]) -> None:
    _, parts = messages(execute())[0]
    at = 1
    parts[at + 4], parts[at + 5] = json.dumps(metadata).encode(), json.dumps({"code": "1", **content}).encode()
    book = CellBook()
    book.requested(Message(parts))
    assert not book.runs


# Room


def test_what_does_not_fit_is_left_out_and_the_cell_says_so_and_its_error_is_there() -> None:
    big = says("display_data", {"data": {"text/plain": "x" * 3000}, "metadata": {}})
    error = says("error", {"ename": "E", "evalue": "v", "traceback": []})
    row = one(execute(), printed("begins"), *[big] * 10, printed("goes on"), error, limit=4 * 8000)
    kinds = [(o["output_type"], o.get("name")) for o in row["outputs"]]
    assert kinds == [
        ("stream", "stdout"),
        *[("display_data", None)] * 2,
        ("stream", "stderr"),
        ("error", None),
    ]
    assert row["cut"] == {"messages": 9, "bytes": row["cut"]["bytes"]}
    assert row["outputs"][3]["text"].startswith("\n[9 outputs (0.0 MB) of this cell were left out here")


def test_a_cell_that_clears_its_outputs_has_room_again() -> None:
    big = says("display_data", {"data": {"text/plain": "x" * 6000}, "metadata": {}})
    row = one(execute(), big, big, says("clear_output", {"wait": True}), big, limit=4 * 8000)
    assert [o["output_type"] for o in row["outputs"]] == ["display_data"]
    assert row["cut"] is None


def test_a_picture_that_grows_beyond_the_limit_stays_as_it_was() -> None:
    def shown(kind: str, size: int) -> dict[str, Any]:
        return says(kind, {"data": {"text/plain": "x" * size}, "metadata": {}, "transient": {"display_id": "p"}})

    row = one(execute(), shown("display_data", 10), shown("update_display_data", 9000), limit=4 * 8000)
    assert [len(o.get("data", {}).get("text/plain", "")) for o in row["outputs"]] == [10, 0]
    assert row["cut"] is not None
    assert row["cut"]["messages"] == 1


def test_the_cells_that_ended_first_give_up_theirs_for_others() -> None:
    store = OutputStore(None)
    limit = 40_000
    book = store.read(limit)
    for n in range(10):
        run = f"r{n}"
        for event in (execute(f"c{n}", run), printed("x" * 6000, run), replied(run), status("idle", run)):
            tell(book, event)
        if n % 3 == 0:
            store.write(book, "", 0)
    store.write(book, "", 0)
    found, _ = store.since(0, 0, 2**40, limit)
    made = {r["cell"]: r for r in map(row, found)}
    assert len(made) == 10
    cut = [cell for cell in sorted(made) if made[cell]["cut"]]
    assert cut == [f"c{n}" for n in range(len(cut))]
    assert 3 <= len(cut) <= 6
    assert made["c0"]["outputs"][0]["text"].startswith("\n[1 output (0.0 MB) of this cell was left out here")
    assert made["c9"]["outputs"][0]["text"] == "x" * 6000
    assert sum(r.size for r in book.runs.values()) == book._size <= limit
    store.close()


def test_what_no_client_could_read_is_a_sentence() -> None:
    for body in (b"{nonsense", b"[]", b'{"data": NaN}', b"[" * 100_000, b"{" + b"," * 3_000_000 + b"}"):
        assert "cannot be shown here" in output("display_data", "", body)["text"]
    assert output("display_data", "", b'{"data": 1}') == {"output_type": "display_data", "data": {}, "metadata": {}}


# The file


def test_the_file_outlives_its_process_and_belongs_to_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "k.sqlite3"
    store = OutputStore(path)
    book = store.read(2**30)
    for event in (execute(), printed("a"), says("clear_output", {"wait": True})):
        tell(book, event)
    store.write(book, "relay", 17)
    with pytest.raises(OSError, match="another process has"):
        OutputStore(path)
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = OutputStore(path)
    assert (again.source, again.number, again.version) == ("relay", 17, book.version)
    book = again.read(2**30)
    tell(book, printed("b"))
    again.write(book, "relay", 18)
    assert notebook(again) == {"a": [{"output_type": "stream", "name": "stdout", "text": "b"}]}
    again.remove()
    assert list(path.parent.iterdir()) == []


# Widgets


def comm(kind: str, run: str = "r1", **content: Any) -> dict[str, Any]:
    return says(f"comm_{kind}", {"comm_id": "w1", **content}, run)


def output_widget(msg_id: str = "") -> dict[str, Any]:
    state = {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output", "msg_id": msg_id, "outputs": []}
    return comm("open", target_name="jupyter.widget", data={"state": state})


def takes(msg_id: str) -> dict[str, Any]:
    return comm("msg", data={"method": "update", "state": {"msg_id": msg_id}, "buffer_paths": []})


@pytest.mark.parametrize("again", [False, True])
def test_what_a_widget_captures_is_the_widgets(again: bool) -> None:
    events = [
        execute(),
        printed("before\n"),
        output_widget(),
        takes("r1"),
        printed("one\n"),
        says("clear_output", {"wait": True}),
        printed("two\n"),
        says("display_data", {"data": {"text/plain": "shown"}, "metadata": {}, "transient": {"display_id": "p"}}),
        says("error", {"ename": "E", "evalue": "v", "traceback": []}),
        printed("of a callback\n", "somebody"),
        takes(""),
        printed("after\n"),
        replied(execution_count=1),
        status("idle"),
    ]
    with contextlib.closing(OutputStore(None)) as store:
        book = store.read(2**30)
        for event in events:
            tell(book, event)
            if again:
                store.write(book, "", 0)
                book = store.read(2**30)
        store.write(book, "", 0)
        found, _ = store.since(0, 0, 2**40, 2**30)
        cell, widget = sorted(map(row, found), key=lambda r: r["widget"] or "")
        assert (cell["cell"], cell["widget"], widget["cell"], widget["widget"]) == ("a", None, "", "w1")
        assert [o["text"] for o in cell["outputs"]] == ["before\nafter\n"]
        assert [o["output_type"] for o in widget["outputs"]] == ["stream", "display_data", "error"]
        assert widget["outputs"][0]["text"] == "two\n"
        tell(book, takes("a comm's message"))
        tell(book, printed("moved\n", "a comm's message"))
        tell(book, comm("close"))
        tell(book, printed("late\n", "a comm's message"))
        store.write(book, "", 0)
        assert list(rows(store)) == ["a"]
        assert book.captures == {}
