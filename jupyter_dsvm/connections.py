"""The pipes to machines: one per machine and process, opened when first needed, shared by all its kernels.

A pipe reconnects by itself (``kernels.link``). What it needs from here is where the machine is now, since addresses change at
every deallocation, and whether it is confirmedly off, since then what ran there is gone rather than out of reach. A
pipe that no kernel uses any more is closed after a while; until then the next attach is quick.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from . import booting
from .access import after_refusal, how, renew
from .compute.provider import Cancel, Report
from .computes import Computes
from .errors import AuthenticationError, Cancelled, HostKeyError, Unreachable
from .models import Compute

if TYPE_CHECKING:
    from .kernels.backends import Backend
    from .kernels.bootstrap import RememberedPythons
    from .kernels.keptfiles import KeptKernel
    from .kernels.kernelspecs import RemoteSpec
    from .kernels.vmpipe import VMPipe
    from .settling import Settling
    from .ssh.connection import SSHConnection
    from .ssh.hostkeys import HostKeys

log = logging.getLogger("jupyter_dsvm.connections")

T = TypeVar("T")

BACK_SECONDS = 10.0
"""How long a new attach waits for a pipe that is on its way back."""

CLOSE_SECONDS = 5.0
"""How long kernels that are being ended may keep their pipe when everything else has ended."""


def warm_up() -> None:
    """Load what a first attach needs, half of what it takes here. The extension calls this on a worker thread, once the server
    has been up for a while."""
    from .kernels import kernelspecs, link, vmpipe  # noqa: F401
    from .kernels.bootstrap import relay_zip
    from .ssh import transport  # noqa: F401  # and with it paramiko

    relay_zip()


@dataclass
class _Slot:
    """One machine's pipe. ``lock`` is held while it is opened, so that two attaches at a time share one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pipe: VMPipe | None = None


class Connections:
    def __init__(self, computes: Computes, in_use: Callable[[], set[str]], idle: Callable[[], float]) -> None:
        """``in_use`` gives the ids of machines that kernels run on or are moving to; ``idle`` the seconds after which
        another one is hung up on."""
        self._computes = computes
        self._in_use = in_use
        self._idle = idle
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._timer: threading.Timer | None = None
        self._host_keys: HostKeys | None = None
        self._pythons: RememberedPythons | None = None
        self._closed = False
        self._settling: Settling | None = None
        self.on_listed: Callable[[str], object] = lambda compute_id: None
        """Called with a machine's id when it lists other kernelspecs than before. Any thread; must not block."""
        self._passwords: dict[str, str] = {}
        """By compute. In memory only."""

    def open(self, compute: Compute, cancel: Cancel, set_up: Report | None = None) -> VMPipe:
        """The machine's pipe, connected now if need be. Blocks; raises ``SSHError``, ``RelayError`` or ``ComputeError``.

        ``set_up``: whoever asked may also set up SSH there, where the connect is refused for want of it; it is told how
        that goes. Not where code on a VM asked."""
        with self._lock:
            if self._closed:
                raise Cancelled("The server is stopping.")
            slot = self._slots.setdefault(compute.id, _Slot())
        while not slot.lock.acquire(timeout=0.1):
            if cancel.is_set():
                raise Cancelled(f"It was cancelled while connecting to {compute.name}.")
        try:
            if slot.pipe is None or not slot.pipe.usable:
                if slot.pipe is not None:
                    slot.pipe.release()
                slot.pipe = None
                slot.pipe = self._connect_or_set_up(compute, cancel, set_up)
            pipe = slot.pipe
        finally:
            slot.lock.release()
        self._look_later()
        self._wait_for(pipe, cancel)
        self._settle().soon(compute.id)
        return pipe

    def _connect_or_set_up(self, compute: Compute, cancel: Cancel, set_up: Report | None) -> VMPipe:
        def crowded() -> None:
            if set_up is not None:
                set_up(f"{compute.name} is busy and lets nobody in just now; trying again", None)

        pipe = self._or_set_up(
            compute, cancel, set_up, lambda: self._connect(compute.id, compute.name, cancel=cancel, crowded=crowded)
        )
        renew(self._computes, compute, self.signed_in)
        return pipe

    def _or_set_up(self, compute: Compute, cancel: Cancel, set_up: Report | None, connect: Callable[[], T]) -> T:
        # Twice at most: where only the host key could be had, what is missing next is a key.
        rounds_left = 2
        while True:
            try:
                return connect()
            except (AuthenticationError, HostKeyError) as error:
                may = set_up if rounds_left else None
                if may is None or not after_refusal(self._computes, compute, error, may, cancel):
                    raise how(self._computes, compute, error) from None
                may(f"Connecting to {compute.name}", None)
            except Unreachable as error:
                raise how(self._computes, compute, error) from None
            rounds_left -= 1

    def let_in(self, compute: Compute, cancel: Cancel) -> None:
        """Sign in once and hang up: what a terminal does next will work. SSH is set up where that is refused for want of it.
        Blocks; raises ``SSHError`` or ``ComputeError``."""

        def untold(text: str, fraction: float | None = None) -> None:
            log.debug("%s", text)

        self._or_set_up(compute, cancel, untold, lambda: self.signed_in(compute.id)).close()

    def kernelspecs_there(self, compute_id: str, seconds: float) -> list[RemoteSpec] | None:
        """What the machine can start, as its pipe was told when something was attached; None where none stands now. Blocks.
        Raises ``RelayError``."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        if pipe is None or pipe.phase.value != "up":
            return None
        from .kernels.kernelspecs import parse_specs

        return parse_specs(pipe.kernelspecs(seconds, known=True))

    def signed_in(self, compute_id: str, password: str | None = None, key: str | None = None) -> SSHConnection:
        """A connection of its own, for a command or two; whoever gets it closes it. Blocks. ``key``: in place of ours."""
        from .ssh.connection import SSHConnection

        password = self._passwords.get(compute_id) if password is None else password
        target = self._computes.ssh_target(compute_id)
        if key is not None:
            target = replace(target, own_key=key)
        return SSHConnection.open(target, self._memory()[0], password=password)

    @property
    def host_keys(self) -> HostKeys:
        return self._memory()[0]

    def set_password(self, compute_id: str, password: str | None) -> None:
        """Use it for that machine alone, once its host key was checked, as long as this process lives; None: forget it."""
        if password is None:
            self._passwords.pop(compute_id, None)
        else:
            self._passwords[compute_id] = password

    @staticmethod
    def _wait_for(pipe: VMPipe, cancel: Cancel) -> None:
        """One that is lost, or has never stood since the server began, may be back in a moment; else it will say so itself."""
        deadline = time.monotonic() + BACK_SECONDS
        while pipe.phase.value == "lost" and time.monotonic() < deadline and not cancel.is_set():
            pipe.hurry()
            time.sleep(0.05)

    def ask(self, compute_id: str, operation: str, **arguments: Any) -> Future[Any] | None:
        """Ask a machine whose pipe stands (``VMPipe.call``); None where there is none that does. Opens nothing, waits for nothing,
        and does not keep a pipe open that nobody uses."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        if pipe is None or pipe.phase.value != "up":
            return None
        return pipe.call(operation, **arguments)

    def stands(self, compute_id: str) -> bool:
        """Whether the machine's pipe stands now. Does not block."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        return pipe is not None and pipe.phase.value == "up"

    def is_coming_back(self, compute_id: str) -> bool:
        """Whether it has a pipe that was lost and is being connected again by itself. Does not block."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        return pipe is not None and pipe.usable and pipe.phase.value != "up"

    def standing(self, compute_id: str, wait: float = 30.0) -> SSHConnection:
        """The SSH connection of a machine's pipe, for a channel beside it (``VMPipe.ssh``): opens none, but waits for one that is
        on its way back. Raises ``Unreachable``, or why there is none."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        if pipe is None:
            raise Unreachable(
                f"{self._computes.name(compute_id)} is not connected to.",
                advice="Attach a notebook there; then it is.",
            )
        return pipe.ssh(wait)

    @property
    def pythons(self) -> RememberedPythons:
        return self._memory()[1]

    def adopt(self, kept: KeptKernel, handed_on: int) -> Backend:
        """A kernel that is on its machine already, wherever that is now. Nothing is waited for: its pipe goes on trying."""
        from .kernels.link import RelayBackend

        return RelayBackend.adopting(self._borrow(kept.compute, kept.compute_name), kept, handed_on)

    def _borrow(self, compute_id: str, name: str) -> VMPipe:
        """The machine's pipe, retained, whether it stands or not. Blocks while another caller opens it."""
        with self._lock:
            if self._closed:
                raise Cancelled("The server is stopping.")
            slot = self._slots.setdefault(compute_id, _Slot())
        with slot.lock:
            if slot.pipe is None or not slot.pipe.usable:
                if slot.pipe is not None:
                    slot.pipe.release()
                slot.pipe = self._connect(compute_id, name, patient=True)
            pipe = slot.pipe
            if not pipe.retain():
                raise Unreachable(f"The connection to {name} was closed.")
        self._look_later()
        return pipe

    def end_left(self) -> None:
        """Begin to end what earlier processes left on machines that run. Blocks for files and imports only."""
        self._settle().settle()

    def _settle(self) -> Settling:
        """There is one before there is any pipe, and so before anything can be left to it."""
        from .settling import Settling  # late, as everything that a server without any attached notebook need not load

        with self._lock:
            if self._closed:
                raise Cancelled("The server is stopping.")
            if self._settling is None:
                self._settling = Settling(self._borrow)
            return self._settling

    def wait_for_boot(self, compute: Compute, cancel: Cancel) -> str:
        """``booting.wait`` for a machine that has just been started."""
        return booting.wait(compute, self._computes.ssh_target, self._computes.look, cancel)

    def stopped(self, compute_id: str) -> None:
        """We have just stopped that machine: its pipe need not find out. Blocks while the cloud confirms it."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        error = self._computes.is_gone(compute_id, by_us=True) if pipe is not None else None
        if pipe is not None and error is not None:
            pipe.gone(error)

    def hurry(self, compute_id: str) -> None:
        """Have a lost connection tried at once, or a second after the last try. Does not block."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        if pipe is not None:
            pipe.hurry()

    def _connect(
        self,
        compute_id: str,
        name: str,
        cancel: Cancel | None = None,
        patient: bool = False,
        crowded: Callable[[], object] = lambda: None,
    ) -> VMPipe:
        # Late, as everything that a server without any attached notebook need not load.
        from .kernels.vmpipe import VMPipe

        self._settle()
        host_keys, pythons = self._memory()
        pipe = VMPipe.open(
            lambda: self._computes.ssh_target(compute_id),
            host_keys,
            pythons=pythons,
            is_gone=lambda: self._computes.is_gone(compute_id),
            cancel=cancel,
            patient=patient,
            name=name,
            crowded=crowded,
            password=self._passwords.get(compute_id),
        )
        pipe.on_listed = lambda: self.on_listed(compute_id)
        return pipe

    def _memory(self) -> tuple[HostKeys, RememberedPythons]:
        """What is remembered of machines, shared by all connections. Known host keys are in ``known_hosts`` for hosts, in our
        own file (or one that the configuration names) for VMs."""
        from .kernels.bootstrap import RememberedPythons
        from .ssh.hostkeys import HostKeys

        with self._lock:
            if self._host_keys is None or self._pythons is None:
                files = [getattr(p, "host_keys_file", "") for p in self._computes.providers]
                self._host_keys = HostKeys(configured=next((f for f in files if f), None))
                self._pythons = RememberedPythons()
            return self._host_keys, self._pythons

    def backend(
        self, pipe: VMPipe, compute: Compute, kernel_id: str, start: dict[str, Any], spec: RemoteSpec
    ) -> Backend:
        """A kernel on that machine, not started."""
        return pipe.backend(
            kernel_id,
            start,
            compute=compute.id,
            compute_name=compute.name,
            kernelspec=spec.name,
            language=spec.language,
            interrupt_mode=spec.interrupt_mode,
        )

    def known_kernelspecs(self, compute_id: str) -> list[str]:
        """Names of what a machine was last heard to have; none where it is not connected to. Asks nobody."""
        with self._lock:
            slot = self._slots.get(compute_id)
        pipe = slot.pipe if slot is not None else None
        return pipe.known_kernelspecs if pipe is not None else []

    def kernels_changed(self) -> None:
        """A kernel has come, gone or moved; any thread, does not block."""
        with self._lock:
            any_pipe = any(s.pipe is not None for s in self._slots.values())
        if any_pipe:
            self._look_later()

    def _look_later(self) -> None:
        with self._lock:
            if self._closed:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._idle(), self._close_unused)
            self._timer.name = "jupyter-dsvm-idle"
            self._timer.daemon = True
            self._timer.start()

    def _close_unused(self) -> None:
        used = self._in_use()
        with self._lock:
            slots = [s for i, s in self._slots.items() if i not in used]
        for slot in slots:
            if slot.lock.acquire(blocking=False):
                try:
                    pipe, slot.pipe = slot.pipe, None
                finally:
                    slot.lock.release()
                if pipe is not None:
                    pipe.release()

    def close(self) -> None:
        """Hang up everywhere; kernels that are being ended get the time to. Blocks for some seconds at most; called once."""
        with self._lock:
            self._closed = True
        if self._settling is not None:
            self._settling.close()
        with self._lock:
            slots, self._slots = list(self._slots.values()), {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        pipes: list[VMPipe] = []
        for slot in slots:
            with slot.lock:
                if slot.pipe is not None:
                    pipes.append(slot.pipe)
        for pipe in pipes:
            pipe.release()
        deadline = time.monotonic() + CLOSE_SECONDS
        for pipe in pipes:
            while pipe.phase.value != "closed" and time.monotonic() < deadline:
                time.sleep(0.01)
            pipe.close()
