"""Where and how a VM is reached over SSH: the part of ``AzureCompute`` behind ``ssh_target``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Dict, TraitError, Unicode, validate
from traitlets.config import Configurable

from ...errors import ComputeError, ComputeNotRunning, Forbidden, Throttled, UnknownCompute
from ...models import OS, PowerState, SSHTarget
from ..hosts import SSHHosts
from .errors import NOT_THERE

if TYPE_CHECKING:
    from .client import ArmClient
    from .entra_ssh import Certificate
    from .machine import VirtualMachine

NETWORK_API = "2023-11-01"


class Reach(Configurable):
    ssh_user = Unicode(
        None,
        allow_none=True,
        help="User name for SSH on the VMs. The default is the account that was chosen when the VM was made.",
    ).tag(config=True)
    ssh_key_file = Unicode(
        "", help="Private key for SSH on the VMs. The default is what SSH tries by itself: the agent and ~/.ssh/id_*."
    ).tag(config=True)
    ssh_ports = Dict(
        help='SSH port of single VMs: {vmId: port}, and of all others: {"*": port}. The default is 22.'
    ).tag(config=True)
    host_keys_file = Unicode(
        "", help="File with the VMs' host keys as in known_hosts, each under its vmId instead of an address."
    ).tag(config=True)
    private_addresses = Bool(
        False,
        help="Connect to the VMs' private addresses even where they have public ones, as in a hub in their network.",
    ).tag(config=True)
    python = Unicode("", help="Path of the Python to try first on the VMs, to run the relay.").tag(config=True)

    # Of AzureCompute
    _fresh: Callable[[str], VirtualMachine]
    _arm: Callable[[str], ArmClient]
    _user: Callable[..., str | None]
    _own_key: Callable[[VirtualMachine], str | None]
    _certificate: Callable[[VirtualMachine], Certificate | None]

    @validate("ssh_ports")
    def _lower_vm_ids(self, proposal: dict[str, Any]) -> dict[str, int]:
        try:
            return {str(vm_id).lower(): int(port) for vm_id, port in proposal["value"].items()}
        except ValueError as error:
            raise TraitError(f"AzureCompute.ssh_ports has to be {{vmId: port}}: {error}") from None

    def ssh_target(self, compute_id: str) -> SSHTarget:
        """Raises ``ComputeNotRunning`` without a running VM with an address, ``ComputeError`` for a Windows one."""
        machine = self._fresh(compute_id)
        if machine.compute.os is OS.WINDOWS:
            raise ComputeError(
                f"{machine.name} is a Windows VM; notebooks cannot run there yet.",
                advice="Choose a Linux DSVM.",
                code="Windows",
            )
        state = machine.compute.power_state
        if state is not PowerState.RUNNING:
            raise ComputeNotRunning(
                f"{machine.name} is {state.value}.",
                advice=f"Start it first: in the panel, or with `jupyter dsvm start {machine.name}`.",
            )
        public, private = self._addresses(machine)
        host = private if self.private_addresses else public or private
        if not host:
            raise ComputeNotRunning(
                f"{machine.name} is running but has no address yet.",
                advice="Wait a moment and try again. If it stays so, give it a public address in the Azure portal, or "
                "run this server in the VM's network.",
                code="NoAddress",
            )
        certificate = self._certificate(machine)
        port = self.ssh_ports.get(machine.vm_id, self.ssh_ports.get("*", 22))
        user, keys, proxy = SSHHosts(config=self.config).way_to(machine.name, host, port)
        return SSHTarget(
            compute=compute_id,
            name=machine.name,
            host=host,
            port=port,
            user=certificate.user if certificate else self._user(machine, user),
            certificates=(certificate.key,) if certificate else (),
            own_key=None if certificate else self._own_key(machine),
            key_files=(self.ssh_key_file,) if self.ssh_key_file else keys,
            proxy_command=proxy,
            pinned_key_id=machine.vm_id,
            python=self.python or None,
        )

    def _addresses(self, machine: VirtualMachine) -> tuple[str | None, str | None]:
        """(public, private), read fresh: a dynamic address changes at every deallocation.

        An account that may not read the network is left with the graph's. A stale one does no harm, since the host
        key is pinned under the VM's id.
        """
        client = self._arm(machine.tenant)
        try:
            with client.translated(f"read the address of {machine.name}"):
                if not machine.interface:
                    return machine.public_ip, machine.private_ip
                interface = client.get(machine.interface, NETWORK_API)
                configurations = [
                    c.get("properties") or {} for c in (interface.get("properties") or {}).get("ipConfigurations") or ()
                ]
                chosen = next((c for c in configurations if c.get("primary")), (configurations or [{}])[0])
                public_id = (chosen.get("publicIPAddress") or {}).get("id")
                public = (client.get(public_id, NETWORK_API).get("properties") or {}) if public_id else {}
                return public.get("ipAddress"), chosen.get("privateIPAddress")
        except ComputeError as error:
            # Where it may not be read, or is gone, the graph's address may still lead to the VM.
            known = bool(machine.public_ip or machine.private_ip)
            if known and isinstance(error, (Forbidden, Throttled, *NOT_THERE)):
                return machine.public_ip, machine.private_ip
            if isinstance(error, UnknownCompute):
                # The interface is gone, or the address: not the VM, and "unknown" would end what runs there.
                raise ComputeError(error.message, advice=error.advice, code=error.code) from error
            raise
