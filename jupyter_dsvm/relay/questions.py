"""What the server asks the attach pipe about the machine, and has it keep there: one answer for each question.

Small files of the account's own are read and written at once. What may take longer runs in a process of its own (``inquiry``),
so that frames go on meanwhile.

    info         the account, its Python                          kernels      those that have a relay here
    kernelspecs  what can be started                              metrics      what is in use
    activity     what keeps the machine on                        temporary    files that are lost when it is deallocated
    keep, claim  leases (``leases``)                              strikes      when Azure stops it (``strikes``)
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import zmq

from .daemon import SOCKET
from .folders import kernels_folder
from .inquiry import Inquiry
from .leases import Lease, LeaseError, Leases
from .listening import connect
from .loop import Loop
from .record import read_record
from .spare import spare_of
from .strikes import StrikeError, Strikes
from .wire import VERSION

STALE = 60.0
"""Seconds after which a folder without a relay is taken to be left behind."""

LISTING_SECONDS = 60.0
METRICS_SECONDS = 6.0
ACTIVITY_SECONDS = 12.0
TEMPORARY_SECONDS = 10.0
"""Seconds that a process which looks for something here may take."""

MEASURED_LATELY = 60.0
"""Seconds for which an earlier reading of the CPU's times tells of the load now."""

Answer = Callable[[int, Dict[str, Any]], None]


class Questions:
    def __init__(self, loop: Loop, answer: Answer) -> None:
        """``answer(call_id, {"result"|"error": …})`` comes once for each ``ask``."""
        self._answer = answer
        self._kernelspecs = Inquiry(loop, "kernelspecs", answer, LISTING_SECONDS)
        self._metrics = Inquiry(loop, "metrics", self._answer_metrics, METRICS_SECONDS)
        self._activity = Inquiry(loop, "activity", self._answer_activity, ACTIVITY_SECONDS)
        self._temporary = Inquiry(loop, "temporary", answer, TEMPORARY_SECONDS)
        self._inquiries = (self._kernelspecs, self._metrics, self._activity, self._temporary)
        self._counters: Optional[List[Any]] = None
        self._cpu_times: List[int] = []
        self._measured = 0.0
        self._operations: Dict[str, Callable[[int], None]] = {
            "info": self._info,
            "kernels": self._kernels,
            "kernelspecs": self._kernelspecs.ask,
            "metrics": self._ask_metrics,
            "activity": self._ask_activity,
            "temporary": self._temporary.ask,
        }
        self._with_request: Dict[str, Callable[[int, Dict[str, Any]], None]] = {
            "keep": self._keep,
            "claim": self._claim,
            "strikes": self._strikes,
        }

    def ask(self, call_id: int, request: Dict[str, Any]) -> None:
        operation = str(request.get("op"))
        if operation in self._with_request:
            self._with_request[operation](call_id, request)
        elif operation in self._operations:
            self._operations[operation](call_id)
        else:
            self._answer(call_id, {"error": {"code": "UnknownOperation", "message": f"{request.get('op')!r:.100}"}})

    def look(self) -> float:
        """End what takes too long; the seconds after which to call again."""
        return min(inquiry.look() for inquiry in self._inquiries)

    def close(self) -> None:
        for inquiry in self._inquiries:
            inquiry.close()

    def _info(self, call_id: int) -> None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        about = {
            "hostname": socket.gethostname(),
            "python": sys.executable,
            "python_version": platform.python_version(),
            "pyzmq": zmq.__version__,
            "relay": VERSION,
            "user": user,
            "home": os.path.expanduser("~"),
        }
        self._answer(call_id, {"result": about})

    def _kernels(self, call_id: int) -> None:
        """Which kernels have a relay here. What a relay left behind that is no more is removed."""
        alive = []
        parent = kernels_folder()
        try:
            names = sorted(os.listdir(parent))
        except OSError:
            names = []
        for name in names:
            folder = os.path.join(parent, name)
            try:
                connection = connect(os.path.join(folder, SOCKET))
            except OSError:
                continue  # stopped, perhaps; not known to be dead
            if connection is None:
                _remove_stale(folder)
                continue
            connection.close()
            record = read_record(folder)
            alive.append({"id": record.get("kernel_id", ""), "folder": name, **record, "spare": spare_of(folder)})
        self._answer(call_id, {"result": alive})

    def _ask_metrics(self, call_id: int) -> None:
        busy = self._cpu_times if time.monotonic() < self._measured + MEASURED_LATELY else []
        self._metrics.ask(call_id, [str(ticks) for ticks in busy])

    def _answer_metrics(self, call_id: int, value: Dict[str, Any]) -> None:
        """The load is that between two questions, so the pipe keeps what the first was told."""
        result = value.get("result")
        times = result.pop("cpu_times", None) if isinstance(result, dict) else None
        if times is not None:
            self._cpu_times, self._measured = times, time.monotonic()
        self._answer(call_id, value)

    def _ask_activity(self, call_id: int) -> None:
        self._activity.ask(call_id, [] if self._counters is None else [json.dumps(self._counters)])

    def _answer_activity(self, call_id: int, value: Dict[str, Any]) -> None:
        """What is busy is counted between two questions, so the pipe keeps what the first was told."""
        result = value.get("result")
        counters = result.pop("counters", None) if isinstance(result, dict) else None
        if counters is not None:
            self._counters = counters
        self._answer(call_id, value)

    def _keep(self, call_id: int, request: Dict[str, Any]) -> None:
        self._leased(
            call_id, lambda: Leases().keep(request.get("holder"), request.get("seconds"), request.get("why") or "")
        )

    def _claim(self, call_id: int, request: Dict[str, Any]) -> None:
        self._leased(call_id, lambda: Leases().claim(request.get("holder"), request.get("seconds")))

    def _leased(self, call_id: int, change: Callable[[], List[Lease]]) -> None:
        """Small files of this machine's own: at once, like the list of kernels."""
        try:
            self._answer(call_id, {"result": [lease.as_json() for lease in change()]})
        except (LeaseError, OSError) as e:
            self._answer(call_id, {"error": {"code": "LeaseFailed", "message": str(e)}})

    def _strikes(self, call_id: int, request: Dict[str, Any]) -> None:
        try:
            strike = Strikes().set(request.get("in"), request.get("text"))
            self._answer(call_id, {"result": None if strike is None else strike.as_json()})
        except (StrikeError, OSError) as e:
            self._answer(call_id, {"error": {"code": "StrikesFailed", "message": str(e)}})


def _remove_stale(folder: str) -> None:
    """Unless it is so new that another pipe may just be starting a relay in it."""
    try:
        if time.time() - os.stat(folder).st_mtime > STALE:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
