"""Operations: their table, their steps, how they are kept and cancelled."""

from __future__ import annotations

import threading

import pytest

from jupyter_dsvm.errors import Cancelled, NotFound, OperationRefused
from jupyter_dsvm.models import Operation, OperationState, StepState
from jupyter_dsvm.operations import TRANSITIONS, OperationStore, problem_of

STEPS = [("start", "Start gpu-vm"), ("connect", "Connect"), ("kernel", "Start the kernel"), ("wait", "Wait")]


def begin(store: OperationStore):
    return store.begin("attach", compute="azure:1", kernel="k1", steps=STEPS)


def states(operation: Operation) -> list[StepState]:
    return [s.state for s in operation.steps]


def test_steps_and_progress_advance_in_order():
    running = begin(OperationStore())
    assert states(running.value) == [StepState.PENDING] * 4
    running.step("start")
    running.report("Starting gpu-vm: booting", 0.5)
    assert running.value.steps[0].text == "Starting gpu-vm: booting"
    assert running.value.progress == pytest.approx(0.125)
    running.step("kernel")
    assert states(running.value) == [StepState.DONE, StepState.DONE, StepState.RUNNING, StepState.PENDING]
    assert running.value.progress == pytest.approx(0.5)
    assert running.done("It runs there.")
    assert states(running.value) == [StepState.DONE] * 4
    assert running.value.progress == 1.0
    assert running.value.notice == "It runs there."
    assert running.value.ended is not None


def test_a_step_that_turned_out_not_to_be_needed_is_taken_out():
    running = begin(OperationStore())
    running.skip("start")
    assert [s.name for s in running.value.steps] == ["connect", "kernel", "wait"]


def test_the_step_that_failed_is_marked_and_the_error_is_kept():
    running = begin(OperationStore())
    running.step("connect")
    running.failed(OperationRefused("Azure refused.", advice="Try another size.", code="AllocationFailed"))
    assert running.value.state is OperationState.FAILED
    assert states(running.value)[:2] == [StepState.DONE, StepState.FAILED]
    assert running.value.error is not None
    assert running.value.error.code == "AllocationFailed"
    assert running.value.error.advice == "Try another size."


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_what_has_ended_changes_no_more(end: str):
    assert all(not TRANSITIONS[s] for s in OperationState if s is not OperationState.RUNNING)
    running = begin(OperationStore())
    running.step("start")
    {"done": running.done, "failed": running.failed, "cancelled": running.cancelled}[end](
        *([] if end == "done" else [Cancelled("no")])
    )
    ended = running.value
    assert not running.done("late")
    assert not running.failed(ValueError("late"))
    running.step("wait")
    running.report("late", 1.0)
    assert running.value is ended
    assert running.finished.result(0) is ended


def test_listeners_hear_each_value_and_each_new_sentence():
    store = OperationStore()
    values: list[Operation] = []
    sentences: list[str] = []
    store.listen(values.append)
    running = begin(store)
    running.listeners.append(sentences.append)
    running.step("start")
    running.report("booting", 0.1)
    running.report("booting", 0.2)  # the same sentence: only the progress is new
    running.report("booting", 0.2)  # nothing new at all
    running.done()
    assert sentences == ["Start gpu-vm", "booting"]
    assert len(values) == 5
    assert values[-1].state is OperationState.DONE


def test_cancel_sets_the_event_and_calls_whoever_waits():
    store = OperationStore()
    running = begin(store)
    heard: list[str] = []
    running.on_cancel = heard.append
    store.cancel(running.id, "Not today.")
    assert running.cancel.is_set()
    assert heard == ["Not today."]
    assert running.value.state is OperationState.RUNNING  # until the worker has noticed
    running.cancelled(Cancelled("It was cancelled."))
    with pytest.raises(OperationRefused, match="ended already"):
        store.cancel(running.id)


def test_ended_operations_are_kept_for_a_while():
    now = [0.0]
    store = OperationStore(clock=lambda: now[0], keep=60)
    first, second = begin(store), begin(store)
    first.done()
    now[0] = 59
    assert [o.id for o in store.all()] == [second.id, first.id]
    now[0] = 61
    assert [o.id for o in store.all()] == [second.id]
    with pytest.raises(NotFound) as e:
        store.get(first.id)
    assert e.value.status == 404
    now[0] = 100_000
    assert store.get(second.id) is second  # what runs is never forgotten


def test_many_threads_lose_no_operation():
    store = OperationStore()

    def work() -> None:
        for _ in range(50):
            running = begin(store)
            running.step("wait")
            running.done()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(store.all()) == 200
    assert all(o.state is OperationState.DONE for o in store.all())


def test_an_error_that_is_none_of_ours_is_named():
    problem = problem_of(ZeroDivisionError("division by zero"))
    assert problem.code == "Internal"
    assert "ZeroDivisionError" in problem.message
    assert problem.advice
