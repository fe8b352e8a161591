"""``%dsvm`` in real kernels and in a terminal's IPython, against a socket that answers as the proxy does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from jupyter_dsvm.kernels.magic_source import source
from jupyter_dsvm.relay import magic

Answer = Callable[[dict[str, Any], Callable[[dict[str, Any]], None], threading.Event], None]


class Server:
    """The proxy's end of the socket: ``answer(request, send, hung_up)`` for each connection."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "call")
        self.requests: list[dict[str, Any]] = []
        self.hung_up = threading.Event()
        self.answer: Answer = lambda request, send, _: send({"result": {"text": f"heard {request['line']}"}})
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                request = json.loads(lines.readline() or b"{}")
                if request.get("line") == "stop the server":
                    return
                self.requests.append(request)
                watcher = threading.Thread(target=self._watch, args=(connection.dup(),))
                watcher.start()
                self.answer(request, partial(self._send, connection), self.hung_up)
                connection.shutdown(socket.SHUT_RDWR)
                watcher.join()

    @staticmethod
    def _send(connection: socket.socket, value: dict[str, Any]) -> None:
        connection.sendall(json.dumps(value).encode() + b"\n")

    def _watch(self, connection: socket.socket) -> None:
        with connection:
            try:
                hung_up = not connection.recv(1)
            except ConnectionResetError:  # it left something unread
                hung_up = True
            if hung_up:
                self.hung_up.set()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.path)
            s.sendall(b'{"line": "stop the server"}\n')
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        made = Server(Path(folder))
        yield made
        made.close()


class Kernel:
    def __init__(self, client: BlockingKernelClient, manager: KernelManager) -> None:
        self.client = client
        self.manager = manager

    def run_in_page(self, code: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """As a page of a notebook does it, which says which cell it runs."""
        message = self.client.session.msg("execute_request", {"code": code, "silent": False, "stop_on_error": False})
        message["metadata"] = {"cellId": "c1"}
        self.client.shell_channel.send(message)
        messages: list[dict[str, Any]] = []
        while True:
            heard = self.client.get_iopub_msg(timeout=30)
            if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
                break
            if heard["msg_type"] not in ("status", "execute_input"):
                messages.append({"type": heard["msg_type"], **heard["content"]})
        while True:
            reply = self.client.get_shell_msg(timeout=30)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return reply["content"], messages

    def matches(self, code: str, at: int | None = None) -> list[str]:
        """What Tab offers there."""
        content = self.client.complete(code, len(code) if at is None else at, reply=True, timeout=30)["content"]
        assert content["status"] == "ok"
        found: list[str] = content["matches"]
        return found

    def run(self, code: str, silent: bool = False) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The reply's content, and the iopub messages (type and content) of the request."""
        messages: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(code, silent=silent, output_hook=messages.append, timeout=30)
        return reply["content"], [
            {"type": m["msg_type"], **m["content"]}
            for m in messages
            if m["msg_type"] not in ("status", "execute_input")
        ]


@pytest.fixture
def kernel(server: Server) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, magic.VARIABLE: server.path})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        made = Kernel(client, manager)
        assert made.run(source(), silent=True)[0]["status"] == "ok"
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(m["text"] for m in messages if m["type"] == "stream")


def test_in_a_notebook(kernel: Kernel, server: Server):
    # It leaves nothing behind: no name, no line of history; loading it again is harmless. (IPython itself adds _i1, _i2, …)
    look = "print([n for n in sorted(dir()) if not n.startswith('_')], len(In))"
    assert text_of(kernel.run(look)[1]) == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit'] 2\n"
    kernel.run(source(), silent=True)
    assert text_of(kernel.run(look)[1]) == "['In', 'Out', 'exit', 'get_ipython', 'open', 'quit'] 3\n"

    reply, messages = kernel.run("%dsvm attach gpu-vm --kernel ir")
    assert reply["status"] == "ok"
    assert text_of(messages) == "heard attach gpu-vm --kernel ir\n"
    assert server.requests[-1] == {"line": "attach gpu-vm --kernel ir", "version": 1}

    # In a function, behind a comment, with a variable: IPython's own ways.
    assert "heard status" in text_of(kernel.run("# move\nget_ipython().run_line_magic('dsvm', 'status')")[1])
    assert "heard attach big" in text_of(kernel.run("name = 'big'\ndef go():\n    %dsvm attach {name}\ngo()")[1])


def test_steps_come_live_and_once_each(kernel: Kernel, server: Server):
    shown = threading.Event()

    def answer(_request: dict, send: Any, _hung_up: Any) -> None:
        send({"progress": {"text": "Starting gpu-vm"}})
        send({"progress": {"text": "Starting gpu-vm"}})
        assert shown.wait(20), "the step was not shown while the call went on"
        send({"result": {"text": "It runs.\x1b[31m<b>"}})

    server.answer = answer
    seen: list[str] = []

    def hook(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            seen.append(message["content"]["text"])
            shown.set()

    kernel.client.execute_interactive("%dsvm attach gpu-vm", output_hook=hook, timeout=30)
    assert "".join(seen) == "Starting gpu-vm\nIt runs.\ufffd[31m<b>\n"


def test_an_error_is_one_sentence_and_fails_the_cell(kernel: Kernel, server: Server):
    server.answer = lambda _r, send, _h: send(
        {"error": {"code": "UnknownCompute", "message": "There is no compute 'x'.", "advice": "Did you mean gpu-vm?"}}
    )
    reply, messages = kernel.run("%dsvm attach x\nprint('not reached')")
    assert reply["status"] == "error"
    assert reply["ename"] == "DSVMError"
    (error,) = messages
    assert error["type"] == "error"
    assert error["traceback"] == ["DSVMError: There is no compute 'x'.", "Did you mean gpu-vm?"]
    # Code can tell one error from another.
    code = "try:\n    %dsvm attach x\nexcept Exception as e:\n    print(e.code, '|', e)"
    assert text_of(kernel.run(code)[1]) == "UnknownCompute | There is no compute 'x'. Did you mean gpu-vm?\n"


def test_html_is_shown_as_html(kernel: Kernel, server: Server):
    server.answer = lambda _r, send, _h: send({"result": {"text": "plain", "html": "<table></table>"}})
    (shown,) = kernel.run("%dsvm list")[1]
    assert shown["type"] == "display_data"
    assert shown["data"] == {"text/plain": "plain", "text/html": "<table></table>"}


def test_interrupting_the_cell_hangs_up(kernel: Kernel, server: Server):
    started = threading.Event()

    def answer(_request: dict, send: Any, hung_up: threading.Event) -> None:
        send({"progress": {"text": "Starting", "stopped": {"say": "Interrupted: the notebook stays here."}}})
        time.sleep(0.5)  # until that was read
        started.set()
        assert hung_up.wait(20)

    server.answer = answer
    request = kernel.client.execute("%dsvm attach gpu-vm")
    assert started.wait(20)
    kernel.manager.interrupt_kernel()
    while True:
        reply = kernel.client.get_shell_msg(timeout=20)
        if reply["parent_header"].get("msg_id") == request:
            break
    assert reply["content"]["ename"] == "Interrupted"
    assert reply["content"]["traceback"] == ["Interrupted: the notebook stays here."]
    assert server.hung_up.wait(10)
    while kernel.run("pass")[0]["status"] == "aborted":
        pass  # ipykernel aborts what comes within a moment of an error
    assert text_of(kernel.run("print(1)")[1]) == "1\n"


def live(text: str) -> dict[str, str]:
    return {"text": text, "html": f"<p>{text}</p>"}


def steps(_request: dict, send: Any, _hung_up: Any) -> None:
    for text in ("1 of 2", "2 of 2"):
        send(
            {"progress": {"text": text, "live": live(text), "stopped": {**live(f"stopped at {text}"), "say": "Over."}}}
        )


def saved(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The outputs of a cell as a notebook has them at last: what is updated, in its place."""
    outputs: dict[Any, dict[str, str]] = {}
    for at, message in enumerate(messages):
        if message["type"] in ("display_data", "update_display_data"):
            outputs[message["transient"].get("display_id", at)] = message["data"]
        elif message["type"] == "stream":
            outputs[at] = {"stream": message["text"]}
    return list(outputs.values())


def test_in_a_page_the_steps_have_one_place_and_end_in_one_line(kernel: Kernel, server: Server):
    def answer(request: dict, send: Any, hung_up: Any) -> None:
        steps(request, send, hung_up)
        send({"result": {"text": "Done.", "live": live("Done.")}})

    server.answer = answer
    reply, messages = kernel.run_in_page("%dsvm attach gpu-vm")
    assert reply["status"] == "ok"
    assert [m["type"] for m in messages] == ["display_data", "update_display_data", "update_display_data"]
    assert [m["data"]["text/plain"] for m in messages] == ["1 of 2", "2 of 2", "Done."]
    assert saved(messages) == [{"text/plain": "Done.", "text/html": "<p>Done.</p>"}]
    # Two lines in one cell have a place each; a console and nbclient get lines.
    assert len(saved(kernel.run_in_page("%dsvm attach a\n%dsvm attach b")[1])) == 2
    assert text_of(kernel.run("%dsvm attach gpu-vm")[1]) == "1 of 2\n2 of 2\nDone.\n"


def test_no_cell_is_left_with_steps_in_progress(kernel: Kernel, server: Server):
    stopped = [{"text/plain": "stopped at 2 of 2", "text/html": "<p>stopped at 2 of 2</p>"}]
    server.answer = steps  # and then the server is gone
    reply, messages = kernel.run_in_page("%dsvm attach gpu-vm")
    assert reply["status"] == "error"
    assert saved(messages) == stopped
    assert messages[-1]["type"] == "error"

    def fails(request: dict, send: Any, hung_up: Any) -> None:
        steps(request, send, hung_up)
        send({"progress": {"text": "", "live": live("failed")}})
        send({"error": {"code": "X", "message": "It failed.", "advice": "Do this."}})

    server.answer = fails
    reply, messages = kernel.run_in_page("%dsvm attach gpu-vm")
    assert saved(messages) == [{"text/plain": "failed", "text/html": "<p>failed</p>"}]
    assert messages[-1]["traceback"] == ["DSVMError: It failed.", "Do this."]

    def hangs(request: dict, send: Any, hung_up: Any) -> None:
        steps(request, send, hung_up)
        assert hung_up.wait(20)

    server.hung_up.clear()
    server.answer = hangs
    code = "import os, signal, threading\nthreading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n%dsvm attach gpu-vm"
    reply, messages = kernel.run_in_page(code)
    assert saved(messages) == stopped
    assert (reply["ename"], reply["evalue"]) == ("Interrupted", "Over.")
    assert issubclass(magic.Interrupted, KeyboardInterrupt)  # no loop that catches exceptions goes on


@pytest.mark.parametrize("jedi", [True, False])
def test_tab(kernel: Kernel, server: Server, jedi: bool):
    words = {"": ["attach", "list"], "at": ["attach"], "attach gp": ["gpu-vm", "gpu-vm-2"], "attach lab/": ["lab/twin"]}
    words |= {"attach gpu-vm --": ["--kernel"], "attach evil": ["evil\x1b[31m"]}
    server.answer = lambda r, send, _h: send({"result": {"matches": words.get(r.get("complete", "none"), [])}})
    kernel.run(f"%config IPCompleter.use_jedi = {jedi}")
    assert kernel.matches("%dsv") == ["%dsvm"]
    assert kernel.matches("%dsvm ") == ["attach", "list"]
    assert kernel.matches("%dsvm at") == ["attach"]
    assert kernel.matches("def f():\n    %dsvm attach gp") == ["gpu-vm", "gpu-vm-2"]
    assert kernel.matches("x = 1\n%dsvm attach lab/\nprint()", len("x = 1\n%dsvm attach lab/")) == ["lab/twin"]
    assert kernel.matches("%dsvm attach gpu-vm --") == ["--kernel"]
    assert kernel.matches("%dsvm attach evil") == ["evil\ufffd[31m"]
    assert kernel.matches("%dsvm attach /e") == []  # and no files
    assert kernel.matches("%dsvm list ") == []  # nor names of Python
    kernel.run(source(), silent=True)
    asked = len(server.requests)
    assert kernel.matches("%dsvm attach gp") == ["gpu-vm", "gpu-vm-2"]
    assert len(server.requests) == asked + 1  # once, although it was loaded twice
    assert all("line" not in r for r in server.requests)
    assert kernel.matches("prin") == ["print"]


def test_tab_does_not_wait_for_a_server_that_does_not_answer(kernel: Kernel, server: Server):
    server.answer = lambda _r, _s, hung_up: hung_up.wait(20)
    begun = time.monotonic()
    assert kernel.matches("%dsvm attach gp") == []
    assert time.monotonic() - begun < 8  # half a second, on a machine that has nothing else to do
    assert server.hung_up.wait(10)
    server.hung_up.clear()
    begun = time.monotonic()
    with pytest.raises(magic.DSVMError):
        list(magic.call("attach ", server.path, key="complete", seconds=0.3))
    assert 0.2 < time.monotonic() - begun < 5


def test_a_question_mark_asks_for_help(kernel: Kernel, server: Server):
    for asked, heard in {
        "%dsvm attach?": "help attach",
        "x = 1\n%dsvm attach gpu-vm??\n": "help attach",
        "%dsvm?": "help",
    }.items():
        assert text_of(kernel.run(asked)[1]) == f"heard {heard}\n"
    assert text_of(kernel.run('print("""\n%dsvm attach?\n""")')[1]) == "\n%dsvm attach?\n\n"
    assert text_of(kernel.run("%dsvm attach 'a?'")[1]) == "heard attach 'a?'\n"


@pytest.mark.parametrize("sent", [b"", b"nonsense\n", b"[]\n", b'{"progress": {}}\n'])
def test_a_server_that_goes_away_is_an_error(server: Server, sent: bytes):
    def answer(_request: dict, _send: Any, _hung_up: Any) -> None:
        pass

    server.answer = answer
    with pytest.raises(magic.DSVMError) as e:
        list(magic.call("status", server.path))
    assert e.value.code == "Unreachable"
    with pytest.raises(magic.DSVMError, match="cannot reach"):
        list(magic.call("status", server.path + "-none"))


def ipython(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != magic.VARIABLE}
    with tempfile.TemporaryDirectory() as home:
        return subprocess.run(
            [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={**env, "IPYTHONDIR": home, **environment},
        )


def test_in_a_terminal(server: Server):
    server.answer = lambda _r, send, _h: send({"result": {"text": "plain", "html": "<b>rich</b>"}})
    shown = ipython("%load_ext jupyter_dsvm\n%dsvm list", **{magic.VARIABLE: server.path})
    assert "plain" in shown.stdout
    assert "rich" not in shown.stdout


def test_load_ext_in_a_kernel_started_otherwise_says_what_to_do():
    shown = ipython("%load_ext jupyter_dsvm")
    assert "jupyter-dsvm did not start it" in shown.stdout
    assert "JUPYTER_DEFAULT_PROVISIONER_NAME=dsvm-provisioner" in shown.stdout


def test_the_source_is_one_statement_and_quick():
    compile(source(), "<test>", "exec")
    assert source().count("\n") == 0
    begun = time.perf_counter()
    # Without IPython (any other Python program) it does nothing.
    code = f"import sys; sys.modules['IPython'] = None\n{source()}\nprint(sorted(n for n in dir() if n[0] != '_'))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "['sys']", shown.stderr
    assert time.perf_counter() - begun < 30
