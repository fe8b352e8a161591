"""A password for a machine, handed to the user's running server over its REST API. Called by ``access_command`` only."""

from __future__ import annotations

import time
import urllib.parse
from typing import Any

from .errors import ConfigurationError
from .models import Operation, OperationState, Problem
from .remote_accounts import RemoteAccounts, running_server

LOOK_SECONDS = 0.3


class RemoteAccess:
    def __init__(self, server: RemoteAccounts) -> None:
        self._server = server

    @classmethod
    def of_running_server(cls, wanted: str | None) -> RemoteAccess:
        found = running_server(wanted)
        if found is None:
            raise ConfigurationError(
                "No Jupyter server of yours is running, and a password is kept in a server's memory only.",
                advice="Start one first.",
                code="NoServer",
            )
        return cls(found)

    def set_up(self, name: str, body: dict[str, Any]) -> Operation:
        """``POST computes/{id}/access`` there, and wait until that has ended."""
        row = self._server.ask("POST", f"computes/{urllib.parse.quote(name, safe='')}/access", body)
        while row["state"] == "running":
            time.sleep(LOOK_SECONDS)
            row = self._server.ask("GET", f"operations/{row['id']}")
        error = row.get("error")
        return Operation(
            id=row["id"],
            kind=row["kind"],
            compute=row["compute"],
            kernel=row["kernel"],
            state=OperationState(row["state"]),
            error=Problem(**error) if error else None,
            notice=row["notice"],
        )
