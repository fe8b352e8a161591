"""Which cloud an endpoint belongs to, and whose token may go there.

Called once by ``client.ArmClient``. Two rules: a real token goes to a named Azure cloud only, over TLS only; and with
any other endpoint a token comes from a file only. So no setting can send a real token anywhere else.

The chain for real clouds asks nobody: explicit environment variables, workload identity, then the Azure CLI. It has
no managed identity, since on a hub's node every user would act as the hub.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import ComputeError, SignInRequired

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential


@dataclass(frozen=True)
class Cloud:
    """One of Azure's clouds. Source: ``azure.mgmt.core.tools.get_arm_endpoints`` and ``azure.identity.AzureAuthorityHosts``."""

    name: str
    endpoint: str
    scope: str
    authority: str


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            "public",
            "https://management.azure.com",
            "https://management.azure.com/.default",
            "login.microsoftonline.com",
        ),
        Cloud(
            "usgov",
            "https://management.usgovcloudapi.net",
            "https://management.core.usgovcloudapi.net/.default",
            "login.microsoftonline.us",
        ),
        Cloud(
            "china",
            "https://management.chinacloudapi.cn",
            "https://management.chinacloudapi.cn/.default",
            "login.chinacloudapi.cn",
        ),
    )
}


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what has to be equal for a token to go along. Raises ValueError for what is no such URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(f"{url!r} is no http or https address")
    return parts.scheme, parts.hostname.lower(), parts.port or {"http": 80, "https": 443}[parts.scheme]


def cloud_of(endpoint: str) -> Cloud | None:
    """The Azure cloud that this endpoint is, exactly; None for every other."""
    return next((cloud for cloud in CLOUDS.values() if origin(cloud.endpoint) == origin(endpoint)), None)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that would carry a token in the clear. Raises ``ComputeError``."""
    try:
        scheme, host, _ = origin(endpoint)
    except ValueError as error:
        raise ComputeError(
            f"AzureCompute.arm_endpoint cannot be used: {error}.",
            advice="Set it to the address of Azure's Resource Manager, or leave it out.",
            code="Configuration",
        ) from None
    if scheme == "http" and not is_loopback(host):
        raise ComputeError(
            f"AzureCompute.arm_endpoint is {endpoint}: a token would go to {host} unencrypted.",
            advice="Use https. Plain http is allowed for addresses of this machine only.",
            code="Configuration",
        )


class TokenFile:
    """A credential that reads its token from a file of ours at each use, so that a new one counts at once.

    Raises ``SignInRequired`` if there is none, ``ComputeError`` if others could read it.
    """

    # Less than the five minutes before expiry at which azure-core asks for a new token, hence read at every request.
    _LIFETIME = 60

    def __init__(self, path: str) -> None:
        self.path = os.path.expanduser(path)

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        from azure.core.credentials import AccessToken

        return AccessToken(self.read(), int(time.time()) + self._LIFETIME)

    def read(self) -> str:
        advice = "Write the token there with mode 0600, or unset AzureCompute.arm_endpoint to use Azure itself."
        try:
            with open(self.path, encoding="ascii") as file:
                # Of the open file, so that nobody can change it in between.
                status = os.fstat(file.fileno())
                token = file.read(65536).strip()
        except (OSError, ValueError) as error:
            raise SignInRequired(f"Could not read the token in {self.path}: {error}.", advice=advice) from None
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise ComputeError(
                f"The token in {self.path} was not used: other users of this machine can reach that file.",
                advice=f"Make it yours alone: chmod 600 {self.path}",
                code="Configuration",
            )
        if not token:
            raise SignInRequired(f"The token file {self.path} is empty.", advice=advice)
        return token

    def close(self) -> None:
        """Nothing is held open."""


def credential_for(endpoint: str, token_file: str) -> TokenCredential:
    """The credential for this endpoint, by the two rules above. Builds only; asks for no token."""
    cloud = cloud_of(endpoint)
    if cloud is not None:
        return _silent_chain(cloud)
    if not token_file:
        raise SignInRequired(
            f"There is no token for {endpoint}, which is no Azure cloud.",
            advice="Set AzureCompute.token_file to a file (mode 0600) with a token for it.",
        )
    return TokenFile(token_file)


def _silent_chain(cloud: Cloud) -> TokenCredential:
    from azure.identity import (
        AzureCliCredential,
        ChainedTokenCredential,
        EnvironmentCredential,
        WorkloadIdentityCredential,
    )

    chain: list[TokenCredential] = [EnvironmentCredential(authority=cloud.authority)]
    if all(os.environ.get(v) for v in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")):
        chain.append(WorkloadIdentityCredential(authority=cloud.authority))
    chain.append(AzureCliCredential())
    return ChainedTokenCredential(*chain)
