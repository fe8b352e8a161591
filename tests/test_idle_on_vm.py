"""What keeps an emulated VM on, asked over its real SSH connection: a silent cell, a person, nothing; leases of two servers."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.idlepolicy import Reading, Settings, State, Watched
from support.emulated import attached, configured, emulator, service
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]

LOAD = {"cpu", "disk", "network"}
"""Of the whole computer, on which other tests may run."""


def asked(operation: str, **arguments: Any) -> Any:
    compute = service().known.find("cpu-vm").id
    future = service().connections.ask(compute, operation, **arguments)
    assert future is not None
    return future.result(30)


def kinds() -> set[str]:
    return {one["kind"] for one in asked("activity")["busy"]} - LOAD


def test_a_silent_cell_keeps_it_on_and_an_idle_kernel_does_not(configured: Emulator, notebook: Notebook) -> None:
    attached(notebook, "cpu-vm")
    until(lambda: kinds() == set(), 20)
    cell = notebook.send("import time\nwhile True: time.sleep(1)")
    until(lambda: kinds() == {"kernel"}, 20)
    # As the server would: the policy hears what the VM says, with the load of this computer left out.
    seen = asked("activity")
    words = [one["text"] for one in seen["busy"] if one["kind"] not in LOAD]
    watched = Watched().seen(Reading(0.0, up=seen["up"], boot=seen["boot"], busy=words))
    assert watched.decide(Settings(started_by_us=True), 1.0).text == "In use: a cell runs."
    notebook.km.interrupt_kernel()
    notebook.wait(cell)
    until(lambda: kinds() == set(), 20)
    watched = watched.seen(Reading(60.0, up=seen["up"] + 60.0, boot=seen["boot"]))
    assert watched.decide(Settings(started_by_us=True), 60.0).state is State.IDLE
    # Somebody copies something, with a connection of their own.
    row = configured.vm("cpu-vm")
    way = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(configured.key_file),
        "-p",
        str(row["port"]),
        "-o",
        "StrictHostKeyChecking=no",
    ]
    way += ["-o", f"UserKnownHostsFile={os.devnull}", f"{row['user']}@{row['host']}", "sleep 300"]
    with subprocess.Popen(way, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as stranger:
        try:
            until(lambda: kinds() == {"connection"}, 20)
        finally:
            stranger.kill()
    until(lambda: kinds() == set(), 20)
    # Two servers of one account, over the same connection here.
    assert [one["holder"] for one in asked("keep", holder="server-b", seconds=600, why="Keep on 1 h")] == ["server-b"]
    assert [one["why"] for one in asked("claim", holder="server-a", seconds=60)] == ["Keep on 1 h"]
    assert [one["holder"] for one in asked("activity")["leases"]] == ["server-b"]
    assert asked("keep", holder="server-b", seconds=0) == []
    assert asked("claim", holder="server-a", seconds=60) == []
