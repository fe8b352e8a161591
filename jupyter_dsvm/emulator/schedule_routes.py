"""What the emulator answers about auto-shutdown schedules; a part of ``routes.Handler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .arm import Arm

Json = dict[str, Any]

_SCHEDULES = r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.devtestlab/schedules"
_OF_SUBSCRIPTION = r"/subscriptions/(?P<sub>[^/]+)/providers/microsoft\.devtestlab"
SCHEDULE_ROUTES: list[tuple[str, str, str]] = [
    ("GET", _OF_SUBSCRIPTION, "lab_provider"),
    ("GET", _OF_SUBSCRIPTION + "/schedules", "schedules"),
    (
        "GET",
        r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.authorization/permissions",
        "permissions",
    ),
    ("GET", _SCHEDULES, "schedules"),
    ("GET", _SCHEDULES + r"/(?P<name>[^/]+)", "schedule"),
    ("PUT", _SCHEDULES + r"/(?P<name>[^/]+)", "put_schedule"),
    ("DELETE", _SCHEDULES + r"/(?P<name>[^/]+)", "delete_schedule"),
]
PREFIX = "shutdown-computevm-"


class ScheduleRoutes:
    arm: Arm
    asked: Any
    set_status: Any

    def on_lab_provider(self, sub: str) -> Json:
        """Whether the subscription may use it at all."""
        one = self.arm.known_subscription(sub)
        return {
            "id": f"/subscriptions/{one.id}/providers/Microsoft.DevTestLab",
            "namespace": "Microsoft.DevTestLab",
            "registrationState": "NotRegistered" if one.without_schedules else "Registered",
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": [
                {
                    "resourceType": "schedules",
                    "locations": list(self.arm.locations.values()),
                    "apiVersions": ["2018-09-15"],
                }
            ],
        }

    def on_permissions(self, sub: str, group: str) -> Json:
        one = self.arm.known_subscription(sub)
        self.arm.group(sub, group)
        return {"value": [{"actions": list(one.actions), "notActions": [], "dataActions": [], "notDataActions": []}]}

    def on_schedules(self, sub: str, group: str | None = None) -> Json:
        self.arm.known_subscription(sub)
        if group is not None:
            self.arm.group(sub, group)
        return {"value": [one.body() for one in self.arm.schedules.of_group(sub, group)]}

    def on_schedule(self, sub: str, group: str, name: str) -> Json:
        self._fault("schedule", name)
        self.arm.group(sub, group)
        return self.arm.schedules.find(sub, group, name).body()

    def on_put_schedule(self, sub: str, group: str, name: str) -> Json:
        self._fault("setSchedule", name)
        one, new = self.arm.schedules.put(sub, group, name, self.asked)
        self.set_status(201 if new else 200)
        return one.body()

    def on_delete_schedule(self, sub: str, group: str, name: str) -> None:
        self._fault("setSchedule", name)
        self.arm.group(sub, group)
        self.set_status(200 if self.arm.schedules.delete(sub, group, name) else 204)

    def _fault(self, operation: str, name: str) -> None:
        """Faults are set for the VM, whose name is in the schedule's."""
        vm = name[len(PREFIX) :] if name.lower().startswith(PREFIX) else name
        self.arm.raise_fault(operation, self.arm.concerned(vm))
