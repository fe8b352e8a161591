"""A process that holds kernels as a Jupyter server does, without the server: this side of it. The other is ``holding``."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .contenders import Contender
from .machines import ROOT, processes_with

PATIENCE = 120.0
"""Seconds that a kernel may take to start or end."""


@dataclass(frozen=True)
class Launched:
    seconds: float
    """From asking for the kernel to the reply to the first cell."""
    connection: dict[str, Any]
    """Its connection file."""
    number: int


class Holder:
    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        contender.prepare()
        self._log = (contender.folder / "holder.log").open("ab")
        self._process = subprocess.Popen(
            [contender.python, "-m", "benchmarks.holding", "ours" if contender.extension else "plain"],
            cwd=ROOT,
            env=contender.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def launch(self) -> Launched:
        answer = self._ask(do="launch", kernel=self.contender.kernel)
        return Launched(answer["seconds"], answer["connection"], answer["number"])

    def end(self, launched: Launched) -> None:
        self._ask(do="end", number=launched.number)

    def busy(self, share: float) -> None:
        """Keep its event loop busy for that share of the time, with Python's own work."""
        self._ask(do="busy", share=share)

    def server_side(self) -> list[int]:
        """The processes that carry this contender's traffic on this side: the holder, and ssh where there is one."""
        marked = processes_with(self.contender.mark)
        return [self.pid, *(pid for pid, line in marked.items() if line.startswith("ssh") and pid != self.pid)]

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = (self.contender.folder / "holder.log").read_text(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"the holder of {self.contender.name} has ended: {said}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
        self.contender.hang_up()
