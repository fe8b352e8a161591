"""Extensions of VMs. VMAccess is the one that does something here: what the real one does to ``authorized_keys``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .refusal import Refusal
from .runcommand import Command

if TYPE_CHECKING:
    from .records import Record

Json = dict[str, Any]

VMACCESS = r"""
case $key in "ssh-rsa "*) ;; *) echo "(02100)Failed to reset ssh key." >&2; exit 1 ;; esac
home=$(getent passwd "$user" | cut -d: -f6)
[ -n "$home" ] || exit 1
mkdir -p -m 700 "$home/.ssh"
printf '%s\n' "$key" >>"$home/.ssh/authorized_keys"
chmod 600 "$home/.ssh/authorized_keys"
chown -R "$user": "$home/.ssh"
printf '%s ALL = (ALL) NOPASSWD: ALL\n' "$user" >>/run/waagent-sudoers
"""
"""It appends, as root, and takes what begins with ssh-rsa only (VMAccess/vmaccess.py). Sudoers of an emulated VM are the computer's
own and read only, so the line is beside them."""


def parse(name: str, body: Any) -> tuple[Json, Command | None]:
    """What is kept of an extension, without its secrets, and what it does. Raises ``Refusal``."""
    given = body if isinstance(body, dict) else {}
    properties = given.get("properties")
    if not isinstance(properties, dict) or not all(isinstance(properties.get(k), str) for k in ("publisher", "type")):
        raise Refusal(400, "InvalidParameter", f"The extension '{name}' has no publisher or type.", target="properties")
    kept = {k: v for k, v in properties.items() if k != "protectedSettings"}
    secret = properties.get("protectedSettings")
    if properties["type"] != "VMAccessForLinux" or not isinstance(secret, dict):
        return kept, None
    parameters = (("user", str(secret.get("username", ""))), ("key", str(secret.get("ssh_key", "")).strip()))
    return kept, Command(VMACCESS, parameters)


def shape(record: Record, name: str) -> Json:
    return {
        "name": name,
        "id": f"{record.id}/extensions/{name}",
        "type": "Microsoft.Compute/virtualMachines/extensions",
        "location": record.machine.location,
        "properties": {**record.extensions[name], "provisioningState": record.provisioning},
    }
