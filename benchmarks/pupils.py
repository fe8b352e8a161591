"""Users of a hub who have no Jupyter server of their own here: ``python -m benchmarks.pupils``, for ``hub_crowd``.

A process plays some of them, each with the parts of the extension that a user's server has for it: the provider that asks the
broker with that user's token of the hub, the pipes to machines, and a kernel's link. Their kernels are small ones (``KERNEL``),
which relays on the machines own as they do others.

The first line of standard input is ``{"address": …, "people": {name: token}}``. Each further one is ``{"do": METHOD, …}``: all do
it at the same time, and the answer is one line, a list with what each of them says.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jupyter_dsvm.compute.broker import BrokerCompute
from jupyter_dsvm.compute.provider import Cancel
from jupyter_dsvm.computes import Computes
from jupyter_dsvm.connections import Connections
from jupyter_dsvm.errors import DSVMError
from jupyter_dsvm.kernels.kernelspecs import choose, parse_specs
from jupyter_dsvm.models import Compute
from tests.support.linked import Kernel

KERNEL = """
import hashlib, hmac, json, sys, time, zmq
given = json.load(open(sys.argv[1]))
context, sockets = zmq.Context(), {}
for name in ("shell", "control", "stdin", "hb", "iopub"):
    sockets[name] = context.socket(zmq.PUB if name == "iopub" else zmq.ROUTER)
    mark = "-" if given["transport"] == "ipc" else ":"
    sockets[name].bind(f"{given['transport']}://{given['ip']}{mark}{given[name + '_port']}")
number = 0

def say(where, before, kind, parent, content):
    global number
    number += 1
    header = {**json.loads(parent), "msg_type": kind, "msg_id": str(number)}
    parts = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    mac = hmac.new(given["key"].encode(), digestmod=hashlib.sha256)
    for part in parts:
        mac.update(part)
    sockets[where].send_multipart([*before, b"<IDS|MSG>", mac.hexdigest().encode(), *parts])

while True:
    parts = sockets["shell"].recv_multipart()
    at = parts.index(b"<IDS|MSG>")
    say("iopub", [b"status"], "status", parts[at + 2], {"execution_state": "busy"})
    say("shell", parts[:at], "kernel_info_reply", parts[at + 2], {"status": "ok"})
    say("iopub", [b"status"], "status", parts[at + 2], {"execution_state": "idle"})
"""
"""Answers whatever is asked with busy, a reply and idle."""

PLACE = re.compile(r"place (\d+)")


def _untold(text: str, fraction: float | None = None) -> None:
    """How an attach goes on, for nobody."""


class Pupil:
    def __init__(self, name: str, token: str, address: str) -> None:
        self.name = name
        self.provider = BrokerCompute(address=address)
        self.provider.token = token
        self._used: set[str] = set()
        self._computes = Computes(lambda: [self.provider], lambda compute_id: None)
        self._connections = Connections(self._computes, lambda: self._used, lambda: 3600.0)
        self._kernel: Kernel | None = None

    def _find(self, machine: str) -> Compute:
        return next(row for row in self.provider.list().computes if row.name == machine)

    def start(self, machine: str) -> dict[str, Any]:
        """``{}`` in ``machine`` is this pupil's name."""
        places: list[int] = []

        def report(text: str, fraction: float | None = None) -> None:
            found = PLACE.search(text)
            if found and places[-1:] != [int(found[1])]:
                places.append(int(found[1]))

        compute = self._find(machine.format(self.name))
        begun = time.monotonic()
        row = self.provider.start(compute.id, report, Cancel())
        return {"seconds": time.monotonic() - begun, "places": places, "state": row.power_state.value}

    def attach(self, machines: list[str]) -> dict[str, Any]:
        """To the one of ``machines`` that this pupil has."""
        rows = {row.name: row for row in self.provider.list().computes}
        compute = next(rows[name] for name in machines if name in rows)
        begun = time.monotonic()
        self._computes.snapshot(refresh=True)
        self._used.add(compute.id)
        pipe = self._connections.open(compute, Cancel(), _untold)
        connected = time.monotonic() - begun
        specs = parse_specs(pipe.kernelspecs(known=True)) or parse_specs(pipe.kernelspecs())
        python = choose(specs, machine=compute.name, language="python", local_name="python3", wanted=None).argv[0]
        kernel = self._kernel = Kernel(pipe, argv=[python, "-c", KERNEL, "{connection_file}"])
        kernel.until(lambda: kernel.starts == 1, 300)
        kernel.ready()
        self.provider.present(compute.id, True)
        return {"seconds": time.monotonic() - begun, "connected": connected}

    def ask(self) -> dict[str, Any]:
        """The kernel, something."""
        assert self._kernel is not None
        begun = time.monotonic()
        self._kernel.next("kernel_info_reply", self._kernel.send(*_INFO), 60)
        return {"seconds": time.monotonic() - begun}

    def look(self, seconds: float, every: float) -> dict[str, Any]:
        """As a page that is open does: the list, and one machine's state."""
        end = time.monotonic() + seconds
        took = []
        time.sleep(random.random() * every)
        while time.monotonic() < end:
            begun = time.monotonic()
            rows = self.provider.list().computes
            took.append(time.monotonic() - begun)
            self.provider.get(random.choice(rows).id)
            time.sleep(every)
        return {"took": took}

    def end(self) -> dict[str, Any]:
        if self._kernel is not None:
            self._kernel.end()
        self._connections.close()
        self._computes.close()
        return {}


def _info() -> tuple[Any, str, dict[str, Any]]:
    from jupyter_dsvm.relay.wire import Channel

    return Channel.SHELL, "kernel_info_request", {}


_INFO = _info()


def _do(pupil: Pupil, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = getattr(pupil, method)(**arguments)
        return found
    except DSVMError as e:
        return {"error": f"{type(e).__name__} ({e.code}): {e.message}"}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="pupils-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ.update(JUPYTER_DATA_DIR=f"{folder}/data", HOME=folder)
        threading.excepthook = lambda args: print(args.thread, args.exc_value, file=sys.stderr)
        given = json.loads(sys.stdin.readline())
        pupils = [Pupil(name, token, given["address"]) for name, token in given["people"].items()]
        with ThreadPoolExecutor(len(pupils)) as pool:
            for line in sys.stdin:
                words = json.loads(line)
                method, first = words.pop("do"), words.pop("first", len(pupils))
                done = list(pool.map(partial(_do, method=method, arguments=words), pupils[:first]))
                print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
