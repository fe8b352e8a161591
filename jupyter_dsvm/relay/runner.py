"""The life of the relay's kernel: start, connect, run, drain, restart, end. A table, and one step function.

    state      may become
    ABSENT     STARTING (start)
    STARTING   RUNNING (its channels are there), DRAINING (the process has ended), STARTING (the spare was of no use)
    RUNNING    DRAINING (the process has ended)
    DRAINING   STARTING (restart, or the second try over TCP), ENDED
    ENDED      STARTING (restart)

``Runner`` is called by the relay's poll loop only, and waits for nothing: ``step`` says when it wants to be called
again. What the kernel has put out is always handed over before its exit is told.

Where a spare is parked (``spare``) the process is made of that; if that does not come about, a process is started as if there had
been none.
"""

from __future__ import annotations

import enum
import logging
import os
import pkgutil
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from .deaths import Watch
from .folders import write_private
from .kernel import KernelChannels, is_ipykernel
from .process import GRACE, KernelProcess, OwnedProcess, signal_name
from .spare import KEPT, OWN, SETTLE, SpareKeeper, SpareProcess, kind_of
from .spec import KernelSpec
from .wire import Channel

log = logging.getLogger("relay")

CONNECT_INTERVAL = 0.005
"""Seconds between two looks for the kernel's sockets while it starts."""

POLL_INTERVAL = 0.25
"""Seconds between two looks at the process; SIGCHLD normally says it sooner."""

DRAIN_LIMIT = 2.0
"""Seconds to wait for a dead kernel's connections to close, where a child of it holds them open."""

IPC_LIMIT = 120.0
"""Seconds after which a kernel that offers no ipc socket is started over TCP. A Julia that compiles first takes a minute."""

RESTART_GRACE = 1.0

SPARE_LIMIT = 15.0
"""Seconds in which a kernel made of a spare must offer its sockets; an ordinary start follows."""


class Phase(enum.Enum):
    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    ENDED = "ended"


MAY_BECOME = {
    Phase.ABSENT: {Phase.STARTING, Phase.ENDED},
    Phase.STARTING: {Phase.RUNNING, Phase.DRAINING, Phase.STARTING, Phase.ENDED},
    Phase.RUNNING: {Phase.DRAINING},
    Phase.DRAINING: {Phase.STARTING, Phase.ENDED},
    Phase.ENDED: {Phase.STARTING, Phase.ENDED},
}


class Runner:
    def __init__(
        self,
        context: Any,
        folder: str,
        call_socket: str,
        on_message: Callable[[Channel, List[bytes]], None],
        on_started: Callable[[Dict[str, Any]], None],
        on_exited: Callable[[int, str], None],
        used: Callable[[Any], None],
    ) -> None:
        """``used``: that of the loop, which watches the sockets of ``channels`` while RUNNING."""
        self.phase = Phase.ABSENT
        self.spec: Optional[KernelSpec] = None
        self.channels: Optional[KernelChannels] = None
        self.process: Optional[OwnedProcess] = None
        self.run = 0
        """Counts what the server sees as runs: 1, and one more for each RESTART."""
        self._context = context
        self._folder = folder
        self._call_socket = call_socket
        self._on_message = on_message
        self._on_started = on_started
        self._on_exited = on_exited
        self._used = used
        self._tries = 0
        self._transport = "ipc"
        self._was_connected = False
        self._again = False  # start again when drained
        self._ended_by_us = False
        self._code = 0
        self._text = ""
        self.out_of_memory: Optional[int] = None
        """Bytes of memory here, where the latest process was ended for want of it."""
        self._memory = Watch()
        self._deadline = 0.0
        self._spares = SpareKeeper()
        self._without_spare = False  # the next start: one was tried
        self._since = 0.0  # when this phase began

    @property
    def connection_file(self) -> str:
        return os.path.join(self._folder, "connection.json")

    @property
    def _starter(self) -> str:
        return os.path.join(self._folder, "start.py")

    @property
    def alive(self) -> bool:
        """Whether there is a process, or will be in a moment."""
        return self.phase in (Phase.STARTING, Phase.RUNNING, Phase.DRAINING)

    # What the server asks for

    def start(self, spec: KernelSpec) -> None:
        """The first run. ``on_started`` or ``on_exited`` follows."""
        assert self.phase is Phase.ABSENT
        self.spec = spec
        self.run = 1
        kind = kind_of(spec, self.connection_file, self._starter, self._call_socket, os.environ)
        self._spares.use(kind, self._folder)
        self._launch()

    def restart(self) -> None:
        """End the process, if there is one, and run the same spec again. Only ``on_started`` (or a failed start) is told."""
        if self.spec is None:
            return
        self.run += 1
        self._transport = "ipc" if not self._was_connected else self._transport
        if self.alive:
            self._again = True
            self._end(RESTART_GRACE)
        else:
            self._launch()

    def end(self, grace: float = GRACE) -> None:
        """End it for good; ``on_exited`` follows if there is a process."""
        self._again = False
        self._end(grace)

    def signal(self, signum: int) -> None:
        if self.process is not None:
            self.process.signal(signum)

    def send(self, channel: Channel, parts: List[bytes]) -> bool:
        """False while the kernel has no socket to hand it on to, but will have one; what is for a dead kernel is dropped."""
        if self._again or self.phase in (Phase.ABSENT, Phase.STARTING):
            return False
        if self.phase is Phase.RUNNING:
            assert self.channels is not None
            return self.channels.send(channel, parts)
        return True

    # What the loop does

    def step(self) -> float:
        """Move on as far as possible now; the seconds after which to call again if nothing else happens before."""
        if self.phase is Phase.STARTING:
            self._starting()
        elif self.phase is Phase.RUNNING:
            self._memory.step()
            self._running()
        if self.phase is Phase.DRAINING:
            self._draining()
        self._look_after_spare()
        if self.phase in (Phase.STARTING, Phase.DRAINING):
            return CONNECT_INTERVAL
        if self.phase is Phase.RUNNING:
            return POLL_INTERVAL
        return 1.0 if self._spares.interested else 60.0

    def read(self, channel: Channel) -> int:
        """Hand over what is there now, a bounded number; how many there were."""
        messages = self.channels.receive(channel) if self.channels is not None else []
        for parts in messages:
            self._on_message(channel, parts)
        return len(messages)

    def close(self) -> None:
        """At the end of the relay: nothing of the kernel is left afterwards."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(GRACE)
            self.process.close()
        self._spares.close()
        self._close_channels()

    def _look_after_spare(self) -> None:
        lasting = self._again or not self._ended_by_us
        settled = self.phase is Phase.RUNNING and time.monotonic() > self._since + SETTLE
        again = self.alive or time.monotonic() < self._since + KEPT
        self._spares.step(make=lasting and settled, keep=lasting and again)

    def _become(self, phase: Phase) -> None:
        assert phase in MAY_BECOME[self.phase], f"{self.phase} cannot become {phase}"
        self.phase = phase
        self._since = time.monotonic()

    def _launch(self) -> None:
        assert self.spec is not None
        spec = self.spec
        self._tries += 1
        self._again = self._ended_by_us = self._was_connected = False
        try:
            self.channels = KernelChannels(self._context, self._folder, self._tries, self._transport, used=self._used)
            path = self.connection_file
            self.channels.write_connection_file(path, spec.key, spec.signature_scheme, spec.kernel_name)
            # From the zip, to where the kernel's own Python can read it.
            write_private(self._starter, pkgutil.get_data(__package__ or "relay", "start_ipykernel.py") or b"")
            self.process = self._make_process(spec)
        except OSError as e:
            self._close_channels()
            self._become(Phase.ENDED)
            self._on_exited(127, f"{spec.argv[0]} could not be started: {e.strerror or e}")
            return
        self._become(Phase.STARTING)
        self._deadline = time.monotonic() + IPC_LIMIT

    def _make_process(self, spec: KernelSpec) -> OwnedProcess:
        command = spec.command(self.connection_file, self._starter)
        env = spec.environment(os.environ, self._call_socket)
        output = os.path.join(self._folder, "kernel.log")
        fitting = self._spares.kind is not None and self._transport == "ipc" and not self._without_spare
        self._without_spare = False
        if fitting:
            spare = self._spares.take(_as_spare(command, self._starter, env, spec.folder(), output), output)
            if spare is not None:
                return spare
        return KernelProcess(command, env, spec.folder(), output, die_with_parent=True)

    def _end(self, grace: float) -> None:
        if self.process is not None and self.alive:
            self._ended_by_us = True
            self.process.end(grace)

    def _starting(self) -> None:
        assert self.channels is not None
        assert self.process is not None
        assert self.spec is not None
        if isinstance(self.process, SpareProcess) and not self._ended_by_us and self.process.look_for_refusal():
            log.info("the spare was of no use: %s", self.process.refused)
            self._close_channels()  # the next run has names of its own, so the spare cannot be in its way
            self._without_spare = True
            self._launch()
            return
        # The process first: one that ended may have left its socket files.
        if self._exited():
            return
        if self._ended_by_us:
            return
        if self.channels.try_connect():
            self._was_connected = True
            self._become(Phase.RUNNING)
            self._on_started(
                {
                    "pid": self.process.pid,
                    "run": self.run,
                    "transport": self._transport,
                    "cwd": self.spec.folder(),
                    "spare": isinstance(self.process, SpareProcess),
                }
            )
        elif isinstance(self.process, SpareProcess) and time.monotonic() > self.process.started + SPARE_LIMIT:
            self._without_spare = self._again = True
            self._end(RESTART_GRACE)
        elif self._transport == "ipc" and time.monotonic() > self._deadline:
            self._transport = "tcp"
            self._again = True
            self._end(RESTART_GRACE)

    def _running(self) -> None:
        self._exited()

    def _exited(self) -> bool:
        assert self.process is not None
        assert self.spec is not None
        code = self.process.poll()
        if code is None:
            return False
        self._code = code
        self.out_of_memory = None if self._ended_by_us else self._memory.verdict(code)
        self._text = "" if self._ended_by_us or (code == 0 and self._was_connected) else self._last_words(code)
        failed_start = not self._was_connected and not self._ended_by_us
        if failed_start and isinstance(self.process, SpareProcess):
            log.info("the spare has ended before it was the kernel")
            self._without_spare = self._again = failed_start
            failed_start = False
        if failed_start and self._transport == "ipc" and not is_ipykernel(self.spec.argv):
            # It may be one that cannot do ipc at all and stops at the address. ipykernel can: its reason is another.
            self._transport = "tcp"
            self._again = True
        self._deadline = time.monotonic() + DRAIN_LIMIT
        self._become(Phase.DRAINING)
        return True

    def _last_words(self, code: int) -> str:
        """What it printed; where that is nothing, by which signal it ended. The exit code travels beside this."""
        assert self.process is not None
        return self.process.tail().strip() or (signal_name(code) if code < 0 else "")

    def _draining(self) -> None:
        assert self.channels is not None
        closed = self.channels.hung_up() or time.monotonic() > self._deadline
        while sum(self.read(channel) for channel in self.channels.sockets):
            pass
        if not closed:
            return
        self._close_channels()
        if self.process is not None:
            self.process.close()
        self.process = None
        if self._again:
            self._launch()
        else:
            self._become(Phase.ENDED)
            self._on_exited(self._code, self._text)

    def _close_channels(self) -> None:
        if self.channels is not None:
            self.channels.close()
            self.channels = None


def _as_spare(command: Sequence[str], starter: str, env: Dict[str, str], cwd: str, output: str) -> Dict[str, Any]:
    """What a spare is told so that it becomes what this command would start: see ``park``."""
    write_private(output, b"")
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "argv": list(command),
        "script": list(command).index(starter),
        "cwd": cwd,
        "env": {name: env.get(name) for name in OWN},
        "log": output,
        "umask": mask,
    }
