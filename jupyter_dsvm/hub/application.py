"""``jupyter dsvm hub broker``, or ``python -m jupyter_dsvm.hub``: the broker as a service of a JupyterHub.

In ``jupyterhub_config.py``::

    import sys
    c.JupyterHub.services = [{
        "name": "dsvm",
        "url": "http://127.0.0.1:10101",
        "command": [sys.executable, "-m", "jupyter_dsvm.hub", "--config", "/etc/jupyterhub/dsvm_broker.py"],
        "oauth_no_confirm": True,
    }]
    c.JupyterHub.load_roles = [
        {"name": "user", "scopes": ["self", "access:services!service=dsvm"]},
        {"name": "server", "scopes": ["users:activity!user", "access:servers!server", "access:services!service=dsvm"]},
        {"name": "dsvm", "services": ["dsvm"], "scopes": ["list:users", "read:users:groups"]},
    ]
    c.Spawner.environment = {"JUPYTER_DSVM_BROKER": "http://127.0.0.1:10101/services/dsvm/"}

A server's token has the scopes that its role and its user have both, so both get the one for the service. The address is no
secret, and the token with which users' servers come is the one that the hub gives each of them anyway. The last role is for the
broker itself: it ends what somebody has running who leaves a group or the hub. The hub gives the
broker its name, prefix, address and token in the environment (``JUPYTERHUB_SERVICE_…``, ``JUPYTERHUB_API_…``).

``dsvm_broker.py`` has ``c.HubPolicy``, ``c.AzureCompute`` (``managed_identity = "system"``), ``c.Broker`` and ``c.DSVMBroker``.
docs/hub.md has an example of each. ``SIGTERM`` ends it; what was under way is gone on with at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from jupyter_core.application import base_aliases, base_flags
from jupyter_events import EventLogger
from tornado.httpserver import HTTPServer
from traitlets import Bool, Float, Int, Unicode, default
from traitlets.config import Application

from ..errors import ConfigurationError
from .audit import Audit, audit_log
from .broker import Broker
from .handlers import MAX_BODY, application
from .people import HubPeople, People
from .watch import SECONDS, Watch

BACKLOG = 1024
"""Connections that may wait to be accepted. With tornado's 128 a class that comes at once overflows it, and who was left out tries
again a second or more later."""


class DSVMBroker(Application):
    name = "jupyter-dsvm-hub"
    description = "The broker of a JupyterHub for Azure Data Science VMs. docs/hub.md says how it is set up."
    aliases: ClassVar[dict[str, str]] = {  # type: ignore[misc]
        "config": "DSVMBroker.config_file",
        "state-dir": "DSVMBroker.state_dir",
        "ip": "DSVMBroker.ip",
        "port": "DSVMBroker.port",
        "log-level": base_aliases["log-level"],
    }
    flags: ClassVar[dict[str, Any]] = {"debug": base_flags["debug"]}  # type: ignore[misc]
    classes: ClassVar[list[type]] = [Broker]  # type: ignore[misc]

    config_file = Unicode("", help="The configuration to read.").tag(config=True)
    state_dir = Unicode(
        "",
        help="Folder for the authority's keys and what is remembered; of the broker's account alone, and on a disk that stays.",
    ).tag(config=True)
    ip = Unicode(help="Address to listen on. The default is the one that the hub says.").tag(config=True)
    port = Int(help="Port to listen on. The default is the one that the hub says.").tag(config=True)
    prefix = Unicode(help="Path under which the hub's proxy leads here. The default is what the hub says.").tag(
        config=True
    )
    audit_file = Unicode(
        "", help="File for the audit's lines, which are appended. The default is the log, on stderr."
    ).tag(config=True)
    open_metrics = Bool(
        False, help="Whether GET metrics needs no token: where only Prometheus can reach this address."
    ).tag(config=True)
    watch_seconds = Float(SECONDS, min=0.1, help="Seconds between two looks at what the rules end.").tag(config=True)

    @default("state_dir")
    def _default_state_dir(self) -> str:
        return os.environ.get("JUPYTER_DSVM_BROKER_STATE", "")

    @default("ip")
    def _default_ip(self) -> str:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).hostname or "127.0.0.1"

    @default("port")
    def _default_port(self) -> int:
        return urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "")).port or 10101

    @default("prefix")
    def _default_prefix(self) -> str:
        return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/services/dsvm/")

    @property
    def service(self) -> str:
        """Its name among the hub's services."""
        return os.environ.get("JUPYTERHUB_SERVICE_NAME", "dsvm")

    def people(self) -> People:
        return HubPeople(self.service)

    def initialize(self, argv: Any = None) -> None:
        self.parse_command_line(argv)
        if self.config_file:
            path = Path(self.config_file).absolute()
            if not path.exists():
                raise ConfigurationError(f"There is no configuration {path}.", advice="Name one with --config.")
            arguments = self.cli_config
            self.load_config_file(path.name, path=[str(path.parent)])
            self.update_config(arguments)

    def start(self) -> None:
        """Until SIGTERM or SIGINT."""
        if not self.state_dir:
            raise ConfigurationError(
                "Nobody has said where the broker keeps its keys and its state.",
                advice="Set c.DSVMBroker.state_dir to a folder of its account alone, such as /var/lib/jupyter-dsvm.",
            )
        self._log_audit()
        _allow_many_files()
        folder = Path(self.state_dir).expanduser()
        asyncio.run(self._serve(Broker(folder, Audit(EventLogger(parent=self)), parent=self), self.people()))

    def _log_audit(self) -> None:
        audit_log.setLevel(logging.INFO)
        if self.audit_file:
            fd = os.open(self.audit_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.close(fd)
            handler: logging.Handler = logging.FileHandler(self.audit_file, encoding="utf-8")
            audit_log.propagate = False
        else:
            handler = logging.StreamHandler()
            audit_log.propagate = False
        handler.setFormatter(logging.Formatter("%(message)s"))
        audit_log.addHandler(handler)

    async def _serve(self, broker: Broker, people: People) -> None:
        watch = Watch(broker, people.everybody)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        try:
            await asyncio.to_thread(broker.begin)
            server = HTTPServer(
                application(self.prefix, broker, people, watch, self.open_metrics, self.service),
                max_body_size=2 * MAX_BODY,
            )
            server.listen(self.port, self.ip, backlog=BACKLOG)
            watch.begin(self.watch_seconds)
            self.log.info("The broker listens on %s, port %s, under %s.", self.ip, self.port, self.prefix)
            await ended.wait()
            server.stop()
            await server.close_all_connections()
        finally:
            await asyncio.to_thread(watch.close)
            await asyncio.to_thread(broker.close)


def _allow_many_files() -> None:
    """Everybody who waits for a start has a connection here: as many files as this account may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: Any = None) -> int:
    """Exit status 1 with one sentence where it cannot run."""
    app = DSVMBroker()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("jupyter_dsvm").setLevel(logging.INFO)
    try:
        app.initialize(argv)
        app.start()
    except ConfigurationError as e:
        app.log.error("%s", e)
        return 1
    return 0
