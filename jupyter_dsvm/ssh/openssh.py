"""How OpenSSH's client reaches a machine: with the keys, the user, the port, the pinned host keys and the proxy command that
kernels have. For ``jupyter dsvm ssh``, for terminals, and for a line that somebody pastes."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..errors import OperationRefused
from ..models import SSHTarget
from .keys import write_private


def arguments_of(target: SSHTarget, host_keys: Sequence[str], folder: Path) -> list[str]:
    """What ssh is called with. Host keys of a VM go into a file in ``folder`` (0700), under its ``vmId``; nothing else is
    trusted. Certificates go there too, with their keys: whoever calls this removes the folder when ssh has ended."""
    if not target.pinned_key_id:
        # A host of the user's own configuration is a matter between that and ssh.
        return ["--", target.name]
    known = folder / "known_hosts"
    write_private(known, "".join(f"{target.pinned_key_id} {line}\n" for line in host_keys).encode())
    words = _pinned(target.pinned_key_id, known)
    for number, certified in enumerate(target.certificates):
        file = folder / f"certified-{number}"
        certified.write_private_key_file(str(file))  # 0600
        blob = certified.public_blob
        line = f"{blob.key_type} {base64.b64encode(blob.key_blob).decode()}\n"
        write_private(file.with_name(f"{file.name}-cert.pub"), line.encode("ascii"))
        words += ["-i", str(file)]
    return [*words, *_way(target)]


def command_line(target: SSHTarget, known_hosts: Path) -> str:
    """A line for a shell of this server that does the same, without a secret in it. ``known_hosts``: a file that stays, with
    the machine's host keys. Raises ``OperationRefused`` where nothing that stays lets anybody in."""
    if not target.pinned_key_id:
        return shlex.join(["ssh", "--", target.name])
    if target.certificates and not (target.own_key or target.key_files):
        raise OperationRefused(
            f"{target.name} is entered with a certificate that this server holds in memory; no line can say that.",
            advice=f"Open a terminal on {target.name} instead, or run `jupyter dsvm ssh {target.name}`.",
            code="CertificateOnly",
        )
    return shlex.join(["ssh", *_pinned(target.pinned_key_id, known_hosts), *_way(target)])


def _pinned(key_id: str, known_hosts: Path) -> list[str]:
    options = {
        "UserKnownHostsFile": _path(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": key_id,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
    }
    return [part for key, value in options.items() for part in ("-o", f"{key}={value}")]


def _way(target: SSHTarget) -> list[str]:
    words: list[str] = []
    for key in filter(None, (target.own_key, *target.key_files)):
        words += ["-i", key]
    if target.proxy_command:
        words += ["-o", f"ProxyCommand={target.proxy_command.replace('%', '%%')}"]
    user = ["-l", target.user] if target.user else []
    return [*words, "-p", str(target.port), *user, "--", target.host]


def _path(path: Path) -> str:
    """As an option's value: spaces would end it, and % begins a token."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text
