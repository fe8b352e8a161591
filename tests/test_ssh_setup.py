"""SSH without set-up: attach to a VM on which nothing was prepared, a new address, a replaced VM, an ended key, forget."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.access import AccessRequest
from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.errors import AuthenticationError, BadRequest, HostKeyError
from jupyter_dsvm.models import Compute, Operation, OperationState
from jupyter_dsvm.service import DSVMService, load_service
from support.kernels import until

REASON = can_isolate()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"VMs cannot be isolated here: {REASON}")
PASSWORD = 'correct horse: battery "staple" ü'
MACHINES = [
    dataclasses.replace(m, requirements=(), kernelspecs=(), password=PASSWORD if m.name == "cpu-vm" else "")
    for m in STANDARD
    if m.name in ("cpu-vm", "gpu-vm")
]
OURS = re.compile(r'restrict,pty,expiry-time="(\d{14})" ssh-ed25519 [A-Za-z0-9+/]+ jupyter-dsvm:[0-9a-f]{16}')
PATIENCE = 60.0


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=MACHINES, keys=False, timeout=120) as running:
        yield running


@pytest.fixture
def home(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An account of its own here, that has never seen a VM; the VMs are bare again afterwards."""
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(configuration(emulator, tmp_path / "jupyter")))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield tmp_path
    emulator.clear_faults()
    emulator.restore_host_key("cpu-vm")
    for name in ("cpu-vm", "gpu-vm"):
        keys = keys_of(emulator, name)
        if os.path.lexists(keys):
            keys.unlink()


def configuration(emulator: Emulator, folder: Path, **azure: Any) -> Path:
    values = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    values["AzureCompute"] |= {"polling_interval": 0.1, **azure}
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "jupyter_dsvm_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def service(home: Path) -> Iterator[DSVMService]:
    loaded = load_service()
    yield loaded
    loaded.close()


def keys_of(emulator: Emulator, name: str, user: str = "azureuser") -> Path:
    return Path(emulator.vm(name)["home"]).with_name(user) / ".ssh" / "authorized_keys"


def azure_of(service: DSVMService) -> AzureCompute:
    (found,) = (p for p in service.known.providers if isinstance(p, AzureCompute))
    return found


def ended(service: DSVMService, operation: Operation) -> Operation:
    value: Operation = service.operations_store.get(operation.id).finished.result(PATIENCE)
    return value


def set_up(service: DSVMService, name: str = "cpu-vm", **request: Any) -> Operation:
    return ended(service, service.set_up_access(name, AccessRequest.from_json(request)))


def who(service: DSVMService, compute: Compute) -> str:
    connection = service.connections.signed_in(compute.id)
    try:
        return connection.run("id -un")[1].decode().strip()
    finally:
        connection.close()


def command(home: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "jupyter_dsvm", *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def commands_run(emulator: Emulator) -> int:
    return sum("/runcommand" in e["request"]["url"].lower() for e in emulator.traffic)


def test_set_up_sign_in_and_forget(service: DSVMService, emulator: Emulator):
    cpu = service.known.find("cpu-vm")
    with pytest.raises(HostKeyError, match="is not known"):
        who(service, cpu)
    done = set_up(service)
    assert done.state is OperationState.DONE, done.error
    assert done.kind == "access"
    assert done.notice.startswith("azureuser on cpu-vm lets this account's key in until 20")
    assert who(service, cpu) == "azureuser"
    keys = keys_of(emulator, "cpu-vm")
    assert OURS.fullmatch(keys.read_text().strip())
    assert (keys.stat().st_mode & 0o777, keys.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert keys.stat().st_uid == keys.parents[1].stat().st_uid
    before = commands_run(emulator)
    forgotten = ended(service, service.forget_access("cpu-vm"))
    assert forgotten.notice == "The key is gone from cpu-vm; its account and host keys are forgotten."
    assert commands_run(emulator) == before, "over SSH, which still worked"
    assert keys.read_text() == ""
    with pytest.raises(HostKeyError, match="is not known"):
        who(service, cpu)


def test_what_others_put_there_stays(service: DSVMService, emulator: Emulator):
    keys = keys_of(emulator, "cpu-vm")
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_text("# mine\nssh-ed25519 AAAAC3Nza me@laptop")  # without an end of line
    owner = keys.parents[1].stat().st_uid
    for path in (keys.parent, keys):
        os.chown(path, owner, owner)
    for _ in range(2):
        assert set_up(service).state is OperationState.DONE
    lines = keys.read_text().splitlines()
    assert lines[:2] == ["# mine", "ssh-ed25519 AAAAC3Nza me@laptop"]
    assert len(lines) == 3, "renewed, not added"
    azure_of(service).grants.change(emulator.vm("cpu-vm")["vm_id"], until=1.0)  # so that SSH is not tried
    forgotten = ended(service, service.forget_access("cpu-vm"))
    assert forgotten.state is OperationState.DONE, forgotten.error
    assert keys.read_text().splitlines() == lines[:2], "by run command"


def test_a_new_address_is_no_new_host_and_a_replaced_vm_is(service: DSVMService, emulator: Emulator):
    cpu = service.known.find("cpu-vm")
    assert set_up(service).state is OperationState.DONE
    place = emulator.vm("cpu-vm")["host"]
    emulator.power("cpu-vm", "deallocate")
    emulator.power("cpu-vm", "start")
    assert emulator.vm("cpu-vm")["host"] != place
    before = commands_run(emulator)
    assert who(service, cpu) == "azureuser"
    emulator.new_host_key("cpu-vm")
    with pytest.raises(HostKeyError) as refused:
        who(service, cpu)
    assert refused.value.code == "HostKeyChanged"
    assert "`jupyter dsvm access cpu-vm --renew-host-key`" in refused.value.advice
    assert commands_run(emulator) == before, "nothing is taken over unasked"


def test_a_host_key_is_renewed_only_when_somebody_says_so(service: DSVMService, emulator: Emulator):
    cpu = service.known.find("cpu-vm")
    assert set_up(service).state is OperationState.DONE
    emulator.new_host_key("cpu-vm", published=True)
    failed = set_up(service)
    assert failed.error is not None
    assert failed.error.code == "HostKeyChanged"
    assert failed.error.message.count("SHA256:") == 2
    renewed = set_up(service, renew_host_key=True)
    assert renewed.state is OperationState.DONE, renewed.error
    assert renewed.notice.count("SHA256:") == 2
    assert who(service, cpu) == "azureuser"


def test_an_ended_key_is_refused_by_sshd_and_put_there_anew(service: DSVMService, emulator: Emulator):
    cpu = service.known.find("cpu-vm")
    assert set_up(service).state is OperationState.DONE
    keys = keys_of(emulator, "cpu-vm")
    keys.write_text(re.sub(r'"\d+"', '"20200101000000"', keys.read_text()))
    with pytest.raises(AuthenticationError):
        who(service, cpu)
    assert set_up(service).state is OperationState.DONE
    assert who(service, cpu) == "azureuser"


def test_a_key_is_renewed_over_ssh_while_it_works(service: DSVMService, emulator: Emulator):
    from jupyter_dsvm.access import renew

    cpu = service.known.find("cpu-vm")
    assert set_up(service).state is OperationState.DONE
    azure, vm_id = azure_of(service), emulator.vm("cpu-vm")["vm_id"]
    (first,) = OURS.findall(keys_of(emulator, "cpu-vm").read_text())
    before = commands_run(emulator)
    renew(service.known, cpu, service.connections.signed_in)
    assert OURS.findall(keys_of(emulator, "cpu-vm").read_text()) == [first], "too early"
    azure.key_days = 60.0
    azure.grants.change(vm_id, since=time.time() - 90 * 86400)
    renew(service.known, cpu, service.connections.signed_in)
    (second,) = OURS.findall(keys_of(emulator, "cpu-vm").read_text())
    assert second > first
    assert not azure.grants.get(vm_id).half_over()
    assert commands_run(emulator) == before


def test_another_account(service: DSVMService, emulator: Emulator):
    cpu = service.known.find("cpu-vm")
    done = set_up(service, user="visitor")
    assert done.notice.startswith("visitor on cpu-vm")
    assert who(service, cpu) == "visitor", "remembered"
    assert keys_of(emulator, "cpu-vm", "visitor").exists()
    assert not keys_of(emulator, "cpu-vm").exists()
    assert ended(service, service.forget_access("cpu-vm")).state is OperationState.DONE


@pytest.mark.parametrize(
    ("user", "code"),
    [("root", "SystemAccount"), ("nobody", "SystemAccount"), ("sshd", "SystemAccount"), ("ghost", "NoAccount")],
)
def test_accounts_that_get_no_key(service: DSVMService, user: str, code: str):
    failed = set_up(service, user=user)
    assert failed.error is not None
    assert failed.error.code == code
    assert "--user" in failed.error.advice


def test_several_accounts_and_no_name(service: DSVMService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(AzureCompute, "_user", lambda self, machine, named=None: None)
    failed = set_up(service)
    assert failed.error is not None
    assert failed.error.code == "UserNameNeeded"
    assert "azureuser, visitor" in failed.error.message
    assert "`jupyter dsvm access cpu-vm --user USER`" in failed.error.advice


def test_no_right_to_run_commands(service: DSVMService, emulator: Emulator):
    emulator.fault("cpu-vm", "runCommand", code="AuthorizationFailed")
    failed = set_up(service)
    assert failed.error is not None
    assert failed.error.code == "AuthorizationFailed"
    assert "Microsoft.Compute/virtualMachines/runCommand/action" in failed.error.message
    assert "Virtual Machine Contributor" in failed.error.message + failed.error.advice
    assert "ssh-ed25519 AAAA" in failed.error.advice, "the line to put there by hand"
    assert "--password" in failed.error.advice


def test_an_agent_that_does_not_answer(service: DSVMService, emulator: Emulator):
    emulator.fault("cpu-vm", "runCommand", code="VMExtensionProvisioningTimeout", at="operation")
    failed = set_up(service)
    assert failed.error is not None
    assert failed.error.code == "VMExtensionProvisioningTimeout"
    assert "agent" in failed.error.message
    assert "authorized_keys" in failed.error.advice


def test_one_command_at_a_time(service: DSVMService, emulator: Emulator):
    """What somebody else runs there by Azure has to end first."""
    row = emulator.vm("cpu-vm")
    emulator.set_timings(runCommand=2.0)
    texts: list[str] = []
    service.operations_store.listen(lambda operation: texts.extend(step.text for step in operation.steps))
    try:
        status, _, _ = emulator.request(
            "POST",
            f"{row['id']}/runCommand?api-version=2024-07-01",
            {"commandId": "RunShellScript", "script": ["true"]},
        )
        assert status == 202
        emulator.set_timings(runCommand=0.1)
        done = set_up(service)
    finally:
        emulator.set_timings(runCommand=0.1)
    assert done.state is OperationState.DONE, done.error
    assert any("another command is being run there by Azure" in text for text in texts)
    assert any("Setting up SSH on cpu-vm: Azure runs a command there" in text for text in texts)


def test_a_vm_that_is_off(service: DSVMService, emulator: Emulator):
    failed = set_up(service, "gpu-vm")
    assert failed.error is not None
    assert failed.error.code == "ComputeNotRunning"
    assert set_up(service).state is OperationState.DONE
    emulator.power("cpu-vm", "deallocate")
    try:
        failed = ended(service, service.forget_access("cpu-vm"))
        assert failed.error is not None
        assert re.search(r"It ends by itself on 20\d\d-\d\d-\d\d", failed.error.message)
    finally:
        emulator.power("cpu-vm", "start")


def test_the_command_line(home: Path, emulator: Emulator):
    assert "is not known yet" in command(home, "ssh", "cpu-vm", "--", "true", status=1).stderr
    assert "lets this account's key in until" in command(home, "access", "cpu-vm").stderr
    done = command(home, "ssh", "cpu-vm", "--", "id -un; exit 7", status=7)
    assert done.stdout == "azureuser\n"
    assert "The key is gone" in command(home, "forget", "cpu-vm").stderr
    assert "No key of ours" in command(home, "forget", "cpu-vm").stderr


def test_vmaccess_needs_consent_and_leaves_a_key_that_ends(service: DSVMService, emulator: Emulator, home: Path):
    cpu = service.known.find("cpu-vm")
    with pytest.raises(BadRequest, match="gives the account chosen passwordless sudo"):
        AccessRequest.from_json({"vmaccess": True})
    consent: dict[str, Any] = {"vmaccess": True, "consent": "sudo"}
    failed = set_up(service, **consent)
    assert failed.error is not None
    assert failed.error.code == "HostKeyUnknown", "VMAccess does not say host keys"
    assert set_up(service).state is OperationState.DONE
    assert "VMAccess was not used" in set_up(service, **consent).notice
    keys_of(emulator, "cpu-vm").unlink()
    done = set_up(service, **consent)
    assert done.state is OperationState.DONE, done.error
    assert "sudo without a password" in done.notice
    assert who(service, cpu) == "azureuser"
    assert OURS.fullmatch(keys_of(emulator, "cpu-vm").read_text().strip()), "the key without an end is gone"
    assert not list((home / "data/jupyter-dsvm").glob("vmaccess*"))
    assert "ssh-rsa" not in emulator.traffic_file.read_text()
    emulator.fault("cpu-vm", "extension", code="AuthorizationFailed")
    keys_of(emulator, "cpu-vm").unlink()
    failed = set_up(service, **consent)
    assert failed.error is not None
    assert failed.error.code == "AuthorizationFailed"


@pytest.fixture
def locked_out(service: DSVMService, emulator: Emulator) -> Compute:
    """A VM whose host key is known, and which does not let our key in."""
    assert set_up(service).state is OperationState.DONE
    keys_of(emulator, "cpu-vm").unlink()
    return service.known.find("cpu-vm")


def test_a_password(service: DSVMService, locked_out: Compute, home: Path, caplog: pytest.LogCaptureFixture):
    failed = set_up(service, password="wrong")
    assert failed.error is not None
    assert failed.error.code == "Authentication"
    assert "Check the password" in failed.error.advice
    with pytest.raises(AuthenticationError):
        who(service, locked_out)
    done = set_up(service, password=PASSWORD)
    assert done.state is OperationState.DONE, done.error
    assert "kept in its memory" in done.notice
    assert who(service, locked_out) == "azureuser"
    assert PASSWORD not in caplog.text + str(done) + repr(AccessRequest(password=PASSWORD))
    assert not [p for p in home.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]
    ended(service, service.forget_access("cpu-vm"))
    assert locked_out.id not in service.connections._passwords


def test_a_password_goes_nowhere_before_the_host_key_is_known(
    service: DSVMService, locked_out: Compute, emulator: Emulator
):
    emulator.new_host_key("cpu-vm")
    failed = set_up(service, password=PASSWORD)
    assert failed.error is not None
    assert failed.error.code == "HostKeyChanged"
    assert locked_out.id not in service.connections._passwords


def test_a_password_from_the_terminal_to_the_running_server(
    service: DSVMService, locked_out: Compute, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
    words = [sys.executable, "-m", "jupyter_dsvm", "access", "cpu-vm", "--password"]
    alone = subprocess.run(words, input=PASSWORD + "\n", capture_output=True, text=True, timeout=60)
    assert alone.returncode == 1
    assert "No Jupyter server of yours is running" in alone.stderr
    options = [
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.allow_root=True",
        f"--ServerApp.root_dir={home}",
        "--no-browser",
    ]
    options.append("--ServerApp.jpserver_extensions={'jupyter_dsvm': True}")
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter_server", *options], stdout=log, stderr=log)
    try:
        until(lambda: list((home / "runtime").glob("jpserver-*.json")), 60)
        done = subprocess.run(words, input=PASSWORD + "\n", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr + (home / "server.log").read_text()
        assert "the password is kept in its memory" in done.stderr
        assert PASSWORD not in (home / "server.log").read_text()
    finally:
        server.terminate()
        server.wait(30)
