"""A kernel on a VM outlives the user's server where a hub culls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_dsvm.emulator import Emulator
from support.hub import Hub, cell, compute, needs_proxy
from support.kernels import until
from support.restarted import attach, counting, lines, numbers
from support.tab import Tab

pytestmark = needs_proxy

PATIENCE = 60.0
ADA = "ada"
COUNT = 120


@pytest.mark.timeout(300)  # a server stops and comes up again
def test_a_kernel_survives_a_cull_with_the_same_id(hub: Hub, emulator: Emulator, kernels: None) -> None:
    server = hub.as_user(ADA)
    session = server.open("count.ipynb")
    kernel_id = session["kernel"]["id"]
    machine = compute(server, "cpu-vm")
    attach(server, kernel_id, machine)
    with Tab(server, kernel_id) as tab:
        there = Path(cell(tab, "import os; said = os.path.abspath('said.txt'); print(said)"))
        disk = Path(emulator.vm("cpu-vm")["disk"]).joinpath(*there.parts[1:])
        said = disk if disk.parent.exists() else there  # where the VM has a file system of its own
        tab.run("x = 41")
        cells = [tab.send(counting(COUNT, 0.1, there)), tab.send("print(x + 1)")]
        tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 5)
        hub.cull(ADA)
        tab.cut()
        before = lines(said)
        until(lambda: lines(said) > before)
        hub.spawn(ADA)
        (found,) = server.rest("GET", "api/sessions")
        assert (found["id"], found["path"], found["kernel"]["id"]) == (session["id"], "count.ipynb", kernel_id)
        tab.connect()
        counted, after = tab.wait(*cells, timeout=PATIENCE)
        assert counted.text == numbers(COUNT) == said.read_text()
        assert after.text == "42\n"
        row = server.row(kernel_id)
        assert (row["compute"], row["link"]["state"], row["path"]) == (machine, "connected", "count.ipynb")
    server.rest("DELETE", f"api/sessions/{session['id']}", status=204)
    kept = hub.people[ADA].data / "jupyter-dsvm" / "kernels"
    until(lambda: not list(kept.glob("*/kernel.json")))
