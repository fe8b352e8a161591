"""SSH without set-up: our key into the user's account on a VM, and the VM's host keys to us, in one run command.

``AzureAccess`` is the part of ``AzureCompute`` that the service's ``access`` calls, on worker threads, when a connect was
refused for want of a key or of a known host key, or when somebody asks for it. What the VM said is read in ``access_answer``.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_data_dir
from traitlets import Bool, Float
from traitlets.config import Configurable

from ...errors import (
    BadRequest,
    ComputeError,
    ComputeNotRunning,
    DSVMError,
    Forbidden,
    HostKeyError,
    OperationRefused,
)
from ...models import OS, PowerState
from ...ssh.grants import Grant, Grants
from ...ssh.hostkeys import HostKey, HostKeys
from ...ssh.keys import KeyPair, ensure_key, write_private
from ..hosts import SSHHosts
from ..provider import Cancel, Report
from .access_answer import USER, Answer, parse, refusal, script

if TYPE_CHECKING:
    from .client import ArmClient
    from .entra_ssh import Certificate
    from .machine import VirtualMachine

log = logging.getLogger("jupyter_dsvm.access")

AGENT_CODES = {"VMExtensionProvisioningTimeout", "VMExtensionProvisioningError", "VMAgentStatusCommunicationError"}
"""What Azure says when its agent in the VM does not do its part."""


def own_key_folder() -> Path:
    """Where our key pair is: with everything else of ours."""
    return Path(jupyter_data_dir()) / "jupyter-dsvm"


def mark_of(pair: KeyPair) -> str:
    """The comment of our line on a VM: by it exactly our line is found again, from wherever it is taken away."""
    blob = pair.public_line.split()[1]
    return "jupyter-dsvm:" + hashlib.sha256(blob.encode()).hexdigest()[:16]


def moment(seconds: float) -> str:
    """For people: a date and a time in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


class AzureAccess(Configurable):
    set_up_ssh = Bool(
        True,
        help="Whether a first attach may set up SSH on a VM by Azure's run command: this account's own key, with an end, goes "
        "into the VM user's authorized_keys, and the VM's host keys are read. `jupyter dsvm access NAME` does it in any case.",
    ).tag(config=True)
    key_days = Float(
        30.0, min=0.001, max=3650.0, help="Days for which that key is good on a VM; it is renewed while it is used."
    ).tag(config=True)

    entra_ssh = Bool(
        False,
        help="Sign in to the VMs as whoever signed in to Azure here, with an SSH certificate of Entra's. The VMs need the "
        "AADSSHLoginForLinux extension, and the person a role Virtual Machine User Login. No key is put there then.",
    ).tag(config=True)

    # Of AzureCompute
    sign_in: Any
    cloud: Any
    host_keys_file: Any
    ssh_user: Any
    polling_interval: Any
    _fresh: Callable[[str], VirtualMachine]
    _arm: Callable[[str], ArmClient]

    @property
    def grants(self) -> Grants:
        if not hasattr(self, "_grants"):
            self._grants = Grants()
        return self._grants

    def _host_keys(self) -> HostKeys:
        return HostKeys(configured=self.host_keys_file or None)

    def _user(self, machine: VirtualMachine, in_ssh_config: str | None = None) -> str | None:
        """What was said or found for this VM, then the SSH configuration's for its name, then what is configured for all, then
        what it was made with."""
        return self.grants.get(machine.vm_id).user or in_ssh_config or self.ssh_user or machine.admin

    def _certificate(self, machine: VirtualMachine) -> Certificate | None:
        """Entra's, where the VMs are to be signed in to by one."""
        if not self.entra_ssh:
            return None
        if not hasattr(self, "_entra_ssh"):
            from .entra_ssh import EntraSSH

            entra = self._entra_ssh = EntraSSH(self.sign_in.ssh_certificate, self.cloud)
            self.sign_in.listeners.append(lambda attempt, account: entra.forget() if account else None)
        found: Certificate = self._entra_ssh.certificate(machine.tenant)
        return found

    def _own_key(self, machine: VirtualMachine) -> str | None:
        """Our private key, where there is one and it is not known to have ended there."""
        grant = self.grants.get(machine.vm_id)
        path = own_key_folder() / "id_ed25519"
        return str(path) if path.exists() and (grant.good() or not grant.until) else None

    # Called by ``jupyter_dsvm.access``

    def may_set_up(self, compute_id: str) -> bool:
        """Whether an attach may do it unasked: not where the configuration itself says which host keys a VM has."""
        vm_id = compute_id.partition(":")[2].lower()
        return bool(self.set_up_ssh) and not self._host_keys().configured_for(vm_id)

    def grant(self, compute_id: str) -> Grant:
        return self.grants.get(compute_id.partition(":")[2].lower())

    def set_up_access(
        self, compute_id: str, report: Report, cancel: Cancel, *, user: str = "", renew_host_key: bool = False
    ) -> str:
        """Put our key there and pin the VM's host keys; the sentence that says what was done. Blocks for 20 seconds at least.

        ``user``: the account, remembered from then on. ``renew_host_key``: pin what the VM has now even where another key
        was known. Raises ``OperationRefused`` (``UserNameNeeded`` among its codes), ``Forbidden``, ``HostKeyError``.
        """
        if user:
            _check_user(user)
        machine = self._reachable(compute_id)
        report(f"Setting up SSH on {machine.name}", None)
        pair = ensure_key(own_key_folder())
        account = user or self._user(machine, SSHHosts(config=self.config).way_to(machine.name, "", 22)[0]) or ""
        now = time.time()
        until = int(now + float(self.key_days) * 86400)
        only_look = bool(self.entra_ssh) and not user
        try:
            answer, stderr = self._script(
                "look" if only_look else "grant", machine, account, pair, until, report, cancel
            )
        except (Forbidden, OperationRefused):
            self._pin_from_serial_log(machine)
            raise
        # By name the command may have reached a VM that was made in this one's place meanwhile.
        self._fresh(compute_id)
        said = self._pin(machine, answer.host_keys, renew_host_key)
        if only_look:
            return f"The host keys of {machine.name} are known. {said}".strip()
        if not answer.done:
            raise refusal(answer, machine.name, account, stderr)
        self.grants.change(machine.vm_id, user=answer.user, until=float(until), since=now)
        return f"{answer.user} on {machine.name} lets this account's key in until {moment(until)}. {said}".strip()

    def name_account(self, compute_id: str, user: str) -> None:
        """Whose account it is on this VM, from now on."""
        _check_user(user)
        self.grants.change(self._fresh(compute_id).vm_id, user=user)

    @contextmanager
    def key_by_vmaccess(self, compute_id: str, report: Report, cancel: Cancel) -> Iterator[str]:
        """The file of a key that VMAccess has put there, for as long as the body takes. Somebody has agreed to what that does."""
        from . import vmaccess  # here, since it imports the Azure libraries

        machine = self._reachable(compute_id)
        account = self._user(machine)
        if not account or not USER.fullmatch(account):
            raise refusal(Answer(refused="UserNameNeeded", complete=True), machine.name, "", "")
        client = self._arm(machine.tenant)
        private, public = vmaccess.new_rsa_key()
        path = own_key_folder() / f"vmaccess-{secrets.token_hex(8)}"
        write_private(path, private)
        try:
            vmaccess.apply(
                client.extensions(machine.subscription),
                group=machine.group,
                vm=machine.name,
                location=machine.compute.location or "",
                user=account,
                public_line=f"{public} {mark_of(ensure_key(own_key_folder()))}",
                endpoint=client.endpoint,
                interval=self.polling_interval,
                report=report,
                cancel=cancel,
            )
            yield str(path)
        finally:
            path.unlink()

    def line(self, compute_id: str) -> tuple[str, Sequence[str]]:
        """The script and arguments with which our line is put there, in place of an earlier one, over a connection that stands."""
        pair = ensure_key(own_key_folder())
        until = int(time.time() + float(self.key_days) * 86400)
        return script("access_user.sh"), ("grant", pair.public_line.split()[1], str(until), mark_of(pair))

    def renewal(self, compute_id: str) -> tuple[str, Sequence[str]] | None:
        """The script and arguments with which our line is renewed over a connection that stands; None if it is early for that."""
        grant = self.grant(compute_id)
        if not grant.half_over():
            return None
        return self.line(compute_id)

    def renewed(self, compute_id: str, arguments: Sequence[str]) -> None:
        vm_id = compute_id.partition(":")[2].lower()
        self.grants.change(vm_id, until=float(arguments[2]), since=time.time())

    def revocation(self, compute_id: str) -> tuple[str, Sequence[str]]:
        """The script and arguments with which our line is taken away over a connection that stands."""
        pair = ensure_key(own_key_folder())
        return script("access_user.sh"), ("revoke", pair.public_line.split()[1], "0", mark_of(pair))

    def forget_access(self, compute_id: str, report: Report, cancel: Cancel, taken_away: bool) -> str:
        """Take our key from the VM unless that was ``taken_away`` over SSH already, and forget its account and host keys."""
        vm_id = compute_id.partition(":")[2].lower()
        grant = self.grants.get(vm_id)
        machine = self._fresh(compute_id)
        if not taken_away and grant.until:
            if machine.compute.power_state is not PowerState.RUNNING:
                raise ComputeNotRunning(
                    f"The key cannot be taken away while {machine.name} is {machine.compute.power_state.value}. "
                    + (
                        f"It ends by itself on {moment(grant.until)}."
                        if grant.good()
                        else f"It has ended on {moment(grant.until)}."
                    ),
                    advice=f"Start it and say `jupyter dsvm forget {machine.name}` again, if that is too late.",
                )
            report(f"Taking the key from {machine.name}", None)
            pair = ensure_key(own_key_folder())
            answer, stderr = self._script("revoke", machine, grant.user, pair, 0, report, cancel)
            if not answer.done and answer.refused != "NoAccount":
                raise refusal(answer, machine.name, grant.user, stderr)
        self.grants.forget(vm_id)
        self._host_keys().unpin(vm_id)
        if not taken_away and not grant.until:
            return f"No key of ours was put on {machine.name}. Its account and host keys are forgotten."
        return f"The key is gone from {machine.name}; its account and host keys are forgotten."

    # In here

    def _reachable(self, compute_id: str) -> VirtualMachine:
        machine = self._fresh(compute_id)
        if machine.compute.os is OS.WINDOWS:
            raise ComputeError(
                f"{machine.name} is a Windows VM; SSH is set up on Linux VMs only.",
                advice="Choose a Linux DSVM.",
                code="Windows",
            )
        if machine.compute.power_state is not PowerState.RUNNING:
            raise ComputeNotRunning(
                f"{machine.name} is {machine.compute.power_state.value}; SSH can be set up while it runs.",
                advice=f"Start it first: in the panel, or with `jupyter dsvm start {machine.name}`.",
            )
        return machine

    def _script(
        self,
        action: str,
        machine: VirtualMachine,
        user: str,
        pair: KeyPair,
        until: int,
        report: Report,
        cancel: Cancel,
    ) -> tuple[Answer, str]:
        """Run it there; its answer and what it printed on stderr."""
        from . import runcommand  # here, since it imports the Azure libraries

        client = self._arm(machine.tenant)
        operations = client.virtual_machines(machine.subscription)
        nonce = secrets.token_hex(16)
        what = f"set up SSH on {machine.name}" if action != "revoke" else f"take the key from {machine.name}"
        if user and not USER.fullmatch(user):
            raise OperationRefused(
                f"The account of {machine.name} has a name that cannot be used here: {user[:60]!r}.",
                advice=f"Name another one: `jupyter dsvm access {machine.name} --user USER`.",
                code="UserNameNeeded",
            )
        parameters = {
            "dsvm_action": action,
            "dsvm_nonce": nonce,
            "dsvm_user": user or "-",
            "dsvm_key": pair.public_line.split()[1],
            "dsvm_until": str(until),
            "dsvm_mark": mark_of(pair),
        }

        def begin(body: Any, **options: Any) -> Any:
            return operations.begin_run_command(machine.group, machine.name, body, **options)

        try:
            out, err = runcommand.run(
                begin,
                script(),
                parameters,
                name=machine.name,
                what=what,
                doing=f"Setting up SSH on {machine.name}"
                if action != "revoke"
                else f"Taking the key from {machine.name}",
                endpoint=client.endpoint,
                interval=self.polling_interval,
                report=report,
                cancel=cancel,
            )
        except (Forbidden, OperationRefused) as error:
            if isinstance(error, Forbidden) or error.code in AGENT_CODES:
                error.advice = f"{error.advice} {by_hand(machine.name, user, pair)}".strip()
            raise
        return parse(out, nonce), err

    def _pin_from_serial_log(self, machine: VirtualMachine) -> None:
        """Without a right to run commands: the host keys at least, if none are known, so that a key of the user's own can be
        tried. Raises nothing; what failed before is what matters."""
        from . import serial_log

        keys = self._host_keys()
        if keys.configured_for(machine.vm_id) or keys.pinned(machine.vm_id):
            return
        client = self._arm(machine.tenant)
        try:
            with client.translated(f"read the serial log of {machine.name}"):
                operations = client.virtual_machines(machine.subscription)
                answer = operations.retrieve_boot_diagnostics_data(machine.group, machine.name).as_dict()
            found = serial_log.host_keys(serial_log.read(serial_log.address(answer, client.endpoint)))
            self._fresh(machine.compute.id)  # still the same VM
        except DSVMError as error:
            log.info("no host keys from the serial log of %s: %s", machine.name, error)
            return
        if found:
            keys.pin(machine.vm_id, *(key.line for key in found))

    def knows_host_key(self, compute_id: str) -> bool:
        return bool(self._host_keys().pinned(compute_id.partition(":")[2].lower()))

    def _pin(self, machine: VirtualMachine, shown: Sequence[HostKey], renew: bool) -> str:
        """Hold what the VM says it has against what is known. A sentence where something has changed."""
        keys = self._host_keys()
        if not shown or keys.configured_for(machine.vm_id):
            return ""
        known = keys.pinned(machine.vm_id)
        if known and not renew:
            if set(known) & set(shown):
                return ""
            raise HostKeyError(
                f"The host keys of {machine.name} have changed. Azure says that it has {', '.join(map(str, shown))}; "
                f"known is {', '.join(map(str, known))}.",
                advice="If somebody renewed them on purpose, take them over with "
                f"`jupyter dsvm access {machine.name} --renew-host-key`.",
                code="HostKeyChanged",
            )
        keys.pin(machine.vm_id, *(key.line for key in shown))
        if known and set(known) != set(shown):
            return f"Its host keys were {', '.join(map(str, known))} and are now {', '.join(map(str, shown))}."
        return ""


def _check_user(user: str) -> None:
    if not USER.fullmatch(user):
        raise BadRequest(
            f"{user[:60]!r} is no user name that can be used.",
            advice="It begins with a letter, and has letters, digits, dots, hyphens and underscores.",
        )


def by_hand(name: str, user: str, pair: KeyPair) -> str:
    """What to do where Azure's run command is not to be had."""
    public = pair.private.with_name("id_ed25519.pub")
    if not public.exists():
        write_private(public, (pair.public_line + "\n").encode())
    return (
        f"Or put a key there yourself: append this line to ~{user or 'USER'}/.ssh/authorized_keys on {name}, in the portal's "
        f"serial console or with ssh-copy-id (it is in {public}): {pair.public_line} . "
        f"With a password: `jupyter dsvm access {name} --password`."
    )
