"""Host keys: who is let through, and what a refusal says."""

from __future__ import annotations

import base64
import dataclasses
import stat
import subprocess
from pathlib import Path

import pytest

from jupyter_dsvm.errors import ConfigurationError, HostKeyError
from jupyter_dsvm.models import SSHTarget
from jupyter_dsvm.ssh.hostkeys import HostKey, HostKeys
from jupyter_dsvm.ssh.keys import ensure_key
from support.sshd import generate_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[HostKey]:
    folder = tmp_path_factory.mktemp("keys")
    return [HostKey.parse(generate_key(folder / name)) for name in "abc"]


VM = SSHTarget(compute="azure:1", name="gpu-vm", host="10.0.0.4", user="ada", pinned_key_id="1111-2222")
HOST = SSHTarget(compute="host:lab", name="lab", host="Lab.Example.Org", port=2222, user="ada")


def test_a_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    key = HostKey.parse(generate_key(tmp_path / "key"))
    printed = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert key.fingerprint in printed
    assert HostKey.parse(key.line) == key


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 %%%", "ssh-rsa " + base64.b64encode(b"\0\0\0\x0bssh-ed25519").decode()]
)
def test_what_is_no_key_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        HostKeys(tmp_path / "pins").pin("1111", line)


def test_pins_are_by_id_private_and_replaced(tmp_path: Path, keys: list[HostKey]) -> None:
    path = tmp_path / "folder" / "known_hosts"
    host_keys = HostKeys(path, known_hosts=[])
    host_keys.pin("other", keys[2].line)
    host_keys.pin(VM.pinned_key_id or "", keys[0].line, keys[1].line)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert host_keys.known(VM) == keys[:2]
    host_keys.verify(VM, keys[1])

    host_keys.pin(VM.pinned_key_id or "", keys[1].line)
    with pytest.raises(HostKeyError):
        host_keys.verify(VM, keys[0])
    assert HostKeys(path, known_hosts=[]).known(VM) == [keys[1]], "kept for the next process"
    assert path.read_text().startswith("other "), "the pins of other machines stay"


@pytest.mark.parametrize("key_id", ["", "a b", "*", "x,y", "|1|a", "a\nb"])
def test_a_pin_cannot_smuggle_a_pattern(key_id: str, tmp_path: Path, keys: list[HostKey]) -> None:
    with pytest.raises(ConfigurationError):
        HostKeys(tmp_path / "pins").pin(key_id, keys[0].line)


def test_unknown_says_fingerprint_and_how_to_accept(tmp_path: Path, keys: list[HostKey]) -> None:
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[tmp_path / "known_hosts"])
    with pytest.raises(HostKeyError) as e:
        host_keys.verify(HOST, keys[0])
    assert e.value.code == "HostKeyUnknown"
    assert keys[0].fingerprint in e.value.message
    assert "ssh -p 2222 ada@Lab.Example.Org" in e.value.advice
    with pytest.raises(HostKeyError) as e:
        host_keys.verify(VM, keys[0])
    assert f"1111-2222 {keys[0].line}" in e.value.advice
    assert str(tmp_path / "pins") in e.value.advice
    # What the advice says works.
    (tmp_path / "pins").write_text(f"1111-2222 {keys[0].line}\n")
    host_keys.verify(VM, keys[0])


def test_changed_says_both_fingerprints(tmp_path: Path, keys: list[HostKey]) -> None:
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[])
    host_keys.pin("1111-2222", keys[0].line)
    with pytest.raises(HostKeyError) as e:
        host_keys.verify(VM, keys[1])
    assert e.value.code == "HostKeyChanged"
    assert keys[0].fingerprint in e.value.message
    assert keys[1].fingerprint in e.value.message
    assert "someone is in between" in e.value.message


def hashed(host: str, folder: Path) -> str:
    """The name as OpenSSH itself hashes it."""
    path = folder / "to_hash"
    generate_key(folder / "hash_key")
    path.write_text(f"{host} {(folder / 'hash_key.pub').read_text()}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    return path.read_text().split()[0]


def test_known_hosts_as_openssh_writes_it(tmp_path: Path, keys: list[HostKey]) -> None:
    path = tmp_path / "known_hosts"
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[path])
    name = "[lab.example.org]:2222"
    for hosts, known in [
        (name, True),
        (f"192.0.2.1,{name}", True),
        ("[*.example.org]:2222", True),
        ("[lab.example.???]:2222", True),
        (f"[*.example.org]:2222,!{name}", False),
        ("lab.example.org", False),
        ("*", True),
        (hashed(name, tmp_path), True),
    ]:
        path.write_text(f"# a comment\n\nbroken line\n{hosts} {keys[0].line} comment\n")
        assert bool(host_keys.known(HOST)) is known, hosts


def test_another_name_and_another_file_as_the_ssh_configuration_says(tmp_path: Path, keys: list[HostKey]) -> None:
    usual, other = tmp_path / "usual", tmp_path / "other"
    usual.write_text(f"[lab.example.org]:2222 {keys[0].line}\n")
    other.write_text(f"lab-key {keys[1].line}\n")
    host_keys = HostKeys(tmp_path / "pins", [usual])
    host_keys.verify(HOST, keys[0])
    target = dataclasses.replace(HOST, host_key_alias="lab-key", known_hosts=(str(other),))
    assert host_keys.known(target) == [keys[1]], "an alias stands without a port"
    host_keys.verify(target, keys[1])
    with pytest.raises(HostKeyError) as e:
        host_keys.verify(target, keys[0])
    assert f"ssh-keygen -R 'lab-key' -f {other}" in e.value.advice
    with pytest.raises(HostKeyError, match="not known"):
        host_keys.verify(dataclasses.replace(target, known_hosts=("/dev/null",)), keys[1])


def test_several_keys_and_a_revoked_one(tmp_path: Path, keys: list[HostKey]) -> None:
    path = tmp_path / "known_hosts"
    name = "[lab.example.org]:2222"
    path.write_text(
        f"{name} {keys[0].line}\n{name} {keys[1].line}\n@revoked * {keys[1].line}\n@cert-authority * {keys[2].line}\n"
    )
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[path])
    host_keys.verify(HOST, keys[0])
    with pytest.raises(HostKeyError, match="revoked"):
        host_keys.verify(HOST, keys[1])
    with pytest.raises(HostKeyError):
        host_keys.verify(HOST, keys[2])


def test_a_pinned_type_is_asked_for_first(tmp_path: Path) -> None:
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[])
    assert host_keys.algorithms(VM)[0] == "ssh-ed25519"
    kind = b"ecdsa-sha2-nistp256"
    host_keys.pin("1111-2222", f"{kind.decode()} {base64.b64encode(len(kind).to_bytes(4, 'big') + kind).decode()}")
    assert host_keys.algorithms(VM)[:2] == ("ecdsa-sha2-nistp256", "ssh-ed25519")
    assert not any("cert" in a or a == "ssh-rsa" for a in host_keys.algorithms(VM))


def test_our_own_key_is_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = ensure_key(folder)
    assert ensure_key(folder) == first
    assert stat.S_IMODE(first.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [p.name for p in folder.iterdir()] == ["id_ed25519"]
    printed = subprocess.run(["ssh-keygen", "-yf", first.private], capture_output=True, text=True, check=True).stdout
    assert first.public_line.split()[:2] == printed.split()[:2]
    assert first.public_line.endswith(" jupyter-dsvm")
    first.private.chmod(0o644)
    with pytest.raises(ConfigurationError, match="other accounts"):
        ensure_key(folder)


def test_what_the_administrator_says_goes_before_our_own(tmp_path: Path, keys: list[HostKey]):
    """A file that is configured has the last word on the machines in it, and is never written."""
    configured = tmp_path / "configured"
    configured.write_text(f"1111-2222 {keys[0].line}\n")
    host_keys = HostKeys(tmp_path / "pins", known_hosts=[], configured=configured)
    assert host_keys.configured_for("1111-2222")
    assert not host_keys.configured_for("3333")
    assert host_keys.known(VM) == [keys[0]]
    with pytest.raises(ConfigurationError, match="which is not changed"):
        host_keys.pin("1111-2222", keys[1].line)
    host_keys.pin("3333", keys[1].line)
    assert host_keys.pinned("3333") == [keys[1]]
    host_keys.unpin("3333")
    host_keys.unpin("4444")
    assert host_keys.pinned("3333") == []
    assert configured.read_text() == f"1111-2222 {keys[0].line}\n"
    with pytest.raises(HostKeyError) as e:
        host_keys.verify(VM, keys[1])
    assert f"remove the lines of 1111-2222 from {configured}" in e.value.advice
