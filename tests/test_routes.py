"""The REST API on a real Jupyter server, with real kernels behind proxies: shapes, errors, and who is let in."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest
import tornado.httpclient
from tornado.httpclient import HTTPClientError

from jupyter_dsvm import routes
from jupyter_dsvm.errors import OperationRefused, Throttled
from jupyter_dsvm.models import PowerState
from jupyter_dsvm.routes import ROUTES
from jupyter_dsvm.service import DSVMService
from support.fakes import FakeCompute, FakeFree, dsvm
from support.server import jp_asyncio_loop, jp_server_cleanup  # noqa: F401

Fetch = Callable[..., Awaitable[Any]]

CPU, GPU = dsvm("cpu-vm"), dsvm("gpu-vm", PowerState.DEALLOCATED)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> FakeCompute:
    made = FakeCompute(CPU, GPU)
    monkeypatch.setattr(DSVMService, "_make_providers", lambda self: [FakeFree(), made])
    monkeypatch.delenv("JUPYTER_DEFAULT_PROVISIONER_NAME", raising=False)
    return made


@pytest.fixture
def jp_server_config(cloud: FakeCompute) -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_dsvm": True}, "allow_unauthenticated_access": False},
        "KernelProvisionerFactory": {},
    }


@pytest.fixture
def api(jp_fetch: Fetch) -> Fetch:
    """``await api("GET", "kernels")`` gives status and JSON, also of an error."""

    async def call(
        method: str, *path: str, body: Any = None, raw: str | None = None, **options: Any
    ) -> tuple[int, Any]:
        data = raw if raw is not None else json.dumps(body) if body is not None else "" if method == "POST" else None
        try:
            answer = await jp_fetch(
                "jupyter-dsvm", *path, method=method, body=data, allow_nonstandard_methods=True, **options
            )
        except HTTPClientError as e:
            answer = e.response
        return answer.code, json.loads(answer.body) if answer.body else None

    return call


async def ended(api: Fetch, operation: dict[str, Any]) -> dict[str, Any]:
    for _ in range(400):
        _, now = await api("GET", "operations", operation["id"])
        if now["ended"]:
            return now
        await asyncio.sleep(0.05)
    raise AssertionError(f"it did not end: {now}")


async def test_computes_and_their_changes(api: Fetch, cloud: FakeCompute):
    status, listing = await api("GET", "computes")
    assert status == 200
    assert [c["name"] for c in listing["computes"]] == ["Free tier", "cpu-vm", "gpu-vm"]
    cloud.gate.clear()
    status, operation = await api("POST", "computes", GPU.id, "start")
    assert status == 202
    assert (operation["kind"], operation["state"]) == ("start", "running")
    assert (await api("DELETE", "operations", operation["id"])) == (204, None)
    assert (await ended(api, operation))["state"] == "cancelled"
    assert (await api("DELETE", "operations", operation["id"]))[1]["code"] == "OperationEnded"
    cloud.gate.set()
    status, operation = await api("POST", "computes", GPU.id, "start")
    done = await ended(api, operation)
    assert (done["state"], done["progress"]) == ("done", 1.0)
    # A name means the same machine as its id, which jp_fetch has percent-encoded.
    for name in (GPU.id, "gpu-vm"):
        status, operation = await api("POST", "computes", name, "stop")
        assert (status, operation["compute"]) == (202, GPU.id)
        await ended(api, operation)
    _, after = await api("GET", "computes", params={"refresh": "true"})
    assert after["revision"] > listing["revision"]
    assert [o["kind"] for o in (await api("GET", "operations"))[1]["operations"]] == ["stop", "stop", "start", "start"]


async def test_a_refusal_keeps_what_azure_said(api: Fetch, cloud: FakeCompute):
    cloud.refuse = OperationRefused("Azure has none left.", advice="Try another size.", code="AllocationFailed")
    done = await ended(api, (await api("POST", "computes", GPU.id, "start"))[1])
    assert done["error"] == {
        "code": "AllocationFailed",
        "message": "Azure has none left.",
        "advice": "Try another size.",
        "retry_after": None,
    }


async def test_errors_have_one_shape_and_the_right_status(api: Fetch, cloud: FakeCompute):
    async def check(expected: int, code: str, method: str, *path: str, **options: Any) -> dict[str, Any]:
        status, error = await api(method, *path, **options)
        assert (status, error["code"]) == (expected, code)
        assert set(error) <= {"code", "message", "advice", "retry_after"}
        assert error["message"].endswith(".")
        return error

    unknown = await check(404, "UnknownCompute", "POST", "computes", "gpuvm", "start")
    assert "gpu-vm" in unknown["advice"]
    await check(404, "UnknownKernel", "PUT", "kernels", "nobody", "compute", body={"compute": "free"})
    await check(404, "UnknownOperation", "GET", "operations", "none")
    await check(404, "UnknownOperation", "DELETE", "operations", "none")
    await check(404, "NotFound", "GET", "nothing", "here")
    await check(404, "NotFound", "POST", "computes", "free", "explode")
    await check(405, "MethodNotAllowed", "DELETE", "computes")
    await check(400, "BadRequest", "GET", "computes", params={"refresh": "maybe"})
    for raw in ("", "{", "[]", '"x"', "{}", '{"compute": 5}', '{"compute": ""}', '{"compute": "a", "kernelspec": 1}'):
        await check(400, "BadRequest", "PUT", "kernels", "k", "compute", raw=raw)
    await check(400, "BadRequest", "PUT", "kernels", "k", "compute", body={"compute": "free", "more": 1})
    await check(400, "BadRequest", "PUT", "kernels", "k", "compute", raw="x" * 100_000)


async def test_wrong_words_about_files_are_told_so(api: Fetch):
    async def refused(method: str, *path: str, body: Any = None, **options: Any) -> None:
        status, error = await api(method, *path, body=body, **options)
        assert (status, error["code"]) == (400, "BadRequest"), body
        assert error["advice"]

    for body in ({"direction": "up"}, {"force": 1}, {"yes": "yes"}, {"path": "x"}, {"direction": ["push"]}):
        await refused("POST", "workspaces", "w", "sync", body=body)
    for body in ({}, {"path": "x"}, {"path": 1, "keep": "mine"}, {"path": "x", "keep": "both"}, {"keep": "mine"}):
        await refused("POST", "workspaces", "w", "conflicts", body=body)
    for body in ({}, {"paths": "x"}, {"paths": []}, {"paths": [1]}, {"paths": ["x"], "all": True}):
        await refused("POST", "workspaces", "w", "fetch", body=body)
    await refused("GET", "kernels", "k", "workspace")
    await refused("PUT", "kernels", "k", "compute", body={"compute": "free", "sync": "yes"})


async def test_a_bug_shows_no_traceback(api: Fetch, cloud: FakeCompute, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DSVMService, "kernels", lambda self: 1 / 0)
    status, error = await api("GET", "kernels")
    assert (status, error["code"]) == (500, "Internal")
    assert "Zero" not in str(error)


async def test_retry_after_is_a_header_too(jp_fetch: Fetch, cloud: FakeCompute, monkeypatch: pytest.MonkeyPatch):
    def throttled(self: Any, text: str) -> Any:
        raise Throttled("Asked too often.", retry_after=17)

    monkeypatch.setattr(DSVMService, "start", throttled)
    with pytest.raises(HTTPClientError) as e:
        await jp_fetch("jupyter-dsvm", "computes", "x", "start", method="POST", body="")
    assert e.value.code == 429
    assert e.value.response.headers["Retry-After"] == "17"


# Who is let in


PATHS = [
    "computes",
    "creation",
    "computes/free/start",
    "computes/free/stop",
    "computes/free/restart",
    "computes/free/access",
    "computes/free/idle",
    "computes/free/kernelspecs",
    "computes/free/idle",
    "computes/free/loss",
    "computes/free/metrics",
    "computes/free/modules",
    "computes/free/install",
    "computes/free/terminals",
    "computes/free/ssh",
    "computes/free/sizes",
    "computes/free/resize",
    "kernels",
    "kernels/k/compute",
    "kernels/k/outputs",
    "kernels/k/reconnect",
    "kernels/k/advice",
    "kernels/k/saved",
    "kernels/k/variables",
    "kernels/k/variables/load",
    "kernels/k/variables/saved",
    "kernels/k/workspace",
    "operations",
    "operations/o",
    "questions",
    "questions/q",
    "spend",
    "signin",
    "workspaces",
    "workspaces/w/sync",
    "workspaces/w/conflicts",
    "workspaces/w/fetch",
    "anything/else",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


def test_the_walk_below_covers_every_route():
    import re

    for pattern, _ in ROUTES:
        assert any(re.fullmatch(pattern, p) for p in PATHS), pattern


async def test_every_route_refuses_who_is_not_signed_in(
    jp_serverapp: Any, jp_base_url: str, jp_fetch: Fetch, cloud: FakeCompute
):
    client = tornado.httpclient.AsyncHTTPClient()
    root = f"http://127.0.0.1:{jp_serverapp.port}{jp_base_url}jupyter-dsvm/"
    for path in PATHS:
        for method in METHODS:
            answer = await client.fetch(
                root + path,
                method=method,
                body=None if method in ("GET", "HEAD") else "{}",
                allow_nonstandard_methods=True,
                follow_redirects=False,
                raise_error=False,
            )
            assert answer.code in (401, 403), (method, path, answer.code)
            assert b"compute" not in answer.body.replace(b"compute/", b"")
    assert cloud.asked == []


async def test_a_page_that_shows_metrics_and_spend_does_not_keep_a_server_from_being_idle(
    jp_serverapp: Any, api: Fetch
):
    before = jp_serverapp.web_app.settings["api_last_activity"] if await api("GET", "computes") else None
    status, metrics = await api("GET", "computes", "free", "metrics")
    assert (status, metrics["compute"]) == (200, "free")
    assert (await api("GET", "spend"))[0] == 200
    assert jp_serverapp.web_app.settings["api_last_activity"] == before
    assert (await api("GET", "computes", "nothing", "metrics"))[1]["code"] == "UnknownCompute"


async def test_a_machine_that_does_not_answer_for_its_metrics(
    api: Fetch, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
):
    service: DSVMService = jp_serverapp.web_app.settings["jupyter_dsvm_service"]
    never: Future[Any] = Future()
    monkeypatch.setattr(service.connections, "ask", lambda compute, operation: never)
    monkeypatch.setattr(routes, "PATIENCE", 0.2)
    status, metrics = await api("GET", "computes", CPU.id, "metrics")
    assert (status, metrics["compute"], metrics["memory"]) == (200, CPU.id, None)
    never.set_result({"memory": [2**30, 2**32]})
    assert (await api("GET", "computes", "cpu-vm", "metrics"))[1]["memory"] == {"used_gib": 1.0, "total_gib": 4.0}


async def test_a_cookie_without_its_xsrf_token_changes_nothing(
    jp_serverapp: Any, jp_base_url: str, api: Fetch, cloud: FakeCompute
):
    client = tornado.httpclient.AsyncHTTPClient()
    base = f"http://127.0.0.1:{jp_serverapp.port}{jp_base_url}"
    page = await client.fetch(f"{base}login", follow_redirects=False, raise_error=False)
    cookies = dict(c.split(";")[0].split("=", 1) for c in page.headers.get_list("Set-Cookie"))
    token = cookies["_xsrf"]
    signed_in = await client.fetch(
        f"{base}login",
        method="POST",
        body=urllib.parse.urlencode({"password": jp_serverapp.identity_provider.token, "_xsrf": token}),
        headers={"Cookie": f"_xsrf={token}"},
        follow_redirects=False,
        raise_error=False,
    )
    cookies.update(c.split(";")[0].split("=", 1) for c in signed_in.headers.get_list("Set-Cookie"))
    token = cookies["_xsrf"]
    cookie = "; ".join(f"{k}={v}" for k, v in cookies.items())

    async def ask(method: str, path: str, **headers: str) -> int:
        answer = await client.fetch(
            f"{base}jupyter-dsvm/{path}",
            method=method,
            body=None if method == "GET" else "{}",
            headers={"Cookie": cookie, **headers},
            allow_nonstandard_methods=True,
            raise_error=False,
        )
        if answer.code == 403:
            assert json.loads(answer.body)["code"] == "Forbidden"
        return answer.code

    assert await ask("GET", "kernels") == 200  # the cookie is good
    for method, path in [
        ("POST", f"computes/{GPU.id}/start"),
        ("POST", f"computes/{GPU.id}/resize"),
        ("PUT", "kernels/k/compute"),
        ("DELETE", "operations/o"),
    ]:
        assert await ask(method, path) == 403
        assert await ask(method, path, **{"X-XSRFToken": "wrong"}) == 403
    assert not [a for a in cloud.asked if a != "list"]
    assert await ask("POST", f"computes/{GPU.id}/start", **{"X-XSRFToken": token}) == 202
    # A script with the server's token needs no cookie and no XSRF token (jp_fetch sends just that).
    status, operation = await api("POST", "computes", GPU.id, "start")
    assert status == 202
    await ended(api, operation)


async def test_an_authorizer_can_keep_collaborators_from_spending(
    jp_serverapp: Any, api: Fetch, cloud: FakeCompute, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, str]] = []

    def is_authorized(handler: Any, user: Any, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return action == "read"

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", is_authorized)
    assert (await api("GET", "computes"))[0] == 200
    assert (await api("POST", "computes", GPU.id, "start"))[0] == 403
    assert (await api("PUT", "kernels", "k", "compute", body={"compute": "free"}))[0] == 403
    assert (await api("DELETE", "operations", "o"))[0] == 403
    assert (await api("PUT", "questions", "q", body={"answer": "yes"}))[0] == 403
    assert (await api("GET", "questions"))[0] == 200
    assert {r for _, r in asked} == {"jupyter_dsvm"}
    assert not [a for a in cloud.asked if a != "list"]


async def test_who_may_not_see_kernels_is_told_nothing_of_their_outputs(
    jp_serverapp: Any, api: Fetch, monkeypatch: pytest.MonkeyPatch
):
    refused: set[tuple[str, str]] = set()

    def is_authorized(handler: Any, user: Any, action: str, resource: str) -> bool:
        return (action, resource) not in refused

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", is_authorized)
    assert (await api("GET", "kernels", "k", "outputs"))[0] == 404
    for resource in ("kernels", "jupyter_dsvm"):
        refused = {("read", resource)}
        assert (await api("GET", "kernels", "k", "outputs"))[0] == 403
    for resource in ("kernels", "jupyter_dsvm"):
        refused = {("write", resource)}
        assert (await api("DELETE", "kernels", "k", "outputs", params={"msg_id": "m"}))[0] == 403


# Kernels, events, and the provisioner


async def start_session(jp_fetch: Fetch, path: str) -> dict[str, Any]:
    body = {"path": path, "name": "", "type": "notebook", "kernel": {"name": "python3"}}
    answer = await jp_fetch("api", "sessions", method="POST", body=json.dumps(body))
    session: dict[str, Any] = json.loads(answer.body)
    return session


async def test_a_notebooks_kernel_has_a_front_and_its_path_follows_renames(
    jp_serverapp: Any, jp_fetch: Fetch, api: Fetch
):
    events: list[dict[str, Any]] = []

    async def listener(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        events.append(data)

    jp_serverapp.event_logger.add_listener(
        schema_id="https://events.jupyter.org/jupyter_dsvm/changed", listener=listener
    )
    session = await start_session(jp_fetch, "analysis.ipynb")
    kernel_id = session["kernel"]["id"]
    try:
        _, listing = await api("GET", "kernels")
        (row,) = listing["kernels"]
        assert (row["id"], row["path"], row["compute"]) == (kernel_id, "analysis.ipynb", "free")
        await jp_fetch("api", "sessions", session["id"], method="PATCH", body=json.dumps({"path": "renamed.ipynb"}))
        (row,) = (await api("GET", "kernels"))[1]["kernels"]
        assert row["path"] == "renamed.ipynb"
        free = (await api("GET", "computes"))[1]["computes"][0]
        assert free["attached"] == ["renamed.ipynb"]
        # It is there already: an operation that is done at once, so that a page needs no special case.
        status, operation = await api("PUT", "kernels", kernel_id, "compute", body={"compute": "free"})
        assert (status, operation["state"], operation["kind"]) == (202, "done", "detach")
    finally:
        await jp_fetch("api", "sessions", session["id"], method="DELETE")
    for _ in range(100):
        if not (await api("GET", "kernels"))[1]["kernels"]:
            break
        await asyncio.sleep(0.05)
    assert (await api("GET", "kernels"))[1]["kernels"] == []
    assert {e["what"] for e in events} >= {"kernels", "operations"}
    assert all(set(e) <= {"what", "id", "revision"} for e in events)


async def test_the_default_provisioner_is_ours_and_is_given_back(jp_serverapp: Any, cloud: FakeCompute):
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    from jupyter_dsvm.kernels.registry import registry

    factory = KernelProvisionerFactory.instance()
    assert factory.default_provisioner_name == "dsvm-provisioner"
    point = next(iter(jp_serverapp.extension_manager.extension_apps["jupyter_dsvm"]))
    assert registry.service is point.service
    await point.stop_extension()
    assert factory.default_provisioner_name == "local-provisioner"
    assert registry.service is None
    assert cloud.closed or point.service.known.snapshot().computes == ()


@pytest.mark.parametrize("how", ["setting", "environment", "configuration"])
async def test_it_can_be_turned_off(
    how: str, jp_configurable_serverapp: Any, monkeypatch: pytest.MonkeyPatch, cloud: Any
):
    from jupyter_client.provisioning.factory import KernelProvisionerFactory

    config: dict[str, Any] = {"ServerApp": {"jpserver_extensions": {"jupyter_dsvm": True}}}
    if how == "setting":
        config["DSVMExtension"] = {"keep_kernels_movable": False}
    elif how == "environment":
        monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "local-provisioner")
    else:
        config["KernelProvisionerFactory"] = {"default_provisioner_name": "local-provisioner"}
    KernelProvisionerFactory.clear_instance()
    app = jp_configurable_serverapp(config=config)
    try:
        assert KernelProvisionerFactory.instance(parent=app).default_provisioner_name == "local-provisioner"
    finally:
        KernelProvisionerFactory.clear_instance()
