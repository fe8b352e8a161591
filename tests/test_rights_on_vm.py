"""What code on a VM may do with ``%dsvm``: look, move its own notebook to what runs, and nothing that costs or ends anything."""

from __future__ import annotations

import ast

import pytest

from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.verbs import VERBS
from support.emulated import HERE, PATIENCE, attached, configured, emulator, ours, refused, service, where, writes
from support.kernels import Notebook, until

__all__ = ["configured", "emulator"]

REFUSED = {
    "%dsvm start gpu-vm": "A kernel on a VM may not start machines.",
    "%dsvm stop cpu-vm": "A kernel on a VM may not stop machines.",
    "%dsvm stop gpu-vm": "A kernel on a VM may not stop machines.",
    "%dsvm restart cpu-vm": "A kernel on a VM may not restart machines.",
    "%dsvm attach gpu-vm": "gpu-vm is off, and a kernel on a VM may not start another one.",
    "%dsvm attach old-vm": "old-vm is stopped (still billed), and a kernel on a VM may not start another one.",
}

AGREED = ("%dsvm sync --force", "%dsvm sync --yes", "%dsvm sync --fetch x", "%dsvm attach cpu-vm --yes")
"""What a person has to agree to: to delete much, to send much, to fill the disk here."""

LATER = """
import json, os, socket, threading, time
def ask(line):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.environ["JUPYTER_DSVM_SOCKET"])
        s.sendall(json.dumps({"line": line, "version": 1}).encode() + b"\\n")
        return next(line for line in s.makefile() if '"progress"' not in line)
def later():
    time.sleep(0.5)
    answers.extend(ask(line) for line in ("status", "attach cpu-vm", "detach", "stop cpu-vm"))
answers = []
thread = threading.Thread(target=later)
thread.start()
"""


BY_HAND = """
import json, os, socket
def ask(data):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(os.environ["JUPYTER_DSVM_SOCKET"])
        try:
            s.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\\n")
            return next(m for m in map(json.loads, s.makefile("rb")) if "progress" not in m)
        except (OSError, ValueError, StopIteration):
            return {}  # it hung up
def told(data):
    answer = ask(data)
    return answer["error"]["code"] if "error" in answer else "result" if "result" in answer else "hung up"
"""


def test_whatever_a_vm_says_by_hand_azure_is_asked_to_change_nothing(configured: Emulator):
    """Raw lines on the socket: every verb with every kind of argument, other versions and keys, other kernels, long lines."""
    names = ["", " cpu-vm", " gpu-vm", " old-vm", " win-vm", " free", " nothing", " cpu-vm NC8as_T4_v3 --yes"]
    names += [
        " gpu-vm Standard_NC4as_T4_v3",
        " --tenant example.com",
        " --new",
        " ../../x",
        " 'open",
        " gpu-vm --kernel x",
    ]
    with Notebook() as notebook, Notebook() as other:
        attached(notebook, "cpu-vm")
        other.run("kept = 2")
        before = len(configured.traffic)
        notebook.run(BY_HAND)
        # What moves this very notebook is allowed, and is seen to below: here it stays where it is.
        verbs = [v for v in VERBS if v not in ("attach", "detach")]
        lines = [f"{verb}{name}" for verb in verbs for name in names]
        lines += ["", "attach gpu-vm", "attach old-vm", "attach win-vm", "attach nothing", "attach gpu-vm --kernel ir"]
        asked = notebook.run(
            f"print([(line, told({{'line': line, 'version': 1}})) for line in {lines!r}])", timeout=300
        )
        told = dict(ast.literal_eval(asked.text))
        for verb in ("start", "stop", "restart", "resize", "signin"):
            for name in names:
                # What is no line of it is told so; everything else is refused for what it is.
                assert told[verb + name] in ("NotAllowed", "BadRequest"), (verb, name)
            if verb not in ("resize", "signin"):
                assert {told[f"{verb} cpu-vm"], told[f"{verb} gpu-vm"], told[f"{verb} nothing"]} == {"NotAllowed"}
        assert {told["list"], told["status"], told["help"], told[""]} == {"result"}
        assert (told["attach gpu-vm"], told["attach old-vm"]) == ("NotAllowed", "NotAllowed")

        kernel_id = other.proxy.kernel_id
        odd = [{"line": "stop cpu-vm", "version": v} for v in (0, 2, "1", None, [1], 1.0, True)]
        odd += [{"line": "stop cpu-vm"}, {"version": 1}, {}, {"line": ["stop", "cpu-vm"], "version": 1}]
        odd += [{"line": "stop cpu-vm", "version": 1, key: True} for key in ("trusted", "running", "force", "yes")]
        odd += [{"line": "detach", "version": 1, "complete": "start "}, {"complete": "start ", "version": 1}]
        odd += [{"complete": c, "version": 1} for c in ("stop c", "resize gpu-vm ", 5, None, "x" * 9_000)]
        odd += [
            {"line": f"stop cpu-vm {kernel_id}", "version": 1},
            {"line": "stop cpu-vm", "version": 1, "kernel": kernel_id},
        ]
        odd += [{"questions": kernel_id, "answer": "yes", "version": 1}, {"line": "x" * 9_000, "version": 1}]
        answers = ast.literal_eval(notebook.run(f"print([told(o) for o in {odd!r}])", timeout=120).text)
        assert set(answers) <= {"NotAllowed", "BadRequest", "result"}
        results = [o for o, answer in zip(odd, answers, strict=True) if answer == "result"]
        assert all("complete" in o for o in results), results
        # Written as expressions: what is long is made there.
        raw = [
            "b'nonsense\\n'",
            "b'[]\\n'",
            "b'5\\n'",
            "b'[' * 30_000 + b'\\n'",
            "b'\\xff\\xfe\\n'",
            "b'x' * 200_000 + b'\\n'",
        ]
        answers = ast.literal_eval(notebook.run(f"print([told(r) for r in [{', '.join(raw)}]])", timeout=120).text)
        assert set(answers) == {"hung up"}
        notebook.run("s = socket.socket(socket.AF_UNIX); s.connect(os.environ['JUPYTER_DSVM_SOCKET'])")
        notebook.run("""s.sendall(b'{"line": "stop cpu-vm", "version": 1')""")
        notebook.run("s.close()")

        assert "start" not in str(notebook.run("print(ask({'complete': '', 'version': 1}))").text)
        assert where(notebook) == "cpu-vm"
        assert other.run("print(kept)").text == "2\n"
        assert where(other) == HERE
        assert writes(configured, before) == []
        assert service().open_questions()[0] == []
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
    until(lambda: not ours(configured, "cpu-vm"))


@pytest.mark.parametrize("jedi", [True, False])
def test_tab_on_a_vm(configured: Emulator, jedi: bool):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        before = len(configured.traffic)
        notebook.run(f"%config IPCompleter.use_jedi = {jedi}")

        def matches(code: str) -> list[str]:
            asked = notebook.ask("complete_request", {"code": code, "cursor_pos": len(code)})
            notebook.until(lambda: notebook.of(asked).replies, PATIENCE)
            found: list[str] = notebook.of(asked).content["matches"]
            return found

        matches("%dsvm ")  # the first loads what completion needs
        until(lambda: matches("%dsvm attach gp") == ["gpu-vm"])
        until(lambda: "attach" in matches("%dsvm "))
        assert "start" not in matches("%dsvm ")
        until(lambda: matches("%dsvm attach cpu-vm --kernel pyth") == ["python3"])
        assert matches("%dsvm stop ") == []
        assert writes(configured, before) == []
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"


def test_code_on_a_vm_may_not_spend_or_stop(configured: Emulator):
    """The configuration allows code to start everything: that is for kernels here."""
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        before = len(configured.traffic)
        notebook.run("kept = 1")
        for line, expected in REFUSED.items():
            said, _ = refused(notebook, line)
            assert said.startswith(expected), said
            assert "Compute panel" in said
            assert "jupyter dsvm" in said
        for line in AGREED:
            said, _ = refused(notebook, line)
            assert said.startswith("A kernel on a VM may not use --"), line
            assert "Compute panel" in said
        assert notebook.run("print(kept)").text == "1\n"
        assert where(notebook) == "cpu-vm"
        assert writes(configured, before) == []
        assert configured.vm("gpu-vm")["power_state"] == "deallocated"
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE


def test_from_one_vm_to_another_and_back(configured: Emulator):
    configured.power("gpu-vm", "start")
    with Notebook() as notebook, Notebook() as other:
        other.run("%dsvm status")
        attached(notebook, "cpu-vm")
        before = len(configured.traffic)
        listed = notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
        assert "* " in next(line for line in listed.splitlines() if "cpu-vm" in line)
        assert "NOTEBOOKS" not in listed  # nor whose they are
        attached(notebook, "gpu-vm")
        assert "runs on gpu-vm" in notebook.run("%dsvm status").text
        assert notebook.run("%dsvm detach", timeout=PATIENCE).status == "ok"
        assert where(notebook) == HERE
        assert writes(configured, before) == []
        listed = notebook.run("%dsvm list").outputs("display_data")[0]["content"]["data"]["text/plain"]
        assert "this notebook" in listed.splitlines()[1]
        assert f"notebook {other.proxy.kernel_id[:8]}" in listed.splitlines()[1]
        assert other.proxy.kernel_id not in listed
    until(lambda: not ours(configured, "cpu-vm") and not ours(configured, "gpu-vm"))


def test_code_on_a_vm_may_ask_only_while_a_cell_of_the_user_runs(configured: Emulator):
    with Notebook() as notebook:
        attached(notebook, "cpu-vm")
        notebook.run(LATER)
        until(lambda: notebook.proxy.status.execution_state == "idle")
        with pytest.raises(AssertionError, match="did not come about"):
            until(lambda: notebook.proxy.moving, 2)  # it does not even begin
        answers = notebook.run("thread.join(); print('\\n'.join(answers))").text
        assert answers.count("only while a cell of yours runs there") == 3
        assert answers.count("may not stop machines") == 1
        assert where(notebook) == "cpu-vm"
