"""The dead man's switch: the VM's own auto-shutdown schedule, set ahead while it is used; Azure stops a VM whose server died.

Called on attach, every few minutes while the VM is used, and once it is off; on a worker thread. Theory. A VM has one such
schedule, ``Microsoft.DevTestLab/schedules`` named ``shutdown-computevm-NAME`` in its resource group. It is daily, and a change that
comes less than 30 minutes before the time that it had counts from the next day on. So ours is in UTC, lies ``AHEAD`` of now, is
moved on while ``LEAST`` are left, and is disabled once the VM is off, so that it does not come again the day after. It carries
``TAG``. One without the tag, or whose time somebody has changed, is the user's: it is read, shown, and left alone.

``plan`` decides, and is pure; ``Schedules`` asks and writes. The clock is Azure's, from the ``Date`` of its answers: this
server's may be wrong by hours, and Azure would stop the VM by its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from ...errors import ComputeError, DSVMError, Forbidden, OperationRefused, printable
from .errors import NOT_THERE
from .faults import role_for
from .zones import next_moment, zone_of

if TYPE_CHECKING:
    from .client import ArmClient
    from .machine import VirtualMachine

API = "2018-09-15"
NAMESPACE = "Microsoft.DevTestLab"
TASK = "ComputeVmShutdownTask"
WRITE_ACTION = "Microsoft.DevTestLab/schedules/write"
UTC_ZONE = "UTC"
TAG = "jupyter-dsvm-safety-stop"
"""Its value is the moment for which it was set, ``2026-11-28T11:30Z``; perhaps with that of an earlier one that may still come."""

AHEAD = timedelta(hours=3)
LEAST = timedelta(hours=2)
FROZEN = timedelta(minutes=31)
"""Nearer than this it is not moved any more: Azure's 30 minutes, and one for the request and the rounding of its clock."""
FARTHEST = timedelta(hours=23)
"""It is daily: what is to come later than in a day would come sooner."""
SLACK = timedelta(hours=1)
"""How much farther than wanted it may be before it is brought nearer, as one that is left over from yesterday."""

_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}Z)(?: still (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}Z))?")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)")


class Use(Enum):
    """What the caller knows of the VM."""

    OFF = "off"
    """Deallocated. One that is stopped and still billed is not: the schedule deallocates it."""
    IDLE = "idle"
    """On, and nothing of ours keeps it on."""
    USED = "used"


class Kind(Enum):
    OURS = "ours"
    THEIRS = "theirs"
    NONE = "none"


@dataclass(frozen=True)
class SafetyStop:
    """What holds, for the page and the magic."""

    kind: Kind
    text: str
    """A sentence."""
    at: datetime | None = None
    """When Azure stops the VM next; None where there is none, or it is in a time zone that is not known here."""
    averted: bool = True
    """False: it comes at that time, and nothing can be done about it any more."""
    error: DSVMError | None = None
    """Why there is none; what to do is in its advice."""
    left: timedelta | None = field(default=None, compare=False)
    """From Azure's present time to ``at``: this server's clock may be wrong."""


@dataclass(frozen=True)
class Schedule:
    """One as Azure has it."""

    enabled: bool
    time: str
    """``HHMM``; empty where it is no daily one."""
    zone: str
    """Azure's name of it, which is Windows'."""
    target: str
    task: str
    set_for: datetime | None = None
    """What our tag says; None without one."""
    still: datetime | None = None
    """When it may still strike although it was disabled: that was too late for that day."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Somebody who changed its time or its zone has made it their own."""
        known = self.set_for is not None and self.zone == UTC_ZONE and self.task.lower() == TASK.lower()
        return known and self.set_for is not None and f"{self.set_for:%H%M}" == self.time

    @property
    def shown(self) -> str:
        """``19:00 (W. Europe Standard Time)``."""
        clock = f"{self.time[:2]}:{self.time[2:]}" if self.time else "a time of its own"
        return f"{clock} ({printable(self.zone, 60)})" if self.zone else clock


class Write(Enum):
    NOTHING = "nothing"
    SET = "set"
    DISABLE = "disable"


@dataclass(frozen=True)
class Plan:
    write: Write
    result: SafetyStop
    """What holds once that is done."""
    at: datetime | None = None
    still: datetime | None = None
    """For the tag of one that is disabled."""


# -- the rules -------------------------------------------------------------------------------------------------------------------


def plan(
    found: Schedule | None, now: datetime, use: Use, vm: str, *, ahead: timedelta = AHEAD, until: datetime | None = None
) -> Plan:
    """What to write. ``vm``: its resource id. ``until``: the user wants it kept on until then. Every moment is in UTC."""
    if found is not None and found.target.lower() != vm.lower():
        return _leave(_none("its auto-shutdown schedule is for another VM, and is left alone."))
    if found is not None and not found.ours:
        if found.enabled:
            return _leave(
                SafetyStop(
                    Kind.THEIRS,
                    f"Azure stops it every day at {found.shown}, by a schedule that is not ours.",
                    theirs_at(found.time, found.zone, now),
                )
            )
        return _leave(_none(f"its own auto-shutdown schedule ({found.shown}) is switched off, and is left alone."))
    if use is Use.OFF:
        if found is not None and found.enabled:
            coming = following(found.time, now)
            still = coming if coming - now < FROZEN else None
            return Plan(Write.DISABLE, _none("the VM is off."), found.set_for, still)
        return _leave(_none("the VM is off."))
    if found is not None and found.still is not None and timedelta(0) <= found.still - now < FROZEN:
        return _leave(_frozen(found.still))
    coming_at = following(found.time, now) if found is not None and found.enabled else None
    if use is Use.IDLE:
        return _leave(_ours(coming_at) if coming_at is not None else _none("none is set."))
    wanted = min(max(now + ahead, until or now), now + FARTHEST)
    if coming_at is not None:
        left = coming_at - now
        if left < FROZEN:
            return _leave(_frozen(coming_at))
        needed = min(max(now + min(LEAST, ahead), until or now), now + FARTHEST)
        if needed <= coming_at <= wanted + SLACK:
            return _leave(_ours(coming_at))
    at = whole_minute(wanted)
    return Plan(Write.SET, _ours(at), at)


def following(time: str, now: datetime) -> datetime:
    """The next moment after ``now`` at which it is ``HHMM`` in UTC."""
    at = now.replace(hour=int(time[:2]), minute=int(time[2:]), second=0, microsecond=0)
    return at if at > now else at + timedelta(days=1)


def theirs_at(time: str, zone: str, now: datetime) -> datetime | None:
    """The same in a time zone that Azure names; None where it is not known, or there is no daily time."""
    if not time or zone == UTC_ZONE:
        return following(time, now) if time else None
    place = zone_of(zone)
    return next_moment(int(time[:2]), int(time[2:]), place, now) if place is not None else None


def whole_minute(moment: datetime) -> datetime:
    """Rounded up."""
    cut = moment.replace(second=0, microsecond=0)
    return cut if cut == moment else cut + timedelta(minutes=1)


def _leave(result: SafetyStop) -> Plan:
    return Plan(Write.NOTHING, result)


def _ours(at: datetime) -> SafetyStop:
    return SafetyStop(Kind.OURS, f"Azure stops it at {at:%H:%M} UTC unless it is used then.", at)


def _frozen(at: datetime) -> SafetyStop:
    text = f"Azure stops it at {at:%H:%M} UTC: that is too near to be moved. Save what you need."
    return SafetyStop(Kind.OURS, text, at, averted=False)


def _with_time(result: SafetyStop, now: datetime) -> SafetyStop:
    return replace(result, left=result.at - now) if result.at is not None else result


def _none(why: str, error: DSVMError | None = None) -> SafetyStop:
    return SafetyStop(Kind.NONE, f"No safety stop: {why}", error=error)


# -- Azure's shape ---------------------------------------------------------------------------------------------------------------


def parsed(body: Mapping[str, Any]) -> Schedule:
    """What makes no sense is taken for somebody else's, which is left alone."""
    properties = _mapping(body.get("properties"))
    time = str(_mapping(properties.get("dailyRecurrence")).get("time") or "")
    tags = {str(k): str(v) for k, v in _mapping(body.get("tags")).items()}
    said = _MOMENT.fullmatch(next((v for k, v in tags.items() if k.lower() == TAG), ""))
    return Schedule(
        # Anything but "Disabled" may strike.
        enabled=str(properties.get("status")).lower() != "disabled",
        time=time if _TIME.fullmatch(time) else "",
        zone=str(properties.get("timeZoneId") or ""),
        target=str(properties.get("targetResourceId") or ""),
        task=str(properties.get("taskType") or ""),
        set_for=_moment(said[1]) if said else None,
        still=_moment(said[2]) if said and said[2] else None,
        tags=tags,
    )


def body_of(
    at: datetime, enabled: bool, vm: str, location: str, tags: Mapping[str, str], still: datetime | None
) -> dict[str, Any]:
    value = f"{at:%Y-%m-%dT%H:%MZ}" + (f" still {still:%Y-%m-%dT%H:%MZ}" if still else "")
    return {
        "location": location,
        "tags": {**{k: v for k, v in tags.items() if k.lower() != TAG}, TAG: value},
        "properties": {
            "status": "Enabled" if enabled else "Disabled",
            "taskType": TASK,
            "dailyRecurrence": {"time": f"{at:%H%M}"},
            "timeZoneId": UTC_ZONE,
            "notificationSettings": {"status": "Disabled", "timeInMinutes": 30},
            "targetResourceId": vm,
        },
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def clock_of(headers: Mapping[str, str], otherwise: datetime) -> datetime:
    """Azure's time, from the ``Date`` of an answer."""
    try:
        said = parsedate_to_datetime(headers.get("Date") or "")
    except (TypeError, ValueError):
        return otherwise
    return said.astimezone(timezone.utc) if said.tzinfo is not None else said.replace(tzinfo=timezone.utc)


def may(permissions: Sequence[Mapping[str, Any]], action: str) -> bool:
    """Whether one of the account's roles allows it: what Azure's list of permissions says, in which ``*`` is any text."""

    def named(patterns: Any) -> bool:
        texts = [one for one in patterns if isinstance(one, str)] if isinstance(patterns, list) else []
        return any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), action, re.IGNORECASE) for one in texts)

    return any(named(one.get("actions")) and not named(one.get("notActions")) for one in permissions)


# -- asking and writing ----------------------------------------------------------------------------------------------------------


class Schedules:
    """The schedule of one VM. Blocks: two to three requests."""

    def __init__(self, client: ArmClient, machine: VirtualMachine, ahead: timedelta = AHEAD) -> None:
        """``ahead``: how long after the last word of a server Azure stops the VM; an hour at least."""
        self._client, self._machine = client, machine
        self._ahead = min(max(ahead, timedelta(hours=1)), FARTHEST)
        group = f"/subscriptions/{machine.subscription}/resourceGroups/{machine.group}"
        self.vm = f"{group}/providers/Microsoft.Compute/virtualMachines/{machine.name}"
        self.path = f"{group}/providers/{NAMESPACE}/schedules/shutdown-computevm-{machine.name}"

    def read(self) -> tuple[Schedule | None, datetime]:
        """As Azure has it, and what time it is there. Raises our errors."""
        try:
            with self._client.translated(f"read the auto-shutdown schedule of {self._machine.name}"):
                _, body, headers = self._client.send("GET", self.path, API)
        except NOT_THERE as error:
            response = getattr(error.__cause__, "response", None)
            return None, clock_of(getattr(response, "headers", {}), datetime.now(timezone.utc))
        return parsed(body), clock_of(headers, datetime.now(timezone.utc))

    def check(self) -> None:
        """Before a VM is started: whether it could have a safety stop. Raises ``OperationRefused`` where Azure's service for
        schedules is not there, ``Forbidden`` where the account may not write one."""
        with self._client.translated(f"look whether {NAMESPACE} is registered"):
            answer = self._client.get(
                f"/subscriptions/{self._machine.subscription}/providers/{NAMESPACE}", "2021-04-01"
            )
        state = str(answer.get("registrationState") or "")
        if state.lower() != "registered":
            raise OperationRefused(
                f"{self._machine.name} can have no safety stop: the subscription is not registered for {NAMESPACE} "
                f"({printable(state, 40) or 'unknown'}).",
                advice=f"Register it once: `az provider register --namespace {NAMESPACE}`.",
                code="MissingSubscriptionRegistration",
            )
        group = self.path.partition("/providers/")[0]
        try:
            with self._client.translated(f"read what this account may do with {self._machine.name}"):
                allowed = list(
                    self._client.pages(f"{group}/providers/Microsoft.Authorization/permissions", "2022-04-01")
                )
        except DSVMError:
            return  # who may not even read that hears it when the schedule is written
        if not may(allowed, WRITE_ACTION):
            raise Forbidden(
                f"{self._machine.name} can have no safety stop: this account may not write its auto-shutdown schedule "
                f"({WRITE_ACTION}).",
                advice=f"Ask for the role {role_for(WRITE_ACTION)} on the VM's resource group.",
                code="AuthorizationFailed",
            )

    def keep(self, use: Use, until: datetime | None = None, least: timedelta | None = None) -> SafetyStop:
        """Bring it to where the rules want it, and read it back. What fails is in the result, as "No safety stop". ``least``: how
        long the user wants it kept on from now, which ``until`` says as a moment."""
        try:
            found, now = self.read()
            if least is not None:
                until = max(until or now, now + least)
            decided = plan(found, now, use, self.vm, ahead=self._ahead, until=until)
            if decided.write is Write.NOTHING or decided.at is None:
                return _with_time(decided.result, now)
            self._write(decided, dict(found.tags) if found is not None else {})
            return _with_time(self._confirmed(decided, use), now)
        except DSVMError as error:
            return _none(error.message, error)

    def _write(self, decided: Plan, tags: Mapping[str, str]) -> None:
        assert decided.at is not None
        enabled = decided.write is Write.SET
        location = self._machine.compute.location or ""
        body = body_of(decided.at, enabled, self.vm, location, tags, decided.still)
        with self._client.translated(
            f"{'set' if enabled else 'disable'} the auto-shutdown schedule of {self._machine.name}"
        ):
            self._client.send("PUT", self.path, API, body)

    def _confirmed(self, decided: Plan, use: Use) -> SafetyStop:
        """By what Azure shows now, not by what it answered to the write."""
        found, now = self.read()
        enabled = decided.write is Write.SET
        as_written = (
            found is not None
            and found.ours
            and found.enabled is enabled
            and found.set_for == decided.at
            and found.target.lower() == self.vm.lower()
        )
        if as_written:
            return decided.result
        if found is not None and found.ours and found.enabled and use is Use.USED:
            # Another server has moved it in between; theirs holds if it is far enough.
            other = plan(found, now, use, self.vm, ahead=self._ahead)
            if other.write is Write.NOTHING:
                return other.result
        raise ComputeError(
            f"Azure accepted the auto-shutdown schedule of {self._machine.name}, but does not show it as it was written.",
            advice="Look at Auto-shutdown of the VM in the Azure portal.",
            code="NotAsWritten",
        )
