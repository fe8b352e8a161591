"""What the extension adds to the memory of a user's server on a hub, while its notebooks run there: two users of one real
JupyterHub and its proxy, of whom one has the extension. Their servers are those of a class, with JupyterLab and Notebook.

Memory is what the server's process has for itself (USS): what one more user takes, where all share the same files on one host.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from jupyter_dsvm.emulator import Emulator
from tests.support import hub as hubs
from tests.support.restarted import attach
from tests.support.served import Served

from .bench import Bench
from .contenders import LOCAL, OURS
from .machines import processes_with
from .processes import private
from .rows import Row, times_local

REST = 12.0
"""Seconds after a start by which all that is done late is done."""
PAUSE = 2.0

MOST = times_local(1, 15, text="≤ plain + 15 MB")

ROWS = (
    Row("hub-started", "a hub's server, rested: USS", "MiB", MOST, 1),
    Row("hub-listed", "a hub's server whose page shows the machines, with a kernel: USS", "MiB", MOST, 1),
    Row("hub-returned", "a hub's server whose notebook was on a VM and is back: USS", "MiB", None, 1),
)
WHO = {"plain": LOCAL, "ours": OURS}
PAGE = ("computes", "kernels", "operations", "signin", "workspaces", "questions", "computes/free/metrics")
"""What a page asks of the extension when it is opened."""


def measure(bench: Bench) -> None:
    if not hubs.PROXY.exists():
        bench.say("   left out: JupyterHub's proxy is not there (make .stamps/proxy/done)")
        return
    with Emulator(bench.folder / "azure") as emulator, hubs.homes(dict.fromkeys(WHO, False), False) as people:
        for person in people:
            hubs.set_up(emulator, person)
            _enable(person.home / ".jupyter" / "jupyter_server_config.json", person.name == "ours")
        with hubs.Hub(bench.folder / "hub", people) as hub:
            bench.rounds(
                {"both": lambda: _round(bench, hub)},
                {"both": [(row.key, column) for row in ROWS for column in WHO.values()]},
            )


def _enable(config: Path, ours: bool) -> None:
    extensions = {"jupyter_dsvm": ours, "jupyterlab": True, "notebook": True}
    config.write_text(json.dumps({"ServerApp": {"jpserver_extensions": extensions, "allow_root": True}}))


def _round(bench: Bench, hub: hubs.Hub) -> None:
    servers = {name: hub.spawn(name) for name in WHO}
    try:
        time.sleep(bench.size(int(REST), 1))
        _add(bench, "hub-started")
        kernels = {name: _page(server) for name, server in servers.items()}
        for path in PAGE:
            servers["ours"].rest("GET", f"jupyter-dsvm/{path}")
        time.sleep(bench.size(int(PAUSE), 0))
        _add(bench, "hub-listed")
        for compute in (hubs.compute(servers["ours"], "cpu-vm"), "free"):
            attach(servers["ours"], kernels["ours"], compute)
        time.sleep(bench.size(int(PAUSE), 0))
        _add(bench, "hub-returned")
    finally:
        for name, server in servers.items():
            server.end_kernels()
            hub.cull(name)


def _page(server: Served) -> str:
    """A page is opened, and a notebook; the kernel's id."""
    for path in ("api/kernelspecs", "api/contents", "lab/api/settings", "lab"):
        server.rest("GET", path)
    return str(server.open("nb.ipynb")["kernel"]["id"])


def _add(bench: Bench, row: str) -> None:
    for name, column in WHO.items():
        (pid,) = (
            pid for pid, line in processes_with(f"JUPYTERHUB_USER={name}").items() if "jupyterhub.singleuser" in line
        )
        bench.results.add(row, column, private(pid))
