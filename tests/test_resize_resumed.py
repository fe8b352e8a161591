"""A resize that a killed server had begun is gone on with by the next one, as the same operation."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_dsvm.emulator import STANDARD, Emulator
from jupyter_dsvm.models import OperationState
from jupyter_dsvm.service import DSVMService, load_service
from support.emulated import PATIENCE, configured, writes

__all__ = ["configured"]

pytestmark = pytest.mark.skipif(
    not hasattr(DSVMService, "claim_changes"), reason="needs a service whose changes outlive it"
)

CPU, GPU = "Standard_D4ds_v5", "Standard_NC4as_T4_v3"

KILLED = """
import os, signal, sys
from jupyter_dsvm.compute.provider import Memo
from jupyter_dsvm.service import load_service

stage, asked, note = sys.argv[1], sys.argv[2] == "True", Memo.note

def noted(self, **facts):
    note(self, **facts)
    if (self.facts.get("stage"), self.facts.get("asked")) == (stage, asked):
        os.kill(os.getpid(), signal.SIGKILL)

Memo.note = noted
service = load_service()
operation = service.resize("cpu-vm", "nc4as_t4_v3")
print(operation.id, flush=True)
service.operations_store.get(operation.id).finished.result(60)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("azure"), machines=STANDARD[:3], may_start=True) as running:
        yield running


@pytest.mark.parametrize("stage", ["release", "change", "start"])
def test_the_next_server_goes_on(configured: Emulator, stage: str):
    before = len(configured.traffic)
    done = subprocess.run([sys.executable, "-c", KILLED, stage, "True"], capture_output=True, text=True, timeout=110)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with contextlib.closing(load_service()) as loaded:
        service: Any = loaded
        service.claim_changes()
        (operation,) = [o for o in service.operations()[0] if o.kind == "resize"]
        assert operation.id == done.stdout.strip()
        service.resume_changes()
        ended = service.operations_store.get(operation.id).finished.result(PATIENCE)
        assert ended.state is OperationState.DONE, ended.error
        assert [step.name for step in ended.steps] == ["release", "change", "start"]
        assert ended.notice.startswith(f"cpu-vm has the size {GPU} ")
        assert len([w for w in writes(configured, before) if "/start?" in w]) == 1
        for begin in (
            lambda: service.stop("cpu-vm"),
            lambda: service.resize("cpu-vm", CPU),
            lambda: service.start("cpu-vm"),
        ):
            assert service.operations_store.get(begin().id).finished.result(PATIENCE).state is OperationState.DONE
