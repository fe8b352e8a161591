"""Code that would start something billed asks in the page: a real server, kernels, and websockets that stand for pages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, PATIENCE, configured, emulator, settings, where, writes
from support.kernels import until
from support.served import Events, JupyterServer, RestError
from support.tab import Tab

__all__ = ["configured", "emulator"]


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    """One where the configuration lets code start nothing."""
    folder = settings(configured, tmp_path / "server", DSVMService={"kernel_may_start": {}})
    with JupyterServer(tmp_path / "notebooks", folder) as running:
        yield running


def questions(server: JupyterServer) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = server.rest("GET", "jupyter-dsvm/questions")["questions"]
    return listed


def asked(server: JupyterServer, page: Tab) -> dict[str, Any]:
    """The question that is open now; the page goes on reading meanwhile."""
    found: list[dict[str, Any]] = []
    page.until(lambda: found.extend(questions(server)) or found, PATIENCE)
    return found[0]


def answer(server: JupyterServer, question: dict[str, Any], said: str) -> None:
    server.rest("PUT", f"jupyter-dsvm/questions/{question['id']}", {"answer": said}, 204)


def test_a_cell_asks_once_and_a_no_starts_nothing(configured: Emulator, server: JupyterServer):
    session = server.open("analysis.ipynb")
    kernel_id = session["kernel"]["id"]
    before = len(configured.traffic)
    with Tab(server, kernel_id) as page, Events(server) as events:
        cell = page.send("%dsvm attach gpu-vm")
        question = asked(server, page)
        assert question["text"].startswith("A cell of analysis.ipynb wants to start gpu-vm")
        assert (question["kernel"], question["path"]) == (kernel_id, "analysis.ipynb")
        answer(server, question, "no")
        (done,) = page.wait(cell, timeout=PATIENCE)
        assert done.status == "error"
        assert done.content["evalue"].startswith("The question about gpu-vm was answered with “Not now”")
        assert "Waiting for your answer in the page" in done.text
        with pytest.raises(RestError):
            answer(server, question, "yes")
        assert writes(configured, before) == []
        assert questions(server) == []
        until(lambda: "questions" in {e["what"] for e in events.of_ours()})

        time.sleep(10.5)  # until when a no counts for a loop
        cell = page.send("%dsvm attach gpu-vm")
        answer(server, asked(server, page), "yes")
        assert page.wait(cell, timeout=PATIENCE)[0].status == "ok"
        assert where(page) == "gpu-vm"
        assert page.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(page) == HERE
        assert page.run("%dsvm stop gpu-vm", timeout=PATIENCE).status == "ok"
        # What was allowed is allowed still, for this notebook under its new name too.
        server.rest("PATCH", f"api/sessions/{session['id']}", {"path": "renamed.ipynb"})
        assert server.row(kernel_id)["path"] == "renamed.ipynb"
        time.sleep(0.5)
        assert page.run("%dsvm start gpu-vm", timeout=PATIENCE).status == "ok"
        assert page.run("%dsvm stop gpu-vm", timeout=PATIENCE).status == "ok"

        other = server.open("other.ipynb")
        with Tab(server, other["kernel"]["id"]) as another:
            cell = another.send("%dsvm start gpu-vm")
            assert asked(server, another)["path"] == "other.ipynb"
            server.rest("POST", f"api/kernels/{other['kernel']['id']}/interrupt", {}, 204)
            (done,) = another.wait(cell, timeout=PATIENCE)
            assert done.content["ename"] == "Interrupted"
            assert "nothing was asked of gpu-vm" in done.content["evalue"]
            another.until(lambda: not questions(server), PATIENCE)
        assert configured.vm("gpu-vm")["power_state"] == "deallocated"


def test_without_a_page_the_configuration_decides(configured: Emulator, server: JupyterServer, tmp_path: Path):
    session = server.open("alone.ipynb")
    kernel_id = session["kernel"]["id"]
    before = len(configured.traffic)
    with Tab(server, kernel_id) as page:
        page.run(
            "import os, threading, time\n"
            "told, magic = [], get_ipython().run_line_magic\n"
            "def later():\n"
            f"    while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)\n"
            "    try: magic('dsvm', 'start gpu-vm')\n"
            "    except Exception as e: told.append(e.code)\n"
            f"    open({str(tmp_path / 'told')!r}, 'w').write(str(told))\n"
            "threading.Thread(target=later).start()"
        )
    until(lambda: server.rest("GET", f"api/kernels/{kernel_id}")["connections"] == 0)
    (tmp_path / "go").touch()
    told = tmp_path / "told"
    until(lambda: told.exists() and told.read_text())
    assert told.read_text() == "['NotAllowed']"
    assert questions(server) == []
    assert writes(configured, before) == []
