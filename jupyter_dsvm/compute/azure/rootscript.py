"""A script of ours on a running VM, as root: the part of ``AzureCompute`` that the hub's broker uses beside the port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..provider import Cancel, Report

if TYPE_CHECKING:
    from .client import ArmClient
    from .machine import VirtualMachine


class RootScripts:
    # Of AzureCompute
    polling_interval: Any
    _reachable: Callable[[str], VirtualMachine]
    _fresh: Callable[[str], VirtualMachine]
    _arm: Callable[[str], ArmClient]

    def run_script(
        self,
        compute_id: str,
        script: str,
        parameters: Mapping[str, str],
        *,
        what: str,
        doing: str,
        report: Report,
        cancel: Cancel,
    ) -> tuple[str, str]:
        """What it printed, stdout and stderr. Blocks for 20 seconds at least. ``what`` follows "Could not", ``doing`` begins what
        is reported; both may hold ``{}`` for the VM's name. Raises ``ComputeNotRunning``, ``Forbidden``, ``OperationRefused``."""
        from . import runcommand  # here, since it imports the Azure libraries

        machine = self._reachable(compute_id)
        client = self._arm(machine.tenant)
        operations = client.virtual_machines(machine.subscription)

        def begin(body: Any, **options: Any) -> Any:
            return operations.begin_run_command(machine.group, machine.name, body, **options)

        said = runcommand.run(
            begin,
            script,
            parameters,
            name=machine.name,
            what=what.format(machine.name),
            doing=doing.format(machine.name),
            endpoint=client.endpoint,
            interval=self.polling_interval,
            report=report,
            cancel=cancel,
        )
        # By name the command may have reached a VM that was made in this one's place meanwhile.
        self._fresh(compute_id)
        return said
