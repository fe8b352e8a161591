"""Run command: a script that Azure's agent runs as root in a VM. Here really as root, in the namespaces of an isolated VM.

On a VM that shares this computer there is no agent: what a script changed there would be this computer's own.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .refusal import Refusal

if TYPE_CHECKING:
    from .vm import VirtualMachine

Json = dict[str, Any]

KEPT = 4096
"""Bytes of stdout and of stderr that are in the answer: the last ones."""

LIMIT = 90.0
"""Seconds after which a script is ended here; Azure's limit is 90 minutes."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

ENTER = """
import os, sys
pid, script, *rest = sys.argv[1:]
spaces = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("ipc", "uts", "net", "pid", "mnt")]
root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for space in spaces:
    if libc.setns(space, 0):
        sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
os.fchdir(root)
os.chroot(".")
os.chdir("/")
child = os.fork()
if child == 0:
    os.execve("/bin/sh", ["sh", "-c", script, "script.sh", *rest], dict(os.environ))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
"""
"""What becomes a process of the VM: the namespaces of its first process and its root folder. ``nsenter`` would take the first
process's root before the chroot."""


class NoAgent(Exception):
    """The VM's agent does not answer."""


@dataclass(frozen=True)
class Command:
    script: str
    parameters: tuple[tuple[str, str], ...]


def parse(body: Any) -> Command:
    """From what was posted. Raises ``Refusal``."""
    given = body if isinstance(body, dict) else {}
    if given.get("commandId") != "RunShellScript":
        raise Refusal(404, "NotFound", f"The entity '{given.get('commandId')}' was not found.")
    lines, rows = given.get("script", []), given.get("parameters") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Refusal(400, "InvalidParameter", "The value of parameter script is invalid.", target="script")
    try:
        parameters = tuple((str(row["name"]), str(row["value"])) for row in rows)
    except (TypeError, KeyError):
        raise Refusal(
            400, "InvalidParameter", "The value of parameter parameters is invalid.", target="parameters"
        ) from None
    return Command("\n".join(lines), parameters)


async def execute(vm: VirtualMachine | None, command: Command) -> Json:
    """Run it there; the answer in Azure's shape. Raises ``NoAgent``."""
    if vm is None or vm.pid is None or not vm.isolated:
        raise NoAgent(
            "VM has not reported status for VM agent or extensions. Verify that the OS is up and healthy, the VM has a running "
            "VM agent, and that it can establish outbound connections to Azure storage."
        )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        ENTER,
        str(vm.pid),
        command.script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            **{name: value for name, value in command.parameters if _NAME.fullmatch(name)},
        },
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    except asyncio.TimeoutError:
        raise NoAgent("The script did not end in time.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = f"Enable succeeded: \n[stdout]\n{_last(out)}\n[stderr]\n{_last(err)}"
    return {
        "value": [
            {
                "code": "ProvisioningState/succeeded",
                "level": "Info",
                "displayStatus": "Provisioning succeeded",
                "message": text,
            }
        ]
    }


def _last(data: bytes) -> str:
    return data[-KEPT:].decode("utf-8", "replace")
