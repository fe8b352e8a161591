"""The emulated Microsoft Entra over https: discovery, device codes, tokens, and the pages on which a person enters a code or logs
in to a web application.

Shapes are those of https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code and of recorded answers, so that
MSAL and azure-identity work with it unchanged. It answers under the names of its certificate only. No request here can bring the
emulator's secret, as none brings one to Entra: who may ask for a code knows the application's id, which ``app`` makes up.
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from tornado import httpserver, netutil, web

from .aadsts import Refused
from .certificates import LOOPBACK, new_certificate
from .directory import ANY_TENANT, Directory, Json

CLOUDS = (
    ("login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"),
    ("login.partner.microsoftonline.cn", "login.chinacloudapi.cn"),
    ("login.microsoftonline.us", "login.usgovcloudapi.net"),
)
DEVICE_PAGE = "/common/oauth2/deviceauth"


class _Handler(web.RequestHandler):
    def initialize(self, directory: Directory, hosts: Collection[str]) -> None:
        self.directory = directory
        self.hosts = hosts

    def prepare(self) -> None:
        name = urlsplit(f"//{self.request.host}").hostname
        if name not in self.hosts:
            raise web.HTTPError(403, "This server answers to its own names only.")

    @property
    def base(self) -> str:
        return f"https://{self.request.host}"

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store, no-cache")
        self.set_header("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("x-ms-request-id", str(uuid.uuid4()))

    def answer(self, body: Json, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(body))

    def refuse(self, refused: Refused) -> None:
        """Entra's error body."""
        trace, now = str(uuid.uuid4()), f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%SZ}"
        correlation = self.request.headers.get("client-request-id", str(uuid.uuid4()))
        self.answer(
            {
                "error": refused.word,
                "error_description": f"AADSTS{refused.number}: {refused.text} Trace ID: {trace} Correlation ID: "
                f"{correlation} Timestamp: {now}",
                "error_codes": [refused.number],
                "timestamp": now,
                "trace_id": trace,
                "correlation_id": correlation,
                "error_uri": f"{self.base}/error?code={refused.number}",
            },
            refused.status,
        )

    @property
    def form(self) -> dict[str, str]:
        return {name: self.get_body_argument(name, "") for name in self.request.body_arguments}


class _OpenIdConfiguration(_Handler):
    def get(self, tenant: str) -> None:
        try:
            tenant = self.directory.tenant(tenant)
        except Refused as refused:
            self.refuse(refused)
            return
        base = f"{self.base}/{tenant}"
        self.answer(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": f"{self.base}/{'{tenantid}' if tenant in ANY_TENANT else tenant}/v2.0",
                "request_uri_parameter_supported": False,
                "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "http_logout_supported": True,
                "frontchannel_logout_supported": True,
                "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
                "claims_supported": ["sub", "iss", "aud", "exp", "iat", "name", "tid", "preferred_username", "oid"],
                "tenant_region_scope": None if tenant in ANY_TENANT else "EU",
                "cloud_instance_name": "microsoftonline.com",
                "cloud_graph_host_name": "graph.windows.net",
                "msgraph_host": "graph.microsoft.com",
                "rbac_url": "https://pas.windows.net",
            }
        )


class _InstanceDiscovery(_Handler):
    """Which authority hosts exist. This one knows itself beside Azure's."""

    def get(self) -> None:
        asked = urlsplit(self.get_query_argument("authorization_endpoint", ""))
        own = self.request.host.lower()
        # MSAL leaves the port out.
        known = {own, own.partition(":")[0], *(host for cloud in CLOUDS for host in cloud)}
        if asked.scheme != "https" or asked.netloc.lower() not in known:
            self.refuse(Refused(50049))
            return
        clouds: list[tuple[str, ...]] = list(CLOUDS)
        if not any(own in cloud for cloud in CLOUDS):
            clouds.append((own, own.partition(":")[0]))
        host = asked.netloc if asked.netloc.lower() != own.partition(":")[0] else own
        tenant = asked.path.strip("/").partition("/")[0] or "common"
        self.answer(
            {
                "tenant_discovery_endpoint": f"https://{host}/{tenant}/v2.0/.well-known/openid-configuration",
                "api-version": self.get_query_argument("api-version", "1.1"),
                "metadata": [
                    {"preferred_network": c[0], "preferred_cache": c[min(1, len(c) - 1)], "aliases": list(c)}
                    for c in clouds
                ],
            }
        )


class _Keys(_Handler):
    def get(self, tenant: str) -> None:
        self.answer({"keys": []})


class _DeviceCode(_Handler):
    def post(self, tenant: str) -> None:
        form = self.form
        try:
            answer = self.directory.device_code(tenant, form.get("client_id", ""), form.get("scope", ""))
        except Refused as refused:
            self.refuse(refused)
            return
        page = f"{self.base}{DEVICE_PAGE}"
        answer["verification_uri"] = page
        answer["message"] = (
            f"To sign in, use a web browser to open the page {page} and enter the code {answer['user_code']} to authenticate."
        )
        self.answer(answer)


class _Token(_Handler):
    def post(self, tenant: str) -> None:
        try:
            answer = self.directory.token(tenant, self.form, self.base)
        except Refused as refused:
            self.refuse(refused)
            return
        self.answer(answer)


class _LoginPage(_Handler):
    """Where a person logs in to a web application: an account to choose, and back to the application."""

    def get(self, tenant: str) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        # The form's answer leads to the application's own address.
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        buttons = "".join(
            f"<p><button name=account value={html.escape(p.username, quote=True)!r}>{html.escape(p.username)}</button>"
            for p in self.directory.people
        )
        self.finish(
            "<!doctype html><html lang=en><title>Log in (emulated)</title><h1>Pick an account</h1>"
            f"<form method=post>{buttons}</form></html>"
        )

    def post(self, tenant: str) -> None:
        asked = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        try:
            self.redirect(self.directory.login(tenant, asked, self.get_body_argument("account", "")))
        except Refused as refused:
            self.refuse(refused)
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from None


class _DevicePage(_Handler):
    """Where a person enters the code: an account to choose, and yes or no."""

    def get(self) -> None:
        self._page("")

    def post(self) -> None:
        form = self.form
        declined = form.get("answer") == "no"
        try:
            self.directory.enter(form.get("code", ""), form.get("account", ""), refuse=65004 if declined else None)
        except ValueError as error:
            self.set_status(400)
            self._page(f"{error}.".capitalize())
        else:
            self._page("You declined." if declined else "You have signed in. You may now close this window.")

    def _page(self, said: str) -> None:
        accounts = "".join(f"<option>{html.escape(p.username)}</option>" for p in self.directory.people)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; form-action 'self'")
        self.finish(
            "<!doctype html><html lang=en><title>Sign in (emulated)</title><h1>Enter code</h1>"
            f"<p role=status>{html.escape(said)}</p><form method=post><p><label>Code <input name=code autocomplete=off></label>"
            f"<p><label>Account <select name=account>{accounts}</select></label>"
            "<p><button name=answer value=yes>Sign in</button> <button name=answer value=no>Decline</button></form></html>"
        )


class _Nothing(_Handler):
    def prepare(self) -> None:
        super().prepare()
        raise web.HTTPError(404)


class EntraServer:
    """Serves a directory on a port of its own on loopback, from ``start`` to ``stop``, on the running event loop."""

    def __init__(self, directory: Directory, hosts: Collection[str] = LOOPBACK) -> None:
        """``hosts`` are the names of the certificate."""
        certificate = new_certificate(tuple(hosts))
        self.directory = directory
        self.authority_pem = certificate.authority_pem
        arguments: dict[str, Any] = {"directory": directory, "hosts": frozenset(hosts)}
        routes = [
            (r"/([^/]+)/v2\.0/\.well-known/openid-configuration", _OpenIdConfiguration),
            (r"/common/discovery/instance", _InstanceDiscovery),
            (r"/([^/]+)/discovery/v2\.0/keys", _Keys),
            (r"/([^/]+)/oauth2/v2\.0/devicecode", _DeviceCode),
            (r"/([^/]+)/oauth2/v2\.0/token", _Token),
            (r"/([^/]+)/oauth2/v2\.0/authorize", _LoginPage),
            (DEVICE_PAGE, _DevicePage),
            (r".*", _Nothing),
        ]
        application = web.Application(
            [(pattern, handler, arguments) for pattern, handler in routes], log_function=lambda handler: None
        )
        self._server = httpserver.HTTPServer(
            application, ssl_options=certificate.context, max_body_size=1 << 16, max_header_size=1 << 16
        )
        self._sockets = netutil.bind_sockets(0, "127.0.0.1")
        self.port: int = self._sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}"

    def start(self) -> None:
        self._server.add_sockets(self._sockets)

    async def stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()
