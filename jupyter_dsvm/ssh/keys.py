"""Our own key pair: made once, kept 0600, put on VMs as an authorized key and used to sign in there."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError

COMMENT = "jupyter-dsvm"


@dataclass(frozen=True)
class KeyPair:
    private: Path
    public_line: str
    """As it goes into ``authorized_keys``."""


def ensure_key(folder: str | Path) -> KeyPair:
    """The ed25519 pair in ``folder`` (0700), made now if there is none. Called on worker threads.

    Raises ``ConfigurationError`` where the folder cannot be used. Two processes that call this at once get one pair.
    """
    folder = Path(folder).expanduser()
    path = folder / "id_ed25519"
    try:
        private_folder(folder)
        if not path.exists():
            _create(path)
        problem = exposed(path)
        if problem:
            raise ConfigurationError(f"The key {path} {problem}.", advice=f"Run `chmod 600 {path}`.")
        return KeyPair(path, _public_line(path))
    except (OSError, ValueError) as e:
        raise ConfigurationError(
            f"The SSH key in {folder} cannot be made or read: {e}.",
            advice="Make the folder writable for this account, or remove the damaged key so that a new one is made.",
        ) from e


def private_folder(folder: Path) -> None:
    """Make ``folder`` if need be; only this account may look into it afterwards."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step with a 0600 file: whoever reads sees the old or the new one, never a half."""
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def exposed(path: Path) -> str:
    """Why a private key file is not private, as the rest of a sentence; empty if it is. The rule is OpenSSH's."""
    status = path.stat()
    if os.name == "nt":
        return ""
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        return f"can be read by other accounts (its mode is {stat.S_IMODE(status.st_mode):04o})"
    return ""


def _create(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    try:
        os.link(temporary, path)  # unlike a rename it fails where another process was faster
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _public_line(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} {COMMENT}"
