"""Which cloud an endpoint belongs to, and whose token may go there without anybody being asked.

Called by ``signin`` (which adds those who signed in) and ``client.ArmClient``. Two rules: a real token goes to a named Azure
cloud only, over TLS only; and with any other endpoint a token comes from a file, or from the authority that was configured with
that endpoint. So no setting can send a real token anywhere else.

The chain for real clouds asks nobody: explicit environment variables, workload identity, then the Azure CLI. It has no managed
identity unless the administrator configures one, since on a hub's node every user would act as the hub; nor, under a hub, the
workload identity of the user's pod. Where the hub hands over tokens of those who logged in to it (``hub_tokens``), that is the
only way.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import ComputeError, SignInRequired, printable
from .aadsts import SIGN_IN_ADVICE, refusal
from .hub_tokens import METHOD as HUB
from .hub_tokens import HubTokens, under_hub
from .tokens import LETTERS

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken


@dataclass(frozen=True)
class Cloud:
    """One of Azure's clouds. Source: ``azure.mgmt.core.tools.get_arm_endpoints`` and ``azure.identity.AzureAuthorityHosts``."""

    name: str
    endpoint: str
    scope: str
    authority: str
    aliases: tuple[str, ...] = ()
    """Other hosts of the authority, to which its answers may point (its instance discovery names them)."""


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            "public",
            "https://management.azure.com",
            "https://management.azure.com/.default",
            "login.microsoftonline.com",
            ("login.windows.net", "login.microsoft.com", "sts.windows.net"),
        ),
        Cloud(
            "usgov",
            "https://management.usgovcloudapi.net",
            "https://management.core.usgovcloudapi.net/.default",
            "login.microsoftonline.us",
            ("login.usgovcloudapi.net",),
        ),
        Cloud(
            "china",
            "https://management.chinacloudapi.cn",
            "https://management.chinacloudapi.cn/.default",
            "login.chinacloudapi.cn",
            ("login.partner.microsoftonline.cn",),
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
        if not LETTERS.fullmatch(token):
            raise SignInRequired(f"The file {self.path} holds something that is no token.", advice=advice)
        return token

    def close(self) -> None:
        """Nothing is held open."""


WORKLOAD = "workload"
"""Of ``AzureCompute.managed_identity``: the pod's workload identity."""

NOBODY = "nobody is signed in to Azure here"


class SilentChain:
    """The ways in that ask nobody, tried in turn. One that is not set up is passed over; one that is refused ends the search,
    so that a wrong secret does not turn into somebody else's account."""

    def __init__(self, cloud: Cloud, managed_identity: str = "") -> None:
        """``managed_identity`` is ``system``, ``workload`` or a client id; empty: none is tried, but for workload identity where no
        hub has started this server."""
        self._cloud = cloud
        self._managed_identity = managed_identity
        self._credentials: list[tuple[str, Any]] | None = None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return self.find(*scopes, **options)[1]

    def find(self, *scopes: str, **options: Any) -> tuple[str, AccessToken]:
        """The name of the way that worked, and its token. Raises ``SignInRequired``, ``ComputeError``."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import CredentialUnavailableError

        options.pop("enable_cae", None)  # the Azure CLI cannot
        method = "environment"  # the first, which reads its files when it is made
        try:
            for method, credential in self._chain():
                try:
                    return method, credential.get_token(*scopes, **options)
                except CredentialUnavailableError:
                    continue
        except (AzureError, OSError, ValueError) as error:
            tried = f"Could not sign in to Azure ({NAMES[method]})"
            said = printable(str(getattr(error, "message", "") or error), 300)
            if _unanswered(error):
                raise ComputeError(
                    f"{tried}: no answer from {self._cloud.authority}. {said}",
                    advice="Check the network and the proxy settings of this server, then try again.",
                    code="Unreachable",
                ) from None
            if isinstance(error, ClientAuthenticationError):
                raise refusal("", str(error.message), tried) from None
            raise SignInRequired(f"{tried}: {said}", advice=SIGN_IN_ADVICE) from None
        if options.get("claims"):  # to which the Azure CLI answers that it is not set up
            raise SignInRequired(
                "Azure did not take the token that was there (a rule of your organisation, or the account has changed) and "
                "wants a new sign-in.",
                advice=SIGN_IN_ADVICE,
                code="SignInExpired",
            )
        raise SignInRequired(f"Could not sign in to Azure: {NOBODY}.", advice=SIGN_IN_ADVICE)

    def _chain(self) -> list[tuple[str, Any]]:
        from azure.identity import (
            AzureCliCredential,
            EnvironmentCredential,
            ManagedIdentityCredential,
            WorkloadIdentityCredential,
        )

        if self._credentials is None:
            # It warns of each way that is not set up, at every look; what matters is in our own errors.
            noisy = logging.getLogger("azure.identity")
            if noisy.level == logging.NOTSET:
                noisy.setLevel(logging.ERROR)
            # azure-core's own patience is five minutes a try, for which a stopping server would wait.
            where: dict[str, Any] = {
                "authority": self._cloud.authority,
                "connection_timeout": 10,
                "read_timeout": 30,
                "retry_total": 1,
            }
            tenants: dict[str, Any] = {"additionally_allowed_tenants": ["*"]}
            chain: list[tuple[str, Any]] = [("environment", EnvironmentCredential(**where, **tenants))]
            named = all(os.environ.get(v) for v in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"))
            if named and (self._managed_identity == WORKLOAD or not under_hub()):
                chain.append(("workload_identity", WorkloadIdentityCredential(**where, **tenants)))
            if self._managed_identity not in ("", WORKLOAD):
                chosen: dict[str, Any] = (
                    {} if self._managed_identity == "system" else {"client_id": self._managed_identity}
                )
                chain.append(("managed_identity", ManagedIdentityCredential(**chosen)))
            chain.append(("azure_cli", AzureCliCredential(**tenants)))
            self._credentials = chain
        return self._credentials

    def close(self) -> None:
        for _, credential in self._credentials or ():
            credential.close()


NAMES = {
    "environment": "AZURE_CLIENT_ID and its companions in the environment",
    "workload_identity": "workload identity",
    "managed_identity": "managed identity",
    "azure_cli": "Azure CLI",
    HUB: "the hub",
}


def _unanswered(error: BaseException | None) -> bool:
    """Whether nobody was reached: azure-identity wraps that as if it were a refusal."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError

    while error is not None and not isinstance(error, (ServiceRequestError, ServiceResponseError)):
        error = error.__cause__
    return error is not None


def credential_for(
    endpoint: str, token_file: str, managed_identity: str = "", hub: bool = False
) -> SilentChain | TokenFile | HubTokens:
    """The silent credential for this endpoint, by the two rules above. Builds only; asks for no token. ``hub``: the hub hands over
    tokens, each of which says for which endpoint it is."""
    cloud = cloud_of(endpoint)
    if hub:
        return HubTokens(endpoint, cloud.scope if cloud is not None else f"{endpoint.rstrip('/')}/.default")
    if cloud is not None:
        return SilentChain(cloud, managed_identity)
    if not token_file:
        raise SignInRequired(
            f"There is no token for {endpoint}, which is no Azure cloud.",
            advice="Set AzureCompute.token_file to a file (mode 0600) with a token for it.",
        )
    return TokenFile(token_file)
