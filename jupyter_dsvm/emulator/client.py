"""The emulator in the hands of a program: starts it as a process of its own, and speaks to its control interface.

Used by the tests and by the demo::

    with Emulator(folder) as emulator:
        emulator.arm, emulator.config_dir, emulator.vm("gpu-vm")["disk"]
        emulator.fault("gpu-vm", "start", code="AllocationFailed")

Everything here blocks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import machines as catalogue
from .app import EmulatorError
from .machines import STANDARD, Machine

Json = dict[str, Any]

QUICK = {
    "start": 0.3,
    "deallocate": 0.2,
    "restart": 0.3,
    "powerOff": 0.2,
    "patch": 0.2,
    "retry_after": 0,
    "network": 0.05,
    "create": 0.2,
    "delete": 0.1,
    "runCommand": 0.1,
    "extension": 0.1,
}
"""Timings for tests: no second is waited for nothing."""


class ControlError(Exception):
    """The emulator answered a control request with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Emulator:
    """A running emulator. ``machines`` as in ``machines.STANDARD``, ``timings`` as in ``arm.Timings``, ``scenario`` as in
    ``scenario``."""

    def __init__(
        self,
        directory: Path,
        *,
        machines: Sequence[Machine] = STANDARD,
        timings: Json | None = None,
        scenario: Json | None = None,
        isolate: bool | None = None,
        ssh_server: str | None = None,
        keys: bool = True,
        may_start: bool = False,
        sign_in: bool = False,
        cache: Path | None = None,
        timeout: float = 600.0,
        command: Sequence[str] = (),
    ) -> None:
        self.directory = Path(directory).absolute()
        self.traffic_file = self.directory / "traffic.jsonl"
        self.log_file = self.directory / "emulator.log"
        self._machines = machines
        self._scenario = scenario
        self._timings = QUICK if timings is None else timings
        self._timeout = timeout
        """Seconds to wait for the ready line; the first run on a computer builds the VMs' Python."""
        self._process: subprocess.Popen[str] | None = None
        self._command = [*command, sys.executable, "-m", "jupyter_dsvm.emulator", "--dir", str(self.directory)]
        self._command += ["--machines", str(self.directory / "machines.json"), "--parent-pid", str(os.getpid())]
        self._command += ["--log-traffic", str(self.traffic_file), "--timings", json.dumps(self._timings)]
        if scenario is not None:
            self._command += ["--scenario", str(self.directory / "scenario.json")]
        if isolate is not None:
            self._command.append("--isolate" if isolate else "--no-isolate")
        if ssh_server is not None:
            self._command += ["--ssh-server", ssh_server]
        if not keys:
            self._command.append("--no-keys")
        if may_start:
            self._command.append("--may-start")
        if sign_in:
            self._command.append("--sign-in")
        if cache is not None:
            self._command += ["--cache", str(cache)]
        self.arm = ""
        """The endpoint: ``http://127.0.0.1:PORT``."""
        self.entra = ""
        """Where people sign in: ``https://localhost:PORT``, vouched for by ``entra-ca.pem`` in the configuration."""
        self.config_dir = Path()
        """What JUPYTER_CONFIG_DIR is to point to."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Emulator:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        catalogue.save(self._machines, self.directory / "machines.json")
        if self._scenario is not None:
            (self.directory / "scenario.json").write_text(json.dumps(self._scenario), encoding="utf-8")
        # The package may be importable here only because of where the tests are started.
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        assert self._process.stdout is not None
        timer = threading.Timer(self._timeout, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.stop()
            raise EmulatorError(
                f"The emulator did not start. {self.log_file.read_text('utf-8', 'replace')[-2000:].strip()}"
            )
        ready = json.loads(line)
        self.arm, self.entra, self.config_dir = ready["arm"], ready["entra"], Path(ready["config_dir"])
        return self

    def stop(self) -> None:
        """Return when it and every process of its VMs have ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return (self.config_dir / "token").read_text("utf-8").strip()

    @property
    def key_file(self) -> Path:
        """The private key that the VMs accept."""
        return self.config_dir / "id_ed25519"

    @property
    def vms(self) -> list[Json]:
        """As they are now: name, id, vm_id, host, port, disk, home, user, power_state, pid."""
        rows: list[Json] = self.control("GET", "state")["vms"]
        return rows

    def vm(self, name: str) -> Json:
        """One of them, by name or ``vmId``."""
        for row in self.vms:
            if name in (row["name"], row["vm_id"]):
                return row
        raise KeyError(name)

    @property
    def traffic(self) -> list[Json]:
        """Every exchange with the Azure side so far: ``{"request": …, "response": …}``."""
        if not self.traffic_file.exists():
            return []
        return [json.loads(line) for line in self.traffic_file.read_text("utf-8").splitlines()]

    # -- making things happen -------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        """Any request with the secret: status, headers in lower case, JSON body or None."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        url = path if path.startswith("http") else self.arm + path
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - our own loopback address
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                status, head, text = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, head, text = error.code, error.headers, error.read()
        return status, {k.lower(): v for k, v in head.items()}, json.loads(text) if text else None

    def control(self, method: str, path: str, body: Any = None) -> Json:
        """A request to ``/control/PATH``. Raises ``ControlError``."""
        status, _, answer = self.request(method, f"/control/{path}", body)
        if status >= 300:
            raise ControlError(status, str(answer))
        return answer or {}

    def fault(self, vm: str, operation: str, **details: Any) -> None:
        """Let an operation on a VM (``*``: any) go wrong; ``details`` as in ``faults.Fault``: code, status, message,
        times (1; -1 for always), at (``request`` or ``operation``), retry_after."""
        self.control("PUT", "faults", {"vm": vm, "operation": operation, **details})

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def set_timings(self, **seconds: float | None) -> None:
        self.control("PUT", "timings", seconds)

    def set_scenario(self, **parts: Any) -> None:
        """Change how Azure behaves, as in ``scenario``: latency, throttles, capacity, quotas, restrictions, prices, faults."""
        self.control("PUT", "scenario", parts)

    def set_entra(self, **behaviour: Any) -> None:
        """How the emulated Entra answers, as in ``directory.Behaviour``."""
        self.control("PUT", "entra", behaviour)

    def enter_code(self, user_code: str, **details: Any) -> None:
        """Sign in as a person does on Entra's page; ``username`` and ``refuse`` (an AADSTS number) as in
        ``directory.Directory.enter``. Raises ``ControlError`` for a code that is none."""
        self.control("POST", "entra/enter", {"user_code": user_code, **details})

    def web_application(self, secret: str, redirect_uri: str) -> str:
        """Register a web application that people log in to, as in the portal; its client id."""
        return str(
            self.control("POST", "entra/application", {"secret": secret, "redirect_uri": redirect_uri})["client_id"]
        )

    def revoke_sign_ins(self) -> None:
        self.control("POST", "entra/revoke")

    @property
    def clock(self) -> Json:
        """``now`` as Azure's clock has it, the schedules, and what they did (``struck``)."""
        return self.control("GET", "clock")

    def set_clock(self, now: str) -> Json:
        """``2026-11-28T11:30:00Z``. What was to strike until then does; returns ``clock``."""
        return self.control("PUT", "clock", {"now": now})

    def advance(self, seconds: float) -> Json:
        return self.control("PUT", "clock", {"advance": seconds})

    def remove(self, vm: str) -> None:
        """Delete a VM as somebody else would, in the portal."""
        self.control("POST", f"vms/{vm}/remove")

    def replace(self, vm: str) -> None:
        """Delete a VM and make another one of its name, which is somebody else's."""
        self.control("POST", f"vms/{vm}/replace")

    def processes(self, vm: str) -> list[Json]:
        """What runs on a VM: ``{"pid", "argv"}``, pids as this computer counts."""
        rows: list[Json] = self.control("GET", f"vms/{vm}/processes")["processes"]
        return rows

    def kill_ssh(self, vm: str) -> None:
        self.control("POST", f"vms/{vm}/kill-ssh")

    def start_ssh(self, vm: str) -> None:
        self.control("POST", f"vms/{vm}/start-ssh")

    def new_host_key(self, vm: str, published: bool = False) -> None:
        """``published``: made on the VM itself, so that its own .pub file says so too; else somebody is in between."""
        self.control("POST", f"vms/{vm}/new-host-key", {"published": published})

    def restore_host_key(self, vm: str) -> None:
        self.control("POST", f"vms/{vm}/restore-host-key")

    def power(self, vm: str, action: str) -> Json:
        """``start``, ``deallocate``, ``powerOff`` or ``restart`` as somebody else would, in the portal; returns the VM
        when it is done. Raises ``ControlError`` with Azure's answer where it is refused or fails."""
        row = self.vm(vm)
        status, headers, answer = self.request("POST", f"{row['id']}/{action}?api-version=2024-07-01")
        if status != 202:
            raise ControlError(status, str(answer))
        while True:
            _, _, operation = self.request("GET", headers["azure-asyncoperation"])
            if operation["status"] == "Succeeded":
                return self.vm(row["vm_id"])
            if operation["status"] != "InProgress":
                raise ControlError(200, str(operation))
            time.sleep(0.05)
