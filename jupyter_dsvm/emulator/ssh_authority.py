"""The emulated Entra's authority for SSH certificates: VMs with ``entra_login`` trust it. Its key is new at every start."""

from __future__ import annotations

import base64
import json
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

EXTENSIONS = (b"permit-X11-forwarding", b"permit-agent-forwarding", b"permit-port-forwarding", b"permit-pty")


class SSHAuthority:
    def __init__(self) -> None:
        # RSA, as Entra's: then the certificate's signature is one that every sshd knows.
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_line(self) -> str:
        public = self._key.public_key()
        return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()

    def certificate(self, jwk_text: str, principal: str, lifetime: float) -> str:
        """The base64 body of a certificate for the key that was sent. Raises ``ValueError`` and its like for one that is none."""
        jwk = json.loads(jwk_text)
        if jwk["kty"] != "RSA":
            raise ValueError("RSA keys only")
        key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
        now = time.time()
        builder = (
            SSHCertificateBuilder()
            .public_key(key)
            .serial(int(now))
            .type(SSHCertificateType.USER)
            .key_id(principal.encode())
            .valid_principals([principal.encode()])
            .valid_after(int(now) - 300)
            .valid_before(int(now + lifetime))
        )
        for name in EXTENSIONS:
            builder = builder.add_extension(name, b"")
        return builder.sign(self._key).public_bytes().split()[1].decode()


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
