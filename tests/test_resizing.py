"""The stages of a resize against a cloud in memory that fails in every way: what is said is what the VM is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.compute.azure.resizing import STAGES, Resize, Seen
from jupyter_dsvm.compute.provider import Cancel, Memo, Report
from jupyter_dsvm.errors import Cancelled, ComputeError, DSVMError, OperationRefused
from jupyter_dsvm.models import PowerState

OLD, NEW = "Standard_D4ds_v5", "Standard_NC4as_T4_v3"
RUNNING, STOPPED, OFF = PowerState.RUNNING, PowerState.STOPPED, PowerState.DEALLOCATED

OK, REFUSED, FAILED, LOST, LOST_AND_DONE = "ok", "refused", "failed", "lost", "lost and done"
"""What becomes of a request: it works, is refused at once, fails after it was accepted, or contact breaks off before or after it
had its effect."""


class Killed(BaseException):
    """The server."""


class Park:
    """A ``resizing.Cloud``. ``plan`` has what becomes of each request, the rest works."""

    def __init__(self, state: PowerState, plan: list[str]) -> None:
        self.size, self.state, self.provisioning = OLD, state, "Succeeded"
        self.plan = list(plan)
        self.asked: list[str] = []

    def look(self) -> Seen:
        return Seen(self.size, self.state, self.provisioning)

    def release(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        if self.state is not OFF:
            self._ask("release", cancel, accepted, lambda: self._be(OFF))

    def change(self, size: str, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        assert self.state is OFF, "never in place"
        self._ask(f"change {size}", cancel, accepted, lambda: setattr(self, "size", size))

    def start(self, report: Report, cancel: Cancel, accepted: Callable[[], None]) -> None:
        if self.state is not RUNNING:
            self._ask(f"start {self.size}", cancel, accepted, lambda: self._be(RUNNING))

    def _be(self, state: PowerState) -> None:
        self.state = state

    def _ask(self, what: str, cancel: Cancel, accepted: Callable[[], None], effect: Callable[[], None]) -> None:
        if cancel.is_set():
            raise Cancelled("Cancelled before Azure was asked.")
        self.asked.append(what)
        becomes = self.plan.pop(0) if self.plan else OK
        if becomes == REFUSED:
            raise OperationRefused(f"{what} is refused.", code="Refused")
        accepted()
        if becomes == FAILED:
            raise OperationRefused(f"{what} has failed.", code="AllocationFailed")
        if becomes == LOST:
            raise ComputeError(f"{what}: contact was lost.", code="Unreachable")
        effect()
        if becomes == LOST_AND_DONE:
            raise ComputeError(f"{what}: contact was lost.", code="Unreachable")
        if cancel.is_set():
            raise Cancelled(f"Stopped waiting for {what}. Azure goes on.")


def silent(text: str, done: float | None) -> None:
    pass


def resize(park: Park, memo: Memo, cancel: Cancel | None = None) -> None:
    Resize("x-vm", NEW, park.size, park.state, park, memo, interval=0.0, timeout=1.0).run(silent, cancel or Cancel())


def outcome(park: Park, memo: Memo, cancel: Cancel | None = None) -> DSVMError | None:
    try:
        resize(park, memo, cancel)
    except DSVMError as error:
        return error
    return None


def check(park: Park, before: PowerState, error: DSVMError | None) -> None:
    """What is said is what it is."""
    ran = before is RUNNING
    if error is None:
        assert park.size == NEW
        assert park.state is (RUNNING if ran else OFF)
        return
    said = error.message
    if f"has its old size, {OLD}, and runs again." in said:
        assert (park.size, park.state) == (OLD, RUNNING)
    elif f"has its old size, {OLD}, and is off, as before." in said:
        assert (park.size, park.state, ran) == (OLD, OFF, False)
    elif "could not be put back" in said:
        assert f"x-vm is {park.state.value} now" in said
        assert f"({park.size})" in said
        assert error.advice
    elif "was not resized and is" in said:
        assert said.endswith(f"was not resized and is {park.state.value}.")
        assert park.size == OLD
    elif "nothing was changed" in said or "cancelled before Azure was asked" in said:
        assert (park.size, park.state) == (OLD, before)
    elif "Azure goes on giving it the size" in said or "has its new size" in said:
        assert isinstance(error, Cancelled)
        assert park.size == NEW
    else:
        assert "is not gone on with" in said, said
        assert park.state.value in said or (park.state is RUNNING and "It runs" in said)
        assert park.size in said


plans = st.lists(st.sampled_from([OK, OK, REFUSED, FAILED, LOST, LOST_AND_DONE]), max_size=5)
states = st.sampled_from([RUNNING, STOPPED, OFF])


@given(before=states, plan=plans)
def test_whatever_fails(before: PowerState, plan: list[str]) -> None:
    park = Park(before, plan)
    check(park, before, outcome(park, Memo()))
    assert len(park.asked) == len(set(park.asked)) or park.asked.count("release") == 2, "nothing is asked twice"
    assert before is RUNNING or not any(a.startswith("start") for a in park.asked)


@given(before=states, plan=plans, at=st.integers(0, 8))
def test_cancelled_at_any_moment(before: PowerState, plan: list[str], at: int) -> None:
    park, cancel, count = Park(before, plan), Cancel(), 0

    def keep(facts: dict[str, Any]) -> None:
        nonlocal count
        if count == at:
            cancel.set()
        count += 1

    if at == 0:
        cancel.set()
    check(park, before, outcome(park, Memo(keep=keep), cancel))


@given(before=states, plan=plans, at=st.integers(0, 8))
def test_killed_at_any_moment(before: PowerState, plan: list[str], at: int) -> None:
    park, kept, count = Park(before, plan), {}, 0

    def keep(facts: dict[str, Any]) -> None:
        nonlocal kept, count
        kept = dict(facts)
        if count == at:
            raise Killed
        count += 1

    try:
        error = outcome(park, Memo(keep=keep))
    except Killed:
        error = outcome(park, Memo(kept))
    check(park, before, error)
    assert all(park.asked.count(f"start {size}") <= 1 for size in (OLD, NEW)), "what costs money is asked for once"


def test_the_table_leads_to_an_end() -> None:
    for stage in STAGES:
        for way in ("then", "failed"):
            seen, now = set(), stage
            while now in STAGES:
                assert now not in seen
                seen.add(now)
                now = getattr(STAGES[now], way)


@pytest.mark.parametrize("size", [OLD, NEW])
def test_an_operation_that_is_under_way_is_waited_for(size: str) -> None:
    park = Park(OFF, [])
    park.size, park.provisioning = size, "Updating"
    looks: list[str] = []

    def look() -> Seen:
        looks.append("look")
        if len(looks) == 3:
            park.provisioning = "Succeeded"
        return Seen(park.size, park.state, park.provisioning)

    park.look = look  # type: ignore[method-assign]
    resize(park, Memo({"stage": "change", "size": NEW, "old": OLD, "ran": True, "asked": True, "began": 0.0}))
    assert (park.size, park.state, len(looks)) == (NEW, RUNNING, 3)
    assert park.asked == ([f"start {NEW}"] if size == NEW else [f"change {NEW}", f"start {NEW}"])


def test_a_change_that_azure_reports_as_failed_is_put_back() -> None:
    park = Park(OFF, [])
    park.size, park.provisioning = NEW, "Failed"
    memo = Memo({"stage": "change", "size": NEW, "old": OLD, "ran": True, "asked": True, "began": 0.0})
    error = outcome(park, memo)
    assert error is not None
    assert f"could not give x-vm the size {NEW}" in error.message
    check(park, RUNNING, error)


def test_a_fault_of_ours_is_put_back_too() -> None:
    park = Park(RUNNING, [])
    change = park.change

    def broken(size: str, *rest: Any) -> None:
        if size == NEW:
            raise KeyError("oops")
        change(size, *rest)

    park.change = broken  # type: ignore[method-assign]
    error = outcome(park, Memo())
    assert error is not None
    assert error.code == "Internal"
    check(park, RUNNING, error)


def test_what_it_is_now_may_not_be_known() -> None:
    park = Park(RUNNING, [OK, LOST])

    def look() -> Seen:
        raise ComputeError("No answer.", code="Unreachable")

    park.look = look  # type: ignore[method-assign]
    error = outcome(park, Memo())
    assert error is not None
    assert "What x-vm is now could not be read: look before you start it." in error.message
    assert error.code == "Unreachable"
