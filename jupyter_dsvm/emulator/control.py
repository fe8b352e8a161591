"""The emulator's own interface, ``/control/…``: what goes wrong, how slow it is, SSH servers; a part of ``routes.Handler``."""

from __future__ import annotations

import dataclasses
import re
import uuid
from typing import TYPE_CHECKING, Any

from . import scenario
from .faults import Fault
from .records import Record
from .refusal import Refusal
from .schedules import moment_of

if TYPE_CHECKING:
    from .arm import Arm
    from .routes import Gate

Json = dict[str, Any]

CONTROL: list[tuple[str, re.Pattern[str], str]] = [
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("GET", r"/control/state", "state"),
        ("GET", r"/control/faults", "list_faults"),
        ("PUT", r"/control/faults", "add_fault"),
        ("DELETE", r"/control/faults", "clear_faults"),
        ("PUT", r"/control/timings", "set_timings"),
        ("PUT", r"/control/scenario", "set_scenario"),
        ("GET", r"/control/clock", "clock"),
        ("PUT", r"/control/clock", "set_clock"),
        ("GET", r"/control/entra", "entra"),
        ("PUT", r"/control/entra", "set_entra"),
        ("POST", r"/control/entra/enter", "enter_code"),
        ("POST", r"/control/entra/revoke", "revoke"),
        ("POST", r"/control/entra/application", "application"),
        ("POST", r"/control/vms/(?P<name>[^/]+)/(?P<how>remove|replace)", "remove"),
        ("GET", r"/control/vms/(?P<name>[^/]+)/processes", "processes"),
        ("POST", r"/control/vms/(?P<name>[^/]+)/(?P<action>kill-ssh|start-ssh|new-host-key|restore-host-key)", "ssh"),
    )
]


class ControlRoutes:
    arm: Arm
    gate: Gate
    asked: Any
    set_status: Any

    def on_state(self) -> Json:
        return {"vms": [vm_row(r) for r in self.arm.records], "timings": vars(self.arm.timings)}

    def on_list_faults(self) -> Json:
        return {"faults": [vars(f) for f in self.arm.faults.active]}

    def on_add_fault(self) -> Json:
        try:
            fault = Fault.from_json(self.asked)
            if fault.vm != "*":
                self.arm.by_name(fault.vm)
        except (ValueError, TypeError) as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        self.arm.faults.add(fault)
        return vars(fault)

    def on_clear_faults(self) -> None:
        self.arm.faults.active.clear()
        self.set_status(204)

    def on_set_timings(self) -> Json:
        try:
            self.arm.timings.update(self.asked)
        except (ValueError, TypeError, AttributeError) as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        return vars(self.arm.timings)

    def on_clock(self) -> Json:
        return self.arm.schedules.state()

    def on_set_clock(self) -> Json:
        """``{"now": "2026-11-28T11:30:00Z"}`` or ``{"advance": seconds}``; what was to strike in between does."""
        try:
            moment = moment_of(self.asked, self.arm.schedules.clock.now)
            self.arm.schedules.set_clock(moment)
        except (ValueError, OverflowError) as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        return self.arm.schedules.state()

    def on_processes(self, name: str) -> Json:
        record = self.arm.by_name(name)
        return {"processes": record.vm.processes() if record.vm is not None else []}

    async def on_ssh(self, name: str, action: str) -> None:
        vm = self.arm.by_name(name).vm
        if vm is None:
            raise Refusal(409, "OperationNotAllowed", f"{name} has no SSH server.")
        if action == "kill-ssh":
            await vm.kill_ssh()
        elif action == "start-ssh":
            await vm.start_ssh()
        elif action == "new-host-key":
            await vm.new_host_key(bool(isinstance(self.asked, dict) and self.asked.get("published")))
        else:
            await vm.restore_host_key()
        self.set_status(204)

    def on_entra(self) -> Json:
        return self.gate.directory.state()

    def on_set_entra(self) -> Json:
        try:
            self.gate.directory.behaviour.update(self.asked)
        except (ValueError, TypeError, AttributeError) as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        return self.gate.directory.state()

    def on_enter_code(self) -> None:
        """Somebody enters a code: ``{"user_code", "username"?, "refuse"?}``."""
        try:
            self.gate.directory.enter(**(self.asked if isinstance(self.asked, dict) else {}))
        except (ValueError, TypeError) as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        self.set_status(204)

    def on_application(self) -> Json:
        """A web application that people log in to: ``{"secret", "redirect_uri"}``; answers its ``client_id``."""
        try:
            return {"client_id": self.gate.directory.web_application(**self.asked)}
        except TypeError as error:
            raise Refusal(400, "BadRequest", str(error)) from None

    def on_revoke(self) -> None:
        self.gate.directory.revoke()
        self.set_status(204)

    def on_set_scenario(self) -> Json:
        """Those parts of a scenario that can change meanwhile; each replaces what there was of it."""
        given = self.asked if isinstance(self.asked, dict) else {}
        fixed = scenario.Scenario(
            self.arm.tenants, self.arm.subscriptions, [record.machine for record in self.arm.records]
        )
        try:
            scenario.parse(self.asked, fixed, scenario.LIVE).apply(self.arm, list(given))
        except scenario.ScenarioError as error:
            raise Refusal(400, "BadRequest", str(error)) from None
        return {"changed": sorted(given)}

    async def on_remove(self, name: str, how: str) -> None:
        """As somebody else deletes a VM; ``replace``: and makes another of the same name."""
        record = self.arm.by_name(name)
        successor = None
        if how == "replace":
            successor = Record(dataclasses.replace(record.machine, ssh=False), str(uuid.uuid4()), None)
        await self.arm.remove(record, successor)
        self.set_status(204)


def vm_row(record: Record) -> Json:
    """A VM in the ready line and in ``/control/state``. ``host`` is null while it has no address."""
    vm = record.vm
    return {
        "name": record.machine.name,
        "id": record.id,
        "vm_id": record.vm_id,
        "host": record.host,
        "port": vm.port if vm is not None else None,
        "disk": str(vm.disk) if vm is not None else None,
        "home": str(vm.home) if vm is not None else None,
        "user": vm.user if vm is not None else None,
        "power_state": record.power,
        "pid": vm.pid if vm is not None else None,
    }
