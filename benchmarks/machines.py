"""The machine: a real OpenSSH server on loopback (that of the tests), and ways to it that take time or are cut."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.sshd import SSHServer, processes_with, sshd

__all__ = ["ROOT", "SSHServer", "Way", "machine", "processes_with", "way"]

ROOT = Path(__file__).parent.parent


@dataclass
class Way:
    """Where a client finds the machine's SSH server."""

    name: str
    """The alias that clients' SSH configurations give it."""
    host: str
    port: int
    round_trip: float
    """Seconds that the way adds."""
    _relay: subprocess.Popen[str] | None = field(default=None, repr=False)

    def cut(self, seconds: float) -> None:
        """Reset every connection now, and refuse new ones for so long."""
        assert self._relay is not None, "a direct way cannot be cut"
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        self._relay.stdin.write(f"cut {seconds}\n")
        self._relay.stdin.flush()
        self._relay.stdout.readline()


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[SSHServer]:
    """``python3`` there is the Python that runs this."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with sshd(folder, "Subsystem sftp internal-sftp", env={"PATH": path}) as server:
        yield server


@contextlib.contextmanager
def way(vm: SSHServer, name: str, round_trip: float = 0.0, *, relayed: bool = False) -> Iterator[Way]:
    """Direct where nothing is added, unless ``relayed`` (to be able to cut it)."""
    if not round_trip and not relayed:
        yield Way(name, vm.host, vm.port, 0.0)
        return
    relay = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.delay", vm.host, str(vm.port), str(round_trip / 2)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdin is not None
    assert relay.stdout is not None
    try:
        yield Way(name, "127.0.0.1", int(relay.stdout.readline()), round_trip, relay)
    finally:
        relay.stdin.close()
        relay.wait(10)
        relay.stdout.close()
