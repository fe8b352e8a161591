"""What nobody uses stops on a hub: a VM of one's own after its idle minutes, one that a class shares after the last one's.

A real hub, its proxy, the broker as its service, real servers of two students, and real kernels on the VMs. The idle time is the
shortest that there is, and passes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support.broker import vm
from support.emulated import HERE, WHERE
from support.hub import accounts_possible, bare, cell, compute, give, homes, needs_proxy
from support.kernels import until
from support.restarted import attach
from support.school import School
from support.school import school as school_of
from support.served import Served
from support.tab import Tab

pytestmark = [needs_proxy, pytest.mark.timeout(400)]

MINUTE = 60.0

WATCHING = {"idle_check_seconds": 1.0, "idle_ignore": ["cpu", "gpu", "disk", "network"]}
"""Emulated VMs share these with whatever else this computer does."""


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = (vm("class-vm", group="vision"), vm("ada-vm", user="ada"))
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines) as running:
        if running.vm("class-vm")["user"] != "azureuser":
            pytest.skip("the broker makes accounts, which VMs that share this computer cannot have")
        running.set_timings(start=0.5, deallocate=0.5, runCommand=0.5)
        yield running


@pytest.fixture
def made(azure: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    rules = {"teachers": ["teacher"], "idle_minutes": 1, "running_per_user": 2}
    folder, vision = tmp_path_factory.mktemp("school"), {"vision": ["ada", "bob"]}
    with homes({"ada": False, "bob": False, "teacher": True}, accounts_possible()) as people:
        for person in people:
            bare(person, DSVMService=WATCHING)
        with school_of(azure, folder, people, vision, accounts=accounts_possible(), HubPolicy=rules) as one:
            for name in ("ada", "bob"):
                one.hub.spawn(name)
            yield one
            for name in ("ada", "bob"):
                one.hub.as_user(name).end_kernels()


def row(server: Served, name: str) -> dict[str, Any]:
    (found,) = [c for c in server.rest("GET", "jupyter-dsvm/computes")["computes"] if c["name"] == name]
    return dict(found)


def lines(audit: Path, **facts: Any) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in audit.read_text().splitlines()]
    return [line for line in read if all(line.get(k) == v for k, v in facts.items())]


def test_idle_vms_stop_and_notebooks_come_back(made: School, azure: Emulator):
    """Ada works on the class's VM and on her own, Bob on the class's. Then nobody does anything."""
    school, audit = made.hub, made.folder / "audit.jsonl"
    ada, bob = school.as_user("ada"), school.as_user("bob")
    for server, name in ((ada, "class-vm"), (ada, "ada-vm")):
        until(lambda server=server, name=name: row(server, name)["power_state"] == "deallocated", 20)  # type: ignore[misc]
    lesson = school.people["ada"].home / "hers"
    lesson.mkdir()
    (lesson / "table.csv").write_text("1,2\n")
    give(school.people["ada"], lesson)
    tabs: dict[str, Tab] = {}
    try:
        for key, server, name in (
            ("hers", ada, "class-vm"),
            ("his", bob, "class-vm"),
            ("her own", ada, "ada-vm"),
        ):
            kernel_id = server.open(f"{key.replace(' ', '-')}/work.ipynb")["kernel"]["id"]
            attach(server, kernel_id, compute(server, name))
            tabs[key] = Tab(server, kernel_id)
            assert cell(tabs[key], WHERE) == name
            cell(tabs["hers"], "open('made there.txt', 'w').write('by ada')")
        began = time.monotonic()

        # Her own: nobody else uses it.
        until(lambda: azure.vm("ada-vm")["power_state"] == "deallocated", 2 * MINUTE)
        assert time.monotonic() - began > 0.8 * MINUTE
        # The class's: the first of the two leaves it to the other, the last one's stop is one.
        until(lambda: azure.vm("class-vm")["power_state"] == "deallocated", 2 * MINUTE)

        until(lambda: len(lines(audit, action="stop", outcome="ok")) == 2, 30)
        stops = lines(audit, action="stop", name="class-vm", outcome="ok")
        assert [line["person"] for line in stops] in (["ada"], ["bob"])
        (left,) = lines(audit, action="leave", name="class-vm") or pytest.fail(audit.read_text())
        assert {left["person"], stops[0]["person"]} == {"ada", "bob"}
        assert [line["person"] for line in lines(audit, action="stop", name="ada-vm", outcome="ok")] == ["ada"]
        assert lines(audit, action="stop", person="the hub") == []

        first = {"ada": ada, "bob": bob}[left["person"]]
        by_others = "class-vm was stopped, since none of those who share it used it any more"
        why = dict.fromkeys(tabs, "was stopped after 1 idle minute")
        why["hers" if first is ada else "his"] = by_others
        ended = [o for o in first.rest("GET", "jupyter-dsvm/operations")["operations"] if o["kind"] == "stop"]
        (said,) = [o for o in ended if "stays on" in o["notice"]]
        assert said["state"] == "done"
        assert said["notice"].startswith("class-vm stays on: 1 other person uses it.")
        assert [o for o in ended if o["state"] == "failed"] == []

        # Files are here, and notebooks are back with a sentence, wherever they were.
        assert (lesson / "made there.txt").read_text() == "by ada"
        for key, server in (("hers", ada), ("his", bob), ("her own", ada)):
            until(lambda key=key, server=server: server.row(tabs[key].kernel_id)["compute"] == "free", 60)  # type: ignore[misc]
            done = tabs[key].run(WHERE, timeout=60)
            assert done.text.strip() == HERE
            said_first = done.outputs("stream")[0]["content"]["text"]
            assert "this notebook is back on the free tier with a new kernel" in said_first
            assert why[key] in said_first

        # And nothing is spent any more.
        teacher, hers = school.token("teacher"), school.token("ada")
        until(
            lambda: {v["power_state"] for v in made.ask(teacher, "admin/overview")[1]["vms"]} == {"deallocated"},
            60,
        )
        before = made.ask(hers, "spend")[1]["amount"]
        assert before > 0
        time.sleep(35)  # a round of the broker's watch, which counts
        assert made.ask(hers, "spend")[1]["amount"] == before
    finally:
        for tab in tabs.values():
            tab.close()
