"""Variables to the machine: a NumPy array of 1 GB that nothing makes smaller, and a data frame of 1 GB, from kernel to kernel.

Beside ``scp`` of as many bytes, which has to sign in too. Ours has the kernels running, as a move has when it comes to variables;
the time is from asking the two to what both have answered, with the connection that it opens for so much. Both are real kernels,
the one "there" behind the machine's SSH server: what it is sent comes over SSH to the relay's process and from there to the kernel.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from jupyter_dsvm.carryends import LocalEnd, Pumps, RemoteEnd
from jupyter_dsvm.kernels.bootstrap import RememberedPythons
from jupyter_dsvm.kernels.variables_source import parse, request
from jupyter_dsvm.ssh.connection import SSHConnection
from jupyter_dsvm.ssh.hostkeys import HostKeys

from .bench import Bench
from .contenders import OURS
from .machines import Way
from .rows import Row, times

SCP = "scp"
COLUMNS = (SCP, OURS)
PATIENCE = 600.0

ROWS = tuple(
    Row(f"carry-{what}{far}", title, "s", times(SCP, 1.5, text="≤ 1.5 × scp"), columns=COLUMNS)
    for what, far, title in (
        ("array", "", "a NumPy array of 1 GB goes along"),
        ("array", "-far", "the same at 40 ms"),
        ("frame", "", "a data frame of 1 GB goes along"),
        ("frame", "-far", "the same at 40 ms"),
    )
)

MAKE = {
    "array": "import numpy as np\nvalue = np.random.default_rng(1).random({size} // 8)",
    # Numbers, times, categories and texts, as frames have them.
    "frame": """
import numpy as np, pandas as pd
rng = np.random.default_rng(1)
n = {size} // 64
value = pd.DataFrame({{f"x{{i}}": rng.random(n) for i in range(5)}})
value["n"] = rng.integers(0, 1 << 62, n)
value["at"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**9, n), unit="s")
value["kind"] = pd.Categorical.from_codes(rng.integers(0, 100, n), [f"kind {{i}}" for i in range(100)])
value["word"] = pd.array([f"{{i:07d}}" for i in range(1000)] * (n // 1000) + ["x"] * (n % 1000), dtype="string[pyarrow]")
""",
}


def measure(bench: Bench) -> None:
    with _kernel() as here:
        for what, make in MAKE.items():
            size = bench.size(1_000_000_000, 5_000_000)
            if _run(here, make.format(size=size)) is not None:
                for far in ("", "-far"):
                    bench.results.fail(f"carry-{what}{far}", OURS, "what makes it is not installed")
                continue
            file = bench.folder / f"{what}.bin"
            with file.open("wb") as f:
                for _ in range(size // 1_000_000):
                    f.write(_random())
            for way, far in ((bench.near, ""), (bench.far, "-far")):
                turns: dict[str, Callable[[], None]] = {
                    SCP: partial(_scp, bench, file, way, f"carry-{what}{far}"),
                    OURS: partial(_carry, bench, here, way, f"carry-{what}{far}"),
                }
                bench.rounds(turns, {name: [(f"carry-{what}{far}", name)] for name in turns})
            file.unlink()


def _random(size: int = 1_000_000) -> bytes:
    with open("/dev/urandom", "rb") as f:
        return f.read(size)


@contextmanager
def _kernel() -> Iterator[BlockingKernelClient]:
    manager: Any = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client: BlockingKernelClient = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(client: BlockingKernelClient, code: str) -> str | None:
    """None, or what went wrong."""
    content = client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda m: None)["content"]
    return None if content["status"] == "ok" else str(content)


def _ask(client: BlockingKernelClient, function: str, **arguments: Any) -> str:
    message = client.session.msg("execute_request", request(function, **arguments))
    client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def _answer(client: BlockingKernelClient, msg_id: str) -> dict[str, Any]:
    while True:
        message = client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == msg_id:
            answer = parse(message["content"])
            if "error" in answer:
                raise RuntimeError(str(answer["error"]))
            return answer


def _carry(bench: Bench, here: BlockingKernelClient, way: Way, row: str) -> None:
    vm = bench.vm
    keys = HostKeys(bench.folder / "pins", [])
    target = vm.target(host=way.host, port=way.port, python=sys.executable)
    keys.pin(target.pinned_key_id or "", vm.host_key_line)
    with _kernel() as there:
        about = _answer(there, _ask(there, "hello"))
        begun = time.monotonic()
        connection = SSHConnection.open(target, keys)
        at_new = RemoteEnd(connection, RememberedPythons(bench.folder / "pythons.json"), own=True)
        at_old = LocalEnd("here")
        pumps = Pumps(at_old, at_new)
        try:
            receiving = _ask(there, "receive", path=at_new.path)
            sending = _ask(here, "send", path=at_old.path, names=["value"], there=about, compress="auto")
            received = _answer(there, receiving)
            _answer(here, sending)
            bench.results.add(row, OURS, time.monotonic() - begun)
        finally:
            pumps.close()
        if received["received"] != ["value"]:
            raise RuntimeError(f"it did not arrive: {received}")
        if _run(there, "assert value.size > 1000 and float(value[:1].size) > 0"):
            raise RuntimeError("what arrived is not what was sent")


def _scp(bench: Bench, file: Path, way: Way, row: str) -> None:
    vm = bench.vm
    there = vm.home / "copied.bin"
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
    command = ["scp", "-q", "-P", str(way.port), "-i", str(vm.key_file)]
    command += [word for option in options for word in ("-o", option)]
    begun = time.monotonic()
    subprocess.run([*command, str(file), f"{vm.user}@{way.host}:{there}"], check=True)
    bench.results.add(row, SCP, time.monotonic() - begun)
    there.unlink()
