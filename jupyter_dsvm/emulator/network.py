"""Addresses of the emulated VMs, and whether this computer lets them have a network of their own.

Called by ``vm.py`` when a VM is placed, and by ``app.py`` once, at the beginning.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

GUEST = Path(__file__).with_name("guest.py")
"""The program that is a VM's first process."""


@dataclass(frozen=True)
class Address:
    """Where a VM answers from one allocation to the next deallocation."""

    host: str
    port: int
    gateway: str = ""
    """The emulator's end of the link; empty where the VM shares the loopback interface."""


def can_isolate() -> str:
    """Empty where VMs can have namespaces of their own; otherwise the reason why not. Tried, not guessed."""
    if sys.platform != "linux":
        return "namespaces need Linux"
    if os.geteuid() != 0:
        return "namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian package iproute2)"
    with tempfile.TemporaryDirectory() as root:
        spec = {
            **link_of(isolated_address()),
            "isolate": True,
            "probe": True,
            "parent": os.getpid(),
            "root": root,
            "hostname": "probe",
            "etc": {},
            "binds": [],
        }
        done = subprocess.run(
            [sys.executable, "-I", str(GUEST)], input=json.dumps(spec), capture_output=True, text=True, timeout=30
        )
    return done.stderr.strip() if done.returncode else ""


def isolated_address() -> Address:
    """A /30 out of 10.208.0.0/12 that no route of this computer is about."""
    listed = subprocess.run(["ip", "-4", "-j", "route"], capture_output=True, text=True).stdout
    taken = []
    for route in json.loads(listed or "[]"):
        with contextlib.suppress(ValueError):
            network = ipaddress.IPv4Network(route.get("dst", ""))
            if network.prefixlen > 16:
                taken.append(network)
    while True:
        network = ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.208.0.0")) + 4 * secrets.randbelow(1 << 18), 30))
        if not any(network.overlaps(other) for other in taken):
            return Address(str(network[2]), 22, str(network[1]))


def link_of(address: Address) -> dict[str, str]:
    # An interface's name has at most 15 characters; a new one per boot, since the old one goes a moment after its VM.
    return {"address": address.host, "gateway": address.gateway, "link": "jdsvm" + secrets.token_hex(4)}


def shared_address(port: int) -> Address:
    """Somewhere in 127/8: on Linux all of it is this computer, without being set up."""
    return Address(".".join(str(n) for n in (127, *(secrets.randbelow(254) + 1 for _ in range(3)))), port)


def free_port() -> int:
    """Below the range from which the kernel takes ports for outgoing connections."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
