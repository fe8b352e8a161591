"""What of Azure's API is about getting into a VM: run command, extensions, boot diagnostics; a part of ``routes.Handler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import extensions, runcommand
from .refusal import Refusal

if TYPE_CHECKING:
    from .arm import Arm
    from .routes import Gate

Json = dict[str, Any]

_VM = (
    r"/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.compute/virtualmachines"
    r"/(?P<name>[^/]+)"
)
SERIAL_LOG = r"/(?P<door>[^/]+)/bootdiagnostics/(?P<name>[^/]+)\.serialconsole\.log"
"""A blob, as Azure keeps serial logs: without a token, behind a secret in its address."""
ACCESS_ROUTES: list[tuple[str, str, str]] = [
    ("POST", _VM + r"/runcommand", "run_command"),
    ("POST", _VM + r"/retrievebootdiagnosticsdata", "boot_diagnostics"),
    ("GET", SERIAL_LOG, "serial_log"),
    ("GET", _VM + r"/extensions", "extensions"),
    ("GET", _VM + r"/extensions/(?P<extension>[^/]+)", "extension"),
    ("PUT", _VM + r"/extensions/(?P<extension>[^/]+)", "put_extension"),
]


class AccessRoutes:
    arm: Arm
    gate: Gate
    base: str
    asked: Any
    set_status: Any
    set_header: Any
    _record: Any
    _spend: Any
    _point_to: Any
    _address: Any

    def on_run_command(self, sub: str, group: str, name: str) -> None:
        record = self._record(sub, group, name)
        operation = self.arm.begin("runCommand", record, command=runcommand.parse(self.asked))
        self._spend("UpdateVM3Min;239", "UpdateVM30Min;1199")
        self.set_status(202)
        self._point_to(operation)
        self.set_header("Location", self._address(operation, "monitor=true&"))

    def on_boot_diagnostics(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        self.arm.raise_fault("bootDiagnostics", record)
        folder = f"{self.base}/{self.gate.prices_door}/bootdiagnostics/{record.vm_id}"
        return {
            "consoleScreenshotBlobUri": f"{folder}.screenshot.bmp",
            "serialConsoleLogBlobUri": f"{folder}.serialconsole.log",
        }

    def on_serial_log(self, door: str, name: str) -> str:
        vm = self.arm.by_name(name).vm
        return vm.console() if vm is not None else ""

    def on_extensions(self, sub: str, group: str, name: str) -> Json:
        record = self._record(sub, group, name)
        return {"value": [extensions.shape(record, one) for one in record.extensions]}

    def on_extension(self, sub: str, group: str, name: str, extension: str) -> Json:
        record = self._record(sub, group, name)
        if extension not in record.extensions:
            raise Refusal(404, "ResourceNotFound", f"The Resource '{extension}' of '{name}' was not found.")
        return extensions.shape(record, extension)

    def on_put_extension(self, sub: str, group: str, name: str, extension: str) -> Json:
        record = self._record(sub, group, name)
        kept, command = extensions.parse(extension, self.asked)
        # Not into the traffic file, which people hand on.
        if isinstance(self.asked, dict) and isinstance(self.asked.get("properties"), dict):
            self.asked["properties"].pop("protectedSettings", None)
        operation = self.arm.begin("extension", record, command=command)
        self.set_status(200 if extension in record.extensions else 201)
        record.extensions[extension] = kept
        self._spend("UpdateVM3Min;239", "UpdateVM30Min;1199")
        self._point_to(operation)
        return extensions.shape(record, extension)
