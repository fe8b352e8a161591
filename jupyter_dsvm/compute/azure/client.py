"""The way to Azure's Resource Manager: one pipeline for plain requests and for azure-mgmt-compute.

Made by the provider at the first request, on a worker thread; this module imports azure-core when it is imported, so
nothing imports it before that. The pipeline is spelled out rather than azure-mgmt-core's default, because of three
things which that one does: it follows redirects, it sleeps as long as ``Retry-After`` says (the compute service says
up to 1,200 s), and it registers resource providers in the user's subscription.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from azure.core.credentials import AccessToken
from azure.core.exceptions import DecodeError, HttpResponseError
from azure.core.pipeline import Pipeline, PipelineRequest, PipelineResponse, policies
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy, ARMHttpLoggingPolicy

from ...errors import ComputeError
from .credentials import check_endpoint, cloud_of, credential_for, is_loopback, origin
from .errors import translated

if TYPE_CHECKING:
    from azure.mgmt.compute import ComputeManagementClient

CONNECTIONS = 32
"""That are kept open: a hub's broker asks on so many threads. The default is 10, with a warning for each that is one too many."""

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
VM_API = "2024-07-01"
"""For reading; azure-mgmt-compute has its own, whose shapes are the same in what is read here."""
PATIENCE = 5.0
"""Seconds: a ``Retry-After`` up to this is waited for in silence; a longer one becomes an error that names it."""


class SameEndpoint(policies.SansIOHTTPPolicy[Any, Any]):
    """Refuses every request to another scheme, host or port than the endpoint's, before a token is fetched for it.

    A ``nextLink``, ``Location`` or ``Azure-AsyncOperation`` comes from the other side. It stands after the retry
    policy and before authentication, so no token ever goes to another host.
    """

    def __init__(self, endpoint: str) -> None:
        self._origin = origin(endpoint)
        self._plain = self._origin[0] == "http" and is_loopback(self._origin[1])

    def on_request(self, request: PipelineRequest[Any]) -> None:
        try:
            same = origin(request.http_request.url) == self._origin
        except ValueError:
            same = False
        if not same:
            raise ComputeError(
                f"A request to {request.http_request.url.partition('?')[0]} was refused: the answer from "
                f"{self._origin[1]} pointed there, and a token would have gone along.",
                advice="Check AzureCompute.arm_endpoint and AzureCompute.cloud.",
                code="ForeignAddress",
            )
        if self._plain:
            # azure-core sends no token without TLS; on this machine's own loopback there is nobody in between.
            request.context.options["enforce_https"] = False


class BriefRetry(policies.RetryPolicy[Any, Any]):
    """Twice, for what only reads, and never longer than ``PATIENCE``: what costs money is asked for once."""

    def __init__(self) -> None:
        super().__init__(retry_total=2, retry_backoff_factor=0.4, retry_backoff_max=PATIENCE)

    def _is_method_retryable(self, settings: dict[str, Any], request: Any, response: Any = None) -> bool:
        return request.method.upper() in {"GET", "HEAD"}

    def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
        after = self.get_retry_after(response)
        if response.http_request.method.upper() not in {"GET", "HEAD"} or (after is not None and after > PATIENCE):
            return False
        return bool(super().is_retry(settings, response))


class WhenRefused(policies.SansIOHTTPPolicy[Any, Any]):
    """Tells who gave the token that it was refused, as a revoked one is: the next is a new one, or there is none. A refusal
    with claims is answered by the policy before this one."""

    def __init__(self, credential: Any) -> None:
        self._told = getattr(credential, "refused", None)

    def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
        answer = response.http_response
        if answer.status_code == 401 and "claims=" not in (answer.headers.get("WWW-Authenticate") or "") and self._told:
            self._told()


class InTenant:
    """A credential whose tokens are for another tenant than the one that the account is in."""

    def __init__(self, credential: Any, tenant: str) -> None:
        self._credential, self._tenant = credential, tenant

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        found: AccessToken = self._credential.get_token(*scopes, **{**options, "tenant_id": self._tenant})
        return found

    def refused(self) -> None:
        told = getattr(self._credential, "refused", None)
        if told is not None:
            told(self._tenant)

    def close(self) -> None:
        close = getattr(self._credential, "close", None)
        if close is not None:
            close()


class ArmClient:
    """Requests to one endpoint as one tenant's account. Thread-safe: workers share it."""

    def __init__(self, endpoint: str, token_file: str = "", tenant: str = "", credential: Any = None) -> None:
        """``credential`` takes the place of what asks nobody (``credentials``).

        Raises ``ComputeError`` or ``SignInRequired`` if no token may or can go to that endpoint.
        """
        check_endpoint(endpoint)
        self.endpoint = endpoint.rstrip("/")
        self._credential: Any = credential or credential_for(endpoint, token_file)
        if tenant:
            self._credential = InTenant(self._credential, tenant)
        cloud = cloud_of(endpoint)
        self._scope = cloud.scope if cloud else f"{self.endpoint}/.default"
        scheme, _, _ = origin(endpoint)
        transport = RequestsTransport(
            connection_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            # With plain http a proxy from the environment would see the token.
            use_env_settings=scheme == "https",
        )
        transport.open()
        for adapter in transport.session.adapters.values():
            adapter.init_poolmanager(CONNECTIONS, CONNECTIONS)
        # Else a password of ~/.netrc takes the token's place (its "default" line: for every host).
        transport.session.auth = lambda request: request
        self._pipeline: Pipeline[Any, Any] = Pipeline(
            transport,
            [
                policies.RequestIdPolicy(),
                policies.HeadersPolicy(),
                policies.UserAgentPolicy("jupyter-dsvm"),
                policies.ContentDecodePolicy(),
                BriefRetry(),
                SameEndpoint(self.endpoint),
                ARMChallengeAuthenticationPolicy(self._credential, self._scope),
                WhenRefused(self._credential),
                ARMHttpLoggingPolicy(),
            ],
        )
        self._arm: ARMPipelineClient[Any, Any] = ARMPipelineClient(self.endpoint, policies=[], pipeline=self._pipeline)
        self._compute: dict[str, ComputeManagementClient] = {}
        self._lock = threading.Lock()  # protects _compute

    def get(self, path: str, api_version: str, **query: str) -> dict[str, Any]:
        """``query`` is what else goes into the address, such as ``filter`` for ``$filter``."""
        parameters = {"api-version": api_version, **{f"${name}": value for name, value in query.items()}}
        return self._send(HttpRequest("GET", self._url(path), params=parameters))

    def post(self, path: str, api_version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.ask(path, api_version, body)[0]

    def ask(self, path: str, api_version: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """A POST, with the headers of its answer."""
        request = HttpRequest("POST", self._url(path), params={"api-version": api_version}, json=body)
        response = self._answered(request)
        return _json(response), response.headers

    def read(self, address: str) -> Any:
        """The answer to a GET of an address that the other side has given out, whatever its status: the operation's. Raises
        azure-core's errors where there is none, and ours for an address at another host."""
        return self._arm.send_request(HttpRequest("GET", address))

    def send(
        self, method: str, path: str, api_version: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """A request that changes something: status, body (empty where there is none) and headers of its answer."""
        request = HttpRequest(method, self._url(path), params={"api-version": api_version}, json=body)
        response = self._answered(request)
        return response.status_code, _json(response) if response.text().strip() else {}, response.headers

    def pages(self, path: str, api_version: str, **query: str) -> Iterator[dict[str, Any]]:
        """The items of an ARM list, following ``nextLink`` as far as it stays with the endpoint and leads on."""
        answer = self.get(path, api_version, **query)
        followed: set[str] = set()
        while True:
            items = answer.get("value") or []
            if not isinstance(items, list):
                raise DecodeError("The list has no items")
            yield from (item for item in items if isinstance(item, dict))
            link = answer.get("nextLink")
            if not link:
                return
            if not isinstance(link, str) or link in followed:
                raise DecodeError("The list leads back to a page that was read already")
            followed.add(link)
            answer = self._send(HttpRequest("GET", link))

    def machine(self, subscription: str, group: str, name: str) -> dict[str, Any]:
        """A VM's model with its instance view."""
        return self.get(_vm_path(subscription, group, name), VM_API, expand="instanceView")

    def instance_view(self, subscription: str, group: str, name: str) -> dict[str, Any]:
        """Only what state it is in."""
        return self.get(f"{_vm_path(subscription, group, name)}/instanceView", VM_API)

    def virtual_machines(self, subscription: str) -> Any:
        """azure-mgmt-compute's operations on the VMs of a subscription, over this pipeline: for what changes something."""
        return self._client(subscription).virtual_machines

    def extensions(self, subscription: str) -> Any:
        """Those on their extensions."""
        return self._client(subscription).virtual_machine_extensions

    def _client(self, subscription: str) -> ComputeManagementClient:
        # Its models take 15 MB of memory, which whoever only looks and attaches need not have.
        from azure.mgmt.compute import ComputeManagementClient

        with self._lock:
            client = self._compute.get(subscription)
            if client is None:
                client = self._compute[subscription] = ComputeManagementClient(
                    self._credential, subscription, base_url=self.endpoint, policies=[], pipeline=self._pipeline
                )
            return client

    def close(self) -> None:
        self._arm.close()
        close = getattr(self._credential, "close", None)
        if close is not None:
            close()

    def _url(self, path: str) -> str:
        return f"{self.endpoint}/{path.lstrip('/')}"

    def _send(self, request: HttpRequest) -> dict[str, Any]:
        return _json(self._answered(request))

    def _answered(self, request: HttpRequest) -> Any:
        """Raises azure-core's errors; callers are in ``errors.translated``."""
        response = self._arm.send_request(request)
        response.raise_for_status()
        if response.status_code >= 300:
            raise HttpResponseError(response=response)
        return response

    def translated(self, what: str) -> Any:
        """``errors.translated`` with this endpoint."""
        return translated(what, self.endpoint)


def _vm_path(subscription: str, group: str, name: str) -> str:
    return (
        f"subscriptions/{quote(subscription, safe='')}/resourceGroups/{quote(group, safe='')}"
        f"/providers/Microsoft.Compute/virtualMachines/{quote(name, safe='')}"
    )


def _json(response: Any) -> dict[str, Any]:
    try:
        body = response.json()
    except (json.JSONDecodeError, RecursionError) as error:
        raise DecodeError(f"No JSON: {error}") from error
    if not isinstance(body, dict):
        raise DecodeError("No JSON object")
    return body
