"""A small HTTP server that plays Azure's Resource Manager: what each test answers, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "not-a-real-token"
SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
VM_ID = "5d3b7c4e-0000-4000-8000-00000000ABCD"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Reply]


class ArmServer:
    """Answers with ``answer``; every request is kept in ``requests``."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = urlsplit(self.path)
                request = Request(
                    self.command,
                    url.path,
                    {key: values[0] for key, values in parse_qs(url.query).items()},
                    {key.lower(): value for key, value in self.headers.items()},
                    json.loads(raw) if raw else None,
                )
                outer.requests.append(request)
                reply = outer.answer(request)
                is_text = isinstance(reply.body, str)
                body = (
                    reply.body.encode() if is_text else b"" if reply.body is None else json.dumps(reply.body).encode()
                )
                self.send_response(reply.status)
                if body:
                    self.send_header("Content-Type", "application/json; charset=utf-8")
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, method: str, ending: str = "") -> list[Request]:
        return [r for r in self.requests if r.method == method and r.path.lower().endswith(ending.lower())]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def arm_server(answer: Answer) -> Iterator[ArmServer]:
    server = ArmServer(answer)
    try:
        yield server
    finally:
        server.close()


def token_file(folder: Path) -> str:
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return str(path)


def fault(status: int, code: str, message: str, **headers: str) -> Reply:
    return Reply(
        status,
        {"error": {"code": code, "message": message}},
        {key.replace("_", "-"): value for key, value in headers.items()},
    )


def vm_path(name: str = "gpu-vm", group: str = "Lab", subscription: str = SUBSCRIPTION) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}"


def graph_row(name: str = "gpu-vm", vm_id: str = VM_ID, **changes: Any) -> dict[str, Any]:
    """A row as the Resource Graph gives it: resource group and types in lower case."""
    row = {
        "id": vm_path(name),
        "name": name,
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "lab",
        "location": "westeurope",
        "tags": None,
        "plan": None,
        "image": {"publisher": "microsoft-dsvm", "offer": "ubuntu-2204", "sku": "2204-gen2", "version": "latest"},
        "vmId": vm_id,
        "osType": "Linux",
        "size": "Standard_NC4as_T4_v3",
        "powerState": "PowerState/deallocated",
        "privateIp": "10.0.0.4",
        "publicIp": "",
        "fqdn": "",
    }
    return {**row, **changes}


def vm_model(
    name: str = "gpu-vm", vm_id: str = VM_ID, state: str | None = "deallocated", **changes: Any
) -> dict[str, Any]:
    """A VM as ``GET …/virtualMachines/NAME?$expand=instanceView`` gives it."""
    properties: dict[str, Any] = {
        "vmId": vm_id,
        "hardwareProfile": {"vmSize": "Standard_NC4as_T4_v3"},
        "storageProfile": {
            "imageReference": {"publisher": "microsoft-dsvm", "offer": "ubuntu-2204", "sku": "2204-gen2"},
            "osDisk": {"osType": "Linux"},
        },
        "osProfile": {"computerName": name, "adminUsername": "ada"},
        "networkProfile": {
            "networkInterfaces": [
                {"id": "/x/second", "properties": {"primary": False}},
                {"id": f"/net/{name}-nic", "properties": {"primary": True}},
            ]
        },
    }
    if state is not None:
        properties["instanceView"] = instance_view(state)
    properties.update(changes)
    return {"id": vm_path(name), "name": name, "location": "westeurope", "properties": properties}


def instance_view(state: str) -> dict[str, Any]:
    return {
        "statuses": [
            {"code": "ProvisioningState/succeeded", "level": "Info"},
            {"code": f"PowerState/{state}", "level": "Info", "displayStatus": f"VM {state}"},
        ]
    }
