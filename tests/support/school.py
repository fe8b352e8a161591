"""A class with a broker, as docs/hub.md and docs/broker.md set it up: a real hub with the broker as its service."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_dsvm.emulator import Emulator

from .hub import Hub, accounts_possible, bare, homes
from .kernels import until
from .served import RestError, Served
from .sshd import free_port

CONFIGURATION = """
import sys

c.JupyterHub.load_groups = {{"vision": {{"users": ["ada", "bob"]}}}}
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

SERVICE = "services/dsvm/"


@contextlib.contextmanager
def school(azure: Emulator, folder: Path, rules: str = "", **settings: Any) -> Iterator[Hub]:
    """Ada and Bob are in the group ``vision``, and their servers run; there is a teacher. ``rules``: more of the broker's
    configuration; ``settings``: sections of the students' servers. The broker's audit is ``folder/audit.jsonl``."""
    of_azure = json.loads((azure.config_dir / "jupyter_dsvm_config.json").read_text())["AzureCompute"]
    config = folder / "dsvm_broker.py"
    config.write_text(
        "c = get_config()\n"
        + "".join(f"c.AzureCompute.{name} = {value!r}\n" for name, value in of_azure.items())
        + f"c.AzureCompute.polling_interval = 0.2\nc.DSVMBroker.state_dir = {str(folder / 'state')!r}\n"
        + f"c.DSVMBroker.audit_file = {str(folder / 'audit.jsonl')!r}\nc.HubPolicy.teachers = ['teacher']\n{rules}"
    )
    port, own = free_port(), f"http://127.0.0.1:{free_port()}"
    with homes({"ada": False, "bob": False, "teacher": True}, accounts_possible()) as people:
        for person in people:
            bare(person, **settings)
        with Hub(
            folder / "hub",
            people,
            base="/class/",
            port=port,
            accounts=accounts_possible(),
            extra=CONFIGURATION.format(broker=own, config=str(config)),
            environment={"JUPYTER_DSVM_BROKER": f"http://127.0.0.1:{port}/class/{SERVICE}"},
        ) as hub:
            until(lambda: asked(hub, "", "computes")[0] == 401, 60)
            for name in ("ada", "bob"):
                hub.spawn(name)
            yield hub


def asked(hub: Hub, token: str, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    """The broker, through the hub's proxy."""
    try:
        return 200, Served(hub.port, token, f"{hub.base}{SERVICE}").rest(method, path, body)
    except RestError as error:
        return error.status, error.answer
