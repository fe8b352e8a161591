"""Signing a running Jupyter server in from a terminal: ``accounts.Accounts`` over that server's REST API.

A sign-in lives in a server's memory, so the command line's own process has little use for one. Called by ``cli`` only.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .compute.provider import Cancel
from .errors import Cancelled, ConfigurationError, DSVMError, SignInRequired
from .models import Problem, SignInState, SignInStatus

TIMEOUT = 90.0
"""Seconds: longer than the server waits for a code."""
LOOK_SECONDS = 1.0


class RemoteAccounts:
    def __init__(self, url: str, token: str) -> None:
        self._root = url.rstrip("/") + "/jupyter-dsvm"
        self.url = self._root + "/signin"
        self._token = token

    def status(self, attempt: str | None = None) -> SignInStatus:
        return self._status(self._ask("GET", attempt))

    def begin(self, tenant: str = "", keep: bool = False) -> SignInStatus:
        return self._status(self._ask("POST", body={"tenant": tenant, "keep": keep}))

    def paste(self, token: str) -> SignInStatus:
        return self._status(self._ask("POST", body={"token": token}))

    def cancel(self, attempt: str) -> None:
        self._ask("DELETE", attempt)

    def sign_out(self) -> None:
        self._ask("DELETE")

    def wait(self, attempt: str, cancel: Cancel) -> SignInStatus:
        """How an attempt ended. Ctrl-C cancels it."""
        try:
            while not cancel.wait(LOOK_SECONDS):
                status = self.status(attempt)
                if status.state is not SignInState.PROMPTING:
                    return status
        except KeyboardInterrupt:
            pass
        self.cancel(attempt)
        raise Cancelled("Signing in was interrupted.")

    def _status(self, data: dict[str, Any]) -> SignInStatus:
        values = {k: v for k, v in data.items() if k != "revision"}
        error = values.pop("error")
        return SignInStatus(
            **{**values, "state": SignInState(values["state"]), "tenants": tuple(values["tenants"])},
            error=Problem(**error) if error else None,
        )

    def _ask(self, method: str, attempt: str | None = None, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._send(method, self.url + (f"?{urllib.parse.urlencode({'id': attempt})}" if attempt else ""), body)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Any other route of ours there."""
        return self._send(method, f"{self._root}/{path}", body)

    def _send(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - checked by whoever made us
        # No proxy: it is this computer's own server, whose token would go along.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
        try:
            with opener.open(request, timeout=TIMEOUT) as response:
                text = response.read()
            return dict(json.loads(text)) if text else {}
        except urllib.error.HTTPError as error:
            with error:
                raise _said(error) from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The Jupyter server at {self.url} does not answer: {error}.",
                advice="Is it running?",
                code="Unreachable",
            ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def _said(error: urllib.error.HTTPError) -> DSVMError:
    try:
        data = json.loads(error.read())
        return SignInRequired(data["message"], advice=data.get("advice", ""), code=data["code"])
    except (ValueError, KeyError, TypeError):
        return ConfigurationError(
            f"The Jupyter server at {error.url} answered {error.code}.",
            advice="Is jupyter-dsvm enabled there (jupyter server extension list)?",
        )


def running_server(wanted: str | None = None) -> RemoteAccounts | None:
    """The user's running server, or the one at that address; None where none runs. Raises ``ConfigurationError`` if there
    are several to choose from, or not that one."""
    from jupyter_server.serverapp import list_running_servers

    servers = {str(s["url"]).rstrip("/"): s for s in list_running_servers()}
    if wanted is not None and wanted.rstrip("/") not in servers:
        raise ConfigurationError(
            f"No server of yours runs at {wanted}.",
            advice=f"There is {', '.join(servers)}." if servers else "There is none; `jupyter server list` shows them.",
        )
    if wanted is None and len(servers) > 1:
        raise ConfigurationError(
            "Several Jupyter servers of yours are running.", advice=f"Say which with --server: {', '.join(servers)}."
        )
    if not servers:
        return None
    chosen = servers[wanted.rstrip("/")] if wanted else next(iter(servers.values()))
    # Under a hub the server's own token is empty, and the user's is in the environment of its terminals.
    return RemoteAccounts(str(chosen["url"]), str(chosen.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN", "")))
