"""What the extension adds to the memory of a user's server on a hub, while its notebooks run there: three users of one real
JupyterHub and its proxy, of whom one has no extension, one has it with the emulated Azure, and one with the hub's broker. Their
servers are those of a class, with JupyterLab and Notebook.

Memory is what the server's process has for itself (USS): what one more user takes, where all share the same files on one host.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from jupyter_dsvm.emulator import Emulator
from tests.support import hub as hubs
from tests.support.broker import vm
from tests.support.restarted import attach
from tests.support.school import school
from tests.support.served import Served

from .bench import Bench
from .contenders import LOCAL, OURS
from .machines import processes_with
from .processes import private
from .rows import Row, times_local

REST = 12.0
"""Seconds after a start by which all that is done late is done."""
PAUSE = 3.0

MOST = times_local(1, 15, text="≤ plain + 15 MB")
COLUMNS = (LOCAL, OURS)
STATES = {
    "started": "rested",
    "listed": "a page shows the machines, a kernel runs here",
    "returned": "that notebook was on a VM and is back",
}
WHO = {"azure": "own sign-in", "class": "with a broker"}
"""Users with the extension."""

ROWS = tuple(
    Row(f"{who}-{state}", f"a hub's server, {how}: {text}: USS", "MiB", MOST, 1, COLUMNS)
    for who, how in WHO.items()
    for state, text in STATES.items()
)
PAGE = ("computes", "kernels", "operations", "signin", "workspaces", "questions", "computes/free/metrics")
"""What a page asks of the extension when it is opened."""
MACHINE = "class-vm"


def measure(bench: Bench) -> None:
    if not hubs.PROXY.exists():
        bench.say("   left out: JupyterHub's proxy is not there (make .stamps/proxy/done)")
        return
    machines = (vm(MACHINE, power="running", group="vision"),)
    with (
        Emulator(bench.folder / "azure", machines=machines) as emulator,
        hubs.homes(dict.fromkeys(("plain", *WHO), False), False) as people,
    ):
        for person in people:
            if person.name == "azure":
                hubs.set_up(emulator, person, DSVMService={"compute_providers": ["free", "azure", "hosts"]})
            else:
                hubs.bare(person)
            _enable(person.home / ".jupyter" / "jupyter_server_config.json", person.name in WHO)
        folder = bench.folder / "school"
        folder.mkdir()
        with school(emulator, folder, people, {"vision": ["class"]}) as one:
            bench.rounds(
                {"all": lambda: _round(bench, one.hub)},
                {"all": [(row.key, column) for row in ROWS for column in COLUMNS]},
            )


def _enable(config: Path, ours: bool) -> None:
    extensions = {"jupyter_dsvm": ours, "jupyterlab": True, "notebook": True}
    config.write_text(json.dumps({"ServerApp": {"jpserver_extensions": extensions, "allow_root": True}}))


def _round(bench: Bench, hub: hubs.Hub) -> None:
    servers = {name: hub.spawn(name) for name in ("plain", *WHO)}
    try:
        time.sleep(bench.size(int(REST), 1))
        _add(bench, "started")
        kernels = {name: _page(server) for name, server in servers.items()}
        for who in WHO:
            for path in PAGE:
                servers[who].rest("GET", f"jupyter-dsvm/{path}")
        time.sleep(bench.size(int(PAUSE), 0))
        _add(bench, "listed")
        for who in WHO:
            for compute in (hubs.compute(servers[who], MACHINE), "free"):
                attach(servers[who], kernels[who], compute)
        time.sleep(bench.size(int(PAUSE), 0))
        _add(bench, "returned")
    finally:
        for name, server in servers.items():
            server.end_kernels()
            hub.cull(name)


def _page(server: Served) -> str:
    """A page is opened, and a notebook; the kernel's id."""
    for path in ("api/kernelspecs", "api/contents", "lab/api/settings", "lab"):
        server.rest("GET", path)
    return str(server.open("nb.ipynb")["kernel"]["id"])


def _add(bench: Bench, state: str) -> None:
    taken = {}
    for name in ("plain", *WHO):
        (pid,) = (
            pid for pid, line in processes_with(f"JUPYTERHUB_USER={name}").items() if "jupyterhub.singleuser" in line
        )
        taken[name] = private(pid)
    for who in WHO:
        bench.results.add(f"{who}-{state}", LOCAL, taken["plain"])
        bench.results.add(f"{who}-{state}", OURS, taken[who])
