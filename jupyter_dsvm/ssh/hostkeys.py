"""Which host keys a machine may show. Checked before anything secret is sent; nothing is ever accepted unseen.

Two sources, never mixed. A target with ``pinned_key_id`` (a VM, by its ``vmId``) is held against our own file, since
its address changes whenever it is deallocated and means nothing. Any other target is a machine that the user knows
already, and is held against OpenSSH's ``known_hosts`` by address and port.

The files are read here and not by ``paramiko.HostKeys``, which keeps one key per name and type, does not know
``@revoked``, and would be imported for it.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError, HostKeyError
from ..models import SSHTarget
from .keys import write_private

SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", SYSTEM_KNOWN_HOSTS)

ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Host key type to the signature algorithms asked for, best first; SHA-1 signatures are not among them."""


@dataclass(frozen=True)
class HostKey:
    """The public key of a machine."""

    type: str
    blob: bytes

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From ``ssh-ed25519 AAAA… comment``, as in a ``.pub`` file. Raises ``ValueError``."""
        fields = line.split()
        if len(fields) < 2:
            raise ValueError("it is not of the form `type base64`")
        try:
            blob = base64.b64decode(fields[1], validate=True)
        except binascii.Error as e:
            raise ValueError(f"its second word is not base64: {e}") from None
        size = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + size] != fields[0].encode():
            raise ValueError("its base64 is of another type than it says")
        return cls(fields[0], blob)

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


@dataclass(frozen=True)
class _Entry:
    marker: str
    hosts: str
    key: HostKey

    def matches(self, name: str) -> bool:
        """sshd(8), SSH_KNOWN_HOSTS FILE FORMAT: patterns with ``*`` and ``?``, where ``!`` excludes; or one hash."""
        if self.hosts.startswith("|1|"):
            return _hashed_name_is(self.hosts, name)
        found = False
        for pattern in self.hosts.lower().split(","):
            # Only * and ? are special there; fnmatch also knows [, which stands for itself in [host]:port.
            if fnmatch.fnmatchcase(name, pattern.lstrip("!").replace("[", "[[]")):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


class HostKeys:
    """Shared by all connections of a process; methods may be called from any thread and block on files only."""

    def __init__(
        self,
        pins: str | Path | None = None,
        known_hosts: Sequence[str | Path] = KNOWN_HOSTS,
        configured: str | Path | None = None,
    ) -> None:
        """``pins``: our own file, 0600 in a 0700 folder; by default under Jupyter's data folder. ``configured``: a file of
        whoever administers this server, in the same form and never written: a machine that is in it has those keys."""
        self._pins = None if pins is None else Path(pins)
        self._configured = None if configured is None else Path(configured).expanduser()
        self._known_hosts = tuple(Path(p).expanduser() for p in known_hosts)
        self._lock = threading.Lock()

    @property
    def pins(self) -> Path:
        if self._pins is None:
            from jupyter_core.paths import jupyter_data_dir

            self._pins = Path(jupyter_data_dir()) / "jupyter-dsvm" / "known_hosts"
        return self._pins

    def pin(self, key_id: str, *key_lines: str) -> None:
        """From now on exactly these keys are the machine's.

        Called with what a trusted channel (ARM, the configuration) said; ``key_lines`` are lines of ``.pub`` files.
        Raises ``ConfigurationError``.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", key_id):
            raise ConfigurationError(f"Host keys cannot be pinned under the name {key_id!r}.")
        if self.configured_for(key_id):
            raise ConfigurationError(
                f"The host keys of {key_id} are in {self._configured}, which is not changed.",
                advice="Change them there.",
            )
        try:
            keys = [HostKey.parse(line) for line in key_lines]
        except ValueError as e:
            raise ConfigurationError(
                f"A host key given for {key_id} cannot be used: {e}.",
                advice="Give the lines of the machine's /etc/ssh/ssh_host_*_key.pub.",
            ) from None
        self._keep(key_id, keys)

    def unpin(self, key_id: str) -> None:
        """Forget what was pinned for a machine. Raises ``ConfigurationError``."""
        self._keep(key_id, [])

    def pinned(self, key_id: str) -> list[HostKey]:
        """What our own file has for it."""
        return [e.key for e in _read([self.pins]) if e.hosts == key_id]

    def configured_for(self, key_id: str) -> bool:
        """Whether the administrator's file says which keys it has."""
        return self._configured is not None and any(e.hosts == key_id for e in _read([self._configured]))

    def _keep(self, key_id: str, keys: Sequence[HostKey]) -> None:
        with self._lock:
            try:
                lines = self.pins.read_text().splitlines() if self.pins.exists() else []
                kept = [line for line in lines if line.split(maxsplit=1)[:1] != [key_id]]
                new = [*kept, *(f"{key_id} {key.line}" for key in keys)]
                if new != lines:
                    write_private(self.pins, "".join(line + "\n" for line in new).encode())
            except OSError as e:
                raise ConfigurationError(
                    f"The host keys of {key_id} cannot be kept in {self.pins}: {e}.",
                    advice="Make that folder writable for this account.",
                ) from e

    def known(self, target: SSHTarget) -> list[HostKey]:
        """The keys that ``target`` may show."""
        return [e.key for e in self._entries(target) if not e.marker]

    def algorithms(self, target: SSHTarget) -> tuple[str, ...]:
        """Which host key algorithms to ask for, in this order.

        Those of known keys come first, so that a machine with several keys shows a known one.
        """
        known = {key.type for key in self.known(target)}
        ordered = sorted(ALGORITHMS, key=lambda kind: kind not in known)
        return tuple(algorithm for kind in ordered for algorithm in ALGORITHMS[kind])

    def verify(self, target: SSHTarget, key: HostKey) -> None:
        """Raises ``HostKeyError`` unless ``key`` is known. Called between key exchange and authentication."""
        entries = self._entries(target)
        if any(e.marker == "@revoked" and e.key == key for e in entries):
            raise HostKeyError(
                f"{target.name} at {_address(target)} shows a host key that is marked as revoked: {key}.",
                advice="Do not connect; ask whoever runs the machine for its present key.",
                code="HostKeyRevoked",
            )
        known = [e.key for e in entries if not e.marker]
        if key in known:
            return
        if known:
            raise HostKeyError(
                f"The host key of {target.name} at {_address(target)} has changed. It shows {key}; "
                f"known is {', '.join(map(str, known))}. The machine may have been replaced, or someone is in between.",
                advice=f"Nothing was sent to it. If the machine was replaced, {self._how_to_forget(target)}",
                code="HostKeyChanged",
            )
        raise HostKeyError(
            f"The host key of {target.name} at {_address(target)} is not known: {key}.",
            advice="Nothing was sent to it. Compare the fingerprint with what `ssh-keygen -lf "
            f"/etc/ssh/ssh_host_{_short(key)}_key.pub` prints on the machine; {self._how_to_accept(target, key)}",
            code="HostKeyUnknown",
        )

    def _entries(self, target: SSHTarget) -> list[_Entry]:
        if target.pinned_key_id is not None:
            return [e for e in _read([self._pins_of(target)]) if e.hosts == target.pinned_key_id]
        files = self._known_hosts
        if target.known_hosts is not None:
            files = (*map(Path, target.known_hosts), Path(SYSTEM_KNOWN_HOSTS))
        return [e for e in _read(files) if e.matches(_known_as(target))]

    def file_of(self, target: SSHTarget) -> Path:
        """The file that has the keys of a target with ``pinned_key_id``, for OpenSSH's client."""
        return self._pins_of(target)

    def _pins_of(self, target: SSHTarget) -> Path:
        if self._configured is not None and self.configured_for(target.pinned_key_id or ""):
            return self._configured
        return self.pins

    def _how_to_accept(self, target: SSHTarget, key: HostKey) -> str:
        if target.pinned_key_id is not None:
            return f"if they agree, add the line `{target.pinned_key_id} {key.line}` to {self.pins}."
        return f"if they agree, run `{_ssh_command(target)}` once and answer yes."

    def _how_to_forget(self, target: SSHTarget) -> str:
        if target.pinned_key_id is not None:
            if self._pins_of(target) == self._configured or not target.compute.startswith("azure:"):
                return (
                    f"remove the lines of {target.pinned_key_id} from {self._pins_of(target)} "
                    "and compare the new fingerprint."
                )
            return f"`jupyter dsvm access {target.name} --renew-host-key` asks Azure what its host key is now, and says both."
        files = "".join(f" -f {path}" for path in (target.known_hosts or ())[:1])
        return f"run `ssh-keygen -R '{_known_as(target)}'{files}`, then `{_ssh_command(target)}` and compare the new fingerprint."


def _read(files: Iterable[Path]) -> Iterator[_Entry]:
    for path in files:
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue  # not there or not ours to read: then nothing in it is known
        for line in text.splitlines():
            entry = _parse(line)
            if entry is not None:
                yield entry


def _parse(line: str) -> _Entry | None:
    fields = line.split(maxsplit=4)
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3 or marker not in (
        "",
        "@revoked",
    ):  # a @cert-authority vouches for certificates, which are not asked for
        return None
    try:
        return _Entry(marker, fields[0], HostKey.parse(f"{fields[1]} {fields[2]}"))
    except ValueError:
        return None


def _hashed_name_is(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        key, expected = base64.b64decode(salt), base64.b64decode(digest)
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(
        hmac.new(key, name.encode(), hashlib.sha1).digest(), expected
    )  # SHA-1 is the file format's


def _known_as(target: SSHTarget) -> str:
    """As ``known_hosts`` names it."""
    if target.host_key_alias:
        return target.host_key_alias.lower()
    return target.host.lower() if target.port == 22 else f"[{target.host.lower()}]:{target.port}"


def _address(target: SSHTarget) -> str:
    return f"{target.host}, port {target.port}"


def _short(key: HostKey) -> str:
    return {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(key.type, "ecdsa")


def _ssh_command(target: SSHTarget) -> str:
    port = "" if target.port == 22 else f"-p {target.port} "
    return f"ssh {port}{target.user + '@' if target.user else ''}{target.host}"
