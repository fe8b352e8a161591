"""A real JupyterHub that starts and stops its user's real single-user server.

Only its proxy is left out, so that no Node.js is needed: what a page would ask through it goes straight to the single-user
server, under the same path and with the same authorization by the hub.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from .kernels import until
from .restarted import Place
from .served import OTHERS, Served, end, wait_until_it_answers, write_settings
from .sshd import free_port

USER = "ada"

CONFIGURATION = """
import json
from pathlib import Path

from jupyterhub.proxy import Proxy

given = json.loads(Path({given!r}).read_text())


class NoProxy(Proxy):
    should_start = False
    routes = {{}}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return self.routes


c = get_config()
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = given["public"]
c.JupyterHub.hub_bind_url = given["hub"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{{"name": "tests", "api_token": given["token"]}}]
c.JupyterHub.load_roles = [
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "access:servers"]}}
]
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = given["home"]
c.Spawner.cmd = given["command"]
c.Spawner.args = ["--allow-root"]
c.Spawner.port = given["port"]
c.Spawner.environment = given["environment"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
"""


class Hub:
    """``server`` is the user's server as a page sees it, while there is one."""

    def __init__(self, where: Place, folder: Path) -> None:
        folder.mkdir()
        token = secrets.token_hex(16)
        self._api = Served(free_port(), token, "/hub/api/")
        self.server = Served(free_port(), token, f"/user/{USER}/")
        self._log = folder / "log"
        write_settings(where.config, OTHERS)
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("JUPYTER_DSVM_")},
            **where.environment,
            "JUPYTER_CONFIG_DIR": str(where.config),
            "JUPYTER_PLATFORM_DIRS": "0",
            "JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp",
        }
        given = folder / "given.json"
        values = {
            "public": f"http://127.0.0.1:{free_port()}",
            "hub": f"http://127.0.0.1:{self._api.port}",
            "token": token,
            "home": str(where.home),
            "command": [sys.executable, "-m", "jupyterhub.singleuser"],
            "port": self.server.port,
            "environment": environment,
        }
        given.write_text(json.dumps(values))
        (folder / "config.py").write_text(CONFIGURATION.format(given=str(given)))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", "config.py"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def spawn(self) -> None:
        """Start the user's server, as when they log in; returns when the hub says that it is ready."""
        self._api.rest("POST", f"users/{USER}/server")
        until(lambda: self._is("ready"), 120)

    def cull(self) -> None:
        """Stop the user's server, as the idle culler and the user's own "Stop My Server" do."""
        self._api.rest("DELETE", f"users/{USER}/server")
        until(lambda: not self._is("pending") and not self._is("ready"), 60)

    def _is(self, state: str) -> bool:
        servers = self._api.rest("GET", f"users/{USER}?include_stopped_servers")["servers"]
        return bool(servers.get("", {}).get(state))

    def __enter__(self) -> Hub:
        wait_until_it_answers(self._api, "", self._process, self._log)
        self._api.rest("POST", f"users/{USER}")
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """It stops the user's server, too."""
        end(self._process, 40)
