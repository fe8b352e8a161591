"""One connection of an attach pipe: SSH, the relay's pipe exec'ed on it, its reader and its writer, from beginning to end.

Made and read on the pipe's thread (``kernels.vmpipe``), which makes the next one when this has ended. Here is found out
that a connection is dead: at once at its end, and by the missing answer to a PING where nothing comes any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import DSVMError, ProtocolError, Unreachable, printable
from ..models import SSHTarget
from ..relay.wire import FrameDecoder, WireError
from ..ssh.connection import SSHConnection
from ..ssh.hostkeys import HostKeys
from .bootstrap import Bootstrapped, RememberedPythons, bootstrap
from .inbox import Inbox
from .pipetimes import PipeTimes
from .pipewriter import PipeWriter
from .pulse import STEP, Pulse

if TYPE_CHECKING:
    import paramiko

READ = 1024 * 1024
STDERR_KEPT = 4096

PIPE_ENDED = "PipeEnded"
"""Code of the error where the pipe over there has ended and the SSH connection has not."""


class PipeConnection:
    def __init__(self, target: SSHTarget, times: PipeTimes) -> None:
        self.target = target
        self.python = ""
        """The Python that the pipe runs in over there."""
        self.heard = False
        """Whether a frame has come."""
        self._times = times
        self._ssh = SSHConnection(target)
        self._finishing = threading.Event()
        self._bootstrapped: Bootstrapped | None = None
        self._decoder = FrameDecoder()
        self._nonsense: WireError | None = None
        """What came that is no frame."""
        self._writer: PipeWriter | None = None

    # On the pipe's thread

    def connect(
        self,
        host_keys: HostKeys,
        pythons: RememberedPythons | None,
        has_room: Callable[[], None],
        secrets: dict[str, Any],
        *,
        again: bool,
        ahead: bytes = b"",
    ) -> PipeWriter:
        """Until frames can flow, of which ``ahead`` are the first; ``again`` after a loss, when nobody waits for long.

        Raises ``SSHError``, ``RelayError``.
        """
        times = self._times
        self._ssh.connect(
            host_keys,
            timeout=times.reconnect if again else times.connect,
            answer=times.answer if again else None,
            **secrets,
        )
        self._bootstrapped = bootstrap(self._ssh, pythons=pythons, timeout=times.bootstrap, ahead=ahead)
        self.python = self._bootstrapped.python
        self._writer = PipeWriter(self._bootstrapped.channel, has_room)
        if self._finishing.is_set():
            self._writer.finish()
        return self._writer

    def read(self, inbox: Inbox) -> DSVMError:
        """Hand on what comes until nothing more does; why that is.

        Short packets do not come this way: the SSH connection's own thread hands them on (``_take``).
        """
        from ..ssh.packets import PacketQueue  # which imports paramiko

        assert self._bootstrapped is not None
        channel = self._bootstrapped.channel
        queue = channel.in_buffer
        self._inbox = inbox
        self._hand_on(self._bootstrapped.received)
        if not isinstance(queue, PacketQueue):
            return self._read(channel)
        queue.take_directly(self._take)
        try:
            return self._read(channel)
        finally:
            queue.take_directly(None)  # what came is not handed on once the end has been told

    def _read(self, channel: paramiko.Channel) -> DSVMError:
        from ..ssh.packets import Taken

        assert self._writer is not None
        channel.settimeout(min(STEP, self._times.ping) / 2)
        pulse = Pulse(self._times.ping, self._times.deadline, time.monotonic(), first=self._times.start)
        said = b""
        finish_by: float | None = None
        while True:
            if self._nonsense is not None:
                return ProtocolError(
                    f"{self.target.name} sent what is no message of the relay: {self._nonsense}.",
                    advice="Something on the machine writes into the connection, or it is not what it seems to be.",
                )
            try:
                data = channel.recv(READ)
                ended = not data
            except TimeoutError:
                data, ended = b"", False
            if not isinstance(data, Taken):
                self._hand_on(data)
            while channel.recv_stderr_ready():
                said = (said + channel.recv_stderr(STDERR_KEPT))[-STDERR_KEPT:]
            if ended:
                return self._ended(channel, said)
            if pulse.look(time.monotonic(), heard=bool(data)):
                self._writer.ping()
            if pulse.dead:
                return Unreachable(
                    f"{self.target.name} has not answered for {pulse.silent:.0f} s.",
                    advice="What runs there goes on, and its output is kept there until it can be reached.",
                    code="NoAnswer",
                )
            if self._finishing.is_set():
                finish_by = finish_by or time.monotonic() + self._times.close
                if time.monotonic() > finish_by:
                    return Unreachable("closed")

    def _hand_on(self, data: bytes) -> None:
        """On one thread at a time: the queue sees to that, and to the order."""
        if not data or self._nonsense is not None:
            return
        try:
            frames = list(self._decoder.feed(data))
        except WireError as e:
            self._nonsense = e
            return
        if frames:
            self.heard = True
            self._inbox.frames(frames)

    def _take(self, packet: bytes) -> bool:
        """On the SSH connection's thread, which must not wait."""
        if self._nonsense is not None or not self._inbox.has_room:
            return False
        self._hand_on(packet)
        return self._nonsense is None  # or else the reader is woken, and says so

    def _ended(self, channel: paramiko.Channel, said: bytes) -> DSVMError:
        text = printable(said)
        printed = f" The machine printed: {text}" if text else ""
        if self._ssh.alive and channel.eof_received:
            return Unreachable(
                f"The relay's end of the connection on {self.target.name} has ended.{printed}", code=PIPE_ENDED
            )
        return Unreachable(f"The connection to {self.target.name} was lost.{printed}", code="ConnectionLost")

    def close(self) -> None:
        """Once it has ended, or to end it; returns when nothing of it is left."""
        if self._writer is not None:
            self._writer.stop()
        self._ssh.close()
        if self._writer is not None:
            self._writer.join()

    # From any thread

    @property
    def ssh(self) -> SSHConnection:
        """For another channel beside the pipe's."""
        return self._ssh

    def finish(self) -> None:
        """Send what is queued and say goodbye, or give up connecting; ``read`` or ``connect`` returns then. Does not block."""
        self._finishing.set()
        writer = self._writer
        if writer is not None:
            writer.finish()
        else:
            self._ssh.abort()
