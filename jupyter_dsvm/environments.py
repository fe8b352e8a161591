"""What a kernel's Python on a VM has, and installing into it.

Both are one command over the connection that the VM's kernels share, run by the Python of the kernelspec, as the account that the
kernels run as. No shell sees a name: the program's text, the modules and the packages travel on stdin. What comes back is not
trusted: it is bounded, and what makes no sense is *unknown*.

The service begins it for the dialog and the magic; everything here blocks and is called on worker threads.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compute.provider import Cancel
from .computes import Computes
from .connections import Connections
from .errors import BadRequest, Cancelled, ComputeNotRunning, DSVMError, OperationRefused, SSHError, printable
from .models import FREE, OS, Compute, ComputeKind, Module, PowerState
from .modules import checked_packages, is_local, package_of
from .operations import OperationStore, Running

if TYPE_CHECKING:
    from .kernels.kernelspecs import RemoteSpec
    from .kernels.vmpipe import VMPipe

CHECK_SECONDS = 15.0
"""For a Python to start there and look. A disk that has slept takes longest."""
CHECK_OUTPUT = 256 * 1024
MARK = "\0jupyter-dsvm-modules:"
"""In front of the answer: no login shell prints a NUL."""

INSTALL_SECONDS = 3600.0
INSTALL_OUTPUT = 16 * 1024 * 1024
KEPT_LINES = 60
"""Of what pip says: its errors are at the end."""
END_SECONDS = 10.0
"""How long a pip that is cancelled may take to end."""
SAY_SECONDS = 0.2
"""Between two of its lines that are shown."""

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*")
_RUN = "import sys; exec(eval(sys.stdin.readline()))"
"""The first line of stdin is the program, as a literal."""


@dataclass(frozen=True)
class KernelPython:
    """The Python that a kernelspec starts, as far as its command says so."""

    spec: RemoteSpec
    command: tuple[str, ...]
    """Empty where it does not."""

    @property
    def line(self) -> str:
        return " ".join([*map(shlex.quote, self.command), "-c", shlex.quote(_RUN)])


class Environments:
    def __init__(self, operations: OperationStore, computes: Computes, connections: Connections) -> None:
        self._operations = operations
        self._computes = computes
        self._connections = connections

    # What is there

    def modules(
        self,
        compute: str,
        kernelspec: str | None,
        names: Sequence[str],
        folder: Path | None,
        local_name: str | None = None,
        timeout: float = CHECK_SECONDS,
    ) -> list[Module]:
        """How each of these modules is found by a kernel there; ``folder`` is the notebook's here, ``local_name`` its kernelspec.

        Nothing of the standard library is listed, unless that version of Python does not have it. Raises where the machine does not
        run or cannot be reached; what it then does not answer is ``unknown``.
        """
        row = self._running(compute)
        if not names:
            return []
        pipe = self._connections.open(row, Cancel())
        python = self._python(pipe, row, kernelspec, local_name)
        answer = self._ask(pipe, python, "find_modules.py", list(names), timeout) if python.command else {}
        found = {n: answer[n] for n in names if isinstance(answer.get(n), bool)}
        listed = []
        for name in names:
            there = found.get(name)
            if name in sys.stdlib_module_names and there is not False:
                continue
            state = "unknown" if there is None else "present" if there else "missing"
            if state == "missing" and is_local(name, folder):
                state = "local"
            listed.append(Module(name, package_of(name) if state == "missing" else "", state))
        return listed

    def gpu_libraries(
        self, compute: str, kernelspec: str | None, names: Sequence[str], local_name: str | None, timeout: float
    ) -> dict[str, Any]:
        """What ``kernels/find_gpu.py`` says there of the driver and of how these libraries were built; empty where it says nothing.
        Blocks for ``timeout`` seconds at most, once connected; raises as ``modules`` does. Its values may be anything."""
        row = self._running(compute)
        pipe = self._connections.open(row, Cancel())
        python = self._python(pipe, row, kernelspec, local_name)
        return self._ask(pipe, python, "find_gpu.py", list(names), timeout) if python.command else {}

    @staticmethod
    def _ask(pipe: VMPipe, python: KernelPython, program: str, names: list[str], timeout: float) -> dict[str, Any]:
        """Have a kernel's Python run a program of ours; the object that it prints, empty where it prints none."""
        try:
            _, out, _ = pipe.ssh().run(
                python.line,
                _program(program, names, dict(python.spec.env), MARK),
                timeout=timeout,
                limit=CHECK_OUTPUT,
            )
        except SSHError:
            return {}
        said = out.decode("utf-8", "replace").rpartition(MARK)[2]
        try:
            answer = json.loads(said.partition("\n")[0])
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    # Installing

    def begin_install(self, compute: str, packages: Sequence[str]) -> Running:
        """The operation; ``run_install`` does it. Raises ``BadRequest`` for what is no package, ``ComputeNotRunning``."""
        wanted = checked_packages(packages)
        row = self._running(compute)
        return self._operations.begin(
            "install", compute=row.id, steps=[("install", f"Install {', '.join(wanted)} on {row.name}")]
        )

    def run_install(self, running: Running, kernelspec: str | None, packages: Sequence[str]) -> None:
        """Have pip do it and wait for its end. A failure ends the operation and is raised as well."""
        running.step("install")
        try:
            running.done(self._install(running, kernelspec, list(packages)))
        except Cancelled as e:
            running.cancelled(e)
            raise
        except BaseException as e:
            running.failed(e)
            raise

    def _install(self, running: Running, kernelspec: str | None, packages: list[str]) -> str:
        row = self._running(running.value.compute or "")
        pipe = self._connections.open(row, running.cancel)
        python = self._python(pipe, row, kernelspec, None)
        if not python.command:
            raise OperationRefused(
                f"The kernel {python.spec.display_name} on {row.name} is started by {printable(python.spec.argv[0], 200)}, "
                "and which Python that is cannot be told from here.",
                advice=f"Run %pip install {' '.join(packages)} in a cell once the notebook runs there.",
                code="UnknownPython",
            )
        if not pipe.retain():  # a machine without kernels is hung up on after a while
            raise SSHError(f"The connection to {row.name} was closed.", advice="Try again.")
        try:
            status, lines = self._pip(running, pipe, python, packages)
            pipe.kernelspecs(known=True)  # it may have brought a kernel: have it asked, and the launcher hears of that
        finally:
            pipe.release()
        if status != 0:
            raise _failed(row, python.spec, packages, lines)
        are = "is" if len(packages) == 1 else "are"
        where = f"{', '.join(packages)} {are} installed for {python.spec.display_name} on {row.name}"
        if any("Defaulting to user installation" in line for line in lines):
            return f"{where}, in the account's own folder, since the environment is not writable."
        return f"{where}."

    def _pip(self, running: Running, pipe: VMPipe, python: KernelPython, packages: list[str]) -> tuple[int, list[str]]:
        """Its exit status and its last lines. When this is left, it has ended or was told to: it goes with the channel."""
        connection = pipe.ssh()
        channel = connection.exec(python.line)
        deadline = time.monotonic() + INSTALL_SECONDS
        lines = _Lines(lambda text: running.report(text))
        cancelled: DSVMError | None = None
        try:
            channel.settimeout(0.2)
            channel.set_combine_stderr(True)
            connection.feed(channel, _program("pip_install.py", packages, dict(python.spec.env)))
            while True:
                now = time.monotonic()
                if cancelled is None and (running.cancel.is_set() or now > deadline):
                    cancelled = (
                        Cancelled(f"Installing was cancelled. {running.cancel_reason}")
                        if running.cancel.is_set()
                        else SSHError(f"pip on {pipe.name} did not end within {INSTALL_SECONDS / 60:.0f} minutes.")
                    )
                    channel.shutdown_write()
                    deadline = now + END_SECONDS
                elif cancelled is not None and now > deadline:
                    raise cancelled
                lines.show(now)
                try:
                    data = channel.recv(64 * 1024)
                except TimeoutError:
                    continue
                if not data:
                    break
                lines.feed(data)
            if cancelled is not None:
                raise cancelled
            status = channel.recv_exit_status()
            if status < 0 and not connection.alive:
                raise SSHError(
                    f"The connection to {pipe.name} was lost while pip ran; it is ended there.",
                    advice="Install once more.",
                )
            return status, lines.finish()
        except OSError as e:
            raise SSHError(
                f"The connection to {pipe.name} was lost while pip ran: {e}.", advice="Install once more."
            ) from e
        finally:
            channel.close()

    # Both

    def _running(self, compute: str) -> Compute:
        row = self._computes.find(compute)
        if row.id == FREE:
            raise BadRequest(
                "The free tier is this Jupyter server, and the notebook's kernel there is its own.",
                advice="Use %pip in a cell.",
            )
        if row.os is OS.WINDOWS:
            raise OperationRefused(
                f"{row.name} runs Windows, and notebooks cannot run there yet.", code="WindowsNotSupported"
            )
        if row.kind is ComputeKind.DSVM and row.power_state is not PowerState.RUNNING:
            raise ComputeNotRunning(
                f"{row.name} is {row.power_state.value}, so what is installed there cannot be seen.",
                advice="Start it first.",
            )
        return row

    @staticmethod
    def _python(pipe: VMPipe, row: Compute, kernelspec: str | None, local_name: str | None) -> KernelPython:
        """Raises ``KernelStartError`` where there is no such kernel, ``LanguageMismatch`` where it is none of Python's."""
        from .kernels.kernelspecs import choose, parse_specs  # late, as all that only an attach needs

        specs = parse_specs(pipe.kernelspecs(known=True))
        spec = choose(specs, machine=row.name, language="python", local_name=local_name, wanted=kernelspec or None)
        at = next((i for i, word in enumerate(spec.argv) if _PYTHON.fullmatch(word.rpartition("/")[2])), None)
        return KernelPython(spec, spec.argv[: at + 1] if at is not None else ())


def _program(name: str, *values: Any) -> bytes:
    """Stdin of a program of ours: its text, and what it is to work on, a line each."""
    text = resources.files("jupyter_dsvm.kernels").joinpath(name).read_text(encoding="utf-8")
    return "".join(f"{line}\n" for line in (repr(text), *map(json.dumps, values))).encode()


class _Lines:
    """What pip prints, as lines; the last ones are kept, and one now and then is shown."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""
        self._kept: list[str] = []
        self._size = 0
        self._unsaid = ""
        self._said = 0.0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > INSTALL_OUTPUT:
            raise SSHError(f"pip printed more than {INSTALL_OUTPUT >> 20} MiB.", code="TooMuchOutput")
        *whole, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        self._rest = self._rest[-4096:]
        lines = [text for line in whole if (text := printable(line[:500], 500).replace("\n", " "))]
        self._kept = [*self._kept, *lines][-KEPT_LINES:]
        self._unsaid = lines[-1] if lines else self._unsaid

    def show(self, now: float) -> None:
        """Called often; the newest line is shown now and then."""
        if self._unsaid and now - self._said > SAY_SECONDS:
            self._said = now
            self._say(self._unsaid if len(self._unsaid) <= 160 else self._unsaid[:159] + "…")
            self._unsaid = ""

    def finish(self) -> list[str]:
        self.feed(b"\n")
        return self._kept


def _failed(row: Compute, spec: RemoteSpec, packages: Sequence[str], lines: Sequence[str]) -> OperationRefused:
    """pip's own sentence, and what to do."""
    text = "\n".join(lines)
    what = f"pip could not install {', '.join(packages)} for {spec.display_name} on {row.name}"
    if "externally-managed-environment" in text:
        return OperationRefused(
            f"{what}: that Python belongs to the machine's operating system, which lets pip change nothing in it "
            "(externally-managed-environment).",
            advice="Choose a kernel of another environment there, or make one (python3 -m venv, conda create) with ipykernel.",
            code="ExternallyManaged",
        )
    if "No module named pip" in text:
        return OperationRefused(
            f"{what}: that Python has no pip.",
            advice="`python -m ensurepip` in a terminal there adds it; in a conda environment, `conda install pip`.",
            code="NoPip",
        )
    errors = [re.sub(r"^ERROR:\s*", "", line) for line in lines if line.startswith("ERROR:")]
    said = " ".join(f"{e.rstrip('.')}." for e in errors[-2:]) or next(reversed(lines), "it printed nothing")
    return OperationRefused(
        f"{what}. It said: {said}", advice="%pip in a cell there shows all that pip says.", code="InstallFailed"
    )
