"""The Azure role that is published for a hub's broker has what a broker asks of Azure, and no more."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.hub.policy import Person
from support.broker import FakeHub, broker, vm
from support.kernels import until

ROLE = json.loads((resources.files("jupyter_dsvm") / "hub" / "azure-role.json").read_text())

PUBLIC = re.compile(r"/retail/prices|/providers/Microsoft\.ResourceGraph/resources|^/subscriptions(/[^/]+)?$")
"""What needs no action of a role: prices, the graph (which shows what may be read), and the subscriptions that one has."""


def action(method: str, url: str) -> str:
    """The action that Azure wants for a request, by its rules: TYPE/read, TYPE/write, TYPE/ACTION/action."""
    path = url.partition("?")[0]
    provider, _, rest = path.rpartition("/providers/")[2].partition("/")
    parts = rest.split("/")
    if "/providers/" not in path:
        provider, parts = "Microsoft.Resources", path.strip("/").split("/")
    if method == "POST":
        *named, verb = parts
        return f"{provider}/{'/'.join(named[::2])}/{verb}/action"
    verb = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}[method]
    return f"{provider}/{'/'.join(parts[::2])}/{verb}"


def test_what_an_action_is():
    vm_path = "/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/V"
    assert action("POST", f"{vm_path}/start?api-version=1") == "Microsoft.Compute/virtualMachines/start/action"
    assert action("GET", f"{vm_path}/instanceView") == "Microsoft.Compute/virtualMachines/instanceView/read"
    assert action("GET", "/subscriptions/S/providers/Microsoft.Compute/locations/L/operations/O").endswith(
        "locations/operations/read"
    )


def test_the_role_is_what_a_broker_asks_for(tmp_path: Path):
    with Emulator(tmp_path / "azure", machines=(vm("class-vm", group="vision"),)) as emulator:
        emulator.set_timings(start=0.2, deallocate=0.2, restart=0.2, runCommand=0.2)
        ada = Person("ada", frozenset({"vision"}))
        with broker(emulator, tmp_path / "broker", FakeHub(ada)) as running:
            shared = running.rows("ada")["class-vm"]["id"]
            for verb in ("start", "access", "restart"):
                if verb != "access" or not can_isolate():
                    done = running.ended("ada", running.ask("ada", "POST", f"computes/{shared}/{verb}")[1])
                    assert done["state"] == "done", done
            assert running.ask("ada", "GET", f"computes/{shared}/sizes")[0] == 200
            running.watch.tick()
            assert running.ended("ada", running.ask("ada", "POST", f"computes/{shared}/stop")[1])["state"] == "done"
            until(lambda: not running.broker.operations.running())
        asked = {(e["request"]["method"], e["request"]["url"]) for e in emulator.traffic}
    needed = {
        action(method, url).lower()
        for method, url in asked
        if url.startswith("/subscriptions") and not PUBLIC.search(url.partition("?")[0])
    }
    allowed = {one.lower() for one in ROLE["Actions"]}
    assert needed <= allowed, sorted(needed - allowed)
    # Of what is not asked for here each has its reason: the address of a VM with a public one, lists where the graph is refused.
    assert {one.split("/")[0] for one in allowed} <= {
        "microsoft.compute",
        "microsoft.network",
        "microsoft.devtestlab",
        "microsoft.resources",
    }
    assert not any("*" in one or one.endswith("/delete") for one in allowed)
    writes = {one for one in allowed if one.endswith("/write")}
    assert writes == {"microsoft.devtestlab/schedules/write"}, "no VM can be made or changed with it"
