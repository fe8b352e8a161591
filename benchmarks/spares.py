"""Parked interpreters on the machine: turned on and off, and waited for."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machines import SSHServer

RECORD = "spare.json"
"""The file that the holder of a spare writes once it is ready (``jupyter_dsvm.relay.holder``)."""


@dataclass(frozen=True)
class Spare:
    pid: int
    holder: int
    """Its parent, which is there for it alone."""

    @property
    def taken(self) -> bool:
        """Whether it has become a kernel."""
        return b"connection.json" in Path(f"/proc/{self.pid}/cmdline").read_bytes()


def spare_settings(on: bool) -> dict[str, Any]:
    """For ``DSVMService``."""
    return {"spare_interpreters": on}


def wait_for_spare(vm: SSHServer, seconds: float = 30.0) -> Spare:
    """The one spare of the machine, once it waits to be taken."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for record in vm.home.rglob(RECORD):
            value = json.loads(record.read_text())
            spare = Spare(value["pid"], value["holder"])
            if Path(f"/proc/{spare.pid}").exists() and not spare.taken:
                return spare
        time.sleep(0.05)
    raise TimeoutError("there is no spare in time")
