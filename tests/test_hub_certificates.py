"""The hub's certificates, before OpenSSH's own sshd as it is on a VM: what is let in, and what is refused."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from jupyter_dsvm.errors import AuthenticationError, BadRequest, ConfigurationError
from jupyter_dsvm.hub.certificates import LONGEST, Authority, Certificate, account, principal, user_id
from jupyter_dsvm.hub.revocation import revocation_list, still_good
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys
from support.sshd import SSHServer

VM = "11111111-2222-3333-4444-555555555555"
OTHER_VM = "99999999-2222-3333-4444-555555555555"


class Holder:
    """A user's server: a key pair in memory."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        public = self.private.public_key()
        self.line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()

    def key(self, certificate: Certificate) -> paramiko.PKey:
        text = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
        key = paramiko.Ed25519Key(file_obj=io.StringIO(text))
        key.load_certificate(certificate.line)
        return key


@dataclass
class Class:
    """A VM whose sshd trusts the authority, for one account; and everybody's keys."""

    authority: Authority
    vm: SSHServer
    folder: Path
    hostkeys: HostKeys
    serial: int = 0

    def trust(self, *lines: str) -> None:
        (self.folder / "ca.pub").write_text("".join(f"{line}\n" for line in lines))

    def revoke(self, *certificates: Certificate) -> None:
        (line,) = self.authority.trusted_lines()
        data = revocation_list({line: [c.serial for c in certificates]}, 1, time.time())
        (self.folder / "revoked").write_bytes(data)

    def sign(self, holder: Holder, vm: str = VM, name: str = "ada", **others: Any) -> Certificate:
        self.serial += 1
        values: dict[str, Any] = {
            "to": principal(vm, name),
            "key_id": f"{name} on {vm}",
            "serial": self.serial,
            "seconds": 300,
            "now": time.time(),
            "trusted": [key.fingerprint for key in self.authority.known()],
        }
        return self.authority.sign(holder.line, **{**values, **others})

    def sign_in(self, holder: Holder, certificate: Certificate) -> SSHConnection:
        target = self.vm.target(compute=f"hub:{VM}", key_files=(), certificates=(holder.key(certificate),))
        connection = SSHConnection(target)
        try:
            connection.connect(self.hostkeys, agent=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def lets_in(self, holder: Holder, certificate: Certificate) -> bool:
        try:
            self.sign_in(holder, certificate).close()
            return True
        except AuthenticationError:
            return False


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Class]:
    folder = tmp_path / "ssh"
    (folder / "principals").mkdir(parents=True)
    (folder / "revoked").write_bytes(revocation_list({}, 0, 0))
    options = (
        f"TrustedUserCAKeys {folder}/ca.pub",
        f"AuthorizedPrincipalsFile {folder}/principals/%u",
        f"RevokedKeys {folder}/revoked",
        "AuthorizedKeysFile none",
        "AllowTcpForwarding yes",
        "AllowAgentForwarding yes",
        "AllowStreamLocalForwarding yes",
    )
    authority = Authority(tmp_path / "ca")
    (folder / "ca.pub").write_text("".join(f"{line}\n" for line in authority.trusted_lines()))
    vm_folder = tmp_path / "vm"
    vm_folder.mkdir()
    vm = SSHServer(vm_folder, options, {})
    (folder / "principals" / vm.user).write_text(principal(VM, "ada") + "\n")
    hostkeys = HostKeys(tmp_path / "pins")
    hostkeys.pin(VM, vm.host_key_line)
    vm.start()
    try:
        yield Class(authority, vm, folder, hostkeys)
    finally:
        vm.kill()


def test_a_certificate_lets_its_holder_in_and_allows_a_command_only(school: Class):
    ada = Holder()
    connection = school.sign_in(ada, school.sign(ada))
    try:
        assert connection.run("echo $((6 * 7))") == (0, b"42\n", b"")
        transport = connection._transport
        assert transport is not None
        for kind, destination in (("direct-tcpip", ("127.0.0.1", school.vm.port)),):
            with pytest.raises(paramiko.ChannelException, match="prohibited"):
                transport.open_channel(kind, destination, ("127.0.0.1", 1))
        with pytest.raises(paramiko.SSHException, match="denied"):
            transport.request_port_forward("127.0.0.1", 0)
        channel = transport.open_session()
        with pytest.raises(paramiko.SSHException):  # it hangs up on the request that is refused
            channel.get_pty()
        channel.close()
        channel = transport.open_session()
        channel.request_forward_agent(lambda asked: None)
        channel.exec_command('echo "<$SSH_AUTH_SOCK>"')
        assert channel.makefile().read() == b"<>\n"
        channel.close()
    finally:
        connection.close()


def test_a_terminal_where_that_was_asked_for(school: Class):
    ada = Holder()
    connection = school.sign_in(ada, school.sign(ada, terminal=True))
    try:
        transport = connection._transport
        assert transport is not None
        channel = transport.open_session()
        channel.get_pty()
        channel.exec_command("tty")
        assert channel.makefile().read().startswith(b"/dev/pts/")
        channel.close()
        with pytest.raises(paramiko.ChannelException, match="prohibited"):
            transport.open_channel("direct-tcpip", ("127.0.0.1", school.vm.port), ("127.0.0.1", 1))
    finally:
        connection.close()


def test_who_is_refused(school: Class):
    ada, eve = Holder(), Holder()
    good = school.sign(ada)
    assert school.lets_in(ada, good)
    with pytest.raises(AuthenticationError, match="does not let") as raised:  # a certificate for another VM
        school.sign_in(ada, school.sign(ada, vm=OTHER_VM))
    assert "the hub sets the VM up anew" in raised.value.advice
    assert not school.lets_in(ada, school.sign(ada, name="bob")), "one for another account"
    assert not school.lets_in(ada, school.sign(ada, now=time.time() - 301)), "one that is over"
    assert not school.lets_in(ada, school.sign(ada, now=time.time() + 120)), "one that has not begun"
    assert not school.lets_in(ada, school.sign(ada, sources=["203.0.113.0/24"])), "one for another network"
    assert school.lets_in(ada, school.sign(ada, sources=["203.0.113.0/24", "127.0.0.0/8"]))
    stranger = Authority(school.folder / "stranger")
    forged = stranger.sign(
        eve.line,
        to=principal(VM, "ada"),
        key_id="ada",
        serial=1,
        seconds=300,
        now=time.time(),
        trusted=[stranger.known()[0].fingerprint],
    )
    assert not school.lets_in(eve, forged), "one of another authority"


def test_one_ends_while_it_is_used_for_nothing_new(school: Class):
    """The connection that it opened stays, and nobody gets in with it any more."""
    ada = Holder()
    short = school.sign(ada, seconds=2)
    connection = school.sign_in(ada, short)
    try:
        time.sleep(max(0.0, short.until - time.time()) + 0.1)
        assert not school.lets_in(ada, short)
        assert connection.run("echo still")[1] == b"still\n"
    finally:
        connection.close()


def test_revoked(school: Class):
    ada = Holder()
    first, second, third = school.sign(ada), school.sign(ada), school.sign(ada)
    school.revoke(first, third)
    assert [school.lets_in(ada, c) for c in (first, second, third)] == [False, True, False]
    school.revoke()
    assert school.lets_in(ada, first)


def test_rotation(school: Class):
    """Both keys are trusted at once; each VM's certificates are of the newest that it trusts; the old one is retired."""
    ada = Holder()
    (old,) = school.authority.known()
    before = school.sign(ada)
    new = school.authority.rotate()
    assert [k.number for k in school.authority.known()] == [1, 2]
    # The VM was not reached yet: it trusts the old one alone.
    still = school.sign(ada, trusted=[old.fingerprint])
    assert (still.authority, school.lets_in(ada, still)) == (old.fingerprint, True)
    assert not school.lets_in(ada, school.sign(ada, trusted=[new.fingerprint]))
    school.trust(*school.authority.trusted_lines())
    after = school.sign(ada)
    assert after.authority == new.fingerprint
    assert school.lets_in(ada, before)
    assert school.lets_in(ada, after)
    assert school.authority.retire() == [old.fingerprint]
    school.trust(*school.authority.trusted_lines())
    assert not school.lets_in(ada, before)
    assert school.lets_in(ada, after)
    with pytest.raises(ConfigurationError, match="trusts none"):
        school.sign(ada, trusted=[old.fingerprint])


def test_keys_that_others_can_read_are_not_used(tmp_path: Path):
    authority = Authority(tmp_path / "ca")
    (key,) = authority.known()
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert key.path.parent.stat().st_mode & 0o777 == 0o700
    for mode in (0o640, 0o604, 0o660):
        key.path.chmod(mode)
        with pytest.raises(ConfigurationError, match="others can reach it"):
            Authority(tmp_path / "ca")
    key.path.chmod(0o600)
    assert Authority(tmp_path / "ca").trusted_lines() == authority.trusted_lines()
    elsewhere = tmp_path / "elsewhere"
    key.path.rename(elsewhere)
    key.path.symlink_to(elsewhere)
    with pytest.raises(ConfigurationError):
        Authority(tmp_path / "ca")


def test_what_is_signed_says_who_and_how_long(tmp_path: Path):
    authority, ada = Authority(tmp_path / "ca"), Holder()
    made = authority.sign(
        ada.line + " a comment",
        to=principal(VM, "ada"),
        key_id="ada on gpu-vm",
        serial=77,
        seconds=99 * 3600,
        now=1_800_000_000.0,
        trusted=[authority.known()[0].fingerprint],
    )
    assert made.until == 1_800_000_000 + LONGEST, "minutes, whatever is configured"
    file = tmp_path / "cert.pub"
    file.write_text(made.line)
    shown = subprocess.run(["ssh-keygen", "-L", "-f", file], capture_output=True, text=True, check=True).stdout
    assert 'Key ID: "ada on gpu-vm"' in shown
    assert "Serial: 77" in shown
    assert f"Principals: \n                {VM}/{user_id('ada')}\n" in shown
    assert "Critical Options: (none)\n        Extensions: (none)" in shown


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 ÄÄÄÄ",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
        "x" * 2000,
        'command="sh" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVkmVSFyBBzQ4r5u0r7PKxBZ5cXl5V8cPjyYYpYbV5A',
    ],
)
def test_only_ed25519_keys_are_signed(tmp_path: Path, line: str):
    authority = Authority(tmp_path / "ca")
    with pytest.raises(BadRequest, match="no public key"):
        authority.sign(
            line, to="a/b", key_id="", serial=1, seconds=60, now=0, trusted=[authority.known()[0].fingerprint]
        )


@given(st.text(), st.text())
def test_names_become_words(one: str, other: str):
    assert set(account(one)) <= set("jd-0123456789abcdef")
    assert len(account(one)) == 19, "useradd takes 32"
    assert (account(one) == account(other)) == (one == other)


@pytest.mark.parametrize("vm_id", ["", "a/b", "a b", "../x", "ä", "x" * 65])
def test_principals_are_of_vms(vm_id: str):
    with pytest.raises(BadRequest):
        principal(vm_id, "ada")


def test_ssh_keygen_reads_the_list(tmp_path: Path):
    authority, ada = Authority(tmp_path / "ca"), Holder()
    (key,) = authority.known()
    (tmp_path / "krl").write_bytes(revocation_list({key.public_line: [5, 3, 2**62]}, 9, time.time()))
    shown = subprocess.run(
        ["ssh-keygen", "-Q", "-l", "-f", tmp_path / "krl"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("serial")] == ["3", "5", str(2**62)]
    for serial, revoked in ((3, True), (4, False), (5, True)):
        made = authority.sign(
            ada.line, to="a/b", key_id="k", serial=serial, seconds=60, now=time.time(), trusted=[key.fingerprint]
        )
        file = tmp_path / f"{serial}.pub"
        file.write_text(made.line)
        done = subprocess.run(["ssh-keygen", "-Q", "-f", tmp_path / "krl", file], capture_output=True)
        assert (done.returncode != 0) is revoked


def test_those_that_are_over_need_no_place_in_it():
    assert still_good([(1, 100.0), (3, 2000.0), (2, 1500.0)], 1900.0) == [3]
    assert still_good([(1, 100.0), (3, 2000.0), (2, 1700.0)], 1900.0) == [2, 3]
