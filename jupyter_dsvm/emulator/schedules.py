"""The emulated auto-shutdown of VMs: ``Microsoft.DevTestLab/schedules``, and the clock by which it strikes.

Theory. A schedule is daily: a time of the day in a time zone, named as Windows names it. It strikes at the first such moment that
is at least 30 minutes after the schedule was written; and what was to strike within 30 minutes when it was changed, disabled or
deleted strikes once more all the same. So beside its body a schedule has two moments: ``next``, and ``held``, which no change
reaches. Striking deallocates the VM as anybody's request would; if that is refused, it is tried again the day after.

The clock runs with the computer's own, from where ``PUT /control/clock`` sets it: forward, and everything that was to
happen in between happens now, once; back, and nothing does. It is also in the ``Date`` of every answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from .records import Record
from .refusal import Refusal

if TYPE_CHECKING:
    from .arm import Arm

Json = dict[str, Any]

KIND = "Microsoft.DevTestLab/schedules"
TASK = "ComputeVmShutdownTask"
NOTICE = timedelta(minutes=30)

LONGEST_WAIT = 600.0
"""Seconds after which the clock is looked at again, whatever is due: the computer's own may have been set meanwhile."""

ZONES = {
    "UTC": "UTC", "GMT Standard Time": "Europe/London", "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris", "Central European Standard Time": "Europe/Warsaw",
    "GTB Standard Time": "Europe/Bucharest", "Russian Standard Time": "Europe/Moscow", "Eastern Standard Time": "America/New_York",
    "Central Standard Time": "America/Chicago", "Mountain Standard Time": "America/Denver",
    "Pacific Standard Time": "America/Los_Angeles", "India Standard Time": "Asia/Kolkata", "China Standard Time": "Asia/Shanghai",
    "Tokyo Standard Time": "Asia/Tokyo", "AUS Eastern Standard Time": "Australia/Sydney",
}  # fmt: skip
"""Those that are known here, from Unicode's windowsZones."""

_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)")


class Clock:
    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._ahead, timezone.utc)

    def set(self, moment: datetime) -> None:
        self._ahead = moment.timestamp() - time.time()


@dataclass
class Schedule:
    name: str
    group_id: str
    location: str
    properties: Json
    tags: Json
    created: datetime
    id_: str = field(default_factory=lambda: str(uuid.uuid4()))
    next: datetime | None = None
    """When it strikes next; None while it is disabled."""
    held: datetime | None = None
    """What was so near when it was changed that it strikes all the same."""

    @property
    def id(self) -> str:
        return f"{self.group_id}/providers/{KIND.lower()}/{self.name}"

    def body(self) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "type": KIND.lower(),
            "location": self.location,
            "tags": dict(self.tags),
            "properties": {
                **self.properties,
                "createdDate": f"{self.created:%Y-%m-%dT%H:%M:%S.%f}0+00:00",
                "provisioningState": "Succeeded",
                "uniqueIdentifier": self.id_,
            },
        }


def occurrence(hhmm: str, zone: str, after: datetime) -> datetime:
    """The first moment after ``after`` at which it is that time there. What a change of the clocks leaves out comes an hour
    later."""
    place = ZoneInfo(ZONES[zone])
    day = after.astimezone(place).date() - timedelta(days=1)
    while True:
        local = datetime(day.year, day.month, day.day, int(hhmm[:2]), int(hhmm[2:]), tzinfo=place)
        moment = local.astimezone(timezone.utc)
        if moment > after:
            return moment
        day += timedelta(days=1)


class Schedules:
    """Lives on the emulator's event loop."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.clock = Clock()
        self.struck: list[Json] = []
        """What it did: ``{"schedule", "vm", "at", "refused"}``, for tests."""
        self._all: dict[str, Schedule] = {}
        self._orphans: list[Schedule] = []
        """Deleted ones that still strike once."""
        self._timer: asyncio.TimerHandle | None = None

    # -- requests ---------------------------------------------------------------------------------------------------------

    def find(self, sub: str, group: str, name: str) -> Schedule:
        try:
            return self._all[self._key(sub, group, name)]
        except KeyError:
            raise Refusal(
                404,
                "ResourceNotFound",
                f"The Resource '{KIND}/{name}' under resource group '{group}' was not found. For more details please go "
                "to https://aka.ms/ARMResourceNotFoundFix",
            ) from None

    def of_group(self, sub: str, group: str | None) -> list[Schedule]:
        start = f"/subscriptions/{sub}/resourcegroups/{group}/" if group else f"/subscriptions/{sub}/"
        return [one for one in self._all.values() if one.id.lower().startswith(start.lower())]

    def put(self, sub: str, group: str, name: str, asked: Any) -> tuple[Schedule, bool]:
        """Make or replace one; whether it is new. Raises ``Refusal``."""
        self._registered(sub)
        self.arm.group(sub, group)
        self._allowed(sub, group, name)
        body = asked if isinstance(asked, dict) else {}
        given = body.get("properties")
        properties = dict(given) if isinstance(given, dict) else {}
        record = self._target(properties)
        self._check(sub, group, name, body, properties, record)
        key, now = self._key(sub, group, name), self.clock.now()
        old = self._all.get(key)
        properties["status"] = (
            "Enabled" if str(properties.get("status", "Disabled")).lower() == "enabled" else "Disabled"
        )
        properties.setdefault("notificationSettings", {"status": "Disabled", "timeInMinutes": 30})
        new = Schedule(
            name=old.name if old else name,
            group_id=record.group_id.replace("/resourceGroups/", "/resourcegroups/"),
            location=str(body["location"]).replace(" ", "").lower(),
            properties=properties,
            tags=dict(body.get("tags") or {}),
            created=old.created if old else now,
        )
        if old is not None:
            new.id_, new.held = old.id_, self._too_near(old, now)
        if properties["status"] == "Enabled":
            new.next = self._first(new, now)
            if new.held is not None:
                # The change counts from the next day on.
                while new.next.date() <= new.held.date():
                    new.next = self._after(new, new.next)
        self._all[key] = new
        self._arm_timer()
        return new, old is None

    def delete(self, sub: str, group: str, name: str) -> bool:
        """Whether there was one."""
        self._registered(sub)
        old = self._all.pop(self._key(sub, group, name), None)
        if old is not None:
            old.held, old.next = self._too_near(old, self.clock.now()), None
            if old.held is not None:
                self._orphans.append(old)
        self._arm_timer()
        return old is not None

    def _check(self, sub: str, group: str, name: str, body: Json, properties: Json, record: Record) -> None:
        machine = record.machine
        wanted = f"shutdown-computevm-{machine.name}"
        here = (machine.subscription.lower(), machine.resource_group.lower(), wanted.lower())
        if (sub.lower(), group.lower(), name.lower()) != here:
            raise Refusal(
                400,
                "InvalidScheduleId",
                f"The schedule should be created in subscription {machine.subscription}, resource group "
                f"{machine.resource_group} and with name {wanted}.",
            )
        if not body.get("location"):
            raise Refusal(400, "LocationRequired", "The location property is required for this definition.")
        if str(body["location"]).replace(" ", "").lower() != machine.location.lower():
            raise _invalid(f"The location of the schedule has to be that of the virtual machine, '{machine.location}'.")
        recurrence = properties.get("dailyRecurrence")
        hhmm = recurrence.get("time") if isinstance(recurrence, dict) else None
        if not isinstance(hhmm, str) or not _TIME.fullmatch(hhmm):
            raise _invalid(f"The time '{hhmm}' of the daily recurrence is not valid. It has to have the format HHmm.")
        if properties.get("timeZoneId") not in ZONES:
            raise _invalid(f"The time zone '{properties.get('timeZoneId')}' is not valid.")
        if str(properties.get("status", "Disabled")).lower() not in ("enabled", "disabled"):
            raise _invalid(f"The status '{properties.get('status')}' is not valid.")
        notice = properties.get("notificationSettings")
        if isinstance(notice, dict) and type(notice.get("timeInMinutes", 30)) is not int:
            raise Refusal(
                400, "InvalidRequestContent", "The request content was invalid: 'timeInMinutes' is no integer."
            )

    def _target(self, properties: Json) -> Record:
        if properties.get("taskType") != TASK:
            raise _invalid(f"The task type '{properties.get('taskType')}' is not supported outside of a lab.")
        record = self.arm.by_id(str(properties.get("targetResourceId") or ""))
        if record is None:
            raise _invalid(f"The target resource '{properties.get('targetResourceId')}' was not found.")
        return record

    def _registered(self, sub: str) -> None:
        if self.arm.known_subscription(sub).without_schedules:
            raise Refusal(
                409,
                "MissingSubscriptionRegistration",
                "The subscription is not registered to use namespace 'Microsoft.DevTestLab'. See "
                "https://aka.ms/rps-not-found for how to register subscriptions.",
            )

    def _allowed(self, sub: str, group: str, name: str) -> None:
        action = f"{KIND}/write"
        if not any(fnmatch.fnmatch(action.lower(), one.lower()) for one in self.arm.known_subscription(sub).actions):
            raise Refusal(
                403,
                "AuthorizationFailed",
                "The client 'someone@example.com' with object id '3f1c9b62-5e0d-4b87-a2c4-9d6e7f801b35' does not have "
                f"authorization to perform action '{action}' over scope '/subscriptions/{sub}/resourceGroups/{group}/providers/"
                f"{KIND}/{name}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            )

    @staticmethod
    def _key(sub: str, group: str, name: str) -> str:
        return f"{sub}/{group}/{name}".lower()

    # -- time -------------------------------------------------------------------------------------------------------------

    def set_clock(self, moment: datetime) -> None:
        """What lies between is done when this returns; the VMs are then being deallocated."""
        self._look()
        back = moment < self.clock.now()
        self.clock.set(moment)
        if back:
            for one in self._all.values():
                if one.next is not None:
                    one.next = self._first(one, moment, notice=timedelta(0))
        self._look()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def state(self) -> Json:
        return {
            "now": self.clock.now().isoformat(),
            "struck": list(self.struck),
            "schedules": [
                {"id": one.id, "next": one.next and one.next.isoformat(), "held": one.held and one.held.isoformat()}
                for one in self._all.values()
            ],
        }

    def _first(self, one: Schedule, now: datetime, notice: timedelta = NOTICE) -> datetime:
        moment = self._after(one, now)
        return moment if moment - now >= notice else self._after(one, moment)

    @staticmethod
    def _after(one: Schedule, moment: datetime) -> datetime:
        return occurrence(one.properties["dailyRecurrence"]["time"], one.properties["timeZoneId"], moment)

    @staticmethod
    def _too_near(old: Schedule, now: datetime) -> datetime | None:
        near = [m for m in (old.held, old.next) if m is not None and timedelta(0) <= m - now < NOTICE]
        return min(near, default=None)

    def _look(self) -> None:
        """Strike what is due."""
        now = self.clock.now()
        for one in [*self._all.values(), *self._orphans]:
            due = [moment for moment in (one.held, one.next) if moment is not None and moment <= now]
            if due:
                self._strike(one, min(due))
            if one.held is not None and one.held <= now:
                one.held = None
            if one.next is not None and one.next <= now:
                one.next = self._after(one, now)
        self._orphans = [one for one in self._orphans if one.held is not None]
        self._arm_timer()

    def _strike(self, one: Schedule, at: datetime) -> None:
        record = self.arm.by_id(str(one.properties["targetResourceId"]))
        if record is None or not record.allocated:
            return  # it is off already, or no more
        refused = None
        try:
            self.arm.begin("deallocate", record)
        except Refusal as refusal:
            refused = refusal.code
        self.struck.append({"schedule": one.name, "vm": record.machine.name, "at": at.isoformat(), "refused": refused})

    def _arm_timer(self) -> None:
        self.close()
        coming = [m for one in (*self._all.values(), *self._orphans) for m in (one.next, one.held) if m is not None]
        if coming:
            wait = (min(coming) - self.clock.now()).total_seconds()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(max(0.0, wait), LONGEST_WAIT), self._look)


def moment_of(asked: Any, now: Callable[[], datetime]) -> datetime:
    """Of ``{"now": "2026-11-28T11:30:00Z"}`` or ``{"advance": seconds}``. Raises ``ValueError``."""
    given = asked if isinstance(asked, dict) else {}
    if set(given) == {"advance"} and isinstance(given["advance"], (int, float)):
        with contextlib.suppress(OverflowError):
            return now() + timedelta(seconds=given["advance"])
    if set(given) == {"now"} and isinstance(given["now"], str):
        moment = datetime.fromisoformat(given["now"].replace("Z", "+00:00"))
        if moment.tzinfo is not None:
            return moment.astimezone(timezone.utc)
    raise ValueError('The clock is set with {"now": "2026-11-28T11:30:00Z"} or with {"advance": seconds}.')


def _invalid(message: str) -> Refusal:
    return Refusal(400, "InvalidRequestContent", message)
