"""Accounts that a hub's broker makes on a VM: by the real script, as root on an emulated VM, and by real sign-ins there."""

from __future__ import annotations

import io
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.runcommand import checked
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.emulator.network import can_isolate
from jupyter_dsvm.errors import AuthenticationError, BadRequest, ComputeError, OperationRefused
from jupyter_dsvm.hub.certificates import Authority, Certificate, account, principal, user_id
from jupyter_dsvm.hub.revocation import revocation_list
from jupyter_dsvm.hub.vmaccounts import MOST, MOST_REVOKED, Done, Limits, Wanted, failure, parse, script
from jupyter_dsvm.models import SSHTarget
from jupyter_dsvm.settings import load_config
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys

REASON = can_isolate()
isolated = pytest.mark.skipif(bool(REASON), reason=f"needs VMs with accounts of their own: {REASON}")
NONCE = "ab" * 16
EMPTY = revocation_list({}, 1, 0)
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5A"
ADA, BOB = user_id("ada"), user_id("bob")


@dataclass
class Hub:
    """The authority, and a VM of it."""

    azure: AzureCompute
    authority: Authority
    hostkeys: HostKeys
    vm_id: str
    serial: int = 0
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def apply(self, revoked: Sequence[Certificate] = (), **wanted: object) -> Done:
        (line,) = self.authority.trusted_lines()
        listed = revocation_list({line: [c.serial for c in revoked]}, 1, time.time())
        asked = Wanted(self.vm_id, [line], listed, **wanted)  # type: ignore[arg-type]
        nonce = secrets.token_hex(16)
        out, err = self.azure.run_script(
            f"azure:{self.vm_id}",
            script(),
            asked.parameters(nonce),
            what="set {} up for the hub",
            doing="Setting up {}",
            report=lambda text, fraction: None,
            cancel=Cancel(),
        )
        done = parse(out, nonce, "cpu-vm", err)
        assert done.host_keys, out
        self.hostkeys.pin(self.vm_id, *(key.line for key in done.host_keys))
        return done

    def certificate(self, name: str, vm_id: str = "") -> Certificate:
        self.serial += 1
        public = self.private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return self.authority.sign(
            public.decode(),
            to=principal(vm_id or self.vm_id, name),
            key_id=name,
            serial=self.serial,
            seconds=300,
            now=time.time(),
            trusted=[key.fingerprint for key in self.authority.known()],
        )

    def sign_in(self, name: str, certificate: Certificate | None = None, user: str = "") -> SSHConnection:
        text = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        key = paramiko.Ed25519Key(file_obj=io.StringIO(text.decode()))
        key.load_certificate((certificate or self.certificate(name)).line)
        there = self.azure.ssh_target(f"azure:{self.vm_id}")
        connection = SSHConnection(
            SSHTarget(
                there.compute,
                there.name,
                there.host,
                there.port,
                user or account(name),
                certificates=(key,),
                pinned_key_id=self.vm_id,
            )
        )
        try:
            connection.connect(self.hostkeys, agent=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def run(self, name: str, command: str) -> str:
        connection = self.sign_in(name)
        try:
            status, out, err = connection.run(command)
        finally:
            connection.close()
        return f"{status} {out.decode()}{err.decode()}".strip()

    def lets_in(self, *arguments: object, **others: object) -> bool:
        try:
            self.sign_in(*arguments, **others).close()  # type: ignore[arg-type]
            return True
        except AuthenticationError:
            return False


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=STANDARD[:1]) as running:
        running.set_timings(runCommand=0.2, start=0.2, deallocate=0.2)
        yield running


@pytest.fixture
def hub(emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(emulator.config_dir))
    azure = AzureCompute(config=load_config(logging.getLogger()))
    azure.polling_interval = 0.1
    try:
        yield Hub(
            azure,
            Authority(tmp_path / "ca"),
            HostKeys(tmp_path / "pins"),
            emulator.vm("cpu-vm")["vm_id"].lower(),
        )
    finally:
        azure.close()


@isolated
def test_two_students_on_one_vm(hub: Hub):
    done = hub.apply(users=[ADA, BOB])
    assert (done.present, done.failed) == ({ADA, BOB}, {})
    assert hub.apply(users=[ADA, BOB]).present == {ADA, BOB}, "it may be repeated"
    assert hub.run("ada", "id -un; id -Gn; pwd; stat -c %a . ") == f"0 jd-{ADA}\njd-{ADA}\n/home/jd-{ADA}\n700"
    assert hub.run("ada", "echo mine > secret; umask 000; echo open > shared; echo ok") == "0 ok"
    for command in (f"ls /home/jd-{ADA}", f"cat /home/jd-{ADA}/shared", f"cd /home/jd-{ADA}"):
        assert "denied" in hub.run("bob", command)

    # No certificate opens another's account, and none of another VM opens any.
    assert not hub.lets_in("ada", hub.certificate("bob"))
    assert not hub.lets_in("ada", hub.certificate("ada", vm_id="0" * 36))
    assert not hub.lets_in("ada", user="azureuser"), "the VM's own account trusts no certificate of the hub"
    assert not hub.lets_in("ada", user="root")

    # A lasting key that a student puts there is worth nothing.
    hub.run("ada", f"mkdir -p .ssh; echo '{LINE}' > .ssh/authorized_keys; chmod -R go= .ssh")
    told = hub.run("ada", "/usr/sbin/sshd -T -C user=$(id -un),host=h,addr=a 2>&1; cat /etc/ssh/sshd_config.d/10*")
    assert "AuthorizedKeysFile none" in told
    public = hub.private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    hub.run("ada", f"echo '{public.decode()}' > .ssh/authorized_keys")
    stale = hub.certificate("bob")  # the right key, the wrong certificate: the key alone would be taken if it counted
    assert not hub.lets_in("ada", stale)


@isolated
def test_it_is_there_again_after_a_deallocation(hub: Hub, emulator: Emulator):
    hub.apply(users=[ADA])
    hub.run("ada", "echo 42 > kept")
    emulator.power("cpu-vm", "deallocate")
    emulator.power("cpu-vm", "start")
    assert hub.run("ada", "cat kept") == "0 42"
    assert hub.apply(users=[ADA]).present == {ADA}


@isolated
def test_a_revoked_certificate(hub: Hub):
    hub.apply(users=[ADA])
    first, second = hub.certificate("ada"), hub.certificate("ada")
    hub.apply([first], users=[ADA])
    assert not hub.lets_in("ada", first)
    assert hub.lets_in("ada", second)


@isolated
def test_what_ends_also_ends_what_is_open(hub: Hub, emulator: Emulator):
    """Connections, daemons and what forks all the time; of nobody else."""
    hub.apply(users=[ADA, BOB])
    ada, bob = hub.sign_in("ada"), hub.sign_in("bob")
    try:
        ada.run("setsid sh -c 'while :; do sleep 0.01 & done' >/dev/null 2>&1 </dev/null & echo")
        bob.run("setsid sleep 600 >/dev/null 2>&1 </dev/null & echo")
        done = hub.apply(users=[BOB], ended=[ADA])
        assert (done.ended, done.present, done.failed) == ({ADA}, {BOB}, {})
        deadline = time.monotonic() + 10
        while ada.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not ada.alive
        assert bob.run("echo here")[1] == b"here\n"
        lines = [" ".join(p["argv"]) for p in emulator.processes("cpu-vm")]
        assert not any("sleep 0.01" in line for line in lines)
        assert any("sleep 600" in line for line in lines)
        assert not hub.lets_in("ada"), "until somebody lets them in again"
        hub.apply(users=[ADA])
        assert hub.lets_in("ada")
    finally:
        ada.close()
        bob.close()


@isolated
def test_the_end_of_a_course(hub: Hub, emulator: Emulator):
    hub.apply(users=[ADA, BOB])
    home = Path(emulator.vm("cpu-vm")["disk"]) / "home"
    hub.run("ada", "mkdir -p deep/er; echo x > deep/er/file; ln -s /etc/passwd link; echo t > /tmp/of-ada; echo b")
    hub.run("bob", "echo t > /tmp/of-bob")
    done = hub.apply(removed=[ADA], users=[BOB])
    assert (done.removed, done.failed) == ({ADA}, {})
    assert not (home / f"jd-{ADA}").exists()
    assert hub.run("bob", "ls -d /tmp/of-*; getent passwd | grep -c ^jd-") == "0 /tmp/of-bob\n1"
    assert not hub.lets_in("ada")
    assert hub.apply(removed=[ADA]).removed == {ADA}, "it may be repeated"
    # Kept: whoever gets the number next does not find it.
    assert hub.apply(removed=[BOB], keep_homes=True).removed == {BOB}
    (kept,) = home.glob(f"jd-{BOB}.*")
    assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (0, 0o700)
    assert hub.apply(users=[BOB]).present == {BOB}


@isolated
def test_a_trap_in_the_way_of_root(hub: Hub, emulator: Emulator):
    """A student of that VM cannot have anything done by root to what is not theirs."""
    hub.apply(users=[ADA, BOB])
    hub.run("bob", "echo precious > file; chmod 644 file; mkdir -p /tmp/d")
    hub.run("ada", f"ln -s /home/jd-{BOB} bobs; ln -s /home/jd-{BOB}/file /tmp/link; ln -s /etc /tmp/etc; echo")
    assert hub.apply(removed=[ADA]).removed == {ADA}
    assert hub.run("bob", "cat file; ls /etc/passwd; ls -d /tmp/d") == "0 precious\n/etc/passwd\n/tmp/d"
    folder = Path(emulator.vm("cpu-vm")["disk"]) / "home"
    target = folder / "azureuser"
    before = target.stat()
    (folder / f"jd-{ADA}").symlink_to("azureuser")
    try:
        done = hub.apply(users=[ADA])
        assert done.failed == {ADA: "HomeExists"}
        error = failure(done, ADA, "cpu-vm")
        assert error is not None
        assert "home folder of that name already" in error.message
        assert (target.stat().st_uid, target.stat().st_mode) == (before.st_uid, before.st_mode)
    finally:
        (folder / f"jd-{ADA}").unlink()


@isolated
def test_limits_where_there_is_systemd(hub: Hub, emulator: Emulator):
    """What systemd reads; there is none on an emulated VM, so only its folders are."""
    hub.apply(users=[ADA])
    hub.azure.run_script(
        f"azure:{hub.vm_id}",
        "rm -f /etc/systemd; mkdir -p /etc/systemd/system /run/systemd/system",
        {},
        what="",
        doing="",
        report=lambda text, fraction: None,
        cancel=Cancel(),
    )
    try:
        assert hub.apply(users=[ADA], limits=Limits("50%", "200%", 512)).present == {ADA}
        read = "cat /etc/systemd/system/user-$(id -u).slice.d/50-jupyter-dsvm.conf"
        assert hub.run("ada", read) == "0 [Slice]\nTasksMax=512\nMemoryMax=50%\nCPUQuota=200%"
        assert hub.apply(users=[ADA], limits=Limits("8G")).present == {ADA}
        assert hub.run("ada", read) == "0 [Slice]\nTasksMax=2048\nMemoryMax=8G"
    finally:
        emulator.power("cpu-vm", "deallocate")
        emulator.power("cpu-vm", "start")


def test_parameters_are_words_and_bounded():
    ids = [user_id(str(n)) for n in range(MOST)]
    serials = range(2**62, 2**62 + MOST_REVOKED)
    wanted = Wanted("a-1", [LINE] * 8, revocation_list({LINE: serials}, 1, 0), ids, ids, ids, Limits("50%", "200%"))
    parameters = wanted.parameters(NONCE)
    assert len(checked(parameters)) == len(parameters)
    assert parameters["dsvm_memory"] == "50pc"
    with pytest.raises(ComputeError, match="too many"):
        Wanted("a-1", [LINE], EMPTY, [*ids, ADA]).parameters(NONCE)
    with pytest.raises(ComputeError, match="too many"):
        Wanted("a-1", [LINE], EMPTY, ["$(id)"]).parameters(NONCE)
    for memory, cpu in (("lots", ""), ("8", ""), ("8G;id", ""), ("", "two"), ("", "100")):
        with pytest.raises(BadRequest):
            Limits(memory, cpu)


def test_answers_without_the_nonce_count_for_nothing():
    good = f"{NONCE} begin\n{NONCE} present {ADA}.nonsense\n{NONCE} failed {BOB} Useradd\n{NONCE} done\n{NONCE} end\n"
    done = parse(f"{'cd' * 16} present {BOB}\n{NONCE} host nonsense\n{good}", NONCE, "vm")
    assert (done.present, done.failed, done.host_keys) == ({ADA}, {BOB: "Useradd"}, ())
    with pytest.raises(OperationRefused, match="It printed: oops"):
        parse(good.replace(" end", ""), NONCE, "vm", "oops")
    with pytest.raises(OperationRefused, match="sshd on vm does not read") as raised:
        parse(f"{NONCE} no SshdIgnores\n", NONCE, "vm")
    assert raised.value.code == "SshdIgnores"
    with pytest.raises(OperationRefused, match="ended with Odd"):
        parse(f"{NONCE} no Odd thing\n", NONCE, "vm")
