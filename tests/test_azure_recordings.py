"""Recordings of real ARM traffic, replayed over real HTTP to the provider and its pipeline.

The recordings are Azure's own tests of its compute library; without them (``../shared/data``) these tests are skipped.
``test_azure_lifecycle.py`` replays start, restart and deallocate through the provider.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.azure.client import ArmClient
from jupyter_dsvm.compute.azure.lifecycle import _Polling
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.errors import ComputeError, OperationRefused
from jupyter_dsvm.models import OS, PowerState
from support.arm_server import ArmServer, Reply, Request, arm_server, fault, token_file

FOLDER = Path(__file__).parents[2] / "shared/data/sdk-recordings"
AZURE = "https://management.azure.com"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
GROUP = "rgname"
FIRST, SECOND = "virtualmachinex15cf0eff", "virtualmachinex34bd0f90"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/data with recordings of Azure is not there")


class Recordings:
    """Every recorded answer, by method and address; those to one question in their order, the last one for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.missing: list[str] = []
        self.recorded: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
        for file in sorted(FOLDER.glob("*.yaml")):
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            for interaction in yaml.load(file.read_text(), Loader=loader)["interactions"]:
                uri, _, query = interaction["request"]["uri"].partition("?")
                key = (interaction["request"]["method"], uri.removeprefix(AZURE).lower(), "monitor=true" in query)
                self.recorded.setdefault(key, []).append(interaction["response"])
        self.left = {key: list(answers) for key, answers in self.recorded.items()}

    def __call__(self, request: Request) -> Reply:
        path = request.path.lower()
        if path.endswith("/resources"):
            return fault(403, "AccessDenied", "The graph was not recorded.")
        if path == "/subscriptions":
            return Reply(body={"value": [{"subscriptionId": SUBSCRIPTION, "displayName": "Recorded"}]})
        if path.endswith("/microsoft.compute/virtualmachines"):
            return Reply(body={"value": [self.model(FIRST, "statusOnly" in request.query), self.model(SECOND, False)]})
        answers = self.left.get((request.method, path, "monitor" in request.query))
        if not answers:
            self.missing.append(f"{request.method} {path}")
            return fault(404, "NotRecorded", path)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        kept = {"azure-asyncoperation", "location", "retry-after", "x-ms-ratelimit-remaining-resource"}
        headers = {
            # As recorded, but for the host; and nobody waits for Azure's seconds here.
            name: "0" if name.lower() == "retry-after" else values[0].replace(AZURE, self.url)
            for name, values in answer["headers"].items()
            if name.lower() in kept
        }
        return Reply(answer["status"]["code"], answer["body"]["string"].replace(AZURE, self.url), headers)

    def model(self, name: str, status: bool) -> dict[str, Any]:
        """A recorded VM, marked as a DSVM; that of a list has no instance view unless it is asked for."""
        path = (
            f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/providers/microsoft.compute/virtualmachines/{name}"
        )
        models = [json.loads(r["body"]["string"]) for r in self.recorded["GET", path, False]]
        model = next((m for m in models if ("instanceView" in m["properties"]) is status), models[-1])
        return {**model, "tags": {"dsvm": "true"}}


@pytest.fixture
def recordings() -> Recordings:
    return Recordings()


@pytest.fixture
def server(recordings: Recordings) -> Iterator[ArmServer]:
    with arm_server(recordings) as running:
        recordings.url = running.url
        yield running
    assert recordings.missing == []


@pytest.fixture
def client(server: ArmServer, tmp_path: Path) -> Iterator[ArmClient]:
    client = ArmClient(server.url, token_file(tmp_path))
    yield client
    client.close()


def test_recorded_vms_are_listed_without_the_graph(server: ArmServer, tmp_path: Path) -> None:
    provider = AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path))
    listing = provider.list()
    first, second = listing.computes
    fresh = provider.get(first.id)
    provider.close()
    assert listing.problems == ()
    assert (first.name, second.name, first.os, first.location) == (FIRST, SECOND, OS.WINDOWS, "eastus")
    assert (first.power_state, second.power_state) == (PowerState.RUNNING, PowerState.UNKNOWN)
    assert (first.image or "").lower().startswith("microsoftwindowsserver:windowsserver:")
    assert first.size is not None
    assert (first.size.name, first.size.vcpus) == ("Standard_D2_v2", 2)
    assert fresh.id == first.id


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("begin_power_off", ()),
        ("begin_start", ()),
        ("begin_restart", ()),
        ("begin_reapply", ()),
        ("begin_redeploy", ()),
        ("begin_run_command", ({"commandId": "RunPowerShellScript"},)),
        ("begin_update", ({"tags": {"a": "b"}},)),
        ("begin_deallocate", ()),
    ],
)
def test_recorded_operations_end_with_our_polling(
    client: ArmClient, server: ArmServer, action: str, arguments: tuple[Any, ...]
) -> None:
    """Azure's own headers and bodies: 202 and 200, two kinds of addresses, a result of its own for the run command."""
    polling = _Polling(0.01, Cancel(), deadline=float("inf"))
    operations = client.virtual_machines(SUBSCRIPTION)
    poller = getattr(operations, action)(GROUP, FIRST, *arguments, polling=polling, retry_total=0)
    poller.result(30)
    assert poller.status() == "Succeeded"
    assert len([r for r in server.requests if r.method in {"POST", "PATCH"}]) == 1
    assert [r for r in server.requests if "/operations/" in r.path]
    assert all(r.headers["authorization"].startswith("Bearer ") for r in server.requests)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("performMaintenance", "the Subscription of this VM is not eligible"),
        ("convertToManagedDisks", "is already using managed disks"),
        ("reimage", "requires? that the virtual machine has Automatic OS Upgrades enabled"),
    ],
)
def test_recorded_refusals_say_what_azure_said(client: ArmClient, server: ArmServer, action: str, says: str) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute/virtualMachines/{SECOND}/{action}"
    with pytest.raises(OperationRefused, match=says) as caught, client.translated(f"change {SECOND}"):
        client.post(path, "2020-12-01", {})
    assert caught.value.code == "OperationNotAllowed"
    assert caught.value.message.startswith(f"Could not change {SECOND}")
    assert len(server.requests) == 1


def test_every_recorded_object_is_read_and_every_list_without_envelope_is_refused(
    client: ArmClient, recordings: Recordings, server: ArmServer
) -> None:
    read = 0
    for method, path, monitor in recordings.recorded:
        if method != "GET" or monitor:
            continue
        body = json.loads(recordings.recorded[method, path, monitor][0]["body"]["string"])
        if isinstance(body, dict):
            assert client.get(path, "2020-12-01").keys() == body.keys()
            read += 1
        else:
            with pytest.raises(ComputeError, match="not Azure's"), client.translated("read it"):
                client.get(path, "2020-12-01")
    assert read > 20
