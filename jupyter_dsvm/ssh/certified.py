"""A key in memory with its certificate, for paramiko and, where OpenSSH's client has to have it, as a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .keys import write_private

if TYPE_CHECKING:
    import paramiko


def ed25519(private: Any, certificate: str) -> paramiko.PKey:
    """``private``: cryptography's ``Ed25519PrivateKey``. ``certificate``: its line. Raises ``ValueError`` or paramiko's
    ``SSHException`` for what is none."""
    from cryptography.hazmat.primitives import serialization

    from .library import paramiko

    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()

    class Certified(paramiko.Ed25519Key):
        def write_private_key_file(self, filename: Any, *arguments: Any, **others: Any) -> None:
            # paramiko writes none of this type.
            write_private(Path(filename), text.encode())

    key = Certified(file_obj=io.StringIO(text))
    key.load_certificate(certificate)
    return key
