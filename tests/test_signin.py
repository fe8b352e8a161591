"""Signing in as the page, the magic and the command line do, on a real server with the emulated Entra behind it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_dsvm.accounts import outcome_text
from jupyter_dsvm.calls import handle
from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.emulator.directory import ADA, unsigned_jwt
from jupyter_dsvm.models import SignInState, SignInStatus
from jupyter_dsvm.service import DSVMService
from support.arm_server import ArmServer, Reply, Request, arm_server, graph_row
from support.entra import Entra, entra_server, until
from support.fakes import FakeConnections, FakeFree, FakeProxy, FakeRegistry
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401
from test_calls import FakeCall

Ask = Callable[..., Awaitable[tuple[int, Any]]]

EVENTS = "https://events.jupyter.org/jupyter_dsvm/changed"


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[Entra]:
    with entra_server(tmp_path) as server:
        yield server


@pytest.fixture
def arm(entra: Entra) -> Iterator[ArmServer]:
    """Azure for whoever signed in there, and for nobody else."""

    def answer(request: Request) -> Reply:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not entra.directory.accepts(token, server.url):
            return Reply(401, {"error": {"code": "InvalidAuthenticationToken", "message": "Invalid."}})
        return Reply(body={"data": [graph_row()], "count": 1, "totalRecords": 1, "resultTruncated": "false"})

    with arm_server(answer) as server:
        yield server


@pytest.fixture
def settings(entra: Entra, arm: ArmServer) -> dict[str, Any]:
    return {
        "arm_endpoint": arm.url,
        "authority": entra.url,
        "authority_ca_file": entra.ca_file,
        "prices_endpoint": "",
    }


# The page


@pytest.fixture
def jp_server_config(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_dsvm": True}, "allow_unauthenticated_access": False},
        "DSVMService": {"compute_providers": ["free", "azure"]},
        "AzureCompute": settings,
    }


@pytest.fixture
def ask(jp_fetch: Callable[..., Awaitable[Any]]) -> Ask:
    async def call(method: str, *path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        answer: Any
        data = json.dumps(body) if body is not None else "" if method == "POST" else None
        try:
            answer = await jp_fetch("jupyter-dsvm", *path, method=method, body=data, params=query)
        except HTTPClientError as e:
            answer = e.response
        return answer.code, json.loads(answer.body) if answer.body else None

    return call


async def reached(ask: Ask, state: str, **query: str) -> Any:
    for _ in range(400):
        _, now = await ask("GET", "signin", **query)
        if now["state"] == state:
            return now
        await asyncio.sleep(0.05)
    raise AssertionError(now)


async def test_a_page_signs_in_and_out(ask: Ask, entra: Entra, arm: ArmServer, jp_serverapp: Any, caplog: Any):
    caplog.set_level(logging.DEBUG)
    events: list[dict[str, Any]] = []

    async def listener(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        events.append(data)

    jp_serverapp.event_logger.add_listener(schema_id=EVENTS, listener=listener)
    _, listing = await ask("GET", "computes")
    assert [c["name"] for c in listing["computes"]] == ["Free tier"]
    assert "jupyter dsvm signin" in listing["problems"][0]["advice"]
    assert (await ask("GET", "signin"))[1]["state"] == "signed_out"
    assert arm.requests == []

    status, asked = await ask("POST", "signin")
    assert (status, asked["state"]) == (200, "prompting")
    # Another page sees that somebody is asked, and not what.
    for other in (await ask("GET", "signin"), await ask("GET", "signin", id=asked["id"])):
        assert other[1]["state"] == "prompting"
        assert asked["code"] not in json.dumps(other)
    entra.directory.enter(asked["code"])
    done = await reached(ask, "signed_in", id=asked["id"])
    assert (done["account"], done["method"], done["code"]) == (ADA, "device_code", None)
    assert done["revision"] > asked["revision"]
    for _ in range(200):
        if [c["name"] for c in (await ask("GET", "computes"))[1]["computes"]] == ["Free tier", "gpu-vm"]:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the VMs are not listed without being asked for")

    assert (await ask("DELETE", "signin"))[0] == 204
    assert (await ask("GET", "signin"))[1]["state"] == "signed_out"
    await asyncio.sleep(0.2)
    told = [e for e in events if e["what"] == "signin"]
    assert {e.get("id") for e in told} >= {asked["id"]}
    assert all(set(e) <= {"what", "id", "revision"} for e in told)
    assert "computes" in {e["what"] for e in events}
    sent = {r.headers["authorization"].removeprefix("Bearer ") for r in arm.requests}
    assert sent
    assert not [s for s in (asked["code"], *sent) if s in caplog.text + json.dumps(events)]


async def test_a_page_cancels(ask: Ask, entra: Entra):
    _, first = await ask("POST", "signin", body={})
    _, second = await ask("POST", "signin", body={"tenant": "example.com"})
    assert first["code"] != second["code"]
    assert (await ask("DELETE", "signin", id=first["id"]))[0] == 204
    assert (await ask("GET", "signin", id=second["id"]))[1]["state"] == "prompting"
    assert (await ask("DELETE", "signin", id=second["id"]))[0] == 204
    entra.directory.enter(second["code"])
    await asyncio.sleep(1.5)
    assert (await ask("GET", "signin"))[1]["state"] == "signed_out"


async def test_a_page_hears_why_not(ask: Ask, entra: Entra):
    _, asked = await ask("POST", "signin")
    entra.directory.enter(asked["code"], refuse=53003)
    failed = await reached(ask, "failed", id=asked["id"])
    assert failed["error"]["code"] == "AADSTS53003"
    assert failed["error"]["advice"]


async def test_a_page_pastes_a_token(ask: Ask, entra: Entra, arm: ArmServer, caplog: Any):
    caplog.set_level(logging.DEBUG)
    token = unsigned_jwt({"aud": arm.url, "exp": 4_000_000_000, "upn": ADA, "tid": "t"})
    status, done = await ask("POST", "signin", body={"token": token})
    assert (status, done["state"], done["method"], done["account"]) == (200, "signed_in", "pasted_token", ADA)
    for _ in range(100):
        if arm.requests:
            break
        await asyncio.sleep(0.05)
    assert arm.requests[-1].headers["authorization"] == f"Bearer {token}"
    assert token not in caplog.text
    status, refused = await ask("POST", "signin", body={"token": "secret-nonsense"})
    assert (status, refused["code"]) == (400, "BadToken")
    assert "secret-nonsense" not in json.dumps(refused) + caplog.text


@pytest.mark.parametrize(
    "body",
    [
        {"token": ""},
        {"token": None},
        {"tenant": 1},
        {"keep": "yes"},
        {"password": "x"},
        {"token": "x", "tenant": "y"},
        {"tenant": "a/b"},
        [],
    ],
)
async def test_what_cannot_be_understood(ask: Ask, body: Any):
    status, answer = await ask("POST", "signin", body=body)
    assert status == 400
    assert answer["advice"]


async def test_who_may_only_read_neither_starts_nor_ends_a_sign_in(
    ask: Ask, entra: Entra, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
):
    """A collaborator or guest: the state is theirs to see, a code is not."""
    _, asked = await ask("POST", "signin")
    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", lambda handler, user, action, what: action == "read")
    for body in ({}, {"token": "x"}):
        assert (await ask("POST", "signin", body=body))[0] == 403
    assert (await ask("DELETE", "signin"))[0] == 403
    assert (await ask("DELETE", "signin", id=asked["id"]))[0] == 403
    seen = await ask("GET", "signin", id=asked["id"])
    assert (seen[0], seen[1]["state"], seen[1]["code"]) == (200, "prompting", None)
    assert entra.directory.state()["waiting"] == [asked["code"]]


async def test_unknown_attempts(ask: Ask):
    for method in ("GET", "DELETE"):
        status, answer = await ask(method, "signin", id="nothing")
        assert (status, answer["code"]) == (404, "UnknownSignIn")


# The command line, in the server's terminal


async def terminal(*words: str, typed: str = "", entered: Callable[[str], None] | None = None, **env: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jupyter_dsvm", "signin", *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(typed.encode())
    process.stdin.close()
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        code = re.search(r"enter the code (\w+)", line)
        if code and entered is not None:
            entered(code[1])
        elif code:
            process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    out = (await process.stdout.read()).decode()
    assert "Traceback" not in said, said
    return await process.wait(), out, said


async def test_the_command_line_signs_in_the_server_that_runs(ask: Ask, entra: Entra, jp_serverapp: Any):
    jp_serverapp.write_server_info_file()
    try:
        status, out, said = await terminal("--json", entered=entra.directory.enter)
        assert status == 0, said
        assert f"Signed in to Azure as {ADA}" in said
        shown = json.loads(out)
        assert (shown["state"], shown["code"]) == ("signed_in", None)
        assert (await ask("GET", "signin"))[1]["account"] == ADA
        status, _, said = await terminal()  # there is nothing to ask for
        assert status == 0
        assert "enter the code" not in said
        status, _, said = await terminal("--out")
        assert status == 0
        assert (await ask("GET", "signin"))[1]["state"] == "signed_out"

        status, _, said = await terminal("--tenant", "nowhere.example")
        assert status == 1
        assert "AADSTS90002" in said
        status, _, said = await terminal(entered=lambda code: entra.directory.enter(code, refuse=50076))
        assert status == 1
        assert "second factor" in said
        status, _, said = await terminal()  # Ctrl-C
        assert status == 130
        assert (await ask("GET", "signin"))[1]["state"] != "prompting"
        status, _, said = await terminal("--paste", typed="hunter2\n")
        assert status == 1
        assert "no access token" in said
        assert "hunter2" not in said
        status, _, said = await terminal("--server", "http://localhost:1/")
        assert status == 1
        assert jp_serverapp.connection_url.rstrip("/") in said
    finally:
        jp_serverapp.remove_server_info_file()


async def test_the_command_line_without_a_server(settings: dict[str, Any], tmp_path: Path):
    (tmp_path / "jupyter_dsvm_config.json").write_text(json.dumps({"AzureCompute": settings}))
    status, _, said = await terminal(JUPYTER_CONFIG_DIR=str(tmp_path), JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"))
    assert status == 1
    assert "No Jupyter server of yours is running" in said
    assert "--keep" in said


# %dsvm


@pytest.fixture
def service(settings: dict[str, Any]) -> Iterator[DSVMService]:
    made = DSVMService(
        lambda: [FakeFree(), AzureCompute(**settings)],
        registry=FakeRegistry(FakeProxy()),
        connections=FakeConnections(),
    )
    yield made
    made.close()


def test_the_magic_prints_the_code_and_waits(service: DSVMService, entra: Entra):
    call = FakeCall(FakeProxy(), "signin")
    thread = threading.Thread(target=handle, args=(service, call))
    thread.start()
    until(lambda: call.said)
    code = re.search(r"open (https://\S+) and enter the code (\w+)\.", call.said[0])
    assert code is not None
    assert code[1].startswith(entra.url)
    entra.directory.enter(code[2])
    thread.join()
    assert call.result is not None, call.error
    assert f"Signed in to Azure as {ADA}" in call.result["text"]
    again = FakeCall(FakeProxy(), "signin")
    handle(service, again)
    assert again.said == []
    assert again.result is not None


def test_interrupting_the_cell_cancels(service: DSVMService, entra: Entra):
    call = FakeCall(FakeProxy(), "signin --tenant example.com")
    thread = threading.Thread(target=handle, args=(service, call))
    thread.start()
    until(lambda: call.said)
    call.cancelled.set()
    thread.join()
    assert call.error is not None
    assert call.error["code"] == "Cancelled"
    entra.directory.enter(call.said[0].partition("the code ")[2].partition(".")[0])
    assert service.accounts.status().state is SignInState.SIGNED_OUT


def test_the_magic_takes_no_token_and_a_vm_may_not_sign_in(service: DSVMService, entra: Entra):
    for line in ("signin --token abc", "signin abc", "signin --paste"):
        call = FakeCall(FakeProxy(), line)
        handle(service, call)
        assert call.error is not None
        assert call.error["code"] == "BadRequest"
    call = FakeCall(FakeProxy(), "signin", trusted=False)
    handle(service, call)
    assert call.error is not None
    assert call.error["code"] == "NotAllowed"
    assert "sign in to Azure" in call.error["message"]
    assert entra.directory.state()["waiting"] == []


def test_a_server_that_stops_waits_for_no_code(settings: dict[str, Any]):
    """Entra takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = {**settings, "authority": f"https://localhost:{silent.getsockname()[1]}"}
        service = DSVMService(
            lambda: [FakeFree(), AzureCompute(**mute)],
            registry=FakeRegistry(FakeProxy()),
            connections=FakeConnections(),
        )
        asking = service.submit(service.accounts.begin)
        connection, _ = silent.accept()
        with connection:
            began = time.monotonic()
            service.close()
            assert time.monotonic() - began < 15  # Entra would be waited for 30 s
            assert asking.result(5).code is None


def test_without_a_cloud_there_is_nothing_to_sign_in_to():
    service = DSVMService(lambda: [FakeFree()], registry=FakeRegistry(FakeProxy()), connections=FakeConnections())
    assert service.accounts.status().state is SignInState.SIGNED_OUT
    call = FakeCall(FakeProxy(), "signin")
    handle(service, call)
    service.close()
    assert call.error is not None
    assert call.error["code"] == "NoCloud"


def test_every_state_has_a_sentence():
    for state in SignInState:
        assert outcome_text(SignInStatus(state, method="azure_cli")).endswith(".")
