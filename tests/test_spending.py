"""What machines have cost, through the service: what it hears, asks and says, and what a budget refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyter_dsvm import spending
from jupyter_dsvm.budgets import BudgetRules, budget, in_words, refusal, remark, state_of
from jupyter_dsvm.calls import handle
from jupyter_dsvm.compute.creating import NewCompute
from jupyter_dsvm.errors import BudgetExceeded, ComputeError, ConfigurationError, UnknownCompute
from jupyter_dsvm.models import BudgetState, Compute, Operation, OperationState, PowerState, Price, Size, Spend
from jupyter_dsvm.service import DSVMService, load_service
from jupyter_dsvm.spending_rules import DAY, HOUR, Calendar, DaySpend
from jupyter_dsvm.spendwords import spend_html, spend_text
from support.fakes import FakeConnections, FakeFree, FakeMaker, FakeProxy, FakeRegistry, dsvm
from test_calls import FakeCall

D4, T4 = Size("Standard_D4ds_v5", 4, 16.0, 0), Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "T4")
CPU = dsvm("cpu-vm", PowerState.DEALLOCATED, size=D4, price=Price(0.27, "USD", "2026-01-01T00:00:00Z"))
GPU = dsvm("gpu-vm", PowerState.DEALLOCATED, size=T4, price=Price(0.5, "USD", "2026-01-01T00:00:00Z"))
ODD = dsvm("odd-vm", PowerState.DEALLOCATED)
NOON = 1_795_867_200.0  # 28 November 2026, 12:00 UTC


class Cloud(FakeMaker):
    """With Azure's word, where it is ``told``."""

    def __init__(self, *rows: Compute) -> None:
        super().__init__(*rows)
        self.words: dict[str, float] = {}
        self.gets: list[str] = []
        self.get_error: Exception | None = None

    def get(self, compute_id: str) -> Compute:
        self.gets.append(compute_id)
        if self.get_error is not None:
            raise self.get_error
        return dataclasses.replace(super().get(compute_id), unchanged_since=self.words.get(compute_id))

    def becomes(self, state: PowerState, row: Compute = GPU, word: float | None = None) -> None:
        self.rows[row.id] = dataclasses.replace(self.rows[row.id], power_state=state)
        if word is not None:
            self.words[row.id] = word


class Stage:
    """A server: its time is ``now``, in a time zone of its own."""

    def __init__(self, cloud: Cloud, now: float, proxies: tuple[FakeProxy, ...], traits: dict[str, object]) -> None:
        self.cloud, self.now = cloud, now
        self.service = DSVMService(
            lambda: [FakeFree(), cloud], registry=FakeRegistry(*proxies), connections=FakeConnections(), **traits
        )
        self.spending = self.service.spending
        self.spending.clock = lambda: self.now
        self.spending.calendar = Calendar(ZoneInfo("Europe/Berlin"))
        self.events: list[str] = []
        self.service.listen(lambda what, thing, revision: self.events.append(what))

    def after(self, hours: float) -> Stage:
        self.now += hours * HOUR
        return self

    def on(self, hours: float) -> Stage:
        """So many hours in which somebody looks every quarter of an hour."""
        end = self.now + hours * HOUR
        while self.now < end:
            self.now = min(end, self.now + HOUR / 4)
            self.listed()
        return self

    def listed(self) -> Stage:
        """Somebody looks at the list, and what that leads to has happened."""
        self.service.computes(refresh=True)
        return self.settled()

    def settled(self, but: int = 0) -> Stage:
        """Whatever is done in the background meanwhile is done, ``but`` so many that wait."""
        for _ in range(3):
            threads = self.service._work._max_workers - but
            barrier = threading.Barrier(threads + 1)
            for _ in range(threads):
                self.service._work.submit(barrier.wait, 5)
            barrier.wait(5)
        return self

    def ended(self, operation: Operation) -> Operation:
        ended = self.service.operations_store.get(operation.id).finished.result(5)
        self.settled()
        return ended

    @property
    def spend(self) -> Spend:
        return self.spending.record()

    @property
    def amounts(self) -> tuple[float, float, float]:
        spend = self.spend
        return round(spend.today, 4), round(spend.month, 4), round(spend.per_hour, 4)


Make = Callable[..., contextlib.AbstractContextManager[Stage]]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Servers that share one user's folder."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))

    @contextlib.contextmanager
    def make(cloud: Cloud | None = None, now: float = NOON, *proxies: FakeProxy, **traits: object) -> Iterator[Stage]:
        made = Stage(cloud or Cloud(CPU, GPU, ODD), now, proxies, traits)
        try:
            yield made
        finally:
            made.cloud.gate.set()
            made.service.close()

    return make


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


# What it costs


def test_from_a_start_here_to_a_stop(stage: Make):
    with stage() as s:
        assert s.spend == Spend(s.spend.as_of, None, 0, 0, 0)
        assert s.ended(s.service.start("gpu-vm")).state is OperationState.DONE
        assert s.amounts == (0, 0, 0.5)
        assert s.events.count("spend") == 1
        assert s.after(0.05).amounts == (0.025, 0.025, 0.5)
        assert s.on(0.45).amounts == (0.25, 0.25, 0.5)
        assert s.events.count("spend") == 1  # time passes without events
        s.ended(s.service.stop("gpu-vm"))
        assert s.events.count("spend") == 2
        assert s.after(5).amounts == (0.25, 0.25, 0)
        assert [(c.compute, c.name, round(c.today, 4)) for c in s.spend.computes] == [(GPU.id, "gpu-vm", 0.25)]


def test_it_counts_from_the_moment_it_is_being_started_and_no_longer_than_to_the_stop(stage: Make):
    with stage() as s:
        s.cloud.gate.clear()
        operation = s.service.start("gpu-vm")
        until(lambda: s.spend.per_hour == 0.5)
        s.after(0.1).cloud.gate.set()
        s.ended(operation)
        assert s.amounts == (0.05, 0.05, 0.5)
        s.cloud.gate.clear()
        operation = s.service.stop("gpu-vm")
        until(lambda: s.spend.per_hour == 0)
        s.after(0.1).cloud.gate.set()
        s.ended(operation)
        assert s.amounts == (0.05, 0.05, 0)


def test_a_start_that_fails_costs_nothing(stage: Make):
    with stage() as s:
        s.cloud.refuse = ComputeError("No capacity.", code="AllocationFailed")
        s.cloud.gate.clear()
        operation = s.service.start("gpu-vm")
        until(lambda: s.spend.per_hour == 0.5)
        s.after(0.1).cloud.gate.set()
        assert s.ended(operation).state is OperationState.FAILED
        assert s.amounts == (0, 0, 0)


def test_stopped_and_not_released_is_billed(stage: Make):
    with stage() as s:
        s.cloud.becomes(PowerState.STOPPED)
        s.listed()
        assert s.on(1).amounts == (0.5, 0.5, 0.5)


def test_started_elsewhere_it_counts_since_azure_says(stage: Make):
    with stage() as s:
        s.cloud.becomes(PowerState.RUNNING, word=NOON - 2 * HOUR)
        s.listed()
        assert s.cloud.gets == [GPU.id]  # the list does not have that
        assert s.amounts == (1.0, 1.0, 0.5)
        s.after(0.1).listed()
        assert s.cloud.gets == [GPU.id]  # known


def test_without_azures_word_it_counts_since_it_was_seen(stage: Make):
    with stage() as s:
        s.cloud.becomes(PowerState.RUNNING)
        s.listed()
        assert s.amounts == (0, 0, 0.5)
        s.after(0.1).listed()
        assert s.cloud.gets == [GPU.id]  # not again and again
        assert s.spend.unseen == ()


def test_the_next_server_goes_on(stage: Make):
    cloud = Cloud(CPU, GPU)
    with stage(cloud) as s:
        s.ended(s.service.start("gpu-vm"))
        s.on(0.5)
    cloud.words[GPU.id] = NOON
    with stage(cloud, NOON + 9 * HOUR) as s:
        assert s.amounts[0] == round(3.5 * 0.5, 4)  # until somebody looks, no longer than three hours
        s.listed()
        assert s.amounts == (4.5, 4.5, 0.5)
        assert s.spend.unseen == ()


def test_azure_stopped_it_while_no_server_was_there(stage: Make):
    cloud = Cloud(CPU, GPU)
    with stage(cloud) as s:
        s.ended(s.service.start("gpu-vm"))
    cloud.becomes(PowerState.DEALLOCATED, word=NOON + 2 * HOUR)
    with stage(cloud, NOON + 30 * HOUR) as s:
        s.listed()
        assert s.amounts == (0, 1.0, 0)
        assert s.spend.unseen == ()


def test_what_nobody_saw_is_said(stage: Make):
    cloud = Cloud(CPU, GPU)
    with stage(cloud) as s:
        s.ended(s.service.start("gpu-vm"))
    with stage(cloud, NOON + 4 * HOUR) as s:
        s.listed()
        assert s.amounts == (2.0, 2.0, 0.5)
        assert s.spend.unseen == ("gpu-vm",)


def test_a_laptop_that_slept_and_stops_it_at_once(stage: Make):
    """What was asked while the stop was under way is no answer; the next one is."""
    with stage() as s:
        s.ended(s.service.start("gpu-vm"))
        s.after(2).cloud.gate.clear()
        s.cloud.becomes(PowerState.DEALLOCATING)
        operation = s.service.stop("gpu-vm")
        until(lambda: GPU.id in s.cloud.gets)
        s.settled(but=1)
        assert s.spend.unseen == ()
        s.cloud.words[GPU.id] = s.now + 60
        s.after(0.1).cloud.gate.set()
        s.ended(operation)
        assert s.after(1).amounts == (round((2 + 1 / 60) * 0.5, 4),) * 2 + (0,)
        assert s.spend.unseen == ()


def test_two_servers_count_it_once(stage: Make):
    cloud = Cloud(CPU, GPU)
    with stage(cloud) as one, stage(cloud) as two:
        one.ended(one.service.start("gpu-vm"))
        cloud.words[GPU.id] = NOON
        two.listed()
        one.now = two.now = NOON + HOUR
        one.listed()
        two.listed()
        assert one.amounts == two.amounts == (0.5, 0.5, 0.5)
        two.ended(two.service.stop("gpu-vm"))
        assert one.after(1).amounts == (0.5, 0.5, 0)
        one.listed()
        assert one.amounts == (0.5, 0.5, 0)


def test_a_machine_with_no_price_is_named(stage: Make):
    with stage() as s:
        s.ended(s.service.start("odd-vm"))
        spend = s.after(1).spend
        assert (spend.currency, spend.month, spend.computes, spend.unpriced) == (None, 0, (), ("odd-vm",))
        s.cloud.rows[ODD.id] = dataclasses.replace(s.cloud.rows[ODD.id], price=GPU.price)
        s.listed()  # the price list has answered
        assert s.amounts == (0.5, 0.5, 0.5)
        assert s.spend.unpriced == ()


def test_two_currencies_are_not_added(stage: Make):
    with stage() as s:
        s.ended(s.service.start("cpu-vm"))
        s.ended(s.on(1).service.stop("cpu-vm"))
        s.cloud.rows[GPU.id] = dataclasses.replace(GPU, price=Price(0.4, "EUR", "2026-01-01T00:00:00Z"))
        s.ended(s.service.start("gpu-vm"))
        spend = s.after(1).spend
        assert (spend.currency, round(spend.month, 4), spend.unpriced) == ("EUR", 0.4, ("cpu-vm",))


def test_today_and_this_month(stage: Make):
    """In Berlin, one hour ahead of UTC at that time of the year."""
    with stage(None, NOON + 10.5 * HOUR) as s:
        s.ended(s.service.start("gpu-vm"))
        s.on(1)
        assert s.amounts == (0.25, 0.5, 0.5)  # half an hour before midnight, half an hour after
        s.ended(s.service.stop("gpu-vm"))
        s.now = NOON + 5 * DAY
        assert s.amounts == (0, 0, 0)  # December
        assert [(d.day.day, round(d.hours, 4)) for d in s.spending.days(7)] == [(29, 0.5), (28, 0.5)]
        assert s.spending.days(2) == []


def test_a_resize_is_another_price(stage: Make):
    with stage() as s:
        s.ended(s.service.start("cpu-vm"))
        s.on(1)
        s.cloud.rows[CPU.id] = dataclasses.replace(s.cloud.rows[CPU.id], price=GPU.price)  # of the new size
        s.ended(s.service.resize("cpu-vm", "NC4as_T4_v3"))
        assert s.after(1).amounts == (0.77, 0.77, 0.5)


def test_only_machines_that_count(stage: Make):
    with stage(spend_names=["lab/gpu-*"]) as s:
        s.ended(s.service.start("gpu-vm"))
        s.ended(s.service.start("cpu-vm"))
        assert [c.name for c in s.after(1).spend.computes] == ["gpu-vm"]
        assert {d.name for d in s.spending.days(1)} == {"gpu-vm"}


# While it is on


def test_what_is_on_is_looked_at_now_and_then(stage: Make):
    with stage() as s:
        s.ended(s.service.start("gpu-vm"))
        s.cloud.gets.clear()
        s.after(0.1)
        s.spending.tick()
        assert s.cloud.gets == []
        s.after(0.1)
        s.cloud.words[GPU.id] = NOON
        s.spending.tick()
        assert s.cloud.gets == [GPU.id]
        s.cloud.becomes(PowerState.DEALLOCATED, word=s.now + 60)  # in the portal
        s.spending._asked.clear()  # ten minutes later
        s.after(0.2)
        s.spending.tick()
        assert s.spend.per_hour == 0
        s.cloud.gets.clear()
        s.spending._asked.clear()
        s.after(1)
        s.spending.tick()
        assert s.cloud.gets == []


def test_a_machine_that_was_deleted_ends(stage: Make):
    with stage() as s:
        s.ended(s.service.start("gpu-vm"))
        s.cloud.get_error = UnknownCompute("It is gone.", code="ResourceNotFound")
        s.after(0.2)
        s.spending.tick()
        assert s.after(1).amounts == (0.1, 0.1, 0)


def test_a_cloud_that_does_not_answer_ends_nothing(stage: Make):
    with stage() as s:
        s.ended(s.service.start("gpu-vm"))
        s.cloud.get_error = ComputeError("No answer.")
        s.after(0.2)
        s.spending.tick()
        assert s.after(1).amounts == (0.6, 0.6, 0.5)


def test_a_server_that_starts_watches_what_was_on(stage: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spending, "TICK_SECONDS", 0.02)
    cloud = Cloud(CPU, GPU)
    with stage(cloud) as s:
        s.service.watch_spending()
        assert not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-spend"]
        s.ended(s.service.start("gpu-vm"))
    cloud.becomes(PowerState.DEALLOCATED, word=NOON + HOUR)
    with stage(cloud, NOON + 2 * HOUR) as s:
        s.service.watch_spending()
        until(lambda: s.amounts == (0.5, 0.5, 0))
        until(lambda: not [t for t in threading.enumerate() if t.name == "jupyter-dsvm-spend"])


def test_midnight_and_budgets_are_news_by_themselves(stage: Make):
    with stage(budget=1.0) as s:
        s.ended(s.service.start("gpu-vm"))
        s.events.clear()
        for hours, news in ((1.0, 0), (0.5, 0), (0.15, 1), (0.3, 0), (0.1, 1), (1.0, 0), (8.0, 1), (0.1, 0)):
            s.on(hours).spending.tick()
            s.settled()
            assert (s.events.count("spend"), s.spend.budgets[0].state.value) == (
                news,
                "ok" if s.now < NOON + 1.6 * HOUR else "warning" if s.now < NOON + 2 * HOUR else "exceeded",
            )
            s.events.clear()


# Budgets


@pytest.mark.parametrize(
    ("spent", "limit", "state"),
    [
        (0, 10, BudgetState.OK),
        (7.99, 10, BudgetState.OK),
        (8, 10, BudgetState.WARNING),
        (9.99, 10, BudgetState.WARNING),
        (10, 10, BudgetState.EXCEEDED),
        (11, 10, BudgetState.EXCEEDED),
        (0, 0, BudgetState.EXCEEDED),
    ],
)
def test_the_states_of_a_budget(spent: float, limit: float, state: BudgetState):
    assert state_of(spent, limit) is state


def test_what_follows_from_a_budget():
    for spent, name, refuses, said in (
        (9, "", True, "."),
        (10, "", True, "; nothing more is started."),
        (10, "gpu-vm", True, "; it is not started any more."),
        (10, "gpu-vm", False, "; it only warns."),
    ):
        assert in_words(budget(BudgetRules(refuses=refuses), 10, spent, "azure:1" if name else None, name)) == said


def test_the_first_name_that_fits_counts():
    rules = BudgetRules(each={"gpu-vm": 50, "LAB/*": 20, "*": 10})
    assert rules.of(["GPU-vm", "lab/gpu-vm"]) == 50
    assert rules.of(["cpu-vm", "lab/cpu-vm"]) == 20
    assert rules.of(["cpu-vm", "other/cpu-vm"]) == 10
    assert BudgetRules(each={"a": 1}).of(["b", ""]) is None


def test_what_is_said_of_a_budget():
    rules = BudgetRules(20, "month", {})
    assert remark([budget(rules, 20, 16.4)], "USD") == "82 % of this month's budget of $20 is spent."
    assert remark([budget(rules, 20, 2)], "USD") == ""
    day = BudgetRules(None, "day", {"*": 5.5}, refuses=False)
    assert (
        remark([budget(day, 5.5, 6, "azure:1", "gpu-vm")], "CHF")
        == "Today's budget of 5.50 CHF for gpu-vm is spent: 6 CHF so far."
    )
    error = refusal(
        budget(rules, 20, 20.31), "gpu-vm was not started", "USD", Calendar(ZoneInfo("UTC")).next_period("month", NOON)
    )
    assert error.message == (
        "gpu-vm was not started: $20.31 of this month's budget of $20 is spent, by this server's estimate."
    )
    assert error.advice.startswith("It begins anew on 1 December. ")
    assert "DSVMService.budget " in error.advice
    assert "DSVMService.budget_refuses" in error.advice
    assert (error.code, error.status) == ("BudgetExceeded", 403)


def spent(s: Stage, hours: float = 2.0) -> None:
    """So many hours of gpu-vm."""
    s.ended(s.service.start("gpu-vm"))
    s.on(hours)
    s.ended(s.service.stop("gpu-vm"))
    s.events.clear()


def test_what_is_spent_refuses_a_start_wherever_it_begins(stage: Make):
    proxy = FakeProxy()
    with stage(None, NOON, proxy, budget=1.0, kernel_may_start={"names": ["*"]}) as s:
        spent(s)
        asked = list(s.cloud.asked)
        said = "cpu-vm was not started: $1 of this month's budget of $1 is spent, by this server's estimate."
        for begin in (
            lambda: s.service.start("cpu-vm"),
            lambda: s.service.attach("k1", "cpu-vm"),
            lambda: s.service.changes.begin_power("start", "cpu-vm"),  # jupyter dsvm
            lambda: s.service.remote_backend(proxy, "cpu-vm", None),  # a kernelspec of a VM
        ):
            with pytest.raises(BudgetExceeded) as caught:
                begin()
            assert caught.value.message == said
        for line in ("start cpu-vm", "attach cpu-vm", "restart cpu-vm"):
            call = FakeCall(proxy, line)
            handle(s.service, call)
            assert call.error is not None, line
            assert (call.error["code"], call.error["message"]) == ("BudgetExceeded", said)
        with pytest.raises(BudgetExceeded, match=r"^new-vm was not created: "):
            s.service.create(NewCompute("new-vm", "westeurope", "Standard_D2ds_v5"))
        assert [a for a in s.cloud.asked if a not in asked and not a.startswith("list")] == []
        assert s.spend.budgets[0].state is BudgetState.EXCEEDED
        assert not Path(s.service.allowance._file).exists()  # nor was a start counted


def test_what_is_on_goes_on_and_nothing_is_in_the_way_of_stopping_it(stage: Make):
    proxy = FakeProxy()
    with stage(None, NOON, proxy, budget=1.0) as s:
        s.ended(s.service.start("gpu-vm"))
        s.on(3)
        assert s.spend.budgets[0].state is BudgetState.EXCEEDED
        assert s.spend.per_hour == 0.5
        assert s.ended(s.service.attach("k1", "gpu-vm")).state is OperationState.DONE
        assert s.ended(s.service.restart("gpu-vm")).state is OperationState.DONE
        assert s.ended(s.service.attach("k1", "free")).state is OperationState.DONE
        with pytest.raises(BudgetExceeded, match=r"^gpu-vm was not resized to nc24ads_a100_v4: "):
            s.service.resize("gpu-vm", "NC24ads_A100_v4")
        s.service.sizes("gpu-vm")
        assert s.ended(s.service.resize("gpu-vm", "D4ds_v5")).state is OperationState.DONE  # it costs less
        assert s.ended(s.service.stop("gpu-vm")).state is OperationState.DONE
        assert s.ended(s.service.resize("gpu-vm", "NC4as_T4_v3")).state is OperationState.DONE  # it is off
        with pytest.raises(BudgetExceeded):
            s.service.start("gpu-vm")


def test_one_that_is_on_already_is_no_start(stage: Make):
    """The list is old: somebody has turned it on in the portal."""
    with stage(None, NOON, FakeProxy(), budget=0.0) as s:
        s.listed()
        s.cloud.becomes(PowerState.RUNNING)
        assert s.ended(s.service.attach("k1", "gpu-vm")).state is OperationState.DONE


def test_it_only_warns_where_it_is_set_so(stage: Make):
    with stage(budget=1.0, budget_refuses=False) as s:
        spent(s)
        ended = s.ended(s.service.start("cpu-vm"))
        assert ended.state is OperationState.DONE
        assert ended.notice.endswith("This month's budget of $1 is spent: $1 so far.")


def test_from_eighty_percent_on_a_start_says_so(stage: Make):
    proxy = FakeProxy()
    with stage(None, NOON, proxy, budget=1.2) as s:
        spent(s)
        said = "83 % of this month's budget of $1.20 is spent."
        assert s.ended(s.service.start("cpu-vm")).notice.endswith(said)
        assert s.ended(s.service.stop("cpu-vm")).notice == "cpu-vm is off."
        moved = s.ended(s.service.attach("k1", "cpu-vm"))
        assert said in moved.notice
        created = s.ended(s.service.create(NewCompute("new-vm", "westeurope", "Standard_D2ds_v5")))
        assert created.notice.endswith(said)


def test_the_question_of_a_cell_says_so_too(stage: Make):
    proxy = FakeProxy()
    with stage(None, NOON, proxy, budget=1.2) as s:
        spent(s)
        s.service.page_is_open = lambda kernel_id: True
        call = FakeCall(proxy, "start cpu-vm")
        asking = threading.Thread(target=handle, args=(s.service, call))
        asking.start()
        until(lambda: bool(s.service.open_questions()[0]))
        (question,) = s.service.open_questions()[0]
        assert question.text == (
            "A cell of a notebook wants to start cpu-vm (4 CPU · 16 GB). 83 % of this month's budget of $1.20 is spent."
        )
        s.service.questions.answer(question.id, False)
        asking.join()
        assert call.error is not None


def test_each_machine_has_its_own(stage: Make):
    with stage(budgets={"gpu-vm": 0.9, "*": 100}) as s:
        spent(s)
        with pytest.raises(BudgetExceeded) as caught:
            s.service.start("gpu-vm")
        assert "$1 of this month's budget of $0.90 for gpu-vm is spent" in caught.value.message
        assert "DSVMService.budgets " in caught.value.advice
        assert s.ended(s.service.start("cpu-vm")).state is OperationState.DONE
        assert [(b.name, b.limit, b.state.value) for b in s.after(1).spend.budgets] == [
            ("gpu-vm", 0.9, "exceeded"),
            ("cpu-vm", 100, "ok"),
        ]


def test_a_machine_that_may_cost_nothing(stage: Make):
    with stage(budgets={"gpu-*": 0}) as s, pytest.raises(BudgetExceeded, match="for gpu-vm"):
        s.service.start("gpu-vm")


def test_a_budget_of_a_day_begins_anew(stage: Make):
    with stage(budget=1.0, budget_period="day") as s:
        spent(s)
        with pytest.raises(BudgetExceeded, match="today's budget") as caught:
            s.service.start("gpu-vm")
        assert caught.value.advice.startswith("It begins anew on 29 November.")
        s.now = NOON + 12 * HOUR
        assert s.ended(s.service.start("gpu-vm")).state is OperationState.DONE


@pytest.mark.parametrize("traits", [{"budget": -1.0}, {"budgets": {"a": -1.0}}, {"budget_period": "year"}])
def test_a_setting_that_cannot_be(stage: Make, traits: dict[str, object]):
    with pytest.raises(TraitError), stage(**traits):
        pass
    with pytest.raises(ConfigurationError, match=f"'{next(iter(traits))}' trait"):
        load_service(Config({"DSVMService": traits}))


# Words


def test_the_magic_says_it(stage: Make):
    proxy = FakeProxy()
    with stage(None, NOON, proxy, budget=20.0) as s:
        spent(s)
        call = FakeCall(proxy, "spend")
        handle(s.service, call)
        assert call.result is not None
        assert call.result["text"].splitlines() == [
            "DAY         NAME    HOURS   COST",
            "2026-11-28  gpu-vm    2.0  $1.00",
            "",
            "About $1 today, $1 this month.",
            "This month's budget: $1 of $20 (5 %).",
            "An estimate: hours on, times the list price. Disks, addresses, traffic and discounts are not in it.",
        ]
        assert "<td" in call.result["html"]
        status = FakeCall(proxy, "status")
        handle(s.service, status)
        assert status.result is not None
        assert status.result["text"].splitlines()[-1] == "Your machines: ~$1 today, an estimate."
        for line in ("spend", "status"):
            there = FakeCall(proxy, line, trusted=False)
            handle(s.service, there)
            assert "$" not in str(there.result)
        assert there.error is None
        refused = FakeCall(proxy, "spend", trusted=False)
        handle(s.service, refused)
        assert refused.error is not None
        assert refused.error["message"] == "A kernel on a VM may not see what machines cost."


def test_everything_that_there_is_to_say():
    from datetime import date

    one = budget(BudgetRules(10, "day", {}, refuses=False), 10, 12.0, "azure:1", "<b>gpu</b>")
    spend = Spend("x", "EUR", 12.0, 30.256, 0.5, (), (one,), ("odd-vm",), ("gpu-vm", "other"))
    days = [DaySpend(date(2026, 11, d), "azure:1", "<b>gpu</b>", 1.0, None, None) for d in range(1, 31)] * 7
    text = spend_text(spend, days).splitlines()
    assert text[1] == "2026-11-01  <b>gpu</b>    1.0  not known"
    assert text[-7:] == [
        "… and 10 earlier rows",
        "",
        "About €12 today, €30.26 this month. €0.50 an hour now.",
        "Today's budget for <b>gpu</b>: €12 of €10 (120 %); it only warns.",
        "Not in it, since the price was not known or in another currency: odd-vm.",
        "Nobody saw for some time whether they were on, so that is a guess: gpu-vm, other.",
        "An estimate: hours on, times the list price. Disks, addresses, traffic and discounts are not in it.",
    ]
    assert "<b>" not in spend_html(spend, days)
    assert (
        spend_text(Spend("x", None, 0, 0, 0), []).splitlines()[0]
        == "Nothing is known to have cost anything this month."
    )
