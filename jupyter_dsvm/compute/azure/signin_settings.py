"""What ``AzureCompute``'s options say about signing in, and the rule that keeps real tokens with Azure. Pure.

A named cloud's people sign in at its own authority, and a named cloud's authority is for that cloud's endpoint alone: else a real
token could be asked for and sent to some other endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigurationError
from .credentials import CLOUDS, Cloud, check_endpoint, cloud_of, origin

AZURE_CLI_APP = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
"""The Azure CLI's application, which every tenant knows; azure-identity's default too."""


@dataclass(frozen=True)
class Authority:
    """Where people sign in."""

    host: str
    """With a port, where it is not 443."""
    aliases: frozenset[str] = frozenset()
    """Other hosts of the same cloud, to which its answers may point."""
    known: bool = False
    """One of Azure's clouds; for any other nobody is asked whether it exists (instance discovery)."""
    ca_file: str = ""
    """Certificates to trust for it instead of the computer's own."""


@dataclass(frozen=True)
class SignInSettings:
    """From the options of the same names; ``endpoint`` is ``arm_endpoint``."""

    endpoint: str
    token_file: str = ""
    authority: str = ""
    authority_ca_file: str = ""
    tenant: str = ""
    client_id: str = ""
    managed_identity: str = ""
    hub_sign_in: bool = False

    def check(self) -> None:
        """Raises ``ConfigurationError``, and ``ComputeError`` for an endpoint that no token may go to."""
        check_endpoint(self.endpoint)
        if not self.authority:
            return
        try:
            scheme, host, _ = origin(self.authority)
        except ValueError as error:
            raise ConfigurationError(f"AzureCompute.authority cannot be used: {error}.") from None
        host = host.rstrip(".")  # the same host, as DNS and TLS see it
        owner = next((c for c in CLOUDS.values() if host in {c.authority, *c.aliases}), None)
        if scheme != "https" or owner is not self.cloud:
            raise ConfigurationError(
                f"AzureCompute.authority is {self.authority}, which does not go with the endpoint {self.endpoint}.",
                advice="Leave it out for Azure's own clouds (AzureCompute.cloud chooses one). For another endpoint it is the https "
                "address of that endpoint's own authority.",
            )

    @property
    def cloud(self) -> Cloud | None:
        return cloud_of(self.endpoint)

    @property
    def cloud_name(self) -> str | None:
        return self.cloud.name if self.cloud else None

    @property
    def scope(self) -> str:
        """What a token is asked for."""
        return self.cloud.scope if self.cloud else f"{self.endpoint.rstrip('/')}/.default"

    @property
    def can_prompt(self) -> bool:
        """Whether people can sign in by code."""
        return self.cloud is not None or bool(self.authority)

    @property
    def sign_in_authority(self) -> Authority:
        """Only where ``can_prompt``."""
        if self.cloud is not None:
            return Authority(self.cloud.authority, frozenset(self.cloud.aliases), True, self.authority_ca_file)
        _, host, port = origin(self.authority)
        return Authority(host if port == 443 else f"{host}:{port}", ca_file=self.authority_ca_file)
