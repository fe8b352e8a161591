"""A notebook's variables go along to a VM, from one to another, and back: a real server, real kernels, VMs with real SSH."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import jupyter_runtime_dir

from jupyter_dsvm.emulator import Emulator
from support.emulated import HERE, PATIENCE, configured, emulator, ours, refused, settings, where
from support.kernels import Execution, Notebook, until
from support.served import JupyterServer, RestError
from support.tab import Tab

__all__ = ["configured", "emulator"]

SLOW = """
class Slow:
    def __reduce__(self):
        import time
        open({mark!r}, "w").close()
        time.sleep(60)
        return (int, ())
slow = Slow()
"""


@pytest.fixture
def server(configured: Emulator, tmp_path: Path) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path / "notebooks", settings(configured, tmp_path / "server")) as running:
        yield running


def begin(server: JupyterServer, kernel_id: str, compute: str, **more: Any) -> str:
    body = {"compute": compute, "carry": True, **more}
    return str(server.rest("PUT", f"jupyter-dsvm/kernels/{kernel_id}/compute", body, 202)["id"])


def carried(server: JupyterServer, kernel_id: str, compute: str, **more: Any) -> dict[str, Any]:
    done, _said = server.operation(begin(server, kernel_id, compute, **more), PATIENCE)
    assert done["state"] == "done", done
    return done


def plan(server: JupyterServer, kernel_id: str, to: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.rest("GET", f"jupyter-dsvm/kernels/{kernel_id}/variables?to={to}", status=200)
    return answer


def carry_processes(emulator: Emulator, name: str) -> list[str]:
    return [line for line in ours(emulator, name) if "carry" in line]


def test_out_and_back_and_from_one_vm_to_another(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("digits.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        page.run("import math, os, threading\nclass Point: x = 1\np = Point(); same = p\nlock = threading.Lock()")
        page.run(
            "def area(r): return math.floor(math.pi * r ** 2) + offset\noffset = 100\nbig = os.urandom(20_000_000)"
        )
        page.run("import hashlib\ndigest = hashlib.sha256(big).hexdigest()")
        planned = plan(server, kernel_id, "cpu-vm")
        assert (planned["state"], planned["needs_yes"], planned["seconds"]) == ("ready", False, None)
        by_name = {v["name"]: v for v in planned["variables"]}
        assert set(by_name) == {"Point", "p", "same", "lock", "area", "offset", "big", "digest"}
        assert [n for n, v in by_name.items() if not v["moves"]] == ["lock"]
        assert by_name["lock"]["reason"]
        assert 20_000_000 <= planned["bytes"] < 20_100_000

        done = carried(server, kernel_id, "cpu-vm")
        assert [s["name"] for s in done["steps"]] == ["connect", "files", "kernel", "wait", "variables"]
        assert "7 variables came along (19 MB)." in done["notice"], done["notice"]
        assert "1 stayed behind: lock (" in done["notice"]
        assert "Variables stayed" not in done["notice"]
        assert where(page) == "cpu-vm"
        seen = page.run("print(area(2), same is p, type(p) is Point, hashlib.sha256(big).hexdigest() == digest)")
        assert seen.text == "112 True True True\n", seen.content
        assert plan(server, kernel_id, "gpu-vm")["seconds"] is None, "that way has not been measured"

        page.run("offset = 200; made = [1, 2, 3]")
        with pytest.raises(RestError) as asked:
            begin(server, kernel_id, "gpu-vm")
        assert (asked.value.status, asked.value.answer["code"]) == (409, "CarryNeedsYes")
        assert "Loading them runs what cpu-vm sends" in asked.value.answer["message"]
        assert where(page) == "cpu-vm"
        carried(server, kernel_id, "gpu-vm", carry=["math", "area", "offset", "made", "p", "Point"], allow_carry=True)
        assert where(page) == "gpu-vm"
        assert page.run("print(area(2), made, p.x, 'big' in dir())").text == "212 [1, 2, 3] 1 False\n"

        back = plan(server, kernel_id, "free")
        assert (back["state"], back["needs_yes"]) == ("ready", True)
        done = carried(server, kernel_id, "free", allow_carry=True)
        assert done["kind"] == "detach"
        assert where(page) == HERE
        assert page.run("print(area(2), made, type(p) is Point)").text == "212 [1, 2, 3] True\n"

        carried(server, kernel_id, "cpu-vm")
        assert plan(server, kernel_id, "free")["needs_yes"] is False, "it was said once, and holds"
        assert plan(server, kernel_id, "free")["seconds"] is not None
        carried(server, kernel_id, "free")
        assert page.run("print(area(2), made)").text == "212 [1, 2, 3]\n"
        assert page.connected
    until(lambda: not carry_processes(configured, "cpu-vm"))
    assert "Traceback" not in server.log.read_text()


def test_cells_that_are_sent_meanwhile_wait_and_cancelling_runs_them_where_they_were(
    configured: Emulator, server: JupyterServer, tmp_path: Path
):
    kernel_id = server.open("slow.ipynb")["kernel"]["id"]
    mark = tmp_path / "begun"
    with Tab(server, kernel_id) as page:
        page.run("x = 1\n" + SLOW.format(mark=str(mark)))
        operation = begin(server, kernel_id, "cpu-vm")
        until(mark.exists, PATIENCE)
        now = server.rest("GET", f"jupyter-dsvm/operations/{operation}")
        assert [s["name"] for s in now["steps"] if s["state"] == "running"] == ["variables"]
        assert server.row(kernel_id)["moving_to"]
        cells = [page.send(f"x += 1; print({n}, x)") for n in range(3)]
        time.sleep(0.5)
        assert not any(page.of(c).replies for c in cells), "they wait"
        assert plan(server, kernel_id, "cpu-vm")["state"] == "busy"
        server.rest("DELETE", f"jupyter-dsvm/operations/{operation}", status=204)
        page.wait(*cells)
        assert [page.of(c).text for c in cells] == ["0 2\n", "1 3\n", "2 4\n"]
        assert where(page) == HERE
        assert server.operation(operation)[0]["state"] == "cancelled"
        # And where they are not cancelled, they run there, in their order.
        page.run("del slow")
        operation = begin(server, kernel_id, "cpu-vm")
        cells = [page.send(f"x += 1; print({n}, x)") for n in range(3)]
        assert server.operation(operation, PATIENCE)[0]["state"] == "done"
        page.wait(*cells)
        assert sorted(page.of(c).text for c in cells) == ["0 5\n", "1 6\n", "2 7\n"]
        assert where(page) == "cpu-vm"
    until(lambda: not carry_processes(configured, "cpu-vm"))


def cut_while_they_go(configured: Emulator, server: JupyterServer, page: Tab, operation: str) -> None:
    """That move fails then, and what was sent meanwhile runs where the variables are."""

    def carrying() -> bool:
        steps = server.rest("GET", f"jupyter-dsvm/operations/{operation}")["steps"]
        return any(
            s["name"] == "variables" and "(" in s["text"] and not s["text"].startswith("Carrying variables (1 KB")
            for s in steps
        )

    until(carrying, PATIENCE)
    waiting = page.send("print(len(big), x)")
    configured.kill_ssh("cpu-vm")
    configured.start_ssh("cpu-vm")
    failed, _ = server.operation(operation, PATIENCE)
    assert failed["state"] == "failed", failed
    assert page.wait(waiting, timeout=PATIENCE)[0].text == "400000000 1\n"


def test_a_connection_that_is_cut_in_the_middle_loses_nothing(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("cut.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        page.run("import os\nbig = os.urandom(400_000_000); x = 1")
        cut_while_they_go(configured, server, page, begin(server, kernel_id, "cpu-vm"))
        assert where(page) == HERE
        carried(server, kernel_id, "cpu-vm", carry=["x"])
        assert where(page) == "cpu-vm"
        # The same from there: the old kernel is out of reach for a while, and keeps everything.
        page.run("import os\nbig = os.urandom(400_000_000)")
        cut_while_they_go(configured, server, page, begin(server, kernel_id, "free", allow_carry=True))
        assert where(page) == "cpu-vm"
    assert "Traceback" not in server.log.read_text()


def test_an_interrupt_in_the_middle_is_for_the_move(configured: Emulator, server: JupyterServer, tmp_path: Path):
    kernel_id = server.open("interrupted.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        carried(server, kernel_id, "cpu-vm")
        home = Path(configured.vm("cpu-vm")["home"])
        page.run("import os\nx = 1\n" + SLOW.format(mark="MARK").replace("'MARK'", "os.path.expanduser('~/begun')"))
        operation = begin(server, kernel_id, "free", allow_carry=True)
        until((home / "begun").exists, PATIENCE)
        waiting = page.send("print(x)")
        server.rest("POST", f"api/kernels/{kernel_id}/interrupt", {})
        ended, _ = server.operation(operation, PATIENCE)
        assert (ended["state"], ended["error"]["message"]) == (
            "cancelled",
            "The move was cancelled: the kernel was interrupted.",
        )
        assert page.wait(waiting)[0].text == "1\n"
        assert where(page) == "cpu-vm"


def test_a_server_that_is_killed_in_the_middle_leaves_the_kernel_there_with_what_it_had(
    configured: Emulator, server: JupyterServer
):
    earlier = set(Path(jupyter_runtime_dir()).iterdir())
    kernel_id = server.open("killed.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        carried(server, kernel_id, "cpu-vm")
        page.run("import os\nbig = os.urandom(300_000_000); x = 1")
        operation = begin(server, kernel_id, "free", allow_carry=True)
        until(lambda: "variables" in running_steps(server, operation), PATIENCE)
        waiting = page.send("x += 1; print(len(big), x)")
        time.sleep(0.3)
        own = f"jpserver-{server.pid}"
        server.kill()
        # What it would have removed.
        left = [f for f in Path(jupyter_runtime_dir()).iterdir() if f not in earlier or f.name.startswith(own)]
        page.cut()
        server.start()
        page.connect()
        assert page.wait(waiting, timeout=PATIENCE)[0].text == "300000000 2\n", "once"
        assert where(page) == "cpu-vm"
        carried(server, kernel_id, "free", carry=["x"])
        assert page.run("print(x)").text == "2\n"
        assert where(page) == HERE
    until(lambda: not carry_processes(configured, "cpu-vm"))
    for each in left:
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)


def running_steps(server: JupyterServer, operation: str) -> list[str]:
    steps = server.rest("GET", f"jupyter-dsvm/operations/{operation}")["steps"]
    return [s["name"] for s in steps if s["state"] == "running"]


def test_what_cannot_be_carried_is_said(configured: Emulator, tmp_path: Path):
    folder = settings(configured, tmp_path / "server", DSVMService={"carry_from_vms": False})
    with JupyterServer(tmp_path / "notebooks", folder) as server:
        kernel_id = server.open("refused.ipynb")["kernel"]["id"]
        with Tab(server, kernel_id) as page:
            page.run("x = 1")
            carried(server, kernel_id, "cpu-vm")
            planned = plan(server, kernel_id, "free")
            assert (planned["state"], planned["variables"]) == ("unsupported", [])
            assert planned["reason"] == "This server is set so that variables stay on cpu-vm."
            with pytest.raises(RestError) as forbidden:
                begin(server, kernel_id, "free", allow_carry=True)
            assert (forbidden.value.status, forbidden.value.answer["code"]) == (403, "CarryForbidden")
            assert where(page) == "cpu-vm"


def answered(server: JupyterServer, page: Tab, said: str) -> dict[str, Any]:
    """The question that a cell has asked, and is answered with that."""
    found: list[dict[str, Any]] = []
    page.until(lambda: found.extend(server.rest("GET", "jupyter-dsvm/questions")["questions"]) or found, PATIENCE)
    server.rest("PUT", f"jupyter-dsvm/questions/{found[0]['id']}", {"answer": said}, 204)
    return found[0]


def stderr(execution: Execution) -> str:
    return "".join(m["content"]["text"] for m in execution.outputs("stream") if m["content"]["name"] == "stderr")


def test_a_cell_carries_looks_and_asks(configured: Emulator, server: JupyterServer):
    kernel_id = server.open("magic.ipynb")["kernel"]["id"]
    with Tab(server, kernel_id) as page:
        page.run("import threading\nx = 41\nlock = threading.Lock()")
        (looked,) = page.run("%dsvm carry cpu-vm").outputs("display_data")
        assert "1 of 2 variables could go along to cpu-vm (" in looked["content"]["data"]["text/html"]
        assert "no: A lock cannot move." in looked["content"]["data"]["text/html"]
        done = page.run("%dsvm attach cpu-vm --carry", timeout=PATIENCE)
        assert (done.status, "Variables go along when it has ended." in done.text) == ("ok", True), done.text
        first = page.run("print(x)", timeout=PATIENCE)
        assert (first.text, where(page)) == ("41\n", "cpu-vm")
        assert stderr(first).startswith("1 variable came along (")
        assert "1 stayed behind: lock (a lock cannot move)." in stderr(first)

        (looked,) = page.run("%dsvm carry").outputs("display_data")
        assert "1 variable could go along to the free tier (" in looked["content"]["data"]["text/html"]
        assert "A person is asked first" in looked["content"]["data"]["text/html"]
        cell = page.send("x += 1\n%dsvm detach --carry x")
        question = answered(server, page, "no")
        assert (question["kind"], question["price"]) == ("carry", None)
        assert question["text"].startswith(
            "A cell of magic.ipynb wants to bring its variables from cpu-vm to the free tier."
        )
        (refused_cell,) = page.wait(cell, timeout=PATIENCE)
        assert refused_cell.status == "error"
        assert "so the notebook stays where it is" in refused_cell.content["evalue"]
        assert where(page) == "cpu-vm"
        time.sleep(10.5)  # until when a no counts for a loop
        cell = page.send("%dsvm detach --carry x")
        answered(server, page, "yes")
        assert page.wait(cell, timeout=PATIENCE)[0].status == "ok"
        assert page.run("print(x)", timeout=PATIENCE).text == "42\n"
        assert where(page) == HERE
        # It was asked for that VM, and for all notebooks.
        page.run("%dsvm attach cpu-vm --carry", timeout=PATIENCE)
        assert page.run("%dsvm detach --carry", timeout=PATIENCE).status == "ok"
        assert (page.run("print(x)", timeout=PATIENCE).text, where(page)) == ("42\n", HERE)
        assert page.run("%dsvm load").content["evalue"].startswith("No variables of this notebook were saved.")


def test_without_a_page_nobody_can_allow_it(configured: Emulator):
    with Notebook() as notebook:
        notebook.run("x = 1")
        assert notebook.run("%dsvm attach cpu-vm --carry x", timeout=PATIENCE).status == "ok"
        assert notebook.run("print(x)", timeout=PATIENCE).text == "1\n"
        said, _ = refused(notebook, "%dsvm detach --carry")
        assert "which a person has to allow in the page first." in said
        assert "leave out --carry" in said
        assert where(notebook) == "cpu-vm"
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE
