"""The server held against ``openapi.yaml``: every answer of a real server is one that the file allows, and every operation of
the file is asked for."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from tornado.httpclient import HTTPClientError
from werkzeug.datastructures import Headers, ImmutableMultiDict

import jupyter_dsvm
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import ComputeError, Throttled
from jupyter_dsvm.kernels import savemarks
from jupyter_dsvm.kernels.messages import Message
from jupyter_dsvm.kernels.outputrows import row
from jupyter_dsvm.kernels.outputstore import OutputStore
from jupyter_dsvm.kernelvariables import Planned, VariablesIn
from jupyter_dsvm.models import Compute, ComputeKind, PowerState, Price, Problem, Size, Variable
from jupyter_dsvm.questions import question_of
from jupyter_dsvm.routes import ROUTES
from jupyter_dsvm.savedvariables import Save
from jupyter_dsvm.service import DSVMService
from support.entra import Entra, entra_server
from support.fakes import (
    RECORD,
    FakeCompute,
    FakeConnections,
    FakeFree,
    FakeMaker,
    FakeProxy,
    FakeRegistry,
    FakeWorkspaces,
    dsvm,
)
from support.outputarea import messages
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401

FILE = Path(jupyter_dsvm.__file__).parent / "openapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
GPU = dsvm("gpu-vm", PowerState.DEALLOCATED)
RICH = Compute(
    id="azure:rich",
    name="rich",
    kind=ComputeKind.DSVM,
    power_state=PowerState.RUNNING,
    location="westeurope",
    subscription="s",
    resource_group="g",
    image="microsoft-dsvm:ubuntu-2204:2204-gen2",
    size=Size("Standard_NC4as_T4_v3", 4, 28.0, 1, "T4"),
    price=Price(0.53, "USD", "2026-01-01T00:00:00Z"),
    problem=Problem("X", "It is odd.", "Look.", 3.0),
)


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[Entra]:
    with entra_server(tmp_path) as server:
        yield server


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, entra: Entra) -> Iterator[FakeCompute]:
    """A server whose one kernel is a front without a process, so that every answer comes at once."""
    made = FakeMaker(RICH, GPU)
    kernels = FakeRegistry(FakeProxy("k1"))
    original = DSVMService.__init__

    def init(self: DSVMService, *args: Any, **kwargs: Any) -> None:
        original(self, lambda: [FakeFree(), made], registry=kernels, connections=FakeConnections(), **kwargs)
        made.workspaces = FakeWorkspaces(self, RECORD)  # type: ignore[attr-defined]

    monkeypatch.setattr(DSVMService, "__init__", init)
    with entra.sign_in() as made.sign_in:
        yield made


@pytest.fixture
def jp_server_config(cloud: FakeCompute) -> dict[str, Any]:
    extensions = {"jupyter_dsvm": True, "jupyter_server_terminals": True}
    return {"ServerApp": {"jpserver_extensions": extensions, "allow_unauthenticated_access": False}}


class Request:
    """What openapi-core wants to know of a request."""

    def __init__(self, method: str, path: str, query: dict[str, str], body: bytes | None) -> None:
        self.host_url = "http://localhost"
        self.path = "/jupyter-dsvm/" + path
        self.method = method.lower()
        self.body = body
        self.content_type = "application/json"
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(query),
            header=Headers({"Content-Type": "application/json"}),
            cookie=ImmutableMultiDict(),
        )


class Response:
    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.status_code = status
        self.data = body
        self.content_type = content_type.partition(";")[0]
        self.headers = Headers({"Content-Type": content_type})


@pytest.fixture
def checked(jp_fetch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """``await checked(200, "GET", "kernels")``: the status and body, held against the file."""
    api = OpenAPI.from_dict(DOCUMENT)

    async def call(expected: int, method: str, path: str, body: Any = None, **query: str) -> Any:
        answer: Any
        data = json.dumps(body) if body is not None else "" if method == "POST" else None
        try:
            answer = await jp_fetch(
                "jupyter-dsvm", *path.split("/"), method=method, body=data, params=query, allow_nonstandard_methods=True
            )
        except HTTPClientError as e:
            answer = e.response
        assert answer.code == expected, answer.body
        request = Request(method, path, query, data.encode() if data else None)
        if answer.code < 400:
            api.validate_request(request)
        content_type = answer.headers.get("Content-Type", "application/json")
        api.validate_response(request, Response(answer.code, answer.body, content_type))
        return json.loads(answer.body) if answer.body else None

    return call


def ran_and_was_cut() -> dict[str, Any]:
    """An answer with all that a row may have."""
    store = OutputStore(None)
    book = store.read(20_000)
    said = [{"type": "stream", "content": {"name": "stdout", "text": text}} for text in ("x", "x" * 9000)]
    for event in ({"do": "execute", "cell": "a", "run": "r1"}, *({"do": "iopub", "run": "r1", **s} for s in said)):
        for what, parts in messages(event):
            (book.requested if what == "request" else book.published)(Message(parts))
    store.write(book, "", 0)
    found, _ = store.since(0, 0, 2**20, 20_000)
    store.close()
    return {"version": book.version, "rows": [row(f) for f in found], "next": book.version}


def asks_for_a_name(answer: dict[str, Any]) -> dict[str, Any]:
    answer["rows"][0]["prompts"] = [{"id": "p", "prompt": "name: ", "password": False}]
    return answer


async def test_every_operation_of_the_file(
    checked: Callable[..., Awaitable[Any]],
    cloud: FakeCompute,
    entra: Entra,
    jp_fetch: Callable[..., Awaitable[Any]],
    jp_serverapp: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    asked = set()

    async def ask(operation: str, expected: int, method: str, path: str, *body: Any, **query: str) -> Any:
        asked.add(operation)
        return await checked(expected, method, path, *body, **query)

    listing = await ask("listComputes", 200, "GET", "computes", refresh="true")
    assert {c["name"] for c in listing["computes"]} == {"Free tier", "rich", "gpu-vm"}
    for action in ("start", "restart", "stop"):
        await ask("changeCompute", 202, "POST", f"computes/{GPU.id}/{action}")
        await asyncio.sleep(0.1)
    assert (await ask("getCreation", 200, "GET", "creation"))["sizes"] == []
    there = await ask("getCreation", 200, "GET", "creation", location="westeurope", subscription="sub1")
    assert there["sizes"][0]["available"]
    wanted = {"name": "new-vm", "location": "westeurope", "size": "Standard_D2ds_v5"}
    operation = await ask("createCompute", 202, "POST", "computes", wanted)
    assert (operation["kind"], operation["compute"]) == ("create", None)
    await asyncio.sleep(0.2)
    assert (await ask("getOperation", 200, "GET", f"operations/{operation['id']}"))["compute"] == "azure:new-vm-id"
    await ask("setUpAccess", 202, "POST", f"computes/{GPU.id}/access", {"user": "me", "renew_host_key": False})
    await ask("setUpAccess", 202, "POST", f"computes/{GPU.id}/access")
    await ask("forgetAccess", 202, "DELETE", f"computes/{GPU.id}/access")
    await ask("listKernelspecs", 200, "GET", "computes/azure:rich/kernelspecs")
    code = {"sources": [], "kernelspec": None, "path": "a.ipynb"}
    assert await ask("checkModules", 200, "POST", "computes/azure:rich/modules", code) == {"modules": []}
    package = {"packages": ["plotly==5.24"], "kernelspec": "python3"}
    assert (await ask("installPackages", 202, "POST", "computes/azure:rich/install", package))["kind"] == "install"
    assert (await ask("getSSHCommand", 200, "GET", "computes/azure:rich/ssh"))["command"] == "ssh -- rich"
    terminal = await ask("openTerminal", 201, "POST", "computes/azure:rich/terminals")
    await jp_fetch("api", "terminals", terminal["name"], method="DELETE")
    assert (await ask("getMetrics", 200, "GET", f"computes/{GPU.id}/metrics"))["memory"] is None
    assert len((await ask("listSizes", 200, "GET", f"computes/{GPU.id}/sizes"))["sizes"]) == 3
    resized = await ask(
        "resizeCompute", 202, "POST", f"computes/{GPU.id}/resize", {"size": "d4ds_v5", "end_kernels": False}
    )
    assert [s["name"] for s in resized["steps"]] == ["release", "change", "start"]
    await asyncio.sleep(0.1)
    await ask("listKernels", 200, "GET", "kernels")
    operation = await ask("moveKernel", 202, "PUT", "kernels/k1/compute", {"compute": "rich"})
    operation = await ask("moveKernel", 202, "PUT", "kernels/k1/compute", {"compute": "rich", "kernelspec": "python3"})
    await ask("moveKernel", 202, "PUT", "kernels/k1/compute", {"compute": "rich", "interrupt": True, "sync": False})
    await asyncio.sleep(0.3)
    assert (await ask("listKernels", 200, "GET", "kernels"))["kernels"][0]["compute"] == "azure:rich"
    service: DSVMService = jp_serverapp.web_app.settings["jupyter_dsvm_service"]
    planned = Planned((Variable("df", "pandas.DataFrame", 10, True), Variable("c", "C", None, False, "No.")), 3, 10)
    monkeypatch.setattr(VariablesIn, "plan", lambda *_: planned)
    plan = await ask("planVariables", 200, "GET", "kernels/k1/variables", to="free")
    assert (plan["state"], plan["needs_yes"], plan["seconds"], plan["more"]) == ("ready", True, None, 3)
    assert [(v["name"], v["moves"]) for v in plan["variables"]] == [("df", True), ("c", False)]
    back = {"compute": "free", "carry": ["df"]}
    assert (await ask("moveKernel", 409, "PUT", "kernels/k1/compute", back))["code"] == "CarryNeedsYes"
    await ask("moveKernel", 202, "PUT", "kernels/k1/compute", {**back, "allow_carry": True})
    await asyncio.sleep(0.3)
    await ask("moveKernel", 202, "PUT", "kernels/k1/compute", {"compute": "rich", "carry": True})
    await asyncio.sleep(0.3)
    assert not (await ask("planVariables", 200, "GET", "kernels/k1/variables", to="free"))["needs_yes"], "it is kept"
    service.carrying.saves.put(Save("kernel:k1", "azure:rich", "/saved", time.time(), ("df",), 1, 10, ("c",)))
    saved = (await ask("listKernels", 200, "GET", "kernels"))["kernels"][0]["saved"]
    assert (saved["compute"], saved["names"], saved["left"]) == ("azure:rich", ["df"], ["c"])
    assert (await ask("loadVariables", 202, "POST", "kernels/k1/variables/load", {"names": ["df"]}))["kind"] == "load"
    await ask("forgetVariables", 204, "DELETE", "kernels/k1/variables/saved")
    assert (await ask("listKernels", 200, "GET", "kernels"))["kernels"][0]["saved"] is None
    assert (await ask("listOutputs", 200, "GET", "kernels/k1/outputs"))["rows"] == []
    recording = jp_serverapp.web_app.settings["jupyter_dsvm_service"].proxy("k1").recording
    recording.answer = asks_for_a_name(ran_and_was_cut())
    found = await ask("listOutputs", 200, "GET", "kernels/k1/outputs", since="7", after="9")
    assert (found["rows"][0]["cell"], found["rows"][0]["cut"]["messages"]) == ("a", 1)
    assert found["sessions"] == ["s1"]
    assert recording.asked == [(0, 0), (7, 9)]
    await ask("forgetOutputs", 204, "DELETE", "kernels/k1/outputs", msg_id="m-1")
    assert recording.forgotten == ["m-1"]
    assert (await ask("listSavedOutputs", 200, "GET", "kernels/k1/saved"))["files"] == []
    recording.store = OutputStore(None)
    savemarks.saved(
        recording, "a.ipynb", savemarks.Mark(7, [("2026-03-01T12:00:00Z", "1111"), ("2026-03-01T12:05:00Z", "")])
    )
    (saved,) = (await ask("listSavedOutputs", 200, "GET", "kernels/k1/saved"))["files"]
    assert (saved["path"], [s["hash"] for s in saved["states"]]) == ("a.ipynb", ["1111", None])
    recording.store.close()
    await ask("reconnectKernel", 204, "POST", "kernels/k1/reconnect")
    advice = await ask("adviseKernel", 200, "POST", "kernels/k1/advice", {"sources": ["import torch", "x.cuda()"]})
    assert (advice["gpu"], advice["evidence"][1]["call"]) == ("needed", ".cuda()")
    assert {f["name"]: f["gpu"] for f in advice["fits"] if f["compute"]}.items() >= {
        "Free tier": False,
        "rich": True,
    }.items()
    assert not (await ask("getStopLoss", 200, "GET", "computes/azure:rich/loss"))["known"]
    kept = await ask("configureIdleStop", 200, "PUT", "computes/azure:rich/idle", {"keep_seconds": 3600})
    assert kept["kept_until"]
    chosen = await ask(
        "configureIdleStop", 200, "PUT", "computes/azure:rich/idle", {"idle_minutes": 20, "hard_limit_hours": None}
    )
    assert (chosen["idle_minutes"], chosen["hard_limit_hours"]) == (20, None)
    listed = await ask("listOperations", 200, "GET", "operations")
    assert len(listed["operations"]) >= 5
    await ask("getOperation", 200, "GET", f"operations/{operation['id']}")
    cloud.gate.clear()
    running = await ask("changeCompute", 202, "POST", f"computes/{GPU.id}/start")
    await ask("cancelOperation", 204, "DELETE", f"operations/{running['id']}")
    running = await ask("changeCompute", 202, "POST", f"computes/{GPU.id}/start")
    released = await ask("cancelOperation", 202, "DELETE", f"operations/{running['id']}", release="true")
    assert (released["kind"], released["compute"]) == ("stop", GPU.id)
    refused = await checked(409, "DELETE", f"operations/{released['id']}", dismiss="true")
    assert refused["code"] == "OperationRunning"
    cloud.gate.set()
    await ask("cancelOperation", 204, "DELETE", f"operations/{operation['id']}", dismiss="true")
    assert (await checked(404, "GET", f"operations/{operation['id']}"))["code"] == "UnknownOperation"
    assert (await ask("listQuestions", 200, "GET", "questions"))["questions"] == []
    for answer, code in (("no", "SaidNo"), ("yes", None)):
        price = replace(RICH.price, amount=1.0 if code else 2.0) if RICH.price else None
        question = question_of("start", replace(RICH, price=price), f"k-{answer}", "a.ipynb", True, "to start rich")
        asking = asyncio.create_task(
            asyncio.to_thread(
                service.questions.ask, question, "", "rich", Cancel(), lambda: True, lambda: False, Throttled("x"), int
            )
        )
        await asyncio.sleep(0.2)
        waiting = (await ask("listQuestions", 200, "GET", "questions"))["questions"]
        assert waiting[0]["text"] == "A cell of a.ipynb wants to start rich."
        await ask("answerQuestion", 204, "PUT", f"questions/{question.id}", {"answer": answer})
        (error,) = await asyncio.gather(asking, return_exceptions=True)
        assert getattr(error, "code", None) == code
    spend = await ask("getSpend", 200, "GET", "spend")
    assert (spend["currency"], spend["per_hour"], [c["name"] for c in spend["computes"]]) == ("USD", 0.53, ["rich"])
    assert (spend["budgets"], "gpu-vm" in spend["unpriced"]) == ([], True)
    assert (await ask("listWorkspaces", 200, "GET", "workspaces"))["workspaces"][0]["conflicts"][0][
        "path"
    ] == "data.csv"
    estimate = await ask("estimateWorkspace", 200, "GET", "kernels/k1/workspace", compute="rich")
    assert (estimate["compute"], estimate["files"]) == ("azure:rich", 340)
    body = {"direction": "push", "force": True, "yes": True}
    assert (await ask("syncWorkspace", 202, "POST", "workspaces/w1/sync", body))["kind"] == "sync"
    await ask("syncWorkspace", 202, "POST", "workspaces/w1/sync")
    await ask("resolveConflict", 204, "POST", "workspaces/w1/conflicts", {"path": "data.csv", "keep": "theirs"})
    await ask("fetchFiles", 202, "POST", "workspaces/w1/fetch", {"paths": ["model.bin"]})
    assert cloud.workspaces.asked == [  # type: ignore[attr-defined]
        ("estimate", "k1", "azure:rich"),
        ("sync", "w1", "push", True, True),
        ("sync", "w1", "both", False, False),
        ("resolve", "w1", "data.csv", "theirs"),
        ("fetch", "w1", ["model.bin"]),
    ]
    assert (await ask("getSignIn", 200, "GET", "signin"))["state"] == "signed_out"
    prompted = await ask("beginSignIn", 200, "POST", "signin", {"tenant": "example.com", "keep": False})
    entra.directory.enter(prompted["code"])
    await asyncio.to_thread(cloud.sign_in.wait, prompted["id"], 30)
    assert (await ask("getSignIn", 200, "GET", "signin", id=prompted["id"]))["state"] == "signed_in"
    await ask("endSignIn", 204, "DELETE", "signin")
    entra.directory.behaviour.at_code = 7000218
    assert (await ask("beginSignIn", 200, "POST", "signin"))["error"]["code"] == "AADSTS7000218"
    assert asked == {o["operationId"] for p in DOCUMENT["paths"].values() for o in p.values() if "operationId" in o}


async def test_errors_are_in_the_file_too(checked: Callable[..., Awaitable[Any]], cloud: FakeCompute):
    await checked(404, "POST", "computes/nothing/start")
    await checked(404, "PUT", "kernels/nobody/compute", {"compute": "free"})
    await checked(404, "POST", "kernels/nobody/reconnect")
    assert (await checked(404, "GET", "kernels/nobody/outputs"))["code"] == "UnknownKernel"
    for wrong in ("-1", "x", "1.5", "٣", "1" * 17):
        await checked(400, "GET", "kernels/k1/outputs", since=wrong)
    assert (await checked(404, "DELETE", "kernels/nobody/outputs", msg_id="m"))["code"] == "UnknownKernel"
    await checked(400, "DELETE", "kernels/k1/outputs")
    await checked(400, "PUT", "kernels/k1/compute", {"compute": 1})
    await checked(400, "PUT", "kernels/k1/compute", {"compute": "rich", "kernelspec": None})
    await checked(400, "PUT", "kernels/k1/compute", {"compute": "rich", "interrupt": "yes"})
    for carry in ("df", [1], [""], None, ["x"] * 1001):
        await checked(400, "PUT", "kernels/k1/compute", {"compute": "rich", "carry": carry})
    await checked(400, "PUT", "kernels/k1/compute", {"compute": "rich", "carry": True, "allow_carry": "yes"})
    await checked(400, "GET", "kernels/k1/variables")
    await checked(404, "GET", "kernels/k1/variables", to="nothing")
    await checked(404, "GET", "kernels/nobody/variables", to="free")
    assert (await checked(404, "POST", "kernels/k1/variables/load"))["code"] == "NothingSaved"
    for wrong in ({"names": []}, {"names": "df"}, {"all": True}):
        await checked(400, "POST", "kernels/k1/variables/load", wrong)
    await checked(404, "DELETE", "kernels/nobody/variables/saved")
    for wrong in ({}, {"sources": "import a"}, {"sources": [1]}, {"sources": [], "path": 1}, {"sources": [], "x": 1}):
        await checked(400, "POST", "computes/azure:rich/modules", wrong)
    for wrong in ({"sources": "import a"}, {"sources": [1]}, {"x": 1}):
        await checked(400, "POST", "kernels/k1/advice", wrong)
    assert (await checked(404, "POST", "kernels/k1/advice"))["code"] == "UnknownNotebook"
    assert (await checked(404, "POST", "kernels/nobody/advice", {"sources": []}))["code"] == "UnknownKernel"
    long = await checked(400, "POST", "kernels/k1/advice", {"sources": ["#" * 1_100_000]})
    assert "more code" in long["message"]
    for wrong in ({}, {"packages": "a"}, {"packages": []}, {"packages": ["-r x"]}, {"packages": ["a"], "x": 1}):
        await checked(400, "POST", "computes/azure:rich/install", wrong)
    off = await checked(409, "POST", f"computes/{GPU.id}/modules", {"sources": ["import a"]})
    assert off["message"] == "gpu-vm is deallocated, so what is installed there cannot be seen."
    await checked(400, "POST", "computes", {"name": "x"})
    await checked(400, "POST", "computes", {"name": "x", "location": "l", "size": "s", "private": "yes"})
    await checked(400, "POST", "computes", {"name": "x", "location": "l", "size": "s", "image": "mine"})
    await checked(404, "POST", "computes/nothing/access", {})
    for body in ({"user": 1}, {"other": ""}, {"vmaccess": True}, {"password": "x", "renew_host_key": True}):
        await checked(400, "POST", f"computes/{GPU.id}/access", body)
    for wrong in (
        {},
        {"keep_seconds": None},
        {"idle_minutes": "30"},
        {"idle_minutes": True},
        {"minutes": 3},
        {"idle_minutes": 0},
    ):
        await checked(400, "PUT", "computes/azure:rich/idle", wrong)
    await checked(404, "PUT", "computes/nothing/idle", {"keep_seconds": 60})
    assert (await checked(409, "PUT", "computes/free/idle", {"keep_seconds": 60}))["code"] == "NothingToStop"
    assert "off" in (await checked(409, "PUT", f"computes/{GPU.id}/idle", {"keep_seconds": 60}))["message"]
    await checked(404, "GET", "operations/none")
    await checked(404, "DELETE", "operations/none")
    await checked(404, "DELETE", "operations/none", release="true")
    await checked(400, "DELETE", "operations/none", release="maybe")
    cloud.gate.clear()
    stop = await checked(202, "POST", f"computes/{GPU.id}/stop")
    assert (await checked(409, "DELETE", f"operations/{stop['id']}", release="true"))["code"] == "NothingToRelease"
    cloud.gate.set()
    await checked(400, "GET", "computes", refresh="maybe")
    await checked(404, "GET", "computes/nothing/sizes")
    await checked(404, "POST", "computes/nothing/terminals")
    await checked(409, "GET", "computes/free/ssh")
    await checked(404, "GET", "computes/nothing/metrics")
    await checked(400, "POST", "computes/azure:rich/resize", {"size": 4})
    await checked(400, "POST", "computes/azure:rich/resize", {"size": "D4ds_v5", "force": True})
    await checked(400, "POST", "computes/azure:rich/resize", {"size": "../../x"})
    await checked(202, "PUT", "kernels/k1/compute", {"compute": "rich"})
    await asyncio.sleep(0.3)
    running = await checked(409, "POST", "computes/azure:rich/resize", {"size": "D4ds_v5"})
    assert running["code"] == "KernelsRunning"
    await checked(404, "PUT", "questions/none", {"answer": "yes"})
    for wrong in ({}, {"answer": True}, {"answer": "maybe"}, {"answer": "yes", "for": "ever"}):
        await checked(400, "PUT", "questions/none", wrong)
    await checked(404, "POST", "workspaces/none/sync", {})
    await checked(400, "POST", "workspaces/w1/sync", {"direction": "sideways"})
    await checked(404, "POST", "workspaces/w1/conflicts", {"path": "other.csv", "keep": "mine"})
    await checked(400, "POST", "workspaces/w1/conflicts", {"path": "data.csv", "keep": "none"})
    await checked(404, "POST", "workspaces/none/fetch", {"paths": ["x"]})
    await checked(400, "POST", "workspaces/w1/fetch", {"paths": []})
    await checked(404, "GET", "kernels/k1/workspace", compute="nothing")
    await checked(400, "POST", "signin", {"token": "nonsense"})
    await checked(404, "GET", "signin", id="none")
    await checked(404, "DELETE", "signin", id="none")
    cloud.list_error = ComputeError("Azure did not answer.", advice="Wait.", retry_after=5)
    problems = (await checked(200, "GET", "computes", refresh="true"))["problems"]
    assert problems[0]["retry_after"] == 5
    cloud.refuse = Throttled("Too often.", retry_after=9)
    operation = await checked(202, "POST", f"computes/{GPU.id}/start")
    await asyncio.sleep(0.2)
    assert (await checked(200, "GET", f"operations/{operation['id']}"))["error"]["retry_after"] == 9


def test_file_and_routes_name_the_same_paths():
    for path in DOCUMENT["paths"]:
        sample = path.strip("/").replace("{action}", "start")
        sample = re.sub(r"\{\w+\}", "x", sample)
        assert any(re.fullmatch(pattern, sample) for pattern, _ in ROUTES[:-1]), path
    for pattern, handler in ROUTES[:-1]:
        template = pattern.replace("(start|stop|restart)", "{action}").replace("([^/]+)", "{}")
        known = {re.sub(r"\{(?!action)\w+\}", "{}", p.strip("/")): set(o) for p, o in DOCUMENT["paths"].items()}
        verbs = {m for m in ("get", "put", "post", "delete") if m in vars(handler)}
        assert verbs == known[template] - {"parameters"}, pattern


def test_the_event_schema_says_what_is_emitted():
    schema = yaml.safe_load((FILE.parent / "events" / "changed.yaml").read_text())
    assert set(schema["properties"]) == {"what", "id", "revision"}
    assert schema["properties"]["what"]["enum"] == [
        "computes",
        "kernels",
        "operations",
        "signin",
        "questions",
        "workspaces",
        "spend",
    ]
