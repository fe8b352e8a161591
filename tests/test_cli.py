"""``jupyter dsvm`` as a command, against the emulator: what it prints, where, and with which exit status."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator

COMMAND = [sys.executable, "-m", "jupyter_dsvm"]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    machines = [m for m in STANDARD if m.name in ("cpu-vm", "gpu-vm", "web-server")]
    with Emulator(tmp_path_factory.mktemp("azure"), machines=machines, isolate=False) as running:
        yield running


class Terminal:
    def __init__(self, config_dir: Path, home: Path) -> None:
        self.env = {**os.environ, "JUPYTER_CONFIG_DIR": str(config_dir), "HOME": str(home)}
        self.env["JUPYTER_DATA_DIR"] = str(home / "data")

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=110, env=self.env)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", status=status)[0])


@pytest.fixture
def terminal(emulator: Emulator, tmp_path: Path) -> Terminal:
    return Terminal(emulator.config_dir, tmp_path)


def test_list(terminal: Terminal):
    said, _ = terminal.run("list")
    assert re.search(r"^\s+gpu-vm\s+off\s", said, re.M)
    assert "web-server" not in said  # it is no DSVM
    listing = terminal.json("list")
    assert {c["name"]: c["power_state"] for c in listing["computes"]}["cpu-vm"] == "running"
    assert listing["problems"] == []


def test_start_and_stop_wait_until_it_is_done(terminal: Terminal, emulator: Emulator):
    out, err = terminal.run("start", "gpu-vm")
    assert emulator.vm("gpu-vm")["power_state"] == "running"
    assert out == ""  # only data goes there
    said = [
        "Looking at gpu-vm",
        "Asking Azure to start gpu-vm",
        "Azure is starting gpu-vm",
        "gpu-vm boots",
        "gpu-vm runs.",
    ]
    assert err.splitlines() == said
    assert err.rstrip().endswith("gpu-vm runs.")
    assert terminal.json("stop", "gpu-vm")["power_state"] == "deallocated"
    assert emulator.vm("gpu-vm")["power_state"] == "deallocated"
    assert terminal.json("restart", "cpu-vm")["power_state"] == "running"


def test_keep_on_and_autostop(terminal: Terminal, emulator: Emulator):
    assert terminal.run("keep", "cpu-vm", "2") == ("", "cpu-vm is kept on for 2 h.\n")
    # For the servers of others: a lease on the VM itself, whose /tmp is this computer's here.
    data = Path(emulator.vm("cpu-vm")["home"]) / ".local/share/jupyter-dsvm"
    short = Path(
        f"/tmp/jupyter-dsvm-{os.getuid()}-{hashlib.sha256(os.fsencode(data / 'kernels')).hexdigest()[:8]}-leases"
    )
    leases = next(folder for folder in (data / "leases", short) if folder.is_dir())
    (lease,) = leases.glob("*[0-9a-f]")
    assert json.loads(lease.read_text())["why"] == "Keep on 2 h"
    assert terminal.run("keep", "cpu-vm", "0")[1].startswith("cpu-vm is not kept on any more.")
    assert not lease.exists()
    shutil.rmtree(leases)
    said = terminal.run("autostop", "cpu-vm", "45", "--hard", "8")[1]
    assert said == (
        "cpu-vm is stopped after 45 idle minutes. 8 hours after its start it is stopped whatever runs there.\n"
    )
    assert terminal.run("autostop", "cpu-vm", "off", "--hard", "off")[1] == "cpu-vm is not stopped for being idle.\n"
    assert "It is a number, or off." in terminal.run("autostop", "cpu-vm", "soon", status=1)[1]
    assert "gpu-vm is off" in terminal.run("keep", "gpu-vm", status=1)[1]
    assert "no VM that could be stopped" in terminal.run("keep", "free", status=1)[1]


def test_what_fails_is_one_sentence_and_an_exit_status(terminal: Terminal, emulator: Emulator):
    out, err = terminal.run("start", "gpuvm", status=1)
    assert out == ""
    assert err.strip() == "jupyter dsvm: There is no compute called 'gpuvm'. Did you mean gpu-vm or cpu-vm?"
    emulator.fault("gpu-vm", "start", code="AllocationFailed", at="request")
    assert "AllocationFailed" in terminal.run("start", "gpu-vm", status=1)[1]
    assert "cannot be stopped" in terminal.run("stop", "free", status=1)[1]
    assert "usage" in terminal.run("explode", status=2)[1]
    assert "usage" in terminal.run(status=2)[1]


def test_sizes_and_resize(terminal: Terminal, emulator: Emulator):
    out, err = terminal.run("sizes", "cpu-vm")
    assert re.search(r"^\*\s+Standard_D4ds_v5\s+4\s+16\s", out, re.M)
    assert re.search(r"Standard_NC4as_T4_v3\s+4\s+28\s+1 × NVIDIA T4 16 GB\s+~\$0.66/h", out)
    assert "Standard_D4ps_v5" not in out
    assert "more sizes of the region are not possible; --all shows them" in out
    assert "is released, changed and started again" in err
    assert re.search(
        r"^-\s+Standard_D4ps_v5 .*Not possible: .*Arm64", terminal.run("sizes", "cpu-vm", "--all")[0], re.M
    )
    listed = terminal.json("sizes", "cpu-vm")
    assert set(listed) == {"sizes", "notice"}
    assert {s["size"]["name"] for s in listed["sizes"] if s["current"]} == {"Standard_D4ds_v5"}
    off = terminal.json("resize", "gpu-vm", "d8ds_v5")
    assert (off["size"]["name"], off["power_state"]) == ("Standard_D8ds_v5", "deallocated")
    out, err = terminal.run("resize", "gpu-vm", "nc4as_t4_v3")
    assert out == ""
    assert "Azure is resizing gpu-vm" in err
    assert err.rstrip().endswith("gpu-vm has the size Standard_NC4as_T4_v3 (4 CPU · 28 GB · 1 × T4) and is off.")
    assert "Arm64" in terminal.run("resize", "gpu-vm", "D4ps_v5", status=1)[1]
    assert "Did you mean" in terminal.run("resize", "gpu-vm", "NC4as_T4_v4", status=1)[1]
    assert "cannot be resized" in terminal.run("sizes", "free", status=1)[1]


def test_ctrl_c_gives_up_waiting(terminal: Terminal, emulator: Emulator):
    emulator.set_timings(start=30.0)
    try:
        process = subprocess.Popen(
            [*COMMAND, "start", "gpu-vm"], env=terminal.env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        while "Azure is starting gpu-vm" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "may still happen" in err
        assert (
            "Azure goes on starting it, and it is billed while it runs. `jupyter dsvm stop gpu-vm` (in a notebook"
            in err
        )
        assert "Traceback" not in err
    finally:
        emulator.set_timings(start=0.3)
        emulator.clear_faults()


def test_kernelspecs_of_a_machine(terminal: Terminal, emulator: Emulator):
    (made,) = terminal.json("kernelspec", "install", "cpu-vm", "--kernel", "python3")
    assert made["name"] == "dsvm-cpu-vm-python3"
    assert made["display_name"] == "Python 3 (DSVM) on cpu-vm"
    spec = json.loads(Path(made["path"], "kernel.json").read_text())
    config = spec["metadata"]["kernel_provisioner"]["config"]
    assert config["kernelspec"] == "python3"
    assert config["compute"].startswith("azure:")
    assert spec["language"] == "python"
    assert (
        "no kernel named 'julia'" in terminal.run("kernelspec", "install", "cpu-vm", "--kernel", "julia", status=1)[1]
    )
    assert "Start it" in terminal.run("kernelspec", "install", "gpu-vm", status=1)[1]


def test_doctor(terminal: Terminal, emulator: Emulator):
    findings = {
        f["what"]: f
        for f in json.loads(
            subprocess.run(
                [*COMMAND, "doctor", "--json"], capture_output=True, text=True, timeout=110, env=terminal.env
            ).stdout
        )
    }
    assert findings["Kernels"]["ok"]
    assert findings["Computes"]["ok"]
    assert "2 Data Science VMs" in findings["Computes"]["message"]
    assert findings["SSH to cpu-vm"]["message"].startswith("SSH-2.0-")
    assert "SSH to gpu-vm" not in findings  # it is off
    emulator.kill_ssh("cpu-vm")
    try:
        out, _ = terminal.run("doctor", status=1)
        assert "✗ SSH to cpu-vm: No answer" in out
        assert "network security group" in out
    finally:
        emulator.start_ssh("cpu-vm")


def test_doctor_without_anything_says_what_to_do(tmp_path: Path):
    terminal = Terminal(tmp_path / "config", tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_dsvm_config.py").write_text("c.DSVMService.kernel_may_start = 1 /")
    out, _ = terminal.run("doctor", status=1)
    assert "✗ Configuration: The configuration jupyter_dsvm_config cannot be read: SyntaxError" in out
    assert "SyntaxError" in terminal.run("list", status=1)[1]


@pytest.mark.timeout(300)
def test_demo_serves_the_sample_notebook_until_it_is_told_to_end(tmp_path: Path, emulator: Emulator):
    pytest.importorskip("sklearn", reason="the demo's own dependency")
    env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--dir", str(tmp_path / "demo"), "--port", "9780"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=env,
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://\S+/lab/tree/digits\.ipynb\?token=\S+", address), log.read_text()
        base, token = address.split("lab/tree/")[0], address.split("token=")[1]
        request = urllib.request.Request(f"{base}jupyter-dsvm/computes", headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            names = {c["name"] for c in json.loads(answer.read())["computes"]}
        assert {"Free tier", "cpu-vm", "gpu-vm", "old-vm", "win-vm"} <= names
        assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()
    assert process.returncode == 0, log.read_text()
