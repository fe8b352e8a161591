"""The backend on this server: a kernel process started as jupyter_client starts one, on ipc sockets in a private folder.

Its sockets are ipc so that a kernel behind the proxy costs no more than one without (measured: 4.7 ms for a round trip,
against 6.8 ms for TCP without a proxy, in one run), and so that nobody else on the machine can reach them. A kernel that
cannot do ipc is started once more on loopback TCP.

ipykernel is started as relays start it (``relay.start_ipykernel``): where its own socket would drop outputs in silence, it waits.
So a cell runs no faster than its outputs are read here, in this process's memory are few of them, and what finds no room
further on is left out with words (``clients``). Kernels of other languages drop what they drop.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import time
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from jupyter_client.launcher import launch_kernel

from ..models import FREE, LinkPhase, LinkState, utc_now
from ..relay.folders import write_private
from ..relay.kernel import KernelChannels, is_ipykernel, kernel_argv, started_by
from ..relay.wire import Channel
from .backends import BackendEvents, on_loopback_tcp
from .iothread import IOThread, Timer

log = logging.getLogger("jupyter_dsvm.local")

CONNECT_EVERY = 0.005
POLL_EVERY = 0.05
"""Seconds between looks at the process: how late its death is seen."""
IPC_PATIENCE = 30.0
"""Seconds after which a kernel that is not ipykernel and offers no ipc socket is started on TCP."""
DRAIN = 0.5
"""Seconds for what a dead kernel had still put into its sockets, if its end of them stays open in a child."""
END_GRACE = 5.0
UNREAD = 16
"""Messages of an ipykernel that ZeroMQ may hold in this process's memory, whatever their size: 16 MB of images of 1 MB."""


class LocalBackend:
    """One kernel process of this server; see ``kernels.backends.Backend`` for who calls what."""

    compute = FREE
    compute_name = "Free tier"
    trusted = True
    keeps_requests = False
    notice = ""
    out_of_memory: int | None = None
    ends = None

    def __init__(
        self,
        io: IOThread,
        folder: Path,
        run: int,
        argv: list[str],
        launch_options: dict[str, Any],
        *,
        key: bytes,
        session: str,
        signature_scheme: str,
        kernelspec: str,
        language: str,
        interrupt_mode: str,
    ) -> None:
        """``argv`` has ``{connection_file}`` still in it; ``launch_options`` go to jupyter_client's ``launch_kernel``.

        ``folder`` is private to the kernel; ``run`` tells its runs apart in there.
        """
        self.kernelspec = kernelspec
        self.language = language
        self.interrupt_mode = interrupt_mode
        self._io = io
        self._folder = folder
        self._run = run
        self._argv = argv
        self._options = launch_options
        self._key = key
        self._session = session
        self._scheme = signature_scheme
        self._transport = "ipc" if hasattr(os, "killpg") else "tcp"
        self._process: subprocess.Popen[bytes] | None = None
        self._channels: KernelChannels | None = None
        self._events: BackendEvents | None = None
        self._timers: list[Timer] = []
        self._registered = False
        self._kill_at: float | None = None
        self._drain_until: float | None = None
        self._signalled = False
        self._spawned = 0.0
        self._pid = 0
        """Of the latest process, ended or not: ipykernel has it in the name of a socket of its own."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self, events: BackendEvents) -> None:
        self._events = events
        self._spawn()
        events.link(self, LinkState(LinkPhase.LOCAL, utc_now()))

    def _spawn(self) -> None:
        waits = self._transport == "ipc" and is_ipykernel(self._argv)
        unread = UNREAD if waits else 0
        self._channels = KernelChannels(
            self._io.context, str(self._folder), self._run, self._transport, unread, used=self._io.used
        )
        connection_file = str(self._folder / f"kernel-{self._run}.json")
        argv = kernel_argv(self._argv, connection_file, session=self._session)
        try:
            self._channels.write_connection_file(connection_file, self._key.decode(), self._scheme, self.kernelspec)
            if waits:
                write_private(str(self._starter), _starter_source())
                argv = started_by(str(self._starter), argv)
            # A few milliseconds of this thread: less than handing the process over from another one would cost.
            self._process = launch_kernel(argv, **self._options)
        except BaseException:
            self._release()
            raise
        self._pid = self._process.pid
        self._spawned = time.monotonic()
        self._later(CONNECT_EVERY, self._connect)
        self._later(POLL_EVERY, self._look)

    @property
    def _starter(self) -> Path:
        return self._folder / f"start-{self._run}.py"

    def _later(self, seconds: float, function: Any) -> None:
        self._timers = [t for t in self._timers if not t.cancelled and t.due > time.monotonic()]
        self._timers.append(self._io.call_later(seconds, function))

    def _connect(self) -> None:
        if self._channels is None or self._events is None:
            return
        if self._channels.try_connect():
            for channel, socket in self._channels.sockets.items():
                self._io.register(socket, partial(self._readable, channel))
            self._registered = True
            self._events.started(self)
        elif self._may_try_tcp and time.monotonic() - self._spawned > IPC_PATIENCE:
            self._try_tcp()
        else:
            self._later(CONNECT_EVERY, self._connect)

    @property
    def _may_try_tcp(self) -> bool:
        if self._signalled:
            return False  # whoever signals a kernel that has not come up yet wants it to end
        return self._transport == "ipc" and not self._registered and not is_ipykernel(self._argv)

    def _try_tcp(self) -> None:
        log.info("The kernel %s offers no ipc sockets; it is started on loopback TCP.", self.kernelspec)
        self._send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        if self._process is not None:
            self._reap(self._process)
        self._release()
        self._transport = "tcp"
        self.notice = on_loopback_tcp("the free tier")
        self._spawn()

    def _readable(self, channel: Channel, _events: int = 0) -> int:
        if self._channels is None or self._events is None:
            return 0
        messages = self._channels.receive(channel)
        for parts in messages:
            self._events.message(self, channel, parts)
        return len(messages)

    def _look(self) -> None:
        """Whether the process still runs; after its end, whether all it said has been read."""
        process, events = self._process, self._events
        if process is None or events is None:
            return
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.signal(signal.SIGKILL)
        code = process.poll()
        if code is None:
            self._later(POLL_EVERY, self._look)
            return
        if self._may_try_tcp:
            self._try_tcp()
            return
        if self._drain_until is None:
            self._drain_until = time.monotonic() + DRAIN
        if self._channels is not None and self._registered:
            hung_up = self._channels.hung_up()
            taken = sum(self._readable(channel) for channel in list(self._channels.sockets))
            # After the kernel has hung up nothing is added, so all of it is taken, in turns with other kernels. Where few
            # messages may wait here (``UNREAD``), that it has is seen only behind the last of them.
            if taken or (not hung_up and time.monotonic() < self._drain_until):
                self._later(0 if taken else CONNECT_EVERY, self._look)
                return
        self._reap(process)
        self._release()
        events.exited(self, code, "")

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Collect the process (it has ended, or was just killed) and close the pipe that is its stdin."""
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            log.warning("The kernel process %d does not end.", process.pid)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._process = None

    def send(self, channel: Channel, parts: list[bytes]) -> int:
        if self._channels is not None:
            self._channels.send(channel, parts)
        return 0

    def signal(self, signum: int) -> None:
        self._signalled = True
        self._send_signal(signum)

    def _send_signal(self, signum: int) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if signum == signal.SIGINT and os.name == "nt":
            from jupyter_client.win_interrupt import send_interrupt

            send_interrupt(process.win32_interrupt_event)  # type: ignore[attr-defined]
            return
        try:
            # launch_kernel makes the kernel the leader of a session, so its group is its own.
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signum)
            else:
                process.send_signal(signum)
        except OSError:
            pass  # it has just ended

    def handed_on(self, upto: int) -> None:
        """Nothing waits for it: the kernel ends with this process."""

    def hold(self, on: bool) -> None:
        """Nothing to do: what does not fit is left out, and its cell says so."""

    def restart(self) -> None:
        """Not used: the provisioner makes a new backend for each start here, with the arguments of that start."""
        raise NotImplementedError

    def result(self, call_id: int, value: dict[str, Any]) -> None:
        """Not used: calls of a local kernel come over the proxy's own socket."""
        raise NotImplementedError

    def end(self) -> None:
        if self._process is None:
            return
        if self._kill_at is None:
            self._kill_at = time.monotonic() + END_GRACE
            self.signal(signal.SIGTERM if hasattr(signal, "SIGTERM") else signal.SIGINT)

    def close(self) -> None:
        process = self._process
        if process is not None:
            self.signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._reap(process)
        self._release()
        self._events = None

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._channels is not None:
            for socket in self._channels.sockets.values():
                self._io.unregister(socket)
            self._channels.close()
            self._channels = None
        self._registered = False
        for left in (self._folder / f"kernel-{self._run}.json", self._starter, *self._folder.glob(f"p{self._pid}-*")):
            left.unlink(missing_ok=True)


@functools.cache
def _starter_source() -> bytes:
    return resources.files("jupyter_dsvm.relay").joinpath("start_ipykernel.py").read_bytes()
