"""A network of its own for a test's machine: a namespace and one cable to here, which can be cut without a word.

Needs root and iproute2; ``possible`` says whether that is so, and tests fall back to loopback where it is not.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

_numbers = itertools.count()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Network:
    def __init__(self) -> None:
        self.name = f"dsvm-{secrets.token_hex(3)}"
        # 10/8 is large enough for tests that run at the same time.
        self._prefix = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self.here = f"{self._prefix}.1"
        self.there = f"{self._prefix}.2"
        self._cable = f"d{secrets.token_hex(3)}"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("addr", "add", f"{self.here}/24", "dev", self._cable)
            _ip("link", "set", self._cable, "up")
            self._inside("addr", "add", f"{self.there}/24", "dev", "eth0")
            self._inside("link", "set", "eth0", "up")
            self._inside("link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def _inside(self, *words: str) -> None:
        _ip("-n", self.name, *words)

    def command(self, *command: object) -> list[str]:
        """That command line, run in there."""
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def swallow(self) -> None:
        """From now on nothing comes back from there, and nobody is told: no FIN, no reset, no ICMP."""
        self._inside("route", "add", "blackhole", f"{self.here}/32")

    def heal(self) -> None:
        self._inside("route", "del", "blackhole", f"{self.here}/32")

    def renumber(self) -> None:
        """Another address, as after a VM was deallocated; the old one is nobody's."""
        self._inside("addr", "del", f"{self.there}/24", "dev", "eth0")
        self.there = f"{self._prefix}.{3 + next(_numbers) % 200}"
        self._inside("addr", "add", f"{self.there}/24", "dev", "eth0")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            _ip("link", "del", self._cable)
        with contextlib.suppress(OSError):
            _ip("netns", "del", self.name)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()


@functools.cache
def possible() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with network():
            return True
    except OSError:
        return False
