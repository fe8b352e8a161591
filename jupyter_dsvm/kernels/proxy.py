"""A kernel's fixed front: five endpoints that never change, and behind them a backend that can.

The proxy is the I/O around the gate (``gate.py`` has the rules): it owns the sockets that clients connect to, starts
backends, hands events to the gate and carries out its actions. Everything below the line "On the I/O thread" runs
there; the methods above it may be called from any thread or event loop and give futures.

Who uses it: the provisioner (launch, signals, end), the service (prepare, swap), the registry.
"""

from __future__ import annotations

import logging
import shutil
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..errors import Cancelled, DSVMError, KernelStartError, Unreachable
from ..relay.wire import Channel
from . import magic_source
from .asking import Asking, Begin
from .backends import Backend
from .calls import Calls
from .callsocket import CallSocket
from .clients import Clients
from .deaths import Death, Deaths
from .executor import Executor
from .front import Front, socket_folder
from .gate import Gate
from .iothread import IOThread
from .keeper import Keeper
from .keeping import Keeping
from .keptfiles import SessionRow
from .messages import Message, Signer
from .promises import Promises, promise, settle
from .recording import Recording
from .registry import registry
from .sides import Sides
from .status import ProxyStatus, status_of

__all__ = ["SOCKET_VARIABLE", "Proxy", "ProxyStatus"]

log = logging.getLogger("jupyter_dsvm.proxy")

SOCKET_VARIABLE = "JUPYTER_DSVM_SOCKET"
"""Names the socket of ``%dsvm`` in a kernel's environment."""

HURRY_AFTER = 5.0
"""Seconds that a swap waits for answers to requests other than cells."""


class Proxy:
    def __init__(
        self,
        kernel_id: str,
        *,
        key: bytes,
        signature_scheme: str,
        session: str,
        ip: str,
        ports: dict[str, int],
        kernelspec: str,
        keeping: Keeping | None = None,
    ) -> None:
        """Binds the front; raises ``zmq.ZMQError`` or ``OSError`` if that cannot be done, and leaves nothing then.

        ``ports`` may name ports that must be used (0: any). ``keeping``: what an earlier process left of this kernel, which
        ``adopt`` goes on with. Call ``close`` or ``detach`` once.
        """
        self.kernel_id = kernel_id
        self.key = key
        self.signature_scheme = signature_scheme
        self.session = session
        self.ip = ip
        self.kernelspec = kernelspec
        self.cwd: str | None = None
        """The working folder that whoever starts kernels has named for it; for the files that travel with it."""
        self.status = ProxyStatus()
        self.moving: str | None = None
        self.on_user_cancel: list[Callable[[str], None]] = []
        self.make_local: Callable[[], Backend] = self._no_local
        self.ports: dict[str, int] = {}
        self.folder = socket_folder()
        self._promises = Promises()
        signer = Signer(key, session, signature_scheme, kernel_id)
        self._gate = Gate(signer, magic_source.source)
        self._calls = Calls(self, self._gate)
        self._call_socket: CallSocket | None = None
        self._closed = False
        self._io = IOThread.acquire()
        deaths = Deaths(lambda death: registry.explain(kernel_id, death))
        self._sides = Sides(self._io, self._gate, self._promises, self._calls, deaths, self._carry_out)
        self.activity = self._gate.activity
        self.asking = Asking(self._io, self._gate, self._carry_out)
        self.clients = Clients(self._io, signer, self, self.folder)
        self._keeper = self._sides.keeper = Keeper(self, self._gate, self._sides, keeping)
        self.recording = Recording(kernel_id, self._io, self._sides.whose, self._handed_on)
        self._executor = Executor(
            self._io,
            self._gate,
            self._promises,
            self._sides,
            self.clients,
            self._keeper,
            self.recording,
            self.asking,
            changed=self._update_status,
            cancelled=self._user_cancelled,
        )
        try:
            self._io.call(self._open, ports).result(10)
        except BaseException:
            self._shut(leave=keeping is not None)
            raise
        registry.add(self)

    @property
    def io(self) -> IOThread:
        """For backends that live beside it."""
        return self._io

    @property
    def call_socket(self) -> str | None:
        """Where ``%dsvm`` in a kernel of this server finds us; None where there are no unix sockets."""
        return str(self._call_socket.path) if self._call_socket is not None else None

    def _no_local(self) -> Backend:
        raise KernelStartError("Nothing here knows how to start this notebook's kernel on the free tier.")

    # From any thread

    def launch(self, backend: Backend) -> Future[None]:
        """Start ``backend`` as the kernel: the kernel manager's start or restart. Resolves when its process runs."""
        return self._ask(self._launch, backend)

    def adopt(self, backend: Backend) -> Future[None]:
        """Go on with the kernel of an earlier server process, which ``backend`` leads to. Waits for nobody to be reached."""
        return self._ask(self._adopt, backend)

    def relaunch(self) -> Future[None]:
        """Restart the kernel of the present backend in place: a restart of a notebook that runs on a VM."""
        return self._ask(self._relaunch)

    def prepare(self, backend: Backend) -> Future[None]:
        """Start ``backend`` beside the present one and wait until it answers.

        Fails with ``KernelStartError``, ``LanguageMismatch``, ``Cancelled`` or what the backend said; it is ended then,
        and the present one is untouched.
        """
        return self._ask(self._prepare, backend)

    def swap(self, backend: Backend, interrupt: bool = False, carry: Begin | None = None) -> Future[None]:
        """Let a prepared backend take over: at once, or when what runs has ended. A later swap replaces one that waits.
        ``interrupt``: what runs is interrupted for that, as by Jupyter's Interrupt. ``carry``: variables go along (``asking``)."""
        return self._ask(self._swap, backend, interrupt, carry)

    def _ask(self, function: Callable[..., None], *args: Any) -> Future[None]:
        """Have ``function(*args, done)`` run on the I/O thread. What it raises is the future's, never the thread's."""
        done: Future[None] = promise()

        def run() -> None:
            try:
                if self._closed:
                    raise KernelStartError("The kernel has been shut down.")
                function(*args, done)
            except BaseException as e:
                settle(done, e)

        if self._closed:
            run()
        else:
            self._io.call_soon(run)
        return done

    def say(self, text: str) -> None:
        """A sentence for the notebook, above the output of the next cell that its kernel runs; it takes the place of one that was
        not said yet, and an empty one takes that back."""
        self._io.call_soon(self._gate.say_next, text)

    def cancel_swap(self, reason: str) -> Future[None]:
        """Give up every backend that is being prepared or waits; they are ended, and their futures fail with that."""
        return self._io.call(self._cancel_all, Cancelled(reason))

    def signal(self, signum: int) -> Future[None]:
        """The kernel manager signals the kernel. SIGINT is an interrupt, whichever way the kernel wants it."""
        return self._io.call(self._signal, signum)

    @property
    def death(self) -> Death | None:
        """How the kernel ended, where nobody here had asked for that; until a person restarts it, or it has moved."""
        return self._sides.deaths.death

    @property
    def pid(self) -> int | None:
        """Of the process that the notebook's code runs in, where that is one of this machine's. May be called on any thread."""
        side = self._gate.current
        backend = self._sides.backends.get(side.number) if side is not None else None
        pid = getattr(backend, "pid", None)
        return pid if isinstance(pid, int) else None

    def user_ends(self, reason: str, by_person: bool = False) -> Future[None]:
        """The kernel manager is about to end or restart the kernel. Not ``by_person``: one that has ended may be about to be
        started again by the kernel manager itself."""

        def ends() -> None:
            if self.death is not None and (by_person or self.exit_code is None):
                self._sides.deaths.forget()
                registry.changed(self.kernel_id)
            if by_person:
                self.recording.restarted()
            self._gate.user_ends(reason)
            self._carry_out()
            if self._out_of_reach:
                self._promises.has_exited(-9)  # nobody could confirm it: there is nothing to wait for

        return self._io.call(ends)

    def kill(self) -> Future[None]:
        """End the kernel firmly. Where its machine is out of reach, take it as ended here; ``close`` then leaves the order."""
        return self._io.call(self._kill)

    @property
    def exit(self) -> Future[int]:
        """Resolves with the exit code of the current kernel; a new future after each launch."""
        return self._promises.exit

    @property
    def exit_code(self) -> int | None:
        """Of the current kernel, once it has confirmedly ended."""
        return self._promises.exit_code

    def close(self) -> None:
        """Release the front and every backend. Called once, by the provisioner, when the kernel is gone for good."""
        if not self._closed:
            self._shut()
            registry.remove(self)

    def detach(self) -> None:
        """As ``close``, but a kernel on a VM is left to a later server process, with all that it needs to go on."""
        if not self._closed:
            self._shut(leave=True)
            registry.remove(self)

    def keep_sessions(self, rows: tuple[SessionRow, ...], root_dir: str) -> None:
        """Which notebooks the kernel belongs to, for whoever adopts it. The server's extension calls this."""
        self._io.call_soon(self._keeper.set_sessions, rows, root_dir)

    def _shut(self, leave: bool = False) -> None:
        self._closed = True
        try:
            self._io.call(self._release, leave).result(10)
        finally:
            self.recording.close(leave)
            IOThread.release()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, ports: dict[str, int]) -> None:
        front = self._executor.front = Front(self._io, self.ip, ports, self.from_client, self._gate.welcome)
        self.ports = front.ports
        if hasattr(socket, "AF_UNIX"):
            self._call_socket = CallSocket(self._io, self.folder / "call", self._calls.from_socket)

    # On the I/O thread: what the methods above ask for

    def _launch(self, backend: Backend, done: Future[None]) -> None:
        old, had_ended = self._gate.current, self.exit_code is not None
        number = self._sides.add(backend)
        self._gate.launched(number)
        self.clients.count(number)
        self._promises.launched()
        self._promises.prepared[number] = done
        if old is not None:
            self.recording.restarted()
            self._sides.let_go(old.number)
            if had_ended:
                self._sides.drop(old.number)
        try:
            self._start(backend)
            self._sides.starting(number)
        except BaseException:
            del self._promises.prepared[number]
            self._promises.has_exited(-1)
            raise
        finally:
            self._carry_out()

    def _adopt(self, backend: Backend, done: Future[None]) -> None:
        self._promises.launched()
        self._keeper.adopt(backend)
        self._start(backend)
        self._carry_out()
        done.set_result(None)

    def _start(self, backend: Backend) -> None:
        if self.clients.held:
            backend.hold(True)
        backend.start(self._sides)

    def _relaunch(self, done: Future[None]) -> None:
        side = self._gate.current
        if side is None:
            raise KernelStartError("There is no kernel to restart.")
        # Also where it cannot be: the front goes on, with the kernel once it is reached again or with that of an attach.
        self._promises.launched()
        if self._out_of_reach:
            self._gate.ending = False
            raise self._gate.gone_error or Unreachable(
                f"{side.compute_name} is out of reach, so the kernel there was not restarted: it goes on.",
                advice="Wait until it is reached again, or return to the free tier in the Compute panel.",
            )
        self._promises.prepared[side.number] = done
        self._keeper.restarts()
        self.recording.restarted()
        self._sides.backends[side.number].restart()

    def _prepare(self, backend: Backend, done: Future[None]) -> None:
        number = self._sides.add(backend)
        self._promises.prepared[number] = done
        try:
            self._start(backend)
        except Exception as e:
            self._gate.cancel_swap(
                number, KernelStartError(f"The kernel could not be started on {backend.compute_name}: {e}.")
            )
            self._carry_out()
            self._sides.drop(number)
        else:
            self._sides.starting(number)
            self._carry_out()

    def _swap(self, backend: Backend, interrupt: bool, carry: Begin | None, done: Future[None]) -> None:
        number = self._sides.number_of(backend)
        if number is None:
            raise KernelStartError("The new kernel ended before the notebook could move to it.")
        if self._gate.current is not None and self._gate.current.number == number:
            done.set_result(None)
            return
        self._promises.keep(self._promises.swapped, number, Cancelled("It was asked for once more."))
        self._promises.swapped[number] = done
        self._gate.swap(number, self.asking.expect(number, carry))
        if interrupt:
            self._gate.interrupt_for_swap()
        self._io.call_later(HURRY_AFTER, self._hurry)
        self._carry_out()

    def _hurry(self) -> None:
        if self._closed or self._gate.target is None:
            return
        self._gate.hurry()
        self._io.call_later(HURRY_AFTER, self._hurry)
        self._carry_out()

    def _cancel_all(self, error: DSVMError) -> None:
        current = self._gate.current
        for number in [*self._promises.prepared, *self._promises.swapped]:
            if current is None or number != current.number:
                self._gate.cancel_swap(number, error)
        self._carry_out()

    @property
    def _out_of_reach(self) -> bool:
        """Nothing that is asked of the kernel now would arrive: its machine is not reached, or gone."""
        side = self._gate.current
        return side is not None and (not side.reachable or self._gate.gone_error is not None)

    def _signal(self, signum: int) -> None:
        if signum == signal.SIGINT:
            self._gate.interrupt()
            self._carry_out()
        elif self._gate.current is not None:
            self._sides.backends[self._gate.current.number].signal(signum)

    def _kill(self) -> None:
        side = self._gate.current
        if side is None or self.exit_code is not None:
            return
        backend = self._sides.backends[side.number]
        if self._out_of_reach:
            self._promises.has_exited(-9)
        else:
            backend.signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _release(self, leave: bool) -> None:
        self._promises.close(KernelStartError("The kernel has been shut down."))
        self.asking.close()
        self._keeper.close(leave)
        self._sides.release(leave)
        self.clients.close()
        self._calls.close()
        if self._call_socket is not None:
            self._call_socket.close()
        if self._executor.front is not None:
            self._executor.front.close()

    # On the I/O thread: ClientsEvents

    def from_client(self, channel: Channel, parts: list[bytes]) -> None:
        if not self._closed:
            self._gate.from_client(channel, parts)
            self._carry_out()

    def handed_on(self, source: int, number: int) -> None:
        self.recording.handed_on(source, number)

    def _handed_on(self, source: int, number: int) -> None:
        self._keeper.handed_on(source, number)
        self._sides.handed_on(source, number)

    def hold(self, on: bool) -> None:
        for backend in self._sides.backends.values():
            backend.hold(on)

    def running(self) -> Message | None:
        return self._gate.running.message if self._gate.running is not None else None

    # On the I/O thread: after every event of the gate

    def _carry_out(self, side: int = 0, number: int = 0) -> None:
        self._executor.run(side, number)

    def _update_status(self) -> None:
        before = self.status
        status = status_of(self._gate, self._sides, before)
        if status is before:
            return
        self.status = status
        self._keeper.update()
        if before.running is not None and status.running != before.running:
            registry.executed(self.kernel_id)
        # Busy and idle are every cell's; a page hears of those from the kernel itself.
        ended = (status.execution_state == "dead") != (before.execution_state == "dead")
        if ended or (before.compute, before.link, before.swap_to) != (status.compute, status.link, status.swap_to):
            registry.changed(self.kernel_id)

    def _user_cancelled(self, reason: str) -> None:
        for callback in list(self.on_user_cancel):
            callback(reason)
