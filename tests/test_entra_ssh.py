"""SSH certificates of Entra's: asked for with MSAL over real https, and a login with one to a real OpenSSH."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from jupyter_dsvm.access import AccessRequest
from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.entra_ssh import SCOPES, EntraSSH, read, request_data
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.emulator.ssh_authority import SSHAuthority
from jupyter_dsvm.errors import AuthenticationError, ComputeError, SignInRequired
from jupyter_dsvm.models import OperationState
from jupyter_dsvm.service import load_service
from jupyter_dsvm.ssh.openssh import arguments_of
from support.kernels import until

REASON = can_isolate()
MACHINES = [dataclasses.replace(m, entra_login=True) for m in STANDARD if m.name == "cpu-vm"]
ADA = "ada@example.com"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(
        tmp_path_factory.mktemp("azure"), machines=MACHINES, keys=False, sign_in=True, timeout=120
    ) as running:
        running.set_entra(interval=1)
        yield running


@pytest.mark.skipif(bool(REASON), reason=f"VMs cannot be isolated here: {REASON}")
def test_somebody_who_signed_in_is_let_in(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = json.loads((emulator.config_dir / "jupyter_dsvm_config.json").read_text())
    values["AzureCompute"] |= {"polling_interval": 0.1, "entra_ssh": True}
    (tmp_path / "jupyter").mkdir()
    (tmp_path / "jupyter/jupyter_dsvm_config.json").write_text(json.dumps(values))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    service = load_service()
    try:
        asked = service.accounts.begin()
        assert asked.code is not None
        emulator.enter_code(asked.code)
        until(lambda: service.accounts.status(asked.id).state.value == "signed_in", 30)
        cpu = service.known.find("cpu-vm")
        begun = service.set_up_access("cpu-vm", AccessRequest())
        ended = service.operations_store.get(begun.id).finished.result(60)
        assert ended.state is OperationState.DONE, ended.error
        assert "The host keys of cpu-vm are known" in ended.notice
        home = Path(emulator.vm("cpu-vm")["home"])
        assert not (home / ".ssh").exists(), "no key is put there"
        connection = service.connections.signed_in(cpu.id)
        try:
            assert connection.run("id -un")[1].decode().strip() == ADA
        finally:
            connection.close()
        pipe = service.connections.open(cpu, Cancel())
        assert pipe.info()["user"] == ADA, "the relay, and so the kernels, are the person's own"
        assert "python3" in [spec["name"] for spec in pipe.kernelspecs()]
        target = service.known.ssh_target(cpu.id)
        keys = [key.line for key in service.connections.host_keys.known(target)]
        words = arguments_of(target, keys, tmp_path)
        done = subprocess.run(["ssh", "-F", "none", *words, "id -un"], capture_output=True, text=True, timeout=30)
        assert done.stdout == f"{ADA}\n", done.stderr
        emulator.set_entra(interval=1, token_lifetime=-200.0)  # its certificates have ended when they come
        (azure,) = (p for p in service.known.providers if isinstance(p, AzureCompute))
        azure._entra_ssh.forget()
        with pytest.raises(AuthenticationError) as refused:
            service.connections.signed_in(cpu.id)
        assert "the certificate for ada@example.com" in refused.value.message
        assert "Virtual Machine User Login" in refused.value.advice
        emulator.set_entra(interval=1, token_lifetime=3900.0)
        azure._entra_ssh.forget()
        service.connections.signed_in(cpu.id).close()
        service.accounts.sign_out()
        with pytest.raises(SignInRequired):
            azure._certificate(azure._known(cpu.id))
    finally:
        service.close()


def test_a_certificate_is_asked_for_about_once_an_hour():
    authority, asked = SSHAuthority(), []
    lifetime = [3600.0]

    def ask(scope: str, data: dict[str, str], tenant: str) -> str:
        asked.append((scope, tenant))
        return authority.certificate(data["req_cnf"], ADA, lifetime[0])

    entra = EntraSSH(ask, "usgov")
    first = entra.certificate()
    assert first.user == ADA
    assert 3500 < first.until - time.time() <= 3600
    assert entra.certificate() is first
    assert entra.certificate("other") is not first
    assert asked == [(SCOPES["usgov"], ""), (SCOPES["usgov"], "other")]
    entra.forget()
    lifetime[0] = 200.0
    soon = entra.certificate()
    assert entra.certificate() is not soon, "it ends soon"


def test_nobody_has_signed_in(tmp_path: Path):
    azure = AzureCompute(entra_ssh=True)
    with pytest.raises(SignInRequired, match="somebody who signed in here with a code"):
        azure.sign_in.ssh_certificate(SCOPES["public"], {}, "")
    azure.close()


def test_what_is_no_certificate_for_our_key():
    authority = SSHAuthority()
    ours, other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))

    def issued(key: rsa.RSAPrivateKey, principal: str) -> str:
        numbers = key.public_key().public_numbers()
        return authority.certificate(request_data(numbers.n, numbers.e)["req_cnf"], principal, 3600)

    assert read(issued(ours, ADA), ours).user == ADA
    public = authority.public_line.split()[1]
    for body in ("", "not base64!", "AAAA", public, issued(other, ADA), issued(ours, "-oProxyCommand=x"), "A" * 70000):
        with pytest.raises(ComputeError) as refused:
            read(body, ours)
        assert refused.value.code == "BadCertificate"
