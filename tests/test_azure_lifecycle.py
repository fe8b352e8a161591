"""Start, stop and restart: Azure's long-running operations, from recordings of Azure and from a server that misbehaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyter_dsvm.compute.azure import AzureCompute
from jupyter_dsvm.compute.provider import Cancel, Memo
from jupyter_dsvm.errors import (
    Cancelled,
    ComputeError,
    DSVMError,
    Forbidden,
    OperationRefused,
    Throttled,
    UnknownCompute,
)
from jupyter_dsvm.models import PowerState
from support.arm_server import (
    VM_ID,
    ArmServer,
    Reply,
    Request,
    arm_server,
    fault,
    graph_row,
    instance_view,
    token_file,
    vm_model,
)

ID = f"azure:{VM_ID.lower()}"
RECORDING = Path(__file__).parents[2] / "shared/data/sdk-recordings/test_mgmt_compute_vm.test_compute_vm.yaml"


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 3
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(threading.enumerate()) - before == set()


@dataclass
class Azure:
    """One VM whose operations take ``polls`` looks; the fields are what a test changes."""

    state: str = "deallocated"
    polls: int = 2
    post: Reply | None = None
    """Instead of 202."""
    operation: list[Reply] = field(default_factory=list)
    """Answers of the operation's address before the ordinary ones; the last one goes if ``stuck``."""
    stuck: bool = False
    ends_in: str | None = None
    error: dict[str, str] | None = None
    states: list[str] = field(default_factory=list)
    """What the instance view says before ``state``."""
    url: str = ""

    def __call__(self, request: Request) -> Reply:
        last = request.path.rpartition("/")[2]
        if last == "resources":
            return Reply(body={"data": [graph_row(powerState=f"PowerState/{self.state}")]})
        if last == "gpu-vm":
            return Reply(body=vm_model(state=self.states[0] if self.states else self.state))
        if last == "instanceView":
            return Reply(body=instance_view(self.states.pop(0) if self.states else self.state))
        if last == "operation":
            return self._operation()
        if self.post is not None:
            return self.post
        self.ends_in = self.ends_in or {"start": "running", "restart": "running", "deallocate": "deallocated"}[last]
        operation = f"{self.url}/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/operation"
        headers = {"Azure-AsyncOperation": f"{operation}?api-version=1", "Location": f"{operation}?monitor=true"}
        return Reply(202, headers={**headers, "Retry-After": "0"})

    def _operation(self) -> Reply:
        if self.operation:
            return self.operation[0] if self.stuck else self.operation.pop(0)
        if self.polls > 0 or self.stuck:
            self.polls -= 1
            return Reply(body={"status": "InProgress", "startTime": "2026-01-01T00:00:00Z"})
        if self.error:
            return Reply(body={"status": "Failed", "error": self.error})
        self.state = self.ends_in or self.state
        return Reply(body={"status": "Succeeded"})


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[tuple[Azure, ArmServer, AzureCompute]]:
    play = Azure()
    with arm_server(play) as server:
        play.url = server.url
        provider = AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02)
        yield play, server, provider
        provider.close()


class Reports(list[str]):
    def __call__(self, text: str, done: float | None) -> None:
        assert done is None
        self.append(text)


def test_start(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    _, server, provider = azure
    reports = Reports()
    compute = provider.start(ID, reports, Cancel())
    assert compute.power_state is PowerState.RUNNING
    assert len(server.asked("POST", "/start")) == 1
    assert reports[0] == "Asking Azure to start gpu-vm"
    assert "Azure is starting gpu-vm" in reports
    assert not any(char.isdigit() for text in reports for char in text), "read out by screen readers: no counts"
    assert provider.get(ID).power_state is PowerState.RUNNING


def test_stop_deallocates(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.state = "stopped"  # without being deallocated, and so still billed
    assert provider.stop(ID, Reports(), Cancel()).power_state is PowerState.DEALLOCATED
    assert len(server.asked("POST", "/deallocate")) == 1


def test_restart(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.state = "running"
    assert provider.restart(ID, Reports(), Cancel()).power_state is PowerState.RUNNING
    assert len(server.asked("POST", "/restart")) == 1
    play.state = "deallocated"
    with pytest.raises(OperationRefused, match="is deallocated, so it cannot be restarted"):
        provider.restart(ID, Reports(), Cancel())


@pytest.mark.parametrize(("kind", "state"), [("start", "running"), ("stop", "deallocated")])
def test_what_is_so_already_is_not_asked_for(
    azure: tuple[Azure, ArmServer, AzureCompute], kind: str, state: str
) -> None:
    play, server, provider = azure
    play.state = state
    assert getattr(provider, kind)(ID, Reports(), Cancel()).power_state.value == state
    assert [r for r in server.asked("POST") if not r.path.endswith("resources")] == []


@pytest.mark.parametrize(
    ("post", "kind", "says"),
    [
        (fault(409, "AllocationFailed", "No room."), OperationRefused, "no capacity"),
        (
            fault(403, "AuthorizationFailed", "perform action 'Microsoft.Compute/virtualMachines/start/action' over"),
            Forbidden,
            "the permission Microsoft.Compute/virtualMachines/start/action",
        ),
        (fault(429, "OperationNotAllowed", "Too many.", Retry_After="1200"), Throttled, "too many requests"),
        (fault(503, "ServerTimeout", "Later.", Retry_After="0"), ComputeError, "fault of its own"),
        (fault(404, "ResourceNotFound", "Gone."), UnknownCompute, "not in Azure any more"),
        (fault(409, "MissingSubscriptionRegistration", "not 'Microsoft.Compute'"), OperationRefused, "Registration"),
    ],
)
def test_a_refusal_is_said_and_nothing_is_asked_twice(
    azure: tuple[Azure, ArmServer, AzureCompute], post: Reply, kind: type[DSVMError], says: str
) -> None:
    play, server, provider = azure
    play.post = post
    with pytest.raises(kind, match=f"Could not start gpu-vm.*{says}"):
        provider.start(ID, Reports(), Cancel())
    assert len(server.asked("POST", "/start")) == 1
    assert server.asked("POST", "/register") == []


def test_an_operation_that_fails_says_azures_reason(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.error = {"code": "ZonalAllocationFailed", "message": "We do not have sufficient capacity in zone 1."}
    with pytest.raises(OperationRefused, match="sufficient capacity in zone 1") as caught:
        provider.start(ID, Reports(), Cancel())
    assert caught.value.code == "ZonalAllocationFailed"
    assert "accepted" not in caught.value.message


def test_cancel_stops_waiting_at_once_and_says_that_azure_goes_on(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.stuck = True
    provider.polling_interval = 20.0
    cancel = Cancel()
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="Azure goes on starting it, and it is billed") as caught:
        provider.start(ID, Reports(), cancel)
    assert time.monotonic() - began < 5
    assert "jupyter dsvm stop gpu-vm" in caught.value.advice
    assert len(server.asked("POST", "/start")) == 1


def test_cancelled_before_it_began_asks_nothing(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    _, server, provider = azure
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled, match="before Azure was asked"):
        provider.start(ID, Reports(), cancel)
    assert server.asked("POST", "/start") == []


def test_a_fault_while_polling_is_outlived(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.operation = [
        fault(429, "TooManyRequests", "Slow."),
        fault(503, "ServerTimeout", "Later."),
        Reply(502, "<html>"),
    ]
    assert provider.start(ID, Reports(), Cancel()).power_state is PowerState.RUNNING


def test_contact_lost_says_that_azure_had_accepted(
    azure: tuple[Azure, ArmServer, AzureCompute], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_dsvm.compute.azure import lifecycle

    monkeypatch.setattr(lifecycle, "PATIENCE", 0.2)
    play, _, provider = azure
    play.operation, play.stuck = [fault(503, "ServerTimeout", "Later.")], True
    with pytest.raises(ComputeError, match="Azure had accepted it before contact was lost: Azure goes on starting it"):
        provider.start(ID, Reports(), Cancel())


def test_waiting_has_an_end(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.stuck, provider.operation_timeout = True, 0.3
    with pytest.raises(ComputeError, match=r"was not started within 0 s\. Azure goes on") as caught:
        provider.start(ID, Reports(), Cancel())
    assert caught.value.code == "Timeout"


def test_an_operation_of_somebody_else_is_waited_for_and_named(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.states = ["deallocating", "deallocating"]
    reports = Reports()
    assert provider.start(ID, reports, Cancel()).power_state is PowerState.RUNNING
    assert "gpu-vm is deallocating by another operation; waiting for that to end" in reports
    assert len(server.asked("POST", "/start")) == 1


def test_somebody_else_stops_it_meanwhile(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.ends_in = "deallocating"
    with pytest.raises(OperationRefused, match="now it is deallocating: another operation"):
        provider.start(ID, Reports(), Cancel())


def test_a_state_that_lags_is_waited_for(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.states = ["deallocated", "starting", "starting"]  # before the request, and twice after it
    assert provider.start(ID, Reports(), Cancel()).power_state is PowerState.RUNNING


def test_an_operation_at_another_host_gets_no_token(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    with arm_server(lambda request: Reply(body={"status": "Succeeded"})) as foreign:
        play.url = foreign.url
        with pytest.raises(ComputeError, match="pointed there"):
            provider.start(ID, Reports(), Cancel())
    assert foreign.requests == []


# Gone on with after the server was killed


def address(play: Azure) -> str:
    return f"{play.url}/subscriptions/s/providers/Microsoft.Compute/locations/westeurope/operations/operation?api-version=1"


def posts(server: ArmServer) -> list[str]:
    return [r.path.rpartition("/")[2] for r in server.asked("POST") if not r.path.endswith("resources")]


def test_what_is_noted_before_and_after_azure_is_asked(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    noted: list[tuple[list[str], int]] = []
    memo = Memo(keep=lambda facts: noted.append((sorted(facts), len(server.asked("POST", "/start")))))
    provider.start(ID, Reports(), Cancel(), memo)
    assert noted == [(["start_asked"], 0), (["start_asked", "start_operation"], 1)]
    assert memo.facts["start_operation"] == address(play)
    play.ends_in = None
    provider.stop(ID, Reports(), Cancel(), memo)  # as a resize shares one
    assert sorted(memo.facts) == ["start_asked", "start_operation", "stop_asked", "stop_operation"]


@pytest.mark.parametrize("kind", ["start", "stop", "restart"])
def test_an_accepted_operation_is_only_polled(azure: tuple[Azure, ArmServer, AzureCompute], kind: str) -> None:
    play, server, provider = azure
    play.ends_in = "deallocated" if kind == "stop" else "running"
    play.operation = [Reply(503), fault(429, "TooMany", "Later.", Retry_After="0"), Reply(200, "no JSON")]
    memo = Memo({f"{kind}_asked": "then", f"{kind}_operation": address(play)})
    reports = Reports()
    compute = getattr(provider, kind)(ID, reports, Cancel(), memo)
    assert compute.power_state.value == play.ends_in
    assert posts(server) == []
    assert reports[0].startswith("Azure is ")
    assert play.polls <= 0


def test_an_accepted_operation_that_fails_says_why(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.error = {"code": "AllocationFailed", "message": "No room in zone 1."}
    with pytest.raises(OperationRefused, match="No room in zone 1") as caught:
        provider.start(ID, Reports(), Cancel(), Memo({"start_asked": "then", "start_operation": address(play)}))
    assert caught.value.code == "AllocationFailed"
    assert posts(server) == []


def test_an_operation_that_azure_has_forgotten_leaves_the_vm_to_tell(
    azure: tuple[Azure, ArmServer, AzureCompute],
) -> None:
    play, _, provider = azure
    play.operation, play.stuck = [fault(404, "NotFound", "Gone.")], True
    memo = Memo({"start_asked": "then", "start_operation": address(play)})
    play.state = "running"
    assert provider.start(ID, Reports(), Cancel(), memo).power_state is PowerState.RUNNING
    play.state = "deallocated"
    with pytest.raises(OperationRefused, match="but now it is deallocated"):
        provider.start(ID, Reports(), Cancel(), memo)


def test_no_rights_any_more_says_that_azure_goes_on(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.operation, play.stuck = [fault(403, "AuthorizationFailed", "You may not.")], True
    with pytest.raises(Forbidden, match="Azure goes on starting it, and it is billed"):
        provider.start(ID, Reports(), Cancel(), Memo({"start_asked": "then", "start_operation": address(play)}))


def test_going_on_can_be_cancelled(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, _, provider = azure
    play.stuck = True
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(Cancelled, match="Azure cannot call a stop back"):
        provider.stop(ID, Reports(), cancel, Memo({"stop_asked": "then", "stop_operation": address(play)}))


@pytest.mark.parametrize("foreign", [True, False])
def test_an_address_of_another_host_in_the_memo_gets_no_token(
    azure: tuple[Azure, ArmServer, AzureCompute], foreign: bool
) -> None:
    play, server, provider = azure
    play.state = "running"
    with arm_server(lambda request: Reply(body={"status": "Succeeded"})) as other:
        where: object = f"{other.url}/operation" if foreign else {"odd": 1}
        memo = Memo({"start_asked": "then", "start_operation": where})
        assert provider.start(ID, Reports(), Cancel(), memo).power_state is PowerState.RUNNING  # the VM itself says so
    assert other.requests == []
    assert posts(server) == []


@pytest.mark.parametrize(
    ("kind", "states", "expected"),
    [
        ("start", ["starting", "starting", "running"], "running"),  # it arrived
        ("start", ["deallocated", "deallocated"], None),
        ("restart", ["running", "running"], None),
    ],
)
def test_whether_azure_heard_it_is_not_known(
    azure: tuple[Azure, ArmServer, AzureCompute], kind: str, states: list[str], expected: str | None
) -> None:
    """What costs money, or ends kernels, is not asked for again."""
    play, server, provider = azure
    play.states, play.state = states, states[-1]
    memo = Memo({f"{kind}_asked": "then"})
    if expected is not None:
        assert getattr(provider, kind)(ID, Reports(), Cancel(), memo).power_state.value == expected
    else:
        with pytest.raises(OperationRefused, match="whether Azure has heard that is not known") as caught:
            getattr(provider, kind)(ID, Reports(), Cancel(), memo)
        assert caught.value.code == "Interrupted"
    assert posts(server) == []


def test_a_stop_that_azure_may_not_have_heard_is_sent_again(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    play.state = "running"
    assert provider.stop(ID, Reports(), Cancel(), Memo({"stop_asked": "then"})).power_state is PowerState.DEALLOCATED
    assert posts(server) == ["deallocate"]


def test_a_look_reads_the_instance_view_alone(azure: tuple[Azure, ArmServer, AzureCompute]) -> None:
    play, server, provider = azure
    provider.list()
    before = len(server.requests)
    play.state = "starting"
    assert provider.look(ID).power_state is PowerState.STARTING
    assert [r.path.rpartition("/")[2] for r in server.requests[before:]] == ["instanceView"]


class StepReports(Reports):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def reach(self, name: str, text: str) -> None:
        self.steps.append(name)
        self(text, None)


@pytest.mark.parametrize("kind", ["start", "stop", "restart"])
def test_steps(azure: tuple[Azure, ArmServer, AzureCompute], kind: str) -> None:
    play, _, provider = azure
    play.state = "deallocated" if kind == "start" else "running"
    reports = StepReports()
    getattr(provider, kind)(ID, reports, Cancel())
    assert list(dict.fromkeys(reports.steps)) == ["ask", kind]


class Replay:
    """A recording of real ARM traffic: each address's answers in order, the last one for ever.

    Only what has to differ does: the host in addresses, and the power state that the VM has in the test.
    """

    def __init__(self) -> None:
        self.url = ""
        self.state = "deallocated"
        self.answers: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
        for recorded in yaml.load(RECORDING.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))[
            "interactions"
        ]:
            path, _, query = recorded["request"]["uri"].partition("?")
            key = (recorded["request"]["method"], path.split("/", 3)[3].lower(), "monitor=true" in query)
            self.answers.setdefault(key, []).append(recorded["response"])
        (self.vm_path,) = {k[1] for k in self.answers if k[1].endswith("/instanceview")}
        self.vm_path = self.vm_path.removesuffix("/instanceview")
        # Of the GETs of the VM, the one with its instance view.
        self.model = next(r for r in self.answers["GET", self.vm_path, False] if "instanceView" in r["body"]["string"])

    def __call__(self, request: Request) -> Reply:
        path = request.path.lstrip("/").lower()
        if path.endswith("/resources"):
            vm = yaml.safe_load(self.model["body"]["string"])
            row = graph_row("recorded", vm["properties"]["vmId"], id=vm["id"], image={}, tags={"dsvm": "true"})
            return Reply(body={"data": [row]})
        if path == self.vm_path:
            return self._reply(self.model)
        recorded = self.answers[request.method, path, "monitor" in request.query]
        reply = self._reply(recorded.pop(0) if len(recorded) > 1 else recorded[0])
        if request.method == "POST":
            self.state = {"start": "running", "restart": "running", "deallocate": "deallocated"}[
                path.rpartition("/")[2]
            ]
        return reply

    def _reply(self, recorded: dict[str, Any]) -> Reply:
        body = recorded["body"]["string"].replace("PowerState/running", f"PowerState/{self.state}")
        kept = {"azure-asyncoperation", "location", "x-ms-ratelimit-remaining-resource"}
        headers = {
            key: values[0].replace("https://management.azure.com", self.url)
            for key, values in recorded["headers"].items()
            if key.lower() in kept
        }
        return Reply(recorded["status"]["code"], body, headers)


@pytest.mark.skipif(not RECORDING.exists(), reason="../shared/data with recordings of Azure is not there")
def test_replay_of_azures_own_answers(tmp_path: Path) -> None:
    replay = Replay()
    with arm_server(replay) as server:
        replay.url = server.url
        provider = AzureCompute(arm_endpoint=server.url, token_file=token_file(tmp_path), polling_interval=0.02)
        (listed,) = provider.list().computes
        seen = [provider.get(listed.id).power_state]
        for change in (provider.start, provider.restart, provider.stop):
            reports = Reports()
            seen.append(change(listed.id, reports, Cancel()).power_state)
            assert any(text.startswith("Azure is ") for text in reports)
        provider.close()
    assert [s.value for s in seen] == ["deallocated", "running", "running", "deallocated"]
    posts = [r.path.rpartition("/")[2] for r in server.asked("POST") if "virtualMachines" in r.path]
    assert posts == ["start", "restart", "deallocate"]
    # Azure took two looks to deallocate and one for each of the others.
    assert len([r for r in server.requests if "/operations/" in r.path]) == 4
