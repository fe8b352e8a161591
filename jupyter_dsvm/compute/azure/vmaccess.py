"""VMAccess: Azure's extension that resets the way into a VM. For those whose run command does not work, and who agree.

It gives the account sudo without a password, turns ChallengeResponseAuthentication off and restarts sshd; it takes RSA keys
only, without options and so without an end, and writes as root (github.com/Azure/azure-linux-extensions, VMAccess/vmaccess.py).
So it gets an RSA key made for this once, with which ``jupyter_dsvm.access`` signs in and puts our own key, with an end, in
its place. Called by ``access`` on a worker thread; imports the Azure libraries.
"""

from __future__ import annotations

import time
from typing import Any

from azure.core.exceptions import AzureError

from ...errors import Cancelled, OperationRefused
from ..provider import Cancel, Report
from .errors import translate
from .lifecycle import _GivenUp, _Polling

PUBLISHER, TYPE, VERSION = "Microsoft.OSTCExtensions", "VMAccessForLinux", "1.5"
NAME = "enablevmaccess"
"""As the Azure CLI calls it; a VM has at most one extension of a type, whatever it is called."""

LIMIT = 600.0


def new_rsa_key() -> tuple[bytes, str]:
    """A private key (OpenSSH's format) and its public line, without a comment."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public.decode()


def apply(
    extensions: Any,
    *,
    group: str,
    vm: str,
    location: str,
    user: str,
    public_line: str,
    endpoint: str,
    interval: float,
    report: Report,
    cancel: Cancel,
) -> None:
    """Let the extension put the key into the account. ``extensions``: azure-mgmt-compute's operations on them. Blocks for
    half a minute and more. Raises ``Forbidden``, ``OperationRefused``, ``ComputeError``, ``Cancelled``."""
    what = f"reset the way into {vm} by VMAccess"
    try:
        listed = extensions.list(group, vm).as_dict().get("value") or []
        body = {
            "location": location,
            "properties": {
                "publisher": PUBLISHER,
                "type": TYPE,
                "typeHandlerVersion": VERSION,
                "autoUpgradeMinorVersion": True,
                "settings": {},
                # Encrypted on the way to the VM, and in no answer of Azure's.
                "protectedSettings": {"username": user, "ssh_key": public_line},
            },
        }
        present = (row.get("name") for row in listed if (row.get("properties") or {}).get("type") == TYPE)
        if cancel.is_set():
            raise Cancelled(f"Nothing was changed on {vm}: it was cancelled before Azure was asked.")
        polling = _Polling(interval, cancel, time.monotonic() + LIMIT)
        poller = extensions.begin_create_or_update(
            group, vm, next(present, None) or NAME, body, polling=polling, retry_total=0
        )
        while not poller.done():
            report(f"Azure's VMAccess extension puts a key on {vm}", None)
            poller.wait(interval)
        poller.result()
    except _GivenUp:
        if cancel.is_set():
            raise Cancelled(f"Stopped waiting for VMAccess on {vm}; Azure goes on with it.") from None
        raise OperationRefused(
            f"Could not {what}: the agent inside {vm} did not answer within {LIMIT:.0f} s.",
            advice="Restart the VM and try again.",
            code="VMAgentStatusCommunicationError",
        ) from None
    except AzureError as error:
        raise translate(error, what, endpoint) from error
