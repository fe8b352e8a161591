"""Where a token goes, and where not: credentials and the pipeline, over real HTTP."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm.compute.azure.client import ArmClient
from jupyter_dsvm.compute.azure.credentials import CLOUDS, TokenFile, check_endpoint, cloud_of, credential_for, origin
from jupyter_dsvm.errors import ComputeError, SignInRequired, Throttled
from support.arm_server import TOKEN, ArmServer, Reply, Request, arm_server, fault, token_file


@pytest.fixture
def foreign() -> Iterator[ArmServer]:
    """A server that must never see the token."""
    with arm_server(lambda request: Reply(body={"value": ["stolen"]})) as server:
        yield server
        assert all("authorization" not in request.headers for request in server.requests)


def client_of(server: ArmServer, tmp_path: Path) -> ArmClient:
    return ArmClient(server.url, token_file(tmp_path))


def test_importing_the_package_imports_no_azure_library() -> None:
    code = (
        "import sys, jupyter_dsvm.compute.azure as a; a.AzureCompute();"
        "found = [m for m in sys.modules if m.partition('.')[0] in ('azure', 'msal', 'paramiko', 'requests')];"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_requests_carry_the_token_and_its_renewal(tmp_path: Path) -> None:
    with arm_server(lambda request: Reply(body={"ok": True})) as server:
        client = client_of(server, tmp_path)
        assert client.get("/subscriptions", "2022-12-01") == {"ok": True}
        (tmp_path / "token").write_text("renewed")
        client.post("/x", "1", {"a": 1})
        client.close()
    first, second = server.requests
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert first.query == {"api-version": "2022-12-01"}
    assert second.headers["authorization"] == "Bearer renewed"
    assert second.body == {"a": 1}


def test_the_token_is_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with arm_server(lambda request: Reply(body={})) as server:
        client = client_of(server, tmp_path)
        client.get("/", "1")
        client.close()
    assert "api-version" in caplog.text
    assert TOKEN not in caplog.text


def test_a_next_link_to_another_host_is_refused(tmp_path: Path, foreign: ArmServer) -> None:
    def answer(request: Request) -> Reply:
        return Reply(body={"value": [1], "nextLink": f"{foreign.url}/subscriptions?page=2"})

    with arm_server(answer) as server:
        client = client_of(server, tmp_path)
        with client.translated("list"), pytest.raises(ComputeError, match="pointed there") as caught:
            list(client.pages("/subscriptions", "1"))
        client.close()
    assert caught.value.code == "ForeignAddress"
    assert foreign.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(tmp_path: Path, foreign: ArmServer, status: int) -> None:
    with arm_server(lambda request: Reply(status, headers={"Location": foreign.url})) as server:
        client = client_of(server, tmp_path)
        with pytest.raises(ComputeError, match="redirect") as caught, client.translated("list"):
            client.get("/subscriptions", "1")
        client.close()
    assert caught.value.code == "Redirected"
    assert foreign.requests == []


def test_a_proxy_of_the_environment_gets_no_token_over_plain_http(
    tmp_path: Path, foreign: ArmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, foreign.url)
    with arm_server(lambda request: Reply(body={"direct": True})) as server:
        client = client_of(server, tmp_path)
        assert client.get("/", "1") == {"direct": True}
        client.close()
    assert foreign.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1@evil.example/",
        "https://127.0.0.1:1/",
        "http://127.0.0.1:2/",
        "http://127.0.0.1.evil.example:1/",
        "//127.0.0.1:1/",
        "file:///etc/passwd",
    ],
)
def test_other_origins(url: str) -> None:
    try:
        assert origin(url) != origin("http://127.0.0.1:1/x")
    except ValueError:
        pass


def test_what_costs_money_is_asked_once_and_what_reads_a_few_times(tmp_path: Path) -> None:
    with arm_server(lambda request: fault(503, "ServerTimeout", "Later.", Retry_After="0")) as server:
        client = client_of(server, tmp_path)
        for call in (lambda: client.get("/x", "1"), lambda: client.post("/x", "1", {})):
            with pytest.raises(ComputeError, match="fault of its own"), client.translated("do it"):
                call()
        client.close()
    assert (len(server.asked("GET")), len(server.asked("POST"))) == (3, 1)


def test_a_long_retry_after_is_shown_not_slept(tmp_path: Path) -> None:
    with arm_server(lambda request: fault(429, "TooManyRequests", "Slow down.", Retry_After="1200")) as server:
        client = client_of(server, tmp_path)
        began = time.monotonic()
        with pytest.raises(Throttled) as caught, client.translated("list the VMs"):
            client.get("/x", "1")
        assert time.monotonic() - began < 5
        client.close()
    assert caught.value.retry_after == 1200
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["{broken", '["a list"]', ""])
def test_an_answer_that_is_no_json_object(tmp_path: Path, body: str) -> None:
    with arm_server(lambda request: Reply(body=body)) as server:
        client = client_of(server, tmp_path)
        with pytest.raises(ComputeError, match="not Azure's"), client.translated("list"):
            client.get("/x", "1")
        client.close()


def test_nobody_there(tmp_path: Path) -> None:
    with arm_server(lambda request: Reply()) as server:
        url = server.url
    client = ArmClient(url, token_file(tmp_path))
    expected = f"Could not list the VMs: no answer from {url}"
    with pytest.raises(ComputeError, match=expected) as caught, client.translated("list the VMs"):
        client.get("/x", "1")
    assert caught.value.code == "Unreachable"
    assert "refused" in caught.value.message
    client.close()


@pytest.mark.parametrize(
    "endpoint", ["http://management.azure.com", "http://10.0.0.1", "ftp://x", "http://", "nonsense"]
)
def test_an_endpoint_in_the_clear_is_refused(endpoint: str) -> None:
    with pytest.raises(ComputeError) as caught:
        check_endpoint(endpoint)
    assert caught.value.code == "Configuration"


def test_which_endpoints_are_azure() -> None:
    assert cloud_of("https://management.azure.com/") is CLOUDS["public"]
    assert cloud_of("https://MANAGEMENT.usgovcloudapi.net:443") is CLOUDS["usgov"]
    for near in (
        "http://management.azure.com",
        "https://management.azure.com.evil.example",
        "https://management.azure.com:8443",
    ):
        assert cloud_of(near) is None


def test_the_token_file_is_for_other_endpoints_only_and_their_only_source(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    assert isinstance(credential_for("https://127.0.0.1:1", path), TokenFile)
    assert not isinstance(credential_for("https://management.azure.com", path), TokenFile)
    with pytest.raises(SignInRequired, match="no Azure cloud"):
        credential_for("https://arm.example.org", "")


def test_no_credential_of_the_machine_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub's managed identity would make every user act as the hub."""
    import azure.identity

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the managed identity was tried")

    monkeypatch.setattr(azure.identity.ManagedIdentityCredential, "__init__", refuse)
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no `az`
    client = ArmClient("https://management.azure.com")
    with pytest.raises(SignInRequired, match="nobody is signed in") as caught, client.translated("list the VMs"):
        client.get("/subscriptions", "2022-12-01")
    assert "az login" in caught.value.advice
    client.close()


def test_a_token_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    Path(path).chmod(0o640)
    with pytest.raises(ComputeError, match="other users") as caught:
        TokenFile(path).read()
    assert TOKEN not in str(caught.value)
    assert "chmod 600" in caught.value.advice
    for content in (b"", b"\xff\xfe"):
        Path(path).write_bytes(content)
        Path(path).chmod(0o600)
        with pytest.raises(SignInRequired):
            TokenFile(path).read()
    with pytest.raises(SignInRequired, match="No such file"):
        TokenFile(str(tmp_path / "none")).read()
