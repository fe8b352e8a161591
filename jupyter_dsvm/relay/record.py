"""What a relay writes down about itself in its folder, and what somebody who finds that without the relay makes of it."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict

from .folders import write_private
from .wire import MAX_BODY, WireError, read_json

RECORD = "relay.json"
"""Which kernel this is, for people, for the pipe's list of kernels, and for whoever asks for it later; nothing secret."""

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def write_record(folder: str, kernel_id: str, kernel_name: str) -> None:
    """By the relay, when its kernel starts."""
    record = {
        "kernel_id": kernel_id,
        "kernel_name": kernel_name,
        "pid": os.getpid(),
        "since": time.time(),
        "boot": boot_id(),
    }
    write_private(os.path.join(folder, RECORD), json.dumps(record).encode())


def read_record(folder: str) -> Dict[str, Any]:
    """Empty where there is none."""
    try:
        with open(os.path.join(folder, RECORD), "rb") as f:
            return read_json(f.read(MAX_BODY))
    except (OSError, WireError):
        return {}


def what_became_of_it(folder: str) -> str:
    """Why nobody listens in a relay's folder, as far as one can know: for GONE. A relay that ends properly removes its folder."""
    record = read_record(folder)
    if not record:
        return "no relay on this machine has this kernel"
    if record.get("boot") != boot_id():
        return "the machine has been restarted since, and the kernel ended with it"
    return "its relay was killed (perhaps the machine ran out of memory), and the kernel ended with it"


def boot_id() -> str:
    """Another one each time the machine is started; empty where there is none."""
    try:
        with open(_BOOT_ID, encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""
