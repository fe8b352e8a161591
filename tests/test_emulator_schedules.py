"""The emulated auto-shutdown by itself: shapes, refusals, the 30 minutes, time zones and the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from jupyter_dsvm.emulator.client import ControlError, Emulator
from jupyter_dsvm.emulator.machines import STANDARD
from jupyter_dsvm.emulator.schedules import ZONES, occurrence

MACHINES = tuple(replace(machine, ssh=False) for machine in STANDARD)
VERSION = "api-version=2018-09-15"
PROPERTIES = {"status": "Enabled", "taskType": "ComputeVmShutdownTask", "timeZoneId": "UTC"}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES, isolate=False, timeout=120) as running:
        yield running


@pytest.fixture(autouse=True)
def clean(emulator: Emulator) -> Iterator[None]:
    emulator.set_clock("2026-11-28T08:00:00Z")
    yield
    emulator.clear_faults()
    emulator.request("DELETE", path(emulator))
    emulator.set_clock("2027-02-01T08:00:00Z")
    if settled(emulator) != "running":
        emulator.power("cpu-vm", "start")


def path(emulator: Emulator, name: str = "shutdown-computevm-cpu-vm") -> str:
    group = emulator.vm("cpu-vm")["id"].rpartition("/providers/")[0]
    return f"{group}/providers/Microsoft.DevTestLab/schedules/{name}?{VERSION}"


def settled(emulator: Emulator) -> str:
    deadline = time.monotonic() + 20
    while (state := str(emulator.vm("cpu-vm")["power_state"])) in ("deallocating", "starting"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return state


def put(
    emulator: Emulator, hhmm: str = "1100", name: str = "shutdown-computevm-cpu-vm", **more: Any
) -> tuple[int, Any]:
    properties = {
        **PROPERTIES,
        "dailyRecurrence": {"time": hhmm},
        "targetResourceId": emulator.vm("cpu-vm")["id"],
        **more,
    }
    body = {"location": "westeurope", "tags": {"a": "b"}, "properties": properties}
    status, _, answer = emulator.request("PUT", path(emulator, name), body)
    return status, answer


def test_made_replaced_listed_and_deleted(emulator: Emulator) -> None:
    assert emulator.request("GET", path(emulator))[0] == 404
    status, made = put(emulator)
    assert status == 201
    assert made["type"] == "microsoft.devtestlab/schedules"
    assert made["tags"] == {"a": "b"}
    assert made["properties"]["notificationSettings"]["status"] == "Disabled"
    status, again = put(emulator, "1200")
    assert status == 200
    assert again["properties"]["uniqueIdentifier"] == made["properties"]["uniqueIdentifier"]
    assert emulator.request("GET", path(emulator).upper().replace("API-VERSION", "api-version"))[2] == again
    everywhere = emulator.request("GET", path(emulator, "x").replace("/x?", "?"))[2]
    assert everywhere["value"] == [again]
    assert emulator.request("DELETE", path(emulator))[0] == 200
    assert emulator.request("DELETE", path(emulator))[0] == 204


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"name": "auto-shutdown"}, "InvalidScheduleId", "with name shutdown-computevm-cpu-vm"),
        ({"taskType": "LabVmsShutdownTask"}, "InvalidRequestContent", "task type"),
        ({"targetResourceId": "/subscriptions/x"}, "InvalidRequestContent", "was not found"),
        ({"hhmm": "24:00"}, "InvalidRequestContent", "HHmm"),
        ({"dailyRecurrence": None}, "InvalidRequestContent", "HHmm"),
        ({"timeZoneId": "Europe/Berlin"}, "InvalidRequestContent", "time zone"),
        ({"status": "On"}, "InvalidRequestContent", "status"),
        ({"notificationSettings": {"timeInMinutes": "30"}}, "InvalidRequestContent", "timeInMinutes"),
    ],
)
def test_refused(emulator: Emulator, changes: dict[str, Any], code: str, text: str) -> None:
    status, answer = put(emulator, **changes)
    assert (status, answer["error"]["code"]) == (400, code)
    assert text in answer["error"]["message"]


def test_less_than_thirty_minutes_ahead_is_for_tomorrow(emulator: Emulator) -> None:
    put(emulator, "0829")
    assert emulator.clock["schedules"][0]["next"] == "2026-11-29T08:29:00+00:00"
    put(emulator, "0835")
    assert emulator.clock["schedules"][0]["next"] == "2026-11-28T08:35:00+00:00"


@pytest.mark.parametrize("change", ["moved", "disabled", "deleted"])
def test_what_is_near_strikes_all_the_same(emulator: Emulator, change: str) -> None:
    put(emulator, "0900")
    emulator.set_clock("2026-11-28T08:31:00Z")
    if change == "moved":
        put(emulator, "1500")
    elif change == "disabled":
        put(emulator, "0900", status="Disabled")
    else:
        emulator.request("DELETE", path(emulator))
    emulator.set_clock("2026-11-28T09:00:01Z")
    assert settled(emulator) == "deallocated"
    emulator.power("cpu-vm", "start")
    emulator.set_clock("2026-11-28T23:00:00Z")
    assert settled(emulator) == "running"
    emulator.set_clock("2026-11-29T16:00:00Z")
    assert settled(emulator) == ("deallocated" if change == "moved" else "running")


def test_moved_in_time(emulator: Emulator) -> None:
    put(emulator, "0900")
    emulator.set_clock("2026-11-28T08:29:00Z")
    put(emulator, "1500")
    emulator.set_clock("2026-11-28T14:59:00Z")
    assert settled(emulator) == "running"
    emulator.set_clock("2026-11-28T15:00:00Z")
    assert settled(emulator) == "deallocated"


def test_a_refused_deallocation_is_tried_the_day_after(emulator: Emulator) -> None:
    emulator.fault("cpu-vm", "deallocate", code="InternalServerError", times=1)
    put(emulator, "0900")
    before = len(emulator.clock["struck"])
    emulator.set_clock("2026-11-28T09:01:00Z")
    assert emulator.clock["struck"][before]["refused"] == "InternalServerError"
    assert settled(emulator) == "running"
    emulator.set_clock("2026-11-29T09:01:00Z")
    assert settled(emulator) == "deallocated"


def test_a_vm_that_is_off_or_gone(emulator: Emulator) -> None:
    put(emulator, "0900")
    before = len(emulator.clock["struck"])
    emulator.power("cpu-vm", "deallocate")
    assert len(emulator.advance(7200)["struck"]) == before


def test_back_and_forth(emulator: Emulator) -> None:
    put(emulator, "0900")
    emulator.set_clock("2026-11-20T08:00:00Z")
    assert emulator.clock["schedules"][0]["next"] == "2026-11-20T09:00:00+00:00"
    assert settled(emulator) == "running"
    before = len(emulator.clock["struck"])
    assert len(emulator.advance(5 * 86400)["struck"]) == before + 1
    for wrong in ({}, {"now": "noon"}, {"now": "2026-11-28T08:00:00"}, {"advance": "1"}, {"advance": 1e300}, []):
        with pytest.raises(ControlError, match="400"):
            emulator.control("PUT", "clock", wrong)
    emulator.set_clock("2026-11-28T08:00:00Z")
    assert emulator.request("GET", f"/subscriptions?{VERSION}")[1]["date"].startswith("Sat, 28 Nov 2026 08:00:0")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("hhmm", "zone", "after", "expected"),
    [
        ("1900", "UTC", "2026-03-28T19:00", "2026-03-29T19:00"),
        ("1900", "W. Europe Standard Time", "2026-03-28T12:00", "2026-03-28T18:00"),
        ("1900", "W. Europe Standard Time", "2026-03-28T18:00", "2026-03-29T17:00"),
        # What does not exist that night comes an hour later, and what is there twice comes once.
        ("0230", "W. Europe Standard Time", "2026-03-28T22:00", "2026-03-29T01:30"),
        ("0230", "W. Europe Standard Time", "2026-10-24T22:00", "2026-10-25T00:30"),
        ("0230", "W. Europe Standard Time", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("0100", "Tokyo Standard Time", "2026-11-28T08:00", "2026-11-28T16:00"),
        ("2300", "Pacific Standard Time", "2026-11-28T06:59", "2026-11-28T07:00"),
    ],
)
def test_local_time(hhmm: str, zone: str, after: str, expected: str) -> None:
    assert occurrence(hhmm, zone, utc(after)) == utc(expected)


def test_every_zone_is_one_of_this_computer() -> None:
    for zone in ZONES:
        assert occurrence("1200", zone, utc("2026-11-28T08:00")) > utc("2026-11-28T08:00")
