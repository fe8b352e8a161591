"""A hub's broker in this process, on a thread with a loop of its own: real HTTP, and people whose tokens the test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from traitlets.config import Config

from jupyter_dsvm.compute.broker import ADDRESS, TOKEN, BrokerCompute
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH, UBUNTU_2204_DSVM, Machine
from jupyter_dsvm.hub.audit import Audit, audit_log
from jupyter_dsvm.hub.broker import Broker
from jupyter_dsvm.hub.handlers import application
from jupyter_dsvm.hub.policy import Person
from jupyter_dsvm.hub.watch import Watch
from jupyter_dsvm.settings import load_config

PREFIX = "/services/dsvm/"


def vm(name: str, size: str = "Standard_D2ds_v5", power: str = "deallocated", **tags: str) -> Machine:
    """One of a class; ``user``, ``group`` or ``pool`` become the tags that the broker looks at."""
    return Machine(
        name,
        "class",
        RESEARCH.id,
        size,
        UBUNTU_2204_DSVM,
        power=power,
        tags={f"jupyterhub-{key}": value for key, value in tags.items()},
    )


class FakeHub:
    """In place of the hub: whose token is whose."""

    def __init__(self, *people: Person) -> None:
        self.people = {f"token-of-{person.name}": person for person in people}

    def everybody(self) -> dict[str, frozenset[str]]:
        return {person.name: person.groups for person in self.people.values()}

    async def identify(self, token: str) -> Person | None:
        return self.people.get(token)


@dataclass
class Running:
    """The broker, while it runs, and what its audit has said."""

    broker: Broker
    watch: Watch
    hub: FakeHub
    port: int
    audit: list[dict[str, Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def ask(
        self, person: str, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """As a user's server does; the status and the answer, refusals too."""
        token = f"token-of-{person}" if token is None else token
        request = urllib.request.Request(
            self.address + path,
            data=None if method in ("GET", "DELETE") else json.dumps(body or {}).encode(),
            method=method,
            headers={"Authorization": f"token {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as e:
            with e:
                return e.code, json.loads(e.read())

    def ended(self, person: str, operation: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            status, shown = self.ask(person, "GET", f"operations/{operation['id']}")
            assert status == 200, shown
            if shown["state"] != "running":
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)

    def rows(self, person: str) -> dict[str, dict[str, Any]]:
        status, found = self.ask(person, "GET", "computes")
        assert status == 200, found
        return {row["name"]: row for row in found["computes"]}

    def said(self, action: str, **facts: Any) -> list[dict[str, Any]]:
        """Lines of the audit."""
        return [
            line for line in self.audit if line["action"] == action and all(line.get(k) == v for k, v in facts.items())
        ]


class _Lines(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(json.loads(record.getMessage()))


@contextlib.contextmanager
def broker(emulator: Emulator, folder: Path, hub: FakeHub, port: int = 0, **settings: Any) -> Iterator[Running]:
    """``settings``: of ``HubPolicy`` and, by their names, of ``Broker``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_CONFIG_DIR", str(emulator.config_dir))
        config = load_config(logging.getLogger())
    config.AzureCompute.polling_interval = 0.1
    of_broker = {k: settings.pop(k) for k in list(settings) if k in Broker.class_trait_names(config=True)}
    config.merge(Config({"HubPolicy": settings, "Broker": {"listing_seconds": 1, "look_seconds": 0.2, **of_broker}}))
    made = Broker(folder, Audit(), config=config)
    running = Running(made, Watch(made, hub.everybody), hub, port)
    lines = _Lines(running.audit)
    audit_log.addHandler(lines)
    audit_log.setLevel(logging.INFO)
    up, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        server = HTTPServer(application(PREFIX, made, hub, running.watch))
        sockets = bind_sockets(port, "127.0.0.1")
        running.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)
        up.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    made.begin()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="broker")
    thread.start()
    try:
        assert up.wait(20)
        yield running
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
        made.close()
        audit_log.removeHandler(lines)


@contextlib.contextmanager
def as_server_of(person: str, address: str, data: Path) -> Iterator[BrokerCompute]:
    """What a user's server has, with that person's token and Jupyter's data folder ``data``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, address)
        patch.setenv(TOKEN, f"token-of-{person}")
        patch.setenv("JUPYTER_DATA_DIR", str(data))
        provider = BrokerCompute()
        try:
            yield provider
        finally:
            provider.close()
