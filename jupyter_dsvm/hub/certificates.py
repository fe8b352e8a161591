"""The certificate authority of a hub: it signs OpenSSH user certificates that are good for minutes, on one VM, for one person.

``Authority`` is the folder of its keys, which belongs to the broker's account alone; the VMs have the public halves
(``TrustedUserCAKeys``). A certificate lets its holder in as one principal, ``VMID/USER`` (``principal``), which the VM maps to
one account with a root-owned ``AuthorizedPrincipalsFile``. It carries no extension, so sshd allows no forwarding of any kind with
it, and a terminal (``permit-pty``) only where that was asked for.

Rotation. ``rotate`` makes one more key. From then on both are trusted by every VM that is set up, and each VM's certificates are
signed with the newest key that it is known to trust; so nothing stops working, whenever a VM is reached next. ``retire`` removes
the older keys: VMs that trust no other are set up anew at the next attach. The format is OpenSSH's PROTOCOL.certkeys.

Blocks for small files; called on worker threads.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadRequest, ConfigurationError
from ..ssh.hostkeys import HostKey
from ..ssh.keys import private_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LEAD_SECONDS = 60
"""How long before now a certificate begins: the VM's clock may be behind the hub's."""

LONGEST = 3600.0
"""Seconds that a certificate may be good for, whatever is configured."""

LONGEST_LINE = 1000
"""Characters of a public key's line. One of ed25519 has 80 and a comment."""

_FILE = re.compile(r"ca-([0-9]{4})")
_VM_ID = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)


def user_id(name: str) -> str:
    """The person in principals and account names: 16 hexadecimal digits that follow from the hub's name for them, so that whatever
    that name holds, nothing that a shell or sshd reads has more than digits and letters."""
    return hashlib.sha256(b"jupyterhub user\0" + name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def account(name: str) -> str:
    """The account on a VM of the hub's user ``name``."""
    return f"jd-{user_id(name)}"


def principal(vm_id: str, name: str) -> str:
    """Whom a certificate names: one person on one VM."""
    vm_id = vm_id.lower()
    if not _VM_ID.fullmatch(vm_id):
        raise BadRequest(f"{vm_id[:80]!r} is no id of a VM.")
    return f"{vm_id}/{user_id(name)}"


@dataclass(frozen=True)
class Certificate:
    """A certificate, and what of it is kept for the audit."""

    line: str
    """``ssh-ed25519-cert-v01@openssh.com AAAA…``."""
    serial: int
    key_id: str
    authority: str
    """The fingerprint of the key that signed it."""
    begins: int
    until: int
    """Seconds since 1970."""


@dataclass(frozen=True)
class AuthorityKey:
    """One of the authority's keys."""

    number: int
    path: Path
    public_line: str

    @property
    def fingerprint(self) -> str:
        return HostKey.parse(self.public_line).fingerprint


class Authority:
    """The keys of a folder, oldest first; the first is made now if there is none."""

    def __init__(self, folder: Path) -> None:
        """Raises ``ConfigurationError`` where the folder or a key in it can be reached by somebody else."""
        self._folder = folder
        try:
            private_folder(folder)
            if folder.stat().st_uid != os.geteuid():
                raise ConfigurationError(
                    f"The folder of the certificate authority, {folder}, belongs to another account.",
                    advice="Give it to the account that the broker runs as, and to nobody else.",
                )
            if not self.known():
                self.rotate()
        except OSError as e:
            raise ConfigurationError(
                f"The keys of the certificate authority in {folder} cannot be read or made: {e}.",
                advice="Make the folder writable for the broker's account alone.",
            ) from e

    def known(self) -> tuple[AuthorityKey, ...]:
        """Oldest first. Raises ``ConfigurationError`` for one that others can read."""
        found = []
        for path in sorted(self._folder.iterdir()):
            named = _FILE.fullmatch(path.name)
            if named:
                found.append(AuthorityKey(int(named[1]), path, _public_line(_load(path))))
        return tuple(found)

    def trusted_lines(self) -> Sequence[str]:
        """What VMs are to trust: the public keys, oldest first."""
        return tuple(key.public_line for key in self.known())

    def rotate(self) -> AuthorityKey:
        """One more key, the newest."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        number = max((key.number for key in self.known()), default=0) + 1
        path = self._folder / f"ca-{number:04d}"
        data = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        # Beside it first: whoever lists the folder meanwhile sees a whole key or none.
        unfinished = path.with_name(f".{path.name}.new")
        unfinished.unlink(missing_ok=True)
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        return AuthorityKey(number, path, _public_line(_load(path)))

    def retire(self) -> Sequence[str]:
        """Remove all keys but the newest: the fingerprints of those that are gone. What they signed is refused by every VM from
        its next set-up on."""
        *old, _ = self.known()
        for key in old:
            key.path.unlink()
        return [key.fingerprint for key in old]

    def sign(
        self,
        public_line: str,
        *,
        to: str,
        key_id: str,
        serial: int,
        seconds: float,
        now: float,
        trusted: Collection[str],
        terminal: bool = False,
        sources: Sequence[str] = (),
    ) -> Certificate:
        """A certificate for the key of ``public_line``, which only an ed25519 key can be.

        ``to``: a ``principal``. ``trusted``: fingerprints of the keys that the VM trusts. ``sources``: networks from which it may
        be used (CIDR); none: from anywhere. Raises ``BadRequest`` for what is no such key, ``ConfigurationError`` where the VM
        trusts none of our keys.
        """
        from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

        public = _public_key(public_line)
        signing = next((key for key in reversed(self.known()) if key.fingerprint in trusted), None)
        if signing is None:
            raise ConfigurationError("The VM trusts none of the authority's keys.", advice="Set it up anew.")
        begins, until = int(now) - LEAD_SECONDS, int(now + min(seconds, LONGEST))
        builder = (
            SSHCertificateBuilder()
            .public_key(public)
            .serial(serial)
            .type(SSHCertificateType.USER)
            .key_id(key_id.encode("utf-8", "replace"))
            .valid_principals([to.encode("ascii")])
            .valid_after(begins)
            .valid_before(until)
        )
        if sources:
            builder = builder.add_critical_option(b"source-address", ",".join(sources).encode("ascii"))
        if terminal:
            builder = builder.add_extension(b"permit-pty", b"")
        line = builder.sign(_load(signing.path)).public_bytes().decode("ascii")
        return Certificate(line, serial, key_id, signing.fingerprint, begins, until)


def _public_key(line: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    words = line.split()
    if len(line) <= LONGEST_LINE and words[:1] == ["ssh-ed25519"]:
        try:
            found = serialization.load_ssh_public_key(" ".join(words[:2]).encode("ascii"))
        except (ValueError, UnicodeEncodeError):
            found = None
        if isinstance(found, Ed25519PublicKey):
            return found
    raise BadRequest("That is no public key of ed25519.", advice='Send {"public_key": "ssh-ed25519 AAAA…"}.')


def _load(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        # Of the open file, so that nobody can change it in between.
        status = os.fstat(file.fileno())
        data = file.read(16 * 1024)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            f"The key of the certificate authority {path} was not used: others can reach it "
            f"(its mode is {stat.S_IMODE(status.st_mode):04o}).",
            advice="If nobody has read it: give it to the broker's account alone, with mode 0600. Otherwise "
            "make another one (`jupyter dsvm hub rotate`), and remove this one.",
        )
    try:
        key = serialization.load_ssh_private_key(data, None)
    except (ValueError, TypeError) as e:
        raise ConfigurationError(f"The key of the certificate authority {path} cannot be read: {e}.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"The key of the certificate authority {path} is none of ed25519.")
    return key


def _public_line(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode("ascii")
