"""SSH to machines: setting it up, taking it back, signing in with a password. A part of ``DSVMService``.

An attach whose connect is refused for want of a key or of a known host key comes here by ``after_refusal``; the REST API and
the command line by ``Access``. A provider that can set up SSH has ``set_up_access`` and what belongs to it
(``compute.azure.access``); others are a matter of the user's own SSH configuration. Blocks; called on worker threads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel, Memo, Report
from .errors import (
    AuthenticationError,
    BadRequest,
    Cancelled,
    ComputeNotRunning,
    DSVMError,
    HostKeyError,
    OperationRefused,
    SSHError,
    Unreachable,
)
from .models import Compute, PowerState

if TYPE_CHECKING:
    from .changes import Changes
    from .computes import Computes
    from .connections import Connections
    from .operations import OperationStore, Running
    from .ssh.connection import SSHConnection

log = logging.getLogger("jupyter_dsvm.access")

COMMAND_SECONDS = 20.0
"""For the script that renews or removes our line over SSH."""

LONGEST_PASSWORD = 1024

CONSENT = (
    "gives the account {user} passwordless sudo, turns ChallengeResponseAuthentication off and restarts sshd on {name}"
)
"""What somebody says yes to before VMAccess is used (github.com/Azure/azure-linux-extensions, VMAccess/vmaccess.py)."""


@dataclass(frozen=True)
class AccessRequest:
    """The body of ``POST computes/{id}/access``."""

    user: str = ""
    renew_host_key: bool = False
    vmaccess: bool = False
    consent: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AccessRequest:
        """Raises ``BadRequest``; no value is repeated in it."""
        kinds = {"user": str, "renew_host_key": bool, "vmaccess": bool, "consent": str, "password": str}
        wrong = [name for name, value in data.items() if name not in kinds or not isinstance(value, kinds[name])]
        if wrong:
            raise BadRequest(
                f"The request's body cannot be understood: {', '.join(sorted(wrong))[:200]}.",
                advice="It may have user, renew_host_key, password, vmaccess and consent, as openapi.yaml describes them.",
            )
        request = cls(**data)
        if request.password and (request.vmaccess or request.renew_host_key):
            raise BadRequest("A password goes with no other property than user.")
        if len(request.password) > LONGEST_PASSWORD or re.search(r"[\0\r\n]", request.password):
            raise BadRequest("That is no password.", advice="It is one line of text.")
        if request.vmaccess and request.consent != "sudo":
            raise BadRequest(
                f"VMAccess {CONSENT.format(user='chosen', name='the VM')}, and needs consent to that.",
                advice='Send {"vmaccess": true, "consent": "sudo"} once a person has agreed, or leave vmaccess out.',
                code="ConsentNeeded",
            )
        return request


# What an attach does


def after_refusal(computes: Computes, compute: Compute, error: SSHError, report: Report, cancel: Cancel) -> bool:
    """A connect was refused: set SSH up, if that may be done and can help. False: the refusal stands.

    Raises what setting up was refused with, which then says both.
    """
    if isinstance(error, HostKeyError) and error.code != "HostKeyUnknown":
        return False  # another key than the known one is never taken over unasked
    provider: Any = computes.provider(compute.id)
    if not hasattr(provider, "may_set_up") or not provider.may_set_up(compute.id):
        return False
    try:
        set_up(computes, compute, report, cancel)
    except Cancelled:
        raise
    except DSVMError as e:
        if isinstance(error, HostKeyError) and provider.knows_host_key(compute.id):
            return True  # from the serial log: now a key of the user's own can be tried
        e.message = f"{error.message} It could not be set up from here: {e.message}"
        e.args = (e.message,)
        if isinstance(error, HostKeyError):
            e.advice = f"{e.advice} {error.advice}".strip()
        raise
    return True


def how(computes: Computes, compute: Compute, error: SSHError) -> SSHError:
    """The refusal of an Azure VM, with what is to be done there; of any other machine, as it is."""
    if not hasattr(computes.provider(compute.id), "set_up_access"):
        return error
    if error.code in ("HostKeyUnknown", AuthenticationError.code):
        error.advice = f"`jupyter dsvm access {compute.name}` sets SSH up. Or: {error.advice}"
    elif error.code == Unreachable.code:
        # A Standard address lets nobody in until a rule of a network security group does.
        error.advice += (
            f" In the Azure portal, Networking of {compute.name} says which inbound rules it has: one has to allow TCP to "
            "its SSH port (22) from this server's address. In the VM's own network, AzureCompute.private_addresses goes "
            "around that."
        )
    return error


def set_up(computes: Computes, compute: Compute, report: Report, cancel: Cancel, **options: Any) -> str:
    """By the machine's provider, under the one lock that a machine has; what was done, in a sentence."""
    provider: Any = computes.provider(compute.id)
    said: list[str] = []

    def act(report: Report, cancel: Cancel) -> Compute:
        said.append(provider.set_up_access(compute.id, report, cancel, **options))
        row: Compute = provider.get(compute.id)
        return row

    computes.change("access", compute.id, act, report, cancel, target=str(sorted(options.items())))
    return said[0] if said else f"SSH is set up on {compute.name}."


def renew(computes: Computes, compute: Compute, signed_in: Callable[[str], SSHConnection]) -> None:
    """Called after a connect: our line there is replaced while it still lets us in, without Azure. What fails is tried again
    by the next connect, and by run command once the key has ended."""
    provider: Any = computes.provider(compute.id)
    due = provider.renewal(compute.id) if hasattr(provider, "renewal") else None
    if due is None:
        return
    try:
        if _run_script(signed_in(compute.id), *due):
            provider.renewed(compute.id, due[1])
    except DSVMError as e:
        log.info("the key on %s could not be renewed: %s", compute.name, e)


def _run_script(connection: SSHConnection, script: str, arguments: Sequence[str]) -> bool:
    """Our script for the account itself, over a connection that stands, which is closed; whether it was done."""
    try:
        # Arguments are words without any meaning to a shell (``access_answer.USER``, base64, digits); the text is on stdin.
        status, out, _ = connection.run(
            f"/bin/sh -s -- {' '.join(arguments)}", script.encode(), timeout=COMMAND_SECONDS, limit=64 * 1024
        )
    finally:
        connection.close()
    return status == 0 and out.decode("utf-8", "replace").strip().endswith("done")


class Access:
    def __init__(
        self, operations: OperationStore, computes: Computes, connections: Connections, changes: Changes
    ) -> None:
        self._operations = operations
        self._computes = computes
        self._connections = connections
        self._changes = changes

    def begin(self, compute: str, request: AccessRequest, cancel: Cancel | None = None) -> Running:
        """May block to find the compute by its name. Raises where its provider cannot do that."""
        row = self._computes.find(compute)
        provider = self._computes.provider(row.id)
        if not request.password and not hasattr(provider, "set_up_access"):
            raise _by_hand(row)
        text = f"Sign in to {row.name} with the password" if request.password else f"Set up SSH on {row.name}"
        return self._operations.begin("access", compute=row.id, steps=[("access", text)], cancel=cancel)

    def run(self, running: Running, request: AccessRequest) -> Compute:
        said: list[str] = []

        def act(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            row = self._computes.find(running.value.compute or "")
            if request.password:
                said.append(self._with_password(row, request))
            elif request.vmaccess:
                said.append(self._by_vmaccess(row, request, report, cancel))
            else:
                options = {"user": request.user, "renew_host_key": request.renew_host_key}
                said.append(set_up(self._computes, row, report, cancel, **options))
            return row

        running.step("access")
        return self._changes.run(running, act, lambda row: said[0])

    def _by_vmaccess(self, row: Compute, request: AccessRequest, report: Report, cancel: Cancel) -> str:
        """Only where the host key is known, since VMAccess does not say it, and no key of ours is let in."""
        provider: Any = self._computes.provider(row.id)
        if request.user:
            provider.name_account(row.id, request.user)
        try:
            self._connections.signed_in(row.id).close()
            return f"{row.name} lets this server in already; VMAccess was not used."
        except AuthenticationError:
            pass
        said: list[str] = []

        def act(report: Report, cancel: Cancel) -> Compute:
            with provider.key_by_vmaccess(row.id, report, cancel) as key:
                report(f"Putting a key with an end in its place on {row.name}", None)
                due = provider.line(row.id)
                if not _run_script(self._connections.signed_in(row.id, key=key), *due):
                    raise OperationRefused(
                        f"VMAccess has put a key on {row.name}, but it could not be replaced by one that ends.",
                        advice=f"Look into ~/.ssh/authorized_keys on {row.name} for the line that ends in jupyter-dsvm.",
                        code="CannotWrite",
                    )
                provider.renewed(row.id, due[1])
            said.append(f"{row.name} lets this account's key in. Its account has sudo without a password now.")
            fresh: Compute = provider.get(row.id)
            return fresh

        self._computes.change("access", row.id, act, report, cancel, target="vmaccess")
        return said[0] if said else f"{row.name} is set up."

    def _with_password(self, row: Compute, request: AccessRequest) -> str:
        """It is tried before it is kept, and kept in memory only."""
        provider: Any = self._computes.provider(row.id)
        if request.user:
            if not hasattr(provider, "name_account"):
                raise BadRequest(
                    f"The account on {row.name} is set in your SSH configuration (User).", advice="Leave --user out."
                )
            provider.name_account(row.id, request.user)
        try:
            self._connections.signed_in(row.id, request.password).close()
        except AuthenticationError as e:
            self._connections.set_password(row.id, None)
            e.advice = (
                "Check the password and the account, and whether sshd there takes passwords (PasswordAuthentication)."
            )
            raise
        self._connections.set_password(row.id, request.password)
        return f"{row.name} lets this server in; the password is kept in its memory until it ends."

    def begin_forget(self, compute: str, cancel: Cancel | None = None) -> Running:
        row = self._computes.find(compute)
        return self._operations.begin(
            "forget", compute=row.id, steps=[("forget", f"Take the key from {row.name}")], cancel=cancel
        )

    def run_forget(self, running: Running) -> Compute:
        compute_id = running.value.compute or ""
        said: list[str] = []

        def act(report: Report, cancel: Cancel) -> Compute:
            row = self._computes.find(compute_id)
            provider: Any = self._computes.provider(compute_id)
            self._connections.set_password(compute_id, None)
            if not hasattr(provider, "forget_access"):
                said.append(f"The password of {row.name} is forgotten, if there was one.")
                return row
            taken = self._take_away(provider, row)
            said.append(provider.forget_access(compute_id, report, cancel, taken))
            fresh: Compute = provider.get(compute_id)
            return fresh

        def change(report: Report, cancel: Cancel, memo: Memo) -> Compute:
            return self._computes.change("forget", compute_id, act, report, cancel)

        running.step("forget")
        return self._changes.run(running, change, lambda row: said[0] if said else f"{row.name} is forgotten.")

    def _take_away(self, provider: Any, row: Compute) -> bool:
        """Over SSH where that still works: it needs no right in Azure, and takes a moment instead of half a minute."""
        if provider.grant(row.id).good() and provider.get(row.id).power_state is PowerState.RUNNING:
            try:
                return _run_script(self._connections.signed_in(row.id), *provider.revocation(row.id))
            except (SSHError, ComputeNotRunning) as e:
                log.info("the key on %s is taken away by run command: %s", row.name, e)
        return False


def _by_hand(row: Compute) -> OperationRefused:
    return OperationRefused(
        f"SSH on {row.name} is not set up from here: it is none of Azure's VMs.",
        advice=f"Put a key of yours there (`ssh-copy-id {row.name}`), or `jupyter dsvm access {row.name} --password`.",
        code="NotSetUpHere",
    )
