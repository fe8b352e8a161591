"""The dead man's switch: the rules as a table, Azure's shape, and the whole way against the emulator and its clock."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.schedules import (
    AHEAD,
    FROZEN,
    LEAST,
    TAG,
    UTC_ZONE,
    WRITE_ACTION,
    Kind,
    Schedule,
    Schedules,
    Use,
    Write,
    body_of,
    clock_of,
    following,
    may,
    parsed,
    plan,
    theirs_at,
)
from jupyter_dsvm.compute.azure.zones import zone_of
from jupyter_dsvm.compute.naming import resolve
from jupyter_dsvm.emulator.client import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH, STANDARD
from jupyter_dsvm.emulator.schedules import ZONES
from jupyter_dsvm.errors import ComputeError, Forbidden, OperationRefused, Throttled

VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm"
MACHINES = tuple(replace(machine, requirements=(), kernelspecs=()) for machine in STANDARD)
API = "api-version=2018-09-15"


def at(text: str, day: int = 28) -> datetime:
    return datetime(2026, 11, day, int(text[:2]), int(text[3:]), tzinfo=timezone.utc)


def schedule(body: dict[str, Any]) -> Schedule:
    """As Azure would give it back."""
    return parsed(json.loads(json.dumps(body)))


def ours(when: datetime, enabled: bool = True, still: datetime | None = None) -> Schedule:
    return schedule(body_of(when, enabled, VM, "westeurope", {}, still))


def theirs(
    time: str = "1900", zone: str = "W. Europe Standard Time", status: str = "Enabled", vm: str = VM
) -> Schedule:
    body = body_of(at("19:00"), True, vm, "westeurope", {}, None)
    body["tags"] = {"team": "vision"}
    body["properties"] |= {"dailyRecurrence": {"time": time}, "timeZoneId": zone, "status": status}
    return schedule(body)


# -- the rules -------------------------------------------------------------------------------------------------------------------


NOW = at("08:00")


@pytest.mark.parametrize(
    ("found", "use", "write", "kind", "when"),
    [
        # On attach, and where ours was disabled: set ahead.
        (None, Use.USED, Write.SET, Kind.OURS, at("11:00")),
        (ours(at("07:00"), enabled=False), Use.USED, Write.SET, Kind.OURS, at("11:00")),
        # Far enough, moved on, and too near to be moved.
        (ours(at("11:00")), Use.USED, Write.NOTHING, Kind.OURS, at("11:00")),
        (ours(at("10:00")), Use.USED, Write.NOTHING, Kind.OURS, at("10:00")),
        (ours(at("09:59")), Use.USED, Write.SET, Kind.OURS, at("11:00")),
        (ours(at("08:31")), Use.USED, Write.SET, Kind.OURS, at("11:00")),
        (ours(at("08:30")), Use.USED, Write.NOTHING, Kind.OURS, at("08:30")),
        # One that is left over strikes today again: brought nearer, unless it is too near.
        (ours(at("07:50", 27)), Use.USED, Write.SET, Kind.OURS, at("11:00")),
        (ours(at("08:10", 27)), Use.USED, Write.NOTHING, Kind.OURS, at("08:10")),
        # Nobody uses it: it is left to strike.
        (None, Use.IDLE, Write.NOTHING, Kind.NONE, None),
        (ours(at("09:00")), Use.IDLE, Write.NOTHING, Kind.OURS, at("09:00")),
        (ours(at("09:00"), enabled=False), Use.IDLE, Write.NOTHING, Kind.NONE, None),
        # Off: ours must not come again.
        (None, Use.OFF, Write.NOTHING, Kind.NONE, None),
        (ours(at("11:00")), Use.OFF, Write.DISABLE, Kind.NONE, None),
        (ours(at("11:00"), enabled=False), Use.OFF, Write.NOTHING, Kind.NONE, None),
        # Disabled too late for today, and started again: it comes all the same.
        (ours(at("08:20"), enabled=False, still=at("08:20")), Use.USED, Write.NOTHING, Kind.OURS, at("08:20")),
        (ours(at("07:50"), enabled=False, still=at("07:50")), Use.USED, Write.SET, Kind.OURS, at("11:00")),
        # Never touched: a user's own, one of ours that somebody has changed, one for another VM.
        *[(theirs(), use, Write.NOTHING, Kind.THEIRS, at("18:00")) for use in Use],
        (theirs(zone="Nowhere Standard Time"), Use.USED, Write.NOTHING, Kind.THEIRS, None),
        (theirs(""), Use.USED, Write.NOTHING, Kind.THEIRS, None),
        (theirs("2100", "UTC"), Use.USED, Write.NOTHING, Kind.THEIRS, at("21:00")),
        (theirs("0700", "UTC"), Use.USED, Write.NOTHING, Kind.THEIRS, at("07:00", 29)),
        *[(theirs(status="Disabled"), use, Write.NOTHING, Kind.NONE, None) for use in Use],
        (replace(ours(at("11:00")), time="1900"), Use.OFF, Write.NOTHING, Kind.THEIRS, at("19:00")),
        (replace(ours(at("11:00")), zone="GMT Standard Time"), Use.USED, Write.NOTHING, Kind.THEIRS, at("11:00")),
        (replace(ours(at("11:00")), target=VM + "2"), Use.USED, Write.NOTHING, Kind.NONE, None),
        (replace(ours(at("11:00")), target=VM.upper()), Use.USED, Write.NOTHING, Kind.OURS, at("11:00")),
    ],
)  # fmt: skip
def test_rules(found: Schedule | None, use: Use, write: Write, kind: Kind, when: datetime | None) -> None:
    decided = plan(found, NOW, use, VM)
    assert (decided.write, decided.result.kind, decided.result.at) == (write, kind, when)
    assert (decided.at is None) == (write is Write.NOTHING)
    assert decided.result.text.endswith(".")


def test_across_midnight_and_from_one_month_to_the_next() -> None:
    late = at("22:30", 30)
    decided = plan(None, late, Use.USED, VM)
    assert decided.at == datetime(2026, 12, 1, 1, 30, tzinfo=timezone.utc)
    assert decided.at is not None
    written = ours(decided.at)
    assert written.time == "0130"
    assert plan(written, late, Use.USED, VM).result.at == decided.at
    after_midnight = datetime(2026, 12, 1, 0, 0, 30, tzinfo=timezone.utc)
    assert plan(written, after_midnight, Use.USED, VM).at == datetime(2026, 12, 1, 3, 1, tzinfo=timezone.utc)


def test_keep_on_until() -> None:
    assert plan(None, NOW, Use.USED, VM, until=at("15:10")).at == at("15:10")
    assert plan(ours(at("11:00")), NOW, Use.USED, VM, until=at("15:10")).at == at("15:10")
    assert plan(ours(at("15:10")), NOW, Use.USED, VM, until=at("15:10")).write is Write.NOTHING
    # It is daily: what is farther than a day is reached in steps.
    assert plan(None, NOW, Use.USED, VM, until=at("08:00", 30)).at == at("07:00", 29)


def test_what_is_disabled_too_late_is_remembered() -> None:
    decided = plan(ours(at("08:20")), NOW, Use.OFF, VM)
    assert (decided.write, decided.still) == (Write.DISABLE, at("08:20"))
    assert decided.at is not None
    back = ours(decided.at, enabled=False, still=decided.still)
    assert not plan(back, at("08:05"), Use.USED, VM).result.averted
    assert plan(ours(at("11:00")), NOW, Use.OFF, VM).still is None


MOMENTS = st.integers(0, 3 * 24 * 3600).map(lambda s: at("00:00") + timedelta(seconds=s))


@given(now=MOMENTS, first=st.none() | MOMENTS, steps=st.lists(st.integers(1, 7200), max_size=30))
def test_however_often_and_late_it_is_looked_at(now: datetime, first: datetime | None, steps: list[int]) -> None:
    """While it is used: either it is at least two hours off, or it was too near already when somebody looked."""
    found = ours(first.replace(second=0)) if first else None
    for step in steps:
        decided = plan(found, now, Use.USED, VM)
        if decided.at is not None:
            assert found is None or following(found.time, now) - now >= FROZEN
            found = ours(decided.at)
        assert found is not None
        assert decided.result.at == following(found.time, now)
        left = following(found.time, now) - now
        assert left >= LEAST if decided.result.averted else left < FROZEN
        assert left <= AHEAD + timedelta(hours=1, minutes=1)
        again = plan(found, now, Use.USED, VM)
        assert again.write is Write.NOTHING
        now += timedelta(seconds=step)


def test_looked_at_in_time_it_never_strikes() -> None:
    now, found = NOW, None
    for _ in range(1000):
        decided = plan(found, now, Use.USED, VM)
        found = ours(decided.at) if decided.at is not None else found
        assert found is not None
        assert decided.result.averted
        assert following(found.time, now) - now >= timedelta(hours=1)
        now += timedelta(minutes=55, seconds=7)


# -- Azure's shape ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"properties": None, "tags": None},
        {"properties": {"dailyRecurrence": "1900", "status": "Enabled", "targetResourceId": VM}},
        {
            "properties": {"weeklyRecurrence": {"time": "1900"}, "targetResourceId": VM},
            "tags": {TAG: "2026-11-28T11:30Z"},
        },
        {
            "properties": {"dailyRecurrence": {"time": "2500"}, "targetResourceId": VM},
            "tags": {TAG: "2026-13-28T11:30Z"},
        },
        {"properties": {"dailyRecurrence": {"time": "1130"}, "targetResourceId": VM}, "tags": {TAG: "yes"}},
    ],
)
def test_what_makes_no_sense_is_left_alone(body: dict[str, Any]) -> None:
    found = parsed(body)
    assert not found.ours
    for use in Use:
        assert plan(found, NOW, use, VM).write is Write.NOTHING


def test_tags_of_others_stay() -> None:
    body = body_of(at("11:00"), True, VM, "westeurope", {"team": "vision", TAG.upper(): "old"}, None)
    assert body["tags"] == {"team": "vision", TAG: "2026-11-28T11:00Z"}
    assert parsed({**body, "tags": {TAG.upper(): "2026-11-28T11:00Z"}}).ours


def test_azures_clock() -> None:
    assert clock_of({"Date": "Sat, 28 Nov 2026 08:00:00 GMT"}, at("00:00")) == NOW
    assert clock_of({"Date": "Sat, 28 Nov 2026 08:00:00 -0000"}, at("00:00")) == NOW
    for odd in ({}, {"Date": "today"}, {"Date": ""}):
        assert clock_of(odd, at("00:00")) == at("00:00")


# -- against the emulator --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES, isolate=False, timeout=120) as running:
        yield running


@contextlib.contextmanager
def provider(emulator: Emulator) -> Iterator[AzureCompute]:
    """The provider that the emulator's configuration makes."""
    config = Config()
    for file in emulator.config_dir.glob("*.json"):
        config.merge(JSONFileConfigLoader(file.name, path=str(file.parent)).load_config())
    azure = AzureCompute(config=config, polling_interval=0.05)
    try:
        yield azure
    finally:
        azure.close()


@pytest.fixture
def azure(emulator: Emulator) -> Iterator[AzureCompute]:
    emulator.set_clock("2026-11-28T08:00:00Z")
    with provider(emulator) as one:
        yield one
    emulator.clear_faults()
    emulator.set_scenario(throttles=[])
    emulator.request("DELETE", path(emulator))
    emulator.set_clock("2026-12-28T08:00:00Z")  # whatever still was to come
    settled(emulator)
    if emulator.vm("cpu-vm")["power_state"] != "running":
        emulator.power("cpu-vm", "start")


@pytest.fixture
def safety(azure: AzureCompute) -> Schedules:
    """That of cpu-vm, over the provider's own client."""
    return azure.safety(resolve("cpu-vm", azure.list().computes).id)


def path(emulator: Emulator, name: str = "shutdown-computevm-cpu-vm") -> str:
    group = emulator.vm("cpu-vm")["id"].rpartition("/providers/")[0]
    return f"{group}/providers/Microsoft.DevTestLab/schedules/{name}?{API}"


def shown(emulator: Emulator) -> dict[str, Any]:
    status, _, body = emulator.request("GET", path(emulator))
    assert status == 200, body
    return dict(body)


def settled(emulator: Emulator, vm: str = "cpu-vm") -> str:
    deadline = time.monotonic() + 20
    while (state := str(emulator.vm(vm)["power_state"])) in ("deallocating", "starting"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return state


def users_own(emulator: Emulator, hhmm: str = "1900", zone: str = "W. Europe Standard Time") -> dict[str, Any]:
    body = {
        "location": "westeurope",
        "tags": {"team": "vision"},
        "properties": {
            "status": "Enabled",
            "taskType": "ComputeVmShutdownTask",
            "dailyRecurrence": {"time": hhmm},
            "timeZoneId": zone,
            "notificationSettings": {"status": "Disabled", "timeInMinutes": 30},
            "targetResourceId": emulator.vm("cpu-vm")["id"],
        },
    }
    status, _, answer = emulator.request("PUT", path(emulator), body)
    assert status in (200, 201), answer
    return dict(answer)


def test_a_server_that_died_and_the_schedule_that_stops_the_vm(emulator: Emulator, safety: Schedules) -> None:
    first = safety.keep(Use.USED)
    assert first.kind is Kind.OURS
    assert first.at in (at("11:00"), at("11:01"))
    body = shown(emulator)
    assert body["properties"]["timeZoneId"] == "UTC"
    assert body["properties"]["provisioningState"] == "Succeeded"
    # Used for hours, and pushed on each time in time.
    for _ in range(8):
        emulator.advance(50 * 60)
        kept = safety.keep(Use.USED)
        assert kept.averted
    assert kept.at is not None
    assert kept.at > at("16:30")
    assert emulator.clock["struck"] == []
    # Then nobody says anything any more.
    emulator.set_clock((kept.at - timedelta(seconds=30)).isoformat())
    assert settled(emulator) == "running"
    struck = emulator.advance(60)["struck"]
    assert [(one["vm"], one["at"], one["refused"]) for one in struck] == [("cpu-vm", kept.at.isoformat(), None)]
    assert settled(emulator) == "deallocated"
    # A new server finds it off: ours is disabled and does not come again.
    assert safety.keep(Use.OFF).kind is Kind.NONE
    assert shown(emulator)["properties"]["status"] == "Disabled"
    emulator.power("cpu-vm", "start")
    assert len(emulator.advance(3 * 24 * 3600)["struck"]) == 1
    assert settled(emulator) == "running"


def test_the_timer_strikes_without_anybody_asking(emulator: Emulator, safety: Schedules) -> None:
    kept = safety.keep(Use.USED)
    assert kept.at is not None
    before = len(emulator.clock["struck"])
    emulator.set_clock((kept.at - timedelta(seconds=0.4)).isoformat())
    deadline = time.monotonic() + 20
    while emulator.vm("cpu-vm")["power_state"] != "deallocated":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(emulator.clock["struck"]) == before + 1


def test_too_near_to_be_moved(emulator: Emulator, safety: Schedules) -> None:
    kept = safety.keep(Use.USED)
    assert kept.at is not None
    emulator.set_clock((kept.at - timedelta(minutes=20)).isoformat())
    late = safety.keep(Use.USED)
    assert (late.at, late.averted) == (kept.at, False)
    # And Azure would not have listened.
    body = shown(emulator)
    body["properties"]["dailyRecurrence"]["time"] = "2300"
    assert emulator.request("PUT", path(emulator), body)[0] == 200
    assert settled(emulator) == "running"
    emulator.advance(21 * 60)
    assert settled(emulator) == "deallocated"


def test_stopped_just_before_it_strikes_and_started_again(emulator: Emulator, safety: Schedules) -> None:
    kept = safety.keep(Use.USED)
    assert kept.at is not None
    emulator.set_clock((kept.at - timedelta(minutes=20)).isoformat())
    emulator.power("cpu-vm", "deallocate")
    assert safety.keep(Use.OFF).kind is Kind.NONE
    emulator.power("cpu-vm", "start")
    again = safety.keep(Use.USED)
    assert (again.at, again.averted) == (kept.at, False)
    emulator.advance(21 * 60)
    assert settled(emulator) == "deallocated"
    emulator.power("cpu-vm", "start")
    assert safety.keep(Use.USED).averted


def test_a_users_own_is_untouched_and_keeps_its_local_time(emulator: Emulator, safety: Schedules) -> None:
    emulator.set_clock("2026-10-24T08:00:00Z")  # the night before the clocks go back in Europe
    before = users_own(emulator)
    for use in Use:
        stop = safety.keep(use)
        assert stop.kind is Kind.THEIRS
        assert "19:00 (W. Europe Standard Time)" in stop.text
    assert shown(emulator) == before
    count = len(emulator.clock["struck"])
    emulator.set_clock("2026-10-24T17:30:00Z")
    assert settled(emulator) == "deallocated"
    emulator.power("cpu-vm", "start")
    emulator.set_clock("2026-10-25T17:30:00Z")
    assert settled(emulator) == "running"
    emulator.set_clock("2026-10-25T18:30:00Z")
    assert settled(emulator) == "deallocated"
    moments = [one["at"] for one in emulator.clock["struck"][count:]]
    assert moments == ["2026-10-24T17:00:00+00:00", "2026-10-25T18:00:00+00:00"]


def test_ours_does_not_move_with_summer_time(emulator: Emulator, safety: Schedules) -> None:
    emulator.set_clock("2026-03-28T23:30:00Z")  # two hours before the clocks go forward
    kept = safety.keep(Use.USED)
    assert kept.at is not None
    assert kept.at - datetime(2026, 3, 28, 23, 30, tzinfo=timezone.utc) < timedelta(hours=3, minutes=2)
    emulator.set_clock("2026-03-29T02:29:00Z")
    assert settled(emulator) == "running"
    emulator.set_clock("2026-03-29T02:31:30Z")
    assert settled(emulator) == "deallocated"


def test_somebody_who_changes_ours_in_the_portal_has_it(emulator: Emulator, safety: Schedules) -> None:
    safety.keep(Use.USED)
    body = shown(emulator)
    body["properties"] |= {"dailyRecurrence": {"time": "2200"}, "timeZoneId": "GMT Standard Time"}
    assert emulator.request("PUT", path(emulator), body)[0] == 200
    mine = shown(emulator)
    assert safety.keep(Use.USED).kind is Kind.THEIRS
    assert safety.keep(Use.OFF).kind is Kind.THEIRS
    assert shown(emulator) == mine


def test_a_clock_of_this_server_that_is_hours_off_does_not_matter(emulator: Emulator, safety: Schedules) -> None:
    """It is Azure's clock that counts: the emulator's is at another day than this computer's."""
    found, now = safety.read()
    assert found is None
    assert abs(now - at("08:00")) < timedelta(minutes=1)
    emulator.set_clock("2027-01-01T05:00:00Z")
    kept = safety.keep(Use.USED)
    assert kept.at is not None
    assert kept.at.date() == datetime(2027, 1, 1, tzinfo=timezone.utc).date()
    # Azure's own, set back by an hour: it is four hours off then, which is no harm; set forward: it is moved on.
    emulator.advance(-3600)
    assert safety.keep(Use.USED).at == kept.at
    emulator.advance(2.5 * 3600)
    moved = safety.keep(Use.USED)
    assert moved.at is not None
    assert moved.at > kept.at


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("AuthorizationFailed", 403, Forbidden),
        ("MissingSubscriptionRegistration", 409, OperationRefused),
        ("ScopeLocked", 409, OperationRefused),
        ("TooManyRequests", 429, Throttled),
    ],
)
def test_no_safety_stop_says_why(
    emulator: Emulator, safety: Schedules, code: str, status: int, error: type[Exception]
) -> None:
    message = "The client does not have authorization to perform action 'Microsoft.DevTestLab/schedules/write' over scope 'x'."
    emulator.fault("cpu-vm", "setSchedule", code=code, status=status, message=message, retry_after=120)
    stop = safety.keep(Use.USED)
    assert stop.kind is Kind.NONE
    assert stop.text.startswith("No safety stop: ")
    assert isinstance(stop.error, error)
    assert stop.error is not None
    assert stop.error.advice
    if code == "AuthorizationFailed":
        assert "Virtual Machine Contributor" in str(stop.error)
    assert safety.keep(Use.USED).kind is Kind.OURS  # the next look sets it


def test_a_look_that_fails(emulator: Emulator, safety: Schedules) -> None:
    safety.keep(Use.USED)
    emulator.fault("cpu-vm", "schedule", code="TooManyRequests", retry_after=300, times=1)
    stop = safety.keep(Use.USED)
    assert (stop.kind, type(stop.error)) == (Kind.NONE, Throttled)
    emulator.fault("cpu-vm", "schedule", code="InternalServerError", times=1)
    assert safety.keep(Use.USED).kind is Kind.OURS  # read again by the client itself


def test_written_and_not_shown(emulator: Emulator, safety: Schedules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "_write", lambda decided, tags: None)
    stop = safety.keep(Use.USED)
    assert stop.error is not None
    assert (stop.kind, stop.error.code) == (Kind.NONE, "NotAsWritten")


def test_another_server_moved_it_in_between(
    emulator: Emulator, safety: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = safety._write

    def other(decided: Any, tags: Any) -> None:
        write(decided, tags)
        write(replace(decided, at=decided.at + timedelta(minutes=7)), tags)

    monkeypatch.setattr(safety, "_write", other)
    stop = safety.keep(Use.USED)
    assert stop.kind is Kind.OURS
    assert stop.at is not None
    assert f"{stop.at:%H%M}" == shown(emulator)["properties"]["dailyRecurrence"]["time"]


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ([{"actions": ["*"], "notActions": []}], True),
        ([{"actions": ["*/read"]}, {"actions": ["microsoft.devtestlab/schedules/*"]}], True),
        ([{"actions": ["*"], "notActions": ["Microsoft.DevTestLab/*"]}], False),
        (
            [
                {"actions": ["*"], "notActions": ["Microsoft.DevTestLab/*"]},
                {"actions": ["Microsoft.DevTestLab/*/write"]},
            ],
            True,
        ),
        ([{"actions": ["*/read", "Microsoft.Compute/*"]}], False),
        ([{"actions": ["MicrosoftxDevTestLab/schedules/write"]}, {"actions": None}, {}], False),
        ([], False),
    ],
)
def test_what_an_account_may_do(permissions: list[dict[str, Any]], allowed: bool) -> None:
    assert may(permissions, WRITE_ACTION) is allowed


@pytest.mark.parametrize(
    ("subscription", "error", "advice"),
    [
        ({"without_schedules": True}, OperationRefused, "az provider register --namespace Microsoft.DevTestLab"),
        ({"actions": ["*/read", "Microsoft.Compute/*"]}, Forbidden, "Virtual Machine Contributor"),
    ],
)
def test_before_starting(
    safety: Schedules, tmp_path: Path, subscription: dict[str, Any], error: type[ComputeError], advice: str
) -> None:
    safety.check()
    scenario = {
        "subscriptions": [{"id": RESEARCH.id, "name": "Lab", **subscription}],
        "machines": [
            {"name": "vm", "resource_group": "lab", "subscription": "Lab", "ssh": False, "size": "Standard_D4ds_v5",
             "image": "microsoft-dsvm:ubuntu-2204:2204-gen2"},
        ],
    }  # fmt: skip
    with Emulator(tmp_path / "lab", scenario=scenario, timeout=120) as lab, provider(lab) as azure:
        one = azure.safety(azure.list().computes[0].id)
        with pytest.raises(error) as refused:
            one.check()
        assert advice in refused.value.advice
        stop = one.keep(Use.USED)  # Azure says the same
        assert stop.error is not None
        assert (stop.kind, type(stop.error), stop.error.code) == (Kind.NONE, error, refused.value.code)
        assert advice.rpartition(" --")[0] in stop.error.advice


# Time zones of the user's own


@pytest.mark.parametrize(
    ("zone", "time", "now", "expected"),
    [
        ("W. Europe Standard Time", "1900", "2026-11-28T08:00", "2026-11-28T18:00"),
        ("W. Europe Standard Time", "1900", "2026-11-28T18:00", "2026-11-29T18:00"),
        ("W. Europe Standard Time", "1900", "2026-07-01T08:00", "2026-07-01T17:00"),
        # The clocks go back that night, and forward.
        ("W. Europe Standard Time", "1900", "2026-10-24T17:30", "2026-10-25T18:00"),
        ("W. Europe Standard Time", "1900", "2026-03-28T18:30", "2026-03-29T17:00"),
        ("W. Europe Standard Time", "0230", "2026-03-28T12:00", "2026-03-29T01:30"),
        ("W. Europe Standard Time", "0230", "2026-10-24T12:00", "2026-10-25T00:30"),
        # It is another day there.
        ("Pacific Standard Time", "1900", "2026-11-28T02:00", "2026-11-28T03:00"),
        ("Tokyo Standard Time", "0100", "2026-11-28T15:30", "2026-11-28T16:00"),
        ("India Standard Time", "0000", "2026-11-28T18:29", "2026-11-28T18:30"),
        ("Nowhere Standard Time", "1900", "2026-11-28T08:00", None),
        ("", "1900", "2026-11-28T08:00", None),
    ],
)
def test_a_daily_time_in_a_zone(zone: str, time: str, now: str, expected: str | None) -> None:
    found = theirs_at(time, zone, datetime.fromisoformat(now).replace(tzinfo=timezone.utc))
    assert found == (datetime.fromisoformat(expected).replace(tzinfo=timezone.utc) if expected else None)


def test_the_emulator_and_we_mean_the_same_zones() -> None:
    for name, place in ZONES.items():
        if name != UTC_ZONE:
            ours, its = zone_of(name), ZoneInfo(place)
            assert ours is not None
            for month in (1, 7):
                moment = datetime(2026, month, 15, 12)
                assert ours.utcoffset(moment) == its.utcoffset(moment), name
