"""One attach pipe per VM: an SSH connection, the exec'ed pipe on it, and its coming back after a loss.

Threads of a pipe:

* its own: connects, reads, turns bytes into frames, notices a loss, waits and connects again;
* one writer per connection (``kernels.pipewriter``), so that whoever has something to send never waits for the network.

What frames mean is dealt with on the I/O thread (``kernels.router``). Reader to I/O thread: a deque, in the order things
happened, with one wake-up under way at most; it is bounded by making the reader wait. I/O thread to writer: a deque
that is filled from the kernels' sessions in turns, and only while it is short.

    phase        becomes
    CONNECTING   UP, FAILED           the first connect: ``open`` waits for it and raises what went wrong
    UP           LOST, FAILED         end of stream, a PING without answer; FAILED when the other side breaks the protocol
    LOST         UP, FAILED           tried again until it heals, or cannot: another host key, a refused key, a machine
                                      that ``is_gone`` knows to be off
    any          CLOSED               the last user has released it

The machine is not trusted: frames are bounded before memory is taken, what waits here is bounded, and what it says that
makes no sense ends the pipe with ``ProtocolError``.
"""

from __future__ import annotations

import enum
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import (
    AuthenticationError,
    Cancelled,
    DSVMError,
    HostKeyError,
    ProtocolError,
    RelayError,
    Unreachable,
    printable,
)
from ..models import SSHTarget
from ..relay.wire import Frame, FrameDecoder, WireError
from ..ssh.connection import SSHConnection
from ..ssh.hostkeys import HostKeys
from .bootstrap import RememberedPythons, bootstrap
from .iothread import IOThread
from .pipewriter import PipeWriter
from .router import FrameRouter

if TYPE_CHECKING:
    import paramiko

    from .link import RelayBackend

log = logging.getLogger("jupyter_dsvm.pipe")

READ = 1024 * 1024
INCOMING_LIMIT = 8 * 1024 * 1024
"""Bytes of frames that wait for the I/O thread before the reader waits, and with it the SSH window."""
TURN = 1024 * 1024
"""Bytes of frames that the I/O thread takes before other work has its turn."""
OVERHEAD = 512
"""What a frame counts in these limits besides its body: an empty one takes memory too."""
STDERR_KEPT = 4096
SHORT = 5.0
"""Seconds; a connection that stood for less does not make the next attempt a first one."""

FINAL = (HostKeyError, AuthenticationError, ProtocolError)
"""Errors that trying again does not heal. Whether a machine is there no more, only ``is_gone`` knows."""


@dataclass(frozen=True)
class PipeTimes:
    """Seconds."""

    connect: float = 20.0
    bootstrap: float = 30.0
    reconnect: float = 6.0
    """For a connect after a loss: short, so that a machine that is gone is found out about."""
    ping: float = 2.0
    deadline: float = 5.0
    """After a PING nothing has come for so long: lost."""
    first_wait: float = 0.25
    longest_wait: float = 15.0
    close: float = 2.0
    """For what is still to be sent when the pipe is closed."""


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
        **secrets: Any,
    ) -> VMPipe:
        """Connect, and return once the relay's pipe stands. Blocks; called on worker threads.

        ``target_source`` is asked before every attempt, since an address changes when a VM is deallocated. ``is_gone`` is
        asked after a loss, between attempts: the error with which the machine is known to be off, None for no such
        knowledge. Both are called on the pipe's thread and may block. ``cancel``: set by whoever no longer wants it.
        ``secrets`` (``password``, ``passphrase``) go to ``SSHConnection.open``.

        Raises ``SSHError`` and its children, ``BootstrapError``, and what ``target_source`` raises.
        """
        pipe = cls(target_source, host_keys, pythons, is_gone, times or PipeTimes(), secrets)
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
        secrets: dict[str, Any],
    ) -> None:
        """Use ``open``."""
        self.name = "the machine"
        self.phase = Phase.CONNECTING
        self.python = ""
        """The Python that the pipe runs in there."""
        self._target_source = target_source
        self._host_keys = host_keys
        self._pythons = pythons
        self._ask_gone = is_gone
        self._times = times
        self._secrets = secrets
        self._io = IOThread.acquire()
        self._opened = threading.Event()
        self._error: DSVMError | None = None
        self._users = 1
        self._closing = threading.Event()
        self._up_at: float | None = None
        self._lock = threading.Lock()
        self._connection: SSHConnection | None = None
        self._writer: PipeWriter | None = None
        self._room = threading.Condition()
        self._incoming: deque[tuple[int, Callable[[], None] | list[Frame]]] = deque()
        self._incoming_size = 0
        self._draining = False
        self._router = FrameRouter(self._broken)
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

    def call(self, operation: str) -> Future[Any]:
        """Ask the far end: ``info``, ``kernels`` or ``kernelspecs``. Fails with ``DSVMError`` if the pipe is lost meanwhile."""
        future: Future[Any] = Future()

        def handed(done: Future[None]) -> None:
            if done.cancelled():  # the I/O thread has ended, so this pipe has
                future.set_exception(self._error or Unreachable(f"The connection to {self.name} was closed."))

        self._io.call(self._router.call, operation, future).add_done_callback(handed)
        return future

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

    def kernelspecs(self, timeout: float = 60.0) -> list[dict[str, Any]]:
        """The kernelspecs of the machine, as ``relay.kernelspecs`` lists them. Blocks. Raises ``RelayError``."""
        specs: list[dict[str, Any]] = self._answer("kernelspecs", list, timeout)
        return specs

    def info(self, timeout: float = 20.0) -> dict[str, Any]:
        """Host name, user and versions over there. Blocks. Raises ``RelayError``."""
        about: dict[str, Any] = self._answer("info", dict, timeout)
        return about

    def kernels(self, timeout: float = 20.0) -> list[dict[str, Any]]:
        """The kernels that have a relay there. Blocks. Raises ``RelayError``."""
        kernels: list[dict[str, Any]] = self._answer("kernels", list, timeout)
        return kernels

    def _answer(self, operation: str, kind: type, timeout: float) -> Any:
        try:
            value = self.call(operation).result(timeout)
        except FutureTimeout:
            raise RelayError(
                f"{self.name} did not answer the question for its {operation} within {timeout:g} s.",
                advice="Try again; it may be busy.",
                code="Timeout",
            ) from None
        if not isinstance(value, kind):
            raise ProtocolError(f"{self.name} answered the question for its {operation} with something else.")
        return value

    def _shut(self) -> None:
        """Does not block: the pipe's thread does the rest, once the writer has sent what is queued."""
        self._closing.set()
        with self._room:
            self._room.notify_all()
        with self._lock:
            writer, connection = self._writer, self._connection
        if writer is not None:
            writer.finish()
        elif connection is not None:
            connection.abort()

    # The pipe's thread

    def _run(self) -> None:
        attempt = 0
        try:
            while not self._closing.is_set():
                self._up_at = None
                error = self._connect_and_read()
                stood = self._stood_for() > SHORT
                attempt = 0 if stood else attempt + 1
                if self._closing.is_set():
                    break
                if self.phase is Phase.CONNECTING or isinstance(error, FINAL):
                    self._fail(error)
                    break
                self._become(Phase.LOST)
                log.info("%s: %s (attempt %d)", self.name, error, attempt)
                self._post(partial(self._router.lost, attempt, error))
                if attempt == 0:
                    continue  # most losses are short: the first attempt comes at once, and without asking anybody
                gone = self._gone()
                if gone is not None:
                    self._fail(gone)
                    break
                self._closing.wait(self._wait(attempt))
        except Exception as e:
            log.exception("the pipe to %s failed", self.name)
            self._fail(RelayError(f"The pipe to {self.name} failed: {type(e).__name__}: {e}"))
        finally:
            self._end()

    def _stood_for(self) -> float:
        """Seconds since the latest connection stood; 0 where it never did."""
        return time.monotonic() - self._up_at if self._up_at is not None else 0.0

    def _wait(self, attempt: int) -> float:
        """Doubling, with jitter, so that many servers do not come back to one machine at the same moment."""
        longest = min(self._times.longest_wait, self._times.first_wait * 2.0 ** min(attempt - 1, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def _become(self, phase: Phase) -> None:
        if phase is not self.phase:
            assert phase in BECOMES[self.phase], f"{self.phase} cannot become {phase}"
            self.phase = phase

    def _fail(self, error: DSVMError) -> None:
        if self.phase in (Phase.FAILED, Phase.CLOSED):
            return
        self._error = error
        self._become(Phase.FAILED)
        self._post(partial(self._router.failed, error))
        self._opened.set()

    def _end(self) -> None:
        closed = Unreachable(f"The connection to {self.name} was closed.")
        if self._error is None and not self._opened.is_set():
            self._error = closed
        self._become(Phase.CLOSED)
        self._post(partial(self._router.failed, self._error or closed))
        self._opened.set()
        IOThread.release()

    def _gone(self) -> DSVMError | None:
        if self._ask_gone is None:
            return None
        try:
            return self._ask_gone()
        except Exception as e:
            log.warning("whether %s is off could not be found out: %s", self.name, e)
            return None

    def _connect_and_read(self) -> DSVMError:
        """One connection, from its beginning to its end; why it ended, or why there was none."""
        first = self.phase is Phase.CONNECTING
        writer: PipeWriter | None = None
        try:
            target = self._target_source()
            self.name = target.name
            connection = SSHConnection(target)
            with self._lock:
                self._connection = connection
            if self._closing.is_set():
                connection.abort()
            connection.connect(
                self._host_keys, timeout=self._times.connect if first else self._times.reconnect, **self._secrets
            )
            started = bootstrap(connection, pythons=self._pythons, timeout=self._times.bootstrap)
            self.python = started.python
            writer = PipeWriter(
                started.channel, lambda: self._io.call_soon(self._router.pump), self._times.ping, self._times.deadline
            )
            with self._lock:
                self._writer = writer
            if self._closing.is_set():
                writer.finish()
            self._become(Phase.UP)
            self._up_at = time.monotonic()
            self._post(partial(self._router.up, self.name, writer))
            self._opened.set()
            return self._read(started.channel, started.received, writer)
        except DSVMError as e:
            return e
        except Exception as e:
            log.exception("connecting to %s failed", self.name)
            return Unreachable(f"Connecting to {self.name} failed: {type(e).__name__}: {e}")
        finally:
            with self._lock:
                self._writer = None
            if writer is not None:
                writer.stop()
            if self._connection is not None:
                self._connection.close()
            if writer is not None:
                writer.join()

    def _read(self, channel: paramiko.Channel, data: bytes, writer: PipeWriter) -> DSVMError:
        decoder = FrameDecoder()
        said = b""
        channel.settimeout(min(1.0, self._times.ping))
        closing_since: float | None = None
        while True:
            try:
                frames = list(decoder.feed(data))
            except WireError as e:
                return ProtocolError(
                    f"{self.name} sent what is no message of the relay: {e}.",
                    advice="Something on the machine writes into the connection, or it is not what it seems to be.",
                )
            if frames:
                self._put(sum(len(frame.body) + OVERHEAD for frame in frames), frames)
            try:
                data = channel.recv(READ)
                ended = not data
            except TimeoutError:
                data, ended = b"", False
            while channel.recv_stderr_ready():
                said = (said + channel.recv_stderr(STDERR_KEPT))[-STDERR_KEPT:]
            if ended:
                text = printable(said)
                return Unreachable(
                    f"The connection to {self.name} was lost." + (f" The machine printed: {text}" if text else "")
                )
            if data:
                writer.heard()
            elif writer.overdue:
                return Unreachable(f"{self.name} has not answered for {self._times.deadline:g} s.")
            if self._closing.is_set():
                closing_since = closing_since or time.monotonic()
                if time.monotonic() > closing_since + self._times.close:
                    return Unreachable("closed")

    # From the pipe's thread to the I/O thread

    def _post(self, function: Callable[[], None]) -> None:
        self._put(0, function)

    def _put(self, size: int, item: Callable[[], None] | list[Frame]) -> None:
        with self._room:
            while size and self._incoming_size > INCOMING_LIMIT and not self._closing.is_set():
                self._room.wait(1.0)
            self._incoming.append((size, item))
            self._incoming_size += size
            wake, self._draining = not self._draining, True
        if wake:
            self._io.call_soon(self._drain)

    def _drain(self) -> None:
        taken = 0
        while True:
            with self._room:
                if not self._incoming:
                    self._draining = False
                    break
                if taken > TURN:
                    self._io.call_soon(self._drain)
                    break
                size, item = self._incoming.popleft()
                self._incoming_size -= size
                self._room.notify_all()
            taken += size
            for each in item if isinstance(item, list) else (item,):
                try:
                    if isinstance(each, Frame):
                        self._router.frame(each)
                    else:
                        each()
                except Exception:
                    log.exception("what came from %s could not be handled", self.name)
        self._router.pump()

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
