"""One connection to the process that serves a workspace on a VM (``relay.files``): frames out, frames in, paced.

Used by one thread at a time (``sync.remote``). It shares the VM's SSH connection with the kernels' pipe: no more is under way
than the way takes well (``relay.inflight``), so a kernel's reply waits behind a third of a second of files and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import Cancelled, Unreachable, printable
from ..kernels.bootstrap import RememberedPythons, bootstrap
from ..relay.fileframes import VERSION, Op, frame
from ..relay.inflight import InFlight
from ..relay.wire import PIPE, Frame, FrameDecoder, Type, WireError, read_u64, u64_body
from .arrivals import nonsense

if TYPE_CHECKING:
    from ..ssh.connection import SSHConnection

READ = 1024 * 1024
TOGETHER = 128 * 1024
"""Frames are joined up to so many bytes before SSH gets them: a packet for each small one would cost more than what is in it."""
PIECE = 32 * 1024
"""OpenSSH takes no larger packet on a channel."""

STEP = 0.25
"""Seconds after which a wait looks whether it was cancelled."""
ASK = 5.0
"""Seconds of silence after which the other end is asked whether it is there."""
DEADLINE = 30.0
"""Seconds of silence after which it is not."""

STDERR_KEPT = 4096


class FileChannel:
    """Open from its making until ``close``. Every method raises ``Unreachable`` when the connection is lost, ``ProtocolError`` for
    nonsense, and ``Cancelled`` where ``cancel`` is set while it waits."""

    def __init__(
        self,
        connection: SSHConnection,
        ahead: bytes,
        *,
        pythons: RememberedPythons | None = None,
        timeout: float = 30.0,
        deadline: float = DEADLINE,
    ) -> None:
        """``ahead``: frames that go along with the command that starts the process."""
        self.name = connection.target.name
        self._deadline = deadline
        started = bootstrap(connection, pythons=pythons, timeout=timeout, ahead=ahead, module="files")
        self._channel = started.channel
        self._channel.settimeout(STEP)
        self._decoder = FrameDecoder()
        self._flight = InFlight()
        self._out: list[bytes] = []
        self._out_size = 0
        self._said = b""
        self._heard = time.monotonic()
        self._asked = False
        self.bytes_out = len(ahead)
        self.bytes_in = 0
        self.closed = False
        self._in: list[Frame] = self._frames(started.received)

    @property
    def usable(self) -> bool:
        return not (self.closed or self._channel.closed or self._channel.eof_received)

    # Out

    def put(self, *frames: Frame, cancel: threading.Event | None = None) -> None:
        """Send them, soon: ``flush`` sends what is left. Blocks while as much is under way as should be."""
        for each in frames:
            head, body = each.buffers()
            self._out.append(head)
            if body:
                self._out.append(bytes(body) if not isinstance(body, bytes) else body)
            self._out_size += each.size
            if self._out_size >= TOGETHER:
                self.flush(cancel)

    def flush(self, cancel: threading.Event | None = None) -> None:
        if not self._out:
            return
        size = self._out_size
        while self._flight.room <= 0:
            self._read(wait=True, cancel=cancel)
        self._flight.sent(size, time.monotonic())
        question = self._flight.question(time.monotonic())
        if question is not None:
            self._out.append(Frame(Type.PING, PIPE, 0, u64_body(question)).encode())
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        self._write(data, cancel)

    def _write(self, data: bytes, cancel: threading.Event | None) -> None:
        view, position = memoryview(data), 0
        since = time.monotonic()
        while position < len(data):
            try:
                sent = self._channel.send(view[position : position + PIECE])  # type: ignore[arg-type]
            except TimeoutError:
                self._look(cancel)
                if time.monotonic() - since > self._deadline:
                    raise self._lost(f"takes nothing for {self._deadline:.0f} s") from None
                continue
            except (OSError, EOFError) as e:  # an EOFError is what paramiko makes of a socket that was reset
                raise self._lost(str(e) or "has been reset") from e
            if not sent:
                raise self._lost("has closed it")
            position += sent
            since = time.monotonic()
        self.bytes_out += len(data)

    # In

    def take(self, wait: bool, cancel: threading.Event | None = None) -> list[Frame]:
        """The frames that came; with ``wait`` at least one. What is to be sent is sent first."""
        if wait and not self._in:
            self.flush(cancel)
        if self._channel.recv_ready():
            self._read(wait=False, cancel=cancel)
        while wait and not self._in:
            self._read(wait=True, cancel=cancel)
        frames, self._in = self._in, []
        return frames

    def _read(self, wait: bool, cancel: threading.Event | None) -> None:
        """One read. Answers to our own PINGs are dealt with here."""
        if not wait and not self._channel.recv_ready():
            return
        try:
            data = self._channel.recv(READ)
        except TimeoutError:
            self._silent()
            self._look(cancel)
            return
        except OSError as e:
            raise self._lost(str(e)) from e
        if not data:
            raise self._lost("has ended it")
        self._heard = time.monotonic()
        self._asked = False
        self.bytes_in += len(data)
        self._in += self._frames(data)
        self._look(cancel)

    def _frames(self, data: bytes) -> list[Frame]:
        try:
            found = self._decoder.feed(data) if data else []
        except WireError as e:
            raise nonsense(str(e)) from None
        return [each for each in found if not self._is_about_the_way(each)]

    def _is_about_the_way(self, each: Frame) -> bool:
        try:
            if each.type == Type.PONG:
                number = read_u64(each.body)
                if number:
                    self._flight.answered(number, time.monotonic())
                return True
            if each.type == Type.PING:
                self._write(Frame(Type.PONG, PIPE, 0, u64_body(read_u64(each.body))).encode(), None)
                return True
        except WireError as e:
            raise nonsense(str(e)) from None
        return False

    def _silent(self) -> None:
        silent = time.monotonic() - self._heard
        if silent > self._deadline:
            raise self._lost(f"has not answered for {silent:.0f} s")
        if silent > ASK and not self._asked:
            self._asked = True
            self._write(Frame(Type.PING, PIPE, 0, u64_body(0)).encode(), None)

    def _look(self, cancel: threading.Event | None) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled(
                "Copying files was cancelled.", advice="What was copied stays; the next sync goes on from there."
            )

    def _lost(self, why: str) -> Unreachable:
        self.close()
        try:
            while self._channel.recv_stderr_ready():
                self._said = (self._said + self._channel.recv_stderr(STDERR_KEPT))[-STDERR_KEPT:]
        except OSError:
            pass
        said = printable(self._said)
        printed = f" The machine printed: {said}" if said else ""
        return Unreachable(
            f"The connection over which files are copied was lost: {self.name} {printable(why, 200)}.{printed}",
            advice="What was copied stays; the next sync goes on from there.",
            code="ConnectionLost",
        )

    def close(self) -> None:
        """The process over there ends with its input. Does not block."""
        self.closed = True
        try:
            self._channel.close()
        except (OSError, EOFError):
            pass


def opening(root: str, seq: int, *, make: bool) -> Frame:
    """What a connection begins with."""
    return frame(Op.OPEN, seq, {"root": root, "version": VERSION, "make": make})


Connect = Callable[[], "SSHConnection"]
"""The VM's SSH connection as it is now. Blocks until it stands, and raises ``SSHError`` where that takes too long."""
