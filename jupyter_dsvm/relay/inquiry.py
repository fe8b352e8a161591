"""Questions to the attach pipe that a process of its own answers, so that frames go on meanwhile: it may import, search and wait.

The process runs ``main`` of a module of this package, which prints one line of JSON. Who asks while it runs shares its answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from .loop import Loop

MAX_ANSWER = 4 * 1024 * 1024

REAP_SECONDS = 1.0
"""For a process that has closed its output to end."""

KILL_SECONDS = 0.1
"""For one that was killed; what hangs in the system's own calls ends when those do."""


class Inquiry:
    def __init__(self, loop: Loop, module: str, answer: Callable[[int, Dict[str, Any]], None], limit: float) -> None:
        """``answer(call_id, {"result"|"error": …})`` comes once for each ``ask``, within ``limit`` seconds or so."""
        self._loop = loop
        self._module = module
        self._answer = answer
        self._limit = limit
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._left: List[subprocess.Popen[bytes]] = []
        self._printed = bytearray()
        self._asked: List[int] = []
        self._until = 0.0

    def ask(self, call_id: int, arguments: Sequence[str] = ()) -> None:
        self._asked.append(call_id)
        if self._process is not None:
            return
        self._left = [process for process in self._left if process.poll() is None]
        package = __package__ or "relay"
        root = os.path.abspath(__file__)
        for _ in range(package.count(".") + 2):
            root = os.path.dirname(root)
        code = f"import sys; sys.path.insert(0, {root!r}); from {package}.{self._module} import main; main()"
        try:
            # A session of its own, so that what it starts can be ended with it.
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None,
                start_new_session=True,
            )
        except OSError as e:
            self._tell(self._error(str(e)))
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._loop.register(self._process.stdout.fileno(), self._read)
        self._until = time.monotonic() + self._limit

    def look(self) -> float:
        """End what takes too long; the seconds after which to call again."""
        if self._process is None:
            return 60.0
        left = self._until - time.monotonic()
        if left > 0:
            return left
        self._end(kill=True)
        self._tell(self._error(f"{self._module} took longer than {self._limit:g} s"))
        return 60.0

    def _read(self, _events: int) -> None:
        if self._process is None or self._process.stdout is None:
            return
        try:
            data = os.read(self._process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        self._printed += data
        if data and len(self._printed) <= MAX_ANSWER:
            return
        printed = bytes(self._printed)
        code = self._end()
        try:
            value = {"result": json.loads(printed)}
        except ValueError:
            value = self._error(f"{self._module} ended with exit code {code}")
        self._tell(value)

    def _error(self, message: str) -> Dict[str, Any]:
        return {"error": {"code": f"{self._module.capitalize()}Failed", "message": message}}

    def _tell(self, value: Dict[str, Any]) -> None:
        asked, self._asked = self._asked, []
        for call_id in asked:
            self._answer(call_id, value)

    def close(self) -> None:
        """Nobody waits for the answer any more."""
        self._asked.clear()
        self._end(kill=True)

    def _end(self, kill: bool = False) -> Optional[int]:
        process, self._process = self._process, None
        self._printed.clear()
        if process is None:
            return None
        assert process.stdout is not None
        self._loop.unregister(process.stdout.fileno())
        process.stdout.close()
        if not kill:
            try:
                return process.wait(timeout=REAP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass  # it has just ended
        try:
            return process.wait(timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._left.append(process)
            return None
