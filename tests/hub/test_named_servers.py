"""Two servers of one user, with one home folder: on one VM they share neither kernels nor folders, and each adopts its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.emulated import WHERE
from support.hub import Hub, cell, compute, give, needs_proxy
from support.kernels import until
from support.restarted import attach
from support.tab import Tab

pytestmark = [needs_proxy, pytest.mark.timeout(300)]

LISTED = "import json, os; print(json.dumps([os.getcwd(), sorted(os.listdir('.'))]))"


def test_what_one_server_left_is_for_the_next_of_its_name(hub: Hub, kernels: None):
    work = hub.people["ada"].home / "work"
    work.mkdir()
    (work / "table.csv").write_text("1,2\n")
    give(hub.people["ada"], work)
    default, second = hub.as_user("ada"), hub.spawn("ada", "second")
    sessions, tabs = {}, {}
    try:
        for name, server in (("default", default), ("second", second)):
            sessions[name] = server.open(f"work/{name}.ipynb")
            kernel_id = sessions[name]["kernel"]["id"]
            attach(server, kernel_id, compute(server, "cpu-vm"))
            tabs[name] = Tab(server, kernel_id)
            assert cell(tabs[name], WHERE) == "cpu-vm"
        # Each lists its own kernel, and no other.
        for name, server in (("default", default), ("second", second)):
            (row,) = server.rest("GET", "jupyter-dsvm/kernels")["kernels"]
            assert (row["id"], row["path"]) == (sessions[name]["kernel"]["id"], f"work/{name}.ipynb")
        # Their folders there are two; what each makes comes here, where they have one.
        folders = {}
        for name, tab in tabs.items():
            folder, names = json.loads(cell(tab, f"open('{name}.txt', 'w').write('{name}')\n{LISTED}"))
            folders[name] = folder
            assert "table.csv" in names
            assert f"{name}.txt" in names
            assert Path(folder).name.startswith("work-")
        assert folders["default"] != folders["second"]
        until(lambda: (work / "default.txt").exists() and (work / "second.txt").exists(), 30)
        assert (work / "default.txt").read_text() == "default"
        # One is culled; another of her servers leaves its kernel alone, and the next of its name goes on with it.
        cell(tabs["second"], "x = 41")
        hub.cull("ada", "second")
        tabs.pop("second").cut()
        third = hub.spawn("ada", "third")
        assert third.rest("GET", "api/kernels") == []
        assert third.rest("GET", "api/sessions") == []
        hub.cull("ada", "third")
        second = hub.spawn("ada", "second")
        (found,) = second.rest("GET", "api/sessions")
        assert (found["path"], found["kernel"]["id"]) == ("work/second.ipynb", sessions["second"]["kernel"]["id"])
        tabs["second"] = Tab(second, found["kernel"]["id"])
        assert cell(tabs["second"], "print(x + 1)") == "42"
        assert json.loads(cell(tabs["second"], LISTED))[0] == folders["second"]
        assert cell(tabs["default"], WHERE) == "cpu-vm"
    finally:
        for tab in tabs.values():
            tab.close()
        for name in ("second", "third"):
            if hub.state("ada", name).get("ready"):
                hub.as_user("ada", server=name).end_kernels()
                hub.cull("ada", name)
