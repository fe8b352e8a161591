"""A kernel that ends without anybody's asking: why, as the page is told. And what is in use of a machine that it runs on."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import KernelStartError
from jupyter_dsvm.kerneldeaths import GIB, KernelDeaths, gigabytes, problem_of
from jupyter_dsvm.kernels import bootstrap
from jupyter_dsvm.kernels.backends import Backend
from jupyter_dsvm.kernels.deaths import Death, Deaths
from jupyter_dsvm.models import FREE
from jupyter_dsvm.relay.deaths import LOOK_EVERY, Look
from support.emulated import PATIENCE, attached, configured, emulator, settings, where
from support.kernels import Notebook, until
from support.served import JupyterServer
from support.tab import Tab
from test_moves_in_server import move

__all__ = ["configured", "emulator"]

LIMIT = 0.8
"""GiB. A server and an idle kernel take a quarter of it."""

KILL = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    config = settings(configured, tmp_path / "server", FreeTier={"memory_gib": LIMIT, "data_gib": 1.0})
    with JupyterServer(tmp_path / "notebooks", config) as running:
        yield running


def problem(server: JupyterServer, kernel_id: str, code: str | None) -> dict[str, Any]:
    """Wait until that is the problem of the kernel's row."""
    until(lambda: (server.row(kernel_id)["problem"] or {}).get("code") == code)
    found: dict[str, Any] = server.row(kernel_id)["problem"] or {}
    return found


def died(page: Tab, code: str) -> str:
    """Run a cell that ends its kernel, and wait until jupyter_server has started another one. What the cell is told."""
    before = page.run("import os; print(os.getpid())").text
    (cell,) = page.wait(page.send(code))
    told = f"{cell.content['ename']}: {cell.content['evalue']}"
    until(lambda: page.run("import os; print(os.getpid())").text not in ("", before), PATIENCE)
    return told


def test_a_kernel_here_that_ends(server: JupyterServer):
    kernel_id = server.open("digits.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        assert died(page, KILL).startswith("KernelDied: The kernel on Free tier ended with exit code -9.")
        found = problem(server, kernel_id, "KernelDied")
        assert "The kernel on the free tier ended unexpectedly, by signal 9 (killed)." in found["message"]
        died(page, "import os; os._exit(3)")
        until(lambda: "with exit code 3" in server.row(kernel_id)["problem"]["message"])

        told = died(page, f"import time; held = b'x' * {int(LIMIT * GIB)}; time.sleep(3); {KILL}")
        assert told.startswith(
            "OutOfMemory: Out of memory at 0.8 GB: the kernel was ended, and its variables are lost. Move"
        )
        found = problem(server, kernel_id, "OutOfMemory")
        assert found["message"] == "Out of memory at 0.8 GB: the kernel was ended, and its variables are lost."
        assert "bigger machine" in found["advice"]

        server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        problem(server, kernel_id, None)
        time.sleep(2 * LOOK_EVERY + 0.5)
        died(page, KILL)
        problem(server, kernel_id, "KernelDied")  # memory has been free for a while
        server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        problem(server, kernel_id, None)
        metrics = server.rest("GET", "jupyter-dsvm/computes/free/metrics")
        assert metrics["memory"]["total_gib"] == LIMIT
        assert 0.02 < metrics["memory"]["used_gib"] < LIMIT
        until(lambda: server.rest("GET", "jupyter-dsvm/computes/free/metrics")["disk"], 20)
        assert server.rest("GET", "jupyter-dsvm/computes/free/metrics")["disk"]["total_gib"] == 1.0


def test_what_is_in_use_of_a_machine(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("digits.ipynb")["kernel"]["id"]
    listed = server.rest("GET", "jupyter-dsvm/computes?refresh=true")["computes"]
    gpu = next(c["id"] for c in listed if c["name"] == "gpu-vm")
    nothing = server.rest("GET", f"jupyter-dsvm/computes/{gpu}/metrics")
    assert (nothing["compute"], nothing["memory"], nothing["cpu"], nothing["gpus"]) == (gpu, None, None, [])
    with Tab(server, kernel_id) as page:
        assert move(server, kernel_id, "gpu-vm")[0]["state"] == "done"
        until(lambda: server.rest("GET", "jupyter-dsvm/computes/gpu-vm/metrics")["gpus"], 20)
        metrics = server.rest("GET", "jupyter-dsvm/computes/gpu-vm/metrics")
        (card,) = metrics["gpus"]
        assert (card["utilization"], card["memory"]["used_gib"]) == (0.0, 0.0)
        assert "T4" in card["name"]
        assert card["memory"]["total_gib"] > 14
        assert 0 <= metrics["cpu"] <= 1
        assert metrics["memory"]["total_gib"] > metrics["memory"]["used_gib"] > 0
        assert metrics["disk"]["total_gib"] > 0
        assert server.rest("GET", "jupyter-dsvm/computes/gpu-vm/metrics")["as_of"] == metrics["as_of"]

        died(page, KILL)
        assert where(page) == "gpu-vm"
        assert "on gpu-vm ended unexpectedly, by signal 9" in problem(server, kernel_id, "KernelDied")["message"]
        assert move(server, kernel_id, "free")[0]["state"] == "done"
        problem(server, kernel_id, None)


def test_a_machine_that_was_out_of_memory(configured: Emulator, monkeypatch: pytest.MonkeyPatch):
    original = bootstrap.relay_zip()[0]

    def nearly_full() -> tuple[bytes, str]:
        """A relay on a machine of 28 GiB whose memory is nearly used up."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(buffer, "w") as new:
            for info in old.infolist():
                source = old.read(info)
                if info.filename == "relay/usage.py":
                    source += b"\n\ndef memory_here():\n    return Memory(27 * 2**30, 28 * 2**30)\n"
                new.writestr(info, source)
        return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()

    monkeypatch.setattr(bootstrap, "relay_zip", nearly_full)
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        notebook.send(KILL)
        until(lambda: notebook.proxy.death is not None)
        death = notebook.proxy.death
        assert death is not None
        assert (death.compute_name, death.code, death.out_of_memory) == ("cpu-vm", -9, 28 * GIB)


def test_a_second_end_for_want_of_memory_reads_otherwise():
    """Whoever tells of it compares the texts. A person's restart begins anew."""
    deaths = KernelDeaths(lambda: Look(None, None))
    first, second, later = (Death("azure:1", "gpu-vm", -9, "", 28 * GIB) for _ in range(3))
    said = []
    for death in (first, second, None, later):
        for _ in range(2):  # found out once for each
            problem = deaths.problem("k1", death)
        said.append(problem.message.split(":")[0] if problem else None)
    once = "Out of memory at 28 GB on gpu-vm"
    assert said == [once, f"{once} again (2 times)", None, once]


def test_which_ends_are_remembered():
    class Kernel:
        compute, compute_name, out_of_memory = FREE, "Free tier", None

    kernel: Backend = Kernel()  # type: ignore[assignment]
    deaths = Deaths(lambda death: KernelStartError("Bang.") if death.code == -11 else 1 // 0)  # type: ignore[return-value]
    deaths.note(kernel, -9, "", asked=True)
    deaths.note(kernel, 0, "", asked=False)  # told to by a cell
    assert deaths.death is None
    why = deaths.note(kernel, -11, "bang", asked=False)
    assert str(why) == "Bang."
    assert deaths.death == Death(FREE, "Free tier", -11, "bang", None)
    deaths.forget()
    assert deaths.death is None
    assert deaths.note(kernel, -9, "", asked=False) is None  # nobody could say why; it is remembered all the same
    assert deaths.death is not None


@pytest.mark.parametrize(
    ("death", "limit", "code", "message", "advice"),
    [
        (
            Death(FREE, "Free tier", -9, "", None),
            4 * GIB,
            "OutOfMemory",
            "Out of memory at 4 GB: the kernel was ended, and its variables are lost.",
            "Move the notebook to a bigger machine, or load less at a time and shut down notebooks that are not in use.",
        ),
        (
            Death("azure:1", "gpu-vm", -9, "", 28 * GIB),
            28 * GIB,
            "OutOfMemory",
            "Out of memory at 28 GB on gpu-vm: the kernel was ended, and its variables are lost.",
            "Resize gpu-vm, move to a bigger machine, or load less at a time and shut down notebooks that are not in use.",
        ),
        (
            Death(FREE, "Free tier", -11, "", None),
            None,
            "KernelDied",
            "The kernel on the free tier ended unexpectedly, by signal 11 (segmentation fault). Its variables are lost.",
            "Run the cells again. Where it happens again, look for the cell after which it does.",
        ),
        (
            Death("azure:1", "gpu-vm", 1, "Traceback …\nNo module named numpy.", None),
            None,
            "KernelDied",
            "The kernel on gpu-vm ended unexpectedly, with exit code 1. Its variables are lost. It said: No module named numpy.",
            "Run the cells again. Where it happens again, look for the cell after which it does.",
        ),
        (
            Death(
                "azure:1", "gpu-vm", 3, "To connect another client to this kernel, use:\n    --existing x.json", None
            ),
            None,
            "KernelDied",
            "The kernel on gpu-vm ended unexpectedly, with exit code 3. Its variables are lost.",
            "Run the cells again. Where it happens again, look for the cell after which it does.",
        ),
        (
            Death("azure:1", "gpu-vm", -200, "NOTE: When using", None),
            None,
            "KernelDied",
            "The kernel on gpu-vm ended unexpectedly, by signal 200. Its variables are lost.",
            "Run the cells again. Where it happens again, look for the cell after which it does.",
        ),
    ],
)
def test_how_it_is_said(death: Death, limit: int | None, code: str, message: str, advice: str):
    found = problem_of(death, limit)
    assert (found.code, found.message, found.advice) == (code, message, advice)


def test_gigabytes():
    assert [gigabytes(int(g * GIB)) for g in (4, 3.61, 27.8, 0.5, 0.05)] == [
        "4 GB",
        "3.6 GB",
        "28 GB",
        "0.5 GB",
        "0.05 GB",
    ]
