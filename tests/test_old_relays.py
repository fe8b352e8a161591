"""A relay is as old as its kernel: newer and older servers meet it. Real processes of the real earlier version.

``data/relay-version-1.zip`` is ``jupyter_dsvm.relay`` as it was when the protocol's version was 1.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_dsvm.errors import ProtocolError
from jupyter_dsvm.kernels.linkends import hung_up
from jupyter_dsvm.relay.events import Attached, Gone, HungUp, Received
from jupyter_dsvm.relay.session import Role, Session
from jupyter_dsvm.relay.wire import Channel, Frame, Type
from support.relay_end import KernelEnd, Machine, PipeEnd, machine, pipe, ship
from support.relay_vm import IPYKERNEL, PATIENCE, home, ready, say, shut_down, started

__all__ = ["home"]

OLD = Path(__file__).parent / "data" / "relay-version-1.zip"

COUNT = "import time\nfor i in range(40): print(i, flush=True); time.sleep(0.05)"
COUNTED = "".join(f"{i}\n" for i in range(40))


@pytest.fixture
def vm(home: Path) -> Iterator[Machine]:
    with machine(home) as it:
        yield it


@pytest.fixture
def old(vm: Machine) -> KernelEnd:
    """A kernel whose relay is of version 1. From here on, pipes to that machine are of today's."""
    vm.zip = OLD
    with pipe(vm) as way:
        kernel = started(way)
        assert say(way, kernel, "kept = 41") == ""
    assert [h["version"] for h in kernel.hellos] == [1]
    vm.zip = ship(vm.home)
    return kernel


def test_a_newer_server_goes_on_with_an_older_relay(vm: Machine, old: KernelEnd) -> None:
    assert not old.session.knows(Type.INTERRUPT)
    with pipe(vm) as way:
        old.attach(way)
        request = old.execute(COUNT)
        way.wait(lambda: "5\n" in old.text(request))
    with pipe(vm) as way:
        old.attach(way)
        way.wait(lambda: old.done(request))
        assert old.text(request) == COUNTED
        assert say(way, old, "print(kept + 1)") == "42\n"
        # Without a frame for it, an interrupt is a message of the control channel like others.
        sleeping = old.execute("import time; print('asleep', flush=True); time.sleep(100)")
        way.wait(lambda: old.text(sleeping))
        old.send(Channel.CONTROL, "interrupt_request", {})
        way.wait(lambda: old.done(sleeping), PATIENCE)
        assert old.of("error", sleeping)[0]["content"]["ename"] == "KeyboardInterrupt"
        shut_down(way, old)
    vm.wait_empty()


def test_an_older_relay_cannot_be_adopted_and_its_kernel_is_left_alone(vm: Machine, old: KernelEnd) -> None:
    heir = old.adopter(0)
    with pipe(vm) as way:
        heir.attach(way)
        way.wait(lambda: heir.hung_up)
        (said,) = [e for e in heir.events if isinstance(e, HungUp)]
        error = hung_up("gpu-vm", said)
        assert isinstance(error, ProtocolError)
        assert "gpu-vm is of an earlier version" in error.message
        assert "version 1" in error.message
        assert error.advice == "Attach again to start a new one."
        assert any("ipykernel" in line or "start.py" in line for line in vm.processes().values())
    with pipe(vm) as way:  # whoever has the conversation still has it
        old.attach(way)
        assert say(way, old, "print(kept)") == "41\n"
        shut_down(way, old)
    vm.wait_empty()


TODAYS: dict[str, Any] = {"Attached": Attached, "Received": Received, "HungUp": HungUp, "Gone": Gone}


class OldKernelEnd(KernelEnd):
    """The server's end as it was then."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.old = old
        self.session = old.Session(old.Role.SERVER, self.tag)

    def attach(self, through: PipeEnd, create: bool = False, **more: Any) -> None:
        through.kernels[self.tag] = self
        self.session.attach(create=create, **more)

    def frame(self, frame: Frame) -> None:
        real, receive = self.session, self.session.receive

        class Renamed:
            """Its events under today's names."""

            def receive(self, frame: Frame) -> list[Any]:
                return [TODAYS[type(e).__name__](*vars(e).values()) for e in receive(frame)]

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        self.session = Renamed()  # type: ignore[assignment]
        try:
            super().frame(frame)
        finally:
            self.session = real


@pytest.fixture
def old_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(OLD))
    yield importlib.import_module("relay.session")
    for name in [n for n in sys.modules if n == "relay" or n.startswith("relay.")]:
        del sys.modules[name]


def test_an_older_server_goes_on_with_a_newer_relay(vm: Machine, old_code: Any) -> None:
    kernel = OldKernelEnd(old_code)
    with pipe(vm) as way:
        kernel.attach(way, create=True)
        kernel.start(IPYKERNEL)
        way.wait(lambda: kernel.happened(Type.STARTED), PATIENCE)
        ready(way, kernel)
        request = kernel.execute(COUNT)
        way.wait(lambda: "5\n" in kernel.text(request))
    with pipe(vm) as way:
        kernel.attach(way)
        way.wait(lambda: kernel.done(request))
        assert kernel.text(request) == COUNTED
        assert kernel.session.version == 1
        shut_down(way, kernel)
    vm.wait_empty()


def test_a_server_from_the_future_is_spoken_to_in_todays_version(vm: Machine) -> None:
    kernel = KernelEnd()
    kernel.session = Session(Role.SERVER, kernel.tag, version=99)
    with pipe(vm) as way:
        kernel.attach(way, create=True, something={"new": [1, 2]})
        kernel.start(IPYKERNEL)
        way.wait(lambda: kernel.happened(Type.STARTED), PATIENCE)
        ready(way, kernel)
        assert kernel.session.version == kernel.hellos[0]["version"] < 99
        kernel.session.pass_by(200, b"a type that is not known here")
        assert say(way, kernel, "print(1)") == "1\n"
        shut_down(way, kernel)
    vm.wait_empty()
