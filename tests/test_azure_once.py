"""What changes something, and so may cost money, is asked of Azure exactly once, whatever comes back or does not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.compute.azure.client import ArmClient
from jupyter_dsvm.compute.azure.graph import TRIES, rows
from jupyter_dsvm.compute.azure.lifecycle import _Polling
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import ComputeError, DSVMError, OperationRefused, SignInRequired, Throttled
from support.arm_server import SUBSCRIPTION, Reply, Request, arm_server, fault, graph_row, token_file

BODIES = Path(__file__).parents[2] / "shared/data/real_error_bodies.json"

PLAIN = "/subscriptions/s/resourceGroups/lab/providers/Microsoft.Resources/deployments/d"
SIZE = {"properties": {"hardwareProfile": {"vmSize": "Standard_D4ds_v5"}}}

CHANGES: dict[str, Callable[[Any], Any]] = {
    "start": lambda vms: vms.begin_start("lab", "vm", polling=polling(), retry_total=0),
    "deallocate": lambda vms: vms.begin_deallocate("lab", "vm", polling=polling()),
    "restart": lambda vms: vms.begin_restart("lab", "vm"),
    "resize": lambda vms: vms.begin_update("lab", "vm", SIZE, polling=polling()),
    "create": lambda vms: vms.begin_create_or_update("lab", "vm", {"location": "westeurope"}),
    "run command": lambda vms: vms.begin_run_command("lab", "vm", {"commandId": "RunShellScript"}),
    "serial log": lambda vms: vms.retrieve_boot_diagnostics_data("lab", "vm"),
    "delete": lambda vms: vms.begin_delete("lab", "vm"),
}
"""By azure-mgmt-compute, with and without the options that our own calls have."""


def polling() -> _Polling:
    return _Polling(0.02, Cancel(), deadline=float("inf"))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[[str], ArmClient]]:
    made: list[ArmClient] = []

    def make(url: str) -> ArmClient:
        made.append(ArmClient(url, token_file(tmp_path)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refused(client: ArmClient, change: Callable[[Any], Any]) -> DSVMError:
    with pytest.raises(DSVMError) as caught, client.translated("do it"):
        change(client.virtual_machines(SUBSCRIPTION)).result(30)
    return caught.value


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "answer",
    [
        fault(408, "RequestTimeout", "Too slow.", Retry_After="0"),
        fault(429, "TooManyRequests", "Slow down.", Retry_After="0"),
        fault(429, "TooManyRequests", "Slow down.", Retry_After="1"),
        fault(500, "InternalServerError", "Oops."),
        fault(503, "ServerTimeout", "Later.", Retry_After="0"),
        fault(504, "GatewayTimeout", "Later.", x_ms_retry_after_ms="10"),
        fault(409, "MissingSubscriptionRegistration", "Not registered to use namespace 'Microsoft.Compute'."),
        fault(401, "ExpiredAuthenticationToken", "Expired.", WWW_Authenticate='Bearer error="invalid_token"'),
        Reply(502, "<html>bad gateway</html>"),
    ],
    ids=lambda reply: f"{reply.status} {next(iter(reply.headers.values()), '')}".strip(),
)
def test_whatever_is_answered(client: Callable[[str], ArmClient], change: Callable[[Any], Any], answer: Reply) -> None:
    """Nor is the subscription registered for anything: azure-mgmt-core's own pipeline would do that."""
    with arm_server(lambda request: answer) as server:
        error = refused(client(server.url), change)
        assert len(server.requests) == 1
    assert error.message.startswith("Could not do it")


@contextmanager
def hanging_up(said: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a request, says so much, and ends the connection; and the requests that it was sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    requests: list[bytes] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5)
                requests.append(connection.recv(65536))
                connection.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        stop.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
    ids=["nothing", "half a line", "half a body", "half a chunk"],
)
def test_an_answer_that_is_lost(client: Callable[[str], ArmClient], change: Callable[[Any], Any], said: bytes) -> None:
    with hanging_up(said) as (url, requests):
        refused(client(url), change)
    assert len([r for r in requests if r.split(b" ")[0] in {b"POST", b"PUT", b"PATCH", b"DELETE"}]) == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nobody_there(client: Callable[[str], ArmClient], change: Callable[[Any], Any]) -> None:
    """Not even a connection that was refused is tried again: that is for whoever asked to decide."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert refused(client(url), change).code == "Unreachable"


@pytest.mark.parametrize("status", [500, 503])
def test_our_own_posts(client: Callable[[str], ArmClient], status: int) -> None:
    with arm_server(lambda request: fault(status, "ServerTimeout", "Later.", Retry_After="0")) as server:
        arm = client(server.url)
        with pytest.raises(ComputeError), arm.translated("do it"):
            arm.post(PLAIN, "2021-04-01", {})
        assert len(server.requests) == 1


def test_a_challenge_with_claims_is_answered_once(client: Callable[[str], ArmClient]) -> None:
    """Azure did nothing yet; a token from a file is all there is, so the second answer is the last."""
    claims = 'Bearer authorization_uri="x", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="'
    with arm_server(lambda request: fault(401, "InvalidAuthenticationToken", "No.", WWW_Authenticate=claims)) as server:
        error = refused(client(server.url), CHANGES["start"])
        assert len(server.requests) <= 2
    assert isinstance(error, SignInRequired)
    assert "asks for a new sign-in" in error.message


# -- what only reads ------------------------------------------------------------------------------------------------------


def listed(client: ArmClient, waited: list[float]) -> list[str]:
    with client.translated("list the VMs"):
        return [row["name"] for row in rows(client, "dsvm", waited.append)]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_the_graph_is_asked_again_after_a_passing_fault(client: Callable[[str], ArmClient], status: int) -> None:
    faults = 2

    def answer(request: Request) -> Reply:
        nonlocal faults
        if faults:
            faults -= 1
            return fault(status, "ServerTimeout", "Later.")
        return Reply(body={"data": [graph_row()]})

    with arm_server(answer) as server:
        waited: list[float] = []
        assert listed(client(server.url), waited) == ["gpu-vm"]
        assert len(server.requests) == TRIES == 3
        assert waited == [0.4, 0.8]
        faults = 99
        with pytest.raises(ComputeError, match="fault of its own" if status != 408 else "RequestTimeout|ServerTimeout"):
            listed(client(server.url), waited)
        assert len(server.requests) == 2 * TRIES


def test_the_graph_is_asked_again_when_the_connection_ended(client: Callable[[str], ArmClient]) -> None:
    with hanging_up(b"") as (url, requests):
        with pytest.raises(ComputeError) as caught:
            listed(client(url), [])
        assert len(requests) == TRIES
    assert caught.value.code == "Unreachable"


def test_the_graph_is_not_asked_again_when_it_asks_for_too_much_patience(client: Callable[[str], ArmClient]) -> None:
    with arm_server(lambda request: fault(503, "ServerTimeout", "Later.", Retry_After="600")) as server:
        with pytest.raises(ComputeError):
            listed(client(server.url), [])
        assert len(server.requests) == 1
    with arm_server(lambda request: fault(429, "RateLimiting", "Later.", Retry_After="600")) as server:
        with pytest.raises(Throttled):
            listed(client(server.url), [])
        assert len(server.requests) == 1


# -- Azure's recorded refusals, over HTTP -----------------------------------------------------------------------------------


@pytest.mark.skipif(not BODIES.exists(), reason="../shared/data with recorded error bodies is not there")
def test_every_recorded_refusal_over_http(client: Callable[[str], ArmClient]) -> None:
    """With the status and the headers that it was recorded with; an operation that failed, as the answer of its address."""
    recorded = json.loads(BODIES.read_text())
    assert len(recorded) > 30
    for one in recorded:
        body = one["body"].get("error", one["body"])
        headers = {k: v for k, v in one["headers"].items() if k.lower() not in {"content-type", "content-length"}}
        failed = one["status"] == 200

        def answer(request: Request, one: Any = one, headers: Any = headers, failed: bool = failed) -> Reply:
            if failed and request.method == "POST":
                address = f"{server.url}/operations/1?api-version=1"
                return Reply(202, headers={"Azure-AsyncOperation": address, "Location": address, "Retry-After": "0"})
            return Reply(one["status"], one["body"], headers)

        with arm_server(answer) as server:
            error = refused(client(server.url), CHANGES["start"])
            assert len(server.asked("POST")) == 1, one["uri"]
        assert error.code == body["code"]
        assert " ".join(body["message"].split())[:50] in " ".join(error.message.split())
        assert error.advice or "Azure answered" in error.message
        assert isinstance(error, OperationRefused | ComputeError | SignInRequired)
