"""Kernels on a VM outlive the Jupyter server: real servers that are stopped and killed, a real SSH server, a page."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.kernels import until
from support.restarted import COMPUTE, Place, attach, counting, lines, numbers, where
from support.served import JupyterServer, RestError
from support.tab import Tab

__all__ = ["where"]

WHERE = "import os; print(os.environ.get('JUPYTER_DSVM_TEST_VM', 'here'))"
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(300)  # each of them starts several servers

End = Callable[[JupyterServer], None]


@pytest.fixture
def server(where: Place, request: pytest.FixtureRequest) -> Iterator[JupyterServer]:
    """Afterwards its kernels have been shut down, as a user does it, and nothing of them is left anywhere."""
    with where.lasting(request.node.name) as made:
        yield made
    assert not where.machine.wait_until_idle(20)
    assert not list((where.data / "jupyter-dsvm" / "kernels").glob("*"))


def stop(server: JupyterServer) -> None:
    server.stop()


def kill(server: JupyterServer) -> None:
    server.kill()


BOTH = pytest.mark.parametrize("end", [stop, kill], ids=["stopped", "killed"])


def opened(server: JupyterServer, name: str = "count.ipynb") -> str:
    """A notebook whose kernel runs on the machine; the kernel's id."""
    kernel_id: str = server.open(name)["kernel"]["id"]
    attach(server, kernel_id)
    return kernel_id


def back(server: JupyterServer, tab: Tab, *options: str) -> None:
    """The server is there again, and the page connects to it as the same client."""
    tab.cut()
    server.start(*options)
    tab.connect()


@BOTH
def test_run_all_goes_on_while_the_server_does_not(where: Place, server: JupyterServer, end: End, tmp_path: Path):
    session = server.open("count.ipynb")
    kernel_id = session["kernel"]["id"]
    attach(server, kernel_id)
    file = tmp_path / "said"
    with Tab(server, kernel_id) as tab:
        assert tab.run(WHERE).text.strip() == where.machine.mark
        tab.run("x = 41")
        cells = [tab.send(counting(150, 0.1, file)), *(tab.send(f"x += 1; print(x, {i})") for i in range(4))]
        tab.until(lambda: tab.of(cells[0]).text.count("\n") >= 5)
        key = json.loads(where.kept[0].read_text())["key"]
        end(server)
        said = lines(file)
        until(lambda: lines(file) > said + 5)  # nobody listens, and it goes on
        back(server, tab)
        (found,) = server.rest("GET", "api/sessions")
        assert (found["id"], found["path"], found["name"], found["type"]) == (
            session["id"],
            "count.ipynb",
            "count.ipynb",
            "notebook",
        )
        assert (found["kernel"]["id"], found["kernel"]["name"]) == (kernel_id, "python3")
        done = tab.wait(*cells, timeout=PATIENCE)
        assert done[0].text == numbers(150)
        assert [d.text for d in done[1:]] == [f"{42 + i} {i}\n" for i in range(4)]
        assert [len(d.replies) for d in done] == [1] * 5
        assert [d.count for d in done] == [3, 4, 5, 6, 7]
        assert [d.states for d in done] == [["busy", "idle"]] * 5
        row = server.row(kernel_id)
        assert (row["compute"], row["link"]["state"], row["path"]) == (COMPUTE, "connected", "count.ipynb")
        (connection,) = where.runtime.glob("kernel-*.json")
        assert json.loads(connection.read_text())["key"] == json.loads(where.kept[0].read_text())["key"] == key


def test_the_first_request_of_a_page_finds_its_kernel(where: Place, server: JupyterServer):
    """Its websocket is opened the moment that the server listens; a 404 would make JupyterLab forget the kernel."""
    kernel_id = opened(server)
    kill(server)
    server.launch()
    tabs: list[Tab] = []

    def connected() -> bool:
        with contextlib.suppress(ConnectionError):
            tabs.append(Tab(server, kernel_id))
        return bool(tabs)

    until(connected)
    with tabs[0] as tab:
        assert tab.wait(tab.ask("kernel_info_request", {}))[0].content["language_info"]["name"] == "python"
    assert [s["kernel"]["id"] for s in server.rest("GET", "api/sessions")] == [kernel_id]


def test_killed_again_and_again_during_a_flood(server: JupyterServer, tmp_path: Path):
    """At moments drawn with a seed, also while the last life is still being taken up."""
    chance = random.Random(20260)
    kernel_id = opened(server)
    file, to = tmp_path / "said", 6_000
    code = (
        f"import time\nfor i in range(1, {to} + 1):\n    print(i, flush=True)\n    if i % 50 == 0: time.sleep(0.02)\n"
        f"open({str(file)!r}, 'w').write('all')"
    )
    with Tab(server, kernel_id) as tab:
        cells = [tab.send(code), tab.send("print('after')"), tab.send("1/0"), tab.send("print('never')")]
        tab.until(lambda: len(tab.messages) > 100)
        for _ in range(4):
            enough = len(tab.messages) + chance.randrange(1, 1_500)
            deadline = time.monotonic() + chance.uniform(0.1, 2.0)
            tab.until(lambda e=enough, d=deadline: len(tab.messages) > e or time.monotonic() > d)
            kill(server)
            back(server, tab)
        done = tab.wait(*cells, timeout=120)
        assert done[0].text == numbers(to)
        assert file.read_text() == "all"
        assert (done[1].text, done[2].content["ename"], done[3].status) == ("after\n", "ZeroDivisionError", "aborted")
        assert [len(d.replies) for d in done] == [1] * 4
        assert len(done[2].outputs("error")) == 1
        assert done[3].text == ""


def test_a_cell_that_waits_for_input_gets_it_from_the_next_server(server: JupyterServer):
    kernel_id = opened(server)
    with Tab(server, kernel_id) as tab:
        cell = tab.send("print('hello', input('name? '))", allow_stdin=True)
        tab.until(lambda: tab.requests_for_input)
        kill(server)
        back(server, tab)
        assert len(tab.requests_for_input) == 1
        tab.ask("input_reply", {"value": "world"}, "stdin")
        (done,) = tab.wait(cell)
        assert done.text == "hello world\n"


def test_widgets_go_on(server: JupyterServer):
    kernel_id = opened(server)
    target = """
from ipykernel.comm import Comm
def opened(comm, message):
    def heard(message): comm.send({'got': message['content']['data']}); print('heard', message['content']['data'])
    comm.on_msg(heard)
get_ipython().kernel.comm_manager.register_target('test', opened)
"""
    with Tab(server, kernel_id) as tab:
        tab.run(target)
        tab.ask("comm_open", {"comm_id": "c1", "target_name": "test", "data": {}})
        first = tab.ask("comm_msg", {"comm_id": "c1", "data": 1})
        tab.until(lambda: tab.of(first).outputs("comm_msg"))
        stop(server)
        back(server, tab)
        # What a page that was reloaded asks before it builds its widgets.
        (info,) = tab.wait(tab.ask("comm_info_request", {"target_name": "test"}))
        assert info.content["comms"] == {"c1": {"target_name": "test"}}
        second = tab.ask("comm_msg", {"comm_id": "c1", "data": 2})
        tab.until(lambda: "idle" in tab.of(second).states)
        assert tab.of(second).outputs("comm_msg")[0]["content"]["data"] == {"got": 2}
        assert tab.of(second).text == "heard 2\n"
        assert len(tab.of(first).outputs("comm_msg")) == 1
        # Their other end stays behind when the notebook leaves, as without a restart in between.
        attach(server, kernel_id, "free")
        tab.until(lambda: [m for m in tab.messages if m["msg_type"] == "comm_close"])
        assert [m["content"]["comm_id"] for m in tab.messages if m["msg_type"] == "comm_close"] == ["c1"]
        (info,) = tab.wait(tab.ask("comm_info_request", {}))
        assert info.content["comms"] == {}


@BOTH
def test_a_kernel_that_ended_meanwhile_is_said_to_have_ended(
    where: Place, server: JupyterServer, end: End, tmp_path: Path
):
    kernel_id = opened(server)
    file = tmp_path / "said"
    with Tab(server, kernel_id) as tab:
        cells = [tab.send(counting(10, 0.1, file) + "\nimport os; os._exit(7)"), tab.send("print('never')")]
        tab.until(lambda: tab.of(cells[0]).text)
        end(server)
        until(lambda: lines(file) == 10 and not [p for p in where.machine.processes().values() if "start.py" in p])
        back(server, tab)
        died, after = tab.wait(*cells, timeout=PATIENCE)
        assert died.text == numbers(10)
        assert (died.status, died.content["ename"]) == ("error", "KernelDied")
        assert "ended with exit code 7" in died.content["evalue"]
        assert after.status == "aborted"
        # Then jupyter_client starts it again, over there.
        assert tab.run(WHERE, timeout=PATIENCE).text.strip() == where.machine.mark


def test_out_of_reach_is_not_gone(where: Place, server: JupyterServer, tmp_path: Path):
    kernel_id = opened(server)
    file = tmp_path / "said"
    with Tab(server, kernel_id) as tab:
        cells = [tab.send(counting(20, 0.1, file)), tab.send("print('then')")]
        tab.until(lambda: tab.of(cells[0]).text)
        kill(server)
        where.machine.stop_listening()
        try:
            back(server, tab)
            until(lambda: server.row(kernel_id)["link"]["attempt"] >= 2)
            row = server.row(kernel_id)
            assert (row["compute"], row["link"]["state"], row["path"]) == (COMPUTE, "reconnecting", "count.ipynb")
            assert row["link"]["reason"]
            assert row["link"]["since"]
            (reply,) = tab.wait(tab.ask("kernel_info_request", {}))
            assert reply.content["language_info"]["name"] == "python"
            late = tab.send("print('late')")
            until(lambda: late in (where.kept[0].parent / "requests.jsonl").read_text())
            stop(server)  # and once more, without ever having reached it
            back(server, tab)
            until(lambda: server.row(kernel_id)["link"]["state"] == "reconnecting")
        finally:
            where.machine.start()
        done = tab.wait(*cells, late, timeout=PATIENCE)
        assert [d.text for d in done] == [numbers(20), "then\n", "late\n"]


def test_a_relay_that_is_no_more_is_said_to_be(where: Place, server: JupyterServer):
    """The machine has been started anew meanwhile."""
    kernel_id = opened(server)
    with Tab(server, kernel_id) as tab:
        cells = [tab.send("print('here', flush=True); import time; time.sleep(300)"), tab.send("print('never')")]
        tab.until(lambda: tab.of(cells[0]).text)
        stop(server)
        where.machine.kill()
        where.machine.start()
        back(server, tab)
        lost, after = tab.wait(*cells, timeout=PATIENCE)
        assert (lost.text, lost.status) == ("here\n", "error")
        assert "is no more" in lost.content["evalue"]
        assert after.status == "aborted"
        row = server.row(kernel_id)
        assert (row["link"]["state"], row["compute"]) == ("gone", COMPUTE)
        assert "is no more" in row["link"]["reason"]
        with pytest.raises(RestError):
            server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        assert "is no more" in tab.run("1").content["evalue"]
        attach(server, kernel_id, "free")
        assert tab.run(WHERE).text == "here\n"


@pytest.mark.parametrize("reached", [True, False], ids=["reached", "at once"])
def test_shut_down_after_a_restart_ends_it_there(where: Place, server: JupyterServer, reached: bool):
    session = server.open("one.ipynb")
    attach(server, session["kernel"]["id"])
    kill(server)
    assert where.machine.processes()
    server.start()
    if reached:
        until(lambda: server.row(session["kernel"]["id"])["link"]["state"] == "connected")
    server.rest("DELETE", f"api/sessions/{session['id']}", status=204)
    assert server.rest("GET", "api/kernels") == []
    until(lambda: not [p for p in where.machine.processes().values() if "start.py" in p])
    assert not where.kept
    stop(server)
    assert not where.machine.wait_until_idle(20)
    server.start()
    assert server.rest("GET", "api/sessions") == []


def test_restart_interrupt_and_return_after_a_restart(where: Place, server: JupyterServer):
    kernel_id = opened(server)
    kill(server)
    server.start()
    with Tab(server, kernel_id) as tab:
        cell = tab.send("print('asleep', flush=True); import time; time.sleep(300)")
        tab.until(lambda: tab.of(cell).text)
        server.rest("POST", f"api/kernels/{kernel_id}/interrupt", status=204)
        assert tab.wait(cell)[0].content["ename"] == "KeyboardInterrupt"
        tab.run("kept = 1")
        server.rest("POST", f"api/kernels/{kernel_id}/restart", {})
        assert tab.run("kept").content["ename"] == "NameError"
        assert tab.run("%dsvm status").text.startswith("This notebook runs on vm")
        kill(server)
        back(server, tab)
        there = tab.run(WHERE)
        assert there.text.strip() == where.machine.mark, [m["content"] for m in (*there.replies, *there.published)]
        attach(server, kernel_id, "free")
        assert tab.run(WHERE).text == "here\n"
        assert not where.kept


@BOTH
def test_notebooks_on_the_free_tier_end_with_the_server(where: Place, server: JupyterServer, end: End):
    kernel_id = server.open("here.ipynb")["kernel"]["id"]
    there = opened(server, "there.ipynb")
    with Tab(server, kernel_id) as tab:
        pid = int(tab.run("import os; print(os.getpid())").text)
        end(server)
        until(lambda: not Path(f"/proc/{pid}").exists())
    server.start()
    assert [s["path"] for s in server.rest("GET", "api/sessions")] == ["there.ipynb"]
    assert [k["id"] for k in server.rest("GET", "api/kernels")] == [there]


def test_a_rename_is_known_to_the_next_server(server: JupyterServer):
    session = server.open("old.ipynb")
    attach(server, session["kernel"]["id"])
    server.rest("PATCH", f"api/sessions/{session['id']}", {"path": "sub/new.ipynb", "name": "new.ipynb"})
    stop(server)
    server.start()
    (found,) = server.rest("GET", "api/sessions")
    assert (found["id"], found["path"], found["name"]) == (session["id"], "sub/new.ipynb", "new.ipynb")


def test_without_movable_kernels_they_are_left_alone(where: Place, server: JupyterServer):
    kernel_id = opened(server)
    stop(server)
    server.start("--DSVMExtension.keep_kernels_movable=False")
    assert server.rest("GET", "api/kernels") == []
    other = server.open("here.ipynb")["kernel"]["id"]
    with Tab(server, other) as tab:
        assert tab.run(WHERE).text == "here\n"
    assert len(where.kept) == 1
    stop(server)
    server.start("--ServerApp.jpserver_extensions=jupyter_dsvm=False")
    assert server.rest("GET", "api/kernels") == []
    stop(server)
    server.start()
    with Tab(server, kernel_id) as tab:
        assert tab.run(WHERE).text.strip() == where.machine.mark


def test_a_second_server_of_the_same_user_takes_nothing(where: Place, server: JupyterServer):
    kernel_id = opened(server)
    with where.server("second") as second, Tab(server, kernel_id) as tab:
        assert second.rest("GET", "api/kernels") == []
        stop(second)
        assert tab.run(WHERE).text.strip() == where.machine.mark
        second.start()
        kill(server)
        stop(second)
        second.start()
        assert [k["id"] for k in second.rest("GET", "api/kernels")] == [kernel_id]
        assert second.rest("GET", "api/sessions") == []  # the notebook is not in its folder
        server.start()
        assert server.rest("GET", "api/kernels") == []


def test_one_broken_folder_keeps_nothing_else_away(where: Place, server: JupyterServer):
    ids = [opened(server, name) for name in ("one.ipynb", "two.ipynb", "three.ipynb")]
    stop(server)
    one, two = (where.data / "jupyter-dsvm" / "kernels" / i for i in ids[:2])
    sound = {folder: (folder / "kernel.json").read_text() for folder in (one, two)}
    (one / "kernel.json").write_text("{")
    (two / "kernel.json").write_text(json.dumps({**json.loads(sound[two]), "kernel_name": "no-such-kernelspec"}))
    server.start()
    assert [k["id"] for k in server.rest("GET", "api/kernels")] == ids[2:]
    with Tab(server, ids[2]) as tab:
        assert tab.run(WHERE).text.strip() == where.machine.mark
    log = server.log.read_text()
    assert ids[0] in log
    assert "NoSuchKernel" in log
    stop(server)
    for folder, text in sound.items():
        (folder / "kernel.json").write_text(text)
    server.start()
    assert {k["id"] for k in server.rest("GET", "api/kernels")} == set(ids)
