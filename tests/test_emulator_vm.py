"""The emulated VMs: real SSH servers with disks, accounts and processes of their own, and nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator, EmulatorError
from jupyter_dsvm.emulator.network import can_isolate

REASON = can_isolate()
isolated_only = pytest.mark.skipif(bool(REASON), reason=f"VMs cannot be isolated here: {REASON}")
BARE = [dataclasses.replace(m, requirements=(), kernelspecs=()) for m in STANDARD]
"""The standard VMs without Python environments: quick to make."""
QUICK_START = {"start": 0.1, "deallocate": 0.1, "restart": 0.1, "powerOff": 0.1, "patch": 0.1, "retry_after": 0}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), timings=QUICK_START) as running:
        yield running


@pytest.fixture
def gpu(emulator: Emulator) -> Iterator[dict[str, Any]]:
    yield emulator.power("gpu-vm", "start")
    emulator.restore_host_key("gpu-vm")
    emulator.power("gpu-vm", "deallocate")


def ssh(
    emulator: Emulator, name: str, command: str, *, user: str | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """OpenSSH's client, trusting nothing but the pinned key of this VM."""
    row = emulator.vm(name)
    options = {
        "UserKnownHostsFile": emulator.config_dir / "host_keys",
        "HostKeyAlias": row["vm_id"],
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "5",
    }
    argv = ["ssh", "-F", "none", "-i", str(emulator.key_file), "-p", str(row["port"])]
    argv += [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    argv += [f"{user or row['user']}@{row['host']}", command]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=40)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def mentioning(text: str) -> list[str]:
    """Command lines of all processes of this computer that hold ``text``, this one's relatives left out."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (os.getpid(), os.getppid()):
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def links(vms: list[dict[str, Any]]) -> set[str]:
    """The interfaces of this computer that lead to VMs with a network of their own. Other tests may have some beside them."""
    hosts = [vm["host"] for vm in vms if vm["host"] and not vm["host"].startswith("127.")]
    routes = [
        subprocess.run(["ip", "-j", "route", "get", h], capture_output=True, text=True, check=True) for h in hosts
    ]
    found = {json.loads(route.stdout)[0]["dev"] for route in routes}
    return {name for name in found if name.startswith("jdsvm")}  # one that is off has an address, and no link


def present(names: set[str]) -> set[str]:
    return names & set(os.listdir("/sys/class/net"))


DAEMON = "setsid nohup sh -c 'sleep 4321 & exec sleep 4321' >/dev/null 2>&1 & echo started"


def sleepers(emulator: Emulator, name: str) -> list[int]:
    return [p["pid"] for p in emulator.processes(name) if p["argv"] == ["sleep", "4321"]]


# -- the machine --------------------------------------------------------------------------------------------------------


def test_disk_survives_and_processes_do_not(emulator: Emulator, gpu: dict[str, Any]) -> None:
    nonce = secrets.token_hex(16)
    (Path(gpu["home"]) / "nonce").write_text(nonce + "\n")
    assert said(ssh(emulator, "gpu-vm", "cat ~/nonce; echo more > ~/notebooks/made-there")) == nonce
    assert said(ssh(emulator, "gpu-vm", DAEMON)) == "started"
    assert until(lambda: len(sleepers(emulator, "gpu-vm")) == 2)
    pids = sleepers(emulator, "gpu-vm")
    off = emulator.power("gpu-vm", "deallocate")
    assert off["host"] is None
    assert not any(alive(pid) for pid in [*pids, gpu["pid"]])
    again = emulator.power("gpu-vm", "start")
    assert again["host"] != gpu["host"]
    assert said(ssh(emulator, "gpu-vm", "cat ~/nonce ~/notebooks/made-there")).split() == [nonce, "more"]
    assert sleepers(emulator, "gpu-vm") == []


def test_restart_ends_processes_and_keeps_the_address(emulator: Emulator, gpu: dict[str, Any]) -> None:
    said(ssh(emulator, "gpu-vm", DAEMON))
    assert until(lambda: len(sleepers(emulator, "gpu-vm")) == 2)
    again = emulator.power("gpu-vm", "restart")
    assert again["host"] == gpu["host"]
    assert sleepers(emulator, "gpu-vm") == []
    assert said(ssh(emulator, "gpu-vm", "echo back")) == "back"


ON_TEMPORARY_DISK = 'cd "${JUPYTER_DSVM_TEMPORARY_DISK:-/mnt}" && '


def check_temporary_disk(emulator: Emulator, name: str) -> None:
    """A restart keeps it, a deallocation does not."""
    warning = "DATALOSS_WARNING_README.txt"
    assert said(ssh(emulator, name, f"{ON_TEMPORARY_DISK} ls")) == warning
    said(ssh(emulator, name, f"{ON_TEMPORARY_DISK} mkdir folder && touch folder/file"))
    emulator.power(name, "restart")
    assert said(ssh(emulator, name, f"{ON_TEMPORARY_DISK} ls")).split() == [warning, "folder"]
    emulator.power(name, "deallocate")
    emulator.power(name, "start")
    assert said(ssh(emulator, name, f"{ON_TEMPORARY_DISK} ls")) == warning


def test_what_is_on_the_temporary_disk_is_gone_with_the_hardware(emulator: Emulator, gpu: dict[str, Any]) -> None:
    check_temporary_disk(emulator, "gpu-vm")


def test_a_size_without_a_temporary_disk(tmp_path: Path) -> None:
    machine = dataclasses.replace(BARE[0], size="Standard_D4s_v5")
    with Emulator(tmp_path / "azure", machines=[machine], timings=QUICK_START) as emulator:
        assert said(ssh(emulator, machine.name, 'grep -c " /mnt " /proc/self/mountinfo || true')) == "0"
        assert said(ssh(emulator, machine.name, 'echo "[$JUPYTER_DSVM_TEMPORARY_DISK]"')) == "[]"


def test_python_of_its_own(emulator: Emulator, gpu: dict[str, Any]) -> None:
    probe = "import sklearn, ipykernel, ipywidgets, debugpy, zmq, sys, json; print(json.dumps([sys.prefix, sys.path]))"
    prefix, path = json.loads(said(ssh(emulator, "gpu-vm", f"bash -lc \"python3 -c '{probe}'\"")))
    assert prefix != sys.prefix
    assert not any(folder.startswith(sys.prefix) for folder in path)
    listed = json.loads(said(ssh(emulator, "gpu-vm", "bash -lc 'jupyter kernelspec list --json'")))["kernelspecs"]
    assert listed["python3"]["spec"]["display_name"] == "Python 3 (DSVM)"
    other = listed["azureml_py310"]["spec"]["argv"][0]
    assert not other.startswith(prefix + "/")
    assert said(ssh(emulator, "gpu-vm", f"{other} -c 'import ipykernel, sys; print(sys.prefix)'")) in other


def test_second_build_of_an_environment_is_skipped(emulator: Emulator, tmp_path: Path) -> None:
    begin = time.monotonic()
    with Emulator(tmp_path / "azure", timings=QUICK_START) as second:
        assert time.monotonic() - begin < 15
        assert "Building" not in second.log_file.read_text()
        assert {v["vm_id"] for v in second.vms}.isdisjoint({v["vm_id"] for v in emulator.vms})


def test_gpu_follows_the_size(emulator: Emulator, gpu: dict[str, Any]) -> None:
    query = "nvidia-smi --query-gpu=index,name,memory.total,utilization.gpu --format=csv"
    assert said(ssh(emulator, "gpu-vm", query + ",noheader,nounits")) == "0, Tesla T4, 15360, 0"
    assert said(ssh(emulator, "gpu-vm", query)).splitlines()[1] == "0, Tesla T4, 15360 MiB, 0 %"
    assert said(ssh(emulator, "gpu-vm", "bash -lc 'nvidia-smi -L'")).startswith("GPU 0: Tesla T4 (UUID: GPU-")
    assert "CUDA Version: 12.2" in said(ssh(emulator, "gpu-vm", "nvidia-smi"))
    assert ssh(emulator, "gpu-vm", "nvidia-smi --query-gpu=nonsense --format=csv").returncode != 0
    assert ssh(emulator, "cpu-vm", "nvidia-smi").returncode == 127
    assert "gpu-vm" in said(ssh(emulator, "gpu-vm", "dsvm-more-info"))
    assert ssh(emulator, "web-server", "dsvm-more-info").returncode == 127


@isolated_only
def test_namespaces_of_its_own(emulator: Emulator, gpu: dict[str, Any]) -> None:
    assert said(ssh(emulator, "gpu-vm", "hostname; id -un; echo $HOME $DSVM_NAME")).split() == [
        "gpu-vm", "azureuser", "/home/azureuser", "gpu-vm"
    ]  # fmt: skip
    server = "import socket,time; s=socket.create_server(('127.0.0.1', 45454)); print('up', flush=True); time.sleep(30)"
    assert "up" in said(
        ssh(emulator, "gpu-vm", f'setsid python3 -c "{server}" >/tmp/out 2>&1 </dev/null & sleep 1; cat /tmp/out')
    )
    listening = said(ssh(emulator, "gpu-vm", "cat /proc/net/tcp"))
    assert f"{45454:04X}" in listening
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 45454), 1)
    assert f"{45454:04X}" not in said(ssh(emulator, "cpu-vm", "cat /proc/net/tcp"))
    # Neither the server's files nor another VM's, nor its processes.
    here = Path(__file__).resolve()
    for hidden in (here, emulator.config_dir, emulator.vm("cpu-vm")["disk"], "/tmp/pytest-of-root"):
        assert ssh(emulator, "gpu-vm", f"ls {hidden}").returncode != 0
    seen = said(ssh(emulator, "gpu-vm", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    assert "emulator/guest.py" in seen
    assert "pytest" not in seen
    assert os.readlink(f"/proc/{gpu['pid']}/ns/net") != os.readlink("/proc/self/ns/net")
    assert os.uname().nodename != "gpu-vm"
    with pytest.raises(KeyError):
        pwd.getpwnam("azureuser")  # this computer has got no account


@isolated_only
def test_another_user_of_the_vm(emulator: Emulator, gpu: dict[str, Any]) -> None:
    assert said(ssh(emulator, "gpu-vm", "id -un", user="visitor")) == "visitor"
    assert ssh(emulator, "gpu-vm", "ls /home/azureuser", user="visitor").returncode != 0
    assert ssh(emulator, "gpu-vm", "id", user="root").returncode == 255


# -- SSH ----------------------------------------------------------------------------------------------------------------


def test_killing_ssh_leaves_daemons(emulator: Emulator, gpu: dict[str, Any]) -> None:
    said(ssh(emulator, "gpu-vm", DAEMON))
    assert until(lambda: len(sleepers(emulator, "gpu-vm")) == 2)
    emulator.kill_ssh("gpu-vm")
    assert until(lambda: ssh(emulator, "gpu-vm", "true").returncode == 255)
    assert len(sleepers(emulator, "gpu-vm")) == 2
    emulator.start_ssh("gpu-vm")
    assert said(ssh(emulator, "gpu-vm", "echo again")) == "again"


def test_host_key_stays_unless_it_is_exchanged(emulator: Emulator, gpu: dict[str, Any]) -> None:
    emulator.power("gpu-vm", "deallocate")
    emulator.power("gpu-vm", "start")
    said(ssh(emulator, "gpu-vm", "true"))
    emulator.new_host_key("gpu-vm")
    refused = ssh(emulator, "gpu-vm", "true")
    assert refused.returncode == 255
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    emulator.restore_host_key("gpu-vm")
    said(ssh(emulator, "gpu-vm", "true"))


def test_configuration_names_what_is_there(emulator: Emulator) -> None:
    settings = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    # Code in notebooks may start VMs only where somebody has said so.
    assert set(settings) == {"AzureCompute", "FreeTier", "DSVMService"}
    assert "kernel_may_start" not in settings["DSVMService"]
    assert settings["FreeTier"] == {"memory_gib": 4.0, "data_gib": 1.0}
    azure = settings["AzureCompute"]
    assert azure["arm_endpoint"] == emulator.arm
    assert Path(azure["token_file"]).read_text().strip() == emulator.token
    assert azure["ssh_ports"] == {v["vm_id"]: v["port"] for v in emulator.vms if v["port"]}
    assert azure["ssh_user"] == emulator.vm("cpu-vm")["user"]
    pinned = dict(line.split(" ", 1) for line in Path(azure["host_keys_file"]).read_text().splitlines())
    assert set(pinned) == {v["vm_id"] for v in emulator.vms if v["port"]}
    assert "emulator" not in json.dumps(list(azure)).lower()


def test_code_may_start_vms_where_the_demo_says_so(tmp_path: Path) -> None:
    with Emulator(tmp_path / "azure", machines=BARE[-1:], may_start=True) as emulator:
        settings = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    assert settings["DSVMService"] == {
        "idle_ignore": ["cpu", "disk", "network"],
        "kernel_may_start": {"names": ["*"], "starts_per_day": 100},
    }


def test_ends_while_it_builds_an_environment(tmp_path: Path) -> None:
    folder = tmp_path / "azure"
    command = [sys.executable, "-m", "jupyter_dsvm.emulator", "--dir", str(folder), "--cache", str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Building" not in process.stderr.readline():
            assert process.poll() is None
        while "Collecting" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert mentioning(str(tmp_path)) == []


# -- without namespaces, without OpenSSH --------------------------------------------------------------------------------


@pytest.mark.parametrize(("isolate", "server"), [(False, "openssh"), (False, "asyncssh"), (True, "asyncssh")])
def test_other_ways_to_run(tmp_path: Path, isolate: bool, server: str) -> None:
    if isolate and REASON:
        pytest.skip(REASON)
    if server == "asyncssh":
        pytest.importorskip("asyncssh")
    elif shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) is None:
        pytest.skip("OpenSSH's server is not installed (Debian package openssh-server)")
    with Emulator(
        tmp_path / "azure", machines=BARE, isolate=isolate, ssh_server=server, timings=QUICK_START
    ) as emulator:
        first = emulator.power("gpu-vm", "start")
        (Path(first["home"]) / "nonce").write_text("kept\n")
        assert said(ssh(emulator, "gpu-vm", "cat $HOME/nonce; echo $DSVM_NAME")).split() == ["kept", "gpu-vm"]
        assert ssh(emulator, "gpu-vm", "exit 7").returncode == 7
        blob = os.urandom(3 << 20)
        assert ssh(emulator, "gpu-vm", "cat", stdin=blob).stdout == blob
        assert ssh(emulator, "gpu-vm", "id", user="nobody").returncode == 255
        said(ssh(emulator, "gpu-vm", DAEMON))
        assert until(lambda: len(sleepers(emulator, "gpu-vm")) == 2)
        emulator.kill_ssh("gpu-vm")
        assert until(lambda: ssh(emulator, "gpu-vm", "true").returncode == 255)
        assert len(sleepers(emulator, "gpu-vm")) == 2
        emulator.start_ssh("gpu-vm")
        pids = sleepers(emulator, "gpu-vm")
        emulator.power("gpu-vm", "deallocate")
        assert not any(alive(pid) for pid in pids)
        second = emulator.power("gpu-vm", "start")
        assert second["host"] != first["host"]
        assert second["port"] == first["port"]
        check_terminal_and_files(emulator, second)
        check_temporary_disk(emulator, "gpu-vm")
    assert mentioning(str(tmp_path)) == []


def check_terminal_and_files(emulator: Emulator, row: dict[str, Any]) -> None:
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            row["host"],
            row["port"],
            row["user"],
            key_filename=str(emulator.key_file),
            look_for_keys=False,
            allow_agent=False,
        )
        with client.open_sftp() as sftp:
            assert sftp.open("nonce" if "nonce" in sftp.listdir(".") else f"{row['home']}/nonce").read() == b"kept\n"
        channel = client.get_transport().open_session()  # type: ignore[union-attr]
        channel.get_pty("xterm", 99, 33)
        channel.exec_command("stty size; tty")
        text = b""
        while part := channel.recv(4096):
            text += part
        assert text.split()[:2] == [b"33", b"99"]
        assert b"/dev/pts/" in text
        assert channel.recv_exit_status() == 0


@isolated_only
def test_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """An account that exists in a mount namespace only; this computer is not changed."""
    home = Path("/tmp") / f"dsvm-{secrets.token_hex(4)}"
    home.mkdir(mode=0o700)
    uid = 61999
    os.chown(home, uid, uid)
    accounts = tmp_path / "passwd"
    accounts.write_text(Path("/etc/passwd").read_text() + f"ordinary:x:{uid}:{uid}::{home}:/bin/bash\n")
    # It has to be able to read the package and the interpreter, which may lie in root's home.
    wrapper = tmp_path / "as-ordinary"
    capabilities = "+dac_read_search"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"mount --bind {accounts} /etc/passwd\n"
        f"export HOME={home} USER=ordinary\n"
        f"exec setpriv --reuid={uid} --regid={uid} --clear-groups --inh-caps={capabilities} --ambient-caps={capabilities}"
        ' "$@"\n'
    )
    wrapper.chmod(0o755)
    try:
        command = ["unshare", "--mount", "--propagation", "private", str(wrapper)]
        machines = home / "azure"
        machines.mkdir()
        os.chown(machines, uid, uid)
        ordinary = Emulator(machines, machines=BARE, timings=QUICK_START, command=command)
        for name in ("emulator.log", "machines.json"):
            (machines / name).touch()
            os.chown(machines / name, uid, uid)
        with ordinary as emulator:
            row = emulator.power("gpu-vm", "start")
            assert (row["user"], row["host"][:4]) == ("ordinary", "127.")
            assert "namespaces need root" in emulator.log_file.read_text()
            assert said(ssh(emulator, "gpu-vm", "id -u; echo $HOME $DSVM_NAME")).split() == [
                str(uid),
                row["home"],
                "gpu-vm",
            ]
            said(ssh(emulator, "gpu-vm", DAEMON))
            assert until(lambda: len(sleepers(emulator, "gpu-vm")) == 2)
            pids = sleepers(emulator, "gpu-vm")
            emulator.power("gpu-vm", "deallocate")
            assert not any(alive(pid) for pid in pids)
            said(ssh(emulator, "cpu-vm", DAEMON))
            assert until(lambda: len(sleepers(emulator, "cpu-vm")) == 2)
            pids = sleepers(emulator, "cpu-vm")
        assert not any(alive(pid) for pid in pids)
        assert mentioning(str(home)) == []
    finally:
        shutil.rmtree(home)


# -- its end ------------------------------------------------------------------------------------------------------------

PARENT = textwrap.dedent(
    """
    import dataclasses, json, sys, time
    from pathlib import Path
    from jupyter_dsvm.emulator import STANDARD, Emulator
    bare = [dataclasses.replace(m, requirements=(), kernelspecs=()) for m in STANDARD]
    emulator = Emulator(Path(sys.argv[1]), machines=bare, isolate=sys.argv[2] == "True").start()
    print(json.dumps({"emulator": emulator.pid, "vms": emulator.vms, "config": str(emulator.config_dir)}), flush=True)
    time.sleep(100)
    """
)


@pytest.mark.parametrize("isolate", [pytest.param(True, marks=isolated_only), False])
@pytest.mark.parametrize("victim", ["parent", "emulator"])
def test_ends_with_its_parent(tmp_path: Path, isolate: bool, victim: str) -> None:
    folder = tmp_path / "azure"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder), str(isolate)], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            ready = json.loads(parent.stdout.readline())
            row = next(v for v in ready["vms"] if v["name"] == "cpu-vm")
            stand_in = Emulator(folder)
            stand_in.config_dir, stand_in.arm = Path(ready["config"]), "http" + _endpoint(folder)
            said(ssh(stand_in, "cpu-vm", DAEMON))
            assert until(lambda: len(sleepers(stand_in, "cpu-vm")) == 2)
            pids, ours = [*sleepers(stand_in, "cpu-vm"), row["pid"]], links(ready["vms"])
            assert bool(ours) is isolate
            os.kill(parent.pid if victim == "parent" else ready["emulator"], signal.SIGKILL)
            assert until(lambda: not any(alive(pid) for pid in [*pids, ready["emulator"]]))
            assert until(lambda: not present(ours))
        finally:
            parent.kill()
    assert until(lambda: mentioning(str(folder)) == [])


def _endpoint(folder: Path) -> str:
    endpoint = json.loads((folder / "config/jupyter_dsvm_config.json").read_text())["AzureCompute"]["arm_endpoint"]
    return str(endpoint).removeprefix("http")


def test_nothing_is_left(tmp_path: Path) -> None:
    mounts = Path("/proc/mounts").read_text()
    with Emulator(tmp_path / "azure", machines=BARE, timings=QUICK_START) as emulator:
        said(ssh(emulator, "cpu-vm", DAEMON))
        assert until(lambda: len(sleepers(emulator, "cpu-vm")) == 2)
        pids, ours = [p["pid"] for p in emulator.processes("cpu-vm")], links(emulator.vms)
        with pytest.raises(EmulatorError, match="Another emulator runs in"):
            Emulator(tmp_path / "azure", machines=BARE).start()
    assert not any(alive(pid) for pid in pids)
    assert mentioning(str(tmp_path)) == []
    assert not present(ours)
    assert Path("/proc/mounts").read_text() == mounts


def test_disks_and_ids_outlive_the_emulator(tmp_path: Path) -> None:
    with Emulator(tmp_path / "azure", machines=BARE, timings=QUICK_START) as emulator:
        first = emulator.vm("cpu-vm")
        said(ssh(emulator, "cpu-vm", "echo kept > ~/file"))
        keys = (emulator.config_dir / "host_keys").read_text()
        token = emulator.token
    with Emulator(tmp_path / "azure", machines=BARE, timings=QUICK_START) as emulator:
        assert emulator.vm("cpu-vm")["vm_id"] == first["vm_id"]
        assert (emulator.config_dir / "host_keys").read_text() == keys
        assert emulator.token != token
        assert said(ssh(emulator, "cpu-vm", "cat ~/file")) == "kept"


def test_without_what_it_needs(tmp_path: Path) -> None:
    broken = [dataclasses.replace(STANDARD[0], requirements=("no-such-distribution-0",))]
    with pytest.raises(EmulatorError, match="pip could not build"):
        Emulator(tmp_path / "azure", machines=broken, cache=tmp_path / "cache").start()
    assert mentioning(str(tmp_path)) == []
