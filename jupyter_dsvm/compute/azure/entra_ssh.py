"""Signing in to a VM as the person who signed in to Azure: an SSH certificate of Entra's, good for about an hour.

Needs the AADSSHLoginForLinux extension on the VM and a role *Virtual Machine User Login* on it; nothing is put there. The key
pair is RSA (Entra takes no other), made for this process and in its memory only. Request and answer are those of the Azure
CLI's ``az ssh`` (azure-cli-extensions, src/ssh/azext_ssh/custom.py). Called by ``provider.ssh_target`` on worker threads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ComputeError

if TYPE_CHECKING:
    import paramiko

SCOPES = {
    "public": "https://pas.windows.net/CheckMyAccess/Linux/.default",
    "usgov": "https://pasff.usgovcloudapi.net/CheckMyAccess/Linux/.default",
    "china": "https://pas.chinacloudapi.cn/CheckMyAccess/Linux/.default",
}
"""By cloud; an endpoint that is no cloud has the public one's."""

CERTIFICATE = "ssh-rsa-cert-v01@openssh.com"

SOON = 300.0
"""Seconds before its end at which a certificate is renewed: a connect takes some of them."""

LONGEST = 64 * 1024

PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")

Ask = Callable[[str, dict[str, str], str], str]
"""Scope, request data and tenant to the access token: ``signin.SignIn.ssh_certificate``."""


@dataclass(frozen=True)
class Certificate:
    user: str
    """Its first principal, as which to sign in."""
    until: float
    key: paramiko.PKey


class EntraSSH:
    """One key pair, and a certificate for it per tenant. May be called from any thread; asks Entra about once an hour."""

    def __init__(self, ask: Ask, cloud: str) -> None:
        self._ask = ask
        self._scope = SCOPES.get(cloud, SCOPES["public"])
        self._lock = threading.Lock()  # held while Entra is asked
        self._stale = threading.Event()
        self._private: Any = None
        self._known: dict[str, Certificate] = {}

    def certificate(self, tenant: str = "") -> Certificate:
        """Raises ``SignInRequired`` if nobody signed in here with a code, ``ComputeError`` for an answer that is none."""
        with self._lock:
            if self._stale.is_set():
                self._stale.clear()
                self._private = None
                self._known.clear()
            known = self._known.get(tenant)
            if known is None or known.until - SOON < time.time():
                known = self._known[tenant] = self._new(tenant)
            return known

    def forget(self) -> None:
        """Somebody else is signed in now, or nobody. Does not block."""
        self._stale.set()

    def _new(self, tenant: str) -> Certificate:
        from cryptography.hazmat.primitives.asymmetric import rsa

        if self._private is None:
            self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self._private.public_key().public_numbers()
        body = self._ask(self._scope, request_data(numbers.n, numbers.e), tenant)
        return read(body, self._private)


def request_data(n: int, e: int) -> dict[str, str]:
    """What the token request has beside the usual: the public key to certify."""
    modulus, exponent = _base64url(n), _base64url(e)
    kid = hashlib.sha256((modulus + exponent).encode()).hexdigest()
    jwk = {"kty": "RSA", "n": modulus, "e": exponent, "kid": kid}
    return {"token_type": "ssh-cert", "req_cnf": json.dumps(jwk), "key_id": kid}


def read(body: str, private: Any) -> Certificate:
    """The certificate that an access token is. Raises ``ComputeError`` unless it is one for that key, with a principal."""
    from cryptography.hazmat.primitives import serialization

    from ...ssh.library import paramiko

    try:
        if len(body) > LONGEST:
            raise ValueError("it is too long")
        base64.b64decode(body, validate=True)
        line = f"{CERTIFICATE} {body}"
        found = serialization.load_ssh_public_identity(line.encode())
        if not isinstance(found, serialization.SSHCertificate) or found.public_key() != private.public_key():
            raise ValueError("it is for another key")
        user = next((p.decode() for p in found.valid_principals), "").lower()  # as ``az ssh`` does
        if not PRINCIPAL.fullmatch(user):
            raise ValueError("it names nobody that could sign in")
    except (ValueError, binascii.Error, TypeError) as error:
        raise ComputeError(
            f"Entra answered something that is no SSH certificate: {error}.",
            advice="Use a key instead: set AzureCompute.entra_ssh to False.",
            code="BadCertificate",
        ) from None
    key = paramiko.RSAKey(key=private)
    key.load_certificate(line)
    return Certificate(user, float(found.valid_before), key)


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
