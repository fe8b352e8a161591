"""What a broker does by itself: who pays for what, what is stopped, and the numbers that it has for Prometheus."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_events import EventLogger
from prometheus_client.parser import text_string_to_metric_families
from traitlets import TraitError

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.hub.audit import Audit, Numbers, exposition
from jupyter_dsvm.hub.lessons import Lesson
from jupyter_dsvm.hub.policy import HubPolicy, Person
from jupyter_dsvm.hub.startqueue import StartQueue
from jupyter_dsvm.hub.watch import LONGEST_GAP, Watch, shares
from jupyter_dsvm.models import Compute, ComputeKind, PowerState, Price, Size
from support.broker import FakeHub, Running, broker, vm
from support.emulated import writes
from support.kernels import until

ADA, GRACE = Person("ada", frozenset({"vision"})), Person("grace")
ROW = Compute(
    "azure:vm1",
    "gpu",
    ComputeKind.DSVM,
    PowerState.RUNNING,
    size=Size("NC4as_T4_v3"),
    price=Price(0.6, "USD", "2026-11-01"),
)


class Clock:
    """The wall's, which the test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = (vm("ada-vm", user="ada"), vm("class-vm", group="vision"), vm("prod"))
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        running.set_timings(start=0.2, deallocate=0.2)
        yield running


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[Emulator]:
    yield emulator
    for row in emulator.vms:
        if emulator.vm(row["name"])["power_state"] == "running":
            emulator.power(row["name"], "deallocate")


@pytest.fixture
def running(azure: Emulator, tmp_path: Path) -> Iterator[Running]:
    with broker(azure, tmp_path / "broker", FakeHub(ADA, GRACE), teachers=["grace"]) as started:
        yield started


def watched(running: Running) -> tuple[Watch, Clock]:
    clock = Clock()
    return Watch(running.broker, running.hub.everybody, clock), clock


def start(running: Running, person: str, name: str) -> None:
    operation = running.ask(person, "POST", f"computes/{running.rows(person)[name]['id']}/start")[1]
    assert running.ended(person, operation)["state"] == "done"


def off(running: Running, azure: Emulator, name: str) -> None:
    until(lambda: azure.vm(name)["power_state"] == "deallocated", 30)
    until(lambda: not running.broker.operations.running(), 30)


def test_a_vm_that_nobody_is_attached_to_is_stopped_and_no_other(running: Running, azure: Emulator):
    watch, clock = watched(running)
    azure.power("prod", "start")
    start(running, "ada", "ada-vm")
    start(running, "grace", "class-vm")
    vm_id = azure.vm("ada-vm")["vm_id"].lower()
    watch.tick()
    clock.ahead = 29 * 60
    watch.tick()
    assert not running.said("stop")
    running.broker.state.here(vm_id, "ada", clock() + 600)
    clock.ahead = 38 * 60
    watch.tick()
    off(running, azure, "class-vm")
    assert azure.vm("ada-vm")["power_state"] == "running", "somebody is attached"
    clock.ahead = 90 * 60
    watch.tick()
    off(running, azure, "ada-vm")
    assert azure.vm("prod")["power_state"] == "running", "none of the hub's"
    (first, _) = running.said("stop", person="the hub", outcome="begun")
    assert first["why"] == "nobody was attached for 30 min (rule HubPolicy.idle_minutes)."
    ended = [o for o in running.ask("ada", "GET", "operations")[1]["operations"] if o["kind"] == "stop"]
    assert "ada-vm was stopped: nobody was attached" in ended[0]["notice"]


def test_two_on_one_vm_the_first_leaves_it_and_the_last_one_s_stop_is_a_stop(running: Running, azure: Emulator):
    running.hub.people["token-of-bob"] = Person("bob", frozenset({"vision"}))
    start(running, "grace", "class-vm")
    shared = running.rows("ada")["class-vm"]["id"]
    vm_id = azure.vm("class-vm")["vm_id"].lower()
    state = running.broker.state
    for name in ("ada", "bob"):
        state.account(vm_id, name, "present")
        assert running.ask(name, "PUT", f"computes/{shared}/presence", {"used": True, "idle": 0.0})[0] == 200
    status, left = running.ask("ada", "POST", f"computes/{shared}/stop")
    assert (status, left["kind"], left["state"]) == (202, "leave", "done")
    assert left["notice"] == "class-vm stays on: 1 other person uses it. It is stopped when they do not any more."
    assert running.said("leave", person="ada", outcome="ok", name="class-vm")
    assert running.said("stop") == []
    # Her server goes on saying that she is there and does nothing; his, that he has been idle for as long as the rule wants.
    running.ask("ada", "PUT", f"computes/{shared}/presence", {"used": True, "idle": 30.0})
    assert [one.used_until > 0 for one in state.present(vm_id)] == [False, True]
    assert running.ask("bob", "POST", f"computes/{shared}/stop")[1]["kind"] == "stop"
    off(running, azure, "class-vm")
    # Two who ask at the same moment both leave it, and the broker goes on from there.
    start(running, "grace", "class-vm")
    for name in ("ada", "bob"):
        state.leave(vm_id, name, time.time())
    watched(running)[0].tick()
    off(running, azure, "class-vm")
    assert running.said("stop", person="the hub", outcome="begun")[0]["why"] == "everybody who used it has left it."
    for nonsense in (-1.0, 1e12):
        assert running.ask("ada", "PUT", f"computes/{shared}/presence", {"idle": nonsense})[0] == 400


def test_kernels_that_are_attached_and_do_nothing_keep_no_vm_on(running: Running, azure: Emulator):
    """Also where their servers do not ask for the stop, as one of before does, or one whose notebook's files cannot be fetched."""
    watch, clock = watched(running)
    start(running, "grace", "class-vm")
    shared = running.rows("ada")["class-vm"]["id"]
    vm_id = azure.vm("class-vm")["vm_id"].lower()
    running.broker.state.account(vm_id, "ada", "present")
    watch.tick()
    clock.ahead = 60 * 60
    until_then = clock() + 900
    running.broker.state.here(vm_id, "ada", until_then, clock() - 29 * 60)
    watch.tick()
    running.broker.state.here(vm_id, "ada", until_then, clock() - 39 * 60)
    watch.tick()
    assert not running.said("stop")
    assert running.rows("ada")["class-vm"]["id"] == shared
    running.broker.state.here(vm_id, "ada", until_then, clock() - 40 * 60)
    watch.tick()
    off(running, azure, "class-vm")
    (line,) = running.said("stop", person="the hub", outcome="begun")
    assert line["why"] == "nobody has used it for 30 min (rule HubPolicy.idle_minutes)."


def test_the_hard_limit_ends_what_is_used_and_cannot_be_moved_on(running: Running, azure: Emulator):
    watch, clock = watched(running)
    start(running, "ada", "ada-vm")
    running.broker.state.here(azure.vm("ada-vm")["vm_id"].lower(), "ada", time.time() + 30 * 3600)
    watch.tick()
    clock.ahead = 7.9 * 3600
    watch.tick()
    start(running, "ada", "ada-vm")  # once more: its hours are counted from the first time
    shown = running.ask("ada", "PUT", f"computes/{running.rows('ada')['ada-vm']['id']}/presence", {"used": True})[1]
    assert shown["hard_limit_at"] == pytest.approx(time.time() + 8 * 3600, abs=60)
    clock.ahead = 8.01 * 3600
    watch.tick()
    off(running, azure, "ada-vm")
    assert "hard_limit_hours" in running.said("stop", person="the hub", outcome="begun")[0]["why"]
    start(running, "ada", "ada-vm")
    watch.tick()
    assert running.broker.state.starts()[azure.vm("ada-vm")["vm_id"].lower()][1] == pytest.approx(time.time(), abs=60)


def test_what_vms_cost_is_counted_and_a_budget_ends_it(running: Running, azure: Emulator):
    watch, clock = watched(running)
    start(running, "ada", "ada-vm")
    until(lambda: running.rows("ada")["ada-vm"]["price"], 20)
    watch.tick()
    for _ in range(10):
        clock.ahead += 360.0
        running.broker.state.here(azure.vm("ada-vm")["vm_id"].lower(), "ada", clock() + 600)
        watch.tick()
    spent = running.ask("ada", "GET", "spend")[1]
    assert spent["amount"] == pytest.approx(running.rows("ada")["ada-vm"]["price"]["amount"], rel=0.05)
    assert running.ask("grace", "GET", "admin/overview")[1]["spend"] == {"ada": spent["amount"]}
    running.broker.policy.budget_per_user = spent["amount"] / 2
    status, answer = running.ask("ada", "POST", f"computes/{running.rows('ada')['ada-vm']['id']}/start")
    assert (status, answer["code"]) == (403, "RefusedByPolicy")
    assert "(rule HubPolicy.budget_per_user)" in answer["message"]


def test_azure_s_own_schedule_is_kept_ahead(running: Running, azure: Emulator):
    watch, _ = watched(running)
    start(running, "ada", "ada-vm")
    path = azure.vm("ada-vm")["id"].partition("/providers/")[0]
    path += "/providers/Microsoft.DevTestLab/schedules/shutdown-computevm-ada-vm?api-version=2018-09-15"
    watch.tick()
    status, _, schedule = azure.request("GET", path)
    assert (status, schedule["properties"]["status"]) == (200, "Enabled")
    before = len(azure.traffic)
    watch.tick()
    # (The question above may be written down only now.)
    asked = [e for e in azure.traffic[before:] if "DevTestLab" in e["request"]["url"]]
    assert len(asked) <= 1, "not every time"
    mine = running.rows("ada")["ada-vm"]["id"]
    assert running.ended("ada", running.ask("ada", "POST", f"computes/{mine}/stop")[1])["state"] == "done"
    watch.tick()
    assert azure.request("GET", path)[2]["properties"]["status"] == "Disabled", "or it would come again tomorrow"
    before = len(azure.traffic)
    watch.tick()
    assert not [w for w in writes(azure, before) if "DevTestLab" in w], "once"


def test_stop_all_stops_what_is_the_hub_s(running: Running, azure: Emulator):
    azure.power("prod", "start")
    azure.power("class-vm", "start")
    start(running, "ada", "ada-vm")
    assert running.ask("grace", "POST", "admin/stop") == (202, {"stopping": ["ada-vm", "class-vm"]})
    off(running, azure, "ada-vm")
    off(running, azure, "class-vm")
    assert azure.vm("prod")["power_state"] == "running"


def test_numbers_for_prometheus(running: Running, azure: Emulator):
    start(running, "ada", "ada-vm")
    running.broker.policy.sizes = []
    running.ask("ada", "POST", f"computes/{running.rows('ada')['class-vm']['id']}/start")
    text = exposition(Numbers(running.broker.audit, running.broker.numbers))[0].decode()
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    assert found["dsvm_hub_vms", "running"] == 1
    assert found["dsvm_hub_vms", "deallocated"] == 1
    assert found["dsvm_hub_attached", "ada-vm"] == 0
    assert found["dsvm_hub_actions_total", "start", "ok"] == 2
    assert found["dsvm_hub_actions_total", "start", "refused"] == 1
    assert found["dsvm_hub_errors_total", "RefusedByPolicy"] == 1
    assert found["dsvm_hub_operation_seconds_count", "start"] == 1
    assert found["dsvm_hub_operation_seconds_bucket", "start", "+Inf"] == 1
    assert found["dsvm_hub_starts_waiting",] == 0


PEOPLE = st.lists(st.sampled_from(["ada", "bob", "carl"]), unique=True, max_size=3)


@given(st.sampled_from(list(PowerState)), st.floats(-10, LONGEST_GAP), PEOPLE, st.sampled_from(["", "ada", "eve"]))
def test_nothing_is_paid_twice_and_nothing_by_strangers(
    state: PowerState, seconds: float, attached: list[str], started_by: str
):

    found = shares(dataclasses.replace(ROW, power_state=state), seconds, attached, started_by)
    billed = state.value in ("starting", "running", "stopping", "stopped") and seconds > 0
    whose = attached or [started_by] * bool(started_by)
    assert [person for person, _, _ in found] == (whose if billed else [])
    if found:
        assert sum(amount for _, _, amount in found) == pytest.approx(0.6 * seconds / 3600)
    assert shares(dataclasses.replace(ROW, price=None), 60, attached, started_by) == []


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_the_queue_lets_in_no_more_than_its_limit_and_in_order(limit: int, steps: list[tuple[bool, int]]):
    queue, inside, waiting = StartQueue(limit), set(), []
    for enters, number in steps:
        key = str(number)
        if enters:
            let_in = queue.enter(key)
            if key not in inside and key not in waiting:
                waiting.append(key)
            if let_in:
                inside.add(key)
                if key in waiting:
                    assert waiting[0] == key
                    waiting.remove(key)
        else:
            turn: Any = queue.leave(key)
            inside.discard(key)
            if key in waiting:
                waiting.remove(key)
            assert list(turn) == waiting[: len(turn)]
            inside.update(turn)
            waiting = waiting[len(turn) :]
        assert queue.under_way == len(inside) <= limit
        assert list(queue.waiting) == waiting
        assert not waiting or len(inside) == limit
        assert [queue.place(k) for k in waiting] == list(range(1, len(waiting) + 1))


def test_who_waits_hears_of_a_place_that_is_another_and_far_behind_less_often():
    queue, heard = StartQueue(5), dict[str, list[int]]()
    for number in range(205):
        queue.enter(str(number))
        for key, place in queue.news():
            heard.setdefault(key, []).append(place)
    assert all(heard[str(number)] == [number - 4] for number in range(5, 205))  # each once, as they come
    told = 0
    for number in range(200):
        queue.leave(str(number))
        for key, place in queue.news():
            heard[key].append(place)
            told += 1
            assert place == queue.place(key)
        for key in queue.waiting:
            last = heard[key][-1]
            assert 0 <= last - queue.place(key) < max(1, queue.place(key) // 20), "nobody is told what is long past"
    assert not queue.waiting
    assert heard["204"][-40:] == list(range(40, 0, -1))
    assert told < 200 * 200 / 2 / 1.7


def test_a_log_that_fails_stops_nobody():
    class Broken:
        def register_event_schema(self, path: Path) -> None:
            assert path.exists()

        def emit(self, **event: Any) -> None:
            raise OSError("no")

    Audit(Broken()).record("start", "ada")  # type: ignore[arg-type]


def test_a_lesson_s_vms_are_started_once_and_the_quota_is_said(running: Running, azure: Emulator):
    watch, clock = watched(running)
    local = running.broker.policy.local(time.time()) + timedelta(minutes=10)
    begin = local.replace(second=0, microsecond=0)
    hours = f"{begin:%a} {begin:%H:%M}-{begin + timedelta(hours=1):%H:%M}"
    running.broker.policy.lessons = [{"hours": hours, "vms": ["class-*"]}]
    azure.set_scenario(quotas=[{"family": "standardDDSv5Family", "limit": 1}])
    azure.set_timings(start=0.2)
    try:
        watch.tick()
        (said,) = running.said("start", outcome="QuotaExceeded")
        assert "has 1 of 1 left, and 2 are needed" in said["why"]
        until(lambda: not running.broker.operations.running(), 30)
        assert azure.vm("class-vm")["power_state"] == "deallocated"
    finally:
        azure.set_scenario(quotas=[])
    clock.ahead = 60
    watch.tick()
    assert len(running.said("start", outcome="begun")) == 1, "once for each time that it is held"
    clock.ahead = 7 * 86400
    watch.tick()
    until(lambda: azure.vm("class-vm")["power_state"] == "running", 30)
    until(lambda: not running.broker.operations.running(), 30)
    assert running.said("start", outcome="begun")[1]["person"] == "the hub"


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.integers(1, 60))
def test_it_is_time_for_a_lesson_just_before_it_begins(now: datetime, before: int):
    lesson = Lesson.parse({"hours": "Mon,Thu 09:00-11:00", "vms": ["x"], "before_minutes": before})
    found = lesson.occurrence(now)
    minutes = (9 * 60) - (now.hour * 60 + now.minute + now.second / 60 + now.microsecond / 6e7)
    assert bool(found) == (now.weekday() in (0, 3) and 0 <= minutes <= before)
    assert found in ("", f"{now:%Y-%m-%d} 09:00")


@pytest.mark.parametrize(
    "lesson",
    [
        "Mon 09:00-10:00",
        {"hours": "Mon 09:00-10:00"},
        {"hours": "Mon 9-10", "pool": "gpu"},
        {"hours": "Mon 09:00-10:00", "pool": "gpu", "vms": ["a"]},
        {"hours": "Mon 09:00-10:00", "pool": "gpu", "count": -1},
        {"hours": "Mon 09:00-10:00", "vms": [1]},
        {"hours": "Mon 09:00-10:00", "pool": "gpu", "minutes": 5},
    ],
)
def test_lessons_that_cannot_be_meant(lesson: Any):
    with pytest.raises(TraitError, match="HubPolicy"):
        HubPolicy(lessons=[lesson])


def test_the_audit_s_events_are_of_their_schema():
    lines = io.StringIO()
    events = EventLogger(handlers=[logging.StreamHandler(lines)])
    audit = Audit(events)
    audit.record("start", "ada", "vm1", "gpu-vm", "RefusedByPolicy", rule="hours")
    audit.record("certificate", "ada", "vm1", "gpu-vm", serial=7, until=1_800_000_000)
    events.handlers[0].flush()
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["action"], first["person"], first["outcome"], first["rule"]) == (
        "start",
        "ada",
        "RefusedByPolicy",
        "hours",
    )
    assert second["serial"] == 7
    assert first["__schema__"] == "https://events.jupyter.org/jupyter_dsvm/hub_action"
