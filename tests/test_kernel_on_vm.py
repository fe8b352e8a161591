"""Everything that a notebook asks of its kernel, with the kernel on a VM: interrupts, input, debugger, widgets, large outputs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.ioloop import AsyncIOLoopKernelManager
from jupyter_core.paths import jupyter_data_dir
from traitlets.config import Config

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.models import FREE, OperationState
from support.emulated import (
    HERE,
    PATIENCE,
    WHERE,
    assert_moved,
    attached,
    configured,
    emulator,
    moved,
    ours,
    refused,
    where,
)
from support.kernels import Execution, Notebook, until
from support.lab_pc import NAME, lab_pc
from support.on_vm import kernel_folders, kernel_pids, notebook_on_cpu_vm

__all__ = ["configured", "emulator"]

IRKERNEL = Path("/usr/share/jupyter/kernels/ir")
needs_r = pytest.mark.skipif(not IRKERNEL.exists(), reason="needs IRkernel (Debian: r-cran-irkernel)")


def answered(notebook: Notebook, kind: str, content: dict[str, Any], channel: str = "shell") -> dict[str, Any]:
    """The content of the reply to a request that is no cell."""
    asked = notebook.of(notebook.ask(kind, content, channel))
    notebook.until(lambda: asked.replies)
    reply: dict[str, Any] = asked.content
    return reply


# Kernels of their own. (They come first: the tests further down share one, and with it a connection.)


class Lifecycle:
    """A kernel as jupyter_server holds it: asyncio, with the restarter that looks every ``time_to_dead`` seconds."""

    def __init__(self, km: AsyncIOLoopKernelManager, kc: AsyncKernelClient) -> None:
        self.km = km
        self.kc = kc
        self.restarts = 0
        self.deaths = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls) -> AsyncIterator[Lifecycle]:
        config = Config({"AsyncIOLoopKernelRestarter": {"time_to_dead": 0.3}})
        km = AsyncIOLoopKernelManager(kernel_name="python3", config=config)
        await km.start_kernel()
        kc = km.client()
        it = cls(km, kc)
        km.add_restart_callback(it._restarted, "restart")
        km.add_restart_callback(it._died, "dead")
        kc.start_channels()
        try:
            await kc.wait_for_ready(timeout=PATIENCE)
            yield it
        finally:
            kc.stop_channels()
            await km.shutdown_kernel()
            km.context.destroy(linger=0)

    def _restarted(self) -> None:
        self.restarts += 1

    def _died(self) -> None:
        self.deaths += 1

    async def run(self, code: str) -> Execution:
        """All that comes back for a cell. Each cell is waited for, so what comes is about it, or about none."""
        return await self.end(self.kc.execute(code, allow_stdin=False))

    async def end(self, msg_id: str) -> Execution:
        done, deadline = Execution(), time.monotonic() + PATIENCE
        while not done.over:
            assert time.monotonic() < deadline, f"in time came only {done}"
            for channel, kept in ((self.kc.iopub_channel, done.published), (self.kc.shell_channel, done.replies)):
                with contextlib.suppress(queue.Empty):
                    message = await channel.get_msg(timeout=0.02)
                    if message["parent_header"].get("msg_id") == msg_id:
                        kept.append(message)
        return done

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come about in time"
            await asyncio.sleep(0.02)


def test_restart_and_death_on_the_vm(configured: Emulator):
    async def body() -> None:
        async with Lifecycle.started() as kernel:
            first = kernel.km.kernel_id, kernel.km.session.key, kernel.km.get_connection_info()
            assert (await kernel.run("%dsvm attach cpu-vm")).status == "ok"
            for number, now in enumerate((False, True)):
                assert (await kernel.run(f"kept = {number}\n{WHERE}")).text.strip() == "cpu-vm"
                (before,) = kernel_pids(configured, "cpu-vm")
                await kernel.km.restart_kernel(now=now)
                assert (await kernel.run(WHERE)).text.strip() == "cpu-vm"
                fresh = await kernel.run("kept")
                assert (fresh.content["ename"], fresh.count) == ("NameError", 2)
                assert kernel_pids(configured, "cpu-vm") not in ([before], [])
            assert await kernel.km.is_alive()
            assert kernel.restarts == 0
            # What neither the user nor this server has ended: a process that runs out of memory, say.
            (pid,) = kernel_pids(configured, "cpu-vm")
            cell = kernel.kc.execute("kept = 7\nimport time; time.sleep(60)")
            await asyncio.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            died = await kernel.end(cell)
            assert died.status == "error"
            assert "cpu-vm ended" in died.content["evalue"]
            assert "9" in died.content["evalue"]
            await kernel.until(lambda: kernel.restarts == 1)
            assert (await kernel.run(WHERE)).text.strip() == "cpu-vm"
            assert (await kernel.run("kept")).content["ename"] == "NameError"
            assert await kernel.km.is_alive()
            assert (kernel.restarts, kernel.deaths) == (1, 0)
            assert (kernel.km.kernel_id, kernel.km.session.key, kernel.km.get_connection_info()) == first

    asyncio.run(body())
    until(lambda: not ours(configured, "cpu-vm"))
    assert kernel_folders(configured, "cpu-vm") == []


def test_the_end_of_a_kernel_is_seen_and_it_can_be_restarted_by_hand(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        (pid,) = kernel_pids(configured, "cpu-vm")
        os.kill(pid, signal.SIGKILL)
        until(lambda: not notebook.km.is_alive())
        assert notebook.proxy.exit_code == -signal.SIGKILL
        assert len(notebook.proxy.folder.parts) > 1
        assert notebook.proxy.folder.exists()  # the front stays
        notebook.km.restart_kernel()
        assert where(notebook) == "cpu-vm"
        assert notebook.km.is_alive()
        notebook.km.shutdown_kernel()
        assert not notebook.km.has_kernel
    until(lambda: not ours(configured, "cpu-vm"))
    assert kernel_folders(configured, "cpu-vm") == []


class Slider:
    """One slider of a page: the messages that the widget manager of a front end sends and gets."""

    def __init__(self, notebook: Notebook, name: str) -> None:
        self.notebook = notebook
        done = notebook.run(
            f"import ipywidgets\n{name} = ipywidgets.IntSlider(value=3, description={name!r})\n"
            f"{name}.observe(lambda change: print('moved to', change['new']), 'value')\n{name}"
        )
        (view,) = done.outputs("display_data") or done.outputs("execute_result")
        self.comm = view["content"]["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
        opened = {m["content"]["comm_id"]: m["content"] for m in done.outputs("comm_open")}
        self.state = opened[self.comm]["data"]["state"]
        assert (self.state["_model_name"], self.state["description"]) == ("IntSliderModel", name)

    def move(self, value: int) -> Execution:
        """As a user drags it; what came back for that."""
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        moved = self.notebook.of(self.notebook.ask("comm_msg", {"comm_id": self.comm, "data": data}))
        self.notebook.until(lambda: "idle" in moved.states)
        return moved

    def updates(self, done: Execution) -> list[Any]:
        """The values that the kernel has set."""
        return [
            m["content"]["data"]["state"]["value"]
            for m in done.outputs("comm_msg")
            if m["content"]["comm_id"] == self.comm
            and m["content"]["data"]["method"] == "update"
            and "value" in m["content"]["data"]["state"]
        ]

    @property
    def closed(self) -> bool:
        return any(
            m["msg_type"] == "comm_close" and m["content"]["comm_id"] == self.comm for m in self.notebook.messages
        )


def test_a_slider_from_before_the_move_and_one_from_after(configured: Emulator):
    with Notebook() as notebook:
        before = Slider(notebook, "before")
        assert before.move(5).text == "moved to 5\n"
        attached(notebook, "cpu-vm")
        assert before.closed  # so the page shows it as dead instead of doing nothing when it is moved
        after = Slider(notebook, "after")
        assert "moved to" not in before.move(6).text  # the page may not have noticed yet: it harms nobody
        assert after.move(8).text == "moved to 8\n"
        assert notebook.run("print(after.value, 'before' in globals())").text == "8 False\n"
        assert not after.closed
        assert_moved(notebook, FREE)
        notebook.until(lambda: after.closed)
    until(lambda: not ours(configured, "cpu-vm"))


def test_two_kernels_share_one_connection_and_a_flood_of_one_does_not_hold_up_the_other(configured: Emulator):
    def lines(beginning: str) -> list[str]:
        running = (" ".join(row["argv"]) for row in configured.processes("cpu-vm"))
        return [line for line in running if line.startswith(beginning)]

    with Notebook() as first, Notebook() as second:
        attached(first, "cpu-vm")
        connections = lines("sshd: azureuser")
        attached(second, "cpu-vm")
        assert lines("sshd: azureuser") == connections
        assert len(lines("sh -c read")) == 1  # the pipe's is the one exec on that connection
        assert len(kernel_pids(configured, "cpu-vm")) == 2
        flood = first.send("for i in range(60): display({'text/plain': str(i) + 'x' * 1_000_000}, raw=True)")
        times = []
        while not first.of(flood).replies:
            start = time.monotonic()
            assert second.run("pass").status == "ok"
            times.append(time.monotonic() - start)
            first.receive(0)
        assert len(first.wait(flood, timeout=PATIENCE)[0].outputs("display_data")) == 60
        assert len(times) > 3
        assert sorted(times)[len(times) // 2] < 1
        first.km.shutdown_kernel()
        assert where(second) == "cpu-vm"
        until(lambda: len(kernel_folders(configured, "cpu-vm")) == 1)
    until(lambda: not ours(configured, "cpu-vm"))
    assert kernel_folders(configured, "cpu-vm") == []


# Other kernels


@needs_r
def test_an_r_kernel_here_and_there(configured: Emulator):
    """The emulated VMs see this computer's /usr, and with it its IRkernel. Its sockets are named ``ip:port``, it sends no
    welcome on IOPub and takes no session id."""
    place = "cat(Sys.getenv('DSVM_NAME', 'here'))"
    with Notebook("ir") as notebook:
        for name in (HERE, "cpu-vm"):
            if name != HERE:
                assert_moved(notebook, name)
            assert notebook.run(place, timeout=PATIENCE).text == name
            shown = notebook.run("kept <- 6 * 7; kept")
            (value,) = shown.outputs("execute_result") or shown.outputs("display_data")
            assert value["content"]["data"]["text/plain"] == "[1] 42"
            failing, waiting = notebook.send("stop('on purpose')"), notebook.send("kept <- 0")
            failed, aborted = notebook.wait(failing, waiting)
            assert "on purpose" in failed.content["evalue"]
            assert aborted.status == "aborted"
            endless = notebook.send("cat('looping\\n'); flush.console(); while (TRUE) Sys.sleep(0.01)")
            notebook.until(lambda cell=endless: "looping" in notebook.of(cell).text)
            notebook.km.interrupt_kernel()
            assert notebook.wait(endless)[0].status != "aborted"
            assert notebook.run("cat(kept)").text == "42"
            assert len({m["header"]["session"] for m in notebook.messages}) == 1
        notebook.km.restart_kernel()
        assert notebook.run(f"{place}; cat(exists('kept'))", timeout=PATIENCE).text == "cpu-vmFALSE"
    with Notebook() as notebook:
        said, _ = refused(notebook, "%dsvm attach cpu-vm --kernel ir")
        assert "The kernel 'ir' on cpu-vm speaks R, and this notebook python." in said
    until(lambda: not ours(configured, "cpu-vm"))


@pytest.fixture(scope="module")
def ipykernel_6(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment with ipykernel 6, built once; everything else in it comes from the one that runs this."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("ipykernel-6")
    python = folder / "bin" / "python"
    site = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    own = folder / "lib" / site.parent.name / "site-packages"
    if not (own / "complete").exists():
        venv.EnvBuilder(symlinks=True, with_pip=False, clear=True).create(folder)
        (own / "rest.pth").write_text(f"{site}\n")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*pip, "--target", own, "ipykernel>=6.29,<7", "nest_asyncio"], capture_output=True, text=True, timeout=100
        )
        if done.returncode:
            pytest.skip(f"ipykernel 6 could not be installed: {done.stderr.strip()[-300:]}")
        (own / "complete").touch()
    return python


def kernelspec(folder: Path, name: str, *argv: object, language: str = "python") -> Path:
    """Installed under ``folder``, which is a folder of kernelspecs."""
    (folder / name).mkdir(parents=True)
    spec = {"argv": [*map(str, argv), "{connection_file}"], "display_name": name, "language": language}
    (folder / name / "kernel.json").write_text(json.dumps(spec))
    return folder / name


def test_ipykernel_6_here_and_there(
    ipykernel_6: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsvm_provisioner: None
):
    """It sends no welcome on IOPub, has no subshells, and one thread for shell and control."""
    version = f"import ipykernel; print(ipykernel.version_info[0])\n{WHERE}"
    argv = (ipykernel_6, "-m", "ipykernel_launcher", "-f")
    installed = kernelspec(Path(jupyter_data_dir()) / "kernels", "six", *argv)
    try:
        with lab_pc(tmp_path, monkeypatch) as server, Notebook("six") as notebook:
            kernelspec(server.home / ".local/share/jupyter/kernels", "six", *argv)
            assert notebook.run(version).text == f"6\n{HERE}\n"
            notebook.run("kept = 1")
            attached(notebook, NAME)  # chosen by its name
            assert notebook.run(version).text == f"6\n{NAME}\n"
            assert notebook.run("kept").content["ename"] == "NameError"
            cell, waiting = (
                notebook.send("import time\nprint('looping')\nwhile True: time.sleep(0.01)"),
                notebook.send("1"),
            )
            notebook.until(lambda: "looping" in notebook.of(cell).text)
            notebook.km.interrupt_kernel()
            assert [d.status for d in notebook.wait(cell, waiting)] == ["error", "aborted"]
            cell = notebook.send("print(input('? '))", allow_stdin=True)
            notebook.until(lambda: notebook.requests_for_input)
            notebook.kc.input("here it is")
            assert notebook.wait(cell)[0].text.splitlines()[-1] == "here it is"
            many = notebook.run("for i in range(3000): display({'text/plain': str(i)}, raw=True)", timeout=PATIENCE)
            assert len(many.outputs("display_data")) == 3000
            assert Slider(notebook, "slider").move(4).text == "moved to 4\n"
            notebook.km.restart_kernel()
            assert notebook.run(version).text == f"6\n{NAME}\n"
            assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
            assert notebook.run(version).text == f"6\n{HERE}\n"
    finally:
        shutil.rmtree(installed)


TCP_ONLY = """
import json, sys
if json.load(open(sys.argv[1]))["transport"] != "tcp":
    raise SystemExit("this kernel speaks TCP only")
from ipykernel.kernelapp import launch_new_instance
launch_new_instance(argv=["-f", sys.argv[1]])
"""


def test_a_kernel_that_cannot_use_private_sockets_gets_loopback_tcp_and_that_is_said(configured: Emulator):
    (folder,) = Path(configured.vm("cpu-vm")["disk"]).glob("anaconda/envs/*/share/jupyter/kernels")
    python = json.loads((folder / "python3/kernel.json").read_text())["argv"][0]
    installed = kernelspec(folder, "tcponly", python, "-c", TCP_ONLY)
    warning = (
        "The kernel on cpu-vm cannot use private sockets, so it listens on loopback TCP there: other users of that"
    )
    try:
        with Notebook() as notebook:
            done = notebook.run("%dsvm attach cpu-vm --kernel tcponly", timeout=PATIENCE)
            assert done.status == "ok", done.content
            assert warning in done.text
            assert where(notebook) == "cpu-vm"
            assert_moved(notebook, FREE)
            operation = moved(notebook, "cpu-vm", "tcponly")
            assert operation.state is OperationState.DONE
            assert warning in operation.notice
            assert "listens" not in assert_moved(notebook, FREE).notice
            attached(notebook, "cpu-vm")
    finally:
        shutil.rmtree(installed)
    until(lambda: not ours(configured, "cpu-vm"))


def test_a_notebook_changes_kernels_on_one_machine(configured: Emulator):
    (folder,) = Path(configured.vm("cpu-vm")["disk"]).glob("anaconda/envs/*/share/jupyter/kernels")
    python = json.loads((folder / "python3/kernel.json").read_text())["argv"][0]
    installed = kernelspec(folder, "second", python, "-m", "ipykernel_launcher", "-f")
    try:
        with Notebook() as notebook:
            assert_moved(notebook, "cpu-vm")
            notebook.run("here = 'the first'")
            assert moved(notebook, "cpu-vm", "second").state is OperationState.DONE
            assert notebook.run("here").content["ename"] == "NameError"
            assert moved(notebook, "cpu-vm", "python3").state is OperationState.DONE
            assert notebook.run("1 + 1").status == "ok"
            attached(notebook, "cpu-vm")
    finally:
        shutil.rmtree(installed)
    until(lambda: not ours(configured, "cpu-vm"))


# One kernel for all that follows


@pytest.fixture(scope="module")
def on_vm(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """One notebook on cpu-vm for all tests that leave its kernel as it was."""
    with notebook_on_cpu_vm(emulator, tmp_path_factory.mktemp("home")) as notebook:
        yield notebook


@pytest.fixture
def there(on_vm: Notebook) -> Iterator[Notebook]:
    """Handed out idle, and still on the VM and idle afterwards."""
    on_vm.executions.clear()
    on_vm.messages.clear()
    on_vm.requests_for_input.clear()
    yield on_vm
    assert where(on_vm) == "cpu-vm"


INTERRUPTS: dict[str, Callable[[Notebook], object]] = {
    "signal": lambda notebook: notebook.km.interrupt_kernel(),
    "interrupt_request": lambda notebook: answered(notebook, "interrupt_request", {}, "control"),
}


@pytest.mark.parametrize("interrupt", INTERRUPTS.values(), ids=INTERRUPTS)
def test_interrupt(there: Notebook, interrupt: Callable[[Notebook], object]):
    there.run("kept = 41")
    cell = there.send("import time\nprint('looping')\nfor _ in range(10**6): time.sleep(0.01)")
    waiting = there.send("never = 1")
    there.until(lambda: "looping" in there.of(cell).text)
    start = time.monotonic()
    interrupt(there)
    done, aborted = there.wait(cell, waiting)
    assert time.monotonic() - start < 5
    assert (done.content["ename"], aborted.status) == ("KeyboardInterrupt", "aborted")
    assert there.run("print(kept, 'never' in globals())").text == "41 False\n"


# Questions of a front end


def test_input(there: Notebook):
    cell = there.send(
        "import getpass\nname = input('who? ')\nword = getpass.getpass('word? ')\nprint(name, word)", allow_stdin=True
    )
    for prompt, password, answer in (("who? ", False, "Zoë"), ("word? ", True, "s3cret")):
        there.until(lambda: there.requests_for_input)
        asked = there.requests_for_input.pop()
        assert asked["content"] == {"prompt": prompt, "password": password}
        assert asked["parent_header"]["msg_id"] == cell
        there.kc.input(answer)
    assert there.wait(cell)[0].text.splitlines()[-1] == "Zoë s3cret"
    refusing = there.run("input()")
    assert refusing.content["ename"] == "StdinNotImplementedError"


def test_a_cell_that_waits_for_input_can_be_interrupted(there: Notebook):
    cell = there.send("answer = input('?')", allow_stdin=True)
    there.until(lambda: there.requests_for_input)
    there.km.interrupt_kernel()
    assert there.wait(cell)[0].content["ename"] == "KeyboardInterrupt"
    there.kc.input("too late")
    assert there.run("print('answer' in globals())").text == "False\n"


def test_completion_inspection_history_and_the_like(there: Notebook):
    count = there.run("rather_long_name = {'a': 1}\ndef explained():\n    'What it does.'").count
    matches = answered(there, "complete_request", {"code": "rather_lo", "cursor_pos": 9})
    assert matches["matches"] == ["rather_long_name"]
    assert (matches["cursor_start"], matches["cursor_end"]) == (0, 9)
    told = answered(there, "inspect_request", {"code": "explained", "cursor_pos": 9, "detail_level": 0})
    assert told["found"]
    assert "What it does." in told["data"]["text/plain"]
    for code, status in (("if True:", "incomplete"), ("1 + 1", "complete"), ("1 +* 1", "invalid")):
        assert answered(there, "is_complete_request", {"code": code})["status"] == status
    history = answered(
        there,
        "history_request",
        {"hist_access_type": "range", "output": False, "raw": True, "session": 0, "start": count, "stop": count + 1},
    )
    ((_, number, code),) = history["history"]
    assert number == count
    assert code.startswith("rather_long_name")
    info = answered(there, "kernel_info_request", {})
    assert info["language_info"]["name"] == "python"
    assert "kernel subshells" in info["supported_features"]


# Outputs


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def test_rich_output(there: Notebook):
    done = there.run(
        f"from IPython.display import *\nimport base64\ndisplay(Image(data=base64.b64decode({base64.b64encode(PNG)!r})))\n"
        "display(HTML('<b>bold</b>'))\nhandle = display({'text/plain': 'one'}, raw=True, display_id='changing')\n"
        "update_display({'text/plain': 'two'}, raw=True, display_id='changing')\nclear_output(wait=True)\n[1, 2, 3]"
    )
    shown = [m["content"] for m in done.outputs("display_data")]
    assert base64.b64decode(shown[0]["data"]["image/png"]) == PNG
    assert shown[1]["data"]["text/html"] == "<b>bold</b>"
    assert shown[2]["transient"] == {"display_id": "changing"}
    (update,) = done.outputs("update_display_data")
    assert (update["content"]["data"]["text/plain"], update["content"]["transient"]) == (
        "two",
        {"display_id": "changing"},
    )
    assert done.outputs("clear_output")[0]["content"] == {"wait": True}
    assert done.outputs("execute_result")[0]["content"]["data"]["text/plain"] == "[1, 2, 3]"


def test_both_streams(there: Notebook):
    done = there.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('more')")
    said = {"stdout": "", "stderr": ""}
    for message in done.outputs("stream"):
        said[message["content"]["name"]] += message["content"]["text"]
    assert (said["stdout"], said["stderr"]) == ("out\nmore\n", "err\n")


def test_20_mb_arrive_whole(there: Notebook):
    done = there.run(
        "import random, hashlib\nlarge = random.Random(1).randbytes(10_000_000).hex()\n"
        "display({'text/plain': large}, raw=True)\nhashlib.sha256(large.encode()).hexdigest()",
        timeout=PATIENCE,
    )
    (shown,) = done.outputs("display_data")
    text = shown["content"]["data"]["text/plain"]
    assert len(text) == 20_000_000
    (digest,) = done.outputs("execute_result")
    assert digest["content"]["data"]["text/plain"] == repr(hashlib.sha256(text.encode()).hexdigest())
    assert there.run("print(large)", timeout=PATIENCE).text == text + "\n"


def test_20000_small_outputs_all_arrive_in_order(there: Notebook):
    done = there.run(
        "for i in range(20_000): display({'text/plain': str(i)}, raw=True)\nprint('end')", timeout=2 * PATIENCE
    )
    assert [m["content"]["data"]["text/plain"] for m in done.outputs("display_data")] == [*map(str, range(20_000))]
    assert done.text == "end\n"


def test_a_cell_of_5_mb(there: Notebook):
    text = os.urandom(2_500_000).hex()
    done = there.run(
        f"text = '{text}'\nimport hashlib\nprint(hashlib.sha256(text.encode()).hexdigest())", timeout=PATIENCE
    )
    assert done.text.strip() == hashlib.sha256(text.encode()).hexdigest()
    assert text in done.outputs("execute_input")[0]["content"]["code"]


# The debugger


class Debugger:
    """What JupyterLab's debugger says to a kernel: ``debug_request`` on control, the Debug Adapter Protocol inside."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self._seq = 0

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        self._seq += 1
        content = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
        reply = answered(self.notebook, "debug_request", content, "control")
        assert reply.get("success"), reply
        body: dict[str, Any] = reply.get("body") or {}
        return body

    def events(self, name: str) -> list[dict[str, Any]]:
        return [
            m["content"]["body"]
            for m in self.notebook.messages
            if m["msg_type"] == "debug_event" and m["content"]["event"] == name
        ]

    def stopped(self, times: int) -> dict[str, Any]:
        """The stop of that number; where and with which variables."""
        self.notebook.until(lambda: len(self.events("stopped")) == times)
        thread = self.events("stopped")[-1]["threadId"]
        frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]
        scope = self.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
        values = {v["name"]: v["value"] for v in self.ask("variables", variablesReference=scope)["variables"]}
        return {"thread": thread, "frame": frame["id"], "line": frame["line"], "values": values}


def test_debugger(there: Notebook):
    code = "def twice(n):\n    result = n * 2\n    return result\n\nprint(twice(3) + twice(4))"
    debugger = Debugger(there)
    assert "debugger" in answered(there, "kernel_info_request", {})["supported_features"]
    debugger.ask(
        "initialize",
        clientID="test",
        clientName="test",
        adapterID="",
        pathFormat="path",
        linesStartAt1=True,
        columnsStartAt1=True,
        supportsVariableType=True,
    )
    debugger.ask("attach")
    path = debugger.ask("dumpCell", code=code)["sourcePath"]
    set_to = debugger.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": 3}], sourceModified=False)
    assert [b["verified"] for b in set_to["breakpoints"]] == [True]
    debugger.ask("configurationDone")
    cell = there.send(code)
    first = debugger.stopped(1)
    assert (first["line"], first["values"]["result"]) == (3, "6")
    assert not there.of(cell).replies
    debugger.ask("continue", threadId=first["thread"])
    second = debugger.stopped(2)
    assert (second["line"], second["values"]["result"]) == (3, "8")
    assert debugger.ask("evaluate", expression="n + 1", frameId=second["frame"], context="hover")["result"] == "5"
    debugger.ask("continue", threadId=second["thread"])
    assert there.wait(cell)[0].text == "14\n"
    debugger.ask("disconnect", restart=False, terminateDebuggee=False)
    assert there.run("print(twice(5))").text == "10\n"


# Widgets


def test_a_slider(there: Notebook):
    slider = Slider(there, "slider")
    assert slider.state["value"] == 3
    assert slider.move(7).text == "moved to 7\n"  # what its handler prints is about that message, so it finds its way
    assert there.run("print(slider.value)").text == "7\n"
    assert slider.updates(there.run("slider.value = 9")) == [9]
    listed = answered(there, "comm_info_request", {"target_name": "jupyter.widget"})["comms"]
    assert slider.comm in listed
    there.run("slider.close()")
    assert slider.closed
