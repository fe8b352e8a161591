"""One attach pipe per VM, shared by its kernels: connected, lost, and coming back by itself.

Threads of a pipe:

* its own: connects, reads, turns bytes into frames, notices a loss, waits and connects again (``kernels.pipeconnection``);
* one writer per connection (``kernels.pipewriter``), so that whoever has something to send never waits for the network.

What frames mean is dealt with on the I/O thread (``kernels.router``). Reader to I/O thread: ``kernels.inbox``. I/O thread to
writer: a deque that is filled from the kernels' sessions in turns, and only while it is short.

    phase        becomes
    CONNECTING   UP, FAILED           the first connect: ``open`` waits for it and raises what went wrong
    UP           LOST, FAILED         end of stream, a PING without answer; FAILED when the other side breaks the protocol
    LOST         UP, FAILED           tried again until it heals, or cannot (``kernels.comeback``), or ``is_gone`` knows the
                                      machine to be off; a patient pipe begins here
    any          CLOSED               the last user has released it

The machine is not trusted: frames are bounded before memory is taken, what waits here is bounded, and what it says that
makes no sense ends the pipe with ``ProtocolError``.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, DSVMError, RelayError, Unreachable
from ..models import SSHTarget
from ..ssh.connection import CROWDED
from ..ssh.hostkeys import HostKeys
from .bootstrap import RememberedPythons
from .comeback import Comeback
from .inbox import Inbox
from .iothread import IOThread
from .pipeconnection import PIPE_ENDED, PipeConnection
from .pipequestions import PipeQuestions
from .pipetimes import PipeTimes
from .router import FrameRouter, call_ahead

if TYPE_CHECKING:
    from ..ssh.connection import SSHConnection
    from .link import RelayBackend

__all__ = ["Phase", "PipeTimes", "VMPipe"]

log = logging.getLogger("jupyter_dsvm.pipe")


class Phase(enum.Enum):
    CONNECTING = "connecting"
    UP = "up"
    LOST = "lost"
    FAILED = "failed"
    CLOSED = "closed"


BECOMES = {
    Phase.CONNECTING: {Phase.UP, Phase.FAILED, Phase.CLOSED},
    Phase.UP: {Phase.LOST, Phase.FAILED, Phase.CLOSED},
    Phase.LOST: {Phase.UP, Phase.FAILED, Phase.CLOSED},
    Phase.FAILED: {Phase.CLOSED},
    Phase.CLOSED: set[Phase](),
}


class VMPipe:
    """Shared by the kernels of one VM. Whoever opened or retained it calls ``release`` once."""

    @classmethod
    def open(
        cls,
        target_source: Callable[[], SSHTarget],
        host_keys: HostKeys,
        *,
        pythons: RememberedPythons | None = None,
        is_gone: Callable[[], DSVMError | None] | None = None,
        cancel: threading.Event | None = None,
        times: PipeTimes | None = None,
        patient: bool = False,
        name: str = "the machine",
        crowded: Callable[[], object] = lambda: None,
        **secrets: Any,
    ) -> VMPipe:
        """Connect, and return once the relay's pipe stands. Blocks; called on worker threads.

        ``target_source`` is asked before every attempt, since an address changes when a VM is deallocated. ``is_gone`` is
        asked after a loss, between attempts: the error with which the machine is known to be off, None for no such
        knowledge. Both are called on the pipe's thread and may block. ``cancel``: set by whoever no longer wants it.
        ``name`` is what the machine is called until ``target_source`` has said it. ``crowded`` is called before the first connect
        is tried once more, since too many connect there just now; on the pipe's thread. ``secrets`` (``password``,
        ``passphrase``) go to ``SSHConnection.open``.

        Raises ``SSHError`` and its children, ``BootstrapError``, and what ``target_source`` raises.

        ``patient``: for kernels that run over there already. Returns at once and raises nothing; the first connect is
        one after a loss: its failures, those of ``target_source`` too, are told to the kernels, and it is tried again.
        """
        pipe = cls(target_source, host_keys, pythons, is_gone, times or PipeTimes(), name, secrets, crowded)
        if patient:
            pipe.phase = Phase.LOST
            pipe._opened.set()
        pipe._thread.start()
        while not pipe._opened.wait(0.05 if cancel is not None else None):
            if cancel is not None and cancel.is_set():
                pipe.close()
                raise Cancelled(f"Connecting to {pipe.name} was cancelled.")
        if pipe._error is not None:
            pipe.close()
            raise pipe._error
        return pipe

    def __init__(
        self,
        target_source: Callable[[], SSHTarget],
        host_keys: HostKeys,
        pythons: RememberedPythons | None,
        is_gone: Callable[[], DSVMError | None] | None,
        times: PipeTimes,
        name: str,
        secrets: dict[str, Any],
        crowded: Callable[[], object],
    ) -> None:
        """Use ``open``."""
        self.name = name
        self.phase = Phase.CONNECTING
        self.python = ""
        """The Python that the pipe runs in there."""
        self.on_listed: Callable[[], object] = lambda: None
        """Called when the machine lists other kernelspecs than before. Any thread; must not block."""
        self._crowded = crowded
        self._target_source = target_source
        self._host_keys = host_keys
        self._pythons = pythons
        self._times = times
        self._secrets = secrets
        self._io = IOThread.acquire()
        self._opened = threading.Event()
        self._error: DSVMError | None = None
        self._users = 1
        self._closing = threading.Event()
        self._again = Comeback(self._times, self._closing, is_gone)
        self._lock = threading.Lock()
        self._connection: PipeConnection | None = None
        self._questions = PipeQuestions(self)
        self._begun = time.monotonic()
        self._up_at: float | None = None
        self._router = FrameRouter(self._broken)
        self._inbox = Inbox(self._io, self._router.frame, self._router.pump)
        self._thread = threading.Thread(target=self._run, name="jupyter-dsvm-pipe", daemon=True)

    # Users, from any thread

    @property
    def usable(self) -> bool:
        """Whether a further kernel may be put on it: it stands, or is on its way back."""
        return self.phase in (Phase.UP, Phase.LOST) and not self._closing.is_set()

    def retain(self) -> bool:
        """One more user; False (and nothing to release) if it is too late for that."""
        with self._lock:
            if self._users == 0 or not self.usable:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """One user less; the last one closes the pipe. Does not block."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._shut()

    def close(self) -> None:
        """Close it under its users, whose kernels run on over there; return once its threads have ended. Not on the I/O thread."""
        with self._lock:
            self._users = 0
        self._shut()
        self._thread.join()

    def hurry(self) -> None:
        """Somebody waits for it: if it is lost, try again soon. Any thread; does not block, and costs nothing when repeated."""
        if self.phase is Phase.LOST:
            self._again.hurry()

    def gone(self, error: DSVMError) -> None:
        """The machine is known to be off, and ``error`` says so: what is asked over there now need not wait until the pipe has
        found that out. Any thread; does not block."""

        def tell() -> None:
            self._router.failed(error)
            self._broken(error)

        self._inbox.post(tell)

    def call(self, operation: str, **arguments: Any) -> Future[Any]:
        """Ask the far end what ``relay.questions`` answers; ``keep`` has holder, seconds and why, ``claim`` holder and seconds,
        ``strikes`` in (``**{"in": …}``) and text. Fails with ``DSVMError`` if the pipe is lost."""
        self.hurry()
        future: Future[Any] = Future()

        def handed(done: Future[None]) -> None:
            if done.cancelled():  # the I/O thread has ended, so this pipe has
                future.set_exception(self._error or Unreachable(f"The connection to {self.name} was closed."))

        self._io.call(self._router.call, operation, arguments, future).add_done_callback(handed)
        return future

    def ssh(self, wait: float = 0.0) -> SSHConnection:
        """The connection that stands now, for a command or another channel beside the relay's: each takes one of sshd's ten
        sessions. It is not the caller's to close. Raises ``Unreachable`` where none stands; it may be lost at any moment.

        Any thread. ``wait``: seconds that one which is on its way back may take; then this blocks.
        """
        deadline = time.monotonic() + wait
        while True:
            with self._lock:
                connection = self._connection if self.phase is Phase.UP else None
            if connection is not None and (connection.ssh.alive or not wait):
                return connection.ssh
            if not self.usable or time.monotonic() >= deadline:
                raise self._error or Unreachable(
                    f"{self.name} is out of reach.", advice="Try again once it is reached; kernels there go on."
                )
            self.hurry()
            self._closing.wait(0.05)

    def backend(
        self,
        kernel_id: str,
        spec: dict[str, Any],
        *,
        compute: str,
        compute_name: str,
        kernelspec: str,
        language: str,
        interrupt_mode: str,
    ) -> RelayBackend:
        """A kernel over there, not started: whoever gets it calls ``start`` on the I/O thread, or ``close``.

        ``spec`` is the body of START (``relay.spec``). Raises what made the pipe fail, or ``Unreachable``.
        """
        from .link import RelayBackend

        if not self.retain():
            raise self._error or Unreachable(f"The connection to {self.name} was closed.")
        try:
            return RelayBackend(
                self,
                kernel_id,
                spec,
                compute=compute,
                compute_name=compute_name,
                kernelspec=kernelspec,
                language=language,
                interrupt_mode=interrupt_mode,
            )
        except BaseException:
            self.release()
            raise

    def kernelspecs(self, timeout: float = 60.0, known: bool = False) -> list[dict[str, Any]]:
        """The kernelspecs of the machine; see ``PipeQuestions``. Blocks. Raises ``RelayError``."""
        return self._questions.kernelspecs(timeout, known)

    @property
    def known_kernelspecs(self) -> list[str]:
        """Names of those that were listed last, for who must not wait."""
        return self._questions.known_kernelspecs

    def info(self, timeout: float = 20.0) -> dict[str, Any]:
        """Host name, user and versions over there. Blocks. Raises ``RelayError``."""
        about: dict[str, Any] = self._questions.answer("info", dict, timeout)
        return about

    def kernels(self, timeout: float = 20.0) -> list[dict[str, Any]]:
        """The kernels that have a relay there. Blocks. Raises ``RelayError``."""
        kernels: list[dict[str, Any]] = self._questions.answer("kernels", list, timeout)
        return kernels

    def _shut(self) -> None:
        """Does not block: the pipe's thread does the rest, once the writer has sent what is queued."""
        self._closing.set()
        self._again.hurry()
        self._inbox.let_pass()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.finish()

    # The pipe's thread

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._up_at = None
                error = self._connect_and_read()
                if self._closing.is_set() or not self._lost(error):
                    break
        except Exception as e:
            log.exception("the pipe to %s failed", self.name)
            self._fail(RelayError(f"The pipe to {self.name} failed: {type(e).__name__}: {e}"))
        finally:
            self._end()

    def _connect_and_read(self) -> DSVMError:
        """One connection, from its beginning to its end; why it ended, or why there was none."""
        connection: PipeConnection | None = None
        try:
            target = self._target_source()
            self.name = target.name
            connection = PipeConnection(target, self._times)
            with self._lock:
                self._connection = connection
            if self._closing.is_set():
                connection.finish()
            writer = connection.connect(
                self._host_keys,
                self._pythons,
                partial(self._io.call_soon, self._router.pump),
                self._secrets,
                again=self.phase is Phase.LOST,
                ahead=self._ask_ahead(),
            )
            self.python = connection.python
            self._become(Phase.UP)
            self._up_at = time.monotonic()
            self._inbox.post(partial(self._router.up, self.name, writer))
            self._opened.set()
            ended = connection.read(self._inbox)
            if ended.code == PIPE_ENDED and not connection.heard and not self._closing.is_set() and self._pythons:
                # One that has served is only asked whether it has pyzmq (``bootstrap``), which may be broken by now.
                self._pythons.forget(target.compute)
            return ended
        except DSVMError as e:
            return e
        except Exception as e:
            log.exception("connecting to %s failed", self.name)
            return Unreachable(f"Connecting to {self.name} failed: {type(e).__name__}: {e}")
        finally:
            with self._lock:
                self._connection = None
            if connection is not None:
                connection.close()

    def _ask_ahead(self) -> bytes:
        """A first attach needs to know which kernelspecs there are: asked along with the connect, for a round trip less."""
        if self.phase is not Phase.CONNECTING:
            return b""
        self._inbox.post(partial(self._router.expect, self._questions.ask_ahead()))
        return call_ahead("kernelspecs")

    def _lost(self, error: DSVMError) -> bool:
        """Tell the kernels, and wait until it is time to try again; False where nothing is to be tried any more."""
        now = time.monotonic()
        again = self._again.after(error, now - self._up_at if self._up_at is not None else 0.0, now)
        if again is not None and self.phase is Phase.CONNECTING and self._passes_by(error, now):
            self._crowded()
            self._again.wait(again, now)
            return True
        if again is None or self.phase is Phase.CONNECTING:
            self._fail(error)
            return False
        self._become(Phase.LOST)
        log.info("%s: %s (attempt %d)", self.name, error, again.attempt)
        self._inbox.post(partial(self._router.lost, again.attempt, error))
        if again.attempt:  # most losses are short: the first try comes without asking anybody
            gone = self._again.gone(self.name)
            if gone is not None:
                self._fail(gone)
                return False
            self._again.wait(again, now)
        return True

    def _passes_by(self, error: DSVMError, now: float) -> bool:
        """Whether somebody who waits for the first connect should wait on."""
        return error.code in CROWDED and now < self._begun + self._times.crowd

    def _become(self, phase: Phase) -> None:
        if phase is not self.phase:
            assert phase in BECOMES[self.phase], f"{self.phase} cannot become {phase}"
            self.phase = phase

    def _fail(self, error: DSVMError) -> None:
        if self.phase in (Phase.FAILED, Phase.CLOSED):
            return
        self._error = error
        self._become(Phase.FAILED)
        self._inbox.post(partial(self._router.failed, error))
        self._opened.set()

    def _end(self) -> None:
        closed = Unreachable(f"The connection to {self.name} was closed.")
        if self._error is None and not self._opened.is_set():
            self._error = closed
        self._become(Phase.CLOSED)
        self._inbox.post(partial(self._router.failed, self._error or closed))
        self._opened.set()
        IOThread.release()

    # On the I/O thread

    @property
    def io(self) -> IOThread:
        return self._io

    @property
    def router(self) -> FrameRouter:
        """Where kernels put themselves on the pipe. Belongs to the I/O thread."""
        return self._router

    def _broken(self, error: DSVMError) -> None:
        self._error = error
        self._shut()
