"""The judge of the emulator's traffic: what is gathered, what counts as the same, and that it does find what is wrong."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support import judge

MODULES = Path(__file__).resolve().parents[1] / ".stamps/oav/node_modules"

VM = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm"
START: dict[str, Any] = {
    "request": {"method": "POST", "url": f"{VM}/start?api-version=2024-07-01"},
    "response": {
        "status": 202,
        "headers": {
            "azure-asyncoperation": "http://127.0.0.1:40001/subscriptions/x/operations/5d3b7c4e-0000-4000-8000-00000000abcd",
            "location": "http://127.0.0.1:40001/subscriptions/x/operations/5d3b7c4e-0000-4000-8000-00000000abcd?monitor=true",
        },
    },
}
RESIZE: dict[str, Any] = {
    "request": {
        "method": "PATCH",
        "url": f"{VM}?api-version=2024-07-01",
        "body": {"properties": {"hardwareProfile": {"vmSize": "Standard_D4ads_v5"}}},
    },
    "response": {
        "status": 200,
        "headers": {"content-type": "application/json; charset=utf-8"},
        "body": {"location": "westeurope", "properties": {"hardwareProfile": {"vmSize": "Standard_D4ads_v5"}}},
    },
}
needs_judge = pytest.mark.skipif(
    not judge.JUDGE.exists() or not MODULES.is_dir(), reason="needs ../shared/tools/arm-judge and `make judge`"
)


def changed(exchange: dict[str, Any], side: str, **values: Any) -> dict[str, Any]:
    other = copy.deepcopy(exchange)
    other[side] |= values
    return other


def test_what_differs_in_ids_times_and_addresses_is_the_same() -> None:
    other = json.loads(json.dumps(START).replace("40001", "50002").replace("5d3b7c4e", "0a0b0c0d"))
    assert len(judge.different([START, other])) == 1
    assert len(judge.different([START, changed(START, "response", status=200)])) == 2
    assert len(judge.different([START, changed(START, "response", headers={})])) == 2
    assert len(judge.different([START, changed(START, "request", body={})])) == 2


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", VM.rpartition("/")[0], "GET virtualMachines"),
        ("GET", VM, "GET virtualMachines/VM"),
        ("POST", f"{VM}/powerOff", "POST virtualMachines/VM/powerOff"),
        ("GET", f"{VM}/instanceView", "GET virtualMachines/VM/instanceView"),
        ("GET", "/subscriptions", None),
        ("POST", "/providers/Microsoft.ResourceGraph/resources", None),
    ],
)
def test_kinds_of_exchanges(method: str, path: str, expected: str | None) -> None:
    assert judge.kind({"request": {"method": method, "url": f"{path}?api-version=2024-07-01"}}) == expected


def test_an_emulators_traffic_is_gathered_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the same call that the run's fixture makes."""
    gathered = tmp_path / "gathered"
    with judge.kept(gathered), Emulator(tmp_path / "azure", machines=(), timeout=120) as emulator:
        for _ in range(2):
            emulator.request("GET", "/subscriptions?api-version=2022-12-01")
        assert not list(gathered.iterdir())
    (file,) = gathered.iterdir()
    (exchange,) = judge.read(file)
    assert exchange["request"]["url"].startswith("/subscriptions?")
    with Emulator(tmp_path / "other", machines=(), timeout=120) as emulator:
        emulator.request("GET", "/subscriptions?api-version=2022-12-01")
    assert list(gathered.iterdir()) == [file]  # nothing is gathered any more


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "traffic.jsonl"
    file.write_text(json.dumps(START) + "\n" + json.dumps(RESIZE)[:40])
    assert judge.read(file) == [START]
    assert judge.read(tmp_path / "none") == []


@needs_judge
def test_what_fits_is_not_complained_about() -> None:
    """The size in a PATCH is as Azure documents it, the kind of disk controller as it has documented since; the copy of the
    specification alone says otherwise."""
    newer = copy.deepcopy(RESIZE)
    newer["response"]["body"]["properties"]["storageProfile"] = {"diskControllerType": "NVMe"}
    judged, complaints = judge.verdict([START, RESIZE, newer], MODULES)
    assert (judged, complaints) == (3, [])


@needs_judge
@pytest.mark.parametrize(
    ("exchange", "word"),
    [
        (changed(START, "response", headers={}), "202 without Azure-AsyncOperation"),
        (changed(RESIZE, "request", body={"properties": {"hardwareProfile": {"vmSize": 4}}}), "INVALID_TYPE"),
        (changed(RESIZE, "request", body={"properties": {"provisioningState": "Failed"}}), "READONLY"),
        (changed(RESIZE, "response", body={"properties": {}}), "location"),
        (changed(START, "request", url=f"{VM}/launch?api-version=2024-07-01"), "launch"),
    ],
)
def test_what_does_not_fit_is_found(exchange: dict[str, Any], word: str) -> None:
    judged, complaints = judge.verdict([START, exchange], MODULES)
    assert judged == 2
    assert complaints
    assert any(word in complaint for complaint in complaints), complaints


@needs_judge
def test_the_step_fails_on_a_complaint_and_on_lost_traffic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def step(*exchanges: dict[str, Any], whole: bool = False) -> tuple[int, str]:
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(exchange) + "\n" for exchange in exchanges))
        status = judge.main(["--modules", str(MODULES), *(["--whole"] if whole else []), str(tmp_path)])
        said = capsys.readouterr()
        return status, said.out + said.err

    assert step(START, RESIZE) == (0, "   2 of 2 different exchanges of 1 emulators judged, 0 complaints\n")
    status, said = step(START, changed(START, "response", headers={}))
    assert status == 1
    assert "without Azure-AsyncOperation" in said
    status, said = step(START, whole=True)
    assert status == 1
    assert "GET virtualMachines/VM/instanceView" in said
    status, said = step()
    assert (status, "nothing to judge" in said) == (0, True)
    (tmp_path / "a.jsonl").write_text(json.dumps(START) + "\n")
    assert judge.main(["--modules", str(tmp_path), str(tmp_path)]) == 1  # no oav there: no verdict is no success


def test_the_run_has_its_folder_from_the_environment() -> None:
    """Under ``make`` the emulators of this very run are gathered."""
    folder = os.environ.get(judge.FOLDER)
    assert (Emulator.stop.__name__ == "stop_and_keep") is bool(folder)
