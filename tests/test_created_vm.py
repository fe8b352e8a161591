"""``jupyter dsvm create`` from end to end: a VM is made, our key opens it, and a kernel runs there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import jupyter_data_dir

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.emulator.machines import RESEARCH
from support.creating import everything
from support.emulated import attached, configured, emulator, settings, where, writes
from support.kernels import Notebook

__all__ = ["configured", "emulator"]

COMMAND = [sys.executable, "-m", "jupyter_dsvm", "create"]
WANTED = ["--size", "Standard_D2ds_v5", "--location", "westeurope", "--subscription", "Research"]
OURS = ["--from", "203.0.113.7"]


@pytest.fixture
def azure(configured: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Configured without a key: ours has to do, which is made in a folder of this test's own."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    settings(
        configured, Path(os.environ["JUPYTER_CONFIG_DIR"]), AzureCompute={"ssh_key_file": "", "polling_interval": 0.2}
    )
    yield configured
    configured.clear_faults()
    configured.set_scenario(quotas=[])
    configured.set_timings(create=0.2)
    path = f"/subscriptions/{RESEARCH.id}/resourcegroups/jupyter-dsvm?api-version=2021-04-01"
    configured.request("DELETE", path)
    while configured.request("GET", path)[0] == 200:
        time.sleep(0.05)


def run(*words: str, status: int = 0, answer: str | None = None) -> tuple[str, str]:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=110, input=answer)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_made_reached_and_used(azure: Emulator):
    out, err = run("fresh-vm", *WANTED, *OURS, "--disk", "200", "--yes", "--json")
    row: dict[str, Any] = json.loads(out)
    assert (row["name"], row["power_state"], row["resource_group"]) == ("fresh-vm", "running", "jupyter-dsvm")
    assert "~$0.14/h (an estimate)" in err
    assert "SSH port is open to 203.0.113.7 alone" in err
    assert "the VM (5 of 5)" in err
    assert "Its disk, and its public address if it has one, cost extra" in err

    vm = azure.vm("fresh-vm")
    key = Path(jupyter_data_dir()) / "jupyter-dsvm" / "id_ed25519"
    ssh = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(key),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-p",
        str(vm["port"]),
    ]
    ssh += ["-o", f"UserKnownHostsFile={azure.config_dir / 'host_keys'}", "-o", f"HostKeyAlias={vm['vm_id']}"]
    done = subprocess.run([*ssh, f"{vm['user']}@{vm['host']}", "hostname"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "fresh-vm", done.stderr
    # The emulator's own key, which opens the VMs of the beginning, is not on it.
    ssh[ssh.index(str(key))] = str(azure.key_file)
    assert (
        subprocess.run([*ssh, f"{vm['user']}@{vm['host']}", "true"], capture_output=True, timeout=60).returncode == 255
    )

    with Notebook() as notebook:
        attached(notebook, "fresh-vm")
        assert where(notebook) == "fresh-vm"


def test_it_asks_before_it_makes_anything(azure: Emulator):
    before, there = len(azure.traffic), everything(azure)
    _, err = run("fresh-vm", *WANTED, *OURS, status=1, answer="")
    assert "Add --yes" in err  # nobody is at the terminal
    assert writes(azure, before) == []
    assert everything(azure) == there


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fresh-vm", *WANTED], "--from ADDRESS"),
        (["fresh-vm", *WANTED, "--from", "0.0.0.0/0"], "whole internet"),
        (["fresh_vm", *WANTED, *OURS], "letters, digits and hyphens"),
        (["cpu-vm", *WANTED, *OURS, "--group", "notebooks"], "There is a VM cpu-vm"),
        (["fresh-vm", "--size", "Standard_D2ds_v5", "--location", "westeurope", *OURS], "--subscription"),
        (
            ["fresh-vm", "--size", "Standard_X1", "--location", "westeurope", "--subscription", "Research", *OURS],
            "no size",
        ),
        (
            ["fresh-vm", "--size", "Standard_D2ds_v5", "--location", "moon", "--subscription", "Research", *OURS],
            "no region",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(words: list[str], says: str, azure: Emulator):
    before = len(azure.traffic)
    out, err = run(*words, "--yes", status=1)
    assert says in err
    assert out == ""
    assert writes(azure, before) == []


def test_a_quota_is_said_with_numbers(azure: Emulator):
    azure.set_scenario(quotas=[{"family": "standardDDSv5Family", "limit": 5}])
    before = len(azure.traffic)
    _, err = run("fresh-vm", *WANTED, *OURS, "--yes", status=1)
    assert "4 of 5 are in use, 2 more are needed" in err
    assert "aka.ms" in err
    assert writes(azure, before) == []


def test_what_fails_halfway_leaves_nothing(azure: Emulator):
    there = everything(azure)
    azure.fault("*", "vm", at="operation", code="AllocationFailed")
    _, err = run("fresh-vm", *WANTED, *OURS, "--yes", status=1)
    assert "no capacity" in err
    assert "What had been made was deleted again." in err
    assert everything(azure) == there


def test_an_interrupt_takes_it_back(azure: Emulator):
    there = everything(azure)
    azure.set_timings(create=3.0)
    process = subprocess.Popen(
        [*COMMAND, "fresh-vm", *WANTED, *OURS, "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said = []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if "the VM (5 of 5)" in line:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(said) + rest
    assert "Cancelling; what was made is being deleted again." in rest
    assert "fresh-vm was not made" in rest
    assert everything(azure) == there
