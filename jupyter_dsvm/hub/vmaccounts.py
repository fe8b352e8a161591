"""What a VM of a hub is to have: the authority that it trusts, and whose accounts. Pure: parameters for the script, and its answer.

``scripts/accounts_root.sh`` brings it about, as root, through Azure's run command (``AzureCompute.run_script``), which takes half
a minute and one at a time. So everything that is wanted of a VM goes in one command, which may be repeated. What comes back is
not trusted: only lines with the nonce of this very command count, and each is checked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..compute.azure.access_answer import said, take_host_key
from ..errors import BadRequest, ComputeError, OperationRefused, printable
from ..ssh.hostkeys import HostKey

PER_LIST = 35
"""Ids in one parameter: Azure takes 600 characters of ours, and an id has 16 and a dot."""

LISTS = "abc"
MOST = PER_LIST * len(LISTS)
"""Of each kind in one command: what it answers has to fit into 4,096 bytes as well."""

PART = 600
MOST_REVOKED = 90
"""Serial numbers that fit into the two parameters for the revocation list."""

_ID = re.compile(r"[0-9a-f]{16}")
_MEMORY = re.compile(r"[0-9]{1,6}[KMGT%]")
_CPU = re.compile(r"[0-9]{1,6}%")


@cache
def script() -> str:
    return (Path(__file__).parent / "scripts" / "accounts_root.sh").read_text("utf-8")


@dataclass(frozen=True)
class Limits:
    """Of one account, as systemd has them; empty: none."""

    memory: str = ""
    cpu: str = ""
    tasks: int = 2048

    def __post_init__(self) -> None:
        if (self.memory and not _MEMORY.fullmatch(self.memory)) or (self.cpu and not _CPU.fullmatch(self.cpu)):
            raise BadRequest(
                f"The limits of an account, {self.memory!r} and {self.cpu!r}, are none that systemd knows.",
                advice="Set HubPolicy.memory_per_user like 8G or 50%, and HubPolicy.cpu_per_user like 200%.",
            )


@dataclass(frozen=True)
class Wanted:
    """Of one VM. Ids are ``certificates.user_id``."""

    vm_id: str
    authorities: Sequence[str]
    """Public lines, oldest first."""
    revoked: bytes
    """``revocation.revocation_list``."""
    users: Sequence[str] = ()
    ended: Sequence[str] = ()
    removed: Sequence[str] = ()
    limits: Limits = Limits()
    keep_homes: bool = False

    def parameters(self, nonce: str) -> dict[str, str]:
        """For the script; each a word without any meaning to a shell. Raises ``ComputeError`` for what does not fit."""
        coded = base64.b64encode(self.revoked).decode()
        if len(coded) > 2 * PART:
            raise ComputeError("The list of revoked certificates is too long for one command.", code="TooMany")
        found = {
            "dsvm_nonce": nonce,
            "dsvm_vm": self.vm_id,
            "dsvm_ca": ".".join(line.split()[1] for line in self.authorities),
            "dsvm_revoked": coded[:PART],
            "dsvm_revokedb": coded[PART:] or "-",
            "dsvm_memory": self.limits.memory.replace("%", "pc") or "-",
            "dsvm_cpu": self.limits.cpu.replace("%", "pc") or "-",
            "dsvm_tasks": str(self.limits.tasks),
            "dsvm_home": "keep" if self.keep_homes else "delete",
        }
        for name, ids in (("users", self.users), ("ended", self.ended), ("removed", self.removed)):
            if len(ids) > MOST or not all(_ID.fullmatch(one) for one in ids):
                raise ComputeError(f"{len(ids)} accounts are too many for one command, or one is none.", code="TooMany")
            for number, letter in enumerate(LISTS):
                found[f"dsvm_{name}{letter}"] = ".".join(ids[number * PER_LIST : (number + 1) * PER_LIST]) or "-"
        return found


@dataclass(frozen=True)
class Done:
    """What the script has said."""

    host_keys: tuple[HostKey, ...]
    present: frozenset[str]
    ended: frozenset[str]
    removed: frozenset[str]
    failed: Mapping[str, str]
    """By id, the script's word for what went wrong."""


REFUSALS: dict[str, tuple[str, str]] = {
    "CannotWrite": (
        "{detail} on {name} cannot be written by root.",
        "Its disk may be full, or mounted read-only: correct that on {name}, then try again.",
    ),
    "SshdRefuses": (
        "sshd on {name} does not take the configuration for the hub's accounts. It said: {detail}",
        "It has to be OpenSSH 8.2 or later, as on Ubuntu 20.04 and later.",
    ),
    "SshdIgnores": (
        "sshd on {name} does not read /etc/ssh/sshd_config.d, so it does not trust the hub.",
        "Put `Include /etc/ssh/sshd_config.d/*.conf` at the top of /etc/ssh/sshd_config there (OpenSSH 8.2 or later).",
    ),
    "SshdReload": ("sshd on {name} could not be told to read its configuration anew.", "Restart the VM."),
}

FAILURES = {
    "HomeExists": "there is a home folder of that name already",
    "NotOurs": "there is an account of that name that was not made by the hub",
    "Useradd": "useradd refused",
    "Userdel": "userdel refused",
    "Alive": "what runs there could not be ended",
    "Limits": "its limits could not be set",
    "CannotWrite": "/etc/ssh could not be written",
    "Home": "its home folder could not be closed to others",
}


def parse(text: str, nonce: str, name: str, stderr: str = "") -> Done:
    """Of the VM ``name``. Raises ``OperationRefused`` where it was not done."""
    keys: dict[HostKey, None] = {}
    lists: dict[str, frozenset[str]] = {}
    failed: dict[str, str] = {}
    done = complete = False
    for word, value in said(text, nonce):
        if word == "host":
            take_host_key(keys, value)
        elif word in ("present", "ended", "removed"):
            lists[word] = frozenset(one for one in value.split(".")[:MOST] if _ID.fullmatch(one))
        elif word == "failed" and len(failed) < 3 * MOST:
            one, _, why = value.partition(" ")
            if _ID.fullmatch(one):
                failed[one] = why if why in FAILURES else "Failed"
        elif word == "no":
            raise _refusal(value, name)
        elif word == "done":
            done = True
        elif word == "end":
            complete = True
    if not (done and complete):
        printed = printable(stderr, 300)
        raise OperationRefused(
            f"{name} was not set up for the hub: the command there did not answer as it should."
            + (f" It printed: {printed}" if printed else ""),
            advice="Try again. If it stays so, look at the VM's agent in the Azure portal.",
            code="BadAnswer",
        )
    nobody: frozenset[str] = frozenset()
    return Done(
        tuple(keys),
        lists.get("present", nobody),
        lists.get("ended", nobody),
        lists.get("removed", nobody),
        failed,
    )


def _refusal(value: str, name: str) -> OperationRefused:
    code, _, detail = value.partition(" ")
    sentence, advice = REFUSALS.get(
        code,
        (
            "{name} was not set up for the hub: the command there ended with " + printable(code, 40) + " ({detail}).",
            "Look at the VM.",
        ),
    )
    words = {"name": name, "detail": printable(detail, 200)}
    code = code if re.fullmatch(r"[A-Za-z]{1,40}", code) else "Refused"
    return OperationRefused(sentence.format(**words), advice=advice.format(**words), code=code)


def failure(done: Done, one: str, name: str) -> OperationRefused | None:
    """Why the account ``one`` is not there; None where it is."""
    if one in done.present:
        return None
    why = FAILURES.get(done.failed.get(one, ""), "the command there did not say why")
    return OperationRefused(
        f"The account jd-{one} could not be made on {name}: {why}.",
        advice="Ask whoever runs the hub to look at the VM.",
        code="NoAccount",
    )
