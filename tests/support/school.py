"""A hub with a broker as its service, as docs/broker.md sets it up."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_dsvm.emulator import Emulator

from .hub import Hub, Person
from .kernels import until
from .served import RestError, Served
from .sshd import free_port

SERVICE = "services/dsvm/"

CONFIGURATION = """
import sys

c.JupyterHub.load_groups = {groups!r}
c.JupyterHub.services = [
    *c.JupyterHub.services,
    {{
        "name": "dsvm",
        "url": {broker!r},
        "command": [sys.executable, "-m", "jupyter_dsvm.hub", "--config", {config!r}],
        "environment": given["environment"],
        "oauth_no_confirm": True,
    }},
]
c.JupyterHub.load_roles = [
    *c.JupyterHub.load_roles,
    {{"name": "user", "scopes": ["self", "access:services!service=dsvm"]}},
    {{"name": "server", "scopes": ["users:activity!user", "access:servers!server", "access:services!service=dsvm"]}},
    {{"name": "dsvm", "services": ["dsvm"], "scopes": ["list:users", "read:users:groups"]}},
]
"""


@dataclass(frozen=True)
class School:
    hub: Hub
    broker: str
    """The broker's own address, past the hub's proxy."""
    folder: Path
    """With the broker's state and its audit, ``audit.jsonl``."""

    def ask(self, token: str, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """The broker, through the hub's proxy."""
        try:
            return 200, Served(self.hub.port, token, f"{self.hub.base}{SERVICE}").rest(method, path, body)
        except RestError as error:
            return error.status, error.answer


@contextlib.contextmanager
def school(
    emulator: Emulator,
    folder: Path,
    people: Sequence[Person],
    groups: Mapping[str, Sequence[str]],
    *,
    accounts: bool = False,
    extra: str = "",
    through_proxy: bool = True,
    **sections: Mapping[str, Any],
) -> Iterator[School]:
    """Nobody's server has been spawned. ``sections``: of the broker's configuration (``HubPolicy``, ``Broker``). ``extra``: of the
    hub's. Not ``through_proxy``: users' servers ask the broker at its own address."""
    of_azure = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())["AzureCompute"]
    values: dict[str, Mapping[str, Any]] = {
        "AzureCompute": {**of_azure, "polling_interval": 0.2},
        "DSVMBroker": {"state_dir": str(folder / "state"), "audit_file": str(folder / "audit.jsonl")},
        **sections,
    }
    config = folder / "dsvm_broker.py"
    lines = [f"c.{name}.{trait} = {value!r}\n" for name, traits in values.items() for trait, value in traits.items()]
    config.write_text("c = get_config()\n" + "".join(lines))
    port, own = free_port(), f"http://127.0.0.1:{free_port()}"
    base = "/class/"
    address = f"http://127.0.0.1:{port}{base}{SERVICE}" if through_proxy else f"{own}{base}{SERVICE}"
    members = {group: {"users": list(names)} for group, names in groups.items()}
    with Hub(
        folder / "hub",
        people,
        base=base,
        port=port,
        accounts=accounts,
        extra=CONFIGURATION.format(groups=members, broker=own, config=str(config)) + extra,
        environment={"JUPYTER_DSVM_BROKER": address},
    ) as hub:
        made = School(hub, f"{own}{base}{SERVICE}", folder)
        until(lambda: made.ask("", "computes")[0] == 401, 60)
        yield made
