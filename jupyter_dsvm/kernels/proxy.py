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
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from ..errors import Cancelled, DSVMError, KernelStartError, Unreachable
from ..models import LinkPhase, LinkState, utc_now
from ..relay.folders import fits
from ..relay.wire import Channel
from . import magic_source
from .actions import Action, Failed, Ready, Signal, Swapped, ToBackend, ToClient, UserCancelled
from .backends import Backend
from .calls import Calls
from .callsocket import CallSocket
from .front import Front
from .gate import Gate
from .iothread import IOThread
from .messages import Signer
from .promises import Promises, promise, settle
from .registry import registry
from .status import ProxyStatus

__all__ = ["SOCKET_VARIABLE", "Proxy", "ProxyStatus"]

log = logging.getLogger("jupyter_dsvm.proxy")

SOCKET_VARIABLE = "JUPYTER_DSVM_SOCKET"
"""Names the socket of ``%dsvm`` in a kernel's environment."""

ASK_EVERY = 0.1
HURRY_AFTER = 5.0
"""Seconds that a swap waits for answers to requests other than cells."""
FAREWELL = 2.0
"""Seconds in which a replaced kernel may end by itself before it is made to."""


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
    ) -> None:
        """Binds the front; raises ``zmq.ZMQError`` or ``OSError`` if that cannot be done, and leaves nothing then.

        ``ports`` may name ports that must be used (0: any). Call ``close`` once.
        """
        self.kernel_id = kernel_id
        self.key = key
        self.signature_scheme = signature_scheme
        self.session = session
        self.ip = ip
        self.kernelspec = kernelspec
        self.status = ProxyStatus()
        self.moving: str | None = None
        self.on_user_cancel: list[Callable[[str], None]] = []
        self.make_local: Callable[[], Backend] = self._no_local
        self.ports: dict[str, int] = {}
        self.folder = private_folder()
        self._promises = Promises()
        self._gate = Gate(Signer(key, session, signature_scheme, kernel_id), magic_source.source)
        self._backends: dict[int, Backend] = {}
        self._numbers: dict[int, int] = {}
        self._links: dict[int, LinkState] = {}
        self._calls = Calls(self, self._gate)
        self._front: Front | None = None
        self._call_socket: CallSocket | None = None
        self._carrying_out = False
        self._closed = False
        self._io = IOThread.acquire()
        try:
            self._io.call(self._open, ports).result(10)
        except BaseException:
            self._shut()
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

    def relaunch(self) -> Future[None]:
        """Restart the kernel of the present backend in place: a restart of a notebook that runs on a VM."""
        return self._ask(self._relaunch)

    def prepare(self, backend: Backend) -> Future[None]:
        """Start ``backend`` beside the present one and wait until it answers and has the magic.

        Fails with ``KernelStartError``, ``LanguageMismatch``, ``Cancelled`` or what the backend said; it is ended then,
        and the present one is untouched.
        """
        return self._ask(self._prepare, backend)

    def swap(self, backend: Backend) -> Future[None]:
        """Let a prepared backend take over: at once, or when what runs has ended. A later swap replaces one that waits."""
        return self._ask(self._swap, backend)

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

    def cancel_swap(self, reason: str) -> Future[None]:
        """Give up every backend that is being prepared or waits; they are ended, and their futures fail with that."""
        return self._io.call(self._cancel_all, Cancelled(reason))

    def signal(self, signum: int) -> Future[None]:
        """The kernel manager signals the kernel. SIGINT is an interrupt, whichever way the kernel wants it."""
        return self._io.call(self._signal, signum)

    def user_ends(self, reason: str) -> Future[None]:
        """The kernel manager is about to end or restart the kernel."""

        def ends() -> None:
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

    def _shut(self) -> None:
        self._closed = True
        try:
            self._io.call(self._release).result(10)
        finally:
            IOThread.release()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, ports: dict[str, int]) -> None:
        self._front = Front(self._io, self.ip, ports, self._from_client, self._gate.welcome)
        self.ports = self._front.ports
        if hasattr(socket, "AF_UNIX"):
            self._call_socket = CallSocket(self._io, self.folder / "call", self._calls.from_socket)

    def _from_client(self, channel: Channel, parts: list[bytes]) -> None:
        self._gate.from_client(channel, parts)
        self._carry_out()

    # On the I/O thread: what the methods above ask for

    def _add(self, backend: Backend) -> int:
        number = self._gate.add(backend.compute_name, backend.language, backend.interrupt_mode, trusted=backend.trusted)
        self._backends[number] = backend
        self._numbers[id(backend)] = number
        return number

    def _launch(self, backend: Backend, done: Future[None]) -> None:
        old, had_ended = self._gate.current, self.exit_code is not None
        number = self._add(backend)
        self._gate.launched(number)
        self._promises.launched()
        self._promises.prepared[number] = done
        if old is not None:
            self._let_go(old.number)
            if had_ended:
                self._drop(old.number)
        try:
            backend.start(self)
        except BaseException:
            del self._promises.prepared[number]
            self._promises.has_exited(-1)
            raise
        finally:
            self._carry_out()

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
        self._backends[side.number].restart()

    def _prepare(self, backend: Backend, done: Future[None]) -> None:
        number = self._add(backend)
        self._promises.prepared[number] = done
        try:
            backend.start(self)
        except Exception as e:
            self._gate.cancel_swap(
                number, KernelStartError(f"The kernel could not be started on {backend.compute_name}: {e}.")
            )
            self._carry_out()
            self._drop(number)

    def _swap(self, backend: Backend, done: Future[None]) -> None:
        number = self._numbers.get(id(backend))
        if number is None:
            raise KernelStartError("The new kernel ended before the notebook could move to it.")
        if self._gate.current is not None and self._gate.current.number == number:
            done.set_result(None)
            return
        self._promises.keep(self._promises.swapped, number, Cancelled("It was asked for once more."))
        self._promises.swapped[number] = done
        self._gate.swap(number)
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
            self._backends[self._gate.current.number].signal(signum)

    def _kill(self) -> None:
        side = self._gate.current
        if side is None or self.exit_code is not None:
            return
        backend = self._backends[side.number]
        if self._out_of_reach:
            self._promises.has_exited(-9)
        else:
            backend.signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _release(self) -> None:
        self._promises.close(KernelStartError("The kernel has been shut down."))
        for backend in self._backends.values():
            # What has not ended by now is ended: a relay gets the order, a local process is killed.
            if backend.trusted:
                backend.close()
            else:
                backend.end()
        self._backends.clear()
        self._numbers.clear()
        self._calls.close()
        if self._call_socket is not None:
            self._call_socket.close()
        if self._front is not None:
            self._front.close()

    # On the I/O thread: what the gate wants done

    def _carry_out(self) -> None:
        """Drain the gate's actions in order. An action may raise an event of its own, whose actions then join the end."""
        if self._carrying_out:
            return
        self._carrying_out = True
        actions = self._gate.actions
        done = 0
        try:
            while done < len(actions):
                action = actions[done]
                done += 1
                try:
                    self._carry_out_one(action)
                except Exception:
                    log.exception("an action of the gate failed")  # the others must not be lost with it
        finally:
            actions.clear()
            self._carrying_out = False
        self._update_status()

    def _carry_out_one(self, action: Action) -> None:
        if isinstance(action, ToClient):
            if self._front is not None:
                self._front.send(action.channel, action.parts)
        elif isinstance(action, ToBackend):
            if (backend := self._backends.get(action.side)) is not None:
                backend.send(action.channel, action.parts)
        elif isinstance(action, Signal):
            if (backend := self._backends.get(action.side)) is not None:
                backend.signal(action.signum)
        elif isinstance(action, Ready):
            self._promises.keep(self._promises.prepared, action.side)
        elif isinstance(action, Failed):
            self._failed(action.side, action.error)
        elif isinstance(action, Swapped):
            self._swapped(action.old, action.new)
        elif isinstance(action, UserCancelled):
            for callback in list(self.on_user_cancel):
                callback(action.reason)

    def _failed(self, number: int, error: DSVMError) -> None:
        self._promises.fail(number, error)
        self._let_go(number)

    def _swapped(self, old: int, new: int) -> None:
        had_ended = self.exit_code is not None
        self._promises.launched()
        self._update_status()  # whoever hears that the notebook has moved may look where it is
        self._promises.keep(self._promises.swapped, new)
        if had_ended:
            self._let_go(old)
            self._drop(old)
        else:
            self._gate.farewell(old)
            self._io.call_later(FAREWELL, lambda: self._let_go(old, forget=False))

    def _let_go(self, number: int, forget: bool = True) -> None:
        """End a backend that is not the kernel (any more). What it still says until it has ended is drained."""
        backend = self._backends.get(number)
        if backend is None:
            return
        if forget:
            self._gate.forget(number)
        backend.end()

    def _update_status(self) -> None:
        side = self._gate.current
        if side is None or side.number not in self._backends:
            return
        backend = self._backends[side.number]
        target = self._backends.get(self._gate.target or 0)
        running = self._gate.running
        before = self.status
        status = ProxyStatus(
            compute=backend.compute,
            compute_name=backend.compute_name,
            kernelspec=backend.kernelspec,
            language=backend.language,
            link=self._links.get(side.number, before.link),
            execution_state=self._gate.execution_state,
            last_activity=before.last_activity,
            running=running.message.id if running is not None else None,
            swap_to=target.compute if target is not None else None,
        )
        if status == before:
            return
        self.status = replace(status, last_activity=utc_now())
        # Busy and idle are every cell's; a page hears of those from the kernel itself.
        if (before.compute, before.link, before.swap_to) != (status.compute, status.link, status.swap_to):
            registry.changed(self.kernel_id)

    # On the I/O thread: BackendEvents

    def started(self, backend: Backend) -> None:
        number = self._numbers.get(id(backend))
        if number is None:
            return
        self._gate.started(number)
        if self._is_current(number):
            self._promises.keep(self._promises.prepared, number)
        self._io.call_later(ASK_EVERY, lambda: self._ask_again(number))
        self._carry_out()

    def _ask_again(self, number: int) -> None:
        if not self._closed and self._gate.ask_again(number):
            self._io.call_later(ASK_EVERY, lambda: self._ask_again(number))
            self._carry_out()

    def message(self, backend: Backend, channel: Channel, parts: list[bytes]) -> None:
        number = self._numbers.get(id(backend))
        if number is not None:
            self._gate.from_backend(number, channel, parts)
            self._carry_out()

    def link(self, backend: Backend, state: LinkState) -> None:
        number = self._numbers.get(id(backend))
        if number is None:
            return
        self._links[number] = state
        self._gate.link(number, state.state in (LinkPhase.LOCAL, LinkPhase.CONNECTED))
        self._carry_out()
        if state.state is LinkPhase.LOCAL and self._is_current(number):
            # Its process runs, and that is all that jupyter_client waits for when it starts a kernel itself.
            self._promises.keep(self._promises.prepared, number)

    def exited(self, backend: Backend, code: int, text: str) -> None:
        number = self._numbers.get(id(backend))
        if number is None:
            return
        self._gate.exited(number, code, text)
        if self._is_current(number):  # otherwise a backend that waited to be swapped in has taken over by now
            error = KernelStartError(f"The kernel on {backend.compute_name} ended with exit code {code}.", advice=text)
            self._promises.keep(self._promises.prepared, number, error)
            self._promises.has_exited(code)
        self._ended(number)

    def gone(self, backend: Backend, error: DSVMError) -> None:
        number = self._numbers.get(id(backend))
        if number is None:
            return
        self._links[number] = LinkState(LinkPhase.GONE, utc_now(), reason=error.message)
        self._gate.gone(number, error)
        if self._is_current(number):
            self._promises.keep(self._promises.prepared, number, error)
        self._ended(number)

    def _ended(self, number: int) -> None:
        """The kernel on that side has ended. Unless it is the notebook's, nothing is left of it."""
        self._calls.forget(number)
        self._carry_out()
        if not self._is_current(number):
            self._let_go(number)
            self._drop(number)

    def _drop(self, number: int) -> None:
        backend = self._backends.pop(number, None)
        self._numbers.pop(id(backend), None)
        self._links.pop(number, None)
        self._gate.forget(number)
        self._calls.forget(number)

    def _is_current(self, number: int) -> bool:
        return self._gate.current is not None and self._gate.current.number == number

    def call(self, backend: Backend, call_id: int, request: dict[str, Any]) -> None:
        number = self._numbers.get(id(backend))
        if number is not None:
            self._calls.from_backend(number, backend, call_id, request)


def private_folder() -> Path:
    """A new 0700 folder for one kernel's sockets, under Jupyter's runtime folder where paths in it stay short enough."""
    base = Path(jupyter_runtime_dir())
    if fits(str(base / "dsvm-xxxxxxxx")):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="dsvm-", dir=base))
    return Path(tempfile.mkdtemp(prefix="dsvm-"))
