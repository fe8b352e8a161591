"""A VM without SSH, with real relays and kernels on it: fixtures, and what a test says to one kernel over one pipe."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.relay.wire import Channel, Type

from .relay_end import KernelEnd, Machine, PipeEnd, machine, pipe

IPYKERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
PATIENCE = 30.0
"""Seconds for what takes one on an idle computer."""


@pytest.fixture
def home() -> Iterator[Path]:
    """As short a path as homes have; pytest's own would be too long for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="vm", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def vm(home: Path) -> Iterator[Machine]:
    with machine(home) as it:
        yield it


@pytest.fixture
def way(vm: Machine) -> Iterator[PipeEnd]:
    with pipe(vm) as it:
        yield it


def started(way: PipeEnd, argv: list[str] = IPYKERNEL, **more: Any) -> KernelEnd:
    """A new kernel that answers, or one that has said why it could not start."""
    kernel = KernelEnd()
    kernel.attach(way, create=True)
    kernel.start(argv, **more)
    way.wait(lambda: kernel.happened(Type.STARTED) or kernel.happened(Type.EXITED), PATIENCE)
    if kernel.happened(Type.STARTED):
        ready(way, kernel)
    return kernel


def ready(way: PipeEnd, kernel: KernelEnd) -> None:
    """Until this run's IOPub is known to reach us: what a kernel publishes before that is nobody's."""
    before = len(kernel.got)
    asked = 0.0

    def heard() -> bool:
        nonlocal asked
        if time.monotonic() > asked + 0.1:
            asked = time.monotonic()
            kernel.send(Channel.SHELL, "kernel_info_request", {})
        new = [m for _, m in kernel.got[before:] if m["parent_header"].get("msg_type") == "kernel_info_request"]
        return any(m["header"]["msg_type"] == "status" for m in new)

    way.wait(heard, PATIENCE)


def run(way: PipeEnd, kernel: KernelEnd, code: str, seconds: float = PATIENCE) -> str:
    request = kernel.execute(code)
    way.wait(lambda: kernel.done(request), seconds, f"{code!r} did not end: {kernel.got[-5:]}")
    return request


def say(way: PipeEnd, kernel: KernelEnd, code: str) -> str:
    return kernel.text(run(way, kernel, code))


def shut_down(way: PipeEnd, kernel: KernelEnd) -> None:
    kernel.session.send(Type.SHUTDOWN, b"{}")
    way.wait(lambda: kernel.happened(Type.EXITED) and (kernel.hung_up or kernel.gone), PATIENCE)


def end_of_relay(vm: Machine, kernel: KernelEnd) -> Path:
    """The folder of its relay."""
    return vm.kernels / kernel.tag.hex()[:16]
