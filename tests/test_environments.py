"""What kernels' Pythons on VMs have, and pip there: real SSH servers, real Pythons, real pip, wheels that the tests make."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_dsvm import environments
from jupyter_dsvm.emulator import Emulator
from jupyter_dsvm.errors import (
    BadRequest,
    ComputeNotRunning,
    KernelStartError,
    LanguageMismatch,
    OperationRefused,
    SSHError,
)
from jupyter_dsvm.kernels.registry import registry
from jupyter_dsvm.models import Operation, OperationState
from jupyter_dsvm.operations import Running
from jupyter_dsvm.relay.kernelspecs import read_kernelspec
from support.emulated import PATIENCE, configured, emulator, ours, service
from support.kernels import until

__all__ = ["configured", "emulator"]


def wheel(folder: Path, name: str, version: str = "1.0", code: str = "there = True\n") -> Path:
    """A package with one module, as a file that pip takes."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text)}")
    made = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as z:
        for path, text in files.items():
            z.writestr(path, text)
        z.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return made


@pytest.fixture
def home(configured: Emulator) -> Iterator[Path]:
    """The home folder of cpu-vm's account, whose pip knows this folder's wheels and nothing else."""
    folder = Path(configured.vm("cpu-vm")["home"])
    seen = run_there("mkdir -p .local/share/jupyter/kernels .config/pip wheels && echo $HOME")  # as the account's own
    settings = folder / ".config" / "pip" / "pip.conf"
    settings.write_text(f"[global]\nno-index = true\nfind-links = {seen}/wheels\nno-build-isolation = true\n")
    yield folder
    settings.unlink()
    service().close()
    registry.service = None


def run_there(command: str) -> str:
    connections = service().connections
    compute = service().known.find("cpu-vm")
    connection = connections.signed_in(compute.id)
    try:
        return connection.run(command)[1].decode().strip()
    finally:
        connection.close()


def home_there() -> str:
    return run_there("echo $HOME")


def installed(running: Operation) -> Operation:
    return service().operations_store.get(running.id).finished.result(PATIENCE)


def states(*sources: str, kernelspec: str | None = None, path: str | None = None) -> dict[str, str]:
    return {m.name: m.state for m in service().modules("cpu-vm", kernelspec, list(sources), path)}


def test_what_is_there(configured: Emulator, home: Path, tmp_path: Path):
    sources = [
        "import json, os, sys\nimport ipykernel",
        "import sklearn, nothing_of_that_name\nimport helpers",
        "def (",
    ]
    assert states(*sources) == {
        "ipykernel": "present",
        "sklearn": "present",
        "nothing_of_that_name": "missing",
        "helpers": "missing",
    }
    assert states() == {}
    # Beside the notebook, here and there.
    service().root_dir = tmp_path
    try:
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "helpers.py").touch()
        assert states("import helpers", path="work/a.ipynb") == {"helpers": "local"}
        (home / "helpers.py").write_text("raise SystemExit('it was imported')")
        # A file of the home folder takes no place of the standard library's, and is not run.
        (home / "json.py").write_text("raise SystemExit('it was imported')")
        assert states("import helpers, json", path="work/a.ipynb") == {"helpers": "present"}
    finally:
        service().root_dir = None
        for name in ("helpers.py", "json.py"):
            (home / name).unlink(missing_ok=True)
    (missing,) = service().modules("cpu-vm", None, ["import cv2"], None)
    assert missing.to_json() == {"name": "cv2", "package": "opencv-python-headless", "state": "missing"}
    # What the kernelspec puts on the path counts, too.
    (home / "lib").mkdir(exist_ok=True)
    (home / "lib" / "on_the_path.py").touch()
    kernelspec = make_kernelspec(home, "with-path", python_there(), env={"PYTHONPATH": f"{home_there()}/lib"})
    assert states("import on_the_path") == {"on_the_path": "missing"}
    assert states("import on_the_path", kernelspec=kernelspec) == {"on_the_path": "present"}


def python_there() -> str:
    """The program of cpu-vm's Python kernel, as it is called there."""
    pipe = service().connections.open(service().known.find("cpu-vm"), environments.Cancel())
    return str(next(s for s in pipe.kernelspecs() if s["name"] == "python3")["argv"][0])


def make_kernelspec(
    home: Path, name: str, *argv: str, language: str = "python", env: dict[str, str] | None = None
) -> str:
    folder = home / ".local" / "share" / "jupyter" / "kernels" / name
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "argv": [*argv, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": name,
        "language": language,
    }
    (folder / "kernel.json").write_text(json.dumps({**spec, "env": env or {}}))
    assert read_kernelspec(name, str(folder)) is not None or argv[0].startswith("/")
    pipe = service().connections.open(service().known.find("cpu-vm"), environments.Cancel())
    pipe.kernelspecs()  # it looks again
    return name


def test_where_nothing_can_be_known(configured: Emulator, home: Path):
    with pytest.raises(ComputeNotRunning, match="gpu-vm is deallocated"):
        service().modules("gpu-vm", None, ["import a"], None)
    with pytest.raises(BadRequest, match="free tier"):
        service().modules("free", None, ["import a"], None)
    with pytest.raises(BadRequest, match="more code"):
        service().modules("cpu-vm", None, ["x" * (2 << 20)], None)
    with pytest.raises(KernelStartError, match="no kernel named 'none'"):
        service().modules("cpu-vm", "none", ["import a"], None)
    julia = make_kernelspec(home, "julia", "/bin/sh", language="julia")
    with pytest.raises(LanguageMismatch):
        service().modules("cpu-vm", julia, ["import a"], None)
    odd = make_kernelspec(home, "odd", "/bin/sh")
    assert states("import a", kernelspec=odd) == {"a": "unknown"}
    ended = installed(service().install("cpu-vm", odd, ["a"]))
    assert (ended.state, ended.error and ended.error.code) == (OperationState.FAILED, "UnknownPython")
    for name in ("julia", "odd"):
        (home / ".local/share/jupyter/kernels" / name / "kernel.json").unlink()


@pytest.mark.parametrize(
    "program",
    [
        "exit 3",
        "echo nonsense",
        r"printf '\0jupyter-dsvm-modules:[1,2]\n'",
        r"""printf '\0jupyter-dsvm-modules:{"a": "yes", "b": true, "other": true}\n'""",
        "exec yes",
        "exec sleep 6",
        "kill -9 $$",
    ],
)
def test_a_python_that_answers_nonsense(
    configured: Emulator, home: Path, program: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(environments, "CHECK_SECONDS", 2.0)
    fake = home / "python"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    kernelspec = make_kernelspec(home, "hostile", f"{home_there()}/python")
    compute = service().known.find("cpu-vm")
    found = service().environments.modules(compute.id, kernelspec, ["a"], None, timeout=2.0)
    assert [m.state for m in found] == ["unknown"]
    # The connection serves on.
    assert states("import ipykernel") == {"ipykernel": "present"}


def test_install(configured: Emulator, home: Path):
    wheel(home / "wheels", "tiny-thing")
    wheel(home / "wheels", "second")
    assert states("import tiny_thing, second") == {"tiny_thing": "missing", "second": "missing"}
    said: list[str] = []
    store = service().operations_store
    store.listen(lambda op: said.extend(s.text for s in op.steps))
    begun = service().install("cpu-vm", None, ["tiny-thing", "second==1.0"])
    assert (begun.kind, begun.state, [s.name for s in begun.steps]) == ("install", OperationState.RUNNING, ["install"])
    ended = installed(begun)
    assert ended.state is OperationState.DONE, ended.error
    assert ended.notice.startswith("tiny-thing, second==1.0 are installed for ")
    assert any(not text.startswith("Install ") for text in said), said
    assert states("import tiny_thing, second") == {"tiny_thing": "present", "second": "present"}
    until(lambda: not any("pip" in line for line in ours(configured, "cpu-vm")))


def test_pip_says_why_it_could_not(configured: Emulator, home: Path):
    ended = installed(service().install("cpu-vm", None, ["no-such-package"]))
    assert ended.state is OperationState.FAILED
    assert ended.error is not None
    assert "No matching distribution found for no-such-package" in ended.error.message
    assert ended.error.code == "InstallFailed"
    for packages, problem in ((["--pre"], BadRequest), (["./x"], BadRequest), ([], BadRequest)):
        with pytest.raises(problem):
            service().install("cpu-vm", None, packages)
    with pytest.raises(ComputeNotRunning):
        service().install("gpu-vm", None, ["a"])


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        ("error: externally-managed-environment", "ExternallyManaged", "belongs to the machine's operating system"),
        ("/usr/bin/python3: No module named pip", "NoPip", "has no pip"),
        ("ERROR: one\nERROR: two\nERROR: three\nHint: x", "InstallFailed", "It said: two. three."),
        ("what it is\nlast line \x1b[31m", "InstallFailed", "It said: last line \ufffd[31m"),
        ("", "InstallFailed", "it printed nothing"),
    ],
)
def test_what_an_environment_refuses(
    configured: Emulator, home: Path, said: str, code: str, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    (home / "said").write_text(said)
    fake = home / "python"
    fake.write_text('#!/bin/sh\ncat "$HOME/said"\nexit 1\n')
    fake.chmod(0o755)
    kernelspec = make_kernelspec(home, "hostile", f"{home_there()}/python")
    ended = installed(service().install("cpu-vm", kernelspec, ["a"]))
    assert ended.error is not None
    assert ended.error.code == code
    assert sentence in ended.error.message
    assert ended.error.advice


def slow_pip(home: Path) -> Path:
    """pip of a kernelspec's Python that begins a process and then takes its time; the file that it makes first."""
    lib = home / "slow"
    (lib / "pip").mkdir(parents=True, exist_ok=True)
    flag = home / "begun"
    flag.unlink(missing_ok=True)
    (lib / "pip" / "__init__.py").touch()
    (lib / "pip" / "__main__.py").write_text(
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '300'])\n"
        "print('Collecting patience', flush=True)\n"
        "open(os.path.expanduser('~/begun'), 'w').close()\n"
        "time.sleep(300)\n"
    )
    make_kernelspec(home, "slow", python_there(), env={"PYTHONPATH": f"{home_there()}/slow"})
    return flag


def end_of(running: Running) -> Operation:
    return running.finished.result(PATIENCE)


@pytest.mark.parametrize("by", ["cancel", "lost connection", "deadline", "the server's end"])
def test_nothing_is_left_running(
    configured: Emulator, home: Path, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    flag = slow_pip(home)
    if by == "deadline":
        monkeypatch.setattr(environments, "INSTALL_SECONDS", 3.0)
    begun = service().install("cpu-vm", "slow", ["a"])
    running = service().operations_store.get(begun.id)
    until(flag.exists, PATIENCE)
    until(lambda: running.value.steps[0].text == "Collecting patience")
    if by == "cancel":
        service().cancel(begun.id)
        assert end_of(running).state is OperationState.CANCELLED
    elif by == "lost connection":
        service().connections._slots[begun.compute or ""].pipe._connection._ssh.close()
        ended = end_of(running)
        assert ended.state is OperationState.FAILED
        assert ended.error is not None
        assert "was lost" in ended.error.message
    elif by == "deadline":
        ended = end_of(running)
        assert ended.error is not None
        assert "did not end within" in ended.error.message
    else:
        service().close()
        assert end_of(running).state is OperationState.CANCELLED
    until(lambda: not any("sleep" in line or "pip" in line for line in ours(configured, "cpu-vm")), 15)


def test_a_flood_of_words_is_cut_short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environments, "INSTALL_OUTPUT", 1000)
    said: list[str] = []
    lines = environments._Lines(said.append)
    lines.feed(b"one\rtwo\r\n" + b"x" * 900)
    lines.show(10.0)
    lines.feed(b"\r\n\n")
    lines.show(10.1)
    assert said == ["two"]
    lines.show(11.0)
    lines.show(12.0)
    assert said[1:] == ["x" * 159 + "…"]
    with pytest.raises(SSHError, match="printed more"):
        lines.feed(b"y" * 100)


def test_windows_has_no_kernels(home: Path):
    with pytest.raises(OperationRefused, match="Windows"):
        service().modules("win-vm", None, ["import a"], None)
